//! A computation of the statistics: its buckets, and the cohorts under their numbers.

use std::collections::HashSet;
use std::sync::Arc;

use async_graphql::parser::types::Field;
use async_graphql::{Context, ContextSelectionSet, ID, InputObject, InputType as _, Object, SimpleObject};
use tokio::sync::OnceCell;

use super::changes::StatisticsChanges;
use super::cohort::Cohort;
use super::context;
use super::enums::{CohortKind, Period, VisitChannel, WeekStart};
use super::explain::{self, PatientExplanation};
use super::hospital::{Department, Doctor, StatisticsDefinition};
use super::id::{self, Id};
use super::loaders::PinKey;
use super::raw_json::{JsonList, JsonObject, JsonWriter, WriteField, WriteFields};
use super::scalars::{Date, DateTime};
use super::staff::StaffMember;
use crate::config::Limits;
use crate::error::{Error, Result};
use crate::reporting::{self, ResolvedStatistics, SnapshotHead, StatisticsRequest};
use crate::statistics::{self, BucketRef, DayRange, Filter};
use crate::store::Pin;

/// A range of days. Both ends are included.
#[derive(InputObject)]
pub(super) struct DateRangeInput {
    /// The first day.
    from: Date,
    /// The last day; not before the first.
    to: Date,
}

impl DateRangeInput {
    /// The range; `argument` is the path of this input.
    pub(super) fn days(&self, argument: &str) -> Result<DayRange> {
        let from = self.from.day(&format!("{argument}.from"))?;
        let to = self.to.day(&format!("{argument}.to"))?;
        DayRange::new(from, to).ok_or_else(|| {
            Error::input(
                format!("{argument}.from"),
                format!("{from} lies after {argument}.to, {to}"),
            )
        })
    }
}

/// A range of days, both ends included.
#[derive(SimpleObject)]
pub(super) struct DateRange {
    /// The first day.
    from: Date,
    /// The last day.
    to: Date,
}

impl From<DayRange> for DateRange {
    fn from(range: DayRange) -> Self {
        Self {
            from: range.from.into(),
            to: range.to.into(),
        }
    }
}

/// Which visits count. An absent field matches every visit; an empty list is refused. The filter does not affect the
/// classification of patients: they are classified hospital-wide first and filtered second.
#[derive(InputObject)]
pub(super) struct StatisticsFilter {
    /// Visits in one of these departments.
    department_ids: Option<Vec<ID>>,
    /// Visits with one of these doctors.
    doctor_ids: Option<Vec<ID>>,
    /// Visits with one of these channels.
    channels: Option<Vec<VisitChannel>>,
}

/// Refuses a list that is empty or too long.
pub(super) fn not_empty<T>(limits: &Limits, argument: &str, list: Option<&[T]>) -> Result<()> {
    match list.map(<[T]>::len) {
        Some(0) => Err(Error::input(
            argument,
            "an empty list lets nothing through; leave it out to let all through",
        )),
        Some(length) if length > limits.max_filter_items => Err(Error::input(
            argument,
            format!(
                "{length} are more than the {} that a list may hold",
                limits.max_filter_items
            ),
        )),
        _ => Ok(()),
    }
}

fn known(argument: &str, ids: Vec<i64>, known: &HashSet<i64>, what: &str) -> Result<Vec<i64>> {
    match ids.iter().position(|id| !known.contains(id)) {
        Some(place) => Err(Error::unknown_id(format!("{argument}.{place}"), what)),
        None => Ok(ids),
    }
}

/// The departments that an argument names, all of them the hospital's.
pub(super) async fn known_departments(
    ctx: &Context<'_>,
    argument: &str,
    ids: Option<Vec<ID>>,
) -> Result<Option<Vec<i64>>> {
    not_empty(context::limits(ctx)?, argument, ids.as_deref())?;
    let Some(ids) = ids else { return Ok(None) };
    let ids = numbers(argument, &ids, id::department)?;
    let hospital = context::viewer(ctx)?.hospital;
    let all = context::services(ctx)?.store.departments(hospital).await?;
    known(argument, ids, &all.iter().map(|row| row.id).collect(), "department").map(Some)
}

