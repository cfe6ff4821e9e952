//! Registering patients: the next chart number, patients who may be the same person, and those who are not to be contacted.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use serde_json::{Value, json};
use test_support::{Client, error, on_each_database};

use crate::erasure::holding;

/// Registers a patient with these values; the chart number.
async fn register(user: &Client<'_>, input: Value) -> String {
    let payload = user.mutate("registerPatient", input, "patient { chartNo }").await;
    payload["patient"]["chartNo"].as_str().unwrap().to_owned()
}

/// A patient by the chart number, of those who are ACTIVE.
async fn patient(user: &Client<'_>, chart_no: &str) -> Value {
    let query = "query ($s: String) { patients(filter: {search: $s}) { nodes { id version chartNo doNotContact } } }";
    let mut found = user.graphql_with(query, json!({"s": chart_no})).await;
    let mut nodes = found["patients"]["nodes"].as_array_mut().unwrap().iter_mut();
    nodes.find(|node| node["chartNo"] == chart_no).unwrap().take()
}

async fn merge(user: &Client<'_>, chart_no: &str, into: &str) {
    let (from, into) = (patient(user, chart_no).await, patient(user, into).await);
    let input = json!({"id": from["id"], "version": from["version"], "intoId": into["id"], "reason": "Twice"});
    user.mutate("mergePatients", input, "into { id }").await;
}

async fn erase(user: &Client<'_>, chart_no: &str) {
    let row = patient(user, chart_no).await;
    let input = json!({"id": row["id"], "version": row["version"], "reason": "Asked for"});
    user.mutate("erasePatient", input, "patient { id }").await;
}

/// The possible duplicates of a response: chart numbers, and the first letters of the words of each reason.
fn matches(found: &Value) -> String {
    let short = |reason: &Value| match reason.as_str().unwrap() {
        "SAME_PHONE" => "phone",
        "SAME_NAME_AND_BIRTH_DATE" => "name",
        "SIMILAR_NAME_AND_SAME_PHONE_ENDING" => "similar",
        other => panic!("{other}"),
    };
    let shown = |found: &Value| {
        let reasons: Vec<&str> = found["reasons"].as_array().unwrap().iter().map(short).collect();
        format!(
            "{}:{}",
            found["patient"]["chartNo"].as_str().unwrap(),
            reasons.join("+")
        )
    };
    let shown: Vec<String> = found.as_array().unwrap().iter().map(shown).collect();
    shown.join(" ")
}

const MATCHES: &str = "{ reasons patient { chartNo name phone birthDate } }";

/// A response to a question for the possible duplicates of a person with these values.
async fn response(user: &Client<'_>, person: Value) -> Value {
    let query = format!(
        "query ($name: String, $birthDate: Date, $phone: String) {{
            possibleDuplicates(name: $name, birthDate: $birthDate, phone: $phone) {MATCHES} }}"
    );
    user.graphql_response(&query, person).await
}

async fn duplicates(user: &Client<'_>, person: Value) -> String {
    let response = response(user, person).await;
    assert!(response.get("errors").is_none(), "{response}");
    matches(&response["data"]["possibleDuplicates"])
}

const PATIENTS: &str = "chart_no,name,phone,birth_date
A,Ann Ash,010-1111-0001,1980-01-01
B,ＡＮＮ　ash,010-3333-0002,1980-01-01
C,Bea Bay,010-1111-0001,1990-05-05
D,Anna Ash,010-9999-0001,
E,김영수,010-5555-0001,1970-02-02
F,Ann Ash,,1980-01-02
";

