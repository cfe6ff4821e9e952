//! Changes of visits.

use chrono::{DateTime, NaiveDate, Utc};
use chrono_tz::Tz;
use entity::scheduled_at::ScheduledAt;
use entity::visit;
use sea_orm::ActiveValue::{Set, Unchanged};
use sea_orm::{ActiveModelTrait as _, ConnectionTrait as _, EntityTrait};

use super::{CommandTx, check_version};
use crate::error::{Error, Result};
use crate::records::{Patch, VisitChange, moved_to};
use crate::statistics::{Day, VisitChannel, VisitStatus};

impl CommandTx<'_> {
    pub(super) async fn record_visit(&self, change: &VisitChange) -> Result<i64> {
        let new = visit::Model {
            hospital_id: self.hospital,
            id: 0,
            visit_no: None,
            patient_id: change
                .patient
                .ok_or_else(|| Error::input("input.patientId", "a visit has one"))?,
            // As it will be.
            date: NaiveDate::default(),
            scheduled_at: None,
            status: VisitStatus::Booked.as_str().to_owned(),
            department_id: None,
            doctor_id: None,
            channel: VisitChannel::Other.as_str().to_owned(),
            version: 1,
        };
        self.active_patient("input.patientId", new.patient_id).await?;
        let (date, scheduled_at) = self.when(None, change).await?;
        let row = self.visit_after(new, change, date, scheduled_at).await?;
        self.refuse_too_early(&row, change).await?;
        let columns = [
            ("visit_no", row.visit_no.into()),
            ("patient_id", row.patient_id.into()),
            ("date", row.date.into()),
            ("scheduled_at", row.scheduled_at.into()),
            ("status", row.status.into()),
            ("department_id", row.department_id.into()),
            ("doctor_id", row.doctor_id.into()),
            ("channel", row.channel.into()),
            ("version", row.version.into()),
        ];
        self.insert("visit", &columns).await
    }

    pub(super) async fn change_visit(
        &self,
        id: i64,
        version: i32,
        change: &VisitChange,
        has_reason: bool,
    ) -> Result<i64> {
        let row = self.visit(id, version).await?;
        let (date, scheduled_at) = self.when(Some(&row), change).await?;
        let wanted = self.visit_after(row.clone(), change, date, scheduled_at).await?;
        if wanted == row {
            return Ok(id);
        }
        // What an import or SQL recorded so may still be changed in other ways.
        if wanted.status != row.status || wanted.date != row.date {
            self.refuse_too_early(&wanted, change).await?;
        }
        let over = VisitStatus::parse(&row.status).is_some_and(VisitStatus::is_over);
        if over && !has_reason {
            return Err(Error::input(
                "input.reason",
                format!("this visit is {}: say why what was counted is corrected", row.status),
            ));
        }
        if wanted.patient_id != row.patient_id {
            self.active_patient("input.patientId", wanted.patient_id).await?;
        }
        let mut changed = visit::ActiveModel::from(wanted).reset_all();
        changed.hospital_id = Unchanged(self.hospital);
        changed.id = Unchanged(id);
        changed.version = Set(row.version + 1);
        changed.update(&self.transaction).await?;
        Ok(id)
    }

    /// The day and the time of the visit as they will be. A day alone takes the time of day along, a time alone its day.
    async fn when(&self, row: Option<&visit::Model>, change: &VisitChange) -> Result<(NaiveDate, Option<ScheduledAt>)> {
        let kept = match change.scheduled_at {
            Patch::Keep => row.and_then(|row| row.scheduled_at),
            _ => None,
        };
        let before = row.map(|row| row.date);
        match (change.date.or(before), &change.scheduled_at, kept) {
            (_, Patch::Put(at), _) => {
                let date = day_of(*at, self.time_zone().await?, change.date)?;
                Ok((date, Some(ScheduledAt(*at))))
            }
            (Some(date), _, Some(at)) if before != Some(date) => {
                let zone = self.time_zone().await?;
                let moved = moved_to(at.0, date, zone).ok_or_else(|| {
                    let message = format!("the clocks of {zone} skipped this day: say scheduledAt as well");
                    Error::input("input.date", message)
                })?;
                Ok((date, Some(ScheduledAt(moved))))
            }
            (Some(date), ..) => Ok((date, kept)),
            (None, ..) => Err(Error::input("input.date", "either date or scheduledAt is needed")),
        }
    }

    /// Refuses a status that a visit has from its day on, in the hospital's time zone, where that day is still to come.
    async fn refuse_too_early(&self, row: &visit::Model, change: &VisitChange) -> Result<()> {
        if !VisitStatus::parse(&row.status).is_some_and(VisitStatus::needs_its_day) {
            return Ok(());
        }
        let today = Utc::now().with_timezone(&self.time_zone().await?).date_naive();
        if row.date <= today {
            return Ok(());
        }
        let argument = if change.status.is_some() {
            "input.status"
        } else {
            "input.date"
        };
        let message = format!("a visit cannot be {} before its day, {}", row.status, row.date);
        Err(Error::input(argument, message))
    }

    async fn time_zone(&self) -> Result<Tz> {
        let state = self
            .store
            .hospital_state_in(&self.transaction, self.hospital, 0)
            .await?;
        Ok(state.time_zone)
    }

    /// The row as it will be.
    async fn visit_after(
        &self,
        row: visit::Model,
        change: &VisitChange,
        date: NaiveDate,
        scheduled_at: Option<ScheduledAt>,
    ) -> Result<visit::Model> {
        let mut wanted = row.clone();
        if let Some(Some(visit_no)) = change.visit_no.given() {
            self.refuse_taken("visit", "visit_no", "input.visitNo", visit_no, row.id)
                .await?;
        }
        change.visit_no.apply(&mut wanted.visit_no);
        change.department.apply(&mut wanted.department_id);
        change.doctor.apply(&mut wanted.doctor_id);
        if wanted.department_id != row.department_id {
            self.refuse_retired("department", "input.departmentId", wanted.department_id)
                .await?;
        }
        if wanted.doctor_id != row.doctor_id {
            self.refuse_retired("doctor", "input.doctorId", wanted.doctor_id)
                .await?;
        }
        wanted.patient_id = change.patient.unwrap_or(row.patient_id);
        wanted.date = date;
        wanted.scheduled_at = scheduled_at;
        if let Some(status) = change.status {
            status.as_str().clone_into(&mut wanted.status);
        }
        if let Some(channel) = change.channel {
            channel.as_str().clone_into(&mut wanted.channel);
        }
        Ok(wanted)
    }

    async fn refuse_retired(&self, table: &str, argument: &str, id: Option<i64>) -> Result<()> {
        let Some(id) = id else { return Ok(()) };
        let mut sql = self.store.sql(&format!("SELECT id FROM {table} WHERE hospital_id = "));
        sql.bind(self.hospital).push(" AND id = ").bind(id);
        sql.push(" AND retired_at IS NOT NULL");
        if self.transaction.query_one_raw(sql.done()).await?.is_some() {
            return Err(Error::input(argument, format!("this {table} is retired")));
        }
        Ok(())
    }

    async fn visit(&self, id: i64, version: i32) -> Result<visit::Model> {
        let found = visit::Entity::find_by_id((self.hospital, id))
            .one(&self.transaction)
            .await?;
        let row = found.ok_or_else(|| Error::unknown_id("input.id", "visit"))?;
        check_version("the visit", version, row.version)?;
        Ok(row)
    }

    pub(super) async fn delete_visit(&self, id: i64, version: i32) -> Result<i64> {
        self.visit(id, version).await?;
        visit::Entity::delete_by_id((self.hospital, id))
            .exec(&self.transaction)
            .await?;
        Ok(id)
    }
}

/// The day of an instant, which is the one that is given beside it.
fn day_of(at: DateTime<Utc>, zone: Tz, given: Option<NaiveDate>) -> Result<NaiveDate> {
    let date = at.with_timezone(&zone).date_naive();
    if !Day::accepts(date) {
        let message = format!("{date} lies outside {} to {}", Day::MIN, Day::MAX);
        return Err(Error::input("input.scheduledAt", message));
    }
    match given {
        Some(given) if given != date => {
            let message = format!(
                "input.date is {given}, and input.scheduledAt lies on {date} in {zone}: leave one of the two out, or say the same day"
            );
            Err(Error::input("input.scheduledAt", message))
        }
        _ => Ok(date),
    }
}
