//! Commands: what staff change one by one. Each is allowed by a role, locked by a version, executed once however often it is sent,
//! and recorded in the audit.
//!
//! A command has a file of its own, with a struct of its input that implements [`Command`]; it is listed in [`COMMANDS`] and has a
//! mutation in `src/graphql/mutation/`.

mod absences;
mod add_staff;
mod assign_recall_entries;
mod booking;
mod change_patient;
mod change_staff;
mod change_visit;
mod claim_recall_entries;
mod close_recall_list;
mod create_recall_list;
mod delete_visit;
mod departments;
mod digest;
mod doctor_hours;
mod doctors;
mod erase_patient;
mod export_lists;
mod imports;
mod issue_visit_code;
mod lapse_bookings;
mod merge_patients;
mod patient;
mod pin_snapshot;
mod recall_entry;
mod record_contact;
mod record_visit;
mod register_patient;
mod seal_month;
mod set_password;
mod staff;
mod transaction;
mod undo_merge;
mod update_definition;
mod update_hospital;
mod use_visit_code;
mod visit;

use std::collections::BTreeSet;

use async_trait::async_trait;
use chrono::{SubsecRound as _, Utc};
use entity::idempotency_key;
use sea_orm::ActiveValue::Set;
use sea_orm::{ConnectionTrait, EntityTrait};

use super::Store;
use super::audit::{AuditAction, NewEntry};
use super::history::ChangeContext;
use crate::error::{Error, Result};
use crate::password::{NewPassword, PasswordHash};
use crate::permissions::{Action, Viewer};

pub use absences::{AddAbsence, RemoveAbsence};
pub use add_staff::AddStaff;
pub use assign_recall_entries::AssignRecallEntries;
pub use booking::Override;
pub use change_patient::ChangePatient;
pub use change_staff::ChangeStaff;
pub use change_visit::ChangeVisit;
pub use claim_recall_entries::ClaimRecallEntries;
pub use close_recall_list::CloseRecallList;
pub use create_recall_list::{CountedCohort, CreateRecallList};
pub use delete_visit::DeleteVisit;
pub use departments::{AddDepartment, ChangeDepartment};
use digest::DigestFields;
pub use doctor_hours::SetDoctorHours;
pub use doctors::{AddDoctor, ChangeDoctor};
pub use erase_patient::ErasePatient;
pub use export_lists::{ExportCohort, ExportRecallList, NewExport};
pub use imports::{CommitImport, DiscardImport, PrepareImport};
pub use issue_visit_code::IssueVisitCode;
pub use merge_patients::MergePatients;
pub use pin_snapshot::{PinSnapshot, UnpinSnapshot};
pub use record_contact::RecordContact;
pub use record_visit::RecordVisit;
pub use register_patient::RegisterPatient;
pub use seal_month::SealMonth;
pub use set_password::SetPassword;
use transaction::CommandTx;
pub use undo_merge::UndoMerge;
pub use update_definition::UpdateDefinition;
pub use update_hospital::UpdateHospital;
pub use use_visit_code::UseVisitCode;

/// Every command that a mutation executes.
pub const COMMANDS: &[&CommandInfo] = &[
    &RegisterPatient::INFO,
    &ChangePatient::INFO,
    &ErasePatient::INFO,
    &MergePatients::INFO,
    &UndoMerge::INFO,
    &RecordVisit::INFO,
    &ChangeVisit::INFO,
    &DeleteVisit::INFO,
    &IssueVisitCode::INFO,
    &UseVisitCode::CONFIRM,
    &UseVisitCode::CHECK_IN,
    &UpdateDefinition::INFO,
    &PinSnapshot::INFO,
    &UnpinSnapshot::INFO,
    &SealMonth::INFO,
    &CreateRecallList::INFO,
    &RecordContact::INFO,
    &ClaimRecallEntries::INFO,
    &AssignRecallEntries::INFO,
    &CloseRecallList::INFO,
    &ExportCohort::INFO,
    &ExportRecallList::INFO,
    &PrepareImport::INFO,
    &CommitImport::INFO,
    &DiscardImport::INFO,
    &AddDepartment::INFO,
    &ChangeDepartment::INFO,
    &AddDoctor::INFO,
    &ChangeDoctor::INFO,
    &SetDoctorHours::INFO,
    &AddAbsence::INFO,
    &RemoveAbsence::INFO,
    &UpdateHospital::INFO,
    &AddStaff::INFO,
    &ChangeStaff::INFO,
    &SetPassword::INFO,
];

/// What is known of a command without its input.
#[derive(Debug)]
pub struct CommandInfo {
    /// The name in the audit, in histories and in digests, which never changes.
    pub name: &'static str,
    /// The mutation that executes it; none if servers execute it.
    pub mutation: Option<&'static str>,
    /// What a role must allow.
    pub action: Action,
    /// What FORBIDDEN calls it, such as "to register a patient".
    pub description: &'static str,
}

