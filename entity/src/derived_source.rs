//! A snapshot or derived list that a derived list was made of, and which is kept as long as that.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "derived_source")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub hospital_id: i64,
    #[sea_orm(primary_key, auto_increment = false)]
    pub source_id: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub derived_id: String,
}

impl ActiveModelBehavior for ActiveModel {}
