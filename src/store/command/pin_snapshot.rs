//! Pins a snapshot, so that it does not expire, or unpins it.

use async_trait::async_trait;
use chrono::{SubsecRound as _, Utc};
use sea_orm::ConnectionTrait as _;

use super::digest::DigestFields;
use super::transaction::CommandTx;
use super::{Command, CommandInfo, Outcome};
use crate::error::{Error, Result};
use crate::permissions::Action;

const DESCRIPTION: &str = "to pin snapshots";

#[derive(Clone, Debug)]
pub struct PinSnapshot {
    pub id: String,
    pub label: Option<String>,
}

impl PinSnapshot {
    pub(super) const INFO: CommandInfo = CommandInfo {
        name: "pinSnapshot",
        mutation: Some("pinSnapshot"),
        action: Action::KeepSnapshots,
        description: DESCRIPTION,
    };
}

#[async_trait]
impl Command for PinSnapshot {
    fn info(&self) -> &'static CommandInfo {
        &Self::INFO
    }

    fn digest(&self, fields: &mut DigestFields) {
        let Self { id, label } = self;
        fields.put("id", id).put_some("label", label);
    }

    async fn execute(&self, tx: &CommandTx<'_>) -> Result<Outcome> {
        let number = tx.next_pin_number().await?;
        tx.set_pinned(&self.id, Some(number), self.label.as_deref()).await
    }
}

/// The snapshot's time to live begins anew.
#[derive(Clone, Debug)]
pub struct UnpinSnapshot {
    pub id: String,
}

impl UnpinSnapshot {
    pub(super) const INFO: CommandInfo = CommandInfo {
        name: "unpinSnapshot",
        mutation: Some("unpinSnapshot"),
        action: Action::KeepSnapshots,
        description: DESCRIPTION,
    };
}

#[async_trait]
impl Command for UnpinSnapshot {
    fn info(&self) -> &'static CommandInfo {
        &Self::INFO
    }

    fn digest(&self, fields: &mut DigestFields) {
        let Self { id } = self;
        fields.put("id", id);
    }

    async fn execute(&self, tx: &CommandTx<'_>) -> Result<Outcome> {
        tx.refuse_needed(&self.id).await?;
        tx.set_pinned(&self.id, None, None).await
    }
}

impl CommandTx<'_> {
    /// Refuses a snapshot that a recall list was made of, or that a month was sealed by.
    async fn refuse_needed(&self, id: &str) -> Result<()> {
        for (table, message) in [
            (
                "recall_list",
                "a recall list was made of this snapshot, which stays pinned with it",
            ),
            (
                "statement",
                "a month was sealed by this snapshot, which stays pinned for good",
            ),
        ] {
            let mut sql = self.store.sql(&format!("SELECT id FROM {table} WHERE hospital_id = "));
            sql.bind(self.hospital)
                .push(" AND snapshot_id = ")
                .bind(id)
                .push(" LIMIT 1");
            if self.transaction.query_one_raw(sql.done()).await?.is_some() {
                return Err(Error::input("input.id", message));
            }
        }
        Ok(())
    }

    /// The number of the next snapshot that is pinned. The lock of the hospital's revision keeps others from taking it.
    pub(super) async fn next_pin_number(&self) -> Result<i64> {
        let mut sql = self
            .store
            .sql("SELECT MAX(pin_number) FROM snapshot WHERE hospital_id = ");
        sql.bind(self.hospital);
        let row = self.transaction.query_one_raw(sql.done()).await?;
        let last: Option<i64> = row.map(|row| row.try_get_by_index(0)).transpose()?.flatten();
        Ok(last.unwrap_or(0) + 1)
    }

    /// Pins the snapshot under this number, or unpins it.
    async fn set_pinned(&self, id: &str, number: Option<i64>, label: Option<&str>) -> Result<Outcome> {
        let now = Utc::now().trunc_subsecs(6);
        let mut sql = self.store.sql("UPDATE snapshot SET kept_at = ");
        sql.bind(now).push(", pinned_at = ").bind(number.map(|_| now));
        sql.push(", pinned_by = ")
            .bind(self.staff().filter(|_| number.is_some()));
        sql.push(", pin_number = ").bind(number);
        sql.push(", label = ").bind(label.map(str::to_owned));
        sql.push(" WHERE hospital_id = ").bind(self.hospital);
        sql.push(" AND id = ")
            .bind(id)
            .push(" AND expired_at IS NULL AND recipe IS NULL");
        match self.transaction.execute_raw(sql.done()).await?.rows_affected() {
            0 => Err(Error::unknown_id("input.id", "snapshot")),
            _ => Ok(Outcome::snapshot(id.to_owned())),
        }
    }
}
