//! The time before which a hospital's audit entries may be deleted. A row exists only within the transaction that deletes them.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "audit_retention")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub hospital_id: i64,
    pub cut_off: DateTimeUtc,
    /// Always null: there for the foreign key, since MariaDB truncates no table that one references.
    pub patient_id: Option<i64>,
    /// Always null.
    pub entry_id: Option<i64>,
}

impl ActiveModelBehavior for ActiveModel {}
