//! Connection pools: session settings, connections whose requests were cancelled, and how many are in use.

use std::time::Duration;

use sea_orm::sqlx::mysql::{MySqlConnectOptions, MySqlConnection};
use sea_orm::sqlx::pool::PoolOptions;
use sea_orm::sqlx::postgres::{PgConnectOptions, PgConnection};
use sea_orm::sqlx::{AssertSqlSafe, ConnectOptions, Connection, Database, Error, Executor};
use sea_orm::{DatabaseConnection, DbBackend};

use super::Store;
use super::no_delay::set_no_delay;
use crate::config::Limits;
use crate::error;
use crate::observe::Pool;

/// Session settings that make the database end statements that run longer than `statement_timeout`, idle transactions and long waits
/// for locks, also where the server that began them is gone.
pub(super) fn session_settings_sql(database: DbBackend, statement_timeout: Duration, limits: &Limits) -> String {
    let idle = limits.idle_transaction_timeout;
    match database {
        DbBackend::Postgres => format!(
            "SET statement_timeout = {}; SET idle_in_transaction_session_timeout = {}; SET lock_timeout = {}",
            statement_timeout.as_millis(),
            idle.as_millis(),
            limits.lock_timeout.as_millis()
        ),
        _ => format!(
            "SET SESSION max_statement_time = {}, idle_transaction_timeout = {}, innodb_lock_wait_timeout = {}",
            statement_timeout.as_secs(),
            idle.as_secs(),
            limits.lock_timeout.as_secs()
        ),
    }
}

/// Adds hooks to a pool of connections to `url`, whose database listens on `port`: a new connection executes the statement `first`, and a released one must be
/// ready within `release_timeout`.
///
/// A released connection first reads the rest of the response to a cancelled request. The driver has no timeout for that, and
/// none for closing a connection, which with TLS waits for the other end. When the database stops responding, cancelled requests
/// would use up the pool. So a connection that is not ready in time is replaced by a new one.
pub(super) fn with_release_timeout<D>(
    pool: PoolOptions<D>,
    (url, port): (&str, u16),
    first: Option<String>,
    release_timeout: Duration,
) -> PoolOptions<D>
where
    D: Database,
    for<'c> &'c mut D::Connection: Executor<'c, Database = D>,
{
    let (url, first_of_replacement) = (url.to_owned(), first.clone());
    let pool = pool.after_connect(move |connection, _| {
        let first = first.clone();
        Box::pin(async move { begin::<D>(connection, port, first).await })
    });
    pool.after_release(move |connection, _| {
        let (url, first) = (url.clone(), first_of_replacement.clone());
        Box::pin(async move {
            if let Ok(done) = tokio::time::timeout(release_timeout, connection.flush()).await {
                return done.map(|()| true);
            }
            let options: <D::Connection as Connection>::Options = url.parse()?;
            let options = options.disable_statement_logging();
            let new = async || {
                let mut new = options.connect().await?;
                begin::<D>(&mut new, port, first.clone()).await?;
                Ok::<_, Error>(new)
            };
            *connection = loop {
                match tokio::time::timeout(release_timeout, new()).await {
                    Ok(Ok(new)) => break new,
                    _ => tokio::time::sleep(Duration::from_secs(1)).await,
                }
            };
            Ok(true)
        })
    })
}

/// Connects once, to learn why that fails. A pool keeps trying when a connection is refused, and then reports only a timeout.
///
/// # Errors
/// Where the URL is malformed or the database cannot be reached. The text has host, port and reason, never the password.
pub async fn check_connection(url: &str, limits: &Limits) -> error::Result<()> {
    if url.starts_with("postgres") {
        let options: PgConnectOptions = url.parse().map_err(|error| unusable_url(&error))?;
        let place = match options.get_socket() {
            Some(folder) => folder.display().to_string(),
            None => format!("{}:{}", options.get_host(), options.get_port()),
        };
        return connect_once::<PgConnection>(options, &format!("PostgreSQL at {place}"), limits).await;
    }
    if url.starts_with("mysql:") {
        let options: MySqlConnectOptions = url.parse().map_err(|error| unusable_url(&error))?;
        let place = format!("MariaDB at {}:{}", options.get_host(), options.get_port());
        return connect_once::<MySqlConnection>(options, &place, limits).await;
    }
    Ok(())
}

