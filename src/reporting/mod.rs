//! Statistics: questions are resolved into snapshots, which are cached, stored and loaded by id.
//!
//! A question is resolved with the hospital's ledger at its current revision. All counts and pages of a response come from the
//! snapshot.

mod changes;
mod cohort;
mod derived;
mod explain;
mod identity;
mod ledgers;
mod lists;
mod parts;
mod retention;
mod statements;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};

use chrono::{DateTime, NaiveDate, SubsecRound as _, TimeDelta, Utc};
use moka::sync::Cache;
use tokio::sync::{OnceCell, Semaphore};
use tracing::{Instrument as _, instrument};

use crate::config::{Limits, Memory, cores};
use crate::error::{Error, Result};
use crate::observe::Lookup;
use crate::permissions::Viewer;
use crate::statistics::{
    BucketRef, CohortKind, CohortList, Definition, Filter, Ledger, Period, Question, Snapshot, WeekStart, resolve,
};
use crate::store::{
    Command, HospitalState, Keyset, ListKind, ListOrder, Revision, SnapshotRow, Store, StoredSnapshot, definition_of,
    is_stale, kept_at_of,
};

pub use changes::{CitedReason, CitedVisit, StatisticsComparison};
pub use cohort::{Cohort, CohortId};
pub use derived::{DerivedList, PatientConditions, Recipe, SetRecipe};
pub use explain::{Membership, PatientInSnapshot};
pub use identity::SnapshotId;
use ledgers::LedgerCache;
pub use ledgers::LedgerUsage;
pub use lists::{SortedList, bucket_index, bucket_of_index};
pub use parts::{PartDimension, PartKey};
pub use retention::ResolvedRetention;
pub use statements::ListDigest;

/// Resolves statistics questions, and loads the snapshots of earlier ones.
pub struct Reporting {
    store: Store,
    ledgers: Arc<LedgerCache>,
    snapshots: Snapshots,
    /// The questions that are being resolved, so that concurrent equal ones are resolved once.
    resolving: Mutex<HashMap<(i64, SnapshotId), Weak<Resolving>>>,
    /// How long snapshots are kept, and those of live answers.
    retention: Option<TimeDelta>,
    live_lifetime: TimeDelta,
    /// The snapshots of the current revision, by hospital.
    current: Mutex<HashMap<i64, CurrentSnapshots>>,
    /// Lists of cohorts, by the serial of their snapshot.
    lists: Cache<(u64, BucketRef, CohortKind), Arc<CohortList>>,
    orders: Cache<(u64, BucketRef, ListKind, ListOrder), Arc<SortedList>>,
    /// Derived lists that are stored, by hospital and id.
    derived: Cache<(i64, SnapshotId), Arc<DerivedList>>,
}

/// Snapshots in memory, by hospital and id.
type Snapshots = Cache<(i64, SnapshotId), Arc<ResolvedStatistics>>;

/// A question that is being resolved.
type Resolving = OnceCell<Arc<ResolvedStatistics>>;

/// The approximate size of a cache entry beside key and value, in bytes.
const CACHE_ENTRY_OVERHEAD: usize = 256;

/// The snapshots in memory that were resolved at a hospital's newest revision.
#[derive(Default)]
struct CurrentSnapshots {
    revision: String,
    ids: Vec<SnapshotId>,
}

/// A snapshot, with its id, its hospital and the circumstances in which it was computed.
pub struct ResolvedStatistics {
    pub id: SnapshotId,
    /// Unique among those that this process resolved or loaded, also among those with the same id.
    serial: u64,
    pub hospital: i64,
    /// The revision of the data that was counted, as the API shows it.
    pub revision: String,
    pub time_zone: String,
    pub computed_at: DateTime<Utc>,
    /// Since when the definition is in force.
    pub effective_from: DateTime<Utc>,
    /// The version of the definition that was in force. The snapshot's own definition differs where it is a proposed one.
    pub in_force: i32,
    /// The highest id of a visit when it was computed; negative in rows from before this was recorded.
    pub newest_visit: i64,
    pub snapshot: Snapshot,
    /// Set once it is in the database.
    persisted: OnceCell<()>,
    /// Only live answers have it, so it is kept for a short time.
    only_live: AtomicBool,
}

