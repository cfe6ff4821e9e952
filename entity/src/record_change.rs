//! A change of a patient's or a visit's row, with the row's values before it; written by triggers, and where a
//! patient was contacted or another one was merged into the patient.

use sea_orm::entity::prelude::*;

use crate::scheduled_at::ScheduledAt;

#[sea_orm::model]
#[derive(Clone, Debug, Default, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "record_change")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub hospital_id: i64,
    /// Ascends with the changes of a row.
    #[sea_orm(primary_key)]
    pub id: i64,
    /// PATIENT or VISIT.
    pub record: String,
    /// The id of the patient or the visit.
    pub record_id: i64,
    /// ADDED, CHANGED or DELETED.
    pub kind: String,
    pub changed_at: DateTimeUtc,
    /// Who changed it; none where the change was not made by a member of staff.
    pub staff_id: Option<i64>,
    /// A command, IMPORT, or UNKNOWN where the change is older than this table; none for SQL.
    pub source: Option<String>,
    pub reason: Option<String>,
    // Of a patient, before the change.
    pub state: Option<String>,
    pub merged_into: Option<i64>,
    pub chart_no: Option<String>,
    pub name: Option<String>,
    /// Encrypted.
    pub phone: Option<Vec<u8>>,
    pub birth_date: Option<Date>,
    pub birth_year: Option<i32>,
    pub sex: Option<String>,
    pub registered_on: Option<Date>,
    /// Encrypted.
    pub memo: Option<Vec<u8>>,
    pub do_not_contact: Option<bool>,
    // Of a visit, before the change.
    pub visit_no: Option<String>,
    pub patient_id: Option<i64>,
    pub date: Option<Date>,
    pub scheduled_at: Option<ScheduledAt>,
    pub status: Option<String>,
    pub department_id: Option<i64>,
    pub doctor_id: Option<i64>,
    pub channel: Option<String>,
    pub duration_minutes: Option<i32>,
    pub checked_in_at: Option<DateTimeUtc>,
    pub started_at: Option<DateTimeUtc>,
    pub completed_at: Option<DateTimeUtc>,
    pub expires_at: Option<DateTimeUtc>,
    /// Encrypted.
    pub note: Option<Vec<u8>>,
    /// The contact of a recall list that this is: it changed nothing of the patient.
    pub contact_id: Option<i64>,
    /// The patient who was merged into this one, or no longer is: it changed nothing of this patient.
    pub merged_patient_id: Option<i64>,
}

impl ActiveModelBehavior for ActiveModel {}
