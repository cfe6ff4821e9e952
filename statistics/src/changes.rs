//! Compares two snapshots of one question: which patients entered or left each cohort, and why.
//!
//! Which patients did follows from the lists of the snapshots. Why is found for one patient at a time, by changing first the
//! data, then the definition, then asOf from the older snapshot's to the newer one's: each step that changes whether the
//! patient is in the cohort is a reason.

use std::collections::BTreeMap;
use string_enum::string_enum;

use super::cohort::Segment;
use super::explain::{self, MembershipFinding, PatientEvaluation};
use super::{BucketRef, CohortKind, Definition, Question, Snapshot, VisitRow};

/// The direction of a change between the older and the newer snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Side {
    /// In the cohort in the newer snapshot only.
    Entered,
    /// In the cohort in the older snapshot only.
    Left,
}

/// The patients who entered or left each cohort of each bucket.
#[derive(Debug, PartialEq, Eq)]
pub struct Differences {
    buckets: Vec<BucketDifferences>,
    total: BucketDifferences,
}

/// The ids of patients by cohort and side, ascending.
type BucketDifferences = [[Vec<i64>; 2]; CohortKind::ALL.len()];

impl Differences {
    /// The differences between two snapshots, or `None` if their buckets differ.
    #[must_use]
    pub fn between(before: &Snapshot, after: &Snapshot) -> Option<Self> {
        let bounds = |snapshot: &Snapshot, bucket| snapshot.bucket(bucket).map(|bucket| bucket.bounds);
        let buckets = || (0..).take(before.len()).map(BucketRef::At);
        let same_buckets = before.len() == after.len()
            && buckets()
                .chain([BucketRef::Total])
                .all(|bucket| bounds(before, bucket) == bounds(after, bucket));
        same_buckets.then(|| Self {
            buckets: buckets().map(|bucket| difference(before, after, bucket)).collect(),
            total: difference(before, after, BucketRef::Total),
        })
    }

    /// The ids of the patients who entered or left a cohort, ascending; empty if there is no such bucket.
    #[must_use]
    pub fn list(&self, bucket: BucketRef, kind: CohortKind, side: Side) -> &[i64] {
        let difference = match bucket {
            BucketRef::Total => Some(&self.total),
            BucketRef::At(index) => self.buckets.get(index as usize),
        };
        difference.map_or(&[], |difference| &difference[kind as usize][side as usize])
    }
}

fn difference(before: &Snapshot, after: &Snapshot, bucket: BucketRef) -> BucketDifferences {
    let mut difference = BucketDifferences::default();
    // Within each of these cohorts a patient is in one segment; between them there is no relation.
    for cohort in [CohortKind::Visitors, CohortKind::NoShow, CohortKind::Canceled] {
        let kinds: Vec<CohortKind> = CohortKind::ALL
            .iter()
            .filter(|kind| cohort.segments().contains(&kind.segments().start))
            .copied()
            .collect();
        let mut record = |patient, old: Option<Segment>, new: Option<Segment>| {
            for &kind in &kinds {
                let contains = |segment: Option<Segment>| {
                    segment.is_some_and(|segment| kind.segments().contains(&(segment as usize)))
                };
                match (contains(old), contains(new)) {
                    (false, true) => difference[kind as usize][Side::Entered as usize].push(patient),
                    (true, false) => difference[kind as usize][Side::Left as usize].push(patient),
                    _ => {}
                }
            }
        };
        let mut old = before.patient_segments(bucket, cohort).into_iter().peekable();
        let mut new = after.patient_segments(bucket, cohort).into_iter().peekable();
        loop {
            match (old.peek().copied(), new.peek().copied()) {
                (None, None) => break,
                (Some((patient, segment)), other) if other.is_none_or(|(next, _)| patient < next) => {
                    record(patient, Some(segment), None);
                    old.next();
                }
                (other, Some((patient, segment))) if other.is_none_or(|(next, _)| patient < next) => {
                    record(patient, None, Some(segment));
                    new.next();
                }
                (Some((patient, old_segment)), Some((_, new_segment))) => {
                    if old_segment != new_segment {
                        record(patient, Some(old_segment), Some(new_segment));
                    }
                    old.next();
                    new.next();
                }
                (Some(_), None) | (None, Some(_)) => break,
            }
        }
    }
    difference
}

string_enum!(
    /// Why a patient entered or left a cohort.
    ReasonKind {
        Recorded = "RECORDED",
        Corrected = "CORRECTED",
        Voided = "VOIDED",
        Deleted = "DELETED",
        Merged = "MERGED",
        DefinitionChanged = "DEFINITION_CHANGED",
        TimePassed = "TIME_PASSED",
        Unknown = "UNKNOWN",
    }
);

