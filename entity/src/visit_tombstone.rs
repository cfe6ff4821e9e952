//! A visit whose row was deleted; written by a trigger.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "visit_tombstone")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub hospital_id: i64,
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: i64,
    pub patient_id: i64,
    pub date: Date,
    pub status: String,
    pub channel: String,
    /// None unless staff deleted it.
    pub visit_no: Option<String>,
    /// The member of staff who deleted it.
    pub deleted_by: Option<i64>,
}

impl ActiveModelBehavior for ActiveModel {}
