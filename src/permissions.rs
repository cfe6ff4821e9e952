//! What a role may do: one table.

use crate::error::{Error, Result};
use crate::statistics::string_enum;

string_enum!(
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
    /// Pin snapshots, so that they are kept for good.
    KeepSnapshots,
    /// Register, book, check in, correct.
    ChangeRecords,
    /// The definition, departments and staff.
    Administer,
}

impl Role {
    /// The role that is kept of a member of staff.
    ///
    /// # Errors
    /// Where the database holds a word that is none.
    pub fn from_stored(word: &str) -> Result<Self> {
        Self::parse(word).ok_or_else(|| Error::Internal("staff.role holds an unknown word".to_owned()))
    }

    /// The table.
    #[must_use]
    pub const fn may(self, action: Action) -> bool {
        match action {
            Action::SeePatientsInFull | Action::UseNames => !matches!(self, Self::Support),
            Action::KeepSnapshots => matches!(self, Self::Admin | Self::Clinician),
            Action::ChangeRecords => matches!(self, Self::Admin | Self::Desk),
            Action::Administer => matches!(self, Self::Admin),
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
            self.role.as_str()
        )))
    }
}
