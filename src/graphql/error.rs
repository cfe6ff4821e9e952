//! What a client may see of an error.

use async_graphql::{ErrorExtensions as _, ScalarType as _, Value, value};
use scheduling::Interval;

use super::id::Id;
use super::scalars::DateTime;
use crate::error::{Error, whole_seconds};
use crate::observe::{incident, record};
use crate::statistics::Question;

impl From<Error> for async_graphql::Error {
    fn from(error: Error) -> Self {
        record(|notes| notes.code(error.code()));
        let mut more: Vec<(&'static str, Value)> = Vec::new();
        let mut message = error.for_operator();
        match &error {
            Error::Input { argument, .. } | Error::NotFound { argument, .. } => {
                more.push(("argument", argument.as_str().into()));
            }
            Error::Inputs(errors) => {
                let first = errors.iter().find_map(argument_of);
                more.extend(first.map(|argument| ("argument", argument.into())));
                more.push(("errors", Value::List(errors.iter().map(named).collect())));
            }
            Error::Conflict {
                argument,
                current_version,
                ..
            } => {
                more.push(("argument", argument.as_str().into()));
                more.extend(current_version.map(|version| ("currentVersion", version.into())));
            }
            Error::InvalidTransition { argument, allowed, .. } => {
                more.push(("argument", argument.as_str().into()));
                more.push(("allowed", words(allowed.iter().map(|status| status.as_str()))));
            }
            Error::SlotTaken {
                argument,
                conflicts,
                next_free,
            } => {
                more.push(("argument", argument.as_str().into()));
                more.push(("conflicts", words(conflicts.iter().map(|conflict| conflict.as_str()))));
                more.push(("nextFree", Value::List(next_free.iter().map(interval).collect())));
            }
            Error::InvalidCode => more.push(("argument", "input.code".into())),
            Error::SnapshotExpired { question, argument } => {
                more.extend(argument.as_deref().map(|argument| ("argument", argument.into())));
                more.push(("question", asked(question)));
            }
            Error::RateLimited(wait) => more.push(("retryAfter", whole_seconds(*wait).into())),
            Error::Unauthenticated(_)
            | Error::InvalidCredentials
            | Error::Forbidden(_)
            | Error::TooCostly(_)
            | Error::Busy
            | Error::BeingRestored => {}
            Error::Database(_) | Error::Internal(_) => {
                message = incident(&message);
            }
        }
        Self::new(message).extend_with(|_, extensions| {
            extensions.set("code", error.code().as_str());
            for (name, value) in more {
                extensions.set(name, value);
            }
        })
    }
}

/// Words of an enum.
fn words<'a>(words: impl Iterator<Item = &'a str>) -> Value {
    Value::List(words.map(|word| Value::Enum(async_graphql::Name::new(word))).collect())
}

fn interval(interval: &Interval) -> Value {
    value!({
        "starts": DateTime(interval.starts()).to_value(),
        "ends": DateTime(interval.ends()).to_value(),
    })
}

fn argument_of(error: &Error) -> Option<&str> {
    match error {
        Error::Input { argument, .. } | Error::NotFound { argument, .. } => Some(argument),
        _ => None,
    }
}

/// One of several errors of an input.
fn named(error: &Error) -> Value {
    value!({
        "argument": argument_of(error).unwrap_or_default(),
        "code": error.code().as_str(),
        "message": error.for_operator(),
    })
}

/// The arguments with which `statistics` can be queried again.
fn asked(question: &Question) -> Value {
    let ids = |ids: &Option<Vec<i64>>, id: fn(i64) -> Id| {
        let ids = ids.as_ref()?.iter().map(|&number| Value::from(id(number).text()));
        Some(Value::List(ids.collect()))
    };
    let filter = &question.filter;
    let channels = filter.channels.as_ref();
    let channels = channels.map(|channels| words(channels.iter().map(|channel| channel.as_str())));
    let lists = [
        ("departmentIds", ids(&filter.departments, Id::Department)),
        ("doctorIds", ids(&filter.doctors, Id::Doctor)),
        ("channels", channels),
    ];
    let lists = lists
        .into_iter()
        .filter_map(|(name, list)| Some((async_graphql::Name::new(name), list?)));
    let mut asked = value!({
        "period": question.period.as_str(),
        "range": { "from": question.range.from.to_string(), "to": question.range.to.to_string() },
        "asOf": question.as_of.to_string(),
    });
    if let Value::Object(arguments) = &mut asked
        && !filter.is_empty()
    {
        arguments.insert(async_graphql::Name::new("filter"), Value::Object(lists.collect()));
    }
    asked
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::error::ErrorCode;

    fn extension(error: &async_graphql::Error, name: &str) -> Option<Value> {
        error.extensions.as_ref()?.get(name).cloned()
    }

    #[test]
    fn internal_errors_show_an_id_only() {
        let database = sea_orm::DbErr::Custom("Kim".to_owned());
        for error in [Error::Internal("Kim".to_owned()), Error::from(database)] {
            assert!(error.for_operator().contains("Kim"));
            let shown = async_graphql::Error::from(error);
            assert!(shown.message.starts_with("internal error "), "{}", shown.message);
            let all = format!("{shown:?}");
            assert!(!all.contains("Kim"), "{all}");
            let code = ErrorCode::InternalServerError.as_str();
            assert_eq!(extension(&shown, "code"), Some(code.into()));
        }
    }

    #[test]
    fn other_errors_show_their_message_and_code() {
        for (error, name, value) in [
            (Error::input("input.name", "is empty"), "argument", "input.name".into()),
            (Error::unknown_id("id", "patient"), "argument", "id".into()),
            (
                Error::Conflict {
                    argument: "input.version".to_owned(),
                    message: "was changed".to_owned(),
                    current_version: Some(3),
                },
                "currentVersion",
                3.into(),
            ),
            (Error::RateLimited(Duration::from_millis(1_500)), "retryAfter", 2.into()),
        ] {
            let (message, code) = (error.for_operator(), error.code());
            let shown = async_graphql::Error::from(error);
            assert_eq!(shown.message, message);
            assert_eq!(extension(&shown, "code"), Some(code.as_str().into()));
            assert_eq!(extension(&shown, name), Some(value));
        }
    }
}
