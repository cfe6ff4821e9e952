//! Visits of files.

use std::collections::{BTreeMap, HashMap, HashSet};

use entity::{department, doctor, visit};
use sea_orm::ActiveValue::{NotSet, Set, Unchanged};
use sea_orm::{
    ActiveModelTrait as _, ConnectionTrait as _, DatabaseTransaction, EntityTrait as _, FromQueryResult as _,
};

use super::values::{VISIT_FIELDS, Values, current_of_visit, only_of_visit, said_of_visit};
use super::{Bases, Compared, ConflictPolicy, Decided, ImportOutcome, Importer, Plan, RowResult};
use crate::error::Result;
use crate::records::{Patch, PatientDraft, VisitDraft};
use crate::statistics::MAX_DIMENSION_IDS;
use crate::store::draft::new_visit;
use crate::store::history::RecordKind;
use crate::store::hospital::full;
use crate::store::model::RecordState;
use crate::store::sql::{ColumnType, Rows, statement};

/// The columns that imports write of new visits; the others have their defaults.
const NEW_VISIT: &[(&str, ColumnType)] = &[
    ("hospital_id", ColumnType::Integer),
    ("visit_no", ColumnType::Text),
    ("patient_id", ColumnType::Integer),
    ("date", ColumnType::Date),
    ("scheduled_at", ColumnType::Instant),
    ("status", ColumnType::Text),
    ("department_id", ColumnType::Integer),
    ("doctor_id", ColumnType::Integer),
    ("channel", ColumnType::Text),
];

/// A visit that is there already.
struct KnownVisit {
    row: visit::Model,
    of_erased: bool,
    /// Its patient's.
    chart_no: Option<String>,
}

/// What a slice of visits needs to know of the database.
struct Surroundings {
    /// By chart number; of a merged record the patient who stays. None for one that is going to be inserted.
    patients: HashMap<String, Option<i64>>,
    /// Chart numbers of erased patients, and whether they were reported.
    erased: HashMap<String, bool>,
    visits: HashMap<String, KnownVisit>,
    /// Numbers of visits that staff deleted.
    deleted: HashSet<String>,
    departments: HashMap<String, i64>,
    doctors: HashMap<String, i64>,
    bases: Bases,
}

/// What is to be written of a draft.
enum Write<'a> {
    Nothing,
    New,
    Change(&'a visit::Model, VisitDraft<String>),
}

/// A draft with what becomes of it.
struct Decision<'a> {
    result: RowResult,
    write: Write<'a>,
}

