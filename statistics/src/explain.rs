//! Explains why a patient is in a cohort or not.
//!
//! This implements `docs/data/definitions.md` for one patient, independently of `resolve`: both share only types and the
//! calendar, so that tests can compare them.

use super::{CohortKind, DayRange, Definition, Period, Question, VisitRow, VisitStatus, WeekStart};
use string_enum::string_enum;

string_enum!(
    /// The reason why a patient is in a cohort or not.
    MembershipRule {
        Attended = "ATTENDED",
        FirstVisitHere = "FIRST_VISIT_HERE",
        FirstVisitEarlier = "FIRST_VISIT_EARLIER",
        FirstVisitFilteredOut = "FIRST_VISIT_FILTERED_OUT",
        Silent = "SILENT",
        CameAgain = "CAME_AGAIN",
        NotYetAgain = "NOT_YET_AGAIN",
        NoShow = "NO_SHOW",
        Overdue = "OVERDUE",
        NotOverdueYet = "NOT_OVERDUE_YET",
        Canceled = "CANCELED",
        FilteredOut = "FILTERED_OUT",
        AfterAsOf = "AFTER_AS_OF",
        OutsideRange = "OUTSIDE_RANGE",
        OtherStatus = "OTHER_STATUS",
        NoVisit = "NO_VISIT",
    }
);

/// Whether a patient is in a cohort of a bucket, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MembershipFinding {
    pub included: bool,
    pub rule: MembershipRule,
    /// The visits that the rule refers to, in the order of a history; empty for [`MembershipRule::NoVisit`].
    pub visits: Vec<VisitRow>,
}

/// A rule and the visits that it refers to.
type RuleVisits = (MembershipRule, Vec<VisitRow>);

/// The visits that count, or else why none does.
type MatchedVisits = Result<Vec<VisitRow>, RuleVisits>;

/// Evaluates the cohorts of a question for one patient.
pub struct PatientEvaluation<'a> {
    question: &'a Question,
    definition: &'a Definition,
    week_start: WeekStart,
    /// All visits of the patient, sorted by [`VisitRow::history_key`].
    visits: Vec<VisitRow>,
}

impl<'a> PatientEvaluation<'a> {
    /// `visits` are all visits of one patient, in any order.
    #[must_use]
    pub fn new(
        question: &'a Question,
        definition: &'a Definition,
        week_start: WeekStart,
        mut visits: Vec<VisitRow>,
    ) -> Self {
        visits.sort_unstable_by_key(VisitRow::history_key);
        Self {
            question,
            definition,
            week_start,
            visits,
        }
    }

    /// The attended visits up to asOf.
    fn history(&self) -> impl DoubleEndedIterator<Item = &VisitRow> {
        let as_of = self.question.as_of;
        self.visits
            .iter()
            .filter(move |visit| visit.status.attended() && visit.date <= as_of)
    }

    /// The first visit of the history.
    #[must_use]
    pub fn first(&self) -> Option<&VisitRow> {
        self.history().next()
    }

    /// The last visit of the history.
    #[must_use]
    pub fn last(&self) -> Option<&VisitRow> {
        self.history().next_back()
    }

    /// The number of days from the last visit of the history to asOf.
    #[must_use]
    pub fn days_silent(&self) -> Option<i32> {
        self.last().map(|last| self.question.as_of.0 - last.date.0)
    }

    /// Whether the patient is in the cohort of the bucket with these bounds, and why.
    #[must_use]
    pub fn finding(&self, bounds: DayRange, kind: CohortKind) -> MembershipFinding {
        let result = match kind {
            CohortKind::NoShow => self.no_shows(bounds),
            CohortKind::Canceled => self
                .matching_visits(bounds, |visit| visit.status == VisitStatus::Canceled)
                .map(|visits| (MembershipRule::Canceled, visits)),
            _ => match self.matching_visits(bounds, |visit| visit.status.attended()) {
                Ok(visits) => return self.visitor(bounds, kind, visits),
                Err(reason) => Err(reason),
            },
        };
        let included = result.is_ok();
        let (rule, visits) = result.unwrap_or_else(|reason| reason);
        MembershipFinding { included, rule, visits }
    }

