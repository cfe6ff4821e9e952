//! Subscriptions: GraphQL over WebSockets by the protocol graphql-transport-ws.
//!
//! Equal subscriptions are one question ([`questions`]). A task of the server asks the database in fixed intervals whether a hospital with
//! subscribers has changed, by one statement each, and has their questions answered again ([`watch`]). Each answer is executed like that
//! of a query. Each subscription sends the newest answer if it differs from the one before ([`stream`]).

mod connection;
mod protocol;
mod questions;
mod stream;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Extension;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{MatchedPath, RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{MissedTickBehavior, interval};

use super::access_log::LoggedSocket;
use super::media_type::MediaType;
use super::peer::Client;
use super::response::RequestError;
use super::{App, graphql};
use crate::config::Limits;
use crate::error::ErrorCode;
use crate::observe::{Metrics, request_id};
use connection::Connection;
use questions::Questions;

/// Bytes that are read from a WebSocket at a time: as much memory is held for each.
const READ_BUFFER: usize = 4 << 10;

/// What the WebSockets of a server share.
pub(super) struct Live {
    questions: Questions,
    /// One for each connection that may be open.
    places: Arc<Semaphore>,
    max_connections: usize,
    /// The connections of each session.
    sessions: Arc<Mutex<HashMap<String, usize>>>,
    max_per_session: usize,
    stopping: watch::Sender<bool>,
    /// Origins whose pages may connect besides the server's own.
    origins: Vec<HeaderValue>,
}

/// An open connection, which is counted until it is dropped.
struct OpenConnection {
    metrics: Arc<Metrics>,
    _permit: OwnedSemaphorePermit,
}

impl OpenConnection {
    fn new(metrics: &Arc<Metrics>, permit: OwnedSemaphorePermit) -> Self {
        metrics.live_connections().inc();
        Self {
            metrics: Arc::clone(metrics),
            _permit: permit,
        }
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.metrics.live_connections().dec();
    }
}

/// A connection of a session, which is counted until it is dropped.
struct SessionPlace {
    family: String,
    sessions: Arc<Mutex<HashMap<String, usize>>>,
}

impl Drop for SessionPlace {
    fn drop(&mut self) {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = sessions.get_mut(&self.family) {
            *count -= 1;
            if *count == 0 {
                sessions.remove(&self.family);
            }
        }
    }
}

impl Live {
    pub(super) fn new(limits: &Limits, origins: Vec<HeaderValue>) -> Self {
        Self {
            questions: Questions::new(limits.database_connections as usize),
            places: Arc::new(Semaphore::new(limits.max_sockets)),
            max_connections: limits.max_sockets,
            sessions: Arc::default(),
            max_per_session: limits.max_sockets_per_session,
            stopping: watch::Sender::new(false),
            origins,
        }
    }

    /// Becomes true when the server stops.
    fn stopping(&self) -> watch::Receiver<bool> {
        self.stopping.subscribe()
    }

    /// Closes all connections, and those that are opened from now on.
    pub(super) fn stop(&self) {
        self.stopping.send_replace(true);
    }

    /// Waits until all connections are closed.
    pub(super) async fn closed(&self) {
        let all = u32::try_from(self.max_connections).unwrap_or(u32::MAX);
        let _ = self.places.acquire_many(all).await;
    }

