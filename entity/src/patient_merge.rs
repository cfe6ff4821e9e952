//! A merge of a patient into another who is the same person.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "patient_merge")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub hospital_id: i64,
    #[sea_orm(primary_key)]
    pub id: i64,
    /// The patient who is MERGED.
    pub patient_id: i64,
    /// The patient who remains.
    pub into_id: i64,
    pub merged_at: DateTimeUtc,
    pub undone_at: Option<DateTimeUtc>,
    pub staff_id: i64,
    pub reason: String,
}

impl ActiveModelBehavior for ActiveModel {}
