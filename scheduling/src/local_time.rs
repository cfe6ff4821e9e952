//! From local time to instants. Dates are within 1900 to 2200, as everywhere in Rollcall.

use chrono::{DateTime, MappedLocalTime, NaiveDate, NaiveDateTime, TimeZone as _, Utc};
use chrono_tz::{GapInfo, Tz};

/// Which instant a local time is that the clocks show twice.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ambiguous {
    Earlier,
    Later,
}

/// The instant of a local time; the first instant after where the clocks skip it.
pub(crate) fn instant(local: NaiveDateTime, zone: Tz, ambiguous: Ambiguous) -> DateTime<Utc> {
    match zone.from_local_datetime(&local) {
        MappedLocalTime::Single(at) => at.to_utc(),
        MappedLocalTime::Ambiguous(earlier, later) => match ambiguous {
            Ambiguous::Earlier => earlier.min(later).to_utc(),
            Ambiguous::Later => earlier.max(later).to_utc(),
        },
        MappedLocalTime::None => {
            let after_gap = GapInfo::new(&local, &zone).and_then(|gap| gap.end);
            after_gap.map_or_else(|| local.and_utc(), |at| at.to_utc())
        }
    }
}

/// The first instant of a date: midnight, or the first instant after where the clocks skip midnight.
#[must_use]
pub fn start_of_day(date: NaiveDate, zone: Tz) -> DateTime<Utc> {
    instant(date.into(), zone, Ambiguous::Earlier)
}

/// The instant at which a date ends: the start of the next. A date that the zone skips has no duration.
#[must_use]
pub fn end_of_day(date: NaiveDate, zone: Tz) -> DateTime<Utc> {
    start_of_day(date.succ_opt().unwrap_or(date), zone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_begins_with_its_first_instant() {
        for (zone, date, starts, ends) in [
            (
                "Asia/Seoul",
                "2025-05-11",
                "2025-05-10T15:00:00Z",
                "2025-05-11T15:00:00Z",
            ),
            // 23 and 25 hours.
            (
                "America/New_York",
                "2025-03-09",
                "2025-03-09T05:00:00Z",
                "2025-03-10T04:00:00Z",
            ),
            (
                "America/New_York",
                "2025-11-02",
                "2025-11-02T04:00:00Z",
                "2025-11-03T05:00:00Z",
            ),
            // Midnight is skipped.
            (
                "Africa/Cairo",
                "2025-04-25",
                "2025-04-24T22:00:00Z",
                "2025-04-25T21:00:00Z",
            ),
            // Midnight comes twice.
            (
                "America/Havana",
                "2025-11-02",
                "2025-11-02T04:00:00Z",
                "2025-11-03T05:00:00Z",
            ),
            // The date is skipped.
            (
                "Pacific/Apia",
                "2011-12-30",
                "2011-12-30T10:00:00Z",
                "2011-12-30T10:00:00Z",
            ),
        ] {
            let zone: Tz = zone.parse().unwrap();
            let date = date.parse().unwrap();
            assert_eq!(
                start_of_day(date, zone),
                starts.parse::<DateTime<Utc>>().unwrap(),
                "{zone} {date}"
            );
            assert_eq!(
                end_of_day(date, zone),
                ends.parse::<DateTime<Utc>>().unwrap(),
                "{zone} {date}"
            );
        }
    }
}
