//! A resolved list of patients and visits: every number and every page comes from it.

use std::sync::Arc;

use async_graphql::{Context, ID, Object};

use super::connection::{PatientOrder, VisitOrder, patient_order, visit_order};
use super::context;
use super::derived::{self, CohortPatientFilter, Derivation};
use super::enums::{BreakdownDimension, CohortKind, VisitStatus};
use super::explain::{self, CohortMembership};
use super::id::{self, Id};
use super::pagination::{self, PageArgs, PageInfo, rows_selected};
use super::parts::{self, CohortPart};
use super::patient::Patient;
use super::raw_json::{IdList, WriteField, WriteFields};
use super::scalars::Date;
use super::visit::Visit;
use crate::error::Result;
use crate::reporting::{self, SortedList, bucket_index};
use crate::statistics::{CohortList, CountedPatient, CountedVisit, list_digest};
use crate::store::{AuditedList, ListOrder};

/// A cohort of a snapshot, or a list that is derived from others.
pub(super) struct Cohort(pub(super) reporting::Cohort);

/// `Cohort.digest`.
pub(crate) fn cohort_digest(list: &reporting::Cohort) -> String {
    let (patients, visits) = (list.patient_ids(), list.visit_ids());
    list_digest(
        patients.into_iter().map(|id| Id::Patient(id).text()),
        visits.into_iter().map(|id| Id::Visit(id).text()),
    )
}

impl Cohort {
    /// The audit's name of one of the two lists.
    fn audited(&self, list: &'static str) -> AuditedList {
        let id = self.0.id();
        AuditedList {
            snapshot: id.snapshot.to_string(),
            bucket: bucket_index(id.bucket),
            cohort: id.kind.as_str(),
            list,
        }
    }

    pub(super) async fn ordered(
        &self,
        ctx: &Context<'_>,
        order: ListOrder,
    ) -> Result<(Arc<CohortList>, Arc<SortedList>)> {
        context::services(ctx)?.reporting.sorted_list(&self.0, order).await
    }
}

/// A list of patients and of the visits that qualify them. Every count and every page comes from this list.
#[Object]
impl Cohort {
    /// An opaque ID, valid as long as the snapshot is kept.
    pub(super) async fn id(&self, ctx: &Context<'_>) -> Result<ID> {
        context::services(ctx)?.reporting.persist_list(&self.0).await?;
        Ok(Id::Cohort(self.0.id()).into())
    }

    /// The kind of cohort.
    async fn kind(&self) -> CohortKind {
        self.0.id().kind.into()
    }

    /// The number of patientIds.
    async fn patient_count(&self) -> usize {
        self.0.patient_count()
    }

    /// The number of visitIds.
    async fn visit_count(&self) -> usize {
        self.0.visit_count()
    }

    /// The same as Patient.id, in the order in which the patients were first recorded.
    async fn patient_ids(&self, ctx: &Context<'_>) -> Result<IdList> {
        let left = Arc::clone(context::response_bytes(ctx)?);
        left.require(IdList::at_least(self.0.patient_count()))?;
        let ids = move |list: &reporting::Cohort| IdList::of(&list.patient_ids(), Id::Patient, &left);
        self.0.cut(ids).await?
    }

    /// The same as Visit.id, in the order in which the visits were first recorded.
    async fn visit_ids(&self, ctx: &Context<'_>) -> Result<IdList> {
        let left = Arc::clone(context::response_bytes(ctx)?);
        left.require(IdList::at_least(self.0.visit_count()))?;
        let ids = move |list: &reporting::Cohort| IdList::of(&list.visit_ids(), Id::Visit, &left);
        self.0.cut(ids).await?
    }

    /// SHA-256, in lower-case hexadecimal, of the patientIds joined by line feeds, an empty line, and the visitIds joined by
    /// line feeds.
    async fn digest(&self) -> Result<String> {
        self.0.cut(cohort_digest).await
    }

