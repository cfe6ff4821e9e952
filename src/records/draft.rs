//! Drafts: what is to be written of a patient or a visit. What a draft leaves out stays as it is, or unknown in a new record.

use chrono::{DateTime, Datelike as _, NaiveDate, Utc};
use chrono_tz::Tz;

use super::rules::{self, Checked};
use super::{Patch, Sex, moved_to};
use crate::error::Error;
use crate::statistics::{VisitChannel, VisitStatus};

/// A value that is refused: its field, and why. The message never quotes the value: it may be a patient's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// The field as files name it, such as `birth_date`.
    pub field: &'static str,
    pub message: String,
}

impl FieldError {
    pub fn new(field: &'static str, message: impl Into<String>) -> Self {
        Self {
            field,
            message: message.into(),
        }
    }

    /// The argument of a mutation that has the field, such as `input.birthDate`.
    #[must_use]
    pub fn argument(&self) -> String {
        format!("input.{}", self.api_name())
    }

    /// The field as the API names it, such as `birthDate`.
    #[must_use]
    pub fn api_name(&self) -> String {
        let mut name = String::new();
        for (place, word) in self.field.split('_').enumerate() {
            let (first, rest) = word.split_at(usize::from(place > 0 && !word.is_empty()));
            name.push_str(&first.to_ascii_uppercase());
            name.push_str(rest);
        }
        name
    }
}

impl From<FieldError> for Error {
    fn from(error: FieldError) -> Self {
        Self::input(error.argument(), error.message)
    }
}

/// What is to be written of a patient.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PatientDraft {
    pub chart_no: Option<String>,
    pub name: Patch<String>,
    /// E.164 once validated, such as +821012345678.
    pub phone: Patch<String>,
    /// The birth year follows it.
    pub birth_date: Patch<NaiveDate>,
    /// Where the date is not known.
    pub birth_year: Patch<i32>,
    pub sex: Option<Sex>,
    pub registered_on: Patch<NaiveDate>,
    pub memo: Patch<String>,
    pub do_not_contact: Option<bool>,
}

impl PatientDraft {
    /// Brings the values into the form in which they are stored. A value that is refused is left out of the draft.
    ///
    /// `today` is the date in the hospital's time zone; phone numbers without a country code are of `country`.
    #[must_use]
    pub fn validate(&mut self, today: NaiveDate, country: Option<&str>) -> Vec<FieldError> {
        let mut errors = Vec::new();
        check_option(&mut errors, "chart_no", &mut self.chart_no, |text| rules::line(text));
        check(&mut errors, "name", &mut self.name, |text| rules::line(text));
        check(&mut errors, "phone", &mut self.phone, |text| {
            rules::phone(text, country)
        });
        check(&mut errors, "birth_date", &mut self.birth_date, |date| {
            rules::birth_date(*date, today)
        });
        check(&mut errors, "birth_year", &mut self.birth_year, |year| {
            rules::birth_year(*year, today)
        });
        check(&mut errors, "registered_on", &mut self.registered_on, |date| {
            rules::date(*date)
        });
        check(&mut errors, "memo", &mut self.memo, |text| rules::lines(text));
        errors
    }

    /// Refuses a birth year that contradicts the birth date that the patient will have.
    ///
    /// # Errors
    /// Names the birth year.
    pub fn check_birth_year(&self, birth_date: Option<NaiveDate>) -> Result<(), FieldError> {
        match (self.birth_year.given(), birth_date) {
            (Some(year), Some(date)) if year != Some(&date.year()) => {
                Err(FieldError::new("birth_year", format!("the birth date is {date}")))
            }
            _ => Ok(()),
        }
    }
}

/// What is to be written of a visit. `R` is what patient, department and doctor are referred to by: ids in the database, or a chart
/// number and names in a file. A new visit needs a patient, and a date or a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VisitDraft<R> {
    pub visit_no: Patch<String>,
    pub patient: Option<R>,
    /// In the hospital's time zone.
    pub date: Option<NaiveDate>,
    pub scheduled_at: Patch<DateTime<Utc>>,
    pub status: Option<VisitStatus>,
    pub department: Patch<R>,
    pub doctor: Patch<R>,
    pub channel: Option<VisitChannel>,
    pub duration_minutes: Patch<i32>,
    pub note: Patch<String>,
}

