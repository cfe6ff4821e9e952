//! Backups restored under running servers, and rows that come or go past the triggers: nothing wrong is counted, stored or shown.

use std::collections::BTreeMap;
use std::time::Duration;

use rollcall::store::triggers;
use sea_orm::{ConnectOptions, ConnectionTrait as _, Database, DatabaseConnection, QueryResult, Statement};
use serde_json::{Value, json};

use crate::harness::{App, EXAMPLE, Kind, User, on_each_database, until, with};

const COUNTS: &str = "revision total { visitors { patientCount visitCount digest } noShow { visitCount } canceled: cohort(kind: CANCELED) { visitCount } }";

async fn rows(sql: &impl sea_orm::ConnectionTrait, text: &str) -> Vec<QueryResult> {
    let statement = Statement::from_string(sql.get_database_backend(), text);
    sql.query_all_raw(statement).await.unwrap()
}

/// The statements that make a table's triggers as they are.
async fn making_triggers(app: &App, table: &str) -> Vec<(String, Vec<String>)> {
    let list = match app.kind() {
        Kind::Sqlite => format!("SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = '{table}'"),
        Kind::Postgres => format!(
            "SELECT CAST(tgname AS TEXT), pg_get_triggerdef(oid) FROM pg_trigger
                WHERE tgrelid = CAST('{table}' AS regclass) AND NOT tgisinternal"
        ),
        Kind::Mariadb => format!(
            "SELECT trigger_name, trigger_name FROM information_schema.triggers
                WHERE trigger_schema = DATABASE() AND event_object_table = '{table}'"
        ),
    };
    let mut making = Vec::new();
    for row in rows(&app.sql, &list).await {
        let name: String = row.try_get_by_index(0).unwrap();
        let make: String = row.try_get_by_index(1).unwrap();
        making.push((
            name.clone(),
            match app.kind() {
                Kind::Sqlite => vec![make],
                Kind::Postgres => vec![make, format!("ALTER TABLE {table} ENABLE ALWAYS TRIGGER {name}")],
                Kind::Mariadb => {
                    let shown = rows(&app.sql, &format!("SHOW CREATE TRIGGER {name}")).await;
                    vec![shown[0].try_get_by_index(2).unwrap()]
                }
            },
        ));
    }
    making
}

async fn drop_trigger(app: &App, table: &str, name: &str) {
    let of = if app.kind() == Kind::Postgres {
        format!(" ON {table}")
    } else {
        String::new()
    };
    app.execute(&format!("DROP TRIGGER {name}{of}")).await;
}

/// Changes visits while they have no triggers; `meanwhile` is done before these are back.
async fn past_the_triggers(app: &App, sql: &str, meanwhile: impl AsyncFnOnce()) {
    let making = making_triggers(app, "visit").await;
    for (name, _) in &making {
        drop_trigger(app, "visit", name).await;
    }
    app.execute(sql).await;
    meanwhile().await;
    for statement in making.iter().flat_map(|(_, make)| make) {
        app.execute(statement).await;
    }
}

fn code(answer: &Value) -> &str {
    answer["errors"][0]["extensions"]["code"].as_str().unwrap_or_default()
}

async fn asked(user: &User<'_>, fields: &str) -> Value {
    user.try_with(&format!("{{ {EXAMPLE} {{ {fields} }} }}"), json!({}))
        .await
}

