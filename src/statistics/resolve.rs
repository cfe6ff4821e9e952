//! From a ledger and a question to a snapshot: one pass over the days of each bucket.

use std::sync::Arc;

use super::bits::Bits;
use super::calendar::Bucket;
use super::cohort::Segment;
use super::ledger::{Chunk, Ledger, Mask, NEVER_LAST};
use super::snapshot::{Assembler, Counted, Patients, Snapshot};
use super::{Day, DayRange, Definition, Question, VisitStatus, WeekStart};

/// What a visit counts as, before its patient is looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Counts {
    Not,
    Attended,
    NoShow,
    Canceled,
}

/// Which visits count as what on one day, by the place of their status.
pub(crate) fn counts_on(day: Day, as_of: Day, definition: &Definition) -> [Counts; VisitStatus::ALL.len()] {
    let mut counts = [Counts::Not; VisitStatus::ALL.len()];
    for &status in VisitStatus::ALL {
        counts[status as usize] = match status {
            VisitStatus::Completed | VisitStatus::Ended => Counts::Attended,
            VisitStatus::NoShow => Counts::NoShow,
            VisitStatus::Canceled => Counts::Canceled,
            VisitStatus::Booked if definition.overdue_after_days.is_some_and(|n| as_of.0 - day.0 >= n) => {
                Counts::NoShow
            }
            _ => Counts::Not,
        };
    }
    counts
}

/// The segment of a NEW patient with this history, at asOf.
#[inline]
pub(crate) fn segment_of_new(first: i32, last: i32, as_of: Day, definition: &Definition) -> Segment {
    if as_of.0 - last >= definition.churn_after_days {
        Segment::ChurnSuspected
    } else if last > first {
        Segment::Retained
    } else {
        Segment::Pending
    }
}

/// Resolves the question: every bucket and the total, with their lists.
#[must_use]
pub fn resolve(ledger: &Arc<Ledger>, question: &Question, definition: Definition, week_start: WeekStart) -> Snapshot {
    let total = Bucket::new(question.range, question.range, question.as_of);
    let buckets = Bucket::all(question.period, question.range, week_start, question.as_of);
    let pass = Pass::new(ledger, question, &definition, total.covered);
    let visits = total.covered.map_or(0, |days| {
        ledger.days(days.from, days.to).map(|(_, chunk)| chunk.len()).sum()
    });
    let mut assembler = Assembler::new(buckets.len(), visits, ledger.patients().ids().len());
    for bucket in &buckets {
        if let Some(covered) = bucket.covered {
            for (day, chunk) in ledger.days(covered.from, covered.to) {
                pass.day(day, chunk, covered, &mut assembler);
            }
        }
        assembler.end_bucket(*bucket);
    }
    assembler.finish(
        question.clone(),
        definition,
        week_start,
        total,
        Patients::of_ledger(ledger),
    )
}

/// What a pass needs to know beside the visit that it looks at.
struct Pass<'a> {
    question: &'a Question,
    definition: &'a Definition,
    mask: Option<Mask>,
    /// Where there is a filter: the patients whose first visit passes it.
    first_passes: Bits,
    /// Where the ledger holds days after asOf: the last attended visit up to asOf, by patient. It is known of those
    /// whose first visit lies in the range, and asked of no others.
    last_up_to: Vec<i32>,
}

impl<'a> Pass<'a> {
    fn new(ledger: &Ledger, question: &'a Question, definition: &'a Definition, covered: Option<DayRange>) -> Self {
        let mut pass = Self {
            question,
            definition,
            mask: ledger.mask(&question.filter),
            first_passes: Bits::default(),
            last_up_to: Vec::new(),
        };
        let Some(covered) = covered else { return pass };
        let patients = ledger.patients().ids().len();
        if let Some(mask) = &pass.mask {
            pass.first_passes = Bits::new(patients);
            for (_, chunk) in ledger.days(covered.from, covered.to) {
                for i in 0..chunk.len() {
                    if chunk.is_first(i) && mask.passes(chunk, i) {
                        pass.first_passes.insert(chunk.patient[i]);
                    }
                }
            }
        }
        if ledger.last_day().is_some_and(|day| day > question.as_of) {
            pass.last_up_to = vec![NEVER_LAST; patients];
            for (day, chunk) in ledger.days(covered.from, question.as_of) {
                for i in 0..chunk.len() {
                    let attended = VisitStatus::ALL[usize::from(chunk.status(i))].attended();
                    if attended && chunk.first[i] >= covered.from.0 {
                        pass.last_up_to[chunk.patient[i] as usize] = day.0;
                    }
                }
            }
        }
        pass
    }

    fn day(&self, day: Day, chunk: &Chunk, covered: DayRange, assembler: &mut Assembler) {
        let counts = counts_on(day, self.question.as_of, self.definition);
        for i in 0..chunk.len() {
            let status = chunk.status(i);
            let counted = counts[usize::from(status)];
            if counted == Counts::Not || self.mask.as_ref().is_some_and(|mask| !mask.passes(chunk, i)) {
                continue;
            }
            let (in_bucket, in_total) = match counted {
                Counts::NoShow => (Segment::NoShow, Segment::NoShow),
                Counts::Canceled => (Segment::Canceled, Segment::Canceled),
                Counts::Attended | Counts::Not => self.attended(chunk, i, covered),
            };
            assembler.visit(Counted {
                id: chunk.id[i],
                patient: chunk.patient[i],
                day,
                status,
                in_bucket,
                in_total,
            });
        }
    }

    /// The segments of an attended visit, in its bucket and in the total.
    #[inline]
    fn attended(&self, chunk: &Chunk, i: usize, covered: DayRange) -> (Segment, Segment) {
        let first = chunk.first[i];
        let patient = chunk.patient[i];
        if first < self.question.range.from.0 || (self.mask.is_some() && !self.first_passes.contains(patient)) {
            return (Segment::Returning, Segment::Returning);
        }
        let last = match chunk.last[i] {
            last if last <= self.question.as_of.0 => last,
            _ => self.last_up_to[patient as usize],
        };
        let new = segment_of_new(first, last, self.question.as_of, self.definition);
        (
            if first >= covered.from.0 {
                new
            } else {
                Segment::Returning
            },
            new,
        )
    }
}
