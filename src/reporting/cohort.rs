//! A list of patients and visits: a cohort of a snapshot, or a list that is derived from others.

use std::sync::Arc;

use super::derived::DerivedList;
use super::{Reporting, ResolvedStatistics, SnapshotId, bucket_index, spawn_cpu};
use crate::error::Result;
use crate::statistics::{BucketRef, CohortKind, CohortList};
use crate::store::{CountedCohort, ListKind};

/// Identifies a list within its hospital. A derived list is the total of a snapshot of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CohortId {
    pub snapshot: SnapshotId,
    pub bucket: BucketRef,
    pub kind: ListKind,
}

/// A list of patients and visits.
#[derive(Clone)]
pub enum Cohort {
    /// A cohort of a bucket.
    Counted {
        resolved: Arc<ResolvedStatistics>,
        bucket: BucketRef,
        kind: CohortKind,
    },
    Derived(Arc<DerivedList>),
}

impl Cohort {
    /// The cohort of a bucket.
    #[must_use]
    pub fn counted(resolved: &Arc<ResolvedStatistics>, bucket: BucketRef, kind: CohortKind) -> Self {
        Self::Counted {
            resolved: Arc::clone(resolved),
            bucket,
            kind,
        }
    }

    #[must_use]
    pub fn id(&self) -> CohortId {
        match self {
            Self::Counted { resolved, bucket, kind } => CohortId {
                snapshot: resolved.id,
                bucket: *bucket,
                kind: ListKind::Cohort(*kind),
            },
            Self::Derived(derived) => derived.cohort_id(),
        }
    }

    /// The number of patients.
    #[must_use]
    pub fn patient_count(&self) -> usize {
        match self {
            Self::Counted { resolved, bucket, kind } => resolved.snapshot.patient_count(*bucket, *kind),
            Self::Derived(derived) => derived.patient_count(),
        }
    }

    /// The number of visits.
    #[must_use]
    pub fn visit_count(&self) -> usize {
        match self {
            Self::Counted { resolved, bucket, kind } => resolved.snapshot.visit_count(*bucket, *kind),
            Self::Derived(derived) => derived.visit_count(),
        }
    }

    /// The ids of the patients, ascending.
    #[must_use]
    pub fn patient_ids(&self) -> Vec<i64> {
        match self {
            Self::Counted { resolved, bucket, kind } => resolved.snapshot.patient_ids(*bucket, *kind),
            Self::Derived(derived) => derived.list().patients.iter().map(|patient| patient.id).collect(),
        }
    }

    /// The ids of the visits, ascending.
    #[must_use]
    pub fn visit_ids(&self) -> Vec<i64> {
        match self {
            Self::Counted { resolved, bucket, kind } => resolved.snapshot.visit_ids(*bucket, *kind),
            Self::Derived(derived) => derived.list().visits.iter().map(|visit| visit.id).collect(),
        }
    }

    /// Computes a value from the list; for long lists on a thread where it does not block other requests.
    ///
    /// # Errors
    /// Where the work panics.
    pub async fn cut<T: Send + 'static>(&self, cut: impl FnOnce(&Self) -> T + Send + 'static) -> Result<T> {
        const SHORT: usize = 1_000;
        // No list of patients is longer than its list of visits.
        if self.visit_count() <= SHORT {
            return Ok(cut(self));
        }
        let shared = self.clone();
        spawn_cpu("cutting a list", move || cut(&shared)).await
    }

    /// The list with its patients, to make a recall list of.
    ///
    /// # Errors
    /// Where a revision is malformed in the database.
    pub async fn to_recall(&self) -> Result<CountedCohort> {
        let id = self.id();
        let patients = self.cut(Self::patient_ids).await?;
        let basis = self.basis()?;
        Ok(CountedCohort {
            snapshot: id.snapshot.to_string(),
            bucket: bucket_index(id.bucket),
            kind: id.kind,
            as_of: basis.as_of,
            proposed: basis.proposed,
            revision: basis.revision.number,
            newest_visit: basis.newest_visit,
            patients,
        })
    }

    /// The serial of the snapshot in memory.
    pub(super) fn serial(&self) -> u64 {
        match self {
            Self::Counted { resolved, .. } => resolved.serial,
            Self::Derived(derived) => derived.serial,
        }
    }

    pub(super) fn hospital(&self) -> i64 {
        match self {
            Self::Counted { resolved, .. } => resolved.hospital,
            Self::Derived(derived) => derived.hospital(),
        }
    }
}

impl Reporting {
    /// The list with this id, if the hospital has it.
    ///
    /// # Errors
    /// SNAPSHOT_EXPIRED where it has expired. Where the database fails, or what is stored is damaged.
    pub async fn open(&self, hospital: i64, id: CohortId) -> Result<Option<Cohort>> {
        let ListKind::Cohort(kind) = id.kind else {
            return Ok(self.load_derived(hospital, id.snapshot).await?.map(Cohort::Derived));
        };
        let resolved = self.load(hospital, id.snapshot).await?;
        let resolved = resolved.filter(|resolved| resolved.snapshot.bucket(id.bucket).is_some());
        Ok(resolved.map(|resolved| Cohort::counted(&resolved, id.bucket, kind)))
    }

    /// Stores what the list is of, so that every server can open it. To be called before a response contains its id or a cursor.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn persist_list(&self, cohort: &Cohort) -> Result<()> {
        match cohort {
            Cohort::Counted { resolved, .. } => self.persist(resolved).await,
            Cohort::Derived(derived) => self.persist_derived(derived).await,
        }
    }

    /// Both lists of a cohort.
    pub(super) async fn list(&self, cohort: &Cohort) -> Result<Arc<CohortList>> {
        let (resolved, bucket, kind) = match cohort {
            Cohort::Counted { resolved, bucket, kind } => (Arc::clone(resolved), *bucket, *kind),
            Cohort::Derived(derived) => {
                let derived = Arc::clone(derived);
                return spawn_cpu("making a list", move || Arc::clone(derived.list())).await;
            }
        };
        let key = (resolved.serial, bucket, kind);
        if let Some(list) = self.lists.get(&key) {
            return Ok(list);
        }
        let list = spawn_cpu("making a list", move || {
            Arc::new(resolved.snapshot.cohort(bucket, kind))
        })
        .await?;
        self.lists.insert(key, Arc::clone(&list));
        Ok(list)
    }
}
