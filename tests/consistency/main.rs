//! Statistics compared with a naive reference that is written from the definitions: the core on random data
//! ([`properties`]), and servers under concurrency. There, workers query, reopen snapshots and page through lists while
//! others write, with two servers, one of which is killed from time to time. Every new response is compared with the
//! reference at its revision, every page with its snapshot. `ROLLCALL_CONSISTENCY_SECONDS` sets the duration,
//! `ROLLCALL_CONSISTENCY_SEED` the random seed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod api_writes;
mod context;
mod counters;
mod dataset;
mod diffs;
mod faults;
mod properties;
mod queries;
mod reference;
mod response;
mod servers;
mod snapshots;
mod writes;

use std::time::Duration;

use chrono::Utc;
use context::RunContext;
use counters::Counters;
use queries::{CHECKED_QUERIES, QUERIES};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use rollcall::statistics::{Day, DayRange};
use sea_orm::DbBackend;
use test_support::{TestApp, Violation, env_number, on_each_database, print_uncaptured};

test_support::cleanup_after_tests!();

/// What a concurrent task does.
#[derive(Clone, Copy, Debug)]
enum Worker {
    Query,
    Reopen,
    Write,
    InjectFault,
}

const WORKERS: [Worker; 9] = [
    Worker::Query,
    Worker::Query,
    Worker::Query,
    Worker::Reopen,
    Worker::Reopen,
    Worker::Write,
    Worker::Write,
    Worker::Write,
    Worker::InjectFault,
];

impl Worker {
    async fn work(self, ctx: &RunContext<'_>, mut random: StdRng) {
        while ctx.is_running() {
            let done = match self {
                Self::Query => queries::check(ctx, &mut random).await,
                Self::Reopen if random.random_ratio(1, 4) => diffs::check(ctx, &mut random).await,
                Self::Reopen => snapshots::check(ctx, &mut random).await,
                Self::Write => {
                    writes::pause(&mut random, 60).await;
                    writes::write(ctx, &mut random).await
                }
                Self::InjectFault => faults::inject(ctx, &mut random).await,
            };
            if let Err(violation) = done {
                ctx.report(violation);
            }
        }
    }
}

/// Stops the other workers when one panics.
struct StopOnPanic<'a>(&'a RunContext<'a>);

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.stop();
        }
    }
}

/// What a run did, and what was wrong.
struct Outcome {
    counters: Counters,
    violations: Vec<Violation>,
}

/// Runs the workers for a while. They are threads, so that a computation in one does not delay the others.
async fn run_workers(
    app: &TestApp,
    seed: u64,
    duration: Duration,
    first: impl AsyncFnOnce(&RunContext<'_>),
) -> Outcome {
    let mut random = StdRng::seed_from_u64(seed);
    let days = fill(app, &mut random);
    let ctx = RunContext::new(app, days, duration).await;
    first(&ctx).await;
    let runtime = tokio::runtime::Handle::current();
    tokio::task::block_in_place(|| {
        std::thread::scope(|scope| {
            for worker in WORKERS {
                let (ctx, runtime) = (&ctx, &runtime);
                let random = StdRng::seed_from_u64(random.random());
                scope.spawn(move || {
                    let _stop_on_panic = StopOnPanic(ctx);
                    runtime.block_on(worker.work(ctx, random));
                });
            }
        });
    });
    ctx.sql.close_by_ref().await.unwrap();
    Outcome {
        violations: ctx.violations(),
        counters: ctx.counters,
    }
}

/// A small hospital, so that concurrent changes affect the same rows; its dates are around today.
fn fill(app: &TestApp, random: &mut StdRng) -> DayRange {
    let today = Day::from(Utc::now().date_naive());
    let days = DayRange::new(Day(today.0 - 50), Day(today.0 + 20)).unwrap();
    let mut patients = "chart_no,name,registered_on\n".to_owned();
    let mut visits = "visit_no,chart_no,date,status,department,doctor,channel\n".to_owned();
    let a_day = |random: &mut StdRng| Day(random.random_range(days.from.0..=days.to.0));
    for chart in 0..120 {
        patients += &format!("P{chart},{},{}\n", writes::a_name(random), a_day(random));
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
            writes::a_status(random),
            writes::a_channel(random)
        );
    }
    app.import("patients", "H1", &patients);
    app.import("visits", "H1", &visits);
    days
}

on_each_database! {
    async fn counts_and_lists_agree_under_concurrent_changes(app: TestApp) {
        let seed = env_number("ROLLCALL_CONSISTENCY_SEED").unwrap_or_else(rand::random);
        let seconds = env_number("ROLLCALL_CONSISTENCY_SECONDS").unwrap_or(10);
        let Outcome { counters, violations } = run_workers(app, seed, Duration::from_secs(seconds), async |_| ()).await;
        let (database, found) = (app.sql.get_database_backend(), violations.len());
        print_uncaptured(&format!("Consistency on {database:?}, {seconds} s, seed {seed}:\n{counters}{found:>9} findings\n"));
        assert!(violations.is_empty(), "with the seed {seed}: {violations:#?}");
        assert!(
            counters.of(CHECKED_QUERIES) * 2 > counters.of(QUERIES),
            "most queries could not be compared with the reference"
        );
    }

    async fn a_missing_change_record_is_detected(app: TestApp) {
        // A missing trigger would be detected by the server itself.
        let empty_trigger = async |ctx: &RunContext<'_>| {
            let nothing = match ctx.sql.get_database_backend() {
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
        let outcome = run_workers(app, 1, Duration::from_secs(60), empty_trigger).await;
        assert!(!outcome.violations.is_empty(), "nothing was detected:\n{}", outcome.counters);
    }
}
