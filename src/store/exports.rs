//! Exports that staff asked for. Each is downloaded once, by the session that asked for it, before it expires by
//! [`Clock`](crate::clock::Clock).

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use entity::export;
use sea_orm::{ConnectionTrait as _, EntityTrait as _, FromQueryResult as _};
use string_enum::string_enum;

use super::hospital_secret::HospitalSecret;
use super::model::{ListKind, stored};
use super::{AuditAction, AuditedList, ListOrder, NewEntry, Store};
use crate::error::{Error, Result};
use crate::permissions::Viewer;

string_enum!(
    /// The format of an exported file.
    ExportFormat {
        Csv = "CSV",
        Xlsx = "XLSX",
    }
);

/// What an export has a row for each of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exported {
    /// The patients or the visits of a list that is stored.
    Cohort {
        snapshot: String,
        /// The index of the bucket; -1 is the total.
        bucket: i32,
        kind: ListKind,
        order: ListOrder,
    },
    /// Entries of a recall list.
    RecallEntries {
        list: i64,
        /// The ids, in their order when the export was asked for.
        entries: Vec<i64>,
    },
}

/// An export.
#[derive(Clone, Debug)]
pub struct Export {
    pub content: Exported,
    pub format: ExportFormat,
    pub rows: u64,
    /// Identifies the list.
    pub digest: String,
    pub expires_at: DateTime<Utc>,
}

impl TryFrom<export::Model> for Export {
    type Error = Error;

    fn try_from(row: export::Model) -> Result<Self> {
        let content = match (
            row.snapshot_id,
            row.bucket,
            row.cohort,
            row.list_order,
            row.recall_list_id,
        ) {
            (Some(snapshot), Some(bucket), Some(kind), Some(order), _) => Exported::Cohort {
                snapshot,
                bucket,
                kind: stored("export.cohort", ListKind::parse(&kind))?,
                order: stored("export.list_order", ListOrder::parse(&order))?,
            },
            (.., Some(list)) => Exported::RecallEntries {
                list,
                entries: ids(row.entries.as_deref().unwrap_or_default()),
            },
            _ => return Err(Error::Internal(format!("the export {} has no list", row.id))),
        };
        Ok(Self {
            content,
            format: stored("export.format", ExportFormat::parse(&row.format))?,
            rows: row.row_count.unsigned_abs(),
            digest: row.digest,
            expires_at: row.expires_at,
        })
    }
}

/// Ids as they are stored.
pub(super) fn id_bytes(ids: &[i64]) -> Vec<u8> {
    ids.iter().flat_map(|id| id.to_le_bytes()).collect()
}

fn ids(bytes: &[u8]) -> Vec<i64> {
    bytes
        .as_chunks()
        .0
        .iter()
        .map(|&bytes| i64::from_le_bytes(bytes))
        .collect()
}

impl HospitalSecret {
    /// The token in the path of the export with this id. It is derived, so that a mutation that is repeated tells it again.
    pub(super) fn export_token(&self, id: i64) -> Result<String> {
        self.hex_hash("export", &id.to_string())
    }

    /// What is stored of a token.
    pub(super) fn of_export_token(&self, token: &str) -> Result<String> {
        self.hex_hash("hash of the token of an export", token)
    }
}

impl NewEntry {
    /// An entry for an export; `staff` is none for the command line. Patients of a cohort are those of the list that it names, as
    /// with pages of it; those of a recall list are given.
    #[must_use]
    pub fn exported(
        hospital: i64,
        staff: Option<i64>,
        export: (&Exported, ExportFormat, u64),
        patients: &BTreeSet<i64>,
    ) -> Self {
        let entry = Self::new(hospital, staff, AuditAction::Exported);
        let (content, format, rows) = export;
        let what = |list: &str| format!("{list}: {rows} rows as {}", format.as_str());
        match content {
            Exported::Cohort {
                snapshot,
                bucket,
                kind,
                order,
            } => {
                let list = AuditedList {
                    snapshot: snapshot.clone(),
                    bucket: *bucket,
                    cohort: kind.as_str(),
                    list: order.list(),
                };
                entry.list(&list).what(&what(order.list()))
            }
            Exported::RecallEntries { list, .. } => entry
                .subject(*list)
                .what(&what("entries of a recall list"))
                .patients(patients),
        }
    }
}

impl Store {
    /// An export by its id, and the token in its path.
    ///
    /// # Errors
    /// If there is none. If the database fails.
    pub async fn export(&self, hospital: i64, id: i64) -> Result<(Export, String)> {
        let missing = || Error::Internal("an export that was asked for is gone".to_owned());
        let row = export::Entity::find_by_id((hospital, id)).one(&self.readers).await?;
        let secret = self.hospital_secret(&self.readers, hospital).await?;
        let token = secret.ok_or_else(missing)?.export_token(id)?;
        Ok((row.ok_or_else(missing)?.try_into()?, token))
    }

    /// Uses the export with this token up: of several requests, one gets it. None if there is no such export, or it was used, has
    /// expired, or is of another session than this one of the viewer.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn use_export(&self, viewer: &Viewer, session: &str, token: &str) -> Result<Option<Export>> {
        let hospital = viewer.hospital;
        let Some(secret) = self.hospital_secret(&self.readers, hospital).await? else {
            return Ok(None);
        };
        let hash = secret.of_export_token(token)?;
        let now = self.now();
        let mut sql = self.sql("UPDATE export SET used_at = ");
        sql.bind(now).push(" WHERE hospital_id = ").bind(hospital);
        sql.push(" AND token_hash = ").bind(hash.as_str());
        sql.push(" AND staff_id = ").bind(viewer.staff);
        sql.push(" AND session = ").bind(session);
        sql.push(" AND used_at IS NULL AND expires_at > ").bind(now);
        if self.write(sql).await? == 0 {
            return Ok(None);
        }
        let mut sql = self.sql("SELECT * FROM export WHERE hospital_id = ");
        sql.bind(hospital).push(" AND token_hash = ").bind(hash);
        let row = self.readers.query_one_raw(sql.done()).await?;
        row.map(|row| export::Model::from_query_result(&row, "")?.try_into())
            .transpose()
    }

    /// Deletes the hospital's exports that expired so long ago that no mutation that is repeated asks for them. Returns how many.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn prune_exports(&self, hospital: i64) -> Result<u64> {
        let expired = self.now() - self.limits.idempotency_key_lifetime;
        let mut sql = self.sql("DELETE FROM export WHERE hospital_id = ");
        sql.bind(hospital).push(" AND expires_at < ").bind(expired);
        self.write(sql).await
    }
}
