//! Rows of XLSX files.

use std::fs::File;
use std::io::BufReader;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use calamine::{
    DataRef, Dimensions, ExcelDateTime, Reader as _, SheetType, SheetVisible, Xlsx, XlsxCellReader, XlsxError,
};

use crate::error::{Error, NoHeader, Problem, ProblemKind, Result};
use crate::header::{Header, Search};
use crate::input::{Input, Spooled};
use crate::{Format, MAX_RECORD_BYTES, Options, Reading, Row, find, xlsx_bounds};

/// Rows are passed on in batches of about this size.
const BATCH_BYTES: usize = 256 << 10;
const BATCH_ROWS: usize = 1_000;
const MAX_COLUMNS: u32 = 16_384;
const MAX_ROWS: u32 = 1_048_576;

type Workbook = Xlsx<BufReader<File>>;

enum Message {
    Opened(Reading),
    Rows(Vec<Row>),
    End,
}

/// Rows of a sheet. A thread reads them, since `calamine`'s reader of cells borrows the workbook.
pub(crate) struct Rows {
    input: Input,
    messages: Receiver<Result<Message>>,
    batch: std::vec::IntoIter<Row>,
}

impl Rows {
    pub(crate) fn open(spooled: Spooled, options: &Options) -> Result<(Reading, Self)> {
        let Spooled { file, input } = spooled;
        let options = options.clone();
        let (sender, messages) = sync_channel(2);
        thread::Builder::new().name("xlsx".to_owned()).spawn(move || {
            if let Err(error) = send_sheet(file, &options, &sender) {
                // Where nobody listens any more, nothing is to be done.
                drop(sender.send(Err(error)));
            }
        })?;
        let mut rows = Self {
            input,
            messages,
            batch: Vec::new().into_iter(),
        };
        match rows.receive()? {
            Message::Opened(reading) => Ok((reading, rows)),
            Message::Rows(_) | Message::End => Err(unreadable()),
        }
    }

    fn receive(&mut self) -> Result<Message> {
        // The thread sends its end. Where it does not, a library panicked.
        self.messages.recv().unwrap_or_else(|_| Err(unreadable()))
    }

    pub(crate) fn next_row(&mut self) -> Result<Option<Row>> {
        loop {
            if let Some(row) = self.batch.next() {
                return Ok(Some(row));
            }
            match self.receive()? {
                Message::Rows(batch) => self.batch = batch.into_iter(),
                Message::Opened(_) | Message::End => {
                    self.input.check_unchanged()?;
                    return Ok(None);
                }
            }
        }
    }

    pub(crate) fn length(&self) -> u64 {
        self.input.bytes_read()
    }

    pub(crate) fn digest(&self) -> [u8; 32] {
        self.input.digest()
    }
}

fn unreadable() -> Error {
    Error::Damaged("it cannot be read".to_owned())
}

/// The error of a workbook; `calamine`'s text may quote a cell.
fn error(after_row: u64, error: XlsxError) -> Error {
    match error {
        XlsxError::Io(error) => Error::Io(error),
        XlsxError::Password => Error::OtherFormat("a file with a password"),
        XlsxError::CellError(_) => Error::Damaged(format!(
            "a cell after row {after_row} has an unknown error, such as #SPILL!"
        )),
        XlsxError::FileNotFound(_) | XlsxError::RelationshipNotFound => {
            Error::OtherFormat("another archive, such as ODS or ZIP")
        }
        _ => Error::Damaged(format!("something after row {after_row} cannot be read")),
    }
}

