//! Faults: killed processes, databases that stall or disappear, a full disk, disconnecting clients. Nothing is lost,
//! duplicated or wrong; requests fail with a code, and the server recovers.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use migration::{Migrator, MigratorTrait as _};
use reqwest::StatusCode;
use rollcall::config::Limits;
use sea_orm::{
    ConnectionTrait as _, DatabaseTransaction, SqliteTransactionMode, Statement, TransactionOptions,
    TransactionTrait as _,
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use test_support::{
    DatabaseKind, EXAMPLE, KINDS, PASSWORD, SERVE, TestApp, TestServer, on_each_database, wait_until, with_app,
};

use crate::proxy::Proxy;

pub fn patients(count: u32) -> String {
    (0..count).fold("chart_no,name,phone\n".to_owned(), |mut text, i| {
        writeln!(text, "P{i},Name {i},010-2{:03}-{i:04}", i % 1000).unwrap();
        text
    })
}

pub fn visits(count: u32, of: u32) -> String {
    let first = chrono::NaiveDate::from_ymd_opt(2025, 1, 1).unwrap();
    let statuses = ["COMPLETED", "ENDED", "NO_SHOW", "COMPLETED", "CANCELED", "BOOKED"];
    (0..count).fold(
        "visit_no,chart_no,date,status,department\n".to_owned(),
        |mut text, i| {
            let date = first + chrono::Days::new(u64::from(i * 7 % 330));
            let (status, department) = (statuses[i as usize % 6], i % 9);
            writeln!(text, "{i},P{},{date},{status},D{department}", i % of).unwrap();
            text
        },
    )
}

/// All counts of a year by week.
pub fn year() -> String {
    let cohorts = KINDS.iter().fold(String::new(), |mut text, kind| {
        write!(text, "{kind}: cohort(kind: {kind}) {{ patientCount visitCount }} ").unwrap();
        text
    });
    format!(
        "{{ statistics(period: WEEK, range: {{from: \"2025-01-01\", to: \"2025-12-31\"}}, asOf: \"2026-01-31\") {{
            buckets {{ {cohorts} }} total {{ {cohorts} }} }} }}"
    )
}

/// A distinct query that selects an ID, so that it writes.
fn query_with_id(day: u32) -> String {
    let day = chrono::NaiveDate::from_ymd_opt(2025, 9, 1).unwrap() + chrono::Days::new(u64::from(day));
    format!(
        "{{ statistics(period: MONTH, range: {{from: \"2025-05-01\", to: \"2025-06-30\"}}, asOf: \"{day}\") {{
            id buckets {{ visitors {{ digest }} newPatients {{ digest }} }} total {{ visitors {{ digest }} churnSuspected {{ digest }} }} }} }}"
    )
}

/// The response, or None if the connection broke.
async fn try_post(app: &TestApp, base: &str, token: &str, query: &str) -> Option<(StatusCode, Value)> {
    let request = app.http().post(format!("{base}/graphql")).bearer_auth(token);
    let response = request.json(&json!({"query": query})).send().await.ok()?;
    Some((response.status(), response.json().await.ok()?))
}

async fn readiness(app: &TestApp, base: &str) -> (StatusCode, Value) {
    let response = app.http().get(format!("{base}/readyz")).send().await.unwrap();
    (response.status(), response.json().await.unwrap())
}

/// Checks that each error has only the generic code and an ID for the log, and reveals nothing about the database.
pub fn is_internal(response: &Value) {
    let errors = response["errors"].as_array().unwrap_or_else(|| panic!("{response}"));
    assert!(!errors.is_empty(), "{response}");
    for error in errors {
        assert_eq!(
            error["extensions"],
            json!({"code": "INTERNAL_SERVER_ERROR"}),
            "{response}"
        );
        let message = error["message"].as_str().unwrap();
        let id = message.strip_prefix("internal error ").unwrap();
        let id = id.strip_suffix(": the server's log says more under this id").unwrap();
        assert!(
            id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit()),
            "{message}"
        );
    }
}

/// A server whose database can be stalled: by a proxy, or on SQLite by an open write transaction.
struct StallableServer {
    server: TestServer,
    proxy: Option<Proxy>,
    writing: Option<DatabaseTransaction>,
}

