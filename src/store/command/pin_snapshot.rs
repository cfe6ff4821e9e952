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
        let Self { id } = self;
        fields.put("id", id);
    }

    async fn execute(&self, tx: &CommandTx<'_>) -> Result<Outcome> {
        tx.set_pinned(&self.id, true).await
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
        tx.refuse_listed(&self.id).await?;
        tx.set_pinned(&self.id, false).await
    }
}

impl CommandTx<'_> {
    /// Refuses a snapshot that a recall list was made of.
    async fn refuse_listed(&self, id: &str) -> Result<()> {
        let mut sql = self.store.sql("SELECT id FROM recall_list WHERE hospital_id = ");
        sql.bind(self.hospital)
            .push(" AND snapshot_id = ")
            .bind(id)
            .push(" LIMIT 1");
        if self.transaction.query_one_raw(sql.done()).await?.is_some() {
            return Err(Error::input(
                "input.id",
                "a recall list was made of this snapshot, which stays pinned with it",
            ));
        }
        Ok(())
    }

    async fn set_pinned(&self, id: &str, pinned: bool) -> Result<Outcome> {
        let now = Utc::now().trunc_subsecs(6);
        let mut sql = self.store.sql("UPDATE snapshot SET kept_at = ");
        sql.bind(now).push(", pinned_at = ").bind(pinned.then_some(now));
        sql.push(", pinned_by = ").bind(self.staff().filter(|_| pinned));
        sql.push(" WHERE hospital_id = ").bind(self.hospital);
        sql.push(" AND id = ").bind(id).push(" AND expired_at IS NULL");
        match self.transaction.execute_raw(sql.done()).await?.rows_affected() {
            0 => Err(Error::unknown_id("input.id", "snapshot")),
            _ => Ok(Outcome::snapshot(id.to_owned())),
        }
    }
}
