//! What hangs under the rows of a page, loaded for all of them at once. Loaders live as long as one request.

use std::collections::HashMap;
use std::sync::Arc;

use async_graphql::dataloader::Loader;
use chrono::NaiveDate;
use scheduling::{Interval, LeftOutReason, RecallCounts};
use tokio::sync::OnceCell;

use crate::error::Error;
use crate::reporting::SnapshotId;
use crate::store::{
    ChangeEntry, Department, Doctor, DoctorHours, DoctorSchedule, HistoryPage, KeyedRecallEntry, KeyedVisit,
    LeftOutPage, Patient, PatientEnds, PatientVisitPage, Pin, RecallContact, RecallEntry, RecallEntryPage,
    RecallEntryQuery, RecallList, RecordKind, RevisionRange, SnapshotRow, StaffMember, Statement, Store, VisitDetails,
    VisitQuery, VisitVersions,
};

pub(super) struct Loaders {
    store: Store,
    hospital: i64,
    // A hospital has few departments and doctors: all of them, once, are quicker told than some, again and again.
    departments: OnceCell<HashMap<DepartmentKey, Department>>,
    doctors: OnceCell<HashMap<DoctorKey, Doctor>>,
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
pub(super) struct DepartmentKey(pub(super) i64);

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct DoctorKey(pub(super) i64);

/// A doctor's weekly hours.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct DoctorHoursKey(pub(super) i64);

/// What a doctor's slots in a time follow from.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct DoctorScheduleKey(pub(super) i64, pub(super) Interval);

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct PatientRowKey(pub(super) i64);

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct VisitRowKey(pub(super) i64);

/// A patient's first, last and next visit, up to and from this day.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct PatientEndsKey(pub(super) i64, pub(super) chrono::NaiveDate);

/// How many attended visits a patient has up to this day.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct AttendedCountKey(pub(super) i64, pub(super) chrono::NaiveDate);

/// A page of a patient's visits from one of its ends.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct PatientVisitsKey {
    pub(super) patient: i64,
    pub(super) list: PatientVisitPage,
}

/// How many visits of a list a patient has.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct VisitTotalKey(pub(super) i64, pub(super) VisitQuery);

/// The versions of a patient's visits since a revision; nothing if the database does not have them.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct VisitVersionsKey(pub(super) i64, pub(super) RevisionRange);

/// A page of the history of a patient or a visit.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct HistoryKey {
    pub(super) record: RecordKind,
    pub(super) id: i64,
    pub(super) page: HistoryPage,
}

/// How many changes the history of a patient or a visit has.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct HistoryTotalKey {
    pub(super) record: RecordKind,
    pub(super) id: i64,
}

/// The pin of a snapshot; nothing if it is not pinned.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct PinKey(pub(super) SnapshotId);

/// A stored snapshot, by its id.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct SnapshotRowKey(pub(super) String);

/// The statement of a month, by its first day.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct StatementKey(pub(super) NaiveDate);

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct StaffKey(pub(super) i64);

/// The patients that an audit entry is about.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct AuditedPatientsKey(pub(super) i64);

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct RecallListKey(pub(super) i64);

/// What is counted of a recall list up to this day.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct RecallCountsKey(pub(super) i64, pub(super) NaiveDate);

/// How many patients were left out of a recall list for each reason.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct LeftOutCountsKey(pub(super) i64);

#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct LeftOutPageKey(pub(super) LeftOutPage);

/// A page of the entries of a recall list as they stand on this day.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct RecallEntryPageKey {
    pub(super) page: RecallEntryPage,
    pub(super) today: NaiveDate,
}

/// How many entries of a recall list match a query on this day.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct RecallEntryTotalKey {
    pub(super) list: i64,
    pub(super) query: RecallEntryQuery,
    pub(super) today: NaiveDate,
}

/// An entry of a recall list as it stands on this day.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct RecallEntryKey(pub(super) i64, pub(super) NaiveDate);

/// The contacts of an entry.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct RecallContactsKey(pub(super) i64);

