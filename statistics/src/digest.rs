//! SHA-256 over lists.

use std::fmt::Write;

use sha2::{Digest, Sha256};

/// The SHA-256 of some bytes.
#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// The digest of a cohort: SHA-256, in lower-case hexadecimal, of the patients' ids joined by line feeds, an empty
/// line, and the visits' ids joined by line feeds.
#[must_use]
pub fn list_digest<P, V>(patients: P, visits: V) -> String
where
    P: IntoIterator<Item = String>,
    V: IntoIterator<Item = String>,
{
    let mut hash = Sha256::new();
    update_with_lines(&mut hash, patients);
    hash.update(b"\n\n");
    update_with_lines(&mut hash, visits);
    let mut text = String::with_capacity(64);
    for byte in hash.finalize() {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn update_with_lines(hash: &mut Sha256, ids: impl IntoIterator<Item = String>) {
    for (i, id) in ids.into_iter().enumerate() {
        if i > 0 {
            hash.update(b"\n");
        }
        hash.update(id);
    }
}
