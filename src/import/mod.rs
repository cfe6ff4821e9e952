//! Imports of CSV files of patients or visits, in transactions of bounded size. Importing a file again changes nothing.

mod mapping;
mod rows;
mod seen_numbers;

use std::collections::HashSet;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use csv::StringRecord;
use indicatif::{ProgressBar, ProgressStyle};

use crate::error::{Error, Result};
use crate::records::{PatientDraft, VisitDraft};
use crate::store::{AuditAction, BulkImporter, Hospital, NewEntry, Store, UpsertOutcome};
use crate::text;

pub use mapping::Mapping;
use rows::Columns;
use seen_numbers::SeenNumbers;

/// The largest number of rows of one transaction. Questions would wait for a longer one.
const BATCH: usize = 2_000;

string_enum::string_enum!(
    /// What a file contains.
    FileKind {
        Patients = "patients",
        Visits = "visits",
    }
);

/// How many rows of a file had which outcome.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    pub inserted: u64,
    pub changed: u64,
    pub unchanged: u64,
    /// Rows that were refused.
    pub refused: u64,
    /// Values that were left empty in accepted rows.
    pub remarks: u64,
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            inserted,
            changed,
            unchanged,
            refused,
            remarks,
        } = self;
        write!(
            f,
            "{inserted} inserted, {changed} changed, {unchanged} unchanged, {refused} refused, {remarks} values left empty"
        )
    }
}

/// A problem of a row. It has no value of the row, which may be personal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowProblem {
    /// The line on which the row begins, from 1.
    pub line: u64,
    /// The column's name in the file; none for a problem of the whole row.
    pub column: Option<String>,
    pub reason: String,
}

impl std::fmt::Display for RowProblem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {}", self.line)?;
        if let Some(column) = &self.column {
            write!(f, ", column {column}")?;
        }
        write!(f, ": {}", self.reason)
    }
}

/// A row as read. Its drafts have their numbers.
enum Row {
    Patient(PatientDraft),
    Visit(VisitDraft<String>, Option<PatientDraft>),
}

impl Row {
    /// The number that no other row of the file may have.
    fn number(&self) -> &str {
        match self {
            Self::Patient(_) => self.chart_no(),
            Self::Visit(visit, _) => visit.visit_no.given().flatten().map_or("", String::as_str),
        }
    }

    fn chart_no(&self) -> &str {
        let chart_no = match self {
            Self::Patient(patient) => &patient.chart_no,
            Self::Visit(visit, _) => &visit.patient,
        };
        chart_no.as_deref().unwrap_or_default()
    }
}

/// An import that is running.
struct Import<'a> {
    importer: BulkImporter<'a>,
    kind: FileKind,
    seen: SeenNumbers,
    /// Chart numbers of erased patients that were reported already.
    reported_erased: HashSet<String>,
    /// Rows that were read and not imported yet, with their lines.
    batch: Vec<(u64, Row)>,
    summary: Summary,
    report: &'a mut dyn FnMut(&RowProblem),
}

/// Imports a file into the hospital. `report` is called for each row that is refused or left out, and for each value that is left
/// empty.
///
/// # Errors
/// Where the file cannot be read or lacks a column, or the database fails. Batches before stay imported: running the import again
/// finishes the file.
pub async fn import(
    store: &Store,
    hospital: &Hospital,
    kind: FileKind,
    path: &Path,
    mapping: Option<&Mapping>,
    report: &mut dyn FnMut(&RowProblem),
) -> Result<Summary> {
    let unreadable =
        |error: &dyn std::fmt::Display| Error::input("file", format!("{} cannot be read: {error}", path.display()));
    let file = File::open(path).map_err(|error| unreadable(&error))?;
    let length = file.metadata().map_err(|error| unreadable(&error))?.len();
    let progress = ProgressBar::new(length).with_style(
        ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes}, {eta} left")
            .unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .from_reader(progress.wrap_read(Utf8Start::new(file)));
    let mut records = reader.byte_records();
    let header = match records.next() {
        Some(Ok(header)) => header,
        Some(Err(error)) => return Err(unreadable(&error)),
        None => {
            return Err(Error::input(
                "file",
                format!("{} is empty: it must have a header row", path.display()),
            ));
        }
    };
    let header = cells(header).ok_or_else(|| {
        Error::input(
            "file",
            format!("{} is not UTF-8: save it as UTF-8 and import it again", path.display()),
        )
    })?;
    let columns = Columns::new(kind, &header, mapping, hospital, store.today(hospital.time_zone))?;
    let mut import = Import {
        importer: store.bulk_importer(hospital.id),
        kind,
        seen: SeenNumbers::new().await?,
        reported_erased: HashSet::new(),
        batch: Vec::with_capacity(BATCH),
        summary: Summary::default(),
        report,
    };
    let imported = async {
        for record in records {
            let record = record.map_err(|error| unreadable(&error))?;
            let line = record.position().map_or(0, csv::Position::line);
            import.row(line, record, &columns).await?;
        }
        import.finish_batch().await
    };
    let imported = imported.await;
    // Also where the import failed: batches before stay imported.
    let what = format!("{}: {}", kind.as_str(), import.summary);
    let entry = NewEntry::new(hospital.id, None, AuditAction::Imported).what(&what);
    store.audit(vec![entry]).await?;
    imported?;
    progress.finish_and_clear();
    store.prune_feed(hospital.id).await?;
    Ok(import.summary)
}

