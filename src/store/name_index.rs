//! The index of names: the rows of `patient_name_suffix`, written by whatever writes a patient's name or state. A trigger notes the
//! patients that SQL changed in `patient_to_index`; they are indexed before the next search, and every hour.

use entity::patient;
use sea_orm::{ConnectionTrait, DatabaseTransaction, DbBackend, Value};

use super::Store;
use super::model::RecordState;
use super::sql::{Sql, json};
use crate::error::Result;
use crate::text::name_suffixes;

/// Patients that one transaction indexes.
const BATCH: usize = 500;

/// Patients that a search indexes first, at most.
const MAX_BATCHES_OF_SEARCH: usize = 20;

/// Suffixes that one statement inserts.
const ROWS: usize = 5_000;

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
        let rows: Vec<(i64, String, usize)> = names.flat_map(|(id, name)| suffix_rows(id, name)).collect();
        for rows in rows.chunks(ROWS) {
            let mut sql = self.sql(
                "INSERT INTO patient_name_suffix (hospital_id, suffix, patient_id, shared, name, chart_no, registered_on)
                SELECT p.hospital_id, n.suffix, p.id, n.shared, p.name, p.chart_no, p.registered_on FROM ",
            );
            rows_sql(&mut sql, rows);
            let join = match sql.backend() {
                DbBackend::Sqlite => "CROSS JOIN",
                DbBackend::MySql => "STRAIGHT_JOIN",
                _ => "JOIN",
            };
            sql.push(&format!(" n {join} patient p ON p.id = n.id AND p.hospital_id = "))
                .bind(hospital);
            transaction.execute_raw(sql.done()).await?;
        }
        Ok(())
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

/// The patient, each suffix of the name, and the number of characters that it shares with the one before it.
fn suffix_rows(id: i64, name: &str) -> Vec<(i64, String, usize)> {
    let mut rows: Vec<(i64, String, usize)> = Vec::new();
    for suffix in name_suffixes(name) {
        let shared = rows.last().map_or(0, |(_, before, _)| {
            let pairs = before.chars().zip(suffix.chars());
            pairs.take_while(|(one, other)| one == other).count()
        });
        rows.push((id, suffix, shared));
    }
    rows
}

/// Adds the rows as a table with the columns id, suffix and shared, which are bound as one value or three.
fn rows_sql(sql: &mut Sql, rows: &[(i64, String, usize)]) {
    match sql.backend() {
        DbBackend::Postgres => {
            let ids: Vec<i64> = rows.iter().map(|(id, ..)| *id).collect();
            let suffixes: Vec<String> = rows.iter().map(|(_, suffix, _)| suffix.clone()).collect();
            let shared: Vec<i64> = rows.iter().map(|(.., shared)| *shared as i64).collect();
            sql.push("(SELECT * FROM unnest(").bind(ids);
            sql.push("::bigint[], ").bind(suffixes).push("::text[], ").bind(shared);
            sql.push("::bigint[]) n (id, suffix, shared))")
        }
        DbBackend::MySql => {
            sql.push("JSON_TABLE(").bind(Value::from(json(rows)));
            sql.push(
                ", '$[*]' COLUMNS (id BIGINT PATH '$[0]',
                    suffix VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin PATH '$[1]',
                    shared INTEGER PATH '$[2]'))",
            )
        }
        _ => {
            sql.push("(SELECT value ->> 0 AS id, value ->> 1 AS suffix, value ->> 2 AS shared FROM json_each(")
                .bind(json(rows));
            sql.push("))")
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    /// However long a text is: of a patient's suffixes that start with it, one alone shares fewer characters than it has.
    #[test]
    fn one_suffix_of_a_patient_shares_less_than_what_is_searched() {
        for name in ["김영수", "김김김수", "Ann Anna An", "ab ab ab", "Öst Ö Ösa", "x", ""] {
            let rows = suffix_rows(1, name);
            for (_, suffix, _) in &rows {
                let ends = suffix.char_indices().map(|(at, c)| at + c.len_utf8());
                for (length, end) in (1..).zip(ends) {
                    let found = rows.iter().filter(|(_, other, _)| other.starts_with(&suffix[..end]));
                    assert_eq!(
                        found.filter(|(.., shared)| *shared < length).count(),
                        1,
                        "{name} {suffix} {length}"
                    );
                }
            }
        }
    }
}
