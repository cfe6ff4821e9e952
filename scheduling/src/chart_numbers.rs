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
        let number = self.number.checked_add(1)?;
        let next = Self { number, ..self.clone() };
        (next.digits().len() <= MAX_DIGITS).then_some(next)
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

    proptest! {
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
