//! What a source last said of a patient or a visit.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "import_base")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub hospital_id: i64,
    #[sea_orm(primary_key, auto_increment = false)]
    pub source_id: i64,
    /// The chart number of a patient, or the visit number of a visit.
    #[sea_orm(primary_key, auto_increment = false)]
    pub number: String,
    /// A keyed hash of each field's value, 8 bytes each; zeros for a field of which the source said nothing.
    pub hashes: Vec<u8>,
    /// It was reported that rows of this number are left out.
    pub left_out_reported: bool,
}

impl ActiveModelBehavior for ActiveModel {}
