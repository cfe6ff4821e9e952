//! Who may see and change what: each root field asked with everything below it, by each role, by nobody, and from another hospital.

use std::collections::BTreeSet;

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::harness::{App, User, on_each_database};
use crate::ruled::{Abroad, OWN, Operation, PERSONAL, ROLES, Rule, Schema, World, masked, objects, rule_of};

/// An answer without what is another one each time.
fn settled(mut answer: Value) -> Value {
    fn settle(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                fields.retain(|name, _| !name.to_lowercase().ends_with("cursor"));
                fields.values_mut().for_each(settle);
            }
            Value::Array(list) => list.iter_mut().for_each(settle),
            _ => {}
        }
    }
    settle(&mut answer);
    answer
}

/// The same as SUPPORT sees it.
fn as_support_sees(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            if let Some(of) = fields.get("__typename").and_then(Value::as_str).map(str::to_owned) {
                for (name, value) in fields.iter_mut() {
                    if *name != "__typename" && rule_of(&of, name) == Rule::Masked && !value.is_null() {
                        *value = masked(&of, name, value);
                    }
                }
            }
            fields.values_mut().for_each(as_support_sees);
        }
        Value::Array(list) => list.iter_mut().for_each(as_support_sees),
        _ => {}
    }
}

/// The one error of an answer whose field gives nothing: code and argument.
fn refusal<'a>(answer: &'a Value, name: &str) -> (&'a str, &'a str) {
    let errors = answer["errors"]
        .as_array()
        .unwrap_or_else(|| panic!("{name}: {answer}"));
    assert_eq!(errors.len(), 1, "{answer}");
    assert_eq!(errors[0]["path"], json!([name]), "{answer}");
    assert!(answer["data"].is_null() || answer["data"][name].is_null(), "{answer}");
    let word = |name: &str| errors[0]["extensions"][name].as_str().unwrap_or_default();
    (word("code"), word("argument"))
}

/// Whatever stands in the answer of H1's that has no place in it.
fn of_h1<'a>(world: &'a World<'_>, answer: &Value) -> Vec<&'a str> {
    let text = answer.to_string();
    let words = PERSONAL.into_iter().chain(OWN).filter(|word| text.contains(*word));
    let ids = world.known_ids().filter(|id| text.contains(&format!("\"{id}\"")));
    words.chain(ids).collect()
}

/// H1 as it stands: what its admin can see of it, and how many rows there are of it, besides what is noted of each request.
async fn state(app: &App, world: &World<'_>) -> (Value, Vec<(String, i64)>) {
    // First: who looks at a list fixes its order.
    let mut seen = Vec::new();
    for name in ["hospital", "staff", "statisticsSnapshot", "patients", "visits"] {
        let Operation { text, .. } = world.operation("query", name).await;
        seen.push(settled(world.admin.ask(&text.replace("first: 3", "first: 100")).await));
    }
    let mut rows = Vec::new();
    for table in app.tables().await {
        if matches!(
            &*table,
            "audit_entry" | "audit_patient" | "encryption_key" | "seaql_migrations"
        ) {
            continue;
        }
        let key = if table == "hospital" { "id" } else { "hospital_id" };
        let count = format!("SELECT COUNT(*) FROM {table} WHERE {key} = (SELECT id FROM hospital WHERE code = 'H1')");
        rows.push((table.clone(), app.number(&count).await));
    }
    let revision = "SELECT number FROM revision WHERE hospital_id = (SELECT id FROM hospital WHERE code = 'H1')";
    rows.push(("number".to_owned(), app.number(revision).await));
    (Value::Array(seen), rows)
}

async fn ask(user: &User<'_>, operation: &Operation) -> Value {
    user.try_with(&operation.text, operation.variables.clone()).await
}

