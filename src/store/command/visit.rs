//! Changes of visits.

use chrono::Utc;
use chrono_tz::Tz;
use entity::scheduled_at::ScheduledAt;
use entity::visit;
use sea_orm::ActiveValue::{Set, Unchanged};
use sea_orm::{ActiveModelTrait as _, ConnectionTrait as _, EntityTrait};

use super::{CommandTx, check_version};
use crate::error::{Error, Result};
use crate::records::{Patch, VisitDraft};
use crate::statistics::VisitStatus;
use crate::store::draft::{new_visit, visit_with};

impl CommandTx<'_> {
    pub(super) async fn record_visit(&self, draft: &VisitDraft<i64>) -> Result<i64> {
        let patient = draft
            .patient
            .ok_or_else(|| Error::input("input.patientId", "is needed"))?;
        self.active_patient("input.patientId", patient).await?;
        let time_zone = self.time_zone().await?;
        let (date, scheduled_at) = draft.schedule(None, time_zone)?;
        let row = visit::Model {
            date,
            scheduled_at: scheduled_at.map(ScheduledAt),
            ..self.visit_after(&new_visit(self.hospital), draft).await?
        };
        refuse_too_early(&row, draft, time_zone)?;
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
        draft: &VisitDraft<i64>,
        has_reason: bool,
    ) -> Result<i64> {
        let row = self.visit(id, version).await?;
        let time_zone = self.time_zone().await?;
        let before = (row.date, row.scheduled_at.map(|at| at.0));
        let (date, scheduled_at) = draft.schedule(Some(before), time_zone)?;
        let wanted = visit::Model {
            date,
            scheduled_at: scheduled_at.map(ScheduledAt),
            ..self.visit_after(&row, draft).await?
        };
        if wanted == row {
            return Ok(id);
        }
        // A future visit that an import or SQL recorded as over can still be changed in other ways.
        if wanted.status != row.status || wanted.date != row.date {
            refuse_too_early(&wanted, draft, time_zone)?;
        }
        let over = VisitStatus::parse(&row.status).is_some_and(VisitStatus::is_over);
        if over && !has_reason {
            return Err(Error::input(
                "input.reason",
                format!("this visit is {}: a reason for correcting it is needed", row.status),
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

    async fn time_zone(&self) -> Result<Tz> {
        let state = self
            .store
            .hospital_state_in(&self.transaction, self.hospital, 0)
            .await?;
        Ok(state.time_zone)
    }

    /// The row with the draft's values, but for the schedule, which depends on the time zone.
    async fn visit_after(&self, row: &visit::Model, draft: &VisitDraft<i64>) -> Result<visit::Model> {
        if let Patch::Put(visit_no) = &draft.visit_no {
            self.refuse_taken("visit", "visit_no", "input.visitNo", visit_no, row.id)
                .await?;
        }
        let wanted = visit_with(row, draft);
        if wanted.department_id != row.department_id {
            self.refuse_retired("department", "input.departmentId", wanted.department_id)
                .await?;
        }
        if wanted.doctor_id != row.doctor_id {
            self.refuse_retired("doctor", "input.doctorId", wanted.doctor_id)
                .await?;
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

/// Refuses a status that a visit can have from its day on, while that day is still to come in the hospital's time zone.
fn refuse_too_early(row: &visit::Model, draft: &VisitDraft<i64>, time_zone: Tz) -> Result<()> {
    if !VisitStatus::parse(&row.status).is_some_and(VisitStatus::needs_its_day) {
        return Ok(());
    }
    let today = Utc::now().with_timezone(&time_zone).date_naive();
    if row.date <= today {
        return Ok(());
    }
    let argument = if draft.status.is_some() {
        "input.status"
    } else {
        "input.date"
    };
    let message = format!("a visit cannot be {} before its day, {}", row.status, row.date);
    Err(Error::input(argument, message))
}
