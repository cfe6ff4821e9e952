//! Answers what is at hand without futures: async-graphql has some for each field, and a year of counts by DAY has thousands.

use std::borrow::Cow;

use async_graphql::indexmap::IndexMap;
use async_graphql::parser::types::{Field, Selection, SelectionSet};
use async_graphql::registry::Registry;
use async_graphql::{ContextSelectionSet, Name, OutputType, Positioned, ServerResult, Value};

/// A type some of whose fields take neither time, nor the database, nor a permission.
pub(super) trait SomeAtHand: OutputType {
    /// The field's value; none where it is not at hand. Its resolver says the same.
    fn at_hand(&self, ctx: &ContextSelectionSet<'_>, field: &Field) -> Option<Value>;
}

/// Of such a type. Where all that is selected is at hand, it is answered at once; else as always.
pub(super) struct AtHand<T>(pub(super) T);

impl<T: SomeAtHand> OutputType for AtHand<T> {
    fn type_name() -> Cow<'static, str> {
        T::type_name()
    }

    fn create_type_info(registry: &mut Registry) -> String {
        T::create_type_info(registry)
    }

    async fn resolve(&self, ctx: &ContextSelectionSet<'_>, field: &Positioned<Field>) -> ServerResult<Value> {
        match object(&self.0, ctx, &field.node.selection_set.node) {
            Some(value) => Ok(value),
            None => self.0.resolve(ctx, field).await,
        }
    }
}

/// What is selected of it; none where anything is not at hand.
pub(super) fn object<T: SomeAtHand>(of: &T, ctx: &ContextSelectionSet<'_>, selection: &SelectionSet) -> Option<Value> {
    let mut fields = IndexMap::with_capacity(selection.items.len());
    add(of, ctx, selection, &mut fields)?;
    Some(Value::Object(fields))
}

fn add<T: SomeAtHand>(
    of: &T,
    ctx: &ContextSelectionSet<'_>,
    selection: &SelectionSet,
    fields: &mut IndexMap<Name, Value>,
) -> Option<()> {
    for item in &selection.items {
        match &item.node {
            // Directives, and selections of one name that are to be merged, are async-graphql's.
            Selection::Field(field) if field.node.directives.is_empty() => {
                let value = match field.node.name.node.as_str() {
                    "__typename" => Value::String(T::type_name().into_owned()),
                    _ => of.at_hand(ctx, &field.node)?,
                };
                if fields.insert(field.node.response_key().node.clone(), value).is_some() {
                    return None;
                }
            }
            Selection::FragmentSpread(spread) if spread.node.directives.is_empty() => {
                let fragment = &ctx.query_env.fragments.get(&spread.node.fragment_name.node)?.node;
                if *fragment.type_condition.node.on.node != *T::type_name() {
                    return None;
                }
                add(of, ctx, &fragment.selection_set.node, fields)?;
            }
            _ => return None,
        }
    }
    Some(())
}
