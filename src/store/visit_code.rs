//! The codes of visits. A code is derived from its visit, purpose and counter, so that it can be told again although only a keyed hash of
//! it is stored.

use chrono::{DateTime, Utc};
use entity::visit_code;
use sea_orm::EntityTrait as _;

use super::Store;
use super::hospital_secret::HospitalSecret;
use crate::error::{Error, Result};
use crate::scheduling::{VisitCode, VisitCodePurpose};

/// A code that was issued.
#[derive(Clone, Copy, Debug)]
pub struct IssuedCode {
    pub code: VisitCode,
    pub expires_at: DateTime<Utc>,
}

impl HospitalSecret {
    /// The code of the visit and purpose with this counter.
    pub(super) fn visit_code(&self, visit: i64, purpose: VisitCodePurpose, counter: i32) -> Result<VisitCode> {
        let text = format!("{visit} {} {counter}", purpose.as_str());
        self.hash("visit code", &text).map(VisitCode::from_bytes)
    }

    /// What is stored of a code.
    pub(super) fn of_visit_code(&self, code: VisitCode) -> Result<String> {
        self.hex_hash("hash of a visit code", &code.to_string())
    }
}

impl Store {
    /// The code that was issued with this counter.
    ///
    /// # Errors
    /// Where there is none. Where the database fails.
    pub async fn issued_code(
        &self,
        hospital: i64,
        visit: i64,
        purpose: VisitCodePurpose,
        counter: i64,
    ) -> Result<IssuedCode> {
        let missing = || Error::Internal("a code that was issued is gone".to_owned());
        let counter = i32::try_from(counter).map_err(|_| missing())?;
        let key = (hospital, visit, purpose.as_str().to_owned(), counter);
        let row = visit_code::Entity::find_by_id(key).one(&self.readers).await?;
        let row = row.ok_or_else(missing)?;
        let secret = self.hospital_secret(&self.readers, hospital).await?;
        Ok(IssuedCode {
            code: secret.ok_or_else(missing)?.visit_code(visit, purpose, counter)?,
            expires_at: row.expires_at,
        })
    }
}
