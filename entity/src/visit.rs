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
    pub duration_minutes: Option<i32>,
    /// When it last became CHECKED_IN.
    pub checked_in_at: Option<DateTimeUtc>,
    /// When it last became IN_PROGRESS.
    pub started_at: Option<DateTimeUtc>,
    /// When it last became COMPLETED or ENDED.
    pub completed_at: Option<DateTimeUtc>,
    /// When it lapses while it is TENTATIVE.
    pub expires_at: Option<DateTimeUtc>,
    /// Encrypted.
    pub note: Option<Vec<u8>>,
}

impl ActiveModelBehavior for ActiveModel {}
