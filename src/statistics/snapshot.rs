//! A resolved question: its lists, and the counts that are their lengths.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use super::bits::Bits;
use super::cohort::Segment;
use super::ledger::{Keys, Ledger, NEVER_FIRST, NEVER_LAST};
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
pub(crate) enum Patients {
    /// The ledger's; it also knows the histories.
    Ledger(Arc<Ledger>, Arc<Keys>),
    /// The snapshot's own: ids in order, and their histories.
    Own(Vec<i64>, Vec<History>),
}

impl Patients {
    pub(crate) fn of_ledger(ledger: &Arc<Ledger>) -> Self {
        Self::Ledger(Arc::clone(ledger), Arc::clone(ledger.patients()))
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
pub(crate) struct Counted {
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
    pub(crate) day: Vec<Day>,
    pub(crate) status: Vec<u8>,
}

/// The lists of one bucket, segment after segment.
#[derive(Default)]
pub(crate) struct Lists {
    /// Places in [`Visits`].
    pub(crate) visits: Box<[u32]>,
    visit_ends: [u32; Segment::COUNT],
    /// Numbers of patients.
    patients: Box<[u32]>,
    patient_ends: [u32; Segment::COUNT],
}

impl Lists {
    pub(crate) fn visits(&self, kind: CohortKind) -> &[u32] {
        cut(&self.visits, &self.visit_ends, kind)
    }

    pub(crate) fn patients(&self, kind: CohortKind) -> &[u32] {
        cut(&self.patients, &self.patient_ends, kind)
    }
}

fn cut<'a>(list: &'a [u32], ends: &[u32; Segment::COUNT], kind: CohortKind) -> &'a [u32] {
    let segments = kind.segments();
    let start = if segments.start == 0 {
        0
    } else {
        ends[segments.start - 1]
    };
    &list[start as usize..ends[segments.end - 1] as usize]
}

/// The lists of a bucket while they grow.
struct Growing {
    visits: [Vec<u32>; Segment::COUNT],
    patients: [Vec<u32>; Segment::COUNT],
    /// Who is in a list already: visitors are in one of four, the others may be in any.
    seen: [Bits; 3],
}

impl Growing {
    fn new(patients: usize) -> Self {
        Self {
            visits: Default::default(),
            patients: Default::default(),
            seen: [Bits::new(patients), Bits::new(patients), Bits::new(patients)],
        }
    }

    const fn seen_by(segment: usize) -> usize {
        match segment {
            4 => 1,
            5 => 2,
            _ => 0,
        }
    }

    #[inline]
    fn add(&mut self, segment: Segment, place: u32, patient: u32) {
        let segment = segment as usize;
        self.visits[segment].push(place);
        if self.seen[Self::seen_by(segment)].insert(patient) {
            self.patients[segment].push(patient);
        }
    }

    /// The lists as they stand; starts over.
    fn take(&mut self) -> Lists {
        for (segment, patients) in self.patients.iter().enumerate() {
            let seen = &mut self.seen[Self::seen_by(segment)];
            for &patient in patients {
                seen.remove(patient);
            }
        }
        let (visits, visit_ends) = join(&mut self.visits);
        let (patients, patient_ends) = join(&mut self.patients);
        Lists {
            visits,
            visit_ends,
            patients,
            patient_ends,
        }
    }
}

/// The lists as one, with their ends; leaves them empty.
fn join(lists: &mut [Vec<u32>; Segment::COUNT]) -> (Box<[u32]>, [u32; Segment::COUNT]) {
    let mut joined = Vec::with_capacity(lists.iter().map(Vec::len).sum());
    let ends = std::array::from_fn(|segment| {
        joined.append(&mut lists[segment]);
        u32::try_from(joined.len()).unwrap_or(u32::MAX)
    });
    (joined.into_boxed_slice(), ends)
}

/// Makes a snapshot of visits that come bucket by bucket, within a bucket by day and then id.
pub(crate) struct Assembler {
    visits: Visits,
    bucket: Growing,
    total: Growing,
    buckets: Vec<(Bucket, Lists)>,
}

impl Assembler {
    pub(crate) fn new(buckets: usize, visits: usize, patients: usize) -> Self {
        Self {
            visits: Visits {
                id: Vec::with_capacity(visits),
                patient: Vec::with_capacity(visits),
                day: Vec::with_capacity(visits),
                status: Vec::with_capacity(visits),
            },
            bucket: Growing::new(patients),
            total: Growing::new(patients),
            buckets: Vec::with_capacity(buckets),
        }
    }

    #[inline]
    pub(crate) fn visit(&mut self, visit: Counted) {
        // A ledger of more than u32::MAX visits does not fit into memory.
        #[allow(clippy::cast_possible_truncation)]
        let place = self.visits.id.len() as u32;
        self.visits.id.push(visit.id);
        self.visits.patient.push(visit.patient);
        self.visits.day.push(visit.day);
        self.visits.status.push(visit.status);
        self.bucket.add(visit.in_bucket, place, visit.patient);
        self.total.add(visit.in_total, place, visit.patient);
    }