type Loaded<K, V> = std::result::Result<HashMap<K, V>, Error>;

impl Loader<DepartmentKey> for Loaders {
    type Value = Department;
    type Error = Error;

    async fn load(&self, keys: &[DepartmentKey]) -> Loaded<DepartmentKey, Self::Value> {
        let load = async || {
            let all = self.store.departments(self.hospital).await?;
            Ok::<_, Error>(all.into_iter().map(|row| (DepartmentKey(row.id), row)).collect())
        };
        Ok(selected(self.departments.get_or_try_init(load).await?, keys))
    }
}

impl Loader<DoctorKey> for Loaders {
    type Value = Doctor;
    type Error = Error;

    async fn load(&self, keys: &[DoctorKey]) -> Loaded<DoctorKey, Self::Value> {
        let load = async || {
            let all = self.store.doctors(self.hospital).await?;
            Ok::<_, Error>(all.into_iter().map(|row| (DoctorKey(row.id), row)).collect())
        };
        Ok(selected(self.doctors.get_or_try_init(load).await?, keys))
    }
}

impl Loader<DoctorHoursKey> for Loaders {
    type Value = DoctorHours;
    type Error = Error;

    async fn load(&self, keys: &[DoctorHoursKey]) -> Loaded<DoctorHoursKey, Self::Value> {
        let doctors: Vec<i64> = keys.iter().map(|key| key.0).collect();
        let hours = self.store.doctor_hours(self.hospital, &doctors).await?.into_iter();
        Ok(hours.map(|(doctor, hours)| (DoctorHoursKey(doctor), hours)).collect())
    }
}

impl Loader<DoctorScheduleKey> for Loaders {
    type Value = Arc<DoctorSchedule>;
    type Error = Error;

    async fn load(&self, keys: &[DoctorScheduleKey]) -> Loaded<DoctorScheduleKey, Self::Value> {
        let mut loaded = HashMap::new();
        for (during, doctors) in grouped(keys.iter().map(|key| (key.1, key.0))) {
            let schedules = self.store.doctor_schedules(self.hospital, &doctors, during).await?;
            let schedules = schedules.into_iter();
            loaded.extend(schedules.map(|(doctor, schedule)| (DoctorScheduleKey(doctor, during), Arc::new(schedule))));
        }
        Ok(loaded)
    }
}

impl Loader<PatientRowKey> for Loaders {
    type Value = Patient;
    type Error = Error;

    async fn load(&self, keys: &[PatientRowKey]) -> Loaded<PatientRowKey, Self::Value> {
        let ids: Vec<i64> = keys.iter().map(|key| key.0).collect();
        let rows = self.store.patients_by_id(self.hospital, &ids).await?;
        Ok(rows.into_iter().map(|(id, row)| (PatientRowKey(id), row)).collect())
    }
}

impl Loader<VisitRowKey> for Loaders {
    type Value = VisitDetails;
    type Error = Error;

    async fn load(&self, keys: &[VisitRowKey]) -> Loaded<VisitRowKey, Self::Value> {
        let ids: Vec<i64> = keys.iter().map(|key| key.0).collect();
        let rows = self.store.visits_by_id(self.hospital, &ids).await?;
        Ok(rows.into_iter().map(|(id, row)| (VisitRowKey(id), row)).collect())
    }
}

impl Loader<PatientEndsKey> for Loaders {
    type Value = PatientEnds;
    type Error = Error;

    async fn load(&self, keys: &[PatientEndsKey]) -> Loaded<PatientEndsKey, Self::Value> {
        let mut loaded = HashMap::new();
        for (today, patients) in grouped(keys.iter().map(|key| (key.1, key.0))) {
            let ends = self.store.patient_ends(self.hospital, &patients, today).await?;
            loaded.extend(
                ends.into_iter()
                    .map(|(patient, ends)| (PatientEndsKey(patient, today), ends)),
            );
        }
        Ok(loaded)
    }
}

impl Loader<AttendedCountKey> for Loaders {
    type Value = u64;
    type Error = Error;

