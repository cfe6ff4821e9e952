//! What is shown of patients: names and phones are masked for viewers who may not see them in full, and other values left out.

use chrono::NaiveDate;
use unicode_segmentation::UnicodeSegmentation as _;

use crate::error::Result;
use crate::permissions::{Action, Role};
use crate::secrets::Secrets;
use crate::store::{Patient, SealedText};

/// How much is shown of patients, in pages and in files.
#[derive(Clone, Copy)]
pub(crate) struct Visibility<'a> {
    in_full: bool,
    secrets: &'a Secrets,
}

impl<'a> Visibility<'a> {
    /// What a role sees; all, if nobody is signed in: on the command line.
    pub(crate) fn of(role: Option<Role>, secrets: &'a Secrets) -> Self {
        Self {
            in_full: role.is_none_or(|role| role.may(Action::SeePatientsInFull)),
            secrets,
        }
    }

    /// The name; empty if unknown or erased.
    pub(crate) fn name(self, patient: &Patient) -> String {
        let full = patient.name.as_deref().unwrap_or_default();
        if self.in_full { full.to_owned() } else { name(full) }
    }

    /// The phone in E.164, or masked in national format.
    pub(crate) fn phone(self, patient: &Patient) -> Result<Option<String>> {
        let Some(sealed) = &patient.phone else { return Ok(None) };
        let full = sealed.open(self.secrets)?;
        Ok(Some(if self.in_full { full } else { phone(&full) }))
    }

    /// The birth date, unless only the year may be seen.
    pub(crate) fn birth_date(self, patient: &Patient) -> Option<NaiveDate> {
        patient.birth_date.filter(|_| self.in_full)
    }

    /// A memo or a note; none if patients are masked.
    pub(crate) fn remark(self, sealed: Option<&SealedText>) -> Result<Option<String>> {
        let sealed = sealed.filter(|_| self.in_full);
        sealed.map(|sealed| sealed.open(self.secrets)).transpose()
    }
}

/// A name with at least half of its letters hidden, rounded down, and at least one: 김*수, 김 * 수, J*** S****, 李 *.
///
/// A letter is a grapheme cluster, so that a syllable or an accented letter is hidden whole however it is encoded. Blanks stay
/// where they are and are not letters. Of each word the first letter is shown, and of a Hangul, Han or Kana word of three
/// letters or more the last too. Where that shows too much, because words are short, the second letter shown is hidden, then
/// the third and so on, and the first one last.
pub(crate) fn name(name: &str) -> String {
    let clusters: Vec<&str> = name.graphemes(true).collect();
    let letters = clusters.iter().filter(|cluster| is_letter(cluster)).count();
    let most = letters - (letters / 2).max(1).min(letters);
    let mut shown = usually_shown(&clusters);
    if shown.len() > most {
        let hidden = shown.len() - most;
        let from = usize::from(most > 0);
        shown.drain(from..from + hidden);
    }
    let mut shown = shown.into_iter().peekable();
    let mut masked = String::with_capacity(name.len());
    for (place, cluster) in clusters.into_iter().enumerate() {
        let resolved = shown.next_if_eq(&place).is_some() || is_blank(cluster);
        masked.push_str(if resolved { cluster } else { "*" });
    }
    masked
}

/// The places of the letters that are shown of words of usual length.
fn usually_shown(clusters: &[&str]) -> Vec<usize> {
    let mut shown = Vec::new();
    let mut begin = 0;
    for word in clusters.split(|cluster| is_blank(cluster)) {
        if let Some(first) = word.iter().position(|cluster| is_letter(cluster)) {
            shown.push(begin + first);
        }
        if word.len() > 2 && word.iter().all(|cluster| is_east_asian(cluster)) {
            shown.push(begin + word.len() - 1);
        }
        begin += word.len() + 1;
    }
    shown
}

fn is_blank(cluster: &str) -> bool {
    cluster.chars().all(char::is_whitespace)
}

/// Punctuation is no letter: it is neither counted nor shown.
fn is_letter(cluster: &str) -> bool {
    cluster.chars().any(char::is_alphanumeric)
}

/// Hangul, also as single jamo; Han; Kana.
fn is_east_asian(cluster: &str) -> bool {
    let in_range =
        |letter| matches!(letter, '\u{1100}'..='\u{11ff}' | '\u{3040}'..='\u{9fff}' | '\u{ac00}'..='\u{d7a3}');
    cluster.chars().all(in_range) && is_letter(cluster)
}

