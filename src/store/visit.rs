//! Visits: as rows, as lists under patients, and as a ledger with what changed since.

use std::collections::{BTreeSet, HashMap};

use entity::scheduled_at::ScheduledAt;
use entity::{department, doctor, visit, visit_tombstone};
use futures_util::TryStreamExt as _;
use sea_orm::sqlx::postgres::PgRow;
use sea_orm::sqlx::{self, Row as _};
use sea_orm::{ConnectionTrait, DatabaseTransaction, DbBackend, FromQueryResult, QueryResult, StreamTrait as _};

use string_enum::string_enum;
use tokio::sync::mpsc;

use super::sql::Sql;
use super::{HospitalState, Keyset, Revision, Store, unknown_value};
use crate::config::LIMITS;
use crate::error::{Error, Result};
use crate::statistics::{Day, DayRange, Ledger, LedgerBuilder, VisitChannel, VisitRow, VisitStatus};

const ATTENDED: &str = "status IN ('COMPLETED', 'ENDED')";

/// Visits that are read together when a ledger loads.
const ROWS_PER_RUN: usize = 4_096;

/// What changed since a revision.
pub enum LedgerChanges {
    /// The feed does not reach back that far, or the past was replaced: load anew.
    Unknown,
    Known {
        state: HospitalState,
        patients: BTreeSet<i64>,
        old_dates: BTreeSet<Day>,
        rows: Vec<VisitRow>,
    },
}

/// Which visits to list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct VisitQuery {
    pub departments: Option<Vec<i64>>,
    pub doctors: Option<Vec<i64>>,
    pub channels: Option<Vec<VisitChannel>>,
    pub statuses: Option<Vec<VisitStatus>>,
    pub dates: Option<DayRange>,
}

string_enum!(
    /// What visits are ordered by; ties by id. Names of stored orders hold the words.
    VisitKey {
        Date = "Date",
        PatientName = "PatientName",
        Status = "Status",
    }
);

impl VisitKey {
    fn expression(self, of_one_patient: bool) -> String {
        match self {
            Self::Date => "v.date".to_owned(),
            // All visits of one patient have one name: ties, which go by id.
            Self::PatientName if of_one_patient => "CAST(NULL AS CHAR)".to_owned(),
            Self::PatientName => "p.name".to_owned(),
            Self::Status => {
                let mut text = "CASE v.status".to_owned();
                for &status in VisitStatus::ALL {
                    text.push_str(&format!(" WHEN '{}' THEN {}", status.as_str(), status as u8));
                }
                text + " END"
            }
        }
    }
}

/// A row of a list, with the key that it is ordered by.
pub type KeyedVisit = (visit::Model, Option<String>);

/// A page from an end of each of some patients' visits.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PatientVisitPage {
    pub query: VisitQuery,
    pub key: VisitKey,
    pub descending: bool,
    /// From the end of the list rather than its beginning.
    pub backwards: bool,
    pub limit: u64,
}

/// The visits of a patient that its row shows.
#[derive(Clone, Debug, Default)]
pub struct PatientEnds {
    pub first: Option<visit::Model>,
    pub last: Option<visit::Model>,
    pub next: Option<visit::Model>,
}

/// A visit that was looked up by its id, with where and by whom.
#[derive(Clone, Debug)]
pub struct VisitDetails {
    pub row: visit::Model,
    /// Only its tombstone is left.
    pub deleted: bool,
    pub department: Option<department::Model>,
    pub doctor: Option<doctor::Model>,
}

impl VisitDetails {
    fn read(row: &QueryResult) -> Result<Self> {
        let visit = visit::Model::from_query_result(row, "")?;
        let department = match (visit.department_id, row.try_get("", "department_name")?) {
            (Some(id), Some(name)) => Some(department::Model {
                hospital_id: visit.hospital_id,
                id,
                name,
                retired_at: row.try_get("", "department_retired_at")?,
            }),
            _ => None,
        };
        let doctor = match (visit.doctor_id, row.try_get("", "doctor_name")?) {
            (Some(id), Some(name)) => Some(doctor::Model {
                hospital_id: visit.hospital_id,
                id,
                name,
                department_id: row.try_get("", "doctor_department_id")?,
                retired_at: row.try_get("", "doctor_retired_at")?,
            }),
            _ => None,
        };
        Ok(Self {
            row: visit,
            deleted: false,
            department,
            doctor,
        })
    }
}

