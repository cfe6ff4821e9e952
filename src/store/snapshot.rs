//! Stored snapshots: a manifest for each, lists that are stored once per content, sort orders of lists, and expiry.
//!
//! A derived list is stored as a snapshot with one list. What it was made of, `derived_source`, does not expire before it does.
//!
//! A snapshot expires by its `kept_at`, the time when it was last stored or opened; that of a snapshot of a live answer, which is kept for
//! a short time only, lies in the past accordingly. A list has a `kept_at` of its own, which is at most a
//! day before that of any snapshot that has the list: so a list that a snapshot needs is never deleted, and no references have to
//! be counted.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, SubsecRound as _, TimeDelta, Utc};
use entity::{derived_source, list_part, snapshot, snapshot_order};
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::OnConflict;
use sea_orm::{ActiveModelTrait as _, ConnectionTrait, DatabaseTransaction, DbErr, EntityTrait, FromQueryResult as _};
use sha2::{Digest as _, Sha256};

use super::keyset::{Keyset, seek_by_id_sql};
use super::sql::one_count;
use super::{PatientKey, Sql, Store, VisitKey};
use crate::error::{Error, Result};
use crate::statistics::PackedSnapshot;

/// A row of the table of snapshots.
pub type SnapshotRow = snapshot::Model;

/// Since when a snapshot is pinned, by whom, and what they call it.
#[derive(Clone, Debug)]
pub struct Pin {
    pub at: DateTime<Utc>,
    /// None from the command line.
    pub by: Option<i64>,
    pub label: Option<String>,
}

/// A snapshot as it is stored.
pub enum StoredSnapshot {
    /// With its lists.
    Whole(SnapshotRow, PackedSnapshot),
    /// Its lists were deleted; the row still has the question.
    Expired(SnapshotRow),
}

/// What became of a snapshot that was to be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoredAs {
    /// It is stored.
    Same,
    /// Other lists are stored under its id; nothing was stored.
    Other,
    /// Something that it was made of has expired; nothing was stored.
    SourceExpired,
}

/// A condition that is true of what no derived list was made of.
const NO_SOURCE: &str = "NOT EXISTS (SELECT 1 FROM derived_source d WHERE d.hospital_id = snapshot.hospital_id
    AND d.source_id = snapshot.id)";

/// The largest part of a list, in bytes: well below what a database accepts in one packet.
const PART: usize = 1 << 20;
/// The largest number of rows of one statement. Its parts have at most four times [`PART`] bytes.
const ROWS: usize = 500;

/// `kept_at` is updated only where it is older than this, so that frequent questions do not cause frequent writes.
const STALE: TimeDelta = TimeDelta::days(1);
/// Snapshots or lists that one statement of a sweep changes, so that others do not wait for it long.
const SWEEP_BATCH: u64 = 200;

/// Stands in a manifest for an empty list, of which nothing is stored.
const EMPTY: [u8; 32] = [0; 32];

/// Which list of a cohort, in which order; the flag is whether keys descend. Nulls are last in either direction, ties ascend by id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ListOrder {
    Patients(PatientKey, bool),
    Visits(VisitKey, bool),
}

impl ListOrder {
    /// The name under which the order is stored; cursors are bound to it.
    #[must_use]
    pub fn name(self) -> String {
        let (key, descending) = match self {
            Self::Patients(key, descending) => (key.as_str(), descending),
            Self::Visits(key, descending) => (key.as_str(), descending),
        };
        format!("{} {key} {}", self.list(), if descending { "desc" } else { "asc" })
    }

    /// The order of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let (list, order) = name.split_once(' ')?;
        let (key, direction) = order.split_once(' ')?;
        let descending = match direction {
            "asc" => false,
            "desc" => true,
            _ => return None,
        };
        match list {
            "patients" => Some(Self::Patients(PatientKey::parse(key)?, descending)),
            "visits" => Some(Self::Visits(VisitKey::parse(key)?, descending)),
            _ => None,
        }
    }

    /// The name of the list: patients or visits.
    #[must_use]
    pub const fn list(self) -> &'static str {
        match self {
            Self::Patients(..) => "patients",
            Self::Visits(..) => "visits",
        }
    }
}

