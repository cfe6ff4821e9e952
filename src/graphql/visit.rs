//! A visit, and which visits to list.

use std::sync::Arc;

use async_graphql::parser::types::Field;
use async_graphql::{Context, ContextSelectionSet, ID, InputObject, InputType as _, Object};
use entity::visit;

use super::asker;
use super::at_hand::{self, SomeAtHand};
use super::connection::{Marked, VisitConnection, rows_wanted};
use super::cursor::Window;
use super::enums::{VisitChannel, VisitStatus};
use super::hospital::{Department, Doctor};
use super::id::Id;
use super::loaders::VisitId;
use super::patient::Patient;
use super::scalars::{Date, DateTime};
use super::statistics::{DateRangeInput, known_departments, known_doctors, not_empty};
use crate::error::{Error, Result};
use crate::statistics;
use crate::store::{KeyedVisit, PatientVisits, VisitKey, VisitQuery};

/// A visit.
#[derive(Clone)]
pub(super) struct Visit {
    pub(super) row: visit::Model,
    pub(super) deleted: bool,
}

/// One appointment or walk-in of one patient.
#[Object]
impl Visit {
    /// Opaque.
    pub(super) async fn id(&self) -> ID {
        Id::Visit(self.row.id).into()
    }

    /// The source system's own number for the visit.
    async fn visit_no(&self) -> Option<&str> {
        self.row.visit_no.as_deref()
    }

    /// Whose visit it is.
    async fn patient(&self, ctx: &Context<'_>) -> Result<Patient> {
        Patient::load(ctx, self.row.patient_id).await
    }

    /// The day of the visit in the hospital's time zone: the day that statistics count it on.
    async fn date(&self, ctx: &Context<'_>) -> Result<Date> {
        asker::saw(ctx, self.row.patient_id)?;
        Ok(self.row.date.into())
    }

    /// When it was to begin; null where only the day is known.
    async fn scheduled_at(&self, ctx: &Context<'_>) -> Result<Option<DateTime>> {
        asker::saw(ctx, self.row.patient_id)?;
        Ok(self.row.scheduled_at.map(DateTime))
    }

    /// How far it got.
    async fn status(&self, ctx: &Context<'_>) -> Result<VisitStatus> {
        asker::saw(ctx, self.row.patient_id)?;
        let status = statistics::VisitStatus::from_word(&self.row.status);
        status.map(VisitStatus::from).ok_or_else(|| unknown("visit.status"))
    }

    /// Where it took place; null where unknown.
    async fn department(&self, ctx: &Context<'_>) -> Result<Option<Department>> {
        asker::saw(ctx, self.row.patient_id)?;
        Department::load(ctx, self.row.department_id).await
    }

    /// Who treated; null where unknown.
    async fn doctor(&self, ctx: &Context<'_>) -> Result<Option<Doctor>> {
        asker::saw(ctx, self.row.patient_id)?;
        Doctor::load(ctx, self.row.doctor_id).await
    }

    /// How it came to be.
    async fn channel(&self) -> Result<VisitChannel> {
        let channel = statistics::VisitChannel::from_word(&self.row.channel);
        channel.map(VisitChannel::from).ok_or_else(|| unknown("visit.channel"))
    }

    /// Another one after each change by the API or an import: a change names the one that it was decided on.
    async fn version(&self) -> i32 {
        self.row.version
    }

    /// The visit was deleted since; old snapshots still list it.
    async fn deleted(&self) -> bool {
        self.deleted
    }
}

impl SomeAtHand for Visit {
    fn write(&self, ctx: &ContextSelectionSet<'_>, field: &Field, json: &mut Vec<u8>) -> Option<()> {
        let row = &self.row;
        match field.name.node.as_str() {
            "id" => at_hand::value(&Id::Visit(row.id).text(), json),
            "visitNo" => at_hand::value(&row.visit_no, json),
            "date" => {
                asker::saw(ctx, row.patient_id).ok()?;
                at_hand::value(&row.date.to_string(), json)
            }
            "scheduledAt" => {
                asker::saw(ctx, row.patient_id).ok()?;
                at_hand::value(&row.scheduled_at.map(|at| DateTime(at).to_value()), json)
            }
            "status" => {
                asker::saw(ctx, row.patient_id).ok()?;
                let status = statistics::VisitStatus::from_word(&row.status)?;
                at_hand::value(&VisitStatus::from(status).to_value(), json)
            }
            "channel" => {
                let channel = statistics::VisitChannel::from_word(&row.channel)?;
                at_hand::value(&VisitChannel::from(channel).to_value(), json)
            }
            "version" => at_hand::value(&row.version, json),
            "deleted" => at_hand::value(&self.deleted, json),
            _ => None,
        }
    }
}

fn unknown(column: &str) -> Error {
    Error::Internal(format!("{column} holds an unknown word"))
}

impl Visit {
    pub(super) fn here(row: visit::Model) -> Self {
        Self { row, deleted: false }
    }

