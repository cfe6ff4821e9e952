//! A row of a file as a record.

use std::collections::BTreeMap;
use std::collections::HashMap;

use chrono::{DateTime, Datelike as _, NaiveDate, NaiveDateTime, TimeZone as _, Utc};
use csv::StringRecord;

use super::mapping::{DateMeaning, Mapping};
use super::{FileKind, Row};
use crate::error::{Error, Result};
use crate::records::{PatientRecord, Sex, VisitRecord, e164};
use crate::statistics::{Day, VisitChannel, VisitStatus};

/// What a file of patients may have.
const PATIENT_COLUMNS: [&str; 7] = [
    "chart_no",
    "name",
    "phone",
    "birth_date",
    "birth_year",
    "sex",
    "registered_on",
];
/// What a file of visits may have; with `brings_patients` also what a file of patients may have, and `age`.
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
const PATIENT_COLUMNS_OF_VISITS: [&str; 6] = ["name", "phone", "birth_date", "birth_year", "sex", "age"];

/// The longest text that is taken, in characters.
const MAX_TEXT_LENGTH: usize = crate::text::MAX_NAME_LENGTH;
/// The greatest age that is taken, in years.
const MAX_AGE: i32 = 130;

/// Why a row cannot be taken, or a value is left empty: the file's column, and the reason.
type Refusal = (Option<String>, String);
type Parsed<T> = std::result::Result<T, Refusal>;

/// Where our columns stand in a file.
pub(super) struct Columns {
    kind: FileKind,
    places: HashMap<&'static str, usize>,
    header: Vec<String>,
    mapping: Mapping,
    time_zone: chrono_tz::Tz,
    country: Option<String>,
}

