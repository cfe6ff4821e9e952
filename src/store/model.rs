//! What the store returns: rows converted once, with strings of enums parsed and what is encrypted still sealed.

use chrono::{DateTime, NaiveDate, Utc};
use chrono_tz::Tz;
use entity::{audit_entry, department, doctor, hospital, patient, staff, visit, visit_tombstone};
use string_enum::string_enum;

use super::AuditAction;
use crate::error::{Error, Result};
use crate::password::PasswordHash;
use crate::permissions::Role;
use crate::records::Sex;
use crate::secrets::Secrets;
use crate::statistics::{CohortKind, VisitChannel, VisitStatus};

string_enum!(
    /// What became of a patient's record.
    RecordState {
        Active = "ACTIVE",
        Merged = "MERGED",
        Erased = "ERASED",
    }
);

/// The kind of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ListKind {
    /// A cohort of a bucket.
    Cohort(CohortKind),
    /// A list that is derived from others.
    Derived,
}

impl ListKind {
    const DERIVED: &'static str = "DERIVED";

    /// The word that is stored.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cohort(kind) => kind.as_str(),
            Self::Derived => Self::DERIVED,
        }
    }

    /// The kind with this word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        if word == Self::DERIVED {
            return Some(Self::Derived);
        }
        CohortKind::parse(word).map(Self::Cohort)
    }

    /// The number that ids and cursors contain.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Cohort(kind) => kind as u8,
            Self::Derived => u8::MAX,
        }
    }

    /// The kind with this number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        if number == u8::MAX {
            return Some(Self::Derived);
        }
        CohortKind::from_index(number).map(Self::Cohort)
    }
}

/// A text that is stored encrypted.
#[derive(Clone, Debug)]
pub struct SealedText {
    hospital: i64,
    purpose: &'static str,
    sealed: Vec<u8>,
}

impl SealedText {
    pub(crate) const fn new(hospital: i64, purpose: &'static str, sealed: Vec<u8>) -> Self {
        Self {
            hospital,
            purpose,
            sealed,
        }
    }

    /// Decrypts the text.
    ///
    /// # Errors
    /// Where no key of the key file fits.
    pub fn open(&self, secrets: &Secrets) -> Result<String> {
        secrets.open_sealed(self.hospital, self.purpose, &self.sealed)
    }
}

/// A patient.
#[derive(Clone, Debug)]
pub struct Patient {
    pub id: i64,
    pub state: RecordState,
    /// The patient that this one was merged into; also after that one was erased with it.
    pub merged_into: Option<i64>,
    /// None once erased.
    pub chart_no: Option<String>,
    pub name: Option<String>,
    /// E.164.
    pub phone: Option<SealedText>,
    pub birth_date: Option<NaiveDate>,
    pub birth_year: Option<i32>,
    pub sex: Sex,
    pub registered_on: Option<NaiveDate>,
    pub memo: Option<SealedText>,
    /// The patient does not want to be called or written to.
    pub do_not_contact: bool,
    pub version: i32,
}

impl Patient {
    /// What is shown of a patient whose row is gone.
    #[must_use]
    pub const fn erased(id: i64) -> Self {
        Self {
            id,
            state: RecordState::Erased,
            merged_into: None,
            chart_no: None,
            name: None,
            phone: None,
            birth_date: None,
            birth_year: None,
            sex: Sex::Unknown,
            registered_on: None,
            memo: None,
            do_not_contact: false,
            version: 0,
        }
    }
}

impl TryFrom<patient::Model> for Patient {
    type Error = Error;

    fn try_from(row: patient::Model) -> Result<Self> {
        let sealed =
            |purpose, sealed: Option<Vec<u8>>| sealed.map(|sealed| SealedText::new(row.hospital_id, purpose, sealed));
        Ok(Self {
            id: row.id,
            state: stored("patient.state", RecordState::parse(&row.state))?,
            merged_into: row.merged_into,
            chart_no: row.chart_no,
            name: row.name,
            phone: sealed("phone", row.phone),
            birth_date: row.birth_date,
            birth_year: row.birth_year,
            sex: stored("patient.sex", Sex::parse(&row.sex))?,
            registered_on: row.registered_on,
            memo: sealed("memo", row.memo),
            do_not_contact: row.do_not_contact,
            version: row.version,
        })
    }
}

/// A visit.
#[derive(Clone, Debug)]
pub struct Visit {
    pub id: i64,
    pub visit_no: Option<String>,
    pub patient: i64,
    /// In the hospital's time zone.
    pub date: NaiveDate,
    pub scheduled_at: Option<DateTime<Utc>>,
    pub status: VisitStatus,
    pub department: Option<i64>,
    pub doctor: Option<i64>,
    pub channel: VisitChannel,
    pub version: i32,
    pub duration_minutes: Option<i32>,
    pub checked_in_at: Option<DateTime<Utc>>,
    pub started_at: Option<DateTime<Utc>>,
    pub completed_at: Option<DateTime<Utc>>,
    /// When it lapses; of TENTATIVE visits only.
    pub expires_at: Option<DateTime<Utc>>,
    pub note: Option<SealedText>,
    /// The row is gone: what is not known any more is empty.
    pub deleted: bool,
}

impl TryFrom<visit::Model> for Visit {
    type Error = Error;

