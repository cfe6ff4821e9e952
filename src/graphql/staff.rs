//! Members of staff, as those who administer the hospital see them.

use async_graphql::{Context, ID, Object};

use super::context;
use super::enums::Role;
use super::id::Id;
use super::scalars::DateTime;
use crate::error::Result;
use crate::permissions::Action;
use crate::store;

/// A member of staff.
pub(super) struct StaffMember(store::StaffMember);

/// A member of the hospital's staff, who may sign in.
#[Object]
impl StaffMember {
    /// An opaque ID.
    pub(super) async fn id(&self) -> ID {
        Id::Staff(self.0.id).into()
    }

    /// The login name; it cannot be changed.
    async fn login(&self) -> &str {
        &self.0.login
    }

    /// The display name.
    async fn name(&self) -> &str {
        &self.0.name
    }

    /// The role, which determines permissions.
    async fn role(&self) -> Role {
        self.0.role.into()
    }

    /// When the account was disabled; null if it is enabled.
    async fn disabled_at(&self) -> Option<DateTime> {
        self.0.disabled_at.map(DateTime)
    }

    /// When the account was created.
    async fn created_at(&self) -> DateTime {
        DateTime(self.0.created_at)
    }
}

impl StaffMember {
    /// All members, by login.
    pub(super) async fn all(ctx: &Context<'_>) -> Result<Vec<Self>> {
        let viewer = context::viewer(ctx)?;
        viewer.require(Action::Administer, "to see the staff")?;
        let all = context::services(ctx)?.store.staff(viewer.hospital).await?;
        Ok(all.into_iter().map(Self).collect())
    }

    /// The member with this id, if the hospital has it.
    pub(super) async fn find(ctx: &Context<'_>, id: i64) -> Result<Option<Self>> {
        let viewer = context::viewer(ctx)?;
        viewer.require(Action::Administer, "to see the staff")?;
        let row = context::services(ctx)?.store.staff_member(viewer.hospital, id).await?;
        Ok(row.map(Self))
    }
}
