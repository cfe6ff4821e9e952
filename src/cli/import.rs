use std::path::PathBuf;

use clap::Args;

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
    /// A CSV file: UTF-8, with a header row
    file: PathBuf,
    /// Maps columns and values of another system's file
    #[arg(long, value_name = "FILE.toml")]
    mapping: Option<PathBuf>,
}

impl ImportArgs {
    pub(super) async fn run(self) -> Result<()> {
        let store = self.database.open().await?;
        let hospital = hospital_by_code(&store, &self.hospital).await?;
        let mapping = self.mapping.as_deref().map(Mapping::read).transpose()?;
        let mut report = |problem: &RowProblem| eprintln!("{problem}");
        let summary = import::import(&store, &hospital, self.kind, &self.file, mapping.as_ref(), &mut report).await?;
        println!("{summary}");
        Ok(())
    }
}
