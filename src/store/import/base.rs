//! What each source last said: the rows of `import_base`.

use std::collections::HashMap;

use sea_orm::{ConnectionTrait, DatabaseTransaction, DbBackend};

use super::three_way::ValueHash;
use crate::error::{Error, Result};
use crate::store::Store;
use crate::store::history::RecordKind;
use crate::store::sql::{ColumnType, Rows};

/// What a source last said of a patient or a visit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Base {
    /// Of each field's value, in the order of the fields; 0 where the source said nothing.
    pub(super) hashes: Vec<ValueHash>,
    pub(super) left_out_reported: bool,
}

impl Base {
    /// The hash of a field's value; 0 for none.
    pub(super) fn hash(&self, field: usize) -> ValueHash {
        self.hashes.get(field).copied().unwrap_or(0)
    }

    fn from_bytes(bytes: &[u8], left_out_reported: bool) -> Self {
        let hashes = bytes.as_chunks().0.iter().map(|hash| u64::from_le_bytes(*hash));
        Self {
            hashes: hashes.collect(),
            left_out_reported,
        }
    }

    fn bytes(&self) -> Vec<u8> {
        self.hashes.iter().flat_map(|hash| hash.to_le_bytes()).collect()
    }
}

impl Store {
    /// The id of a source; none where nothing was imported from it yet.
    pub(super) async fn import_source(
        &self,
        connection: &impl ConnectionTrait,
        hospital: i64,
        record: RecordKind,
        name: &str,
    ) -> Result<Option<i64>> {
        let mut sql = self.sql("SELECT id FROM import_source WHERE hospital_id = ");
        sql.bind(hospital).push(" AND record = ").bind(record.as_str());
        sql.push(" AND name = ").bind(name);
        let row = connection.query_one_raw(sql.done()).await?;
        Ok(row.map(|row| row.try_get_by_index(0)).transpose()?)
    }

    /// The same, created where there is none. The transaction must hold the lock of the hospital's revision.
    pub(super) async fn import_source_or_new(
        &self,
        transaction: &DatabaseTransaction,
        hospital: i64,
        record: RecordKind,
        name: &str,
    ) -> Result<i64> {
        if let Some(id) = self.import_source(transaction, hospital, record, name).await? {
            return Ok(id);
        }
        let mut sql = self.sql("INSERT INTO import_source (hospital_id, record, name) VALUES (");
        sql.bind(hospital)
            .push(", ")
            .bind(record.as_str())
            .push(", ")
            .bind(name);
        sql.push(")");
        transaction.execute_raw(sql.done()).await?;
        let id = self.import_source(transaction, hospital, record, name).await?;
        id.ok_or_else(|| Error::Internal("a row of import_source was inserted and is not there".to_owned()))
    }

    /// The bases of these numbers.
    pub(super) async fn import_bases(
        &self,
        connection: &impl ConnectionTrait,
        hospital: i64,
        source: i64,
        numbers: &[&str],
    ) -> Result<HashMap<String, Base>> {
        let mut sql = self.sql("SELECT number, hashes, left_out_reported FROM import_base WHERE hospital_id = ");
        sql.bind(hospital).push(" AND source_id = ").bind(source);
        sql.push(" AND number").texts(numbers);
        let mut bases = HashMap::new();
        for row in connection.query_all_raw(sql.done()).await? {
            let hashes: Vec<u8> = row.try_get_by_index(1)?;
            bases.insert(
                row.try_get_by_index(0)?,
                Base::from_bytes(&hashes, row.try_get_by_index(2)?),
            );
        }
        Ok(bases)
    }

    pub(super) async fn save_import_bases(
        &self,
        transaction: &DatabaseTransaction,
        hospital: i64,
        source: i64,
        bases: &[(&str, Base)],
    ) -> Result<()> {
        let columns = [
            ("hospital_id", ColumnType::Integer),
            ("source_id", ColumnType::Integer),
            ("number", ColumnType::Text),
            ("hashes", ColumnType::Bytes),
            ("left_out_reported", ColumnType::Boolean),
        ];
        let replace = match transaction.get_database_backend() {
            DbBackend::MySql => {
                " ON DUPLICATE KEY UPDATE hashes = VALUES(hashes), left_out_reported = VALUES(left_out_reported)"
            }
            _ => {
                " ON CONFLICT (hospital_id, source_id, number) DO UPDATE SET hashes = excluded.hashes,
                left_out_reported = excluded.left_out_reported"
            }
        };
        let mut rows = Rows::new(&columns);
        for (number, base) in bases {
            rows.push([
                hospital.into(),
                source.into(),
                (*number).into(),
                base.bytes().into(),
                base.left_out_reported.into(),
            ]);
        }
        self.insert_rows(transaction, "import_base", rows, replace).await
    }

    /// The next numbers, after this one, of which a source said something.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn imported_numbers(
        &self,
        hospital: i64,
        record: RecordKind,
        source: &str,
        after: &str,
    ) -> Result<Vec<String>> {
        let Some(source) = self.import_source(&self.readers, hospital, record, source).await? else {
            return Ok(Vec::new());
        };
        let mut sql = self.sql("SELECT number FROM import_base WHERE hospital_id = ");
        sql.bind(hospital).push(" AND source_id = ").bind(source);
        sql.push(" AND number > ")
            .bind(after)
            .push(" ORDER BY number LIMIT 5000");
        let rows = self.readers.query_all_raw(sql.done()).await?;
        Ok(rows
            .iter()
            .map(|row| row.try_get_by_index(0))
            .collect::<std::result::Result<_, _>>()?)
    }

    /// Deletes what sources said of patients.
    pub(in crate::store) async fn delete_patient_bases(
        &self,
        transaction: &DatabaseTransaction,
        hospital: i64,
        chart_nos: &[&str],
    ) -> Result<()> {
        let mut sql = self.sql("SELECT id FROM import_source WHERE hospital_id = ");
        sql.bind(hospital)
            .push(" AND record = ")
            .bind(RecordKind::Patient.as_str());
        for row in transaction.query_all_raw(sql.done()).await? {
            let source: i64 = row.try_get_by_index(0)?;
            for chart_nos in chart_nos.chunks(500) {
                let mut sql = self.sql("DELETE FROM import_base WHERE hospital_id = ");
                sql.bind(hospital).push(" AND source_id = ").bind(source);
                sql.push(" AND number").few(chart_nos);
                transaction.execute_raw(sql.done()).await?;
            }
        }
        Ok(())
    }
}