/// Whether a snapshot that was stored then is renewed when it is opened.
pub fn is_stale(kept_at: DateTime<Utc>) -> bool {
    kept_at < Utc::now() - STALE
}

/// The `kept_at` of a snapshot that is to expire after `lifetime`, where others expire after `retention`.
pub fn kept_at_of(lifetime: TimeDelta, retention: TimeDelta) -> DateTime<Utc> {
    (Utc::now() + lifetime - retention - STALE).trunc_subsecs(6)
}

impl Store {
    /// Stores a snapshot; one that is stored already keeps its lists. The row's manifest is made here; `kept_at` is that of the row and
    /// of its lists. Returns false where other lists are stored under its id: then nothing is stored, and the snapshot must not be
    /// shown under that id.
    ///
    /// # Errors
    /// Where the database fails; nothing is stored then.
    pub async fn store_snapshot(&self, row: &SnapshotRow, packed: &PackedSnapshot) -> Result<bool> {
        Ok(self.store_list(row, packed, &[]).await? == StoredAs::Same)
    }

    /// The same for a derived list, which was made of these snapshots and derived lists.
    ///
    /// # Errors
    /// Where the database fails; nothing is stored then.
    pub async fn store_list(&self, row: &SnapshotRow, packed: &PackedSnapshot, sources: &[String]) -> Result<StoredAs> {
        self.with_retry(|| self.store_once(row.clone(), packed, sources)).await
    }

