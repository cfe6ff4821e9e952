//! What a client may see of an error.

use async_graphql::{ErrorExtensions as _, Value, value};

use super::id::Id;
use crate::error::{Error, incident, whole_seconds};
use crate::observe::note;
use crate::statistics::Question;

impl From<Error> for async_graphql::Error {
    fn from(error: Error) -> Self {
        note(|notes| notes.code(error.code()));
        let (message, more) = match &error {
            Error::Input { argument, .. } | Error::NotFound { argument, .. } | Error::Conflict { argument, .. } => {
                (error.for_operator(), Some(("argument", Value::from(argument.as_str()))))
            }
            Error::SnapshotExpired(question) => (error.for_operator(), Some(("question", asked(question)))),
            Error::RateLimited(wait) => (
                error.for_operator(),
                Some(("retryAfter", Value::from(whole_seconds(*wait)))),
            ),
            Error::Unauthenticated(_)
            | Error::InvalidCredentials
            | Error::Forbidden(_)
            | Error::TooCostly(_)
            | Error::Busy
            | Error::BeingRestored => (error.for_operator(), None),
            Error::Database(_) | Error::Internal(_) => {
                let id = incident(&error.for_operator());
                let message = format!("internal error {id}: the server's log says more under this id");
                (message, None)
            }
        };
        Self::new(message).extend_with(|_, extensions| {
            extensions.set("code", error.code().word());
            if let Some((name, value)) = more {
                extensions.set(name, value);
            }
        })
    }
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
            .map(|channel| Value::Enum(async_graphql::Name::new(channel.word())));
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
        "period": question.period.word(),
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
