//! Imports of files: those that were made, so that a file is known again, and those that are on their way.

use chrono::{DateTime, TimeDelta, Utc};
use entity::{import, import_row};
use sea_orm::{ConnectionTrait, DatabaseTransaction, EntityTrait as _, FromQueryResult as _};
use serde::{Deserialize, Serialize};
use string_enum::string_enum;

use super::history::FieldValue;
use super::import::ImportOutcome;
use super::keyset::seek_by_id_sql;
use super::model::stored;
use super::sql::{ColumnType, Rows, Sql, one_count};
use super::{ConflictPolicy, Keyset, Store};
use crate::error::{Error, Result};

/// The purpose under which details of imports are encrypted.
const PURPOSE: &str = "import";

/// How long the rows of an import are kept after it ended, in days.
const ROWS_KEPT_DAYS: i64 = 7;

/// How long a server may take for a slice of rows, in minutes: then it has stopped.
const STALE_MINUTES: i64 = 15;

string_enum!(
    /// How far an import is.
    ImportState {
        Checking = "CHECKING",
        Ready = "READY",
        Committing = "COMMITTING",
        Done = "DONE",
        Failed = "FAILED",
        Discarded = "DISCARDED",
    }
);

/// What an import says of its file: encrypted, as it has words of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ImportDetail {
    pub file_name: String,
    /// A mapping file's text.
    pub mapping: Option<String>,
    pub reading: ImportReading,
    pub unknown_words: Vec<ImportWord>,
    pub problem: Option<String>,
}

/// What a file was taken for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ImportReading {
    pub format: String,
    pub sheet: Option<String>,
    pub encoding: Option<String>,
    pub delimiter: Option<String>,
    pub header_row: u64,
    pub columns: Vec<ImportColumn>,
}

/// A column of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportColumn {
    /// As the file has it.
    pub header: String,
    /// Ours; none where it is ignored.
    pub column: Option<String>,
}

/// A word of a file that no status, channel or sex stands for; none for more than can be said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportWord {
    pub column: String,
    pub word: Option<String>,
    pub rows: u64,
}

/// The number of rows of each outcome, in the order of [`ImportOutcome::ALL`].
pub type ImportCounts = [u64; 6];

/// An import.
#[derive(Clone, Debug)]
pub struct Import {
    pub id: i64,
    /// PATIENTS or VISITS.
    pub kind: String,
    pub state: ImportState,
    /// SHA-256 of the file, in hexadecimal.
    pub file_digest: String,
    pub created_at: DateTime<Utc>,
    /// None from the command line.
    pub staff: Option<i64>,
    pub source: String,
    pub conflicts: ConflictPolicy,
    pub upload: Option<i64>,
    pub rows_read: u64,
    /// None until it is known.
    pub rows_total: Option<u64>,
    pub counts: ImportCounts,
    pub detail: ImportDetail,
}

/// An import to be recorded.
#[derive(Clone, Debug)]
pub struct NewImport {
    pub kind: String,
    pub state: ImportState,
    pub file_digest: String,
    pub staff: Option<i64>,
    pub source: String,
    pub conflicts: ConflictPolicy,
    pub upload: Option<i64>,
    pub rows_read: u64,
    pub rows_total: Option<u64>,
    pub counts: ImportCounts,
    pub detail: ImportDetail,
}

/// A row of a file, with what becomes of it.
#[derive(Clone, Debug)]
pub struct ImportRow {
    pub line: u64,
    pub outcome: ImportOutcome,
    /// The patient whose data it shows, who is there already.
    pub patient: Option<i64>,
    pub detail: ImportRowDetail,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ImportRowDetail {
    pub problems: Vec<ImportRowProblem>,
    pub fields: Vec<ImportRowField>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImportRowProblem {
    pub column: Option<String>,
    pub message: String,
    pub value_left_out: bool,
}

/// A value that differs; named as in the API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportRowField {
    pub field: String,
    pub before: Option<FieldValue>,
    pub after: Option<FieldValue>,
}

impl Store {
    fn import_from(&self, row: import::Model) -> Result<Import> {
        let unreadable = |error: serde_json::Error| Error::Internal(format!("a stored import cannot be read: {error}"));
        let detail = self.secrets.open_sealed(row.hospital_id, PURPOSE, &row.detail)?;
        Ok(Import {
            id: row.id,
            kind: row.kind,
            state: stored("import.state", ImportState::parse(&row.state))?,
            file_digest: row.file_digest,
            created_at: row.created_at,
            staff: row.staff_id,
            source: row.source,
            conflicts: stored("import.conflicts", ConflictPolicy::parse(&row.conflicts))?,
            upload: row.upload_id,
            rows_read: row.rows_read.unsigned_abs(),
            rows_total: row.rows_total.map(i64::unsigned_abs),
            counts: serde_json::from_str(&row.counts).map_err(unreadable)?,
            detail: serde_json::from_str(&detail).map_err(unreadable)?,
        })
    }

