//! Retention of snapshots: when each was last requested, which are pinned, and which have expired.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{ConnectionTrait, DbBackend};

use crate::dialect::{add_columns, drop_columns, run};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

/// Table, column, type.
const COLUMNS: &[(&str, &str, &str)] = &[
    ("list_part", "kept_at", "{instant} NOT NULL DEFAULT {epoch}"),
    ("snapshot", "kept_at", "{instant} NOT NULL DEFAULT {epoch}"),
    ("snapshot", "expired_at", "{instant}"),
    ("snapshot", "pinned_at", "{instant}"),
    ("snapshot", "pinned_by", "BIGINT"),
    // The highest id of a visit when the snapshot was computed; -1 where that is unknown.
    ("snapshot", "newest_visit_id", "BIGINT NOT NULL DEFAULT -1"),
    // The definition that it was computed with, independent of the row in `definition`. Version 0: a proposed definition.
    ("snapshot", "counted_version", "INTEGER"),
    ("snapshot", "churn_after_days", "INTEGER"),
    ("snapshot", "overdue_after_days", "INTEGER"),
    ("snapshot", "effective_from", "{instant}"),
];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        add_columns(manager, COLUMNS).await?;
        // The retention of existing rows begins now.
        for table in ["list_part", "snapshot"] {
            let statement = format!("UPDATE {table} SET kept_at = {{now}} WHERE kept_at = {{epoch}}");
            run(manager, &[&statement]).await?;
        }
        run(
            manager,
            &[
                "CREATE INDEX IF NOT EXISTS list_part_by_age ON list_part (kept_at)",
                "CREATE INDEX IF NOT EXISTS snapshot_by_age ON snapshot (kept_at)",
            ],
        )
        .await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let on = match manager.get_connection().get_database_backend() {
            DbBackend::MySql => |table: &str| format!(" ON {table}"),
            _ => |_: &str| String::new(),
        };
        for table in ["list_part", "snapshot"] {
            run(manager, &[&format!("DROP INDEX IF EXISTS {table}_by_age{}", on(table))]).await?;
        }
        drop_columns(manager, COLUMNS).await
    }
}
