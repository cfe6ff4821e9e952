//! Exports: files have exactly the rows of the pages, once, for the session that asked for them; the same from the command line.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;

use calamine::{Data, Reader as _, Xlsx};
use chrono::{DateTime, Days, FixedOffset, NaiveDate, SecondsFormat};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use test_support::{Client, EXAMPLE, KINDS, TestApp, error, input_of, on_each_database, wait_until};

const PATIENT_HEADERS: [&str; 14] = [
    "patient_id",
    "counted_first_visit",
    "counted_last_visit",
    "counted_visits",
    "current_state",
    "current_merged_into",
    "current_chart_no",
    "current_name",
    "current_phone",
    "current_birth_date",
    "current_birth_year",
    "current_sex",
    "current_registered_on",
    "current_do_not_contact",
];
const VISIT_HEADERS: [&str; 18] = [
    "visit_id",
    "counted_patient_id",
    "counted_date",
    "counted_status",
    "current_deleted",
    "current_visit_no",
    "current_date",
    "current_scheduled_at",
    "current_duration_minutes",
    "current_status",
    "current_department",
    "current_doctor",
    "current_channel",
    "current_patient_id",
    "current_patient_state",
    "current_chart_no",
    "current_name",
    "current_phone",
];
const RECALL_HEADERS: [&str; 17] = [
    "entry_id",
    "patient_id",
    "current_state",
    "current_chart_no",
    "current_name",
    "current_phone",
    "current_birth_date",
    "current_birth_year",
    "current_sex",
    "current_do_not_contact",
    "current_assignee",
    "current_claimed_until",
    "current_contacts",
    "current_last_contact_at",
    "current_outcome",
    "current_due_on",
    "current_returned_on",
];

/// The header and the rows of a file.
type Table = Vec<Vec<String>>;

/// A response to a request for an export.
struct Answer {
    status: StatusCode,
    headers: reqwest::header::HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }
}

async fn request(app: &TestApp, base: &str, method: Method, token: &str, path: &Value) -> Answer {
    let url = format!("{base}{}", path.as_str().unwrap());
    let response = app.http().request(method, url).bearer_auth(token).send().await.unwrap();
    Answer {
        status: response.status(),
        headers: response.headers().clone(),
        body: response.bytes().await.unwrap().to_vec(),
    }
}

async fn fetch(app: &TestApp, user: &Client<'_>, path: &Value) -> Answer {
    request(app, app.base(), Method::GET, &user.token, path).await
}

const PAYLOAD: &str = "path expiresAt rowCount digest";

async fn export(user: &Client<'_>, cohort: &Value, list: &str, format: &str, more: Value) -> Value {
    let mut input = json!({"cohortId": cohort, "list": list, "format": format});
    input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    user.mutate("exportCohort", input, PAYLOAD).await
}

fn csv_table(bytes: &[u8]) -> Table {
    let text = bytes.strip_prefix("\u{feff}".as_bytes()).expect("a byte order mark");
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(text);
    let rows = reader
        .records()
        .map(|row| row.unwrap().iter().map(str::to_owned).collect());
    rows.collect()
}

/// The cells as the texts that CSV has, without apostrophes.
fn xlsx_table(bytes: &[u8]) -> Table {
    let mut book: Xlsx<_> = calamine::open_workbook_from_rs(std::io::Cursor::new(bytes.to_vec())).unwrap();
    let sheet = book.worksheet_range_at(0).unwrap().unwrap();
    let text = |cell: &Data| match cell {
        Data::Empty => String::new(),
        Data::String(text) => text.clone(),
        Data::Bool(flag) => flag.to_string(),
        Data::Float(number) => number.to_string(),
        Data::DateTime(date) => {
            let days = Days::new(date.as_f64() as u64);
            let epoch: NaiveDate = "1899-12-30".parse().unwrap();
            epoch.checked_add_days(days).unwrap().to_string()
        }
        other => panic!("{other:?}"),
    };
    sheet.rows().map(|row| row.iter().map(text).collect()).collect()
}

/// The table of a file, with the names of the test that are formulas as they are.
async fn table(app: &TestApp, user: &Client<'_>, payload: &Value, format: &str) -> Table {
    let answer = fetch(app, user, &payload["path"]).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(answer.header("set-cookie"), "");
    let table = match format {
        "CSV" => {
            assert_eq!(answer.header("content-type"), "text/csv; charset=utf-8");
            let mut table = csv_table(&answer.body);
            for cell in table.iter_mut().flatten() {
                if let Some(formula) = cell.strip_prefix('\'') {
                    assert!(["=1+1 Ann", "@Bo", "-Cy"].contains(&formula), "{cell}");
                    *cell = formula.to_owned();
                } else {
                    assert!(!cell.starts_with(['=', '@', '-']), "{cell}");
                }
            }
            table
        }
        _ => xlsx_table(&answer.body),
    };
    assert_eq!(payload["rowCount"], table.len() - 1);
    table
}

