//! Normalisation of text for storage and search.

use std::borrow::Cow;
use std::collections::BTreeSet;

use icu_casemap::CaseMapper;
use icu_normalizer::properties::CanonicalCombiningClassMap;
use icu_normalizer::{ComposingNormalizer, DecomposingNormalizer};

/// The most characters of a name, number or other text of one line: columns of the database hold as many.
pub const MAX_NAME_LENGTH: usize = 255;

/// The most characters of a memo or reason.
pub const MAX_TEXT_LENGTH: usize = 2_000;

/// The text in Unicode normalisation form C. The same text can be encoded in several ways, and some systems use another form than
/// others: all input except passwords is normalised, so that equal names are equal.
#[must_use]
pub fn nfc(text: &str) -> Cow<'_, str> {
    ComposingNormalizer::new_nfc().normalize(text)
}

/// The text in normalisation form KC: full-width digits and letters become ordinary ones.
#[must_use]
pub fn nfkc(text: &str) -> Cow<'_, str> {
    ComposingNormalizer::new_nfkc().normalize(text)
}

/// The text as search compares it: independent of encoding, case and width, with single spaces and none at the ends.
#[must_use]
pub fn folded(text: &str) -> String {
    // Unicode's compatibility caseless matching (D146): folding may denormalise the text, and normalising may unfold it.
    let case = CaseMapper::new();
    let text = DecomposingNormalizer::new_nfd().normalize(text);
    let text = case.fold_string(&text);
    let text = DecomposingNormalizer::new_nfkd().normalize(&text).into_owned();
    let text = nfkc(&case.fold_string(&text)).into_owned();
    let mut folded = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        if !folded.is_empty() {
            folded.push(' ');
        }
        folded.push_str(word);
    }
    folded
}

/// The most words of a name that search finds it by, and the most characters that it compares from the start of a word.
pub const MAX_NAME_WORDS: usize = 64;
pub const MAX_SUFFIX_LENGTH: usize = 200;

/// What search compares of a name: the folded name from the start of each word on, without blanks. A word also starts after a hyphen
/// or another sign, and at each Chinese, Japanese or Korean character, since names in these scripts have no blanks.
#[must_use]
pub fn name_suffixes(name: &str) -> BTreeSet<String> {
    let folded = folded(name);
    let (mut starts, mut inside, mut length) = (Vec::new(), false, 0);
    for c in folded.chars() {
        if c.is_alphanumeric() && (!inside || is_cjk(c)) || starts.is_empty() {
            starts.push(length);
        }
        inside = c.is_alphanumeric() || inside && is_combining(c);
        length += if c == ' ' { 0 } else { c.len_utf8() };
    }
    let joined = folded.replace(' ', "");
    let from = |start: usize| joined[start..].chars().take(MAX_SUFFIX_LENGTH).collect::<String>();
    let suffixes = starts.into_iter().take(MAX_NAME_WORDS).map(from);
    suffixes.filter(|suffix| !suffix.is_empty()).collect()
}

/// The text of a search as it is compared with [`name_suffixes`]: a name is found if one of them starts with it.
#[must_use]
pub fn name_start(text: &str) -> String {
    let folded = folded(text).replace(' ', "");
    folded.chars().take(MAX_SUFFIX_LENGTH).collect()
}

/// Whether the character is of a script that is written without blanks between words: Han, Hangul, Hiragana or Katakana.
const fn is_cjk(c: char) -> bool {
    matches!(c,
        '\u{1100}'..='\u{11ff}' | '\u{2e80}'..='\u{2fdf}' | '\u{3005}'..='\u{3007}' | '\u{3021}'..='\u{3029}'
        | '\u{3038}'..='\u{30ff}' | '\u{3130}'..='\u{318f}' | '\u{31f0}'..='\u{31ff}' | '\u{3400}'..='\u{4dbf}'
        | '\u{4e00}'..='\u{9fff}' | '\u{a960}'..='\u{a97f}' | '\u{ac00}'..='\u{d7ff}' | '\u{f900}'..='\u{faff}'
        | '\u{1aff0}'..='\u{1b16f}' | '\u{20000}'..='\u{3ffff}')
}

/// Whether the character belongs to the one before it.
fn is_combining(c: char) -> bool {
    CanonicalCombiningClassMap::new().get_u8(c) > 0
}

