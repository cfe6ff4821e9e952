//! The histories of patients and visits: each change with who made it, by what, why, and what differs.

use sea_orm::{ConnectionTrait as _, TransactionTrait as _};
use serde_json::{Value, json};
use test_support::{Client, DatabaseKind, EXAMPLE_PATIENTS, EXAMPLE_VISITS, TestApp, on_each_database};

const CHANGE: &str = "{ at by { name } source reason fields { field before after } }";

/// The ID of a patient or a visit by its number.
async fn id(user: &Client<'_>, list: &str, key: &str, number: &str) -> Value {
    let found = user
        .graphql(&format!("{{ {list}(first: 100) {{ nodes {{ id {key} }} }} }}"))
        .await;
    let nodes = found[list]["nodes"].as_array().unwrap();
    nodes.iter().find(|node| node[key] == number).unwrap()["id"].clone()
}

async fn patient(user: &Client<'_>, chart_no: &str) -> Value {
    id(user, "patients", "chartNo", chart_no).await
}

async fn visit(user: &Client<'_>, visit_no: &str) -> Value {
    id(user, "visits", "visitNo", visit_no).await
}

/// The whole history, newest first: of each change who made it, by what, why, and the fields as `field: before > after`.
async fn history(user: &Client<'_>, of: &str, id: &Value) -> Vec<Value> {
    let query =
        format!("query ($id: ID!) {{ {of}(id: $id) {{ history(first: 100) {{ totalCount nodes {CHANGE} }} }} }}");
    let history = user.graphql_with(&query, json!({"id": id})).await[of]["history"].take();
    let nodes = history["nodes"].as_array().unwrap();
    assert_eq!(history["totalCount"], nodes.len());
    assert!(nodes.is_sorted_by(|newer, older| newer["at"].as_str() >= older["at"].as_str()));
    nodes.iter().map(change).collect()
}

fn change(node: &Value) -> Value {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let fields = node["fields"].as_array().unwrap().iter().map(|field| {
        let [name, before, after] = ["field", "before", "after"].map(|key| text(&field[key]));
        json!(format!("{name}: {before} > {after}"))
    });
    let fields: Vec<Value> = fields.collect();
    json!([node["by"]["name"], node["source"], node["reason"], fields])
}

async fn patient_history(user: &Client<'_>, id: &Value) -> Vec<Value> {
    history(user, "patient", id).await
}

async fn visit_history(user: &Client<'_>, id: &Value) -> Vec<Value> {
    history(user, "visit", id).await
}

async fn revision(app: &TestApp) -> i64 {
    app.query_number("SELECT MAX(number) FROM revision").await
}

