//! A resolved question: its lists, and the counts that are their lengths.

use std::cmp::Ordering;
use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::bits::Bits;
use super::cohort::Segment;
use super::ledger::{Entry, IdIndex, Ledger, NEVER_FIRST, NEVER_LAST};
use super::{Bucket, CohortKind, Day, Definition, Question, VisitStatus, WeekStart};

/// Which bucket of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BucketRef {
    /// The whole range as one bucket.
    Total,
    /// The bucket at this place, from 0.
    At(u32),
}

/// The first and the last attended visit that the snapshot saw of a patient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct History {
    pub(crate) first: i32,
    pub(crate) last: i32,
}

impl History {
    pub(crate) const NONE: Self = Self {
        first: NEVER_FIRST,
        last: NEVER_LAST,
    };
}

/// The numbering of patients that a snapshot's lists are written in.
pub(crate) enum PatientIndex {
    /// The ledger's. The ledger itself is held only until the histories were read from it.
    Ledger(Mutex<Option<Arc<Ledger>>>, Arc<IdIndex>),
    /// The snapshot's own: ids in order, and their histories.
    Own(Vec<i64>, Vec<History>),
}

impl PatientIndex {
    pub(crate) fn of_ledger(ledger: &Arc<Ledger>) -> Self {
        Self::Ledger(Mutex::new(Some(Arc::clone(ledger))), Arc::clone(ledger.patients()))
    }

    fn ids(&self) -> &[i64] {
        match self {
            Self::Ledger(_, keys) => keys.ids(),
            Self::Own(ids, _) => ids,
        }
    }
}

/// A visit that counts, and what it counts as.
#[derive(Clone, Copy)]
pub(crate) struct ClassifiedVisit {
    pub(crate) id: i64,
    pub(crate) patient: u32,
    pub(crate) day: Day,
    pub(crate) status: u8,
    pub(crate) in_bucket: Segment,
    pub(crate) in_total: Segment,
}

/// The visits that count, in columns, in the order of their days and then ids.
#[derive(Default)]
pub(crate) struct Visits {
    pub(crate) id: Vec<i64>,
    pub(crate) patient: Vec<u32>,
    pub(crate) status: Vec<u8>,
    /// The days, each with the place where its visits end.
    days: Vec<(Day, u32)>,
}

impl Visits {
    /// Takes as many as there are beyond the days so far for this one's.
    fn end_day(&mut self, day: Day) {
        let end = number(self.id.len());
        match self.days.last_mut() {
            Some(last) if last.0 == day => last.1 = end,
            Some(last) if last.1 == end => {}
            None if end == 0 => {}
            _ => self.days.push((day, end)),
        }
    }

    /// Takes those of later days.
    fn append(&mut self, later: Self) {
        let start = number(self.id.len());
        self.id.extend(later.id);
        self.patient.extend(later.patient);
        self.status.extend(later.status);
        self.days
            .extend(later.days.into_iter().map(|(day, end)| (day, start + end)));
    }

    fn day(&self, place: usize) -> Option<Day> {
        let at = self.days.partition_point(|&(_, end)| end as usize <= place);
        self.days.get(at).map(|&(day, _)| day)
    }

    /// The days of the visits at these places, which hold whole days.
    pub(crate) fn by_day(&self, places: Range<usize>) -> impl Iterator<Item = (Day, Range<usize>)> {
        let from = self.days.partition_point(|&(_, end)| end as usize <= places.start);
        let mut start = places.start;
        self.days[from..]
            .iter()
            .take_while(move |&&(_, end)| end as usize <= places.end)
            .map(move |&(day, end)| (day, std::mem::replace(&mut start, end as usize)..end as usize))
    }

    /// Gives room back where a filter left most of it empty.
    fn shrink(&mut self) {
        if self.id.len() < self.id.capacity() / 2 {
            self.id.shrink_to_fit();
            self.patient.shrink_to_fit();
            self.status.shrink_to_fit();
        }
    }
}

