//! The folded name of an ACTIVE patient from the start of one of its words on, without blanks: what search compares.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "patient_name_suffix")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub hospital_id: i64,
    #[sea_orm(primary_key, auto_increment = false)]
    pub suffix: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub patient_id: i64,
    /// The number of characters with which it begins like the one before it of the same patient, in their order.
    pub shared: i32,
    /// What lists are sorted by, as the patient has it; kept so by a trigger.
    pub name: Option<String>,
    pub chart_no: Option<String>,
    pub registered_on: Option<Date>,
}

impl ActiveModelBehavior for ActiveModel {}
