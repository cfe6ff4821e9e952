//! Imports that were made, so that a file is known again.

use chrono::{DateTime, Utc};
use entity::import;
use sea_orm::ActiveValue::NotSet;
use sea_orm::{ActiveModelTrait as _, ConnectionTrait as _, EntityTrait as _};
use string_enum::string_enum;

use super::{ConflictPolicy, Store};
use crate::error::Result;

/// The purpose under which details of imports are encrypted.
const PURPOSE: &str = "import";

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

/// An import to be recorded.
#[derive(Clone, Debug)]
pub struct NewImport {
    /// PATIENTS or VISITS.
    pub kind: String,
    pub state: ImportState,
    /// SHA-256 of the file, in hexadecimal.
    pub file_digest: String,
    /// None from the command line.
    pub staff: Option<i64>,
    pub source: String,
    pub conflicts: ConflictPolicy,
    pub rows_read: u64,
    /// The number of rows of each outcome, as JSON.
    pub counts: String,
    /// Everything that the file has words in, as JSON; it is encrypted.
    pub detail: String,
}

impl Store {
    /// Records an import.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn add_import(&self, hospital: i64, new: &NewImport) -> Result<()> {
        let now = self.now();
        let rows = new.rows_read.cast_signed();
        let row = import::Model {
            hospital_id: hospital,
            id: 0,
            kind: new.kind.clone(),
            state: new.state.as_str().to_owned(),
            file_digest: new.file_digest.clone(),
            created_at: now,
            updated_at: now,
            staff_id: new.staff,
            source: new.source.clone(),
            conflicts: new.conflicts.as_str().to_owned(),
            upload_id: None,
            rows_read: rows,
            rows_total: Some(rows),
            counts: new.counts.clone(),
            detail: self.secrets.seal(hospital, PURPOSE, &new.detail)?,
        };
        let row = import::ActiveModel {
            id: NotSet,
            ..import::ActiveModel::from(row).reset_all()
        };
        let inserted = import::Entity::insert(row).exec_without_returning(&self.writer).await;
        inserted.map_err(|error| self.write_error(error))?;
        Ok(())
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
}