    async fn load(&self, keys: &[AttendedCountKey]) -> Loaded<AttendedCountKey, Self::Value> {
        let mut loaded = HashMap::new();
        for (today, patients) in grouped(keys.iter().map(|key| (key.1, key.0))) {
            let counts = self.store.attended_counts(self.hospital, &patients, today).await?;
            loaded.extend(
                counts
                    .into_iter()
                    .map(|(patient, count)| (AttendedCountKey(patient, today), count)),
            );
        }
        Ok(loaded)
    }
}

impl Loader<PatientVisitsKey> for Loaders {
    type Value = Vec<KeyedVisit>;
    type Error = Error;

    async fn load(&self, keys: &[PatientVisitsKey]) -> Loaded<PatientVisitsKey, Self::Value> {
        let mut loaded = HashMap::new();
        for (list, patients) in grouped(keys.iter().map(|key| (key.list.clone(), key.patient))) {
            let pages = self.store.visits_of_patients(self.hospital, &patients, &list).await?;
            loaded.extend(pages.into_iter().map(|(patient, page)| {
                let list = list.clone();
                (PatientVisitsKey { patient, list }, page)
            }));
        }
        Ok(loaded)
    }
}

impl Loader<VisitTotalKey> for Loaders {
    type Value = u64;
    type Error = Error;

    async fn load(&self, keys: &[VisitTotalKey]) -> Loaded<VisitTotalKey, Self::Value> {
        let mut loaded = HashMap::new();
        for (query, patients) in grouped(keys.iter().map(|key| (key.1.clone(), key.0))) {
            let totals = self
                .store
                .visit_totals_of_patients(self.hospital, &patients, &query)
                .await?;
            loaded.extend(
                totals
                    .into_iter()
                    .map(|(patient, total)| (VisitTotalKey(patient, query.clone()), total)),
            );
        }
        Ok(loaded)
    }
}

impl Loader<VisitVersionsKey> for Loaders {
    type Value = Arc<VisitVersions>;
    type Error = Error;

    async fn load(&self, keys: &[VisitVersionsKey]) -> Loaded<VisitVersionsKey, Self::Value> {
        let mut loaded = HashMap::new();
        for (revisions, patients) in grouped(keys.iter().map(|key| (key.1, key.0))) {
            let versions = self.store.visit_versions(self.hospital, &patients, revisions).await?;
            let versions = versions.into_iter().flatten();
            loaded.extend(versions.map(|(patient, visits)| (VisitVersionsKey(patient, revisions), Arc::new(visits))));
        }
        Ok(loaded)
    }
}

impl Loader<HistoryKey> for Loaders {
    type Value = Vec<ChangeEntry>;
    type Error = Error;

    async fn load(&self, keys: &[HistoryKey]) -> Loaded<HistoryKey, Self::Value> {
        let mut loaded = HashMap::new();
        for ((record, page), ids) in grouped(keys.iter().map(|key| ((key.record, key.page), key.id))) {
            let histories = self.store.histories(self.hospital, record, &ids, page).await?;
            loaded.extend(
                histories
                    .into_iter()
                    .map(|(id, entries)| (HistoryKey { record, id, page }, entries)),
            );
        }
        Ok(loaded)
    }
}

impl Loader<HistoryTotalKey> for Loaders {
    type Value = u64;
    type Error = Error;

    async fn load(&self, keys: &[HistoryTotalKey]) -> Loaded<HistoryTotalKey, Self::Value> {
        let mut loaded = HashMap::new();
        for (record, ids) in grouped(keys.iter().map(|key| (key.record, key.id))) {
            let totals = self.store.history_totals(self.hospital, record, &ids).await?;
            loaded.extend(
                totals
                    .into_iter()
                    .map(|(id, total)| (HistoryTotalKey { record, id }, total)),
            );
        }
        Ok(loaded)
    }
}

impl Loader<PinKey> for Loaders {
    type Value = Pin;
    type Error = Error;

