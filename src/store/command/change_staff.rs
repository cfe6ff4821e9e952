//! Renames a member of staff, changes the role, disables or enables the account.

use async_trait::async_trait;
use entity::staff;

use super::digest::DigestFields;
use super::staff::DESCRIPTION;
use super::transaction::{CommandTx, since};
use super::{Command, CommandInfo, Outcome};
use crate::error::{Error, Result};
use crate::permissions::{Action, Role};

/// Sessions end where the role changes or the account is disabled. An enabled ADMIN must be left.
#[derive(Clone, Debug)]
pub struct ChangeStaff {
    pub id: i64,
    pub name: Option<String>,
    pub role: Option<Role>,
    pub disabled: Option<bool>,
}

impl ChangeStaff {
    pub(super) const INFO: CommandInfo = CommandInfo {
        name: "changeStaff",
        mutation: Some("changeStaff"),
        action: Action::Administer,
        description: DESCRIPTION,
    };
}

#[async_trait]
impl Command for ChangeStaff {
    fn info(&self) -> &'static CommandInfo {
        &Self::INFO
    }

    fn digest(&self, fields: &mut DigestFields) {
        let Self {
            id,
            name,
            role,
            disabled,
        } = self;
        fields
            .put("id", id)
            .put_some("name", name)
            .put_some("role", &role.map(Role::as_str))
            .put_some("disabled", disabled);
    }

    async fn execute(&self, tx: &CommandTx<'_>) -> Result<Outcome> {
        let row = tx.staff_member(self.id).await?;
        let may_administer = |row: &staff::Model| row.role == Role::Admin.as_str() && row.disabled_at.is_none();
        let mut wanted = row.clone();
        if let Some(name) = &self.name {
            wanted.name.clone_from(name);
        }
        if let Some(role) = self.role {
            role.as_str().clone_into(&mut wanted.role);
        }
        wanted.disabled_at = since(row.disabled_at, self.disabled);
        tx.write_staff_member(&row, &wanted).await?;
        if may_administer(&row) && !may_administer(&wanted) && tx.enabled_administrators().await? == 0 {
            let argument = if self.disabled == Some(true) {
                "input.disabled"
            } else {
                "input.role"
            };
            let message = "no enabled ADMIN would be left: make somebody else ADMIN first";
            return Err(Error::input(argument, message));
        }
        Ok(Outcome::record(self.id))
    }
}
