//! Ledgers in memory, one a hospital, kept current by the change feed and never trusted by age.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{Mutex, RwLock};
use tracing::instrument;

use super::{Snapshots, off_thread};
use crate::error::Result;
use crate::statistics::{Ledger, TooManyKeys};
use crate::store::{Changes, Revision, State, Store};

/// Past this share of a ledger, catching up costs more than loading anew.
const SHARE: u64 = 4;
/// Catching up is always tried with as few changes as this.
const FEW: u64 = 20_000;

pub(super) struct Ledgers {
    store: Store,
    /// Bytes that all ledgers together may take.
    limit: u64,
    /// What was resolved from a ledger holds it.
    snapshots: Snapshots,
    slots: Mutex<HashMap<i64, Arc<Slot>>>,
    clock: AtomicU64,
}

/// A hospital's place. Who catches up holds `busy`; who finds the ledger current needs `held` alone.
#[derive(Default)]
struct Slot {
    busy: Mutex<()>,
    held: RwLock<Option<(Revision, Arc<Ledger>)>>,
    asked_at: AtomicU64,
}

impl Ledgers {
    pub(super) fn new(store: Store, limit: u64, snapshots: Snapshots) -> Self {
        Self {
            store,
            limit,
            snapshots,
            slots: Mutex::default(),
            clock: AtomicU64::new(0),
        }
    }

    /// The hospital's ledger at its current revision, and the state that it is of.
    pub(super) async fn current(&self, hospital: i64) -> Result<(State, Arc<Ledger>)> {
        let slot = Arc::clone(self.slots.lock().await.entry(hospital).or_default());
        slot.asked_at
            .store(self.clock.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        if let Some(found) = self.unchanged(hospital, &slot).await? {
            return Ok(found);
        }
        let _busy = slot.busy.lock().await;
        // Whoever was busy before may have done it.
        if let Some(found) = self.unchanged(hospital, &slot).await? {
            return Ok(found);
        }
        let before = slot.held.read().await.clone();
        let (state, ledger) = match before {
            Some((seen, ledger)) => self.caught_up(hospital, seen, ledger).await?,
            None => self.loaded(hospital).await?,
        };
        *slot.held.write().await = Some((state.revision, Arc::clone(&ledger)));
        self.make_room(hospital).await;
        Ok((state, ledger))
    }

    async fn unchanged(&self, hospital: i64, slot: &Slot) -> Result<Option<(State, Arc<Ledger>)>> {
        let held = slot.held.read().await.clone();
        let Some((seen, ledger)) = held else { return Ok(None) };
        let state = self.store.state(hospital, seen.number).await?;
        Ok((state.revision == seen).then_some((state, ledger)))
    }

    #[instrument(name = "ledger.catch_up", level = "debug", skip_all)]
    async fn caught_up(&self, hospital: i64, seen: Revision, ledger: Arc<Ledger>) -> Result<(State, Arc<Ledger>)> {
        let started = std::time::Instant::now();
        let most = (ledger.len() as u64 / SHARE).max(FEW);
        match self.store.changes_since(hospital, seen, most).await? {
            Changes::Unknown => {
                drop(ledger);
                self.loaded(hospital).await
            }
            Changes::Known {
                state,
                patients,
                old_dates,
                rows,
            } => {
                let ledger = if patients.is_empty() {
                    ledger
                } else {
                    let change = move || ledger.changed(&patients, &old_dates, &rows);
                    match off_thread("catching up", change).await? {
                        Ok(changed) => Arc::new(changed),
                        // It still numbers departments and doctors that are gone: a new one does not.
                        Err(TooManyKeys { .. }) => return self.loaded(hospital).await,
                    }
                };
                self.store.metrics().ledger_caught_up(started.elapsed());
                Ok((state, ledger))
            }
        }
    }

    #[instrument(name = "ledger.load", level = "debug", skip_all)]
    async fn loaded(&self, hospital: i64) -> Result<(State, Arc<Ledger>)> {
        let started = std::time::Instant::now();
        let (state, ledger) = self.store.load_ledger(hospital).await?;
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
    async fn make_room(&self, but: i64) {
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
                .held
                .read()
                .await
                .as_ref()
                .map_or(0, |(_, ledger)| ledger.bytes() as u64);
            total += bytes;
            held.push((slot.asked_at.load(Ordering::Relaxed), hospital, bytes, slot));
        }
        held.sort_unstable_by_key(|&(asked_at, ..)| asked_at);
        for (_, hospital, bytes, slot) in held {
            if total <= self.limit {
                break;
            }
            if hospital != but && bytes > 0 {
                *slot.held.write().await = None;
                total -= bytes;
                for (key, _) in self.snapshots.iter().filter(|(key, _)| key.0 == hospital) {
                    self.snapshots.invalidate(&*key);
                }
                self.snapshots.run_pending_tasks();
            }
        }
    }

    pub(super) async fn in_use(&self) -> LedgerUse {
        let slots: Vec<Arc<Slot>> = self.slots.lock().await.values().cloned().collect();
        let mut used = LedgerUse::default();
        for slot in slots {
            if let Some((_, ledger)) = &*slot.held.read().await {
                used.bytes += ledger.bytes() as u64;
                used.ledgers += 1;
            }
        }
        used
    }
}

/// What ledgers take.
#[derive(Clone, Copy, Debug, Default)]
pub struct LedgerUse {
    /// How many are in memory.
    pub ledgers: u64,
    /// Their memory, in bytes, about.
    pub bytes: u64,
}