/// A change of a hospital's data, with its input. A version in it is the one that the viewer saw: where the row has another one by now,
/// nothing changes.
#[async_trait]
pub trait Command: Send + Sync {
    fn info(&self) -> &'static CommandInfo;

    /// Adds the input to the digest by which a command that is sent again is recognised.
    fn digest(&self, fields: &mut DigestFields);

    /// The reason to store with the changes of patients and visits.
    fn reason(&self) -> Option<&str> {
        None
    }

    /// The password that it sets: no digest has it.
    fn new_password(&self) -> Option<&NewPassword> {
        None
    }

    /// Changes the data in the transaction.
    ///
    /// # Errors
    /// CONFLICT, BAD_USER_INPUT or NOT_FOUND, naming the argument; where the database fails.
    async fn execute(&self, tx: &CommandTx<'_>) -> Result<Outcome>;
}

/// What a command changed.
#[derive(Debug)]
pub struct Outcome {
    subject: Subject,
    /// What [`Store::execute`] returns.
    id: i64,
    /// The patients whose data was changed.
    patients: BTreeSet<i64>,
    /// Whether it broke a rule that can be overridden.
    forced: bool,
}

#[derive(Debug)]
enum Subject {
    /// The id of a row; of a definition its version.
    Record(i64),
    Snapshot(String),
    /// An export, with its entry of the audit.
    Export(Box<NewEntry>),
}

impl Outcome {
    /// A record that is no patient's.
    const fn record(id: i64) -> Self {
        Self::of_patients(id, BTreeSet::new())
    }

    const fn snapshot(id: String) -> Self {
        Self {
            subject: Subject::Snapshot(id),
            id: 0,
            patients: BTreeSet::new(),
            forced: false,
        }
    }

    fn export(id: i64, entry: NewEntry) -> Self {
        Self {
            subject: Subject::Export(Box::new(entry)),
            id,
            patients: BTreeSet::new(),
            forced: false,
        }
    }

    fn patient(id: i64) -> Self {
        Self::of_patients(id, BTreeSet::from([id]))
    }

    fn visit(id: i64, patient: i64) -> Self {
        Self::of_patients(id, BTreeSet::from([patient]))
    }

    const fn of_patients(id: i64, patients: BTreeSet<i64>) -> Self {
        Self {
            subject: Subject::Record(id),
            id,
            patients,
            forced: false,
        }
    }

    /// The same, of which the audit says whether it broke a rule that can be overridden.
    fn forced(self, forced: bool) -> Self {
        Self { forced, ..self }
    }

    /// The same outcome, with another number to return than that of the record.
    fn with_id(self, id: i64) -> Self {
        Self { id, ..self }
    }
}

/// A command that was executed, now or before under the same idempotency key.
struct Executed {
    outcome_id: i64,
    /// The password that was sent when it was executed before; not verified yet, since that takes long.
    password_hash: Option<PasswordHash>,
}

impl Store {
    /// Executes a command, whole or not at all. Returns the id of what was added or changed; of a definition, its version; of a code, its
    /// counter; of a claim, its number; of a snapshot 0.
    ///
    /// A command that is sent again under the same `key` is not executed again.
    ///
    /// # Errors
    /// FORBIDDEN where the viewer's role may not do it; CONFLICT where the version is not the current one; BAD_USER_INPUT or
    /// NOT_FOUND naming the argument; where the database fails.
    pub async fn execute(&self, viewer: &Viewer, command: &dyn Command, key: Option<&str>) -> Result<i64> {
        let info = command.info();
        viewer.require(info.action, info.description)?;
        let by = Some((viewer, key));
        let executed = self
            .with_retry(|| self.execute_once(viewer.hospital, by, command))
            .await?;
        if let (Some(sent), Some(before)) = (command.new_password(), executed.password_hash)
            && !sent.has_hash(before).await?
        {
            return Err(key_reused());
        }
        Ok(executed.outcome_id)
    }

    /// Executes a command on what is the viewer's own, whatever the role.
    ///
    /// # Errors
    /// As [`Self::execute`], but never FORBIDDEN.
    pub async fn execute_own(&self, viewer: &Viewer, command: &dyn Command) -> Result<i64> {
        let by = Some((viewer, None));
        let executed = self
            .with_retry(|| self.execute_once(viewer.hospital, by, command))
            .await?;
        Ok(executed.outcome_id)
    }

    /// Executes a command from the command line, where nobody is signed in.
    ///
    /// # Errors
    /// As [`Self::execute`], but never FORBIDDEN.
    pub async fn execute_as_operator(&self, hospital: i64, command: &dyn Command) -> Result<i64> {
        let executed = self.with_retry(|| self.execute_once(hospital, None, command)).await?;
        Ok(executed.outcome_id)
    }