impl StallableServer {
    async fn new(app: &TestApp) -> Self {
        let proxy = match app.kind() {
            DatabaseKind::Sqlite => None,
            _ => Some(Proxy::in_front_of(&app.url).await),
        };
        let url = proxy.as_ref().map_or(&app.url, |proxy| &proxy.url);
        let server = TestServer::spawn(app.command_at(url, SERVE).stderr(Stdio::null()));
        // Waits for the background tasks at startup.
        let statements = async || app.metric_at(&server.base, "rollcall_database_statements_total").await;
        wait_until("startup tasks have finished", async || {
            let before = statements().await;
            tokio::time::sleep(Duration::from_millis(300)).await;
            statements().await == before
        })
        .await;
        Self {
            server,
            proxy,
            writing: None,
        }
    }

    async fn stall(&mut self, app: &TestApp) {
        match &self.proxy {
            Some(proxy) => proxy.stall(),
            None => {
                let options = TransactionOptions {
                    sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
                    ..TransactionOptions::default()
                };
                self.writing = Some(app.sql.begin_with_options(options).await.unwrap());
            }
        }
    }

    async fn resume(&mut self) {
        if let Some(proxy) = &self.proxy {
            proxy.resume();
        }
        if let Some(writing) = self.writing.take() {
            writing.rollback().await.unwrap();
        }
    }
}

