//! Patients and visits as they come in: from a file, or from the demo hospital.

use chrono::{DateTime, NaiveDate, Utc};

use crate::statistics::{VisitChannel, VisitStatus};

/// A patient, known by the chart number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PatientRecord {
    pub chart_no: String,
    pub name: Option<String>,
    /// E.164, such as +821012345678.
    pub phone: Option<String>,
    pub birth_date: Option<NaiveDate>,
    /// The year alone, where the date is not known.
    pub birth_year: Option<i32>,
    pub sex: Sex,
    pub registered_on: Option<NaiveDate>,
}

/// A visit of a patient who is known by the chart number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VisitRecord {
    pub visit_no: String,
    pub chart_no: String,
    /// In the hospital's time zone.
    pub date: NaiveDate,
    pub scheduled_at: Option<DateTime<Utc>>,
    pub status: VisitStatus,
    pub department: Option<String>,
    pub doctor: Option<String>,
    pub channel: VisitChannel,
}

crate::statistics::words!(
    /// A patient's sex as recorded.
    Sex {
        Female = "FEMALE",
        Male = "MALE",
        Other = "OTHER",
        Unknown = "UNKNOWN",
    }
);

/// A phone number in E.164; none where it is no whole number. Without a country code it is one of `country`.
#[must_use]
pub fn e164(text: &str, country: Option<&str>) -> Option<String> {
    let country = country.and_then(|code| code.parse().ok());
    let number = phonenumber::parse(country, text).ok()?;
    phonenumber::is_valid(&number).then(|| number.format().mode(phonenumber::Mode::E164).to_string())
}
