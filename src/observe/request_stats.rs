//! What a request notes of itself while it runs, for its line in the log and for the metrics.
//!
//! They travel as a task-local: the store's statements and the conversion of errors know nothing of requests.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::error::ErrorCode;

/// What kind of operation a request asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OperationKind {
    Query,
    Mutation,
}

impl OperationKind {
    /// The kind as GraphQL says it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Query => "query",
            Self::Mutation => "mutation",
        }
    }
}

/// The operation that a request asked for.
#[derive(Clone, Debug)]
pub struct Operation {
    pub kind: OperationKind,
    /// What the client calls it: a GraphQL name of 64 characters at most.
    pub name: Option<String>,
    /// Its root fields, each once, of those that the schema has.
    pub fields: Vec<String>,
}

/// What is noted so far.
#[derive(Clone, Debug, Default)]
pub struct RequestStats {
    /// The id that the request goes by.
    pub request_id: String,
    pub operation: Option<Operation>,
    /// Whether it passed every check and was executed.
    pub executed: bool,
    /// Codes of the answer's errors, each once.
    pub codes: Vec<ErrorCode>,
    /// Under which names the log says more of internal errors.
    pub incidents: Vec<String>,
    /// Statements that the database has answered.
    pub statements: u64,
    /// How long they took together.
    pub database: Duration,
}

impl RequestStats {
    /// Notes an error's code.
    pub fn code(&mut self, code: ErrorCode) {
        if !self.codes.contains(&code) {
            self.codes.push(code);
        }
    }
}

tokio::task_local! {
    static NOTES: Arc<Mutex<RequestStats>>;
}

/// Does the work of a request, which notes what it does.
pub async fn with_request_stats<T>(notes: Arc<Mutex<RequestStats>>, work: impl Future<Output = T>) -> T {
    NOTES.scope(notes, work).await
}

/// Lets work that is to be spawned note for the request that runs now.
pub fn with_current_request_stats<T>(work: impl Future<Output = T>) -> impl Future<Output = T> {
    let notes = NOTES.try_with(Arc::clone).ok();
    async move {
        match notes {
            Some(notes) => with_request_stats(notes, work).await,
            None => work.await,
        }
    }
}

/// Notes something of the request that runs; outside of any, nothing.
pub fn record(what: impl FnOnce(&mut RequestStats)) {
    let _ = NOTES.try_with(|notes| what(&mut notes.lock().unwrap_or_else(PoisonError::into_inner)));
}

/// The id of the request that runs; none outside of any.
#[must_use]
pub fn request_id() -> Option<String> {
    let noted =
        |notes: &Arc<Mutex<RequestStats>>| notes.lock().unwrap_or_else(PoisonError::into_inner).request_id.clone();
    NOTES.try_with(noted).ok()
}
