//! The audit: who looked at whose data, who changed what, who signed in and who was refused. Entries are only ever added.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, SubsecRound as _, Utc};
use entity::audit_entry;
use sea_orm::ActiveValue::{NotSet, Set};
use sea_orm::{ConnectionTrait, EntityTrait, FromQueryResult};
use tokio::sync::oneshot;

use super::{Seek, Store};
use crate::error::{Error, Result};
use crate::observe::request_id;
use crate::permissions::Viewer;
use crate::statistics::words;

words!(
    /// What was done.
    AuditAction {
        SignedIn = "SIGNED_IN",
        SignInRefused = "SIGN_IN_REFUSED",
        SignedOut = "SIGNED_OUT",
        SessionEnded = "SESSION_ENDED",
        Refused = "REFUSED",
        Changed = "CHANGED",
        ViewedPatients = "VIEWED_PATIENTS",
        OpenedList = "OPENED_LIST",
    }
);

/// Entries of one statement at most.
const ROWS: usize = 500;

/// An entry as it is kept.
pub type AuditRow = audit_entry::Model;

/// An entry to be.
#[derive(Clone, Debug)]
pub struct NewEntry(audit_entry::ActiveModel);

/// A list of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AuditedList {
    pub snapshot: String,
    /// -1 is the total.
    pub bucket: i32,
    pub cohort: &'static str,
    /// Which of its two lists.
    pub list: &'static str,
}

impl NewEntry {
    #[must_use]
    pub fn new(hospital: i64, staff: Option<i64>, action: AuditAction) -> Self {
        Self(audit_entry::ActiveModel {
            hospital_id: Set(hospital),
            id: NotSet,
            at: Set(Utc::now().trunc_subsecs(6)),
            staff_id: Set(staff),
            action: Set(action.word().to_owned()),
            what: Set(None),
            subject_id: Set(None),
            snapshot_id: Set(None),
            bucket: Set(None),
            cohort: Set(None),
            patient_ids: Set(None),
            request_id: Set(request_id()),
        })
    }

    #[must_use]
    pub fn of(viewer: &Viewer, action: AuditAction) -> Self {
        Self::new(viewer.hospital, Some(viewer.staff), action)
    }

    /// Says what: a mutation, or the fields that were refused.
    #[must_use]
    pub fn what(mut self, what: &str) -> Self {
        // As much as the column takes.
        self.0.what = Set(Some(what.chars().take(255).collect()));
        self
    }

    /// Says which record was changed.
    #[must_use]
    pub fn subject(mut self, id: i64) -> Self {
        self.0.subject_id = Set(Some(id));
        self
    }

    /// Says whose data it was.
    #[must_use]
    pub fn patients(mut self, ids: &BTreeSet<i64>) -> Self {
        let text = ids.iter().fold(",".to_owned(), |mut text, id| {
            let _ = write!(text, "{id},");
            text
        });
        self.0.patient_ids = Set((!ids.is_empty()).then_some(text));
        self
    }

    /// Says which list it was.
    #[must_use]
    pub fn list(mut self, list: &AuditedList) -> Self {
        self.0.what = Set(Some(list.list.to_owned()));
        self.0.snapshot_id = Set(Some(list.snapshot.clone()));
        self.0.bucket = Set(Some(list.bucket));
        self.0.cohort = Set(Some(list.cohort.to_owned()));
        self
    }
}

/// Which entries to list.
#[derive(Clone, Debug, Default)]
pub struct AuditQuery {
    pub staff: Option<i64>,
    pub actions: Option<Vec<AuditAction>>,
    pub patient: Option<i64>,
    pub since: Option<DateTime<Utc>>,
    pub until: Option<DateTime<Utc>>,
}

/// Entries on their way into the database. Those of requests at the same time go in one statement: whose turn it is takes all
/// that wait.
#[derive(Default)]
pub(super) struct Waiting {
    entries: Mutex<Vec<(Vec<NewEntry>, oneshot::Sender<()>)>>,
    turn: tokio::sync::Mutex<()>,
}

