//! Which keys this database's secrets are encrypted with, and how they come to be encrypted with another.

use chrono::Utc;
use entity::{encryption_key, patient};
use sea_orm::ActiveValue::Set;
use sea_orm::{
    ActiveModelTrait as _, ColumnTrait as _, Condition, EntityTrait, IntoActiveModel as _, QueryFilter as _,
    QueryOrder as _, QuerySelect as _,
};

use super::Store;
use crate::error::{Error, Result};

/// Patients of one transaction.
const BATCH: u64 = 500;

impl Store {
    /// Notes the key in use as one that this database's secrets are encrypted with, or refuses keys that lack one noted.
    pub(super) async fn check_keys(&self) -> Result<()> {
        let own = self.secrets.fingerprints();
        let noted = encryption_key::Entity::find().all(&self.readers).await?;
        if let Some(missing) = noted.iter().find(|noted| !own.contains(&noted.fingerprint)) {
            return Err(Error::Internal(format!(
                "this database is encrypted with the key {}, the key file holds {}: put the right file where --key-file points",
                missing.fingerprint,
                own.join(", ")
            )));
        }
        let Some(in_use) = own.into_iter().next() else {
            return Ok(());
        };
        if noted.iter().all(|noted| noted.fingerprint != in_use) {
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

    /// Encrypts the hospital's secret, phones and memos with the key in use, where they are not. Says of how many patients.
    ///
    /// # Errors
    /// Where the database fails, or a value cannot be decrypted; what was done until then stays.
    pub async fn reencrypt(&self, hospital: i64) -> Result<u64> {
        self.with_retry(|| self.seal_secret_anew(hospital)).await?;
        let (mut done, mut after) = (0, i64::MIN);
        loop {
            let (batch, last) = self.with_retry(|| self.encrypt_batch(hospital, after)).await?;
            done += batch;
            match last {
                Some(last) => after = last,
                None => return Ok(done),
            }
        }
    }

    /// How many of the patients after this one were done, and the last that was looked at.
    async fn encrypt_batch(&self, hospital: i64, after: i64) -> Result<(u64, Option<i64>)> {
        let (transaction, _turn) = self.begin_change(hospital).await?;
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

    /// Notes that nothing is encrypted with other keys than the one in use any more.
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
