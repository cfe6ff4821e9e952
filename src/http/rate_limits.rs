//! Limits of requests: per second for each address and each viewer, and at a time in all.

use std::hash::Hash;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::HeaderMap;
use axum::middleware::Next;
use axum::response::Response;
use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota};
use ipnet::IpNet;
use moka::sync::Cache;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

use super::peer::{self, Client};
use super::{App, response};
use crate::config::Limits;
use crate::permissions::Viewer;

/// The error is how long to wait.
type Limited<T> = Result<T, Duration>;

pub(super) struct RateLimits {
    addresses: Buckets<IpAddr>,
    viewers: Buckets<(i64, i64)>,
    running: Semaphore,
    /// Permits of uploads, which may take long: they leave the others to requests.
    uploads: Semaphore,
    /// Permits of exports, which bodies hold until they are sent.
    exports: Arc<Semaphore>,
    trusted: Vec<IpNet>,
}

impl RateLimits {
    /// Allows so many requests per second of each address and each viewer. `trusted` are proxies, see [`peer::client`].
    pub(super) fn new(address: NonZeroU32, viewer: NonZeroU32, trusted: Vec<IpNet>, limits: &Limits) -> Self {
        Self {
            addresses: Buckets::new(address, limits.max_tracked_clients),
            viewers: Buckets::new(viewer, limits.max_tracked_clients),
            running: Semaphore::new(limits.max_concurrent_requests),
            uploads: Semaphore::new(limits.max_concurrent_uploads),
            exports: Arc::new(Semaphore::new(limits.max_concurrent_exports)),
            trusted,
        }
    }

    pub(super) fn check_address(&self, client: IpAddr) -> Limited<()> {
        self.addresses.take(client)
    }

    pub(super) fn check_viewer(&self, viewer: &Viewer) -> Limited<()> {
        self.viewers.take((viewer.hospital, viewer.staff))
    }

    /// A permit to run a request, to be held until it has ended.
    pub(super) fn start_request(&self) -> Limited<SemaphorePermit<'_>> {
        self.running.try_acquire().map_err(|_| Duration::from_secs(1))
    }

    /// The same for an upload.
    pub(super) fn start_upload(&self) -> Limited<SemaphorePermit<'_>> {
        self.uploads.try_acquire().map_err(|_| Duration::from_secs(1))
    }

    /// The same for an export.
    pub(super) fn start_export(&self) -> Limited<OwnedSemaphorePermit> {
        let permit = Arc::clone(&self.exports).try_acquire_owned();
        permit.map_err(|_| Duration::from_secs(1))
    }
}

/// A token bucket per key, as large as the requests per second. One that was not used for a while is full, and is dropped.
struct Buckets<K> {
    buckets: Cache<K, Arc<DefaultDirectRateLimiter>>,
    quota: Quota,
}

impl<K: Hash + Eq + Send + Sync + 'static> Buckets<K> {
    fn new(per_second: NonZeroU32, capacity: u64) -> Self {
        Self {
            buckets: Cache::builder()
                .max_capacity(capacity)
                .time_to_idle(Duration::from_secs(10))
                .build(),
            quota: Quota::per_second(per_second),
        }
    }

    fn take(&self, key: K) -> Limited<()> {
        let bucket = self
            .buckets
            .get_with(key, || Arc::new(DefaultDirectRateLimiter::direct(self.quota)));
        bucket
            .check()
            .map_err(|until| until.wait_time_from(DefaultClock::default().now()))
    }
}

/// The middleware that determines the client's address and limits its requests per second.
pub(super) async fn limit(
    State(app): State<App>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    mut request: Request,
    next: Next,
) -> Response {
    let client = peer::client(peer.ip(), request.headers(), &app.rates.trusted);
    if let Err(wait) = app.rates.check_address(client) {
        return response::rate_limited(request.headers(), wait);
    }
    request.extensions_mut().insert(Client(client));
    next.run(request).await
}

/// Whether a proxy says that it forwards the request.
pub(super) fn is_forwarded(headers: &HeaderMap) -> bool {
    headers.contains_key(peer::FORWARDED_FOR) || headers.contains_key(axum::http::header::FORWARDED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_has_its_own_bucket() {
        let buckets = Buckets::new(NonZeroU32::new(3).unwrap(), 10);
        for _ in 0..3 {
            assert!(buckets.take(1).is_ok());
        }
        let wait = buckets.take(1).unwrap_err();
        assert!(!wait.is_zero() && wait <= Duration::from_secs(1), "{wait:?}");
        assert!(buckets.take(2).is_ok());
    }
}
