//! Exports that staff asked for, each to be downloaded once.

use sea_orm_migration::prelude::*;

use crate::dialect::{drop_tables, run};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

const TABLES: &[&str] = &[
    "CREATE TABLE IF NOT EXISTS export (
        {id},
        hospital_id BIGINT NOT NULL,
        staff_id BIGINT NOT NULL,
        session {text} NOT NULL,
        token_hash {text},
        snapshot_id {text},
        bucket INTEGER,
        cohort {text},
        list_order {text},
        recall_list_id BIGINT,
        entries {blob},
        format {text} NOT NULL,
        row_count BIGINT NOT NULL,
        digest {text} NOT NULL,
        created_at {instant} NOT NULL,
        expires_at {instant} NOT NULL,
        used_at {instant},
        {key},
        FOREIGN KEY (hospital_id, staff_id) REFERENCES staff (hospital_id, id) ON DELETE RESTRICT ON UPDATE RESTRICT
    ){table}",
    "CREATE UNIQUE INDEX IF NOT EXISTS export_by_token ON export (hospital_id, token_hash)",
];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        run(manager, TABLES).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        drop_tables(manager, &["export"]).await
    }
}
