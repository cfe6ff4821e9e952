//! Hospitals with their definitions, departments, doctors and staff.

use chrono::Utc;
use entity::{definition, department, doctor, hospital, staff};
use sea_orm::ActiveValue::{NotSet, Set};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect as _};

use super::model::{Department, Doctor, Hospital, StaffMember};
use super::{Store, unknown_value};
use crate::error::{Error, Result};
use crate::statistics::{Definition, MAX_DIMENSION_IDS, WeekStart};

/// A hospital to add.
#[derive(Clone, Debug)]
pub struct NewHospital {
    /// Unique: what staff enter to sign in.
    pub code: String,
    pub name: String,
    /// ISO 3166-1 alpha-2: how phone numbers without a country code are read.
    pub country: Option<String>,
    pub time_zone: chrono_tz::Tz,
    pub week_start: WeekStart,
    pub churn_after_days: i32,
    pub overdue_after_days: Option<i32>,
}

/// Why one more department or doctor is refused.
pub(super) fn full(table: &str) -> String {
    format!(
        "the hospital already has {MAX_DIMENSION_IDS} {table}s, retired ones included, and may not have more: rename one that is not needed"
    )
}

pub(super) fn week_start(stored: &str) -> Result<WeekStart> {
    WeekStart::parse(stored).ok_or_else(|| unknown_value("hospital.week_start", stored))
}

impl Store {
    /// Adds a hospital with its first definition. Returns its id.
    ///
    /// # Errors
    /// BAD_USER_INPUT where another hospital has the code. Where the database fails.
    pub async fn add_hospital(&self, new: &NewHospital) -> Result<i64> {
        if self.hospital_by_code(&new.code).await?.is_some() {
            return Err(Error::input(
                "code",
                format!("the hospital {} already exists", new.code),
            ));
        }
        let transaction = self.begin_write().await?;
        let row = hospital::ActiveModel {
            id: NotSet,
            code: Set(new.code.clone()),
            name: Set(new.name.clone()),
            country: Set(new.country.clone()),
            time_zone: Set(new.time_zone.name().to_owned()),
            week_start: Set(new.week_start.as_str().to_owned()),
            created_at: Set(Utc::now()),
            slot_minutes: NotSet,
            tentative_minutes: NotSet,
        };
        let id = hospital::Entity::insert(row).exec(&transaction).await?.last_insert_id;
        let first = definition::ActiveModel {
            hospital_id: Set(id),
            version: Set(1),
            churn_after_days: Set(new.churn_after_days),
            overdue_after_days: Set(new.overdue_after_days),
            effective_from: Set(Utc::now()),
        };
        definition::Entity::insert(first)
            .exec_without_returning(&transaction)
            .await?;
        transaction.commit().await?;
        Ok(id)
    }

    /// The hospital with this code.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn hospital_by_code(&self, code: &str) -> Result<Option<Hospital>> {
        let found = hospital::Entity::find()
            .filter(hospital::Column::Code.eq(code))
            .one(&self.readers)
            .await?;
        found.map(Hospital::try_from).transpose()
    }

    /// The hospital with this id.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn hospital(&self, hospital: i64) -> Result<Option<Hospital>> {
        let found = hospital::Entity::find_by_id(hospital).one(&self.readers).await?;
        found.map(Hospital::try_from).transpose()
    }

    /// The ids of all hospitals, for background jobs.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn hospitals(&self) -> Result<Vec<i64>> {
        let ids = hospital::Entity::find().select_only().column(hospital::Column::Id);
        Ok(ids.into_tuple().all(&self.readers).await?)
    }

    /// A version of the hospital's definition.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn definition(&self, hospital: i64, version: i32) -> Result<Option<definition::Model>> {
        Ok(definition::Entity::find_by_id((hospital, version))
            .one(&self.readers)
            .await?)
    }

    /// The hospital's departments, by name.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn departments(&self, hospital: i64) -> Result<Vec<Department>> {
        let found = department::Entity::find()
            .filter(department::Column::HospitalId.eq(hospital))
            .order_by_asc(department::Column::Name)
            .all(&self.readers)
            .await?;
        Ok(found.into_iter().map(Department::from).collect())
    }

    /// The hospital's doctors, by name.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn doctors(&self, hospital: i64) -> Result<Vec<Doctor>> {
        let found = doctor::Entity::find()
            .filter(doctor::Column::HospitalId.eq(hospital))
            .order_by_asc(doctor::Column::Name)
            .all(&self.readers)
            .await?;
        Ok(found.into_iter().map(Doctor::from).collect())
    }

    /// The hospital's staff, by login.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn staff(&self, hospital: i64) -> Result<Vec<StaffMember>> {
        let found = staff::Entity::find()
            .filter(staff::Column::HospitalId.eq(hospital))
            .order_by_asc(staff::Column::Login)
            .all(&self.readers)
            .await?;
        found.into_iter().map(StaffMember::try_from).collect()
    }

    /// The staff member with this login.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn staff_by_login(&self, hospital: i64, login: &str) -> Result<Option<StaffMember>> {
        let found = staff::Entity::find()
            .filter(staff::Column::HospitalId.eq(hospital))
            .filter(staff::Column::Login.eq(login))
            .one(&self.readers)
            .await?;
        found.map(StaffMember::try_from).transpose()
    }

    /// The staff member with this id.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn staff_member(&self, hospital: i64, id: i64) -> Result<Option<StaffMember>> {
        let found = staff::Entity::find_by_id((hospital, id)).one(&self.readers).await?;
        found.map(StaffMember::try_from).transpose()
    }
}

/// The rules of a stored definition.
pub fn definition_of(row: &definition::Model) -> Definition {
    Definition {
        version: row.version,
        churn_after_days: row.churn_after_days,
        overdue_after_days: row.overdue_after_days,
    }
}
