//! Makes a recall list of a cohort.

use std::collections::HashMap;

use async_trait::async_trait;
use chrono::{NaiveDate, SubsecRound as _, Utc};
use scheduling::{Candidate, LeftOutReason, RecallOptions, left_out, moves_freely};
use sea_orm::{ConnectionTrait as _, DbBackend};

use super::digest::DigestFields;
use super::transaction::CommandTx;
use super::{Command, CommandInfo, Outcome};
use crate::error::{Error, Result};
use crate::permissions::Action;
use crate::store::recall::{Then, came_after_sql, visits_by_patient};
use crate::store::sql::{IDS_PER_STATEMENT, json};
use crate::store::visit::status_sql;
use crate::store::{ListKind, Sql};

/// A cohort of a stored snapshot, with the patients as counted.
#[derive(Clone, Debug)]
pub struct CountedCohort {
    pub snapshot: String,
    /// The index of the bucket; -1 is the total.
    pub bucket: i32,
    pub kind: ListKind,
    pub as_of: NaiveDate,
    /// Whether the definition is a proposed one.
    pub proposed: bool,
    /// The number of the revision that was counted.
    pub revision: i64,
    /// The highest id of a visit then; none if that is unknown.
    pub newest_visit: Option<i64>,
    /// Ascending.
    pub patients: Vec<i64>,
}

/// Makes a list of those patients who are to be called, and pins the snapshot.
#[derive(Clone, Debug)]
pub struct CreateRecallList {
    pub name: String,
    pub cohort: CountedCohort,
    pub options: RecallOptions,
}

impl CreateRecallList {
    pub(super) const INFO: CommandInfo = CommandInfo {
        name: "createRecallList",
        mutation: Some("createRecallList"),
        action: Action::WorkRecallLists,
        description: "to make a recall list",
    };
}

#[async_trait]
impl Command for CreateRecallList {
    fn info(&self) -> &'static CommandInfo {
        &Self::INFO
    }

    fn digest(&self, fields: &mut DigestFields) {
        // The rest follows from the cohort.
        let Self { name, cohort, options } = self;
        let RecallOptions {
            without_next_visit,
            with_phone,
        } = options;
        fields
            .put("name", name)
            .put("cohortId", (&cohort.snapshot, cohort.bucket, cohort.kind.as_str()))
            .put("withoutNextVisit", without_next_visit)
            .put("withPhone", with_phone);
    }

    async fn execute(&self, tx: &CommandTx<'_>) -> Result<Outcome> {
        tx.pin_for_good(&self.cohort.snapshot, "input.cohortId").await?;
        let now = tx.store.now();
        let today = tx.store.today(tx.own_hospital().await?.time_zone);
        let cohort = &self.cohort;
        let columns = [
            ("name", self.name.as_str().into()),
            ("snapshot_id", cohort.snapshot.as_str().into()),
            ("bucket", cohort.bucket.into()),
            ("cohort", cohort.kind.as_str().into()),
            ("as_of", cohort.as_of.into()),
            ("proposed", cohort.proposed.into()),
            ("revision", tx.revision().await?.into()),
            ("newest_visit_id", tx.newest_visit().await?.into()),
            ("made_on", today.into()),
            ("created_at", now.into()),
            ("created_by", tx.staff().into()),
            ("claims", 0.into()),
            ("version", 1.into()),
        ];
        let list = tx.insert("recall_list", &columns).await?;
        let candidates = tx.candidates(cohort, today).await?;
        let reasons = left_out(&candidates, self.options);
        let mut by_reason: HashMap<Option<LeftOutReason>, Vec<i64>> = HashMap::new();
        for (candidate, reason) in candidates.iter().zip(reasons) {
            by_reason.entry(reason).or_default().push(candidate.id);
        }
        for (reason, patients) in by_reason {
            for patients in patients.chunks(IDS_PER_STATEMENT) {
                tx.run(tx.insert_patients(list, reason, patients)).await?;
            }
        }
        Ok(Outcome::record(list))
    }
}

