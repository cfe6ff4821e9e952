//! How many requests may come: of an address, of a viewer, and in all at a time.

use std::hash::Hash;
use std::net::IpAddr;
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
use tokio::sync::{Semaphore, SemaphorePermit};

use super::peer::{self, Client, Peer};
use super::{App, graphql};
use crate::config::LIMITS;
use crate::permissions::Viewer;

/// Who comes too often hears how long to wait.
type Limited<T> = Result<T, Duration>;

pub(super) struct RateLimits {
    addresses: Buckets<IpAddr>,
    viewers: Buckets<(i64, i64)>,
    running: Semaphore,
    trusted: Vec<IpNet>,
}

impl RateLimits {
    /// So many requests a second of each address and each viewer; `trusted` say whom they pass requests on for.
    pub(super) fn new(address: NonZeroU32, viewer: NonZeroU32, trusted: Vec<IpNet>) -> Self {
        Self {
            addresses: Buckets::new(address),
            viewers: Buckets::new(viewer),
            running: Semaphore::new(LIMITS.concurrent),
            trusted,
        }
    }

    pub(super) fn viewer(&self, viewer: &Viewer) -> Limited<()> {
        self.viewers.take((viewer.hospital, viewer.staff))
    }

    /// A place among the requests that run.
    pub(super) fn place(&self) -> Limited<SemaphorePermit<'_>> {
        self.running.try_acquire().map_err(|_| Duration::from_secs(1))
    }
}

/// A bucket for each, of as many tokens as come in a second. Who was not here for a while has a full one, and is forgotten.
struct Buckets<K> {
    kept: Cache<K, Arc<DefaultDirectRateLimiter>>,
    quota: Quota,
}

impl<K: Hash + Eq + Send + Sync + 'static> Buckets<K> {
    fn new(a_second: NonZeroU32) -> Self {
        Self {
            kept: Cache::builder()
                .max_capacity(LIMITS.rate_entries)
                .time_to_idle(Duration::from_secs(10))
                .build(),
            quota: Quota::per_second(a_second),
        }
    }

    fn take(&self, of: K) -> Limited<()> {
        let bucket = self
            .kept
            .get_with(of, || Arc::new(DefaultDirectRateLimiter::direct(self.quota)));
        bucket
            .check()
            .map_err(|until| until.wait_time_from(DefaultClock::default().now()))
    }
}

/// The middleware that finds out who asks, and refuses whom comes too often.
pub(super) async fn limit(
    State(app): State<App>,
    ConnectInfo(Peer(peer)): ConnectInfo<Peer>,
    mut request: Request,
    next: Next,
) -> Response {
    let client = peer::client(peer.ip(), request.headers(), &app.rates.trusted);
    if let Err(wait) = app.rates.addresses.take(client) {
        return graphql::too_often(request.headers(), wait);
    }
    request.extensions_mut().insert(Client(client));
    next.run(request).await
}

/// Whether a request came by way of a proxy, as far as it can be told.
pub(super) fn passed_on(headers: &HeaderMap) -> bool {
    headers.contains_key(peer::FORWARDED_FOR) || headers.contains_key(axum::http::header::FORWARDED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_a_bucket_of_its_own() {
        let buckets = Buckets::new(NonZeroU32::new(3).unwrap());
        for _ in 0..3 {
            assert!(buckets.take(1).is_ok());
        }
        let wait = buckets.take(1).unwrap_err();
        assert!(!wait.is_zero() && wait <= Duration::from_secs(1), "{wait:?}");
        assert!(buckets.take(2).is_ok());
    }
}