    fn sealed_detail(&self, hospital: i64, detail: &impl Serialize) -> Result<Vec<u8>> {
        let text = serde_json::to_string(detail).map_err(|error| Error::Internal(error.to_string()))?;
        self.secrets.seal(hospital, PURPOSE, &text)
    }

    /// Records an import. Returns its id.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn add_import(&self, hospital: i64, new: &NewImport) -> Result<i64> {
        let transaction = self.begin_write().await?;
        let id = self.add_import_in(&transaction, hospital, new).await?;
        transaction.commit().await?;
        Ok(id)
    }

    pub(super) async fn add_import_in(
        &self,
        transaction: &DatabaseTransaction,
        hospital: i64,
        new: &NewImport,
    ) -> Result<i64> {
        let now = self.now();
        let mut sql = self.sql(
            "INSERT INTO import (hospital_id, kind, state, file_digest, created_at, updated_at, staff_id, source, conflicts,
                upload_id, rows_read, rows_total, counts, detail) VALUES (",
        );
        sql.bind(hospital).push(", ").bind(new.kind.as_str()).push(", ");
        sql.bind(new.state.as_str()).push(", ").bind(new.file_digest.as_str());
        sql.push(", ").bind(now).push(", ").bind(now).push(", ").bind(new.staff);
        sql.push(", ")
            .bind(new.source.as_str())
            .push(", ")
            .bind(new.conflicts.as_str());
        sql.push(", ")
            .bind(new.upload)
            .push(", ")
            .bind(new.rows_read.cast_signed());
        sql.push(", ").bind(new.rows_total.map(u64::cast_signed));
        sql.push(", ").bind(super::sql::json(new.counts));
        sql.push(", ")
            .bind(self.sealed_detail(hospital, &new.detail)?)
            .push(") RETURNING id");
        let row = transaction.query_one_raw(sql.done()).await?;
        let row = row.ok_or_else(|| Error::Internal("an import was inserted and has no id".to_owned()))?;
        Ok(row.try_get_by_index(0)?)
    }

