//! The rows of a list, read in slices by the same functions of the store as those of pages.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::NaiveDate;
use chrono_tz::Tz;

use super::Cell;
use super::columns::{
    PATIENTS, PatientRow, RECALL_ENTRIES, RecallRow, STATISTICS, Shown, StatisticsRow, VISITS, VisitRow, cells, headers,
};
use crate::error::{Error, Result};
use crate::graphql::cohort_id;
use crate::mask::Visibility;
use crate::permissions::Role;
use crate::reporting::{CohortId, Reporting, ResolvedStatistics, SnapshotId, SortedList, bucket_of_index};
use crate::statistics::{BucketRef, CohortKind, CohortList, CountedPatient, CountedVisit};
use crate::store::{Exported, Hospital, ListKind, ListOrder, Patient, Store, VisitDetails};

/// Rows that are read at a time.
const SLICE: usize = 2_000;

/// The rows of a list, which are read one slice after the other.
pub struct Rows {
    store: Store,
    hospital: i64,
    time_zone: Tz,
    /// Who gets them; none on the command line.
    role: Option<Role>,
    list: List,
    /// How many were read.
    read: usize,
}

enum List {
    Patients(Arc<CohortList>, Arc<SortedList>),
    Visits(Arc<CohortList>, Arc<SortedList>),
    RecallEntries {
        entries: Vec<i64>,
        today: NaiveDate,
        /// Names by id.
        staff: HashMap<i64, String>,
    },
    Statistics(Vec<StatisticsRow>),
}

impl Rows {
    fn new(store: &Store, hospital: &Hospital, role: Option<Role>, list: List) -> Self {
        Self {
            store: store.clone(),
            hospital: hospital.id,
            time_zone: hospital.time_zone,
            role,
            list,
            read: 0,
        }
    }

