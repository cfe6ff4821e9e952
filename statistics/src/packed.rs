//! A snapshot's lists as bytes, for storage.
//!
//! Stored are the visits of each bucket (id, patient, date, status, channel, department, doctor), and the patients once (id, history, whether NEW in the
//! total). The segments of visits are derived from these when unpacking. The bytes of a bucket depend on its visits only, so
//! snapshots with an equal bucket can share them.
//!
//! Integers are written as LEB128: 7 bits a byte, lowest first, with the highest bit set on all bytes but the last. Signed
//! integers are zigzag-encoded first. Ids are written as differences from the previous one.

use std::collections::HashMap;
use std::sync::OnceLock;

use super::calendar::Bucket;
use super::cohort::Segment;
use super::resolve::segment_of_new;
use super::snapshot::{
    Assembler, ClassifiedVisit, CohortList, CountedPatient, CountedVisit, History, KeyColumns, PatientIndex, Snapshot,
};
use super::{Day, Definition, Question, VisitChannel, VisitStatus, WeekStart};

/// The lists of a snapshot as bytes.
#[derive(Debug, PartialEq, Eq)]
pub struct PackedSnapshot {
    /// The visits of each bucket, in order; empty for a bucket without visits.
    pub buckets: Vec<Vec<u8>>,
    /// The patients of all buckets, with their histories.
    pub patients: Vec<u8>,
}

