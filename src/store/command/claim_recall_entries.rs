//! Claims the next entries of a recall list.

use std::collections::BTreeSet;

use async_trait::async_trait;
use chrono::TimeDelta;
use scheduling::CLAIM_MINUTES;

use super::digest::DigestFields;
use super::transaction::CommandTx;
use super::{Command, CommandInfo, Outcome};
use crate::error::Result;
use crate::permissions::Action;
use crate::store::RecallEntryQuery;

/// Makes the next entries that nobody has the viewer's for a while. Claims of a hospital wait for each other by the lock of its revision, so
/// no two take the same entry. The id of the outcome is the number of the claim on the list.
#[derive(Clone, Debug)]
pub struct ClaimRecallEntries {
    pub list: i64,
    pub query: RecallEntryQuery,
    pub count: i32,
}

impl ClaimRecallEntries {
    pub(super) const INFO: CommandInfo = CommandInfo {
        name: "claimRecallEntries",
        mutation: Some("claimRecallEntries"),
        action: Action::WorkRecallLists,
        description: "to claim entries of a recall list",
    };
}

#[async_trait]
impl Command for ClaimRecallEntries {
    fn info(&self) -> &'static CommandInfo {
        &Self::INFO
    }

    fn digest(&self, fields: &mut DigestFields) {
        let Self { list, query, count } = self;
        fields.put("listId", list).recall_entries(query).put("count", count);
    }

    async fn execute(&self, tx: &CommandTx<'_>) -> Result<Outcome> {
        let list = tx.open_list("input.listId", self.list).await?;
        let today = tx.store.today(tx.own_hospital().await?.time_zone);
        let of = (tx.hospital, list.id, tx.staff());
        let next = tx
            .store
            .next_entries(&tx.transaction, of, &self.query, today, self.count);
        let next = next.await?;
        let claim = list.claims + 1;
        let mut sql = tx.store.sql("UPDATE recall_list SET claims = ");
        sql.bind(claim).push(" WHERE hospital_id = ").bind(tx.hospital);
        sql.push(" AND id = ").bind(list.id);
        tx.run(sql).await?;
        let ids: Vec<i64> = next.iter().map(|(id, _)| *id).collect();
        if !ids.is_empty() {
            let mut sql = tx
                .store
                .sql("UPDATE recall_entry SET version = version + 1, claimed_by = ");
            sql.bind(tx.staff()).push(", claimed_until = ");
            sql.bind(tx.store.now() + TimeDelta::minutes(CLAIM_MINUTES));
            sql.push(", claim_number = ").bind(claim);
            sql.push(" WHERE hospital_id = ").bind(tx.hospital);
            sql.push(" AND id").few(&ids);
            tx.run(sql).await?;
        }
        let patients: BTreeSet<i64> = next.into_iter().map(|(_, patient)| patient).collect();
        Ok(Outcome::of_patients(list.id, patients).with_id(claim.into()))
    }
}
