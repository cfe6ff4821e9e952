//! Servers with databases of their own, and clients of them.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use sea_orm::{ConnectOptions, ConnectionTrait, Database, DatabaseConnection, Statement, TryGetable};
use serde_json::{Value, json};

use crate::template::Template;
use crate::{cleanup, conformance};

/// The password of all members of staff.
pub const PASSWORD: &str = "correct horse";

/// Longer than anything may take.
pub const TIMEOUT: Duration = Duration::from_secs(60);

/// The command that serves on a free port.
pub const SERVE: &[&str] = &["serve", "--listen", "127.0.0.1:0"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatabaseKind {
    Sqlite,
    Postgres,
    Mariadb,
}

/// A database with the hospital H1 and members of staff of every role, whose login is the role in lower case, and a
/// server. The database is dropped after the test.
pub struct TestApp {
    pub url: String,
    pub sql: DatabaseConnection,
    rollcall: &'static str,
    folder: tempfile::TempDir,
    server: TestServer,
    http: reqwest::Client,
}

/// A running server. It is killed when dropped.
pub struct TestServer {
    child: Child,
    pub base: String,
}

impl Drop for TestServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// See [`crate::with_app!`].
pub async fn with_app(rollcall: &'static str, kind: DatabaseKind, test: impl AsyncFnOnce(&TestApp)) {
    let template = match Template::get(rollcall, kind).await {
        Ok(template) => template,
        Err(reason) => {
            assert!(std::env::var_os("CI").is_none(), "CI must not skip tests: {reason}");
            cleanup::report_skipped(reason);
            return;
        }
    };
    let folder = tempfile::tempdir().unwrap();
    let (url, cleanup) = template.database(folder.path()).await;
    let cli = CommandLine {
        rollcall,
        url: &url,
        folder: folder.path(),
    };
    let app = TestApp {
        server: TestServer::spawn(cli.command(SERVE).stderr(Stdio::inherit())),
        sql: connect(&url).await.unwrap(),
        url,
        rollcall,
        folder,
        http: reqwest::Client::builder().timeout(2 * TIMEOUT).build().unwrap(),
    };
    test(&app).await;
    app.sql.close_by_ref().await.unwrap();
    drop(app);
    drop(cleanup);
}

/// Waits until the condition holds, at most [`TIMEOUT`].
pub async fn wait_until(what: &str, condition: impl AsyncFn() -> bool) {
    let started = Instant::now();
    while !condition().await {
        assert!(started.elapsed() < TIMEOUT, "timed out: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Prints past libtest's capture, which hides the output of passing tests.
pub fn print_uncaptured(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// A number from an environment variable.
pub fn env_number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    let number = text.parse();
    Some(number.unwrap_or_else(|_| panic!("{name} must be a number, not {text:?}")))
}

/// Connects without sqlx's background task that closes idle connections.
pub(crate) async fn connect(url: &str) -> Result<DatabaseConnection, sea_orm::DbErr> {
    let mut options = ConnectOptions::new(url.to_owned());
    options.idle_timeout(None).max_lifetime(None);
    Database::connect(options).await
}

/// What every command of one database has in common.
#[derive(Clone, Copy)]
pub(crate) struct CommandLine<'a> {
    pub rollcall: &'static str,
    pub url: &'a str,
    pub folder: &'a Path,
}

impl CommandLine<'_> {
    pub fn command(self, args: &[&str]) -> Command {
        let mut command = Command::new(self.rollcall);
        command
            .args(args)
            .current_dir(self.folder)
            .env("ROLLCALL_DATABASE_URL", self.url)
            .env("ROLLCALL_KEY_FILE", self.folder.join("key"))
            .env("ROLLCALL_TEST_CLOCK", self.folder.join("clock"))
            .env("ROLLCALL_LOG", "warn")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub fn try_run(self, args: &[&str], input: &str) -> Output {
        let mut child = self.command(args).spawn().unwrap();
        // A command that fails early does not read its input.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        child.wait_with_output().unwrap()
    }

    pub fn run(self, args: &[&str], input: &str) -> String {
        let output = self.try_run(args, input);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "rollcall {args:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }
}

impl TestServer {
    /// Spawns a command that serves, and waits until it listens.
    pub fn spawn(command: &mut Command) -> Self {
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let base = line
            .split_whitespace()
            .find(|word| word.starts_with("http://") || word.starts_with("https://"))
            .unwrap_or_else(|| panic!("no URL in {line:?}"));
        let base = base.trim_end_matches("/graphql").to_owned();
        Self { child, base }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends SIGTERM, as a service manager does.
    pub fn terminate(&self) {
        let id = self.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    }

    /// Waits until it has exited.
    pub async fn wait(mut self) -> ExitStatus {
        tokio::task::spawn_blocking(move || self.child.wait())
            .await
            .unwrap()
            .unwrap()
    }
}

/// A member of staff who is signed in on a server.
pub struct Client<'a> {
    app: &'a TestApp,
    base: String,
    pub token: String,
}

impl TestApp {
    pub fn base(&self) -> &str {
        &self.server.base
    }

    pub fn http(&self) -> &reqwest::Client {
        &self.http
    }

    /// Starts another server on the same database.
    pub fn second_server(&self) -> TestServer {
        TestServer::spawn(self.command(SERVE).stderr(Stdio::inherit()))
    }

    fn cli(&self) -> CommandLine<'_> {
        CommandLine {
            rollcall: self.rollcall,
            url: &self.url,
            folder: self.folder.path(),
        }
    }

    /// A command on this database, not started yet.
    pub fn command(&self, args: &[&str]) -> Command {
        self.cli().command(args)
    }

    /// The same, with another URL of the database.
    pub fn command_at(&self, url: &str, args: &[&str]) -> Command {
        CommandLine { url, ..self.cli() }.command(args)
    }

    /// Runs a command that must succeed; its standard output.
    pub fn run_cli(&self, args: &[&str]) -> String {
        self.cli().run(args, "")
    }

    pub fn run_cli_with_input(&self, args: &[&str], input: &str) -> String {
        self.cli().run(args, input)
    }

    pub fn try_run_cli(&self, args: &[&str]) -> Output {
        self.cli().try_run(args, "")
    }

    pub fn kind(&self) -> DatabaseKind {
        match self.url.split(':').next() {
            Some("sqlite") => DatabaseKind::Sqlite,
            Some("postgres") => DatabaseKind::Postgres,
            _ => DatabaseKind::Mariadb,
        }
    }

    /// The first value of the first row.
    pub async fn query_value<T: TryGetable>(&self, sql: &str) -> T {
        let statement = Statement::from_string(self.sql.get_database_backend(), sql);
        let row = self.sql.query_one_raw(statement).await.unwrap().unwrap();
        row.try_get_by_index(0).unwrap()
    }

    pub async fn query_number(&self, sql: &str) -> i64 {
        self.query_value(sql).await
    }

    pub async fn execute(&self, sql: &str) {
        self.sql
            .execute_unprepared(sql)
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    /// The names of all tables.
    pub async fn tables(&self) -> Vec<String> {
        let sql = match self.kind() {
            DatabaseKind::Sqlite => {
                "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY 1"
            }
            DatabaseKind::Postgres => {
                "SELECT CAST(tablename AS TEXT) FROM pg_tables WHERE schemaname = 'public' ORDER BY 1"
            }
            DatabaseKind::Mariadb => {
                "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE() ORDER BY 1"
            }
        };
        let statement = Statement::from_string(self.sql.get_database_backend(), sql);
        let rows = self.sql.query_all_raw(statement).await.unwrap();
        rows.iter().map(|row| row.try_get_by_index(0).unwrap()).collect()
    }

    /// Sets the servers' clock to an instant in RFC 3339; see `rollcall::clock`.
    pub fn set_time(&self, at: &str) {
        // Renamed, so that no server reads half of it.
        let written = self.write_file("clock.new", at);
        std::fs::rename(written, self.folder.path().join("clock")).unwrap();
    }

    /// Writes a file that commands can read by its name.
    pub fn write_file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// Imports CSV; `kind` is the subcommand.
    pub fn import(&self, kind: &str, hospital: &str, csv: &str) -> String {
        let path = self.write_file(&format!("{kind}.csv"), csv);
        self.run_cli(&["import", kind, "--hospital", hospital, path.to_str().unwrap()])
    }

    /// Imports the worked example into H1.
    pub fn import_example(&self) {
        self.import("patients", "H1", EXAMPLE_PATIENTS);
        self.import("visits", "H1", EXAMPLE_VISITS);
    }

    /// The value of a metric.
    pub async fn metric(&self, name: &str) -> u64 {
        self.metric_at(self.base(), name).await
    }

    pub async fn metric_at(&self, base: &str, name: &str) -> u64 {
        let url = format!("{base}/metrics");
        let text = self.http.get(url).send().await.unwrap().text().await.unwrap();
        let line = text.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }

    /// The response to a GraphQL request, checked against the specification.
    pub async fn post(&self, base: &str, token: Option<&str>, query: &str, variables: Value) -> Value {
        let mut request = self
            .http
            .post(format!("{base}/graphql"))
            .json(&json!({"query": query, "variables": &variables}));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let response: Value = request.send().await.unwrap().json().await.unwrap();
        if let Err(violation) = conformance::check(query, None, &variables, &response) {
            panic!("{violation}: {query} {variables} {response}");
        }
        response
    }

    pub async fn sign_in(&self, login: &str) -> Client<'_> {
        self.sign_in_at(self.base(), "H1", login).await
    }

    pub async fn sign_in_at(&self, base: &str, hospital: &str, login: &str) -> Client<'_> {
        let query = "mutation ($input: SignInInput!) { signIn(input: $input) { session { accessToken } } }";
        let input = json!({"hospital": hospital, "login": login, "password": PASSWORD});
        let response = self.post(base, None, query, json!({"input": input})).await;
        let token = response["data"]["signIn"]["session"]["accessToken"]
            .as_str()
            .unwrap_or_else(|| panic!("{response}"));
        Client {
            app: self,
            base: base.to_owned(),
            token: token.to_owned(),
        }
    }

    /// A client that has this access token.
    pub fn client_with_token(&self, token: &str) -> Client<'_> {
        Client {
            app: self,
            base: self.base().to_owned(),
            token: token.to_owned(),
        }
    }

    /// Adds the hospital H2, and signs in as its admin.
    pub async fn other_hospital(&self) -> Client<'_> {
        let zone = "Asia/Seoul";
        self.run_cli(&["hospital", "add", "--code", "H2", "--name", "Two", "--time-zone", zone]);
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
        self.run_cli_with_input(&staff, PASSWORD);
        self.sign_in_at(self.base(), "H2", "admin").await
    }
}