    /// The rows of an export; none if the snapshot of its list has expired.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn of_export(
        store: &Store,
        reporting: &Reporting,
        hospital: &Hospital,
        role: Option<Role>,
        content: Exported,
    ) -> Result<Option<Self>> {
        let list = match content {
            Exported::Cohort {
                snapshot,
                bucket,
                kind,
                order,
            } => {
                let snapshot = SnapshotId::from_text(&snapshot)
                    .ok_or_else(|| Error::Internal("an export has the malformed id of a snapshot".to_owned()))?;
                let id = CohortId {
                    snapshot,
                    bucket: bucket_of_index(bucket),
                    kind,
                };
                let cohort = match reporting.open(hospital.id, id).await {
                    Ok(Some(cohort)) => cohort,
                    Ok(None) | Err(Error::SnapshotExpired { .. }) => return Ok(None),
                    Err(error) => return Err(error),
                };
                let (list, sorted) = reporting.sorted_list(&cohort, order).await?;
                match order {
                    ListOrder::Patients(..) => List::Patients(list, sorted),
                    ListOrder::Visits(..) => List::Visits(list, sorted),
                }
            }
            Exported::RecallEntries { entries, .. } => {
                let staff = store.staff(hospital.id).await?.into_iter();
                List::RecallEntries {
                    entries,
                    today: store.today(hospital.time_zone),
                    staff: staff.map(|member| (member.id, member.name)).collect(),
                }
            }
        };
        Ok(Some(Self::new(store, hospital, role, list)))
    }

    /// A row for each bucket and kind of cohort of a snapshot, without the total.
    #[must_use]
    pub fn of_statistics(store: &Store, hospital: &Hospital, resolved: &ResolvedStatistics) -> Self {
        let snapshot = &resolved.snapshot;
        let question = snapshot.question();
        let buckets = (0..).map(BucketRef::At);
        let buckets = buckets.map_while(|at| snapshot.bucket(at).map(|bucket| (at, *bucket)));
        let rows = buckets.flat_map(|(at, bucket)| {
            CohortKind::ALL.iter().map(move |&kind| StatisticsRow {
                period: question.period,
                as_of: question.as_of,
                bucket,
                kind,
                patients: snapshot.patient_count(at, kind),
                visits: snapshot.visit_count(at, kind),
                cohort_id: cohort_id(CohortId {
                    snapshot: resolved.id,
                    bucket: at,
                    kind: ListKind::Cohort(kind),
                }),
            })
        });
        Self::new(store, hospital, None, List::Statistics(rows.collect()))
    }

    /// How many rows there are.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.list {
            List::Patients(_, sorted) | List::Visits(_, sorted) => sorted.places.len(),
            List::RecallEntries { entries, .. } => entries.len(),
            List::Statistics(rows) => rows.len(),
        }
    }

    /// Whether there is no row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The headers of the columns.
    #[must_use]
    pub fn headers(&self) -> Vec<&'static str> {
        match self.list {
            List::Patients(..) => headers(PATIENTS),
            List::Visits(..) => headers(VISITS),
            List::RecallEntries { .. } => headers(RECALL_ENTRIES),
            List::Statistics(_) => headers(STATISTICS),
        }
    }

    /// The next rows; none after the last.
    ///
    /// # Errors
    /// If the database fails, or a value cannot be decrypted.
    pub async fn next(&mut self) -> Result<Option<Vec<Vec<Cell>>>> {
        let slice = self.read..self.len().min(self.read + SLICE);
        if slice.is_empty() {
            return Ok(None);
        }
        self.read = slice.end;
        let rows = match &self.list {
            List::Patients(list, sorted) => self.patients(list, &sorted.places[slice]).await,
            List::Visits(list, sorted) => self.visits(list, &sorted.places[slice]).await,
            List::RecallEntries { entries, today, staff } => self.recall_entries(&entries[slice], *today, staff).await,
            List::Statistics(rows) => rows[slice]
                .iter()
                .map(|row| cells(STATISTICS, row, self.shown()))
                .collect(),
        };
        rows.map(Some)
    }

    fn shown(&self) -> Shown<'_> {
        Shown {
            visibility: Visibility::of(self.role, self.store.secrets()),
            time_zone: self.time_zone,
        }
    }

    async fn patients(&self, list: &CohortList, places: &[u32]) -> Result<Vec<Vec<Cell>>> {
        let counted: Vec<_> = places.iter().map(|&place| list.patients[place as usize]).collect();
        let patients = self.patients_by_id(counted.iter().map(|patient| patient.id)).await?;
        let row = |counted: &CountedPatient| {
            let patient = patient(&patients, counted.id);
            let row = PatientRow {
                counted: *counted,
                patient,
            };
            cells(PATIENTS, &row, self.shown())
        };
        counted.iter().map(row).collect()
    }

    async fn visits(&self, list: &CohortList, places: &[u32]) -> Result<Vec<Vec<Cell>>> {
        let counted: Vec<_> = places.iter().map(|&place| list.visits[place as usize]).collect();
        let ids: Vec<i64> = counted.iter().map(|visit| visit.id).collect();
        let mut found = self.store.visits_by_id(self.hospital, &ids).await?;
        let details: Vec<VisitDetails> = counted
            .iter()
            .map(|visit| found.remove(&visit.id).unwrap_or_else(|| VisitDetails::gone(visit)))
            .collect();
        let patients = self
            .patients_by_id(details.iter().map(|details| details.visit.patient))
            .await?;
        let row = |(counted, details): (CountedVisit, VisitDetails)| {
            let row = VisitRow {
                counted,
                patient: patient(&patients, details.visit.patient),
                details,
            };
            cells(VISITS, &row, self.shown())
        };
        counted.into_iter().zip(details).map(row).collect()
    }

    async fn recall_entries(
        &self,
        ids: &[i64],
        today: NaiveDate,
        staff: &HashMap<i64, String>,
    ) -> Result<Vec<Vec<Cell>>> {
        let mut found = self.store.recall_entries_by_id(self.hospital, ids, today).await?;
        let mut contacts = self.store.recall_contacts(self.hospital, ids).await?;
        let patients = self.patients_by_id(found.values().map(|entry| entry.patient)).await?;
        let row = |id: &i64| {
            let entry = found.remove(id);
            let entry = entry.ok_or_else(|| Error::Internal("an entry of a recall list is gone".to_owned()))?;
            let row = RecallRow {
                patient: patient(&patients, entry.patient),
                assignee: entry.assignee.and_then(|id| staff.get(&id).cloned()),
                contacts: contacts.remove(id).unwrap_or_default(),
                entry,
            };
            cells(RECALL_ENTRIES, &row, self.shown())
        };
        ids.iter().map(row).collect()
    }

    async fn patients_by_id(&self, ids: impl Iterator<Item = i64>) -> Result<HashMap<i64, Patient>> {
        let mut ids: Vec<i64> = ids.collect();
        ids.sort_unstable();
        ids.dedup();
        self.store.patients_by_id(self.hospital, &ids).await
    }
}

/// The patient; ERASED if not even a tombstone is left.
fn patient(found: &HashMap<i64, Patient>, id: i64) -> Patient {
    found.get(&id).cloned().unwrap_or_else(|| Patient::erased(id))
}
