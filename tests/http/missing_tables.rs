//! Renames one table after the other while everything is queried: errors reveal nothing, no personal data is logged,
//! and once the table is back everything works again.

use std::collections::BTreeSet;
use std::path::Path;

use reqwest::StatusCode;
use serde_json::{Value, json};
use test_support::{TestApp, TestServer, on_each_database};

use crate::authorization_matrix::{HospitalFixture, PERSONAL, Schema};
use crate::fault_injection::is_internal;
use crate::observability::{collector, verbose_server};

/// Queries of resolvers that access the database themselves, while their parents do not need the table: the table, the
/// path of the error, the query.
#[rustfmt::skip]
fn resolvers(fixture: &HospitalFixture<'_>) -> Vec<(&'static str, &'static str, String)> {
    let node = |id: &str, of: &str, fields: &str| format!("{{ node(id: \"{id}\") {{ ... on {of} {{ {fields} }} }} }}");
    let cohort = |fields: &str| node(&fixture.cohort, "Cohort", fields);
    let visit = |fields: &str| format!("{{ visit(id: \"{}\") {{ {fields} }} }}", fixture.id("VN-7701"));
    let patient = |fields: &str| format!("{{ patient(id: \"{}\") {{ {fields} }} }}", fixture.id("CH-7701"));
    let snapshot = |fields: &str| format!("{{ statisticsSnapshot(id: \"{}\") {{ {fields} }} }}", fixture.snapshot);
    let recall_list = |fields: &str| format!("{{ recallList(id: \"{}\") {{ {fields} }} }}", fixture.recall_list);
    let import = |fields: &str| format!("{{ import(id: \"{}\") {{ {fields} }} }}", fixture.import);
    let affected = |fields: &str| format!("{{ statistics{} {{ {fields} }} }}", fixture.question("").replace("2025-08-31", "2025-08-30"));
    let explained = |fields: &str| snapshot(&format!("explain(patientId: \"{}\") {{ {fields} }}", fixture.id("CH-7703")));
    let entered = |fields: &str| {
        let cohort = format!("cohort(kind: CHURN_SUSPECTED) {{ entered(first: 1) {{ {fields} }} }}");
        snapshot(&format!("changes(since: \"{}\") {{ total {{ {cohort} }} }}", fixture.since))
    };
    let possible_duplicates = "{ possibleDuplicates(name: \"Zebulon\", birthDate: \"1949-11-23\") { reasons } }".to_owned();
    vec![
        ("department", "hospital.departments", "{ hospital { departments { id } } }".to_owned()),
        ("doctor", "hospital.doctors", "{ hospital { doctors { id } } }".to_owned()),
        ("absence", "hospital.absences", "{ hospital { absences(range: {from: \"2025-05-12\", to: \"2025-05-12\"}) { id } } }".to_owned()),
        ("working_hours", "node.hours", node(fixture.id("Dr Ixworth"), "Doctor", "hours { from }")),
        ("working_hours", "node.slotMinutes", node(fixture.id("Dr Ixworth"), "Doctor", "slotMinutes")),
        ("visit", "node.slots", node(fixture.id("Dr Ixworth"), "Doctor", "slots(range: {from: \"2025-05-12\", to: \"2025-05-12\"}) { starts }")),
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
        ("patient_to_index", "patients", "{ patients(filter: {search: \"Zebulon\"}) { totalCount } }".to_owned()),
        ("patient_name_suffix", "patients", "{ patients(filter: {search: \"Zebulon\"}) { totalCount } }".to_owned()),
        ("patient", "possibleDuplicates", possible_duplicates.clone()),
        ("patient_name_suffix", "possibleDuplicates", possible_duplicates.clone()),
        ("patient_to_index", "possibleDuplicates", possible_duplicates),
        ("patient_tombstone", "patient", "{ patient(id: \"UP__\") { id } }".to_owned()),
        ("visit_tombstone", "visit", "{ visit(id: \"Vv__\") { id } }".to_owned()),
        ("snapshot", "statistics.id", affected("id")),
        ("snapshot", "statistics.total.visitors.id", affected("total { visitors { id } }")),
        ("snapshot", "statistics.label", affected("label")),
        ("snapshot", "statistics.pinnedAt", affected("pinnedAt")),
        ("snapshot", "cohort", format!("{{ cohort(id: \"{}\") {{ id }} }}", fixture.cohort)),
        ("snapshot", "pinnedSnapshots", "{ pinnedSnapshots { nodes { id } } }".to_owned()),
        ("snapshot", "pinnedSnapshots.totalCount", "{ pinnedSnapshots { totalCount } }".to_owned()),
        ("list_part", "pinnedSnapshots.nodes.0.total", "{ pinnedSnapshots(first: 1) { nodes { total { start } } } }".to_owned()),
        ("statement", "statements", "{ statements { nodes { id } } }".to_owned()),
        ("statement", "statements.totalCount", "{ statements { totalCount } }".to_owned()),
        ("staff", "statements.nodes.0.sealedBy", "{ statements(first: 1) { nodes { sealedBy { name } } } }".to_owned()),
        ("snapshot", "statements.nodes.0.statistics", "{ statements(first: 1) { nodes { statistics { asOf } } } }".to_owned()),
        ("list_part", "statements.nodes.0.corrections", "{ statements(first: 1) { nodes { corrections { total { start } } } } }".to_owned()),
        ("staff", "pinnedSnapshots.nodes.0.pinnedBy", "{ pinnedSnapshots(first: 1) { nodes { pinnedBy { name } } } }".to_owned()),
        ("patient", "node.narrowed", cohort("narrowed(filter: {hasPhone: true}) { patientCount }")),
        ("snapshot_order", "node.breakdown", cohort("breakdown(by: AGE_BAND) { label }")),
        ("department", "node.breakdown", cohort("breakdown(by: DEPARTMENT) { label }")),
        ("doctor", "node.breakdown", cohort("breakdown(by: DOCTOR) { label }")),
        ("derived_source", "retention.id", format!("{{ retention{} {{ id }} }}", fixture.question(""))),
        ("derived_source", "node.narrowed.id", cohort("narrowed(filter: {hasPhone: true}) { id }")),
        ("snapshot", "cohortSet", format!("{{ cohortSet(of: {{cohortId: \"{}\"}}) {{ patientCount }} }}", fixture.cohort)),
        ("patient", "node.explain", cohort(&format!("explain(patientId: \"{}\") {{ text }}", fixture.id("CH-7703")))),
        ("visit_change", "node.explain", cohort(&format!("explain(patientId: \"{}\") {{ text }}", fixture.id("CH-7703")))),
        ("snapshot", "statistics.changes", affected(&format!("changes(since: \"{}\") {{ total {{ start }} }}", fixture.since))),
        ("list_part", "statistics.total.visitors.visits", affected("total { visitors { visits { totalCount } } }")),
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
        ("record_change", "patient.history", patient("history { nodes { id } }")),
        ("record_change", "patient.history.totalCount", patient("history { totalCount }")),
        ("record_change", "visit.history", visit("history { nodes { id } }")),
        ("recall_list", "recallLists", "{ recallLists { nodes { id } } }".to_owned()),
        ("recall_list", "recallLists.totalCount", "{ recallLists { totalCount } }".to_owned()),
        ("recall_list", "recallList", recall_list("id")),
        ("recall_entry", "recallList.patientCount", recall_list("patientCount")),
        ("recall_entry", "recallList.outcomes", recall_list("outcomes { patientCount }")),
        ("visit", "recallList.returnedCount", recall_list("returnedCount")),
        ("visit_change", "recallList.returnRate", recall_list("returnRate")),
        ("recall_entry", "recallList.returnedWithin", recall_list("returnedWithin(days: 30)")),
        ("recall_entry", "recallList.entries", recall_list("entries { nodes { id } }")),
        ("recall_entry", "recallList.entries.totalCount", recall_list("entries(filter: {untouched: true}) { totalCount }")),
        ("recall_left_out", "recallList.leftOut", recall_list("leftOut { patientCount }")),
        ("recall_contact", "recallList.entries.nodes.0.contacts", recall_list("entries(first: 1) { nodes { contacts { at } } }")),
        ("staff", "recallList.createdBy", recall_list("createdBy { name }")),
        ("recall_list", "node", node(&fixture.recall_entry, "RecallEntry", "id")),
        ("recall_contact", "patient.history", patient("history { nodes { id } }").replace(fixture.id("CH-7701"), fixture.id("CH-7703"))),
        ("import", "imports", "{ imports { nodes { id } } }".to_owned()),
        ("import", "imports.totalCount", "{ imports { totalCount } }".to_owned()),
        ("import", "import", import("state")),
        ("import_row", "import.rows", import("rows { nodes { line } }")),
        ("import_row", "import.rows.totalCount", import("rows { totalCount }")),
        ("staff", "staff", "{ staff { id } }".to_owned()),
        ("audit_patient", "audit.nodes.0.patientIds", "{ audit(first: 1) { nodes { patientIds } } }".to_owned()),
        ("staff", "audit.nodes.0.staff", "{ audit(first: 1, filter: {actions: [CHANGED]}) { nodes { staff { name } } } }".to_owned()),
    ]
}

