//! Keeps erased patients erased: a secret of each hospital, and hashes of former chart numbers, keyed with it.

use sea_orm_migration::prelude::*;

use crate::dialect::{drop_tables, run};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        run(manager, TABLES).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        drop_tables(manager, &["former_chart_number", "hospital_secret"]).await
    }
}

const TABLES: &[&str] = &[
    "CREATE TABLE IF NOT EXISTS hospital_secret (
        hospital_id BIGINT NOT NULL PRIMARY KEY,
        sealed {bytes} NOT NULL,
        created_at {instant} NOT NULL,
        FOREIGN KEY (hospital_id) REFERENCES hospital (id) ON DELETE RESTRICT ON UPDATE RESTRICT
    ){table}",
    // No foreign key to the patient: a number stays erased after its row is deleted.
    "CREATE TABLE IF NOT EXISTS former_chart_number (
        hospital_id BIGINT NOT NULL,
        number_hash {text} NOT NULL,
        patient_id BIGINT NOT NULL,
        erased_at {instant},
        PRIMARY KEY (hospital_id, number_hash, patient_id),
        FOREIGN KEY (hospital_id) REFERENCES hospital (id) ON DELETE RESTRICT ON UPDATE RESTRICT
    ){table}",
    "CREATE INDEX IF NOT EXISTS former_chart_number_by_patient ON former_chart_number (hospital_id, patient_id)",
];
