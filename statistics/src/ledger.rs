//! A hospital's visits in memory, in columns, ordered by day.
//!
//! Each visit also stores the dates of its patient's first and last attended visit, so that a bucket is computed in one
//! sequential pass without a look-up by patient. Each day is a separate chunk behind an `Arc`: an updated ledger shares the
//! unchanged days with its predecessor, which its readers can continue to use. Only days with visits have a chunk, so one
//! visit dated 1900-01-01 adds one entry and not 46,000.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use super::bit_set::BitSet;
use super::{Day, Filter, VisitChannel, VisitStatus};

/// A visit, as loaded from the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VisitRow {
    pub id: i64,
    /// The id of the patient.
    pub patient: i64,
    /// The day in the hospital's time zone.
    pub date: Day,
    /// Microseconds since 1970-01-01T00:00:00Z.
    pub scheduled_at: Option<i64>,
    pub status: VisitStatus,
    pub channel: VisitChannel,
    /// The id of the department.
    pub department: Option<i64>,
    /// The id of the doctor.
    pub doctor: Option<i64>,
}

impl VisitRow {
    /// The sort key of a history: date, then scheduledAt (`None` first), then id.
    pub(crate) fn history_key(&self) -> (Day, Option<i64>, i64) {
        (self.date, self.scheduled_at, self.id)
    }
}

/// The hospital has more patients, departments or doctors than a ledger can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a hospital can have at most {limit} {what}")]
pub struct TooManyIds {
    what: &'static str,
    limit: u32,
}

/// The first date of a patient without an attended visit; after every day.
pub(crate) const NEVER_FIRST: i32 = i32::MAX;
/// The last date of a patient without an attended visit; before every day.
pub(crate) const NEVER_LAST: i32 = i32::MIN;

/// The bits of [`Entry::flags`] that hold the status.
const STATUS: u8 = 0b0111;
/// The bit of [`Entry::flags`] of a visit that is its patient's first attended one.
const FIRST: u8 = 0b1000;

/// The set of attended statuses: a bit for each, by discriminant.
const ATTENDED: u8 = {
    assert!(VisitStatus::ALL.len() <= STATUS as usize + 1);
    let (mut set, mut index) = (0, 0);
    while index < VisitStatus::ALL.len() {
        if VisitStatus::ALL[index].attended() {
            set |= 1 << index;
        }
        index += 1;
    }
    set
};

/// The visits of one day in columns, ordered by id.
#[derive(Default)]
pub(crate) struct Chunk {
    id: Box<[i64]>,
    patient: Box<[u32]>,
    first: Box<[i32]>,
    last: Box<[i32]>,
    flags: Box<[u8]>,
    channel: Box<[u8]>,
    department: Box<[u16]>,
    doctor: Box<[u16]>,
}

impl Chunk {
    pub(crate) fn len(&self) -> usize {
        self.id.len()
    }

    /// The visits, ordered by id.
    pub(crate) fn entries(&self) -> impl Iterator<Item = Entry> {
        let ends = self.first.iter().zip(&self.last);
        let dimensions = self.department.iter().zip(&self.doctor);
        let columns = self
            .id
            .iter()
            .zip(&self.patient)
            .zip(ends)
            .zip(&self.flags)
            .zip(&self.channel)
            .zip(dimensions);
        columns.map(
            |(((((&id, &patient), (&first, &last)), &flags), &channel), (&department, &doctor))| Entry {
                id,
                patient,
                first,
                last,
                flags,
                channel,
                department,
                doctor,
            },
        )
    }

    fn from_entries(entries: &[Entry]) -> Self {
        Self {
            id: entries.iter().map(|e| e.id).collect(),
            patient: entries.iter().map(|e| e.patient).collect(),
            first: entries.iter().map(|e| e.first).collect(),
            last: entries.iter().map(|e| e.last).collect(),
            flags: entries.iter().map(|e| e.flags).collect(),
            channel: entries.iter().map(|e| e.channel).collect(),
            department: entries.iter().map(|e| e.department).collect(),
            doctor: entries.iter().map(|e| e.doctor).collect(),
        }
    }
}

