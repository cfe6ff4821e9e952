//! Dates and instants.

use std::borrow::Cow;

use async_graphql::registry::Registry;
use async_graphql::{InputType, InputValueError, InputValueResult, Scalar, ScalarType, Value};
use chrono::{NaiveDate, Utc};
use scheduling::{InvalidTimeOfDay, TimeOfDay};

use crate::error::{Error, Result};
use crate::records::rules::{self, Checked};
use crate::statistics::Day;

/// A date, or why the text is none: the error is returned where the name of the argument is known.
#[derive(Clone, Debug)]
pub(super) struct Date(Checked<NaiveDate>);

/// A calendar date of the hospital, YYYY-MM-DD; as an argument from 1900-01-01 to 2200-12-31.
#[Scalar(
    name = "Date",
    specified_by_url = "https://www.rfc-editor.org/rfc/rfc3339#section-5.6"
)]
impl ScalarType for Date {
    fn parse(value: Value) -> InputValueResult<Self> {
        match value {
            Value::String(text) => Ok(Self(rules::parse_date(&text))),
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

impl Date {
    /// The date as a date and not as a number.
    pub(super) fn date(&self, argument: &str) -> Result<NaiveDate> {
        Ok(self.day(argument)?.date())
    }

    /// The day, if it is within the accepted range.
    pub(super) fn day(&self, argument: &str) -> Result<Day> {
        let date = self.0.clone().and_then(rules::date);
        date.map(Day::from).map_err(|message| Error::input(argument, message))
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

/// A time of day, or that the text is none: the error is returned where the name of the argument is known.
#[derive(Clone, Copy, Debug)]
pub(super) struct LocalTime(std::result::Result<TimeOfDay, InvalidTimeOfDay>);

/// A time of day in the hospital's time zone, HH:MM, 00:00 to 24:00.
#[Scalar(name = "LocalTime")]
impl ScalarType for LocalTime {
    fn parse(value: Value) -> InputValueResult<Self> {
        match value {
            Value::String(text) => Ok(Self(text.parse())),
            other => Err(InputValueError::expected_type(other)),
        }
    }

    fn to_value(&self) -> Value {
        match self.0 {
            Ok(time) => Value::String(time.to_string()),
            Err(_) => Value::Null,
        }
    }
}

impl LocalTime {
    /// The time, if the text is one.
    pub(super) fn time(self, argument: &str) -> Result<TimeOfDay> {
        self.0.map_err(|error| Error::input(argument, error.to_string()))
    }
}

impl From<TimeOfDay> for LocalTime {
    fn from(time: TimeOfDay) -> Self {
        Self(Ok(time))
    }
}

/// An instant.
#[derive(Clone, Copy, Debug)]
pub(super) struct DateTime(pub(super) chrono::DateTime<Utc>);

/// An instant, RFC 3339 with offset, such as 2025-05-11T09:30:00Z.
#[Scalar(
    name = "DateTime",
    specified_by_url = "https://www.rfc-editor.org/rfc/rfc3339#section-5.6"
)]
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

/// A `DateTime` as an argument, or a text that is none: the error is returned where the name of the argument is known.
#[derive(Clone, Debug)]
pub(super) struct DateTimeInput(std::result::Result<DateTime, Value>);

impl DateTimeInput {
    /// The instant, if the text is one.
    pub(super) fn instant(&self, argument: &str) -> Result<chrono::DateTime<Utc>> {
        match &self.0 {
            Ok(instant) => Ok(instant.0),
            Err(_) => Err(Error::input(
                argument,
                "must be an RFC 3339 date and time with offset, such as 2025-05-11T09:30:00Z",
            )),
        }
    }
}

impl InputType for DateTimeInput {
    type RawValueType = Self;

    fn type_name() -> Cow<'static, str> {
        <DateTime as InputType>::type_name()
    }

    fn create_type_info(registry: &mut Registry) -> String {
        <DateTime as InputType>::create_type_info(registry)
    }

    fn parse(value: Option<Value>) -> InputValueResult<Self> {
        match value.unwrap_or_default() {
            value @ Value::String(_) => Ok(Self(<DateTime as ScalarType>::parse(value.clone()).map_err(|_| value))),
            other => Err(InputValueError::expected_type(other)),
        }
    }

    fn to_value(&self) -> Value {
        match &self.0 {
            Ok(instant) => ScalarType::to_value(instant),
            Err(text) => text.clone(),
        }
    }

    fn as_raw_value(&self) -> Option<&Self> {
        Some(self)
    }
}
