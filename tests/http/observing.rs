//! What is seen from outside: the log, metrics, traces, readiness. And what is not: anything of a patient.

use std::process::Command;
use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::{App, EXAMPLE, Kind, PASSWORD, SERVE, Server, on_each_database, until};

/// A patient who is in no other data, and whatever of it or of who asks would be recognised.
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

/// Takes traces as a collector does.
pub async fn collector() -> (String, Arc<Mutex<Vec<u8>>>) {
    let spans = Arc::new(Mutex::new(Vec::new()));
    let taken = Arc::clone(&spans);
    let take = async move |body: Bytes| taken.lock().unwrap().extend_from_slice(&body);
    let router = axum::Router::new().route("/v1/traces", axum::routing::post(take));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, spans)
}

/// A server that says everything, and the file of that name that it says it in.
pub fn talking(app: &App, name: &str, change: impl FnOnce(&mut Command)) -> (Server, std::path::PathBuf) {
    let path = app.file(name, "");
    let mut serve = app.command(SERVE);
    serve
        .env("ROLLCALL_LOG", "trace")
        .stderr(std::fs::File::create(&path).unwrap());
    change(&mut serve);
    (Server::start_as(&mut serve), path)
}

fn lines(log: &std::path::Path) -> Vec<Value> {
    let text = std::fs::read_to_string(log).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}")))
        .collect()
}

