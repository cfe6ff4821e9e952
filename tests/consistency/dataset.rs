//! The data at a revision, which responses of that revision are compared with.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use rollcall::statistics::{Definition, VisitChannel, VisitRow, VisitStatus, WeekStart};
use sea_orm::prelude::DateTimeUtc;
use sea_orm::{
    AccessMode, ConnectionTrait, DatabaseConnection, DbBackend, DbErr, IsolationLevel, QueryResult, Statement,
    TransactionTrait as _,
};
use test_support::{Checked, ensure};

/// Everything that statistics depend on, at one revision.
#[derive(Debug, PartialEq)]
pub struct Dataset {
    /// As the API formats it.
    pub revision: String,
    pub definition: Definition,
    pub time_zone: String,
    pub week_start: WeekStart,
    /// Sorted by ID.
    pub visits: Vec<VisitRow>,
}

impl Dataset {
    /// Reads it in a transaction of its own.
    pub async fn now(sql: &DatabaseConnection) -> Result<Self, DbErr> {
        let view = match sql.get_database_backend() {
            DbBackend::Sqlite => sql.begin().await?,
            _ => {
                let (isolation, access) = (IsolationLevel::RepeatableRead, AccessMode::ReadOnly);
                sql.begin_with_config(Some(isolation), Some(access)).await?
            }
        };
        if sql.get_database_backend() == DbBackend::Postgres {
            // TRUNCATE also empties the table for older transactions, so it must not run between the reads of state and
            // visits.
            view.execute_unprepared("LOCK TABLE visit IN ACCESS SHARE MODE").await?;
        }
        let dataset = Self::read(&view).await?;
        view.commit().await?;
        Ok(dataset)
    }

    /// Reads it; the caller prevents changes between the statements, by isolation or by locking the revision.
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
    let unknown = || DbErr::Custom("an unknown value".to_owned());
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

/// A revision as the API formats it.
pub fn revision(number: i64, tag: i64) -> String {
    format!("{number:x}-{tag:016x}")
}

/// The number of a revision.
pub fn number(revision: &str) -> i64 {
    let (number, _) = revision.split_once('-').unwrap();
    i64::from_str_radix(number, 16).unwrap()
}

/// The latest datasets, the newest last.
#[derive(Default)]
pub struct DatasetHistory(Mutex<VecDeque<Arc<Dataset>>>);

/// Responses arrive soon, so older datasets are not needed.
const CAPACITY: usize = 200;

impl DatasetHistory {
    /// Records a dataset. Everyone who reads one revision must have read the same.
    pub fn record(&self, dataset: Dataset) -> Checked<Arc<Dataset>> {
        let mut datasets = self.0.lock().unwrap();
        if let Some(known) = datasets.iter().find(|known| known.revision == dataset.revision) {
            let mut pairs = known.visits.iter().zip(&dataset.visits);
            ensure!(
                **known == dataset,
                "the data changed without a new revision {}: {} visits before, {} now, the first difference: {:?}",
                dataset.revision,
                known.visits.len(),
                dataset.visits.len(),
                pairs.find(|(then, now)| then != now)
            );
            return Ok(Arc::clone(known));
        }
        let dataset = Arc::new(dataset);
        datasets.push_back(Arc::clone(&dataset));
        if datasets.len() > CAPACITY {
            datasets.pop_front();
        }
        Ok(dataset)
    }

    pub fn at(&self, revision: &str) -> Option<Arc<Dataset>> {
        let datasets = self.0.lock().unwrap();
        datasets
            .iter()
            .find(|dataset| dataset.revision == revision)
            .map(Arc::clone)
    }

    /// Removes the dataset of a transaction that was rolled back.
    pub fn remove(&self, revision: &str) {
        self.0.lock().unwrap().retain(|dataset| dataset.revision != revision);
    }
}
