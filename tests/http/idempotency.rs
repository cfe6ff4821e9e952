//! Mutations that are repeated with their idempotency key.

use serde_json::{Value, json};
use test_support::{Client, TestApp, error, on_each_database};

fn key_reuse_error() -> (String, String) {
    error("BAD_USER_INPUT", "input.idempotencyKey")
}

async fn id_of(user: &Client<'_>, login: &str) -> Value {
    let mut staff = user.graphql("{ staff { id login } }").await;
    let mut staff = staff["staff"].as_array_mut().unwrap().iter_mut();
    staff.find(|member| member["login"] == login).unwrap()["id"].take()
}

async fn signs_in(app: &TestApp, login: &str, password: &str) -> bool {
    let query = "mutation ($i: SignInInput!) { signIn(input: $i) { session { accessToken } } }";
    let input = json!({"hospital": "H1", "login": login, "password": password});
    let response = app.post(app.base(), None, query, json!({"i": input})).await;
    response["data"]["signIn"].is_object()
}

on_each_database! {
    async fn repeated_mutations_are_recognized_after_key_rotation(app: TestApp) {
        app.import_example();
        let front_desk = app.sign_in("desk").await;
        let patient = front_desk.graphql("{ patients(first: 1) { nodes { id } } }").await["patients"]["nodes"][0]["id"].take();
        let register = json!({"chartNo": "7", "name": "Zoë", "phone": "010-2222-3333", "idempotencyKey": "p"});
        let record = json!({"patientId": patient, "date": "2025-05-30", "idempotencyKey": "v"});
        let made = front_desk.mutate("registerPatient", register.clone(), "patient { id version }").await;
        let recorded = front_desk.mutate("recordVisit", record.clone(), "visit { id version }").await;
        app.run_cli(&["keys", "rotate"]);
        let other = app.second_server();
        for base in [app.base(), other.base.as_str()] {
            let front_desk = app.sign_in_at(base, "H1", "desk").await;
            assert_eq!(front_desk.mutate("registerPatient", register.clone(), "patient { id version }").await, made);
            assert_eq!(front_desk.mutate("recordVisit", record.clone(), "visit { id version }").await, recorded);
            let different = json!({"chartNo": "7", "name": "Zoe", "phone": "010-2222-3333", "idempotencyKey": "p"});
            assert_eq!(front_desk.mutation_error("registerPatient", different).await, key_reuse_error());
        }
        // A server that has not loaded the new key yet recognizes a mutation that was recorded with it.
        let second_client = app.sign_in_at(&other.base, "H1", "desk").await;
        let delete = json!({"id": recorded["visit"]["id"], "version": 1, "reason": "r", "idempotencyKey": "d"});
        second_client.mutate("deleteVisit", delete.clone(), "visit { id }").await;
        front_desk.mutate("deleteVisit", delete, "visit { id }").await;
    }

    async fn a_repeated_registration_is_recognized_on_another_day(app: TestApp) {
        // One of these two time zones is always a day ahead of the other.
        let today = async |zone: &str| {
            app.execute(&format!("UPDATE hospital SET time_zone = '{zone}'")).await;
            app.sign_in("desk").await.graphql("{ hospital { today } }").await["hospital"]["today"].take()
        };
        let first = today("Pacific/Niue").await;
        let front_desk = app.sign_in("desk").await;
        let register = json!({"chartNo": "7", "idempotencyKey": "p"});
        let made = front_desk.mutate("registerPatient", register.clone(), "patient { id registeredOn }").await;
        assert_eq!(made["patient"]["registeredOn"], first);
        assert_ne!(today("Pacific/Kiritimati").await, first);
        assert_eq!(front_desk.mutate("registerPatient", register, "patient { id registeredOn }").await, made);
        let on_a_day = json!({"chartNo": "7", "registeredOn": first, "idempotencyKey": "p"});
        assert_eq!(front_desk.mutation_error("registerPatient", on_a_day).await, key_reuse_error(), "the request is different");
    }

    async fn the_password_is_part_of_the_request_digest(app: TestApp) {
        let admin = app.sign_in("admin").await;
        let add = |password: &str| json!({"login": "eve", "name": "Eve", "role": "DESK", "password": password, "idempotencyKey": "a"});
        let eve = admin.mutate("addStaff", add("long enough"), "staff { id }").await;
        assert_eq!(admin.mutate("addStaff", add("long enough"), "staff { id }").await, eve);
        assert_eq!(admin.mutation_error("addStaff", add("another one")).await, key_reuse_error());
        let id = id_of(&admin, "eve").await;
        let reset = |password: &str, key: &str| json!({"id": id, "password": password, "idempotencyKey": key});
        admin.mutate("resetPassword", reset("second password", "r"), "staff { id }").await;
        assert_eq!(admin.mutation_error("resetPassword", reset("third password", "r")).await, key_reuse_error());
        assert_eq!(admin.mutate("addStaff", add("long enough"), "staff { id }").await, eve, "also after a password change");
        admin.mutate("resetPassword", reset("third password", "s"), "staff { id }").await;
        admin.mutate("resetPassword", reset("second password", "r"), "staff { id }").await;
        assert!(!signs_in(app, "eve", "second password").await, "a repeated reset has no effect");
        assert!(signs_in(app, "eve", "third password").await);
        // Nothing that is stored allows a fast comparison with a password.
        let digests = app.query_number("SELECT COUNT(DISTINCT change_digest) FROM idempotency_key WHERE name IN ('r', 's')").await;
        assert_eq!(digests, 1, "resets of a member have one digest, whatever the password");
    }
}
