//! Recall lists: who of a cohort is left out and why, and what is counted of the others.

use std::collections::{BTreeMap, HashMap};

use chrono::NaiveDate;
use string_enum::string_enum;

string_enum!(
    /// Why a patient of the cohort is not on the list: the first that holds, in this order.
    LeftOutReason {
        NotActive = "NOT_ACTIVE",
        Duplicate = "DUPLICATE",
        CameSince = "CAME_SINCE",
        HasNextVisit = "HAS_NEXT_VISIT",
        DoNotContact = "DO_NOT_CONTACT",
        NoPhone = "NO_PHONE",
    }
);

string_enum!(
    /// What came of a contact.
    ContactOutcome {
        Reached = "REACHED",
        Booked = "BOOKED",
        NoAnswer = "NO_ANSWER",
        Declined = "DECLINED",
        WrongNumber = "WRONG_NUMBER",
    }
);

/// How long a claimed entry is one's own, in minutes.
pub const CLAIM_MINUTES: i64 = 30;
/// The most entries of one claim.
pub const MAX_CLAIMED: i32 = 20;

/// A patient of the cohort when a list is made of it. All but the ids is about the person: who stays where records were merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The patient as counted.
    pub id: i64,
    /// The patient who stays; the same one where nothing was merged.
    pub person: i64,
    pub is_active: bool,
    /// There is an attended visit since the cohort was counted.
    pub came_since: bool,
    /// There is a booking today or later.
    pub has_next_visit: bool,
    pub do_not_contact: bool,
    pub has_phone: bool,
}

impl Candidate {
    /// A patient of whom no row is left.
    #[must_use]
    pub const fn deleted(id: i64) -> Self {
        Self {
            id,
            person: id,
            is_active: false,
            came_since: false,
            has_next_visit: false,
            do_not_contact: false,
            has_phone: false,
        }
    }
}

/// Whom to leave out besides those who cannot be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecallOptions {
    /// Leave out those who have a booking.
    pub without_next_visit: bool,
    /// Leave out those without a phone.
    pub with_phone: bool,
}

/// Why each of the candidates is left out, in their order; none: the patient is on the list.
#[must_use]
pub fn left_out(candidates: &[Candidate], options: RecallOptions) -> Vec<Option<LeftOutReason>> {
    // Of the records of a person, the one that stays; where the cohort does not have that one, the oldest.
    let mut standing: HashMap<i64, i64> = HashMap::with_capacity(candidates.len());
    let rank = |id: i64, person: i64| (id != person, id);
    for &Candidate { id, person, .. } in candidates {
        let stands = standing.entry(person).or_insert(id);
        if rank(id, person) < rank(*stands, person) {
            *stands = id;
        }
    }
    let reason = |candidate: &Candidate| {
        use LeftOutReason::{CameSince, DoNotContact, Duplicate, HasNextVisit, NoPhone, NotActive};
        let reasons = [
            (NotActive, !candidate.is_active),
            (Duplicate, standing.get(&candidate.person) != Some(&candidate.id)),
            (CameSince, candidate.came_since),
            (HasNextVisit, options.without_next_visit && candidate.has_next_visit),
            (DoNotContact, candidate.do_not_contact),
            (NoPhone, options.with_phone && !candidate.has_phone),
        ];
        let first = reasons.into_iter().find(|(_, holds)| *holds);
        first.map(|(reason, _)| reason)
    };
    candidates.iter().map(reason).collect()
}

/// What came of the entries of a list: how many stand at which outcome, and how many patients returned on which day. Every number is a
/// sum of the same parts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecallCounts {
    /// Entries by last outcome, none where nobody called yet, and by the days from the making of the list to the return.
    parts: BTreeMap<(Option<ContactOutcome>, Option<i64>), u64>,
}

impl RecallCounts {
    /// Adds entries of a list that was made on a day, of patients who returned on another; none: not yet.
    pub fn add(
        &mut self,
        outcome: Option<ContactOutcome>,
        made_on: NaiveDate,
        returned_on: Option<NaiveDate>,
        entries: u64,
    ) {
        let days = returned_on.map(|day| (day - made_on).num_days());
        *self.parts.entry((outcome, days)).or_default() += entries;
    }

    fn sum(&self, is_meant: impl Fn(Option<ContactOutcome>, Option<i64>) -> bool) -> u64 {
        let parts = self.parts.iter();
        let meant = parts.filter(|((outcome, days), _)| is_meant(*outcome, *days));
        meant.map(|(_, entries)| entries).sum()
    }

    /// All entries.
    #[must_use]
    pub fn patients(&self) -> u64 {
        self.sum(|_, _| true)
    }

    /// Entries whose last outcome is this one; none: nobody called yet.
    #[must_use]
    pub fn outcome(&self, wanted: Option<ContactOutcome>) -> u64 {
        self.sum(|outcome, _| outcome == wanted)
    }

    /// Entries whose patient returned.
    #[must_use]
    pub fn returned(&self) -> u64 {
        self.sum(|_, days| days.is_some())
    }

    /// Entries whose patient returned within so many days.
    #[must_use]
    pub fn returned_within(&self, most: i64) -> u64 {
        self.sum(|_, days| days.is_some_and(|days| days <= most))
    }

