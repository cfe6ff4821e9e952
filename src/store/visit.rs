//! Visits as rows: by id, in pages, and of patients.

use std::collections::HashMap;

use entity::{visit, visit_tombstone};
use scheduling::{is_past_check_in, moves_freely};
use sea_orm::{ConnectionTrait, DbBackend, FromQueryResult, QueryResult};
use string_enum::string_enum;

use super::keyset::{order_sql, seek_sql};
use super::model::{Department, Doctor, Visit};
use super::sql::{IDS_PER_STATEMENT, Sql, one_count};
use super::{Keyset, Revision, Store};
use crate::error::Result;
use crate::statistics::{CountedVisit, DayRange, VisitChannel, VisitStatus};

/// The condition that a visit was attended; a table's alias may precede it.
pub(super) fn attended_sql() -> String {
    status_sql(VisitStatus::attended)
}

/// The condition that a visit has a status for which this is true; a table's alias may precede it.
pub(super) fn status_sql(is_meant: impl Fn(VisitStatus) -> bool) -> String {
    let meant = VisitStatus::ALL.iter().filter(|&&status| is_meant(status));
    let statuses: Vec<String> = meant.map(|status| format!("'{}'", status.as_str())).collect();
    format!("status IN ({})", statuses.join(", "))
}

/// Which visits to list: those that meet all conditions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct VisitQuery {
    pub departments: Option<Vec<i64>>,
    pub doctors: Option<Vec<i64>>,
    pub channels: Option<Vec<VisitChannel>>,
    pub statuses: Option<Vec<VisitStatus>>,
    pub dates: Option<DayRange>,
}

string_enum!(
    /// What visits are ordered by; ties by id. Stored orders are named by these texts.
    VisitKey {
        Date = "Date",
        PatientName = "PatientName",
        Status = "Status",
        ScheduledAt = "ScheduledAt",
        CheckedInAt = "CheckedInAt",
    }
);

