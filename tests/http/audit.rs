//! The audit: who viewed and who changed whose data. Entries are written before the response is sent, and are
//! immutable.

use std::collections::BTreeSet;

use migration::{Migrator, MigratorTrait as _};
use sea_orm::ConnectionTrait as _;
use serde_json::{Value, json};
use test_support::{Client, DatabaseKind, EXAMPLE, PASSWORD, SERVE, TestServer, error, on_each_database, wait_until};

use crate::authorization_matrix::{HospitalFixture, text};

/// The newest entries, newest first.
async fn newest(admin: &Client<'_>, count: usize) -> Vec<Value> {
    let query = "query ($n: Int) { audit(first: $n) { nodes { action staff { login } what patientIds cohortId cohortKind requestId } } }";
    let response = admin.graphql_with(query, json!({"n": count})).await;
    response["audit"]["nodes"].as_array().unwrap().clone()
}

/// The IDs under the alias `shown`.
fn named(response: &Value, persons: &mut BTreeSet<String>) {
    match response {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(id) if name == "shown" => drop(persons.insert(id.clone())),
                    Value::Object(of) if name == "shown" => drop(persons.insert(text(&of["id"]))),
                    _ => named(value, persons),
                }
            }
        }
        Value::Array(list) => list.iter().for_each(|value| named(value, persons)),
        _ => {}
    }
}