/// The bytes are not a packed snapshot of this question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a stored snapshot cannot be read: {0}")]
pub struct UnpackError(&'static str);

/// Begins the visits of a bucket with channels, departments and doctors; without it, they are those of an earlier version, which had
/// none. No visit is of this day.
const WITH_KEYS: i64 = -1;
/// The place of the channel in the byte that has the status too.
const CHANNEL_SHIFT: u32 = 3;

const TRUNCATED: UnpackError = UnpackError("it is truncated");
const OUT_OF_BOUNDS: UnpackError = UnpackError("a value is out of bounds");

impl Snapshot {
    /// Encodes the lists.
    #[must_use]
    pub fn pack(&self) -> PackedSnapshot {
        let mut start = 0;
        let buckets = self
            .buckets()
            .map(|(_, lists)| {
                let end = start + lists.visits.len();
                let bytes = self.pack_visits(start, end);
                start = end;
                bytes
            })
            .collect();
        let mut patients = Vec::new();
        let all = self.all_patients();
        write_unsigned(&mut patients, all.len() as u64);
        let mut previous = 0;
        for (id, history, new) in all {
            write_signed(&mut patients, id.wrapping_sub(previous));
            previous = id;
            if history == History::NONE {
                write_unsigned(&mut patients, 0);
            } else {
                let length = u64::from(history.last.abs_diff(history.first));
                write_unsigned(&mut patients, 1 + u64::from(new) + 2 * length);
                write_signed(
                    &mut patients,
                    i64::from(self.question().as_of.0) - i64::from(history.first),
                );
            }
        }
        PackedSnapshot { buckets, patients }
    }

    fn pack_visits(&self, start: usize, end: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        let (visits, keys) = (&self.visits, self.keys());
        if keys.is_some() && start < end {
            write_signed(&mut bytes, WITH_KEYS);
        }
        for (day, indexes) in visits.by_day(start..end) {
            write_signed(&mut bytes, i64::from(day.0));
            write_unsigned(&mut bytes, indexes.len() as u64);
            let (mut id, mut patient) = (0, 0);
            for i in indexes {
                write_signed(&mut bytes, visits.id[i].wrapping_sub(id));
                id = visits.id[i];
                let patient_id = self.patient_id(visits.patient[i]);
                write_signed(&mut bytes, patient_id.wrapping_sub(patient));
                patient = patient_id;
                let Some(keys) = keys else {
                    bytes.push(visits.status[i]);
                    continue;
                };
                bytes.push(visits.status[i] | keys.channel[i] << CHANNEL_SHIFT);
                let (department, doctor) = keys.ids(i);
                write_unsigned(&mut bytes, department.unwrap_or(0).cast_unsigned());
                write_unsigned(&mut bytes, doctor.unwrap_or(0).cast_unsigned());
            }
        }
        bytes
    }

    /// Decodes a snapshot. The other arguments must be those that it was computed with.
    ///
    /// # Errors
    /// If the bytes are truncated, have another number of buckets than the question, or have values out of bounds.
    pub fn unpack(
        packed: &PackedSnapshot,
        question: Question,
        definition: Definition,
        week_start: WeekStart,
    ) -> Result<Self, UnpackError> {
        let all = unpack_patients(&packed.patients, question.as_of)?;
        let numbers: HashMap<i64, u32> = all.iter().map(|&(id, ..)| id).zip(0..).collect();
        let total = Bucket::new(question.range, question.range, question.as_of);
        let buckets = Bucket::all(question.period, question.range, week_start, question.as_of);
        if buckets.len() != packed.buckets.len() {
            return Err(UnpackError("it has the wrong number of buckets"));
        }
        let mut assembler = Assembler::new(buckets.len(), 0);
        let mut keys = Some(KeyReader::default());
        for (bucket, bytes) in buckets.iter().zip(&packed.buckets) {
            let mut reader = Reader(bytes);
            let mut after_marker = Reader(bytes);
            let keyed = !bytes.is_empty() && after_marker.signed()? == WITH_KEYS;
            if keyed {
                reader = after_marker;
            } else if !bytes.is_empty() {
                keys = None;
            }
            while !reader.0.is_empty() {
                let day = Day(i32::try_from(reader.signed()?).map_err(|_| OUT_OF_BOUNDS)?);
                let covered = bucket.covered.filter(|days| days.contains(day)).ok_or(OUT_OF_BOUNDS)?;
                let (mut id, mut patient) = (0_i64, 0_i64);
                for _ in 0..reader.unsigned()? {
                    id = id.wrapping_add(reader.signed()?);
                    patient = patient.wrapping_add(reader.signed()?);
                    let code = reader.byte()?;
                    let status = if keyed { code & ((1 << CHANNEL_SHIFT) - 1) } else { code };
                    let status = VisitStatus::from_index(status).ok_or(OUT_OF_BOUNDS)?;
                    if keyed {
                        let (department, doctor) = (reader.unsigned()?, reader.unsigned()?);
                        if let Some(keys) = &mut keys {
                            keys.push(code >> CHANNEL_SHIFT, department, doctor)?;
                        }
                    }
                    let number = *numbers.get(&patient).ok_or(OUT_OF_BOUNDS)?;
                    let (_, history, new) = all[number as usize];
                    let (in_bucket, in_total) = match status {
                        VisitStatus::Canceled => (Segment::Canceled, Segment::Canceled),
                        status if !status.attended() => (Segment::NoShow, Segment::NoShow),
                        _ if !new => (Segment::Returning, Segment::Returning),
                        _ => {
                            let segment = segment_of_new(history.first, history.last, question.as_of, &definition);
                            let in_bucket = if history.first >= covered.from.0 {
                                segment
                            } else {
                                Segment::Returning
                            };
                            (in_bucket, segment)
                        }
                    };
                    assembler.visit(ClassifiedVisit {
                        id,
                        patient: number,
                        day,
                        status: status as u8,
                        in_bucket,
                        in_total,
                    });
                }
            }
            assembler.end_bucket(*bucket);
        }
        let (ids, histories) = all.into_iter().map(|(id, history, _)| (id, history)).unzip();
        let patients = PatientIndex::Own(ids, histories);
        let mut snapshot = assembler.finish(question, definition, week_start, total, patients);
        snapshot.keys = OnceLock::from(keys.map(|keys| keys.columns));
        Ok(snapshot)
    }
}

/// Collects the keys of visits.
#[derive(Default)]
struct KeyReader {
    columns: KeyColumns,
    departments: HashMap<u64, u16>,
    doctors: HashMap<u64, u16>,
}

impl KeyReader {
    fn push(&mut self, channel: u8, department: u64, doctor: u64) -> Result<(), UnpackError> {
        VisitChannel::from_index(channel).ok_or(OUT_OF_BOUNDS)?;
        let place = |places: &mut HashMap<u64, u16>, ids: &mut Vec<i64>, id: u64| {
            if id == 0 {
                return Ok(0);
            }
            if let Some(&place) = places.get(&id) {
                return Ok(place);
            }
            ids.push(i64::try_from(id).map_err(|_| OUT_OF_BOUNDS)?);
            let place = u16::try_from(ids.len()).map_err(|_| OUT_OF_BOUNDS)?;
            places.insert(id, place);
            Ok(place)
        };
        let columns = &mut self.columns;
        columns
            .department
            .push(place(&mut self.departments, &mut columns.departments, department)?);
        columns
            .doctor
            .push(place(&mut self.doctors, &mut columns.doctors, doctor)?);
        columns.channel.push(channel);
        Ok(())
    }
}

impl CohortList {
    /// Encodes the list: the number of patients, each with its history, and the visits.
    #[must_use]
    pub fn pack(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        write_unsigned(&mut bytes, self.patients.len() as u64);
        let mut previous = 0;
        for patient in &self.patients {
            write_signed(&mut bytes, patient.id.wrapping_sub(previous));
            previous = patient.id;
            match patient.first_visit.zip(patient.last_visit) {
                None => write_unsigned(&mut bytes, 0),
                Some((first, last)) => {
                    write_unsigned(&mut bytes, 1 + u64::from(last.0.abs_diff(first.0)));
                    write_signed(&mut bytes, i64::from(first.0));
                }
            }
        }
        let (mut id, mut patient) = (0, 0);
        for visit in &self.visits {
            write_signed(&mut bytes, visit.id.wrapping_sub(id));
            id = visit.id;
            write_signed(&mut bytes, visit.patient.wrapping_sub(patient));
            patient = visit.patient;
            write_signed(&mut bytes, i64::from(visit.date.0));
            bytes.push(visit.status as u8);
        }
        bytes
    }

    /// Decodes a list.
    ///
    /// # Errors
    /// If the bytes are truncated or have values out of bounds.
    pub fn unpack(bytes: &[u8]) -> Result<Self, UnpackError> {
        let day = |value: i64| i32::try_from(value).map(Day).map_err(|_| OUT_OF_BOUNDS);
        let mut reader = Reader(bytes);
        let count = reader.unsigned()?;
        let mut list = Self::default();
        let mut id = 0_i64;
        for _ in 0..count {
            id = id.wrapping_add(reader.signed()?);
            let ends = match reader.unsigned()? {
                0 => None,
                code => {
                    let first = reader.signed()?;
                    let last = first.checked_add_unsigned(code - 1).ok_or(OUT_OF_BOUNDS)?;
                    Some((day(first)?, day(last)?))
                }
            };
            list.patients.push(CountedPatient {
                id,
                first_visit: ends.map(|ends| ends.0),
                last_visit: ends.map(|ends| ends.1),
                visits: 0,
            });
        }
        let (mut id, mut patient) = (0_i64, 0_i64);
        while !reader.0.is_empty() {
            id = id.wrapping_add(reader.signed()?);
            patient = patient.wrapping_add(reader.signed()?);
            let place = list.patients.binary_search_by_key(&patient, |patient| patient.id);
            list.patients[place.map_err(|_| OUT_OF_BOUNDS)?].visits += 1;
            list.visits.push(CountedVisit {
                id,
                patient,
                date: day(reader.signed()?)?,
                status: VisitStatus::from_index(reader.byte()?).ok_or(OUT_OF_BOUNDS)?,
            });
        }
        Ok(list)
    }
}

fn unpack_patients(bytes: &[u8], as_of: Day) -> Result<Vec<(i64, History, bool)>, UnpackError> {
    let mut reader = Reader(bytes);
    let count = reader.unsigned()?;
    let mut all = Vec::new();
    let mut id = 0_i64;
    for _ in 0..count {
        id = id.wrapping_add(reader.signed()?);
        let code = reader.unsigned()?;
        if code == 0 {
            all.push((id, History::NONE, false));
            continue;
        }
        let (new, length) = ((code - 1) % 2 == 1, (code - 1) / 2);
        let first = i64::from(as_of.0).checked_sub(reader.signed()?).ok_or(OUT_OF_BOUNDS)?;
        let last = first.checked_add_unsigned(length).ok_or(OUT_OF_BOUNDS)?;
        let history = History {
            first: i32::try_from(first).map_err(|_| OUT_OF_BOUNDS)?,
            last: i32::try_from(last).map_err(|_| OUT_OF_BOUNDS)?,
        };
        all.push((id, history, new));
    }
    Ok(all)
}

/// Appends an unsigned integer.
pub(crate) fn write_unsigned(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    bytes.push(value.to_le_bytes()[0]);
}

/// Appends a signed integer.
fn write_signed(bytes: &mut Vec<u8>, value: i64) {
    write_unsigned(bytes, ((value << 1) ^ (value >> 63)).cast_unsigned());
}

/// The bytes that are not decoded yet.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    /// Bytes that come after their length.
    pub(crate) fn part(&mut self) -> Result<&'a [u8], UnpackError> {
        let length = usize::try_from(self.unsigned()?).map_err(|_| OUT_OF_BOUNDS)?;
        let (part, rest) = self.0.split_at_checked(length).ok_or(TRUNCATED)?;
        self.0 = rest;
        Ok(part)
    }

    fn byte(&mut self) -> Result<u8, UnpackError> {
        let (&byte, rest) = self.0.split_first().ok_or(TRUNCATED)?;
        self.0 = rest;
        Ok(byte)
    }

    fn unsigned(&mut self) -> Result<u64, UnpackError> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(OUT_OF_BOUNDS)
    }

    fn signed(&mut self) -> Result<i64, UnpackError> {
        let value = self.unsigned()?;
        Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }
}
