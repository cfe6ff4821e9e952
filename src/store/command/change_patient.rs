//! Changes what is recorded of a patient.

use async_trait::async_trait;

use super::digest::DigestFields;
use super::transaction::{CommandTx, check_version};
use super::{Command, CommandInfo, Outcome};
use crate::error::Result;
use crate::permissions::Action;
use crate::records::PatientDraft;

#[derive(Clone, Debug)]
pub struct ChangePatient {
    pub id: i64,
    pub version: i32,
    pub draft: PatientDraft,
}

impl ChangePatient {
    pub(super) const INFO: CommandInfo = CommandInfo {
        name: "changePatient",
        mutation: Some("changePatient"),
        action: Action::ChangeRecords,
        description: "to change a patient",
    };
}

#[async_trait]
impl Command for ChangePatient {
    fn info(&self) -> &'static CommandInfo {
        &Self::INFO
    }

    fn digest(&self, fields: &mut DigestFields) {
        let Self { id, version, draft } = self;
        fields.put("id", id).put("version", version).patient(draft);
    }

    async fn execute(&self, tx: &CommandTx<'_>) -> Result<Outcome> {
        let row = tx.active_patient("input.id", self.id).await?;
        check_version("the patient", self.version, row.version)?;
        let wanted = tx.patient_after(&row, &self.draft).await?;
        if wanted == row {
            return Ok(Outcome::patient(self.id));
        }
        if let Some(chart_no) = row.chart_no.as_ref().filter(|_| wanted.chart_no != row.chart_no) {
            tx.store
                .record_former_number(&tx.transaction, tx.hospital, self.id, chart_no)
                .await?;
        }
        tx.write_patient(wanted).await?;
        Ok(Outcome::patient(self.id))
    }
}
