//! An idempotency key of a member of staff, and the result of the change that was sent with it.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "idempotency_key")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub hospital_id: i64,
    #[sea_orm(primary_key, auto_increment = false)]
    pub staff_id: i64,
    #[sea_orm(primary_key, auto_increment = false)]
    pub name: String,
    /// A version byte and a keyed hash of the change, from which the change cannot be guessed.
    pub change_digest: Vec<u8>,
    /// The id of the patient, visit or merge.
    pub outcome_id: i64,
    pub created_at: DateTimeUtc,
    /// The hash (Argon2id, PHC format) of the password that was sent with the change; the digest does not cover it.
    pub password_hash: Option<String>,
}

impl ActiveModelBehavior for ActiveModel {}