const COLUMNS: &str = "v.hospital_id, v.id, v.visit_no, v.patient_id, v.date, v.scheduled_at, v.status,
    v.department_id, v.doctor_id, v.channel, v.version";

impl Store {
    /// Every visit of the hospital as a ledger, with the state that it is of. It may take longer than a request.
    ///
    /// # Errors
    /// BEING_RESTORED where the data is incomplete. Where the database fails.
    pub async fn load_ledger(&self, hospital: i64) -> Result<(HospitalState, Ledger)> {
        let view = self.lock_visits(self.long_view().await?).await?;
        let state = self.hospital_state_in(&view, hospital, 0).await?;
        self.verify(&view, hospital, &state).await?;
        let mut sql = self.long_sql("SELECT id FROM patient WHERE hospital_id = ");
        sql.bind(hospital);
        let patients = view.query_all_raw(sql.done()).await?;
        let patients = patients
            .iter()
            .map(|row| row.try_get_by_index(0))
            .collect::<std::result::Result<_, _>>()?;
        let (runs, mut taken) = mpsc::channel::<Vec<VisitRow>>(4);
        // While these are put in their places, the next are read.
        let building = tokio::task::spawn_blocking(move || {
            let mut builder = LedgerBuilder::new(patients);
            while let Some(run) = taken.blocking_recv() {
                for visit in &run {
                    builder.push(visit)?;
                }
            }
            Ok::<_, Error>(builder.finish())
        });
        match self.readers.get_database_backend() {
            DbBackend::Sqlite => self.read_runs(&view, hospital, &runs).await?,
            backend => {
                let mut sql = self.long_sql(SELECT_LEDGER_ROWS);
                sql.bind(hospital);
                if backend == DbBackend::MySql {
                    // In the order in which the rows lie: any other index would jump about in the table.
                    sql.push(" ORDER BY id");
                }
                let mut rows = view.stream_raw(sql.done()).await?;
                let mut run = Vec::with_capacity(ROWS_PER_RUN);
                while let Some(row) = rows.try_next().await? {
                    run.push(match row.try_as_pg_row() {
                        Some(row) => postgres_row(row)?,
                        None => ledger_row(&row)?,
                    });
                    // Where nobody takes them, the builder says why.
                    if run.len() == ROWS_PER_RUN
                        && runs
                            .send(std::mem::replace(&mut run, Vec::with_capacity(ROWS_PER_RUN)))
                            .await
                            .is_err()
                    {
                        break;
                    }
                }
                let _ = runs.send(run).await;
            }
        }
        view.commit().await?;
        drop(runs);
        let built = building.await;
        let ledger = built.map_err(|error| Error::Internal(format!("building a ledger failed: {error}")))??;
        state.verify_count(hospital, ledger.len())?;
        Ok((state, ledger))
    }

    /// One consistent view of the visits and of the revision that they stand at.
    async fn view_of_visits(&self) -> Result<DatabaseTransaction> {
        self.lock_visits(self.read_view().await?).await
    }

    /// A view whose statements may take as long as a ledger may take to load.
    pub(super) async fn long_view(&self) -> Result<DatabaseTransaction> {
        let view = self.read_view().await?;
        if self.readers.get_database_backend() == DbBackend::Postgres {
            let longer = format!("SET LOCAL statement_timeout = {}", LIMITS.load.as_millis());
            view.execute_unprepared(&longer).await?;
        }
        Ok(view)
    }

    /// A statement of such a view. MariaDB has no setting that lasts for a transaction.
    pub(super) fn long_sql(&self, text: &str) -> Sql {
        match self.readers.get_database_backend() {
            DbBackend::MySql => self.sql(&format!(
                "SET STATEMENT max_statement_time = {} FOR {text}",
                LIMITS.load.as_secs()
            )),
            _ => self.sql(text),
        }
    }

    async fn lock_visits(&self, view: DatabaseTransaction) -> Result<DatabaseTransaction> {
        if self.readers.get_database_backend() == DbBackend::Postgres {
            // TRUNCATE empties a table also for views that began before it. It waits for who has locked the table.
            view.execute_unprepared("LOCK TABLE visit IN ACCESS SHARE MODE").await?;
        }
        Ok(view)
    }

