//! Reads rows of CSV and XLSX files as people have them.
//!
//! [`open`] and [`read`] find format, encoding, delimiter, sheet and header row, and say what they found ([`Reading`]). Nothing is
//! guessed: where several readings fit, the error lists them, and [`Options`] choose one. A [`Table`] then yields the rows, one at a
//! time.
//!
//! # What fits
//!
//! - A file that begins with a byte order mark has its encoding. Otherwise valid UTF-8 is UTF-8, and other text is each of CP949,
//!   Shift_JIS and Windows-1252 that its first MiB is valid in; see [`Encoding`].
//! - A delimiter, and a sheet that is not hidden, fit where a row among the first 50 has all names in [`Options::columns`]: this is
//!   the header row. A header row of one cell is read with commas.
//! - In a spreadsheet, a cell of the header row that is merged with cells above it has their text.
//!
//! # Rows
//!
//! - CSV is as RFC 4180 says, with any line ending. A quote that does not begin a cell is a character like others. Text after a closing
//!   quote is a [`Problem`] of the row. A quote that is not closed ends the file with an error.
//! - In a spreadsheet, numbers are written without exponent or needless zeros (`12`, `0.5`), dates and times as `2021-12-31`,
//!   `2021-12-31T09:30:00` and `09:30:00`, durations as `26:30:00`, booleans as `TRUE` and `FALSE`. A cell with an error, such as
//!   `#REF!`, is a [`Problem`]. Cells to the right of the header row's last one are left out where the options have its columns or line, and
//!   rows without any value are no rows.
//! - A bad cell is a problem of its row. Everything else is an error that ends the file. Neither has the value of a cell.
//!
//! # Bounds
//!
//! Memory does not grow with a CSV file. The largest XLSX file that is taken has 256 MiB, 1 GiB uncompressed, 16,000,000 cells,
//! 1,000,000 distinct texts of 48 MiB in all. A record or cell has at most 1 MiB. A file that changes while it
//! is read ends with an error.

mod csv;
mod encoding;
mod error;
mod find;
mod header;
mod input;
mod xlsx;
mod xlsx_bounds;

use std::io::Read;
use std::path::Path;

pub use encoding::Encoding;
pub use error::{Error, Problem, ProblemKind, Result};
pub use input::MAX_XLSX_BYTES;
pub use xlsx_bounds::{MAX_CELLS, MAX_SHARED_STRINGS, MAX_SHARED_STRINGS_BYTES, MAX_UNCOMPRESSED};

/// The largest record of a CSV file, row of a sheet, or cell, in bytes.
pub const MAX_RECORD_BYTES: usize = 1 << 20;

string_enum::string_enum!(
    /// The format of a file.
    Format {
        Csv = "CSV",
        Xlsx = "XLSX",
    }
);

string_enum::string_enum!(
    /// What separates the cells of a CSV file.
    Delimiter {
        Comma = ",",
        Semicolon = ";",
        Tab = "tab",
        Pipe = "|",
    }
);

impl Delimiter {
    const fn byte(self) -> u8 {
        match self {
            Self::Comma => b',',
            Self::Semicolon => b';',
            Self::Tab => b'\t',
            Self::Pipe => b'|',
        }
    }
}

/// What is known about a file. What is absent is found.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The names that the header row must have. They are compared without blanks at their ends and in Unicode NFC. Without any, the
    /// header row is the first one with a value.
    pub columns: Vec<String>,
    /// The sheet's name. Hidden sheets are read only where they are named.
    pub sheet: Option<String>,
    pub encoding: Option<Encoding>,
    pub delimiter: Option<Delimiter>,
    /// The header row's line, from 1; what is above is not read.
    pub header_row: Option<u64>,
}

/// What a file was taken for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    pub format: Format,
    /// The sheet's name; none for CSV.
    pub sheet: Option<String>,
    /// None for XLSX.
    pub encoding: Option<Encoding>,
    /// None for XLSX.
    pub delimiter: Option<Delimiter>,
    /// The line on which the header row begins.
    pub header_row: u64,
    /// The cells of the header row, without blanks at their ends.
    pub headers: Vec<String>,
}

/// The cells of a row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cells {
    text: String,
    /// Where each cell ends in the text.
    ends: Vec<usize>,
}