    async fn load(&self, keys: &[PinKey]) -> Loaded<PinKey, Self::Value> {
        let ids: Vec<String> = keys.iter().map(|key| key.0.to_string()).collect();
        let mut pins = self.store.pins(self.hospital, &ids).await?;
        let found = keys.iter().zip(&ids);
        Ok(found.filter_map(|(key, id)| Some((*key, pins.remove(id)?))).collect())
    }
}

impl Loader<SnapshotRowKey> for Loaders {
    type Value = SnapshotRow;
    type Error = Error;

    async fn load(&self, keys: &[SnapshotRowKey]) -> Loaded<SnapshotRowKey, Self::Value> {
        let ids: Vec<String> = keys.iter().map(|key| key.0.clone()).collect();
        let rows = self.store.snapshot_rows(self.hospital, &ids).await?;
        Ok(rows
            .into_iter()
            .map(|row| (SnapshotRowKey(row.id.clone()), row))
            .collect())
    }
}

impl Loader<StatementKey> for Loaders {
    type Value = Arc<Statement>;
    type Error = Error;

    async fn load(&self, keys: &[StatementKey]) -> Loaded<StatementKey, Self::Value> {
        let months: Vec<NaiveDate> = keys.iter().map(|key| key.0).collect();
        let rows = self.store.statements_of_months(self.hospital, &months).await?;
        Ok(rows
            .into_iter()
            .map(|row| (StatementKey(row.month), Arc::new(row)))
            .collect())
    }
}

impl Loader<StaffKey> for Loaders {
    type Value = StaffMember;
    type Error = Error;

    async fn load(&self, keys: &[StaffKey]) -> Loaded<StaffKey, Self::Value> {
        // A hospital has few: all of them. Not once for the request, since its mutations may add some.
        let all = self.store.staff(self.hospital).await?;
        let all = all.into_iter().map(|row| (StaffKey(row.id), row)).collect();
        Ok(selected(&all, keys))
    }
}

impl Loader<AuditedPatientsKey> for Loaders {
    type Value = Vec<i64>;
    type Error = Error;

    async fn load(&self, keys: &[AuditedPatientsKey]) -> Loaded<AuditedPatientsKey, Self::Value> {
        let entries: Vec<i64> = keys.iter().map(|key| key.0).collect();
        let patients = self.store.audit_patients(self.hospital, &entries).await?;
        let patients = patients.into_iter();
        Ok(patients
            .map(|(entry, patients)| (AuditedPatientsKey(entry), patients))
            .collect())
    }
}

impl Loader<RecallListKey> for Loaders {
    type Value = RecallList;
    type Error = Error;

    async fn load(&self, keys: &[RecallListKey]) -> Loaded<RecallListKey, Self::Value> {
        let ids: Vec<i64> = keys.iter().map(|key| key.0).collect();
        let lists = self.store.recall_lists_by_id(self.hospital, &ids).await?;
        Ok(lists.into_iter().map(|(id, list)| (RecallListKey(id), list)).collect())
    }
}

impl Loader<RecallCountsKey> for Loaders {
    type Value = RecallCounts;
    type Error = Error;

    async fn load(&self, keys: &[RecallCountsKey]) -> Loaded<RecallCountsKey, Self::Value> {
        let mut loaded = HashMap::new();
        for (today, lists) in grouped(keys.iter().map(|key| (key.1, key.0))) {
            let counts = self.store.recall_counts(self.hospital, &lists, today).await?;
            let counts = counts.into_iter();
            loaded.extend(counts.map(|(list, counts)| (RecallCountsKey(list, today), counts)));
        }
        Ok(loaded)
    }
}

impl Loader<LeftOutCountsKey> for Loaders {
    type Value = HashMap<LeftOutReason, u64>;
    type Error = Error;

    async fn load(&self, keys: &[LeftOutCountsKey]) -> Loaded<LeftOutCountsKey, Self::Value> {
        let lists: Vec<i64> = keys.iter().map(|key| key.0).collect();
        let counts = self.store.left_out_counts(self.hospital, &lists).await?.into_iter();
        Ok(counts.map(|(list, counts)| (LeftOutCountsKey(list), counts)).collect())
    }
}

