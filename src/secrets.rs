//! The keys, and what is derived from them: encryption of phone numbers, memos, notes and uploaded files, keyed hashes, the signing of
//! access tokens, the successors of refresh tokens.
//!
//! A key file has one key per line. The first is the current one; old keys below it still decrypt what was encrypted with them.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::SystemTime;

use aes_gcm_siv::aead::{Aead, KeyInit, Payload};
use aes_gcm_siv::{Aes256GcmSiv, Nonce};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::error::{Error, Result};
use crate::private_files::create_folder;

/// Bytes of a nonce.
const NONCE: usize = 12;

/// The fewest digits that are the end of a phone number.
pub const SHORTEST_PHONE_ENDING: usize = 4;

/// Bytes of the hash of the end of a phone number.
pub const PHONE_ENDING_HASH: usize = 8;

const PHONE_ENDING: &str = "phone ending";

/// The keys of one installation. All servers of one database share them.
#[derive(Clone)]
pub struct Secrets(Arc<Shared>);

struct Shared {
    /// The current one first.
    keys: RwLock<Arc<[Key]>>,
    /// None if the keys do not come from a file.
    file: Option<PathBuf>,
    /// The stamp of the file when it was read.
    stamp: Mutex<Option<FileStamp>>,
}

/// What is derived from one key.
struct Key {
    cipher: Aes256GcmSiv,
    /// Derives the nonces of [`Secrets::seal_same`].
    nonces: [u8; 32],
    index: [u8; 32],
    signing: [u8; 32],
    refresh: [u8; 32],
    fingerprint: String,
}

impl Key {
    /// Derives everything from 32 bytes in Base64.
    fn derive_from(text: &str) -> Result<Self> {
        let key = STANDARD
            .decode(text)
            .ok()
            .filter(|key| key.len() == 32)
            .ok_or_else(|| {
                Error::Internal(
                    "a key must be 32 bytes in Base64, for example from `openssl rand -base64 32`".to_owned(),
                )
            })?;
        let master = Hkdf::<Sha256>::new(None, &key);
        let derive = |purpose: &str| {
            let mut bytes = [0; 32];
            master
                .expand(purpose.as_bytes(), &mut bytes)
                .map_err(|error| Error::Internal(format!("cannot derive a key: {error}")))?;
            Ok::<_, Error>(bytes)
        };
        Ok(Self {
            cipher: Aes256GcmSiv::new(&derive("rollcall encryption")?.into()),
            nonces: derive("rollcall nonce")?,
            index: derive("rollcall phone index")?,
            signing: derive("rollcall access token")?,
            refresh: derive("rollcall refresh token")?,
            fingerprint: hex::encode(&derive("rollcall fingerprint")?[..8]),
        })
    }

    fn open(&self, bytes: &[u8], context: &[u8]) -> Option<Vec<u8>> {
        let (nonce, msg) = bytes.split_first_chunk::<NONCE>()?;
        let payload = Payload { msg, aad: context };
        self.cipher.decrypt(&Nonce::from(*nonce), payload).ok()
    }

    fn seal(&self, nonce: [u8; NONCE], context: &[u8], msg: &[u8]) -> Result<Vec<u8>> {
        let payload = Payload { msg, aad: context };
        let sealed = self
            .cipher
            .encrypt(&Nonce::from(nonce), payload)
            .map_err(|_| Error::Internal("cannot encrypt a value".to_owned()))?;
        Ok([&nonce[..], &sealed].concat())
    }

    /// A nonce derived from the context and the text: different for each pair.
    fn nonce(&self, context: &[u8], text: &str) -> Result<[u8; NONCE]> {
        // The length separates the context from the text.
        let length = (context.len() as u64).to_be_bytes();
        let hash = mac(&self.nonces, &[&length, context, text.as_bytes()])?;
        let mut nonce = [0; NONCE];
        nonce.copy_from_slice(&hash[..NONCE]);
        Ok(nonce)
    }

    fn phone_ending(&self, context: &[u8], digits: &str) -> Result<[u8; PHONE_ENDING_HASH]> {
        let hash = mac(&self.index, &[context, digits.as_bytes()])?;
        let mut short = [0; PHONE_ENDING_HASH];
        short.copy_from_slice(&hash[..PHONE_ENDING_HASH]);
        Ok(short)
    }

