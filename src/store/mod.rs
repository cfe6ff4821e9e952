//! Access to the database, which no other module has. Functions take the hospital whose data they read or change, and every
//! query is restricted to it.

mod audit;
mod change_feed;
mod chart_numbers;
mod command;
mod complete;
mod connect;
mod deleted_visits;
mod draft;
mod duplicates;
mod erasure;
mod exports;
mod history;
mod hospital;
mod hospital_secret;
mod import;
mod imports;
mod keys;
mod keyset;
mod ledger_load;
mod live;
mod model;
mod name_index;
mod no_delay;
mod patient;
mod patient_facts;
mod patient_search;
mod pool;
mod readiness;
mod recall;
mod revision;
mod schedule;
mod session;
mod snapshot;
mod sql;
mod statements;
mod transaction;
mod upload;
mod visit;
mod visit_code;
mod visit_versions;
mod writer_queue;

use std::sync::Arc;

use migration::{Migrator, MigratorTrait};
use sea_orm::{DatabaseConnection, DbErr};
use tokio::sync::Semaphore;

use crate::clock::Clock;
use crate::config::Limits;
use crate::error::{DatabaseCode, DatabaseError, Error, Result};
use crate::observe::Metrics;
use crate::secrets::Secrets;
use chrono::{DateTime, NaiveDate, Utc};
use chrono_tz::Tz;

pub use audit::{AuditAction, AuditQuery, AuditedList, NewEntry};
pub use change_feed::LedgerChanges;
pub use command::{
    AddAbsence, AddDepartment, AddDoctor, AddStaff, AssignRecallEntries, COMMANDS, ChangeDepartment, ChangeDoctor,
    ChangePatient, ChangeStaff, ChangeVisit, ClaimRecallEntries, CloseRecallList, Command, CommandInfo, CommitImport,
    CountedCohort, CreateRecallList, DeleteVisit, DiscardImport, ErasePatient, ExportCohort, ExportRecallList,
    IssueVisitCode, MergePatients, NewExport, Override, PinSnapshot, PrepareImport, RecordContact, RecordVisit,
    RegisterPatient, RemoveAbsence, SealMonth, SetDoctorHours, SetPassword, UndoMerge, UnpinSnapshot, UpdateDefinition,
    UpdateHospital, UseVisitCode,
};
pub use complete::Recount;
pub use connect::OpenMode;
#[cfg(test)]
pub(crate) use duplicates::{MAX_CANDIDATES, MAX_DUPLICATES};
pub use duplicates::{Person, PossibleDuplicate};
pub use exports::{Export, ExportFormat, Exported};
pub use history::{ChangeEntry, FieldDifference, FieldValue, HistoryPage, RecordKind};
pub use hospital::{NewHospital, definition_of};
pub use import::{ConflictPolicy, DraftProblem, ImportOptions, ImportOutcome, Importer, Pass, RowResult};
pub use imports::{
    Import, ImportColumn, ImportCounts, ImportDetail, ImportReading, ImportRow, ImportRowDetail, ImportRowField,
    ImportRowProblem, ImportState, ImportWord, NewImport,
};
pub use keyset::Keyset;
pub use live::LiveState;
pub use model::{
    AuditEntry, Department, Doctor, Hospital, ListKind, Patient, RecordState, SealedText, StaffMember, Visit,
};
pub use patient::{KeyedPatient, PatientKey};
pub use patient_facts::PatientFacts;
#[cfg(test)]
pub(crate) use patient_search::MAX_LEADING_ZEROS;
pub use patient_search::{PatientSearch, SearchPlan};
pub use pool::check_connection;
pub use readiness::Unready;
pub use recall::{
    KeyedRecallEntry, LeftOutPage, RecallContact, RecallEntry, RecallEntryPage, RecallEntryQuery, RecallList,
};
pub use revision::{HospitalState, Revision};
pub use schedule::{Absence, DoctorHours, DoctorSchedule};
pub use session::RefreshUse;
pub use snapshot::{ListOrder, Pin, SnapshotRow, StoredAs, StoredSnapshot, is_stale, kept_at_of};
#[cfg(test)]
pub(crate) use sql::IDS_PER_STATEMENT;
use sql::Sql;
pub use statements::Statement;
pub use upload::{NewUpload, Upload};
pub use visit::{KeyedVisit, PatientEnds, PatientVisitPage, VisitDetails, VisitKey, VisitQuery};
pub use visit_code::IssuedCode;
pub use visit_versions::{RevisionRange, VersionChange, VersionedVisit, VisitVersions};
use writer_queue::WriterQueues;

/// A handle to the database, with the keys to the values that are encrypted in it. Clones share its connections.
#[derive(Clone)]
pub struct Store {
    readers: DatabaseConnection,
    /// The one connection that writes to an SQLite file; for other databases the same pool as `readers`.
    writer: DatabaseConnection,
    secrets: Secrets,
    limits: Arc<Limits>,
    clock: Clock,
    /// Audit entries that wait to be written.
    audit_queues: Arc<audit::AuditQueues>,
    metrics: Arc<Metrics>,
    /// Permits to begin a transaction, as many as the pool has connections.
    reader_permits: Arc<Semaphore>,
    writer_permits: Arc<Semaphore>,
    writer_queues: Arc<WriterQueues>,
}

impl Store {
    /// The same store with another clock.
    #[must_use]
    pub fn with_clock(self, clock: Clock) -> Self {
        Self { clock, ..self }
    }

    /// The current time, to the microsecond.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// The current date in a time zone.
    #[must_use]
    pub fn today(&self, time_zone: Tz) -> NaiveDate {
        self.now().with_timezone(&time_zone).date_naive()
    }

    /// Applies the pending migrations.
    ///
    /// # Errors
    /// Where a migration fails. On MariaDB with a binary log, an ordinary user may not create triggers: the error says what to
    /// do.
    pub async fn migrate(&self) -> Result<()> {
        Migrator::up(&self.writer, None).await.map_err(|error| {
            let code = DatabaseError::from(&error);
            // ER_BINLOG_CREATE_ROUTINE_NEED_SUPER
            let hint = if code.code() == Some(&DatabaseCode::MariaDb(1419)) {
                "; set log_bin_trust_function_creators = 1, or let a user with SUPER run `rollcall migrate`"
            } else {
                ""
            };
            Error::Internal(format!("cannot migrate the database: {error}{hint}"))
        })?;
        // What search needs of patients who were written before there was such an index.
        for hospital in self.hospitals().await? {
            self.index_names(hospital).await?;
            self.hash_phone_endings(hospital).await?;
        }
        Ok(())
    }

    /// Checks that the database has every migration and that the keys open what is encrypted in it.
    ///
    /// # Errors
    /// Where one of these does not hold; the text says what to do. Where the database fails.
    pub async fn verify_ready(&self) -> Result<()> {
        let pending = Migrator::get_pending_migrations(&self.writer).await?;
        if !pending.is_empty() {
            let (count, s) = (pending.len(), if pending.len() == 1 { "" } else { "s" });
            return Err(Error::Internal(format!(
                "{count} pending migration{s}: run `rollcall migrate`"
            )));
        }
        self.check_keys().await
    }

    /// The metrics of this process.
    #[must_use]
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// The keys of encrypted values.
    #[must_use]
    pub fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    fn sql(&self, text: &str) -> Sql {
        Sql::new(self.readers.get_database_backend(), text)
    }
}

/// An error for a value in `column` that this version does not know.
fn unknown_value(column: &str, value: &str) -> Error {
    DbErr::Type(format!("{column} holds the unknown value {value:?}")).into()
}