/// One visit of a chunk, with numbers of the ledger's [`IdIndex`]es instead of ids.
#[derive(Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) id: i64,
    pub(crate) patient: u32,
    /// The day of the patient's first attended visit, or [`NEVER_FIRST`].
    pub(crate) first: i32,
    /// The day of the patient's last attended visit, or [`NEVER_LAST`].
    pub(crate) last: i32,
    flags: u8,
    /// The discriminant of the channel.
    pub(crate) channel: u8,
    /// The department's number plus 1; 0 without one. The same for the doctor.
    pub(crate) department: u16,
    pub(crate) doctor: u16,
}

impl Entry {
    /// The discriminant of the visit's status.
    #[inline]
    pub(crate) fn status(&self) -> u8 {
        self.flags & STATUS
    }

    /// Whether the visit was attended.
    #[inline]
    pub(crate) fn attended(&self) -> bool {
        ATTENDED & (1 << self.status()) != 0
    }

    /// Whether the visit is its patient's first attended one.
    #[inline]
    pub(crate) fn is_first(&self) -> bool {
        self.flags & FIRST != 0
    }
}

/// Ids of one kind of record, numbered from 0 in the order in which they are added.
#[derive(Clone, Default)]
pub(crate) struct IdIndex {
    ids: Vec<i64>,
    /// The first `sorted` ids are in ascending order and found by binary search; the others are in `tail`.
    sorted: usize,
    tail: IdNumbers,
}

/// Numbers by id.
pub(crate) type IdNumbers = HashMap<i64, u32, BuildHasherDefault<IdHasher>>;

/// A fast hash, by one multiplication. Keys are ids and days from the database, so no protection from chosen collisions is
/// needed.
#[derive(Default)]
pub(crate) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_i64(byte.into());
        }
    }

    fn write_i32(&mut self, key: i32) {
        self.write_i64(key.into());
    }

    fn write_i64(&mut self, key: i64) {
        self.0 = (self.0 ^ key.cast_unsigned()).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }
}

impl IdIndex {
    /// An index of ids that are in ascending order and distinct.
    fn sorted(ids: Vec<i64>) -> Self {
        Self {
            sorted: ids.len(),
            ids,
            tail: IdNumbers::default(),
        }
    }

    /// The ids, by number.
    pub(crate) fn ids(&self) -> &[i64] {
        &self.ids
    }

    /// The number of the id, if it was added.
    pub(crate) fn number(&self, id: i64) -> Option<u32> {
        match self.ids[..self.sorted].binary_search(&id) {
            Ok(at) => u32::try_from(at).ok(),
            Err(_) => self.tail.get(&id).copied(),
        }
    }

    /// The number of the id, which is added if it is missing. `limit` is the maximum number of ids.
    fn number_or_add(&mut self, id: i64, what: &'static str, limit: u32) -> Result<u32, TooManyIds> {
        if let Some(number) = self.number(id) {
            return Ok(number);
        }
        let number = u32::try_from(self.ids.len()).unwrap_or(u32::MAX);
        if number >= limit {
            return Err(TooManyIds { what, limit });
        }
        self.ids.push(id);
        self.tail.insert(id, number);
        Ok(number)
    }

    fn bytes(&self) -> usize {
        self.ids.capacity() * size_of::<i64>() + self.tail.capacity() * 24
    }
}

const MAX_PATIENTS: u32 = u32::MAX;
/// The maximum number of departments of a hospital, and of doctors: a ledger numbers them with 16 bits, and 0 means none.
pub const MAX_DIMENSION_IDS: u32 = u16::MAX as u32;

/// A day with its visits.
pub(crate) type DayChunk = (Day, Arc<Chunk>);

/// A hospital's visits at one revision.
#[derive(Clone, Default)]
pub struct Ledger {
    /// The days that have visits, ascending.
    days: Vec<DayChunk>,
    patients: Arc<IdIndex>,
    departments: Arc<IdIndex>,
    doctors: Arc<IdIndex>,
    /// The number of visits.
    visits: usize,
    /// The highest id of a visit ever held.
    newest_visit: i64,
}

