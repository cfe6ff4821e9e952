//! Weekly working hours, and the intervals of time that they are.

use std::fmt;

use chrono::{DateTime, Datelike as _, MappedLocalTime, NaiveDate, NaiveDateTime, TimeDelta, TimeZone as _, Utc};
use chrono_tz::Tz;
use string_enum::string_enum;

use crate::local_time::{Ambiguous, end_of_day, instant};
use crate::time_of_day::TimeOfDay;

string_enum!(
    /// A day of the week.
    Weekday {
        Monday = "MONDAY",
        Tuesday = "TUESDAY",
        Wednesday = "WEDNESDAY",
        Thursday = "THURSDAY",
        Friday = "FRIDAY",
        Saturday = "SATURDAY",
        Sunday = "SUNDAY",
    }
);

impl Weekday {
    /// The weekday of a date.
    #[must_use]
    pub fn of(date: NaiveDate) -> Self {
        match date.weekday() {
            chrono::Weekday::Mon => Self::Monday,
            chrono::Weekday::Tue => Self::Tuesday,
            chrono::Weekday::Wed => Self::Wednesday,
            chrono::Weekday::Thu => Self::Thursday,
            chrono::Weekday::Fri => Self::Friday,
            chrono::Weekday::Sat => Self::Saturday,
            chrono::Weekday::Sun => Self::Sunday,
        }
    }
}

/// The most working hours of one doctor.
pub const MAX_HOURS: usize = 100;

/// When a doctor sees patients on a weekday, in local time. Ordered by weekday and time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkingHours {
    pub weekday: Weekday,
    pub from: TimeOfDay,
    pub to: TimeOfDay,
}

/// What is wrong with one of several working hours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HoursError {
    /// Its position in the list.
    pub index: usize,
    pub problem: HoursProblem,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoursProblem {
    FromNotBeforeTo,
    /// They overlap with those at this earlier position, on the same weekday.
    Overlaps(usize),
    /// There are more than [`MAX_HOURS`].
    TooMany,
}

impl fmt::Display for HoursProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FromNotBeforeTo => f.write_str("from must be before to"),
            Self::Overlaps(other) => write!(
                f,
                "must not overlap with those at position {other}, counted from 0; hours may touch"
            ),
            Self::TooMany => write!(f, "must be at most {MAX_HOURS} working hours"),
        }
    }
}

/// Checks the working hours of one doctor.
///
/// # Errors
/// All that is wrong: the first overlap of each, and the first that is too many.
pub fn validate(hours: &[WorkingHours]) -> Result<(), Vec<HoursError>> {
    let is_valid = |hours: &WorkingHours| hours.from < hours.to;
    let accepted = hours.get(..MAX_HOURS).unwrap_or(hours);
    let mut errors = Vec::new();
    for (index, one) in accepted.iter().enumerate() {
        let overlaps = |other: &WorkingHours| {
            is_valid(other) && other.weekday == one.weekday && other.from < one.to && one.from < other.to
        };
        let problem = if is_valid(one) {
            let mut earlier = accepted.iter().take(index);
            earlier.position(overlaps).map(HoursProblem::Overlaps)
        } else {
            Some(HoursProblem::FromNotBeforeTo)
        };
        errors.extend(problem.map(|problem| HoursError { index, problem }));
    }
    if hours.len() > MAX_HOURS {
        errors.push(HoursError {
            index: MAX_HOURS,
            problem: HoursProblem::TooMany,
        });
    }
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

/// A time from `starts` up to, but without, `ends`; never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Interval {
    starts: DateTime<Utc>,
    ends: DateTime<Utc>,
}

impl Interval {
    /// The interval; none where it does not start before it ends.
    #[must_use]
    pub fn new(starts: DateTime<Utc>, ends: DateTime<Utc>) -> Option<Self> {
        (starts < ends).then_some(Self { starts, ends })
    }

    #[must_use]
    pub const fn starts(&self) -> DateTime<Utc> {
        self.starts
    }

    #[must_use]
    pub const fn ends(&self) -> DateTime<Utc> {
        self.ends
    }

