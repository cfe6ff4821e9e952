//! A row of a file as drafts.

use std::borrow::Cow;
use std::collections::HashMap;

use chrono::{DateTime, Datelike as _, NaiveDate, NaiveDateTime, NaiveTime, SubsecRound as _, TimeZone as _, Utc};
use chrono_tz::Tz;
use string_enum::StringEnum;
use tabular::Cells;

use super::mapping::{DateMeaning, FileColumns, Mapping, Words, folded_word};
use super::{FileKind, Row};
use crate::error::{Error, Result};
use crate::records::{FieldError, Patch, PatientDraft, Sex, VisitDraft, rules};
use crate::store::Hospital;
use crate::text;

/// The columns of a file of patients.
pub(super) const PATIENT_COLUMNS: [&str; 7] = [
    "chart_no",
    "name",
    "phone",
    "birth_date",
    "birth_year",
    "sex",
    "registered_on",
];
/// The columns of a file of visits.
const VISIT_COLUMNS: [&str; 8] = [
    "visit_no",
    "chart_no",
    "date",
    "scheduled_at",
    "status",
    "department",
    "doctor",
    "channel",
];
/// The columns that a file of visits also has with `brings_patients`.
pub(super) const PATIENT_COLUMNS_OF_VISITS: [&str; 6] = ["name", "phone", "birth_date", "birth_year", "sex", "age"];

/// The greatest age that is accepted, in years.
const MAX_AGE: i32 = 130;

/// Why a row is refused, or a value is left empty: the column's name in the file, and the reason.
pub(super) type Refusal = (Option<String>, String);
type Parsed<T> = std::result::Result<T, Refusal>;

/// The positions of our columns in a file, and how values are read.
pub(super) struct Columns {
    kind: FileKind,
    /// Several where their texts make a name together.
    positions: HashMap<&'static str, Vec<usize>>,
    header: Vec<String>,
    mapping: Mapping,
    time_zone: Tz,
    /// In the hospital's time zone.
    today: NaiveDate,
    country: Option<String>,
}

/// The names of our columns that a file may have.
fn names(kind: FileKind, mapping: &Mapping) -> Vec<&'static str> {
    let mut names: Vec<&'static str> = match kind {
        FileKind::Patients => PATIENT_COLUMNS.to_vec(),
        FileKind::Visits => VISIT_COLUMNS.to_vec(),
    };
    if mapping.brings_patients {
        names.extend(PATIENT_COLUMNS_OF_VISITS);
    }
    names
}

/// Our columns that a file must have.
pub(super) fn required(kind: FileKind) -> &'static [&'static str] {
    match kind {
        FileKind::Patients => &["chart_no"],
        FileKind::Visits => &["visit_no", "chart_no", "status"],
    }
}

/// The columns that a file's header row must have, by the file's names.
///
/// # Errors
/// Where the mapping is not one of such a file.
pub(super) fn header_columns(kind: FileKind, mapping: &Mapping) -> Result<Vec<String>> {
    if kind == FileKind::Patients && mapping.brings_patients {
        return Err(Error::input("mapping", "brings_patients is only for files of visits"));
    }
    let names = names(kind, mapping);
    let mut named = mapping.columns.keys().chain(mapping.constants.keys());
    if let Some(name) = named.find(|name| !names.contains(&name.as_str())) {
        let message = format!("unknown column {name}; must be one of: {}", names.join(", "));
        return Err(Error::input("mapping", message));
    }
    let mapped = mapping
        .columns
        .values()
        .flat_map(|columns| columns.names().iter().cloned());
    let is_open = |name: &&&str| !mapping.columns.contains_key(**name) && !mapping.constants.contains_key(**name);
    let own = required(kind).iter().filter(is_open).map(|name| (*name).to_owned());
    Ok(own.chain(mapped).collect())
}

impl Columns {
    /// Finds our columns in a header that has those of [`header_columns`].
    ///
    /// # Errors
    /// Where a column is missing, unknown or repeated; the text names it.
    pub(super) fn new(
        kind: FileKind,
        header: &[String],
        mapping: Option<&Mapping>,
        hospital: &Hospital,
        today: NaiveDate,
    ) -> Result<Self> {
        let own = mapping.cloned().unwrap_or_default();
        let header: Vec<String> = header.iter().map(|name| text::nfc(name.trim()).into_owned()).collect();
        let names = names(kind, &own);
        let mut positions = HashMap::new();
        for name in &names {
            let unmapped = [(*name).to_owned()];
            let in_file = own.columns.get(*name).map_or(&unmapped[..], FileColumns::names);
            let mut found = Vec::new();
            for column in in_file {
                let mut places = header.iter().enumerate().filter(|(_, name)| *name == column.trim());
                match (places.next(), places.next()) {
                    (Some(_), Some(_)) => {
                        return Err(Error::input("file", format!("the column {column} occurs twice")));
                    }
                    (Some((position, _)), None) => found.push(position),
                    (None, _) if own.columns.contains_key(*name) => {
                        return Err(Error::input(
                            "file",
                            format!("the column {column} is missing, which the mapping names for {name}"),
                        ));
                    }
                    (None, _) => {}
                }
            }
            if !found.is_empty() {
                positions.insert(*name, found);
            }
        }
        let columns = Self {
            kind,
            positions,
            header,
            mapping: own,
            time_zone: hospital.time_zone,
            today,
            country: hospital.country.clone(),
        };
        columns.check_complete(mapping.is_some(), &names)?;
        Ok(columns)
    }