    async fn store_once(&self, mut row: SnapshotRow, packed: &PackedSnapshot, sources: &[String]) -> Result<StoredAs> {
        let hospital = row.hospital_id;
        let mut manifest = Vec::with_capacity((packed.buckets.len() + 1) * EMPTY.len());
        let mut lists: HashMap<[u8; 32], &[u8]> = HashMap::new();
        for list in std::iter::once(&packed.patients).chain(&packed.buckets) {
            let digest = if list.is_empty() {
                EMPTY
            } else {
                Sha256::digest(list).into()
            };
            manifest.extend_from_slice(&digest);
            if !list.is_empty() {
                lists.insert(digest, list);
            }
        }
        row.manifest = manifest;
        let kept_at = row.kept_at;
        let transaction = self.begin_write().await?;
        let (mut stored, stale) = self.stored_lists(&transaction, hospital, &lists, kept_at).await?;
        if !stale.is_empty() {
            // A sweep may have deleted some of them just before. It does not delete those that are renewed.
            self.renew_lists(&transaction, hospital, &stale, kept_at).await?;
            stored = self.stored_lists(&transaction, hospital, &lists, kept_at).await?.0;
        }
        for digest in stored {
            lists.remove(&digest);
        }
        insert_lists(&transaction, hospital, lists, kept_at).await?;
        // Restores an expired snapshot, and renews an old one.
        let mut sql = self.sql("UPDATE snapshot SET expired_at = NULL, kept_at = ");
        sql.bind(kept_at).push(", manifest = ").bind(row.manifest.clone());
        sql.push(" WHERE hospital_id = ").bind(hospital);
        sql.push(" AND id = ").bind(row.id.as_str());
        sql.push(" AND (expired_at IS NOT NULL OR kept_at < ")
            .bind(kept_at - STALE);
        sql.push(" AND manifest = ").bind(row.manifest.clone()).push(")");
        transaction.execute_raw(sql.done()).await?;
        let (id, manifest) = (row.id.clone(), row.manifest.clone());
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
            Ok(_) | Err(DbErr::RecordNotInserted) => {}
            Err(error) => return Err(error.into()),
        }
        // Another one may have been stored before.
        let stored = self.snapshot_row_in(&transaction, hospital, &id).await?;
        if stored.is_none_or(|stored| stored.manifest != manifest) {
            transaction.rollback().await?;
            return Ok(StoredAs::Other);
        }
        let now = Utc::now().trunc_subsecs(6);
        if !self.keep_sources(&transaction, hospital, &id, sources, now).await? {
            transaction.rollback().await?;
            return Ok(StoredAs::SourceExpired);
        }
        transaction.commit().await?;
        Ok(StoredAs::Same)
    }

    /// Records what a derived list was made of, so that it does not expire earlier. Returns false where some of it has expired.
    async fn keep_sources(
        &self,
        transaction: &DatabaseTransaction,
        hospital: i64,
        derived: &str,
        sources: &[String],
        now: DateTime<Utc>,
    ) -> Result<bool> {
        if sources.is_empty() {
            return Ok(true);
        }
        let ids: Vec<&str> = sources.iter().map(String::as_str).collect();
        // A sweep may be about to expire them; it does not expire those that are renewed.
        let mut sql = self.sql("UPDATE snapshot SET kept_at = ");
        sql.bind(now).push(" WHERE hospital_id = ").bind(hospital);
        sql.push(" AND expired_at IS NULL AND kept_at < ").bind(now - STALE);
        sql.push(" AND id").few(&ids);
        transaction.execute_raw(sql.done()).await?;
        let mut sql = self.sql("SELECT COUNT(DISTINCT id) FROM snapshot WHERE expired_at IS NULL AND hospital_id = ");
        sql.bind(hospital).push(" AND id").few(&ids);
        let distinct: HashSet<&str> = ids.into_iter().collect();
        if one_count(transaction.query_one_raw(sql.done()).await?)? != distinct.len() as u64 {
            return Ok(false);
        }
        let rows = distinct.into_iter().map(|source| derived_source::ActiveModel {
            hospital_id: Set(hospital),
            source_id: Set(source.to_owned()),
            derived_id: Set(derived.to_owned()),
        });
        let columns = [
            derived_source::Column::HospitalId,
            derived_source::Column::SourceId,
            derived_source::Column::DerivedId,
        ];
        let inserted = derived_source::Entity::insert_many(rows)
            .on_conflict(OnConflict::columns(columns).do_nothing_on(columns).to_owned())
            .exec_without_returning(transaction)
            .await;
        match inserted {
            Ok(_) | Err(DbErr::RecordNotInserted) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    /// Sets `kept_at` of lists.
    async fn renew_lists(
        &self,
        connection: &impl ConnectionTrait,
        hospital: i64,
        digests: &[String],
        kept_at: DateTime<Utc>,
    ) -> std::result::Result<(), DbErr> {
        for digests in digests.chunks(ROWS) {
            let digests: Vec<&str> = digests.iter().map(String::as_str).collect();
            let mut sql = self.sql("UPDATE list_part SET kept_at = ");
            sql.bind(kept_at).push(" WHERE hospital_id = ").bind(hospital);
            sql.push(" AND digest").few(&digests);
            connection.execute_raw(sql.done()).await?;
        }
        Ok(())
    }

    /// Which of the lists are stored; and of these, sorted, those whose `kept_at` is more than [`STALE`] before this one.
    async fn stored_lists(
        &self,
        connection: &impl ConnectionTrait,
        hospital: i64,
        lists: &HashMap<[u8; 32], &[u8]>,
        kept_at: DateTime<Utc>,
    ) -> Result<(Vec<[u8; 32]>, Vec<String>)> {
        let by_hex: HashMap<String, [u8; 32]> = lists.keys().map(|digest| (hex::encode(digest), *digest)).collect();
        let names: Vec<&str> = by_hex.keys().map(String::as_str).collect();
        let mut sql = self.sql("SELECT digest, kept_at FROM list_part WHERE part = 0 AND hospital_id = ");
        sql.bind(hospital)
            .push(" AND digest")
            .texts(&names)
            .push(" ORDER BY digest");
        let (mut stored, mut stale) = (Vec::new(), Vec::new());
        for row in connection.query_all_raw(sql.done()).await? {
            let digest: String = row.try_get_by_index(0)?;
            stored.extend(by_hex.get(&digest).copied());
            if row.try_get_by_index::<DateTime<Utc>>(1)? < kept_at - STALE {
                stale.push(digest);
            }
        }
        Ok((stored, stale))
    }

    async fn snapshot_row_in(
        &self,
        connection: &impl ConnectionTrait,
        hospital: i64,
        id: &str,
    ) -> Result<Option<SnapshotRow>> {
        let key = (hospital, id.to_owned());
        Ok(snapshot::Entity::find_by_id(key).one(connection).await?)
    }

    /// A snapshot's row, without its lists; none where there never was one of that id.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn snapshot_row(&self, hospital: i64, id: &str) -> Result<Option<SnapshotRow>> {
        self.snapshot_row_in(&self.readers, hospital, id).await
    }

    /// The rows of these snapshots.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn snapshot_rows(&self, hospital: i64, ids: &[String]) -> Result<Vec<SnapshotRow>> {
        let mut sql = self.sql("SELECT * FROM snapshot WHERE hospital_id = ");
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        sql.bind(hospital).push(" AND id").texts(&ids);
        let found = self.readers.query_all_raw(sql.done()).await?;
        let rows = found.iter().map(|row| SnapshotRow::from_query_result(row, ""));
        Ok(rows.collect::<std::result::Result<_, _>>()?)
    }

    /// The pins of those of these snapshots that are pinned.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn pins(&self, hospital: i64, ids: &[String]) -> Result<HashMap<String, Pin>> {
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        let mut sql = self.sql("SELECT id, pinned_at, pinned_by, label FROM snapshot WHERE hospital_id = ");
        sql.bind(hospital).push(" AND pinned_at IS NOT NULL AND id").texts(&ids);
        let mut pins = HashMap::new();
        for row in self.readers.query_all_raw(sql.done()).await? {
            let pin = Pin {
                at: row.try_get_by_index(1)?,
                by: row.try_get_by_index(2)?,
                label: row.try_get_by_index(3)?,
            };
            pins.insert(row.try_get_by_index(0)?, pin);
        }
        Ok(pins)
    }

    /// A page of the hospital's pinned snapshots, by the number under which each was pinned.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn pinned_page(&self, hospital: i64, seek: &Keyset<Option<String>>) -> Result<Vec<SnapshotRow>> {
        let mut sql = self.sql("SELECT * FROM snapshot WHERE hospital_id = ");
        sql.bind(hospital)
            .push(" AND pin_number IS NOT NULL AND recipe IS NULL");
        seek_by_id_sql(&mut sql, "pin_number", seek);
        let found = self.readers.query_all_raw(sql.done()).await?;
        let rows = found.iter().map(|row| SnapshotRow::from_query_result(row, ""));
        let mut rows: Vec<SnapshotRow> = rows.collect::<std::result::Result<_, _>>()?;
        if seek.backwards {
            rows.reverse();
        }
        Ok(rows)
    }

    /// How many of the hospital's snapshots are pinned.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn pinned_total(&self, hospital: i64) -> Result<u64> {
        let mut sql = self.sql("SELECT COUNT(*) FROM snapshot WHERE hospital_id = ");
        sql.bind(hospital)
            .push(" AND pin_number IS NOT NULL AND recipe IS NULL");
        one_count(self.readers.query_one_raw(sql.done()).await?)
    }

    /// Expires the hospital's snapshots that were last stored before `before` and are not pinned. Their lists and sort orders are
    /// deleted; their rows stay, with the question. Returns how many expired.
    ///
    /// # Errors
    /// Where the database fails; those that expired until then stay so.
    pub async fn expire_snapshots(&self, hospital: i64, before: DateTime<Utc>) -> Result<u64> {
        let before = before - STALE;
        let mut expired = 0;
        loop {
            let mut sql = self.sql("SELECT id FROM snapshot WHERE hospital_id = ");
            sql.bind(hospital).push(" AND expired_at IS NULL AND pinned_at IS NULL");
            sql.push(" AND kept_at < ").bind(before).push(" AND ").push(NO_SOURCE);
            sql.push(" ORDER BY id LIMIT ").bind(SWEEP_BATCH);
            let ids = self.texts(sql).await?;
            if ids.is_empty() {
                break;
            }
            let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
            let mut sql = self.sql("UPDATE snapshot SET expired_at = ");
            sql.bind(Utc::now().trunc_subsecs(6))
                .push(", manifest = ")
                .bind(Vec::<u8>::new());
            sql.push(" WHERE hospital_id = ").bind(hospital);
            sql.push(" AND pinned_at IS NULL AND kept_at < ").bind(before);
            sql.push(" AND id").few(&ids).push(" AND ").push(NO_SOURCE);
            expired += self.write(sql).await?;
        }
        // What a derived list was made of may expire from the next sweep on.
        for (table, id) in [("snapshot_order", "snapshot_id"), ("derived_source", "derived_id")] {
            let mut sql = self.sql(&format!("DELETE FROM {table} WHERE hospital_id = "));
            sql.bind(hospital)
                .push(&format!(
                    " AND {id} IN (SELECT id FROM snapshot WHERE expired_at IS NOT NULL AND hospital_id = "
                ))
                .bind(hospital)
                .push(")");
            self.write(sql).await?;
        }
        self.renew_pinned_lists(hospital).await?;
        self.delete_stale_lists(hospital, before - STALE - STALE).await?;
        Ok(expired)
    }

    /// Renews the lists of pinned snapshots, and of what derived lists were made of.
    async fn renew_pinned_lists(&self, hospital: i64) -> Result<()> {
        let mut sql = self.sql("SELECT id FROM snapshot WHERE hospital_id = ");
        sql.bind(hospital).push(&format!(
            " AND expired_at IS NULL AND (pinned_at IS NOT NULL OR NOT {NO_SOURCE})"
        ));
        for id in self.texts(sql).await? {
            self.renew_lists_of(hospital, &id).await?;
        }
        Ok(())
    }

    /// Renews the lists of a snapshot as if it were stored now.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn renew_lists_of(&self, hospital: i64, id: &str) -> Result<()> {
        let Some(row) = self.snapshot_row(hospital, id).await? else {
            return Ok(());
        };
        let now = Utc::now().trunc_subsecs(6);
        let lists = row
            .manifest
            .as_chunks()
            .0
            .iter()
            .map(|&digest| (digest, &[][..]))
            .collect();
        let (_, stale) = self.stored_lists(&self.readers, hospital, &lists, now).await?;
        let renewed = self.renew_lists(&self.writer, hospital, &stale, now).await;
        renewed.map_err(|error| self.write_error(error))
    }

    /// Deletes lists that no snapshot was stored with since `before`.
    async fn delete_stale_lists(&self, hospital: i64, before: DateTime<Utc>) -> Result<()> {
        loop {
            let mut sql = self.sql("SELECT DISTINCT digest FROM list_part WHERE hospital_id = ");
            sql.bind(hospital).push(" AND kept_at < ").bind(before);
            sql.push(" ORDER BY digest LIMIT ").bind(SWEEP_BATCH);
            let digests = self.texts(sql).await?;
            if digests.is_empty() {
                return Ok(());
            }
            let digests: Vec<&str> = digests.iter().map(String::as_str).collect();
            let mut sql = self.sql("DELETE FROM list_part WHERE hospital_id = ");
            sql.bind(hospital).push(" AND kept_at < ").bind(before);
            sql.push(" AND digest").few(&digests);
            self.write(sql).await?;
        }
    }

    async fn texts(&self, sql: Sql) -> Result<Vec<String>> {
        let rows = self.readers.query_all_raw(sql.done()).await?;
        Ok(rows
            .iter()
            .map(|row| row.try_get_by_index(0))
            .collect::<std::result::Result<_, _>>()?)
    }

    /// Renews a snapshot with its lists as if it were stored now, where it was stored more than a day ago.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn renew_snapshot(&self, hospital: i64, id: &str) -> Result<()> {
        // The lists first: they must not expire before the snapshot.
        self.renew_lists_of(hospital, id).await?;
        let now = Utc::now().trunc_subsecs(6);
        let mut sql = self.sql("UPDATE snapshot SET kept_at = ");
        sql.bind(now).push(" WHERE hospital_id = ").bind(hospital);
        sql.push(" AND id = ").bind(id);
        sql.push(" AND expired_at IS NULL AND kept_at < ").bind(now - STALE);
        self.write(sql).await?;
        Ok(())
    }

    /// Loads a snapshot of the hospital; none where there never was one of that id.
    ///
    /// # Errors
    /// Where the database fails, or a list is damaged.
    pub async fn load_snapshot(&self, hospital: i64, id: &str) -> Result<Option<StoredSnapshot>> {
        // One view: between two statements a sweep may delete the lists.
        let view = self.read_view().await?;
        let Some(row) = self.snapshot_row_in(&view, hospital, id).await? else {
            return Ok(None);
        };
        if row.expired_at.is_some() {
            return Ok(Some(StoredSnapshot::Expired(row)));
        }
        let digests: Vec<&[u8]> = row.manifest.chunks(EMPTY.len()).collect();
        let names: Vec<String> = digests.iter().map(hex::encode).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut sql = self.sql("SELECT digest, bytes FROM list_part WHERE hospital_id = ");
        sql.bind(hospital)
            .push(" AND digest")
            .texts(&names)
            .push(" ORDER BY digest, part");
        let mut lists: HashMap<String, Vec<u8>> = HashMap::new();
        for part in view.query_all_raw(sql.done()).await? {
            let bytes: Vec<u8> = part.try_get_by_index(1)?;
            lists.entry(part.try_get_by_index(0)?).or_default().extend(bytes);
        }
        view.commit().await?;
        let mut in_order = digests.iter().map(|&digest| {
            if digest == EMPTY {
                return Ok(Vec::new());
            }
            let list = lists.get(&hex::encode(digest)).cloned().unwrap_or_default();
            if Sha256::digest(&list)[..] == *digest {
                Ok(list)
            } else {
                Err(Error::Internal(format!(
                    "the snapshot {id} is damaged: a list does not match its digest"
                )))
            }
        });
        let patients = in_order.next().transpose()?.unwrap_or_default();
        let buckets = in_order.collect::<Result<_>>()?;
        let packed = PackedSnapshot { buckets, patients };
        Ok(Some(StoredSnapshot::Whole(row, packed)))
    }

    /// The stored order of a cohort's list. Where there is none yet, `places` makes it, and it is stored unless another server has
    /// stored one meanwhile, which then counts.
    ///
    /// # Errors
    /// Where the database or `places` fails.
    pub async fn load_or_store_order(
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
        if let Some(stored) = snapshot_order::Entity::find_by_id(key()).one(&self.readers).await? {
            return Ok(stored.places);
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
            Err(error) => return Err(self.write_error(error)),
        }
        let stored = snapshot_order::Entity::find_by_id(key()).one(&self.writer).await;
        let stored = stored.map_err(|error| self.write_error(error))?;
        stored
            .map(|stored| stored.places)
            .ok_or_else(|| Error::Internal("an order that was just stored is missing".to_owned()))
    }
}

async fn insert_lists(
    transaction: &DatabaseTransaction,
    hospital: i64,
    lists: HashMap<[u8; 32], &[u8]>,
    kept_at: DateTime<Utc>,
) -> Result<()> {
    let mut rows = Vec::new();
    let mut bytes = 0;
    for (digest, list) in lists {
        for (part, piece) in (0..).zip(list.chunks(PART)) {
            if rows.len() >= ROWS || bytes + piece.len() > 4 * PART {
                insert_parts(transaction, std::mem::take(&mut rows)).await?;
                bytes = 0;
            }
            bytes += piece.len();
            rows.push(list_part::ActiveModel {
                hospital_id: Set(hospital),
                digest: Set(hex::encode(digest)),
                part: Set(part),
                bytes: Set(piece.to_vec()),
                kept_at: Set(kept_at),
            });
        }
    }
    insert_parts(transaction, rows).await
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
