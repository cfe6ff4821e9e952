//! The ledgers in memory, one for each hospital, kept current by the change feed. Each use compares the revision.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex as SyncMutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use tokio::sync::{Mutex, RwLock, Semaphore};
use tracing::{Instrument as _, instrument};

use super::{Snapshots, spawn_cpu};
use crate::config::Limits;
use crate::error::{Error, Result};
use crate::statistics::{Ledger, TooManyIds};
use crate::store::{HospitalState, LedgerChanges, Revision, Store};

/// A ledger with more changes than its visits divided by this is loaded again, which costs less than catching up.
const MAX_CATCH_UP_SHARE: u64 = 4;
/// Up to so many changes, a ledger of any size catches up.
const MIN_CATCH_UP: u64 = 20_000;

pub(super) struct LedgerCache {
    store: Store,
    /// The largest memory of all ledgers together, in bytes.
    limit: u64,
    /// Snapshots hold the ledger that they were resolved from.
    snapshots: Snapshots,
    slots: Mutex<HashMap<i64, Arc<Slot>>>,
    clock: AtomicU64,
    /// Permits to load a ledger.
    load_permits: Semaphore,
    load_timeout: Duration,
}

/// A hospital's ledger. A request that catches up holds `catching_up`; one that finds the ledger current needs only `current`.
#[derive(Default)]
struct Slot {
    catching_up: Mutex<()>,
    current: RwLock<Option<(Revision, Arc<Ledger>)>>,
    /// The running load. It is a task of its own, which goes on when the requests that wait for it have ended.
    load: SyncMutex<Option<SharedLoad>>,
    last_used: AtomicU64,
}

/// A ledger, and the hospital's state at its revision.
type LedgerAt = (HospitalState, Arc<Ledger>);

/// A load that several requests can await.
type SharedLoad = Shared<BoxFuture<'static, Result<LedgerAt>>>;

impl LedgerCache {
    pub(super) fn new(store: Store, limit: u64, snapshots: Snapshots, limits: &Limits) -> Self {
        Self {
            store,
            limit,
            snapshots,
            slots: Mutex::default(),
            clock: AtomicU64::new(0),
            load_permits: Semaphore::new(limits.max_concurrent_loads()),
            load_timeout: limits.ledger_load_timeout,
        }
    }