fn unusable_url(error: &Error) -> error::Error {
    error::Error::input("database-url", error.to_string())
}

async fn connect_once<C: Connection>(options: C::Options, place: &str, limits: &Limits) -> error::Result<()> {
    let connected = tokio::time::timeout(
        limits.database_connect_timeout,
        options.disable_statement_logging().connect(),
    )
    .await;
    let why = match connected {
        Ok(Ok(connection)) => {
            // However closing ends: the connection is not needed any more.
            let _ = tokio::time::timeout(limits.connection_release_timeout, connection.close()).await;
            return Ok(());
        }
        Ok(Err(Error::Io(error))) => error.kind().to_string(),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {} s", limits.database_connect_timeout.as_secs()),
    };
    Err(error::Error::Internal(format!("cannot connect to {place}: {why}")))
}

async fn begin<D>(connection: &mut D::Connection, port: u16, first: Option<String>) -> Result<(), Error>
where
    D: Database,
    for<'c> &'c mut D::Connection: Executor<'c, Database = D>,
{
    set_no_delay(port);
    match first {
        Some(first) => connection.execute(AssertSqlSafe(first)).await.map(drop),
        None => Ok(()),
    }
}

impl Store {
    /// How many connections of each pool are in use and idle now.
    #[must_use]
    pub fn pools(&self) -> Vec<Pool> {
        if self.readers.get_database_backend() == DbBackend::Sqlite {
            vec![pool("readers", &self.readers), pool("writer", &self.writer)]
        } else {
            vec![pool("all", &self.readers)]
        }
    }
}

