//! Days, and the calendar units into which a range of days is divided.

use std::fmt;
use string_enum::string_enum;

use chrono::{Datelike, Days, NaiveDate};

/// A calendar day in the Gregorian calendar, as days since 0000-12-31, so that differences are in days.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(pub i32);

impl Day {
    /// The earliest supported date.
    pub const MIN: NaiveDate = ymd(1900, 1, 1);
    /// The latest supported date.
    pub const MAX: NaiveDate = ymd(2200, 12, 31);

    /// The day as a calendar date.
    #[must_use]
    pub fn date(self) -> NaiveDate {
        NaiveDate::from_num_days_from_ce_opt(self.0).unwrap_or(NaiveDate::MIN)
    }

    /// Whether the date lies within [`Day::MIN`] and [`Day::MAX`].
    #[must_use]
    pub fn accepts(date: NaiveDate) -> bool {
        (Self::MIN..=Self::MAX).contains(&date)
    }
}

/// The date, which must exist; `NaiveDate::MIN` otherwise, so that this cannot panic.
const fn ymd(year: i32, month: u32, day: u32) -> NaiveDate {
    match NaiveDate::from_ymd_opt(year, month, day) {
        Some(date) => date,
        None => NaiveDate::MIN,
    }
}

impl From<NaiveDate> for Day {
    fn from(date: NaiveDate) -> Self {
        Self(date.num_days_from_ce())
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.date().fmt(f)
    }
}

/// The days from `from` to `to`, both inclusive; never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DayRange {
    pub from: Day,
    pub to: Day,
}

impl DayRange {
    /// The range, or `None` if `from` is after `to`.
    #[must_use]
    pub fn new(from: Day, to: Day) -> Option<Self> {
        (from <= to).then_some(Self { from, to })
    }

    /// Whether the day is in the range.
    #[must_use]
    pub fn contains(self, day: Day) -> bool {
        self.from <= day && day <= self.to
    }

    /// The days that are in both ranges, or `None` if there are none.
    #[must_use]
    pub fn intersection(self, other: Self) -> Option<Self> {
        Self::new(self.from.max(other.from), self.to.min(other.to))
    }
}

string_enum!(
    /// The calendar unit of a bucket.
    Period {
        Day = "DAY",
        Week = "WEEK",
        Month = "MONTH",
        Quarter = "QUARTER",
        Year = "YEAR",
    }
);

string_enum!(
    /// The first day of a week.
    WeekStart {
        Monday = "MONDAY",
        Sunday = "SUNDAY",
    }
);

impl Period {
    /// The whole calendar unit that contains the day.
    #[must_use]
    pub fn unit_of(self, day: Day, week_start: WeekStart) -> DayRange {
        let date = day.date();
        let months = |first: NaiveDate, count: u32| {
            let next = first.checked_add_months(chrono::Months::new(count));
            let last = next.and_then(|d| d.checked_sub_days(Days::new(1)));
            DayRange {
                from: first.into(),
                to: last.unwrap_or(first).into(),
            }
        };
        match self {
            Self::Day => DayRange { from: day, to: day },
            Self::Week => {
                let weekday = match week_start {
                    WeekStart::Monday => date.weekday().num_days_from_monday(),
                    WeekStart::Sunday => date.weekday().num_days_from_sunday(),
                };
                let from = Day(day.0 - weekday.cast_signed());
                DayRange {
                    from,
                    to: Day(from.0 + 6),
                }
            }
            Self::Month => months(ymd(date.year(), date.month(), 1), 1),
            Self::Quarter => months(ymd(date.year(), date.month0() / 3 * 3 + 1, 1), 3),
            Self::Year => months(ymd(date.year(), 1, 1), 12),
        }
    }

    /// A lower bound of the number of buckets in a range, computed without creating them.
    #[must_use]
    pub fn min_buckets(self, range: DayRange) -> usize {
        let days = usize::try_from(range.to.0 - range.from.0 + 1).unwrap_or(0);
        let max_days = match self {
            Self::Day => 1,
            Self::Week => 7,
            Self::Month => 31,
            Self::Quarter => 92,
            Self::Year => 366,
        };
        days.div_ceil(max_days)
    }

