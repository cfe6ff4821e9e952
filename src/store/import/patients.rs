//! Patients of files.

use std::collections::HashMap;

use entity::patient;
use sea_orm::ActiveValue::{Set, Unchanged};
use sea_orm::{ActiveModelTrait as _, ConnectionTrait as _, DatabaseTransaction, FromQueryResult as _};

use super::values::{PATIENT_FIELDS, current_of_patient, only_of_patient, said_of_patient};
use super::{Bases, Compared, ImportOutcome, Importer, Plan, RowResult};
use crate::error::Result;
use crate::records::PatientDraft;
use crate::store::draft::new_patient;
use crate::store::history::RecordKind;
use crate::store::model::RecordState;
use crate::store::name_index::name_to_index;
use crate::store::sql::{ColumnType, Rows};

/// Why rows of an erased patient are left out.
const OF_ERASED: &str = "the patient was erased: all rows with this chart number are left out";

/// The columns that imports write of new patients; the others have their defaults.
const NEW_PATIENT: &[(&str, ColumnType)] = &[
    ("hospital_id", ColumnType::Integer),
    ("state", ColumnType::Text),
    ("chart_no", ColumnType::Text),
    ("name", ColumnType::Text),
    ("indexed_name", ColumnType::Text),
    ("phone", ColumnType::Bytes),
    ("phone_index", ColumnType::Bytes),
    ("phone_last_four", ColumnType::Bytes),
    ("phone_endings", ColumnType::Bytes),
    ("birth_date", ColumnType::Date),
    ("birth_year", ColumnType::Integer),
    ("sex", ColumnType::Text),
    ("registered_on", ColumnType::Date),
];

/// A patient that is there already, held against its row.
struct Known<'a> {
    row: &'a patient::Model,
    compared: Compared,
}

/// What is to be written.
#[derive(Default)]
struct Writes {
    new: Vec<patient::Model>,
    /// The row as it is, and as it is to be.
    changed: Vec<(patient::Model, patient::Model)>,
}

