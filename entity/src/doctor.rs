//! A doctor of a hospital.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "doctor")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub hospital_id: i64,
    #[sea_orm(primary_key)]
    pub id: i64,
    pub name: String,
    pub department_id: Option<i64>,
    /// Since when it can no longer be booked.
    pub retired_at: Option<DateTimeUtc>,
    /// None: the hospital's.
    pub slot_minutes: Option<i32>,
}

impl ActiveModelBehavior for ActiveModel {}
