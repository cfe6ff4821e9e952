//! The counter of a hospital's chart numbers. A hospital without a row gets one with the first patient registered without a number.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "chart_number_counter")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub hospital_id: i64,
    /// The next chart number, unless a patient has or had it.
    pub next_number: String,
}

impl ActiveModelBehavior for ActiveModel {}
