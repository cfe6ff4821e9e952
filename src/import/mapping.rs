//! Mapping files, which say how files of other systems are read.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::text;

/// The names of columns, the values of enums, constants, and the meaning of dates in a file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mapping {
    /// Columns: our name, and the name in the file.
    #[serde(default)]
    pub columns: BTreeMap<String, String>,
    /// Columns that the file does not have: our name, and the value for every row.
    #[serde(default)]
    pub constants: BTreeMap<String, String>,
    /// Statuses: the value in the file, and ours.
    #[serde(default)]
    pub statuses: BTreeMap<String, String>,
    /// Channels: the value in the file, and ours.
    #[serde(default)]
    pub channels: BTreeMap<String, String>,
    /// Sexes: the value in the file, and ours.
    #[serde(default)]
    pub sexes: BTreeMap<String, String>,
    /// What the column `date` holds.
    #[serde(default)]
    pub date: DateMeaning,
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

impl Mapping {
    /// Reads a mapping file, which is TOML. Its texts are normalized to NFC, as the cells of files are.
    ///
    /// # Errors
    /// Where the file cannot be read, is not UTF-8 or TOML, or has an unknown key.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| Error::input("mapping", format!("{} cannot be read: {error}", path.display())))?;
        toml::from_str(&text::nfc(&text))
            .map_err(|error| Error::input("mapping", format!("{}: {error}", path.display())))
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
        assert_eq!(mapping.columns["visit_no"], "Pr\u{e4}senz");
        assert_eq!(mapping.constants["channel"], "PHONE");
        assert_eq!(mapping.statuses["No"], "COMPLETED");
        assert_eq!(mapping.channels["Tel"], "PHONE");
        assert_eq!(mapping.sexes["F"], "FEMALE");
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
