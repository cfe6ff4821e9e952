//! The three-way comparison of a value: what a file says, what is there, and what the source of the file last said.

/// A keyed hash of a value. Zero stands for no value.
pub(super) type ValueHash = u64;

/// What is to become of a value that a file gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    /// It is there already, or the source said it before: what is there stays.
    Keep,
    /// The source says something new, and what is there is what it last said.
    Change,
    /// The source says something new, and what is there is something else: a conflict if staff or SQL made it so, else a change.
    Differs,
}

/// Compares the value of a file with what is there and with the hash of what the source last said, 0 for nothing.
pub(super) fn compare<T: PartialEq>(
    said: &T,
    current: Option<&T>,
    last_said: ValueHash,
    hash: impl Fn(&T) -> ValueHash,
) -> Comparison {
    if current == Some(said) || (last_said != 0 && last_said == hash(said)) {
        Comparison::Keep
    } else if last_said != 0 && current.map(hash) == Some(last_said) {
        Comparison::Change
    } else {
        Comparison::Differs
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What happens to a value: one of two sources says it in an import, or staff set or clear it.
    #[derive(Clone, Copy, Debug)]
    enum Event {
        Import { source: usize, value: u64 },
        Staff(Option<u64>),
    }

    fn events() -> impl Strategy<Value = Vec<Event>> {
        let import = (0..2_usize, 1..4_u64).prop_map(|(source, value)| Event::Import { source, value });
        let staff = prop::option::of(1..4_u64).prop_map(Event::Staff);
        prop::collection::vec(prop_oneof![2 => import, 1 => staff], 0..30)
    }

    proptest! {
        /// Against the table of the rules, told from the whole history of the value.
        #[test]
        fn what_staff_did_stays_unless_the_source_says_something_new(events in events()) {
            let mut history: Vec<(bool, Option<u64>)> = Vec::new();
            let mut said: [Option<u64>; 2] = [None; 2];
            for event in events {
                let current = history.last().and_then(|(_, value)| *value);
                let by_staff = history.last().is_some_and(|(by_staff, _)| *by_staff);
                match event {
                    Event::Staff(value) => {
                        if value != current {
                            history.push((true, value));
                        }
                    }
                    Event::Import { source, value } => {
                        let compared = compare(&value, current.as_ref(), said[source].unwrap_or(0), |value| *value);
                        let is_new = said[source] != Some(value);
                        let conflicts = compared == Comparison::Differs && by_staff;
                        let changes = compared != Comparison::Keep && !conflicts;
                        if current == Some(value) || !is_new {
                            prop_assert_eq!(compared, Comparison::Keep);
                        } else if by_staff && (said[source].is_none() || current != said[source]) {
                            prop_assert!(conflicts, "what staff did was overwritten");
                        } else {
                            prop_assert!(changes, "what the source says was not taken");
                        }
                        if changes {
                            history.push((false, Some(value)));
                        }
                        said[source] = Some(value);
                    }
                }
            }
        }
    }
}
