//! Lists that are derived from others: narrowed lists and sets. They keep still, and can be opened like any other list.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use test_support::{Client, EXAMPLE, TestApp, error, on_each_database, wait_until};

use crate::recall::statistics_id;

/// The ids of lists of the worked example: of each bucket, and of the total.
async fn example(user: &Client<'_>) -> Value {
    let lists = "visitors { id } newPatients { id } returning { id } noShow { id }";
    user.graphql(&format!(
        "{{ {EXAMPLE} {{ id buckets {{ {lists} }} total {{ {lists} }} }} }}"
    ))
    .await["statistics"]
        .take()
}

/// What a list has: chart numbers, and numbers of visits.
const LIST: &str = "id kind patientCount visitCount digest patientIds visitIds derivation { text sources { id } }
    patients { totalCount nodes { chartNo } edges { firstVisitDate lastVisitDate visitCount } } visits { totalCount nodes { visitNo } edges { date status } }";

fn charts(list: &Value) -> Vec<String> {
    let nodes = list["patients"]["nodes"].as_array().unwrap();
    assert_eq!(list["patients"]["totalCount"], list["patientCount"]);
    assert_eq!(list["patientCount"], nodes.len());
    assert_eq!(list["visits"]["totalCount"], list["visitCount"]);
    nodes
        .iter()
        .map(|node| node["chartNo"].as_str().unwrap().to_owned())
        .collect()
}

async fn narrowed(user: &Client<'_>, list: &Value, filter: Value) -> Value {
    let query = format!(
        "query ($id: ID!, $filter: CohortPatientFilter!) {{ cohort(id: $id) {{ narrowed(filter: $filter) {{ {LIST} }} }} }}"
    );
    user.graphql_with(&query, json!({"id": list, "filter": filter})).await["cohort"]["narrowed"].take()
}

async fn set(user: &Client<'_>, of: Value) -> Value {
    let query = format!("query ($of: CohortSetInput!) {{ cohortSet(of: $of) {{ {LIST} }} }}");
    user.graphql_with(&query, json!({"of": of})).await["cohortSet"].take()
}

/// The extensions of the error of a query.
async fn refused(user: &Client<'_>, query: &str, variables: Value) -> Value {
    user.graphql_response(query, variables).await["errors"][0]["extensions"].clone()
}

async fn refused_set(user: &Client<'_>, of: Value) -> Value {
    refused(
        user,
        "query ($of: CohortSetInput!) { cohortSet(of: $of) { patientCount } }",
        json!({"of": of}),
    )
    .await
}

fn bad_input(argument: &str) -> Value {
    json!({"code": "BAD_USER_INPUT", "argument": argument})
}

/// Deletes expired snapshots by starting a server.
async fn age_and_sweep(app: &TestApp) -> test_support::TestServer {
    for table in ["snapshot", "list_part"] {
        app.execute(&format!("UPDATE {table} SET kept_at = '2020-01-01 00:00:00'"))
            .await;
    }
    app.second_server()
}