    /// The share of those who returned; none of an empty list.
    #[must_use]
    #[allow(clippy::cast_precision_loss)]
    pub fn return_rate(&self) -> Option<f64> {
        let patients = self.patients();
        (patients > 0).then(|| self.returned() as f64 / patients as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The outcome of an entry, and the days until the patient returned.
    type Entry = (Option<ContactOutcome>, Option<u64>);

    /// The definition, one candidate after the other.
    fn naive(candidates: &[Candidate], options: RecallOptions, at: usize) -> Option<LeftOutReason> {
        let candidate = candidates[at];
        if !candidate.is_active {
            return Some(LeftOutReason::NotActive);
        }
        let same_person = candidates.iter().filter(|other| other.person == candidate.person);
        let mut same_person: Vec<i64> = same_person.map(|other| other.id).collect();
        same_person.sort_unstable();
        let stands = if same_person.contains(&candidate.person) {
            candidate.person
        } else {
            same_person[0]
        };
        if stands != candidate.id {
            return Some(LeftOutReason::Duplicate);
        }
        if candidate.came_since {
            return Some(LeftOutReason::CameSince);
        }
        if options.without_next_visit && candidate.has_next_visit {
            return Some(LeftOutReason::HasNextVisit);
        }
        if candidate.do_not_contact {
            return Some(LeftOutReason::DoNotContact);
        }
        (options.with_phone && !candidate.has_phone).then_some(LeftOutReason::NoPhone)
    }

    fn candidates() -> impl Strategy<Value = Vec<Candidate>> {
        let facts = (prop::option::weighted(0.4, 1..24i64), any::<[bool; 5]>());
        prop::collection::vec(facts, 0..20).prop_map(|all| {
            let facts: HashMap<i64, [bool; 5]> = (1..).zip(all.iter().map(|(_, facts)| *facts)).collect();
            let candidate = |(id, (merged_into, _)): (i64, &(Option<i64>, _))| {
                let person = merged_into.unwrap_or(id);
                let [is_active, came_since, has_next_visit, do_not_contact, has_phone] =
                    facts.get(&person).copied().unwrap_or_default();
                Candidate {
                    id,
                    person,
                    is_active,
                    came_since,
                    has_next_visit,
                    do_not_contact,
                    has_phone,
                }
            };
            (1..).zip(&all).map(candidate).collect()
        })
    }

    fn outcomes() -> impl Iterator<Item = Option<ContactOutcome>> {
        std::iter::once(None).chain(ContactOutcome::ALL.iter().copied().map(Some))
    }

    proptest! {
        #[test]
        fn reasons_are_the_first_that_hold(candidates in candidates(), options in any::<(bool, bool)>()) {
            let options = RecallOptions { without_next_visit: options.0, with_phone: options.1 };
            let reasons = left_out(&candidates, options);
            let wanted: Vec<_> = (0..candidates.len()).map(|at| naive(&candidates, options, at)).collect();
            prop_assert_eq!(&reasons, &wanted);
            // Nobody is on the list twice.
            let on_list = candidates.iter().zip(&reasons).filter(|(_, reason)| reason.is_none());
            let mut persons: Vec<i64> = on_list.map(|(candidate, _)| candidate.person).collect();
            let entries = persons.len();
            persons.sort_unstable();
            persons.dedup();
            prop_assert_eq!(persons.len(), entries);
        }

        #[test]
        fn counts_are_lengths_of_lists(
            entries in prop::collection::vec((prop::option::of(0..5u8), prop::option::of(0..120u64)), 0..60),
            within in 0..130i64,
        ) {
            let made_on: NaiveDate = "2025-05-11".parse().unwrap();
            let mut counts = RecallCounts::default();
            let mut list = Vec::new();
            for (outcome, days) in entries {
                let outcome = outcome.and_then(ContactOutcome::from_index);
                counts.add(outcome, made_on, days.map(|days| made_on + chrono::Days::new(days)), 1);
                list.push((outcome, days));
            }
            let length = |is_meant: &dyn Fn(&Entry) -> bool| {
                list.iter().filter(|entry| is_meant(entry)).count() as u64
            };
            prop_assert_eq!(counts.patients(), list.len() as u64);
            for outcome in outcomes() {
                prop_assert_eq!(counts.outcome(outcome), length(&|entry| entry.0 == outcome));
            }
            prop_assert_eq!(outcomes().map(|outcome| counts.outcome(outcome)).sum::<u64>(), counts.patients());
            prop_assert_eq!(counts.returned(), length(&|entry| entry.1.is_some()));
            let early = |entry: &Entry| entry.1.is_some_and(|days| days <= within.unsigned_abs());
            prop_assert_eq!(counts.returned_within(within), length(&early));
        }
    }

    #[test]
    fn the_rate_of_an_empty_list_is_unknown() {
        let mut counts = RecallCounts::default();
        assert_eq!(counts.return_rate(), None);
        let day: NaiveDate = "2025-05-11".parse().unwrap();
        counts.add(None, day, None, 3);
        counts.add(Some(ContactOutcome::Booked), day, Some(day), 1);
        assert_eq!(counts.return_rate(), Some(0.25));
        assert_eq!((counts.returned_within(0), counts.returned_within(-1)), (1, 0));
    }

    #[test]
    fn of_merged_records_the_one_who_stays_is_called() {
        let of = |id, person| Candidate {
            person,
            is_active: true,
            has_phone: true,
            ..Candidate::deleted(id)
        };
        let options = RecallOptions {
            without_next_visit: true,
            with_phone: true,
        };
        let duplicate = Some(LeftOutReason::Duplicate);
        assert_eq!(
            left_out(&[of(1, 2), of(2, 2), of(3, 2)], options),
            [duplicate, None, duplicate]
        );
        assert_eq!(left_out(&[of(1, 9), of(3, 9)], options), [None, duplicate]);
        assert_eq!(
            left_out(&[Candidate::deleted(1)], options),
            [Some(LeftOutReason::NotActive)]
        );
    }
}
