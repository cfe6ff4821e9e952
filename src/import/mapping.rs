//! Mapping files, which say how files of other systems are read.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use chrono::NaiveDate;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use string_enum::StringEnum;
use tabular::{Delimiter, Encoding};

use crate::error::{Error, Result};
use crate::records::Sex;
use crate::statistics::{VisitChannel, VisitStatus};
use crate::text;

/// How a file is read: its sheet or encoding, the names of columns, the values of enums, constants, and the form and meaning of dates.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mapping {
    /// The sheet of an XLSX file.
    #[serde(default)]
    pub sheet: Option<String>,
    /// The encoding of a CSV file.
    #[serde(default, deserialize_with = "encoding")]
    pub encoding: Option<Encoding>,
    /// What separates the cells of a CSV file.
    #[serde(default, deserialize_with = "delimiter")]
    pub delimiter: Option<Delimiter>,
    /// The header row's line; lines above are not read.
    #[serde(default)]
    pub header_row: Option<u64>,
    /// Words in the column of the number whose rows are skipped, such as that of a total row.
    #[serde(default)]
    pub skip_rows: Vec<String>,
    /// Columns: our name, and the name in the file.
    #[serde(default)]
    pub columns: BTreeMap<String, FileColumns>,
    /// Columns that the file does not have: our name, and the value for every row.
    #[serde(default)]
    pub constants: BTreeMap<String, String>,
    /// Statuses: the value in the file, and ours.
    #[serde(default)]
    pub statuses: Words<VisitStatus>,
    /// Channels: the value in the file, and ours.
    #[serde(default)]
    pub channels: Words<VisitChannel>,
    /// Sexes: the value in the file, and ours.
    #[serde(default)]
    pub sexes: Words<Sex>,
    /// What the column `date` holds.
    #[serde(default)]
    pub date: DateMeaning,
    /// How dates are written other than YYYY-MM-DD.
    #[serde(default)]
    pub date_format: Option<DateFormat>,
    /// Whether a file of visits has columns of patients, too. Patients who are not known are inserted; known ones do not change.
    #[serde(default)]
    pub brings_patients: bool,
}

/// What the column `date` of a file holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DateMeaning {
    /// A date, YYYY-MM-DD.
    #[default]
    Day,
    /// A time stamp of which only the calendar day counts, not its time and offset.
    CalendarDay,
    /// A time stamp with an offset: the date is that of the instant in the hospital's time zone.
    Instant,
}

/// The column of a file that has a value of ours, or several whose texts make a name together.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum FileColumns {
    One(String),
    Several(Vec<String>),
}

impl FileColumns {
    pub fn names(&self) -> &[String] {
        match self {
            Self::One(name) => std::slice::from_ref(name),
            Self::Several(names) => names,
        }
    }
}

/// A form of dates, such as `DD/MM/YYYY`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DateFormat {
    text: String,
    /// The same for `chrono`.
    pattern: String,
}

impl DateFormat {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut pattern = text.to_owned();
        for (word, field) in [("YYYY", "%Y"), ("MM", "%m"), ("DD", "%d")] {
            if pattern.matches(word).count() != 1 {
                return None;
            }
            pattern = pattern.replace(word, field);
        }
        let rest = pattern.replace("%Y", "").replace("%m", "").replace("%d", "");
        let is_separator = |char: char| matches!(char, ' ' | '.' | '/' | '-' | '年' | '月' | '日' | '년' | '월' | '일');
        rest.chars().all(is_separator).then(|| Self {
            text: text.to_owned(),
            pattern,
        })
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// A date in this form, and what follows it.
    pub fn parse_start<'a>(&self, text: &'a str) -> Option<(NaiveDate, &'a str)> {
        NaiveDate::parse_and_remainder(text, &self.pattern).ok()
    }
}

impl<'de> Deserialize<'de> for DateFormat {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| {
            D::Error::custom("date_format must have YYYY, MM and DD once each, such as DD/MM/YYYY or YYYY.MM.DD")
        })
    }
}

fn encoding<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Option<Encoding>, D::Error> {
    one_of(deserializer)
}

fn delimiter<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Option<Delimiter>, D::Error> {
    one_of(deserializer)
}

