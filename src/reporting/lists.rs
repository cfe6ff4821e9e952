//! Sorted lists of cohorts. An order that depends on patients' rows is fixed at its first use and stored, so that every server
//! has the same.

use std::sync::Arc;

use super::identity::cursor_digest;
use super::{Cohort, CohortId, Reporting};
use crate::error::{Error, Result};
use crate::statistics::{BucketRef, CohortList, PatientSortKey, VisitSortKey};
use crate::store::{ListOrder, PatientKey, VisitKey};

/// A sort key that depends on rows.
#[derive(Clone, Copy)]
enum RowKey {
    Patient(PatientKey),
    Visit(VisitKey),
}

/// The order of a list.
pub struct SortedList {
    /// Indexes into the cohort's list.
    pub places: Vec<u32>,
    /// Identifies the list and its order; cursors contain it.
    pub digest: [u8; 8],
}

impl SortedList {
    pub(super) fn bytes(&self) -> usize {
        self.places.len() * size_of::<u32>() + size_of::<Self>()
    }
}

impl Reporting {
    /// A cohort's list and its order. The snapshot is stored first, because pages have cursors of it.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn sorted_list(&self, cohort: &Cohort, order: ListOrder) -> Result<(Arc<CohortList>, Arc<SortedList>)> {
        let list = self.list(cohort).await?;
        let id = cohort.id();
        let key = (cohort.serial(), id.bucket, id.kind, order);
        if let Some(sorted) = self.orders.get(&key) {
            return Ok((list, sorted));
        }
        self.persist_list(cohort).await?;
        let places = match order {
            ListOrder::Patients(PatientKey::FirstVisit, desc) => list.order_patients(PatientSortKey::FirstVisit, desc),
            ListOrder::Patients(PatientKey::LastVisit, desc) => list.order_patients(PatientSortKey::LastVisit, desc),
            ListOrder::Visits(VisitKey::Date, desc) => list.order_visits(VisitSortKey::Date, desc),
            ListOrder::Visits(VisitKey::Status, desc) => list.order_visits(VisitSortKey::Status, desc),
            ListOrder::Patients(key, desc) => {
                let ids = list.patients.iter().map(|patient| patient.id).collect();
                self.persisted_order(cohort, order, RowKey::Patient(key), ids, desc)
                    .await?
            }
            ListOrder::Visits(VisitKey::PatientName, desc) => {
                let key = RowKey::Patient(PatientKey::Name);
                let ids = list.visits.iter().map(|visit| visit.patient).collect();
                self.persisted_order(cohort, order, key, ids, desc).await?
            }
            ListOrder::Visits(key @ (VisitKey::ScheduledAt | VisitKey::CheckedInAt), desc) => {
                let ids = list.visits.iter().map(|visit| visit.id).collect();
                self.persisted_order(cohort, order, RowKey::Visit(key), ids, desc)
                    .await?
            }
        };
        let sorted = Arc::new(SortedList {
            digest: list_digest(id, order, &places),
            places,
        });
        self.orders.insert(key, Arc::clone(&sorted));
        Ok((list, sorted))
    }

    /// An order that depends on rows, by the sort keys of `ids`: the stored one; where there is none, it is made from the current rows
    /// and stored.
    async fn persisted_order(
        &self,
        cohort: &Cohort,
        order: ListOrder,
        key: RowKey,
        ids: Vec<i64>,
        descending: bool,
    ) -> Result<Vec<u32>> {
        let (length, hospital, id) = (ids.len(), cohort.hospital(), cohort.id());
        let make = async || {
            let keys = match key {
                RowKey::Patient(key) => self.store.patient_sort_keys(hospital, &ids, key).await?,
                RowKey::Visit(key) => self.store.visit_sort_keys(hospital, &ids, key).await?,
            };
            let by_place = ids.iter().map(|id| keys.get(id).cloned().flatten());
            let places = CohortList::order_by(by_place, descending);
            Ok(places.iter().flat_map(|place| place.to_le_bytes()).collect())
        };
        let bytes = self
            .store
            .load_or_store_order(
                hospital,
                &id.snapshot.to_string(),
                bucket_index(id.bucket),
                id.kind.as_str(),
                &order.name(),
                make,
            )
            .await?;
        let places: Vec<u32> = bytes
            .chunks_exact(4)
            .map(|bytes| bytes.iter().rev().fold(0, |place, &byte| place << 8 | u32::from(byte)))
            .collect();
        if places.len() == length && places.iter().all(|&place| (place as usize) < length) {
            return Ok(places);
        }
        Err(Error::Internal(format!(
            "a stored order of the snapshot {} is damaged",
            id.snapshot
        )))
    }
}

