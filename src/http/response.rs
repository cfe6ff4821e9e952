//! Responses of `/graphql`: executed operations. Errors of requests that were not executed, also of `/files`.

use std::io::{self, Write};
use std::time::Duration;

use async_graphql::{PathSegment, Pos, ServerError};
use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde::Serialize as _;
use serde_json::{Serializer, json};

use super::media_type::MediaType;
use super::query_limits::Rejection;
use crate::config::Limits;
use crate::error::{Error, ErrorCode, whole_seconds};
use crate::graphql::RawJson;
use crate::observe::{incident, record};

/// A request that was not executed, or whose response cannot be sent.
pub(super) struct RequestError {
    status: StatusCode,
    code: ErrorCode,
    message: String,
    /// The place in the document.
    location: Option<Pos>,
    /// Further entries of the error's `extensions`.
    extensions: Vec<(&'static str, serde_json::Value)>,
}

impl RequestError {
    pub(super) fn new(status: StatusCode, code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            location: None,
            extensions: Vec::new(),
        }
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, ErrorCode::BadUserInput, message)
    }

    pub(super) fn rejected(status: StatusCode, rejection: Rejection) -> Self {
        Self {
            status,
            code: rejection.code,
            message: rejection.message,
            location: rejection.location,
            extensions: rejection.more,
        }
    }

    pub(super) fn rate_limited(wait: Duration) -> Self {
        Self::wait("too many requests", wait)
    }

    /// RATE_LIMITED for this reason.
    pub(super) fn wait(why: &str, wait: Duration) -> Self {
        let seconds = whole_seconds(wait);
        let message = format!("{why}: try again in {seconds} s");
        let mut error = Self::new(StatusCode::TOO_MANY_REQUESTS, ErrorCode::RateLimited, message);
        error.extensions.push(("retryAfter", seconds.into()));
        error
    }

    pub(super) fn timed_out(limit: Duration) -> Self {
        let message = format!("the request took longer than {} s", limit.as_secs());
        Self::new(StatusCode::GATEWAY_TIMEOUT, ErrorCode::RequestTimeout, message)
    }

    /// Logs the message under an id, and shows the client the id only.
    pub(super) fn internal(message: &str) -> Self {
        let message = incident(message);
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            ErrorCode::InternalServerError,
            message,
        )
    }

    pub(super) fn into_response(self, media_type: MediaType) -> Response {
        record(|stats| stats.code(self.code));
        let retry_after = self
            .extensions
            .iter()
            .find_map(|(name, value)| (*name == "retryAfter").then(|| value.as_u64())?);
        let mut extensions = serde_json::Map::from_iter([("code".to_owned(), self.code.as_str().into())]);
        extensions.extend(
            self.extensions
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value)),
        );
        let mut error = json!({"message": self.message, "extensions": extensions});
        if let Some(location) = self.location {
            error["locations"] = json!([location]);
        }
        let body = json!({"errors": [error]});
        let mut response = response(self.status, media_type, body.to_string());
        if let Some(seconds) = retry_after {
            set_retry_after(&mut response, seconds);
        }
        if self.status == StatusCode::UNAUTHORIZED {
            let headers = response.headers_mut();
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// Of work that the server does itself: what belongs to a field of an operation has become an error of that field.
impl From<Error> for RequestError {
    fn from(error: Error) -> Self {
        match error {
            Error::Busy => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                ErrorCode::Busy,
                Error::Busy.for_operator(),
            ),
            error => Self::internal(&error.for_operator()),
        }
    }
}

fn response(status: StatusCode, media_type: MediaType, body: impl Into<Body>) -> Response {
    let headers = [
        (header::CONTENT_TYPE, media_type.content_type()),
        (header::CACHE_CONTROL, "no-store"),
        (header::VARY, "Accept"),
    ];
    (status, headers, body.into()).into_response()
}

pub(super) fn set_allow(response: &mut Response, methods: &'static str) {
    let headers = response.headers_mut();
    headers.insert(header::ALLOW, HeaderValue::from_static(methods));
}

fn set_retry_after(response: &mut Response, seconds: u64) {
    response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
}

/// The response to a client that sends too many requests, or that comes while too many run.
pub(super) fn rate_limited(headers: &HeaderMap, wait: Duration) -> Response {
    let media_type = MediaType::accepted(headers).unwrap_or(MediaType::Json);
    RequestError::rate_limited(wait).into_response(media_type)
}

/// The response to a document that does not validate: without data, not even null.
pub(super) fn not_executed(mut errors: Vec<ServerError>, media_type: MediaType, limits: &Limits) -> Response {
    errors.iter_mut().for_each(ensure_code);
    truncate(&mut errors, limits.max_errors);
    let body = json!({"errors": errors});
    response(media_type.status_if_not_executed(), media_type, body.to_string())
}

