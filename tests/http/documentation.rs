//! The documentation: its queries run, and its links lead to something that exists.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use async_graphql::parser::parse_query;
use serde_json::{Map, Value, json};
use test_support::{Client, DatabaseKind, TestApp, wait_until, with_app};

use crate::live_client::LiveClient;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const FENCE: &str = "```";
const FAILS: &str = "# fails: ";

const PATIENTS: &str = "chart_no,name,phone,birth_date,sex,registered_on
020204,김서연,010-1111-0001,1980-01-01,FEMALE,2026-06-18
020299,이수빈,010-1111-0002,1970-02-02,FEMALE,2026-06-20
";
const VISITS: &str = "visit_no,chart_no,date,scheduled_at,status,department,doctor,channel
1,020204,2026-06-18,,COMPLETED,Eyes,Dr Ito,APP
2,020204,2026-06-19,,COMPLETED,Eyes,Dr Ito,WEB
3,020299,2026-06-20,,ENDED,Skin,Dr Ure,PHONE
4,020299,2026-06-25,,NO_SHOW,Skin,Dr Ure,PHONE
";

/// All files below a folder of the repository with this ending, in order.
fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(ROOT).join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == ending) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The README and all pages of docs/.
fn pages() -> Vec<PathBuf> {
    let mut pages = vec![Path::new(ROOT).join("README.md")];
    pages.extend(files("docs", "md"));
    pages
}

/// The blocks of GraphQL in a page, each with a name for messages.
fn queries(page: &Path) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(page).unwrap();
    let name = page.strip_prefix(ROOT).unwrap().display();
    let mut queries = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        if line.trim() == format!("{FENCE}graphql") {
            let block = lines
                .by_ref()
                .map(|(_, line)| line)
                .take_while(|line| line.trim() != FENCE);
            let query: Vec<&str> = block.collect();
            queries.push((format!("{name}:{}", number + 1), query.join("\n")));
        }
    }
    queries
}

/// An ADMIN of the hospital DEMO, and a value for each variable that the documentation declares, by its name.
async fn demo(app: &TestApp) -> (Client<'_>, Map<String, Value>) {
    app.run_cli(&[
        "hospital",
        "add",
        "--code",
        "DEMO",
        "--name",
        "Demo",
        "--time-zone",
        "Asia/Seoul",
    ]);
    let staff = [
        "staff",
        "add",
        "--hospital",
        "DEMO",
        "--login",
        "admin",
        "--name",
        "Ada",
        "--role",
        "admin",
    ];
    app.run_cli_with_input(&staff, "rollcall-demo");
    app.import("patients", "DEMO", PATIENTS);
    app.import("visits", "DEMO", VISITS);
    let query = r#"mutation {
        signIn(input: {hospital: "DEMO", login: "admin", password: "rollcall-demo"}) { session { accessToken refreshToken } }
    }"#;
    let answer = app.post(app.base(), None, query, json!({})).await;
    let session = &answer["data"]["signIn"]["session"];
    let admin = app.client_with_token(session["accessToken"].as_str().unwrap());
    let known = admin
        .graphql(
            r#"{
                hospital { today doctors { id } }
                patients { nodes { id } }
                statistics(period: DAY, range: {from: "2026-06-18", to: "2026-06-20"}) {
                    id
                    total { newPatients { id patientCount } visitors { id } }
                }
            }"#,
        )
        .await;
    let patient = &known["patients"]["nodes"][0]["id"];
    let visit = json!({"patientId": patient, "date": known["hospital"]["today"]});
    let visit = admin.mutate("recordVisit", visit, "visit { id }").await;
    let doctor = &known["hospital"]["doctors"][0]["id"];
    let absence = json!({"doctorId": doctor, "starts": "2026-11-20T00:00:00Z", "ends": "2026-11-21T00:00:00Z"});
    let absence = admin.mutate("addAbsence", absence, "absence { id }").await;
    let booking = async |status: &str| {
        let input = json!({"patientId": patient, "date": known["hospital"]["today"], "status": status});
        admin.mutate("recordVisit", input, "visit { id }").await["visit"]["id"].take()
    };
    let code = async |status: &str, purpose: &str| {
        let input = json!({"visitId": booking(status).await, "purpose": purpose});
        admin.mutate("issueVisitCode", input, "code").await["code"].take()
    };
    let list = &known["statistics"]["total"]["newPatients"]["id"];
    let recall_list = async || {
        let input = json!({"name": "Recall", "cohortId": list, "withoutNextVisit": false});
        let selection = "list { id entries(first: 1) { nodes { id } } }";
        admin.mutate("createRecallList", input, selection).await["list"].take()
    };
    let import = async || {
        let input = json!({"fileId": admin.upload("chart_no,name\n020500,김서윤\n").await, "kind": "PATIENTS"});
        let import = admin.mutate("prepareImport", input, "import { id }").await["import"]["id"].take();
        wait_until("the import is checked", async || {
            let query = format!("{{ import(id: {import}) {{ state }} }}");
            admin.graphql(&query).await["import"]["state"] == "READY"
        })
        .await;
        import
    };
    let staff = admin.graphql("{ staff { id } }").await["staff"][0]["id"].take();
    let values = json!({
        "checkedImport": import().await,
        "cohort": list,
        "dueOn": known["hospital"]["today"],
        "entry": recall_list().await["entries"]["nodes"][0]["id"],
        "file": admin.upload("chart_no\n1\n").await,
        "finishedList": recall_list().await["id"],
        "import": import().await,
        "unwantedImport": import().await,
        "recallList": recall_list().await["id"],
        "staff": staff,
        "absence": absence["absence"]["id"],
        "after": null,
        "booking": booking("TENTATIVE").await,
        "checkInCode": code("BOOKED", "CHECK_IN").await,
        "confirmCode": code("TENTATIVE", "CONFIRM").await,
        "booked": booking("BOOKED").await,
        "board": known["statistics"]["id"],
        "doctor": doctor,
        "list": known["statistics"]["total"]["newPatients"]["id"],
        "visitors": known["statistics"]["total"]["visitors"]["id"],
        "patient": patient,
        "range": {"from": "2026-01-01", "to": "2026-06-30"},
        "refreshToken": session["refreshToken"],
        "snapshot": known["statistics"]["id"],
        "today": known["hospital"]["today"],
        "visit": visit["visit"]["id"],
    });
    let Value::Object(values) = values else { panic!() };
    (admin, values)
}

