//! The pure core: a question and a ledger go in, a snapshot with its lists comes out.
//!
//! Nothing here does I/O, knows a clock or waits. `docs/data/definitions.md` defines the words.

mod bits;
mod calendar;
mod changes;
mod cohort;
mod definition;
mod digest;
mod explain;
mod ledger;
mod packed;
mod question;
mod resolve;
mod snapshot;
mod visit;

pub use calendar::{Bucket, Day, DayRange, Period, WeekStart};
pub use changes::{Differences, Merge, Reason, ReasonKind, Side, VisitDelta, reasons};
pub use cohort::CohortKind;
pub use definition::Definition;
pub use digest::{list_digest, sha256};
pub use explain::{MembershipFinding, PatientEvaluation, Rule};
pub use ledger::{Ledger, LedgerBuilder, MAX_PLACES, TooManyKeys, VisitRow};
pub use packed::{PackedSnapshot, UnpackError};
pub use question::{Filter, Question};
pub use resolve::resolve;
pub use snapshot::{BucketRef, CohortList, CountedPatient, CountedVisit, PatientOrder, Snapshot, VisitOrder};
pub use visit::{VisitChannel, VisitStatus};
