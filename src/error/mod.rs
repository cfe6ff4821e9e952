//! The error that everything above the core returns, and what a client may see of it.
//!
//! It is not `Display` on purpose: async-graphql would publish whatever can be displayed.

mod database;

use std::time::Duration;

use sea_orm::DbErr;
use string_enum::string_enum;

use crate::observe::record;
use crate::statistics::{Question, TooManyIds, UnpackError};

pub use database::{DatabaseCode, DatabaseError, DatabaseErrorKind};

string_enum!(
    /// What stands in `extensions.code` of an error, in the log and in the labels of metrics.
    ErrorCode {
        BadUserInput = "BAD_USER_INPUT",
        NotFound = "NOT_FOUND",
        Conflict = "CONFLICT",
        Busy = "BUSY",
        BeingRestored = "BEING_RESTORED",
        SnapshotExpired = "SNAPSHOT_EXPIRED",
        InvalidCredentials = "INVALID_CREDENTIALS",
        Unauthenticated = "UNAUTHENTICATED",
        Forbidden = "FORBIDDEN",
        QueryTooCostly = "QUERY_TOO_COSTLY",
        RateLimited = "RATE_LIMITED",
        PersistedQueryNotFound = "PERSISTED_QUERY_NOT_FOUND",
        GraphqlParseFailed = "GRAPHQL_PARSE_FAILED",
        GraphqlValidationFailed = "GRAPHQL_VALIDATION_FAILED",
        RequestTimeout = "REQUEST_TIMEOUT",
        InternalServerError = "INTERNAL_SERVER_ERROR",
    }
);

/// What went wrong.
#[derive(Debug, Clone)]
pub enum Error {
    /// The caller's input; names the argument by its path.
    Input { argument: String, message: String },
    /// Several arguments of one input, each an `Input` or a `NotFound`; never empty.
    Inputs(Vec<Error>),
    /// An id that is well formed but stands for nothing here; names the argument by its path.
    NotFound { argument: String, message: String },
    /// Nobody is signed in, or not any more.
    Unauthenticated(String),
    /// The hospital, login or password of a sign-in is wrong.
    InvalidCredentials,
    /// Who is signed in may not do this.
    Forbidden(String),
    /// What is to be changed was changed by somebody else meanwhile; names the argument by its path.
    Conflict {
        argument: String,
        message: String,
        /// The version that stands now; none where it has none.
        current_version: Option<i32>,
    },
    /// Other changes hold the hospital's data, and this one has waited long enough.
    Busy,
    /// The hospital's data is incomplete: a backup is being restored, or rows went past the triggers. The log says which.
    BeingRestored,
    /// The snapshot was there, and retention let it go. What was asked is left.
    SnapshotExpired(Box<Question>),
    /// More than a limit allows.
    TooCostly(String),
    /// Too often; in so long it may be tried again.
    RateLimited(Duration),
    /// The database refused a statement, or could not be reached. The text is for the operator alone.
    Database(DatabaseError),
    /// Not the caller's doing. The text is for the operator alone.
    Internal(String),
}

/// What is said of an expired snapshot.
const EXPIRED: &str = "this snapshot has expired: ask its question again, it stands in the extensions";
const BUSY: &str = "the hospital's data is locked by other changes: try again later";
const BEING_RESTORED: &str =
    "the hospital's data is incomplete, most likely because a backup is being restored: try again later";
const INVALID_CREDENTIALS: &str = "hospital, login or password is wrong";

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
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::Input { .. } => ErrorCode::BadUserInput,
            Self::Inputs(errors) => match errors.as_slice() {
                [first, ..] => first.code(),
                [] => ErrorCode::BadUserInput,
            },
            Self::NotFound { .. } => ErrorCode::NotFound,
            Self::Unauthenticated(_) => ErrorCode::Unauthenticated,
            Self::InvalidCredentials => ErrorCode::InvalidCredentials,
            Self::Forbidden(_) => ErrorCode::Forbidden,
            Self::Conflict { .. } => ErrorCode::Conflict,
            Self::Busy => ErrorCode::Busy,
            Self::BeingRestored => ErrorCode::BeingRestored,
            Self::SnapshotExpired(_) => ErrorCode::SnapshotExpired,
            Self::TooCostly(_) => ErrorCode::QueryTooCostly,
            Self::RateLimited(_) => ErrorCode::RateLimited,
            Self::Database(_) | Self::Internal(_) => ErrorCode::InternalServerError,
        }
    }

    /// The whole text, for who runs the server or the command line.
    #[must_use]
    pub fn for_operator(&self) -> String {
        match self {
            Self::Inputs(errors) => {
                let texts: Vec<String> = errors.iter().map(Self::for_operator).collect();
                texts.join("; ")
            }
            Self::Input { argument, message }
            | Self::NotFound { argument, message }
            | Self::Conflict { argument, message, .. } => format!("{argument}: {message}"),
            Self::SnapshotExpired(_) => EXPIRED.to_owned(),
            Self::Busy => BUSY.to_owned(),
            Self::BeingRestored => BEING_RESTORED.to_owned(),
            Self::InvalidCredentials => INVALID_CREDENTIALS.to_owned(),
            Self::RateLimited(wait) => format!("too often: try again in {} s", whole_seconds(*wait)),
            Self::Database(error) => format!("the database: {}", error.message()),
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
        let error = DatabaseError::from(&error);
        match error.kind() {
            DatabaseErrorKind::LockTimeout => Self::Busy,
            _ => Self::Database(error),
        }
    }
}

impl From<TooManyIds> for Error {
    fn from(error: TooManyIds) -> Self {
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
    record(|notes| notes.incidents.push(id.clone()));
    id
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::ErrorCode;

    #[test]
    fn each_code_is_documented() {
        let page = include_str!("../../docs/console/errors.md");
        let table = page.split_once("| code | meaning |").unwrap().1;
        let table = table.split_once("\n\n").unwrap().0;
        let documented: BTreeSet<&str> = table
            .lines()
            .filter_map(|line| line.split('|').nth(1))
            .flat_map(|codes| codes.split('`').skip(1).step_by(2))
            .collect();
        let codes: BTreeSet<&str> = ErrorCode::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(
            documented, codes,
            "docs/console/errors.md: one row `| `CODE` | meaning |` for each code, and no other"
        );
    }
}