/// Those of the values that the query declares as variables.
fn variables(place: &str, query: &str, values: &Map<String, Value>) -> Value {
    let document = parse_query(query).unwrap_or_else(|error| panic!("{place}: {error}"));
    let declared = document
        .operations
        .iter()
        .flat_map(|(_, operation)| &operation.node.variable_definitions);
    let variables = declared.map(|variable| {
        let name = variable.node.name.node.as_str();
        let value = values.get(name);
        let value =
            value.unwrap_or_else(|| panic!("{place}: give ${name} a value in tests/http/documentation.rs, `demo`"));
        (name.to_owned(), value.clone())
    });
    Value::Object(variables.collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_query_of_the_documentation_runs() {
    with_app!(DatabaseKind::Sqlite, async |app| {
        let (admin, values) = demo(app).await;
        let queries: Vec<(String, String)> = pages().iter().flat_map(|page| queries(page)).collect();
        assert!(queries.len() > 15, "the documentation has {} queries", queries.len());
        for (place, query) in queries {
            let variables = variables(&place, &query, &values);
            let answer = if query.starts_with("subscription") {
                let mut client = LiveClient::signed_in(app.base(), &admin.token).await;
                client.subscribe("1", &query, variables).await;
                client.answer("1").await
            } else {
                admin.graphql_response(&query, variables).await
            };
            match query.lines().next().and_then(|line| line.strip_prefix(FAILS)) {
                Some(code) => assert_eq!(answer["errors"][0]["extensions"]["code"], code, "{place}: {answer}"),
                None => {
                    assert!(answer.get("errors").is_none(), "{place}: {}", answer["errors"]);
                    for (field, value) in answer["data"].as_object().unwrap() {
                        assert!(!value.is_null(), "{place}: {field} is null");
                    }
                }
            }
        }
    })
    .await;
}

/// The text of a page without its blocks of code.
fn prose(page: &Path) -> String {
    let text = std::fs::read_to_string(page).unwrap();
    text.split(FENCE).step_by(2).collect()
}

/// The anchors of a page, as GitHub and mdBook make them of headings.
fn anchors(page: &Path) -> BTreeSet<String> {
    let text = prose(page);
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| {
        let heading = heading.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
        heading
            .chars()
            .filter(|char| char.is_alphanumeric() || "-_".contains(*char))
            .collect()
    };
    headings.map(anchor).collect()
}

#[test]
fn links_of_the_documentation_lead_somewhere() {
    let more = [
        "ARCHITECTURE.md",
        "SECURITY.md",
        "bench/README.md",
        "explorer/README.md",
    ];
    let pages = pages().into_iter().chain(more.map(|page| Path::new(ROOT).join(page)));
    for page in pages {
        let folder = page.parent().unwrap();
        for link in prose(&page).split("](").skip(1) {
            let link = link.split(')').next().unwrap();
            if link.starts_with("http") {
                continue;
            }
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if path.is_empty() {
                page.clone()
            } else {
                folder.join(path)
            };
            assert!(target.exists(), "{}: {link} does not exist", page.display());
            if !anchor.is_empty() {
                assert!(
                    anchors(&target).contains(anchor),
                    "{}: {link} has no such heading",
                    page.display()
                );
            }
        }
    }
}

#[test]
fn the_summary_lists_each_page() {
    let docs = Path::new(ROOT).join("docs");
    let summary = std::fs::read_to_string(docs.join("SUMMARY.md")).unwrap();
    for page in files("docs", "md") {
        let page = page.strip_prefix(&docs).unwrap().display().to_string();
        let listed = page == "SUMMARY.md" || summary.contains(&format!("]({page})"));
        assert!(listed, "docs/SUMMARY.md: add a line with ({page})");
    }
}

#[test]
fn the_tests_named_in_security_exist() {
    let text = std::fs::read_to_string(Path::new(ROOT).join("SECURITY.md")).unwrap();
    let sources: Vec<PathBuf> = ["src", "tests"].iter().flat_map(|folder| files(folder, "rs")).collect();
    for name in text.split('`').skip(1).step_by(2) {
        let exists = if name.ends_with(".rs") {
            sources.iter().any(|source| source.ends_with(name))
        } else {
            !(name.starts_with("tests/") || name.starts_with(".ci/")) || Path::new(ROOT).join(name).exists()
        };
        assert!(exists, "SECURITY.md: {name} does not exist");
    }
}
