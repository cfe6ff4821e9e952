//! Merges in the history of the patient who stays.

use sea_orm_migration::prelude::*;

use crate::dialect::{add_columns, drop_columns, run};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

const COLUMNS: &[(&str, &str, &str)] = &[("record_change", "merged_patient_id", "BIGINT")];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        add_columns(manager, COLUMNS).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // Entries of histories that only say that there was a merge.
        run(
            manager,
            &["DELETE FROM record_change WHERE merged_patient_id IS NOT NULL"],
        )
        .await?;
        drop_columns(manager, COLUMNS).await
    }
}
