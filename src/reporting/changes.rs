//! What differs between two snapshots of one question, and why.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use tracing::instrument;

use super::{Reporting, ResolvedStatistics, SnapshotId, bucket_index, spawn_cpu};
use crate::error::{Error, Result};
use crate::statistics::{BucketRef, CohortKind, Differences, Reason, Side, VisitDelta, VisitRow, reasons, sha256};
use crate::store::{RevisionRange, VersionedVisit, VisitVersions};

/// Two snapshots of one question, and what differs between them.
pub struct StatisticsComparison {
    pub before: Arc<ResolvedStatistics>,
    pub after: Arc<ResolvedStatistics>,
    pub differences: Differences,
}

/// A reason, with the visits that it cites.
pub struct CitedReason {
    pub reason: Reason,
    pub visits: Vec<CitedVisit>,
}

/// A visit at the two moments that are compared.
#[derive(Clone, Debug)]
pub struct CitedVisit {
    pub id: i64,
    pub before: Option<VisitRow>,
    pub after: Option<VisitRow>,
    /// When it was last changed between the two, and why, where that is known.
    pub changed_at: Option<DateTime<Utc>>,
    pub why: Option<String>,
}

impl Reporting {
    /// Compares a snapshot with an older one of the same question. They may differ in their data, definition and asOf.
    ///
    /// # Errors
    /// BAD_USER_INPUT, naming the argument `since`, where the questions are others, or `before` is the newer one.
    #[instrument(name = "reporting.compare", level = "debug", skip_all)]
    pub async fn compare(
        &self,
        before: Arc<ResolvedStatistics>,
        after: Arc<ResolvedStatistics>,
    ) -> Result<Arc<StatisticsComparison>> {
        let refused = |message: String| Err(Error::input("since", message));
        let (old, new) = (before.snapshot.question(), after.snapshot.question());
        let other = [
            ("period", old.period != new.period),
            ("range", old.range != new.range),
            ("filter", old.filter != new.filter),
        ];
        let other: Vec<&str> = other
            .iter()
            .filter(|(_, differs)| *differs)
            .map(|(what, _)| *what)
            .collect();
        if !other.is_empty() {
            return refused(format!(
                "a snapshot of the same question is wanted; this one has another {}",
                other.join(" and ")
            ));
        }
        if before.parsed_revision()?.number > after.parsed_revision()?.number {
            return refused("this snapshot is the newer one: ask it for its changes since the other".to_owned());
        }
        spawn_cpu("comparing snapshots", move || {
            let Some(differences) = Differences::between(&before.snapshot, &after.snapshot) else {
                return refused(
                    "the weeks of this snapshot start on another day, so its buckets are others".to_owned(),
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
    /// The revisions that were counted.
    ///
    /// # Errors
    /// Where one of them cannot be read.
    pub fn revision_range(&self) -> Result<RevisionRange> {
        Ok(RevisionRange {
            from: self.before.parsed_revision()?,
            to: self.after.parsed_revision()?,
        })
    }

    /// Tells a list of these snapshots from every other: cursors carry it.
    #[must_use]
    pub fn digest(&self, bucket: BucketRef, kind: CohortKind, side: Side) -> [u8; 8] {
        list_digest(self.before.id, self.after.id, bucket, kind, side)
    }

    /// Why a patient entered or left a cohort, by what is known of the patient's past. Where that is nothing, or does not
    /// lead from the one snapshot to the other, the one reason says so.
    ///
    /// # Errors
    /// Where a revision cannot be read.
    pub fn reasons(
        &self,
        list: (BucketRef, CohortKind, Side),
        patient: i64,
        past: Option<&VisitVersions>,
    ) -> Result<Vec<CitedReason>> {
        let span = self.revision_range()?;
        let known = past.filter(|_| self.before.knows_newest_visit() && self.after.knows_newest_visit());
        let visits = known.map_or(&[][..], |past| &past.visits);
        let traces: Vec<VisitDelta> = visits
            .iter()
            .map(|visit| self.visit_delta(visit, span, patient))
            .collect();
        let reasons = reasons((&self.before.snapshot, &self.after.snapshot), list, patient, &traces);
        let cited = |reason: Reason| {
            let cited = visits.iter().filter(|visit| reason.visits.contains(&visit.id));
            let visits = cited.map(|visit| self.cite(visit, span)).collect();
            CitedReason { reason, visits }
        };
        Ok(reasons.into_iter().map(cited).collect())
    }

    fn visit_delta(&self, visit: &VersionedVisit, span: RevisionRange, patient: i64) -> VisitDelta {
        let (before, after) = self.states(visit, span);
        // The move that brought it to the patient, or took it from the patient.
        let here = after.is_some_and(|row| row.patient == patient);
        let moved = visit.changes_in(span).rfind(|change| {
            change
                .moved_between()
                .is_some_and(|(from, to)| if here { to == patient } else { from == patient })
        });
        VisitDelta {
            id: visit.id,
            before,
            after,
            moved_by: moved.and_then(|change| change.moved_by),
        }
    }

    fn states(&self, visit: &VersionedVisit, span: RevisionRange) -> (Option<VisitRow>, Option<VisitRow>) {
        let at = |revision, resolved: &ResolvedStatistics| visit.at(revision, resolved.newest_visit);
        (at(span.from, &self.before), at(span.to, &self.after))
    }

    fn cite(&self, visit: &VersionedVisit, span: RevisionRange) -> CitedVisit {
        let (before, after) = self.states(visit, span);
        // What was recorded later may have been changed since; that is not what put it here.
        let changed = before.is_some() && before != after;
        let changes = || visit.changes_in(span).filter(|_| changed);
        CitedVisit {
            id: visit.id,
            before,
            after,
            changed_at: changes().next_back().map(|change| change.changed_at),
            why: changes().filter_map(|change| change.reason.clone()).next_back(),
        }
    }
}

/// Cursors outlive this program, and so does the encoding.
fn list_digest(before: SnapshotId, after: SnapshotId, bucket: BucketRef, kind: CohortKind, side: Side) -> [u8; 8] {
    let side = match side {
        Side::Entered => "entered",
        Side::Left => "left",
    };
    let identity = format!("{before} {after} {} {} {side}", bucket_index(bucket), kind.as_str());
    let digest = sha256(identity.as_bytes());
    std::array::from_fn(|i| digest[i])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_as_it_was() {
        let (before, after) = (SnapshotId([7; 16]), SnapshotId([8; 16]));
        let digests = [
            (BucketRef::Total, CohortKind::New, Side::Entered),
            (BucketRef::At(2), CohortKind::NoShow, Side::Left),
        ]
        .map(|(bucket, kind, side)| u64::from_be_bytes(list_digest(before, after, bucket, kind, side)));
        assert_eq!(digests, [0x75c5_c521_4b9c_b94a, 0xf066_8b96_a98f_19d0]);
    }
}
