//! Those who change the data meanwhile: in SQL as a person writes it, by import, and through the API.

use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rollcall::statistics::{VisitChannel, VisitStatus};
use sea_orm::{
    ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, IsolationLevel, SqliteTransactionMode, TransactionOptions,
    TransactionTrait as _,
};

use crate::calling::{self, Call};
use crate::site::{Site, failed};
use crate::world::{World, rows};
use crate::{Finding, Held};

/// What is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Write {
    Record,
    Correct,
    Move,
    Delete,
    /// Many rows in one statement.
    Bulk,
    /// A row takes its own place.
    Replace,
    /// Names, chart numbers and registrations, by which lists are ordered.
    Rename,
    Register,
    /// A patient, with what visits there are.
    Remove,
    /// A patient becomes another one.
    Merge,
    /// The definition, the week start, the time zone.
    Rules,
    /// What no count depends on.
    Aside,
    /// All visits at once, by PostgreSQL's TRUNCATE; most of them come back.
    Empty,
    /// The feed loses its end, so that servers have to load anew.
    Prune,
    Import,
    /// Through the API.
    Call(Call),
}

impl Write {
    /// With how often each is done, in parts of all.
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
        (Self::Aside, 6),
        (Self::Empty, 1),
        (Self::Prune, 2),
        (Self::Import, 1),
        (Self::Call(Call::RegisterPatient), 5),
        (Self::Call(Call::ChangePatient), 12),
        (Self::Call(Call::ErasePatient), 2),
        (Self::Call(Call::MergePatients), 8),
        (Self::Call(Call::UndoMerge), 6),
        (Self::Call(Call::RecordVisit), 24),
        (Self::Call(Call::ChangeVisit), 36),
        (Self::Call(Call::DeleteVisit), 8),
        (Self::Call(Call::UpdateDefinition), 3),
        (Self::Call(Call::PinSnapshot), 3),
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
            Self::Rules => "writes in SQL: rules changed",
            Self::Aside => "writes in SQL: what no count depends on",
            Self::Empty => "writes in SQL: all visits emptied",
            Self::Prune => "writes in SQL: the feed pruned",
            Self::Import => "imports",
            Self::Call(call) => call.name(),
        }
    }
}

/// How statements are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Each by itself.
    AtOnce,
    /// In one transaction. Before its commit the data are read, as they are at the revision that it makes.
    Witnessed,
    /// In one transaction that takes its time and sees the data as they were when it began.
    Long,
    RolledBack,
}

impl Way {
    const ALL: [(Self, u32); 4] = [
        (Self::AtOnce, 12),
        (Self::Witnessed, 12),
        (Self::Long, 1),
        (Self::RolledBack, 3),
    ];
}

pub fn weighted<T: Copy>(random: &mut StdRng, all: &[(T, u32)]) -> T {
    all.choose_weighted(random, |&(_, weight)| weight).unwrap().0
}

/// There should be about as many visits as this.
const VISITS: std::ops::Range<usize> = 500..1_000;

/// There should be at least as many patients who are ACTIVE.
const PATIENTS: usize = 80;

/// Changes something.
pub async fn write(site: &Site<'_>, random: &mut StdRng) -> Held {
    let _present = site.past.read().await;
    let known = Known::now(site).await?;
    let write = match known.visits.len() {
        few if few < VISITS.start && random.random() => Write::Record,
        many if many > VISITS.end && random.random() => Write::Delete,
        _ if known.patients.len() < PATIENTS && random.random() => Write::Call(Call::RegisterPatient),
        _ => weighted(random, &Write::ALL),
    };
    if let Write::Call(call) = write {
        return calling::call(&known, call, random).await;
    }
    if write == Write::Import {
        return import(site, &known, random);
    }
    let Some(statements) = known.statements(write, random) else {
        return Ok(());
    };
    let way = match write {
        // Its two statements belong together.
        Write::Empty => Way::Witnessed,
        _ => weighted(random, &Way::ALL),
    };
    match run(site, &statements, way, random).await {
        Ok(()) if way == Way::RolledBack => site.figures.count("writes rolled back", 1),
        Ok(()) => site.figures.count(write.name(), 1),
        Err(Broken::Given) => site
            .figures
            .count("writes given up: the database broke a tie, or refused them", 1),
        Err(Broken::Found(finding)) => return Err(format!("{write:?} {way:?} {statements:?}: {finding}")),
    }
    Ok(())
}

/// Why a write did not come about.
enum Broken {
    /// As it happens to anybody: two transactions in each other's way, or a row that is gone or wanted.
    Given,
    Found(Finding),
}

impl From<DbErr> for Broken {
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
            Self::Given
        } else {
            Self::Found(failed(error))
        }
    }
}

async fn run(site: &Site<'_>, statements: &[String], way: Way, random: &mut StdRng) -> Result<(), Broken> {
    if way == Way::AtOnce {
        for statement in statements {
            site.sql.execute_unprepared(statement).await?;
        }
        return Ok(());
    }
    let transaction = begin(site, way).await?;
    if way == Way::Long {
        // From here on it sees the past, where the database does so.
        rows(&transaction, "SELECT COUNT(*) FROM visit").await?;
        pause(random, 100).await;
    }
    for statement in statements {
        transaction.execute_unprepared(statement).await?;
    }
    match way {
        Way::RolledBack => return Ok(transaction.rollback().await?),
        Way::Witnessed => {
            lock_revision(&transaction).await?;
            let world = site
                .worlds
                .keep(World::read(&transaction).await?)
                .map_err(Broken::Found)?;
            let committed = transaction.commit().await;
            if committed.is_err() {
                site.worlds.forget(&world.revision);
            }
            return Ok(committed?);
        }
        Way::AtOnce | Way::Long => pause(random, 50).await,
    }
    Ok(transaction.commit().await?)
}

