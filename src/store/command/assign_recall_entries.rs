//! Assigns entries of recall lists to a member of staff.

use std::collections::BTreeSet;

use async_trait::async_trait;
use entity::staff;
use sea_orm::EntityTrait as _;

use super::digest::DigestFields;
use super::recall_entry::entry_argument;
use super::transaction::CommandTx;
use super::{Command, CommandInfo, Outcome};
use crate::error::{Error, Result};
use crate::permissions::{Action, Role};

/// Assigns entries, or takes the assignment away. The viewer's own claims of them end, unless they are assigned to the viewer.
#[derive(Clone, Debug)]
pub struct AssignRecallEntries {
    pub entries: Vec<i64>,
    /// None: nobody.
    pub staff: Option<i64>,
}

impl AssignRecallEntries {
    pub(super) const INFO: CommandInfo = CommandInfo {
        name: "assignRecallEntries",
        mutation: Some("assignRecallEntries"),
        action: Action::WorkRecallLists,
        description: "to assign entries of a recall list",
    };
}

#[async_trait]
impl Command for AssignRecallEntries {
    fn info(&self) -> &'static CommandInfo {
        &Self::INFO
    }

    fn digest(&self, fields: &mut DigestFields) {
        let Self { entries, staff } = self;
        fields.put("entryIds", entries).put("staffId", staff);
    }

    async fn execute(&self, tx: &CommandTx<'_>) -> Result<Outcome> {
        const ARGUMENT: &str = "input.entryIds";
        if let Some(id) = self.staff {
            tx.check_may_call("input.staffId", id).await?;
        }
        let entries = tx.open_entries(ARGUMENT, &self.entries).await?;
        for (place, entry) in entries.iter().enumerate() {
            tx.refuse_held(&entry_argument(ARGUMENT, place, entries.len()), entry)?;
        }
        let mut sql = tx
            .store
            .sql("UPDATE recall_entry SET version = version + 1, assignee_id = ");
        sql.bind(self.staff);
        if self.staff != tx.staff() || self.staff.is_none() {
            sql.push(", claimed_by = NULL, claimed_until = NULL");
        }
        sql.push(" WHERE hospital_id = ").bind(tx.hospital);
        sql.push(" AND id").few(&self.entries);
        tx.run(sql).await?;
        let list = entries.first().map_or(0, |entry| entry.row.list_id);
        let patients: BTreeSet<i64> = entries.iter().map(|entry| entry.patient).collect();
        Ok(Outcome::of_patients(list, patients))
    }
}

impl CommandTx<'_> {
    /// Refuses a member of staff who cannot work on recall lists.
    async fn check_may_call(&self, argument: &str, id: i64) -> Result<()> {
        let found = staff::Entity::find_by_id((self.hospital, id))
            .one(&self.transaction)
            .await?;
        let row = found.ok_or_else(|| Error::unknown_id(argument, "member of staff"))?;
        let may = Role::parse(&row.role).is_some_and(|role| role.may(Action::WorkRecallLists));
        if row.disabled_at.is_some() || !may {
            return Err(Error::input(
                argument,
                "must be a member of staff who may work on recall lists, and whose account is enabled",
            ));
        }
        Ok(())
    }
}