    /// The file's columns with our names; none for those that are not mapped.
    pub(super) fn list(&self) -> Vec<(&str, Option<&'static str>)> {
        let ours = |position: usize| {
            let mut mapped = self
                .positions
                .iter()
                .filter(|(_, positions)| positions.contains(&position));
            mapped.next().map(|(name, _)| *name)
        };
        let columns = self.header.iter().enumerate();
        columns
            .map(|(position, header)| (header.as_str(), ours(position)))
            .collect()
    }

    /// Checks that the file has the columns that it must have, and without a mapping no unknown ones.
    fn check_complete(&self, mapped: bool, names: &[&str]) -> Result<()> {
        let has = |name: &str| self.positions.contains_key(name) || self.mapping.constants.contains_key(name);
        if let Some(name) = required(self.kind).iter().find(|name| !has(name)) {
            return Err(Error::input("file", format!("the column {name} is missing")));
        }
        if self.kind == FileKind::Visits && !has("date") && !has("scheduled_at") {
            return Err(Error::input(
                "file",
                "one of the columns date and scheduled_at is missing",
            ));
        }
        // Without a mapping, an unknown column is most likely misspelled, and its values would be lost.
        let unknown = self
            .header
            .iter()
            .find(|column| !mapped && !column.is_empty() && !names.contains(&column.as_str()));
        match unknown {
            Some(column) => {
                let message = format!("unknown column {column:?}; must be one of: {}", names.join(", "));
                Err(Error::input("file", message))
            }
            None => Ok(()),
        }
    }

    /// Whether the mapping says that rows with this word for a number are skipped.
    fn is_skipped(&self, row: &tabular::Row) -> bool {
        let is_word = |cell: &str| {
            let cell = folded_word(cell);
            self.mapping.skip_rows.iter().any(|word| folded_word(word) == cell)
        };
        let mut positions = self.positions.get(self.kind.number_column()).into_iter().flatten();
        !self.mapping.skip_rows.is_empty() && positions.any(|position| row.cells.get(*position).is_some_and(is_word))
    }

    /// Whether no mapped column has a value, or the row is to be skipped.
    pub(super) fn is_blank(&self, row: &tabular::Row) -> bool {
        if self.is_skipped(row) {
            return true;
        }
        let is_mapped = |problem: &tabular::Problem| problem.cell.is_none_or(|cell| self.is_mapped(cell));
        let mut cells = self
            .positions
            .values()
            .flatten()
            .filter_map(|&position| row.cells.get(position));
        !row.problems.iter().any(is_mapped) && cells.all(|cell| cell.trim().is_empty())
    }

    fn is_mapped(&self, position: usize) -> bool {
        self.positions.values().flatten().any(|mapped| *mapped == position)
    }

    /// Why a row cannot be read, as the file has it.
    pub(super) fn check(&self, row: &tabular::Row) -> Parsed<()> {
        let is_mapped = |problem: &&tabular::Problem| problem.cell.is_none_or(|cell| self.is_mapped(cell));
        match row.problems.iter().find(is_mapped) {
            Some(problem) => {
                let column = problem.cell.and_then(|cell| self.header.get(cell)).cloned();
                Err((column, problem.kind.to_string()))
            }
            None => Ok(()),
        }
    }

    /// Reads a row. `remarks` are values that are left empty.
    pub(super) fn read(&self, record: &Cells, remarks: &mut Vec<Refusal>) -> Parsed<Row> {
        // Spreadsheets write empty cells at the end of a line.
        let rest_is_blank = || {
            (self.header.len()..record.len()).all(|cell| record.get(cell).is_some_and(|cell| cell.trim().is_empty()))
        };
        if record.len() < self.header.len() || !rest_is_blank() {
            let reason = format!("{} fields where the header has {}", record.len(), self.header.len());
            return Err((None, reason));
        }
        Ok(match self.kind {
            FileKind::Patients => Row::Patient(self.patient(record, None, remarks)?),
            FileKind::Visits => {
                let visit = self.visit(record)?;
                let patient = if self.mapping.brings_patients {
                    Some(self.patient(record, visit.date, remarks)?)
                } else {
                    None
                };
                Row::Visit(visit, patient)
            }
        })
    }