on_each_database! {
    async fn a_killed_import_completes_when_rerun(app: TestApp) {
        app.run_cli(&["hospital", "add", "--code", "H2", "--name", "Two", "--time-zone", "Asia/Seoul"]);
        app.run_cli_with_input(&["staff", "add", "--hospital", "H2", "--login", "desk", "--name", "Front desk", "--role", "DESK"], PASSWORD);
        app.import("patients", "H2", &patients(3_000));
        app.import("visits", "H2", &visits(9_000, 3_000));

        let rows = async |table: &str| {
            app.query_number(&format!("SELECT COUNT(*) FROM {table} t JOIN hospital h ON h.id = t.hospital_id WHERE h.code = 'H1'")).await
        };
        for (kind, table, file, kills) in [
            ("patients", "patient", patients(3_000), vec![1]),
            ("visits", "visit", visits(9_000, 3_000), vec![1, 4_001]),
        ] {
            let file = app.write_file(&format!("{kind}.csv"), file);
            let args = ["import", kind, "--hospital", "H1", file.to_str().unwrap()];
            for enough in kills {
                let mut import = app.command(&args).stderr(Stdio::null()).spawn().unwrap();
                wait_until("the import makes progress", async || {
                    rows(table).await >= enough
                }).await;
                import.kill().unwrap();
                import.wait().unwrap();
            }
            let again = app.run_cli(&args);
            assert!(again.contains("0 changed") && again.contains("0 refused"), "{again}");
            assert!(app.run_cli(&args).contains(": 0 inserted, 0 changed"));
        }
        assert_eq!((rows("patient").await, rows("visit").await), (3_000, 9_000));
        let (disturbed, undisturbed) = (app.sign_in("desk").await, app.sign_in_at(app.base(), "H2", "desk").await);
        assert_eq!(disturbed.graphql(&year()).await, undisturbed.graphql(&year()).await);
    }

    async fn issued_snapshots_survive_a_killed_server(app: TestApp) {
        app.import_example();
        let user = app.sign_in("desk").await;
        let mut issued = Vec::new();
        for round in 0..4_u32 {
            let server = app.second_server();
            let mut asking = tokio::task::JoinSet::new();
            let answered = Arc::new(AtomicUsize::new(0));
            for client in 0..4 {
                let (http, url, token) = (app.http().clone(), format!("{}/graphql", server.base), user.token.clone());
                let answered = Arc::clone(&answered);
                asking.spawn(async move {
                    let mut responses = Vec::new();
                    for question in 0.. {
                        let query = query_with_id(round * 1_000 + client * 200 + question);
                        let sent = http.post(&url).bearer_auth(&token).json(&json!({"query": query})).send().await;
                        let Ok(response) = sent else { break };
                        let Ok(mut response) = response.json::<Value>().await else { break };
                        responses.push(response["data"]["statistics"].take());
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                    responses
                });
            }
            wait_until("some queries have succeeded", async || answered.load(Ordering::Relaxed) > 4).await;
            tokio::time::sleep(Duration::from_millis(rand::random::<u8>().into())).await;
            drop(server);
            issued.extend(asking.join_all().await.into_iter().flatten());
        }
        assert!(issued.len() > 10, "{}", issued.len());
        let open = "query ($id: ID!) { statisticsSnapshot(id: $id) { id buckets { visitors { digest } newPatients { digest } }
            total { visitors { digest } churnSuspected { digest } } } }";
        for response in &issued {
            let opened = user.graphql_with(open, json!({"id": response["id"]})).await;
            assert_eq!(&opened["statisticsSnapshot"], response);
        }
        // Everything that is stored is complete.
        let all = async |sql: &str| {
            let statement = Statement::from_string(app.sql.get_database_backend(), sql);
            app.sql.query_all_raw(statement).await.unwrap()
        };
        let mut whole = HashSet::from(["00".repeat(32)]);
        let (mut digest, mut bytes) = (String::new(), Vec::new());
        let mut close = |digest: &str, bytes: &[u8]| {
            if !digest.is_empty() {
                let of = hex::encode(Sha256::digest(bytes));
                assert_eq!(of, digest);
                whole.insert(of);
            }
        };
        for part in all("SELECT digest, bytes FROM list_part ORDER BY hospital_id, digest, part").await {
            let (of, piece): (String, Vec<u8>) = (part.try_get_by_index(0).unwrap(), part.try_get_by_index(1).unwrap());
            if of != digest {
                close(&digest, &bytes);
                bytes.clear();
                digest = of;
            }
            bytes.extend(piece);
        }
        close(&digest, &bytes);
        for row in all("SELECT manifest FROM snapshot").await {
            let manifest: Vec<u8> = row.try_get_by_index(0).unwrap();
            for digest in manifest.chunks(32) {
                let digest = hex::encode(digest);
                assert!(whole.contains(&digest));
            }
        }
    }

    async fn a_killed_migration_completes_when_rerun(app: TestApp) {
        Migrator::down(&app.sql, None).await.unwrap();
        // Each run continues where the last one was killed.
        for after in [5, 20, 40, 60, 80, 100, 120, 140] {
            let mut migrate = app.command(&["migrate"]).stderr(Stdio::null()).spawn().unwrap();
            tokio::time::sleep(Duration::from_millis(after + u64::from(rand::random::<u8>() % 16))).await;
            migrate.kill().unwrap();
            migrate.wait().unwrap();
        }
        assert_eq!(app.run_cli(&["migrate"]), "the database is up to date\n");
        app.run_cli(&["hospital", "add", "--code", "H1", "--name", "One", "--time-zone", "Asia/Seoul"]);
        app.run_cli_with_input(&["staff", "add", "--hospital", "H1", "--login", "desk", "--name", "Front desk", "--role", "DESK"], PASSWORD);
        app.import_example();
        let server = app.second_server();
        let user = app.sign_in_at(&server.base, "H1", "desk").await;
        let query = format!("{{ {EXAMPLE} {{ id total {{ visitors {{ visitCount }} }} }} }}");
        assert_eq!(user.graphql(&query).await["statistics"]["total"]["visitors"]["visitCount"], 7);
        // All triggers exist: the feed records all kinds of changes.
        app.execute("UPDATE visit SET status = 'CANCELED' WHERE visit_no = '4'").await;
        app.execute("DELETE FROM visit WHERE visit_no = '5'").await;
        assert_eq!(user.graphql(&query).await["statistics"]["total"]["visitors"]["visitCount"], 5);
    }

    async fn the_server_recovers_from_a_lost_database(app: TestApp) {
        if app.kind() == DatabaseKind::Sqlite {
            return;
        }
        app.import_example();
        let user = app.sign_in("desk").await;
        let mut proxy = Proxy::in_front_of(&app.url).await;
        let server = TestServer::spawn(app.command_at(&proxy.url, SERVE).stderr(Stdio::null()));
        let ask = async |day| try_post(app, &server.base, &user.token, &query_with_id(day)).await.unwrap();
        let (_, before) = ask(0).await;
        assert!(before.get("errors").is_none(), "{before}");
        assert_eq!(readiness(app, &server.base).await, (StatusCode::OK, json!({"ready": true})));

        // Restarted under load: requests in flight may fail, later ones may not.
        let under_load = async {
            for day in 1..60 {
                let (_, response) = ask(day).await;
                if response.get("errors").is_some() {
                    is_internal(&response);
                }
            }
        };
        let again = async {
            for _ in 0..3 {
                tokio::time::sleep(Duration::from_millis(60)).await;
                proxy.disconnect();
                tokio::time::sleep(Duration::from_millis(60)).await;
                proxy.open().await;
            }
        };
        tokio::join!(under_load, again);
        wait_until("the server is ready", async || readiness(app, &server.base).await.0 == StatusCode::OK).await;
        assert_eq!(ask(0).await.1, before);

        // Unavailable for longer: requests fail with a code, and the server reports that it is not ready.
        proxy.disconnect();
        let gone = json!({"ready": false, "failed": "database"});
        let (first, second, ready) = tokio::join!(ask(0), ask(61), readiness(app, &server.base));
        assert_eq!(ready, (StatusCode::SERVICE_UNAVAILABLE, gone));
        is_internal(&first.1);
        is_internal(&second.1);
        let alive = app.http().get(format!("{}/healthz", server.base)).send().await.unwrap();
        assert_eq!(alive.status(), StatusCode::OK);
        proxy.open().await;
        wait_until("the server is ready again", async || readiness(app, &server.base).await.0 == StatusCode::OK).await;
        assert_eq!(ask(0).await.1, before);
        assert!(ask(61).await.1.get("errors").is_none());
    }

    async fn requests_time_out_when_the_database_stalls(app: TestApp) {
        if app.kind() == DatabaseKind::Sqlite {
            return;
        }
        app.import_example();
        let user = app.sign_in("desk").await;
        let proxy = Proxy::in_front_of(&app.url).await;
        let server = TestServer::spawn(app.command_at(&proxy.url, SERVE).stderr(Stdio::null()));
        let ask = async |day| try_post(app, &server.base, &user.token, &query_with_id(day)).await.unwrap();
        let (_, before) = ask(0).await;
        proxy.stall();
        // More requests than connections: each ends within the time limit.
        let started = Instant::now();
        let many = futures_util::future::join_all((1..20).map(ask));
        let (responses, ready) = tokio::join!(many, readiness(app, &server.base));
        assert_eq!(ready, (StatusCode::SERVICE_UNAVAILABLE, json!({"ready": false, "failed": "database"})));
        assert!(started.elapsed() < Limits::default().request_timeout + Duration::from_secs(10));
        for (status, response) in responses {
            match status {
                StatusCode::GATEWAY_TIMEOUT => assert_eq!(response["errors"][0]["extensions"]["code"], "REQUEST_TIMEOUT"),
                _ => is_internal(&response),
            }
        }
        proxy.resume();
        wait_until("the server is ready again", async || readiness(app, &server.base).await.0 == StatusCode::OK).await;
        assert_eq!(ask(0).await.1, before);
        let responses = futures_util::future::join_all((1..20).map(ask)).await;
        assert!(responses.iter().all(|(_, response)| response.get("errors").is_none()));
    }

    async fn dead_database_connections_are_discarded(app: TestApp) {
        if app.kind() == DatabaseKind::Sqlite {
            return;
        }
        app.import_example();
        let user = app.sign_in("desk").await;
        let proxy = Proxy::in_front_of(&app.url).await;
        let server = TestServer::spawn(app.command_at(&proxy.url, SERVE).stderr(Stdio::null()));
        let (blackholed, url) = (AtomicBool::new(false), format!("{}/graphql", server.base));
        // As many as there are connections, with requests in progress, and short timeouts.
        let clients = futures_util::future::join_all((0..16).map(async |client| {
            for question in 0.. {
                let query = json!({"query": query_with_id(client * 500 + question)});
                let pending = app.http().post(&url).bearer_auth(&user.token).json(&query);
                let lost = blackholed.load(Ordering::Relaxed);
                let _ = pending.timeout(Duration::from_millis(500)).send().await;
                if lost {
                    break;
                }
            }
        }));
        let blackhole = async {
            tokio::time::sleep(Duration::from_millis(400)).await;
            proxy.blackhole();
            blackholed.store(true, Ordering::Relaxed);
        };
        tokio::join!(clients, blackhole);
        wait_until("the server is ready again", async || readiness(app, &server.base).await.0 == StatusCode::OK).await;
        // Locks of the lost connections are released once the database has dropped them, too.
        let again = (9_000..9_016).map(async |day| {
            wait_until("queries succeed again", async || {
                let (_, response) = try_post(app, &server.base, &user.token, &query_with_id(day)).await.unwrap();
                response.get("errors").is_none()
            })
            .await;
        });
        futures_util::future::join_all(again).await;
    }

    async fn a_disconnected_client_cancels_its_request(app: TestApp) {
        app.import_example();
        let user = app.sign_in("desk").await;
        let mut stallable = StallableServer::new(app).await;
        let base = stallable.server.base.clone();
        stallable.stall(app).await;
        let timed_request = app.http().post(format!("{base}/graphql")).bearer_auth(&user.token).json(&json!({"query": query_with_id(0)}));
        timed_request.timeout(Duration::from_millis(700)).send().await.unwrap_err();
        wait_until("the request is over", async || app.metric_at(&base, "rollcall_http_requests_in_flight").await == 1).await;
        let line = "rollcall_http_requests_total{route=\"/graphql\",method=\"POST\",status=\"499\"}";
        assert_eq!(app.metric_at(&base, line).await, 1);
        let statements = async || app.metric_at(&base, "rollcall_database_statements_total").await;
        let before = statements().await;
        stallable.resume().await;
        // Loading the ledger continues for the next query; nothing else does.
        wait_until("the ledger is loaded", async || app.metric_at(&base, "rollcall_ledger_loads_total").await == 1).await;
        let loaded = statements().await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!((statements().await, app.query_number("SELECT COUNT(*) FROM snapshot").await), (loaded, 0));
        assert!(loaded <= before + 5, "{before}, then {loaded}");
        let (_, response) = try_post(app, &base, &user.token, &query_with_id(0)).await.unwrap();
        assert!(response.get("errors").is_none(), "{response}");
    }

    async fn a_stopping_server_finishes_its_requests(app: TestApp) {
        app.import_example();
        let user = app.sign_in("desk").await;
        let mut stallable = StallableServer::new(app).await;
        let base = stallable.server.base.clone();
        stallable.stall(app).await;
        let query = query_with_id(0);
        let pending = try_post(app, &base, &user.token, &query);
        let rest = async {
            wait_until("the request is in flight", async || app.metric_at(&base, "rollcall_http_requests_in_flight").await == 2).await;
            stallable.server.terminate();
            let stopping = json!({"ready": false, "failed": "stopping"});
            wait_until("the server reports that it is stopping", async || {
                // A check that started just before waits for the stalled database.
                let ready = app.http().get(format!("{base}/readyz")).timeout(Duration::from_millis(300));
                match ready.send().await {
                    Ok(response) => response.json::<Value>().await.unwrap() == stopping,
                    Err(_) => false,
                }
            })
            .await;
            tokio::time::sleep(Limits::default().shutdown_notice).await;
            stallable.resume().await;
        };
        let (response, ()) = tokio::join!(pending, rest);
        let (status, response) = response.unwrap();
        assert_eq!(status, StatusCode::OK);
        assert!(response["data"]["statistics"]["id"].is_string(), "{response}");
        assert_eq!(stallable.server.wait().await.code(), Some(0));
    }
}

