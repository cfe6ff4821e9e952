//! Closes a recall list.

use async_trait::async_trait;

use super::digest::DigestFields;
use super::transaction::{CommandTx, check_version};
use super::{Command, CommandInfo, Outcome};
use crate::error::Result;
use crate::permissions::Action;

/// Entries that one statement changes.
const BATCH: usize = 500;

/// Stores with each entry what came of it, so that the counts of the list no longer change.
#[derive(Clone, Debug)]
pub struct CloseRecallList {
    pub id: i64,
    pub version: i32,
}

impl CloseRecallList {
    pub(super) const INFO: CommandInfo = CommandInfo {
        name: "closeRecallList",
        mutation: Some("closeRecallList"),
        action: Action::WorkRecallLists,
        description: "to close a recall list",
    };
}

#[async_trait]
impl Command for CloseRecallList {
    fn info(&self) -> &'static CommandInfo {
        &Self::INFO
    }

    fn digest(&self, fields: &mut DigestFields) {
        let Self { id, version } = self;
        fields.put("id", id).put("version", version);
    }

    async fn execute(&self, tx: &CommandTx<'_>) -> Result<Outcome> {
        let list = tx.open_list("input.id", self.id).await?;
        check_version("the list", self.version, list.version)?;
        let today = tx.store.today(tx.own_hospital().await?.time_zone);
        let (duplicates, returned) = tx
            .store
            .entries_to_close(&tx.transaction, tx.hospital, list.id, today)
            .await?;
        for ids in duplicates.chunks(BATCH) {
            let mut sql = tx
                .store
                .sql("UPDATE recall_entry SET stands = FALSE WHERE hospital_id = ");
            sql.bind(tx.hospital).push(" AND id").few(ids);
            tx.run(sql).await?;
        }
        for (day, ids) in returned {
            for ids in ids.chunks(BATCH) {
                let mut sql = tx.store.sql("UPDATE recall_entry SET returned_on = ");
                sql.bind(day).push(" WHERE hospital_id = ").bind(tx.hospital);
                sql.push(" AND id").few(ids);
                tx.run(sql).await?;
            }
        }
        let mut sql = tx
            .store
            .sql("UPDATE recall_list SET version = version + 1, closed_at = ");
        sql.bind(tx.store.now());
        sql.push(" WHERE hospital_id = ").bind(tx.hospital);
        sql.push(" AND id = ").bind(list.id);
        tx.run(sql).await?;
        Ok(Outcome::record(list.id))
    }
}
