//! Computes a snapshot from a ledger and a question, in one pass over the days of each bucket.

use std::hint::select_unpredictable;
use std::sync::Arc;

use super::bit_set::BitSet;
use super::calendar::Bucket;
use super::cohort::Segment;
use super::ledger::{Chunk, DayChunk, Entry, FilterMask, Ledger};
use super::snapshot::{Assembler, ClassifiedVisit, PARALLEL_MIN_VISITS, PatientIndex, Snapshot, join};
use super::{Day, DayRange, Definition, Question, VisitStatus, WeekStart};

/// Whether visits of a status count on a day, and in which segment.
#[derive(Clone, Copy)]
struct StatusRule {
    counts: bool,
    /// By [`segment_index`]: a table look-up is faster than branches that the processor cannot predict.
    segments: [Segment; 8],
}

/// The index of a patient's segment in [`StatusRule::segments`].
#[inline]
fn segment_index(came_again: bool, silent: bool, returning: bool) -> usize {
    usize::from(came_again) | usize::from(silent) << 1 | usize::from(returning) << 2
}

impl StatusRule {
    const NOT_COUNTED: Self = Self {
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

    /// The rule of a status whose segment does not depend on the patient.
    const fn fixed(segment: Segment) -> Self {
        Self {
            counts: true,
            segments: [segment; 8],
        }
    }

    /// The rules of a day, by the status's discriminant.
    fn for_day(day: Day, as_of: Day, definition: &Definition) -> [Self; VisitStatus::ALL.len()] {
        let overdue = definition.overdue_after_days.is_some_and(|n| as_of.0 - day.0 >= n);
        let mut rules = [Self::NOT_COUNTED; VisitStatus::ALL.len()];
        for &status in VisitStatus::ALL {
            rules[status as usize] = match status {
                status if status.attended() => Self::ATTENDED,
                VisitStatus::NoShow => Self::fixed(Segment::NoShow),
                VisitStatus::Booked if overdue => Self::fixed(Segment::NoShow),
                VisitStatus::Canceled => Self::fixed(Segment::Canceled),
                _ => Self::NOT_COUNTED,
            };
        }
        rules
    }
}

/// A patient whose last visit is on or before this day is suspected of churn.
fn churn_cutoff(as_of: Day, definition: &Definition) -> i32 {
    as_of.0 - definition.churn_after_days
}

/// The segment at asOf of a NEW patient whose first and last attended visits are on these days.
pub(crate) fn segment_of_new(first: i32, last: i32, as_of: Day, definition: &Definition) -> Segment {
    let silent = last <= churn_cutoff(as_of, definition);
    StatusRule::ATTENDED.segments[segment_index(last > first, silent, false)]
}

/// Computes the lists of every bucket and of the total.
#[must_use]
pub fn resolve(ledger: &Arc<Ledger>, question: &Question, definition: Definition, week_start: WeekStart) -> Snapshot {
    let total = Bucket::new(question.range, question.range, question.as_of);
    let buckets = Bucket::all(question.period, question.range, week_start, question.as_of);
    let all_days = total.covered.map_or(&[][..], |days| ledger.days(days.from, days.to));
    let scan = BucketScan::new(ledger, question, &definition, total.covered, all_days);
    // Buckets are adjacent, so one iteration over the days assigns each to its bucket.
    let mut remaining = all_days;
    let buckets: Vec<(Bucket, &[DayChunk])> = buckets
        .into_iter()
        .map(|bucket| {
            let last = bucket.covered.map_or(Day(i32::MIN), |covered| covered.to);
            let length = remaining.iter().take_while(|&&(day, _)| day <= last).count();
            let (days, later) = remaining.split_at(length);
            remaining = later;
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
                    scan.day(*day, chunk, covered, &mut assembler);
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
        let (mut assembler, later) = join(|| assemble(first, visits), || assemble(second, visits));
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

/// Whether there is an attended visit after the day.
fn attended_after(ledger: &Ledger, day: Day) -> bool {
    ledger
        .days(Day(day.0.saturating_add(1)), Day(i32::MAX))
        .iter()
        .any(|(_, chunk)| chunk.entries().any(|visit| visit.attended()))
}

/// What the classification of a visit depends on besides the visit.
struct BucketScan<'a> {
    question: &'a Question,
    definition: &'a Definition,
    mask: Option<FilterMask>,
    /// With a filter: the patients whose first visit passes it, and is in the covered days.
    first_passes: BitSet,
    /// If there are attended visits after asOf: the day of the last attended visit up to asOf by patient, where 1 is the
    /// first covered day. Only set for patients for whom [`Self::last_is_after_as_of`] holds; for others the ledger's last visit
    /// is used. The extra element at the end belongs to no patient.
    last_up_to: Vec<i32>,
}

impl<'a> BucketScan<'a> {
    /// `days` are the ledger's days in `covered`.
    fn new(
        ledger: &Ledger,
        question: &'a Question,
        definition: &'a Definition,
        covered: Option<DayRange>,
        days: &[DayChunk],
    ) -> Self {
        let mut scan = Self {
            question,
            definition,
            mask: ledger.mask(&question.filter),
            first_passes: BitSet::default(),
            last_up_to: Vec::new(),
        };
        let Some(covered) = covered else { return scan };
        let patients = ledger.patients().ids().len();
        if let Some(mask) = &scan.mask {
            scan.first_passes = BitSet::new(patients);
            for (_, chunk) in days {
                for visit in chunk.entries() {
                    if visit.is_first() && mask.passes(&visit) {
                        scan.first_passes.insert(visit.patient);
                    }
                }
            }
        }
        if attended_after(ledger, question.as_of) {
            // Zeroed memory is not paged in before it is written. Visits that are not needed are written to the extra element,
            // which is faster than a branch.
            let mut last_up_to = vec![0; patients + 1];
            for (day, chunk) in ledger.days(covered.from, question.as_of) {
                for visit in chunk.entries() {
                    let needed = visit.attended() & scan.last_is_after_as_of(&visit);
                    let index = select_unpredictable(needed, visit.patient as usize, patients);
                    last_up_to[index] = day.0 - covered.from.0 + 1;
                }
            }
            scan.last_up_to = last_up_to;
        }
        scan
    }

    /// Whether the patient's first visit is not before the range, and the last one is after asOf.
    #[inline]
    fn last_is_after_as_of(&self, visit: &Entry) -> bool {
        (visit.first >= self.question.range.from.0) & (visit.last > self.question.as_of.0)
    }

    /// The day of the patient's last attended visit up to asOf. It is only correct for patients who can be NEW: for others
    /// it does not matter.
    #[inline]
    fn last_up_to(&self, visit: &Entry) -> i32 {
        let Some(unused) = self.last_up_to.len().checked_sub(1) else {
            return visit.last;
        };
        let replace = self.last_is_after_as_of(visit);
        let index = select_unpredictable(replace, visit.patient as usize, unused);
        let offset = self.last_up_to[index];
        select_unpredictable(replace, self.question.range.from.0 - 1 + offset, visit.last)
    }

    /// Classifies the visits of a day of a bucket that covers `covered`.
    fn day(&self, day: Day, chunk: &Chunk, covered: DayRange, assembler: &mut Assembler) {
        let (as_of, range) = (self.question.as_of, self.question.range);
        let rules = StatusRule::for_day(day, as_of, self.definition);
        let churn_cutoff = churn_cutoff(as_of, self.definition);
        let visits = chunk.entries().map(|visit| {
            let mut passes = true;
            let mut returning = visit.first < range.from.0;
            if let Some(mask) = &self.mask {
                passes = mask.passes(&visit);
                returning |= !self.first_passes.contains(visit.patient);
            }
            let last = self.last_up_to(&visit);
            let rule = &rules[usize::from(visit.status())];
            let total_index = segment_index(last > visit.first, last <= churn_cutoff, returning);
            let bucket_index = total_index | segment_index(false, false, visit.first < covered.from.0);
            let classified = ClassifiedVisit {
                id: visit.id,
                patient: visit.patient,
                day,
                status: visit.status(),
                in_bucket: rule.segments[bucket_index],
                in_total: rule.segments[total_index],
            };
            (rule.counts & passes, classified)
        });
        assembler.visits(day, chunk.len(), visits);
    }
}
