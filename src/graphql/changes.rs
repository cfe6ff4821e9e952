//! What differs between two snapshots of one period and filter: who came in and who went out, and why.

use std::ops::Range;
use std::sync::Arc;

use async_graphql::{Context, InputObject, Object};

use super::cohort::Cohort;
use super::context;
use super::enums::{ChangeReasonKind, CohortKind, VisitChannel, VisitStatus};
use super::hospital::{Department, Doctor, definition_days};
use super::loaders::VisitVersionsKey;
use super::pagination::{self, PageArgs, PageInfo};
use super::patient::Patient;
use super::raw_json::JsonList;
use super::scalars::{Date, DateTime};
use super::statistics::{Statistics, StatisticsBucket};
use super::visit::Visit;
use crate::error::{Error, Result};
use crate::reporting::{self, CitedReason, CitedVisit, ResolvedStatistics, StatisticsComparison};
use crate::statistics::{self, BucketRef, DayRange, Side, VisitRow};

/// Rules to try without publishing them.
#[derive(InputObject)]
pub(super) struct ProposedDefinitionInput {
    /// A new patient without a visit for this many days or more at asOf is suspected of having churned. 1–36,500.
    churn_after_days: i32,
    /// A visit still BOOKED this many days after its date counts as a no-show, 1–36,500; if null or absent, only NO_SHOW does.
    overdue_after_days: Option<i32>,
}

impl ProposedDefinitionInput {
    pub(super) fn rules(&self) -> Result<statistics::Definition> {
        let overdue = self.overdue_after_days;
        Ok(statistics::Definition::proposed(
            definition_days("definition.churnAfterDays", self.churn_after_days)?,
            overdue
                .map(|days| definition_days("definition.overdueAfterDays", days))
                .transpose()?,
        ))
    }
}

/// A comparison of two snapshots.
pub(super) struct StatisticsChanges(pub(super) Arc<StatisticsComparison>);

/// The differences between two snapshots of the same period and filter: for each bucket and cohort which patients entered and left, and
/// why. The lists agree with those of the snapshots: before - left + entered = after.
#[Object]
impl StatisticsChanges {
    /// The older snapshot; for a preview, computed with the rules in force.
    async fn before(&self) -> Statistics {
        Arc::clone(&self.0.before).into()
    }

    /// The newer snapshot; for a preview, computed with the proposed rules.
    async fn after(&self) -> Statistics {
        Arc::clone(&self.0.after).into()
    }

    /// The units of which both snapshots have the same days, in order: if the ranges are the same, all.
    async fn buckets(&self) -> Vec<BucketChanges> {
        let buckets = self.0.differences.compared();
        buckets
            .filter_map(|bucket| BucketChanges::new(&self.0, bucket))
            .collect()
    }

    /// Units that only the older snapshot has, or of which it has other days, in order.
    async fn only_before(&self) -> JsonList<StatisticsBucket> {
        StatisticsBucket::list(&self.0.before, self.0.differences.only_before())
    }

    /// Units that only the newer snapshot has, or of which it has other days, in order.
    async fn only_after(&self) -> JsonList<StatisticsBucket> {
        StatisticsBucket::list(&self.0.after, self.0.differences.only_after())
    }

    /// The bucket that contains the day; null if it is not among buckets.
    async fn bucket(&self, #[graphql(desc = "A day.")] day: Date) -> Result<Option<BucketChanges>> {
        let bucket = self.0.after.snapshot.bucket_of(day.day("day")?);
        Ok(bucket.and_then(|bucket| BucketChanges::new(&self.0, bucket)))
    }

    /// The whole range as one bucket; if the ranges differ, patients may have entered or left because of that.
    async fn total(&self) -> Result<BucketChanges> {
        BucketChanges::new(&self.0, BucketRef::Total)
            .ok_or_else(|| Error::Internal("a snapshot has no total".to_owned()))
    }
}

/// A bucket compared between two snapshots.
pub(super) struct BucketChanges {
    compared: Arc<StatisticsComparison>,
    /// In the newer snapshot.
    at: BucketRef,
    /// In the older snapshot.
    before: BucketRef,
    bounds: DayRange,
}

impl BucketChanges {
    fn new(compared: &Arc<StatisticsComparison>, at: BucketRef) -> Option<Self> {
        Some(Self {
            compared: Arc::clone(compared),
            at,
            before: compared.differences.before(at)?,
            bounds: compared.after.snapshot.bucket(at)?.bounds,
        })
    }

    fn list(&self, kind: statistics::CohortKind) -> CohortChanges {
        CohortChanges {
            compared: Arc::clone(&self.compared),
            bucket: self.at,
            before: self.before,
            kind,
        }
    }
}

/// The differences between two snapshots in one calendar unit, or in the whole range.
#[Object]
impl BucketChanges {
    /// The first day of the whole calendar unit; for total, of the newer snapshot's range.
    async fn start(&self) -> Date {
        self.bounds.from.into()
    }