impl CommandTx<'_> {
    /// Pins a snapshot that has not expired; one that is pinned already stays pinned as it is.
    pub(super) async fn pin_for_good(&self, snapshot: &str, argument: &str) -> Result<()> {
        let now = Utc::now().trunc_subsecs(6);
        let number = self.next_pin_number().await?;
        let mut sql = self.store.sql("UPDATE snapshot SET kept_at = ");
        sql.bind(now)
            .push(", pinned_by = CASE WHEN pinned_at IS NULL THEN ")
            .bind(self.staff());
        sql.push(" ELSE pinned_by END, pin_number = COALESCE(pin_number, ")
            .bind(number)
            .push("), pinned_at = COALESCE(pinned_at, ")
            .bind(now)
            .push(")");
        sql.push(" WHERE hospital_id = ").bind(self.hospital);
        sql.push(" AND id = ").bind(snapshot).push(" AND expired_at IS NULL");
        match self.transaction.execute_raw(sql.done()).await?.rows_affected() {
            0 => Err(Error::unknown_id(argument, "snapshot")),
            _ => Ok(()),
        }
    }

    async fn newest_visit(&self) -> Result<i64> {
        let mut sql = self.store.sql("SELECT MAX(id) FROM visit WHERE hospital_id = ");
        sql.bind(self.hospital);
        let row = self.transaction.query_one_raw(sql.done()).await?;
        let newest: Option<i64> = row.map(|row| row.try_get_by_index(0)).transpose()?.flatten();
        Ok(newest.unwrap_or(0))
    }

    /// The patients of the cohort as they are now, in their order.
    async fn candidates(&self, cohort: &CountedCohort, today: NaiveDate) -> Result<Vec<Candidate>> {
        let counted = Then {
            day: format!("'{}'", cohort.as_of),
            revision: cohort.revision.to_string(),
            newest_visit: cohort.newest_visit.unwrap_or(i64::MAX).to_string(),
        };
        let backend = self.store.writer.get_database_backend();
        let came = came_after_sql(backend, "q.hospital_id", "q.id", &counted, today);
        let (booked, open) = (visits_by_patient(backend, "n"), status_sql(moves_freely));
        let select = format!(
            "SELECT p.id, q.id,
                CASE WHEN q.state = 'ACTIVE' THEN 1 ELSE 0 END,
                CASE WHEN EXISTS (SELECT 1 {came}) THEN 1 ELSE 0 END,
                CASE WHEN EXISTS (SELECT 1 FROM {booked} WHERE n.hospital_id = q.hospital_id AND n.patient_id = q.id
                    AND n.{open} AND n.date >= '{today}') THEN 1 ELSE 0 END,
                CASE WHEN q.do_not_contact THEN 1 ELSE 0 END,
                CASE WHEN q.phone IS NOT NULL THEN 1 ELSE 0 END
            FROM patient p
            JOIN patient q ON q.hospital_id = p.hospital_id AND q.id = COALESCE(p.merged_into, p.id)
            WHERE p.hospital_id = "
        );
        let mut candidates = Vec::with_capacity(cohort.patients.len());
        for ids in cohort.patients.chunks(IDS_PER_STATEMENT) {
            let mut sql = self.store.sql(&select);
            sql.bind(self.hospital).push(" AND p.id").numbers(ids);
            let mut found: HashMap<i64, Candidate> = HashMap::with_capacity(ids.len());
            for row in self.transaction.query_all_raw(sql.done()).await? {
                let flag = |index| Ok::<_, Error>(row.try_get_by_index::<i32>(index)? == 1);
                let candidate = Candidate {
                    id: row.try_get_by_index(0)?,
                    person: row.try_get_by_index(1)?,
                    is_active: flag(2)?,
                    came_since: flag(3)?,
                    has_next_visit: flag(4)?,
                    do_not_contact: flag(5)?,
                    has_phone: flag(6)?,
                };
                found.insert(candidate.id, candidate);
            }
            let of_id = |id: &i64| found.get(id).copied().unwrap_or(Candidate::deleted(*id));
            candidates.extend(ids.iter().map(of_id));
        }
        Ok(candidates)
    }

    /// A statement that inserts patients of a list as entries, or as left out for a reason. The patients are bound as one value.
    fn insert_patients(&self, list: i64, reason: Option<LeftOutReason>, patients: &[i64]) -> Sql {
        let mut sql = self.store.sql(match reason {
            None => "INSERT INTO recall_entry (hospital_id, list_id, patient_id, stands, version) SELECT ",
            Some(_) => "INSERT INTO recall_left_out (hospital_id, list_id, patient_id, reason) SELECT ",
        });
        sql.bind(self.hospital).push(", ").bind(list).push(", j.p, ");
        match reason {
            None => sql.push("TRUE, 1"),
            Some(reason) => sql.push(&format!("'{}'", reason.as_str())),
        };
        match sql.backend() {
            DbBackend::Postgres => sql
                .push(" FROM unnest(")
                .bind(patients.to_vec())
                .push("::bigint[]) WITH ORDINALITY j (p, n) ORDER BY j.n"),
            DbBackend::MySql => sql
                .push(" FROM JSON_TABLE(")
                .bind(json(patients))
                .push(", '$[*]' COLUMNS (n FOR ORDINALITY, p BIGINT PATH '$')) j ORDER BY j.n"),
            _ => sql
                .push(" FROM (SELECT key AS n, value AS p FROM json_each(")
                .bind(json(patients))
                .push(")) j ORDER BY j.n"),
        };
        sql
    }
}
