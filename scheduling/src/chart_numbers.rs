//! Chart numbers that are counted: a prefix, and trailing digits of a fixed width.

use std::collections::HashMap;
use std::fmt;

/// The most trailing digits of a number that can be counted on: as many as an `i64` holds.
pub const MAX_DIGITS: usize = 18;

/// A chart number that ends with digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ChartNumber {
    /// What precedes the trailing digits.
    pub prefix: String,
    /// How many trailing digits there are; smaller numbers have leading zeros.
    pub width: usize,
    pub number: u64,
}

impl ChartNumber {
    /// The first number of a hospital that has none: 000001.
    #[must_use]
    pub const fn first() -> Self {
        Self {
            prefix: String::new(),
            width: 6,
            number: 1,
        }
    }

    /// Reads a chart number. None where it does not end with a digit, or with more than [`MAX_DIGITS`].
    #[must_use]
    pub fn parse(chart_no: &str) -> Option<Self> {
        let (prefix, digits) = split(chart_no)?;
        Some(Self {
            prefix: prefix.to_owned(),
            width: digits.len(),
            number: digits.parse().ok()?,
        })
    }

    /// The number after this one; a digit longer where the width does not suffice. None where it has too many digits.
    #[must_use]
    pub fn next(&self) -> Option<Self> {
        self.plus(1)
    }

    fn plus(&self, steps: u64) -> Option<Self> {
        let number = self.number.checked_add(steps)?;
        let later = Self { number, ..self.clone() };
        (later.digits().len() <= MAX_DIGITS).then_some(later)
    }

    fn digits(&self) -> String {
        format!("{:0width$}", self.number, width = self.width)
    }
}

impl fmt::Display for ChartNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.prefix, self.digits())
    }
}

/// The prefix and the trailing digits.
fn split(chart_no: &str) -> Option<(&str, &str)> {
    let prefix = chart_no.trim_end_matches(|c: char| c.is_ascii_digit());
    let digits = chart_no.get(prefix.len()..)?;
    (1..=MAX_DIGITS).contains(&digits.len()).then_some((prefix, digits))
}

/// A search for a number that nobody has, from one on: the first that is free, or the first after a run of numbers in use that is too
/// long to look up each. It asks about a few numbers at a time, and seldom more than once.
#[derive(Clone, Debug)]
pub struct FreeNumberSearch {
    /// All asked about before it are in use, as far as is known; none where no number follows those.
    from: Option<ChartNumber>,
    /// The lowest that is known to be free.
    free: Option<ChartNumber>,
}

/// The numbers that are asked about one by one before the distances grow.
const ASKED_ONE_BY_ONE: u64 = 32;

/// The most numbers that are asked about at a time between a number in use and a free one.
const ASKED_BETWEEN: u64 = 1_000;

impl FreeNumberSearch {
    #[must_use]
    pub const fn new(from: ChartNumber) -> Self {
        Self {
            from: Some(from),
            free: None,
        }
    }

    /// The numbers to ask about next, ascending; empty once the search has ended.
    #[must_use]
    pub fn asked(&self) -> Vec<ChartNumber> {
        let Some(from) = &self.from else { return Vec::new() };
        let later = |steps| from.plus(steps);
        let Some(free) = &self.free else {
            let one_by_one = 0..ASKED_ONE_BY_ONE;
            let doubling = std::iter::successors(Some(ASKED_ONE_BY_ONE), |steps| steps.checked_mul(2));
            return one_by_one.chain(doubling).map_while(later).collect();
        };
        let between = free.number.saturating_sub(from.number);
        let step = between.div_ceil(ASKED_BETWEEN).max(1);
        let steps = (1..=between / step).map(|place| place * step - 1);
        steps.map_while(later).collect()
    }

    /// Goes on with what is known of the numbers asked about: the first of them that is free, by its place among them.
    pub fn answer(&mut self, asked: &[ChartNumber], first_free: Option<usize>) {
        let in_use = match first_free {
            Some(place) => {
                self.free = asked.get(place).cloned();
                place.checked_sub(1).and_then(|before| asked.get(before))
            }
            None => asked.last(),
        };
        if let Some(in_use) = in_use {
            self.from = in_use.next();
        }
    }

    /// What was found; none where no number follows those in use.
    #[must_use]
    pub fn found(self) -> Option<ChartNumber> {
        self.free
    }
}

