//! Why a patient is in a snapshot's lists, or is not.

use std::sync::Arc;

use super::Kept;
use crate::error::Result;
use crate::statistics::{BucketRef, Case, CohortKind, Finding, VisitRow};
use crate::store::Past;

/// A snapshot, and one patient's visits as it saw them.
pub struct Explained {
    pub kept: Arc<Kept>,
    pub patient: i64,
    /// None where they cannot be told any more.
    visits: Option<Vec<VisitRow>>,
}

/// Whether a patient is in a cohort, as the snapshot has it, and why.
pub struct Membership {
    pub included: bool,
    /// With its words; none where what the snapshot saw cannot be told any more.
    pub finding: Option<(Finding, String)>,
}

impl Explained {
    /// By what is known of the patient's past since the snapshot.
    ///
    /// # Errors
    /// Where the snapshot's revision cannot be read.
    pub fn new(kept: Arc<Kept>, patient: i64, past: Option<&Past>) -> Result<Self> {
        let at = kept.at()?;
        let known = past.filter(|_| kept.knows_visits());
        let visits = known.map(|past| {
            let visits = past.visits.iter().filter_map(|visit| visit.at(at, kept.newest_visit));
            visits.filter(|visit| visit.patient == patient).collect()
        });
        Ok(Self { kept, patient, visits })
    }

    /// The patient's visits as the snapshot's question sees them.
    #[must_use]
    pub fn case(&self) -> Option<Case<'_>> {
        let snapshot = &self.kept.snapshot;
        let case = |visits| {
            Case::new(
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
    pub fn membership(&self, case: Option<&Case<'_>>, bucket: BucketRef, kind: CohortKind) -> Membership {
        let included = self.kept.snapshot.contains(bucket, kind, self.patient);
        let bounds = self.kept.snapshot.bucket(bucket).map(|bucket| bucket.bounds);
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
