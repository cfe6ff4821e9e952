//! What is starred where the viewer may not see it.

/// A name of which each word keeps its first letter, and one of three Hangul or Han characters and more its last too:
/// 김*수, J*** S****.
pub(super) fn name(name: &str) -> String {
    name.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

fn word(word: &str) -> String {
    let letters: Vec<char> = word.chars().collect();
    let east_asian = letters
        .iter()
        .all(|letter| matches!(letter, '\u{3040}'..='\u{9fff}' | '\u{ac00}'..='\u{d7a3}'));
    let keeps_last = east_asian && letters.len() > 2;
    letters
        .iter()
        .enumerate()
        .map(|(i, &letter)| {
            let kept = i == 0 || (keeps_last && i + 1 == letters.len());
            if kept { letter } else { '*' }
        })
        .collect()
}

/// A phone in its national form, of which the digits before the last four are starred up to the first group:
/// 010-****-1234.
pub(super) fn phone(e164: &str) -> String {
    let shown = phonenumber::parse(None, e164)
        .map(|number| number.format().mode(phonenumber::Mode::National).to_string())
        .unwrap_or_else(|_| e164.to_owned());
    let digits = shown.chars().filter(char::is_ascii_digit).count();
    let from_first = shown.chars().skip_while(|letter| !letter.is_ascii_digit());
    let first_group = from_first.take_while(char::is_ascii_digit).count().min(3);
    let mut seen = 0;
    shown
        .chars()
        .map(|letter| {
            if !letter.is_ascii_digit() {
                return letter;
            }
            seen += 1;
            if seen <= first_group || seen + 4 > digits {
                letter
            } else {
                '*'
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_keep_first_letters() {
        let cases = [
            ("김영수", "김*수"),
            ("남궁민수", "남**수"),
            ("이선", "이*"),
            ("John Smith", "J*** S****"),
            ("O", "O"),
            ("", ""),
        ];
        for (full, masked) in cases {
            assert_eq!(super::name(full), masked);
        }
    }

    #[test]
    fn phones_keep_their_last_four() {
        assert_eq!(super::phone("+821055551234"), "010-****-1234");
        assert!(super::phone("+12025550123").ends_with("0123"));
        assert_eq!(super::phone("+12025550123").chars().filter(|&c| c == '*').count(), 3);
    }
}