/// The highest number among those with the most frequent prefix and width. Of equally frequent ones the longer width, then the
/// first prefix by code point. None where no number ends with digits.
#[must_use]
pub fn last_of_most_frequent<'a>(chart_nos: impl IntoIterator<Item = &'a str>) -> Option<ChartNumber> {
    let mut series: HashMap<(&str, usize), (usize, u64)> = HashMap::new();
    for chart_no in chart_nos {
        if let Some((prefix, digits)) = split(chart_no)
            && let Ok(number) = digits.parse::<u64>()
        {
            let (count, last) = series.entry((prefix, digits.len())).or_default();
            *count += 1;
            *last = number.max(*last);
        }
    }
    let order = |((prefix, width), (count, _)): &((&str, usize), (usize, u64))| {
        (*count, *width, std::cmp::Reverse((*prefix).to_owned()))
    };
    let ((prefix, width), (_, number)) = series.into_iter().max_by_key(order)?;
    Some(ChartNumber {
        prefix: prefix.to_owned(),
        width,
        number,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn next(chart_no: &str) -> Option<String> {
        Some(ChartNumber::parse(chart_no)?.next()?.to_string())
    }

    #[test]
    fn the_next_number_keeps_prefix_and_width() {
        assert_eq!(ChartNumber::first().to_string(), "000001");
        for (last, expected) in [
            ("000001", Some("000002")),
            ("P-0099", Some("P-0100")),
            ("A1-9", Some("A1-10")),
            ("999999", Some("1000000")),
            ("가12", Some("가13")),
            ("12-00", Some("12-01")),
            ("", None),
            ("ABC", None),
            ("12A", None),
            ("１２", None),
            ("099999999999999999", Some("100000000000000000")),
            ("999999999999999999", None),
            ("9999999999999999999", None),
        ] {
            assert_eq!(next(last).as_deref(), expected, "{last:?}");
        }
        assert_eq!(next(&"9".repeat(255)), None);
    }

    #[test]
    fn the_most_frequent_prefix_and_width_are_continued() {
        let last = |numbers: &[&str]| last_of_most_frequent(numbers.iter().copied()).map(|n| n.to_string());
        assert_eq!(last(&[]), None);
        assert_eq!(last(&["A", "B"]), None);
        assert_eq!(last(&["X900", "000017", "000003", "17"]).as_deref(), Some("000017"));
        assert_eq!(last(&["X900", "000003"]).as_deref(), Some("000003"));
        assert_eq!(last(&["B900", "A100"]).as_deref(), Some("A100"));
    }

    /// The number found from `from` on, and how often it was asked.
    fn search(from: &str, is_free: impl Fn(u64) -> bool) -> (Option<String>, usize) {
        let mut search = FreeNumberSearch::new(ChartNumber::parse(from).unwrap());
        for rounds in 0.. {
            let asked = search.asked();
            if asked.is_empty() {
                return (search.found().map(|number| number.to_string()), rounds);
            }
            assert!(asked.is_sorted_by(|one, other| one.number < other.number));
            assert!(asked.len() <= usize::try_from(ASKED_BETWEEN).unwrap());
            let first_free = asked.iter().position(|number| is_free(number.number));
            search.answer(&asked, first_free);
        }
        unreachable!()
    }

    #[test]
    fn the_first_free_number_is_found() {
        for (from, last_in_use, found, rounds) in [
            ("P-007", 0, Some("P-007"), 1),
            ("P-007", 7, Some("P-008"), 1),
            ("P-007", 999, Some("P-1000"), 2),
            ("000001", 31, Some("000032"), 1),
            ("000001", 100_000, Some("100001"), 3),
            ("000001", 3_000_000, Some("3000001"), 4),
            ("000001", 99_999_999_999_999_999, Some("100000000000000000"), 7),
            ("000001", u64::MAX, None, 40),
            ("999999999999999999", 0, Some("999999999999999999"), 1),
            (
                "999999999999999998",
                999_999_999_999_999_998,
                Some("999999999999999999"),
                1,
            ),
            ("999999999999999999", u64::MAX, None, 1),
        ] {
            let (number, asked) = search(from, |number| number > last_in_use);
            assert_eq!(number.as_deref(), found, "{from} {last_in_use}");
            assert!(asked <= rounds, "{from} {last_in_use}: {asked}");
        }
    }

    proptest! {
        #[test]
        fn what_is_found_is_free(from in 0_u64..500, in_use in prop::collection::btree_set(0_u64..3_000, 0..3_000)) {
            let (found, rounds) = search(&format!("{from:03}"), |number| !in_use.contains(&number));
            let found: u64 = found.unwrap().parse().unwrap();
            prop_assert!(found >= from && !in_use.contains(&found) && rounds <= 4);
            // No number is left out needlessly: the one before is in use.
            prop_assert!(found == from || in_use.contains(&(found - 1)));
            // Those that are asked about one by one are given one by one.
            let first = (from..).find(|number| !in_use.contains(number)).unwrap();
            prop_assert!(found == first || first - from >= ASKED_ONE_BY_ONE);
        }

        #[test]
        fn any_text_is_split_and_written_again(chart_no in "\\PC{0,8}[0-9]{0,25}") {
            if let Some(number) = ChartNumber::parse(&chart_no) {
                prop_assert_eq!(number.to_string(), chart_no);
                if let Some(next) = number.next() {
                    prop_assert_eq!(next.number, number.number + 1);
                    prop_assert_eq!(ChartNumber::parse(&next.to_string()).map(|n| n.number), Some(next.number));
                }
            }
        }
    }
}
