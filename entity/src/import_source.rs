//! A system whose files are imported.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "import_source")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub hospital_id: i64,
    #[sea_orm(primary_key)]
    pub id: i64,
    /// What its files are of: PATIENT or VISIT.
    pub record: String,
    pub name: String,
}

impl ActiveModelBehavior for ActiveModel {}
