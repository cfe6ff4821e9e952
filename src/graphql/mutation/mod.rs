//! What can be changed: one input and one payload each.

mod export;
mod import;
mod patient;
mod recall;
mod schedule;
mod session;
mod staff;
mod statistics;
mod visit;
mod visit_code;

use async_graphql::{Context, ID, MaybeUndefined, MergedObject};

use super::hospital::{Department, Doctor};
use super::{context, id};
use crate::error::{Error, Result};
use crate::records::{FieldError, Patch, rules};
use crate::store::Command;

/// The mutations.
#[derive(MergedObject, Default)]
pub struct Mutation(
    session::SessionMutation,
    patient::PatientMutation,
    visit::VisitMutation,
    visit_code::VisitCodeMutation,
    staff::StaffMutation,
    statistics::StatisticsMutation,
    schedule::ScheduleMutation,
    recall::RecallMutation,
    import::ImportMutation,
    export::ExportMutation,
);

/// The fields of an input that were refused, in the order in which they were read. One error names them all.
#[derive(Default)]
struct BadFields(Vec<Error>);

impl BadFields {
    /// The value; its default if the field was refused, and then [`Self::finish`] fails.
    fn check<T: Default>(&mut self, value: Result<T>) -> Result<T> {
        Ok(self.take(value)?.unwrap_or_default())
    }

    /// The value; none if the field was refused, and then [`Self::finish`] fails.
    fn take<T>(&mut self, value: Result<T>) -> Result<Option<T>> {
        match value {
            Ok(value) => Ok(Some(value)),
            Err(error @ (Error::Input { .. } | Error::NotFound { .. })) => {
                self.0.push(error);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Adds the fields that a draft's validation refused, and puts those of the draft in the order of its `fields`.
    fn extend(&mut self, errors: Vec<FieldError>, fields: &[&str]) {
        self.0.extend(errors.into_iter().map(Error::from));
        self.0.sort_by_key(|error| match error {
            Error::Input { argument, .. } | Error::NotFound { argument, .. } => {
                let field = argument.strip_prefix("input.");
                fields.iter().position(|name| Some(*name) == field)
            }
            _ => None,
        });
    }

    fn finish(self) -> Result<()> {
        if self.0.is_empty() { Ok(()) } else { Err(self.error()) }
    }

    fn error(mut self) -> Error {
        if self.0.len() == 1 {
            return self.0.remove(0);
        }
        Error::Inputs(self.0)
    }
}

/// Executes the command unless a field of the input was refused; returns the id of what was added or changed.
async fn execute(
    ctx: &Context<'_>,
    mut bad: BadFields,
    command: &dyn Command,
    idempotency_key: Option<String>,
) -> Result<i64> {
    let key = idempotency_key.map(|key| line("input.idempotencyKey", &key));
    let key = bad.check(key.transpose())?;
    bad.finish()?;
    context::services(ctx)?
        .store
        .execute(context::viewer(ctx)?, command, key.as_deref())
        .await
}

/// A name or a number that is no field of a draft.
fn line(argument: &str, text: &str) -> Result<String> {
    rules::line(text).map_err(|message| Error::input(argument, message))
}

/// A reason.
fn lines(argument: &str, text: &str) -> Result<String> {
    rules::lines(text).map_err(|message| Error::input(argument, message))
}

/// An absent value stays unchanged, null clears it.
fn patch<T, U>(value: MaybeUndefined<T>, read: impl FnOnce(T) -> Result<U>) -> Result<Patch<U>> {
    Ok(match value {
        MaybeUndefined::Undefined => Patch::Keep,
        MaybeUndefined::Null => Patch::Clear,
        MaybeUndefined::Value(value) => Patch::Put(read(value)?),
    })
}

/// A value that may be absent, but not null.
fn never_null<T>(argument: &str, value: MaybeUndefined<T>) -> Result<Option<T>> {
    match value {
        MaybeUndefined::Undefined => Ok(None),
        MaybeUndefined::Null => Err(Error::input(
            argument,
            "must not be null; leave it out to keep the value",
        )),
        MaybeUndefined::Value(value) => Ok(Some(value)),
    }
}

/// The department that an argument names; it must be one of the hospital's.
async fn department(ctx: &Context<'_>, id: MaybeUndefined<ID>) -> Result<Patch<i64>> {
    let id = patch(id, |id| id::department("input.departmentId", &id))?;
    if let Patch::Put(id) = id
        && Department::load(ctx, Some(id)).await?.is_none()
    {
        return Err(Error::unknown_id("input.departmentId", "department"));
    }
    Ok(id)
}

/// The doctor that an argument names; it must be one of the hospital's.
async fn doctor(ctx: &Context<'_>, id: MaybeUndefined<ID>) -> Result<Patch<i64>> {
    let id = patch(id, |id| id::doctor("input.doctorId", &id))?;
    if let Patch::Put(id) = id
        && Doctor::load(ctx, Some(id)).await?.is_none()
    {
        return Err(Error::unknown_id("input.doctorId", "doctor"));
    }
    Ok(id)
}
