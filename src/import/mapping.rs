//! A mapping file: how another system's file is read as ours.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::text;

/// Other names of columns, other words, constants, and what a time stamp means.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mapping {
    /// Our name of a column, and the file's.
    #[serde(default)]
    pub columns: BTreeMap<String, String>,
    /// Our name of a column, and the value that every row has in it.
    #[serde(default)]
    pub constants: BTreeMap<String, String>,
    /// The file's words for a status, and ours.
    #[serde(default)]
    pub statuses: BTreeMap<String, String>,
    /// The file's words for a channel, and ours.
    #[serde(default)]
    pub channels: BTreeMap<String, String>,
    /// The file's words for a sex, and ours.
    #[serde(default)]
    pub sexes: BTreeMap<String, String>,
    /// What is in the column `date`.
    #[serde(default)]
    pub date: DateMeaning,
    /// Of a file of visits: they bring their patients along. Who is not known is inserted, who is known stays as is.
    #[serde(default)]
    pub brings_patients: bool,
}

/// What the column `date` of a file holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DateMeaning {
    /// YYYY-MM-DD.
    #[default]
    Day,
    /// A time stamp of which only the calendar day counts, whatever its time and offset say.
    CalendarDay,
    /// A time stamp with an offset: its day is the hospital's at that instant.
    Instant,
}

impl Mapping {
    /// Reads a mapping file. Its names and words are in NFC, as the cells of a file are.
    ///
    /// # Errors
    /// Where it cannot be read or says something that a mapping does not.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| Error::input("mapping", format!("{} cannot be read: {error}", path.display())))?;
        toml::from_str(&text::nfc(&text))
            .map_err(|error| Error::input("mapping", format!("{}: {error}", path.display())))
    }
}
