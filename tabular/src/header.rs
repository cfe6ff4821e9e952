//! The header row: the first one that has all columns.

use std::io::Read;

use icu_normalizer::ComposingNormalizer;

use crate::csv::Records;
use crate::error::{NoHeader, Result};
use crate::{Cells, Options};

/// How many rows are searched.
const SEARCHED_ROWS: u64 = 50;

/// A header row: its line and cells.
pub(crate) type Header = (u64, Vec<String>);

fn normalized(text: &str) -> String {
    ComposingNormalizer::new_nfc().normalize(text.trim()).into_owned()
}

/// Searches rows from the first one on.
pub(crate) struct Search<'a> {
    options: &'a Options,
    columns: Vec<String>,
    searched: u64,
    closest: Option<(u64, Vec<String>)>,
}

impl<'a> Search<'a> {
    pub(crate) fn new(options: &'a Options) -> Self {
        Self {
            options,
            columns: options.columns.iter().map(|column| normalized(column)).collect(),
            searched: 0,
            closest: None,
        }
    }

    /// Whether the row is the header row.
    pub(crate) fn is_header(&mut self, line: u64, cells: &[String]) -> bool {
        if self.options.header_row.is_some_and(|row| row != line) {
            return false;
        }
        self.searched += 1;
        if self.columns.is_empty() {
            return cells.iter().any(|cell| !cell.trim().is_empty());
        }
        let names: Vec<String> = cells.iter().map(|cell| normalized(cell)).collect();
        let has = |column: &&String| names.contains(column);
        let missing: Vec<String> = self.columns.iter().filter(|column| !has(column)).cloned().collect();
        let fewest = self
            .closest
            .as_ref()
            .map_or(self.columns.len(), |(_, fewest)| fewest.len());
        let is_header = missing.is_empty();
        if missing.len() < fewest {
            self.closest = Some((line, missing));
        }
        is_header
    }

    /// Whether the next row is searched, too.
    pub(crate) fn goes_on(&self, line: u64) -> bool {
        match self.options.header_row {
            Some(row) => line <= row,
            None => self.searched < SEARCHED_ROWS,
        }
    }

    pub(crate) fn not_found(self) -> NoHeader {
        NoHeader {
            line: self.options.header_row,
            closest: self.closest,
            columns: self.options.columns.clone(),
        }
    }
}

/// The header row of a CSV file; its records are read up to and with it. `Err` within is what was searched in vain.
pub(crate) fn search_csv<R: Read>(
    records: &mut Records<R>,
    options: &Options,
) -> Result<std::result::Result<Header, NoHeader>> {
    if let Some(row) = options.header_row {
        records.skip_to_line(row)?;
    }
    let mut search = Search::new(options);
    while let Some(row) = records.next_record()?.filter(|row| search.goes_on(row.line)) {
        let cells: Vec<String> = trimmed(&row.cells);
        if search.is_header(row.line, &cells) {
            return Ok(Ok((row.line, cells)));
        }
    }
    Ok(Err(search.not_found()))
}

fn trimmed(cells: &Cells) -> Vec<String> {
    cells.iter().map(|cell| cell.trim().to_owned()).collect()
}
