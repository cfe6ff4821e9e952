//! Imports of files of patients or visits, in transactions of bounded size. Importing a file again changes nothing.

mod mapping;
mod rows;
mod seen_numbers;

use std::collections::{BTreeMap, HashSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};
use tabular::{Cells, Reading, Table};
use tempfile::NamedTempFile;

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
    /// Rows below the header row: the sum of the outcomes.
    pub read: u64,
    pub inserted: u64,
    pub changed: u64,
    pub unchanged: u64,
    /// Rows that were refused.
    pub refused: u64,
    /// Rows with nothing in any mapped column.
    pub blank: u64,
    /// Values that were left empty in accepted rows.
    pub remarks: u64,
}

impl Summary {
    /// Fails where a row has no outcome, or two.
    fn check(&self) -> Result<()> {
        let outcomes = self.inserted + self.changed + self.unchanged + self.refused + self.blank;
        if self.read == outcomes {
            return Ok(());
        }
        Err(Error::Internal(format!(
            "{} rows were read, but {outcomes} have an outcome",
            self.read
        )))
    }
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            read,
            inserted,
            changed,
            unchanged,
            refused,
            blank,
            remarks,
        } = self;
        write!(
            f,
            "{read} rows read: {inserted} inserted, {changed} changed, {unchanged} unchanged, {refused} refused, {blank} blank; \
             {remarks} values left empty"
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

/// A word of a file that no status, channel or sex stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownWord {
    /// The column's name in the file.
    pub column: String,
    /// None stands for more words than a column of such words has: the column may be another, with values of patients.
    pub word: Option<String>,
    pub rows: u64,
}

impl std::fmt::Display for UnknownWord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { column, word, rows } = self;
        match word {
            Some(word) => write!(f, "column {column}: unknown word {word:?} in {rows} rows"),
            None => write!(
                f,
                "column {column}: more than {MAX_UNKNOWN_WORDS} unknown words in {rows} rows; check that it is the right column"
            ),
        }
    }
}

/// How many unknown words of a column are said.
const MAX_UNKNOWN_WORDS: usize = 20;

/// Unknown words by column, with their numbers of rows.
#[derive(Default)]
struct UnknownWords(BTreeMap<String, BTreeMap<String, u64>>);

impl UnknownWords {
    fn add(&mut self, column: String, word: String) {
        let words = self.0.entry(column).or_default();
        // Beyond the most that are said, one more stands for all.
        let is_beyond = words.len() > MAX_UNKNOWN_WORDS && !words.contains_key(&word);
        *words.entry(if is_beyond { String::new() } else { word }).or_default() += 1;
    }

    fn list(self) -> Vec<UnknownWord> {
        let of_column = |(column, words): (String, BTreeMap<String, u64>)| {
            let unknown = |(word, rows)| UnknownWord {
                column: column.clone(),
                word,
                rows,
            };
            if words.len() > MAX_UNKNOWN_WORDS {
                return vec![unknown((None, words.values().sum()))];
            }
            words
                .into_iter()
                .map(|(word, rows)| unknown((Some(word), rows)))
                .collect()
        };
        self.0.into_iter().flat_map(of_column).collect()
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
    unknown_words: UnknownWords,
    report: &'a mut dyn FnMut(&RowProblem),
}

/// What became of a file.
pub struct Imported {
    pub reading: Reading,
    pub summary: Summary,
    pub unknown_words: Vec<UnknownWord>,
}

/// A file that is read twice: whole, before anything is changed, and as it is imported.
struct Source {
    /// As messages name it.
    name: String,
    path: PathBuf,
    options: tabular::Options,
    /// A copy of the standard input, which only its owner may read. Deleted when this is dropped.
    _copy: Option<NamedTempFile>,
}

impl Source {
    /// A file, or the standard input where the path is `-`.
    fn new(path: &Path, kind: FileKind, mapping: &Mapping) -> Result<Self> {
        let options = tabular::Options {
            columns: rows::header_columns(kind, mapping)?,
            sheet: mapping.sheet.clone(),
            encoding: mapping.encoding,
            delimiter: mapping.delimiter,
            header_row: mapping.header_row,
        };
        let copy = (path == Path::new("-")).then(copy_standard_input).transpose()?;
        Ok(Self {
            name: path.display().to_string(),
            path: copy.as_ref().map_or(path, NamedTempFile::path).to_owned(),
            options,
            _copy: copy,
        })
    }

    fn open(&self) -> Result<Table> {
        tabular::open(&self.path, &self.options).map_err(|error| self.unreadable(&error))
    }

    /// Reads the file to its end; its digest.
    fn check(&self) -> Result<Option<[u8; 32]>> {
        let mut table = self.open()?;
        for row in table.by_ref() {
            row.map_err(|error| self.unreadable(&error))?;
        }
        Ok(table.digest())
    }

