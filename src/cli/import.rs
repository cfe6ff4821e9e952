use std::collections::BTreeMap;
use std::fs::File;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use chrono::SecondsFormat;
use chrono_tz::Tz;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use tabular::Reading;

use super::database::DatabaseArgs;
use super::{hospital_by_code, name_argument, word_parser};
use crate::error::{Error, Result};
use crate::import::{FileImport, FileKind, Mapping, Observer, Progress, Report, Request, RowReport};
use crate::private_files::create_file;
use crate::signals::told_to_stop;
use crate::store::{ConflictPolicy, FieldValue, ImportColumn, ImportOutcome, ImportState, Pass};

#[derive(Args)]
pub(super) struct ImportArgs {
    /// What the file contains
    #[arg(value_parser = word_parser(FileKind::ALL, FileKind::as_str))]
    kind: FileKind,
    #[command(flatten)]
    database: DatabaseArgs,
    /// The hospital's code
    #[arg(long)]
    hospital: String,
    /// A CSV or XLSX file with a header row, or - for the standard input
    file: PathBuf,
    /// Maps columns and values of another system's file
    #[arg(long, value_name = "FILE.toml")]
    mapping: Option<PathBuf>,
    /// The system that the file is from; by default the kind of file. What each system last said is remembered
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Says what would become of each row, and changes nothing
    #[arg(long)]
    dry_run: bool,
    /// Where the file says something new of what staff or SQL changed, the file's value stands; visits that staff deleted are inserted
    /// again
    #[arg(long)]
    overwrite: bool,
    /// Fails before anything is changed if more rows are refused: a number, or a percentage of the rows
    #[arg(long, value_name = "N|N%")]
    max_refused: Option<MaxRefused>,
    /// Writes the refused rows to a CSV file that only its owner may read, with their lines and reasons
    #[arg(long, value_name = "FILE.csv")]
    refused: Option<PathBuf>,
    /// The file has everything that the source has: lists the numbers that it had before and that are not in this file
    #[arg(long)]
    full_extract: bool,
    /// Writes JSON to the standard output, an object a line: in a dry run one for each row that is not unchanged or blank, then the summary
    #[arg(long)]
    json: bool,
}

/// The exit status of an import that refused rows or kept values that the file has otherwise.
const ROWS_NOT_TAKEN: u8 = 2;

/// How many rows of each outcome a dry run prints, without `--json`.
const PRINTED_ROWS: u64 = 20;

/// How often progress is said where there is no terminal.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(10);

/// How many rows may be refused.
#[derive(Clone, Copy, Debug, PartialEq)]
enum MaxRefused {
    Rows(u64),
    Percent(f64),
}

impl FromStr for MaxRefused {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let parsed = match text.strip_suffix('%') {
            Some(percent) => percent
                .parse()
                .ok()
                .filter(|percent| (0.0..=100.0).contains(percent))
                .map(Self::Percent),
            None => text.parse().ok().map(Self::Rows),
        };
        parsed.ok_or_else(|| {
            "must be a number of rows, such as 100, or a percentage within 0% to 100%, such as 0.5%".to_owned()
        })
    }
}