/// The lists of one bucket, segment after segment.
#[derive(Default)]
pub(crate) struct BucketLists {
    /// Places in [`Visits`].
    pub(crate) visits: Box<[u32]>,
    visit_ends: [u32; Segment::COUNT],
    /// Numbers of patients.
    patients: Box<[u32]>,
    patient_ends: [u32; Segment::COUNT],
}

impl BucketLists {
    pub(crate) fn visits(&self, kind: CohortKind) -> &[u32] {
        cut(&self.visits, &self.visit_ends, kind.segments())
    }

    pub(crate) fn patients(&self, kind: CohortKind) -> &[u32] {
        cut(&self.patients, &self.patient_ends, kind.segments())
    }
}

fn cut<'a>(list: &'a [u32], ends: &[u32; Segment::COUNT], segments: Range<usize>) -> &'a [u32] {
    let start = if segments.start == 0 {
        0
    } else {
        ends[segments.start - 1]
    };
    &list[start as usize..ends[segments.end - 1] as usize]
}

/// Makes the lists of buckets, one bucket after another.
struct ListBuilder {
    /// Who is in a list already: visitors are in one of four, the others may be in any.
    seen: [Bits; 3],
    /// Room for the lists of patients while they grow.
    patients: Vec<u32>,
}

/// The cohorts whose lists of patients are kept free of repetitions.
const SEEN: [CohortKind; 3] = [CohortKind::Visitors, CohortKind::NoShow, CohortKind::Canceled];

impl ListBuilder {
    fn new(patients: usize) -> Self {
        Self {
            seen: std::array::from_fn(|_| Bits::new(patients)),
            patients: Vec::new(),
        }
    }

    const fn seen_by(segment: usize) -> usize {
        match segment {
            4 => 1,
            5 => 2,
            _ => 0,
        }
    }

    /// The lists of the visits from the place `first` on, whose patients and segments these are.
    ///
    /// Segments come mixed, so that a branch on them would be guessed wrong every other time. Each visit is written where
    /// the list of its segment has come to; so is its patient, and the next one over it where it is in the list already.
    fn lists(&mut self, first: u32, patients: &[u32], segments: &[Segment]) -> BucketLists {
        let starts = starts(segments);
        if self.patients.len() < segments.len() {
            self.patients.resize(segments.len(), 0);
        }
        let mut visits = vec![0; segments.len()].into_boxed_slice();
        let (mut visit_ends, mut listed) = (starts, starts);
        for ((&segment, &patient), place) in segments.iter().zip(patients).zip(first..) {
            let segment = segment as usize;
            visits[visit_ends[segment] as usize] = place;
            visit_ends[segment] += 1;
            self.patients[listed[segment] as usize] = patient;
            listed[segment] += u32::from(self.seen[Self::seen_by(segment)].insert(patient));
        }
        let lists = starts
            .into_iter()
            .zip(listed)
            .map(|(start, end)| start as usize..end as usize);
        let mut patients = Vec::with_capacity(lists.clone().map(|list| list.len()).sum());
        let mut patient_ends = [0; Segment::COUNT];
        for (list, end) in lists.zip(&mut patient_ends) {
            patients.extend_from_slice(&self.patients[list]);
            *end = number(patients.len());
        }
        for (seen, kind) in self.seen.iter_mut().zip(SEEN) {
            seen.clear(cut(&patients, &patient_ends, kind.segments()));
        }
        BucketLists {
            visits,
            visit_ends,
            patients: patients.into_boxed_slice(),
            patient_ends,
        }
    }
}

/// The segments, in their order.
const SEGMENTS: [Segment; Segment::COUNT] = [
    Segment::ChurnSuspected,
    Segment::Retained,
    Segment::Pending,
    Segment::Returning,
    Segment::NoShow,
    Segment::Canceled,
];

/// Where each segment starts once these are sorted.
fn starts(segments: &[Segment]) -> [u32; Segment::COUNT] {
    let mut start = 0;
    SEGMENTS.map(|kind| {
        let before = start;
        // In parts that a byte can count: this is what vector instructions are good at.
        for part in segments.chunks(u8::MAX.into()) {
            start += u32::from(part.iter().map(|&segment| u8::from(segment == kind)).sum::<u8>());
        }
        before
    })
}

