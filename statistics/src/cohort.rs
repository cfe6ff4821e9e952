//! The eight cohorts, and the six disjoint segments that they are made of.

use std::ops::Range;
use string_enum::string_enum;

string_enum!(
    /// What a list of patients and visits is a list of.
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

/// A part of a bucket that no other part shares a visit with. Their order makes every cohort a run of
/// neighbours: NEW = CHURN_SUSPECTED ⊎ RETAINED ⊎ PENDING, VISITORS = NEW ⊎ RETURNING.
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
    pub(crate) const COUNT: usize = 6;
}

impl CohortKind {
    /// The segments that make the cohort.
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
