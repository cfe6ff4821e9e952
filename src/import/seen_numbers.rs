//! The numbers of a file's rows so far, in a temporary database, so that memory does not grow with the file.

use std::collections::HashMap;

use sea_orm::{ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DbBackend, Statement};
use tempfile::TempDir;

use crate::error::{Error, Result};

pub(super) struct SeenNumbers {
    scratch: DatabaseConnection,
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
            _folder: folder,
        })
    }

    /// Records numbers with their lines. Returns for each the line of the earlier row that has it; none where it is new.
    pub(super) async fn record(&mut self, numbers: &[(&str, u64)]) -> Result<Vec<Option<u64>>> {
        let json = serde_json::json!(numbers).to_string();
        let run = |sql: &str| Statement::from_sql_and_values(DbBackend::Sqlite, sql, [json.clone().into()]);
        let known = self
            .scratch
            .query_all_raw(run(
                "SELECT number, line FROM seen WHERE number IN (SELECT value ->> 0 FROM json_each(?))",
            ))
            .await?;
        let mut before: HashMap<String, u64> = HashMap::with_capacity(known.len() + numbers.len());
        for row in known {
            let line: i64 = row.try_get_by_index(1)?;
            before.insert(row.try_get_by_index(0)?, line.unsigned_abs());
        }
        let mut earlier = Vec::with_capacity(numbers.len());
        for &(number, line) in numbers {
            match before.get(number) {
                Some(&first) => earlier.push(Some(first)),
                None => {
                    before.insert(number.to_owned(), line);
                    earlier.push(None);
                }
            }
        }
        self.scratch
            .execute_raw(run(
                "INSERT OR IGNORE INTO seen SELECT value ->> 0, value ->> 1 FROM json_each(?)",
            ))
            .await?;
        Ok(earlier)
    }
}