on_each_database! {
    async fn each_role_gets_what_its_rule_says(app: App) {
        let world = World::new(app).await;
        let mut users = Vec::new();
        for role in ROLES {
            users.push((role, app.sign_in(&role.to_lowercase()).await));
        }
        let schema = Schema::read();
        let roots = schema.roots();
        let of = |kind: &str| if kind == "query" { "Query" } else { "Mutation" };

        // Who may not changes nothing.
        let mut operations = Vec::new();
        for (kind, name) in &roots {
            operations.push((rule_of(of(kind), name), name, world.operation(kind, name).await));
        }
        let before = state(app, &world).await;
        for (rule, name, operation) in &operations {
            for (role, user) in users.iter().filter(|(role, _)| !rule.lets(role)) {
                let answer = ask(user, operation).await;
                assert_eq!(refusal(&answer, name), ("FORBIDDEN", ""), "{role} {name}: {answer}");
            }
            if *rule != Rule::Open {
                let request = app.client().post(format!("{}/graphql", app.base()));
                let request = request.json(&json!({"query": operation.text, "variables": operation.variables}));
                let answer = request.send().await.unwrap();
                assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{name}");
                let answer: Value = answer.json().await.unwrap();
                assert_eq!(answer["errors"][0]["extensions"]["code"], "UNAUTHENTICATED", "{name}: {answer}");
                assert!(answer.get("data").is_none(), "{name}: {answer}");
            }
        }
        assert_eq!(state(app, &world).await, before);

        // Who may gets it all, each the same, but that SUPPORT gets it masked.
        let mut reached = BTreeSet::new();
        for (kind, name) in &roots {
            let rule = rule_of(of(kind), name);
            let mut of_admin = None;
            for (role, user) in users.iter().filter(|(role, _)| rule.lets(role)) {
                let operation = world.operation(kind, name).await;
                let answer = ask(user, &operation).await;
                assert!(answer.get("errors").is_none(), "{role} {name}: {answer}");
                let data = settled(answer["data"].clone());
                assert!(!data[name].is_null(), "{role} {name}");
                objects(&data, &mut |of, fields| for (field, value) in fields.iter().filter(|(name, _)| *name != "__typename") {
                    let rule = rule_of(of, field);
                    assert!(rule.lets(role), "{role} sees {of}.{field} below {name}");
                    // What is masked for one has to be there for the others.
                    if rule != Rule::Masked || !value.is_null() {
                        reached.insert(format!("{of}.{field}"));
                    }
                });
                if *role == "SUPPORT" {
                    let shown = data.to_string();
                    let leaks: Vec<_> = PERSONAL.into_iter().filter(|word| shown.contains(word)).collect();
                    // A chart number and a visit's number are shown as they are.
                    assert!(leaks.iter().all(|word| ["CH-770", "CH-77X", "VN-770", "VN-77X"].contains(word)), "{name} shows {leaks:?}: {shown}");
                }
                if *kind == "query" && name != "viewer" {
                    let expected = of_admin.get_or_insert_with(|| data.clone());
                    if *role == "SUPPORT" {
                        as_support_sees(expected);
                    }
                    assert_eq!(data, *expected, "{role} {name}");
                }
            }
        }
        let all = schema.fields().filter(|(of, field, _)| !matches!(*of, "Query" | "Mutation") && !field.to_lowercase().ends_with("cursor"));
        let never: Vec<String> = all.map(|(of, field, _)| format!("{of}.{field}")).filter(|field| !reached.contains(field)).collect();
        assert_eq!(never, Vec::<String>::new(), "no operation gets an answer from these");

        // What has an id and is not for everybody.
        let ids = world.admin.ask("{ staff { id } audit(first: 1) { nodes { id } } }").await;
        for id in [&ids["staff"][0]["id"], &ids["audit"]["nodes"][0]["id"]] {
            for (role, user) in &users {
                let answer = user.try_with("query ($id: ID!) { node(id: $id) { id } }", json!({"id": id})).await;
                if *role == "ADMIN" {
                    assert_eq!(answer["data"]["node"]["id"], *id);
                } else {
                    assert_eq!(refusal(&answer, "node"), ("FORBIDDEN", ""), "{role}");
                }
            }
        }
    }

    async fn names_are_no_way_to_find_or_order_for_who_sees_none(app: App) {
        let world = World::new(app).await;
        let cohort = |pages: &str| format!("node(id: \"{}\") {{ ... on Cohort {{ {pages} }} }}", world.cohort);
        let patient = format!("patient(id: \"{}\") {{ visits(orderBy: {{field: PATIENT_NAME}}) {{ totalCount }} }}", world.id("CH-7701"));
        let by_name = [
            ("Query.patients", "patients(orderBy: {field: NAME}) { totalCount }".to_owned()),
            ("Query.patients", "patients(filter: {search: \"Quuxford\"}) { totalCount }".to_owned()),
            ("Query.visits", "visits(orderBy: {field: PATIENT_NAME}) { totalCount }".to_owned()),
            ("Patient.visits", patient),
            ("Cohort.patients", cohort("patients(orderBy: {field: NAME, direction: DESC}) { totalCount }")),
            ("Cohort.visits", cohort("visits(orderBy: {field: PATIENT_NAME}) { totalCount }")),
        ];
        let asked: BTreeSet<String> = by_name.iter().map(|(field, _)| (*field).to_owned()).collect();
        let schema = Schema::read();
        let ruled = schema.fields().filter(|(of, field, _)| rule_of(of, field) == Rule::ByName);
        assert_eq!(asked, ruled.map(|(of, field, _)| format!("{of}.{field}")).collect());
        for role in ROLES {
            let user = app.sign_in(&role.to_lowercase()).await;
            for (field, query) in &by_name {
                let code = user.refused(&format!("{{ {query} }}")).await.0;
                assert_eq!(code, if role == "SUPPORT" { "FORBIDDEN" } else { "" }, "{role} {field}");
            }
        }
        // A part of a phone finds nobody for SUPPORT, and neither does a part of a name that holds a digit or a star.
        let support = app.sign_in("support").await;
        for (search, found) in [("010-9876-5401", 1), ("5401", 0), ("9876", 0), ("Q***1", 0), ("CH-770", 5)] {
            let query = "query ($text: String) { patients(filter: {search: $text}) { totalCount } }";
            assert_eq!(support.ask_with(query, json!({"text": search})).await["patients"]["totalCount"], found, "{search}");
        }
    }

    async fn nothing_crosses_between_hospitals(app: App) {
        let world = World::new(app).await;
        let other = app.other_hospital().await;
        app.import("patients", "H2", "chart_no,name\nO1,Otto Other\nO2,Odo Else\n");
        app.import("visits", "H2", "visit_no,chart_no,date,status,department,doctor\nO1,O1,2025-05-11,COMPLETED,Elsewhere,Dr Else\nO2,O2,2025-05-12,COMPLETED,Elsewhere,Dr Else\n");
        let mut operations = Vec::new();
        for (kind, name) in Schema::read().roots() {
            // Who signs in is nobody's before, and may be H1's after.
            if kind == "query" || rule_of("Mutation", &name) != Rule::Open {
                let operation = world.operation(kind, &name).await;
                operations.push((name, operation));
            }
        }
        let lists = |cohort: &str, patient: &str| {
            let page = "(first: 1 AFTER) { pageInfo { endCursor } totalCount }";
            [
                format!("patients{page}"),
                format!("visits{page}"),
                format!("audit{page}"),
                format!("patient(id: \"{patient}\") {{ visits{page} }}"),
                format!("node(id: \"{cohort}\") {{ ... on Cohort {{ patients{page} }} }}"),
                format!("node(id: \"{cohort}\") {{ ... on Cohort {{ visits{page} }} }}"),
            ]
        };
        let mut cursors = Vec::new();
        for list in lists(&world.cohort, world.id("CH-7701")) {
            let answer = world.admin.ask(&format!("{{ {} }}", list.replace("AFTER", ""))).await.to_string();
            let (_, cursor) = answer.split_once("\"endCursor\":\"").unwrap();
            cursors.push(cursor.split_once('"').unwrap().0.to_owned());
        }
        let before = state(app, &world).await;
        for (name, operation) in &operations {
            let answer = ask(&other, operation).await;
            match &operation.abroad {
                Abroad::Own => assert!(answer.get("errors").is_none() && !answer["data"][name].is_null(), "{name}: {answer}"),
                Abroad::Finds(nothing) => assert_eq!(answer, json!({"data": {name: nothing}})),
                Abroad::Refused(argument) => assert_eq!(refusal(&answer, name), ("NOT_FOUND", *argument), "{name}: {answer}"),
            }
            // Who registers somebody is shown whom.
            if name != "registerPatient" {
                assert_eq!(of_h1(&world, &answer), Vec::<&str>::new(), "{name}: {answer}");
            }
        }

        // The other hospital's own, together with something of H1's.
        let own = other.ask("{ patients { nodes { id } } visits { nodes { id version } } hospital { doctors { id } } staff { id } }").await;
        let (patient, visit, doctor) = (&own["patients"]["nodes"][0]["id"], &own["visits"]["nodes"][0], &own["hospital"]["doctors"][0]["id"]);
        let foreign = |name: &str| world.id(name);
        for (name, input, argument) in [
            ("recordVisit", json!({"patientId": patient, "date": "2025-06-01", "departmentId": foreign("Ophthalmia")}), "input.departmentId"),
            ("recordVisit", json!({"patientId": patient, "date": "2025-06-01", "doctorId": foreign("Dr Ixworth")}), "input.doctorId"),
            ("changeVisit", json!({"id": visit["id"], "version": visit["version"], "patientId": foreign("CH-7701"), "reason": "r"}), "input.patientId"),
            ("changeVisit", json!({"id": visit["id"], "version": visit["version"], "departmentId": foreign("Ophthalmia"), "reason": "r"}), "input.departmentId"),
            ("mergePatients", json!({"id": patient, "version": 1, "intoId": foreign("CH-7701"), "reason": "r"}), "input.intoId"),
            ("addDoctor", json!({"name": "Dr New", "departmentId": foreign("Ophthalmia")}), "input.departmentId"),
            ("changeDoctor", json!({"id": doctor, "departmentId": foreign("Ophthalmia")}), "input.departmentId"),
        ] {
            let answer = other.try_change(name, input, "__typename").await;
            assert_eq!(refusal(&answer, name), ("NOT_FOUND", argument), "{name}: {answer}");
        }
        let question = "statistics(period: MONTH, range: {from: \"2025-05-01\", to: \"2025-05-31\"}, asOf: \"2025-08-31\")";
        let refused = async |query: String| other.refused(&query).await;
        let not_found = |argument: &str| ("NOT_FOUND".to_owned(), argument.to_owned());
        for (argument, id) in [("departmentIds", "Ophthalmia"), ("doctorIds", "Dr Ixworth")] {
            let filter = format!("filter: {{{argument}: [\"{}\"]}})", foreign(id));
            let argument = not_found(&format!("filter.{argument}.0"));
            assert_eq!(refused(format!("{{ visits({filter} {{ totalCount }} }}")).await, argument);
            assert_eq!(refused(format!("{{ {} {{ id }} }}", question.replace(')', &format!(", {filter}")))).await, argument);
        }
        for (argument, id) in [("staffId", &*world.spare_staff), ("patientId", foreign("CH-7701"))] {
            let query = format!("{{ audit(filter: {{{argument}: \"{id}\"}}) {{ totalCount }} }}");
            assert_eq!(refused(query).await, not_found(&format!("filter.{argument}")));
        }
        let changes = format!("{{ {question} {{ changes(since: \"{}\") {{ buckets {{ start }} }} }} }}", world.since);
        assert_eq!(refused(changes).await, not_found("since"));
        let explained = other.ask(&format!("{{ {question} {{ explain(patientId: \"{}\") {{ daysSilent }} }} }}", foreign("CH-7701"))).await;
        assert_eq!(explained["statistics"]["explain"], Value::Null);
        // A cursor is of its hospital's list.
        let cohort = other.ask(&format!("{{ {question} {{ total {{ visitors {{ id }} }} }} }}")).await["statistics"]["total"]["visitors"]["id"].take();
        for (cursor, own) in cursors.iter().zip(lists(cohort.as_str().unwrap(), patient.as_str().unwrap())) {
            let query = format!("{{ {} }}", own.replace("AFTER", &format!("after: \"{cursor}\"")));
            assert_eq!(refused(query.clone()).await, ("BAD_USER_INPUT".to_owned(), "after".to_owned()), "{query}");
            other.ask(&format!("{{ {} }}", own.replace("AFTER", ""))).await;
        }
        assert_eq!(of_h1(&world, &other.ask("{ audit(first: 100) { nodes { patientIds cohortId what staff { id login } } } }").await), Vec::<&str>::new());
        assert_eq!(state(app, &world).await, before);
        let by_others = "SELECT COUNT(*) FROM audit_entry WHERE hospital_id = (SELECT id FROM hospital WHERE code = 'H1')
            AND staff_id IN (SELECT id FROM staff WHERE hospital_id = (SELECT id FROM hospital WHERE code = 'H2'))";
        assert_eq!(app.number(by_others).await, 0);
    }
}