on_each_database! {
    async fn the_triggers_are_those_that_are_checked(app: App) {
        let mut installed = Vec::new();
        for table in ["hospital", "definition", "patient", "visit"] {
            installed.extend(making_triggers(app, table).await.into_iter().map(|(name, _)| (table.to_owned(), name)));
        }
        // Refuses what cannot be read, and counts nothing.
        installed.retain(|(_, name)| !name.starts_with("visit_time_"));
        installed.sort();
        let backend = app.sql.get_database_backend();
        let mut checked: Vec<(String, String)> =
            triggers(backend).map(|(table, name)| (table.to_owned(), name.to_owned())).collect();
        checked.sort();
        assert_eq!(installed, checked);
    }

    async fn rows_that_went_past_the_triggers_are_noticed(app: App) {
        app.example();
        let here = app.sign_in("desk").await;
        let before = here.ask(&format!("{{ {EXAMPLE} {{ {COUNTS} }} }}")).await;
        let second = app.second_server();
        let there = app.sign_in_at(&second.base, "H1", "desk").await;
        let insert = "INSERT INTO visit (hospital_id, visit_no, patient_id, date, status, channel) SELECT hospital_id, '12', id, '2025-06-20', 'COMPLETED', 'OTHER' FROM patient WHERE chart_no = 'C'";
        past_the_triggers(app, insert, async || {
            assert_eq!(code(&asked(&there, "id").await), "BEING_RESTORED", "there are no triggers");
        })
        .await;
        let answer = asked(&there, "id").await;
        assert_eq!(code(&answer), "BEING_RESTORED", "the triggers are back, and a visit is too many: {answer}");
        // The server that has a ledger catches up with a change of the same patient's visits, and counts.
        app.execute("UPDATE visit SET status = 'NO_SHOW' WHERE visit_no = '7'").await;
        for user in [&here, &there] {
            assert_eq!(code(&asked(user, "id").await), "BEING_RESTORED");
        }
        assert_eq!(app.number("SELECT COUNT(*) FROM snapshot").await, 0, "nothing is stored");
        let said = app.rollcall(&["recount", "--hospital", "H1"]);
        assert_eq!(said, "H1: 12 visits (before: 11), 5 active patients (before: 5)\n");
        let after = here.ask(&format!("{{ {EXAMPLE} {{ id {COUNTS} }} }}")).await;
        assert_eq!(there.ask(&format!("{{ {EXAMPLE} {{ id {COUNTS} }} }}")).await, after);
        assert_ne!(after["statistics"]["revision"], before["statistics"]["revision"]);
        assert_eq!(after["statistics"]["total"]["visitors"]["visitCount"], 7);
        assert_eq!(after["statistics"]["total"]["noShow"]["visitCount"], 2);
    }

    async fn a_recount_moves_the_revision_of_every_hospital(app: App) {
        app.example();
        let other = app.other_hospital().await;
        let here = app.sign_in("desk").await;
        let revisions = async || {
            [asked(&here, "revision").await, asked(&other, "revision").await]
                .map(|answer| answer["data"]["statistics"]["revision"].as_str().unwrap().to_owned())
        };
        let before = revisions().await;
        app.execute("UPDATE revision SET visit_count = 0, patient_count = 7").await;
        let said = app.rollcall(&["recount"]);
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(lines, [
            "H1: 11 visits (before: 0), 5 active patients (before: 7)",
            "H2: 0 visits (before: 0), 0 active patients (before: 7)",
        ]);
        let after = revisions().await;
        assert!(before[0] != after[0] && before[1] != after[1]);
        // Numbers from later, as in a backup that was not taken at one moment: the revision goes past them.
        app.execute("INSERT INTO change_feed (hospital_id, number, tag, kind) SELECT hospital_id, number + 5, 1, 'RULES' FROM revision WHERE hospital_id = 1").await;
        app.rollcall(&["recount", "--hospital", "H1"]);
        assert_eq!(asked(&here, "total { visitors { visitCount } }").await["data"]["statistics"]["total"]["visitors"]["visitCount"], 7);
        // Without its triggers a recount would be good for nothing.
        drop_trigger(app, "visit", "visit_goes").await;
        let refused = app.try_rollcall(&["recount", "--hospital", "H1"]);
        assert!(!refused.status.success());
        assert!(String::from_utf8_lossy(&refused.stderr).contains("visit_goes"));
    }

    async fn other_lists_are_never_shown_under_a_stored_id(app: App) {
        app.example();
        let here = app.sign_in("desk").await;
        let fields = format!("{COUNTS} total {{ visitors {{ patientIds visitIds }} }}");
        // In memory here, and not stored.
        let wrong = here.ask(&format!("{{ {EXAMPLE} {{ {fields} }} }}")).await["statistics"].take();
        past_the_triggers(app, "UPDATE visit SET status = 'NO_SHOW' WHERE visit_no = '1'", async || ()).await;
        let second = app.second_server();
        let there = app.sign_in_at(&second.base, "H1", "desk").await;
        let right = there.ask(&format!("{{ {EXAMPLE} {{ id {fields} }} }}")).await["statistics"].take();
        assert_eq!(wrong["revision"], right["revision"]);
        assert_ne!(wrong["total"], right["total"]);
        let open = "query ($id: ID!) { statisticsSnapshot(id: $id) { id FIELDS } }".replace("FIELDS", &fields);
        let opened = here.ask_with(&open, json!({"id": right["id"]})).await;
        assert_eq!(opened["statisticsSnapshot"], right, "opened as it is stored");
        // Another question that only this server has counted, and whose lists another stores.
        let other = EXAMPLE.replace("2025-08-31", "2025-08-30");
        let third = app.second_server();
        let elsewhere = app.sign_in_at(&third.base, "H1", "desk").await;
        app.execute("UPDATE visit SET visit_no = '100' WHERE visit_no = '10'").await;
        let wrong = here.ask(&format!("{{ {other} {{ {fields} }} }}")).await["statistics"].take();
        let right = elsewhere.ask(&format!("{{ {other} {{ id {fields} }} }}")).await["statistics"].take();
        assert_ne!(wrong["total"], right["total"]);
        let refused = here.try_with(&format!("{{ {other} {{ id {fields} }} }}"), json!({})).await;
        assert_eq!(code(&refused), "BEING_RESTORED", "{refused}");
        let again = here.ask(&format!("{{ {other} {{ id {fields} }} }}")).await["statistics"].take();
        assert_eq!(again, right, "what was wrong is gone");
    }

    async fn totals_without_a_filter_are_kept_and_not_counted(app: App) {
        app.example();
        let user = app.sign_in("admin").await;
        let totals = async || {
            let answer = user.ask("{ patients { totalCount } visits { totalCount } }").await;
            [&answer["patients"], &answer["visits"]].map(|list| list["totalCount"].as_i64().unwrap())
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
            Kind::Postgres => ("INSERT INTO visit (hospital_id, visit_no, patient_id, date, status, channel) SELECT hospital_id, visit_no, patient_id, '2025-01-03', status, channel FROM visit ON CONFLICT (hospital_id, visit_no) DO UPDATE SET date = excluded.date", [5, 14]),
            Kind::Sqlite => ("PRAGMA recursive_triggers = ON", [5, 14]),
            Kind::Mariadb => ("REPLACE INTO visit (hospital_id, visit_no, patient_id, date, status, channel) SELECT hospital_id, visit_no, patient_id, '2025-01-03', status, channel FROM visit", [5, 14]),
        });
        for (sql, wanted) in steps {
            app.execute(sql).await;
            assert_eq!(totals().await, wanted, "after {sql}");
            // The ledger is whole: its visits are as many.
            let answer = asked(&user, "revision").await;
            assert!(answer["errors"].is_null(), "after {sql}: {answer}");
        }
        let id = |name: &str| format!("{{ patients(filter: {{search: \"{name}\"}}) {{ nodes {{ id version }} }} }}");
        let [a, b] = [user.ask(&id("Ann Ash")).await, user.ask(&id("Dag Day")).await].map(|found| found["patients"]["nodes"][0].clone());
        let merge = json!({"id": a["id"], "version": a["version"], "intoId": b["id"], "reason": "twice"});
        user.change("mergePatients", merge, "__typename").await;
        assert_eq!(totals().await, [4, 14]);
        if app.kind() == Kind::Postgres {
            app.execute("TRUNCATE visit CASCADE").await;
            assert_eq!(totals().await, [4, 0]);
            app.execute("TRUNCATE patient CASCADE").await;
            assert_eq!(totals().await, [0, 0]);
        }
        // What is kept is what is said; with a filter, rows are counted.
        app.execute("UPDATE revision SET visit_count = 12345, patient_count = 6789").await;
        assert_eq!(totals().await, [6789, 12345]);
        let filtered = user.ask("{ patients(filter: {search: \"Nobody\"}) { totalCount } visits(filter: {channels: [PHONE]}) { totalCount } }").await;
        assert_eq!(filtered["patients"]["totalCount"], 0);
        assert!(filtered["visits"]["totalCount"].as_i64().unwrap() < 14);
    }
}

