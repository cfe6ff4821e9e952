//! The rim: routes, who asks, what may pass, and what is said of the server's health.

mod access_log;
mod connections;
mod document_cache;
mod execution;
mod explorer;
mod graphql;
mod health;
mod peer;
mod persisted_queries;
mod query_limits;
mod rate_limits;
mod tls;

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::extract::State;
use axum::extract::connect_info::Connected;
use axum::http::{HeaderName, HeaderValue, Method, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::{IncomingStream, Listener};
use axum::{Json, Router, middleware};
use ipnet::IpNet;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;
use tower_http::cors::CorsLayer;

use crate::auth::Auth;
use crate::config::{LIMITS, Memory, cores};
use crate::error::{Error, Result};
use crate::graphql::Services;
use crate::jobs::{self, Retention};
use crate::observe::Metrics;
use crate::reporting::Reporting;
use crate::store::Store;
use connections::Connections;
use document_cache::DocumentCache;
use execution::Executor;
use peer::Peer;
use persisted_queries::PersistedQueries;
use rate_limits::RateLimits;
pub use tls::Tls;
use tls::{Certificate, Handshaken};

/// How a server is to serve.
pub struct Options {
    /// How long data that expires is kept.
    pub retention: Retention,
    /// What may be kept in memory between questions.
    pub memory: Memory,
    /// What the explorer's sign-in page is told.
    pub hint: serde_json::Value,
    /// Requests a second of a viewer at most.
    pub viewer_rate: NonZeroU32,
    /// Requests a second of an address at most.
    pub address_rate: NonZeroU32,
    /// Proxies that are believed whom they ask for.
    pub trusted_proxies: Vec<IpNet>,
    /// Origins whose pages may read answers.
    pub cors_origins: Vec<HeaderValue>,
    /// Without it, the server speaks plain HTTP.
    pub tls: Option<Tls>,
    /// What /metrics is read with; where there is none, it is read on this machine alone.
    pub metrics_token: Option<String>,
}

/// What every request may need.
#[derive(Clone)]
struct App {
    executor: Arc<Executor>,
    shared: Services,
    /// What the explorer's sign-in page is told: the demo's accounts, else nothing.
    hint: Arc<serde_json::Value>,
    /// Root fields that the schema has.
    fields: Arc<query_limits::RootFields>,
    rates: Arc<RateLimits>,
    /// Turns of costly queries.
    costly: Arc<Semaphore>,
    parsed: Arc<DocumentCache>,
    persisted: Arc<PersistedQueries>,
    metrics_token: Option<Arc<str>>,
    /// Set once the server was told to stop.
    stopping: Arc<AtomicBool>,
}

/// Serves until the process is told to stop, then finishes what is in flight.
///
/// # Errors
/// Where the server cannot go on.
pub async fn serve(listener: TcpListener, store: Store, mut options: Options) -> Result<()> {
    let tls = options.tls.take();
    let cors = cors(std::mem::take(&mut options.cors_origins));
    jobs::start(&store, options.retention);
    let connections = Connections::new(listener, options.trusted_proxies.clone());
    let app = App::new(store, options)?;
    match tls {
        Some(tls) => {
            tokio::spawn(watch_certificate(tls.certificate()));
            let listener = Handshaken::new(connections, &tls)
                .map_err(|error| Error::Internal(format!("the server cannot listen: {error}")))?;
            app.serve(listener, cors, Some(HSTS)).await
        }
        None => app.serve(connections, cors, None).await,
    }
}

/// The headers of W3C Trace Context: a page that traces its requests sends them.
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// What pages of other origins may do: nothing, where none is named.
fn cors(origins: Vec<HeaderValue>) -> Option<CorsLayer> {
    (!origins.is_empty()).then(|| {
        CorsLayer::new()
            .allow_origin(origins)
            .allow_methods([Method::GET, Method::POST])
            .allow_headers([
                header::AUTHORIZATION,
                header::CONTENT_TYPE,
                header::ACCEPT,
                access_log::REQUEST_ID,
                TRACEPARENT,
                TRACESTATE,
            ])
            .expose_headers([header::RETRY_AFTER, access_log::REQUEST_ID])
            .max_age(Duration::from_secs(60 * 60))
    })
}

/// A browser that has seen the server by TLS asks in no other way for a year.
const HSTS: HeaderValue = HeaderValue::from_static("max-age=31536000");

/// Of every answer. The explorer's pages have a policy of their own; nothing else is a page.
fn secure(mut response: Response, hsts: Option<HeaderValue>) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers
        .entry(header::CONTENT_SECURITY_POLICY)
        .or_insert(HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"));
    if let Some(hsts) = hsts {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, hsts);
    }
    response
}

