//! Cancels TENTATIVE bookings that were not confirmed in time.

use std::collections::BTreeSet;

use async_trait::async_trait;
use sea_orm::ConnectionTrait as _;

use super::digest::DigestFields;
use super::transaction::CommandTx;
use super::{Command, CommandInfo, Outcome};
use crate::error::Result;
use crate::permissions::Action;
use crate::statistics::VisitStatus;
use crate::store::Store;
use crate::store::sql::Sql;

/// Bookings that one transaction cancels.
const BATCH: usize = 500;

struct LapseBookings;

impl LapseBookings {
    const INFO: CommandInfo = CommandInfo {
        name: "lapseBookings",
        mutation: None,
        action: Action::ChangeRecords,
        description: "to cancel bookings that have lapsed",
    };
}

#[async_trait]
impl Command for LapseBookings {
    fn info(&self) -> &'static CommandInfo {
        &Self::INFO
    }

    fn digest(&self, _: &mut DigestFields) {}

    fn reason(&self) -> Option<&str> {
        Some("lapsed")
    }

    async fn execute(&self, tx: &CommandTx<'_>) -> Result<Outcome> {
        let mut sql = tx.store.lapsed_bookings("id, patient_id", tx.hospital);
        sql.push(&format!(" ORDER BY id LIMIT {BATCH}"));
        let (mut visits, mut patients) = (Vec::new(), BTreeSet::new());
        for row in tx.transaction.query_all_raw(sql.done()).await? {
            visits.push(row.try_get_by_index::<i64>(0)?);
            patients.insert(row.try_get_by_index(1)?);
        }
        if !visits.is_empty() {
            let mut sql = tx
                .store
                .sql("UPDATE visit SET expires_at = NULL, version = version + 1, status = ");
            sql.bind(VisitStatus::Canceled.as_str());
            sql.push(" WHERE hospital_id = ").bind(tx.hospital);
            sql.push(" AND id").few(&visits);
            tx.run(sql).await?;
        }
        Ok(Outcome::of_patients(
            visits.first().copied().unwrap_or_default(),
            patients,
        ))
    }
}

impl Store {
    /// Cancels the hospital's TENTATIVE bookings that have lapsed, with the reason "lapsed".
    ///
    /// # Errors
    /// Where the database fails; bookings that were canceled before stay canceled.
    pub async fn lapse_bookings(&self, hospital: i64) -> Result<()> {
        loop {
            let mut sql = self.lapsed_bookings("id", hospital);
            sql.push(" LIMIT 1");
            if self.readers.query_one_raw(sql.done()).await?.is_none() {
                return Ok(());
            }
            self.execute_as_operator(hospital, &LapseBookings).await?;
        }
    }

    fn lapsed_bookings(&self, columns: &str, hospital: i64) -> Sql {
        let mut sql = self.sql(&format!("SELECT {columns} FROM visit WHERE hospital_id = "));
        sql.bind(hospital)
            .push(" AND expires_at IS NOT NULL AND expires_at <= ");
        sql.bind(self.now())
            .push(" AND status = ")
            .bind(VisitStatus::Tentative.as_str());
        sql
    }
}
