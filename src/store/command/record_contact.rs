//! Records a contact with a patient on a recall list.

use std::collections::BTreeSet;

use async_trait::async_trait;
use chrono::NaiveDate;
use scheduling::ContactOutcome;

use super::digest::{DigestFields, day};
use super::transaction::{CommandTx, check_version};
use super::{Command, CommandInfo, Outcome};
use crate::error::{Error, Result};
use crate::permissions::Action;
use crate::store::history::HistoryEvent;

/// Records a contact, which ends the claim of the entry.
#[derive(Clone, Debug)]
pub struct RecordContact {
    pub entry: i64,
    pub version: i32,
    pub outcome: ContactOutcome,
    pub note: Option<String>,
    /// None: the patient is not to be called again.
    pub due_on: Option<NaiveDate>,
}

impl RecordContact {
    pub(super) const INFO: CommandInfo = CommandInfo {
        name: "recordContact",
        mutation: Some("recordContact"),
        action: Action::WorkRecallLists,
        description: "to record a contact",
    };
}

#[async_trait]
impl Command for RecordContact {
    fn info(&self) -> &'static CommandInfo {
        &Self::INFO
    }

    fn digest(&self, fields: &mut DigestFields) {
        let Self {
            entry,
            version,
            outcome,
            note,
            due_on,
        } = self;
        fields
            .put("entryId", entry)
            .put("version", version)
            .put("outcome", outcome.as_str())
            .put_some("note", note)
            .put_some("dueOn", &due_on.as_ref().map(day));
    }

    async fn execute(&self, tx: &CommandTx<'_>) -> Result<Outcome> {
        const ARGUMENT: &str = "input.entryId";
        let entry = tx.open_entries(ARGUMENT, &[self.entry]).await?.remove(0);
        tx.refuse_held(ARGUMENT, &entry)?;
        check_version("the entry", self.version, entry.row.version)?;
        if !entry.stands {
            return Err(Error::input(
                ARGUMENT,
                "this patient was merged with one of an older entry of the list: record the contact there",
            ));
        }
        let patient = tx.active_patient(ARGUMENT, entry.patient).await?;
        let note = self.note.as_ref();
        let note = note.map(|note| tx.store.secrets.seal(tx.hospital, "note", note));
        let now = tx.store.now();
        let columns = [
            ("entry_id", entry.row.id.into()),
            ("patient_id", entry.patient.into()),
            ("contacted_at", now.into()),
            ("staff_id", tx.staff().into()),
            ("outcome", self.outcome.as_str().into()),
            ("note", note.transpose()?.into()),
            ("due_on", self.due_on.into()),
        ];
        let contact = tx.insert("recall_contact", &columns).await?;
        let mut sql = tx
            .store
            .sql("UPDATE recall_entry SET version = version + 1, outcome = ");
        sql.bind(self.outcome.as_str()).push(", due_on = ").bind(self.due_on);
        sql.push(", claimed_by = NULL, claimed_until = NULL WHERE hospital_id = ")
            .bind(tx.hospital);
        sql.push(" AND id = ").bind(entry.row.id);
        tx.run(sql).await?;
        tx.record_event(self, patient, HistoryEvent::Contact(contact), now)
            .await?;
        let patients = BTreeSet::from([entry.row.patient_id, entry.patient]);
        Ok(Outcome::of_patients(entry.row.id, patients))
    }
}
