//! Connecting to the database: the pools of connections and how they are set up.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sea_orm::sqlx::mysql::MySqlConnectOptions;
use sea_orm::sqlx::postgres::PgConnectOptions;
use sea_orm::{ConnectOptions, Database, DatabaseConnection, DbBackend};
use tokio::sync::Semaphore;

use super::pool::{check_connection, session_settings_sql, with_release_timeout};
use super::writer_queue::{WriterQueues, busy_timeout};
use super::{Store, audit};
use crate::clock::Clock;
use crate::config::Limits;
use crate::error::{Error, Result};
use crate::observe::{Metrics, record};
use crate::private_files::{create_file_if_missing, create_folder};
use crate::secrets::Secrets;

/// The prefixes of database URLs. `mariadb:` is replaced by `mysql:` first.
const SCHEMES: [&str; 4] = ["sqlite:", "postgres:", "postgresql:", "mysql:"];

/// What a database is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// To migrate it. An SQLite file is created; other databases must exist.
    Create,
    /// For a command, whose statements have no time limit.
    Existing,
    /// For a server, whose statements have a time limit.
    Serve,
}

impl Store {
    /// Connects to the database of a URL that begins with `sqlite:`, `postgres:`, `postgresql:`, `mysql:` or `mariadb:`.
    ///
    /// # Errors
    /// Where the URL has another scheme or is malformed, or the database cannot be reached within
    /// [`Limits::database_connect_timeout`].
    pub async fn connect(url: &str, secrets: Secrets, open: OpenMode, limits: Arc<Limits>) -> Result<Self> {
        let url = supported_url(url)?;
        let file = sqlite_file(&url);
        if let (OpenMode::Create, Some(file)) = (open, file) {
            let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
            let created = folder.map_or(Ok(()), create_folder);
            // SQLite gives its other files the permissions of this one.
            created
                .and_then(|()| create_file_if_missing(file))
                .map_err(|error| Error::Internal(format!("cannot create {}: {error}", file.display())))?;
        }
        check_connection(&url, &limits).await?;
        let hint = match (open, file) {
            (OpenMode::Existing | OpenMode::Serve, Some(_)) => {
                "; if it does not exist yet, run `rollcall migrate` first"
            }
            _ => "",
        };
        let metrics = Arc::new(Metrics::default());
        let connect = async |connections| {
            connect_pool(options(&url, connections, open, &limits), &metrics)
                .await
                .map_err(|error| Error::Internal(format!("cannot open the database: {error}{hint}")))
        };
        let readers = connect(limits.database_connections).await?;
        let reader_permits = Arc::new(Semaphore::new(limits.database_connections as usize));
        let (writer, writer_permits, writer_queues) = match readers.get_database_backend() {
            DbBackend::Sqlite => (connect(1).await?, Arc::new(Semaphore::new(1)), WriterQueues::new(1)),
            _ => (
                readers.clone(),
                Arc::clone(&reader_permits),
                WriterQueues::new(limits.max_waiting_writers()),
            ),
        };
        Ok(Self {
            readers,
            writer,
            secrets,
            limits,
            clock: Clock::default(),
            audit_queues: Arc::<audit::AuditQueues>::default(),
            metrics,
            reader_permits,
            writer_permits,
            writer_queues: Arc::new(writer_queues),
        })
    }

    /// Closes every connection.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn close(self) -> Result<()> {
        self.readers.close_by_ref().await?;
        Ok(self.writer.close_by_ref().await?)
    }
}

/// The URL as the driver reads it.
fn supported_url(url: &str) -> Result<String> {
    let url = url
        .strip_prefix("mariadb:")
        .map_or(url.to_owned(), |rest| format!("mysql:{rest}"));
    if SCHEMES.iter().any(|scheme| url.starts_with(scheme)) {
        return Ok(url);
    }
    Err(Error::input(
        "database-url",
        "must begin with sqlite:, postgres:, mysql: or mariadb:",
    ))
}

