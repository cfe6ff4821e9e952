//! Issues a code by which a patient confirms or checks in.

use async_trait::async_trait;
use chrono_tz::Tz;
use entity::visit;

use super::digest::DigestFields;
use super::transaction::CommandTx;
use super::{Command, CommandInfo, Outcome};
use crate::error::{Error, Result};
use crate::permissions::Action;
use crate::scheduling::{VisitCodePurpose, has_lapsed};
use crate::statistics::VisitStatus;

/// Issues a code, which voids earlier ones of the visit and purpose. The id of the outcome is the code's counter.
#[derive(Clone, Debug)]
pub struct IssueVisitCode {
    pub visit: i64,
    pub purpose: VisitCodePurpose,
}

impl IssueVisitCode {
    pub(super) const INFO: CommandInfo = CommandInfo {
        name: "issueVisitCode",
        mutation: Some("issueVisitCode"),
        action: Action::ChangeRecords,
        description: "to issue a code",
    };

    /// Refuses a visit for which the code would be of no use.
    fn check(&self, tx: &CommandTx<'_>, row: &visit::Model, zone: Tz) -> Result<()> {
        let refused = |message: String| Err(Error::input("input.visitId", message));
        let now = tx.store.now();
        let status = VisitStatus::parse(&row.status);
        if status.is_some_and(|status| has_lapsed(status, row.expires_at, now)) {
            return refused("this booking was not confirmed in time, and has lapsed".to_owned());
        }
        if !status.is_some_and(|status| self.purpose.is_for(status)) {
            let needed = match self.purpose {
                VisitCodePurpose::Confirm => "only a TENTATIVE one can be confirmed",
                VisitCodePurpose::CheckIn => "only one that is TENTATIVE or BOOKED can be checked in by code",
            };
            return refused(format!("this visit is {}: {needed}", row.status));
        }
        if self.purpose.usable_until(row.date, row.expires_at, zone) <= now {
            return refused(format!("the day of this visit, {}, is over", row.date));
        }
        Ok(())
    }
}

#[async_trait]
impl Command for IssueVisitCode {
    fn info(&self) -> &'static CommandInfo {
        &Self::INFO
    }

    fn digest(&self, fields: &mut DigestFields) {
        let Self { visit, purpose } = self;
        fields.put("visitId", visit).put("purpose", purpose.as_str());
    }

    async fn execute(&self, tx: &CommandTx<'_>) -> Result<Outcome> {
        let row = tx.visit_of("input.visitId", self.visit).await?;
        let zone = tx.own_hospital().await?.time_zone;
        self.check(tx, &row, zone)?;
        tx.active_patient("input.visitId", row.patient_id).await?;
        let newest = tx.newest_code(row.id, self.purpose).await?;
        let counter = newest.map_or(0, |code| code.counter) + 1;
        let secret = tx.store.hospital_secret_or_new(&tx.transaction, tx.hospital).await?;
        let code = secret.visit_code(row.id, self.purpose, counter)?;
        let mut sql = tx.store.sql(
            "INSERT INTO visit_code (hospital_id, visit_id, purpose, counter, code_hash, issued_at, expires_at) VALUES (",
        );
        sql.bind(tx.hospital).push(", ").bind(row.id).push(", ");
        sql.bind(self.purpose.as_str()).push(", ").bind(counter).push(", ");
        sql.bind(secret.of_visit_code(code)?).push(", ").bind(tx.store.now());
        let expires_at = self.purpose.usable_until(row.date, row.expires_at, zone);
        sql.push(", ").bind(expires_at).push(")");
        tx.run(sql).await?;
        Ok(Outcome::visit(row.id, row.patient_id).with_id(counter.into()))
    }
}
