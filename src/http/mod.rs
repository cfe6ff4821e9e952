//! The HTTP server: routes, connections, rate limits, GraphQL over HTTP, uploads, exports and health checks.

mod access_log;
mod authentication;
mod connections;
mod document_cache;
mod execution;
mod explorer;
mod exports;
mod graphql;
mod health;
mod live;
mod media_type;
mod peer;
mod persisted_queries;
mod query_limits;
mod rate_limits;
mod response;
mod tls;
mod uploads;

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, Method, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router, middleware};
use axum_server::Handle;
use futures_util::future::Either;
use ipnet::IpNet;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tower_http::cors::CorsLayer;

use crate::auth::Auth;
use crate::config::{Limits, cores};
use crate::error::{Error, Result};
use crate::graphql::Services;
use crate::jobs::{self, Retention};
use crate::observe::Metrics;
use crate::reporting::Reporting;
use crate::signals::told_to_stop;
use crate::store::Store;
use connections::Connections;
use document_cache::DocumentCache;
use execution::Executor;
use live::Live;
use persisted_queries::PersistedQueries;
use rate_limits::RateLimits;
pub use tls::Tls;

/// How a server serves.
pub struct Options {
    /// How long data that expires is kept.
    pub retention: Retention,
    pub limits: Arc<Limits>,
    /// What the explorer shows on its sign-in page: the accounts of the demo.
    pub hint: serde_json::Value,
    /// Requests per second allowed for each viewer.
    pub viewer_rate: NonZeroU32,
    /// Requests per second allowed for each client address.
    pub address_rate: NonZeroU32,
    /// Proxies whose X-Forwarded-For header is trusted.
    pub trusted_proxies: Vec<IpNet>,
    /// Origins whose pages may read responses.
    pub cors_origins: Vec<HeaderValue>,
    /// Plain HTTP if none.
    pub tls: Option<Tls>,
    /// Bearer token of /metrics; without one, /metrics is available on this machine only.
    pub metrics_token: Option<String>,
}

/// What the handlers share.
#[derive(Clone)]
struct App {
    executor: Arc<Executor>,
    services: Services,
    hint: Arc<serde_json::Value>,
    root_fields: Arc<query_limits::RootFields>,
    rates: Arc<RateLimits>,
    /// Permits of costly queries.
    costly: Arc<Semaphore>,
    documents: Arc<DocumentCache>,
    persisted: Arc<PersistedQueries>,
    limits: Arc<Limits>,
    live: Arc<Live>,
    metrics_token: Option<Arc<str>>,
    /// Whether the server was told to stop.
    stopping: Arc<AtomicBool>,
}

/// Serves until the process is told to stop, then finishes the requests in flight.
///
/// # Errors
/// If the server cannot listen, or stops unexpectedly.
pub async fn serve(listener: TcpListener, store: Store, mut options: Options) -> Result<()> {
    let tls = options.tls.take();
    let cors = cors(options.cors_origins.clone());
    let limits = Arc::clone(&options.limits);
    jobs::start(&store, limits.file_check_interval, options.retention);
    let connections = Connections::new(&options.trusted_proxies, &limits);
    let app = App::new(store, options)?;
    let (metrics, stopping) = (Arc::clone(app.services.store.metrics()), Arc::clone(&app.stopping));
    let live = Arc::clone(&app.live);
    tokio::spawn(live::watch(app.clone()));
    let routes = app
        .router(cors, tls.is_some().then_some(HSTS))
        .into_make_service_with_connect_info::<SocketAddr>();
    let handle = Handle::new();
    let server = connections::server(listener, limits.connection_idle_timeout()).handle(handle.clone());
    let served = match tls {
        Some(tls) => {
            let acceptor = tls.acceptor(limits.tls_handshake_timeout).acceptor(connections);
            tokio::spawn(tls.watch(limits.file_check_interval));
            Either::Left(server.acceptor(acceptor).serve(routes))
        }
        None => Either::Right(server.acceptor(connections).serve(routes)),
    };
    run(served, &handle, &metrics, &stopping, &live, &limits).await
}