impl Store {
    /// Adds entries. Once it comes back they are in the database.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn audit(&self, entries: Vec<NewEntry>) -> Result<()> {
        if entries.is_empty() {
            return Ok(());
        }
        loop {
            let (written, mut done) = oneshot::channel();
            self.waiting
                .entries
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push((entries.clone(), written));
            let _turn = self.waiting.turn.lock().await;
            match done.try_recv() {
                Ok(()) => return Ok(()),
                // Whose turn it was went away, or failed, with them in hand.
                Err(oneshot::error::TryRecvError::Closed) => continue,
                Err(oneshot::error::TryRecvError::Empty) => {}
            }
            let all = std::mem::take(&mut *self.waiting.entries.lock().unwrap_or_else(PoisonError::into_inner));
            let rows: Vec<_> = all
                .iter()
                .flat_map(|(entries, _)| entries)
                .map(|entry| entry.0.clone())
                .collect();
            for rows in rows.chunks(ROWS) {
                audit_entry::Entity::insert_many(rows.to_vec())
                    .exec_without_returning(&self.writer)
                    .await?;
            }
            for (_, written) in all {
                let _ = written.send(());
            }
            return Ok(());
        }
    }

    /// A page of the audit, by id.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn audit_page(
        &self,
        hospital: i64,
        query: &AuditQuery,
        seek: &Seek<Option<String>>,
    ) -> Result<Vec<AuditRow>> {
        let mut sql = self.sql("SELECT * FROM audit_entry WHERE hospital_id = ");
        sql.bind(hospital);
        query.conditions(&mut sql);
        let upwards = seek.descending == seek.backwards;
        if let Some((_, from)) = &seek.from {
            sql.push(if upwards { " AND id > " } else { " AND id < " }).bind(*from);
        }
        sql.push(if upwards {
            " ORDER BY id LIMIT "
        } else {
            " ORDER BY id DESC LIMIT "
        });
        sql.bind(i64::try_from(seek.limit).unwrap_or(i64::MAX));
        let mut rows = Vec::new();
        for row in self.readers.query_all_raw(sql.done()).await? {
            rows.push(AuditRow::from_query_result(&row, "")?);
        }
        if seek.backwards {
            rows.reverse();
        }
        Ok(rows)
    }

    /// # Errors
    /// Where the database fails.
    pub async fn audit_entry(&self, hospital: i64, id: i64) -> Result<Option<AuditRow>> {
        Ok(audit_entry::Entity::find_by_id((hospital, id))
            .one(&self.readers)
            .await?)
    }

    /// How many entries match.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn audit_total(&self, hospital: i64, query: &AuditQuery) -> Result<u64> {
        let mut sql = self.sql("SELECT COUNT(*) FROM audit_entry WHERE hospital_id = ");
        sql.bind(hospital);
        query.conditions(&mut sql);
        super::visit::one_count(self.readers.query_one_raw(sql.done()).await?)
    }
}

impl AuditQuery {
    fn conditions(&self, sql: &mut super::Sql) {
        if let Some(staff) = self.staff {
            sql.push(" AND staff_id = ").bind(staff);
        }
        if let Some(actions) = &self.actions {
            let words: Vec<&str> = actions.iter().map(|action| action.word()).collect();
            sql.push(" AND action").few(&words);
        }
        if let Some(patient) = self.patient {
            sql.push(" AND patient_ids LIKE ").bind(format!("%,{patient},%"));
        }
        if let Some(since) = self.since {
            sql.push(" AND at >= ").bind(since);
        }
        if let Some(until) = self.until {
            sql.push(" AND at < ").bind(until);
        }
    }
}

/// Adds an entry with the change that it is of: both or neither.
pub(super) async fn audit_in(transaction: &impl ConnectionTrait, entry: NewEntry) -> Result<()> {
    audit_entry::Entity::insert(entry.0)
        .exec_without_returning(transaction)
        .await
        .map_err(Error::from)?;
    Ok(())
}
