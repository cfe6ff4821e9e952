//! When a doctor sees patients on a weekday; several rows a weekday leave breaks between them.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "working_hours")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub hospital_id: i64,
    #[sea_orm(primary_key, auto_increment = false)]
    pub doctor_id: i64,
    /// MONDAY to SUNDAY.
    #[sea_orm(primary_key, auto_increment = false)]
    pub weekday: String,
    /// HH:MM in the hospital's time zone.
    #[sea_orm(primary_key, auto_increment = false)]
    pub from_time: String,
    /// HH:MM, up to 24:00.
    pub to_time: String,
}

impl ActiveModelBehavior for ActiveModel {}
