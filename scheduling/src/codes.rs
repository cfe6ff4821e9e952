//! Codes that patients show or enter: 128 bits in Crockford's Base32 with a check symbol.
//!
//! A code is 26 digits for the value, of which the first is 0–7, and the check symbol: the value modulo 37. It is displayed in
//! groups of five with hyphens, the last of two: `7ZZZZ-ZZZZZ-ZZZZZ-ZZZZZ-ZZZZZ-Z*`. Any single wrong symbol is detected, since 37 is a
//! prime larger than 32.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, NaiveDate, Utc};
use chrono_tz::Tz;
use statistics::VisitStatus;
use string_enum::string_enum;

use crate::local_time::end_of_day;
use crate::status::end_of_its_day;

string_enum!(
    /// What a code is for.
    VisitCodePurpose {
        Confirm = "CONFIRM",
        CheckIn = "CHECK_IN",
    }
);

impl VisitCodePurpose {
    /// The status that the visit must have, and the one that it gets.
    #[must_use]
    pub const fn transition(self) -> (VisitStatus, VisitStatus) {
        match self {
            Self::Confirm => (VisitStatus::Tentative, VisitStatus::Booked),
            Self::CheckIn => (VisitStatus::Booked, VisitStatus::CheckedIn),
        }
    }

    /// Whether a code may be issued of a visit with this status: a visit may be confirmed between the issue of its code and the check-in.
    #[must_use]
    pub const fn is_for(self, status: VisitStatus) -> bool {
        match self {
            Self::Confirm => matches!(status, VisitStatus::Tentative),
            Self::CheckIn => matches!(status, VisitStatus::Tentative | VisitStatus::Booked),
        }
    }

    /// Until when a code of a visit on this date can be used: to confirm, until the booking lapses, or without such a time until the end
    /// of the date; to check in, until the visit's day is over.
    #[must_use]
    pub fn usable_until(self, date: NaiveDate, expires_at: Option<DateTime<Utc>>, zone: Tz) -> DateTime<Utc> {
        match self {
            Self::Confirm => expires_at.unwrap_or_else(|| end_of_day(date, zone)),
            Self::CheckIn => end_of_its_day(date, zone),
        }
    }
}

/// The digits, then the symbols that only the check symbol can be.
const SYMBOLS: &[u8; 37] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ*~$=U";
const BITS_OF_DIGIT: u32 = 5;
const DIGITS: u32 = u128::BITS.div_ceil(BITS_OF_DIGIT);
const GROUP: usize = 5;

/// The value of a code. It lets who knows it act for the patient, so its `Debug` output does not show it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct VisitCode(u128);

impl VisitCode {
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }

    #[must_use]
    pub const fn bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }
}

impl fmt::Debug for VisitCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("VisitCode(…)")
    }
}

fn symbol(value: u128) -> char {
    let index = usize::try_from(value).unwrap_or(usize::MAX);
    SYMBOLS.get(index).copied().map_or('0', char::from)
}

impl fmt::Display for VisitCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write as _;
        let digits = (0..DIGITS).rev().map(|place| (self.0 >> (place * BITS_OF_DIGIT)) & 31);
        for (at, value) in digits.chain([self.0 % 37]).enumerate() {
            if at > 0 && at % GROUP == 0 {
                f.write_char('-')?;
            }
            f.write_char(symbol(value))?;
        }
        Ok(())
    }
}

/// The text is no code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidCode;

impl fmt::Display for InvalidCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("is no code")
    }
}

impl std::error::Error for InvalidCode {}

/// The value of a symbol as people write it: O for 0, I or L for 1, in either case.
fn value_of(symbol: char) -> Option<u128> {
    let symbol = match symbol.to_ascii_uppercase() {
        'O' => '0',
        'I' | 'L' => '1',
        other => other,
    };
    let index = SYMBOLS.iter().position(|&known| char::from(known) == symbol)?;
    u128::try_from(index).ok()
}

impl FromStr for VisitCode {
    type Err = InvalidCode;

