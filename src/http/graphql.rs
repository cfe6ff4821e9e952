//! GraphQL over HTTP, as its specification says.

use std::io::{self, Write};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use async_graphql::parser::types::ExecutableDocument;
use async_graphql::{PathSegment, Pos, ServerError, Variables};
use axum::Extension;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt as _;
use serde::{Deserialize, Serialize as _};
use serde_json::{Serializer, json};
use tracing::Instrument as _;

use super::App;
use super::peer::Client;
use super::query_limits::tokens;
use super::query_limits::{self, Rejection};
use crate::config::LIMITS;
use crate::error::{ErrorCode, incident, whole_seconds};
use crate::graphql::{RawJson, RequestContext};
use crate::observe::{OperationKind, record};

const GRAPHQL_JSON: &str = "application/graphql-response+json; charset=utf-8";
const JSON: &str = "application/json; charset=utf-8";

/// A request's parameters. Null is as good as absent.
#[derive(Deserialize)]
struct Params {
    query: Option<String>,
    #[serde(rename = "operationName")]
    operation_name: Option<String>,
    variables: Option<serde_json::Map<String, serde_json::Value>>,
    extensions: Option<serde_json::Map<String, serde_json::Value>>,
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
struct RequestError {
    status: StatusCode,
    code: ErrorCode,
    message: String,
    /// Where in the document.
    location: Option<Pos>,
    /// What else the error's extensions say.
    more: Vec<(&'static str, serde_json::Value)>,
}

impl RequestError {
    fn new(status: StatusCode, code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            location: None,
            more: Vec::new(),
        }
    }

    /// Logs what went wrong, and says under which id.
    fn internal(message: &str) -> Self {
        let id = incident(message);
        let message = format!("internal error {id}: the server's log says more under this id");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            ErrorCode::InternalServerError,
            message,
        )
    }

    fn refused(status: StatusCode, refusal: Rejection) -> Self {
        Self {
            status,
            code: refusal.code,
            message: refusal.message,
            location: refusal.location,
            more: refusal.more,
        }
    }

    fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, ErrorCode::BadUserInput, message)
    }

    fn into_response(self, media: Media) -> Response {
        record(|notes| notes.code(self.code));
        let mut extensions = serde_json::Map::from_iter([("code".to_owned(), self.code.as_str().into())]);
        extensions.extend(self.more.into_iter().map(|(name, value)| (name.to_owned(), value)));
        let mut error = json!({"message": self.message, "extensions": extensions});
        if let Some(location) = self.location {
            error["locations"] = json!([location]);
        }
        let body = json!({"errors": [error]});
        answer(self.status, media, body.to_string())
    }
}

fn answer(status: StatusCode, media: Media, body: impl Into<Body>) -> Response {
    let content_type = match media {
        Media::GraphqlResponse => GRAPHQL_JSON,
        Media::Json => JSON,
    };
    let headers = [
        (header::CONTENT_TYPE, content_type),
        (header::CACHE_CONTROL, "no-store"),
        (header::VARY, "Accept"),
    ];
    (status, headers, body.into()).into_response()
}

/// Other methods than GET and POST.
pub(super) async fn other(headers: HeaderMap) -> Response {
    let refusal = RequestError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        ErrorCode::BadUserInput,
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

/// What a request brings besides its parameters.
struct Sender<'a> {
    headers: &'a HeaderMap,
    address: IpAddr,
    /// It may change something: it came by POST, which no page of another origin sends as JSON without asking first.
    may_change: bool,
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
        may_change: false,
    };
    respond(&app, &sender, async || read_query(&query.unwrap_or_default())).await
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
        may_change: true,
    };
    let typed = content_type_is_json(&headers);
    respond(&app, &sender, async move || {
        if !typed {
            let message = "the Content-Type must be application/json";
            return Err(RequestError::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                ErrorCode::BadUserInput,
                message,
            ));
        }
        let bytes = read_body(body).await?;
        // Serde would take a list for the object's values in their order.
        if bytes.trim_ascii_start().starts_with(b"[") {
            return Err(RequestError::bad_request(
                "batches are not taken: send one request at a time",
            ));
        }
        serde_json::from_slice(&bytes).map_err(|_| {
            RequestError::bad_request(
                "the body must be a JSON object with query and, where needed, variables, operationName, extensions",
            )
        })
    })
    .await
}