fn one_of<'de, D: Deserializer<'de>, T: StringEnum>(deserializer: D) -> std::result::Result<Option<T>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let found = T::ALL.iter().find(|value| value.as_str().eq_ignore_ascii_case(&text));
    let words = || T::ALL.iter().map(|value| value.as_str()).collect::<Vec<_>>().join(" ");
    found
        .copied()
        .map(Some)
        .ok_or_else(|| D::Error::custom(format!("{text:?} must be one of: {}", words())))
}

/// A word as words are compared: without regard to case, width, and blanks or underscores.
pub(super) fn folded_word(word: &str) -> String {
    text::folded(&word.replace('_', " "))
}

/// The words of a column, and what each stands for: ours, and those that a mapping has for them.
#[derive(Clone, Debug)]
pub struct Words<T> {
    /// By [`folded_word`].
    values: HashMap<String, T>,
    /// The folded words of the mapping.
    mapped: Vec<String>,
}

impl<T: StringEnum> Default for Words<T> {
    fn default() -> Self {
        let ours = T::ALL.iter().map(|value| (folded_word(value.as_str()), *value));
        Self {
            values: ours.collect(),
            mapped: Vec::new(),
        }
    }
}

impl<T: StringEnum> Words<T> {
    pub(super) fn get(&self, word: &str) -> Option<T> {
        self.values.get(&folded_word(word)).copied()
    }

    /// Every word, as messages list them.
    pub(super) fn list(&self) -> String {
        let ours = T::ALL.iter().map(|value| value.as_str());
        ours.chain(self.mapped.iter().map(String::as_str))
            .collect::<Vec<_>>()
            .join(", ")
    }

    /// Adds a word of a mapping, which goes before ours.
    ///
    /// # Errors
    /// Where the mapping has the word for another value.
    pub(super) fn add(&mut self, word: &str, value: T) -> std::result::Result<(), String> {
        let folded = folded_word(word);
        let before = self.values.insert(folded.clone(), value);
        if !self.mapped.contains(&folded) {
            self.mapped.push(folded);
        } else if before != Some(value) {
            return Err(format!("{word:?} differs from another word in case or blanks only"));
        }
        Ok(())
    }
}

impl<'de, T: StringEnum> Deserialize<'de> for Words<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let (ours, mut words) = (Self::default(), Self::default());
        for (word, target) in BTreeMap::<String, String>::deserialize(deserializer)? {
            let value = ours.get(&target).ok_or_else(|| {
                let list = ours.list();
                D::Error::custom(format!("{word:?}: unknown word {target:?}; must be one of: {list}"))
            })?;
            words.add(&word, value).map_err(D::Error::custom)?;
        }
        Ok(words)
    }
}

/// Checks the constant of a column of words.
fn check_constant<T: StringEnum>(name: &str, constants: &BTreeMap<String, String>, words: &Words<T>) -> Result<()> {
    match constants.get(name) {
        Some(word) if words.get(word).is_none() => {
            let list = words.list();
            let message = format!("constants.{name}: unknown word {word:?}; must be one of: {list}");
            Err(Error::input("mapping", message))
        }
        _ => Ok(()),
    }
}

