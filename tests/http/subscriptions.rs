//! Subscriptions over WebSockets: what is sent when, to whom, at what cost, and how connections end.

use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use test_support::{
    DatabaseKind, EXAMPLE, PASSWORD, SERVE, TestApp, TestServer, on_each_database, wait_until, with_app,
};
use tokio_tungstenite::tungstenite::Message;

use crate::authorization_matrix::{ROLES, rule_of};
use crate::live_client::{LiveClient, authorization};

const NUMBERS: &str = "revision total { visitors { patientCount visitCount } newPatients { patientCount patientIds } }";
const DAY: &str =
    "subscription { visitsOn(date: \"2025-05-11\") { date visits { status patient { chartNo name phone } } } }";

fn statistics(selection: &str) -> String {
    format!("subscription Numbers {{ {EXAMPLE} {{ {selection} }} }}")
}

/// Sets the status of one of the example's visits.
async fn set_status(app: &TestApp, visit: u32, status: &str) {
    app.execute(&format!(
        "UPDATE visit SET status = '{status}' WHERE visit_no = '{visit}'"
    ))
    .await;
}

fn server(app: &TestApp, flags: &[&str]) -> TestServer {
    let args: Vec<&str> = SERVE.iter().chain(flags).copied().collect();
    TestServer::spawn(app.command(&args).stderr(Stdio::inherit()))
}

async fn signed_in<'a>(app: &'a TestApp, login: &str) -> (test_support::Client<'a>, LiveClient) {
    let user = app.sign_in(login).await;
    let live = LiveClient::signed_in(app.base(), &user.token).await;
    (user, live)
}

