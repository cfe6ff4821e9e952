//! An import of a file.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "import")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub hospital_id: i64,
    #[sea_orm(primary_key)]
    pub id: i64,
    /// PATIENTS or VISITS.
    pub kind: String,
    /// An `ImportState`.
    pub state: String,
    /// SHA-256 of the file's bytes, in hexadecimal; empty until it was read.
    pub file_digest: String,
    pub created_at: DateTimeUtc,
    /// When the state or the number of rows read last changed.
    pub updated_at: DateTimeUtc,
    /// None from the command line.
    pub staff_id: Option<i64>,
    pub source: String,
    /// KEEP or OVERWRITE.
    pub conflicts: String,
    /// The upload that the file is, while it is kept.
    pub upload_id: Option<i64>,
    /// Whether a server checks or commits it, or did so when it ended.
    pub running: bool,
    pub rows_read: i64,
    /// None until it is known.
    pub rows_total: Option<i64>,
    /// The number of rows of each outcome, as JSON.
    pub counts: String,
    /// Everything that the file has words in, as JSON, encrypted.
    pub detail: Vec<u8>,
}

impl ActiveModelBehavior for ActiveModel {}
