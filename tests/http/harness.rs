//! A server of its own for each test, on a database of its own, dropped after.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use sea_orm::{ConnectOptions, ConnectionTrait, Database, DatabaseConnection, Statement};
use serde_json::{Value, json};

#[path = "conformity.rs"]
pub mod conformity;
// Said in full, since another suite includes this file by its path.
#[path = "harness/suite.rs"]
mod suite;
#[path = "harness/template.rs"]
mod template;

use template::Template;

pub const PASSWORD: &str = "correct horse";

/// Makes of `async fn name(app: App)` a test on each of the databases.
macro_rules! on_each_database {
    ($($(#[$meta:meta])* async fn $name:ident($app:ident: App) $body:block)+) => {$(
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            async fn run($app: &$crate::harness::App) $body

            #[tokio::test(flavor = "multi_thread")]
            async fn sqlite() {
                $crate::harness::with($crate::harness::Kind::Sqlite, async |app| run(app).await).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn postgres() {
                $crate::harness::with($crate::harness::Kind::Postgres, async |app| run(app).await).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn mariadb() {
                $crate::harness::with($crate::harness::Kind::Mariadb, async |app| run(app).await).await;
            }
        }
    )+};
}
pub(crate) use on_each_database;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Sqlite,
    Postgres,
    Mariadb,
}

/// A database with one hospital, H1, and staff of every role whose login is the role's word in lower case.
pub struct App {
    pub url: String,
    pub sql: DatabaseConnection,
    folder: tempfile::TempDir,
    server: Server,
    client: reqwest::Client,
}

/// One running server.
pub struct Server {
    child: Child,
    pub base: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a test on a database of this kind. One that is not there is left out, aloud; in CI that is a failure.
pub async fn with(kind: Kind, test: impl AsyncFnOnce(&App)) {
    let template = match Template::of(kind).await {
        Ok(template) => template,
        Err(why) => {
            assert!(std::env::var_os("CI").is_none(), "CI leaves nothing out: {why}");
            suite::left_out(why);
            return;
        }
    };
    let folder = tempfile::tempdir().unwrap();
    let (url, cleanup) = template.database(folder.path()).await;
    let app = App {
        server: Server::start(&url, folder.path()),
        sql: connect(&url).await.unwrap(),
        url,
        folder,
        client: reqwest::Client::builder()
            .timeout(std::time::Duration::from_secs(120))
            .build()
            .unwrap(),
    };
    test(&app).await;
    app.sql.close_by_ref().await.unwrap();
    drop(app);
    drop(cleanup);
}

/// Longer than anything may take.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until it holds.
pub async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Says that something was left out, past the capture of passing tests' output.
pub fn leave_out(what: &str) {
    suite::left_out(what);
}

/// Says what was done also where the test passes: that is what it is worth.
pub fn say(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// A number that the environment sets.
pub fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    let number = text.parse();
    Some(number.unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")))
}

/// A pool that nobody looks after in the background: see the store's.
async fn connect(url: &str) -> Result<DatabaseConnection, sea_orm::DbErr> {
    let mut options = ConnectOptions::new(url.to_owned());
    options.idle_timeout(None).max_lifetime(None);
    Database::connect(options).await
}

fn command(url: &str, folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rollcall"));
    command
        .args(args)
        .current_dir(folder)
        .env("ROLLCALL_DATABASE_URL", url)
        .env("ROLLCALL_KEY_FILE", folder.join("key"))
        .env("ROLLCALL_LOG", "warn")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Runs a command line that works.
pub fn run(url: &str, folder: &Path, args: &[&str], input: &str) -> String {
    let output = try_run(url, folder, args, input);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "rollcall {args:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

pub fn try_run(url: &str, folder: &Path, args: &[&str], input: &str) -> Output {
    let mut child = command(url, folder, args).spawn().unwrap();
    // A command that fails early does not read its input.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

impl Server {
    pub fn start(url: &str, folder: &Path) -> Self {
        Self::start_as(command(url, folder, SERVE).stderr(Stdio::inherit()))
    }

    /// Starts a command line that serves.
    pub fn start_as(command: &mut Command) -> Self {
        let mut child = command.spawn().unwrap();
        let mut said = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut said)
            .unwrap();
        let base = said
            .split_whitespace()
            .find(|word| word.starts_with("http://") || word.starts_with("https://"))
            .unwrap_or_else(|| panic!("{said}"));
        let base = base.trim_end_matches("/graphql").to_owned();
        Self { child, base }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Tells it to stop, as a service manager does.
    pub fn terminate(&self) {
        let id = self.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    }

    /// How it ended.
    pub async fn ended(mut self) -> std::process::ExitStatus {
        tokio::task::spawn_blocking(move || self.child.wait())
            .await
            .unwrap()
            .unwrap()
    }
}

/// Serves on a port of its own.
pub const SERVE: &[&str] = &["serve", "--listen", "127.0.0.1:0"];

/// Somebody who is signed in on one server.
pub struct User<'a> {
    app: &'a App,
    base: String,
    pub token: String,
}

impl App {
    pub fn base(&self) -> &str {
        &self.server.base
    }

    pub fn client(&self) -> &reqwest::Client {
        &self.client
    }

    /// One more server on the same database.
    pub fn second_server(&self) -> Server {
        Server::start(&self.url, self.folder.path())
    }

    /// A command line of this database, to be started.
    pub fn command(&self, args: &[&str]) -> Command {
        command(&self.url, self.folder.path(), args)
    }

    /// The same on another address of the database.
    pub fn command_at(&self, url: &str, args: &[&str]) -> Command {
        command(url, self.folder.path(), args)
    }

    pub fn kind(&self) -> Kind {
        match self.url.split(':').next() {
            Some("sqlite") => Kind::Sqlite,
            Some("postgres") => Kind::Postgres,
            _ => Kind::Mariadb,
        }
    }

    /// A number out of the database.
    pub async fn number(&self, sql: &str) -> i64 {
        let statement = Statement::from_string(self.sql.get_database_backend(), sql);
        let row = self.sql.query_one_raw(statement).await.unwrap().unwrap();
        row.try_get_by_index(0).unwrap()
    }

    pub fn rollcall(&self, args: &[&str]) -> String {
        run(&self.url, self.folder.path(), args, "")
    }

    pub fn rollcall_with(&self, args: &[&str], input: &str) -> String {
        run(&self.url, self.folder.path(), args, input)
    }

    pub fn try_rollcall(&self, args: &[&str]) -> Output {
        try_run(&self.url, self.folder.path(), args, "")
    }

    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// Imports what it is given as a file.
    pub fn import(&self, kind: &str, hospital: &str, content: &str) -> String {
        let path = self.file(&format!("{kind}.csv"), content);
        self.rollcall(&["import", kind, "--hospital", hospital, path.to_str().unwrap()])
    }

    /// The first value of the first row.
    pub async fn value<T: sea_orm::TryGetable>(&self, sql: &str) -> T {
        let statement = sea_orm::Statement::from_string(self.sql.get_database_backend(), sql);
        let row = self.sql.query_one_raw(statement).await.unwrap().unwrap();
        row.try_get_by_index(0).unwrap()
    }

    /// The names of all tables.
    pub async fn tables(&self) -> Vec<String> {
        let sql = match self.kind() {
            Kind::Sqlite => {
                "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY 1"
            }
            Kind::Postgres => "SELECT CAST(tablename AS TEXT) FROM pg_tables WHERE schemaname = 'public' ORDER BY 1",
            Kind::Mariadb => {
                "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE() ORDER BY 1"
            }
        };
        let statement = Statement::from_string(self.sql.get_database_backend(), sql);
        let rows = self.sql.query_all_raw(statement).await.unwrap();
        rows.iter().map(|row| row.try_get_by_index(0).unwrap()).collect()
    }

    pub async fn execute(&self, sql: &str) {
        self.sql
            .execute_unprepared(sql)
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    /// What a metric stands at.
    pub async fn metric(&self, name: &str) -> u64 {
        self.metric_at(self.base(), name).await
    }

    pub async fn metric_at(&self, base: &str, name: &str) -> u64 {
        let url = format!("{base}/metrics");
        let text = self.client.get(url).send().await.unwrap().text().await.unwrap();
        let line = text.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }

    /// What a request is answered with, whatever it is; that is held against the specification.
    pub async fn post(&self, base: &str, token: Option<&str>, query: &str, variables: Value) -> Value {
        let mut request = self
            .client
            .post(format!("{base}/graphql"))
            .json(&json!({"query": query, "variables": &variables}));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let answer: Value = request.send().await.unwrap().json().await.unwrap();
        if let Err(why) = conformity::check(query, None, &variables, &answer) {
            panic!("{why}: {query} {variables} {answer}");
        }
        answer
    }

    pub async fn sign_in(&self, login: &str) -> User<'_> {
        self.sign_in_at(self.base(), "H1", login).await
    }

    /// The admin of a hospital of its own beside H1, H2, which is made for it.
    pub async fn other_hospital(&self) -> User<'_> {
        self.rollcall(&[
            "hospital",
            "add",
            "--code",
            "H2",
            "--name",
            "Two",
            "--time-zone",
            "Asia/Seoul",
        ]);
        let staff = [
            "staff",
            "add",
            "--hospital",
            "H2",
            "--login",
            "admin",
            "--name",
            "Other",
            "--role",
            "ADMIN",
        ];
        self.rollcall_with(&staff, PASSWORD);
        self.sign_in_at(self.base(), "H2", "admin").await
    }

    /// Who has this access token.
    pub fn with_token(&self, token: &str) -> User<'_> {
        User {
            app: self,
            base: self.base().to_owned(),
            token: token.to_owned(),
        }
    }

    pub async fn sign_in_at(&self, base: &str, hospital: &str, login: &str) -> User<'_> {
        let query = "mutation ($input: SignInInput!) { signIn(input: $input) { session { accessToken } } }";
        let input = json!({"hospital": hospital, "login": login, "password": PASSWORD});
        let answer = self.post(base, None, query, json!({"input": input})).await;
        let token = answer["data"]["signIn"]["session"]["accessToken"]
            .as_str()
            .unwrap_or_else(|| panic!("{answer}"));
        User {
            app: self,
            base: base.to_owned(),
            token: token.to_owned(),
        }
    }
}

impl User<'_> {
    /// The data of a query that works.
    pub async fn ask(&self, query: &str) -> Value {
        self.ask_with(query, json!({})).await
    }

    pub async fn ask_with(&self, query: &str, variables: Value) -> Value {
        let mut answer = self.try_with(query, variables).await;
        assert!(answer.get("errors").is_none(), "{query}: {}", answer["errors"]);
        answer["data"].take()
    }

    /// The whole answer.
    pub async fn try_with(&self, query: &str, variables: Value) -> Value {
        self.app.post(&self.base, Some(&self.token), query, variables).await
    }

    /// The code and the argument of the one error of a query that does not work.
    pub async fn refused(&self, query: &str) -> (String, String) {
        refusal(&self.try_with(query, json!({})).await)
    }

    /// The whole answer to a change: the mutation of that name, with its one input.
    pub async fn try_change(&self, name: &str, input: Value, payload: &str) -> Value {
        let kind = format!("{}{}Input", name[..1].to_uppercase(), &name[1..]);
        let query = format!("mutation ($input: {kind}!) {{ {name}(input: $input) {{ {payload} }} }}");
        self.try_with(&query, json!({"input": input})).await
    }

    /// The payload of a change that works.
    pub async fn change(&self, name: &str, input: Value, payload: &str) -> Value {
        let mut answer = self.try_change(name, input, payload).await;
        assert!(answer.get("errors").is_none(), "{name}: {}", answer["errors"]);
        answer["data"][name].take()
    }

    /// The code and the argument of a change that does not work.
    pub async fn refused_change(&self, name: &str, input: Value) -> (String, String) {
        refusal(&self.try_change(name, input, "__typename").await)
    }
}

fn refusal(answer: &Value) -> (String, String) {
    let error = &answer["errors"][0];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (
        text(&error["extensions"]["code"]),
        text(&error["extensions"]["argument"]),
    )
}

/// Patients and visits of the worked example in the definitions: charts A to E.
pub const EXAMPLE_PATIENTS: &str = "chart_no,name,phone,birth_date,sex,registered_on
A,Ann Ash,010-1111-0001,1980-01-01,FEMALE,2025-05-01
B,김영수,010-1111-0002,1970-02-02,MALE,2025-04-20
C,Cem Cox,,,UNKNOWN,2025-03-01
D,Dag Day,,1990-04-04,OTHER,2025-05-05
E,,,,FEMALE,2025-06-01
";
pub const EXAMPLE_VISITS: &str = "visit_no,chart_no,date,scheduled_at,status,department,doctor,channel
1,A,2025-05-11,,COMPLETED,Eyes,Dr Ito,WALK_IN
2,A,2025-05-13,,COMPLETED,Eyes,Dr Ito,WALK_IN
3,B,2025-04-28,,COMPLETED,Skin,Dr Ure,PHONE
4,B,2025-05-02,,COMPLETED,Skin,Dr Ure,PHONE
5,B,2025-06-03,,COMPLETED,Eyes,Dr Ito,APP
6,C,2025-05-20,,COMPLETED,Eyes,,WEB
7,C,2025-06-02,,COMPLETED,Skin,Dr Ure,WEB
8,C,2025-08-20,,COMPLETED,,,WEB
9,D,2025-05-09,,NO_SHOW,Eyes,Dr Ito,QR
10,D,2025-06-10,,ENDED,Eyes,Dr Ito,QR
11,E,2025-06-15,,CANCELED,Skin,,TABLET
";

impl App {
    pub fn example(&self) {
        self.import("patients", "H1", EXAMPLE_PATIENTS);
        self.import("visits", "H1", EXAMPLE_VISITS);
    }
}

/// The worked example's question.
pub const EXAMPLE: &str =
    "statistics(period: MONTH, range: {from: \"2025-05-01\", to: \"2025-06-30\"}, asOf: \"2025-08-31\")";

pub const KINDS: [&str; 8] = [
    "VISITORS",
    "NEW",
    "RETURNING",
    "CHURN_SUSPECTED",
    "RETAINED",
    "PENDING",
    "NO_SHOW",
    "CANCELED",
];
