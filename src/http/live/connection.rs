//! One WebSocket: its messages, its session and its operations.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{Message, WebSocket};
use serde_json::{Map, Value};
use tokio::sync::watch;
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio::time::{Instant, interval, sleep_until, timeout};
use tracing::Instrument as _;

use super::protocol::{self, ClientMessage, Close, Payload};
use super::questions::Asking;
use super::stream::{Sent, Stream};
use super::{OpenConnection, SessionPlace};
use crate::auth::AccessToken;
use crate::http::App;
use crate::http::access_log::LoggedSocket;
use crate::http::authentication::{Credentials, verify};
use crate::http::graphql::{self, Params, Sender};
use crate::http::media_type::MediaType;
use crate::http::response::RequestError;
use crate::observe::{OperationKind, RequestStats, with_request_stats};

/// How long a client has to answer that it closes, too.
const CLOSING_TIME: Duration = Duration::from_secs(2);

/// Why a connection ends.
enum End {
    /// The server closes it.
    Close(Close),
    /// The client closes it.
    ClosedByClient,
    /// The client is gone, or reads too slowly.
    Gone,
}

pub(super) struct Connection {
    app: App,
    socket: WebSocket,
    address: IpAddr,
    log: LoggedSocket,
    opened: Instant,
    /// When the client was last heard of.
    heard: Instant,
    session: Option<Session>,
    /// The tasks of running operations.
    operations: HashMap<String, AbortHandle>,
    tasks: JoinSet<(String, Outcome)>,
    _open: OpenConnection,
}

/// The session of a connection, by the newest access token.
struct Session {
    token: AccessToken,
    ends: Instant,
    _place: SessionPlace,
}

/// What an operation sends next.
enum Outcome {
    /// The response to a query or mutation, or why there is none.
    Response(Payload),
    Subscription(Sent),
}

impl Connection {
    pub(super) fn new(app: App, socket: WebSocket, address: IpAddr, log: LoggedSocket, open: OpenConnection) -> Self {
        let now = Instant::now();
        Self {
            app,
            socket,
            address,
            log,
            opened: now,
            heard: now,
            session: None,
            operations: HashMap::new(),
            tasks: JoinSet::new(),
            _open: open,
        }
    }

    /// Serves the connection until it ends.
    pub(super) async fn run(mut self) {
        let end = match self
            .socket
            .protocol()
            .is_some_and(|protocol| protocol == protocol::PROTOCOL)
        {
            true => self.serve().await,
            false => End::Close(protocol::OTHER_PROTOCOL),
        };
        self.forget_operations();
        let code = match end {
            End::Close(close) => {
                // Fails if the client is gone.
                let _ = self.send(close.message()).await;
                self.finish_closing().await;
                Some(close.code())
            }
            End::ClosedByClient => {
                self.finish_closing().await;
                None
            }
            End::Gone => None,
        };
        let seconds = self.opened.elapsed().as_secs();
        self.log
            .span()
            .in_scope(|| tracing::info!(code, seconds, "a WebSocket was closed"));
    }

    /// Exchanges the last frames with the client.
    async fn finish_closing(&mut self) {
        let rest = async { while let Some(Ok(_)) = self.socket.recv().await {} };
        // Else the client is gone.
        let _ = timeout(CLOSING_TIME, rest).await;
    }

    async fn serve(&mut self) -> End {
        let mut stopping = self.app.live.stopping();
        let ping_interval = self.app.limits.live_ping_interval;
        let mut pings = interval(ping_interval);
        loop {
            let (deadline, late) = self.deadline();
            let served = tokio::select! {
                message = self.socket.recv() => {
                    self.heard = Instant::now();
                    match message {
                        Some(Ok(Message::Text(text))) if text.len() <= self.app.limits.max_socket_message_bytes => {
                            self.receive(text.as_str()).await
                        }
                        Some(Ok(Message::Ping(_) | Message::Pong(_))) => Ok(()),
                        Some(Ok(Message::Text(_) | Message::Binary(_)) | Err(_)) => Err(End::Close(protocol::BAD_MESSAGE)),
                        Some(Ok(Message::Close(_))) => Err(End::ClosedByClient),
                        None => Err(End::Gone),
                    }
                }
                Some(done) = self.tasks.join_next_with_id() => match done {
                    Ok((task, (id, outcome))) => self.send_outcome(task, id, outcome).await,
                    Err(error) => self.send_failure(&error).await,
                },
                () = sleep_until(deadline) => Err(End::Close(late)),
                _ = pings.tick() => match self.heard.elapsed() > 2 * ping_interval {
                    true => Err(End::Gone),
                    false => self.send(Message::Ping(Default::default())).await,
                },
                () = is_stopping(&mut stopping) => Err(End::Close(protocol::STOPPING)),
            };
            if let Err(end) = served {
                return end;
            }
        }
    }

