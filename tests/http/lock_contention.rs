//! An open transaction in an SQL shell holds the lock on a hospital's revision. Mutations of that hospital wait for a
//! while and fail. Nothing else waits: no query, no mutation of another hospital, no readiness check.

use std::time::{Duration, Instant};

use reqwest::StatusCode;
use sea_orm::{
    ConnectionTrait as _, DatabaseTransaction, SqliteTransactionMode, TransactionOptions, TransactionTrait as _,
};
use serde_json::{Value, json};
use test_support::{Client, DatabaseKind, EXAMPLE, TestApp, on_each_database, print_uncaptured, wait_until};

/// The number of concurrent mutations: many more than the server has connections.
const CHANGES: usize = 50;

/// Locks the revision of H1 as an SQL shell does; SQLite locks the file.
async fn lock_revision(app: &TestApp) -> DatabaseTransaction {
    let options = TransactionOptions {
        sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
        ..TransactionOptions::default()
    };
    let transaction = app.sql.begin_with_options(options).await.unwrap();
    if app.kind() != DatabaseKind::Sqlite {
        let lock =
            "UPDATE revision SET number = number WHERE hospital_id = (SELECT id FROM hospital WHERE code = 'H1')";
        transaction.execute_unprepared(lock).await.unwrap();
    }
    transaction
}

/// The number of transactions that wait for a lock.
async fn waiting(app: &TestApp) -> i64 {
    app.query_number(match app.kind() {
        DatabaseKind::Postgres => {
            "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        }
        DatabaseKind::Mariadb => {
            "SELECT COUNT(*) FROM information_schema.innodb_trx t
                JOIN information_schema.processlist p ON p.id = t.trx_mysql_thread_id
                WHERE t.trx_state = 'LOCK WAIT' AND p.db = DATABASE()"
        }
        // SQLite does not tell.
        DatabaseKind::Sqlite => return 1,
    })
    .await
}

fn registration(number: usize) -> Value {
    let query = "mutation ($input: RegisterPatientInput!) { registerPatient(input: $input) { patient { chartNo } } }";
    json!({"query": query, "variables": {"input": {"chartNo": format!("N{number}"), "name": "New"}}})
}

fn code(response: &Value) -> &str {
    response["errors"][0]["extensions"]["code"].as_str().unwrap_or_default()
}

/// Requests that must succeed meanwhile; returns how long they took.
async fn check_others(app: &TestApp, own: &Client<'_>, other: &Client<'_>) -> Duration {
    let started = Instant::now();
    let counts = format!("{{ {EXAMPLE} {{ total {{ visitors {{ patientCount }} }} }} }}");
    for user in [own, other] {
        user.graphql("{ viewer { name } hospital { departments { name } } }")
            .await;
        user.graphql(&counts).await;
    }
    if app.kind() != DatabaseKind::Sqlite {
        let ids = format!("{{ {EXAMPLE} {{ id total {{ visitors {{ digest patientIds }} }} }} }}");
        for user in [own, other] {
            user.graphql("{ patients { totalCount nodes { name phone } } }").await;
            user.graphql(&ids).await;
        }
    }
    let duration = started.elapsed();
    let ready = app.http().get(format!("{}/readyz", app.base())).send().await.unwrap();
    assert_eq!(ready.status(), StatusCode::OK);
    duration
}

on_each_database! {
    async fn an_open_transaction_blocks_only_mutations_of_its_hospital(app: TestApp) {
        app.import_example();
        let (own, other) = (app.sign_in("desk").await, app.other_hospital().await);
        let before = check_others(app, &own, &other).await;
        let lock = lock_revision(app).await;
        let post = |number, patience| {
            let request = app.http().post(format!("{}/graphql", app.base())).bearer_auth(&own.token);
            request.json(&registration(number)).timeout(patience).send()
        };

        // A disconnected client must not leave a connection waiting.
        for number in 0..12 {
            post(number, Duration::from_millis(100)).await.unwrap_err();
        }
        let all = (0..CHANGES).map(|number| async move {
            post(number, Duration::from_secs(60)).await.unwrap().json::<Value>().await.unwrap()
        });
        let during_lock = async {
            let arrived = async || app.metric("rollcall_http_requests_in_flight").await > CHANGES as u64;
            wait_until("all requests have arrived", arrived).await;
            wait_until("a transaction waits for the lock", async || waiting(app).await == 1).await;
            let duration = check_others(app, &own, &other).await;
            assert_eq!(waiting(app).await, 1);
            if app.kind() != DatabaseKind::Sqlite {
                other.mutate("registerPatient", json!({"chartNo": "O1", "name": "Other"}), "patient { chartNo }").await;
                assert_eq!(waiting(app).await, 1);
            }
            duration
        };
        let (responses, duration) = tokio::join!(futures_util::future::join_all(all), during_lock);
        for response in &responses {
            assert_eq!(code(response), "BUSY", "{response}");
        }
        print_uncaptured(&format!("{:?}: reads took {before:?} before and {duration:?} during an open transaction\n", app.kind()));

        lock.rollback().await.unwrap();
        let patients = app.query_number("SELECT COUNT(*) FROM patient WHERE chart_no LIKE 'N%'").await;
        assert_eq!(patients, 0, "a mutation with the error BUSY was executed");
        own.mutate("registerPatient", json!({"chartNo": "N1", "name": "New"}), "patient { chartNo }").await;
        check_others(app, &own, &other).await;
    }
}
