//! Takes patients and visits in, batch by batch: new ones are inserted, known ones changed where they differ.

use std::collections::{BTreeMap, HashMap, HashSet};

use entity::{department, doctor, patient, visit};
use sea_orm::ActiveValue::{NotSet, Set, Unchanged};
use sea_orm::{ActiveModelTrait as _, ConnectionTrait, DatabaseTransaction, DbBackend, EntityTrait, FromQueryResult};

use super::Store;
use super::draft::{new_patient, new_visit};
use super::history::ChangeContext;
use super::hospital::full;
use super::model::RecordState;
use super::name_index::name_to_index;
use super::sql::statement;
use crate::error::Result;
use crate::records::{Patch, PatientDraft, VisitDraft};
use crate::statistics::MAX_DIMENSION_IDS;

/// Rows that one statement inserts: SQLite binds at most 32,766 values.
const INSERTED_ROWS: usize = 1_000;

/// What became of a draft.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpsertOutcome {
    Inserted,
    Changed,
    Unchanged,
    /// Its chart number was an erased patient's: nothing was changed.
    Erased,
    /// The visit is an erased patient's, whatever the draft says: nothing was changed.
    VisitOfErased,
    /// It could not be taken, for this reason.
    Refused(String),
}

/// A visit that is there already.
struct KnownVisit {
    row: visit::Model,
    of_erased: bool,
}

/// Writes drafts of a file into one hospital.
pub struct BulkImporter<'a> {
    store: &'a Store,
    hospital: i64,
    batches: u64,
}

impl Store {
    /// Writes drafts of a file into the hospital.
    #[must_use]
    pub fn bulk_importer(&self, hospital: i64) -> BulkImporter<'_> {
        BulkImporter {
            store: self,
            hospital,
            batches: 0,
        }
    }
}