/// The doctors that an argument names, all of them the hospital's.
pub(super) async fn known_doctors(ctx: &Context<'_>, argument: &str, ids: Option<Vec<ID>>) -> Result<Option<Vec<i64>>> {
    not_empty(context::limits(ctx)?, argument, ids.as_deref())?;
    let Some(ids) = ids else { return Ok(None) };
    let ids = numbers(argument, &ids, id::doctor)?;
    let hospital = context::viewer(ctx)?.hospital;
    let all = context::services(ctx)?.store.doctors(hospital).await?;
    known(argument, ids, &all.iter().map(|row| row.id).collect(), "doctor").map(Some)
}

fn numbers(argument: &str, ids: &[ID], read: impl Fn(&str, &ID) -> Result<i64>) -> Result<Vec<i64>> {
    ids.iter()
        .enumerate()
        .map(|(place, id)| read(&format!("{argument}.{place}"), id))
        .collect()
}

/// The arguments as a request to the reporting module.
pub(super) async fn asked(
    ctx: &Context<'_>,
    period: Period,
    range: DateRangeInput,
    filter: Option<StatisticsFilter>,
    as_of: Option<Date>,
) -> Result<StatisticsRequest> {
    let period = statistics::Period::from(period);
    let range = range.days("range")?;
    let max_buckets = context::limits(ctx)?.max_buckets;
    if period.min_buckets(range) > max_buckets {
        let message = format!(
            "the range has more than {max_buckets} buckets of this period, as many as ten years by DAY: shorten it, or take a longer period"
        );
        return Err(Error::input("range", message));
    }
    let as_of = as_of
        .map(|date| date.day("asOf"))
        .transpose()?
        .map(statistics::Day::date);
    let filter = match filter {
        None => Filter::default(),
        Some(filter) => {
            not_empty(context::limits(ctx)?, "filter.channels", filter.channels.as_deref())?;
            Filter {
                departments: known_departments(ctx, "filter.departmentIds", filter.department_ids).await?,
                doctors: known_doctors(ctx, "filter.doctorIds", filter.doctor_ids).await?,
                channels: filter.channels.map(|list| list.into_iter().map(Into::into).collect()),
            }
        }
    };
    Ok(StatisticsRequest {
        period,
        range,
        filter,
        as_of,
    })
}

/// The filter of a snapshot.
#[derive(SimpleObject)]
pub(super) struct AppliedFilter {
    /// Null if visits of every department counted.
    departments: Option<Vec<Department>>,
    /// Null if visits with every doctor counted.
    doctors: Option<Vec<Doctor>>,
    /// Null if visits of every channel counted.
    channels: Option<Vec<VisitChannel>>,
}

/// A snapshot. One that is listed among others is loaded when its lists are asked for.
#[derive(Clone)]
pub(super) struct Statistics {
    head: Arc<SnapshotHead>,
    lists: Arc<OnceCell<Arc<ResolvedStatistics>>>,
}

impl From<Arc<ResolvedStatistics>> for Statistics {
    fn from(resolved: Arc<ResolvedStatistics>) -> Self {
        Self {
            head: Arc::new(resolved.head()),
            lists: Arc::new(OnceCell::new_with(Some(resolved))),
        }
    }
}

impl Statistics {
    /// A snapshot that is stored.
    pub(super) fn stored(head: Arc<SnapshotHead>) -> Self {
        Self {
            head,
            lists: Arc::default(),
        }
    }

    /// The snapshot with its lists.
    async fn resolved(&self, ctx: &Context<'_>) -> Result<&Arc<ResolvedStatistics>> {
        let load = async || {
            let reporting = &context::services(ctx)?.reporting;
            let found = reporting.load(self.head.hospital, self.head.id).await?;
            found.ok_or_else(|| Error::Internal("a snapshot of the response is gone".to_owned()))
        };
        self.lists.get_or_try_init(load).await
    }

