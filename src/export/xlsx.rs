//! XLSX: one sheet with texts as texts and dates as dates.

use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::sync::{Arc, Weak};

use chrono::Datelike as _;
use rust_xlsxwriter::{ExcelDateTime, Format, Workbook, XlsxError};

use super::{Cell, Rows, unwritable};
use crate::error::Result;
use crate::reporting::spawn_cpu;

/// Rows of a sheet, less the header.
pub const MAX_SHEET_ROWS: u64 = (1 << 20) - 1;

/// The width of a column in characters: a date fits.
const WIDTH: f64 = 16.0;

/// The sheet that is being written. Its rows are in a temporary file without a name.
struct Sheet {
    workbook: Workbook,
    date: Format,
    /// Rows that were written.
    rows: u32,
}

impl Sheet {
    fn new(headers: &[&str]) -> std::result::Result<Self, XlsxError> {
        let mut workbook = Workbook::new();
        let sheet = workbook.add_worksheet_with_constant_memory()?;
        sheet.set_freeze_panes(1, 0)?;
        let bold = Format::new().set_bold();
        for (column, header) in (0..).zip(headers) {
            sheet.set_column_width(column, WIDTH)?;
            sheet.write_string_with_format(0, column, *header, &bold)?;
        }
        Ok(Self {
            workbook,
            date: Format::new().set_num_format("yyyy-mm-dd"),
            rows: 1,
        })
    }

    fn write(&mut self, rows: &[Vec<Cell>]) -> std::result::Result<(), XlsxError> {
        let sheet = self.workbook.worksheet_from_index(0)?;
        for cells in rows {
            let row = self.rows;
            for (column, cell) in (0..).zip(cells) {
                match cell {
                    Cell::Empty => continue,
                    Cell::Text(text) => sheet.write_string(row, column, text)?,
                    // Counts: exact up to 2^53.
                    #[allow(clippy::cast_precision_loss)]
                    Cell::Number(number) => sheet.write_number(row, column, *number as f64)?,
                    Cell::Flag(flag) => sheet.write_boolean(row, column, *flag)?,
                    Cell::Date(date) => match excel_date(*date) {
                        Some(excel) => sheet.write_datetime_with_format(row, column, &excel, &self.date)?,
                        None => sheet.write_string(row, column, date.to_string())?,
                    },
                };
            }
            self.rows += 1;
        }
        Ok(())
    }
}

/// The date as spreadsheets have it: they have none before 1900.
fn excel_date(date: chrono::NaiveDate) -> Option<ExcelDateTime> {
    let (year, month, day) = (date.year(), date.month(), date.day());
    ExcelDateTime::from_ymd(year.try_into().ok()?, month.try_into().ok()?, day.try_into().ok()?).ok()
}

/// Fails once nobody waits for the file any more: compressing a long one takes seconds.
struct WhileWanted {
    file: BufWriter<File>,
    wanted: Weak<()>,
}

impl Write for WhileWanted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.wanted.strong_count() == 0 {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for WhileWanted {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

pub(super) async fn write(mut rows: Rows, file: File) -> Result<()> {
    let headers = rows.headers();
    let failed = |error: XlsxError| unwritable(&error);
    let mut sheet = spawn_cpu("beginning a sheet", move || Sheet::new(&headers))
        .await?
        .map_err(failed)?;
    while let Some(slice) = rows.next().await? {
        sheet = spawn_cpu("writing a sheet", move || sheet.write(&slice).map(|()| sheet))
            .await?
            .map_err(failed)?;
    }
    let wanted = Arc::new(());
    let mut output = WhileWanted {
        file: BufWriter::new(file),
        wanted: Arc::downgrade(&wanted),
    };
    let save = move || {
        sheet.workbook.save_to_writer(&mut output).map_err(failed)?;
        output.flush().map_err(|error| unwritable(&error))
    };
    let saved = spawn_cpu("compressing a sheet", save).await?;
    drop(wanted);
    saved
}
