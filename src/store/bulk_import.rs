//! Takes patients and visits in, batch by batch: new ones are inserted, known ones changed where they differ.

use std::collections::{BTreeMap, HashMap, HashSet};

use entity::scheduled_at::ScheduledAt;
use entity::{department, doctor, patient, visit};
use sea_orm::ActiveValue::{NotSet, Set};
use sea_orm::{
    ActiveModelTrait as _, ConnectionTrait, DatabaseTransaction, DbBackend, EntityTrait, FromQueryResult,
    IntoActiveModel as _,
};

use super::Store;
use super::hospital::full;
use crate::error::Result;
use crate::records::{PatientRecord, VisitRecord};
use crate::statistics::{MAX_DIMENSION_IDS, VisitChannel};
use crate::text;

/// What became of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpsertOutcome {
    Inserted,
    Changed,
    Unchanged,
    /// Its chart number was an erased patient's: nothing was changed.
    Erased,
    /// The visit is an erased patient's, whatever the record says: nothing was changed.
    VisitOfErased,
    /// It could not be taken, for this reason.
    Refused(String),
}

/// A visit that is there already.
struct KnownVisit {
    row: visit::Model,
    of_erased: bool,
}

/// Takes records into one hospital.
pub struct BulkImporter<'a> {
    store: &'a Store,
    hospital: i64,
    batches: u64,
}

impl Store {
    /// Takes records into the hospital.
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
    /// Takes patients, in one transaction. An attribute that a record leaves out stays as it is.
    ///
    /// # Errors
    /// Where the database fails; nothing of the batch is taken then.
    pub async fn patients(&mut self, records: &[PatientRecord]) -> Result<Vec<UpsertOutcome>> {
        let taken = self.store.with_retry(|| self.patients_once(records)).await?;
        self.batch_done().await?;
        Ok(taken)
    }

    /// Takes visits, in one transaction. What a record leaves out stays as it is. `brought` are patients that come along with them: who is not known is inserted.
    ///
    /// # Errors
    /// Where the database fails; nothing of the batch is taken then.
    pub async fn visits(&mut self, records: &[VisitRecord], brought: &[PatientRecord]) -> Result<Vec<UpsertOutcome>> {
        let taken = self.store.with_retry(|| self.visits_once(records, brought)).await?;
        self.batch_done().await?;
        Ok(taken)
    }

    /// PostgreSQL plans badly for tables that have grown much since it looked: it is made to look at each doubling.
    async fn batch_done(&mut self) -> Result<()> {
        self.batches += 1;
        if self.batches.is_power_of_two() && self.store.writer.get_database_backend() == DbBackend::Postgres {
            self.store
                .writer
                .execute_unprepared("ANALYZE patient, visit, change_feed")
                .await?;
        }
        Ok(())
    }

