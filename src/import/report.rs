//! What an import says: counts of rows, problems in groups, unknown words.

use std::collections::BTreeMap;

use tabular::Cells;

use crate::error::{Error, Result};
use crate::store::{FieldDifference, ImportCounts, ImportOutcome, ImportWord};

/// How many rows of a file had which outcome.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Rows below the header row: the sum of the outcomes.
    pub read: u64,
    pub inserted: u64,
    pub changed: u64,
    pub unchanged: u64,
    /// Rows that say something new of what was changed here.
    pub conflicts: u64,
    /// Rows that were refused.
    pub refused: u64,
    /// Rows with nothing in any mapped column.
    pub blank: u64,
    /// Values that were left empty in accepted rows.
    pub values_left_empty: u64,
}

impl Summary {
    /// The number of rows with the outcome.
    #[must_use]
    pub const fn of(&self, outcome: ImportOutcome) -> u64 {
        match outcome {
            ImportOutcome::Insert => self.inserted,
            ImportOutcome::Change => self.changed,
            ImportOutcome::Unchanged => self.unchanged,
            ImportOutcome::Conflict => self.conflicts,
            ImportOutcome::Refused => self.refused,
            ImportOutcome::Blank => self.blank,
        }
    }

    fn count(&mut self, row: &RowReport) {
        let count = match row.outcome {
            ImportOutcome::Insert => &mut self.inserted,
            ImportOutcome::Change => &mut self.changed,
            ImportOutcome::Unchanged => &mut self.unchanged,
            ImportOutcome::Conflict => &mut self.conflicts,
            ImportOutcome::Refused => &mut self.refused,
            ImportOutcome::Blank => &mut self.blank,
        };
        *count += 1;
        self.values_left_empty += row.problems.iter().filter(|problem| problem.value_left_out).count() as u64;
    }

    /// Fails where a row has no outcome, or two.
    pub(super) fn check(&self) -> Result<()> {
        let outcomes: u64 = ImportOutcome::ALL.iter().map(|outcome| self.of(*outcome)).sum();
        if self.read == outcomes {
            return Ok(());
        }
        Err(Error::Internal(format!(
            "{} rows were read, but {outcomes} have an outcome",
            self.read
        )))
    }
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            read,
            inserted,
            changed,
            unchanged,
            conflicts,
            refused,
            blank,
            values_left_empty,
        } = self;
        write!(
            f,
            "{read} rows read: {inserted} inserted, {changed} changed, {unchanged} unchanged, {conflicts} conflicts, \
             {refused} refused, {blank} blank; {values_left_empty} values left empty"
        )
    }
}

/// What becomes of a row.
#[derive(Clone, Debug)]
pub struct RowReport {
    /// The line on which the row begins, from 1; of a spreadsheet the row's number.
    pub line: u64,
    pub outcome: ImportOutcome,
    pub problems: Vec<RowProblem>,
    /// The values that differ, before and after; where they are not asked for, only those in conflict.
    pub fields: Vec<FieldDifference>,
    /// The patient whose data it shows, who is there already.
    pub patient: Option<i64>,
    /// The row as the file has it.
    pub cells: Cells,
}

/// A problem of a row. It has no value of the row, which may be personal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowProblem {
    /// The column's name in the file; none for a problem of the whole row.
    pub column: Option<String>,
    pub message: String,
    /// The row is taken without this value.
    pub value_left_out: bool,
}

impl std::fmt::Display for RowProblem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(column) = &self.column {
            write!(f, "column {column}: ")?;
        }
        write!(f, "{}", self.message)
    }
}

/// Rows with the same problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProblemGroup {
    pub column: Option<String>,
    pub message: String,
    pub rows: u64,
    /// The lines of the first ones.
    pub lines: Vec<u64>,
}

/// How many lines of a group are said.
const LINES: usize = 10;

impl std::fmt::Display for ProblemGroup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let lines: Vec<String> = self.lines.iter().map(u64::to_string).collect();
        let (s, more) = (
            if self.lines.len() == 1 { "" } else { "s" },
            if self.rows > self.lines.len() as u64 {
                ", …"
            } else {
                ""
            },
        );
        write!(f, "line{s} {}{more}", lines.join(", "))?;
        if let Some(column) = &self.column {
            write!(f, ", column {column}")?;
        }
        write!(f, ": {}", self.message)?;
        if self.rows > 1 {
            write!(f, " ({} rows)", self.rows)?;
        }
        Ok(())
    }
}

/// A word of a file that no status, channel or sex stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownWord {
    /// The column's name in the file.
    pub column: String,
    /// None stands for more words than a column of such words has: the column may be another, with values of patients.
    pub word: Option<String>,
    pub rows: u64,
}

impl std::fmt::Display for UnknownWord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { column, word, rows } = self;
        match word {
            Some(word) => write!(f, "column {column}: unknown word {word:?} in {rows} rows"),
            None => write!(
                f,
                "column {column}: more than {MAX_UNKNOWN_WORDS} unknown words in {rows} rows; check that it is the right column"
            ),
        }
    }
}

