//! The life of a visit: which statuses follow one another, when, and which changes are corrections.

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use chrono_tz::Tz;
use statistics::VisitStatus;

use crate::local_time::{end_of_day, start_of_day};

/// A visit is on its day until so many hours after the day's end.
pub const GRACE_HOURS: i64 = 12;

/// Where now lies relative to a visit's day in the hospital's time zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Moment {
    BeforeItsDay,
    /// From the start of the day to [`GRACE_HOURS`] after its end.
    OnItsDay,
    PastItsDay,
}

impl Moment {
    pub const ALL: [Self; 3] = [Self::BeforeItsDay, Self::OnItsDay, Self::PastItsDay];
}

/// When a visit on this date is past its day: [`GRACE_HOURS`] after the end of the date.
pub(crate) fn end_of_its_day(date: NaiveDate, zone: Tz) -> DateTime<Utc> {
    let ends = end_of_day(date, zone);
    ends.checked_add_signed(TimeDelta::hours(GRACE_HOURS)).unwrap_or(ends)
}

/// Where `now` lies relative to a visit's date.
#[must_use]
pub fn moment(date: NaiveDate, zone: Tz, now: DateTime<Utc>) -> Moment {
    if now < start_of_day(date, zone) {
        Moment::BeforeItsDay
    } else if now < end_of_its_day(date, zone) {
        Moment::OnItsDay
    } else {
        Moment::PastItsDay
    }
}

/// When a transition is allowed.
#[derive(Clone, Copy)]
enum When {
    Always,
    OnItsDay,
    UpToItsDay,
    PastItsDay,
}

impl When {
    const fn includes(self, moment: Moment) -> bool {
        match self {
            Self::Always => true,
            Self::OnItsDay => matches!(moment, Moment::OnItsDay),
            Self::UpToItsDay => matches!(moment, Moment::BeforeItsDay | Moment::OnItsDay),
            Self::PastItsDay => matches!(moment, Moment::PastItsDay),
        }
    }
}

/// The statuses that may follow, and when.
type Following = &'static [(When, &'static [VisitStatus])];

/// What may follow a status (none: a new visit) in course, and what as a correction. What is in both is in course.
const fn following(from: Option<VisitStatus>) -> (Following, Following) {
    use VisitStatus::{Booked, Canceled, CheckedIn, Completed, Ended, InProgress, NoShow, Tentative};
    use When::{Always, OnItsDay, PastItsDay, UpToItsDay};
    match from {
        None => (
            &[
                (Always, &[Tentative, Booked]),
                (OnItsDay, &[CheckedIn, InProgress, Completed]),
            ],
            &[(PastItsDay, &[Completed, Ended, NoShow, Canceled])],
        ),
        Some(Tentative) => (&[(Always, &[Booked, Canceled]), (OnItsDay, &[CheckedIn])], &[]),
        Some(Booked) => (
            &[
                (Always, &[Canceled]),
                (OnItsDay, &[CheckedIn, InProgress, Completed, NoShow]),
            ],
            &[(PastItsDay, &[Completed, Ended, NoShow])],
        ),
        Some(CheckedIn) => (
            &[(Always, &[InProgress, Completed, Canceled, Booked])],
            &[(Always, &[Ended, NoShow])],
        ),
        Some(InProgress) => (
            &[(Always, &[Completed, CheckedIn])],
            &[(Always, &[Ended, Canceled, NoShow])],
        ),
        Some(Completed) => (&[(Always, &[Ended])], &[(Always, &[InProgress, Canceled, NoShow])]),
        Some(Ended) => (&[], &[(Always, &[Completed, Canceled, NoShow])]),
        Some(NoShow) => (
            &[(OnItsDay, &[Booked, CheckedIn])],
            &[(Always, &[Completed, Ended, Canceled, Booked])],
        ),
        Some(Canceled) => (
            &[(UpToItsDay, &[Booked]), (OnItsDay, &[CheckedIn])],
            &[(PastItsDay, &[Completed, Ended, NoShow])],
        ),
    }
}

/// An allowed change of a visit's status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// None for a new visit.
    pub from: Option<VisitStatus>,
    pub to: VisitStatus,
    /// Whether it needs a reason.
    pub is_correction: bool,
}

/// The transition is not allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// What is, in the order of [`VisitStatus`].
    pub allowed: Vec<VisitStatus>,
}

/// Whether a visit may have the status at this moment: what happens on the visit's day is never dated in the future.
const fn may_have(status: VisitStatus, moment: Moment) -> bool {
    !(status.excludes_future_dates() && matches!(moment, Moment::BeforeItsDay))
}

