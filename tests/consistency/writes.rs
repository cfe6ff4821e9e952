//! Concurrent writes: in SQL, by import, and through the API.

use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rollcall::statistics::{VisitChannel, VisitStatus};
use sea_orm::{
    ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, IsolationLevel, SqliteTransactionMode, TransactionOptions,
    TransactionTrait as _,
};
use test_support::{Checked, Violation};

use crate::api_writes::{self, Mutation};
use crate::context::{RunContext, failed};
use crate::dataset::{Dataset, rows};

/// A write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Write {
    Record,
    Correct,
    Move,
    Delete,
    /// Many rows in one statement.
    Bulk,
    /// Replaces a row by itself.
    Replace,
    /// Names, chart numbers and registration dates, by which lists are sorted.
    Rename,
    Register,
    /// A patient and all visits of the patient.
    Remove,
    /// Merges a patient into another.
    Merge,
    /// The definition, the week start, the time zone.
    Rules,
    /// Columns that statistics do not depend on.
    Irrelevant,
    /// All visits, by PostgreSQL's TRUNCATE; most of them are inserted again.
    Empty,
    /// Deletes the oldest part of the feed, so that servers have to reload.
    Prune,
    Import,
    /// Through the API.
    Mutation(Mutation),
}

impl Write {
    /// With relative frequencies.
    const ALL: [(Self, u32); 25] = [
        (Self::Record, 24),
        (Self::Correct, 24),
        (Self::Move, 8),
        (Self::Delete, 12),
        (Self::Bulk, 8),
        (Self::Replace, 6),
        (Self::Rename, 10),
        (Self::Register, 4),
        (Self::Remove, 3),
        (Self::Merge, 3),
        (Self::Rules, 4),
        (Self::Irrelevant, 6),
        (Self::Empty, 1),
        (Self::Prune, 2),
        (Self::Import, 1),
        (Self::Mutation(Mutation::RegisterPatient), 5),
        (Self::Mutation(Mutation::ChangePatient), 12),
        (Self::Mutation(Mutation::ErasePatient), 2),
        (Self::Mutation(Mutation::MergePatients), 8),
        (Self::Mutation(Mutation::UndoMerge), 6),
        (Self::Mutation(Mutation::RecordVisit), 24),
        (Self::Mutation(Mutation::ChangeVisit), 36),
        (Self::Mutation(Mutation::DeleteVisit), 8),
        (Self::Mutation(Mutation::UpdateDefinition), 3),
        (Self::Mutation(Mutation::PinSnapshot), 3),
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Record => "writes in SQL: visits recorded",
            Self::Correct => "writes in SQL: visits corrected",
            Self::Move => "writes in SQL: visits moved to another patient",
            Self::Delete => "writes in SQL: visits deleted",
            Self::Bulk => "writes in SQL: many visits in one statement",
            Self::Replace => "writes in SQL: visits replaced by themselves",
            Self::Rename => "writes in SQL: patients renamed",
            Self::Register => "writes in SQL: patients registered",
            Self::Remove => "writes in SQL: patients deleted",
            Self::Merge => "writes in SQL: patients merged",
            Self::Rules => "writes in SQL: definitions and settings changed",
            Self::Irrelevant => "writes in SQL: irrelevant columns",
            Self::Empty => "writes in SQL: visits truncated",
            Self::Prune => "writes in SQL: the feed pruned",
            Self::Import => "imports",
            Self::Mutation(mutation) => mutation.name(),
        }
    }
}

/// How statements are grouped into transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TransactionMode {
    /// Each in a transaction of its own.
    Autocommit,
    /// In one transaction. Before the commit, the data is recorded as the dataset of the new revision.
    Recorded,
    /// In one slow transaction that sees the data as it was at the start.
    Long,
    RolledBack,
}

impl TransactionMode {
    const ALL: [(Self, u32); 4] = [
        (Self::Autocommit, 12),
        (Self::Recorded, 12),
        (Self::Long, 1),
        (Self::RolledBack, 3),
    ];
}

pub fn weighted<T: Copy>(random: &mut StdRng, all: &[(T, u32)]) -> T {
    all.choose_weighted(random, |&(_, weight)| weight).unwrap().0
}

