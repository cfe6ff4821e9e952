//! A change of a hospital's data, under the number of its revision; written by triggers.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "change_feed")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub hospital_id: i64,
    #[sea_orm(primary_key, auto_increment = false)]
    pub number: i64,
    /// Random: after a backup is restored, the same number has another tag, or none.
    pub tag: i64,
    /// VISIT, PATIENT, RULES or RESET.
    pub kind: String,
    pub visit_id: Option<i64>,
    pub patient_id: Option<i64>,
    pub old_patient_id: Option<i64>,
    pub old_date: Option<Date>,
}

impl ActiveModelBehavior for ActiveModel {}