/// A place among visits or patients. A ledger of more than `u32::MAX` of them does not fit into memory.
fn number(place: usize) -> u32 {
    u32::try_from(place).unwrap_or(u32::MAX)
}

/// Makes a snapshot of visits that come bucket by bucket, within a bucket by day and then id.
pub(crate) struct Assembler {
    visits: Visits,
    in_bucket: Vec<Segment>,
    in_total: Vec<Segment>,
    /// The buckets so far, each with the place where its visits end.
    buckets: Vec<(Bucket, usize)>,
    scratch: ScratchColumns,
}

/// Room for the visits of a day while it is looked at which of them count.
#[derive(Default)]
struct ScratchColumns {
    id: Vec<i64>,
    patient: Vec<u32>,
    status: Vec<u8>,
    in_bucket: Vec<Segment>,
    in_total: Vec<Segment>,
}

impl ScratchColumns {
    fn hold(&mut self, visits: usize) {
        if self.id.len() < visits {
            self.id.resize(visits, 0);
            self.patient.resize(visits, 0);
            self.status.resize(visits, 0);
            self.in_bucket.resize(visits, Segment::Canceled);
            self.in_total.resize(visits, Segment::Canceled);
        }
    }
}

impl Assembler {
    pub(crate) fn new(buckets: usize, visits: usize) -> Self {
        Self {
            visits: Visits {
                id: Vec::with_capacity(visits),
                patient: Vec::with_capacity(visits),
                status: Vec::with_capacity(visits),
                days: Vec::new(),
            },
            in_bucket: Vec::with_capacity(visits),
            in_total: Vec::with_capacity(visits),
            buckets: Vec::with_capacity(buckets),
            scratch: ScratchColumns::default(),
        }
    }

    /// Takes a visit.
    pub(crate) fn visit(&mut self, visit: ClassifiedVisit) {
        self.visits.id.push(visit.id);
        self.visits.patient.push(visit.patient);
        self.visits.status.push(visit.status);
        self.visits.end_day(visit.day);
        self.in_bucket.push(visit.in_bucket);
        self.in_total.push(visit.in_total);
    }

    /// Takes, of at most so many visits of a day, those that are said to count.
    #[inline]
    pub(crate) fn visits(&mut self, day: Day, most: usize, visits: impl Iterator<Item = (bool, ClassifiedVisit)>) {
        let Self {
            visits: all,
            scratch: room,
            ..
        } = self;
        room.hold(most);
        let (id, patient, status) = (
            &mut room.id[..most],
            &mut room.patient[..most],
            &mut room.status[..most],
        );
        let (in_bucket, in_total) = (&mut room.in_bucket[..most], &mut room.in_total[..most]);
        // Each is written, and the next one over it where it does not count: faster than a branch.
        let mut at = 0;
        for (counts, visit) in visits.take(most) {
            id[at] = visit.id;
            patient[at] = visit.patient;
            status[at] = visit.status;
            in_bucket[at] = visit.in_bucket;
            in_total[at] = visit.in_total;
            at += usize::from(counts);
        }
        all.id.extend_from_slice(&id[..at]);
        all.patient.extend_from_slice(&patient[..at]);
        all.status.extend_from_slice(&status[..at]);
        all.end_day(day);
        self.in_bucket.extend_from_slice(&in_bucket[..at]);
        self.in_total.extend_from_slice(&in_total[..at]);
    }

    pub(crate) fn end_bucket(&mut self, bucket: Bucket) {
        self.buckets.push((bucket, self.visits.id.len()));
    }

    /// Takes what another one took of later buckets.
    pub(crate) fn append(&mut self, later: Self) {
        let start = self.visits.id.len();
        self.visits.append(later.visits);
        self.in_bucket.extend(later.in_bucket);
        self.in_total.extend(later.in_total);
        let buckets = later.buckets.into_iter();
        self.buckets.extend(buckets.map(|(bucket, end)| (bucket, start + end)));
    }

