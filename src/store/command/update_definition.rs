//! Publishes rules as a new version of the definition.

use async_trait::async_trait;
use chrono::{SubsecRound as _, Utc};
use entity::definition;
use sea_orm::ActiveValue::Set;
use sea_orm::EntityTrait as _;

use super::digest::DigestFields;
use super::transaction::{CommandTx, check_version};
use super::{Command, CommandInfo, Outcome};
use crate::error::Result;
use crate::permissions::Action;

/// Publishes rules. Where they differ from those in force they become a new version.
#[derive(Clone, Debug)]
pub struct UpdateDefinition {
    pub version: i32,
    pub churn_after_days: i32,
    pub overdue_after_days: Option<i32>,
}

impl UpdateDefinition {
    pub(super) const INFO: CommandInfo = CommandInfo {
        name: "updateDefinition",
        mutation: Some("updateDefinition"),
        action: Action::Administer,
        description: "to change the definition",
    };
}

#[async_trait]
impl Command for UpdateDefinition {
    fn info(&self) -> &'static CommandInfo {
        &Self::INFO
    }

    fn digest(&self, fields: &mut DigestFields) {
        let Self {
            version,
            churn_after_days,
            overdue_after_days,
        } = self;
        fields
            .put("version", version)
            .put("churnAfterDays", churn_after_days)
            .put_some("overdueAfterDays", overdue_after_days);
    }

    async fn execute(&self, tx: &CommandTx<'_>) -> Result<Outcome> {
        let state = tx.store.hospital_state_in(&tx.transaction, tx.hospital, 0).await?;
        let current = state.definition;
        check_version("the definition", self.version, current.version)?;
        let rules = (self.churn_after_days, self.overdue_after_days);
        if (current.churn_after_days, current.overdue_after_days) == rules {
            return Ok(Outcome::record(current.version.into()));
        }
        let version = current.version + 1;
        let row = definition::ActiveModel {
            hospital_id: Set(tx.hospital),
            version: Set(version),
            churn_after_days: Set(self.churn_after_days),
            overdue_after_days: Set(self.overdue_after_days),
            effective_from: Set(Utc::now().trunc_subsecs(6)),
        };
        definition::Entity::insert(row)
            .exec_without_returning(&tx.transaction)
            .await?;
        Ok(Outcome::record(version.into()))
    }
}
