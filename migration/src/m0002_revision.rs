//! The revision of a hospital's data, and the feed of changes: see `triggers::v2`.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{ConnectionTrait, DbBackend};

use crate::dialect::{drop_tables, run};
use crate::triggers::v2;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        run(manager, &v2::create(manager.get_connection().get_database_backend())).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        match manager.get_connection().get_database_backend() {
            DbBackend::Postgres => run(manager, POSTGRES_DOWN).await?,
            _ => {
                for name in v2::row_trigger_names() {
                    run(manager, &[format!("DROP TRIGGER IF EXISTS {name}")]).await?;
                }
            }
        }
        drop_tables(manager, &["change_feed", "revision"]).await
    }
}

const POSTGRES_DOWN: &[&str] = &[
    "DROP FUNCTION IF EXISTS hospital_begins, hospital_changes, definition_changes, keeps_its_key, patient_changes,
        patient_goes, patients_emptied, visit_comes, visit_changes, visit_goes, visits_emptied CASCADE",
    "DROP FUNCTION IF EXISTS note_rows(change_feed[])",
    "DROP FUNCTION IF EXISTS rollcall_tag",
];
