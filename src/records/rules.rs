//! The rules of single values. A message never quotes the value: it may be a patient's.

use std::ops::RangeInclusive;

use chrono::{DateTime, Datelike as _, NaiveDate, Utc};
use chrono_tz::Tz;

use super::e164;
use crate::statistics::Day;
use crate::text::{self, MAX_NAME_LENGTH, MAX_TEXT_LENGTH};

/// The value as it is stored, or why it is refused.
pub type Checked<T> = std::result::Result<T, String>;

/// The first birth year that is accepted.
const FIRST_BIRTH_YEAR: i32 = 1900;

/// The longest that a visit takes, in minutes: a day.
pub const MAX_DURATION_MINUTES: i32 = 1_440;

/// How long a slot may be, in minutes.
pub const SLOT_MINUTES: RangeInclusive<i32> = 5..=480;

/// How long a TENTATIVE booking may be held, in minutes: up to 30 days.
pub const TENTATIVE_MINUTES: RangeInclusive<i32> = 1..=43_200;

/// A name or a number: one line, trimmed and in NFC.
///
/// # Errors
/// Where it is empty, too long, or has control characters.
pub fn line(value: &str) -> Checked<String> {
    let value = text::nfc(value.trim());
    if value.is_empty() || value.chars().count() > MAX_NAME_LENGTH || value.chars().any(char::is_control) {
        return Err(format!(
            "must be 1–{} characters without control characters",
            MAX_NAME_LENGTH
        ));
    }
    Ok(value.into_owned())
}

/// A memo or a reason: lines of text, trimmed and in NFC.
///
/// # Errors
/// Where it is empty, too long, or has control characters other than line breaks and tabs.
pub fn lines(value: &str) -> Checked<String> {
    let value = text::nfc(value.trim());
    let is_refused = |c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t');
    if value.is_empty() || value.chars().count() > MAX_TEXT_LENGTH || value.chars().any(is_refused) {
        return Err(format!(
            "must be 1–{} characters without control characters other than line breaks and tabs",
            MAX_TEXT_LENGTH
        ));
    }
    Ok(value.into_owned())
}

/// A phone number in E.164. Without a country code it is one of `country`, ISO 3166-1 alpha-2.
///
/// # Errors
/// Where it is no complete phone number.
pub fn phone(value: &str, country: Option<&str>) -> Checked<String> {
    let message = "must be a complete phone number, with a country code or of the hospital's country";
    e164(value, country).ok_or_else(|| message.to_owned())
}

/// How long a visit takes, in minutes.
///
/// # Errors
/// Where it is less than 1 or more than [`MAX_DURATION_MINUTES`].
pub fn duration_minutes(value: i32) -> Checked<i32> {
    minutes(value, 1..=MAX_DURATION_MINUTES)
}

/// A number of minutes within bounds.
///
/// # Errors
/// Where it is not.
pub fn minutes(value: i32, bounds: RangeInclusive<i32>) -> Checked<i32> {
    if bounds.contains(&value) {
        return Ok(value);
    }
    Err(format!("must be {}–{} minutes", bounds.start(), bounds.end()))
}

/// A date written YYYY-MM-DD.
///
/// # Errors
/// Where it is written otherwise or does not exist.
pub fn parse_date(value: &str) -> Checked<NaiveDate> {
    let date = NaiveDate::parse_from_str(value, "%Y-%m-%d").ok();
    date.filter(|date| date.to_string() == value)
        .ok_or_else(|| "must be an existing date in the form YYYY-MM-DD".to_owned())
}

/// A date that Rollcall can store: the columns of the ledger hold no others.
///
/// # Errors
/// Where it is outside [`Day::MIN`] to [`Day::MAX`].
pub fn date(value: NaiveDate) -> Checked<NaiveDate> {
    if Day::accepts(value) {
        return Ok(value);
    }
    Err(format!("must be within {} to {}", Day::MIN, Day::MAX))
}

/// A birth date.
///
/// # Errors
/// Where it is after today, or too early.
pub fn birth_date(value: NaiveDate, today: NaiveDate) -> Checked<NaiveDate> {
    if value > today {
        return Err("must not be after today".to_owned());
    }
    date(value)
}

/// A birth year.
///
/// # Errors
/// Where it is after this year, or too early.
pub fn birth_year(value: i32, today: NaiveDate) -> Checked<i32> {
    if (FIRST_BIRTH_YEAR..=today.year()).contains(&value) {
        return Ok(value);
    }
    Err(format!("must be a year within {FIRST_BIRTH_YEAR} to {}", today.year()))
}

/// The date of an instant in the hospital's time zone.
///
/// # Errors
/// Where it is a date that cannot be stored.
pub fn date_in_zone(value: DateTime<Utc>, time_zone: Tz) -> Checked<NaiveDate> {
    date(value.with_timezone(&time_zone).date_naive())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(text: &str) -> NaiveDate {
        parse_date(text).unwrap()
    }

    #[test]
    fn lines_are_trimmed_composed_and_bounded() {
        assert_eq!(line(" Zoe\u{308} ").unwrap(), "Zoë");
        assert_eq!(line(&"ß".repeat(255)).unwrap().chars().count(), 255);
        for refused in ["", " ", "a\nb", "a\u{7}b", &"n".repeat(256)] {
            assert!(line(refused).is_err(), "{refused:?}");
        }
        assert_eq!(lines(" two\nlines\t").unwrap(), "two\nlines");
        for refused in ["", "a\u{7}b", &"n".repeat(2_001)] {
            assert!(lines(refused).is_err(), "{refused:?}");
        }
    }

    #[test]
    fn dates_are_written_in_one_form_and_bounded() {
        assert_eq!(parse_date("2024-02-29").unwrap().to_string(), "2024-02-29");
        for refused in ["2025-02-29", "2025-2-1", "20250201", "", " 2025-02-01"] {
            assert!(parse_date(refused).is_err(), "{refused:?}");
        }
        assert!(date(day("1900-01-01")).is_ok() && date(day("2200-12-31")).is_ok());
        assert!(date(day("1899-12-31")).is_err() && date(day("2201-01-01")).is_err());
    }

    #[test]
    fn nobody_is_born_after_today() {
        let today = day("2025-05-11");
        assert!(birth_date(today, today).is_ok() && birth_date(day("2025-05-12"), today).is_err());
        assert!(birth_year(2025, today).is_ok() && birth_year(2026, today).is_err());
        assert!(birth_year(1900, today).is_ok() && birth_year(1899, today).is_err());
    }

    #[test]
    fn an_instant_has_the_date_of_its_time_zone() {
        let late = "2025-05-11T23:30:00Z".parse().unwrap();
        assert_eq!(date_in_zone(late, chrono_tz::Asia::Seoul), Ok(day("2025-05-12")));
        assert_eq!(date_in_zone(late, chrono_tz::UTC), Ok(day("2025-05-11")));
        assert!(date_in_zone("2200-12-31T23:30:00Z".parse().unwrap(), chrono_tz::Asia::Seoul).is_err());
    }
}
