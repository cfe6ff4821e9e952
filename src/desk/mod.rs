//! The one place where statistics are asked for.
//!
//! A question takes the hospital's ledger at its current revision, is resolved into a snapshot, and every number and page
//! of the answer comes from that.

mod identity;
mod ledgers;
mod lists;

use std::sync::Arc;

use chrono::{DateTime, NaiveDate, SubsecRound as _, Utc};
use moka::sync::Cache;
use tokio::sync::OnceCell;

use crate::config::Limits;
use crate::error::{Error, Result};
use crate::statistics::{
    BucketRef, CohortKind, CohortList, Definition, Filter, Period, Question, Snapshot, WeekStart, resolve,
};
use crate::store::{SnapshotRow, State, Store};

pub use identity::SnapshotId;
pub use ledgers::LedgerUse;
use ledgers::Ledgers;
pub use lists::{ListOrder, Ordered};

/// Answers questions, and finds their answers again.
pub struct Desk {
    store: Store,
    ledgers: Ledgers,
    snapshots: Cache<(i64, SnapshotId), Arc<Kept>>,
    lists: Cache<(i64, SnapshotId, BucketRef, CohortKind), Arc<CohortList>>,
    orders: Cache<(i64, SnapshotId, BucketRef, CohortKind, ListOrder), Arc<Ordered>>,
}

/// A snapshot with what is known of it beside its lists.
pub struct Kept {
    pub id: SnapshotId,
    pub hospital: i64,
    /// The state of the data that was counted, as the API shows it.
    pub revision: String,
    pub time_zone: String,
    pub computed_at: DateTime<Utc>,
    /// Since when the definition holds.
    pub effective_from: DateTime<Utc>,
    pub snapshot: Snapshot,
    /// Set once it is in the database.
    stored: OnceCell<()>,
}

/// What is asked, before the calendar is known: the hospital's today and its rules.
#[derive(Clone, Debug)]
pub struct Asked {
    pub period: Period,
    pub range: crate::statistics::DayRange,
    pub filter: Filter,
    /// None: today in the hospital's time zone.
    pub as_of: Option<NaiveDate>,
}

impl Desk {
    #[must_use]
    pub fn new(store: Store, limits: &Limits) -> Self {
        let weigh = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
        Self {
            ledgers: Ledgers::new(store.clone(), limits.ledgers),
            store,
            snapshots: Cache::builder()
                .max_capacity(limits.snapshots)
                .weigher(move |_, kept: &Arc<Kept>| weigh(kept.snapshot.bytes()))
                .build(),
            lists: Cache::builder()
                .max_capacity(limits.lists / 2)
                .weigher(move |_, list: &Arc<CohortList>| weigh(list.bytes()))
                .build(),
            orders: Cache::builder()
                .max_capacity(limits.lists / 2)
                .weigher(move |_, order: &Arc<Ordered>| weigh(order.bytes()))
                .build(),
        }
    }

    /// The date now in the hospital's time zone.
    #[must_use]
    pub fn today(state: &State) -> NaiveDate {
        Utc::now().with_timezone(&state.time_zone).date_naive()
    }

