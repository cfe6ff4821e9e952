//! Changes of patients.

use std::collections::BTreeSet;

use chrono::{SubsecRound as _, Utc};
use entity::{patient, patient_merge};
use sea_orm::ActiveValue::{Set, Unchanged};
use sea_orm::{
    ActiveModelTrait as _, ColumnTrait as _, ConnectionTrait as _, EntityTrait, QueryFilter as _, QueryOrder as _,
};

use super::{CommandTx, check_version};
use crate::error::{Error, Result};
use crate::records::PatientDraft;
use crate::store::draft::new_patient;
use crate::store::erased_patient;
use crate::store::patient::fold_name;

impl CommandTx<'_> {
    pub(super) async fn register(&self, draft: &PatientDraft) -> Result<i64> {
        let mut row = self.patient_after(&new_patient(self.hospital), draft).await?;
        if row.registered_on.is_none() {
            let state = self
                .store
                .hospital_state_in(&self.transaction, self.hospital, 0)
                .await?;
            row.registered_on = Some(Utc::now().with_timezone(&state.time_zone).date_naive());
        }
        fold_name(&mut row);
        let columns = [
            ("state", row.state.into()),
            ("chart_no", row.chart_no.into()),
            ("name", row.name.into()),
            ("folded_name", row.folded_name.into()),
            ("folded_from", row.folded_from.into()),
            ("phone", row.phone.into()),
            ("phone_index", row.phone_index.into()),
            ("birth_date", row.birth_date.into()),
            ("birth_year", row.birth_year.into()),
            ("sex", row.sex.into()),
            ("registered_on", row.registered_on.into()),
            ("memo", row.memo.into()),
            ("version", row.version.into()),
        ];
        self.insert("patient", &columns).await
    }

    pub(super) async fn change_patient(&self, id: i64, version: i32, draft: &PatientDraft) -> Result<i64> {
        let row = self.active_patient("input.id", id).await?;
        check_version("the patient", version, row.version)?;
        let wanted = self.patient_after(&row, draft).await?;
        if wanted == row {
            return Ok(id);
        }
        if let Some(chart_no) = row.chart_no.as_ref().filter(|_| wanted.chart_no != row.chart_no) {
            self.store
                .record_former_number(&self.transaction, self.hospital, id, chart_no)
                .await?;
        }
        self.write_patient(wanted).await?;
        Ok(id)
    }

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
    async fn patient_after(&self, row: &patient::Model, draft: &PatientDraft) -> Result<patient::Model> {
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
        match row.state.as_str() {
            "ACTIVE" => Ok(row),
            "MERGED" => Err(Error::input(
                argument,
                "this patient was merged into another: change that one, or undo the merge first",
            )),
            _ => Err(Error::input(argument, "this patient was erased")),
        }
    }

    async fn patient(&self, argument: &str, id: i64) -> Result<patient::Model> {
        let found = patient::Entity::find_by_id((self.hospital, id))
            .one(&self.transaction)
            .await?;
        found.ok_or_else(|| Error::unknown_id(argument, "patient"))
    }

    /// Writes all of the row, at its next version.
    async fn write_patient(&self, mut row: patient::Model) -> Result<()> {
        fold_name(&mut row);
        let (id, version) = (row.id, row.version);
        let mut row = patient::ActiveModel::from(row).reset_all();
        row.hospital_id = Unchanged(self.hospital);
        row.id = Unchanged(id);
        row.version = Set(version + 1);
        row.update(&self.transaction).await?;
        Ok(())
    }

    pub(super) async fn erase(&self, id: i64, version: i32) -> Result<i64> {
        let row = self.active_patient("input.id", id).await?;
        check_version("the patient", version, row.version)?;
        let same_person = patient::Entity::find()
            .filter(patient::Column::HospitalId.eq(self.hospital))
            .filter(patient::Column::MergedInto.eq(id))
            .all(&self.transaction)
            .await?;
        let same_person: Vec<_> = same_person.into_iter().chain([row]).collect();
        let ids: Vec<i64> = same_person.iter().map(|row| row.id).collect();
        self.clear_reasons(&ids).await?;
        for row in same_person {
            if let Some(chart_no) = &row.chart_no {
                self.store
                    .record_former_number(&self.transaction, self.hospital, row.id, chart_no)
                    .await?;
            }
            self.store
                .mark_numbers_erased(&self.transaction, self.hospital, row.id)
                .await?;
            self.write_patient(patient::Model {
                merged_into: row.merged_into,
                version: row.version,
                ..erased_patient(self.hospital, row.id)
            })
            .await?;
        }
        Ok(id)
    }

    /// Clears every reason that may speak of the patients: those of changes of visits that are theirs, or were at any time, and
    /// those of merges on either side.
    async fn clear_reasons(&self, patients: &[i64]) -> Result<()> {
        let mut visits = BTreeSet::new();
        for table in ["visit", "visit_tombstone", "visit_change"] {
            let column = if table == "visit_change" { "visit_id" } else { "id" };
            let mut sql = self
                .store
                .sql(&format!("SELECT {column} FROM {table} WHERE hospital_id = "));
            sql.bind(self.hospital).push(" AND patient_id").numbers(patients);
            for row in self.transaction.query_all_raw(sql.done()).await? {
                visits.insert(row.try_get_by_index::<i64>(0)?);
            }
        }
        let visits: Vec<i64> = visits.into_iter().collect();
        for (table, column, cleared, ids) in [
            ("visit_change", "visit_id", "NULL", visits.as_slice()),
            ("patient_merge", "patient_id", "''", patients),
            ("patient_merge", "into_id", "''", patients),
        ] {
            for ids in ids.chunks(500) {
                let mut sql = self
                    .store
                    .sql(&format!("UPDATE {table} SET reason = {cleared} WHERE hospital_id = "));
                sql.bind(self.hospital).push(&format!(" AND {column}")).few(ids);
                self.run(sql).await?;
            }
        }
        Ok(())
    }

    pub(super) async fn merge(&self, id: i64, version: i32, into: i64, reason: &str) -> Result<i64> {
        if id == into {
            return Err(Error::input("input.intoId", "a patient is not merged into itself"));
        }
        let row = self.active_patient("input.id", id).await?;
        check_version("the patient", version, row.version)?;
        self.active_patient("input.intoId", into).await?;
        let columns = [
            ("patient_id", id.into()),
            ("into_id", into.into()),
            ("merged_at", Utc::now().trunc_subsecs(6).into()),
            ("staff_id", self.staff.into()),
            ("reason", reason.into()),
        ];
        let merge = self.insert("patient_merge", &columns).await?;
        let mut sql = self.store.sql("INSERT INTO merged_visit SELECT hospital_id, ");
        sql.bind(merge)
            .push(" , id FROM visit WHERE hospital_id = ")
            .bind(self.hospital);
        sql.push(" AND patient_id = ").bind(id);
        self.run(sql).await?;
        self.move_visits(merge, id, into).await?;
        // Who was merged into the patient before is now found to be the other one, too.
        let mut sql = self.store.sql("UPDATE patient SET merged_into = ");
        sql.bind(into).push(" WHERE hospital_id = ").bind(self.hospital);
        sql.push(" AND merged_into = ").bind(id);
        self.run(sql).await?;
        self.write_patient(patient::Model {
            state: "MERGED".to_owned(),
            merged_into: Some(into),
            ..row
        })
        .await?;
        Ok(id)
    }

    pub(super) async fn undo_merge(&self, id: i64) -> Result<i64> {
        let row = self.patient("input.id", id).await?;
        let last = patient_merge::Entity::find()
            .filter(patient_merge::Column::HospitalId.eq(self.hospital))
            .filter(patient_merge::Column::PatientId.eq(id))
            .filter(patient_merge::Column::UndoneAt.is_null())
            .order_by_desc(patient_merge::Column::Id)
            .one(&self.transaction)
            .await?;
        let (Some(merge), "MERGED") = (last, row.state.as_str()) else {
            return Err(Error::input("input.id", "no merge of this patient stands to be undone"));
        };
        if row.merged_into != Some(merge.into_id) {
            return Err(Error::input(
                "input.id",
                "the patient that this one was merged into has been merged since: undo that first",
            ));
        }
        self.move_visits(merge.id, merge.into_id, id).await?;
        // Who had been merged into the patient before comes along, with all who had been merged into those.
        let mut sql = self.store.sql("UPDATE patient SET merged_into = ");
        sql.bind(id)
            .push(" WHERE state = 'MERGED' AND hospital_id = ")
            .bind(self.hospital);
        sql.push(" AND id IN (WITH RECURSIVE same_person (id) AS (SELECT patient_id FROM patient_merge");
        sql.push(" WHERE undone_at IS NULL AND hospital_id = ")
            .bind(self.hospital);
        sql.push(" AND into_id = ").bind(id);
        sql.push(" UNION SELECT m.patient_id FROM patient_merge m JOIN same_person s ON m.into_id = s.id");
        sql.push(" WHERE m.undone_at IS NULL AND m.hospital_id = ")
            .bind(self.hospital);
        sql.push(") SELECT id FROM same_person)");
        self.run(sql).await?;
        self.write_patient(patient::Model {
            state: "ACTIVE".to_owned(),
            merged_into: None,
            ..row
        })
        .await?;
        let mut undone = patient_merge::ActiveModel::from(merge);
        undone.undone_at = Set(Some(Utc::now().trunc_subsecs(6)));
        undone.update(&self.transaction).await?;
        Ok(id)
    }

    /// Hands those visits over that the merge moves and that are still one patient's.
    async fn move_visits(&self, merge: i64, from: i64, to: i64) -> Result<()> {
        let mut sql = self.store.sql("UPDATE visit SET version = version + 1, patient_id = ");
        sql.bind(to).push(" WHERE hospital_id = ").bind(self.hospital);
        sql.push(" AND patient_id = ").bind(from);
        sql.push(" AND id IN (SELECT visit_id FROM merged_visit WHERE hospital_id = ")
            .bind(self.hospital);
        sql.push(" AND merge_id = ").bind(merge).push(")");
        self.run(sql).await
    }
}
