use std::io::Write as _;

use rust_xlsxwriter::{ExcelDateTime, Format, Workbook, Worksheet};
use tabular::{Error, Options, Problem, ProblemKind};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::{cells, open, options, read, refused};

fn saved(mut workbook: Workbook) -> Vec<u8> {
    workbook.save_to_buffer().unwrap()
}

/// A workbook of one sheet.
fn sheet(write: impl FnOnce(&mut Worksheet)) -> Vec<u8> {
    let mut workbook = Workbook::new();
    write(workbook.add_worksheet());
    saved(workbook)
}

#[test]
fn a_sheet_as_a_clinic_keeps_it_is_read() {
    let bytes = sheet(|sheet| {
        let centered = Format::new();
        sheet.set_name("환자").unwrap();
        sheet
            .merge_range(0, 0, 0, 3, "Patients of the clinic", &centered)
            .unwrap();
        // Two rows of headings: the number's is merged downwards, the contact's above phone and name.
        sheet.merge_range(2, 0, 3, 0, "No", &centered).unwrap();
        sheet.merge_range(2, 1, 2, 2, "Contact", &centered).unwrap();
        sheet.write_row(3, 1, ["Phone", " Name "]).unwrap();
        sheet.write_number(4, 0, 12.0).unwrap();
        sheet.write_number(4, 1, 1_012_345_678.0).unwrap();
        sheet.write_string(4, 2, "Kim").unwrap();
        sheet.write_string(4, 5, "a note to the right").unwrap();
        sheet.write_string(5, 5, "another").unwrap();
        sheet.write_string(7, 0, "00017").unwrap();
        sheet.write_string(8, 0, "Total").unwrap();
        sheet.write_number(8, 2, 2.0).unwrap();
    });
    let (reading, rows) = read(&bytes, &options(&["No", "Phone", "Name"])).unwrap();
    assert_eq!(reading.format, tabular::Format::Xlsx);
    assert_eq!((reading.sheet.as_deref(), reading.header_row), (Some("환자"), 4));
    assert_eq!((reading.encoding, reading.delimiter), (None, None));
    assert_eq!(reading.headers, ["No", "Phone", "Name"]);
    assert_eq!(
        cells(&rows),
        [["12", "1012345678", "Kim"], ["00017", "", ""], ["Total", "", "2"]]
    );
    assert_eq!(rows.iter().map(|row| row.0).collect::<Vec<_>>(), [5, 8, 9]);
    // Without names, the first row with a value is the header row, unless one is said.
    assert_eq!(read(&bytes, &Options::default()).unwrap().0.header_row, 1);
    let said = Options {
        header_row: Some(4),
        ..Options::default()
    };
    assert_eq!(read(&bytes, &said).unwrap().0.headers, ["No", "Phone", "Name"]);
    let error = refused(&bytes, &options(&["No", "Phone", "Sex"]));
    assert_eq!(error, "line 4 is most like a header row, but the column Sex is missing");
}

#[test]
fn values_become_text() {
    let mut workbook = Workbook::new();
    let sheet = workbook.add_worksheet();
    sheet.write_string(0, 0, "no").unwrap();
    let date = Format::new().set_num_format("dd/mm/yyyy");
    let time = Format::new().set_num_format("yyyy-mm-dd hh:mm:ss.000");
    let duration = Format::new().set_num_format("[h]:mm:ss");
    sheet
        .write_datetime_with_format(1, 0, ExcelDateTime::parse_from_str("2021-12-31").unwrap(), &date)
        .unwrap();
    sheet
        .write_datetime_with_format(
            2,
            0,
            ExcelDateTime::parse_from_str("2021-12-31T09:35:10").unwrap(),
            &time,
        )
        .unwrap();
    sheet
        .write_datetime_with_format(
            3,
            0,
            ExcelDateTime::parse_from_str("2021-12-31T23:59:59.250").unwrap(),
            &time,
        )
        .unwrap();
    sheet.write_number_with_format(4, 0, 0.5, &time).unwrap();
    sheet.write_number_with_format(5, 0, 1.25, &duration).unwrap();
    sheet.write_boolean(6, 0, true).unwrap();
    for (row, number) in (7..).zip([12.0, -0.5, 29_872_499_824_296.0, 1e21, 0.1]) {
        sheet.write_number(row, 0, number).unwrap();
    }
    sheet.write_number_with_format(12, 0, -3.0, &date).unwrap();
    sheet
        .write_formula(13, 0, rust_xlsxwriter::Formula::new("=1/0").set_result("#DIV/0!"))
        .unwrap();
    sheet
        .write_formula(14, 0, rust_xlsxwriter::Formula::new("=1+1").set_result("2"))
        .unwrap();
    let (_, rows) = read(&saved(workbook), &options(&["no"])).unwrap();
    let texts: Vec<&str> = rows.iter().map(|row| row.1[0].as_str()).collect();
    let expected = [
        "2021-12-31",
        "2021-12-31T09:35:10",
        "2021-12-31T23:59:59.250",
        "12:00:00",
        "30:00:00",
        "TRUE",
        "12",
        "-0.5",
        "29872499824296",
        "1000000000000000000000",
        "0.1",
        "",
        "",
        "2",
    ];
    assert_eq!(texts, expected);
    let problem = |kind| vec![Problem { cell: Some(0), kind }];
    assert_eq!(
        (rows[11].2.clone(), rows[12].2.clone()),
        (problem(ProblemKind::NotADate), problem(ProblemKind::ErrorValue))
    );
}