/// A reason why a patient entered or left a cohort.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    pub kind: ReasonKind,
    /// The reason in English, with dates and numbers, without names.
    pub text: String,
    /// The ids of the visits that the reason refers to.
    pub visits: Vec<i64>,
}

/// The state of a visit in the older and the newer data, of whichever patient it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VisitDelta {
    pub id: i64,
    /// `None` if the visit was not recorded yet.
    pub before: Option<VisitRow>,
    /// `None` if the visit was deleted.
    pub after: Option<VisitRow>,
    /// If a merge moved the visit between two patients, what happened to the merge; `None` if it was moved by a correction.
    pub moved_by: Option<Merge>,
}

/// What happened to a merge of two patients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merge {
    Made,
    Undone,
}

impl VisitDelta {
    /// The states of the visit in which it was the patient's.
    fn states_of(&self, patient: i64) -> (Option<VisitRow>, Option<VisitRow>) {
        let own = |row: Option<VisitRow>| row.filter(|row| row.patient == patient);
        (own(self.before), own(self.after))
    }

    /// What happened to the visit, as a kind and a past participle, from the patient's view.
    fn event(&self, patient: i64) -> (ReasonKind, String) {
        match (self.before, self.after) {
            (None, _) => (ReasonKind::Recorded, "recorded later".to_owned()),
            (_, None) => (ReasonKind::Deleted, "deleted".to_owned()),
            (Some(old), Some(new)) if old.patient != new.patient => {
                let direction = if new.patient == patient {
                    "moved here from"
                } else {
                    "moved to"
                };
                let (kind, cause) = match self.moved_by {
                    Some(Merge::Made) => (ReasonKind::Merged, " when the two were merged"),
                    Some(Merge::Undone) => (ReasonKind::Merged, " when a merge of the two was undone"),
                    None => (ReasonKind::Corrected, ""),
                };
                (kind, format!("{direction} another patient's record{cause}"))
            }
            (Some(old), Some(new)) if old.status.attended() && !new.status.attended() => {
                (ReasonKind::Voided, format!("voided ({})", correction(&old, &new)))
            }
            (Some(old), Some(new)) => (ReasonKind::Corrected, format!("changed ({})", correction(&old, &new))),
        }
    }
}

/// Why a patient entered or left a cohort of a bucket. `deltas` are all visits that were the patient's before or after.
///
/// If the deltas do not reproduce whether the patient is in the cohort in both snapshots, the only reason is
/// [`ReasonKind::Unknown`].
#[must_use]
pub fn reasons(
    (before, after): (&Snapshot, &Snapshot),
    (bucket, kind, side): (BucketRef, CohortKind, Side),
    patient: i64,
    deltas: &[VisitDelta],
) -> Vec<Reason> {
    let Some(bounds) = after.bucket(bucket).map(|bucket| bucket.bounds) else {
        return vec![unknown()];
    };
    let week_start = after.week_start();
    let evaluation = |question, definition, visits| PatientEvaluation::new(question, definition, week_start, visits);
    let (old, new) = (
        deltas.iter().filter_map(|delta| delta.states_of(patient).0),
        deltas.iter().filter_map(|delta| delta.states_of(patient).1),
    );
    // Each changes one thing of the one before: the data, the definition, asOf.
    let evaluations = [
        evaluation(before.question(), before.definition(), old.collect()),
        evaluation(before.question(), before.definition(), new.clone().collect()),
        evaluation(before.question(), after.definition(), new.clone().collect()),
        evaluation(after.question(), after.definition(), new.collect()),
    ];
    let findings = evaluations
        .each_ref()
        .map(|evaluation| evaluation.finding(bounds, kind));
    if findings[0].included != (side == Side::Left) || findings[3].included != (side == Side::Entered) {
        return vec![unknown()];
    }
    let when = match bucket {
        BucketRef::Total => "in the whole range".to_owned(),
        BucketRef::At(_) => explain::when(after.question().period, bounds),
    };
    let mut reasons = Vec::new();
    for step in 1..evaluations.len() {
        let finding = &findings[step];
        if finding.included == findings[step - 1].included {
            continue;
        }
        let causes = match step {
            1 => {
                let flips = |visits| {
                    let evaluation = evaluation(before.question(), before.definition(), visits);
                    evaluation.finding(bounds, kind).included == finding.included
                };
                data_causes(patient, &decisive(patient, deltas, flips))
            }
            2 => vec![definition_cause(before.definition(), after.definition(), kind, finding)],
            _ => vec![time_cause(before.question(), after.question(), finding)],
        };
        let now = if finding.included { "now" } else { "no longer" };
        let sentence = evaluations[step].sentence(bounds, kind, finding);
        reasons.extend(causes.into_iter().map(|(reason, cause, visits)| Reason {
            kind: reason,
            text: format!("{cause}: {now} {} {when}. {sentence}", kind.as_str()),
            visits,
        }));
    }
    reasons
}

