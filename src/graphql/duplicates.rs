//! Patients who may be the same person.

use async_graphql::{Context, SimpleObject};

use super::context;
use super::enums::MatchReason;
use super::patient::{Patient, hospital_country};
use super::scalars::Date;
use crate::error::{Error, Result};
use crate::permissions::Action;
use crate::records::PatientDraft;
use crate::store::Person;

/// A patient who may be the same person.
#[derive(SimpleObject)]
pub(super) struct PatientMatch {
    /// The patient, who is ACTIVE.
    patient: Patient,
    /// Each reason that holds.
    reasons: Vec<MatchReason>,
}

/// The person that the arguments describe.
pub(super) async fn person(
    ctx: &Context<'_>,
    name: Option<String>,
    birth_date: Option<Date>,
    phone: Option<String>,
) -> Result<Person> {
    if name.is_none() && birth_date.is_none() && phone.is_none() {
        return Err(Error::input(
            "name",
            "give a phone, or a name together with a phone or a birthDate",
        ));
    }
    let mut errors = Vec::new();
    let birth_date = birth_date.map(|date| date.date("birthDate"));
    let birth_date = birth_date.transpose().unwrap_or_else(|error| {
        errors.push(error);
        None
    });
    let country = match phone {
        Some(_) => hospital_country(ctx).await?,
        None => None,
    };
    let mut draft = PatientDraft {
        name: name.into(),
        birth_date: birth_date.into(),
        phone: phone.into(),
        ..PatientDraft::default()
    };
    let refused = draft.validate(context::today(ctx).await?, country.as_deref());
    errors.extend(
        refused
            .iter()
            .map(|error| Error::input(error.api_name(), error.message.clone())),
    );
    match errors.len() {
        0 => Ok(Person {
            name: draft.name.put(),
            birth_date: draft.birth_date.put(),
            phone: draft.phone.put(),
        }),
        1 => Err(errors.remove(0)),
        _ => Err(Error::Inputs(errors)),
    }
}

/// The patients who may be this person, recorded for the audit as found by a search; `except` is the patient that the person is already.
pub(super) async fn possible_duplicates(
    ctx: &Context<'_>,
    person: &Person,
    except: Option<i64>,
) -> Result<Vec<PatientMatch>> {
    let store = &context::services(ctx)?.store;
    let hospital = context::viewer(ctx)?.hospital;
    let found = store.possible_duplicates(hospital, person, except).await?;
    context::audit_search(ctx, found.iter().map(|found| found.patient))?;
    let patients = Patient::load_all(ctx, found.iter().map(|found| found.patient).collect()).await?;
    let matches = patients.into_iter().zip(found).map(|(patient, found)| PatientMatch {
        patient,
        reasons: found.reasons.into_iter().map(Into::into).collect(),
    });
    Ok(matches.collect())
}

/// Refuses viewers for whom names, birth dates or phones are masked: the answer would reveal them.
pub(super) fn require(ctx: &Context<'_>) -> Result<()> {
    context::viewer(ctx)?.require(Action::UseNames, "to find possible duplicates")
}