    /// When the connection must be initialised, or its token has expired, and how it ends then.
    fn deadline(&self) -> (Instant, Close) {
        match &self.session {
            None => (
                self.opened + self.app.limits.live_init_timeout,
                protocol::INITIALISED_LATE,
            ),
            Some(session) => (session.ends, protocol::TOKEN_EXPIRED),
        }
    }

    /// Sends a message. A client that does not read it in time is gone: nothing is buffered for it.
    async fn send(&mut self, message: Message) -> Result<(), End> {
        let sent = timeout(self.app.limits.live_send_timeout, self.socket.send(message)).await;
        match sent {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(End::Gone),
        }
    }

    async fn receive(&mut self, text: &str) -> Result<(), End> {
        let message = ClientMessage::parse(text).ok_or(End::Close(protocol::BAD_MESSAGE))?;
        // Operations are counted when they are executed.
        if !matches!(message, ClientMessage::Subscribe { .. }) && self.app.rates.check_address(self.address).is_err() {
            return Err(End::Close(protocol::TOO_MANY_MESSAGES));
        }
        match message {
            ClientMessage::ConnectionInit { payload } => self.initialise(payload.as_ref()).await,
            ClientMessage::Ping { payload } => {
                self.renew(payload.as_ref())?;
                self.send(protocol::pong()).await
            }
            ClientMessage::Pong {} => Ok(()),
            ClientMessage::Subscribe { id, payload } => self.start(id, payload).await,
            ClientMessage::Complete { id } => {
                if let Some(operation) = self.forget(&id) {
                    operation.abort();
                }
                Ok(())
            }
        }
    }

    async fn initialise(&mut self, payload: Option<&Map<String, Value>>) -> Result<(), End> {
        if self.session.is_some() {
            return Err(End::Close(protocol::INITIALISED_TWICE));
        }
        let token = protocol::authorization(payload).and_then(|text| verify(&self.app, text));
        let token = token.ok_or(End::Close(protocol::NO_TOKEN))?;
        let place = self.app.live.place(&token.family);
        let place = place.ok_or(End::Close(protocol::TOO_MANY_CONNECTIONS))?;
        self.session = Some(Session {
            ends: Instant::now() + token.valid_for,
            token,
            _place: place,
        });
        self.send(protocol::connection_ack()).await
    }

    /// Continues the session by the new access token that the payload of a ping may have.
    fn renew(&mut self, payload: Option<&Map<String, Value>>) -> Result<(), End> {
        let (Some(session), Some(authorization)) = (&mut self.session, protocol::authorization(payload)) else {
            return Ok(());
        };
        let token = verify(&self.app, authorization).ok_or(End::Close(protocol::NO_TOKEN))?;
        if token.viewer != session.token.viewer {
            return Err(End::Close(protocol::OTHER_VIEWER));
        }
        session.ends = Instant::now() + token.valid_for;
        session.token = token;
        Ok(())
    }

    /// Starts an operation.
    async fn start(&mut self, id: String, params: Params) -> Result<(), End> {
        let Some(session) = &self.session else {
            return Err(End::Close(protocol::NOT_INITIALISED));
        };
        if self.operations.contains_key(&id) {
            return Err(End::Close(protocol::DUPLICATE_ID));
        }
        let limited = match self.app.rates.check_address(self.address) {
            Err(wait) => Some(RequestError::rate_limited(wait)),
            Ok(()) if self.operations.len() >= self.app.limits.max_operations_per_socket => Some(RequestError::wait(
                "too many operations of this connection",
                Duration::from_secs(1),
            )),
            Ok(()) => None,
        };
        if let Some(error) = limited {
            return self.send(Payload::of_error(error).await.message(&id)).await;
        }
        let (app, token, address, log) = (self.app.clone(), session.token.clone(), self.address, self.log.clone());
        let own_id = id.clone();
        let task = self.tasks.spawn(async move {
            let first = log.operation(first_outcome(app, token, address, params), Outcome::status);
            (own_id, first.await)
        });
        self.app.services.store.metrics().live_subscriptions().inc();
        self.operations.insert(id, task);
        Ok(())
    }

