//! The key file, and what is derived from it: encryption of phones, their look-up index, the signing key of tokens.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use aes_gcm_siv::aead::{Aead, KeyInit, Payload};
use aes_gcm_siv::{Aes256GcmSiv, Nonce};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::error::{Error, Result};

const NONCE: usize = 12;

/// The keys of one installation. All servers of one database share them.
#[derive(Clone)]
pub struct Secrets {
    cipher: Aes256GcmSiv,
    index: [u8; 32],
    signing: [u8; 32],
    fingerprint: String,
}

impl Secrets {
    /// Reads the key file: 32 random bytes in Base64. Where it does not exist and may be made, it is, readable by its owner
    /// alone.
    ///
    /// # Errors
    /// Where the file can be neither read nor made, or does not hold a key.
    pub fn open(path: &Path, make: bool) -> Result<Self> {
        let failed = |what: &str, error: &dyn std::fmt::Display| {
            Error::Internal(format!("the key file {}: {what}: {error}", path.display()))
        };
        match fs::read_to_string(path) {
            Ok(text) => Self::from_base64(text.trim()).map_err(|error| failed("cannot be used", &error.for_operator())),
            Err(error) if make && error.kind() == std::io::ErrorKind::NotFound => {
                let key = STANDARD.encode(rand::random::<[u8; 32]>());
                if let Some(folder) = path.parent() {
                    fs::create_dir_all(folder).map_err(|error| failed("its folder cannot be made", &error))?;
                }
                let mut options = fs::OpenOptions::new();
                options.write(true).create_new(true);
                #[cfg(unix)]
                std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
                options
                    .open(path)
                    .and_then(|mut file| writeln!(file, "{key}"))
                    .map_err(|error| failed("cannot be made", &error))?;
                Self::from_base64(&key)
            }
            Err(error) => Err(failed("cannot be read; `rollcall migrate` makes one", &error)),
        }
    }

    /// The secrets that follow from a key: 32 random bytes in Base64.
    ///
    /// # Errors
    /// Where it is not that.
    pub fn from_base64(text: &str) -> Result<Self> {
        let key = STANDARD
            .decode(text)
            .ok()
            .filter(|key| key.len() == 32)
            .ok_or_else(|| {
                Error::Internal("a key is 32 bytes in Base64, such as `openssl rand -base64 32` makes".to_owned())
            })?;
        let master = Hkdf::<Sha256>::new(None, &key);
        let derive = |purpose: &str| {
            let mut bytes = [0; 32];
            master
                .expand(purpose.as_bytes(), &mut bytes)
                .map_err(|error| Error::Internal(format!("a key cannot be derived: {error}")))?;
            Ok::<_, Error>(bytes)
        };
        let cipher = Aes256GcmSiv::new(&derive("rollcall encryption")?.into());
        Ok(Self {
            cipher,
            index: derive("rollcall phone index")?,
            signing: derive("rollcall access token")?,
            fingerprint: derive("rollcall fingerprint")?[..8]
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect(),
        })
    }

    /// Tells one key from another, and nothing of the key.
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// The key that access tokens are signed with.
    #[must_use]
    pub fn signing_key(&self) -> &[u8] {
        &self.signing
    }

    /// Encrypts; the bytes can be read back for the same hospital and purpose only.
    ///
    /// # Errors
    /// Where the text is too long for the cipher.
    pub fn seal(&self, hospital: i64, purpose: &str, text: &str) -> Result<Vec<u8>> {
        let nonce: [u8; NONCE] = rand::random();
        let payload = Payload {
            msg: text.as_bytes(),
            aad: &context(hospital, purpose),
        };
        let sealed = self
            .cipher
            .encrypt(&Nonce::from(nonce), payload)
            .map_err(|_| Error::Internal("a value cannot be encrypted".to_owned()))?;
        Ok([&nonce[..], &sealed].concat())
    }

    /// Decrypts what [`Self::seal`] made.
    ///
    /// # Errors
    /// Where the bytes were made with another key, for another hospital or purpose, or were changed.
    pub fn open_sealed(&self, hospital: i64, purpose: &str, bytes: &[u8]) -> Result<String> {
        let failed = || Error::Internal(format!("a stored {purpose} cannot be decrypted with this key"));
        let (nonce, sealed) = bytes.split_first_chunk::<NONCE>().ok_or_else(failed)?;
        let payload = Payload {
            msg: sealed,
            aad: &context(hospital, purpose),
        };
        let text = self
            .cipher
            .decrypt(&Nonce::from(*nonce), payload)
            .map_err(|_| failed())?;
        String::from_utf8(text).map_err(|_| failed())
    }

    /// A keyed hash by which an E.164 phone number is found whole.
    ///
    /// # Errors
    /// Never in practice: the key has the right length.
    pub fn phone_index(&self, hospital: i64, phone: &str) -> Result<Vec<u8>> {
        let mut mac = <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(&self.index)
            .map_err(|error| Error::Internal(error.to_string()))?;
        mac.update(&context(hospital, "phone"));
        mac.update(phone.as_bytes());
        Ok(mac.finalize().into_bytes()[..16].to_vec())
    }
}

fn context(hospital: i64, purpose: &str) -> Vec<u8> {
    [&hospital.to_be_bytes(), purpose.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets(byte: u8) -> Secrets {
        Secrets::from_base64(&STANDARD.encode([byte; 32])).unwrap()
    }

    #[test]
    fn a_sealed_value_opens_for_its_hospital_purpose_and_key_alone() {
        let sealed = secrets(1).seal(7, "phone", "+821012345678").unwrap();
        assert_eq!(secrets(1).open_sealed(7, "phone", &sealed).unwrap(), "+821012345678");
        assert!(secrets(1).open_sealed(8, "phone", &sealed).is_err());
        assert!(secrets(1).open_sealed(7, "memo", &sealed).is_err());
        assert!(secrets(2).open_sealed(7, "phone", &sealed).is_err());
        assert!(secrets(1).open_sealed(7, "phone", &sealed[..9]).is_err());
    }

    #[test]
    fn a_phone_index_depends_on_hospital_and_key() {
        let index = |key, hospital| secrets(key).phone_index(hospital, "+821012345678").unwrap();
        assert_eq!(index(1, 7), index(1, 7));
        assert_ne!(index(1, 7), index(1, 8));
        assert_ne!(index(1, 7), index(2, 7));
    }

    #[test]
    fn a_key_file_is_made_once_and_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep").join("key");
        assert!(Secrets::open(&path, false).is_err());
        let made = Secrets::open(&path, true).unwrap();
        assert_eq!(Secrets::open(&path, true).unwrap().fingerprint(), made.fingerprint());
        fs::write(&path, "not a key").unwrap();
        assert!(Secrets::open(&path, true).is_err());
    }
}