/// The target range for the number of visits.
const VISITS: std::ops::Range<usize> = 500..1_000;

/// The minimum number of ACTIVE patients.
const PATIENTS: usize = 80;

/// Executes a random write.
pub async fn write(ctx: &RunContext<'_>, random: &mut StdRng) -> Checked {
    let _guard = ctx.restore_lock.read().await;
    let targets = Targets::now(ctx).await?;
    let write = match targets.visits.len() {
        few if few < VISITS.start && random.random() => Write::Record,
        many if many > VISITS.end && random.random() => Write::Delete,
        _ if targets.patients.len() < PATIENTS && random.random() => Write::Mutation(Mutation::RegisterPatient),
        _ => weighted(random, &Write::ALL),
    };
    if let Write::Mutation(mutation) = write {
        return api_writes::send(&targets, mutation, random).await;
    }
    if write == Write::Import {
        return import(ctx, &targets, random);
    }
    let Some(statements) = targets.statements(write, random) else {
        return Ok(());
    };
    let mode = match write {
        // Its two statements must be atomic.
        Write::Empty => TransactionMode::Recorded,
        _ => weighted(random, &TransactionMode::ALL),
    };
    match run(ctx, &statements, mode, random).await {
        Ok(()) if mode == TransactionMode::RolledBack => ctx.counters.count("writes rolled back", 1),
        Ok(()) => ctx.counters.count(write.name(), 1),
        Err(WriteError::Expected) => ctx.counters.count("writes that failed because of a conflict", 1),
        Err(WriteError::Violation(violation)) => return Err(format!("{write:?} {mode:?} {statements:?}: {violation}")),
    }
    Ok(())
}

/// Why a write failed.
enum WriteError {
    /// An ordinary conflict: a deadlock, a lock timeout, or a violated constraint.
    Expected,
    Violation(Violation),
}

impl From<DbErr> for WriteError {
    fn from(error: DbErr) -> Self {
        let text = error.to_string().to_lowercase();
        let usual = [
            "deadlock",
            "could not serialize",
            "locked",
            "foreign key",
            "unique",
            "duplicate",
            "lock wait",
        ];
        if usual.iter().any(|sign| text.contains(sign)) {
            Self::Expected
        } else {
            Self::Violation(failed(error))
        }
    }
}

async fn run(
    ctx: &RunContext<'_>,
    statements: &[String],
    mode: TransactionMode,
    random: &mut StdRng,
) -> Result<(), WriteError> {
    if mode == TransactionMode::Autocommit {
        for statement in statements {
            ctx.sql.execute_unprepared(statement).await?;
        }
        return Ok(());
    }
    let transaction = begin(ctx, mode).await?;
    if mode == TransactionMode::Long {
        // Starts the transaction's snapshot, if the database has one.
        rows(&transaction, "SELECT COUNT(*) FROM visit").await?;
        pause(random, 100).await;
    }
    for statement in statements {
        transaction.execute_unprepared(statement).await?;
    }
    match mode {
        TransactionMode::RolledBack => return Ok(transaction.rollback().await?),
        TransactionMode::Recorded => {
            lock_revision(&transaction).await?;
            let dataset = ctx
                .datasets
                .record(Dataset::read(&transaction).await?)
                .map_err(WriteError::Violation)?;
            let committed = transaction.commit().await;
            if committed.is_err() {
                ctx.datasets.remove(&dataset.revision);
            }
            return Ok(committed?);
        }
        TransactionMode::Autocommit | TransactionMode::Long => pause(random, 50).await,
    }
    Ok(transaction.commit().await?)
}

async fn begin(ctx: &RunContext<'_>, mode: TransactionMode) -> Result<DatabaseTransaction, DbErr> {
    let isolation = match mode {
        TransactionMode::Long => IsolationLevel::RepeatableRead,
        _ => IsolationLevel::ReadCommitted,
    };
    match ctx.sql.get_database_backend() {
        DbBackend::Sqlite => {
            let options = TransactionOptions {
                sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
                ..TransactionOptions::default()
            };
            ctx.sql.begin_with_options(options).await
        }
        _ => ctx.sql.begin_with_config(Some(isolation), None).await,
    }
}