/// Serves the routes until told to stop.
async fn run<L>(listener: L, routes: Router, metrics: &Metrics, stopping: &AtomicBool) -> Result<()>
where
    L: Listener<Addr = SocketAddr>,
    Peer: for<'a> Connected<IncomingStream<'a, L>>,
{
    let (close, closed) = oneshot::channel::<()>();
    let routes = routes.into_make_service_with_connect_info::<Peer>();
    let served = axum::serve(listener, routes).with_graceful_shutdown(async {
        let _ = closed.await;
    });
    // Told again, it waits no longer.
    let stopped = async {
        told_to_stop().await;
        tracing::info!("told to stop");
        stopping.store(true, Ordering::Relaxed);
        let _ = timeout(LIMITS.notice, told_to_stop()).await;
        drop(close);
        let _ = timeout(LIMITS.drain, told_to_stop()).await;
    };
    tokio::select! {
        served = served.into_future() => {
            return served.map_err(|error| Error::Internal(format!("the server stopped: {error}")));
        }
        () = stopped => tracing::warn!(requests = metrics.in_flight(), "stopped before all was answered"),
    }
    Ok(())
}

/// Looks again and again whether the certificate was renewed.
async fn watch_certificate(certificate: Arc<Certificate>) {
    let mut often = tokio::time::interval(LIMITS.key_file);
    loop {
        often.tick().await;
        certificate.read_again();
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
    fn new(store: Store, options: Options) -> Result<Self> {
        let shared = Services {
            reporting: Arc::new(Reporting::new(store.clone(), options.memory)),
            auth: Arc::new(Auth::new(store.clone())?),
            store,
        };
        let executor = Executor::new(shared.clone())?;
        let fields = query_limits::RootFields::of(executor.types());
        Ok(Self {
            executor: Arc::new(executor),
            shared,
            hint: Arc::new(options.hint),
            fields: Arc::new(fields),
            rates: Arc::new(RateLimits::new(
                options.address_rate,
                options.viewer_rate,
                options.trusted_proxies,
            )),
            costly: Arc::new(Semaphore::new((cores() / 2).max(1))),
            parsed: Arc::default(),
            persisted: Arc::default(),
            metrics_token: options.metrics_token.map(Into::into),
            stopping: Arc::default(),
        })
    }

    async fn serve<L>(self, listener: L, cors: Option<CorsLayer>, hsts: Option<HeaderValue>) -> Result<()>
    where
        L: Listener<Addr = SocketAddr>,
        Peer: for<'a> Connected<IncomingStream<'a, L>>,
    {
        let metrics = Arc::clone(self.shared.store.metrics());
        let stopping = Arc::clone(&self.stopping);
        run(listener, self.router(cors, hsts), &metrics, &stopping).await
    }

    fn router(self, cors: Option<CorsLayer>, hsts: Option<HeaderValue>) -> Router {
        let metrics = Arc::clone(self.shared.store.metrics());
        let limit = middleware::from_fn_with_state(self.clone(), rate_limits::limit);
        let routes = Router::new()
            .route(
                "/graphql",
                get(graphql::get).post(graphql::post).fallback(graphql::other),
            )
            .route("/graphiql/hint.json", get(hint))
            .route("/healthz", get(health::alive))
            .route("/readyz", get(health::ready))
            .route("/metrics", get(health::metrics))
            .with_state(self)
            .merge(explorer::router())
            .layer(limit);
        let routes = match cors {
            Some(cors) => routes.layer(cors),
            None => routes,
        };
        routes
            .layer(middleware::map_response(move |response: Response| {
                let hsts = hsts.clone();
                async move { secure(response, hsts) }
            }))
            .layer(middleware::from_fn_with_state(metrics, access_log::access_log))
    }
}

async fn hint(State(app): State<App>) -> Response {
    ([(header::CACHE_CONTROL, "no-store")], Json(&*app.hint)).into_response()
}
