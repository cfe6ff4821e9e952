//! GraphQL over HTTP as its specification says: reads requests, checks them, authenticates, executes.

use std::net::IpAddr;
use std::sync::Arc;

use async_graphql::Variables;
use async_graphql::parser::types::ExecutableDocument;
use axum::Extension;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use futures_util::StreamExt as _;
use serde::Deserialize;
use tracing::Instrument as _;

use super::App;
use super::authentication::authenticate;
use super::media_type::{MediaType, content_type_is_json};
use super::peer::Client;
use super::query_limits::{self, CheckedOperation, Rejection, tokens};
use super::response::{self, RequestError, set_allow};
use crate::config::Limits;
use crate::error::ErrorCode;
use crate::graphql::RequestContext;
use crate::observe::{OperationKind, record};

/// The parameters of a request. Null is the same as absent.
#[derive(Default, Deserialize)]
struct Params {
    query: Option<String>,
    #[serde(rename = "operationName")]
    operation_name: Option<String>,
    variables: Option<serde_json::Map<String, serde_json::Value>>,
    extensions: Option<serde_json::Map<String, serde_json::Value>>,
}

/// What a request has besides its parameters.
struct Sender<'a> {
    headers: &'a HeaderMap,
    address: IpAddr,
    /// Sent by POST. Mutations have to be: a page of another origin cannot send JSON by POST without a preflight request.
    is_post: bool,
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
        headers: &headers,
        address,
        is_post: false,
    };
    respond(&app, &sender, async || parse_query_string(&query.unwrap_or_default())).await
}

pub(super) async fn post(
    State(app): State<App>,
    Extension(Client(address)): Extension<Client>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let sender = Sender {
        headers: &headers,
        address,
        is_post: true,
    };
    let is_json = content_type_is_json(&headers);
    let max = app.limits.max_request_bytes;
    respond(&app, &sender, async move || {
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

async fn respond(app: &App, sender: &Sender<'_>, read: impl AsyncFnOnce() -> Result<Params, RequestError>) -> Response {
    let Some(media_type) = MediaType::accepted(sender.headers) else {
        let message = "Accept must allow application/graphql-response+json or application/json";
        return RequestError::new(StatusCode::NOT_ACCEPTABLE, ErrorCode::BadUserInput, message)
            .into_response(MediaType::Json);
    };
    let _running = match app.rates.start_request() {
        Ok(permit) => permit,
        Err(wait) => return response::rate_limited(sender.headers, wait),
    };
    let respond = async {
        match read().await {
            Ok(params) => execute(app, sender, media_type, params).await,
            Err(error) => error.into_response(media_type),
        }
    };
    let limit = app.limits.request_timeout;
    tokio::time::timeout(limit, respond).await.unwrap_or_else(|_| {
        let message = format!("the request took longer than {} s", limit.as_secs());
        RequestError::new(StatusCode::GATEWAY_TIMEOUT, ErrorCode::RequestTimeout, message).into_response(media_type)
    })
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

/// A query, its document, and how both can be cached once its sender is known.
struct Query {
    text: String,
    /// Of a persisted query that is to be stored.
    hash: Option<String>,
    document: Arc<ExecutableDocument>,
    is_cached: bool,
}

/// Finds or parses the document, and checks that the operation is within the limits.
fn prepare(
    app: &App,
    media_type: MediaType,
    params: &mut Params,
    variables: &Variables,
) -> Result<(Query, CheckedOperation), RequestError> {
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
    let checked = query_limits::check(&document, name, variables, &app.root_fields, &app.limits).map_err(rejected)?;
    let query = Query {
        text,
        hash,
        document,
        is_cached,
    };
    Ok((query, checked))
}

async fn execute(app: &App, sender: &Sender<'_>, media_type: MediaType, mut params: Params) -> Response {
    let variables = Variables::from_json(params.variables.take().unwrap_or_default().into());
    let (query, checked) = match prepare(app, media_type, &mut params, &variables) {
        Ok(prepared) => prepared,
        Err(error) => return error.into_response(media_type),
    };
    let CheckedOperation {
        operation,
        costly,
        public,
    } = checked;
    let is_mutation = operation.kind == OperationKind::Mutation;
    record(|stats| stats.operation = Some(operation));
    if is_mutation && !sender.is_post {
        let error = RequestError::new(
            StatusCode::METHOD_NOT_ALLOWED,
            ErrorCode::BadUserInput,
            "send mutations by POST",
        );
        let mut response = error.into_response(media_type);
        set_allow(&mut response, "POST");
        return response;
    }
    // A public operation ignores a token that is sent along.
    let viewer = match public {
        true => None,
        false => match authenticate(app, sender.headers) {
            Ok(viewer) => Some(viewer),
            Err(error) => return error.into_response(media_type),
        },
    };
    if let Some((viewer, _)) = &viewer {
        if let Err(wait) = app.rates.check_viewer(viewer) {
            return response::rate_limited(sender.headers, wait);
        }
        if let Some(hash) = query.hash {
            app.persisted.insert(hash, &query.text);
        }
        if !query.is_cached {
            app.documents.insert(&query.text, &query.document);
        }
    }
    let (context, scheduler) = RequestContext::new(&app.services, sender.address, viewer);
    let context = Arc::new(context);
    record(|stats| stats.executed = true);
    // Costly queries wait for each other, and cheap ones do not wait for them.
    let permit = match costly {
        true => app.costly.acquire().await.ok(),
        false => None,
    };
    let execution = app
        .executor
        .execute(query.document, params.operation_name, variables, Arc::clone(&context));
    let span = tracing::debug_span!("operation");
    let result = scheduler.run(execution, costly).instrument(span).await;
    drop(permit);
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
