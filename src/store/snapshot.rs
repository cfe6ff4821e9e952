//! Snapshots: a manifest each, their lists once per content, and the orders of their cohorts.

use std::collections::HashMap;
use std::fmt::Write as _;

use entity::{list_part, snapshot, snapshot_order};
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::OnConflict;
use sea_orm::{ActiveModelTrait as _, ConnectionTrait, DbErr, EntityTrait, FromQueryResult};

use super::Store;
use crate::error::{Error, Result};
use crate::statistics::{PackedSnapshot, sha256};

/// A snapshot's row as it is kept.
pub type SnapshotRow = snapshot::Model;

/// A snapshot as it is kept: its row, and its lists.
pub struct StoredSnapshot {
    pub row: SnapshotRow,
    pub packed: PackedSnapshot,
}

/// A part of a list at most: well below what a database takes in one packet.
const PART: usize = 1 << 20;
/// Rows of one statement at most, and their bytes, likewise.
const ROWS: usize = 500;

/// Says of an empty list that nothing is kept of it.
const EMPTY: [u8; 32] = [0; 32];

fn hex(digest: &[u8]) -> String {
    digest.iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

impl Store {
    /// Keeps a snapshot; one that is kept already stays as it is. The row's manifest is made here.
    ///
    /// # Errors
    /// Where the database fails; nothing is half kept then.
    pub async fn keep_snapshot(&self, mut row: SnapshotRow, packed: &PackedSnapshot) -> Result<()> {
        let hospital = row.hospital_id;
        let mut manifest = Vec::with_capacity((packed.buckets.len() + 1) * EMPTY.len());
        let mut lists: HashMap<[u8; 32], &[u8]> = HashMap::new();
        for list in std::iter::once(&packed.patients).chain(&packed.buckets) {
            let digest = if list.is_empty() { EMPTY } else { sha256(list) };
            manifest.extend_from_slice(&digest);
            if !list.is_empty() {
                lists.insert(digest, list);
            }
        }
        row.manifest = manifest;
        let transaction = self.begin_write().await?;
        for digest in self.kept(&transaction, hospital, lists.keys()).await? {
            lists.remove(&digest);
        }
        let mut rows = Vec::new();
        let mut bytes = 0;
        for (digest, list) in lists {
            for (part, piece) in (0..).zip(list.chunks(PART)) {
                if rows.len() >= ROWS || bytes + piece.len() > 4 * PART {
                    insert_parts(&transaction, std::mem::take(&mut rows)).await?;
                    bytes = 0;
                }
                bytes += piece.len();
                rows.push(list_part::ActiveModel {
                    hospital_id: Set(hospital),
                    digest: Set(hex(&digest)),
                    part: Set(part),
                    bytes: Set(piece.to_vec()),
                });
            }
        }
        insert_parts(&transaction, rows).await?;
        let row = snapshot::ActiveModel::from(row).reset_all();
        let inserted = snapshot::Entity::insert(row)
            .on_conflict(
                OnConflict::columns([snapshot::Column::HospitalId, snapshot::Column::Id])
                    .do_nothing_on([snapshot::Column::HospitalId, snapshot::Column::Id])
                    .to_owned(),
            )
            .exec_without_returning(&transaction)
            .await;
        match inserted {
            Ok(_) | Err(DbErr::RecordNotInserted) => Ok(transaction.commit().await?),
            Err(error) => Err(error.into()),
        }
    }

    async fn kept<'a>(
        &self,
        connection: &impl ConnectionTrait,
        hospital: i64,
        digests: impl Iterator<Item = &'a [u8; 32]>,
    ) -> Result<Vec<[u8; 32]>> {
        let by_hex: HashMap<String, [u8; 32]> = digests.map(|digest| (hex(digest), *digest)).collect();
        let names: Vec<&str> = by_hex.keys().map(String::as_str).collect();
        let mut sql = self.sql("SELECT digest FROM list_part WHERE part = 0 AND hospital_id = ");
        sql.bind(hospital).push(" AND digest").texts(&names);
        let mut kept = Vec::new();
        for row in connection.query_all_raw(sql.done()).await? {
            let digest: String = row.try_get_by_index(0)?;
            kept.extend(by_hex.get(&digest).copied());
        }
        Ok(kept)
    }

    /// Opens a snapshot of the hospital; none where there never was one of that id.
    ///
    /// # Errors
    /// Where the database fails, or holds other bytes than were kept.
    pub async fn open_snapshot(&self, hospital: i64, id: &str) -> Result<Option<StoredSnapshot>> {
        let key = (hospital, id.to_owned());
        let Some(row) = snapshot::Entity::find_by_id(key).one(&self.readers).await? else {
            return Ok(None);
        };
        let digests: Vec<&[u8]> = row.manifest.chunks(EMPTY.len()).collect();
        let names: Vec<String> = digests.iter().map(|digest| hex(digest)).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut sql = self.sql("SELECT * FROM list_part WHERE hospital_id = ");
        sql.bind(hospital)
            .push(" AND digest")
            .texts(&names)
            .push(" ORDER BY digest, part");
        let mut lists: HashMap<String, Vec<u8>> = HashMap::new();
        for part in self.readers.query_all_raw(sql.done()).await? {
            let part = list_part::Model::from_query_result(&part, "")?;
            lists.entry(part.digest).or_default().extend(part.bytes);
        }
        let mut in_order = digests.iter().map(|&digest| {
            if digest == EMPTY {
                return Ok(Vec::new());
            }
            let list = lists.get(&hex(digest)).cloned().unwrap_or_default();
            if sha256(&list) == digest {
                Ok(list)
            } else {
                Err(Error::Internal(format!(
                    "the snapshot {id} is damaged: a list is not what was kept"
                )))
            }
        });
        let patients = in_order.next().transpose()?.unwrap_or_default();
        let buckets = in_order.collect::<Result<_>>()?;
        let packed = PackedSnapshot { buckets, patients };
        Ok(Some(StoredSnapshot { row, packed }))
    }

    /// Keeps an order of a cohort, or takes over the one that is kept already: whoever comes first decides.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn keep_order(
        &self,
        hospital: i64,
        snapshot_id: &str,
        bucket: i32,
        cohort: &str,
        name: &str,
        places: impl AsyncFnOnce() -> Result<Vec<u8>>,
    ) -> Result<Vec<u8>> {
        let key = || {
            (
                hospital,
                snapshot_id.to_owned(),
                bucket,
                cohort.to_owned(),
                name.to_owned(),
            )
        };
        if let Some(kept) = snapshot_order::Entity::find_by_id(key()).one(&self.readers).await? {
            return Ok(kept.places);
        }
        let row = snapshot_order::ActiveModel {
            hospital_id: Set(hospital),
            snapshot_id: Set(snapshot_id.to_owned()),
            bucket: Set(bucket),
            cohort: Set(cohort.to_owned()),
            name: Set(name.to_owned()),
            places: Set(places().await?),
        };
        let columns = [
            snapshot_order::Column::HospitalId,
            snapshot_order::Column::SnapshotId,
            snapshot_order::Column::Bucket,
            snapshot_order::Column::Cohort,
            snapshot_order::Column::Name,
        ];
        let inserted = snapshot_order::Entity::insert(row)
            .on_conflict(OnConflict::columns(columns).do_nothing_on(columns).to_owned())
            .exec_without_returning(&self.writer)
            .await;
        match inserted {
            Ok(_) | Err(DbErr::RecordNotInserted) => {}
            Err(error) => return Err(error.into()),
        }
        let kept = snapshot_order::Entity::find_by_id(key()).one(&self.writer).await?;
        kept.map(|kept| kept.places)
            .ok_or_else(|| Error::Internal("an order that was just kept is gone".to_owned()))
    }
}

async fn insert_parts(connection: &impl ConnectionTrait, rows: Vec<list_part::ActiveModel>) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let columns = [
        list_part::Column::HospitalId,
        list_part::Column::Digest,
        list_part::Column::Part,
    ];
    let inserted = list_part::Entity::insert_many(rows)
        .on_conflict(OnConflict::columns(columns).do_nothing_on(columns).to_owned())
        .exec_without_returning(connection)
        .await;
    match inserted {
        Ok(_) | Err(DbErr::RecordNotInserted) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
