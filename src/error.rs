//! The error that everything above the core returns, and what a client may see of it.
//!
//! It is not `Display` on purpose: async-graphql would publish whatever can be displayed.

use std::time::Duration;

use sea_orm::{DbErr, RuntimeErr, SqlxError};

use crate::observe::note;
use crate::statistics::{Question, TooManyKeys, UnpackError};

/// What went wrong.
#[derive(Debug, Clone)]
pub enum Error {
    /// The caller's input; names the argument by its path.
    Input { argument: String, message: String },
    /// An id that is well formed but stands for nothing here; names the argument by its path.
    NotFound { argument: String, message: String },
    /// Nobody is signed in, or not any more.
    Unauthenticated(String),
    /// Who is signed in may not do this.
    Forbidden(String),
    /// What is to be changed was changed by somebody else meanwhile; names the argument by its path.
    Conflict { argument: String, message: String },
    /// The snapshot was there, and retention let it go. What was asked is left.
    SnapshotExpired(Box<Question>),
    /// More than a limit allows.
    TooCostly(String),
    /// Too often; in so long it may be tried again.
    RateLimited(Duration),
    /// Not the caller's doing. The text is for the operator alone.
    Internal(String),
}

/// What is said of an expired snapshot.
const EXPIRED: &str = "this snapshot has expired: ask its question again, it stands in the extensions";

/// The result of everything above the core.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Input that cannot be taken.
    pub fn input(argument: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Input {
            argument: argument.into(),
            message: message.into(),
        }
    }

    /// An id that the hospital has nothing of.
    pub fn unknown_id(argument: impl Into<String>, what: &str) -> Self {
        Self::NotFound {
            argument: argument.into(),
            message: format!("the hospital has no {what} of this id"),
        }
    }

    /// The code that stands in `extensions.code`.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Input { .. } => "BAD_USER_INPUT",
            Self::NotFound { .. } => "NOT_FOUND",
            Self::Unauthenticated(_) => "UNAUTHENTICATED",
            Self::Forbidden(_) => "FORBIDDEN",
            Self::Conflict { .. } => "CONFLICT",
            Self::SnapshotExpired(_) => "SNAPSHOT_EXPIRED",
            Self::TooCostly(_) => "QUERY_TOO_COSTLY",
            Self::RateLimited(_) => "RATE_LIMITED",
            Self::Internal(_) => "INTERNAL_SERVER_ERROR",
        }
    }

    /// The whole text, for who runs the server or the command line.
    #[must_use]
    pub fn for_operator(&self) -> String {
        match self {
            Self::Input { argument, message }
            | Self::NotFound { argument, message }
            | Self::Conflict { argument, message } => format!("{argument}: {message}"),
            Self::SnapshotExpired(_) => EXPIRED.to_owned(),
            Self::RateLimited(wait) => format!("too often: try again in {} s", whole_seconds(*wait)),
            Self::Unauthenticated(message)
            | Self::Forbidden(message)
            | Self::TooCostly(message)
            | Self::Internal(message) => message.clone(),
        }
    }
}

/// Seconds, rounded up: who waits so long waits long enough.
#[must_use]
pub fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

impl From<DbErr> for Error {
    fn from(error: DbErr) -> Self {
        Self::Internal(format!("the database: {}", without_values(&error)))
    }
}

/// The error's text without values of rows, which databases like to quote: it goes to the log.
fn without_values(error: &DbErr) -> String {
    let (DbErr::Conn(RuntimeErr::SqlxError(driver))
    | DbErr::Exec(RuntimeErr::SqlxError(driver))
    | DbErr::Query(RuntimeErr::SqlxError(driver))) = error
    else {
        return error.to_string();
    };
    let SqlxError::Database(said) = &**driver else {
        return error.to_string();
    };
    let code = said.code().unwrap_or_default();
    let message = said.message();
    // Of data that does not fit (22), of keys and other constraints (23), of whatever has no class (HY).
    let quotes = ["22", "23", "HY"].iter().any(|class| code.starts_with(class));
    let message = match message.find(['\'', '"', '`', '«', '»', '“', '„']) {
        Some(quote) if quotes => &message[..quote],
        _ => message,
    };
    let constraint = said.constraint().map_or(String::new(), |name| format!(" ({name})"));
    format!("{code}: {}{constraint}", message.trim_end())
}

impl From<TooManyKeys> for Error {
    fn from(error: TooManyKeys) -> Self {
        Self::Internal(error.to_string())
    }
}

impl From<UnpackError> for Error {
    fn from(error: UnpackError) -> Self {
        Self::Internal(error.to_string())
    }
}

/// Logs what went wrong under a name that the client is shown too.
pub fn incident(message: &str) -> String {
    let id = format!("{:016x}", rand::random::<u64>());
    tracing::error!(incident = id, "{message}");
    note(|notes| notes.incidents.push(id.clone()));
    id
}
