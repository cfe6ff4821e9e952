//! What is said of the server's health: alive, ready, and in numbers.

use std::sync::atomic::Ordering;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use serde_json::json;

use super::peer::Client;
use super::{App, rate_limits};
use crate::error::incident;
use crate::statistics::sha256;
use crate::store::Unready;

/// The process lives.
pub(super) async fn alive() -> &'static str {
    "alive\n"
}

/// Ready is who can take a request now: the database is as it must be, and the server was not told to stop.
pub(super) async fn ready(State(app): State<App>) -> Response {
    let failed = if app.stopping.load(Ordering::Relaxed) {
        Some("stopping")
    } else {
        app.shared.store.ready().await.err().map(|unready| match unready {
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

/// Metrics as Prometheus reads them: for who has the token; where there is none, for who asks on this machine.
pub(super) async fn metrics(
    State(app): State<App>,
    Extension(Client(address)): Extension<Client>,
    headers: HeaderMap,
) -> Response {
    let permitted = match &app.metrics_token {
        Some(token) => {
            let brought = headers
                .get(header::AUTHORIZATION)
                .map(HeaderValue::as_bytes)
                .unwrap_or_default();
            // Digests: how long it takes to compare them says nothing of the token.
            sha256(brought) == sha256(format!("Bearer {token}").as_bytes())
        }
        None => address.is_loopback() && !rate_limits::passed_on(&headers),
    };
    if !permitted {
        let ask = [(header::WWW_AUTHENTICATE, "Bearer")];
        return (StatusCode::UNAUTHORIZED, ask, "metrics are for who has the token\n").into_response();
    }
    let used = app.shared.reporting.ledger_usage().await;
    let store = &app.shared.store;
    match store.metrics().text(used.ledgers, used.bytes, &store.pools()) {
        Ok(text) => {
            let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, content_type)], text).into_response()
        }
        Err(error) => {
            incident(&format!("metrics cannot be written: {error}"));
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