/// All transitions that are allowed from a status (none: of a new visit) at this moment, in the order of [`VisitStatus`].
#[must_use]
pub fn transitions(from: Option<VisitStatus>, moment: Moment) -> Vec<Transition> {
    let (in_course, corrections) = following(from);
    let contains = |following: Following, to| {
        let mut rows = following.iter();
        rows.any(|(when, statuses)| when.includes(moment) && statuses.contains(&to))
    };
    let allowed = VisitStatus::ALL.iter().filter_map(|&to| {
        let is_in_course = contains(in_course, to);
        let is_allowed = may_have(to, moment) && (is_in_course || contains(corrections, to));
        is_allowed.then_some(Transition {
            from,
            to,
            is_correction: !is_in_course,
        })
    });
    allowed.collect()
}

/// The transition, where it is allowed. Keeping a status is none.
///
/// # Errors
/// Where it is not allowed.
pub fn check(from: Option<VisitStatus>, to: VisitStatus, moment: Moment) -> Result<Transition, Refused> {
    let allowed = transitions(from, moment);
    let found = allowed.iter().find(|transition| transition.to == to);
    found.copied().ok_or_else(|| Refused {
        allowed: allowed.iter().map(|transition| transition.to).collect(),
    })
}

/// A visit with this status cannot lie on a day that is still to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooEarly;

/// Whether a visit with this status may be moved to another time without that being a correction.
#[must_use]
pub const fn moves_freely(status: VisitStatus) -> bool {
    matches!(status, VisitStatus::Tentative | VisitStatus::Booked)
}

/// Whether moving a visit with this status to a time at this moment is a correction. TENTATIVE and BOOKED move freely. Where the status
/// changes together with the time, that is the status before, and the transition is checked at the new moment.
///
/// # Errors
/// Where the status excludes that moment.
pub fn check_move(status: VisitStatus, to: Moment) -> Result<bool, TooEarly> {
    if !may_have(status, to) {
        return Err(TooEarly);
    }
    Ok(!moves_freely(status))
}

/// Whether a TENTATIVE booking is over, since it was not confirmed in time.
#[must_use]
pub fn has_lapsed(status: VisitStatus, expires_at: Option<DateTime<Utc>>, now: DateTime<Utc>) -> bool {
    status == VisitStatus::Tentative && expires_at.is_some_and(|at| at <= now)
}

/// Whether a visit takes the time of its doctor and patient.
#[must_use]
pub fn is_occupying(status: VisitStatus, expires_at: Option<DateTime<Utc>>, now: DateTime<Utc>) -> bool {
    match status {
        VisitStatus::Tentative => !has_lapsed(status, expires_at, now),
        VisitStatus::Booked | VisitStatus::CheckedIn | VisitStatus::InProgress => true,
        VisitStatus::Completed | VisitStatus::Ended | VisitStatus::Canceled | VisitStatus::NoShow => false,
    }
}

/// When a visit last became CHECKED_IN, IN_PROGRESS, and COMPLETED or ENDED; none where it is not that far, or was not seen to become so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    pub checked_in_at: Option<DateTime<Utc>>,
    pub started_at: Option<DateTime<Utc>>,
    pub completed_at: Option<DateTime<Utc>>,
}

/// Whether a visit with this status was checked in, if it was seen to be.
#[must_use]
pub const fn is_past_check_in(status: VisitStatus) -> bool {
    is_past_start(status) || matches!(status, VisitStatus::CheckedIn)
}

/// Whether a visit with this status was begun, if it was seen to be.
#[must_use]
pub const fn is_past_start(status: VisitStatus) -> bool {
    status.attended() || matches!(status, VisitStatus::InProgress)
}

