//! CSV: RFC 4180, in UTF-8 with a byte order mark, without which spreadsheets take it for another encoding.

use std::borrow::Cow;

use csv::{Terminator, WriterBuilder};

use super::{Cell, unwritable};
use crate::error::Result;

const BYTE_ORDER_MARK: &str = "\u{feff}";

/// The beginning of a file.
pub(super) fn header(headers: &[&str]) -> Result<Vec<u8>> {
    let mut bytes = BYTE_ORDER_MARK.as_bytes().to_vec();
    bytes.extend(records([headers.iter().copied()])?);
    Ok(bytes)
}

/// Rows of a file.
pub(super) fn rows(rows: &[Vec<Cell>]) -> Result<Vec<u8>> {
    let texts: Vec<Vec<Cow<'_, str>>> = rows.iter().map(|row| row.iter().map(text).collect()).collect();
    records(texts.iter().map(|row| row.iter().map(AsRef::as_ref)))
}

fn records<'a>(rows: impl IntoIterator<Item = impl Iterator<Item = &'a str>>) -> Result<Vec<u8>> {
    let mut writer = WriterBuilder::new()
        .terminator(Terminator::CRLF)
        .from_writer(Vec::new());
    for row in rows {
        writer.write_record(row).map_err(|error| unwritable(&error))?;
    }
    writer.into_inner().map_err(|error| unwritable(&error))
}

fn text(cell: &Cell) -> Cow<'_, str> {
    match cell {
        Cell::Empty => Cow::Borrowed(""),
        Cell::Text(text) if is_formula(text) => Cow::Owned(format!("'{text}")),
        Cell::Text(text) => Cow::Borrowed(text),
        Cell::Number(number) => Cow::Owned(number.to_string()),
        Cell::Flag(flag) => Cow::Borrowed(if *flag { "true" } else { "false" }),
        Cell::Date(date) => Cow::Owned(date.to_string()),
    }
}

/// Whether a spreadsheet may take the text for a formula. Phone numbers begin with a plus and are none.
fn is_formula(text: &str) -> bool {
    let mut chars = text.chars();
    match chars.next() {
        Some('=' | '@' | '\t' | '\r' | '\n' | '\u{ff1d}' | '\u{ff20}') => true,
        Some('+' | '-' | '\u{ff0b}' | '\u{ff0d}') => {
            !chars.all(|c| c.is_ascii_digit() || matches!(c, ' ' | '.' | '(' | ')' | '-'))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formulas_get_an_apostrophe_and_phones_do_not() {
        for formula in [
            "=1+1",
            "@SUM(A1)",
            "\tx",
            "\rx",
            "\nx",
            "＝1",
            "＠x",
            "+1+1",
            "-2*3",
            "+cmd|' /C calc'!A0",
            "＋x",
            "－x",
            "-a",
            "+82 10\t",
        ] {
            assert_eq!(text(&Cell::Text(formula.to_owned())), format!("'{formula}"));
        }
        for plain in [
            "+821012345678",
            "+82 (10) 1234-5678",
            "-",
            "-1.5",
            "+1 202.555.0123",
            "＋82",
            "",
            "'=1",
            " =1",
            "김",
        ] {
            assert_eq!(text(&Cell::Text(plain.to_owned())), plain);
        }
    }

    #[test]
    fn cells_are_quoted_where_rfc_4180_says_so() {
        let file = [
            header(&["a", "b"]).unwrap(),
            rows(&[
                vec![Cell::Text("x, \"y\"".to_owned()), Cell::Text("two\r\nlines".to_owned())],
                vec![Cell::Empty, Cell::Number(7)],
                vec![Cell::Flag(true), Cell::Date("2025-05-11".parse().unwrap())],
            ])
            .unwrap(),
        ];
        let text = String::from_utf8(file.concat()).unwrap();
        assert_eq!(
            text,
            "\u{feff}a,b\r\n\"x, \"\"y\"\"\",\"two\r\nlines\"\r\n,7\r\ntrue,2025-05-11\r\n"
        );
    }
}