async fn post(app: &TestApp, server: &TestServer, token: &str, query: &str, variables: &Value) -> (StatusCode, Value) {
    let request = app.http().post(format!("{}/graphql", server.base)).bearer_auth(token);
    let response = request
        .json(&json!({"query": query, "variables": variables}))
        .send()
        .await
        .unwrap();
    (response.status(), response.json().await.unwrap())
}

/// Whether a response has errors. Errors must conform to GraphQL and reveal nothing.
fn has_errors((status, response): &(StatusCode, Value)) -> bool {
    let Some(errors) = response.get("errors") else {
        assert_eq!(*status, StatusCode::OK, "{response}");
        return false;
    };
    // The last one may say how many more there are, without a path.
    let is_of_a_field = |error: &&Value| !error["extensions"]["leftOut"].is_u64();
    let errors: Vec<&Value> = errors.as_array().unwrap().iter().filter(is_of_a_field).collect();
    // Without the table its triggers are missing, as during a restore.
    let of_a_restore = |error: &&&Value| error["extensions"] == json!({"code": "BEING_RESTORED"});
    let others: Vec<&Value> = errors.iter().filter(|error| !of_a_restore(error)).copied().collect();
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
    assert!(known(response, &["data", "errors"]), "{response}");
    for error in errors {
        assert!(
            known(error, &["message", "locations", "path", "extensions"]),
            "{response}"
        );
        match response.get("data") {
            // The value at the path, or one of its parents, is null.
            Some(data) => {
                assert_eq!(*status, StatusCode::OK, "{response}");
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
                assert!(at.is_null(), "{response}");
            }
            // The audit could not be written, so there is no data.
            None => {
                assert_eq!(*status, StatusCode::INTERNAL_SERVER_ERROR, "{response}");
                assert_eq!(error.get("path"), None, "{response}");
            }
        }
    }
    true
}

