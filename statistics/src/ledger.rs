//! A hospital's visits in columns, in memory, in the order of their days.
//!
//! Beside each visit stand the dates of its patient's first and last attended visit, so that a bucket is one pass over
//! neighbouring memory, without a look-up by patient. Each day is a chunk of its own behind an `Arc`: a changed ledger
//! shares the days that did not change with the one before it, and whoever still reads that one goes on undisturbed. The
//! index of days holds only days with visits, so that one visit dated 1900-01-01 costs one entry and not 46,000.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use super::bits::Bits;
use super::{Day, Filter, VisitChannel, VisitStatus};

/// A visit as the store hands it to the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VisitRow {
    pub id: i64,
    pub patient: i64,
    pub date: Day,
    /// Microseconds since 1970-01-01T00:00:00Z.
    pub scheduled_at: Option<i64>,
    pub status: VisitStatus,
    pub channel: VisitChannel,
    pub department: Option<i64>,
    pub doctor: Option<i64>,
}

impl VisitRow {
    /// The place in a history: by date, then scheduledAt (none first), then id.
    pub(crate) fn history_key(&self) -> (Day, Option<i64>, i64) {
        (self.date, self.scheduled_at, self.id)
    }
}

/// A hospital has more departments, doctors or patients than a ledger can number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the ledger takes at most {limit} {what} of a hospital")]
pub struct TooManyKeys {
    what: &'static str,
    limit: u32,
}

/// The first date of a patient with no attended visit: after every day.
pub(crate) const NEVER_FIRST: i32 = i32::MAX;
/// The last date of a patient with no attended visit: before every day.
pub(crate) const NEVER_LAST: i32 = i32::MIN;

/// The mark of a visit that is its patient's first attended one, beside the status in the same byte.
const FIRST: u8 = 0b1000;
const STATUS: u8 = 0b0111;

/// A bit for each status that is attended, by its place in the order.
const ATTENDED: u8 = 1 << VisitStatus::Completed as u8 | 1 << VisitStatus::Ended as u8;

/// The visits of one day in columns, by id.
#[derive(Default)]
pub(crate) struct Chunk {
    id: Box<[i64]>,
    patient: Box<[u32]>,
    first: Box<[i32]>,
    last: Box<[i32]>,
    mark: Box<[u8]>,
    channel: Box<[u8]>,
    department: Box<[u16]>,
    doctor: Box<[u16]>,
}

impl Chunk {
    pub(crate) fn len(&self) -> usize {
        self.id.len()
    }

    /// The visits, in the order of their ids.
    pub(crate) fn entries(&self) -> impl Iterator<Item = Entry> {
        let ends = self.first.iter().zip(&self.last);
        let places = self.department.iter().zip(&self.doctor);
        let columns = self
            .id
            .iter()
            .zip(&self.patient)
            .zip(ends)
            .zip(&self.mark)
            .zip(&self.channel)
            .zip(places);
        columns.map(
            |(((((&id, &patient), (&first, &last)), &mark), &channel), (&department, &doctor))| Entry {
                id,
                patient,
                first,
                last,
                mark,
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
            mark: entries.iter().map(|e| e.mark).collect(),
            channel: entries.iter().map(|e| e.channel).collect(),
            department: entries.iter().map(|e| e.department).collect(),
            doctor: entries.iter().map(|e| e.doctor).collect(),
        }
    }
}

/// One visit of a chunk.
#[derive(Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) id: i64,
    pub(crate) patient: u32,
    pub(crate) first: i32,
    pub(crate) last: i32,
    mark: u8,
    channel: u8,
    department: u16,
    doctor: u16,
}

impl Entry {
    /// The place of the visit's status in the order of statuses.
    #[inline]
    pub(crate) fn status(&self) -> u8 {
        self.mark & STATUS
    }

    /// Whether the visit was attended.
    #[inline]
    pub(crate) fn attended(&self) -> bool {
        ATTENDED & (1 << self.status()) != 0
    }

    /// Whether the visit is its patient's first attended one.
    #[inline]
    pub(crate) fn is_first(&self) -> bool {
        self.mark & FIRST != 0
    }
}

/// The ids of a kind of record, numbered from 0 in the order in which they were met.
#[derive(Clone, Default)]
pub(crate) struct IdIndex {
    ids: Vec<i64>,
    /// As many of `ids`, from the front, as are in order and found by halving; the rest by `tail`.
    sorted: usize,
    tail: IdNumbers,
}

/// Ids and their numbers.
type IdNumbers = HashMap<i64, u32, BuildHasherDefault<IdHasher>>;

