//! A snapshot: the lists of every bucket and cohort of a question. Counts are the lengths of these lists.

use std::cmp::Ordering;
use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::bit_set::BitSet;
use super::cohort::Segment;
use super::ledger::{Entry, IdIndex, Ledger, NEVER_FIRST, NEVER_LAST};
use super::{Bucket, CohortKind, Day, Definition, Question, VisitStatus, WeekStart};

/// Identifies a bucket of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BucketRef {
    /// The whole range as one bucket.
    Total,
    /// The bucket at this index, from 0.
    At(u32),
}

/// The days of a patient's first and last attended visits up to asOf.
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

/// The numbers of patients that a snapshot's lists use.
pub(crate) enum PatientIndex {
    /// Those of the ledger. The ledger itself is released once the histories were read from it.
    Ledger(Mutex<Option<Arc<Ledger>>>, Arc<IdIndex>),
    /// Those of an unpacked snapshot: ids, ascending, and their histories.
    Own(Vec<i64>, Vec<History>),
}

impl PatientIndex {
    /// The numbers of this ledger.
    pub(crate) fn of_ledger(ledger: &Arc<Ledger>) -> Self {
        Self::Ledger(Mutex::new(Some(Arc::clone(ledger))), Arc::clone(ledger.patients()))
    }

    /// The ids, by number.
    fn ids(&self) -> &[i64] {
        match self {
            Self::Ledger(_, index) => index.ids(),
            Self::Own(ids, _) => ids,
        }
    }
}

/// A visit with its segment in its bucket and in the total.
#[derive(Clone, Copy)]
pub(crate) struct ClassifiedVisit {
    pub(crate) id: i64,
    /// The patient's number.
    pub(crate) patient: u32,
    pub(crate) day: Day,
    /// The discriminant of the status.
    pub(crate) status: u8,
    pub(crate) in_bucket: Segment,
    pub(crate) in_total: Segment,
}

/// The counted visits in columns, ordered by day and then id.
#[derive(Default)]
pub(crate) struct Visits {
    pub(crate) id: Vec<i64>,
    pub(crate) patient: Vec<u32>,
    pub(crate) status: Vec<u8>,
    /// The days, each with the index after its last visit.
    days: Vec<(Day, u32)>,
}

impl Visits {
    /// Assigns the visits that were added since the last call to this day.
    fn end_day(&mut self, day: Day) {
        let end = to_u32(self.id.len());
        match self.days.last_mut() {
            Some(last) if last.0 == day => last.1 = end,
            Some(last) if last.1 == end => {}
            None if end == 0 => {}
            _ => self.days.push((day, end)),
        }
    }

    /// Appends visits of later days.
    fn append(&mut self, later: Self) {
        let start = to_u32(self.id.len());
        self.id.extend(later.id);
        self.patient.extend(later.patient);
        self.status.extend(later.status);
        self.days
            .extend(later.days.into_iter().map(|(day, end)| (day, start + end)));
    }

    /// The day of the visit at this index.
    pub(crate) fn day(&self, index: usize) -> Option<Day> {
        let position = self.days.partition_point(|&(_, end)| end as usize <= index);
        self.days.get(position).map(|&(day, _)| day)
    }

    /// The days of the visits in this range of indexes, which must consist of whole days, each with its indexes.
    pub(crate) fn by_day(&self, indexes: Range<usize>) -> impl Iterator<Item = (Day, Range<usize>)> {
        let from = self.days.partition_point(|&(_, end)| end as usize <= indexes.start);
        let mut start = indexes.start;
        self.days[from..]
            .iter()
            .take_while(move |&&(_, end)| end as usize <= indexes.end)
            .map(move |&(day, end)| (day, std::mem::replace(&mut start, end as usize)..end as usize))
    }

    /// Releases unused capacity if a filter left most of it empty.
    fn shrink(&mut self) {
        if self.id.len() < self.id.capacity() / 2 {
            self.id.shrink_to_fit();
            self.patient.shrink_to_fit();
            self.status.shrink_to_fit();
        }
    }
}