    /// Reads an SQLite database's visits many to a row. The driver hands each value of a row over between two threads, which
    /// both want SQLite's memory lock for it: value by value a million visits take five times as long. Of a `scheduled_at` that
    /// was written by hand, only characters of an instant get into the run: a sign that separates visits there, or bytes
    /// that are no text, would take the other visits with them.
    async fn read_runs(
        &self,
        view: &DatabaseTransaction,
        hospital: i64,
        runs: &mpsc::Sender<Vec<VisitRow>>,
    ) -> Result<()> {
        let mut after = i64::MIN;
        loop {
            let mut sql = self.sql(
                "SELECT MAX(id), group_concat(id || ',' || patient_id || ',' || date || ',' || status || ',' || channel
                    || ',' || coalesce(department_id, '') || ',' || coalesce(doctor_id, '')
                    || ',' || CASE WHEN scheduled_at NOT GLOB '*[^-0-9TtZz:.+ ]*' AND typeof(scheduled_at) = 'text'
                        AND length(scheduled_at) = length(CAST(scheduled_at AS BLOB)) THEN scheduled_at ELSE '' END, ';')
                FROM (SELECT * FROM visit WHERE hospital_id = ",
            );
            sql.bind(hospital).push(" AND id > ").bind(after);
            sql.push(&format!(" ORDER BY id LIMIT {ROWS_PER_RUN})"));
            let Some(row) = view.query_one_raw(sql.done()).await? else {
                return Ok(());
            };
            let Some(last) = row.try_get_by_index::<Option<i64>>(0)? else {
                return Ok(());
            };
            let run: String = row.try_get_by_index(1)?;
            let visits = run
                .split(';')
                .map(|visit| run_row(visit).ok_or_else(|| unreadable(visit)));
            if runs.send(visits.collect::<Result<_>>()?).await.is_err() {
                return Ok(());
            }
            after = last;
        }
    }

    /// What changed since a revision, at most `most` changes of it.
    ///
    /// # Errors
    /// BEING_RESTORED where the data is incomplete. Where the database fails.
    pub async fn changes_since(&self, hospital: i64, seen: Revision, most: u64) -> Result<LedgerChanges> {
        let view = self.view_of_visits().await?;
        let state = self.hospital_state_in(&view, hospital, seen.number).await?;
        if state.seen_tag != Some(seen.tag) {
            return Ok(LedgerChanges::Unknown);
        }
        let mut sql =
            self.sql("SELECT kind, patient_id, old_patient_id, old_date FROM change_feed WHERE hospital_id = ");
        sql.bind(hospital).push(" AND number > ").bind(seen.number);
        sql.push(" LIMIT ")
            .bind(i64::try_from(most).unwrap_or(i64::MAX).saturating_add(1));
        let feed = view.query_all_raw(sql.done()).await?;
        if feed.len() as u64 > most {
            return Ok(LedgerChanges::Unknown);
        }
        let (mut patients, mut old_dates) = (BTreeSet::new(), BTreeSet::new());
        for row in &feed {
            let kind: String = row.try_get_by_index(0)?;
            match kind.as_str() {
                "RESET" => return Ok(LedgerChanges::Unknown),
                "VISIT" => {
                    patients.extend(row.try_get_by_index::<Option<i64>>(1)?);
                    patients.extend(row.try_get_by_index::<Option<i64>>(2)?);
                    old_dates.extend(row.try_get_by_index::<Option<chrono::NaiveDate>>(3)?.map(Day::from));
                }
                _ => {}
            }
        }
        let mut rows = Vec::new();
        let ids: Vec<i64> = patients.iter().copied().collect();
        for ids in ids.chunks(LIMITS.ids_of_statement) {
            let mut sql = self.sql(SELECT_LEDGER_ROWS);
            sql.bind(hospital).push(" AND patient_id").numbers(ids);
            for row in view.query_all_raw(sql.done()).await? {
                rows.push(ledger_row(&row)?);
            }
        }
        self.verify(&view, hospital, &state).await?;
        view.commit().await?;
        Ok(LedgerChanges::Known {
            state,
            patients,
            old_dates,
            rows,
        })
    }

