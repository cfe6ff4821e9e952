//! The revision of a hospital's data, and counts that go with it; kept by triggers.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "revision")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub hospital_id: i64,
    pub number: i64,
    /// The number of visits.
    pub visit_count: i64,
    /// The number of ACTIVE patients.
    pub patient_count: i64,
}

impl ActiveModelBehavior for ActiveModel {}
