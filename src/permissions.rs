//! Roles, and what each may do.

use crate::error::{Error, Result};
use string_enum::string_enum;

string_enum!(
    /// The role of a staff account.
    Role {
        Admin = "ADMIN",
        Clinician = "CLINICIAN",
        Desk = "DESK",
        Support = "SUPPORT",
        Kiosk = "KIOSK",
    }
);

/// An action that not all roles may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Use the console: statistics, cohorts, snapshots, counts, the hospital's patients, visits and settings. The other actions but
    /// `UseVisitCodes` need it too.
    UseConsole,
    /// See names, phone numbers and birth dates; for others they are masked.
    SeePatientsInFull,
    /// Search and order by name, search by birth date and by a part of the phone, which would reveal what is masked.
    UseNames,
    /// Pin snapshots, so that they do not expire.
    KeepSnapshots,
    /// Seal months.
    SealMonths,
    /// Export lists as files.
    ExportLists,
    /// Change patients and visits: register, book, check in, correct, merge, erase.
    ChangeRecords,
    /// Add and remove absences of doctors.
    ChangeAbsences,
    /// Make recall lists and work on them.
    WorkRecallLists,
    /// Confirm and check in visits by code.
    UseVisitCodes,
    /// Change the definition, the hospital's settings, departments, doctors and their hours, closures and staff; read the audit.
    Administer,
}

impl Role {
    /// Whether the role may do it.
    #[must_use]
    pub const fn may(self, action: Action) -> bool {
        match action {
            Action::UseConsole => !matches!(self, Self::Kiosk),
            Action::SeePatientsInFull | Action::UseNames => matches!(self, Self::Admin | Self::Clinician | Self::Desk),
            Action::KeepSnapshots | Action::ExportLists => matches!(self, Self::Admin | Self::Clinician),
            Action::ChangeRecords | Action::ChangeAbsences | Action::WorkRecallLists => {
                matches!(self, Self::Admin | Self::Desk)
            }
            Action::UseVisitCodes => matches!(self, Self::Admin | Self::Desk | Self::Kiosk),
            Action::SealMonths | Action::Administer => matches!(self, Self::Admin),
        }
    }
}

/// The staff account that sends a request. All data is limited to its hospital.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Viewer {
    pub hospital: i64,
    pub staff: i64,
    pub role: Role,
}

impl Viewer {
    /// Fails if the viewer's role may not do it. `what` begins the message.
    ///
    /// # Errors
    /// FORBIDDEN.
    pub fn require(&self, action: Action, what: &str) -> Result<()> {
        if self.role.may(action) {
            return Ok(());
        }
        Err(Error::Forbidden(format!(
            "{what} is not allowed for the role {}",
            self.role.as_str()
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACTIONS: [Action; 11] = [
        Action::UseConsole,
        Action::SeePatientsInFull,
        Action::UseNames,
        Action::KeepSnapshots,
        Action::SealMonths,
        Action::ExportLists,
        Action::ChangeRecords,
        Action::ChangeAbsences,
        Action::WorkRecallLists,
        Action::UseVisitCodes,
        Action::Administer,
    ];

    /// An action in the words of the documentation. A new one has to be added to `ACTIONS` too.
    const fn label(action: Action) -> &'static str {
        match action {
            Action::UseConsole => "use the console: statistics, patients, visits, the hospital's settings",
            Action::SeePatientsInFull => "see patients in full",
            Action::UseNames => "search and order by name; search by birth date and by part of a phone",
            Action::KeepSnapshots => "pin snapshots",
            Action::SealMonths => "seal months",
            Action::ExportLists => "export lists as files",
            Action::ChangeRecords => "change patients and visits: register, book, check in, correct, merge, erase",
            Action::ChangeAbsences => "add and remove absences of doctors",
            Action::WorkRecallLists => "make recall lists, work on them, close them",
            Action::UseVisitCodes => "confirm and check in by code",
            Action::Administer => {
                "administer: definition, hospital, departments, doctors, hours, closures, staff, audit"
            }
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

    /// Written out, so that a change of `Role::may` has to be made here too.
    #[test]
    fn each_role_may_do_exactly_its_actions() {
        use Action::{
            ChangeAbsences, ChangeRecords, ExportLists, KeepSnapshots, SeePatientsInFull, UseConsole, UseNames,
            UseVisitCodes, WorkRecallLists,
        };
        let allowed: [(Role, &[Action]); 5] = [
            (Role::Admin, &ACTIONS),
            (
                Role::Clinician,
                &[UseConsole, SeePatientsInFull, UseNames, KeepSnapshots, ExportLists],
            ),
            (
                Role::Desk,
                &[
                    UseConsole,
                    SeePatientsInFull,
                    UseNames,
                    ChangeRecords,
                    ChangeAbsences,
                    WorkRecallLists,
                    UseVisitCodes,
                ],
            ),
            (Role::Support, &[UseConsole]),
            (Role::Kiosk, &[UseVisitCodes]),
        ];
        assert_eq!(allowed.len(), Role::ALL.len());
        for (role, allowed) in allowed {
            let viewer = Viewer {
                hospital: 1,
                staff: 1,
                role,
            };
            for action in ACTIONS {
                assert_eq!(role.may(action), allowed.contains(&action), "{role:?} {action:?}");
                let required = viewer.require(action, "this");
                match required {
                    Ok(()) => assert!(role.may(action)),
                    Err(error) => assert!(matches!(error, Error::Forbidden(_)) && !role.may(action)),
                }
            }
        }
    }
}
