//! Imports of CSV and XLSX files.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::json;
use test_support::{DatabaseKind, TestApp, on_each_database};

fn refused(app: &TestApp, args: &[&str]) -> String {
    let output = app.try_run_cli(args);
    assert!(!output.status.success(), "{args:?} went through");
    String::from_utf8(output.stderr).unwrap()
}

/// The import's messages about rows, and its summary.
fn reported(app: &TestApp, kind: &str, content: impl AsRef<[u8]>) -> (String, String) {
    let path = app.write_file("rows.csv", content);
    let output = app.try_run_cli(&["import", kind, "--hospital", "H1", path.to_str().unwrap()]);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let errors = text(output.stderr);
    let summary = text(output.stdout);
    let status = if summary.contains(" 0 refused") { 0 } else { 2 };
    assert_eq!(output.status.code(), Some(status), "{errors}");
    (errors, summary)
}

/// Imports a file of patients, with a mapping unless its text is empty, which must go through; the messages, and the names by chart number.
async fn imported_with(
    app: &TestApp,
    name: &str,
    content: impl AsRef<[u8]>,
    mapping: &str,
) -> (String, Vec<(String, String)>) {
    let path = app.write_file(name, content);
    let file = app.write_file("mapping.toml", mapping);
    let mut args = vec!["import", "patients", "--hospital", "H1", path.to_str().unwrap()];
    if !mapping.is_empty() {
        args.extend(["--mapping", file.to_str().unwrap()]);
    }
    let output = app.try_run_cli(&args);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{errors}");
    let patients = app
        .sign_in("admin")
        .await
        .graphql("{ patients { nodes { chartNo name } } }")
        .await["patients"]["nodes"]
        .take();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let names = patients
        .as_array()
        .unwrap()
        .iter()
        .map(|patient| (text(&patient["chartNo"]), text(&patient["name"])))
        .collect();
    (errors, names)
}

