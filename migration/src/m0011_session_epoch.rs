//! Session epochs, by which a new password or role ends all sessions; password hashes of idempotent requests.

use sea_orm_migration::prelude::*;

use crate::dialect::{add_columns, drop_columns};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

/// Table, column, type.
const COLUMNS: &[(&str, &str, &str)] = &[
    // Incremented whenever all sessions of the member of staff end.
    ("staff", "session_epoch", "BIGINT NOT NULL DEFAULT 0"),
    // The member's epoch when the token was issued.
    ("refresh_token", "session_epoch", "BIGINT NOT NULL DEFAULT 0"),
    // Where the request set a password.
    ("idempotency_key", "password_hash", "{text}"),
];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        add_columns(manager, COLUMNS).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        drop_columns(manager, COLUMNS).await
    }
}