async fn begin(site: &Site<'_>, way: Way) -> Result<DatabaseTransaction, DbErr> {
    let isolation = match way {
        Way::Long => IsolationLevel::RepeatableRead,
        _ => IsolationLevel::ReadCommitted,
    };
    match site.sql.get_database_backend() {
        DbBackend::Sqlite => {
            let options = TransactionOptions {
                sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
                ..TransactionOptions::default()
            };
            site.sql.begin_with_options(options).await
        }
        _ => site.sql.begin_with_config(Some(isolation), None).await,
    }
}

/// Nobody else changes anything from here to the commit. SQLite has locked everybody else out already.
pub async fn lock_revision(transaction: &DatabaseTransaction) -> Result<(), DbErr> {
    if transaction.get_database_backend() != DbBackend::Sqlite {
        rows(transaction, "SELECT number FROM revision FOR UPDATE").await?;
    }
    Ok(())
}

/// A moment, at most so many milliseconds.
pub async fn pause(random: &mut StdRng, most: u64) {
    tokio::time::sleep(Duration::from_millis(random.random_range(0..most))).await;
}

/// What there is to change.
pub struct Known<'a> {
    pub site: &'a Site<'a>,
    /// Who are ACTIVE.
    pub patients: Vec<i64>,
    charts: Vec<String>,
    pub visits: Vec<i64>,
}

impl<'a> Known<'a> {
    async fn now(site: &'a Site<'a>) -> Held<Self> {
        let patients = "SELECT id, chart_no FROM patient WHERE state = 'ACTIVE' ORDER BY id";
        let patients = rows(&site.sql, patients).await.map_err(failed)?;
        let visits = rows(&site.sql, "SELECT id FROM visit ORDER BY id")
            .await
            .map_err(failed)?;
        Ok(Self {
            site,
            patients: patients.iter().map(|row| row.try_get_by_index(0).unwrap()).collect(),
            charts: patients.iter().map(|row| row.try_get_by_index(1).unwrap()).collect(),
            visits: visits.iter().map(|row| row.try_get_by_index(0).unwrap()).collect(),
        })
    }

    /// None where there is nothing to do it to.
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
                self.site.any_day(random)
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
            Write::Aside => vec![
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
                let keep = random.random_range(0..20);
                vec![format!(
                    "DELETE FROM change_feed WHERE number < (SELECT number FROM revision) - {keep}"
                )]
            }
            Write::Import | Write::Call(_) => return None,
        };
        Some(statements)
    }

    fn backend(&self) -> DbBackend {
        self.site.sql.get_database_backend()
    }

    fn new_visit(&self, random: &mut StdRng) -> Option<String> {
        let values = [
            "1".to_owned(),
            self.patients.choose(random)?.to_string(),
            self.a_date(random),
            self.an_instant(random),
            format!("'{}'", a_status(random)),
            one_of(random, &self.site.departments),
            one_of(random, &self.site.doctors),
            format!("'{}'", a_channel(random)),
        ];
        Some(format!("({})", values.join(", ")))
    }

    fn a_date(&self, random: &mut StdRng) -> String {
        format!("'{}'", self.site.any_day(random))
    }

    fn an_instant(&self, random: &mut StdRng) -> String {
        match random.random() {
            true => format!("'{} 0{}:30:00'", self.site.any_day(random), random.random_range(0..10)),
            false => "NULL".to_owned(),
        }
    }

    /// A column that counts depend on, and what it becomes.
    fn a_value(&self, random: &mut StdRng) -> String {
        match random.random_range(0..8) {
            0 | 1 => format!("date = {}", self.a_date(random)),
            2 => format!("scheduled_at = {}", self.an_instant(random)),
            3 => format!("department_id = {}", one_of(random, &self.site.departments)),
            4 => format!("doctor_id = {}", one_of(random, &self.site.doctors)),
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

    /// Only a row that stands: an id that was deleted must not come back, nor must a version.
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

/// Mostly one that is attended.
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

/// Few names for many patients: ties are broken by id.
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

/// A number that nobody else has.
pub fn number(random: &mut StdRng) -> String {
    format!("{:08x}", random.random::<u32>())
}

/// One of the ids, or none.
fn one_of(random: &mut StdRng, ids: &[i64]) -> String {
    match ids.choose(random) {
        Some(id) if random.random_ratio(4, 5) => id.to_string(),
        _ => "NULL".to_owned(),
    }
}

/// A file of new visits, and of some that were imported before and are changed by it.
fn import(site: &Site<'_>, known: &Known<'_>, random: &mut StdRng) -> Held {
    let mut file = "visit_no,chart_no,date,status,channel\n".to_owned();
    for _ in 0..random.random_range(1..60) {
        let Some(chart) = known.charts.choose(random) else {
            return Ok(());
        };
        let visit_no = random.random_range(0..400);
        let (status, channel) = (a_status(random), a_channel(random));
        file += &format!("{visit_no},{chart},{},{status},{channel}\n", site.any_day(random));
    }
    let path = site.app.file(&format!("{}.csv", number(random)), file);
    let done = site
        .app
        .try_rollcall(&["import", "visits", "--hospital", "H1", path.to_str().unwrap()]);
    if !done.status.success() {
        return Err(format!("an import failed: {}", String::from_utf8_lossy(&done.stderr)));
    }
    site.figures.count(Write::Import.name(), 1);
    Ok(())
}
