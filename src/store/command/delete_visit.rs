//! Deletes a visit.

use async_trait::async_trait;
use entity::visit;
use sea_orm::EntityTrait as _;

use super::digest::DigestFields;
use super::transaction::CommandTx;
use super::{Command, CommandInfo, Outcome};
use crate::error::Result;
use crate::permissions::Action;

#[derive(Clone, Debug)]
pub struct DeleteVisit {
    pub id: i64,
    pub version: i32,
    pub reason: String,
}

impl DeleteVisit {
    pub(super) const INFO: CommandInfo = CommandInfo {
        name: "deleteVisit",
        mutation: Some("deleteVisit"),
        action: Action::ChangeRecords,
        description: "to delete a visit",
    };
}

#[async_trait]
impl Command for DeleteVisit {
    fn info(&self) -> &'static CommandInfo {
        &Self::INFO
    }

    fn digest(&self, fields: &mut DigestFields) {
        let Self { id, version, reason } = self;
        fields.put("id", id).put("version", version).put("reason", reason);
    }

    fn reason(&self) -> Option<&str> {
        Some(&self.reason)
    }

    async fn execute(&self, tx: &CommandTx<'_>) -> Result<Outcome> {
        let row = tx.visit(self.id, self.version).await?;
        visit::Entity::delete_by_id((tx.hospital, self.id))
            .exec(&tx.transaction)
            .await?;
        if let Some(visit_no) = &row.visit_no {
            tx.store
                .note_deleted(&tx.transaction, tx.hospital, (self.id, visit_no), tx.staff())
                .await?;
        }
        Ok(Outcome::visit(self.id, row.patient_id))
    }
}
