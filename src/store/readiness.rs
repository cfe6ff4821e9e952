//! The readiness check: the database answers, has this version's migrations, and accepts writes.

use std::collections::BTreeSet;
use std::time::Duration;

use migration::{Migrator, MigratorTrait as _};
use sea_orm::{ConnectionTrait as _, DbBackend, DbErr};

use super::Store;
use crate::error::Error;

/// Why a server is not ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unready {
    /// The database does not answer in time.
    Database,
    /// The database has pending migrations, or some that this version does not know.
    Migrations,
    /// The database is read-only: a replica, or a file without write permission.
    Writes,
}

impl Store {
    /// Checks the database, within [`crate::config::Limits::readiness_timeout`].
    ///
    /// # Errors
    /// The first check that fails.
    pub async fn ready(&self) -> Result<(), Unready> {
        let checks = tokio::time::timeout(self.limits.readiness_timeout, async {
            let applied = self.applied_migrations().await.map_err(|_| Unready::Database)?;
            let known = Migrator::migrations();
            let known: BTreeSet<&str> = known.iter().map(|migration| migration.name()).collect();
            if !applied.iter().map(String::as_str).eq(known) {
                return Err(Unready::Migrations);
            }
            match self.writable().await {
                Ok(true) => Ok(()),
                Ok(false) => Err(Unready::Writes),
                Err(_) => Err(Unready::Database),
            }
        });
        checks.await.unwrap_or(Err(Unready::Database))
    }

    /// The names of the applied migrations; empty where there is no table of them.
    async fn applied_migrations(&self) -> Result<BTreeSet<String>, DbErr> {
        let names = self.sql("SELECT version FROM seaql_migrations").done();
        match self.readers.query_all_raw(names).await {
            Ok(rows) => rows.iter().map(|row| row.try_get_by_index(0)).collect(),
            Err(error) => match self.readers.ping().await {
                Ok(()) => Ok(BTreeSet::new()),
                Err(_) => Err(error),
            },
        }
    }

    async fn writable(&self) -> Result<bool, DbErr> {
        let check = match self.writer.get_database_backend() {
            DbBackend::Sqlite => return self.file_writable().await,
            DbBackend::Postgres => {
                "SELECT NOT pg_is_in_recovery() AND current_setting('transaction_read_only') = 'off'"
            }
            _ => {
                "SELECT CAST(@@global.read_only AS CHAR) IN ('0', 'OFF') AND CAST(@@global.innodb_read_only AS CHAR) IN ('0', 'OFF')"
            }
        };
        let answer = self.writer.query_one_raw(self.sql(check).done()).await?;
        answer.map_or(Ok(false), |row| row.try_get_by_index(0))
    }

    /// Takes SQLite's write lock and releases it. A lock that is held for a while proves the same: something writes.
    async fn file_writable(&self) -> Result<bool, DbErr> {
        match tokio::time::timeout(Duration::from_millis(500), self.begin_write()).await {
            Err(_) => Ok(true),
            Ok(Ok(transaction)) => transaction.rollback().await.map(|()| true),
            Ok(Err(Error::Busy)) => Ok(true),
            Ok(Err(_)) => Ok(false),
        }
    }
}