    /// The hospital's ledger at the current revision, and the hospital's state.
    ///
    /// # Errors
    /// BEING_RESTORED where the data is incomplete. Where the database fails.
    pub(super) async fn current(self: &Arc<Self>, hospital: i64) -> Result<LedgerAt> {
        let slot = Arc::clone(self.slots.lock().await.entry(hospital).or_default());
        slot.last_used
            .store(self.clock.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        loop {
            if let Some(found) = self.unchanged(hospital, &slot).await? {
                return Ok(found);
            }
            let (load, started) = {
                let _catching_up = slot.catching_up.lock().await;
                // Another request may have caught up meanwhile.
                if let Some(found) = self.unchanged(hospital, &slot).await? {
                    return Ok(found);
                }
                if let Some(found) = self.try_catch_up(hospital, &slot).await? {
                    return Ok(found);
                }
                self.load(hospital, &slot)
            };
            let (loaded, ledger) = load.await?;
            if started {
                return Ok((loaded, ledger));
            }
            // The load began before this request, and changes may have been committed since.
            let state = self.store.hospital_state(hospital, loaded.revision.number).await?;
            if state.revision == loaded.revision {
                return Ok((state, ledger));
            }
        }
    }

    /// Drops the hospital's ledger, and the snapshots in memory that were resolved from it.
    pub(super) async fn discard(&self, hospital: i64) {
        let slot = self.slots.lock().await.get(&hospital).cloned();
        if let Some(slot) = slot {
            self.evict(hospital, &slot).await;
        }
    }

    /// Drops a ledger and the snapshots that hold it.
    async fn evict(&self, hospital: i64, slot: &Slot) {
        *slot.current.write().await = None;
        for (key, _) in self.snapshots.iter().filter(|(key, _)| key.0 == hospital) {
            self.snapshots.invalidate(&*key);
        }
        self.snapshots.run_pending_tasks();
    }

    /// The ledger in memory, where it is at the current revision.
    async fn unchanged(&self, hospital: i64, slot: &Slot) -> Result<Option<LedgerAt>> {
        let current = slot.current.read().await.clone();
        let Some((seen, ledger)) = current else { return Ok(None) };
        let state = self.store.hospital_state(hospital, seen.number).await?;
        Ok((state.revision == seen).then_some((state, ledger)))
    }

    /// The ledger in memory with the changes since; none where there is none, or it must be loaded again.
    async fn try_catch_up(&self, hospital: i64, slot: &Slot) -> Result<Option<LedgerAt>> {
        let Some((seen, ledger)) = slot.current.read().await.clone() else {
            return Ok(None);
        };
        let found = self.catch_up(hospital, seen, ledger).await;
        match &found {
            Ok(Some((state, ledger))) => {
                *slot.current.write().await = Some((state.revision, Arc::clone(ledger)));
                self.evict_to_limit(hospital).await;
            }
            Ok(None) | Err(Error::BeingRestored) => *slot.current.write().await = None,
            Err(_) => {}
        }
        found
    }

    #[instrument(name = "ledger.catch_up", level = "debug", skip_all)]
    async fn catch_up(&self, hospital: i64, seen: Revision, ledger: Arc<Ledger>) -> Result<Option<LedgerAt>> {
        let started = std::time::Instant::now();
        let most = (ledger.len() as u64 / MAX_CATCH_UP_SHARE).max(MIN_CATCH_UP);
        let LedgerChanges::Known {
            state,
            patients,
            old_dates,
            rows,
        } = self.store.changes_since(hospital, seen, most).await?
        else {
            return Ok(None);
        };
        let ledger = if patients.is_empty() {
            ledger
        } else {
            let change = move || ledger.changed(&patients, &old_dates, &rows);
            match spawn_cpu("catching up", change).await? {
                Ok(changed) => Arc::new(changed),
                // A ledger that is loaded again has no numbers for departments and doctors that were deleted.
                Err(TooManyIds { .. }) => return Ok(None),
            }
        };
        state.verify_count(hospital, ledger.len())?;
        self.store.metrics().ledger_caught_up(started.elapsed());
        Ok(Some((state, ledger)))
    }

    /// The running load, or one that is started now; and whether it was.
    fn load(self: &Arc<Self>, hospital: i64, slot: &Arc<Slot>) -> (SharedLoad, bool) {
        let mut running = slot.load.lock().unwrap_or_else(PoisonError::into_inner);
        // A finished load removes itself, unless it panicked.
        if let Some(load) = running.as_ref().filter(|load| load.peek().is_none()) {
            return (load.clone(), false);
        }
        let (ledgers, own) = (Arc::clone(self), Arc::clone(slot));
        let task = tokio::spawn(
            async move {
                let loaded = ledgers.load_now(hospital).await;
                if let Ok((state, ledger)) = &loaded {
                    *own.current.write().await = Some((state.revision, Arc::clone(ledger)));
                    ledgers.evict_to_limit(hospital).await;
                }
                *own.load.lock().unwrap_or_else(PoisonError::into_inner) = None;
                loaded
            }
            .in_current_span(),
        );
        let failed = |error| Error::Internal(format!("loading a ledger failed: {error}"));
        let load = async move { task.await.map_err(failed)? }.boxed().shared();
        *running = Some(load.clone());
        (load, true)
    }

    #[instrument(name = "ledger.load", level = "debug", skip_all)]
    async fn load_now(&self, hospital: i64) -> Result<LedgerAt> {
        let permit = self.load_permits.acquire().await;
        let _permit = permit.map_err(|error| Error::Internal(format!("cannot load a ledger: {error}")))?;
        let started = std::time::Instant::now();
        let timed_out = |_| Error::Internal(format!("loading a ledger took longer than {:?}", self.load_timeout));
        let load = tokio::time::timeout(self.load_timeout, self.store.load_ledger(hospital));
        let (state, ledger) = load.await.map_err(timed_out)??;
        let took = started.elapsed();
        self.store.metrics().ledger_loaded(took);
        let ms = took.as_secs_f64() * 1e3;
        tracing::info!(
            hospital,
            visits = ledger.len(),
            bytes = ledger.bytes(),
            ms,
            "ledger loaded"
        );
        Ok((state, Arc::new(ledger)))
    }

    /// Drops the least recently used ledgers and the snapshots that hold them until the rest fits the limit; never the ledger of
    /// the hospital `keep`.
    async fn evict_to_limit(&self, keep: i64) {
        let slots: Vec<(i64, Arc<Slot>)> = self
            .slots
            .lock()
            .await
            .iter()
            .map(|(&id, slot)| (id, Arc::clone(slot)))
            .collect();
        let mut ledgers = Vec::new();
        let mut total = 0;
        for (hospital, slot) in slots {
            let bytes = slot
                .current
                .read()
                .await
                .as_ref()
                .map_or(0, |(_, ledger)| ledger.bytes() as u64);
            total += bytes;
            ledgers.push((slot.last_used.load(Ordering::Relaxed), hospital, bytes, slot));
        }
        ledgers.sort_unstable_by_key(|&(last_used, ..)| last_used);
        for (_, hospital, bytes, slot) in ledgers {
            if total <= self.limit {
                break;
            }
            if hospital != keep && bytes > 0 {
                self.evict(hospital, &slot).await;
                total -= bytes;
            }
        }
    }

    pub(super) async fn usage(&self) -> LedgerUsage {
        let slots: Vec<Arc<Slot>> = self.slots.lock().await.values().cloned().collect();
        let mut usage = LedgerUsage::default();
        for slot in slots {
            if let Some((_, ledger)) = &*slot.current.read().await {
                usage.bytes += ledger.bytes() as u64;
                usage.ledgers += 1;
            }
        }
        usage
    }
}

/// The memory that ledgers take.
#[derive(Clone, Copy, Debug, Default)]
pub struct LedgerUsage {
    /// How many are in memory.
    pub ledgers: u64,
    /// Their approximate size in bytes.
    pub bytes: u64,
}
