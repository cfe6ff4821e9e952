//! Passwords, stored as Argon2id hashes in PHC string format.

use argon2::Argon2;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _, phc};

use crate::error::{Error, Result};
use crate::login_throttle::VerifyPermit;

/// The fewest characters of a password.
const MIN_LENGTH: usize = 8;
/// The most characters of a password.
const MAX_LENGTH: usize = 1_024;

/// The hash of a password; `Debug` does not show it.
#[derive(Clone)]
pub struct PasswordHash(String);

impl std::fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PasswordHash")
    }
}

impl PasswordHash {
    /// Hashes a new password, which is slow by design.
    ///
    /// # Errors
    /// If the password is too short or too long; `argument` is the path of the argument.
    pub fn of(argument: &str, password: &str) -> Result<Self> {
        let length = password.chars().count();
        if !(MIN_LENGTH..=MAX_LENGTH).contains(&length) {
            let message = format!("must be {MIN_LENGTH}–{MAX_LENGTH} characters");
            return Err(Error::input(argument, message));
        }
        let hash = Argon2::default()
            .hash_password(password.as_bytes())
            .map_err(|error| Error::Internal(format!("cannot hash a password: {error}")))?;
        Ok(Self(hash.to_string()))
    }

    /// A hash from the database.
    #[must_use]
    pub fn from_stored(hash: &str) -> Self {
        Self(hash.to_owned())
    }

    /// Whether it is the hash of this password. Runs on a thread for blocking work, which holds the permit until it is done, even if
    /// the request is abandoned.
    ///
    /// # Errors
    /// Never in practice: if the thread panics.
    pub async fn verify(self, password: String, permit: VerifyPermit) -> Result<bool> {
        spawn_verify(move || {
            let _held = permit;
            self.matches(&password)
        })
        .await
    }

    fn matches(&self, password: &str) -> bool {
        phc::PasswordHash::new(&self.0)
            .is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A password to be set, with its hash; `Debug` shows neither.
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
    /// Checks and hashes a password, which is slow by design.
    ///
    /// # Errors
    /// If the password is too short or too long; `argument` is the path of the argument.
    pub fn of(argument: &str, text: String) -> Result<Self> {
        let hash = PasswordHash::of(argument, &text)?;
        Ok(Self { text, hash })
    }

    /// Like [`Self::of`], on a thread for blocking work.
    ///
    /// # Errors
    /// Like [`Self::of`].
    pub async fn hashed(argument: &'static str, text: String) -> Result<Self> {
        let password = tokio::task::spawn_blocking(move || Self::of(argument, text)).await;
        password.map_err(|error| Error::Internal(format!("cannot hash a password: {error}")))?
    }

    #[must_use]
    pub const fn hash(&self) -> &PasswordHash {
        &self.hash
    }

    /// Whether a stored hash is the hash of this password.
    ///
    /// # Errors
    /// Never in practice: if the thread panics.
    pub async fn has_hash(&self, stored: PasswordHash) -> Result<bool> {
        let text = self.text.clone();
        spawn_verify(move || stored.matches(&text)).await
    }
}

async fn spawn_verify(verify: impl FnOnce() -> bool + Send + 'static) -> Result<bool> {
    let result = tokio::task::spawn_blocking(verify).await;
    result.map_err(|error| Error::Internal(format!("cannot verify a password: {error}")))
}

/// The error if the current password of a change is wrong.
pub fn incorrect() -> Error {
    Error::input("input.currentPassword", "the current password is incorrect")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_and_their_hashes_are_not_shown() {
        let password = NewPassword::of("password", "correct horse".to_owned()).unwrap();
        assert!(password.hash().matches("correct horse") && !password.hash().matches("correct house"));
        assert_eq!(
            format!("{password:?} {:?}", password.hash()),
            "NewPassword PasswordHash"
        );
    }

    #[test]
    fn the_length_of_passwords_is_bounded() {
        for (length, is_valid) in [(7, false), (8, true), (1_024, true), (1_025, false)] {
            let result = PasswordHash::of("password", &"ä".repeat(length));
            assert_eq!(result.is_ok(), is_valid, "{length}");
        }
    }
}
