//! Mutations: authorized, serialized, executed once, and counted at once.

use std::time::Duration;

use sea_orm::{ConnectionTrait as _, DbBackend, TransactionTrait as _};
use serde_json::{Value, json};
use test_support::{EXAMPLE, error, on_each_database};

/// The IDs and versions of patients and visits by number.
async fn ids(user: &test_support::Client<'_>) -> (Value, Value) {
    let response = user
        .graphql("{ patients(first: 100) { nodes { id version chartNo } } visits(first: 100) { nodes { id version visitNo } } }")
        .await;
    let by = |list: &Value, key: &str| {
        let named = list["nodes"].as_array().unwrap().iter();
        named
            .map(|node| (node[key].as_str().unwrap_or_default().to_owned(), node.clone()))
            .collect()
    };
    (
        Value::Object(by(&response["patients"], "chartNo")),
        Value::Object(by(&response["visits"], "visitNo")),
    )
}

const COUNTS: &str = "total { visitors { patientCount visitCount } newPatients { patientCount } churnSuspected { patientCount } noShow { visitCount } }";

async fn counts(user: &test_support::Client<'_>) -> [i64; 5] {
    let response = user.graphql(&format!("{{ {EXAMPLE} {{ {COUNTS} }} }}")).await;
    let total = &response["statistics"]["total"];
    [
        &total["visitors"]["patientCount"],
        &total["visitors"]["visitCount"],
        &total["newPatients"]["patientCount"],
        &total["churnSuspected"]["patientCount"],
        &total["noShow"]["visitCount"],
    ]
    .map(|count| count.as_i64().unwrap())
}

