//! Snapshots: a manifest each, their lists stored once per content, and the orders that were requested.

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
        drop_tables(manager, &["snapshot_order", "snapshot", "list_part"]).await
    }
}

const TABLES: &[&str] = &[
    "CREATE TABLE IF NOT EXISTS snapshot (
        hospital_id BIGINT NOT NULL,
        id {text} NOT NULL,
        revision {text} NOT NULL,
        definition_version INTEGER NOT NULL,
        period {text} NOT NULL,
        range_from DATE NOT NULL,
        range_to DATE NOT NULL,
        as_of DATE NOT NULL,
        filter {blob} NOT NULL,
        time_zone {text} NOT NULL,
        week_start {text} NOT NULL,
        computed_at {instant} NOT NULL,
        manifest {blob} NOT NULL,
        PRIMARY KEY (hospital_id, id),
        FOREIGN KEY (hospital_id, definition_version) REFERENCES definition (hospital_id, version)
            ON DELETE RESTRICT ON UPDATE RESTRICT
    ){table}",
    "CREATE TABLE IF NOT EXISTS list_part (
        hospital_id BIGINT NOT NULL,
        digest {text} NOT NULL,
        part INTEGER NOT NULL,
        bytes {blob} NOT NULL,
        PRIMARY KEY (hospital_id, digest, part)
    ){table}",
    "CREATE TABLE IF NOT EXISTS snapshot_order (
        hospital_id BIGINT NOT NULL,
        snapshot_id {text} NOT NULL,
        bucket INTEGER NOT NULL,
        cohort {text} NOT NULL,
        name {text} NOT NULL,
        places {blob} NOT NULL,
        PRIMARY KEY (hospital_id, snapshot_id, bucket, cohort, name),
        FOREIGN KEY (hospital_id, snapshot_id) REFERENCES snapshot (hospital_id, id)
            ON DELETE RESTRICT ON UPDATE RESTRICT
    ){table}",
];
