use std::io::{Read, Write as _};

use tabular::{Delimiter, Encoding, Error, Format, Options, Problem, ProblemKind, Reading};

use super::{cells, open, options, read, refused};

fn utf16(text: &str, big_endian: bool) -> Vec<u8> {
    let units = text.encode_utf16();
    units
        .flat_map(|unit| {
            if big_endian {
                unit.to_be_bytes()
            } else {
                unit.to_le_bytes()
            }
        })
        .collect()
}

fn encoded(text: &str, encoding: &'static encoding_rs::Encoding) -> Vec<u8> {
    let (bytes, _, has_unmappable) = encoding.encode(text);
    assert!(!has_unmappable);
    bytes.into_owned()
}

#[test]
fn a_reading_is_found_and_said() {
    let (reading, rows) = read(
        b"Patients of the clinic\n\nno;name\n1;Kim, Min\n\n2;\"Le;e\"",
        &options(&["no", "name"]),
    )
    .unwrap();
    let expected = Reading {
        format: Format::Csv,
        sheet: None,
        encoding: Some(Encoding::Utf8),
        delimiter: Some(Delimiter::Semicolon),
        header_row: 3,
        headers: vec!["no".to_owned(), "name".to_owned()],
    };
    assert_eq!(reading, expected);
    assert_eq!(cells(&rows), [vec!["1", "Kim, Min"], vec![""], vec!["2", "Le;e"]]);
    assert_eq!(rows.iter().map(|row| row.0).collect::<Vec<_>>(), [4, 5, 6]);
    for (delimiter, byte) in [
        (Delimiter::Comma, ','),
        (Delimiter::Semicolon, ';'),
        (Delimiter::Tab, '\t'),
        (Delimiter::Pipe, '|'),
    ] {
        for columns in [&["no", "name"][..], &[]] {
            let (reading, rows) = read(format!(" no {byte}name\n1{byte}Kim").as_bytes(), &options(columns)).unwrap();
            assert_eq!(
                (reading.delimiter, reading.headers),
                (Some(delimiter), expected.headers.clone())
            );
            assert_eq!(cells(&rows), [["1", "Kim"]]);
        }
    }
    // The file's name of a column may be decomposed.
    let (reading, _) = read("Pra\u{308}senz,b\n".as_bytes(), &options(&["Pr\u{e4}senz"])).unwrap();
    assert_eq!(reading.headers, ["Pra\u{308}senz", "b"]);
}

#[test]
fn one_column_is_read_with_commas() {
    for columns in [&["no"][..], &[]] {
        let (reading, rows) = read(b"no\n1\n\n2\n", &options(columns)).unwrap();
        assert_eq!(
            (reading.delimiter, cells(&rows)),
            (Some(Delimiter::Comma), vec![vec!["1"], vec![""], vec!["2"]])
        );
    }
}

#[test]
fn an_encoding_is_found_where_only_one_fits() {
    let korean = "no,name\n1,김민지\n2,이서준\n3,최지우\n";
    let japanese = "no,name\n1,山田花子\n2,ソフィア\n3,表\n";
    let western = "no,name\n1,Müller\n2,José\n3,O’Brien\n";
    let marked = |text: &str| format!("\u{feff}{text}");
    let files = [
        (korean.as_bytes().to_vec(), Encoding::Utf8, korean),
        (marked(korean).into_bytes(), Encoding::Utf8, korean),
        (utf16(&marked(korean), false), Encoding::Utf16Le, korean),
        (utf16(&marked(korean), true), Encoding::Utf16Be, korean),
        (utf16(korean, false), Encoding::Utf16Le, korean),
        (utf16(korean, true), Encoding::Utf16Be, korean),
        (encoded(korean, encoding_rs::EUC_KR), Encoding::Cp949, korean),
        (encoded(japanese, encoding_rs::SHIFT_JIS), Encoding::ShiftJis, japanese),
        (
            encoded(western, encoding_rs::WINDOWS_1252),
            Encoding::Windows1252,
            western,
        ),
        (b"no,name\n1,Kim\n".to_vec(), Encoding::Utf8, "no,name\n1,Kim\n"),
    ];
    for (bytes, encoding, text) in files {
        let (reading, rows) = read(&bytes, &options(&["no"])).unwrap();
        assert_eq!(reading.encoding, Some(encoding));
        let expected: Vec<Vec<&str>> = text.lines().skip(1).map(|line| line.split(',').collect()).collect();
        assert_eq!(cells(&rows), expected);
    }
}

