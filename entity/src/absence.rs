//! When a doctor is away, or the hospital is closed.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "absence")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub hospital_id: i64,
    #[sea_orm(primary_key)]
    pub id: i64,
    /// None: the whole hospital is closed.
    pub doctor_id: Option<i64>,
    pub starts: DateTimeUtc,
    pub ends: DateTimeUtc,
    pub reason: Option<String>,
}

impl ActiveModelBehavior for ActiveModel {}
