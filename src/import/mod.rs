//! Imports of files of patients or visits: read, checked, committed. Importing a file again changes nothing.
//!
//! A check reads the file to its end and holds each row against what is there; a commit reads it again, decides each row again and
//! writes, in transactions of bounded size.

mod mapping;
mod report;
mod rows;
mod run;
mod seen_numbers;
mod source;
mod suggest;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use tabular::Reading;

use crate::error::{Error, Result};
use crate::records::{PatientDraft, VisitDraft};
use crate::store::{
    AuditAction, ConflictPolicy, Hospital, ImportColumn, ImportDetail, ImportOptions, ImportOutcome, ImportReading,
    ImportState, Importer, NewEntry, NewImport, Pass, RecordKind, RowResult, Store,
};

pub use mapping::Mapping;
pub use report::{ProblemGroup, Report, RowProblem, RowReport, Summary, UnknownWord};
use rows::{Columns, Refusal};
pub use run::start;
use seen_numbers::SeenNumbers;
use source::{Content, Message, Opened, ReadRow, Source};
pub use suggest::suggest;

string_enum::string_enum!(
    /// What a file contains.
    FileKind {
        Patients = "patients",
        Visits = "visits",
    }
);

impl FileKind {
    const fn record(self) -> RecordKind {
        match self {
            Self::Patients => RecordKind::Patient,
            Self::Visits => RecordKind::Visit,
        }
    }

    /// The kind that the API has this word for.
    fn of_import(word: &str) -> Result<Self> {
        let kind = Self::ALL.iter().find(|kind| kind.as_str().eq_ignore_ascii_case(word));
        kind.copied()
            .ok_or_else(|| Error::Internal(format!("import.kind holds the unknown value {word:?}")))
    }

    /// Our column with the number that no other row of the file may have.
    const fn number_column(self) -> &'static str {
        match self {
            Self::Patients => "chart_no",
            Self::Visits => "visit_no",
        }
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
        let number = match self {
            Self::Patient(patient) => patient.chart_no.as_ref(),
            Self::Visit(visit, _) => visit.visit_no.given().flatten(),
        };
        number.map_or("", String::as_str)
    }
}

/// How a file is imported.
#[derive(Clone, Debug)]
pub struct Request {
    pub kind: FileKind,
    pub conflicts: ConflictPolicy,
    /// The system that the file is from: what it last said is remembered by source and kind.
    pub source: String,
    /// Whether reports of rows have all values that differ, and not only those in conflict.
    pub with_fields: bool,
    /// Who imports; none from the command line.
    pub staff: Option<i64>,
}

/// How far an import is.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    pub pass: Pass,
    pub rows: u64,
    pub bytes: u64,
    pub total_bytes: u64,
}

/// Follows an import.
#[async_trait]
pub trait Observer: Send {
    /// Is told of the rows of each slice once it is decided, or committed. Where it fails, the import ends: slices before stay
    /// committed.
    async fn slice(&mut self, rows: Vec<RowReport>, report: &Report, progress: Progress) -> Result<()>;
}

/// A file that is checked and then committed.
pub struct FileImport<'a> {
    store: &'a Store,
    hospital: &'a Hospital,
    request: Request,
    source: Source,
    reading: Reading,
    columns_were_found: bool,
    columns: Arc<Columns>,
    seen: SeenNumbers,
    /// Whether `seen` has the numbers of the whole file.
    is_recorded: bool,
    digest: Option<[u8; 32]>,
}

impl<'a> FileImport<'a> {
    /// Opens a file, or the standard input where the path is `-`, and finds its columns: by the mapping, else by our own names, else as its
    /// header row says unmistakably. `name` is what messages call it.
    ///
    /// # Errors
    /// Where the file cannot be read, or not in one way only, or lacks a column; where the mapping is none of such a file.
    pub async fn open(
        store: &'a Store,
        hospital: &'a Hospital,
        (name, path): (&str, &Path),
        mapping: Option<&Mapping>,
        request: Request,
    ) -> Result<Self> {
        let kind = request.kind;
        let (source, Opened { reading, found }) = Source::open(name, path, kind, mapping)?;
        let today = store.today(hospital.time_zone);
        let columns = Columns::new(kind, &reading.headers, mapping.or(found.as_ref()), hospital, today)?;
        Ok(Self {
            store,
            hospital,
            request,
            source,
            reading,
            columns_were_found: found.is_some(),
            columns: Arc::new(columns),
            seen: SeenNumbers::new().await?,
            is_recorded: false,
            digest: None,
        })
    }