    /// Why the patient is in this list, or is not; null if the hospital has no such patient.
    async fn explain(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "A Patient.id.")] patient_id: ID,
    ) -> Result<Option<CohortMembership>> {
        let patient = id::patient("patientId", &patient_id)?;
        explain::membership(ctx, &self.0, patient).await
    }

    /// The list divided into parts, each a list of its own, in a fixed order: by the key, the unknown last; empty parts are left out. Parts of
    /// patients add up to patientCount, parts of visits to visitCount.
    async fn breakdown(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "What to divide it by.")] by: BreakdownDimension,
    ) -> Result<Vec<CohortPart>> {
        parts::breakdown(ctx, &self.0, by).await
    }

    /// What the list is made of; null but for DERIVED.
    async fn derivation(&self, ctx: &Context<'_>) -> Result<Option<Derivation>> {
        Derivation::of(ctx, &self.0).await
    }

    /// The patients who meet all conditions, by what is known of them now; of who stays where records were merged. The visits are those of
    /// this list that are theirs. The list stays as it is; the same conditions may give another one later.
    async fn narrowed(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The conditions.")] filter: CohortPatientFilter,
    ) -> Result<Cohort> {
        derived::narrowed(ctx, &self.0, filter).await
    }

    /// A page of the patients; by chart number by default.
    async fn patients(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The number of rows from the start, at most 100; 20 if neither first nor last is given.")]
        first: Option<i32>,
        #[graphql(desc = "Rows after this cursor.")] after: Option<String>,
        #[graphql(desc = "The number of rows from the end, at most 100.")] last: Option<i32>,
        #[graphql(desc = "Rows before this cursor.")] before: Option<String>,
        #[graphql(desc = "CHART_NO ascending if absent.")] order_by: Option<PatientOrder>,
    ) -> Result<CohortPatientConnection> {
        let page_args = PageArgs::new(context::limits(ctx)?, first, after, last, before)?;
        let (key, descending) = patient_order(context::viewer(ctx)?, order_by)?;
        let (list, order) = self.ordered(ctx, ListOrder::Patients(key, descending)).await?;
        let places = page_args.places(order.places.len(), order.digest)?;
        let page = CohortPage { list, order, places };
        if rows_selected(ctx) {
            let patients = page.rows().map(|(_, at)| page.list.patients[at].id);
            context::audit_list_view(ctx, self.audited("patients"), patients)?;
        }
        Ok(CohortPatientConnection(page))
    }

    /// A page of the visits; newest first by default.
    async fn visits(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The number of rows from the start, at most 100; 20 if neither first nor last is given.")]
        first: Option<i32>,
        #[graphql(desc = "Rows after this cursor.")] after: Option<String>,
        #[graphql(desc = "The number of rows from the end, at most 100.")] last: Option<i32>,
        #[graphql(desc = "Rows before this cursor.")] before: Option<String>,
        #[graphql(desc = "DATE descending if absent.")] order_by: Option<VisitOrder>,
    ) -> Result<CohortVisitConnection> {
        let page_args = PageArgs::new(context::limits(ctx)?, first, after, last, before)?;
        let (key, descending) = visit_order(context::viewer(ctx)?, order_by)?;
        let (list, order) = self.ordered(ctx, ListOrder::Visits(key, descending)).await?;
        let places = page_args.places(order.places.len(), order.digest)?;
        let page = CohortPage { list, order, places };
        if rows_selected(ctx) {
            let patients = page.rows().map(|(_, at)| page.list.visits[at].patient);
            context::audit_list_view(ctx, self.audited("visits"), patients)?;
        }
        Ok(CohortVisitConnection(page))
    }
}

impl WriteFields for Cohort {
    const FIELDS: &'static [(&'static str, WriteField<Self>)] = &[
        ("patientCount", |cohort, _, _, json| {
            json.value(&cohort.0.patient_count())
        }),
        ("visitCount", |cohort, _, _, json| json.value(&cohort.0.visit_count())),
    ];
}

/// Some places of an ordered list.
struct CohortPage {
    list: Arc<CohortList>,
    order: Arc<SortedList>,
    places: std::ops::Range<usize>,
}

impl CohortPage {
    fn cursor(&self, place: usize) -> String {
        pagination::place_cursor(place, self.order.digest)
    }

    fn info(&self) -> PageInfo {
        pagination::place_page_info(&self.places, self.order.places.len(), self.order.digest)
    }

