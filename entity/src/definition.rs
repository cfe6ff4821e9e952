//! A version of a hospital's definition of its cohorts.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "definition")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub hospital_id: i64,
    #[sea_orm(primary_key, auto_increment = false)]
    pub version: i32,
    pub churn_after_days: i32,
    pub overdue_after_days: Option<i32>,
    pub effective_from: DateTimeUtc,
}

impl ActiveModelBehavior for ActiveModel {}
