//! Administration of staff, departments and doctors.

use serde_json::{Value, json};
use test_support::{EXAMPLE, PASSWORD, TestApp, error, on_each_database};

async fn session(app: &TestApp, login: &str, password: &str) -> Value {
    let query = "mutation ($i: SignInInput!) { signIn(input: $i) { session { accessToken refreshToken } } }";
    let input = json!({"hospital": "H1", "login": login, "password": password});
    let mut response = app.post(app.base(), None, query, json!({"i": input})).await;
    response["data"]["signIn"]["session"].take()
}

async fn goes_on(app: &TestApp, session: &Value) -> bool {
    let query = "mutation ($t: String!) { refreshSession(input: {refreshToken: $t}) { session { refreshToken } } }";
    let response = app
        .post(app.base(), None, query, json!({"t": session["refreshToken"]}))
        .await;
    response["data"]["refreshSession"].is_object()
}

on_each_database! {
    async fn staff_can_be_added_changed_and_disabled(app: TestApp) {
        let admin = app.sign_in("admin").await;
        let all = "staff { id login name role disabledAt }";
        let input = json!({"login": "eve", "name": "Eve Ey", "role": "DESK", "password": "long enough", "idempotencyKey": "e"});
        let eve = admin.mutate("addStaff", input.clone(), all).await["staff"].take();
        assert_eq!(admin.mutate("addStaff", input, all).await["staff"], eve);
        let id = eve["id"].clone();
        assert_eq!(eve, json!({"id": id, "login": "eve", "name": "Eve Ey", "role": "DESK", "disabledAt": null}));
        let logins = admin.graphql("{ staff { login } }").await;
        assert_eq!(logins["staff"], json!(["admin", "clinician", "desk", "eve", "kiosk", "support"].map(|login| json!({"login": login}))));
        assert_eq!(admin.graphql_with("query ($id: ID!) { node(id: $id) { ... on StaffMember { login } } }", json!({"id": id})).await["node"]["login"], "eve");

        // A changed role ends the sessions; so does disabling the account, which can no longer sign in.
        let front_desk = session(app, "eve", "long enough").await;
        admin.mutate("changeStaff", json!({"id": id, "name": "Eve Eye"}), all).await;
        assert!(goes_on(app, &front_desk).await);
        let front_desk = session(app, "eve", "long enough").await;
        let changed = admin.mutate("changeStaff", json!({"id": id, "role": "SUPPORT"}), all).await;
        assert_eq!((&changed["staff"]["role"], &changed["staff"]["name"]), (&json!("SUPPORT"), &json!("Eve Eye")));
        assert!(!goes_on(app, &front_desk).await);
        let support = session(app, "eve", "long enough").await;
        let gone = admin.mutate("changeStaff", json!({"id": id, "disabled": true}), all).await;
        assert!(gone["staff"]["disabledAt"].is_string());
        assert!(!goes_on(app, &support).await);
        assert_eq!(session(app, "eve", "long enough").await, Value::Null);
        admin.mutate("changeStaff", json!({"id": id, "disabled": false}), all).await;
        let back = session(app, "eve", "long enough").await;
        admin.mutate("resetPassword", json!({"id": id, "password": "another one"}), all).await;
        assert!(!goes_on(app, &back).await);
        assert_eq!(session(app, "eve", "long enough").await, Value::Null);
        assert!(session(app, "eve", "another one").await.is_object());

        // The last administrator cannot be removed.
        let own = admin.graphql("{ staff { id login } }").await["staff"][0]["id"].take();
        let alone = [("disabled", json!(true)), ("role", json!("DESK"))];
        for (field, value) in &alone {
            assert_eq!(admin.mutation_error("changeStaff", json!({"id": own, *field: value})).await, error("BAD_USER_INPUT", &format!("input.{field}")));
        }
        admin.mutate("changeStaff", json!({"id": id, "role": "ADMIN"}), all).await;
        admin.mutate("changeStaff", json!({"id": own, "role": "DESK"}), all).await;

        let eve = session(app, "eve", "another one").await;
        let eve = app.client_with_token(eve["accessToken"].as_str().unwrap());
        let cases = [
            ("addStaff", json!({"login": "eve", "name": "E", "role": "DESK", "password": "long enough"}), "BAD_USER_INPUT", "input.login"),
            ("addStaff", json!({"login": " ", "name": "E", "role": "DESK", "password": "long enough"}), "BAD_USER_INPUT", "input.login"),
            ("addStaff", json!({"login": "f", "name": "E", "role": "DESK", "password": "short"}), "BAD_USER_INPUT", "input.password"),
            ("changeStaff", json!({"id": "VP__", "name": "E"}), "NOT_FOUND", "input.id"),
            ("changeStaff", json!({"id": id, "name": null}), "BAD_USER_INPUT", "input.name"),
            ("resetPassword", json!({"id": id, "password": "p".repeat(1_025)}), "BAD_USER_INPUT", "input.password"),
        ];
        for (name, input, code, argument) in cases {
            assert_eq!(eve.mutation_error(name, input.clone()).await, error(code, argument), "{name} {input}");
        }
        for role in ["clinician", "desk", "support"] {
            let user = app.sign_in(role).await;
            // Of the others they see no more than the names.
            let staff = user.graphql("{ staff { name login createdAt } }").await["staff"].take();
            let logins: Vec<_> = staff.as_array().unwrap().iter().filter_map(|member| member["login"].as_str()).collect();
            assert_eq!((logins, &staff[0]["name"], &staff[0]["createdAt"]), (vec![role], &json!("ADMIN"), &serde_json::Value::Null));
            user.expect_mutation_error("changeStaff", json!({"id": id, "name": "x"}), "FORBIDDEN").await;
            user.expect_mutation_error("resetPassword", json!({"id": id, "password": "long enough"}), "FORBIDDEN").await;
        }
    }

    async fn everyone_can_change_their_own_password(app: TestApp) {
        let (before, other) = (session(app, "support", PASSWORD).await, session(app, "desk", PASSWORD).await);
        let user = app.client_with_token(before["accessToken"].as_str().unwrap());
        let input = |current: &str, new: &str| json!({"currentPassword": current, "newPassword": new});
        assert_eq!(user.mutation_error("changePassword", input("wrong", "long enough")).await, error("BAD_USER_INPUT", "input.currentPassword"));
        assert_eq!(user.mutation_error("changePassword", input(PASSWORD, "short")).await, error("BAD_USER_INPUT", "input.newPassword"));
        let new = user.mutate("changePassword", input(PASSWORD, "long enough"), "session { accessToken refreshToken viewer { login } }").await;
        assert_eq!(new["session"]["viewer"]["login"], "support");
        assert!(!goes_on(app, &before).await, "old sessions ended");
        assert!(goes_on(app, &new["session"]).await);
        assert!(goes_on(app, &other).await, "other sessions continue");
        assert_eq!(session(app, "support", PASSWORD).await, Value::Null);
        assert!(session(app, "support", "long enough").await.is_object());
    }

    async fn the_command_line_manages_accounts(app: TestApp) {
        assert_eq!(app.run_cli(&["staff", "list", "--hospital", "H1"]), "admin: ADMIN, ADMIN\nclinician: CLINICIAN, CLINICIAN\ndesk: DESK, DESK\nkiosk: KIOSK, KIOSK\nsupport: SUPPORT, SUPPORT\n");
        let before = session(app, "desk", PASSWORD).await;
        assert_eq!(app.run_cli(&["staff", "disable", "--hospital", "H1", "--login", "desk"]), "disabled desk\n");
        assert!(!goes_on(app, &before).await);
        assert!(app.run_cli(&["staff", "list", "--hospital", "H1"]).contains("desk: DESK, DESK, disabled\n"));
        app.run_cli(&["staff", "enable", "--hospital", "H1", "--login", "desk"]);
        app.run_cli_with_input(&["staff", "reset", "--hospital", "H1", "--login", "desk"], "long enough\n");
        assert_eq!(session(app, "desk", PASSWORD).await, Value::Null);
        assert!(session(app, "desk", "long enough").await.is_object());
        let refused = |args: &[&str]| String::from_utf8(app.try_run_cli(args).stderr).unwrap();
        assert!(refused(&["staff", "disable", "--hospital", "H1", "--login", "nobody"]).contains("no account has the login"));
        assert!(refused(&["staff", "disable", "--hospital", "H1", "--login", "admin"]).contains("no enabled ADMIN would be left"));
    }

    async fn visits_of_retired_departments_and_doctors_still_count(app: TestApp) {
        app.import_example();
        let admin = app.sign_in("admin").await;
        let hospital = "{ hospital { departments { id name } doctors { id name } all: departments(includeRetired: true) { name retiredAt } } }";
        let before = admin.graphql(hospital).await["hospital"].take();
        let eyes = before["departments"][0]["id"].clone();
        assert_eq!(before["departments"][0]["name"], "Eyes");
        let count = async || {
            let query = format!("query ($d: [ID!]) {{ {} {{ total {{ visitors {{ visitCount }} }} }} }}", EXAMPLE.replace(')', ", filter: {departmentIds: $d})"));
            admin.graphql_with(&query, json!({"d": [eyes]})).await["statistics"]["total"]["visitors"]["visitCount"].as_i64()
        };
        let counted = count().await;
        let renamed = admin.mutate("changeDepartment", json!({"id": eyes, "name": "Ophthalmology"}), "department { name retiredAt }").await;
        assert_eq!(renamed["department"], json!({"name": "Ophthalmology", "retiredAt": null}));
        let retired = admin.mutate("changeDepartment", json!({"id": eyes, "retired": true}), "department { name retiredAt }").await;
        assert!(retired["department"]["retiredAt"].is_string());
        assert_eq!(count().await, counted);
        let after = admin.graphql(hospital).await["hospital"].take();
        assert_eq!(after["departments"].as_array().unwrap().len(), 1);
        assert_eq!(after["all"].as_array().unwrap().len(), 2);
        let patient = admin.graphql("{ patients(first: 1) { nodes { id } } }").await["patients"]["nodes"][0]["id"].take();
        let book = |field: &str, id: &Value| json!({"patientId": patient, "date": "2025-06-01", field: id});
        assert_eq!(admin.mutation_error("recordVisit", book("departmentId", &eyes)).await, error("BAD_USER_INPUT", "input.departmentId"));
        let added = admin.mutate("addDepartment", json!({"name": "Teeth", "idempotencyKey": "t"}), "department { id name }").await;
        assert_eq!(admin.mutate("addDepartment", json!({"name": "Teeth", "idempotencyKey": "t"}), "department { id name }").await, added);
        let teeth = &added["department"]["id"];
        let doctor = admin.mutate("addDoctor", json!({"name": "Dr Tooth", "departmentId": teeth}), "doctor { id name department { name } }").await;
        assert_eq!(doctor["doctor"]["department"]["name"], "Teeth");
        let id = &doctor["doctor"]["id"];
        let moved = admin.mutate("changeDoctor", json!({"id": id, "name": "Dr Who", "departmentId": null, "retired": true}), "doctor { name department { name } }").await;
        assert_eq!(moved["doctor"], json!({"name": "Dr Who", "department": null}));
        assert_eq!(admin.mutation_error("recordVisit", book("doctorId", id)).await, error("BAD_USER_INPUT", "input.doctorId"));
        admin.mutate("changeDoctor", json!({"id": id, "retired": false}), "doctor { id }").await;
        admin.mutate("recordVisit", book("doctorId", id), "visit { id }").await;
        let cases = [
            ("addDepartment", json!({"name": "Teeth"}), "BAD_USER_INPUT", "input.name"),
            ("changeDepartment", json!({"id": eyes, "name": "Teeth"}), "BAD_USER_INPUT", "input.name"),
            ("changeDepartment", json!({"id": "RP__", "name": "x"}), "NOT_FOUND", "input.id"),
            ("addDoctor", json!({"name": "Dr Ito"}), "BAD_USER_INPUT", "input.name"),
            ("addDoctor", json!({"name": "Dr New", "departmentId": "RP__"}), "NOT_FOUND", "input.departmentId"),
            ("changeDoctor", json!({"id": id, "retired": null}), "BAD_USER_INPUT", "input.retired"),
        ];
        for (name, input, code, argument) in cases {
            assert_eq!(admin.mutation_error(name, input.clone()).await, error(code, argument), "{name} {input}");
        }
        for role in ["clinician", "desk", "support"] {
            let user = app.sign_in(role).await;
            user.expect_mutation_error("addDepartment", json!({"name": "x"}), "FORBIDDEN").await;
            user.expect_mutation_error("changeDoctor", json!({"id": id, "name": "x"}), "FORBIDDEN").await;
        }
    }
}
