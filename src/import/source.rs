//! A file that is read twice: checked to its end, and as it is committed.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tabular::{Cells, Reading, Table};
use tempfile::NamedTempFile;
use tokio::sync::mpsc;

use super::mapping::Mapping;
use super::rows::{self, Columns, Refusal};
use super::suggest::unmistakable;
use super::{FileKind, Row};
use crate::error::{Error, Result};
use crate::text;

/// The largest number of rows of a slice, which is one transaction: changes of the hospital wait for it.
pub(super) const SLICE_ROWS: usize = 5_000;

/// The most that the cells of a slice have, in bytes, but for its last row.
const SLICE_BYTES: usize = 4 << 20;

/// A file to be imported.
pub(super) struct Source {
    /// As messages name it.
    name: String,
    path: PathBuf,
    options: tabular::Options,
    /// A copy of the standard input, which only its owner may read. Deleted when this is dropped.
    _copy: Option<NamedTempFile>,
}

/// What a file was taken for.
pub(super) struct Opened {
    pub(super) reading: Reading,
    /// The mapping that was found for it.
    pub(super) found: Option<Mapping>,
}

/// Rows that are imported by one transaction.
pub(super) struct Slice {
    pub(super) rows: Vec<ReadRow>,
    /// Of the file, so far.
    pub(super) bytes_read: u64,
}

/// What the thread that reads a file sends.
pub(super) enum Message {
    Slice(Slice),
    /// The file was read to its end; its digest.
    End(Option<[u8; 32]>),
}

/// A row as it was read.
pub(super) struct ReadRow {
    pub(super) line: u64,
    pub(super) cells: Cells,
    pub(super) content: Content,
}

pub(super) enum Content {
    Blank,
    /// With the unknown words of its columns.
    Refused(Refusal, Vec<(String, String)>),
    /// With the values that are left empty.
    Row(Box<Row>, Vec<Refusal>),
}

impl Source {
    /// A file, or the standard input where the path is `-`, and how it is read: by the mapping, else by our own columns, else as its header
    /// row says unmistakably.
    pub(super) fn open(name: &str, path: &Path, kind: FileKind, mapping: Option<&Mapping>) -> Result<(Self, Opened)> {
        let read_by = |mapping: &Mapping| -> Result<tabular::Options> {
            Ok(tabular::Options {
                columns: rows::header_columns(kind, mapping)?,
                sheet: mapping.sheet.clone(),
                encoding: mapping.encoding,
                delimiter: mapping.delimiter,
                header_row: mapping.header_row,
            })
        };
        let options = read_by(mapping.unwrap_or(&Mapping::default()))?;
        let is_mapped = mapping.is_some();
        let copy = (path == Path::new("-")).then(|| copy_standard_input(&options, kind, is_mapped));
        let copy = copy.transpose()?;
        let mut source = Self {
            name: name.to_owned(),
            path: copy.as_ref().map_or(path, NamedTempFile::path).to_owned(),
            options,
            _copy: copy,
        };
        let (found, reading) = match tabular::open(&source.path, &source.options) {
            Ok(table) => (None, table.reading().clone()),
            Err(error) => {
                let found = (!is_mapped && is_of_other_columns(&error))
                    .then(|| unmistakable(&source.path, kind))
                    .flatten();
                let found = found.ok_or_else(|| source.unreadable(&error))?;
                source.options = read_by(&found)?;
                let reading = source.table()?.reading().clone();
                (Some(found), reading)
            }
        };
        Ok((source, Opened { reading, found }))
    }

    fn table(&self) -> Result<Table> {
        tabular::open(&self.path, &self.options).map_err(|error| self.unreadable(&error))
    }

    /// In bytes.
    pub(super) fn length(&self) -> u64 {
        std::fs::metadata(&self.path).map_or(0, |metadata| metadata.len())
    }

    pub(super) fn unreadable(&self, error: &tabular::Error) -> Error {
        unreadable(&self.name, error)
    }

