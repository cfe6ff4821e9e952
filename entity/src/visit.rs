//! An appointment or walk-in of a patient.

use sea_orm::entity::prelude::*;

use crate::scheduled_at::ScheduledAt;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "visit")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub hospital_id: i64,
    #[sea_orm(primary_key)]
    pub id: i64,
    pub visit_no: Option<String>,
    pub patient_id: i64,
    /// In the hospital's time zone when it was written.
    pub date: Date,
    pub scheduled_at: Option<ScheduledAt>,
    /// A `VisitStatus`.
    pub status: String,
    pub department_id: Option<i64>,
    pub doctor_id: Option<i64>,
    /// A `VisitChannel`.
    pub channel: String,
    pub version: i32,
}

impl ActiveModelBehavior for ActiveModel {}
