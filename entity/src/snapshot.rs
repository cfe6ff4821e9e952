//! A snapshot of statistics: what was requested, and a manifest of the lists. A derived list is one with a single list.

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
    /// The version in force when it was computed.
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
    /// The digests of the total's list and of each bucket's, 32 bytes each; zeros for an empty list.
    pub manifest: Vec<u8>,
    /// When it was last requested, from which its expiry is counted.
    pub kept_at: DateTimeUtc,
    /// When its lists were deleted; what was requested is kept.
    pub expired_at: Option<DateTimeUtc>,
    /// Since when it is pinned, and never expires.
    pub pinned_at: Option<DateTimeUtc>,
    /// The member of staff who pinned it.
    pub pinned_by: Option<i64>,
    /// The highest id of a visit when it was computed; -1 where that is unknown.
    pub newest_visit_id: i64,
    /// The version of the definition that it was computed with; none where it is older than this column, 0 for a proposed
    /// definition.
    pub counted_version: Option<i32>,
    pub churn_after_days: Option<i32>,
    pub overdue_after_days: Option<i32>,
    pub effective_from: Option<DateTimeUtc>,
    /// The label under which it was pinned.
    pub label: Option<String>,
    /// Counts up with each pinning; none where it is not pinned.
    pub pin_number: Option<i64>,
    /// JSON: what a derived list is made of; none for a snapshot.
    pub recipe: Option<Vec<u8>>,
}

impl ActiveModelBehavior for ActiveModel {}
