//! The only place that talks to the database. Every function takes the hospital, and every query names it.

mod audit;
mod bulk_import;
mod command;
mod complete;
mod erasure;
mod hospital;
mod keys;
mod patient;
mod pool;
mod readiness;
mod revision;
mod session;
mod snapshot;
mod sql;
mod visit;
mod visit_versions;
mod writer_queue;

use std::sync::Arc;
use std::time::Duration;

use migration::{Migrator, MigratorTrait};
use sea_orm::{
    AccessMode, ConnAcquireErr, ConnectOptions, Database, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr,
    IsolationLevel, SqliteTransactionMode, TransactionOptions, TransactionTrait,
};
use tokio::sync::Semaphore;

use crate::config::LIMITS;
use crate::error::{DatabaseCode, DatabaseError, Error, Result};
use crate::observe::{Metrics, record};
use crate::secrets::Secrets;

pub use audit::{AuditAction, AuditQuery, AuditRow, AuditedList, NewEntry};
pub use bulk_import::{BulkImporter, UpsertOutcome};
pub use command::Command;
pub use complete::{Recount, triggers};
pub use hospital::{NewHospital, StaffRow, definition_of};
pub use patient::{KeyedPatient, PatientKey, PatientSearch, erased_patient};
pub use pool::check_connection;
pub use readiness::Unready;
pub use revision::{HospitalState, Revision};
pub use session::RefreshUse;
pub use snapshot::{SnapshotRow, StoredSnapshot};
use sql::Sql;
pub use visit::{KeyedVisit, LedgerChanges, PatientEnds, PatientVisitPage, VisitDetails, VisitKey, VisitQuery};
pub use visit_versions::{RevisionRange, VersionChange, VersionedVisit, VisitVersions};
use writer_queue::WriterQueues;

/// Connections to the database, of a server or a command; SQLite has one more, which writes.
const CONNECTIONS: u32 = 8;

/// A connection to the database, with the keys to what is encrypted in it.
#[derive(Clone)]
pub struct Store {
    readers: DatabaseConnection,
    /// SQLite has one writer; elsewhere this is `readers`.
    writer: DatabaseConnection,
    secrets: Secrets,
    /// Entries of the audit that are on their way.
    audit_queues: Arc<audit::AuditQueues>,
    metrics: Arc<Metrics>,
    /// Turns to begin a transaction, as many as the pool has connections.
    reader_permits: Arc<Semaphore>,
    writer_permits: Arc<Semaphore>,
    writer_queues: Arc<WriterQueues>,
}

/// What a database is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// To be brought up to date. An SQLite file is made; other databases are there already.
    Create,
    /// For a command, which takes the time that it takes.
    Existing,
    /// For the requests of a server, whose statements are bounded in time.
    Serve,
}

/// Where a page of rows begins, and which way it goes.
#[derive(Clone, Debug)]
pub struct Keyset<K> {
    pub descending: bool,
    /// Rows after this one, in the order asked for; before it where `backwards`.
    pub from: Option<(K, i64)>,
    pub backwards: bool,
    pub limit: u64,
}

