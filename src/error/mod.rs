//! The error type of everything above the statistics core, and its codes. What clients see of it is decided in `graphql::error`.
//!
//! It does not implement `Display`: async-graphql would show clients every error that does.

mod database;

use std::time::Duration;

use sea_orm::DbErr;
use string_enum::string_enum;

use crate::statistics::{Question, TooManyIds, UnpackError, VisitStatus};
use scheduling::Interval;

pub use database::{DatabaseCode, DatabaseError, DatabaseErrorKind};

string_enum!(
    /// The code in `extensions.code` of an error, in the log and in labels of metrics.
    ErrorCode {
        BadUserInput = "BAD_USER_INPUT",
        NotFound = "NOT_FOUND",
        Conflict = "CONFLICT",
        InvalidTransition = "INVALID_TRANSITION",
        SlotTaken = "SLOT_TAKEN",
        InvalidCode = "INVALID_CODE",
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

string_enum!(
    /// Why a booking's time is not free.
    BookingConflict {
        DoctorBusy = "DOCTOR_BUSY",
        PatientBusy = "PATIENT_BUSY",
        OutsideHours = "OUTSIDE_HOURS",
        DoctorAbsent = "DOCTOR_ABSENT",
        HospitalClosed = "HOSPITAL_CLOSED",
        AlreadyCheckedIn = "ALREADY_CHECKED_IN",
    }
);

impl BookingConflict {
    const fn text(self) -> &'static str {
        match self {
            Self::DoctorBusy => "the doctor has another visit at this time",
            Self::PatientBusy => "the patient has another visit at this time",
            Self::OutsideHours => "the time is outside the doctor's working hours",
            Self::DoctorAbsent => "the doctor is absent at this time",
            Self::HospitalClosed => "the hospital is closed at this time",
            Self::AlreadyCheckedIn => "the patient is already checked in with this doctor on this day",
        }
    }
}

/// Why an operation failed.
#[derive(Debug, Clone)]
pub enum Error {
    /// Invalid input; names the argument by its path.
    Input { argument: String, message: String },
    /// Several invalid arguments of one input, each an `Input` or a `NotFound`; never empty.
    Inputs(Vec<Error>),
    /// A well-formed id of something that the hospital does not have; names the argument by its path.
    NotFound { argument: String, message: String },
    /// The viewer is not signed in, or the session has ended.
    Unauthenticated(String),
    /// The hospital, login or password of a sign-in is wrong.
    InvalidCredentials,
    /// The viewer's role does not allow it.
    Forbidden(String),
    /// The record was changed by somebody else in the meantime; names the argument by its path.
    Conflict {
        argument: String,
        message: String,
        /// The record's present version, if it has versions.
        current_version: Option<i32>,
    },
    /// A visit's status cannot become what was asked for; names the argument by its path.
    InvalidTransition {
        argument: String,
        message: String,
        /// What it can become now.
        allowed: Vec<VisitStatus>,
    },
    /// The time of a booking is not free; names the argument by its path.
    SlotTaken {
        argument: String,
        conflicts: Vec<BookingConflict>,
        /// The next free times of the doctor, which the patient has free, too.
        next_free: Vec<Interval>,
    },
    /// A code of a visit cannot be used. Why is not told, so that nobody learns of codes that were valid.
    InvalidCode,
    /// Other changes lock the hospital's data, and waiting for them timed out.
    Busy,
    /// The hospital's data is incomplete: a backup is being restored, or rows were changed without the triggers. The log says which.
    BeingRestored,
    /// The snapshot has expired; its question is still known.
    SnapshotExpired {
        question: Box<Question>,
        /// The argument that named it, where there are several.
        argument: Option<String>,
    },
    /// A limit is exceeded.
    TooCostly(String),
    /// Too many requests or failed sign-ins; how long to wait.
    RateLimited(Duration),
    /// The database failed, or could not be reached. Clients do not see the text.
    Database(DatabaseError),
    /// A failure of the server. Clients do not see the text.
    Internal(String),
}

const FORCE: &str = "choose another time, or set force and give a reason";
const EXPIRED: &str = "the snapshot has expired: repeat its question, which is in the extensions";
const INVALID_CODE: &str = "input.code: this code is not valid, or cannot be used now: ask at the front desk";
const BUSY: &str = "the hospital's data is locked by other changes: try again later";
const BEING_RESTORED: &str =
    "the hospital's data is incomplete, most likely because a backup is being restored: try again later";
const INVALID_CREDENTIALS: &str = "the hospital, login or password is wrong";

/// The result of everything above the core.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Invalid input.
    pub fn input(argument: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Input {
            argument: argument.into(),
            message: message.into(),
        }
    }

    /// An id of something that the hospital does not have.
    pub fn unknown_id(argument: impl Into<String>, what: &str) -> Self {
        Self::NotFound {
            argument: argument.into(),
            message: format!("the hospital has no {what} with this ID"),
        }
    }

    /// The snapshot of this question has expired.
    #[must_use]
    pub fn expired(question: Question) -> Self {
        Self::SnapshotExpired {
            question: Box::new(question),
            argument: None,
        }
    }

    /// The same error; if a snapshot has expired, it is the one that the argument named.
    #[must_use]
    pub fn of_argument(self, argument: &str) -> Self {
        match self {
            Self::SnapshotExpired { question, .. } => Self::SnapshotExpired {
                question,
                argument: Some(argument.to_owned()),
            },
            other => other,
        }
    }

    /// The code in `extensions.code`.
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
            Self::InvalidTransition { .. } => ErrorCode::InvalidTransition,
            Self::SlotTaken { .. } => ErrorCode::SlotTaken,
            Self::InvalidCode => ErrorCode::InvalidCode,
            Self::Busy => ErrorCode::Busy,
            Self::BeingRestored => ErrorCode::BeingRestored,
            Self::SnapshotExpired { .. } => ErrorCode::SnapshotExpired,
            Self::TooCostly(_) => ErrorCode::QueryTooCostly,
            Self::RateLimited(_) => ErrorCode::RateLimited,
            Self::Database(_) | Self::Internal(_) => ErrorCode::InternalServerError,
        }
    }

    /// The whole text, for the log and the command line.
    #[must_use]
    pub fn for_operator(&self) -> String {
        match self {
            Self::Inputs(errors) => {
                let texts: Vec<String> = errors.iter().map(Self::for_operator).collect();
                texts.join("; ")
            }
            Self::Input { argument, message }
            | Self::NotFound { argument, message }
            | Self::Conflict { argument, message, .. }
            | Self::InvalidTransition { argument, message, .. } => format!("{argument}: {message}"),
            Self::SlotTaken {
                argument, conflicts, ..
            } => {
                let conflicts: Vec<&str> = conflicts.iter().map(|conflict| conflict.text()).collect();
                format!("{argument}: {}: {FORCE}", conflicts.join("; "))
            }
            Self::SnapshotExpired { .. } => EXPIRED.to_owned(),
            Self::InvalidCode => INVALID_CODE.to_owned(),
            Self::Busy => BUSY.to_owned(),
            Self::BeingRestored => BEING_RESTORED.to_owned(),
            Self::InvalidCredentials => INVALID_CREDENTIALS.to_owned(),
            Self::RateLimited(wait) => format!("too many attempts: try again in {} s", whole_seconds(*wait)),
            Self::Database(error) => format!("the database: {}", error.message()),
            Self::Unauthenticated(message)
            | Self::Forbidden(message)
            | Self::TooCostly(message)
            | Self::Internal(message) => message.clone(),
        }
    }
}

/// Whole seconds, rounded up.
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