/// Departments, doctors and channels of the counted visits in columns, by the same index as [`Visits`].
#[derive(Default)]
pub(crate) struct KeyColumns {
    /// The ids of departments, and of doctors.
    pub(crate) departments: Vec<i64>,
    pub(crate) doctors: Vec<i64>,
    /// The place in `departments` plus 1; 0 without one. The same for the doctor.
    pub(crate) department: Vec<u16>,
    pub(crate) doctor: Vec<u16>,
    /// The discriminant of the channel.
    pub(crate) channel: Vec<u8>,
}

impl KeyColumns {
    /// The ids of the department and the doctor of the visit at this index.
    pub(crate) fn ids(&self, index: usize) -> (Option<i64>, Option<i64>) {
        let id = |ids: &[i64], place: u16| {
            usize::from(place)
                .checked_sub(1)
                .and_then(|place| ids.get(place))
                .copied()
        };
        (
            id(&self.departments, self.department[index]),
            id(&self.doctors, self.doctor[index]),
        )
    }
}

/// The lists of one bucket. Each is the concatenation of its segments' lists, so that a cohort is a slice.
#[derive(Default)]
pub(crate) struct BucketLists {
    /// Indexes into [`Visits`].
    pub(crate) visits: Box<[u32]>,
    visit_ends: [u32; Segment::COUNT],
    /// Patients' numbers, without duplicates within VISITORS, NO_SHOW and CANCELED each.
    patients: Box<[u32]>,
    patient_ends: [u32; Segment::COUNT],
}

impl BucketLists {
    /// The visits of a cohort: indexes into [`Visits`].
    pub(crate) fn visits(&self, kind: CohortKind) -> &[u32] {
        slice(&self.visits, &self.visit_ends, kind.segments())
    }

    /// The patients of a cohort, by number.
    pub(crate) fn patients(&self, kind: CohortKind) -> &[u32] {
        slice(&self.patients, &self.patient_ends, kind.segments())
    }
}

/// The part of a list that has these segments; `ends` are the segments' ends in the list.
fn slice<'a>(list: &'a [u32], ends: &[u32; Segment::COUNT], segments: Range<usize>) -> &'a [u32] {
    let start = if segments.start == 0 {
        0
    } else {
        ends[segments.start - 1]
    };
    &list[start as usize..ends[segments.end - 1] as usize]
}

/// Builds the lists of buckets, one after the other.
struct ListBuilder {
    /// The patients in the lists so far of each of [`DISTINCT`].
    seen: [BitSet; 3],
    /// A buffer for the lists of patients.
    patients: Vec<u32>,
}

/// The cohorts within which a patient is listed once. A patient is in at most one of the segments of VISITORS.
const DISTINCT: [CohortKind; 3] = [CohortKind::Visitors, CohortKind::NoShow, CohortKind::Canceled];

impl ListBuilder {
    fn new(patients: usize) -> Self {
        Self {
            seen: std::array::from_fn(|_| BitSet::new(patients)),
            patients: Vec::new(),
        }
    }

    /// The index in [`DISTINCT`] of the cohort that has the segment.
    const fn distinct_index(segment: usize) -> usize {
        match segment {
            4 => 1,
            5 => 2,
            _ => 0,
        }
    }

    /// The lists of a bucket's visits, whose indexes start at `first`, and which have these patients and segments.
    ///
    /// This is a counting sort by segment without branches, since the processor could not predict them. Each visit is written
    /// to the end of its segment's list. So is its patient; if it is in the list already, the end does not advance, and the
    /// next patient overwrites it.
    fn lists(&mut self, first: u32, patients: &[u32], segments: &[Segment]) -> BucketLists {
        let starts = starts(segments);
        if self.patients.len() < segments.len() {
            self.patients.resize(segments.len(), 0);
        }
        let mut visits = vec![0; segments.len()].into_boxed_slice();
        let (mut visit_ends, mut listed) = (starts, starts);
        for ((&segment, &patient), index) in segments.iter().zip(patients).zip(first..) {
            let segment = segment as usize;
            visits[visit_ends[segment] as usize] = index;
            visit_ends[segment] += 1;
            self.patients[listed[segment] as usize] = patient;
            listed[segment] += u32::from(self.seen[Self::distinct_index(segment)].insert(patient));
        }
        let lists = starts
            .into_iter()
            .zip(listed)
            .map(|(start, end)| start as usize..end as usize);
        let mut patients = Vec::with_capacity(lists.clone().map(|list| list.len()).sum());
        let mut patient_ends = [0; Segment::COUNT];
        for (list, end) in lists.zip(&mut patient_ends) {
            patients.extend_from_slice(&self.patients[list]);
            *end = to_u32(patients.len());
        }
        for (seen, kind) in self.seen.iter_mut().zip(DISTINCT) {
            seen.clear(slice(&patients, &patient_ends, kind.segments()));
        }
        BucketLists {
            visits,
            visit_ends,
            patients: patients.into_boxed_slice(),
            patient_ends,
        }
    }
}