    pub(crate) fn finish(
        mut self,
        question: Question,
        definition: Definition,
        week_start: WeekStart,
        total: Bucket,
        patients: PatientIndex,
    ) -> Snapshot {
        let count = patients.ids().len();
        let of_total = || ListBuilder::new(count).lists(0, &self.visits.patient, &self.in_total);
        let of_buckets = || {
            let (mut sorter, mut start) = (ListBuilder::new(count), 0);
            let lists = |&(bucket, end): &(Bucket, usize)| {
                let places = std::mem::replace(&mut start, end)..end;
                let (first, segments) = (number(places.start), &self.in_bucket[places.clone()]);
                (bucket, sorter.lists(first, &self.visits.patient[places], segments))
            };
            self.buckets.iter().map(lists).collect()
        };
        let (lists, buckets) = if self.visits.id.len() < PARALLEL_MIN_VISITS {
            (of_total(), of_buckets())
        } else {
            side_by_side(of_total, of_buckets)
        };
        self.visits.shrink();
        Snapshot {
            question,
            definition,
            week_start,
            visits: self.visits,
            buckets,
            total: (total, lists),
            patients,
            histories: OnceLock::new(),
        }
    }
}

/// From as many visits on, what can be done at the same time is: for fewer, a thread takes longer than it saves.
pub(crate) const PARALLEL_MIN_VISITS: usize = 20_000;

/// Does the first in a thread of its own, where one is to be had.
pub(crate) fn side_by_side<A: Send, B>(first: impl Fn() -> A + Sync, second: impl FnOnce() -> B) -> (A, B) {
    std::thread::scope(|threads| {
        let thread = std::thread::Builder::new().spawn_scoped(threads, &first);
        let second = second();
        let first = match thread {
            Ok(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            Err(_) => first(),
        };
        (first, second)
    })
}

/// One computation of the statistics: every bucket's lists. Counts are their lengths, pages are cut from them.
pub struct Snapshot {
    question: Question,
    definition: Definition,
    week_start: WeekStart,
    pub(crate) visits: Visits,
    buckets: Vec<(Bucket, BucketLists)>,
    total: (Bucket, BucketLists),
    patients: PatientIndex,
    /// By the numbers of `patients`; made when first asked for.
    histories: OnceLock<Vec<History>>,
}

/// A cohort in full: both lists, in the order in which patients and visits were first recorded.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct CohortList {
    pub patients: Vec<CountedPatient>,
    pub visits: Vec<CountedVisit>,
}

/// A patient of a cohort, as counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CountedPatient {
    pub id: i64,
    /// The first attended visit up to asOf; none where there is none.
    pub first_visit: Option<Day>,
    /// The last attended visit up to asOf; none where there is none.
    pub last_visit: Option<Day>,
    /// How many of the cohort's visits are this patient's.
    pub visits: u32,
}

/// A visit of a cohort, as counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CountedVisit {
    pub id: i64,
    pub patient: i64,
    pub date: Day,
    pub status: VisitStatus,
}

impl Snapshot {
    #[must_use]
    pub fn question(&self) -> &Question {
        &self.question
    }

    #[must_use]
    pub fn definition(&self) -> &Definition {
        &self.definition
    }

    #[must_use]
    pub fn week_start(&self) -> WeekStart {
        self.week_start
    }

    /// How many buckets there are, the total not among them.
    #[must_use]
    pub fn len(&self) -> usize {
        self.buckets.len()
    }

