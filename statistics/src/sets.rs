//! Sets of cohorts: patients of several lists, put together.

use super::ledger::IdNumbers;
use super::snapshot::{CohortList, CountedPatient, CountedVisit};

/// What a set is made of. Lists are given by their places among the sources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetExpression {
    List(usize),
    /// Patients of any of these.
    AnyOf(Vec<Self>),
    /// Patients of all of these.
    AllOf(Vec<Self>),
    /// Patients of the first who are not in the second.
    ButNot(Box<Self>, Box<Self>),
}

/// The set that the expression makes of the sources, which are ordered from the newest to the oldest. Patients are matched by who stays
/// where records were merged, `person`, and listed as that one. The visits are those of the sources that are theirs, each once, as the
/// newest source has them; of a difference, those of its first part.
#[must_use]
pub fn combine(expression: &SetExpression, sources: &[&CohortList], person: impl Fn(i64) -> i64) -> CohortList {
    let people: Vec<Vec<i64>> = sources
        .iter()
        .map(|list| sorted(list.patients.iter().map(|patient| person(patient.id)).collect()))
        .collect();
    let members = members(expression, &people);
    let mut shown = vec![false; sources.len()];
    mark_shown(expression, &mut shown);
    let places: IdNumbers = members.iter().copied().zip(0..).collect();
    let blank = |&id: &i64| CountedPatient {
        id,
        first_visit: None,
        last_visit: None,
        visits: 0,
    };
    let mut patients: Vec<CountedPatient> = members.iter().map(blank).collect();
    // The source that each patient's dates are of.
    let mut dated: Vec<Option<usize>> = vec![None; members.len()];
    let mut visits: Vec<CountedVisit> = Vec::new();
    for (source, list) in sources.iter().enumerate().filter(|(source, _)| shown[*source]) {
        for counted in &list.patients {
            let Some(&place) = places.get(&person(counted.id)) else {
                continue;
            };
            let (patient, dated) = (&mut patients[place as usize], &mut dated[place as usize]);
            if dated.is_some_and(|earlier| earlier != source) {
                continue;
            }
            // Two records of one person in one source have a history together.
            *dated = Some(source);
            patient.first_visit = [patient.first_visit, counted.first_visit].into_iter().flatten().min();
            patient.last_visit = patient.last_visit.max(counted.last_visit);
        }
        visits.extend(list.visits.iter().filter_map(|visit| {
            let patient = person(visit.patient);
            places
                .contains_key(&patient)
                .then_some(CountedVisit { patient, ..*visit })
        }));
    }
    // The stable sort leaves what the newest source has first.
    visits.sort_by_key(|visit| visit.id);
    visits.dedup_by_key(|visit| visit.id);
    CohortList { patients, visits }.counted()
}

fn sorted(mut ids: Vec<i64>) -> Vec<i64> {
    // The stable sort is faster here, since most are in order already.
    ids.sort();
    ids.dedup();
    ids
}

/// The members, ascending, of sources that are given as ascending ids.
fn members(expression: &SetExpression, people: &[Vec<i64>]) -> Vec<i64> {
    match expression {
        SetExpression::List(place) => people[*place].clone(),
        SetExpression::AnyOf(parts) => sorted(parts.iter().flat_map(|part| members(part, people)).collect()),
        SetExpression::AllOf(parts) => {
            let mut parts = parts.iter().map(|part| members(part, people));
            let first = parts.next().unwrap_or_default();
            parts.fold(first, |common, part| kept(common, &part, true))
        }
        SetExpression::ButNot(of, without) => kept(members(of, people), &members(without, people), false),
    }
}

/// Those ids that are among the others, or are not. Both are ascending.
fn kept(mut ids: Vec<i64>, others: &[i64], among: bool) -> Vec<i64> {
    let mut others = others.iter().copied().peekable();
    ids.retain(|&id| {
        while others.next_if(|&other| other < id).is_some() {}
        (others.peek() == Some(&id)) == among
    });
    ids
}

/// Marks the sources whose visits a set has.
fn mark_shown(expression: &SetExpression, shown: &mut [bool]) {
    match expression {
        SetExpression::List(place) => shown[*place] = true,
        SetExpression::AnyOf(parts) | SetExpression::AllOf(parts) => {
            parts.iter().for_each(|part| mark_shown(part, shown));
        }
        SetExpression::ButNot(of, _) => mark_shown(of, shown),
    }
}