impl BulkImporter<'_> {
    /// Writes patients, in one transaction: known by their chart number, or new.
    ///
    /// # Errors
    /// Where the database fails; nothing of the batch is taken then.
    pub async fn patients(&mut self, drafts: &[PatientDraft]) -> Result<Vec<UpsertOutcome>> {
        let outcomes = self.store.with_retry(|| self.patients_once(drafts)).await?;
        self.batch_done().await?;
        Ok(outcomes)
    }

    /// Writes visits, in one transaction: known by their visit number, or new. `brought` are patients of the same file; those not known are
    /// inserted.
    ///
    /// # Errors
    /// Where the database fails; nothing of the batch is taken then.
    pub async fn visits(
        &mut self,
        drafts: &[VisitDraft<String>],
        brought: &[PatientDraft],
    ) -> Result<Vec<UpsertOutcome>> {
        let outcomes = self.store.with_retry(|| self.visits_once(drafts, brought)).await?;
        self.batch_done().await?;
        Ok(outcomes)
    }

    /// PostgreSQL plans badly for tables that have grown much since it looked: it is made to look at each doubling.
    async fn batch_done(&mut self) -> Result<()> {
        self.batches += 1;
        if self.batches.is_power_of_two() && self.store.writer.get_database_backend() == DbBackend::Postgres {
            self.store
                .writer
                .execute_unprepared("ANALYZE patient, patient_name_suffix, visit, change_feed, record_change")
                .await?;
        }
        Ok(())
    }

    async fn patients_once(&self, drafts: &[PatientDraft]) -> Result<Vec<UpsertOutcome>> {
        let change = self.store.begin_change(self.hospital, ChangeContext::IMPORT);
        let (transaction, _turn) = change.await?;
        let chart_nos = || drafts.iter().filter_map(|draft| draft.chart_no.as_deref());
        let known = self.known_patients(&transaction, chart_nos()).await?;
        let erased = self.erased_numbers(&transaction, chart_nos(), &known).await?;
        let mut outcomes = Vec::with_capacity(drafts.len());
        let mut new = Vec::new();
        for draft in drafts {
            let Some(chart_no) = &draft.chart_no else {
                outcomes.push(missing_value("chart_no"));
                continue;
            };
            let Some(row) = known.get(chart_no) else {
                if erased.contains(chart_no) {
                    outcomes.push(UpsertOutcome::Erased);
                    continue;
                }
                new.push(self.new_patient(draft)?);
                outcomes.push(UpsertOutcome::Inserted);
                continue;
            };
            let mut wanted = self.store.patient_with(row, draft)?;
            if wanted == *row {
                outcomes.push(UpsertOutcome::Unchanged);
                continue;
            }
            self.store.index_name(&transaction, &mut wanted).await?;
            let mut changed = patient::ActiveModel::from(wanted).reset_all();
            changed.hospital_id = Unchanged(row.hospital_id);
            changed.id = Unchanged(row.id);
            changed.version = Set(row.version + 1);
            changed.update(&transaction).await?;
            outcomes.push(UpsertOutcome::Changed);
        }
        self.insert_patients(&transaction, new).await?;
        self.store.commit_change(transaction, self.hospital).await?;
        Ok(outcomes)
    }

    /// Inserts new patients, and indexes their names.
    async fn insert_patients(&self, transaction: &DatabaseTransaction, new: Vec<patient::Model>) -> Result<()> {
        if new.is_empty() {
            return Ok(());
        }
        let names: Vec<(String, Option<String>)> = new
            .iter()
            .filter_map(|row| Some((row.chart_no.clone()?, row.indexed_name.clone())))
            .collect();
        for new in new.chunks(INSERTED_ROWS) {
            let new = new.iter().cloned().map(|row| patient::ActiveModel {
                id: NotSet,
                ..patient::ActiveModel::from(row).reset_all()
            });
            patient::Entity::insert_many(new)
                .exec_without_returning(transaction)
                .await?;
        }
        let chart_nos: Vec<&str> = names.iter().map(|(chart_no, _)| chart_no.as_str()).collect();
        let mut sql = self.store.sql("SELECT chart_no, id FROM patient WHERE hospital_id = ");
        sql.bind(self.hospital).push(" AND chart_no").texts(&chart_nos);
        let mut ids: HashMap<String, i64> = HashMap::with_capacity(names.len());
        for row in transaction.query_all_raw(sql.done()).await? {
            ids.insert(row.try_get_by_index(0)?, row.try_get_by_index(1)?);
        }
        let named = names
            .iter()
            .filter_map(|(chart_no, name)| Some((*ids.get(chart_no)?, name.as_deref()?)));
        self.store.add_suffixes(transaction, self.hospital, named).await
    }

    async fn known_patients(
        &self,
        transaction: &DatabaseTransaction,
        chart_nos: impl Iterator<Item = &str>,
    ) -> Result<HashMap<String, patient::Model>> {
        let chart_nos: Vec<&str> = chart_nos.collect();
        let mut sql = self.store.sql("SELECT * FROM patient WHERE hospital_id = ");
        sql.bind(self.hospital).push(" AND chart_no").texts(&chart_nos);
        let mut known = HashMap::new();
        for row in transaction.query_all_raw(sql.done()).await? {
            let row = patient::Model::from_query_result(&row, "")?;
            if let Some(chart_no) = row.chart_no.clone() {
                known.insert(chart_no, row);
            }
        }
        Ok(known)
    }

    /// Which of the chart numbers were an erased patient's and are nobody's now.
    async fn erased_numbers(
        &self,
        transaction: &DatabaseTransaction,
        chart_nos: impl Iterator<Item = &str>,
        known: &HashMap<String, patient::Model>,
    ) -> Result<HashSet<String>> {
        let unknown = chart_nos.filter(|chart_no| !known.contains_key(*chart_no));
        self.store.erased_numbers(transaction, self.hospital, unknown).await
    }

    fn new_patient(&self, draft: &PatientDraft) -> Result<patient::Model> {
        let mut row = self.store.patient_with(&new_patient(self.hospital), draft)?;
        row.indexed_name = name_to_index(&row);
        Ok(row)
    }

    async fn visits_once(&self, drafts: &[VisitDraft<String>], brought: &[PatientDraft]) -> Result<Vec<UpsertOutcome>> {
        let change = self.store.begin_change(self.hospital, ChangeContext::IMPORT);
        let (transaction, _turn) = change.await?;
        let backend = transaction.get_database_backend();
        let (patients, erased) = self.patients_of_visits(&transaction, drafts, brought).await?;
        let known = self.known_visits(&transaction, drafts).await?;
        let left_out = |draft: &VisitDraft<String>| {
            let (Some(visit_no), Some(chart_no)) = (visit_no(draft), &draft.patient) else {
                return Some(missing_value("visit_no or chart_no"));
            };
            if draft.date.is_none() || draft.status.is_none() {
                return Some(missing_value("date or status"));
            }
            if erased.contains(chart_no) {
                return Some(UpsertOutcome::Erased);
            }
            if known.get(visit_no).is_some_and(|known| known.of_erased) {
                return Some(UpsertOutcome::VisitOfErased);
            }
            let reason = || format!("chart_no: no patient has the number {chart_no}; import patients first");
            (!patients.contains_key(chart_no)).then(|| UpsertOutcome::Refused(reason()))
        };
        let accepted: Vec<_> = drafts.iter().filter(|draft| left_out(draft).is_none()).collect();
        let departments = self.departments(&transaction, &accepted).await?;
        let doctors = self.doctors(&transaction, &accepted, &departments).await?;
        let mut outcomes = Vec::with_capacity(drafts.len());
        let mut new = Vec::new();
        for draft in drafts {
            let patient = draft.patient.as_ref().and_then(|chart_no| patients.get(chart_no));
            let patient_id = match (left_out(draft), patient) {
                (None, Some(&patient)) => patient,
                (left_out, _) => {
                    outcomes.extend(left_out);
                    continue;
                }
            };
            let department = id_by_name("department", given(&draft.department), &departments);
            let doctor = id_by_name("doctor", given(&draft.doctor), &doctors);
            let (department, doctor) = match (department, doctor) {
                (Ok(department), Ok(doctor)) => (department, doctor),
                (Err(reason), _) | (_, Err(reason)) => {
                    outcomes.push(UpsertOutcome::Refused(reason));
                    continue;
                }
            };
            let draft = draft.with_ids(patient_id, department, doctor);
            let Some(KnownVisit { row, .. }) = visit_no(&draft).and_then(|number| known.get(number)) else {
                let row = self.store.visit_with(&new_visit(self.hospital), &draft)?;
                let mut insert = visit::ActiveModel::from(row).reset_all();
                insert.id = NotSet;
                new.push(insert);
                outcomes.push(UpsertOutcome::Inserted);
                continue;
            };
            let wanted = self.store.visit_with(row, &draft)?;
            if wanted == *row {
                outcomes.push(UpsertOutcome::Unchanged);
                continue;
            }
            let mut changed = visit::ActiveModel::from(wanted).reset_all();
            changed.hospital_id = Unchanged(row.hospital_id);
            changed.id = Unchanged(row.id);
            changed.version = Set(row.version + 1);
            let update = visit::Entity::update(changed).validate()?;
            transaction.execute_raw(statement(backend, &update)).await?;
            outcomes.push(UpsertOutcome::Changed);
        }
        for new in new.chunks(INSERTED_ROWS) {
            let insert = visit::Entity::insert_many(new.iter().cloned());
            transaction.execute_raw(statement(backend, &insert)).await?;
        }
        self.store.commit_change(transaction, self.hospital).await?;
        Ok(outcomes)
    }

    /// The visits that are there already, by number.
    async fn known_visits(
        &self,
        transaction: &DatabaseTransaction,
        drafts: &[VisitDraft<String>],
    ) -> Result<HashMap<String, KnownVisit>> {
        let numbers: Vec<&str> = drafts.iter().filter_map(visit_no).collect();
        let mut sql = self.store.sql(
            "SELECT v.*, p.state AS patient_state FROM visit v
            JOIN patient p ON p.hospital_id = v.hospital_id AND p.id = v.patient_id WHERE v.hospital_id = ",
        );
        sql.bind(self.hospital).push(" AND v.visit_no").texts(&numbers);
        let mut known = HashMap::new();
        for found in transaction.query_all_raw(sql.done()).await? {
            let row = visit::Model::from_query_result(&found, "")?;
            if let Some(number) = row.visit_no.clone() {
                let of_erased = found.try_get::<String>("", "patient_state")? == RecordState::Erased.as_str();
                known.insert(number, KnownVisit { row, of_erased });
            }
        }
        Ok(known)
    }

    /// The patients of the visits by chart number, and the numbers that were an erased patient's; patients who are brought along
    /// and not known are inserted. A merged patient's visits go to whom it was merged into.
    async fn patients_of_visits(
        &self,
        transaction: &DatabaseTransaction,
        drafts: &[VisitDraft<String>],
        brought: &[PatientDraft],
    ) -> Result<(HashMap<String, i64>, HashSet<String>)> {
        let chart_nos = || drafts.iter().filter_map(|draft| draft.patient.as_deref());
        let mut known = self.known_patients(transaction, chart_nos()).await?;
        let erased = self.erased_numbers(transaction, chart_nos(), &known).await?;
        let mut new = Vec::new();
        let mut seen = HashSet::new();
        let unknown = |chart_no: &str| !known.contains_key(chart_no) && !erased.contains(chart_no);
        for draft in brought {
            let chart_no = draft.chart_no.as_deref();
            if chart_no.is_some_and(|chart_no| unknown(chart_no) && seen.insert(chart_no)) {
                new.push(self.new_patient(draft)?);
            }
        }
        if !new.is_empty() {
            self.insert_patients(transaction, new).await?;
            known = self.known_patients(transaction, chart_nos()).await?;
        }
        let patients = known
            .into_iter()
            .map(|(chart_no, row)| (chart_no, row.merged_into.unwrap_or(row.id)));
        Ok((patients.collect(), erased))
    }

    async fn departments(
        &self,
        transaction: &DatabaseTransaction,
        drafts: &[&VisitDraft<String>],
    ) -> Result<HashMap<String, i64>> {
        let wanted = drafts
            .iter()
            .filter_map(|draft| given(&draft.department))
            .map(|name| (name, None));
        let known = self.named(transaction, "department").await?;
        let new: Vec<_> = missing(wanted, &known)
            .into_keys()
            .take(free_numbers(&known))
            .map(|name| department::ActiveModel {
                hospital_id: Set(self.hospital),
                id: NotSet,
                name: Set(name.clone()),
                retired_at: Set(None),
            })
            .collect();
        if new.is_empty() {
            return Ok(known);
        }
        department::Entity::insert_many(new)
            .exec_without_returning(transaction)
            .await?;
        self.named(transaction, "department").await
    }

    async fn doctors(
        &self,
        transaction: &DatabaseTransaction,
        drafts: &[&VisitDraft<String>],
        departments: &HashMap<String, i64>,
    ) -> Result<HashMap<String, i64>> {
        let wanted = drafts.iter().filter_map(|draft| {
            let department = id_by_name("department", given(&draft.department), departments).ok()?;
            given(&draft.doctor).map(|name| (name, department))
        });
        let known = self.named(transaction, "doctor").await?;
        let new: Vec<_> = missing(wanted, &known)
            .into_iter()
            .take(free_numbers(&known))
            .map(|(name, department_id)| doctor::ActiveModel {
                hospital_id: Set(self.hospital),
                id: NotSet,
                name: Set(name.clone()),
                department_id: Set(department_id),
                retired_at: Set(None),
                slot_minutes: Set(None),
            })
            .collect();
        if new.is_empty() {
            return Ok(known);
        }
        doctor::Entity::insert_many(new)
            .exec_without_returning(transaction)
            .await?;
        self.named(transaction, "doctor").await
    }

    async fn named(&self, transaction: &DatabaseTransaction, table: &str) -> Result<HashMap<String, i64>> {
        let mut sql = self
            .store
            .sql(&format!("SELECT name, id FROM {table} WHERE hospital_id = "));
        sql.bind(self.hospital);
        let mut named = HashMap::new();
        for row in transaction.query_all_raw(sql.done()).await? {
            named.insert(row.try_get_by_index(0)?, row.try_get_by_index(1)?);
        }
        Ok(named)
    }
}