on_each_database! {
    async fn a_future_visit_cannot_be_completed(app: TestApp) {
        app.import_example();
        let front_desk = app.sign_in("desk").await;
        let response = front_desk.graphql("{ hospital { today } patients { nodes { id } } }").await;
        let (patient, today) = (&response["patients"]["nodes"][0]["id"], &response["hospital"]["today"]);
        let refused = error("INVALID_TRANSITION", "input.status");
        for status in ["CHECKED_IN", "IN_PROGRESS", "COMPLETED", "ENDED", "NO_SHOW", "CANCELED"] {
            let visit = json!({"patientId": patient, "date": "2199-01-01", "status": status, "reason": "r"});
            assert_eq!(front_desk.mutation_error("recordVisit", visit).await, refused, "{status}");
        }
        for status in ["CHECKED_IN", "IN_PROGRESS", "COMPLETED"] {
            let visit = json!({"patientId": patient, "date": today, "status": status});
            front_desk.mutate("recordVisit", visit, "visit { id }").await;
        }
        for status in ["TENTATIVE", "BOOKED"] {
            let visit = json!({"patientId": patient, "date": "2199-01-01", "status": status});
            front_desk.mutate("recordVisit", visit, "visit { id }").await;
        }
        let made = front_desk.mutate("recordVisit", json!({"patientId": patient, "date": today, "status": "CHECKED_IN"}), "visit { id }").await;
        let id = &made["visit"]["id"];
        let early = json!({"id": id, "version": 1, "date": "2199-01-01", "reason": "r"});
        assert_eq!(front_desk.mutation_error("changeVisit", early).await, error("BAD_USER_INPUT", "input.date"));
        let input = json!({"id": id, "version": 1, "date": "2199-01-01", "status": "COMPLETED", "reason": "r"});
        assert_eq!(front_desk.mutation_error("changeVisit", input).await, refused);
        let input = |reason: Value| json!({"id": id, "version": 1, "date": "2199-01-01", "status": "BOOKED", "reason": reason});
        assert_eq!(front_desk.mutation_error("changeVisit", input(Value::Null)).await, error("BAD_USER_INPUT", "input.reason"));
        front_desk.mutate("changeVisit", input(json!("Wrong patient")), "visit { id }").await;
        // SQL may write such a status; the visit's other fields can still be changed.
        app.execute("UPDATE visit SET status = 'COMPLETED' WHERE date = '2199-01-01'").await;
        let input = json!({"id": id, "version": 2, "visitNo": "X", "reason": "Number"});
        front_desk.mutate("changeVisit", input, "visit { id }").await;
    }

    async fn all_invalid_fields_of_an_input_are_reported(app: TestApp) {
        app.import_example();
        let admin = app.sign_in("admin").await;
        let named = async |change: &str, input: Value| -> Vec<(String, String)> {
            let response = admin.mutation_response(change, input, "__typename").await;
            let extensions = response["errors"][0]["extensions"].clone();
            let errors = extensions["errors"].as_array().unwrap_or_else(|| panic!("{response}"));
            assert_eq!((&errors[0]["argument"], &errors[0]["code"]), (&extensions["argument"], &extensions["code"]));
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            errors.iter().map(|error| (text(&error["argument"]), text(&error["code"]))).collect()
        };
        let input = |names: &[&str]| -> Vec<(String, String)> {
            names.iter().map(|name| (format!("input.{name}"), "BAD_USER_INPUT".to_owned())).collect()
        };
        let patient = json!({"chartNo": "", "name": "\u{7}", "phone": "x", "birthDate": "2199-01-01", "birthYear": 1,
            "registeredOn": "2025-02-30", "memo": "", "idempotencyKey": ""});
        assert_eq!(
            named("registerPatient", patient).await,
            input(&["chartNo", "name", "phone", "birthDate", "birthYear", "registeredOn", "memo", "idempotencyKey"])
        );
        let patient = json!({"id": "x", "version": 1, "chartNo": null, "sex": null});
        assert_eq!(named("changePatient", patient).await, input(&["id", "chartNo", "sex"]));
        assert_eq!(named("erasePatient", json!({"id": "x", "version": 1, "reason": ""})).await, input(&["id", "reason"]));
        let merge = json!({"id": "x", "version": 1, "intoId": "x", "reason": ""});
        assert_eq!(named("mergePatients", merge).await, input(&["intoId", "id", "reason"]));
        let staff = json!({"login": "", "name": "", "role": "DESK", "password": "short"});
        assert_eq!(named("addStaff", staff).await, input(&["login", "name", "password"]));
        assert_eq!(named("resetPassword", json!({"id": "x", "password": "short"})).await, input(&["id", "password"]));
        let rules = json!({"version": 1, "churnAfterDays": 0, "overdueAfterDays": 0});
        assert_eq!(named("updateDefinition", rules).await, input(&["churnAfterDays", "overdueAfterDays"]));
        let visit = json!({"patientId": "x", "date": "2025-02-30", "scheduledAt": "x", "departmentId": "x", "doctorId": "x", "visitNo": ""});
        assert_eq!(
            named("recordVisit", visit).await,
            input(&["visitNo", "patientId", "date", "scheduledAt", "departmentId", "doctorId"])
        );
        let visit = json!({"id": "x", "version": 1, "status": null, "channel": null, "reason": ""});
        assert_eq!(named("changeVisit", visit).await, input(&["status", "channel", "id", "reason"]));
        // The ID of a department that does not exist.
        let doctor = json!({"name": "", "departmentId": "RH__"});
        assert_eq!(named("addDoctor", doctor).await, [
            ("input.name".to_owned(), "BAD_USER_INPUT".to_owned()), ("input.departmentId".to_owned(), "NOT_FOUND".to_owned()),
        ]);
        // A single one is reported as before.
        let one = admin.mutation_response("addDepartment", json!({"name": ""}), "__typename").await;
        assert_eq!(one["errors"][0]["extensions"], json!({"code": "BAD_USER_INPUT", "argument": "input.name"}));
    }

    async fn a_conflict_reports_the_current_version(app: TestApp) {
        app.import_example();
        let front_desk = app.sign_in("desk").await;
        let id = front_desk.graphql("{ patients { nodes { id } } }").await["patients"]["nodes"][0]["id"].clone();
        front_desk.mutate("changePatient", json!({"id": id, "version": 1, "name": "Anna"}), "patient { id }").await;
        let response = front_desk.mutation_response("changePatient", json!({"id": id, "version": 1, "name": "Ann"}), "patient { id }").await;
        assert_eq!(response["errors"][0]["extensions"], json!({"code": "CONFLICT", "argument": "input.version", "currentVersion": 2}));
    }

    async fn an_invalid_instant_is_reported_with_its_argument(app: TestApp) {
        app.import_example();
        let admin = app.sign_in("admin").await;
        let id = admin.graphql("{ patients { nodes { id } } }").await["patients"]["nodes"][0]["id"].clone();
        let refused = admin.mutation_error("recordVisit", json!({"patientId": id, "scheduledAt": "2025-05-11T09:30:00"})).await;
        assert_eq!(refused, error("BAD_USER_INPUT", "input.scheduledAt"));
        for end in ["since", "until"] {
            let refused = admin.graphql_error(&format!("{{ audit(filter: {{{end}: \"yesterday\"}}) {{ totalCount }} }}")).await;
            assert_eq!(refused, ("BAD_USER_INPUT".to_owned(), format!("filter.{end}")));
        }
    }

    async fn patients_can_be_registered_and_changed(app: TestApp) {
        app.import_example();
        let front_desk = app.sign_in("desk").await;
        let all = "patient { id version state chartNo name phone birthDate birthYear sex registeredOn memo }";
        let input = json!({"chartNo": " 00042 ", "name": "Zoë Zed", "phone": "010-2222-3333", "birthDate": "1999-12-31", "sex": "FEMALE", "memo": "Afraid of\nneedles", "idempotencyKey": "k1"});
        let made = front_desk.mutate("registerPatient", input.clone(), all).await["patient"].take();
        assert_eq!(front_desk.mutate("registerPatient", input.clone(), all).await["patient"], made, "sent twice, executed once");
        let today = front_desk.graphql("{ hospital { today } }").await["hospital"]["today"].take();
        let mut expected = json!({"version": 1, "state": "ACTIVE", "chartNo": "00042", "name": "Zoë Zed", "phone": "+821022223333", "birthDate": "1999-12-31", "birthYear": 1999, "sex": "FEMALE", "registeredOn": today, "memo": "Afraid of\nneedles"});
        expected["id"] = made["id"].clone();
        assert_eq!(made, expected);
        // Stored encrypted, found as a whole.
        let sealed: Vec<u8> = app.query_value("SELECT memo FROM patient WHERE chart_no = '00042'").await;
        assert!(!String::from_utf8_lossy(&sealed).contains("needles"));
        assert_eq!(front_desk.graphql("{ patients(filter: {search: \"+82 10-2222-3333\"}) { totalCount } }").await["patients"]["totalCount"], 1);
        let support = app.sign_in("support").await;
        let masked = support.graphql_with("query ($id: ID!) { patient(id: $id) { name phone birthDate birthYear memo } }", json!({"id": made["id"]})).await;
        assert_eq!(masked["patient"], json!({"name": "Z** Z**", "phone": "010-****-**33", "birthDate": null, "birthYear": 1999, "memo": null}));

        let id = &made["id"];
        let changed = front_desk.mutate("changePatient", json!({"id": id, "version": 1, "name": "Zoe Zed", "phone": null, "birthDate": null, "birthYear": 1998}), all).await["patient"].take();
        let shown = ["version", "name", "phone", "birthDate", "birthYear", "memo"].map(|field| &changed[field]);
        assert_eq!(json!(shown), json!([2, "Zoe Zed", null, null, 1998, "Afraid of\nneedles"]));
        let same = front_desk.mutate("changePatient", json!({"id": id, "version": 2, "name": "Zoe Zed", "memo": "Afraid of\nneedles"}), all).await;
        assert_eq!(same["patient"]["version"], 2, "nothing changed");
        assert_eq!(front_desk.mutation_error("changePatient", json!({"id": id, "version": 1, "name": "Other"})).await, error("CONFLICT", "input.version"));
        let cases = [
            (json!({"chartNo": "A"}), "BAD_USER_INPUT", "input.chartNo"),
            (json!({"chartNo": null}), "BAD_USER_INPUT", "input.chartNo"),
            (json!({"name": " "}), "BAD_USER_INPUT", "input.name"),
            (json!({"name": "a\u{7}b"}), "BAD_USER_INPUT", "input.name"),
            (json!({"name": "n".repeat(256)}), "BAD_USER_INPUT", "input.name"),
            (json!({"phone": "12"}), "BAD_USER_INPUT", "input.phone"),
            (json!({"birthDate": "2199-01-01"}), "BAD_USER_INPUT", "input.birthDate"),
            (json!({"birthDate": "1999-01-01", "birthYear": 1998}), "BAD_USER_INPUT", "input.birthYear"),
            (json!({"birthYear": 1899}), "BAD_USER_INPUT", "input.birthYear"),
            (json!({"memo": "m".repeat(2_001)}), "BAD_USER_INPUT", "input.memo"),
            (json!({"sex": null}), "BAD_USER_INPUT", "input.sex"),
            (json!({"id": "UP__"}), "NOT_FOUND", "input.id"),
            (json!({"idempotencyKey": "k1"}), "BAD_USER_INPUT", "input.idempotencyKey"),
        ];
        for (given, code, argument) in cases {
            let mut input = json!({"id": id, "version": 2});
            input.as_object_mut().unwrap().extend(given.as_object().unwrap().clone());
            assert_eq!(front_desk.mutation_error("changePatient", input).await, error(code, argument), "{given}");
        }
        assert_eq!(front_desk.mutation_error("registerPatient", json!({"chartNo": "A"})).await, error("BAD_USER_INPUT", "input.chartNo"));
        // The key belongs to its sender.
        let admin = app.sign_in("admin").await;
        assert_eq!(admin.mutation_error("registerPatient", input).await, error("BAD_USER_INPUT", "input.chartNo"));
    }

    async fn visits_can_be_recorded_changed_and_deleted(app: TestApp) {
        app.import_example();
        let front_desk = app.sign_in("desk").await;
        let (patients, _) = ids(&front_desk).await;
        let all = "visit { id version date scheduledAt status channel visitNo deleted department { name } doctor { name } patient { chartNo } }";
        let before = counts(&front_desk).await;
        assert_eq!(before, [4, 7, 3, 1, 1]);
        let old = front_desk.graphql(&format!("{{ {EXAMPLE} {{ id total {{ visitors {{ id digest }} }} }} }}")).await["statistics"].take();
        app.set_time("2025-06-20T01:00:00Z");
        // 23:30 UTC is the next day in Seoul.
        let input = json!({"patientId": patients["E"]["id"], "scheduledAt": "2025-06-19T23:30:00Z", "visitNo": "0100", "idempotencyKey": "v1"});
        let made = front_desk.mutate("recordVisit", input.clone(), all).await["visit"].take();
        assert_eq!(front_desk.mutate("recordVisit", input, all).await["visit"], made);
        assert_eq!(made["date"], "2025-06-20");
        assert_eq!((&made["status"], &made["channel"], &made["version"], &made["patient"]["chartNo"]), (&json!("BOOKED"), &json!("OTHER"), &json!(1), &json!("E")));
        assert_eq!(counts(&front_desk).await, before);
        let id = &made["id"];
        for (version, status) in (1..).zip(["CHECKED_IN", "IN_PROGRESS", "COMPLETED"]) {
            let changed = front_desk.mutate("changeVisit", json!({"id": id, "version": version, "status": status}), all).await;
            assert_eq!((&changed["visit"]["status"], &changed["visit"]["version"]), (&json!(status), &json!(version + 1)));
        }
        assert_eq!(counts(&front_desk).await, [5, 8, 4, 1, 1], "counted immediately");
        // Correcting a completed visit requires a reason, which is recorded with the previous values.
        let correct = |reason: Value| json!({"id": id, "version": 4, "scheduledAt": "2025-05-20T01:00:00Z", "reason": reason});
        assert_eq!(front_desk.mutation_error("changeVisit", correct(Value::Null)).await, error("BAD_USER_INPUT", "input.reason"));
        let changed = front_desk.mutate("changeVisit", correct(json!("Wrong month")), all).await;
        assert_eq!(changed["visit"]["date"], "2025-05-20");
        let noted = "SELECT reason FROM visit_change WHERE status = 'COMPLETED' AND date = '2025-06-20'";
        assert_eq!(app.query_value::<String>(noted).await, "Wrong month");
        let by = "SELECT s.login FROM visit_change c JOIN staff s ON s.id = c.staff_id WHERE c.reason = 'Wrong month'";
        assert_eq!(app.query_value::<String>(by).await, "desk");
        assert_eq!(counts(&front_desk).await, [5, 8, 4, 2, 1]);
        assert_eq!(front_desk.mutation_error("deleteVisit", json!({"id": id, "version": 4, "reason": "r"})).await, error("CONFLICT", "input.version"));
        let gone = front_desk.mutate("deleteVisit", json!({"id": id, "version": 5, "reason": "Never was", "idempotencyKey": "d1"}), "visit { id deleted date }").await;
        assert_eq!(gone["visit"], json!({"id": id, "deleted": true, "date": "2025-05-20"}));
        let again = front_desk.mutate("deleteVisit", json!({"id": id, "version": 5, "reason": "Never was", "idempotencyKey": "d1"}), "visit { deleted }").await;
        assert_eq!(again["visit"]["deleted"], true);
        assert_eq!(counts(&front_desk).await, before);
        let then = front_desk.graphql_with("query ($id: ID!) { statisticsSnapshot(id: $id) { id total { visitors { id digest } } } }", json!({"id": old["id"]})).await;
        assert_eq!(then["statisticsSnapshot"], old);
        let patient = &patients["A"]["id"];
        let cases = [
            (json!({"patientId": patient}), "BAD_USER_INPUT", "input.date"),
            (json!({"patientId": patient, "date": "2025-02-30"}), "BAD_USER_INPUT", "input.date"),
            (json!({"patientId": patient, "date": "2025-02-20", "visitNo": "1"}), "BAD_USER_INPUT", "input.visitNo"),
            (json!({"patientId": patient, "date": "2025-02-20", "departmentId": "RP__"}), "NOT_FOUND", "input.departmentId"),
            (json!({"patientId": patient, "date": "2025-02-20", "doctorId": patient}), "BAD_USER_INPUT", "input.doctorId"),
            (json!({"patientId": "UP__", "date": "2025-02-20"}), "NOT_FOUND", "input.patientId"),
            (json!({"patientId": "nonsense", "date": "2025-02-20"}), "BAD_USER_INPUT", "input.patientId"),
            (json!({"patientId": patient, "date": "2025-02-20", "idempotencyKey": ""}), "BAD_USER_INPUT", "input.idempotencyKey"),
        ];
        for (input, code, argument) in cases {
            assert_eq!(front_desk.mutation_error("recordVisit", input.clone()).await, error(code, argument), "{input}");
        }
        assert_eq!(counts(&front_desk).await, before);
    }

    async fn merges_can_be_undone(app: TestApp) {
        app.import_example();
        let admin = app.sign_in("admin").await;
        let (patients, _) = ids(&admin).await;
        let id = |chart: &str| patients[chart]["id"].clone();
        let before = counts(&admin).await;
        // E, who has no visits, is merged into D, and D into A.
        let all = "patient { state version mergedInto { chartNo } visits { totalCount } } into { chartNo visits { totalCount } }";
        let merged = admin.mutate("mergePatients", json!({"id": id("E"), "version": 1, "intoId": id("D"), "reason": "Same phone"}), all).await;
        assert_eq!(merged["patient"], json!({"state": "MERGED", "version": 2, "mergedInto": {"chartNo": "D"}, "visits": {"totalCount": 0}}));
        assert_eq!(merged["into"], json!({"chartNo": "D", "visits": {"totalCount": 3}}));
        let merge = json!({"id": id("D"), "version": 1, "intoId": id("A"), "reason": "Same person", "idempotencyKey": "m"});
        let merged = admin.mutate("mergePatients", merge.clone(), all).await;
        assert_eq!(merged["into"]["visits"]["totalCount"], 5);
        assert_eq!(admin.mutate("mergePatients", merge, all).await, merged);
        assert_eq!(counts(&admin).await, [3, 7, 2, 0, 1], "A and D are one new patient, seen until June");
        let e = admin.graphql_with("query ($id: ID!) { patient(id: $id) { state mergedInto { chartNo } } }", json!({"id": id("E")})).await;
        assert_eq!(e["patient"], json!({"state": "MERGED", "mergedInto": {"chartNo": "A"}}));
        // Visits imported for D belong to A.
        let printed = app.import("visits", "H1", "visit_no,chart_no,date,status\n50,D,2025-06-11,COMPLETED\n51,E,2025-06-12,COMPLETED\n");
        assert!(printed.contains(": 2 inserted"), "{printed}");
        let a = admin.graphql_with("query ($id: ID!) { patient(id: $id) { visits { totalCount } } }", json!({"id": id("A")})).await;
        assert_eq!(a["patient"]["visits"]["totalCount"], 7);
        app.execute("DELETE FROM visit WHERE visit_no IN ('50', '51')").await;
        let cases = [
            ("mergePatients", json!({"id": id("A"), "version": 1, "intoId": id("A"), "reason": "r"}), "BAD_USER_INPUT", "input.intoId"),
            ("mergePatients", json!({"id": id("A"), "version": 1, "intoId": id("D"), "reason": "r"}), "BAD_USER_INPUT", "input.intoId"),
            ("mergePatients", json!({"id": id("D"), "version": 2, "intoId": id("A"), "reason": "r"}), "BAD_USER_INPUT", "input.id"),
            ("mergePatients", json!({"id": id("A"), "version": 7, "intoId": id("B"), "reason": "r"}), "CONFLICT", "input.version"),
            ("mergePatients", json!({"id": id("A"), "version": 1, "intoId": id("B"), "reason": ""}), "BAD_USER_INPUT", "input.reason"),
            ("mergePatients", json!({"id": id("A"), "version": 1, "intoId": "UP__", "reason": "r"}), "NOT_FOUND", "input.intoId"),
            ("undoMerge", json!({"id": id("A"), "reason": "r"}), "BAD_USER_INPUT", "input.id"),
            ("undoMerge", json!({"id": id("E"), "reason": "r"}), "BAD_USER_INPUT", "input.id"),
            ("recordVisit", json!({"patientId": id("D"), "date": "2025-05-05"}), "BAD_USER_INPUT", "input.patientId"),
            ("changePatient", json!({"id": id("D"), "version": 2, "name": "N"}), "BAD_USER_INPUT", "input.id"),
        ];
        for (name, input, code, argument) in cases {
            assert_eq!(admin.mutation_error(name, input.clone()).await, error(code, argument), "{name} {input}");
        }
        let undone = admin.mutate("undoMerge", json!({"id": id("D"), "reason": "Twins"}), "patient { state mergedInto { id } visits { totalCount } }").await;
        assert_eq!(undone["patient"], json!({"state": "ACTIVE", "mergedInto": null, "visits": {"totalCount": 3}}));
        assert_eq!(counts(&admin).await, before);
        let undone = admin.mutate("undoMerge", json!({"id": id("E"), "reason": "Twins"}), "patient { state visits { totalCount } }").await;
        assert_eq!(undone["patient"], json!({"state": "ACTIVE", "visits": {"totalCount": 1}}));
        assert_eq!(admin.mutation_error("undoMerge", json!({"id": id("E"), "reason": "r"})).await, error("BAD_USER_INPUT", "input.id"));
    }

    async fn undoing_a_merge_restores_earlier_merges_too(app: TestApp) {
        app.import_example();
        let admin = app.sign_in("admin").await;
        let (patients, _) = ids(&admin).await;
        let id = |chart: &str| patients[chart]["id"].clone();
        for (from, into) in [("E", "D"), ("D", "C"), ("C", "A")] {
            admin.mutate("mergePatients", json!({"id": id(from), "version": 1, "intoId": id(into), "reason": "Same person"}), "into { id }").await;
        }
        let who = async || {
            let mut merged = Vec::new();
            for chart in ["E", "D", "C"] {
                let row = admin.graphql_with("query ($id: ID!) { patient(id: $id) { mergedInto { chartNo } } }", json!({"id": id(chart)})).await;
                merged.push(row["patient"]["mergedInto"]["chartNo"].clone());
            }
            json!(merged)
        };
        assert_eq!(who().await, json!(["A", "A", "A"]));
        for (undone, left) in [("C", json!(["C", "C", null])), ("D", json!(["D", null, null])), ("E", json!([null, null, null]))] {
            admin.mutate("undoMerge", json!({"id": id(undone), "reason": "Twins"}), "patient { id }").await;
            assert_eq!(who().await, left, "{undone}");
        }
    }

    async fn an_erased_patient_is_still_counted_without_personal_data(app: TestApp) {
        app.import_example();
        let admin = app.sign_in("admin").await;
        let (patients, visits) = ids(&admin).await;
        let id = |chart: &str| patients[chart]["id"].clone();
        let old = admin.graphql(&format!("{{ {EXAMPLE} {{ id }} }}")).await["statistics"]["id"].take();
        admin.mutate("changeVisit", json!({"id": visits["11"]["id"], "version": 1, "status": "NO_SHOW", "reason": "Ann told us of Eve"}), "visit { id }").await;
        admin.mutate("mergePatients", json!({"id": id("E"), "version": 1, "intoId": id("A"), "reason": "Ann is Eve"}), "into { id }").await;
        let before = counts(&admin).await;
        let gone = admin.mutate("erasePatient", json!({"id": id("A"), "version": 1, "reason": "Asked for"}), "patient { id state chartNo name phone birthDate birthYear sex registeredOn memo }").await;
        let mut expected = json!({"state": "ERASED", "chartNo": "", "name": "", "phone": null, "birthDate": null, "birthYear": null, "sex": "UNKNOWN", "registeredOn": null, "memo": null});
        expected["id"] = id("A");
        assert_eq!(gone["patient"], expected);
        let same = admin.graphql_with("query ($id: ID!) { patient(id: $id) { state mergedInto { id } } }", json!({"id": id("E")})).await;
        assert_eq!(same["patient"], json!({"state": "ERASED", "mergedInto": null}), "merged into A: the same person");
        assert_eq!(counts(&admin).await, before, "counts stay");
        let kept = app.query_value::<i64>("SELECT COUNT(*) FROM patient WHERE state = 'ERASED' AND name IS NULL AND phone IS NULL AND phone_index IS NULL AND chart_no IS NULL").await;
        assert_eq!(kept, 2);
        assert_eq!(app.query_value::<i64>("SELECT COUNT(*) FROM visit_change WHERE reason LIKE '%Eve%'").await, 0);
        assert_eq!(app.query_value::<i64>("SELECT COUNT(*) FROM patient_merge WHERE reason LIKE '%Eve%'").await, 0);
        let list = admin.graphql_with("query ($id: ID!) { statisticsSnapshot(id: $id) { total { visitors { patients { nodes { state name } } } } } }", json!({"id": old})).await;
        let rows = list["statisticsSnapshot"]["total"]["visitors"]["patients"]["nodes"].as_array().unwrap().clone();
        assert_eq!(rows.iter().filter(|row| **row == json!({"state": "ERASED", "name": ""})).count(), 1);
        for name in ["erasePatient", "undoMerge"] {
            let mut input = json!({"id": id("A"), "reason": "r"});
            if name == "erasePatient" {
                input["version"] = json!(2);
            }
            assert_eq!(admin.mutation_error(name, input).await, error("BAD_USER_INPUT", "input.id"));
        }
    }

    async fn snapshots_keep_their_definition_version(app: TestApp) {
        app.import_example();
        let admin = app.sign_in("admin").await;
        let query = format!("{{ {EXAMPLE} {{ id definition {{ version churnAfterDays overdueAfterDays }} total {{ churnSuspected {{ patientCount }} noShow {{ visitCount }} }} }} }}");
        let before = admin.graphql(&query).await["statistics"].take();
        let all = "definition { version churnAfterDays overdueAfterDays }";
        let made = admin.mutate("updateDefinition", json!({"version": 1, "churnAfterDays": 80, "overdueAfterDays": 3, "idempotencyKey": "x"}), all).await;
        assert_eq!(made["definition"], json!({"version": 2, "churnAfterDays": 80, "overdueAfterDays": 3}));
        let again = admin.mutate("updateDefinition", json!({"version": 1, "churnAfterDays": 80, "overdueAfterDays": 3, "idempotencyKey": "x"}), all).await;
        assert_eq!(again, made);
        let same = admin.mutate("updateDefinition", json!({"version": 2, "churnAfterDays": 80, "overdueAfterDays": 3}), all).await;
        assert_eq!(same, made, "equal rules do not create a version");
        let now = admin.graphql(&query).await["statistics"].take();
        assert_eq!(now["definition"], made["definition"]);
        assert_eq!(now["total"]["churnSuspected"]["patientCount"], 2, "D, silent for 82 days");
        let then = admin.graphql_with("query ($id: ID!) { statisticsSnapshot(id: $id) { id definition { version churnAfterDays overdueAfterDays } total { churnSuspected { patientCount } noShow { visitCount } } } }", json!({"id": before["id"]})).await;
        assert_eq!(then["statisticsSnapshot"], before);
        assert_eq!(admin.mutation_error("updateDefinition", json!({"version": 1, "churnAfterDays": 70})).await, error("CONFLICT", "input.version"));
        assert_eq!(admin.mutation_error("updateDefinition", json!({"version": 2, "churnAfterDays": 0})).await, error("BAD_USER_INPUT", "input.churnAfterDays"));
        assert_eq!(admin.mutation_error("updateDefinition", json!({"version": 2, "churnAfterDays": 1, "overdueAfterDays": 36_501})).await, error("BAD_USER_INPUT", "input.overdueAfterDays"));
    }

    async fn mutations_require_permission(app: TestApp) {
        app.import_example();
        let admin = app.sign_in("admin").await;
        let (patients, visits) = ids(&admin).await;
        let (a, b, visit) = (&patients["A"]["id"], &patients["B"]["id"], &visits["1"]["id"]);
        let changes = [
            ("registerPatient", json!({"chartNo": "new"}), None),
            ("recordVisit", json!({"patientId": a, "date": "2025-01-01"}), Some("input.patientId")),
            ("changePatient", json!({"id": a, "version": 1, "name": "x"}), Some("input.id")),
            ("changeVisit", json!({"id": visit, "version": 1, "status": "ENDED", "reason": "r"}), Some("input.id")),
            ("mergePatients", json!({"id": a, "version": 1, "intoId": b, "reason": "r"}), Some("input.id")),
            ("undoMerge", json!({"id": a, "reason": "r"}), Some("input.id")),
            ("erasePatient", json!({"id": b, "version": 1, "reason": "r"}), Some("input.id")),
            ("deleteVisit", json!({"id": visit, "version": 1, "reason": "r"}), Some("input.id")),
            ("updateDefinition", json!({"version": 1, "churnAfterDays": 1}), None),
        ];
        let revision = "{ statistics(period: YEAR, range: {from: \"2025-01-01\", to: \"2025-01-01\"}) { revision } }";
        let before = admin.graphql(revision).await;
        for role in ["clinician", "support"] {
            let user = app.sign_in(role).await;
            for (name, input, _) in &changes {
                assert_eq!(user.mutation_error(name, input.clone()).await.0, "FORBIDDEN", "{role} {name}");
            }
        }
        let front_desk = app.sign_in("desk").await;
        front_desk.expect_mutation_error("updateDefinition", json!({"version": 1, "churnAfterDays": 1}), "FORBIDDEN").await;
        let other = app.other_hospital().await;
        for (name, input, argument) in &changes {
            if let Some(argument) = argument {
                assert_eq!(other.mutation_error(name, input.clone()).await, error("NOT_FOUND", argument), "{name}");
            }
        }
        assert_eq!(admin.graphql(revision).await, before, "nothing was changed");
    }

    async fn concurrent_mutations_are_serialized(app: TestApp) {
        app.import_example();
        let front_desk = app.sign_in("desk").await;
        let second = app.second_server();
        let second_client = app.sign_in_at(&second.base, "H1", "admin").await;
        let (patients, visits) = ids(&front_desk).await;
        // Of two mutations with the same version one fails.
        let correct = |status: &str| json!({"id": visits["1"]["id"], "version": 1, "status": status, "reason": "r"});
        let (one, other) = tokio::join!(
            front_desk.mutation_response("changeVisit", correct("CANCELED"), "visit { version }"),
            second_client.mutation_response("changeVisit", correct("NO_SHOW"), "visit { version }")
        );
        let refused: Vec<&Value> = [&one, &other].into_iter().filter(|response| response["errors"].is_array()).collect();
        assert_eq!(refused.len(), 1, "{one} {other}");
        assert_eq!(refused[0]["errors"][0]["extensions"]["code"], "CONFLICT");
        // The same mutation sent many times at once executes once.
        let input = json!({"patientId": patients["B"]["id"], "date": "2025-05-30", "status": "COMPLETED", "reason": "r", "idempotencyKey": "once"});
        let sent = (0..8).map(|_| front_desk.mutate("recordVisit", input.clone(), "visit { id }"));
        let made = futures_util::future::join_all(sent).await;
        assert!(made.iter().all(|visit| *visit == made[0]), "{made:?}");
        assert_eq!(app.query_value::<i64>("SELECT COUNT(*) FROM visit WHERE date = '2025-05-30'").await, 1);
    }

    async fn a_mutation_that_deadlocks_is_retried(app: TestApp) {
        if app.sql.get_database_backend() == DbBackend::Sqlite {
            return; // Has one writer at a time.
        }
        app.import_example();
        let front_desk = app.sign_in("desk").await;
        let (patients, _) = ids(&front_desk).await;
        let input = json!({"patientId": patients["B"]["id"], "date": "2025-05-30", "idempotencyKey": "k"});
        let many = "INSERT INTO visit (hospital_id, patient_id, date, status, channel) SELECT hospital_id, patient_id, '2025-05-31', status, channel FROM visit";
        // The mutation waits for the revision; then the bulk statement has the IDs and waits for the mutation.
        let first = app.sql.begin().await.unwrap();
        first.execute_unprepared("SELECT number FROM revision FOR UPDATE").await.unwrap();
        let soon = |millis| tokio::time::sleep(Duration::from_millis(millis));
        let (made, _, ()) = tokio::join!(
            front_desk.mutate("recordVisit", input, "visit { date }"),
            async {
                soon(500).await;
                app.sql.execute_unprepared(many).await
            },
            async {
                soon(1_000).await;
                first.rollback().await.unwrap();
            }
        );
        assert_eq!(made["visit"]["date"], "2025-05-30");
    }
}