impl Ledger {
    /// The number of visits.
    #[must_use]
    pub fn len(&self) -> usize {
        self.visits
    }

    /// The highest id of a visit that this ledger or a predecessor held; 0 without one. Visits with higher ids were written later.
    #[must_use]
    pub fn newest_visit(&self) -> i64 {
        self.newest_visit
    }

    /// Whether there is no visit.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.visits == 0
    }

    /// The approximate size in memory, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        const COLUMNS: usize = 8 + 4 + 4 + 4 + 1 + 1 + 2 + 2;
        /// A chunk, with the allocator's overhead for its eight columns.
        const CHUNK: usize = size_of::<Chunk>() + 8 * 8 + 16;
        self.visits * COLUMNS
            + self.days.len() * CHUNK
            + self.days.capacity() * size_of::<DayChunk>()
            + self.patients.bytes()
            + self.departments.bytes()
            + self.doctors.bytes()
    }

    pub(crate) fn patients(&self) -> &Arc<IdIndex> {
        &self.patients
    }

    /// The ids of departments, by number.
    pub(crate) fn departments(&self) -> &[i64] {
        self.departments.ids()
    }

    /// The ids of doctors, by number.
    pub(crate) fn doctors(&self) -> &[i64] {
        self.doctors.ids()
    }

    /// The days from `from` to `to`, both inclusive, that have visits, ascending.
    pub(crate) fn days(&self, from: Day, to: Day) -> &[DayChunk] {
        let start = self.days.partition_point(|&(day, _)| day < from);
        let length = self.days[start..].partition_point(|&(day, _)| day <= to);
        &self.days[start..start + length]
    }

    /// The ledger after a change of visits.
    ///
    /// `patients` are the ids of all patients whose visits changed (for a visit that moved to another patient, both),
    /// `old_dates` are the previous dates of the changed visits, and `rows` are all current visits of these patients.
    ///
    /// # Errors
    /// If the hospital has more departments or doctors than [`MAX_DIMENSION_IDS`].
    pub fn changed(
        &self,
        patients: &BTreeSet<i64>,
        old_dates: &BTreeSet<Day>,
        rows: &[VisitRow],
    ) -> Result<Self, TooManyIds> {
        let mut next = self.clone();
        next.newest_visit = rows.iter().map(|row| row.id).fold(next.newest_visit, i64::max);
        let mut days: BTreeMap<Day, Vec<Entry>> = old_dates.iter().map(|&day| (day, Vec::new())).collect();
        for (day, entry) in next.entries(rows)? {
            days.entry(day).or_default().push(entry);
        }
        let changed: BTreeSet<u32> = patients.iter().filter_map(|&id| next.patients.number(id)).collect();
        for (day, mut entries) in days {
            let slot = next.days.binary_search_by_key(&day, |&(day, _)| day);
            if let Ok(at) = slot {
                let chunk = &next.days[at].1;
                next.visits -= chunk.len();
                entries.extend(chunk.entries().filter(|entry| !changed.contains(&entry.patient)));
            }
            next.visits += entries.len();
            entries.sort_unstable_by_key(|e| e.id);
            let chunk = || Arc::new(Chunk::from_entries(&entries));
            match slot {
                Ok(at) if entries.is_empty() => drop(next.days.remove(at)),
                Ok(at) => next.days[at].1 = chunk(),
                Err(_) if entries.is_empty() => {}
                Err(at) => next.days.insert(at, (day, chunk())),
            }
        }
        Ok(next)
    }

    /// The rows as entries with their days. `rows` must have all visits of each patient that occurs.
    fn entries(&mut self, rows: &[VisitRow]) -> Result<Vec<(Day, Entry)>, TooManyIds> {
        let mut histories: HashMap<i64, (&VisitRow, &VisitRow)> = HashMap::new();
        for row in rows.iter().filter(|row| row.status.attended()) {
            let ends = histories.entry(row.patient).or_insert((row, row));
            if row.history_key() < ends.0.history_key() {
                ends.0 = row;
            }
            if row.history_key() > ends.1.history_key() {
                ends.1 = row;
            }
        }
        rows.iter()
            .map(|row| {
                let ends = histories.get(&row.patient);
                let entry = Entry {
                    id: row.id,
                    patient: add(&mut self.patients, row.patient, "patients", MAX_PATIENTS)?,
                    first: ends.map_or(NEVER_FIRST, |(first, _)| first.date.0),
                    last: ends.map_or(NEVER_LAST, |(_, last)| last.date.0),
                    flags: flags(row, ends.is_some_and(|(first, _)| first.id == row.id)),
                    channel: row.channel as u8,
                    department: dimension_number(&mut self.departments, row.department, "departments")?,
                    doctor: dimension_number(&mut self.doctors, row.doctor, "doctors")?,
                };
                Ok((row.date, entry))
            })
            .collect()
    }

    /// The filter in this ledger's numbers; `None` if every visit passes.
    pub(crate) fn mask(&self, filter: &Filter) -> Option<FilterMask> {
        let numbers = |index: &IdIndex, ids: &Option<Vec<i64>>| {
            let count = index.ids().len() + 1;
            let Some(ids) = ids else { return BitSet::full(count) };
            let mut set = BitSet::new(count);
            for number in ids.iter().filter_map(|&id| index.number(id)) {
                set.insert(number + 1);
            }
            set
        };
        let channels = |channels: &Vec<VisitChannel>| channels.iter().fold(0, |set, &channel| set | 1 << channel as u8);
        (!filter.is_empty()).then(|| FilterMask {
            departments: numbers(&self.departments, &filter.departments),
            doctors: numbers(&self.doctors, &filter.doctors),
            channels: filter.channels.as_ref().map_or(u8::MAX, channels),
        })
    }
}

