//! The keyed hash of a former chart number of a patient, who was erased or has another number now.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "former_chart_number")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub hospital_id: i64,
    #[sea_orm(primary_key, auto_increment = false)]
    pub number_hash: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub patient_id: i64,
    /// Null while the patient is not erased.
    pub erased_at: Option<DateTimeUtc>,
    /// It was reported that imports leave out rows of this number.
    pub left_out_reported: bool,
}

impl ActiveModelBehavior for ActiveModel {}
