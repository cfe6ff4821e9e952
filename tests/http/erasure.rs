//! Erased patients: no personal data remains, and imports do not restore it.

use sea_orm::{ConnectionTrait as _, Statement};
use serde_json::{Value, json};
use test_support::{Client, DatabaseKind, EXAMPLE_PATIENTS, EXAMPLE_VISITS, TestApp, error, on_each_database};

/// The columns of the database that contain this text.
pub async fn holding(app: &TestApp, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for table in app.tables().await {
        let columns = match app.kind() {
            DatabaseKind::Sqlite => format!("SELECT name FROM pragma_table_info('{table}')"),
            DatabaseKind::Postgres | DatabaseKind::Mariadb => {
                let schema = if app.kind() == DatabaseKind::Postgres {
                    "'public'"
                } else {
                    "DATABASE()"
                };
                format!(
                    "SELECT CAST(column_name AS CHAR(99)) FROM information_schema.columns
                    WHERE table_schema = {schema} AND table_name = '{table}'"
                )
            }
        };
        let statement = Statement::from_string(app.sql.get_database_backend(), columns);
        for row in app.sql.query_all_raw(statement).await.unwrap() {
            let column: String = row.try_get_by_index(0).unwrap();
            let column = column.trim();
            let quoted = if app.kind() == DatabaseKind::Mariadb {
                format!("`{column}`")
            } else {
                format!("\"{column}\"")
            };
            let word = if app.kind() == DatabaseKind::Mariadb {
                "CHAR"
            } else {
                "TEXT"
            };
            let sql = format!("SELECT COUNT(*) FROM {table} WHERE CAST({quoted} AS {word}) LIKE '%{text}%'");
            if app.query_number(&sql).await > 0 {
                found.push(format!("{table}.{column}"));
            }
        }
    }
    found
}

async fn by(user: &Client<'_>, list: &str, key: &str, number: &str) -> Value {
    let nodes = user
        .graphql(&format!("{{ {list}(first: 100) {{ nodes {{ id version {key} }} }} }}"))
        .await[list]["nodes"]
        .take();
    let nodes = nodes.as_array().unwrap();
    nodes.iter().find(|node| node[key] == number).unwrap().clone()
}

async fn erase(user: &Client<'_>, chart_no: &str) {
    let patient = by(user, "patients", "chartNo", chart_no).await;
    let input = json!({"id": patient["id"], "version": patient["version"], "reason": "Asked for"});
    user.mutate("erasePatient", input, "patient { state }").await;
}

/// The import's messages about rows, and its summary.
fn imported(app: &TestApp, kind: &str, content: &str, mapping: Option<&str>) -> (Vec<String>, String) {
    let file = app.write_file("again.csv", content);
    let mut args = vec!["import", kind, "--hospital", "H1", file.to_str().unwrap()];
    let mapping = mapping.map(|text| app.write_file("again.toml", text));
    if let Some(mapping) = &mapping {
        args.extend(["--mapping", mapping.to_str().unwrap()]);
    }
    let output = app.try_run_cli(&args);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{errors}");
    let reported = errors.lines().filter(|line| line.starts_with("line"));
    (
        reported.map(str::to_owned).collect(),
        String::from_utf8(output.stdout).unwrap(),
    )
}

const ERASED: &str = "the patient was erased: all rows with this chart number are left out";

