//! A client of graphql-transport-ws that can do wrong.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use test_support::conformance;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

/// Longer than a token is valid in any test.
const PATIENCE: Duration = Duration::from_secs(90);

pub struct LiveClient {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// The operations by id, with their variables.
    operations: HashMap<String, (String, Value)>,
    /// Messages of other operations that were received while waiting.
    waiting: VecDeque<Value>,
}

impl LiveClient {
    /// Connects with these headers; fails with the status of the answer.
    pub async fn try_connect(base: &str, headers: &[(&'static str, &str)]) -> Result<Self, u16> {
        let url = format!("{}/graphql", base.replacen("http", "ws", 1));
        let mut request = url.into_client_request().unwrap();
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        match connect_async(request).await {
            Ok((socket, _)) => Ok(Self {
                socket,
                operations: HashMap::new(),
                waiting: VecDeque::new(),
            }),
            Err(tungstenite::Error::Http(response)) => Err(response.status().as_u16()),
            Err(error) => panic!("{error}"),
        }
    }

    pub async fn connect(base: &str) -> Self {
        let protocol = [("sec-websocket-protocol", "graphql-transport-ws")];
        Self::try_connect(base, &protocol).await.unwrap()
    }

    /// Connects, and waits until the connection is initialised with this access token.
    pub async fn signed_in(base: &str, token: &str) -> Self {
        let mut client = Self::connect(base).await;
        client
            .send(json!({"type": "connection_init", "payload": authorization(token)}))
            .await;
        assert_eq!(client.receive().await, json!({"type": "connection_ack"}));
        client
    }

    pub async fn send(&mut self, message: Value) {
        self.send_raw(Message::text(message.to_string())).await;
    }

    pub async fn send_raw(&mut self, message: Message) {
        self.socket.send(message).await.unwrap();
    }

    /// The next message; fails if the connection is closed.
    pub async fn receive(&mut self) -> Value {
        match self.next().await {
            Ok(message) => message,
            Err(code) => panic!("closed with {code:?}"),
        }
    }

    /// Waits until the server closes the connection; the code and the reason.
    pub async fn closed(&mut self) -> (u16, String) {
        loop {
            if let Err(close) = self.next().await {
                return close.expect("closed with a code");
            }
        }
    }

    async fn next(&mut self) -> Result<Value, Option<(u16, String)>> {
        timeout(PATIENCE, self.next_message()).await.expect("a message in time")
    }

    async fn next_message(&mut self) -> Result<Value, Option<(u16, String)>> {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Text(text))) => return Ok(serde_json::from_str(&text).unwrap()),
                Some(Ok(Message::Close(frame))) => {
                    let close = frame.map(|frame| (frame.code.into(), frame.reason.to_string()));
                    // Answers the close.
                    while let Some(Ok(_)) = self.socket.next().await {}
                    return Err(close);
                }
                Some(Ok(_)) => {}
                None | Some(Err(_)) => return Err(None),
            }
        }
    }

    pub async fn subscribe(&mut self, id: &str, query: &str, variables: Value) {
        self.send(json!({"id": id, "type": "subscribe", "payload": {"query": query, "variables": variables}}))
            .await;
        self.operations.insert(id.to_owned(), (query.to_owned(), variables));
    }

    /// The next message of an operation.
    pub async fn message(&mut self, id: &str) -> Value {
        if let Some(place) = self.waiting.iter().position(|message| message["id"] == id) {
            return self.waiting.remove(place).unwrap();
        }
        loop {
            let message = self.receive().await;
            if message["id"] == id {
                return message;
            }
            self.waiting.push_back(message);
        }
    }

    /// The next response of an operation, checked against the specification.
    pub async fn answer(&mut self, id: &str) -> Value {
        let mut message = self.message(id).await;
        assert_eq!(message["type"], "next", "{message}");
        let (query, variables) = &self.operations[id];
        let response = message["payload"].take();
        if let Err(violation) = conformance::check(query, None, variables, &response) {
            panic!("{violation}: {query} {variables} {response}");
        }
        response
    }

    /// The data of the next answer, which must have no errors.
    pub async fn data(&mut self, id: &str) -> Value {
        let mut answer = self.answer(id).await;
        assert!(answer.get("errors").is_none(), "{answer}");
        answer["data"].take()
    }

    /// The code of the first of the errors that an operation ends with.
    pub async fn error(&mut self, id: &str) -> String {
        let message = self.message(id).await;
        assert_eq!(message["type"], "error", "{message}");
        message["payload"][0]["extensions"]["code"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    /// Checks that an operation ends without an error.
    pub async fn completed(&mut self, id: &str) {
        let message = self.message(id).await;
        assert_eq!(message, json!({"id": id, "type": "complete"}));
    }

    /// Waits for the answer of a ping, which has everything before it arrived.
    pub async fn ping(&mut self, payload: Value) {
        self.send(json!({"type": "ping", "payload": payload})).await;
        loop {
            let message = self.receive().await;
            if message["type"] == "pong" {
                return;
            }
            self.waiting.push_back(message);
        }
    }

    /// Whether no message of an operation was received so far.
    pub fn is_quiet(&self) -> bool {
        self.waiting.is_empty()
    }
}

/// A payload with an access token.
pub fn authorization(token: &str) -> Value {
    json!({"authorization": format!("Bearer {token}")})
}
