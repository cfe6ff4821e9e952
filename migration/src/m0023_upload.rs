//! Uploaded files, in encrypted chunks.

use sea_orm_migration::prelude::*;

use crate::dialect::{drop_tables, run};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

const TABLES: &[&str] = &[
    "CREATE TABLE IF NOT EXISTS upload (
        {id},
        hospital_id BIGINT NOT NULL,
        staff_id BIGINT NOT NULL,
        file_name {blob} NOT NULL,
        size BIGINT,
        digest {text},
        expires_at {instant} NOT NULL,
        {key},
        FOREIGN KEY (hospital_id, staff_id) REFERENCES staff (hospital_id, id) ON DELETE RESTRICT ON UPDATE RESTRICT
    ){table}",
    "CREATE TABLE IF NOT EXISTS upload_chunk (
        hospital_id BIGINT NOT NULL,
        upload_id BIGINT NOT NULL,
        number INTEGER NOT NULL,
        sealed {blob} NOT NULL,
        PRIMARY KEY (hospital_id, upload_id, number),
        FOREIGN KEY (hospital_id, upload_id) REFERENCES upload (hospital_id, id)
            ON DELETE RESTRICT ON UPDATE RESTRICT
    ){table}",
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
        drop_tables(manager, &["upload_chunk", "upload"]).await
    }
}