impl VisitKey {
    fn expression(self, backend: DbBackend, of_one_patient: bool) -> String {
        match self {
            Self::ScheduledAt => instant_sql(backend, "v.scheduled_at"),
            // A status that SQL wrote leaves the column as it was.
            Self::CheckedInAt => {
                let status = status_sql(is_past_check_in);
                instant_sql(backend, &format!("CASE WHEN v.{status} THEN v.checked_in_at END"))
            }
            Self::Date => "v.date".to_owned(),
            // All visits of one patient have the same name, so they are ordered by id.
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

/// An instant as text that sorts as it does. On SQLite instants may be written in several ways, and are compared by milliseconds.
fn instant_sql(backend: DbBackend, expression: &str) -> String {
    match backend {
        DbBackend::Sqlite => format!("strftime('%Y-%m-%dT%H:%M:%f', {expression})"),
        DbBackend::Postgres => {
            format!("to_char({expression} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US') COLLATE \"C\"")
        }
        _ => format!("DATE_FORMAT({expression}, '%Y-%m-%dT%H:%i:%s.%f')"),
    }
}

/// A row of a sorted list, and its sort key.
pub type KeyedVisit = (Visit, Option<String>);

/// A page at an end of each of several patients' lists of visits.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PatientVisitPage {
    pub query: VisitQuery,
    pub key: VisitKey,
    pub descending: bool,
    /// The last visits of the list instead of the first.
    pub backwards: bool,
    pub limit: u64,
}

/// A patient's first and last attended visit and the next one that is TENTATIVE or BOOKED.
#[derive(Clone, Debug, Default)]
pub struct PatientEnds {
    pub first: Option<Visit>,
    pub last: Option<Visit>,
    pub next: Option<Visit>,
}

/// A visit with its department and doctor.
#[derive(Clone, Debug)]
pub struct VisitDetails {
    pub visit: Visit,
    pub department: Option<Department>,
    pub doctor: Option<Doctor>,
}

impl VisitDetails {
    /// A visit whose row and tombstone are gone: only what was counted is left.
    #[must_use]
    pub fn gone(counted: &CountedVisit) -> Self {
        let (date, channel) = (counted.date.date(), VisitChannel::Other);
        Self {
            visit: Visit::deleted(counted.id, counted.patient, date, counted.status, channel),
            department: None,
            doctor: None,
        }
    }

    fn read(row: &QueryResult) -> Result<Self> {
        let visit = Visit::try_from(visit::Model::from_query_result(row, "")?)?;
        let department = match (visit.department, row.try_get("", "department_name")?) {
            (Some(id), Some(name)) => Some(Department {
                id,
                name,
                retired_at: row.try_get("", "department_retired_at")?,
            }),
            _ => None,
        };
        let doctor = match (visit.doctor, row.try_get("", "doctor_name")?) {
            (Some(id), Some(name)) => Some(Doctor {
                id,
                name,
                department: row.try_get("", "doctor_department_id")?,
                retired_at: row.try_get("", "doctor_retired_at")?,
                slot_minutes: row.try_get("", "doctor_slot_minutes")?,
            }),
            _ => None,
        };
        Ok(Self {
            visit,
            department,
            doctor,
        })
    }
}

pub(super) const COLUMNS: &str = "v.hospital_id, v.id, v.visit_no, v.patient_id, v.date, v.scheduled_at, v.status,
    v.department_id, v.doctor_id, v.channel, v.version, v.duration_minutes, v.checked_in_at, v.started_at, v.completed_at,
    v.expires_at, v.note";

impl Store {
    /// The visits with these ids, deleted ones as their tombstones; ids that never existed are left out.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn visits_by_id(&self, hospital: i64, ids: &[i64]) -> Result<HashMap<i64, VisitDetails>> {
        let mut sql = self.sql(&format!(
            "SELECT {COLUMNS}, d.name AS department_name, d.retired_at AS department_retired_at,
                o.name AS doctor_name, o.retired_at AS doctor_retired_at, o.department_id AS doctor_department_id,
                o.slot_minutes AS doctor_slot_minutes
            FROM visit v
            LEFT JOIN department d ON d.hospital_id = v.hospital_id AND d.id = v.department_id
            LEFT JOIN doctor o ON o.hospital_id = v.hospital_id AND o.id = v.doctor_id
            WHERE v.hospital_id = "
        ));
        sql.bind(hospital).push(" AND v.id").numbers(ids);
        let mut found = HashMap::with_capacity(ids.len());
        for row in self.readers.query_all_raw(sql.done()).await? {
            let visit = VisitDetails::read(&row)?;
            found.insert(visit.visit.id, visit);
        }
        if found.len() < ids.len() {
            let mut sql = self.sql("SELECT * FROM visit_tombstone WHERE hospital_id = ");
            sql.bind(hospital).push(" AND id").numbers(ids);
            for row in self.readers.query_all_raw(sql.done()).await? {
                let row = visit_tombstone::Model::from_query_result(&row, "")?;
                let visit = Visit::try_from(row)?;
                found.entry(visit.id).or_insert(VisitDetails {
                    visit,
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
        let expression = key.expression(self.readers.get_database_backend(), patient.is_some());
        let mut sql = self.sql(&format!(
            "SELECT {COLUMNS}, {} AS sort_key FROM visit v",
            key_as_text(self, &expression, key)
        ));
        if key == VisitKey::PatientName && patient.is_none() {
            sql.push(" JOIN patient p ON p.hospital_id = v.hospital_id AND p.id = v.patient_id");
        }
        sql.push(" WHERE v.hospital_id = ").bind(hospital);
        if let Some(patient) = patient {
            sql.push(" AND v.patient_id = ").bind(patient);
        }
        add_conditions(&mut sql, query);
        let bind = |sql: &mut Sql, value: &str| {
            match key {
                VisitKey::Date => sql.bind(value.parse::<chrono::NaiveDate>().ok()),
                VisitKey::Status => sql.bind(value.parse::<i32>().ok()),
                VisitKey::PatientName | VisitKey::ScheduledAt | VisitKey::CheckedInAt => sql.bind(value),
            };
        };
        seek_sql(&mut sql, &expression, key != VisitKey::Date, "v.id", seek, bind);
        let mut rows = Vec::new();
        for row in self.readers.query_all_raw(sql.done()).await? {
            let visit = visit::Model::from_query_result(&row, "")?;
            rows.push((Visit::try_from(visit)?, row.try_get("", "sort_key")?));
        }
        if seek.backwards {
            rows.reverse();
        }
        Ok(rows)
    }

    /// The current sort keys of these visits.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn visit_sort_keys(
        &self,
        hospital: i64,
        ids: &[i64],
        key: VisitKey,
    ) -> Result<HashMap<i64, Option<String>>> {
        let expression = key.expression(self.readers.get_database_backend(), true);
        let mut keys = HashMap::with_capacity(ids.len());
        // One view: rows may change between the statements.
        let view = self.read_view().await?;
        for ids in ids.chunks(IDS_PER_STATEMENT) {
            let mut sql = self.sql(&format!(
                "SELECT v.id, {} FROM visit v WHERE v.hospital_id = ",
                key_as_text(self, &expression, key)
            ));
            sql.bind(hospital).push(" AND v.id").numbers(ids);
            for row in view.query_all_raw(sql.done()).await? {
                keys.insert(row.try_get_by_index(0)?, row.try_get_by_index(1)?);
            }
        }
        view.commit().await?;
        Ok(keys)
    }

    /// The visits of a day that match, by time and id, those without a time last; at most `limit`. The revision is that of the
    /// rows.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn visits_of_day(
        &self,
        hospital: i64,
        query: &VisitQuery,
        limit: usize,
    ) -> Result<(Revision, Vec<Visit>)> {
        let view = self.read_view().await?;
        let state = self.hospital_state_in(&view, hospital, 0).await?;
        let mut sql = self.sql(&format!("SELECT {COLUMNS} FROM visit v WHERE v.hospital_id = "));
        sql.bind(hospital);
        add_conditions(&mut sql, query);
        sql.push(&format!(" LIMIT {limit}"));
        let mut visits = Vec::new();
        for row in view.query_all_raw(sql.done()).await? {
            visits.push(Visit::try_from(visit::Model::from_query_result(&row, "")?)?);
        }
        view.commit().await?;
        visits.sort_by_key(|visit| (visit.scheduled_at.is_none(), visit.scheduled_at, visit.id));
        Ok((state.revision, visits))
    }

    /// The number of the hospital's visits that match.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn visit_total(&self, hospital: i64, query: &VisitQuery) -> Result<u64> {
        if *query == VisitQuery::default() {
            return self.visit_count(hospital).await;
        }
        let mut sql = self.sql("SELECT COUNT(*) FROM visit v WHERE v.hospital_id = ");
        sql.bind(hospital);
        add_conditions(&mut sql, query);
        one_count(self.readers.query_one_raw(sql.done()).await?)
    }

    /// A page of the visits of each of these patients.
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
        let expression = key.expression(self.readers.get_database_backend(), true);
        let order = order_sql(&expression, key != VisitKey::Date, "v.id", descending, backwards);
        let key_text = key_as_text(self, &expression, key);
        let mut sql = self.sql("SELECT v.* FROM ");
        if sql.backend() == DbBackend::Postgres {
            // A lateral join takes two thirds of the time of a window function here.
            sql.push("unnest(").bind(patients.to_vec()).push(&format!(
                "::bigint[]) AS of (patient_id) CROSS JOIN LATERAL (
                    SELECT {COLUMNS}, {key_text} AS sort_key FROM visit v WHERE v.hospital_id = "
            ));
            sql.bind(hospital).push(" AND v.patient_id = of.patient_id");
            add_conditions(&mut sql, query);
            sql.push(&format!(
                " ORDER BY {order} LIMIT {limit}) v ORDER BY v.patient_id, {order}"
            ));
        } else {
            sql.push(&format!(
                "(SELECT {COLUMNS}, {key_text} AS sort_key,
                    ROW_NUMBER() OVER (PARTITION BY v.patient_id ORDER BY {order}) AS place
                FROM visit v WHERE v.hospital_id = "
            ));
            sql.bind(hospital).push(" AND v.patient_id").numbers(patients);
            add_conditions(&mut sql, query);
            sql.push(&format!(") v WHERE v.place <= {limit} ORDER BY v.patient_id, v.place"));
        }
        let mut lists: HashMap<i64, Vec<_>> = HashMap::new();
        for row in self.readers.query_all_raw(sql.done()).await? {
            let visit = Visit::try_from(visit::Model::from_query_result(&row, "")?)?;
            let key: Option<String> = row.try_get("", "sort_key")?;
            lists.entry(visit.patient).or_default().push((visit, key));
        }
        if backwards {
            for list in lists.values_mut() {
                list.reverse();
            }
        }
        Ok(lists)
    }

    /// The number of visits of each of these patients that match; a patient without any is left out.
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
        add_conditions(&mut sql, query);
        sql.push(" GROUP BY v.patient_id");
        self.counts(sql).await
    }

