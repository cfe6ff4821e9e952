//! Sets the password of a member of staff.

use async_trait::async_trait;
use entity::staff;

use super::digest::DigestFields;
use super::staff::DESCRIPTION;
use super::transaction::CommandTx;
use super::{Command, CommandInfo, Outcome};
use crate::error::Result;
use crate::password::{self, NewPassword, PasswordHash};
use crate::permissions::Action;

/// Sets the password of a member of staff, whose sessions end.
#[derive(Clone, Debug)]
pub struct SetPassword {
    pub id: i64,
    pub password: NewPassword,
    /// The current password, as the member was verified by: where it has changed since, nothing happens.
    pub verified: Option<PasswordHash>,
}

impl SetPassword {
    pub(super) const INFO: CommandInfo = CommandInfo {
        name: "setPassword",
        mutation: Some("resetPassword"),
        action: Action::Administer,
        description: DESCRIPTION,
    };
}

#[async_trait]
impl Command for SetPassword {
    fn info(&self) -> &'static CommandInfo {
        &Self::INFO
    }

    fn digest(&self, fields: &mut DigestFields) {
        let Self {
            id,
            password: _,
            verified: _,
        } = self;
        fields.put("id", id);
    }

    fn new_password(&self) -> Option<&NewPassword> {
        Some(&self.password)
    }

    async fn execute(&self, tx: &CommandTx<'_>) -> Result<Outcome> {
        let row = tx.staff_member(self.id).await?;
        let is_current = |verified: &PasswordHash| verified.as_str() == row.password_hash;
        if !self.verified.as_ref().is_none_or(is_current) {
            return Err(password::incorrect());
        }
        let wanted = staff::Model {
            password_hash: self.password.hash().as_str().to_owned(),
            ..row.clone()
        };
        tx.write_staff_member(&row, &wanted).await?;
        Ok(Outcome::record(self.id))
    }
}
