//! Errors of the database: their codes, and whether the same transaction may succeed if it is run again.

use std::fmt;

use sea_orm::sqlx::error::DatabaseError as DriverError;
use sea_orm::sqlx::mysql::MySqlDatabaseError;
use sea_orm::sqlx::sqlite::SqliteError;
use sea_orm::{DbErr, RuntimeErr, SqlxError};

/// An error of the database or of its driver. The message is for the log, and contains no values of rows.
#[derive(Debug, Clone)]
pub struct DatabaseError {
    code: Option<DatabaseCode>,
    message: String,
}

/// The code of the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DatabaseCode {
    /// The SQLSTATE of PostgreSQL.
    Postgres(String),
    /// The error number of MariaDB, whose SQLSTATE is HY000 for most errors.
    MariaDb(u16),
    /// The extended result code of SQLite.
    Sqlite(i32),
}

/// What an error means for the transaction that it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatabaseErrorKind {
    /// The database ended one of several conflicting transactions: run again, it may succeed.
    Deadlock,
    /// Waiting for a lock timed out.
    LockTimeout,
    Other,
}

impl DatabaseCode {
    fn read(error: &dyn DriverError) -> Option<Self> {
        if let Some(error) = error.try_downcast_ref::<MySqlDatabaseError>() {
            return Some(Self::MariaDb(error.number()));
        }
        let code = error.code()?;
        if error.try_downcast_ref::<SqliteError>().is_some() {
            return code.parse().ok().map(Self::Sqlite);
        }
        Some(Self::Postgres(code.into_owned()))
    }

    #[must_use]
    pub fn kind(&self) -> DatabaseErrorKind {
        use DatabaseErrorKind::{Deadlock, LockTimeout, Other};
        match self {
            Self::Postgres(state) => match state.as_str() {
                // serialization_failure, deadlock_detected
                "40001" | "40P01" => Deadlock,
                // lock_not_available
                "55P03" => LockTimeout,
                _ => Other,
            },
            Self::MariaDb(number) => match number {
                // ER_LOCK_DEADLOCK, ER_CHECKREAD ("record has changed since last read"), ER_AUTOINC_READ_FAILED
                1213 | 1020 | 1467 => Deadlock,
                // ER_LOCK_WAIT_TIMEOUT
                1205 => LockTimeout,
                _ => Other,
            },
            Self::Sqlite(code) => match code {
                // SQLITE_BUSY_SNAPSHOT: a read transaction wants to write, but its snapshot is outdated.
                517 => Deadlock,
                // The low byte is the primary code: SQLITE_BUSY.
                code if code & 0xff == 5 => LockTimeout,
                _ => Other,
            },
        }
    }
}

impl fmt::Display for DatabaseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Postgres(state) => f.write_str(state),
            Self::MariaDb(number) => number.fmt(f),
            Self::Sqlite(code) => code.fmt(f),
        }
    }
}

impl DatabaseError {
    /// None if the error is the driver's own, such as a closed connection.
    #[must_use]
    pub fn code(&self) -> Option<&DatabaseCode> {
        self.code.as_ref()
    }

    #[must_use]
    pub fn kind(&self) -> DatabaseErrorKind {
        self.code.as_ref().map_or(DatabaseErrorKind::Other, DatabaseCode::kind)
    }

    /// Whether the same transaction may succeed if it is run again at once.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.kind() == DatabaseErrorKind::Deadlock
    }

    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl From<&DbErr> for DatabaseError {
    fn from(error: &DbErr) -> Self {
        let (DbErr::Conn(RuntimeErr::SqlxError(driver))
        | DbErr::Exec(RuntimeErr::SqlxError(driver))
        | DbErr::Query(RuntimeErr::SqlxError(driver))) = error
        else {
            return Self {
                code: None,
                message: error.to_string(),
            };
        };
        let SqlxError::Database(database) = &**driver else {
            return Self {
                code: None,
                message: error.to_string(),
            };
        };
        let code = DatabaseCode::read(database.as_ref());
        let message = without_values(database.as_ref());
        let message = match &code {
            Some(code) => format!("{code}: {message}"),
            None => message,
        };
        Self { code, message }
    }
}

/// The message without values of rows, which databases quote.
fn without_values(error: &dyn DriverError) -> String {
    let state = error.code().unwrap_or_default();
    let message = error.message();
    // Classes whose messages quote values: data exceptions (22), constraint violations (23), and MariaDB's general errors (HY).
    let quotes_values = ["22", "23", "HY"].iter().any(|class| state.starts_with(class));
    let message = match message.find(['\'', '"', '`', '«', '»', '“', '„']) {
        Some(quote) if quotes_values => &message[..quote],
        _ => message,
    };
    let constraint = error.constraint().map_or(String::new(), |name| format!(" ({name})"));
    format!("{}{constraint}", message.trim_end())
}

#[cfg(test)]
mod tests {
    use sea_orm::{ConnectOptions, ConnectionTrait as _, Database, DatabaseConnection};

    use super::*;