impl Columns {
    /// Finds our columns in a header.
    ///
    /// # Errors
    /// Names the column that is missing, unknown, or there twice.
    pub(super) fn new(
        kind: FileKind,
        header: &StringRecord,
        mapping: Option<&Mapping>,
        hospital: &entity::hospital::Model,
    ) -> Result<Self> {
        let own = mapping.cloned().unwrap_or_default();
        if kind == FileKind::Patients && own.brings_patients {
            return Err(Error::input("mapping", "brings_patients is for a file of visits"));
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
            let message = format!("{name} is no column of ours; they are: {}", names.join(", "));
            return Err(Error::input("mapping", message));
        }
        let mut places = HashMap::new();
        for name in &names {
            let in_file = own.columns.get(*name).map_or(*name, String::as_str);
            let mut found = header
                .iter()
                .enumerate()
                .filter(|(_, column)| *column == in_file)
                .map(|(place, _)| place);
            match (found.next(), found.next()) {
                (Some(_), Some(_)) => return Err(Error::input("file", format!("the column {in_file} is there twice"))),
                (Some(place), None) => drop(places.insert(*name, place)),
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
            places,
            header,
            mapping: own,
            time_zone: hospital.time_zone.parse().map_err(|_| {
                Error::Internal(format!(
                    "hospital.time_zone holds the unknown zone {:?}",
                    hospital.time_zone
                ))
            })?,
            country: hospital.country.clone(),
        };
        columns.complete(mapping.is_some(), &names)?;
        Ok(columns)
    }

    fn complete(&self, mapped: bool, names: &[&str]) -> Result<()> {
        let has = |name: &str| self.places.contains_key(name) || self.mapping.constants.contains_key(name);
        let needed: &[&str] = match self.kind {
            FileKind::Patients => &["chart_no"],
            FileKind::Visits => &["visit_no", "chart_no", "status"],
        };
        if let Some(name) = needed.iter().find(|name| !has(name)) {
            let message = format!("the column {name} is missing; the file has: {}", self.header.join(", "));
            return Err(Error::input("file", message));
        }
        if self.kind == FileKind::Visits && !has("date") && !has("scheduled_at") {
            return Err(Error::input(
                "file",
                "one of the columns date and scheduled_at is missing",
            ));
        }
        // Without a mapping a column that we do not know is a slip of the pen, and its values would be lost.
        let unknown = self
            .header
            .iter()
            .find(|column| !mapped && !names.contains(&column.as_str()));
        match unknown {
            Some(column) => {
                let message = format!("the column {column:?} is not known; columns are: {}", names.join(", "));
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
        for (place, value) in record.iter().enumerate() {
            if value.chars().count() > MAX_TEXT_LENGTH {
                return Err((
                    self.header.get(place).cloned(),
                    format!("longer than {MAX_TEXT_LENGTH} characters"),
                ));
            }
            if value.chars().any(char::is_control) {
                return Err((self.header.get(place).cloned(), "holds a control character".to_owned()));
            }
        }
        Ok(match self.kind {
            FileKind::Patients => Row::Patient(self.patient(record, None, remarks)?),
            FileKind::Visits => {
                let visit = self.visit(record)?;
                let patient = if self.mapping.brings_patients {
                    Some(self.patient(record, Some(visit.date), remarks)?)
                } else {
                    None
                };
                Row::Visit(visit, patient)
            }
        })
    }

    /// The value of one of our columns; none where it is empty or not there.
    fn value<'a>(&'a self, record: &'a StringRecord, name: &str) -> Option<&'a str> {
        let value = match self.places.get(name) {
            Some(&place) => record.get(place),
            None => self.mapping.constants.get(name).map(String::as_str),
        };
        value.map(str::trim).filter(|value| !value.is_empty())
    }

    fn reason(&self, name: &str, reason: impl Into<String>) -> Refusal {
        let column = self.places.get(name).and_then(|&place| self.header.get(place));
        (Some(column.map_or(name, String::as_str).to_owned()), reason.into())
    }

    fn needed(&self, record: &StringRecord, name: &str) -> Parsed<String> {
        let value = self.value(record, name).map(str::to_owned);
        value.ok_or_else(|| self.reason(name, "empty"))
    }

    fn date(&self, record: &StringRecord, name: &str) -> Parsed<Option<NaiveDate>> {
        let Some(value) = self.value(record, name) else {
            return Ok(None);
        };
        let date = NaiveDate::parse_from_str(value, "%Y-%m-%d")
            .ok()
            .filter(|date| date.to_string() == value);
        self.accepted(name, date, "a date that exists, written YYYY-MM-DD, is wanted")
            .map(Some)
    }

    fn accepted(&self, name: &str, date: Option<NaiveDate>, wanted: &str) -> Parsed<NaiveDate> {
        let date = date.ok_or_else(|| self.reason(name, wanted))?;
        if Day::accepts(date) {
            return Ok(date);
        }
        Err(self.reason(name, "lies outside 1900-01-01 to 2200-12-31"))
    }

    /// One of our words, or the file's word for it.
    fn word<T>(
        &self,
        record: &StringRecord,
        name: &str,
        words: &BTreeMap<String, String>,
        read: impl Fn(&str) -> Option<T>,
        all: impl Fn() -> String,
    ) -> Parsed<Option<T>> {
        let Some(value) = self.value(record, name) else {
            return Ok(None);
        };
        let ours = words.get(value).map_or(value, String::as_str);
        let found = read(ours);
        found
            .map(Some)
            .ok_or_else(|| self.reason(name, format!("an unknown word; known are: {}", all())))
    }

    fn visit(&self, record: &StringRecord) -> Parsed<VisitRecord> {
        let scheduled_at = self.instant(record)?;
        let date = match self.visit_date(record)? {
            Some(date) => date,
            None => match scheduled_at {
                Some(at) => {
                    let date = at.with_timezone(&self.time_zone).date_naive();
                    self.accepted("scheduled_at", Some(date), "")?
                }
                None => return Err(self.reason("date", "empty, and so is scheduled_at")),
            },
        };
        let all = || {
            join(
                VisitStatus::ALL.iter().map(|status| status.as_str()),
                &self.mapping.statuses,
            )
        };
        let status = self.word(record, "status", &self.mapping.statuses, VisitStatus::parse, all)?;
        let all = || {
            join(
                VisitChannel::ALL.iter().map(|channel| channel.as_str()),
                &self.mapping.channels,
            )
        };
        let channel = self.word(record, "channel", &self.mapping.channels, VisitChannel::parse, all)?;
        Ok(VisitRecord {
            visit_no: self.needed(record, "visit_no")?,
            chart_no: self.needed(record, "chart_no")?,
            date,
            scheduled_at,
            status: status.ok_or_else(|| self.reason("status", "empty"))?,
            department: self.value(record, "department").map(str::to_owned),
            doctor: self.value(record, "doctor").map(str::to_owned),
            channel,
        })
    }

    fn visit_date(&self, record: &StringRecord) -> Parsed<Option<NaiveDate>> {
        let Some(value) = self.value(record, "date") else {
            return Ok(None);
        };
        let (date, wanted) = match self.mapping.date {
            DateMeaning::Day => return self.date(record, "date"),
            DateMeaning::CalendarDay => (
                value.get(..10).and_then(|day| day.parse().ok()),
                "a time stamp that begins YYYY-MM-DD is wanted",
            ),
            DateMeaning::Instant => (
                DateTime::parse_from_rfc3339(value)
                    .ok()
                    .map(|at| at.with_timezone(&self.time_zone).date_naive()),
                "a time stamp with an offset, such as 2025-05-11T09:30:00+09:00, is wanted",
            ),
        };
        self.accepted("date", date, wanted).map(Some)
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
                    self.reason(
                        "scheduled_at",
                        "a time that exists is wanted, such as 2025-05-11T09:30 or 2025-05-11T09:30:00+09:00",
                    )
                })?;
                let at = self.time_zone.from_local_datetime(&local).earliest();
                at.ok_or_else(|| self.reason("scheduled_at", "the hospital's clocks skipped this time"))?
                    .with_timezone(&Utc)
            }
        };
        self.accepted("scheduled_at", Some(at.date_naive()), "")?;
        Ok(Some(at))
    }

    /// A patient; of a visit's row where `seen_on` says when the patient was seen.
    fn patient(
        &self,
        record: &StringRecord,
        seen_on: Option<NaiveDate>,
        remarks: &mut Vec<Refusal>,
    ) -> Parsed<PatientRecord> {
        let all = || join(Sex::ALL.iter().map(|sex| sex.as_str()), &self.mapping.sexes);
        let sex = self.word(record, "sex", &self.mapping.sexes, Sex::parse, all)?;
        let phone = match self.value(record, "phone") {
            None => None,
            Some(value) => {
                let phone = e164(value, self.country.as_deref());
                if phone.is_none() {
                    remarks.push(self.reason(
                        "phone",
                        "left empty: no phone number of the hospital's country or with a country code",
                    ));
                }
                phone
            }
        };
        let birth_year = match self.value(record, "birth_year") {
            None => self.born(record, seen_on, remarks),
            Some(value) => {
                let year = value.parse().ok().filter(|year| (1900..=2200).contains(year));
                Some(year.ok_or_else(|| self.reason("birth_year", "a year from 1900 to 2200 is wanted"))?)
            }
        };
        Ok(PatientRecord {
            chart_no: self.needed(record, "chart_no")?,
            name: self.value(record, "name").map(str::to_owned),
            phone,
            birth_date: self.date(record, "birth_date")?,
            birth_year,
            sex: sex.unwrap_or(Sex::Unknown),
            registered_on: match seen_on {
                None => self.date(record, "registered_on")?,
                Some(_) => None,
            },
        })
    }

    /// The birth year by the age on a day, to a year. An age that nobody has is left empty.
    fn born(&self, record: &StringRecord, seen_on: Option<NaiveDate>, remarks: &mut Vec<Refusal>) -> Option<i32> {
        let (value, seen_on) = (self.value(record, "age")?, seen_on?);
        let age = value.parse().ok().filter(|age| (0..=MAX_AGE).contains(age));
        if age.is_none() {
            remarks.push(self.reason("age", format!("left empty: an age from 0 to {MAX_AGE} is wanted")));
        }
        age.map(|age| seen_on.year() - age)
    }
}

fn join<'a>(ours: impl Iterator<Item = &'a str>, mapped: &'a BTreeMap<String, String>) -> String {
    ours.chain(mapped.keys().map(String::as_str))
        .collect::<Vec<_>>()
        .join(", ")
}