    async fn pin(&self, ctx: &Context<'_>) -> Result<Option<Pin>> {
        context::loaders(ctx)?.load_one(PinKey(self.head.id)).await
    }
}

/// One computation of the statistics: a snapshot whose lists stay the same when the data changes.
#[Object]
impl Statistics {
    /// An opaque ID, by which any server returns exactly these lists.
    pub(super) async fn id(&self, ctx: &Context<'_>) -> Result<ID> {
        if let Some(resolved) = self.lists.get() {
            context::services(ctx)?.reporting.persist(resolved).await?;
        }
        Ok(Id::Statistics(self.head.id).into())
    }

    /// The calendar unit of the buckets.
    async fn period(&self) -> Period {
        self.head.question.period.into()
    }

    /// The requested days.
    async fn range(&self) -> DateRange {
        self.head.question.range.into()
    }

    /// The filter that was applied.
    async fn filter(&self, ctx: &Context<'_>) -> Result<AppliedFilter> {
        let filter = &self.head.question.filter;
        let store = &context::services(ctx)?.store;
        let departments = match &filter.departments {
            None => None,
            Some(ids) => {
                let all = store.departments(self.head.hospital).await?;
                Some(
                    all.into_iter()
                        .filter(|row| ids.contains(&row.id))
                        .map(Department)
                        .collect(),
                )
            }
        };
        let doctors = match &filter.doctors {
            None => None,
            Some(ids) => {
                let all = store.doctors(self.head.hospital).await?;
                Some(
                    all.into_iter()
                        .filter(|row| ids.contains(&row.id))
                        .map(Doctor)
                        .collect(),
                )
            }
        };
        let channels = filter.channels.as_ref();
        Ok(AppliedFilter {
            departments,
            doctors,
            channels: channels.map(|list| list.iter().map(|&channel| channel.into()).collect()),
        })
    }

    /// The reference day: nothing dated after it counts.
    async fn as_of(&self) -> Date {
        self.head.question.as_of.into()
    }

    /// When it was computed.
    async fn computed_at(&self) -> DateTime {
        DateTime(self.head.computed_at)
    }

    /// An opaque identifier of the state of the data: it differs after every change that can affect a count.
    async fn revision(&self) -> &str {
        &self.head.revision
    }

    /// The hospital's time zone when it was computed.
    async fn time_zone(&self) -> &str {
        &self.head.time_zone
    }

    /// The day that weeks started on when it was computed.
    async fn week_start(&self) -> WeekStart {
        self.head.week_start.into()
    }

    /// The rules that were applied.
    async fn definition(&self) -> StatisticsDefinition {
        StatisticsDefinition::new(&self.head.definition, self.head.effective_from)
    }

    /// When it was pinned; null if it is not pinned.
    async fn pinned_at(&self, ctx: &Context<'_>) -> Result<Option<DateTime>> {
        Ok(self.pin(ctx).await?.map(|pin| DateTime(pin.at)))
    }

    /// Who pinned it; null if it is not pinned.
    async fn pinned_by(&self, ctx: &Context<'_>) -> Result<Option<StaffMember>> {
        match self.pin(ctx).await?.and_then(|pin| pin.by) {
            Some(id) => StaffMember::find(ctx, id).await,
            None => Ok(None),
        }
    }

    /// The label under which it was pinned; null if it has none, or if patients are masked for the viewer.
    async fn label(&self, ctx: &Context<'_>) -> Result<Option<String>> {
        if !context::sees_in_full(ctx)? {
            return Ok(None);
        }
        Ok(self.pin(ctx).await?.and_then(|pin| pin.label))
    }

    /// The buckets in order, without gaps, covering the range.
    async fn buckets(&self, ctx: &Context<'_>) -> Result<JsonList<StatisticsBucket>> {
        let resolved = self.resolved(ctx).await?;
        let buckets = (0..).take(resolved.snapshot.len()).map(BucketRef::At);
        Ok(StatisticsBucket::list(resolved, buckets))
    }

