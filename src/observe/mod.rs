//! The log, metrics and traces. They contain nothing about patients: no rows, no variables, no text of queries, no query strings, no
//! values that a database quotes in its errors.
//!
//! Depends on `error` only; handlers of requests record their statistics here.

mod incident;
mod logs;
mod metrics;
mod request_stats;
mod traces;

pub use incident::incident;
pub use logs::{Telemetry, start};
pub use metrics::{Lookup, Metrics, Pool};
pub use request_stats::{
    Operation, OperationKind, RequestStats, record, request_id, with_current_request_stats, with_request_stats,
};
