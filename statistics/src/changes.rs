//! Compares two snapshots of one question: which patients entered or left each cohort, and why.
//!
//! Which patients did follows from the lists of the snapshots. Why is found for one patient at a time, by changing first the
//! data, then the definition, then asOf, then the range from the older snapshot's to the newer one's: each step that changes
//! whether the patient is in the cohort is a reason.
//!
//! The ranges may differ. Units of which both ranges have the same days are compared; the total always is.

use std::collections::BTreeMap;
use std::ops::Range;
use string_enum::string_enum;

use super::cohort::Segment;
use super::explain::{self, MembershipFinding, PatientEvaluation};
use super::{BucketRef, CohortKind, Definition, Period, Question, Snapshot, VisitRow};

/// The direction of a change between the older and the newer snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Side {
    /// In the cohort in the newer snapshot only.
    Entered,
    /// In the cohort in the older snapshot only.
    Left,
}

/// The patients who entered or left each cohort of each bucket that both snapshots have. A bucket is identified by its place in
/// the newer snapshot.
#[derive(Debug, PartialEq, Eq)]
pub struct Differences {
    /// The buckets of the older snapshot that are compared.
    before: Range<u32>,
    /// The same units in the newer snapshot, as many.
    after: Range<u32>,
    /// The numbers of buckets of the two snapshots.
    lengths: (u32, u32),
    /// Of the buckets that are compared.
    buckets: Vec<BucketDifferences>,
    total: BucketDifferences,
}

/// The ids of patients by cohort and side, ascending.
type BucketDifferences = [[Vec<i64>; 2]; CohortKind::ALL.len()];

impl Differences {
    /// The differences between two snapshots of the same period and filter, or `None` if their units differ.
    #[must_use]
    pub fn between(before: &Snapshot, after: &Snapshot) -> Option<Self> {
        let period = after.question().period;
        if period == Period::Week && before.week_start() != after.week_start() {
            return None;
        }
        // The days of a unit that a range has. The buckets of a range have no gaps, so the units that are equal in both follow one
        // another.
        let part = |snapshot: &Snapshot, index| {
            let bounds = snapshot.bucket(BucketRef::At(index)).map(|bucket| bucket.bounds)?;
            bounds.intersection(snapshot.question().range)
        };
        let length = |snapshot: &Snapshot| u32::try_from(snapshot.len()).unwrap_or(u32::MAX);
        let place = |index| {
            let days = part(after, index)?;
            let place = match before.bucket_of(days.from)? {
                BucketRef::At(place) => place,
                BucketRef::Total => return None,
            };
            (part(before, place) == Some(days)).then_some((place, index))
        };
        let common: Vec<(u32, u32)> = (0..length(after)).filter_map(place).collect();
        let range = |ends: Option<(u32, u32)>| ends.map_or(0..0, |(first, last)| first..last + 1);
        let ends = common.first().zip(common.last());
        Some(Self {
            before: range(ends.map(|(first, last)| (first.0, last.0))),
            after: range(ends.map(|(first, last)| (first.1, last.1))),
            lengths: (length(before), length(after)),
            buckets: common
                .iter()
                .map(|&(old, new)| difference(before, after, (BucketRef::At(old), BucketRef::At(new))))
                .collect(),
            total: difference(before, after, (BucketRef::Total, BucketRef::Total)),
        })
    }

    /// The buckets of the newer snapshot that are compared, in order, without the total.
    pub fn compared(&self) -> impl Iterator<Item = BucketRef> + use<> {
        self.after.clone().map(BucketRef::At)
    }

    /// The bucket of the older snapshot that is compared with one of the newer; `None` if the latter is not compared.
    #[must_use]
    pub fn before(&self, after: BucketRef) -> Option<BucketRef> {
        match after {
            BucketRef::Total => Some(BucketRef::Total),
            BucketRef::At(index) if self.after.contains(&index) => {
                Some(BucketRef::At(self.before.start + (index - self.after.start)))
            }
            BucketRef::At(_) => None,
        }
    }

    /// The buckets of the older snapshot that are not compared, in order.
    pub fn only_before(&self) -> impl Iterator<Item = BucketRef> + use<> {
        rest(self.lengths.0, self.before.clone())
    }

    /// The buckets of the newer snapshot that are not compared, in order.
    pub fn only_after(&self) -> impl Iterator<Item = BucketRef> + use<> {
        rest(self.lengths.1, self.after.clone())
    }