    /// Whether they have an instant in common. Intervals that touch have none.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.starts < other.ends && other.starts < self.ends
    }

    /// Whether the other lies wholly within this one.
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        self.starts <= other.starts && other.ends <= self.ends
    }

    /// What is left of this interval without the others, in ascending order.
    #[must_use]
    pub fn subtract(&self, others: &[Self]) -> Vec<Self> {
        let mut left = Vec::new();
        let mut from = self.starts;
        for other in union(others).iter().filter(|other| other.overlaps(self)) {
            left.extend(Self::new(from, other.starts));
            from = other.ends;
        }
        left.extend(Self::new(from, self.ends));
        left
    }
}

/// The same instants as intervals in ascending order that neither overlap nor touch.
pub(crate) fn union(intervals: &[Interval]) -> Vec<Interval> {
    let mut sorted = intervals.to_vec();
    sorted.sort_unstable();
    let mut union: Vec<Interval> = Vec::with_capacity(sorted.len());
    for interval in sorted {
        match union.last_mut() {
            Some(last) if interval.starts <= last.ends => last.ends = last.ends.max(interval.ends),
            _ => union.push(interval),
        }
    }
    union
}

/// The working hours of a date as intervals in ascending order, which do not overlap.
///
/// A local time that the clocks skip is the first instant after. Where they show it twice, hours begin with the earlier and end with the
/// later, but not after the date's end, and not before the end of earlier hours. Hours that end where the repeated time begins end with
/// the earlier.
#[must_use]
pub fn working_intervals(hours: &[WorkingHours], date: NaiveDate, zone: Tz) -> Vec<Interval> {
    let weekday = Weekday::of(date);
    let mut of_weekday: Vec<_> = hours.iter().filter(|hours| hours.weekday == weekday).collect();
    of_weekday.sort_unstable();
    let end_of_day = end_of_day(date, zone);
    let mut intervals: Vec<Interval> = Vec::with_capacity(of_weekday.len());
    for hours in of_weekday {
        let from = instant(hours.from.on(date), zone, Ambiguous::Earlier);
        let from = intervals.last().map_or(from, |previous| from.max(previous.ends));
        let to = end_instant(hours.to.on(date), zone).min(end_of_day);
        intervals.extend(Interval::new(from, to));
    }
    intervals
}

/// The instant at which hours end that end at a local time, which they do not contain.
fn end_instant(to: NaiveDateTime, zone: Tz) -> DateTime<Utc> {
    let last_second = to - TimeDelta::seconds(1);
    let is_repeated = matches!(zone.from_local_datetime(&last_second), MappedLocalTime::Ambiguous(..));
    let ambiguous = if is_repeated {
        Ambiguous::Later
    } else {
        Ambiguous::Earlier
    };
    instant(to, zone, ambiguous)
}