    pub(crate) fn end_bucket(&mut self, bucket: Bucket) {
        let lists = self.bucket.take();
        self.buckets.push((bucket, lists));
    }

    pub(crate) fn finish(
        mut self,
        question: Question,
        definition: Definition,
        week_start: WeekStart,
        total: Bucket,
        patients: Patients,
    ) -> Snapshot {
        Snapshot {
            question,
            definition,
            week_start,
            visits: self.visits,
            buckets: self.buckets,
            total: (total, self.total.take()),
            patients,
            histories: OnceLock::new(),
        }
    }
}

/// One computation of the statistics: every bucket's lists. Counts are their lengths, pages are cut from them.
pub struct Snapshot {
    question: Question,
    definition: Definition,
    week_start: WeekStart,
    pub(crate) visits: Visits,
    buckets: Vec<(Bucket, Lists)>,
    total: (Bucket, Lists),
    patients: Patients,
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

    fn part(&self, bucket: BucketRef) -> Option<&(Bucket, Lists)> {
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
            .map(|&place| {
                let place = place as usize;
                CountedVisit {
                    id: self.visits.id[place],
                    patient: ids[self.visits.patient[place] as usize],
                    date: self.visits.day[place],
                    status: VisitStatus::ALL[usize::from(self.visits.status[place])],
                }
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

    /// The histories by patient, of all patients in the lists.
    fn histories(&self) -> &[History] {
        match &self.patients {
            Patients::Own(_, histories) => histories,
            Patients::Ledger(ledger, keys) => self
                .histories
                .get_or_init(|| self.histories_in(ledger, keys.ids().len())),
        }
    }

    fn histories_in(&self, ledger: &Ledger, patients: usize) -> Vec<History> {
        let mut histories = vec![History::NONE; patients];
        let Some(covered) = self.total.0.covered else {
            return histories;
        };
        let as_of = self.question.as_of;
        for (_, chunk) in ledger.days(covered.from, covered.to) {
            for i in 0..chunk.len() {
                if chunk.first[i] <= as_of.0 {
                    histories[chunk.patient[i] as usize] = History {
                        first: chunk.first[i],
                        last: chunk.last[i],
                    };
                }
            }
        }
        // Who came after asOf too: their last visit up to asOf is looked for, from asOf backwards.
        let mut open: BTreeSet<u32> = (0..)
            .zip(&histories)
            .filter(|(_, history)| history.last > as_of.0)
            .map(|(number, _)| number)
            .collect();
        for (day, chunk) in ledger.days(Day(i32::MIN), as_of).rev() {
            if open.is_empty() {
                break;
            }
            for i in 0..chunk.len() {
                let attended = VisitStatus::ALL[usize::from(chunk.status(i))].attended();
                if attended && chunk.last[i] > as_of.0 && open.remove(&chunk.patient[i]) {
                    histories[chunk.patient[i] as usize].last = day.0;
                }
            }
        }
        histories
    }

    /// The parts of the snapshot that its lists follow from, bucket by bucket.
    pub(crate) fn parts(&self) -> impl Iterator<Item = (&Bucket, &Lists)> {
        self.buckets.iter().map(|(bucket, lists)| (bucket, lists))
    }

    /// Every patient of the snapshot: id, history, and whether NEW in the total; by id.
    pub(crate) fn all_patients(&self) -> Vec<(i64, History, bool)> {
        let (ids, histories) = (self.patients.ids(), self.histories());
        let lists = &self.total.1;
        let mut all: Vec<(i64, History, bool)> = [
            (CohortKind::New, true),
            (CohortKind::Returning, false),
            (CohortKind::NoShow, false),
            (CohortKind::Canceled, false),
        ]
        .iter()
        .flat_map(|&(kind, new)| lists.patients(kind).iter().map(move |&number| (number as usize, new)))
        .map(|(number, new)| (ids[number], histories[number], new))
        .collect();
        // NEW first among those of one patient: it is the one that stays.
        all.sort_unstable_by_key(|&(id, _, new)| (id, !new));
        all.dedup_by_key(|&mut (id, ..)| id);
        all
    }

    pub(crate) fn patient_id(&self, number: u32) -> i64 {
        self.patients.ids()[number as usize]
    }

    /// The memory that it takes, in bytes, about: what is its own, not the ledger that it may still share.
    #[must_use]
    pub fn bytes(&self) -> usize {
        const VISIT: usize = 8 + 4 + 4 + 1;
        let lists: usize = self
            .buckets
            .iter()
            .map(|(_, lists)| lists)
            .chain([&self.total.1])
            .map(|lists| (lists.visits.len() + lists.patients.len()) * 4 + size_of::<(Bucket, Lists)>())
            .sum();
        let own = match &self.patients {
            Patients::Own(ids, _) => ids.len() * 16,
            Patients::Ledger(_, keys) => keys.ids().len() * 8,
        };
        self.visits.id.len() * VISIT + lists + own + size_of::<Self>()
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
        size_of_val(&*self.patients) + size_of_val(&*self.visits) + size_of::<Self>()
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
