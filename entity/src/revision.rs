//! How often a hospital's data changed; kept by triggers.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "revision")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub hospital_id: i64,
    pub number: i64,
    /// Visits of the hospital.
    pub visit_count: i64,
    /// Patients whose row is ACTIVE.
    pub patient_count: i64,
}

impl ActiveModelBehavior for ActiveModel {}