/// A filter in a ledger's numbers. The set of a dimension that is not filtered has everything.
pub(crate) struct FilterMask {
    departments: BitSet,
    doctors: BitSet,
    channels: u8,
}

impl FilterMask {
    /// Whether the visit passes. All three conditions are evaluated, since the branch predictor cannot predict them.
    #[inline]
    pub(crate) fn passes(&self, visit: &Entry) -> bool {
        (self.channels & (1 << visit.channel) != 0)
            & self.departments.contains(u32::from(visit.department))
            & self.doctors.contains(u32::from(visit.doctor))
    }
}

fn flags(row: &VisitRow, first: bool) -> u8 {
    row.status as u8 | if first { FIRST } else { 0 }
}

/// The number of the id, which is added if it is missing.
fn add(ids: &mut Arc<IdIndex>, id: i64, what: &'static str, limit: u32) -> Result<u32, TooManyIds> {
    match ids.number(id) {
        Some(number) => Ok(number),
        None => Arc::make_mut(ids).number_or_add(id, what, limit),
    }
}

/// The number of a department or doctor plus 1; 0 for none.
fn dimension_number(ids: &mut Arc<IdIndex>, id: Option<i64>, what: &'static str) -> Result<u16, TooManyIds> {
    let Some(id) = id else { return Ok(0) };
    let number = add(ids, id, what, MAX_DIMENSION_IDS)? + 1;
    u16::try_from(number).map_err(|_| TooManyIds {
        what,
        limit: MAX_DIMENSION_IDS,
    })
}

/// Builds a ledger from rows in any order.
pub struct LedgerBuilder {
    ledger: Ledger,
    patients: PatientNumbers,
    days: HashMap<Day, Vec<Entry>, BuildHasherDefault<IdHasher>>,
    histories: Vec<HistoryEnds>,
}

/// The numbers of patients during a build: uses more memory than [`IdIndex`], and is faster.
#[derive(Default)]
struct PatientNumbers {
    /// The lowest id, at position 0 of `table`.
    first: i64,
    /// Numbers by id, offset by `first`; `u32::MAX` is no number. Empty if ids are so sparse that it would be mostly unused.
    table: Vec<u32>,
    /// The numbers of ids that are not in `table`.
    rest: IdNumbers,
}

