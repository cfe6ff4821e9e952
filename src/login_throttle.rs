//! Slows down guessing of passwords: failed sign-ins delay the next attempts for the same login and from the same address, before any
//! password is verified. Whether the login exists makes no difference.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use moka::sync::Cache;
use sha2::{Digest as _, Sha256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::{Limits, cores};
use crate::error::{Error, Result};
use crate::permissions::Viewer;

/// What failures are counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ThrottleKey {
    /// A login: a digest, so that it takes the same memory whatever was sent.
    Login([u8; 32]),
    /// A client address.
    Address(IpAddr),
}

/// A permit to verify a password, to be held until that is done.
pub struct VerifyPermit {
    _permit: OwnedSemaphorePermit,
}

/// Recent failed attempts, and a limit of passwords that are verified at a time.
pub struct LoginThrottle {
    failures: Cache<ThrottleKey, Arc<Mutex<FailureCount>>>,
    permits: Arc<Semaphore>,
    waiting: Semaphore,
}

struct FailureCount {
    count: u32,
    last: Instant,
    until: Instant,
}

/// The longest delay, in seconds.
const MAX_DELAY_SECONDS: u64 = 15 * 60;
/// Doublings from one second to the longest delay.
const MAX_DOUBLINGS: u32 = 10;

impl ThrottleKey {
    /// A sign-in with this hospital code and login.
    #[must_use]
    pub fn login(hospital: &str, login: &str) -> Self {
        // The length separates the two.
        Self::Login(Sha256::digest(format!("{}:{hospital}{login}", hospital.len())).into())
    }

    /// A change of the viewer's own password.
    #[must_use]
    pub fn member(viewer: &Viewer) -> Self {
        Self::Login(Sha256::digest(format!("{}/{}", viewer.hospital, viewer.staff)).into())
    }

    /// Failures without a delay.
    const fn free_failures(self) -> u32 {
        match self {
            Self::Login(_) => 5,
            // A whole hospital may share one address.
            Self::Address(_) => 20,
        }
    }

    /// The time after which one failure is forgiven.
    const fn decay(self) -> Duration {
        match self {
            Self::Login(_) => Duration::from_secs(15 * 60),
            Self::Address(_) => Duration::from_secs(60),
        }
    }
}

impl FailureCount {
    fn record(&mut self, key: ThrottleKey, now: Instant) {
        let forgiven = now.duration_since(self.last).as_secs() / key.decay().as_secs();
        let left = self.count.saturating_sub(u32::try_from(forgiven).unwrap_or(u32::MAX));
        self.count = (left + 1).min(key.free_failures() + MAX_DOUBLINGS + 1);
        self.last = now;
        if let Some(doubled) = self.count.checked_sub(key.free_failures() + 1) {
            self.until = now + Duration::from_secs((1 << doubled.min(MAX_DOUBLINGS)).min(MAX_DELAY_SECONDS));
        }
    }
}

impl LoginThrottle {
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        Self {
            failures: Cache::builder()
                .max_capacity(limits.max_tracked_clients)
                .time_to_idle(Duration::from_secs(6 * 60 * 60))
                .build(),
            permits: Arc::new(Semaphore::new(cores())),
            waiting: Semaphore::new(limits.max_waiting_sign_ins),
        }
    }

    /// Waits for a permit to verify a password.
    ///
    /// # Errors
    /// RATE_LIMITED if one of the keys is delayed, or too many sign-ins wait.
    pub async fn acquire(&self, keys: &[ThrottleKey]) -> Result<VerifyPermit> {
        self.check(keys)?;
        let _waiting = self
            .waiting
            .try_acquire()
            .map_err(|_| Error::RateLimited(Duration::from_secs(1)))?;
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        let permit = permit.map_err(|error| Error::Internal(format!("cannot wait for a sign-in: {error}")))?;
        // Attempts that waited together may have failed meanwhile.
        self.check(keys)?;
        Ok(VerifyPermit { _permit: permit })
    }

    /// Whether an attempt is allowed now.
    ///
    /// # Errors
    /// RATE_LIMITED if one of the keys is delayed.
    pub fn check(&self, keys: &[ThrottleKey]) -> Result<()> {
        let now = Instant::now();
        let wait = keys.iter().filter_map(|key| {
            let failures = self.failures.get(key)?;
            let until = failures.lock().unwrap_or_else(PoisonError::into_inner).until;
            Some(until.saturating_duration_since(now))
        });
        match wait.max() {
            Some(wait) if !wait.is_zero() => Err(Error::RateLimited(wait)),
            _ => Ok(()),
        }
    }

    /// Counts a failed attempt.
    pub fn record_failure(&self, keys: &[ThrottleKey]) {
        let now = Instant::now();
        for &key in keys {
            let none = || {
                Arc::new(Mutex::new(FailureCount {
                    count: 0,
                    last: now,
                    until: now,
                }))
            };
            let failures = self.failures.get_with(key, none);
            failures.lock().unwrap_or_else(PoisonError::into_inner).record(key, now);
        }
    }

    /// Forgives all failures, after a sign-in.
    pub fn reset(&self, key: &ThrottleKey) {
        self.failures.invalidate(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_15_minutes_and_failures_are_forgiven() {
        let who = ThrottleKey::login("H1", "ada");
        let start = Instant::now();
        let mut failures = FailureCount {
            count: 0,
            last: start,
            until: start,
        };
        let mut now = start;
        let mut waits = Vec::new();
        for _ in 0..18 {
            failures.record(who, now);
            waits.push(failures.until.saturating_duration_since(now).as_secs());
            now = failures.until.max(now);
        }
        assert_eq!(
            waits,
            [0, 0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900, 900]
        );
        // Four hours later all failures are forgiven.
        now += Duration::from_secs(16 * 15 * 60);
        failures.record(who, now);
        assert!(failures.until <= now);
    }

    #[tokio::test]
    async fn only_keys_that_failed_are_delayed() {
        let throttle = LoginThrottle::new(&Limits::default());
        let address = ThrottleKey::Address(IpAddr::from([10, 0, 0, 1]));
        let (ada, bob) = (ThrottleKey::login("H1", "ada"), ThrottleKey::login("H1", "bob"));
        for _ in 0..6 {
            throttle
                .acquire(&[ada, address])
                .await
                .unwrap_or_else(|_| panic!("refused too early"));
            throttle.record_failure(&[ada, address]);
        }
        assert!(matches!(
            throttle.acquire(&[ada, address]).await,
            Err(Error::RateLimited(_))
        ));
        assert!(throttle.acquire(&[bob, address]).await.is_ok());
        throttle.reset(&ada);
        assert!(throttle.acquire(&[ada, address]).await.is_ok());
        // Failures of the address count for all logins.
        for other in 0..15 {
            throttle.record_failure(&[ThrottleKey::login("H1", &other.to_string()), address]);
        }
        assert!(matches!(throttle.check(&[bob, address]), Err(Error::RateLimited(_))));
        assert!(
            throttle
                .check(&[bob, ThrottleKey::Address(IpAddr::from([10, 0, 0, 2]))])
                .is_ok()
        );
    }

    #[test]
    fn hospital_codes_and_logins_are_separated() {
        assert_ne!(ThrottleKey::login("H1", "1ada"), ThrottleKey::login("H11", "ada"));
    }
}