    async fn execute_once(
        &self,
        hospital: i64,
        by: Option<(&Viewer, Option<&str>)>,
        command: &dyn Command,
    ) -> Result<Executed> {
        let context = change_context(by.map(|(viewer, _)| viewer.staff), command);
        let (transaction, _turn) = self.begin_change(hospital, context).await?;
        let tx = CommandTx {
            store: self,
            transaction,
            hospital,
            viewer: by.map(|(viewer, _)| viewer),
        };
        let key = by.and_then(|(viewer, key)| Some((viewer.staff, key?)));
        if let Some(key) = key
            && let Some(executed) = tx.previous_execution(key, command).await?
        {
            return Ok(executed);
        }
        let before = tx.revision().await?;
        let outcome = command.execute(&tx).await?;
        tx.annotate_visit_changes(before, command.reason()).await?;
        if let Some(key) = key {
            tx.record_idempotency_key(key, command, outcome.id).await?;
        }
        let name = command.info().name;
        let what = if outcome.forced {
            format!("{name} by force")
        } else {
            name.to_owned()
        };
        let entry = NewEntry::new(hospital, tx.staff(), AuditAction::Changed)
            .what(&what)
            .patients(&outcome.patients);
        let entry = match outcome.subject {
            Subject::Record(id) => entry.subject(id),
            Subject::Snapshot(id) => entry.snapshot(&id),
            Subject::Export(entry) => *entry,
        };
        self.audit_in(&tx.transaction, &entry).await?;
        self.commit_change(tx.transaction, hospital).await?;
        Ok(Executed {
            outcome_id: outcome.id,
            password_hash: None,
        })
    }

    /// Deletes expired idempotency keys.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn prune_keys(&self, hospital: i64) -> Result<u64> {
        let expired = Utc::now() - self.limits.idempotency_key_lifetime;
        let mut sql = self.sql("DELETE FROM idempotency_key WHERE hospital_id = ");
        sql.bind(hospital).push(" AND created_at < ").bind(expired);
        self.write(sql).await
    }
}

impl CommandTx<'_> {
    async fn revision(&self) -> Result<i64> {
        let mut sql = self.store.sql("SELECT number FROM revision WHERE hospital_id = ");
        sql.bind(self.hospital);
        let row = self.transaction.query_one_raw(sql.done()).await?;
        let row = row.ok_or_else(|| Error::Unauthenticated("the hospital of this session is gone".to_owned()))?;
        Ok(row.try_get_by_index(0)?)
    }

    /// Adds who changed visits since the revision, and why: the triggers recorded only what changed.
    async fn annotate_visit_changes(&self, before: i64, reason: Option<&str>) -> Result<()> {
        let mut sql = self.store.sql("UPDATE visit_change SET staff_id = ");
        sql.bind(self.staff()).push(", reason = ").bind(reason);
        sql.push(" WHERE hospital_id = ").bind(self.hospital);
        sql.push(" AND number > ").bind(before);
        self.run(sql).await
    }

    async fn previous_execution(&self, (staff, key): (i64, &str), command: &dyn Command) -> Result<Option<Executed>> {
        let id = (self.hospital, staff, key.to_owned());
        let Some(row) = idempotency_key::Entity::find_by_id(id).one(&self.transaction).await? else {
            return Ok(None);
        };
        if !digest::digests(&self.store.secrets, self.hospital, command)?.contains(&row.change_digest) {
            return Err(key_reused());
        }
        Ok(Some(Executed {
            outcome_id: row.outcome_id,
            password_hash: row.password_hash.as_deref().map(PasswordHash::from_stored),
        }))
    }

    async fn record_idempotency_key(
        &self,
        (staff, key): (i64, &str),
        command: &dyn Command,
        outcome_id: i64,
    ) -> Result<()> {
        let password_hash = command
            .new_password()
            .map(|password| password.hash().as_str().to_owned());
        let row = idempotency_key::ActiveModel {
            hospital_id: Set(self.hospital),
            staff_id: Set(staff),
            name: Set(key.to_owned()),
            change_digest: Set(digest::digest(&self.store.secrets, self.hospital, command)?),
            outcome_id: Set(outcome_id),
            created_at: Set(Utc::now().trunc_subsecs(6)),
            password_hash: Set(password_hash),
        };
        idempotency_key::Entity::insert(row)
            .exec_without_returning(&self.transaction)
            .await?;
        Ok(())
    }
}

fn change_context(staff: Option<i64>, command: &dyn Command) -> ChangeContext<'_> {
    ChangeContext {
        staff,
        source: command.info().name,
        reason: command.reason(),
        recorded: true,
    }
}

fn key_reused() -> Error {
    Error::input(
        "input.idempotencyKey",
        "this key was used for another change: use a new key for each change, and repeat a key only to send its change again",
    )
}