impl<R> Default for VisitDraft<R> {
    fn default() -> Self {
        Self {
            visit_no: Patch::Keep,
            patient: None,
            date: None,
            scheduled_at: Patch::Keep,
            status: None,
            department: Patch::Keep,
            doctor: Patch::Keep,
            channel: None,
            duration_minutes: Patch::Keep,
            note: Patch::Keep,
        }
    }
}

impl<R> VisitDraft<R> {
    fn validate_values(&mut self, time_zone: Tz) -> Vec<FieldError> {
        let mut errors = Vec::new();
        check(&mut errors, "visit_no", &mut self.visit_no, |text| rules::line(text));
        check_option(&mut errors, "date", &mut self.date, |date| rules::date(*date));
        check(&mut errors, "scheduled_at", &mut self.scheduled_at, |at| {
            rules::date_in_zone(*at, time_zone).map(|_| *at)
        });
        check(&mut errors, "duration_minutes", &mut self.duration_minutes, |minutes| {
            rules::duration_minutes(*minutes)
        });
        check(&mut errors, "note", &mut self.note, |text| rules::lines(text));
        errors
    }
}

impl VisitDraft<i64> {
    /// Brings the values into the form in which they are stored. A value that is refused is left out of the draft.
    #[must_use]
    pub fn validate(&mut self, time_zone: Tz) -> Vec<FieldError> {
        self.validate_values(time_zone)
    }

    /// The date and the time that the visit will have; `before` are those that it has, of a visit that is there already. A time alone
    /// brings its date; a date alone keeps the local time of day.
    ///
    /// # Errors
    /// Where neither is known, the two are of different days, or the time of day does not exist on the new date.
    pub fn schedule(
        &self,
        before: Option<(NaiveDate, Option<DateTime<Utc>>)>,
        time_zone: Tz,
    ) -> Result<(NaiveDate, Option<DateTime<Utc>>), FieldError> {
        if let Patch::Put(at) = self.scheduled_at {
            let refused = |message| FieldError::new("scheduled_at", message);
            let date = rules::date_in_zone(at, time_zone).map_err(refused)?;
            if let Some(given) = self.date.filter(|given| *given != date) {
                return Err(refused(format!(
                    "input.scheduledAt is on {date} in {time_zone}, but input.date is {given}: leave one of the two out, or give the same day"
                )));
            }
            return Ok((date, Some(at)));
        }
        let needed = || FieldError::new("date", "either date or scheduledAt is needed");
        let date = self.date.or(before.map(|(date, _)| date)).ok_or_else(needed)?;
        let kept = before
            .and_then(|(_, at)| at)
            .filter(|_| self.scheduled_at == Patch::Keep);
        match kept {
            Some(at) if before.is_none_or(|(before, _)| before != date) => {
                let moved = moved_to(at, date, time_zone).ok_or_else(|| {
                    let message = format!("the clocks of {time_zone} skipped this day: give scheduledAt as well");
                    FieldError::new("date", message)
                })?;
                Ok((date, Some(moved)))
            }
            _ => Ok((date, kept)),
        }
    }
}

impl VisitDraft<String> {
    /// Brings the values into the form in which they are stored. A value that is refused is left out of the draft.
    #[must_use]
    pub fn validate(&mut self, time_zone: Tz) -> Vec<FieldError> {
        let mut errors = Vec::new();
        check_option(&mut errors, "chart_no", &mut self.patient, |text| rules::line(text));
        check(&mut errors, "department", &mut self.department, |text| {
            rules::line(text)
        });
        check(&mut errors, "doctor", &mut self.doctor, |text| rules::line(text));
        errors.extend(self.validate_values(time_zone));
        errors
    }

    /// The draft with the ids that the names stand for.
    #[must_use]
    pub fn with_ids(&self, patient: Option<i64>, department: Option<i64>, doctor: Option<i64>) -> VisitDraft<i64> {
        VisitDraft {
            visit_no: self.visit_no.clone(),
            patient,
            date: self.date,
            scheduled_at: self.scheduled_at.clone(),
            status: self.status,
            department: department.into(),
            doctor: doctor.into(),
            channel: self.channel,
            duration_minutes: self.duration_minutes.clone(),
            note: self.note.clone(),
        }
    }
}

