//! GraphQL over HTTP as its specification says: reads requests, checks them, authenticates, executes.

use std::net::IpAddr;
use std::sync::Arc;

use async_graphql::parser::types::ExecutableDocument;
use async_graphql::{ServerError, Variables};
use axum::Extension;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use futures_util::StreamExt as _;
use serde::Deserialize;
use tracing::Instrument as _;

use super::App;
use super::authentication::{Credentials, authenticate};
use super::media_type::{MediaType, content_type_is_json};
use super::peer::Client;
use super::query_limits::{self, CheckedOperation, Rejection, tokens};
use super::response::{self, RequestError, set_allow};
use crate::config::Limits;
use crate::error::ErrorCode;
use crate::graphql::RequestContext;
use crate::observe::{OperationKind, record};
use crate::permissions::Viewer;

/// The parameters of a request. Null is the same as absent.
#[derive(Default, Deserialize)]
pub(super) struct Params {
    query: Option<String>,
    #[serde(rename = "operationName")]
    operation_name: Option<String>,
    variables: Option<serde_json::Map<String, serde_json::Value>>,
    extensions: Option<serde_json::Map<String, serde_json::Value>>,
}

/// What a request has besides its parameters.
pub(super) struct Sender<'a> {
    pub(super) credentials: Credentials<'a>,
    pub(super) address: IpAddr,
    /// Mutations may not be sent by GET: a page of another origin can make a browser do that without a preflight request.
    pub(super) by_get: bool,
}

/// Other methods than GET and POST.
pub(super) async fn other_method(headers: HeaderMap) -> Response {
    let error = RequestError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        ErrorCode::BadUserInput,
        "send GraphQL by POST, or a query by GET",
    );
    let mut response = error.into_response(MediaType::accepted(&headers).unwrap_or(MediaType::Json));
    set_allow(&mut response, "GET, POST");
    response
}

pub(super) async fn get(
    State(app): State<App>,
    Extension(Client(address)): Extension<Client>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Response {
    let sender = Sender {
        credentials: Credentials::Headers(&headers),
        address,
        by_get: true,
    };
    respond(&app, &headers, &sender, async || {
        parse_query_string(&query.unwrap_or_default())
    })
    .await
}

pub(super) async fn post(
    State(app): State<App>,
    Extension(Client(address)): Extension<Client>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let sender = Sender {
        credentials: Credentials::Headers(&headers),
        address,
        by_get: false,
    };
    let is_json = content_type_is_json(&headers);
    let max = app.limits.max_request_bytes;
    respond(&app, &headers, &sender, async move || {
        if !is_json {
            return Err(RequestError::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                ErrorCode::BadUserInput,
                "the Content-Type must be application/json",
            ));
        }
        parse_body(&read_body(body, max).await?)
    })
    .await
}

/// Reads a body of at most `max` bytes. A larger one is read on up to eight times as much and discarded, so that the client gets to
/// read the error.
async fn read_body(body: Body, max: usize) -> Result<Vec<u8>, RequestError> {
    let (mut bytes, mut read) = (Vec::new(), 0);
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|_| RequestError::bad_request("the body could not be read to its end"))?;
        read += chunk.len();
        if read <= max {
            bytes.extend_from_slice(&chunk);
        } else if read > 8 * max {
            break;
        }
    }
    if read <= max {
        return Ok(bytes);
    }
    Err(RequestError::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        ErrorCode::QueryTooCostly,
        format!("a body must have at most {max} bytes"),
    ))
}

fn parse_body(bytes: &[u8]) -> Result<Params, RequestError> {
    // Serde would read an array as the values of the object in their order.
    if bytes.trim_ascii_start().starts_with(b"[") {
        return Err(RequestError::bad_request(
            "batches are not supported: send one request at a time",
        ));
    }
    serde_json::from_slice(bytes).map_err(|_| {
        RequestError::bad_request(
            "the body must be a JSON object with query and, where needed, variables, operationName, extensions",
        )
    })
}