    /// The value of a column; none where it is empty or the file does not have the column.
    fn value<'a>(&'a self, record: &'a Cells, name: &str) -> Option<Cow<'a, str>> {
        let of_cell = |position: &usize| record.get(*position).map(str::trim).filter(|value| !value.is_empty());
        match self.positions.get(name).map(Vec::as_slice) {
            Some([position]) => of_cell(position).map(Cow::Borrowed),
            Some(positions) => {
                let parts: Vec<&str> = positions.iter().filter_map(of_cell).collect();
                Some(Cow::<str>::Owned(parts.join(" "))).filter(|value| !value.is_empty())
            }
            None => {
                let constant = self.mapping.constants.get(name).map(|value| value.trim());
                constant.filter(|value| !value.is_empty()).map(Cow::Borrowed)
            }
        }
    }

    /// Words of the columns of statuses, channels and sexes that stand for none of ours, with their columns.
    pub(super) fn unknown_words(&self, record: &Cells) -> Vec<(String, String)> {
        let is_unknown = |name: &str, word: &str| match name {
            "status" => self.mapping.statuses.get(word).is_none(),
            "channel" => self.mapping.channels.get(word).is_none(),
            _ => self.mapping.sexes.get(word).is_none(),
        };
        let words = ["status", "channel", "sex"]
            .into_iter()
            .filter_map(|name| Some((name, self.value(record, name)?)));
        let unknown = words.filter(|(name, word)| is_unknown(name, word));
        unknown
            .map(|(name, word)| (self.in_file(name), word.into_owned()))
            .collect()
    }

    /// The file's name of a column.
    pub(super) fn in_file(&self, name: &str) -> String {
        let column = self
            .positions
            .get(name)
            .and_then(|positions| self.header.get(*positions.first()?));
        column.map_or(name, String::as_str).to_owned()
    }

    fn refusal(&self, name: &str, reason: impl Into<String>) -> Refusal {
        (Some(self.in_file(name)), reason.into())
    }

    fn required(&self, record: &Cells, name: &str) -> Parsed<String> {
        let value = self.value(record, name).map(Cow::into_owned);
        value.ok_or_else(|| self.refusal(name, "empty"))
    }

    fn text(&self, record: &Cells, name: &str) -> Patch<String> {
        self.value(record, name).map(Cow::into_owned).into()
    }

    fn date(&self, record: &Cells, name: &str) -> Parsed<Option<NaiveDate>> {
        let date = self.value(record, name).map(|value| self.parse_date(&value));
        date.transpose().map_err(|message| self.refusal(name, message))
    }

    /// A date written YYYY-MM-DD, or as the mapping says.
    fn parse_date(&self, value: &str) -> rules::Checked<NaiveDate> {
        rules::parse_date(value).or_else(|message| {
            let Some(format) = &self.mapping.date_format else {
                return Err(message);
            };
            let date = format.parse_start(value).filter(|(_, rest)| rest.is_empty());
            date.map(|(date, _)| date)
                .ok_or_else(|| format!("{message} or {}", format.as_str()))
        })
    }

    /// A value of an enum.
    fn enum_value<T: StringEnum>(&self, record: &Cells, name: &str, words: &Words<T>) -> Parsed<Option<T>> {
        let Some(word) = self.value(record, name) else {
            return Ok(None);
        };
        words
            .get(&word)
            .map(Some)
            .ok_or_else(|| self.refusal(name, format!("unknown value; must be one of: {}", words.list())))
    }

    fn visit(&self, record: &Cells) -> Parsed<VisitDraft<String>> {
        let status = self.enum_value(record, "status", &self.mapping.statuses)?;
        let channel = self.enum_value(record, "channel", &self.mapping.channels)?;
        let scheduled_at = self.instant(record)?;
        let mut draft = VisitDraft {
            visit_no: Patch::Put(self.required(record, "visit_no")?),
            patient: Some(self.required(record, "chart_no")?),
            date: self.visit_date(record)?,
            scheduled_at: scheduled_at.into(),
            status: Some(status.ok_or_else(|| self.refusal("status", "empty"))?),
            department: self.text(record, "department"),
            doctor: self.text(record, "doctor"),
            channel,
            ..VisitDraft::default()
        };
        if let Some(FieldError { field, message }) = draft.validate(self.time_zone).into_iter().next() {
            return Err(self.refusal(field, message));
        }
        // A file's date holds also where scheduled_at is on another day: sources record when a visit was moved.
        if draft.date.is_none() {
            let at = scheduled_at.ok_or_else(|| self.refusal("date", "empty, and so is scheduled_at"))?;
            draft.date = Some(at.with_timezone(&self.time_zone).date_naive());
        }
        Ok(draft)
    }