/// All segments, in order.
const SEGMENTS: [Segment; Segment::COUNT] = [
    Segment::ChurnSuspected,
    Segment::Retained,
    Segment::Pending,
    Segment::Returning,
    Segment::NoShow,
    Segment::Canceled,
];

/// The start of each segment in the sorted list of these.
fn starts(segments: &[Segment]) -> [u32; Segment::COUNT] {
    let mut start = 0;
    SEGMENTS.map(|kind| {
        let before = start;
        // In parts short enough for 8-bit counters, which the compiler vectorizes well.
        for part in segments.chunks(u8::MAX.into()) {
            start += u32::from(part.iter().map(|&segment| u8::from(segment == kind)).sum::<u8>());
        }
        before
    })
}

/// An index of a visit or patient as 32 bits. A ledger with more than `u32::MAX` of them does not fit into memory.
fn to_u32(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}

/// Builds a snapshot from visits, which must be added bucket by bucket, and within a bucket by day and then id.
pub(crate) struct Assembler {
    visits: Visits,
    in_bucket: Vec<Segment>,
    in_total: Vec<Segment>,
    /// The buckets so far, each with the index after its last visit.
    buckets: Vec<(Bucket, usize)>,
    scratch: ScratchColumns,
}

/// A buffer for the visits of a day, of which the counted ones are copied.
#[derive(Default)]
struct ScratchColumns {
    id: Vec<i64>,
    patient: Vec<u32>,
    status: Vec<u8>,
    in_bucket: Vec<Segment>,
    in_total: Vec<Segment>,
}

impl ScratchColumns {
    /// Ensures room for this many visits.
    fn ensure_len(&mut self, visits: usize) {
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
    /// `buckets` and `visits` are the expected numbers.
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

    /// Adds a visit.
    pub(crate) fn visit(&mut self, visit: ClassifiedVisit) {
        self.visits.id.push(visit.id);
        self.visits.patient.push(visit.patient);
        self.visits.status.push(visit.status);
        self.visits.end_day(visit.day);
        self.in_bucket.push(visit.in_bucket);
        self.in_total.push(visit.in_total);
    }

    /// Adds visits of a day, of which there are at most `max`: those whose flag is set.
    #[inline]
    pub(crate) fn visits(&mut self, day: Day, max: usize, visits: impl Iterator<Item = (bool, ClassifiedVisit)>) {
        let Self {
            visits: all, scratch, ..
        } = self;
        scratch.ensure_len(max);
        let (id, patient, status) = (
            &mut scratch.id[..max],
            &mut scratch.patient[..max],
            &mut scratch.status[..max],
        );
        let (in_bucket, in_total) = (&mut scratch.in_bucket[..max], &mut scratch.in_total[..max]);
        // A visit that does not count is overwritten by the next one, which is faster than a branch.
        let mut len = 0;
        for (counts, visit) in visits.take(max) {
            id[len] = visit.id;
            patient[len] = visit.patient;
            status[len] = visit.status;
            in_bucket[len] = visit.in_bucket;
            in_total[len] = visit.in_total;
            len += usize::from(counts);
        }
        all.id.extend_from_slice(&id[..len]);
        all.patient.extend_from_slice(&patient[..len]);
        all.status.extend_from_slice(&status[..len]);
        all.end_day(day);
        self.in_bucket.extend_from_slice(&in_bucket[..len]);
        self.in_total.extend_from_slice(&in_total[..len]);
    }

    /// Assigns the visits that were added since the last call to this bucket.
    pub(crate) fn end_bucket(&mut self, bucket: Bucket) {
        self.buckets.push((bucket, self.visits.id.len()));
    }

    /// Appends later buckets.
    pub(crate) fn append(&mut self, later: Self) {
        let start = self.visits.id.len();
        self.visits.append(later.visits);
        self.in_bucket.extend(later.in_bucket);
        self.in_total.extend(later.in_total);
        let buckets = later.buckets.into_iter();
        self.buckets.extend(buckets.map(|(bucket, end)| (bucket, start + end)));
    }

    /// The snapshot.
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
            let (mut builder, mut start) = (ListBuilder::new(count), 0);
            let lists = |&(bucket, end): &(Bucket, usize)| {
                let indexes = std::mem::replace(&mut start, end)..end;
                let (first, segments) = (to_u32(indexes.start), &self.in_bucket[indexes.clone()]);
                (bucket, builder.lists(first, &self.visits.patient[indexes], segments))
            };
            self.buckets.iter().map(lists).collect()
        };
        let (lists, buckets) = if self.visits.id.len() < PARALLEL_MIN_VISITS {
            (of_total(), of_buckets())
        } else {
            join(of_total, of_buckets)
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
            keys: OnceLock::new(),
        }
    }
}

