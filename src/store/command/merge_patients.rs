//! Merges a patient into another.

use std::collections::BTreeSet;

use async_trait::async_trait;
use chrono::{SubsecRound as _, Utc};
use entity::patient;

use super::digest::DigestFields;
use super::transaction::{CommandTx, check_version};
use super::{Command, CommandInfo, Outcome};
use crate::error::{Error, Result};
use crate::permissions::Action;
use crate::store::RecordState;
use crate::store::history::HistoryEvent;

/// Moves the visits of a patient to another, who is the same person. Where one of the two is not to be contacted, the other one is not
/// either: undoing the merge leaves that as it is.
#[derive(Clone, Debug)]
pub struct MergePatients {
    pub id: i64,
    pub version: i32,
    pub into: i64,
    pub reason: String,
}

impl MergePatients {
    pub(super) const INFO: CommandInfo = CommandInfo {
        name: "mergePatients",
        mutation: Some("mergePatients"),
        action: Action::ChangeRecords,
        description: "to merge patients",
    };
}

#[async_trait]
impl Command for MergePatients {
    fn info(&self) -> &'static CommandInfo {
        &Self::INFO
    }

    fn digest(&self, fields: &mut DigestFields) {
        let Self {
            id,
            version,
            into,
            reason,
        } = self;
        fields
            .put("id", id)
            .put("version", version)
            .put("intoId", into)
            .put("reason", reason);
    }

    fn reason(&self) -> Option<&str> {
        Some(&self.reason)
    }

    async fn execute(&self, tx: &CommandTx<'_>) -> Result<Outcome> {
        let (id, into) = (self.id, self.into);
        if id == into {
            return Err(Error::input("input.intoId", "a patient is not merged into itself"));
        }
        let row = tx.active_patient("input.id", id).await?;
        check_version("the patient", self.version, row.version)?;
        let stays = tx.active_patient("input.intoId", into).await?;
        let now = Utc::now().trunc_subsecs(6);
        let columns = [
            ("patient_id", id.into()),
            ("into_id", into.into()),
            ("merged_at", now.into()),
            ("staff_id", tx.staff().into()),
            ("reason", self.reason.as_str().into()),
        ];
        let merge = tx.insert("patient_merge", &columns).await?;
        let mut sql = tx.store.sql("INSERT INTO merged_visit SELECT hospital_id, ");
        sql.bind(merge)
            .push(" , id FROM visit WHERE hospital_id = ")
            .bind(tx.hospital);
        sql.push(" AND patient_id = ").bind(id);
        tx.run(sql).await?;
        tx.move_visits(merge, id, into).await?;
        // Who was merged into the patient before is now found to be the other one, too.
        let mut sql = tx.store.sql("UPDATE patient SET merged_into = ");
        sql.bind(into).push(" WHERE hospital_id = ").bind(tx.hospital);
        sql.push(" AND merged_into = ").bind(id);
        tx.run(sql).await?;
        tx.record_event(self, stays.clone(), HistoryEvent::Merge(id), now)
            .await?;
        if row.do_not_contact && !stays.do_not_contact {
            tx.write_patient(patient::Model {
                do_not_contact: true,
                ..stays
            })
            .await?;
        }
        tx.write_patient(patient::Model {
            state: RecordState::Merged.as_str().to_owned(),
            merged_into: Some(into),
            ..row
        })
        .await?;
        Ok(Outcome::of_patients(id, BTreeSet::from([id, into])))
    }
}