/// The first text after all those that start with this one, by code point; none if there is no such text.
#[must_use]
pub fn after_prefix(prefix: &str) -> Option<String> {
    let mut prefix = prefix.to_owned();
    while let Some(last) = prefix.pop() {
        let next = (last as u32 + 1..=char::MAX as u32).find_map(char::from_u32);
        if let Some(next) = next {
            prefix.push(next);
            return Some(prefix);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn folding_ignores_case_width_and_blanks() {
        for (one, other) in [
            ("Ann Ash", "ＡＮＮ　ash"),
            ("  Ann \t Ash ", "ann\u{a0}\u{2003}ash"),
            ("Straße", "STRASSE"),
            ("ΣΊΣΥΦΟΣ", "σίσυφος"),
            ("José", "jose\u{301}"),
            (
                "김영수",
                "\u{1100}\u{1175}\u{11b7}\u{110b}\u{1167}\u{11bc}\u{1109}\u{116e}",
            ),
            ("ｶﾞｷﾞ", "ガギ"),
            ("½", "1⁄2"),
        ] {
            assert_eq!(folded(one), folded(other));
        }
        for (one, other) in [("Ann", "Anne"), ("e", "é"), ("AnnAsh", "Ann Ash"), ("김", "기")] {
            assert_ne!(folded(one), folded(other));
        }
        assert_eq!(folded(" "), "");
    }

    #[test]
    fn a_name_has_a_suffix_for_each_word() {
        for (name, suffixes) in [
            ("Ann  Ash Berg", &["annashberg", "ashberg", "berg"][..]),
            ("김영수", &["김영수", "수", "영수"]),
            ("김 영수", &["김영수", "수", "영수"]),
            ("Kim 영수", &["kim영수", "수", "영수"]),
            ("ヤマダ太郎", &["マダ太郎", "ヤマダ太郎", "太郎", "ダ太郎", "郎"]),
            (
                "Anne-Marie O’Brien",
                &["anne-marieo’brien", "brien", "marieo’brien", "o’brien"],
            ),
            ("'t Hooft", &["'thooft", "hooft", "thooft"]),
            // A mark that has no composed form is no start of a word.
            ("x\u{301}y", &["x\u{301}y"]),
            ("ab ab", &["ab", "abab"]),
            ("?", &["?"]),
            ("", &[]),
        ] {
            let mut expected: Vec<&str> = suffixes.to_vec();
            expected.sort_unstable();
            assert_eq!(name_suffixes(name).into_iter().collect::<Vec<_>>(), expected, "{name}");
        }
        assert_eq!(name_start(" ＡＳＨ b "), "ashb");
        let long: String = ('가'..).take(255).collect();
        assert_eq!(name_suffixes(&long).len(), MAX_NAME_WORDS);
        assert_eq!(
            name_suffixes(&"n".repeat(255)).first().unwrap().len(),
            MAX_SUFFIX_LENGTH
        );
    }

    #[test]
    fn the_end_of_a_prefix_is_the_next_code_point() {
        assert_eq!(after_prefix("ab").as_deref(), Some("ac"));
        assert_eq!(after_prefix("\u{d7ff}").as_deref(), Some("\u{e000}"));
        assert_eq!(after_prefix("a\u{10ffff}").as_deref(), Some("b"));
        assert_eq!(after_prefix("\u{10ffff}"), None);
        assert_eq!(after_prefix(""), None);
    }

    proptest! {
        /// Each word is found by each of its starts, alone and with the words after it.
        #[test]
        fn a_name_is_found_by_the_start_of_each_word(words in prop::collection::vec("[a-zA-Zé가-힣一-龥ァ-ン]{1,8}", 1..5), at in 0_usize..5, taken in 1_usize..20) {
            let name = words.join(" ");
            let rest = words[at % words.len()..].join("");
            let start: String = folded(&rest).chars().take(taken).collect();
            prop_assert!(name_suffixes(&name).iter().any(|suffix| suffix.starts_with(&start)));
        }

        #[test]
        fn texts_with_a_prefix_lie_before_its_end(prefix in ".{1,4}", rest in any::<String>(), other in any::<String>()) {
            if let Some(end) = after_prefix(&prefix) {
                let longer = prefix.clone() + &rest;
                prop_assert!(longer < end);
                prop_assert_eq!(other.starts_with(&prefix), other >= prefix && other < end);
            }
        }

        #[test]
        fn folding_is_independent_of_the_normalisation_form(text in any::<String>()) {
            let once = folded(&text);
            prop_assert_eq!(&folded(&once), &once);
            prop_assert_eq!(&folded(&nfc(&text)), &once);
            prop_assert_eq!(&folded(&nfkc(&text)), &once);
            prop_assert_eq!(&folded(&DecomposingNormalizer::new_nfd().normalize(&text)), &once);
            prop_assert_eq!(nfc(&once), once.as_str());
        }
    }
}
