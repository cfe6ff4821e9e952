//! Authorization: each root field with everything below it, queried by each role, without a token, and from another
//! hospital.

use std::collections::BTreeSet;

use reqwest::StatusCode;
use serde_json::{Value, json};
use test_support::{Client, PASSWORD, TestApp, error, on_each_database};

use crate::authorization_matrix::{
    AccessRule, CrossTenantResult, HospitalFixture, OWN, PERSONAL, ROLES, RootOperation, Schema, masked, objects,
    rule_of,
};

/// A response without the values that differ each time.
fn settled(mut response: Value) -> Value {
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
    settle(&mut response);
    response
}

/// Without what depends on what the viewer may do.
fn same_for_all(mut response: Value) -> Value {
    fn strip(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                fields.remove("nextStatuses");
                fields.values_mut().for_each(strip);
            }
            Value::Array(list) => list.iter_mut().for_each(strip),
            _ => {}
        }
    }
    strip(&mut response);
    response
}

/// The same as SUPPORT sees it.
fn as_support_sees(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            if let Some(of) = fields.get("__typename").and_then(Value::as_str).map(str::to_owned) {
                for (name, value) in fields.iter_mut() {
                    if *name != "__typename" && rule_of(&of, name) == AccessRule::Masked && !value.is_null() {
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

/// The same as a role other than ADMIN sees members of staff: all but what is its own business.
fn without_private(value: &mut Value, role: &str) {
    match value {
        Value::Object(fields) => {
            if fields.get("__typename").is_some_and(|of| of == "StaffMember") {
                let own = fields.get("login").is_some_and(|login| *login == role.to_lowercase());
                for (name, value) in fields.iter_mut() {
                    if *name != "__typename"
                        && rule_of("StaffMember", name) == AccessRule::Private
                        && !(own && name == "login")
                    {
                        *value = Value::Null;
                    }
                }
            }
            fields.values_mut().for_each(|value| without_private(value, role));
        }
        Value::Array(list) => list.iter_mut().for_each(|value| without_private(value, role)),
        _ => {}
    }
}

/// The code and the argument of the only error of a response without data.
fn refusal<'a>(response: &'a Value, name: &str) -> (&'a str, &'a str) {
    let errors = response["errors"]
        .as_array()
        .unwrap_or_else(|| panic!("{name}: {response}"));
    assert_eq!(errors.len(), 1, "{response}");
    assert_eq!(errors[0]["path"], json!([name]), "{response}");
    assert!(
        response["data"].is_null() || response["data"][name].is_null(),
        "{response}"
    );
    let word = |name: &str| errors[0]["extensions"][name].as_str().unwrap_or_default();
    (word("code"), word("argument"))
}

/// The texts of H1 that must not be in the response.
fn of_h1<'a>(fixture: &'a HospitalFixture<'_>, response: &Value) -> Vec<&'a str> {
    let text = response.to_string();
    let words = PERSONAL.into_iter().chain(OWN).filter(|word| text.contains(*word));
    let ids = fixture.known_ids().filter(|id| text.contains(&format!("\"{id}\"")));
    words.chain(ids).collect()
}

/// The state of H1: what its admin can read, and the numbers of rows, except those that every request adds.
async fn state(app: &TestApp, fixture: &HospitalFixture<'_>) -> (Value, Vec<(String, i64)>) {
    // First, since viewing a list fixes its order.
    let mut seen = Vec::new();
    for name in ["hospital", "staff", "statisticsSnapshot", "patients", "visits"] {
        let RootOperation { text, .. } = fixture.operation("query", name).await;
        seen.push(settled(
            fixture.admin.graphql(&text.replace("first: 3", "first: 20")).await,
        ));
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
        rows.push((table.clone(), app.query_number(&count).await));
    }
    let revision = "SELECT number FROM revision WHERE hospital_id = (SELECT id FROM hospital WHERE code = 'H1')";
    rows.push(("number".to_owned(), app.query_number(revision).await));
    (Value::Array(seen), rows)
}

async fn ask(user: &Client<'_>, operation: &RootOperation) -> Value {
    user.graphql_response(&operation.text, operation.variables.clone())
        .await
}

on_each_database! {
    async fn every_root_field_follows_the_authorization_matrix(app: TestApp) {
        let fixture = HospitalFixture::new(app).await;
        let mut users = Vec::new();
        for role in ROLES {
            users.push((role, app.sign_in(&role.to_lowercase()).await));
        }
        let schema = Schema::read();
        let roots = schema.roots();
        let of = |kind: &str| if kind == "query" { "Query" } else { "Mutation" };

        // A forbidden operation changes nothing.
        let mut operations = Vec::new();
        for (kind, name) in &roots {
            operations.push((rule_of(of(kind), name), name, fixture.operation(kind, name).await));
        }
        let before = state(app, &fixture).await;
        for (rule, name, operation) in &operations {
            for (role, user) in users.iter().filter(|(role, _)| !rule.permits(role)) {
                let response = ask(user, operation).await;
                assert_eq!(refusal(&response, name), ("FORBIDDEN", ""), "{role} {name}: {response}");
            }
            if *rule != AccessRule::Open {
                let request = app.http().post(format!("{}/graphql", app.base()));
                let request = request.json(&json!({"query": operation.text, "variables": operation.variables}));
                let response = request.send().await.unwrap();
                assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{name}");
                let response: Value = response.json().await.unwrap();
                assert_eq!(response["errors"][0]["extensions"]["code"], "UNAUTHENTICATED", "{name}: {response}");
                assert!(response.get("data").is_none(), "{name}: {response}");
            }
        }
        assert_eq!(state(app, &fixture).await, before);

        // Permitted roles get the same data, masked for SUPPORT.
        let mut reached = BTreeSet::new();
        for (kind, name) in &roots {
            let rule = rule_of(of(kind), name);
            let mut of_admin = None;
            for (role, user) in users.iter().filter(|(role, _)| rule.permits(role)) {
                let operation = fixture.operation_as(role, kind, name).await;
                let response = ask(user, &operation).await;
                assert!(response.get("errors").is_none(), "{role} {name}: {response}");
                let data = settled(response["data"].clone());
                assert!(!data[name].is_null(), "{role} {name}");
                objects(&data, &mut |of, fields| for (field, value) in fields.iter().filter(|(name, _)| *name != "__typename") {
                    let rule = rule_of(of, field);
                    assert!(rule.permits(role), "{role} sees {of}.{field} below {name}");
                    // What is masked for one role must be there for the others.
                    if !matches!(rule, AccessRule::Masked | AccessRule::Private) || !value.is_null() {
                        reached.insert(format!("{of}.{field}"));
                    }
                });
                if ["SUPPORT", "KIOSK"].contains(role) {
                    let shown = data.to_string();
                    let leaks: Vec<_> = PERSONAL.into_iter().filter(|word| shown.contains(word)).collect();
                    // Chart numbers and visit numbers are not masked.
                    assert!(leaks.iter().all(|word| ["CH-770", "CH-77X", "VN-770", "VN-77X"].contains(word)), "{name} shows {leaks:?}: {shown}");
                }
                if *kind == "query" && name != "viewer" {
                    let data = same_for_all(data);
                    let mut expected = of_admin.get_or_insert_with(|| data.clone()).clone();
                    if *role != "ADMIN" {
                        without_private(&mut expected, role);
                    }
                    if *role == "SUPPORT" {
                        as_support_sees(&mut expected);
                    }
                    assert_eq!(data, expected, "{role} {name}");
                }
            }
        }
        // Subscriptions are tested in `subscriptions`.
        let all = schema.fields().filter(|(of, field, _)| !matches!(*of, "Query" | "Mutation" | "Subscription") && !field.to_lowercase().ends_with("cursor"));
        let never: Vec<String> = all.map(|(of, field, _)| format!("{of}.{field}")).filter(|field| !reached.contains(field)).collect();
        assert_eq!(never, Vec::<String>::new(), "fields that no operation returned");

        // A node that every role may see, and one that only ADMIN may.
        let ids = fixture.admin.graphql("{ staff { id } audit(first: 1) { nodes { id } } }").await;
        let (member, entry) = (&ids["staff"][0]["id"], &ids["audit"]["nodes"][0]["id"]);
        for (role, user) in &users {
            if *role == "KIOSK" {
                let response = user.graphql_response("query ($id: ID!) { node(id: $id) { id } }", json!({"id": member})).await;
                assert_eq!(refusal(&response, "node"), ("FORBIDDEN", ""), "{role}");
                continue;
            }
            let found = user.graphql_with("query ($id: ID!) { node(id: $id) { id } }", json!({"id": member})).await;
            assert_eq!(found["node"]["id"], *member, "{role}");
            let response = user.graphql_response("query ($id: ID!) { node(id: $id) { id } }", json!({"id": entry})).await;
            if *role == "ADMIN" {
                assert_eq!(response["data"]["node"]["id"], *entry);
            } else {
                assert_eq!(refusal(&response, "node"), ("FORBIDDEN", ""), "{role}");
            }
        }
    }

    async fn support_can_neither_search_nor_sort_by_masked_names(app: TestApp) {
        let fixture = HospitalFixture::new(app).await;
        let cohort = |pages: &str| format!("node(id: \"{}\") {{ ... on Cohort {{ {pages} }} }}", fixture.cohort);
        let patient = format!("patient(id: \"{}\") {{ visits(orderBy: {{field: PATIENT_NAME}}) {{ totalCount }} }}", fixture.id("CH-7701"));
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
        let ruled = schema.fields().filter(|(of, field, _)| rule_of(of, field) == AccessRule::ByName);
        assert_eq!(asked, ruled.map(|(of, field, _)| format!("{of}.{field}")).collect());
        for role in ROLES {
            let user = app.sign_in(&role.to_lowercase()).await;
            for (field, query) in &by_name {
                let code = user.graphql_error(&format!("{{ {query} }}")).await.0;
                assert_eq!(code, if ["SUPPORT", "KIOSK"].contains(&role) { "FORBIDDEN" } else { "" }, "{role} {field}");
            }
        }
        // SUPPORT cannot search by a part of a phone number, or by a part of a name with a digit or a star.
        let support = app.sign_in("support").await;
        for (search, found) in [("010-9876-5401", 1), ("5401", 0), ("9876", 0), ("Q***1", 0), ("CH-770", 5)] {
            let query = "query ($text: String) { patients(filter: {search: $text}) { totalCount } }";
            assert_eq!(support.graphql_with(query, json!({"text": search})).await["patients"]["totalCount"], found, "{search}");
        }
    }

    async fn a_kiosk_sees_only_single_fields_of_its_hospital(app: TestApp) {
        let (fixture, kiosk) = (HospitalFixture::new(app).await, app.sign_in("kiosk").await);
        let schema = Schema::read();
        let (mut shown, mut refused) = (Vec::new(), 0);
        for (_, name, field) in schema.fields().filter(|(of, ..)| *of == "Hospital") {
            let selection = if schema.has_fields(field) { "{ __typename }" } else { "" };
            let arguments = fixture.arguments("Hospital", name, field);
            let response = kiosk.graphql_response(&format!("{{ viewer {{ hospital {{ {name}{arguments} {selection} }} }} }}"), json!({})).await;
            if response.get("errors").is_none() {
                shown.push(name);
            } else {
                assert_eq!(response["errors"][0]["extensions"], json!({"code": "FORBIDDEN"}), "{name}: {response}");
                assert_eq!(response["data"], Value::Null, "{response}");
                refused += 1;
            }
        }
        assert_eq!(shown, ["name", "timeZone", "today"]);
        assert!(refused > 5, "{refused}");
        // Nor through the session of its own sign-in.
        let sign_in = format!("mutation {{ signIn(input: {{hospital: \"H1\", login: \"kiosk\", password: \"{PASSWORD}\"}}) {{
            session {{ viewer {{ role hospital {{ doctors {{ name }} }} }} }} }} }}");
        let response = app.post(app.base(), None, &sign_in, json!({})).await;
        assert_eq!(response["errors"][0]["extensions"]["code"], "FORBIDDEN", "{response}");
        // What it may not do is refused before its input is looked at.
        let id = fixture.id("hospital");
        for (name, input) in [
            ("recordVisit", json!({"patientId": id, "doctorId": id})),
            ("addDoctor", json!({"name": " "})),
            ("changePatient", json!({"id": "", "version": 0})),
            ("pinSnapshot", json!({"id": ""})),
        ] {
            assert_eq!(kiosk.mutation_error(name, input).await, error("FORBIDDEN", ""), "{name}");
        }
    }

    async fn hospitals_are_isolated_from_each_other(app: TestApp) {
        let fixture = HospitalFixture::new(app).await;
        let other = app.other_hospital().await;
        app.import("patients", "H2", "chart_no,name\nO1,Otto Other\nO2,Odo Else\n");
        app.import("visits", "H2", "visit_no,chart_no,date,status,department,doctor\nO1,O1,2025-05-11,COMPLETED,Elsewhere,Dr Else\nO2,O2,2025-05-12,COMPLETED,Elsewhere,Dr Else\n");
        let mut operations = Vec::new();
        for (kind, name) in Schema::read().roots() {
            // The viewer is from no hospital before signing in, and may be from H1 after.
            if kind == "query" || rule_of("Mutation", &name) != AccessRule::Open {
                let operation = fixture.operation(kind, &name).await;
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
                format!("patient(id: \"{patient}\") {{ history{page} }}"),
                format!("node(id: \"{cohort}\") {{ ... on Cohort {{ patients{page} }} }}"),
                format!("node(id: \"{cohort}\") {{ ... on Cohort {{ visits{page} }} }}"),
            ]
        };
        let mut cursors = Vec::new();
        for list in lists(&fixture.cohort, fixture.id("CH-7701")) {
            let response = fixture.admin.graphql(&format!("{{ {} }}", list.replace("AFTER", ""))).await.to_string();
            let (_, cursor) = response.split_once("\"endCursor\":\"").unwrap();
            cursors.push(cursor.split_once('"').unwrap().0.to_owned());
        }
        let before = state(app, &fixture).await;
        for (name, operation) in &operations {
            let response = ask(&other, operation).await;
            match &operation.cross_tenant {
                CrossTenantResult::Own => assert!(response.get("errors").is_none() && !response["data"][name].is_null(), "{name}: {response}"),
                CrossTenantResult::Finds(nothing) => assert_eq!(response, json!({"data": {name: nothing}})),
                CrossTenantResult::InvalidCode => assert_eq!(refusal(&response, name), ("INVALID_CODE", "input.code"), "{name}: {response}"),
                CrossTenantResult::Refused(argument) => assert_eq!(refusal(&response, name), ("NOT_FOUND", *argument), "{name}: {response}"),
            }
            // The client that registers a patient sees the patient.
            if name != "registerPatient" {
                assert_eq!(of_h1(&fixture, &response), Vec::<&str>::new(), "{name}: {response}");
            }
        }

        // IDs of the other hospital together with IDs of H1.
        let own = other.graphql("{ patients { nodes { id } } visits { nodes { id version } } hospital { doctors { id } } staff { id } }").await;
        let (patient, visit, doctor) = (&own["patients"]["nodes"][0]["id"], &own["visits"]["nodes"][0], &own["hospital"]["doctors"][0]["id"]);
        let foreign = |name: &str| fixture.id(name);
        for (name, input, argument) in [
            ("recordVisit", json!({"patientId": patient, "date": "2025-06-01", "departmentId": foreign("Ophthalmia")}), "input.departmentId"),
            ("recordVisit", json!({"patientId": patient, "date": "2025-06-01", "doctorId": foreign("Dr Ixworth")}), "input.doctorId"),
            ("changeVisit", json!({"id": visit["id"], "version": visit["version"], "patientId": foreign("CH-7701"), "reason": "r"}), "input.patientId"),
            ("changeVisit", json!({"id": visit["id"], "version": visit["version"], "departmentId": foreign("Ophthalmia"), "reason": "r"}), "input.departmentId"),
            ("mergePatients", json!({"id": patient, "version": 1, "intoId": foreign("CH-7701"), "reason": "r"}), "input.intoId"),
            ("addDoctor", json!({"name": "Dr New", "departmentId": foreign("Ophthalmia")}), "input.departmentId"),
            ("changeDoctor", json!({"id": doctor, "departmentId": foreign("Ophthalmia")}), "input.departmentId"),
        ] {
            let response = other.mutation_response(name, input, "__typename").await;
            assert_eq!(refusal(&response, name), ("NOT_FOUND", argument), "{name}: {response}");
        }
        let question = "statistics(period: MONTH, range: {from: \"2025-05-01\", to: \"2025-05-31\"}, asOf: \"2025-08-31\")";
        let refused = async |query: String| other.graphql_error(&query).await;
        let not_found = |argument: &str| ("NOT_FOUND".to_owned(), argument.to_owned());
        for (argument, id) in [("departmentIds", "Ophthalmia"), ("doctorIds", "Dr Ixworth")] {
            let filter = format!("filter: {{{argument}: [\"{}\"]}})", foreign(id));
            let argument = not_found(&format!("filter.{argument}.0"));
            assert_eq!(refused(format!("{{ visits({filter} {{ totalCount }} }}")).await, argument);
            assert_eq!(refused(format!("{{ {} {{ id }} }}", question.replace(')', &format!(", {filter}")))).await, argument);
        }
        for (argument, id) in [("staffId", &*fixture.spare_staff), ("patientId", foreign("CH-7701"))] {
            let query = format!("{{ audit(filter: {{{argument}: \"{id}\"}}) {{ totalCount }} }}");
            assert_eq!(refused(query).await, not_found(&format!("filter.{argument}")));
        }
        let changes = format!("{{ {question} {{ changes(since: \"{}\") {{ buckets {{ start }} }} }} }}", fixture.since);
        assert_eq!(refused(changes).await, not_found("since"));
        let explained = other.graphql(&format!("{{ {question} {{ explain(patientId: \"{}\") {{ daysSilent }} }} }}", foreign("CH-7701"))).await;
        assert_eq!(explained["statistics"]["explain"], Value::Null);
        // A cursor is valid only for lists of its hospital.
        let cohort = other.graphql(&format!("{{ {question} {{ total {{ visitors {{ id }} }} }} }}")).await["statistics"]["total"]["visitors"]["id"].take();
        for (cursor, own) in cursors.iter().zip(lists(cohort.as_str().unwrap(), patient.as_str().unwrap())) {
            let query = format!("{{ {} }}", own.replace("AFTER", &format!("after: \"{cursor}\"")));
            assert_eq!(refused(query.clone()).await, error("BAD_USER_INPUT", "after"), "{query}");
            other.graphql(&format!("{{ {} }}", own.replace("AFTER", ""))).await;
        }
        assert_eq!(of_h1(&fixture, &other.graphql("{ audit(first: 100) { nodes { patientIds cohortId what staff { id login } } } }").await), Vec::<&str>::new());
        assert_eq!(state(app, &fixture).await, before);
        let by_others = "SELECT COUNT(*) FROM audit_entry WHERE hospital_id = (SELECT id FROM hospital WHERE code = 'H1')
            AND staff_id IN (SELECT id FROM staff WHERE hospital_id = (SELECT id FROM hospital WHERE code = 'H2'))";
        assert_eq!(app.query_number(by_others).await, 0);
    }
}
