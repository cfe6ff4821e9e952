//! Health checks and metrics.

use std::sync::atomic::Ordering;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::peer::Client;
use super::{App, rate_limits};
use crate::store::Unready;

/// Liveness: the process answers.
pub(super) async fn alive() -> &'static str {
    "alive\n"
}

/// Readiness: the database can be served, and the server was not told to stop.
pub(super) async fn ready(State(app): State<App>) -> Response {
    let failed = if app.stopping.load(Ordering::Relaxed) {
        Some("stopping")
    } else {
        app.services.store.ready().await.err().map(|unready| match unready {
            Unready::Database => "database",
            Unready::Migrations => "migrations",
            Unready::Writes => "writes",
        })
    };
    let (status, body) = match failed {
        None => (StatusCode::OK, json!({"ready": true})),
        Some(failed) => (
            StatusCode::SERVICE_UNAVAILABLE,
            json!({"ready": false, "failed": failed}),
        ),
    };
    (status, [(header::CACHE_CONTROL, "no-store")], Json(body)).into_response()
}

/// Metrics in the OpenMetrics format, for requests with the token; if there is no token, for requests from this machine.
pub(super) async fn metrics(
    State(app): State<App>,
    Extension(Client(address)): Extension<Client>,
    headers: HeaderMap,
) -> Response {
    let permitted = match &app.metrics_token {
        Some(token) => {
            let sent = headers
                .get(header::AUTHORIZATION)
                .map(HeaderValue::as_bytes)
                .unwrap_or_default();
            // Compared by their digests, so that the time it takes reveals nothing about the token.
            Sha256::digest(sent) == Sha256::digest(format!("Bearer {token}"))
        }
        None => address.is_loopback() && !rate_limits::is_forwarded(&headers),
    };
    if !permitted {
        let challenge = [(header::WWW_AUTHENTICATE, "Bearer")];
        return (StatusCode::UNAUTHORIZED, challenge, "metrics need the bearer token\n").into_response();
    }
    let usage = app.services.reporting.ledger_usage().await;
    let store = &app.services.store;
    match store.metrics().text(usage.ledgers, usage.bytes, &store.pools()) {
        Ok(text) => {
            let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, content_type)], text).into_response()
        }
        Err(error) => {
            tracing::error!(%error, "cannot write the metrics");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