    /// The number of attended visits of each of these patients up to a day; a patient without any is left out.
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
        sql.push(&format!(" AND {} AND date <= ", attended_sql()))
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

    /// The first and last attended visit up to `today`, and the next TENTATIVE or BOOKED one from `today` on, of each of these
    /// patients.
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
        let (attended, open) = (attended_sql(), status_sql(moves_freely));
        let ends = [
            ("F", "ASC", attended.as_str(), "<="),
            ("L", "DESC", attended.as_str(), "<="),
            ("N", "ASC", open.as_str(), ">="),
        ];
        // All visits of the first or last day; the one of them is chosen below, by time and id.
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
            let visit = Visit::try_from(visit::Model::from_query_result(&row, "")?)?;
            let which: String = row.try_get("", "which")?;
            let entry = ends.entry(visit.patient).or_default();
            let (end, latest) = match which.as_str() {
                "F" => (&mut entry.first, false),
                "L" => (&mut entry.last, true),
                _ => (&mut entry.next, false),
            };
            let position = |visit: &Visit| (visit.scheduled_at.map(|at| at.timestamp_micros()), visit.id);
            if end
                .as_ref()
                .is_none_or(|found| (position(&visit) > position(found)) == latest)
            {
                *end = Some(visit);
            }
        }
        Ok(ends)
    }
}