on_each_database! {
    async fn viewed_patients_and_opened_lists_are_recorded(app: TestApp) {
        app.import_example();
        let (admin, front_desk) = (app.sign_in("admin").await, app.sign_in("desk").await);
        let ids = front_desk.graphql("{ patients(first: 2) { nodes { id } } }").await["patients"]["nodes"].take();
        let (a, b) = (&ids[0]["id"], &ids[1]["id"]);
        let seen = async || newest(&admin, 1).await[0].clone();
        let entry = seen().await;
        assert_eq!((&entry["action"], &entry["patientIds"]), (&json!("VIEWED_PATIENTS"), &json!([a, b])));
        front_desk.graphql_with("query ($id: ID!) { patient(id: $id) { name phone } }", json!({"id": a})).await;
        let entry = seen().await;
        assert_eq!((&entry["action"], &entry["staff"]["login"], &entry["patientIds"]), (&json!("VIEWED_PATIENTS"), &json!("desk"), &json!([a])));
        assert_eq!(entry["requestId"].as_str().unwrap().len(), 32);
        front_desk.graphql("{ patients(first: 2) { nodes { name } } }").await;
        assert_eq!(seen().await["patientIds"], json!([a, b]));
        front_desk.graphql("{ visits(first: 3, filter: {dates: {from: \"2025-05-11\", to: \"2025-05-13\"}}) { nodes { date } } }").await;
        assert_eq!(seen().await["patientIds"], json!([a]));

        // A list is one entry, whatever is selected of its page.
        let list = front_desk.graphql(&format!("{{ {EXAMPLE} {{ buckets {{ newPatients {{ id patients {{ nodes {{ name visits {{ nodes {{ date }} }} }} }} visits {{ edges {{ node {{ status patient {{ phone }} }} }} }} }} }} }} }}")).await;
        let entries = newest(&admin, 4).await;
        let lists: Vec<_> = entries.iter().map(|entry| (entry["action"].as_str().unwrap(), entry["cohortId"].clone(), entry["what"].as_str().unwrap_or_default())).collect();
        let id = |bucket: usize| list["statistics"]["buckets"][bucket]["newPatients"]["id"].clone();
        for expected in [(0, "patients"), (0, "visits"), (1, "patients"), (1, "visits")] {
            assert!(lists.contains(&("OPENED_LIST", id(expected.0), expected.1)), "{expected:?} {lists:?}");
        }
        assert_eq!(entries[0]["cohortKind"], "NEW");
        assert_eq!(entries[0]["patientIds"], json!([]));
        let opened = admin.graphql_with("query ($id: ID!) { node(id: $id) { ... on Cohort { patientCount } } }", json!({"id": entries[3]["cohortId"]})).await;
        assert!(opened["node"]["patientCount"].is_number(), "the audit refers to the list");
        let before = app.query_value::<i64>("SELECT COUNT(*) FROM audit_entry").await;
        front_desk.graphql(&format!("{{ {EXAMPLE} {{ id total {{ newPatients {{ patientCount digest patientIds patients {{ totalCount }} }} }} }} }}")).await;
        assert_eq!(app.query_value::<i64>("SELECT COUNT(*) FROM audit_entry").await, before, "counts and IDs contain no personal data");
    }

    async fn changes_refusals_and_sign_ins_are_recorded(app: TestApp) {
        app.import_example();
        let admin = app.sign_in("admin").await;
        let support = app.sign_in("support").await;
        let patients = admin.graphql("{ patients { nodes { id version } } }").await["patients"]["nodes"].take();
        let merge = json!({"id": patients[0]["id"], "version": 1, "intoId": patients[1]["id"], "reason": "r"});
        admin.mutate("mergePatients", merge.clone(), "into { id }").await;
        let entry = newest(&admin, 2).await[1].clone();
        assert_eq!((&entry["action"], &entry["what"], &entry["patientIds"]), (&json!("CHANGED"), &json!("mergePatients"), &json!([patients[0]["id"], patients[1]["id"]])));
        // Failed mutations are not recorded as changes; forbidden ones are recorded.
        let before = newest(&admin, 1).await;
        admin.mutation_error("mergePatients", merge.clone()).await;
        assert_eq!(newest(&admin, 1).await, before);
        support.mutation_error("mergePatients", merge).await;
        let entry = newest(&admin, 1).await[0].clone();
        assert_eq!((&entry["action"], &entry["what"], &entry["staff"]["login"]), (&json!("REFUSED"), &json!("mergePatients"), &json!("support")));
        support.graphql_error("{ audit { totalCount } }").await;
        assert_eq!(newest(&admin, 1).await[0]["what"], "audit");
        let query = "mutation ($i: SignInInput!) { signIn(input: $i) { session { accessToken refreshToken } } }";
        let sign_in = async |login: &str, password: &str| {
            app.post(app.base(), None, query, json!({"i": {"hospital": "H1", "login": login, "password": password}})).await
        };
        sign_in("desk", "wrong password").await;
        sign_in("nobody", PASSWORD).await;
        let entries = newest(&admin, 2).await;
        assert_eq!((&entries[0]["action"], &entries[0]["staff"]), (&json!("SIGN_IN_REFUSED"), &Value::Null));
        assert_eq!((&entries[1]["action"], &entries[1]["staff"]["login"]), (&json!("SIGN_IN_REFUSED"), &json!("desk")));
        let session = sign_in("desk", PASSWORD).await["data"]["signIn"]["session"].take();
        let front_desk = app.client_with_token(session["accessToken"].as_str().unwrap());
        front_desk.graphql("mutation { signOut { signedOut } }").await;
        let actions: Vec<Value> = newest(&admin, 2).await.iter().map(|entry| entry["action"].clone()).collect();
        assert_eq!(actions, ["SIGNED_OUT", "SIGNED_IN"]);
        let refresh = async |token: &Value| {
            let query = "mutation ($t: String!) { refreshSession(input: {refreshToken: $t}) { session { refreshToken } } }";
            app.post(app.base(), None, query, json!({"t": token})).await["data"]["refreshSession"]["session"]["refreshToken"].take()
        };
        let first = sign_in("desk", PASSWORD).await["data"]["signIn"]["session"]["refreshToken"].take();
        let second = refresh(&first).await;
        refresh(&second).await;
        assert_eq!(newest(&admin, 1).await[0]["action"], "SIGNED_IN");
        assert_eq!(refresh(&first).await, Value::Null);
        assert_eq!(newest(&admin, 1).await[0]["action"], "SESSION_ENDED");
        app.run_cli_with_input(&["staff", "add", "--hospital", "H1", "--login", "eve", "--name", "Eve", "--role", "desk"], PASSWORD);
        let entry = newest(&admin, 1).await[0].clone();
        assert_eq!((&entry["action"], &entry["what"], &entry["staff"]), (&json!("CHANGED"), &json!("addStaff"), &Value::Null));
    }

    async fn entries_are_immutable_and_searchable(app: TestApp) {
        app.import_example();
        let (admin, front_desk) = (app.sign_in("admin").await, app.sign_in("desk").await);
        let patients = front_desk.graphql("{ patients { nodes { id name } } }").await["patients"]["nodes"].take();
        for at in [0, 1, 0] {
            front_desk.graphql_with("query ($id: ID!) { patient(id: $id) { name } }", json!({"id": patients[at]["id"]})).await;
        }
        let mut refused = vec!["UPDATE audit_entry SET staff_id = NULL", "DELETE FROM audit_entry", "UPDATE audit_patient SET patient_id = 0", "DELETE FROM audit_patient"];
        refused.extend_from_slice(match app.kind() {
            DatabaseKind::Sqlite => &[
                "INSERT OR REPLACE INTO audit_entry (id, hospital_id, at, action) SELECT id, hospital_id, at, 'SIGNED_OUT' FROM audit_entry",
                "UPDATE OR REPLACE audit_entry SET id = id + 1",
            ][..],
            DatabaseKind::Postgres => &[
                "TRUNCATE audit_entry CASCADE",
                "TRUNCATE audit_patient CASCADE",
                "SET session_replication_role = replica; DELETE FROM audit_patient; DELETE FROM audit_entry",
                "INSERT INTO audit_entry (id, hospital_id, at, action) SELECT id, hospital_id, at, 'SIGNED_OUT' FROM audit_entry ON CONFLICT (hospital_id, id) DO UPDATE SET action = 'SIGNED_OUT'",
            ],
            DatabaseKind::Mariadb => &[
                "TRUNCATE audit_entry",
                "TRUNCATE audit_patient",
                "REPLACE INTO audit_entry (id, hospital_id, at, action) SELECT id, hospital_id, at, 'SIGNED_OUT' FROM audit_entry",
            ],
        });
        for sql in refused {
            assert!(app.sql.execute_unprepared(sql).await.is_err(), "{sql}");
        }
        if app.kind() == DatabaseKind::Postgres {
            app.execute("SET session_replication_role = DEFAULT").await;
        }
        let total = async |filter: Value| {
            let response = admin.graphql_with("query ($f: AuditFilter) { audit(filter: $f) { totalCount } }", json!({"f": filter})).await;
            response["audit"]["totalCount"].as_u64().unwrap()
        };
        assert_eq!(total(json!({"patientId": patients[0]["id"]})).await, 3);
        assert_eq!(total(json!({"patientId": patients[2]["id"]})).await, 1);
        assert_eq!(total(json!({"actions": ["VIEWED_PATIENTS"]})).await, 4);
        assert_eq!(total(json!({"actions": ["SIGNED_IN"], "since": "2020-01-01T00:00:00Z"})).await, 2);
        assert_eq!(total(json!({"until": "2020-01-01T00:00:00Z"})).await, 0);
        let staff = admin.graphql("{ staff { id login } }").await["staff"].take();
        let member = |login: &str| staff.as_array().unwrap().iter().find(|member| member["login"] == login).unwrap()["id"].clone();
        assert_eq!(total(json!({"staffId": member("desk"), "actions": ["SIGNED_IN", "VIEWED_PATIENTS"]})).await, 5);
        // Paging through all entries in either direction yields each once.
        let page = async |arguments: &str| {
            let query = format!("{{ audit({arguments}, filter: {{actions: [VIEWED_PATIENTS]}}) {{ pageInfo {{ hasNextPage hasPreviousPage startCursor endCursor }} nodes {{ id at }} }} }}");
            admin.graphql(&query).await["audit"].take()
        };
        let all = page("first: 100").await["nodes"].take();
        assert_eq!(all.as_array().unwrap().len(), 4);
        let (mut paged, mut after) = (Vec::new(), String::new());
        loop {
            let next = page(&format!("first: 3{after}")).await;
            paged.extend(next["nodes"].as_array().unwrap().clone());
            if next["pageInfo"]["hasNextPage"] != true {
                break;
            }
            after = format!(", after: {}", next["pageInfo"]["endCursor"]);
        }
        assert_eq!(json!(paged), all);
        let last = page("last: 1").await;
        assert_eq!(last["nodes"][0], all[3]);
        let before = page(&format!("last: 2, before: {}", last["pageInfo"]["startCursor"])).await;
        assert_eq!(before["nodes"], json!([all[1], all[2]]));
        let entry = admin.graphql_with("query ($id: ID!) { node(id: $id) { ... on AuditEntry { id at } } }", json!({"id": all[0]["id"]})).await;
        assert_eq!(entry["node"], all[0]);
        assert_eq!(admin.graphql_error("{ audit(filter: {actions: []}) { totalCount } }").await, error("BAD_USER_INPUT", "filter.actions"));
        for role in ["clinician", "desk", "support"] {
            app.sign_in(role).await.expect_error("{ audit { totalCount } }", "FORBIDDEN").await;
        }
        let other = app.other_hospital().await;
        assert_eq!(other.graphql("{ audit { totalCount } }").await["audit"]["totalCount"], 2, "its own sign-in, and adding the account");
        assert_eq!(other.graphql_with("query ($id: ID!) { node(id: $id) { id } }", json!({"id": all[0]["id"]})).await["node"], Value::Null);
    }

    async fn personal_data_is_withheld_when_the_audit_fails(app: TestApp) {
        app.import_example();
        let front_desk = app.sign_in("desk").await;
        let many = (0..32).map(|_| front_desk.graphql("{ patients { nodes { name } } }"));
        futures_util::future::join_all(many).await;
        assert_eq!(app.query_value::<i64>("SELECT COUNT(*) FROM audit_entry WHERE action = 'VIEWED_PATIENTS'").await, 32);
        app.execute("ALTER TABLE audit_entry RENAME TO gone").await;
        let response = front_desk.graphql_response("{ patients { nodes { name } } }", json!({})).await;
        assert_eq!(response["errors"][0]["extensions"]["code"], "INTERNAL_SERVER_ERROR");
        assert!(response.get("data").is_none(), "{response}");
        // Counts contain no personal data, so they still work.
        front_desk.graphql(&format!("{{ {EXAMPLE} {{ total {{ visitors {{ patientCount }} }} }} }}")).await;
    }

    async fn every_displayed_patient_is_recorded(app: TestApp) {
        let fixture = HospitalFixture::new(app).await;
        let shown = fixture.shown();
        assert!(shown.len() > 20, "{shown:?}");
        for (place, of, query) in shown {
            let ask = async |selection: &str| {
                let before = app.query_number("SELECT MAX(id) FROM audit_entry").await;
                let response = fixture.admin.graphql(&query.replace("SELECTION", selection)).await;
                let written = app.query_number(&format!("SELECT COUNT(*) FROM audit_entry WHERE id > {before}")).await;
                (response, newest(&fixture.admin, usize::try_from(written.max(1)).unwrap()).await)
            };
            let (response, _) = ask(if of == "Patient" { "shown: id" } else { "shown: patient { id }" }).await;
            let mut persons = BTreeSet::new();
            named(&response, &mut persons);
            assert!(!persons.is_empty(), "{place} shows nobody: {response}");
            for field in fixture.plain_fields(of) {
                let (_, entries) = ask(field).await;
                let mut recorded = BTreeSet::new();
                for entry in &entries {
                    recorded.extend(entry["patientIds"].as_array().unwrap().iter().map(text));
                }
                let list = entries.iter().any(|entry| entry["action"] == "OPENED_LIST");
                assert!(list || persons.is_subset(&recorded), "{place} {{ {field} }}: {persons:?}, {entries:?}");
            }
        }
    }

    async fn searches_imports_and_pins_are_recorded(app: TestApp) {
        app.import_example();
        let (admin, front_desk) = (app.sign_in("admin").await, app.sign_in("desk").await);
        let imported: Vec<Value> = newest(&admin, 100).await.into_iter().filter(|entry| entry["action"] == "IMPORTED").collect();
        let what: Vec<(&str, &str)> = imported.iter().map(|entry| entry["what"].as_str().unwrap().split_once("; SHA-256 ").unwrap()).collect();
        assert!(what.iter().all(|(_, digest)| digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit())), "{what:?}");
        let what: Vec<&str> = what.into_iter().map(|(what, _)| what).collect();
        assert_eq!(what, [
            "visits: 11 rows read: 11 inserted, 0 changed, 0 unchanged, 0 conflicts, 0 refused, 0 blank; 0 values left empty",
            "patients: 5 rows read: 5 inserted, 0 changed, 0 unchanged, 0 conflicts, 0 refused, 0 blank; 0 values left empty",
        ]);
        assert_eq!(imported[0]["staff"], Value::Null);
        // Also if only the number of results is selected.
        let b = front_desk.graphql("{ patients(filter: {search: \"B\"}) { nodes { id } } }").await["patients"]["nodes"][0]["id"].take();
        let entries = newest(&admin, 2).await;
        assert_eq!([&entries[0]["action"], &entries[1]["action"]], ["SEARCHED", "VIEWED_PATIENTS"]);
        for search in ["B", "010-1111-0002"] {
            front_desk.graphql(&format!("{{ patients(filter: {{search: \"{search}\"}}) {{ totalCount }} }}")).await;
            let entry = newest(&admin, 1).await[0].clone();
            assert_eq!((&entry["action"], &entry["patientIds"], &entry["what"]), (&json!("SEARCHED"), &json!([b]), &Value::Null));
        }
        front_desk.graphql("{ patients(filter: {search: \"Nobody\"}) { totalCount } }").await;
        let entry = newest(&admin, 1).await[0].clone();
        assert_eq!((&entry["action"], &entry["patientIds"]), (&json!("SEARCHED"), &json!([])));

        let id = admin.graphql(&format!("{{ {EXAMPLE} {{ id }} }}")).await["statistics"]["id"].take();
        for (name, key) in [("pinSnapshot", "p"), ("pinSnapshot", "p"), ("unpinSnapshot", "u")] {
            admin.mutate(name, json!({"id": id, "idempotencyKey": key}), "statistics { id }").await;
        }
        let query = "{ audit(first: 3) { nodes { action what statisticsId staff { login } } } }";
        let entries = admin.graphql(query).await["audit"]["nodes"].take();
        let entry = |what: &str| json!({"action": "CHANGED", "what": what, "statisticsId": id, "staff": {"login": "admin"}});
        assert_eq!((&entries[0], &entries[1]), (&entry("unpinSnapshot"), &entry("pinSnapshot")), "one key executes once");
        assert_ne!(entries[2]["what"], "pinSnapshot");
        front_desk.expect_mutation_error("pinSnapshot", json!({"id": id}), "FORBIDDEN").await;
    }

    async fn a_failed_entry_fails_only_its_own_request(app: TestApp) {
        app.import_example();
        let (admin, front_desk, other) = (app.sign_in("admin").await, app.sign_in("desk").await, app.other_hospital().await);
        app.import("patients", "H2", "chart_no,name\nZ,Zed\n");
        let staff = "(SELECT id FROM staff WHERE login = 'desk')";
        for sql in match app.kind() {
            DatabaseKind::Sqlite => vec![format!("CREATE TRIGGER not_desk BEFORE INSERT ON audit_entry WHEN NEW.staff_id = {staff} BEGIN SELECT RAISE(ABORT, 'no'); END")],
            DatabaseKind::Postgres => vec![
                format!("CREATE FUNCTION not_desk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.staff_id = {staff} THEN RAISE EXCEPTION 'no'; END IF; RETURN NEW; END $$"),
                "CREATE TRIGGER not_desk BEFORE INSERT ON audit_entry FOR EACH ROW EXECUTE FUNCTION not_desk()".to_owned(),
            ],
            DatabaseKind::Mariadb => vec![format!("CREATE TRIGGER not_desk BEFORE INSERT ON audit_entry FOR EACH ROW BEGIN IF NEW.staff_id = {staff} THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'no'; END IF; END")],
        } {
            app.execute(&sql).await;
        }
        let users = [&admin, &front_desk, &other];
        let asked = (0..96).map(|number| async move { users[number % 3].graphql_response("{ patients { nodes { name } } }", json!({})).await });
        for (number, response) in futures_util::future::join_all(asked).await.into_iter().enumerate() {
            assert_eq!(response.get("errors").is_some(), number % 3 == 1, "{number}: {response}");
        }
    }

    async fn a_view_of_thousands_of_patients_is_recorded_completely(app: TestApp) {
        // With IDs of 18 digits: more than 65,535 characters in total.
        let hospital = app.query_number("SELECT id FROM hospital").await;
        for day in 0..36_i64 {
            let row = |number: i64| {
                let id = 900_000_000_000_000_000 + day * 100 + number;
                format!("({id}, {hospital}, 'ACTIVE', 'N', 'UNKNOWN', '2025-{:02}-{:02}')", day / 28 + 1, day % 28 + 1)
            };
            let rows: Vec<_> = (0..100).map(row).collect();
            app.execute(&format!("INSERT INTO patient (id, hospital_id, state, name, sex, registered_on) VALUES {}", rows.join(", "))).await;
        }
        let front_desk = app.sign_in("desk").await;
        let page = |day: i64| {
            let day = format!("2025-{:02}-{:02}", day / 28 + 1, day % 28 + 1);
            format!("d{}: patients(first: 100, filter: {{registered: {{from: \"{day}\", to: \"{day}\"}}}}) {{ nodes {{ name }} }}", day.replace('-', "_"))
        };
        let pages: Vec<_> = (0..36).map(page).collect();
        front_desk.graphql(&format!("{{ {} }}", pages.join(" "))).await;
        let entry = "(SELECT MAX(id) FROM audit_entry WHERE action = 'VIEWED_PATIENTS')";
        assert_eq!(app.query_number(&format!("SELECT COUNT(*) FROM audit_patient WHERE entry_id = {entry}")).await, 3_600);
        let admin = app.sign_in("admin").await;
        let seen = newest(&admin, 2).await[1]["patientIds"].as_array().unwrap().len();
        assert_eq!(seen, 3_600);
    }

    async fn a_migration_keeps_the_patients_of_older_entries(app: TestApp) {
        app.import_example();
        let (admin, front_desk) = (app.sign_in("admin").await, app.sign_in("desk").await);
        front_desk.graphql("{ patients { nodes { name } } }").await;
        front_desk.graphql("{ visits(first: 1) { nodes { date } } }").await;
        let seen = async || {
            let response = admin.graphql("{ audit { nodes { id action patientIds } } }").await;
            response["audit"]["nodes"].clone()
        };
        let before = seen().await;
        let steps = Migrator::migrations();
        let after = steps.iter().rev().position(|step| step.name() == "m0013_audit_patients").unwrap();
        Migrator::down(&app.sql, Some(u32::try_from(after + 1).unwrap())).await.unwrap();
        let joined: String = app.query_value("SELECT patient_ids FROM audit_entry WHERE patient_ids IS NOT NULL ORDER BY id DESC LIMIT 1").await;
        assert!(joined.starts_with(',') && joined.ends_with(',') && joined.len() > 2, "{joined}");
        app.run_cli(&["migrate"]);
        assert_eq!(seen().await, before);
        assert!(app.sql.execute_unprepared("DELETE FROM audit_patient").await.is_err());
    }

    async fn entries_expire_only_with_a_configured_retention(app: TestApp) {
        app.import_example();
        let front_desk = app.sign_in("desk").await;
        front_desk.graphql("{ patients { nodes { name } } }").await;
        let hospital = app.query_number("SELECT id FROM hospital").await;
        for (id, at) in [(-3, "2020-01-01"), (-2, "2020-01-02")] {
            app.execute(&format!("INSERT INTO audit_entry (id, hospital_id, at, action) VALUES ({id}, {hospital}, '{at} 00:00:00', 'VIEWED_PATIENTS')")).await;
            app.execute(&format!("INSERT INTO audit_patient (hospital_id, entry_id, patient_id) VALUES ({hospital}, {id}, 1)")).await;
        }
        let old = async || app.query_number("SELECT COUNT(*) FROM audit_entry WHERE id < 0").await + app.query_number("SELECT COUNT(*) FROM audit_patient WHERE entry_id < 0").await;
        let young = async || app.query_number("SELECT COUNT(*) FROM audit_entry WHERE id > 0").await + app.query_number("SELECT COUNT(*) FROM audit_patient WHERE entry_id > 0").await;
        let before = young().await;
        // Not even expired entries can be deleted in SQL, and a server without the setting keeps them.
        assert!(app.sql.execute_unprepared("DELETE FROM audit_patient WHERE entry_id < 0").await.is_err());
        let _keeps = app.second_server();
        let _sweeps = TestServer::spawn(app.command(&[SERVE, &["--audit-days", "365"]].concat()).stderr(std::process::Stdio::inherit()));
        wait_until("expired entries are deleted", async || old().await == 0).await;
        assert_eq!(young().await, before);
        assert_eq!(app.query_number("SELECT COUNT(*) FROM audit_retention").await, 0);
    }
}
