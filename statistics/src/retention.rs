//! Retention: of the new patients of each bucket, who came in which calendar unit after.

use super::ledger::{Entry, Ledger};
use super::packed::{Reader, UnpackError, write_unsigned};
use super::snapshot::{CohortList, CountedPatient, CountedVisit, Snapshot};
use super::{BucketRef, CohortKind, Day, DayRange, Period, VisitStatus};

/// The cells of a snapshot's buckets: a row for each bucket, with the bucket's own unit first.
pub struct Retention {
    rows: Vec<Vec<Cell>>,
}

/// A calendar unit, and those of a row's new patients who came in it.
pub struct Cell {
    /// Units after the row's; 0 for its own.
    pub offset: u32,
    /// The whole unit.
    pub bounds: DayRange,
    patients: Vec<CountedPatient>,
    visits: Vec<CountedVisit>,
}

impl Cell {
    fn new(offset: u32, bounds: DayRange) -> Self {
        Self {
            offset,
            bounds,
            patients: Vec::new(),
            visits: Vec::new(),
        }
    }

    /// The number of patients.
    #[must_use]
    pub fn patient_count(&self) -> usize {
        self.patients.len()
    }

    /// The number of visits.
    #[must_use]
    pub fn visit_count(&self) -> usize {
        self.visits.len()
    }

    /// Both lists.
    #[must_use]
    pub fn list(&self) -> CohortList {
        let (mut patients, mut visits) = (self.patients.clone(), self.visits.clone());
        patients.sort_unstable_by_key(|patient| patient.id);
        visits.sort_unstable_by_key(|visit| visit.id);
        CohortList { patients, visits }.counted()
    }
}

/// The first unit that cells of a period have: by DAY, nobody comes on a later day of the same unit.
const fn first_offset(period: Period) -> u32 {
    match period {
        Period::Day => 1,
        _ => 0,
    }
}

impl Retention {
    /// The cells of the snapshot up to `horizon` units after each bucket, in one pass over the visits of the ledger, which must be the one
    /// that the snapshot was resolved from. Units that begin after asOf are left out.
    #[must_use]
    pub fn new(ledger: &Ledger, snapshot: &Snapshot, horizon: u32) -> Self {
        let mut retention = Self::empty(snapshot, horizon);
        let question = snapshot.question();
        let index = ledger.patients();
        let numbers = index.ids().len();
        // By patient: the row, from 1, and the places of the history that an edge shows.
        let mut row_of = vec![0_u32; numbers];
        let mut history: Vec<(i32, i32)> = vec![(0, 0); numbers];
        for (row, at) in (1..).zip((0..).take(snapshot.len()).map(BucketRef::At)) {
            for (id, of_patient) in snapshot.patient_histories(at, CohortKind::New) {
                if let Some(number) = index.number(id) {
                    row_of[number as usize] = row;
                    history[number as usize] = (of_patient.first, of_patient.last);
                }
            }
        }
        let mask = ledger.mask(&question.filter);
        // By patient: the unit, from 1, in which it was last listed.
        let mut listed = vec![0_u32; numbers];
        let start = question.period.unit_of(question.range.from, snapshot.week_start()).from;
        let (mut unit, mut bounds) = (0_u32, question.period.unit_of(start, snapshot.week_start()));
        let last_unit = u32::try_from(snapshot.len())
            .unwrap_or(u32::MAX)
            .saturating_add(horizon);
        for (day, chunk) in ledger.days(start, question.as_of) {
            while bounds.to < *day {
                bounds = question.period.unit_of(Day(bounds.to.0 + 1), snapshot.week_start());
                unit += 1;
            }
            if unit >= last_unit {
                break;
            }
            for visit in chunk.entries().filter(Entry::attended) {
                let number = visit.patient as usize;
                let Some(row) = row_of[number].checked_sub(1) else {
                    continue;
                };
                let Some(offset) = unit.checked_sub(row).filter(|&offset| offset <= horizon) else {
                    continue;
                };
                let (first, last) = history[number];
                if offset == 0 && day.0 <= first || mask.as_ref().is_some_and(|mask| !mask.passes(&visit)) {
                    continue;
                }
                let first_cell = first_offset(question.period);
                let place = offset.checked_sub(first_cell);
                let cells = &mut retention.rows[row as usize];
                let Some(cell) = place.and_then(|place| cells.get_mut(place as usize)) else {
                    continue;
                };
                let id = index.ids()[number];
                if listed[number] != unit + 1 {
                    listed[number] = unit + 1;
                    cell.patients.push(CountedPatient {
                        id,
                        first_visit: Some(Day(first)),
                        last_visit: Some(Day(last)),
                        visits: 0,
                    });
                }
                cell.visits.push(CountedVisit {
                    id: visit.id,
                    patient: id,
                    date: *day,
                    status: VisitStatus::ALL[usize::from(visit.status())],
                });
            }
        }
        retention
    }

    /// The cells without patients.
    fn empty(snapshot: &Snapshot, horizon: u32) -> Self {
        let question = snapshot.question();
        let row = |at| {
            let mut bounds = snapshot.bucket(BucketRef::At(at)).map(|bucket| bucket.bounds);
            let mut cells = Vec::new();
            for offset in 0..=horizon {
                let Some(unit) = bounds.filter(|unit| unit.from <= question.as_of) else {
                    break;
                };
                if offset >= first_offset(question.period) {
                    cells.push(Cell::new(offset, unit));
                }
                bounds = Some(question.period.unit_of(Day(unit.to.0 + 1), snapshot.week_start()));
            }
            cells
        };
        Self {
            rows: (0..).take(snapshot.len()).map(row).collect(),
        }
    }

    /// The number of rows: that of the snapshot's buckets.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is no row. Always false, since a question's range is not empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The cells of a row, in order.
    #[must_use]
    pub fn row(&self, row: usize) -> &[Cell] {
        self.rows.get(row).map_or(&[], Vec::as_slice)
    }

    /// The cell at a place of a row; none if there is no such.
    #[must_use]
    pub fn cell(&self, row: usize, place: usize) -> Option<&Cell> {
        self.row(row).get(place)
    }

    /// The approximate size in memory, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let cells = self.rows.iter().flatten().map(|cell| {
            cell.patients.capacity() * size_of::<CountedPatient>()
                + cell.visits.capacity() * size_of::<CountedVisit>()
                + size_of::<Cell>()
        });
        cells.sum::<usize>() + size_of::<Self>()
    }

    /// Encodes the lists of the cells.
    #[must_use]
    pub fn pack(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for cell in self.rows.iter().flatten() {
            let list = cell.list().pack();
            write_unsigned(&mut bytes, list.len() as u64);
            bytes.extend(list);
        }
        bytes
    }

    /// Decodes the cells of a snapshot.
    ///
    /// # Errors
    /// If the bytes are truncated or have values out of bounds.
    pub fn unpack(bytes: &[u8], snapshot: &Snapshot, horizon: u32) -> Result<Self, UnpackError> {
        let mut retention = Self::empty(snapshot, horizon);
        let mut reader = Reader(bytes);
        for cell in retention.rows.iter_mut().flatten() {
            let list = CohortList::unpack(reader.part()?)?;
            cell.patients = list.patients;
            cell.visits = list.visits;
        }
        Ok(retention)
    }
}
