//! Adds a department, renames or retires it.

use async_trait::async_trait;
use entity::department;
use sea_orm::ActiveValue::Set;
use sea_orm::{ActiveModelTrait as _, EntityTrait as _, IntoActiveModel as _};

use super::digest::DigestFields;
use super::transaction::{CommandTx, since};
use super::{Command, CommandInfo, Outcome};
use crate::error::{Error, Result};
use crate::permissions::Action;

const DESCRIPTION: &str = "to change departments";

#[derive(Clone, Debug)]
pub struct AddDepartment {
    pub name: String,
}

impl AddDepartment {
    pub(super) const INFO: CommandInfo = CommandInfo {
        name: "addDepartment",
        mutation: Some("addDepartment"),
        action: Action::Administer,
        description: DESCRIPTION,
    };
}

#[async_trait]
impl Command for AddDepartment {
    fn info(&self) -> &'static CommandInfo {
        &Self::INFO
    }

    fn digest(&self, fields: &mut DigestFields) {
        let Self { name } = self;
        fields.put("name", name);
    }

    async fn execute(&self, tx: &CommandTx<'_>) -> Result<Outcome> {
        tx.refuse_taken("department", "name", "input.name", &self.name, 0)
            .await?;
        tx.refuse_full("department").await?;
        let id = tx.insert("department", &[("name", self.name.as_str().into())]).await?;
        Ok(Outcome::record(id))
    }
}

#[derive(Clone, Debug)]
pub struct ChangeDepartment {
    pub id: i64,
    pub name: Option<String>,
    pub retired: Option<bool>,
}

impl ChangeDepartment {
    pub(super) const INFO: CommandInfo = CommandInfo {
        name: "changeDepartment",
        mutation: Some("changeDepartment"),
        action: Action::Administer,
        description: DESCRIPTION,
    };
}

#[async_trait]
impl Command for ChangeDepartment {
    fn info(&self) -> &'static CommandInfo {
        &Self::INFO
    }

    fn digest(&self, fields: &mut DigestFields) {
        let Self { id, name, retired } = self;
        fields.put("id", id).put_some("name", name).put_some("retired", retired);
    }

    async fn execute(&self, tx: &CommandTx<'_>) -> Result<Outcome> {
        let row = department::Entity::find_by_id((tx.hospital, self.id))
            .one(&tx.transaction)
            .await?;
        let row = row.ok_or_else(|| Error::unknown_id("input.id", "department"))?;
        let retired_at = since(row.retired_at, self.retired);
        let mut changed = row.into_active_model();
        if let Some(name) = &self.name {
            tx.refuse_taken("department", "name", "input.name", name, self.id)
                .await?;
            changed.name = Set(name.clone());
        }
        changed.retired_at = Set(retired_at);
        changed.update(&tx.transaction).await?;
        Ok(Outcome::record(self.id))
    }
}
