//! What a role may do: one table.

use crate::error::{Error, Result};
use string_enum::string_enum;

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

#[cfg(test)]
mod tests {
    use super::*;

    const ACTIONS: [Action; 5] = [
        Action::SeePatientsInFull,
        Action::UseNames,
        Action::KeepSnapshots,
        Action::ChangeRecords,
        Action::Administer,
    ];

    /// An action in the words of the documentation. A new one has to be added to `ACTIONS` too.
    const fn label(action: Action) -> &'static str {
        match action {
            Action::SeePatientsInFull => "see patients in full",
            Action::UseNames => "search and order by name",
            Action::KeepSnapshots => "pin snapshots",
            Action::ChangeRecords => "change patients and visits: register, book, check in, correct, merge, erase",
            Action::Administer => "administer: definition, departments, doctors, staff, audit",
        }
    }

    #[test]
    fn what_each_role_may_do_is_documented() {
        let cells = |first: &str, cells: Vec<&str>| format!("| {first} | {} |\n", cells.join(" | "));
        let mut table = cells("action", Role::ALL.iter().map(|role| role.as_str()).collect());
        table += &cells("---", vec!["---"; Role::ALL.len()]);
        for action in ACTIONS {
            let may = Role::ALL.iter().map(|role| if role.may(action) { "yes" } else { "–" });
            table += &cells(label(action), may.collect());
        }
        let page = include_str!("../docs/console/roles.md");
        assert!(
            page.contains(&(table.clone() + "\n")),
            "docs/console/roles.md: the table must be\n{table}"
        );
    }
}