    /// The bucket that contains the day; null if the day is outside the range.
    async fn bucket(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "A day.")] day: Date,
    ) -> Result<Option<JsonObject<StatisticsBucket>>> {
        let resolved = self.resolved(ctx).await?;
        let bucket = resolved.snapshot.bucket_of(day.day("day")?);
        let bucket = bucket.and_then(|bucket| StatisticsBucket::new(resolved, bucket));
        Ok(bucket.map(JsonObject))
    }

    /// The whole range as one bucket. Distinct patients: not the sum of the buckets.
    async fn total(&self, ctx: &Context<'_>) -> Result<JsonObject<StatisticsBucket>> {
        StatisticsBucket::new(self.resolved(ctx).await?, BucketRef::Total)
            .map(JsonObject)
            .ok_or_else(|| Error::Internal("a snapshot has no total".to_owned()))
    }

    /// The differences from an older snapshot of the same query: which patients entered and left, and why. The two may differ in
    /// their data, definition, asOf and range; period and filter must be the same, and the ranges must overlap.
    async fn changes(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The Statistics.id of the older snapshot.")] since: ID,
    ) -> Result<StatisticsChanges> {
        let reporting = &context::services(ctx)?.reporting;
        let before = reporting
            .load(self.head.hospital, id::statistics("since", &since)?)
            .await?;
        let before = before.ok_or_else(|| Error::unknown_id("since", "snapshot"))?;
        let after = Arc::clone(self.resolved(ctx).await?);
        Ok(StatisticsChanges(reporting.compare(before, after).await?))
    }

    /// Why a patient is or is not in the lists of this snapshot; null if the hospital has no such patient.
    async fn explain(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "A Patient.id.")] patient_id: ID,
    ) -> Result<Option<PatientExplanation>> {
        explain::explain(ctx, self.resolved(ctx).await?, id::patient("patientId", &patient_id)?).await
    }
}

/// A bucket of a snapshot.
pub(super) struct StatisticsBucket {
    resolved: Arc<ResolvedStatistics>,
    at: BucketRef,
    bucket: statistics::Bucket,
}

impl StatisticsBucket {
    fn new(resolved: &Arc<ResolvedStatistics>, at: BucketRef) -> Option<Self> {
        let bucket = *resolved.snapshot.bucket(at)?;
        Some(Self {
            resolved: Arc::clone(resolved),
            at,
            bucket,
        })
    }

    /// Some buckets of a snapshot.
    pub(super) fn list(resolved: &Arc<ResolvedStatistics>, buckets: impl Iterator<Item = BucketRef>) -> JsonList<Self> {
        JsonList(buckets.filter_map(|at| Self::new(resolved, at)).collect())
    }

    fn churned(&self) -> Option<f64> {
        let count = |kind| self.resolved.snapshot.patient_count(self.at, kind);
        rate(
            count(statistics::CohortKind::ChurnSuspected),
            count(statistics::CohortKind::New),
        )
    }

    fn mature(&self) -> bool {
        self.resolved.snapshot.churn_mature(self.at)
    }

    fn missed(&self) -> Option<f64> {
        let count = |kind| self.resolved.snapshot.visit_count(self.at, kind);
        let missed = count(statistics::CohortKind::NoShow);
        rate(missed, missed + count(statistics::CohortKind::Visitors))
    }

    fn of_kind(&self, kind: statistics::CohortKind) -> Cohort {
        Cohort(reporting::Cohort::counted(&self.resolved, self.at, kind))
    }

    fn write_cohort(
        &self,
        kind: statistics::CohortKind,
        ctx: &ContextSelectionSet<'_>,
        field: &Field,
        json: &mut JsonWriter,
    ) -> Option<()> {
        json.object(&self.of_kind(kind), ctx, &field.selection_set.node)
    }
}

/// The counts of one calendar unit, or of the whole range.
#[Object]
impl StatisticsBucket {
    /// The first day of the whole calendar unit; for total, of the range.
    async fn start(&self) -> Date {
        self.bucket.bounds.from.into()
    }

