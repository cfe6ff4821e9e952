//! A patient of a hospital.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "patient")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub hospital_id: i64,
    #[sea_orm(primary_key)]
    pub id: i64,
    /// ACTIVE, MERGED or ERASED.
    pub state: String,
    pub merged_into: Option<i64>,
    /// None once erased.
    pub chart_no: Option<String>,
    pub name: Option<String>,
    /// The name that the rows of `patient_name_suffix` were made from; none while the patient is not ACTIVE.
    pub indexed_name: Option<String>,
    /// E.164, encrypted.
    pub phone: Option<Vec<u8>>,
    /// A keyed hash of the phone, for exact look-ups.
    pub phone_index: Option<Vec<u8>>,
    /// A keyed hash of its last four digits.
    pub phone_last_four: Option<Vec<u8>>,
    /// Keyed hashes of its last five, six, … digits, 8 bytes each.
    pub phone_endings: Option<Vec<u8>>,
    pub birth_date: Option<Date>,
    pub birth_year: Option<i32>,
    /// FEMALE, MALE, OTHER or UNKNOWN.
    pub sex: String,
    pub registered_on: Option<Date>,
    /// Encrypted.
    pub memo: Option<Vec<u8>>,
    /// The patient does not want to be called or written to.
    pub do_not_contact: bool,
    pub version: i32,
}

impl ActiveModelBehavior for ActiveModel {}
