use std::fmt;

use crate::{Encoding, MAX_RECORD_BYTES};

pub type Result<T> = std::result::Result<T, Error>;

/// Why a file is not read, or not to its end. No text has the value of a cell below the header row.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot be read: {0}")]
    Io(#[from] std::io::Error),
    #[error("is empty: it must have a header row")]
    Empty,
    #[error("is neither CSV nor XLSX but {0}: save it as XLSX or CSV")]
    OtherFormat(&'static str),
    #[error("begins with the byte order mark of {mark}: it cannot be read as {encoding}", mark = .mark.as_str(), encoding = .encoding.as_str())]
    OtherByteOrderMark { mark: Encoding, encoding: Encoding },
    #[error(
        "is in none of the encodings UTF-8, UTF-16, CP949, Shift_JIS and Windows-1252 as a whole: save it as UTF-8, or say in a \
         mapping what its encoding is, and rows that are not in it are refused"
    )]
    UnknownEncoding,
    #[error("can be read in several ways, as {}: say in a mapping which encoding and delimiter it has", .0.join("; "))]
    SeveralReadings(Vec<String>),
    #[error("has several sheets that fit: {}; say in a mapping which one", .0.join(", "))]
    SeveralSheets(Vec<String>),
    #[error("has no sheet {sheet:?}; it has: {}", .sheets.join(", "))]
    NoSuchSheet { sheet: String, sheets: Vec<String> },
    #[error("{0}")]
    NoHeader(NoHeader),
    #[error(
        "line {line}: a quote is not closed within {MAX_RECORD_BYTES} bytes or before the file ends: close it, or double it where it \
         is part of the text"
    )]
    UnclosedQuote { line: u64 },
    #[error("line {line}: the row has more than {MAX_RECORD_BYTES} bytes")]
    TooLong { line: u64 },
    #[error("changed while it was read: import it again when it is complete")]
    Changed,
    #[error("is too large: it has more than {0}; save it as CSV")]
    TooLarge(String),
    #[error("is not a complete XLSX file ({0}): save it again as XLSX, or as CSV")]
    Damaged(String),
}

/// Why no row is the header row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NoHeader {
    /// The line that was looked at, where the options name one.
    pub line: Option<u64>,
    /// The row that has most of the columns: its line, and the columns that it does not have.
    pub closest: Option<(u64, Vec<String>)>,
    /// The columns that the header row must have.
    pub columns: Vec<String>,
}

impl fmt::Display for NoHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((line, missing)) = &self.closest {
            let (columns, are) = if missing.len() == 1 {
                ("column", "is")
            } else {
                ("columns", "are")
            };
            return write!(
                f,
                "line {line} is most like a header row, but the {columns} {} {are} missing",
                missing.join(", ")
            );
        }
        match self.line {
            Some(line) => write!(f, "line {line} is not a header row")?,
            None => f.write_str("no header row was found")?,
        }
        if !self.columns.is_empty() {
            write!(f, ": it must have the columns {}", self.columns.join(", "))?;
        }
        Ok(())
    }
}

/// What is wrong with a row, or one cell of it. A bad cell's text is not to be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The cell, from 0; none where it is the whole row.
    pub cell: Option<usize>,
    pub kind: ProblemKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProblemKind {
    /// Bytes that the encoding does not have.
    NotInEncoding,
    /// Text after a closing quote. The row ends on the line `last_line`.
    TextAfterQuote { last_line: u64 },
    /// An error of the spreadsheet, such as `#REF!`.
    ErrorValue,
    /// A number that is no date or time, in a cell that is formatted as one.
    NotADate,
}

impl fmt::Display for ProblemKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotInEncoding => f.write_str("has bytes that are not in the file's encoding"),
            Self::TextAfterQuote { last_line } => {
                write!(
                    f,
                    "text follows a closing quote; the row was read up to line {last_line}: double quotes within quotes"
                )
            }
            Self::ErrorValue => f.write_str("has an error of the spreadsheet, such as #REF!"),
            Self::NotADate => f.write_str("is formatted as a date, but is none"),
        }
    }
}
