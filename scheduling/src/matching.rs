//! Whether two patients may be the same person.

use chrono::NaiveDate;
use string_enum::string_enum;

string_enum!(
    /// Why two patients may be the same person.
    MatchReason {
        SamePhone = "SAME_PHONE",
        SameNameAndBirthDate = "SAME_NAME_AND_BIRTH_DATE",
        SimilarNameAndSamePhoneEnding = "SIMILAR_NAME_AND_SAME_PHONE_ENDING",
    }
);

/// What is compared of a patient. What is unknown is equal to nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Person<'a> {
    /// The name in NFKC, casefolded and without blanks.
    pub name: Option<&'a str>,
    pub birth_date: Option<NaiveDate>,
    /// The phone number in E.164.
    pub phone: Option<&'a str>,
}

/// How many last digits of a phone number are compared.
const PHONE_ENDING: usize = 4;

/// Why the two may be the same person, each reason that holds; empty where nothing suggests it.
#[must_use]
pub fn reasons(one: &Person<'_>, other: &Person<'_>) -> Vec<MatchReason> {
    let both = |one: Option<&str>, other: Option<&str>, compare: fn(&str, &str) -> bool| {
        one.zip(other).is_some_and(|(one, other)| compare(one, other))
    };
    let same_birth_date = one.birth_date.is_some() && one.birth_date == other.birth_date;
    let mut reasons = Vec::new();
    if both(one.phone, other.phone, |one, other| one == other) {
        reasons.push(MatchReason::SamePhone);
    }
    if same_birth_date && both(one.name, other.name, |one, other| one == other) {
        reasons.push(MatchReason::SameNameAndBirthDate);
    }
    if both(one.phone, other.phone, same_ending) && both(one.name, other.name, similar) {
        reasons.push(MatchReason::SimilarNameAndSamePhoneEnding);
    }
    reasons
}

/// How likely these reasons make it that two patients are the same person; higher is likelier, 0 without a reason. Name and birth date
/// weigh most, since relatives share a phone; the same phone weighs more than its ending.
#[must_use]
pub fn likelihood(reasons: &[MatchReason]) -> u8 {
    let weight = |reason: &MatchReason| match reason {
        MatchReason::SameNameAndBirthDate => 4,
        MatchReason::SamePhone => 2,
        MatchReason::SimilarNameAndSamePhoneEnding => 1,
    };
    reasons.iter().map(weight).fold(0, u8::saturating_add)
}

fn same_ending(one: &str, other: &str) -> bool {
    let ending = |phone: &str| {
        let from = phone.len().checked_sub(PHONE_ENDING)?;
        let ending = phone.get(from..)?;
        ending.bytes().all(|b| b.is_ascii_digit()).then(|| ending.to_owned())
    };
    ending(one).is_some_and(|one| ending(other) == Some(one))
}

/// The most letters of names that are compared one by one; longer names are similar only where they are equal.
const MAX_LETTERS: usize = 100;

/// Whether few letters differ. Korean syllables are compared by their letters: 김영수 and 김영숙 differ in one of nine.
fn similar(one: &str, other: &str) -> bool {
    let (one, other) = (letters(one), letters(other));
    let longer = one.len().max(other.len());
    let most = match longer {
        0..=2 => 0,
        3..=7 => 1,
        8..=MAX_LETTERS => longer / 4,
        _ => return one == other,
    };
    longer > 0 && one.len().abs_diff(other.len()) <= most && distance(&one, &other) <= most
}

/// The characters, Korean syllables as their letters (Unicode 3.12).
fn letters(name: &str) -> Vec<u32> {
    const SYLLABLES: std::ops::Range<u32> = 0xAC00..0xD7A4;
    // The letter before the first trailing consonant: a syllable may have none.
    const BEFORE_TRAILING: u32 = 0x11A7;
    const LEADING: u32 = 0x1100;
    const VOWEL: u32 = 0x1161;
    let mut letters = Vec::with_capacity(name.len());
    for c in name.chars().map(u32::from) {
        if !SYLLABLES.contains(&c) {
            letters.push(c);
            continue;
        }
        let index = c - SYLLABLES.start;
        letters.extend([LEADING + index / 588, VOWEL + index % 588 / 28]);
        let trailing = index % 28;
        if trailing > 0 {
            letters.push(BEFORE_TRAILING + trailing);
        }
    }
    letters
}

