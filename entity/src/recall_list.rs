//! A list of patients to be called, made of a cohort.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "recall_list")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub hospital_id: i64,
    #[sea_orm(primary_key)]
    pub id: i64,
    pub name: String,
    pub snapshot_id: String,
    /// The index of the cohort's bucket; -1 is the total.
    pub bucket: i32,
    pub cohort: String,
    /// The snapshot's.
    pub as_of: Date,
    /// Whether the snapshot was computed with a proposed definition.
    pub proposed: bool,
    /// The number of the hospital's revision when the list was made.
    pub revision: i64,
    /// The highest id of a visit when the list was made.
    pub newest_visit_id: i64,
    /// The day of `created_at` in the hospital's time zone.
    pub made_on: Date,
    pub created_at: DateTimeUtc,
    /// None: it was made from the command line.
    pub created_by: Option<i64>,
    pub closed_at: Option<DateTimeUtc>,
    /// How many claims of its entries there were.
    pub claims: i32,
    pub version: i32,
}

impl ActiveModelBehavior for ActiveModel {}