/// What a snapshot is of, without its lists.
#[derive(Clone, Debug)]
pub struct SnapshotHead {
    pub id: SnapshotId,
    pub hospital: i64,
    /// The revision of the data that was counted, as the API shows it.
    pub revision: String,
    pub time_zone: String,
    pub computed_at: DateTime<Utc>,
    pub question: Question,
    pub definition: Definition,
    /// Since when the definition is in force.
    pub effective_from: DateTime<Utc>,
    pub week_start: WeekStart,
}

/// A statistics question before the hospital's date and definition are known.
#[derive(Clone, Debug)]
pub struct StatisticsRequest {
    pub period: Period,
    pub range: crate::statistics::DayRange,
    pub filter: Filter,
    /// None for today in the hospital's time zone.
    pub as_of: Option<NaiveDate>,
}

impl Reporting {
    /// `memory` bounds the caches, in bytes.
    #[must_use]
    pub fn new(store: Store, limits: &Limits) -> Self {
        let memory = Memory::of(limits.cache_mebibytes);
        let weigh = |bytes: usize| u32::try_from(bytes + CACHE_ENTRY_OVERHEAD).unwrap_or(u32::MAX);
        let snapshots = Cache::builder()
            .max_capacity(memory.snapshots)
            .time_to_live(limits.snapshot_recheck_interval)
            .weigher(move |_: &(i64, SnapshotId), resolved: &Arc<ResolvedStatistics>| weigh(resolved.bytes()))
            .build();
        Self {
            ledgers: Arc::new(LedgerCache::new(
                store.clone(),
                memory.ledgers,
                snapshots.clone(),
                limits,
            )),
            store,
            snapshots,
            resolving: Mutex::default(),
            retention: None,
            live_lifetime: TimeDelta::from_std(limits.live_snapshot_lifetime).unwrap_or_default(),
            current: Mutex::default(),
            lists: Cache::builder()
                .max_capacity(memory.lists / 3)
                .weigher(move |_, list: &Arc<CohortList>| weigh(list.bytes()))
                .build(),
            orders: Cache::builder()
                .max_capacity(memory.lists / 3)
                .weigher(move |_, order: &Arc<SortedList>| weigh(order.bytes()))
                .build(),
            derived: Cache::builder()
                .max_capacity(memory.lists / 3)
                .time_to_live(limits.snapshot_recheck_interval)
                .weigher(move |_, derived: &Arc<DerivedList>| weigh(derived.bytes()))
                .build(),
        }
    }

    /// The same, where snapshots expire after so many days: those of live answers expire sooner.
    #[must_use]
    pub fn with_retention(self, days: u32) -> Self {
        Self {
            retention: Some(TimeDelta::days(days.into())),
            ..self
        }
    }

    /// Resolves a question at the hospital's current revision. Equal questions at the same revision share a snapshot.
    ///
    /// # Errors
    /// BEING_RESTORED where the data is incomplete. Where the database fails.
    #[instrument(name = "reporting.resolve", level = "debug", skip_all)]
    pub async fn resolve(&self, hospital: i64, request: StatisticsRequest) -> Result<Arc<ResolvedStatistics>> {
        let (state, ledger) = self.ledgers.current(hospital).await?;
        let question = self.question(request, &state);
        self.resolve_at(hospital, &state, &ledger, question, state.rules())
            .await
    }

    /// The same for a live answer: if its snapshot is stored, then for a short time, unless it is opened.
    ///
    /// # Errors
    /// As of [`Self::resolve`].
    #[instrument(name = "reporting.resolve_live", level = "debug", skip_all)]
    pub async fn resolve_live(&self, hospital: i64, request: StatisticsRequest) -> Result<Arc<ResolvedStatistics>> {
        let (state, ledger) = self.ledgers.current(hospital).await?;
        let question = self.question(request, &state);
        self.resolve_once(hospital, &state, &ledger, question, state.rules())
            .await
    }

