//! Why a patient is or is not in a cohort of a snapshot.

use std::sync::Arc;

use super::ResolvedStatistics;
use crate::error::Result;
use crate::statistics::{BucketRef, CohortKind, MembershipFinding, PatientEvaluation, VisitRow};
use crate::store::VisitVersions;

/// A snapshot, and the visits of one patient that it counted.
pub struct PatientInSnapshot {
    pub resolved: Arc<ResolvedStatistics>,
    pub patient: i64,
    /// None where they are no longer known.
    visits: Option<Vec<VisitRow>>,
}

/// Whether a patient is in a cohort of a snapshot, and why.
pub struct Membership {
    pub included: bool,
    /// The finding and a sentence for it; none where the visits that the snapshot counted are no longer known.
    pub finding: Option<(MembershipFinding, String)>,
}

impl PatientInSnapshot {
    /// From the versions of the patient's visits since the snapshot; none where they are unknown.
    ///
    /// # Errors
    /// Where the snapshot's revision is malformed in the database.
    pub fn new(resolved: Arc<ResolvedStatistics>, patient: i64, versions: Option<&VisitVersions>) -> Result<Self> {
        let at = resolved.parsed_revision()?;
        let known = versions.filter(|_| resolved.knows_newest_visit());
        let visits = known.map(|versions| {
            let visits = versions
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

    /// The evaluation of the patient's visits by the snapshot's question; none where they are no longer known.
    #[must_use]
    pub fn evaluation(&self) -> Option<PatientEvaluation<'_>> {
        let snapshot = &self.resolved.snapshot;
        let evaluation = |visits| {
            PatientEvaluation::new(
                snapshot.question(),
                snapshot.definition(),
                snapshot.week_start(),
                visits,
            )
        };
        self.visits.clone().map(evaluation)
    }

    /// Whether the patient is in a cohort, and why. The snapshot decides: where the evaluation contradicts it, the snapshot counted
    /// other visits, and there is no finding.
    #[must_use]
    pub fn membership(
        &self,
        evaluation: Option<&PatientEvaluation<'_>>,
        bucket: BucketRef,
        kind: CohortKind,
    ) -> Membership {
        let included = self.resolved.snapshot.contains(bucket, kind, self.patient);
        let bounds = self.resolved.snapshot.bucket(bucket).map(|bucket| bucket.bounds);
        let finding = evaluation.zip(bounds).map(|(evaluation, bounds)| {
            let finding = evaluation.finding(bounds, kind);
            let sentence = evaluation.sentence(bounds, kind, &finding);
            (finding, sentence)
        });
        Membership {
            included,
            finding: finding.filter(|(finding, _)| finding.included == included),
        }
    }
}