fn send_sheet(file: File, options: &Options, sender: &SyncSender<Result<Message>>) -> Result<()> {
    let has_merged_cells = xlsx_bounds::check(file.try_clone()?)?;
    let mut workbook: Workbook = Xlsx::new(BufReader::new(file)).map_err(|failed| error(0, failed))?;
    let (sheet, (header_row, headers)) = find_sheet(&mut workbook, has_merged_cells, options)?;
    // Without columns or a line, any row may turn out to be the header row.
    let width = (options.header_row.is_some() || !options.columns.is_empty()).then_some(headers.len());
    let reading = Reading {
        format: Format::Xlsx,
        sheet: Some(sheet.clone()),
        encoding: None,
        delimiter: None,
        header_row,
        headers,
    };
    // Where nobody listens any more, there is no more to do.
    if sender.send(Ok(Message::Opened(reading))).is_err() {
        return Ok(());
    }
    let mut rows = SheetRows::new(&mut workbook, &sheet)?;
    let (mut batch, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.next_row()? {
        if row.line <= header_row {
            continue;
        }
        let row = match width {
            Some(width) => row.with_width(width),
            None => row,
        };
        // Not even a problem: it is to the right of the header row.
        if row.cells.is_blank() && row.problems.is_empty() {
            continue;
        }
        bytes += row.cells.text.len();
        batch.push(row);
        if bytes >= BATCH_BYTES || batch.len() >= BATCH_ROWS {
            bytes = 0;
            if sender.send(Ok(Message::Rows(std::mem::take(&mut batch)))).is_err() {
                return Ok(());
            }
        }
    }
    drop(sender.send(Ok(Message::Rows(batch))));
    drop(sender.send(Ok(Message::End)));
    Ok(())
}

/// The only sheet that fits, and its header row.
fn find_sheet(workbook: &mut Workbook, has_merged_cells: bool, options: &Options) -> Result<(String, Header)> {
    let sheets = workbook
        .sheets_metadata()
        .iter()
        .filter(|sheet| sheet.typ == SheetType::WorkSheet);
    let names: Vec<String> = match &options.sheet {
        Some(name) => sheets
            .filter(|sheet| sheet.name == *name)
            .map(|sheet| sheet.name.clone())
            .collect(),
        None => sheets
            .filter(|sheet| sheet.visible == SheetVisible::Visible)
            .map(|sheet| sheet.name.clone())
            .collect(),
    };
    if let (Some(sheet), true) = (&options.sheet, names.is_empty()) {
        return Err(Error::NoSuchSheet {
            sheet: sheet.clone(),
            sheets: workbook.sheet_names(),
        });
    }
    if workbook.sheet_names().is_empty() {
        return Err(Error::OtherFormat("a file without sheets"));
    }
    let (mut fitting, mut not_found) = (Vec::new(), Vec::new());
    for name in names {
        let merged = if has_merged_cells {
            merged_cells(workbook, &name)?
        } else {
            Vec::new()
        };
        match find_header(workbook, &name, merged, options)? {
            Ok(header) => fitting.push((name, header)),
            Err(searched) => not_found.push(searched),
        }
    }
    match fitting.len() {
        0 => Err(Error::NoHeader(find::closest(not_found))),
        1 => fitting.pop().ok_or_else(unreadable),
        _ => Err(Error::SeveralSheets(
            fitting.into_iter().map(|(name, _)| name).collect(),
        )),
    }
}

fn merged_cells(workbook: &mut Workbook, sheet: &str) -> Result<Vec<Dimensions>> {
    workbook
        .merge_cells_by_sheet_name(sheet)
        .map_err(|failed| error(0, failed))
}

fn find_header(
    workbook: &mut Workbook,
    sheet: &str,
    merged: Vec<Dimensions>,
    options: &Options,
) -> Result<std::result::Result<Header, NoHeader>> {
    let mut rows = SheetRows::new(workbook, sheet)?;
    let mut search = Search::new(options);
    let mut above = MergedAbove {
        merged,
        texts: Vec::new(),
    };
    while let Some(row) = rows.next_row()?.filter(|row| search.goes_on(row.line)) {
        let cells = above.fill(&row);
        if search.is_header(row.line, &cells) {
            return Ok(Ok((row.line, cells)));
        }
    }
    Ok(Err(search.not_found()))
}

/// Cells that are merged with cells above them.
struct MergedAbove {
    merged: Vec<Dimensions>,
    /// The texts of cells that others below are merged with, with the merged cells.
    texts: Vec<(Dimensions, String)>,
}

impl MergedAbove {
    /// The cells of a row up to the last that is not empty.
    fn fill(&mut self, row: &Row) -> Vec<String> {
        let mut cells: Vec<String> = row.cells.iter().map(|cell| cell.trim().to_owned()).collect();
        let row = u32::try_from(row.line - 1).unwrap_or(u32::MAX);
        for (area, text) in self
            .texts
            .iter()
            .filter(|(area, _)| area.start.0 < row && row <= area.end.0)
        {
            let column = area.start.1 as usize;
            if cells.len() <= column {
                cells.resize(column + 1, String::new());
            }
            if let Some(cell) = cells.get_mut(column).filter(|cell| cell.is_empty()) {
                cell.clone_from(text);
            }
        }
        self.texts.retain(|(area, _)| area.end.0 > row);
        let begins = |area: &&Dimensions| area.start.0 == row && area.end.0 > row;
        for area in self.merged.iter().filter(begins) {
            if let Some(text) = cells.get(area.start.1 as usize).filter(|text| !text.is_empty()) {
                self.texts.push((*area, text.clone()));
            }
        }
        while cells.last().is_some_and(String::is_empty) {
            cells.pop();
        }
        cells
    }
}

impl Row {
    /// The row with as many cells as the header row.
    fn with_width(mut self, width: usize) -> Self {
        self.cells.ends.truncate(width);
        let length = self.cells.ends.last().copied().unwrap_or(0);
        self.cells.text.truncate(length);
        self.cells.ends.resize(width, length);
        self.problems
            .retain(|problem| problem.cell.is_none_or(|cell| cell < width));
        self
    }
}

/// The rows of a sheet that have a value, each up to its last value.
struct SheetRows<'a> {
    cells: XlsxCellReader<'a, BufReader<File>>,
    /// The first cell of the next row.
    next: Option<(u32, u32, Value)>,
    /// The last row that was begun, from 0.
    row: Option<u32>,
}

