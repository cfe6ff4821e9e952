//! Statements, which seal months.

use sea_orm_migration::prelude::*;

use crate::dialect::{drop_tables, run};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

const TABLE: &str = "CREATE TABLE IF NOT EXISTS statement (
        {id},
        hospital_id BIGINT NOT NULL,
        month DATE NOT NULL,
        snapshot_id {text} NOT NULL,
        digest {text} NOT NULL,
        sealed_at {instant} NOT NULL,
        sealed_by BIGINT,
        {key},
        UNIQUE (hospital_id, month),
        FOREIGN KEY (hospital_id, snapshot_id) REFERENCES snapshot (hospital_id, id)
            ON DELETE RESTRICT ON UPDATE RESTRICT,
        FOREIGN KEY (hospital_id, sealed_by) REFERENCES staff (hospital_id, id) ON DELETE RESTRICT ON UPDATE RESTRICT
    ){table}";

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        run(manager, &[TABLE]).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        drop_tables(manager, &["statement"]).await
    }
}