    fn digest(&self, context: &[u8], text: &str) -> Result<Vec<u8>> {
        Ok(mac(&self.index, &[context, text.as_bytes()])?[..16].to_vec())
    }
}

fn mac(key: &[u8; 32], parts: &[&[u8]]) -> Result<[u8; 32]> {
    let mut mac =
        <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(key).map_err(|error| Error::Internal(error.to_string()))?;
    for part in parts {
        mac.update(part);
    }
    Ok(mac.finalize().into_bytes().into())
}

fn keys(text: &str) -> Result<Arc<[Key]>> {
    let keys = text
        .split_whitespace()
        .map(Key::derive_from)
        .collect::<Result<Vec<_>>>()?;
    if keys.is_empty() {
        return Err(Error::Internal("it contains no key".to_owned()));
    }
    Ok(keys.into())
}

fn failed(path: &Path, what: &str, error: &dyn std::fmt::Display) -> Error {
    Error::Internal(format!("the key file {}: {what}: {error}", path.display()))
}

/// When a file was modified, and its length: timestamps of file systems are coarse, and adding or removing a key changes the length.
pub(crate) type FileStamp = (SystemTime, u64);

pub(crate) fn file_stamp(path: &Path) -> Option<FileStamp> {
    let file = fs::metadata(path).ok()?;
    Some((file.modified().ok()?, file.len()))
}

fn new_key() -> String {
    STANDARD.encode(rand::random::<[u8; 32]>())
}

/// Writes a file that only its owner can read, atomically.
fn write_key_file(path: &Path, text: &str) -> std::io::Result<()> {
    let temporary = path.with_extension("new");
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(temporary, path)
}

