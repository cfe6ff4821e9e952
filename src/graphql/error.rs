//! What a client may see of an error.

use async_graphql::{ErrorExtensions as _, Value, value};

use super::id::Id;
use crate::error::{Error, incident, whole_seconds};
use crate::observe::record;
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
            Error::SnapshotExpired(question) => more.push(("question", asked(question))),
            Error::RateLimited(wait) => more.push(("retryAfter", whole_seconds(*wait).into())),
            Error::Unauthenticated(_)
            | Error::InvalidCredentials
            | Error::Forbidden(_)
            | Error::TooCostly(_)
            | Error::Busy
            | Error::BeingRestored => {}
            Error::Database(_) | Error::Internal(_) => {
                let id = incident(&message);
                message = format!("internal error {id}: the server's log says more under this id");
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

/// The arguments with which `statistics` asks the question again.
fn asked(question: &Question) -> Value {
    let ids = |ids: &Option<Vec<i64>>, id: fn(i64) -> Id| {
        let ids = ids.as_ref()?.iter().map(|&number| Value::from(id(number).text()));
        Some(Value::List(ids.collect()))
    };
    let filter = &question.filter;
    let channels = filter.channels.as_ref().map(|channels| {
        let words = channels
            .iter()
            .map(|channel| Value::Enum(async_graphql::Name::new(channel.as_str())));
        Value::List(words.collect())
    });
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
