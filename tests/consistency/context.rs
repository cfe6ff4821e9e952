//! What all workers of a run share.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rand::RngExt as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rollcall::statistics::{Day, DayRange};
use sea_orm::{ConnectOptions, Database, DatabaseConnection, DbErr};
use test_support::{Checked, TestApp, Violation};

use crate::counters::Counters;
use crate::dataset::{self, Dataset, DatasetHistory, rows};
use crate::queries::IssuedSnapshot;
use crate::servers::Servers;

pub struct RunContext<'a> {
    pub app: &'a TestApp,
    /// A connection of an SQL client, independent of the servers.
    pub sql: DatabaseConnection,
    pub servers: Servers<'a>,
    pub datasets: DatasetHistory,
    pub counters: Counters,
    /// The range of the visits' dates.
    pub days: DayRange,
    pub departments: Vec<i64>,
    pub doctors: Vec<i64>,
    /// Read by workers that query or write; held exclusively while a backup is restored.
    pub restore_lock: tokio::sync::RwLock<()>,
    issued: Mutex<IssuedSnapshots>,
    violations: Mutex<Vec<Violation>>,
    stopped: AtomicBool,
    deadline: Instant,
}

/// A sample of the snapshots that were issued, and the newest.
#[derive(Default)]
struct IssuedSnapshots {
    some: Vec<Arc<IssuedSnapshot>>,
    newest: Option<Arc<IssuedSnapshot>>,
    count: usize,
}

/// The size of the sample.
const CAPACITY: usize = 100;

impl<'a> RunContext<'a> {
    pub async fn new(app: &'a TestApp, days: DayRange, duration: Duration) -> Self {
        let mut options = ConnectOptions::new(&app.url);
        options
            .max_connections(12)
            .idle_timeout(None)
            .max_lifetime(None)
            .sqlx_logging(false)
            .map_sqlx_sqlite_opts(|sqlite| {
                // As the documentation tells people who change data in SQLite's shell.
                sqlite
                    .pragma("recursive_triggers", "ON")
                    .busy_timeout(Duration::from_secs(10))
            });
        let sql = Database::connect(options).await.unwrap();
        let ids = async |table| {
            let report = rows(&sql, &format!("SELECT id FROM {table} ORDER BY id"))
                .await
                .unwrap();
            report.iter().map(|row| row.try_get_by_index(0).unwrap()).collect()
        };
        Self {
            app,
            servers: Servers::start(app).await,
            datasets: DatasetHistory::default(),
            counters: Counters::default(),
            days,
            departments: ids("department").await,
            doctors: ids("doctor").await,
            sql,
            restore_lock: tokio::sync::RwLock::default(),
            issued: Mutex::default(),
            violations: Mutex::default(),
            stopped: AtomicBool::new(false),
            deadline: Instant::now() + duration,
        }
    }

    pub fn is_running(&self) -> bool {
        !self.stopped.load(Ordering::Relaxed) && Instant::now() < self.deadline
    }

    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// The first violation ends the run.
    pub fn report(&self, violation: Violation) {
        self.violations.lock().unwrap().push(violation);
        self.stop();
    }

    pub fn violations(&self) -> Vec<Violation> {
        std::mem::take(&mut self.violations.lock().unwrap())
    }

    /// The newest committed revision.
    pub async fn revision(&self) -> Checked<String> {
        let newest = "SELECT r.number, c.tag FROM revision r
            JOIN change_feed c ON c.hospital_id = r.hospital_id AND c.number = r.number";
        let report = rows(&self.sql, newest).await.map_err(failed)?;
        let of = |place| report[0].try_get_by_index(place).map_err(failed);
        Ok(dataset::revision(of(0)?, of(1)?))
    }

    /// The data at a revision: as recorded, or as it is now if that is still the revision.
    pub async fn dataset_at(&self, revision: &str) -> Checked<Option<Arc<Dataset>>> {
        if let Some(dataset) = self.datasets.at(revision) {
            return Ok(Some(dataset));
        }
        let now = self.datasets.record(Dataset::now(&self.sql).await.map_err(failed)?)?;
        Ok((now.revision == revision).then_some(now))
    }

    pub fn record_issued(&self, snapshot: IssuedSnapshot) {
        let snapshot = Arc::new(snapshot);
        let mut issued = self.issued.lock().unwrap();
        issued.newest = Some(Arc::clone(&snapshot));
        issued.count += 1;
        // Reservoir sampling.
        let place = rand::random_range(0..issued.count);
        if issued.some.len() < CAPACITY {
            issued.some.push(snapshot);
        } else if place < CAPACITY {
            issued.some[place] = snapshot;
        }
    }

    pub fn any_issued(&self, random: &mut StdRng) -> Option<Arc<IssuedSnapshot>> {
        let issued = self.issued.lock().unwrap();
        // Often the newest, which the other server may not know yet.
        let newest = issued.newest.as_ref().filter(|_| random.random_ratio(1, 3));
        newest.or_else(|| issued.some.choose(random)).map(Arc::clone)
    }

    /// A random day in the range of the visits' dates.
    pub fn any_day(&self, random: &mut StdRng) -> Day {
        Day(random.random_range(self.days.from.0..=self.days.to.0))
    }
}

/// The test's own connection failed, so nothing can be compared.
pub fn failed(error: DbErr) -> Violation {
    format!("database error: {error}")
}
