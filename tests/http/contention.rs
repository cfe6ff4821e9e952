//! Somebody has a transaction open in an SQL shell that holds a hospital's revision. Changes of that hospital wait for a while
//! and say that they could not be made. Nothing else waits: no read, no change of another hospital, no readiness.

use std::time::{Duration, Instant};

use reqwest::StatusCode;
use sea_orm::{
    ConnectionTrait as _, DatabaseTransaction, SqliteTransactionMode, TransactionOptions, TransactionTrait as _,
};
use serde_json::{Value, json};

use crate::harness::{App, EXAMPLE, Kind, User, on_each_database, say, until};

/// Changes that are sent at once: many more than the server has connections.
const CHANGES: usize = 50;

/// Locks H1's revision as an SQL shell does; SQLite locks the file.
async fn lock_revision(app: &App) -> DatabaseTransaction {
    let options = TransactionOptions {
        sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
        ..TransactionOptions::default()
    };
    let transaction = app.sql.begin_with_options(options).await.unwrap();
    if app.kind() != Kind::Sqlite {
        let lock =
            "UPDATE revision SET number = number WHERE hospital_id = (SELECT id FROM hospital WHERE code = 'H1')";
        transaction.execute_unprepared(lock).await.unwrap();
    }
    transaction
}

/// Transactions of the database that wait for a lock.
async fn waiting(app: &App) -> i64 {
    app.number(match app.kind() {
        Kind::Postgres => {
            "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        }
        Kind::Mariadb => {
            "SELECT COUNT(*) FROM information_schema.innodb_trx t
                JOIN information_schema.processlist p ON p.id = t.trx_mysql_thread_id
                WHERE t.trx_state = 'LOCK WAIT' AND p.db = DATABASE()"
        }
        // Nobody can tell.
        Kind::Sqlite => return 1,
    })
    .await
}

fn registration(number: usize) -> Value {
    let query = "mutation ($input: RegisterPatientInput!) { registerPatient(input: $input) { patient { chartNo } } }";
    json!({"query": query, "variables": {"input": {"chartNo": format!("N{number}"), "name": "New"}}})
}

fn code(answer: &Value) -> &str {
    answer["errors"][0]["extensions"]["code"].as_str().unwrap_or_default()
}

/// What must be answered meanwhile; says how long it took.
async fn others(app: &App, own: &User<'_>, other: &User<'_>) -> Duration {
    let begun = Instant::now();
    let counts = format!("{{ {EXAMPLE} {{ total {{ visitors {{ patientCount }} }} }} }}");
    for user in [own, other] {
        user.ask("{ viewer { name } hospital { departments { name } } }").await;
        user.ask(&counts).await;
    }
    if app.kind() != Kind::Sqlite {
        let ids = format!("{{ {EXAMPLE} {{ id total {{ visitors {{ digest patientIds }} }} }} }}");
        for user in [own, other] {
            user.ask("{ patients { totalCount nodes { name phone } } }").await;
            user.ask(&ids).await;
        }
    }
    let took = begun.elapsed();
    let ready = app.client().get(format!("{}/readyz", app.base())).send().await.unwrap();
    assert_eq!(ready.status(), StatusCode::OK);
    took
}

on_each_database! {
    async fn a_transaction_left_open_stops_nothing_but_changes_of_its_hospital(app: App) {
        app.example();
        let (own, other) = (app.sign_in("desk").await, app.other_hospital().await);
        let before = others(app, &own, &other).await;
        let lock = lock_revision(app).await;
        let post = |number, patience| {
            let request = app.client().post(format!("{}/graphql", app.base())).bearer_auth(&own.token);
            request.json(&registration(number)).timeout(patience).send()
        };

        // Whoever goes away leaves no second connection waiting behind.
        for number in 0..12 {
            post(number, Duration::from_millis(100)).await.unwrap_err();
        }
        let all = (0..CHANGES).map(|number| async move {
            post(number, Duration::from_secs(60)).await.unwrap().json::<Value>().await.unwrap()
        });
        let meanwhile = async {
            let arrived = async || app.metric("rollcall_http_requests_in_flight").await > CHANGES as u64;
            until("all have arrived", arrived).await;
            until("one waits for the lock", async || waiting(app).await == 1).await;
            let took = others(app, &own, &other).await;
            assert_eq!(waiting(app).await, 1);
            if app.kind() != Kind::Sqlite {
                other.change("registerPatient", json!({"chartNo": "O1", "name": "Other"}), "patient { chartNo }").await;
                assert_eq!(waiting(app).await, 1);
            }
            took
        };
        let (answers, took) = tokio::join!(futures_util::future::join_all(all), meanwhile);
        for answer in &answers {
            assert_eq!(code(answer), "BUSY", "{answer}");
        }
        say(&format!("{:?}: reads took {before:?} before and {took:?} during an open transaction\n", app.kind()));

        lock.rollback().await.unwrap();
        let patients = app.number("SELECT COUNT(*) FROM patient WHERE chart_no LIKE 'N%'").await;
        assert_eq!(patients, 0, "a change was made that said BUSY");
        own.change("registerPatient", json!({"chartNo": "N1", "name": "New"}), "patient { chartNo }").await;
        others(app, &own, &other).await;
    }
}
