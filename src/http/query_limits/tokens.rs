//! Counts the tokens of a query before it is parsed: the parser takes memory for each, and stack for each bracket.

use super::{Rejection, check_limit};
use crate::config::Limits;

/// Rejects a query with too many tokens, or with brackets nested too deeply. Reads each byte once. If the text is not GraphQL, the counts
/// mean nothing, and the parser rejects it.
pub(in crate::http) fn check(query: &str, limits: &Limits) -> Result<(), Rejection> {
    let bytes = query.as_bytes();
    let (mut at, mut tokens, mut open, mut deepest) = (0, 0, 0_usize, 0);
    while let Some(&byte) = bytes.get(at) {
        at = match byte {
            b' ' | b'\t' | b'\r' | b'\n' | b',' => {
                at += 1;
                continue;
            }
            b'#' => {
                at = after(bytes, at, |byte| !matches!(byte, b'\r' | b'\n'));
                continue;
            }
            b'"' => after_string(bytes, at),
            b'(' | b'[' | b'{' => {
                open += 1;
                deepest = deepest.max(open);
                at + 1
            }
            b')' | b']' | b'}' => {
                open = open.saturating_sub(1);
                at + 1
            }
            byte if is_of_word(byte) => after(bytes, at, is_of_word),
            _ => at + 1,
        };
        tokens += 1;
    }
    check_limit("tokens", tokens, limits.max_query_tokens)?;
    check_limit("nested brackets", deepest, limits.max_query_nesting)
}

/// Of names and numbers.
const fn is_of_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// The first place from `at` on where the bytes are others.
fn after(bytes: &[u8], at: usize, belongs: impl Fn(u8) -> bool) -> usize {
    let rest = bytes.get(at..).unwrap_or_default();
    rest.iter()
        .position(|&byte| !belongs(byte))
        .map_or(bytes.len(), |length| at + length)
}

/// The place after the string, or block string, that begins here.
fn after_string(bytes: &[u8], at: usize) -> usize {
    let rest = bytes.get(at..).unwrap_or_default();
    let quotes: &[u8] = if rest.starts_with(b"\"\"\"") { b"\"\"\"" } else { b"\"" };
    let mut place = at + quotes.len();
    while let Some(rest) = bytes.get(place..).filter(|rest| !rest.is_empty()) {
        if rest.starts_with(quotes) {
            return place + quotes.len();
        }
        place += if rest.starts_with(b"\\") { 2 } else { 1 };
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(query: &str) -> Option<String> {
        check(query, &Limits::default()).err().map(|refusal| refusal.message)
    }

    #[test]
    fn tokens_are_counted_whatever_stands_between_them() {
        let many = |count: usize| format!("{{{}}}", "a,".repeat(count - 2));
        assert_eq!(message(&many(Limits::default().max_query_tokens)), None);
        let told = message(&many(Limits::default().max_query_tokens + 1)).unwrap();
        assert!(
            told.contains(&(Limits::default().max_query_tokens + 1).to_string()),
            "{told}"
        );
        // Comments, strings and their quotes are one token or none.
        let quiet = format!(
            "{{ a(b: \"{}\", c: \"\"\"{}\"\"\") }} #{}",
            "x ".repeat(9_999),
            "\" { ".repeat(9_999),
            "y ".repeat(9_999)
        );
        assert_eq!(message(&quiet), None);
        let escaped = format!("{{ a(b: \"\\\" {}\") }}", "{ ".repeat(9_999));
        assert_eq!(message(&escaped), None);
    }

    #[test]
    fn brackets_are_bounded_before_the_parser_meets_them() {
        let nested = |depth: usize| format!("{{ a(b: {}{}) }}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(message(&nested(Limits::default().max_query_nesting - 2)), None);
        assert!(message(&nested(Limits::default().max_query_nesting - 1)).is_some());
        assert!(message(&"[".repeat(100_000)).is_some());
    }

    #[test]
    fn whatever_is_sent_is_read_to_its_end() {
        for text in [
            "",
            "\"",
            "\"\"\"",
            "\"\\",
            "\"\"\"\\",
            "\"\"",
            "{\"",
            "#",
            "\u{feff}{a}",
            "é…\"ü",
            "}}}}",
        ] {
            assert_eq!(message(text), None, "{text:?}");
        }
    }
}
