//! Records a visit.

use async_trait::async_trait;
use entity::scheduled_at::ScheduledAt;
use entity::visit;

use super::booking::{CheckedVisit, Override};
use super::digest::DigestFields;
use super::transaction::CommandTx;
use super::{Command, CommandInfo, Outcome};
use crate::error::{Error, Result};
use crate::permissions::Action;
use crate::records::VisitDraft;
use crate::store::draft::new_visit;

#[derive(Clone, Debug)]
pub struct RecordVisit {
    pub draft: VisitDraft<i64>,
    pub overriding: Override,
}

impl RecordVisit {
    pub(super) const INFO: CommandInfo = CommandInfo {
        name: "recordVisit",
        mutation: Some("recordVisit"),
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
        let Self { draft, overriding } = self;
        fields.visit(draft).overriding(overriding);
    }

    fn reason(&self) -> Option<&str> {
        self.overriding.reason.as_deref()
    }

    async fn execute(&self, tx: &CommandTx<'_>) -> Result<Outcome> {
        let Self { draft, overriding } = self;
        let patient = draft
            .patient
            .ok_or_else(|| Error::input("input.patientId", "is needed"))?;
        tx.active_patient("input.patientId", patient).await?;
        let hospital = tx.own_hospital().await?;
        let (date, scheduled_at) = draft.schedule(None, hospital.time_zone)?;
        let row = visit::Model {
            date,
            scheduled_at: scheduled_at.map(ScheduledAt),
            ..tx.visit_after(&new_visit(tx.hospital), draft).await?
        };
        let CheckedVisit { row, forced } = tx.checked_visit(&hospital, None, row, overriding).await?;
        let visit_no: Vec<String> = row.visit_no.iter().cloned().collect();
        tx.store.forget_deleted(&tx.transaction, tx.hospital, &visit_no).await?;
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
            ("checked_in_at", row.checked_in_at.into()),
            ("started_at", row.started_at.into()),
            ("completed_at", row.completed_at.into()),
            ("expires_at", row.expires_at.into()),
            ("note", row.note.into()),
        ];
        let id = tx.insert("visit", &columns).await?;
        Ok(Outcome::visit(id, patient).forced(forced))
    }
}
