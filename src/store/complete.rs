//! Whether a hospital's data is complete: while a backup is restored under a running server it is not, and nothing may be
//! counted. Where rows came past the triggers for good, a recount puts the counts right.

use std::collections::BTreeSet;

use migration::triggers::required_triggers;
use sea_orm::{ConnectionTrait, DbBackend};

use super::{HospitalState, Store};
use crate::error::{Error, Result};

/// Refuses to count, and tells the operator why.
pub(super) fn incomplete(hospital: i64, why: &str) -> Error {
    tracing::warn!(
        hospital,
        "the data is incomplete: {why}. A backup is being restored, or rows came past the triggers: then run `rollcall recount`"
    );
    Error::BeingRestored
}

/// What a recount found.
#[derive(Clone, Copy, Debug)]
pub struct Recount {
    pub visits: u64,
    pub patients: u64,
    /// What the counts were before.
    pub visits_before: u64,
    pub patients_before: u64,
}

impl HospitalState {
    /// Compares the count that the triggers keep with the visits that a ledger of this state has.
    ///
    /// # Errors
    /// BEING_RESTORED where they differ.
    pub fn verify_count(&self, hospital: i64, visits: usize) -> Result<()> {
        if self.visit_count == visits as u64 {
            return Ok(());
        }
        let counted = self.visit_count;
        Err(incomplete(
            hospital,
            &format!("there are {visits} visits and the triggers counted {counted}"),
        ))
    }
}

impl Store {
    /// Whether, in this view, the triggers are there and enabled, and no visit was changed after the revision that stands.
    ///
    /// The last tells rows that a restore has yet to replace: the revision is already the backup's, and the history still has
    /// changes that the backup does not.
    pub(super) async fn verify(&self, view: &impl ConnectionTrait, hospital: i64, state: &HospitalState) -> Result<()> {
        let (missing, newest) = self.missing_triggers(view, hospital).await?;
        if !missing.is_empty() {
            let missing: Vec<String> = missing.into_iter().map(|(_, name)| name).collect();
            let missing = missing.join(", ");
            return Err(incomplete(
                hospital,
                &format!("triggers are missing or disabled: {missing}"),
            ));
        }
        if newest.is_some_and(|newest| newest > state.revision.number) {
            return Err(incomplete(
                hospital,
                "visits were changed after the revision that stands",
            ));
        }
        Ok(())
    }

    /// The triggers that are not there, or not enabled for every session; and, in the same statement, the number of the newest
    /// change of a visit, which is not read where all are missing.
    async fn missing_triggers(
        &self,
        view: &impl ConnectionTrait,
        hospital: i64,
    ) -> Result<(Vec<(&'static str, String)>, Option<i64>)> {
        let backend = view.get_database_backend();
        let mut sql = self.sql("SELECT ");
        sql.push(match backend {
            DbBackend::Postgres => "CAST(k.relname AS TEXT), CAST(t.tgname AS TEXT)",
            DbBackend::MySql => "event_object_table, trigger_name",
            _ => "tbl_name, name",
        });
        sql.push(", (SELECT MAX(number) FROM visit_change WHERE hospital_id = ");
        sql.bind(hospital).push(match backend {
            DbBackend::Postgres => {
                ") FROM pg_trigger t JOIN pg_class k ON k.oid = t.tgrelid WHERE t.tgenabled = 'A' AND t.tgrelid IN
                    (to_regclass('hospital'), to_regclass('definition'), to_regclass('patient'), to_regclass('visit'))"
            }
            DbBackend::MySql => ") FROM information_schema.triggers WHERE trigger_schema = DATABASE()",
            _ => ") FROM sqlite_master WHERE type = 'trigger'",
        });
        let (mut there, mut newest) = (BTreeSet::<(String, String)>::new(), None);
        for row in view.query_all_raw(sql.done()).await? {
            there.insert((row.try_get_by_index(0)?, row.try_get_by_index(1)?));
            newest = row.try_get_by_index::<Option<i64>>(2)?;
        }
        let missing = |(table, name): &(&str, String)| !there.contains(&((*table).to_owned(), name.clone()));
        Ok((required_triggers(backend).filter(missing).collect(), newest))
    }

    /// Counts the hospital's rows anew and moves its revision, so that every server loads its ledger anew.
    ///
    /// # Errors
    /// Where a trigger is missing, or the database fails.
    pub async fn recount(&self, hospital: i64) -> Result<Recount> {
        self.with_retry(|| self.recount_once(hospital)).await
    }

    async fn recount_once(&self, hospital: i64) -> Result<Recount> {
        let transaction = self.begin_write().await?;
        let mut sql = self.sql("SELECT number, visit_count, patient_count FROM revision WHERE hospital_id = ");
        sql.bind(hospital);
        if transaction.get_database_backend() != DbBackend::Sqlite {
            sql.push(" FOR UPDATE");
        }
        let before = transaction.query_one_raw(sql.done()).await?;
        let before =
            before.ok_or_else(|| Error::input("hospital", "it has no row in revision: restore its backup whole"))?;
        if transaction.get_database_backend() == DbBackend::Postgres {
            // A restore with --disable-triggers leaves them enabled for ordinary sessions alone.
            for (table, name) in self.missing_triggers(&transaction, hospital).await?.0 {
                let always = format!("ALTER TABLE {table} ENABLE ALWAYS TRIGGER {name}");
                transaction.execute_unprepared(&always).await?;
            }
        }
        let count = async |select: &str| {
            let mut sql = self.sql(select);
            sql.bind(hospital);
            let row = transaction.query_one_raw(sql.done()).await?;
            let count = row.map(|row| row.try_get_by_index::<Option<i64>>(0)).transpose()?;
            Ok::<_, Error>(count.flatten().unwrap_or(0))
        };
        let visits = count("SELECT COUNT(*) FROM visit WHERE hospital_id = ").await?;
        let patients = count("SELECT COUNT(*) FROM patient WHERE state = 'ACTIVE' AND hospital_id = ").await?;
        // Past whatever is there, which a backup that was not taken at one moment may have from later.
        let number: i64 = before.try_get_by_index(0)?;
        let number = number
            .max(count("SELECT MAX(number) FROM change_feed WHERE hospital_id = ").await?)
            .max(count("SELECT MAX(number) FROM visit_change WHERE hospital_id = ").await?)
            + 1;
        let mut sql = self.sql("UPDATE revision SET number = ");
        sql.bind(number).push(", visit_count = ").bind(visits);
        sql.push(", patient_count = ").bind(patients);
        sql.push(" WHERE hospital_id = ").bind(hospital);
        transaction.execute_raw(sql.done()).await?;
        let mut sql = self.sql("INSERT INTO change_feed (hospital_id, number, tag, kind) VALUES (");
        sql.bind(hospital).push(", ").bind(number);
        sql.push(", ").bind(rand::random::<i64>()).push(", 'RESET')");
        transaction.execute_raw(sql.done()).await?;
        let state = self.hospital_state_in(&transaction, hospital, number).await?;
        if let Err(Error::BeingRestored) = self.verify(&transaction, hospital, &state).await {
            return Err(Error::input(
                "triggers",
                "some are missing, or this user may not see them (the log names them): restore the backup with its triggers",
            ));
        }
        transaction.commit().await?;
        Ok(Recount {
            visits: visits.unsigned_abs(),
            patients: patients.unsigned_abs(),
            visits_before: before.try_get_by_index::<i64>(1)?.unsigned_abs(),
            patients_before: before.try_get_by_index::<i64>(2)?.unsigned_abs(),
        })
    }
}
