//! Adds and removes absences of doctors and closures of the hospital.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use entity::{absence, doctor};
use sea_orm::EntityTrait as _;

use super::digest::{DigestFields, instant};
use super::transaction::CommandTx;
use super::{Command, CommandInfo, Outcome};
use crate::error::{Error, Result};
use crate::permissions::Action;

const DESCRIPTION: &str = "to change absences";

/// A closure is for those who administer.
fn require_for(tx: &CommandTx<'_>, doctor: Option<i64>) -> Result<()> {
    match doctor {
        Some(_) => Ok(()),
        None => tx.require(Action::Administer, "to close the hospital, or to open it again,"),
    }
}

/// Adds an absence, which must end after it starts.
#[derive(Clone, Debug)]
pub struct AddAbsence {
    /// None: the whole hospital is closed.
    pub doctor: Option<i64>,
    pub starts: DateTime<Utc>,
    pub ends: DateTime<Utc>,
    pub reason: Option<String>,
}

impl AddAbsence {
    pub(super) const INFO: CommandInfo = CommandInfo {
        name: "addAbsence",
        mutation: Some("addAbsence"),
        action: Action::ChangeAbsences,
        description: DESCRIPTION,
    };
}

#[async_trait]
impl Command for AddAbsence {
    fn info(&self) -> &'static CommandInfo {
        &Self::INFO
    }

    fn digest(&self, fields: &mut DigestFields) {
        let Self {
            doctor,
            starts,
            ends,
            reason,
        } = self;
        fields
            .put_some("doctorId", doctor)
            .put("starts", instant(starts))
            .put("ends", instant(ends))
            .put_some("reason", reason);
    }

    async fn execute(&self, tx: &CommandTx<'_>) -> Result<Outcome> {
        require_for(tx, self.doctor)?;
        if let Some(id) = self.doctor {
            let known = doctor::Entity::find_by_id((tx.hospital, id))
                .one(&tx.transaction)
                .await?;
            known.ok_or_else(|| Error::unknown_id("input.doctorId", "doctor"))?;
            tx.refuse_retired("doctor", "input.doctorId", Some(id)).await?;
        }
        let columns = [
            ("doctor_id", self.doctor.into()),
            ("starts", self.starts.into()),
            ("ends", self.ends.into()),
            ("reason", self.reason.clone().into()),
        ];
        Ok(Outcome::record(tx.insert("absence", &columns).await?))
    }
}

#[derive(Clone, Debug)]
pub struct RemoveAbsence {
    pub id: i64,
}

impl RemoveAbsence {
    pub(super) const INFO: CommandInfo = CommandInfo {
        name: "removeAbsence",
        mutation: Some("removeAbsence"),
        action: Action::ChangeAbsences,
        description: DESCRIPTION,
    };
}

#[async_trait]
impl Command for RemoveAbsence {
    fn info(&self) -> &'static CommandInfo {
        &Self::INFO
    }

    fn digest(&self, fields: &mut DigestFields) {
        let Self { id } = self;
        fields.put("id", id);
    }

    async fn execute(&self, tx: &CommandTx<'_>) -> Result<Outcome> {
        let row = absence::Entity::find_by_id((tx.hospital, self.id))
            .one(&tx.transaction)
            .await?;
        let row = row.ok_or_else(|| Error::unknown_id("input.id", "absence"))?;
        require_for(tx, row.doctor_id)?;
        let mut sql = tx.store.sql("DELETE FROM absence WHERE hospital_id = ");
        sql.bind(tx.hospital).push(" AND id = ").bind(self.id);
        tx.run(sql).await?;
        Ok(Outcome::record(self.id))
    }
}
