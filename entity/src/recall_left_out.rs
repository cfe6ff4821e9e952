//! A patient of a cohort who is not on the recall list made of it.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "recall_left_out")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub hospital_id: i64,
    #[sea_orm(primary_key, auto_increment = false)]
    pub list_id: i64,
    /// NOT_ACTIVE, DUPLICATE, CAME_SINCE, HAS_NEXT_VISIT, DO_NOT_CONTACT or NO_PHONE.
    #[sea_orm(primary_key, auto_increment = false)]
    pub reason: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub patient_id: i64,
}

impl ActiveModelBehavior for ActiveModel {}