fn pool(name: &'static str, of: &DatabaseConnection) -> Pool {
    let (size, idle) = match of.get_database_backend() {
        DbBackend::Postgres => {
            let pool = of.get_postgres_connection_pool();
            (pool.size(), pool.num_idle())
        }
        DbBackend::MySql => {
            let pool = of.get_mysql_connection_pool();
            (pool.size(), pool.num_idle())
        }
        _ => {
            let pool = of.get_sqlite_connection_pool();
            (pool.size(), pool.num_idle())
        }
    };
    let (size, idle) = (u64::from(size), idle as u64);
    Pool {
        name,
        in_use: size.saturating_sub(idle),
        idle,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::future::poll_fn;
    use std::io::Write as _;
    use std::pin::pin;
    use std::sync::{Arc, LazyLock};
    use std::task::Poll;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::Mutex;

    use sea_orm::ConnectionTrait as _;
    use sea_orm::DatabaseTransaction;
    use sea_orm::sqlx::{self, MySql, Postgres, Row as _};

    use super::super::{OpenMode, Store};
    use super::*;
    use crate::error::{DatabaseCode, DatabaseError};
    use crate::secrets::Secrets;

    /// The URL of a database, and a pool whose statements may take one second. None where the database cannot be reached, which
    /// fails in CI.
    async fn database<D: Database>(
        variable: &'static str,
        default_url: &str,
        kind: DbBackend,
    ) -> Option<(String, sqlx::Pool<D>)>
    where
        for<'c> &'c mut D::Connection: Executor<'c, Database = D>,
    {
        let url = reachable(variable, default_url).await?;
        let pool = PoolOptions::new().idle_timeout(None).max_lifetime(None);
        let limits = Limits::default();
        let settings = session_settings_sql(kind, Duration::from_secs(1), &limits);
        let pool = with_release_timeout(pool, (&url, 5432), Some(settings), limits.connection_release_timeout);
        let pool = pool.connect(&url).await.unwrap();
        Some((url, pool))
    }

    /// The URL of a database that can be reached; each is checked once a run.
    async fn reachable(variable: &'static str, default_url: &str) -> Option<String> {
        static CHECKED: LazyLock<Mutex<HashMap<&str, Option<String>>>> = LazyLock::new(Mutex::default);
        let mut checked = CHECKED.lock().await;
        if let Some(url) = checked.get(variable) {
            return url.clone();
        }
        let url = std::env::var(variable).unwrap_or_else(|_| default_url.to_owned());
        let url = url.replacen("mariadb:", "mysql:", 1);
        let found = match check_connection(&url, &Limits::default()).await {
            Ok(()) => Some(url),
            Err(error) => {
                let why = error.for_operator();
                assert!(std::env::var_os("CI").is_none(), "CI must run every test: {why}");
                // Not eprintln!, whose output is hidden when the test passes.
                let _ = writeln!(std::io::stderr(), "LEFT OUT: tests of connections: {why}");
                None
            }
        };
        checked.insert(variable, found.clone());
        found
    }

    async fn store(url: &str, open: OpenMode) -> Store {
        let secrets = Secrets::from_base64("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=").unwrap();
        Store::connect(url, secrets, open, Arc::default()).await.unwrap()
    }

    async fn pool_of(url: &str, open: OpenMode) -> DatabaseConnection {
        store(url, open).await.readers
    }

    /// The URL of a proxy that delays what the database answers, so that statements are pending for a while.
    async fn slow_proxy(url: &str) -> String {
        let (credentials, address) = url.rsplit_once('@').unwrap();
        let (address, name) = address.split_once('/').unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = format!("{credentials}@{}/{name}", listener.local_addr().unwrap());
        let address = address.to_owned();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (mut from_client, mut to_client) = client.into_split();
                let (mut from_database, mut to_database) = TcpStream::connect(&address).await.unwrap().into_split();
                tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_database).await });
                tokio::spawn(async move {
                    let mut buffer = [0; 4096];
                    while let Ok(length @ 1..) = from_database.read(&mut buffer).await {
                        tokio::time::sleep(Duration::from_millis(2)).await;
                        if to_client.write_all(&buffer[..length]).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        proxy
    }

    /// Polls the future so many times, each time when it is woken, and drops it.
    async fn cancel_after(polls: usize, future: impl Future<Output = ()>) {
        let (mut future, mut polled) = (pin!(future), 0);
        poll_fn(|task| {
            if polled == polls {
                return Poll::Ready(());
            }
            polled += 1;
            future.as_mut().poll(task)
        })
        .await;
    }

    /// Begins transactions and cancels each one poll later than the one before. Then no connection has a transaction open, which
    /// the statement `open` counts.
    async fn leaves_no_transaction_open<D: Database>(store: &Store, pool: &sqlx::Pool<D>, open: &'static str)
    where
        for<'c> &'c mut D::Connection: Executor<'c, Database = D>,
        for<'a> i64: sqlx::Decode<'a, D> + sqlx::Type<D>,
        usize: sqlx::ColumnIndex<D::Row>,
    {
        let all = async || {
            let mut connections = Vec::new();
            for _ in 0..Limits::default().database_connections {
                connections.push(pool.acquire().await.unwrap());
            }
            connections
        };
        drop(all().await);
        for polls in 0..12 {
            for writes in [false, true] {
                let begin = async {
                    let transaction = if writes {
                        store.begin_write().await
                    } else {
                        store.read_view().await
                    };
                    transaction.unwrap();
                };
                cancel_after(polls, begin).await;
                for mut connection in all().await {
                    let row = connection.fetch_one(open).await.unwrap();
                    assert_eq!(
                        row.get::<i64, _>(0),
                        0,
                        "cancelled after {polls} polls, writes: {writes}"
                    );
                }
            }
        }
    }

    #[tokio::test]
    async fn postgres_ends_a_statement_that_waits_for_a_lock() {
        let default_url = "postgres://postgres@127.0.0.1:5432/postgres";
        let found = database::<Postgres>("ROLLCALL_TEST_POSTGRES_URL", default_url, DbBackend::Postgres).await;
        let Some((url, pool)) = found else { return };
        let (mut holder, mut waiter) = (pool.acquire().await.unwrap(), pool.acquire().await.unwrap());
        let number = rand::random::<i64>();
        let lock = || AssertSqlSafe(format!("SELECT pg_advisory_lock({number})"));
        holder.execute(lock()).await.unwrap();
        let error = waiter.execute(lock()).await.unwrap_err();
        assert_eq!(error.as_database_error().unwrap().code().unwrap(), "57014", "{error}");
        for (open, expected) in [(OpenMode::Serve, "35s 15s 10s"), (OpenMode::Existing, "0 0 0")] {
            let pool = pool_of(&url, open).await;
            let settings = "SELECT current_setting('statement_timeout') || ' ' ||
                current_setting('idle_in_transaction_session_timeout') || ' ' || current_setting('lock_timeout')";
            let row = pool.get_postgres_connection_pool().fetch_one(settings).await.unwrap();
            assert_eq!(row.get::<String, _>(0), expected, "{open:?}");
        }
    }

    #[tokio::test]
    async fn mariadb_ends_a_statement_that_waits_for_a_lock() {
        let default_url = "mysql://root@127.0.0.1:3306/mysql";
        let found = database::<MySql>("ROLLCALL_TEST_MARIADB_URL", default_url, DbBackend::MySql).await;
        let Some((url, pool)) = found else { return };
        let (mut holder, mut waiter) = (pool.acquire().await.unwrap(), pool.acquire().await.unwrap());
        let number = rand::random::<u64>();
        let lock = || AssertSqlSafe(format!("SELECT GET_LOCK('{number}', 600)"));
        holder.execute(lock()).await.unwrap();
        // Null: neither granted nor timed out, but interrupted.
        let row = waiter.fetch_one(lock()).await.unwrap();
        assert_eq!(row.get::<Option<i64>, _>(0), None);
        for (open, expected) in [(OpenMode::Serve, (35, 15, 10)), (OpenMode::Existing, (0, 0, 50))] {
            let pool = pool_of(&url, open).await;
            let settings = "SELECT CAST(@@SESSION.max_statement_time AS SIGNED),
                CAST(@@SESSION.idle_transaction_timeout AS SIGNED), CAST(@@SESSION.innodb_lock_wait_timeout AS SIGNED)";
            let row = pool.get_mysql_connection_pool().fetch_one(settings).await.unwrap();
            let is: (i64, i64, i64) = (row.get(0), row.get(1), row.get(2));
            assert_eq!(is, expected, "{open:?}");
        }
    }

    #[tokio::test]
    async fn postgres_errors_have_their_sqlstate() {
        let default_url = "postgres://postgres@127.0.0.1:5432/postgres";
        let found = database::<Postgres>("ROLLCALL_TEST_POSTGRES_URL", default_url, DbBackend::Postgres).await;
        let Some((url, _)) = found else { return };
        let database = pool_of(&url, OpenMode::Existing).await;
        let error_of = async |statement: String| {
            let error = database.execute_unprepared(&statement).await.unwrap_err();
            DatabaseError::from(&error)
        };
        for (state, retryable) in [("40001", true), ("40P01", true), ("55P03", false), ("23505", false)] {
            let raised = format!("DO $$ BEGIN RAISE EXCEPTION 'deadlock' USING ERRCODE = '{state}'; END $$");
            let error = error_of(raised).await;
            assert_eq!(error.code(), Some(&DatabaseCode::Postgres(state.to_owned())));
            assert_eq!(error.is_retryable(), retryable, "{state}");
        }
        let error = error_of("SELECT CAST('Kim' AS INT)".to_owned()).await;
        assert_eq!(error.code(), Some(&DatabaseCode::Postgres("22P02".to_owned())));
        assert!(!error.message().contains("Kim"), "{}", error.message());
    }

    #[tokio::test]
    async fn mariadb_errors_have_their_number() {
        let default_url = "mysql://root@127.0.0.1:3306/mysql";
        let found = database::<MySql>("ROLLCALL_TEST_MARIADB_URL", default_url, DbBackend::MySql).await;
        let Some((url, _)) = found else { return };
        let database = pool_of(&url, OpenMode::Existing).await;
        for (number, retryable) in [(1213, true), (1467, true), (1205, false), (1062, false)] {
            let statement =
                format!("SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = {number}, MESSAGE_TEXT = \"40001 'Kim'\"");
            let error = database.execute_unprepared(&statement).await.unwrap_err();
            let error = DatabaseError::from(&error);
            assert_eq!(error.code(), Some(&DatabaseCode::MariaDb(number)));
            assert_eq!(error.is_retryable(), retryable, "{number}");
            assert_eq!(error.message(), format!("{number}: 40001"));
        }
    }

    #[tokio::test]
    async fn postgres_has_no_open_transaction_after_a_cancelled_begin() {
        let default_url = "postgres://postgres@127.0.0.1:5432/postgres";
        let found = database::<Postgres>("ROLLCALL_TEST_POSTGRES_URL", default_url, DbBackend::Postgres).await;
        let Some((url, _)) = found else { return };
        let store = store(&slow_proxy(&url).await, OpenMode::Serve).await;
        let pool = store.readers.get_postgres_connection_pool();
        let open = "SELECT CAST(CAST(transaction_timestamp() <> statement_timestamp() AS INT) AS BIGINT)";
        leaves_no_transaction_open::<Postgres>(&store, pool, open).await;
    }

    #[tokio::test]
    async fn mariadb_has_no_open_transaction_after_a_cancelled_begin() {
        let default_url = "mysql://root@127.0.0.1:3306/mysql";
        let found = database::<MySql>("ROLLCALL_TEST_MARIADB_URL", default_url, DbBackend::MySql).await;
        let Some((url, _)) = found else { return };
        let store = store(&slow_proxy(&url).await, OpenMode::Serve).await;
        let pool = store.readers.get_mysql_connection_pool();
        leaves_no_transaction_open::<MySql>(&store, pool, "SELECT CAST(@@in_transaction AS SIGNED)").await;
    }

    #[tokio::test]
    async fn postgres_gives_a_load_a_longer_timeout() {
        let default_url = "postgres://postgres@127.0.0.1:5432/postgres";
        let found = database::<Postgres>("ROLLCALL_TEST_POSTGRES_URL", default_url, DbBackend::Postgres).await;
        let Some((url, _)) = found else { return };
        let store = store(&url, OpenMode::Serve).await;
        let timeout = async |connection: &DatabaseTransaction| {
            let sql = store.sql("SELECT current_setting('statement_timeout')").done();
            let row = connection.query_one_raw(sql).await.unwrap().unwrap();
            row.try_get_by_index::<String>(0).unwrap()
        };
        let view = store.long_view().await.unwrap();
        assert_eq!(timeout(&view).await, "10min");
        view.commit().await.unwrap();
        assert_eq!(timeout(&store.read_view().await.unwrap()).await, "35s");
    }

    #[tokio::test]
    async fn mariadb_gives_a_load_a_longer_timeout() {
        let default_url = "mysql://root@127.0.0.1:3306/mysql";
        let found = database::<MySql>("ROLLCALL_TEST_MARIADB_URL", default_url, DbBackend::MySql).await;
        let Some((url, _)) = found else { return };
        let store = store(&url, OpenMode::Serve).await;
        let view = store.long_view().await.unwrap();
        let settings = "SELECT CAST(@@SESSION.max_statement_time AS SIGNED) + ";
        for (mut sql, expected) in [(store.long_sql(settings), 600), (store.sql(settings), 35)] {
            sql.bind(0_i64);
            let row = view.query_one_raw(sql.done()).await.unwrap().unwrap();
            assert_eq!(row.try_get_by_index::<i64>(0).unwrap(), expected);
        }
    }
}
