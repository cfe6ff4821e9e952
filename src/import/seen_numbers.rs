//! The numbers of a file's rows so far, in a temporary database, so that memory does not grow with the file.

use std::collections::{HashMap, HashSet};

use sea_orm::{ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DbBackend, Statement};
use tempfile::TempDir;

use crate::error::{Error, Result};

pub(super) struct SeenNumbers {
    scratch: DatabaseConnection,
    /// Whether a number came twice.
    has_duplicates: bool,
    /// Deleted when this is dropped.
    _folder: TempDir,
}

impl SeenNumbers {
    pub(super) async fn new() -> Result<Self> {
        let folder = tempfile::tempdir()
            .map_err(|error| Error::Internal(format!("cannot create a temporary folder: {error}")))?;
        let url = format!("sqlite://{}?mode=rwc", folder.path().join("seen.db").display());
        let mut options = ConnectOptions::new(url);
        options
            .max_connections(1)
            // As in the store: no background task for idle connections.
            .idle_timeout(None)
            .max_lifetime(None)
            .sqlx_logging(false)
            .map_sqlx_sqlite_opts(|sqlite| sqlite.pragma("journal_mode", "OFF").pragma("synchronous", "OFF"));
        let scratch = Database::connect(options).await?;
        scratch
            .execute_unprepared("CREATE TABLE seen (number TEXT PRIMARY KEY, line INTEGER NOT NULL) WITHOUT ROWID")
            .await?;
        Ok(Self {
            scratch,
            has_duplicates: false,
            _folder: folder,
        })
    }

    /// Records numbers with their lines. A number that is known already keeps its line.
    pub(super) async fn record(&mut self, numbers: &[(&str, u64)]) -> Result<()> {
        let insert = "INSERT OR IGNORE INTO seen SELECT value ->> 0, value ->> 1 FROM json_each(?)";
        let inserted = self.scratch.execute_raw(statement(insert, json(numbers))).await?;
        self.has_duplicates |= inserted.rows_affected() < numbers.len() as u64;
        Ok(())
    }

    /// Of numbers that were recorded, those of which another line came first.
    pub(super) async fn repeated(&mut self, numbers: &[(&str, u64)]) -> Result<HashSet<u64>> {
        if !self.has_duplicates {
            return Ok(HashSet::new());
        }
        let first = self.lines(numbers.iter().map(|(number, _)| *number)).await?;
        let repeated = numbers.iter().filter(|(number, line)| first.get(*number) != Some(line));
        Ok(repeated.map(|(_, line)| *line).collect())
    }

    /// The lines of those numbers that were recorded.
    pub(super) async fn lines<'a>(&mut self, numbers: impl Iterator<Item = &'a str>) -> Result<HashMap<String, u64>> {
        let numbers: Vec<&str> = numbers.collect();
        let select = "SELECT number, line FROM seen WHERE number IN (SELECT value FROM json_each(?))";
        let rows = self.scratch.query_all_raw(statement(select, json(&numbers))).await?;
        let mut lines = HashMap::with_capacity(rows.len());
        for row in rows {
            let line: i64 = row.try_get_by_index(1)?;
            lines.insert(row.try_get_by_index(0)?, line.unsigned_abs());
        }
        Ok(lines)
    }
}

fn json(list: impl serde::Serialize) -> String {
    serde_json::json!(list).to_string()
}

fn statement(sql: &str, json: String) -> Statement {
    Statement::from_sql_and_values(DbBackend::Sqlite, sql, [json.into()])
}
