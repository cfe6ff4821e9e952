//! The transaction of a command, and what several commands do in it.

use chrono::{DateTime, SubsecRound as _, Utc};
use entity::patient;
use sea_orm::{ConnectionTrait as _, DatabaseTransaction};

use super::{Command, change_context};
use crate::error::{Error, Result};
use crate::permissions::{Action, Viewer};
use crate::statistics::MAX_DIMENSION_IDS;
use crate::store::history::HistoryEvent;
use crate::store::hospital::full;
use crate::store::sql::one_count;
use crate::store::{Sql, Store};

/// A transaction in which a command is executed.
pub struct CommandTx<'a> {
    pub(super) store: &'a Store,
    pub(super) transaction: DatabaseTransaction,
    pub(super) hospital: i64,
    /// None where it is executed from the command line.
    pub(super) viewer: Option<&'a Viewer>,
}

impl CommandTx<'_> {
    /// Who executes it; none from the command line.
    pub(super) fn staff(&self) -> Option<i64> {
        self.viewer.map(|viewer| viewer.staff)
    }

    /// Fails if the viewer's role may not do it: for what depends on a command's input. The command line may do everything.
    pub(super) fn require(&self, action: Action, what: &str) -> Result<()> {
        self.viewer.map_or(Ok(()), |viewer| viewer.require(action, what))
    }

    pub(super) async fn run(&self, sql: Sql) -> Result<()> {
        self.transaction.execute_raw(sql.done()).await?;
        Ok(())
    }

    /// Inserts a row with these columns and returns its id: sea-orm cannot return it on MariaDB where the key is composite.
    pub(super) async fn insert(&self, table: &str, columns: &[(&str, sea_orm::Value)]) -> Result<i64> {
        let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
        let mut sql = self.store.sql(&format!(
            "INSERT INTO {table} (hospital_id, {}) VALUES (",
            names.join(", ")
        ));
        sql.bind(self.hospital);
        for (_, value) in columns {
            sql.push(", ").bind(value.clone());
        }
        sql.push(") RETURNING id");
        let row = self.transaction.query_one_raw(sql.done()).await?;
        let row = row.ok_or_else(|| Error::Internal(format!("a row of {table} was inserted and has no id")))?;
        Ok(row.try_get_by_index(0)?)
    }

    /// Records an event of this command in the history of a patient, whose current row this is.
    pub(super) async fn record_event(
        &self,
        command: &dyn Command,
        patient: patient::Model,
        event: HistoryEvent,
        at: DateTime<Utc>,
    ) -> Result<()> {
        let context = change_context(self.staff(), command);
        let (store, transaction) = (self.store, &self.transaction);
        store.record_event(transaction, patient, event, at, context).await
    }

    /// Refuses a value that another row of the table has in the column; `except` is the row's own id.
    pub(super) async fn refuse_taken(
        &self,
        table: &str,
        column: &str,
        argument: &str,
        value: &str,
        except: i64,
    ) -> Result<()> {
        let mut sql = self.store.sql(&format!("SELECT id FROM {table} WHERE hospital_id = "));
        sql.bind(self.hospital).push(&format!(" AND {column} = ")).bind(value);
        sql.push(" AND id <> ").bind(except);
        if self.transaction.query_one_raw(sql.done()).await?.is_some() {
            return Err(Error::input(
                argument,
                format!("another {table} has this {}", column.replace('_', " ")),
            ));
        }
        Ok(())
    }

    /// Refuses one more department or doctor than a hospital may have.
    pub(super) async fn refuse_full(&self, table: &str) -> Result<()> {
        let mut sql = self
            .store
            .sql(&format!("SELECT COUNT(*) FROM {table} WHERE hospital_id = "));
        sql.bind(self.hospital);
        if one_count(self.transaction.query_one_raw(sql.done()).await?)? < u64::from(MAX_DIMENSION_IDS) {
            return Ok(());
        }
        Err(Error::input("input.name", full(table)))
    }
}

/// Refuses a version that is not the current one of the row.
pub(super) fn check_version(row: &str, seen: i32, current: i32) -> Result<()> {
    if seen == current {
        return Ok(());
    }
    Err(Error::Conflict {
        argument: "input.version".to_owned(),
        message: format!(
            "{row} is at version {current}, not {seen}: it was changed meanwhile; load it and decide again"
        ),
        current_version: Some(current),
    })
}

/// Since when something holds that is now true, false, or as it was.
pub(super) fn since(before: Option<DateTime<Utc>>, now: Option<bool>) -> Option<DateTime<Utc>> {
    match now {
        None => before,
        Some(false) => None,
        Some(true) => before.or_else(|| Some(Utc::now().trunc_subsecs(6))),
    }
}
