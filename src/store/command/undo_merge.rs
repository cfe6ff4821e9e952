//! Undoes a merge.

use async_trait::async_trait;
use chrono::{SubsecRound as _, Utc};
use entity::{patient, patient_merge};
use sea_orm::ActiveValue::Set;
use sea_orm::{ActiveModelTrait as _, ColumnTrait as _, EntityTrait as _, QueryFilter as _, QueryOrder as _};

use super::digest::DigestFields;
use super::transaction::CommandTx;
use super::{Command, CommandInfo, Outcome};
use crate::error::{Error, Result};
use crate::permissions::Action;
use crate::store::RecordState;
use crate::store::history::HistoryEvent;

/// Moves the visits back that the patient's merge moved, where they are still the other patient's.
#[derive(Clone, Debug)]
pub struct UndoMerge {
    pub id: i64,
    pub reason: String,
}

impl UndoMerge {
    pub(in crate::store) const INFO: CommandInfo = CommandInfo {
        name: "undoMerge",
        mutation: Some("undoMerge"),
        action: Action::ChangeRecords,
        description: "to undo a merge",
    };
}

#[async_trait]
impl Command for UndoMerge {
    fn info(&self) -> &'static CommandInfo {
        &Self::INFO
    }

    fn digest(&self, fields: &mut DigestFields) {
        let Self { id, reason } = self;
        fields.put("id", id).put("reason", reason);
    }

    fn reason(&self) -> Option<&str> {
        Some(&self.reason)
    }

    async fn execute(&self, tx: &CommandTx<'_>) -> Result<Outcome> {
        let id = self.id;
        let row = tx.patient("input.id", id).await?;
        let last = patient_merge::Entity::find()
            .filter(patient_merge::Column::HospitalId.eq(tx.hospital))
            .filter(patient_merge::Column::PatientId.eq(id))
            .filter(patient_merge::Column::UndoneAt.is_null())
            .order_by_desc(patient_merge::Column::Id)
            .one(&tx.transaction)
            .await?;
        let (Some(merge), Some(RecordState::Merged)) = (last, RecordState::parse(&row.state)) else {
            return Err(Error::input("input.id", "no merge of this patient stands to be undone"));
        };
        if row.merged_into != Some(merge.into_id) {
            return Err(Error::input(
                "input.id",
                "the patient that this one was merged into has been merged since: undo that first",
            ));
        }
        tx.move_visits(merge.id, merge.into_id, id).await?;
        // Who had been merged into the patient before comes along, with all who had been merged into those.
        let mut sql = tx.store.sql("UPDATE patient SET merged_into = ");
        sql.bind(id)
            .push(" WHERE state = 'MERGED' AND hospital_id = ")
            .bind(tx.hospital);
        sql.push(" AND id IN (WITH RECURSIVE same_person (id) AS (SELECT patient_id FROM patient_merge");
        sql.push(" WHERE undone_at IS NULL AND hospital_id = ")
            .bind(tx.hospital);
        sql.push(" AND into_id = ").bind(id);
        sql.push(" UNION SELECT m.patient_id FROM patient_merge m JOIN same_person s ON m.into_id = s.id");
        sql.push(" WHERE m.undone_at IS NULL AND m.hospital_id = ")
            .bind(tx.hospital);
        sql.push(") SELECT id FROM same_person)");
        tx.run(sql).await?;
        tx.write_patient(patient::Model {
            state: RecordState::Active.as_str().to_owned(),
            merged_into: None,
            ..row
        })
        .await?;
        let now = Utc::now().trunc_subsecs(6);
        let stayed = tx.patient("input.id", merge.into_id).await?;
        tx.record_event(self, stayed, HistoryEvent::Merge(id), now).await?;
        let mut undone = patient_merge::ActiveModel::from(merge);
        undone.undone_at = Set(Some(now));
        undone.update(&tx.transaction).await?;
        Ok(Outcome::patient(id))
    }
}
