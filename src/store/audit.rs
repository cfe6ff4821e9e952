//! The audit log: who viewed whose data, who changed what, who signed in, and what was refused. Entries are immutable; only
//! retention deletes them.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, SubsecRound as _, Utc};
use entity::{audit_entry, audit_retention};
use sea_orm::ActiveValue::{NotSet, Set};
use sea_orm::{ConnectionTrait, DbBackend, EntityTrait, FromQueryResult, QueryTrait as _};
use string_enum::string_enum;
use tokio::sync::oneshot;

use super::keyset::seek_by_id_sql;
use super::{AuditEntry, Keyset, Sql, Store};
use crate::error::{Error, Result};
use crate::observe::request_id;
use crate::permissions::Viewer;

string_enum!(
    /// The kind of an audit entry.
    AuditAction {
        SignedIn = "SIGNED_IN",
        SignInRefused = "SIGN_IN_REFUSED",
        SignedOut = "SIGNED_OUT",
        SessionEnded = "SESSION_ENDED",
        Refused = "REFUSED",
        Changed = "CHANGED",
        ViewedPatients = "VIEWED_PATIENTS",
        OpenedList = "OPENED_LIST",
        Searched = "SEARCHED",
        Imported = "IMPORTED",
        Exported = "EXPORTED",
        Subscribed = "SUBSCRIBED",
    }
);

/// The largest number of entries of one statement.
const ROWS: usize = 500;
/// The largest number of pairs of an entry and a patient of one statement.
const PATIENTS: usize = 10_000;
/// The largest number of entries that one transaction deletes.
const DELETE_BATCH: u64 = 5_000;

/// An entry to write, with the patients whose data it is about.
#[derive(Clone, Debug)]
pub struct NewEntry {
    hospital: i64,
    row: audit_entry::ActiveModel,
    patients: Vec<i64>,
}

/// A list of a cohort that was opened.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AuditedList {
    pub snapshot: String,
    /// The bucket's index; -1 is the total.
    pub bucket: i32,
    pub cohort: &'static str,
    /// Which of the cohort's two lists.
    pub list: &'static str,
}

impl NewEntry {
    /// An entry at the current time; `staff` is none for the command line and for sign-ins of unknown logins.
    #[must_use]
    pub fn new(hospital: i64, staff: Option<i64>, action: AuditAction) -> Self {
        let row = audit_entry::ActiveModel {
            hospital_id: Set(hospital),
            id: NotSet,
            at: Set(Utc::now().trunc_subsecs(6)),
            staff_id: Set(staff),
            action: Set(action.as_str().to_owned()),
            what: Set(None),
            subject_id: Set(None),
            snapshot_id: Set(None),
            bucket: Set(None),
            cohort: Set(None),
            request_id: Set(request_id()),
        };
        Self {
            hospital,
            row,
            patients: Vec::new(),
        }
    }

    /// An entry for what the viewer did.
    #[must_use]
    pub fn of(viewer: &Viewer, action: AuditAction) -> Self {
        Self::new(viewer.hospital, Some(viewer.staff), action)
    }

    /// Sets what was done, such as the mutation or the refused fields; cut to 255 characters.
    #[must_use]
    pub fn what(mut self, what: &str) -> Self {
        // The column's length.
        self.row.what = Set(Some(what.chars().take(255).collect()));
        self
    }

    /// Sets the id of the changed record.
    #[must_use]
    pub fn subject(mut self, id: i64) -> Self {
        self.row.subject_id = Set(Some(id));
        self
    }

    /// Sets the id of the changed snapshot.
    #[must_use]
    pub fn snapshot(mut self, id: &str) -> Self {
        self.row.snapshot_id = Set(Some(id.to_owned()));
        self
    }

    /// Sets the patients whose data it is about.
    #[must_use]
    pub fn patients(mut self, ids: &BTreeSet<i64>) -> Self {
        self.patients = ids.iter().copied().collect();
        self
    }