impl Importer<'_> {
    pub(super) async fn check_patients(&self, drafts: &[PatientDraft]) -> Result<Plan> {
        let view = self.store.read_view().await?;
        let (plan, ..) = self.plan_patients(&view, drafts).await?;
        view.commit().await?;
        Ok(plan)
    }

    pub(super) async fn commit_patients(&self, drafts: &[PatientDraft]) -> Result<Plan> {
        let change = self.store.begin_change(self.hospital, self.change_context());
        let (transaction, _permit) = change.await?;
        let (mut plan, bases, writes) = self.plan_patients(&transaction, drafts).await?;
        for (row, mut wanted) in writes.changed {
            self.store.index_name(&transaction, &mut wanted).await?;
            let mut changed = patient::ActiveModel::from(wanted).reset_all();
            changed.hospital_id = Unchanged(row.hospital_id);
            changed.id = Unchanged(row.id);
            changed.version = Set(row.version + 1);
            changed.update(&transaction).await?;
        }
        let ids = self.insert_patients(&transaction, &writes.new).await?;
        for (draft, result) in drafts.iter().zip(&mut plan.results) {
            if result.outcome == ImportOutcome::Insert {
                result.patient = draft.chart_no.as_ref().and_then(|chart_no| ids.get(chart_no).copied());
            }
        }
        self.save_bases(&transaction, &bases, &plan).await?;
        self.store.commit_change(transaction, self.hospital).await?;
        Ok(plan)
    }

    async fn plan_patients(
        &self,
        view: &DatabaseTransaction,
        drafts: &[PatientDraft],
    ) -> Result<(Plan, Bases, Writes)> {
        let chart_nos: Vec<&str> = drafts.iter().filter_map(|draft| draft.chart_no.as_deref()).collect();
        let rows = self.patient_rows(view, &chart_nos).await?;
        let unknown = chart_nos
            .iter()
            .copied()
            .filter(|chart_no| !rows.contains_key(*chart_no));
        let erased = self.store.erased_numbers(view, self.hospital, unknown).await?;
        let bases = self.bases(view, RecordKind::Patient, &chart_nos).await?;
        let known = drafts.iter().map(|draft| {
            let Some(row) = draft.chart_no.as_ref().and_then(|chart_no| rows.get(chart_no)) else {
                return Ok(None);
            };
            let mut said = said_of_patient(draft);
            if row.birth_date.is_some() {
                // The birth year follows the date.
                said[3] = None;
            }
            let current = current_of_patient(row, &self.store.secrets)?;
            let number = row.chart_no.as_deref().unwrap_or_default();
            let compared = bases.compared(number, &said, Some(&current));
            Ok(Some((Known { row, compared }, said, current)))
        });
        let known = known.collect::<Result<Vec<_>>>()?;
        let differing: Vec<i64> = known
            .iter()
            .flatten()
            .filter(|(known, ..)| known.compared.differs())
            .map(|(known, ..)| known.row.id)
            .collect();
        let by_people = self
            .store
            .fields_set_by_people(view, self.hospital, RecordKind::Patient, &differing)
            .await?;
        let mut plan = Plan::new(drafts.len());
        let mut writes = Writes::default();
        for (draft, known) in drafts.iter().zip(known) {
            let Some(chart_no) = &draft.chart_no else {
                plan.results.push(RowResult::refused("chart_no", "empty"));
                continue;
            };
            let Some((Known { row, compared }, said, current)) = known else {
                if let Some(reported) = erased.get(chart_no) {
                    let result = self.left_out_erased(&mut plan, chart_no, *reported);
                    plan.results.push(result);
                    continue;
                }
                let said = said_of_patient(draft);
                bases.note(&mut plan, chart_no, bases.compared(chart_no, &said, None).base);
                writes.new.push(self.new_patient(draft)?);
                plan.results.push(self.inserted(PATIENT_FIELDS, &said));
                continue;
            };
            if row.state == RecordState::Merged.as_str() {
                let mut result = RowResult::new(ImportOutcome::Unchanged);
                if bases.note_left_out(&mut plan, chart_no, &said) {
                    let reason = "the patient was merged into another one: the row is left out";
                    result.add_problem(Some("chart_no"), reason);
                }
                plan.results.push(result);
                continue;
            }
            let decided = self.decide(PATIENT_FIELDS, &compared, (&said, &current), by_people.get(&row.id));
            if decided.write.contains(&true) {
                let wanted = self.store.patient_with(row, &only_of_patient(draft, &decided.write))?;
                writes.changed.push((row.clone(), wanted));
            }
            bases.note(&mut plan, chart_no, compared.base);
            plan.results.push(RowResult {
                patient: Some(row.id),
                ..decided.result
            });
        }
        Ok((plan, bases, writes))
    }

    /// The result of a row of an erased patient, which is reported once for each chart number.
    pub(super) fn left_out_erased(&self, plan: &mut Plan, chart_no: &str, reported: bool) -> RowResult {
        let chart_no = chart_no.to_owned();
        if reported || self.reported_erased.contains(&chart_no) || plan.erased.contains(&chart_no) {
            return RowResult::new(ImportOutcome::Unchanged);
        }
        plan.erased.push(chart_no);
        RowResult::with_problem(ImportOutcome::Unchanged, Some("chart_no"), OF_ERASED)
    }

    async fn patient_rows(
        &self,
        view: &DatabaseTransaction,
        chart_nos: &[&str],
    ) -> Result<HashMap<String, patient::Model>> {
        let mut sql = self.store.sql("SELECT * FROM patient WHERE hospital_id = ");
        sql.bind(self.hospital).push(" AND chart_no").texts(chart_nos);
        let mut known = HashMap::new();
        for row in view.query_all_raw(sql.done()).await? {
            let row = patient::Model::from_query_result(&row, "")?;
            if let Some(chart_no) = row.chart_no.clone() {
                known.insert(chart_no, row);
            }
        }
        Ok(known)
    }

    pub(super) fn new_patient(&self, draft: &PatientDraft) -> Result<patient::Model> {
        let mut row = self.store.patient_with(&new_patient(self.hospital), draft)?;
        row.indexed_name = name_to_index(&row);
        Ok(row)
    }

    /// Inserts new patients, and indexes their names. Returns their ids by chart number.
    pub(super) async fn insert_patients(
        &self,
        transaction: &DatabaseTransaction,
        new: &[patient::Model],
    ) -> Result<HashMap<String, i64>> {
        if new.is_empty() {
            return Ok(HashMap::new());
        }
        let mut rows = Rows::new(NEW_PATIENT);
        for row in new {
            let row = row.clone();
            rows.push([
                row.hospital_id.into(),
                row.state.into(),
                row.chart_no.into(),
                row.name.into(),
                row.indexed_name.into(),
                row.phone.into(),
                row.phone_index.into(),
                row.phone_last_four.into(),
                row.phone_endings.into(),
                row.birth_date.into(),
                row.birth_year.into(),
                row.sex.into(),
                row.registered_on.into(),
            ]);
        }
        self.store.insert_rows(transaction, "patient", rows, "").await?;
        let chart_nos: Vec<&str> = new.iter().filter_map(|row| row.chart_no.as_deref()).collect();
        let mut sql = self.store.sql("SELECT chart_no, id FROM patient WHERE hospital_id = ");
        sql.bind(self.hospital).push(" AND chart_no").texts(&chart_nos);
        let mut ids: HashMap<String, i64> = HashMap::with_capacity(new.len());
        for row in transaction.query_all_raw(sql.done()).await? {
            ids.insert(row.try_get_by_index(0)?, row.try_get_by_index(1)?);
        }
        let named = new
            .iter()
            .filter_map(|row| Some((*ids.get(row.chart_no.as_ref()?)?, row.indexed_name.as_deref()?)));
        self.store.add_suffixes(transaction, self.hospital, named).await?;
        Ok(ids)
    }
}