/// How many unknown words of a column are said.
const MAX_UNKNOWN_WORDS: usize = 20;

/// What an import says of a file.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub summary: Summary,
    groups: BTreeMap<(Option<String>, String), (u64, Vec<u64>)>,
    /// Unknown words by column, with their numbers of rows.
    words: BTreeMap<String, BTreeMap<String, u64>>,
}

impl Report {
    pub(super) fn add(&mut self, row: &RowReport) {
        self.summary.read += 1;
        self.summary.count(row);
        for problem in &row.problems {
            let key = (problem.column.clone(), problem.message.clone());
            let (rows, lines) = self.groups.entry(key).or_default();
            *rows += 1;
            if lines.len() < LINES {
                lines.push(row.line);
            }
        }
    }

    pub(super) fn add_unknown_word(&mut self, column: String, word: String) {
        let words = self.words.entry(column).or_default();
        // Beyond the most that are said, one more stands for all.
        let is_beyond = words.len() > MAX_UNKNOWN_WORDS && !words.contains_key(&word);
        *words.entry(if is_beyond { String::new() } else { word }).or_default() += 1;
    }

    /// The number of rows of each outcome, in their order.
    #[must_use]
    pub fn counts(&self) -> ImportCounts {
        let mut counts = ImportCounts::default();
        for (count, outcome) in counts.iter_mut().zip(ImportOutcome::ALL) {
            *count = self.summary.of(*outcome);
        }
        counts
    }

    /// The unknown words as they are stored.
    #[must_use]
    pub fn stored_words(&self) -> Vec<ImportWord> {
        let words = self.unknown_words().into_iter();
        words
            .map(|UnknownWord { column, word, rows }| ImportWord { column, word, rows })
            .collect()
    }

    /// The problems of rows, those of the most rows first.
    #[must_use]
    pub fn problems(&self) -> Vec<ProblemGroup> {
        let groups = self.groups.iter();
        let mut groups: Vec<ProblemGroup> = groups
            .map(|((column, message), (rows, lines))| ProblemGroup {
                column: column.clone(),
                message: message.clone(),
                rows: *rows,
                lines: lines.clone(),
            })
            .collect();
        groups.sort_by_key(|group| std::cmp::Reverse(group.rows));
        groups
    }

    /// The words of the file that no status, channel or sex stands for.
    #[must_use]
    pub fn unknown_words(&self) -> Vec<UnknownWord> {
        let of_column = |(column, words): (&String, &BTreeMap<String, u64>)| {
            let unknown = |word: Option<&String>, rows| UnknownWord {
                column: column.clone(),
                word: word.cloned(),
                rows,
            };
            if words.len() > MAX_UNKNOWN_WORDS {
                return vec![unknown(None, words.values().sum())];
            }
            words.iter().map(|(word, rows)| unknown(Some(word), *rows)).collect()
        };
        self.words.iter().flat_map(of_column).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(line: u64, outcome: ImportOutcome, problem: Option<(&str, bool)>) -> RowReport {
        let problems = problem.map(|(message, value_left_out)| RowProblem {
            column: Some("sex".to_owned()),
            message: message.to_owned(),
            value_left_out,
        });
        RowReport {
            line,
            outcome,
            problems: problems.into_iter().collect(),
            fields: Vec::new(),
            patient: None,
            cells: Cells::default(),
        }
    }

    #[test]
    fn unknown_words_are_counted_unless_there_are_many() {
        let mut report = Report::default();
        for number in 0..100 {
            report.add_unknown_word("status".to_owned(), format!("word {}", number % 2));
            report.add_unknown_word("sex".to_owned(), format!("name {number}"));
        }
        let texts: Vec<String> = report.unknown_words().iter().map(UnknownWord::to_string).collect();
        let expected = [
            "column sex: more than 20 unknown words in 100 rows; check that it is the right column",
            "column status: unknown word \"word 0\" in 50 rows",
            "column status: unknown word \"word 1\" in 50 rows",
        ];
        assert_eq!(texts, expected);
    }

    #[test]
    fn every_row_has_one_outcome() {
        let mut report = Report::default();
        for outcome in ImportOutcome::ALL {
            report.add(&row(2, *outcome, None));
        }
        assert!(report.summary.check().is_ok());
        assert!(
            ImportOutcome::ALL
                .iter()
                .all(|outcome| report.summary.of(*outcome) == 1)
        );
        report.summary.read += 1;
        assert!(report.summary.check().is_err());
    }

    #[test]
    fn equal_problems_are_one_group() {
        let mut report = Report::default();
        report.add(&row(1, ImportOutcome::Insert, Some(("left empty", true))));
        for line in 2..30 {
            report.add(&row(line, ImportOutcome::Refused, Some(("unknown", false))));
        }
        let texts: Vec<String> = report.problems().iter().map(ProblemGroup::to_string).collect();
        let expected = [
            "lines 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, …, column sex: unknown (28 rows)",
            "line 1, column sex: left empty",
        ];
        assert_eq!(texts, expected);
        assert_eq!(report.summary.values_left_empty, 1);
    }
}
