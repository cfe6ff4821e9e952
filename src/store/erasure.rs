//! Keyed hashes of former chart numbers: those of erased patients, so that an import does not insert them again, and those that were
//! replaced, so that the counter does not give them again.

use std::collections::{HashMap, HashSet};

use chrono::{SubsecRound as _, Utc};
use entity::former_chart_number;
use sea_orm::ActiveValue::Set;
use sea_orm::prelude::Expr;
use sea_orm::{ColumnTrait as _, ConnectionTrait as _, DatabaseTransaction, EntityTrait as _, QueryFilter as _};

use super::Store;
use super::hospital_secret::HospitalSecret;
use crate::error::Result;

impl HospitalSecret {
    fn of_chart_no(&self, chart_no: &str) -> Result<String> {
        self.hex_hash("chart number", chart_no)
    }
}

impl Store {
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
                left_out_reported: Set(false),
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

    /// Which of these chart numbers were an erased patient's, and whether it was reported that imports leave them out.
    pub(super) async fn erased_numbers(
        &self,
        transaction: &DatabaseTransaction,
        hospital: i64,
        chart_nos: impl Iterator<Item = &str>,
    ) -> Result<HashMap<String, bool>> {
        self.recorded_numbers(transaction, hospital, chart_nos, " AND erased_at IS NOT NULL")
            .await
    }

    /// Which of these chart numbers were a patient's who was erased or has another one now.
    pub(super) async fn former_numbers(
        &self,
        transaction: &DatabaseTransaction,
        hospital: i64,
        chart_nos: impl Iterator<Item = &str>,
    ) -> Result<HashSet<String>> {
        let recorded = self.recorded_numbers(transaction, hospital, chart_nos, "").await?;
        Ok(recorded.into_keys().collect())
    }

    /// Notes that it was reported that imports leave out rows of these numbers of erased patients.
    pub(super) async fn mark_numbers_reported(
        &self,
        transaction: &DatabaseTransaction,
        hospital: i64,
        chart_nos: &[String],
    ) -> Result<()> {
        let Some(secret) = self
            .hospital_secret(transaction, hospital)
            .await?
            .filter(|_| !chart_nos.is_empty())
        else {
            return Ok(());
        };
        let hashes: Vec<String> = chart_nos
            .iter()
            .map(|chart_no| secret.of_chart_no(chart_no))
            .collect::<Result<_>>()?;
        let hashes: Vec<&str> = hashes.iter().map(String::as_str).collect();
        for hashes in hashes.chunks(500) {
            let mut sql = self.sql("UPDATE former_chart_number SET left_out_reported = TRUE WHERE hospital_id = ");
            sql.bind(hospital).push(" AND number_hash").few(hashes);
            transaction.execute_raw(sql.done()).await?;
        }
        Ok(())
    }

    async fn recorded_numbers(
        &self,
        transaction: &DatabaseTransaction,
        hospital: i64,
        chart_nos: impl Iterator<Item = &str>,
        condition: &str,
    ) -> Result<HashMap<String, bool>> {
        // Without a secret nothing was ever hashed.
        let Some(secret) = self.hospital_secret(transaction, hospital).await? else {
            return Ok(HashMap::new());
        };
        let mut numbers = HashMap::new();
        for chart_no in chart_nos {
            numbers.insert(secret.of_chart_no(chart_no)?, chart_no);
        }
        let mut recorded = HashMap::new();
        if numbers.is_empty() {
            return Ok(recorded);
        }
        let hashes: Vec<&str> = numbers.keys().map(String::as_str).collect();
        let mut sql = self.sql("SELECT number_hash, left_out_reported FROM former_chart_number WHERE hospital_id = ");
        sql.bind(hospital)
            .push(condition)
            .push(" AND number_hash")
            .texts(&hashes);
        for row in transaction.query_all_raw(sql.done()).await? {
            let hash: String = row.try_get_by_index(0)?;
            let reported = row.try_get_by_index(1)?;
            recorded.extend(numbers.get(&hash).map(|&number| (number.to_owned(), reported)));
        }
        Ok(recorded)
    }
}
