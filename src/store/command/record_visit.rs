//! Records a visit.

use async_trait::async_trait;
use entity::scheduled_at::ScheduledAt;
use entity::visit;

use super::digest::DigestFields;
use super::transaction::CommandTx;
use super::{Command, CommandInfo, Outcome};
use crate::error::{Error, Result};
use crate::permissions::Action;
use crate::records::VisitDraft;
use crate::store::draft::new_visit;

#[derive(Clone, Debug)]
pub struct RecordVisit(pub VisitDraft<i64>);

impl RecordVisit {
    pub(super) const INFO: CommandInfo = CommandInfo {
        name: "recordVisit",
        mutation: "recordVisit",
        action: Action::ChangeRecords,
        description: "to record a visit",
    };
}

#[async_trait]
impl Command for RecordVisit {
    fn info(&self) -> &'static CommandInfo {
        &Self::INFO
    }

    fn digest(&self, fields: &mut DigestFields) {
        let Self(draft) = self;
        fields.visit(draft);
    }

    async fn execute(&self, tx: &CommandTx<'_>) -> Result<Outcome> {
        let Self(draft) = self;
        let patient = draft
            .patient
            .ok_or_else(|| Error::input("input.patientId", "is needed"))?;
        tx.active_patient("input.patientId", patient).await?;
        let time_zone = tx.time_zone().await?;
        let (date, scheduled_at) = draft.schedule(None, time_zone)?;
        let row = visit::Model {
            date,
            scheduled_at: scheduled_at.map(ScheduledAt),
            ..tx.visit_after(&new_visit(tx.hospital), draft).await?
        };
        tx.refuse_too_early(&row, draft, time_zone)?;
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
            ("duration_minutes", row.duration_minutes.into()),
            ("note", row.note.into()),
        ];
        let id = tx.insert("visit", &columns).await?;
        Ok(Outcome::visit(id, patient))
    }
}