    /// Whether there is no bucket; a question's range is never empty, so there is one.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.buckets.is_empty()
    }

    fn part(&self, bucket: BucketRef) -> Option<&(Bucket, BucketLists)> {
        match bucket {
            BucketRef::Total => Some(&self.total),
            BucketRef::At(place) => self.buckets.get(place as usize),
        }
    }

    /// The bounds of a bucket.
    #[must_use]
    pub fn bucket(&self, bucket: BucketRef) -> Option<&Bucket> {
        self.part(bucket).map(|(bucket, _)| bucket)
    }

    /// The bucket that holds the day; none where the question's range does not.
    #[must_use]
    pub fn bucket_of(&self, day: Day) -> Option<BucketRef> {
        if !self.question.range.contains(day) {
            return None;
        }
        let place = self.buckets.partition_point(|(bucket, _)| bucket.bounds.to < day);
        u32::try_from(place).ok().map(BucketRef::At)
    }

    /// Whether every NEW patient of the bucket has had churnAfterDays to come back: it is complete, and asOf lies that long or
    /// longer after its end. Nobody is PENDING then.
    #[must_use]
    pub fn churn_mature(&self, bucket: BucketRef) -> bool {
        self.bucket(bucket).is_some_and(|bucket| {
            let since_end = self.question.as_of.0 - bucket.bounds.to.0;
            bucket.complete() && since_end >= self.definition.churn_after_days
        })
    }

    /// The length of the cohort's list of patients.
    #[must_use]
    pub fn patient_count(&self, bucket: BucketRef, kind: CohortKind) -> usize {
        self.part(bucket).map_or(0, |(_, lists)| lists.patients(kind).len())
    }

    /// The length of the cohort's list of visits.
    #[must_use]
    pub fn visit_count(&self, bucket: BucketRef, kind: CohortKind) -> usize {
        self.part(bucket).map_or(0, |(_, lists)| lists.visits(kind).len())
    }

    /// The ids of the cohort's patients, in the order in which they were first recorded.
    #[must_use]
    pub fn patient_ids(&self, bucket: BucketRef, kind: CohortKind) -> Vec<i64> {
        let patients = self.part(bucket).map_or(&[][..], |(_, lists)| lists.patients(kind));
        let ids = self.patients.ids();
        let mut ids: Vec<i64> = patients.iter().map(|&number| ids[number as usize]).collect();
        ids.sort_unstable();
        ids
    }

    /// The ids of the cohort's visits, likewise.
    #[must_use]
    pub fn visit_ids(&self, bucket: BucketRef, kind: CohortKind) -> Vec<i64> {
        let visits = self.part(bucket).map_or(&[][..], |(_, lists)| lists.visits(kind));
        let mut ids: Vec<i64> = visits.iter().map(|&place| self.visits.id[place as usize]).collect();
        // Each day's are sorted already, which this sort makes use of.
        ids.sort();
        ids
    }

    /// The cohort's lists in full.
    #[must_use]
    pub fn cohort(&self, bucket: BucketRef, kind: CohortKind) -> CohortList {
        let Some((_, lists)) = self.part(bucket) else {
            return CohortList::default();
        };
        let ids = self.patients.ids();
        let histories = self.histories();
        let mut visits: Vec<CountedVisit> = lists
            .visits(kind)
            .iter()
            .filter_map(|&place| {
                let place = place as usize;
                Some(CountedVisit {
                    id: self.visits.id[place],
                    patient: ids[self.visits.patient[place] as usize],
                    date: self.visits.day(place)?,
                    status: VisitStatus::ALL[usize::from(self.visits.status[place])],
                })
            })
            .collect();
        visits.sort_unstable_by_key(|visit| visit.id);
        let mut patients: Vec<CountedPatient> = lists
            .patients(kind)
            .iter()
            .map(|&number| {
                let history = histories[number as usize];
                let some = history != History::NONE;
                CountedPatient {
                    id: ids[number as usize],
                    first_visit: some.then_some(Day(history.first)),
                    last_visit: some.then_some(Day(history.last)),
                    visits: 0,
                }
            })
            .collect();
        patients.sort_unstable_by_key(|patient| patient.id);
        let mut owners: Vec<i64> = visits.iter().map(|visit| visit.patient).collect();
        owners.sort_unstable();
        for (patient, owned) in patients.iter_mut().zip(owners.chunk_by(|a, b| a == b)) {
            patient.visits = u32::try_from(owned.len()).unwrap_or(u32::MAX);
        }
        CohortList { patients, visits }
    }

    /// Whether the patient is in the cohort.
    #[must_use]
    pub fn contains(&self, bucket: BucketRef, kind: CohortKind, patient: i64) -> bool {
        let number = match &self.patients {
            PatientIndex::Ledger(_, keys) => keys.number(patient),
            PatientIndex::Own(ids, _) => ids.binary_search(&patient).ok().map(number),
        };
        let Some((number, (_, lists))) = number.zip(self.part(bucket)) else {
            return false;
        };
        lists.patients(kind).contains(&number)
    }

    /// The patients of a cohort, by id, each with the segment that it is in.
    pub(crate) fn standings(&self, bucket: BucketRef, kind: CohortKind) -> Vec<(i64, Segment)> {
        let Some((_, lists)) = self.part(bucket) else {
            return Vec::new();
        };
        let ids = self.patients.ids();
        let in_segment = |segment: Segment| {
            let patients = cut(
                &lists.patients,
                &lists.patient_ends,
                segment as usize..segment as usize + 1,
            );
            patients.iter().map(move |&number| (ids[number as usize], segment))
        };
        let mut standings: Vec<(i64, Segment)> = SEGMENTS[kind.segments()]
            .iter()
            .flat_map(|&segment| in_segment(segment))
            .collect();
        standings.sort_unstable_by_key(|&(patient, _)| patient);
        standings
    }

    /// The histories by patient, of all patients in the lists.
    fn histories(&self) -> &[History] {
        match &self.patients {
            PatientIndex::Own(_, histories) => histories,
            PatientIndex::Ledger(ledger, keys) => self.histories.get_or_init(|| {
                let held = || ledger.lock().unwrap_or_else(PoisonError::into_inner);
                let whole = held().clone();
                let histories = whole.map(|whole| self.histories_in(&whole, keys.ids().len()));
                *held() = None;
                histories.unwrap_or_default()
            }),
        }
    }

    fn histories_in(&self, ledger: &Ledger, patients: usize) -> Vec<History> {
        let mut histories = vec![History::NONE; patients];
        let Some(covered) = self.total.0.covered else {
            return histories;
        };
        let as_of = self.question.as_of;
        for (_, chunk) in ledger.days(covered.from, covered.to) {
            for visit in chunk.entries().filter(|visit| visit.first <= as_of.0) {
                histories[visit.patient as usize] = History {
                    first: visit.first,
                    last: visit.last,
                };
            }
        }
        // Who came after asOf too: their last visit up to asOf is looked for, from asOf backwards.
        let mut open = histories.iter().filter(|history| history.last > as_of.0).count();
        for (day, chunk) in ledger.days(Day(i32::MIN), as_of).iter().rev() {
            if open == 0 {
                break;
            }
            for visit in chunk.entries().filter(Entry::attended) {
                let history = &mut histories[visit.patient as usize];
                if history.last > as_of.0 {
                    history.last = day.0;
                    open -= 1;
                }
            }
        }
        histories
    }

    /// The parts of the snapshot that its lists follow from, bucket by bucket.
    pub(crate) fn parts(&self) -> impl Iterator<Item = (&Bucket, &BucketLists)> {
        self.buckets.iter().map(|(bucket, lists)| (bucket, lists))
    }

    /// Every patient of the snapshot: id, history, and whether NEW in the total; by id.
    pub(crate) fn all_patients(&self) -> Vec<(i64, History, bool)> {
        const LISTED: u8 = 1;
        const NEW: u8 = 2;
        let (ids, histories) = (self.patients.ids(), self.histories());
        let mut marks = vec![0; ids.len()];
        for (kind, mark) in [
            (CohortKind::New, LISTED | NEW),
            (CohortKind::Returning, LISTED),
            (CohortKind::NoShow, LISTED),
            (CohortKind::Canceled, LISTED),
        ] {
            for &number in self.total.1.patients(kind) {
                marks[number as usize] |= mark;
            }
        }
        let known = ids.iter().zip(histories).zip(marks);
        let mut all: Vec<(i64, History, bool)> = known
            .filter(|&(_, mark)| mark != 0)
            .map(|((&id, &history), mark)| (id, history, mark & NEW != 0))
            .collect();
        // Most are in order: only those stand behind who came since the ledger was loaded. This sort makes use of it.
        all.sort_by_key(|&(id, ..)| id);
        all
    }

    pub(crate) fn patient_id(&self, number: u32) -> i64 {
        self.patients.ids()[number as usize]
    }

    /// The memory that it takes, in bytes, about. Counted are the histories also before they are made; not counted is the ledger
    /// that it holds until then.
    #[must_use]
    pub fn bytes(&self) -> usize {
        const VISIT: usize = size_of::<i64>() + size_of::<u32>() + size_of::<u8>();
        const PATIENT: usize = size_of::<i64>() + size_of::<History>();
        let lists: usize = self
            .buckets
            .iter()
            .map(|(_, lists)| lists)
            .chain([&self.total.1])
            .map(|lists| {
                (lists.visits.len() + lists.patients.len()) * size_of::<u32>() + size_of::<(Bucket, BucketLists)>()
            })
            .sum();
        let patients = match &self.patients {
            PatientIndex::Own(ids, _) => ids.len() * PATIENT,
            // Once the ledger is released, nobody else may hold its keys.
            PatientIndex::Ledger(_, keys) if self.histories.get().is_some() => keys.ids().len() * PATIENT,
            PatientIndex::Ledger(_, keys) => keys.ids().len() * size_of::<History>(),
        };
        let filter = &self.question.filter;
        let ids = [&filter.departments, &filter.doctors].into_iter().flatten();
        let filter: usize = ids.map(|ids| size_of_val(&**ids)).sum();
        let days = self.visits.days.capacity() * size_of::<(Day, u32)>();
        self.visits.id.capacity() * VISIT + days + lists + patients + filter + size_of::<Self>()
    }
}

