//! Apollo's automatic persisted queries: a known query may be sent as its SHA-256 only. That saves bytes and allows nothing more: a
//! persisted query is checked like any other.

use std::sync::Arc;

use moka::sync::Cache;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use super::query_limits::Rejection;
use crate::error::ErrorCode;

/// Texts of queries by their SHA-256 in hexadecimal; variables are not stored.
pub(super) struct PersistedQueries(Cache<String, Arc<str>>);

impl PersistedQueries {
    pub(super) fn new(capacity_bytes: u64) -> Self {
        let weigh = |_: &String, query: &Arc<str>| u32::try_from(query.len() + 64).unwrap_or(u32::MAX);
        Self(Cache::builder().max_capacity(capacity_bytes).weigher(weigh).build())
    }

    /// The text of a request's query, and the hash to store it under, if it is to be stored.
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
            (Some(query), Some(hash)) if hex::encode(Sha256::digest(&query)) == hash => Ok((query, Some(hash))),
            (Some(_), Some(_)) => Err(invalid("sha256Hash is not the hash of the query")),
            (None, Some(hash)) => match self.0.get(&hash) {
                Some(query) => Ok((query.to_string(), None)),
                None => Err(Rejection {
                    code: ErrorCode::PersistedQueryNotFound,
                    // Clients look for exactly this text.
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

    /// Stores a query that passed all checks and was sent by a signed-in viewer.
    pub(super) fn insert(&self, hash: String, query: &str) {
        self.0.insert(hash, query.into());
    }
}

fn hash(extension: &Value) -> Result<String, Rejection> {
    if extension["version"] != 1 {
        return Err(invalid("version must be 1"));
    }
    match extension["sha256Hash"].as_str() {
        Some(hash) if hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            Ok(hash.to_ascii_lowercase())
        }
        _ => Err(invalid("sha256Hash must be 64 hexadecimal digits")),
    }
}

fn invalid(why: &str) -> Rejection {
    Rejection {
        code: ErrorCode::BadUserInput,
        message: format!("extensions.persistedQuery: {why}"),
        location: None,
        more: vec![("argument", "extensions.persistedQuery".into())],
    }
}
