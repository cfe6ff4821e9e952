//! The rim: routes, who asks, what may pass, and what is said of the server's health.

mod explorer;
mod graphql;
mod guard;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use tokio::net::TcpListener;

use crate::auth::Auth;
use crate::config::LIMITS;
use crate::desk::Desk;
use crate::error::{Error, Result};
use crate::graphql::{Schema, Shared, schema};
use crate::store::Store;

/// What every request may need.
#[derive(Clone)]
struct App {
    schema: Schema,
    shared: Shared,
    /// What the explorer's sign-in page is told: the demo's accounts, else nothing.
    hint: Arc<serde_json::Value>,
    requests: Arc<AtomicU64>,
}

/// Serves until the process is told to stop, then finishes what is in flight.
///
/// # Errors
/// Where the server cannot go on.
pub async fn serve(listener: TcpListener, store: Store, hint: serde_json::Value) -> Result<()> {
    let app = App::new(store.clone(), hint)?;
    tokio::spawn(sweep(store));
    axum::serve(listener, app.router())
        .with_graceful_shutdown(told_to_stop())
        .await
        .map_err(|error| Error::Internal(format!("the server stopped: {error}")))
}

/// Forgets old changes once an hour.
async fn sweep(store: Store) {
    let mut hours = tokio::time::interval(std::time::Duration::from_secs(60 * 60));
    loop {
        hours.tick().await;
        if let Err(error) = store.prune_feed(LIMITS.feed).await {
            tracing::warn!("the change feed was not pruned: {}", error.for_operator());
        }
    }
}

async fn told_to_stop() {
    let interrupt = async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    #[cfg(unix)]
    let terminate = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => drop(signal.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    #[cfg(not(unix))]
    let terminate = std::future::pending::<()>();
    tokio::select! {
        () = interrupt => {}
        () = terminate => {}
    }
}

impl App {
    fn new(store: Store, hint: serde_json::Value) -> Result<Self> {
        let shared = Shared {
            desk: Arc::new(Desk::new(store.clone(), &LIMITS)),
            auth: Arc::new(Auth::new(store.clone())?),
            store,
        };
        Ok(Self {
            schema: schema(shared.clone()),
            shared,
            hint: Arc::new(hint),
            requests: Arc::default(),
        })
    }

    fn router(self) -> Router {
        Router::new()
            .route(
                "/graphql",
                get(graphql::get).post(graphql::post).fallback(graphql::other),
            )
            .route("/graphiql/hint.json", get(hint))
            .route("/healthz", get(|| async { "alive\n" }))
            .route("/readyz", get(ready))
            .route("/metrics", get(metrics))
            .with_state(self)
            .merge(explorer::router())
    }
}

async fn hint(State(app): State<App>) -> Response {
    ([(header::CACHE_CONTROL, "no-store")], Json(&*app.hint)).into_response()
}

/// Ready is who can answer a question: the database answers.
async fn ready(State(app): State<App>) -> (StatusCode, &'static str) {
    let asked = tokio::time::timeout(std::time::Duration::from_secs(2), app.shared.store.ping()).await;
    match asked {
        Ok(Ok(())) => (StatusCode::OK, "ready\n"),
        _ => (StatusCode::SERVICE_UNAVAILABLE, "the database does not answer\n"),
    }
}

/// Counters as Prometheus reads them. Nothing in them is of a patient.
async fn metrics(State(app): State<App>) -> Response {
    let used = app.shared.desk.ledger_use().await;
    let requests = app.requests.load(Ordering::Relaxed);
    let statements = app.shared.store.statements();
    let text: String = [
        (
            "graphql_requests_total",
            "counter",
            "GraphQL requests that were executed.",
            requests,
        ),
        (
            "database_statements_total",
            "counter",
            "Statements sent to the database.",
            statements,
        ),
        (
            "ledger_loads_total",
            "counter",
            "Ledgers loaded whole, rather than caught up.",
            used.loads,
        ),
        ("ledgers", "gauge", "Hospitals whose ledger is in memory.", used.ledgers),
        ("ledger_bytes", "gauge", "Memory that ledgers take.", used.bytes),
    ]
    .iter()
    .map(|(name, kind, help, value)| {
        format!("# HELP rollcall_{name} {help}\n# TYPE rollcall_{name} {kind}\nrollcall_{name} {value}\n")
    })
    .collect();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}
