//! Whether the database can be served: it answers, it is of this version, and it may be written to.

use std::collections::BTreeSet;
use std::time::Duration;

use migration::{Migrator, MigratorTrait as _};
use sea_orm::{ConnectionTrait as _, DbBackend, DbErr};

use super::Store;
use crate::config::LIMITS;
use crate::error::Error;

/// What is not as it must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unready {
    /// It does not answer, or not in time.
    Database,
    /// It lacks steps, or has some that this version does not know.
    Migrations,
    /// It cannot be written to: a replica, or a file that may only be read.
    Writes,
}

impl Store {
    /// Looks whether the database can be served.
    ///
    /// # Errors
    /// The first thing that is not as it must be.
    pub async fn ready(&self) -> Result<(), Unready> {
        let in_time = tokio::time::timeout(LIMITS.readiness, async {
            let steps = self.steps().await.map_err(|_| Unready::Database)?;
            let known = Migrator::migrations();
            let known: BTreeSet<&str> = known.iter().map(|step| step.name()).collect();
            if !steps.iter().map(String::as_str).eq(known) {
                return Err(Unready::Migrations);
            }
            match self.writable().await {
                Ok(true) => Ok(()),
                Ok(false) => Err(Unready::Writes),
                Err(_) => Err(Unready::Database),
            }
        });
        in_time.await.unwrap_or(Err(Unready::Database))
    }

    /// The steps that the database has taken; none where it has no table of them.
    async fn steps(&self) -> Result<BTreeSet<String>, DbErr> {
        let steps = self.sql("SELECT version FROM seaql_migrations").done();
        match self.readers.query_all_raw(steps).await {
            Ok(rows) => rows.iter().map(|row| row.try_get_by_index(0)).collect(),
            Err(error) => match self.readers.ping().await {
                Ok(()) => Ok(BTreeSet::new()),
                Err(_) => Err(error),
            },
        }
    }

    async fn writable(&self) -> Result<bool, DbErr> {
        let question = match self.writer.get_database_backend() {
            DbBackend::Sqlite => return self.file_writable().await,
            DbBackend::Postgres => {
                "SELECT NOT pg_is_in_recovery() AND current_setting('transaction_read_only') = 'off'"
            }
            _ => {
                "SELECT CAST(@@global.read_only AS CHAR) IN ('0', 'OFF') AND CAST(@@global.innodb_read_only AS CHAR) IN ('0', 'OFF')"
            }
        };
        let answer = self.writer.query_one_raw(self.sql(question).done()).await?;
        answer.map_or(Ok(false), |row| row.try_get_by_index(0))
    }

    /// Takes SQLite's write lock and lets go of it. Who finds it taken for a while knows as much: somebody writes.
    async fn file_writable(&self) -> Result<bool, DbErr> {
        match tokio::time::timeout(Duration::from_millis(500), self.begin_write()).await {
            Err(_) => Ok(true),
            Ok(Ok(transaction)) => transaction.rollback().await.map(|()| true),
            Ok(Err(Error::Busy)) => Ok(true),
            Ok(Err(_)) => Ok(false),
        }
    }
}
