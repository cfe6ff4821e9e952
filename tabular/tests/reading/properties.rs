//! Any table that is written is read back the same.

use std::sync::LazyLock;

use proptest::prelude::*;
use tabular::{Delimiter, Encoding, Options};

use super::{options, read};

/// The characters of an encoding that are encoded and decoded the same.
fn characters(encoding: &'static encoding_rs::Encoding) -> Vec<char> {
    let is_same = |char: &char| {
        let text = char.to_string();
        let (bytes, _, has_unmappable) = encoding.encode(&text);
        !has_unmappable && encoding.decode_without_bom_handling(&bytes).0 == text
    };
    ('\0'..='\u{ffff}').filter(is_same).collect()
}

static CP949: LazyLock<Vec<char>> = LazyLock::new(|| characters(encoding_rs::EUC_KR));
static SHIFT_JIS: LazyLock<Vec<char>> = LazyLock::new(|| characters(encoding_rs::SHIFT_JIS));
static WINDOWS_1252: LazyLock<Vec<char>> = LazyLock::new(|| characters(encoding_rs::WINDOWS_1252));

fn encode(text: &str, encoding: Encoding) -> Vec<u8> {
    let legacy = |encoding: &'static encoding_rs::Encoding| encoding.encode(text).0.into_owned();
    match encoding {
        Encoding::Utf8 => text.as_bytes().to_vec(),
        Encoding::Utf16Le => text.encode_utf16().flat_map(u16::to_le_bytes).collect(),
        Encoding::Utf16Be => text.encode_utf16().flat_map(u16::to_be_bytes).collect(),
        Encoding::Cp949 => legacy(encoding_rs::EUC_KR),
        Encoding::ShiftJis => legacy(encoding_rs::SHIFT_JIS),
        Encoding::Windows1252 => legacy(encoding_rs::WINDOWS_1252),
    }
}

fn character(encoding: Encoding) -> BoxedStrategy<char> {
    let special = prop::sample::select(vec!['"', '\'', ',', ';', '\t', '|', '\r', '\n', ' ', '=', 'a', '1']);
    let of = |characters: &'static LazyLock<Vec<char>>| prop::sample::select(&characters[..]).boxed();
    let any = match encoding {
        Encoding::Utf8 | Encoding::Utf16Le | Encoding::Utf16Be => any::<char>().boxed(),
        Encoding::Cp949 => of(&CP949),
        Encoding::ShiftJis => of(&SHIFT_JIS),
        Encoding::Windows1252 => of(&WINDOWS_1252),
    };
    prop_oneof![special, any].boxed()
}

type Rows = Vec<Vec<String>>;

fn table(character: impl Strategy<Value = char> + Clone + 'static) -> impl Strategy<Value = (usize, Rows)> {
    (1..5_usize).prop_flat_map(move |width| {
        let cell = prop::collection::vec(character.clone(), 0..6)
            .prop_map(|characters| characters.into_iter().collect::<String>());
        (
            Just(width),
            prop::collection::vec(prop::collection::vec(cell, width), 0..12),
        )
    })
}

fn header(width: usize) -> Vec<String> {
    (0..width).map(|column| format!("h{column}")).collect()
}

/// As RFC 4180 says.
fn written(rows: &[Vec<String>], delimiter: &str, line_end: &str, quote_all: bool, ends: bool) -> String {
    let cell = |cell: &String| {
        let needs_quotes = cell.is_empty() || cell.contains(['"', '\r', '\n']) || cell.contains(delimiter);
        if needs_quotes || quote_all {
            format!("\"{}\"", cell.replace('"', "\"\""))
        } else {
            cell.clone()
        }
    };
    let lines: Vec<String> = rows
        .iter()
        .map(|row| row.iter().map(cell).collect::<Vec<_>>().join(delimiter))
        .collect();
    let mut text = lines.join(line_end);
    if ends {
        text.push_str(line_end);
    }
    text
}

/// How many lines an editor counts in the text.
fn lines(text: &str) -> usize {
    text.replace("\r\n", "\n").matches(['\r', '\n']).count()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn csv_is_read_back(
        (encoding, (width, rows)) in prop::sample::select(Encoding::ALL).prop_flat_map(|encoding| (Just(encoding), table(character(encoding)))),
        delimiter in prop::sample::select(Delimiter::ALL),
        line_end in prop::sample::select(vec!["\n", "\r\n", "\r"]),
        (has_mark, quote_all, ends) in any::<(bool, bool, bool)>(),
    ) {
        let separator = if delimiter == Delimiter::Tab { "\t" } else { delimiter.as_str() };
        let mut all = vec![header(width)];
        all.extend(rows.iter().cloned());
        let text = written(&all, separator, line_end, quote_all, ends);
        let can_mark = matches!(encoding, Encoding::Utf8 | Encoding::Utf16Le | Encoding::Utf16Be);
        let mark = if has_mark && can_mark { "\u{feff}" } else { "" };
        let names: Vec<String> = header(width);
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let said = Options { encoding: Some(encoding), delimiter: Some(delimiter), ..options(&names) };
        let bytes = encode(&format!("{mark}{text}"), encoding);
        let (reading, read_back) = read(&bytes, &said).unwrap();
        prop_assert_eq!((reading.encoding, reading.delimiter, reading.header_row), (Some(encoding), Some(delimiter), 1));
        let mut line = 1;
        prop_assert_eq!(read_back.len(), rows.len());
        for (index, (at, cells, problems)) in read_back.iter().enumerate() {
            line += lines(&written(&all[index..=index], separator, line_end, quote_all, true));
            prop_assert_eq!((*at, cells, problems.len()), (line as u64, &rows[index], 0));
        }
        // With more than one column and a mark, it is found without being said.
        if !mark.is_empty() && width > 1 {
            let found = read(&bytes, &options(&names)).unwrap();
            prop_assert_eq!(&found.1, &read_back);
        }
    }

    #[test]
    fn xlsx_is_read_back((width, rows) in table(any::<char>().prop_filter("XML", |char| !char.is_control() && !matches!(char, '\u{fffe}' | '\u{ffff}')))) {
        let mut workbook = rust_xlsxwriter::Workbook::new();
        let sheet = workbook.add_worksheet();
        sheet.write_row(0, 0, header(width)).unwrap();
        for (number, row) in (1..).zip(&rows) {
            for (column, cell) in (0..).zip(row) {
                sheet.write_string(number, column, cell).unwrap();
            }
        }
        let bytes = workbook.save_to_buffer().unwrap();
        let names = header(width);
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let (_, read_back) = read(&bytes, &options(&names)).unwrap();
        let read_back: Vec<(u64, Vec<String>)> = read_back.into_iter().map(|(line, cells, _)| (line, cells)).collect();
        let has_value = |row: &(u64, Vec<String>)| row.1.iter().any(|cell| !cell.trim().is_empty());
        let expected: Vec<_> = (2..).zip(rows).filter(has_value).collect();
        prop_assert_eq!(read_back, expected);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200), header in any::<bool>(), zip in any::<bool>()) {
        let mut file = if zip { b"PK\x03\x04".to_vec() } else { Vec::new() };
        if header {
            file.extend_from_slice(b"a,b\n");
        }
        file.extend(bytes);
        drop(super::open(&file, &options(&["a"])).map(Iterator::count));
    }
}