impl CohortList {
    /// The list with each patient's number of visits set to those that it has.
    pub(crate) fn counted(mut self) -> Self {
        let places: IdNumbers = self.patients.iter().map(|patient| patient.id).zip(0..).collect();
        self.patients.iter_mut().for_each(|patient| patient.visits = 0);
        for visit in &self.visits {
            if let Some(&place) = places.get(&visit.patient) {
                self.patients[place as usize].visits += 1;
            }
        }
        self
    }

    /// The part of the list with these patients and their visits.
    #[must_use]
    pub fn narrowed(&self, keep: impl Fn(i64) -> bool) -> Self {
        Self {
            patients: self
                .patients
                .iter()
                .filter(|patient| keep(patient.id))
                .copied()
                .collect(),
            visits: self
                .visits
                .iter()
                .filter(|visit| keep(visit.patient))
                .copied()
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Day, VisitStatus};

    /// A list of one visit for each pair of a patient and a visit, all on this day.
    fn list(day: i32, visits: &[(i64, i64)]) -> CohortList {
        let mut patients: Vec<i64> = visits.iter().map(|(patient, _)| *patient).collect();
        patients = sorted(patients);
        CohortList {
            patients: patients
                .into_iter()
                .map(|id| CountedPatient {
                    id,
                    first_visit: Some(Day(day)),
                    last_visit: Some(Day(day)),
                    visits: 1,
                })
                .collect(),
            visits: visits
                .iter()
                .map(|&(patient, id)| CountedVisit {
                    id,
                    patient,
                    date: Day(day),
                    status: VisitStatus::Completed,
                })
                .collect(),
        }
    }

    /// Patients with their number of visits and the last one, and visits with patient and day.
    type Shown = (Vec<(i64, u32, Option<Day>)>, Vec<(i64, i64, i32)>);

    fn shown(set: &CohortList) -> Shown {
        (
            set.patients.iter().map(|p| (p.id, p.visits, p.last_visit)).collect(),
            set.visits.iter().map(|v| (v.id, v.patient, v.date.0)).collect(),
        )
    }

    #[test]
    fn sets_have_the_visits_of_their_sources_each_once() {
        use SetExpression::{AllOf, AnyOf, ButNot, List};
        let newer = list(20, &[(1, 10), (2, 11), (4, 14)]);
        let older = list(10, &[(1, 10), (2, 12), (3, 13)]);
        let sources = [&newer, &older];
        let of = |expression: SetExpression| shown(&combine(&expression, &sources, |id| id));
        let days = |day| Some(Day(day));
        let any = of(AnyOf(vec![List(0), List(1)]));
        assert_eq!(
            any.0,
            [(1, 1, days(20)), (2, 2, days(20)), (3, 1, days(10)), (4, 1, days(20))]
        );
        assert_eq!(any.1, [(10, 1, 20), (11, 2, 20), (12, 2, 10), (13, 3, 10), (14, 4, 20)]);
        let all = of(AllOf(vec![List(1), List(0)]));
        assert_eq!(all.0, [(1, 1, days(20)), (2, 2, days(20))]);
        let older_only = of(ButNot(Box::new(List(1)), Box::new(List(0))));
        assert_eq!(older_only, (vec![(3, 1, days(10))], vec![(13, 3, 10)]));
        assert_eq!(of(AllOf(vec![])), (vec![], vec![]));
    }

    #[test]
    fn merged_patients_are_one() {
        use SetExpression::{AllOf, ButNot, List};
        let (newer, older) = (list(20, &[(1, 10), (5, 15)]), list(10, &[(2, 12)]));
        let sources = [&newer, &older];
        let person = |id| if id == 2 || id == 5 { 1 } else { id };
        let both = shown(&combine(&AllOf(vec![List(0), List(1)]), &sources, person));
        assert_eq!(both.0, [(1, 3, Some(Day(20)))]);
        assert_eq!(both.1, [(10, 1, 20), (12, 1, 10), (15, 1, 20)]);
        let none = combine(&ButNot(Box::new(List(0)), Box::new(List(1))), &sources, person);
        assert_eq!(none, CohortList::default());
    }
}
