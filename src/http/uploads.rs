//! `POST /files`: a file that mutations can import, as it is. Not multipart, and no content type that a page of another origin could send
//! without a preflight request.

use std::time::Duration;

use axum::Json;
use axum::body::{Body, BodyDataStream};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use chrono::SecondsFormat;
use futures_util::StreamExt as _;
use serde_json::json;
use tokio::time::timeout;

use super::App;
use super::authentication::{Credentials, authenticate, forbidden};
use super::media_type::MediaType;
use super::response::{RequestError, set_allow};
use crate::config::Limits;
use crate::error::{Error, ErrorCode};
use crate::graphql;
use crate::permissions::Viewer;
use crate::records::rules;
use crate::store::{NewUpload, Upload};

/// The content types that are accepted. Forms and requests without a preflight cannot have them.
const CONTENT_TYPES: [&str; 3] = [
    "application/octet-stream",
    "text/csv",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
];

/// How long a refused body is read at most.
const DISCARD_TIME: Duration = Duration::from_secs(5);

/// The name of a file that was sent without one.
const UNNAMED: &str = "unnamed";

pub(super) async fn other_method() -> Response {
    let status = StatusCode::METHOD_NOT_ALLOWED;
    let error = RequestError::new(status, ErrorCode::BadUserInput, "send files by POST");
    let mut response = error.into_response(MediaType::Json);
    set_allow(&mut response, "POST");
    response
}

pub(super) async fn post(State(app): State<App>, headers: HeaderMap, body: Body) -> Response {
    let mut body = body.into_data_stream();
    let limit = app.limits.upload_timeout;
    let error = match timeout(limit, receive(&app, &headers, &mut body)).await {
        Ok(Ok(upload)) => return created(&upload),
        Ok(Err(error)) => {
            // A client that waits for `100 Continue` has not sent the body.
            if !headers.contains_key(header::EXPECT) {
                // However it ends: the error is sent.
                let _ = timeout(DISCARD_TIME, discard(&mut body, &app.limits)).await;
            }
            error
        }
        Err(_) => {
            let message = format!("the upload took longer than {} s", limit.as_secs());
            RequestError::new(StatusCode::REQUEST_TIMEOUT, ErrorCode::RequestTimeout, message)
        }
    };
    error.into_response(MediaType::Json)
}

fn created(upload: &Upload) -> Response {
    let body = json!({
        "fileId": graphql::upload_id(upload.id),
        "size": upload.size,
        "digest": upload.digest,
        "expiresAt": upload.expires_at.to_rfc3339_opts(SecondsFormat::AutoSi, true),
    });
    (StatusCode::CREATED, [(header::CACHE_CONTROL, "no-store")], Json(body)).into_response()
}

/// Reads a part of a refused body, so that a client that sends a small one before it reads gets to read the error.
async fn discard(body: &mut BodyDataStream, limits: &Limits) {
    let mut left = 8 * limits.max_request_bytes;
    while let Some(Ok(bytes)) = body.next().await
        && bytes.len() < left
    {
        left -= bytes.len();
    }
}

async fn receive(app: &App, headers: &HeaderMap, body: &mut BodyDataStream) -> Result<Upload, RequestError> {
    let _running = app.rates.start_upload().map_err(RequestError::rate_limited)?;
    let (viewer, _) = authenticate(app, Credentials::Headers(headers))?;
    app.rates.check_viewer(&viewer).map_err(RequestError::rate_limited)?;
    let file_name = check_headers(headers, app.limits.max_upload_bytes)?;
    let new = begin(app, &viewer, &file_name).await?;
    store(new, body, app.limits.max_upload_bytes).await
}

/// Checks the headers that are about the body. Returns the file's name.
fn check_headers(headers: &HeaderMap, max: u64) -> Result<String, RequestError> {
    let unsupported = |message: String| {
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        RequestError::new(status, ErrorCode::BadUserInput, message)
    };
    let text = |value: &HeaderValue| value.to_str().unwrap_or_default().to_ascii_lowercase();
    let content_type = headers.get(header::CONTENT_TYPE).map(text).unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    if !CONTENT_TYPES.contains(&essence) {
        let accepted = CONTENT_TYPES.join(", ");
        return Err(unsupported(format!("the Content-Type must be one of {accepted}")));
    }
    let encodings = headers.get_all(header::CONTENT_ENCODING);
    if encodings.iter().map(text).any(|encoding| encoding != "identity") {
        return Err(unsupported("send the file without a Content-Encoding".to_owned()));
    }
    let length = headers.get(header::CONTENT_LENGTH).map(text);
    if length
        .and_then(|length| length.parse().ok())
        .is_some_and(|length: u64| length > max)
    {
        return Err(too_large(max));
    }
    file_name(headers)
}

