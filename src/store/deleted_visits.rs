//! The numbers of visits that staff deleted, so that an import does not insert them again.

use std::collections::HashSet;

use sea_orm::{ConnectionTrait, DatabaseTransaction};

use super::Store;
use crate::error::Result;

impl Store {
    /// Notes that a member of staff deleted the visit. Its row must be gone: a trigger has written the tombstone then.
    pub(super) async fn note_deleted(
        &self,
        transaction: &DatabaseTransaction,
        hospital: i64,
        (visit, visit_no): (i64, &str),
        staff: Option<i64>,
    ) -> Result<()> {
        let mut sql = self.sql("UPDATE visit_tombstone SET visit_no = ");
        sql.bind(visit_no).push(", deleted_by = ").bind(staff);
        sql.push(" WHERE hospital_id = ").bind(hospital);
        sql.push(" AND id = ").bind(visit);
        transaction.execute_raw(sql.done()).await?;
        Ok(())
    }

    /// Which of these numbers are of visits that staff deleted. Visits that SQL deleted do not count.
    pub(super) async fn deleted_by_staff(
        &self,
        view: &impl ConnectionTrait,
        hospital: i64,
        numbers: &[&str],
    ) -> Result<HashSet<String>> {
        let mut deleted = HashSet::new();
        if numbers.is_empty() {
            return Ok(deleted);
        }
        let mut sql = self.sql("SELECT visit_no FROM visit_tombstone WHERE hospital_id = ");
        sql.bind(hospital).push(" AND visit_no").texts(numbers);
        for row in view.query_all_raw(sql.done()).await? {
            deleted.insert(row.try_get_by_index(0)?);
        }
        Ok(deleted)
    }

    /// Forgets that visits of these numbers were deleted: there are such visits again.
    pub(super) async fn forget_deleted(
        &self,
        transaction: &DatabaseTransaction,
        hospital: i64,
        numbers: &[String],
    ) -> Result<()> {
        let numbers: Vec<&str> = numbers.iter().map(String::as_str).collect();
        for numbers in numbers.chunks(500) {
            let mut sql = self.sql("UPDATE visit_tombstone SET visit_no = NULL WHERE hospital_id = ");
            sql.bind(hospital).push(" AND visit_no").few(numbers);
            transaction.execute_raw(sql.done()).await?;
        }
        Ok(())
    }
}
