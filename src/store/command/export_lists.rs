//! Exports of lists. What is stored says which rows a file has; it is made when it is downloaded.

use std::collections::BTreeSet;

use async_trait::async_trait;
use chrono::{SubsecRound as _, Utc};
use sea_orm::ConnectionTrait as _;

use super::digest::DigestFields;
use super::transaction::CommandTx;
use super::{Command, CommandInfo, Outcome};
use crate::error::{Error, Result};
use crate::permissions::Action;
use crate::store::exports::id_bytes;
use crate::store::{ExportFormat, Exported, ListKind, ListOrder, NewEntry, RecallEntryQuery};

/// What exports of each kind of list have.
#[derive(Clone, Debug)]
pub struct NewExport {
    pub format: ExportFormat,
    /// The family of the session that may download it.
    pub session: String,
    /// Identifies the list.
    pub digest: String,
}

/// Exports a list of a cohort of a stored snapshot.
#[derive(Clone, Debug)]
pub struct ExportCohort {
    pub snapshot: String,
    /// The index of the bucket; -1 is the total.
    pub bucket: i32,
    pub kind: ListKind,
    pub order: ListOrder,
    pub rows: u64,
    pub export: NewExport,
}

/// Exports entries of a recall list.
#[derive(Clone, Debug)]
pub struct ExportRecallList {
    pub list: i64,
    pub query: RecallEntryQuery,
    /// What the query finds, in its order: the entries and their patients.
    pub entries: Vec<(i64, i64)>,
    pub export: NewExport,
}

impl ExportCohort {
    pub(super) const INFO: CommandInfo = CommandInfo {
        name: "exportCohort",
        mutation: Some("exportCohort"),
        action: Action::ExportLists,
        description: "to export a cohort",
    };
}

impl ExportRecallList {
    pub(super) const INFO: CommandInfo = CommandInfo {
        name: "exportRecallList",
        mutation: Some("exportRecallList"),
        action: Action::ExportLists,
        description: "to export a recall list",
    };
}

#[async_trait]
impl Command for ExportCohort {
    fn info(&self) -> &'static CommandInfo {
        &Self::INFO
    }

    fn digest(&self, fields: &mut DigestFields) {
        // The rest follows from the cohort and the session.
        let Self {
            snapshot,
            bucket,
            kind,
            order,
            export,
            ..
        } = self;
        fields
            .put("cohortId", (snapshot, bucket, kind.as_str()))
            .put("list", order.name())
            .put("format", export.format.as_str());
    }

    async fn execute(&self, tx: &CommandTx<'_>) -> Result<Outcome> {
        tx.keep_snapshot(&self.snapshot).await?;
        let content = Exported::Cohort {
            snapshot: self.snapshot.clone(),
            bucket: self.bucket,
            kind: self.kind,
            order: self.order,
        };
        tx.add_export(&content, self.rows, &self.export, &BTreeSet::new()).await
    }
}

#[async_trait]
impl Command for ExportRecallList {
    fn info(&self) -> &'static CommandInfo {
        &Self::INFO
    }

    fn digest(&self, fields: &mut DigestFields) {
        // Which entries the query finds changes while the list is worked on.
        let Self {
            list, query, export, ..
        } = self;
        fields
            .put("listId", list)
            .recall_entries(query)
            .put("format", export.format.as_str());
    }

    async fn execute(&self, tx: &CommandTx<'_>) -> Result<Outcome> {
        let content = Exported::RecallEntries {
            list: self.list,
            entries: self.entries.iter().map(|&(entry, _)| entry).collect(),
        };
        let patients = self.entries.iter().map(|&(_, patient)| patient).collect();
        tx.add_export(&content, self.entries.len() as u64, &self.export, &patients)
            .await
    }
}

impl CommandTx<'_> {
    /// Begins the time anew after which a snapshot expires: its list is to be there when it is downloaded.
    async fn keep_snapshot(&self, snapshot: &str) -> Result<()> {
        let mut sql = self.store.sql("UPDATE snapshot SET kept_at = ");
        sql.bind(Utc::now().trunc_subsecs(6));
        sql.push(" WHERE hospital_id = ").bind(self.hospital);
        sql.push(" AND id = ").bind(snapshot).push(" AND expired_at IS NULL");
        match self.transaction.execute_raw(sql.done()).await?.rows_affected() {
            0 => Err(Error::unknown_id("input.cohortId", "cohort")),
            _ => Ok(()),
        }
    }

    async fn add_export(
        &self,
        content: &Exported,
        rows: u64,
        export: &NewExport,
        patients: &BTreeSet<i64>,
    ) -> Result<Outcome> {
        let now = self.store.now();
        let row_count = i64::try_from(rows).unwrap_or(i64::MAX);
        let of_list = match content {
            Exported::Cohort {
                snapshot,
                bucket,
                kind,
                order,
            } => vec![
                ("snapshot_id", snapshot.as_str().into()),
                ("bucket", (*bucket).into()),
                ("cohort", kind.as_str().into()),
                ("list_order", order.name().into()),
            ],
            Exported::RecallEntries { list, entries } => vec![
                ("recall_list_id", (*list).into()),
                ("entries", id_bytes(entries).into()),
            ],
        };
        let mut columns = vec![
            ("staff_id", self.staff().into()),
            ("session", export.session.as_str().into()),
            ("format", export.format.as_str().into()),
            ("row_count", row_count.into()),
            ("digest", export.digest.as_str().into()),
            ("created_at", now.into()),
            ("expires_at", (now + self.store.limits.export_lifetime).into()),
        ];
        columns.extend(of_list);
        let id = self.insert("export", &columns).await?;
        let secret = self
            .store
            .hospital_secret_or_new(&self.transaction, self.hospital)
            .await?;
        let mut sql = self.store.sql("UPDATE export SET token_hash = ");
        sql.bind(secret.of_export_token(&secret.export_token(id)?)?);
        sql.push(" WHERE hospital_id = ").bind(self.hospital);
        sql.push(" AND id = ").bind(id);
        self.run(sql).await?;
        let exported = (content, export.format, rows);
        let entry = NewEntry::exported(self.hospital, self.staff(), exported, patients);
        Ok(Outcome::export(id, entry))
    }
}