/// What a dump holds of what is counted, in the order in which it is restored.
const RESTORED: [&str; 13] = [
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

/// One connection, so that what is set holds for every statement.
async fn restoring(app: &App) -> DatabaseConnection {
    let mut options = ConnectOptions::new(&app.url);
    options.max_connections(1).idle_timeout(None).max_lifetime(None);
    Database::connect(options).await.unwrap()
}

/// The statements with which a dump of a table brings back half of its rows, then the rest.
fn filling(table: &str) -> [String; 2] {
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

/// A backup, changes after it that leave the number of visits as it was, and the backup again, in the steps in which the
/// database's own tools restore it. Between any two, both servers are asked.
async fn a_restored_backup_is_never_counted_in_part(app: &App) {
    app.example();
    app.execute("UPDATE visit SET status = 'NO_SHOW' WHERE visit_no = '1'")
        .await;
    let second = app.second_server();
    let users = [
        app.sign_in("desk").await,
        app.sign_in_at(&second.base, "H1", "desk").await,
    ];
    let mut known: BTreeMap<String, Value> = BTreeMap::new();
    let fields = format!("id {COUNTS}");
    let seen = |answer: Value| {
        let statistics = answer["data"]["statistics"].clone();
        (
            statistics["revision"].as_str().unwrap_or_default().to_owned(),
            statistics,
        )
    };
    let (backed_up, as_backed_up) = seen(asked(&users[0], &fields).await);
    known.insert(backed_up.clone(), as_backed_up.clone());
    for table in RESTORED {
        app.execute(&format!("CREATE TABLE backup_{table} AS SELECT * FROM {table}"))
            .await;
    }
    app.execute("DELETE FROM visit WHERE visit_no = '7'").await;
    app.execute("INSERT INTO visit (hospital_id, visit_no, patient_id, date, status, channel) SELECT hospital_id, '70', id, '2025-06-15', 'COMPLETED', 'OTHER' FROM patient WHERE chart_no = 'E'").await;
    app.execute("UPDATE visit SET status = 'CANCELED' WHERE visit_no IN ('2', '3', '4')")
        .await;
    for user in &users {
        let (revision, statistics) = seen(asked(user, &fields).await);
        known.insert(revision, statistics);
    }
    assert_eq!(known.len(), 2);

    let sql = restoring(app).await;
    let mut steps: Vec<String> = Vec::new();
    if app.kind() == Kind::Postgres {
        // Everything is dropped first, and triggers come last.
        steps.push("SET session_replication_role = replica".to_owned());
        let mut triggers = Vec::new();
        for table in RESTORED {
            for (name, make) in making_triggers(app, table).await {
                steps.push(format!("DROP TRIGGER {name} ON {table}"));
                triggers.extend(make);
            }
        }
        steps.extend(RESTORED.map(|table| format!("DELETE FROM {table}")));
        steps.extend(RESTORED.iter().flat_map(|table| filling(table)));
        steps.extend(triggers);
    } else {
        // One table after the other, each with its triggers.
        steps.push("SET foreign_key_checks = 0".to_owned());
        for table in RESTORED {
            let create: String = rows(&app.sql, &format!("SHOW CREATE TABLE {table}")).await[0]
                .try_get_by_index(1)
                .unwrap();
            let making = making_triggers(app, table).await;
            steps.push(format!("DROP TABLE {table}; {create}"));
            steps.extend(filling(table));
            steps.extend(making.into_iter().flat_map(|(_, make)| make));
        }
    }
    let mut refused = [0; 2];
    for step in &steps {
        sql.execute_unprepared(step)
            .await
            .unwrap_or_else(|error| panic!("{step}: {error}"));
        for (user, refused) in users.iter().zip(&mut refused) {
            let answer = asked(user, &fields).await;
            if code(&answer) == "BEING_RESTORED" {
                *refused += 1;
                continue;
            }
            assert!(answer["errors"].is_null(), "after {step}: {answer}");
            let (revision, statistics) = seen(answer);
            assert_eq!(Some(&statistics), known.get(&revision), "after {step}");
        }
    }
    assert!(
        refused.iter().all(|&refused| refused > 0),
        "nobody was refused: {refused:?}"
    );
    sql.close_by_ref().await.unwrap();
    let third = app.second_server();
    let there = app.sign_in_at(&third.base, "H1", "desk").await;
    for user in users.iter().chain([&there]) {
        assert_eq!(
            seen(asked(user, &fields).await),
            (backed_up.clone(), as_backed_up.clone())
        );
        let open = "query ($id: ID!) { statisticsSnapshot(id: $id) { id FIELDS } }".replace("FIELDS", COUNTS);
        let opened = user.ask_with(&open, json!({"id": as_backed_up["id"]})).await;
        assert_eq!(opened["statisticsSnapshot"], as_backed_up);
    }
    // And it goes on from there.
    app.execute("UPDATE visit SET status = 'CANCELED' WHERE visit_no = '5'")
        .await;
    let (after, counted) = (asked(&users[0], &fields).await, asked(&there, &fields).await);
    assert!(after["errors"].is_null() && after == counted, "{after} {counted}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_backup_is_never_counted_in_part_postgres() {
    with(Kind::Postgres, async |app| {
        a_restored_backup_is_never_counted_in_part(app).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_backup_is_never_counted_in_part_mariadb() {
    with(Kind::Mariadb, async |app| {
        a_restored_backup_is_never_counted_in_part(app).await
    })
    .await;
}

/// Where a session looks names up has no say in where triggers write, nor does its role in whether they do.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_session_leads_triggers_astray() {
    with(Kind::Postgres, async |app: &App| {
        app.example();
        let user = app.sign_in("desk").await;
        let counted = async || {
            let answer = user.ask(&format!("{{ {EXAMPLE} {{ {COUNTS} }} }}")).await;
            answer["statistics"]["total"]["visitors"]["visitCount"].as_i64().unwrap()
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
            let sql = restoring(app).await;
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
    with(Kind::Mariadb, async |app: &App| {
        app.example();
        for table in ["visit", "patient"] {
            let refused = app.sql.execute_unprepared(&format!("TRUNCATE TABLE {table}")).await;
            assert!(refused.unwrap_err().to_string().contains("1701"));
        }
        app.execute("DELETE FROM visit").await;
    })
    .await;
}

/// The load waits for a lock. Who asked goes away, and so does everybody else: the next question finds the ledger.
async fn a_load_outlives_who_asked(app: &App) {
    app.example();
    let user = app.sign_in("desk").await;
    let query = format!("{{ {EXAMPLE} {{ {COUNTS} }} }}");
    let lock = restoring(app).await;
    let (locked, unlocked) = match app.kind() {
        Kind::Postgres => ("BEGIN; LOCK TABLE visit IN ACCESS EXCLUSIVE MODE", "COMMIT"),
        _ => ("LOCK TABLES visit WRITE", "UNLOCK TABLES"),
    };
    lock.execute_unprepared(locked).await.unwrap();
    for _ in 0..2 {
        let gone = tokio::time::timeout(Duration::from_millis(500), user.ask(&query)).await;
        assert!(gone.is_err(), "it waits for the lock");
    }
    // Time for the server to notice that nobody waits.
    tokio::time::sleep(Duration::from_millis(500)).await;
    lock.execute_unprepared(unlocked).await.unwrap();
    let loads = async || app.metric("rollcall_ledger_loads_total").await;
    until("the load ended with who asked", async || loads().await == 1).await;
    let found = user.ask(&query).await;
    assert_eq!(found["statistics"]["total"]["visitors"]["visitCount"], 7);
    assert_eq!(loads().await, 1);
    lock.close_by_ref().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_outlives_who_asked_postgres() {
    with(Kind::Postgres, async |app| a_load_outlives_who_asked(app).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_outlives_who_asked_mariadb() {
    with(Kind::Mariadb, async |app| a_load_outlives_who_asked(app).await).await;
}
