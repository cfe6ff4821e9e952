//! What hangs under the rows of a page, loaded for all of them at once. Loaders live as long as one request.

use std::collections::HashMap;
use std::sync::Arc;

use async_graphql::dataloader::Loader;
use entity::{department, doctor, patient};
use tokio::sync::OnceCell;

use crate::error::Error;
use crate::store::{FoundVisit, KeyedVisit, Past, PatientEnds, PatientVisits, Span, Store, VisitQuery};

pub(super) struct Loaders {
    store: Store,
    hospital: i64,
    // A hospital has few departments and doctors: all of them, once, are quicker told than some, again and again.
    departments: OnceCell<HashMap<DepartmentId, department::Model>>,
    doctors: OnceCell<HashMap<DoctorId, doctor::Model>>,
}

impl Loaders {
    pub(super) fn new(store: Store, hospital: i64) -> Self {
        Self {
            store,
            hospital,
            departments: OnceCell::new(),
            doctors: OnceCell::new(),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct DepartmentId(pub(super) i64);

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct DoctorId(pub(super) i64);

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct PatientId(pub(super) i64);

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct VisitId(pub(super) i64);

/// A patient's first, last and next visit, up to and from this day.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct EndsOf(pub(super) i64, pub(super) chrono::NaiveDate);

/// How many attended visits a patient has up to this day.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct AttendedOf(pub(super) i64, pub(super) chrono::NaiveDate);

/// A page of a patient's visits from one of its ends.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct VisitsOf {
    pub(super) patient: i64,
    pub(super) list: PatientVisits,
}

/// How many visits of a list a patient has.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct VisitTotalOf(pub(super) i64, pub(super) VisitQuery);

/// What became of a patient's visits since a revision. Nothing where the database has no such past.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct PastOf(pub(super) i64, pub(super) Span);

/// The patients that an audit entry is about.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct AuditedPatientsOf(pub(super) i64);

type Loaded<K, V> = std::result::Result<HashMap<K, V>, Error>;

impl Loader<DepartmentId> for Loaders {
    type Value = department::Model;
    type Error = Error;

    async fn load(&self, keys: &[DepartmentId]) -> Loaded<DepartmentId, Self::Value> {
        let load = async || {
            let all = self.store.departments(self.hospital).await?;
            Ok::<_, Error>(all.into_iter().map(|row| (DepartmentId(row.id), row)).collect())
        };
        Ok(some(self.departments.get_or_try_init(load).await?, keys))
    }
}

impl Loader<DoctorId> for Loaders {
    type Value = doctor::Model;
    type Error = Error;

    async fn load(&self, keys: &[DoctorId]) -> Loaded<DoctorId, Self::Value> {
        let load = async || {
            let all = self.store.doctors(self.hospital).await?;
            Ok::<_, Error>(all.into_iter().map(|row| (DoctorId(row.id), row)).collect())
        };
        Ok(some(self.doctors.get_or_try_init(load).await?, keys))
    }
}

impl Loader<PatientId> for Loaders {
    type Value = patient::Model;
    type Error = Error;

    async fn load(&self, keys: &[PatientId]) -> Loaded<PatientId, Self::Value> {
        let ids: Vec<i64> = keys.iter().map(|key| key.0).collect();
        let rows = self.store.patients_by_id(self.hospital, &ids).await?;
        Ok(rows.into_iter().map(|(id, row)| (PatientId(id), row)).collect())
    }
}

impl Loader<VisitId> for Loaders {
    type Value = FoundVisit;
    type Error = Error;

    async fn load(&self, keys: &[VisitId]) -> Loaded<VisitId, Self::Value> {
        let ids: Vec<i64> = keys.iter().map(|key| key.0).collect();
        let rows = self.store.visits_by_id(self.hospital, &ids).await?;
        Ok(rows.into_iter().map(|(id, row)| (VisitId(id), row)).collect())
    }
}

impl Loader<EndsOf> for Loaders {
    type Value = PatientEnds;
    type Error = Error;

    async fn load(&self, keys: &[EndsOf]) -> Loaded<EndsOf, Self::Value> {
        let mut loaded = HashMap::new();
        for (today, patients) in grouped(keys.iter().map(|key| (key.1, key.0))) {
            let ends = self.store.patient_ends(self.hospital, &patients, today).await?;
            loaded.extend(ends.into_iter().map(|(patient, ends)| (EndsOf(patient, today), ends)));
        }
        Ok(loaded)
    }
}

impl Loader<AttendedOf> for Loaders {
    type Value = u64;
    type Error = Error;

    async fn load(&self, keys: &[AttendedOf]) -> Loaded<AttendedOf, Self::Value> {
        let mut loaded = HashMap::new();
        for (today, patients) in grouped(keys.iter().map(|key| (key.1, key.0))) {
            let counts = self.store.attended_counts(self.hospital, &patients, today).await?;
            loaded.extend(
                counts
                    .into_iter()
                    .map(|(patient, count)| (AttendedOf(patient, today), count)),
            );
        }
        Ok(loaded)
    }
}

impl Loader<VisitsOf> for Loaders {
    type Value = Vec<KeyedVisit>;
    type Error = Error;

    async fn load(&self, keys: &[VisitsOf]) -> Loaded<VisitsOf, Self::Value> {
        let mut loaded = HashMap::new();
        for (list, patients) in grouped(keys.iter().map(|key| (key.list.clone(), key.patient))) {
            let pages = self.store.visits_of_patients(self.hospital, &patients, &list).await?;
            loaded.extend(pages.into_iter().map(|(patient, page)| {
                let list = list.clone();
                (VisitsOf { patient, list }, page)
            }));
        }
        Ok(loaded)
    }
}

impl Loader<VisitTotalOf> for Loaders {
    type Value = u64;
    type Error = Error;

    async fn load(&self, keys: &[VisitTotalOf]) -> Loaded<VisitTotalOf, Self::Value> {
        let mut loaded = HashMap::new();
        for (query, patients) in grouped(keys.iter().map(|key| (key.1.clone(), key.0))) {
            let totals = self
                .store
                .visit_totals_of_patients(self.hospital, &patients, &query)
                .await?;
            loaded.extend(
                totals
                    .into_iter()
                    .map(|(patient, total)| (VisitTotalOf(patient, query.clone()), total)),
            );
        }
        Ok(loaded)
    }
}

impl Loader<PastOf> for Loaders {
    type Value = Arc<Past>;
    type Error = Error;

    async fn load(&self, keys: &[PastOf]) -> Loaded<PastOf, Self::Value> {
        let mut loaded = HashMap::new();
        for (span, patients) in grouped(keys.iter().map(|key| (key.1, key.0))) {
            let pasts = self.store.pasts(self.hospital, &patients, span).await?;
            let pasts = pasts.into_iter().flatten();
            loaded.extend(pasts.map(|(patient, past)| (PastOf(patient, span), Arc::new(past))));
        }
        Ok(loaded)
    }
}

impl Loader<AuditedPatientsOf> for Loaders {
    type Value = Vec<i64>;
    type Error = Error;

    async fn load(&self, keys: &[AuditedPatientsOf]) -> Loaded<AuditedPatientsOf, Self::Value> {
        let entries: Vec<i64> = keys.iter().map(|key| key.0).collect();
        let patients = self.store.audit_patients(self.hospital, &entries).await?;
        let patients = patients.into_iter();
        Ok(patients
            .map(|(entry, patients)| (AuditedPatientsOf(entry), patients))
            .collect())
    }
}

fn some<K: Copy + Eq + std::hash::Hash, V: Clone>(all: &HashMap<K, V>, keys: &[K]) -> HashMap<K, V> {
    keys.iter()
        .filter_map(|key| Some((*key, all.get(key)?.clone())))
        .collect()
}

/// Keys that are asked for in the same way go together.
fn grouped<G: Eq + std::hash::Hash>(keys: impl Iterator<Item = (G, i64)>) -> HashMap<G, Vec<i64>> {
    let mut groups: HashMap<G, Vec<i64>> = HashMap::new();
    for (group, key) in keys {
        groups.entry(group).or_default().push(key);
    }
    groups
}
