//! A visit, and which visits to list.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use async_graphql::{Context, ID, InputObject, Object, SimpleObject};
use chrono::TimeDelta;
use serde_json::json;

use super::connection::{VisitConnection, VisitTotal};
use super::context;
use super::enums::{VisitChannel, VisitStatus};
use super::history::{self, ChangeEntryConnection};
use super::hospital::{Department, Doctor};
use super::id::Id;
use super::loaders::{PatientVisitsKey, VisitRowKey};
use super::pagination::{CursorScope, KeyedRow, PageArgs, rows_selected};
use super::patient::Patient;
use super::scalars::{Date, DateTime};
use super::statistics::{DateRangeInput, known_departments, known_doctors, not_empty};
use crate::error::{Error, Result};
use crate::permissions::Action;
use crate::scheduling;
use crate::statistics::{self, DayRange, VisitStatus as Status};
use crate::store::{self, KeyedVisit, Keyset, PatientVisitPage, RecordKind, VisitDetails, VisitKey, VisitQuery};

/// A visit in the response. Only [`Self::audited`] creates one, and it records the view of its patient for the audit.
#[derive(Clone)]
pub(super) struct Visit {
    row: Arc<store::Visit>,
    relations: LoadedRelations,
}

/// Relations that were loaded together with a visit.
#[derive(Clone, Default)]
struct LoadedRelations {
    patient: Option<Patient>,
    /// The department and the doctor, if it has them.
    places: Option<Box<(Option<Department>, Option<Doctor>)>>,
}

/// One appointment or walk-in of one patient.
#[Object]
impl Visit {
    /// An opaque ID.
    pub(super) async fn id(&self) -> ID {
        Id::Visit(self.row.id).into()
    }

    /// The source system's number for the visit.
    async fn visit_no(&self) -> Option<&str> {
        self.row.visit_no.as_deref()
    }

    /// The patient.
    async fn patient(&self, ctx: &Context<'_>) -> Result<Patient> {
        match &self.relations.patient {
            Some(patient) => Ok(patient.clone()),
            None => Patient::load(ctx, self.row.patient).await,
        }
    }

    /// The day of the visit in the hospital's time zone: the day that statistics count it on.
    async fn date(&self) -> Date {
        self.row.date.into()
    }

    /// The start time; null if only the day is known.
    async fn scheduled_at(&self) -> Option<DateTime> {
        self.row.scheduled_at.map(DateTime)
    }

    /// The status.
    async fn status(&self) -> VisitStatus {
        self.row.status.into()
    }

    /// The department; null if unknown.
    async fn department(&self, ctx: &Context<'_>) -> Result<Option<Department>> {
        match &self.relations.places {
            Some(places) => Ok(places.0.clone()),
            None => Department::load(ctx, self.row.department).await,
        }
    }

    /// The doctor; null if unknown.
    async fn doctor(&self, ctx: &Context<'_>) -> Result<Option<Doctor>> {
        match &self.relations.places {
            Some(places) => Ok(places.1.clone()),
            None => Doctor::load(ctx, self.row.doctor).await,
        }
    }

    /// The channel by which it was booked.
    async fn channel(&self) -> VisitChannel {
        self.row.channel.into()
    }

    /// How long it is to take, in minutes; null if the doctor's slotMinutes.
    async fn duration_minutes(&self) -> Option<i32> {
        self.row.duration_minutes
    }

    /// scheduledAt plus durationMinutes; null if either is unknown.
    async fn ends_at(&self) -> Option<DateTime> {
        let length = TimeDelta::minutes(self.row.duration_minutes?.into());
        self.row.scheduled_at?.checked_add_signed(length).map(DateTime)
    }

    /// When it last became CHECKED_IN; null if it is not that far, or was not seen to become so.
    async fn checked_in_at(&self) -> Option<DateTime> {
        let is_past = scheduling::is_past_check_in(self.row.status);
        self.row.checked_in_at.filter(|_| is_past).map(DateTime)
    }

    /// When it last became IN_PROGRESS; null if it is not that far, or was not seen to become so.
    async fn started_at(&self) -> Option<DateTime> {
        let is_past = scheduling::is_past_start(self.row.status);
        self.row.started_at.filter(|_| is_past).map(DateTime)
    }

    /// When it last became COMPLETED or ENDED; null if it is not that far, or was not seen to become so.
    async fn completed_at(&self) -> Option<DateTime> {
        let is_past = self.row.status.attended();
        self.row.completed_at.filter(|_| is_past).map(DateTime)
    }

