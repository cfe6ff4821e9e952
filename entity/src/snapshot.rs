//! One computation of the statistics: the question, and a manifest of its lists.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "snapshot")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub hospital_id: i64,
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    pub revision: String,
    pub definition_version: i32,
    pub period: String,
    pub range_from: Date,
    pub range_to: Date,
    pub as_of: Date,
    /// JSON.
    pub filter: Vec<u8>,
    pub time_zone: String,
    pub week_start: String,
    pub computed_at: DateTimeUtc,
    /// The digest of the patients' list and of each bucket's, 32 bytes each; zeros where a list is empty.
    pub manifest: Vec<u8>,
}

impl ActiveModelBehavior for ActiveModel {}
