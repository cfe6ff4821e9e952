//! What is done once all tests of a run are over: libtest has no hook for that, so a process of its own waits for the end of this
//! one. It drops what the run made for all tests, and says how many were left out and why.

use std::collections::BTreeMap;
use std::io::{BufRead as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::{LazyLock, Mutex};

use sea_orm::{ConnectionTrait as _, DbErr};

use super::connect;

/// Set for the process that waits.
const WAITS: &str = "ROLLCALL_TEST_WAITS_FOR_THE_END";

/// Lines on it are read when the tests are over.
static END: LazyLock<Mutex<ChildStdin>> = LazyLock::new(|| {
    let test = concat!(module_path!(), "::the_end");
    let (_, test) = test.split_once("::").unwrap();
    let waiting = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(WAITS, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        // Whoever interrupts the tests does not interrupt it.
        .process_group(0)
        .spawn();
    Mutex::new(waiting.unwrap().stdin.take().unwrap())
});

fn at_the_end(line: &[&str]) {
    let line = line.join("\t").replace('\n', " ");
    let mut end = END.lock().unwrap();
    writeln!(end, "{line}").unwrap();
}

/// A test was left out. Said once for each reason at once, and counted in the end.
pub fn left_out(why: &str) {
    static SAID: Mutex<Vec<String>> = Mutex::new(Vec::new());
    at_the_end(&["left out", why]);
    let mut said = SAID.lock().unwrap();
    if !said.iter().any(|said| said == why) {
        said.push(why.to_owned());
        let _ = writeln!(std::io::stderr(), "LEFT OUT: {why}");
    }
}

pub fn remove_folder_at_the_end(folder: &Path) {
    at_the_end(&["folder", folder.to_str().unwrap()]);
}

pub fn drop_database_at_the_end(server: &str, name: &str) {
    at_the_end(&["database", server, name]);
}

/// Drops a database that this run has made.
pub fn drop_database(server: &str, name: &str) -> Result<(), DbErr> {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let force = if server.starts_with("postgres") {
            " WITH (FORCE)"
        } else {
            ""
        };
        let server = connect(server).await?;
        let drop = format!("DROP DATABASE {name}{force}");
        server.execute_unprepared(&drop).await?;
        server.close().await
    })
}

/// Among the tests it does nothing.
#[test]
fn the_end() {
    if std::env::var_os(WAITS).is_none() {
        return;
    }
    // Read to the end: that is when the other process is over, however it ended.
    let lines: Vec<String> = std::io::stdin().lock().lines().map_while(Result::ok).collect();
    let mut left_out: BTreeMap<&str, usize> = BTreeMap::new();
    for line in &lines {
        match *line.split('\t').collect::<Vec<_>>() {
            ["left out", why] => *left_out.entry(why).or_default() += 1,
            ["folder", folder] => std::fs::remove_dir_all(folder).unwrap(),
            ["database", server, name] => drop_database(server, name).unwrap(),
            _ => panic!("{line}"),
        }
    }
    for (why, count) in left_out {
        let tests = if count == 1 { "test" } else { "tests" };
        eprintln!("LEFT OUT: {count} {tests}: {why}");
    }
}
