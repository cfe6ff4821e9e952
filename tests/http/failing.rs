//! One table after the other is taken away while everything is asked: whatever fails says so and no more, nothing of a patient is
//! written anywhere, and once the table is back it all works again.

use std::collections::BTreeSet;
use std::path::Path;

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::faults::is_internal;
use crate::harness::{App, Server, on_each_database};
use crate::observing::{collector, talking};
use crate::ruled::{PERSONAL, Schema, World};

/// What a resolver that goes to the database by itself is asked with, where what it hangs under is found without that table: the
/// table, the path of the error, the query.
#[rustfmt::skip]
fn resolvers(world: &World<'_>) -> Vec<(&'static str, &'static str, String)> {
    let node = |id: &str, of: &str, fields: &str| format!("{{ node(id: \"{id}\") {{ ... on {of} {{ {fields} }} }} }}");
    let cohort = |fields: &str| node(&world.cohort, "Cohort", fields);
    let visit = |fields: &str| format!("{{ visit(id: \"{}\") {{ {fields} }} }}", world.id("VN-7701"));
    let patient = |fields: &str| format!("{{ patient(id: \"{}\") {{ {fields} }} }}", world.id("CH-7701"));
    let snapshot = |fields: &str| format!("{{ statisticsSnapshot(id: \"{}\") {{ {fields} }} }}", world.snapshot);
    let asked = |fields: &str| format!("{{ statistics{} {{ {fields} }} }}", world.question("").replace("2025-08-31", "2025-08-30"));
    let explained = |fields: &str| snapshot(&format!("explain(patientId: \"{}\") {{ {fields} }}", world.id("CH-7703")));
    let entered = |fields: &str| {
        let cohort = format!("cohort(kind: CHURN_SUSPECTED) {{ entered(first: 1) {{ {fields} }} }}");
        snapshot(&format!("changes(since: \"{}\") {{ total {{ {cohort} }} }}", world.since))
    };
    vec![
        ("department", "hospital.departments", "{ hospital { departments { id } } }".to_owned()),
        ("doctor", "hospital.doctors", "{ hospital { doctors { id } } }".to_owned()),
        ("revision", "hospital.today", "{ hospital { today } }".to_owned()),
        ("definition", "hospital.definition", "{ hospital { definition { version } } }".to_owned()),
        ("visit", "patient.firstVisit", patient("firstVisit { id }")),
        ("visit", "patient.lastVisit", patient("lastVisit { id }")),
        ("visit", "patient.nextVisit", patient("nextVisit { id }")),
        ("visit", "patient.visitCount", patient("visitCount")),
        ("visit", "patient.visits", patient("visits { totalCount }")),
        ("department", "patient.firstVisit.doctor.department", patient("firstVisit { doctor { department { id } } }")),
        ("patient", "visit.patient", visit("patient { name }")),
        ("department", "patient.firstVisit.department", patient("firstVisit { department { id } }")),
        ("doctor", "patient.firstVisit.doctor", patient("firstVisit { doctor { id } }")),
        ("patient_tombstone", "patient", "{ patient(id: \"UP__\") { id } }".to_owned()),
        ("visit_tombstone", "visit", "{ visit(id: \"Vv__\") { id } }".to_owned()),
        ("snapshot", "statistics.id", asked("id")),
        ("snapshot", "statistics.total.visitors.id", asked("total { visitors { id } }")),
        ("snapshot", "statistics.changes", asked(&format!("changes(since: \"{}\") {{ total {{ start }} }}", world.since))),
        ("list_part", "statistics.total.visitors.visits", asked("total { visitors { visits { totalCount } } }")),
        ("snapshot_order", "node.patients", cohort("patients { totalCount }")),
        ("snapshot_order", "node.visits", cohort("visits(orderBy: {field: PATIENT_NAME}) { totalCount }")),
        ("patient", "node.patients.edges.0.node", cohort("patients(first: 1) { edges { node { name } } }")),
        ("patient", "node.patients.nodes", cohort("patients(first: 1) { nodes { name } }")),
        ("visit", "node.visits.edges.0.node", cohort("visits(first: 1) { edges { node { date } } }")),
        ("visit", "node.visits.nodes", cohort("visits(first: 1) { nodes { date } }")),
        ("department", "statisticsSnapshot.filter", snapshot("filter { departments { id } }")),
        ("doctor", "statisticsSnapshot.filter", snapshot("filter { doctors { id } }")),
        ("patient", "statisticsSnapshot.explain", explained("daysSilent")),
        ("visit_change", "statisticsSnapshot.explain", explained("daysSilent")),
        ("department", "statisticsSnapshot.explain.lastVisit.counted.department", explained("lastVisit { counted { department { id } } }")),
        ("doctor", "statisticsSnapshot.explain.lastVisit.counted.doctor", explained("lastVisit { counted { doctor { id } } }")),
        ("patient", "statisticsSnapshot.changes.total.cohort.entered.nodes", entered("nodes { name }")),
        ("patient", "statisticsSnapshot.changes.total.cohort.entered.edges.0.node", entered("edges { node { name } }")),
        ("visit_change", "statisticsSnapshot.changes.total.cohort.entered.edges.0.reasons", entered("edges { reasons { text } }")),
        ("audit_patient", "audit.nodes.0.patientIds", "{ audit(first: 1) { nodes { patientIds } } }".to_owned()),
        ("staff", "audit.nodes.0.staff", "{ audit(first: 1, filter: {actions: [CHANGED]}) { nodes { staff { name } } } }".to_owned()),
    ]
}

