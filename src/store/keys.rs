//! The keys that values in the database are encrypted with, and re-encryption with a new key.

use chrono::Utc;
use entity::{encryption_key, patient};
use sea_orm::ActiveValue::Set;
use sea_orm::{
    ActiveModelTrait as _, ColumnTrait as _, Condition, EntityTrait, IntoActiveModel as _, QueryFilter as _,
    QueryOrder as _, QuerySelect as _,
};

use super::Store;
use crate::error::{Error, Result};

/// Patients that one transaction re-encrypts.
const BATCH: u64 = 500;

impl Store {
    /// Checks that the key file has every key that is registered in the database, and registers the key in use.
    pub(super) async fn check_keys(&self) -> Result<()> {
        let own = self.secrets.fingerprints();
        let registered = encryption_key::Entity::find().all(&self.readers).await?;
        if let Some(missing) = registered
            .iter()
            .find(|registered| !own.contains(&registered.fingerprint))
        {
            return Err(Error::Internal(format!(
                "this database is encrypted with the key {}, but the key file has {}: --key-file must name the right file",
                missing.fingerprint,
                own.join(", ")
            )));
        }
        let Some(in_use) = own.into_iter().next() else {
            return Ok(());
        };
        if registered.iter().all(|registered| registered.fingerprint != in_use) {
            let row = encryption_key::ActiveModel {
                fingerprint: Set(in_use),
                created_at: Set(Utc::now()),
            };
            encryption_key::Entity::insert(row)
                .exec_without_returning(&self.writer)
                .await
                .map_err(|error| self.write_error(error))?;
        }
        Ok(())
    }

    /// Encrypts the hospital's secret, phones and memos with the key in use, where they are encrypted with another. Returns the
    /// number of patients that were changed.
    ///
    /// # Errors
    /// Where the database fails, or a value cannot be decrypted; batches before stay re-encrypted.
    pub async fn reencrypt(&self, hospital: i64) -> Result<u64> {
        self.with_retry(|| self.reencrypt_secret(hospital)).await?;
        let (mut done, mut after) = (0, i64::MIN);
        loop {
            let (batch, last) = self.with_retry(|| self.reencrypt_batch(hospital, after)).await?;
            done += batch;
            match last {
                Some(last) => after = last,
                None => return Ok(done),
            }
        }
    }

    /// Re-encrypts the next patients after one. Returns how many were changed, and the last of the batch; none at the end.
    async fn reencrypt_batch(&self, hospital: i64, after: i64) -> Result<(u64, Option<i64>)> {
        let (transaction, _permit) = self.begin_change(hospital).await?;
        let rows = patient::Entity::find()
            .filter(patient::Column::HospitalId.eq(hospital))
            .filter(patient::Column::Id.gt(after))
            .filter(
                Condition::any()
                    .add(patient::Column::Phone.is_not_null())
                    .add(patient::Column::Memo.is_not_null()),
            )
            .order_by_asc(patient::Column::Id)
            .limit(BATCH)
            .all(&transaction)
            .await?;
        let last = rows.last().map(|row| row.id);
        let mut done = 0;
        for row in rows {
            let old = |purpose: &str, sealed: &Option<Vec<u8>>| {
                let sealed = sealed
                    .as_ref()
                    .filter(|sealed| self.secrets.is_old(hospital, purpose, sealed));
                sealed
                    .map(|sealed| self.secrets.open_sealed(hospital, purpose, sealed))
                    .transpose()
            };
            let (phone, memo) = (old("phone", &row.phone)?, old("memo", &row.memo)?);
            let mut changed = row.into_active_model();
            if let Some(phone) = phone {
                changed.phone = Set(Some(self.secrets.seal(hospital, "phone", &phone)?));
                changed.phone_index = Set(Some(self.secrets.phone_index(hospital, &phone)?));
            }
            if let Some(memo) = memo {
                changed.memo = Set(Some(self.secrets.seal(hospital, "memo", &memo)?));
            }
            if changed.is_changed() {
                changed.update(&transaction).await?;
                done += 1;
            }
        }
        transaction.commit().await?;
        Ok((done, last))
    }

    /// Removes the registered keys but for the one in use: to be called when every value was re-encrypted.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn forget_old_keys(&self) -> Result<()> {
        let in_use = self.secrets.fingerprints().into_iter().take(1);
        encryption_key::Entity::delete_many()
            .filter(encryption_key::Column::Fingerprint.is_not_in(in_use))
            .exec(&self.writer)
            .await
            .map_err(|error| self.write_error(error))?;
        Ok(())
    }
}
