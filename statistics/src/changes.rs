//! What differs between two snapshots of one question: who came in, who went out, and for one patient why.
//!
//! Who it is follows from the lists of the snapshots alone. Why is found by going from the older to the newer in three steps,
//! of which each can turn membership over: first the data, then the definition, then asOf.

use std::collections::BTreeMap;
use string_enum::string_enum;

use super::cohort::Segment;
use super::explain::{self, MembershipFinding, PatientEvaluation};
use super::{BucketRef, CohortKind, Definition, Question, Snapshot, VisitRow};

/// Who came into a cohort, or went out of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Side {
    Entered,
    Left,
}

/// The patients that two snapshots do not have alike, by bucket, cohort and side.
#[derive(Debug, PartialEq, Eq)]
pub struct Differences {
    buckets: Vec<BucketDifferences>,
    total: BucketDifferences,
}

/// Of each cohort who entered and who left, by id.
type BucketDifferences = [[Vec<i64>; 2]; CohortKind::ALL.len()];

impl Differences {
    /// What differs between two snapshots that have the same buckets; none where they have not.
    #[must_use]
    pub fn between(before: &Snapshot, after: &Snapshot) -> Option<Self> {
        let bounds = |snapshot: &Snapshot, bucket| snapshot.bucket(bucket).map(|bucket| bucket.bounds);
        let buckets = || (0..).take(before.len()).map(BucketRef::At);
        let alike = before.len() == after.len()
            && buckets()
                .chain([BucketRef::Total])
                .all(|bucket| bounds(before, bucket) == bounds(after, bucket));
        alike.then(|| Self {
            buckets: buckets().map(|bucket| difference(before, after, bucket)).collect(),
            total: difference(before, after, BucketRef::Total),
        })
    }

    /// Who entered or left a cohort, by id.
    #[must_use]
    pub fn list(&self, bucket: BucketRef, kind: CohortKind, side: Side) -> &[i64] {
        let difference = match bucket {
            BucketRef::Total => Some(&self.total),
            BucketRef::At(place) => self.buckets.get(place as usize),
        };
        difference.map_or(&[], |difference| &difference[kind as usize][side as usize])
    }
}

fn difference(before: &Snapshot, after: &Snapshot, bucket: BucketRef) -> BucketDifferences {
    let mut difference = BucketDifferences::default();
    // A visitor is in one of four segments; a no-show, or who canceled, may be anything beside.
    for cohort in [CohortKind::Visitors, CohortKind::NoShow, CohortKind::Canceled] {
        let kinds: Vec<CohortKind> = CohortKind::ALL
            .iter()
            .filter(|kind| cohort.segments().contains(&kind.segments().start))
            .copied()
            .collect();
        let mut note = |patient, was: Option<Segment>, is: Option<Segment>| {
            for &kind in &kinds {
                let within = |segment: Option<Segment>| {
                    segment.is_some_and(|segment| kind.segments().contains(&(segment as usize)))
                };
                match (within(was), within(is)) {
                    (false, true) => difference[kind as usize][Side::Entered as usize].push(patient),
                    (true, false) => difference[kind as usize][Side::Left as usize].push(patient),
                    _ => {}
                }
            }
        };
        let (was, is) = (before.standings(bucket, cohort), after.standings(bucket, cohort));
        let (mut was, mut is) = (was.into_iter().peekable(), is.into_iter().peekable());
        loop {
            match (was.peek().copied(), is.peek().copied()) {
                (None, None) => break,
                (Some((patient, segment)), other) if other.is_none_or(|(next, _)| patient < next) => {
                    note(patient, Some(segment), None);
                    was.next();
                }
                (other, Some((patient, segment))) if other.is_none_or(|(next, _)| patient < next) => {
                    note(patient, None, Some(segment));
                    is.next();
                }
                (Some((patient, one)), Some((_, other))) => {
                    if one != other {
                        note(patient, Some(one), Some(other));
                    }
                    was.next();
                    is.next();
                }
                (Some(_), None) | (None, Some(_)) => break,
            }
        }
    }
    difference
}

string_enum!(
    /// Why a patient came into a cohort or went out of it.
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

/// One reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    pub kind: ReasonKind,
    /// In words: plain English with dates and numbers, without names.
    pub text: String,
    /// The ids of the visits that decided it.
    pub visits: Vec<i64>,
}

/// A visit at the two moments that are compared, whosever it was then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VisitDelta {
    pub id: i64,
    pub before: Option<VisitRow>,
    pub after: Option<VisitRow>,
    /// What moved it from one patient's record to another's between the two; none where that was a plain correction.
    pub moved_by: Option<Merge>,
}

/// What became of two records of one person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merge {
    Made,
    Undone,
}

impl VisitDelta {
    /// What the visit was to the patient before and after.
    fn of(&self, patient: i64) -> (Option<VisitRow>, Option<VisitRow>) {
        let own = |row: Option<VisitRow>| row.filter(|row| row.patient == patient);
        (own(self.before), own(self.after))
    }