impl Importer<'_> {
    pub(super) async fn check_visits(&self, drafts: &[VisitDraft<String>], brought: &[PatientDraft]) -> Result<Plan> {
        let view = self.store.read_view().await?;
        let mut around = self.surroundings(&view, drafts).await?;
        for patient in brought {
            if let Some(chart_no) = &patient.chart_no
                && !around.erased.contains_key(chart_no)
            {
                around.patients.entry(chart_no.clone()).or_insert(None);
            }
        }
        let mut plan = Plan::new(drafts.len());
        let mut decisions = self.decide_visits(&view, drafts, &around, &mut plan).await?;
        let none = HashSet::new();
        for (table, known) in [("department", &around.departments), ("doctor", &around.doctors)] {
            let planned = self.planned.get(table).unwrap_or(&none);
            let wanted = names_to_write(table, drafts, &decisions);
            let mut missing: Vec<String> = missing(wanted.map(|name| (name, None)), known)
                .into_keys()
                .filter(|name| !planned.contains(*name))
                .cloned()
                .collect();
            missing.truncate(free_numbers(known.len() + planned.len()));
            let is_there = |name: &String| known.contains_key(name) || planned.contains(name) || missing.contains(name);
            refuse_without_room(table, drafts, &mut decisions, is_there);
            plan.planned.push((table, missing));
        }
        plan.results
            .extend(decisions.into_iter().map(|decision| decision.result));
        view.commit().await?;
        Ok(plan)
    }

    pub(super) async fn commit_visits(&self, drafts: &[VisitDraft<String>], brought: &[PatientDraft]) -> Result<Plan> {
        let change = self.store.begin_change(self.hospital, self.change_context());
        let (transaction, _permit) = change.await?;
        let mut around = self.surroundings(&transaction, drafts).await?;
        self.insert_brought(&transaction, brought, &mut around).await?;
        let mut plan = Plan::new(drafts.len());
        let mut decisions = self.decide_visits(&transaction, drafts, &around, &mut plan).await?;
        let names = |decisions: &[Decision<'_>]| -> Vec<String> {
            names_to_write("department", drafts, decisions).cloned().collect()
        };
        let departments = self
            .departments(&transaction, &names(&decisions), &around.departments)
            .await?;
        let doctors = self
            .doctors(&transaction, drafts, &decisions, (&around.doctors, &departments))
            .await?;
        for (table, known) in [("department", &departments), ("doctor", &doctors)] {
            refuse_without_room(table, drafts, &mut decisions, |name| known.contains_key(name));
        }
        // The source is to be believed the next time, when there may be room.
        let refused: HashSet<&str> = drafts
            .iter()
            .zip(&decisions)
            .filter(|(_, decision)| decision.result.outcome == ImportOutcome::Refused)
            .filter_map(|(draft, _)| visit_no(draft))
            .collect();
        plan.bases.retain(|(number, _)| !refused.contains(number.as_str()));
        let mut rows = Rows::new(NEW_VISIT);
        let mut reinserted = Vec::new();
        for (draft, decision) in drafts.iter().zip(&mut decisions) {
            let with_ids = |draft: &VisitDraft<String>| {
                let id = |name: Option<&String>, known: &HashMap<String, i64>| {
                    name.and_then(|name| known.get(name).copied())
                };
                let patient = draft.patient.as_ref();
                let patient = patient.and_then(|chart_no| around.patients.get(chart_no).copied().flatten());
                let (department, doctor) = (given(&draft.department), given(&draft.doctor));
                draft.with_ids(patient, id(department, &departments), id(doctor, &doctors))
            };
            match &decision.write {
                Write::Nothing => {}
                Write::New => {
                    let row = self.store.visit_with(&new_visit(self.hospital), &with_ids(draft))?;
                    reinserted.extend(row.visit_no.clone().filter(|number| around.deleted.contains(number)));
                    decision.result.patient = Some(row.patient_id);
                    rows.push([
                        row.hospital_id.into(),
                        row.visit_no.into(),
                        row.patient_id.into(),
                        row.date.into(),
                        row.scheduled_at.into(),
                        row.status.into(),
                        row.department_id.into(),
                        row.doctor_id.into(),
                        row.channel.into(),
                    ]);
                }
                Write::Change(row, draft) => {
                    let wanted = self.store.visit_with(row, &with_ids(draft))?;
                    let mut changed = visit::ActiveModel::from(wanted).reset_all();
                    changed.hospital_id = Unchanged(row.hospital_id);
                    changed.id = Unchanged(row.id);
                    changed.version = Set(row.version + 1);
                    let update = visit::Entity::update(changed).validate()?;
                    let backend = transaction.get_database_backend();
                    transaction.execute_raw(statement(backend, &update)).await?;
                }
            }
        }
        self.store.insert_rows(&transaction, "visit", rows, "").await?;
        self.store
            .forget_deleted(&transaction, self.hospital, &reinserted)
            .await?;
        plan.results
            .extend(decisions.into_iter().map(|decision| decision.result));
        self.save_bases(&transaction, &around.bases, &plan).await?;
        self.store.commit_change(transaction, self.hospital).await?;
        Ok(plan)
    }

    async fn surroundings(&self, view: &DatabaseTransaction, drafts: &[VisitDraft<String>]) -> Result<Surroundings> {
        let numbers: Vec<&str> = drafts.iter().filter_map(visit_no).collect();
        let chart_nos: Vec<&str> = drafts.iter().filter_map(|draft| draft.patient.as_deref()).collect();
        let patients = self.patient_ids(view, &chart_nos).await?;
        let unknown = chart_nos
            .iter()
            .copied()
            .filter(|chart_no| !patients.contains_key(*chart_no));
        let erased = self.store.erased_numbers(view, self.hospital, unknown).await?;
        let visits = self.known_visits(view, &numbers).await?;
        let gone: Vec<&str> = numbers
            .iter()
            .copied()
            .filter(|number| !visits.contains_key(*number))
            .collect();
        Ok(Surroundings {
            patients,
            erased,
            deleted: self.store.deleted_by_staff(view, self.hospital, &gone).await?,
            visits,
            departments: self.named(view, "department").await?,
            doctors: self.named(view, "doctor").await?,
            bases: self.bases(view, RecordKind::Visit, &numbers).await?,
        })
    }

    async fn decide_visits<'a>(
        &self,
        view: &DatabaseTransaction,
        drafts: &[VisitDraft<String>],
        around: &'a Surroundings,
        plan: &mut Plan,
    ) -> Result<Vec<Decision<'a>>> {
        let names = |known: &'a HashMap<String, i64>| -> HashMap<i64, &'a str> {
            known.iter().map(|(name, id)| (*id, name.as_str())).collect()
        };
        let (departments, doctors) = (names(&around.departments), names(&around.doctors));
        let compare = |draft: &VisitDraft<String>| -> Option<(&'a KnownVisit, Compared, Values, Values)> {
            let number = visit_no(draft)?;
            let known = around.visits.get(number)?;
            let row = &known.row;
            // A merged patient's number stands for the patient who stays.
            let same_patient = draft
                .patient
                .as_deref()
                .filter(|chart_no| around.patients.get(*chart_no) == Some(&Some(row.patient_id)));
            let current = current_of_visit(
                row,
                same_patient.or(known.chart_no.as_deref()),
                row.department_id.and_then(|id| departments.get(&id).copied()),
                row.doctor_id.and_then(|id| doctors.get(&id).copied()),
            );
            let said = said_of_visit(draft);
            Some((
                known,
                around.bases.compared(number, &said, Some(&current)),
                said,
                current,
            ))
        };
        let compared: Vec<_> = drafts.iter().map(compare).collect();
        let differing: Vec<i64> = compared
            .iter()
            .flatten()
            .filter(|(_, compared, ..)| compared.differs())
            .map(|(known, ..)| known.row.id)
            .collect();
        let by_people = self
            .store
            .fields_set_by_people(view, self.hospital, RecordKind::Visit, &differing)
            .await?;
        let mut decisions = Vec::with_capacity(drafts.len());
        for (draft, compared) in drafts.iter().zip(compared) {
            let nothing = |result| Decision {
                result,
                write: Write::Nothing,
            };
            let (Some(number), Some(chart_no)) = (visit_no(draft), draft.patient.as_ref()) else {
                decisions.push(nothing(RowResult::refused("visit_no", "empty, or chart_no is")));
                continue;
            };
            if draft.date.is_none() || draft.status.is_none() {
                decisions.push(nothing(RowResult::refused("date", "empty, or status is")));
                continue;
            }
            if let Some(reported) = around.erased.get(chart_no) {
                decisions.push(nothing(self.left_out_erased(plan, chart_no, *reported)));
                continue;
            }
            let mut left_out = |reason: &str| {
                let mut result = RowResult::new(ImportOutcome::Unchanged);
                if around.bases.note_left_out(plan, number, &said_of_visit(draft)) {
                    result.add_problem(Some("visit_no"), reason);
                }
                nothing(result)
            };
            if compared.as_ref().is_some_and(|(known, ..)| known.of_erased) {
                decisions.push(left_out(
                    "the visit is of a patient who was erased: the row is left out",
                ));
                continue;
            }
            let is_deleted = around.deleted.contains(number);
            if is_deleted && self.options.conflicts == ConflictPolicy::Keep {
                decisions.push(left_out("staff deleted this visit: the row is left out"));
                continue;
            }
            if !around.patients.contains_key(chart_no) {
                let reason = "no patient has this number; import patients first";
                decisions.push(nothing(RowResult::refused("chart_no", reason)));
                continue;
            }
            let Some((known, compared, said, current)) = compared else {
                let said = said_of_visit(draft);
                let base = around.bases.compared(number, &said, None).base;
                around.bases.note(plan, number, base);
                let mut result = self.inserted(VISIT_FIELDS, &said);
                if is_deleted {
                    result.add_problem(Some("visit_no"), "staff deleted this visit; it is inserted again");
                }
                decisions.push(Decision {
                    result,
                    write: Write::New,
                });
                continue;
            };
            let row = &known.row;
            let Decided { mut result, write } =
                self.decide(VISIT_FIELDS, &compared, (&said, &current), by_people.get(&row.id));
            result.patient = Some(row.patient_id);
            around.bases.note(plan, number, compared.base);
            let write = if write.contains(&true) {
                Write::Change(row, only_of_visit(draft, &write))
            } else {
                Write::Nothing
            };
            decisions.push(Decision { result, write });
        }
        Ok(decisions)
    }

    async fn known_visits(&self, view: &DatabaseTransaction, numbers: &[&str]) -> Result<HashMap<String, KnownVisit>> {
        let mut sql = self.store.sql(
            "SELECT v.*, p.state AS patient_state, p.chart_no AS patient_chart_no FROM visit v
            JOIN patient p ON p.hospital_id = v.hospital_id AND p.id = v.patient_id WHERE v.hospital_id = ",
        );
        sql.bind(self.hospital).push(" AND v.visit_no").texts(numbers);
        let mut known = HashMap::new();
        for found in view.query_all_raw(sql.done()).await? {
            let row = visit::Model::from_query_result(&found, "")?;
            if let Some(number) = row.visit_no.clone() {
                let visit = KnownVisit {
                    row,
                    of_erased: found.try_get::<String>("", "patient_state")? == RecordState::Erased.as_str(),
                    chart_no: found.try_get("", "patient_chart_no")?,
                };
                known.insert(number, visit);
            }
        }
        Ok(known)
    }

    /// The patients with these chart numbers; of a merged record the patient who stays.
    async fn patient_ids(
        &self,
        view: &DatabaseTransaction,
        chart_nos: &[&str],
    ) -> Result<HashMap<String, Option<i64>>> {
        let mut chart_nos = chart_nos.to_vec();
        chart_nos.sort_unstable();
        chart_nos.dedup();
        let mut sql = self
            .store
            .sql("SELECT chart_no, COALESCE(merged_into, id) FROM patient WHERE hospital_id = ");
        sql.bind(self.hospital).push(" AND chart_no").texts(&chart_nos);
        let mut ids = HashMap::new();
        for row in view.query_all_raw(sql.done()).await? {
            ids.insert(row.try_get_by_index(0)?, Some(row.try_get_by_index(1)?));
        }
        Ok(ids)
    }

    /// Inserts the patients who are not known, each once.
    async fn insert_brought(
        &self,
        transaction: &DatabaseTransaction,
        brought: &[PatientDraft],
        around: &mut Surroundings,
    ) -> Result<()> {
        let mut new = Vec::new();
        let mut chart_nos = HashSet::new();
        for draft in brought {
            let Some(chart_no) = draft.chart_no.as_deref() else {
                continue;
            };
            let is_known = around.patients.contains_key(chart_no) || around.erased.contains_key(chart_no);
            if !is_known && chart_nos.insert(chart_no) {
                new.push(self.new_patient(draft)?);
            }
        }
        self.insert_patients(transaction, &new).await?;
        let chart_nos: Vec<&str> = chart_nos.into_iter().collect();
        around.patients.extend(self.patient_ids(transaction, &chart_nos).await?);
        Ok(())
    }

    async fn departments(
        &self,
        transaction: &DatabaseTransaction,
        wanted: &[String],
        known: &HashMap<String, i64>,
    ) -> Result<HashMap<String, i64>> {
        let new: Vec<_> = missing(wanted.iter().map(|name| (name, None)), known)
            .into_keys()
            .take(free_numbers(known.len()))
            .map(|name| department::ActiveModel {
                hospital_id: Set(self.hospital),
                id: NotSet,
                name: Set(name.clone()),
                retired_at: Set(None),
            })
            .collect();
        if new.is_empty() {
            return Ok(known.clone());
        }
        department::Entity::insert_many(new)
            .exec_without_returning(transaction)
            .await?;
        self.named(transaction, "department").await
    }

    async fn doctors(
        &self,
        transaction: &DatabaseTransaction,
        drafts: &[VisitDraft<String>],
        decisions: &[Decision<'_>],
        (known, departments): (&HashMap<String, i64>, &HashMap<String, i64>),
    ) -> Result<HashMap<String, i64>> {
        let wanted = to_write(drafts, decisions).filter_map(|(draft, written)| {
            let department = given(&draft.department).and_then(|name| departments.get(name).copied());
            given(&written.doctor).map(|name| (name, department))
        });
        let new: Vec<_> = missing(wanted, known)
            .into_iter()
            .take(free_numbers(known.len()))
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
            return Ok(known.clone());
        }
        doctor::Entity::insert_many(new)
            .exec_without_returning(transaction)
            .await?;
        self.named(transaction, "doctor").await
    }

    async fn named(&self, view: &DatabaseTransaction, table: &str) -> Result<HashMap<String, i64>> {
        let mut sql = self
            .store
            .sql(&format!("SELECT name, id FROM {table} WHERE hospital_id = "));
        sql.bind(self.hospital);
        let mut named = HashMap::new();
        for row in view.query_all_raw(sql.done()).await? {
            named.insert(row.try_get_by_index(0)?, row.try_get_by_index(1)?);
        }
        Ok(named)
    }
}

