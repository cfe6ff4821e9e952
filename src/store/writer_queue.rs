//! Queues of writers in the process: in the database, each writer that waits would hold a connection.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use sea_orm::{ConnectionTrait as _, DatabaseTransaction, DbBackend};
use tokio::sync::{OwnedMutexGuard, Semaphore};
use tokio::time::{Instant, timeout_at};
use tracing::Instrument as _;

use super::Store;
use super::history::ChangeContext;
use crate::config::Limits;
use crate::error::{Error, Result};
use crate::observe::with_current_request_stats;

/// The queues of writers in this process.
#[derive(Debug)]
pub(super) struct WriterQueues {
    /// A lock for each hospital's writers. It is dropped once nobody holds or awaits it.
    hospitals: Mutex<HashMap<i64, Weak<tokio::sync::Mutex<()>>>>,
    /// Permits for connections that wait for a lock of the database.
    waiting: Arc<Semaphore>,
}

/// The permit of a hospital's only writer. To be held until its transaction has ended.
#[derive(Debug)]
pub(super) struct WriterPermit {
    _queue: OwnedMutexGuard<()>,
}

impl WriterQueues {
    pub(super) fn new(waiting: usize) -> Self {
        Self {
            hospitals: Mutex::default(),
            waiting: Arc::new(Semaphore::new(waiting)),
        }
    }

    fn queue(&self, hospital: i64) -> Arc<tokio::sync::Mutex<()>> {
        let mut hospitals = self.hospitals.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(queue) = hospitals.get(&hospital).and_then(Weak::upgrade) {
            return queue;
        }
        hospitals.retain(|_, queue| queue.strong_count() > 0);
        let queue = Arc::default();
        hospitals.insert(hospital, Arc::downgrade(&queue));
        queue
    }
}

impl Store {
    /// Begins a transaction that changes the hospital's data. It locks the hospital's revision first, so that two of them cannot
    /// deadlock, and tells the triggers of histories who makes the changes. The permit is to be held as long as the transaction,
    /// which ends by [`Self::commit_change`].
    ///
    /// # Errors
    /// BUSY where other changes hold a lock longer than [`Limits::lock_timeout`]. Where the database fails.
    pub(super) async fn begin_change(
        &self,
        hospital: i64,
        context: ChangeContext<'_>,
    ) -> Result<(DatabaseTransaction, WriterPermit)> {
        let until = Instant::now() + self.limits.lock_timeout;
        let queue = self.writer_queues.queue(hospital).lock_owned();
        let queue = timeout_at(until, queue).await.map_err(|_| Error::Busy)?;
        let waiting = Arc::clone(&self.writer_queues.waiting).acquire_owned();
        let waiting = timeout_at(until, waiting).await.map_err(|_| Error::Busy)?;
        let permit = WriterPermit { _queue: queue };
        let store = self.clone();
        // In a task of its own, which goes on where the request is cancelled: the connection is in use until the database has
        // answered, and the next writer would use another one.
        let locked = async move {
            let transaction = store.begin_write().await?;
            store.lock_revision(&transaction, hospital).await?;
            drop(waiting);
            Ok((transaction, permit))
        };
        let locked = tokio::spawn(with_current_request_stats(locked).in_current_span()).await;
        let locked: Result<_> = locked.map_err(|error| Error::Internal(format!("cannot lock a revision: {error}")))?;
        let (transaction, permit) = locked?;
        self.begin_context(&transaction, hospital, context).await?;
        Ok((transaction, permit))
    }

    /// Locks the hospital's revision until the transaction ends. SQLite has one writer at a time.
    pub(super) async fn lock_revision(&self, transaction: &DatabaseTransaction, hospital: i64) -> Result<()> {
        if self.writer.get_database_backend() != DbBackend::Sqlite {
            let mut lock = self.sql("SELECT number FROM revision WHERE hospital_id = ");
            lock.bind(hospital).push(" FOR UPDATE");
            transaction.query_one_raw(lock.done()).await?;
        }
        Ok(())
    }

    /// Commits a transaction that [`Self::begin_change`] began.
    pub(super) async fn commit_change(&self, transaction: DatabaseTransaction, hospital: i64) -> Result<()> {
        self.end_context(&transaction, hospital).await?;
        Ok(transaction.commit().await?)
    }
}

/// How long a statement waits for SQLite's write lock while another process holds it.
pub(super) const fn busy_timeout(serves: bool, limits: &Limits) -> Duration {
    if serves {
        limits.lock_timeout
    } else {
        Duration::from_secs(60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_hospital_has_one_writer_and_unused_queues_are_dropped() {
        let writers = WriterQueues::new(4);
        let first = writers.queue(1).lock_owned().await;
        assert!(writers.queue(1).try_lock_owned().is_err());
        let other = writers.queue(2).try_lock_owned().unwrap();
        drop((first, other));
        let again = writers.queue(1).try_lock_owned().unwrap();
        let queues = writers.hospitals.lock().unwrap().len();
        assert_eq!(queues, 1);
        drop(again);
    }
}
