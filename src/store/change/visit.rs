//! Changes of visits.

use entity::visit;
use sea_orm::ActiveValue::{Set, Unchanged};
use sea_orm::{ActiveModelTrait as _, ConnectionTrait as _, EntityTrait};

use super::{Making, check_version};
use crate::error::{Error, Result};
use crate::records::VisitChange;
use crate::statistics::{VisitChannel, VisitStatus};

impl Making<'_> {
    pub(super) async fn record_visit(&self, change: &VisitChange) -> Result<i64> {
        let missing = |argument: &str| Error::input(argument, "a visit has one");
        let new = visit::Model {
            hospital_id: self.hospital,
            id: 0,
            visit_no: None,
            patient_id: change.patient.ok_or_else(|| missing("input.patientId"))?,
            date: change.date.ok_or_else(|| missing("input.date"))?,
            scheduled_at: None,
            status: VisitStatus::Booked.word().to_owned(),
            department_id: None,
            doctor_id: None,
            channel: VisitChannel::Other.word().to_owned(),
            version: 1,
        };
        self.active_patient("input.patientId", new.patient_id).await?;
        let row = self.visit_after(new, change).await?;
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
        let wanted = self.visit_after(row.clone(), change).await?;
        if wanted == row {
            return Ok(id);
        }
        let over = VisitStatus::from_word(&row.status).is_some_and(VisitStatus::is_over);
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

    /// The row as it will be.
    async fn visit_after(&self, row: visit::Model, change: &VisitChange) -> Result<visit::Model> {
        let mut wanted = row.clone();
        if let Some(Some(visit_no)) = change.visit_no.given() {
            self.refuse_taken("visit", "visit_no", "input.visitNo", visit_no, row.id)
                .await?;
        }
        change.visit_no.apply(&mut wanted.visit_no);
        change.scheduled_at.apply(&mut wanted.scheduled_at);
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
        wanted.date = change.date.unwrap_or(row.date);
        if let Some(status) = change.status {
            status.word().clone_into(&mut wanted.status);
        }
        if let Some(channel) = change.channel {
            channel.word().clone_into(&mut wanted.channel);
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
