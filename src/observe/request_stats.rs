//! What is recorded about a request while it runs, for its line in the log and for the metrics.
//!
//! The statistics are a task-local: the store's statements and the conversion of errors know nothing of requests.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::error::ErrorCode;

/// The kind of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OperationKind {
    Query,
    Mutation,
    Subscription,
}

impl OperationKind {
    /// The keyword of GraphQL.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Query => "query",
            Self::Mutation => "mutation",
            Self::Subscription => "subscription",
        }
    }
}

/// The operation of a request.
#[derive(Clone, Debug)]
pub struct Operation {
    pub kind: OperationKind,
    /// The name that the client gave it, cut to 64 characters.
    pub name: Option<String>,
    /// The root fields that it selects, each once.
    pub fields: Vec<String>,
}

/// What is known about a request so far.
#[derive(Clone, Debug, Default)]
pub struct RequestStats {
    /// The value of the `X-Request-Id` header.
    pub request_id: String,
    pub operation: Option<Operation>,
    /// Whether it passed all checks and was executed.
    pub executed: bool,
    /// Codes of the response's errors, each once.
    pub codes: Vec<ErrorCode>,
    /// Ids under which internal errors were logged.
    pub incidents: Vec<String>,
    /// Statements that the database answered.
    pub statements: u64,
    /// Their total time.
    pub database: Duration,
}

impl RequestStats {
    /// Adds an error's code.
    pub fn code(&mut self, code: ErrorCode) {
        if !self.codes.contains(&code) {
            self.codes.push(code);
        }
    }
}

tokio::task_local! {
    static CURRENT: Arc<Mutex<RequestStats>>;
}

/// Runs the work of a request, during which [`record`] writes to these statistics.
pub async fn with_request_stats<T>(stats: Arc<Mutex<RequestStats>>, work: impl Future<Output = T>) -> T {
    CURRENT.scope(stats, work).await
}

/// Lets work that is to be spawned as a task of its own record for the current request.
pub fn with_current_request_stats<T>(work: impl Future<Output = T>) -> impl Future<Output = T> {
    let stats = CURRENT.try_with(Arc::clone).ok();
    async move {
        match stats {
            Some(stats) => with_request_stats(stats, work).await,
            None => work.await,
        }
    }
}

/// Records something about the current request; does nothing outside of a request.
pub fn record(update: impl FnOnce(&mut RequestStats)) {
    let _ = CURRENT.try_with(|stats| update(&mut stats.lock().unwrap_or_else(PoisonError::into_inner)));
}

/// The id of the current request; none outside of a request.
#[must_use]
pub fn request_id() -> Option<String> {
    let id = |stats: &Arc<Mutex<RequestStats>>| stats.lock().unwrap_or_else(PoisonError::into_inner).request_id.clone();
    CURRENT.try_with(id).ok()
}
