//! Migrations up and down, on empty and on existing data; released ones never change; a server reports pending migrations.

use std::collections::BTreeMap;
use std::fmt::{Debug, Write as _};
use std::sync::{Arc, Mutex};

use migration::{Migrator, MigratorTrait as _, triggers};
use sea_orm::{ConnectionTrait as _, Statement};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};

use test_support::{DatabaseKind, TestApp, on_each_database};

/// Collects the statements that migrations log.
#[derive(Clone, Default)]
struct Statements(Arc<Mutex<Vec<String>>>);

impl<S: tracing::Subscriber> Layer<S> for Statements {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        if event.metadata().target() == "migration::dialect" {
            event.record(&mut |field: &tracing::field::Field, value: &dyn Debug| {
                if field.name() == "sql" {
                    self.0.lock().unwrap().push(format!("{value:?}"));
                }
            });
        }
    }
}

impl Statements {
    /// A line with the digest of what was collected since the last one.
    fn digest(&self, migration: &str, direction: &str) -> String {
        let statements = std::mem::take(&mut *self.0.lock().unwrap());
        let digest = Sha256::digest(statements.join(";\n").as_bytes());
        let mut line = format!("{migration} {direction} ");
        for byte in digest {
            write!(line, "{byte:02x}").unwrap();
        }
        line
    }
}

/// The triggers of the database, and the functions that PostgreSQL's execute, as the database shows them.
async fn definitions(app: &TestApp) -> BTreeMap<String, String> {
    let sql = match app.kind() {
        DatabaseKind::Sqlite => "SELECT name, sql FROM sqlite_master WHERE type = 'trigger'",
        DatabaseKind::Postgres => {
            "SELECT concat(relname, '.', tgname), concat(pg_get_triggerdef(t.oid), ' ', tgenabled)
                FROM pg_trigger t JOIN pg_class k ON k.oid = tgrelid WHERE NOT tgisinternal
            UNION ALL SELECT CAST(CAST(oid AS regprocedure) AS TEXT), pg_get_functiondef(oid)
                FROM pg_proc WHERE pronamespace = CAST('public' AS regnamespace)"
        }
        DatabaseKind::Mariadb => {
            "SELECT trigger_name, CONCAT_WS(' ', action_timing, event_manipulation, event_object_table, action_statement)
                FROM information_schema.triggers WHERE trigger_schema = DATABASE()"
        }
    };
    let statement = Statement::from_string(app.sql.get_database_backend(), sql);
    let rows = app.sql.query_all_raw(statement).await.unwrap();
    let pair = |row: &sea_orm::QueryResult| (row.try_get_by_index(0).unwrap(), row.try_get_by_index(1).unwrap());
    rows.iter().map(pair).collect()
}