impl Store {
    /// Connects. The URL chooses the database: `sqlite:`, `postgres:`, `mysql:` or `mariadb:`.
    ///
    /// # Errors
    /// Where the URL is of no such kind, or the database cannot be reached.
    pub async fn connect(url: &str, secrets: Secrets, open: OpenMode) -> Result<Self> {
        let url = url
            .strip_prefix("mariadb:")
            .map_or(url.to_owned(), |rest| format!("mysql:{rest}"));
        let known = ["sqlite:", "postgres:", "postgresql:", "mysql:"];
        if !known.iter().any(|scheme| url.starts_with(scheme)) {
            return Err(Error::input(
                "database-url",
                "begins with sqlite:, postgres:, mysql: or mariadb:",
            ));
        }
        if let (OpenMode::Create, Some(folder)) = (open, sqlite_folder(&url)) {
            std::fs::create_dir_all(folder)
                .map_err(|error| Error::Internal(format!("the folder {} cannot be made: {error}", folder.display())))?;
        }
        check_connection(&url).await?;
        let metrics = Arc::new(Metrics::default());
        let hint = match (open, sqlite_folder(&url)) {
            (OpenMode::Existing | OpenMode::Serve, Some(_)) => {
                "; where there is none yet, run `rollcall migrate` first"
            }
            _ => "",
        };
        let connect = async |options: ConnectOptions| {
            let mut connection = Database::connect(options)
                .await
                .map_err(|error| Error::Internal(format!("the database cannot be opened: {error}{hint}")))?;
            let metrics = Arc::clone(&metrics);
            connection.set_metric_callback(move |statement| {
                metrics.statement(statement.elapsed, statement.failed);
                record(|notes| {
                    notes.statements += 1;
                    notes.database += statement.elapsed;
                });
            });
            Ok::<_, Error>(connection)
        };
        let readers = connect(options(&url, CONNECTIONS, open)).await?;
        let readers_begin = Arc::new(Semaphore::new(CONNECTIONS as usize));
        let (writer, writer_begins, writers) = match readers.get_database_backend() {
            DbBackend::Sqlite => (
                connect(options(&url, 1, open)).await?,
                Arc::new(Semaphore::new(1)),
                WriterQueues::new(1),
            ),
            _ => (
                readers.clone(),
                Arc::clone(&readers_begin),
                WriterQueues::new(CONNECTIONS / 2),
            ),
        };
        Ok(Self {
            readers,
            writer,
            secrets,
            audit_queues: Arc::default(),
            metrics,
            reader_permits: readers_begin,
            writer_permits: writer_begins,
            writer_queues: Arc::new(writers),
        })
    }

    /// Brings the database up to date.
    ///
    /// # Errors
    /// Where a step fails; on MariaDB with a binary log, creating triggers needs more than an ordinary user's rights.
    pub async fn migrate(&self) -> Result<()> {
        Migrator::up(&self.writer, None).await.map_err(|error| {
            let code = DatabaseError::from(&error);
            // ER_BINLOG_CREATE_ROUTINE_NEED_SUPER
            let hint = if code.code() == Some(&DatabaseCode::MariaDb(1419)) {
                "; set log_bin_trust_function_creators = 1, or let a user with SUPER run `rollcall migrate`"
            } else {
                ""
            };
            Error::Internal(format!("the database cannot be brought up to date: {error}{hint}"))
        })?;
        // What a server would do later: names that stood before there was a folded form.
        for hospital in self.hospitals().await? {
            self.fold_names(hospital).await?;
        }
        Ok(())
    }

    /// Refuses a database that is not up to date, or whose secrets were encrypted with another key.
    ///
    /// # Errors
    /// Says what to do.
    pub async fn verify_ready(&self) -> Result<()> {
        let pending = Migrator::get_pending_migrations(&self.writer).await?;
        if !pending.is_empty() {
            return Err(Error::Internal(format!(
                "the database lacks {} of its steps: run `rollcall migrate` first",
                pending.len()
            )));
        }
        self.check_keys().await
    }

    /// What this process counts.
    #[must_use]
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Lets go of the database.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn close(self) -> Result<()> {
        self.readers.close_by_ref().await?;
        Ok(self.writer.close_by_ref().await?)
    }

    #[must_use]
    pub fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    fn sql(&self, text: &str) -> Sql {
        Sql::new(self.readers.get_database_backend(), text)
    }

    /// One consistent view of the data, read only.
    async fn read_view(&self) -> Result<DatabaseTransaction> {
        let options = match self.readers.get_database_backend() {
            DbBackend::Sqlite => TransactionOptions::default(),
            _ => TransactionOptions {
                isolation_level: Some(IsolationLevel::RepeatableRead),
                access_mode: Some(AccessMode::ReadOnly),
                ..TransactionOptions::default()
            },
        };
        begin_uncancelled(&self.readers, &self.reader_permits, options).await
    }