    /// The ids of the patients who entered or left a cohort, ascending; empty if the bucket is not compared.
    #[must_use]
    pub fn list(&self, bucket: BucketRef, kind: CohortKind, side: Side) -> &[i64] {
        let difference = match bucket {
            BucketRef::Total => Some(&self.total),
            BucketRef::At(index) => {
                let place = index.checked_sub(self.after.start);
                place.and_then(|place| self.buckets.get(place as usize))
            }
        };
        difference.map_or(&[], |difference| &difference[kind as usize][side as usize])
    }
}

/// The buckets of so many that are not in the range.
fn rest(length: u32, without: Range<u32>) -> impl Iterator<Item = BucketRef> {
    (0..length)
        .filter(move |index| !without.contains(index))
        .map(BucketRef::At)
}

fn difference(before: &Snapshot, after: &Snapshot, (old, new): (BucketRef, BucketRef)) -> BucketDifferences {
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
        let mut olds = before.patient_segments(old, cohort).into_iter().peekable();
        let mut news = after.patient_segments(new, cohort).into_iter().peekable();
        loop {
            match (olds.peek().copied(), news.peek().copied()) {
                (None, None) => break,
                (Some((patient, segment)), other) if other.is_none_or(|(next, _)| patient < next) => {
                    record(patient, Some(segment), None);
                    olds.next();
                }
                (other, Some((patient, segment))) if other.is_none_or(|(next, _)| patient < next) => {
                    record(patient, None, Some(segment));
                    news.next();
                }
                (Some((patient, old_segment)), Some((_, new_segment))) => {
                    if old_segment != new_segment {
                        record(patient, Some(old_segment), Some(new_segment));
                    }
                    olds.next();
                    news.next();
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
        RangeMoved = "RANGE_MOVED",
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

/// Why a patient entered or left a cohort of a bucket that is compared. `deltas` are all visits that were the patient's before or
/// after.
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
    let Some(bounds_after) = after.bucket(bucket).map(|bucket| bucket.bounds) else {
        return vec![unknown()];
    };
    let bounds_before = match bucket {
        BucketRef::Total => before.question().range,
        BucketRef::At(_) => bounds_after,
    };
    let later = Question {
        as_of: after.question().as_of,
        ..before.question().clone()
    };
    let week_start = after.week_start();
    let evaluation = |question, definition, visits| PatientEvaluation::new(question, definition, week_start, visits);
    let (old, new) = (
        deltas.iter().filter_map(|delta| delta.states_of(patient).0),
        deltas.iter().filter_map(|delta| delta.states_of(patient).1),
    );
    // Each changes one thing of the one before: the data, the definition, asOf, the range.
    let evaluations = [
        evaluation(before.question(), before.definition(), old.collect()),
        evaluation(before.question(), before.definition(), new.clone().collect()),
        evaluation(before.question(), after.definition(), new.clone().collect()),
        evaluation(&later, after.definition(), new.clone().collect()),
        evaluation(after.question(), after.definition(), new.collect()),
    ];
    let bounds = [bounds_before, bounds_before, bounds_before, bounds_before, bounds_after];
    let findings: [MembershipFinding; 5] = std::array::from_fn(|step| evaluations[step].finding(bounds[step], kind));
    if findings[0].included != (side == Side::Left) || findings[4].included != (side == Side::Entered) {
        return vec![unknown()];
    }
    let when = match bucket {
        BucketRef::Total => "in the whole range".to_owned(),
        BucketRef::At(_) => explain::when(after.question().period, bounds_after),
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
                    evaluation.finding(bounds_before, kind).included == finding.included
                };
                data_causes(patient, &decisive(patient, deltas, flips))
            }
            2 => vec![definition_cause(before.definition(), after.definition(), kind, finding)],
            3 => vec![time_cause(before.question(), after.question(), finding)],
            _ => vec![range_cause(before.question(), after.question(), finding)],
        };
        let now = if finding.included { "now" } else { "no longer" };
        let sentence = evaluations[step].sentence(bounds[step], kind, finding);
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

fn range_cause(before: &Question, after: &Question, finding: &MembershipFinding) -> Cause {
    let days = |question: &Question| format!("{} to {}", question.range.from, question.range.to);
    let text = format!("the range is {} instead of {}", days(after), days(before));
    (ReasonKind::RangeMoved, text, ids(&finding.visits))
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
