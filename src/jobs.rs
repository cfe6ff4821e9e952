//! What a server does in the background, besides answering requests.

use std::time::Duration;

use chrono::{TimeDelta, Utc};

use crate::error::Result;
use crate::store::Store;

/// How long data that expires is kept.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// Days after which a snapshot that was not requested again expires, unless it is pinned.
    pub snapshot_days: u32,
    /// Days after which audit entries are deleted; never if none.
    pub audit_days: Option<u32>,
}

/// Starts all jobs. They run until the process ends.
pub fn start(store: &Store, file_check_interval: Duration, retention: Retention) {
    tokio::spawn(reload_keys(store.clone(), file_check_interval));
    tokio::spawn(cleanup_each_minute(store.clone()));
    tokio::spawn(hourly_cleanup(store.clone(), retention));
}

/// Reads the key file again when it has changed: what a server wrote with an old key after a rotation would be lost with that key.
async fn reload_keys(store: Store, interval: Duration) {
    let mut interval = tokio::time::interval(interval);
    loop {
        interval.tick().await;
        if store.secrets().reload() {
            tracing::info!("the keys were rotated");
        }
    }
}

/// Cancels the bookings that were not confirmed in time, whose time is free already, ends imports that nobody
/// goes on with, and deletes expired uploads, each minute.
async fn cleanup_each_minute(store: Store) {
    let mut interval = tokio::time::interval(Duration::from_secs(60));
    loop {
        interval.tick().await;
        if let Err(error) = lapse_bookings(&store).await {
            tracing::warn!("bookings that have lapsed were not canceled: {}", error.for_operator());
        }
        if let Err(error) = end_old_imports(&store).await {
            tracing::warn!("old imports were not ended: {}", error.for_operator());
        }
        if let Err(error) = delete_expired_uploads(&store).await {
            tracing::warn!("expired uploads were not deleted: {}", error.for_operator());
        }
    }
}

async fn lapse_bookings(store: &Store) -> Result<()> {
    for hospital in store.hospitals().await? {
        store.lapse_bookings(hospital).await?;
    }
    Ok(())
}

async fn end_old_imports(store: &Store) -> Result<()> {
    for hospital in store.hospitals().await? {
        store.end_old_imports(hospital).await?;
    }
    Ok(())
}

async fn delete_expired_uploads(store: &Store) -> Result<()> {
    for hospital in store.hospitals().await? {
        let deleted = store.delete_expired_uploads(hospital).await?;
        if deleted > 0 {
            tracing::info!(hospital, deleted, "expired uploads were deleted");
        }
    }
    Ok(())
}

/// Deletes expired data, and indexes the names that were written in SQL.
async fn hourly_cleanup(store: Store, retention: Retention) {
    let mut interval = tokio::time::interval(Duration::from_secs(60 * 60));
    loop {
        interval.tick().await;
        if let Err(error) = clean_up(&store, retention).await {
            tracing::warn!("the hourly cleanup failed: {}", error.for_operator());
        }
    }
}

async fn clean_up(store: &Store, retention: Retention) -> Result<()> {
    let days_ago = |days: u32| Utc::now() - TimeDelta::days(days.into());
    for hospital in store.hospitals().await? {
        store.prune_feed(hospital).await?;
        store.prune_keys(hospital).await?;
        store.prune_exports(hospital).await?;
        store.prune_refresh_tokens(hospital).await?;
        store.index_names(hospital).await?;
        let expired = store
            .expire_snapshots(hospital, days_ago(retention.snapshot_days))
            .await?;
        if expired > 0 {
            tracing::info!(hospital, expired, "snapshots have expired");
        }
        if let Some(days) = retention.audit_days {
            let deleted = store.prune_audit(hospital, days_ago(days)).await?;
            if deleted > 0 {
                tracing::info!(hospital, deleted, "old audit entries were deleted");
            }
        }
    }
    Ok(())
}