/// The text of a cell, or what is wrong with it.
type Value = std::result::Result<String, ProblemKind>;

impl<'a> SheetRows<'a> {
    fn new(workbook: &'a mut Workbook, sheet: &str) -> Result<Self> {
        let cells = workbook
            .worksheet_cells_reader(sheet)
            .map_err(|failed| error(0, failed))?;
        let mut rows = Self {
            cells,
            next: None,
            row: None,
        };
        rows.next = rows.next_value()?;
        Ok(rows)
    }

    /// The next cell that has a value.
    fn next_value(&mut self) -> Result<Option<(u32, u32, Value)>> {
        let line = self.row.map_or(0, |row| u64::from(row) + 1);
        while let Some(cell) = self.cells.next_cell().map_err(|failed| error(line, failed))? {
            let (row, column) = cell.get_position();
            if row >= MAX_ROWS || column >= MAX_COLUMNS {
                return Err(error(line, XlsxError::RowNumberOverflow));
            }
            let value = text(cell.get_value());
            if !matches!(&value, Ok(text) if text.is_empty()) {
                return Ok(Some((row, column, value)));
            }
        }
        Ok(None)
    }

    fn next_row(&mut self) -> Result<Option<Row>> {
        let Some((row, column, value)) = self.next.take() else {
            return Ok(None);
        };
        let line = u64::from(row) + 1;
        if self.row.is_some_and(|before| row <= before) {
            return Err(Error::Damaged(format!("row {line} occurs twice or in the wrong order")));
        }
        self.row = Some(row);
        let mut cells = vec![(column, value)];
        let mut bytes = 0;
        loop {
            match self.next_value()? {
                Some((same, column, value)) if same == row => cells.push((column, value)),
                other => {
                    self.next = other;
                    break;
                }
            }
            bytes += cells
                .last()
                .map_or(0, |(_, value)| value.as_ref().map_or(0, String::len));
            if bytes > MAX_RECORD_BYTES || cells.len() > MAX_COLUMNS as usize {
                return Err(Error::TooLong { line });
            }
        }
        cells.sort_by_key(|(column, _)| *column);
        let mut row = Row { line, ..Row::default() };
        for (column, value) in cells {
            while row.cells.len() < column as usize {
                row.cells.push("");
            }
            if row.cells.len() > column as usize {
                return Err(Error::Damaged(format!("a cell of row {line} occurs twice")));
            }
            match value {
                Ok(text) => row.cells.push(&text),
                Err(kind) => {
                    row.problems.push(Problem {
                        cell: Some(column as usize),
                        kind,
                    });
                    row.cells.push("");
                }
            }
        }
        Ok(Some(row))
    }
}

fn text(value: &DataRef<'_>) -> Value {
    Ok(match value {
        DataRef::Empty => String::new(),
        DataRef::String(text) | DataRef::DateTimeIso(text) | DataRef::DurationIso(text) => text.clone(),
        DataRef::SharedString(text) => (*text).to_owned(),
        DataRef::Int(number) => number.to_string(),
        // Never with an exponent.
        DataRef::Float(number) if number.is_finite() => (number + 0.0).to_string(),
        DataRef::Bool(value) => if *value { "TRUE" } else { "FALSE" }.to_owned(),
        DataRef::DateTime(at) => return date_or_time(at).ok_or(ProblemKind::NotADate),
        DataRef::Float(_) | DataRef::Error(_) => return Err(ProblemKind::ErrorValue),
    })
}

/// A date, time or duration. None where it is not within the years 1900 to 9999.
fn date_or_time(at: &ExcelDateTime) -> Option<String> {
    const END: f64 = 2_958_466.0;
    let value = at.as_f64();
    if !(0.0..END).contains(&value) {
        return None;
    }
    if at.is_duration() {
        // Milliseconds of less than 8,100 years are exact.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let seconds = (value * 86_400.0).round() as u64;
        return Some(format!(
            "{}:{:02}:{:02}",
            seconds / 3_600,
            seconds / 60 % 60,
            seconds % 60
        ));
    }
    let (year, month, day, hour, minute, second, millisecond) = at.to_ymd_hms_milli();
    let date = format!("{year:04}-{month:02}-{day:02}");
    let mut time = format!("{hour:02}:{minute:02}:{second:02}");
    if millisecond > 0 {
        time.push_str(&format!(".{millisecond:03}"));
    }
    Some(match (value < 1.0, time.as_str()) {
        (true, _) => time,
        (false, "00:00:00") => date,
        (false, _) => format!("{date}T{time}"),
    })
}
