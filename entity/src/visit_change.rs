//! A visit as it was before it was changed or deleted; written by triggers.

use sea_orm::entity::prelude::*;

use crate::scheduled_at::ScheduledAt;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "visit_change")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub hospital_id: i64,
    /// The number of the revision that the change created.
    #[sea_orm(primary_key, auto_increment = false)]
    pub number: i64,
    #[sea_orm(primary_key, auto_increment = false)]
    pub visit_id: i64,
    /// CHANGED or DELETED.
    pub kind: String,
    pub changed_at: DateTimeUtc,
    pub patient_id: i64,
    pub date: Date,
    pub scheduled_at: Option<ScheduledAt>,
    pub status: String,
    pub department_id: Option<i64>,
    pub doctor_id: Option<i64>,
    pub channel: String,
    /// Who changed it; none where the change did not come through the API.
    pub staff_id: Option<i64>,
    pub reason: Option<String>,
}

impl ActiveModelBehavior for ActiveModel {}
