//! Records of CSV.
//!
//! `csv-core` finds a reading of everything: a quote that is not closed takes the rest of the file, and lines end with LF only. So
//! records are read here.

use std::io::Read;

use crate::encoding::MALFORMED;
use crate::error::{Error, Problem, ProblemKind, Result};
use crate::{Cells, MAX_RECORD_BYTES, Row};

const BUFFER_BYTES: usize = 64 << 10;

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before a cell.
    Start,
    /// In a cell without quotes, or after its quotes.
    Plain,
    Quoted,
    /// After a quote within quotes: the end of the cell, or the first of two.
    Quote,
}

/// Reads records of UTF-8, which may have the byte `MALFORMED`.
pub(crate) struct Records<R> {
    source: R,
    delimiter: u8,
    buffer: Vec<u8>,
    /// The part of the buffer that was not read yet.
    start: usize,
    end: usize,
    /// The current line, from 1.
    line: u64,
    /// Whether the last byte was CR, so that LF does not end another line.
    after_cr: bool,
    record: Record,
}

/// The record that is being read.
#[derive(Default)]
struct Record {
    text: Vec<u8>,
    ends: Vec<usize>,
    problems: Vec<Problem>,
}

impl Record {
    fn problem(&mut self, cell: Option<usize>, kind: ProblemKind) {
        let problem = Problem { cell, kind };
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    fn end_cell(&mut self) {
        self.ends.push(self.text.len());
    }

    fn take(&mut self, line: u64) -> Row {
        let text = String::from_utf8(std::mem::take(&mut self.text));
        let mut row = Row {
            line,
            cells: Cells {
                ends: std::mem::take(&mut self.ends),
                ..Cells::default()
            },
            problems: std::mem::take(&mut self.problems),
        };
        match text {
            Ok(text) => row.cells.text = text,
            // The source is UTF-8, so this does not happen.
            Err(_) => {
                row = Row {
                    line,
                    problems: vec![Problem {
                        cell: None,
                        kind: ProblemKind::NotInEncoding,
                    }],
                    ..Row::default()
                }
            }
        }
        row
    }
}

impl<R: Read> Records<R> {
    pub(crate) fn new(source: R, delimiter: u8) -> Self {
        Self {
            source,
            delimiter,
            buffer: vec![0; BUFFER_BYTES],
            start: 0,
            end: 0,
            line: 1,
            after_cr: false,
            record: Record::default(),
        }
    }

    pub(crate) fn source(&self) -> &R {
        &self.source
    }

    /// The next byte; none at the end.
    fn next_byte(&mut self) -> Result<Option<u8>> {
        if self.start == self.end {
            (self.start, self.end) = (0, self.source.read(&mut self.buffer)?);
            if self.end == 0 {
                return Ok(None);
            }
        }
        let byte = self.buffer.get(self.start).copied();
        self.start += 1;
        Ok(byte)
    }

    /// Counts the line that a byte ends. Returns whether it belongs to a line ending that was counted already.
    fn count_line(&mut self, byte: u8) -> bool {
        let second = self.after_cr && byte == b'\n';
        self.after_cr = byte == b'\r';
        self.line += u64::from(!second && matches!(byte, b'\r' | b'\n'));
        second
    }

    /// Skips lines up to a line. Quotes do not matter in them.
    pub(crate) fn skip_to_line(&mut self, line: u64) -> Result<()> {
        while self.line < line {
            match self.next_byte()? {
                Some(byte) => _ = self.count_line(byte),
                None => break,
            }
        }
        Ok(())
    }

    /// Takes bytes that mean nothing in this state to the record at once.
    fn take_run(&mut self, state: State) {
        let rest = self.buffer.get(self.start..self.end).unwrap_or_default();
        let delimiter = self.delimiter;
        let length = match state {
            State::Start | State::Plain => {
                let means = |byte: &u8| *byte == delimiter || matches!(*byte, b'"' | b'\r' | b'\n' | MALFORMED);
                rest.iter().position(means)
            }
            State::Quoted | State::Quote => rest
                .iter()
                .position(|byte| matches!(*byte, b'"' | b'\r' | b'\n' | MALFORMED)),
        };
        let run = rest.get(..length.unwrap_or(rest.len())).unwrap_or_default();
        if !run.is_empty() {
            self.record.text.extend_from_slice(run);
            self.start += run.len();
            self.after_cr = false;
        }
    }

    /// Reads a record; none at the end. An empty line is a record with one empty cell.
    pub(crate) fn next_record(&mut self) -> Result<Option<Row>> {
        let mut state = State::Start;
        let (mut line, mut quoted_from) = (self.line, self.line);
        let mut is_first = true;
        loop {
            if self.record.text.len() > MAX_RECORD_BYTES || self.record.ends.len() > MAX_RECORD_BYTES {
                return Err(match state {
                    State::Quoted | State::Quote => Error::UnclosedQuote { line: quoted_from },
                    State::Start | State::Plain => Error::TooLong { line },
                });
            }
            let Some(byte) = self.next_byte()? else {
                if state == State::Quoted {
                    return Err(Error::UnclosedQuote { line: quoted_from });
                }
                if is_first {
                    return Ok(None);
                }
                self.record.end_cell();
                return Ok(Some(self.finish(line, self.line)));
            };
            // The second byte of CRLF, after the record.
            if self.count_line(byte) && is_first {
                line = self.line;
                continue;
            }
            is_first = false;
            state = match (state, byte) {
                (State::Quoted, b'"') => State::Quote,
                (State::Start, b'"') => {
                    quoted_from = self.line;
                    State::Quoted
                }
                (State::Quote, b'"') => {
                    self.record.text.push(b'"');
                    State::Quoted
                }
                (State::Quoted, byte) => {
                    self.push(byte);
                    State::Quoted
                }
                (_, b'\r' | b'\n') => {
                    self.record.end_cell();
                    return Ok(Some(self.finish(line, self.line - 1)));
                }
                (_, byte) if byte == self.delimiter => {
                    self.record.end_cell();
                    State::Start
                }
                (State::Quote, byte) => {
                    self.record.problem(None, ProblemKind::TextAfterQuote { last_line: 0 });
                    self.push(byte);
                    State::Plain
                }
                (State::Start | State::Plain, byte) => {
                    self.push(byte);
                    State::Plain
                }
            };
            if matches!(state, State::Plain | State::Quoted) {
                self.take_run(state);
            }
        }
    }

    fn push(&mut self, byte: u8) {
        if byte == MALFORMED {
            self.record
                .problem(Some(self.record.ends.len()), ProblemKind::NotInEncoding);
            self.record.text.extend_from_slice("\u{fffd}".as_bytes());
        } else {
            self.record.text.push(byte);
        }
    }

    fn finish(&mut self, line: u64, last_line: u64) -> Row {
        for problem in &mut self.record.problems {
            if let ProblemKind::TextAfterQuote { last_line: last } = &mut problem.kind {
                *last = last_line;
            }
        }
        self.record.take(line)
    }
}
