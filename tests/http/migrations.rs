//! Migrations up and down, on empty and on existing data; a server reports pending migrations.

use migration::{Migrator, MigratorTrait as _};
use test_support::on_each_database;

on_each_database! {
    async fn migrations_are_reversible(app: TestApp) {
        app.import_example();
        Migrator::down(&app.sql, None).await.unwrap();
        let output = app.try_run_cli(&["serve", "--listen", "127.0.0.1:0"]);
        assert!(!output.status.success());
        assert!(String::from_utf8_lossy(&output.stderr).contains("run `rollcall migrate` first"));
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
