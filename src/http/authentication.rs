//! The viewer of a request.

use axum::http::{HeaderMap, StatusCode, header};

use super::App;
use super::response::RequestError;
use crate::error::ErrorCode;
use crate::permissions::Viewer;
use crate::store::{AuditAction, NewEntry};

/// The viewer of the access token, with the family of the session.
pub(super) fn authenticate(app: &App, headers: &HeaderMap) -> Result<(Viewer, String), RequestError> {
    let authorization = headers.get(header::AUTHORIZATION);
    let token = authorization
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    let viewer = token.and_then(|(_, token)| app.services.auth.viewer(token.trim()));
    viewer.ok_or_else(|| {
        RequestError::new(
            StatusCode::UNAUTHORIZED,
            ErrorCode::Unauthenticated,
            "sign in first, and send the access token as `Authorization: Bearer …`",
        )
    })
}

/// The error for a request that the viewer's role does not allow, which is in the audit then.
pub(super) async fn forbidden(app: &App, viewer: &Viewer, request: &str, message: String) -> RequestError {
    let refused = NewEntry::of(viewer, AuditAction::Refused).what(request);
    match app.services.store.audit(vec![refused]).await {
        Ok(()) => RequestError::new(StatusCode::FORBIDDEN, ErrorCode::Forbidden, message),
        Err(error) => error.into(),
    }
}
