//! Slows down who guesses: failures make the next attempt wait, for the login and for the address, before any password is
//! looked at. Whether a login exists makes no difference.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use moka::sync::Cache;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::{LIMITS, cores};
use crate::error::{Error, Result};
use crate::permissions::Viewer;
use crate::statistics::sha256;

/// Whose failures are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ThrottleKey {
    /// Who tries to be this one: a digest, so that it takes the same memory whatever was sent.
    Login([u8; 32]),
    /// Who tries from there.
    Address(IpAddr),
}

/// A turn to have a password verified. Whoever verifies holds it until that is done, also where nobody waits for it any more.
pub struct VerifyPermit(#[allow(dead_code)] OwnedSemaphorePermit);

/// The failed attempts of late, and how many passwords are verified at a time.
pub struct LoginThrottle {
    failures: Cache<ThrottleKey, Arc<Mutex<Failures>>>,
    permits: Arc<Semaphore>,
    waiting: Semaphore,
}

struct Failures {
    count: u32,
    last: Instant,
    until: Instant,
}

/// How long an attempt waits at most, in seconds, and how often it was doubled from one second until then.
const MAX_WAIT_SECONDS: u64 = 15 * 60;
const MAX_DOUBLINGS: u32 = 10;

impl ThrottleKey {
    /// Who signs in with this code and login.
    #[must_use]
    pub fn login(hospital: &str, login: &str) -> Self {
        // The length tells where one ends and the other begins.
        Self::Login(sha256(format!("{}:{hospital}{login}", hospital.len()).as_bytes()))
    }

    /// Who, signed in as this member of staff, says the password again.
    #[must_use]
    pub fn member(viewer: &Viewer) -> Self {
        Self::Login(sha256(format!("{}/{}", viewer.hospital, viewer.staff).as_bytes()))
    }

    /// Failures without a wait.
    const fn free_failures(self) -> u32 {
        match self {
            Self::Login(_) => 5,
            // A whole hospital may come from one address.
            Self::Address(_) => 20,
        }
    }

    /// One failure is forgiven in so long.
    const fn decay(self) -> Duration {
        match self {
            Self::Login(_) => Duration::from_secs(15 * 60),
            Self::Address(_) => Duration::from_secs(60),
        }
    }
}

impl Failures {
    fn record(&mut self, who: ThrottleKey, now: Instant) {
        let forgiven = now.duration_since(self.last).as_secs() / who.decay().as_secs();
        let left = self.count.saturating_sub(u32::try_from(forgiven).unwrap_or(u32::MAX));
        self.count = (left + 1).min(who.free_failures() + MAX_DOUBLINGS + 1);
        self.last = now;
        if let Some(doubled) = self.count.checked_sub(who.free_failures() + 1) {
            self.until = now + Duration::from_secs((1 << doubled.min(MAX_DOUBLINGS)).min(MAX_WAIT_SECONDS));
        }
    }
}

impl Default for LoginThrottle {
    fn default() -> Self {
        Self {
            failures: Cache::builder()
                .max_capacity(LIMITS.rate_entries)
                .time_to_idle(Duration::from_secs(6 * 60 * 60))
                .build(),
            permits: Arc::new(Semaphore::new(cores())),
            waiting: Semaphore::new(LIMITS.sign_ins),
        }
    }
}

impl LoginThrottle {
    /// Waits for a turn to have a password verified.
    ///
    /// # Errors
    /// RATE_LIMITED where one of them has to wait, or too many others do.
    pub async fn acquire(&self, of: &[ThrottleKey]) -> Result<VerifyPermit> {
        self.check(of)?;
        let _place = self
            .waiting
            .try_acquire()
            .map_err(|_| Error::RateLimited(Duration::from_secs(1)))?;
        let turn = Arc::clone(&self.permits).acquire_owned().await;
        let turn = turn.map_err(|error| Error::Internal(format!("there is no turn to sign in: {error}")))?;
        // Many at once find out here what became of the others.
        self.check(of)?;
        Ok(VerifyPermit(turn))
    }

    /// # Errors
    /// RATE_LIMITED where one of them has to wait.
    pub fn check(&self, of: &[ThrottleKey]) -> Result<()> {
        let now = Instant::now();
        let wait = of.iter().filter_map(|who| {
            let failures = self.failures.get(who)?;
            let until = failures.lock().unwrap_or_else(PoisonError::into_inner).until;
            Some(until.saturating_duration_since(now))
        });
        match wait.max() {
            Some(wait) if !wait.is_zero() => Err(Error::RateLimited(wait)),
            _ => Ok(()),
        }
    }

    /// An attempt of theirs has failed.
    pub fn record_failure(&self, of: &[ThrottleKey]) {
        let now = Instant::now();
        for &who in of {
            let none = || {
                Arc::new(Mutex::new(Failures {
                    count: 0,
                    last: now,
                    until: now,
                }))
            };
            let failures = self.failures.get_with(who, none);
            failures.lock().unwrap_or_else(PoisonError::into_inner).record(who, now);
        }
    }

    /// They have signed in: earlier failures were theirs.
    pub fn reset(&self, who: &ThrottleKey) {
        self.failures.invalidate(who);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_to_a_quarter_of_an_hour_and_are_forgiven() {
        let who = ThrottleKey::login("H1", "ada");
        let start = Instant::now();
        let mut failures = Failures {
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
        // Four hours later it begins anew.
        now += Duration::from_secs(16 * 15 * 60);
        failures.record(who, now);
        assert!(failures.until <= now);
    }

    #[tokio::test]
    async fn who_fails_waits_and_nobody_else() {
        let attempts = LoginThrottle::default();
        let address = ThrottleKey::Address(IpAddr::from([10, 0, 0, 1]));
        let (ada, bob) = (ThrottleKey::login("H1", "ada"), ThrottleKey::login("H1", "bob"));
        for _ in 0..6 {
            attempts
                .acquire(&[ada, address])
                .await
                .unwrap_or_else(|_| panic!("refused too early"));
            attempts.record_failure(&[ada, address]);
        }
        assert!(matches!(
            attempts.acquire(&[ada, address]).await,
            Err(Error::RateLimited(_))
        ));
        assert!(attempts.acquire(&[bob, address]).await.is_ok());
        attempts.reset(&ada);
        assert!(attempts.acquire(&[ada, address]).await.is_ok());
        // The address goes on counting, whoever it tries to be.
        for other in 0..15 {
            attempts.record_failure(&[ThrottleKey::login("H1", &other.to_string()), address]);
        }
        assert!(matches!(attempts.check(&[bob, address]), Err(Error::RateLimited(_))));
        assert!(
            attempts
                .check(&[bob, ThrottleKey::Address(IpAddr::from([10, 0, 0, 2]))])
                .is_ok()
        );
    }

    #[test]
    fn codes_and_logins_do_not_run_into_one_another() {
        assert_ne!(ThrottleKey::login("H1", "1ada"), ThrottleKey::login("H11", "ada"));
    }
}
