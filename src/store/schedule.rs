//! When doctors see patients: working hours, absences, and the visits that take their time.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};
use entity::scheduled_at::ScheduledAt;
use entity::{absence, visit};
use scheduling::{Interval, Schedule, TimeOfDay, Weekday, WorkingHours, is_occupying};
use sea_orm::{ConnectionTrait, DbBackend, EntityTrait as _, FromQueryResult as _, QueryResult};

use super::Store;
use super::model::{Visit, stored};
use super::sql::Sql;
use super::visit::{COLUMNS, status_sql};
use crate::error::Result;
use crate::records::rules::MAX_DURATION_MINUTES;
use crate::statistics::VisitStatus;

/// A doctor's weekly hours, and how long a slot is.
#[derive(Clone, Debug)]
pub struct DoctorHours {
    /// By weekday and time. Empty: bookings are not bound to hours.
    pub hours: Vec<WorkingHours>,
    /// The doctor's, or else the hospital's.
    pub slot_minutes: i32,
}

/// What a doctor's slots in a time follow from.
#[derive(Clone, Debug)]
pub struct DoctorSchedule {
    pub hours: DoctorHours,
    /// Absences of the doctor and closures of the hospital.
    pub absences: Vec<Interval>,
    /// What takes the doctor's time.
    pub occupied: Vec<Interval>,
}

impl DoctorSchedule {
    /// The slots, in the hospital's time zone.
    #[must_use]
    pub fn schedule(&self, zone: chrono_tz::Tz) -> Schedule<'_> {
        let minutes = self.hours.slot_minutes.unsigned_abs();
        Schedule::new(zone, &self.hours.hours, minutes, &self.absences, &self.occupied)
    }
}

/// Whose time is meant.
#[derive(Clone, Copy, Debug)]
pub(super) enum TimeOf<'a> {
    Doctors(&'a [i64]),
    Patient(i64),
}

/// The time that a visit takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct OccupiedTime {
    pub(super) visit: i64,
    pub(super) doctor: Option<i64>,
    pub(super) interval: Interval,
}

/// When a doctor is away, or the hospital is closed.
#[derive(Clone, Debug)]
pub struct Absence {
    pub id: i64,
    /// None: the whole hospital.
    pub doctor: Option<i64>,
    pub starts: DateTime<Utc>,
    pub ends: DateTime<Utc>,
    pub reason: Option<String>,
}

impl Absence {
    /// Whether a visit with this doctor, or with none, cannot take place during it.
    #[must_use]
    pub fn concerns(&self, doctor: Option<i64>) -> bool {
        self.doctor.is_none() || self.doctor == doctor
    }

    /// None where it was stored by SQL and ends before it starts.
    #[must_use]
    pub fn interval(&self) -> Option<Interval> {
        Interval::new(self.starts, self.ends)
    }
}

impl From<absence::Model> for Absence {
    fn from(row: absence::Model) -> Self {
        Self {
            id: row.id,
            doctor: row.doctor_id,
            starts: row.starts,
            ends: row.ends,
            reason: row.reason,
        }
    }
}

/// Visits that may take time while they have one of these statuses: the condition of the indexes by doctor and by patient.
pub(super) fn occupying_sql() -> String {
    let status = status_sql(|status| is_occupying(status, None, DateTime::UNIX_EPOCH));
    format!("v.scheduled_at IS NOT NULL AND v.{status}")
}

/// The time that a visit takes; none where it has no time of day, or is not among those that take time now.
fn occupied_time(row: &QueryResult, now: DateTime<Utc>) -> Result<Option<Interval>> {
    let status: String = row.try_get("", "status")?;
    let status = stored("visit.status", VisitStatus::parse(&status))?;
    let starts: Option<ScheduledAt> = row.try_get("", "scheduled_at")?;
    let minutes: i32 = row.try_get("", "minutes")?;
    let expires_at: Option<DateTime<Utc>> = row.try_get("", "expires_at")?;
    let starts = starts.filter(|_| is_occupying(status, expires_at, now));
    let interval = |starts: DateTime<Utc>| {
        let ends = starts.checked_add_signed(TimeDelta::minutes(minutes.into()))?;
        Interval::new(starts, ends)
    };
    Ok(starts.and_then(|starts| interval(starts.0)))
}

