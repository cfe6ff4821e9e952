//! A part of an uploaded file, encrypted.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "upload_chunk")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub hospital_id: i64,
    #[sea_orm(primary_key, auto_increment = false)]
    pub upload_id: i64,
    /// From 0.
    #[sea_orm(primary_key, auto_increment = false)]
    pub number: i32,
    pub sealed: Vec<u8>,
}

impl ActiveModelBehavior for ActiveModel {}
