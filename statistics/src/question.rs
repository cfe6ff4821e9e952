//! What statistics are computed for: a period, a range, asOf and a filter.

use super::{Day, DayRange, Period, VisitChannel};

/// Which visits count. `None` lets every visit pass; an empty list lets none pass. A filter never changes a patient's history.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Filter {
    /// Ids of departments.
    pub departments: Option<Vec<i64>>,
    /// Ids of doctors.
    pub doctors: Option<Vec<i64>>,
    pub channels: Option<Vec<VisitChannel>>,
}

impl Filter {
    /// The same filter with each list sorted and without duplicates, so that equal filters compare equal.
    #[must_use]
    pub fn normalized(mut self) -> Self {
        for ids in [&mut self.departments, &mut self.doctors].into_iter().flatten() {
            ids.sort_unstable();
            ids.dedup();
        }
        if let Some(channels) = &mut self.channels {
            channels.sort_unstable();
            channels.dedup();
        }
        self
    }

    /// Whether there is no condition, so that every visit passes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.departments.is_none() && self.doctors.is_none() && self.channels.is_none()
    }
}

/// A question about a hospital's visits.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Question {
    /// The calendar unit of the buckets.
    pub period: Period,
    /// The days that the buckets cover.
    pub range: DayRange,
    /// Visits dated later do not count.
    pub as_of: Day,
    pub filter: Filter,
}
