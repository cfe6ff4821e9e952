//! Patients as rows by id, and what lists of them are sorted by.

use std::collections::HashMap;

use entity::{patient, patient_tombstone};
use sea_orm::{ConnectionTrait, DbBackend, FromQueryResult};
use string_enum::string_enum;

use super::Store;
use super::model::{Patient, RecordState};
use super::sql::IDS_PER_STATEMENT;
use super::visit::attended_sql;
use crate::error::Result;
use crate::records::Sex;

string_enum!(
    /// What patients are ordered by; nulls last, ties by id. Stored orders are named by these texts.
    PatientKey {
        Name = "Name",
        ChartNo = "ChartNo",
        RegisteredOn = "RegisteredOn",
        FirstVisit = "FirstVisit",
        LastVisit = "LastVisit",
    }
);

/// A row of a sorted list, and its sort key.
pub type KeyedPatient = (Patient, Option<String>);

/// The row of an erased patient.
pub(super) fn erased_patient(hospital: i64, id: i64) -> patient::Model {
    patient::Model {
        hospital_id: hospital,
        id,
        state: RecordState::Erased.as_str().to_owned(),
        merged_into: None,
        chart_no: None,
        name: None,
        indexed_name: None,
        phone: None,
        phone_index: None,
        phone_last_four: None,
        phone_endings: None,
        birth_date: None,
        birth_year: None,
        sex: Sex::Unknown.as_str().to_owned(),
        registered_on: None,
        memo: None,
        do_not_contact: false,
        version: 0,
    }
}

impl Store {
    /// The patients with these ids. Deleted ones are ERASED; ids that never existed are left out.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn patients_by_id(&self, hospital: i64, ids: &[i64]) -> Result<HashMap<i64, Patient>> {
        let mut sql = self.sql("SELECT * FROM patient WHERE hospital_id = ");
        sql.bind(hospital).push(" AND id").numbers(ids);
        let mut found = HashMap::with_capacity(ids.len());
        for row in self.readers.query_all_raw(sql.done()).await? {
            let row = patient::Model::from_query_result(&row, "")?;
            found.insert(row.id, Patient::try_from(row)?);
        }
        if found.len() < ids.len() {
            let mut sql = self.sql("SELECT * FROM patient_tombstone WHERE hospital_id = ");
            sql.bind(hospital).push(" AND id").numbers(ids);
            for row in self.readers.query_all_raw(sql.done()).await? {
                let row = patient_tombstone::Model::from_query_result(&row, "")?;
                found.entry(row.id).or_insert_with(|| Patient::erased(row.id));
            }
        }
        Ok(found)
    }

    /// The current sort keys of these patients. Not for keys that depend on visits, which a cohort's list has itself.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn patient_sort_keys(
        &self,
        hospital: i64,
        ids: &[i64],
        key: PatientKey,
    ) -> Result<HashMap<i64, Option<String>>> {
        let expression = self.patient_key(key, chrono::NaiveDate::MIN);
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        ids.dedup();
        let mut keys = HashMap::with_capacity(ids.len());
        // One view: rows may change between the statements.
        let view = self.read_view().await?;
        for ids in ids.chunks(IDS_PER_STATEMENT) {
            let mut sql = self.sql(&format!(
                "SELECT p.id, {expression} FROM patient p WHERE p.hospital_id = "
            ));
            sql.bind(hospital).push(" AND p.id").numbers(ids);
            for row in view.query_all_raw(sql.done()).await? {
                keys.insert(row.try_get_by_index(0)?, row.try_get_by_index(1)?);
            }
        }
        view.commit().await?;
        Ok(keys)
    }

    /// The SQL of a date as text.
    pub(super) fn date_text(&self, expression: &str) -> String {
        match self.readers.get_database_backend() {
            DbBackend::MySql => format!("DATE_FORMAT({expression}, '%Y-%m-%d')"),
            DbBackend::Postgres => format!("CAST({expression} AS TEXT) COLLATE \"C\""),
            _ => expression.to_owned(),
        }
    }

    /// The SQL of a sort key as text. A date sorts as text as it does as a date.
    pub(super) fn patient_key(&self, key: PatientKey, today: chrono::NaiveDate) -> String {
        let date = |expression: String| self.date_text(&expression);
        let visit = |end: &str| {
            date(format!(
                "(SELECT {end}(v.date) FROM visit v WHERE v.hospital_id = p.hospital_id AND v.patient_id = p.id
                    AND v.{} AND v.date <= '{today}')",
                attended_sql()
            ))
        };
        match key {
            PatientKey::Name => "p.name".to_owned(),
            PatientKey::ChartNo => "p.chart_no".to_owned(),
            PatientKey::RegisteredOn => date("p.registered_on".to_owned()),
            PatientKey::FirstVisit => visit("MIN"),
            PatientKey::LastVisit => visit("MAX"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secrets::Secrets;
    use crate::store::OpenMode;

    /// One statement with three million ids would be larger than a packet that a database accepts.
    #[tokio::test]
    async fn many_ids_are_split_over_statements() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("test.db").display());
        let secrets = Secrets::open(&folder.path().join("key"), true).unwrap();
        let store = Store::connect(&url, secrets, OpenMode::Create, std::sync::Arc::default())
            .await
            .unwrap();
        store.migrate().await.unwrap();
        let parts: i64 = 3;
        let known = parts * i64::try_from(IDS_PER_STATEMENT).unwrap();
        for sql in [
            "INSERT INTO hospital (id, code, name, time_zone, week_start, created_at) VALUES (1, 'H1', 'One', 'Asia/Seoul', 'MONDAY', '2025-01-01')".to_owned(),
            format!("WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {known})
                INSERT INTO patient (id, hospital_id, state, chart_no, sex) SELECT n, 1, 'ACTIVE', n, 'UNKNOWN' FROM numbers"),
        ] {
            store.writer.execute_unprepared(&sql).await.unwrap();
        }
        // As in a list of visits, where patients occur more than once.
        let ids: Vec<i64> = (1..=known).chain(1..=known).collect();
        let statements = || {
            let text = store.metrics().text(0, 0, &[]).unwrap();
            let line = text
                .lines()
                .find(|line| line.starts_with("rollcall_database_statements_total "))
                .unwrap();
            line.rsplit(' ').next().unwrap().parse::<i64>().unwrap()
        };
        let before = statements();
        let keys = store.patient_sort_keys(1, &ids, PatientKey::ChartNo).await.unwrap();
        assert_eq!(statements() - before, parts);
        assert!((1..=known).all(|id| keys[&id].as_deref() == Some(id.to_string().as_str())));
        store.close().await.unwrap();
    }
}
