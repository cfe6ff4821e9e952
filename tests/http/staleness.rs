//! A query sees every change that was committed before it.

use std::time::Duration;

use sea_orm::{ConnectionTrait as _, TransactionTrait as _};
use test_support::{DatabaseKind, EXAMPLE, SERVE, TestApp, TestServer, on_each_database, with_app};

const COUNTS: &str = "{ revision total { visitors { patientCount visitCount } newPatients { patientCount } returning { patientCount } noShow { visitCount } } }";

on_each_database! {
    async fn queries_see_changes_made_in_sql(app: TestApp) {
        app.import_example();
        let user = app.sign_in("desk").await;
        let query = format!("{{ {EXAMPLE} {COUNTS} }}");
        let numbers = async || {
            let statistics = user.graphql(&query).await["statistics"].take();
            let total = &statistics["total"];
            let revision = statistics["revision"].as_str().unwrap().to_owned();
            let counts = [
                &total["visitors"]["patientCount"],
                &total["visitors"]["visitCount"],
                &total["newPatients"]["patientCount"],
                &total["returning"]["patientCount"],
                &total["noShow"]["visitCount"],
            ];
            (revision, counts.map(|count| count.as_i64().unwrap()))
        };
        let (mut before, counts) = numbers().await;
        assert_eq!(counts, [4, 7, 3, 1, 1]);
        assert_eq!(numbers().await.0, before, "nothing changed");
        let steps = [
            // Another no-show of A, who has one visit less.
            ("UPDATE visit SET status = 'NO_SHOW' WHERE visit_no = '2'", [4, 6, 3, 1, 2]),
            // B's first visit is deleted: B is new in the range.
            ("DELETE FROM visit WHERE visit_no = '3'", [4, 6, 4, 0, 2]),
            // D's attended visit is moved to A.
            (
                "UPDATE visit SET patient_id = (SELECT id FROM patient WHERE chart_no = 'A') WHERE visit_no = '10'",
                [3, 6, 3, 0, 2],
            ),
            // A patient's first visit is before the range: returning.
            (
                "INSERT INTO visit (hospital_id, visit_no, patient_id, date, status, channel) SELECT hospital_id, '12', id, '2025-01-02', 'COMPLETED', 'OTHER' FROM patient WHERE chart_no = 'E'",
                [3, 6, 3, 0, 2],
            ),
            (
                "INSERT INTO visit (hospital_id, visit_no, patient_id, date, status, channel) SELECT hospital_id, '13', id, '2025-06-20', 'ENDED', 'OTHER' FROM patient WHERE chart_no = 'E'",
                [4, 7, 3, 1, 2],
            ),
            // In bulk.
            ("UPDATE visit SET status = 'COMPLETED' WHERE status = 'NO_SHOW'", [5, 9, 4, 1, 0]),
            ("DELETE FROM visit", [0, 0, 0, 0, 0]),
        ];
        for (sql, expected) in steps {
            app.execute(sql).await;
            let (revision, counts) = numbers().await;
            assert_eq!(counts, expected, "after {sql}");
            assert_ne!(revision, before, "after {sql}");
            before = revision;
        }
    }

    async fn only_relevant_columns_change_the_revision(app: TestApp) {
        app.import_example();
        let user = app.sign_in("desk").await;
        let query = format!("{{ {EXAMPLE} {{ revision }} }}");
        let revision = async || user.graphql(&query).await["statistics"]["revision"].as_str().unwrap().to_owned();
        let before = revision().await;
        app.execute("UPDATE patient SET phone = NULL, phone_index = NULL, memo = NULL WHERE chart_no = 'A'").await;
        app.execute("UPDATE visit SET visit_no = '100' WHERE visit_no = '1'").await;
        app.execute("UPDATE visit SET status = status").await;
        assert_eq!(revision().await, before);
        let mut before = before;
        for sql in [
            "UPDATE patient SET name = 'Anna Ash' WHERE chart_no = 'A'",
            "UPDATE patient SET chart_no = 'AA' WHERE chart_no = 'A'",
            "UPDATE patient SET registered_on = '2025-05-02' WHERE chart_no = 'AA'",
            "UPDATE hospital SET week_start = 'SUNDAY'",
            "UPDATE hospital SET time_zone = 'Asia/Tokyo'",
            "INSERT INTO definition SELECT hospital_id, 2, 30, NULL, effective_from FROM definition",
        ] {
            app.execute(sql).await;
            let after = revision().await;
            assert_ne!(after, before, "after {sql}");
            before = after;
        }
    }

    async fn visits_of_a_day_are_ordered_by_instant_nulls_first(app: TestApp) {
        app.import("patients", "H1", "chart_no\nx\n");
        app.import("visits", "H1", "visit_no,chart_no,date,scheduled_at,status,channel\n1,x,2025-05-05,2025-05-05T10:00,COMPLETED,WEB\n2,x,2025-05-05,2025-05-05T09:00:00+09:00,COMPLETED,APP\n");
        let user = app.sign_in("desk").await;
        let new_by = async |channel: &str| {
            let query = format!("{{ statistics(period: DAY, range: {{from: \"2025-05-05\", to: \"2025-05-05\"}}, filter: {{channels: [{channel}]}}) {{ total {{ newPatients {{ patientCount }} }} }} }}");
            user.graphql(&query).await["statistics"]["total"]["newPatients"]["patientCount"].as_i64().unwrap()
        };
        assert_eq!((new_by("WEB").await, new_by("APP").await), (0, 1));
        // The result is the same after catching up and after loading the ledger on another server.
        app.execute("UPDATE visit SET scheduled_at = NULL WHERE visit_no = '1'").await;
        assert_eq!((new_by("WEB").await, new_by("APP").await), (1, 0));
        let second = app.second_server();
        let second_client = app.sign_in_at(&second.base, "H1", "desk").await;
        let query = "{ statistics(period: DAY, range: {from: \"2025-05-05\", to: \"2025-05-05\"}, filter: {channels: [WEB]}) { total { newPatients { patientCount } } } }";
        assert_eq!(second_client.graphql(query).await["statistics"]["total"]["newPatients"]["patientCount"], 1);
    }

    async fn two_servers_agree(app: TestApp) {
        let second = app.second_server();
        let (first_client, second_client) = (app.sign_in("desk").await, app.sign_in_at(&second.base, "H1", "desk").await);
        let query = format!("{{ {EXAMPLE} {COUNTS} }}");
        let empty = second_client.graphql(&query).await;
        assert_eq!(first_client.graphql(&query).await, empty);
        app.import_example();
        let (a, b) = (first_client.graphql(&query).await, second_client.graphql(&query).await);
        assert_eq!(a, b);
        assert_ne!(a, empty);
    }

    async fn a_restored_backup_is_detected(app: TestApp) {
        app.import_example();
        let user = app.sign_in("desk").await;
        let query = format!("{{ {EXAMPLE} {COUNTS} }}");
        app.execute("UPDATE visit SET status = 'CANCELED' WHERE visit_no = '1'").await;
        let before = user.graphql(&query).await;
        // As a backup restores it: data, revision and feed of an earlier time, then new changes.
        app.execute("UPDATE visit SET status = 'COMPLETED' WHERE visit_no = '1'").await;
        app.execute("DELETE FROM change_feed WHERE number >= (SELECT number - 1 FROM revision)").await;
        app.execute("DELETE FROM visit_change WHERE number >= (SELECT number - 1 FROM revision)").await;
        app.execute("UPDATE revision SET number = number - 2").await;
        app.execute("UPDATE visit SET status = 'NO_SHOW' WHERE visit_no = '9'").await;
        app.execute("UPDATE visit SET status = 'CANCELED' WHERE visit_no = '4'").await;
        let after = user.graphql(&query).await;
        assert_ne!(after["statistics"]["revision"], before["statistics"]["revision"]);
        assert_eq!(after["statistics"]["total"]["visitors"]["visitCount"], 6);
    }

    async fn rows_cannot_move_to_another_hospital(app: TestApp) {
        app.import_example();
        app.run_cli(&["hospital", "add", "--code", "H2", "--name", "Two", "--time-zone", "Asia/Seoul"]);
        for sql in [
            "UPDATE visit SET id = id + 1000 WHERE visit_no = '1'",
            "UPDATE patient SET id = id + 1000 WHERE chart_no = 'E'",
            "UPDATE visit SET hospital_id = 2 WHERE visit_no = '1'",
            "INSERT INTO visit (hospital_id, visit_no, patient_id, date, status, channel) SELECT 2, '14', id, '2025-01-02', 'COMPLETED', 'OTHER' FROM patient WHERE chart_no = 'E'",
            "DELETE FROM patient WHERE chart_no = 'A'",
            "UPDATE visit SET status = 'Completed' WHERE visit_no = '1'",
        ] {
            assert!(app.sql.execute_unprepared(sql).await.is_err(), "{sql}");
        }
    }

    async fn concurrent_first_queries_load_a_ledger_once(app: TestApp) {
        app.import_example();
        let user = app.sign_in("desk").await;
        let query = format!("{{ {EXAMPLE} {COUNTS} }}");
        let responses = futures_util::future::join_all((0..16).map(|_| user.graphql(&query))).await;
        assert!(responses.iter().all(|response| *response == responses[0]));
        assert_eq!(app.metric("rollcall_ledger_loads_total").await, 1);
        app.execute("UPDATE visit SET status = 'CANCELED' WHERE visit_no = '8'").await;
        futures_util::future::join_all((0..16).map(|_| user.graphql(&query))).await;
        assert_eq!(app.metric("rollcall_ledger_loads_total").await, 1, "the ledger catches up");
    }

    async fn ledgers_are_evicted_to_fit_in_memory(app: TestApp) {
        app.other_hospital().await;
        // Each day with a visit takes about 250 bytes, and both hospitals together exceed the memory that a limit of 1
        // MiB leaves for ledgers.
        let days = chrono::NaiveDate::from_ymd_opt(1900, 1, 1).unwrap().iter_days().take(2_000).enumerate();
        let visits: String = days.map(|(number, day)| format!("{number},A,{day},COMPLETED\n")).collect();
        for hospital in ["H1", "H2"] {
            app.import("patients", hospital, "chart_no,name\nA,Ann Ash\n");
            app.import("visits", hospital, &format!("visit_no,chart_no,date,status\n{visits}"));
        }
        let small_server = TestServer::spawn(app.command(SERVE).args(["--memory", "1"]));
        let visitors = "{ statistics(period: MONTH, range: {from: \"1900-01-01\", to: \"1900-12-31\"}) { id total { visitors { visitCount } } } }";
        for (base, loads) in [(small_server.base.as_str(), 4), (app.base(), 2)] {
            let users = [app.sign_in_at(base, "H1", "admin").await, app.sign_in_at(base, "H2", "admin").await];
            let mut ids = Vec::new();
            for user in users.iter().chain(&users) {
                let mut found = user.graphql(visitors).await["statistics"].take();
                assert_eq!(found["total"]["visitors"]["visitCount"], 365);
                ids.push(found["id"].take());
            }
            assert_eq!(ids[..2], ids[2..]);
            assert_eq!(app.metric_at(base, "rollcall_ledger_loads_total").await, loads);
        }
    }

    async fn a_server_reloads_when_the_feed_was_pruned(app: TestApp) {
        app.import_example();
        let user = app.sign_in("desk").await;
        let query = format!("{{ {EXAMPLE} {{ total {{ visitors {{ visitCount }} }} }} }}");
        let count = async || user.graphql(&query).await["statistics"]["total"]["visitors"]["visitCount"].as_i64().unwrap();
        assert_eq!(count().await, 7);
        let loads = app.metric("rollcall_ledger_loads_total").await;
        app.execute("DELETE FROM visit WHERE visit_no = '8'").await;
        app.execute("DELETE FROM visit WHERE visit_no = '5'").await;
        assert_eq!(count().await, 6);
        assert_eq!(app.metric("rollcall_ledger_loads_total").await, loads, "the ledger caught up with the feed");
        app.execute("DELETE FROM visit WHERE visit_no = '6'").await;
        app.execute("DELETE FROM visit WHERE visit_no = '7'").await;
        // Pruned early: all but the newest change are deleted.
        let newest: i64 = app.query_value("SELECT number FROM revision").await;
        app.execute(&format!("DELETE FROM change_feed WHERE number < {newest}")).await;
        assert_eq!(count().await, 4);
        assert_eq!(app.metric("rollcall_ledger_loads_total").await, loads + 1);
    }

    async fn only_committed_transactions_are_counted(app: TestApp) {
        app.import_example();
        let user = app.sign_in("desk").await;
        let query = format!("{{ {EXAMPLE} {{ revision total {{ visitors {{ visitCount }} }} }} }}");
        let ask = async || user.graphql(&query).await["statistics"].take();
        let before = ask().await;
        let change = "UPDATE visit SET status = 'CANCELED' WHERE visit_no IN ('1', '2')";
        let undone = app.sql.begin().await.unwrap();
        undone.execute_unprepared(change).await.unwrap();
        assert_eq!(ask().await, before, "an uncommitted change is not visible and does not block");
        undone.rollback().await.unwrap();
        assert_eq!(ask().await, before, "a rolled back change is not visible");
        // Started first, committed last; meanwhile there is a change in another hospital.
        app.run_cli(&["hospital", "add", "--code", "H2", "--name", "Two", "--time-zone", "Asia/Seoul"]);
        let long = app.sql.begin().await.unwrap();
        long.execute_unprepared("UPDATE visit SET status = 'CANCELED' WHERE visit_no = '1'").await.unwrap();
        if !app.url.starts_with("sqlite") {
            app.execute("INSERT INTO definition SELECT h.id, 2, 5, NULL, d.effective_from FROM definition d JOIN hospital h ON h.code = 'H2' WHERE d.hospital_id = h.id").await;
        }
        assert_eq!(ask().await, before);
        long.execute_unprepared("UPDATE visit SET status = 'CANCELED' WHERE visit_no = '2'").await.unwrap();
        long.commit().await.unwrap();
        let after = ask().await;
        assert_eq!(after["total"]["visitors"]["visitCount"], 5);
        assert_ne!(after["revision"], before["revision"]);
    }

    async fn instants_from_sql_and_from_the_api_compare_correctly(app: TestApp) {
        app.import_example();
        let front_desk = app.sign_in("desk").await;
        let patient = front_desk.graphql("{ patients(last: 1) { nodes { id } } }").await["patients"]["nodes"][0]["id"].take();
        front_desk.mutate("recordVisit", serde_json::json!({"patientId": patient, "scheduledAt": "2025-05-05T01:00:00Z", "status": "COMPLETED", "reason": "r", "visitNo": "early"}), "visit { id }").await;
        app.execute("INSERT INTO visit (hospital_id, visit_no, patient_id, date, scheduled_at, status, channel) SELECT hospital_id, 'late', id, '2025-05-05', '2025-05-05 02:00:00', 'COMPLETED', 'OTHER' FROM patient WHERE chart_no = 'E'").await;
        let ends = front_desk.graphql_with("query ($id: ID!) { patient(id: $id) { firstVisit { visitNo } lastVisit { visitNo } } }", serde_json::json!({"id": patient})).await;
        assert_eq!(ends["patient"], serde_json::json!({"firstVisit": {"visitNo": "early"}, "lastVisit": {"visitNo": "late"}}));
    }
}

