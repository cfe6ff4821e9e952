//! Gives each request an id, logs it in one line, and counts it.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::Response;
use opentelemetry_http::HeaderExtractor;
use tracing::{Instrument as _, Span};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::observe::{Metrics, RequestStats, with_request_stats};

pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The status of a request whose client closed the connection before the response was sent.
const CLIENT_CLOSED_REQUEST: u16 = 499;

/// The middleware around every route.
pub(super) async fn access_log(State(metrics): State<Arc<Metrics>>, request: Request, next: Next) -> Response {
    let (id, echo) = request_id(request.headers());
    // At the level of errors, so that no filter of the log disables it.
    let span = tracing::error_span!("request", request_id = id);
    let parent = opentelemetry::global::get_text_map_propagator(|propagator| {
        propagator.extract(&HeaderExtractor(request.headers()))
    });
    // Fails if traces are off.
    let _ = span.set_parent(parent);
    let route = request.extensions().get::<MatchedPath>().cloned();
    let tracked = TrackedRequest::new(metrics, id, route, method(request.method()), span);
    let mut response = tracked
        .run(next.run(request), |response| response.status().as_u16())
        .await;
    response.headers_mut().insert(REQUEST_ID, echo);
    response
}

/// A WebSocket, whose operations are logged and counted like requests, with the id of the request that opened it.
#[derive(Clone)]
pub(super) struct LoggedSocket {
    pub(super) metrics: Arc<Metrics>,
    pub(super) request_id: String,
    pub(super) route: MatchedPath,
}

impl LoggedSocket {
    /// The span of what is logged about it.
    pub(super) fn span(&self) -> Span {
        tracing::error_span!("request", request_id = self.request_id)
    }

    /// Runs an operation; `status` is that of its outcome.
    pub(super) async fn operation<T>(&self, work: impl Future<Output = T>, status: impl FnOnce(&T) -> u16) -> T {
        let (metrics, id, route) = (Arc::clone(&self.metrics), self.request_id.clone(), self.route.clone());
        let tracked = TrackedRequest::new(metrics, id, Some(route), "WEBSOCKET", self.span());
        tracked.run(work, status).await
    }
}

/// A request being processed. Its line is written when it is dropped: however it ends.
struct TrackedRequest {
    route: Option<MatchedPath>,
    method: &'static str,
    started: Instant,
    status: u16,
    stats: Arc<Mutex<RequestStats>>,
    span: Span,
    metrics: Arc<Metrics>,
}

impl TrackedRequest {
    fn new(
        metrics: Arc<Metrics>,
        request_id: String,
        route: Option<MatchedPath>,
        method: &'static str,
        span: Span,
    ) -> Self {
        metrics.request_started();
        Self {
            route,
            method,
            started: Instant::now(),
            status: CLIENT_CLOSED_REQUEST,
            stats: Arc::new(Mutex::new(RequestStats {
                request_id,
                ..RequestStats::default()
            })),
            span,
            metrics,
        }
    }

    async fn run<T>(mut self, work: impl Future<Output = T>, status: impl FnOnce(&T) -> u16) -> T {
        let (stats, span) = (Arc::clone(&self.stats), self.span.clone());
        let outcome = with_request_stats(stats, work).instrument(span).await;
        self.status = status(&outcome);
        outcome
    }
}

impl Drop for TrackedRequest {
    fn drop(&mut self) {
        let took = self.started.elapsed();
        let stats = std::mem::take(&mut *self.stats.lock().unwrap_or_else(PoisonError::into_inner));
        // A path without a route is the client's own text, and is not logged.
        let path = self.route.as_ref().map_or("none", MatchedPath::as_str);
        let (method, status) = (self.method, self.status);
        self.metrics.request_ended(path, method, status);
        if path == "/graphql" {
            self.metrics.operation(&stats, status, took);
        }
        let (ms, database_ms) = (millis(took), millis(stats.database));
        let RequestStats {
            statements,
            operation,
            codes,
            incidents,
            ..
        } = stats;
        let r#type = operation.as_ref().map(|operation| operation.kind.as_str());
        let operation = operation.and_then(|operation| operation.name);
        let codes: Vec<&str> = codes.iter().map(|code| code.as_str()).collect();
        let (codes, incidents) = (list(&codes), list(&incidents));
        for (name, value) in [
            ("http.route", Some(path)),
            ("http.request.method", Some(method)),
            ("graphql.operation.type", r#type),
        ] {
            if let Some(value) = value {
                self.span.set_attribute(name, value.to_owned());
            }
        }
        self.span.set_attribute("http.response.status_code", i64::from(status));
        self.span
            .set_attribute("db.statements", i64::try_from(statements).unwrap_or(i64::MAX));
        self.span.set_attribute("db.ms", database_ms);
        for (name, value) in [("graphql.operation.name", &operation), ("error.codes", &codes)] {
            if let Some(value) = value {
                self.span.set_attribute(name, value.clone());
            }
        }
        let _entered = self.span.enter();
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(
                    method,
                    path,
                    status,
                    ms,
                    r#type,
                    operation,
                    codes,
                    incidents,
                    statements,
                    database_ms,
                    "request"
                )
            };
        }
        match path {
            // Polled by machines.
            "/healthz" | "/readyz" | "/metrics" if status < 400 => line!(debug),
            _ => line!(info),
        }
    }
}

/// The request's id, and the header that returns it: the client's own id if it is valid, else a new one.
fn request_id(headers: &HeaderMap) -> (String, HeaderValue) {
    if let Some(header) = headers.get(REQUEST_ID)
        && let Ok(id) = header.to_str()
        && (1..=64).contains(&id.len())
        && id
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    {
        return (id.to_owned(), header.clone());
    }
    let id = format!("{:032x}", rand::random::<u128>());
    let header = HeaderValue::from_str(&id).unwrap_or(HeaderValue::from_static("none"));
    (id, header)
}

/// The method as a label of metrics: one of a fixed set.
fn method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        _ => "OTHER",
    }
}

/// Milliseconds, rounded to microseconds.
fn millis(took: Duration) -> f64 {
    (took.as_secs_f64() * 1e6).round() / 1e3
}

/// The words separated by commas; none if there are none.
fn list(words: &[impl AsRef<str>]) -> Option<String> {
    let (first, rest) = words.split_first()?;
    Some(rest.iter().fold(first.as_ref().to_owned(), |mut list, word| {
        let _ = write!(list, ",{}", word.as_ref());
        list
    }))
}