/// A value as a file has it.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// An instant in the time zone of the hospital.
fn local(value: &Value) -> String {
    let Some(text) = value.as_str() else {
        return String::new();
    };
    let at: DateTime<FixedOffset> = text.parse().unwrap();
    let seoul = FixedOffset::east_opt(9 * 60 * 60).unwrap();
    at.with_timezone(&seoul).to_rfc3339_opts(SecondsFormat::AutoSi, false)
}

/// The nodes or edges of a connection, by paging to its end.
async fn paged(user: &Client<'_>, query: &str, path: &[&str]) -> Vec<Value> {
    let (mut all, mut after) = (Vec::new(), Value::Null);
    loop {
        let mut page = user.graphql_with(query, json!({"after": after})).await;
        let connection = path.iter().fold(&mut page, |value, field| &mut value[*field]);
        let rows = connection["edges"].as_array().unwrap();
        all.extend(rows.iter().cloned());
        if connection["pageInfo"]["hasNextPage"] != true {
            assert_eq!(connection["totalCount"], all.len());
            return all;
        }
        after = connection["pageInfo"]["endCursor"].take();
    }
}

const PAGE: &str = "totalCount pageInfo { hasNextPage endCursor }";

async fn paged_patients(user: &Client<'_>, cohort: &Value, order: &str) -> Table {
    let node = "id state mergedInto { id } chartNo name phone birthDate birthYear sex registeredOn doNotContact";
    let query = format!(
        "query ($after: String) {{ node(id: {cohort}) {{ ... on Cohort {{ patients(first: 3, after: $after {order}) {{ {PAGE}
            edges {{ firstVisitDate lastVisitDate visitCount node {{ {node} }} }} }} }} }} }}"
    );
    let mut table = vec![PATIENT_HEADERS.map(str::to_owned).to_vec()];
    for edge in paged(user, &query, &["node", "patients"]).await {
        let node = &edge["node"];
        let row = [
            &node["id"],
            &edge["firstVisitDate"],
            &edge["lastVisitDate"],
            &edge["visitCount"],
            &node["state"],
            &node["mergedInto"]["id"],
            &node["chartNo"],
            &node["name"],
            &node["phone"],
            &node["birthDate"],
            &node["birthYear"],
            &node["sex"],
            &node["registeredOn"],
            &node["doNotContact"],
        ];
        table.push(row.map(plain).to_vec());
    }
    table
}

async fn paged_visits(user: &Client<'_>, cohort: &Value, order: &str) -> Table {
    let node = "id deleted visitNo date scheduledAt durationMinutes status department { name } doctor { name } channel
        patient { id state chartNo name phone }";
    let query = format!(
        "query ($after: String) {{ node(id: {cohort}) {{ ... on Cohort {{ visits(first: 3, after: $after {order}) {{ {PAGE}
            edges {{ date status patientId node {{ {node} }} }} }} }} }} }}"
    );
    let mut table = vec![VISIT_HEADERS.map(str::to_owned).to_vec()];
    for edge in paged(user, &query, &["node", "visits"]).await {
        let (node, patient) = (&edge["node"], &edge["node"]["patient"]);
        let scheduled_at = json!(local(&node["scheduledAt"]));
        let row = [
            &node["id"],
            &edge["patientId"],
            &edge["date"],
            &edge["status"],
            &node["deleted"],
            &node["visitNo"],
            &node["date"],
            &scheduled_at,
            &node["durationMinutes"],
            &node["status"],
            &node["department"]["name"],
            &node["doctor"]["name"],
            &node["channel"],
            &patient["id"],
            &patient["state"],
            &patient["chartNo"],
            &patient["name"],
            &patient["phone"],
        ];
        table.push(row.map(plain).to_vec());
    }
    table
}

fn column(table: &Table, header: &str) -> Vec<String> {
    let place = table[0].iter().position(|cell| cell == header).unwrap();
    table[1..].iter().map(|row| row[place].clone()).collect()
}

/// The ids of the cohorts of the worked example's total, by kind.
async fn cohorts(user: &Client<'_>) -> Value {
    let cohorts = KINDS.map(|kind| format!("{kind}: cohort(kind: {kind}) {{ id digest patientCount visitCount }}"));
    let query = format!("{{ {EXAMPLE} {{ total {{ {} }} }} }}", cohorts.join(" "));
    user.graphql(&query).await["statistics"]["total"].take()
}

async fn newest_entry(admin: &Client<'_>) -> Value {
    let fields = "action what patientIds cohortId cohortKind statisticsId staff { login }";
    let query = format!("{{ audit(first: 1) {{ nodes {{ {fields} }} }} }}");
    admin.graphql(&query).await["audit"]["nodes"][0].take()
}

