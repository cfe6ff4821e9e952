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

/// Somebody who works at the hospital and may sign in.
#[Object]
impl StaffMember {
    /// Opaque.
    pub(super) async fn id(&self) -> ID {
        Id::Staff(self.0.id).into()
    }

    /// The name to sign in with; it never changes.
    async fn login(&self) -> &str {
        &self.0.login
    }

    /// The name that people read.
    async fn name(&self) -> &str {
        &self.0.name
    }

    /// What the member may do.
    async fn role(&self) -> Role {
        self.0.role.into()
    }

    /// Since when the account is disabled; null where it is not.
    async fn disabled_at(&self) -> Option<DateTime> {
        self.0.disabled_at.map(DateTime)
    }

    /// When the account was made.
    async fn created_at(&self) -> DateTime {
        DateTime(self.0.created_at)
    }
}

impl StaffMember {
    /// Everybody, by login.
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
