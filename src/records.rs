//! Patients and visits as they come in: from a file, from the demo hospital, or one by one.

use chrono::{DateTime, NaiveDate, TimeZone as _, Utc};
use chrono_tz::{GapInfo, Tz};

use crate::statistics::{VisitChannel, VisitStatus};
use crate::text;

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
    /// OTHER for a new visit where unknown.
    pub channel: Option<VisitChannel>,
}

/// A value that is set or cleared, or stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Patch<T> {
    #[default]
    Keep,
    Clear,
    Put(T),
}

impl<T: Clone> Patch<T> {
    /// The value to be; none where it stays.
    #[must_use]
    pub const fn given(&self) -> Option<Option<&T>> {
        match self {
            Self::Keep => None,
            Self::Clear => Some(None),
            Self::Put(value) => Some(Some(value)),
        }
    }

    pub fn apply(&self, value: &mut Option<T>) {
        if let Some(given) = self.given() {
            *value = given.cloned();
        }
    }
}

/// What is to be of a patient. A new one begins with everything unknown, but that it is registered today.
#[derive(Clone, Debug, Default)]
pub struct PatientChange {
    pub chart_no: Option<String>,
    pub name: Patch<String>,
    /// E.164, such as +821012345678.
    pub phone: Patch<String>,
    /// The birth year follows it.
    pub birth_date: Patch<NaiveDate>,
    pub birth_year: Patch<i32>,
    pub sex: Option<Sex>,
    pub registered_on: Patch<NaiveDate>,
    pub memo: Patch<String>,
}

/// What is to be of a visit. A new one is BOOKED and came about in an OTHER way, and needs a patient and a date. A date alone takes
/// the time of day along, and a time alone its date.
#[derive(Clone, Debug, Default)]
pub struct VisitChange {
    pub visit_no: Patch<String>,
    pub patient: Option<i64>,
    /// In the hospital's time zone.
    pub date: Option<NaiveDate>,
    /// On the date, where both are given.
    pub scheduled_at: Patch<DateTime<Utc>>,
    pub status: Option<VisitStatus>,
    pub department: Patch<i64>,
    pub doctor: Patch<i64>,
    pub channel: Option<VisitChannel>,
}

string_enum::string_enum!(
    /// A patient's sex as recorded.
    Sex {
        Female = "FEMALE",
        Male = "MALE",
        Other = "OTHER",
        Unknown = "UNKNOWN",
    }
);

/// The same local time on another day. Of two such times the earlier one; where the clocks skip it, the first instant after. None
/// where that is on a later day: the zone has no such day.
#[must_use]
pub fn moved_to(at: DateTime<Utc>, date: NaiveDate, zone: Tz) -> Option<DateTime<Utc>> {
    let local = date.and_time(at.with_timezone(&zone).time());
    let after_gap = || GapInfo::new(&local, &zone).and_then(|gap| gap.end);
    let moved = zone.from_local_datetime(&local).earliest().or_else(after_gap)?;
    (moved.date_naive() == date).then(|| moved.to_utc())
}

/// A phone number in E.164; none where it is no whole number. Without a country code it is one of `country`.
#[must_use]
pub fn e164(text: &str, country: Option<&str>) -> Option<String> {
    let country = country.and_then(|code| code.parse().ok());
    let number = phonenumber::parse(country, text::nfkc(text)).ok()?;
    phonenumber::is_valid(&number).then(|| number.format().mode(phonenumber::Mode::E164).to_string())
}

/// A country as ISO 3166-1 alpha-2, where phone numbers are known of it.
#[must_use]
pub fn country(code: &str) -> Option<String> {
    let code = code.to_ascii_uppercase();
    code.parse::<phonenumber::country::Id>().ok().map(|_| code)
}

/// The country that a time zone lies in: its BCP 47 name begins with it.
#[must_use]
pub fn country_of_time_zone(name: &str) -> Option<String> {
    let zone = icu_time::zone::IanaParser::new().parse(name);
    country(zone.as_str().get(..2)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_zone_has_a_country() {
        for (zone, wanted) in [
            ("Asia/Seoul", "KR"),
            ("Europe/Berlin", "DE"),
            ("America/Sao_Paulo", "BR"),
        ] {
            assert_eq!(country_of_time_zone(zone).as_deref(), Some(wanted));
        }
        assert_eq!(country_of_time_zone("Nowhere/City"), None);
        assert_eq!(country_of_time_zone("UTC"), None);
    }

    #[test]
    fn a_visit_moves_with_its_local_time() {
        let moved = |at: &str, date: &str, zone: Tz| {
            moved_to(at.parse().unwrap(), date.parse().unwrap(), zone).map(|at| at.with_timezone(&zone).to_rfc3339())
        };
        let (seoul, berlin, apia) = (
            chrono_tz::Asia::Seoul,
            chrono_tz::Europe::Berlin,
            chrono_tz::Pacific::Apia,
        );
        for (at, date, zone, wanted) in [
            (
                "2025-05-11T00:30:00+09:00",
                "2025-05-13",
                seoul,
                "2025-05-13T00:30:00+09:00",
            ),
            // Into summer time, and onto the day that begins it: 02:30 does not exist there.
            (
                "2025-03-20T09:15:00+01:00",
                "2025-04-01",
                berlin,
                "2025-04-01T09:15:00+02:00",
            ),
            (
                "2025-03-20T02:30:00+01:00",
                "2025-03-30",
                berlin,
                "2025-03-30T03:00:00+02:00",
            ),
            // 02:30 exists twice on the day that ends it.
            (
                "2025-10-20T02:30:00+02:00",
                "2025-10-26",
                berlin,
                "2025-10-26T02:30:00+02:00",
            ),
        ] {
            assert_eq!(moved(at, date, zone).as_deref(), Some(wanted), "{at} to {date}");
        }
        assert_eq!(
            moved("2011-12-28T09:00:00-10:00", "2011-12-30", apia),
            None,
            "Samoa had no such day"
        );
    }

    #[test]
    fn phones_become_e164() {
        assert_eq!(e164("010-1234-5678", Some("KR")).as_deref(), Some("+821012345678"));
        assert_eq!(e164("+82 10 1234 5678", None).as_deref(), Some("+821012345678"));
        assert_eq!(
            e164("０１０－１２３４－５６７８", Some("KR")).as_deref(),
            Some("+821012345678")
        );
        assert_eq!(e164("＋８２ (10) 1234‐5678", None).as_deref(), Some("+821012345678"));
        assert_eq!(e164("010-1234-5678", None), None);
        assert_eq!(e164("12", Some("KR")), None);
        assert_eq!(e164("Kim", Some("KR")), None);
    }
}