/// An SQLite file; none for other databases.
fn sqlite_file(url: &str) -> Option<&Path> {
    let path = url.strip_prefix("sqlite:")?;
    let path = path.strip_prefix("//").unwrap_or(path);
    Some(Path::new(path.split_once('?').map_or(path, |(path, _)| path)))
}

/// Opens a pool, whose statements are counted and timed.
async fn connect_pool(
    options: ConnectOptions,
    metrics: &Arc<Metrics>,
) -> std::result::Result<DatabaseConnection, sea_orm::DbErr> {
    let mut pool = Database::connect(options).await?;
    let metrics = Arc::clone(metrics);
    pool.set_metric_callback(move |statement| {
        metrics.statement(statement.elapsed, statement.failed);
        record(|stats| {
            stats.statements += 1;
            stats.database += statement.elapsed;
        });
    });
    Ok(pool)
}

fn options(url: &str, connections: u32, open: OpenMode, limits: &Limits) -> ConnectOptions {
    let first = |database| {
        (open == OpenMode::Serve).then(|| session_settings_sql(database, limits.statement_timeout(), limits))
    };
    let (first_postgres, first_mariadb) = (first(DbBackend::Postgres), first(DbBackend::MySql));
    let release_timeout = limits.connection_release_timeout;
    let busy_timeout = busy_timeout(open == OpenMode::Serve, limits);
    let (postgres, mariadb) = (url.to_owned(), url.to_owned());
    let mut options = ConnectOptions::new(url.to_owned());
    options
        .max_connections(connections)
        .connect_timeout(Duration::from_secs(5))
        .acquire_timeout(limits.database_connect_timeout)
        // A connection used a moment ago works: no database restarts that fast.
        .test_before_acquire_if_idle_for(Duration::from_millis(20))
        // With either of the two, sqlx 0.9 checks idle connections in a background task, which counts them in two steps. When
        // the count changes between the steps it underflows to 2^64, and the task never ends.
        .idle_timeout(None)
        .max_lifetime(None)
        .sqlx_logging(false)
        .map_sqlx_postgres_pool_opts(move |pool| {
            let port = postgres.parse().map_or(5432, |url: PgConnectOptions| url.get_port());
            with_release_timeout(pool, (&postgres, port), first_postgres.clone(), release_timeout)
        })
        .map_sqlx_mysql_pool_opts(move |pool| {
            let port = mariadb.parse().map_or(3306, |url: MySqlConnectOptions| url.get_port());
            with_release_timeout(pool, (&mariadb, port), first_mariadb.clone(), release_timeout)
        })
        .map_sqlx_sqlite_opts(move |sqlite| {
            sqlite
                .create_if_missing(open == OpenMode::Create)
                .foreign_keys(true)
                .pragma("recursive_triggers", "ON")
                .pragma("journal_mode", "WAL")
                .pragma("synchronous", "NORMAL")
                .pragma("cache_size", "-65536")
                .busy_timeout(busy_timeout)
        });
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_supported_databases_are_accepted() {
        assert_eq!(
            supported_url("mariadb://root@db/rollcall").unwrap(),
            "mysql://root@db/rollcall"
        );
        for url in [
            "sqlite://rollcall.db",
            "postgres://db/rollcall",
            "postgresql://db/rollcall",
            "mysql://db/rollcall",
        ] {
            assert_eq!(supported_url(url).unwrap(), url);
        }
        for url in ["", "rollcall.db", "oracle://db/rollcall", " sqlite://rollcall.db"] {
            assert!(supported_url(url).is_err(), "{url:?}");
        }
    }

    #[test]
    fn the_file_is_read_from_an_sqlite_url() {
        for (url, file) in [
            (
                "sqlite:///var/lib/rollcall/main.db?mode=rwc",
                Some("/var/lib/rollcall/main.db"),
            ),
            ("sqlite://data/main.db", Some("data/main.db")),
            ("sqlite:main.db", Some("main.db")),
            ("postgres://db/rollcall", None),
        ] {
            assert_eq!(sqlite_file(url), file.map(Path::new), "{url}");
        }
    }
}
