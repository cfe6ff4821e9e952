//! The scheduled time of a visit.
//!
//! PostgreSQL and MariaDB have a type for it. SQLite stores text, which may also be written by hand: this is the only parser of
//! that text. Text that it cannot read counts as null. A trigger refuses such text by the same rules
//! (`migration::triggers::scheduled_at`); text from before the trigger may still be there.

use chrono::{DateTime, FixedOffset, NaiveDate, NaiveTime, TimeDelta, Utc};
use sea_orm::sea_query::{ArrayType, ColumnType, Nullable, ValueType, ValueTypeErr};
use sea_orm::sqlx::{Error as SqlxError, Row as _};
use sea_orm::{ColIdx, DbErr, IntoActiveValue, QueryResult, RuntimeErr, TryGetError, TryGetable, Value};

/// A visit's `scheduled_at`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ScheduledAt(pub DateTime<Utc>);

impl ScheduledAt {
    /// Parses text such as `2025-05-11T09:30:00.123456+09:00`. Seconds and their fraction of up to nine
    /// digits are optional. A space may replace the T, and Z the offset; without an offset it is UTC.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let (day, rest) = text.split_at_checked(10)?;
        let day = NaiveDate::parse_from_str(day, "%Y-%m-%d")
            .ok()
            .filter(|date| date.to_string() == day)?;
        let rest = rest.strip_prefix(['T', 't', ' '])?;
        let (time, offset) = split_offset(rest)?;
        let local = day.and_time(read_time(time)?);
        let at = local.checked_sub_signed(TimeDelta::seconds(offset.local_minus_utc().into()))?;
        Some(Self(at.and_utc()))
    }

    /// Microseconds since 1970-01-01T00:00:00Z.
    #[must_use]
    pub const fn micros(self) -> i64 {
        self.0.timestamp_micros()
    }
}

/// Splits off the offset at the end.
fn split_offset(text: &str) -> Option<(&str, FixedOffset)> {
    let utc = FixedOffset::east_opt(0)?;
    if let Some(time) = text.strip_suffix(['Z', 'z']) {
        return Some((time, utc));
    }
    let Some((time, offset)) = text.len().checked_sub(6).and_then(|at| text.split_at_checked(at)) else {
        return Some((text, utc));
    };
    let east = match offset.as_bytes().first() {
        Some(b'+') => 1,
        Some(b'-') => -1,
        _ => return Some((text, utc)),
    };
    let (hours, minutes) = offset[1..].split_once(':')?;
    let seconds = (two_digits(hours, 23)? * 60 + two_digits(minutes, 59)?) * 60;
    Some((time, FixedOffset::east_opt(east * seconds.cast_signed())?))
}

/// `09:30`, `09:30:00` or `09:30:00.123456789`.
fn read_time(text: &str) -> Option<NaiveTime> {
    let mut parts = text.splitn(3, ':');
    let hours = two_digits(parts.next()?, 23)?;
    let minutes = two_digits(parts.next()?, 59)?;
    let (seconds, nanos) = match parts.next() {
        None => (0, 0),
        Some(seconds) => match seconds.split_once('.') {
            None => (two_digits(seconds, 59)?, 0),
            Some((seconds, fraction)) => {
                let known = (1..=9).contains(&fraction.len()) && fraction.bytes().all(|byte| byte.is_ascii_digit());
                let nanos = known.then(|| format!("{fraction:0<9}").parse().ok()).flatten()?;
                (two_digits(seconds, 59)?, nanos)
            }
        },
    };
    NaiveTime::from_hms_nano_opt(hours, minutes, seconds, nanos)
}

fn two_digits(text: &str, most: u32) -> Option<u32> {
    let digits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = digits.then(|| text.parse().ok()).flatten();
    number.filter(|&number| number <= most)
}

impl From<DateTime<Utc>> for ScheduledAt {
    fn from(at: DateTime<Utc>) -> Self {
        Self(at)
    }
}

impl From<ScheduledAt> for Value {
    fn from(at: ScheduledAt) -> Self {
        at.0.into()
    }
}

impl TryGetable for ScheduledAt {
    fn try_get_by<I: ColIdx>(result: &QueryResult, index: I) -> Result<Self, TryGetError> {
        let Some(row) = result.try_as_sqlite_row() else {
            return DateTime::<Utc>::try_get_by(result, index).map(Self);
        };
        let text = match row.try_get::<Option<&str>, _>(index.as_sqlx_sqlite_index()) {
            Ok(text) => text,
            // A value of another type, or invalid UTF-8.
            Err(SqlxError::ColumnDecode { .. }) => None,
            Err(error) => return Err(DbErr::Query(RuntimeErr::SqlxError(error.into())).into()),
        };
        text.and_then(Self::read)
            .ok_or_else(|| TryGetError::Null(format!("{index:?}")))
    }
}

impl ValueType for ScheduledAt {
    fn try_from(value: Value) -> Result<Self, ValueTypeErr> {
        <DateTime<Utc> as ValueType>::try_from(value).map(Self)
    }

    fn type_name() -> String {
        "ScheduledAt".to_owned()
    }

    fn array_type() -> ArrayType {
        <DateTime<Utc> as ValueType>::array_type()
    }

    fn column_type() -> ColumnType {
        <DateTime<Utc> as ValueType>::column_type()
    }
}

impl Nullable for ScheduledAt {
    fn null() -> Value {
        <DateTime<Utc> as Nullable>::null()
    }
}

impl IntoActiveValue<Self> for ScheduledAt {
    fn into_active_value(self) -> sea_orm::ActiveValue<Self> {
        sea_orm::ActiveValue::Set(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_accepted_forms_are_parsed() {
        let noon = ScheduledAt::read("2025-05-01T12:00:00+00:00");
        assert_eq!(
            noon.map(|at| at.0.to_rfc3339()).as_deref(),
            Some("2025-05-01T12:00:00+00:00")
        );
        for text in [
            "2025-05-01T21:00:00+09:00",
            "2025-05-01T07:30-04:30",
            "2025-05-01 12:00:00",
            "2025-05-01T12:00",
            "2025-05-01 12:00:00.000",
            "2025-05-01T12:00:00.000000000z",
            "2025-05-01T12:00:00Z",
            "2025-05-02T11:59:00+23:59",
        ] {
            assert_eq!(ScheduledAt::read(text), noon, "{text}");
        }
        let precise = ScheduledAt::read("2025-05-01T12:00:00.12Z");
        assert_eq!(precise.map(ScheduledAt::micros), noon.map(|at| at.micros() + 120_000));
        for text in [
            "",
            "noon",
            "2025-05-01",
            "2025-02-30T12:00",
            "2025-5-01T12:00",
            "2025-05-01T24:00",
            "2025-05-01T12:60",
            "2025-05-01T12:00:60",
            "2025-05-01T12",
            "2025-05-01T12:00:00.",
            "2025-05-01T12:00:00.0000000000",
            "2025-05-01T12:00+24:00",
            "2025-05-01T12:00 +09:00",
            "2025-05-01T12:00+0900",
            "2025-05-01_12:00",
            "1746100800",
            "2025-05-01T12:00:00+09:00;1",
            "오늘 정오에 오세요",
            "2025-05-01T1é:00",
        ] {
            assert_eq!(ScheduledAt::read(text), None, "{text}");
        }
    }
}
