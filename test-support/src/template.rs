//! The database that each test starts with: made once per run and kind of database, then copied.

use std::path::Path;
use std::time::Duration;

use sea_orm::{ConnectionTrait as _, Statement};
use tokio::sync::OnceCell;

use crate::app::{CommandLine, DatabaseKind, PASSWORD, connect};
use crate::cleanup;

/// A database with one hospital and its staff, and the key that it was made with.
pub struct Template {
    kind: DatabaseKind,
    folder: std::path::PathBuf,
    /// The URL of the database server's maintenance database; empty for SQLite.
    server: String,
    name: String,
    /// For MariaDB, the statements that make a copy.
    copy_statements: Vec<String>,
}

/// Drops a test's database, also when the test fails.
pub struct Cleanup(Option<(String, String)>);

impl Drop for Cleanup {
    fn drop(&mut self) {
        if let Some((server, name)) = &self.0 {
            cleanup::drop_database_now(server, name);
        }
    }
}

/// The name of a database that this run makes.
fn new_name() -> String {
    format!("rollcall_test_{:016x}", rand::random::<u64>())
}

/// The URL of the database server, if it accepts connections; empty for SQLite.
async fn server(kind: DatabaseKind) -> Result<String, String> {
    let (variable, default) = match kind {
        DatabaseKind::Sqlite => return Ok(String::new()),
        DatabaseKind::Postgres => (
            "ROLLCALL_TEST_POSTGRES_URL",
            // A TLS handshake on loopback takes 100 ms, and every command connects several times.
            "postgres://postgres@127.0.0.1:5432/postgres?sslmode=disable",
        ),
        DatabaseKind::Mariadb => ("ROLLCALL_TEST_MARIADB_URL", "mysql://root@127.0.0.1:3306/mysql"),
    };
    let url = std::env::var(variable).unwrap_or_else(|_| default.to_owned());
    let url = url.replacen("mariadb:", "mysql:", 1);
    // sqlx retries for 30 s if the connection is refused.
    match tokio::time::timeout(Duration::from_secs(5), connect(&url)).await {
        Ok(Ok(connection)) => connection.close().await.unwrap(),
        Ok(Err(error)) => return Err(format!("{kind:?} does not answer: {error} ({variable} sets its URL)")),
        Err(_) => return Err(format!("{kind:?} does not answer ({variable} sets its URL)")),
    }
    Ok(url)
}

impl Template {
    /// The template of a kind, or why the database does not answer.
    pub async fn get(rollcall: &'static str, kind: DatabaseKind) -> Result<&'static Self, &'static str> {
        static TEMPLATES: [OnceCell<Result<Template, String>>; 3] = [const { OnceCell::const_new() }; 3];
        let template = TEMPLATES[kind as usize]
            .get_or_init(|| Self::make(rollcall, kind))
            .await;
        template.as_ref().map_err(String::as_str)
    }

    async fn make(rollcall: &'static str, kind: DatabaseKind) -> Result<Self, String> {
        let server = server(kind).await?;
        let folder = tempfile::tempdir().unwrap().keep();
        cleanup::remove_folder_after_tests(&folder);
        let mut template = Self {
            kind,
            folder,
            server,
            name: new_name(),
            copy_statements: Vec::new(),
        };
        if kind != DatabaseKind::Sqlite {
            let connection = connect(&template.server).await.unwrap();
            cleanup::drop_database_after_tests(&template.server, &template.name);
            let create = format!("CREATE DATABASE {}", template.name);
            connection.execute_unprepared(&create).await.unwrap();
            connection.close().await.unwrap();
        }
        let url = template.url(&template.name, &template.folder);
        let cli = CommandLine {
            rollcall,
            url: &url,
            folder: &template.folder,
        };
        cli.run(&["migrate"], "");
        let zone = "Asia/Seoul";
        let hospital = ["hospital", "add", "--code", "H1", "--name", "One", "--time-zone", zone];
        cli.run(&hospital, "");
        for role in ["ADMIN", "CLINICIAN", "DESK", "SUPPORT", "KIOSK"] {
            let login = &role.to_lowercase();
            let member = [
                "staff",
                "add",
                "--hospital",
                "H1",
                "--login",
                login,
                "--name",
                role,
                "--role",
                role,
            ];
            cli.run(&member, PASSWORD);
        }
        if kind == DatabaseKind::Mariadb {
            template.copy_statements = mariadb_copy_statements(&url, &template.name).await;
        }
        Ok(template)
    }

