//! The data as it stood at a revision: what answers of that revision are held against.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use rollcall::statistics::{Definition, VisitChannel, VisitRow, VisitStatus, WeekStart};
use sea_orm::prelude::DateTimeUtc;
use sea_orm::{
    AccessMode, ConnectionTrait, DatabaseConnection, DbBackend, DbErr, IsolationLevel, QueryResult, Statement,
    TransactionTrait as _,
};

use crate::{Held, hold};

/// Everything that a count can depend on, at one revision.
#[derive(Debug, PartialEq)]
pub struct World {
    /// As the API shows it.
    pub revision: String,
    pub definition: Definition,
    pub time_zone: String,
    pub week_start: WeekStart,
    /// By id.
    pub visits: Vec<VisitRow>,
}

impl World {
    /// Reads it in a view of its own.
    pub async fn now(sql: &DatabaseConnection) -> Result<Self, DbErr> {
        let view = match sql.get_database_backend() {
            DbBackend::Sqlite => sql.begin().await?,
            _ => {
                let (isolation, access) = (IsolationLevel::RepeatableRead, AccessMode::ReadOnly);
                sql.begin_with_config(Some(isolation), Some(access)).await?
            }
        };
        if sql.get_database_backend() == DbBackend::Postgres {
            // TRUNCATE empties the table for views that began before it: none may come between the state and the visits.
            view.execute_unprepared("LOCK TABLE visit IN ACCESS SHARE MODE").await?;
        }
        let world = Self::read(&view).await?;
        view.commit().await?;
        Ok(world)
    }

    /// Reads it where nobody else can change it between two statements: in a view, or with the revision locked.
    pub async fn read(connection: &impl ConnectionTrait) -> Result<Self, DbErr> {
        let state =
            "SELECT r.number, c.tag, h.time_zone, h.week_start, d.version, d.churn_after_days, d.overdue_after_days
            FROM revision r
            JOIN change_feed c ON c.hospital_id = r.hospital_id AND c.number = r.number
            JOIN hospital h ON h.id = r.hospital_id
            JOIN definition d ON d.hospital_id = r.hospital_id
            ORDER BY d.version DESC LIMIT 1";
        let state = rows(connection, state).await?;
        let state = state.first().ok_or_else(|| DbErr::Custom("no revision".to_owned()))?;
        let (number, tag) = (state.try_get("", "number")?, state.try_get("", "tag")?);
        let week_start: String = state.try_get("", "week_start")?;
        let visits = "SELECT id, patient_id, date, scheduled_at, status, channel, department_id, doctor_id FROM visit ORDER BY id";
        let visits = rows(connection, visits).await?;
        Ok(Self {
            revision: revision(number, tag),
            definition: Definition {
                version: state.try_get("", "version")?,
                churn_after_days: state.try_get("", "churn_after_days")?,
                overdue_after_days: state.try_get("", "overdue_after_days")?,
            },
            time_zone: state.try_get("", "time_zone")?,
            week_start: match week_start.as_str() {
                "SUNDAY" => WeekStart::Sunday,
                _ => WeekStart::Monday,
            },
            visits: visits.iter().map(visit).collect::<Result<_, _>>()?,
        })
    }

    pub fn visit(&self, id: i64) -> Option<&VisitRow> {
        let place = self.visits.binary_search_by_key(&id, |visit| visit.id);
        place.ok().map(|place| &self.visits[place])
    }
}

fn visit(row: &QueryResult) -> Result<VisitRow, DbErr> {
    let unknown = || DbErr::Custom("an unknown word".to_owned());
    let (status, channel): (String, String) = (row.try_get("", "status")?, row.try_get("", "channel")?);
    let scheduled_at: Option<DateTimeUtc> = row.try_get("", "scheduled_at")?;
    Ok(VisitRow {
        id: row.try_get("", "id")?,
        patient: row.try_get("", "patient_id")?,
        date: row.try_get::<chrono::NaiveDate>("", "date")?.into(),
        scheduled_at: scheduled_at.map(|at| at.timestamp_micros()),
        status: VisitStatus::parse(&status).ok_or_else(unknown)?,
        channel: VisitChannel::parse(&channel).ok_or_else(unknown)?,
        department: row.try_get("", "department_id")?,
        doctor: row.try_get("", "doctor_id")?,
    })
}

pub async fn rows(connection: &impl ConnectionTrait, sql: &str) -> Result<Vec<QueryResult>, DbErr> {
    let statement = Statement::from_string(connection.get_database_backend(), sql);
    connection.query_all_raw(statement).await
}

/// A revision as the API shows it.
pub fn revision(number: i64, tag: i64) -> String {
    format!("{number:x}-{tag:016x}")
}

/// The number of a revision.
pub fn number(revision: &str) -> i64 {
    let (number, _) = revision.split_once('-').unwrap();
    i64::from_str_radix(number, 16).unwrap()
}

/// The latest worlds, the newest last.
#[derive(Default)]
pub struct Worlds(Mutex<VecDeque<Arc<World>>>);

/// Answers come at once: older worlds are asked about no more.
const REMEMBERED: usize = 200;

impl Worlds {
    /// Keeps a world. All who read one at the same revision must have read the same.
    pub fn keep(&self, world: World) -> Held<Arc<World>> {
        let mut worlds = self.0.lock().unwrap();
        if let Some(known) = worlds.iter().find(|known| known.revision == world.revision) {
            let mut pairs = known.visits.iter().zip(&world.visits);
            hold!(
                **known == world,
                "the data changed and the revision {} did not: {} visits then, {} now, and the first that differ are {:?}",
                world.revision,
                known.visits.len(),
                world.visits.len(),
                pairs.find(|(then, now)| then != now)
            );
            return Ok(Arc::clone(known));
        }
        let world = Arc::new(world);
        worlds.push_back(Arc::clone(&world));
        if worlds.len() > REMEMBERED {
            worlds.pop_front();
        }
        Ok(world)
    }

    pub fn at(&self, revision: &str) -> Option<Arc<World>> {
        let worlds = self.0.lock().unwrap();
        worlds.iter().find(|world| world.revision == revision).map(Arc::clone)
    }

    /// What was rolled back never was.
    pub fn forget(&self, revision: &str) {
        self.0.lock().unwrap().retain(|world| world.revision != revision);
    }
}
