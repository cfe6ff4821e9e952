//! Lists that are derived from others, which keep the snapshots that they were made of.

use sea_orm_migration::prelude::*;

use crate::dialect::{add_columns, drop_columns, drop_tables, run};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

const COLUMNS: &[(&str, &str, &str)] = &[("snapshot", "recipe", "{blob}")];

const TABLES: &[&str] = &[
    "CREATE TABLE IF NOT EXISTS derived_source (
        hospital_id BIGINT NOT NULL,
        source_id {text} NOT NULL,
        derived_id {text} NOT NULL,
        PRIMARY KEY (hospital_id, source_id, derived_id),
        FOREIGN KEY (hospital_id, source_id) REFERENCES snapshot (hospital_id, id)
            ON DELETE RESTRICT ON UPDATE RESTRICT,
        FOREIGN KEY (hospital_id, derived_id) REFERENCES snapshot (hospital_id, id)
            ON DELETE RESTRICT ON UPDATE RESTRICT
    ){table}",
    "CREATE INDEX IF NOT EXISTS derived_source_by_derived ON derived_source (hospital_id, derived_id)",
];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        add_columns(manager, COLUMNS).await?;
        run(manager, TABLES).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        drop_tables(manager, &["derived_source"]).await?;
        drop_columns(manager, COLUMNS).await
    }
}
