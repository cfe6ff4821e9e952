//! What narrowed lists ask of patients, and who stays where records were merged.

use std::collections::HashMap;

use chrono::NaiveDate;
use scheduling::moves_freely;
use sea_orm::ConnectionTrait as _;

use super::Store;
use super::model::stored;
use super::recall::visits_by_patient;
use super::sql::IDS_PER_STATEMENT;
use super::visit::status_sql;
use crate::error::Result;
use crate::records::Sex;

/// What is known of a patient now; of who stays where records were merged.
#[derive(Clone, Copy, Debug)]
pub struct PatientFacts {
    pub sex: Sex,
    pub birth_year: Option<i32>,
    pub has_phone: bool,
    /// There is a TENTATIVE or BOOKED visit today or later.
    pub has_next_visit: bool,
    /// The record is ACTIVE, and the patient did not ask not to be contacted.
    pub may_be_contacted: bool,
}

impl Store {
    /// What is known of these patients; those whose row is gone are left out.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn patient_facts(
        &self,
        hospital: i64,
        patients: &[i64],
        today: NaiveDate,
    ) -> Result<HashMap<i64, PatientFacts>> {
        let booked = visits_by_patient(self.readers.get_database_backend(), "n");
        let open = status_sql(moves_freely);
        let select = format!(
            "SELECT p.id, q.sex, q.birth_year,
                CASE WHEN q.phone IS NOT NULL THEN 1 ELSE 0 END,
                CASE WHEN EXISTS (SELECT 1 FROM {booked} WHERE n.hospital_id = q.hospital_id AND n.patient_id = q.id
                    AND n.{open} AND n.date >= '{today}') THEN 1 ELSE 0 END,
                CASE WHEN q.state = 'ACTIVE' AND NOT q.do_not_contact THEN 1 ELSE 0 END
            FROM patient p
            JOIN patient q ON q.hospital_id = p.hospital_id AND q.id = COALESCE(p.merged_into, p.id)
            WHERE p.hospital_id = "
        );
        let mut facts = HashMap::with_capacity(patients.len());
        // One view: rows may change between the statements.
        let view = self.read_view().await?;
        for ids in patients.chunks(IDS_PER_STATEMENT) {
            let mut sql = self.sql(&select);
            sql.bind(hospital).push(" AND p.id").numbers(ids);
            for row in view.query_all_raw(sql.done()).await? {
                let flag = |index| Ok::<_, sea_orm::DbErr>(row.try_get_by_index::<i32>(index)? == 1);
                let sex: String = row.try_get_by_index(1)?;
                let known = PatientFacts {
                    sex: stored("patient.sex", Sex::parse(&sex))?,
                    birth_year: row.try_get_by_index(2)?,
                    has_phone: flag(3)?,
                    has_next_visit: flag(4)?,
                    may_be_contacted: flag(5)?,
                };
                facts.insert(row.try_get_by_index(0)?, known);
            }
        }
        view.commit().await?;
        Ok(facts)
    }

    /// The sex and birth year of each of these patients; those whose row is gone are left out.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn sexes_and_birth_years(
        &self,
        hospital: i64,
        patients: &[i64],
    ) -> Result<HashMap<i64, (Sex, Option<i32>)>> {
        let mut found = HashMap::with_capacity(patients.len());
        let view = self.read_view().await?;
        for ids in patients.chunks(IDS_PER_STATEMENT) {
            let mut sql = self.sql("SELECT id, sex, birth_year FROM patient WHERE hospital_id = ");
            sql.bind(hospital).push(" AND id").numbers(ids);
            for row in view.query_all_raw(sql.done()).await? {
                let sex: String = row.try_get_by_index(1)?;
                let sex = stored("patient.sex", Sex::parse(&sex))?;
                found.insert(row.try_get_by_index(0)?, (sex, row.try_get_by_index(2)?));
            }
        }
        view.commit().await?;
        Ok(found)
    }

    /// The hospital's patients whose record was merged, each with who stays.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn merged_into(&self, hospital: i64) -> Result<HashMap<i64, i64>> {
        let mut sql = self.sql("SELECT id, merged_into FROM patient WHERE merged_into IS NOT NULL AND hospital_id = ");
        sql.bind(hospital);
        let rows = self.readers.query_all_raw(sql.done()).await?;
        let pair = |row: &sea_orm::QueryResult| Ok((row.try_get_by_index(0)?, row.try_get_by_index(1)?));
        rows.iter().map(pair).collect()
    }
}