/// With fewer visits, starting a second thread takes longer than it saves.
pub(crate) const PARALLEL_MIN_VISITS: usize = 20_000;

/// Runs both, the first in a new thread if one can be started.
pub(crate) fn join<A: Send, B>(first: impl Fn() -> A + Sync, second: impl FnOnce() -> B) -> (A, B) {
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

/// The result of one computation: the lists of every bucket and cohort. Counts are their lengths, pages are slices of them.
pub struct Snapshot {
    question: Question,
    definition: Definition,
    week_start: WeekStart,
    pub(crate) visits: Visits,
    buckets: Vec<(Bucket, BucketLists)>,
    total: (Bucket, BucketLists),
    patients: PatientIndex,
    /// By number of `patients`; computed on first use.
    histories: OnceLock<Vec<History>>,
    /// Computed on first use; none of a snapshot that was stored without them.
    pub(crate) keys: OnceLock<Option<KeyColumns>>,
}

/// Both lists of a cohort, ordered by id.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct CohortList {
    pub patients: Vec<CountedPatient>,
    pub visits: Vec<CountedVisit>,
}

/// A patient of a cohort, as of the snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CountedPatient {
    pub id: i64,
    /// The day of the first attended visit up to asOf, if any.
    pub first_visit: Option<Day>,
    /// The day of the last attended visit up to asOf, if any.
    pub last_visit: Option<Day>,
    /// The number of the cohort's visits that are this patient's.
    pub visits: u32,
}

/// A visit of a cohort, as of the snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CountedVisit {
    pub id: i64,
    /// The id of the patient.
    pub patient: i64,
    pub date: Day,
    pub status: VisitStatus,
}

impl Snapshot {
    /// The question that this answers.
    #[must_use]
    pub fn question(&self) -> &Question {
        &self.question
    }

    /// The definition that was applied.
    #[must_use]
    pub fn definition(&self) -> &Definition {
        &self.definition
    }

    /// The first day of a week, which determines buckets by week.
    #[must_use]
    pub fn week_start(&self) -> WeekStart {
        self.week_start
    }

    /// The number of buckets, without the total.
    #[must_use]
    pub fn len(&self) -> usize {
        self.buckets.len()
    }

