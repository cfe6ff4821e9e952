//! GraphQL over HTTP, as its specification says.

use std::sync::atomic::Ordering;

use async_graphql::{Request, ServerError, Variables};
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt as _;
use serde::Deserialize;
use serde_json::json;

use super::App;
use super::guard::{self, Refusal};
use crate::config::LIMITS;
use crate::error::incident;
use crate::graphql::Asker;

const GRAPHQL_JSON: &str = "application/graphql-response+json; charset=utf-8";
const JSON: &str = "application/json; charset=utf-8";

/// A request's parameters. Null is as good as absent.
#[derive(Deserialize)]
struct Params {
    query: Option<String>,
    #[serde(rename = "operationName")]
    operation_name: Option<String>,
    variables: Option<serde_json::Map<String, serde_json::Value>>,
    #[serde(rename = "extensions")]
    _extensions: Option<serde_json::Map<String, serde_json::Value>>,
}

/// How the answer is to be written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Media {
    /// application/graphql-response+json: the status says what became of the request.
    GraphqlResponse,
    /// application/json: 200 for whatever was a well-formed request.
    Json,
}

impl Media {
    /// The first that Accept takes, by its quality; none where it takes neither.
    fn accepted(headers: &HeaderMap) -> Option<Self> {
        let mut best: Option<(f32, Self)> = None;
        let mut said = false;
        for value in headers.get_all(header::ACCEPT) {
            for range in value.to_str().unwrap_or_default().split(',') {
                said = true;
                let mut parts = range.split(';').map(str::trim);
                let media = match parts.next().unwrap_or_default().to_ascii_lowercase().as_str() {
                    "application/graphql-response+json" => Self::GraphqlResponse,
                    "application/json" | "application/*" | "*/*" => Self::Json,
                    _ => continue,
                };
                let quality = parts
                    .find_map(|part| part.strip_prefix("q="))
                    .map_or(1.0, |q| q.parse().unwrap_or(0.0));
                if quality > 0.0 && best.is_none_or(|(most, _)| quality > most) {
                    best = Some((quality, media));
                }
            }
        }
        match best {
            Some((_, media)) => Some(media),
            None => (!said).then_some(Self::Json),
        }
    }
}

impl Media {
    /// The status of a request that is well formed and cannot be executed.
    fn not_executed(self) -> StatusCode {
        match self {
            Self::GraphqlResponse => StatusCode::BAD_REQUEST,
            Self::Json => StatusCode::OK,
        }
    }
}

/// An answer that is no execution's.
struct Plain {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl Plain {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
        }
    }

    fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BAD_USER_INPUT", message)
    }

    fn into_response(self, media: Media) -> Response {
        let body = json!({"errors": [{"message": self.message, "extensions": {"code": self.code}}]});
        answer(self.status, media, body.to_string())
    }
}

fn answer(status: StatusCode, media: Media, body: String) -> Response {
    let content_type = match media {
        Media::GraphqlResponse => GRAPHQL_JSON,
        Media::Json => JSON,
    };
    let headers = [
        (header::CONTENT_TYPE, content_type),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::VARY, "Accept"),
    ];
    (status, headers, body).into_response()
}

/// Other methods than GET and POST.
pub(super) async fn other(headers: HeaderMap) -> Response {
    let refusal = Plain::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "BAD_USER_INPUT",
        "send GraphQL by POST, or a query by GET",
    );
    allow(
        refusal.into_response(Media::accepted(&headers).unwrap_or(Media::Json)),
        "GET, POST",
    )
}

fn allow(mut response: Response, methods: &'static str) -> Response {
    response
        .headers_mut()
        .insert(header::ALLOW, HeaderValue::from_static(methods));
    response
}

pub(super) async fn get(State(app): State<App>, headers: HeaderMap, RawQuery(query): RawQuery) -> Response {
    respond(&app, &headers, false, async || read_query(&query.unwrap_or_default())).await
}

pub(super) async fn post(State(app): State<App>, headers: HeaderMap, body: Body) -> Response {
    let typed = content_type_is_json(&headers);
    respond(&app, &headers, true, async move || {
        if !typed {
            let message = "the Content-Type must be application/json";
            return Err(Plain::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "BAD_USER_INPUT",
                message,
            ));
        }
        let bytes = read_body(body).await?;
        serde_json::from_slice(&bytes).map_err(|_| {
            Plain::bad_request(
                "the body must be a JSON object with query and, where needed, variables, operationName, extensions",
            )
        })
    })
    .await
}

/// The body, where it is within bounds. One that is not is read on for a while and thrown away, so that who sends it gets to
/// read why.
async fn read_body(body: Body) -> Result<Vec<u8>, Plain> {
    let (mut bytes, mut read) = (Vec::new(), 0);
    let mut pieces = body.into_data_stream();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|_| Plain::bad_request("the body could not be read to its end"))?;
        read += piece.len();
        if read <= LIMITS.body {
            bytes.extend_from_slice(&piece);
        } else if read > 8 * LIMITS.body {
            break;
        }
    }
    if read <= LIMITS.body {
        return Ok(bytes);
    }
    let message = format!("a body has at most {} bytes", LIMITS.body);
    Err(Plain::new(StatusCode::PAYLOAD_TOO_LARGE, "QUERY_TOO_COSTLY", message))
}

