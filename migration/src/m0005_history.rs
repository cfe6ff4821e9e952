//! The history of visits, what each merge of patients moved, and idempotency keys: see `triggers::v5`.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::ConnectionTrait;

use crate::dialect::{drop_tables, run};
use crate::triggers::v5;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        run(manager, &v5::create(manager.get_connection().get_database_backend())).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        run(manager, &v5::revert(manager.get_connection().get_database_backend())).await?;
        drop_tables(
            manager,
            &["idempotency_key", "merged_visit", "patient_merge", "visit_change"],
        )
        .await
    }
}