    /// Sets the opened list.
    #[must_use]
    pub fn list(mut self, list: &AuditedList) -> Self {
        self.row.what = Set(Some(list.list.to_owned()));
        self.row.snapshot_id = Set(Some(list.snapshot.clone()));
        self.row.bucket = Set(Some(list.bucket));
        self.row.cohort = Set(Some(list.cohort.to_owned()));
        self
    }
}

/// Which entries to list: those that meet all conditions.
#[derive(Clone, Debug, Default)]
pub struct AuditQuery {
    pub staff: Option<i64>,
    pub actions: Option<Vec<AuditAction>>,
    pub patient: Option<i64>,
    pub since: Option<DateTime<Utc>>,
    pub until: Option<DateTime<Utc>>,
}

/// Entries that wait to be written, by hospital.
#[derive(Default)]
pub(super) struct AuditQueues(Mutex<HashMap<i64, Arc<AuditQueue>>>);

/// The waiting entries of one hospital. Entries of concurrent requests are committed together: the request that holds the lock
/// writes all that wait.
#[derive(Default)]
struct AuditQueue {
    requests: Mutex<Vec<QueuedRequest>>,
    writing: tokio::sync::Mutex<()>,
}

/// The entries of one request, and the channel for its result.
struct QueuedRequest {
    entries: Vec<NewEntry>,
    written: oneshot::Sender<Result<()>>,
}

impl AuditQueues {
    fn of(&self, hospital: i64) -> Arc<AuditQueue> {
        let mut queues = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(queues.entry(hospital).or_default())
    }
}