fn too_large(max: u64) -> RequestError {
    let message = format!("a file must have at most {max} bytes");
    RequestError::new(StatusCode::PAYLOAD_TOO_LARGE, ErrorCode::QueryTooCostly, message)
}

/// The file's name in `Content-Disposition`. It is not in the URL, which is logged by proxies.
fn file_name(headers: &HeaderMap) -> Result<String, RequestError> {
    let Some(value) = headers.get(header::CONTENT_DISPOSITION) else {
        return Ok(UNNAMED.to_owned());
    };
    let malformed = || {
        RequestError::bad_request(
            "Content-Disposition must be like attachment; filename=\"visits.csv\" or attachment; filename*=UTF-8''visits.csv",
        )
    };
    let text = str::from_utf8(value.as_bytes()).map_err(|_| malformed())?;
    let name = disposition_name(text).ok_or_else(malformed)?;
    rules::line(&name).map_err(|message| RequestError::bad_request(format!("the file's name {message}")))
}

/// The name in a `Content-Disposition` as RFC 6266 defines it: `filename*`, or else `filename`. None if it is malformed or has none.
fn disposition_name(text: &str) -> Option<String> {
    let (_, mut rest) = text.split_at(text.find(';')?);
    let mut plain = None;
    loop {
        rest = rest.trim();
        if rest.is_empty() {
            return plain;
        }
        let (name, value) = rest.strip_prefix(';')?.split_once('=')?;
        let (value, after) = parameter_value(value.trim_start())?;
        rest = after;
        match name.trim().to_ascii_lowercase().as_str() {
            "filename*" => {
                let (charset, encoded) = value.split_once('\'')?;
                let (_, encoded) = encoded.split_once('\'')?;
                let decoded = percent_encoding::percent_decode_str(encoded).decode_utf8().ok()?;
                return charset.eq_ignore_ascii_case("utf-8").then(|| decoded.into_owned());
            }
            "filename" => plain = Some(value),
            _ => {}
        }
    }
}

/// The value of a parameter, which may be in quotes, and what follows it.
fn parameter_value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let (value, rest) = text.split_at(text.find(';').unwrap_or(text.len()));
        return Some((value.trim().to_owned(), rest));
    };
    let (mut value, mut chars) = (String::new(), quoted.chars());
    loop {
        match chars.next()? {
            '"' => return Some((value, chars.as_str())),
            '\\' => value.push(chars.next()?),
            c => value.push(c),
        }
    }
}

async fn begin(app: &App, viewer: &Viewer, file_name: &str) -> Result<NewUpload, RequestError> {
    let store = &app.services.store;
    match store.begin_upload(viewer, file_name).await {
        Err(Error::Forbidden(message)) => Err(forbidden(app, viewer, "POST /files", message).await),
        Err(Error::RateLimited(wait)) => Err(RequestError::wait(
            &format!(
                "the hospital has {} uploaded files already",
                app.limits.max_uploads_of_hospital
            ),
            wait,
        )),
        result => Ok(result?),
    }
}

/// Stores the body. On an error the upload is dropped, and so deleted.
async fn store(mut new: NewUpload, body: &mut BodyDataStream, max: u64) -> Result<Upload, RequestError> {
    while let Some(bytes) = body.next().await {
        let bytes = bytes.map_err(|_| RequestError::bad_request("the body could not be read to its end"))?;
        if new.size() + bytes.len() as u64 > max {
            return Err(too_large(max));
        }
        new.write(&bytes).await?;
    }
    if new.size() == 0 {
        return Err(RequestError::bad_request("the file is empty"));
    }
    Ok(new.finish().await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_read_from_the_content_disposition() {
        for (text, name) in [
            ("attachment; filename=\"visits.csv\"", Some("visits.csv")),
            ("Attachment;FILENAME=visits.csv", Some("visits.csv")),
            (
                "attachment; filename = \"a;b = \\\"c\\\".csv\" ; size=3",
                Some("a;b = \"c\".csv"),
            ),
            ("attachment; filename=\"방문.csv\"", Some("방문.csv")),
            (
                "attachment; filename=\"x\"; filename*=UTF-8''%EB%B0%A9%EB%AC%B8%20'1'.csv",
                Some("방문 '1'.csv"),
            ),
            ("attachment; filename*=utf-8'ko'x.csv; filename=y", Some("x.csv")),
            ("attachment", None),
            ("attachment; size=3", None),
            ("attachment; filename", None),
            ("attachment; filename=\"x", None),
            ("attachment; filename=\"x\" y", None),
            ("attachment; filename*=x.csv", None),
            ("attachment; filename*=ISO-8859-1''x.csv", None),
            ("attachment; filename*=UTF-8''%FF.csv", None),
        ] {
            assert_eq!(disposition_name(text).as_deref(), name, "{text}");
        }
    }
}