    /// The visits with these ids, with where and by whom; deleted ones as their tombstones.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn visits_by_id(&self, hospital: i64, ids: &[i64]) -> Result<HashMap<i64, VisitDetails>> {
        let mut sql = self.sql(&format!(
            "SELECT {COLUMNS}, d.name AS department_name, d.retired_at AS department_retired_at,
                o.name AS doctor_name, o.retired_at AS doctor_retired_at, o.department_id AS doctor_department_id
            FROM visit v
            LEFT JOIN department d ON d.hospital_id = v.hospital_id AND d.id = v.department_id
            LEFT JOIN doctor o ON o.hospital_id = v.hospital_id AND o.id = v.doctor_id
            WHERE v.hospital_id = "
        ));
        sql.bind(hospital).push(" AND v.id").numbers(ids);
        let mut found = HashMap::with_capacity(ids.len());
        for row in self.readers.query_all_raw(sql.done()).await? {
            let visit = VisitDetails::read(&row)?;
            found.insert(visit.row.id, visit);
        }
        if found.len() < ids.len() {
            let mut sql = self.sql("SELECT * FROM visit_tombstone WHERE hospital_id = ");
            sql.bind(hospital).push(" AND id").numbers(ids);
            for row in self.readers.query_all_raw(sql.done()).await? {
                let row = visit_tombstone::Model::from_query_result(&row, "")?;
                let gone = visit::Model {
                    hospital_id: row.hospital_id,
                    id: row.id,
                    visit_no: None,
                    patient_id: row.patient_id,
                    date: row.date,
                    scheduled_at: None,
                    status: row.status,
                    department_id: None,
                    doctor_id: None,
                    channel: row.channel,
                    version: 0,
                };
                found.entry(row.id).or_insert(VisitDetails {
                    row: gone,
                    deleted: true,
                    department: None,
                    doctor: None,
                });
            }
        }
        Ok(found)
    }

    /// A page of the hospital's visits, or of one patient's.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn visit_page(
        &self,
        hospital: i64,
        patient: Option<i64>,
        query: &VisitQuery,
        key: VisitKey,
        seek: &Keyset<Option<String>>,
    ) -> Result<Vec<KeyedVisit>> {
        let expression = key.expression(patient.is_some());
        let mut sql = self.sql(&format!(
            "SELECT {COLUMNS}, {} AS sort_key FROM visit v",
            as_text(self, &expression, key)
        ));
        if key == VisitKey::PatientName && patient.is_none() {
            sql.push(" JOIN patient p ON p.hospital_id = v.hospital_id AND p.id = v.patient_id");
        }
        sql.push(" WHERE v.hospital_id = ").bind(hospital);
        if let Some(patient) = patient {
            sql.push(" AND v.patient_id = ").bind(patient);
        }
        restrict(&mut sql, query);
        let bind = |sql: &mut Sql, value: &str| {
            match key {
                VisitKey::Date => sql.bind(value.parse::<chrono::NaiveDate>().ok()),
                VisitKey::Status => sql.bind(value.parse::<i32>().ok()),
                VisitKey::PatientName => sql.bind(value),
            };
        };
        seek_sql(&mut sql, &expression, key != VisitKey::Date, "v.id", seek, bind);
        let mut rows = Vec::new();
        for row in self.readers.query_all_raw(sql.done()).await? {
            rows.push((visit::Model::from_query_result(&row, "")?, row.try_get("", "sort_key")?));
        }
        if seek.backwards {
            rows.reverse();
        }
        Ok(rows)
    }

    /// How many visits a list holds.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn visit_total(&self, hospital: i64, query: &VisitQuery) -> Result<u64> {
        if *query == VisitQuery::default() {
            return self.visit_count(hospital).await;
        }
        let mut sql = self.sql("SELECT COUNT(*) FROM visit v WHERE v.hospital_id = ");
        sql.bind(hospital);
        restrict(&mut sql, query);
        one_count(self.readers.query_one_raw(sql.done()).await?)
    }

    /// A page of the visits of each of these patients, all from the same end.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn visits_of_patients(
        &self,
        hospital: i64,
        patients: &[i64],
        page: &PatientVisitPage,
    ) -> Result<HashMap<i64, Vec<KeyedVisit>>> {
        let PatientVisitPage {
            ref query,
            key,
            descending,
            backwards,
            limit,
        } = *page;
        let expression = key.expression(true);
        let order = order_sql(&expression, key != VisitKey::Date, "v.id", descending, backwards);
        let shown = as_text(self, &expression, key);
        let mut sql = self.sql("SELECT v.* FROM ");
        if sql.backend() == DbBackend::Postgres {
            // Here it takes two thirds of the time to ask for each patient's by themselves.
            sql.push("unnest(").bind(patients.to_vec()).push(&format!(
                "::bigint[]) AS of (patient_id) CROSS JOIN LATERAL (
                    SELECT {COLUMNS}, {shown} AS sort_key FROM visit v WHERE v.hospital_id = "
            ));
            sql.bind(hospital).push(" AND v.patient_id = of.patient_id");
            restrict(&mut sql, query);
            sql.push(&format!(
                " ORDER BY {order} LIMIT {limit}) v ORDER BY v.patient_id, {order}"
            ));
        } else {
            sql.push(&format!(
                "(SELECT {COLUMNS}, {shown} AS sort_key,
                    ROW_NUMBER() OVER (PARTITION BY v.patient_id ORDER BY {order}) AS place
                FROM visit v WHERE v.hospital_id = "
            ));
            sql.bind(hospital).push(" AND v.patient_id").numbers(patients);
            restrict(&mut sql, query);
            sql.push(&format!(") v WHERE v.place <= {limit} ORDER BY v.patient_id, v.place"));
        }
        let mut lists: HashMap<i64, Vec<_>> = HashMap::new();
        for row in self.readers.query_all_raw(sql.done()).await? {
            let visit = visit::Model::from_query_result(&row, "")?;
            let shown: Option<String> = row.try_get("", "sort_key")?;
            lists.entry(visit.patient_id).or_default().push((visit, shown));
        }
        if backwards {
            for list in lists.values_mut() {
                list.reverse();
            }
        }
        Ok(lists)
    }

    /// How many visits each of these patients has in a list.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn visit_totals_of_patients(
        &self,
        hospital: i64,
        patients: &[i64],
        query: &VisitQuery,
    ) -> Result<HashMap<i64, u64>> {
        let mut sql = self.sql("SELECT v.patient_id, COUNT(*) FROM visit v WHERE v.hospital_id = ");
        sql.bind(hospital).push(" AND v.patient_id").numbers(patients);
        restrict(&mut sql, query);
        sql.push(" GROUP BY v.patient_id");
        self.counts(sql).await
    }

    /// How many attended visits each of these patients has up to a day.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn attended_counts(
        &self,
        hospital: i64,
        patients: &[i64],
        up_to: chrono::NaiveDate,
    ) -> Result<HashMap<i64, u64>> {
        let mut sql = self.sql("SELECT patient_id, COUNT(*) FROM visit WHERE hospital_id = ");
        sql.bind(hospital).push(" AND patient_id").numbers(patients);
        sql.push(&format!(" AND {ATTENDED} AND date <= "))
            .bind(up_to)
            .push(" GROUP BY patient_id");
        self.counts(sql).await
    }

    async fn counts(&self, sql: Sql) -> Result<HashMap<i64, u64>> {
        let mut counts = HashMap::new();
        for row in self.readers.query_all_raw(sql.done()).await? {
            let count: i64 = row.try_get_by_index(1)?;
            counts.insert(row.try_get_by_index(0)?, count.unsigned_abs());
        }
        Ok(counts)
    }

    /// The first and last attended visit up to a day, and the next TENTATIVE or BOOKED one from it on, of these patients.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn patient_ends(
        &self,
        hospital: i64,
        patients: &[i64],
        today: chrono::NaiveDate,
    ) -> Result<HashMap<i64, PatientEnds>> {
        let mut sql = self.sql("SELECT * FROM (");
        let ends = [
            ("F", "ASC", ATTENDED, "<="),
            ("L", "DESC", ATTENDED, "<="),
            ("N", "ASC", "status IN ('TENTATIVE', 'BOOKED')", ">="),
        ];
        // All visits of the day: which of them is the first or the last, the order of a history says below.
        for (i, (end, direction, status, when)) in ends.into_iter().enumerate() {
            if i > 0 {
                sql.push(" UNION ALL ");
            }
            sql.push(&format!(
                "SELECT {COLUMNS}, '{end}' AS which,
                    RANK() OVER (PARTITION BY v.patient_id ORDER BY v.date {direction}) AS place
                FROM visit v WHERE v.hospital_id = "
            ));
            sql.bind(hospital).push(" AND v.patient_id").numbers(patients);
            sql.push(&format!(" AND v.{status} AND v.date {when} ")).bind(today);
        }
        sql.push(") e WHERE e.place = 1");
        let mut ends: HashMap<i64, PatientEnds> = HashMap::new();
        for row in self.readers.query_all_raw(sql.done()).await? {
            let visit = visit::Model::from_query_result(&row, "")?;
            let which: String = row.try_get("", "which")?;
            let entry = ends.entry(visit.patient_id).or_default();
            let (end, latest) = match which.as_str() {
                "F" => (&mut entry.first, false),
                "L" => (&mut entry.last, true),
                _ => (&mut entry.next, false),
            };
            let place = |visit: &visit::Model| (visit.scheduled_at.map(ScheduledAt::micros), visit.id);
            if end
                .as_ref()
                .is_none_or(|found| (place(&visit) > place(found)) == latest)
            {
                *end = Some(visit);
            }
        }
        Ok(ends)
    }
}