/// Prevents other changes until the commit. SQLite's transaction does so already.
pub async fn lock_revision(transaction: &DatabaseTransaction) -> Result<(), DbErr> {
    if transaction.get_database_backend() != DbBackend::Sqlite {
        rows(transaction, "SELECT number FROM revision FOR UPDATE").await?;
    }
    Ok(())
}

/// Sleeps for a random time, in milliseconds below `most`.
pub async fn pause(random: &mut StdRng, most: u64) {
    tokio::time::sleep(Duration::from_millis(random.random_range(0..most))).await;
}

/// The rows that writes choose from.
pub struct Targets<'a> {
    pub ctx: &'a RunContext<'a>,
    /// ACTIVE ones only.
    pub patients: Vec<i64>,
    charts: Vec<String>,
    pub visits: Vec<i64>,
}

impl<'a> Targets<'a> {
    async fn now(ctx: &'a RunContext<'a>) -> Checked<Self> {
        let patients = "SELECT id, chart_no FROM patient WHERE state = 'ACTIVE' ORDER BY id";
        let patients = rows(&ctx.sql, patients).await.map_err(failed)?;
        let visits = rows(&ctx.sql, "SELECT id FROM visit ORDER BY id")
            .await
            .map_err(failed)?;
        Ok(Self {
            ctx,
            patients: patients.iter().map(|row| row.try_get_by_index(0).unwrap()).collect(),
            charts: patients.iter().map(|row| row.try_get_by_index(1).unwrap()).collect(),
            visits: visits.iter().map(|row| row.try_get_by_index(0).unwrap()).collect(),
        })
    }

    /// None if there are no rows to write to.
    fn statements(&self, write: Write, random: &mut StdRng) -> Option<Vec<String>> {
        let statements = match write {
            Write::Record => {
                let count = if random.random_ratio(1, 10) {
                    40
                } else {
                    random.random_range(1..4)
                };
                let visits: Option<Vec<String>> = (0..count).map(|_| self.new_visit(random)).collect();
                vec![format!("INSERT INTO visit ({NEW_VISIT}) VALUES {}", visits?.join(", "))]
            }
            Write::Correct => vec![format!(
                "UPDATE visit SET {} WHERE id = {}",
                self.a_value(random),
                self.visits.choose(random)?
            )],
            Write::Move => vec![format!(
                "UPDATE visit SET patient_id = {} WHERE id = {}",
                self.patients.choose(random)?,
                self.visits.choose(random)?
            )],
            Write::Delete => {
                let ids: Vec<String> = self.visits.sample(random, 3).map(i64::to_string).collect();
                vec![format!("DELETE FROM visit WHERE id IN ({})", ids.join(", "))]
            }
            Write::Bulk => vec![self.bulk(random)?],
            Write::Replace => vec![self.replace(*self.visits.choose(random)?, random)],
            Write::Rename => vec![format!(
                "UPDATE patient SET {} WHERE state = 'ACTIVE' AND id = {}",
                self.a_rename(random),
                self.patients.choose(random)?
            )],
            Write::Register => vec![format!(
                "INSERT INTO patient (hospital_id, state, chart_no, name, sex, registered_on)
                    VALUES (1, 'ACTIVE', '{}', '{}', 'UNKNOWN', '{}')",
                number(random),
                a_name(random),
                self.ctx.any_day(random)
            )],
            Write::Remove => {
                let patient = self.patients.choose(random)?;
                vec![
                    format!("DELETE FROM visit WHERE patient_id = {patient}"),
                    format!("DELETE FROM patient WHERE id = {patient}"),
                ]
            }
            Write::Merge => {
                let [from, into] = self.patients.sample_array::<_, 2>(random)?;
                vec![
                    format!("UPDATE visit SET patient_id = {into} WHERE patient_id = {from}"),
                    format!(
                        "UPDATE patient SET state = 'MERGED', merged_into = {into} WHERE state = 'ACTIVE' AND id = {from}"
                    ),
                ]
            }
            Write::Rules => vec![self.rules(random)],
            Write::Irrelevant => vec![
                format!(
                    "UPDATE visit SET visit_no = '{}' WHERE id = {}",
                    number(random),
                    self.visits.choose(random)?
                ),
                format!(
                    "UPDATE patient SET birth_year = 1980 WHERE state = 'ACTIVE' AND id = {}",
                    self.patients.choose(random)?
                ),
                "UPDATE visit SET status = status".to_owned(),
            ],
            Write::Empty => {
                if self.backend() != DbBackend::Postgres {
                    return None;
                }
                vec![
                    "CREATE TEMPORARY TABLE emptied ON COMMIT DROP AS SELECT * FROM visit".to_owned(),
                    "TRUNCATE visit".to_owned(),
                    "INSERT INTO visit SELECT * FROM emptied WHERE id % 10 > 0".to_owned(),
                ]
            }
            Write::Prune => {
                let record = random.random_range(0..20);
                vec![format!(
                    "DELETE FROM change_feed WHERE number < (SELECT number FROM revision) - {record}"
                )]
            }
            Write::Import | Write::Mutation(_) => return None,
        };
        Some(statements)
    }

