//! Sessions: what continues them, what ends them, and what happens at the same time.

use std::time::Duration;

use futures_util::future::join_all;
use sea_orm::{ConnectionTrait as _, SqliteTransactionMode, TransactionOptions, TransactionTrait as _};
use serde_json::{Value, json};

use crate::harness::{App, Kind, PASSWORD, on_each_database, until};

const SIGN_IN: &str = "mutation ($i: SignInInput!) { signIn(input: $i) { session { accessToken refreshToken } } }";
const REFRESH: &str =
    "mutation ($t: String!) { refreshSession(input: {refreshToken: $t}) { session { accessToken refreshToken } } }";

async fn sign_in(app: &App, login: &str, password: &str) -> Value {
    let input = json!({"hospital": "H1", "login": login, "password": password});
    app.post(app.base(), None, SIGN_IN, json!({"i": input})).await
}

/// The session of whoever signs in.
async fn session(app: &App, login: &str) -> Value {
    let mut answer = sign_in(app, login, PASSWORD).await;
    assert!(answer.get("errors").is_none(), "{answer}");
    answer["data"]["signIn"]["session"].take()
}

async fn refresh_at(app: &App, base: &str, session: &Value) -> Value {
    app.post(base, None, REFRESH, json!({"t": session["refreshToken"]}))
        .await
}

/// The session after a refresh, or the code of the error.
async fn refresh(app: &App, session: &Value) -> Result<Value, String> {
    outcome(refresh_at(app, app.base(), session).await)
}

fn outcome(mut answer: Value) -> Result<Value, String> {
    match answer["errors"][0]["extensions"]["code"].as_str() {
        Some(code) => Err(code.to_owned()),
        None => Ok(answer["data"]["refreshSession"]["session"].take()),
    }
}

fn over() -> Result<Value, String> {
    Err("UNAUTHENTICATED".to_owned())
}

/// Holds the member's row while a request runs, and commits the statements once the request has read what it reads first: the
/// request then has the choice to notice or not.
async fn meanwhile<T>(app: &App, reads: u64, request: impl Future<Output = T>, statements: &[&str]) -> T {
    let options = TransactionOptions {
        sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
        ..TransactionOptions::default()
    };
    let transaction = app.sql.begin_with_options(options).await.unwrap();
    if app.kind() != Kind::Sqlite {
        let lock = "SELECT id FROM staff WHERE login = 'desk' FOR UPDATE";
        transaction.execute_unprepared(lock).await.unwrap();
    }
    let before = app.metric("rollcall_database_statements_total").await;
    let changed = async {
        while app.metric("rollcall_database_statements_total").await < before + reads {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // It verifies a password, or goes on to where it has to wait.
        tokio::time::sleep(Duration::from_millis(500)).await;
        for statement in statements {
            transaction.execute_unprepared(statement).await.unwrap();
        }
        transaction.commit().await.unwrap();
    };
    tokio::join!(request, changed).0
}

/// What a reset of a password does, to another hash of the same password.
const RESET: [&str; 2] = [
    "UPDATE staff SET session_epoch = session_epoch + 1, password_hash = (SELECT hash FROM (SELECT password_hash AS hash
        FROM staff WHERE login = 'support') AS other) WHERE login = 'desk'",
    "DELETE FROM refresh_token",
];