on_each_database! {
    async fn repeated_imports_change_nothing(app: TestApp) {
        use test_support::{EXAMPLE_PATIENTS, EXAMPLE_VISITS};
        assert_eq!(app.import("patients", "H1", EXAMPLE_PATIENTS), "5 rows read: 5 inserted, 0 changed, 0 unchanged, 0 conflicts, 0 refused, 0 blank; 0 values left empty\n");
        assert_eq!(app.import("visits", "H1", EXAMPLE_VISITS), "11 rows read: 11 inserted, 0 changed, 0 unchanged, 0 conflicts, 0 refused, 0 blank; 0 values left empty\n");
        let user = app.sign_in("admin").await;
        let query = format!("{{ {} {{ revision }} }}", test_support::EXAMPLE);
        let before = user.graphql(&query).await;
        // With other line endings, a byte order mark, and columns in another order.
        let windows = format!("\u{feff}{}", EXAMPLE_PATIENTS.replace('\n', "\r\n"));
        assert_eq!(app.import("patients", "H1", &windows), "5 rows read: 0 inserted, 0 changed, 5 unchanged, 0 conflicts, 0 refused, 0 blank; 0 values left empty\n");
        let turned: String = EXAMPLE_VISITS.lines().map(|line| line.rsplit(',').collect::<Vec<_>>().join(",") + "\r").collect();
        assert_eq!(app.import("visits", "H1", &turned), "11 rows read: 0 inserted, 0 changed, 11 unchanged, 0 conflicts, 0 refused, 0 blank; 0 values left empty\n");
        assert_eq!(user.graphql(&query).await, before);
        let changed = EXAMPLE_VISITS.replace("1,A,2025-05-11,,COMPLETED", "1,A,2025-05-12,,ENDED");
        assert_eq!(app.import("visits", "H1", &changed), "11 rows read: 0 inserted, 1 changed, 10 unchanged, 0 conflicts, 0 refused, 0 blank; 0 values left empty\n");
        assert_ne!(user.graphql(&query).await, before);
        // Beyond 2038, where MariaDB's TIMESTAMP ends.
        let future = |at: &str| app.import("visits", "H1", &format!("visit_no,chart_no,scheduled_at,status\nX,A,{at},BOOKED\n"));
        let at = async || user.graphql("{ visits(first: 1, orderBy: {field: DATE, direction: DESC}) { nodes { visitNo scheduledAt } } }").await["visits"]["nodes"][0].take();
        future("2047-01-02T00:30:00Z");
        assert_eq!(at().await, json!({"visitNo": "X", "scheduledAt": "2047-01-02T00:30:00Z"}));
        future("2048-01-02T00:30:00Z");
        assert_eq!(at().await["scheduledAt"], "2048-01-02T00:30:00Z");
        // Columns missing in the file stay unchanged.
        assert_eq!(app.import("visits", "H1", "visit_no,chart_no,date,status\n5,B,2025-06-03,COMPLETED\n"), "1 rows read: 0 inserted, 0 changed, 1 unchanged, 0 conflicts, 0 refused, 0 blank; 0 values left empty\n");
    }

    async fn invalid_rows_are_reported_and_the_others_imported(app: TestApp) {
        let (errors, summary) = reported(app, "patients", "chart_no,name,phone,birth_date,sex\n\
            00017,Zero Seven,,,\n,No Number,,,\n17,Seventeen,12,,\n18,X,,1980-02-30,\n\n19,X,,,WOMAN\n20,X,,\n00017,Again,,,\n21,\"Two\nlines\",,,\n");
        assert_eq!(summary, "9 rows read: 3 inserted, 0 changed, 0 unchanged, 0 conflicts, 5 refused, 1 blank; 2 values left empty\n");
        for expected in ["line 3, column chart_no: empty", "line 4, column phone: left empty", "line 5, column birth_date: left empty: must be an existing date",
            "line 7, column sex: unknown value", "column sex: unknown word \"WOMAN\" in 1 rows", "line 8: 4 fields where the header has 5", "line 9, column chart_no: an earlier row of this file has this number",
            "line 10, column name: must be 1–255 characters"] {
            assert!(errors.contains(expected), "{expected:?} in {errors}");
        }
        // Messages contain no patient data.
        assert!(!errors.contains("Seven") && !errors.contains("1980"), "{errors}");
        let (errors, summary) = reported(app, "visits", "visit_no,chart_no,date,scheduled_at,status\n\
            v1,17,2025-05-01,,COMPLETED\nv2,99,2025-05-01,,COMPLETED\nv3,17,,,COMPLETED\nv4,17,1899-05-01,,COMPLETED\nv5,17,2025-05-01,,DONE\n\
            v6,17,,2025-05-01T23:30:00Z,ENDED\nv7,17,,2025-05-01T23:30,ENDED\nv8,17,,yesterday,ENDED\nv9,00017,2025-05-09,2025-05-01T00:00:00Z,ENDED\n");
        assert_eq!(summary, "9 rows read: 4 inserted, 0 changed, 0 unchanged, 0 conflicts, 5 refused, 0 blank; 0 values left empty\n");
        for expected in ["line 3, column chart_no: no patient", "line 4, column date: empty", "line 5, column date: must be within",
            "line 6, column status: unknown value", "line 9, column scheduled_at: must be an existing time"] {
            assert!(errors.contains(expected), "{expected:?} in {errors}");
        }
        let user = app.sign_in("admin").await;
        let response = user.graphql("{ visits(orderBy: {field: DATE}) { nodes { visitNo date scheduledAt patient { chartNo } } } }").await;
        assert_eq!(response["visits"]["nodes"], json!([
            {"visitNo": "v1", "date": "2025-05-01", "scheduledAt": null, "patient": {"chartNo": "17"}},
            {"visitNo": "v7", "date": "2025-05-01", "scheduledAt": "2025-05-01T14:30:00Z", "patient": {"chartNo": "17"}},
            {"visitNo": "v6", "date": "2025-05-02", "scheduledAt": "2025-05-01T23:30:00Z", "patient": {"chartNo": "17"}},
            {"visitNo": "v9", "date": "2025-05-09", "scheduledAt": "2025-05-01T00:00:00Z", "patient": {"chartNo": "00017"}},
        ]));
        let latin = imported_with(app, "latin.csv", b"chart_no,name\nx2,caf\xe9\n", "").await;
        assert!(latin.0.contains("read as CSV, Windows-1252, delimiter ,, header row 1"), "{}", latin.0);
        assert!(latin.1.contains(&("x2".to_owned(), "caf\u{e9}".to_owned())));
        let path = app.write_file("utf8.csv", b"chart_no,name\nx3,fine\nx4,caf\xe9\n");
        let mapping = app.write_file("utf8.toml", "encoding = \"UTF-8\"");
        let output = app.try_run_cli(&["import", "patients", "--hospital", "H1", path.to_str().unwrap(), "--mapping", mapping.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(2));
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(errors.contains("line 3, column name: has bytes that are not in the file's encoding"), "{errors}");
    }

    async fn a_spreadsheet_is_imported_as_a_clinic_keeps_it(app: TestApp) {
        let mut workbook = rust_xlsxwriter::Workbook::new();
        let sheet = workbook.add_worksheet();
        sheet.write_string(0, 0, "Patients").unwrap();
        sheet.write_row(2, 0, ["No", "Last", "First", "Born", "Ward"]).unwrap();
        sheet.write_number(3, 0, 12.0).unwrap();
        sheet.write_row(3, 1, ["Kim", "Min", "31/12/1980"]).unwrap();
        sheet.write_number(4, 0, 13.0).unwrap();
        let mapping = "date_format = \"DD/MM/YYYY\"\n[columns]\nchart_no = \"No\"\nname = [\"Last\", \"First\"]\nbirth_date = \"Born\"\n";
        let (errors, patients) = imported_with(app, "patients.xlsx", workbook.save_to_buffer().unwrap(), mapping).await;
        assert!(errors.contains("read as XLSX, sheet \"Sheet1\", header row 3"), "{errors}");
        assert_eq!(patients, [("12", "Kim Min"), ("13", "")].map(|(number, name)| (number.to_owned(), name.to_owned())));
    }

    async fn a_file_without_a_mapping_is_read_where_its_header_row_is_unmistakable(app: TestApp) {
        let mut workbook = rust_xlsxwriter::Workbook::new();
        workbook.add_worksheet().write_string(0, 0, "About this file").unwrap();
        let sheet = workbook.add_worksheet();
        sheet.write_string(0, 0, "Patients").unwrap();
        sheet.write_row(2, 0, ["MRN", "Last name", "First name", "D.O.B.", "Gender", "Ward"]).unwrap();
        sheet.write_row(3, 0, ["12", "Kim", "Min", "31/12/1980", "F", "7"]).unwrap();
        let (errors, patients) = imported_with(app, "patients.xlsx", workbook.save_to_buffer().unwrap(), "").await;
        let expected = "read as XLSX, sheet \"Sheet2\", header row 3\ncolumn \"MRN\" is chart_no\ncolumn \"Last name\" is name\ncolumn \"First name\" is name\n\
            column \"D.O.B.\" is birth_date\ncolumn \"Gender\" is sex\ncolumn \"Ward\" is not read\n";
        assert!(errors.contains(expected), "{errors}");
        assert_eq!(patients, [("12".to_owned(), "Kim Min".to_owned())]);
        let visits = "예약번호;환자번호;진료일;상태\nv1;12;2025.05.01;완료\nv2;12;2025.05.02;예약\n";
        let summary = app.run_cli_with_input(&["import", "visits", "--hospital", "H1", "-"], visits);
        assert_eq!(summary, "2 rows read: 2 inserted, 0 changed, 0 unchanged, 0 conflicts, 0 refused, 0 blank; 0 values left empty\n");
        let query = "{ patients { nodes { birthDate sex visits(orderBy: {field: DATE}) { nodes { visitNo date status } } } } }";
        assert_eq!(app.sign_in("admin").await.graphql(query).await["patients"]["nodes"], json!([{"birthDate": "1980-12-31", "sex": "FEMALE", "visits": {"nodes": [
            {"visitNo": "v1", "date": "2025-05-01", "status": "COMPLETED"}, {"visitNo": "v2", "date": "2025-05-02", "status": "BOOKED"}]}}]));
        // Day and month could be either: it has to be said.
        let file = app.write_file("dates.csv", "MRN,DOB\n12,01/02/1980\n");
        let errors = refused(app, &["import", "patients", "--hospital", "H1", file.to_str().unwrap()]);
        assert!(errors.contains("no header row was found: it must have the columns chart_no"), "{errors}");
    }

    async fn the_standard_input_is_imported(app: TestApp) {
        let summary = app.run_cli_with_input(&["import", "patients", "--hospital", "H1", "-"], "chart_no;name\n1;Kim\n");
        assert_eq!(summary, "1 rows read: 1 inserted, 0 changed, 0 unchanged, 0 conflicts, 0 refused, 0 blank; 0 values left empty\n");
    }

    async fn a_mapping_is_suggested(app: TestApp) {
        let file = app.write_file("clinic.csv", "Our patients,,,\nMRN,LAST,FIRST,Gender\n17,Kim,Min,F\nTotal,,,\n");
        let file = file.to_str().unwrap();
        let mapping = app.run_cli(&["mapping", "suggest", file]);
        let mapping = app.write_file("suggested.toml", format!("skip_rows = [\"Total\"]\n{mapping}"));
        let summary = app.run_cli(&["import", "patients", "--hospital", "H1", file, "--mapping", mapping.to_str().unwrap()]);
        assert_eq!(summary, "2 rows read: 1 inserted, 0 changed, 0 unchanged, 0 conflicts, 0 refused, 1 blank; 0 values left empty\n");
        let patients = app.sign_in("admin").await.graphql("{ patients { nodes { chartNo name sex } } }").await;
        assert_eq!(patients["patients"]["nodes"], json!([{"chartNo": "17", "name": "Kim Min", "sex": "FEMALE"}]));
        assert!(refused(app, &["mapping", "suggest", "absent.csv"]).contains("absent.csv: cannot be read"));
    }

    async fn a_standard_input_without_end_is_refused(app: TestApp) {
        let endless = std::process::Command::new("yes").stdout(std::process::Stdio::piped()).spawn();
        let mut endless = endless.unwrap();
        let output = app
            .command(&["import", "patients", "--hospital", "H1", "-"])
            .stdin(endless.stdout.take().unwrap())
            .output()
            .unwrap();
        endless.wait().unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(1) && errors.contains("no header row was found"), "{errors}");
    }

    async fn an_sqlite_file_and_its_folder_are_for_their_owner_alone(app: TestApp) {
        if app.kind() != DatabaseKind::Sqlite {
            return;
        }
        let folder = app.write_file("x", "").with_file_name("new").join("folder");
        let file = folder.join("rollcall.db");
        let url = format!("sqlite://{}", file.display());
        assert!(app.command_at(&url, &["import", "patients", "--hospital", "H1", "x"]).output().unwrap().status.code() == Some(1));
        assert!(!file.exists(), "only migrate creates it");
        assert!(app.command_at(&url, &["migrate"]).status().unwrap().success());
        let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&folder), mode(&file)), (0o700, 0o600));
    }

    async fn unreadable_files_change_nothing(app: TestApp) {
        let import = |file: &str, kind: &str| refused(app, &["import", kind, "--hospital", "H1", file]);
        assert!(import("absent.csv", "visits").contains("absent.csv: cannot be read"));
        let file = |content: &[u8]| app.write_file("bad.csv", content).to_str().unwrap().to_owned();
        assert!(import(&file(b""), "visits").contains("is empty"));
        assert!(import(&file(b"visit_no,chart_no,date\n"), "visits").contains("the column status is missing"));
        assert!(import(&file(b"visit_no,chart_no,status\n"), "visits").contains("one of the columns date and scheduled_at"));
        assert!(import(&file(b"visit_no,chart_no,date,status,deparment\n"), "visits").contains("unknown column \"deparment\""));
        assert!(import(&file(b"chart_no,name,name\n"), "patients").contains("the column name occurs twice"));
        assert!(import(&file(b"\xff\xfec\0h\0"), "patients").contains("no header row was found: it must have the columns chart_no"));
        assert!(import(&file(b"chart_no,name\n1,\"Kim\n2,Lee\n"), "patients").contains("line 2: a quote is not closed"));
        assert!(import(&file(b"\xd0\xcf\x11\xe0"), "patients").contains("save it as XLSX or CSV"));
        assert!(refused(app, &["import", "visits", "--hospital", "H9", "x.csv"]).contains("no hospital has the code"));
        let mapping = |text: &str| {
            let data = app.write_file("data.csv", "a\n");
            let mapping = app.write_file("mapping.toml", text);
            refused(app, &["import", "visits", "--hospital", "H1", data.to_str().unwrap(), "--mapping", mapping.to_str().unwrap()])
        };
        assert!(mapping("statuses = {No = \"COMPLETE\"}").contains("unknown word \"COMPLETE\""));
        assert!(mapping("colums = {}").contains("unknown field"));
        assert!(mapping("columns = {visitno = \"a\"}").contains("unknown column visitno"));
        assert!(mapping("columns = {visit_no = \"b\"}").contains("it must have the columns chart_no, status, b"));
    }

    async fn an_interrupted_import_completes_when_rerun(app: TestApp) {
        let patients: String = (0..50).map(|i| format!("p{i}\n")).collect();
        app.import("patients", "H1", &format!("chart_no\n{patients}"));
        let visits = |count: i32| -> String {
            let rows: String = (0..count).map(|i| format!("{i},p{},2025-05-{:02},COMPLETED\n", i % 50, i % 28 + 1)).collect();
            format!("visit_no,chart_no,date,status\n{rows}")
        };
        app.import("visits", "H1", &visits(2_500));
        assert_eq!(app.import("visits", "H1", &visits(6_000)), "6000 rows read: 3500 inserted, 0 changed, 2500 unchanged, 0 conflicts, 0 refused, 0 blank; 0 values left empty\n");
        let user = app.sign_in("admin").await;
        assert_eq!(user.graphql("{ visits { totalCount } }").await["visits"]["totalCount"], 6_000);
    }
}
