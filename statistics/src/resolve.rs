//! From a ledger and a question to a snapshot: one pass over the days of each bucket.

use std::hint::select_unpredictable;
use std::sync::Arc;

use super::bits::Bits;
use super::calendar::Bucket;
use super::cohort::Segment;
use super::ledger::{Chunk, DayChunk, Entry, FilterMask, Ledger};
use super::snapshot::{Assembler, ClassifiedVisit, PARALLEL_MIN_VISITS, PatientIndex, Snapshot, side_by_side};
use super::{Day, DayRange, Definition, Question, VisitStatus, WeekStart};

/// What a visit of some status counts as.
#[derive(Clone, Copy)]
struct StatusRule {
    counts: bool,
    /// By [`place_of`] the patient: a look-up is faster than branches that nothing foretells.
    segments: [Segment; 8],
}

/// The place of a patient's segment in a [`Rule`].
#[inline]
fn place_of(came_again: bool, silent: bool, returning: bool) -> usize {
    usize::from(came_again) | usize::from(silent) << 1 | usize::from(returning) << 2
}

impl StatusRule {
    const NOT: Self = Self {
        counts: false,
        segments: [Segment::Canceled; 8],
    };
    const ATTENDED: Self = {
        let mut segments = [Segment::Returning; 8];
        segments[0b000] = Segment::Pending;
        segments[0b001] = Segment::Retained;
        segments[0b010] = Segment::ChurnSuspected;
        segments[0b011] = Segment::ChurnSuspected;
        Self { counts: true, segments }
    };

    /// That of a status which does not look at the patient.
    const fn always(segment: Segment) -> Self {
        Self {
            counts: true,
            segments: [segment; 8],
        }
    }

    /// The rules of a day, by the place of the status.
    fn all_on(day: Day, as_of: Day, definition: &Definition) -> [Self; VisitStatus::ALL.len()] {
        let overdue = definition.overdue_after_days.is_some_and(|n| as_of.0 - day.0 >= n);
        let mut rules = [Self::NOT; VisitStatus::ALL.len()];
        for &status in VisitStatus::ALL {
            rules[status as usize] = match status {
                VisitStatus::Completed | VisitStatus::Ended => Self::ATTENDED,
                VisitStatus::NoShow => Self::always(Segment::NoShow),
                VisitStatus::Booked if overdue => Self::always(Segment::NoShow),
                VisitStatus::Canceled => Self::always(Segment::Canceled),
                _ => Self::NOT,
            };
        }
        rules
    }
}

/// The last day of those who are silent for so long that they are suspected of having left.
fn silent_since(as_of: Day, definition: &Definition) -> i32 {
    as_of.0 - definition.churn_after_days
}

/// The segment of a NEW patient with this history, at asOf.
pub(crate) fn segment_of_new(first: i32, last: i32, as_of: Day, definition: &Definition) -> Segment {
    let silent = last <= silent_since(as_of, definition);
    StatusRule::ATTENDED.segments[place_of(last > first, silent, false)]
}

/// Resolves the question: every bucket and the total, with their lists.
#[must_use]
pub fn resolve(ledger: &Arc<Ledger>, question: &Question, definition: Definition, week_start: WeekStart) -> Snapshot {
    let total = Bucket::new(question.range, question.range, question.as_of);
    let buckets = Bucket::all(question.period, question.range, week_start, question.as_of);
    let all_days = total.covered.map_or(&[][..], |days| ledger.days(days.from, days.to));
    let pass = BucketScan::new(ledger, question, &definition, total.covered, all_days);
    // Of each bucket its days: buckets follow each other without a gap, so that one walk over the days finds them all.
    let mut rest = all_days;
    let buckets: Vec<(Bucket, &[DayChunk])> = buckets
        .into_iter()
        .map(|bucket| {
            let last = bucket.covered.map_or(Day(i32::MIN), |covered| covered.to);
            let length = rest.iter().take_while(|&&(day, _)| day <= last).count();
            let (days, later) = rest.split_at(length);
            rest = later;
            (bucket, days)
        })
        .collect();
    let visits_of = |days: &[DayChunk]| days.iter().map(|(_, chunk)| chunk.len()).sum::<usize>();
    let visits = visits_of(all_days);
    let assemble = |buckets: &[(Bucket, &[DayChunk])], visits| {
        let mut assembler = Assembler::new(buckets.len(), visits);
        for (bucket, days) in buckets {
            if let Some(covered) = bucket.covered {
                for (day, chunk) in *days {
                    pass.day(*day, chunk, covered, &mut assembler);
                }
            }
            assembler.end_bucket(*bucket);
        }
        assembler
    };
    let mut before = 0;
    let half = buckets.iter().take_while(|(_, days)| {
        before += visits_of(days);
        visits >= PARALLEL_MIN_VISITS && before <= visits / 2
    });
    let (first, second) = buckets.split_at(half.count());
    let assembler = if first.is_empty() {
        assemble(second, visits)
    } else {
        // All will be gathered where the first are.
        let (mut assembler, later) = side_by_side(|| assemble(first, visits), || assemble(second, visits));
        assembler.append(later);
        assembler
    };
    assembler.finish(
        question.clone(),
        definition,
        week_start,
        total,
        PatientIndex::of_ledger(ledger),
    )
}

