//! The messages of [graphql-transport-ws](https://github.com/enisdenjo/graphql-ws/blob/master/PROTOCOL.md), and the codes that close
//! a connection.

use axum::body::to_bytes;
use axum::extract::ws::{CloseFrame, Message};
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::http::graphql::Params;
use crate::http::media_type::MediaType;
use crate::http::response::RequestError;

/// The name of the protocol.
pub(super) const PROTOCOL: &str = "graphql-transport-ws";

/// Characters of an operation's id.
const MAX_ID_LENGTH: usize = 255;

/// Why the server closes a connection. The codes are those of the protocol and of WebSocket (RFC 6455).
#[derive(Clone, Copy)]
pub(super) struct Close(u16, &'static str);

pub(super) const STOPPING: Close = Close(1001, "the server is stopping: connect again");
pub(super) const BAD_MESSAGE: Close = Close(4400, "not a message of graphql-transport-ws, or too large");
pub(super) const NOT_INITIALISED: Close = Close(4401, "send connection_init and wait for connection_ack first");
pub(super) const NO_TOKEN: Close = Close(
    4401,
    "the payload's authorization must be \"Bearer \" and a valid access token",
);
pub(super) const OTHER_VIEWER: Close = Close(4401, "the token is of another account or role: open a new connection");
pub(super) const TOKEN_EXPIRED: Close = Close(
    4401,
    "the access token has expired: refresh the session and connect again",
);
pub(super) const OTHER_PROTOCOL: Close = Close(4406, "the subprotocol must be graphql-transport-ws");
pub(super) const INITIALISED_LATE: Close = Close(4408, "connection_init did not come in time");
pub(super) const DUPLICATE_ID: Close = Close(4409, "an operation with this id is running");
pub(super) const INITIALISED_TWICE: Close = Close(4429, "connection_init was sent twice");
pub(super) const TOO_MANY_CONNECTIONS: Close = Close(4429, "this session has too many connections");
pub(super) const TOO_MANY_MESSAGES: Close = Close(4429, "too many messages");

impl Close {
    pub(super) const fn code(self) -> u16 {
        self.0
    }

    pub(super) fn message(self) -> Message {
        Message::Close(Some(CloseFrame {
            code: self.0,
            reason: self.1.into(),
        }))
    }
}

/// A message of a client.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum ClientMessage {
    ConnectionInit { payload: Option<Map<String, Value>> },
    Ping { payload: Option<Map<String, Value>> },
    Pong {},
    Subscribe { id: String, payload: Params },
    Complete { id: String },
}

impl ClientMessage {
    /// Parses a message; none if it is not one of the protocol.
    pub(super) fn parse(text: &str) -> Option<Self> {
        // Serde would read an array as the values of the object in their order.
        let message = serde_json::from_str(text)
            .ok()
            .filter(|_| text.trim_start().starts_with('{'))?;
        match &message {
            Self::Subscribe { id, .. } if id.is_empty() || id.len() > MAX_ID_LENGTH => None,
            _ => Some(message),
        }
    }
}

/// The access token of a payload, as `Bearer …`.
pub(super) fn authorization(payload: Option<&Map<String, Value>>) -> Option<&str> {
    let mut entries = payload?.iter();
    let (_, value) = entries.find(|(key, _)| key.eq_ignore_ascii_case("authorization"))?;
    value.as_str()
}

/// The outcome of an operation, or one of a subscription, as JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Payload {
    /// It was executed: a response with `data`.
    Next(String),
    /// It was not: the list of errors.
    Error(String),
}

impl Payload {
    /// That of a response over HTTP.
    pub(super) async fn of(response: Response) -> Self {
        let executed = response.status().is_success();
        // The body is in memory.
        let body = to_bytes(response.into_body(), usize::MAX).await.unwrap_or_default();
        let text = String::from_utf8_lossy(&body).into_owned();
        if executed {
            return Self::Next(text);
        }
        match serde_json::from_str::<Value>(&text) {
            // Executed with errors of which one has a status of its own.
            Ok(body) if body.get("data").is_some() => Self::Next(text),
            _ => Self::errors_of(&text),
        }
    }

    pub(super) async fn of_error(error: RequestError) -> Self {
        Self::of(error.into_response(MediaType::GraphqlResponse)).await
    }

    fn errors_of(response: &str) -> Self {
        let body: Value = serde_json::from_str(response).unwrap_or_default();
        Self::Error(body["errors"].to_string())
    }

    /// Its errors alone.
    pub(super) fn errors(&self) -> Self {
        match self {
            Self::Next(response) => Self::errors_of(response),
            Self::Error(_) => self.clone(),
        }
    }

    pub(super) const fn is_next(&self) -> bool {
        matches!(self, Self::Next(_))
    }

    /// The status that the log has of it.
    pub(super) const fn status(&self) -> u16 {
        match self {
            Self::Next(_) => 200,
            Self::Error(_) => 400,
        }
    }

    pub(super) fn message(&self, id: &str) -> Message {
        let (kind, payload) = match self {
            Self::Next(response) => ("next", response),
            Self::Error(errors) => ("error", errors),
        };
        Message::text(format!(r#"{{"id":{},"type":"{kind}","payload":{payload}}}"#, json!(id)))
    }
}

pub(super) fn connection_ack() -> Message {
    Message::text(r#"{"type":"connection_ack"}"#)
}

pub(super) fn pong() -> Message {
    Message::text(r#"{"type":"pong"}"#)
}

pub(super) fn complete(id: &str) -> Message {
    Message::text(json!({"id": id, "type": "complete"}).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_messages_of_the_protocol_are_parsed() {
        for text in [
            r#"{"type": "connection_init"}"#,
            r#"{"type": "connection_init", "payload": null}"#,
            r#"{"type": "ping", "payload": {"authorization": "Bearer x"}}"#,
            r#"{"type": "pong", "payload": {}}"#,
            r#"{"type": "subscribe", "id": "1", "payload": {"query": "{ a }", "variables": null, "extensions": {}}}"#,
            r#" {"id": "1", "type": "complete"}"#,
        ] {
            assert!(ClientMessage::parse(text).is_some(), "{text}");
        }
        let long = format!(
            r#"{{"type": "subscribe", "id": "{}", "payload": {{}}}}"#,
            "x".repeat(256)
        );
        for text in [
            "",
            "[]",
            r#"["ping"]"#,
            r#"{"type": "next"}"#,
            r#"{"type": "subscribe", "id": "1"}"#,
            r#"{"type": "subscribe", "id": "", "payload": {"query": "{ a }"}}"#,
            r#"{"type": "subscribe", "id": 1, "payload": {"query": "{ a }"}}"#,
            r#"{"type": "subscribe", "id": "1", "payload": {"query": 1}}"#,
            r#"{"type": "connection_init", "payload": "x"}"#,
            r#"{"type": "complete"}"#,
            &long,
        ] {
            assert!(ClientMessage::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn the_token_is_found_in_any_case() {
        let payload = |text: &str| serde_json::from_str::<Map<String, Value>>(text).unwrap();
        for (text, found) in [
            (r#"{"authorization": "Bearer x"}"#, Some("Bearer x")),
            (r#"{"a": 1, "Authorization": "Bearer x"}"#, Some("Bearer x")),
            (r#"{"authorization": 1}"#, None),
            ("{}", None),
        ] {
            assert_eq!(authorization(Some(&payload(text))), found, "{text}");
        }
        assert_eq!(authorization(None), None);
    }
}
