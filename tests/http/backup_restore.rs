//! Backups restored under running servers, and rows written without triggers: nothing inconsistent is counted, stored
//! or returned.

use std::collections::BTreeMap;
use std::time::Duration;

use sea_orm::{ConnectOptions, ConnectionTrait as _, Database, DatabaseConnection, QueryResult, Statement};
use serde_json::{Value, json};
use test_support::{Client, DatabaseKind, EXAMPLE, TestApp, on_each_database, wait_until, with_app};

const COUNTS: &str = "revision total { visitors { patientCount visitCount digest } noShow { visitCount } canceled: cohort(kind: CANCELED) { visitCount } }";

async fn rows(sql: &impl sea_orm::ConnectionTrait, text: &str) -> Vec<QueryResult> {
    let statement = Statement::from_string(sql.get_database_backend(), text);
    sql.query_all_raw(statement).await.unwrap()
}

/// The statements that create a table's triggers.
async fn trigger_statements(app: &TestApp, table: &str) -> Vec<(String, Vec<String>)> {
    let list = match app.kind() {
        DatabaseKind::Sqlite => {
            format!("SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = '{table}'")
        }
        DatabaseKind::Postgres => format!(
            "SELECT CAST(tgname AS TEXT), pg_get_triggerdef(oid) FROM pg_trigger
                WHERE tgrelid = CAST('{table}' AS regclass) AND NOT tgisinternal"
        ),
        DatabaseKind::Mariadb => format!(
            "SELECT trigger_name, trigger_name FROM information_schema.triggers
                WHERE trigger_schema = DATABASE() AND event_object_table = '{table}'"
        ),
    };
    let mut triggers = Vec::new();
    for row in rows(&app.sql, &list).await {
        let name: String = row.try_get_by_index(0).unwrap();
        let definition: String = row.try_get_by_index(1).unwrap();
        triggers.push((
            name.clone(),
            match app.kind() {
                DatabaseKind::Sqlite => vec![definition],
                DatabaseKind::Postgres => vec![definition, format!("ALTER TABLE {table} ENABLE ALWAYS TRIGGER {name}")],
                DatabaseKind::Mariadb => {
                    let shown = rows(&app.sql, &format!("SHOW CREATE TRIGGER {name}")).await;
                    vec![shown[0].try_get_by_index(2).unwrap()]
                }
            },
        ));
    }
    triggers
}

async fn drop_trigger(app: &TestApp, table: &str, name: &str) {
    let of = if app.kind() == DatabaseKind::Postgres {
        format!(" ON {table}")
    } else {
        String::new()
    };
    app.execute(&format!("DROP TRIGGER {name}{of}")).await;
}

/// Changes visits while the triggers are dropped; `meanwhile` runs before they are created again.
async fn without_triggers(app: &TestApp, sql: &str, meanwhile: impl AsyncFnOnce()) {
    let triggers = trigger_statements(app, "visit").await;
    for (name, _) in &triggers {
        drop_trigger(app, "visit", name).await;
    }
    app.execute(sql).await;
    meanwhile().await;
    for statement in triggers.iter().flat_map(|(_, statements)| statements) {
        app.execute(statement).await;
    }
}

fn code(response: &Value) -> &str {
    response["errors"][0]["extensions"]["code"].as_str().unwrap_or_default()
}

async fn query_example(user: &Client<'_>, fields: &str) -> Value {
    user.graphql_response(&format!("{{ {EXAMPLE} {{ {fields} }} }}"), json!({}))
        .await
}

