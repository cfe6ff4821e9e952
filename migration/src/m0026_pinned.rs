//! Labels of pinned snapshots, and numbers in the order in which they were pinned.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{ConnectionTrait, DbBackend};

use crate::dialect::{add_columns, drop_columns, run};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

const COLUMNS: &[(&str, &str, &str)] = &[("snapshot", "label", "{text}"), ("snapshot", "pin_number", "BIGINT")];

/// Those that are pinned already, in their order.
const FILL: &str = "UPDATE snapshot SET pin_number = (SELECT COUNT(*) FROM snapshot s
    WHERE s.hospital_id = snapshot.hospital_id AND (s.pinned_at < snapshot.pinned_at
        OR (s.pinned_at = snapshot.pinned_at AND s.id <= snapshot.id)))
    WHERE pinned_at IS NOT NULL AND pin_number IS NULL";

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        add_columns(manager, COLUMNS).await?;
        let index = "CREATE INDEX IF NOT EXISTS snapshot_by_pin ON snapshot (hospital_id, pin_number)";
        run(manager, &[FILL, index]).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let on = match manager.get_connection().get_database_backend() {
            DbBackend::MySql => " ON snapshot",
            _ => "",
        };
        run(manager, &[&format!("DROP INDEX IF EXISTS snapshot_by_pin{on}")]).await?;
        drop_columns(manager, COLUMNS).await
    }
}