/// Adds the conditions of a query to a statement that ends in a `WHERE` clause.
fn add_conditions(sql: &mut Sql, query: &VisitQuery) {
    if let Some(ids) = &query.departments {
        sql.push(" AND v.department_id").numbers(ids);
    }
    if let Some(ids) = &query.doctors {
        sql.push(" AND v.doctor_id").numbers(ids);
    }
    if let Some(channels) = &query.channels {
        let names: Vec<&str> = channels.iter().map(|channel| channel.as_str()).collect();
        sql.push(" AND v.channel").texts(&names);
    }
    if let Some(statuses) = &query.statuses {
        let names: Vec<&str> = statuses.iter().map(|status| status.as_str()).collect();
        sql.push(" AND v.status").texts(&names);
    }
    if let Some(range) = query.dates {
        sql.push(" AND v.date BETWEEN ").bind(range.from.date());
        sql.push(" AND ").bind(range.to.date());
    }
}

/// The SQL of a sort key as text, which cursors contain.
fn key_as_text(store: &Store, expression: &str, key: VisitKey) -> String {
    match (store.readers.get_database_backend(), key) {
        (DbBackend::MySql, VisitKey::Status) => format!("CAST({expression} AS CHAR)"),
        (_, VisitKey::PatientName | VisitKey::ScheduledAt | VisitKey::CheckedInAt) => expression.to_owned(),
        (DbBackend::MySql, _) => format!("DATE_FORMAT({expression}, '%Y-%m-%d')"),
        _ => format!("CAST({expression} AS TEXT)"),
    }
}