impl Mapping {
    /// Reads a mapping file, which is TOML. Its texts are normalized to NFC, as the cells of files are.
    ///
    /// # Errors
    /// Where the file cannot be read, is not UTF-8 or TOML, has an unknown key, or a word that is to stand for none of ours.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| Error::input("mapping", format!("{} cannot be read: {error}", path.display())))?;
        Self::parse(&text).map_err(|error| match error {
            Error::Input { argument, message } => Error::input(argument, format!("{}: {message}", path.display())),
            other => other,
        })
    }

    /// The mapping of a text.
    ///
    /// # Errors
    /// As of [`Mapping::read`].
    pub fn parse(text: &str) -> Result<Self> {
        let mapping: Self =
            toml::from_str(&text::nfc(text)).map_err(|error| Error::input("mapping", error.to_string()))?;
        check_constant("status", &mapping.constants, &mapping.statuses)?;
        check_constant("channel", &mapping.constants, &mapping.channels)?;
        check_constant("sex", &mapping.constants, &mapping.sexes)?;
        let several =
            |(_, columns): &(&String, &FileColumns)| matches!(columns, FileColumns::Several(names) if names.is_empty());
        if let Some((name, _)) = mapping.columns.iter().find(several) {
            return Err(Error::input("mapping", format!("columns.{name}: names no column")));
        }
        let joined = mapping
            .columns
            .iter()
            .find(|(name, columns)| *name != "name" && matches!(columns, FileColumns::Several(_)));
        match joined {
            Some((name, _)) => Err(Error::input(
                "mapping",
                format!("columns.{name}: only name can have several columns"),
            )),
            None => Ok(mapping),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Mapping> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mapping.toml");
        std::fs::write(&path, bytes).unwrap();
        Mapping::read(&path)
    }

    #[test]
    fn every_key_is_read_and_normalized() {
        let text = "date = \"calendar-day\"
            brings_patients = true
            sheet = \"2025\"
            encoding = \"shift_jis\"
            delimiter = \"tab\"
            header_row = 3
            skip_rows = [\"Total\"]
            date_format = \"DD.MM.YYYY\"
            columns = { visit_no = \"Pra\u{308}senz\" }
            constants = { channel = \"PHONE\" }
            statuses = { No = \"COMPLETED\" }
            channels = { Tel = \"PHONE\" }
            sexes = { F = \"FEMALE\" }";
        let mapping = read(text.as_bytes()).unwrap();
        assert_eq!(
            (mapping.date, mapping.brings_patients),
            (DateMeaning::CalendarDay, true)
        );
        assert_eq!(mapping.columns["visit_no"].names(), ["Pr\u{e4}senz"]);
        assert_eq!(mapping.skip_rows, ["Total"]);
        assert_eq!((mapping.sheet.as_deref(), mapping.header_row), (Some("2025"), Some(3)));
        assert_eq!(
            (mapping.encoding, mapping.delimiter),
            (Some(Encoding::ShiftJis), Some(Delimiter::Tab))
        );
        assert_eq!(mapping.date_format.unwrap().as_str(), "DD.MM.YYYY");
        assert_eq!(mapping.constants["channel"], "PHONE");
        assert_eq!(mapping.statuses.get("no"), Some(VisitStatus::Completed));
        assert_eq!(mapping.statuses.get(" Checked in"), Some(VisitStatus::CheckedIn));
        assert_eq!(mapping.channels.get("TEL"), Some(VisitChannel::Phone));
        assert_eq!(mapping.sexes.get("f"), Some(Sex::Female));
        let empty = read(b"").unwrap();
        assert_eq!(
            (empty.date, empty.brings_patients, empty.columns.len()),
            (DateMeaning::Day, false, 0)
        );
    }

    #[test]
    fn what_is_not_a_mapping_is_refused() {
        for (bytes, reason) in [
            (&b"column = { visit_no = \"a\" }"[..], "unknown field `column`"),
            (b"date = \"month\"", "unknown variant `month`"),
            (b"columns = [\"visit_no\"]", "invalid type"),
            (b"columns = {", "mapping.toml"),
            (b"encoding = \"latin\"", "must be one of: UTF-8 UTF-16LE"),
            (b"delimiter = \":\"", "must be one of: , ; tab |"),
            (b"date_format = \"DD/MM/YY\"", "YYYY, MM and DD once each"),
            (b"date_format = \"DD/MM/YYYY hh\"", "YYYY, MM and DD once each"),
            (
                b"statuses = { No = \"COMPLETE\" }",
                "\"No\": unknown word \"COMPLETE\"; must be one of: TENTATIVE",
            ),
            (
                b"constants = { channel = \"FAX\" }",
                "constants.channel: unknown word \"FAX\"",
            ),
            (
                b"sexes = { F = \"FEMALE\", f = \"MALE\" }",
                "differs from another word in case",
            ),
            (
                b"columns = { chart_no = [\"a\", \"b\"] }",
                "columns.chart_no: only name can have several columns",
            ),
            (b"columns = { name = [] }", "columns.name: names no column"),
            (b"\xff", "cannot be read"),
        ] {
            let error = read(bytes).unwrap_err().for_operator();
            assert!(error.starts_with("mapping: ") && error.contains(reason), "{error}");
        }
        let missing = Mapping::read(Path::new("no/such/mapping.toml"))
            .unwrap_err()
            .for_operator();
        assert!(
            missing.starts_with("mapping: no/such/mapping.toml cannot be read"),
            "{missing}"
        );
    }
}
