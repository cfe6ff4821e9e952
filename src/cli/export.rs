use std::fs::File;
use std::io::{self, Seek as _, Write};
use std::path::{Path, PathBuf};

use chrono::NaiveDate;
use clap::{Args, Subcommand};
use tempfile::NamedTempFile;

use super::database::DatabaseArgs;
use super::{hospital_by_code, word_parser};
use crate::config::Limits;
use crate::error::{Error, Result};
use crate::export::{CsvFile, Rows, check_length, write_xlsx};
use crate::graphql::parse_cohort_id;
use crate::records::rules;
use crate::reporting::{Reporting, ResolvedStatistics, StatisticsRequest, bucket_index};
use crate::signals::told_to_stop;
use crate::statistics::{DayRange, Filter, Period};
use crate::store::{AuditAction, ExportFormat, Exported, Hospital, ListOrder, NewEntry, PatientKey, Store, VisitKey};

#[derive(Subcommand)]
pub(super) enum ExportCommand {
    /// Writes the counts of each bucket and kind of cohort, with the IDs that open their lists
    Statistics(StatisticsArgs),
    /// Writes the patients or the visits of a cohort
    Cohort(CohortArgs),
}

#[derive(Args)]
pub(super) struct StatisticsArgs {
    #[command(flatten)]
    database: DatabaseArgs,
    /// The hospital's code
    #[arg(long)]
    hospital: String,
    /// The calendar unit of the buckets
    #[arg(long, value_parser = word_parser(Period::ALL, Period::as_str), ignore_case = true)]
    period: Period,
    /// The first day, YYYY-MM-DD
    #[arg(long)]
    from: NaiveDate,
    /// The last day
    #[arg(long)]
    to: NaiveDate,
    #[command(flatten)]
    output: Output,
}

#[derive(Args)]
pub(super) struct CohortArgs {
    #[command(flatten)]
    database: DatabaseArgs,
    /// The Cohort.id, as the API or `export statistics` says it
    id: String,
    /// Which of its lists
    #[arg(long, default_value = "patients", value_parser = ["patients", "visits"])]
    list: String,
    /// What the rows are ordered by: of patients chart_no (default), name, registered_on, first_visit or last_visit; of visits date
    /// (default: newest first), patient_name, status, scheduled_at or checked_in_at
    #[arg(long, value_name = "FIELD[:desc]")]
    order: Option<String>,
    #[command(flatten)]
    output: Output,
}

#[derive(Args)]
struct Output {
    /// The format of the file
    #[arg(long, default_value = "csv", value_parser = word_parser(ExportFormat::ALL, ExportFormat::as_str), ignore_case = true)]
    format: ExportFormat,
    /// The file to create, which only its owner may read, or - for the standard output. A file that exists is never overwritten
    #[arg(long, value_name = "FILE", default_value = "-")]
    output: PathBuf,
}

impl ExportCommand {
    pub(super) async fn run(self) -> Result<()> {
        let export = async {
            match self {
                Self::Statistics(args) => args.run().await,
                Self::Cohort(args) => args.run().await,
            }
        };
        // A file that is not complete is deleted when it is dropped.
        tokio::select! {
            done = export => done,
            () = told_to_stop() => Err(Error::input("export", "interrupted")),
        }
    }
}

impl StatisticsArgs {
    async fn run(self) -> Result<()> {
        self.output.check()?;
        let day = |argument: &str, date| rules::date(date).map_err(|message| Error::input(argument, message));
        let (from, to) = (day("from", self.from)?, day("to", self.to)?);
        let range = DayRange::new(from.into(), to.into())
            .ok_or_else(|| Error::input("from", format!("{from} lies after --to, {to}")))?;
        let store = self.database.open().await?;
        let hospital = hospital_by_code(&store, &self.hospital).await?;
        let reporting = Reporting::new(store.clone(), &Limits::default());
        let request = StatisticsRequest {
            period: self.period,
            range,
            filter: Filter::default(),
            as_of: None,
        };
        let resolved = reporting.resolve(hospital.id, request).await?;
        // The file has ids of its lists.
        reporting.persist(&resolved).await?;
        let rows = Rows::of_statistics(&store, &hospital, &resolved);
        let entry = statistics_entry(&hospital, &resolved, self.output.format);
        self.output.write(&store, rows, entry).await
    }
}

fn statistics_entry(hospital: &Hospital, resolved: &ResolvedStatistics, format: ExportFormat) -> NewEntry {
    let question = resolved.snapshot.question();
    let what = format!(
        "statistics by {}, {} to {}, as {}",
        question.period.as_str(),
        question.range.from.date(),
        question.range.to.date(),
        format.as_str()
    );
    NewEntry::new(hospital.id, None, AuditAction::Exported)
        .what(&what)
        .snapshot(&resolved.id.to_string())
}