    /// An upper bound of the number of buckets in a range, computed without creating them.
    #[must_use]
    pub fn max_buckets(self, range: DayRange) -> usize {
        let days = usize::try_from(range.to.0 - range.from.0 + 1).unwrap_or(0);
        let min_days = match self {
            Self::Day => 1,
            Self::Week => 7,
            Self::Month => 28,
            Self::Quarter => 90,
            Self::Year => 365,
        };
        // The first and the last unit may be partial.
        days.min(days / min_days + 2)
    }
}

/// One calendar unit of a question, and the part of it that is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// The whole unit; for the total, the question's range.
    pub bounds: DayRange,
    /// The counted days: those within the question's range and up to asOf; `None` if there are none.
    pub covered: Option<DayRange>,
}

impl Bucket {
    /// The bucket with these bounds in a question with this range and asOf.
    #[must_use]
    pub fn new(bounds: DayRange, range: DayRange, as_of: Day) -> Self {
        let covered = bounds
            .intersection(range)
            .and_then(|days| DayRange::new(days.from, days.to.min(as_of)));
        Self { bounds, covered }
    }

    /// Whether every day of the bounds is counted.
    #[must_use]
    pub fn complete(&self) -> bool {
        self.covered == Some(self.bounds)
    }

    /// The buckets of a range in ascending order. They cover the range without gaps.
    #[must_use]
    pub fn all(period: Period, range: DayRange, week_start: WeekStart, as_of: Day) -> Vec<Self> {
        let mut buckets = Vec::with_capacity(period.min_buckets(range));
        let mut day = range.from;
        while day <= range.to {
            let bounds = period.unit_of(day, week_start);
            buckets.push(Self::new(bounds, range, as_of));
            day = Day(bounds.to.0 + 1);
        }
        buckets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(text: &str) -> Day {
        text.parse::<NaiveDate>().unwrap().into()
    }

    fn bounds(period: Period, on: &str, week_start: WeekStart) -> (String, String) {
        let range = period.unit_of(day(on), week_start);
        (range.from.to_string(), range.to.to_string())
    }

    #[test]
    fn units_have_calendar_bounds() {
        use WeekStart::{Monday, Sunday};
        let cases = [
            (Period::Day, "2024-02-29", Monday, "2024-02-29", "2024-02-29"),
            (Period::Week, "2025-05-11", Monday, "2025-05-05", "2025-05-11"),
            (Period::Week, "2025-05-11", Sunday, "2025-05-11", "2025-05-17"),
            (Period::Week, "2025-01-01", Monday, "2024-12-30", "2025-01-05"),
            (Period::Month, "2024-02-10", Monday, "2024-02-01", "2024-02-29"),
            (Period::Month, "2025-12-31", Monday, "2025-12-01", "2025-12-31"),
            (Period::Quarter, "2025-05-11", Monday, "2025-04-01", "2025-06-30"),
            (Period::Quarter, "2025-12-11", Monday, "2025-10-01", "2025-12-31"),
            (Period::Year, "2025-05-11", Monday, "2025-01-01", "2025-12-31"),
        ];
        for (period, on, week_start, from, to) in cases {
            assert_eq!(
                bounds(period, on, week_start),
                (from.to_owned(), to.to_owned()),
                "{period:?} of {on}"
            );
        }
    }

    #[test]
    fn bucket_count_is_within_its_bounds() {
        for &period in Period::ALL {
            for from in ["2023-12-31", "2024-01-01", "2024-02-29"] {
                for days in (0..800).step_by(13) {
                    let from = day(from);
                    let range = DayRange::new(from, Day(from.0 + days)).unwrap();
                    let count = Bucket::all(period, range, WeekStart::Sunday, from).len();
                    let bounds = period.min_buckets(range)..=period.max_buckets(range);
                    assert!(
                        bounds.contains(&count),
                        "{count} of {period:?} in {range:?}: {bounds:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn buckets_cover_the_range_up_to_as_of() {
        let range = DayRange::new(day("2025-01-15"), day("2025-03-10")).unwrap();
        let buckets = Bucket::all(Period::Month, range, WeekStart::Monday, day("2025-02-20"));
        let actual: Vec<_> = buckets
            .iter()
            .map(|b| {
                let covered = b.covered.map(|c| format!("{}..{}", c.from, c.to));
                (b.bounds.from.to_string(), covered, b.complete())
            })
            .collect();
        assert_eq!(
            actual,
            [
                ("2025-01-01".into(), Some("2025-01-15..2025-01-31".into()), false),
                ("2025-02-01".into(), Some("2025-02-01..2025-02-20".into()), false),
                ("2025-03-01".into(), None, false),
            ]
        );
    }
}
