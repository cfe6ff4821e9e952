//! What staff and SQL do between imports of the same source: it stays, unless the source says something new of what they left alone.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};
use test_support::{Client, TestApp, on_each_database};

/// The status, the summary and the messages of an import.
struct Imported {
    status: i32,
    summary: String,
    messages: String,
}

fn import(app: &TestApp, kind: &str, content: &str, more: &[&str]) -> Imported {
    let path = app.write_file(&format!("{kind}.csv"), content);
    let args = ["import", kind, "--hospital", "H1", path.to_str().unwrap()];
    let output = app.try_run_cli(&[&args, more].concat());
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Imported {
        status: output.status.code().unwrap(),
        summary: text(output.stdout),
        messages: text(output.stderr),
    }
}

/// The counts of the outcomes in a summary: inserted, changed, unchanged, conflicts, refused, blank.
fn counts(summary: &str) -> [u64; 6] {
    let line = summary.lines().last().unwrap();
    let (_, counts) = line.split_once("rows read: ").unwrap();
    let numbers = counts
        .split(", ")
        .take(6)
        .map(|part| part.split(' ').next().unwrap().parse().unwrap());
    numbers.collect::<Vec<_>>().try_into().unwrap()
}

/// Imports a file twice. The first time it has these counts; the second time nothing is new, and the exit status is 0.
fn import_twice(app: &TestApp, kind: &str, content: &str, more: &[&str], expected: [u64; 6]) -> Imported {
    let first = import(app, kind, content, more);
    assert_eq!(counts(&first.summary), expected, "{}{}", first.messages, first.summary);
    assert_eq!(
        first.status,
        if expected[3] + expected[4] > 0 { 2 } else { 0 },
        "{}",
        first.messages
    );
    let rows = expected.iter().sum();
    let again = import(app, kind, content, more);
    assert_eq!(counts(&again.summary), [0, 0, rows, 0, 0, 0], "{}", again.messages);
    assert_eq!(again.status, 0);
    assert!(
        !again.messages.lines().any(|line| line.starts_with("line")),
        "{}",
        again.messages
    );
    first
}

async fn found(user: &Client<'_>, list: &str, number: &str, fields: &str) -> Value {
    let key = if list == "patients" { "chartNo" } else { "visitNo" };
    let nodes = user
        .graphql(&format!(
            "{{ {list}(first: 100) {{ nodes {{ id version {key} {fields} }} }} }}"
        ))
        .await;
    let nodes = nodes[list]["nodes"].as_array().unwrap().clone();
    nodes
        .into_iter()
        .find(|node| node[key] == number)
        .unwrap_or(Value::Null)
}

async fn change(user: &Client<'_>, list: &str, number: &str, input: Value) {
    let row = found(user, list, number, "").await;
    let mut input = input;
    input["id"] = row["id"].clone();
    input["version"] = row["version"].clone();
    match list {
        "patients" => user.mutate("changePatient", input, "patient { id }").await,
        _ => user.mutate("changeVisit", input, "visit { id }").await,
    };
}

const PATIENTS: &str = "chart_no,name,phone,birth_date,sex\n1,Ann Ash,010-1111-0001,1980-01-01,FEMALE\n2,Bo Bay,010-1111-0002,,\n\
    3,Cy Cox,010-1111-0003,1990-02-03,MALE\n4,Di Day,,,\n5,Ed Eve,,,\n6,Flo Fox,010-1111-0006,,\n";
const VISITS: &str = "visit_no,chart_no,date,status,department,doctor,channel\na,1,2025-05-01,COMPLETED,Eyes,Dr One,PHONE\n\
    b,2,2025-05-02,COMPLETED,Eyes,,\nc,3,2025-05-03,NO_SHOW,,,WEB\nd,4,2025-05-04,COMPLETED,,,\ne,5,2025-05-05,BOOKED,,,\nf,6,2025-05-06,CANCELED,,,\n";

