//! Dates and instants.

use async_graphql::{InputValueError, InputValueResult, Scalar, ScalarType, Value};
use chrono::{NaiveDate, Utc};

use crate::error::{Error, Result};
use crate::statistics::Day;

/// A date, or a text that should be one: what is wrong with it is said where its argument has a name.
#[derive(Clone, Debug)]
pub(super) struct Date(std::result::Result<NaiveDate, String>);

/// A calendar date of the hospital, YYYY-MM-DD; as an argument from 1900-01-01 to 2200-12-31.
#[Scalar(name = "Date")]
impl ScalarType for Date {
    fn parse(value: Value) -> InputValueResult<Self> {
        match value {
            Value::String(text) => Ok(Self(iso(&text).ok_or(text))),
            other => Err(InputValueError::expected_type(other)),
        }
    }

    fn to_value(&self) -> Value {
        match &self.0 {
            Ok(date) => Value::String(date.to_string()),
            Err(_) => Value::Null,
        }
    }
}

/// Takes YYYY-MM-DD and nothing else.
fn iso(text: &str) -> Option<NaiveDate> {
    let date = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
    (date.to_string() == text).then_some(date)
}

impl Date {
    /// The day, where it is one that Rollcall takes.
    pub(super) fn day(&self, argument: &str) -> Result<Day> {
        match &self.0 {
            Ok(date) if Day::accepts(*date) => Ok(Day::from(*date)),
            Ok(date) => Err(Error::input(
                argument,
                format!("{date} lies outside 1900-01-01 to 2200-12-31"),
            )),
            Err(_) => Err(Error::input(
                argument,
                "a date that exists, written YYYY-MM-DD, is wanted",
            )),
        }
    }
}

impl From<NaiveDate> for Date {
    fn from(date: NaiveDate) -> Self {
        Self(Ok(date))
    }
}

impl From<Day> for Date {
    fn from(day: Day) -> Self {
        Self(Ok(day.date()))
    }
}

/// An instant.
#[derive(Clone, Copy, Debug)]
pub(super) struct DateTime(pub(super) chrono::DateTime<Utc>);

/// An instant, RFC 3339 with offset, such as 2025-05-11T09:30:00Z.
#[Scalar(name = "DateTime")]
impl ScalarType for DateTime {
    fn parse(value: Value) -> InputValueResult<Self> {
        match &value {
            Value::String(text) => Ok(Self(text.parse()?)),
            _ => Err(InputValueError::expected_type(value)),
        }
    }

    fn to_value(&self) -> Value {
        Value::String(self.0.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true))
    }
}