impl Client<'_> {
    /// The data of a query that must succeed.
    pub async fn graphql(&self, query: &str) -> Value {
        self.graphql_with(query, json!({})).await
    }

    pub async fn graphql_with(&self, query: &str, variables: Value) -> Value {
        let mut response = self.graphql_response(query, variables).await;
        assert!(response.get("errors").is_none(), "{query}: {}", response["errors"]);
        response["data"].take()
    }

    /// The whole response.
    pub async fn graphql_response(&self, query: &str, variables: Value) -> Value {
        self.app.post(&self.base, Some(&self.token), query, variables).await
    }

    /// The code and the argument of the first error of a query that must fail.
    pub async fn graphql_error(&self, query: &str) -> (String, String) {
        first_error(&self.graphql_response(query, json!({})).await)
    }

    /// Checks that a query fails with this code.
    /// Uploads a file. Returns its id.
    pub async fn upload(&self, content: impl Into<Vec<u8>>) -> Value {
        let request = self
            .app
            .http
            .post(format!("{}/files", self.base))
            .bearer_auth(&self.token);
        let request = request.header("content-type", "text/csv").body(content.into());
        let mut answer: Value = request.send().await.unwrap().json().await.unwrap();
        assert_ne!(answer["fileId"], Value::Null, "{answer}");
        answer["fileId"].take()
    }

    pub async fn expect_error(&self, query: &str, code: &str) {
        assert_eq!(self.graphql_error(query).await.0, code, "{query}");
    }

    /// The payload of a mutation that must succeed, given its input and a selection.
    pub async fn mutate(&self, name: &str, input: Value, selection: &str) -> Value {
        let mut response = self.mutation_response(name, input, selection).await;
        assert!(response.get("errors").is_none(), "{name}: {}", response["errors"]);
        response["data"][name].take()
    }

    /// The whole response to a mutation.
    pub async fn mutation_response(&self, name: &str, input: Value, selection: &str) -> Value {
        let kind = input_of(name);
        let query = format!("mutation ($input: {kind}!) {{ {name}(input: $input) {{ {selection} }} }}");
        self.graphql_response(&query, json!({"input": input})).await
    }

    /// The code and the argument of the first error of a mutation that must fail.
    pub async fn mutation_error(&self, name: &str, input: Value) -> (String, String) {
        first_error(&self.mutation_response(name, input, "__typename").await)
    }

    /// Checks that a mutation fails with this code.
    pub async fn expect_mutation_error(&self, name: &str, input: Value, code: &str) {
        let message = format!("{name} {input}");
        assert_eq!(self.mutation_error(name, input).await.0, code, "{message}");
    }
}

/// The type of a mutation's input.
pub fn input_of(mutation: &str) -> String {
    match mutation {
        "confirmVisit" | "checkInVisit" => "VisitCodeInput".to_owned(),
        _ => format!("{}{}Input", mutation[..1].to_uppercase(), &mutation[1..]),
    }
}

fn first_error(response: &Value) -> (String, String) {
    let error = &response["errors"][0]["extensions"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (text(&error["code"]), text(&error["argument"]))
}

/// A code and an argument, to compare an error with.
pub fn error(code: &str, argument: &str) -> (String, String) {
    (code.to_owned(), argument.to_owned())
}

/// The patients of the worked example in the definitions, with chart numbers A to E.
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

/// The `statistics` field of the worked example.
pub const EXAMPLE: &str =
    "statistics(period: MONTH, range: {from: \"2025-05-01\", to: \"2025-06-30\"}, asOf: \"2025-08-31\")";

/// All kinds of cohorts.
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
