//! A row of an imported file.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "import_row")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub hospital_id: i64,
    #[sea_orm(primary_key, auto_increment = false)]
    pub import_id: i64,
    #[sea_orm(primary_key, auto_increment = false)]
    pub line: i64,
    /// An `ImportOutcome`.
    pub outcome: String,
    /// The patient whose data the detail has, if the row is of one who is there already.
    pub patient_id: Option<i64>,
    /// Problems and changed values, as JSON, encrypted; none where there are none, or where the patient was erased.
    pub detail: Option<Vec<u8>>,
}

impl ActiveModelBehavior for ActiveModel {}