    /// The places of the page in the list as resolved, with the cursors.
    fn rows(&self) -> impl Iterator<Item = (String, usize)> {
        let places = self.places.clone().zip(&self.order.places[self.places.clone()]);
        places.map(|(place, &at)| (self.cursor(place), at as usize))
    }
}

/// A patient in a cohort.
pub(super) struct CohortPatientEdge {
    cursor: String,
    counted: CountedPatient,
}

/// A patient in a cohort: node has current data, the other fields are as counted.
#[Object]
impl CohortPatientEdge {
    /// The cursor of this row in this list and order.
    async fn cursor(&self) -> &str {
        &self.cursor
    }

    /// The patient's current data.
    async fn node(&self, ctx: &Context<'_>) -> Result<Patient> {
        Patient::load(ctx, self.counted.id).await
    }

    /// As counted: the first attended visit in the history as of the snapshot; null if there is none, as for a first no-show.
    async fn first_visit_date(&self) -> Option<Date> {
        self.counted.first_visit.map(Date::from)
    }

    /// As counted: the last attended visit in the history as of the snapshot; null if there is none.
    async fn last_visit_date(&self) -> Option<Date> {
        self.counted.last_visit.map(Date::from)
    }

    /// The number of this patient's visits in the cohort.
    async fn visit_count(&self) -> u32 {
        self.counted.visits
    }
}

/// A page of a cohort's patients.
pub(super) struct CohortPatientConnection(CohortPage);

/// A page of the list: nodes have current data, edges what was counted.
#[Object]
impl CohortPatientConnection {
    /// The rows with their cursors.
    async fn edges(&self) -> Vec<CohortPatientEdge> {
        let edge = |(cursor, at)| CohortPatientEdge {
            cursor,
            counted: self.0.list.patients[at],
        };
        self.0.rows().map(edge).collect()
    }

    /// The rows.
    async fn nodes(&self, ctx: &Context<'_>) -> Result<Vec<Patient>> {
        let ids = self.0.rows().map(|(_, at)| self.0.list.patients[at].id);
        Patient::load_all(ctx, ids.collect()).await
    }

    /// The position of the page in the list.
    async fn page_info(&self) -> PageInfo {
        self.0.info()
    }

    /// The length of the whole list, equal to the cohort's patientCount.
    async fn total_count(&self) -> usize {
        self.0.order.places.len()
    }
}

/// A visit in a cohort.
pub(super) struct CohortVisitEdge {
    cursor: String,
    counted: CountedVisit,
}

/// A visit in a cohort: node has current data, the other fields are as counted.
#[Object]
impl CohortVisitEdge {
    /// The cursor of this row in this list and order.
    async fn cursor(&self) -> &str {
        &self.cursor
    }

    /// The visit's current data.
    async fn node(&self, ctx: &Context<'_>) -> Result<Visit> {
        match Visit::find(ctx, self.counted.id).await? {
            Some(visit) => Ok(visit),
            None => Visit::gone(ctx, &self.counted),
        }
    }

    /// As counted.
    async fn date(&self) -> Date {
        self.counted.date.into()
    }

    /// As counted.
    async fn status(&self) -> VisitStatus {
        self.counted.status.into()
    }

    /// The patient as counted, equal to Patient.id.
    async fn patient_id(&self) -> ID {
        Id::Patient(self.counted.patient).into()
    }
}

/// A page of a cohort's visits.
pub(super) struct CohortVisitConnection(CohortPage);

/// A page of the list: nodes have current data, edges what was counted.
#[Object]
impl CohortVisitConnection {
    /// The rows with their cursors.
    async fn edges(&self) -> Vec<CohortVisitEdge> {
        let edge = |(cursor, at)| CohortVisitEdge {
            cursor,
            counted: self.0.list.visits[at],
        };
        self.0.rows().map(edge).collect()
    }

    /// The rows.
    async fn nodes(&self, ctx: &Context<'_>) -> Result<Vec<Visit>> {
        let counted = self.0.rows().map(|(_, at)| self.0.list.visits[at]);
        Visit::load_counted(ctx, counted.collect()).await
    }

    /// The position of the page in the list.
    async fn page_info(&self) -> PageInfo {
        self.0.info()
    }

    /// The length of the whole list, equal to the cohort's visitCount.
    async fn total_count(&self) -> usize {
        self.0.order.places.len()
    }
}
