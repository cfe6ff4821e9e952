//! Confirms or checks in a visit by its code.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use entity::{patient, visit, visit_code};
use sea_orm::{ColumnTrait as _, EntityTrait as _, QueryFilter as _, QueryOrder as _};

use super::booking::Override;
use super::digest::DigestFields;
use super::transaction::CommandTx;
use super::{Command, CommandInfo, Outcome};
use crate::error::{Error, Result};
use crate::permissions::Action;
use crate::scheduling::{VisitCode, VisitCodePurpose, check, has_lapsed, moment};
use crate::statistics::VisitStatus;
use crate::store::hospital_secret::HospitalSecret;
use crate::store::{Hospital, RecordState};

/// Changes the status of the code's visit as the purpose says. The code is used up.
#[derive(Clone, Debug)]
pub struct UseVisitCode {
    pub purpose: VisitCodePurpose,
    /// None where what was entered is no code.
    pub code: Option<VisitCode>,
}

impl UseVisitCode {
    pub(super) const CONFIRM: CommandInfo = CommandInfo {
        name: "confirmVisit",
        mutation: Some("confirmVisit"),
        action: Action::UseVisitCodes,
        description: "to confirm a visit by code",
    };
    pub(super) const CHECK_IN: CommandInfo = CommandInfo {
        name: "checkInVisit",
        mutation: Some("checkInVisit"),
        action: Action::UseVisitCodes,
        description: "to check in a visit by code",
    };
}

/// What was found for a code, as far as there is anything.
struct Found {
    code: Option<visit_code::Model>,
    /// The newest code of the visit and the purpose asked for.
    newest: Option<visit_code::Model>,
    visit: Option<visit::Model>,
    patient: Option<patient::Model>,
    hospital: Hospital,
}

impl Found {
    /// Whether the code changes the status of its visit now.
    fn is_usable(&self, purpose: VisitCodePurpose, now: DateTime<Utc>) -> bool {
        let (Some(code), Some(newest), Some(visit), Some(patient)) =
            (&self.code, &self.newest, &self.visit, &self.patient)
        else {
            return false;
        };
        let zone = self.hospital.time_zone;
        let (from, to) = purpose.transition();
        code.purpose == purpose.as_str()
            && code.counter == newest.counter
            && code.used_at.is_none()
            && code.expires_at > now
            && visit.status == from.as_str()
            && !has_lapsed(from, visit.expires_at, now)
            && purpose.usable_until(visit.date, visit.expires_at, zone) > now
            && check(Some(from), to, moment(visit.date, zone, now)).is_ok()
            && patient.state == RecordState::Active.as_str()
    }
}

#[async_trait]
impl Command for UseVisitCode {
    fn info(&self) -> &'static CommandInfo {
        match self.purpose {
            VisitCodePurpose::Confirm => &Self::CONFIRM,
            VisitCodePurpose::CheckIn => &Self::CHECK_IN,
        }
    }

    fn digest(&self, fields: &mut DigestFields) {
        // The purpose is told by the command's name.
        let Self { purpose: _, code } = self;
        fields.put("code", code.map(|code| code.to_string()));
    }

    async fn execute(&self, tx: &CommandTx<'_>) -> Result<Outcome> {
        let found = tx.find_by_code(self.code, self.purpose).await?;
        let now = tx.store.now();
        let is_usable = found.is_usable(self.purpose, now);
        let (Some(code), Some(visit), true) = (found.code, found.visit, is_usable) else {
            return Err(Error::InvalidCode);
        };
        let (_, to) = self.purpose.transition();
        let row = tx.changed_by_code(&found.hospital, &visit, to).await?;
        let mut sql = tx.store.sql("UPDATE visit_code SET used_at = ");
        sql.bind(now).push(" WHERE hospital_id = ").bind(tx.hospital);
        sql.push(" AND code_hash = ").bind(code.code_hash);
        tx.run(sql).await?;
        let mut sql = tx.store.sql("UPDATE visit SET status = ");
        sql.bind(row.status);
        sql.push(", checked_in_at = ").bind(row.checked_in_at);
        sql.push(", started_at = ").bind(row.started_at);
        sql.push(", completed_at = ").bind(row.completed_at);
        sql.push(", expires_at = ").bind(row.expires_at);
        sql.push(", version = version + 1 WHERE hospital_id = ")
            .bind(tx.hospital);
        sql.push(" AND id = ").bind(row.id);
        tx.run(sql).await?;
        Ok(Outcome::visit(row.id, row.patient_id))
    }
}

impl CommandTx<'_> {
    /// What there is for a code. The statements are the same whatever is found, so that their number and duration tell nothing about a code.
    async fn find_by_code(&self, code: Option<VisitCode>, purpose: VisitCodePurpose) -> Result<Found> {
        let secret = self.store.hospital_secret(&self.transaction, self.hospital).await?;
        let secret = secret.unwrap_or_else(HospitalSecret::random);
        // What is no code is looked up, too, as one that is not valid. No row has the id 0.
        let hash = secret.of_visit_code(code.unwrap_or(VisitCode::from_bytes([0; 16])))?;
        let found = visit_code::Entity::find()
            .filter(visit_code::Column::HospitalId.eq(self.hospital))
            .filter(visit_code::Column::CodeHash.eq(hash))
            .one(&self.transaction)
            .await?
            .filter(|_| code.is_some());
        let visit_id = found.as_ref().map_or(0, |code| code.visit_id);
        let newest = self.newest_code(visit_id, purpose).await?;
        let visit = visit::Entity::find_by_id((self.hospital, visit_id))
            .one(&self.transaction)
            .await?;
        let patient_id = visit.as_ref().map_or(0, |visit| visit.patient_id);
        let patient = patient::Entity::find_by_id((self.hospital, patient_id))
            .one(&self.transaction)
            .await?;
        Ok(Found {
            code: found,
            newest,
            visit,
            patient,
            hospital: self.own_hospital().await?,
        })
    }

    /// The visit with its new status, where the rules of the desk allow it: the patient may be checked in already, or the time be somebody
    /// else's. Only who has the code of the visit gets here, and gets the same error.
    async fn changed_by_code(
        &self,
        hospital: &Hospital,
        visit: &visit::Model,
        status: VisitStatus,
    ) -> Result<visit::Model> {
        let wanted = visit::Model {
            status: status.as_str().to_owned(),
            ..visit.clone()
        };
        let nothing = Override::default();
        let checked = self.checked_visit(hospital, Some(visit), wanted, &nothing).await;
        checked.map(|checked| checked.row).map_err(|error| match error {
            Error::InvalidTransition { .. } | Error::SlotTaken { .. } | Error::Input { .. } => Error::InvalidCode,
            other => other,
        })
    }

    /// The newest code of a visit and purpose: earlier ones are void.
    pub(super) async fn newest_code(&self, visit: i64, purpose: VisitCodePurpose) -> Result<Option<visit_code::Model>> {
        let newest = visit_code::Entity::find()
            .filter(visit_code::Column::HospitalId.eq(self.hospital))
            .filter(visit_code::Column::VisitId.eq(visit))
            .filter(visit_code::Column::Purpose.eq(purpose.as_str()))
            .order_by_desc(visit_code::Column::Counter)
            .one(&self.transaction);
        Ok(newest.await?)
    }
}
