//! Slots: a doctor's working hours, cut into equal parts.

use chrono::{DateTime, Days, NaiveDate, TimeDelta, Utc};
use chrono_tz::Tz;
use string_enum::string_enum;

use crate::hours::{Interval, WorkingHours, is_within, union, working_intervals};

string_enum!(
    /// Whether a slot can be booked.
    SlotState {
        Free = "FREE",
        Taken = "TAKEN",
    }
);

/// A part of a doctor's working hours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    pub interval: Interval,
    pub state: SlotState,
}

/// What a doctor's slots follow from.
#[derive(Clone, Debug)]
pub struct Schedule<'a> {
    zone: Tz,
    hours: &'a [WorkingHours],
    slot_length: TimeDelta,
    absent: Vec<Interval>,
    occupied: Vec<Interval>,
}

impl<'a> Schedule<'a> {
    /// A doctor's schedule. Absences are also the hospital's closures; both they and the occupied intervals may overlap, in any order.
    #[must_use]
    pub fn new(
        zone: Tz,
        hours: &'a [WorkingHours],
        slot_minutes: u32,
        absences: &[Interval],
        occupied: &[Interval],
    ) -> Self {
        Self {
            zone,
            hours,
            slot_length: TimeDelta::minutes(slot_minutes.max(1).into()),
            absent: union(absences),
            occupied: union(occupied),
        }
    }

    /// The slots of the dates from `first` to `last`, in ascending order.
    ///
    /// Working hours are cut from their start; a rest shorter than a slot is none, and neither is what touches an absence. What overlaps
    /// with an occupied interval is TAKEN. Without hours there are no slots.
    #[must_use]
    pub fn slots(&self, first: NaiveDate, last: NaiveDate) -> Vec<Slot> {
        let dates = first.iter_days().take_while(|&date| date <= last);
        dates.flat_map(|date| self.slots_of(date)).collect()
    }

    /// The first times of this length that begin with a free slot, at an instant or later, and lie within the working hours: at most
    /// `count`, looking ahead so many days.
    #[must_use]
    pub fn next_free(&self, from: DateTime<Utc>, length: TimeDelta, count: usize, days: u64) -> Vec<Interval> {
        let today = from.with_timezone(&self.zone).date_naive();
        let dates = today.iter_days().take_while(|&date| {
            let last = today.checked_add_days(Days::new(days));
            last.is_none_or(|last| date <= last)
        });
        let slots = dates.flat_map(|date| self.slots_of(date));
        let free = slots.filter(|slot| slot.state == SlotState::Free && slot.interval.starts() >= from);
        let times = free.filter_map(|slot| {
            let starts = slot.interval.starts();
            Interval::new(starts, starts.checked_add_signed(length)?)
        });
        let fits = |time: &Interval| {
            !overlaps_any(&self.absent, time)
                && !overlaps_any(&self.occupied, time)
                && is_within(time, self.hours, self.zone)
        };
        times.filter(fits).take(count).collect()
    }

    fn slots_of(&self, date: NaiveDate) -> Vec<Slot> {
        let mut slots = Vec::new();
        for working in working_intervals(self.hours, date, self.zone) {
            let mut starts = working.starts();
            while let Some(interval) = starts
                .checked_add_signed(self.slot_length)
                .and_then(|ends| Interval::new(starts, ends))
                .filter(|interval| working.contains(interval))
            {
                if !overlaps_any(&self.absent, &interval) {
                    let is_taken = overlaps_any(&self.occupied, &interval);
                    let state = if is_taken { SlotState::Taken } else { SlotState::Free };
                    slots.push(Slot { interval, state });
                }
                starts = interval.ends();
            }
        }
        slots
    }
}