on_each_database! {
    async fn a_week_of_nightly_imports_loses_nothing_of_what_staff_did(app: TestApp) {
        app.set_time("2025-05-06T03:00:00Z");
        import_twice(app, "patients", PATIENTS, &[], [6, 0, 0, 0, 0, 0]);
        import_twice(app, "visits", VISITS, &[], [6, 0, 0, 0, 0, 0]);
        let admin = app.sign_in("admin").await;
        // Monday: a name, a phone and a status are corrected. The source says what it said.
        change(&admin, "patients", "1", json!({"name": "Ann Ashley", "phone": "010-2222-0001"})).await;
        change(&admin, "visits", "b", json!({"status": "NO_SHOW", "reason": "Never came"})).await;
        app.set_time("2025-05-07T03:00:00Z");
        import_twice(app, "patients", PATIENTS, &[], [0, 0, 6, 0, 0, 0]);
        import_twice(app, "visits", VISITS, &[], [0, 0, 6, 0, 0, 0]);
        // Tuesday: a visit is deleted. It is said once, by the first import of the night.
        let visit = found(&admin, "visits", "d", "").await;
        admin.mutate("deleteVisit", json!({"id": visit["id"], "version": visit["version"], "reason": "Twice"}), "visit { id }").await;
        app.set_time("2025-05-08T03:00:00Z");
        let said = import_twice(app, "visits", VISITS, &[], [0, 0, 6, 0, 0, 0]);
        assert!(said.messages.contains("line 5, column visit_no: staff deleted this visit: the row is left out"), "{}", said.messages);
        // Wednesday: a patient is merged, another erased.
        let [into, merged, erased] = [found(&admin, "patients", "4", "").await, found(&admin, "patients", "5", "").await, found(&admin, "patients", "6", "").await];
        admin.mutate("mergePatients", json!({"id": merged["id"], "version": merged["version"], "intoId": into["id"], "reason": "Twice"}), "into { id }").await;
        admin.mutate("erasePatient", json!({"id": erased["id"], "version": erased["version"], "reason": "Asked for"}), "patient { id }").await;
        app.set_time("2025-05-09T03:00:00Z");
        let said = import_twice(app, "patients", PATIENTS, &[], [0, 0, 6, 0, 0, 0]);
        assert!(said.messages.contains("line 6, column chart_no: the patient was merged into another one"), "{}", said.messages);
        assert!(said.messages.contains("line 7, column chart_no: the patient was erased"), "{}", said.messages);
        import_twice(app, "visits", VISITS, &[], [0, 0, 6, 0, 0, 0]);
        assert_eq!(found(&admin, "visits", "e", "patient { chartNo }").await["patient"]["chartNo"], "4");
        // Thursday: the source says something new of a field that staff changed, and of one that they left alone.
        let patients = PATIENTS.replace("1,Ann Ash,010-1111-0001,1980-01-01,FEMALE", "1,Anna Ash,010-1111-0001,1980-01-02,FEMALE");
        app.set_time("2025-05-10T03:00:00Z");
        let said = import_twice(app, "patients", &patients, &[], [0, 0, 5, 1, 0, 0]);
        assert!(said.messages.contains("line 2, column name: differs from what was changed here since the last import; kept"), "{}", said.messages);
        let ann = found(&admin, "patients", "1", "name phone birthDate").await;
        assert_eq!((&ann["name"], &ann["phone"], &ann["birthDate"]), (&json!("Ann Ashley"), &json!("+821022220001"), &json!("1980-01-02")));
        // Friday: SQL changes a visit, and then the source does. Another visit SQL deletes: it comes again.
        app.execute("UPDATE visit SET channel = 'APP' WHERE visit_no = 'c'").await;
        app.execute("DELETE FROM visit WHERE visit_no = 'a'").await;
        let visits = VISITS.replace("c,3,2025-05-03,NO_SHOW,,,WEB", "c,3,2025-05-03,COMPLETED,,,TABLET");
        app.set_time("2025-05-11T03:00:00Z");
        import_twice(app, "visits", &visits, &[], [1, 0, 4, 1, 0, 0]);
        let c = found(&admin, "visits", "c", "channel status").await;
        assert_eq!((&c["channel"], &c["status"]), (&json!("APP"), &json!("COMPLETED")));
        // Saturday: the source comes to say what staff had corrected, and later something else.
        let visits = visits.replace("b,2,2025-05-02,COMPLETED", "b,2,2025-05-02,NO_SHOW");
        app.set_time("2025-05-12T03:00:00Z");
        import_twice(app, "visits", &visits, &[], [0, 0, 6, 0, 0, 0]);
        let visits = visits.replace("b,2,2025-05-02,NO_SHOW", "b,2,2025-05-02,CANCELED");
        import_twice(app, "visits", &visits, &[], [0, 1, 5, 0, 0, 0]);
        // Sunday: all of it still stands.
        assert_eq!(found(&admin, "patients", "1", "name").await["name"], "Ann Ashley");
        assert_eq!(found(&admin, "visits", "b", "status").await["status"], "CANCELED");
        assert_eq!(found(&admin, "visits", "d", "").await, Value::Null);
        assert_eq!(app.query_number("SELECT COUNT(*) FROM patient").await, 6);
        assert_eq!(app.query_number("SELECT COUNT(*) FROM import_base WHERE number IN ('6')").await, 0, "of an erased patient nothing is kept");
    }

    async fn the_file_wins_where_it_is_told_to(app: TestApp) {
        import_twice(app, "patients", PATIENTS, &[], [6, 0, 0, 0, 0, 0]);
        import_twice(app, "visits", VISITS, &[], [6, 0, 0, 0, 0, 0]);
        let admin = app.sign_in("admin").await;
        change(&admin, "patients", "1", json!({"name": "Ann Ashley"})).await;
        change(&admin, "patients", "2", json!({"name": "Bob Bay"})).await;
        let visit = found(&admin, "visits", "d", "").await;
        admin.mutate("deleteVisit", json!({"id": visit["id"], "version": visit["version"], "reason": "Twice"}), "visit { id }").await;
        let erased = found(&admin, "patients", "6", "").await;
        admin.mutate("erasePatient", json!({"id": erased["id"], "version": erased["version"], "reason": "Asked for"}), "patient { id }").await;
        let patients = PATIENTS.replace("Ann Ash", "Anna Ash");
        let said = import(app, "patients", &patients, &["--overwrite"]);
        assert_eq!((counts(&said.summary), said.status), ([0, 0, 5, 1, 0, 0], 0), "{}", said.messages);
        assert!(said.messages.contains("line 2, column name: differs from what was changed here since the last import; overwritten"), "{}", said.messages);
        assert_eq!(found(&admin, "patients", "1", "name").await["name"], "Anna Ash");
        assert_eq!(found(&admin, "patients", "2", "name").await["name"], "Bob Bay", "of which the source says nothing new");
        let said = import(app, "visits", VISITS, &["--overwrite"]);
        assert_eq!(counts(&said.summary), [1, 0, 5, 0, 0, 0], "{}", said.messages);
        assert!(said.messages.contains("line 5, column visit_no: staff deleted this visit; it is inserted again"), "{}", said.messages);
        assert_ne!(found(&admin, "visits", "d", "").await, Value::Null);
        // SQL deletes it: an import inserts it again, without being told to.
        app.execute("DELETE FROM visit WHERE visit_no = 'd'").await;
        import_twice(app, "visits", VISITS, &[], [1, 0, 5, 0, 0, 0]);
    }

    async fn several_sources_feed_one_hospital(app: TestApp) {
        let patients = |name: &str, phone: &str| format!("chart_no,name,phone\n1,{name},{phone}\n");
        let (his, lab) = (["--source", "HIS"], ["--source", "Laboratory"]);
        import_twice(app, "patients", &patients("Ann Ash", ""), &his, [1, 0, 0, 0, 0, 0]);
        import_twice(app, "patients", &patients("Ann Ash", "010-1111-0001"), &lab, [0, 1, 0, 0, 0, 0]);
        import_twice(app, "patients", &patients("Ann Ash", ""), &his, [0, 0, 1, 0, 0, 0]);
        // Each says something new of what the other said: both are changes, and neither undoes the other's the next night.
        import_twice(app, "patients", &patients("Anna Ash", ""), &his, [0, 1, 0, 0, 0, 0]);
        import_twice(app, "patients", &patients("Ann Ash", "010-1111-0001"), &lab, [0, 0, 1, 0, 0, 0]);
        import_twice(app, "patients", &patients("Anne Ash", "010-1111-0001"), &lab, [0, 1, 0, 0, 0, 0]);
        import_twice(app, "patients", &patients("Anna Ash", ""), &his, [0, 0, 1, 0, 0, 0]);
        let admin = app.sign_in("admin").await;
        let ann = found(&admin, "patients", "1", "name phone").await;
        assert_eq!((&ann["name"], &ann["phone"]), (&json!("Anne Ash"), &json!("+821011110001")));
    }

    async fn without_a_base_people_win_and_other_rows_change(app: TestApp) {
        app.import_example();
        let admin = app.sign_in("admin").await;
        change(&admin, "patients", "A", json!({"name": "Ann Ashley"})).await;
        app.execute("UPDATE visit SET channel = 'TABLET' WHERE visit_no = '2'").await;
        // As before there were bases.
        app.execute("DELETE FROM import_base").await;
        let patients = "chart_no,name,sex\nA,Anna Ash,FEMALE\nB,Bea Blue,\n";
        import_twice(app, "patients", patients, &[], [0, 1, 0, 1, 0, 0]);
        let a = found(&admin, "patients", "A", "name sex").await;
        assert_eq!((&a["name"], &a["sex"]), (&json!("Ann Ashley"), &json!("FEMALE")));
        let of = |number: &str| app.query_value::<String>(if number == "1" { "SELECT channel FROM visit WHERE visit_no = '1'" } else { "SELECT channel FROM visit WHERE visit_no = '2'" });
        let first = found(&admin, "visits", "1", "date status patient { chartNo }").await;
        let second = found(&admin, "visits", "2", "date status patient { chartNo }").await;
        let row = |number: &str, visit: &Value| format!("{number},{},{},{},WEB", visit["patient"]["chartNo"].as_str().unwrap(), visit["date"].as_str().unwrap(), visit["status"].as_str().unwrap());
        app.execute("UPDATE visit SET channel = 'PHONE' WHERE visit_no = '1'").await;
        app.execute("DELETE FROM record_change WHERE record = 'VISIT' AND record_id = (SELECT id FROM visit WHERE visit_no = '1')").await;
        let visits = format!("visit_no,chart_no,date,status,channel\n{}\n{}\n", row("1", &first), row("2", &second));
        import_twice(app, "visits", &visits, &[], [0, 1, 0, 1, 0, 0]);
        assert_eq!((of("1").await.as_str(), of("2").await.as_str()), ("WEB", "TABLET"));
        // Who is registered at the desk was recorded by people, too; what they left open is filled.
        admin.mutate("registerPatient", json!({"chartNo": "Z", "name": "Zoe Zed"}), "patient { id }").await;
        import_twice(app, "patients", "chart_no,name,sex\nZ,Zoé Zed,FEMALE\n", &[], [0, 0, 0, 1, 0, 0]);
        let z = found(&admin, "patients", "Z", "name sex").await;
        assert_eq!((&z["name"], &z["sex"]), (&json!("Zoe Zed"), &json!("FEMALE")));
    }

    async fn a_dry_run_says_what_an_import_would_do(app: TestApp) {
        import_twice(app, "patients", PATIENTS, &[], [6, 0, 0, 0, 0, 0]);
        let admin = app.sign_in("admin").await;
        change(&admin, "patients", "3", json!({"name": "Cyd Cox"})).await;
        let before = app.query_number("SELECT MAX(id) FROM record_change").await;
        let patients = "chart_no,name,phone,sex\n1,Anna Ash,010-1111-0001,\n2,Bo Bay,12,\n3,Cy Fox,,\n7,Gus Gray,010-1111-0007,\n\n8,X,,WOMAN\n";
        let dry = import(app, "patients", patients, &["--dry-run"]);
        assert_eq!(dry.status, 2);
        let expected = "line 2, CHANGE: name \"Ann Ash\" → \"Anna Ash\"\n\
            line 4, CONFLICT: name \"Cyd Cox\" → \"Cy Fox\"; column name: differs from what was changed here since the last import; kept\n\
            line 5, INSERT: name \"Gus Gray\"; phone \"+821011110007\"\n\
            line 7, REFUSED: column sex: unknown value; must be one of: FEMALE, MALE, OTHER, UNKNOWN\n\
            dry run, nothing was changed: 6 rows read: 1 inserted, 1 changed, 1 unchanged, 1 conflicts, 1 refused, 1 blank; 1 values left empty\n";
        assert_eq!(dry.summary, expected);
        let dry = import(app, "patients", patients, &["--dry-run", "--json"]);
        let lines: Vec<Value> = dry.summary.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let outcomes: Vec<&str> = lines[..4].iter().map(|line| line["outcome"].as_str().unwrap()).collect();
        assert_eq!(outcomes, ["CHANGE", "CONFLICT", "INSERT", "REFUSED"]);
        assert_eq!(lines[0]["fields"], json!([{"field": "name", "before": "Ann Ash", "after": "Anna Ash"}]));
        let summary = &lines[4];
        assert_eq!((&summary["dryRun"], &summary["rowsRead"], &summary["valuesLeftEmpty"]), (&json!(true), &json!(6), &json!(1)));
        assert_eq!(summary["counts"], json!({"INSERT": 1, "CHANGE": 1, "UNCHANGED": 1, "CONFLICT": 1, "REFUSED": 1, "BLANK": 1}));
        assert_eq!(summary["reading"]["columns"][1], json!({"header": "name", "column": "name"}));
        assert_eq!(summary["unknownWords"], json!([{"column": "sex", "word": "WOMAN", "rows": 1}]));
        assert_eq!(app.query_number("SELECT MAX(id) FROM record_change").await, before);
        assert_eq!(app.query_number("SELECT COUNT(*) FROM import").await, 2, "of the imports before");
        // Committed, it does just that.
        let done = import(app, "patients", patients, &[]);
        assert_eq!(counts(&done.summary), [1, 1, 1, 1, 1, 1]);
    }

    async fn too_many_refused_rows_fail_the_file(app: TestApp) {
        let patients = "chart_no,name,sex\n1,Kim,\n2,Lee,WOMAN\n3,Park,\n4,Choi,MAN\n";
        let folder = app.write_file("x", "").parent().unwrap().to_owned();
        let refused = folder.join("refused.csv");
        for most in ["1", "49.9%", "0"] {
            let failed = import(app, "patients", patients, &["--max-refused", most]);
            assert_eq!((failed.status, failed.summary.as_str()), (1, ""), "{}", failed.messages);
            assert!(failed.messages.contains(&format!("max-refused: 2 of 4 rows would be refused, more than {most}; nothing was changed")), "{}", failed.messages);
            assert!(failed.messages.contains("lines 3, 5, column sex: unknown value; must be one of: FEMALE, MALE, OTHER, UNKNOWN (2 rows)"), "{}", failed.messages);
        }
        assert_eq!(app.query_number("SELECT COUNT(*) FROM patient").await, 0);
        let failed = import(app, "patients", patients, &["--max-refused", "half"]);
        assert_eq!(failed.status, 1);
        assert!(failed.messages.contains("must be a number of rows, such as 100, or a percentage"), "{}", failed.messages);
        let done = import(app, "patients", patients, &["--max-refused", "50%", "--refused", refused.to_str().unwrap()]);
        assert_eq!((counts(&done.summary), done.status), ([2, 0, 0, 0, 2, 0], 2));
        let reason = "column sex: unknown value; must be one of: FEMALE, MALE, OTHER, UNKNOWN";
        let expected = format!("chart_no,name,sex,line,reason\n2,Lee,WOMAN,3,\"{reason}\"\n4,Choi,MAN,5,\"{reason}\"\n");
        assert_eq!(std::fs::read_to_string(&refused).unwrap(), expected);
        assert_eq!(std::fs::metadata(&refused).unwrap().permissions().mode() & 0o777, 0o600);
        // It is not overwritten.
        let failed = import(app, "patients", patients, &["--refused", refused.to_str().unwrap()]);
        assert!(failed.status == 1 && failed.messages.contains("cannot be written"), "{}", failed.messages);
    }

    async fn a_file_is_known_again_and_missing_rows_are_listed(app: TestApp) {
        let first = import(app, "patients", PATIENTS, &[]);
        assert!(!first.messages.contains("imported before"), "{}", first.messages);
        let again = import(app, "patients", PATIENTS, &[]);
        assert!(again.messages.contains("this file was imported before, at "), "{}", again.messages);
        let fewer = "chart_no,name\n1,Ann Ash\n4,Di Day\n5,Ed Eve\n6,Flo Fox\n";
        let extract = import(app, "patients", fewer, &["--full-extract"]);
        assert_eq!(extract.summary, "not in this file: 2\nnot in this file: 3\n\
            4 rows read: 0 inserted, 0 changed, 4 unchanged, 0 conflicts, 0 refused, 0 blank; 0 values left empty\n");
        let json = import(app, "patients", fewer, &["--full-extract", "--json", "--source", "another"]);
        let summary: Value = serde_json::from_str(&json.summary).unwrap();
        assert_eq!((&summary["missingNumbers"], &summary["source"]), (&json!([]), &json!("another")));
    }
}