    /// Counts a connection of a session; none if it has too many.
    fn place(&self, family: &str) -> Option<SessionPlace> {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let count = sessions.entry(family.to_owned()).or_default();
        if *count >= self.max_per_session {
            return None;
        }
        *count += 1;
        Some(SessionPlace {
            family: family.to_owned(),
            sessions: Arc::clone(&self.sessions),
        })
    }
}

/// Has questions answered again when their hospital has changed, until the process ends. Asks nothing while nobody subscribes.
pub(super) async fn watch(app: App) {
    let mut interval = interval(app.limits.live_interval);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut seen = HashMap::new();
    loop {
        interval.tick().await;
        let mut states = HashMap::new();
        for hospital in app.live.questions.hospitals() {
            match app.services.store.live_state(hospital).await {
                Ok(state) => states.extend(state.map(|state| (hospital, state))),
                // The answers tell the subscribers.
                Err(error) => tracing::warn!("changes for subscriptions are unknown: {}", error.for_operator()),
            }
        }
        // Also hospitals that were not watched before: their questions may have been answered before this state.
        let changed = |hospital| !states.contains_key(&hospital) || seen.get(&hospital) != states.get(&hospital);
        app.live.questions.answer_outdated(changed);
        seen = states;
    }
}

/// GET: a WebSocket if the client asks for one, else a query.
pub(super) async fn get(
    state: State<App>,
    client: Extension<Client>,
    route: MatchedPath,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
    headers: HeaderMap,
    query: RawQuery,
) -> Response {
    let asked = headers.get(header::UPGRADE).and_then(|value| value.to_str().ok());
    if !asked.is_some_and(|protocol| protocol.eq_ignore_ascii_case("websocket")) {
        return graphql::get(state, client, headers, query).await;
    }
    match open(state.0, client.0, route, upgrade, &headers) {
        Ok(response) => response,
        Err(error) => error.into_response(MediaType::accepted(&headers).unwrap_or(MediaType::Json)),
    }
}

fn open(
    app: App,
    Client(address): Client,
    route: MatchedPath,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
    headers: &HeaderMap,
) -> Result<Response, RequestError> {
    let upgrade =
        upgrade.map_err(|_| RequestError::bad_request("this is not a handshake of a WebSocket (RFC 6455)"))?;
    if !may_connect(headers, &app.live.origins) {
        return Err(RequestError::new(
            StatusCode::FORBIDDEN,
            ErrorCode::Forbidden,
            "pages of this origin may not connect",
        ));
    }
    let permit = Arc::clone(&app.live.places).try_acquire_owned();
    let permit = permit.map_err(|_| RequestError::wait("too many WebSockets", Duration::from_secs(5)))?;
    let metrics = app.services.store.metrics();
    let open = OpenConnection::new(metrics, permit);
    let log = LoggedSocket {
        metrics: Arc::clone(metrics),
        request_id: request_id().unwrap_or_default(),
        route,
    };
    // A message that is too large, but not by far, is read, so that the client gets to read why the connection is closed.
    let max = 4 * app.limits.max_socket_message_bytes;
    Ok(upgrade
        .protocols([protocol::PROTOCOL])
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(0)
        .max_message_size(max)
        .max_frame_size(max)
        .on_upgrade(move |socket| Connection::new(app, socket, address, log, open).run()))
}

/// Whether the page that connects may: the server's own, or one of an origin that may read responses. Clients that are no browsers send no
/// origin.
fn may_connect(headers: &HeaderMap, origins: &[HeaderValue]) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else {
        return true;
    };
    // A proxy may end TLS, so the scheme is not compared.
    let host = origin
        .to_str()
        .ok()
        .and_then(|origin| Some(origin.split_once("://")?.1));
    let own = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    (host.is_some() && host == own) || origins.contains(origin)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_other_origins_may_not_connect() {
        let allowed = [HeaderValue::from_static("https://console.example")];
        for (origin, may) in [
            (None, true),
            (Some("http://rollcall.example:8080"), true),
            (Some("https://rollcall.example:8080"), true),
            (Some("https://console.example"), true),
            (Some("http://console.example"), false),
            (Some("https://rollcall.example"), false),
            (Some("https://rollcall.example:8080.evil.example"), false),
            (Some("null"), false),
            (Some(""), false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, HeaderValue::from_static("rollcall.example:8080"));
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, HeaderValue::from_static(origin));
            }
            assert_eq!(may_connect(&headers, &allowed), may, "{origin:?}");
        }
    }

    #[test]
    fn a_session_has_so_many_connections() {
        let limits = Limits {
            max_sockets_per_session: 2,
            ..Limits::default()
        };
        let live = Live::new(&limits, Vec::new());
        let first = live.place("a");
        let second = live.place("a");
        assert!(first.is_some() && second.is_some() && live.place("a").is_none());
        assert!(live.place("b").is_some());
        drop(first);
        assert!(live.place("a").is_some());
    }
}
