//! Patients and visits as they are written, by a mutation or an import, and the rules that their values obey.

mod draft;
pub mod rules;

use chrono::{DateTime, NaiveDate, TimeZone as _, Utc};
use chrono_tz::{GapInfo, Tz};

use crate::text;

pub use draft::{FieldError, PatientDraft, VisitDraft};

/// A change of a value that may be unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Patch<T> {
    /// The value stays as it is.
    #[default]
    Keep,
    /// The value becomes unknown.
    Clear,
    Put(T),
}

/// A value that is absent stays as it is.
impl<T> From<Option<T>> for Patch<T> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Keep, Self::Put)
    }
}

impl<T> Patch<T> {
    /// The value that is put; none where it stays as it is or becomes unknown.
    #[must_use]
    pub fn put(self) -> Option<T> {
        match self {
            Self::Put(value) => Some(value),
            Self::Keep | Self::Clear => None,
        }
    }
}

impl<T: Clone> Patch<T> {
    /// The new value; none where it stays as it is.
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