    /// What happened to the visit, as the patient's.
    fn happened(&self, patient: i64) -> (ReasonKind, String) {
        match (self.before, self.after) {
            (None, _) => (ReasonKind::Recorded, "recorded later".to_owned()),
            (_, None) => (ReasonKind::Deleted, "deleted".to_owned()),
            (Some(old), Some(new)) if old.patient != new.patient => {
                let way = if new.patient == patient {
                    "moved here from"
                } else {
                    "moved to"
                };
                let (kind, how) = match self.moved_by {
                    Some(Merge::Made) => (ReasonKind::Merged, " when the two were merged"),
                    Some(Merge::Undone) => (ReasonKind::Merged, " when a merge of the two was undone"),
                    None => (ReasonKind::Corrected, ""),
                };
                (kind, format!("{way} another patient's record{how}"))
            }
            (Some(old), Some(new)) if old.status.attended() && !new.status.attended() => {
                (ReasonKind::Voided, format!("voided ({})", correction(&old, &new)))
            }
            (Some(old), Some(new)) => (ReasonKind::Corrected, format!("changed ({})", correction(&old, &new))),
        }
    }
}

/// Why a patient came into a cohort or went out of it. The traces are of all visits that were the patient's before or after.
///
/// Where they do not lead from the one snapshot to the other, what stood then is not known, and that is the one reason.
#[must_use]
pub fn reasons(
    (before, after): (&Snapshot, &Snapshot),
    (bucket, kind, side): (BucketRef, CohortKind, Side),
    patient: i64,
    traces: &[VisitDelta],
) -> Vec<Reason> {
    let Some(bounds) = after.bucket(bucket).map(|bucket| bucket.bounds) else {
        return vec![unknown()];
    };
    let week_start = after.week_start();
    let case = |question, definition, visits| PatientEvaluation::new(question, definition, week_start, visits);
    let (old, new) = (
        traces.iter().filter_map(|trace| trace.of(patient).0),
        traces.iter().filter_map(|trace| trace.of(patient).1),
    );
    let cases = [
        case(before.question(), before.definition(), old.collect()),
        case(before.question(), before.definition(), new.clone().collect()),
        case(before.question(), after.definition(), new.clone().collect()),
        case(after.question(), after.definition(), new.collect()),
    ];
    let findings = cases.each_ref().map(|case| case.finding(bounds, kind));
    if findings[0].included != (side == Side::Left) || findings[3].included != (side == Side::Entered) {
        return vec![unknown()];
    }
    let when = match bucket {
        BucketRef::Total => "in the whole range".to_owned(),
        BucketRef::At(_) => explain::when(after.question().period, bounds),
    };
    let mut reasons = Vec::new();
    for step in 1..cases.len() {
        let finding = &findings[step];
        if finding.included == findings[step - 1].included {
            continue;
        }
        let causes = match step {
            1 => {
                let turns = |visits| {
                    let case = PatientEvaluation::new(before.question(), before.definition(), week_start, visits);
                    case.finding(bounds, kind).included == finding.included
                };
                data_causes(patient, &deciding(patient, traces, turns))
            }
            2 => vec![definition_cause(before.definition(), after.definition(), kind, finding)],
            _ => vec![time_cause(before.question(), after.question(), finding)],
        };
        let now = if finding.included { "now" } else { "no longer" };
        let sentence = cases[step].sentence(bounds, kind, finding);
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
        text: "What the snapshots saw of this patient cannot be rebuilt any more, so why is not known.".to_owned(),
        visits: Vec::new(),
    }
}

/// The kind of a reason, what happened, and the visits.
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

/// With more changes of one patient's visits than this, it is not tried which of them can be left out.
const MAX_COUNTERFACTUALS: usize = 64;

/// The changed visits that decide: each of those whose change turns membership over by itself; where none does, as few as
/// turn it over together.
fn deciding(patient: i64, traces: &[VisitDelta], turns: impl Fn(Vec<VisitRow>) -> bool) -> Vec<&VisitDelta> {
    let changed: Vec<&VisitDelta> = traces
        .iter()
        .filter(|trace| trace.of(patient).0 != trace.of(patient).1)
        .collect();
    if changed.len() > MAX_COUNTERFACTUALS {
        return changed;
    }
    let turns_with = |changes: &[&VisitDelta]| {
        let visits = traces.iter().filter_map(|trace| {
            let (old, new) = trace.of(patient);
            let made = changes.iter().any(|change| change.id == trace.id);
            if made { new } else { old }
        });
        turns(visits.collect())
    };
    let alone: Vec<&VisitDelta> = changed.iter().filter(|trace| turns_with(&[trace])).copied().collect();
    if !alone.is_empty() {
        return alone;
    }
    let mut needed = changed.clone();
    for trace in changed {
        let fewer: Vec<&VisitDelta> = needed.iter().filter(|other| other.id != trace.id).copied().collect();
        if turns_with(&fewer) {
            needed = fewer;
        }
    }
    needed
}

/// What happened to these visits; those of which the same can be said together.
fn data_causes(patient: i64, traces: &[&VisitDelta]) -> Vec<Cause> {
    let mut alike: BTreeMap<(ReasonKind, String), Vec<VisitRow>> = BTreeMap::new();
    for trace in traces {
        let (old, new) = trace.of(patient);
        // A visit is called by the date that it had.
        alike.entry(trace.happened(patient)).or_default().extend(old.or(new));
    }
    let cause = |((kind, what), mut visits): ((ReasonKind, String), Vec<VisitRow>)| {
        visits.sort_unstable_by_key(VisitRow::history_key);
        let text = explain::subject(&visits, &format!("was {what}"), &format!("were {what}"));
        (kind, text, ids(&visits))
    };
    alike.into_iter().map(cause).collect()
}

/// In what two states of a visit differ.
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
