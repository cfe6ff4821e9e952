//! A real dataset: 110,527 appointments, if the file exists.

use std::path::Path;

use serde_json::json;
use test_support::{DatabaseKind, KINDS, on_each_database, report_skipped};

const FILE: &str = "../shared/data/noshow/KaggleV2-May-2016.csv";

/// A CSV file without quotes as a spreadsheet saves it: numbers as numbers, but for long ones.
fn saved_as_xlsx(csv: &Path) -> Vec<u8> {
    let mut workbook = rust_xlsxwriter::Workbook::new();
    let sheet = workbook.add_worksheet();
    for (row, line) in (0..).zip(std::fs::read_to_string(csv).unwrap().lines()) {
        for (column, cell) in (0..).zip(line.split(',')) {
            // Spreadsheets keep 15 digits.
            match cell
                .parse::<f64>()
                .ok()
                .filter(|_| cell.len() <= 15 && cell.bytes().all(|byte| byte.is_ascii_digit()))
            {
                Some(number) => sheet.write_number(row, column, number).unwrap(),
                None => sheet.write_string(row, column, cell).unwrap(),
            };
        }
    }
    workbook.save_to_buffer().unwrap()
}

on_each_database! {
    async fn the_public_no_show_dataset_gives_known_numbers(app: TestApp) {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let file = root.join(FILE);
        if !file.exists() {
            report_skipped(&format!("the no-show dataset does not exist ({FILE})"));
            return;
        }
        let mapping = root.join("mappings/kaggle-noshow.toml");
        app.run_cli(&["hospital", "add", "--code", "K", "--name", "Vitória", "--time-zone", "America/Sao_Paulo", "--churn-after-days", "14"]);
        app.run_cli_with_input(&["staff", "add", "--hospital", "K", "--login", "admin", "--name", "Admin", "--role", "ADMIN"], test_support::PASSWORD);
        let import = || app.run_cli(&["import", "visits", "--hospital", "K", file.to_str().unwrap(), "--mapping", mapping.to_str().unwrap()]);
        assert_eq!(import(), "110527 rows read: 110527 inserted, 0 changed, 0 unchanged, 0 conflicts, 0 refused, 0 blank; 1 values left empty\n");
        assert_eq!(import(), "110527 rows read: 0 inserted, 0 changed, 110527 unchanged, 0 conflicts, 0 refused, 0 blank; 1 values left empty\n");
        let user = app.sign_in_at(app.base(), "K", "admin").await;
        let lists: Vec<String> = KINDS.iter().map(|kind| format!("{kind}: cohort(kind: {kind}) {{ id patientCount visitCount }}")).collect();
        let response = user.graphql(&format!("{{ patients {{ totalCount }} statistics(period: MONTH, range: {{from: \"2016-04-29\", to: \"2016-06-08\"}}, asOf: \"2016-06-08\") {{
            bucket(day: \"2016-05-10\") {{ {0} }} total {{ {0} }} }} }}", lists.join(" "))).await;
        let (may, total) = (&response["statistics"]["bucket"], &response["statistics"]["total"]);
        let counts = |part: &serde_json::Value, kind: &str| (part[kind]["patientCount"].as_u64().unwrap(), part[kind]["visitCount"].as_u64().unwrap());
        assert_eq!(response["patients"]["totalCount"], 62_299);
        assert_eq!(counts(may, "NEW"), (41_764, 60_937));
        assert_eq!(counts(may, "RETURNING"), (1_085, 3_100));
        assert_eq!(counts(may, "CHURN_SUSPECTED").0, 29_710);
        assert_eq!(counts(may, "NO_SHOW"), (13_751, 16_804));
        assert_eq!(counts(total, "NEW").0, 54_154);
        assert_eq!(counts(total, "NO_SHOW"), (17_663, 22_319));
        // Paged to the end, each list is as long as its count.
        for (kind, list) in [("RETURNING", "patients"), ("RETURNING", "visits"), ("NO_SHOW", "patients")] {
            let query = format!("query ($id: ID!, $at: String) {{ node(id: $id) {{ ... on Cohort {{ {list}(first: 100, after: $at) {{ edges {{ cursor }} pageInfo {{ hasNextPage endCursor }} }} }} }} }}");
            let (mut rows, mut at) = (0, serde_json::Value::Null);
            loop {
                let page = user.graphql_with(&query, json!({"id": may[kind]["id"], "at": at})).await["node"][list].take();
                rows += page["edges"].as_array().unwrap().len() as u64;
                at = page["pageInfo"]["endCursor"].clone();
                if page["pageInfo"]["hasNextPage"] == false {
                    break;
                }
            }
            let (patients, visits) = counts(may, kind);
            assert_eq!(rows, if list == "patients" { patients } else { visits });
        }
        // Saved as a spreadsheet, it gives the same numbers: once is enough, since reading it does not depend on the database.
        if app.kind() == DatabaseKind::Sqlite {
            let sheet = app.write_file("kaggle.xlsx", saved_as_xlsx(&file));
            app.run_cli(&["hospital", "add", "--code", "X", "--name", "Vitória", "--time-zone", "America/Sao_Paulo", "--churn-after-days", "14"]);
            app.run_cli_with_input(&["staff", "add", "--hospital", "X", "--login", "admin", "--name", "Admin", "--role", "ADMIN"], test_support::PASSWORD);
            let imported = app.run_cli(&["import", "visits", "--hospital", "X", sheet.to_str().unwrap(), "--mapping", mapping.to_str().unwrap()]);
            assert_eq!(imported, "110527 rows read: 110527 inserted, 0 changed, 0 unchanged, 0 conflicts, 0 refused, 0 blank; 1 values left empty\n");
            let user = app.sign_in_at(app.base(), "X", "admin").await;
            let counts: Vec<String> = KINDS.iter().map(|kind| format!("{kind}: cohort(kind: {kind}) {{ patientCount visitCount }}")).collect();
            let counts = format!("{{ patients {{ totalCount }} statistics(period: MONTH, range: {{from: \"2016-04-29\", to: \"2016-06-08\"}}, asOf: \"2016-06-08\") {{
                buckets {{ {0} }} total {{ {0} }} }} }}", counts.join(" "));
            let of_csv = app.sign_in_at(app.base(), "K", "admin").await.graphql(&counts).await;
            assert_eq!(user.graphql(&counts).await, of_csv);
        }
        // IDs are text: this one would be rounded as a float.
        let odd = user.graphql("{ patients(filter: {search: \"9377952927E-5\"}) { nodes { chartNo } } }").await;
        assert_eq!(odd["patients"]["nodes"], json!([{"chartNo": "9377952927E-5"}]));
    }
}
