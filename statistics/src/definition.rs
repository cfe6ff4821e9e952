//! The definition of a hospital: the numbers of days by which its patients and visits are classified.

/// One version of a hospital's definition. `docs/data/definitions.md` says what its numbers mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Definition {
    /// The version, from 1 in each hospital; 0 for a proposed definition.
    pub version: i32,
    /// In days, at least 1: a NEW patient whose last visit is this long or longer before asOf is CHURN_SUSPECTED.
    pub churn_after_days: i32,
    /// In days, at least 1: a BOOKED visit dated this long or longer before asOf counts as a no-show. With `None`, only
    /// visits with status NO_SHOW do.
    pub overdue_after_days: Option<i32>,
}

impl Definition {
    /// The largest number of days of a rule.
    pub const MAX_DAYS: i32 = 36_500;

    /// A definition that is not published, to preview its effect.
    #[must_use]
    pub const fn proposed(churn_after_days: i32, overdue_after_days: Option<i32>) -> Self {
        Self {
            version: 0,
            churn_after_days,
            overdue_after_days,
        }
    }

    /// Whether this is a proposed definition.
    #[must_use]
    pub const fn is_proposed(&self) -> bool {
        self.version == 0
    }
}