    /// Whether there is no bucket. Always false, since a question's range is not empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.buckets.is_empty()
    }

    pub(crate) fn bucket_lists(&self, bucket: BucketRef) -> Option<&(Bucket, BucketLists)> {
        match bucket {
            BucketRef::Total => Some(&self.total),
            BucketRef::At(index) => self.buckets.get(index as usize),
        }
    }

    /// The calendar unit of a bucket; `None` if the snapshot does not have the bucket.
    #[must_use]
    pub fn bucket(&self, bucket: BucketRef) -> Option<&Bucket> {
        self.bucket_lists(bucket).map(|(bucket, _)| bucket)
    }

    /// The bucket that contains the day; `None` if the day is outside the question's range.
    #[must_use]
    pub fn bucket_of(&self, day: Day) -> Option<BucketRef> {
        if !self.question.range.contains(day) {
            return None;
        }
        let index = self.buckets.partition_point(|(bucket, _)| bucket.bounds.to < day);
        u32::try_from(index).ok().map(BucketRef::At)
    }

    /// Whether the bucket is complete and asOf is churnAfterDays or more after its end, so that no patient is PENDING.
    #[must_use]
    pub fn churn_mature(&self, bucket: BucketRef) -> bool {
        self.bucket(bucket).is_some_and(|bucket| {
            let since_end = self.question.as_of.0 - bucket.bounds.to.0;
            bucket.complete() && since_end >= self.definition.churn_after_days
        })
    }

    /// The number of the cohort's patients.
    #[must_use]
    pub fn patient_count(&self, bucket: BucketRef, kind: CohortKind) -> usize {
        self.bucket_lists(bucket)
            .map_or(0, |(_, lists)| lists.patients(kind).len())
    }

    /// The number of the cohort's visits.
    #[must_use]
    pub fn visit_count(&self, bucket: BucketRef, kind: CohortKind) -> usize {
        self.bucket_lists(bucket)
            .map_or(0, |(_, lists)| lists.visits(kind).len())
    }

    /// The ids of the cohort's patients, ascending.
    #[must_use]
    pub fn patient_ids(&self, bucket: BucketRef, kind: CohortKind) -> Vec<i64> {
        let patients = self
            .bucket_lists(bucket)
            .map_or(&[][..], |(_, lists)| lists.patients(kind));
        let ids = self.patients.ids();
        let mut ids: Vec<i64> = patients.iter().map(|&number| ids[number as usize]).collect();
        ids.sort_unstable();
        ids
    }

    /// The ids of the cohort's visits, ascending.
    #[must_use]
    pub fn visit_ids(&self, bucket: BucketRef, kind: CohortKind) -> Vec<i64> {
        let visits = self
            .bucket_lists(bucket)
            .map_or(&[][..], |(_, lists)| lists.visits(kind));
        let mut ids: Vec<i64> = visits.iter().map(|&index| self.visits.id[index as usize]).collect();
        // The stable sort is faster here, since the ids of each day are sorted already.
        ids.sort();
        ids
    }

    /// Both lists of the cohort.
    #[must_use]
    pub fn cohort(&self, bucket: BucketRef, kind: CohortKind) -> CohortList {
        self.bucket_lists(bucket)
            .map(|(_, lists)| self.cut(lists.patients(kind), lists.visits(kind)))
            .unwrap_or_default()
    }

    /// Both lists of these patients, by number, and visits, by index.
    pub(crate) fn cut(&self, patients: &[u32], visits: &[u32]) -> CohortList {
        let ids = self.patients.ids();
        let histories = self.histories();
        let mut visits: Vec<CountedVisit> = visits
            .iter()
            .filter_map(|&index| {
                let index = index as usize;
                Some(CountedVisit {
                    id: self.visits.id[index],
                    patient: ids[self.visits.patient[index] as usize],
                    date: self.visits.day(index)?,
                    status: VisitStatus::ALL[usize::from(self.visits.status[index])],
                })
            })
            .collect();
        visits.sort_unstable_by_key(|visit| visit.id);
        let mut patients: Vec<CountedPatient> = patients
            .iter()
            .map(|&number| {
                let history = histories[number as usize];
                let exists = history != History::NONE;
                CountedPatient {
                    id: ids[number as usize],
                    first_visit: exists.then_some(Day(history.first)),
                    last_visit: exists.then_some(Day(history.last)),
                    visits: 0,
                }
            })
            .collect();
        patients.sort_unstable_by_key(|patient| patient.id);
        let mut visit_patients: Vec<i64> = visits.iter().map(|visit| visit.patient).collect();
        visit_patients.sort_unstable();
        for (patient, visits) in patients.iter_mut().zip(visit_patients.chunk_by(|a, b| a == b)) {
            patient.visits = u32::try_from(visits.len()).unwrap_or(u32::MAX);
        }
        CohortList { patients, visits }
    }

    /// Whether the patient is in the cohort.
    #[must_use]
    pub fn contains(&self, bucket: BucketRef, kind: CohortKind, patient: i64) -> bool {
        let number = match &self.patients {
            PatientIndex::Ledger(_, index) => index.number(patient),
            PatientIndex::Own(ids, _) => ids.binary_search(&patient).ok().map(to_u32),
        };
        let Some((number, (_, lists))) = number.zip(self.bucket_lists(bucket)) else {
            return false;
        };
        lists.patients(kind).contains(&number)
    }

    /// The patients of a cohort, each with its segment, ordered by id.
    pub(crate) fn patient_segments(&self, bucket: BucketRef, kind: CohortKind) -> Vec<(i64, Segment)> {
        let Some((_, lists)) = self.bucket_lists(bucket) else {
            return Vec::new();
        };
        let ids = self.patients.ids();
        let in_segment = |segment: Segment| {
            let patients = slice(
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

    /// The histories by number, of all patients in the lists.
    fn histories(&self) -> &[History] {
        match &self.patients {
            PatientIndex::Own(_, histories) => histories,
            PatientIndex::Ledger(slot, index) => self.histories.get_or_init(|| {
                // They need the ledger too.
                self.keys();
                let slot = || slot.lock().unwrap_or_else(PoisonError::into_inner);
                let ledger = slot().clone();
                let histories = ledger.map(|ledger| self.histories_in(&ledger, index.ids().len()));
                *slot() = None;
                histories.unwrap_or_default()
            }),
        }
    }

    /// Departments, doctors and channels of the visits; `None` if the snapshot was stored without them.
    pub(crate) fn keys(&self) -> Option<&KeyColumns> {
        let columns = || match &self.patients {
            PatientIndex::Own(..) => None,
            PatientIndex::Ledger(slot, _) => {
                let ledger = slot.lock().unwrap_or_else(PoisonError::into_inner).clone();
                ledger.map(|ledger| self.keys_in(&ledger))
            }
        };
        self.keys.get_or_init(columns).as_ref()
    }

    fn keys_in(&self, ledger: &Ledger) -> KeyColumns {
        let count = self.visits.id.len();
        let mut columns = KeyColumns {
            departments: ledger.departments().to_vec(),
            doctors: ledger.doctors().to_vec(),
            department: Vec::with_capacity(count),
            doctor: Vec::with_capacity(count),
            channel: Vec::with_capacity(count),
        };
        for (day, indexes) in self.visits.by_day(0..count) {
            // Both are ordered by id.
            let mut counted = self.visits.id[indexes].iter().peekable();
            for visit in ledger.days(day, day).iter().flat_map(|(_, chunk)| chunk.entries()) {
                if counted.next_if_eq(&&visit.id).is_some() {
                    columns.department.push(visit.department);
                    columns.doctor.push(visit.doctor);
                    columns.channel.push(visit.channel);
                }
            }
        }
        columns
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
        // For patients with a later visit than asOf, find the last visit up to asOf, from asOf backwards.
        let mut missing = histories.iter().filter(|history| history.last > as_of.0).count();
        for (day, chunk) in ledger.days(Day(i32::MIN), as_of).iter().rev() {
            if missing == 0 {
                break;
            }
            for visit in chunk.entries().filter(Entry::attended) {
                let history = &mut histories[visit.patient as usize];
                if history.last > as_of.0 {
                    history.last = day.0;
                    missing -= 1;
                }
            }
        }
        histories
    }

    /// The buckets without the total, with their lists.
    pub(crate) fn buckets(&self) -> impl Iterator<Item = (&Bucket, &BucketLists)> {
        self.buckets.iter().map(|(bucket, lists)| (bucket, lists))
    }

    /// Every patient of the snapshot: id, history, and whether NEW in the total; ordered by id.
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
        let patients = ids.iter().zip(histories).zip(marks);
        let mut all: Vec<(i64, History, bool)> = patients
            .filter(|&(_, mark)| mark != 0)
            .map(|((&id, &history), mark)| (id, history, mark & NEW != 0))
            .collect();
        // The stable sort is faster here: only patients added since the ledger was loaded are out of order.
        all.sort_by_key(|&(id, ..)| id);
        all
    }

    /// The patients of a cohort, each with the history, in no order.
    pub(crate) fn patient_histories(
        &self,
        bucket: BucketRef,
        kind: CohortKind,
    ) -> impl Iterator<Item = (i64, History)> {
        let patients = self
            .bucket_lists(bucket)
            .map_or(&[][..], |(_, lists)| lists.patients(kind));
        let (ids, histories) = (self.patients.ids(), self.histories());
        patients
            .iter()
            .map(move |&number| (ids[number as usize], histories[number as usize]))
    }

    /// The number of patients that the lists number.
    pub(crate) fn patient_numbers(&self) -> usize {
        self.patients.ids().len()
    }

    /// The id of the patient with this number.
    pub(crate) fn patient_id(&self, number: u32) -> i64 {
        self.patients.ids()[number as usize]
    }

    /// The approximate size in memory, in bytes. It includes histories and keys even before they are computed, and not the ledger
    /// that is held until then.
    #[must_use]
    pub fn bytes(&self) -> usize {
        const VISIT: usize =
            size_of::<i64>() + size_of::<u32>() + size_of::<u8>() + 2 * size_of::<u16>() + size_of::<u8>();
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
            // Once the ledger is released, this snapshot may be the only owner of the index.
            PatientIndex::Ledger(_, index) if self.histories.get().is_some() => index.ids().len() * PATIENT,
            PatientIndex::Ledger(_, index) => index.ids().len() * size_of::<History>(),
        };
        let filter = &self.question.filter;
        let ids = [&filter.departments, &filter.doctors].into_iter().flatten();
        let filter: usize = ids.map(|ids| size_of_val(&**ids)).sum();
        let days = self.visits.days.capacity() * size_of::<(Day, u32)>();
        self.visits.id.capacity() * VISIT + days + lists + patients + filter + size_of::<Self>()
    }
}