    /// Reads the rows in a thread of its own, while those before are taken into the database.
    pub(super) fn slices(&self, columns: &Arc<Columns>) -> Result<mpsc::Receiver<Result<Message>>> {
        let mut table = self.table()?;
        let name = self.name.clone();
        let columns = Arc::clone(columns);
        let (sender, receiver) = mpsc::channel(1);
        tokio::task::spawn_blocking(move || {
            loop {
                let message = next_slice(&mut table, &columns).map_err(|error| unreadable(&name, &error));
                let is_last = !matches!(message, Ok(Message::Slice(_)));
                // The receiver is dropped where the import failed.
                if sender.blocking_send(message).is_err() || is_last {
                    return;
                }
            }
        });
        Ok(receiver)
    }
}

fn next_slice(table: &mut Table, columns: &Columns) -> tabular::Result<Message> {
    let mut rows = Vec::new();
    let mut bytes = 0;
    while rows.len() < SLICE_ROWS && bytes < SLICE_BYTES {
        let Some(row) = table.next() else { break };
        let row = read_row(row?, columns);
        bytes += row.cells.iter().map(str::len).sum::<usize>();
        rows.push(row);
    }
    if rows.is_empty() {
        return Ok(Message::End(table.digest()));
    }
    Ok(Message::Slice(Slice {
        rows,
        bytes_read: table.bytes_read(),
    }))
}

fn read_row(row: tabular::Row, columns: &Columns) -> ReadRow {
    let line = row.line;
    if columns.is_blank(&row) {
        return ReadRow {
            line,
            cells: row.cells,
            content: Content::Blank,
        };
    }
    let cells: Cells = row.cells.iter().map(text::nfc).collect();
    let mut remarks = Vec::new();
    let content = match columns.check(&row).and_then(|()| columns.read(&cells, &mut remarks)) {
        Ok(row) => Content::Row(Box::new(row), remarks),
        Err(refusal) => Content::Refused(refusal, columns.unknown_words(&cells)),
    };
    ReadRow { line, cells, content }
}

/// How much of the standard input is looked at before it is copied whole, in bytes.
const BEGINNING: u64 = 4 << 20;

/// Copies the standard input to a temporary file, unless it does not begin as a file that can be imported: it may have no end.
fn copy_standard_input(options: &tabular::Options, kind: FileKind, is_mapped: bool) -> Result<NamedTempFile> {
    let failed = |error: std::io::Error| {
        let message = format!("the standard input cannot be copied to a temporary file: {error}");
        Error::input("file", message)
    };
    let mut input = std::io::stdin().lock();
    let mut file = NamedTempFile::new().map_err(failed)?;
    let begun = std::io::copy(&mut (&mut input).take(BEGINNING), &mut file).map_err(failed)?;
    file.flush().map_err(failed)?;
    // The end of an XLSX file says what it has.
    if begun == BEGINNING && !is_zip(file.path()).map_err(failed)? {
        let first = tabular::open(file.path(), options).and_then(|mut table| table.next().transpose());
        if let Err(error) = first {
            let has_columns = !is_mapped && is_of_other_columns(&error) && unmistakable(file.path(), kind).is_some();
            has_columns.then_some(()).ok_or_else(|| unreadable("-", &error))?;
        }
    }
    std::io::copy(&mut input, &mut file).map_err(failed)?;
    file.flush().map_err(failed)?;
    Ok(file)
}

/// Whether a file could be read if it had other columns.
const fn is_of_other_columns(error: &tabular::Error) -> bool {
    matches!(error, tabular::Error::NoHeader(_))
}

fn is_zip(path: &Path) -> std::io::Result<bool> {
    let mut signature = [0; 2];
    std::fs::File::open(path)?.read_exact(&mut signature)?;
    Ok(&signature == b"PK")
}

fn unreadable(name: &str, error: &tabular::Error) -> Error {
    Error::input("file", format!("{name}: {error}"))
}
