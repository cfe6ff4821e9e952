//! Sessions: refresh, end, and race conditions.

use std::time::Duration;

use futures_util::future::join_all;
use sea_orm::{ConnectionTrait as _, SqliteTransactionMode, TransactionOptions, TransactionTrait as _};
use serde_json::{Value, json};
use test_support::{DatabaseKind, PASSWORD, TestApp, on_each_database, wait_until};

const SIGN_IN: &str = "mutation ($i: SignInInput!) { signIn(input: $i) { session { accessToken refreshToken } } }";
const REFRESH: &str =
    "mutation ($t: String!) { refreshSession(input: {refreshToken: $t}) { session { accessToken refreshToken } } }";

async fn sign_in(app: &TestApp, login: &str, password: &str) -> Value {
    let input = json!({"hospital": "H1", "login": login, "password": password});
    app.post(app.base(), None, SIGN_IN, json!({"i": input})).await
}

/// Signs in; the session.
async fn session(app: &TestApp, login: &str) -> Value {
    let mut response = sign_in(app, login, PASSWORD).await;
    assert!(response.get("errors").is_none(), "{response}");
    response["data"]["signIn"]["session"].take()
}

async fn refresh_at(app: &TestApp, base: &str, session: &Value) -> Value {
    app.post(base, None, REFRESH, json!({"t": session["refreshToken"]}))
        .await
}

/// The session after a refresh, or the code of the error.
async fn refresh(app: &TestApp, session: &Value) -> Result<Value, String> {
    outcome(refresh_at(app, app.base(), session).await)
}

fn outcome(mut response: Value) -> Result<Value, String> {
    match response["errors"][0]["extensions"]["code"].as_str() {
        Some(code) => Err(code.to_owned()),
        None => Ok(response["data"]["refreshSession"]["session"].take()),
    }
}

fn session_ended() -> Result<Value, String> {
    Err("UNAUTHENTICATED".to_owned())
}

/// Locks the member's row while a request runs, and commits the statements once the request has executed its first
/// reads, so that it has to detect the change.
async fn race<T>(app: &TestApp, reads: u64, request: impl Future<Output = T>, statements: &[&str]) -> T {
    let options = TransactionOptions {
        sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
        ..TransactionOptions::default()
    };
    let transaction = app.sql.begin_with_options(options).await.unwrap();
    if app.kind() != DatabaseKind::Sqlite {
        let lock = "SELECT id FROM staff WHERE login = 'desk' FOR UPDATE";
        transaction.execute_unprepared(lock).await.unwrap();
    }
    let before = app.metric("rollcall_database_statements_total").await;
    let changed = async {
        let statements_executed = async || app.metric("rollcall_database_statements_total").await;
        wait_until("the request has executed its first reads", async || {
            statements_executed().await >= before + reads
        })
        .await;
        // The request verifies a password, or reaches the lock.
        tokio::time::sleep(Duration::from_millis(500)).await;
        for statement in statements {
            transaction.execute_unprepared(statement).await.unwrap();
        }
        transaction.commit().await.unwrap();
    };
    tokio::join!(request, changed).0
}

/// A password reset, to another hash of the same password.
const RESET: [&str; 2] = [
    "UPDATE staff SET session_epoch = session_epoch + 1, password_hash = (SELECT hash FROM (SELECT password_hash AS hash
        FROM staff WHERE login = 'support') AS other) WHERE login = 'desk'",
    "DELETE FROM refresh_token",
];