/// The cells of a row, in NFC; none where they are not UTF-8.
fn cells(record: csv::ByteRecord) -> Option<StringRecord> {
    let record = StringRecord::from_byte_record(record).ok()?;
    Some(record.iter().map(text::nfc).collect())
}

impl Import<'_> {
    async fn row(&mut self, line: u64, record: csv::ByteRecord, columns: &Columns) -> Result<()> {
        let Some(record) = cells(record) else {
            self.refuse(line, None, "the row is not UTF-8");
            return Ok(());
        };
        let mut remarks = Vec::new();
        match columns.read(&record, &mut remarks) {
            Ok(row) => {
                for (column, reason) in remarks {
                    self.summary.remarks += 1;
                    (self.report)(&RowProblem { line, column, reason });
                }
                self.batch.push((line, row));
            }
            Err((column, reason)) => self.refuse(line, column, &reason),
        }
        if self.batch.len() >= BATCH {
            self.finish_batch().await?;
        }
        Ok(())
    }

    fn refuse(&mut self, line: u64, column: Option<String>, reason: &str) {
        self.summary.refused += 1;
        let reason = reason.to_owned();
        (self.report)(&RowProblem { line, column, reason });
    }

    /// Reports a row that is left out on purpose.
    fn leave_out(&mut self, line: u64, column: &str, reason: &str) {
        self.summary.unchanged += 1;
        let (column, reason) = (Some(column.to_owned()), reason.to_owned());
        (self.report)(&RowProblem { line, column, reason });
    }

    /// Imports the batch, but for rows whose number an earlier row of the file has.
    async fn finish_batch(&mut self) -> Result<()> {
        let batch = std::mem::take(&mut self.batch);
        let numbers: Vec<(&str, u64)> = batch.iter().map(|(line, row)| (row.number(), *line)).collect();
        let earlier = self.seen.record(&numbers).await?;
        let (mut lines, mut patients, mut visits) = (Vec::new(), Vec::new(), Vec::new());
        for ((line, row), earlier) in batch.into_iter().zip(earlier) {
            if let Some(before) = earlier {
                let name = match self.kind {
                    FileKind::Patients => "chart_no",
                    FileKind::Visits => "visit_no",
                };
                self.refuse(
                    line,
                    Some(name.to_owned()),
                    &format!("line {before} of this file has this number already"),
                );
                continue;
            }
            lines.push((line, row.chart_no().to_owned()));
            match row {
                Row::Patient(patient) => patients.push(patient),
                Row::Visit(visit, patient) => {
                    visits.push(visit);
                    patients.extend(patient);
                }
            }
        }
        let outcomes = match self.kind {
            FileKind::Patients => self.importer.patients(&patients).await?,
            FileKind::Visits => self.importer.visits(&visits, &patients).await?,
        };
        for ((line, chart_no), outcome) in lines.into_iter().zip(outcomes) {
            match outcome {
                UpsertOutcome::Inserted => self.summary.inserted += 1,
                UpsertOutcome::Changed => self.summary.changed += 1,
                UpsertOutcome::Unchanged => self.summary.unchanged += 1,
                UpsertOutcome::Erased => {
                    if self.reported_erased.insert(chart_no) {
                        let reason = "the patient was erased: all rows with this chart number are left out";
                        self.leave_out(line, "chart_no", reason);
                    } else {
                        self.summary.unchanged += 1;
                    }
                }
                UpsertOutcome::VisitOfErased => {
                    let reason = "the visit is of a patient who was erased: the row is left out";
                    self.leave_out(line, "visit_no", reason);
                }
                UpsertOutcome::Refused(reason) => self.refuse(line, None, &reason),
            }
        }
        Ok(())
    }
}

/// A reader that skips the byte order mark at the start of a UTF-8 file.
struct Utf8Start<R> {
    inner: R,
    started: bool,
    /// The first bytes, where they are not a byte order mark.
    buffered: Vec<u8>,
}

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

impl<R: Read> Utf8Start<R> {
    fn new(inner: R) -> Self {
        Self {
            inner,
            started: false,
            buffered: Vec::new(),
        }
    }
}

impl<R: Read> Read for Utf8Start<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if !self.started {
            self.started = true;
            (&mut self.inner)
                .take(BYTE_ORDER_MARK.len() as u64)
                .read_to_end(&mut self.buffered)?;
            if self.buffered == BYTE_ORDER_MARK {
                self.buffered.clear();
            }
        }
        if self.buffered.is_empty() {
            return self.inner.read(buffer);
        }
        let count = self.buffered.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.buffered[..count]);
        self.buffered.drain(..count);
        Ok(count)
    }
}
