//! Refresh tokens: stored hashed, for one use each, in families that are revoked together.

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
        run(
            manager,
            &["CREATE TABLE IF NOT EXISTS refresh_token (
                hospital_id BIGINT NOT NULL,
                token_hash {text} NOT NULL,
                staff_id BIGINT NOT NULL,
                family {text} NOT NULL,
                expires_at {instant} NOT NULL,
                used_at {instant},
                PRIMARY KEY (hospital_id, token_hash),
                FOREIGN KEY (hospital_id, staff_id) REFERENCES staff (hospital_id, id)
                    ON DELETE RESTRICT ON UPDATE RESTRICT
            ){table}"],
        )
        .await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        drop_tables(manager, &["refresh_token"]).await
    }
}