    fn try_from(row: visit::Model) -> Result<Self> {
        Ok(Self {
            id: row.id,
            visit_no: row.visit_no,
            patient: row.patient_id,
            date: row.date,
            scheduled_at: row.scheduled_at.map(|at| at.0),
            status: stored("visit.status", VisitStatus::parse(&row.status))?,
            department: row.department_id,
            doctor: row.doctor_id,
            channel: stored("visit.channel", VisitChannel::parse(&row.channel))?,
            version: row.version,
            duration_minutes: row.duration_minutes,
            checked_in_at: row.checked_in_at,
            started_at: row.started_at,
            completed_at: row.completed_at,
            expires_at: row.expires_at,
            note: row.note.map(|sealed| SealedText::new(row.hospital_id, "note", sealed)),
            deleted: false,
        })
    }
}

impl Visit {
    /// A visit whose row is gone: what is left of it.
    #[must_use]
    pub const fn deleted(id: i64, patient: i64, date: NaiveDate, status: VisitStatus, channel: VisitChannel) -> Self {
        Self {
            id,
            visit_no: None,
            patient,
            date,
            scheduled_at: None,
            status,
            department: None,
            doctor: None,
            channel,
            version: 0,
            duration_minutes: None,
            checked_in_at: None,
            started_at: None,
            completed_at: None,
            expires_at: None,
            note: None,
            deleted: true,
        }
    }
}

impl TryFrom<visit_tombstone::Model> for Visit {
    type Error = Error;

    fn try_from(row: visit_tombstone::Model) -> Result<Self> {
        let status = stored("visit_tombstone.status", VisitStatus::parse(&row.status))?;
        let channel = stored("visit_tombstone.channel", VisitChannel::parse(&row.channel))?;
        Ok(Self::deleted(row.id, row.patient_id, row.date, status, channel))
    }
}

/// A department.
#[derive(Clone, Debug)]
pub struct Department {
    pub id: i64,
    pub name: String,
    pub retired_at: Option<DateTime<Utc>>,
}

impl From<department::Model> for Department {
    fn from(row: department::Model) -> Self {
        Self {
            id: row.id,
            name: row.name,
            retired_at: row.retired_at,
        }
    }
}

/// A doctor.
#[derive(Clone, Debug)]
pub struct Doctor {
    pub id: i64,
    pub name: String,
    pub department: Option<i64>,
    pub retired_at: Option<DateTime<Utc>>,
    /// None: the hospital's.
    pub slot_minutes: Option<i32>,
}

impl From<doctor::Model> for Doctor {
    fn from(row: doctor::Model) -> Self {
        Self {
            id: row.id,
            name: row.name,
            department: row.department_id,
            retired_at: row.retired_at,
            slot_minutes: row.slot_minutes,
        }
    }
}

/// A hospital.
#[derive(Clone, Debug)]
pub struct Hospital {
    pub id: i64,
    /// The name that staff sign in with.
    pub code: String,
    pub name: String,
    /// ISO 3166-1 alpha-2.
    pub country: Option<String>,
    pub time_zone: Tz,
    /// What a booking takes unless it or its doctor says otherwise.
    pub slot_minutes: i32,
    /// How long a TENTATIVE booking is held.
    pub tentative_minutes: i32,
}

impl TryFrom<hospital::Model> for Hospital {
    type Error = Error;

    fn try_from(row: hospital::Model) -> Result<Self> {
        Ok(Self {
            id: row.id,
            code: row.code,
            name: row.name,
            country: row.country,
            time_zone: stored("hospital.time_zone", row.time_zone.parse().ok())?,
            slot_minutes: row.slot_minutes,
            tentative_minutes: row.tentative_minutes,
        })
    }
}

/// A member of staff.
#[derive(Clone, Debug)]
pub struct StaffMember {
    pub hospital: i64,
    pub id: i64,
    pub login: String,
    pub name: String,
    pub role: Role,
    pub password_hash: PasswordHash,
    pub disabled_at: Option<DateTime<Utc>>,
    pub created_at: DateTime<Utc>,
}

impl TryFrom<staff::Model> for StaffMember {
    type Error = Error;

    fn try_from(row: staff::Model) -> Result<Self> {
        Ok(Self {
            hospital: row.hospital_id,
            id: row.id,
            login: row.login,
            name: row.name,
            role: stored("staff.role", Role::parse(&row.role))?,
            password_hash: PasswordHash::from_stored(&row.password_hash),
            disabled_at: row.disabled_at,
            created_at: row.created_at,
        })
    }
}

/// An entry of the audit.
#[derive(Clone, Debug)]
pub struct AuditEntry {
    pub id: i64,
    pub at: DateTime<Utc>,
    /// None where it was the command line, or a sign-in with an unknown login.
    pub staff: Option<i64>,
    pub action: AuditAction,
    pub what: Option<String>,
    pub snapshot: Option<String>,
    /// -1 is the total.
    pub bucket: Option<i32>,
    pub cohort: Option<String>,
    pub request_id: Option<String>,
}

impl TryFrom<audit_entry::Model> for AuditEntry {
    type Error = Error;

    fn try_from(row: audit_entry::Model) -> Result<Self> {
        Ok(Self {
            id: row.id,
            at: row.at,
            staff: row.staff_id,
            action: stored("audit_entry.action", AuditAction::parse(&row.action))?,
            what: row.what,
            snapshot: row.snapshot_id,
            bucket: row.bucket,
            cohort: row.cohort,
            request_id: row.request_id,
        })
    }
}

/// The value of a stored string. The error names the column alone.
pub(super) fn stored<T>(column: &str, value: Option<T>) -> Result<T> {
    value.ok_or_else(|| Error::Internal(format!("{column} holds an unknown value")))
}
