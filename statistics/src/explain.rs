//! Why a patient is in a cohort, or is not: one patient at a time, written straight from the definitions.
//!
//! It shares nothing with `resolve` but the words and the calendar, so that tests can hold the two against each other.

use super::{CohortKind, DayRange, Definition, Period, Question, VisitRow, VisitStatus, WeekStart};
use string_enum::string_enum;

string_enum!(
    /// What decided that a patient is in a cohort, or is not.
    Rule {
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

/// Whether a patient is in a cohort of a bucket, and what decided it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MembershipFinding {
    pub included: bool,
    pub rule: Rule,
    /// The visits that decided it, in the order of a history; none where there is no visit to speak of.
    pub visits: Vec<VisitRow>,
}

/// Visits that count, or else what keeps the patient's visits from it, and which ones.
type MatchedVisits = Result<Vec<VisitRow>, (Rule, Vec<VisitRow>)>;

/// One patient's visits, as a question sees them.
pub struct PatientEvaluation<'a> {
    question: &'a Question,
    definition: &'a Definition,
    week_start: WeekStart,
    /// In the order of a history.
    visits: Vec<VisitRow>,
}

impl<'a> PatientEvaluation<'a> {
    /// Takes all visits of one patient, in any order.
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

    fn history(&self) -> impl DoubleEndedIterator<Item = &VisitRow> {
        let as_of = self.question.as_of;
        self.visits
            .iter()
            .filter(move |visit| visit.status.attended() && visit.date <= as_of)
    }

    /// The first visit, as counted.
    #[must_use]
    pub fn first(&self) -> Option<&VisitRow> {
        self.history().next()
    }

    /// The last visit, as counted.
    #[must_use]
    pub fn last(&self) -> Option<&VisitRow> {
        self.history().next_back()
    }

    /// Days from the last visit to asOf.
    #[must_use]
    pub fn days_silent(&self) -> Option<i32> {
        self.last().map(|last| self.question.as_of.0 - last.date.0)
    }

    /// Whether the patient is in the cohort of a bucket with these bounds, and what decided it.
    #[must_use]
    pub fn finding(&self, bounds: DayRange, kind: CohortKind) -> MembershipFinding {
        let looked = match kind {
            CohortKind::NoShow => self.no_shows(bounds),
            CohortKind::Canceled => self
                .look(bounds, |visit| visit.status == VisitStatus::Canceled)
                .map(|visits| (Rule::Canceled, visits)),
            _ => match self.look(bounds, |visit| visit.status.attended()) {
                Ok(visits) => return self.visitor(bounds, kind, visits),
                Err(missed) => Err(missed),
            },
        };
        let included = looked.is_ok();
        let (rule, visits) = looked.unwrap_or_else(|missed| missed);
        MembershipFinding { included, rule, visits }
    }

    /// Of somebody who has attended in the bucket: by these visits.
    fn visitor(&self, bounds: DayRange, kind: CohortKind, here: Vec<VisitRow>) -> MembershipFinding {
        let (Some(&first), Some(&last)) = (self.first(), self.last()) else {
            // Who has attended has a first visit.
            return MembershipFinding {
                included: false,
                rule: Rule::NoVisit,
                visits: Vec::new(),
            };
        };
        let newness = if here.iter().any(|visit| visit.id == first.id) {
            Rule::FirstVisitHere
        } else if bounds.contains(first.date) && self.question.range.contains(first.date) {
            Rule::FirstVisitFilteredOut
        } else {
            Rule::FirstVisitEarlier
        };
        let new = newness == Rule::FirstVisitHere;
        let outcome = if self.question.as_of.0 - last.date.0 >= self.definition.churn_after_days {
            Rule::Silent
        } else if last.date > first.date {
            Rule::CameAgain
        } else {
            Rule::NotYetAgain
        };
        let (included, rule) = match kind {
            CohortKind::New => (new, newness),
            CohortKind::Returning => (!new, newness),
            CohortKind::ChurnSuspected => (new && outcome == Rule::Silent, if new { outcome } else { newness }),
            CohortKind::Retained => (new && outcome == Rule::CameAgain, if new { outcome } else { newness }),
            CohortKind::Pending => (new && outcome == Rule::NotYetAgain, if new { outcome } else { newness }),
            CohortKind::Visitors | CohortKind::NoShow | CohortKind::Canceled => (true, Rule::Attended),
        };
        let visits = match rule {
            Rule::Attended => here,
            Rule::Silent | Rule::CameAgain | Rule::NotYetAgain if first.id != last.id => vec![first, last],
            _ => vec![first],
        };
        MembershipFinding { included, rule, visits }
    }

    fn no_shows(&self, bounds: DayRange) -> Result<(Rule, Vec<VisitRow>), (Rule, Vec<VisitRow>)> {
        let overdue = |visit: &VisitRow| {
            let past = self.question.as_of.0 - visit.date.0;
            visit.status == VisitStatus::Booked && self.definition.overdue_after_days.is_some_and(|days| past >= days)
        };
        let missed = |visit: &VisitRow| visit.status == VisitStatus::NoShow;
        match self.look(bounds, |visit| missed(visit) || overdue(visit)) {
            Ok(visits) if visits.iter().any(missed) => Ok((Rule::NoShow, visits)),
            Ok(visits) => Ok((Rule::Overdue, visits)),
            Err((Rule::OtherStatus, visits)) if self.definition.overdue_after_days.is_some() => {
                let booked: Vec<_> = visits
                    .iter()
                    .filter(|visit| visit.status == VisitStatus::Booked)
                    .copied()
                    .collect();
                if booked.is_empty() {
                    Err((Rule::OtherStatus, visits))
                } else {
                    Err((Rule::NotOverdueYet, booked))
                }
            }
            Err(missed) => Err(missed),
        }
    }

