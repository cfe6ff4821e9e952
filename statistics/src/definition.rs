//! The rules of a hospital by which visits and patients are counted.

/// One version of a hospital's rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Definition {
    /// Counts the hospital's versions from 1; 0 where the rules are proposed only.
    pub version: i32,
    /// A new patient silent for this many days or more, at asOf, is suspected of having left. At least 1.
    pub churn_after_days: i32,
    /// A BOOKED visit this many days past its date counts as a no-show; none: only NO_SHOW does. At least 1.
    pub overdue_after_days: Option<i32>,
}

impl Definition {
    /// Rules that nobody has published.
    #[must_use]
    pub const fn proposed(churn_after_days: i32, overdue_after_days: Option<i32>) -> Self {
        Self {
            version: 0,
            churn_after_days,
            overdue_after_days,
        }
    }

    /// Whether they are proposed only.
    #[must_use]
    pub const fn is_proposed(&self) -> bool {
        self.version == 0
    }
}
