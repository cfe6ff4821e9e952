//! The error that everything above the core returns, and what a client may see of it.
//!
//! It is not `Display` on purpose: async-graphql would publish whatever can be displayed.

use sea_orm::DbErr;

use crate::statistics::{TooManyKeys, UnpackError};

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
    /// More than a limit allows.
    TooCostly(String),
    /// Not the caller's doing. The text is for the operator alone.
    Internal(String),
}

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

    /// The code that stands in `extensions.code`.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Input { .. } => "BAD_USER_INPUT",
            Self::NotFound { .. } => "NOT_FOUND",
            Self::Unauthenticated(_) => "UNAUTHENTICATED",
            Self::Forbidden(_) => "FORBIDDEN",
            Self::TooCostly(_) => "QUERY_TOO_COSTLY",
            Self::Internal(_) => "INTERNAL_SERVER_ERROR",
        }
    }

    /// The whole text, for who runs the server or the command line.
    #[must_use]
    pub fn for_operator(&self) -> String {
        match self {
            Self::Input { argument, message } | Self::NotFound { argument, message } => {
                format!("{argument}: {message}")
            }
            Self::Unauthenticated(message)
            | Self::Forbidden(message)
            | Self::TooCostly(message)
            | Self::Internal(message) => message.clone(),
        }
    }
}

impl From<DbErr> for Error {
    fn from(error: DbErr) -> Self {
        Self::Internal(format!("the database: {error}"))
    }
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

impl From<Error> for async_graphql::Error {
    fn from(error: Error) -> Self {
        use async_graphql::ErrorExtensions as _;

        let (message, argument) = match &error {
            Error::Input { argument, message } | Error::NotFound { argument, message } => {
                (format!("{argument}: {message}"), Some(argument.clone()))
            }
            Error::Unauthenticated(message) | Error::Forbidden(message) | Error::TooCostly(message) => {
                (message.clone(), None)
            }
            Error::Internal(message) => {
                let id = incident();
                tracing::error!(incident = id, "{message}");
                (
                    format!("internal error {id}: the server's log says more under this id"),
                    None,
                )
            }
        };
        Self::new(message).extend_with(|_, extensions| {
            extensions.set("code", error.code());
            if let Some(argument) = argument {
                extensions.set("argument", argument);
            }
        })
    }
}

/// A name for something that went wrong, shown to the client and in the log alike.
#[must_use]
pub fn incident() -> String {
    format!("{:016x}", rand::random::<u64>())
}
