//! The statistics core: computes a [`Snapshot`], with its lists of patients and visits, from a [`Ledger`] and a [`Question`].
//!
//! It does no I/O, reads no clock and is not async. `docs/data/definitions.md` defines the terms.

mod bit_set;
mod calendar;
mod changes;
mod cohort;
mod definition;
mod digest;
mod explain;
mod ledger;
mod packed;
mod parts;
mod question;
mod resolve;
mod retention;
mod sets;
mod snapshot;
mod visit;

pub use calendar::{Bucket, Day, DayRange, Period, WeekStart};
pub use changes::{Differences, Merge, Reason, ReasonKind, Side, VisitDelta, reasons};
pub use cohort::CohortKind;
pub use definition::Definition;
pub use digest::list_digest;
pub use explain::{MembershipFinding, MembershipRule, PatientEvaluation, when};
pub use ledger::{Ledger, LedgerBuilder, MAX_DIMENSION_IDS, TooManyIds, VisitRow};
pub use packed::{PackedSnapshot, UnpackError};
pub use parts::{VisitDimension, VisitKey, VisitKeys, VisitPart};
pub use question::{Filter, Question};
pub use resolve::resolve;
pub use retention::{Cell, Retention};
pub use sets::{SetExpression, combine};
pub use snapshot::{BucketRef, CohortList, CountedPatient, CountedVisit, PatientSortKey, Snapshot, VisitSortKey};
pub use visit::{VisitChannel, VisitStatus};