    /// When a file of these bytes was last imported whole, and from which source.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn last_import_of(
        &self,
        hospital: i64,
        kind: &str,
        file_digest: &str,
    ) -> Result<Option<(DateTime<Utc>, String)>> {
        let mut sql = self.sql("SELECT created_at, source FROM import WHERE hospital_id = ");
        sql.bind(hospital).push(" AND file_digest = ").bind(file_digest);
        sql.push(" AND kind = ").bind(kind).push(" AND state = ");
        sql.bind(ImportState::Done.as_str()).push(" ORDER BY id DESC LIMIT 1");
        let row = self.readers.query_one_raw(sql.done()).await?;
        Ok(row
            .map(|row| Ok::<_, sea_orm::DbErr>((row.try_get_by_index(0)?, row.try_get_by_index(1)?)))
            .transpose()?)
    }

    /// The import with this id.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn import(&self, hospital: i64, id: i64) -> Result<Option<Import>> {
        self.import_in(&self.readers, hospital, id).await
    }

    pub(super) async fn import_in(
        &self,
        connection: &impl ConnectionTrait,
        hospital: i64,
        id: i64,
    ) -> Result<Option<Import>> {
        let row = import::Entity::find_by_id((hospital, id)).one(connection).await?;
        row.map(|row| self.import_from(row)).transpose()
    }

    /// A page of the imports, the newest first.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn import_page(&self, hospital: i64, seek: &Keyset<Option<String>>) -> Result<Vec<Import>> {
        let mut sql = self.sql("SELECT * FROM import WHERE hospital_id = ");
        sql.bind(hospital);
        seek_by_id_sql(&mut sql, "id", seek);
        let mut imports = Vec::new();
        for row in self.readers.query_all_raw(sql.done()).await? {
            imports.push(self.import_from(import::Model::from_query_result(&row, "")?)?);
        }
        if seek.backwards {
            imports.reverse();
        }
        Ok(imports)
    }

    /// The number of the hospital's imports.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn import_total(&self, hospital: i64) -> Result<u64> {
        let mut sql = self.sql("SELECT COUNT(*) FROM import WHERE hospital_id = ");
        sql.bind(hospital);
        one_count(self.readers.query_one_raw(sql.done()).await?)
    }

    /// A page of an import's rows with these outcomes, by line; of all outcomes where none is given.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn import_rows(
        &self,
        hospital: i64,
        id: i64,
        outcomes: Option<&[ImportOutcome]>,
        seek: &Keyset<Option<String>>,
    ) -> Result<Vec<ImportRow>> {
        let mut sql = self.sql("SELECT * FROM import_row WHERE hospital_id = ");
        sql.bind(hospital).push(" AND import_id = ").bind(id);
        with_outcomes(&mut sql, outcomes);
        seek_by_id_sql(&mut sql, "line", seek);
        let mut rows = Vec::new();
        for row in self.readers.query_all_raw(sql.done()).await? {
            let row = import_row::Model::from_query_result(&row, "")?;
            let detail = row
                .detail
                .map(|sealed| self.secrets.open_sealed(hospital, PURPOSE, &sealed));
            let detail = detail.transpose()?.map(|text| serde_json::from_str(&text)).transpose();
            rows.push(ImportRow {
                line: row.line.unsigned_abs(),
                outcome: stored("import_row.outcome", ImportOutcome::parse(&row.outcome))?,
                patient: row.patient_id,
                detail: detail
                    .map_err(|error| Error::Internal(format!("a stored row of an import cannot be read: {error}")))?
                    .unwrap_or_default(),
            });
        }
        if seek.backwards {
            rows.reverse();
        }
        Ok(rows)
    }

    /// The number of an import's rows with these outcomes that are kept.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn import_row_total(&self, hospital: i64, id: i64, outcomes: Option<&[ImportOutcome]>) -> Result<u64> {
        let mut sql = self.sql("SELECT COUNT(*) FROM import_row WHERE hospital_id = ");
        sql.bind(hospital).push(" AND import_id = ").bind(id);
        with_outcomes(&mut sql, outcomes);
        one_count(self.readers.query_one_raw(sql.done()).await?)
    }

    /// Takes an import on, which is to be checked or committed; none where another server has done so.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn take_import(&self, hospital: i64, id: i64) -> Result<Option<Import>> {
        let mut sql = self.sql("UPDATE import SET running = TRUE, updated_at = ");
        sql.bind(self.now()).push(" WHERE hospital_id = ").bind(hospital);
        sql.push(" AND id = ").bind(id);
        sql.push(" AND NOT running AND state IN ('CHECKING', 'COMMITTING')");
        if self.write(sql).await? == 0 {
            return Ok(None);
        }
        self.import(hospital, id).await
    }

    /// Stores how far an import is that was in this state. False where it is in another one by now.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn save_import(&self, hospital: i64, before: ImportState, import: &Import) -> Result<bool> {
        let is_running = matches!(import.state, ImportState::Checking | ImportState::Committing);
        let mut sql = self.sql("UPDATE import SET state = ");
        sql.bind(import.state.as_str()).push(", running = ").bind(is_running);
        sql.push(", updated_at = ").bind(self.now());
        sql.push(", file_digest = ").bind(import.file_digest.as_str());
        sql.push(", rows_read = ").bind(import.rows_read.cast_signed());
        sql.push(", rows_total = ")
            .bind(import.rows_total.map(u64::cast_signed));
        sql.push(", counts = ").bind(super::sql::json(import.counts));
        sql.push(", detail = ")
            .bind(self.sealed_detail(hospital, &import.detail)?);
        sql.push(" WHERE hospital_id = ").bind(hospital);
        sql.push(" AND id = ").bind(import.id);
        sql.push(" AND state = ").bind(before.as_str());
        Ok(self.write(sql).await? > 0)
    }

    /// Sets the state of an import in a transaction that holds the lock of the hospital's revision.
    pub(super) async fn set_import_state(
        &self,
        transaction: &DatabaseTransaction,
        hospital: i64,
        id: i64,
        state: ImportState,
    ) -> Result<()> {
        let mut sql = self.sql("UPDATE import SET state = ");
        sql.bind(state.as_str())
            .push(", running = FALSE, updated_at = ")
            .bind(self.now());
        sql.push(" WHERE hospital_id = ").bind(hospital);
        sql.push(" AND id = ").bind(id);
        transaction.execute_raw(sql.done()).await?;
        Ok(())
    }

    /// Stores rows of an import, in place of those of the same lines.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn save_import_rows(&self, hospital: i64, id: i64, rows: &[ImportRow]) -> Result<()> {
        let (Some(first), Some(last)) = (rows.first(), rows.last()) else {
            return Ok(());
        };
        let columns = [
            ("hospital_id", ColumnType::Integer),
            ("import_id", ColumnType::Integer),
            ("line", ColumnType::Integer),
            ("outcome", ColumnType::Text),
            ("patient_id", ColumnType::Integer),
            ("detail", ColumnType::Blob),
        ];
        let mut new = Rows::new(&columns);
        for row in rows {
            let detail = (row.detail != ImportRowDetail::default())
                .then(|| self.sealed_detail(hospital, &row.detail))
                .transpose()?;
            new.push([
                hospital.into(),
                id.into(),
                row.line.cast_signed().into(),
                row.outcome.as_str().into(),
                row.patient.into(),
                detail.into(),
            ]);
        }
        let transaction = self.begin_write().await?;
        let mut sql = self.sql("DELETE FROM import_row WHERE hospital_id = ");
        sql.bind(hospital).push(" AND import_id = ").bind(id);
        sql.push(" AND line BETWEEN ").bind(first.line.cast_signed());
        sql.push(" AND ").bind(last.line.cast_signed());
        transaction.execute_raw(sql.done()).await?;
        self.insert_rows(&transaction, "import_row", new, "").await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Deletes the rows and the file of an import that was discarded.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn put_import_away(&self, hospital: i64, id: i64) -> Result<()> {
        self.delete_import_rows(hospital, id).await?;
        let upload = self.import(hospital, id).await?.and_then(|import| import.upload);
        match upload {
            Some(upload) => self.delete_upload(hospital, upload).await,
            None => Ok(()),
        }
    }

    /// Deletes the rows of an import.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn delete_import_rows(&self, hospital: i64, id: i64) -> Result<()> {
        let mut sql = self.sql("DELETE FROM import_row WHERE hospital_id = ");
        sql.bind(hospital).push(" AND import_id = ").bind(id);
        self.write(sql).await?;
        Ok(())
    }

    /// Clears what rows of imports say of these patients.
    pub(super) async fn clear_import_rows(
        &self,
        transaction: &DatabaseTransaction,
        hospital: i64,
        patients: &[i64],
    ) -> Result<()> {
        for patients in patients.chunks(500) {
            let mut sql = self.sql("UPDATE import_row SET detail = NULL WHERE hospital_id = ");
            sql.bind(hospital).push(" AND patient_id").few(patients);
            transaction.execute_raw(sql.done()).await?;
        }
        Ok(())
    }

    /// Clears the details of all rows of imports: they are not re-encrypted.
    pub(super) async fn clear_all_import_rows(&self, hospital: i64) -> Result<()> {
        let mut sql = self.sql("UPDATE import_row SET detail = NULL WHERE detail IS NOT NULL AND hospital_id = ");
        sql.bind(hospital);
        self.write(sql).await?;
        Ok(())
    }

    /// Ends imports whose server has stopped, and those that were not committed while their file was kept. Deletes rows of imports that
    /// ended a week ago.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn end_old_imports(&self, hospital: i64) -> Result<()> {
        let now = self.now();
        let ended = "'DONE', 'FAILED', 'DISCARDED'";
        for (states, age, state) in [
            (
                "'CHECKING', 'COMMITTING'",
                TimeDelta::minutes(STALE_MINUTES),
                Some(ImportState::Failed),
            ),
            ("'READY'", self.upload_lifetime(), Some(ImportState::Discarded)),
            (ended, TimeDelta::days(ROWS_KEPT_DAYS), None),
        ] {
            let mut sql = self.sql("SELECT * FROM import i WHERE hospital_id = ");
            sql.bind(hospital)
                .push(&format!(" AND state IN ({states}) AND updated_at < "));
            sql.bind(now - age);
            if state.is_none() {
                let rows = "SELECT 1 FROM import_row r WHERE r.hospital_id = i.hospital_id AND r.import_id = i.id";
                sql.push(&format!(" AND EXISTS ({rows})"));
            }
            for row in self.writer.query_all_raw(sql.done()).await? {
                let mut import = self.import_from(import::Model::from_query_result(&row, "")?)?;
                if let Some(state) = state {
                    let before = std::mem::replace(&mut import.state, state);
                    import.detail.problem = (state == ImportState::Failed).then(|| {
                        "the server stopped; what was committed stays: import the file again to finish it".to_owned()
                    });
                    self.save_import(hospital, before, &import).await?;
                    continue;
                }
                self.delete_import_rows(hospital, import.id).await?;
            }
        }
        Ok(())
    }

    fn upload_lifetime(&self) -> TimeDelta {
        TimeDelta::from_std(self.limits.upload_lifetime).unwrap_or(TimeDelta::MAX)
    }
}

fn with_outcomes(sql: &mut Sql, outcomes: Option<&[ImportOutcome]>) {
    if let Some(outcomes) = outcomes {
        let words: Vec<&str> = outcomes.iter().map(|outcome| outcome.as_str()).collect();
        sql.push(" AND outcome").few(&words);
    }
}