pub(super) const SELECT_LEDGER_ROWS: &str =
    "SELECT id, patient_id, date, scheduled_at, status, channel, department_id, doctor_id
    FROM visit WHERE hospital_id = ";

pub(super) fn ledger_row(row: &QueryResult) -> Result<VisitRow> {
    let status: String = row.try_get_by_index(4)?;
    let channel: String = row.try_get_by_index(5)?;
    let date: chrono::NaiveDate = row.try_get_by_index(2)?;
    let scheduled_at: Option<ScheduledAt> = row.try_get_by_index(3)?;
    Ok(VisitRow {
        id: row.try_get_by_index(0)?,
        patient: row.try_get_by_index(1)?,
        date: date.into(),
        scheduled_at: scheduled_at.map(ScheduledAt::micros),
        status: VisitStatus::parse(&status).ok_or_else(|| unknown_value("visit.status", &status))?,
        channel: VisitChannel::parse(&channel).ok_or_else(|| unknown_value("visit.channel", &channel))?,
        department: row.try_get_by_index(6)?,
        doctor: row.try_get_by_index(7)?,
    })
}

/// The same of PostgreSQL, as its driver has it, and without asking again of each value what type its column is: that takes less
/// than half the time, and a ledger has a million of them.
fn postgres_row(row: &PgRow) -> Result<VisitRow> {
    fn value<'r, T: sqlx::Decode<'r, sqlx::Postgres>>(row: &'r PgRow, at: usize) -> Result<T> {
        row.try_get_unchecked(at)
            .map_err(|error| Error::Internal(format!("a visit cannot be read: {error}")))
    }
    let (status, channel): (&str, &str) = (value(row, 4)?, value(row, 5)?);
    Ok(VisitRow {
        id: value(row, 0)?,
        patient: value(row, 1)?,
        date: value::<chrono::NaiveDate>(row, 2)?.into(),
        scheduled_at: value::<Option<sea_orm::prelude::DateTimeUtc>>(row, 3)?.map(|at| at.timestamp_micros()),
        status: VisitStatus::parse(status).ok_or_else(|| unknown_value("visit.status", status))?,
        channel: VisitChannel::parse(channel).ok_or_else(|| unknown_value("visit.channel", channel))?,
        department: value(row, 6)?,
        doctor: value(row, 7)?,
    })
}