/// An order of a cohort's patients that follows from the snapshot alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PatientOrder {
    FirstVisit,
    LastVisit,
}

/// An order of a cohort's visits that follows from the snapshot alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VisitOrder {
    Date,
    Status,
}

/// Compares by key, nulls last whichever the direction.
pub(crate) fn nulls_last<K: Ord>(a: Option<&K>, b: Option<&K>, descending: bool) -> Ordering {
    match (a, b) {
        (Some(a), Some(b)) if descending => b.cmp(a),
        (Some(a), Some(b)) => a.cmp(b),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => Ordering::Equal,
    }
}

impl CohortList {
    /// The memory that it takes, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.patients.capacity() * size_of::<CountedPatient>()
            + self.visits.capacity() * size_of::<CountedVisit>()
            + size_of::<Self>()
    }

    /// The places of the patients in an order; nulls last, ties by id.
    #[must_use]
    pub fn order_patients(&self, order: PatientOrder, descending: bool) -> Vec<u32> {
        let key = |patient: &CountedPatient| match order {
            PatientOrder::FirstVisit => patient.first_visit,
            PatientOrder::LastVisit => patient.last_visit,
        };
        Self::order_by(self.patients.iter().map(key), descending)
    }

    /// The places of the visits in an order; ties by id.
    #[must_use]
    pub fn order_visits(&self, order: VisitOrder, descending: bool) -> Vec<u32> {
        match order {
            VisitOrder::Date => Self::order_by(self.visits.iter().map(|v| Some(v.date)), descending),
            VisitOrder::Status => Self::order_by(self.visits.iter().map(|v| Some(v.status)), descending),
        }
    }

    /// The places of a list in the order of its keys; nulls last in either direction, ties in the order of the list.
    #[must_use]
    pub fn order_by<K: Ord>(keys: impl IntoIterator<Item = Option<K>>, descending: bool) -> Vec<u32> {
        let keys: Vec<Option<K>> = keys.into_iter().collect();
        let mut places: Vec<u32> = (0..).take(keys.len()).collect();
        places.sort_by(|&a, &b| nulls_last(keys[a as usize].as_ref(), keys[b as usize].as_ref(), descending));
        places
    }
}