#[test]
fn dates_may_count_from_1904() {
    let styles = (
        "xl/styles.xml",
        "<styleSheet><cellXfs><xf numFmtId=\"0\"/><xf numFmtId=\"14\"/></cellXfs></styleSheet>",
        "",
        "",
        0,
    );
    let sheet = (
        SHEET,
        SHEET_BEGIN,
        "<row><c s=\"1\"><v>43099</v></c></row><row><c s=\"1\"><v>44561</v></c></row>",
        SHEET_END,
        1,
    );
    let workbook = |properties: &str| WORKBOOK.replace("<workbook>", &format!("<workbook>{properties}"));
    for (properties, dates) in [
        ("<workbookPr date1904=\"1\"/>", ["2021-12-31", "2026-01-01"]),
        ("<workbookPr/>", ["2017-12-30", "2021-12-31"]),
    ] {
        let bytes = parts(&[("xl/workbook.xml", &workbook(properties), "", "", 0), styles, sheet]);
        let (_, rows) = read(&bytes, &options(&["no"])).unwrap();
        assert_eq!([rows[0].1[0].as_str(), rows[1].1[0].as_str()], dates);
    }
}

#[test]
fn the_sheet_that_fits_is_read() {
    let workbook = |names: &[(&str, &str, bool)]| {
        let mut workbook = Workbook::new();
        workbook
            .add_worksheet()
            .set_name("Notes")
            .unwrap()
            .write_string(0, 0, "of the clinic")
            .unwrap();
        for (name, header, hidden) in names {
            let sheet = workbook.add_worksheet();
            sheet.set_name(*name).unwrap().set_hidden(*hidden);
            sheet.write_string(0, 0, *header).unwrap();
            sheet.write_string(1, 0, *name).unwrap();
        }
        saved(workbook)
    };
    let one = workbook(&[("2024", "no", true), ("2025", "no", false)]);
    assert_eq!(cells(&read(&one, &options(&["no"])).unwrap().1), [["2025"]]);
    let named = |name: &str| Options {
        sheet: Some(name.to_owned()),
        ..options(&["no"])
    };
    assert_eq!(cells(&read(&one, &named("2024")).unwrap().1), [["2024"]]);
    assert_eq!(
        refused(&one, &named("2023")),
        "has no sheet \"2023\"; it has: Notes, 2024, 2025"
    );
    assert_eq!(
        refused(&one, &named("Notes")),
        "no header row was found: it must have the columns no"
    );
    let two = workbook(&[("2024", "no", false), ("2025", "no", false)]);
    assert_eq!(
        refused(&two, &options(&["no"])),
        "has several sheets that fit: 2024, 2025; say in a mapping which one"
    );
}

const WORKBOOK: &str = r#"<workbook><sheets><sheet name="S" sheetId="1" r:id="r1"/></sheets></workbook>"#;
const RELATIONSHIP: &str = "http://schemas.openxmlformats.org/officeDocument/2006/relationships";

