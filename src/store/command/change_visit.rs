//! Changes a visit.

use async_trait::async_trait;
use entity::scheduled_at::ScheduledAt;
use entity::visit;
use sea_orm::ActiveValue::{Set, Unchanged};
use sea_orm::{ActiveModelTrait as _, ConnectionTrait as _, EntityTrait as _};

use super::booking::{CheckedVisit, Override};
use super::digest::DigestFields;
use super::transaction::CommandTx;
use super::{Command, CommandInfo, Outcome};
use crate::error::Result;
use crate::permissions::Action;
use crate::records::VisitDraft;
use crate::store::sql::statement;

#[derive(Clone, Debug)]
pub struct ChangeVisit {
    pub id: i64,
    pub version: i32,
    pub draft: VisitDraft<i64>,
    pub overriding: Override,
}

impl ChangeVisit {
    pub(super) const INFO: CommandInfo = CommandInfo {
        name: "changeVisit",
        mutation: Some("changeVisit"),
        action: Action::ChangeRecords,
        description: "to change a visit",
    };
}

#[async_trait]
impl Command for ChangeVisit {
    fn info(&self) -> &'static CommandInfo {
        &Self::INFO
    }

    fn digest(&self, fields: &mut DigestFields) {
        let Self {
            id,
            version,
            draft,
            overriding,
        } = self;
        fields
            .put("id", id)
            .put("version", version)
            .visit(draft)
            .overriding(overriding);
    }

    fn reason(&self) -> Option<&str> {
        self.overriding.reason.as_deref()
    }

    async fn execute(&self, tx: &CommandTx<'_>) -> Result<Outcome> {
        let (id, draft) = (self.id, &self.draft);
        let row = tx.visit(id, self.version).await?;
        let hospital = tx.own_hospital().await?;
        let before = (row.date, row.scheduled_at.map(|at| at.0));
        let (date, scheduled_at) = draft.schedule(Some(before), hospital.time_zone)?;
        let wanted = visit::Model {
            date,
            scheduled_at: scheduled_at.map(ScheduledAt),
            ..tx.visit_after(&row, draft).await?
        };
        if wanted == row {
            return Ok(Outcome::visit(id, row.patient_id));
        }
        if wanted.patient_id != row.patient_id {
            tx.active_patient("input.patientId", wanted.patient_id).await?;
        }
        let checked = tx.checked_visit(&hospital, Some(&row), wanted, &self.overriding);
        let CheckedVisit { row: wanted, forced } = checked.await?;
        let patient = wanted.patient_id;
        let mut changed = visit::ActiveModel::from(wanted).reset_all();
        changed.hospital_id = Unchanged(tx.hospital);
        changed.id = Unchanged(id);
        changed.version = Set(row.version + 1);
        let update = visit::Entity::update(changed).validate()?;
        tx.transaction
            .execute_raw(statement(tx.store.writer.get_database_backend(), &update))
            .await?;
        Ok(Outcome::visit(id, patient).forced(forced))
    }
}