    /// Keeps a snapshot as long as those that were asked for, also if only live answers had it so far.
    async fn keep(&self, resolved: &ResolvedStatistics) -> Result<()> {
        if resolved.only_live.swap(false, Ordering::Relaxed) && resolved.persisted.initialized() {
            let renewed = self
                .store
                .renew_snapshot(resolved.hospital, &resolved.id.to_string())
                .await;
            resolved.only_live.store(renewed.is_err(), Ordering::Relaxed);
            renewed?;
        }
        Ok(())
    }

    /// Resolves a question twice at the same revision: by the definition in force, and by a proposed one, whose version is 0.
    /// Returns the differences.
    ///
    /// # Errors
    /// BEING_RESTORED where the data is incomplete. Where the database fails.
    #[instrument(name = "reporting.preview", level = "debug", skip_all)]
    pub async fn preview(
        &self,
        hospital: i64,
        request: StatisticsRequest,
        proposed: Definition,
    ) -> Result<Arc<StatisticsComparison>> {
        let (state, ledger) = self.ledgers.current(hospital).await?;
        let question = self.question(request, &state);
        let before = self
            .resolve_at(hospital, &state, &ledger, question.clone(), state.rules())
            .await?;
        let after = self
            .resolve_at(hospital, &state, &ledger, question, (proposed, None))
            .await?;
        self.compare(before, after).await
    }

    fn question(&self, request: StatisticsRequest, state: &HospitalState) -> Question {
        Question {
            period: request.period,
            range: request.range,
            as_of: request
                .as_of
                .unwrap_or_else(|| self.store.today(state.time_zone))
                .into(),
            filter: request.filter.normalized(),
        }
    }

    /// Resolves a question by a definition with the day since when it is in force; none for a proposed one.
    async fn resolve_at(
        &self,
        hospital: i64,
        state: &HospitalState,
        ledger: &Arc<Ledger>,
        question: Question,
        rules: (Definition, Option<DateTime<Utc>>),
    ) -> Result<Arc<ResolvedStatistics>> {
        let resolved = self.resolve_once(hospital, state, ledger, question, rules).await?;
        self.keep(&resolved).await?;
        Ok(resolved)
    }

    /// The snapshot of a question, which is resolved unless it is in memory or being resolved.
    async fn resolve_once(
        &self,
        hospital: i64,
        state: &HospitalState,
        ledger: &Arc<Ledger>,
        question: Question,
        rules: (Definition, Option<DateTime<Utc>>),
    ) -> Result<Arc<ResolvedStatistics>> {
        let id = SnapshotId::of(
            &question,
            &state.revision.text(),
            &rules.0,
            state.time_zone.name(),
            state.week_start,
        );
        let found = self.snapshots.get(&(hospital, id));
        self.store
            .metrics()
            .snapshot_looked_up(Lookup::Question, found.is_some());
        if let Some(resolved) = found {
            return Ok(resolved);
        }
        let running = self.resolving((hospital, id));
        let resolve = || async {
            // It may have been resolved since.
            match self.snapshots.get(&(hospital, id)) {
                Some(resolved) => Ok(resolved),
                None => self.resolve_now(hospital, id, state, ledger, question, rules).await,
            }
        };
        running.get_or_try_init(resolve).await.cloned()
    }