/// A sort key of a cohort's patients that the snapshot contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PatientSortKey {
    FirstVisit,
    LastVisit,
}

/// A sort key of a cohort's visits that the snapshot contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VisitSortKey {
    Date,
    Status,
}

/// Compares keys, nulls last in either direction.
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
    /// The size in memory, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.patients.capacity() * size_of::<CountedPatient>()
            + self.visits.capacity() * size_of::<CountedVisit>()
            + size_of::<Self>()
    }

    /// The indexes of the patients, ordered by the key; nulls last, ties by id.
    #[must_use]
    pub fn order_patients(&self, order: PatientSortKey, descending: bool) -> Vec<u32> {
        let key = |patient: &CountedPatient| match order {
            PatientSortKey::FirstVisit => patient.first_visit,
            PatientSortKey::LastVisit => patient.last_visit,
        };
        Self::order_by(self.patients.iter().map(key), descending)
    }

    /// The indexes of the visits, ordered by the key; ties by id.
    #[must_use]
    pub fn order_visits(&self, order: VisitSortKey, descending: bool) -> Vec<u32> {
        match order {
            VisitSortKey::Date => Self::order_by(self.visits.iter().map(|v| Some(v.date)), descending),
            VisitSortKey::Status => Self::order_by(self.visits.iter().map(|v| Some(v.status)), descending),
        }
    }

    /// The indexes of a list, ordered by these keys of its elements; nulls last in either direction, ties by index.
    #[must_use]
    pub fn order_by<K: Ord>(keys: impl IntoIterator<Item = Option<K>>, descending: bool) -> Vec<u32> {
        let keys: Vec<Option<K>> = keys.into_iter().collect();
        let mut indexes: Vec<u32> = (0..).take(keys.len()).collect();
        indexes.sort_by(|&a, &b| nulls_last(keys[a as usize].as_ref(), keys[b as usize].as_ref(), descending));
        indexes
    }
}
