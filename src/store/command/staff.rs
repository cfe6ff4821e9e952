//! What the commands on staff have in common.

use entity::{refresh_token, staff};
use sea_orm::ActiveValue::Set;
use sea_orm::{
    ActiveModelTrait as _, ColumnTrait as _, EntityTrait as _, IntoActiveModel as _, PaginatorTrait as _,
    QueryFilter as _, QuerySelect as _,
};

use super::transaction::CommandTx;
use crate::error::{Error, Result};
use crate::permissions::Role;

pub(super) const DESCRIPTION: &str = "to change staff";

impl CommandTx<'_> {
    /// The row of a member of staff, locked: sessions begin and continue under this lock.
    pub(super) async fn staff_member(&self, id: i64) -> Result<staff::Model> {
        let row = staff::Entity::find_by_id((self.hospital, id))
            .lock_exclusive()
            .one(&self.transaction)
            .await?;
        row.ok_or_else(|| Error::unknown_id("input.id", "member of staff"))
    }

    /// Writes the row. A change of password or role, or a disabled account, ends the sessions; their access tokens work until
    /// they expire.
    pub(super) async fn write_staff_member(&self, row: &staff::Model, wanted: &staff::Model) -> Result<()> {
        let rights = |row: &staff::Model| (row.password_hash.clone(), row.role.clone(), row.disabled_at);
        let ends_sessions = rights(row) != rights(wanted);
        let mut changed = row.clone().into_active_model();
        changed.name = Set(wanted.name.clone());
        changed.role = Set(wanted.role.clone());
        changed.disabled_at = Set(wanted.disabled_at);
        changed.password_hash = Set(wanted.password_hash.clone());
        changed.session_epoch = Set(row.session_epoch + i64::from(ends_sessions));
        changed.update(&self.transaction).await?;
        if ends_sessions {
            refresh_token::Entity::delete_many()
                .filter(refresh_token::Column::HospitalId.eq(self.hospital))
                .filter(refresh_token::Column::StaffId.eq(row.id))
                .exec(&self.transaction)
                .await?;
        }
        Ok(())
    }

    pub(super) async fn enabled_administrators(&self) -> Result<u64> {
        let enabled = staff::Entity::find()
            .filter(staff::Column::HospitalId.eq(self.hospital))
            .filter(staff::Column::Role.eq(Role::Admin.as_str()))
            .filter(staff::Column::DisabledAt.is_null());
        Ok(enabled.count(&self.transaction).await?)
    }
}
