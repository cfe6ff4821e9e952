//! A local time of day in whole minutes.

use std::fmt;
use std::str::FromStr;

use chrono::{NaiveDate, NaiveDateTime, TimeDelta};

/// A time of day, written HH:MM, from 00:00 to 24:00. 24:00 is the end of the day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimeOfDay(u16);

impl TimeOfDay {
    pub const END_OF_DAY: Self = Self(24 * 60);

    /// The time so many minutes after 00:00; none after 24:00.
    #[must_use]
    pub fn from_minutes(minutes: u16) -> Option<Self> {
        (minutes <= Self::END_OF_DAY.0).then_some(Self(minutes))
    }

    /// Minutes after 00:00.
    #[must_use]
    pub const fn minutes(self) -> u16 {
        self.0
    }

    /// This time on a date; 24:00 is 00:00 of the next.
    #[must_use]
    pub(crate) fn on(self, date: NaiveDate) -> NaiveDateTime {
        let midnight = NaiveDateTime::from(date);
        let minutes = TimeDelta::minutes(self.0.into());
        midnight.checked_add_signed(minutes).unwrap_or(midnight)
    }
}

/// The text is no time of day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidTimeOfDay;

impl fmt::Display for InvalidTimeOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("must be a time of day in the form HH:MM, 00:00 to 24:00")
    }
}

impl std::error::Error for InvalidTimeOfDay {}

impl FromStr for TimeOfDay {
    type Err = InvalidTimeOfDay;

    fn from_str(text: &str) -> Result<Self, InvalidTimeOfDay> {
        let &[h1, h2, b':', m1, m2] = text.as_bytes() else {
            return Err(InvalidTimeOfDay);
        };
        let number = |tens: u8, ones: u8| {
            (tens.is_ascii_digit() && ones.is_ascii_digit())
                .then(|| u16::from(tens - b'0') * 10 + u16::from(ones - b'0'))
        };
        let (Some(hours), Some(minutes @ 0..60)) = (number(h1, h2), number(m1, m2)) else {
            return Err(InvalidTimeOfDay);
        };
        Self::from_minutes(hours * 60 + minutes).ok_or(InvalidTimeOfDay)
    }
}

impl fmt::Display for TimeOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.0 / 60, self.0 % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_minute_is_written_in_one_way() {
        for minutes in 0..=1440 {
            let time = TimeOfDay::from_minutes(minutes).unwrap();
            assert_eq!(time.to_string().parse(), Ok(time));
        }
        assert_eq!(TimeOfDay::from_minutes(1441), None);
        for refused in [
            "", "9:00", "09:0", "09:00:00", "24:01", "25:00", "12:60", " 09:00", "09.00", "+9:00", "09:+1", "０9:0",
            "0900",
        ] {
            assert_eq!(refused.parse::<TimeOfDay>(), Err(InvalidTimeOfDay), "{refused:?}");
        }
    }
}