/// Clients keep cursors, so the encoding must not change.
fn list_digest(id: CohortId, order: ListOrder, places: &[u32]) -> [u8; 8] {
    let mut identity = Vec::new();
    identity.extend_from_slice(&id.snapshot.0);
    identity.extend_from_slice(&bucket_index(id.bucket).to_be_bytes());
    identity.push(id.kind.number());
    identity.extend_from_slice(order.name().as_bytes());
    places
        .iter()
        .for_each(|place| identity.extend_from_slice(&place.to_le_bytes()));
    cursor_digest(&identity)
}

/// The number of a bucket in the database; -1 for the total.
#[must_use]
pub fn bucket_index(bucket: BucketRef) -> i32 {
    match bucket {
        BucketRef::Total => -1,
        BucketRef::At(place) => i32::try_from(place).unwrap_or(i32::MAX),
    }
}

/// The bucket of an index, see [`bucket_index`].
pub fn bucket_of_index(index: i32) -> BucketRef {
    u32::try_from(index).map_or(BucketRef::Total, BucketRef::At)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reporting::SnapshotId;
    use crate::statistics::CohortKind;
    use crate::store::ListKind;

    /// Stored orders are found by these names.
    #[test]
    fn names_of_orders_stay_the_same() {
        let patients = PatientKey::ALL
            .iter()
            .map(|&key| ListOrder::Patients(key, false).name());
        assert_eq!(
            patients.collect::<Vec<_>>(),
            [
                "patients Name asc",
                "patients ChartNo asc",
                "patients RegisteredOn asc",
                "patients FirstVisit asc",
                "patients LastVisit asc",
            ]
        );
        let visits = VisitKey::ALL.iter().map(|&key| ListOrder::Visits(key, true).name());
        assert_eq!(
            visits.collect::<Vec<_>>(),
            [
                "visits Date desc",
                "visits PatientName desc",
                "visits Status desc",
                "visits ScheduledAt desc",
                "visits CheckedInAt desc",
            ]
        );
        for order in [
            ListOrder::Patients(PatientKey::Name, true),
            ListOrder::Visits(VisitKey::Date, false),
        ] {
            assert_eq!(ListOrder::parse(&order.name()), Some(order));
        }
        for unknown in [
            "patients Date asc",
            "visits Date",
            "visits Date down",
            "doctors Name asc",
            "",
        ] {
            assert_eq!(ListOrder::parse(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn digests_stay_the_same() {
        let digests = CohortKind::ALL.iter().map(|&kind| {
            let order = ListOrder::Patients(PatientKey::ChartNo, false);
            let list = CohortId {
                snapshot: SnapshotId([7; 16]),
                bucket: BucketRef::At(2),
                kind: ListKind::Cohort(kind),
            };
            u64::from_be_bytes(list_digest(list, order, &[1, 0, 2]))
        });
        assert_eq!(
            digests.collect::<Vec<u64>>(),
            [
                0x1089_306b_5951_b119,
                0x29cb_90c9_46c5_ff2f,
                0xdcc4_4cdf_4243_f555,
                0x0c3f_a69c_d00a_629b,
                0x0961_bc29_244e_d635,
                0x3806_00cb_e085_900e,
                0xe890_b65a_7b54_1e17,
                0xc685_1f50_aaaf_de6e,
            ]
        );
        let order = ListOrder::Visits(VisitKey::Date, true);
        let list = CohortId {
            snapshot: SnapshotId([7; 16]),
            bucket: BucketRef::Total,
            kind: ListKind::Cohort(CohortKind::New),
        };
        let total = list_digest(list, order, &[]);
        assert_eq!(u64::from_be_bytes(total), 0x492c_a625_9415_8936);
    }
}