    /// The question as it is being resolved, by this request or another.
    fn resolving(&self, key: (i64, SnapshotId)) -> Arc<Resolving> {
        let mut all = self.resolving.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, running| running.strong_count() > 0);
        let running = all.get(&key).and_then(Weak::upgrade).unwrap_or_default();
        all.insert(key, Arc::downgrade(&running));
        running
    }

    async fn resolve_now(
        &self,
        hospital: i64,
        id: SnapshotId,
        state: &HospitalState,
        ledger: &Arc<Ledger>,
        question: Question,
        (definition, effective_from): (Definition, Option<DateTime<Utc>>),
    ) -> Result<Arc<ResolvedStatistics>> {
        let newest_visit = ledger.newest_visit();
        let (ledger, week_start) = (Arc::clone(ledger), state.week_start);
        let resolved = move || resolve(&ledger, &question, definition, week_start);
        let snapshot = spawn_cpu("resolving", resolved)
            .instrument(tracing::debug_span!("resolve"))
            .await?;
        // The precision of every database.
        let computed_at = Utc::now().trunc_subsecs(6);
        let resolved = Arc::new(ResolvedStatistics {
            id,
            serial: next_serial(),
            hospital,
            revision: state.revision.text(),
            time_zone: state.time_zone.name().to_owned(),
            computed_at,
            effective_from: effective_from.unwrap_or(computed_at),
            in_force: state.definition.version,
            newest_visit,
            snapshot,
            persisted: OnceCell::new(),
            only_live: AtomicBool::new(true),
        });
        let resolved = self.snapshots.get_with((hospital, id), || resolved);
        self.track_current(&resolved);
        Ok(resolved)
    }

    /// Registers a snapshot that was just resolved. At a new revision, snapshots of the previous one that are not stored are
    /// dropped: no request finds them any more, and each may hold an outdated ledger.
    fn track_current(&self, resolved: &ResolvedStatistics) {
        let mut hospitals = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let current = hospitals.entry(resolved.hospital).or_default();
        if current.revision != resolved.revision {
            resolved.revision.clone_into(&mut current.revision);
            for id in std::mem::take(&mut current.ids) {
                let key = (resolved.hospital, id);
                if self.snapshots.get(&key).is_some_and(|old| !old.persisted.initialized()) {
                    self.snapshots.invalidate(&key);
                }
            }
        }
        if current.ids.len() == current.ids.capacity() {
            current
                .ids
                .retain(|id| self.snapshots.contains_key(&(resolved.hospital, *id)));
        }
        current.ids.push(resolved.id);
    }

    /// Opens a snapshot of the hospital by its id; none where there never was one of that id. It is kept from now on as if it were stored
    /// now, but renewed at most daily.
    ///
    /// # Errors
    /// SNAPSHOT_EXPIRED where retention deleted its lists. Where the database fails, or the stored snapshot is damaged.
    #[instrument(name = "reporting.load", level = "debug", skip_all)]
    pub async fn load(&self, hospital: i64, id: SnapshotId) -> Result<Option<Arc<ResolvedStatistics>>> {
        let found = self
            .snapshots
            .get(&(hospital, id))
            .filter(|resolved| resolved.persisted.initialized());
        self.store.metrics().snapshot_looked_up(Lookup::Id, found.is_some());
        if let Some(resolved) = found {
            self.keep(&resolved).await?;
            return Ok(Some(resolved));
        }
        let (row, packed) = match self.store.load_snapshot(hospital, &id.to_string()).await? {
            // A derived list is no snapshot.
            Some(StoredSnapshot::Expired(row) | StoredSnapshot::Whole(row, _)) if row.recipe.is_some() => {
                return Ok(None);
            }
            None => return Ok(None),
            Some(StoredSnapshot::Expired(row)) => {
                let (question, _) = identity::question_of(&row)?;
                return Err(Error::expired(question));
            }
            Some(StoredSnapshot::Whole(row, packed)) => (row, packed),
        };
        if is_stale(row.kept_at) {
            self.store.renew_snapshot(hospital, &id.to_string()).await?;
        }
        let Some(head) = self.head(&row).await? else {
            return Ok(None);
        };
        let snapshot = spawn_cpu("unpacking a snapshot", move || {
            Snapshot::unpack(&packed, head.question, head.definition, head.week_start)
        })
        .await??;
        let resolved = Arc::new(ResolvedStatistics {
            id,
            serial: next_serial(),
            hospital,
            revision: row.revision,
            time_zone: row.time_zone,
            computed_at: row.computed_at,
            effective_from: head.effective_from,
            in_force: row.definition_version,
            newest_visit: row.newest_visit_id,
            snapshot,
            persisted: OnceCell::new_with(Some(())),
            only_live: AtomicBool::new(false),
        });
        self.snapshots.insert((hospital, id), Arc::clone(&resolved));
        Ok(Some(resolved))
    }

    /// What a stored snapshot is of; none where its definition was deleted.
    ///
    /// # Errors
    /// Where the database fails, or the stored snapshot is damaged.
    pub async fn head(&self, row: &SnapshotRow) -> Result<Option<SnapshotHead>> {
        let id = SnapshotId::from_text(&row.id)
            .ok_or_else(|| Error::Internal(format!("the stored snapshot {:?} has a malformed id", row.id)))?;
        let (question, week_start) = identity::question_of(row)?;
        let (definition, effective_from) = match identity::rules_of(row) {
            Some(rules) => rules,
            None => match self.store.definition(row.hospital_id, row.definition_version).await? {
                Some(definition) => (definition_of(&definition), definition.effective_from),
                None => return Ok(None),
            },
        };
        Ok(Some(SnapshotHead {
            id,
            hospital: row.hospital_id,
            revision: row.revision.clone(),
            time_zone: row.time_zone.clone(),
            computed_at: row.computed_at,
            question,
            definition,
            effective_from,
            week_start,
        }))
    }

    /// A page of the hospital's pinned snapshots, by the number under which each was pinned.
    ///
    /// # Errors
    /// Where the database fails, or a stored snapshot is damaged.
    pub async fn pinned_page(
        &self,
        hospital: i64,
        seek: &Keyset<Option<String>>,
    ) -> Result<Vec<(i64, Arc<SnapshotHead>)>> {
        let mut heads = Vec::new();
        for row in self.store.pinned_page(hospital, seek).await? {
            if let (Some(number), Some(head)) = (row.pin_number, self.head(&row).await?) {
                heads.push((number, Arc::new(head)));
            }
        }
        Ok(heads)
    }

    /// Stores the snapshot, so that every server can load it by its id and cursors. To be called before a response contains one of
    /// these.
    ///
    /// # Errors
    /// BEING_RESTORED where other lists are stored under its id. Where the database fails.
    #[instrument(name = "reporting.persist", level = "debug", skip_all)]
    pub async fn persist(&self, resolved: &Arc<ResolvedStatistics>) -> Result<()> {
        if resolved.persisted.initialized() {
            return Ok(());
        }
        let store = async || {
            let shared = Arc::clone(resolved);
            let packed = spawn_cpu("packing a snapshot", move || shared.snapshot.pack()).await?;
            let only_live = resolved.only_live.load(Ordering::Relaxed);
            let mut row = resolved.row()?;
            if only_live && let Some(retention) = self.retention {
                row.kept_at = kept_at_of(self.live_lifetime, retention);
            }
            if !self.store.store_snapshot(&row, &packed).await? {
                return Err(self.reject_mismatch(resolved).await);
            }
            if only_live && !resolved.only_live.load(Ordering::Relaxed) {
                // It was asked for while it was being stored.
                self.store.renew_snapshot(row.hospital_id, &row.id).await?;
            }
            self.store.metrics().snapshot_written();
            Ok::<_, Error>(())
        };
        resolved.persisted.get_or_try_init(store).await?;
        // Inserted again because its weight has changed: it no longer holds its ledger.
        self.snapshots
            .insert((resolved.hospital, resolved.id), Arc::clone(resolved));
        Ok(())
    }

    /// Drops a snapshot that differs from the one stored under the same id, and the ledger that it was resolved from.
    async fn reject_mismatch(&self, resolved: &ResolvedStatistics) -> Error {
        tracing::error!(
            hospital = resolved.hospital,
            snapshot = %resolved.id,
            "other lists are stored under this snapshot's id: the data was replaced without a new revision. If this is logged \
             again, run `rollcall recount`"
        );
        self.ledgers.discard(resolved.hospital).await;
        Error::BeingRestored
    }

    /// Executes a command that pins or unpins a snapshot; none where there never was one of that id. `key` is the idempotency key.
    ///
    /// # Errors
    /// FORBIDDEN where the viewer's role may not pin; SNAPSHOT_EXPIRED where it has expired already. Where the database fails.
    pub async fn pin(
        &self,
        viewer: &Viewer,
        id: SnapshotId,
        command: &dyn Command,
        key: Option<&str>,
    ) -> Result<Option<Arc<ResolvedStatistics>>> {
        match self.store.execute(viewer, command, key).await {
            Ok(_) => self.store.renew_lists_of(viewer.hospital, &id.to_string()).await?,
            // It was deleted from the database, so it must not be found in memory.
            Err(Error::NotFound { .. }) => self.snapshots.invalidate(&(viewer.hospital, id)),
            Err(error) => return Err(error),
        }
        self.load(viewer.hospital, id).await
    }

    /// Executes a command that needs this list: makes a recall list of it, or exports it. `key` is the idempotency key. Returns what the
    /// command does.
    ///
    /// # Errors
    /// FORBIDDEN where the viewer's role may not do it; SNAPSHOT_EXPIRED where the snapshot has expired. Where the database fails.
    pub async fn execute_on(
        &self,
        viewer: &Viewer,
        id: CohortId,
        command: &dyn Command,
        key: Option<&str>,
    ) -> Result<i64> {
        match self.store.execute(viewer, command, key).await {
            Ok(outcome) => {
                let snapshot = id.snapshot.to_string();
                self.store.renew_lists_of(viewer.hospital, &snapshot).await?;
                Ok(outcome)
            }
            Err(error @ Error::NotFound { .. }) => {
                // It expired since it was loaded into memory.
                self.snapshots.invalidate(&(viewer.hospital, id.snapshot));
                self.derived.invalidate(&(viewer.hospital, id.snapshot));
                self.open(viewer.hospital, id).await?;
                Err(error)
            }
            Err(error) => Err(error),
        }
    }

    /// The memory that ledgers take.
    pub async fn ledger_usage(&self) -> LedgerUsage {
        self.ledgers.usage().await
    }
}

