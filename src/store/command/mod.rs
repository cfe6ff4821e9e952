//! Changes that staff make one by one: allowed, locked by a version, made once however often they are sent, and noted with
//! who made them and why.

mod digest;
mod patient;
mod staff;
mod visit;

use std::collections::BTreeSet;

use chrono::{SubsecRound as _, Utc};
use entity::{definition, idempotency_key, visit_tombstone};
use sea_orm::ActiveValue::Set;
use sea_orm::{ConnectionTrait, DatabaseTransaction, EntityTrait};

use super::audit::{AuditAction, NewEntry};
use super::{Sql, Store};
use crate::error::{Error, Result};
use crate::password::{NewPassword, PasswordHash};
use crate::permissions::{Action, Role, Viewer};
use crate::records::{Patch, PatientDraft, VisitDraft};

/// What is to be changed. Versions are those that the asker saw: where a row has another one by now, nothing is changed.
#[derive(Clone, Debug)]
pub enum Command {
    RegisterPatient(PatientDraft),
    ChangePatient {
        id: i64,
        version: i32,
        change: PatientDraft,
    },
    /// Clears everything personal of the patient, and of those merged into it, for good.
    ErasePatient {
        id: i64,
        version: i32,
        reason: String,
    },
    /// Hands the visits of a patient to another, who is the same person.
    MergePatients {
        id: i64,
        version: i32,
        into: i64,
        reason: String,
    },
    /// Takes the visits back that the merge moved.
    UndoMerge {
        id: i64,
        reason: String,
    },
    RecordVisit(VisitDraft<i64>),
    ChangeVisit {
        id: i64,
        version: i32,
        change: VisitDraft<i64>,
        /// Must be there where a visit that is over is corrected.
        reason: Option<String>,
    },
    DeleteVisit {
        id: i64,
        version: i32,
        reason: String,
    },
    /// Publishes rules; where they differ from those in force they are a new version.
    UpdateDefinition {
        version: i32,
        churn_after_days: i32,
        overdue_after_days: Option<i32>,
    },
    /// Keeps a snapshot for good, or lets it expire again.
    PinSnapshot {
        id: String,
        pinned: bool,
    },
    AddDepartment {
        name: String,
    },
    ChangeDepartment {
        id: i64,
        name: Option<String>,
        retired: Option<bool>,
    },
    AddDoctor {
        name: String,
        department: Option<i64>,
    },
    ChangeDoctor {
        id: i64,
        name: Option<String>,
        department: Patch<i64>,
        retired: Option<bool>,
    },
    AddStaff {
        login: String,
        name: String,
        role: Role,
        password: NewPassword,
    },
    /// Another role, or a disabled account, ends the sessions. Somebody must be left who may administer.
    ChangeStaff {
        id: i64,
        name: Option<String>,
        role: Option<Role>,
        disabled: Option<bool>,
    },
    /// Ends the sessions, too.
    SetPassword {
        id: i64,
        password: NewPassword,
        /// The password that the member proved to know; where it is another by now, nothing changes.
        verified: Option<PasswordHash>,
    },
}

impl Command {
    const fn action(&self) -> Action {
        match self {
            Self::RegisterPatient(_)
            | Self::ChangePatient { .. }
            | Self::ErasePatient { .. }
            | Self::MergePatients { .. }
            | Self::UndoMerge { .. }
            | Self::RecordVisit(_)
            | Self::ChangeVisit { .. }
            | Self::DeleteVisit { .. } => Action::ChangeRecords,
            Self::PinSnapshot { .. } => Action::KeepSnapshots,
            Self::UpdateDefinition { .. }
            | Self::AddDepartment { .. }
            | Self::ChangeDepartment { .. }
            | Self::AddDoctor { .. }
            | Self::ChangeDoctor { .. }
            | Self::AddStaff { .. }
            | Self::ChangeStaff { .. }
            | Self::SetPassword { .. } => Action::Administer,
        }
    }