on_each_database! {
    async fn statistics_arrive_at_once_and_after_each_change(app: TestApp) {
        app.import_example();
        let (admin, mut live) = signed_in(app, "admin").await;
        let query = format!("{{ {EXAMPLE} {{ {NUMBERS} }} }}");
        live.subscribe("numbers", &statistics(NUMBERS), json!({})).await;
        let mut last = live.data("numbers").await;
        assert_eq!(last, admin.graphql(&query).await, "the answer is that of a query");
        assert_eq!(last["statistics"]["total"]["visitors"]["patientCount"], 4);
        let second = app.second_server();
        let other = app.sign_in_at(&second.base, "H1", "admin").await;
        let ann = admin.graphql("{ patients(first: 1) { nodes { id } } }").await["patients"]["nodes"][0]["id"].take();
        let record = |date: &str| json!({"patientId": ann, "date": date, "status": "COMPLETED", "reason": "Written down late"});
        for change in 0..4 {
            match change {
                0 => drop(admin.mutate("recordVisit", record("2025-05-20"), "visit { id }").await),
                1 => drop(other.mutate("recordVisit", record("2025-05-21"), "visit { id }").await),
                2 => set_status(app, 11, "COMPLETED").await,
                _ => drop(app.import("visits", "H1", "visit_no,chart_no,date,status\n20,E,2025-06-20,COMPLETED\n")),
            }
            // Of an import there may be several revisions.
            let wanted = admin.graphql(&query).await;
            assert_ne!(last, wanted);
            while last != wanted {
                last = live.data("numbers").await;
            }
        }
        // What moves no number sends nothing: the next answer is that of the next change.
        app.execute("UPDATE patient SET memo = NULL, phone = NULL WHERE chart_no = 'B'").await;
        tokio::time::sleep(Duration::from_millis(1_700)).await;
        live.ping(json!({})).await;
        assert!(live.is_quiet());
        set_status(app, 11, "CANCELED").await;
        assert_eq!(live.data("numbers").await, admin.graphql(&query).await);
        // Once the client has completed it, nothing is sent, and the id is free.
        live.send(json!({"type": "complete", "id": "numbers"})).await;
        live.subscribe("numbers", "subscription { visitsOn(date: \"2025-06-15\") { visits { status } } }", json!({})).await;
        assert_eq!(live.data("numbers").await["visitsOn"]["visits"], json!([{"status": "CANCELED"}]));
    }

    async fn at_most_one_answer_a_second_is_sent(app: TestApp) {
        app.import_example();
        let (_, mut live) = signed_in(app, "desk").await;
        live.subscribe("1", &statistics(NUMBERS), json!({})).await;
        let started = Instant::now();
        live.data("1").await;
        let mut answers = 1;
        let wanted = loop {
            let status = if answers % 2 == 0 { "COMPLETED" } else { "CANCELED" };
            for visit in [1, 2, 4, 6] {
                set_status(app, visit, status).await;
            }
            live.data("1").await;
            answers += 1;
            if answers == 5 {
                break started.elapsed().as_secs() + 2;
            }
        };
        assert!(answers <= wanted, "{answers} answers in {:?}", started.elapsed());
    }

    async fn equal_questions_are_answered_once(app: TestApp) {
        app.import_example();
        let desk = app.sign_in("desk").await;
        let support = app.sign_in("support").await;
        let mut subscribers = Vec::new();
        for number in 0..40 {
            let token = if number % 2 == 0 { &desk.token } else { &support.token };
            let mut live = LiveClient::signed_in(app.base(), token).await;
            live.subscribe("1", &statistics(NUMBERS), json!({})).await;
            live.data("1").await;
            subscribers.push(live);
        }
        let count = async |name: &str| app.metric(&format!("rollcall_{name}")).await;
        assert_eq!((count("live_connections").await, count("live_subscriptions").await), (40, 40));
        let before = (count("live_answers_total").await, count("database_statements_total").await, count("snapshot_lookups_total{by=\"question\",result=\"miss\"}").await);
        set_status(app, 1, "CANCELED").await;
        for live in &mut subscribers {
            assert_eq!(live.data("1").await["statistics"]["total"]["visitors"]["visitCount"], 6);
        }
        let after = (count("live_answers_total").await, count("database_statements_total").await, count("snapshot_lookups_total{by=\"question\",result=\"miss\"}").await);
        // One answer for each of the two roles; both roles' questions are the same, and are resolved once.
        assert_eq!(after.0 - before.0, 2);
        assert!(after.1 - before.1 < 20, "{} statements", after.1 - before.1);
        assert!(after.2 - before.2 <= 2);
        // Each role sees what it may, though the question is the same.
        for live in subscribers.iter_mut().take(2) {
            live.subscribe("2", DAY, json!({})).await;
        }
        assert_eq!(subscribers[0].data("2").await["visitsOn"]["visits"][0]["patient"]["name"], "Ann Ash");
        assert_eq!(subscribers[1].data("2").await["visitsOn"]["visits"][0]["patient"]["name"], "A** A**");
        drop(subscribers);
        wait_until("the connections are closed", async || {
            count("live_connections").await == 0 && count("live_subscriptions").await == 0
        })
        .await;
        // Nobody subscribes, so nothing is asked. Other jobs may ask something each minute.
        wait_until("the server is quiet", async || {
            let before = count("database_statements_total").await;
            tokio::time::sleep(Duration::from_secs(3)).await;
            count("database_statements_total").await == before
        })
        .await;
    }

    async fn what_depends_on_the_viewer_is_not_shared(app: TestApp) {
        app.import_example();
        app.run_cli_with_input(&["staff", "add", "--hospital", "H1", "--login", "desk2", "--name", "Second", "--role", "desk"], PASSWORD);
        let (desk, mut first) = signed_in(app, "desk").await;
        let (_, mut second) = signed_in(app, "desk2").await;
        let file = desk.upload("chart_no\n1\n").await;
        let id = desk.mutate("prepareImport", json!({"fileId": file, "kind": "PATIENTS"}), "import { id }").await["import"]["id"].take();
        wait_until("the import is checked", async || {
            desk.graphql(&format!("{{ import(id: {id}) {{ state }} }}")).await["import"]["state"] == "READY"
        })
        .await;
        for (live, login) in [(&mut second, Value::Null), (&mut first, json!("desk"))] {
            live.subscribe("1", "subscription ($id: ID!) { importProgress(id: $id) { by { login name } } }", json!({"id": id})).await;
            assert_eq!(live.data("1").await["importProgress"]["by"]["login"], login);
        }
    }

    async fn a_days_visits_are_audited_once_for_each_patient(app: TestApp) {
        app.import_example();
        let (desk, mut live) = signed_in(app, "desk").await;
        let admin = app.sign_in("admin").await;
        let query = "{ audit(first: 100, filter: {actions: [SUBSCRIBED, VIEWED_PATIENTS, OPENED_LIST, REFUSED]}) { nodes { action what patientIds staff { login } } } }";
        let entries = async || admin.graphql(query).await["audit"]["nodes"].take();
        live.subscribe("1", DAY, json!({})).await;
        assert_eq!(live.data("1").await["visitsOn"]["visits"], json!([{"status": "COMPLETED", "patient": {"chartNo": "A", "name": "Ann Ash", "phone": "+821011110001"}}]));
        set_status(app, 1, "NO_SHOW").await;
        assert_eq!(live.data("1").await["visitsOn"]["visits"][0]["status"], "NO_SHOW");
        let found = entries().await;
        assert_eq!(found.as_array().unwrap().len(), 2, "{found}");
        assert_eq!((&found[1]["action"], &found[1]["what"], &found[1]["staff"]["login"]), (&json!("SUBSCRIBED"), &json!("visitsOn"), &json!("desk")));
        assert_eq!((&found[0]["action"], found[0]["patientIds"].as_array().unwrap().len()), (&json!("VIEWED_PATIENTS"), 1));
        app.import("visits", "H1", "visit_no,chart_no,date,status\n21,B,2025-05-11,COMPLETED\n");
        assert_eq!(live.data("1").await["visitsOn"]["visits"].as_array().unwrap().len(), 2);
        let found = entries().await;
        assert_eq!(found.as_array().unwrap().len(), 3, "{found}");
        assert_ne!(found[0]["patientIds"], found[1]["patientIds"], "only who was not shown before");
        // Numbers have nothing personal; the patients of a page have.
        live.subscribe("2", &statistics("total { visitors { visitCount patients(first: 2) { totalCount nodes { chartNo } } } }"), json!({})).await;
        live.data("2").await;
        let found = entries().await;
        assert_eq!((found.as_array().unwrap().len(), &found[1]["what"]), (5, &json!("statistics")), "{found}");
        assert_eq!(found[0]["patientIds"].as_array().unwrap().len(), 2);
        // Visits of other days change the revision, but not the day.
        set_status(app, 9, "COMPLETED").await;
        live.data("2").await;
        live.ping(json!({})).await;
        assert!(live.is_quiet());
        // What is refused is recorded.
        let kiosk = app.sign_in("kiosk").await;
        let mut live = LiveClient::signed_in(app.base(), &kiosk.token).await;
        live.subscribe("1", DAY, json!({})).await;
        assert_eq!(live.error("1").await, "FORBIDDEN");
        assert_eq!(entries().await[0]["action"], "REFUSED");
        drop(desk);
    }

    async fn an_import_is_followed_to_its_end(app: TestApp) {
        let (desk, mut live) = signed_in(app, "desk").await;
        let query = "subscription ($id: ID!) { importProgress(id: $id) { state rowsRead problem } }";
        let rows: String = (1..500).map(|number| format!("{number},Patient {number}\n")).collect();
        let prepare = async |content: &str| {
            let file = desk.upload(content).await;
            desk.mutate("prepareImport", json!({"fileId": file, "kind": "PATIENTS"}), "import { id }").await["import"]["id"].take()
        };
        let id = prepare(&format!("chart_no,name\n{rows}")).await;
        live.subscribe("1", query, json!({"id": id})).await;
        while live.data("1").await["importProgress"]["state"] != "READY" {}
        desk.mutate("commitImport", json!({"id": id}), "import { id }").await;
        let last = loop {
            let import = live.data("1").await["importProgress"].take();
            if import["state"] == "DONE" {
                break import;
            }
        };
        assert_eq!(last["rowsRead"], 499);
        live.completed("1").await;
        // One that has ended is sent once.
        live.subscribe("1", query, json!({"id": id})).await;
        assert_eq!(live.data("1").await["importProgress"]["state"], "DONE");
        live.completed("1").await;
        let broken = prepare("name\nKim\n").await;
        live.subscribe("2", query, json!({"id": broken})).await;
        while live.data("2").await["importProgress"]["state"] != "FAILED" {}
        live.completed("2").await;
        live.subscribe("3", query, json!({"id": "SQk"})).await;
        assert_eq!(live.error("3").await, "NOT_FOUND");
        let support = app.sign_in("support").await;
        let mut live = LiveClient::signed_in(app.base(), &support.token).await;
        live.subscribe("1", query, json!({"id": id})).await;
        assert_eq!(live.error("1").await, "FORBIDDEN");
        let other = app.other_hospital().await;
        let mut live = LiveClient::signed_in(app.base(), &other.token).await;
        live.subscribe("1", query, json!({"id": id})).await;
        assert_eq!(live.error("1").await, "NOT_FOUND");
    }

    async fn each_role_subscribes_to_what_it_may(app: TestApp) {
        app.import_example();
        let desk = app.sign_in("desk").await;
        let file = desk.upload("chart_no\n1\n").await;
        let id = desk.mutate("prepareImport", json!({"fileId": file, "kind": "PATIENTS"}), "import { id }").await["import"]["id"].take();
        let import = format!("subscription {{ importProgress(id: {id}) {{ id }} }}");
        for role in ROLES {
            let (_, mut live) = signed_in(app, &role.to_lowercase()).await;
            for (field, query) in [("statistics", statistics("revision").as_str()), ("visitsOn", DAY), ("importProgress", &import)] {
                live.subscribe(field, query, json!({})).await;
                match rule_of("Subscription", field).permits(role) {
                    true => drop(live.data(field).await),
                    false => assert_eq!(live.error(field).await, "FORBIDDEN", "{role} {field}"),
                }
            }
        }
    }

    async fn today_moves_at_the_hospitals_midnight(app: TestApp) {
        app.import_example();
        app.set_time("2025-06-15T23:59:50+09:00");
        let (_, mut live) = signed_in(app, "admin").await;
        let query = "subscription { statistics(period: DAY, range: {from: \"2025-06-01\", to: \"2025-06-30\"}) { asOf total { canceled: cohort(kind: CANCELED) { patientCount } } } }";
        live.subscribe("1", query, json!({})).await;
        assert_eq!(live.data("1").await["statistics"]["asOf"], "2025-06-15");
        app.set_time("2025-06-16T00:00:10+09:00");
        assert_eq!(live.data("1").await["statistics"]["asOf"], "2025-06-16");
    }

    async fn snapshots_of_answers_are_kept_for_an_hour_unless_opened(app: TestApp) {
        app.import_example();
        let (admin, mut live) = signed_in(app, "admin").await;
        live.subscribe("1", &statistics("id"), json!({})).await;
        let first = live.data("1").await["statistics"]["id"].take();
        set_status(app, 1, "CANCELED").await;
        let second = live.data("1").await["statistics"]["id"].take();
        assert_ne!(first, second);
        let rows = "SELECT COUNT(*) FROM snapshot WHERE expired_at IS NULL AND kept_at < ";
        let day = |days: i64| (chrono::Utc::now() - chrono::TimeDelta::days(days)).format("'%Y-%m-%d'").to_string();
        let kept_briefly = async || app.query_number(&format!("{rows}{}", day(80))).await;
        assert_eq!(kept_briefly().await, 2);
        // Another server opens one, and the same question is asked where it is in memory.
        let server = app.second_server();
        let other = app.sign_in_at(&server.base, "H1", "admin").await;
        let open = "query ($id: ID!) { statisticsSnapshot(id: $id) { revision } }";
        assert_ne!(other.graphql_with(open, json!({"id": first})).await["statisticsSnapshot"], Value::Null);
        assert_eq!(kept_briefly().await, 1);
        assert_eq!(admin.graphql(&format!("{{ {EXAMPLE} {{ id }} }}")).await["statistics"]["id"], second);
        assert_eq!(kept_briefly().await, 0);
        // One that was not opened expires after an hour.
        set_status(app, 2, "CANCELED").await;
        let third = live.data("1").await["statistics"]["id"].take();
        assert_eq!(kept_briefly().await, 1);
        app.execute(&format!("UPDATE snapshot SET kept_at = '2020-01-01 00:00:00' WHERE kept_at < {}", day(80))).await;
        let server = app.second_server();
        let other = app.sign_in_at(&server.base, "H1", "admin").await;
        wait_until("it has expired", async || app.query_number("SELECT COUNT(*) FROM snapshot WHERE expired_at IS NOT NULL").await == 1).await;
        let answer = other.graphql_response(open, json!({"id": third})).await;
        assert_eq!(answer["errors"][0]["extensions"]["code"], "SNAPSHOT_EXPIRED");
        assert_ne!(other.graphql_with(open, json!({"id": first})).await["statisticsSnapshot"], Value::Null);
    }

    async fn a_failing_answer_is_told_once_and_tried_again(app: TestApp) {
        app.import_example();
        let (admin, mut live) = signed_in(app, "admin").await;
        live.subscribe("1", &statistics("total { visitors { visitCount } }"), json!({})).await;
        let before = live.data("1").await;
        // As in the midst of a restore.
        app.execute("UPDATE revision SET visit_count = visit_count + 1").await;
        set_status(app, 1, "ENDED").await;
        let answer = live.answer("1").await;
        assert_eq!((&answer["data"], &answer["errors"][0]["extensions"]["code"]), (&Value::Null, &json!("BEING_RESTORED")));
        tokio::time::sleep(Duration::from_secs(2)).await;
        live.ping(json!({})).await;
        assert!(live.is_quiet());
        app.execute("UPDATE revision SET visit_count = visit_count - 1").await;
        assert_eq!(live.data("1").await, before);
        drop(admin);
    }

    async fn a_stopping_server_closes_its_connections(app: TestApp) {
        app.import_example();
        let server = server(app, &[]);
        let user = app.sign_in_at(&server.base, "H1", "admin").await;
        let mut live = LiveClient::signed_in(&server.base, &user.token).await;
        live.subscribe("1", &statistics(NUMBERS), json!({})).await;
        live.data("1").await;
        let mut idle = LiveClient::connect(&server.base).await;
        server.terminate();
        assert_eq!(live.closed().await.0, 1001);
        assert_eq!(idle.closed().await.0, 1001);
        drop((live, idle));
        assert!(server.wait().await.success());
    }

    async fn queries_and_mutations_run_over_the_socket(app: TestApp) {
        app.import_example();
        let (_, mut live) = signed_in(app, "desk").await;
        live.subscribe("q", "query ($n: Int) { viewer { login } patients(first: $n) { totalCount } }", json!({"n": 1})).await;
        assert_eq!(live.data("q").await, json!({"viewer": {"login": "desk"}, "patients": {"totalCount": 5}}));
        live.completed("q").await;
        live.subscribe("m", "mutation { registerPatient(input: {name: \"New\"}) { patient { name } } }", json!({})).await;
        assert_eq!(live.data("m").await["registerPatient"]["patient"]["name"], "New");
        live.completed("m").await;
        live.subscribe("e", "{ audit { totalCount } }", json!({})).await;
        let answer = live.answer("e").await;
        assert_eq!(answer["errors"][0]["extensions"]["code"], "FORBIDDEN");
        live.completed("e").await;
        for (query, code) in [
            ("{ nothing }", "GRAPHQL_VALIDATION_FAILED"),
            ("{", "GRAPHQL_PARSE_FAILED"),
            ("subscription { nothing }", "GRAPHQL_VALIDATION_FAILED"),
            ("subscription { __typename }", "GRAPHQL_VALIDATION_FAILED"),
            ("subscription { a: visitsOn(date: \"2025-05-11\") { date } b: visitsOn(date: \"2025-05-11\") { date } }", "GRAPHQL_VALIDATION_FAILED"),
            ("subscription { visitsOn(date: \"2025-05-11\") @skip(if: true) { date } }", "GRAPHQL_VALIDATION_FAILED"),
            ("subscription { visitsOn(date: \"x\") { date } }", "BAD_USER_INPUT"),
            ("subscription { visitsOn(date: \"2025-05-11\") { visits { patient { visits(first: 100) { nodes { patient { visits(first: 100) { nodes { id } } } } } } } } }", "QUERY_TOO_COSTLY"),
            ("subscription ($id: ID!) { importProgress(id: $id) { id } }", "BAD_USER_INPUT"),
        ] {
            live.subscribe("x", query, json!({})).await;
            assert_eq!(live.error("x").await, code, "{query}");
        }
        // Fragments and aliases of the one field are one field.
        live.subscribe("f", "subscription { ...F ...G } fragment F on Subscription { day: visitsOn(date: \"2025-05-11\") { date } } fragment G on Subscription { day: visitsOn(date: \"2025-05-11\") { visits { status } } }", json!({})).await;
        assert_eq!(live.data("f").await, json!({"day": {"date": "2025-05-11", "visits": [{"status": "COMPLETED"}]}}));
        // Not by POST.
        let desk = app.sign_in("desk").await;
        desk.expect_error(DAY, "BAD_USER_INPUT").await;
        // A persisted query.
        let hash = "ecf4edb46db40b5132295c0291d62fb65d6759a9eedfa4d5d612dd5ec54a6b38";
        let extensions = json!({"persistedQuery": {"version": 1, "sha256Hash": hash}});
        live.send(json!({"id": "p", "type": "subscribe", "payload": {"extensions": extensions}})).await;
        assert_eq!(live.error("p").await, "PERSISTED_QUERY_NOT_FOUND");
        live.send(json!({"id": "p", "type": "subscribe", "payload": {"query": "{__typename}", "extensions": extensions}})).await;
        assert_eq!(live.message("p").await["payload"]["data"]["__typename"], "Query");
    }

    async fn each_violation_has_its_code(app: TestApp) {
        let admin = app.sign_in("admin").await;
        let support = app.sign_in("support").await;
        let base = app.base();
        let subscribe = json!({"id": "1", "type": "subscribe", "payload": {"query": DAY}});
        let init = |token: &str| json!({"type": "connection_init", "payload": authorization(token)});
        for (messages, code) in [
            (vec![json!({"type": "connection_init"})], 4401),
            (vec![init("nonsense")], 4401),
            (vec![json!({"type": "connection_init", "payload": {"authorization": admin.token}})], 4401),
            (vec![subscribe.clone()], 4401),
            (vec![init(&admin.token), init(&admin.token)], 4429),
            (vec![init(&admin.token), subscribe.clone(), subscribe.clone()], 4409),
            (vec![init(&admin.token), json!({"type": "ping", "payload": authorization("nonsense")})], 4401),
            (vec![init(&admin.token), json!({"type": "ping", "payload": authorization(&support.token)})], 4401),
            (vec![json!({"type": "nothing"})], 4400),
            (vec![json!([])], 4400),
            (vec![json!({"type": "ping", "payload": {"x": "x".repeat(300_000)}})], 4400),
        ] {
            let mut live = LiveClient::connect(base).await;
            for message in &messages {
                live.send(message.clone()).await;
            }
            let (closed, reason) = live.closed().await;
            assert_eq!(closed, code, "{reason}");
            assert!(!reason.is_empty() && !reason.contains(&admin.token));
        }
        let mut live = LiveClient::connect(base).await;
        live.send_raw(Message::binary(b"{\"type\":\"ping\"}".to_vec())).await;
        assert_eq!(live.closed().await.0, 4400);
        let Ok(mut live) = LiveClient::try_connect(base, &[]).await else { panic!() };
        assert_eq!(live.closed().await.0, 4406);
        // A client that says nothing.
        let mut live = LiveClient::connect(base).await;
        assert_eq!(live.closed().await.0, 4408);
        // A session has so many connections.
        let mut all = Vec::new();
        for _ in 0..32 {
            all.push(LiveClient::signed_in(base, &admin.token).await);
        }
        let mut live = LiveClient::connect(base).await;
        live.send(init(&admin.token)).await;
        assert_eq!(live.closed().await.0, 4429);
        LiveClient::signed_in(base, &support.token).await;
        drop(all);
        // A connection has so many operations.
        let mut live = LiveClient::signed_in(base, &support.token).await;
        for number in 0..64 {
            live.subscribe(&number.to_string(), DAY, json!({})).await;
        }
        live.subscribe("more", DAY, json!({})).await;
        assert_eq!(live.error("more").await, "RATE_LIMITED");
        live.data("63").await;
    }

    async fn pages_of_other_origins_are_refused(app: TestApp) {
        let server = server(app, &["--cors-origins", "https://console.example"]);
        let own = server.base.as_str();
        for (origin, refused) in [(own, None), ("https://console.example", None), ("https://evil.example", Some(403)), ("null", Some(403))] {
            let headers = [("sec-websocket-protocol", "graphql-transport-ws"), ("origin", origin)];
            assert_eq!(LiveClient::try_connect(own, &headers).await.err(), refused, "{origin}");
        }
        let response = app.http().get(format!("{own}/graphql")).header("upgrade", "websocket").send().await.unwrap();
        assert_eq!(response.status(), 400);
    }

    async fn rates_are_those_of_queries(app: TestApp) {
        let server = server(app, &["--requests-per-second", "5"]);
        let user = app.sign_in_at(&server.base, "H1", "admin").await;
        let mut live = LiveClient::signed_in(&server.base, &user.token).await;
        for number in 0..20 {
            live.subscribe(&number.to_string(), "{ viewer { login } }", json!({})).await;
        }
        let mut limited = 0;
        for number in 0..20 {
            let message = live.message(&number.to_string()).await;
            limited += usize::from(message["payload"][0]["extensions"]["code"] == "RATE_LIMITED");
        }
        assert!(limited > 0);
    }
}

