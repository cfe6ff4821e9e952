//! Erases a patient.

use std::collections::BTreeSet;

use async_trait::async_trait;
use entity::patient;
use sea_orm::{ColumnTrait as _, ConnectionTrait as _, EntityTrait as _, QueryFilter as _};

use super::digest::DigestFields;
use super::transaction::{CommandTx, check_version};
use super::{Command, CommandInfo, Outcome};
use crate::error::Result;
use crate::permissions::Action;
use crate::store::patient::erased_patient;

/// Clears everything personal of the patient, and of those merged into it, for good.
#[derive(Clone, Debug)]
pub struct ErasePatient {
    pub id: i64,
    pub version: i32,
    /// It is not stored: it may speak of the patient.
    pub reason: String,
}

impl ErasePatient {
    pub(super) const INFO: CommandInfo = CommandInfo {
        name: "erasePatient",
        mutation: Some("erasePatient"),
        action: Action::ChangeRecords,
        description: "to erase a patient",
    };
}

#[async_trait]
impl Command for ErasePatient {
    fn info(&self) -> &'static CommandInfo {
        &Self::INFO
    }

    fn digest(&self, fields: &mut DigestFields) {
        let Self { id, version, reason } = self;
        fields.put("id", id).put("version", version).put("reason", reason);
    }

    async fn execute(&self, tx: &CommandTx<'_>) -> Result<Outcome> {
        let row = tx.active_patient("input.id", self.id).await?;
        check_version("the patient", self.version, row.version)?;
        let same_person = patient::Entity::find()
            .filter(patient::Column::HospitalId.eq(tx.hospital))
            .filter(patient::Column::MergedInto.eq(self.id))
            .all(&tx.transaction)
            .await?;
        let same_person: Vec<_> = same_person.into_iter().chain([row]).collect();
        let ids: Vec<i64> = same_person.iter().map(|row| row.id).collect();
        let visits = tx.clear_texts(&ids).await?;
        tx.clear_contact_notes(&ids).await?;
        let chart_nos: Vec<&str> = same_person.iter().filter_map(|row| row.chart_no.as_deref()).collect();
        tx.store.clear_import_rows(&tx.transaction, tx.hospital, &ids).await?;
        tx.store
            .delete_patient_bases(&tx.transaction, tx.hospital, &chart_nos)
            .await?;
        for row in same_person {
            if let Some(chart_no) = &row.chart_no {
                tx.store
                    .record_former_number(&tx.transaction, tx.hospital, row.id, chart_no)
                    .await?;
            }
            tx.store
                .mark_numbers_erased(&tx.transaction, tx.hospital, row.id)
                .await?;
            tx.write_patient(patient::Model {
                merged_into: row.merged_into,
                version: row.version,
                indexed_name: row.indexed_name,
                ..erased_patient(tx.hospital, row.id)
            })
            .await?;
        }
        // At last: the triggers have just recorded what was there before.
        tx.clear_histories(&ids, &visits).await?;
        Ok(Outcome::patient(self.id))
    }
}

impl CommandTx<'_> {
    /// Clears the notes of visits, and every reason that may speak of the patients: those of changes of visits that are theirs, or were at any time, and
    /// those of merges on either side. Returns these visits.
    async fn clear_texts(&self, patients: &[i64]) -> Result<Vec<i64>> {
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
        for ids in visits.chunks(500) {
            let mut sql = self
                .store
                .sql("UPDATE visit SET note = NULL WHERE note IS NOT NULL AND hospital_id = ");
            sql.bind(self.hospital).push(" AND id").few(ids);
            self.run(sql).await?;
        }
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
        Ok(visits)
    }

    /// Clears the notes of contacts with the patients, and of those on entries that are theirs.
    async fn clear_contact_notes(&self, patients: &[i64]) -> Result<()> {
        let mut sql = self.store.sql("SELECT id FROM recall_entry WHERE hospital_id = ");
        sql.bind(self.hospital).push(" AND patient_id").numbers(patients);
        let rows = self.transaction.query_all_raw(sql.done()).await?;
        let entries: Vec<i64> = rows
            .iter()
            .map(|row| row.try_get_by_index(0))
            .collect::<std::result::Result<_, _>>()?;
        for (column, ids) in [("patient_id", patients), ("entry_id", entries.as_slice())] {
            for ids in ids.chunks(500) {
                let mut sql = self
                    .store
                    .sql("UPDATE recall_contact SET note = NULL WHERE note IS NOT NULL AND hospital_id = ");
                sql.bind(self.hospital).push(&format!(" AND {column}")).few(ids);
                self.run(sql).await?;
            }
        }
        Ok(())
    }

    /// Clears what is personal in the histories of the patients and of these visits, and the reasons of merges with the patients in
    /// the histories of others.
    async fn clear_histories(&self, patients: &[i64], visits: &[i64]) -> Result<()> {
        // What an erased patient's row has, so that nothing seems to have changed into it.
        const CLEARED: &str =
            "reason = NULL, chart_no = NULL, name = NULL, phone = NULL, birth_date = NULL, birth_year = NULL,
            sex = 'UNKNOWN', registered_on = NULL, memo = NULL, do_not_contact = FALSE";
        let merged = self.merged_with_at_any_time(patients).await?;
        for (record, cleared, condition, ids) in [
            ("VISIT", "reason = NULL, note = NULL", "", visits),
            ("PATIENT", CLEARED, "", patients),
            (
                "PATIENT",
                "reason = NULL",
                " AND source IN ('mergePatients', 'undoMerge')",
                merged.as_slice(),
            ),
        ] {
            for ids in ids.chunks(500) {
                let mut sql = self
                    .store
                    .sql(&format!("UPDATE record_change SET {cleared} WHERE hospital_id = "));
                sql.bind(self.hospital).push(" AND record = ").bind(record);
                sql.push(condition).push(" AND record_id").few(ids);
                self.run(sql).await?;
            }
        }
        Ok(())
    }

    /// Patients who were merged into these at any time, also by way of others, and those into whom these were merged.
    async fn merged_with_at_any_time(&self, patients: &[i64]) -> Result<Vec<i64>> {
        let mut merged = BTreeSet::new();
        let mut into = patients.to_vec();
        while !into.is_empty() {
            let mut sql = self
                .store
                .sql("SELECT patient_id FROM patient_merge WHERE hospital_id = ");
            sql.bind(self.hospital).push(" AND into_id").numbers(&into);
            into.clear();
            for row in self.transaction.query_all_raw(sql.done()).await? {
                let id = row.try_get_by_index(0)?;
                if merged.insert(id) {
                    into.push(id);
                }
            }
        }
        let mut sql = self.store.sql("SELECT into_id FROM patient_merge WHERE hospital_id = ");
        sql.bind(self.hospital).push(" AND patient_id").numbers(patients);
        for row in self.transaction.query_all_raw(sql.done()).await? {
            merged.insert(row.try_get_by_index(0)?);
        }
        Ok(merged.into_iter().collect())
    }
}