/// Whether anybody was treated after the day.
fn attended_after(ledger: &Ledger, day: Day) -> bool {
    ledger
        .days(Day(day.0.saturating_add(1)), Day(i32::MAX))
        .iter()
        .any(|(_, chunk)| chunk.entries().any(|visit| visit.attended()))
}

/// What a pass needs to know beside the visit that it looks at.
struct BucketScan<'a> {
    question: &'a Question,
    definition: &'a Definition,
    mask: Option<FilterMask>,
    /// Where there is a filter: the patients whose first visit passes it.
    first_passes: Bits,
    /// Where somebody was treated after asOf: the day of the last attended visit up to asOf, by patient, counted from 1 on the
    /// first day covered. It is known of those who are [`Self::treated_again`]; of others the ledger knows it, or it does
    /// not matter.
    last_up_to: Vec<i32>,
}

impl<'a> BucketScan<'a> {
    /// `days` are those of the ledger that are covered.
    fn new(
        ledger: &Ledger,
        question: &'a Question,
        definition: &'a Definition,
        covered: Option<DayRange>,
        days: &[DayChunk],
    ) -> Self {
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
            for (_, chunk) in days {
                for visit in chunk.entries() {
                    if visit.is_first() && mask.passes(&visit) {
                        pass.first_passes.insert(visit.patient);
                    }
                }
            }
        }
        if attended_after(ledger, question.as_of) {
            // Zeros are memory that is not touched yet. The last place is nobody's: visits that do not matter are written
            // there, which is faster than a branch.
            let mut last_up_to = vec![0; patients + 1];
            for (day, chunk) in ledger.days(covered.from, question.as_of) {
                for visit in chunk.entries() {
                    let matters = visit.attended() & pass.treated_again(&visit);
                    let place = select_unpredictable(matters, visit.patient as usize, patients);
                    last_up_to[place] = day.0 - covered.from.0 + 1;
                }
            }
            pass.last_up_to = last_up_to;
        }
        pass
    }

    /// Whether the patient's first visit lies in the range or later, and the last one after asOf.
    #[inline]
    fn treated_again(&self, visit: &Entry) -> bool {
        (visit.first >= self.question.range.from.0) & (visit.last > self.question.as_of.0)
    }

    /// The visit's patient's last attended visit up to asOf, where that matters.
    #[inline]
    fn last_up_to(&self, visit: &Entry) -> i32 {
        let Some(nobody) = self.last_up_to.len().checked_sub(1) else {
            return visit.last;
        };
        let again = self.treated_again(visit);
        let place = select_unpredictable(again, visit.patient as usize, nobody);
        let since = self.last_up_to[place];
        select_unpredictable(again, self.question.range.from.0 - 1 + since, visit.last)
    }

    fn day(&self, day: Day, chunk: &Chunk, covered: DayRange, assembler: &mut Assembler) {
        let (as_of, range) = (self.question.as_of, self.question.range);
        let rules = StatusRule::all_on(day, as_of, self.definition);
        let silent_since = silent_since(as_of, self.definition);
        let visits = chunk.entries().map(|visit| {
            let mut passes = true;
            let mut returning = visit.first < range.from.0;
            if let Some(mask) = &self.mask {
                passes = mask.passes(&visit);
                returning |= !self.first_passes.contains(visit.patient);
            }
            let last = self.last_up_to(&visit);
            let rule = &rules[usize::from(visit.status())];
            let place = place_of(last > visit.first, last <= silent_since, returning);
            let place_in_bucket = place | place_of(false, false, visit.first < covered.from.0);
            let counted = ClassifiedVisit {
                id: visit.id,
                patient: visit.patient,
                day,
                status: visit.status(),
                in_bucket: rule.segments[place_in_bucket],
                in_total: rule.segments[place],
            };
            (rule.counts & passes, counted)
        });
        assembler.visits(day, chunk.len(), visits);
    }
}
