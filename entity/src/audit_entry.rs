//! An entry of the audit: who saw the data of which patients, or changed what.

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
    /// None for the command line, and where nobody was signed in.
    pub staff_id: Option<i64>,
    /// An `AuditAction`.
    pub action: String,
    /// The mutation, the list, or the fields whose access was denied.
    pub what: Option<String>,
    /// What was changed: a patient, a visit, a department, a doctor, a member of staff, a version of the definition.
    pub subject_id: Option<i64>,
    pub snapshot_id: Option<String>,
    /// -1 for the total.
    pub bucket: Option<i32>,
    pub cohort: Option<String>,
    /// As in the log and in the response header.
    pub request_id: Option<String>,
}

impl ActiveModelBehavior for ActiveModel {}
