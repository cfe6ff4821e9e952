//! Passwords: kept as Argon2id, in PHC form.

use argon2::Argon2;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _, phc};

use crate::error::{Error, Result};
use crate::login_throttle::VerifyPermit;

/// The shortest password that is taken, in characters.
const SHORTEST_PASSWORD: usize = 8;
/// The longest, likewise.
const LONGEST_PASSWORD: usize = 1_024;

/// What is kept of a password. It never shows.
#[derive(Clone)]
pub struct PasswordHash(String);

impl std::fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PasswordHash")
    }
}

impl PasswordHash {
    /// The hash of a new password. It takes its time.
    ///
    /// # Errors
    /// Where the password is too short or too long; `argument` names it.
    pub fn of(argument: &str, password: &str) -> Result<Self> {
        let length = password.chars().count();
        if !(SHORTEST_PASSWORD..=LONGEST_PASSWORD).contains(&length) {
            let message = format!("{SHORTEST_PASSWORD} characters or more are wanted, and at most {LONGEST_PASSWORD}");
            return Err(Error::input(argument, message));
        }
        let hash = Argon2::default()
            .hash_password(password.as_bytes())
            .map_err(|error| Error::Internal(format!("a password cannot be hashed: {error}")))?;
        Ok(Self(hash.to_string()))
    }

    /// A hash as it was kept.
    #[must_use]
    pub fn from_stored(hash: &str) -> Self {
        Self(hash.to_owned())
    }

    /// Whether it is of this password; found out where it keeps no other request waiting, and the turn with it.
    ///
    /// # Errors
    /// Never in practice: where the thread is lost.
    pub async fn verify(self, password: String, turn: VerifyPermit) -> Result<bool> {
        verified(move || {
            let _until_done = turn;
            self.is_of(&password)
        })
        .await
    }

    fn is_of(&self, password: &str) -> bool {
        phc::PasswordHash::new(&self.0)
            .is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A password that is to be set, with its hash. It never shows.
#[derive(Clone)]
pub struct NewPassword {
    text: String,
    hash: PasswordHash,
}

impl std::fmt::Debug for NewPassword {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NewPassword")
    }
}

impl NewPassword {
    /// It takes its time to hash.
    ///
    /// # Errors
    /// Where the password is too short or too long; `argument` names it.
    pub fn of(argument: &str, text: String) -> Result<Self> {
        let hash = PasswordHash::of(argument, &text)?;
        Ok(Self { text, hash })
    }

    /// Hashed on a thread of its own, so that no other request waits.
    ///
    /// # Errors
    /// As [`Self::of`].
    pub async fn made(argument: &'static str, text: String) -> Result<Self> {
        let made = tokio::task::spawn_blocking(move || Self::of(argument, text)).await;
        made.map_err(|error| Error::Internal(format!("a password could not be hashed: {error}")))?
    }

    #[must_use]
    pub const fn hash(&self) -> &PasswordHash {
        &self.hash
    }

    /// Whether a stored hash is of this password.
    ///
    /// # Errors
    /// Never in practice: where the thread is lost.
    pub async fn has_hash(&self, stored: PasswordHash) -> Result<bool> {
        let text = self.text.clone();
        verified(move || stored.is_of(&text)).await
    }
}

async fn verified(verify: impl FnOnce() -> bool + Send + 'static) -> Result<bool> {
    let verified = tokio::task::spawn_blocking(verify).await;
    verified.map_err(|error| Error::Internal(format!("a password could not be verified: {error}")))
}

/// The refusal of whoever says another password than the current one.
pub fn incorrect() -> Error {
    Error::input("input.currentPassword", "the current password is incorrect")
}
