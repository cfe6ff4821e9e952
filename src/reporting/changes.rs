//! The differences between two snapshots of the same period and filter, and the reasons for them.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use tracing::instrument;

use super::identity::cursor_digest;
use super::{Reporting, ResolvedStatistics, SnapshotId, bucket_index, spawn_cpu};
use crate::error::{Error, Result};
use crate::statistics::{BucketRef, CohortKind, Differences, Reason, Side, VisitDelta, VisitRow, reasons};
use crate::store::{RevisionRange, VersionedVisit, VisitVersions};

/// Two snapshots of the same period and filter, and the differences between them.
pub struct StatisticsComparison {
    pub before: Arc<ResolvedStatistics>,
    pub after: Arc<ResolvedStatistics>,
    pub differences: Differences,
}

/// A reason, with the visits that it refers to.
pub struct CitedReason {
    pub reason: Reason,
    pub visits: Vec<CitedVisit>,
}

/// A visit at the revisions of the two snapshots.
#[derive(Clone, Debug)]
pub struct CitedVisit {
    pub id: i64,
    /// None where it did not exist.
    pub before: Option<VisitRow>,
    /// None where it did not exist.
    pub after: Option<VisitRow>,
    /// When it was last changed between the two; none where it was not.
    pub changed_at: Option<DateTime<Utc>>,
    /// The last reason that was given for a change between the two.
    pub why: Option<String>,
}

impl Reporting {
    /// Compares a snapshot with an older one of the same period and filter. They may differ in their data, definition and asOf, and in
    /// their ranges if these overlap.
    ///
    /// # Errors
    /// BAD_USER_INPUT for the argument `since` where the questions differ in more, or `before` is the newer one.
    #[instrument(name = "reporting.compare", level = "debug", skip_all)]
    pub async fn compare(
        &self,
        before: Arc<ResolvedStatistics>,
        after: Arc<ResolvedStatistics>,
    ) -> Result<Arc<StatisticsComparison>> {
        let refused = |message: String| Err(Error::input("since", message));
        let (old, new) = (before.snapshot.question(), after.snapshot.question());
        let differences = [
            ("period", old.period != new.period),
            ("filter", old.filter != new.filter),
        ];
        let different: Vec<&str> = differences
            .iter()
            .filter(|(_, differs)| *differs)
            .map(|(field, _)| *field)
            .collect();
        if !different.is_empty() {
            return refused(format!(
                "must be a snapshot of the same question, save for the range; this one has a different {}",
                different.join(" and ")
            ));
        }
        if old.range.intersection(new.range).is_none() {
            return refused(format!(
                "must be a snapshot whose range overlaps with this one; it has {} to {}",
                old.range.from, old.range.to
            ));
        }
        if before.parsed_revision()?.number > after.parsed_revision()?.number {
            return refused("this snapshot is the newer one: request its changes since the other".to_owned());
        }
        spawn_cpu("comparing snapshots", move || {
            let Some(differences) = Differences::between(&before.snapshot, &after.snapshot) else {
                return refused(
                    "the weeks of this snapshot start on a different day, so its buckets are different".to_owned(),
                );
            };
            Ok(Arc::new(StatisticsComparison {
                before,
                after,
                differences,
            }))
        })
        .await?
    }
}

impl StatisticsComparison {
    /// The revisions of the two snapshots.
    ///
    /// # Errors
    /// Where one of them is malformed in the database.
    pub fn revision_range(&self) -> Result<RevisionRange> {
        Ok(RevisionRange {
            from: self.before.parsed_revision()?,
            to: self.after.parsed_revision()?,
        })
    }

    /// Identifies a list of differences; cursors contain it.
    #[must_use]
    pub fn digest(&self, bucket: BucketRef, kind: CohortKind, side: Side) -> [u8; 8] {
        list_digest(self.before.id, self.after.id, bucket, kind, side)
    }

    /// Why a patient entered or left a cohort, by the versions of the patient's visits. Where these are unknown, or do not explain
    /// the difference, there is one reason, which says so.
    ///
    /// # Errors
    /// Where a revision is malformed in the database.
    pub fn reasons(
        &self,
        list: (BucketRef, CohortKind, Side),
        patient: i64,
        versions: Option<&VisitVersions>,
    ) -> Result<Vec<CitedReason>> {
        let range = self.revision_range()?;
        let known = versions.filter(|_| self.before.knows_newest_visit() && self.after.knows_newest_visit());
        let visits = known.map_or(&[][..], |versions| &versions.visits);
        let deltas: Vec<VisitDelta> = visits
            .iter()
            .map(|visit| self.visit_delta(visit, range, patient))
            .collect();
        let reasons = reasons((&self.before.snapshot, &self.after.snapshot), list, patient, &deltas);
        let cited = |reason: Reason| {
            let cited = visits.iter().filter(|visit| reason.visits.contains(&visit.id));
            let visits = cited.map(|visit| self.cite(visit, range)).collect();
            CitedReason { reason, visits }
        };
        Ok(reasons.into_iter().map(cited).collect())
    }

    fn visit_delta(&self, visit: &VersionedVisit, range: RevisionRange, patient: i64) -> VisitDelta {
        let (before, after) = self.states(visit, range);
        // The last move to the patient, or from the patient.
        let arrived = after.is_some_and(|row| row.patient == patient);
        let moved = visit.changes_in(range).rfind(|change| {
            change
                .moved_between()
                .is_some_and(|(from, to)| if arrived { to == patient } else { from == patient })
        });
        VisitDelta {
            id: visit.id,
            before,
            after,
            moved_by: moved.and_then(|change| change.moved_by),
        }
    }

    fn states(&self, visit: &VersionedVisit, range: RevisionRange) -> (Option<VisitRow>, Option<VisitRow>) {
        let at = |revision, resolved: &ResolvedStatistics| visit.at(revision, resolved.newest_visit);
        (at(range.from, &self.before), at(range.to, &self.after))
    }

    fn cite(&self, visit: &VersionedVisit, range: RevisionRange) -> CitedVisit {
        let (before, after) = self.states(visit, range);
        // A visit recorded after the first snapshot may have been changed since, but that is not why it is here.
        let changed = before.is_some() && before != after;
        let changes = || visit.changes_in(range).filter(|_| changed);
        CitedVisit {
            id: visit.id,
            before,
            after,
            changed_at: changes().next_back().map(|change| change.changed_at),
            why: changes().filter_map(|change| change.reason.clone()).next_back(),
        }
    }
}

/// Clients keep cursors, so the encoding must not change.
fn list_digest(before: SnapshotId, after: SnapshotId, bucket: BucketRef, kind: CohortKind, side: Side) -> [u8; 8] {
    let side = match side {
        Side::Entered => "entered",
        Side::Left => "left",
    };
    let identity = format!("{before} {after} {} {} {side}", bucket_index(bucket), kind.as_str());
    cursor_digest(identity.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_stay_the_same() {
        let (before, after) = (SnapshotId([7; 16]), SnapshotId([8; 16]));
        let digests = [
            (BucketRef::Total, CohortKind::New, Side::Entered),
            (BucketRef::At(2), CohortKind::NoShow, Side::Left),
        ]
        .map(|(bucket, kind, side)| u64::from_be_bytes(list_digest(before, after, bucket, kind, side)));
        assert_eq!(digests, [0x75c5_c521_4b9c_b94a, 0xf066_8b96_a98f_19d0]);
    }
}