    fn backend(&self) -> DbBackend {
        self.ctx.sql.get_database_backend()
    }

    fn new_visit(&self, random: &mut StdRng) -> Option<String> {
        let values = [
            "1".to_owned(),
            self.patients.choose(random)?.to_string(),
            self.a_date(random),
            self.an_instant(random),
            format!("'{}'", a_status(random)),
            one_of(random, &self.ctx.departments),
            one_of(random, &self.ctx.doctors),
            format!("'{}'", a_channel(random)),
        ];
        Some(format!("({})", values.join(", ")))
    }

    fn a_date(&self, random: &mut StdRng) -> String {
        format!("'{}'", self.ctx.any_day(random))
    }

    fn an_instant(&self, random: &mut StdRng) -> String {
        match random.random() {
            true => format!("'{} 0{}:30:00'", self.ctx.any_day(random), random.random_range(0..10)),
            false => "NULL".to_owned(),
        }
    }

    /// An assignment to a column that statistics depend on.
    fn a_value(&self, random: &mut StdRng) -> String {
        match random.random_range(0..8) {
            0 | 1 => format!("date = {}", self.a_date(random)),
            2 => format!("scheduled_at = {}", self.an_instant(random)),
            3 => format!("department_id = {}", one_of(random, &self.ctx.departments)),
            4 => format!("doctor_id = {}", one_of(random, &self.ctx.doctors)),
            5 => format!("channel = '{}'", a_channel(random)),
            _ => format!("status = '{}'", a_status(random)),
        }
    }

    fn a_rename(&self, random: &mut StdRng) -> String {
        match random.random_range(0..4) {
            0 => format!("chart_no = '{}'", number(random)),
            1 => format!("registered_on = {}", self.a_date(random)),
            _ => format!("name = '{}'", a_name(random)),
        }
    }

    fn bulk(&self, random: &mut StdRng) -> Option<String> {
        Some(match random.random_range(0..5) {
            0 => format!(
                "UPDATE visit SET status = '{}' WHERE status = '{}' AND channel = '{}'",
                a_status(random),
                a_status(random),
                a_channel(random)
            ),
            1 => format!(
                "UPDATE visit SET {} WHERE date = {}",
                self.a_value(random),
                self.a_date(random)
            ),
            2 => format!(
                "UPDATE visit SET {} WHERE patient_id IN ({}, {})",
                self.a_value(random),
                self.patients.choose(random)?,
                self.patients.choose(random)?
            ),
            3 => format!(
                "INSERT INTO visit ({NEW_VISIT})
                    SELECT hospital_id, {}, {}, scheduled_at, status, department_id, doctor_id, channel
                    FROM visit WHERE patient_id = {}",
                self.patients.choose(random)?,
                self.a_date(random),
                self.patients.choose(random)?
            ),
            _ => format!("DELETE FROM visit WHERE date = {}", self.a_date(random)),
        })
    }

