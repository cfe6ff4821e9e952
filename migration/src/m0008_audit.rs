//! The audit: who saw the data of which patients, and who changed what. Its entries are neither changed nor deleted.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{ConnectionTrait, DbBackend};

use crate::dialect::{drop_tables, run};
use crate::triggers::audit;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        run(manager, &[TABLE]).await?;
        run(
            manager,
            &audit::create_v8(manager.get_connection().get_database_backend()),
        )
        .await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        drop_tables(manager, &["audit_entry"]).await?;
        match manager.get_connection().get_database_backend() {
            DbBackend::Postgres => run(manager, &["DROP FUNCTION IF EXISTS audit_stays"]).await,
            _ => Ok(()),
        }
    }
}

const TABLE: &str = "CREATE TABLE IF NOT EXISTS audit_entry (
        {id},
        hospital_id BIGINT NOT NULL,
        at {instant} NOT NULL,
        staff_id BIGINT,
        action {text} NOT NULL,
        what {text},
        subject_id BIGINT,
        snapshot_id {text},
        bucket INTEGER,
        cohort {text},
        patient_ids {long_text},
        request_id {text},
        {key},
        FOREIGN KEY (hospital_id, staff_id) REFERENCES staff (hospital_id, id) ON DELETE RESTRICT ON UPDATE RESTRICT
    ){table}";
