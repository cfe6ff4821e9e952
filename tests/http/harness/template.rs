//! The database that each test begins with: made once a run for each kind, then copied.

use std::path::Path;

use rollcall::store::check_connection;
use sea_orm::{ConnectionTrait as _, Statement};
use tokio::sync::OnceCell;

use super::{Kind, PASSWORD, connect, run, suite};

/// A database with one hospital and its staff, and the key that it was made with.
pub struct Template {
    kind: Kind,
    folder: std::path::PathBuf,
    /// The address of the server without a database; SQLite has none.
    server: String,
    name: String,
    /// Of MariaDB, the statements that make a copy.
    copies: Vec<String>,
}

/// Drops a test's database also when the test fails.
pub struct Cleanup(Option<(String, String)>);

impl Drop for Cleanup {
    fn drop(&mut self) {
        let Some((server, name)) = self.0.take() else { return };
        std::thread::spawn(move || suite::drop_database(&server, &name).unwrap())
            .join()
            .unwrap();
    }
}

/// The name of a database that this run makes.
fn new_name() -> String {
    format!("rollcall_test_{:016x}", rand::random::<u64>())
}

/// The address of the server, where it takes connections; empty for SQLite.
async fn server(kind: Kind) -> Result<String, String> {
    let (variable, usual) = match kind {
        Kind::Sqlite => return Ok(String::new()),
        Kind::Postgres => (
            "ROLLCALL_TEST_POSTGRES_URL",
            "postgres://postgres@127.0.0.1:5432/postgres",
        ),
        Kind::Mariadb => ("ROLLCALL_TEST_MARIADB_URL", "mysql://root@127.0.0.1:3306/mysql"),
    };
    let url = std::env::var(variable).unwrap_or_else(|_| usual.to_owned());
    let url = url.replacen("mariadb:", "mysql:", 1);
    let reached = check_connection(&url).await;
    reached.map_err(|error| format!("{} ({variable} says where it is)", error.for_operator()))?;
    Ok(url)
}

impl Template {
    /// The template of a kind; why there is none, where the database does not answer.
    pub async fn of(kind: Kind) -> Result<&'static Self, &'static str> {
        static TEMPLATES: [OnceCell<Result<Template, String>>; 3] = [const { OnceCell::const_new() }; 3];
        let template = TEMPLATES[kind as usize].get_or_init(|| Self::make(kind)).await;
        template.as_ref().map_err(String::as_str)
    }

    async fn make(kind: Kind) -> Result<Self, String> {
        let server = server(kind).await?;
        let folder = tempfile::tempdir().unwrap().keep();
        suite::remove_folder_at_the_end(&folder);
        let mut template = Self {
            kind,
            folder,
            server,
            name: new_name(),
            copies: Vec::new(),
        };
        if kind != Kind::Sqlite {
            let connection = connect(&template.server).await.unwrap();
            suite::drop_database_at_the_end(&template.server, &template.name);
            let create = format!("CREATE DATABASE {}", template.name);
            connection.execute_unprepared(&create).await.unwrap();
            connection.close().await.unwrap();
        }
        let (url, folder) = (template.url(&template.name, &template.folder), &template.folder);
        run(&url, folder, &["migrate"], "");
        let zone = "Asia/Seoul";
        let hospital = ["hospital", "add", "--code", "H1", "--name", "One", "--time-zone", zone];
        run(&url, folder, &hospital, "");
        for role in ["ADMIN", "CLINICIAN", "DESK", "SUPPORT"] {
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
            run(&url, folder, &member, PASSWORD);
        }
        if kind == Kind::Mariadb {
            template.copies = mariadb_copies(&url, &template.name).await;
        }
        Ok(template)
    }

    fn url(&self, name: &str, folder: &Path) -> String {
        match self.kind {
            Kind::Sqlite => format!("sqlite://{}", folder.join("test.db").display()),
            _ => format!("{}/{name}", self.server.rsplit_once('/').unwrap().0),
        }
    }

    /// A copy of the template, and its key in the folder.
    pub async fn database(&self, folder: &Path) -> (String, Cleanup) {
        // Shared memory of SQLite's is of the processes that have the file open.
        for file in std::fs::read_dir(&self.folder).unwrap() {
            let file = file.unwrap();
            if !file.file_name().to_string_lossy().ends_with("-shm") {
                std::fs::copy(file.path(), folder.join(file.file_name())).unwrap();
            }
        }
        let name = new_name();
        let url = self.url(&name, folder);
        if self.kind == Kind::Sqlite {
            return (url, Cleanup(None));
        }
        let admin = connect(&self.server).await.unwrap();
        let template = match self.kind {
            Kind::Postgres => format!(" TEMPLATE {}", self.name),
            _ => String::new(),
        };
        let create = format!("CREATE DATABASE {name}{template}");
        admin.execute_unprepared(&create).await.unwrap();
        admin.close().await.unwrap();
        let cleanup = Cleanup(Some((self.server.clone(), name)));
        if !self.copies.is_empty() {
            let copy = connect(&url).await.unwrap();
            copy.execute_unprepared(&self.copies.join(";\n")).await.unwrap();
            copy.close().await.unwrap();
        }
        (url, cleanup)
    }
}

/// What makes a copy of a database of MariaDB, which has no templates: tables, rows, then the triggers.
async fn mariadb_copies(url: &str, name: &str) -> Vec<String> {
    let database = connect(url).await.unwrap();
    let texts = async |sql: &str| {
        let statement = Statement::from_string(database.get_database_backend(), sql);
        let rows = database.query_all_raw(statement).await.unwrap();
        let texts = rows.iter().map(|row| row.try_get_by_index::<String>(0).unwrap());
        texts.collect::<Vec<_>>()
    };
    let mut copies = vec!["SET FOREIGN_KEY_CHECKS = 0".to_owned()];
    let of_this = "SCHEMA = DATABASE()";
    for table in texts(&format!(
        "SELECT table_name FROM information_schema.tables WHERE TABLE_{of_this}"
    ))
    .await
    {
        let statement = Statement::from_string(database.get_database_backend(), format!("SHOW CREATE TABLE {table}"));
        let row = database.query_one_raw(statement).await.unwrap().unwrap();
        copies.push(row.try_get_by_index(1).unwrap());
        let columns = texts(&format!(
            "SELECT column_name FROM information_schema.columns
            WHERE TABLE_{of_this} AND table_name = '{table}' AND is_generated = 'NEVER' ORDER BY ordinal_position"
        ))
        .await
        .join(", ");
        copies.push(format!(
            "INSERT INTO {table} ({columns}) SELECT {columns} FROM {name}.{table}"
        ));
    }
    copies.extend(
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
    assert!(routines.is_empty(), "a copy would lack them: {routines:?}");
    copies.push("SET FOREIGN_KEY_CHECKS = 1".to_owned());
    database.close().await.unwrap();
    copies
}