    /// Only an existing row: neither deleted IDs nor versions may be used again.
    fn replace(&self, visit: i64, random: &mut StdRng) -> String {
        let columns = format!("id, version, {NEW_VISIT}");
        let again = format!(
            "SELECT id, version + 1, hospital_id, patient_id, {}, scheduled_at, '{}', department_id, doctor_id, channel
                FROM visit WHERE id = {visit}",
            self.a_date(random),
            a_status(random)
        );
        match self.backend() {
            DbBackend::Postgres => format!(
                "INSERT INTO visit ({columns}) SELECT id, version + 1, hospital_id, patient_id, {}, scheduled_at, '{}',
                    department_id, doctor_id, channel FROM visit WHERE id = {visit} FOR UPDATE
                ON CONFLICT (hospital_id, id) DO UPDATE SET date = excluded.date, status = excluded.status",
                self.a_date(random),
                a_status(random)
            ),
            DbBackend::MySql => format!("REPLACE INTO visit ({columns}) {again} FOR UPDATE"),
            _ => format!("REPLACE INTO visit ({columns}) {again}"),
        }
    }

    fn rules(&self, random: &mut StdRng) -> String {
        match random.random_range(0..6) {
            0 => format!(
                "UPDATE hospital SET week_start = '{}'",
                ["MONDAY", "SUNDAY"].choose(random).unwrap()
            ),
            1 => format!(
                "UPDATE hospital SET time_zone = '{}'",
                ["Asia/Seoul", "Asia/Tokyo", "America/New_York"].choose(random).unwrap()
            ),
            _ => format!(
                "INSERT INTO definition (hospital_id, version, churn_after_days, overdue_after_days, effective_from)
                    SELECT hospital_id, MAX(version) + 1, {}, {}, '2025-01-01 00:00:00' FROM definition GROUP BY hospital_id",
                random.random_range(1..60),
                ["NULL", "1", "10", "30"].choose(random).unwrap()
            ),
        }
    }
}

const NEW_VISIT: &str = "hospital_id, patient_id, date, scheduled_at, status, department_id, doctor_id, channel";

/// Mostly one that counts as attended.
pub fn a_status(random: &mut StdRng) -> &'static str {
    let status = match random.random_range(0..3) {
        0 => VisitStatus::Completed,
        1 => VisitStatus::Ended,
        _ => *VisitStatus::ALL.choose(random).unwrap(),
    };
    status.as_str()
}

pub fn a_channel(random: &mut StdRng) -> &'static str {
    VisitChannel::ALL.choose(random).unwrap().as_str()
}

/// Few names for many patients, so that ties are broken by ID.
pub fn a_name(random: &mut StdRng) -> &'static str {
    [
        "Ann Ash",
        "ann ash",
        "Bo",
        "김영수",
        "김민지",
        "Émile",
        "Zoë",
        "",
        "Æ",
        "😀",
    ]
    .choose(random)
    .unwrap()
}

/// A number that is unlikely to exist.
pub fn number(random: &mut StdRng) -> String {
    format!("{:08x}", random.random::<u32>())
}

/// One of the IDs, or NULL.
fn one_of(random: &mut StdRng, ids: &[i64]) -> String {
    match ids.choose(random) {
        Some(id) if random.random_ratio(4, 5) => id.to_string(),
        _ => "NULL".to_owned(),
    }
}

/// Imports new visits, and changes to visits that were imported before.
fn import(ctx: &RunContext<'_>, targets: &Targets<'_>, random: &mut StdRng) -> Checked {
    let mut file = "visit_no,chart_no,date,status,channel\n".to_owned();
    for _ in 0..random.random_range(1..60) {
        let Some(chart) = targets.charts.choose(random) else {
            return Ok(());
        };
        let visit_no = random.random_range(0..400);
        let (status, channel) = (a_status(random), a_channel(random));
        file += &format!("{visit_no},{chart},{},{status},{channel}\n", ctx.any_day(random));
    }
    let path = ctx.app.write_file(&format!("{}.csv", number(random)), file);
    let done = ctx
        .app
        .try_run_cli(&["import", "visits", "--hospital", "H1", path.to_str().unwrap()]);
    // Rows whose number the file has already are refused: exit status 2.
    if !matches!(done.status.code(), Some(0 | 2)) {
        return Err(format!("an import failed: {}", String::from_utf8_lossy(&done.stderr)));
    }
    ctx.counters.count(Write::Import.name(), 1);
    Ok(())
}