/// The body, where it is within bounds. One that is not is read on for a while and thrown away, so that who sends it gets to
/// read why.
async fn read_body(body: Body) -> Result<Vec<u8>, RequestError> {
    let (mut bytes, mut read) = (Vec::new(), 0);
    let mut pieces = body.into_data_stream();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|_| RequestError::bad_request("the body could not be read to its end"))?;
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
    Err(RequestError::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        ErrorCode::QueryTooCostly,
        message,
    ))
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

fn read_query(text: &str) -> Result<Params, RequestError> {
    let mut params = Params {
        query: None,
        operation_name: None,
        variables: None,
        extensions: None,
    };
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
    let Some(media) = Media::accepted(sender.headers) else {
        let message = "Accept must take application/graphql-response+json or application/json";
        return RequestError::new(StatusCode::NOT_ACCEPTABLE, ErrorCode::BadUserInput, message)
            .into_response(Media::Json);
    };
    let _place = match app.rates.place() {
        Ok(place) => place,
        Err(wait) => return too_often(sender.headers, wait),
    };
    let answer = async {
        match read().await {
            Ok(params) => execute(app, sender, media, params).await,
            Err(refusal) => refusal.into_response(media),
        }
    };
    tokio::time::timeout(LIMITS.request, answer).await.unwrap_or_else(|_| {
        let message = format!("the request took longer than {} s", LIMITS.request.as_secs());
        RequestError::new(StatusCode::GATEWAY_TIMEOUT, ErrorCode::RequestTimeout, message).into_response(media)
    })
}