on_each_database! {
    async fn the_next_number_continues_the_most_frequent_prefix_and_width(app: TestApp) {
        let desk = app.sign_in("desk").await;
        let next = async || register(&desk, json!({"name": "Ann"})).await;
        assert_eq!(next().await, "000001");
        assert_eq!(register(&desk, json!({"chartNo": null})).await, "000002");
        // Sent again.
        let keyed = json!({"name": "Bea", "idempotencyKey": "k"});
        let first = desk.mutate("registerPatient", keyed.clone(), "patient { id chartNo }").await;
        assert_eq!(first["patient"]["chartNo"], "000003");
        assert_eq!(desk.mutate("registerPatient", keyed, "patient { id chartNo }").await, first);
        let with_number = json!({"name": "Bea", "chartNo": "000003", "idempotencyKey": "k"});
        assert_eq!(desk.mutation_error("registerPatient", with_number).await, error("BAD_USER_INPUT", "input.idempotencyKey"));
        // Numbers that staff give and files bring are passed over; refused registrations take none.
        assert_eq!(register(&desk, json!({"chartNo": "000005"})).await, "000005");
        desk.expect_mutation_error("registerPatient", json!({"birthDate": "1980-01-01", "birthYear": 1981}), "BAD_USER_INPUT").await;
        assert_eq!((next().await, next().await), ("000004".to_owned(), "000006".to_owned()));
        let imported: String = (7..=500).map(|number| format!("{number:06}\n")).collect();
        app.import("patients", "H1", &format!("chart_no\nP-1\n{imported}999999\n"));
        assert_eq!((next().await, next().await), ("000501".to_owned(), "000502".to_owned()));

        let other = app.other_hospital().await;
        app.import("patients", "H2", "chart_no\n7\n8\nX\nP-0007\nP-0099\nP-0008\nP-10000\n");
        for number in ["P-0100", "P-0101"] {
            assert_eq!(register(&other, json!({})).await, number);
        }
        assert_eq!(next().await, "000503");
        assert_eq!(app.query_number("SELECT COUNT(*) FROM chart_number_counter").await, 2);
    }

    async fn a_number_that_anybody_had_is_not_given_again(app: TestApp) {
        let desk = app.sign_in("desk").await;
        let next = async || register(&desk, json!({})).await;
        assert_eq!(next().await, "000001");
        for number in 2..=8 {
            register(&desk, json!({"chartNo": format!("00000{number}")})).await;
        }
        erase(&desk, "000002").await;
        merge(&desk, "000003", "000001").await;
        let row = patient(&desk, "000004").await;
        desk.mutate("changePatient", json!({"id": row["id"], "version": row["version"], "chartNo": "X-1"}), "patient { id }").await;
        merge(&desk, "000005", "000006").await;
        erase(&desk, "000006").await;
        // Replaced, and then erased.
        let row = patient(&desk, "000007").await;
        desk.mutate("changePatient", json!({"id": row["id"], "version": row["version"], "chartNo": "X-2"}), "patient { id }").await;
        erase(&desk, "X-2").await;
        assert_eq!(next().await, "000009");
        erase(&desk, "000009").await;
        assert_eq!(holding(app, "000009").await, Vec::<String>::new());
        assert_eq!(next().await, "000010");
        // Neither where the counter is lost.
        for number in ["000011", "000012"] {
            assert_eq!(next().await, number);
            erase(&desk, number).await;
            app.execute("DELETE FROM chart_number_counter").await;
        }
        erase(&desk, "000010").await;
        assert_eq!(next().await, "000013", "after 000001, 000003, 000008 and X-1");
        app.execute("UPDATE chart_number_counter SET next_number = 'none'").await;
        assert_eq!(next().await, "000014");
        app.execute("UPDATE chart_number_counter SET next_number = '000001'").await;
        assert_eq!(next().await, "000015");
        // Given by staff, a replaced number is taken, an erased one is not.
        register(&desk, json!({"chartNo": "000004"})).await;
        assert_eq!(desk.mutation_error("registerPatient", json!({"chartNo": "000009"})).await, error("BAD_USER_INPUT", "input.chartNo"));
    }

    async fn concurrent_registrations_get_different_numbers(app: TestApp) {
        let second = app.second_server();
        let users = [app.sign_in("desk").await, app.sign_in_at(&second.base, "H1", "admin").await];
        let registering = (0..300).map(|number| {
            let user = &users[number % 2];
            async move {
                let input = json!({"name": format!("Ann {number}"), "idempotencyKey": format!("k{number}")});
                // Sent again until it is not refused as BUSY.
                for _ in 0..20 {
                    let response = user.mutation_response("registerPatient", input.clone(), "patient { chartNo }").await;
                    if response["errors"][0]["extensions"]["code"] != "BUSY" {
                        return response["data"]["registerPatient"]["patient"]["chartNo"].as_str().unwrap_or_else(|| panic!("{response}")).to_owned();
                    }
                }
                panic!("busy");
            }
        });
        let given = join_all(registering).await;
        let expected: BTreeSet<String> = (1..=300).map(|number| format!("{number:06}")).collect();
        assert_eq!(given.into_iter().collect::<BTreeSet<_>>(), expected);
        assert_eq!(app.query_number("SELECT COUNT(*) FROM patient").await, 300);
    }

    async fn after_the_last_number_one_has_to_be_given(app: TestApp) {
        app.import("patients", "H1", "chart_no\n999999999999999998\n");
        let desk = app.sign_in("desk").await;
        assert_eq!(register(&desk, json!({})).await, "999999999999999999");
        for _ in 0..2 {
            assert_eq!(desk.mutation_error("registerPatient", json!({})).await, error("BAD_USER_INPUT", "input.chartNo"));
        }
        register(&desk, json!({"chartNo": "1"})).await;
        // Nor is a number longer than one can be.
        let other = app.other_hospital().await;
        app.import("patients", "H2", &format!("chart_no\n{}9\n", "p".repeat(254)));
        assert_eq!(other.mutation_error("registerPatient", json!({})).await, error("BAD_USER_INPUT", "input.chartNo"));
        assert_eq!(app.query_number("SELECT COUNT(*) FROM patient").await, 4);
    }

    async fn patients_who_may_be_the_same_person_are_found(app: TestApp) {
        app.import("patients", "H1", PATIENTS);
        let (desk, admin) = (app.sign_in("desk").await, app.sign_in("admin").await);
        for (person, found) in [
            (json!({"name": "Ann Ash", "birthDate": "1980-01-01", "phone": "010 1111 0001"}), "A:phone+name+similar B:name C:phone D:similar"),
            (json!({"phone": "+82 10-1111-0001"}), "A:phone C:phone"),
            (json!({"phone": "010-1111-0001", "birthDate": "1990-05-05"}), "A:phone C:phone"),
            (json!({"name": "annash", "birthDate": "1980-01-01"}), "A:name B:name"),
            (json!({"name": "Ann Ash", "phone": "010-7777-0001"}), "A:similar D:similar"),
            (json!({"name": "김영숙", "phone": "02-312-0001"}), "E:similar"),
            (json!({"name": "ash", "birthDate": "1980-01-01"}), ""),
            (json!({"name": "Ann Ash"}), ""),
            (json!({"birthDate": "1980-01-01"}), ""),
            (json!({"name": "Ann Ash", "birthDate": null, "phone": null}), ""),
        ] {
            assert_eq!(duplicates(&desk, person.clone()).await, found, "{person}");
        }
        for (person, argument) in [
            (json!({}), "name"), (json!({"name": " "}), "name"), (json!({"phone": "12"}), "phone"), (json!({"birthDate": "2999-01-01"}), "birthDate"),
            (json!({"name": "Ann", "birthDate": "1980-02-30"}), "birthDate"),
        ] {
            let refused = response(&desk, person).await;
            assert_eq!(refused["errors"][0]["extensions"], json!({"code": "BAD_USER_INPUT", "argument": argument}));
        }
        let refused = response(&desk, json!({"name": "", "birthDate": "1980-13-01", "phone": "x"})).await;
        let refused: BTreeSet<&str> = refused["errors"][0]["extensions"]["errors"].as_array().unwrap().iter()
            .map(|error| error["argument"].as_str().unwrap()).collect();
        assert_eq!(refused, BTreeSet::from(["birthDate", "name", "phone"]));

        // Who was shown is in the audit; masked roles may not ask.
        let person = json!({"name": "Ann Ash", "birthDate": "1980-01-01"});
        let clinician = app.sign_in("clinician").await;
        assert_eq!(duplicates(&clinician, person.clone()).await, "A:name B:name");
        let audit = admin.graphql("{ audit(first: 2) { nodes { action staff { login } patientIds } } }").await["audit"]["nodes"].take();
        let shown = json!([patient(&admin, "A").await["id"], patient(&admin, "B").await["id"]]);
        assert_eq!(audit, json!([
            {"action": "SEARCHED", "staff": {"login": "clinician"}, "patientIds": shown},
            {"action": "VIEWED_PATIENTS", "staff": {"login": "clinician"}, "patientIds": shown},
        ]));
        for role in ["support", "kiosk"] {
            let refused = response(&app.sign_in(role).await, person.clone()).await;
            assert_eq!(refused["errors"][0]["extensions"], json!({"code": "FORBIDDEN"}), "{role}");
        }
        let other = app.other_hospital().await;
        assert_eq!(duplicates(&other, person.clone()).await, "");

        // Only who is ACTIVE, as the name is now, also if SQL changed it.
        merge(&desk, "D", "E").await;
        erase(&desk, "C").await;
        app.execute("UPDATE patient SET name = 'ann  ash', birth_date = '1980-01-01' WHERE chart_no = 'E'").await;
        app.execute("UPDATE patient SET name = 'Bob' WHERE chart_no = 'B'").await;
        let person = json!({"name": "Ann Ash", "birthDate": "1980-01-01", "phone": "010-1111-0001"});
        assert_eq!(duplicates(&desk, person.clone()).await, "A:phone+name+similar E:name+similar");
        // After registering somebody the others are shown, also if it is sent again; keys are rotated meanwhile.
        let mut input = person;
        input["idempotencyKey"] = json!("k");
        let selection = format!("patient {{ chartNo }} possibleDuplicates {MATCHES}");
        for _ in 0..2 {
            let made = desk.mutate("registerPatient", input.clone(), &selection).await;
            assert_eq!(made["patient"]["chartNo"], "000001");
            assert_eq!(matches(&made["possibleDuplicates"]), "A:phone+name+similar E:name+similar");
            app.run_cli(&["keys", "rotate"]);
        }
        let none = desk.mutate("registerPatient", json!({}), &selection).await;
        assert_eq!(none["possibleDuplicates"], json!([]));
    }

    async fn at_most_ten_are_shown_by_the_same_statements(app: TestApp) {
        let relatives: String = (0..14).map(|number| format!("R{number:02},Relative {number},010-1111-0001,\n")).collect();
        app.import("patients", "H1", &format!("chart_no,name,phone,birth_date\n{relatives}S,Ann Ash,,1980-01-01\nT,Bea Bay,010-2222-0002,\n"));
        let desk = app.sign_in("desk").await;
        let ten: Vec<String> = (0..10).map(|number| format!("R{number:02}:phone")).collect();
        assert_eq!(duplicates(&desk, json!({"phone": "010-1111-0001"})).await, ten.join(" "));
        let person = json!({"name": "Ann Ash", "birthDate": "1980-01-01", "phone": "010-1111-0001"});
        assert_eq!(duplicates(&desk, person).await, format!("S:name {}", ten[..9].join(" ")));
        let cost = async |phone: &str, found: usize| {
            let before = app.metric("rollcall_database_statements_total").await;
            assert_eq!(duplicates(&desk, json!({"phone": phone, "name": "Cem Cox"})).await.split(' ').count(), found);
            app.metric("rollcall_database_statements_total").await - before
        };
        assert_eq!(cost("010-2222-0002", 1).await, cost("010-1111-0001", 10).await);

        // Of very many with the same last digits, the last ones are compared.
        let many: String = (1..=2_000).map(|number| format!("M{number},Zed {number},010-{number:04}-0003,\n")).collect();
        app.import("patients", "H1", &format!("chart_no,name,phone,birth_date\nU,Dag Day,010-9998-0003,1990-04-04\nV,Dag Dai,010-9999-0003,\n{many}"));
        assert_eq!(duplicates(&desk, json!({"name": "Dag Day", "phone": "010-9990-0003"})).await, "");
        assert_eq!(duplicates(&desk, json!({"name": "Dag Day", "birthDate": "1990-04-04", "phone": "010-9998-0003"})).await, "U:phone+name+similar");
        erase(&desk, "M1").await;
        assert_eq!(duplicates(&desk, json!({"name": "Dag Day", "phone": "010-9990-0003"})).await, "V:similar");
    }

    async fn patients_who_are_not_to_be_contacted(app: TestApp) {
        let desk = app.sign_in("desk").await;
        for (chart_no, value) in [("A", json!(true)), ("B", json!(false)), ("C", Value::Null)] {
            register(&desk, json!({"chartNo": chart_no, "doNotContact": value})).await;
        }
        register(&desk, json!({"chartNo": "D"})).await;
        let flags = async |user: &Client<'_>| {
            let found = user.graphql("{ patients(first: 100) { nodes { chartNo doNotContact } } }").await["patients"]["nodes"].take();
            let set = found.as_array().unwrap().iter().filter(|node| node["doNotContact"] == true);
            set.map(|node| node["chartNo"].as_str().unwrap().to_owned()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(flags(&desk).await, "A");
        assert_eq!(flags(&app.sign_in("support").await).await, "A");
        let change = async |chart_no: &str, value: Value| {
            let row = patient(&desk, chart_no).await;
            let input = json!({"id": row["id"], "version": row["version"], "doNotContact": value});
            desk.mutation_response("changePatient", input, "patient { version doNotContact }").await
        };
        assert_eq!(change("B", json!(true)).await["data"]["changePatient"]["patient"], json!({"version": 2, "doNotContact": true}));
        assert_eq!(change("B", json!(true)).await["data"]["changePatient"]["patient"], json!({"version": 2, "doNotContact": true}));
        assert_eq!(change("A", json!(false)).await["data"]["changePatient"]["patient"], json!({"version": 2, "doNotContact": false}));
        assert_eq!(change("A", Value::Null).await["errors"][0]["extensions"], json!({"code": "BAD_USER_INPUT", "argument": "input.doNotContact"}));
        assert_eq!(flags(&desk).await, "B");

        // Who stays after a merge is not to be contacted if one of the two was not, and remains so.
        let (from, into) = (patient(&desk, "B").await, patient(&desk, "C").await);
        let input = json!({"id": from["id"], "version": 2, "intoId": into["id"], "reason": "Quuxford came"});
        let merged = desk.mutate("mergePatients", input, "patient { doNotContact } into { version doNotContact }").await;
        assert_eq!(merged, json!({"patient": {"doNotContact": true}, "into": {"version": 2, "doNotContact": true}}));
        merge(&desk, "D", "C").await;
        assert_eq!(patient(&desk, "C").await["version"], 2, "nothing changed");
        let undo = json!({"id": from["id"], "reason": "Not Quuxford"});
        desk.mutate("undoMerge", undo, "patient { id }").await;
        assert_eq!(flags(&desk).await, "B C");
        let history = async || {
            let query = "query ($id: ID!) { patient(id: $id) { history(first: 4) { nodes { source reason fields { field before after } } } } }";
            desk.graphql_with(query, json!({"id": into["id"]})).await["patient"]["history"]["nodes"].take()
        };
        let entry = |reason: Value| json!({"source": "mergePatients", "reason": reason, "fields": [{"field": "doNotContact", "before": "NO", "after": "YES"}]});
        let before = history().await;
        assert_eq!(before[2], entry(json!("Quuxford came")));
        assert_eq!([&before[0]["reason"], &before[3]["reason"]], ["Not Quuxford", "Quuxford came"]);
        // The reason may speak of either.
        erase(&desk, "B").await;
        let after = history().await;
        assert_eq!(after[2], entry(Value::Null));
        assert_eq!(after[0], json!({"source": "undoMerge", "reason": null, "fields": [{"field": "mergedPatient", "before": "ERASED", "after": null}]}));
        assert_eq!(holding(app, "Quuxford").await, Vec::<String>::new());
        assert_eq!(flags(&desk).await, "C");
    }
}