/// Replaces a value by the form in which it is stored; one that is refused is left out.
fn check<T>(
    errors: &mut Vec<FieldError>,
    field: &'static str,
    value: &mut Patch<T>,
    rule: impl FnOnce(&T) -> Checked<T>,
) {
    if let Patch::Put(given) = value {
        *value = match rule(given) {
            Ok(checked) => Patch::Put(checked),
            Err(message) => {
                errors.push(FieldError::new(field, message));
                Patch::Keep
            }
        };
    }
}

fn check_option<T>(
    errors: &mut Vec<FieldError>,
    field: &'static str,
    value: &mut Option<T>,
    rule: impl FnOnce(&T) -> Checked<T>,
) {
    if let Some(given) = value {
        *value = rule(given)
            .map_err(|message| errors.push(FieldError::new(field, message)))
            .ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn date(text: &str) -> NaiveDate {
        text.parse().unwrap()
    }

    fn fields(errors: &[FieldError]) -> Vec<&'static str> {
        errors.iter().map(|error| error.field).collect()
    }

    #[test]
    fn a_field_has_an_argument() {
        let argument = |field| FieldError::new(field, "").argument();
        assert_eq!(argument("name"), "input.name");
        assert_eq!(argument("birth_date"), "input.birthDate");
        assert_eq!(argument("scheduled_at"), "input.scheduledAt");
    }

    #[test]
    fn every_refused_value_of_a_patient_is_named_and_left_out() {
        let today = date("2025-05-11");
        let mut draft = PatientDraft {
            chart_no: Some(" 7 ".to_owned()),
            name: Patch::Put(" ".to_owned()),
            phone: Patch::Put("010-1234-5678".to_owned()),
            birth_date: Patch::Put(date("2025-05-12")),
            birth_year: Patch::Put(1899),
            registered_on: Patch::Put(date("2200-12-31")),
            ..PatientDraft::default()
        };
        assert_eq!(
            fields(&draft.validate(today, Some("KR"))),
            ["name", "birth_date", "birth_year"]
        );
        let stored = PatientDraft {
            chart_no: Some("7".to_owned()),
            phone: Patch::Put("+821012345678".to_owned()),
            registered_on: Patch::Put(date("2200-12-31")),
            ..PatientDraft::default()
        };
        assert_eq!(draft, stored);
        assert_eq!(fields(&draft.clone().validate(today, None)), Vec::<&str>::new());
    }

    #[test]
    fn a_birth_year_follows_the_birth_date() {
        let draft = PatientDraft {
            birth_year: Patch::Put(1980),
            ..PatientDraft::default()
        };
        assert!(draft.check_birth_year(None).is_ok());
        assert!(draft.check_birth_year(Some(date("1980-01-31"))).is_ok());
        assert!(draft.check_birth_year(Some(date("1981-01-31"))).is_err());
    }

    #[test]
    fn date_and_time_of_a_visit_agree() {
        let seoul = chrono_tz::Asia::Seoul;
        let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        let draft = |date: Option<&str>, scheduled_at: Patch<DateTime<Utc>>| VisitDraft::<i64> {
            date: date.map(|date| date.parse().unwrap()),
            scheduled_at,
            ..VisitDraft::default()
        };
        let late = at("2025-05-11T23:30:00Z");
        let schedule = |draft: VisitDraft<i64>, before| draft.schedule(before, seoul).map_err(|error| error.field);
        let (day, next) = (date("2025-05-11"), date("2025-05-12"));
        assert_eq!(schedule(draft(None, Patch::Put(late)), None), Ok((next, Some(late))));
        assert_eq!(
            schedule(draft(Some("2025-05-11"), Patch::Put(late)), None),
            Err("scheduled_at")
        );
        assert_eq!(schedule(draft(None, Patch::Keep), None), Err("date"));
        assert_eq!(schedule(draft(Some("2025-05-11"), Patch::Keep), None), Ok((day, None)));
        let before = Some((next, Some(late)));
        assert_eq!(schedule(draft(None, Patch::Keep), before), Ok((next, Some(late))));
        assert_eq!(schedule(draft(None, Patch::Clear), before), Ok((next, None)));
        assert_eq!(
            schedule(draft(Some("2025-05-11"), Patch::Keep), before),
            Ok((day, Some(at("2025-05-10T23:30:00Z"))))
        );
    }
}