on_each_database! {
    async fn a_rescheduled_visit_keeps_its_time_of_day(app: TestApp) {
        app.import_example();
        let front_desk = app.sign_in("desk").await;
        let found = front_desk.graphql("{ patients(filter: {search: \"E\"}) { nodes { id } } }").await;
        let patient = found["patients"]["nodes"][0]["id"].clone();
        // 01:00 in Seoul; the day before in UTC.
        let input = json!({"patientId": patient, "date": "2026-12-01", "scheduledAt": "2026-11-30T16:00:00Z"});
        let visit = front_desk.mutate("recordVisit", input, "visit { id version date scheduledAt }").await["visit"].take();
        assert_eq!((&visit["date"], &visit["scheduledAt"]), (&json!("2026-12-01"), &json!("2026-11-30T16:00:00Z")));
        let mut version = visit["version"].as_i64().unwrap();
        let mut moved = async |change: Value| {
            let mut input = json!({"id": visit["id"], "version": version});
            input.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
            let after = front_desk.mutate("changeVisit", input, "visit { version date scheduledAt }").await["visit"].take();
            version = after["version"].as_i64().unwrap();
            (after["date"].as_str().unwrap().to_owned(), after["scheduledAt"].clone())
        };
        let at = |date: &str, at: Value| (date.to_owned(), at);
        assert_eq!(moved(json!({"date": "2026-12-03"})).await, at("2026-12-03", json!("2026-12-02T16:00:00Z")));
        assert_eq!(moved(json!({"date": "2026-12-03"})).await, at("2026-12-03", json!("2026-12-02T16:00:00Z")), "it exists already");
        assert_eq!(moved(json!({"scheduledAt": "2026-12-05T03:30:00Z"})).await, at("2026-12-05", json!("2026-12-05T03:30:00Z")));
        // To a day on which clocks skip the time from 02:00 to 03:00.
        app.execute("UPDATE hospital SET time_zone = 'Europe/Berlin'").await;
        assert_eq!(moved(json!({"scheduledAt": "2027-03-20T01:30:00Z"})).await, at("2027-03-20", json!("2027-03-20T01:30:00Z")));
        assert_eq!(moved(json!({"date": "2027-03-28"})).await, at("2027-03-28", json!("2027-03-28T01:00:00Z")));
        assert_eq!(moved(json!({"date": "2027-03-30", "scheduledAt": "2027-03-29T22:00:00Z"})).await, at("2027-03-30", json!("2027-03-29T22:00:00Z")));
        assert_eq!(moved(json!({"date": "2027-04-02", "scheduledAt": null})).await, at("2027-04-02", Value::Null));
        assert_eq!(moved(json!({"date": "2027-04-03"})).await, at("2027-04-03", Value::Null));
        // A visit whose time is on another day, which only SQL and imports can create, keeps it unless it is moved.
        app.execute("UPDATE visit SET scheduled_at = '2027-04-09 07:00:00', version = version WHERE date = '2027-04-03'").await;
        assert_eq!(moved(json!({"date": "2027-04-03", "channel": "APP"})).await, at("2027-04-03", json!("2027-04-09T07:00:00Z")));
        assert_eq!(moved(json!({"date": "2027-04-05"})).await, at("2027-04-05", json!("2027-04-05T07:00:00Z")));
    }

    async fn a_date_and_a_time_on_different_days_are_rejected(app: TestApp) {
        app.import_example();
        let front_desk = app.sign_in("desk").await;
        let found = front_desk.graphql("{ patients { nodes { id chartNo visits { nodes { id version } } } } }").await;
        let mut patients = found["patients"]["nodes"].as_array().unwrap().iter();
        let patient = patients.find(|patient| patient["chartNo"] == "E").unwrap();
        let visit = &patient["visits"]["nodes"][0];
        let wrong = json!({"date": "2026-12-01", "scheduledAt": "2026-12-01T15:00:00Z"});
        for (name, mut input) in [
            ("recordVisit", json!({"patientId": patient["id"]})),
            ("changeVisit", json!({"id": visit["id"], "version": visit["version"], "reason": "moved"})),
        ] {
            input.as_object_mut().unwrap().extend(wrong.as_object().unwrap().clone());
            let response = front_desk.mutation_response(name, input, "visit { id }").await;
            let error = &response["errors"][0];
            assert_eq!(error["extensions"]["code"], "BAD_USER_INPUT", "{name}: {response}");
            let message = error["message"].as_str().unwrap();
            assert!(message.contains("input.date") && message.contains("input.scheduledAt"), "{message}");
        }
        assert_eq!(app.query_number("SELECT COUNT(*) FROM visit").await, 11);
        let after = front_desk.graphql_with("query ($id: ID!) { visit(id: $id) { date scheduledAt } }", json!({"id": visit["id"]})).await;
        assert_eq!(after["visit"], json!({"date": "2025-06-15", "scheduledAt": null}));
        let neither = front_desk.mutation_error("recordVisit", json!({"patientId": patient["id"]})).await;
        assert_eq!(neither, error("BAD_USER_INPUT", "input.date"));
    }

    async fn departments_and_doctors_are_limited_to_ledger_capacity(app: TestApp) {
        app.import_example();
        let admin = app.sign_in("admin").await;
        let digit = "(SELECT 0 AS n UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3 UNION ALL SELECT 4 UNION ALL SELECT 5 UNION ALL SELECT 6 UNION ALL SELECT 7)";
        let number = "a.n + 8 * b.n + 64 * c.n + 512 * d.n + 4096 * e.n + 32768 * f.n";
        let name = match app.kind() {
            test_support::DatabaseKind::Mariadb => format!("CONCAT('n', {number})"),
            _ => format!("'n' || ({number})"),
        };
        for table in ["department", "doctor"] {
            let second_client = app.query_number(&format!("SELECT COUNT(*) FROM {table}")).await;
            app.execute(&format!(
                "INSERT INTO {table} (hospital_id, name) SELECT h.id, {name} FROM hospital h, {digit} a, {digit} b, {digit} c, {digit} d, {digit} e, {digit} f
                WHERE {number} < {}", 65_534 - second_client
            )).await;
        }
        // One more fits, then none, neither by a mutation nor by an import.
        for (change, table) in [("addDepartment", "department"), ("addDoctor", "doctor")] {
            admin.mutate(change, json!({"name": "the last"}), &format!("{table} {{ id }}")).await;
            let refused = admin.mutation_response(change, json!({"name": "too many"}), &format!("{table} {{ id }}")).await;
            let error = &refused["errors"][0];
            assert_eq!(error["extensions"], json!({"code": "BAD_USER_INPUT", "argument": "input.name"}), "{refused}");
            assert!(error["message"].as_str().unwrap().contains("65535"), "{refused}");
        }
        let rows = "visit_no,chart_no,date,status,department,doctor\n\
            a,A,2025-05-01,COMPLETED,the last,the last\nb,A,2025-05-02,COMPLETED,new,the last\nc,A,2025-05-03,COMPLETED,,new\n";
        let path = app.write_file("full.csv", rows);
        let output = app.try_run_cli(&["import", "visits", "--hospital", "H1", path.to_str().unwrap()]);
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        assert_eq!(text(&output.stdout), "3 rows read: 1 inserted, 0 changed, 0 unchanged, 0 conflicts, 2 refused, 0 blank; 0 values left empty\n");
        for expected in ["line 3, column department: the hospital already has 65535 departments", "line 4, column doctor: the hospital already has 65535 doctors"] {
            assert!(text(&output.stderr).contains(expected), "{}", text(&output.stderr));
        }
        // A ledger that is full accepts a new one once an old one is gone.
        app.execute("DELETE FROM visit").await;
        app.execute(
            "INSERT INTO visit (hospital_id, patient_id, date, status, channel, department_id)
            SELECT d.hospital_id, p.id, '2025-05-04', 'COMPLETED', 'OTHER', d.id FROM department d JOIN patient p ON p.hospital_id = d.hospital_id AND p.chart_no = 'A'",
        ).await;
        let count = async |filter: &str| {
            let query = format!("{{ statistics(period: MONTH, range: {{from: \"2025-05-01\", to: \"2025-05-31\"}}{filter}) {{ total {{ visitors {{ visitCount }} }} }} }}");
            admin.graphql(&query).await["statistics"]["total"]["visitors"]["visitCount"].as_u64().unwrap()
        };
        assert_eq!(count("").await, 65_535);
        app.execute("UPDATE visit SET department_id = NULL WHERE department_id = (SELECT id FROM department WHERE name = 'n1')").await;
        app.execute("DELETE FROM department WHERE name = 'n1'").await;
        let new = admin.mutate("addDepartment", json!({"name": "instead"}), "department { id }").await["department"]["id"].take();
        app.execute("UPDATE visit SET department_id = (SELECT id FROM department WHERE name = 'instead') WHERE department_id = (SELECT id FROM department WHERE name = 'n2')").await;
        let loads = app.metric("rollcall_ledger_loads_total").await;
        assert_eq!(count(&format!(", filter: {{departmentIds: [{new}]}}")).await, 1);
        assert_eq!(count("").await, 65_535);
        assert_eq!(app.metric("rollcall_ledger_loads_total").await, loads + 1);
    }
}
