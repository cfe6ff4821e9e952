//! Closed months: sealed one after another, with what was corrected since, and as files that are verified without the server.

use serde_json::{Value, json};
use test_support::{Client, KINDS, error, on_each_database};

const STATEMENT: &str = "id month digest previous { id digest } sealedBy { login } statistics { id period range { from to } asOf pinnedAt }";

async fn seal(user: &Client<'_>, month: &str) -> Value {
    let selection = format!("statement {{ {STATEMENT} }}");
    user.mutate("sealMonth", json!({"month": month}), &selection).await["statement"].take()
}

/// The months of all pages of this size, newest first.
async fn months(user: &Client<'_>, size: usize) -> Vec<String> {
    let query = format!(
        "query ($at: String) {{ statements(first: {size}, after: $at) {{ totalCount nodes {{ month }} pageInfo {{ hasNextPage endCursor }} }} }}"
    );
    let (mut all, mut at) = (Vec::new(), Value::Null);
    loop {
        let page = user.graphql_with(&query, json!({"at": at})).await["statements"].take();
        let nodes = page["nodes"].as_array().unwrap();
        all.extend(nodes.iter().map(|node| node["month"].as_str().unwrap().to_owned()));
        if page["pageInfo"]["hasNextPage"] == false {
            assert_eq!(page["totalCount"], all.len());
            return all;
        }
        at = page["pageInfo"]["endCursor"].clone();
    }
}

/// The cohorts of a month that were corrected, such as "NEW +1 -0".
async fn corrections(user: &Client<'_>, statement: &Value) -> Vec<String> {
    let query = format!(
        "{{ node(id: {statement}) {{ ... on Statement {{ corrections {{ total {{ changedCohorts {{ kind enteredCount leftCount }} }} }} }} }} }}"
    );
    let changed = user.graphql(&query).await["node"]["corrections"]["total"]["changedCohorts"].take();
    let line = |cohort: &Value| {
        let kind = cohort["kind"].as_str().unwrap();
        format!("{kind} +{} -{}", cohort["enteredCount"], cohort["leftCount"])
    };
    changed.as_array().unwrap().iter().map(line).collect()
}

