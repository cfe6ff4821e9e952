//! The rules of the front desk: the life of a visit, working hours and slots, codes, chart numbers, the matching of duplicates, and recall lists.
//!
//! It does no I/O, reads no clock and is not async: callers pass the time.

mod chart_numbers;
mod codes;
mod hours;
mod local_time;
mod matching;
mod recall;
mod slots;
mod status;
mod time_of_day;

pub use chart_numbers::{ChartNumber, FreeNumberSearch, MAX_DIGITS, last_of_most_frequent};
pub use codes::{InvalidCode, VisitCode, VisitCodePurpose};
pub use hours::{
    HoursError, HoursProblem, Interval, MAX_HOURS, Weekday, WorkingHours, is_within, validate, working_intervals,
};
pub use local_time::{end_of_day, start_of_day};
pub use matching::{MatchReason, Person, likelihood, reasons};
pub use recall::{
    CLAIM_MINUTES, Candidate, ContactOutcome, LeftOutReason, MAX_CLAIMED, RecallCounts, RecallOptions, left_out,
};
pub use slots::{Schedule, Slot, SlotState};
pub use status::{
    GRACE_HOURS, Moment, Refused, Times, TooEarly, Transition, check, check_move, has_lapsed, is_occupying,
    is_past_check_in, is_past_start, moment, moves_freely, transitions,
};
pub use time_of_day::{InvalidTimeOfDay, TimeOfDay};