    /// Answers a question at the hospital's current revision. Equal questions at one revision share one snapshot.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn ask(&self, hospital: i64, asked: Asked) -> Result<Arc<Kept>> {
        let (state, ledger) = self.ledgers.current(hospital).await?;
        let question = Question {
            period: asked.period,
            range: asked.range,
            as_of: asked.as_of.unwrap_or_else(|| Self::today(&state)).into(),
            filter: asked.filter.normalized(),
        };
        let revision = state.revision.text();
        let time_zone = state.time_zone.name().to_owned();
        let id = SnapshotId::of(&question, &revision, &state.definition, &time_zone, state.week_start);
        if let Some(kept) = self.snapshots.get(&(hospital, id)) {
            return Ok(kept);
        }
        let resolved = move || resolve(&ledger, &question, state.definition, state.week_start);
        let snapshot = off_thread("resolving", resolved).await?;
        let kept = Arc::new(Kept {
            id,
            hospital,
            revision,
            time_zone,
            // As precise as every database keeps it.
            computed_at: Utc::now().trunc_subsecs(6),
            effective_from: state.effective_from,
            snapshot,
            stored: OnceCell::new(),
        });
        Ok(self.snapshots.get_with((hospital, id), || kept))
    }

    /// Finds a snapshot of the hospital again; none where there never was one of that id.
    ///
    /// # Errors
    /// Where the database fails, or what it holds is damaged.
    pub async fn open(&self, hospital: i64, id: SnapshotId) -> Result<Option<Arc<Kept>>> {
        if let Some(kept) = self.snapshots.get(&(hospital, id))
            && kept.stored.initialized()
        {
            return Ok(Some(kept));
        }
        let Some(stored) = self.store.open_snapshot(hospital, &id.to_string()).await? else {
            return Ok(None);
        };
        let Some(definition) = self.store.definition(hospital, stored.row.definition_version).await? else {
            return Ok(None);
        };
        let (row, packed) = (stored.row, stored.packed);
        let (question, week_start) = identity::question_of(&row)?;
        let rules = Definition::from(&definition);
        let snapshot = off_thread("opening a snapshot", move || {
            Snapshot::unpack(&packed, question, rules, week_start)
        })
        .await??;
        let kept = Arc::new(Kept {
            id,
            hospital,
            revision: row.revision,
            time_zone: row.time_zone,
            computed_at: row.computed_at,
            effective_from: definition.effective_from,
            snapshot,
            stored: OnceCell::new_with(Some(())),
        });
        self.snapshots.insert((hospital, id), Arc::clone(&kept));
        Ok(Some(kept))
    }

    /// Stores the snapshot, so that its id and cursors open it on any server. An answer that carries one calls this first.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn keep(&self, kept: &Arc<Kept>) -> Result<()> {
        let store = async || {
            let shared = Arc::clone(kept);
            let packed = off_thread("packing a snapshot", move || shared.snapshot.pack()).await?;
            let mut tries = 1;
            loop {
                match self.store.keep_snapshot(kept.row()?, &packed).await {
                    Err(error) if tries < 5 && crate::store::may_be_tried_again(&error) => tries += 1,
                    result => return result,
                }
            }
        };
        kept.stored.get_or_try_init(store).await.copied()
    }

    /// A cohort's lists in full.
    pub async fn list(&self, kept: &Arc<Kept>, bucket: BucketRef, kind: CohortKind) -> Result<Arc<CohortList>> {
        let key = (kept.hospital, kept.id, bucket, kind);
        if let Some(list) = self.lists.get(&key) {
            return Ok(list);
        }
        let shared = Arc::clone(kept);
        let list = off_thread("cutting a list", move || Arc::new(shared.snapshot.cohort(bucket, kind))).await?;
        self.lists.insert(key, Arc::clone(&list));
        Ok(list)
    }

    /// What ledgers take.
    pub async fn ledger_use(&self) -> LedgerUse {
        self.ledgers.in_use().await
    }
}

/// Does what takes long where it keeps no other request waiting.
async fn off_thread<T: Send + 'static>(what: &str, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Error::Internal(format!("{what} failed: {error}")))
}

impl Kept {
    fn row(&self) -> Result<SnapshotRow> {
        let question = self.snapshot.question();
        Ok(SnapshotRow {
            hospital_id: self.hospital,
            id: self.id.to_string(),
            revision: self.revision.clone(),
            definition_version: self.snapshot.definition().version,
            period: identity::period_word(question.period).to_owned(),
            range_from: question.range.from.date(),
            range_to: question.range.to.date(),
            as_of: question.as_of.date(),
            filter: identity::filter_json(&question.filter).into_bytes(),
            time_zone: self.time_zone.clone(),
            week_start: WeekStart::word(self.snapshot.week_start()).to_owned(),
            computed_at: self.computed_at,
            manifest: Vec::new(),
        })
    }
}