/// JSON in UTF-8, which is what JSON is in where no charset is named.
fn content_type_is_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()) else {
        return false;
    };
    let mut parts = value.split(';').map(|part| part.trim().to_ascii_lowercase());
    parts.next().as_deref() == Some("application/json")
        && parts.all(|part| {
            part.strip_prefix("charset=")
                .is_none_or(|charset| charset.trim_matches('"') == "utf-8")
        })
}

fn read_query(text: &str) -> Result<Params, Plain> {
    let mut params = Params {
        query: None,
        operation_name: None,
        variables: None,
        _extensions: None,
    };
    let object = |name: &str, text: &str| match text {
        "" => Ok(None),
        text => serde_json::from_str(text).map_err(|_| Plain::bad_request(format!("{name} must be a JSON object"))),
    };
    for pair in text.split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = percent_encoding::percent_decode_str(&value.replace('+', " "))
            .decode_utf8()
            .map_err(|_| Plain::bad_request("the query string is not UTF-8"))?
            .into_owned();
        match name {
            "query" => params.query = Some(value),
            "operationName" => params.operation_name = Some(value).filter(|name| !name.is_empty()),
            "variables" => params.variables = object("variables", &value)?,
            "extensions" => params._extensions = object("extensions", &value)?,
            _ => {}
        }
    }
    Ok(params)
}

async fn respond(
    app: &App,
    headers: &HeaderMap,
    may_change: bool,
    read: impl AsyncFnOnce() -> Result<Params, Plain>,
) -> Response {
    let Some(media) = Media::accepted(headers) else {
        let message = "Accept must take application/graphql-response+json or application/json";
        return Plain::new(StatusCode::NOT_ACCEPTABLE, "BAD_USER_INPUT", message).into_response(Media::Json);
    };
    match read().await {
        Ok(params) => execute(app, headers, media, may_change, params).await,
        Err(refusal) => refusal.into_response(media),
    }
}

/// A request that is well formed and cannot be executed: its status depends on how the answer is written.
fn not_executed(media: Media, code: &'static str, message: impl Into<String>) -> Response {
    Plain::new(media.not_executed(), code, message).into_response(media)
}

async fn execute(app: &App, headers: &HeaderMap, media: Media, may_change: bool, params: Params) -> Response {
    let Some(query) = params.query else {
        return Plain::bad_request("query is missing").into_response(media);
    };
    let document = match async_graphql::parser::parse_query(&query) {
        Ok(document) => document,
        Err(error) => {
            let place = error.positions().next();
            let place = place.map_or(String::new(), |at| {
                format!(" at line {}, column {}", at.line, at.column)
            });
            return not_executed(
                media,
                "GRAPHQL_PARSE_FAILED",
                format!("the query does not parse{place}"),
            );
        }
    };
    let passed = match guard::check(&document, params.operation_name.as_deref()) {
        Ok(passed) => passed,
        Err(Refusal::TooCostly(message)) => return not_executed(media, "QUERY_TOO_COSTLY", message),
        Err(Refusal::Invalid(message)) => return not_executed(media, "GRAPHQL_VALIDATION_FAILED", message),
    };
    if passed.mutation && !may_change {
        let refusal = Plain::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "BAD_USER_INPUT",
            "a mutation goes by POST",
        );
        return allow(refusal.into_response(media), "POST");
    }
    let token = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = token
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    // Who signs in is nobody yet, whatever token comes along.
    let viewer = token
        .filter(|_| !passed.open)
        .and_then(|(_, token)| app.shared.auth.viewer(token.trim()));
    if viewer.is_none() && !passed.open {
        let message = "sign in first, and send the access token as `Authorization: Bearer …`";
        let mut response = Plain::new(StatusCode::UNAUTHORIZED, "UNAUTHENTICATED", message).into_response(media);
        response
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        return response;
    }
    let (asker, loads) = Asker::new(&app.shared, viewer);
    let mut request = Request::new(query)
        .variables(Variables::from_json(params.variables.unwrap_or_default().into()))
        .data(asker);
    request.set_parsed_query(document);
    if let Some(name) = params.operation_name {
        request = request.operation_name(name);
    }
    app.requests.fetch_add(1, Ordering::Relaxed);
    let Ok(mut response) = tokio::time::timeout(LIMITS.request, loads.drive(app.schema.execute(request))).await else {
        let message = format!("the request took longer than {} s", LIMITS.request.as_secs());
        return Plain::new(StatusCode::GATEWAY_TIMEOUT, "REQUEST_TIMEOUT", message).into_response(media);
    };
    let invalid =
        response.data == async_graphql::Value::Null && response.errors.iter().all(|error| error.path.is_empty());
    response.errors.iter_mut().for_each(with_code);
    if invalid && !response.errors.is_empty() {
        // Nothing ran: the answer has no data, not even null.
        let body = json!({"errors": response.errors});
        return answer(media.not_executed(), media, body.to_string());
    }
    match serde_json::to_string(&response) {
        Ok(body) => answer(StatusCode::OK, media, body),
        Err(error) => {
            let id = incident();
            tracing::error!(incident = id, "an answer cannot be written: {error}");
            let message = format!("internal error {id}: the server's log says more under this id");
            Plain::new(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL_SERVER_ERROR", message).into_response(media)
        }
    }
}

/// Our own errors have a code; what async-graphql says is about the query itself.
fn with_code(error: &mut ServerError) {
    let code = if error.path.is_empty() {
        "GRAPHQL_VALIDATION_FAILED"
    } else {
        "BAD_USER_INPUT"
    };
    let extensions = error.extensions.get_or_insert_default();
    if extensions.get("code").is_none() {
        extensions.set("code", code);
    }
}