    /// The last day of the whole calendar unit; for total, of the newer snapshot's range.
    async fn end(&self) -> Date {
        self.bounds.to.into()
    }

    /// The differences in the cohort of this kind.
    async fn cohort(&self, #[graphql(desc = "The kind of cohort.")] kind: CohortKind) -> Result<CohortChanges> {
        Ok(self.list(kind.counted()?))
    }

    /// The cohorts that patients entered or left; empty if none differs.
    async fn changed_cohorts(&self) -> Vec<CohortChanges> {
        let all = statistics::CohortKind::ALL.iter().map(|&kind| self.list(kind));
        all.filter(|list| {
            [Side::Entered, Side::Left]
                .iter()
                .any(|&side| !list.ids(side).is_empty())
        })
        .collect()
    }
}

/// A cohort compared between two snapshots.
pub(super) struct CohortChanges {
    compared: Arc<StatisticsComparison>,
    /// In the newer snapshot.
    bucket: BucketRef,
    /// In the older snapshot.
    before: BucketRef,
    kind: statistics::CohortKind,
}

impl CohortChanges {
    fn ids(&self, side: Side) -> &[i64] {
        self.compared.differences.list(self.bucket, self.kind, side)
    }

    fn of(&self, resolved: &Arc<ResolvedStatistics>, bucket: BucketRef) -> Cohort {
        Cohort(reporting::Cohort::counted(resolved, bucket, self.kind))
    }

    async fn page(&self, ctx: &Context<'_>, side: Side, page_args: &PageArgs) -> Result<PatientChangeConnection> {
        // Whoever gets a page gets cursors of it.
        let reporting = &context::services(ctx)?.reporting;
        reporting.persist(&self.compared.before).await?;
        reporting.persist(&self.compared.after).await?;
        let digest = self.compared.digest(self.bucket, self.kind, side);
        Ok(PatientChangeConnection {
            compared: Arc::clone(&self.compared),
            list: (self.bucket, self.kind, side),
            digest,
            places: page_args.places(self.ids(side).len(), digest)?,
        })
    }
}

/// The differences between two snapshots in one cohort.
#[Object]
impl CohortChanges {
    /// The kind of cohort.
    async fn kind(&self) -> CohortKind {
        self.kind.into()
    }

    /// The cohort in the older snapshot.
    async fn before(&self) -> Cohort {
        self.of(&self.compared.before, self.before)
    }

    /// The cohort in the newer snapshot.
    async fn after(&self) -> Cohort {
        self.of(&self.compared.after, self.bucket)
    }

    /// The number of patients who entered.
    async fn entered_count(&self) -> usize {
        self.ids(Side::Entered).len()
    }

    /// The number of patients who left.
    async fn left_count(&self) -> usize {
        self.ids(Side::Left).len()
    }

    /// A page of the patients who are only in the newer list, in the order in which they were first recorded.
    async fn entered(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The number of rows from the start, at most 100; 20 if neither first nor last is given.")]
        first: Option<i32>,
        #[graphql(desc = "Rows after this cursor.")] after: Option<String>,
        #[graphql(desc = "The number of rows from the end, at most 100.")] last: Option<i32>,
        #[graphql(desc = "Rows before this cursor.")] before: Option<String>,
    ) -> Result<PatientChangeConnection> {
        self.page(
            ctx,
            Side::Entered,
            &PageArgs::new(context::limits(ctx)?, first, after, last, before)?,
        )
        .await
    }

    /// A page of the patients who are only in the older list, in the order in which they were first recorded.
    async fn left(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The number of rows from the start, at most 100; 20 if neither first nor last is given.")]
        first: Option<i32>,
        #[graphql(desc = "Rows after this cursor.")] after: Option<String>,
        #[graphql(desc = "The number of rows from the end, at most 100.")] last: Option<i32>,
        #[graphql(desc = "Rows before this cursor.")] before: Option<String>,
    ) -> Result<PatientChangeConnection> {
        self.page(
            ctx,
            Side::Left,
            &PageArgs::new(context::limits(ctx)?, first, after, last, before)?,
        )
        .await
    }
}

/// Some places of a list of patients who entered or left.
pub(super) struct PatientChangeConnection {
    compared: Arc<StatisticsComparison>,
    list: (BucketRef, statistics::CohortKind, Side),
    digest: [u8; 8],
    places: Range<usize>,
}

impl PatientChangeConnection {
    fn ids(&self) -> &[i64] {
        let (bucket, kind, side) = self.list;
        self.compared.differences.list(bucket, kind, side)
    }

    /// The patients of the page, with the cursors.
    fn rows(&self) -> impl Iterator<Item = (String, i64)> {
        let ids = self.ids()[self.places.clone()].iter();
        let cursors = self
            .places
            .clone()
            .map(|place| pagination::place_cursor(place, self.digest));
        cursors.zip(ids.copied())
    }
}