on_each_database! {
    async fn each_mutation_of_a_patient_is_in_the_history(app: TestApp) {
        app.import_example();
        let desk = app.sign_in("desk").await;
        let name = desk.graphql("{ viewer { name } }").await["viewer"]["name"].clone();
        let today = desk.graphql("{ hospital { today } }").await["hospital"]["today"].as_str().unwrap().to_owned();
        let input = json!({"chartNo": "00042", "name": "Zoe Zed", "phone": "010-2222-3333", "birthDate": "1999-12-31", "memo": "Needles"});
        let made = desk.mutate("registerPatient", input, "patient { id }").await["patient"]["id"].take();
        let input = json!({"id": made, "version": 1, "name": "Zoë Zed", "phone": null, "memo": "Afraid of needles", "birthDate": "1999-12-30", "sex": "FEMALE"});
        desk.mutate("changePatient", input, "patient { id }").await;
        // Nothing differs.
        desk.mutate("changePatient", json!({"id": made, "version": 2, "name": "Zoë Zed"}), "patient { id }").await;
        let a = patient(&desk, "A").await;
        let merge = json!({"id": made, "version": 2, "intoId": a, "reason": "Same person"});
        desk.mutate("mergePatients", merge, "into { id }").await;
        desk.mutate("undoMerge", json!({"id": made, "reason": "She is not"}), "patient { id }").await;
        assert_eq!(patient_history(&desk, &made).await, [
            json!([name, "undoMerge", "She is not", ["state: MERGED > ACTIVE", "mergedInto: A Ann Ash > -"]]),
            json!([name, "mergePatients", "Same person", ["state: ACTIVE > MERGED", "mergedInto: - > A Ann Ash"]]),
            json!([name, "changePatient", null, [
                "name: Zoe Zed > Zoë Zed", "phone: +821022223333 > -", "birthDate: 1999-12-31 > 1999-12-30", "sex: UNKNOWN > FEMALE",
                "memo: Needles > Afraid of needles",
            ]]),
            json!([name, "registerPatient", null, [
                "state: - > ACTIVE", "chartNo: - > 00042", "name: - > Zoe Zed", "phone: - > +821022223333", "birthDate: - > 1999-12-31",
                "birthYear: - > 1999", "sex: - > UNKNOWN", format!("registeredOn: - > {today}"), "memo: - > Needles", "doNotContact: - > NO",
            ]]),
        ]);
        // Also in that of the patient who stays, whose other changes are shown as they were made.
        desk.mutate("changePatient", json!({"id": a, "version": 1, "memo": "Deaf"}), "patient { id }").await;
        let stays = patient_history(&desk, &a).await;
        assert_eq!(stays[..3], [
            json!([name, "changePatient", null, ["memo: - > Deaf"]]),
            json!([name, "undoMerge", "She is not", ["mergedPatient: 00042 Zoë Zed > -"]]),
            json!([name, "mergePatients", "Same person", ["mergedPatient: - > 00042 Zoë Zed"]]),
        ]);
        assert_eq!((stays.len(), &stays[3][1]), (4, &json!("IMPORT")));
        let support = app.sign_in("support").await;
        assert_eq!(patient_history(&support, &a).await[2], json!([name, "mergePatients", null, ["mergedPatient: - > 00042 Z** Z**"]]));
    }

    async fn each_mutation_of_a_visit_is_in_the_history(app: TestApp) {
        app.import_example();
        let desk = app.sign_in("desk").await;
        let name = desk.graphql("{ viewer { name } }").await["viewer"]["name"].clone();
        let places = desk.graphql("{ hospital { departments { id name } doctors { id name } } }").await["hospital"].take();
        let place = |list: &str, name: &str| {
            places[list].as_array().unwrap().iter().find(|place| place["name"] == name).unwrap()["id"].clone()
        };
        let (a, b) = (patient(&desk, "A").await, patient(&desk, "B").await);
        let input = json!({"patientId": a, "scheduledAt": "2047-01-02T00:30:00Z", "departmentId": place("departments", "Eyes"),
            "doctorId": place("doctors", "Dr Ito"), "visitNo": "N1", "channel": "PHONE"});
        let made = desk.mutate("recordVisit", input, "visit { id }").await["visit"]["id"].take();
        let input = json!({"id": made, "version": 1, "doctorId": place("doctors", "Dr Ure"), "departmentId": place("departments", "Skin"),
            "scheduledAt": "2047-01-02T01:00:09Z", "reason": "Dr Ito is away"});
        desk.mutate("changeVisit", input, "visit { id }").await;
        desk.mutate("changeVisit", json!({"id": made, "version": 2, "patientId": b, "reason": "Wrong patient"}), "visit { id }").await;
        let merge = json!({"id": b, "version": 1, "intoId": a, "reason": "Same person"});
        desk.mutate("mergePatients", merge, "into { id }").await;
        let undone = json!({"id": b, "reason": "Two persons"});
        desk.mutate("undoMerge", undone, "patient { id }").await;
        desk.mutate("changeVisit", json!({"id": made, "version": 5, "status": "CANCELED", "reason": "Called"}), "visit { id }").await;
        desk.mutate("deleteVisit", json!({"id": made, "version": 6, "reason": "By mistake"}), "visit { id }").await;
        let whole = ["visitNo: N1 > -", "patient: B 김영수 > -", "date: 2047-01-02 > -", "scheduledAt: 2047-01-02 10:00:09 > -",
            "status: CANCELED > -", "department: Skin > -", "doctor: Dr Ure > -", "channel: PHONE > -"];
        let changes = visit_history(&desk, &made).await;
        assert_eq!(changes, [
            json!([name, "deleteVisit", "By mistake", whole]),
            json!([name, "changeVisit", "Called", ["status: BOOKED > CANCELED"]]),
            json!([name, "undoMerge", "Two persons", ["patient: A Ann Ash > B 김영수"]]),
            json!([name, "mergePatients", "Same person", ["patient: B 김영수 > A Ann Ash"]]),
            json!([name, "changeVisit", "Wrong patient", ["patient: A Ann Ash > B 김영수"]]),
            json!([name, "changeVisit", "Dr Ito is away", [
                "scheduledAt: 2047-01-02 09:30 > 2047-01-02 10:00:09", "department: Eyes > Skin", "doctor: Dr Ito > Dr Ure",
            ]]),
            json!([name, "recordVisit", null, [
                "visitNo: - > N1", "patient: - > A Ann Ash", "date: - > 2047-01-02", "scheduledAt: - > 2047-01-02 09:30",
                "status: - > BOOKED", "department: - > Eyes", "doctor: - > Dr Ito", "channel: - > PHONE",
            ]]),
        ]);
    }

    async fn changes_in_sql_are_in_the_history(app: TestApp) {
        app.import_example();
        let desk = app.sign_in("desk").await;
        let (a, one, two) = (patient(&desk, "A").await, visit(&desk, "1").await, visit(&desk, "2").await);
        let sql = |fields: &[&str]| json!([null, "SQL", null, fields]);
        let before = revision(app).await;
        // No count depends on these.
        app.execute("UPDATE patient SET do_not_contact = TRUE, sex = 'OTHER' WHERE chart_no = 'A'").await;
        app.execute("UPDATE visit SET duration_minutes = 20 WHERE visit_no IN ('1', '2')").await;
        app.execute("UPDATE visit SET duration_minutes = 20, version = version + 1 WHERE visit_no IN ('1', '2')").await;
        assert_eq!(revision(app).await, before);
        app.execute("UPDATE visit SET status = 'NO_SHOW' WHERE visit_no = '1'").await;
        assert!(revision(app).await > before);
        assert_eq!(patient_history(&desk, &a).await[0], sql(&["sex: FEMALE > OTHER", "doNotContact: NO > YES"]));
        assert_eq!(visit_history(&desk, &one).await[..2], [sql(&["status: COMPLETED > NO_SHOW"]), sql(&["durationMinutes: - > 20"])]);
        assert_eq!(visit_history(&desk, &two).await[0], sql(&["durationMinutes: - > 20"]));
        let columns = "hospital_id, visit_no, patient_id, date, status, channel, version";
        app.execute(&format!("INSERT INTO visit ({columns}) SELECT hospital_id, 'S1', patient_id, '2025-07-01', status, channel, 1 FROM visit WHERE visit_no = '1'")).await;
        let new = visit(&desk, "S1").await;
        app.execute("DELETE FROM visit WHERE visit_no = 'S1'").await;
        let fields = |of: [&str; 2]| {
            let values = ["S1", "A Ann Ash", "2025-07-01", "NO_SHOW", "WALK_IN"];
            let names = ["visitNo", "patient", "date", "status", "channel"];
            let pairs = names.iter().zip(values);
            pairs.map(|(name, value)| format!("{name}: {}", of.map(|of| if of.is_empty() { value } else { of }).join(" > "))).collect::<Vec<_>>()
        };
        let expected = [fields(["", "-"]), fields(["-", ""])].map(|fields| json!([null, "SQL", null, fields]));
        assert_eq!(visit_history(&desk, &new).await, expected);
        if app.kind() == DatabaseKind::Postgres {
            app.execute("TRUNCATE visit CASCADE").await;
            let deleted = visit_history(&desk, &two).await[0].clone();
            assert_eq!(deleted[1], "SQL");
            assert!(deleted[3].as_array().unwrap().contains(&json!("visitNo: 2 > -")), "{deleted}");
        }
    }

    async fn changes_of_a_transaction_that_is_open_meanwhile_are_not_the_servers(app: TestApp) {
        app.import_example();
        let desk = app.sign_in("desk").await;
        let (one, two) = (visit(&desk, "1").await, visit(&desk, "2").await);
        // On SQLite nobody else writes while a transaction is open.
        if app.kind() == DatabaseKind::Sqlite {
            return;
        }
        // By the key: MariaDB would lock every row that it looks at.
        let [hospital, row] = ["hospital_id", "id"].map(|key| format!("SELECT {key} FROM visit WHERE visit_no = '1'"));
        let (hospital, row) = (app.query_number(&hospital).await, app.query_number(&row).await);
        let update = |minutes: i32| format!("UPDATE visit SET duration_minutes = {minutes} WHERE hospital_id = {hospital} AND id = {row}");
        let open = app.sql.begin().await.unwrap();
        open.execute_unprepared(&update(20)).await.unwrap();
        // Neither do they wait for each other.
        desk.mutate("changeVisit", json!({"id": two, "version": 1, "status": "NO_SHOW", "reason": "Never came"}), "visit { id }").await;
        open.execute_unprepared(&update(30)).await.unwrap();
        open.commit().await.unwrap();
        let sources = async |id: &Value| visit_history(&desk, id).await.iter().map(|change| change[1].clone()).collect::<Vec<_>>();
        assert_eq!(sources(&one).await, ["SQL", "SQL", "IMPORT"]);
        assert_eq!(sources(&two).await, ["changeVisit", "IMPORT"]);
    }

    async fn imports_are_in_the_history(app: TestApp) {
        app.import_example();
        let desk = app.sign_in("desk").await;
        let (a, one) = (patient(&desk, "A").await, visit(&desk, "1").await);
        app.import("patients", "H1", &EXAMPLE_PATIENTS.replace("Ann Ash", "Ann Oak"));
        app.import("visits", "H1", &EXAMPLE_VISITS.replace("2025-05-11", "2025-05-12"));
        let [change, added] = &patient_history(&desk, &a).await[..] else { panic!() };
        assert_eq!(*change, json!([null, "IMPORT", null, ["name: Ann Ash > Ann Oak"]]));
        assert_eq!((&added[1], &added[3][1]), (&json!("IMPORT"), &json!("chartNo: - > A")));
        let [change, added] = &visit_history(&desk, &one).await[..] else { panic!() };
        assert_eq!((&change[1], &change[3][0]), (&json!("IMPORT"), &json!("date: 2025-05-11 > 2025-05-12")));
        assert_eq!((&added[1], &added[3][0]), (&json!("IMPORT"), &json!("visitNo: - > 1")));
    }

    async fn histories_are_masked(app: TestApp) {
        app.import_example();
        let admin = app.sign_in("admin").await;
        let (a, one) = (patient(&admin, "A").await, visit(&admin, "1").await);
        let input = json!({"id": a, "version": 1, "name": "Zebulon Quuxford", "phone": "010-5555-1234", "birthDate": "1949-11-23", "memo": "Needles"});
        admin.mutate("changePatient", input, "patient { id }").await;
        let b = patient(&admin, "B").await;
        admin.mutate("changeVisit", json!({"id": one, "version": 1, "patientId": b, "reason": "Not Zebulon"}), "visit { id }").await;
        let support = app.sign_in("support").await;
        let changes = patient_history(&support, &a).await;
        let shown = changes[0][3].as_array().unwrap();
        let field = |name: &str| shown.iter().filter_map(Value::as_str).find(|text| text.starts_with(&format!("{name}:"))).unwrap();
        assert!(field("name").starts_with("name: A** A**"), "{shown:?}");
        assert!(field("name").ends_with("> Z****** Q*******"), "{shown:?}");
        assert!(field("phone").ends_with("> 010-****-**34"), "{shown:?}");
        assert!(field("birthDate").ends_with("> 1949"), "{shown:?}");
        assert_eq!(field("memo"), "memo: - > -");
        assert_eq!(visit_history(&support, &one).await[0], json!([own_name(&admin).await, "changeVisit", null, ["patient: A Z****** Q******* > B 김*수"]]));
        // The view is audited as one of the patient.
        let audited = |patient: &Value| format!("{{ audit(filter: {{actions: [VIEWED_PATIENTS], patientId: {patient}}}) {{ totalCount nodes {{ id }} }} }}");
        let views = async |patient: &Value| admin.graphql(&audited(patient)).await["audit"]["totalCount"].as_i64().unwrap();
        let before = views(&a).await;
        let entry = admin.graphql_with("query ($id: ID!) { visit(id: $id) { history { nodes { id } } } }", json!({"id": one})).await;
        let entry = entry["visit"]["history"]["nodes"][0]["id"].clone();
        let node = "query ($id: ID!) { node(id: $id) { ... on ChangeEntry { source fields { field before after } } } }";
        let found = support.graphql_with(node, json!({"id": entry})).await["node"].take();
        assert_eq!(found, json!({"source": "changeVisit", "fields": [{"field": "patient", "before": "A Z****** Q*******", "after": "B 김*수"}]}));
        assert_eq!(views(&a).await, before + 2);
    }

    async fn erasure_empties_histories(app: TestApp) {
        app.import_example();
        let desk = app.sign_in("desk").await;
        let input = json!({"chartNo": "XQ-1", "name": "Zebulon Quuxford", "phone": "010-5555-1234", "birthDate": "1949-11-23", "memo": "Needles"});
        let made = desk.mutate("registerPatient", input, "patient { id }").await["patient"]["id"].take();
        let input = json!({"id": made, "version": 1, "name": "Zebulun Quuxford", "chartNo": "XQ-2", "memo": "Quinces", "birthDate": "1949-11-24", "phone": "010-5555-1235"});
        desk.mutate("changePatient", input, "patient { id }").await;
        let seen = desk.mutate("recordVisit", json!({"patientId": made, "date": "2025-06-01"}), "visit { id }").await["visit"]["id"].take();
        desk.mutate("changeVisit", json!({"id": seen, "version": 1, "status": "CANCELED", "reason": "Quuxford called"}), "visit { id }").await;
        app.execute("UPDATE visit SET note = (SELECT memo FROM patient WHERE chart_no = 'XQ-2') WHERE date = '2025-06-01'").await;
        let (a, b) = (patient(&desk, "A").await, patient(&desk, "B").await);
        for from in [&b, &a] {
            let into = if *from == a { &made } else { &a };
            let merge = json!({"id": from, "version": 1, "intoId": into, "reason": "Is Quuxford"});
            desk.mutate("mergePatients", merge, "into { id }").await;
        }
        desk.mutate("undoMerge", json!({"id": a, "reason": "Not Quuxford"}), "patient { id }").await;
        let row = app.query_number("SELECT id FROM patient WHERE chart_no = 'XQ-2'").await;
        let held = &format!("SELECT COUNT(*) FROM record_change WHERE note IS NOT NULL OR name LIKE '%Quuxford%' OR chart_no LIKE 'XQ-%'
            OR reason LIKE '%Quuxford%' OR record = 'PATIENT' AND record_id = {row} AND (phone IS NOT NULL OR memo IS NOT NULL
            OR birth_date IS NOT NULL OR birth_year IS NOT NULL OR registered_on IS NOT NULL)");
        assert!(app.query_number(held).await >= 5);
        desk.mutate("erasePatient", json!({"id": made, "version": 2, "reason": "Quuxford asked"}), "patient { id }").await;
        assert_eq!(app.query_number(held).await, 0);
        let name = own_name(&desk).await;
        assert_eq!(patient_history(&desk, &made).await, [
            json!([name, "erasePatient", null, ["state: ACTIVE > ERASED"]]),
            json!([name, "undoMerge", null, ["mergedPatient: A Ann Ash > -"]]),
            json!([name, "mergePatients", null, ["mergedPatient: - > A Ann Ash"]]),
            json!([name, "changePatient", null, []]),
            json!([name, "registerPatient", null, ["state: - > ACTIVE", "sex: - > UNKNOWN", "doNotContact: - > NO"]]),
        ]);
        let changes = visit_history(&desk, &seen).await;
        let kept: Vec<Value> = changes.iter().map(|change| json!([change[1], change[2]])).collect();
        assert_eq!(kept, [json!(["erasePatient", null]), json!(["SQL", null]), json!(["changeVisit", null]), json!(["recordVisit", null])]);
        assert_eq!((&changes[0][3], &changes[1][3], &changes[2][3]), (&json!([]), &json!([]), &json!(["status: BOOKED > CANCELED"])));
        assert!(changes[3][3].as_array().unwrap().contains(&json!("patient: - > ERASED")));
        // Of those merged with the erased patient the changes are there, without the reasons.
        let merges: Vec<Value> = patient_history(&desk, &a).await;
        assert_eq!(merges[0], json!([name, "undoMerge", null, ["state: MERGED > ACTIVE", "mergedInto: ERASED > -"]]));
        assert_eq!(patient_history(&desk, &b).await[0][2], Value::Null);
    }

    async fn new_keys_leave_histories_as_they_are(app: TestApp) {
        app.import_example();
        let desk = app.sign_in("desk").await;
        let input = json!({"chartNo": "42", "phone": "010-2222-3333", "memo": "Needles"});
        let made = desk.mutate("registerPatient", input, "patient { id }").await["patient"]["id"].take();
        desk.mutate("changePatient", json!({"id": made, "version": 1, "memo": "Quinces"}), "patient { id }").await;
        app.execute("UPDATE patient SET sex = 'OTHER' WHERE chart_no = '42'").await;
        let before = patient_history(&desk, &made).await;
        assert_eq!(before[1][3], json!(["memo: Needles > Quinces"]));
        for command in ["rotate", "drop-old"] {
            app.run_cli(&["keys", command]);
        }
        let server = app.second_server();
        let desk = app.sign_in_at(&server.base, "H1", "desk").await;
        assert_eq!(patient_history(&desk, &made).await, before);
    }

    async fn histories_are_paged_in_both_directions(app: TestApp) {
        app.import_example();
        let desk = app.sign_in("desk").await;
        let one = visit(&desk, "1").await;
        for minutes in 1..=6 {
            app.execute(&format!("UPDATE visit SET duration_minutes = {minutes}")).await;
        }
        let page = async |arguments: &str| {
            let query = format!("query ($id: ID!) {{ visit(id: $id) {{ history({arguments}) {{
                totalCount pageInfo {{ hasNextPage hasPreviousPage startCursor endCursor }} edges {{ cursor node {CHANGE} }} }} }} }}");
            let page = desk.graphql_with(&query, json!({"id": one})).await["visit"]["history"].take();
            assert_eq!(page["totalCount"], 7);
            page
        };
        let changes = |page: &Value| page["edges"].as_array().unwrap().iter().map(|edge| change(&edge["node"])).collect::<Vec<_>>();
        let all = visit_history(&desk, &one).await;
        assert_eq!(all[0][3], json!(["durationMinutes: 5 > 6"]));
        for size in [1, 2, 3, 7, 8] {
            let (mut forwards, mut arguments) = (Vec::new(), format!("first: {size}"));
            loop {
                let page = page(&arguments).await;
                forwards.extend(changes(&page));
                if page["pageInfo"]["hasNextPage"] == false {
                    break;
                }
                arguments = format!("first: {size}, after: {}", page["pageInfo"]["endCursor"]);
            }
            assert_eq!(forwards, all, "first: {size}");
            let (mut backwards, mut arguments) = (Vec::new(), format!("last: {size}"));
            loop {
                let page = page(&arguments).await;
                backwards.splice(0..0, changes(&page));
                if page["pageInfo"]["hasPreviousPage"] == false {
                    break;
                }
                arguments = format!("last: {size}, before: {}", page["pageInfo"]["startCursor"]);
            }
            assert_eq!(backwards, all, "last: {size}");
        }
        // Bound to the list.
        let cursor = page("first: 1").await["pageInfo"]["endCursor"].clone();
        let two = visit(&desk, "2").await;
        let other = desk.graphql_error(&format!("{{ visit(id: {two}) {{ history(after: {cursor}) {{ totalCount }} }} }}")).await;
        assert_eq!(other, ("BAD_USER_INPUT".to_owned(), "after".to_owned()));
        // Another hospital finds none of it.
        let id = desk.graphql(&format!("{{ visit(id: {one}) {{ history {{ nodes {{ id }} }} }} }}")).await["visit"]["history"]["nodes"][0]["id"].clone();
        let other = app.other_hospital().await;
        assert_eq!(other.graphql(&format!("{{ node(id: {id}) {{ id }} visit(id: {one}) {{ id }} }}")).await, json!({"node": null, "visit": null}));
        assert_eq!(desk.graphql(&format!("{{ node(id: {id}) {{ id }} }}")).await["node"]["id"], id);
    }
}

/// The name of who is signed in.
async fn own_name(user: &Client<'_>) -> Value {
    user.graphql("{ viewer { name } }").await["viewer"]["name"].take()
}