/// A file size limit, which affects SQLite like a full disk except for the error message.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_fails_only_writes() {
    with_app!(DatabaseKind::Sqlite, async |app| {
        app.import_example();
        let user = app.sign_in("desk").await;
        // The signal would end the process; a full disk sends none.
        let mut serve = Command::new("sh");
        let rollcall = app.command(SERVE);
        serve
            .args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""])
            .arg(rollcall.get_program())
            .args(rollcall.get_args());
        serve.envs(rollcall.get_envs().filter_map(|(name, value)| Some((name, value?))));
        serve
            .current_dir(rollcall.get_current_dir().unwrap())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let server = TestServer::spawn(&mut serve);
        let limit = |size: &str| {
            let arguments = ["--pid", &server.id().to_string(), &format!("--fsize={size}")].map(str::to_owned);
            Command::new("prlimit")
                .args(arguments)
                .status()
                .is_ok_and(|status| status.success())
        };
        let ask = async |query: &str| try_post(app, &server.base, &user.token, query).await.unwrap().1;
        let counts = format!("{{ {EXAMPLE} {{ total {{ visitors {{ patientCount }} }} }} }}");
        let before = ask(&counts).await;
        if !limit("1000:unlimited") {
            test_support::report_skipped("prlimit is not installed");
            return;
        }
        is_internal(&ask(&query_with_id(0)).await);
        assert_eq!(ask(&counts).await, before);
        assert!(ask("{ patients { totalCount } }").await.get("errors").is_none());
        assert_eq!(app.query_number("SELECT COUNT(*) FROM snapshot").await, 0);
        assert!(limit("unlimited:unlimited"));
        let response = ask(&query_with_id(0)).await;
        assert!(response["data"]["statistics"]["id"].is_string(), "{response}");
        let open = format!(
            "{{ statisticsSnapshot(id: {}) {{ id buckets {{ visitors {{ digest }} newPatients {{ digest }} }}
            total {{ visitors {{ digest }} churnSuspected {{ digest }} }} }} }}",
            response["data"]["statistics"]["id"]
        );
        let opened = app.post(app.base(), Some(&user.token), &open, json!({})).await;
        assert_eq!(opened["data"]["statisticsSnapshot"], response["data"]["statistics"]);
    })
    .await;
}
