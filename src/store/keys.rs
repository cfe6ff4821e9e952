//! The keys that values in the database are encrypted with, and re-encryption with a new key.

use chrono::Utc;
use entity::{encryption_key, patient, record_change};
use sea_orm::ActiveValue::Set;
use sea_orm::{
    ActiveModelTrait as _, ColumnTrait as _, Condition, ConnectionTrait as _, EntityTrait, IntoActiveModel as _,
    QueryFilter as _, QueryOrder as _, QuerySelect as _,
};

use super::Store;
use super::history::ChangeContext;
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

    /// Encrypts the hospital's secret, phones, memos and notes, also those in histories and of contacts, with the key in use, where they
    /// are encrypted with another. Returns the number of patients and visits that were changed.
    ///
    /// # Errors
    /// Where the database fails, or a value cannot be decrypted; batches before stay re-encrypted.
    pub async fn reencrypt(&self, hospital: i64) -> Result<u64> {
        self.with_retry(|| self.reencrypt_secret(hospital)).await?;
        let sealed = |column| {
            batches(async move |after| self.with_retry(|| self.reencrypt_column(hospital, column, after)).await)
        };
        let patients = batches(async |after| self.with_retry(|| self.reencrypt_patients(hospital, after)).await);
        let patients = patients.await?;
        let visits = sealed(("visit", "note", "note")).await?;
        batches(async |after| self.with_retry(|| self.reencrypt_history(hospital, after)).await).await?;
        sealed(("recall_contact", "note", "note")).await?;
        sealed(("import", "detail", "import")).await?;
        self.clear_all_import_rows(hospital).await?;
        Ok(patients + visits)
    }

    /// Re-encrypts the phones, memos and notes of the next changes in the histories after one. Returns how many were changed, and
    /// the last of the batch; none at the end.
    async fn reencrypt_history(&self, hospital: i64, after: i64) -> Result<(u64, Option<i64>)> {
        let (transaction, _permit) = self.begin_change(hospital, ChangeContext::UNRECORDED).await?;
        let rows = record_change::Entity::find()
            .filter(record_change::Column::HospitalId.eq(hospital))
            .filter(record_change::Column::Id.gt(after))
            .filter(
                Condition::any()
                    .add(record_change::Column::Phone.is_not_null())
                    .add(record_change::Column::Memo.is_not_null())
                    .add(record_change::Column::Note.is_not_null()),
            )
            .order_by_asc(record_change::Column::Id)
            .limit(BATCH)
            .all(&transaction)
            .await?;
        let last = rows.last().map(|row| row.id);
        let mut done = 0;
        for row in rows {
            let phone = self.sealed_anew(hospital, "phone", row.phone.as_ref())?;
            let memo = self.sealed_anew(hospital, "memo", row.memo.as_ref())?;
            let note = self.sealed_anew(hospital, "note", row.note.as_ref())?;
            let mut changed = row.into_active_model();
            for (column, sealed) in [
                (&mut changed.phone, phone),
                (&mut changed.memo, memo),
                (&mut changed.note, note),
            ] {
                if sealed.is_some() {
                    *column = Set(sealed);
                }
            }
            if changed.is_changed() {
                changed.update(&transaction).await?;
                done += 1;
            }
        }
        self.commit_change(transaction, hospital).await?;
        Ok((done, last))
    }

    /// The value encrypted with the key in use, where it was encrypted with another.
    fn sealed_anew(&self, hospital: i64, purpose: &'static str, sealed: Option<&Vec<u8>>) -> Result<Option<Vec<u8>>> {
        let text = self.sealed_with_old_key(hospital, purpose, sealed)?;
        text.map(|text| self.secrets.seal(hospital, purpose, &text)).transpose()
    }

    /// Re-encrypts a column of a table's next rows after one, given as table, column and purpose. Returns how many were changed, and the
    /// last of the batch; none at the end.
    async fn reencrypt_column(
        &self,
        hospital: i64,
        (table, column, purpose): (&str, &str, &'static str),
        after: i64,
    ) -> Result<(u64, Option<i64>)> {
        let (transaction, _permit) = self.begin_change(hospital, ChangeContext::UNRECORDED).await?;
        let mut sql = self.sql(&format!("SELECT id, {column} FROM {table} WHERE hospital_id = "));
        sql.bind(hospital).push(" AND id > ").bind(after);
        sql.push(&format!(" AND {column} IS NOT NULL ORDER BY id LIMIT {BATCH}"));
        let (mut last, mut done) = (None, 0);
        for row in transaction.query_all_raw(sql.done()).await? {
            let (id, sealed): (i64, Vec<u8>) = (row.try_get_by_index(0)?, row.try_get_by_index(1)?);
            last = Some(id);
            if let Some(sealed) = self.sealed_anew(hospital, purpose, Some(&sealed))? {
                let mut sql = self.sql(&format!("UPDATE {table} SET {column} = "));
                sql.bind(sealed).push(" WHERE hospital_id = ").bind(hospital);
                sql.push(" AND id = ").bind(id);
                transaction.execute_raw(sql.done()).await?;
                done += 1;
            }
        }
        self.commit_change(transaction, hospital).await?;
        Ok((done, last))
    }

    /// The text, if it was encrypted with another key than the one in use.
    fn sealed_with_old_key(
        &self,
        hospital: i64,
        purpose: &'static str,
        sealed: Option<&Vec<u8>>,
    ) -> Result<Option<String>> {
        let old = sealed.filter(|sealed| self.secrets.is_old(hospital, purpose, sealed));
        old.map(|sealed| self.secrets.open_sealed(hospital, purpose, sealed))
            .transpose()
    }

    /// Re-encrypts the next patients after one. Returns how many were changed, and the last of the batch; none at the end.
    async fn reencrypt_patients(&self, hospital: i64, after: i64) -> Result<(u64, Option<i64>)> {
        let (transaction, _permit) = self.begin_change(hospital, ChangeContext::UNRECORDED).await?;
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
            let phone = self.sealed_with_old_key(hospital, "phone", row.phone.as_ref())?;
            let memo = self.sealed_anew(hospital, "memo", row.memo.as_ref())?;
            let mut wanted = row.clone();
            if let Some(phone) = &phone {
                self.hash_phone(&mut wanted, phone)?;
            }
            let mut changed = row.into_active_model();
            if let Some(phone) = phone {
                changed.phone = Set(Some(self.secrets.seal(hospital, "phone", &phone)?));
                changed.phone_index = Set(wanted.phone_index);
                changed.phone_last_four = Set(wanted.phone_last_four);
                changed.phone_endings = Set(wanted.phone_endings);
            }
            if memo.is_some() {
                changed.memo = Set(memo);
            }
            if changed.is_changed() {
                changed.update(&transaction).await?;
                done += 1;
            }
        }
        self.commit_change(transaction, hospital).await?;
        Ok((done, last))
    }

    /// Hashes the ends of phones that were written before there were such hashes. Returns the number of patients that were changed.
    ///
    /// # Errors
    /// Where the database fails, or a phone cannot be decrypted; batches before stay done.
    pub async fn hash_phone_endings(&self, hospital: i64) -> Result<u64> {
        batches(async |after| self.with_retry(|| self.hash_phone_batch(hospital, after)).await).await
    }

    async fn hash_phone_batch(&self, hospital: i64, after: i64) -> Result<(u64, Option<i64>)> {
        let (transaction, _permit) = self.begin_change(hospital, ChangeContext::UNRECORDED).await?;
        let rows = patient::Entity::find()
            .filter(patient::Column::HospitalId.eq(hospital))
            .filter(patient::Column::Id.gt(after))
            .filter(patient::Column::Phone.is_not_null())
            .filter(patient::Column::PhoneLastFour.is_null())
            .order_by_asc(patient::Column::Id)
            .limit(BATCH)
            .all(&transaction)
            .await?;
        let (last, done) = (rows.last().map(|row| row.id), rows.len() as u64);
        for row in rows {
            let Some(sealed) = &row.phone else { continue };
            let phone = self.secrets.open_sealed(hospital, "phone", sealed)?;
            let (last_four, endings) = self.secrets.phone_endings(hospital, &phone)?;
            let mut changed = row.into_active_model();
            changed.phone_last_four = Set(Some(last_four));
            changed.phone_endings = Set(Some(endings));
            changed.update(&transaction).await?;
        }
        self.commit_change(transaction, hospital).await?;
        Ok((done, last))
    }

    /// Removes the registered keys but for the one in use: to be called when every value was re-encrypted. Uploaded files that are
    /// encrypted with another key are deleted: they live for a short time only.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn forget_old_keys(&self) -> Result<()> {
        for hospital in self.hospitals().await? {
            self.delete_uploads_with_old_keys(hospital).await?;
        }
        let in_use = self.secrets.fingerprints().into_iter().take(1);
        encryption_key::Entity::delete_many()
            .filter(encryption_key::Column::Fingerprint.is_not_in(in_use))
            .exec(&self.writer)
            .await
            .map_err(|error| self.write_error(error))?;
        Ok(())
    }
}

/// Runs batches, each of which begins after the last row of the one before. Returns the sum of what they return.
async fn batches(batch: impl AsyncFn(i64) -> Result<(u64, Option<i64>)>) -> Result<u64> {
    let (mut done, mut after) = (0, i64::MIN);
    loop {
        let (more, last) = batch(after).await?;
        done += more;
        match last {
            Some(last) => after = last,
            None => return Ok(done),
        }
    }
}