    /// The finding for a patient with these counted attended visits in the bucket.
    fn visitor(&self, bounds: DayRange, kind: CohortKind, attended: Vec<VisitRow>) -> MembershipFinding {
        let (Some(&first), Some(&last)) = (self.first(), self.last()) else {
            // Unreachable: `attended` is part of the history.
            return MembershipFinding {
                included: false,
                rule: MembershipRule::NoVisit,
                visits: Vec::new(),
            };
        };
        let first_visit = if attended.iter().any(|visit| visit.id == first.id) {
            MembershipRule::FirstVisitHere
        } else if bounds.contains(first.date) && self.question.range.contains(first.date) {
            MembershipRule::FirstVisitFilteredOut
        } else {
            MembershipRule::FirstVisitEarlier
        };
        let new = first_visit == MembershipRule::FirstVisitHere;
        let outcome = if self.question.as_of.0 - last.date.0 >= self.definition.churn_after_days {
            MembershipRule::Silent
        } else if last.date > first.date {
            MembershipRule::CameAgain
        } else {
            MembershipRule::NotYetAgain
        };
        let (included, rule) = match kind {
            CohortKind::New => (new, first_visit),
            CohortKind::Returning => (!new, first_visit),
            CohortKind::ChurnSuspected => (
                new && outcome == MembershipRule::Silent,
                if new { outcome } else { first_visit },
            ),
            CohortKind::Retained => (
                new && outcome == MembershipRule::CameAgain,
                if new { outcome } else { first_visit },
            ),
            CohortKind::Pending => (
                new && outcome == MembershipRule::NotYetAgain,
                if new { outcome } else { first_visit },
            ),
            CohortKind::Visitors | CohortKind::NoShow | CohortKind::Canceled => (true, MembershipRule::Attended),
        };
        let visits = match rule {
            MembershipRule::Attended => attended,
            MembershipRule::Silent | MembershipRule::CameAgain | MembershipRule::NotYetAgain if first.id != last.id => {
                vec![first, last]
            }
            _ => vec![first],
        };
        MembershipFinding { included, rule, visits }
    }

    /// The rule and visits for NO_SHOW: `Ok` if the patient is in it.
    fn no_shows(&self, bounds: DayRange) -> Result<RuleVisits, RuleVisits> {
        let overdue = |visit: &VisitRow| {
            let age = self.question.as_of.0 - visit.date.0;
            visit.status == VisitStatus::Booked && self.definition.overdue_after_days.is_some_and(|days| age >= days)
        };
        let no_show = |visit: &VisitRow| visit.status == VisitStatus::NoShow;
        match self.matching_visits(bounds, |visit| no_show(visit) || overdue(visit)) {
            Ok(visits) if visits.iter().any(no_show) => Ok((MembershipRule::NoShow, visits)),
            Ok(visits) => Ok((MembershipRule::Overdue, visits)),
            Err((MembershipRule::OtherStatus, visits)) if self.definition.overdue_after_days.is_some() => {
                let booked: Vec<_> = visits
                    .iter()
                    .filter(|visit| visit.status == VisitStatus::Booked)
                    .copied()
                    .collect();
                if booked.is_empty() {
                    Err((MembershipRule::OtherStatus, visits))
                } else {
                    Err((MembershipRule::NotOverdueYet, booked))
                }
            }
            Err(reason) => Err(reason),
        }
    }

    /// The visits in the bounds that match the predicate and count.
    fn matching_visits(&self, bounds: DayRange, matches: impl Fn(&VisitRow) -> bool) -> MatchedVisits {
        let in_bounds: Vec<VisitRow> = self
            .visits
            .iter()
            .filter(|visit| bounds.contains(visit.date))
            .copied()
            .collect();
        let matching: Vec<VisitRow> = in_bounds.iter().filter(|visit| matches(visit)).copied().collect();
        let excluded_by = |rule: Option<MembershipRule>| -> Vec<VisitRow> {
            matching
                .iter()
                .filter(|visit| self.exclusion(visit) == rule)
                .copied()
                .collect()
        };
        // If no visit counts, report the visits that fail the fewest conditions: first those that only fail the filter.
        for rule in [
            None,
            Some(MembershipRule::FilteredOut),
            Some(MembershipRule::AfterAsOf),
            Some(MembershipRule::OutsideRange),
        ] {
            let visits = excluded_by(rule);
            match rule {
                _ if visits.is_empty() => {}
                None => return Ok(visits),
                Some(rule) => return Err((rule, visits)),
            }
        }
        let rule = if in_bounds.is_empty() {
            MembershipRule::NoVisit
        } else {
            MembershipRule::OtherStatus
        };
        Err((rule, in_bounds))
    }

    /// The first condition of a counted visit that this one fails: the range, asOf or the filter.
    fn exclusion(&self, visit: &VisitRow) -> Option<MembershipRule> {
        if !self.question.range.contains(visit.date) {
            Some(MembershipRule::OutsideRange)
        } else if visit.date > self.question.as_of {
            Some(MembershipRule::AfterAsOf)
        } else if !self.passes(visit) {
            Some(MembershipRule::FilteredOut)
        } else {
            None
        }
    }

    /// Whether the visit passes the filter.
    fn passes(&self, visit: &VisitRow) -> bool {
        let filter = &self.question.filter;
        let one_of = |ids: &Option<Vec<i64>>, id: Option<i64>| {
            ids.as_ref().is_none_or(|ids| id.is_some_and(|id| ids.contains(&id)))
        };
        let channels = filter.channels.as_ref();
        one_of(&filter.departments, visit.department)
            && one_of(&filter.doctors, visit.doctor)
            && channels.is_none_or(|channels| channels.contains(&visit.channel))
    }