/// PostgreSQL shows a truncated table as empty to older transactions: a ledger must not combine a revision with the
/// visits of a later one.
#[tokio::test(flavor = "multi_thread")]
async fn truncate_does_not_tear_a_revision() {
    with_app!(DatabaseKind::Postgres, async |app: &TestApp| {
        app.import_example();
        let user = app.sign_in("desk").await;
        let query = format!("{{ {EXAMPLE} {COUNTS} }}");
        let before = user.graphql(&query).await;
        let second = app.second_server();
        let second_client = app.sign_in_at(&second.base, "H1", "desk").await;
        let emptying = app.sql.begin().await.unwrap();
        emptying.execute_unprepared("TRUNCATE visit").await.unwrap();
        let (response, ()) = tokio::join!(second_client.graphql(&query), async {
            // Time for the second server to load its ledger up to the locked table.
            tokio::time::sleep(Duration::from_millis(500)).await;
            emptying.commit().await.unwrap();
        });
        let after = user.graphql(&query).await;
        assert_eq!(after["statistics"]["total"]["visitors"]["visitCount"], 0);
        assert!([before, after].contains(&response), "{response}");
    })
    .await;
}

/// SQLite's triggers accept exactly the `scheduled_at` that can be read, and unreadable values from before the triggers
/// do no harm.
#[tokio::test(flavor = "multi_thread")]
async fn invalid_times_are_rejected_and_existing_ones_are_tolerated() {
    use entity::scheduled_at::ScheduledAt;
    use proptest::strategy::{Strategy as _, ValueTree as _};
    with_app!(DatabaseKind::Sqlite, async |app: &TestApp| {
        app.import_example();
        let user = app.sign_in("admin").await;
        let query = format!("{{ {EXAMPLE} {COUNTS} }}");
        let before = user.graphql(&query).await;
        let mut texts = ["2025-05-01T10:00:00+09:00", "2025-05-01", "noon", "", "2025-02-29 10:00", "2024-02-29 10:00:00.123Z", "0000-01-01T00:00"]
            .map(str::to_owned).to_vec();
        let mut runner = proptest::test_runner::TestRunner::deterministic();
        let form = "(2025|1999|20é5)-(0[0-9]|1[0-3])-[0-3][0-9][Tt _]([01][0-9]|2[0-5]):[0-6][0-9](:[0-6][0-9](\\.[0-9]{0,10})?)?([Zz]| ?[+-][0-2][0-9]:?[0-6][0-9])?";
        let form = proptest::string::string_regex(form).unwrap();
        texts.extend((0..2_000).map(|_| form.new_tree(&mut runner).unwrap().current()));
        let all = app.sql.begin().await.unwrap();
        let mut accepted = 0;
        for text in &texts {
            for statement in ["UPDATE visit SET scheduled_at = ? WHERE visit_no = '1'", "INSERT INTO visit (hospital_id, patient_id, date, scheduled_at, status, channel) SELECT hospital_id, id, '2025-05-01', ?, 'BOOKED', 'OTHER' FROM patient WHERE chart_no = 'A'"] {
                let statement = sea_orm::Statement::from_sql_and_values(sea_orm::DbBackend::Sqlite, statement, [text.as_str().into()]);
                let result = all.execute_raw(statement).await;
                assert_eq!(result.is_ok(), ScheduledAt::read(text).is_some(), "{text:?}: {result:?}");
                accepted += usize::from(result.is_ok());
            }
        }
        assert!((500..3_500).contains(&accepted), "{accepted} of {}", 2 * texts.len());
        all.rollback().await.unwrap();
        for bytes in ["x'323032352d30352d30315431303a3030'", "CAST(x'ff' AS TEXT)", "CAST(x'323032352d30352d30315431303a3030003b' AS TEXT)", "20250501", "1.5"] {
            let error = app.sql.execute_unprepared(&format!("UPDATE visit SET scheduled_at = {bytes} WHERE visit_no = '1'")).await.unwrap_err();
            assert!(error.to_string().contains("visit.scheduled_at is an instant"), "{error}");
        }

        // As left by an older version.
        for trigger in ["visit_time_comes", "visit_time_changes"] {
            app.execute(&format!("DROP TRIGGER {trigger}")).await;
        }
        for (number, text) in [(1, "'noon; 3,A,2025'"), (2, "x'2c3bff'"), (4, "CAST(x'313b00ff3b2c' AS TEXT)"), (6, "'2025-05-32T10:00'"), (9, "'2025-05-09T09:00:00 Uhr'"), (10, "CAST(x'ff' AS TEXT)")] {
            app.execute(&format!("UPDATE visit SET scheduled_at = {text} WHERE visit_no = '{number}'")).await;
        }
        let second = app.second_server();
        let second_client = app.sign_in_at(&second.base, "H1", "admin").await;
        let rows = "{ patients { nodes { firstVisit { visitNo scheduledAt } lastVisit { visitNo } visits { nodes { id visitNo version date scheduledAt } } } } visits { totalCount } }";
        for user in [&user, &second_client] {
            let mut after = user.graphql(&query).await;
            after["statistics"]["revision"] = before["statistics"]["revision"].clone();
            assert_eq!(after, before);
            let rows = user.graphql(rows).await;
            assert_eq!(rows["visits"]["totalCount"], 11);
            for visit in rows["patients"]["nodes"].as_array().unwrap().iter().flat_map(|patient| patient["visits"]["nodes"].as_array().unwrap()) {
                assert_eq!(visit["scheduledAt"], serde_json::Value::Null, "{visit}");
            }
        }
        // Such a visit can be changed, explained, and deleted.
        let found = user.graphql(rows).await;
        let visit = &found["patients"]["nodes"][0]["visits"]["nodes"][0];
        assert_eq!(visit["visitNo"], "2");
        let input = serde_json::json!({"id": visit["id"], "version": visit["version"], "channel": "APP", "reason": "x"});
        let changed = user.mutate("changeVisit", input, "visit { version scheduledAt }").await["visit"].take();
        user.mutate("deleteVisit", serde_json::json!({"id": visit["id"], "version": changed["version"], "reason": "x"}), "visit { id }").await;
        assert_eq!(second_client.graphql(&query).await["statistics"]["total"]["visitors"]["visitCount"], 6);
    })
    .await;
}