on_each_database! {
    async fn rows_written_without_triggers_are_detected(app: TestApp) {
        app.import_example();
        let first_client = app.sign_in("desk").await;
        let before = first_client.graphql(&format!("{{ {EXAMPLE} {{ {COUNTS} }} }}")).await;
        let second = app.second_server();
        let second_client = app.sign_in_at(&second.base, "H1", "desk").await;
        let insert = "INSERT INTO visit (hospital_id, visit_no, patient_id, date, status, channel) SELECT hospital_id, '12', id, '2025-06-20', 'COMPLETED', 'OTHER' FROM patient WHERE chart_no = 'C'";
        without_triggers(app, insert, async || {
            assert_eq!(code(&query_example(&second_client, "id").await), "BEING_RESTORED", "the triggers are missing");
        })
        .await;
        let response = query_example(&second_client, "id").await;
        assert_eq!(code(&response), "BEING_RESTORED", "the triggers are back, but there is an extra visit: {response}");
        // The server with a loaded ledger processes a change of the same patient, and counts the visits.
        app.execute("UPDATE visit SET status = 'NO_SHOW' WHERE visit_no = '7'").await;
        for user in [&first_client, &second_client] {
            assert_eq!(code(&query_example(user, "id").await), "BEING_RESTORED");
        }
        assert_eq!(app.query_number("SELECT COUNT(*) FROM snapshot").await, 0, "nothing is stored");
        let output = app.run_cli(&["recount", "--hospital", "H1"]);
        assert_eq!(output, "H1: 12 visits (before: 11), 5 active patients (before: 5)\n");
        let after = first_client.graphql(&format!("{{ {EXAMPLE} {{ id {COUNTS} }} }}")).await;
        assert_eq!(second_client.graphql(&format!("{{ {EXAMPLE} {{ id {COUNTS} }} }}")).await, after);
        assert_ne!(after["statistics"]["revision"], before["statistics"]["revision"]);
        assert_eq!(after["statistics"]["total"]["visitors"]["visitCount"], 7);
        assert_eq!(after["statistics"]["total"]["noShow"]["visitCount"], 2);
    }

    async fn a_recount_moves_the_revision_of_every_hospital(app: TestApp) {
        app.import_example();
        let other = app.other_hospital().await;
        let first_client = app.sign_in("desk").await;
        let revisions = async || {
            [query_example(&first_client, "revision").await, query_example(&other, "revision").await]
                .map(|response| response["data"]["statistics"]["revision"].as_str().unwrap().to_owned())
        };
        let before = revisions().await;
        app.execute("UPDATE revision SET visit_count = 0, patient_count = 7").await;
        let output = app.run_cli(&["recount"]);
        let lines: Vec<&str> = output.lines().collect();
        assert_eq!(lines, [
            "H1: 11 visits (before: 0), 5 active patients (before: 7)",
            "H2: 0 visits (before: 0), 0 active patients (before: 7)",
        ]);
        let after = revisions().await;
        assert!(before[0] != after[0] && before[1] != after[1]);
        // Higher numbers, as in a backup that is not of a single point in time: the revision is set beyond them.
        app.execute("INSERT INTO change_feed (hospital_id, number, tag, kind) SELECT hospital_id, number + 5, 1, 'RULES' FROM revision WHERE hospital_id = 1").await;
        app.run_cli(&["recount", "--hospital", "H1"]);
        assert_eq!(query_example(&first_client, "total { visitors { visitCount } }").await["data"]["statistics"]["total"]["visitors"]["visitCount"], 7);
        // A recount without triggers would be useless.
        drop_trigger(app, "visit", "visit_goes").await;
        let refused = app.try_run_cli(&["recount", "--hospital", "H1"]);
        assert!(!refused.status.success());
        assert!(String::from_utf8_lossy(&refused.stderr).contains("visit_goes"));
    }

    async fn a_stored_snapshot_is_never_replaced_by_other_lists(app: TestApp) {
        app.import_example();
        let first_client = app.sign_in("desk").await;
        let fields = format!("{COUNTS} total {{ visitors {{ patientIds visitIds }} }}");
        // In memory on this server, not stored.
        let wrong = first_client.graphql(&format!("{{ {EXAMPLE} {{ {fields} }} }}")).await["statistics"].take();
        without_triggers(app, "UPDATE visit SET status = 'NO_SHOW' WHERE visit_no = '1'", async || ()).await;
        let second = app.second_server();
        let second_client = app.sign_in_at(&second.base, "H1", "desk").await;
        let right = second_client.graphql(&format!("{{ {EXAMPLE} {{ id {fields} }} }}")).await["statistics"].take();
        assert_eq!(wrong["revision"], right["revision"]);
        assert_ne!(wrong["total"], right["total"]);
        let open = "query ($id: ID!) { statisticsSnapshot(id: $id) { id FIELDS } }".replace("FIELDS", &fields);
        let opened = first_client.graphql_with(&open, json!({"id": right["id"]})).await;
        assert_eq!(opened["statisticsSnapshot"], right, "the stored lists are returned");
        // Another query that was counted only by this server; another server stores its lists.
        let other = EXAMPLE.replace("2025-08-31", "2025-08-30");
        let third = app.second_server();
        let third_client = app.sign_in_at(&third.base, "H1", "desk").await;
        app.execute("UPDATE visit SET visit_no = '100' WHERE visit_no = '10'").await;
        let wrong = first_client.graphql(&format!("{{ {other} {{ {fields} }} }}")).await["statistics"].take();
        let right = third_client.graphql(&format!("{{ {other} {{ id {fields} }} }}")).await["statistics"].take();
        assert_ne!(wrong["total"], right["total"]);
        let refused = first_client.graphql_response(&format!("{{ {other} {{ id {fields} }} }}"), json!({})).await;
        assert_eq!(code(&refused), "BEING_RESTORED", "{refused}");
        let again = first_client.graphql(&format!("{{ {other} {{ id {fields} }} }}")).await["statistics"].take();
        assert_eq!(again, right, "the wrong lists were discarded");
    }

    async fn unfiltered_totals_are_maintained_not_counted(app: TestApp) {
        app.import_example();
        let user = app.sign_in("admin").await;
        let totals = async || {
            let response = user.graphql("{ patients { totalCount } visits { totalCount } }").await;
            [&response["patients"], &response["visits"]].map(|list| list["totalCount"].as_i64().unwrap())
        };
        let insert = "INSERT INTO patient (hospital_id, state, chart_no, sex) VALUES (1, 'ACTIVE', 'F', 'OTHER'), (1, 'ERASED', NULL, 'OTHER'), (1, 'ACTIVE', 'G', 'OTHER')";
        let mut steps = vec![
            (insert, [7, 11]),
            ("UPDATE patient SET state = 'ERASED' WHERE chart_no IN ('F', 'G')", [5, 11]),
            ("UPDATE patient SET state = 'ACTIVE' WHERE chart_no = 'F'", [6, 11]),
            ("UPDATE patient SET memo = NULL", [6, 11]),
            ("DELETE FROM patient WHERE chart_no IN ('F', 'G')", [5, 11]),
            ("DELETE FROM visit WHERE visit_no IN ('1', '2')", [5, 9]),
            ("INSERT INTO visit (hospital_id, visit_no, patient_id, date, status, channel) SELECT hospital_id, chart_no, id, '2025-01-02', 'COMPLETED', 'OTHER' FROM patient WHERE state = 'ACTIVE'", [5, 14]),
            ("UPDATE visit SET status = 'NO_SHOW'", [5, 14]),
        ];
        steps.push(match app.kind() {
            DatabaseKind::Postgres => ("INSERT INTO visit (hospital_id, visit_no, patient_id, date, status, channel) SELECT hospital_id, visit_no, patient_id, '2025-01-03', status, channel FROM visit ON CONFLICT (hospital_id, visit_no) DO UPDATE SET date = excluded.date", [5, 14]),
            DatabaseKind::Sqlite => ("PRAGMA recursive_triggers = ON", [5, 14]),
            DatabaseKind::Mariadb => ("REPLACE INTO visit (hospital_id, visit_no, patient_id, date, status, channel) SELECT hospital_id, visit_no, patient_id, '2025-01-03', status, channel FROM visit", [5, 14]),
        });
        for (sql, expected) in steps {
            app.execute(sql).await;
            assert_eq!(totals().await, expected, "after {sql}");
            // The ledger is consistent with the number of visits.
            let response = query_example(&user, "revision").await;
            assert!(response["errors"].is_null(), "after {sql}: {response}");
        }
        let id = |name: &str| format!("{{ patients(filter: {{search: \"{name}\"}}) {{ nodes {{ id version }} }} }}");
        let [a, b] = [user.graphql(&id("Ann Ash")).await, user.graphql(&id("Dag Day")).await].map(|found| found["patients"]["nodes"][0].clone());
        let merge = json!({"id": a["id"], "version": a["version"], "intoId": b["id"], "reason": "twice"});
        user.mutate("mergePatients", merge, "__typename").await;
        assert_eq!(totals().await, [4, 14]);
        if app.kind() == DatabaseKind::Postgres {
            app.execute("TRUNCATE visit CASCADE").await;
            assert_eq!(totals().await, [4, 0]);
            app.execute("TRUNCATE patient CASCADE").await;
            assert_eq!(totals().await, [0, 0]);
        }
        // The maintained totals are returned; with a filter, rows are counted.
        app.execute("UPDATE revision SET visit_count = 12345, patient_count = 6789").await;
        assert_eq!(totals().await, [6789, 12345]);
        let filtered = user.graphql("{ patients(filter: {search: \"Nobody\"}) { totalCount } visits(filter: {channels: [PHONE]}) { totalCount } }").await;
        assert_eq!(filtered["patients"]["totalCount"], 0);
        assert!(filtered["visits"]["totalCount"].as_i64().unwrap() < 14);
    }
}