/// How many letters have to be inserted, removed, replaced or swapped with the next one.
fn distance(one: &[u32], other: &[u32]) -> usize {
    // The rows of the table of distances between the beginnings, as in Damerau and Levenshtein's algorithm (optimal string alignment).
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=other.len()).collect();
    for (i, &a) in one.iter().enumerate() {
        let mut row = Vec::with_capacity(last.len());
        row.push(i + 1);
        for (j, &b) in other.iter().enumerate() {
            let replaced = last[j] + usize::from(a != b);
            let mut least = replaced.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && a == other[j - 1] && b == one[i - 1] {
                least = least.min(before_last[j - 1] + 1);
            }
            row.push(least);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[other.len()]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use MatchReason::{SameNameAndBirthDate, SamePhone, SimilarNameAndSamePhoneEnding};

    fn person<'a>(name: &'a str, birth_date: &str, phone: &'a str) -> Person<'a> {
        Person {
            name: Some(name).filter(|name| !name.is_empty()),
            birth_date: birth_date.parse().ok(),
            phone: Some(phone).filter(|phone| !phone.is_empty()),
        }
    }

    #[test]
    fn each_reason_that_holds_is_given() {
        let kim = person("김영수", "1980-02-03", "+821012345678");
        for (other, expected) in [
            (
                kim,
                vec![SamePhone, SameNameAndBirthDate, SimilarNameAndSamePhoneEnding],
            ),
            (
                person("김영수", "1980-02-03", "+821055550000"),
                vec![SameNameAndBirthDate],
            ),
            (person("김영수", "1980-02-03", ""), vec![SameNameAndBirthDate]),
            (person("이순자", "1950-01-01", "+821012345678"), vec![SamePhone]),
            (person("", "", "+821012345678"), vec![SamePhone]),
            (
                person("김영숙", "", "+82212345678"),
                vec![SimilarNameAndSamePhoneEnding],
            ),
            (person("김영숙", "1980-02-03", "+821055550000"), vec![]),
            (person("김영수", "1980-02-04", ""), vec![]),
            (person("", "1980-02-03", ""), vec![]),
            (Person::default(), vec![]),
        ] {
            assert_eq!(reasons(&kim, &other), expected, "{other:?}");
            assert_eq!(reasons(&other, &kim), expected, "{other:?}");
        }
        assert!(reasons(&Person::default(), &Person::default()).is_empty());
    }

    #[test]
    fn few_different_letters_are_similar() {
        for (one, other) in [
            ("김영수", "김영숙"),
            ("김영수", "김연수"),
            ("이솔", "이설"),
            ("박지현", "박지헌"),
            ("annash", "annaash"),
            ("annash", "annahs"),
            ("christophermeyer", "kristofermeyer"),
        ] {
            assert!(similar(one, other) && similar(other, one), "{one} {other}");
        }
        for (one, other) in [
            ("", ""),
            ("김영수", "박지현"),
            ("김영수", "이영자"),
            ("이솔", "김솔"),
            ("li", "lu"),
            ("annash", "bobash"),
            ("王伟", "王维"),
            ("ann", "annalee"),
        ] {
            assert!(!similar(one, other), "{one} {other}");
        }
        let long = |length: usize| "a".repeat(length);
        assert!(similar(&long(100), &long(99)));
        assert!(similar(&long(101), &long(101)) && !similar(&long(101), &long(100)));
    }

    #[test]
    fn reasons_order_by_likelihood() {
        let order = [
            vec![],
            vec![SimilarNameAndSamePhoneEnding],
            vec![SamePhone],
            vec![SamePhone, SimilarNameAndSamePhoneEnding],
            vec![SameNameAndBirthDate],
            vec![SamePhone, SameNameAndBirthDate, SimilarNameAndSamePhoneEnding],
        ];
        assert!(order.is_sorted_by(|one, other| likelihood(one) < likelihood(other)));
    }

    /// The definition, without a table.
    fn naive_distance(one: &[u32], other: &[u32]) -> usize {
        let (Some((a, rest)), Some((b, others))) = (one.split_last(), other.split_last()) else {
            return one.len() + other.len();
        };
        let mut least = (naive_distance(rest, others) + usize::from(a != b))
            .min(naive_distance(rest, other) + 1)
            .min(naive_distance(one, others) + 1);
        if let (Some((a2, rest)), Some((b2, others))) = (rest.split_last(), others.split_last())
            && (a, a2) == (b2, b)
        {
            least = least.min(naive_distance(rest, others) + 1);
        }
        least
    }

    proptest! {
        #[test]
        fn the_distance_is_that_of_the_definition(one in "[abc]{0,5}", other in "[abc]{0,5}") {
            let (one, other) = (letters(&one), letters(&other));
            prop_assert_eq!(distance(&one, &other), naive_distance(&one, &other));
        }

        #[test]
        fn comparing_is_symmetric_and_never_fails(names in any::<(String, String)>(), phones in any::<(String, String)>()) {
            let (one, other) = (person(&names.0, "", &phones.0), person(&names.1, "", &phones.1));
            prop_assert_eq!(reasons(&one, &other), reasons(&other, &one));
        }
    }
}