on_each_database! {
    async fn no_session_of_an_old_password_outlives_a_reset_that_it_races(app: App) {
        // The hospital and the member are read, the password is verified, and then it has changed.
        let answer = meanwhile(app, 2, sign_in(app, "desk", PASSWORD), &RESET).await;
        assert_eq!(answer["errors"][0]["extensions"]["code"], "INVALID_CREDENTIALS", "{answer}");
        assert_eq!(app.number("SELECT COUNT(*) FROM refresh_token").await, 0);
        // Another role is no other password: the session begins, with that role.
        let other_role = ["UPDATE staff SET session_epoch = session_epoch + 1, role = 'CLINICIAN' WHERE login = 'desk'"];
        let answer = meanwhile(app, 2, sign_in(app, "desk", PASSWORD), &other_role).await;
        let user = app.with_token(answer["data"]["signIn"]["session"]["accessToken"].as_str().unwrap());
        assert_eq!(user.ask("{ viewer { role } }").await["viewer"]["role"], "CLINICIAN");
        let disabled = ["UPDATE staff SET session_epoch = session_epoch + 1, disabled_at = created_at WHERE login = 'desk'"];
        let answer = meanwhile(app, 2, sign_in(app, "desk", PASSWORD), &disabled).await;
        assert_eq!(answer["errors"][0]["extensions"]["code"], "INVALID_CREDENTIALS", "{answer}");
    }

    async fn resets_at_the_same_time_as_sign_ins_end_their_sessions(app: App) {
        let admin = app.sign_in("admin").await;
        let staff = admin.ask("{ staff { id login } }").await;
        let desk = &staff["staff"].as_array().unwrap().iter().find(|member| member["login"] == "desk").unwrap()["id"];
        let mut password = PASSWORD.to_owned();
        let mut begun = 0;
        for round in 0..6 {
            let next = format!("password {round}");
            let reset = admin.change("resetPassword", json!({"id": desk, "password": next}), "staff { login }");
            let (answers, _) = tokio::join!(join_all([(); 3].map(|()| sign_in(app, "desk", &password))), reset);
            for answer in answers {
                let session = &answer["data"]["signIn"]["session"];
                if session.is_object() {
                    begun += 1;
                    assert_eq!(refresh(app, session).await, over(), "round {round}");
                }
            }
            password = next;
            assert!(sign_in(app, "desk", &password).await["data"]["signIn"].is_object(), "round {round}");
        }
        crate::harness::say(&format!("{begun} sessions began before the password was reset\n"));
    }

    async fn a_refresh_that_races_a_reset_gives_no_session(app: App) {
        let before = session(app, "desk").await;
        let answer = meanwhile(app, 1, refresh_at(app, app.base(), &before), &RESET).await;
        assert_eq!(outcome(answer), over());
        assert_eq!(app.number("SELECT COUNT(*) FROM refresh_token").await, 0);
        // Also a token that was stored past the reset is of another epoch, and good for nothing.
        let before = session(app, "desk").await;
        app.execute("UPDATE staff SET session_epoch = session_epoch + 1 WHERE login = 'desk'").await;
        assert_eq!(refresh(app, &before).await, over());
    }

    async fn a_sign_out_that_races_a_refresh_ends_the_session(app: App) {
        let before = session(app, "desk").await;
        let answer = meanwhile(app, 1, refresh_at(app, app.base(), &before), &["DELETE FROM refresh_token"]).await;
        assert_eq!(outcome(answer), over());
        assert_eq!(app.number("SELECT COUNT(*) FROM refresh_token").await, 0);
    }

    async fn a_password_that_was_reset_meanwhile_is_not_changed_by_who_knew_the_old_one(app: App) {
        let before = session(app, "desk").await;
        let user = app.with_token(before["accessToken"].as_str().unwrap());
        let input = json!({"currentPassword": PASSWORD, "newPassword": "long enough"});
        let answer = meanwhile(app, 1, user.try_change("changePassword", input, "session { refreshToken }"), &RESET).await;
        assert_eq!(answer["errors"][0]["message"], "input.currentPassword: the current password is incorrect", "{answer}");
        assert!(sign_in(app, "desk", PASSWORD).await["data"]["signIn"].is_object(), "the password of the reset holds");
    }

    async fn a_refresh_that_is_repeated_gives_the_same_token(app: App) {
        let first = session(app, "desk").await;
        let second = refresh(app, &first).await.unwrap();
        assert_eq!(refresh(app, &first).await.unwrap()["refreshToken"], second["refreshToken"], "the answer was lost");
        // Two tabs, on two servers, at once.
        let other = app.second_server();
        let (here, there) = tokio::join!(refresh_at(app, app.base(), &second), refresh_at(app, &other.base, &second));
        let (here, there) = (outcome(here).unwrap(), outcome(there).unwrap());
        assert_eq!(here["refreshToken"], there["refreshToken"]);
        let many = join_all([(); 6].map(|()| refresh(app, &here))).await;
        let third = many[0].clone().unwrap();
        assert!(many.iter().all(|session| session.as_ref().unwrap()["refreshToken"] == third["refreshToken"]), "{many:?}");
        assert!(app.with_token(third["accessToken"].as_str().unwrap()).ask("{ viewer { login } }").await["viewer"].is_object());
        assert_eq!(app.number("SELECT COUNT(*) FROM refresh_token WHERE used_at IS NULL").await, 1, "one line of successors");
        // Its successor has been used: somebody else holds it, and the session ends for both.
        assert_eq!(refresh(app, &second).await, over());
        assert_eq!(refresh(app, &third).await, over());
    }

    async fn a_refresh_that_is_repeated_late_ends_the_session(app: App) {
        let first = session(app, "desk").await;
        let second = refresh(app, &first).await.unwrap();
        let long_ago = if app.kind() == Kind::Mariadb { "2025-01-01 00:00:00" } else { "2025-01-01T00:00:00+00:00" };
        app.execute(&format!("UPDATE refresh_token SET used_at = '{long_ago}' WHERE used_at IS NOT NULL")).await;
        assert_eq!(refresh(app, &first).await, over());
        assert_eq!(refresh(app, &second).await, over());
    }

    async fn a_refresh_is_repeated_after_the_keys_were_rotated(app: App) {
        let first = session(app, "desk").await;
        let second = refresh(app, &first).await.unwrap();
        app.rollcall(&["keys", "rotate"]);
        let rotated = app.second_server();
        let again = outcome(refresh_at(app, &rotated.base, &first).await).unwrap();
        assert_eq!(again["refreshToken"], second["refreshToken"]);
        // Whoever did not look for the new key yet meets a successor of it.
        let third = outcome(refresh_at(app, &rotated.base, &second).await).unwrap();
        assert_eq!(refresh(app, &second).await.unwrap()["refreshToken"], third["refreshToken"]);
    }

    async fn a_refresh_that_the_database_fails_can_be_repeated(app: App) {
        let first = session(app, "desk").await;
        // The token is marked as used, and then its successor cannot be stored.
        app.execute("CREATE UNIQUE INDEX no_successor ON refresh_token (family)").await;
        assert_eq!(refresh(app, &first).await, Err("INTERNAL_SERVER_ERROR".to_owned()));
        let on = if app.kind() == Kind::Mariadb { " ON refresh_token" } else { "" };
        app.execute(&format!("DROP INDEX no_successor{on}")).await;
        assert_eq!(app.number("SELECT COUNT(*) FROM refresh_token WHERE used_at IS NOT NULL").await, 0);
        assert!(refresh(app, &first).await.is_ok());
    }

    async fn dead_refresh_tokens_make_nobody_wait(app: App) {
        let dead = json!({"refreshToken": format!("1.{}", "A".repeat(43))});
        for token in [&dead, &json!({"refreshToken": "nonsense"})] {
            for _ in 0..30 {
                assert_eq!(refresh(app, token).await, over());
            }
        }
        let alive = session(app, "desk").await;
        assert!(refresh(app, &alive).await.is_ok());
        // Nor does a failed sign-in make a session wait that is there already.
        let alive = session(app, "support").await;
        for login in 0..25 {
            sign_in(app, &format!("nobody {login}"), PASSWORD).await;
        }
        assert_eq!(sign_in(app, "desk", PASSWORD).await["errors"][0]["extensions"]["code"], "RATE_LIMITED");
        assert!(refresh(app, &alive).await.is_ok());
    }

    async fn expired_refresh_tokens_are_deleted(app: App) {
        session(app, "desk").await;
        app.execute("UPDATE refresh_token SET expires_at = '2001-01-01 00:00:00'").await;
        let alive = session(app, "support").await;
        // A server looks for them when it starts, and then every hour.
        let _second = app.second_server();
        let left = async || app.number("SELECT COUNT(*) FROM refresh_token").await;
        until("expired tokens are deleted", async || left().await == 1).await;
        assert!(refresh(app, &alive).await.is_ok());
    }
}