async fn patient(user: &Client<'_>, chart_no: &str) -> Value {
    let query = "query ($search: String!) { patients(filter: {search: $search}) { nodes { id version chartNo } } }";
    let found = user.graphql_with(query, json!({"search": chart_no})).await;
    let nodes = found["patients"]["nodes"].as_array().unwrap();
    nodes.iter().find(|node| node["chartNo"] == chart_no).unwrap().clone()
}

/// Imports so many patients with an attended visit each on 2025-05-11.
fn import_many(app: &TestApp, count: usize) {
    let patients: String = (0..count)
        .map(|i| format!("{i:05},Name {i},010-{:04}-0001\n", i % 10_000))
        .collect();
    let visits: String = (0..count)
        .map(|i| format!("{i},{i:05},2025-05-11,COMPLETED\n"))
        .collect();
    app.import("patients", "H1", &format!("chart_no,name,phone\n{patients}"));
    app.import("visits", "H1", &format!("visit_no,chart_no,date,status\n{visits}"));
}

on_each_database! {
    async fn a_file_has_exactly_the_rows_of_the_pages(app: TestApp) {
        app.import_example();
        app.import("patients", "H1", "chart_no,name,phone,birth_date\nF,=1+1 Ann,+82 10-1111-0009,1899-12-31\nG,@Bo,,2000-02-29\nH,-Cy,,\n");
        app.import("visits", "H1", "visit_no,chart_no,date,scheduled_at,status\n21,F,,2025-05-11T09:30:00+09:00,COMPLETED\n22,G,2025-05-12,,COMPLETED\n23,H,2025-06-12,,NO_SHOW\n24,H,2025-06-13,,COMPLETED\n");
        let (admin, clinician) = (app.sign_in("admin").await, app.sign_in("clinician").await);
        let of_kind = cohorts(&clinician).await;
        // Counted before what follows: in lists they stay.
        let (a, b, c) = (patient(&admin, "A").await, patient(&admin, "B").await, patient(&admin, "C").await);
        admin.mutate("mergePatients", json!({"id": a["id"], "version": 1, "intoId": b["id"], "reason": "r"}), "into { id }").await;
        admin.mutate("erasePatient", json!({"id": c["id"], "version": 1, "reason": "r"}), "patient { id }").await;
        app.execute("DELETE FROM visit WHERE visit_no IN ('22', '21')").await;
        app.execute("DELETE FROM patient WHERE chart_no = 'G'").await;
        app.execute("UPDATE visit SET status = 'ENDED', department_id = NULL WHERE visit_no = '10'").await;
        let patient_orders = [(Value::Null, ""), (json!({"field": "NAME"}), "orderBy: {field: NAME}"),
            (json!({"field": "LAST_VISIT", "direction": "DESC"}), "orderBy: {field: LAST_VISIT, direction: DESC}")];
        let visit_orders = [(Value::Null, ""), (json!({"field": "PATIENT_NAME"}), "orderBy: {field: PATIENT_NAME}"),
            (json!({"field": "STATUS", "direction": "DESC"}), "orderBy: {field: STATUS, direction: DESC}")];
        for kind in ["VISITORS", "NEW", "RETURNING", "NO_SHOW"] {
            let cohort = &of_kind[kind];
            for format in ["CSV", "XLSX"] {
                for (order, argument) in &patient_orders {
                    let payload = export(&clinician, &cohort["id"], "PATIENTS", format, json!({"patientOrder": order})).await;
                    assert_eq!((&payload["rowCount"], &payload["digest"]), (&cohort["patientCount"], &cohort["digest"]));
                    let pages = paged_patients(&clinician, &cohort["id"], argument).await;
                    assert_eq!(table(app, &clinician, &payload, format).await, pages, "{kind} {argument}");
                }
                for (order, argument) in &visit_orders {
                    let payload = export(&clinician, &cohort["id"], "VISITS", format, json!({"visitOrder": order})).await;
                    assert_eq!((&payload["rowCount"], &payload["digest"]), (&cohort["visitCount"], &cohort["digest"]));
                    let pages = paged_visits(&clinician, &cohort["id"], argument).await;
                    assert_eq!(table(app, &clinician, &payload, format).await, pages, "{kind} {argument}");
                }
            }
        }
        // A list that was made of a list.
        let narrowed = format!("{{ node(id: {}) {{ ... on Cohort {{ narrowed(filter: {{hasPhone: true}}) {{ id digest patientCount visitCount }} }} }} }}", of_kind["VISITORS"]["id"]);
        let narrowed = clinician.graphql(&narrowed).await["node"]["narrowed"].take();
        for (list, count) in [("PATIENTS", "patientCount"), ("VISITS", "visitCount")] {
            let payload = export(&clinician, &narrowed["id"], list, "CSV", json!({})).await;
            assert_eq!((&payload["rowCount"], &payload["digest"]), (&narrowed[count], &narrowed["digest"]));
            let pages = match list {
                "PATIENTS" => paged_patients(&clinician, &narrowed["id"], "").await,
                _ => paged_visits(&clinician, &narrowed["id"], "").await,
            };
            assert_eq!(table(app, &clinician, &payload, "CSV").await, pages);
        }
        // What the rows say of those who were merged, erased and deleted.
        let payload = export(&admin, &of_kind["VISITORS"]["id"], "PATIENTS", "CSV", json!({})).await;
        let patients = table(app, &admin, &payload, "CSV").await;
        let states: BTreeSet<String> = column(&patients, "current_state").into_iter().collect();
        assert_eq!(states, ["ACTIVE", "ERASED", "MERGED"].map(str::to_owned).into());
        assert!(column(&patients, "current_merged_into").contains(&plain(&b["id"])));
        assert!(column(&patients, "current_phone").contains(&"+821011110009".to_owned()), "without an apostrophe");
        let payload = export(&admin, &of_kind["VISITORS"]["id"], "VISITS", "CSV", json!({})).await;
        let visits = table(app, &admin, &payload, "CSV").await;
        assert_eq!(column(&visits, "current_deleted").iter().filter(|deleted| *deleted == "true").count(), 2);
        // A list without rows is a file with its header.
        let day = admin.graphql("{ statistics(period: DAY, range: {from: \"2025-01-01\", to: \"2025-01-01\"}) { total { visitors { id } } } }").await;
        for (format, list, headers) in [("CSV", "PATIENTS", PATIENT_HEADERS.len()), ("XLSX", "VISITS", VISIT_HEADERS.len())] {
            let payload = export(&admin, &day["statistics"]["total"]["visitors"]["id"], list, format, json!({})).await;
            let file = table(app, &admin, &payload, format).await;
            assert_eq!((file.len(), file[0].len()), (1, headers));
        }
    }

    async fn a_file_can_be_fetched_once_by_the_session_that_asked_for_it(app: TestApp) {
        app.set_time("2026-11-28T09:00:00Z");
        app.import_example();
        let admin = app.sign_in("admin").await;
        let cohort = cohorts(&admin).await["NEW"]["id"].take();
        let payload = export(&admin, &cohort, "PATIENTS", "CSV", json!({})).await;
        assert_eq!(payload["expiresAt"], "2026-11-28T09:10:00Z");
        let path = &payload["path"];
        // None of these uses it up.
        let (same_person, other_person) = (app.sign_in("admin").await, app.sign_in("clinician").await);
        let elsewhere = app.other_hospital().await;
        let wrong = fetch(app, &admin, &json!("/exports/0123456789abcdef0123456789abcdef")).await;
        assert_eq!(wrong.status, StatusCode::NOT_FOUND);
        assert!(wrong.text().contains("NOT_FOUND"));
        for user in [&same_person, &other_person, &elsewhere] {
            let answer = fetch(app, user, path).await;
            assert_eq!((answer.status, answer.text()), (wrong.status, wrong.text()));
        }
        for (method, status) in [(Method::POST, StatusCode::METHOD_NOT_ALLOWED), (Method::HEAD, StatusCode::METHOD_NOT_ALLOWED)] {
            let answer = request(app, app.base(), method, &admin.token, path).await;
            assert_eq!((answer.status, answer.header("allow")), (status, "GET"));
        }
        for user in ["desk", "support", "kiosk"] {
            let answer = fetch(app, &app.sign_in(user).await, path).await;
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{user}");
            assert!(answer.text().contains("FORBIDDEN"));
            let entry = newest_entry(&admin).await;
            assert_eq!((&entry["action"], &entry["what"], &entry["staff"]["login"]), (&json!("REFUSED"), &json!("GET /exports"), &json!(user)));
        }
        assert_eq!(request(app, app.base(), Method::GET, "x", path).await.status, StatusCode::UNAUTHORIZED);
        for odd in ["/exports/%FF", "/exports/%27"] {
            assert_eq!(fetch(app, &admin, &json!(odd)).await.status, StatusCode::NOT_FOUND);
        }
        // Of two requests at the same time, also at two servers, one gets it.
        let server = app.second_server();
        let (one, other) = tokio::join!(fetch(app, &admin, path), request(app, &server.base, Method::GET, &admin.token, path));
        let statuses = BTreeSet::from([one.status, other.status]);
        assert_eq!(statuses, BTreeSet::from([StatusCode::OK, StatusCode::NOT_FOUND]));
        let (file, refused) = if one.status == StatusCode::OK { (one, other) } else { (other, one) };
        assert_eq!(refused.text(), wrong.text());
        assert_eq!(file.header("content-disposition"), "attachment; filename=\"new-patients-2026-11-28.csv\"");
        assert_eq!(fetch(app, &admin, path).await.text(), wrong.text());
        // It expires.
        let payload = export(&admin, &cohort, "VISITS", "XLSX", json!({})).await;
        app.set_time("2026-11-28T09:10:00Z");
        assert_eq!(fetch(app, &admin, &payload["path"]).await.text(), wrong.text());
        app.set_time("2026-11-28T09:09:59Z");
        let file = fetch(app, &admin, &payload["path"]).await;
        assert_eq!(file.header("content-disposition"), "attachment; filename=\"new-visits-2026-11-28.xlsx\"");
        assert_eq!(file.header("content-length"), file.body.len().to_string());
        // Nothing in the database tells a path, and rows are deleted once no mutation can ask for them again.
        let token = path.as_str().unwrap().trim_start_matches("/exports/");
        assert_eq!(crate::erasure::holding(app, token).await, Vec::<String>::new());
        app.set_time("2026-12-05T09:09:59Z");
        drop(app.second_server());
        assert_eq!(app.query_number("SELECT COUNT(*) FROM export").await, 2);
        app.set_time("2026-12-05T09:10:01Z");
        let _server = app.second_server();
        wait_until("exports are deleted", async || app.query_number("SELECT COUNT(*) FROM export").await == 0).await;
    }

    async fn exports_are_for_some_roles_and_recorded(app: TestApp) {
        app.import_example();
        let admin = app.sign_in("admin").await;
        let of_kind = cohorts(&admin).await;
        let cohort = &of_kind["NEW"]["id"];
        let input = json!({"cohortId": cohort, "list": "PATIENTS", "format": "CSV"});
        let list = admin.mutate("createRecallList", json!({"name": "L", "cohortId": cohort, "withPhone": false}), "list { id }").await["list"]["id"].take();
        let of_list = json!({"listId": list, "format": "CSV"});
        for user in ["desk", "support", "kiosk"] {
            let user = app.sign_in(user).await;
            user.expect_mutation_error("exportCohort", input.clone(), "FORBIDDEN").await;
            user.expect_mutation_error("exportRecallList", of_list.clone(), "FORBIDDEN").await;
        }
        let with = |changes: Value| {
            let mut input = input.clone();
            input.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
            input
        };
        for (changes, expected) in [
            (json!({"cohortId": "x"}), error("BAD_USER_INPUT", "input.cohortId")),
            (json!({"cohortId": list}), error("BAD_USER_INPUT", "input.cohortId")),
            (json!({"visitOrder": {"field": "DATE"}}), error("BAD_USER_INPUT", "input.visitOrder")),
            (json!({"list": "VISITS", "patientOrder": {"field": "NAME"}}), error("BAD_USER_INPUT", "input.patientOrder")),
            (json!({"idempotencyKey": ""}), error("BAD_USER_INPUT", "input.idempotencyKey")),
        ] {
            assert_eq!(admin.mutation_error("exportCohort", with(changes.clone())).await, expected, "{changes}");
        }
        for (changes, expected) in [
            (json!({"listId": cohort}), error("BAD_USER_INPUT", "input.listId")),
            (json!({"filter": {"outcomes": []}}), error("BAD_USER_INPUT", "input.filter.outcomes")),
        ] {
            let mut input = of_list.clone();
            input.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
            assert_eq!(admin.mutation_error("exportRecallList", input).await, expected, "{changes}");
        }
        let elsewhere = app.other_hospital().await;
        assert_eq!(elsewhere.mutation_error("exportCohort", input.clone()).await, error("NOT_FOUND", "input.cohortId"));
        assert_eq!(elsewhere.mutation_error("exportRecallList", of_list.clone()).await, error("NOT_FOUND", "input.listId"));
        // One entry an export, with the list.
        let clinician = app.sign_in("clinician").await;
        clinician.mutate("exportCohort", with(json!({"list": "VISITS", "format": "XLSX"})), PAYLOAD).await;
        assert_eq!(newest_entry(&admin).await, json!({"action": "EXPORTED", "what": "visits: 5 rows as XLSX", "patientIds": [], "cohortId": cohort,
            "cohortKind": "NEW", "statisticsId": newest_entry(&admin).await["statisticsId"], "staff": {"login": "clinician"}}));
        let before = app.query_number("SELECT COUNT(*) FROM audit_entry").await;
        let payload = clinician.mutate("exportRecallList", of_list.clone(), PAYLOAD).await;
        fetch(app, &clinician, &payload["path"]).await;
        assert_eq!(app.query_number("SELECT COUNT(*) FROM audit_entry").await, before + 1);
        let entry = newest_entry(&admin).await;
        assert_eq!((&entry["action"], &entry["what"]), (&json!("EXPORTED"), &json!("entries of a recall list: 3 rows as CSV")));
        let named = [patient(&admin, "A").await, patient(&admin, "C").await, patient(&admin, "D").await];
        assert_eq!(entry["patientIds"], json!(named.map(|patient| patient["id"].clone())));
        // A mutation that is repeated tells the same path again.
        let keyed = with(json!({"idempotencyKey": "once"}));
        let first = admin.mutate("exportCohort", keyed.clone(), PAYLOAD).await;
        let server = app.second_server();
        let again = app.post(&server.base, Some(&admin.token), &mutation("exportCohort"), json!({"input": keyed})).await;
        assert_eq!(again["data"]["exportCohort"], first);
        assert_ne!(export(&admin, cohort, "PATIENTS", "CSV", json!({})).await["path"], first["path"]);
        let other = with(json!({"idempotencyKey": "once", "format": "XLSX"}));
        assert_eq!(admin.mutation_error("exportCohort", other).await, error("BAD_USER_INPUT", "input.idempotencyKey"));
        let keyed = json!({"listId": list, "format": "XLSX", "idempotencyKey": "list"});
        let first = admin.mutate("exportRecallList", keyed.clone(), PAYLOAD).await;
        assert_eq!(admin.mutate("exportRecallList", keyed, PAYLOAD).await, first);
        // Of a snapshot that has expired, also where it is in memory still.
        app.execute("UPDATE snapshot SET pinned_at = NULL, expired_at = computed_at").await;
        assert_eq!(admin.mutation_error("exportCohort", input).await.0, "SNAPSHOT_EXPIRED");
    }

    async fn a_recall_list_is_exported_as_it_is_paged(app: TestApp) {
        app.set_time("2026-11-28T09:00:00Z");
        app.import_example();
        app.import("patients", "H1", "chart_no,name,phone\nF,=1+1 Ann,010-1111-0009\n");
        app.import("visits", "H1", "visit_no,chart_no,date,status\n21,F,2025-05-11,COMPLETED\n");
        let admin = app.sign_in("admin").await;
        let cohort = cohorts(&admin).await["VISITORS"]["id"].take();
        let input = json!({"name": "L", "cohortId": cohort, "withPhone": false});
        let made = admin.mutate("createRecallList", input, "list { id entries { nodes { id } } }").await["list"].take();
        let entries: Vec<Value> = made["entries"]["nodes"].as_array().unwrap().iter().map(|entry| entry["id"].clone()).collect();
        assert!(entries.len() >= 4, "{entries:?}");
        let contact = |place: usize, due: Value| json!({"entryId": entries[place], "version": 1, "outcome": "NO_ANSWER", "note": "n", "dueOn": due});
        admin.mutate("recordContact", contact(0, json!("2026-12-24")), "entry { id }").await;
        admin.mutate("recordContact", contact(2, Value::Null), "entry { id }").await;
        admin.mutate("claimRecallEntries", json!({"listId": made["id"]}), "entries { id }").await;
        let (d, b) = (patient(&admin, "D").await, patient(&admin, "B").await);
        admin.mutate("mergePatients", json!({"id": d["id"], "version": 1, "intoId": b["id"], "reason": "r"}), "into { id }").await;
        let node = "id patient { id state chartNo name phone birthDate birthYear sex doNotContact } assignee { name } claimedUntil outcome dueOn
            returnedOn contacts { at }";
        for (filter, argument) in [(json!(null), ""), (json!({"untouched": true}), "filter: {untouched: true}"), (json!({"outcomes": ["NO_ANSWER"]}), "filter: {outcomes: [NO_ANSWER]}")] {
            let query = format!("query ($after: String) {{ recallList(id: {}) {{ entries(first: 2, after: $after {argument}) {{ {PAGE} edges {{ node {{ {node} }} }} }} }} }}", made["id"]);
            let mut pages = vec![RECALL_HEADERS.map(str::to_owned).to_vec()];
            for edge in paged(&admin, &query, &["recallList", "entries"]).await {
                let (node, patient) = (&edge["node"], &edge["node"]["patient"]);
                let contacts = node["contacts"].as_array().unwrap();
                let (claimed, count) = (json!(local(&node["claimedUntil"])), json!(contacts.len()));
                let last = json!(contacts.last().map(|contact| local(&contact["at"])));
                pages.push([&node["id"], &patient["id"], &patient["state"], &patient["chartNo"], &patient["name"], &patient["phone"],
                    &patient["birthDate"], &patient["birthYear"], &patient["sex"], &patient["doNotContact"], &node["assignee"]["name"],
                    &claimed, &count, &last, &node["outcome"], &node["dueOn"], &node["returnedOn"]].map(plain).to_vec());
            }
            let digest = column(&pages, "patient_id").join("\n") + "\n\n";
            let digest: String = Sha256::digest(digest.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
            for format in ["CSV", "XLSX"] {
                let payload = admin.mutate("exportRecallList", json!({"listId": made["id"], "filter": filter, "format": format}), PAYLOAD).await;
                assert_eq!(payload["digest"], digest);
                // What is done meanwhile moves no row.
                assert_eq!(table(app, &admin, &payload, format).await, pages, "{argument}");
            }
        }
        let payload = admin.mutate("exportRecallList", json!({"listId": made["id"], "filter": {"untouched": true}, "format": "CSV"}), PAYLOAD).await;
        admin.mutate("recordContact", json!({"entryId": entries[1], "version": 2, "outcome": "REACHED"}), "entry { id }").await;
        let file = table(app, &admin, &payload, "CSV").await;
        assert!(column(&file, "entry_id").contains(&plain(&entries[1])));
        let answer = fetch(app, &admin, &admin.mutate("exportRecallList", json!({"listId": made["id"], "format": "CSV"}), "path").await["path"]).await;
        assert_eq!(answer.header("content-disposition"), "attachment; filename=\"recall-list-2026-11-28.csv\"");
    }

    async fn a_long_list_is_read_in_slices_and_never_looks_whole_if_it_is_not(app: TestApp) {
        import_many(app, 4_100);
        let admin = app.sign_in("admin").await;
        let query = "{ statistics(period: DAY, range: {from: \"2025-05-11\", to: \"2025-05-11\"}) { total { visitors { id patientIds visitIds } } } }";
        let visitors = admin.graphql(query).await["statistics"]["total"]["visitors"].take();
        for (list, id, ids, most) in [("PATIENTS", "patient_id", &visitors["patientIds"], 10), ("VISITS", "visit_id", &visitors["visitIds"], 14)] {
            for format in ["CSV", "XLSX"] {
                let payload = export(&admin, &visitors["id"], list, format, json!({})).await;
                let before = app.metric("rollcall_database_statements_total").await;
                let file = table(app, &admin, &payload, format).await;
                let statements = app.metric("rollcall_database_statements_total").await - before;
                // Three slices of one or two statements, and a few for the export.
                assert!(statements <= most, "{statements} statements for {list}");
                let found: BTreeSet<String> = column(&file, id).into_iter().collect();
                let wanted: BTreeSet<String> = ids.as_array().unwrap().iter().map(plain).collect();
                assert_eq!((file.len(), found), (4_101, wanted));
            }
        }
        // Clients that close the connection leave nothing behind: more than may run at a time are abandoned.
        for format in ["CSV", "XLSX"] {
            for _ in 0..10 {
                let payload = export(&admin, &visitors["id"], "VISITS", format, json!({})).await;
                let url = format!("{}{}", app.base(), payload["path"].as_str().unwrap());
                wait_until("an export can be fetched", async || {
                    let mut response = app.http().get(&url).bearer_auth(&admin.token).send().await.unwrap();
                    if response.status() == StatusCode::TOO_MANY_REQUESTS {
                        return false;
                    }
                    assert_eq!(response.status(), StatusCode::OK);
                    response.chunk().await.unwrap().unwrap();
                    true
                }).await;
            }
        }
        // A row of the second slice cannot be read.
        let damaged = "UPDATE patient SET phone = phone_index WHERE chart_no = '03000'";
        app.execute(damaged).await;
        let payload = export(&admin, &visitors["id"], "PATIENTS", "CSV", json!({})).await;
        let url = format!("{}{}", app.base(), payload["path"].as_str().unwrap());
        let mut response = app.http().get(&url).bearer_auth(&admin.token).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        let mut received = 0;
        let ended = loop {
            match response.chunk().await {
                Ok(Some(bytes)) => received += bytes.len(),
                other => break other,
            }
        };
        assert!(ended.is_err(), "{received} bytes that look whole");
        let payload = export(&admin, &visitors["id"], "PATIENTS", "XLSX", json!({})).await;
        let answer = fetch(app, &admin, &payload["path"]).await;
        assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
        assert!(!answer.text().contains("phone"), "{}", answer.text());
    }

    async fn the_command_line_writes_files(app: TestApp) {
        app.import_example();
        let admin = app.sign_in("admin").await;
        let folder = app.write_file("marker", "").parent().unwrap().join("out");
        std::fs::create_dir(&folder).unwrap();
        let path = |name: &str| folder.join(name).display().to_string();
        let of_month = ["export", "statistics", "--hospital", "H1", "--period", "month", "--from", "2025-05-10", "--to", "2025-06-30"];
        let table = csv_table(app.run_cli(&of_month).as_bytes());
        assert_eq!(table[0], ["period", "start", "end", "covered_from", "covered_to", "complete", "as_of", "cohort", "patients", "visits", "cohort_id"]);
        assert_eq!(table.len(), 1 + 2 * KINDS.len());
        assert_eq!(table[1][..6], ["MONTH", "2025-05-01", "2025-05-31", "2025-05-10", "2025-05-31", "false"]);
        // The ids open the lists that were counted.
        for row in &table[1..] {
            let query = format!("{{ node(id: \"{}\") {{ ... on Cohort {{ kind patientCount visitCount }} }} }}", row[10]);
            let cohort = admin.graphql(&query).await["node"].take();
            assert_eq!([&row[7], &row[8], &row[9]].map(String::as_str), [plain(&cohort["kind"]), plain(&cohort["patientCount"]), plain(&cohort["visitCount"])]);
        }
        let entry = newest_entry(&admin).await;
        assert_eq!((&entry["action"], &entry["what"], &entry["staff"]), (&json!("EXPORTED"), &json!("statistics by MONTH, 2025-05-10 to 2025-06-30, as CSV"), &Value::Null));
        assert_ne!(entry["statisticsId"], Value::Null);
        app.run_cli(&[&of_month[..], &["--format", "xlsx", "--output", &path("may.xlsx")]].concat());
        let sheet = xlsx_table(&std::fs::read(path("may.xlsx")).unwrap());
        assert_eq!(sheet, table);
        // The patients and visits of a cohort.
        let visitors = cohorts(&admin).await["VISITORS"].take();
        let id = visitors["id"].as_str().unwrap();
        app.run_cli(&["export", "cohort", id, "--order", "name:desc", "--output", &path("patients.csv")]);
        let file = std::fs::read(path("patients.csv")).unwrap();
        assert_eq!(csv_table(&file), paged_patients(&admin, &visitors["id"], "orderBy: {field: NAME, direction: DESC}").await);
        let mode = std::fs::metadata(path("patients.csv")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let visits = app.run_cli(&["export", "cohort", id, "--list", "visits"]);
        assert_eq!(csv_table(visits.as_bytes()), paged_visits(&admin, &visitors["id"], "").await);
        app.run_cli(&["export", "cohort", id, "--list", "visits", "--format", "XLSX", "--output", &path("visits.xlsx")]);
        assert_eq!(xlsx_table(&std::fs::read(path("visits.xlsx")).unwrap()), csv_table(visits.as_bytes()));
        let exported = admin.graphql("{ audit(first: 1, filter: {actions: [EXPORTED]}) { nodes { what cohortId staff { login } } } }").await["audit"]["nodes"][0].take();
        assert_eq!(exported, json!({"what": "visits: 7 rows as XLSX", "cohortId": id, "staff": null}));
        // What exists is not overwritten, and what fails leaves nothing.
        let before = app.query_number("SELECT COUNT(*) FROM audit_entry").await;
        for (arguments, message) in [
            (&["export", "cohort", id, "--output", &path("patients.csv")][..], "output: "),
            (&["export", "cohort", id, "--output", &path("none/patients.csv")], "output: "),
            (&["export", "cohort", id, "--order", "age"], "order: patients cannot be ordered by this"),
            (&["export", "cohort", "x"], "ID: this is no id"),
            (&["export", "cohort", &id.replacen(&id[2..6], "AAAA", 1)], "ID: there is no cohort"),
            (&["export", "statistics", "--hospital", "H9", "--period", "DAY", "--from", "2025-05-01", "--to", "2025-05-02"], "hospital: no hospital has the code"),
            (&["export", "statistics", "--hospital", "H1", "--period", "DAY", "--from", "2025-05-02", "--to", "2025-05-01"], "from: 2025-05-02 lies after"),
            (&["export", "statistics", "--hospital", "H1", "--period", "DAY", "--from", "1025-05-02", "--to", "2025-05-01"], "from: "),
        ] {
            let output = app.try_run_cli(arguments);
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.code() == Some(1) && said.contains(message), "{arguments:?}: {said}");
        }
        assert_eq!(std::fs::read(path("patients.csv")).unwrap(), file);
        let mut names: Vec<String> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().display().to_string()).collect();
        names.sort();
        assert_eq!(names, ["may.xlsx", "patients.csv", "visits.xlsx"]);
        assert_eq!(app.query_number("SELECT COUNT(*) FROM audit_entry").await, before + 1, "before the folder was found missing");
        app.execute("UPDATE snapshot SET expired_at = computed_at").await;
        let output = app.try_run_cli(&["export", "cohort", id]);
        assert!(String::from_utf8_lossy(&output.stderr).contains("the snapshot has expired"), "{output:?}");
    }
}

fn mutation(name: &str) -> String {
    format!(
        "mutation ($input: {}!) {{ {name}(input: $input) {{ {PAYLOAD} }} }}",
        input_of(name)
    )
}
