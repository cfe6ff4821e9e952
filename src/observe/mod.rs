//! What is seen from outside: the log, metrics, traces. Nothing in them is of a patient: no row, no variable, no text of
//! a query, no query string, no value that a database quotes.

mod logs;
mod metrics;
mod request_stats;
mod traces;

pub use logs::{Telemetry, start};
pub use metrics::{Lookup, Metrics, Pool};
pub use request_stats::{
    Operation, OperationKind, RequestStats, record, request_id, with_current_request_stats, with_request_stats,
};