on_each_database! {
    async fn an_import_does_not_restore_an_erased_patient(app: TestApp) {
        app.import_example();
        let admin = app.sign_in("admin").await;
        let [a, d, e] = [by(&admin, "patients", "chartNo", "A").await, by(&admin, "patients", "chartNo", "D").await, by(&admin, "patients", "chartNo", "E").await];
        // One was merged into the erased patient, and one had another chart number before.
        admin.mutate("mergePatients", json!({"id": e["id"], "version": 1, "intoId": a["id"], "reason": "Twice"}), "into { id }").await;
        admin.mutate("changePatient", json!({"id": d["id"], "version": 1, "chartNo": "D2"}), "patient { id }").await;
        erase(&admin, "A").await;
        erase(&admin, "D2").await;
        for command in ["rotate", "drop-old"] {
            app.run_cli(&["keys", command]);
        }
        let before = app.query_value::<i64>("SELECT MAX(number) FROM revision").await;
        let (reported, summary) = imported(app, "patients", EXAMPLE_PATIENTS, None);
        assert_eq!(summary, "5 rows read: 0 inserted, 0 changed, 5 unchanged, 0 conflicts, 0 refused, 0 blank; 0 values left empty\n");
        assert_eq!(reported, [format!("lines 2, 5, 6, column chart_no: {ERASED} (3 rows)")]);
        let (reported, summary) = imported(app, "visits", EXAMPLE_VISITS, None);
        assert_eq!(summary, "11 rows read: 0 inserted, 0 changed, 11 unchanged, 0 conflicts, 0 refused, 0 blank; 0 values left empty\n");
        assert_eq!(reported, Vec::<String>::new(), "once per number");
        // No new visit or department, no patient imported with a visit, and the visits keep their patient.
        let header = "visit_no,chart_no,date,scheduled_at,status,department,doctor,channel,name,phone";
        let rows = "77,D2,2025-07-01,,COMPLETED,Ghosts,Dr No,WEB,Dag Day,\n78,A,2025-07-01,,COMPLETED,Ghosts,,WEB,Ann Ash,010-1111-0001\n1,B,2025-05-11,,COMPLETED,Ghosts,,WEB,,\n";
        let (reported, summary) = imported(app, "visits", &format!("{header}\n{rows}"), Some("brings_patients = true\n"));
        assert_eq!(summary, "3 rows read: 0 inserted, 0 changed, 3 unchanged, 0 conflicts, 0 refused, 0 blank; 0 values left empty\n");
        let of_erased = "line 4, column visit_no: the visit is of a patient who was erased: the row is left out";
        assert_eq!(reported, [format!("line 2, column chart_no: {ERASED}"), of_erased.to_owned()]);
        assert_eq!(app.query_value::<i64>("SELECT MAX(number) FROM revision").await, before);
        assert_eq!(app.query_value::<i64>("SELECT COUNT(*) FROM patient").await, 5);
        assert_eq!(app.query_value::<i64>("SELECT COUNT(*) FROM department WHERE name = 'Ghosts'").await, 0);
        for text in ["Ann Ash", "Dag Day"] {
            assert_eq!(holding(app, text).await, Vec::<String>::new(), "{text}");
        }
        // Nor can a mutation use the chart number again.
        let server = app.second_server();
        let admin = app.sign_in_at(&server.base, "H1", "admin").await;
        let taken = error("BAD_USER_INPUT", "input.chartNo");
        for number in ["A", "E", "D", "D2"] {
            assert_eq!(admin.mutation_error("registerPatient", json!({"chartNo": number})).await, taken, "{number}");
        }
        let b = by(&admin, "patients", "chartNo", "B").await;
        assert_eq!(admin.mutation_error("changePatient", json!({"id": b["id"], "version": 1, "chartNo": "A"})).await, taken);
        admin.mutate("registerPatient", json!({"chartNo": "F"}), "patient { id }").await;
    }

    async fn reasons_do_not_mention_erased_patients(app: TestApp) {
        app.import_example();
        let admin = app.sign_in("admin").await;
        let [a, b, c] = [by(&admin, "patients", "chartNo", "A").await, by(&admin, "patients", "chartNo", "B").await, by(&admin, "patients", "chartNo", "C").await];
        let visit = async |number: &str| by(&admin, "visits", "visitNo", number).await;
        let moved = async |number: &str, to: &Value| {
            let visit = visit(number).await;
            let input = json!({"id": visit["id"], "version": visit["version"], "patientId": to["id"], "reason": "Is Annabel"});
            admin.mutate("changeVisit", input, "visit { id }").await;
        };
        // Moved to her, from her, and to a third patient.
        moved("3", &a).await;
        moved("1", &b).await;
        moved("1", &c).await;
        // A deleted visit of hers.
        let gone = visit("2").await;
        admin.mutate("deleteVisit", json!({"id": gone["id"], "version": gone["version"], "reason": "Annabel says so"}), "visit { id }").await;
        // Merged in both directions, and undone.
        let version = async |number: &str| by(&admin, "patients", "chartNo", number).await["version"].clone();
        for (from, number, into) in [(&a, "A", &b), (&c, "C", &a)] {
            let input = json!({"id": from["id"], "version": version(number).await, "intoId": into["id"], "reason": "Both Annabel"});
            admin.mutate("mergePatients", input, "into { id }").await;
            admin.mutate("undoMerge", json!({"id": from["id"], "reason": "Annabel is another"}), "patient { id }").await;
        }
        // Nothing about her.
        let other = visit("10").await;
        admin.mutate("changeVisit", json!({"id": other["id"], "version": 1, "status": "NO_SHOW", "reason": "Never came"}), "visit { id }").await;
        assert_eq!(holding(app, "Annabel").await.len(), 3);
        erase(&admin, "A").await;
        assert_eq!(holding(app, "Annabel").await, Vec::<String>::new());
        assert_eq!(holding(app, "Never came").await, ["record_change.reason", "visit_change.reason"]);
    }
}
