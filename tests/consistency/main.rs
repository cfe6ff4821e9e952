//! The proof: several clients ask, open and page while others write, correct, delete and merge, with two servers, one of
//! which is killed now and then. Every fresh answer is held against the naive reference at its revision, every page against
//! its snapshot. `ROLLCALL_CONSISTENCY_SECONDS` says how long it goes on, `ROLLCALL_CONSISTENCY_SEED` with which seed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod answer;
mod asking;
mod calling;
mod faults;
mod figures;
// The suite over HTTP uses the rest of it.
#[allow(dead_code)]
#[path = "../http/harness.rs"]
mod harness;
mod opening;
#[path = "../reference/mod.rs"]
mod reference;
mod servers;
mod site;
mod telling;
mod world;
mod writing;

use std::time::Duration;

use asking::{HELD, QUESTIONS};
use chrono::Utc;
use figures::Figures;
use harness::{App, on_each_database, say, setting};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use rollcall::statistics::{Day, DayRange};
use sea_orm::DbBackend;
use site::Site;

/// What is wrong, in words.
type Finding = String;
/// What a check found, if anything.
type Held<T = ()> = Result<T, Finding>;

/// A finding, unless the condition holds.
macro_rules! hold {
    ($condition:expr, $($words:tt)+) => {
        if !$condition {
            return Err(format!($($words)+));
        }
    };
}
use hold;

/// Who does what at the same time.
#[derive(Clone, Copy, Debug)]
enum Client {
    Asks,
    Opens,
    Writes,
    Strikes,
}

const CLIENTS: [Client; 9] = [
    Client::Asks,
    Client::Asks,
    Client::Asks,
    Client::Opens,
    Client::Opens,
    Client::Writes,
    Client::Writes,
    Client::Writes,
    Client::Strikes,
];

impl Client {
    async fn goes_on(self, site: &Site<'_>, mut random: StdRng) {
        while site.goes_on() {
            let done = match self {
                Self::Asks => asking::ask(site, &mut random).await,
                Self::Opens if random.random_ratio(1, 4) => telling::tell(site, &mut random).await,
                Self::Opens => opening::open(site, &mut random).await,
                Self::Writes => {
                    writing::pause(&mut random, 60).await;
                    writing::write(site, &mut random).await
                }
                Self::Strikes => faults::strike(site, &mut random).await,
            };
            if let Err(finding) = done {
                site.found(finding);
            }
        }
    }
}

/// Stops the others when a client breaks.
struct StopsWithMe<'a>(&'a Site<'a>);

impl Drop for StopsWithMe<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.stop();
        }
    }
}

/// What a run did, and found.
struct Outcome {
    figures: Figures,
    findings: Vec<Finding>,
}

/// Lets the clients loose for as long. They are threads, so that one that reckons keeps no other waiting.
async fn let_loose(app: &App, seed: u64, lasts: Duration, first: impl AsyncFnOnce(&Site<'_>)) -> Outcome {
    let mut random = StdRng::seed_from_u64(seed);
    let days = fill(app, &mut random);
    let site = Site::new(app, days, lasts).await;
    first(&site).await;
    let runtime = tokio::runtime::Handle::current();
    tokio::task::block_in_place(|| {
        std::thread::scope(|scope| {
            for client in CLIENTS {
                let (site, runtime) = (&site, &runtime);
                let random = StdRng::seed_from_u64(random.random());
                scope.spawn(move || {
                    let _stops = StopsWithMe(site);
                    runtime.block_on(client.goes_on(site, random));
                });
            }
        });
    });
    site.sql.close_by_ref().await.unwrap();
    Outcome {
        findings: site.findings(),
        figures: site.figures,
    }
}

/// A small hospital, so that everything meets everything; its days lie around today.
fn fill(app: &App, random: &mut StdRng) -> DayRange {
    let today = Day::from(Utc::now().date_naive());
    let days = DayRange::new(Day(today.0 - 50), Day(today.0 + 20)).unwrap();
    let mut patients = "chart_no,name,registered_on\n".to_owned();
    let mut visits = "visit_no,chart_no,date,status,department,doctor,channel\n".to_owned();
    let a_day = |random: &mut StdRng| Day(random.random_range(days.from.0..=days.to.0));
    for chart in 0..120 {
        patients += &format!("P{chart},{},{}\n", writing::a_name(random), a_day(random));
    }
    for visit_no in 0..700 {
        let (chart, department, doctor) = (
            random.random_range(0..120),
            random.random_range(0..3),
            random.random_range(0..4),
        );
        visits += &format!(
            "{visit_no},P{chart},{},{},Department {department},Doctor {doctor},{}\n",
            a_day(random),
            writing::a_status(random),
            writing::a_channel(random)
        );
    }
    app.import("patients", "H1", &patients);
    app.import("visits", "H1", &visits);
    days
}

on_each_database! {
    async fn number_and_list_never_part(app: App) {
        let seed = setting("ROLLCALL_CONSISTENCY_SEED").unwrap_or_else(rand::random);
        let seconds = setting("ROLLCALL_CONSISTENCY_SECONDS").unwrap_or(10);
        let Outcome { figures, findings } = let_loose(app, seed, Duration::from_secs(seconds), async |_| ()).await;
        let (database, found) = (app.sql.get_database_backend(), findings.len());
        say(&format!("Consistency on {database:?}, {seconds} s, seed {seed}:\n{figures}{found:>9} findings\n"));
        assert!(findings.is_empty(), "with the seed {seed}: {findings:#?}");
        assert!(
            figures.of(HELD) * 2 > figures.of(QUESTIONS),
            "most questions could not be held against anything"
        );
    }

    async fn a_change_that_leaves_no_trace_is_noticed(app: App) {
        // A trigger that is missing the server notices by itself.
        let empty_trigger = async |site: &Site<'_>| {
            let nothing = match site.sql.get_database_backend() {
                DbBackend::Postgres => {
                    "CREATE OR REPLACE FUNCTION visit_changes() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'"
                }
                DbBackend::MySql => {
                    "CREATE OR REPLACE TRIGGER visit_changes AFTER UPDATE ON visit FOR EACH ROW SET @changed = 1"
                }
                _ => {
                    "DROP TRIGGER visit_changes;
                    CREATE TRIGGER visit_changes AFTER UPDATE ON visit BEGIN SELECT 1; END"
                }
            };
            app.execute(nothing).await;
        };
        let outcome = let_loose(app, 1, Duration::from_secs(60), empty_trigger).await;
        assert!(!outcome.findings.is_empty(), "nothing was noticed:\n{}", outcome.figures);
    }
}