    /// Tries a write again where the database broke a tie between two.
    async fn with_retry<T, F: Future<Output = Result<T>>>(&self, once: impl Fn() -> F) -> Result<T> {
        let mut tries = 1;
        loop {
            match once().await {
                Err(Error::Database(error)) if tries < MAX_ATTEMPTS && error.is_retryable() => tries += 1,
                result => return result,
            }
        }
    }

    /// A transaction that writes.
    async fn begin_write(&self) -> Result<DatabaseTransaction> {
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
        begin_uncancelled(&self.writer, &self.writer_permits, options).await
    }
}

/// Begins a transaction, to the end also where who wants it goes away meanwhile. sqlx 0.9 knows of a transaction once the
/// database has answered: given up before that, the connection went back to the pool with the transaction open, and what the
/// next request wrote there was lost.
async fn begin_uncancelled(
    pool: &DatabaseConnection,
    turns: &Arc<Semaphore>,
    options: TransactionOptions,
) -> Result<DatabaseTransaction> {
    let pool = pool.clone();
    // As many as the pool has connections: who goes away while all are taken leaves nothing behind.
    let turn = tokio::time::timeout(LIMITS.connection, Arc::clone(turns).acquire_owned()).await;
    let turn = turn.map_err(|_| match pool.get_database_backend() {
        // Whose turn it is waits for another process to end its transaction.
        DbBackend::Sqlite => Error::Busy,
        _ => DbErr::ConnectionAcquire(ConnAcquireErr::Timeout).into(),
    })?;
    let turn = turn.map_err(|_| DbErr::ConnectionAcquire(ConnAcquireErr::ConnectionClosed))?;
    let begun = tokio::spawn(async move {
        let _until_begun = turn;
        pool.begin_with_options(options).await
    });
    let begun = begun.await;
    Ok(begun.map_err(|error| Error::Internal(format!("a transaction cannot begin: {error}")))??)
}

/// How often a write is tried at most.
const MAX_ATTEMPTS: usize = 5;

/// The folder of an SQLite file.
fn sqlite_folder(url: &str) -> Option<&std::path::Path> {
    let path = url.strip_prefix("sqlite:")?;
    let path = path.strip_prefix("//").unwrap_or(path);
    std::path::Path::new(path.split_once('?').map_or(path, |(path, _)| path)).parent()
}

fn options(url: &str, connections: u32, open: OpenMode) -> ConnectOptions {
    let first =
        move |database| (open == OpenMode::Serve).then(|| pool::statement_timeout_sql(database, LIMITS.statement));
    let (postgres, mariadb) = (url.to_owned(), url.to_owned());
    let mut options = ConnectOptions::new(url.to_owned());
    options
        .max_connections(connections)
        .connect_timeout(Duration::from_secs(5))
        .acquire_timeout(LIMITS.connection)
        // One that was in use a moment ago works: no database is started again as fast as that.
        .test_before_acquire_if_idle_for(Duration::from_millis(20))
        // Without either of the two, sqlx 0.9 looks after idle connections in the background. It counts them in two steps, and
        // where it looks between these it sees 2^64 of them and never comes back.
        .idle_timeout(None)
        .max_lifetime(None)
        .sqlx_logging(false)
        .map_sqlx_postgres_pool_opts(move |pool| {
            pool::with_release_timeout(pool, &postgres, first(DbBackend::Postgres))
        })
        .map_sqlx_mysql_pool_opts(move |pool| pool::with_release_timeout(pool, &mariadb, first(DbBackend::MySql)))
        .map_sqlx_sqlite_opts(move |sqlite| {
            sqlite
                .create_if_missing(open == OpenMode::Create)
                .foreign_keys(true)
                .pragma("recursive_triggers", "ON")
                .pragma("journal_mode", "WAL")
                .pragma("synchronous", "NORMAL")
                .pragma("cache_size", "-65536")
                .busy_timeout(writer_queue::busy_timeout(open == OpenMode::Serve))
        });
    options
}

/// A value that the database holds and that this version does not know.
fn unknown_value(what: &str, word: &str) -> Error {
    DbErr::Type(format!("{what} holds the unknown word {word:?}")).into()
}