impl Loader<LeftOutPageKey> for Loaders {
    type Value = Vec<i64>;
    type Error = Error;

    async fn load(&self, keys: &[LeftOutPageKey]) -> Loaded<LeftOutPageKey, Self::Value> {
        let pages: Vec<LeftOutPage> = keys.iter().map(|key| key.0.clone()).collect();
        let loaded = self.store.left_out_pages(self.hospital, &pages).await?;
        Ok(keys.iter().cloned().zip(loaded).collect())
    }
}

impl Loader<RecallEntryPageKey> for Loaders {
    type Value = Vec<KeyedRecallEntry>;
    type Error = Error;

    async fn load(&self, keys: &[RecallEntryPageKey]) -> Loaded<RecallEntryPageKey, Self::Value> {
        let mut by_day: HashMap<NaiveDate, Vec<RecallEntryPage>> = HashMap::new();
        for RecallEntryPageKey { page, today } in keys {
            by_day.entry(*today).or_default().push(page.clone());
        }
        let mut loaded = HashMap::new();
        for (today, pages) in by_day {
            let entries = self.store.recall_entry_pages(self.hospital, &pages, today).await?;
            let keys = pages.into_iter().map(|page| RecallEntryPageKey { page, today });
            loaded.extend(keys.zip(entries));
        }
        Ok(loaded)
    }
}

impl Loader<RecallEntryTotalKey> for Loaders {
    type Value = u64;
    type Error = Error;

    async fn load(&self, keys: &[RecallEntryTotalKey]) -> Loaded<RecallEntryTotalKey, Self::Value> {
        let mut by_day: HashMap<NaiveDate, Vec<(i64, RecallEntryQuery)>> = HashMap::new();
        for RecallEntryTotalKey { list, query, today } in keys {
            by_day.entry(*today).or_default().push((*list, query.clone()));
        }
        let mut loaded = HashMap::new();
        for (today, lists) in by_day {
            let totals = self.store.recall_entry_totals(self.hospital, &lists, today).await?;
            let key = |(list, query)| RecallEntryTotalKey { list, query, today };
            loaded.extend(lists.into_iter().map(key).zip(totals));
        }
        Ok(loaded)
    }
}

impl Loader<RecallEntryKey> for Loaders {
    type Value = RecallEntry;
    type Error = Error;

    async fn load(&self, keys: &[RecallEntryKey]) -> Loaded<RecallEntryKey, Self::Value> {
        let mut loaded = HashMap::new();
        for (today, ids) in grouped(keys.iter().map(|key| (key.1, key.0))) {
            let entries = self.store.recall_entries_by_id(self.hospital, &ids, today).await?;
            loaded.extend(
                entries
                    .into_iter()
                    .map(|(id, entry)| (RecallEntryKey(id, today), entry)),
            );
        }
        Ok(loaded)
    }
}

impl Loader<RecallContactsKey> for Loaders {
    type Value = Vec<RecallContact>;
    type Error = Error;

    async fn load(&self, keys: &[RecallContactsKey]) -> Loaded<RecallContactsKey, Self::Value> {
        let entries: Vec<i64> = keys.iter().map(|key| key.0).collect();
        let contacts = self.store.recall_contacts(self.hospital, &entries).await?.into_iter();
        Ok(contacts
            .map(|(entry, contacts)| (RecallContactsKey(entry), contacts))
            .collect())
    }
}

fn selected<K: Copy + Eq + std::hash::Hash, V: Clone>(all: &HashMap<K, V>, keys: &[K]) -> HashMap<K, V> {
    keys.iter()
        .filter_map(|key| Some((*key, all.get(key)?.clone())))
        .collect()
}

/// Groups keys that one query can load.
fn grouped<G: Eq + std::hash::Hash>(keys: impl Iterator<Item = (G, i64)>) -> HashMap<G, Vec<i64>> {
    let mut groups: HashMap<G, Vec<i64>> = HashMap::new();
    for (group, key) in keys {
        groups.entry(group).or_default().push(key);
    }
    groups
}
