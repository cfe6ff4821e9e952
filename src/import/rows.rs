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
    time_zone: Tz,
    /// In the hospital's time zone.
    today: NaiveDate,
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
        hospital: &Hospital,
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
            time_zone: hospital.time_zone,
            today: Utc::now().with_timezone(&hospital.time_zone).date_naive(),
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

    fn text(&self, record: &StringRecord, name: &str) -> Patch<String> {
        self.value(record, name).map(str::to_owned).into()
    }

    fn date(&self, record: &StringRecord, name: &str) -> Parsed<Option<NaiveDate>> {
        let date = self.value(record, name).map(rules::parse_date);
        date.transpose().map_err(|message| self.reason(name, message))
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
            .ok_or_else(|| self.reason(name, format!("unknown value; must be one of: {}", all())))
    }

    fn visit(&self, record: &StringRecord) -> Parsed<VisitDraft<String>> {
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
        let scheduled_at = self.instant(record)?;
        let mut draft = VisitDraft {
            visit_no: Patch::Put(self.needed(record, "visit_no")?),
            patient: Some(self.needed(record, "chart_no")?),
            date: self.visit_date(record)?,
            scheduled_at: scheduled_at.into(),
            status: Some(status.ok_or_else(|| self.reason("status", "empty"))?),
            department: self.text(record, "department"),
            doctor: self.text(record, "doctor"),
            channel,
        };
        if let Some(FieldError { field, message }) = draft.validate(self.time_zone).into_iter().next() {
            return Err(self.reason(field, message));
        }
        // A file's date holds also where scheduled_at is on another day: sources record when a visit was moved.
        if draft.date.is_none() {
            let at = scheduled_at.ok_or_else(|| self.reason("date", "empty, and so is scheduled_at"))?;
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
        date.map(Some).ok_or_else(|| self.reason("date", message))
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
                        "must be an existing time, such as 2025-05-11T09:30 or 2025-05-11T09:30:00+09:00",
                    )
                })?;
                let at = self.time_zone.from_local_datetime(&local).earliest();
                at.ok_or_else(|| self.reason("scheduled_at", "the hospital's clocks skipped this time"))?
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
        let sex = self.word(record, "sex", &self.mapping.sexes, Sex::parse, all)?;
        let birth_date = self.date(record, "birth_date")?;
        let birth_year = match self.value(record, "birth_year") {
            None => self.birth_year_by_age(record, seen_on, remarks),
            Some(value) => Some(value.parse().map_err(|_| self.reason("birth_year", "must be a year"))?),
        };
        let mut draft = PatientDraft {
            chart_no: Some(self.needed(record, "chart_no")?),
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
            memo: Patch::Keep,
        };
        for FieldError { field, message } in draft.validate(self.today, self.country.as_deref()) {
            if field != "phone" {
                return Err(self.reason(field, message));
            }
            remarks.push(self.reason(field, format!("left empty: {message}")));
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
            remarks.push(self.reason("age", format!("left empty: must be an age within 0 to {MAX_AGE}")));
            return None;
        };
        rules::birth_year(seen_on.year() - age, self.today)
            .map_err(|message| remarks.push(self.reason("age", format!("left empty: the birth year {message}"))))
            .ok()
    }
}

fn join<'a>(ours: impl Iterator<Item = &'a str>, mapped: &'a BTreeMap<String, String>) -> String {
    ours.chain(mapped.keys().map(String::as_str))
        .collect::<Vec<_>>()
        .join(", ")
}