    /// The visit with this id, if the hospital has it.
    pub(super) async fn find(ctx: &Context<'_>, id: i64) -> Result<Option<Self>> {
        let found = asker::loaders(ctx)?.load_one(VisitId(id)).await?;
        Ok(found.map(|(row, deleted)| Self { row, deleted }))
    }
}

/// Which visits to list. An absent list lets every visit through; an empty list is refused.
#[derive(InputObject)]
pub(super) struct VisitFilter {
    /// Visits in one of these departments.
    department_ids: Option<Vec<ID>>,
    /// Visits with one of these doctors.
    doctor_ids: Option<Vec<ID>>,
    /// Visits that came to be in one of these ways.
    channels: Option<Vec<VisitChannel>>,
    /// Visits with one of these statuses.
    statuses: Option<Vec<VisitStatus>>,
    /// Visits on one of these days, both ends included.
    dates: Option<DateRangeInput>,
}

/// The filter in the store's words.
pub(super) async fn visit_query(ctx: &Context<'_>, filter: Option<VisitFilter>) -> Result<VisitQuery> {
    let Some(filter) = filter else {
        return Ok(VisitQuery::default());
    };
    not_empty("filter.channels", filter.channels.as_deref())?;
    not_empty("filter.statuses", filter.statuses.as_deref())?;
    Ok(VisitQuery {
        departments: known_departments(ctx, "filter.departmentIds", filter.department_ids).await?,
        doctors: known_doctors(ctx, "filter.doctorIds", filter.doctor_ids).await?,
        channels: filter.channels.map(|list| list.into_iter().map(Into::into).collect()),
        statuses: filter.statuses.map(|list| list.into_iter().map(Into::into).collect()),
        dates: filter.dates.map(|range| range.days("filter.dates")).transpose()?,
    })
}

/// What binds a cursor to its list of visits.
fn list_name(patient: Option<i64>, query: &VisitQuery, key: VisitKey, descending: bool) -> String {
    format!("visits {patient:?} {query:?} {key:?} {descending}")
}

/// A page of the hospital's visits.
pub(super) async fn page(
    ctx: &Context<'_>,
    window: &Window,
    query: VisitQuery,
    (key, descending): (VisitKey, bool),
) -> Result<VisitConnection> {
    let store = &asker::shared(ctx)?.store;
    let hospital = asker::viewer(ctx)?.hospital;
    let list = list_name(None, &query, key, descending);
    let seek = window.seek(store.secrets(), hospital, &list, descending)?;
    let rows = if rows_wanted(ctx) {
        store.visit_page(hospital, None, &query, key, &seek).await?
    } else {
        Vec::new()
    };
    Ok(connection(rows, window, &list, query, None))
}

/// The page of rows as a connection.
fn connection(
    mut rows: Vec<KeyedVisit>,
    window: &Window,
    list: &str,
    query: VisitQuery,
    patient: Option<i64>,
) -> VisitConnection {
    let around = window.trim(&mut rows);
    let list: Arc<str> = list.into();
    let marked = |(row, key): KeyedVisit| Marked {
        list: Arc::clone(&list),
        key,
        id: row.id,
        row: Visit::here(row),
    };
    VisitConnection {
        rows: rows.into_iter().map(marked).collect(),
        around,
        query,
        patient,
    }
}

/// A page of one patient's visits: from an end of the list together with those of other patients, else by itself.
pub(super) async fn page_of_patient(
    ctx: &Context<'_>,
    patient: i64,
    window: &Window,
    query: VisitQuery,
    (key, descending): (VisitKey, bool),
) -> Result<VisitConnection> {
    let store = &asker::shared(ctx)?.store;
    let hospital = asker::viewer(ctx)?.hospital;
    let list = list_name(Some(patient), &query, key, descending);
    let seek = window.seek(store.secrets(), hospital, &list, descending)?;
    let rows = if seek.from.is_some() {
        store.visit_page(hospital, Some(patient), &query, key, &seek).await?
    } else {
        let page = super::loaders::VisitsOf {
            patient,
            list: PatientVisits {
                query: query.clone(),
                key,
                descending,
                backwards: seek.backwards,
                limit: seek.limit,
            },
        };
        asker::loaders(ctx)?.load_one(page).await?.unwrap_or_default()
    };
    Ok(connection(rows, window, &list, query, Some(patient)))
}

impl Visit {
    /// A visit of which only what was counted is left.
    pub(super) fn gone(hospital: i64, counted: &statistics::CountedVisit) -> Self {
        let row = visit::Model {
            hospital_id: hospital,
            id: counted.id,
            visit_no: None,
            patient_id: counted.patient,
            date: counted.date.date(),
            scheduled_at: None,
            status: counted.status.word().to_owned(),
            department_id: None,
            doctor_id: None,
            channel: statistics::VisitChannel::Other.word().to_owned(),
            version: 0,
        };
        Self { row, deleted: true }
    }
}