    /// What the file was taken for.
    #[must_use]
    pub const fn reading(&self) -> &Reading {
        &self.reading
    }

    /// Whether the columns are neither ours nor those of a mapping.
    #[must_use]
    pub const fn columns_were_found(&self) -> bool {
        self.columns_were_found
    }

    /// What the file was taken for, and which column became what.
    #[must_use]
    pub fn stored_reading(&self) -> ImportReading {
        let Reading {
            format,
            sheet,
            encoding,
            delimiter,
            header_row,
            headers: _,
        } = &self.reading;
        let columns = self.columns.list().into_iter();
        let columns = columns.map(|(header, column)| ImportColumn {
            header: header.to_owned(),
            column: column.map(str::to_owned),
        });
        ImportReading {
            format: format.as_str().to_owned(),
            sheet: sheet.clone(),
            encoding: encoding.map(|encoding| encoding.as_str().to_owned()),
            delimiter: delimiter.map(|delimiter| delimiter.as_str().to_owned()),
            header_row: *header_row,
            columns: columns.collect(),
        }
    }

    /// SHA-256 of the file's bytes in hexadecimal, once it was checked.
    #[must_use]
    pub fn digest(&self) -> Option<String> {
        self.digest.map(hex::encode)
    }

    /// Reads the file to its end and decides what would become of each row. Changes nothing.
    ///
    /// # Errors
    /// Where the file cannot be read to its end. Where the database or the observer fails.
    pub async fn check(&mut self, observer: &mut dyn Observer) -> Result<Report> {
        let mut report = Report::default();
        self.digest = self.pass(Pass::Check, &mut report, observer).await?;
        self.is_recorded = true;
        report.summary.check()?;
        Ok(report)
    }

    /// Says that the file with this digest was checked before, by another server maybe.
    pub fn was_checked(&mut self, digest: [u8; 32]) {
        self.digest = Some(digest);
    }

    /// Commits the file, which was checked. `report` has what was committed, also where it fails: slices before stay committed, and
    /// importing the file again finishes it.
    ///
    /// # Errors
    /// Where the file changed since it was checked, or cannot be read. Where the database or the observer fails.
    pub async fn commit(&mut self, report: &mut Report, observer: &mut dyn Observer) -> Result<()> {
        let committed = self.pass(Pass::Commit, report, observer).await;
        let (kind, digest) = (self.request.kind.as_str(), self.digest().unwrap_or_default());
        let what = format!("{kind}: {}; SHA-256 {digest}", report.summary);
        let entry = NewEntry::new(self.hospital.id, self.request.staff, AuditAction::Imported).what(&what);
        self.store.audit(vec![entry]).await?;
        if committed? != self.digest {
            return Err(self.source.unreadable(&tabular::Error::Changed));
        }
        report.summary.check()?;
        self.store.prune_feed(self.hospital.id).await?;
        Ok(())
    }

    /// What is recorded of this import, which is done.
    #[must_use]
    pub fn record(&self, report: &Report) -> NewImport {
        NewImport {
            kind: self.request.kind.as_str().to_ascii_uppercase(),
            state: ImportState::Done,
            file_digest: self.digest().unwrap_or_default(),
            staff: self.request.staff,
            source: self.request.source.clone(),
            conflicts: self.request.conflicts,
            upload: None,
            rows_read: report.summary.read,
            rows_total: Some(report.summary.read),
            counts: report.counts(),
            detail: ImportDetail {
                reading: self.stored_reading(),
                unknown_words: report.stored_words(),
                ..ImportDetail::default()
            },
        }
    }