/// A phone in its national form with at least half of its digits hidden: 010-****-**34. The last two digits are shown, fewer of
/// a short number, and the first group where that is still no more than half.
pub(crate) fn phone(e164: &str) -> String {
    let national = phonenumber::parse(None, e164)
        .map(|number| number.format().mode(phonenumber::Mode::National).to_string())
        .unwrap_or_else(|_| e164.to_owned());
    let digits = national.chars().filter(char::is_ascii_digit).count();
    let from_first = national.chars().skip_while(|letter| !letter.is_ascii_digit());
    let first_group = from_first.take_while(char::is_ascii_digit).count().min(3);
    let tail = (digits / 3).min(2);
    let head = if first_group + tail <= digits / 2 {
        first_group
    } else {
        0
    };
    let mut seen = 0;
    national
        .chars()
        .map(|letter| {
            if !letter.is_ascii_digit() {
                return letter;
            }
            seen += 1;
            if seen <= head || seen + tail > digits {
                letter
            } else {
                '*'
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_keep_first_letters() {
        let cases = [
            ("김영수", "김*수"),
            ("김 영 수", "김 * 수"),
            ("김\u{3000}영\u{3000}수", "김\u{3000}*\u{3000}수"),
            ("남궁민수", "남**수"),
            ("이선", "이*"),
            ("李四", "李*"),
            ("李 四", "李 *"),
            ("김", "*"),
            ("O", "*"),
            ("John Smith", "J*** S****"),
            ("J. R.", "J* **"),
            ("A B C D", "A * * D"),
            ("Mary-Jane O'Hara", "M******** O*****"),
            ("  Ann  Ash ", "  A**  A** "),
            ("???", "***"),
            ("", ""),
            (" ", " "),
        ];
        for (full, masked) in cases {
            assert_eq!(name(full), masked, "{full}");
        }
    }

    #[test]
    fn a_decomposed_name_is_masked_as_the_composed_one() {
        // 김영수 and José as macOS writes them.
        let kim = "\u{1100}\u{1175}\u{11b7}\u{110b}\u{1167}\u{11bc}\u{1109}\u{116e}";
        assert_eq!(name(kim), "\u{1100}\u{1175}\u{11b7}*\u{1109}\u{116e}");
        assert_eq!(name("Jose\u{301}"), "J***");
        assert_eq!(name("e\u{301}a"), "e\u{301}*");
    }

    #[test]
    fn phones_keep_their_last_two_digits() {
        let cases = [
            ("+821055551234", "010-****-**34"),
            ("+82212345678", "02-****-**78"),
            ("+82311234567", "031-***-**67"),
            ("+12025550123", "(202) ***-**23"),
            ("+2908123", "***3"),
        ];
        for (e164, masked) in cases {
            assert_eq!(phone(e164), masked, "{e164}");
        }
    }

    /// Names of letters of several scripts, combining marks, punctuation and blanks, and text of any kind.
    fn names() -> impl Strategy<Value = String> {
        let letter = prop_oneof![
            4 => "[a-zA-Z가-힣一-龥ぁ-ん]",
            1 => "[\u{1100}-\u{1112}][\u{1161}-\u{1175}]",
            1 => "[a-z][\u{300}-\u{30f}]{1,3}",
            2 => "[ \u{a0}\u{3000}]",
            1 => "[-.'・*]",
            1 => "\\PC",
        ];
        prop_oneof![
            prop::collection::vec(letter, 0..12).prop_map(|letters| letters.concat()),
            any::<String>(),
        ]
    }

    proptest! {
        #[test]
        fn a_mask_hides_half_of_the_letters(full in names()) {
            let masked = name(&full);
            // Place by place: a star stands for one cluster.
            let mut rest = masked.as_str();
            let (mut letters, mut hidden) = (0, 0);
            for cluster in full.graphemes(true) {
                let shown = rest.strip_prefix(cluster).filter(|_| cluster != "*");
                rest = match shown {
                    Some(after) => after,
                    None => rest.strip_prefix('*').unwrap(),
                };
                if !cluster.chars().all(char::is_whitespace) {
                    letters += 1;
                    hidden += usize::from(shown.is_none());
                }
            }
            prop_assert_eq!(rest, "");
            let least = if letters == 0 { 0 } else { (letters / 2).max(1) };
            prop_assert!(hidden >= least, "{:?} shows {} of {}", masked, letters - hidden, letters);
        }

        #[test]
        fn a_mask_hides_half_of_the_digits(e164 in "\\+[1-9][0-9]{0,14}") {
            let masked = phone(&e164);
            let shown = masked.chars().filter(char::is_ascii_digit).count();
            let hidden = masked.chars().filter(|&letter| letter == '*').count();
            prop_assert!(shown <= hidden, "{masked} of {e164}");
        }
    }
}