    /// Reads a code in any case, with hyphens and blanks anywhere.
    fn from_str(text: &str) -> Result<Self, InvalidCode> {
        let mut symbols = text.chars().filter(|&c| c != '-' && !c.is_whitespace());
        let mut value = 0_u128;
        for _ in 0..DIGITS {
            let digit = symbols.next().and_then(value_of).filter(|&digit| digit < 32);
            let high = value.checked_mul(32).ok_or(InvalidCode)?;
            value = high | digit.ok_or(InvalidCode)?;
        }
        let check = symbols.next().and_then(value_of);
        if check == Some(value % 37) && symbols.next().is_none() {
            return Ok(Self(value));
        }
        Err(InvalidCode)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_codes_are_written_and_read() {
        let zero = VisitCode::from_bytes([0; 16]);
        assert_eq!(zero.to_string(), "00000-00000-00000-00000-00000-00");
        assert_eq!("OoOoO 00000-ooooo 00000 00000 oO".parse(), Ok(zero));
        let highest = VisitCode::from_bytes([255; 16]);
        assert_eq!(highest.to_string(), "7ZZZZ-ZZZZZ-ZZZZZ-ZZZZZ-ZZZZZ-Z*");
        let one = VisitCode::from_bytes(1_u128.to_be_bytes());
        assert_eq!("0000000000000000000000000il".parse(), Ok(one));
        for refused in [
            "",
            "0",
            "8ZZZZZZZZZZZZZZZZZZZZZZZZZ0",
            "0000000000000000000000000000",
            "00000000000000000000000000é",
        ] {
            assert_eq!(refused.parse::<VisitCode>(), Err(InvalidCode), "{refused:?}");
        }
        assert_eq!(format!("{highest:?}"), "VisitCode(…)");
    }

    #[test]
    fn a_code_can_be_used_until_the_booking_or_the_day_is_over() {
        let zone: Tz = "Asia/Seoul".parse().unwrap();
        let date: NaiveDate = "2025-05-11".parse().unwrap();
        let lapses: DateTime<Utc> = "2025-05-09T01:00:00Z".parse().unwrap();
        for (purpose, expires_at, until) in [
            (VisitCodePurpose::Confirm, Some(lapses), "2025-05-09T01:00:00Z"),
            (VisitCodePurpose::Confirm, None, "2025-05-11T15:00:00Z"),
            (VisitCodePurpose::CheckIn, Some(lapses), "2025-05-12T03:00:00Z"),
            (VisitCodePurpose::CheckIn, None, "2025-05-12T03:00:00Z"),
        ] {
            let until: DateTime<Utc> = until.parse().unwrap();
            assert_eq!(purpose.usable_until(date, expires_at, zone), until, "{purpose:?}");
        }
    }

    #[test]
    fn each_transition_is_one_of_the_life_of_a_visit() {
        for &purpose in VisitCodePurpose::ALL {
            let (from, to) = purpose.transition();
            assert!(purpose.is_for(from));
            let transition = crate::check(Some(from), to, crate::Moment::OnItsDay).unwrap();
            assert!(!transition.is_correction);
        }
    }

    proptest! {
        #[test]
        fn a_code_is_read_as_it_is_displayed(bytes in any::<[u8; 16]>()) {
            let code = VisitCode::from_bytes(bytes);
            let text = code.to_string();
            prop_assert_eq!(text.parse(), Ok(code));
            prop_assert_eq!(text.to_lowercase().replace('-', " ").parse(), Ok(code));
            prop_assert_eq!(text.replace('-', "").len(), 27);
            prop_assert_eq!(code.bytes(), bytes);
        }

        #[test]
        fn a_wrong_symbol_is_detected(bytes in any::<[u8; 16]>(), at in 0..27_usize, replacement in 0..37_usize) {
            let text = VisitCode::from_bytes(bytes).to_string().replace('-', "");
            let mut symbols = text.into_bytes();
            prop_assume!(symbols[at] != SYMBOLS[replacement]);
            symbols[at] = SYMBOLS[replacement];
            let text = String::from_utf8(symbols).unwrap();
            prop_assert_eq!(text.parse::<VisitCode>(), Err(InvalidCode));
        }

        #[test]
        fn any_text_is_read_or_refused(text in any::<String>()) {
            if let Ok(code) = text.parse::<VisitCode>() {
                prop_assert_eq!(code.to_string().parse(), Ok(code));
            }
        }
    }
}