/// Whether an interval lies wholly within working hours. Hours that touch are continuous, also across midnight. Without hours a doctor is
/// not bound to any: then it does.
#[must_use]
pub fn is_within(interval: &Interval, hours: &[WorkingHours], zone: Tz) -> bool {
    if hours.is_empty() {
        return true;
    }
    let first = interval.starts.with_timezone(&zone).date_naive();
    let last = interval.ends.with_timezone(&zone).date_naive();
    // The clocks may be turned back across midnight, so that the first instant belongs to the day after.
    let days = first.pred_opt().unwrap_or(first).iter_days();
    let mut covered_to = interval.starts;
    for date in days.take_while(|&date| Some(date) <= last.succ_opt()) {
        for working in working_intervals(hours, date, zone) {
            if working.starts <= covered_to {
                covered_to = covered_to.max(working.ends);
            }
        }
        if covered_to >= interval.ends {
            return true;
        }
    }
    false
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;

    pub(crate) fn hours(weekday: Weekday, from: &str, to: &str) -> WorkingHours {
        WorkingHours {
            weekday,
            from: from.parse().unwrap(),
            to: to.parse().unwrap(),
        }
    }

    pub(crate) fn interval(starts: &str, ends: &str) -> Interval {
        Interval::new(starts.parse().unwrap(), ends.parse().unwrap()).unwrap()
    }

    /// Dates on which, or near which, clocks change.
    pub(crate) fn days_of_zones() -> impl Strategy<Value = (Tz, NaiveDate)> {
        let days = [
            ("America/New_York", "2025-03-09"),
            ("America/New_York", "2025-11-02"),
            ("Asia/Seoul", "2025-05-11"),
            ("Africa/Cairo", "2025-04-25"),
            ("Africa/Cairo", "2025-10-30"),
            ("America/Havana", "2025-03-09"),
            ("America/Havana", "2025-11-02"),
            ("Atlantic/Azores", "2025-10-26"),
            ("Australia/Lord_Howe", "2025-04-06"),
            ("America/St_Johns", "2005-10-30"),
            ("Pacific/Apia", "2011-12-30"),
        ];
        let days = days.map(|(zone, date)| (zone.parse::<Tz>().unwrap(), date.parse::<NaiveDate>().unwrap()));
        (select(days.to_vec()), -1..=1_i64).prop_map(|((zone, date), days)| (zone, date + TimeDelta::days(days)))
    }

    /// Working hours that are valid: times of a grid of 30 minutes, in pairs.
    pub(crate) fn week() -> impl Strategy<Value = Vec<WorkingHours>> {
        let weekday = (
            proptest::collection::btree_set(0..=48_u16, 0..8),
            select(Weekday::ALL),
            any::<bool>(),
        );
        let week = proptest::collection::vec(weekday, 0..10);
        week.prop_map(|days| {
            let mut week: Vec<WorkingHours> = Vec::new();
            for (times, weekday, do_touch) in days {
                if week.iter().any(|hours| hours.weekday == weekday) {
                    continue;
                }
                let times: Vec<_> = times
                    .iter()
                    .map(|&t| TimeOfDay::from_minutes(t * 30).unwrap())
                    .collect();
                let pairs = times.windows(2).step_by(if do_touch { 1 } else { 2 });
                week.extend(pairs.map(|pair| WorkingHours {
                    weekday,
                    from: pair[0],
                    to: pair[1],
                }));
            }
            week.reverse();
            week
        })
    }

    /// The local time, minute by minute, of three days around the date.
    fn minutes_around(date: NaiveDate, zone: Tz) -> impl Iterator<Item = (DateTime<Utc>, NaiveDateTime)> {
        let start = date.and_time(chrono::NaiveTime::MIN).and_utc() - TimeDelta::hours(36);
        (0..4 * 24 * 60).map(move |minutes| {
            let at = start + TimeDelta::minutes(minutes);
            (at, at.with_timezone(&zone).naive_local())
        })
    }

    /// The definition, minute by minute. A time skipped or shown twice is told from the clocks' readings only.
    pub(crate) fn naive_working_intervals(hours: &[WorkingHours], date: NaiveDate, zone: Tz) -> Vec<Interval> {
        let first_at_or_after = |local: NaiveDateTime| minutes_around(date, zone).find(|(_, l)| *l >= local).unwrap().0;
        let after_last_before = |local: NaiveDateTime| {
            minutes_around(date, zone).filter(|(_, l)| *l < local).last().unwrap().0 + TimeDelta::minutes(1)
        };
        let day_ends = first_at_or_after((date + TimeDelta::days(1)).into());
        let mut intervals: Vec<Interval> = Vec::new();
        for minute in 0..1440 {
            let begins = |hours: &&WorkingHours| hours.weekday == Weekday::of(date) && hours.from.minutes() == minute;
            for hours in hours.iter().filter(begins) {
                let mut from = first_at_or_after(hours.from.on(date));
                if let Some(previous) = intervals.last() {
                    from = from.max(previous.ends);
                }
                let to = after_last_before(hours.to.on(date)).min(day_ends);
                intervals.extend(Interval::new(from, to));
            }
        }
        intervals
    }

    #[test]
    fn all_wrong_hours_are_named() {
        use HoursProblem::{FromNotBeforeTo, Overlaps, TooMany};
        use Weekday::{Monday, Tuesday};
        let problems = |hours: &[WorkingHours]| {
            let errors = validate(hours).err().unwrap_or_default();
            errors.into_iter().map(|e| (e.index, e.problem)).collect::<Vec<_>>()
        };
        assert_eq!(problems(&[]), []);
        let touching = [
            hours(Monday, "13:00", "24:00"),
            hours(Monday, "09:00", "13:00"),
            hours(Tuesday, "00:00", "10:00"),
        ];
        assert_eq!(problems(&touching), []);
        let wrong = [
            hours(Monday, "09:00", "13:00"),
            hours(Monday, "10:00", "10:00"),
            hours(Tuesday, "12:00", "11:00"),
            hours(Monday, "12:59", "18:00"),
            hours(Tuesday, "09:00", "18:00"),
            hours(Monday, "08:00", "19:00"),
        ];
        let expected = [
            (1, FromNotBeforeTo),
            (2, FromNotBeforeTo),
            (3, Overlaps(0)),
            (5, Overlaps(0)),
        ];
        assert_eq!(problems(&wrong), expected);
        let many: Vec<_> = (0..=MAX_HOURS)
            .map(|i| {
                let from = u16::try_from(i).unwrap();
                WorkingHours {
                    weekday: Monday,
                    from: TimeOfDay::from_minutes(from).unwrap(),
                    to: TimeOfDay::from_minutes(from + 1).unwrap(),
                }
            })
            .collect();
        assert_eq!(problems(&many), [(MAX_HOURS, TooMany)]);
        assert_eq!(problems(&many[..MAX_HOURS]), []);
    }

    #[test]
    fn hours_are_intervals_across_daylight_saving() {
        use Weekday::{Friday, Sunday};
        for (zone, date, of, expected) in [
            (
                "Asia/Seoul",
                "2025-05-11",
                hours(Sunday, "09:00", "18:00"),
                Some(("2025-05-11T00:00:00Z", "2025-05-11T09:00:00Z")),
            ),
            // 02:00–03:00 is skipped.
            (
                "America/New_York",
                "2025-03-09",
                hours(Sunday, "02:30", "04:00"),
                Some(("2025-03-09T07:00:00Z", "2025-03-09T08:00:00Z")),
            ),
            (
                "America/New_York",
                "2025-03-09",
                hours(Sunday, "01:00", "02:30"),
                Some(("2025-03-09T06:00:00Z", "2025-03-09T07:00:00Z")),
            ),
            ("America/New_York", "2025-03-09", hours(Sunday, "02:00", "03:00"), None),
            // 01:00–02:00 comes twice.
            (
                "America/New_York",
                "2025-11-02",
                hours(Sunday, "01:00", "01:30"),
                Some(("2025-11-02T05:00:00Z", "2025-11-02T06:30:00Z")),
            ),
            (
                "America/New_York",
                "2025-11-02",
                hours(Sunday, "00:00", "24:00"),
                Some(("2025-11-02T04:00:00Z", "2025-11-03T05:00:00Z")),
            ),
            // 00:00–01:00 is skipped; it comes twice.
            (
                "Africa/Cairo",
                "2025-04-25",
                hours(Friday, "00:00", "02:00"),
                Some(("2025-04-24T22:00:00Z", "2025-04-24T23:00:00Z")),
            ),
            (
                "America/Havana",
                "2025-11-02",
                hours(Sunday, "00:00", "02:00"),
                Some(("2025-11-02T04:00:00Z", "2025-11-02T07:00:00Z")),
            ),
            // The date is skipped.
            ("Pacific/Apia", "2011-12-30", hours(Friday, "09:00", "18:00"), None),
        ] {
            let intervals = working_intervals(&[of], date.parse().unwrap(), zone.parse().unwrap());
            let expected: Vec<_> = expected
                .map(|(starts, ends)| interval(starts, ends))
                .into_iter()
                .collect();
            assert_eq!(intervals, expected, "{zone} {of:?}");
        }
    }

    #[test]
    fn hours_that_touch_are_continuous() {
        use Weekday::{Saturday, Sunday};
        let seoul = chrono_tz::Asia::Seoul;
        // 2025-05-10 is a Saturday.
        let around_midnight = interval("2025-05-10T14:30:00Z", "2025-05-10T15:30:00Z");
        let night = [hours(Sunday, "00:00", "06:00"), hours(Saturday, "18:00", "24:00")];
        assert!(is_within(&around_midnight, &night, seoul));
        assert!(!is_within(&around_midnight, &night[..1], seoul));
        assert!(!is_within(&around_midnight, &night[1..], seoul));
        assert!(is_within(&around_midnight, &[], seoul));
        let day = [
            hours(Sunday, "09:00", "12:00"),
            hours(Sunday, "12:00", "13:00"),
            hours(Sunday, "14:00", "18:00"),
        ];
        for (starts, ends, expected) in [
            ("2025-05-11T00:00:00Z", "2025-05-11T04:00:00Z", true),
            ("2025-05-11T02:30:00Z", "2025-05-11T03:30:00Z", true),
            ("2025-05-10T23:59:00Z", "2025-05-11T01:00:00Z", false),
            ("2025-05-11T03:30:00Z", "2025-05-11T04:01:00Z", false),
            ("2025-05-11T03:30:00Z", "2025-05-11T05:30:00Z", false),
            ("2025-05-11T05:00:00Z", "2025-05-11T09:00:00Z", true),
        ] {
            assert_eq!(
                is_within(&interval(starts, ends), &day, seoul),
                expected,
                "{starts} {ends}"
            );
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn working_intervals_are_those_of_the_minutes((zone, date) in days_of_zones(), hours in week()) {
            prop_assert_eq!(validate(&hours), Ok(()));
            let intervals = working_intervals(&hours, date, zone);
            prop_assert_eq!(&intervals, &naive_working_intervals(&hours, date, zone));
            let next = working_intervals(&hours, date + TimeDelta::days(1), zone);
            let all = [intervals, next].concat();
            prop_assert!(all.windows(2).all(|pair| pair[0].ends <= pair[1].starts), "{:?}", all);
        }

        #[test]
        fn an_interval_is_within_hours_as_its_minutes_are(
            (zone, date) in days_of_zones(), hours in week(), from in -200..1600_i64, minutes in 1..400_i64,
        ) {
            let starts = crate::start_of_day(date, zone) + TimeDelta::minutes(from);
            let wanted = Interval::new(starts, starts + TimeDelta::minutes(minutes)).unwrap();
            let working: Vec<_> = (-2..=3).flat_map(|days| naive_working_intervals(&hours, date + TimeDelta::days(days), zone)).collect();
            let is_working = |at: DateTime<Utc>| working.iter().any(|w| w.starts <= at && at < w.ends);
            let expected = hours.is_empty() || (0..minutes).all(|minute| is_working(starts + TimeDelta::minutes(minute)));
            prop_assert_eq!(is_within(&wanted, &hours, zone), expected);
        }

        #[test]
        fn subtracting_leaves_the_other_minutes(
            starts in 0..50_i64, length in 1..50_i64, others in proptest::collection::vec((0..100_i64, 1..30_i64), 0..6),
        ) {
            let minute = |minutes: i64| DateTime::UNIX_EPOCH + TimeDelta::minutes(minutes);
            let of = |starts: i64, length: i64| Interval::new(minute(starts), minute(starts + length)).unwrap();
            let others: Vec<_> = others.into_iter().map(|(starts, length)| of(starts, length)).collect();
            let whole = of(starts, length);
            let left = whole.subtract(&others);
            prop_assert!(left.windows(2).all(|pair| pair[0].ends < pair[1].starts));
            for at in 0..150 {
                let at = of(at, 1);
                let expected = whole.contains(&at) && !others.iter().any(|other| other.overlaps(&at));
                prop_assert_eq!(left.iter().any(|interval| interval.overlaps(&at)), expected);
            }
        }
    }
}
