//! The name under which a member of staff sent a change, and what came of it.

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
    /// A version byte and a keyed hash: what was sent cannot be guessed from it.
    pub change_digest: Vec<u8>,
    /// The patient, visit or merge.
    pub outcome_id: i64,
    pub created_at: DateTimeUtc,
    /// Argon2id, in PHC form: the password that was sent with the change, which is not part of the digest.
    pub password_hash: Option<String>,
}

impl ActiveModelBehavior for ActiveModel {}