    /// What it is, for who may not do it.
    const fn description(&self) -> &'static str {
        match self {
            Self::RegisterPatient(_) => "to register a patient",
            Self::ChangePatient { .. } => "to change a patient",
            Self::ErasePatient { .. } => "to erase a patient",
            Self::MergePatients { .. } => "to merge patients",
            Self::UndoMerge { .. } => "to undo a merge",
            Self::RecordVisit(_) => "to record a visit",
            Self::ChangeVisit { .. } => "to change a visit",
            Self::DeleteVisit { .. } => "to delete a visit",
            Self::UpdateDefinition { .. } => "to change the definition",
            Self::PinSnapshot { .. } => "to keep snapshots for good",
            Self::AddDepartment { .. } | Self::ChangeDepartment { .. } => "to change departments",
            Self::AddDoctor { .. } | Self::ChangeDoctor { .. } => "to change doctors",
            Self::AddStaff { .. } | Self::ChangeStaff { .. } | Self::SetPassword { .. } => "to change staff",
        }
    }

    /// What the audit calls it: the mutation.
    const fn as_str(&self) -> &'static str {
        match self {
            Self::RegisterPatient(_) => "registerPatient",
            Self::ChangePatient { .. } => "changePatient",
            Self::ErasePatient { .. } => "erasePatient",
            Self::MergePatients { .. } => "mergePatients",
            Self::UndoMerge { .. } => "undoMerge",
            Self::RecordVisit(_) => "recordVisit",
            Self::ChangeVisit { .. } => "changeVisit",
            Self::DeleteVisit { .. } => "deleteVisit",
            Self::UpdateDefinition { .. } => "updateDefinition",
            Self::PinSnapshot { pinned: true, .. } => "pinSnapshot",
            Self::PinSnapshot { pinned: false, .. } => "unpinSnapshot",
            Self::AddDepartment { .. } => "addDepartment",
            Self::ChangeDepartment { .. } => "changeDepartment",
            Self::AddDoctor { .. } => "addDoctor",
            Self::ChangeDoctor { .. } => "changeDoctor",
            Self::AddStaff { .. } => "addStaff",
            Self::ChangeStaff { .. } => "changeStaff",
            Self::SetPassword { .. } => "setPassword",
        }
    }

    fn reason(&self) -> Option<&str> {
        match self {
            Self::ErasePatient { reason, .. }
            | Self::MergePatients { reason, .. }
            | Self::UndoMerge { reason, .. }
            | Self::DeleteVisit { reason, .. } => Some(reason),
            Self::ChangeVisit { reason, .. } => reason.as_deref(),
            _ => None,
        }
    }

    const fn password(&self) -> Option<&NewPassword> {
        match self {
            Self::AddStaff { password, .. } | Self::SetPassword { password, .. } => Some(password),
            _ => None,
        }
    }
}

/// A change that was made, now or before under the same idempotency key.
struct Executed {
    outcome: i64,
    /// The password that was sent when it was made before; not verified yet, since that takes long.
    password_hash: Option<PasswordHash>,
}

/// A transaction in which a change is made.
struct CommandTx<'a> {
    store: &'a Store,
    transaction: DatabaseTransaction,
    hospital: i64,
    /// None where it is made from the command line.
    staff: Option<i64>,
}

impl Store {
    /// Makes a change, whole or not at all. Says the id of what was made or changed; of a definition, its version.
    ///
    /// A change that is sent again under the same `key` is not made again.
    ///
    /// # Errors
    /// FORBIDDEN where the viewer's role may not do it; CONFLICT where a version is not the one that stands; BAD_USER_INPUT or
    /// NOT_FOUND naming the argument; where the database fails.
    pub async fn execute(&self, viewer: &Viewer, change: &Command, key: Option<&str>) -> Result<i64> {
        viewer.require(change.action(), change.description())?;
        let by = Some((viewer.staff, key));
        let made = self
            .with_retry(|| self.execute_once(viewer.hospital, by, change))
            .await?;
        if let (Some(sent), Some(before)) = (change.password(), made.password_hash)
            && !sent.has_hash(before).await?
        {
            return Err(key_reused());
        }
        Ok(made.outcome)
    }

    /// Makes a change that everybody may make of what is their own.
    ///
    /// # Errors
    /// As [`Self::make`].
    pub async fn execute_own(&self, viewer: &Viewer, change: &Command) -> Result<i64> {
        let by = Some((viewer.staff, None));
        let made = self
            .with_retry(|| self.execute_once(viewer.hospital, by, change))
            .await?;
        Ok(made.outcome)
    }

    /// Makes a change from the command line, where nobody is signed in.
    ///
    /// # Errors
    /// As [`Self::make`], but that anything is allowed.
    pub async fn execute_as_operator(&self, hospital: i64, change: &Command) -> Result<i64> {
        let made = self.with_retry(|| self.execute_once(hospital, None, change)).await?;
        Ok(made.outcome)
    }