impl Store {
    /// The hours of each of these doctors.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn doctor_hours(&self, hospital: i64, doctors: &[i64]) -> Result<HashMap<i64, DoctorHours>> {
        self.doctor_hours_in(&self.readers, hospital, doctors).await
    }

    pub(super) async fn doctor_hours_in(
        &self,
        connection: &impl ConnectionTrait,
        hospital: i64,
        doctors: &[i64],
    ) -> Result<HashMap<i64, DoctorHours>> {
        let mut sql = self.sql(
            "SELECT o.id, COALESCE(o.slot_minutes, h.slot_minutes) AS minutes, w.weekday, w.from_time, w.to_time
            FROM doctor o JOIN hospital h ON h.id = o.hospital_id
            LEFT JOIN working_hours w ON w.hospital_id = o.hospital_id AND w.doctor_id = o.id
            WHERE o.hospital_id = ",
        );
        sql.bind(hospital).push(" AND o.id").numbers(doctors);
        let time = |column: &str, text: &str| stored(column, text.parse::<TimeOfDay>().ok());
        let mut found: HashMap<i64, DoctorHours> = HashMap::new();
        for row in connection.query_all_raw(sql.done()).await? {
            let slot_minutes = row.try_get("", "minutes")?;
            let hours = Vec::new();
            let of_doctor = found.entry(row.try_get("", "id")?);
            let of_doctor = of_doctor.or_insert(DoctorHours { hours, slot_minutes });
            if let Some(weekday) = row.try_get::<Option<String>>("", "weekday")? {
                let (from, to): (String, String) = (row.try_get("", "from_time")?, row.try_get("", "to_time")?);
                of_doctor.hours.push(WorkingHours {
                    weekday: stored("working_hours.weekday", Weekday::parse(&weekday))?,
                    from: time("working_hours.from_time", &from)?,
                    to: time("working_hours.to_time", &to)?,
                });
            }
        }
        for of_doctor in found.values_mut() {
            of_doctor.hours.sort_unstable();
        }
        Ok(found)
    }

    /// The absences of doctors and the closures that touch this time, in the order in which they start.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn absences(&self, hospital: i64, during: Interval) -> Result<Vec<Absence>> {
        self.absences_in(&self.readers, hospital, during).await
    }

    pub(super) async fn absences_in(
        &self,
        connection: &impl ConnectionTrait,
        hospital: i64,
        during: Interval,
    ) -> Result<Vec<Absence>> {
        let mut sql = self.sql("SELECT * FROM absence WHERE hospital_id = ");
        sql.bind(hospital);
        if sql.backend() == DbBackend::Sqlite {
            // SQL may have written these instants in another form.
            sql.push(" AND unixepoch(ends) >= ").bind(during.starts().timestamp());
            sql.push(" AND unixepoch(starts) <= ").bind(during.ends().timestamp());
        } else {
            sql.push(" AND ends > ").bind(during.starts());
            sql.push(" AND starts < ").bind(during.ends());
        }
        let mut found = Vec::new();
        for row in connection.query_all_raw(sql.done()).await? {
            let absence = Absence::from(absence::Model::from_query_result(&row, "")?);
            if absence.interval().is_some_and(|interval| interval.overlaps(&during)) {
                found.push(absence);
            }
        }
        found.sort_by_key(|absence| (absence.starts, absence.id));
        Ok(found)
    }

    /// The absence or closure with this id.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn absence(&self, hospital: i64, id: i64) -> Result<Option<Absence>> {
        let found = absence::Entity::find_by_id((hospital, id)).one(&self.readers).await?;
        Ok(found.map(Absence::from))
    }

    /// What the slots of each of these doctors follow from during this time.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn doctor_schedules(
        &self,
        hospital: i64,
        doctors: &[i64],
        during: Interval,
    ) -> Result<HashMap<i64, DoctorSchedule>> {
        self.doctor_schedules_in(&self.readers, hospital, doctors, during).await
    }

    pub(super) async fn doctor_schedules_in(
        &self,
        connection: &impl ConnectionTrait,
        hospital: i64,
        doctors: &[i64],
        during: Interval,
    ) -> Result<HashMap<i64, DoctorSchedule>> {
        let hours = self.doctor_hours_in(connection, hospital, doctors).await?;
        let absences = self.absences_in(connection, hospital, during).await?;
        let mut occupied: HashMap<i64, Vec<Interval>> = HashMap::new();
        for time in self
            .occupied_in(connection, hospital, TimeOf::Doctors(doctors), during)
            .await?
        {
            if let Some(doctor) = time.doctor {
                occupied.entry(doctor).or_default().push(time.interval);
            }
        }
        let schedule = |(doctor, hours): (i64, DoctorHours)| {
            let absences = absences.iter().filter(|absence| absence.concerns(Some(doctor)));
            let schedule = DoctorSchedule {
                hours,
                absences: absences.filter_map(Absence::interval).collect(),
                occupied: occupied.remove(&doctor).unwrap_or_default(),
            };
            (doctor, schedule)
        };
        Ok(hours.into_iter().map(schedule).collect())
    }

    /// The time that visits take of these doctors or of the patient, as far as it overlaps with this time.
    pub(super) async fn occupied_in(
        &self,
        connection: &impl ConnectionTrait,
        hospital: i64,
        of: TimeOf<'_>,
        during: Interval,
    ) -> Result<Vec<OccupiedTime>> {
        let mut sql = self.occupying("v.id, v.doctor_id, v.status, v.scheduled_at, v.expires_at", hospital);
        match of {
            TimeOf::Doctors(doctors) => sql.push(" AND v.doctor_id").numbers(doctors),
            TimeOf::Patient(patient) => sql.push(" AND v.patient_id = ").bind(patient),
        };
        self.add_time(&mut sql, during);
        let now = self.now();
        let mut occupied = Vec::new();
        for row in connection.query_all_raw(sql.done()).await? {
            if let Some(interval) = occupied_time(&row, now)?.filter(|time| time.overlaps(&during)) {
                occupied.push(OccupiedTime {
                    visit: row.try_get("", "id")?,
                    doctor: row.try_get("", "doctor_id")?,
                    interval,
                });
            }
        }
        Ok(occupied)
    }

    /// The bookings, TENTATIVE and not lapsed or BOOKED, with the time that they take, that start within `during`: a doctor's, or all of the
    /// hospital. By time.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn bookings(
        &self,
        hospital: i64,
        doctor: Option<i64>,
        during: Interval,
    ) -> Result<Vec<(Visit, Interval)>> {
        let mut sql = self.occupying(COLUMNS, hospital);
        match doctor {
            Some(doctor) => sql.push(" AND v.doctor_id = ").bind(doctor),
            // The index by date, with a day more at each end: dates are local.
            None => {
                let day = TimeDelta::days(1);
                let first = during.starts().checked_sub_signed(day).unwrap_or(during.starts());
                let last = during.ends().checked_add_signed(day).unwrap_or(during.ends());
                sql.push(" AND v.date BETWEEN ").bind(first.date_naive());
                sql.push(" AND ").bind(last.date_naive())
            }
        };
        self.add_time(&mut sql, during);
        let now = self.now();
        let mut found = Vec::new();
        for row in self.readers.query_all_raw(sql.done()).await? {
            let Some(time) = occupied_time(&row, now)? else {
                continue;
            };
            let visit = Visit::try_from(visit::Model::from_query_result(&row, "")?)?;
            let is_booking = matches!(visit.status, VisitStatus::Tentative | VisitStatus::Booked);
            if is_booking && (during.starts()..during.ends()).contains(&time.starts()) {
                found.push((visit, time));
            }
        }
        found.sort_unstable_by_key(|(visit, time)| (time.starts(), visit.id));
        Ok(found)
    }

    /// A statement that selects these columns of visits that may take time, and `minutes`, how long they take.
    fn occupying(&self, columns: &str, hospital: i64) -> Sql {
        let mut sql = self.sql(&format!(
            "SELECT {columns}, COALESCE(v.duration_minutes, o.slot_minutes, h.slot_minutes) AS minutes
            FROM visit v JOIN hospital h ON h.id = v.hospital_id
            LEFT JOIN doctor o ON o.hospital_id = v.hospital_id AND o.id = v.doctor_id
            WHERE {} AND v.hospital_id = ",
            occupying_sql()
        ));
        sql.bind(hospital);
        sql
    }

    /// Adds the condition that a visit may overlap with this time, as the indexes have it: some may not.
    fn add_time(&self, sql: &mut Sql, during: Interval) {
        let longest = TimeDelta::minutes(MAX_DURATION_MINUTES.into());
        let from = during.starts().checked_sub_signed(longest).unwrap_or(during.starts());
        if sql.backend() == DbBackend::Sqlite {
            sql.push(" AND unixepoch(v.scheduled_at) BETWEEN ")
                .bind(from.timestamp());
            sql.push(" AND ").bind(during.ends().timestamp());
        } else {
            sql.push(" AND v.scheduled_at BETWEEN ").bind(from);
            sql.push(" AND ").bind(during.ends());
        }
    }
}
