//! What the commands on patients have in common.

use entity::patient;
use sea_orm::ActiveValue::{Set, Unchanged};
use sea_orm::{ActiveModelTrait as _, EntityTrait as _};

use super::transaction::CommandTx;
use crate::error::{Error, Result};
use crate::records::PatientDraft;
use crate::store::RecordState;

impl CommandTx<'_> {
    /// A chart number that an erased patient had is given to nobody else: files that still have it would fill the new record
    /// with the erased patient's data.
    async fn refuse_erased(&self, chart_no: &str) -> Result<()> {
        let numbers = std::iter::once(chart_no);
        let erased = self.store.erased_numbers(&self.transaction, self.hospital, numbers);
        if erased.await?.is_empty() {
            return Ok(());
        }
        Err(Error::input(
            "input.chartNo",
            "a patient who was erased had this chart number: it is not given again",
        ))
    }

    /// The row with the draft's values.
    pub(super) async fn patient_after(&self, row: &patient::Model, draft: &PatientDraft) -> Result<patient::Model> {
        if let Some(chart_no) = &draft.chart_no {
            self.refuse_taken("patient", "chart_no", "input.chartNo", chart_no, row.id)
                .await?;
            if row.chart_no.as_ref() != Some(chart_no) {
                self.refuse_erased(chart_no).await?;
            }
        }
        let wanted = self.store.patient_with(row, draft)?;
        draft.check_birth_year(wanted.birth_date)?;
        Ok(wanted)
    }

    /// A patient that can be changed and have visits.
    pub(super) async fn active_patient(&self, argument: &str, id: i64) -> Result<patient::Model> {
        let row = self.patient(argument, id).await?;
        match RecordState::parse(&row.state) {
            Some(RecordState::Active) => Ok(row),
            Some(RecordState::Merged) => Err(Error::input(
                argument,
                "this patient was merged into another: change that one, or undo the merge first",
            )),
            Some(RecordState::Erased) => Err(Error::input(argument, "this patient was erased")),
            None => Err(Error::Internal("patient.state holds an unknown value".to_owned())),
        }
    }

    pub(super) async fn patient(&self, argument: &str, id: i64) -> Result<patient::Model> {
        let found = patient::Entity::find_by_id((self.hospital, id))
            .one(&self.transaction)
            .await?;
        found.ok_or_else(|| Error::unknown_id(argument, "patient"))
    }

    /// Writes all of the row, at its next version. Its indexed name is the one that is stored.
    pub(super) async fn write_patient(&self, mut row: patient::Model) -> Result<()> {
        self.store.index_name(&self.transaction, &mut row).await?;
        let (id, version) = (row.id, row.version);
        let mut row = patient::ActiveModel::from(row).reset_all();
        row.hospital_id = Unchanged(self.hospital);
        row.id = Unchanged(id);
        row.version = Set(version + 1);
        row.update(&self.transaction).await?;
        Ok(())
    }

    /// Moves the visits that the merge moves from one patient to another, where they are still the one's.
    pub(super) async fn move_visits(&self, merge: i64, from: i64, to: i64) -> Result<()> {
        let mut sql = self.store.sql("UPDATE visit SET version = version + 1, patient_id = ");
        sql.bind(to).push(" WHERE hospital_id = ").bind(self.hospital);
        sql.push(" AND patient_id = ").bind(from);
        sql.push(" AND id IN (SELECT visit_id FROM merged_visit WHERE hospital_id = ")
            .bind(self.hospital);
        sql.push(" AND merge_id = ").bind(merge).push(")");
        self.run(sql).await
    }
}
