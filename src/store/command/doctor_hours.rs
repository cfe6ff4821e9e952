//! Sets a doctor's working hours.

use async_trait::async_trait;
use entity::{doctor, working_hours};
use scheduling::WorkingHours;
use sea_orm::ActiveValue::Set;
use sea_orm::{ActiveModelTrait as _, EntityTrait as _, IntoActiveModel as _};
use serde_json::json;

use super::digest::DigestFields;
use super::transaction::CommandTx;
use super::{Command, CommandInfo, Outcome};
use crate::error::{Error, Result};
use crate::permissions::Action;
use crate::records::Patch;

/// Replaces a doctor's hours. They must be valid.
#[derive(Clone, Debug)]
pub struct SetDoctorHours {
    pub doctor: i64,
    pub hours: Vec<WorkingHours>,
    pub slot_minutes: Patch<i32>,
}

impl SetDoctorHours {
    pub(super) const INFO: CommandInfo = CommandInfo {
        name: "setDoctorHours",
        mutation: Some("setDoctorHours"),
        action: Action::Administer,
        description: "to change the hours of doctors",
    };
}

#[async_trait]
impl Command for SetDoctorHours {
    fn info(&self) -> &'static CommandInfo {
        &Self::INFO
    }

    fn digest(&self, fields: &mut DigestFields) {
        let Self {
            doctor,
            hours,
            slot_minutes,
        } = self;
        let hours: Vec<_> = hours
            .iter()
            .map(|hours| json!([hours.weekday.as_str(), hours.from.minutes(), hours.to.minutes()]))
            .collect();
        fields
            .put("doctorId", doctor)
            .put("hours", hours)
            .patch("slotMinutes", slot_minutes, |minutes| json!(minutes));
    }

    async fn execute(&self, tx: &CommandTx<'_>) -> Result<Outcome> {
        let row = doctor::Entity::find_by_id((tx.hospital, self.doctor))
            .one(&tx.transaction)
            .await?;
        let row = row.ok_or_else(|| Error::unknown_id("input.doctorId", "doctor"))?;
        tx.refuse_retired("doctor", "input.doctorId", Some(row.id)).await?;
        if let Some(slot_minutes) = self.slot_minutes.given() {
            let mut changed = row.into_active_model();
            changed.slot_minutes = Set(slot_minutes.copied());
            changed.update(&tx.transaction).await?;
        }
        let mut sql = tx.store.sql("DELETE FROM working_hours WHERE hospital_id = ");
        sql.bind(tx.hospital).push(" AND doctor_id = ").bind(self.doctor);
        tx.run(sql).await?;
        let rows = self.hours.iter().map(|hours| working_hours::ActiveModel {
            hospital_id: Set(tx.hospital),
            doctor_id: Set(self.doctor),
            weekday: Set(hours.weekday.as_str().to_owned()),
            from_time: Set(hours.from.to_string()),
            to_time: Set(hours.to.to_string()),
        });
        if !self.hours.is_empty() {
            working_hours::Entity::insert_many(rows)
                .exec_without_returning(&tx.transaction)
                .await?;
        }
        Ok(Outcome::record(self.doctor))
    }
}
