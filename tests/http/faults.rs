//! What breaks: processes killed, databases that stall or are gone, a full disk, clients that leave. Nothing is lost, nothing
//! doubled, nothing wrong served; requests fail with a code, and recover.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use migration::{Migrator, MigratorTrait as _};
use reqwest::StatusCode;
use rollcall::config::LIMITS;
use rollcall::statistics::sha256;
use sea_orm::{
    ConnectionTrait as _, DatabaseTransaction, SqliteTransactionMode, Statement, TransactionOptions,
    TransactionTrait as _,
};
use serde_json::{Value, json};

use crate::harness::{App, EXAMPLE, KINDS, Kind, PASSWORD, SERVE, Server, on_each_database, until, with};
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

/// Every number of a year by weeks.
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

/// A question of its own that an answer carries an id of: it writes.
fn kept(day: u32) -> String {
    let day = chrono::NaiveDate::from_ymd_opt(2025, 9, 1).unwrap() + chrono::Days::new(u64::from(day));
    format!(
        "{{ statistics(period: MONTH, range: {{from: \"2025-05-01\", to: \"2025-06-30\"}}, asOf: \"{day}\") {{
            id buckets {{ visitors {{ digest }} newPatients {{ digest }} }} total {{ visitors {{ digest }} churnSuspected {{ digest }} }} }} }}"
    )
}

/// An answer, or none where the connection broke.
async fn try_post(app: &App, base: &str, token: &str, query: &str) -> Option<(StatusCode, Value)> {
    let request = app.client().post(format!("{base}/graphql")).bearer_auth(token);
    let answer = request.json(&json!({"query": query})).send().await.ok()?;
    Some((answer.status(), answer.json().await.ok()?))
}

async fn readiness(app: &App, base: &str) -> (StatusCode, Value) {
    let answer = app.client().get(format!("{base}/readyz")).send().await.unwrap();
    (answer.status(), answer.json().await.unwrap())
}

/// Each error of an answer says its code and a name to look for in the log, and nothing of the database's.
pub fn is_internal(answer: &Value) {
    let errors = answer["errors"].as_array().unwrap_or_else(|| panic!("{answer}"));
    assert!(!errors.is_empty(), "{answer}");
    for error in errors {
        assert_eq!(
            error["extensions"],
            json!({"code": "INTERNAL_SERVER_ERROR"}),
            "{answer}"
        );
        let said = error["message"].as_str().unwrap();
        let id = said.strip_prefix("internal error ").unwrap();
        let id = id.strip_suffix(": the server's log says more under this id").unwrap();
        assert!(
            id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit()),
            "{said}"
        );
    }
}

/// A server whose database can be held up: by a proxy before it, or on SQLite by somebody who is writing.
struct Held {
    server: Server,
    proxy: Option<Proxy>,
    writing: Option<DatabaseTransaction>,
}

