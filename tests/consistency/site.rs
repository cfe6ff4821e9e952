//! What all clients of a run share.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rand::RngExt as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rollcall::statistics::{Day, DayRange};
use sea_orm::{ConnectOptions, Database, DatabaseConnection, DbErr};

use crate::asking::HandedOut;
use crate::figures::Figures;
use crate::harness::App;
use crate::servers::Servers;
use crate::world::{self, World, Worlds, rows};
use crate::{Finding, Held};

pub struct Site<'a> {
    pub app: &'a App,
    /// The database as a person with an SQL client has it.
    pub sql: DatabaseConnection,
    pub servers: Servers<'a>,
    pub worlds: Worlds,
    pub figures: Figures,
    /// The days that visits lie on.
    pub days: DayRange,
    pub departments: Vec<i64>,
    pub doctors: Vec<i64>,
    /// Who asks and who writes reads it; who puts the past back holds it alone.
    pub past: tokio::sync::RwLock<()>,
    handed_out: Mutex<Remembered>,
    findings: Mutex<Vec<Finding>>,
    stopped: AtomicBool,
    until: Instant,
}

/// Snapshots that clients were given: some of all ages, and the newest.
#[derive(Default)]
struct Remembered {
    some: Vec<Arc<HandedOut>>,
    newest: Option<Arc<HandedOut>>,
    count: usize,
}

/// How many, of all ages.
const REMEMBERED: usize = 100;

impl<'a> Site<'a> {
    pub async fn new(app: &'a App, days: DayRange, lasts: Duration) -> Self {
        let mut options = ConnectOptions::new(&app.url);
        options
            .max_connections(12)
            .idle_timeout(None)
            .max_lifetime(None)
            .sqlx_logging(false)
            .map_sqlx_sqlite_opts(|sqlite| {
                // As the README tells who changes something in SQLite's shell.
                sqlite
                    .pragma("recursive_triggers", "ON")
                    .busy_timeout(Duration::from_secs(10))
            });
        let sql = Database::connect(options).await.unwrap();
        let ids = async |table| {
            let found = rows(&sql, &format!("SELECT id FROM {table} ORDER BY id"))
                .await
                .unwrap();
            found.iter().map(|row| row.try_get_by_index(0).unwrap()).collect()
        };
        Self {
            app,
            servers: Servers::start(app).await,
            worlds: Worlds::default(),
            figures: Figures::default(),
            days,
            departments: ids("department").await,
            doctors: ids("doctor").await,
            sql,
            past: tokio::sync::RwLock::default(),
            handed_out: Mutex::default(),
            findings: Mutex::default(),
            stopped: AtomicBool::new(false),
            until: Instant::now() + lasts,
        }
    }

    pub fn goes_on(&self) -> bool {
        !self.stopped.load(Ordering::Relaxed) && Instant::now() < self.until
    }

    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// The first finding ends the run.
    pub fn found(&self, finding: Finding) {
        self.findings.lock().unwrap().push(finding);
        self.stop();
    }

    pub fn findings(&self) -> Vec<Finding> {
        std::mem::take(&mut self.findings.lock().unwrap())
    }

    /// The newest committed revision.
    pub async fn revision(&self) -> Held<String> {
        let newest = "SELECT r.number, c.tag FROM revision r
            JOIN change_feed c ON c.hospital_id = r.hospital_id AND c.number = r.number";
        let found = rows(&self.sql, newest).await.map_err(failed)?;
        let of = |place| found[0].try_get_by_index(place).map_err(failed);
        Ok(world::revision(of(0)?, of(1)?))
    }

    /// The data at a revision: as somebody read them, else as they are now, if that is the revision still.
    pub async fn world_at(&self, revision: &str) -> Held<Option<Arc<World>>> {
        if let Some(world) = self.worlds.at(revision) {
            return Ok(Some(world));
        }
        let now = self.worlds.keep(World::now(&self.sql).await.map_err(failed)?)?;
        Ok((now.revision == revision).then_some(now))
    }

    pub fn hand_out(&self, snapshot: HandedOut) {
        let snapshot = Arc::new(snapshot);
        let mut handed_out = self.handed_out.lock().unwrap();
        handed_out.newest = Some(Arc::clone(&snapshot));
        handed_out.count += 1;
        // Each of all that there were is as likely to be remembered as any other.
        let place = rand::random_range(0..handed_out.count);
        if handed_out.some.len() < REMEMBERED {
            handed_out.some.push(snapshot);
        } else if place < REMEMBERED {
            handed_out.some[place] = snapshot;
        }
    }

    pub fn any_handed_out(&self, random: &mut StdRng) -> Option<Arc<HandedOut>> {
        let handed_out = self.handed_out.lock().unwrap();
        // The newest, since a server may not have heard of it yet.
        let newest = handed_out.newest.as_ref().filter(|_| random.random_ratio(1, 3));
        newest.or_else(|| handed_out.some.choose(random)).map(Arc::clone)
    }

    /// Any of the days that visits lie on.
    pub fn any_day(&self, random: &mut StdRng) -> Day {
        Day(random.random_range(self.days.from.0..=self.days.to.0))
    }
}

/// The test's own way to the database fails: nothing can be held against it.
pub fn failed(error: DbErr) -> Finding {
    format!("the database fails: {error}")
}
