//! A row of a file as drafts.

use std::collections::BTreeMap;
use std::collections::HashMap;

use chrono::{DateTime, Datelike as _, NaiveDate, NaiveDateTime, TimeZone as _, Utc};
use chrono_tz::Tz;
use csv::StringRecord;

use super::mapping::{DateMeaning, Mapping};
use super::{FileKind, Row};
use crate::error::{Error, Result};
use crate::records::{FieldError, Patch, PatientDraft, Sex, VisitDraft, rules};
use crate::statistics::{VisitChannel, VisitStatus};
use crate::store::Hospital;

/// The columns of a file of patients.
const PATIENT_COLUMNS: [&str; 7] = [
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
const PATIENT_COLUMNS_OF_VISITS: [&str; 6] = ["name", "phone", "birth_date", "birth_year", "sex", "age"];

/// The greatest age that is accepted, in years.
const MAX_AGE: i32 = 130;

/// Why a row is refused, or a value is left empty: the column's name in the file, and the reason.
type Refusal = (Option<String>, String);
type Parsed<T> = std::result::Result<T, Refusal>;

/// The positions of our columns in a file, and how values are read.
pub(super) struct Columns {
    kind: FileKind,
    positions: HashMap<&'static str, usize>,
    header: Vec<String>,
    mapping: Mapping,
    time_zone: Tz,
    /// In the hospital's time zone.
    today: NaiveDate,
    country: Option<String>,
}

impl Columns {
    /// Finds our columns in a header.
    ///
    /// # Errors
    /// Where a column is missing, unknown or repeated; the text names it.
    pub(super) fn new(
        kind: FileKind,
        header: &StringRecord,
        mapping: Option<&Mapping>,
        hospital: &Hospital,
        today: NaiveDate,
    ) -> Result<Self> {
        let own = mapping.cloned().unwrap_or_default();
        if kind == FileKind::Patients && own.brings_patients {
            return Err(Error::input("mapping", "brings_patients is only for files of visits"));
        }
        let header: Vec<String> = header.iter().map(|name| name.trim().to_owned()).collect();
        let mut names: Vec<&'static str> = match kind {
            FileKind::Patients => PATIENT_COLUMNS.to_vec(),
            FileKind::Visits => VISIT_COLUMNS.to_vec(),
        };
        if own.brings_patients {
            names.extend(PATIENT_COLUMNS_OF_VISITS);
        }
        let unknown = own
            .columns
            .keys()
            .chain(own.constants.keys())
            .find(|name| !names.contains(&name.as_str()));
        if let Some(name) = unknown {
            let message = format!("unknown column {name}; must be one of: {}", names.join(", "));
            return Err(Error::input("mapping", message));
        }
        let mut positions = HashMap::new();
        for name in &names {
            let in_file = own.columns.get(*name).map_or(*name, String::as_str);
            let mut found = header
                .iter()
                .enumerate()
                .filter(|(_, column)| *column == in_file)
                .map(|(position, _)| position);
            match (found.next(), found.next()) {
                (Some(_), Some(_)) => return Err(Error::input("file", format!("the column {in_file} occurs twice"))),
                (Some(position), None) => drop(positions.insert(*name, position)),
                (None, _) if own.columns.contains_key(*name) => {
                    return Err(Error::input(
                        "file",
                        format!("the column {in_file} is missing, which the mapping names for {name}"),
                    ));
                }
                (None, _) => {}
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

    /// Checks that the file has the columns that it must have, and without a mapping no unknown ones.
    fn check_complete(&self, mapped: bool, names: &[&str]) -> Result<()> {
        let has = |name: &str| self.positions.contains_key(name) || self.mapping.constants.contains_key(name);
        let required: &[&str] = match self.kind {
            FileKind::Patients => &["chart_no"],
            FileKind::Visits => &["visit_no", "chart_no", "status"],
        };
        if let Some(name) = required.iter().find(|name| !has(name)) {
            let message = format!("the column {name} is missing; the file has: {}", self.header.join(", "));
            return Err(Error::input("file", message));
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
            .find(|column| !mapped && !names.contains(&column.as_str()));
        match unknown {
            Some(column) => {
                let message = format!("unknown column {column:?}; must be one of: {}", names.join(", "));
                Err(Error::input("file", message))
            }
            None => Ok(()),
        }
    }

    /// Reads a row. `remarks` are values that are left empty.
    pub(super) fn read(&self, record: &StringRecord, remarks: &mut Vec<Refusal>) -> Parsed<Row> {
        if record.len() != self.header.len() {
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
    fn value<'a>(&'a self, record: &'a StringRecord, name: &str) -> Option<&'a str> {
        let value = match self.positions.get(name) {
            Some(&position) => record.get(position),
            None => self.mapping.constants.get(name).map(String::as_str),
        };
        value.map(str::trim).filter(|value| !value.is_empty())
    }

    fn refusal(&self, name: &str, reason: impl Into<String>) -> Refusal {
        let column = self.positions.get(name).and_then(|&position| self.header.get(position));
        (Some(column.map_or(name, String::as_str).to_owned()), reason.into())
    }

    fn required(&self, record: &StringRecord, name: &str) -> Parsed<String> {
        let value = self.value(record, name).map(str::to_owned);
        value.ok_or_else(|| self.refusal(name, "empty"))
    }

    fn text(&self, record: &StringRecord, name: &str) -> Patch<String> {
        self.value(record, name).map(str::to_owned).into()
    }

    fn date(&self, record: &StringRecord, name: &str) -> Parsed<Option<NaiveDate>> {
        let date = self.value(record, name).map(rules::parse_date);
        date.transpose().map_err(|message| self.refusal(name, message))
    }

    /// A value of an enum: ours, or the file's as the mapping has it. `all` are the accepted values for the refusal.
    fn enum_value<T>(
        &self,
        record: &StringRecord,
        name: &str,
        mapped: &BTreeMap<String, String>,
        parse: impl Fn(&str) -> Option<T>,
        all: impl Fn() -> String,
    ) -> Parsed<Option<T>> {
        let Some(value) = self.value(record, name) else {
            return Ok(None);
        };
        let ours = mapped.get(value).map_or(value, String::as_str);
        let found = parse(ours);
        found
            .map(Some)
            .ok_or_else(|| self.refusal(name, format!("unknown value; must be one of: {}", all())))
    }

    fn visit(&self, record: &StringRecord) -> Parsed<VisitDraft<String>> {
        let all = || {
            join(
                VisitStatus::ALL.iter().map(|status| status.as_str()),
                &self.mapping.statuses,
            )
        };
        let status = self.enum_value(record, "status", &self.mapping.statuses, VisitStatus::parse, all)?;
        let all = || {
            join(
                VisitChannel::ALL.iter().map(|channel| channel.as_str()),
                &self.mapping.channels,
            )
        };
        let channel = self.enum_value(record, "channel", &self.mapping.channels, VisitChannel::parse, all)?;
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

    fn visit_date(&self, record: &StringRecord) -> Parsed<Option<NaiveDate>> {
        let Some(value) = self.value(record, "date") else {
            return Ok(None);
        };
        let (date, message) = match self.mapping.date {
            DateMeaning::Day => return self.date(record, "date"),
            DateMeaning::CalendarDay => (
                value.get(..10).and_then(|day| day.parse().ok()),
                "must be a time stamp that begins with a date, YYYY-MM-DD",
            ),
            DateMeaning::Instant => (
                DateTime::parse_from_rfc3339(value)
                    .ok()
                    .map(|at| at.with_timezone(&self.time_zone).date_naive()),
                "must be a time stamp with an offset, such as 2025-05-11T09:30:00+09:00",
            ),
        };
        date.map(Some).ok_or_else(|| self.refusal("date", message))
    }

    /// scheduled_at: with an offset an instant, without one the hospital's local time.
    fn instant(&self, record: &StringRecord) -> Parsed<Option<DateTime<Utc>>> {
        const LOCAL: [&str; 4] = [
            "%Y-%m-%dT%H:%M:%S%.f",
            "%Y-%m-%dT%H:%M",
            "%Y-%m-%d %H:%M:%S%.f",
            "%Y-%m-%d %H:%M",
        ];
        let Some(value) = self.value(record, "scheduled_at") else {
            return Ok(None);
        };
        let at = match DateTime::parse_from_rfc3339(value) {
            Ok(at) => at.with_timezone(&Utc),
            Err(_) => {
                let local = LOCAL
                    .iter()
                    .find_map(|form| NaiveDateTime::parse_from_str(value, form).ok());
                let local = local.ok_or_else(|| {
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
        Ok(Some(at))
    }

    /// A patient; of a visit's row where `seen_on` is the visit's date.
    fn patient(
        &self,
        record: &StringRecord,
        seen_on: Option<NaiveDate>,
        remarks: &mut Vec<Refusal>,
    ) -> Parsed<PatientDraft> {
        let all = || join(Sex::ALL.iter().map(|sex| sex.as_str()), &self.mapping.sexes);
        let sex = self.enum_value(record, "sex", &self.mapping.sexes, Sex::parse, all)?;
        let birth_date = self.date(record, "birth_date")?;
        let birth_year = match self.value(record, "birth_year") {
            None => self.birth_year_by_age(record, seen_on, remarks),
            Some(value) => Some(
                value
                    .parse()
                    .map_err(|_| self.refusal("birth_year", "must be a year"))?,
            ),
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
            if field != "phone" {
                return Err(self.refusal(field, message));
            }
            remarks.push(self.refusal(field, format!("left empty: {message}")));
        }
        Ok(draft)
    }

    /// The birth year by the age on a day, accurate to a year. An age that cannot be is left empty.
    fn birth_year_by_age(
        &self,
        record: &StringRecord,
        seen_on: Option<NaiveDate>,
        remarks: &mut Vec<Refusal>,
    ) -> Option<i32> {
        let (value, seen_on) = (self.value(record, "age")?, seen_on?);
        let age = value.parse().ok().filter(|age| (0..=MAX_AGE).contains(age));
        let Some(age) = age else {
            remarks.push(self.refusal("age", format!("left empty: must be an age within 0 to {MAX_AGE}")));
            return None;
        };
        rules::birth_year(seen_on.year() - age, self.today)
            .map_err(|message| remarks.push(self.refusal("age", format!("left empty: the birth year {message}"))))
            .ok()
    }
}

fn join<'a>(ours: impl Iterator<Item = &'a str>, mapped: &'a BTreeMap<String, String>) -> String {
    ours.chain(mapped.keys().map(String::as_str))
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENTS: &str = "chart_no,name,phone,birth_date,birth_year,sex,registered_on";
    const VISITS: &str = "visit_no,chart_no,date,scheduled_at,status,department,doctor,channel";

    fn cells(line: &str) -> StringRecord {
        line.split(',').collect::<Vec<_>>().into()
    }

    fn mapping(text: &str) -> Mapping {
        toml::from_str(text).unwrap()
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
        Columns::new(kind, &cells(header), mapping, &hospital, Utc::now().date_naive())
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
        let year = format!("must be a year within 1900 to {}", columns.today.year());
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
                ("A1,,,2025-02-29,,,", "birth_date", date),
                ("A1,,,2025-2-1,,,", "birth_date", date),
                ("A1,,,1899-12-31,,,", "birth_date", range),
                ("A1,,,2200-12-31,,,", "birth_date", "must not be after today"),
                ("A1,,,,about 1980,,", "birth_year", "must be a year"),
                ("A1,,,,1899,,", "birth_year", &year),
                ("A1,,,,2201,,", "birth_year", &year),
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
                ("V1,A1,2025-05-11,,COMPLETED,,,,", "", "9 fields where the header has 8"),
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
                    "unknown value; must be one of: FEMALE, MALE, OTHER, UNKNOWN, F",
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
            (
                patients,
                "name,phone",
                None,
                "file: the column chart_no is missing; the file has: name, phone",
            ),
            (
                visits,
                "visit_no,chart_no,date",
                None,
                "file: the column status is missing; the file has: visit_no, chart_no, date",
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
