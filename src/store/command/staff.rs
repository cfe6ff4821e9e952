//! Changes of departments, doctors and staff.

use chrono::{SubsecRound as _, Utc};
use entity::{department, doctor, refresh_token, staff};
use sea_orm::ActiveValue::Set;
use sea_orm::{
    ActiveModelTrait as _, ColumnTrait as _, ConnectionTrait, EntityTrait, IntoActiveModel as _, PaginatorTrait as _,
    QueryFilter as _, QuerySelect as _,
};

use super::CommandTx;
use crate::error::{Error, Result};
use crate::password::{self, PasswordHash};
use crate::permissions::Role;
use crate::records::Patch;
use crate::statistics::MAX_DIMENSION_IDS;
use crate::store::hospital::full;
use crate::store::sql::one_count;

impl CommandTx<'_> {
    pub(super) async fn add_department(&self, name: &str) -> Result<i64> {
        self.refuse_taken("department", "name", "input.name", name, 0).await?;
        self.refuse_full("department").await?;
        self.insert("department", &[("name", name.into())]).await
    }

    pub(super) async fn change_department(&self, id: i64, name: Option<&str>, retired: Option<bool>) -> Result<i64> {
        let row = department::Entity::find_by_id((self.hospital, id))
            .one(&self.transaction)
            .await?;
        let row = row.ok_or_else(|| Error::unknown_id("input.id", "department"))?;
        let retired_at = since(row.retired_at, retired);
        let mut changed = row.into_active_model();
        if let Some(name) = name {
            self.refuse_taken("department", "name", "input.name", name, id).await?;
            changed.name = Set(name.to_owned());
        }
        changed.retired_at = Set(retired_at);
        changed.update(&self.transaction).await?;
        Ok(id)
    }

    pub(super) async fn add_doctor(&self, name: &str, department: Option<i64>) -> Result<i64> {
        self.refuse_taken("doctor", "name", "input.name", name, 0).await?;
        self.refuse_full("doctor").await?;
        let columns = [("name", name.into()), ("department_id", department.into())];
        self.insert("doctor", &columns).await
    }

    pub(super) async fn change_doctor(
        &self,
        id: i64,
        name: Option<&str>,
        department: &Patch<i64>,
        retired: Option<bool>,
    ) -> Result<i64> {
        let row = doctor::Entity::find_by_id((self.hospital, id))
            .one(&self.transaction)
            .await?;
        let row = row.ok_or_else(|| Error::unknown_id("input.id", "doctor"))?;
        let retired_at = since(row.retired_at, retired);
        let mut of = row.department_id;
        department.apply(&mut of);
        let mut changed = row.into_active_model();
        if let Some(name) = name {
            self.refuse_taken("doctor", "name", "input.name", name, id).await?;
            changed.name = Set(name.to_owned());
        }
        changed.department_id = Set(of);
        changed.retired_at = Set(retired_at);
        changed.update(&self.transaction).await?;
        Ok(id)
    }

    pub(super) async fn add_staff(&self, login: &str, name: &str, role: Role, password: &PasswordHash) -> Result<i64> {
        self.refuse_taken("staff", "login", "input.login", login, 0).await?;
        let columns = [
            ("login", login.into()),
            ("name", name.into()),
            ("role", role.as_str().into()),
            ("password_hash", password.as_str().into()),
            ("created_at", Utc::now().trunc_subsecs(6).into()),
        ];
        self.insert("staff", &columns).await
    }

    pub(super) async fn change_staff(
        &self,
        id: i64,
        name: Option<&str>,
        role: Option<Role>,
        disabled: Option<bool>,
    ) -> Result<i64> {
        let row = self.member(id).await?;
        let may_administer = |row: &staff::Model| row.role == Role::Admin.as_str() && row.disabled_at.is_none();
        let mut wanted = row.clone();
        if let Some(name) = name {
            name.clone_into(&mut wanted.name);
        }
        if let Some(role) = role {
            role.as_str().clone_into(&mut wanted.role);
        }
        wanted.disabled_at = since(row.disabled_at, disabled);
        self.write_member(&row, &wanted).await?;
        if may_administer(&row) && !may_administer(&wanted) && self.administrators().await? == 0 {
            let argument = if disabled == Some(true) {
                "input.disabled"
            } else {
                "input.role"
            };
            let message = "nobody would be left who may administer the hospital: make somebody else ADMIN first";
            return Err(Error::input(argument, message));
        }
        Ok(id)
    }

    pub(super) async fn set_password(
        &self,
        id: i64,
        password: &PasswordHash,
        verified: Option<&PasswordHash>,
    ) -> Result<i64> {
        let row = self.member(id).await?;
        if verified.is_some_and(|verified| verified.as_str() != row.password_hash) {
            return Err(password::incorrect());
        }
        let wanted = staff::Model {
            password_hash: password.as_str().to_owned(),
            ..row.clone()
        };
        self.write_member(&row, &wanted).await?;
        Ok(id)
    }

    async fn member(&self, id: i64) -> Result<staff::Model> {
        // Sessions begin and continue under this lock.
        let row = staff::Entity::find_by_id((self.hospital, id))
            .lock_exclusive()
            .one(&self.transaction)
            .await?;
        row.ok_or_else(|| Error::unknown_id("input.id", "member of staff"))
    }

    /// Writes the row. Another password or role, or a disabled account, ends the sessions; of each its access token is left,
    /// until that runs out.
    async fn write_member(&self, row: &staff::Model, wanted: &staff::Model) -> Result<()> {
        let rights = |row: &staff::Model| (row.password_hash.clone(), row.role.clone(), row.disabled_at);
        let ends_sessions = rights(row) != rights(wanted);
        let mut changed = row.clone().into_active_model();
        changed.name = Set(wanted.name.clone());
        changed.role = Set(wanted.role.clone());
        changed.disabled_at = Set(wanted.disabled_at);
        changed.password_hash = Set(wanted.password_hash.clone());
        changed.session_epoch = Set(row.session_epoch + i64::from(ends_sessions));
        changed.update(&self.transaction).await?;
        if ends_sessions {
            refresh_token::Entity::delete_many()
                .filter(refresh_token::Column::HospitalId.eq(self.hospital))
                .filter(refresh_token::Column::StaffId.eq(row.id))
                .exec(&self.transaction)
                .await?;
        }
        Ok(())
    }

    async fn administrators(&self) -> Result<u64> {
        let enabled = staff::Entity::find()
            .filter(staff::Column::HospitalId.eq(self.hospital))
            .filter(staff::Column::Role.eq(Role::Admin.as_str()))
            .filter(staff::Column::DisabledAt.is_null());
        Ok(enabled.count(&self.transaction).await?)
    }

    /// Refuses one more department or doctor than a hospital may have.
    async fn refuse_full(&self, table: &str) -> Result<()> {
        let mut sql = self
            .store
            .sql(&format!("SELECT COUNT(*) FROM {table} WHERE hospital_id = "));
        sql.bind(self.hospital);
        if one_count(self.transaction.query_one_raw(sql.done()).await?)? < u64::from(MAX_DIMENSION_IDS) {
            return Ok(());
        }
        Err(Error::input("input.name", full(table)))
    }

    pub(super) async fn refuse_taken(
        &self,
        table: &str,
        column: &str,
        argument: &str,
        value: &str,
        but: i64,
    ) -> Result<()> {
        let mut sql = self.store.sql(&format!("SELECT id FROM {table} WHERE hospital_id = "));
        sql.bind(self.hospital).push(&format!(" AND {column} = ")).bind(value);
        sql.push(" AND id <> ").bind(but);
        if self.transaction.query_one_raw(sql.done()).await?.is_some() {
            return Err(Error::input(
                argument,
                format!("another {table} has this {}", column.replace('_', " ")),
            ));
        }
        Ok(())
    }
}

/// Since when something holds that is now so, not so, or as it was.
fn since(before: Option<chrono::DateTime<Utc>>, now: Option<bool>) -> Option<chrono::DateTime<Utc>> {
    match now {
        None => before,
        Some(false) => None,
        Some(true) => before.or_else(|| Some(Utc::now().trunc_subsecs(6))),
    }
}
