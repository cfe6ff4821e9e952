//! Guards: what a role must allow before a field is resolved. The guard of a type is that of each of its fields without one of its own,
//! so that no new field can forget it.

use async_graphql::{Context, Result};

use super::context;
use crate::permissions::Action;

/// The viewer may use the console.
pub(super) fn console(ctx: &Context<'_>) -> Result<()> {
    Ok(context::viewer(ctx)?.require(Action::UseConsole, "to use the console")?)
}

/// There is a viewer, of any role.
pub(super) fn any_role(ctx: &Context<'_>) -> Result<()> {
    context::viewer(ctx)?;
    Ok(())
}
