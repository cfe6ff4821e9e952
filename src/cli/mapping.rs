use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::word_parser;
use crate::error::Result;
use crate::import::{FileKind, suggest};

#[derive(Subcommand)]
pub(super) enum MappingCommand {
    /// Prints a mapping to begin with for a file of another system
    Suggest(SuggestArgs),
}

#[derive(Args)]
pub(super) struct SuggestArgs {
    /// A CSV or XLSX file
    file: PathBuf,
    /// What the file contains; by default what its columns say
    #[arg(long, value_parser = word_parser(FileKind::ALL, FileKind::as_str))]
    kind: Option<FileKind>,
    /// The sheet of an XLSX file that has several
    #[arg(long, value_name = "NAME")]
    sheet: Option<String>,
}

impl MappingCommand {
    pub(super) fn run(self) -> Result<()> {
        let Self::Suggest(SuggestArgs { file, kind, sheet }) = self;
        print!("{}", suggest(&file, kind, sheet.as_deref())?);
        Ok(())
    }
}