/// The errors in the server's log.
fn logged_errors(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap();
    let errors = text.lines().filter(|line| line.contains("\"level\":\"ERROR\""));
    errors.collect::<Vec<_>>().join("\n")
}

on_each_database! {
    async fn errors_reveal_nothing_and_the_server_recovers(app: TestApp) {
        let fixture = HospitalFixture::new(app).await;
        let token = fixture.admin.token.as_str();
        let (collector, spans) = collector().await;
        let roots = Schema::read().roots();
        let resolvers = resolvers(&fixture);
        let tables: Vec<String> = app.tables().await;
        let mut always_succeeded: BTreeSet<&str> = roots.iter().map(|(_, name)| name.as_str()).collect();
        let mut unused = Vec::new();
        let (mut logs, mut ending) = (Vec::new(), tokio::task::JoinSet::new());
        // First with all tables.
        for missing in std::iter::once(None).chain(tables.iter().map(Some)) {
            let mut operations = Vec::new();
            for (kind, name) in &roots {
                operations.push((*kind, name, fixture.operation(kind, name).await));
            }
            // A new server, which has cached nothing.
            let (server, log) = verbose_server(app, &format!("log of {missing:?}"), |serve| {
                serve.env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector);
            });
            let (rename, rename_back) = match missing {
                Some(table) => (format!("ALTER TABLE {table} RENAME TO gone"), format!("ALTER TABLE gone RENAME TO {table}")),
                None => ("SELECT 1".to_owned(), "SELECT 1".to_owned()),
            };
            app.execute(&rename).await;
            let affected = || resolvers.iter().filter(|(table, ..)| missing.is_none_or(|missing| missing == table));
            for (table, path, query) in affected().filter(|_| missing.is_some()) {
                let response = post(app, &server, token, query, &json!({})).await;
                assert!(has_errors(&response), "{path} without {table}: {}", response.1);
                let steps = response.1["errors"][0]["path"].as_array().unwrap().iter();
                let steps: Vec<String> = steps.map(|step| step.to_string().replace('"', "")).collect();
                assert_eq!(steps.join("."), *path, "{}", response.1);
            }
            let mut again = Vec::new();
            for (kind, name, operation) in operations {
                let response = post(app, &server, token, &operation.text, &operation.variables).await;
                if has_errors(&response) {
                    always_succeeded.remove(name.as_str());
                    again.push((kind, name, operation));
                }
            }
            app.execute(&rename_back).await;
            if again.is_empty() {
                unused.extend(missing);
            }
            for (_, _, query) in affected() {
                let response = post(app, &server, token, query, &json!({})).await;
                assert!(!has_errors(&response), "{query} with {missing:?} back: {}\n{}", response.1, logged_errors(&log));
            }
            for (_, name, operation) in again {
                assert_ne!(missing, None, "{name} fails");
                let response = post(app, &server, token, &operation.text, &operation.variables).await;
                assert!(!has_errors(&response), "{name} with {missing:?} back: {}\n{}", response.1, logged_errors(&log));
            }
            logs.push(log);
            server.terminate();
            ending.spawn(server.wait());
        }
        assert!(ending.join_all().await.iter().all(std::process::ExitStatus::success));
        assert_eq!(always_succeeded, BTreeSet::new(), "these never failed");
        // Used only at startup or by cleanups, or if rows were deleted in SQL.
        unused.retain(|table| *table != "truncate_guard" && *table != "patient_to_index");
        assert_eq!(unused, ["audit_retention", "encryption_key", "patient_tombstone", "seaql_migrations"]);

        let spans = String::from_utf8_lossy(&spans.lock().unwrap()).into_owned();
        let logs_text = logs.iter().map(|log| std::fs::read_to_string(log).unwrap());
        for text in logs_text.chain([spans]) {
            assert!(text.contains("request"));
            for personal in PERSONAL.iter().chain([&token]) {
                let line = text.lines().find(|line| line.contains(personal));
                assert_eq!(line, None, "{personal} was logged");
            }
        }
    }
}