/// A quick hash: one multiplication. The keys are ids and days of the database, which nobody chooses so that they collide.
#[derive(Default)]
struct IdHasher(u64);

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
    /// Keys over ids in order, without repetition.
    fn sorted(ids: Vec<i64>) -> Self {
        Self {
            sorted: ids.len(),
            ids,
            tail: IdNumbers::default(),
        }
    }

    pub(crate) fn ids(&self) -> &[i64] {
        &self.ids
    }

    pub(crate) fn number(&self, id: i64) -> Option<u32> {
        match self.ids[..self.sorted].binary_search(&id) {
            Ok(at) => u32::try_from(at).ok(),
            Err(_) => self.tail.get(&id).copied(),
        }
    }

    /// The number of the id, which is added where it is missing.
    fn number_or_add(&mut self, id: i64, what: &'static str, limit: u32) -> Result<u32, TooManyKeys> {
        if let Some(number) = self.number(id) {
            return Ok(number);
        }
        let number = u32::try_from(self.ids.len()).unwrap_or(u32::MAX);
        if number >= limit {
            return Err(TooManyKeys { what, limit });
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
/// Departments of a hospital at most, and doctors: a ledger numbers them in 16 bits, where 0 says that a visit has none.
pub const MAX_PLACES: u32 = u16::MAX as u32;

/// A day with its visits.
pub(crate) type DayChunk = (Day, Arc<Chunk>);

/// A hospital's visits at one revision.
#[derive(Clone, Default)]
pub struct Ledger {
    /// The days that have visits, in order.
    days: Vec<DayChunk>,
    patients: Arc<IdIndex>,
    departments: Arc<IdIndex>,
    doctors: Arc<IdIndex>,
    visits: usize,
    newest: i64,
}

impl Ledger {
    /// How many visits it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.visits
    }

    /// The highest id of a visit that it ever held: no visit with a higher one had been written then.
    #[must_use]
    pub fn newest_visit(&self) -> i64 {
        self.newest
    }

    /// Whether it holds no visit.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.visits == 0
    }

    /// The memory that it takes, in bytes, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        const COLUMNS: usize = 8 + 4 + 4 + 4 + 1 + 1 + 2 + 2;
        /// A chunk itself with the allocator's share of its eight columns.
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

    /// The days from `from` to `to` that have visits, in order.
    pub(crate) fn days(&self, from: Day, to: Day) -> &[DayChunk] {
        let start = self.days.partition_point(|&(day, _)| day < from);
        let length = self.days[start..].partition_point(|&(day, _)| day <= to);
        &self.days[start..start + length]
    }

    /// The ledger after a change.
    ///
    /// `patients` are all that the change touched (of a moved visit, both), `old_dates` the dates that the touched visits
    /// had before, and `rows` every visit that those patients have now.
    ///
    /// # Errors
    /// Where the hospital has more departments or doctors than the ledger can number.
    pub fn changed(
        &self,
        patients: &BTreeSet<i64>,
        old_dates: &BTreeSet<Day>,
        rows: &[VisitRow],
    ) -> Result<Self, TooManyKeys> {
        let mut next = self.clone();
        next.newest = rows.iter().map(|row| row.id).fold(next.newest, i64::max);
        let mut days: BTreeMap<Day, Vec<Entry>> = old_dates.iter().map(|&day| (day, Vec::new())).collect();
        for (day, entry) in next.entries(rows)? {
            days.entry(day).or_default().push(entry);
        }
        let touched: BTreeSet<u32> = patients.iter().filter_map(|&id| next.patients.number(id)).collect();
        for (day, mut entries) in days {
            let slot = next.days.binary_search_by_key(&day, |&(day, _)| day);
            if let Ok(at) = slot {
                let chunk = &next.days[at].1;
                next.visits -= chunk.len();
                entries.extend(chunk.entries().filter(|entry| !touched.contains(&entry.patient)));
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

    /// The rows as entries of their days; `rows` hold whole histories.
    fn entries(&mut self, rows: &[VisitRow]) -> Result<Vec<(Day, Entry)>, TooManyKeys> {
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
                    mark: mark(row, ends.is_some_and(|(first, _)| first.id == row.id)),
                    channel: row.channel as u8,
                    department: place(&mut self.departments, row.department, "departments")?,
                    doctor: place(&mut self.doctors, row.doctor, "doctors")?,
                };
                Ok((row.date, entry))
            })
            .collect()
    }

    /// What of the filter's departments, doctors and channels occurs here, as a mask to hold visits against.
    pub(crate) fn mask(&self, filter: &Filter) -> Option<FilterMask> {
        let numbers = |keys: &IdIndex, ids: &Option<Vec<i64>>| {
            let count = keys.ids().len() + 1;
            let Some(ids) = ids else { return Bits::full(count) };
            let mut set = Bits::new(count);
            for number in ids.iter().filter_map(|&id| keys.number(id)) {
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

/// A filter in a ledger's own numbers; where it asks for nothing, everything is in the set.
pub(crate) struct FilterMask {
    departments: Bits,
    doctors: Bits,
    channels: u8,
}

impl FilterMask {
    /// Whether the visit passes. All three are looked at: that is faster than to branch on what nothing foretells.
    #[inline]
    pub(crate) fn passes(&self, visit: &Entry) -> bool {
        (self.channels & (1 << visit.channel) != 0)
            & self.departments.contains(u32::from(visit.department))
            & self.doctors.contains(u32::from(visit.doctor))
    }
}

fn mark(row: &VisitRow, first: bool) -> u8 {
    row.status as u8 | if first { FIRST } else { 0 }
}

fn add(keys: &mut Arc<IdIndex>, id: i64, what: &'static str, limit: u32) -> Result<u32, TooManyKeys> {
    match keys.number(id) {
        Some(number) => Ok(number),
        None => Arc::make_mut(keys).number_or_add(id, what, limit),
    }
}

fn place(keys: &mut Arc<IdIndex>, id: Option<i64>, what: &'static str) -> Result<u16, TooManyKeys> {
    let Some(id) = id else { return Ok(0) };
    let number = add(keys, id, what, MAX_PLACES)? + 1;
    u16::try_from(number).map_err(|_| TooManyKeys {
        what,
        limit: MAX_PLACES,
    })
}

/// Makes a ledger of rows that come one by one, in any order.
pub struct LedgerBuilder {
    ledger: Ledger,
    patients: PatientNumbers,
    days: HashMap<Day, Vec<Entry>, BuildHasherDefault<IdHasher>>,
    histories: Vec<HistoryEnds>,
}

/// The numbers of the ledger's patients: more memory than the ledger would keep, and quicker.
#[derive(Default)]
struct PatientNumbers {
    first: i64,
    /// By what an id is more than the first; `u32::MAX` is nobody. Where ids lie so far apart that it would be mostly empty,
    /// there is none.
    table: Vec<u32>,
    more: IdNumbers,
}

impl PatientNumbers {
    /// Of ids in order.
    fn of(ids: &[i64]) -> Self {
        let mut numbers = Self::default();
        let (Some(&first), Some(&last)) = (ids.first(), ids.last()) else {
            return numbers;
        };
        let span = usize::try_from(last.abs_diff(first)).unwrap_or(usize::MAX);
        let numbered = ids.iter().copied().zip(0..);
        if span / 8 > ids.len() {
            numbers.more = numbered.collect();
            return numbers;
        }
        numbers.first = first;
        numbers.table = vec![u32::MAX; span + 1];
        for (id, number) in numbered {
            let place = numbers.place(id);
            numbers.table[place] = number;
        }
        numbers
    }

    fn place(&self, id: i64) -> usize {
        usize::try_from(id.wrapping_sub(self.first)).unwrap_or(usize::MAX)
    }

    fn get(&self, id: i64) -> Option<u32> {
        match self.table.get(self.place(id)) {
            Some(&number) if number != u32::MAX => Some(number),
            _ => self.more.get(&id).copied(),
        }
    }
}

/// The ends of a patient's history while rows come in.
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
    /// A ledger of the patients with these ids. Patients who are met later, in a row, may be missing.
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

    /// Takes one row.
    ///
    /// # Errors
    /// Where the hospital has more departments or doctors than the ledger can number.
    pub fn push(&mut self, row: &VisitRow) -> Result<(), TooManyKeys> {
        let patient = match self.patients.get(row.patient) {
            Some(patient) => patient,
            None => {
                let patient = add(&mut self.ledger.patients, row.patient, "patients", MAX_PATIENTS)?;
                self.patients.more.insert(row.patient, patient);
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
            mark: mark(row, false),
            channel: row.channel as u8,
            department: place(&mut self.ledger.departments, row.department, "departments")?,
            doctor: place(&mut self.ledger.doctors, row.doctor, "doctors")?,
        };
        self.days.entry(row.date).or_default().push(entry);
        self.ledger.newest = self.ledger.newest.max(row.id);
        Ok(())
    }

    /// The ledger of all rows taken.
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
                    entry.mark |= FIRST;
                }
            }
            entries.sort_unstable_by_key(|e| e.id);
            ledger.visits += entries.len();
            ledger.days.push((day, Arc::new(Chunk::from_entries(&entries))));
        }
        ledger
    }
}
