//! A patient on a recall list.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "recall_entry")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub hospital_id: i64,
    #[sea_orm(primary_key)]
    pub id: i64,
    pub list_id: i64,
    /// As counted; the row may have been merged or deleted since.
    pub patient_id: i64,
    pub assignee_id: Option<i64>,
    pub claimed_by: Option<i64>,
    pub claimed_until: Option<DateTimeUtc>,
    /// The number of its last claim on the list.
    pub claim_number: Option<i32>,
    /// That of the last contact.
    pub outcome: Option<String>,
    /// When the patient is to be called again.
    pub due_on: Option<Date>,
    /// Of a closed list: whether no older entry was the same person when it was closed.
    pub stands: bool,
    /// Of a closed list: the first visit after the list was made, as it was when the list was closed.
    pub returned_on: Option<Date>,
    pub version: i32,
}

impl ActiveModelBehavior for ActiveModel {}
