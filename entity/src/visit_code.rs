//! A code by which a patient confirms or checks in: of a visit and purpose, the one with the highest counter is valid.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "visit_code")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub hospital_id: i64,
    #[sea_orm(primary_key, auto_increment = false)]
    pub visit_id: i64,
    /// CONFIRM or CHECK_IN.
    #[sea_orm(primary_key, auto_increment = false)]
    pub purpose: String,
    /// From 1.
    #[sea_orm(primary_key, auto_increment = false)]
    pub counter: i32,
    /// A keyed hash of the code, which is not stored.
    pub code_hash: String,
    pub issued_at: DateTimeUtc,
    pub expires_at: DateTimeUtc,
    pub used_at: Option<DateTimeUtc>,
}

impl ActiveModelBehavior for ActiveModel {}