on_each_database! {
    async fn a_sign_in_racing_a_password_reset_gets_no_session(app: TestApp) {
        // The hospital and the member are read, the password is verified, then it changes.
        let response = race(app, 2, sign_in(app, "desk", PASSWORD), &RESET).await;
        assert_eq!(response["errors"][0]["extensions"]["code"], "INVALID_CREDENTIALS", "{response}");
        assert_eq!(app.query_number("SELECT COUNT(*) FROM refresh_token").await, 0);
        // A changed role does not affect the password: the session starts, with the new role.
        let other_role = ["UPDATE staff SET session_epoch = session_epoch + 1, role = 'CLINICIAN' WHERE login = 'desk'"];
        let response = race(app, 2, sign_in(app, "desk", PASSWORD), &other_role).await;
        let user = app.client_with_token(response["data"]["signIn"]["session"]["accessToken"].as_str().unwrap());
        assert_eq!(user.graphql("{ viewer { role } }").await["viewer"]["role"], "CLINICIAN");
        let disabled = ["UPDATE staff SET session_epoch = session_epoch + 1, disabled_at = created_at WHERE login = 'desk'"];
        let response = race(app, 2, sign_in(app, "desk", PASSWORD), &disabled).await;
        assert_eq!(response["errors"][0]["extensions"]["code"], "INVALID_CREDENTIALS", "{response}");
    }

    async fn concurrent_password_resets_end_sessions(app: TestApp) {
        let admin = app.sign_in("admin").await;
        let staff = admin.graphql("{ staff { id login } }").await;
        let front_desk = &staff["staff"].as_array().unwrap().iter().find(|member| member["login"] == "desk").unwrap()["id"];
        let mut password = PASSWORD.to_owned();
        let mut started = 0;
        for round in 0..6 {
            let next = format!("password {round}");
            let reset = admin.mutate("resetPassword", json!({"id": front_desk, "password": next}), "staff { login }");
            let (responses, _) = tokio::join!(join_all([(); 3].map(|()| sign_in(app, "desk", &password))), reset);
            for response in responses {
                let session = &response["data"]["signIn"]["session"];
                if session.is_object() {
                    started += 1;
                    assert_eq!(refresh(app, session).await, session_ended(), "round {round}");
                }
            }
            password = next;
            assert!(sign_in(app, "desk", &password).await["data"]["signIn"].is_object(), "round {round}");
        }
        test_support::print_uncaptured(&format!("{started} sessions started before the password was reset\n"));
    }

    async fn a_refresh_racing_a_password_reset_gets_no_session(app: TestApp) {
        let before = session(app, "desk").await;
        let response = race(app, 1, refresh_at(app, app.base(), &before), &RESET).await;
        assert_eq!(outcome(response), session_ended());
        assert_eq!(app.query_number("SELECT COUNT(*) FROM refresh_token").await, 0);
        // A token that was stored after the reset has an old epoch, and is invalid.
        let before = session(app, "desk").await;
        app.execute("UPDATE staff SET session_epoch = session_epoch + 1 WHERE login = 'desk'").await;
        assert_eq!(refresh(app, &before).await, session_ended());
    }

    async fn a_sign_out_racing_a_refresh_ends_the_session(app: TestApp) {
        let before = session(app, "desk").await;
        let response = race(app, 1, refresh_at(app, app.base(), &before), &["DELETE FROM refresh_token"]).await;
        assert_eq!(outcome(response), session_ended());
        assert_eq!(app.query_number("SELECT COUNT(*) FROM refresh_token").await, 0);
    }

    async fn a_password_change_racing_a_reset_is_rejected(app: TestApp) {
        let before = session(app, "desk").await;
        let user = app.client_with_token(before["accessToken"].as_str().unwrap());
        let input = json!({"currentPassword": PASSWORD, "newPassword": "long enough"});
        let response = race(app, 1, user.mutation_response("changePassword", input, "session { refreshToken }"), &RESET).await;
        assert_eq!(response["errors"][0]["message"], "input.currentPassword: the current password is incorrect", "{response}");
        assert!(sign_in(app, "desk", PASSWORD).await["data"]["signIn"].is_object(), "the password of the reset is valid");
    }

    async fn a_repeated_refresh_returns_the_same_token(app: TestApp) {
        let first = session(app, "desk").await;
        let second = refresh(app, &first).await.unwrap();
        assert_eq!(refresh(app, &first).await.unwrap()["refreshToken"], second["refreshToken"], "repeated as if the response was lost");
        // Two tabs, on two servers, at once.
        let other = app.second_server();
        let (on_first, on_second) = tokio::join!(refresh_at(app, app.base(), &second), refresh_at(app, &other.base, &second));
        let (on_first, on_second) = (outcome(on_first).unwrap(), outcome(on_second).unwrap());
        assert_eq!(on_first["refreshToken"], on_second["refreshToken"]);
        let many = join_all([(); 6].map(|()| refresh(app, &on_first))).await;
        let third = many[0].clone().unwrap();
        assert!(many.iter().all(|session| session.as_ref().unwrap()["refreshToken"] == third["refreshToken"]), "{many:?}");
        assert!(app.client_with_token(third["accessToken"].as_str().unwrap()).graphql("{ viewer { login } }").await["viewer"].is_object());
        assert_eq!(app.query_number("SELECT COUNT(*) FROM refresh_token WHERE used_at IS NULL").await, 1, "a single chain of successors");
        // Its successor was used, so another client has it: the session ends for both.
        assert_eq!(refresh(app, &second).await, session_ended());
        assert_eq!(refresh(app, &third).await, session_ended());
    }

    async fn a_late_repeated_refresh_ends_the_session(app: TestApp) {
        let first = session(app, "desk").await;
        let second = refresh(app, &first).await.unwrap();
        let long_ago = if app.kind() == DatabaseKind::Mariadb { "2025-01-01 00:00:00" } else { "2025-01-01T00:00:00+00:00" };
        app.execute(&format!("UPDATE refresh_token SET used_at = '{long_ago}' WHERE used_at IS NOT NULL")).await;
        assert_eq!(refresh(app, &first).await, session_ended());
        assert_eq!(refresh(app, &second).await, session_ended());
    }

    async fn a_refresh_can_be_repeated_after_key_rotation(app: TestApp) {
        let first = session(app, "desk").await;
        let second = refresh(app, &first).await.unwrap();
        app.run_cli(&["keys", "rotate"]);
        let rotated = app.second_server();
        let again = outcome(refresh_at(app, &rotated.base, &first).await).unwrap();
        assert_eq!(again["refreshToken"], second["refreshToken"]);
        // A server that has not loaded the new key yet finds a successor that was encrypted with it.
        let third = outcome(refresh_at(app, &rotated.base, &second).await).unwrap();
        assert_eq!(refresh(app, &second).await.unwrap()["refreshToken"], third["refreshToken"]);
    }

    async fn a_refresh_can_be_repeated_after_a_database_error(app: TestApp) {
        let first = session(app, "desk").await;
        // The token is marked as used, then storing its successor fails.
        app.execute("CREATE UNIQUE INDEX no_successor ON refresh_token (family)").await;
        assert_eq!(refresh(app, &first).await, Err("INTERNAL_SERVER_ERROR".to_owned()));
        let on = if app.kind() == DatabaseKind::Mariadb { " ON refresh_token" } else { "" };
        app.execute(&format!("DROP INDEX no_successor{on}")).await;
        assert_eq!(app.query_number("SELECT COUNT(*) FROM refresh_token WHERE used_at IS NOT NULL").await, 0);
        assert!(refresh(app, &first).await.is_ok());
    }

    async fn invalid_refresh_tokens_are_not_throttled(app: TestApp) {
        let dead = json!({"refreshToken": format!("1.{}", "A".repeat(43))});
        for token in [&dead, &json!({"refreshToken": "nonsense"})] {
            for _ in 0..30 {
                assert_eq!(refresh(app, token).await, session_ended());
            }
        }
        let alive = session(app, "desk").await;
        assert!(refresh(app, &alive).await.is_ok());
        // Failed sign-ins do not throttle existing sessions.
        let alive = session(app, "support").await;
        for login in 0..25 {
            sign_in(app, &format!("nobody {login}"), PASSWORD).await;
        }
        assert_eq!(sign_in(app, "desk", PASSWORD).await["errors"][0]["extensions"]["code"], "RATE_LIMITED");
        assert!(refresh(app, &alive).await.is_ok());
    }

    async fn expired_refresh_tokens_are_deleted(app: TestApp) {
        session(app, "desk").await;
        app.execute("UPDATE refresh_token SET expires_at = '2001-01-01 00:00:00'").await;
        let alive = session(app, "support").await;
        // A server deletes them at startup, and then every hour.
        let _second = app.second_server();
        let left = async || app.query_number("SELECT COUNT(*) FROM refresh_token").await;
        wait_until("expired tokens are deleted", async || left().await == 1).await;
        assert!(refresh(app, &alive).await.is_ok());
    }
}
