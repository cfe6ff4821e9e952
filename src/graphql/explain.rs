//! Why a patient is in a snapshot's lists, or is not.

use std::sync::Arc;

use async_graphql::{Context, Object, SimpleObject};

use super::changes::VisitRecord;
use super::context;
use super::enums::{CohortKind, MembershipRule};
use super::loaders::VisitVersionsKey;
use super::patient::Patient;
use super::scalars::Date;
use super::visit::Visit;
use crate::error::{Error, Result};
use crate::reporting::{self, DerivedList, PatientInSnapshot, ResolvedStatistics};
use crate::statistics::{self, BucketRef, DayRange, VisitRow};
use crate::store::RevisionRange;

/// A patient evaluated in a snapshot.
pub(super) struct PatientExplanation {
    patient: Patient,
    explained: Arc<PatientInSnapshot>,
}

/// The explanation; none where the hospital has no such patient.
pub(super) async fn explain(
    ctx: &Context<'_>,
    resolved: &Arc<ResolvedStatistics>,
    patient: i64,
) -> Result<Option<PatientExplanation>> {
    let Some(row) = Patient::find(ctx, patient).await? else {
        return Ok(None);
    };
    let at = resolved.parsed_revision()?;
    let key = VisitVersionsKey(patient, RevisionRange { from: at, to: at });
    let versions = context::loaders(ctx)?.load_one(key).await?;
    let explained = PatientInSnapshot::new(Arc::clone(resolved), patient, versions.as_deref())?;
    Ok(Some(PatientExplanation {
        patient: row,
        explained: Arc::new(explained),
    }))
}

/// Whether the patient is in a cohort, and why; none where the hospital has no such patient.
pub(super) async fn membership(
    ctx: &Context<'_>,
    cohort: &reporting::Cohort,
    patient: i64,
) -> Result<Option<CohortMembership>> {
    let (resolved, bucket, kind) = match cohort {
        reporting::Cohort::Counted { resolved, bucket, kind } => (resolved, *bucket, *kind),
        reporting::Cohort::Derived(derived) => return derived_membership(ctx, derived, patient).await,
    };
    let Some(explanation) = explain(ctx, resolved, patient).await? else {
        return Ok(None);
    };
    let bucket = BucketExplanation::new(&explanation.explained, bucket);
    Ok(bucket.and_then(|bucket| bucket.memberships(&[kind]).pop()))
}

async fn derived_membership(
    ctx: &Context<'_>,
    derived: &DerivedList,
    patient: i64,
) -> Result<Option<CohortMembership>> {
    if Patient::find(ctx, patient).await?.is_none() {
        return Ok(None);
    }
    let included = derived.contains(patient);
    let mut visits = Vec::new();
    let mut texts = vec![format!(
        "{} the list: {}.",
        if included { "In" } else { "Not in" },
        super::derived::text(&derived.recipe)
    )];
    for (number, source) in (1..).zip(super::derived::sources(ctx, &derived.recipe).await?) {
        // A source is a derivation less deep.
        if let Some(membership) = Box::pin(membership(ctx, &source.0, patient)).await? {
            let standing = if membership.included { "in" } else { "not in" };
            texts.push(format!(
                "List {number}, {}: {standing} it. {}",
                source.0.text(),
                membership.text
            ));
            visits.extend(membership.visits);
        }
    }
    Ok(Some(CohortMembership {
        kind: CohortKind::Derived,
        included,
        rule: MembershipRule::Derived,
        text: texts.join(" "),
        visits,
    }))
}

/// Why a patient is or is not in the lists of a snapshot, based on the visits as of the snapshot.
#[Object]
impl PatientExplanation {
    /// The patient's current data.
    async fn patient(&self) -> Patient {
        self.patient.clone()
    }

    /// The first attended visit up to asOf, hospital-wide; null if there is none or it is no longer known.
    async fn first_visit(&self) -> Option<SeenVisit> {
        self.explained.evaluation()?.first().copied().map(SeenVisit)
    }

    /// The last attended visit up to asOf, hospital-wide; null if there is none or it is no longer known.
    async fn last_visit(&self) -> Option<SeenVisit> {
        self.explained.evaluation()?.last().copied().map(SeenVisit)
    }

    /// Days from the last attended visit to asOf; null if there is none.
    async fn days_silent(&self) -> Option<i32> {
        self.explained.evaluation()?.days_silent()
    }