async fn post(app: &App, server: &Server, token: &str, query: &str, variables: &Value) -> (StatusCode, Value) {
    let request = app.client().post(format!("{}/graphql", server.base)).bearer_auth(token);
    let answer = request
        .json(&json!({"query": query, "variables": variables}))
        .send()
        .await
        .unwrap();
    (answer.status(), answer.json().await.unwrap())
}

/// Whether an answer has errors. They are as GraphQL says, and say nothing of what happened.
fn failed((status, answer): &(StatusCode, Value)) -> bool {
    let Some(errors) = answer.get("errors") else {
        assert_eq!(*status, StatusCode::OK, "{answer}");
        return false;
    };
    // Without a table its triggers are missing, as in the middle of a restore.
    let of_a_restore = |error: &&Value| error["extensions"] == json!({"code": "BEING_RESTORED"});
    let others: Vec<&Value> = errors
        .as_array()
        .unwrap()
        .iter()
        .filter(|error| !of_a_restore(error))
        .collect();
    if !others.is_empty() {
        is_internal(&json!({"errors": others}));
    }
    let known = |object: &Value, names: &[&str]| {
        object
            .as_object()
            .unwrap()
            .keys()
            .all(|name| names.contains(&name.as_str()))
    };
    assert!(known(answer, &["data", "errors"]), "{answer}");
    for error in errors.as_array().unwrap() {
        assert!(
            known(error, &["message", "locations", "path", "extensions"]),
            "{answer}"
        );
        match answer.get("data") {
            // Where the error says, or above it, there is nothing.
            Some(data) => {
                assert_eq!(*status, StatusCode::OK, "{answer}");
                let mut at = data;
                for step in error["path"].as_array().unwrap() {
                    if at.is_null() {
                        break;
                    }
                    at = match step.as_u64() {
                        Some(place) => &at[usize::try_from(place).unwrap()],
                        None => &at[step.as_str().unwrap()],
                    };
                }
                assert!(at.is_null(), "{answer}");
            }
            // The audit could not be written: nothing is shown.
            None => {
                assert_eq!(*status, StatusCode::INTERNAL_SERVER_ERROR, "{answer}");
                assert_eq!(error.get("path"), None, "{answer}");
            }
        }
    }
    true
}

