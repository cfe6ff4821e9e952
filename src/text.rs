//! Normalisation of text for storage and search.

use std::borrow::Cow;

use icu_casemap::CaseMapper;
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

    proptest! {
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