impl PatientNumbers {
    /// Numbers ids that are in ascending order, from 0.
    fn of(ids: &[i64]) -> Self {
        let mut numbers = Self::default();
        let (Some(&first), Some(&last)) = (ids.first(), ids.last()) else {
            return numbers;
        };
        let range = usize::try_from(last.abs_diff(first)).unwrap_or(usize::MAX);
        let numbered = ids.iter().copied().zip(0..);
        if range / 8 > ids.len() {
            numbers.rest = numbered.collect();
            return numbers;
        }
        numbers.first = first;
        numbers.table = vec![u32::MAX; range + 1];
        for (id, number) in numbered {
            let offset = numbers.offset(id);
            numbers.table[offset] = number;
        }
        numbers
    }

    fn offset(&self, id: i64) -> usize {
        usize::try_from(id.wrapping_sub(self.first)).unwrap_or(usize::MAX)
    }

    fn get(&self, id: i64) -> Option<u32> {
        match self.table.get(self.offset(id)) {
            Some(&number) if number != u32::MAX => Some(number),
            _ => self.rest.get(&id).copied(),
        }
    }
}

/// The first visit (as a history key) and the last day of a patient's history, of the rows so far.
#[derive(Clone, Copy)]
struct HistoryEnds {
    first: (Day, Option<i64>, i64),
    last: Day,
}

impl HistoryEnds {
    const NONE: Self = Self {
        first: (Day(NEVER_FIRST), None, 0),
        last: Day(NEVER_LAST),
    };
}

impl LedgerBuilder {
    /// Starts a ledger of the patients with these ids. Patients that are missing here are added when a row has them.
    #[must_use]
    pub fn new(mut patients: Vec<i64>) -> Self {
        patients.sort_unstable();
        patients.dedup();
        patients.shrink_to_fit();
        Self {
            histories: vec![HistoryEnds::NONE; patients.len()],
            patients: PatientNumbers::of(&patients),
            ledger: Ledger {
                patients: Arc::new(IdIndex::sorted(patients)),
                ..Ledger::default()
            },
            days: HashMap::default(),
        }
    }

    /// Adds a visit.
    ///
    /// # Errors
    /// If the hospital has more departments or doctors than [`MAX_DIMENSION_IDS`].
    pub fn push(&mut self, row: &VisitRow) -> Result<(), TooManyIds> {
        let patient = match self.patients.get(row.patient) {
            Some(patient) => patient,
            None => {
                let patient = add(&mut self.ledger.patients, row.patient, "patients", MAX_PATIENTS)?;
                self.patients.rest.insert(row.patient, patient);
                self.histories.push(HistoryEnds::NONE);
                patient
            }
        };
        if row.status.attended() {
            let history = &mut self.histories[patient as usize];
            history.first = history.first.min(row.history_key());
            history.last = history.last.max(row.date);
        }
        let entry = Entry {
            id: row.id,
            patient,
            first: 0,
            last: 0,
            flags: flags(row, false),
            channel: row.channel as u8,
            department: dimension_number(&mut self.ledger.departments, row.department, "departments")?,
            doctor: dimension_number(&mut self.ledger.doctors, row.doctor, "doctors")?,
        };
        self.days.entry(row.date).or_default().push(entry);
        self.ledger.newest_visit = self.ledger.newest_visit.max(row.id);
        Ok(())
    }

    /// The ledger of all rows added.
    #[must_use]
    pub fn finish(self) -> Ledger {
        let Self {
            mut ledger,
            days,
            histories,
            ..
        } = self;
        let mut days: Vec<_> = days.into_iter().collect();
        days.sort_unstable_by_key(|&(day, _)| day);
        ledger.days.reserve_exact(days.len());
        for (day, mut entries) in days {
            for entry in &mut entries {
                let history = &histories[entry.patient as usize];
                entry.first = history.first.0.0;
                entry.last = history.last.0;
                if (history.first.0, history.first.2) == (day, entry.id) {
                    entry.flags |= FIRST;
                }
            }
            entries.sort_unstable_by_key(|e| e.id);
            ledger.visits += entries.len();
            ledger.days.push((day, Arc::new(Chunk::from_entries(&entries))));
        }
        ledger
    }
}
