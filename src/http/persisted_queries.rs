//! Automatic persisted queries, as Apollo's clients speak them: a query that is known may be sent as its SHA-256 alone. It saves
//! bytes and permits nothing: what is known is checked as if it had been sent.

use std::fmt::Write as _;
use std::sync::Arc;

use moka::sync::Cache;
use serde_json::{Map, Value};

use super::query_limits::Rejection;
use crate::config::LIMITS;
use crate::error::ErrorCode;
use crate::statistics::sha256;

/// Texts of queries by the hexadecimal SHA-256, bounded; variables are never kept.
pub(super) struct PersistedQueries(Cache<String, Arc<str>>);

impl Default for PersistedQueries {
    fn default() -> Self {
        let weigh = |_: &String, query: &Arc<str>| u32::try_from(query.len() + 64).unwrap_or(u32::MAX);
        Self(Cache::builder().max_capacity(LIMITS.persisted).weigher(weigh).build())
    }
}

impl PersistedQueries {
    /// The query that a request asks for, and by which hash it wants to be known from now on.
    pub(super) fn query(
        &self,
        sent: Option<String>,
        extensions: Option<&Map<String, Value>>,
    ) -> Result<(String, Option<String>), Rejection> {
        let hash = extensions
            .and_then(|extensions| extensions.get("persistedQuery"))
            .map(hash)
            .transpose()?;
        match (sent, hash) {
            (Some(query), None) => Ok((query, None)),
            (Some(query), Some(hash)) if hex(&sha256(query.as_bytes())) == hash => Ok((query, Some(hash))),
            (Some(_), Some(_)) => Err(unusable("sha256Hash is not the query's")),
            (None, Some(hash)) => match self.0.get(&hash) {
                Some(query) => Ok((query.to_string(), None)),
                None => Err(Rejection {
                    code: ErrorCode::PersistedQueryNotFound,
                    // The words that clients look for.
                    message: "PersistedQueryNotFound".to_owned(),
                    location: None,
                    more: Vec::new(),
                }),
            },
            (None, None) => Err(Rejection {
                code: ErrorCode::BadUserInput,
                message: "query is missing".to_owned(),
                location: None,
                more: Vec::new(),
            }),
        }
    }

    /// Keeps a query that was taken.
    pub(super) fn keep(&self, hash: String, query: &str) {
        self.0.insert(hash, query.into());
    }
}

fn hash(extension: &Value) -> Result<String, Rejection> {
    if extension["version"] != 1 {
        return Err(unusable("version must be 1"));
    }
    match extension["sha256Hash"].as_str() {
        Some(hash) if hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            Ok(hash.to_ascii_lowercase())
        }
        _ => Err(unusable("sha256Hash must be 64 hexadecimal digits")),
    }
}

fn unusable(why: &str) -> Rejection {
    Rejection {
        code: ErrorCode::BadUserInput,
        message: format!("extensions.persistedQuery: {why}"),
        location: None,
        more: vec![("argument", "extensions.persistedQuery".into())],
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