    async fn send_outcome(&mut self, task: Id, id: String, outcome: Outcome) -> Result<(), End> {
        // It may have been completed by the client meanwhile, and its id used again.
        if self.operations.get(&id).is_none_or(|running| running.id() != task) {
            return Ok(());
        }
        let (payload, ended) = match outcome {
            Outcome::Subscription(Sent::Answer(answer, stream)) => {
                self.send(answer.payload.message(&id)).await?;
                let stats = RequestStats {
                    request_id: self.log.request_id.clone(),
                    ..RequestStats::default()
                };
                let own_id = id.clone();
                let next = async move { (own_id, Outcome::Subscription(stream.next().await)) };
                let next = with_request_stats(Arc::new(stats.into()), next).instrument(self.log.span());
                let task = self.tasks.spawn(next);
                self.operations.insert(id, task);
                return Ok(());
            }
            Outcome::Subscription(Sent::Last(answer)) => (answer.payload.clone(), answer.payload.is_next()),
            Outcome::Subscription(Sent::Failed(payload)) => (payload, false),
            Outcome::Response(payload) => {
                let ended = payload.is_next();
                (payload, ended)
            }
        };
        self.forget(&id);
        self.send(payload.message(&id)).await?;
        // A message of the type error ends an operation by itself.
        match ended {
            true => self.send(protocol::complete(&id)).await,
            false => Ok(()),
        }
    }

    /// Tells the client that an operation's task has failed.
    async fn send_failure(&mut self, error: &JoinError) -> Result<(), End> {
        let failed = self.operations.iter().find(|(_, running)| running.id() == error.id());
        // The client may have completed it: then it was cancelled.
        let Some((id, _)) = failed else { return Ok(()) };
        let id = id.clone();
        self.forget(&id);
        let error = RequestError::internal(&format!("an operation failed: {error}"));
        self.send(Payload::of_error(error).await.message(&id)).await
    }

    fn forget(&mut self, id: &str) -> Option<AbortHandle> {
        let operation = self.operations.remove(id)?;
        self.app.services.store.metrics().live_subscriptions().dec();
        Some(operation)
    }

    fn forget_operations(&mut self) {
        self.tasks.abort_all();
        let ids: Vec<String> = self.operations.keys().cloned().collect();
        for id in ids {
            self.forget(&id);
        }
    }
}

/// A connection that is dropped at any await.
impl Drop for Connection {
    fn drop(&mut self) {
        self.forget_operations();
    }
}

async fn is_stopping(stopping: &mut watch::Receiver<bool>) {
    // Fails if the server is gone.
    let _ = stopping.wait_for(|stopping| *stopping).await;
}

/// The first outcome of an operation.
async fn first_outcome(app: App, token: AccessToken, address: IpAddr, params: Params) -> Outcome {
    let media_type = MediaType::GraphqlResponse;
    let prepared = match graphql::prepare(&app, media_type, params) {
        Ok(prepared) => prepared,
        Err(error) => return Outcome::Response(Payload::of_error(error).await),
    };
    if prepared.kind() == OperationKind::Subscription {
        let field = prepared.fields().first().cloned().unwrap_or_default();
        return match prepared.of_viewer(&app, &token.viewer) {
            Ok(operation) => {
                let asking = Asking {
                    operation,
                    is_polled: field == POLLED_FIELD,
                    token,
                    address,
                };
                Outcome::Subscription(Box::new(Stream::new(&app, asking, field)).next().await)
            }
            Err(error) => Outcome::Response(Payload::of_error(error).await),
        };
    }
    let Ok(_running) = app.rates.start_request() else {
        let error = RequestError::rate_limited(Duration::from_secs(1));
        return Outcome::Response(Payload::of_error(error).await);
    };
    let sender = Sender {
        credentials: Credentials::Verified(&token),
        address,
        by_get: false,
    };
    let limit = app.limits.request_timeout;
    let answered = timeout(limit, graphql::answer(&app, &sender, media_type, prepared)).await;
    Outcome::Response(match answered {
        Ok(response) => Payload::of(response).await,
        Err(_) => Payload::of_error(RequestError::timed_out(limit)).await,
    })
}

/// The subscription whose answers do not depend on the hospital's revision.
const POLLED_FIELD: &str = "importProgress";

impl Outcome {
    /// The status that the log has of it.
    fn status(&self) -> u16 {
        match self {
            Self::Response(payload) | Self::Subscription(Sent::Failed(payload)) => payload.status(),
            Self::Subscription(Sent::Answer(..) | Sent::Last(_)) => 200,
        }
    }
}