impl Cells {
    fn push(&mut self, cell: &str) {
        self.text.push_str(cell);
        self.ends.push(self.text.len());
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Whether no cell has more than blanks.
    #[must_use]
    pub fn is_blank(&self) -> bool {
        self.text.trim().is_empty()
    }

    #[must_use]
    pub fn get(&self, index: usize) -> Option<&str> {
        let start = match index.checked_sub(1) {
            Some(before) => *self.ends.get(before)?,
            None => 0,
        };
        self.text.get(start..*self.ends.get(index)?)
    }

    pub fn iter(&self) -> impl Iterator<Item = &str> {
        (0..self.len()).filter_map(|index| self.get(index))
    }
}

impl<S: AsRef<str>> FromIterator<S> for Cells {
    fn from_iter<I: IntoIterator<Item = S>>(cells: I) -> Self {
        let mut row = Self::default();
        for cell in cells {
            row.push(cell.as_ref());
        }
        row
    }
}

/// A row below the header row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// The line on which the row begins, as a text editor counts; in a spreadsheet the row's number.
    pub line: u64,
    pub cells: Cells,
    /// What is wrong with cells; mostly empty.
    pub problems: Vec<Problem>,
}

/// A file that is being read: an iterator of its rows, which ends after the first error.
pub struct Table {
    reading: Reading,
    rows: Rows,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Reading,
    /// All rows were read.
    Complete,
    Failed,
}

enum Rows {
    Csv(Box<csv::Records<encoding::Decoder<input::Input>>>),
    Xlsx(Box<xlsx::Rows>),
}

/// Opens a file.
///
/// # Errors
/// Where the file cannot be read, or not in exactly one way.
pub fn open(path: &Path, options: &Options) -> Result<Table> {
    Table::new(input::Input::open(path)?, options)
}

/// Reads from a stream, such as the standard input. An XLSX file is copied to a temporary file first, which only its owner may read.
///
/// # Errors
/// Where the stream cannot be read, or not in exactly one way.
pub fn read(stream: impl Read + Send + 'static, options: &Options) -> Result<Table> {
    Table::new(input::Input::stream(stream), options)
}

impl Table {
    fn new(mut input: input::Input, options: &Options) -> Result<Self> {
        let prefix = input.peek()?;
        let (reading, rows) = match find::content(prefix)? {
            find::Content::Zip => {
                let (reading, rows) = xlsx::Rows::open(input.into_file()?, options)?;
                (reading, Rows::Xlsx(Box::new(rows)))
            }
            find::Content::Text => {
                let complete = prefix.len() < input::PREFIX_BYTES;
                let (encoding, delimiter) = find::reading(prefix, complete, options)?;
                let mut records = csv::Records::new(encoding::Decoder::new(input, encoding), delimiter.byte());
                let header = header::search_csv(&mut records, options)?;
                let (header_row, headers) = header.map_err(Error::NoHeader)?;
                let reading = Reading {
                    format: Format::Csv,
                    sheet: None,
                    encoding: Some(encoding),
                    delimiter: Some(delimiter),
                    header_row,
                    headers,
                };
                (reading, Rows::Csv(Box::new(records)))
            }
        };
        Ok(Self {
            reading,
            rows,
            state: State::Reading,
        })
    }

    #[must_use]
    pub fn reading(&self) -> &Reading {
        &self.reading
    }

    /// How many bytes of the file were read.
    #[must_use]
    pub fn bytes_read(&self) -> u64 {
        match &self.rows {
            Rows::Csv(records) => records.source().source().bytes_read(),
            Rows::Xlsx(rows) => rows.length(),
        }
    }

    /// The SHA-256 of the file's bytes; none before all rows were read.
    #[must_use]
    pub fn digest(&self) -> Option<[u8; 32]> {
        let digest = match &self.rows {
            Rows::Csv(records) => records.source().source().digest(),
            Rows::Xlsx(rows) => rows.digest(),
        };
        Some(digest).filter(|_| self.state == State::Complete)
    }

    fn read_row(&mut self) -> Result<Option<Row>> {
        match &mut self.rows {
            Rows::Csv(records) => {
                let row = records.next_record()?;
                if row.is_none() {
                    records.source().source().check_unchanged()?;
                }
                Ok(row)
            }
            Rows::Xlsx(rows) => rows.next_row(),
        }
    }
}

impl Iterator for Table {
    type Item = Result<Row>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.state != State::Reading {
            return None;
        }
        let row = self.read_row().transpose();
        self.state = match row {
            Some(Ok(_)) => State::Reading,
            Some(Err(_)) => State::Failed,
            None => State::Complete,
        };
        row
    }
}
