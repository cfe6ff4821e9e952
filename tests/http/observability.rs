//! Logs, metrics, traces and readiness, and the absence of personal data in them.

use std::process::Command;
use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use test_support::{DatabaseKind, EXAMPLE, PASSWORD, SERVE, TestApp, TestServer, on_each_database, wait_until};

/// Texts that identify a patient or the client.
const PATIENTS: &str = "chart_no,name,phone,birth_date
CH-7731,Zebulon Quux,010-9876-5432,1949-11-23
CH-7732,김천둥,010-9876-5433,1951-02-03
";
const VISITS: &str = "visit_no,chart_no,date,status,department
VN-5501,CH-7731,2025-05-11,COMPLETED,Eyes
VN-5502,CH-7732,2025-05-12,COMPLETED,Eyes
";
const PERSONAL: [&str; 12] = [
    "Zebulon",
    "Quux",
    "천둥",
    "98765432",
    "9876-5432",
    "98765433",
    "98765434",
    "quince",
    "CH-773",
    "VN-550",
    "1949-11-23",
    PASSWORD,
];

/// Receives traces like a collector.
pub async fn collector() -> (String, Arc<Mutex<Vec<u8>>>) {
    let spans = Arc::new(Mutex::new(Vec::new()));
    let taken = Arc::clone(&spans);
    let take = async move |body: Bytes| taken.lock().unwrap().extend_from_slice(&body);
    let router = axum::Router::new().route("/v1/traces", axum::routing::post(take));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = axum_server::Server::<std::net::SocketAddr>::from_listener(listener);
    tokio::spawn(server.serve(router.into_make_service()));
    (url, spans)
}

/// A server with the most verbose log, and the log file.
pub fn verbose_server(
    app: &TestApp,
    name: &str,
    change: impl FnOnce(&mut Command),
) -> (TestServer, std::path::PathBuf) {
    let path = app.write_file(name, "");
    let mut serve = app.command(SERVE);
    serve
        .env("ROLLCALL_LOG", "trace")
        .stderr(std::fs::File::create(&path).unwrap());
    change(&mut serve);
    (TestServer::spawn(&mut serve), path)
}

fn lines(log: &std::path::Path) -> Vec<Value> {
    let text = std::fs::read_to_string(log).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}")))
        .collect()
}

