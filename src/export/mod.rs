//! Lists as files: rows are read in slices, in the order of the list, and written as CSV or XLSX, so that a file of any length takes
//! little memory.

mod columns;
mod csv;
mod rows;
mod xlsx;

use std::fs::File;

use chrono::NaiveDate;

use crate::error::{Error, Result};
use crate::store::ExportFormat;

pub use rows::Rows;
pub use xlsx::MAX_SHEET_ROWS;

/// A value of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cell {
    Empty,
    Text(String),
    Number(i64),
    Flag(bool),
    Date(NaiveDate),
}

/// A CSV file that is written part by part.
pub struct CsvFile {
    rows: Rows,
    has_header: bool,
}

impl CsvFile {
    /// A file with these rows.
    #[must_use]
    pub const fn new(rows: Rows) -> Self {
        Self {
            rows,
            has_header: false,
        }
    }

    /// The next part: first the header, then the rows of a slice each; none at the end.
    ///
    /// # Errors
    /// If the rows cannot be read.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>> {
        if !self.has_header {
            self.has_header = true;
            return csv::header(&self.rows.headers()).map(Some);
        }
        let slice = self.rows.next().await?;
        slice.map(|slice| csv::rows(&slice)).transpose()
    }
}

/// Writes an XLSX file. What it needs besides is in temporary files without a name, which are gone once they are closed.
///
/// # Errors
/// If there are too many rows for a sheet, the rows cannot be read, the file cannot be written, or a text is longer than a cell may be.
pub async fn write_xlsx(rows: Rows, file: File) -> Result<()> {
    check_length("format", ExportFormat::Xlsx, rows.len() as u64)?;
    xlsx::write(rows, file).await
}

/// Refuses more rows than a file of the format may have; `argument` names the format.
///
/// # Errors
/// BAD_USER_INPUT.
pub fn check_length(argument: &str, format: ExportFormat, rows: u64) -> Result<()> {
    match format {
        ExportFormat::Xlsx if rows > MAX_SHEET_ROWS => {
            let message = format!(
                "a sheet has at most {MAX_SHEET_ROWS} rows below its header, and the list has {rows}: take CSV"
            );
            Err(Error::input(argument, message))
        }
        ExportFormat::Csv | ExportFormat::Xlsx => Ok(()),
    }
}

fn unwritable(error: &dyn std::fmt::Display) -> Error {
    Error::Internal(format!("a file cannot be written: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_that_is_too_long_for_a_sheet_is_refused() {
        let refused = |format, rows| check_length("input.format", format, rows).is_err();
        assert!(!refused(ExportFormat::Xlsx, 1_048_575));
        assert!(refused(ExportFormat::Xlsx, 1_048_576));
        assert!(!refused(ExportFormat::Csv, 1_048_576));
    }
}
