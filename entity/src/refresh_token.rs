//! A refresh token, hashed; for one use.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "refresh_token")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub hospital_id: i64,
    #[sea_orm(primary_key, auto_increment = false)]
    pub token_hash: String,
    pub staff_id: i64,
    /// The tokens of one sign-in, which are revoked together.
    pub family: String,
    pub expires_at: DateTimeUtc,
    pub used_at: Option<DateTimeUtc>,
    /// The `session_epoch` of the member of staff when the token was issued: if theirs differs, the token is invalid.
    pub session_epoch: i64,
}

impl ActiveModelBehavior for ActiveModel {}