impl std::fmt::Display for MaxRefused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Rows(rows) => write!(f, "{rows}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

impl MaxRefused {
    fn is_exceeded(self, refused: u64, read: u64) -> bool {
        match self {
            Self::Rows(rows) => refused > rows,
            #[allow(clippy::cast_precision_loss, reason = "files have fewer than 2^52 rows")]
            Self::Percent(percent) => refused as f64 * 100.0 > percent * read as f64,
        }
    }
}

impl ImportArgs {
    /// Exits with `ROWS_NOT_TAKEN` where some rows were refused, or are in conflict and keep what is there.
    pub(super) async fn run(self) -> Result<ExitCode> {
        let mapping = self.mapping.as_deref().map(Mapping::read).transpose()?;
        let source = match &self.source {
            Some(name) => name_argument("source", name)?,
            None => self.kind.as_str().to_owned(),
        };
        let store = self.database.open().await?;
        let hospital = hospital_by_code(&store, &self.hospital).await?;
        let request = Request {
            kind: self.kind,
            conflicts: if self.overwrite {
                ConflictPolicy::Overwrite
            } else {
                ConflictPolicy::Keep
            },
            source,
            with_fields: self.dry_run,
            staff: None,
        };
        let name = self.file.display().to_string();
        let file = (name.as_str(), self.file.as_path());
        let mut import = FileImport::open(&store, &hospital, file, mapping.as_ref(), request.clone()).await?;
        eprintln!("read as {}", reading(import.reading()));
        if import.columns_were_found() {
            for ImportColumn { header, column } in import.stored_reading().columns {
                eprintln!("column {header:?} is {}", column.as_deref().unwrap_or("not read"));
            }
        }
        let mut follower = Follower::new(&self, hospital.time_zone, import.reading())?;
        let checked = import.check(&mut follower).await;
        follower.meter.finish();
        let checked = checked?;
        let digest = import.digest().unwrap_or_default();
        let kind = self.kind.as_str().to_ascii_uppercase();
        let before = store.last_import_of(hospital.id, &kind, &digest).await?;
        if let Some((at, source)) = &before {
            eprintln!(
                "this file was imported before, at {} as {source}",
                at.with_timezone(&hospital.time_zone)
                    .to_rfc3339_opts(SecondsFormat::Secs, true)
            );
        }
        let (refused, read) = (checked.summary.refused, checked.summary.read);
        if let Some(most) = self.max_refused.filter(|most| most.is_exceeded(refused, read)) {
            say(&checked);
            follower.finish()?;
            return Err(Error::input(
                "max-refused",
                format!("{refused} of {read} rows would be refused, more than {most}; nothing was changed"),
            ));
        }
        let mut report = checked;
        if !self.dry_run {
            report = Report::default();
            let stop = Arc::clone(&follower.stop);
            let watch = tokio::spawn(async move {
                told_to_stop().await;
                stop.store(true, Ordering::Relaxed);
            });
            let committed = import.commit(&mut report, &mut follower).await;
            watch.abort();
            follower.meter.finish();
            let mut record = import.record(&report);
            record.detail.file_name = self.file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            record.detail.problem = committed.as_ref().err().map(Error::for_operator);
            if committed.is_err() {
                record.state = ImportState::Failed;
            }
            store.add_import(hospital.id, &record).await?;
            if let Err(error) = committed {
                say(&report);
                follower.finish()?;
                eprintln!(
                    "committed before it ended: {}\nimport the file again to finish it",
                    report.summary
                );
                return Err(error);
            }
        }
        say(&report);
        follower.finish()?;
        let mut missing = Vec::new();
        if self.full_extract {
            import
                .missing_numbers(&mut |number| missing.push(number.to_owned()))
                .await?;
        }
        if self.json {
            println!(
                "{}",
                json!({
                    "kind": self.kind.as_str(),
                    "source": request.source,
                    "fileDigest": digest,
                    "importedBefore": before.map(|(at, _)| at.to_rfc3339_opts(SecondsFormat::Secs, true)),
                    "dryRun": self.dry_run,
                    "reading": import.stored_reading(),
                    "rowsRead": report.summary.read,
                    "counts": counts(&report),
                    "valuesLeftEmpty": report.summary.values_left_empty,
                    "problems": problems(&report),
                    "unknownWords": report.stored_words(),
                    "missingNumbers": self.full_extract.then_some(missing),
                })
            );
        } else {
            for number in missing {
                println!("not in this file: {number}");
            }
            println!(
                "{}{}",
                if self.dry_run {
                    "dry run, nothing was changed: "
                } else {
                    ""
                },
                report.summary
            );
        }
        let kept = if self.overwrite { 0 } else { report.summary.conflicts };
        Ok(if report.summary.refused + kept > 0 {
            ExitCode::from(ROWS_NOT_TAKEN)
        } else {
            ExitCode::SUCCESS
        })
    }
}

/// Says the problems of rows and the unknown words.
fn say(report: &Report) {
    for group in report.problems() {
        eprintln!("{group}");
    }
    for word in report.unknown_words() {
        eprintln!("{word}");
    }
}

fn reading(reading: &Reading) -> String {
    let mut parts = vec![reading.format.as_str().to_owned()];
    parts.extend(reading.sheet.as_ref().map(|sheet| format!("sheet {sheet:?}")));
    parts.extend(reading.encoding.map(|encoding| encoding.as_str().to_owned()));
    parts.extend(
        reading
            .delimiter
            .map(|delimiter| format!("delimiter {}", delimiter.as_str())),
    );
    parts.push(format!("header row {}", reading.header_row));
    parts.join(", ")
}

fn counts(report: &Report) -> Value {
    let count = |outcome: &ImportOutcome| (outcome.as_str().to_owned(), report.summary.of(*outcome).into());
    Value::Object(ImportOutcome::ALL.iter().map(count).collect())
}

fn problems(report: &Report) -> Value {
    let group = |group: crate::import::ProblemGroup| json!({ "column": group.column, "message": group.message, "rows": group.rows, "firstLines": group.lines });
    report.problems().into_iter().map(group).collect()
}

/// Follows an import on the terminal.
struct Follower {
    dry_run: bool,
    json: bool,
    time_zone: Tz,
    /// Rows of each outcome that were printed, or would have been.
    printed: BTreeMap<&'static str, u64>,
    refused: Option<RefusedRows>,
    meter: Meter,
    /// Set where the process was told to stop.
    stop: Arc<AtomicBool>,
}

impl Follower {
    fn new(args: &ImportArgs, time_zone: Tz, reading: &Reading) -> Result<Self> {
        let refused = args.refused.as_deref().map(|path| RefusedRows::create(path, reading));
        Ok(Self {
            dry_run: args.dry_run,
            json: args.json,
            time_zone,
            printed: BTreeMap::new(),
            refused: refused.transpose()?,
            meter: Meter::default(),
            stop: Arc::default(),
        })
    }

    /// Prints a row of a dry run.
    fn print(&mut self, row: &RowReport) {
        if matches!(row.outcome, ImportOutcome::Unchanged | ImportOutcome::Blank) {
            return;
        }
        let zone = self.time_zone;
        let shown = |value: &Option<FieldValue>| value.as_ref().map(|value| shown(value, zone));
        if self.json {
            let fields = row.fields.iter().map(|difference| {
                json!({ "field": difference.field, "before": shown(&difference.before), "after": shown(&difference.after) })
            });
            let problems = row.problems.iter().map(|problem| {
                json!({ "column": problem.column, "message": problem.message, "valueLeftOut": problem.value_left_out })
            });
            println!(
                "{}",
                json!({
                    "line": row.line,
                    "outcome": row.outcome.as_str(),
                    "fields": fields.collect::<Vec<_>>(),
                    "problems": problems.collect::<Vec<_>>(),
                })
            );
            return;
        }
        let printed = self.printed.entry(row.outcome.as_str()).or_default();
        *printed += 1;
        if *printed > PRINTED_ROWS {
            return;
        }
        let mut parts: Vec<String> = Vec::new();
        for difference in &row.fields {
            let before = shown(&difference.before)
                .map(|text| format!("{text:?} → "))
                .unwrap_or_default();
            let after = shown(&difference.after).unwrap_or_default();
            parts.push(format!("{} {before}{after:?}", difference.field));
        }
        parts.extend(row.problems.iter().map(ToString::to_string));
        println!("line {}, {}: {}", row.line, row.outcome.as_str(), parts.join("; "));
    }

    /// To be called at the end: says what was not printed, and completes the file of refused rows.
    fn finish(&mut self) -> Result<()> {
        for (outcome, rows) in &self.printed {
            if *rows > PRINTED_ROWS {
                println!("{} more rows of {outcome}; --json lists all", rows - PRINTED_ROWS);
            }
        }
        self.refused.as_mut().map_or(Ok(()), RefusedRows::finish)
    }
}

#[async_trait]
impl Observer for Follower {
    async fn slice(&mut self, rows: Vec<RowReport>, _report: &Report, progress: Progress) -> Result<()> {
        // The rows of the last pass are told of: those that are refused are so in both.
        let is_last = self.dry_run || progress.pass == Pass::Commit;
        for row in &rows {
            if self.dry_run {
                self.print(row);
            }
            if row.outcome == ImportOutcome::Refused && progress.pass == Pass::Check {
                self.refused.as_mut().map_or(Ok(()), |refused| refused.add(row))?;
            }
        }
        self.meter.show(progress, is_last);
        if self.stop.load(Ordering::Relaxed) {
            return Err(Error::input("import", "interrupted"));
        }
        Ok(())
    }
}

/// A value as an operator reads it.
fn shown(value: &FieldValue, zone: Tz) -> String {
    match value {
        FieldValue::Text(text) | FieldValue::Name(text) | FieldValue::Phone(text) | FieldValue::Remark(text) => {
            text.clone()
        }
        FieldValue::Date(date) | FieldValue::BirthDate(date) => date.to_string(),
        FieldValue::Instant(at) => at.with_timezone(&zone).to_rfc3339_opts(SecondsFormat::AutoSi, true),
        FieldValue::Number(number) => number.to_string(),
        FieldValue::Flag(flag) => flag.to_string(),
        FieldValue::Department(id) | FieldValue::Doctor(id) | FieldValue::Patient(id) => id.to_string(),
    }
}

/// Says how far an import is: a bar on a terminal, elsewhere a line from time to time.
#[derive(Default)]
struct Meter {
    bar: Option<ProgressBar>,
    last: Option<Instant>,
}

impl Meter {
    fn show(&mut self, progress: Progress, is_last: bool) {
        let Progress {
            pass,
            rows,
            bytes,
            total_bytes,
        } = progress;
        let verb = match pass {
            Pass::Check => "checked",
            Pass::Commit => "committed",
        };
        if std::io::stderr().is_terminal() {
            let bar = self.bar.get_or_insert_with(|| {
                let template = ProgressStyle::with_template("{msg} {bar:40} {bytes}/{total_bytes}, {eta} left");
                ProgressBar::new(total_bytes).with_style(template.unwrap_or_else(|_| ProgressStyle::default_bar()))
            });
            bar.set_message(verb);
            bar.set_position(bytes);
            return;
        }
        let last = *self.last.get_or_insert_with(Instant::now);
        if last.elapsed() >= PROGRESS_INTERVAL {
            self.last = Some(Instant::now());
            let percent = (bytes * 100).checked_div(total_bytes).unwrap_or(100);
            eprintln!(
                "{verb} {rows} rows, {percent}% of the file{}",
                if is_last { "" } else { ", not committed yet" }
            );
        }
    }

    fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

/// A CSV file of refused rows: the columns of the file, the line, and the reason.
struct RefusedRows {
    path: PathBuf,
    writer: csv::Writer<File>,
    columns: usize,
}

impl RefusedRows {
    /// Creates the file, which its owner alone may read. It must not exist.
    fn create(path: &Path, reading: &Reading) -> Result<Self> {
        let file = create_file(path).map_err(|error| unwritable(path, &error))?;
        let mut refused = Self {
            path: path.to_owned(),
            writer: csv::Writer::from_writer(file),
            columns: reading.headers.len(),
        };
        let header = reading.headers.iter().map(String::as_str);
        refused.write(header.chain(["line", "reason"]))?;
        Ok(refused)
    }

    fn add(&mut self, row: &RowReport) -> Result<()> {
        let reasons: Vec<String> = row.problems.iter().map(ToString::to_string).collect();
        let (line, reasons) = (row.line.to_string(), reasons.join("; "));
        let cells: Vec<&str> = (0..self.columns)
            .map(|cell| row.cells.get(cell).unwrap_or_default())
            .collect();
        self.write(cells.into_iter().chain([line.as_str(), reasons.as_str()]))
    }

    fn write<'a>(&mut self, cells: impl Iterator<Item = &'a str>) -> Result<()> {
        let written = self.writer.write_record(cells);
        written.map_err(|error| unwritable(&self.path, &error.into()))
    }

    fn finish(&mut self) -> Result<()> {
        self.writer.flush().map_err(|error| unwritable(&self.path, &error))
    }
}

fn unwritable(path: &Path, error: &std::io::Error) -> Error {
    Error::input("refused", format!("{} cannot be written: {error}", path.display()))
}