impl Times {
    /// The times after a transition that is made now. A correction past the visit's day tells what happened earlier, nobody knows when:
    /// it sets no time.
    #[must_use]
    pub fn after(self, transition: &Transition, moment: Moment, now: DateTime<Utc>) -> Self {
        let was_seen = !(transition.is_correction && moment == Moment::PastItsDay);
        let reached = |before: Option<DateTime<Utc>>| if was_seen { Some(now) } else { before };
        match transition.to {
            VisitStatus::CheckedIn => Self {
                checked_in_at: reached(self.checked_in_at),
                ..Self::default()
            },
            VisitStatus::InProgress => Self {
                started_at: reached(self.started_at),
                completed_at: None,
                ..self
            },
            VisitStatus::Completed | VisitStatus::Ended if transition.from.is_some_and(VisitStatus::attended) => self,
            VisitStatus::Completed | VisitStatus::Ended => Self {
                completed_at: reached(None),
                ..self
            },
            VisitStatus::Tentative | VisitStatus::Booked | VisitStatus::Canceled | VisitStatus::NoShow => {
                Self::default()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use VisitStatus::{Booked, Canceled, CheckedIn, Completed, Ended, InProgress, NoShow, Tentative};

    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    /// The table of the definition, written out: status, and what may follow before, on and past the visit's day; corrections with a star.
    const TABLE: &str = "
        -           | TENTATIVE BOOKED | TENTATIVE BOOKED CHECKED_IN IN_PROGRESS COMPLETED | TENTATIVE BOOKED COMPLETED* ENDED* CANCELED* NO_SHOW*
        TENTATIVE   | BOOKED CANCELED  | BOOKED CHECKED_IN CANCELED                        | BOOKED CANCELED
        BOOKED      | CANCELED         | CHECKED_IN IN_PROGRESS COMPLETED CANCELED NO_SHOW | COMPLETED* ENDED* CANCELED NO_SHOW*
        CHECKED_IN  | BOOKED CANCELED  | BOOKED IN_PROGRESS COMPLETED ENDED* CANCELED NO_SHOW* | BOOKED IN_PROGRESS COMPLETED ENDED* CANCELED NO_SHOW*
        IN_PROGRESS | CANCELED*        | CHECKED_IN COMPLETED ENDED* CANCELED* NO_SHOW*    | CHECKED_IN COMPLETED ENDED* CANCELED* NO_SHOW*
        COMPLETED   | CANCELED*        | IN_PROGRESS* ENDED CANCELED* NO_SHOW*             | IN_PROGRESS* ENDED CANCELED* NO_SHOW*
        ENDED       | CANCELED*        | COMPLETED* CANCELED* NO_SHOW*                     | COMPLETED* CANCELED* NO_SHOW*
        CANCELED    | BOOKED           | BOOKED CHECKED_IN                                 | COMPLETED* ENDED* NO_SHOW*
        NO_SHOW     | BOOKED* CANCELED* | BOOKED CHECKED_IN COMPLETED* ENDED* CANCELED*    | BOOKED* COMPLETED* ENDED* CANCELED*
    ";

    #[test]
    fn transitions_are_those_of_the_table() {
        let mut compared = 0;
        for line in TABLE.trim().lines() {
            let mut cells = line.split('|').map(str::trim);
            let from = cells.next().unwrap();
            let from = (from != "-").then(|| VisitStatus::parse(from).unwrap());
            for (moment, expected) in Moment::ALL.into_iter().zip(cells) {
                let mark = |t: &Transition| format!("{}{}", t.to.as_str(), if t.is_correction { "*" } else { "" });
                let allowed = transitions(from, moment);
                let actual: Vec<_> = allowed.iter().map(mark).collect();
                assert_eq!(
                    actual.join(" "),
                    expected.split_whitespace().collect::<Vec<_>>().join(" "),
                    "{from:?} {moment:?}"
                );
                for &to in VisitStatus::ALL {
                    match allowed.iter().find(|t| t.to == to) {
                        Some(transition) => assert_eq!(check(from, to, moment), Ok(*transition)),
                        None => assert_eq!(
                            check(from, to, moment),
                            Err(Refused {
                                allowed: allowed.iter().map(|t| t.to).collect()
                            })
                        ),
                    }
                }
                assert!(moment != Moment::BeforeItsDay || allowed.iter().all(|t| !t.to.excludes_future_dates()));
                assert!(from.is_none_or(|from| allowed.iter().all(|t| t.to != from)));
                compared += 1;
            }
        }
        assert_eq!(compared, (VisitStatus::ALL.len() + 1) * Moment::ALL.len());
    }

    #[test]
    fn a_day_lasts_until_twelve_hours_after_its_end() {
        use Moment::{BeforeItsDay, OnItsDay, PastItsDay};
        for (zone, date, now, expected) in [
            ("Asia/Seoul", "2025-05-11", "2025-05-10T14:59:59Z", BeforeItsDay),
            ("Asia/Seoul", "2025-05-11", "2025-05-10T15:00:00Z", OnItsDay),
            ("Asia/Seoul", "2025-05-11", "2025-05-12T02:59:59Z", OnItsDay),
            ("Asia/Seoul", "2025-05-11", "2025-05-12T03:00:00Z", PastItsDay),
            ("America/New_York", "2025-03-09", "2025-03-09T04:59:59Z", BeforeItsDay),
            ("America/New_York", "2025-03-09", "2025-03-10T15:59:59Z", OnItsDay),
            ("America/New_York", "2025-03-09", "2025-03-10T16:00:00Z", PastItsDay),
            ("America/New_York", "2025-11-02", "2025-11-03T16:59:59Z", OnItsDay),
            ("America/New_York", "2025-11-02", "2025-11-03T17:00:00Z", PastItsDay),
            ("Africa/Cairo", "2025-04-25", "2025-04-24T21:59:59Z", BeforeItsDay),
            ("Africa/Cairo", "2025-04-25", "2025-04-24T22:00:00Z", OnItsDay),
            ("Africa/Cairo", "2025-04-24", "2025-04-25T10:00:00Z", PastItsDay),
        ] {
            let zone = zone.parse().unwrap();
            assert_eq!(
                moment(date.parse().unwrap(), zone, at(now)),
                expected,
                "{zone} {date} {now}"
            );
        }
    }

    #[test]
    fn visits_that_are_further_on_move_as_corrections() {
        for &status in VisitStatus::ALL {
            let is_correction = !matches!(status, Tentative | Booked);
            for moment in Moment::ALL {
                let is_too_early = moment == Moment::BeforeItsDay && !matches!(status, Tentative | Booked | Canceled);
                let expected = if is_too_early { Err(TooEarly) } else { Ok(is_correction) };
                assert_eq!(check_move(status, moment), expected, "{status:?} {moment:?}");
            }
        }
    }

    #[test]
    fn a_tentative_booking_occupies_until_it_lapses() {
        let now = at("2025-05-11T09:00:00Z");
        for (status, expires_at, expected) in [
            (Tentative, None, true),
            (Tentative, Some("2025-05-11T09:00:01Z"), true),
            (Tentative, Some("2025-05-11T09:00:00Z"), false),
            (Booked, Some("2025-05-11T08:00:00Z"), true),
            (CheckedIn, None, true),
            (InProgress, None, true),
            (Completed, None, false),
            (Ended, None, false),
            (Canceled, None, false),
            (NoShow, None, false),
        ] {
            assert_eq!(
                is_occupying(status, expires_at.map(at), now),
                expected,
                "{status:?} {expires_at:?}"
            );
        }
    }

    #[test]
    fn times_are_those_of_how_far_a_visit_is() {
        let (nine, ten, eleven, noon) = (
            at("2025-05-11T09:00:00Z"),
            at("2025-05-11T10:00:00Z"),
            at("2025-05-11T11:00:00Z"),
            at("2025-05-11T12:00:00Z"),
        );
        let step = |times: Times, from, to, now| {
            let transition = check(from, to, Moment::OnItsDay).unwrap();
            times.after(&transition, Moment::OnItsDay, now)
        };
        let times = |checked_in_at, started_at, completed_at| Times {
            checked_in_at,
            started_at,
            completed_at,
        };
        let checked_in = step(Times::default(), Some(Booked), CheckedIn, nine);
        assert_eq!(checked_in, times(Some(nine), None, None));
        let started = step(checked_in, Some(CheckedIn), InProgress, ten);
        assert_eq!(started, times(Some(nine), Some(ten), None));
        let completed = step(started, Some(InProgress), Completed, eleven);
        assert_eq!(completed, times(Some(nine), Some(ten), Some(eleven)));
        assert_eq!(step(completed, Some(Completed), Ended, noon), completed);
        assert_eq!(
            step(completed, Some(Completed), InProgress, noon),
            times(Some(nine), Some(noon), None)
        );
        assert_eq!(
            step(started, Some(InProgress), CheckedIn, noon),
            times(Some(noon), None, None)
        );
        assert_eq!(step(started, Some(InProgress), Canceled, noon), Times::default());
        assert_eq!(step(checked_in, Some(CheckedIn), Booked, noon), Times::default());
        assert_eq!(step(completed, Some(Completed), NoShow, noon), Times::default());
        assert_eq!(
            step(Times::default(), None, Completed, noon),
            times(None, None, Some(noon))
        );
        let late = check(Some(Booked), Completed, Moment::PastItsDay).unwrap();
        assert_eq!(
            Times::default().after(&late, Moment::PastItsDay, noon),
            Times::default()
        );
        let forgotten = check(Some(InProgress), Completed, Moment::PastItsDay).unwrap();
        assert_eq!(
            started.after(&forgotten, Moment::PastItsDay, noon),
            times(Some(nine), Some(ten), Some(noon))
        );
    }
}