on_each_database! {
    async fn logs_metrics_and_traces_contain_no_personal_data(app: TestApp) {
        app.import("patients", "H1", PATIENTS);
        app.import("visits", "H1", VISITS);
        let (collector, spans) = collector().await;
        let (server, log) = verbose_server(app, "log", |serve| {
            serve.env("OTEL_EXPORTER_OTLP_ENDPOINT", collector);
        });
        let front_desk = app.sign_in_at(&server.base, "H1", "desk").await;
        let support = app.sign_in_at(&server.base, "H1", "support").await;
        let send = async |id: &str, token: &str, body: Value| {
            let request = app.http().post(format!("{}/graphql", server.base)).bearer_auth(token).header("x-request-id", id);
            request.json(&body).send().await.unwrap().json::<Value>().await.unwrap()
        };
        let search = "query Find($text: String) { patients(filter: { search: $text }) { totalCount nodes { name phone chartNo birthDate } } }";
        for text in ["Zebulon", "010-9876-5432", "CH-7731", "천둥"] {
            let found = send("finding", &front_desk.token, json!({"query": search, "variables": {"text": text}})).await;
            assert_eq!(found["data"]["patients"]["totalCount"], 1, "{text}: {found}");
            send("finding", &support.token, json!({"query": search, "variables": {"text": text}})).await;
        }
        let inline = r#"{ patients(filter: { search: "Zebulon Quux" }) { nodes { name phone visits { nodes { visitNo } } } } }"#;
        assert!(send("inline", &front_desk.token, json!({"query": inline})).await.get("errors").is_none());
        let kept = format!("query Board {{ {EXAMPLE} {{ id total {{ visitors {{ patients(orderBy: {{field: NAME}}) {{ nodes {{ name phone }} }} }} }} }} }}");
        assert!(send("board", &front_desk.token, json!({"query": kept})).await.get("errors").is_none());
        // Any part of an invalid request may contain a name.
        for query in [r#"{ patients(filter: { search: "Zebulon Quux" "#, r#"{ patients(filter: { nobody: "Zebulon Quux" }) { totalCount } }"#,
            r#"{ node(id: "Zebulon Quux CH-7731") { id } }"#, "query Zebulon_Quux { nothing }"] {
            assert!(send("wrong", &front_desk.token, json!({"query": query, "operationName": "Zebulon Quux"})).await.get("errors").is_some());
            if !query.starts_with("query") {
                assert!(send("wrong", &front_desk.token, json!({"query": query})).await.get("errors").is_some());
            }
        }
        for path in ["/graphql?query=%7Bpatients(filter:%7Bsearch:%22Zebulon%22%7D)%7Bid%7D%7D", "/patients/Zebulon", "/graphiql/assets/Zebulon",
            "/healthz?name=Zebulon"] {
            let _ = app.http().get(format!("{}{path}", server.base)).header("x-request-id", "Zebulon Quux").send().await.unwrap();
        }
        let _ = app.http().request(Method::from_bytes(b"ZEBULON").unwrap(), format!("{}/graphql", server.base)).send().await.unwrap();
        // Mutations, and one whose database error contains the value.
        let register = "mutation Register($input: RegisterPatientInput!) { registerPatient(input: $input) { patient { name phone memo } } }";
        app.execute("CREATE UNIQUE INDEX one_of_a_name ON patient (hospital_id, name)").await;
        for (chart_no, code) in [("CH-7733", Value::Null), ("CH-7734", json!("INTERNAL_SERVER_ERROR")), ("CH-7731", json!("BAD_USER_INPUT"))] {
            let input = json!({"chartNo": chart_no, "name": "Quux the Third", "phone": "010-9876-5434", "memo": "allergic to quince"});
            let response = send("registering", &front_desk.token, json!({"query": register, "variables": {"input": input}})).await;
            assert_eq!(response["errors"][0]["extensions"]["code"], code, "{response}");
        }
        // Errors that are not the client's fault.
        app.execute("DROP TABLE patient_tombstone").await;
        let gone = "query Gone { node(id: \"UIE\") { id } }";
        let response = send("broken-1", &front_desk.token, json!({"query": gone})).await;

        server.terminate();
        assert!(server.wait().await.success());
        let log_text = std::fs::read_to_string(&log).unwrap();
        let spans = String::from_utf8_lossy(&spans.lock().unwrap()).into_owned();
        for (what, text) in [("log", &log_text), ("traces", &spans)] {
            for personal in PERSONAL.iter().chain([&front_desk.token.as_str(), &support.token.as_str()]) {
                assert!(!text.contains(personal), "{personal} stands in the {what}: {}", text.lines().find(|line| line.contains(personal)).unwrap_or_default());
            }
        }
        let lines = lines(&log);
        let of = |id: &str| lines.iter().filter(|line| line["message"] == "request" && line["spans"][0]["request_id"] == id).collect::<Vec<_>>();
        assert_eq!(of("finding").len(), 8);
        let board = of("board")[0];
        assert_eq!((&board["method"], &board["path"], &board["status"]), (&json!("POST"), &json!("/graphql"), &json!(200)));
        assert_eq!((&board["type"], &board["operation"]), (&json!("query"), &json!("Board")));
        assert!(board["statements"].as_u64().unwrap() > 3 && board["ms"].as_f64().unwrap() > 0.0, "{board}");
        assert_eq!(of("inline")[0].get("operation"), None);
        for span in ["request", "operation", "reporting.resolve", "ledger.load", "resolve", "reporting.persist", "Board"] {
            assert!(spans.contains(span), "{span}");
        }
        // The error ID that the client received is logged with the request ID.
        let broken = of("broken-1")[0];
        let message = response["errors"][0]["message"].as_str().unwrap();
        let incident = message.split_whitespace().nth(2).unwrap().trim_end_matches(':');
        assert_eq!((&broken["incidents"], &broken["codes"]), (&json!(incident), &json!("INTERNAL_SERVER_ERROR")), "{response}");
        let logged = lines.iter().find(|line| line["incident"] == incident).unwrap();
        assert_eq!((&logged["level"], &logged["spans"][0]["request_id"]), (&json!("ERROR"), &json!("broken-1")));
        assert!(logged["message"].as_str().unwrap().contains("patient_tombstone"), "{logged}");
    }

    async fn each_request_has_an_id(app: TestApp) {
        let id = async |theirs: Option<&str>| {
            let mut request = app.http().get(format!("{}/healthz", app.base()));
            if let Some(theirs) = theirs {
                request = request.header("x-request-id", theirs);
            }
            request.send().await.unwrap().headers()["x-request-id"].to_str().unwrap().to_owned()
        };
        let longest = "a".repeat(64);
        for good in ["a", "Abc-1._", &longest] {
            assert_eq!(id(Some(good)).await, good);
        }
        let made = |id: &str| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        for bad in [Some(""), Some("a b"), Some("a\"b"), Some("김"), Some(&*format!("{longest}a")), None] {
            assert!(made(&id(bad).await), "{bad:?}");
        }
        assert_ne!(id(None).await, id(None).await);
    }

    async fn metrics_have_bounded_labels(app: TestApp) {
        app.import_example();
        let user = app.sign_in("desk").await;
        let question = format!("query A {{ first: {EXAMPLE} {{ id }} ...More }} fragment More on Query {{ second: {EXAMPLE} {{ id }} viewer {{ __typename }} }}");
        user.graphql(&question).await;
        user.graphql(&question.replace("query A", "query B")).await;
        app.execute("UPDATE visit SET status = 'NO_SHOW' WHERE visit_no = '1'").await;
        user.graphql(&question).await;
        user.graphql_error("{ nothing }").await;
        user.graphql_error("{ node(id: \"x\") { id } }").await;
        for path in ["/a", "/b", "/graphiql/assets/c", "/graphiql/assets/d"] {
            assert_eq!(app.http().get(format!("{}{path}", app.base())).send().await.unwrap().status(), StatusCode::NOT_FOUND);
        }
        for method in ["BREW", "WHEN"] {
            let _ = app.http().request(Method::from_bytes(method.as_bytes()).unwrap(), format!("{}/graphql", app.base())).send().await.unwrap();
        }
        for (metric, value) in [
            ("root_field_seconds_count{type=\"query\",field=\"statistics\"}", 3),
            ("root_field_seconds_count{type=\"mutation\",field=\"signIn\"}", 1),
            ("operations_total{type=\"query\",code=\"OK\",status=\"200\"}", 3),
            ("operations_total{type=\"query\",code=\"GRAPHQL_VALIDATION_FAILED\",status=\"200\"}", 1),
            ("refusals_total{code=\"GRAPHQL_VALIDATION_FAILED\"}", 1),
            ("http_requests_total{route=\"none\",method=\"GET\",status=\"404\"}", 2),
            ("http_requests_total{route=\"/graphiql/assets/{name}\",method=\"GET\",status=\"404\"}", 2),
            ("http_requests_total{route=\"/graphql\",method=\"OTHER\",status=\"405\"}", 2),
            ("http_requests_in_flight", 1),
            ("ledgers", 1),
            ("ledger_loads_total", 1),
            ("ledger_load_seconds_count", 1),
            ("ledger_catch_up_seconds_count", 1),
            ("snapshot_writes_total", 2),
            ("database_failures_total", 0),
        ] {
            assert_eq!(app.metric(&format!("rollcall_{metric}")).await, value, "{metric}");
        }
        assert!(app.metric("rollcall_ledger_bytes").await > 0);
        let lookups = async |result| app.metric(&format!("rollcall_snapshot_lookups_total{{by=\"question\",result=\"{result}\"}}")).await;
        assert_eq!(lookups("hit").await + lookups("miss").await, 6);
        let pool = if app.kind() == DatabaseKind::Sqlite { "readers" } else { "all" };
        assert!(app.metric(&format!("rollcall_database_connections{{pool=\"{pool}\",state=\"idle\"}}")).await > 0);
    }

    async fn readiness_requires_migrations_and_a_writable_database(app: TestApp) {
        let readiness = async || {
            let response = app.http().get(format!("{}/readyz", app.base())).send().await.unwrap();
            (response.status(), response.json::<Value>().await.unwrap())
        };
        let ready = (StatusCode::OK, json!({"ready": true}));
        let not = |failed: &str| (StatusCode::SERVICE_UNAVAILABLE, json!({"ready": false, "failed": failed}));
        assert_eq!(readiness().await, ready);
        app.execute("INSERT INTO seaql_migrations (version, applied_at) VALUES ('m9999_of_a_later_version', 1)").await;
        assert_eq!(readiness().await, not("migrations"));
        app.execute("DELETE FROM seaql_migrations WHERE version = 'm9999_of_a_later_version'").await;
        assert_eq!(readiness().await, ready);
        app.execute("ALTER TABLE seaql_migrations RENAME TO steps_elsewhere").await;
        assert_eq!(readiness().await, not("migrations"));
        app.execute("ALTER TABLE steps_elsewhere RENAME TO seaql_migrations").await;
        assert_eq!(readiness().await, ready);
        // A read-only replica; the other databases cannot be made one without affecting their other users.
        if app.kind() == DatabaseKind::Postgres {
            let name = app.url.rsplit('/').next().unwrap().split('?').next().unwrap();
            app.execute(&format!("ALTER DATABASE {name} SET default_transaction_read_only = on")).await;
            app.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()").await;
            // A recently used connection is not tested first, so it may turn out to be closed.
            wait_until("the replica is read-only", async || readiness().await == not("writes")).await;
        }
    }
}