on_each_database! {
    async fn patients_who_meet_conditions_are_a_list_that_keeps_still(app: TestApp) {
        app.import_example();
        let admin = app.sign_in("admin").await;
        app.execute("UPDATE patient SET birth_year = 1960, sex = 'FEMALE' WHERE chart_no = 'A'").await;
        app.execute("UPDATE patient SET birth_year = 1995, birth_date = NULL, sex = 'MALE', do_not_contact = TRUE WHERE chart_no = 'B'").await;
        let visit = json!({"patientId": admin.graphql("{ patients { nodes { id } } }").await["patients"]["nodes"][1]["id"], "date": "2199-01-01"});
        admin.mutate("recordVisit", visit, "visit { id }").await;
        let visitors = example(&admin).await["total"]["visitors"]["id"].take();
        for (filter, expected) in [
            (json!({}), &["A", "B", "C", "D"][..]),
            (json!({"sexes": ["FEMALE", "UNKNOWN", "FEMALE"]}), &["A", "C"]),
            (json!({"ageFrom": 30}), &["A", "B", "D"]),
            (json!({"ageFrom": 30, "ageTo": 30}), &["B"]),
            (json!({"ageFrom": 31, "ageTo": 64}), &["D"]),
            (json!({"ageTo": 65, "ageFrom": 65}), &["A"]),
            (json!({"ageTo": 29}), &[]),
            (json!({"hasNextVisit": true}), &["B"]),
            (json!({"hasNextVisit": false, "ageFrom": 0}), &["A", "D"]),
            (json!({"mayBeContacted": false}), &["B"]),
            (json!({"mayBeContacted": true, "sexes": ["FEMALE"]}), &["A"]),
            (json!({"hasPhone": false}), &["C", "D"]),
        ] {
            assert_eq!(charts(&narrowed(&admin, &visitors, filter.clone()).await), expected, "{filter}");
        }
        let list = narrowed(&admin, &visitors, json!({"hasNextVisit": true})).await;
        assert_eq!((&list["kind"], &list["visitCount"]), (&json!("DERIVED"), &json!(2)));
        assert_eq!(list["derivation"], json!({"text": "list 1: with a next visit", "sources": [{"id": visitors}]}));
        // It stays as it is, on another server too, and the same conditions give another list later.
        app.execute("UPDATE visit SET status = 'CANCELED' WHERE date = '2199-01-01'").await;
        let second = app.second_server();
        let other_server = app.sign_in_at(&second.base, "H1", "clinician").await;
        for query in [format!("query ($id: ID!) {{ cohort(id: $id) {{ {LIST} }} }}"), format!("query ($id: ID!) {{ cohort: node(id: $id) {{ ... on Cohort {{ {LIST} }} }} }}")] {
            assert_eq!(other_server.graphql_with(&query, json!({"id": list["id"]})).await["cohort"], list);
        }
        let later = narrowed(&admin, &visitors, json!({"hasNextVisit": true})).await;
        assert_eq!((charts(&later), later["id"] == list["id"]), (vec![], false));
        // A list that is not shown is not stored; equal lists have the same id.
        let stored = async || app.query_value::<i64>("SELECT COUNT(*) FROM snapshot WHERE recipe IS NOT NULL").await;
        let before = stored().await;
        let query = "query ($id: ID!) { cohort(id: $id) { narrowed(filter: {hasPhone: true, sexes: [MALE]}) { patientCount visitCount digest patientIds } } }";
        admin.graphql_with(query, json!({"id": visitors})).await;
        assert_eq!(stored().await, before);
        let again = narrowed(&admin, &visitors, json!({"hasNextVisit": true})).await;
        assert_eq!((again["id"] == later["id"], stored().await), (true, before));
        for (filter, argument) in [
            (json!({"sexes": []}), "filter.sexes"),
            (json!({"ageFrom": -1}), "filter.ageFrom"),
            (json!({"ageTo": 151}), "filter.ageTo"),
            (json!({"ageFrom": 40, "ageTo": 39}), "filter.ageTo"),
        ] {
            let query = "query ($id: ID!, $filter: CohortPatientFilter!) { cohort(id: $id) { narrowed(filter: $filter) { patientCount } } }";
            assert_eq!(refused(&admin, query, json!({"id": visitors, "filter": filter})).await, bad_input(argument));
        }
        assert_eq!(refused(&admin, &format!("{{ {EXAMPLE} {{ total {{ cohort(kind: DERIVED) {{ patientCount }} }} }} }}"), json!({})).await, bad_input("kind"));
    }

    async fn lists_are_divided_into_parts(app: TestApp) {
        app.import_example();
        let admin = app.sign_in("admin").await;
        app.execute("UPDATE patient SET birth_year = 1960, sex = 'FEMALE' WHERE chart_no = 'A'").await;
        app.execute("UPDATE patient SET birth_year = 1995, sex = 'MALE' WHERE chart_no = 'B'").await;
        app.execute("UPDATE patient SET birth_year = 1930, sex = 'FEMALE' WHERE chart_no = 'C'").await;
        app.execute("UPDATE patient SET birth_year = NULL, birth_date = NULL, sex = 'UNKNOWN' WHERE chart_no = 'D'").await;
        let visitors = example(&admin).await["total"]["visitors"]["id"].take();
        let divided = async |user: &Client<'_>, list: &Value, by: &str| {
            let query = format!("query ($id: ID!) {{ cohort(id: $id) {{ patientCount visitCount breakdown(by: {by}) {{ key label department {{ name }} doctor {{ name }} cohort {{ {LIST} }} }} }} }}");
            user.graphql_with(&query, json!({"id": list})).await["cohort"].take()
        };
        // The key, and the chart numbers of the part.
        let parts = |found: &Value| -> Vec<(Value, String)> {
            found["breakdown"].as_array().unwrap().iter().map(|part| (part["key"].clone(), charts(&part["cohort"]).join(""))).collect()
        };
        let text = |key: &str, charts: &str| (json!(key), charts.to_owned());
        let by_sex = divided(&admin, &visitors, "SEX").await;
        assert_eq!(parts(&by_sex), [text("FEMALE", "AC"), text("MALE", "B"), text("UNKNOWN", "D")]);
        let by_age = divided(&admin, &visitors, "AGE_BAND").await;
        assert_eq!(parts(&by_age), [text("30-39", "B"), text("60-69", "A"), text("90+", "C"), (Value::Null, "D".to_owned())]);
        assert_eq!((&by_age["breakdown"][3]["label"], &by_age["breakdown"][0]["cohort"]["kind"]), (&json!("Unknown"), &json!("DERIVED")));
        assert_eq!(by_age["breakdown"][0]["cohort"]["derivation"], json!({"text": "list 1: age on asOf 30-39", "sources": [{"id": visitors}]}));
        // As recorded when first asked for, on each server.
        app.execute("UPDATE patient SET birth_year = 2001, sex = 'MALE'").await;
        let second = app.second_server();
        let other_server = app.sign_in_at(&second.base, "H1", "clinician").await;
        for user in [&admin, &other_server] {
            assert_eq!(divided(user, &visitors, "SEX").await, by_sex);
            assert_eq!(divided(user, &visitors, "AGE_BAND").await, by_age);
        }
        // What visits are divided by is as counted.
        let by_department = divided(&admin, &visitors, "DEPARTMENT").await;
        let (by_channel, by_doctor, by_weekday) = (divided(&admin, &visitors, "CHANNEL").await, divided(&admin, &visitors, "DOCTOR").await, divided(&admin, &visitors, "WEEKDAY").await);
        app.execute("UPDATE visit SET department_id = NULL, doctor_id = NULL, channel = 'TABLET'").await;
        for (by, before) in [("DEPARTMENT", &by_department), ("CHANNEL", &by_channel), ("DOCTOR", &by_doctor), ("WEEKDAY", &by_weekday)] {
            for user in [&admin, &other_server] {
                assert_eq!(&divided(user, &visitors, by).await, before);
            }
            let sum: u64 = before["breakdown"].as_array().unwrap().iter().map(|part| part["cohort"]["visitCount"].as_u64().unwrap()).sum();
            assert_eq!(before["visitCount"], sum);
            assert!(before["breakdown"].as_array().unwrap().len() > 1, "{by}");
        }
        for found in [&by_sex, &by_age] {
            let sum: u64 = found["breakdown"].as_array().unwrap().iter().map(|part| part["cohort"]["patientCount"].as_u64().unwrap()).sum();
            assert_eq!(found["patientCount"], sum);
        }
        let named = &by_department["breakdown"][0];
        assert_eq!(named["label"], named["department"]["name"]);
        let found = admin.graphql_with("query ($id: ID!) { node(id: $id) { ... on Department { name } } }", json!({"id": named["key"]})).await;
        assert_eq!(found["node"]["name"], named["label"]);
        let weekdays: Vec<&Value> = by_weekday["breakdown"].as_array().unwrap().iter().map(|part| &part["key"]).collect();
        assert_eq!(weekdays[0], "MONDAY");
        // A part opens, and is divided again.
        let part = &named["cohort"];
        let opened = other_server.graphql_with(&format!("query ($id: ID!) {{ cohort(id: $id) {{ {LIST} }} }}"), json!({"id": part["id"]})).await;
        assert_eq!(&opened["cohort"], part);
        for by in ["CHANNEL", "WEEKDAY", "SEX", "DEPARTMENT"] {
            let again = divided(&other_server, &part["id"], by).await;
            let sum: u64 = again["breakdown"].as_array().unwrap().iter().map(|part| part["cohort"]["visitCount"].as_u64().unwrap()).sum();
            assert_eq!(part["visitCount"], sum, "{by}");
        }
        let whole = divided(&admin, &part["id"], "DEPARTMENT").await;
        assert_eq!((whole["breakdown"].as_array().unwrap().len(), &whole["breakdown"][0]["cohort"]["digest"]), (1, &part["digest"]));
        // Counts of parts by visits store nothing.
        let stored = async || app.query_value::<i64>("SELECT COUNT(*) FROM snapshot").await;
        let before = stored().await;
        let counts = EXAMPLE.replace("2025-08-31", "2025-08-30");
        admin.graphql(&format!("{{ {counts} {{ buckets {{ visitors {{ breakdown(by: DOCTOR) {{ label cohort {{ patientCount visitCount }} }} }} }} }} }}")).await;
        assert_eq!(stored().await, before);
    }

    async fn sets_of_lists_are_lists(app: TestApp) {
        app.import_example();
        let admin = app.sign_in("admin").await;
        let old = example(&admin).await;
        // Another snapshot and revision: C did not come in June, and D's visit moved a day.
        app.execute("UPDATE visit SET status = 'CANCELED' WHERE visit_no = '7'").await;
        app.execute("UPDATE visit SET date = '2025-06-11' WHERE visit_no = '10'").await;
        let new = example(&admin).await;
        assert_ne!(old["id"], new["id"]);
        let list = |snapshot: &Value, bucket: usize, kind: &str| json!({"cohortId": snapshot["buckets"][bucket][kind]["id"]});
        let may = list(&old, 0, "newPatients");
        for (of, expected, visits) in [
            (json!({"anyOf": [may, list(&old, 1, "newPatients")]}), &["A", "C", "D"][..], &["1", "2", "6", "10"][..]),
            (json!({"allOf": [may, list(&old, 1, "visitors")]}), &["C"], &["6", "7"]),
            (json!({"allOf": [may, list(&new, 1, "visitors")]}), &[], &[]),
            (json!({"butNot": {"of": may, "without": list(&new, 1, "visitors")}}), &["A", "C"], &["1", "2", "6"]),
            // No-shows of May who came in June.
            (json!({"allOf": [list(&old, 0, "noShow"), list(&old, 1, "visitors")]}), &["D"], &["9", "10"]),
            (json!({"butNot": {"of": {"anyOf": [list(&old, 0, "visitors"), list(&new, 1, "visitors")]}, "without": {"allOf": [may, may]}}}), &["B", "D"], &["4", "5", "10"]),
            (may.clone(), &["A", "C"], &["1", "2", "6"]),
        ] {
            let found = set(&admin, of.clone()).await;
            assert_eq!(charts(&found), expected, "{of}");
            let numbers: BTreeSet<&str> = found["visits"]["nodes"].as_array().unwrap().iter().map(|node| node["visitNo"].as_str().unwrap()).collect();
            assert_eq!(numbers, visits.iter().copied().collect::<BTreeSet<_>>(), "{of}");
            assert_eq!(found["visitCount"], visits.len());
        }
        // Dates are those of the snapshot that was computed last.
        let both = set(&admin, json!({"allOf": [list(&old, 1, "newPatients"), list(&new, 1, "newPatients")]})).await;
        assert_eq!(both["visits"]["edges"], json!([{"date": "2025-06-11", "status": "ENDED"}]));
        assert_eq!(both["patients"]["edges"], json!([{"firstVisitDate": "2025-06-11", "lastVisitDate": "2025-06-11", "visitCount": 1}]));
        assert_eq!(both["derivation"]["text"], "list 1 and list 2");
        // Who was merged since is one with who stays; the list keeps still.
        let patients = admin.graphql("{ patients { nodes { id chartNo version } } }").await["patients"]["nodes"].take();
        let patient = |chart: &str| patients.as_array().unwrap().iter().find(|node| node["chartNo"] == chart).unwrap();
        let merge = json!({"id": patient("D")["id"], "version": patient("D")["version"], "intoId": patient("A")["id"], "reason": "One person"});
        admin.mutate("mergePatients", merge, "into { id }").await;
        let of = json!({"allOf": [may, list(&old, 1, "newPatients")]});
        let merged = set(&admin, of).await;
        assert_eq!((charts(&merged), &merged["patientIds"], &merged["visitCount"]), (vec!["A".to_owned()], &json!([patient("A")["id"]]), &json!(3)));
        let opened = admin.graphql_with(&format!("query ($id: ID!) {{ cohort(id: $id) {{ {LIST} }} }}"), json!({"id": both["id"]})).await["cohort"].take();
        assert_eq!(opened["digest"], both["digest"]);
    }

    async fn derived_lists_have_pages_in_each_order(app: TestApp) {
        let patients: String = (0..45).map(|i| format!("{i:03},Name {}\n", (i * 7) % 45)).collect();
        app.import("patients", "H1", &format!("chart_no,name\n{patients}"));
        let visits: String = (0..120).map(|i| format!("{i},{:03},2025-0{}-{:02},COMPLETED\n", i % 45, 5 + i % 2, i % 28 + 1)).collect();
        app.import("visits", "H1", &format!("visit_no,chart_no,date,status\n{visits}"));
        let user = app.sign_in("clinician").await;
        let lists = example(&user).await;
        let of = json!({"anyOf": [{"cohortId": lists["buckets"][0]["newPatients"]["id"]}, {"cohortId": lists["buckets"][1]["visitors"]["id"]}]});
        let list = set(&user, of).await;
        assert_eq!((&list["patientCount"], &list["visitCount"]), (&json!(45), &json!(120)));
        let all = |list: &str| list.to_owned();
        for (rows, total, fields) in [(all("patients"), 45, &["CHART_NO", "NAME", "REGISTERED_ON", "FIRST_VISIT", "LAST_VISIT"][..]), (all("visits"), 120, &["DATE", "PATIENT_NAME", "STATUS", "SCHEDULED_AT", "CHECKED_IN_AT"])] {
            for field in fields {
                for direction in ["ASC", "DESC"] {
                    let (mut ids, mut at) = (Vec::new(), Value::Null);
                    loop {
                        let query = format!("query ($id: ID!, $at: String) {{ cohort(id: $id) {{ {rows}(first: 50, after: $at, orderBy: {{field: {field}, direction: {direction}}}) {{ totalCount nodes {{ id }} pageInfo {{ hasNextPage endCursor }} }} }} }}");
                        let page = user.graphql_with(&query, json!({"id": list["id"], "at": at})).await["cohort"][&rows].take();
                        assert_eq!(page["totalCount"], total);
                        ids.extend(page["nodes"].as_array().unwrap().iter().map(|node| node["id"].as_str().unwrap().to_owned()));
                        if page["pageInfo"]["hasNextPage"] == false {
                            break;
                        }
                        at = page["pageInfo"]["endCursor"].clone();
                        if ids.len() == 50 {
                            // The order is fixed at its first use.
                            app.execute("UPDATE patient SET name = 'Zzz' WHERE chart_no = '001'").await;
                        }
                    }
                    let distinct: BTreeSet<&String> = ids.iter().collect();
                    assert_eq!((ids.len(), distinct.len()), (total, total), "{field} {direction}");
                }
            }
        }
        let names = async |cohort: &Value| user.graphql_with("query ($id: ID!) { cohort(id: $id) { patients(first: 1, orderBy: {field: NAME}) { pageInfo { endCursor } } } }", json!({"id": cohort})).await["cohort"]["patients"]["pageInfo"]["endCursor"].take();
        let cursor = names(&lists["buckets"][0]["newPatients"]["id"]).await;
        let query = "query ($id: ID!, $at: String) { cohort(id: $id) { patients(after: $at, orderBy: {field: NAME}) { totalCount } } }";
        assert_eq!(refused(&user, query, json!({"id": list["id"], "at": cursor})).await, bad_input("after"));
    }

    async fn derived_lists_explain_themselves(app: TestApp) {
        app.import_example();
        let (admin, other) = (app.sign_in("admin").await, app.other_hospital().await);
        let lists = example(&admin).await;
        let patients = admin.graphql("{ patients { nodes { id chartNo } } }").await["patients"]["nodes"].take();
        let patient = |chart: &str| patients.as_array().unwrap().iter().find(|node| node["chartNo"] == chart).unwrap()["id"].clone();
        let (new, june) = (&lists["buckets"][0]["newPatients"]["id"], &lists["buckets"][1]["visitors"]["id"]);
        let list = set(&admin, json!({"butNot": {"of": {"cohortId": new}, "without": {"cohortId": june}}})).await;
        assert_eq!(list["derivation"]["text"], "list 1 but not list 2");
        let query = "query ($id: ID!, $patient: ID!) { cohort(id: $id) { explain(patientId: $patient) { included kind rule text } } }";
        let explain = async |user: &Client<'_>, chart: &str| user.graphql_with(query, json!({"id": list["id"], "patient": patient(chart)})).await["cohort"]["explain"].take();
        assert_eq!(explain(&admin, "A").await, json!({"included": true, "kind": "DERIVED", "rule": "DERIVED", "text":
            "In the list: list 1 but not list 2. List 1, NEW in May 2025 as of 2025-08-31: in it. NEW here, since the visit of 2025-05-11 is the first. List 2, VISITORS in June 2025 as of 2025-08-31: not in it. No visit here."}));
        let why_not = explain(&admin, "C").await;
        assert_eq!(why_not["included"], false);
        assert!(why_not["text"].as_str().unwrap().starts_with("Not in the list: list 1 but not list 2. List 1, NEW in May 2025 as of 2025-08-31: in it."), "{why_not}");
        let nobody = admin.graphql_with(query, json!({"id": list["id"], "patient": "UP__"})).await;
        assert_eq!(nobody["cohort"]["explain"], Value::Null);
        // Another hospital finds neither the list nor its parts.
        let found = other.graphql_with("query ($id: ID!) { cohort(id: $id) { id } node(id: $id) { id } }", json!({"id": list["id"]})).await;
        assert_eq!(found, json!({"cohort": null, "node": null}));
        for of in [json!({"cohortId": list["id"]}), json!({"cohortId": new})] {
            assert_eq!(refused_set(&other, of).await, json!({"code": "NOT_FOUND", "argument": "of.cohortId"}));
        }
        // A derived list is no snapshot, whatever its id is made to look like.
        let id: String = app.query_value("SELECT id FROM snapshot WHERE recipe IS NOT NULL").await;
        let forged = statistics_id(&id);
        assert_eq!(admin.graphql_with("query ($id: ID!) { statisticsSnapshot(id: $id) { id } }", json!({"id": forged})).await["statisticsSnapshot"], Value::Null);
        assert_eq!(admin.mutation_error("pinSnapshot", json!({"id": forged})).await, error("NOT_FOUND", "input.id"));
    }

    async fn what_derived_lists_are_made_of_is_bounded(app: TestApp) {
        app.import_example();
        let admin = app.sign_in("admin").await;
        let list = example(&admin).await["total"]["visitors"]["id"].take();
        let nested = |depth: usize| (0..depth).fold(json!({"cohortId": list}), |inner, _| json!({"anyOf": [inner]}));
        assert_eq!(charts(&set(&admin, nested(4)).await), ["A", "B", "C", "D"]);
        assert_eq!(refused_set(&admin, nested(5)).await, bad_input("of.anyOf.0.anyOf.0.anyOf.0.anyOf.0.anyOf.0"));
        assert_eq!(refused_set(&admin, nested(20)).await["code"], "BAD_USER_INPUT");
        let many = |lists: usize| json!({"anyOf": vec![json!({"cohortId": list}); lists]});
        assert_eq!(charts(&set(&admin, many(50)).await), ["A", "B", "C", "D"]);
        assert_eq!(refused_set(&admin, many(200)).await, bad_input("of.anyOf.50.cohortId"));
        assert_eq!(refused_set(&admin, json!({"anyOf": []})).await, bad_input("of.anyOf"));
        assert_eq!(refused_set(&admin, json!({"cohortId": "nonsense"})).await, bad_input("of.cohortId"));
        // One list on another, four deep.
        let mut deepest = list.clone();
        for _ in 0..4 {
            deepest = narrowed(&admin, &deepest, json!({"ageFrom": 0})).await["id"].take();
        }
        let query = "query ($id: ID!) { cohort(id: $id) { narrowed(filter: {ageFrom: 0}) { patientCount } } }";
        assert_eq!(refused(&admin, query, json!({"id": deepest})).await, bad_input("filter"));
        assert_eq!(refused_set(&admin, json!({"anyOf": [{"cohortId": list}, {"cohortId": deepest}]})).await, bad_input("of.anyOf.1.cohortId"));
        let by_day = EXAMPLE.replace("MONTH", "DAY").replace("2025-05-01", "2024-01-01");
        let query = format!("{{ {by_day} {{ buckets {{ visitors {{ narrowed(filter: {{hasPhone: true}}) {{ patientCount }} }} }} }} }}");
        let response = admin.graphql_response(&query, json!({})).await;
        assert_eq!(response["errors"][0]["extensions"]["code"], "QUERY_TOO_COSTLY");
    }

    async fn derived_lists_keep_what_they_are_made_of(app: TestApp) {
        app.import_example();
        let admin = app.sign_in("admin").await;
        let lists = example(&admin).await;
        let kept = narrowed(&admin, &lists["total"]["visitors"]["id"], json!({"ageFrom": 0})).await;
        let set_of = set(&admin, json!({"anyOf": [{"cohortId": kept["id"]}]})).await;
        let name = json!({"name": "Derived", "cohortId": set_of["id"], "withPhone": false, "withoutNextVisit": false});
        let list = admin.mutate("createRecallList", name, "list { patientCount leftOut { patientCount } asOf cohort { id kind patientCount } }").await["list"].take();
        assert_eq!((&list["cohort"]["id"], &list["cohort"]["kind"], &list["asOf"]), (&set_of["id"], &json!("DERIVED"), &json!("2025-08-31")));
        let audit = admin.graphql("{ audit(filter: {actions: [OPENED_LIST]}, first: 1) { nodes { cohortId cohortKind statisticsId } } }").await["audit"]["nodes"][0].take();
        assert_eq!(audit, json!({"cohortId": set_of["id"], "cohortKind": "DERIVED", "statisticsId": null}));
        let pinned = admin.graphql("{ pinnedSnapshots { totalCount nodes { id } } }").await;
        assert_eq!(pinned["pinnedSnapshots"]["totalCount"], 0, "a derived list is no snapshot");
        // The recall list keeps its list, and that keeps the one that it is made of, and so on.
        let other = narrowed(&admin, &lists["total"]["newPatients"]["id"], json!({"ageFrom": 0})).await;
        let second = age_and_sweep(app).await;
        let later = app.sign_in_at(&second.base, "H1", "admin").await;
        let open = async |id: &Value| later.graphql_response("query ($id: ID!) { cohort(id: $id) { digest } }", json!({"id": id})).await;
        wait_until("the list that nothing keeps has expired", async || open(&other["id"]).await["errors"].is_array()).await;
        let expired = open(&other["id"]).await["errors"][0]["extensions"].clone();
        assert_eq!((&expired["code"], &expired["question"]["asOf"]), (&json!("SNAPSHOT_EXPIRED"), &json!("2025-08-31")));
        for kept in [&set_of, &kept] {
            assert_eq!(open(&kept["id"]).await["data"]["cohort"]["digest"], kept["digest"]);
        }
        assert!(open(&lists["total"]["visitors"]["id"]).await["data"]["cohort"]["digest"].is_string());
        let named = refused_set(&later, json!({"anyOf": [{"cohortId": kept["id"]}, {"cohortId": other["id"]}]})).await;
        assert_eq!((&named["code"], &named["argument"]), (&json!("SNAPSHOT_EXPIRED"), &json!("of.anyOf.1.cohortId")));
        // Made again, it is the same list.
        let again = narrowed(&later, &lists["total"]["newPatients"]["id"], json!({"ageFrom": 0})).await;
        assert_eq!((&again["id"], &again["digest"]), (&other["id"], &other["digest"]));
        assert_eq!(open(&other["id"]).await["data"]["cohort"]["digest"], other["digest"]);
    }
}
