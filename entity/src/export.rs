//! An export that was asked for. Its file is made when it is downloaded, from the list as stored and the rows as they are then.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "export")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub hospital_id: i64,
    #[sea_orm(primary_key)]
    pub id: i64,
    pub staff_id: i64,
    /// The family of the refresh tokens of the session that may download it.
    pub session: String,
    /// A keyed hash of the token in its path.
    pub token_hash: Option<String>,
    /// Of a list of a snapshot, as the three that follow.
    pub snapshot_id: Option<String>,
    /// The index of the cohort's bucket; -1 is the total.
    pub bucket: Option<i32>,
    pub cohort: Option<String>,
    /// Which of the cohort's lists, and its order.
    pub list_order: Option<String>,
    /// Of a recall list, as the one that follows.
    pub recall_list_id: Option<i64>,
    /// The ids of a recall list's entries in their order, 8 bytes each, little-endian.
    pub entries: Option<Vec<u8>>,
    /// CSV or XLSX.
    pub format: String,
    pub row_count: i64,
    /// What identifies the list, as the API says it.
    pub digest: String,
    pub created_at: DateTimeUtc,
    pub expires_at: DateTimeUtc,
    pub used_at: Option<DateTimeUtc>,
}

impl ActiveModelBehavior for ActiveModel {}
