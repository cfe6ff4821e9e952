//! The only place that talks to the database. Every function takes the hospital, and every query names it.

mod hospital;
mod intake;
mod patient;
mod revision;
mod session;
mod snapshot;
mod sql;
mod visit;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use migration::{Migrator, MigratorTrait};
use sea_orm::{
    AccessMode, ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr,
    IsolationLevel, SqliteTransactionMode, TransactionOptions, TransactionTrait,
};

use crate::error::{Error, Result};
use crate::secrets::Secrets;

pub use hospital::{NewHospital, StaffRow};
pub use intake::{Intake, Taken};
pub use patient::{KeyedPatient, PatientKey, PatientSearch, erased_patient};
pub use revision::{Revision, State};
pub use session::RefreshUse;
pub use snapshot::{SnapshotRow, StoredSnapshot};
use sql::Sql;
pub use visit::{Changes, KeyedVisit, PatientEnds, PatientVisits, VisitKey, VisitQuery};

/// A connection to the database, with the keys to what is encrypted in it.
#[derive(Clone)]
pub struct Store {
    readers: DatabaseConnection,
    /// SQLite has one writer; elsewhere this is `readers`.
    writer: DatabaseConnection,
    secrets: Secrets,
    statements: Arc<AtomicU64>,
}

/// Whether an SQLite file may be made. Other databases are there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    Create,
    Existing,
}

/// Where a page of rows begins, and which way it goes.
#[derive(Clone, Debug)]
pub struct Seek<K> {
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
    pub async fn connect(url: &str, secrets: Secrets, open: Open) -> Result<Self> {
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
        if let (Open::Create, Some(folder)) = (open, sqlite_folder(&url)) {
            std::fs::create_dir_all(folder)
                .map_err(|error| Error::Internal(format!("the folder {} cannot be made: {error}", folder.display())))?;
        }
        let statements = Arc::new(AtomicU64::new(0));
        let hint = match (open, sqlite_folder(&url)) {
            (Open::Existing, Some(_)) => "; where there is none yet, run `rollcall migrate` first",
            _ => "",
        };
        let connect = async |options: ConnectOptions| {
            let mut connection = Database::connect(options)
                .await
                .map_err(|error| Error::Internal(format!("the database cannot be opened: {error}{hint}")))?;
            let counter = Arc::clone(&statements);
            connection.set_metric_callback(move |_| {
                counter.fetch_add(1, Ordering::Relaxed);
            });
            Ok::<_, Error>(connection)
        };
        let readers = connect(options(&url, 8, open)).await?;
        let writer = match readers.get_database_backend() {
            DbBackend::Sqlite => connect(options(&url, 1, open)).await?,
            _ => readers.clone(),
        };
        Ok(Self {
            readers,
            writer,
            secrets,
            statements,
        })
    }

    /// Brings the database up to date.
    ///
    /// # Errors
    /// Where a step fails; on MariaDB with a binary log, creating triggers needs more than an ordinary user's rights.
    pub async fn migrate(&self) -> Result<()> {
        Migrator::up(&self.writer, None).await.map_err(|error| {
            let hint = if error.to_string().contains("1419") {
                "; set log_bin_trust_function_creators = 1, or let a user with SUPER run `rollcall migrate`"
            } else {
                ""
            };
            Error::Internal(format!("the database cannot be brought up to date: {error}{hint}"))
        })
    }

    /// Refuses a database that is not up to date, or whose secrets were encrypted with another key.
    ///
    /// # Errors
    /// Says what to do.
    pub async fn check(&self) -> Result<()> {
        let pending = Migrator::get_pending_migrations(&self.writer).await?;
        if !pending.is_empty() {
            return Err(Error::Internal(format!(
                "the database lacks {} of its steps: run `rollcall migrate` first",
                pending.len()
            )));
        }
        self.check_key().await
    }

    /// How many statements were sent so far.
    #[must_use]
    pub fn statements(&self) -> u64 {
        self.statements.load(Ordering::Relaxed)
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// Where it does not.
    pub async fn ping(&self) -> Result<()> {
        Ok(self.readers.ping().await?)
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
    async fn view(&self) -> Result<DatabaseTransaction> {
        let begun = match self.readers.get_database_backend() {
            DbBackend::Sqlite => self.readers.begin().await,
            _ => {
                let (isolation, access) = (IsolationLevel::RepeatableRead, AccessMode::ReadOnly);
                self.readers.begin_with_config(Some(isolation), Some(access)).await
            }
        };
        Ok(begun?)
    }

    /// A transaction that changes the hospital's data. It takes the revision first, so that no two lock each other out.
    async fn change(&self, hospital: i64) -> Result<DatabaseTransaction> {
        let transaction = self.begin_write().await?;
        if self.writer.get_database_backend() != DbBackend::Sqlite {
            let mut lock = self.sql("SELECT number FROM revision WHERE hospital_id = ");
            lock.bind(hospital).push(" FOR UPDATE");
            transaction.query_one_raw(lock.done()).await?;
        }
        Ok(transaction)
    }

    /// A transaction that writes.
    async fn begin_write(&self) -> Result<DatabaseTransaction> {
        let options = TransactionOptions {
            sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
            ..TransactionOptions::default()
        };
        match self.writer.get_database_backend() {
            DbBackend::Sqlite => Ok(self.writer.begin_with_options(options).await?),
            _ => {
                let isolation = Some(IsolationLevel::ReadCommitted);
                Ok(self.writer.begin_with_config(isolation, None).await?)
            }
        }
    }
}

/// Whether another try may succeed: the database broke a tie between two transactions.
pub(crate) fn may_be_tried_again(error: &Error) -> bool {
    let Error::Internal(text) = error else { return false };
    ["40001", "40P01", "1213", "deadlock", "Deadlock", "database is locked"]
        .iter()
        .any(|sign| text.contains(sign))
}

/// The folder of an SQLite file.
fn sqlite_folder(url: &str) -> Option<&std::path::Path> {
    let path = url.strip_prefix("sqlite:")?;
    let path = path.strip_prefix("//").unwrap_or(path);
    std::path::Path::new(path.split_once('?').map_or(path, |(path, _)| path)).parent()
}

fn options(url: &str, connections: u32, open: Open) -> ConnectOptions {
    let mut options = ConnectOptions::new(url.to_owned());
    options
        .max_connections(connections)
        .connect_timeout(Duration::from_secs(5))
        .acquire_timeout(Duration::from_secs(10))
        .sqlx_logging(false)
        .map_sqlx_sqlite_opts(move |sqlite| {
            sqlite
                .create_if_missing(open == Open::Create)
                .foreign_keys(true)
                .pragma("recursive_triggers", "ON")
                .pragma("journal_mode", "WAL")
                .pragma("synchronous", "NORMAL")
                .pragma("cache_size", "-65536")
                .busy_timeout(Duration::from_secs(10))
        });
    options
}

/// A value that the database holds and that this version does not know.
fn unknown(what: &str, word: &str) -> Error {
    DbErr::Type(format!("{what} holds the unknown word {word:?}")).into()
}
