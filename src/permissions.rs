//! What a role may do: one table.

use crate::error::{Error, Result};
use crate::statistics::words;

words!(
    /// What a member of staff is.
    Role {
        Admin = "ADMIN",
        Clinician = "CLINICIAN",
        Desk = "DESK",
        Support = "SUPPORT",
    }
);

/// Something that not everybody may do. Statistics, cohorts, snapshots and counts are for everybody who is signed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// See names, phones and birth dates in full; without it they are masked.
    SeePatientsInFull,
    /// Find or order by name: it would give a masked name away.
    UseNames,
}

impl Role {
    /// The table.
    #[must_use]
    pub const fn may(self, action: Action) -> bool {
        match action {
            Action::SeePatientsInFull | Action::UseNames => !matches!(self, Self::Support),
        }
    }
}

/// Who asks. Everything is scoped by it.
#[derive(Clone, Debug)]
pub struct Viewer {
    pub hospital: i64,
    pub staff: i64,
    pub role: Role,
}

impl Viewer {
    /// Refuses what the viewer's role may not do.
    ///
    /// # Errors
    /// FORBIDDEN, saying what and for whom.
    pub fn require(&self, action: Action, what: &str) -> Result<()> {
        if self.role.may(action) {
            return Ok(());
        }
        Err(Error::Forbidden(format!(
            "{what} is not for the role {}",
            self.role.word()
        )))
    }
}