fn unknown() -> Reason {
    Reason {
        kind: ReasonKind::Unknown,
        text:
            "The data that the snapshots were computed from cannot be reconstructed for this patient, so the reason is \
               unknown."
                .to_owned(),
        visits: Vec::new(),
    }
}

/// The kind of a reason, a clause that says what happened, and the ids of the visits.
type Cause = (ReasonKind, String, Vec<i64>);

fn definition_cause(before: &Definition, after: &Definition, kind: CohortKind, finding: &MembershipFinding) -> Cause {
    let days = |days: Option<i32>| days.map_or("none".to_owned(), |days| days.to_string());
    let (rule, old, new) = match kind {
        CohortKind::NoShow => ("overdueAfterDays", before.overdue_after_days, after.overdue_after_days),
        _ => (
            "churnAfterDays",
            Some(before.churn_after_days),
            Some(after.churn_after_days),
        ),
    };
    let text = format!("{rule} is {} instead of {}", days(new), days(old));
    (ReasonKind::DefinitionChanged, text, ids(&finding.visits))
}

fn time_cause(before: &Question, after: &Question, finding: &MembershipFinding) -> Cause {
    let text = format!("asOf is {} instead of {}", after.as_of, before.as_of);
    (ReasonKind::TimePassed, text, ids(&finding.visits))
}

fn ids(visits: &[VisitRow]) -> Vec<i64> {
    visits.iter().map(|visit| visit.id).collect()
}

/// With more changed visits of a patient than this, all are reported, since searching for the decisive ones is quadratic.
const MAX_COUNTERFACTUALS: usize = 64;

/// The changed visits that decide membership: each whose change flips it alone; if there is none, a minimal set whose changes
/// flip it together. `flips` evaluates the patient with these visits.
fn decisive(patient: i64, deltas: &[VisitDelta], flips: impl Fn(Vec<VisitRow>) -> bool) -> Vec<&VisitDelta> {
    let changed: Vec<&VisitDelta> = deltas
        .iter()
        .filter(|delta| {
            let (old, new) = delta.states_of(patient);
            old != new
        })
        .collect();
    if changed.len() > MAX_COUNTERFACTUALS {
        return changed;
    }
    let flips_with = |changes: &[&VisitDelta]| {
        let visits = deltas.iter().filter_map(|delta| {
            let (old, new) = delta.states_of(patient);
            let applied = changes.iter().any(|change| change.id == delta.id);
            if applied { new } else { old }
        });
        flips(visits.collect())
    };
    let alone: Vec<&VisitDelta> = changed.iter().filter(|delta| flips_with(&[delta])).copied().collect();
    if !alone.is_empty() {
        return alone;
    }
    let mut needed = changed.clone();
    for delta in changed {
        let fewer: Vec<&VisitDelta> = needed.iter().filter(|other| other.id != delta.id).copied().collect();
        if flips_with(&fewer) {
            needed = fewer;
        }
    }
    needed
}

/// What happened to these visits, one cause for all visits with the same event.
fn data_causes(patient: i64, deltas: &[&VisitDelta]) -> Vec<Cause> {
    let mut by_event: BTreeMap<(ReasonKind, String), Vec<VisitRow>> = BTreeMap::new();
    for delta in deltas {
        let (old, new) = delta.states_of(patient);
        // The text names a visit by its old date.
        by_event.entry(delta.event(patient)).or_default().extend(old.or(new));
    }
    let cause = |((kind, event), mut visits): ((ReasonKind, String), Vec<VisitRow>)| {
        visits.sort_unstable_by_key(VisitRow::history_key);
        let text = explain::subject(&visits, &format!("was {event}"), &format!("were {event}"));
        (kind, text, ids(&visits))
    };
    by_event.into_iter().map(cause).collect()
}

/// The differences between two states of a visit, for example "status ENDED instead of BOOKED, another doctor".
fn correction(old: &VisitRow, new: &VisitRow) -> String {
    let changed = |what: &str, new: String, old: String| (new != old).then(|| format!("{what} {new} instead of {old}"));
    let other = |what: &str, differs: bool| differs.then(|| format!("another {what}"));
    let parts = [
        changed("status", new.status.as_str().to_owned(), old.status.as_str().to_owned()),
        changed("date", new.date.to_string(), old.date.to_string()),
        changed(
            "channel",
            new.channel.as_str().to_owned(),
            old.channel.as_str().to_owned(),
        ),
        other("time", new.scheduled_at != old.scheduled_at),
        other("department", new.department != old.department),
        other("doctor", new.doctor != old.doctor),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}
