//! Changes how long slots are, and how long TENTATIVE bookings are held.

use async_trait::async_trait;
use entity::hospital;
use sea_orm::ActiveValue::Set;
use sea_orm::{ActiveModelTrait as _, EntityTrait as _, IntoActiveModel as _};

use super::digest::DigestFields;
use super::transaction::CommandTx;
use super::{Command, CommandInfo, Outcome};
use crate::error::{Error, Result};
use crate::permissions::Action;

#[derive(Clone, Debug)]
pub struct UpdateHospital {
    pub slot_minutes: Option<i32>,
    pub tentative_minutes: Option<i32>,
}

impl UpdateHospital {
    pub(super) const INFO: CommandInfo = CommandInfo {
        name: "updateHospital",
        mutation: Some("updateHospital"),
        action: Action::Administer,
        description: "to change the hospital's settings",
    };
}

#[async_trait]
impl Command for UpdateHospital {
    fn info(&self) -> &'static CommandInfo {
        &Self::INFO
    }

    fn digest(&self, fields: &mut DigestFields) {
        let Self {
            slot_minutes,
            tentative_minutes,
        } = self;
        fields
            .put_some("slotMinutes", slot_minutes)
            .put_some("tentativeMinutes", tentative_minutes);
    }

    async fn execute(&self, tx: &CommandTx<'_>) -> Result<Outcome> {
        let row = hospital::Entity::find_by_id(tx.hospital).one(&tx.transaction).await?;
        let row = row.ok_or_else(|| Error::Unauthenticated("the hospital of this session is gone".to_owned()))?;
        let mut changed = row.into_active_model();
        if let Some(minutes) = self.slot_minutes {
            changed.slot_minutes = Set(minutes);
        }
        if let Some(minutes) = self.tentative_minutes {
            changed.tentative_minutes = Set(minutes);
        }
        changed.update(&tx.transaction).await?;
        Ok(Outcome::record(tx.hospital))
    }
}