/// A hand-made workbook with more parts, of which the content may be long.
fn parts(more: &[(&str, &str, &str, &str, usize)]) -> Vec<u8> {
    let mut zip = ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let mut part = |name: &str, begin: &str, content: &str, end: &str, times: usize| {
        zip.start_file(name, SimpleFileOptions::default()).unwrap();
        zip.write_all(begin.as_bytes()).unwrap();
        let block = content.repeat(1_000);
        for _ in 0..times / 1_000 {
            zip.write_all(block.as_bytes()).unwrap();
        }
        zip.write_all(content.repeat(times % 1_000).as_bytes()).unwrap();
        zip.write_all(end.as_bytes()).unwrap();
    };
    let relationships = |kind: &str, target: &str| {
        format!(
            "<Relationships><Relationship Id=\"r1\" Type=\"{RELATIONSHIP}/{kind}\" Target=\"{target}\"/></Relationships>"
        )
    };
    part(
        "_rels/.rels",
        "",
        &relationships("officeDocument", "xl/workbook.xml"),
        "",
        1,
    );
    part(
        "xl/_rels/workbook.xml.rels",
        "",
        &relationships("worksheet", "worksheets/sheet1.xml"),
        "",
        1,
    );
    if more.iter().all(|part| part.0 != "xl/workbook.xml") {
        part("xl/workbook.xml", "", WORKBOOK, "", 1);
    }
    for (name, begin, content, end, times) in more {
        part(name, begin, content, end, *times);
    }
    zip.finish().unwrap().into_inner()
}

const SHEET: &str = "xl/worksheets/sheet1.xml";
const SHEET_BEGIN: &str = "<worksheet><sheetData><row r=\"1\"><c t=\"inlineStr\"><is><t>no</t></is></c></row>";
const SHEET_END: &str = "</sheetData></worksheet>";

#[test]
fn a_hand_made_file_is_read() {
    let bytes = parts(&[(SHEET, SHEET_BEGIN, "<row><c><v>7</v></c></row>", SHEET_END, 3)]);
    assert_eq!(
        cells(&read(&bytes, &options(&["no"])).unwrap().1),
        [["7"], ["7"], ["7"]]
    );
}

#[test]
fn files_beyond_the_bounds_are_refused() {
    let long = "x".repeat(1_000);
    let strings = "xl/sharedStrings.xml";
    let empty_sheet = (SHEET, SHEET_BEGIN, "", SHEET_END, 0);
    for (bytes, text) in [
        // Fields of 3 MB.
        (
            parts(&[(
                SHEET,
                "<worksheet><sheetData><row><c t=\"str\"><v>",
                &long,
                "</v></c></row></sheetData></worksheet>",
                3_000,
            )]),
            "bytes in one cell",
        ),
        (
            parts(&[(
                SHEET,
                "<worksheet><sheetData><row><c t=\"inlineStr\"><is>",
                "<r><t>some text</t></r>",
                "</is></c></row></sheetData></worksheet>",
                60_000,
            )]),
            "bytes in one cell",
        ),
        (
            parts(&[(
                SHEET,
                "<worksheet><!-- ",
                &long,
                " --><sheetData></sheetData></worksheet>",
                2_000,
            )]),
            "bytes in one cell or XML element",
        ),
        (
            parts(&[(SHEET, SHEET_BEGIN, "<c/>", SHEET_END, 16_000_001)]),
            "16000000 cells",
        ),
        (
            parts(&[(strings, "<sst>", "<si/>", "</sst>", 1_000_001), empty_sheet]),
            "1000000 distinct texts",
        ),
        (
            parts(&[
                (strings, "<sst uniqueCount=\"99999999999\">", "<si/>", "</sst>", 1),
                empty_sheet,
            ]),
            "1000000 distinct texts",
        ),
        (
            parts(&[
                (strings, "<sst>", &format!("<si><t>{long}</t></si>"), "</sst>", 60_000),
                empty_sheet,
            ]),
            "48 MiB of distinct texts",
        ),
        (
            parts(&[
                (
                    "xl/styles.xml",
                    "<styleSheet><cellXfs>",
                    "<xf/>",
                    "</cellXfs></styleSheet>",
                    20_000,
                ),
                empty_sheet,
            ]),
            "16384 styles",
        ),
        (
            parts(&[
                (
                    "xl/styles.xml",
                    "<styleSheet><fonts><font><name val=\"",
                    &long,
                    "\"/></font></fonts></styleSheet>",
                    3,
                ),
                empty_sheet,
            ]),
            "bytes in one style",
        ),
        (
            parts(&[
                (
                    "xl/workbook.xml",
                    "<workbook>",
                    "<definedName>some text</definedName>",
                    "</workbook>",
                    400_000,
                ),
                empty_sheet,
            ]),
            "8 MiB in the list of sheets",
        ),
        (
            parts(&[("xl/media/image1.png", "", &long, "", 20_000), empty_sheet]),
            "16 MiB in a picture",
        ),
    ] {
        let error = open(&bytes, &options(&["no"])).err().unwrap().to_string();
        assert!(
            error.starts_with("is too large: it has more than") && error.contains(text),
            "{text}: {error}"
        );
    }
}