/// What the server had to say to those who run it.
fn told(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap();
    let errors = text.lines().filter(|line| line.contains("\"level\":\"ERROR\""));
    errors.collect::<Vec<_>>().join("\n")
}

on_each_database! {
    async fn whatever_fails_tells_nothing_and_works_again(app: App) {
        let world = World::new(app).await;
        let token = world.admin.token.as_str();
        let (collector, spans) = collector().await;
        let roots = Schema::read().roots();
        let resolvers = resolvers(&world);
        let tables: Vec<String> = app.tables().await;
        let mut never: BTreeSet<&str> = roots.iter().map(|(_, name)| name.as_str()).collect();
        let mut missed = Vec::new();
        let (mut logs, mut ending) = (Vec::new(), tokio::task::JoinSet::new());
        // First with all of them there.
        for gone in std::iter::once(None).chain(tables.iter().map(Some)) {
            let mut operations = Vec::new();
            for (kind, name) in &roots {
                operations.push((*kind, name, world.operation(kind, name).await));
            }
            // Has nothing in memory.
            let (server, log) = talking(app, &format!("log of {gone:?}"), |serve| {
                serve.env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector);
            });
            let (away, back) = match gone {
                Some(table) => (format!("ALTER TABLE {table} RENAME TO gone"), format!("ALTER TABLE gone RENAME TO {table}")),
                None => ("SELECT 1".to_owned(), "SELECT 1".to_owned()),
            };
            app.execute(&away).await;
            let asked = || resolvers.iter().filter(|(table, ..)| gone.is_none_or(|gone| gone == table));
            for (table, path, query) in asked().filter(|_| gone.is_some()) {
                let answer = post(app, &server, token, query, &json!({})).await;
                assert!(failed(&answer), "{path} without {table}: {}", answer.1);
                let steps = answer.1["errors"][0]["path"].as_array().unwrap().iter();
                let steps: Vec<String> = steps.map(|step| step.to_string().replace('"', "")).collect();
                assert_eq!(steps.join("."), *path, "{}", answer.1);
            }
            let mut again = Vec::new();
            for (kind, name, operation) in operations {
                let answer = post(app, &server, token, &operation.text, &operation.variables).await;
                if failed(&answer) {
                    never.remove(name.as_str());
                    again.push((kind, name, operation));
                }
            }
            app.execute(&back).await;
            if again.is_empty() {
                missed.extend(gone);
            }
            for (_, _, query) in asked() {
                let answer = post(app, &server, token, query, &json!({})).await;
                assert!(!failed(&answer), "{query} with {gone:?} back: {}\n{}", answer.1, told(&log));
            }
            for (_, name, operation) in again {
                assert_ne!(gone, None, "{name} fails");
                let answer = post(app, &server, token, &operation.text, &operation.variables).await;
                assert!(!failed(&answer), "{name} with {gone:?} back: {}\n{}", answer.1, told(&log));
            }
            logs.push(log);
            server.terminate();
            ending.spawn(server.ended());
        }
        assert!(ending.join_all().await.iter().all(std::process::ExitStatus::success));
        assert_eq!(never, BTreeSet::new(), "nothing was taken away that these need");
        // Needed at start or by the hourly sweep alone, or where something was deleted by hand.
        missed.retain(|table| *table != "truncate_guard");
        assert_eq!(missed, ["audit_retention", "encryption_key", "patient_tombstone", "seaql_migrations"]);

        let spans = String::from_utf8_lossy(&spans.lock().unwrap()).into_owned();
        let said = logs.iter().map(|log| std::fs::read_to_string(log).unwrap());
        for text in said.chain([spans]) {
            assert!(text.contains("request"));
            for personal in PERSONAL.iter().chain([&token]) {
                let line = text.lines().find(|line| line.contains(personal));
                assert_eq!(line, None, "{personal} is written");
            }
        }
    }
}
