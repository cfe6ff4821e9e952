//! Adds a member of staff.

use async_trait::async_trait;
use chrono::{SubsecRound as _, Utc};

use super::digest::DigestFields;
use super::staff::DESCRIPTION;
use super::transaction::CommandTx;
use super::{Command, CommandInfo, Outcome};
use crate::error::Result;
use crate::password::NewPassword;
use crate::permissions::{Action, Role};

#[derive(Clone, Debug)]
pub struct AddStaff {
    pub login: String,
    pub name: String,
    pub role: Role,
    pub password: NewPassword,
}

impl AddStaff {
    pub(super) const INFO: CommandInfo = CommandInfo {
        name: "addStaff",
        mutation: Some("addStaff"),
        action: Action::Administer,
        description: DESCRIPTION,
    };
}

#[async_trait]
impl Command for AddStaff {
    fn info(&self) -> &'static CommandInfo {
        &Self::INFO
    }

    fn digest(&self, fields: &mut DigestFields) {
        // No password is in a digest, which is fast to compute: it is verified against its Argon2 hash.
        let Self {
            login,
            name,
            role,
            password: _,
        } = self;
        fields.put("login", login).put("name", name).put("role", role.as_str());
    }

    fn new_password(&self) -> Option<&NewPassword> {
        Some(&self.password)
    }

    async fn execute(&self, tx: &CommandTx<'_>) -> Result<Outcome> {
        tx.refuse_taken("staff", "login", "input.login", &self.login, 0).await?;
        let columns = [
            ("login", self.login.as_str().into()),
            ("name", self.name.as_str().into()),
            ("role", self.role.as_str().into()),
            ("password_hash", self.password.hash().as_str().into()),
            ("created_at", Utc::now().trunc_subsecs(6).into()),
        ];
        Ok(Outcome::record(tx.insert("staff", &columns).await?))
    }
}