    async fn patients_once(&self, records: &[PatientRecord]) -> Result<Vec<UpsertOutcome>> {
        let (transaction, _turn) = self.store.begin_change(self.hospital).await?;
        let known = self
            .known_patients(&transaction, records.iter().map(|r| r.chart_no.as_str()))
            .await?;
        let erased = self
            .erased_numbers(&transaction, records.iter().map(|r| r.chart_no.as_str()), &known)
            .await?;
        let mut taken = Vec::with_capacity(records.len());
        let mut new = Vec::new();
        for record in records {
            let Some(row) = known.get(&record.chart_no) else {
                if erased.contains(&record.chart_no) {
                    taken.push(UpsertOutcome::Erased);
                    continue;
                }
                new.push(self.new_patient(record)?);
                taken.push(UpsertOutcome::Inserted);
                continue;
            };
            let changed = self.changed_patient(row, record)?;
            taken.push(if changed.is_changed() {
                UpsertOutcome::Changed
            } else {
                UpsertOutcome::Unchanged
            });
            if changed.is_changed() {
                changed.update(&transaction).await?;
            }
        }
        if !new.is_empty() {
            patient::Entity::insert_many(new)
                .exec_without_returning(&transaction)
                .await?;
        }
        transaction.commit().await?;
        Ok(taken)
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

    fn new_patient(&self, record: &PatientRecord) -> Result<patient::ActiveModel> {
        let secrets = self.store.secrets();
        let phone = record.phone.as_deref();
        Ok(patient::ActiveModel {
            hospital_id: Set(self.hospital),
            id: NotSet,
            state: Set("ACTIVE".to_owned()),
            merged_into: Set(None),
            chart_no: Set(Some(record.chart_no.clone())),
            name: Set(record.name.clone()),
            folded_name: Set(record.name.as_deref().map(text::folded)),
            folded_from: Set(record.name.clone()),
            phone: Set(phone
                .map(|phone| secrets.seal(self.hospital, "phone", phone))
                .transpose()?),
            phone_index: Set(phone
                .map(|phone| secrets.phone_index(self.hospital, phone))
                .transpose()?),
            birth_date: Set(record.birth_date),
            birth_year: Set(birth_year(record)),
            sex: Set(record.sex.as_str().to_owned()),
            registered_on: Set(record.registered_on),
            memo: Set(None),
            version: Set(1),
        })
    }

    fn changed_patient(&self, row: &patient::Model, record: &PatientRecord) -> Result<patient::ActiveModel> {
        let mut changed = row.clone().into_active_model();
        if record.name.is_some() && record.name != row.name {
            changed.name = Set(record.name.clone());
            changed.folded_name = Set(record.name.as_deref().map(text::folded));
            changed.folded_from = Set(record.name.clone());
        }
        if let Some(phone) = &record.phone {
            let secrets = self.store.secrets();
            let kept = row.phone_index.as_ref();
            if !kept.is_some_and(|kept| {
                secrets
                    .phone_indexes(self.hospital, phone)
                    .is_ok_and(|all| all.contains(kept))
            }) {
                changed.phone = Set(Some(secrets.seal(self.hospital, "phone", phone)?));
                changed.phone_index = Set(Some(secrets.phone_index(self.hospital, phone)?));
            }
        }
        if record.birth_date.is_some() && record.birth_date != row.birth_date {
            changed.birth_date = Set(record.birth_date);
        }
        if birth_year(record).is_some() && birth_year(record) != row.birth_year {
            changed.birth_year = Set(birth_year(record));
        }
        if record.sex != crate::records::Sex::Unknown && record.sex.as_str() != row.sex {
            changed.sex = Set(record.sex.as_str().to_owned());
        }
        if record.registered_on.is_some() && record.registered_on != row.registered_on {
            changed.registered_on = Set(record.registered_on);
        }
        if changed.is_changed() {
            changed.version = Set(row.version + 1);
        }
        Ok(changed)
    }

    async fn visits_once(&self, records: &[VisitRecord], brought: &[PatientRecord]) -> Result<Vec<UpsertOutcome>> {
        let (transaction, _turn) = self.store.begin_change(self.hospital).await?;
        let (patients, erased) = self.patients_of_visits(&transaction, records, brought).await?;
        let known = self.known_visits(&transaction, records).await?;
        let left_out = |record: &VisitRecord| {
            if erased.contains(&record.chart_no) {
                return Some(UpsertOutcome::Erased);
            }
            if known.get(&record.visit_no).is_some_and(|known| known.of_erased) {
                return Some(UpsertOutcome::VisitOfErased);
            }
            let reason = || {
                format!(
                    "chart_no: no patient has the number {}; import patients first",
                    record.chart_no
                )
            };
            (!patients.contains_key(&record.chart_no)).then(|| UpsertOutcome::Refused(reason()))
        };
        let let_in: Vec<&VisitRecord> = records.iter().filter(|record| left_out(record).is_none()).collect();
        let departments = self.departments(&transaction, &let_in).await?;
        let doctors = self.doctors(&transaction, &let_in, &departments).await?;
        let mut taken = Vec::with_capacity(records.len());
        let mut new = Vec::new();
        for record in records {
            let patient_id = match (left_out(record), patients.get(&record.chart_no)) {
                (None, Some(&patient)) => patient,
                (left_out, _) => {
                    taken.extend(left_out);
                    continue;
                }
            };
            let department = id_by_name("department", record.department.as_ref(), &departments);
            let doctor = id_by_name("doctor", record.doctor.as_ref(), &doctors);
            let (department, doctor) = match (department, doctor) {
                (Ok(department), Ok(doctor)) => (department, doctor),
                (Err(reason), _) | (_, Err(reason)) => {
                    taken.push(UpsertOutcome::Refused(reason));
                    continue;
                }
            };
            let channel = record.channel.map(|channel| channel.as_str().to_owned());
            let Some(KnownVisit { row, .. }) = known.get(&record.visit_no) else {
                new.push(visit::ActiveModel {
                    hospital_id: Set(self.hospital),
                    id: NotSet,
                    visit_no: Set(Some(record.visit_no.clone())),
                    patient_id: Set(patient_id),
                    date: Set(record.date),
                    scheduled_at: Set(record.scheduled_at.map(ScheduledAt)),
                    status: Set(record.status.as_str().to_owned()),
                    department_id: Set(department),
                    doctor_id: Set(doctor),
                    channel: Set(channel.unwrap_or_else(|| VisitChannel::Other.as_str().to_owned())),
                    version: Set(1),
                });
                taken.push(UpsertOutcome::Inserted);
                continue;
            };
            let wanted = visit::Model {
                patient_id,
                date: record.date,
                scheduled_at: record.scheduled_at.map(ScheduledAt).or(row.scheduled_at),
                status: record.status.as_str().to_owned(),
                department_id: department.or(row.department_id),
                doctor_id: doctor.or(row.doctor_id),
                channel: channel.unwrap_or_else(|| row.channel.clone()),
                ..row.clone()
            };
            if wanted == *row {
                taken.push(UpsertOutcome::Unchanged);
                continue;
            }
            let mut changed = visit::ActiveModel::from(wanted).reset_all();
            changed.hospital_id = sea_orm::ActiveValue::Unchanged(row.hospital_id);
            changed.id = sea_orm::ActiveValue::Unchanged(row.id);
            changed.version = Set(row.version + 1);
            changed.update(&transaction).await?;
            taken.push(UpsertOutcome::Changed);
        }
        if !new.is_empty() {
            visit::Entity::insert_many(new)
                .exec_without_returning(&transaction)
                .await?;
        }
        transaction.commit().await?;
        Ok(taken)
    }

    /// The visits that are there already, by number.
    async fn known_visits(
        &self,
        transaction: &DatabaseTransaction,
        records: &[VisitRecord],
    ) -> Result<HashMap<String, KnownVisit>> {
        let numbers: Vec<&str> = records.iter().map(|record| record.visit_no.as_str()).collect();
        let mut sql = self.store.sql(
            "SELECT v.*, p.state AS patient_state FROM visit v
            JOIN patient p ON p.hospital_id = v.hospital_id AND p.id = v.patient_id WHERE v.hospital_id = ",
        );
        sql.bind(self.hospital).push(" AND v.visit_no").texts(&numbers);
        let mut known = HashMap::new();
        for found in transaction.query_all_raw(sql.done()).await? {
            let row = visit::Model::from_query_result(&found, "")?;
            if let Some(number) = row.visit_no.clone() {
                let of_erased = found.try_get::<String>("", "patient_state")? == "ERASED";
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
        records: &[VisitRecord],
        brought: &[PatientRecord],
    ) -> Result<(HashMap<String, i64>, HashSet<String>)> {
        let chart_nos = || records.iter().map(|record| record.chart_no.as_str());
        let mut known = self.known_patients(transaction, chart_nos()).await?;
        let erased = self.erased_numbers(transaction, chart_nos(), &known).await?;
        let mut new = Vec::new();
        let mut seen = HashSet::new();
        let unknown = |chart_no| !known.contains_key(chart_no) && !erased.contains(chart_no);
        for record in brought {
            if unknown(&record.chart_no) && seen.insert(&record.chart_no) {
                new.push(self.new_patient(record)?);
            }
        }
        if !new.is_empty() {
            patient::Entity::insert_many(new)
                .exec_without_returning(transaction)
                .await?;
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
        records: &[&VisitRecord],
    ) -> Result<HashMap<String, i64>> {
        let wanted = records
            .iter()
            .filter_map(|record| record.department.as_ref())
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
        records: &[&VisitRecord],
        departments: &HashMap<String, i64>,
    ) -> Result<HashMap<String, i64>> {
        let wanted = records.iter().filter_map(|record| {
            let department = id_by_name("department", record.department.as_ref(), departments).ok()?;
            record.doctor.as_ref().map(|name| (name, department))
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

/// The department or doctor of a record, or why there is none of that name.
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

/// The birth year follows the birth date where that is known.
fn birth_year(record: &PatientRecord) -> Option<i32> {
    use chrono::Datelike as _;
    record.birth_date.map(|date| date.year()).or(record.birth_year)
}
