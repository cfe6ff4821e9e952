//! What is seen from outside: the log, metrics, traces. Nothing in them is of a patient: no row, no variable, no text of
//! a query, no query string, no value that a database quotes.

mod logs;
mod metrics;
mod notes;
mod traces;

pub use logs::{Observing, start};
pub use metrics::{Lookup, Metrics, Pool};
pub use notes::{Notes, Operation, OperationKind, note, noting, request_id, with_current_notes};
