//! A member of staff, who may sign in.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "staff")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub hospital_id: i64,
    #[sea_orm(primary_key)]
    pub id: i64,
    pub login: String,
    pub name: String,
    /// ADMIN, CLINICIAN, DESK, SUPPORT or KIOSK.
    pub role: String,
    /// Argon2id, in PHC format.
    pub password_hash: String,
    pub disabled_at: Option<DateTimeUtc>,
    pub created_at: DateTimeUtc,
    /// Incremented whenever all sessions end.
    pub session_epoch: i64,
}

impl ActiveModelBehavior for ActiveModel {}