    /// A finding as an English sentence with dates and numbers, without names.
    #[must_use]
    pub fn sentence(&self, bounds: DayRange, kind: CohortKind, finding: &MembershipFinding) -> String {
        let dates = dates(&finding.visits);
        let churn = format!("churnAfterDays is {}", self.definition.churn_after_days);
        let overdue = format!(
            "overdueAfterDays is {}",
            self.definition.overdue_after_days.unwrap_or_default()
        );
        let silent = self.days_silent().unwrap_or_default();
        let last = self.last().map(|last| last.date.to_string()).unwrap_or_default();
        match finding.rule {
            MembershipRule::Attended => format!("Attended on {dates}."),
            MembershipRule::FirstVisitHere => format!("NEW here, since the visit of {dates} is the first."),
            MembershipRule::FirstVisitEarlier => match finding.visits.first() {
                Some(first) if bounds.contains(first.date) => {
                    format!("The visit of {dates} is the first, and lies before the range.")
                }
                Some(first) if self.passes(first) => {
                    let unit = self.question.period.unit_of(first.date, self.week_start);
                    let when = when(self.question.period, unit);
                    format!("NEW {when}, since the visit of {dates} is the first.")
                }
                _ => format!("The visit of {dates} is the first, and does not pass the filter: NEW in no bucket."),
            },
            MembershipRule::FirstVisitFilteredOut => {
                format!("The visit of {dates} is the first, and does not pass the filter: NEW in no bucket.")
            }
            MembershipRule::Silent => {
                format!("NEW here, and silent for {silent} days at asOf, since the visit of {last}; {churn}.")
            }
            MembershipRule::CameAgain => {
                format!("NEW here, and came again: the last visit, of {last}, is {silent} days before asOf; {churn}.")
            }
            MembershipRule::NotYetAgain => format!(
                "NEW here, and has not come again on a later day: the visit of {last} is {silent} days before asOf; {churn}."
            ),
            MembershipRule::NoShow => format!("No-show: {}.", statuses(&finding.visits)),
            MembershipRule::Overdue => format!("Still BOOKED, and overdue at asOf: {dates}; {overdue}."),
            MembershipRule::NotOverdueYet => format!("Still BOOKED, and not yet overdue at asOf: {dates}; {overdue}."),
            MembershipRule::Canceled => format!("Canceled: {dates}."),
            MembershipRule::FilteredOut => format!("{} not pass the filter.", subject(&finding.visits, "does", "do")),
            MembershipRule::AfterAsOf => format!(
                "{} after asOf, {}.",
                subject(&finding.visits, "lies", "lie"),
                self.question.as_of
            ),
            MembershipRule::OutsideRange => format!("{} outside the range.", subject(&finding.visits, "lies", "lie")),
            MembershipRule::OtherStatus => {
                let what = match kind {
                    CohortKind::NoShow => "is a no-show",
                    CohortKind::Canceled => "was canceled",
                    _ => "was attended",
                };
                format!("No visit here {what}: {}.", statuses(&finding.visits))
            }
            MembershipRule::NoVisit => "No visit here.".to_owned(),
        }
    }
}

/// The maximum number of visits that a sentence lists; it counts the others.
const MAX_LISTED: usize = 3;

/// The visits as an English enumeration.
fn list(visits: &[VisitRow], name: impl Fn(&VisitRow) -> String) -> String {
    let names: Vec<String> = visits.iter().take(MAX_LISTED).map(name).collect();
    match visits.len().saturating_sub(MAX_LISTED) {
        0 => match names.split_last() {
            Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
            _ => names.concat(),
        },
        more => format!("{} and {more} more", names.join(", ")),
    }
}

/// The dates of the visits, as an enumeration.
pub(super) fn dates(visits: &[VisitRow]) -> String {
    list(visits, |visit| visit.date.to_string())
}

/// The dates and statuses of the visits, as an enumeration.
fn statuses(visits: &[VisitRow]) -> String {
    list(visits, |visit| format!("{} ({})", visit.date, visit.status.as_str()))
}

/// A clause whose subject is the visits, with the singular or plural form of its verb.
pub(super) fn subject(visits: &[VisitRow], singular: &str, plural: &str) -> String {
    match visits {
        [visit] => format!("The visit of {} {singular}", visit.date),
        visits => format!("The visits of {} {plural}", dates(visits)),
    }
}

/// A calendar unit with its preposition, for example "in April 2025".
#[must_use]
pub fn when(period: Period, unit: DayRange) -> String {
    let first = unit.from.date();
    match period {
        Period::Day => format!("on {first}"),
        Period::Week => format!("in the week from {first}"),
        Period::Month => first.format("in %B %Y").to_string(),
        Period::Quarter => format!("in the quarter from {first}"),
        Period::Year => first.format("in %Y").to_string(),
    }
}