    /// When it lapses unless it is confirmed; null if it is not TENTATIVE, or does not lapse. From then on its time is free; soon
    /// after it becomes CANCELED.
    async fn expires_at(&self) -> Option<DateTime> {
        let is_tentative = self.row.status == Status::Tentative;
        self.row.expires_at.filter(|_| is_tentative).map(DateTime)
    }

    /// A remark by the staff; null if there is none, or if patients are masked for the viewer.
    async fn note(&self, ctx: &Context<'_>) -> Result<Option<String>> {
        context::visibility(ctx)?.remark(self.row.note.as_ref())
    }

    /// What the viewer may change the status to now, corrections included; empty if the viewer may change nothing.
    async fn next_statuses(&self, ctx: &Context<'_>) -> Result<Vec<VisitStatus>> {
        if self.row.deleted || !context::viewer(ctx)?.role.may(Action::ChangeRecords) {
            return Ok(Vec::new());
        }
        let zone = context::hospital_state(ctx).await?.time_zone;
        let now = context::services(ctx)?.store.now();
        let moment = scheduling::moment(self.row.date, zone, now);
        let transitions = scheduling::transitions(Some(self.row.status), moment);
        Ok(transitions.into_iter().map(|next| next.to.into()).collect())
    }

    /// Increases with each change by the API or an import. A mutation passes the version that it is based on.
    async fn version(&self) -> i32 {
        self.row.version
    }

    /// Whether the visit was deleted; older snapshots still list it.
    async fn deleted(&self) -> bool {
        self.row.deleted
    }

    /// Who changed what and when, newest first; also changes made in SQL and by imports. Deleted visits have
    /// theirs, too.
    async fn history(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The number of rows from the start, at most 100; 20 if neither first nor last is given.")]
        first: Option<i32>,
        #[graphql(desc = "Rows after this cursor; with first.")] after: Option<String>,
        #[graphql(desc = "The number of rows from the end, at most 100.")] last: Option<i32>,
        #[graphql(desc = "Rows before this cursor; with last.")] before: Option<String>,
    ) -> Result<ChangeEntryConnection> {
        let page_args = PageArgs::new(context::limits(ctx)?, first, after, last, before)?;
        history::page(ctx, RecordKind::Visit, self.row.id, &page_args).await
    }
}

impl Visit {
    /// The visit of this row, its patient recorded for the audit as part of the response.
    fn audited(ctx: &Context<'_>, row: store::Visit, relations: LoadedRelations) -> Result<Self> {
        context::audit_patient_view(ctx, row.patient)?;
        let row = Arc::new(row);
        Ok(Self { row, relations })
    }

    pub(super) fn current(ctx: &Context<'_>, row: store::Visit) -> Result<Self> {
        Self::audited(ctx, row, LoadedRelations::default())
    }

    fn looked_up(ctx: &Context<'_>, found: VisitDetails) -> Result<Self> {
        let places = (found.department.map(Department), found.doctor.map(Doctor));
        let relations = LoadedRelations {
            patient: None,
            places: Some(Box::new(places)),
        };
        Self::audited(ctx, found.visit, relations)
    }

    /// The visit with this id, if the hospital has it.
    pub(super) async fn find(ctx: &Context<'_>, id: i64) -> Result<Option<Self>> {
        let found = context::loaders(ctx)?.load_one(VisitRowKey(id)).await?;
        found.map(|found| Self::looked_up(ctx, found)).transpose()
    }

    /// The visits of a page with their current data; those without even a tombstone as counted. Patients are loaded at the same
    /// time if they are selected, since their ids were counted too.
    pub(super) async fn load_counted(ctx: &Context<'_>, counted: Vec<statistics::CountedVisit>) -> Result<Vec<Self>> {
        let visits = context::loaders(ctx)?.load_many(counted.iter().map(|visit| VisitRowKey(visit.id)));
        let mut owners = Vec::new();
        if ctx.look_ahead().field("patient").exists() {
            owners.extend(counted.iter().map(|visit| visit.patient));
        }
        let (mut visits, patients) = tokio::try_join!(visits, Patient::load_all(ctx, owners))?;
        let patients: HashMap<i64, Patient> = counted.iter().map(|visit| visit.patient).zip(patients).collect();
        let visit = |counted: &statistics::CountedVisit| {
            let mut visit = match visits.remove(&VisitRowKey(counted.id)) {
                Some(found) => Self::looked_up(ctx, found)?,
                None => Self::gone(ctx, counted)?,
            };
            // A visit may have been moved to another patient since.
            visit.relations.patient = patients.get(&visit.row.patient).cloned();
            Ok(visit)
        };
        counted.iter().map(visit).collect()
    }
}