    /// The buckets of the snapshot, in order.
    async fn buckets(&self) -> Vec<BucketExplanation> {
        let buckets = (0..).take(self.explained.resolved.snapshot.len()).map(BucketRef::At);
        buckets
            .filter_map(|bucket| BucketExplanation::new(&self.explained, bucket))
            .collect()
    }

    /// The bucket that contains the day; null if the day is outside the range.
    async fn bucket(&self, #[graphql(desc = "A day.")] day: Date) -> Result<Option<BucketExplanation>> {
        let bucket = self.explained.resolved.snapshot.bucket_of(day.day("day")?);
        Ok(bucket.and_then(|bucket| BucketExplanation::new(&self.explained, bucket)))
    }

    /// The whole range as one bucket.
    async fn total(&self) -> Result<BucketExplanation> {
        BucketExplanation::new(&self.explained, BucketRef::Total)
            .ok_or_else(|| Error::Internal("a snapshot has no total".to_owned()))
    }
}

/// A patient evaluated in a bucket.
pub(super) struct BucketExplanation {
    explained: Arc<PatientInSnapshot>,
    at: BucketRef,
    bounds: DayRange,
}

impl BucketExplanation {
    fn new(explained: &Arc<PatientInSnapshot>, at: BucketRef) -> Option<Self> {
        Some(Self {
            explained: Arc::clone(explained),
            at,
            bounds: explained.resolved.snapshot.bucket(at)?.bounds,
        })
    }

    fn memberships(&self, kinds: &[statistics::CohortKind]) -> Vec<CohortMembership> {
        let case = self.explained.evaluation();
        let membership = |&kind: &statistics::CohortKind| {
            let membership = self.explained.membership(case.as_ref(), self.at, kind);
            let (rule, text, visits) = match membership.finding {
                Some((finding, text)) => (finding.rule.into(), text, finding.visits),
                None => (MembershipRule::Unknown, UNKNOWN.to_owned(), Vec::new()),
            };
            CohortMembership {
                kind: kind.into(),
                included: membership.included,
                rule,
                text,
                visits: visits.into_iter().map(SeenVisit).collect(),
            }
        };
        kinds.iter().map(membership).collect()
    }
}

/// The text if the rule is unknown.
const UNKNOWN: &str =
    "The data that the snapshot was computed from cannot be reconstructed for this patient, so the reason is unknown.";

/// Why a patient is or is not in the lists of one calendar unit, or of the whole range.
#[Object]
impl BucketExplanation {
    /// The first day of the whole calendar unit; for total, of the range.
    async fn start(&self) -> Date {
        self.bounds.from.into()
    }

    /// The last day of the whole calendar unit; for total, of the range.
    async fn end(&self) -> Date {
        self.bounds.to.into()
    }

    /// The memberships in each of the eight cohorts.
    async fn cohorts(&self) -> Vec<CohortMembership> {
        self.memberships(statistics::CohortKind::ALL)
    }

    /// The membership in the cohort of this kind.
    async fn cohort(&self, #[graphql(desc = "The kind of cohort.")] kind: CohortKind) -> Result<CohortMembership> {
        let membership = self.memberships(&[kind.counted()?]).pop();
        membership.ok_or_else(|| Error::Internal("a cohort has no membership".to_owned()))
    }
}

/// Whether a patient is in a cohort, and why.
#[derive(SimpleObject)]
pub(super) struct CohortMembership {
    /// The kind of cohort.
    kind: CohortKind,
    /// Whether the patient is in the cohort.
    included: bool,
    /// The rule that decided it.
    rule: MembershipRule,
    /// An explanation in English with dates and numbers, without names.
    text: String,
    /// The visits that decided it, by date, time and id; empty if no visit did.
    visits: Vec<SeenVisit>,
}

/// A visit that decided it.
pub(super) struct SeenVisit(VisitRow);

/// A visit as of a snapshot.
#[Object]
impl SeenVisit {
    /// The visit's current data; null if nothing of it is left.
    async fn visit(&self, ctx: &Context<'_>) -> Result<Option<Visit>> {
        Visit::find(ctx, self.0.id).await
    }

    /// The visit's data as of the snapshot.
    async fn counted(&self) -> VisitRecord {
        VisitRecord(self.0)
    }
}
