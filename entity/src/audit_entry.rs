//! Who looked at whose data, and who changed what.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "audit_entry")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub hospital_id: i64,
    #[sea_orm(primary_key)]
    pub id: i64,
    pub at: DateTimeUtc,
    /// None where it was the command line, or nobody of the staff.
    pub staff_id: Option<i64>,
    /// A word of `AuditAction`.
    pub action: String,
    /// The mutation, the list, or the fields that were refused.
    pub what: Option<String>,
    /// What was changed: a patient, a visit, a department, a doctor, a member of staff, a version of the definition.
    pub subject_id: Option<i64>,
    pub snapshot_id: Option<String>,
    /// -1 is the total.
    pub bucket: Option<i32>,
    pub cohort: Option<String>,
    /// The same as in the log and in the answer's header.
    pub request_id: Option<String>,
}

impl ActiveModelBehavior for ActiveModel {}
