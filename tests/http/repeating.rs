//! Changes that are sent again under their idempotency key.

use serde_json::{Value, json};

use crate::harness::{App, User, on_each_database};

fn another_change() -> (String, String) {
    ("BAD_USER_INPUT".to_owned(), "input.idempotencyKey".to_owned())
}

async fn id_of(user: &User<'_>, login: &str) -> Value {
    let mut staff = user.ask("{ staff { id login } }").await;
    let mut staff = staff["staff"].as_array_mut().unwrap().iter_mut();
    staff.find(|member| member["login"] == login).unwrap()["id"].take()
}

async fn signs_in(app: &App, login: &str, password: &str) -> bool {
    let query = "mutation ($i: SignInInput!) { signIn(input: $i) { session { accessToken } } }";
    let input = json!({"hospital": "H1", "login": login, "password": password});
    let answer = app.post(app.base(), None, query, json!({"i": input})).await;
    answer["data"]["signIn"].is_object()
}

on_each_database! {
    async fn a_change_is_known_again_after_the_keys_were_rotated(app: App) {
        app.example();
        let desk = app.sign_in("desk").await;
        let patient = desk.ask("{ patients(first: 1) { nodes { id } } }").await["patients"]["nodes"][0]["id"].take();
        let register = json!({"chartNo": "7", "name": "Zoë", "phone": "010-2222-3333", "idempotencyKey": "p"});
        let record = json!({"patientId": patient, "date": "2025-05-30", "idempotencyKey": "v"});
        let made = desk.change("registerPatient", register.clone(), "patient { id version }").await;
        let recorded = desk.change("recordVisit", record.clone(), "visit { id version }").await;
        app.rollcall(&["keys", "rotate"]);
        let other = app.second_server();
        for base in [app.base(), other.base.as_str()] {
            let desk = app.sign_in_at(base, "H1", "desk").await;
            assert_eq!(desk.change("registerPatient", register.clone(), "patient { id version }").await, made);
            assert_eq!(desk.change("recordVisit", record.clone(), "visit { id version }").await, recorded);
            let different = json!({"chartNo": "7", "name": "Zoe", "phone": "010-2222-3333", "idempotencyKey": "p"});
            assert_eq!(desk.refused_change("registerPatient", different).await, another_change());
        }
        // A server that did not look for the new key yet knows a change that was noted with it.
        let there = app.sign_in_at(&other.base, "H1", "desk").await;
        let delete = json!({"id": recorded["visit"]["id"], "version": 1, "reason": "r", "idempotencyKey": "d"});
        there.change("deleteVisit", delete.clone(), "visit { id }").await;
        desk.change("deleteVisit", delete, "visit { id }").await;
    }

    async fn a_registration_is_known_again_on_another_day(app: App) {
        // Of these two zones one is always a day ahead.
        let today = async |zone: &str| {
            app.execute(&format!("UPDATE hospital SET time_zone = '{zone}'")).await;
            app.sign_in("desk").await.ask("{ hospital { today } }").await["hospital"]["today"].take()
        };
        let first = today("Pacific/Niue").await;
        let desk = app.sign_in("desk").await;
        let register = json!({"chartNo": "7", "idempotencyKey": "p"});
        let made = desk.change("registerPatient", register.clone(), "patient { id registeredOn }").await;
        assert_eq!(made["patient"]["registeredOn"], first);
        assert_ne!(today("Pacific/Kiritimati").await, first);
        assert_eq!(desk.change("registerPatient", register, "patient { id registeredOn }").await, made);
        let on_a_day = json!({"chartNo": "7", "registeredOn": first, "idempotencyKey": "p"});
        assert_eq!(desk.refused_change("registerPatient", on_a_day).await, another_change(), "what was sent is different");
    }

    async fn a_password_is_part_of_what_was_sent(app: App) {
        let admin = app.sign_in("admin").await;
        let add = |password: &str| json!({"login": "eve", "name": "Eve", "role": "DESK", "password": password, "idempotencyKey": "a"});
        let eve = admin.change("addStaff", add("long enough"), "staff { id }").await;
        assert_eq!(admin.change("addStaff", add("long enough"), "staff { id }").await, eve);
        assert_eq!(admin.refused_change("addStaff", add("another one")).await, another_change());
        let id = id_of(&admin, "eve").await;
        let reset = |password: &str, key: &str| json!({"id": id, "password": password, "idempotencyKey": key});
        admin.change("resetPassword", reset("second password", "r"), "staff { id }").await;
        assert_eq!(admin.refused_change("resetPassword", reset("third password", "r")).await, another_change());
        assert_eq!(admin.change("addStaff", add("long enough"), "staff { id }").await, eve, "also after the password has changed");
        admin.change("resetPassword", reset("third password", "s"), "staff { id }").await;
        admin.change("resetPassword", reset("second password", "r"), "staff { id }").await;
        assert!(!signs_in(app, "eve", "second password").await, "a reset that is sent again sets nothing back");
        assert!(signs_in(app, "eve", "third password").await);
        // Nothing that is stored is fast to compare with a password.
        let digests = app.number("SELECT COUNT(DISTINCT change_digest) FROM idempotency_key WHERE name IN ('r', 's')").await;
        assert_eq!(digests, 1, "resets of a member have one digest, whatever the password");
    }
}
