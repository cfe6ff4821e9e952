//! Staff, departments and doctors: added, changed, let go.

use serde_json::{Value, json};

use crate::harness::{App, EXAMPLE, PASSWORD, on_each_database};

fn refusal(code: &str, argument: &str) -> (String, String) {
    (code.to_owned(), argument.to_owned())
}

async fn session(app: &App, login: &str, password: &str) -> Value {
    let query = "mutation ($i: SignInInput!) { signIn(input: $i) { session { accessToken refreshToken } } }";
    let input = json!({"hospital": "H1", "login": login, "password": password});
    let mut answer = app.post(app.base(), None, query, json!({"i": input})).await;
    answer["data"]["signIn"]["session"].take()
}

async fn goes_on(app: &App, session: &Value) -> bool {
    let query = "mutation ($t: String!) { refreshSession(input: {refreshToken: $t}) { session { refreshToken } } }";
    let answer = app
        .post(app.base(), None, query, json!({"t": session["refreshToken"]}))
        .await;
    answer["data"]["refreshSession"].is_object()
}

on_each_database! {
    async fn staff_come_change_and_go(app: App) {
        let admin = app.sign_in("admin").await;
        let all = "staff { id login name role disabledAt }";
        let input = json!({"login": "eve", "name": "Eve Ey", "role": "DESK", "password": "long enough", "idempotencyKey": "e"});
        let eve = admin.change("addStaff", input.clone(), all).await["staff"].take();
        assert_eq!(admin.change("addStaff", input, all).await["staff"], eve);
        let id = eve["id"].clone();
        assert_eq!(eve, json!({"id": id, "login": "eve", "name": "Eve Ey", "role": "DESK", "disabledAt": null}));
        let logins = admin.ask("{ staff { login } }").await;
        assert_eq!(logins["staff"], json!(["admin", "clinician", "desk", "eve", "support"].map(|login| json!({"login": login}))));
        assert_eq!(admin.ask_with("query ($id: ID!) { node(id: $id) { ... on StaffMember { login } } }", json!({"id": id})).await["node"]["login"], "eve");

        // Another role ends the sessions; so does a disabled account, and nobody signs in to it.
        let desk = session(app, "eve", "long enough").await;
        admin.change("changeStaff", json!({"id": id, "name": "Eve Eye"}), all).await;
        assert!(goes_on(app, &desk).await);
        let desk = session(app, "eve", "long enough").await;
        let changed = admin.change("changeStaff", json!({"id": id, "role": "SUPPORT"}), all).await;
        assert_eq!((&changed["staff"]["role"], &changed["staff"]["name"]), (&json!("SUPPORT"), &json!("Eve Eye")));
        assert!(!goes_on(app, &desk).await);
        let support = session(app, "eve", "long enough").await;
        let gone = admin.change("changeStaff", json!({"id": id, "disabled": true}), all).await;
        assert!(gone["staff"]["disabledAt"].is_string());
        assert!(!goes_on(app, &support).await);
        assert_eq!(session(app, "eve", "long enough").await, Value::Null);
        admin.change("changeStaff", json!({"id": id, "disabled": false}), all).await;
        let back = session(app, "eve", "long enough").await;
        admin.change("resetPassword", json!({"id": id, "password": "another one"}), all).await;
        assert!(!goes_on(app, &back).await);
        assert_eq!(session(app, "eve", "long enough").await, Value::Null);
        assert!(session(app, "eve", "another one").await.is_object());

        // Somebody must be left to administer.
        let own = admin.ask("{ staff { id login } }").await["staff"][0]["id"].take();
        let alone = [("disabled", json!(true)), ("role", json!("DESK"))];
        for (field, value) in &alone {
            assert_eq!(admin.refused_change("changeStaff", json!({"id": own, *field: value})).await, refusal("BAD_USER_INPUT", &format!("input.{field}")));
        }
        admin.change("changeStaff", json!({"id": id, "role": "ADMIN"}), all).await;
        admin.change("changeStaff", json!({"id": own, "role": "DESK"}), all).await;

        let eve = session(app, "eve", "another one").await;
        let eve = app.with_token(eve["accessToken"].as_str().unwrap());
        let cases = [
            ("addStaff", json!({"login": "eve", "name": "E", "role": "DESK", "password": "long enough"}), "BAD_USER_INPUT", "input.login"),
            ("addStaff", json!({"login": " ", "name": "E", "role": "DESK", "password": "long enough"}), "BAD_USER_INPUT", "input.login"),
            ("addStaff", json!({"login": "f", "name": "E", "role": "DESK", "password": "short"}), "BAD_USER_INPUT", "input.password"),
            ("changeStaff", json!({"id": "VP__", "name": "E"}), "NOT_FOUND", "input.id"),
            ("changeStaff", json!({"id": id, "name": null}), "BAD_USER_INPUT", "input.name"),
            ("resetPassword", json!({"id": id, "password": "p".repeat(1_025)}), "BAD_USER_INPUT", "input.password"),
        ];
        for (name, input, code, argument) in cases {
            assert_eq!(eve.refused_change(name, input.clone()).await, refusal(code, argument), "{name} {input}");
        }
        for role in ["clinician", "desk", "support"] {
            let user = app.sign_in(role).await;
            assert_eq!(user.refused("{ staff { login } }").await.0, "FORBIDDEN", "{role}");
            assert_eq!(user.refused_change("changeStaff", json!({"id": id, "name": "x"})).await.0, "FORBIDDEN", "{role}");
            assert_eq!(user.refused_change("resetPassword", json!({"id": id, "password": "long enough"})).await.0, "FORBIDDEN", "{role}");
        }
    }

    async fn everybody_changes_the_own_password(app: App) {
        let (before, other) = (session(app, "support", PASSWORD).await, session(app, "desk", PASSWORD).await);
        let user = app.with_token(before["accessToken"].as_str().unwrap());
        let input = |current: &str, new: &str| json!({"currentPassword": current, "newPassword": new});
        assert_eq!(user.refused_change("changePassword", input("wrong", "long enough")).await, refusal("BAD_USER_INPUT", "input.currentPassword"));
        assert_eq!(user.refused_change("changePassword", input(PASSWORD, "short")).await, refusal("BAD_USER_INPUT", "input.newPassword"));
        let new = user.change("changePassword", input(PASSWORD, "long enough"), "session { accessToken refreshToken viewer { login } }").await;
        assert_eq!(new["session"]["viewer"]["login"], "support");
        assert!(!goes_on(app, &before).await, "the old sessions have ended");
        assert!(goes_on(app, &new["session"]).await);
        assert!(goes_on(app, &other).await, "other people's have not");
        assert_eq!(session(app, "support", PASSWORD).await, Value::Null);
        assert!(session(app, "support", "long enough").await.is_object());
    }

    async fn the_command_line_manages_accounts(app: App) {
        assert_eq!(app.rollcall(&["staff", "list", "--hospital", "H1"]), "admin: ADMIN, ADMIN\nclinician: CLINICIAN, CLINICIAN\ndesk: DESK, DESK\nsupport: SUPPORT, SUPPORT\n");
        let before = session(app, "desk", PASSWORD).await;
        assert_eq!(app.rollcall(&["staff", "disable", "--hospital", "H1", "--login", "desk"]), "disabled desk\n");
        assert!(!goes_on(app, &before).await);
        assert!(app.rollcall(&["staff", "list", "--hospital", "H1"]).contains("desk: DESK, DESK, disabled\n"));
        app.rollcall(&["staff", "enable", "--hospital", "H1", "--login", "desk"]);
        app.rollcall_with(&["staff", "reset", "--hospital", "H1", "--login", "desk"], "long enough\n");
        assert_eq!(session(app, "desk", PASSWORD).await, Value::Null);
        assert!(session(app, "desk", "long enough").await.is_object());
        let refused = |args: &[&str]| String::from_utf8(app.try_rollcall(args).stderr).unwrap();
        assert!(refused(&["staff", "disable", "--hospital", "H1", "--login", "nobody"]).contains("no account has the login"));
        assert!(refused(&["staff", "disable", "--hospital", "H1", "--login", "admin"]).contains("nobody would be left"));
    }

    async fn departments_and_doctors_retire_and_their_visits_count_on(app: App) {
        app.example();
        let admin = app.sign_in("admin").await;
        let hospital = "{ hospital { departments { id name } doctors { id name } all: departments(includeRetired: true) { name retiredAt } } }";
        let before = admin.ask(hospital).await["hospital"].take();
        let eyes = before["departments"][0]["id"].clone();
        assert_eq!(before["departments"][0]["name"], "Eyes");
        let count = async || {
            let query = format!("query ($d: [ID!]) {{ {} {{ total {{ visitors {{ visitCount }} }} }} }}", EXAMPLE.replace(')', ", filter: {departmentIds: $d})"));
            admin.ask_with(&query, json!({"d": [eyes]})).await["statistics"]["total"]["visitors"]["visitCount"].as_i64()
        };
        let counted = count().await;
        let renamed = admin.change("changeDepartment", json!({"id": eyes, "name": "Ophthalmology"}), "department { name retiredAt }").await;
        assert_eq!(renamed["department"], json!({"name": "Ophthalmology", "retiredAt": null}));
        let retired = admin.change("changeDepartment", json!({"id": eyes, "retired": true}), "department { name retiredAt }").await;
        assert!(retired["department"]["retiredAt"].is_string());
        assert_eq!(count().await, counted);
        let after = admin.ask(hospital).await["hospital"].take();
        assert_eq!(after["departments"].as_array().unwrap().len(), 1);
        assert_eq!(after["all"].as_array().unwrap().len(), 2);
        let patient = admin.ask("{ patients(first: 1) { nodes { id } } }").await["patients"]["nodes"][0]["id"].take();
        let book = |field: &str, id: &Value| json!({"patientId": patient, "date": "2025-06-01", field: id});
        assert_eq!(admin.refused_change("recordVisit", book("departmentId", &eyes)).await, refusal("BAD_USER_INPUT", "input.departmentId"));
        let added = admin.change("addDepartment", json!({"name": "Teeth", "idempotencyKey": "t"}), "department { id name }").await;
        assert_eq!(admin.change("addDepartment", json!({"name": "Teeth", "idempotencyKey": "t"}), "department { id name }").await, added);
        let teeth = &added["department"]["id"];
        let doctor = admin.change("addDoctor", json!({"name": "Dr Tooth", "departmentId": teeth}), "doctor { id name department { name } }").await;
        assert_eq!(doctor["doctor"]["department"]["name"], "Teeth");
        let id = &doctor["doctor"]["id"];
        let moved = admin.change("changeDoctor", json!({"id": id, "name": "Dr Who", "departmentId": null, "retired": true}), "doctor { name department { name } }").await;
        assert_eq!(moved["doctor"], json!({"name": "Dr Who", "department": null}));
        assert_eq!(admin.refused_change("recordVisit", book("doctorId", id)).await, refusal("BAD_USER_INPUT", "input.doctorId"));
        admin.change("changeDoctor", json!({"id": id, "retired": false}), "doctor { id }").await;
        admin.change("recordVisit", book("doctorId", id), "visit { id }").await;
        let cases = [
            ("addDepartment", json!({"name": "Teeth"}), "BAD_USER_INPUT", "input.name"),
            ("changeDepartment", json!({"id": eyes, "name": "Teeth"}), "BAD_USER_INPUT", "input.name"),
            ("changeDepartment", json!({"id": "RP__", "name": "x"}), "NOT_FOUND", "input.id"),
            ("addDoctor", json!({"name": "Dr Ito"}), "BAD_USER_INPUT", "input.name"),
            ("addDoctor", json!({"name": "Dr New", "departmentId": "RP__"}), "NOT_FOUND", "input.departmentId"),
            ("changeDoctor", json!({"id": id, "retired": null}), "BAD_USER_INPUT", "input.retired"),
        ];
        for (name, input, code, argument) in cases {
            assert_eq!(admin.refused_change(name, input.clone()).await, refusal(code, argument), "{name} {input}");
        }
        for role in ["clinician", "desk", "support"] {
            let user = app.sign_in(role).await;
            assert_eq!(user.refused_change("addDepartment", json!({"name": "x"})).await.0, "FORBIDDEN", "{role}");
            assert_eq!(user.refused_change("changeDoctor", json!({"id": id, "name": "x"})).await.0, "FORBIDDEN", "{role}");
        }
    }
}
