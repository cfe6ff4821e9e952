//! A naive implementation of the statistical definitions, which follows their text and ignores speed. The core and the
//! servers are compared with it.

use std::collections::{BTreeMap, BTreeSet};

use rollcall::statistics::{CohortKind, Day, DayRange, Definition, Filter, Question, VisitRow, VisitStatus};

/// The expected content of a cohort: patients with the number of their visits, and visits, by ID.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Expected {
    pub patients: BTreeMap<i64, usize>,
    pub visits: BTreeSet<i64>,
}

pub struct Reference<'a> {
    visits: &'a [VisitRow],
    question: &'a Question,
    definition: &'a Definition,
    /// For each patient, the attended visits in the whole hospital up to asOf, in order.
    histories: BTreeMap<i64, Vec<&'a VisitRow>>,
}

impl<'a> Reference<'a> {
    pub fn new(visits: &'a [VisitRow], question: &'a Question, definition: &'a Definition) -> Self {
        let mut histories: BTreeMap<i64, Vec<_>> = BTreeMap::new();
        for visit in visits {
            if visit.status.attended() && visit.date <= question.as_of {
                histories.entry(visit.patient).or_default().push(visit);
            }
        }
        for history in histories.values_mut() {
            history.sort_by_key(|v| (v.date, v.scheduled_at, v.id));
        }
        Self {
            visits,
            question,
            definition,
            histories,
        }
    }

    fn history(&self, patient: i64) -> &[&'a VisitRow] {
        self.histories.get(&patient).map_or(&[], Vec::as_slice)
    }

    fn passes(filter: &Filter, visit: &VisitRow) -> bool {
        let of = |list: &Option<Vec<i64>>, id: Option<i64>| {
            list.as_ref().is_none_or(|list| id.is_some_and(|id| list.contains(&id)))
        };
        of(&filter.departments, visit.department)
            && of(&filter.doctors, visit.doctor)
            && filter
                .channels
                .as_ref()
                .is_none_or(|list| list.contains(&visit.channel))
    }

    /// Whether the visit passes the question's filter.
    pub fn passes_filter(&self, visit: &VisitRow) -> bool {
        Self::passes(&self.question.filter, visit)
    }

    fn is_no_show(&self, visit: &VisitRow) -> bool {
        visit.status == VisitStatus::NoShow
            || visit.status == VisitStatus::Booked
                && self
                    .definition
                    .overdue_after_days
                    .is_some_and(|days| self.question.as_of.0 - visit.date.0 >= days)
    }

    /// A cohort of a bucket, given the days that the bucket covers.
    pub fn cohort(&self, covered: Option<DayRange>, kind: CohortKind) -> Expected {
        let Some(covered) = covered else {
            return Expected::default();
        };
        let considered: Vec<&VisitRow> = self
            .visits
            .iter()
            .filter(|v| covered.contains(v.date) && v.date <= self.question.as_of)
            .filter(|v| Self::passes(&self.question.filter, v))
            .collect();
        let considered_ids: BTreeSet<i64> = considered.iter().map(|v| v.id).collect();
        let counted = |visit: &VisitRow| match kind {
            CohortKind::NoShow => self.is_no_show(visit),
            CohortKind::Canceled => visit.status == VisitStatus::Canceled,
            _ => visit.status.attended() && self.is_in_cohort(kind, visit.patient, &considered_ids),
        };
        let mut expected = Expected::default();
        for visit in considered.iter().filter(|v| counted(v)) {
            *expected.patients.entry(visit.patient).or_default() += 1;
            expected.visits.insert(visit.id);
        }
        expected
    }

    /// Whether a visitor belongs to the cohort, given the visits in the bucket.
    fn is_in_cohort(&self, kind: CohortKind, patient: i64, considered: &BTreeSet<i64>) -> bool {
        let history = self.history(patient);
        let (Some(first), Some(last)) = (history.first(), history.last()) else {
            return false;
        };
        let new = considered.contains(&first.id);
        let suspected = self.question.as_of.0 - last.date.0 >= self.definition.churn_after_days;
        match kind {
            CohortKind::Visitors => true,
            CohortKind::New => new,
            CohortKind::Returning => !new,
            CohortKind::ChurnSuspected => new && suspected,
            CohortKind::Retained => new && !suspected && last.date > first.date,
            CohortKind::Pending => new && !suspected && last.date == first.date,
            CohortKind::NoShow | CohortKind::Canceled => false,
        }
    }

    /// The days of a patient's first and last visit, as an edge shows them.
    pub fn first_and_last_visit(&self, patient: i64) -> (Option<Day>, Option<Day>) {
        let history = self.history(patient);
        (history.first().map(|v| v.date), history.last().map(|v| v.date))
    }
}