/// How many more departments or doctors the hospital may have.
fn free_numbers(known: &HashMap<String, i64>) -> usize {
    (MAX_DIMENSION_IDS as usize).saturating_sub(known.len())
}

/// The department or doctor of a draft, or why there is none of that name.
fn id_by_name(
    table: &str,
    name: Option<&String>,
    known: &HashMap<String, i64>,
) -> std::result::Result<Option<i64>, String> {
    let find = |name| known.get(name).copied();
    name.map(|name| find(name).ok_or_else(|| format!("{table}: {}", full(table))))
        .transpose()
}

/// Those of the names that are not known, each once, with what goes with it first.
fn missing<'a>(
    wanted: impl Iterator<Item = (&'a String, Option<i64>)>,
    known: &HashMap<String, i64>,
) -> BTreeMap<&'a String, Option<i64>> {
    let mut missing = BTreeMap::new();
    for (name, with) in wanted.filter(|(name, _)| !known.contains_key(*name)) {
        missing.entry(name).or_insert(with);
    }
    missing
}

/// The outcome of a draft that lacks a value without which no row can be written.
fn missing_value(field: &str) -> UpsertOutcome {
    UpsertOutcome::Refused(format!("{field}: empty"))
}

fn visit_no<R>(draft: &VisitDraft<R>) -> Option<&str> {
    given(&draft.visit_no).map(String::as_str)
}

fn given(value: &Patch<String>) -> Option<&String> {
    value.given().flatten()
}
