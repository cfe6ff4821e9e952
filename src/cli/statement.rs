use std::path::PathBuf;

use chrono::NaiveDate;
use clap::{Args, Subcommand};

use super::database::DatabaseArgs;
use super::hospital_by_code;
use crate::config::Limits;
use crate::error::{Error, Result};
use crate::graphql::cohort_digest;
use crate::private_files::create_file;
use crate::reporting::Reporting;
use crate::statement::{StatementFile, check_chain, month_text};

#[derive(Subcommand)]
pub(super) enum StatementCommand {
    /// Writes the statement of a sealed month as a file, which can be verified without the server
    Export(ExportArgs),
    /// Checks the digests of statement files, and that several follow one another; needs no database
    Verify(VerifyArgs),
}

#[derive(Args)]
pub(super) struct ExportArgs {
    #[command(flatten)]
    database: DatabaseArgs,
    /// The hospital's code
    #[arg(long)]
    hospital: String,
    /// The month, such as 2025-05
    #[arg(long, value_name = "YYYY-MM", value_parser = month)]
    month: NaiveDate,
    /// The file to write, which must not exist; the standard output if absent
    #[arg(long, value_name = "FILE.json")]
    output: Option<PathBuf>,
}

#[derive(Args)]
pub(super) struct VerifyArgs {
    /// Statement files of one hospital, in any order; of several, one for each month from the first to the last
    #[arg(required = true)]
    files: Vec<PathBuf>,
}

fn month(text: &str) -> std::result::Result<NaiveDate, &'static str> {
    NaiveDate::parse_from_str(&format!("{text}-01"), "%Y-%m-%d").map_err(|_| "must be a month, such as 2025-05")
}

impl StatementCommand {
    pub(super) async fn run(self) -> Result<()> {
        match self {
            Self::Export(args) => args.run().await,
            Self::Verify(args) => args.run(),
        }
    }
}

impl ExportArgs {
    async fn run(self) -> Result<()> {
        let store = self.database.open().await?;
        let hospital = hospital_by_code(&store, &self.hospital).await?;
        let found = store.statements_of_months(hospital.id, &[self.month]).await?;
        let Some(statement) = found.into_iter().next() else {
            return Err(Error::input(
                "month",
                format!("{} is not sealed", month_text(self.month)),
            ));
        };
        let reporting = Reporting::new(store, &Limits::default());
        let file = reporting
            .statement_file(&statement, &hospital.code, cohort_digest)
            .await?;
        let text = serde_json::to_string_pretty(&file)
            .map_err(|error| Error::Internal(format!("a statement cannot be written as JSON: {error}")))?;
        match self.output {
            None => println!("{text}"),
            Some(path) => {
                let written = create_file(&path)
                    .and_then(|mut file| std::io::Write::write_all(&mut file, format!("{text}\n").as_bytes()));
                written.map_err(|error| {
                    Error::input("output", format!("{} cannot be written: {error}", path.display()))
                })?;
            }
        }
        Ok(())
    }
}

impl VerifyArgs {
    fn run(self) -> Result<()> {
        let mut files = self
            .files
            .iter()
            .map(|path| StatementFile::read(path))
            .collect::<Result<Vec<_>>>()?;
        check_chain(&mut files)?;
        for StatementFile { digest, statement } in &files {
            println!("{} {} {digest}", statement.hospital, month_text(statement.month));
        }
        Ok(())
    }
}