/// The response of an executed operation. `reserved_bytes` are those of its lists of ids.
pub(super) fn executed(
    mut result: async_graphql::Response,
    reserved_bytes: usize,
    media_type: MediaType,
    limits: &Limits,
) -> Response {
    result.errors.iter_mut().for_each(ensure_code);
    truncate(&mut result.errors, limits.max_errors);
    let max = limits.max_response_bytes;
    let mut body = BoundedWriter {
        bytes: Vec::with_capacity(reserved_bytes + 1_024),
        max,
    };
    match result.serialize(&mut Serializer::with_formatter(&mut body, RawJson)) {
        Ok(()) => match result.errors.iter().find_map(retry_after) {
            Some(seconds) => {
                let mut response = response(StatusCode::TOO_MANY_REQUESTS, media_type, body.bytes);
                set_retry_after(&mut response, seconds);
                response
            }
            None => response(StatusCode::OK, media_type, body.bytes),
        },
        Err(error) if error.is_io() => {
            let message = format!("the response would have more than {max} bytes");
            let status = media_type.status_if_not_executed();
            RequestError::new(status, ErrorCode::QueryTooCostly, message).into_response(media_type)
        }
        Err(error) => RequestError::internal(&format!("cannot write a response: {error}")).into_response(media_type),
    }
}

/// Collects the bytes of a response, up to a maximum.
struct BoundedWriter {
    bytes: Vec<u8>,
    max: usize,
}

impl Write for BoundedWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.max {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Paths of the fields that the viewer's role may not see.
pub(super) fn forbidden_paths(result: &async_graphql::Response) -> Vec<String> {
    let code = |error: &ServerError| error.extensions.as_ref()?.get("code").cloned();
    let is_forbidden = |error: &&ServerError| code(error) == Some(ErrorCode::Forbidden.as_str().into());
    let path = |error: &ServerError| {
        let segments = error.path.iter().map(|segment| match segment {
            PathSegment::Field(name) => name.clone(),
            PathSegment::Index(index) => index.to_string(),
        });
        segments.collect::<Vec<_>>().join(".")
    };
    result.errors.iter().filter(is_forbidden).map(path).collect()
}

/// The seconds to wait that an error names: that of a sign-in after failed ones.
fn retry_after(error: &ServerError) -> Option<u64> {
    match error.extensions.as_ref()?.get("retryAfter")? {
        async_graphql::Value::Number(seconds) => seconds.as_u64(),
        _ => None,
    }
}

/// Removes the last errors if there are more than `max`, and adds one that says how many.
fn truncate(errors: &mut Vec<ServerError>, max: usize) {
    let left_out = errors.len().saturating_sub(max);
    if left_out == 0 {
        return;
    }
    errors.truncate(max);
    let mut last = ServerError::new(format!("{left_out} more errors are left out"), None);
    let code = errors
        .last()
        .and_then(|error| error.extensions.as_ref()?.get("code").cloned());
    let extensions = last.extensions.get_or_insert_default();
    extensions.set("code", code.unwrap_or_default());
    extensions.set("leftOut", left_out);
    errors.push(last);
}

/// Gives errors of async-graphql a code; they are about the query itself, and Rollcall's own errors have one.
fn ensure_code(error: &mut ServerError) {
    let code = if error.path.is_empty() {
        ErrorCode::GraphqlValidationFailed
    } else {
        ErrorCode::BadUserInput
    };
    let extensions = error.extensions.get_or_insert_default();
    if extensions.get("code").is_none() {
        record(|stats| stats.code(code));
        extensions.set("code", code.as_str());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_database_is_told_from_a_failure() {
        let busy = RequestError::from(Error::Busy);
        assert_eq!(
            (busy.status, busy.code),
            (StatusCode::SERVICE_UNAVAILABLE, ErrorCode::Busy)
        );
        let failure = RequestError::from(Error::Internal("disk full".to_owned()));
        assert_eq!(
            (failure.status, failure.code),
            (StatusCode::INTERNAL_SERVER_ERROR, ErrorCode::InternalServerError)
        );
        assert!(!failure.message.contains("disk"), "{}", failure.message);
    }

    #[test]
    fn a_rate_limited_response_says_when_to_retry() {
        let response = rate_limited(&HeaderMap::new(), Duration::from_millis(1_200));
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(response.headers()[header::RETRY_AFTER], "2");
    }

    #[test]
    fn errors_are_bounded_and_counted() {
        let mut errors: Vec<_> = (0..5)
            .map(|number| ServerError::new(number.to_string(), None))
            .collect();
        errors.iter_mut().for_each(ensure_code);
        truncate(&mut errors, 3);
        let messages: Vec<&str> = errors.iter().map(|error| error.message.as_str()).collect();
        assert_eq!(messages, ["0", "1", "2", "2 more errors are left out"]);
        let code = |error: &ServerError| error.extensions.as_ref().unwrap().get("code").cloned();
        assert_eq!(code(&errors[3]), code(&errors[0]));
    }

    #[test]
    fn a_response_has_at_most_so_many_bytes() {
        let mut writer = BoundedWriter {
            bytes: Vec::new(),
            max: 3,
        };
        assert!(writer.write_all(b"ab").is_ok());
        assert!(writer.write_all(b"cd").is_err());
        assert!(writer.write_all(b"c").is_ok());
    }
}