/// Which visits to list. An absent field matches every visit; an empty list is refused.
#[derive(InputObject)]
pub(super) struct VisitFilter {
    /// Visits in one of these departments.
    department_ids: Option<Vec<ID>>,
    /// Visits with one of these doctors.
    doctor_ids: Option<Vec<ID>>,
    /// Visits with one of these channels.
    channels: Option<Vec<VisitChannel>>,
    /// Visits with one of these statuses.
    statuses: Option<Vec<VisitStatus>>,
    /// Visits on one of these days, both ends included.
    dates: Option<DateRangeInput>,
}

/// The filter as the store's type.
pub(super) async fn visit_query(ctx: &Context<'_>, filter: Option<VisitFilter>) -> Result<VisitQuery> {
    let Some(filter) = filter else {
        return Ok(VisitQuery::default());
    };
    not_empty(context::limits(ctx)?, "filter.channels", filter.channels.as_deref())?;
    not_empty(context::limits(ctx)?, "filter.statuses", filter.statuses.as_deref())?;
    Ok(VisitQuery {
        departments: known_departments(ctx, "filter.departmentIds", filter.department_ids).await?,
        doctors: known_doctors(ctx, "filter.doctorIds", filter.doctor_ids).await?,
        channels: filter.channels.map(|list| list.into_iter().map(Into::into).collect()),
        statuses: filter.statuses.map(|list| list.into_iter().map(Into::into).collect()),
        dates: filter.dates.map(|range| range.days("filter.dates")).transpose()?,
    })
}

/// The visits of one day.
#[derive(SimpleObject)]
pub(super) struct DayVisits {
    /// The day.
    date: Date,
    /// The state of the data that the list is of: it differs after every change of a visit of the day.
    revision: String,
    /// All of the day that match the filter, by time; those without a time are last.
    visits: Vec<Visit>,
}

/// The visits of a day. Fails where there are more than are shown at once.
pub(super) async fn day(ctx: &Context<'_>, date: Date, filter: Option<VisitFilter>) -> Result<DayVisits> {
    let day = date.day("date")?;
    let mut query = visit_query(ctx, filter).await?;
    let days = DayRange::new(day, day);
    if query.dates.is_some_and(|dates| day < dates.from || dates.to < day) {
        return Err(Error::input("filter.dates", "must include date; leave it out"));
    }
    query.dates = days;
    let hospital = context::viewer(ctx)?.hospital;
    let max = context::limits(ctx)?.max_visits_of_day;
    let store = &context::services(ctx)?.store;
    let (revision, rows) = store.visits_of_day(hospital, &query, max + 1).await?;
    if rows.len() > max {
        let message =
            format!("the day has more than {max} visits that match: narrow the filter, or page through visits");
        return Err(Error::input("filter", message));
    }
    let visits = rows
        .into_iter()
        .map(|row| Visit::current(ctx, row))
        .collect::<Result<_>>()?;
    Ok(DayVisits {
        date: day.date().into(),
        revision: revision.text(),
        visits,
    })
}

/// A list of visits, of one patient or of the hospital, in an order.
struct VisitList {
    patient: Option<i64>,
    query: VisitQuery,
    key: VisitKey,
    descending: bool,
}

/// The text that binds cursors to the list. Clients keep cursors across versions, so this encoding must not change.
impl fmt::Display for VisitList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            patient,
            query,
            key,
            descending,
        } = self;
        let VisitQuery {
            departments,
            doctors,
            channels,
            statuses,
            dates,
        } = query;
        let channels = channels
            .as_ref()
            .map(|channels| channels.iter().map(|channel| channel.as_str()).collect::<Vec<_>>());
        let statuses = statuses
            .as_ref()
            .map(|statuses| statuses.iter().map(|status| status.as_str()).collect::<Vec<_>>());
        let dates = dates.map(|days| [days.from.0, days.to.0]);
        let parts = json!([
            "visits",
            patient,
            departments,
            doctors,
            channels,
            statuses,
            dates,
            key.as_str(),
            descending
        ]);
        parts.fmt(f)
    }
}

