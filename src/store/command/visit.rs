//! What the commands on visits have in common.

use entity::visit;
use sea_orm::{ConnectionTrait as _, EntityTrait as _};

use super::transaction::{CommandTx, check_version};
use crate::error::{Error, Result};
use crate::records::{Patch, VisitDraft};

impl CommandTx<'_> {
    /// The row with the draft's values, but for the schedule, which depends on the time zone.
    pub(super) async fn visit_after(&self, row: &visit::Model, draft: &VisitDraft<i64>) -> Result<visit::Model> {
        if let Patch::Put(visit_no) = &draft.visit_no {
            self.refuse_taken("visit", "visit_no", "input.visitNo", visit_no, row.id)
                .await?;
        }
        let wanted = self.store.visit_with(row, draft)?;
        if wanted.department_id != row.department_id {
            self.refuse_retired("department", "input.departmentId", wanted.department_id)
                .await?;
        }
        if wanted.doctor_id != row.doctor_id {
            self.refuse_retired("doctor", "input.doctorId", wanted.doctor_id)
                .await?;
        }
        Ok(wanted)
    }

    pub(super) async fn refuse_retired(&self, table: &str, argument: &str, id: Option<i64>) -> Result<()> {
        let Some(id) = id else { return Ok(()) };
        let mut sql = self.store.sql(&format!("SELECT id FROM {table} WHERE hospital_id = "));
        sql.bind(self.hospital).push(" AND id = ").bind(id);
        sql.push(" AND retired_at IS NOT NULL");
        if self.transaction.query_one_raw(sql.done()).await?.is_some() {
            return Err(Error::input(argument, format!("this {table} is retired")));
        }
        Ok(())
    }

    /// The visit, where it has this version.
    pub(super) async fn visit(&self, id: i64, version: i32) -> Result<visit::Model> {
        let row = self.visit_of("input.id", id).await?;
        check_version("the visit", version, row.version)?;
        Ok(row)
    }

    /// The visit that an argument names.
    pub(super) async fn visit_of(&self, argument: &str, id: i64) -> Result<visit::Model> {
        let found = visit::Entity::find_by_id((self.hospital, id))
            .one(&self.transaction)
            .await?;
        found.ok_or_else(|| Error::unknown_id(argument, "visit"))
    }
}