/// The drafts of which something is written, with what is.
fn to_write<'a>(
    drafts: &'a [VisitDraft<String>],
    decisions: &'a [Decision<'_>],
) -> impl Iterator<Item = (&'a VisitDraft<String>, &'a VisitDraft<String>)> {
    let written = |(draft, decision): (&'a VisitDraft<String>, &'a Decision<'_>)| match &decision.write {
        Write::Nothing => None,
        Write::New => Some((draft, draft)),
        Write::Change(_, written) => Some((draft, written)),
    };
    drafts.iter().zip(decisions).filter_map(written)
}

/// The names of departments or doctors that are to be written.
fn names_to_write<'a>(
    table: &'static str,
    drafts: &'a [VisitDraft<String>],
    decisions: &'a [Decision<'_>],
) -> impl Iterator<Item = &'a String> {
    to_write(drafts, decisions).filter_map(move |(_, written)| name_in(table, written))
}

fn name_in<'a>(table: &str, draft: &'a VisitDraft<String>) -> Option<&'a String> {
    match table {
        "department" => given(&draft.department),
        _ => given(&draft.doctor),
    }
}

/// Refuses what needs a department or a doctor for which the hospital has no room.
fn refuse_without_room(
    table: &'static str,
    drafts: &[VisitDraft<String>],
    decisions: &mut [Decision<'_>],
    is_there: impl Fn(&String) -> bool,
) {
    for (draft, decision) in drafts.iter().zip(decisions) {
        let name = match &decision.write {
            Write::Nothing => None,
            Write::New => name_in(table, draft),
            Write::Change(_, written) => name_in(table, written),
        };
        if name.is_some_and(|name| !is_there(name)) {
            decision.result = RowResult::refused(table, full(table));
            decision.write = Write::Nothing;
        }
    }
}

/// How many more departments or doctors the hospital may have.
fn free_numbers(known: usize) -> usize {
    (MAX_DIMENSION_IDS as usize).saturating_sub(known)
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

fn visit_no<R>(draft: &VisitDraft<R>) -> Option<&str> {
    given(&draft.visit_no).map(String::as_str)
}

fn given(value: &Patch<String>) -> Option<&String> {
    value.given().flatten()
}