    /// Calls `list` with numbers that the source said before and this file, which was checked, does not have.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn missing_numbers(&mut self, list: &mut (dyn FnMut(&str) + Send)) -> Result<()> {
        let mut after = String::new();
        loop {
            let (record, source) = (self.request.kind.record(), &self.request.source);
            let numbers = self
                .store
                .imported_numbers(self.hospital.id, record, source, &after)
                .await?;
            let Some(last) = numbers.last() else { return Ok(()) };
            after.clone_from(last);
            let lines = self.seen.lines(numbers.iter().map(String::as_str)).await?;
            for number in numbers.iter().filter(|number| !lines.contains_key(*number)) {
                list(number);
            }
        }
    }

    async fn pass(&mut self, pass: Pass, report: &mut Report, observer: &mut dyn Observer) -> Result<Option<[u8; 32]>> {
        let options = ImportOptions {
            pass,
            conflicts: self.request.conflicts,
            source: self.request.source.clone(),
            with_fields: self.request.with_fields,
            staff: self.request.staff,
        };
        let mut importer = self.store.importer(self.hospital.id, options);
        let total_bytes = self.source.length();
        let mut messages = self.source.slices(&self.columns)?;
        while let Some(message) = messages.recv().await {
            let slice = match message? {
                Message::Slice(slice) => slice,
                Message::End(digest) => return Ok(digest),
            };
            let rows = self.slice(&mut importer, slice.rows, report).await?;
            let progress = Progress {
                pass,
                rows: report.summary.read,
                bytes: slice.bytes_read,
                total_bytes,
            };
            observer.slice(rows, report, progress).await?;
        }
        Err(Error::Internal("the thread that reads the file ended".to_owned()))
    }

    async fn slice(
        &mut self,
        importer: &mut Importer<'_>,
        rows: Vec<ReadRow>,
        report: &mut Report,
    ) -> Result<Vec<RowReport>> {
        let numbers = rows.iter().filter_map(|row| match &row.content {
            Content::Row(content, _) => Some((content.number(), row.line)),
            _ => None,
        });
        let numbers: Vec<(&str, u64)> = numbers.collect();
        if !self.is_recorded {
            self.seen.record(&numbers).await?;
        }
        let repeated = self.seen.repeated(&numbers).await?;
        let (mut reports, mut taken) = (Vec::with_capacity(rows.len()), Vec::new());
        let (mut patients, mut visits) = (Vec::new(), Vec::new());
        for ReadRow { line, cells, content } in rows {
            let mut row = RowReport {
                line,
                outcome: ImportOutcome::Blank,
                problems: Vec::new(),
                fields: Vec::new(),
                patient: None,
                cells,
            };
            match content {
                Content::Blank => {}
                Content::Refused(refusal, words) => {
                    row.refuse(refusal);
                    for (column, word) in words {
                        report.add_unknown_word(column, word);
                    }
                }
                Content::Row(..) if repeated.contains(&line) => {
                    let column = self.columns.in_file(self.request.kind.number_column());
                    row.refuse((Some(column), "an earlier row of this file has this number".to_owned()));
                }
                Content::Row(content, remarks) => {
                    row.problems
                        .extend(remarks.into_iter().map(|(column, message)| RowProblem {
                            column,
                            message,
                            value_left_out: true,
                        }));
                    taken.push(reports.len());
                    match *content {
                        Row::Patient(patient) => patients.push(patient),
                        Row::Visit(visit, patient) => {
                            visits.push(visit);
                            patients.extend(patient);
                        }
                    }
                }
            }
            reports.push(row);
        }
        let results = match self.request.kind {
            FileKind::Patients => importer.patients(&patients).await?,
            FileKind::Visits => importer.visits(&visits, &patients).await?,
        };
        for (place, result) in taken.into_iter().zip(results) {
            if let Some(row) = reports.get_mut(place) {
                row.take(result, &self.columns);
            }
        }
        for row in &reports {
            report.add(row);
        }
        Ok(reports)
    }
}

impl RowReport {
    fn refuse(&mut self, (column, message): Refusal) {
        self.outcome = ImportOutcome::Refused;
        self.problems.push(RowProblem {
            column,
            message,
            value_left_out: false,
        });
    }

    fn take(&mut self, result: RowResult, columns: &Columns) {
        self.outcome = result.outcome;
        self.fields = result.fields;
        self.patient = result.patient;
        self.problems
            .extend(result.problems.into_iter().map(|problem| RowProblem {
                column: problem.column.map(|column| columns.in_file(column)),
                message: problem.message,
                value_left_out: false,
            }));
    }
}
