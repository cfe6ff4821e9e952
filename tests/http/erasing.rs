//! Who is erased stays erased: nothing that speaks of the person is left, and no file brings it back.

use sea_orm::{ConnectionTrait as _, Statement};
use serde_json::{Value, json};

use crate::harness::{App, EXAMPLE_PATIENTS, EXAMPLE_VISITS, Kind, User, on_each_database};

/// The columns of the database that hold this text.
async fn holding(app: &App, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for table in app.tables().await {
        let columns = match app.kind() {
            Kind::Sqlite => format!("SELECT name FROM pragma_table_info('{table}')"),
            Kind::Postgres | Kind::Mariadb => {
                let schema = if app.kind() == Kind::Postgres {
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
            let quoted = if app.kind() == Kind::Mariadb {
                format!("`{column}`")
            } else {
                format!("\"{column}\"")
            };
            let word = if app.kind() == Kind::Mariadb { "CHAR" } else { "TEXT" };
            let sql = format!("SELECT COUNT(*) FROM {table} WHERE CAST({quoted} AS {word}) LIKE '%{text}%'");
            if app.number(&sql).await > 0 {
                found.push(format!("{table}.{column}"));
            }
        }
    }
    found
}

async fn by(user: &User<'_>, list: &str, key: &str, number: &str) -> Value {
    let nodes = user
        .ask(&format!("{{ {list}(first: 100) {{ nodes {{ id version {key} }} }} }}"))
        .await[list]["nodes"]
        .take();
    let nodes = nodes.as_array().unwrap();
    nodes.iter().find(|node| node[key] == number).unwrap().clone()
}

async fn erase(user: &User<'_>, chart_no: &str) {
    let patient = by(user, "patients", "chartNo", chart_no).await;
    let input = json!({"id": patient["id"], "version": patient["version"], "reason": "Asked for"});
    user.change("erasePatient", input, "patient { state }").await;
}

/// What is said of a file's rows, and the summary.
fn imported(app: &App, kind: &str, content: &str, mapping: Option<&str>) -> (Vec<String>, String) {
    let file = app.file("again.csv", content);
    let mut args = vec!["import", kind, "--hospital", "H1", file.to_str().unwrap()];
    let mapping = mapping.map(|text| app.file("again.toml", text));
    if let Some(mapping) = &mapping {
        args.extend(["--mapping", mapping.to_str().unwrap()]);
    }
    let output = app.try_rollcall(&args);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{errors}");
    let reported = errors.lines().filter(|line| line.starts_with("line "));
    (
        reported.map(str::to_owned).collect(),
        String::from_utf8(output.stdout).unwrap(),
    )
}

const ERASED: &str = "the patient was erased: the row is left out, and so is each with this number";

on_each_database! {
    async fn an_import_does_not_bring_an_erased_patient_back(app: App) {
        app.example();
        let admin = app.sign_in("admin").await;
        let [a, d, e] = [by(&admin, "patients", "chartNo", "A").await, by(&admin, "patients", "chartNo", "D").await, by(&admin, "patients", "chartNo", "E").await];
        // One was merged into the erased patient, and one had another number before.
        admin.change("mergePatients", json!({"id": e["id"], "version": 1, "intoId": a["id"], "reason": "Twice"}), "into { id }").await;
        admin.change("changePatient", json!({"id": d["id"], "version": 1, "chartNo": "D2"}), "patient { id }").await;
        erase(&admin, "A").await;
        erase(&admin, "D2").await;
        for command in ["rotate", "drop-old"] {
            app.rollcall(&["keys", command]);
        }
        let before = app.value::<i64>("SELECT MAX(number) FROM revision").await;
        let (reported, summary) = imported(app, "patients", EXAMPLE_PATIENTS, None);
        assert_eq!(summary, "0 inserted, 0 changed, 5 unchanged, 0 refused, 0 values left empty\n");
        assert_eq!(reported, [2, 5, 6].map(|line| format!("line {line}, column chart_no: {ERASED}")));
        let (reported, summary) = imported(app, "visits", EXAMPLE_VISITS, None);
        assert_eq!(summary, "0 inserted, 0 changed, 11 unchanged, 0 refused, 0 values left empty\n");
        assert_eq!(reported, [2, 10, 12].map(|line| format!("line {line}, column chart_no: {ERASED}")), "once a number");
        // Neither a new visit, nor a department, nor a patient who comes along with a visit; and nobody takes the visits over.
        let header = "visit_no,chart_no,date,scheduled_at,status,department,doctor,channel,name,phone";
        let rows = "77,D2,2025-07-01,,COMPLETED,Ghosts,Dr No,WEB,Dag Day,\n78,A,2025-07-01,,COMPLETED,Ghosts,,WEB,Ann Ash,010-1111-0001\n1,B,2025-05-11,,COMPLETED,Ghosts,,WEB,,\n";
        let (reported, summary) = imported(app, "visits", &format!("{header}\n{rows}"), Some("brings_patients = true\n"));
        assert_eq!(summary, "0 inserted, 0 changed, 3 unchanged, 0 refused, 0 values left empty\n");
        assert_eq!(reported[..2], [2, 3].map(|line| format!("line {line}, column chart_no: {ERASED}")));
        assert_eq!(reported[2..], ["line 4, column visit_no: the visit is of a patient who was erased: the row is left out"]);
        assert_eq!(app.value::<i64>("SELECT MAX(number) FROM revision").await, before);
        assert_eq!(app.value::<i64>("SELECT COUNT(*) FROM patient").await, 5);
        assert_eq!(app.value::<i64>("SELECT COUNT(*) FROM department WHERE name = 'Ghosts'").await, 0);
        for text in ["Ann Ash", "Dag Day"] {
            assert_eq!(holding(app, text).await, Vec::<String>::new(), "{text}");
        }
        // Nor is a number given again by hand.
        let server = app.second_server();
        let admin = app.sign_in_at(&server.base, "H1", "admin").await;
        let taken = ("BAD_USER_INPUT".to_owned(), "input.chartNo".to_owned());
        for number in ["A", "E", "D", "D2"] {
            assert_eq!(admin.refused_change("registerPatient", json!({"chartNo": number})).await, taken, "{number}");
        }
        let b = by(&admin, "patients", "chartNo", "B").await;
        assert_eq!(admin.refused_change("changePatient", json!({"id": b["id"], "version": 1, "chartNo": "A"})).await, taken);
        admin.change("registerPatient", json!({"chartNo": "F"}), "patient { id }").await;
    }

    async fn no_reason_speaks_of_an_erased_patient(app: App) {
        app.example();
        let admin = app.sign_in("admin").await;
        let [a, b, c] = [by(&admin, "patients", "chartNo", "A").await, by(&admin, "patients", "chartNo", "B").await, by(&admin, "patients", "chartNo", "C").await];
        let visit = async |number: &str| by(&admin, "visits", "visitNo", number).await;
        let moved = async |number: &str, to: &Value| {
            let visit = visit(number).await;
            let input = json!({"id": visit["id"], "version": visit["version"], "patientId": to["id"], "reason": "Is Annabel"});
            admin.change("changeVisit", input, "visit { id }").await;
        };
        // To her and from her, and on to somebody else.
        moved("3", &a).await;
        moved("1", &b).await;
        moved("1", &c).await;
        // A visit of hers that is deleted.
        let gone = visit("2").await;
        admin.change("deleteVisit", json!({"id": gone["id"], "version": gone["version"], "reason": "Annabel says so"}), "visit { id }").await;
        // Merged either way, and undone.
        let version = async |number: &str| by(&admin, "patients", "chartNo", number).await["version"].clone();
        for (from, number, into) in [(&a, "A", &b), (&c, "C", &a)] {
            let input = json!({"id": from["id"], "version": version(number).await, "intoId": into["id"], "reason": "Both Annabel"});
            admin.change("mergePatients", input, "into { id }").await;
            admin.change("undoMerge", json!({"id": from["id"], "reason": "Annabel is another"}), "patient { id }").await;
        }
        // Nothing of hers.
        let other = visit("10").await;
        admin.change("changeVisit", json!({"id": other["id"], "version": 1, "status": "NO_SHOW", "reason": "Never came"}), "visit { id }").await;
        assert_eq!(holding(app, "Annabel").await.len(), 2);
        erase(&admin, "A").await;
        assert_eq!(holding(app, "Annabel").await, Vec::<String>::new());
        assert_eq!(holding(app, "Never came").await, ["visit_change.reason"]);
    }
}