on_each_database! {
    async fn months_are_sealed_one_after_another(app: TestApp) {
        app.import_example();
        app.set_time("2025-09-01T00:30:00+09:00");
        let (admin, support) = (app.sign_in("admin").await, app.sign_in("support").await);
        let may = seal(&admin, "2025-05-17").await;
        assert_eq!((&may["month"], &may["previous"], &may["sealedBy"]["login"]), (&json!("2025-05-01"), &Value::Null, &json!("admin")));
        assert!(may["digest"].as_str().is_some_and(|digest| digest.len() == 64) && may["statistics"]["pinnedAt"].is_string());
        let question = &may["statistics"];
        assert_eq!((&question["period"], &question["asOf"], &question["range"]), (&json!("DAY"), &json!("2025-09-01"), &json!({"from": "2025-05-01", "to": "2025-05-31"})));
        let refused = async |month: &str, message: &str| {
            let response = admin.mutation_response("sealMonth", json!({"month": month}), "statement { id }").await;
            assert_eq!(response["errors"][0]["extensions"], json!({"code": "BAD_USER_INPUT", "argument": "input.month"}));
            assert!(response["errors"][0]["message"].as_str().unwrap().ends_with(message), "{response}");
        };
        refused("2025-05-31", "2025-05 is sealed already").await;
        refused("2025-07-01", "the months before it must be sealed first; the next one is 2025-06").await;
        refused("2025-04-30", "lies before 2025-05, the first month that was sealed: statements follow one another").await;
        refused("2025-09-01", "2025-09 is not over").await;
        refused("2199-01-01", "2199-01 is not over").await;
        for login in ["clinician", "desk", "support"] {
            app.sign_in(login).await.expect_mutation_error("sealMonth", json!({"month": "2025-06-01"}), "FORBIDDEN").await;
        }
        // The same key seals once.
        let input = json!({"month": "2025-06-01", "idempotencyKey": "june"});
        let june = admin.mutate("sealMonth", input.clone(), &format!("statement {{ {STATEMENT} }}")).await["statement"].take();
        assert_eq!(june["previous"], json!({"id": may["id"], "digest": may["digest"]}));
        assert_eq!(admin.mutate("sealMonth", input, "statement { id }").await["statement"]["id"], june["id"]);
        // August was over half an hour ago.
        for month in ["2025-07-01", "2025-08-01"] {
            seal(&admin, month).await;
        }
        let all = ["2025-08-01", "2025-07-01", "2025-06-01", "2025-05-01"];
        for size in [1, 3, 4] {
            assert_eq!(months(&support, size).await, all);
        }
        let unpinned = admin.mutation_error("unpinSnapshot", json!({"id": may["statistics"]["id"]})).await;
        assert_eq!(unpinned, error("BAD_USER_INPUT", "input.id"));
        let other = app.other_hospital().await;
        let seen = other.graphql(&format!("{{ statements {{ totalCount }} node(id: {}) {{ id }} }}", may["id"])).await;
        assert_eq!(seen, json!({"statements": {"totalCount": 0}, "node": null}));
    }

    async fn corrections_are_shown_against_what_was_told(app: TestApp) {
        app.import_example();
        app.set_time("2025-08-31T12:00:00+09:00");
        let admin = app.sign_in("admin").await;
        let may = seal(&admin, "2025-05-01").await;
        let counts = "statistics { total { newPatients { id patientCount visitCount digest } noShow { patientCount } } } digest";
        let told = async || admin.graphql(&format!("{{ node(id: {}) {{ ... on Statement {{ {counts} }} }} }}", may["id"])).await;
        let before = told().await;
        let new = &before["node"]["statistics"]["total"]["newPatients"];
        assert_eq!((&new["patientCount"], &new["visitCount"]), (&json!(2), &json!(3)));
        assert_eq!(corrections(&admin, &may["id"]).await, Vec::<String>::new());
        // Later visits, the calendar and other rules correct nothing.
        app.set_time("2025-12-31T12:00:00+09:00");
        app.execute("INSERT INTO visit (hospital_id, visit_no, patient_id, date, status, channel)
            SELECT hospital_id, '90', id, '2025-12-01', 'COMPLETED', 'OTHER' FROM patient WHERE chart_no = 'A'").await;
        let rules = json!({"version": 1, "churnAfterDays": 5, "overdueAfterDays": 1});
        admin.mutate("updateDefinition", rules, "definition { version }").await;
        assert_eq!(corrections(&admin, &may["id"]).await, Vec::<String>::new());
        // A no-show who came after all: 2025-05-09 of D.
        app.execute("UPDATE visit SET status = 'COMPLETED' WHERE date = '2025-05-09'").await;
        let corrected = corrections(&admin, &may["id"]).await;
        assert_eq!(corrected, ["VISITORS +1 -0", "NEW +1 -0", "RETAINED +1 -0", "NO_SHOW +0 -1"]);
        let entered = "entered { edges { node { chartNo } reasons { text visits { before { status } after { status } } } } }";
        let query = format!("{{ node(id: {}) {{ ... on Statement {{ corrections {{ bucket(day: \"2025-05-09\") {{ cohort(kind: NEW) {{ {entered} }} }} }} }} }} }}", may["id"]);
        let edge = admin.graphql(&query).await["node"]["corrections"]["bucket"]["cohort"]["entered"]["edges"][0].take();
        assert_eq!(edge["node"]["chartNo"], "D");
        assert_eq!(edge["reasons"][0]["visits"][0], json!({"before": {"status": "NO_SHOW"}, "after": {"status": "COMPLETED"}}));
        // What was told stays.
        assert_eq!(told().await, before);
    }

    async fn a_month_is_sealed_once(app: TestApp) {
        app.import_example();
        app.set_time("2025-08-31T12:00:00+09:00");
        let second = app.second_server();
        let (one, other) = (app.sign_in("admin").await, app.sign_in_at(&second.base, "H1", "admin").await);
        let seals = (0..8).map(|number| {
            let user = if number % 2 == 0 { &one } else { &other };
            user.mutation_response("sealMonth", json!({"month": "2025-05-01"}), "statement { id }")
        });
        let responses: Vec<Value> = futures_util::future::join_all(seals).await;
        let sealed = responses.iter().filter(|response| response["errors"].is_null()).count();
        assert_eq!(sealed, 1, "{responses:?}");
        for response in responses.iter().filter(|response| !response["errors"].is_null()) {
            let code = response["errors"][0]["extensions"]["code"].as_str().unwrap();
            assert!(matches!(code, "BAD_USER_INPUT" | "CONFLICT"), "{response}");
        }
        assert_eq!(months(&one, 20).await, ["2025-05-01"]);
    }

    async fn files_are_verified_without_the_server(app: TestApp) {
        app.import_example();
        app.set_time("2025-08-31T12:00:00+09:00");
        let admin = app.sign_in("admin").await;
        let (may, june) = (seal(&admin, "2025-05-01").await, seal(&admin, "2025-06-01").await);
        // The file has what was told, also where it is corrected.
        app.execute("UPDATE visit SET status = 'CANCELED' WHERE date = '2025-05-20'").await;
        let export = |month: &str| app.run_cli(&["statement", "export", "--hospital", "H1", "--month", month]);
        let text = export("2025-05");
        let file: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(file["digest"], may["digest"]);
        let statement = &file["statement"];
        let kinds: String = KINDS.iter().map(|kind| format!("{kind}: cohort(kind: {kind}) {{ patientCount visitCount digest }} ")).collect();
        let told = admin.graphql(&format!("{{ node(id: {}) {{ ... on Statement {{ statistics {{ revision total {{ {kinds} }} }} }} }} }}", may["id"])).await;
        let told = &told["node"]["statistics"];
        assert_eq!((&statement["hospital"], &statement["asOf"], &statement["revision"]), (&json!("H1"), &json!("2025-08-31"), &told["revision"]));
        assert_eq!(statement["days"].as_array().unwrap().len(), 31);
        assert_eq!(statement["total"]["cohorts"], told["total"]);
        let (first, second) = (app.write_file("may.json", &text), app.write_file("x", "").with_file_name("june.json"));
        let (first, second) = (first.to_str().unwrap(), second.to_str().unwrap());
        let output = ["statement", "export", "--hospital", "H1", "--month", "2025-06", "--output", second];
        assert_eq!(app.run_cli(&output), "");
        let again = app.try_run_cli(&output);
        assert!(!again.status.success() && String::from_utf8_lossy(&again.stderr).contains("june.json cannot be written"));
        let digest = |statement: &Value| statement["digest"].as_str().unwrap().to_owned();
        let expected = format!("H1 2025-05 {}\nH1 2025-06 {}\n", digest(&may), digest(&june));
        // No database is needed.
        let verify = |files: &[&str]| {
            let verified = app.command_at("postgres://nobody@127.0.0.1:1/none", &[&["statement", "verify"], files].concat()).output().unwrap();
            let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
            (verified.status.success(), text(verified.stdout), text(verified.stderr))
        };
        assert_eq!(verify(&[second, first]), (true, expected, String::new()));
        let altered = app.write_file("altered.json", text.replacen("\"patientCount\": 2", "\"patientCount\": 3", 1));
        let (verified, _, errors) = verify(&[altered.to_str().unwrap()]);
        assert!(!verified && errors.contains("altered.json: was altered"), "{errors}");
        let absent = app.try_run_cli(&["statement", "export", "--hospital", "H1", "--month", "2025-07"]);
        assert!(String::from_utf8_lossy(&absent.stderr).contains("month: 2025-07 is not sealed"));
    }
}