#[test]
fn where_several_readings_fit_it_asks() {
    // Half-width katakana in Shift_JIS are also Hangul in CP949.
    let kana = encoded("no,name\n1,ｶﾅｶﾅ\n", encoding_rs::SHIFT_JIS);
    let error = refused(&kana, &options(&["no"]));
    assert_eq!(
        error,
        "can be read in several ways, as CP949 with ,; Shift_JIS with ,: say in a mapping which encoding and delimiter it has"
    );
    let said = Options {
        encoding: Some(Encoding::ShiftJis),
        ..options(&["no"])
    };
    assert_eq!(cells(&read(&kana, &said).unwrap().1), [["1", "ｶﾅｶﾅ"]]);
    // Only one has the column of this name.
    let header = encoded("no,ｶﾅ\n", encoding_rs::SHIFT_JIS);
    assert_eq!(
        read(&header, &options(&["ｶﾅ"])).unwrap().0.encoding,
        Some(Encoding::ShiftJis)
    );
    let error = refused(b"no;a,b\n1;2,3\n", &Options::default());
    assert!(error.contains("as UTF-8 with ,; UTF-8 with ;: say"), "{error}");
    let said = Options {
        delimiter: Some(Delimiter::Semicolon),
        ..Options::default()
    };
    assert_eq!(cells(&read(b"no;a,b\n1;2,3\n", &said).unwrap().1), [["1", "2,3"]]);
}

#[test]
fn what_does_not_fit_is_said() {
    let columns = options(&["visit_no", "status"]);
    for (bytes, text) in [
        (&b""[..], "is empty: it must have a header row"),
        (b"\xef\xbb\xbf", "is empty: it must have a header row"),
        (
            b"visit_no,date\n1,secret\n",
            "line 1 is most like a header row, but the column status is missing",
        ),
        (
            b"secret,secret\n",
            "no header row was found: it must have the columns visit_no, status",
        ),
        (
            b"\xd0\xcf\x11\xe0",
            "is neither CSV nor XLSX but an old Excel file (.xls) or one with a password: save it as XLSX or CSV",
        ),
        (b"%PDF-1.7", "is neither CSV nor XLSX but a PDF: save it as XLSX or CSV"),
        (
            b"\n<html><table>",
            "is neither CSV nor XLSX but HTML or XML: save it as XLSX or CSV",
        ),
        (
            b"\x7fELF\0\0\0\0",
            "is neither CSV nor XLSX but a binary file: save it as XLSX or CSV",
        ),
    ] {
        assert_eq!(refused(bytes, &columns), text);
    }
    let error = refused(b"visit_no,status\n\xff\xff,\x81\n", &columns);
    assert!(error.starts_with("is in none of the encodings"), "{error}");
    let cp949 = Options {
        encoding: Some(Encoding::Cp949),
        ..columns.clone()
    };
    let error = refused("\u{feff}visit_no".as_bytes(), &cp949);
    assert_eq!(
        error,
        "begins with the byte order mark of UTF-8: it cannot be read as CP949"
    );
    let third = Options {
        header_row: Some(3),
        ..columns
    };
    let error = refused(b"visit_no,status\n1,2\n3,4\n", &third);
    assert_eq!(
        error,
        "line 3 is not a header row: it must have the columns visit_no, status"
    );
}

#[test]
fn lines_above_the_header_row_are_not_read() {
    let third = Options {
        header_row: Some(3),
        ..options(&["no"])
    };
    let (reading, rows) = read(b"a \"quote\r\nno,of,columns\r\nno,b\r\n1,2\r\n", &third).unwrap();
    assert_eq!((reading.header_row, rows[0].0), (3, 4));
}

#[test]
fn lines_are_counted_as_editors_do() {
    for (file, lines) in [
        ("no,b\n1,x\n2,x\n", [2, 3]),
        ("no,b\r\n1,x\r\n2,x", [2, 3]),
        ("no,b\r1,x\r2,x\r", [2, 3]),
        ("no,\"b\nc\"\n1,\"x\n\ny\"\n2,x", [3, 6]),
        ("no,b\r\n1,\"x\r\n\r\ny\"\r\n2,x\r\n", [2, 5]),
        ("no,b\r1,\"x\r\ry\"\r2,x\r", [2, 5]),
    ] {
        let (_, rows) = read(file.as_bytes(), &options(&["no"])).unwrap();
        assert_eq!(rows.iter().map(|row| row.0).collect::<Vec<_>>(), lines, "{file:?}");
    }
}

#[test]
fn quotes_never_take_other_rows_silently() {
    let rows = |file: &str| read(file.as_bytes(), &options(&["no"])).unwrap().1;
    // Within a cell without quotes they are characters.
    assert_eq!(
        cells(&rows("no,b\n1,5\" tube\n2,a \"b\" c\n")),
        [["1", "5\" tube"], ["2", "a \"b\" c"]]
    );
    assert_eq!(
        cells(&rows("no,b\n1,\"\"\n2,\"a \"\"b\"\"\"\n")),
        [["1", ""], ["2", "a \"b\""]]
    );
    let after = |last_line| {
        vec![Problem {
            cell: None,
            kind: ProblemKind::TextAfterQuote { last_line },
        }]
    };
    let wrong = rows("no,b\n1,\"a\"b\n2,x\n");
    assert_eq!((wrong[0].2.clone(), wrong[1].2.len()), (after(2), 0));
    let wrong = rows("no,b\n1,\"Kim\n2,\"Lee\",x\n3,Park\n");
    assert_eq!((wrong[0].0, wrong[0].2.clone(), wrong[1].0), (2, after(3), 4));
    let wrong = rows("no,b\n1,\"Kim\n2,\"Lee\"");
    assert_eq!(wrong[0].2, after(3));
}