#[test]
fn a_bomb_is_refused_by_the_size_that_it_says() {
    let mut bytes = parts(&[(SHEET, SHEET_BEGIN, "", SHEET_END, 0)]);
    let entry = bytes.windows(4).rposition(|window| window == b"PK\x01\x02").unwrap();
    bytes[entry + 24..entry + 28].copy_from_slice(&0x7fff_ffff_u32.to_le_bytes());
    assert_eq!(
        refused(&bytes, &options(&["no"])),
        "is too large: it has more than 1024 MiB uncompressed; save it as CSV"
    );
}

#[test]
fn a_row_that_repeats_a_long_text_is_refused() {
    let strings = (
        "xl/sharedStrings.xml",
        "<sst><si><t>no</t></si><si><t>",
        "x",
        "</t></si></sst>",
        900_000,
    );
    let bytes = parts(&[
        strings,
        (
            SHEET,
            "<worksheet><sheetData><row><c t=\"s\"><v>0</v></c></row><row>",
            "<c t=\"s\"><v>1</v></c>",
            "</row></sheetData></worksheet>",
            1_000,
        ),
    ]);
    assert_eq!(
        refused(&bytes, &options(&["no"])),
        "line 2: the row has more than 1048576 bytes"
    );
}

#[test]
fn damaged_files_are_refused() {
    let whole = parts(&[(SHEET, SHEET_BEGIN, "<row><c><v>7</v></c></row>", SHEET_END, 100)]);
    let columns = options(&["no"]);
    for length in [4, 100, whole.len() / 2, whole.len() - 1] {
        assert!(
            matches!(read(&whole[..length], &columns), Err(Error::Damaged(_))),
            "{length}"
        );
    }
    let entities = r#"<!DOCTYPE b [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;">]><worksheet><sheetData>&b;</sheetData></worksheet>"#;
    let error = refused(&parts(&[(SHEET, entities, "", "", 0)]), &columns);
    assert_eq!(
        error,
        "is not a complete XLSX file (it has a document type): save it again as XLSX, or as CSV"
    );
    for row in [
        "<row r=\"1\"><c><v>8</v></c></row>",
        "<row r=\"3\"><c r=\"A3\"><v>7</v></c><c r=\"A3\"><v>8</v></c></row>",
        "<row><c t=\"x\"><v>1</v></c></row>",
    ] {
        let bytes = parts(&[(SHEET, SHEET_BEGIN, row, SHEET_END, 1)]);
        assert!(matches!(read(&bytes, &columns), Err(Error::Damaged(_))), "{row}");
    }
    let mut zip = ZipWriter::new(std::io::Cursor::new(Vec::new()));
    zip.start_file("mimetype", SimpleFileOptions::default()).unwrap();
    zip.write_all(b"application/vnd.oasis.opendocument.spreadsheet")
        .unwrap();
    let error = refused(&zip.finish().unwrap().into_inner(), &columns);
    assert_eq!(
        error,
        "is neither CSV nor XLSX but another archive, such as ODS or ZIP: save it as XLSX or CSV"
    );
    let mut zip = ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for number in 0..10_001 {
        zip.start_file(format!("{number}"), SimpleFileOptions::default())
            .unwrap();
    }
    let error = refused(&zip.finish().unwrap().into_inner(), &columns);
    assert!(error.contains("more than 10000 parts"), "{error}");
}

#[test]
fn reading_may_stop_early() {
    let bytes = parts(&[(SHEET, SHEET_BEGIN, "<row><c><v>7</v></c></row>", SHEET_END, 100_000)]);
    let mut table = open(&bytes, &options(&["no"])).unwrap();
    assert_eq!(table.next().unwrap().unwrap().line, 2);
}
