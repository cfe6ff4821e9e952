//! The counter of each hospital's chart numbers.

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
        drop_tables(manager, &["chart_number_counter"]).await
    }
}

const TABLES: &[&str] = &["CREATE TABLE IF NOT EXISTS chart_number_counter (
        hospital_id BIGINT NOT NULL PRIMARY KEY,
        next_number {text} NOT NULL,
        FOREIGN KEY (hospital_id) REFERENCES hospital (id) ON DELETE RESTRICT ON UPDATE RESTRICT
    ){table}"];