/// A page of the patients who entered or left a cohort.
#[Object]
impl PatientChangeConnection {
    /// The rows with their cursors and reasons.
    async fn edges(&self) -> Vec<PatientChangeEdge> {
        let edge = |(cursor, patient)| PatientChangeEdge {
            compared: Arc::clone(&self.compared),
            list: self.list,
            cursor,
            patient,
        };
        self.rows().map(edge).collect()
    }

    /// The rows.
    async fn nodes(&self, ctx: &Context<'_>) -> Result<Vec<Patient>> {
        let ids = self.rows().map(|(_, patient)| patient);
        Patient::load_all(ctx, ids.collect()).await
    }

    /// The position of the page in the list.
    async fn page_info(&self) -> PageInfo {
        pagination::place_page_info(&self.places, self.ids().len(), self.digest)
    }

    /// The length of the whole list.
    async fn total_count(&self) -> usize {
        self.ids().len()
    }
}

/// A patient who entered or left a cohort.
pub(super) struct PatientChangeEdge {
    compared: Arc<StatisticsComparison>,
    list: (BucketRef, statistics::CohortKind, Side),
    cursor: String,
    patient: i64,
}

/// A patient who entered or left a cohort: the current data, and the reasons.
#[Object]
impl PatientChangeEdge {
    /// The cursor of this row in this list.
    async fn cursor(&self) -> &str {
        &self.cursor
    }

    /// The patient's current data.
    async fn node(&self, ctx: &Context<'_>) -> Result<Patient> {
        Patient::load(ctx, self.patient).await
    }

    /// The reasons in order: changes of the data, then of the definition, then of asOf. Never empty.
    async fn reasons(&self, ctx: &Context<'_>) -> Result<Vec<ChangeReason>> {
        context::audit_patient_view(ctx, self.patient)?;
        let key = VisitVersionsKey(self.patient, self.compared.revision_range()?);
        let versions = context::loaders(ctx)?.load_one(key).await?;
        let reasons = self.compared.reasons(self.list, self.patient, versions.as_deref())?;
        Ok(reasons.into_iter().map(ChangeReason).collect())
    }
}

/// A reason why a patient entered or left.
pub(super) struct ChangeReason(CitedReason);

/// One reason why a patient entered or left a cohort.
#[Object]
impl ChangeReason {
    /// The kind of reason.
    async fn kind(&self) -> ChangeReasonKind {
        self.0.reason.kind.into()
    }

    /// An explanation in English with dates and numbers, without names.
    async fn text(&self) -> &str {
        &self.0.reason.text
    }

    /// The visits that decided it, in the order in which they were first recorded.
    async fn visits(&self) -> Vec<VisitChange> {
        self.0.visits.iter().cloned().map(VisitChange).collect()
    }
}

/// A visit that decided it.
pub(super) struct VisitChange(CitedVisit);

/// A visit as of each of the two snapshots.
#[Object]
impl VisitChange {
    /// The visit's current data.
    async fn visit(&self, ctx: &Context<'_>) -> Result<Option<Visit>> {
        Visit::find(ctx, self.0.id).await
    }

    /// The visit's data as of the older snapshot; null if it was not yet recorded.
    async fn before(&self) -> Option<VisitRecord> {
        self.0.before.map(VisitRecord)
    }

    /// The visit's data as of the newer snapshot; null if it was deleted.
    async fn after(&self) -> Option<VisitRecord> {
        self.0.after.map(VisitRecord)
    }

    /// When it was last changed between the two snapshots; null if it was not changed.
    async fn changed_at(&self) -> Option<DateTime> {
        self.0.changed_at.map(DateTime)
    }

    /// The reason given for the change; null if none was given, or if patients are masked for the viewer.
    async fn reason(&self, ctx: &Context<'_>) -> Result<Option<&str>> {
        let full = context::sees_in_full(ctx)?;
        Ok(self.0.why.as_deref().filter(|_| full))
    }
}

/// A visit's data at an earlier time.
pub(super) struct VisitRecord(pub(super) VisitRow);

/// A visit's data at the time when a snapshot was computed.
#[Object]
impl VisitRecord {
    /// The patient.
    async fn patient(&self, ctx: &Context<'_>) -> Result<Patient> {
        Patient::load(ctx, self.0.patient).await
    }

    /// The day of the visit.
    async fn date(&self) -> Date {
        self.0.date.into()
    }

    /// The start time; null if only the day was known.
    async fn scheduled_at(&self) -> Option<DateTime> {
        let at = self.0.scheduled_at.and_then(chrono::DateTime::from_timestamp_micros);
        at.map(DateTime)
    }

    /// The status.
    async fn status(&self) -> VisitStatus {
        self.0.status.into()
    }

    /// The department; null if unknown.
    async fn department(&self, ctx: &Context<'_>) -> Result<Option<Department>> {
        Department::load(ctx, self.0.department).await
    }

    /// The doctor; null if unknown.
    async fn doctor(&self, ctx: &Context<'_>) -> Result<Option<Doctor>> {
        Doctor::load(ctx, self.0.doctor).await
    }

    /// The channel by which it was booked.
    async fn channel(&self) -> VisitChannel {
        self.0.channel.into()
    }
}
