//! On SQLite an instant is text: `visit.scheduled_at` now takes only text that Rollcall can read.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::ConnectionTrait;

use crate::dialect::run;
use crate::triggers::scheduled_at;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        self.down(manager).await?;
        run(
            manager,
            &scheduled_at::create_v10(manager.get_connection().get_database_backend()),
        )
        .await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        run(
            manager,
            &scheduled_at::drop_v10(manager.get_connection().get_database_backend()),
        )
        .await
    }
}
