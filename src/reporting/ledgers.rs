//! Ledgers in memory, one a hospital, kept current by the change feed and never trusted by age.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex as SyncMutex, PoisonError};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use tokio::sync::{Mutex, RwLock, Semaphore};
use tracing::{Instrument as _, instrument};

use super::{Snapshots, spawn_cpu};
use crate::config::LIMITS;
use crate::error::{Error, Result};
use crate::statistics::{Ledger, TooManyIds};
use crate::store::{HospitalState, LedgerChanges, Revision, Store};

/// Past this share of a ledger, catching up costs more than loading anew.
const MAX_CATCH_UP_SHARE: u64 = 4;
/// Catching up is always tried with as few changes as this.
const MIN_CATCH_UP: u64 = 20_000;

pub(super) struct LedgerCache {
    store: Store,
    /// Bytes that all ledgers together may take.
    limit: u64,
    /// What was resolved from a ledger holds it.
    snapshots: Snapshots,
    slots: Mutex<HashMap<i64, Arc<Slot>>>,
    clock: AtomicU64,
    /// Turns to load.
    loads: Semaphore,
}

/// A hospital's place. Who catches up holds `busy`; who finds the ledger current needs `held` alone.
#[derive(Default)]
struct Slot {
    catching_up: Mutex<()>,
    current: RwLock<Option<(Revision, Arc<Ledger>)>>,
    /// The load that runs, in a task of its own: it goes on where every request that waits for it has ended.
    load: SyncMutex<Option<SharedLoad>>,
    last_used: AtomicU64,
}

/// A ledger with the state that it is of.
type LedgerAt = (HospitalState, Arc<Ledger>);

/// A load that any number of requests wait for.
type SharedLoad = Shared<BoxFuture<'static, Result<LedgerAt>>>;

impl LedgerCache {
    pub(super) fn new(store: Store, limit: u64, snapshots: Snapshots) -> Self {
        Self {
            store,
            limit,
            snapshots,
            slots: Mutex::default(),
            clock: AtomicU64::new(0),
            loads: Semaphore::new(LIMITS.loads),
        }
    }

    /// The hospital's ledger at its current revision, and the state that it is of.
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
            let (load, begun) = {
                let _busy = slot.catching_up.lock().await;
                // Whoever was busy before may have done it.
                if let Some(found) = self.unchanged(hospital, &slot).await? {
                    return Ok(found);
                }
                if let Some(found) = self.try_catch_up(hospital, &slot).await? {
                    return Ok(found);
                }
                self.load(hospital, &slot)
            };
            let (seen, ledger) = load.await?;
            if begun {
                return Ok((seen, ledger));
            }
            // It began before this question, and changes may have been committed since.
            let state = self.store.hospital_state(hospital, seen.revision.number).await?;
            if state.revision == seen.revision {
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

    async fn evict(&self, hospital: i64, slot: &Slot) {
        *slot.current.write().await = None;
        for (key, _) in self.snapshots.iter().filter(|(key, _)| key.0 == hospital) {
            self.snapshots.invalidate(&*key);
        }
        self.snapshots.run_pending_tasks();
    }

    async fn unchanged(&self, hospital: i64, slot: &Slot) -> Result<Option<LedgerAt>> {
        let held = slot.current.read().await.clone();
        let Some((seen, ledger)) = held else { return Ok(None) };
        let state = self.store.hospital_state(hospital, seen.number).await?;
        Ok((state.revision == seen).then_some((state, ledger)))
    }

    /// The ledger in memory with what changed since; none where there is none, or it has to be loaded anew.
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
                // It still numbers departments and doctors that are gone: a new one does not.
                Err(TooManyIds { .. }) => return Ok(None),
            }
        };
        state.verify_count(hospital, ledger.len())?;
        self.store.metrics().ledger_caught_up(started.elapsed());
        Ok(Some((state, ledger)))
    }

    /// The load that runs, or one that begins now; and whether it does.
    fn load(self: &Arc<Self>, hospital: i64, slot: &Arc<Slot>) -> (SharedLoad, bool) {
        let mut running = slot.load.lock().unwrap_or_else(PoisonError::into_inner);
        // One that is over removes itself, unless it panicked.
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
        let turn = self.loads.acquire().await;
        let _until_loaded = turn.map_err(|error| Error::Internal(format!("a ledger cannot be loaded: {error}")))?;
        let started = std::time::Instant::now();
        let late = |_| Error::Internal(format!("a ledger took longer than {:?} to load", LIMITS.load));
        let load = tokio::time::timeout(LIMITS.load, self.store.load_ledger(hospital));
        let (state, ledger) = load.await.map_err(late)??;
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

    /// Lets go of the least recently asked ledgers, all but the hospital's own, until the rest fits; and of the snapshots that
    /// hold them.
    async fn evict_to_limit(&self, but: i64) {
        let slots: Vec<(i64, Arc<Slot>)> = self
            .slots
            .lock()
            .await
            .iter()
            .map(|(&id, slot)| (id, Arc::clone(slot)))
            .collect();
        let mut held = Vec::new();
        let mut total = 0;
        for (hospital, slot) in slots {
            let bytes = slot
                .current
                .read()
                .await
                .as_ref()
                .map_or(0, |(_, ledger)| ledger.bytes() as u64);
            total += bytes;
            held.push((slot.last_used.load(Ordering::Relaxed), hospital, bytes, slot));
        }
        held.sort_unstable_by_key(|&(asked_at, ..)| asked_at);
        for (_, hospital, bytes, slot) in held {
            if total <= self.limit {
                break;
            }
            if hospital != but && bytes > 0 {
                self.evict(hospital, &slot).await;
                total -= bytes;
            }
        }
    }

    pub(super) async fn usage(&self) -> LedgerUsage {
        let slots: Vec<Arc<Slot>> = self.slots.lock().await.values().cloned().collect();
        let mut used = LedgerUsage::default();
        for slot in slots {
            if let Some((_, ledger)) = &*slot.current.read().await {
                used.bytes += ledger.bytes() as u64;
                used.ledgers += 1;
            }
        }
        used
    }
}

/// What ledgers take.
#[derive(Clone, Copy, Debug, Default)]
pub struct LedgerUsage {
    /// How many are in memory.
    pub ledgers: u64,
    /// Their memory, in bytes, about.
    pub bytes: u64,
}
