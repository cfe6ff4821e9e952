//! The viewer of a request.

use axum::http::{HeaderMap, StatusCode, header};

use super::App;
use super::response::RequestError;
use crate::auth::AccessToken;
use crate::error::ErrorCode;
use crate::permissions::Viewer;
use crate::store::{AuditAction, NewEntry};

/// What tells who sends an operation.
#[derive(Clone, Copy)]
pub(super) enum Credentials<'a> {
    /// The access token in the headers of a request.
    Headers(&'a HeaderMap),
    /// That of a WebSocket.
    Verified(&'a AccessToken),
}

/// The viewer, with the family of the session.
pub(super) fn authenticate(app: &App, credentials: Credentials<'_>) -> Result<(Viewer, String), RequestError> {
    let headers = match credentials {
        Credentials::Verified(token) => return Ok((token.viewer.clone(), token.family.clone())),
        Credentials::Headers(headers) => headers,
    };
    let authorization = headers.get(header::AUTHORIZATION);
    let token = authorization.and_then(|value| verify(app, value.to_str().ok()?));
    let token = token.ok_or_else(|| {
        RequestError::new(
            StatusCode::UNAUTHORIZED,
            ErrorCode::Unauthenticated,
            "sign in first, and send the access token as `Authorization: Bearer …`",
        )
    })?;
    Ok((token.viewer, token.family))
}

/// What the access token in `Bearer …` says; none if it is invalid or has expired.
pub(super) fn verify(app: &App, authorization: &str) -> Option<AccessToken> {
    let (scheme, token) = authorization.split_once(' ')?;
    match scheme.eq_ignore_ascii_case("bearer") {
        true => app.services.auth.verify(token.trim()),
        false => None,
    }
}

/// The error for a request that the viewer's role does not allow, which is in the audit then.
pub(super) async fn forbidden(app: &App, viewer: &Viewer, request: &str, message: String) -> RequestError {
    let refused = NewEntry::of(viewer, AuditAction::Refused).what(request);
    match app.services.store.audit(vec![refused]).await {
        Ok(()) => RequestError::new(StatusCode::FORBIDDEN, ErrorCode::Forbidden, message),
        Err(error) => error.into(),
    }
}