fn next_serial() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Permits for CPU-bound work, as many as there are cores; a large question uses a second thread for a while. Work of a request
/// that is cancelled while it waits does not start; work that has started is finished.
static CPU_PERMITS: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(cores())));

/// Runs CPU-bound work on a blocking thread, where it does not delay other requests. `what` names it in the error.
///
/// # Errors
/// Where the work panics.
pub async fn spawn_cpu<T: Send + 'static>(what: &str, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let failed = |error: &dyn std::fmt::Display| Error::Internal(format!("{what} failed: {error}"));
    let permit = Arc::clone(&CPU_PERMITS).acquire_owned().await;
    let permit = permit.map_err(|error| failed(&error))?;
    let done = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        work()
    });
    done.await.map_err(|error| failed(&error))
}

impl ResolvedStatistics {
    /// The revision of the data that was counted.
    ///
    /// # Errors
    /// Where it is malformed in the database.
    pub fn parsed_revision(&self) -> Result<Revision> {
        let damaged = || {
            Error::Internal(format!(
                "the stored snapshot {} has the malformed revision {:?}",
                self.id, self.revision
            ))
        };
        Revision::parse(&self.revision).ok_or_else(damaged)
    }

    /// What it is of.
    #[must_use]
    pub fn head(&self) -> SnapshotHead {
        SnapshotHead {
            id: self.id,
            hospital: self.hospital,
            revision: self.revision.clone(),
            time_zone: self.time_zone.clone(),
            computed_at: self.computed_at,
            question: self.snapshot.question().clone(),
            definition: *self.snapshot.definition(),
            effective_from: self.effective_from,
            week_start: self.snapshot.week_start(),
        }
    }