    fn unreadable(&self, error: &tabular::Error) -> Error {
        Error::input("file", format!("{}: {error}", self.name))
    }
}

fn copy_standard_input() -> Result<NamedTempFile> {
    let copy = || -> std::io::Result<NamedTempFile> {
        let mut file = NamedTempFile::new()?;
        std::io::copy(&mut std::io::stdin().lock(), &mut file)?;
        file.flush()?;
        Ok(file)
    };
    copy().map_err(|error| {
        Error::input(
            "file",
            format!("the standard input cannot be copied to a temporary file: {error}"),
        )
    })
}

/// Imports a file into the hospital. `report` is called for each row that is refused or left out, and for each value that is left
/// empty.
///
/// # Errors
/// Where the file cannot be read to its end or lacks a column; then nothing is changed. Where the database fails, or the file changes
/// meanwhile; then batches before stay imported, and running the import again finishes the file.
pub async fn import(
    store: &Store,
    hospital: &Hospital,
    kind: FileKind,
    path: &Path,
    mapping: Option<&Mapping>,
    report: &mut dyn FnMut(&RowProblem),
) -> Result<Imported> {
    let source = Source::new(path, kind, mapping.unwrap_or(&Mapping::default()))?;
    let mut table = source.open()?;
    let reading = table.reading().clone();
    let columns = Columns::new(
        kind,
        &reading.headers,
        mapping,
        hospital,
        store.today(hospital.time_zone),
    )?;
    let digest = source.check()?;
    let length = std::fs::metadata(&source.path).map_or(0, |metadata| metadata.len());
    let progress = ProgressBar::new(length).with_style(
        ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes}, {eta} left")
            .unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    let mut import = Import {
        importer: store.bulk_importer(hospital.id),
        kind,
        seen: SeenNumbers::new().await?,
        reported_erased: HashSet::new(),
        batch: Vec::with_capacity(BATCH),
        summary: Summary::default(),
        unknown_words: UnknownWords::default(),
        report,
    };
    let imported = async {
        while let Some(row) = table.next() {
            let row = row.map_err(|error| source.unreadable(&error))?;
            progress.set_position(table.bytes_read());
            import.row(row, &columns).await?;
        }
        import.finish_batch().await?;
        if table.digest() != digest {
            return Err(source.unreadable(&tabular::Error::Changed));
        }
        import.summary.check()
    };
    let imported = imported.await;
    // Also where the import failed: batches before stay imported.
    let what = format!("{}: {}", kind.as_str(), import.summary);
    let entry = NewEntry::new(hospital.id, None, AuditAction::Imported).what(&what);
    store.audit(vec![entry]).await?;
    imported?;
    progress.finish_and_clear();
    store.prune_feed(hospital.id).await?;
    Ok(Imported {
        reading,
        summary: import.summary,
        unknown_words: import.unknown_words.list(),
    })
}

impl Import<'_> {
    async fn row(&mut self, row: tabular::Row, columns: &Columns) -> Result<()> {
        self.summary.read += 1;
        if columns.is_blank(&row) {
            self.summary.blank += 1;
            return Ok(());
        }
        let line = row.line;
        let cells: Cells = row.cells.iter().map(text::nfc).collect();
        let mut remarks = Vec::new();
        match columns.check(&row).and_then(|()| columns.read(&cells, &mut remarks)) {
            Ok(row) => {
                for (column, reason) in remarks {
                    self.summary.remarks += 1;
                    (self.report)(&RowProblem { line, column, reason });
                }
                self.batch.push((line, row));
            }
            Err((column, reason)) => {
                self.refuse(line, column, &reason);
                for (column, word) in columns.unknown_words(&cells) {
                    self.unknown_words.add(column, word);
                }
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_words_are_counted_unless_there_are_many() {
        let mut words = UnknownWords::default();
        for number in 0..100 {
            words.add("status".to_owned(), format!("word {}", number % 2));
            words.add("sex".to_owned(), format!("name {number}"));
        }
        let texts: Vec<String> = words.list().iter().map(UnknownWord::to_string).collect();
        let expected = [
            "column sex: more than 20 unknown words in 100 rows; check that it is the right column",
            "column status: unknown word \"word 0\" in 50 rows",
            "column status: unknown word \"word 1\" in 50 rows",
        ];
        assert_eq!(texts, expected);
    }

    #[test]
    fn every_row_has_one_outcome() {
        let mut summary = Summary {
            read: 5,
            inserted: 1,
            changed: 1,
            unchanged: 1,
            refused: 1,
            blank: 1,
            remarks: 7,
        };
        assert!(summary.check().is_ok());
        summary.read += 1;
        assert!(summary.check().is_err());
    }
}