on_each_database! {
    async fn installed_triggers_match_the_lists(app: TestApp) {
        let installed = definitions(app).await;
        for name in installed.keys() {
            match app.kind() {
                // Its triggers go with it.
                DatabaseKind::Postgres if name.contains('(') => app.execute(&format!("DROP FUNCTION {name} CASCADE")).await,
                DatabaseKind::Postgres => (),
                _ => app.execute(&format!("DROP TRIGGER {name}")).await,
            }
        }
        assert_eq!(definitions(app).await, BTreeMap::new());
        for statement in triggers::create_all(app.sql.get_database_backend(), "public") {
            app.execute(&statement).await;
        }
        assert_eq!(installed, definitions(app).await);
        let names: Vec<&str> = installed.keys().map(|name| name.split('.').next_back().unwrap()).collect();
        for (_, name) in triggers::required_triggers(app.sql.get_database_backend()) {
            assert!(names.contains(&name.as_str()), "{name}");
        }
        Migrator::down(&app.sql, None).await.unwrap();
        Migrator::up(&app.sql, None).await.unwrap();
        assert_eq!(installed, definitions(app).await);
    }

    /// Databases have run them as they were. Where a new migration is all that is new here, accept the snapshot.
    async fn released_migrations_never_change(app: TestApp) {
        let statements = Statements::default();
        let _collecting = tracing::subscriber::set_default(tracing_subscriber::registry().with(statements.clone()));
        let migrations = Migrator::migrations();
        let mut digests = Vec::new();
        for migration in migrations.iter().rev() {
            Migrator::down(&app.sql, Some(1)).await.unwrap();
            digests.push(statements.digest(migration.name(), "down"));
        }
        for migration in &migrations {
            if migration.name() == "m0014_text" {
                // It reads and writes what is there.
                app.execute("INSERT INTO hospital (code, name, time_zone, week_start, created_at) VALUES ('e\u{301}', 'o\u{301}', 'UTC', 'MONDAY', '2025-01-01 00:00:00')").await;
            }
            Migrator::up(&app.sql, Some(1)).await.unwrap();
            digests.push(statements.digest(migration.name(), "up"));
        }
        digests.sort();
        insta::assert_snapshot!(format!("{:?}", app.kind()).to_lowercase(), digests.join("\n"));
    }

    async fn migrations_are_reversible(app: TestApp) {
        app.import_example();
        Migrator::down(&app.sql, None).await.unwrap();
        let output = app.try_run_cli(&["serve", "--listen", "127.0.0.1:0"]);
        assert!(!output.status.success());
        let pending = format!("{} pending migrations: run `rollcall migrate`", Migrator::migrations().len());
        assert!(String::from_utf8_lossy(&output.stderr).contains(&pending));
        assert_eq!(app.run_cli(&["migrate"]), "the database is up to date\n");
        assert_eq!(app.run_cli(&["migrate"]), "the database is up to date\n");
        app.run_cli(&["hospital", "add", "--code", "H1", "--name", "One", "--time-zone", "Asia/Seoul"]);
        app.import_example();
    }

    async fn the_feed_can_be_added_to_existing_data(app: TestApp) {
        app.import_example();
        // Down to before the feed, a change that is not recorded, and up again.
        let all_but_the_first = u32::try_from(Migrator::migrations().len() - 1).unwrap();
        Migrator::down(&app.sql, Some(all_but_the_first)).await.unwrap();
        app.execute("UPDATE visit SET status = 'CANCELED' WHERE visit_no = '8'").await;
        app.run_cli(&["migrate"]);
        let user = app.sign_in("desk").await;
        let query = format!("{{ {} {{ total {{ visitors {{ visitCount }} }} }} }}", test_support::EXAMPLE);
        assert_eq!(user.graphql(&query).await["statistics"]["total"]["visitors"]["visitCount"], 7);
        app.execute("DELETE FROM visit WHERE visit_no = '5'").await;
        assert_eq!(user.graphql(&query).await["statistics"]["total"]["visitors"]["visitCount"], 6);
    }

    async fn changes_from_before_histories_are_copied(app: TestApp) {
        app.import_example();
        let desk = app.sign_in("desk").await;
        let visits = desk.graphql("{ visits(first: 100) { nodes { id visitNo } } }").await["visits"]["nodes"].take();
        let id = |number: &str| visits.as_array().unwrap().iter().find(|visit| visit["visitNo"] == number).unwrap()["id"].clone();
        let migrations = Migrator::migrations();
        let place = migrations.iter().position(|migration| migration.name() == "m0017_record_change").unwrap();
        Migrator::down(&app.sql, Some(u32::try_from(migrations.len() - place).unwrap())).await.unwrap();
        app.execute("UPDATE visit SET status = 'CANCELED' WHERE visit_no = '8'").await;
        app.execute("UPDATE visit_change SET reason = 'Called'").await;
        app.execute("UPDATE visit SET status = 'NO_SHOW' WHERE visit_no = '8'").await;
        app.execute("DELETE FROM visit WHERE visit_no = '5'").await;
        app.run_cli(&["migrate"]);
        app.execute("UPDATE visit SET status = 'COMPLETED' WHERE visit_no = '8'").await;
        let query = "query ($id: ID!) { visit(id: $id) { history { nodes { source reason fields { field before after } } } } }";
        let history = async |number: &str| desk.graphql_with(query, json!({"id": id(number)})).await["visit"]["history"]["nodes"].take();
        let status = |source: &str, reason: Value, before: &str, after: &str| {
            json!({"source": source, "reason": reason, "fields": [{"field": "status", "before": before, "after": after}]})
        };
        assert_eq!(history("8").await, json!([
            status("SQL", Value::Null, "NO_SHOW", "COMPLETED"),
            status("UNKNOWN", Value::Null, "CANCELED", "NO_SHOW"),
            status("UNKNOWN", json!("Called"), "COMPLETED", "CANCELED"),
        ]));
        // What is known of a visit that was deleted.
        let deleted = history("5").await;
        assert_eq!((deleted.as_array().unwrap().len(), &deleted[0]["source"]), (1, &json!("UNKNOWN")));
        let field = |name: &str| deleted[0]["fields"].as_array().unwrap().iter().find(|field| field["field"] == name).cloned();
        assert_eq!(field("date"), Some(json!({"field": "date", "before": "2025-06-03", "after": null})));
        assert_eq!(field("visitNo"), None);
    }

    async fn invalid_commands_explain_why_they_fail(app: TestApp) {
        let refused = |args: &[&str]| {
            let output = app.try_run_cli(args);
            assert!(!output.status.success(), "{args:?}");
            String::from_utf8(output.stderr).unwrap()
        };
        let add = |zone: &str, code: &str| refused(&["hospital", "add", "--code", code, "--name", "N", "--time-zone", zone]);
        assert!(add("Mars/Base", "H2").contains("not an IANA time zone"));
        assert!(add("Asia/Seoul", "H1").contains("already exists"));
        assert!(add("Asia/Seoul", " ").contains("code: must be 1–255 characters"));
        let days = ["hospital", "add", "--code", "H2", "--name", "N", "--time-zone", "Asia/Seoul", "--churn-after-days", "0"];
        assert!(refused(&days).contains("churn-after-days"));
        let staff = ["staff", "add", "--hospital", "H1", "--login", "x", "--name", "X", "--role", "ADMIN"];
        assert!(refused(&staff).contains("must be 8–1024 characters"));
        assert!(refused(&["serve", "--database-url", "oracle://x"]).contains("begin with sqlite:"));
        for (scheme, database) in [("postgres", "PostgreSQL"), ("mysql", "MariaDB"), ("mariadb", "MariaDB")] {
            let url = format!("{scheme}://root:secret@127.0.0.1:1/none");
            for command in ["serve", "migrate"] {
                let printed = refused(&[command, "--database-url", &url]);
                assert_eq!(printed, format!("rollcall: cannot connect to {database} at 127.0.0.1:1: connection refused\n"));
            }
        }
        assert!(refused(&["serve", "--database-url", "sqlite://none/such.db"]).contains("rollcall migrate"));
        assert!(refused(&["serve", "--key-file", "no/such/key"]).contains("rollcall migrate"));
    }
}