    fn url(&self, name: &str, folder: &Path) -> String {
        match self.kind {
            DatabaseKind::Sqlite => format!("sqlite://{}", folder.join("test.db").display()),
            _ => {
                let (server, database) = self.server.rsplit_once('/').unwrap();
                let parameters = database.find('?').map_or("", |at| &database[at..]);
                format!("{server}/{name}{parameters}")
            }
        }
    }

    /// A copy of the template, and its key in the folder.
    pub async fn database(&self, folder: &Path) -> (String, Cleanup) {
        // SQLite's shared memory belongs to the processes that have the file open.
        for file in std::fs::read_dir(&self.folder).unwrap() {
            let file = file.unwrap();
            if !file.file_name().to_string_lossy().ends_with("-shm") {
                std::fs::copy(file.path(), folder.join(file.file_name())).unwrap();
            }
        }
        let name = new_name();
        let url = self.url(&name, folder);
        if self.kind == DatabaseKind::Sqlite {
            return (url, Cleanup(None));
        }
        let admin = connect(&self.server).await.unwrap();
        let template = match self.kind {
            DatabaseKind::Postgres => format!(" TEMPLATE {}", self.name),
            _ => String::new(),
        };
        let create = format!("CREATE DATABASE {name}{template}");
        admin.execute_unprepared(&create).await.unwrap();
        admin.close().await.unwrap();
        let cleanup = Cleanup(Some((self.server.clone(), name)));
        if !self.copy_statements.is_empty() {
            let copy = connect(&url).await.unwrap();
            copy.execute_unprepared(&self.copy_statements.join(";\n"))
                .await
                .unwrap();
            copy.close().await.unwrap();
        }
        (url, cleanup)
    }
}

/// The statements that copy a MariaDB database, which has no templates: tables, rows, then triggers.
async fn mariadb_copy_statements(url: &str, name: &str) -> Vec<String> {
    let database = connect(url).await.unwrap();
    let texts = async |sql: &str| {
        let statement = Statement::from_string(database.get_database_backend(), sql);
        let rows = database.query_all_raw(statement).await.unwrap();
        let texts = rows.iter().map(|row| row.try_get_by_index::<String>(0).unwrap());
        texts.collect::<Vec<_>>()
    };
    let mut statements = vec!["SET FOREIGN_KEY_CHECKS = 0".to_owned()];
    let of_this = "SCHEMA = DATABASE()";
    for table in texts(&format!(
        "SELECT table_name FROM information_schema.tables WHERE TABLE_{of_this}"
    ))
    .await
    {
        let statement = Statement::from_string(database.get_database_backend(), format!("SHOW CREATE TABLE {table}"));
        let row = database.query_one_raw(statement).await.unwrap().unwrap();
        statements.push(row.try_get_by_index(1).unwrap());
        let columns = texts(&format!(
            "SELECT column_name FROM information_schema.columns
            WHERE TABLE_{of_this} AND table_name = '{table}' AND is_generated = 'NEVER' ORDER BY ordinal_position"
        ))
        .await
        .join(", ");
        statements.push(format!(
            "INSERT INTO {table} ({columns}) SELECT {columns} FROM {name}.{table}"
        ));
    }
    statements.extend(
        texts(&format!(
            "SELECT CONCAT('CREATE TRIGGER ', trigger_name, ' ', action_timing, ' ', event_manipulation, ' ON ',
                event_object_table, ' FOR EACH ROW ', action_statement)
            FROM information_schema.triggers WHERE TRIGGER_{of_this} ORDER BY event_object_table, action_order"
        ))
        .await,
    );
    let routines = texts(&format!(
        "SELECT routine_name FROM information_schema.routines WHERE ROUTINE_{of_this}"
    ))
    .await;
    assert!(routines.is_empty(), "a copy would lack these routines: {routines:?}");
    statements.push("SET FOREIGN_KEY_CHECKS = 1".to_owned());
    database.close().await.unwrap();
    statements
}
