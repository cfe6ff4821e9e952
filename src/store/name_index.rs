//! The index of names: the rows of `patient_name_suffix`, written by whatever writes a patient's name or state. A trigger notes the
//! patients that SQL changed in `patient_to_index`; they are indexed before the next search, and every hour.

use entity::patient;
use sea_orm::{ConnectionTrait, DatabaseTransaction, DbBackend};

use super::Store;
use super::model::RecordState;
use super::sql::{ColumnType, Rows};
use crate::error::Result;
use crate::text::name_suffixes;

/// Patients that one transaction indexes.
const BATCH: usize = 500;

/// Patients that a search indexes first, at most.
const MAX_BATCHES_OF_SEARCH: usize = 20;

/// The name that search finds the patient by: only those of ACTIVE patients are indexed, so that counts need not read the patients.
pub(super) fn name_to_index(row: &patient::Model) -> Option<String> {
    row.name.clone().filter(|_| row.state == RecordState::Active.as_str())
}

impl Store {
    /// Adds the suffixes of names to the index; the patients must have none there.
    pub(super) async fn add_suffixes(
        &self,
        transaction: &DatabaseTransaction,
        hospital: i64,
        names: impl Iterator<Item = (i64, &str)>,
    ) -> Result<()> {
        let columns = [
            ("hospital_id", ColumnType::Integer),
            ("patient_id", ColumnType::Integer),
            ("suffix", ColumnType::Text),
        ];
        let mut rows = Rows::new(&columns);
        for (id, name) in names {
            for suffix in name_suffixes(name) {
                rows.push([hospital.into(), id.into(), suffix.into()]);
            }
        }
        self.insert_rows(transaction, "patient_name_suffix", rows, "").await
    }

    /// Removes the suffixes of at most a few hundred patients from the index.
    pub(super) async fn remove_suffixes(
        &self,
        transaction: &DatabaseTransaction,
        hospital: i64,
        patients: &[i64],
    ) -> Result<()> {
        let mut sql = self.sql("DELETE FROM patient_name_suffix WHERE hospital_id = ");
        sql.bind(hospital).push(" AND patient_id").few(patients);
        transaction.execute_raw(sql.done()).await?;
        Ok(())
    }

    /// Indexes the name that the row is going to have, which it notes in the row.
    pub(super) async fn index_name(&self, transaction: &DatabaseTransaction, row: &mut patient::Model) -> Result<()> {
        let wanted = name_to_index(row);
        if row.indexed_name == wanted {
            return Ok(());
        }
        self.remove_suffixes(transaction, row.hospital_id, &[row.id]).await?;
        let name = wanted.as_deref().map(|name| (row.id, name));
        self.add_suffixes(transaction, row.hospital_id, name.into_iter())
            .await?;
        row.indexed_name = wanted;
        Ok(())
    }

    /// Indexes the names of all patients that SQL changed. Returns how many.
    ///
    /// # Errors
    /// BUSY where other changes hold a lock too long. Where the database fails. Names that were indexed before stay so.
    pub async fn index_names(&self, hospital: i64) -> Result<u64> {
        let mut indexed = 0;
        loop {
            match self.with_retry(|| self.index_batch(hospital)).await? {
                0 => return Ok(indexed),
                batch => indexed += batch,
            }
        }
    }

    /// The same before a search, which does not wait for more than 10,000 names.
    pub(super) async fn index_names_for_search(&self, hospital: i64) -> Result<()> {
        for _ in 0..MAX_BATCHES_OF_SEARCH {
            if self.with_retry(|| self.index_batch(hospital)).await? == 0 {
                break;
            }
        }
        Ok(())
    }

    /// Indexes the next names. Returns how many patients were noted.
    async fn index_batch(&self, hospital: i64) -> Result<u64> {
        let transaction = self.begin_write().await?;
        let mut sql = self.sql("SELECT patient_id FROM patient_to_index WHERE hospital_id = ");
        sql.bind(hospital).push(&format!(" ORDER BY patient_id LIMIT {BATCH}"));
        let noted = transaction.query_all_raw(sql.done()).await?;
        let noted: Vec<i64> = noted
            .iter()
            .map(|row| Ok(row.try_get_by_index(0)?))
            .collect::<Result<_>>()?;
        if noted.is_empty() {
            transaction.commit().await?;
            return Ok(0);
        }
        // Locked: the names are not to change until they are indexed.
        let mut sql = self.sql("SELECT id, name FROM patient WHERE state = 'ACTIVE' AND hospital_id = ");
        sql.bind(hospital).push(" AND id").few(&noted);
        if sql.backend() != DbBackend::Sqlite {
            sql.push(" FOR UPDATE");
        }
        let rows = transaction.query_all_raw(sql.done()).await?;
        let mut names: Vec<(i64, String)> = Vec::with_capacity(rows.len());
        for row in rows {
            if let Some(name) = row.try_get_by_index(1)? {
                names.push((row.try_get_by_index(0)?, name));
            }
        }
        let mut sql = self.sql("DELETE FROM patient_to_index WHERE hospital_id = ");
        sql.bind(hospital).push(" AND patient_id").few(&noted);
        transaction.execute_raw(sql.done()).await?;
        let mut sql = self.sql("UPDATE patient SET indexed_name = CASE WHEN state = 'ACTIVE' THEN name END");
        sql.push(" WHERE hospital_id = ")
            .bind(hospital)
            .push(" AND id")
            .few(&noted);
        transaction.execute_raw(sql.done()).await?;
        // Commands write suffixes under this lock. It comes after the rows, as in SQL that changes patients: otherwise the two deadlock.
        self.lock_revision(&transaction, hospital).await?;
        self.remove_suffixes(&transaction, hospital, &noted).await?;
        let names = names.iter().map(|(id, name)| (*id, name.as_str()));
        self.add_suffixes(&transaction, hospital, names).await?;
        transaction.commit().await?;
        Ok(noted.len() as u64)
    }
}
