//! A visit that a merge moved.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "merged_visit")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub hospital_id: i64,
    #[sea_orm(primary_key, auto_increment = false)]
    pub merge_id: i64,
    #[sea_orm(primary_key, auto_increment = false)]
    pub visit_id: i64,
}

impl ActiveModelBehavior for ActiveModel {}