    /// The visits of a bucket that are of a kind and count.
    fn look(&self, bounds: DayRange, is: impl Fn(&VisitRow) -> bool) -> MatchedVisits {
        let here: Vec<VisitRow> = self
            .visits
            .iter()
            .filter(|visit| bounds.contains(visit.date))
            .copied()
            .collect();
        let wanted: Vec<VisitRow> = here.iter().filter(|visit| is(visit)).copied().collect();
        let kept_off = |rule: Option<Rule>| -> Vec<VisitRow> {
            wanted
                .iter()
                .filter(|visit| self.obstacle(visit) == rule)
                .copied()
                .collect()
        };
        // The nearest miss first.
        for rule in [
            None,
            Some(Rule::FilteredOut),
            Some(Rule::AfterAsOf),
            Some(Rule::OutsideRange),
        ] {
            let visits = kept_off(rule);
            match rule {
                _ if visits.is_empty() => {}
                None => return Ok(visits),
                Some(rule) => return Err((rule, visits)),
            }
        }
        let rule = if here.is_empty() {
            Rule::NoVisit
        } else {
            Rule::OtherStatus
        };
        Err((rule, here))
    }

    /// What keeps a visit from being looked at.
    fn obstacle(&self, visit: &VisitRow) -> Option<Rule> {
        if !self.question.range.contains(visit.date) {
            Some(Rule::OutsideRange)
        } else if visit.date > self.question.as_of {
            Some(Rule::AfterAsOf)
        } else if !self.passes(visit) {
            Some(Rule::FilteredOut)
        } else {
            None
        }
    }

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

    /// A finding in words: an English sentence with dates and numbers, without names.
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
            Rule::Attended => format!("Attended on {dates}."),
            Rule::FirstVisitHere => format!("NEW here, since the visit of {dates} is the first."),
            Rule::FirstVisitEarlier => match finding.visits.first() {
                Some(first) if bounds.contains(first.date) => {
                    format!("The visit of {dates} is the first, and lies before the range.")
                }
                Some(first) if self.passes(first) => {
                    let unit = self.question.period.around(first.date, self.week_start);
                    let when = when(self.question.period, unit);
                    format!("NEW {when}, since the visit of {dates} is the first.")
                }
                _ => format!("The visit of {dates} is the first, and does not pass the filter: NEW nowhere."),
            },
            Rule::FirstVisitFilteredOut => {
                format!("The visit of {dates} is the first, and does not pass the filter: NEW nowhere.")
            }
            Rule::Silent => {
                format!("NEW here, and silent for {silent} days at asOf, since the visit of {last}; {churn}.")
            }
            Rule::CameAgain => {
                format!("NEW here, and came again: the last visit, of {last}, is {silent} days before asOf; {churn}.")
            }
            Rule::NotYetAgain => format!(
                "NEW here, and has not come again on a later day: the visit of {last} is {silent} days before asOf; {churn}."
            ),
            Rule::NoShow => format!("Did not turn up: {}.", statuses(&finding.visits)),
            Rule::Overdue => format!("Still BOOKED, and overdue at asOf: {dates}; {overdue}."),
            Rule::NotOverdueYet => format!("Still BOOKED, and not overdue at asOf yet: {dates}; {overdue}."),
            Rule::Canceled => format!("Canceled: {dates}."),
            Rule::FilteredOut => format!("{} not pass the filter.", subject(&finding.visits, "does", "do")),
            Rule::AfterAsOf => format!(
                "{} after asOf, {}.",
                subject(&finding.visits, "lies", "lie"),
                self.question.as_of
            ),
            Rule::OutsideRange => format!("{} outside the range.", subject(&finding.visits, "lies", "lie")),
            Rule::OtherStatus => {
                let what = match kind {
                    CohortKind::NoShow => "is a no-show",
                    CohortKind::Canceled => "was canceled",
                    _ => "was attended",
                };
                format!("No visit here {what}: {}.", statuses(&finding.visits))
            }
            Rule::NoVisit => "No visit lies here.".to_owned(),
        }
    }
}

/// As many visits as a sentence names; of more it says how many there are.
const NAMED: usize = 3;

fn list(visits: &[VisitRow], name: impl Fn(&VisitRow) -> String) -> String {
    let names: Vec<String> = visits.iter().take(NAMED).map(name).collect();
    match visits.len().saturating_sub(NAMED) {
        0 => match names.split_last() {
            Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
            _ => names.concat(),
        },
        more => format!("{} and {more} more", names.join(", ")),
    }
}

/// The days of the visits.
pub(super) fn dates(visits: &[VisitRow]) -> String {
    list(visits, |visit| visit.date.to_string())
}

fn statuses(visits: &[VisitRow]) -> String {
    list(visits, |visit| format!("{} ({})", visit.date, visit.status.as_str()))
}

/// The visits as what a sentence is about, with its verb for one and for more.
pub(super) fn subject(visits: &[VisitRow], one: &str, more: &str) -> String {
    match visits {
        [visit] => format!("The visit of {} {one}", visit.date),
        visits => format!("The visits of {} {more}", dates(visits)),
    }
}

/// A calendar unit in words, with its preposition: "in April 2025".
pub(super) fn when(period: Period, unit: DayRange) -> String {
    let first = unit.from.date();
    match period {
        Period::Day => format!("on {first}"),
        Period::Week => format!("in the week from {first}"),
        Period::Month => first.format("in %B %Y").to_string(),
        Period::Quarter => format!("in the quarter from {first}"),
        Period::Year => first.format("in %Y").to_string(),
    }
}
