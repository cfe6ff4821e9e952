//! Executes an operation according to the GraphQL specification.
//!
//! async-graphql 7.2.1 deviates from it in some places. All work-arounds are here, and in `graphql::raw_json`, which writes JSON
//! without async-graphql's values; once async-graphql conforms, this becomes one call of `Schema::execute`.
//!
//! | async-graphql | the specification | here |
//! | --- | --- | --- |
//! | leaves a field that failed out of its object (`do_resolve_container`) | null; where the type is non-null, in its nearest nullable parent (6.4.4) | [`completion`] |
//! | returns null for an object with no field left (`do_resolve_container`) | an object | [`selection`] selects one more field, [`completion`] removes it |
//! | returns the fields of an object in the order in which they were resolved (`do_resolve_container`) | in the order of the selection | [`completion`] |
//! | resolves a field that is selected twice two times, so that a mutation runs twice, and merges the values (`insert_value`) | merges the selections and resolves once (6.3.2) | [`selection`] |
//! | ignores defaults of variables in @skip and @include (`remove_skipped_selection`) | they apply | [`selection`] |
//! | describes every schema with the same text (`__Schema`) | the schema's own description (4.6.1) | [`completion`] |

mod completion;
mod selection;
mod types;

use std::sync::Arc;

use async_graphql::extensions::{Extension, ExtensionContext, ExtensionFactory, NextExecute};
use async_graphql::parser::types::{DocumentOperations, ExecutableDocument, OperationType};
use async_graphql::{Request, Response, ServerError, Value, Variables};

use super::query_limits;
use crate::error::Error;
use crate::graphql::{self, LiveSchema, RequestContext, Schema, Services};
use selection::Plan;
pub(super) use types::Types;

/// Executes operations on the schema.
pub(super) struct Executor {
    /// Validates documents as they were sent, without executing them.
    validating: Schema,
    /// Executes validated operations.
    executing: Schema,
    /// Executes answers of validated subscriptions.
    live: LiveSchema,
    types: Types,
}

impl Executor {
    pub(super) fn new(services: Services) -> Result<Self, Error> {
        let validating = graphql::builder().extension(ValidateOnly).finish();
        Ok(Self {
            types: Types::of(&validating.sdl())?,
            validating,
            executing: graphql::schema(services.clone()),
            live: graphql::live_schema(services),
        })
    }

    pub(super) fn types(&self) -> &Types {
        &self.types
    }

    /// Executes an operation, or one answer of a subscription, of a document that [`query_limits::check`] accepted: its fragments exist, do not spread themselves, and
    /// are bounded in size. Returns the errors of a document that is invalid and was not executed.
    pub(super) async fn execute(
        &self,
        document: Arc<ExecutableDocument>,
        name: Option<String>,
        variables: Variables,
        context: Arc<RequestContext>,
    ) -> Result<Response, Vec<ServerError>> {
        let (_, operation) = query_limits::select_operation(&document, name.as_deref())
            .map_err(|rejection| vec![ServerError::new(rejection.message, rejection.location)])?;
        let (plan, mut operation) = selection::plan(&self.types, &document, operation, &variables);
        let mut request = Request::new("").variables(variables.clone());
        request.operation_name = name;
        request.set_parsed_query(Arc::unwrap_or_clone(document));
        let validated = self.validating.execute(request).await;
        if !validated.errors.is_empty() {
            return Err(validated.errors);
        }
        let is_live = operation.node.ty == OperationType::Subscription;
        if is_live && !selects_one_field(&plan) {
            let message = "a subscription must select exactly one field of the type Subscription";
            return Err(vec![ServerError::new(message, Some(operation.pos))]);
        }
        if is_live {
            operation.node.ty = OperationType::Query;
        }
        let mut request = Request::new("").variables(variables).data(context);
        request.set_parsed_query(ExecutableDocument {
            operations: DocumentOperations::Single(operation),
            fragments: Default::default(),
        });
        let mut response = match is_live {
            true => self.live.execute(request).await,
            false => self.executing.execute(request).await,
        };
        let data = std::mem::take(&mut response.data);
        response.data = completion::complete(&plan, data, &response.errors);
        Ok(response)
    }
}

/// Whether a subscription selects one field, which is not of introspection (5.2.4.1).
fn selects_one_field(plan: &Plan<'_>) -> bool {
    matches!(plan, Plan::Object(fields) if matches!(&fields[..], [field] if field.ty.is_some()))
}

/// An extension that ends a request after its validation.
struct ValidateOnly;

impl ExtensionFactory for ValidateOnly {
    fn create(&self) -> Arc<dyn Extension> {
        Arc::new(Self)
    }
}

#[async_trait::async_trait]
impl Extension for ValidateOnly {
    async fn execute(&self, _: &ExtensionContext<'_>, _: Option<&str>, _: NextExecute<'_>) -> Response {
        Response::new(Value::Null)
    }
}