/// The tables of a dump that statistics depend on, in the order of restoration.
const RESTORED_TABLES: [&str; 13] = [
    "change_feed",
    "definition",
    "department",
    "doctor",
    "hospital",
    "list_part",
    "patient",
    "revision",
    "snapshot",
    "snapshot_order",
    "visit",
    "visit_change",
    "visit_tombstone",
];

/// A single connection, so that settings apply to every statement.
async fn single_connection(app: &TestApp) -> DatabaseConnection {
    let mut options = ConnectOptions::new(&app.url);
    options.max_connections(1).idle_timeout(None).max_lifetime(None);
    Database::connect(options).await.unwrap()
}

/// Statements that insert half of a table's rows from a backup, then the others.
fn insert_statements(table: &str) -> [String; 2] {
    let half = |sign: &str| {
        let key = match table {
            "visit" => "id",
            "visit_change" => "number",
            _ => return format!("INSERT INTO {table} SELECT * FROM backup_{table} WHERE 1 {sign} 2"),
        };
        format!(
            "INSERT INTO {table} SELECT * FROM backup_{table}
                WHERE {key} {sign} (SELECT CAST(AVG({key}) AS DECIMAL) FROM backup_{table})"
        )
    };
    [half("<="), half(">")]
}

/// Makes a backup, then changes data without changing the number of visits, then restores the backup in the steps of
/// the database's own tools. Both servers are queried after each step.
async fn a_partially_restored_backup_is_never_counted(app: &TestApp) {
    app.import_example();
    app.execute("UPDATE visit SET status = 'NO_SHOW' WHERE visit_no = '1'")
        .await;
    let second = app.second_server();
    let users = [
        app.sign_in("desk").await,
        app.sign_in_at(&second.base, "H1", "desk").await,
    ];
    let mut known: BTreeMap<String, Value> = BTreeMap::new();
    let fields = format!("id {COUNTS}");
    let seen = |response: Value| {
        let statistics = response["data"]["statistics"].clone();
        (
            statistics["revision"].as_str().unwrap_or_default().to_owned(),
            statistics,
        )
    };
    let (backed_up, as_backed_up) = seen(query_example(&users[0], &fields).await);
    known.insert(backed_up.clone(), as_backed_up.clone());
    for table in RESTORED_TABLES {
        app.execute(&format!("CREATE TABLE backup_{table} AS SELECT * FROM {table}"))
            .await;
    }
    app.execute("DELETE FROM visit WHERE visit_no = '7'").await;
    app.execute("INSERT INTO visit (hospital_id, visit_no, patient_id, date, status, channel) SELECT hospital_id, '70', id, '2025-06-15', 'COMPLETED', 'OTHER' FROM patient WHERE chart_no = 'E'").await;
    app.execute("UPDATE visit SET status = 'CANCELED' WHERE visit_no IN ('2', '3', '4')")
        .await;
    for user in &users {
        let (revision, statistics) = seen(query_example(user, &fields).await);
        known.insert(revision, statistics);
    }
    assert_eq!(known.len(), 2);

    let sql = single_connection(app).await;
    let mut steps: Vec<String> = Vec::new();
    if app.kind() == DatabaseKind::Postgres {
        // All rows are deleted first, and triggers are created last.
        steps.push("SET session_replication_role = replica".to_owned());
        let mut triggers = Vec::new();
        for table in RESTORED_TABLES {
            for (name, definition) in trigger_statements(app, table).await {
                steps.push(format!("DROP TRIGGER {name} ON {table}"));
                triggers.extend(definition);
            }
        }
        steps.extend(RESTORED_TABLES.map(|table| format!("DELETE FROM {table}")));
        steps.extend(RESTORED_TABLES.iter().flat_map(|table| insert_statements(table)));
        steps.extend(triggers);
    } else {
        // Table by table, each with its triggers.
        steps.push("SET foreign_key_checks = 0".to_owned());
        for table in RESTORED_TABLES {
            let create: String = rows(&app.sql, &format!("SHOW CREATE TABLE {table}")).await[0]
                .try_get_by_index(1)
                .unwrap();
            let triggers = trigger_statements(app, table).await;
            steps.push(format!("DROP TABLE {table}; {create}"));
            steps.extend(insert_statements(table));
            steps.extend(triggers.into_iter().flat_map(|(_, statements)| statements));
        }
    }
    let mut refused = [0; 2];
    for step in &steps {
        sql.execute_unprepared(step)
            .await
            .unwrap_or_else(|error| panic!("{step}: {error}"));
        for (user, refused) in users.iter().zip(&mut refused) {
            let response = query_example(user, &fields).await;
            if code(&response) == "BEING_RESTORED" {
                *refused += 1;
                continue;
            }
            assert!(response["errors"].is_null(), "after {step}: {response}");
            let (revision, statistics) = seen(response);
            assert_eq!(Some(&statistics), known.get(&revision), "after {step}");
        }
    }
    assert!(
        refused.iter().all(|&refused| refused > 0),
        "no query was rejected: {refused:?}"
    );
    sql.close_by_ref().await.unwrap();
    let third = app.second_server();
    let second_client = app.sign_in_at(&third.base, "H1", "desk").await;
    for user in users.iter().chain([&second_client]) {
        assert_eq!(
            seen(query_example(user, &fields).await),
            (backed_up.clone(), as_backed_up.clone())
        );
        let open = "query ($id: ID!) { statisticsSnapshot(id: $id) { id FIELDS } }".replace("FIELDS", COUNTS);
        let opened = user.graphql_with(&open, json!({"id": as_backed_up["id"]})).await;
        assert_eq!(opened["statisticsSnapshot"], as_backed_up);
    }
    // New changes are processed afterwards.
    app.execute("UPDATE visit SET status = 'CANCELED' WHERE visit_no = '5'")
        .await;
    let (after, counted) = (
        query_example(&users[0], &fields).await,
        query_example(&second_client, &fields).await,
    );
    assert!(after["errors"].is_null() && after == counted, "{after} {counted}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partially_restored_backup_is_never_counted_postgres() {
    with_app!(DatabaseKind::Postgres, async |app| {
        a_partially_restored_backup_is_never_counted(app).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partially_restored_backup_is_never_counted_mariadb() {
    with_app!(DatabaseKind::Mariadb, async |app| {
        a_partially_restored_backup_is_never_counted(app).await
    })
    .await;
}

/// Neither the search path nor the replication role of a session affects its triggers.
#[tokio::test(flavor = "multi_thread")]
async fn session_settings_do_not_affect_triggers() {
    with_app!(DatabaseKind::Postgres, async |app: &TestApp| {
        app.import_example();
        let user = app.sign_in("desk").await;
        let counted = async || {
            let response = user.graphql(&format!("{{ {EXAMPLE} {{ {COUNTS} }} }}")).await;
            response["statistics"]["total"]["visitors"]["visitCount"].as_i64().unwrap()
        };
        assert_eq!(counted().await, 7);
        app.execute("CREATE SCHEMA other").await;
        for table in ["revision", "change_feed", "visit_change", "visit_tombstone"] {
            app.execute(&format!("CREATE TABLE other.{table} AS TABLE public.{table}")).await;
        }
        let mut left = 7;
        for (visit_no, session) in [
            ("1", "SET search_path = other, public"),
            ("2", "CREATE TEMPORARY TABLE revision AS TABLE public.revision; CREATE TEMPORARY TABLE change_feed AS TABLE public.change_feed"),
            ("4", "SET search_path = ''"),
            ("5", "SET session_replication_role = replica"),
        ] {
            let sql = single_connection(app).await;
            sql.execute_unprepared(session).await.unwrap();
            let delete = format!("DELETE FROM public.visit WHERE visit_no = '{visit_no}'");
            sql.execute_unprepared(&delete).await.unwrap();
            sql.close_by_ref().await.unwrap();
            left -= 1;
            assert_eq!(counted().await, left, "after {session}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_refuses_to_truncate_visits() {
    with_app!(DatabaseKind::Mariadb, async |app: &TestApp| {
        app.import_example();
        for table in ["visit", "patient"] {
            let refused = app.sql.execute_unprepared(&format!("TRUNCATE TABLE {table}")).await;
            assert!(refused.unwrap_err().to_string().contains("1701"));
        }
        app.execute("DELETE FROM visit").await;
    })
    .await;
}

/// The load waits for a lock. All clients disconnect meanwhile, and the next query finds the loaded ledger.
async fn a_ledger_load_outlives_its_request(app: &TestApp) {
    app.import_example();
    let user = app.sign_in("desk").await;
    let query = format!("{{ {EXAMPLE} {{ {COUNTS} }} }}");
    let lock = single_connection(app).await;
    let (locked, unlocked) = match app.kind() {
        DatabaseKind::Postgres => ("BEGIN; LOCK TABLE visit IN ACCESS EXCLUSIVE MODE", "COMMIT"),
        _ => ("LOCK TABLES visit WRITE", "UNLOCK TABLES"),
    };
    lock.execute_unprepared(locked).await.unwrap();
    for _ in 0..2 {
        let gone = tokio::time::timeout(Duration::from_millis(500), user.graphql(&query)).await;
        assert!(gone.is_err(), "the query waits for the lock");
    }
    // Time for the server to notice the disconnect.
    tokio::time::sleep(Duration::from_millis(500)).await;
    lock.execute_unprepared(unlocked).await.unwrap();
    let loads = async || app.metric("rollcall_ledger_loads_total").await;
    wait_until("the ledger is loaded", async || loads().await == 1).await;
    let found = user.graphql(&query).await;
    assert_eq!(found["statistics"]["total"]["visitors"]["visitCount"], 7);
    assert_eq!(loads().await, 1);
    lock.close_by_ref().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_load_outlives_its_request_postgres() {
    with_app!(DatabaseKind::Postgres, async |app| a_ledger_load_outlives_its_request(
        app
    )
    .await)
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_load_outlives_its_request_mariadb() {
    with_app!(DatabaseKind::Mariadb, async |app| a_ledger_load_outlives_its_request(
        app
    )
    .await)
    .await;
}