    async fn execute_once(&self, hospital: i64, by: Option<(i64, Option<&str>)>, change: &Command) -> Result<Executed> {
        let (transaction, _turn) = self.begin_change(hospital).await?;
        let making = CommandTx {
            store: self,
            transaction,
            hospital,
            staff: by.map(|(staff, _)| staff),
        };
        let key = by.and_then(|(staff, key)| Some((staff, key?)));
        if let Some(key) = key
            && let Some(made) = making.previous_execution(key, change).await?
        {
            return Ok(made);
        }
        let before = making.revision().await?;
        let outcome = match change {
            Command::RegisterPatient(change) => making.register(change).await?,
            Command::ChangePatient { id, version, change } => making.change_patient(*id, *version, change).await?,
            Command::ErasePatient { id, version, .. } => making.erase(*id, *version).await?,
            Command::MergePatients {
                id,
                version,
                into,
                reason,
            } => making.merge(*id, *version, *into, reason).await?,
            Command::UndoMerge { id, .. } => making.undo_merge(*id).await?,
            Command::RecordVisit(change) => making.record_visit(change).await?,
            Command::ChangeVisit {
                id,
                version,
                change,
                reason,
            } => making.change_visit(*id, *version, change, reason.is_some()).await?,
            Command::DeleteVisit { id, version, .. } => making.delete_visit(*id, *version).await?,
            Command::UpdateDefinition {
                version,
                churn_after_days,
                overdue_after_days,
            } => {
                making
                    .update_definition(*version, *churn_after_days, *overdue_after_days)
                    .await?
            }
            Command::PinSnapshot { id, pinned } => making.pin_snapshot(id, *pinned).await?,
            Command::AddDepartment { name } => making.add_department(name).await?,
            Command::ChangeDepartment { id, name, retired } => {
                making.change_department(*id, name.as_deref(), *retired).await?
            }
            Command::AddDoctor { name, department } => making.add_doctor(name, *department).await?,
            Command::ChangeDoctor {
                id,
                name,
                department,
                retired,
            } => making.change_doctor(*id, name.as_deref(), department, *retired).await?,
            Command::AddStaff {
                login,
                name,
                role,
                password,
            } => making.add_staff(login, name, *role, password.hash()).await?,
            Command::ChangeStaff {
                id,
                name,
                role,
                disabled,
            } => making.change_staff(*id, name.as_deref(), *role, *disabled).await?,
            Command::SetPassword { id, password, verified } => {
                making.set_password(*id, password.hash(), verified.as_ref()).await?
            }
        };
        if !matches!(change, Command::ErasePatient { .. }) {
            making.annotate_visit_changes(before, change.reason()).await?;
        }
        if let Some(key) = key {
            making.record_idempotency_key(key, change, outcome).await?;
        }
        let entry = NewEntry::new(hospital, making.staff, AuditAction::Changed)
            .what(change.as_str())
            .patients(&making.patients(change, outcome).await?);
        let entry = match change {
            Command::PinSnapshot { id, .. } => entry.snapshot(id),
            _ => entry.subject(outcome),
        };
        self.audit_in(&making.transaction, &entry).await?;
        making.transaction.commit().await?;
        Ok(Executed {
            outcome,
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

    /// Who changed visits since the revision, and why: the triggers noted only what.
    async fn annotate_visit_changes(&self, before: i64, reason: Option<&str>) -> Result<()> {
        let mut sql = self.store.sql("UPDATE visit_change SET staff_id = ");
        sql.bind(self.staff).push(", reason = ").bind(reason);
        sql.push(" WHERE hospital_id = ").bind(self.hospital);
        sql.push(" AND number > ").bind(before);
        self.run(sql).await
    }

    /// A snapshot has no number: the outcome is 0.
    async fn pin_snapshot(&self, id: &str, pinned: bool) -> Result<i64> {
        let now = Utc::now().trunc_subsecs(6);
        let mut sql = self.store.sql("UPDATE snapshot SET kept_at = ");
        sql.bind(now).push(", pinned_at = ").bind(pinned.then_some(now));
        sql.push(", pinned_by = ").bind(self.staff.filter(|_| pinned));
        sql.push(" WHERE hospital_id = ").bind(self.hospital);
        sql.push(" AND id = ").bind(id).push(" AND expired_at IS NULL");
        match self.transaction.execute_raw(sql.done()).await?.rows_affected() {
            0 => Err(Error::unknown_id("input.id", "snapshot")),
            _ => Ok(0),
        }
    }

    async fn previous_execution(&self, (staff, key): (i64, &str), change: &Command) -> Result<Option<Executed>> {
        let id = (self.hospital, staff, key.to_owned());
        let Some(noted) = idempotency_key::Entity::find_by_id(id).one(&self.transaction).await? else {
            return Ok(None);
        };
        if !digest::digests(&self.store.secrets, self.hospital, change)?.contains(&noted.change_digest) {
            return Err(key_reused());
        }
        Ok(Some(Executed {
            outcome: noted.outcome_id,
            password_hash: noted.password_hash.as_deref().map(PasswordHash::from_stored),
        }))
    }

    async fn record_idempotency_key(&self, (staff, key): (i64, &str), change: &Command, outcome_id: i64) -> Result<()> {
        let row = idempotency_key::ActiveModel {
            hospital_id: Set(self.hospital),
            staff_id: Set(staff),
            name: Set(key.to_owned()),
            change_digest: Set(digest::digest(&self.store.secrets, self.hospital, change)?),
            outcome_id: Set(outcome_id),
            created_at: Set(Utc::now().trunc_subsecs(6)),
            password_hash: Set(change.password().map(|password| password.hash().as_str().to_owned())),
        };
        idempotency_key::Entity::insert(row)
            .exec_without_returning(&self.transaction)
            .await?;
        Ok(())
    }

    async fn update_definition(&self, version: i32, churn: i32, overdue: Option<i32>) -> Result<i64> {
        let state = self
            .store
            .hospital_state_in(&self.transaction, self.hospital, 0)
            .await?;
        let now = state.definition;
        check_version("the definition", version, now.version)?;
        if (now.churn_after_days, now.overdue_after_days) == (churn, overdue) {
            return Ok(now.version.into());
        }
        let row = definition::ActiveModel {
            hospital_id: Set(self.hospital),
            version: Set(now.version + 1),
            churn_after_days: Set(churn),
            overdue_after_days: Set(overdue),
            effective_from: Set(Utc::now().trunc_subsecs(6)),
        };
        definition::Entity::insert(row)
            .exec_without_returning(&self.transaction)
            .await?;
        Ok((now.version + 1).into())
    }

    /// Whose data a change was of.
    async fn patients(&self, change: &Command, outcome: i64) -> Result<BTreeSet<i64>> {
        Ok(match change {
            Command::RegisterPatient(_)
            | Command::ChangePatient { .. }
            | Command::ErasePatient { .. }
            | Command::UndoMerge { .. } => BTreeSet::from([outcome]),
            Command::MergePatients { id, into, .. } => BTreeSet::from([*id, *into]),
            Command::RecordVisit(_) | Command::ChangeVisit { .. } | Command::DeleteVisit { .. } => {
                let key = (self.hospital, outcome);
                match entity::visit::Entity::find_by_id(key).one(&self.transaction).await? {
                    Some(visit) => BTreeSet::from([visit.patient_id]),
                    None => {
                        let gone = visit_tombstone::Entity::find_by_id(key).one(&self.transaction).await?;
                        gone.into_iter().map(|visit| visit.patient_id).collect()
                    }
                }
            }
            _ => BTreeSet::new(),
        })
    }

    async fn run(&self, sql: Sql) -> Result<()> {
        self.transaction.execute_raw(sql.done()).await?;
        Ok(())
    }

    /// Inserts a row, of which the columns are these; says its id. sea-orm cannot tell it on MariaDB where the key is composite.
    async fn insert(&self, table: &str, columns: &[(&str, sea_orm::Value)]) -> Result<i64> {
        let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
        let mut sql = self.store.sql(&format!(
            "INSERT INTO {table} (hospital_id, {}) VALUES (",
            names.join(", ")
        ));
        sql.bind(self.hospital);
        for (_, value) in columns {
            sql.push(", ").bind(value.clone());
        }
        sql.push(") RETURNING id");
        let row = self.transaction.query_one_raw(sql.done()).await?;
        let row = row.ok_or_else(|| Error::Internal(format!("a row of {table} was inserted and has no id")))?;
        Ok(row.try_get_by_index(0)?)
    }
}

fn key_reused() -> Error {
    Error::input(
        "input.idempotencyKey",
        "another change was made under this key: make a new key for each change, and keep it only to send that change again",
    )
}

fn check_version(what: &str, seen: i32, stands: i32) -> Result<()> {
    if seen == stands {
        return Ok(());
    }
    Err(Error::Conflict {
        argument: "input.version".to_owned(),
        message: format!(
            "{what} is at version {stands}, not {seen}: it was changed meanwhile; load it, and decide anew"
        ),
        current_version: Some(stands),
    })
}