#[test]
fn a_quote_that_is_not_closed_ends_the_file_where_it_began() {
    let table = |rows: &str| {
        let rows: Vec<_> = open(format!("no,b\n1,x\n{rows}").as_bytes(), &options(&["no"]))
            .unwrap()
            .collect();
        let (last, before) = rows.split_last().unwrap();
        assert!(before.iter().all(Result::is_ok));
        (before.len(), last.as_ref().unwrap_err().to_string())
    };
    let (read, error) = table("2,\"x\n3,x\n");
    assert_eq!(read, 1);
    assert!(
        error.starts_with("line 3: a quote is not closed within 1048576 bytes or before the file ends"),
        "{error}"
    );
    let (read, error) = table(&format!("2,x\n3,\"x\n{}4,\"x\"\n", "9,x\n".repeat(300_000)));
    assert_eq!(read, 2);
    assert!(error.starts_with("line 4: a quote is not closed"), "{error}");
    let (read, error) = table(&format!("2,{}\n", "x".repeat(1 << 20)));
    assert_eq!(
        (read, error.as_str()),
        (1, "line 3: the row has more than 1048576 bytes")
    );
    let (_, error) = table(&",".repeat((1 << 20) + 2));
    assert_eq!(error, "line 3: the row has more than 1048576 bytes");
    let header = refused(b"\"no,b\n1,x\n", &options(&["no"]));
    assert!(header.starts_with("line 1: a quote is not closed"), "{header}");
}

#[test]
fn a_sequence_that_is_not_in_the_encoding_is_a_problem_of_its_cell() {
    let mut file = b"no,a,b\n".to_vec();
    for number in 0..200_000 {
        file.extend_from_slice(format!("{number},x,y\n").as_bytes());
    }
    file.extend_from_slice(b"1,\xffx\xff,\x80\n2,x,y\n");
    let (reading, rows) = read(&file, &options(&["no"])).unwrap();
    assert_eq!(reading.encoding, Some(Encoding::Utf8));
    let problem = |cell| Problem {
        cell: Some(cell),
        kind: ProblemKind::NotInEncoding,
    };
    assert_eq!(rows[200_000].2, [problem(1), problem(2)]);
    assert_eq!(rows.iter().filter(|row| !row.2.is_empty()).count(), 1);
    let said = Options {
        encoding: Some(Encoding::Utf16Le),
        ..options(&["no"])
    };
    let mut file = utf16("no,a\n1,x", false);
    file.push(b'?');
    assert_eq!(read(&file, &said).unwrap().1[0].2, [problem(1)]);
    // The comma after half of a character is not lost.
    let said = Options {
        encoding: Some(Encoding::Cp949),
        ..options(&["no"])
    };
    let (_, rows) = read(b"no,a,b\n1,\xb1,z\n", &said).unwrap();
    assert_eq!((rows[0].1[2].as_str(), rows[0].2.clone()), ("z", vec![problem(1)]));
}

#[test]
fn a_file_that_changes_while_it_is_read_ends_with_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file.csv");
    std::fs::write(&path, "no\n1\n2\n").unwrap();
    let appended = tabular::open(&path, &options(&["no"])).unwrap();
    std::fs::OpenOptions::new()
        .append(true)
        .open(&path)
        .unwrap()
        .write_all(b"3\n")
        .unwrap();
    assert!(matches!(appended.last(), Some(Err(Error::Changed))));
    let mut truncated = tabular::open(&path, &options(&["no"])).unwrap();
    std::fs::write(&path, "no\n1\n").unwrap();
    assert!(matches!(truncated.by_ref().last(), Some(Err(Error::Changed))));
    assert_eq!(truncated.digest(), None);
    let mut whole = tabular::open(&path, &options(&["no"])).unwrap();
    assert_eq!(whole.digest(), None);
    assert!(whole.all(|row| row.is_ok()));
}

#[test]
fn endless_files_are_refused() {
    for device in ["/dev/zero", "/dev/urandom"] {
        let opened = tabular::open(std::path::Path::new(device), &options(&["no"]));
        assert!(opened.is_err(), "{device}");
    }
    let endless = std::io::Cursor::new(b"no\n").chain(std::io::repeat(b'x'));
    let last = tabular::read(endless, &options(&["no"])).unwrap().last();
    assert!(matches!(last, Some(Err(Error::TooLong { line: 2 }))));
    assert!(
        tabular::open(std::path::Path::new("no/such/file"), &Options::default())
            .err()
            .unwrap()
            .to_string()
            .starts_with("cannot be read")
    );
    assert!(tabular::open(&std::env::temp_dir(), &Options::default()).is_err());
}
