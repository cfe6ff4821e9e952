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
    /// In force when it was computed.
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
    /// When it was last asked for anew: it expires by this.
    pub kept_at: DateTimeUtc,
    /// Its lists are gone; the question is left.
    pub expired_at: Option<DateTimeUtc>,
    /// Kept for good.
    pub pinned_at: Option<DateTimeUtc>,
    /// The member of staff who pinned it.
    pub pinned_by: Option<i64>,
    /// No visit with a higher id had been written when it was computed; -1 where that was not noted.
    pub newest_visit_id: i64,
    /// The rules that it was counted by; none where it is older than this column. 0: they were proposed only.
    pub counted_version: Option<i32>,
    pub churn_after_days: Option<i32>,
    pub overdue_after_days: Option<i32>,
    pub effective_from: Option<DateTimeUtc>,
}

impl ActiveModelBehavior for ActiveModel {}