on_each_database! {
    async fn nothing_of_a_patient_is_seen(app: App) {
        app.import("patients", "H1", PATIENTS);
        app.import("visits", "H1", VISITS);
        let (collector, spans) = collector().await;
        let (server, log) = talking(app, "log", |serve| {
            serve.env("OTEL_EXPORTER_OTLP_ENDPOINT", collector);
        });
        let desk = app.sign_in_at(&server.base, "H1", "desk").await;
        let support = app.sign_in_at(&server.base, "H1", "support").await;
        let send = async |id: &str, token: &str, body: Value| {
            let request = app.client().post(format!("{}/graphql", server.base)).bearer_auth(token).header("x-request-id", id);
            request.json(&body).send().await.unwrap().json::<Value>().await.unwrap()
        };
        let search = "query Find($text: String) { patients(filter: { search: $text }) { totalCount nodes { name phone chartNo birthDate } } }";
        for text in ["Zebulon", "010-9876-5432", "CH-7731", "천둥"] {
            let found = send("finding", &desk.token, json!({"query": search, "variables": {"text": text}})).await;
            assert_eq!(found["data"]["patients"]["totalCount"], 1, "{text}: {found}");
            send("finding", &support.token, json!({"query": search, "variables": {"text": text}})).await;
        }
        let inline = r#"{ patients(filter: { search: "Zebulon Quux" }) { nodes { name phone visits { nodes { visitNo } } } } }"#;
        assert!(send("inline", &desk.token, json!({"query": inline})).await.get("errors").is_none());
        let kept = format!("query Board {{ {EXAMPLE} {{ id total {{ visitors {{ patients(orderBy: {{field: NAME}}) {{ nodes {{ name phone }} }} }} }} }} }}");
        assert!(send("board", &desk.token, json!({"query": kept})).await.get("errors").is_none());
        // Whatever is wrong with a request, it may hold a name.
        for query in [r#"{ patients(filter: { search: "Zebulon Quux" "#, r#"{ patients(filter: { nobody: "Zebulon Quux" }) { totalCount } }"#,
            r#"{ node(id: "Zebulon Quux CH-7731") { id } }"#, "query Zebulon_Quux { nothing }"] {
            assert!(send("wrong", &desk.token, json!({"query": query, "operationName": "Zebulon Quux"})).await.get("errors").is_some());
            if !query.starts_with("query") {
                assert!(send("wrong", &desk.token, json!({"query": query})).await.get("errors").is_some());
            }
        }
        for path in ["/graphql?query=%7Bpatients(filter:%7Bsearch:%22Zebulon%22%7D)%7Bid%7D%7D", "/patients/Zebulon", "/graphiql/assets/Zebulon",
            "/healthz?name=Zebulon"] {
            let _ = app.client().get(format!("{}{path}", server.base)).header("x-request-id", "Zebulon Quux").send().await.unwrap();
        }
        let _ = app.client().request(Method::from_bytes(b"ZEBULON").unwrap(), format!("{}/graphql", server.base)).send().await.unwrap();
        // Changes, and one whose error the database tells with the value in it.
        let register = "mutation Register($input: RegisterPatientInput!) { registerPatient(input: $input) { patient { name phone memo } } }";
        app.execute("CREATE UNIQUE INDEX one_of_a_name ON patient (hospital_id, name)").await;
        for (chart_no, code) in [("CH-7733", Value::Null), ("CH-7734", json!("INTERNAL_SERVER_ERROR")), ("CH-7731", json!("BAD_USER_INPUT"))] {
            let input = json!({"chartNo": chart_no, "name": "Quux the Third", "phone": "010-9876-5434", "memo": "allergic to quince"});
            let answer = send("registering", &desk.token, json!({"query": register, "variables": {"input": input}})).await;
            assert_eq!(answer["errors"][0]["extensions"]["code"], code, "{answer}");
        }
        // What is not the caller's doing.
        app.execute("DROP TABLE patient_tombstone").await;
        let gone = "query Gone { node(id: \"UIE\") { id } }";
        let answer = send("broken-1", &desk.token, json!({"query": gone})).await;

        server.terminate();
        assert!(server.ended().await.success());
        let said = std::fs::read_to_string(&log).unwrap();
        let spans = String::from_utf8_lossy(&spans.lock().unwrap()).into_owned();
        for (what, text) in [("log", &said), ("traces", &spans)] {
            for personal in PERSONAL.iter().chain([&desk.token.as_str(), &support.token.as_str()]) {
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
        for span in ["request", "operation", "reporting.ask", "ledger.load", "resolve", "reporting.keep", "Board"] {
            assert!(spans.contains(span), "{span}");
        }
        // The name that the client was shown stands beside the request's.
        let broken = of("broken-1")[0];
        let message = answer["errors"][0]["message"].as_str().unwrap();
        let incident = message.split_whitespace().nth(2).unwrap().trim_end_matches(':');
        assert_eq!((&broken["incidents"], &broken["codes"]), (&json!(incident), &json!("INTERNAL_SERVER_ERROR")), "{answer}");
        let told = lines.iter().find(|line| line["incident"] == incident).unwrap();
        assert_eq!((&told["level"], &told["spans"][0]["request_id"]), (&json!("ERROR"), &json!("broken-1")));
        assert!(told["message"].as_str().unwrap().contains("patient_tombstone"), "{told}");
    }

    async fn each_request_has_an_id(app: App) {
        let id = async |theirs: Option<&str>| {
            let mut request = app.client().get(format!("{}/healthz", app.base()));
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

    async fn metrics_say_what_was_asked_in_few_words(app: App) {
        app.example();
        let user = app.sign_in("desk").await;
        let question = format!("query A {{ first: {EXAMPLE} {{ id }} ...More }} fragment More on Query {{ second: {EXAMPLE} {{ id }} viewer {{ __typename }} }}");
        user.ask(&question).await;
        user.ask(&question.replace("query A", "query B")).await;
        app.execute("UPDATE visit SET status = 'NO_SHOW' WHERE visit_no = '1'").await;
        user.ask(&question).await;
        user.refused("{ nothing }").await;
        user.refused("{ node(id: \"x\") { id } }").await;
        for path in ["/a", "/b", "/graphiql/assets/c", "/graphiql/assets/d"] {
            assert_eq!(app.client().get(format!("{}{path}", app.base())).send().await.unwrap().status(), StatusCode::NOT_FOUND);
        }
        for method in ["BREW", "WHEN"] {
            let _ = app.client().request(Method::from_bytes(method.as_bytes()).unwrap(), format!("{}/graphql", app.base())).send().await.unwrap();
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
        let pool = if app.kind() == Kind::Sqlite { "readers" } else { "all" };
        assert!(app.metric(&format!("rollcall_database_connections{{pool=\"{pool}\",state=\"idle\"}}")).await > 0);
    }

    async fn ready_is_who_has_the_steps_and_may_write(app: App) {
        let readiness = async || {
            let answer = app.client().get(format!("{}/readyz", app.base())).send().await.unwrap();
            (answer.status(), answer.json::<Value>().await.unwrap())
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
        // A replica can be read and no more; the other databases cannot be made one without their other users.
        if app.kind() == Kind::Postgres {
            let name = app.url.rsplit('/').next().unwrap();
            app.execute(&format!("ALTER DATABASE {name} SET default_transaction_read_only = on")).await;
            app.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()").await;
            // A connection that was in use a moment ago is not tried first: it may be asked, and found to be gone.
            until("it can be read and no more", async || readiness().await == not("writes")).await;
        }
    }
}