/// Whether the interval overlaps with one of these, which are in ascending order and do not overlap.
fn overlaps_any(sorted: &[Interval], interval: &Interval) -> bool {
    let first = sorted.partition_point(|other| other.ends() <= interval.starts());
    sorted.get(first).is_some_and(|other| other.overlaps(interval))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::hours::Weekday::{Monday, Saturday, Sunday};
    use crate::hours::tests::{days_of_zones, hours, interval, naive_working_intervals, week};
    use crate::start_of_day;

    const SEOUL: Tz = chrono_tz::Asia::Seoul;

    fn day(text: &str) -> NaiveDate {
        text.parse().unwrap()
    }

    /// The local start of each slot, TAKEN ones with a star.
    fn times(slots: &[Slot], zone: Tz) -> String {
        let time = |slot: &Slot| {
            let star = if slot.state == SlotState::Taken { "*" } else { "" };
            format!("{}{star}", slot.interval.starts().with_timezone(&zone).format("%H:%M"))
        };
        slots.iter().map(time).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn hours_are_cut_into_slots() {
        let week = [hours(Sunday, "13:10", "14:40"), hours(Sunday, "09:00", "11:00")];
        let absences = [interval("2025-05-11T00:30:00Z", "2025-05-11T00:31:00Z")];
        // Across two slots, and until a slot begins.
        let occupied = [
            interval("2025-05-11T01:15:00Z", "2025-05-11T01:45:00Z"),
            interval("2025-05-11T04:00:00Z", "2025-05-11T04:10:00Z"),
        ];
        let sunday = day("2025-05-11");
        let slots = |absences: &[Interval], occupied: &[Interval]| {
            times(
                &Schedule::new(SEOUL, &week, 30, absences, occupied).slots(sunday, sunday),
                SEOUL,
            )
        };
        assert_eq!(slots(&[], &[]), "09:00 09:30 10:00 10:30 13:10 13:40 14:10");
        assert_eq!(slots(&absences, &occupied), "09:00 10:00* 10:30* 13:10 13:40 14:10");
        let of = |minutes| {
            times(
                &Schedule::new(SEOUL, &week, minutes, &[], &[]).slots(sunday, sunday),
                SEOUL,
            )
        };
        assert_eq!(of(50), "09:00 09:50 13:10");
        assert_eq!(of(480), "");
        let without_hours = Schedule::new(SEOUL, &[], 30, &[], &[]);
        assert!(without_hours.slots(sunday, sunday).is_empty());
        assert!(
            without_hours
                .next_free(DateTime::UNIX_EPOCH, TimeDelta::minutes(30), 3, 14)
                .is_empty()
        );
    }

    #[test]
    fn slots_follow_the_clocks() {
        let new_york = chrono_tz::America::New_York;
        let night = [hours(Sunday, "00:00", "04:00")];
        let schedule = Schedule::new(new_york, &night, 60, &[], &[]);
        let of = |date| times(&schedule.slots(day(date), day(date)), new_york);
        assert_eq!(of("2025-03-09"), "00:00 01:00 03:00");
        assert_eq!(of("2025-11-02"), "00:00 01:00 01:00 02:00 03:00");
        assert_eq!(of("2025-11-09"), "00:00 01:00 02:00 03:00");
        // The repeated hour begins where these end.
        let midnight = [hours(Sunday, "00:00", "01:00")];
        let schedule = Schedule::new(new_york, &midnight, 60, &[], &[]);
        assert_eq!(
            times(&schedule.slots(day("2025-11-02"), day("2025-11-02")), new_york),
            "00:00"
        );
    }

    #[test]
    fn the_next_free_slots_are_found() {
        let week = [hours(Saturday, "09:00", "10:00"), hours(Monday, "09:00", "10:00")];
        // Saturday, 09:30.
        let occupied = [interval("2025-05-10T00:30:00Z", "2025-05-10T01:00:00Z")];
        let schedule = Schedule::new(SEOUL, &week, 30, &[], &occupied);
        let next = |from: &str, count, days| {
            let free = schedule.next_free(from.parse().unwrap(), TimeDelta::minutes(30), count, days);
            free.iter()
                .map(|i| i.starts().format("%d %H:%M").to_string())
                .collect::<Vec<_>>()
                .join(", ")
        };
        assert_eq!(next("2025-05-10T00:00:00Z", 2, 7), "10 00:00, 12 00:00");
        assert_eq!(next("2025-05-10T00:00:01Z", 3, 7), "12 00:00, 12 00:30, 17 00:00");
        assert_eq!(next("2025-05-10T00:00:01Z", 3, 2), "12 00:00, 12 00:30");
        assert_eq!(next("2025-05-10T00:00:01Z", 3, 1), "");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn slots_are_those_of_the_minutes(
            (zone, first) in days_of_zones(),
            hours in week(),
            slot_minutes in 5..100_u32,
            absences in proptest::collection::vec((0..2880_i64, 1..600_i64), 0..4),
            occupied in proptest::collection::vec((0..2880_i64, 1..120_i64), 0..20),
        ) {
            let last = first.succ_opt().unwrap();
            let start = start_of_day(first, zone);
            let minute = |minutes: i64| start + TimeDelta::minutes(minutes);
            let intervals = |all: &[(i64, i64)]| {
                all.iter().map(|&(at, length)| Interval::new(minute(at), minute(at + length)).unwrap()).collect::<Vec<_>>()
            };
            let is_in = |all: &[(i64, i64)], at: i64| all.iter().any(|&(from, length)| from <= at && at < from + length);
            let mut expected = Vec::new();
            for date in [first, last] {
                for working in naive_working_intervals(&hours, date, zone) {
                    let from = (working.starts() - start).num_minutes();
                    let length = (working.ends() - working.starts()).num_minutes();
                    for at in (from..).step_by(slot_minutes as usize).take((length / i64::from(slot_minutes)) as usize) {
                        let mut minutes = at..at + i64::from(slot_minutes);
                        let interval = Interval::new(minute(minutes.start), minute(minutes.end)).unwrap();
                        if minutes.clone().any(|at| is_in(&absences, at)) {
                            continue;
                        }
                        let is_taken = minutes.any(|at| is_in(&occupied, at));
                        expected.push(Slot { interval, state: if is_taken { SlotState::Taken } else { SlotState::Free } });
                    }
                }
            }
            let schedule = Schedule::new(zone, &hours, slot_minutes, &intervals(&absences), &intervals(&occupied));
            prop_assert_eq!(schedule.slots(first, last), expected.clone());
            let free: Vec<_> = expected.iter().filter(|slot| slot.state == SlotState::Free).map(|slot| slot.interval).collect();
            if start.with_timezone(&zone).date_naive() == first {
                let next = schedule.next_free(start, TimeDelta::minutes(slot_minutes.into()), free.len(), 1);
                prop_assert_eq!(next, free);
            }
        }
    }
}
