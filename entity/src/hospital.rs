//! A hospital: the tenant that everything else belongs to.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "hospital")]
pub struct Model {
    #[sea_orm(primary_key)]
    pub id: i64,
    pub code: String,
    pub name: String,
    /// ISO 3166-1 alpha-2: the default country of phone numbers.
    pub country: Option<String>,
    /// An IANA name.
    pub time_zone: String,
    /// MONDAY or SUNDAY.
    pub week_start: String,
    pub created_at: DateTimeUtc,
    /// What a booking takes unless it or its doctor says otherwise.
    pub slot_minutes: i32,
    /// How long a TENTATIVE booking is held.
    pub tentative_minutes: i32,
}

impl ActiveModelBehavior for ActiveModel {}
