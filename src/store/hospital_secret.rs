//! A secret of each hospital. It keys hashes that must stay the same when the keys of the key file are rotated.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{SubsecRound as _, Utc};
use entity::hospital_secret;
use hmac::{Hmac, Mac as _};
use sea_orm::ActiveValue::{Set, Unchanged};
use sea_orm::{ActiveModelTrait as _, ConnectionTrait, DatabaseTransaction, EntityTrait};
use sha2::Sha256;

use super::Store;
use super::history::ChangeContext;
use crate::error::{Error, Result};

/// The purpose under which a hospital's secret is encrypted.
const PURPOSE: &str = "hospital secret";

/// A random secret of one hospital.
pub(super) struct HospitalSecret([u8; 32]);

impl HospitalSecret {
    /// A secret that no hospital has.
    pub(super) fn random() -> Self {
        Self(rand::random())
    }

    /// A keyed hash of the text, different for each purpose.
    pub(super) fn hash(&self, purpose: &str, text: &str) -> Result<[u8; 16]> {
        let mut mac = <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(&self.0)
            .map_err(|error| Error::Internal(error.to_string()))?;
        mac.update(purpose.as_bytes());
        mac.update(&[0]);
        mac.update(text.as_bytes());
        let hash = mac.finalize().into_bytes();
        let mut half = [0; 16];
        half.copy_from_slice(&hash[..16]);
        Ok(half)
    }

    /// The same in hexadecimal.
    pub(super) fn hex_hash(&self, purpose: &str, text: &str) -> Result<String> {
        self.hash(purpose, text).map(hex::encode)
    }
}

impl Store {
    /// The hospital's secret; none where nothing has needed it yet.
    pub(super) async fn hospital_secret(
        &self,
        connection: &impl ConnectionTrait,
        hospital: i64,
    ) -> Result<Option<HospitalSecret>> {
        let Some(row) = hospital_secret::Entity::find_by_id(hospital).one(connection).await? else {
            return Ok(None);
        };
        let text = self.secrets.open_sealed(hospital, PURPOSE, &row.sealed)?;
        let bytes = STANDARD.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
        let bytes = bytes.ok_or_else(|| Error::Internal("a hospital's secret is not 32 bytes".to_owned()))?;
        Ok(Some(HospitalSecret(bytes)))
    }

    /// The hospital's secret, which is created where there is none. The transaction must hold the lock of the hospital's revision.
    pub(super) async fn hospital_secret_or_new(
        &self,
        transaction: &DatabaseTransaction,
        hospital: i64,
    ) -> Result<HospitalSecret> {
        if let Some(secret) = self.hospital_secret(transaction, hospital).await? {
            return Ok(secret);
        }
        let secret = HospitalSecret::random();
        let row = hospital_secret::ActiveModel {
            hospital_id: Set(hospital),
            sealed: Set(self.secrets.seal(hospital, PURPOSE, &STANDARD.encode(secret.0))?),
            created_at: Set(Utc::now().trunc_subsecs(6)),
        };
        hospital_secret::Entity::insert(row)
            .exec_without_returning(transaction)
            .await?;
        Ok(secret)
    }

    /// Encrypts the hospital's secret with the key in use, where it is encrypted with another.
    pub(super) async fn reencrypt_secret(&self, hospital: i64) -> Result<()> {
        let (transaction, _permit) = self.begin_change(hospital, ChangeContext::UNRECORDED).await?;
        let row = hospital_secret::Entity::find_by_id(hospital).one(&transaction).await?;
        if let Some(row) = row.filter(|row| self.secrets.is_old(hospital, PURPOSE, &row.sealed)) {
            let text = self.secrets.open_sealed(hospital, PURPOSE, &row.sealed)?;
            let sealed = hospital_secret::ActiveModel {
                hospital_id: Unchanged(hospital),
                sealed: Set(self.secrets.seal(hospital, PURPOSE, &text)?),
                created_at: Unchanged(row.created_at),
            };
            sealed.update(&transaction).await?;
        }
        self.commit_change(transaction, hospital).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_depends_on_the_secret_the_purpose_and_the_text() {
        let hash = |secret, purpose, text| HospitalSecret([secret; 32]).hex_hash(purpose, text).unwrap();
        // Golden: hashes that are stored must be found again.
        assert_eq!(hash(1, "chart number", "00017"), "09eda7ecf6a3cecaa1911e122166dd17");
        assert_ne!(hash(1, "chart number", "00017"), hash(2, "chart number", "00017"));
        assert_ne!(hash(1, "chart number", "00017"), hash(1, "chart", "00017"));
        assert_ne!(hash(1, "chart number", "00017"), hash(1, "chart number", "17"));
    }
}
