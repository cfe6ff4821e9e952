//! A closed month: what was told of it, for good.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "statement")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub hospital_id: i64,
    /// Ascending with the months.
    #[sea_orm(primary_key)]
    pub id: i64,
    /// Its first day.
    pub month: Date,
    pub snapshot_id: String,
    /// SHA-256 in hexadecimal.
    pub digest: String,
    pub sealed_at: DateTimeUtc,
    pub sealed_by: Option<i64>,
}

impl ActiveModelBehavior for ActiveModel {}
