//! Authentication, sessions, masking, and encryption of personal data.

use serde_json::json;
use test_support::{EXAMPLE, PASSWORD, on_each_database, wait_until};

on_each_database! {
    async fn requests_without_a_valid_token_are_unauthenticated(app: TestApp) {
        for query in ["{ viewer { name } }", "{ __schema { queryType { name } } }", "{ hospital { name } __typename }",
            "mutation { signOut { signedOut } }", "{ ...f } fragment f on Query { viewer { name } }"] {
            for token in [None, Some("nonsense")] {
                let response = app.post(app.base(), token, query, json!({})).await;
                assert_eq!(response["errors"][0]["extensions"]["code"], "UNAUTHENTICATED", "{query}");
                assert!(response.get("data").is_none(), "{query}");
            }
        }
        assert_eq!(app.post(app.base(), None, "{ __typename }", json!({})).await["data"]["__typename"], "Query");
    }

    async fn failed_sign_ins_are_indistinguishable(app: TestApp) {
        let mut seen = Vec::new();
        for (hospital, login, password) in [("H1", "admin", "wrong password"), ("H1", "nobody", PASSWORD), ("H9", "admin", PASSWORD), ("h1", "admin", PASSWORD)] {
            let query = "mutation ($i: SignInInput!) { signIn(input: $i) { session { accessToken } } }";
            let input = json!({"hospital": hospital, "login": login, "password": password});
            let response = app.post(app.base(), None, query, json!({"i": input})).await;
            assert_eq!(response["errors"][0]["extensions"]["code"], "INVALID_CREDENTIALS");
            seen.push(response["errors"][0]["message"].clone());
        }
        seen.dedup();
        assert_eq!(seen.len(), 1);
    }

    async fn sessions_refresh_and_end(app: TestApp) {
        let query = "mutation ($i: SignInInput!) { signIn(input: $i) { session { refreshToken viewer { login role hospital { code today timeZone } } } } }";
        let input = json!({"hospital": "H1", "login": "desk", "password": PASSWORD});
        let response = app.post(app.base(), None, query, json!({"i": input})).await;
        let session = &response["data"]["signIn"]["session"];
        assert_eq!(session["viewer"]["role"], "DESK", "{response}");
        assert_eq!(session["viewer"]["hospital"]["timeZone"], "Asia/Seoul");
        let refresh = async |token: &serde_json::Value| {
            let query = "mutation ($t: String!) { refreshSession(input: {refreshToken: $t}) { session { accessToken refreshToken } } }";
            app.post(app.base(), None, query, json!({"t": token})).await
        };
        let second = refresh(&session["refreshToken"]).await;
        let tokens = &second["data"]["refreshSession"]["session"];
        assert!(tokens["accessToken"].is_string(), "{second}");
        let third = refresh(&tokens["refreshToken"]).await;
        let tokens = &third["data"]["refreshSession"]["session"];
        // Once its successor was used, a reused token ends the whole session, also for the newest token.
        let reused = refresh(&session["refreshToken"]).await;
        assert_eq!(reused["errors"][0]["extensions"]["code"], "UNAUTHENTICATED");
        assert_eq!(refresh(&tokens["refreshToken"]).await["errors"][0]["extensions"]["code"], "UNAUTHENTICATED");
        // After sign-out.
        let response = app.post(app.base(), None, query, json!({"i": input})).await;
        let session = &response["data"]["signIn"]["session"];
        let third = refresh(&session["refreshToken"]).await;
        let tokens = &third["data"]["refreshSession"]["session"];
        let out = app.post(app.base(), tokens["accessToken"].as_str(), "mutation { signOut { signedOut } }", json!({})).await;
        assert_eq!(out["data"]["signOut"]["signedOut"], true);
        assert_eq!(refresh(&tokens["refreshToken"]).await["errors"][0]["extensions"]["code"], "UNAUTHENTICATED");
        assert_eq!(refresh(&json!("1.nonsense")).await["errors"][0]["extensions"]["code"], "UNAUTHENTICATED");
    }

    async fn a_request_signs_in_at_most_once(app: TestApp) {
        let query = "mutation ($i: SignInInput!) { a: signIn(input: $i) { session { accessToken } } b: signIn(input: $i) { session { accessToken } } }";
        let input = json!({"hospital": "H1", "login": "desk", "password": PASSWORD});
        let response = app.post(app.base(), None, query, json!({"i": input})).await;
        assert_eq!(response["errors"][0]["path"], json!(["b"]));
    }

    async fn support_sees_masked_patients(app: TestApp) {
        app.import_example();
        let query = "{ patients(first: 2) { nodes { chartNo name phone birthDate birthYear } } }";
        let support = app.sign_in("support").await;
        assert_eq!(support.graphql(query).await["patients"]["nodes"], json!([
            {"chartNo": "A", "name": "A** A**", "phone": "010-****-**01", "birthDate": null, "birthYear": 1980},
            {"chartNo": "B", "name": "김*수", "phone": "010-****-**02", "birthDate": null, "birthYear": 1970},
        ]));
        for role in ["admin", "clinician", "desk"] {
            assert_eq!(app.sign_in(role).await.graphql(query).await["patients"]["nodes"][1], json!(
                {"chartNo": "B", "name": "김영수", "phone": "+821011110002", "birthDate": "1970-02-02", "birthYear": 1970}
            ));
        }
        for query in [
            "{ patients(orderBy: {field: NAME}) { totalCount } }".to_owned(),
            "{ visits(orderBy: {field: PATIENT_NAME}) { totalCount } }".to_owned(),
            "{ patients(filter: {search: \"Ash\"}) { totalCount } }".to_owned(),
            format!("{{ {EXAMPLE} {{ total {{ visitors {{ patients(orderBy: {{field: NAME}}) {{ totalCount }} }} }} }} }}"),
            format!("{{ {EXAMPLE} {{ total {{ visitors {{ visits(orderBy: {{field: PATIENT_NAME}}) {{ totalCount }} }} }} }} }}"),
        ] {
            support.expect_error(&query, "FORBIDDEN").await;
        }
        // A whole phone number or a prefix of a chart number is found; a part of a phone number is not.
        for (search, found) in [("010-1111-0002", 1), ("0002", 0)] {
            let response = support.graphql(&format!("{{ patients(filter: {{search: \"{search}\"}}) {{ totalCount }} }}")).await;
            assert_eq!(response["patients"]["totalCount"], found, "{search}");
        }
    }

    async fn masking_hides_at_least_half_of_short_names_and_phones(app: TestApp) {
        // Phone numbers of Saint Helena have four or five digits.
        app.import("patients", "H1", "chart_no,name,phone\n1,김 영 수,02-212-3456\n2,李 四,+2908123\n3,,+2908765\n4,김,\n5,J. R.,\n");
        // 김영수, decomposed.
        let (kim, yeong, su) = ("\u{1100}\u{1175}\u{11b7}", "\u{110b}\u{1167}\u{11bc}", "\u{1109}\u{116e}");
        app.execute(&format!("UPDATE patient SET name = '{kim}{yeong}{su}' WHERE chart_no = '3'")).await;
        let shown = app.sign_in("support").await.graphql("{ patients { nodes { name phone } } }").await;
        assert_eq!(shown["patients"]["nodes"], json!([
            {"name": "김 * 수", "phone": "02-***-**56"},
            {"name": "李 *", "phone": "***3"},
            {"name": format!("{kim}*{su}"), "phone": "***5"},
            {"name": "*", "phone": null},
            {"name": "J* **", "phone": null},
        ]));
    }

    async fn phones_are_stored_encrypted(app: TestApp) {
        use sea_orm::{ConnectionTrait as _, Statement};
        app.import_example();
        let statement = Statement::from_string(app.sql.get_database_backend(), "SELECT phone FROM patient WHERE phone IS NOT NULL");
        let rows = app.sql.query_all_raw(statement).await.unwrap();
        assert_eq!(rows.len(), 2);
        for row in rows {
            let sealed: Vec<u8> = row.try_get_by_index(0).unwrap();
            assert!(!String::from_utf8_lossy(&sealed).contains("1111"));
        }
        // A server with another key refuses to start.
        app.write_file("key", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=");
        let output = app.try_run_cli(&["serve", "--listen", "127.0.0.1:0"]);
        assert!(!output.status.success());
        assert!(String::from_utf8_lossy(&output.stderr).contains("encrypted with the key"));
    }

    async fn encryption_keys_rotate_while_servers_run(app: TestApp) {
        app.import_example();
        let user = app.sign_in("admin").await;
        user.mutate("changePatient", json!({"id": user.graphql("{ patients(filter: {search: \"C\"}) { nodes { id } } }").await["patients"]["nodes"][0]["id"], "version": 1, "memo": "Shy"}), "patient { id }").await;
        let all = "{ patients { nodes { phone memo } } found: patients(filter: {search: \"010-1111-0001\"}) { totalCount } }";
        let before = user.graphql(all).await;
        assert_eq!(before["found"]["totalCount"], 1);
        let first = "{ patients(first: 1, orderBy: {field: NAME}) { pageInfo { endCursor } } }";
        let cursor = user.graphql(first).await["patients"]["pageInfo"]["endCursor"].take();
        let sealed = "SELECT phone FROM patient WHERE chart_no = 'A'";
        let old: Vec<u8> = app.query_value(sealed).await;
        let printed = app.run_cli(&["keys", "rotate"]);
        assert!(printed.starts_with("re-encrypted 3 patients"), "{printed}");
        assert_ne!(app.query_value::<Vec<u8>>(sealed).await, old);
        // A server that started with the old key loads the new one.
        assert_eq!(user.graphql(all).await, before);
        let printed = app.run_cli(&["keys", "rotate"]);
        assert!(printed.starts_with("re-encrypted 0 patients"), "the rotation continues, with nothing left to do: {printed}");
        let second = app.second_server();
        let second_client = app.sign_in_at(&second.base, "H1", "admin").await;
        assert_eq!(second_client.graphql(all).await, before);
        let next = "query ($at: String) { patients(first: 1, after: $at, orderBy: {field: NAME}) { nodes { chartNo } } }";
        assert_eq!(second_client.graphql_with(next, json!({"at": cursor})).await["patients"]["nodes"][0]["chartNo"], "C");
        assert_ne!(second_client.graphql(first).await["patients"]["pageInfo"]["endCursor"], cursor);
        app.run_cli(&["keys", "drop-old"]);
        let third = app.second_server();
        let after = app.sign_in_at(&third.base, "H1", "admin").await;
        assert_eq!(after.graphql(all).await, before);
        assert_eq!(app.query_value::<i64>("SELECT COUNT(*) FROM encryption_key").await, 1);
        // Access tokens signed with the old key become invalid.
        wait_until("the server drops the old key", async || {
            user.graphql_response(all, json!({})).await.get("errors").is_some()
        })
        .await;
        user.expect_error(all, "UNAUTHENTICATED").await;
    }
}
