//! What is asked.

use super::{Day, DayRange, Period, VisitChannel};

/// Which visits count. An absent list lets every visit through. It never changes a history.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Filter {
    pub departments: Option<Vec<i64>>,
    pub doctors: Option<Vec<i64>>,
    pub channels: Option<Vec<VisitChannel>>,
}

impl Filter {
    /// The same filter, with each list in order and without repetition: equal questions compare equal.
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

    /// Whether every visit passes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.departments.is_none() && self.doctors.is_none() && self.channels.is_none()
    }
}

/// A question about a hospital's visits.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Question {
    pub period: Period,
    pub range: DayRange,
    pub as_of: Day,
    pub filter: Filter,
}