/// A visit of a run, as `read_runs` has it written.
fn run_row(text: &str) -> Option<VisitRow> {
    let mut values = text.splitn(8, ',');
    let mut next = || values.next();
    let optional = |text: &str| {
        if text.is_empty() {
            Some(None)
        } else {
            text.parse().ok().map(Some)
        }
    };
    Some(VisitRow {
        id: next()?.parse().ok()?,
        patient: next()?.parse().ok()?,
        date: next()?.parse::<chrono::NaiveDate>().ok()?.into(),
        status: VisitStatus::parse(next()?)?,
        channel: VisitChannel::parse(next()?)?,
        department: optional(next()?)?,
        doctor: optional(next()?)?,
        scheduled_at: ScheduledAt::read(next()?).map(ScheduledAt::micros),
    })
}

/// Names the visit that cannot be read, and nothing else of it.
fn unreadable(visit: &str) -> Error {
    let id: String = visit.chars().take_while(char::is_ascii_digit).collect();
    Error::Internal(format!("the visit {id} holds a value that cannot be read"))
}

fn restrict(sql: &mut Sql, query: &VisitQuery) {
    if let Some(ids) = &query.departments {
        sql.push(" AND v.department_id").numbers(ids);
    }
    if let Some(ids) = &query.doctors {
        sql.push(" AND v.doctor_id").numbers(ids);
    }
    if let Some(channels) = &query.channels {
        let words: Vec<&str> = channels.iter().map(|channel| channel.as_str()).collect();
        sql.push(" AND v.channel").texts(&words);
    }
    if let Some(statuses) = &query.statuses {
        let words: Vec<&str> = statuses.iter().map(|status| status.as_str()).collect();
        sql.push(" AND v.status").texts(&words);
    }
    if let Some(range) = query.dates {
        sql.push(" AND v.date BETWEEN ").bind(range.from.date());
        sql.push(" AND ").bind(range.to.date());
    }
}

