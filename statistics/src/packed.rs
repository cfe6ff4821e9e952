//! A snapshot as bytes, to be kept.
//!
//! Of each bucket its visits are kept (id, patient, date, status), and once the patients (id, history, whether NEW in the
//! total). Everything else follows: which segment a visit is in, in its bucket and in the total, is derived by the same rules
//! that resolved it. A bucket's bytes depend on its visits alone, so that snapshots which share a bucket can share them.

use std::collections::HashMap;

use super::calendar::Bucket;
use super::cohort::Segment;
use super::resolve::segment_of_new;
use super::snapshot::{Assembler, ClassifiedVisit, History, PatientIndex, Snapshot};
use super::{Day, Definition, Question, VisitStatus, WeekStart};

/// A snapshot's lists as bytes.
#[derive(Debug, PartialEq, Eq)]
pub struct PackedSnapshot {
    /// One a bucket, in their order; empty where the bucket holds no visit.
    pub buckets: Vec<Vec<u8>>,
    pub patients: Vec<u8>,
}

/// The bytes are not those of a snapshot of this question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a stored snapshot cannot be read: {0}")]
pub struct UnpackError(&'static str);

const SHORT: UnpackError = UnpackError("it is cut short");
const WRONG: UnpackError = UnpackError("a value is out of bounds");

impl Snapshot {
    /// The snapshot's lists as bytes.
    #[must_use]
    pub fn pack(&self) -> PackedSnapshot {
        let mut start = 0;
        let buckets = self
            .parts()
            .map(|(_, lists)| {
                let end = start + lists.visits.len();
                let bytes = self.pack_visits(start, end);
                start = end;
                bytes
            })
            .collect();
        let mut patients = Vec::new();
        let all = self.all_patients();
        write(&mut patients, all.len() as u64);
        let mut before = 0;
        for (id, history, new) in all {
            write_signed(&mut patients, id.wrapping_sub(before));
            before = id;
            if history == History::NONE {
                write(&mut patients, 0);
            } else {
                let length = u64::from(history.last.abs_diff(history.first));
                write(&mut patients, 1 + u64::from(new) + 2 * length);
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
        let visits = &self.visits;
        for (day, places) in visits.by_day(start..end) {
            write_signed(&mut bytes, i64::from(day.0));
            write(&mut bytes, places.len() as u64);
            let (mut id, mut patient) = (0, 0);
            for i in places {
                write_signed(&mut bytes, visits.id[i].wrapping_sub(id));
                id = visits.id[i];
                let whose = self.patient_id(visits.patient[i]);
                write_signed(&mut bytes, whose.wrapping_sub(patient));
                patient = whose;
                bytes.push(visits.status[i]);
            }
        }
        bytes
    }

    /// The snapshot of these bytes.
    ///
    /// # Errors
    /// Where the bytes are not those of a snapshot of this question.
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
            return Err(UnpackError("it has another number of buckets"));
        }
        let mut assembler = Assembler::new(buckets.len(), 0);
        for (bucket, bytes) in buckets.iter().zip(&packed.buckets) {
            let mut reader = Reader(bytes);
            while !reader.0.is_empty() {
                let day = Day(i32::try_from(reader.signed()?).map_err(|_| WRONG)?);
                let covered = bucket.covered.filter(|days| days.contains(day)).ok_or(WRONG)?;
                let (mut id, mut patient) = (0_i64, 0_i64);
                for _ in 0..reader.unsigned()? {
                    id = id.wrapping_add(reader.signed()?);
                    patient = patient.wrapping_add(reader.signed()?);
                    let status = VisitStatus::from_index(reader.byte()?).ok_or(WRONG)?;
                    let number = *numbers.get(&patient).ok_or(WRONG)?;
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
        Ok(assembler.finish(
            question,
            definition,
            week_start,
            total,
            PatientIndex::Own(ids, histories),
        ))
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
        let first = i64::from(as_of.0).checked_sub(reader.signed()?).ok_or(WRONG)?;
        let last = first.checked_add_unsigned(length).ok_or(WRONG)?;
        let history = History {
            first: i32::try_from(first).map_err(|_| WRONG)?,
            last: i32::try_from(last).map_err(|_| WRONG)?,
        };
        all.push((id, history, new));
    }
    Ok(all)
}

/// Seven bits a byte, the lowest first, the highest bit set on all but the last.
fn write(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    bytes.push(value.to_le_bytes()[0]);
}

/// Small numbers of either sign in few bytes.
fn write_signed(bytes: &mut Vec<u8>, value: i64) {
    write(bytes, ((value << 1) ^ (value >> 63)).cast_unsigned());
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn byte(&mut self) -> Result<u8, UnpackError> {
        let (&byte, rest) = self.0.split_first().ok_or(SHORT)?;
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
        Err(WRONG)
    }

    fn signed(&mut self) -> Result<i64, UnpackError> {
        let value = self.unsigned()?;
        Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }
}