impl VisitList {
    /// The keyset of a page of it.
    fn keyset(&self, ctx: &Context<'_>, page_args: &PageArgs) -> Result<Keyset<Option<String>>> {
        let hospital = context::viewer(ctx)?.hospital;
        page_args.keyset(context::services(ctx)?.store.secrets(), hospital, self, self.descending)
    }

    /// What is loaded of a page of a patient's visits that begins at an end of the list.
    fn page_at_end(&self, patient: i64, keyset: &Keyset<Option<String>>) -> PatientVisitsKey {
        PatientVisitsKey {
            patient,
            list: PatientVisitPage {
                query: self.query.clone(),
                key: self.key,
                descending: self.descending,
                backwards: keyset.backwards,
                limit: keyset.limit,
            },
        }
    }

    /// The page of these rows as a connection.
    fn connection(self, mut rows: Vec<KeyedVisit>, page_args: &PageArgs) -> VisitConnection {
        let around = page_args.trim(&mut rows);
        let query = self.query.clone();
        let total = match self.patient {
            Some(patient) => VisitTotal::OfPatient(patient, query),
            None => VisitTotal::OfHospital(query),
        };
        let scope: CursorScope = Arc::new(self);
        let keyed = |(row, key): KeyedVisit| KeyedRow {
            scope: Arc::clone(&scope),
            key,
            id: row.id,
            row,
        };
        VisitConnection {
            rows: rows.into_iter().map(keyed).collect(),
            around,
            total,
        }
    }
}

/// A page of the hospital's visits.
pub(super) async fn page(
    ctx: &Context<'_>,
    page_args: &PageArgs,
    query: VisitQuery,
    (key, descending): (VisitKey, bool),
) -> Result<VisitConnection> {
    let list = VisitList {
        patient: None,
        query,
        key,
        descending,
    };
    let keyset = list.keyset(ctx, page_args)?;
    let rows = if rows_selected(ctx) {
        let hospital = context::viewer(ctx)?.hospital;
        let store = &context::services(ctx)?.store;
        store.visit_page(hospital, None, &list.query, key, &keyset).await?
    } else {
        Vec::new()
    };
    Ok(list.connection(rows, page_args))
}

/// A page of one patient's visits: from an end of the list together with those of other patients, else by itself.
pub(super) async fn page_of_patient(
    ctx: &Context<'_>,
    patient: i64,
    page_args: &PageArgs,
    query: VisitQuery,
    (key, descending): (VisitKey, bool),
) -> Result<VisitConnection> {
    let list = VisitList {
        patient: Some(patient),
        query,
        key,
        descending,
    };
    let keyset = list.keyset(ctx, page_args)?;
    let rows = if keyset.from.is_some() {
        let hospital = context::viewer(ctx)?.hospital;
        let store = &context::services(ctx)?.store;
        store
            .visit_page(hospital, list.patient, &list.query, key, &keyset)
            .await?
    } else {
        let page = list.page_at_end(patient, &keyset);
        context::loaders(ctx)?.load_one(page).await?.unwrap_or_default()
    };
    Ok(list.connection(rows, page_args))
}

impl Visit {
    /// A visit whose row and tombstone are gone: only what was counted is left.
    pub(super) fn gone(ctx: &Context<'_>, counted: &statistics::CountedVisit) -> Result<Self> {
        Self::looked_up(ctx, VisitDetails::gone(counted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::{Day, DayRange};

    #[test]
    fn cursors_are_bound_to_what_they_were() {
        let mut list = VisitList {
            patient: None,
            query: VisitQuery::default(),
            key: VisitKey::Date,
            descending: true,
        };
        assert_eq!(
            list.to_string(),
            r#"["visits",null,null,null,null,null,null,"Date",true]"#
        );
        list.patient = Some(1);
        list.key = VisitKey::PatientName;
        list.query = VisitQuery {
            departments: Some(vec![2, 3]),
            doctors: Some(vec![4]),
            channels: Some(vec![statistics::VisitChannel::WalkIn]),
            statuses: Some(vec![statistics::VisitStatus::NoShow]),
            dates: DayRange::new(Day(739_372), Day(739_373)),
        };
        assert_eq!(
            list.to_string(),
            r#"["visits",1,[2,3],[4],["WALK_IN"],["NO_SHOW"],[739372,739373],"PatientName",true]"#
        );
    }
}