/// A sort key as text, so that a cursor can carry it.
fn as_text(store: &Store, expression: &str, key: VisitKey) -> String {
    match (store.readers.get_database_backend(), key) {
        (DbBackend::MySql, VisitKey::Status) => format!("CAST({expression} AS CHAR)"),
        (_, VisitKey::PatientName) => expression.to_owned(),
        (DbBackend::MySql, _) => format!("DATE_FORMAT({expression}, '%Y-%m-%d')"),
        _ => format!("CAST({expression} AS TEXT)"),
    }
}
/// Orders by an expression, nulls last in either direction, and then by id. What is never null may follow an index.
pub(super) fn order_sql(expression: &str, nullable: bool, id: &str, descending: bool, backwards: bool) -> String {
    let turned = |descending: bool| if descending == backwards { "ASC" } else { "DESC" };
    let (key, ties) = (turned(descending), turned(false));
    let nulls = if nullable {
        format!("CASE WHEN {expression} IS NULL THEN 1 ELSE 0 END {ties}, ")
    } else {
        String::new()
    };
    format!("{nulls}{expression} {key}, {id} {ties}")
}

/// Restricts to rows past a point, orders and limits.
pub(super) fn seek_sql(
    sql: &mut Sql,
    expression: &str,
    nullable: bool,
    id: &str,
    seek: &Keyset<Option<String>>,
    bind: impl Fn(&mut Sql, &str),
) {
    if let Some((key, from)) = &seek.from {
        let past_key = if seek.descending == seek.backwards { ">" } else { "<" };
        let past_id = if seek.backwards { "<" } else { ">" };
        match key {
            Some(key) if nullable => {
                sql.push(&format!(" AND ({expression} {past_key} "));
                bind(sql, key);
                sql.push(&format!(" OR ({expression} = "));
                bind(sql, key);
                sql.push(&format!(" AND {id} {past_id} ")).bind(*from).push(")");
                if !seek.backwards {
                    sql.push(&format!(" OR {expression} IS NULL"));
                }
                sql.push(")");
            }
            Some(key) => {
                // An index finds the first of the two at once.
                sql.push(&format!(" AND {expression} {past_key}= "));
                bind(sql, key);
                sql.push(&format!(" AND ({expression} {past_key} "));
                bind(sql, key);
                sql.push(&format!(" OR {id} {past_id} ")).bind(*from).push(")");
            }
            None => {
                sql.push(&format!(" AND (({expression} IS NULL AND {id} {past_id} "))
                    .bind(*from)
                    .push(")");
                if seek.backwards {
                    sql.push(&format!(" OR {expression} IS NOT NULL"));
                }
                sql.push(")");
            }
        }
    }
    sql.push(" ORDER BY ")
        .push(&order_sql(expression, nullable, id, seek.descending, seek.backwards));
    // In the text: with a limit that it does not know yet, PostgreSQL plans each time anew.
    sql.push(&format!(" LIMIT {}", seek.limit));
}

pub(super) fn one_count(row: Option<QueryResult>) -> Result<u64> {
    let count: i64 = match row {
        Some(row) => row.try_get_by_index(0)?,
        None => 0,
    };
    Ok(count.unsigned_abs())
}
