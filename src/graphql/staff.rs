//! Members of staff. All who use the console see their names; those who administer the hospital see the rest.

use async_graphql::{Context, ID, Object};

use super::context;
use super::enums::Role;
use super::id::Id;
use super::loaders::StaffKey;
use super::scalars::DateTime;
use crate::error::Result;
use crate::permissions::Action;
use crate::store;

/// A member of staff.
#[derive(Clone)]
pub(super) struct StaffMember(store::StaffMember);

/// A member of the hospital's staff, who may sign in.
#[Object]
impl StaffMember {
    /// An opaque ID.
    pub(super) async fn id(&self) -> ID {
        Id::Staff(self.0.id).into()
    }

    /// The login name; it cannot be changed. Null except for ADMIN and oneself.
    async fn login(&self, ctx: &Context<'_>) -> Result<Option<&str>> {
        let shown = context::viewer(ctx)?.role.may(Action::Administer) || context::own_staff_id(ctx)? == self.0.id;
        Ok(shown.then_some(self.0.login.as_str()))
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

    /// When the account was created. Null except for ADMIN.
    async fn created_at(&self, ctx: &Context<'_>) -> Result<Option<DateTime>> {
        let shown = context::viewer(ctx)?.role.may(Action::Administer);
        Ok(shown.then_some(DateTime(self.0.created_at)))
    }
}

impl StaffMember {
    /// All members, by login.
    pub(super) async fn all(ctx: &Context<'_>) -> Result<Vec<Self>> {
        let hospital = context::viewer(ctx)?.hospital;
        let all = context::services(ctx)?.store.staff(hospital).await?;
        Ok(all.into_iter().map(Self).collect())
    }

    /// The member with this id, if the hospital has it.
    pub(super) async fn find(ctx: &Context<'_>, id: i64) -> Result<Option<Self>> {
        Ok(context::loaders(ctx)?.load_one(StaffKey(id)).await?.map(Self))
    }
}
