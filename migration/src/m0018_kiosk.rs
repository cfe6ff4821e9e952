//! The role KIOSK.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{ConnectionTrait, DbBackend};

use crate::dialect::run;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        allow(manager, "'ADMIN', 'CLINICIAN', 'DESK', 'SUPPORT', 'KIOSK'").await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // Disabled, since no other role may do as little.
        let disable = "UPDATE staff SET disabled_at = COALESCE(disabled_at, {now}), session_epoch = session_epoch + 1, role = 'SUPPORT'
            WHERE role = 'KIOSK'";
        run(manager, &[disable]).await?;
        allow(manager, "'ADMIN', 'CLINICIAN', 'DESK', 'SUPPORT'").await
    }
}

/// Replaces the CHECK of `staff.role`.
async fn allow(manager: &SchemaManager<'_>, roles: &str) -> Result<(), DbErr> {
    let statements = match manager.get_connection().get_database_backend() {
        DbBackend::Postgres => vec![
            "ALTER TABLE staff DROP CONSTRAINT IF EXISTS staff_role_check".to_owned(),
            format!("ALTER TABLE staff ADD CONSTRAINT staff_role_check CHECK (role IN ({roles}))"),
        ],
        DbBackend::MySql => vec![format!(
            "ALTER TABLE staff MODIFY COLUMN role {{text}} NOT NULL CHECK (role IN ({roles}))"
        )],
        // SQLite cannot alter a CHECK, but drops that of a column together with the column. Being NOT NULL, the new column needs a
        // default, which no statement uses: the role that may do the least here.
        _ => vec![
            format!(
                "ALTER TABLE staff ADD COLUMN new_role {{text}} NOT NULL DEFAULT 'SUPPORT' CHECK (new_role IN ({roles}))"
            ),
            "UPDATE staff SET new_role = role".to_owned(),
            "ALTER TABLE staff DROP COLUMN role".to_owned(),
            "ALTER TABLE staff RENAME COLUMN new_role TO role".to_owned(),
        ],
    };
    run(manager, &statements).await
}