    fn visit_date(&self, record: &Cells) -> Parsed<Option<NaiveDate>> {
        let Some(value) = self.value(record, "date") else {
            return Ok(None);
        };
        let (date, message) = match self.mapping.date {
            DateMeaning::Day => return self.date(record, "date"),
            DateMeaning::CalendarDay => (
                self.starting_date(&value).map(|(date, _)| date),
                "must be a time stamp that begins with a date, YYYY-MM-DD",
            ),
            DateMeaning::Instant => (
                DateTime::parse_from_rfc3339(&value)
                    .ok()
                    .map(|at| at.with_timezone(&self.time_zone).date_naive()),
                "must be a time stamp with an offset, such as 2025-05-11T09:30:00+09:00",
            ),
        };
        date.map(Some).ok_or_else(|| self.refusal("date", message))
    }

    /// The date at the start of a time stamp, and what follows it.
    fn starting_date<'a>(&self, value: &'a str) -> Option<(NaiveDate, &'a str)> {
        let own = value
            .split_at_checked(10)
            .and_then(|(date, rest)| Some((rules::parse_date(date).ok()?, rest)));
        own.or_else(|| self.mapping.date_format.as_ref()?.parse_start(value))
    }

    /// scheduled_at: with an offset an instant, without one the hospital's local time. Databases store microseconds.
    fn instant(&self, record: &Cells) -> Parsed<Option<DateTime<Utc>>> {
        let Some(value) = self.value(record, "scheduled_at") else {
            return Ok(None);
        };
        let at = match DateTime::parse_from_rfc3339(&value) {
            Ok(at) => at.with_timezone(&Utc),
            Err(_) => {
                let local = self.local_time(&value).ok_or_else(|| {
                    self.refusal(
                        "scheduled_at",
                        "must be an existing time, such as 2025-05-11T09:30 or 2025-05-11T09:30:00+09:00",
                    )
                })?;
                let at = self.time_zone.from_local_datetime(&local).earliest();
                at.ok_or_else(|| self.refusal("scheduled_at", "the hospital's clocks skipped this time"))?
                    .with_timezone(&Utc)
            }
        };
        Ok(Some(at.trunc_subsecs(6)))
    }

    fn local_time(&self, value: &str) -> Option<NaiveDateTime> {
        let (date, rest) = self.starting_date(value)?;
        let time = rest.strip_prefix(['T', ' '])?.trim_start();
        let mut times = ["%H:%M:%S%.f", "%H:%M"]
            .into_iter()
            .map(|form| NaiveTime::parse_from_str(time, form));
        times.find_map(std::result::Result::ok).map(|time| date.and_time(time))
    }

    /// A patient; of a visit's row where `seen_on` is the visit's date.
    fn patient(&self, record: &Cells, seen_on: Option<NaiveDate>, remarks: &mut Vec<Refusal>) -> Parsed<PatientDraft> {
        let sex = self.enum_value(record, "sex", &self.mapping.sexes)?;
        let birth_date = self.date(record, "birth_date").unwrap_or_else(|(column, message)| {
            remarks.push((column, left_empty(&message)));
            None
        });
        let birth_year = match self.value(record, "birth_year") {
            None => self.birth_year_by_age(record, seen_on, remarks),
            Some(value) => {
                let year = value.parse().ok();
                if year.is_none() {
                    remarks.push(self.refusal("birth_year", left_empty("must be a year")));
                }
                year
            }
        };
        let mut draft = PatientDraft {
            chart_no: Some(self.required(record, "chart_no")?),
            name: self.text(record, "name"),
            phone: self.text(record, "phone"),
            birth_date: birth_date.into(),
            // The birth year follows the date.
            birth_year: birth_year.filter(|_| birth_date.is_none()).into(),
            // UNKNOWN in a file leaves the sex as it is.
            sex: sex.filter(|sex| *sex != Sex::Unknown),
            registered_on: match seen_on {
                None => self.date(record, "registered_on")?.into(),
                Some(_) => Patch::Keep,
            },
            ..PatientDraft::default()
        };
        for FieldError { field, message } in draft.validate(self.today, self.country.as_deref()) {
            if !matches!(field, "phone" | "birth_date" | "birth_year") {
                return Err(self.refusal(field, message));
            }
            remarks.push(self.refusal(field, left_empty(&message)));
        }
        Ok(draft)
    }

    /// The birth year by the age on a day, accurate to a year. An age that cannot be is left empty.
    fn birth_year_by_age(&self, record: &Cells, seen_on: Option<NaiveDate>, remarks: &mut Vec<Refusal>) -> Option<i32> {
        let (value, seen_on) = (self.value(record, "age")?, seen_on?);
        let age = value.parse().ok().filter(|age| (0..=MAX_AGE).contains(age));
        let Some(age) = age else {
            let message = left_empty(&format!("must be an age within 0 to {MAX_AGE}"));
            remarks.push(self.refusal("age", message));
            return None;
        };
        rules::birth_year(seen_on.year() - age, self.today)
            .map_err(|message| remarks.push(self.refusal("age", left_empty(&format!("the birth year {message}")))))
            .ok()
    }
}