impl Held {
    async fn new(app: &App) -> Self {
        let proxy = match app.kind() {
            Kind::Sqlite => None,
            _ => Some(Proxy::before(&app.url).await),
        };
        let url = proxy.as_ref().map_or(&app.url, |proxy| &proxy.url);
        let server = Server::start_as(app.command_at(url, SERVE).stderr(Stdio::null()));
        // What it does by itself when it starts is done.
        let statements = async || app.metric_at(&server.base, "rollcall_database_statements_total").await;
        until("it is quiet", async || {
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

    async fn hold(&mut self, app: &App) {
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

    async fn release(&mut self) {
        if let Some(proxy) = &self.proxy {
            proxy.resume();
        }
        if let Some(writing) = self.writing.take() {
            writing.rollback().await.unwrap();
        }
    }
}

on_each_database! {
    async fn a_killed_import_is_finished_by_running_it_again(app: App) {
        app.rollcall(&["hospital", "add", "--code", "H2", "--name", "Two", "--time-zone", "Asia/Seoul"]);
        app.rollcall_with(&["staff", "add", "--hospital", "H2", "--login", "desk", "--name", "Desk", "--role", "DESK"], PASSWORD);
        app.import("patients", "H2", &patients(3_000));
        app.import("visits", "H2", &visits(9_000, 3_000));

        let rows = async |table: &str| {
            app.number(&format!("SELECT COUNT(*) FROM {table} t JOIN hospital h ON h.id = t.hospital_id WHERE h.code = 'H1'")).await
        };
        for (kind, table, file, kills) in [
            ("patients", "patient", patients(3_000), vec![1]),
            ("visits", "visit", visits(9_000, 3_000), vec![1, 4_001]),
        ] {
            let file = app.file(&format!("{kind}.csv"), file);
            let args = ["import", kind, "--hospital", "H1", file.to_str().unwrap()];
            for enough in kills {
                let mut import = app.command(&args).stderr(Stdio::null()).spawn().unwrap();
                until("the import gets on", async || {
                    rows(table).await >= enough
                }).await;
                import.kill().unwrap();
                import.wait().unwrap();
            }
            let again = app.rollcall(&args);
            assert!(again.contains("0 changed") && again.contains("0 refused"), "{again}");
            assert!(app.rollcall(&args).starts_with("0 inserted, 0 changed"));
        }
        assert_eq!((rows("patient").await, rows("visit").await), (3_000, 9_000));
        let (disturbed, undisturbed) = (app.sign_in("desk").await, app.sign_in_at(app.base(), "H2", "desk").await);
        assert_eq!(disturbed.ask(&year()).await, undisturbed.ask(&year()).await);
    }

    async fn what_was_handed_out_opens_after_a_kill(app: App) {
        app.example();
        let user = app.sign_in("desk").await;
        let mut handed_out = Vec::new();
        for round in 0..4_u32 {
            let server = app.second_server();
            let mut asking = tokio::task::JoinSet::new();
            let answered = Arc::new(AtomicUsize::new(0));
            for client in 0..4 {
                let (http, url, token) = (app.client().clone(), format!("{}/graphql", server.base), user.token.clone());
                let answered = Arc::clone(&answered);
                asking.spawn(async move {
                    let mut answers = Vec::new();
                    for question in 0.. {
                        let query = kept(round * 1_000 + client * 200 + question);
                        let sent = http.post(&url).bearer_auth(&token).json(&json!({"query": query})).send().await;
                        let Ok(answer) = sent else { break };
                        let Ok(mut answer) = answer.json::<Value>().await else { break };
                        answers.push(answer["data"]["statistics"].take());
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                    answers
                });
            }
            until("some questions are answered", async || answered.load(Ordering::Relaxed) > 4).await;
            tokio::time::sleep(Duration::from_millis(rand::random::<u8>().into())).await;
            drop(server);
            handed_out.extend(asking.join_all().await.into_iter().flatten());
        }
        assert!(handed_out.len() > 10, "{}", handed_out.len());
        let open = "query ($id: ID!) { statisticsSnapshot(id: $id) { id buckets { visitors { digest } newPatients { digest } }
            total { visitors { digest } churnSuspected { digest } } } }";
        for answer in &handed_out {
            let opened = user.ask_with(open, json!({"id": answer["id"]})).await;
            assert_eq!(&opened["statisticsSnapshot"], answer);
        }
        // Whatever is kept is kept whole.
        let all = async |sql: &str| {
            let statement = Statement::from_string(app.sql.get_database_backend(), sql);
            app.sql.query_all_raw(statement).await.unwrap()
        };
        let mut whole = HashSet::from(["00".repeat(32)]);
        let (mut digest, mut bytes) = (String::new(), Vec::new());
        let mut close = |digest: &str, bytes: &[u8]| {
            if !digest.is_empty() {
                let of: String = sha256(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
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
                let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
                assert!(whole.contains(&digest));
            }
        }
    }

    async fn a_killed_migration_is_finished_by_running_it_again(app: App) {
        Migrator::down(&app.sql, None).await.unwrap();
        // From where the last one was killed.
        for after in [5, 20, 40, 60, 80, 100, 120, 140] {
            let mut migrate = app.command(&["migrate"]).stderr(Stdio::null()).spawn().unwrap();
            tokio::time::sleep(Duration::from_millis(after + u64::from(rand::random::<u8>() % 16))).await;
            migrate.kill().unwrap();
            migrate.wait().unwrap();
        }
        assert_eq!(app.rollcall(&["migrate"]), "the database is up to date\n");
        app.rollcall(&["hospital", "add", "--code", "H1", "--name", "One", "--time-zone", "Asia/Seoul"]);
        app.rollcall_with(&["staff", "add", "--hospital", "H1", "--login", "desk", "--name", "Desk", "--role", "DESK"], PASSWORD);
        app.example();
        let server = app.second_server();
        let user = app.sign_in_at(&server.base, "H1", "desk").await;
        let query = format!("{{ {EXAMPLE} {{ id total {{ visitors {{ visitCount }} }} }} }}");
        assert_eq!(user.ask(&query).await["statistics"]["total"]["visitors"]["visitCount"], 7);
        // Every trigger is there: the feed notes changes of all kinds.
        app.execute("UPDATE visit SET status = 'CANCELED' WHERE visit_no = '4'").await;
        app.execute("DELETE FROM visit WHERE visit_no = '5'").await;
        assert_eq!(user.ask(&query).await["statistics"]["total"]["visitors"]["visitCount"], 5);
    }

    async fn a_database_that_goes_away_comes_back(app: App) {
        if app.kind() == Kind::Sqlite {
            return;
        }
        app.example();
        let user = app.sign_in("desk").await;
        let mut proxy = Proxy::before(&app.url).await;
        let server = Server::start_as(app.command_at(&proxy.url, SERVE).stderr(Stdio::null()));
        let ask = async |day| try_post(app, &server.base, &user.token, &kept(day)).await.unwrap();
        let (_, before) = ask(0).await;
        assert!(before.get("errors").is_none(), "{before}");
        assert_eq!(readiness(app, &server.base).await, (StatusCode::OK, json!({"ready": true})));

        // Started again under load: what is on its way may fail, what is asked after that does not.
        let under_load = async {
            for day in 1..60 {
                let (_, answer) = ask(day).await;
                if answer.get("errors").is_some() {
                    is_internal(&answer);
                }
            }
        };
        let again = async {
            for _ in 0..3 {
                tokio::time::sleep(Duration::from_millis(60)).await;
                proxy.cut();
                tokio::time::sleep(Duration::from_millis(60)).await;
                proxy.open().await;
            }
        };
        tokio::join!(under_load, again);
        until("it is ready", async || readiness(app, &server.base).await.0 == StatusCode::OK).await;
        assert_eq!(ask(0).await.1, before);

        // Gone for long: requests end with a code, and the server says that it is not ready.
        proxy.cut();
        let gone = json!({"ready": false, "failed": "database"});
        let (first, second, ready) = tokio::join!(ask(0), ask(61), readiness(app, &server.base));
        assert_eq!(ready, (StatusCode::SERVICE_UNAVAILABLE, gone));
        is_internal(&first.1);
        is_internal(&second.1);
        let alive = app.client().get(format!("{}/healthz", server.base)).send().await.unwrap();
        assert_eq!(alive.status(), StatusCode::OK);
        proxy.open().await;
        until("it is ready again", async || readiness(app, &server.base).await.0 == StatusCode::OK).await;
        assert_eq!(ask(0).await.1, before);
        assert!(ask(61).await.1.get("errors").is_none());
    }

    async fn a_database_that_stalls_hangs_nobody(app: App) {
        if app.kind() == Kind::Sqlite {
            return;
        }
        app.example();
        let user = app.sign_in("desk").await;
        let proxy = Proxy::before(&app.url).await;
        let server = Server::start_as(app.command_at(&proxy.url, SERVE).stderr(Stdio::null()));
        let ask = async |day| try_post(app, &server.base, &user.token, &kept(day)).await.unwrap();
        let (_, before) = ask(0).await;
        proxy.stall();
        // More than there are connections: each ends in time.
        let begun = Instant::now();
        let many = futures_util::future::join_all((1..20).map(ask));
        let (answers, ready) = tokio::join!(many, readiness(app, &server.base));
        assert_eq!(ready, (StatusCode::SERVICE_UNAVAILABLE, json!({"ready": false, "failed": "database"})));
        assert!(begun.elapsed() < LIMITS.request + Duration::from_secs(10));
        for (status, answer) in answers {
            match status {
                StatusCode::GATEWAY_TIMEOUT => assert_eq!(answer["errors"][0]["extensions"]["code"], "REQUEST_TIMEOUT"),
                _ => is_internal(&answer),
            }
        }
        proxy.resume();
        until("it is ready again", async || readiness(app, &server.base).await.0 == StatusCode::OK).await;
        assert_eq!(ask(0).await.1, before);
        let answers = futures_util::future::join_all((1..20).map(ask)).await;
        assert!(answers.iter().all(|(_, answer)| answer.get("errors").is_none()));
    }

    async fn connections_that_are_never_answered_again_are_given_up(app: App) {
        if app.kind() == Kind::Sqlite {
            return;
        }
        app.example();
        let user = app.sign_in("desk").await;
        let proxy = Proxy::before(&app.url).await;
        let server = Server::start_as(app.command_at(&proxy.url, SERVE).stderr(Stdio::null()));
        let (stranded, url) = (AtomicBool::new(false), format!("{}/graphql", server.base));
        // As many as there are connections, in the middle of something, and with little patience.
        let clients = futures_util::future::join_all((0..16).map(async |client| {
            for question in 0.. {
                let query = json!({"query": kept(client * 500 + question)});
                let asked = app.client().post(&url).bearer_auth(&user.token).json(&query);
                let lost = stranded.load(Ordering::Relaxed);
                let _ = asked.timeout(Duration::from_millis(500)).send().await;
                if lost {
                    break;
                }
            }
        }));
        let strand = async {
            tokio::time::sleep(Duration::from_millis(400)).await;
            proxy.strand();
            stranded.store(true, Ordering::Relaxed);
        };
        tokio::join!(clients, strand);
        until("it is ready again", async || readiness(app, &server.base).await.0 == StatusCode::OK).await;
        // Whatever the lost ones hold locked is free once the database has given them up, too.
        let again = (9_000..9_016).map(async |day| {
            until("it is answered again", async || {
                let (_, answer) = try_post(app, &server.base, &user.token, &kept(day)).await.unwrap();
                answer.get("errors").is_none()
            })
            .await;
        });
        futures_util::future::join_all(again).await;
    }

    async fn who_goes_away_is_worked_for_no_more(app: App) {
        app.example();
        let user = app.sign_in("desk").await;
        let mut held = Held::new(app).await;
        let base = held.server.base.clone();
        held.hold(app).await;
        let impatient = app.client().post(format!("{base}/graphql")).bearer_auth(&user.token).json(&json!({"query": kept(0)}));
        impatient.timeout(Duration::from_millis(700)).send().await.unwrap_err();
        until("the request is over", async || app.metric_at(&base, "rollcall_http_requests_in_flight").await == 1).await;
        let line = "rollcall_http_requests_total{route=\"/graphql\",method=\"POST\",status=\"499\"}";
        assert_eq!(app.metric_at(&base, line).await, 1);
        let statements = async || app.metric_at(&base, "rollcall_database_statements_total").await;
        let before = statements().await;
        held.release().await;
        // A ledger goes on loading for the next question. Nothing else goes on.
        until("the ledger is loaded", async || app.metric_at(&base, "rollcall_ledger_loads_total").await == 1).await;
        let loaded = statements().await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!((statements().await, app.number("SELECT COUNT(*) FROM snapshot").await), (loaded, 0));
        assert!(loaded <= before + 5, "{before}, then {loaded}");
        let (_, answer) = try_post(app, &base, &user.token, &kept(0)).await.unwrap();
        assert!(answer.get("errors").is_none(), "{answer}");
    }

    async fn a_server_that_is_told_to_stop_finishes_first(app: App) {
        app.example();
        let user = app.sign_in("desk").await;
        let mut held = Held::new(app).await;
        let base = held.server.base.clone();
        held.hold(app).await;
        let query = kept(0);
        let asked = try_post(app, &base, &user.token, &query);
        let rest = async {
            until("it is in flight", async || app.metric_at(&base, "rollcall_http_requests_in_flight").await == 2).await;
            held.server.terminate();
            let stopping = json!({"ready": false, "failed": "stopping"});
            until("it says so", async || {
                // Who asked just before waits for the database that is held up.
                let ready = app.client().get(format!("{base}/readyz")).timeout(Duration::from_millis(300));
                match ready.send().await {
                    Ok(answer) => answer.json::<Value>().await.unwrap() == stopping,
                    Err(_) => false,
                }
            })
            .await;
            tokio::time::sleep(LIMITS.notice).await;
            held.release().await;
        };
        let (answer, ()) = tokio::join!(asked, rest);
        let (status, answer) = answer.unwrap();
        assert_eq!(status, StatusCode::OK);
        assert!(answer["data"]["statistics"]["id"].is_string(), "{answer}");
        assert_eq!(held.server.ended().await.code(), Some(0));
    }
}

/// A file may grow no further: that is what a full disk does to SQLite, but for the words.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_writes_and_no_more() {
    with(Kind::Sqlite, async |app| {
        app.example();
        let user = app.sign_in("desk").await;
        // The signal that comes with it would end the process; a full disk sends none.
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
        let server = Server::start_as(&mut serve);
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
            crate::harness::leave_out("prlimit is not there, so no disk is full");
            return;
        }
        is_internal(&ask(&kept(0)).await);
        assert_eq!(ask(&counts).await, before);
        assert!(ask("{ patients { totalCount } }").await.get("errors").is_none());
        assert_eq!(app.number("SELECT COUNT(*) FROM snapshot").await, 0);
        assert!(limit("unlimited:unlimited"));
        let answer = ask(&kept(0)).await;
        assert!(answer["data"]["statistics"]["id"].is_string(), "{answer}");
        let open = format!(
            "{{ statisticsSnapshot(id: {}) {{ id buckets {{ visitors {{ digest }} newPatients {{ digest }} }}
            total {{ visitors {{ digest }} churnSuspected {{ digest }} }} }} }}",
            answer["data"]["statistics"]["id"]
        );
        let opened = app.post(app.base(), Some(&user.token), &open, json!({})).await;
        assert_eq!(opened["data"]["statisticsSnapshot"], answer["data"]["statistics"]);
    })
    .await;
}
