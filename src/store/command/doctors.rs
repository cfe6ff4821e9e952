//! Adds a doctor; renames, moves or retires one.

use async_trait::async_trait;
use entity::doctor;
use sea_orm::ActiveValue::Set;
use sea_orm::{ActiveModelTrait as _, EntityTrait as _, IntoActiveModel as _};
use serde_json::json;

use super::digest::DigestFields;
use super::transaction::{CommandTx, since};
use super::{Command, CommandInfo, Outcome};
use crate::error::{Error, Result};
use crate::permissions::Action;
use crate::records::Patch;

const DESCRIPTION: &str = "to change doctors";

#[derive(Clone, Debug)]
pub struct AddDoctor {
    pub name: String,
    pub department: Option<i64>,
}

impl AddDoctor {
    pub(super) const INFO: CommandInfo = CommandInfo {
        name: "addDoctor",
        mutation: Some("addDoctor"),
        action: Action::Administer,
        description: DESCRIPTION,
    };
}

#[async_trait]
impl Command for AddDoctor {
    fn info(&self) -> &'static CommandInfo {
        &Self::INFO
    }

    fn digest(&self, fields: &mut DigestFields) {
        let Self { name, department } = self;
        fields.put("name", name).put_some("departmentId", department);
    }

    async fn execute(&self, tx: &CommandTx<'_>) -> Result<Outcome> {
        tx.refuse_taken("doctor", "name", "input.name", &self.name, 0).await?;
        tx.refuse_full("doctor").await?;
        let columns = [
            ("name", self.name.as_str().into()),
            ("department_id", self.department.into()),
        ];
        Ok(Outcome::record(tx.insert("doctor", &columns).await?))
    }
}

#[derive(Clone, Debug)]
pub struct ChangeDoctor {
    pub id: i64,
    pub name: Option<String>,
    pub department: Patch<i64>,
    pub retired: Option<bool>,
}

impl ChangeDoctor {
    pub(super) const INFO: CommandInfo = CommandInfo {
        name: "changeDoctor",
        mutation: Some("changeDoctor"),
        action: Action::Administer,
        description: DESCRIPTION,
    };
}

#[async_trait]
impl Command for ChangeDoctor {
    fn info(&self) -> &'static CommandInfo {
        &Self::INFO
    }

    fn digest(&self, fields: &mut DigestFields) {
        let Self {
            id,
            name,
            department,
            retired,
        } = self;
        fields
            .put("id", id)
            .put_some("name", name)
            .patch("departmentId", department, |id| json!(id))
            .put_some("retired", retired);
    }

    async fn execute(&self, tx: &CommandTx<'_>) -> Result<Outcome> {
        let row = doctor::Entity::find_by_id((tx.hospital, self.id))
            .one(&tx.transaction)
            .await?;
        let row = row.ok_or_else(|| Error::unknown_id("input.id", "doctor"))?;
        let retired_at = since(row.retired_at, self.retired);
        let mut department = row.department_id;
        self.department.apply(&mut department);
        let mut changed = row.into_active_model();
        if let Some(name) = &self.name {
            tx.refuse_taken("doctor", "name", "input.name", name, self.id).await?;
            changed.name = Set(name.clone());
        }
        changed.department_id = Set(department);
        changed.retired_at = Set(retired_at);
        changed.update(&tx.transaction).await?;
        Ok(Outcome::record(self.id))
    }
}
