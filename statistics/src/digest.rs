//! The digest of a list.

use sha2::{Digest, Sha256};

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
    hex::encode(hash.finalize())
}

fn update_with_lines(hash: &mut Sha256, ids: impl IntoIterator<Item = String>) {
    for (i, id) in ids.into_iter().enumerate() {
        if i > 0 {
            hash.update(b"\n");
        }
        hash.update(id);
    }
}
