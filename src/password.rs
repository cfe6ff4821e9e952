//! Passwords: kept as Argon2id, in PHC form.

use argon2::Argon2;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _, phc};

use crate::attempts::Turn;
use crate::error::{Error, Result};

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

    /// The hash of a new password, made where it keeps no other request waiting.
    ///
    /// # Errors
    /// As [`Self::of`].
    pub async fn made(argument: &'static str, password: String) -> Result<Self> {
        let made = tokio::task::spawn_blocking(move || Self::of(argument, &password)).await;
        made.map_err(|error| Error::Internal(format!("a password could not be hashed: {error}")))?
    }

    /// A hash as it was kept.
    #[must_use]
    pub fn kept(hash: &str) -> Self {
        Self(hash.to_owned())
    }

    /// Whether it is of this password; found out where it keeps no other request waiting, and the turn with it.
    ///
    /// # Errors
    /// Never in practice: where the thread is lost.
    pub async fn verify(self, password: String, turn: Turn) -> Result<bool> {
        let verified = tokio::task::spawn_blocking(move || {
            let _until_done = turn;
            phc::PasswordHash::new(&self.0)
                .is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
        });
        let verified = verified.await;
        verified.map_err(|error| Error::Internal(format!("a password could not be verified: {error}")))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
