//! What differs between two snapshots of one question, and why.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use tracing::instrument;

use super::{Desk, Kept, SnapshotId, bucket_number, off_thread};
use crate::error::{Error, Result};
use crate::statistics::{BucketRef, CohortKind, Differences, Reason, Side, Trace, VisitRow, reasons, sha256};
use crate::store::{Past, PastVisit, Span};

/// Two snapshots of one question, and what differs between them.
pub struct Compared {
    pub before: Arc<Kept>,
    pub after: Arc<Kept>,
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

impl Desk {
    /// Compares a snapshot with an older one of the same question. They may differ in their data, definition and asOf.
    ///
    /// # Errors
    /// BAD_USER_INPUT, naming the argument `since`, where the questions are others, or `before` is the newer one.
    #[instrument(name = "desk.compare", level = "debug", skip_all)]
    pub async fn compare(&self, before: Arc<Kept>, after: Arc<Kept>) -> Result<Arc<Compared>> {
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
        if before.at()?.number > after.at()?.number {
            return refused("this snapshot is the newer one: ask it for its changes since the other".to_owned());
        }
        off_thread("comparing snapshots", move || {
            let Some(differences) = Differences::between(&before.snapshot, &after.snapshot) else {
                return refused(
                    "the weeks of this snapshot start on another day, so its buckets are others".to_owned(),
                );
            };
            Ok(Arc::new(Compared {
                before,
                after,
                differences,
            }))
        })
        .await?
    }
}

impl Compared {
    /// The revisions that were counted.
    ///
    /// # Errors
    /// Where one of them cannot be read.
    pub fn span(&self) -> Result<Span> {
        Ok(Span {
            from: self.before.at()?,
            to: self.after.at()?,
        })
    }

    /// Tells a list of these snapshots from every other: cursors carry it.
    #[must_use]
    pub fn digest(&self, bucket: BucketRef, kind: CohortKind, side: Side) -> [u8; 8] {
        digest(self.before.id, self.after.id, bucket, kind, side)
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
        past: Option<&Past>,
    ) -> Result<Vec<CitedReason>> {
        let span = self.span()?;
        let known = past.filter(|_| self.before.knows_visits() && self.after.knows_visits());
        let visits = known.map_or(&[][..], |past| &past.visits);
        let traces: Vec<Trace> = visits.iter().map(|visit| self.trace(visit, span, patient)).collect();
        let reasons = reasons((&self.before.snapshot, &self.after.snapshot), list, patient, &traces);
        let cited = |reason: Reason| {
            let cited = visits.iter().filter(|visit| reason.visits.contains(&visit.id));
            let visits = cited.map(|visit| self.cite(visit, span)).collect();
            CitedReason { reason, visits }
        };
        Ok(reasons.into_iter().map(cited).collect())
    }

    fn trace(&self, visit: &PastVisit, span: Span, patient: i64) -> Trace {
        let (before, after) = self.states(visit, span);
        // The move that brought it to the patient, or took it from the patient.
        let here = after.is_some_and(|row| row.patient == patient);
        let moved = visit.changes_in(span).rfind(|change| {
            change
                .moves()
                .is_some_and(|(from, to)| if here { to == patient } else { from == patient })
        });
        Trace {
            id: visit.id,
            before,
            after,
            moved_by: moved.and_then(|change| change.moved_by),
        }
    }

    fn states(&self, visit: &PastVisit, span: Span) -> (Option<VisitRow>, Option<VisitRow>) {
        let at = |revision, kept: &Kept| visit.at(revision, kept.newest_visit);
        (at(span.from, &self.before), at(span.to, &self.after))
    }

    fn cite(&self, visit: &PastVisit, span: Span) -> CitedVisit {
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
fn digest(before: SnapshotId, after: SnapshotId, bucket: BucketRef, kind: CohortKind, side: Side) -> [u8; 8] {
    let side = match side {
        Side::Entered => "entered",
        Side::Left => "left",
    };
    let identity = format!("{before} {after} {} {} {side}", bucket_number(bucket), kind.word());
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
        .map(|(bucket, kind, side)| u64::from_be_bytes(digest(before, after, bucket, kind, side)));
        assert_eq!(digests, [0x75c5_c521_4b9c_b94a, 0xf066_8b96_a98f_19d0]);
    }
}
