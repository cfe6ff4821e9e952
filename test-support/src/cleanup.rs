//! Cleanup during and after a run, by a child process: the same test binary, filtered to one test. It drops the databases of
//! finished tests while others run, since that takes up to a second each. libtest has no hook for the end of a run, so the
//! child waits for the end of this process, drops what was made for the whole run, and reports how many tests were skipped.

use std::collections::BTreeMap;
use std::io::{BufRead as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::{LazyLock, Mutex};

use sea_orm::{ConnectionTrait as _, DbErr};

use crate::app::connect;

/// Set for the child process.
const IS_CLEANUP_PROCESS: &str = "ROLLCALL_TEST_CLEANUP";

/// The child process runs this test; among the others it does nothing.
#[macro_export]
macro_rules! cleanup_after_tests {
    () => {
        #[test]
        fn cleanup_after_tests() {
            $crate::cleanup::run();
        }
    };
}

/// The input of the child process: one task a line.
static TASKS: LazyLock<Mutex<ChildStdin>> = LazyLock::new(|| {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "cleanup_after_tests", "--nocapture"])
        .env(IS_CLEANUP_PROCESS, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        // An interrupt of the tests must not reach it.
        .process_group(0)
        .spawn();
    Mutex::new(child.unwrap().stdin.take().unwrap())
});

fn add_task(line: &[&str]) {
    let line = line.join("\t").replace('\n', " ");
    writeln!(TASKS.lock().unwrap(), "{line}").unwrap();
}

/// Reports that a test was skipped: each reason once at once, and the number of tests at the end.
pub fn report_skipped(reason: &str) {
    static REPORTED: Mutex<Vec<String>> = Mutex::new(Vec::new());
    add_task(&["skipped", reason]);
    let mut reported = REPORTED.lock().unwrap();
    if !reported.iter().any(|reported| reported == reason) {
        reported.push(reason.to_owned());
        // Past the capture of a passing test's output.
        let _ = writeln!(std::io::stderr(), "SKIPPED: {reason}");
    }
}

pub(crate) fn remove_folder_after_tests(folder: &Path) {
    add_task(&["folder", folder.to_str().unwrap()]);
}

pub(crate) fn drop_database_after_tests(server: &str, name: &str) {
    add_task(&["database", server, name]);
}

pub(crate) fn drop_database_now(server: &str, name: &str) {
    add_task(&["finished database", server, name]);
}

/// Drops a database that this run has made.
fn drop_database(server: &str, name: &str) -> Result<(), DbErr> {
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

/// Does the tasks, if this is the child process.
pub fn run() {
    if std::env::var_os(IS_CLEANUP_PROCESS).is_none() {
        return;
    }
    let mut lines = Vec::new();
    // The input ends when the other process does, however that happens.
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        match *line.split('\t').collect::<Vec<_>>() {
            ["finished database", server, name] => drop_database(server, name).unwrap(),
            _ => lines.push(line),
        }
    }
    let mut skipped: BTreeMap<&str, usize> = BTreeMap::new();
    for line in &lines {
        match *line.split('\t').collect::<Vec<_>>() {
            ["skipped", reason] => *skipped.entry(reason).or_default() += 1,
            ["folder", folder] => std::fs::remove_dir_all(folder).unwrap(),
            ["database", server, name] => drop_database(server, name).unwrap(),
            _ => panic!("{line}"),
        }
    }
    for (reason, count) in skipped {
        let tests = if count == 1 { "test" } else { "tests" };
        eprintln!("SKIPPED: {count} {tests}: {reason}");
    }
}