fn parse_query_string(text: &str) -> Result<Params, RequestError> {
    let mut params = Params::default();
    let object = |name: &str, text: &str| match text {
        "" => Ok(None),
        text => {
            serde_json::from_str(text).map_err(|_| RequestError::bad_request(format!("{name} must be a JSON object")))
        }
    };
    for pair in text.split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = percent_encoding::percent_decode_str(&value.replace('+', " "))
            .decode_utf8()
            .map_err(|_| RequestError::bad_request("the query string is not UTF-8"))?
            .into_owned();
        match name {
            "query" => params.query = Some(value),
            "operationName" => params.operation_name = Some(value).filter(|name| !name.is_empty()),
            "variables" => params.variables = object("variables", &value)?,
            "extensions" => params.extensions = object("extensions", &value)?,
            _ => {}
        }
    }
    Ok(params)
}

async fn respond(
    app: &App,
    headers: &HeaderMap,
    sender: &Sender<'_>,
    read: impl AsyncFnOnce() -> Result<Params, RequestError>,
) -> Response {
    let Some(media_type) = MediaType::accepted(headers) else {
        let message = "Accept must allow application/graphql-response+json or application/json";
        return RequestError::new(StatusCode::NOT_ACCEPTABLE, ErrorCode::BadUserInput, message)
            .into_response(MediaType::Json);
    };
    let _running = match app.rates.start_request() {
        Ok(permit) => permit,
        Err(wait) => return RequestError::rate_limited(wait).into_response(media_type),
    };
    let respond = async {
        match read().await {
            Ok(params) => execute(app, sender, media_type, params).await,
            Err(error) => error.into_response(media_type),
        }
    };
    let limit = app.limits.request_timeout;
    let responded = tokio::time::timeout(limit, respond).await;
    responded.unwrap_or_else(|_| RequestError::timed_out(limit).into_response(media_type))
}

fn parse_document(query: &str, limits: &Limits) -> Result<ExecutableDocument, Rejection> {
    tokens::check(query, limits)?;
    async_graphql::parser::parse_query(query).map_err(|error| {
        let location = error.positions().next();
        let place = location.map_or(String::new(), |at| {
            format!(" at line {}, column {}", at.line, at.column)
        });
        Rejection {
            code: ErrorCode::GraphqlParseFailed,
            message: format!("the query does not parse{place}"),
            location,
            more: Vec::new(),
        }
    })
}

/// A request within the limits, which is not authenticated yet.
pub(super) struct Prepared {
    query: Query,
    operation_name: Option<String>,
    variables: Variables,
    checked: CheckedOperation,
}

/// An operation of a viewer, to be executed.
#[derive(Clone)]
pub(super) struct Operation {
    /// The text of its document.
    pub(super) text: String,
    pub(super) document: Arc<ExecutableDocument>,
    pub(super) name: Option<String>,
    pub(super) variables: Variables,
    pub(super) costly: bool,
}

/// A query, its document, and how both can be cached once its sender is known.
struct Query {
    text: String,
    /// Of a persisted query that is to be stored.
    hash: Option<String>,
    document: Arc<ExecutableDocument>,
    is_cached: bool,
}

/// Finds or parses the document, and checks that the operation is within the limits.
pub(super) fn prepare(app: &App, media_type: MediaType, mut params: Params) -> Result<Prepared, RequestError> {
    let variables = Variables::from_json(params.variables.take().unwrap_or_default().into());
    let persisted = app.persisted.query(params.query.take(), params.extensions.as_ref());
    let (text, hash) = persisted.map_err(|rejection| {
        let status = match rejection.code {
            ErrorCode::PersistedQueryNotFound => media_type.status_if_not_executed(),
            _ => StatusCode::BAD_REQUEST,
        };
        RequestError::rejected(status, rejection)
    })?;
    let rejected = |rejection| RequestError::rejected(media_type.status_if_not_executed(), rejection);
    let cached = app.documents.get(&text);
    let is_cached = cached.is_some();
    let document = match cached {
        Some(document) => document,
        None => Arc::new(parse_document(&text, &app.limits).map_err(rejected)?),
    };
    let name = params.operation_name.as_deref();
    let checked = query_limits::check(&document, name, &variables, &app.root_fields, &app.limits).map_err(rejected)?;
    record(|stats| stats.operation = Some(checked.operation.clone()));
    Ok(Prepared {
        query: Query {
            text,
            hash,
            document,
            is_cached,
        },
        operation_name: params.operation_name,
        variables,
        checked,
    })
}