fn left_empty(message: &str) -> String {
    format!("left empty: {message}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::VisitStatus;

    const PATIENTS: &str = "chart_no,name,phone,birth_date,birth_year,sex,registered_on";
    const VISITS: &str = "visit_no,chart_no,date,scheduled_at,status,department,doctor,channel";

    fn cells(line: &str) -> Cells {
        line.split(',').collect()
    }

    fn mapping(text: &str) -> Mapping {
        Mapping::parse(text).unwrap()
    }

    fn columns_in(time_zone: &str, kind: FileKind, header: &str, mapping: Option<&Mapping>) -> Result<Columns> {
        let hospital = Hospital {
            id: 1,
            code: "H1".to_owned(),
            name: "One".to_owned(),
            country: Some("KR".to_owned()),
            time_zone: time_zone.parse().unwrap(),
            slot_minutes: 30,
            tentative_minutes: 60,
        };
        header_columns(kind, mapping.unwrap_or(&Mapping::default()))?;
        let header: Vec<String> = header.split(',').map(str::to_owned).collect();
        Columns::new(kind, &header, mapping, &hospital, Utc::now().date_naive())
    }

    fn columns(kind: FileKind, header: &str, mapping: Option<&Mapping>) -> Columns {
        columns_in("Asia/Seoul", kind, header, mapping).unwrap()
    }

    /// The column and the text of a row's refusal.
    fn refusal(columns: &Columns, row: &str) -> (String, String) {
        let (column, reason) = columns.read(&cells(row), &mut Vec::new()).err().unwrap();
        (column.unwrap_or_default(), reason)
    }

    fn check(columns: &Columns, rows: &[(&str, &str, &str)]) {
        for &(row, column, reason) in rows {
            assert_eq!(refusal(columns, row), (column.to_owned(), reason.to_owned()), "{row}");
        }
    }

    /// The remarks on a row that is accepted, and the row.
    fn accepted(columns: &Columns, row: &str) -> (Vec<Refusal>, Row) {
        let mut remarks = Vec::new();
        let row = columns.read(&cells(row), &mut remarks).unwrap();
        (remarks, row)
    }

    fn visit(columns: &Columns, row: &str) -> VisitDraft<String> {
        match accepted(columns, row).1 {
            Row::Visit(visit, _) => visit,
            Row::Patient(_) => panic!("a patient"),
        }
    }

    #[test]
    fn a_refusal_of_a_patient_has_column_and_reason() {
        let columns = columns(FileKind::Patients, PATIENTS, None);
        let long = format!("A1,{},,,,,", "n".repeat(256));
        let line = "must be 1–255 characters without control characters";
        let date = "must be an existing date in the form YYYY-MM-DD";
        let range = "must be within 1900-01-01 to 2200-12-31";
        check(
            &columns,
            &[
                ("A1,Kim", "", "2 fields where the header has 7"),
                (",Kim,,,,,", "chart_no", "empty"),
                (" ,Kim,,,,,", "chart_no", "empty"),
                (&long, "name", line),
                ("A1,Ki\u{7}m,,,,,", "name", line),
                ("A\u{0}1,Kim,,,,,", "chart_no", line),
                (
                    "A1,,,,,F,",
                    "sex",
                    "unknown value; must be one of: FEMALE, MALE, OTHER, UNKNOWN",
                ),
                ("A1,,,,,,yesterday", "registered_on", date),
                ("A1,,,,,,2201-01-01", "registered_on", range),
            ],
        );
    }

    #[test]
    fn a_refusal_of_a_visit_has_column_and_reason() {
        let columns = columns(FileKind::Visits, VISITS, None);
        let time = "must be an existing time, such as 2025-05-11T09:30 or 2025-05-11T09:30:00+09:00";
        let statuses = "unknown value; must be one of: TENTATIVE, BOOKED, CHECKED_IN, IN_PROGRESS, COMPLETED, ENDED, CANCELED, NO_SHOW";
        let channels = "unknown value; must be one of: WALK_IN, PHONE, APP, WEB, QR, TABLET, OTHER";
        let range = "must be within 1900-01-01 to 2200-12-31";
        check(
            &columns,
            &[
                (
                    "V1,A1,2025-05-11,,COMPLETED,,,,x",
                    "",
                    "9 fields where the header has 8",
                ),
                (",A1,2025-05-11,,COMPLETED,,,", "visit_no", "empty"),
                ("V1,,2025-05-11,,COMPLETED,,,", "chart_no", "empty"),
                ("V1,A1,,,COMPLETED,,,", "date", "empty, and so is scheduled_at"),
                (
                    "V1,A1,11.05.2025,,COMPLETED,,,",
                    "date",
                    "must be an existing date in the form YYYY-MM-DD",
                ),
                ("V1,A1,1899-12-31,,COMPLETED,,,", "date", range),
                ("V1,A1,,noon,COMPLETED,,,", "scheduled_at", time),
                ("V1,A1,,2025-02-30T09:30,COMPLETED,,,", "scheduled_at", time),
                ("V1,A1,,2201-01-01T09:30,COMPLETED,,,", "scheduled_at", range),
                ("V1,A1,2025-05-11,,,,,", "status", "empty"),
                ("V1,A1,2025-05-11,,DONE,,,", "status", statuses),
                ("V1,A1,2025-05-11,,COMPLETED,,,FAX", "channel", channels),
                (
                    "V1,A1,2025-05-11,,COMPLETED,E\u{1}NT,,",
                    "department",
                    "must be 1–255 characters without control characters",
                ),
            ],
        );
        let berlin = columns_in("Europe/Berlin", FileKind::Visits, VISITS, None).unwrap();
        let skipped = ("scheduled_at", "the hospital's clocks skipped this time");
        check(
            &berlin,
            &[("V1,A1,,2025-03-30T02:30,COMPLETED,,,", skipped.0, skipped.1)],
        );
    }

    #[test]
    fn a_refusal_names_the_column_and_the_values_of_the_file() {
        let mapping = mapping(
            "columns = { chart_no = \"MRN\", sex = \"Gender\" }
            sexes = { F = \"FEMALE\" }
            [constants]
            registered_on = \"2025-13-01\"",
        );
        let columns = columns(FileKind::Patients, "Gender,MRN,Ward", Some(&mapping));
        check(
            &columns,
            &[
                ("F,,3", "MRN", "empty"),
                (
                    "X,A1,3",
                    "Gender",
                    "unknown value; must be one of: FEMALE, MALE, OTHER, UNKNOWN, f",
                ),
                (
                    "F,A1,3",
                    "registered_on",
                    "must be an existing date in the form YYYY-MM-DD",
                ),
            ],
        );
    }

    #[test]
    fn a_birth_date_that_is_invalid_is_left_empty() {
        let columns = columns(FileKind::Patients, PATIENTS, None);
        let date = "must be an existing date in the form YYYY-MM-DD";
        let year = format!("must be a year within 1900 to {}", columns.today.year());
        for (row, column, reason) in [
            ("A1,,,2025-02-29,,,", "birth_date", date),
            ("A1,,,2025-2-1,,,", "birth_date", date),
            (
                "A1,,,1899-12-31,,,",
                "birth_date",
                "must be within 1900-01-01 to 2200-12-31",
            ),
            ("A1,,,2200-12-31,,,", "birth_date", "must not be after today"),
            ("A1,,,,about 1980,,", "birth_year", "must be a year"),
            ("A1,,,,1899,,", "birth_year", &year),
            ("A1,,,,2201,,", "birth_year", &year),
        ] {
            let (remarks, row) = accepted(&columns, row);
            assert_eq!(remarks, [(Some(column.to_owned()), format!("left empty: {reason}"))]);
            let Row::Patient(patient) = row else {
                panic!("no patient")
            };
            assert_eq!((patient.birth_date, patient.birth_year), (Patch::Keep, Patch::Keep));
        }
    }

    #[test]
    fn words_are_compared_without_case_and_blanks() {
        let mapping = mapping("statuses = { \"Did not come\" = \"no show\" }");
        let columns = columns(FileKind::Visits, VISITS, Some(&mapping));
        for (word, status) in [
            ("completed", VisitStatus::Completed),
            ("In  progress", VisitStatus::InProgress),
            ("DID NOT  COME", VisitStatus::NoShow),
            ("no_show", VisitStatus::NoShow),
        ] {
            assert_eq!(
                visit(&columns, &format!("V1,A1,2025-05-11,,{word},,,")).status,
                Some(status),
                "{word}"
            );
        }
        let row = cells("V1,A1,2025-05-11,,Came,,,Fax");
        let words = [("status", "Came"), ("channel", "Fax")].map(|(column, word)| (column.to_owned(), word.to_owned()));
        assert_eq!(columns.unknown_words(&row), words);
    }

    #[test]
    fn a_mapping_says_how_dates_are_written() {
        let mapping = mapping("date_format = \"DD/MM/YYYY\"");
        let columns = columns(FileKind::Visits, VISITS, Some(&mapping));
        let at = |date: &str, time: &str| visit(&columns, &format!("V1,A1,{date},{time},BOOKED,,,"));
        assert_eq!(at("03/02/2025", "").date.unwrap().to_string(), "2025-02-03");
        assert_eq!(at("2025-02-03", "").date.unwrap().to_string(), "2025-02-03");
        assert_eq!(
            at("", "03/02/2025 09:30").scheduled_at,
            Patch::Put("2025-02-03T00:30:00Z".parse().unwrap())
        );
        let date = "must be an existing date in the form YYYY-MM-DD or DD/MM/YYYY";
        check(
            &columns,
            &[
                ("V1,A1,31/02/2025,,BOOKED,,,", "date", date),
                ("V1,A1,02/03/2025 1,,BOOKED,,,", "date", date),
            ],
        );
    }

    #[test]
    fn a_name_may_be_in_several_columns() {
        let mapping = mapping("columns = { name = [\"LAST\", \"FIRST\"] }");
        let columns = columns(FileKind::Patients, "FIRST,chart_no,LAST", Some(&mapping));
        for (row, name) in [
            ("Min,A1,Kim", Patch::Put("Kim Min".to_owned())),
            ("Min,A1,", Patch::Put("Min".to_owned())),
            (",A1, ", Patch::Keep),
        ] {
            let Row::Patient(patient) = accepted(&columns, row).1 else {
                panic!("no patient")
            };
            assert_eq!(patient.name, name);
        }
    }

    #[test]
    fn columns_that_are_not_mapped_never_refuse_a_row() {
        let columns = columns(FileKind::Patients, "chart_no,ward,name", Some(&Mapping::default()));
        let kind = tabular::ProblemKind::ErrorValue;
        let row = |line: &str, cell| tabular::Row {
            line: 2,
            cells: cells(line),
            problems: vec![tabular::Problem { cell, kind }],
        };
        assert_eq!(columns.check(&row("A1,,Kim", Some(1))), Ok(()));
        assert!(columns.is_blank(&row(",3, ", Some(1))) && !columns.is_blank(&row(",3,", Some(0))));
        assert_eq!(
            columns.check(&row("A1,,Kim", Some(2))).unwrap_err().0.as_deref(),
            Some("name")
        );
        assert_eq!(columns.check(&row("A1,,Kim", None)).unwrap_err().0, None);
    }

    #[test]
    fn rows_of_words_that_the_mapping_names_are_skipped() {
        let columns = columns(
            FileKind::Patients,
            "chart_no,name",
            Some(&mapping("skip_rows = [\"Total\"]")),
        );
        let row = |line: &str| tabular::Row {
            line: 9,
            cells: cells(line),
            problems: Vec::new(),
        };
        assert!(columns.is_blank(&row(" TOTAL,9 patients")) && !columns.is_blank(&row("Total 1,Kim")));
    }

    #[test]
    fn fractions_below_a_microsecond_are_cut_off() {
        let columns = columns(FileKind::Visits, VISITS, None);
        let visit = visit(&columns, "V1,A1,,2025-05-11T00:30:00.1234567Z,BOOKED,,,");
        assert_eq!(
            visit.scheduled_at,
            Patch::Put("2025-05-11T00:30:00.123456Z".parse().unwrap())
        );
    }

    #[test]
    fn a_phone_or_an_age_that_is_invalid_is_left_empty() {
        let patients = columns(FileKind::Patients, PATIENTS, None);
        let (remarks, row) = accepted(&patients, "A1,Kim,12,,,,");
        let Row::Patient(patient) = row else {
            panic!("no patient")
        };
        assert_eq!(
            (patient.name, patient.phone),
            (Patch::Put("Kim".to_owned()), Patch::Keep)
        );
        let phone = "left empty: must be a complete phone number, with a country code or of the hospital's country";
        assert_eq!(remarks, [(Some("phone".to_owned()), phone.to_owned())]);

        let mapping = mapping("brings_patients = true\ncolumns = { age = \"Age\" }");
        let visits = columns(FileKind::Visits, "visit_no,chart_no,date,status,Age", Some(&mapping));
        for (age, year, remarks) in [
            ("41", Patch::Put(1984), 0),
            ("-1", Patch::Keep, 1),
            ("131", Patch::Keep, 1),
        ] {
            let (found, row) = accepted(&visits, &format!("V1,A1,2025-05-11,COMPLETED,{age}"));
            let Row::Visit(_, Some(patient)) = row else {
                panic!("no patient")
            };
            assert_eq!((patient.birth_year, found.len()), (year, remarks), "{age}");
            let text = "left empty: must be an age within 0 to 130";
            assert!(
                found
                    .iter()
                    .all(|remark| *remark == (Some("Age".to_owned()), text.to_owned())),
                "{found:?}"
            );
        }
    }

    #[test]
    fn a_time_is_local_unless_it_has_an_offset() {
        let columns = columns(FileKind::Visits, VISITS, None);
        for (text, instant) in [
            ("2025-05-11T09:30:00+09:00", "2025-05-11T00:30:00Z"),
            ("2025-05-11T00:30:00Z", "2025-05-11T00:30:00Z"),
            ("2025-05-11T09:30", "2025-05-11T00:30:00Z"),
            ("2025-05-11 09:30", "2025-05-11T00:30:00Z"),
            ("2025-05-11 09:30:15.25", "2025-05-11T00:30:15.250Z"),
        ] {
            let visit = visit(&columns, &format!("V1,A1,,{text},BOOKED,,,"));
            assert_eq!(visit.scheduled_at, Patch::Put(instant.parse().unwrap()), "{text}");
            assert_eq!(visit.date.unwrap().to_string(), "2025-05-11", "{text}");
        }
        let moved = visit(&columns, "V1,A1,2025-05-13,2025-05-11T09:30,BOOKED,,,");
        assert_eq!(
            moved.date.unwrap().to_string(),
            "2025-05-13",
            "the date counts where both are there"
        );
    }

    #[test]
    fn a_mapping_says_what_a_date_means() {
        let date = |meaning: &str, value: &str| {
            let mapping = mapping(&format!("date = \"{meaning}\""));
            let columns = columns(FileKind::Visits, VISITS, Some(&mapping));
            let row = columns.read(&cells(&format!("V1,A1,{value},,BOOKED,,,")), &mut Vec::new());
            match row {
                Ok(Row::Visit(visit, _)) => visit.date.unwrap().to_string(),
                Ok(Row::Patient(_)) => panic!("a patient"),
                Err((column, reason)) => format!("{}: {reason}", column.unwrap_or_default()),
            }
        };
        assert_eq!(date("day", "2025-05-11"), "2025-05-11");
        assert_eq!(date("calendar-day", "2025-05-11T23:30:00Z"), "2025-05-11");
        assert_eq!(date("instant", "2025-05-11T23:30:00Z"), "2025-05-12");
        let calendar_day = "date: must be a time stamp that begins with a date, YYYY-MM-DD";
        assert_eq!(date("calendar-day", "11/05/2025 23:30"), calendar_day);
        let instant = "date: must be a time stamp with an offset, such as 2025-05-11T09:30:00+09:00";
        assert_eq!(date("instant", "2025-05-11T23:30:00"), instant);
    }

    #[test]
    fn a_header_that_is_wrong_is_refused() {
        let refused = |kind, header: &str, text: Option<&str>| {
            let mapping = text.map(mapping);
            columns_in("Asia/Seoul", kind, header, mapping.as_ref())
                .err()
                .unwrap()
                .for_operator()
        };
        let (patients, visits) = (FileKind::Patients, FileKind::Visits);
        for (kind, header, mapping, text) in [
            (patients, "name,phone", None, "file: the column chart_no is missing"),
            (
                visits,
                "visit_no,chart_no,date",
                None,
                "file: the column status is missing",
            ),
            (
                visits,
                "visit_no,chart_no,status",
                None,
                "file: one of the columns date and scheduled_at is missing",
            ),
            (
                patients,
                "chart_no,name,name",
                None,
                "file: the column name occurs twice",
            ),
            (
                patients,
                "chart_no,nmae",
                None,
                "file: unknown column \"nmae\"; must be one of: chart_no, name, phone, birth_date, birth_year, sex, registered_on",
            ),
            (
                patients,
                "chart_no",
                Some("columns = { name = \"Name\" }"),
                "file: the column Name is missing, which the mapping names for name",
            ),
            (
                patients,
                "chart_no",
                Some("constants = { age = \"3\" }"),
                "mapping: unknown column age; must be one of: chart_no, name, phone, birth_date, birth_year, sex, registered_on",
            ),
            (
                patients,
                "chart_no",
                Some("brings_patients = true"),
                "mapping: brings_patients is only for files of visits",
            ),
        ] {
            assert_eq!(refused(kind, header, mapping), text, "{header}");
        }
        assert!(columns_in("Asia/Seoul", patients, "chart_no,ward", Some(&Mapping::default())).is_ok());
    }
}
