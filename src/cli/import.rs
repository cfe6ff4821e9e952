use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use tabular::Reading;

use super::database::DatabaseArgs;
use super::{hospital_by_code, word_parser};
use crate::error::Result;
use crate::import::{self, FileKind, Mapping, RowProblem};

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
}

impl ImportArgs {
    /// Exits with `ROWS_REFUSED` where some rows were refused.
    pub(super) async fn run(self) -> Result<ExitCode> {
        let mapping = self.mapping.as_deref().map(Mapping::read).transpose()?;
        let store = self.database.open().await?;
        let hospital = hospital_by_code(&store, &self.hospital).await?;
        let mut report = |problem: &RowProblem| eprintln!("{problem}");
        let imported = import::import(&store, &hospital, self.kind, &self.file, mapping.as_ref(), &mut report).await?;
        for word in &imported.unknown_words {
            eprintln!("{word}");
        }
        eprintln!("read as {}", reading(&imported.reading));
        println!("{}", imported.summary);
        Ok(if imported.summary.refused > 0 {
            ExitCode::from(ROWS_REFUSED)
        } else {
            ExitCode::SUCCESS
        })
    }
}

/// The exit status of an import that refused rows.
const ROWS_REFUSED: u8 = 2;

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