impl Prepared {
    pub(super) fn kind(&self) -> OperationKind {
        self.checked.operation.kind
    }

    /// The root fields that the operation selects.
    pub(super) fn fields(&self) -> &[String] {
        &self.checked.operation.fields
    }

    /// The operation of a viewer who may send one more; its document is cached.
    pub(super) fn of_viewer(self, app: &App, viewer: &Viewer) -> Result<Operation, RequestError> {
        app.rates.check_viewer(viewer).map_err(RequestError::rate_limited)?;
        if let Some(hash) = &self.query.hash {
            app.persisted.insert(hash.clone(), &self.query.text);
        }
        if !self.query.is_cached {
            app.documents.insert(&self.query.text, &self.query.document);
        }
        Ok(self.operation())
    }

    fn operation(self) -> Operation {
        Operation {
            text: self.query.text,
            document: self.query.document,
            name: self.operation_name,
            variables: self.variables,
            costly: self.checked.costly,
        }
    }
}

async fn execute(app: &App, sender: &Sender<'_>, media_type: MediaType, params: Params) -> Response {
    match prepare(app, media_type, params) {
        Ok(prepared) => answer(app, sender, media_type, prepared).await,
        Err(error) => error.into_response(media_type),
    }
}

/// The response to a query or mutation.
pub(super) async fn answer(app: &App, sender: &Sender<'_>, media_type: MediaType, prepared: Prepared) -> Response {
    match prepared.kind() {
        OperationKind::Mutation if sender.by_get => {
            let error = RequestError::new(
                StatusCode::METHOD_NOT_ALLOWED,
                ErrorCode::BadUserInput,
                "send mutations by POST",
            );
            let mut response = error.into_response(media_type);
            set_allow(&mut response, "POST");
            return response;
        }
        OperationKind::Subscription => {
            let message = "subscribe over a WebSocket at this path, with the protocol graphql-transport-ws";
            let status = media_type.status_if_not_executed();
            return RequestError::new(status, ErrorCode::BadUserInput, message).into_response(media_type);
        }
        OperationKind::Query | OperationKind::Mutation => {}
    }
    // A public operation ignores a token that is sent along.
    let (viewer, operation) = if prepared.checked.public {
        (None, prepared.operation())
    } else {
        let authenticated =
            authenticate(app, sender.credentials).and_then(|viewer| Ok((prepared.of_viewer(app, &viewer.0)?, viewer)));
        match authenticated {
            Ok((operation, viewer)) => (Some(viewer), operation),
            Err(error) => return error.into_response(media_type),
        }
    };
    record(|stats| stats.executed = true);
    let (context, result) = run(app, operation, sender.address, viewer).await;
    let result = match result {
        Ok(result) => result,
        Err(errors) => return response::not_executed(errors, media_type, &app.limits),
    };
    // Before the response is sent: what it shows must be in the audit.
    let entries = context.audit_entries(&response::forbidden_paths(&result));
    if let Err(error) = app.services.store.audit(entries).await {
        return RequestError::from(error).into_response(media_type);
    }
    response::executed(result, context.reserved_bytes(), media_type, &app.limits)
}

/// Executes an operation, or one answer of a subscription. The error is that of a document that is invalid and was not executed.
pub(super) async fn run(
    app: &App,
    operation: Operation,
    address: IpAddr,
    viewer: Option<(Viewer, String)>,
) -> (Arc<RequestContext>, Result<async_graphql::Response, Vec<ServerError>>) {
    let Operation {
        document,
        name,
        variables,
        costly,
        ..
    } = operation;
    let (context, scheduler) = RequestContext::new(&app.services, address, viewer);
    let context = Arc::new(context);
    // Costly queries wait for each other, and cheap ones do not wait for them.
    let permit = match costly {
        true => app.costly.acquire().await.ok(),
        false => None,
    };
    let execution = app.executor.execute(document, name, variables, Arc::clone(&context));
    let span = tracing::debug_span!("operation");
    let result = scheduler.run(execution, costly).instrument(span).await;
    drop(permit);
    (context, result)
}
