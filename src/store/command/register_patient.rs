//! Registers a patient.

use async_trait::async_trait;

use super::digest::DigestFields;
use super::transaction::CommandTx;
use super::{Command, CommandInfo, Outcome};
use crate::error::Result;
use crate::permissions::Action;
use crate::records::PatientDraft;
use crate::store::draft::new_patient;
use crate::store::name_index::name_to_index;

/// Registers a patient; today where the draft does not say when, and with the next chart number where it has none.
#[derive(Clone, Debug)]
pub struct RegisterPatient(pub PatientDraft);

impl RegisterPatient {
    pub(super) const INFO: CommandInfo = CommandInfo {
        name: "registerPatient",
        mutation: Some("registerPatient"),
        action: Action::ChangeRecords,
        description: "to register a patient",
    };
}

#[async_trait]
impl Command for RegisterPatient {
    fn info(&self) -> &'static CommandInfo {
        &Self::INFO
    }

    fn digest(&self, fields: &mut DigestFields) {
        let Self(draft) = self;
        fields.patient(draft);
    }

    async fn execute(&self, tx: &CommandTx<'_>) -> Result<Outcome> {
        let mut row = tx.patient_after(&new_patient(tx.hospital), &self.0).await?;
        if row.registered_on.is_none() {
            let state = tx.store.hospital_state_in(&tx.transaction, tx.hospital, 0).await?;
            row.registered_on = Some(tx.store.today(state.time_zone));
        }
        if row.chart_no.is_none() {
            row.chart_no = Some(tx.store.take_chart_number(&tx.transaction, tx.hospital).await?);
        }
        row.indexed_name = name_to_index(&row);
        let columns = [
            ("state", row.state.into()),
            ("chart_no", row.chart_no.into()),
            ("name", row.name.into()),
            ("indexed_name", row.indexed_name.clone().into()),
            ("phone", row.phone.into()),
            ("phone_index", row.phone_index.into()),
            ("phone_last_four", row.phone_last_four.into()),
            ("phone_endings", row.phone_endings.into()),
            ("birth_date", row.birth_date.into()),
            ("birth_year", row.birth_year.into()),
            ("sex", row.sex.into()),
            ("registered_on", row.registered_on.into()),
            ("memo", row.memo.into()),
            ("do_not_contact", row.do_not_contact.into()),
            ("version", row.version.into()),
        ];
        let id = tx.insert("patient", &columns).await?;
        let name = row.indexed_name.as_deref().map(|name| (id, name));
        tx.store
            .add_suffixes(&tx.transaction, tx.hospital, name.into_iter())
            .await?;
        Ok(Outcome::patient(id))
    }
}
