//! The eight cohorts, and the six disjoint segments that they consist of.

use std::ops::Range;
use string_enum::string_enum;

string_enum!(
    /// A cohort of a bucket; `docs/data/definitions.md` defines each.
    CohortKind {
        Visitors = "VISITORS",
        New = "NEW",
        Returning = "RETURNING",
        ChurnSuspected = "CHURN_SUSPECTED",
        Retained = "RETAINED",
        Pending = "PENDING",
        NoShow = "NO_SHOW",
        Canceled = "CANCELED",
    }
);

/// A part of a bucket; each counted visit is in exactly one.
///
/// They are ordered so that the segments of every cohort are adjacent: NEW = CHURN_SUSPECTED + RETAINED + PENDING, and
/// VISITORS = NEW + RETURNING.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Segment {
    ChurnSuspected,
    Retained,
    Pending,
    Returning,
    NoShow,
    Canceled,
}

impl Segment {
    /// The number of segments.
    pub(crate) const COUNT: usize = 6;
}

impl CohortKind {
    /// The segments of the cohort, by discriminant.
    pub(crate) const fn segments(self) -> Range<usize> {
        match self {
            Self::Visitors => 0..4,
            Self::New => 0..3,
            Self::ChurnSuspected => 0..1,
            Self::Retained => 1..2,
            Self::Pending => 2..3,
            Self::Returning => 3..4,
            Self::NoShow => 4..5,
            Self::Canceled => 5..6,
        }
    }
}