impl Secrets {
    /// Reads the key file: one key per line, 32 random bytes in Base64. If it does not exist and `create` is set, creates it with one
    /// key, readable only by its owner.
    ///
    /// # Errors
    /// If the file can be neither read nor created, or contains no valid keys.
    pub fn open(path: &Path, create: bool) -> Result<Self> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if create && error.kind() == std::io::ErrorKind::NotFound => {
                if let Some(folder) = path.parent() {
                    create_folder(folder).map_err(|error| failed(path, "cannot create its directory", &error))?;
                }
                let text = new_key() + "\n";
                write_key_file(path, &text).map_err(|error| failed(path, "cannot be created", &error))?;
                text
            }
            Err(error) => return Err(failed(path, "cannot be read; `rollcall migrate` creates one", &error)),
        };
        let keys = keys(&text).map_err(|error| failed(path, "is invalid", &error.for_operator()))?;
        Ok(Self::new(keys, Some(path.to_owned())))
    }

    /// Reads keys, the current one first: each 32 random bytes in Base64, separated by white space.
    ///
    /// # Errors
    /// If one is invalid, or there is none.
    pub fn from_base64(text: &str) -> Result<Self> {
        Ok(Self::new(keys(text)?, None))
    }

    fn new(keys: Arc<[Key]>, file: Option<PathBuf>) -> Self {
        Self(Arc::new(Shared {
            keys: RwLock::new(keys),
            stamp: Mutex::new(file.as_deref().and_then(file_stamp)),
            file,
        }))
    }

    fn keys(&self) -> Arc<[Key]> {
        Arc::clone(&self.0.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the key file again if it was modified: another process may have rotated the keys. Returns whether the keys are different
    /// now.
    pub fn reload(&self) -> bool {
        let Some(file) = &self.0.file else { return false };
        let now = file_stamp(file);
        {
            let mut before = self.0.stamp.lock().unwrap_or_else(PoisonError::into_inner);
            if *before == now {
                return false;
            }
            *before = now;
        }
        let Some(new) = fs::read_to_string(file).ok().and_then(|text| keys(&text).ok()) else {
            tracing::warn!("cannot reload the key file; the keys in memory stay in use");
            return false;
        };
        let mut keys = self.0.keys.write().unwrap_or_else(PoisonError::into_inner);
        let changed = !new
            .iter()
            .map(|key| &key.fingerprint)
            .eq(keys.iter().map(|key| &key.fingerprint));
        *keys = new;
        changed
    }

    /// Identify the keys without revealing them; the current one first.
    #[must_use]
    pub fn fingerprints(&self) -> Vec<String> {
        self.keys().iter().map(|key| key.fingerprint.clone()).collect()
    }

    /// The keys that sign access tokens, with the fingerprints of the keys that they are derived from; the current one first.
    #[must_use]
    pub fn signing_keys(&self) -> Vec<(String, [u8; 32])> {
        let keys = self.keys();
        keys.iter().map(|key| (key.fingerprint.clone(), key.signing)).collect()
    }

    /// Encrypts a text; it can be decrypted for the same hospital and purpose only.
    ///
    /// # Errors
    /// If the text is too long for the cipher.
    pub fn seal(&self, hospital: i64, purpose: &str, text: &str) -> Result<Vec<u8>> {
        self.seal_bytes(hospital, purpose, text.as_bytes())
    }

    /// Encrypts bytes like [`Self::seal`].
    ///
    /// # Errors
    /// If they are too many for the cipher.
    pub fn seal_bytes(&self, hospital: i64, purpose: &str, bytes: &[u8]) -> Result<Vec<u8>> {
        self.keys()[0].seal(rand::random(), &context(hospital, purpose), bytes)
    }

    /// Encrypts like [`Self::seal`], but to the same bytes each time: for values that must be equal if their texts are, and may reveal
    /// that.
    ///
    /// # Errors
    /// If the text is too long for the cipher.
    pub fn seal_same(&self, hospital: i64, purpose: &str, text: &str) -> Result<Vec<u8>> {
        let context = context(hospital, purpose);
        let key = &self.keys()[0];
        key.seal(key.nonce(&context, text)?, &context, text.as_bytes())
    }

    /// Decrypts the result of [`Self::seal`] or [`Self::seal_same`].
    ///
    /// # Errors
    /// If the bytes were encrypted with an unknown key, for another hospital or purpose, or were changed.
    pub fn open_sealed(&self, hospital: i64, purpose: &str, bytes: &[u8]) -> Result<String> {
        let bytes = self.open_sealed_bytes(hospital, purpose, bytes)?;
        String::from_utf8(bytes).map_err(|_| Error::Internal(format!("a stored {purpose} is not UTF-8")))
    }

    /// Decrypts the result of [`Self::seal_bytes`].
    ///
    /// # Errors
    /// As [`Self::open_sealed`].
    pub fn open_sealed_bytes(&self, hospital: i64, purpose: &str, bytes: &[u8]) -> Result<Vec<u8>> {
        let context = context(hospital, purpose);
        let open = || self.keys().iter().find_map(|key| key.open(bytes, &context));
        open()
            .or_else(|| self.reload().then(open).flatten())
            .ok_or_else(|| Error::Internal(format!("a stored {purpose} cannot be decrypted with these keys")))
    }

    /// Whether the bytes were encrypted with another key than the current one.
    #[must_use]
    pub fn is_old(&self, hospital: i64, purpose: &str, bytes: &[u8]) -> bool {
        self.keys()[0].open(bytes, &context(hospital, purpose)).is_none()
    }

    /// A keyed hash to look up a whole E.164 phone number by.
    ///
    /// # Errors
    /// Never in practice: the keys have the right length.
    pub fn phone_index(&self, hospital: i64, phone: &str) -> Result<Vec<u8>> {
        self.digest(hospital, "phone", phone)
    }

    /// That hash under each key, since it may have been stored under any of them.
    ///
    /// # Errors
    /// Never in practice: the keys have the right length.
    pub fn phone_indexes(&self, hospital: i64, phone: &str) -> Result<Vec<Vec<u8>>> {
        self.digests(hospital, "phone", phone)
    }

    /// Keyed hashes of the ends of an E.164 phone number: of its last four digits, and of its last five, six, … digits, one after the
    /// other. Of a shorter number all digits count as the last four.
    ///
    /// # Errors
    /// Never in practice: the keys have the right length.
    pub fn phone_endings(&self, hospital: i64, phone: &str) -> Result<(Vec<u8>, Vec<u8>)> {
        let digits = phone.trim_start_matches('+');
        let ending = |length: usize| digits.get(digits.len().saturating_sub(length)..).unwrap_or(digits);
        let (key, context) = (&self.keys()[0], context(hospital, PHONE_ENDING));
        let hash = |length| key.phone_ending(&context, ending(length));
        let longer = (SHORTEST_PHONE_ENDING + 1..=digits.len()).map(hash);
        let longer = longer.collect::<Result<Vec<_>>>()?.concat();
        Ok((hash(SHORTEST_PHONE_ENDING)?.to_vec(), longer))
    }

    /// The hash of these last digits of a phone under each key, since it may have been stored under any of them.
    ///
    /// # Errors
    /// Never in practice: the keys have the right length.
    pub fn phone_ending_hashes(&self, hospital: i64, digits: &str) -> Result<Vec<Vec<u8>>> {
        self.reload();
        let context = context(hospital, PHONE_ENDING);
        let hash = |key: &Key| Ok(key.phone_ending(&context, digits)?.to_vec());
        self.keys().iter().map(hash).collect()
    }

    /// A keyed hash, different for each hospital and purpose: without the key, the text cannot be found by trying.
    ///
    /// # Errors
    /// Never in practice: the keys have the right length.
    pub fn digest(&self, hospital: i64, purpose: &str, text: &str) -> Result<Vec<u8>> {
        self.keys()[0].digest(&context(hospital, purpose), text)
    }

    /// That hash under each key, the current one first.
    ///
    /// # Errors
    /// Never in practice: the keys have the right length.
    pub fn digests(&self, hospital: i64, purpose: &str, text: &str) -> Result<Vec<Vec<u8>>> {
        // A look-up under too few keys finds nothing, but does not fail: nothing else would notice a rotation.
        self.reload();
        let context = context(hospital, purpose);
        self.keys().iter().map(|key| key.digest(&context, text)).collect()
    }

    /// The secret of the refresh token that follows this one, under each key, the current one first.
    ///
    /// # Errors
    /// Never in practice: the keys have the right length.
    pub fn refresh_successors(&self, token: &str) -> Result<Vec<[u8; 32]>> {
        self.reload();
        let keys = self.keys();
        keys.iter().map(|key| mac(&key.refresh, &[token.as_bytes()])).collect()
    }
}

fn context(hospital: i64, purpose: &str) -> Vec<u8> {
    [&hospital.to_be_bytes(), purpose.as_bytes()].concat()
}

/// Adds a new key before the others in the file. Does nothing if there are several already: a rotation is in progress.
///
/// # Errors
/// If the file cannot be read or written.
pub fn add_key(path: &Path) -> Result<()> {
    let text = fs::read_to_string(path).map_err(|error| failed(path, "cannot be read", &error))?;
    if text.split_whitespace().count() > 1 {
        return Ok(());
    }
    let text = format!("{}\n{}\n", new_key(), text.trim());
    write_key_file(path, &text).map_err(|error| failed(path, "cannot be written", &error))
}

/// Removes all keys but the current one from the file.
///
/// # Errors
/// If the file cannot be read or written.
pub fn drop_old_keys(path: &Path) -> Result<()> {
    let text = fs::read_to_string(path).map_err(|error| failed(path, "cannot be read", &error))?;
    let current = text.split_whitespace().next().unwrap_or_default();
    write_key_file(path, &format!("{current}\n")).map_err(|error| failed(path, "cannot be written", &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets(byte: u8) -> Secrets {
        Secrets::from_base64(&STANDARD.encode([byte; 32])).unwrap()
    }

    #[test]
    fn a_sealed_value_can_be_opened_only_with_its_hospital_purpose_and_key() {
        let sealed = secrets(1).seal(7, "phone", "+821012345678").unwrap();
        assert_eq!(secrets(1).open_sealed(7, "phone", &sealed).unwrap(), "+821012345678");
        assert!(secrets(1).open_sealed(8, "phone", &sealed).is_err());
        assert!(secrets(1).open_sealed(7, "memo", &sealed).is_err());
        assert!(secrets(2).open_sealed(7, "phone", &sealed).is_err());
        assert!(secrets(1).open_sealed(7, "phone", &sealed[..9]).is_err());
    }

    #[test]
    fn only_seal_same_is_deterministic() {
        let same = |key, hospital, purpose, text| secrets(key).seal_same(hospital, purpose, text).unwrap();
        let sealed = same(1, 7, "list", "Ann");
        assert_eq!(sealed, same(1, 7, "list", "Ann"));
        assert_eq!(secrets(1).open_sealed(7, "list", &sealed).unwrap(), "Ann");
        // Neither the nonce nor the rest is shared with another text, purpose, hospital or key.
        for other in [
            same(1, 7, "list", "Ann "),
            same(1, 7, "listA", "nn"),
            same(1, 8, "list", "Ann"),
            same(2, 7, "list", "Ann"),
        ] {
            assert_ne!(sealed[..NONCE], other[..NONCE]);
            assert_ne!(sealed[NONCE..], other[NONCE..]);
        }
        assert!(secrets(1).open_sealed(7, "other", &sealed).is_err());
        assert!(secrets(1).open_sealed(8, "list", &sealed).is_err());
        let random = || secrets(1).seal(7, "list", "Ann").unwrap();
        assert_ne!(random(), random());
    }

    #[test]
    fn a_phone_index_depends_on_hospital_and_key() {
        let index = |key, hospital| secrets(key).phone_index(hospital, "+821012345678").unwrap();
        assert_eq!(index(1, 7), index(1, 7));
        assert_ne!(index(1, 7), index(1, 8));
        assert_ne!(index(1, 7), index(2, 7));
    }

    #[test]
    fn the_ends_of_a_phone_are_found_by_their_hashes() {
        let hash = |key, hospital, digits| secrets(key).phone_ending_hashes(hospital, digits).unwrap().remove(0);
        let (last_four, longer) = secrets(1).phone_endings(7, "+821012345678").unwrap();
        assert_eq!(last_four, hash(1, 7, "5678"));
        let longer: Vec<&[u8]> = longer.chunks(PHONE_ENDING_HASH).collect();
        assert_eq!(longer.len(), 8);
        assert_eq!(longer[0], hash(1, 7, "45678"));
        assert_eq!(longer[7], hash(1, 7, "821012345678"));
        assert_ne!(last_four, hash(1, 8, "5678"));
        assert_ne!(last_four, hash(2, 7, "5678"));
        assert_eq!(
            secrets(1).phone_endings(7, "+123").unwrap(),
            (hash(1, 7, "123"), Vec::new())
        );
    }

    #[test]
    fn a_key_file_is_created_once_and_read_afterwards() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep").join("key");
        assert!(Secrets::open(&path, false).is_err());
        let created = Secrets::open(&path, true).unwrap();
        assert_eq!(
            Secrets::open(&path, true).unwrap().fingerprints(),
            created.fingerprints()
        );
        fs::write(&path, "not a key").unwrap();
        assert!(Secrets::open(&path, true).is_err());
    }

    #[test]
    fn an_old_key_still_decrypts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let before = Secrets::open(&path, true).unwrap();
        let sealed = before.seal(7, "phone", "+821012345678").unwrap();
        add_key(&path).unwrap();
        add_key(&path).unwrap();
        let both = Secrets::open(&path, false).unwrap();
        assert_eq!(both.fingerprints().len(), 2);
        assert_eq!(both.fingerprints()[1], before.fingerprints()[0]);
        assert_eq!(both.open_sealed(7, "phone", &sealed).unwrap(), "+821012345678");
        assert!(both.is_old(7, "phone", &sealed));
        assert_eq!(
            both.phone_indexes(7, "1").unwrap()[1],
            before.phone_index(7, "1").unwrap()
        );
        // Secrets that were read before the rotation find the new key in the file.
        let sealed = both.seal(7, "phone", "+821012345678").unwrap();
        assert!(!both.is_old(7, "phone", &sealed));
        assert_eq!(before.open_sealed(7, "phone", &sealed).unwrap(), "+821012345678");
        drop_old_keys(&path).unwrap();
        assert_eq!(
            Secrets::open(&path, false).unwrap().fingerprints(),
            both.fingerprints()[..1]
        );
    }
}