impl AuditQueue {
    fn requests(&self) -> std::sync::MutexGuard<'_, Vec<QueuedRequest>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    /// Writes entries, all of one hospital. They are committed when it returns.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn audit(&self, entries: Vec<NewEntry>) -> Result<()> {
        let Some(hospital) = entries.first().map(|entry| entry.hospital) else {
            return Ok(());
        };
        let queue = self.audit_queues.of(hospital);
        loop {
            let (written, mut outcome) = oneshot::channel();
            let entries = entries.clone();
            queue.requests().push(QueuedRequest { entries, written });
            let _writing = queue.writing.lock().await;
            match outcome.try_recv() {
                Ok(outcome) => return outcome,
                // The request that was writing them was cancelled.
                Err(oneshot::error::TryRecvError::Closed) => continue,
                Err(oneshot::error::TryRecvError::Empty) => {}
            }
            let all = std::mem::take(&mut *queue.requests());
            self.write_entries(hospital, all).await;
            return outcome
                .try_recv()
                .unwrap_or_else(|_| Err(Error::Internal("audit entries were not written".to_owned())));
        }
    }

    /// Writes the entries of several requests together. Where the database refuses that, it writes each request's by themselves,
    /// so that only the request fails whose entries are refused.
    async fn write_entries(&self, hospital: i64, requests: Vec<QueuedRequest>) {
        let all = requests.iter().flat_map(|request| &request.entries);
        let mut outcome = self.write_together(hospital, all).await;
        let one_by_one = requests.len() > 1 && is_refusal(&outcome);
        for QueuedRequest { entries, written } in requests {
            // Not where the database cannot be reached: each write would wait for it again.
            if one_by_one && (outcome.is_ok() || is_refusal(&outcome)) {
                outcome = self.write_together(hospital, entries.iter()).await;
            }
            // The receiver is gone where the request was cancelled.
            let _ = written.send(outcome.clone());
        }
    }

    async fn write_together(&self, hospital: i64, entries: impl Iterator<Item = &NewEntry>) -> Result<()> {
        let entries: Vec<&NewEntry> = entries.collect();
        if let [entry] = entries.as_slice()
            && entry.patients.is_empty()
        {
            let insert = audit_entry::Entity::insert(entry.row.clone());
            let inserted = insert.exec_without_returning(&self.writer).await;
            return inserted.map(drop).map_err(|error| self.write_error(error));
        }
        let transaction = self.begin_write().await?;
        self.insert_entries(&transaction, hospital, &entries).await?;
        Ok(transaction.commit().await?)
    }

    async fn insert_entries(
        &self,
        transaction: &impl ConnectionTrait,
        hospital: i64,
        entries: &[&NewEntry],
    ) -> Result<()> {
        let backend = self.writer.get_database_backend();
        let mut pairs = Vec::new();
        for entries in entries.chunks(ROWS) {
            let rows = entries.iter().map(|entry| entry.row.clone());
            let mut insert = audit_entry::Entity::insert_many(rows).build(backend);
            insert.sql.push_str(" RETURNING id");
            let mut ids = Vec::with_capacity(entries.len());
            for row in transaction.query_all_raw(insert).await? {
                ids.push(row.try_get_by_index::<i64>(0)?);
            }
            // Ids ascend in the order of the rows, but no database promises to return them in that order.
            ids.sort_unstable();
            if ids.len() != entries.len() {
                return Err(Error::Internal("audit entries were inserted without an id".to_owned()));
            }
            for (id, entry) in ids.into_iter().zip(entries) {
                pairs.extend(entry.patients.iter().map(|&patient| (id, patient)));
            }
        }
        for pairs in pairs.chunks(PATIENTS) {
            transaction
                .execute_raw(self.insert_patients(hospital, pairs).done())
                .await?;
        }
        Ok(())
    }

    /// A statement that inserts pairs of an entry and a patient. The pairs are bound as one or two values.
    fn insert_patients(&self, hospital: i64, pairs: &[(i64, i64)]) -> Sql {
        let mut sql = self.sql("INSERT INTO audit_patient (hospital_id, entry_id, patient_id) SELECT ");
        let json = || serde_json::json!(pairs).to_string();
        match self.writer.get_database_backend() {
            DbBackend::Postgres => {
                let (entries, patients): (Vec<i64>, Vec<i64>) = pairs.iter().copied().unzip();
                sql.bind(hospital).push(", e, p FROM unnest(").bind(entries);
                sql.push("::bigint[], ").bind(patients).push("::bigint[]) j (e, p)");
            }
            DbBackend::MySql => {
                sql.bind(hospital).push(", j.e, j.p FROM JSON_TABLE(").bind(json());
                sql.push(", '$[*]' COLUMNS (e BIGINT PATH '$[0]', p BIGINT PATH '$[1]')) j");
            }
            _ => {
                sql.bind(hospital)
                    .push(", j.value ->> 0, j.value ->> 1 FROM json_each(")
                    .bind(json());
                sql.push(") j");
            }
        }
        sql
    }

    /// Writes an entry in the transaction of the change that it records.
    pub(super) async fn audit_in(&self, transaction: &impl ConnectionTrait, entry: &NewEntry) -> Result<()> {
        self.insert_entries(transaction, entry.hospital, &[entry]).await
    }

    /// The ids of the patients that each of these entries is about, ascending.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn audit_patients(&self, hospital: i64, entries: &[i64]) -> Result<HashMap<i64, Vec<i64>>> {
        let mut sql = self.sql("SELECT entry_id, patient_id FROM audit_patient WHERE hospital_id = ");
        sql.bind(hospital).push(" AND entry_id").numbers(entries);
        sql.push(" ORDER BY entry_id, patient_id");
        let mut patients: HashMap<i64, Vec<i64>> = HashMap::new();
        for row in self.readers.query_all_raw(sql.done()).await? {
            patients
                .entry(row.try_get_by_index(0)?)
                .or_default()
                .push(row.try_get_by_index(1)?);
        }
        Ok(patients)
    }

    /// Deletes the hospital's entries from before the cut-off. Returns how many.
    ///
    /// # Errors
    /// Where the database fails; batches before stay deleted.
    pub async fn prune_audit(&self, hospital: i64, cut_off: DateTime<Utc>) -> Result<u64> {
        let mut deleted = 0;
        loop {
            let batch = self.with_retry(|| self.prune_audit_batch(hospital, cut_off)).await?;
            if batch == 0 {
                return Ok(deleted);
            }
            deleted += batch;
        }
    }

    async fn prune_audit_batch(&self, hospital: i64, cut_off: DateTime<Utc>) -> Result<u64> {
        let mut sql = self.sql("SELECT id, at FROM audit_entry WHERE hospital_id = ");
        sql.bind(hospital).push(" ORDER BY id LIMIT ").bind(DELETE_BATCH);
        let mut last: Option<i64> = None;
        for row in self.readers.query_all_raw(sql.done()).await? {
            // Ids ascend with time, but for entries of the same moment.
            if row.try_get_by_index::<DateTime<Utc>>(1)? >= cut_off {
                break;
            }
            last = Some(row.try_get_by_index(0)?);
        }
        let Some(last) = last else { return Ok(0) };
        let transaction = self.begin_write().await?;
        // While this row exists, the triggers allow the deletion of entries from before the cut-off.
        let cut_off = audit_retention::ActiveModel {
            hospital_id: Set(hospital),
            cut_off: Set(cut_off),
            patient_id: Set(None),
            entry_id: Set(None),
        };
        audit_retention::Entity::insert(cut_off)
            .exec_without_returning(&transaction)
            .await?;
        let mut deleted = 0;
        for (table, column) in [("audit_patient", "entry_id"), ("audit_entry", "id")] {
            let mut sql = self.sql(&format!("DELETE FROM {table} WHERE hospital_id = "));
            sql.bind(hospital).push(&format!(" AND {column} <= ")).bind(last);
            deleted = transaction.execute_raw(sql.done()).await?.rows_affected();
        }
        audit_retention::Entity::delete_by_id(hospital)
            .exec(&transaction)
            .await?;
        transaction.commit().await?;
        Ok(deleted)
    }

    /// A page of the audit log, by id.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn audit_page(
        &self,
        hospital: i64,
        query: &AuditQuery,
        seek: &Keyset<Option<String>>,
    ) -> Result<Vec<AuditEntry>> {
        let mut sql = self.sql("SELECT * FROM audit_entry WHERE hospital_id = ");
        sql.bind(hospital);
        query.conditions(&mut sql, hospital);
        seek_by_id_sql(&mut sql, "id", seek);
        let mut rows = Vec::new();
        for row in self.readers.query_all_raw(sql.done()).await? {
            rows.push(AuditEntry::try_from(audit_entry::Model::from_query_result(&row, "")?)?);
        }
        if seek.backwards {
            rows.reverse();
        }
        Ok(rows)
    }

    /// An entry by its id.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn audit_entry(&self, hospital: i64, id: i64) -> Result<Option<AuditEntry>> {
        let found = audit_entry::Entity::find_by_id((hospital, id))
            .one(&self.readers)
            .await?;
        found.map(AuditEntry::try_from).transpose()
    }

    /// How many entries match.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn audit_total(&self, hospital: i64, query: &AuditQuery) -> Result<u64> {
        let mut sql = self.sql("SELECT COUNT(*) FROM audit_entry WHERE hospital_id = ");
        sql.bind(hospital);
        query.conditions(&mut sql, hospital);
        super::sql::one_count(self.readers.query_one_raw(sql.done()).await?)
    }
}

impl AuditQuery {
    fn conditions(&self, sql: &mut Sql, hospital: i64) {
        if let Some(staff) = self.staff {
            sql.push(" AND staff_id = ").bind(staff);
        }
        if let Some(actions) = &self.actions {
            let names: Vec<&str> = actions.iter().map(|action| action.as_str()).collect();
            sql.push(" AND action").few(&names);
        }
        if let Some(patient) = self.patient {
            sql.push(" AND id IN (SELECT entry_id FROM audit_patient WHERE hospital_id = ")
                .bind(hospital);
            sql.push(" AND patient_id = ").bind(patient).push(")");
        }
        if let Some(since) = self.since {
            sql.push(" AND at >= ").bind(since);
        }
        if let Some(until) = self.until {
            sql.push(" AND at < ").bind(until);
        }
    }
}

/// Whether the database refused the entries, and can be reached.
fn is_refusal(outcome: &Result<()>) -> bool {
    matches!(outcome, Err(Error::Database(error)) if error.code().is_some())
}
