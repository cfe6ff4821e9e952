//! Keyed hashes of the chart numbers of erased patients, so that an import does not insert them again. The key is a secret of
//! the hospital.

use std::collections::{HashMap, HashSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{SubsecRound as _, Utc};
use entity::{former_chart_number, hospital_secret};
use hmac::{Hmac, Mac as _};
use sea_orm::ActiveValue::{Set, Unchanged};
use sea_orm::prelude::Expr;
use sea_orm::{
    ActiveModelTrait as _, ColumnTrait as _, ConnectionTrait, DatabaseTransaction, EntityTrait, QueryFilter as _,
};
use sha2::Sha256;

use super::Store;
use super::history::ChangeContext;
use crate::error::{Error, Result};

/// The purpose under which a hospital's secret is encrypted.
const PURPOSE: &str = "hospital secret";

/// A random secret of one hospital. It keys hashes that must stay the same when the keys of the key file are rotated.
pub(super) struct HospitalSecret([u8; 32]);

impl HospitalSecret {
    /// A keyed hash of the text, different for each purpose: 16 bytes in hexadecimal.
    fn hash(&self, purpose: &str, text: &str) -> Result<String> {
        let mut mac = <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(&self.0)
            .map_err(|error| Error::Internal(error.to_string()))?;
        mac.update(purpose.as_bytes());
        mac.update(&[0]);
        mac.update(text.as_bytes());
        let hash = mac.finalize().into_bytes();
        Ok(hex::encode(&hash[..16]))
    }

    fn of_chart_no(&self, chart_no: &str) -> Result<String> {
        self.hash("chart number", chart_no)
    }
}

impl Store {
    /// The hospital's secret; none where nothing has needed it yet.
    async fn hospital_secret(
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
    async fn hospital_secret_or_new(&self, transaction: &DatabaseTransaction, hospital: i64) -> Result<HospitalSecret> {
        if let Some(secret) = self.hospital_secret(transaction, hospital).await? {
            return Ok(secret);
        }
        let secret: [u8; 32] = rand::random();
        let row = hospital_secret::ActiveModel {
            hospital_id: Set(hospital),
            sealed: Set(self.secrets.seal(hospital, PURPOSE, &STANDARD.encode(secret))?),
            created_at: Set(Utc::now().trunc_subsecs(6)),
        };
        hospital_secret::Entity::insert(row)
            .exec_without_returning(transaction)
            .await?;
        Ok(HospitalSecret(secret))
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

    /// Records that the patient had this chart number, and no longer has it.
    pub(super) async fn record_former_number(
        &self,
        transaction: &DatabaseTransaction,
        hospital: i64,
        patient: i64,
        chart_no: &str,
    ) -> Result<()> {
        let secret = self.hospital_secret_or_new(transaction, hospital).await?;
        let key = (hospital, secret.of_chart_no(chart_no)?, patient);
        let recorded = former_chart_number::Entity::find_by_id(key.clone())
            .one(transaction)
            .await?;
        if recorded.is_none() {
            let row = former_chart_number::ActiveModel {
                hospital_id: Set(hospital),
                number_hash: Set(key.1),
                patient_id: Set(patient),
                erased_at: Set(None),
            };
            former_chart_number::Entity::insert(row)
                .exec_without_returning(transaction)
                .await?;
        }
        Ok(())
    }

    /// Marks the recorded numbers of the patient as those of an erased patient.
    pub(super) async fn mark_numbers_erased(
        &self,
        transaction: &DatabaseTransaction,
        hospital: i64,
        patient: i64,
    ) -> Result<()> {
        former_chart_number::Entity::update_many()
            .col_expr(
                former_chart_number::Column::ErasedAt,
                Expr::value(Utc::now().trunc_subsecs(6)),
            )
            .filter(former_chart_number::Column::HospitalId.eq(hospital))
            .filter(former_chart_number::Column::PatientId.eq(patient))
            .exec(transaction)
            .await?;
        Ok(())
    }

    /// Which of these chart numbers were an erased patient's.
    pub(super) async fn erased_numbers(
        &self,
        transaction: &DatabaseTransaction,
        hospital: i64,
        chart_nos: impl Iterator<Item = &str>,
    ) -> Result<HashSet<String>> {
        // Without a secret nothing was ever hashed.
        let Some(secret) = self.hospital_secret(transaction, hospital).await? else {
            return Ok(HashSet::new());
        };
        let mut numbers = HashMap::new();
        for chart_no in chart_nos {
            numbers.insert(secret.of_chart_no(chart_no)?, chart_no);
        }
        let mut erased = HashSet::new();
        if numbers.is_empty() {
            return Ok(erased);
        }
        let hashes: Vec<&str> = numbers.keys().map(String::as_str).collect();
        let mut sql = self.sql("SELECT number_hash FROM former_chart_number WHERE hospital_id = ");
        sql.bind(hospital)
            .push(" AND erased_at IS NOT NULL AND number_hash")
            .texts(&hashes);
        for row in transaction.query_all_raw(sql.done()).await? {
            let hash: String = row.try_get_by_index(0)?;
            erased.extend(numbers.get(&hash).map(|&number| number.to_owned()));
        }
        Ok(erased)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_depends_on_the_secret_the_purpose_and_the_text() {
        let hash = |secret, purpose, text| HospitalSecret([secret; 32]).hash(purpose, text).unwrap();
        // Golden: hashes that are stored must be found again.
        assert_eq!(hash(1, "chart number", "00017"), "09eda7ecf6a3cecaa1911e122166dd17");
        assert_ne!(hash(1, "chart number", "00017"), hash(2, "chart number", "00017"));
        assert_ne!(hash(1, "chart number", "00017"), hash(1, "chart", "00017"));
        assert_ne!(hash(1, "chart number", "00017"), hash(1, "chart number", "17"));
    }
}