/// The headers of W3C Trace Context: a page that traces its requests sends them.
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// What pages of these origins may do; nothing is allowed to others.
fn cors(origins: Vec<HeaderValue>) -> Option<CorsLayer> {
    (!origins.is_empty()).then(|| {
        CorsLayer::new()
            .allow_origin(origins)
            .allow_methods([Method::GET, Method::POST])
            .allow_headers([
                header::AUTHORIZATION,
                header::CONTENT_TYPE,
                header::ACCEPT,
                header::CONTENT_DISPOSITION,
                access_log::REQUEST_ID,
                TRACEPARENT,
                TRACESTATE,
            ])
            .expose_headers([header::RETRY_AFTER, header::CONTENT_DISPOSITION, access_log::REQUEST_ID])
            .max_age(Duration::from_secs(60 * 60))
    })
}

/// A browser that has used TLS once uses nothing else for a year.
const HSTS: HeaderValue = HeaderValue::from_static("max-age=31536000");

/// Sets the security headers of every response. The explorer's pages have a policy of their own; nothing else is a page.
fn set_security_headers(mut response: Response, hsts: Option<HeaderValue>) -> Response {
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

/// Serves until told to stop.
async fn run(
    served: impl Future<Output = io::Result<()>>,
    handle: &Handle<SocketAddr>,
    metrics: &Metrics,
    stopping: &AtomicBool,
    live: &Live,
    limits: &Limits,
) -> Result<()> {
    // A second signal ends the wait.
    let stopped = async {
        told_to_stop().await;
        tracing::info!("told to stop");
        stopping.store(true, Ordering::Relaxed);
        let _ = timeout(limits.shutdown_notice, told_to_stop()).await;
        handle.graceful_shutdown(None);
        live.stop();
        let _ = timeout(limits.drain_timeout, told_to_stop()).await;
    };
    let served = async {
        served.await?;
        live.closed().await;
        Ok::<_, io::Error>(())
    };
    tokio::select! {
        served = served => {
            return served.map_err(|error| Error::Internal(format!("the server stopped: {error}")));
        }
        () = stopped => tracing::warn!(requests = metrics.in_flight(), "stopped before all was answered"),
    }
    Ok(())
}

impl App {
    fn new(store: Store, options: Options) -> Result<Self> {
        let reporting = Reporting::new(store.clone(), &options.limits).with_retention(options.retention.snapshot_days);
        let services = Services {
            reporting: Arc::new(reporting),
            auth: Arc::new(Auth::new(store.clone(), &options.limits)?),
            limits: Arc::clone(&options.limits),
            store,
        };
        let executor = Executor::new(services.clone())?;
        let root_fields = query_limits::RootFields::new(executor.types());
        Ok(Self {
            executor: Arc::new(executor),
            services,
            hint: Arc::new(options.hint),
            root_fields: Arc::new(root_fields),
            rates: Arc::new(RateLimits::new(
                options.address_rate,
                options.viewer_rate,
                options.trusted_proxies,
                &options.limits,
            )),
            costly: Arc::new(Semaphore::new((cores() / 2).max(1))),
            documents: Arc::new(DocumentCache::new(options.limits.document_cache_bytes)),
            persisted: Arc::new(PersistedQueries::new(options.limits.persisted_query_cache_bytes)),
            live: Arc::new(Live::new(&options.limits, options.cors_origins)),
            limits: options.limits,
            metrics_token: options.metrics_token.map(Into::into),
            stopping: Arc::default(),
        })
    }

    fn router(self, cors: Option<CorsLayer>, hsts: Option<HeaderValue>) -> Router {
        let metrics = Arc::clone(self.services.store.metrics());
        let limit = middleware::from_fn_with_state(self.clone(), rate_limits::limit);
        let routes = Router::new()
            .route(
                "/graphql",
                get(live::get).post(graphql::post).fallback(graphql::other_method),
            )
            .route("/files", post(uploads::post).fallback(uploads::other_method))
            .route(
                "/exports/{token}",
                get(exports::get)
                    .head(exports::other_method)
                    .fallback(exports::other_method),
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
                async move { set_security_headers(response, hsts) }
            }))
            .layer(middleware::from_fn_with_state(metrics, access_log::access_log))
    }
}

async fn hint(State(app): State<App>) -> Response {
    ([(header::CACHE_CONTROL, "no-store")], Json(&*app.hint)).into_response()
}