    /// The last day of the whole calendar unit; for total, of the range.
    async fn end(&self) -> Date {
        self.bucket.bounds.to.into()
    }

    /// The days of it that were counted: those within the range and up to asOf; null if none.
    async fn covered(&self) -> Option<DateRange> {
        self.bucket.covered.map(Into::into)
    }

    /// Whether every day from start to end was counted.
    async fn complete(&self) -> bool {
        self.bucket.complete()
    }

    /// The cohort of this kind.
    async fn cohort(&self, #[graphql(desc = "The kind of cohort.")] kind: CohortKind) -> Result<Cohort> {
        Ok(self.of_kind(kind.counted()?))
    }

    /// Patients with an attended visit.
    async fn visitors(&self) -> Cohort {
        self.of_kind(statistics::CohortKind::Visitors)
    }

    /// Visitors whose first attended visit is here.
    async fn new_patients(&self) -> Cohort {
        self.of_kind(statistics::CohortKind::New)
    }

    /// Visitors who are not new.
    async fn returning(&self) -> Cohort {
        self.of_kind(statistics::CohortKind::Returning)
    }

    /// New patients who are suspected of having churned.
    async fn churn_suspected(&self) -> Cohort {
        self.of_kind(statistics::CohortKind::ChurnSuspected)
    }

    /// Patients with a no-show.
    async fn no_show(&self) -> Cohort {
        self.of_kind(statistics::CohortKind::NoShow)
    }

    /// churnSuspected / newPatients, in patients, 0 to 1; null if there are no new patients.
    async fn churn_rate(&self) -> Option<f64> {
        self.churned()
    }

    /// Whether the bucket is complete and asOf is churnAfterDays or more after its end: every new patient has had that long to
    /// return, and none is PENDING. Those who returned may still churn later.
    async fn churn_mature(&self) -> bool {
        self.mature()
    }

    /// noShow / (attended + noShow), in visits, 0 to 1; null if there is neither.
    async fn no_show_rate(&self) -> Option<f64> {
        self.missed()
    }
}

impl WriteFields for StatisticsBucket {
    const FIELDS: &'static [(&'static str, WriteField<Self>)] = &[
        ("start", |bucket, _, _, json| {
            json.value(&Date::from(bucket.bucket.bounds.from).to_value())
        }),
        ("end", |bucket, _, _, json| {
            json.value(&Date::from(bucket.bucket.bounds.to).to_value())
        }),
        ("complete", |bucket, _, _, json| json.value(&bucket.bucket.complete())),
        ("churnRate", |bucket, _, _, json| json.value(&bucket.churned())),
        ("churnMature", |bucket, _, _, json| json.value(&bucket.mature())),
        ("noShowRate", |bucket, _, _, json| json.value(&bucket.missed())),
        ("visitors", |bucket, ctx, field, json| {
            bucket.write_cohort(statistics::CohortKind::Visitors, ctx, field, json)
        }),
        ("newPatients", |bucket, ctx, field, json| {
            bucket.write_cohort(statistics::CohortKind::New, ctx, field, json)
        }),
        ("returning", |bucket, ctx, field, json| {
            bucket.write_cohort(statistics::CohortKind::Returning, ctx, field, json)
        }),
        ("churnSuspected", |bucket, ctx, field, json| {
            bucket.write_cohort(statistics::CohortKind::ChurnSuspected, ctx, field, json)
        }),
        ("noShow", |bucket, ctx, field, json| {
            bucket.write_cohort(statistics::CohortKind::NoShow, ctx, field, json)
        }),
        ("cohort", |bucket, ctx, field, json| {
            let kind = field.get_argument("kind")?.node.clone().into_const()?;
            let kind = CohortKind::parse(Some(kind)).ok()?.counted().ok()?;
            bucket.write_cohort(kind, ctx, field, json)
        }),
    ];
}

/// A part of a whole.
#[allow(clippy::cast_precision_loss)]
pub(super) fn rate(part: usize, whole: usize) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}
