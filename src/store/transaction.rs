//! Transactions: how they begin, and when they are retried.

use std::sync::Arc;
use std::time::Duration;

use sea_orm::{
    AccessMode, ConnAcquireErr, ConnectionTrait as _, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr,
    IsolationLevel, SqliteTransactionMode, TransactionOptions, TransactionTrait as _,
};
use tokio::sync::Semaphore;

use super::Store;
use super::sql::Sql;
use crate::error::{Error, Result};

/// How often a write is attempted at most.
const MAX_ATTEMPTS: usize = 5;

impl Store {
    /// Begins a read-only transaction, which sees one consistent state of the data.
    pub(super) async fn read_view(&self) -> Result<DatabaseTransaction> {
        let options = match self.readers.get_database_backend() {
            DbBackend::Sqlite => TransactionOptions::default(),
            _ => TransactionOptions {
                isolation_level: Some(IsolationLevel::RepeatableRead),
                access_mode: Some(AccessMode::ReadOnly),
                ..TransactionOptions::default()
            },
        };
        begin_uncancelled(
            &self.readers,
            &self.reader_permits,
            options,
            self.limits.database_connect_timeout,
        )
        .await
    }

    /// Begins a read-only transaction whose statements may take as long as a ledger may take to load: each must be made by
    /// [`Self::long_sql`].
    pub(super) async fn long_view(&self) -> Result<DatabaseTransaction> {
        let view = self.read_view().await?;
        if self.readers.get_database_backend() == DbBackend::Postgres {
            let longer = format!(
                "SET LOCAL statement_timeout = {}",
                self.limits.ledger_load_timeout.as_millis()
            );
            view.execute_unprepared(&longer).await?;
        }
        Ok(view)
    }

    /// A statement for [`Self::long_view`]. MariaDB has no time limit per transaction, so it is part of each statement.
    pub(super) fn long_sql(&self, text: &str) -> Sql {
        match self.readers.get_database_backend() {
            DbBackend::MySql => self.sql(&format!(
                "SET STATEMENT max_statement_time = {} FOR {text}",
                self.limits.ledger_load_timeout.as_secs()
            )),
            _ => self.sql(text),
        }
    }

    /// Begins a transaction that writes.
    pub(super) async fn begin_write(&self) -> Result<DatabaseTransaction> {
        let options = match self.writer.get_database_backend() {
            DbBackend::Sqlite => TransactionOptions {
                sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
                ..TransactionOptions::default()
            },
            _ => TransactionOptions {
                isolation_level: Some(IsolationLevel::ReadCommitted),
                ..TransactionOptions::default()
            },
        };
        begin_uncancelled(
            &self.writer,
            &self.writer_permits,
            options,
            self.limits.database_connect_timeout,
        )
        .await
    }

    /// Runs one statement that writes, in no transaction. Returns the number of rows that it changed.
    pub(super) async fn write(&self, sql: Sql) -> Result<u64> {
        let done = self.writer.execute_raw(sql.done()).await;
        Ok(done.map_err(|error| self.write_error(error))?.rows_affected())
    }

    /// The error of a statement that writes, in no transaction.
    pub(super) fn write_error(&self, error: DbErr) -> Error {
        acquire_error(self.writer.get_database_backend(), error)
    }

    /// Runs a write, and runs it again where the database ended its transaction because of a conflict with another one.
    pub(super) async fn with_retry<T, F: Future<Output = Result<T>>>(&self, write: impl Fn() -> F) -> Result<T> {
        let mut attempts = 1;
        loop {
            match write().await {
                Err(Error::Database(error)) if attempts < MAX_ATTEMPTS && error.is_retryable() => attempts += 1,
                result => return result,
            }
        }
    }
}

/// Begins a transaction in a task of its own, so that it begins also where the caller is cancelled meanwhile. sqlx 0.9 registers
/// a transaction only once the database has answered: when a caller was cancelled before that, the connection returned to the
/// pool with the transaction open, and the next request's writes on it were lost.
async fn begin_uncancelled(
    pool: &DatabaseConnection,
    permits: &Arc<Semaphore>,
    options: TransactionOptions,
    connect_timeout: Duration,
) -> Result<DatabaseTransaction> {
    let pool = pool.clone();
    // As many permits as the pool has connections: a caller cancelled while all are in use leaves no task behind.
    let permit = tokio::time::timeout(connect_timeout, Arc::clone(permits).acquire_owned()).await;
    let backend = pool.get_database_backend();
    let permit = permit.map_err(|_| acquire_error(backend, DbErr::ConnectionAcquire(ConnAcquireErr::Timeout)))?;
    let permit = permit.map_err(|_| DbErr::ConnectionAcquire(ConnAcquireErr::ConnectionClosed))?;
    let transaction = tokio::spawn(async move {
        let _permit = permit;
        pool.begin_with_options(options).await
    });
    let transaction = transaction.await;
    let transaction = transaction.map_err(|error| Error::Internal(format!("cannot begin a transaction: {error}")))?;
    transaction.map_err(|error| acquire_error(backend, error))
}

/// The error of a statement that may have waited for a connection. Where none of SQLite's was free in time, other changes hold
/// it, and trying again may succeed. Any other database did not answer.
fn acquire_error(backend: DbBackend, error: DbErr) -> Error {
    match (backend, &error) {
        (DbBackend::Sqlite, DbErr::ConnectionAcquire(ConnAcquireErr::Timeout)) => Error::Busy,
        _ => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Limits;
    use crate::secrets::Secrets;
    use crate::store::{AuditAction, NewEntry, OpenMode};

    #[tokio::test]
    async fn writes_that_wait_too_long_for_sqlites_connection_are_busy() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("test.db").display());
        let secrets = Secrets::open(&folder.path().join("key"), true).unwrap();
        let limits = Limits {
            database_connect_timeout: Duration::from_millis(500),
            ..Limits::default()
        };
        let store = Store::connect(&url, secrets, OpenMode::Create, Arc::new(limits))
            .await
            .unwrap();
        store.migrate().await.unwrap();
        let transaction = store.begin_write().await.unwrap();
        let entry = NewEntry::new(1, None, AuditAction::Imported);
        // Each waits as long as a connection may take.
        let (begin, feed, tokens, keys, audit) = tokio::join!(
            async { store.begin_write().await.map(drop) },
            async { store.prune_feed(1).await.map(drop) },
            async { store.prune_refresh_tokens(1).await.map(drop) },
            store.forget_old_keys(),
            store.audit(vec![entry]),
        );
        for (write, result) in [
            ("transaction", begin),
            ("feed", feed),
            ("refresh tokens", tokens),
            ("keys", keys),
            ("audit", audit),
        ] {
            assert!(matches!(result, Err(Error::Busy)), "{write}: {result:?}");
        }
        transaction.rollback().await.unwrap();
        store.prune_feed(1).await.unwrap();
        store.close().await.unwrap();
    }
}