fn parse(query: &str) -> Result<ExecutableDocument, Rejection> {
    tokens::check(query)?;
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

/// Somebody comes too often, or too many come at once.
pub(super) fn too_often(headers: &HeaderMap, wait: Duration) -> Response {
    let seconds = whole_seconds(wait);
    let message = format!("too many requests: try again in {seconds} s");
    let mut refusal = RequestError::new(StatusCode::TOO_MANY_REQUESTS, ErrorCode::RateLimited, message);
    refusal.more.push(("retryAfter", seconds.into()));
    let response = refusal.into_response(Media::accepted(headers).unwrap_or(Media::Json));
    retry_after(response, seconds)
}

fn retry_after(mut response: Response, seconds: u64) -> Response {
    response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    response
}

async fn execute(app: &App, sender: &Sender<'_>, media: Media, params: Params) -> Response {
    let (query, hash) = match app.persisted.query(params.query, params.extensions.as_ref()) {
        Ok(asked) => asked,
        Err(refusal) => {
            let status = match refusal.code {
                ErrorCode::PersistedQueryNotFound => media.not_executed(),
                _ => StatusCode::BAD_REQUEST,
            };
            return RequestError::refused(status, refusal).into_response(media);
        }
    };
    let variables = Variables::from_json(params.variables.unwrap_or_default().into());
    let name = params.operation_name.as_deref();
    let known = app.parsed.get(&query);
    let document = known
        .as_ref()
        .map_or_else(|| parse(&query).map(Arc::new), |known| Ok(Arc::clone(known)));
    let checked = document.and_then(|document| {
        let passed = query_limits::check(&document, name, &variables, &app.fields)?;
        Ok((document, passed))
    });
    let (document, passed) = match checked {
        Ok(checked) => checked,
        Err(refusal) => return RequestError::refused(media.not_executed(), refusal).into_response(media),
    };
    let mutation = passed.operation.kind == OperationKind::Mutation;
    record(|notes| notes.operation = Some(passed.operation));
    if mutation && !sender.may_change {
        let refusal = RequestError::new(
            StatusCode::METHOD_NOT_ALLOWED,
            ErrorCode::BadUserInput,
            "a mutation goes by POST",
        );
        return allow(refusal.into_response(media), "POST");
    }
    let token = sender
        .headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    let token = token
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    // Who signs in is nobody yet, whatever token comes along.
    let viewer = token
        .filter(|_| !passed.public)
        .and_then(|(_, token)| app.shared.auth.viewer(token.trim()));
    if viewer.is_none() && !passed.public {
        let message = "sign in first, and send the access token as `Authorization: Bearer …`";
        let mut response =
            RequestError::new(StatusCode::UNAUTHORIZED, ErrorCode::Unauthenticated, message).into_response(media);
        response
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        return response;
    }
    if let Some((viewer, _)) = &viewer {
        if let Err(wait) = app.rates.viewer(viewer) {
            return too_often(sender.headers, wait);
        }
        if let Some(hash) = hash {
            app.persisted.keep(hash, &query);
        }
        if known.is_none() {
            app.parsed.keep(&query, &document);
        }
    }
    let (context, loads) = RequestContext::new(&app.shared, sender.address, viewer);
    let context = Arc::new(context);
    record(|notes| notes.executed = true);
    let span = tracing::debug_span!("operation");
    // What costs little does not wait for what costs much.
    let turn = if passed.costly {
        app.costly.acquire().await.ok()
    } else {
        None
    };
    let executing = app
        .executor
        .execute(document, params.operation_name, variables, Arc::clone(&context));
    let executed = loads.run(executing, passed.costly).instrument(span).await;
    drop(turn);
    let mut response = match executed {
        Ok(response) => response,
        // Nothing ran: the answer has no data, not even null.
        Err(mut errors) => {
            errors.iter_mut().for_each(with_code);
            cut(&mut errors);
            let body = json!({"errors": errors});
            return answer(media.not_executed(), media, body.to_string());
        }
    };
    // Before the answer leaves: nobody sees what the audit does not say.
    if let Err(error) = app.shared.store.audit(context.audit_entries(&refused(&response))).await {
        return RequestError::internal(&error.for_operator()).into_response(media);
    }
    response.errors.iter_mut().for_each(with_code);
    cut(&mut response.errors);
    let mut body = BoundedWriter(Vec::with_capacity(context.reserved_bytes() + 1_024));
    let written = response.serialize(&mut Serializer::with_formatter(&mut body, RawJson));
    let BoundedWriter(body) = body;
    match written {
        Ok(()) => match response.errors.iter().find_map(wait_of) {
            Some(seconds) => retry_after(answer(StatusCode::TOO_MANY_REQUESTS, media, body), seconds),
            None => answer(StatusCode::OK, media, body),
        },
        Err(error) if error.is_io() => {
            let message = format!("the response would have more than {} bytes", LIMITS.response);
            RequestError::new(media.not_executed(), ErrorCode::QueryTooCostly, message).into_response(media)
        }
        Err(error) => RequestError::internal(&format!("an answer cannot be written: {error}")).into_response(media),
    }
}

/// The bytes of a response, as many as one may have.
struct BoundedWriter(Vec<u8>);

impl Write for BoundedWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > LIMITS.response {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Where in the answer something is missing that the viewer may not see.
fn refused(response: &async_graphql::Response) -> Vec<String> {
    let code = |error: &ServerError| error.extensions.as_ref()?.get("code").cloned();
    let forbidden = |error: &&ServerError| code(error) == Some(ErrorCode::Forbidden.as_str().into());
    let path = |error: &ServerError| {
        let segments = error.path.iter().map(|segment| match segment {
            PathSegment::Field(name) => name.clone(),
            PathSegment::Index(place) => place.to_string(),
        });
        segments.collect::<Vec<_>>().join(".")
    };
    response.errors.iter().filter(forbidden).map(path).collect()
}

/// How long an error says to wait, in seconds: that of a sign-in after failures.
fn wait_of(error: &ServerError) -> Option<u64> {
    match error.extensions.as_ref()?.get("retryAfter")? {
        async_graphql::Value::Number(seconds) => seconds.as_u64(),
        _ => None,
    }
}

/// Leaves out the last errors where there are too many, and says how many in one more.
fn cut(errors: &mut Vec<ServerError>) {
    let left_out = errors.len().saturating_sub(LIMITS.errors);
    if left_out == 0 {
        return;
    }
    errors.truncate(LIMITS.errors);
    let mut last = ServerError::new(format!("{left_out} more errors are left out"), None);
    let code = errors
        .last()
        .and_then(|error| error.extensions.as_ref()?.get("code").cloned());
    let extensions = last.extensions.get_or_insert_default();
    extensions.set("code", code.unwrap_or_default());
    extensions.set("leftOut", left_out);
    errors.push(last);
}

/// Our own errors have a code; what async-graphql says is about the query itself.
fn with_code(error: &mut ServerError) {
    let code = if error.path.is_empty() {
        ErrorCode::GraphqlValidationFailed
    } else {
        ErrorCode::BadUserInput
    };
    let extensions = error.extensions.get_or_insert_default();
    if extensions.get("code").is_none() {
        record(|notes| notes.code(code));
        extensions.set("code", code.as_str());
    }
}