impl CohortArgs {
    async fn run(self) -> Result<()> {
        self.output.check()?;
        let cohort_id = parse_cohort_id("ID", &self.id)?;
        let order = order(&self.list, self.order.as_deref())?;
        let store = self.database.open().await?;
        let reporting = Reporting::new(store.clone(), &Limits::default());
        let missing = || Error::input("ID", "there is no cohort with this ID");
        // An ID does not say whose it is, and lists of different hospitals have different IDs.
        for id in store.hospitals().await? {
            if reporting.open(id, cohort_id).await?.is_none() {
                continue;
            }
            let hospital = store.hospital(id).await?.ok_or_else(missing)?;
            let content = Exported::Cohort {
                snapshot: cohort_id.snapshot.to_string(),
                bucket: bucket_index(cohort_id.bucket),
                kind: cohort_id.kind,
                order,
            };
            let rows = Rows::of_export(&store, &reporting, &hospital, None, content.clone()).await?;
            let rows = rows.ok_or_else(missing)?;
            let exported = (&content, self.output.format, rows.len() as u64);
            let entry = NewEntry::exported(id, None, exported, &Default::default());
            return self.output.write(&store, rows, entry).await;
        }
        Err(missing())
    }
}

/// The order of a list that an argument names.
fn order(list: &str, argument: Option<&str>) -> Result<ListOrder> {
    let named = argument.map(|text| match text.strip_suffix(":desc") {
        Some(key) => (key, true),
        None => (text, false),
    });
    let plain = |key: &str| key.replace('_', "").to_ascii_lowercase();
    let unknown = || Error::input("order", format!("{list} cannot be ordered by this, see --help"));
    let Some((key, descending)) = named else {
        return Ok(match list {
            "visits" => ListOrder::Visits(VisitKey::Date, true),
            _ => ListOrder::Patients(PatientKey::ChartNo, false),
        });
    };
    Ok(match list {
        "visits" => {
            let found = VisitKey::ALL.iter().find(|known| plain(known.as_str()) == plain(key));
            ListOrder::Visits(*found.ok_or_else(unknown)?, descending)
        }
        _ => {
            let found = PatientKey::ALL.iter().find(|known| plain(known.as_str()) == plain(key));
            ListOrder::Patients(*found.ok_or_else(unknown)?, descending)
        }
    })
}

impl Output {
    /// Refuses a file that exists, before anything is read.
    fn check(&self) -> Result<()> {
        if self.is_standard() || !self.output.exists() {
            return Ok(());
        }
        Err(self.failed(&"it exists already, and is never overwritten"))
    }

    fn is_standard(&self) -> bool {
        self.output == Path::new("-")
    }

    fn failed(&self, why: &dyn std::fmt::Display) -> Error {
        Error::input("output", format!("{} cannot be written: {why}", self.output.display()))
    }

    /// Writes the entry of the audit, and then the file, under a temporary name until it is complete.
    async fn write(&self, store: &Store, rows: Rows, entry: NewEntry) -> Result<()> {
        let count = rows.len() as u64;
        check_length("format", self.format, count)?;
        store.audit(vec![entry]).await?;
        let failed = |error: io::Error| self.failed(&error);
        if self.is_standard() {
            let mut output = io::stdout();
            match self.format {
                ExportFormat::Csv => write_csv(rows, &mut output, failed).await?,
                ExportFormat::Xlsx => {
                    let mut file = tempfile::tempfile().map_err(failed)?;
                    write_xlsx(rows, file.try_clone().map_err(failed)?).await?;
                    file.rewind().map_err(failed)?;
                    io::copy(&mut file, &mut output).map_err(failed)?;
                }
            }
            return output.flush().map_err(failed);
        }
        let folder = match self.output.parent() {
            Some(folder) if folder != Path::new("") => folder,
            _ => Path::new("."),
        };
        // Its owner alone may read it.
        let file = NamedTempFile::new_in(folder).map_err(failed)?;
        let mut output: File = file.as_file().try_clone().map_err(failed)?;
        match self.format {
            ExportFormat::Csv => write_csv(rows, &mut output, failed).await?,
            ExportFormat::Xlsx => write_xlsx(rows, output).await?,
        }
        file.as_file().sync_all().map_err(failed)?;
        file.persist_noclobber(&self.output)
            .map_err(|error| failed(error.error))?;
        eprintln!("{count} rows were written to {}", self.output.display());
        Ok(())
    }
}

async fn write_csv(rows: Rows, output: &mut (impl Write + Send), failed: impl Fn(io::Error) -> Error) -> Result<()> {
    let mut file = CsvFile::new(rows);
    while let Some(part) = file.next().await? {
        output.write_all(&part).map_err(&failed)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_named_as_in_the_api() {
        let named = |list, argument| order(list, argument).map(ListOrder::name).map_err(|error| error.code());
        assert_eq!(named("patients", None).unwrap(), "patients ChartNo asc");
        assert_eq!(named("visits", None).unwrap(), "visits Date desc");
        assert_eq!(
            named("patients", Some("first_visit:desc")).unwrap(),
            "patients FirstVisit desc"
        );
        assert_eq!(named("visits", Some("PATIENT_NAME")).unwrap(), "visits PatientName asc");
        assert!(named("visits", Some("chart_no")).is_err());
        assert!(named("patients", Some("")).is_err());
    }
}
