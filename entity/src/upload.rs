//! A file that staff uploaded to import it. Its bytes are in `upload_chunk`.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "upload")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub hospital_id: i64,
    #[sea_orm(primary_key)]
    pub id: i64,
    pub staff_id: i64,
    /// Encrypted: it may be a patient's name.
    pub file_name: Vec<u8>,
    /// Bytes of the file; null until it is complete.
    pub size: Option<i64>,
    /// SHA-256 of the file in hexadecimal; null until it is complete.
    pub digest: Option<String>,
    pub expires_at: DateTimeUtc,
}

impl ActiveModelBehavior for ActiveModel {}
