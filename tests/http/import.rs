//! CSV import.

use serde_json::json;
use test_support::{TestApp, on_each_database};

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
    assert!(output.status.success(), "{errors}");
    (errors, text(output.stdout))
}

on_each_database! {
    async fn repeated_imports_change_nothing(app: TestApp) {
        use test_support::{EXAMPLE_PATIENTS, EXAMPLE_VISITS};
        assert_eq!(app.import("patients", "H1", EXAMPLE_PATIENTS), "5 inserted, 0 changed, 0 unchanged, 0 refused, 0 values left empty\n");
        assert_eq!(app.import("visits", "H1", EXAMPLE_VISITS), "11 inserted, 0 changed, 0 unchanged, 0 refused, 0 values left empty\n");
        let user = app.sign_in("admin").await;
        let query = format!("{{ {} {{ revision }} }}", test_support::EXAMPLE);
        let before = user.graphql(&query).await;
        // With other line endings, a byte order mark, and columns in another order.
        let windows = format!("\u{feff}{}", EXAMPLE_PATIENTS.replace('\n', "\r\n"));
        assert_eq!(app.import("patients", "H1", &windows), "0 inserted, 0 changed, 5 unchanged, 0 refused, 0 values left empty\n");
        let turned: String = EXAMPLE_VISITS.lines().map(|line| line.rsplit(',').collect::<Vec<_>>().join(",") + "\r").collect();
        assert_eq!(app.import("visits", "H1", &turned), "0 inserted, 0 changed, 11 unchanged, 0 refused, 0 values left empty\n");
        assert_eq!(user.graphql(&query).await, before);
        let changed = EXAMPLE_VISITS.replace("1,A,2025-05-11,,COMPLETED", "1,A,2025-05-12,,ENDED");
        assert_eq!(app.import("visits", "H1", &changed), "0 inserted, 1 changed, 10 unchanged, 0 refused, 0 values left empty\n");
        assert_ne!(user.graphql(&query).await, before);
        // Beyond 2038, where MariaDB's TIMESTAMP ends.
        let future = |at: &str| app.import("visits", "H1", &format!("visit_no,chart_no,scheduled_at,status\nX,A,{at},BOOKED\n"));
        let at = async || user.graphql("{ visits(first: 1, orderBy: {field: DATE, direction: DESC}) { nodes { visitNo scheduledAt } } }").await["visits"]["nodes"][0].take();
        future("2047-01-02T00:30:00Z");
        assert_eq!(at().await, json!({"visitNo": "X", "scheduledAt": "2047-01-02T00:30:00Z"}));
        future("2048-01-02T00:30:00Z");
        assert_eq!(at().await["scheduledAt"], "2048-01-02T00:30:00Z");
        // Columns missing in the file stay unchanged.
        assert_eq!(app.import("visits", "H1", "visit_no,chart_no,date,status\n5,B,2025-06-03,COMPLETED\n"), "0 inserted, 0 changed, 1 unchanged, 0 refused, 0 values left empty\n");
    }

    async fn invalid_rows_are_reported_and_the_others_imported(app: TestApp) {
        let (errors, summary) = reported(app, "patients", "chart_no,name,phone,birth_date,sex\n\
            00017,Zero Seven,,,\n,No Number,,,\n17,Seventeen,12,,\n18,X,,1980-02-30,\n19,X,,,WOMAN\n20,X,,\n00017,Again,,,\n21,\"Two\nlines\",,,\n");
        assert_eq!(summary, "2 inserted, 0 changed, 0 unchanged, 6 refused, 1 values left empty\n");
        for expected in ["line 3, column chart_no: empty", "line 4, column phone: left empty", "line 5, column birth_date: must be an existing date",
            "line 6, column sex: unknown value", "line 7: 4 fields where the header has 5", "line 8, column chart_no: line 2 of this file",
            "line 9, column name: must be 1–255 characters"] {
            assert!(errors.contains(expected), "{expected:?} in {errors}");
        }
        // Messages contain no patient data.
        assert!(!errors.contains("Seven") && !errors.contains("1980"), "{errors}");
        let (errors, summary) = reported(app, "visits", "visit_no,chart_no,date,scheduled_at,status\n\
            v1,17,2025-05-01,,COMPLETED\nv2,99,2025-05-01,,COMPLETED\nv3,17,,,COMPLETED\nv4,17,1899-05-01,,COMPLETED\nv5,17,2025-05-01,,DONE\n\
            v6,17,,2025-05-01T23:30:00Z,ENDED\nv7,17,,2025-05-01T23:30,ENDED\nv8,17,,yesterday,ENDED\nv9,00017,2025-05-09,2025-05-01T00:00:00Z,ENDED\n");
        assert_eq!(summary, "4 inserted, 0 changed, 0 unchanged, 5 refused, 0 values left empty\n");
        for expected in ["line 3: chart_no: no patient", "line 4, column date: empty", "line 5, column date: must be within",
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
        let (errors, summary) = reported(app, "patients", b"chart_no,name\nx1,fine\nx2,caf\xe9\n");
        assert_eq!(summary, "1 inserted, 0 changed, 0 unchanged, 1 refused, 0 values left empty\n");
        assert!(errors.contains("line 3: the row is not UTF-8"), "{errors}");
    }

    async fn unreadable_files_change_nothing(app: TestApp) {
        let import = |file: &str, kind: &str| refused(app, &["import", kind, "--hospital", "H1", file]);
        assert!(import("absent.csv", "visits").contains("absent.csv cannot be read"));
        let file = |content: &[u8]| app.write_file("bad.csv", content).to_str().unwrap().to_owned();
        assert!(import(&file(b""), "visits").contains("is empty"));
        assert!(import(&file(b"visit_no,chart_no,date\n"), "visits").contains("the column status is missing"));
        assert!(import(&file(b"visit_no,chart_no,status\n"), "visits").contains("one of the columns date and scheduled_at"));
        assert!(import(&file(b"visit_no,chart_no,date,status,deparment\n"), "visits").contains("unknown column \"deparment\""));
        assert!(import(&file(b"chart_no,name,name\n"), "patients").contains("the column name occurs twice"));
        assert!(import(&file(b"\xff\xfec\0h\0"), "patients").contains("is not UTF-8"));
        assert!(refused(app, &["import", "visits", "--hospital", "H9", "x.csv"]).contains("no hospital has the code"));
        let mapping = |text: &str| {
            let data = app.write_file("data.csv", "a\n");
            let mapping = app.write_file("mapping.toml", text);
            refused(app, &["import", "visits", "--hospital", "H1", data.to_str().unwrap(), "--mapping", mapping.to_str().unwrap()])
        };
        assert!(mapping("colums = {}").contains("unknown field"));
        assert!(mapping("columns = {visitno = \"a\"}").contains("unknown column visitno"));
        assert!(mapping("columns = {visit_no = \"b\"}").contains("the column b is missing"));
    }

    async fn an_interrupted_import_completes_when_rerun(app: TestApp) {
        let patients: String = (0..50).map(|i| format!("p{i}\n")).collect();
        app.import("patients", "H1", &format!("chart_no\n{patients}"));
        let visits = |count: i32| -> String {
            let rows: String = (0..count).map(|i| format!("{i},p{},2025-05-{:02},COMPLETED\n", i % 50, i % 28 + 1)).collect();
            format!("visit_no,chart_no,date,status\n{rows}")
        };
        app.import("visits", "H1", &visits(2_500));
        assert_eq!(app.import("visits", "H1", &visits(6_000)), "3500 inserted, 0 changed, 2500 unchanged, 0 refused, 0 values left empty\n");
        let user = app.sign_in("admin").await;
        assert_eq!(user.graphql("{ visits { totalCount } }").await["visits"]["totalCount"], 6_000);
    }
}
