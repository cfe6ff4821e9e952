//! The change feed, which the triggers write: what a ledger of an earlier revision must read again.

use std::collections::BTreeSet;

use sea_orm::ConnectionTrait as _;

use super::ledger_load::{SELECT_LEDGER_ROWS, ledger_row};
use super::sql::IDS_PER_STATEMENT;
use super::{HospitalState, Revision, Store};
use crate::error::Result;
use crate::statistics::{Day, VisitRow};

/// What changed since a revision.
pub enum LedgerChanges {
    /// The feed does not reach back to the revision, or the data was replaced: the ledger must be loaded again.
    Unknown,
    Known {
        /// The state after the changes.
        state: HospitalState,
        /// The patients whose visits changed.
        patients: BTreeSet<i64>,
        /// The dates that changed visits had before.
        old_dates: BTreeSet<Day>,
        /// Every visit of these patients, after the changes.
        rows: Vec<VisitRow>,
    },
}

impl Store {
    /// What changed since the revision `seen`; unknown where those are more than `most` changes.
    ///
    /// # Errors
    /// BEING_RESTORED where the data is incomplete. Where the database fails.
    pub async fn changes_since(&self, hospital: i64, seen: Revision, most: u64) -> Result<LedgerChanges> {
        let view = self.lock_visits(self.read_view().await?).await?;
        let state = self.hospital_state_in(&view, hospital, seen.number).await?;
        if state.seen_tag != Some(seen.tag) {
            return Ok(LedgerChanges::Unknown);
        }
        let mut sql =
            self.sql("SELECT kind, patient_id, old_patient_id, old_date FROM change_feed WHERE hospital_id = ");
        sql.bind(hospital).push(" AND number > ").bind(seen.number);
        sql.push(" LIMIT ")
            .bind(i64::try_from(most).unwrap_or(i64::MAX).saturating_add(1));
        let feed = view.query_all_raw(sql.done()).await?;
        if feed.len() as u64 > most {
            return Ok(LedgerChanges::Unknown);
        }
        let (mut patients, mut old_dates) = (BTreeSet::new(), BTreeSet::new());
        for row in &feed {
            let kind: String = row.try_get_by_index(0)?;
            match kind.as_str() {
                "RESET" => return Ok(LedgerChanges::Unknown),
                "VISIT" => {
                    patients.extend(row.try_get_by_index::<Option<i64>>(1)?);
                    patients.extend(row.try_get_by_index::<Option<i64>>(2)?);
                    old_dates.extend(row.try_get_by_index::<Option<chrono::NaiveDate>>(3)?.map(Day::from));
                }
                _ => {}
            }
        }
        let mut rows = Vec::new();
        let ids: Vec<i64> = patients.iter().copied().collect();
        for ids in ids.chunks(IDS_PER_STATEMENT) {
            let mut sql = self.sql(SELECT_LEDGER_ROWS);
            sql.bind(hospital).push(" AND patient_id").numbers(ids);
            for row in view.query_all_raw(sql.done()).await? {
                rows.push(ledger_row(&row)?);
            }
        }
        self.verify(&view, hospital, &state).await?;
        view.commit().await?;
        Ok(LedgerChanges::Known {
            state,
            patients,
            old_dates,
            rows,
        })
    }

    /// Deletes the hospital's changes beyond [`crate::config::Limits::max_feed_changes`]. Returns how many.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn prune_feed(&self, hospital: i64) -> Result<u64> {
        let mut sql = self.sql("DELETE FROM change_feed WHERE hospital_id = ");
        sql.bind(hospital)
            .push(" AND number < (SELECT number FROM revision WHERE hospital_id = ");
        sql.bind(hospital).push(") - ").bind(self.limits.max_feed_changes);
        self.write(sql).await
    }
}