/// A client that reads nothing is disconnected; nothing is buffered for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_is_disconnected() {
    with_app!(DatabaseKind::Sqlite, async |app| {
        let (_, mut live) = signed_in(app, "admin").await;
        let query = "{ __schema { types { name description fields { name description args { name description } } } } }";
        let mut more = 0;
        wait_until("the connection is closed", async || {
            app.metric("rollcall_live_connections").await == 1
        })
        .await;
        // Until the buffers of the two sockets are full.
        while more < 400 {
            let message = json!({"id": more.to_string(), "type": "subscribe", "payload": {"query": query}});
            let sent = tokio::time::timeout(Duration::from_millis(500), live.send(message)).await;
            more += 1;
            if sent.is_err() {
                break;
            }
        }
        wait_until("the connection is closed", async || {
            app.metric("rollcall_live_connections").await == 0
        })
        .await;
    })
    .await;
}

/// A connection ends with its token, unless that is renewed; that of a session that has ended cannot be.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_ends_with_its_token() {
    with_app!(DatabaseKind::Sqlite, async |app| {
        let server = server(app, &["--access-token-minutes", "1"]);
        let user = app.sign_in_at(&server.base, "H1", "desk").await;
        let mut ending = LiveClient::signed_in(&server.base, &user.token).await;
        let mut renewed = LiveClient::signed_in(&server.base, &user.token).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        let later = app.sign_in_at(&server.base, "H1", "desk").await;
        renewed.ping(authorization(&later.token)).await;
        later.graphql("mutation { signOut { signedOut } }").await;
        let (code, reason) = ending.closed().await;
        assert_eq!((code, reason.contains("expired")), (4401, true), "{reason}");
        renewed.subscribe("1", "{ viewer { login } }", json!({})).await;
        assert_eq!(renewed.data("1").await["viewer"]["login"], "desk");
        renewed.completed("1").await;
        assert_eq!(renewed.closed().await.0, 4401);
        // Neither token opens another.
        let mut live = LiveClient::connect(&server.base).await;
        live.send(json!({"type": "connection_init", "payload": authorization(&later.token)}))
            .await;
        assert_eq!(live.closed().await.0, 4401);
    })
    .await;
}