    /// Its approximate size in bytes.
    fn bytes(&self) -> usize {
        let texts = self.revision.capacity() + self.time_zone.capacity();
        self.snapshot.bytes() + texts + size_of::<Self>() - size_of::<Snapshot>()
    }

    /// Whether it is known which visits existed when it was computed.
    fn knows_newest_visit(&self) -> bool {
        self.newest_visit >= 0
    }

    fn row(&self) -> Result<SnapshotRow> {
        let question = self.snapshot.question();
        let rules = self.snapshot.definition();
        Ok(SnapshotRow {
            hospital_id: self.hospital,
            id: self.id.to_string(),
            revision: self.revision.clone(),
            definition_version: self.in_force,
            period: question.period.as_str().to_owned(),
            range_from: question.range.from.date(),
            range_to: question.range.to.date(),
            as_of: question.as_of.date(),
            filter: identity::filter_json(&question.filter).into_bytes(),
            time_zone: self.time_zone.clone(),
            week_start: WeekStart::as_str(self.snapshot.week_start()).to_owned(),
            computed_at: self.computed_at,
            manifest: Vec::new(),
            kept_at: Utc::now().trunc_subsecs(6),
            expired_at: None,
            pinned_at: None,
            pinned_by: None,
            label: None,
            pin_number: None,
            recipe: None,
            newest_visit_id: self.newest_visit,
            counted_version: Some(rules.version),
            churn_after_days: Some(rules.churn_after_days),
            overdue_after_days: rules.overdue_after_days,
            effective_from: Some(self.effective_from),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::{Patch, PatientDraft, VisitDraft};
    use crate::secrets::Secrets;
    use crate::statistics::{Day, DayRange, VisitStatus};
    use crate::store::{ImportOptions, NewHospital, OpenMode};

    fn visit(number: usize, date: &str) -> VisitDraft<String> {
        VisitDraft {
            visit_no: Patch::Put(number.to_string()),
            patient: Some("A".to_owned()),
            date: Some(date.parse().unwrap()),
            status: Some(VisitStatus::Completed),
            ..VisitDraft::default()
        }
    }

    /// While the data changes, snapshots in memory hold no ledger but the current one.
    #[tokio::test(flavor = "multi_thread")]
    async fn snapshots_of_earlier_revisions_hold_no_ledger() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("test.db").display());
        let secrets = Secrets::open(&folder.path().join("key"), true).unwrap();
        let store = Store::connect(&url, secrets, OpenMode::Create, Arc::default())
            .await
            .unwrap();
        store.migrate().await.unwrap();
        let new = NewHospital {
            code: "H1".to_owned(),
            name: "One".to_owned(),
            country: None,
            time_zone: chrono_tz::Asia::Seoul,
            week_start: WeekStart::Monday,
            churn_after_days: 90,
            overdue_after_days: None,
        };
        let hospital = store.add_hospital(&new).await.unwrap();
        let patient = PatientDraft {
            chart_no: Some("A".to_owned()),
            ..PatientDraft::default()
        };
        store
            .importer(hospital, ImportOptions::commit("test"))
            .patients(&[patient])
            .await
            .unwrap();
        let reporting = Reporting::new(store.clone(), &Limits::default());
        let request = |period| StatisticsRequest {
            period,
            range: DayRange::new(Day(738_900), Day(739_500)).unwrap(),
            filter: Filter::default(),
            as_of: None,
        };
        let mut ledgers = Vec::new();
        for number in 0..3 {
            let visits = [visit(number, "2024-05-01")];
            store
                .importer(hospital, ImportOptions::commit("test"))
                .visits(&visits, &[])
                .await
                .unwrap();
            let (_, ledger) = reporting.ledgers.current(hospital).await.unwrap();
            ledgers.push(Arc::downgrade(&ledger));
            drop(ledger);
            reporting.resolve(hospital, request(Period::Month)).await.unwrap();
            let stored = reporting.resolve(hospital, request(Period::Year)).await.unwrap();
            reporting.persist(&stored).await.unwrap();
        }
        reporting.snapshots.run_pending_tasks();
        let held: Vec<bool> = ledgers.iter().map(|ledger| ledger.upgrade().is_some()).collect();
        assert_eq!(held, [false, false, true]);
        assert_eq!(
            reporting.snapshots.entry_count(),
            4,
            "the three stored ones and the newest"
        );
        let resolved: Vec<Arc<ResolvedStatistics>> = reporting.snapshots.iter().map(|(_, resolved)| resolved).collect();
        let bytes: usize = resolved
            .iter()
            .map(|resolved| resolved.bytes() + CACHE_ENTRY_OVERHEAD)
            .sum();
        assert_eq!(
            reporting.snapshots.weighted_size(),
            bytes as u64,
            "the weights are the current sizes"
        );
        store.close().await.unwrap();
    }
}