    #[test]
    fn each_code_has_its_kind() {
        use DatabaseErrorKind::{Deadlock, LockTimeout, Other};
        let postgres = |state: &str| DatabaseCode::Postgres(state.to_owned()).kind();
        for (state, kind) in [
            ("40001", Deadlock),
            ("40P01", Deadlock),
            ("55P03", LockTimeout),
            ("57014", Other),
            ("23505", Other),
            ("22001", Other),
            ("", Other),
        ] {
            assert_eq!(postgres(state), kind, "{state}");
        }
        for (number, kind) in [
            (1213, Deadlock),
            (1467, Deadlock),
            (1205, LockTimeout),
            (1062, Other),
            (1969, Other),
            (12_130, Other),
        ] {
            assert_eq!(DatabaseCode::MariaDb(number).kind(), kind, "{number}");
        }
        for (code, kind) in [
            (5, LockTimeout),
            (261, LockTimeout),
            (517, Deadlock),
            (773, LockTimeout),
            (2067, Other),
            (1, Other),
        ] {
            assert_eq!(DatabaseCode::Sqlite(code).kind(), kind, "{code}");
        }
    }

    async fn sqlite() -> DatabaseConnection {
        let mut options = ConnectOptions::new("sqlite::memory:");
        options.max_connections(1).sqlx_logging(false);
        Database::connect(options).await.unwrap()
    }

    /// A value that looks like a code does not make an error retryable.
    #[tokio::test]
    async fn codes_are_not_searched_in_the_text() {
        let database = sqlite().await;
        let error = database
            .execute_unprepared("SELECT * FROM deadlock_40001_1213")
            .await
            .unwrap_err();
        let error = DatabaseError::from(&error);
        assert_eq!(error.code(), Some(&DatabaseCode::Sqlite(1)));
        assert!(error.message().contains("40001") && !error.is_retryable(), "{error:?}");
        let custom = DatabaseError::from(&DbErr::Custom("deadlock 40001".to_owned()));
        assert!(custom.code().is_none() && !custom.is_retryable());
    }

    #[tokio::test]
    async fn sqlite_errors_have_the_extended_code() {
        let database = sqlite().await;
        let statements = "CREATE TABLE t (a TEXT UNIQUE); INSERT INTO t VALUES ('Kim'); INSERT INTO t VALUES ('Kim')";
        let error = database.execute_unprepared(statements).await.unwrap_err();
        let error = DatabaseError::from(&error);
        assert_eq!(error.code(), Some(&DatabaseCode::Sqlite(2067)));
        assert_eq!(error.message(), "2067: UNIQUE constraint failed: t.a");
    }

    /// An error as a driver returns it.
    #[derive(Debug)]
    struct FakeError {
        code: &'static str,
        message: &'static str,
        constraint: Option<&'static str>,
    }

    impl fmt::Display for FakeError {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.message)
        }
    }

    impl std::error::Error for FakeError {}

    impl DriverError for FakeError {
        fn message(&self) -> &str {
            self.message
        }

        fn code(&self) -> Option<std::borrow::Cow<'_, str>> {
            Some(self.code.into())
        }

        fn constraint(&self) -> Option<&str> {
            self.constraint
        }

        fn kind(&self) -> sea_orm::sqlx::error::ErrorKind {
            sea_orm::sqlx::error::ErrorKind::Other
        }

        fn as_error(&self) -> &(dyn std::error::Error + Send + Sync + 'static) {
            self
        }

        fn as_error_mut(&mut self) -> &mut (dyn std::error::Error + Send + Sync + 'static) {
            self
        }

        fn into_error(self: Box<Self>) -> Box<dyn std::error::Error + Send + Sync + 'static> {
            self
        }
    }

    #[test]
    fn messages_contain_no_values() {
        for (code, message, constraint, expected) in [
            (
                "23505",
                "duplicate key value violates unique constraint \"chart_no\", Key (chart_no)=(Kim)",
                Some("patient_chart_no"),
                "23505: duplicate key value violates unique constraint (patient_chart_no)",
            ),
            (
                "22P02",
                "invalid input syntax for type integer: \"Kim\"",
                None,
                "22P02: invalid input syntax for type integer:",
            ),
            (
                "22P02",
                "la sintaxis de entrada no es válida: «Kim»",
                None,
                "22P02: la sintaxis de entrada no es válida:",
            ),
            (
                "23000",
                "Duplicate entry 'Kim-1' for key 'name'",
                None,
                "23000: Duplicate entry",
            ),
            (
                "HY000",
                "Incorrect string value: 'Kim' for column `x`.`name`",
                None,
                "HY000: Incorrect string value:",
            ),
            // Names of tables are not values.
            (
                "42P01",
                "relation \"patient\" does not exist",
                None,
                "42P01: relation \"patient\" does not exist",
            ),
        ] {
            let error = FakeError {
                code,
                message,
                constraint,
            };
            let error = DbErr::Exec(RuntimeErr::SqlxError(SqlxError::Database(Box::new(error)).into()));
            let error = DatabaseError::from(&error);
            assert_eq!(error.message(), expected);
            assert!(!format!("{error:?}").contains("Kim"), "{error:?}");
        }
    }
}
