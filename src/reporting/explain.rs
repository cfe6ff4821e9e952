//! Why a patient is in a snapshot's lists, or is not.

use std::sync::Arc;

use super::ResolvedStatistics;
use crate::error::Result;
use crate::statistics::{BucketRef, CohortKind, MembershipFinding, PatientEvaluation, VisitRow};
use crate::store::VisitVersions;

/// A snapshot, and one patient's visits as it saw them.
pub struct PatientInSnapshot {
    pub resolved: Arc<ResolvedStatistics>,
    pub patient: i64,
    /// None where they cannot be told any more.
    visits: Option<Vec<VisitRow>>,
}

/// Whether a patient is in a cohort, as the snapshot has it, and why.
pub struct Membership {
    pub included: bool,
    /// With its words; none where what the snapshot saw cannot be told any more.
    pub finding: Option<(MembershipFinding, String)>,
}

impl PatientInSnapshot {
    /// By what is known of the patient's past since the snapshot.
    ///
    /// # Errors
    /// Where the snapshot's revision cannot be read.
    pub fn new(resolved: Arc<ResolvedStatistics>, patient: i64, past: Option<&VisitVersions>) -> Result<Self> {
        let at = resolved.parsed_revision()?;
        let known = past.filter(|_| resolved.knows_newest_visit());
        let visits = known.map(|past| {
            let visits = past
                .visits
                .iter()
                .filter_map(|visit| visit.at(at, resolved.newest_visit));
            visits.filter(|visit| visit.patient == patient).collect()
        });
        Ok(Self {
            resolved,
            patient,
            visits,
        })
    }

    /// The patient's visits as the snapshot's question sees them.
    #[must_use]
    pub fn evaluation(&self) -> Option<PatientEvaluation<'_>> {
        let snapshot = &self.resolved.snapshot;
        let case = |visits| {
            PatientEvaluation::new(
                snapshot.question(),
                snapshot.definition(),
                snapshot.week_start(),
                visits,
            )
        };
        self.visits.clone().map(case)
    }

    /// Whether the patient is in a cohort, and why. The snapshot has the last word: where the visits do not bear it out, it
    /// saw others than can be told.
    #[must_use]
    pub fn membership(&self, case: Option<&PatientEvaluation<'_>>, bucket: BucketRef, kind: CohortKind) -> Membership {
        let included = self.resolved.snapshot.contains(bucket, kind, self.patient);
        let bounds = self.resolved.snapshot.bucket(bucket).map(|bucket| bucket.bounds);
        let finding = case.zip(bounds).map(|(case, bounds)| {
            let finding = case.finding(bounds, kind);
            let sentence = case.sentence(bounds, kind, &finding);
            (finding, sentence)
        });
        Membership {
            included,
            finding: finding.filter(|(finding, _)| finding.included == included),
        }
    }
}
