//! Statements: months are sealed, and what was corrected since is shown against them.

use std::sync::Arc;

use chrono::{Datelike as _, NaiveDate};
use tracing::instrument;

use super::{Cohort, Reporting, ResolvedStatistics, SnapshotId, StatisticsComparison, StatisticsRequest, spawn_cpu};
use crate::error::{Error, Result};
use crate::permissions::{Action, Viewer};
use crate::statement::{Circumstances, StatementDocument, StatementFile, following, month_text, preceding};
use crate::statistics::{DayRange, Filter, Period};
use crate::store::{SealMonth, Statement};

/// `Cohort.digest` of a list.
pub type ListDigest = fn(&Cohort) -> String;

impl Reporting {
    /// Seals the month of a day. `key` is the idempotency key. Returns the statement's id.
    ///
    /// # Errors
    /// FORBIDDEN where the viewer's role may not seal months. BAD_USER_INPUT where the month is not over, is sealed, or is not the one after
    /// the last sealed one. CONFLICT where another month is sealed at the same time. Where the database fails.
    #[instrument(name = "reporting.seal", level = "debug", skip_all)]
    pub async fn seal(
        &self,
        viewer: &Viewer,
        day: NaiveDate,
        key: Option<&str>,
        list_digest: ListDigest,
    ) -> Result<i64> {
        viewer.require(Action::SealMonths, "to seal a month")?;
        let hospital = self.store.hospital(viewer.hospital).await?;
        let hospital =
            hospital.ok_or_else(|| Error::Unauthenticated("the hospital of this session is gone".to_owned()))?;
        let today = self.store.today(hospital.time_zone);
        let month = day.with_day(1).unwrap_or(day);
        let not_over = || Error::input("input.month", format!("{} is not over", month_text(month)));
        let next = following(month).filter(|next| *next <= today).ok_or_else(not_over)?;
        let last_day = next.pred_opt().ok_or_else(not_over)?;
        let range = DayRange::new(month.into(), last_day.into()).ok_or_else(not_over)?;
        let previous = self.store.last_statement(hospital.id).await?;
        let request = StatisticsRequest {
            period: Period::Day,
            range,
            filter: Filter::default(),
            as_of: Some(today),
        };
        let resolved = self.resolve(hospital.id, request).await?;
        self.persist(&resolved).await?;
        let before = previous.as_ref().map(|statement| statement.digest.clone());
        let document = document(&resolved, hospital.code, before, list_digest).await?;
        let command = SealMonth {
            month,
            snapshot: resolved.id.to_string(),
            digest: document.digest()?,
            previous: previous.map(|statement| statement.id),
        };
        let id = self.store.execute(viewer, &command, key).await?;
        self.store.renew_lists_of(hospital.id, &command.snapshot).await?;
        Ok(id)
    }

    /// What was corrected since a month was sealed: the differences between its statistics and the same question, with the same asOf and
    /// definition, at the current revision.
    ///
    /// # Errors
    /// BEING_RESTORED where the data is incomplete. Where the database fails.
    #[instrument(name = "reporting.corrections", level = "debug", skip_all)]
    pub async fn corrections(&self, statement: &Statement) -> Result<Arc<StatisticsComparison>> {
        let before = self.sealed(statement).await?;
        let (state, ledger) = self.ledgers.current(statement.hospital_id).await?;
        let question = before.snapshot.question().clone();
        let rules = (*before.snapshot.definition(), Some(before.effective_from));
        let after = self
            .resolve_at(statement.hospital_id, &state, &ledger, question, rules)
            .await?;
        self.compare(before, after).await
    }

    /// The statement as a file.
    ///
    /// # Errors
    /// Where the digest is not that of its lists any more. Where the database fails.
    pub async fn statement_file(
        &self,
        statement: &Statement,
        hospital_code: &str,
        list_digest: ListDigest,
    ) -> Result<StatementFile> {
        let resolved = self.sealed(statement).await?;
        let months: Vec<NaiveDate> = preceding(statement.month).into_iter().collect();
        let before = self.store.statements_of_months(statement.hospital_id, &months).await?;
        let before = before.into_iter().next().map(|statement| statement.digest);
        let document = document(&resolved, hospital_code.to_owned(), before, list_digest).await?;
        if document.digest()? != statement.digest {
            return Err(Error::Internal(format!(
                "the statement of {} is not that of its lists: rows of the database were altered",
                month_text(statement.month)
            )));
        }
        Ok(StatementFile {
            digest: statement.digest.clone(),
            statement: document,
        })
    }

    /// The snapshot of a statement, which stays.
    async fn sealed(&self, statement: &Statement) -> Result<Arc<ResolvedStatistics>> {
        let damaged = || {
            Error::Internal(format!(
                "the snapshot of the statement of {} is gone",
                month_text(statement.month)
            ))
        };
        let id = SnapshotId::from_text(&statement.snapshot_id).ok_or_else(damaged)?;
        self.load(statement.hospital_id, id).await?.ok_or_else(damaged)
    }
}

async fn document(
    resolved: &Arc<ResolvedStatistics>,
    hospital: String,
    previous: Option<String>,
    list_digest: ListDigest,
) -> Result<StatementDocument> {
    let resolved = Arc::clone(resolved);
    spawn_cpu("sealing a month", move || {
        let circumstances = Circumstances {
            hospital: &hospital,
            time_zone: &resolved.time_zone,
            revision: &resolved.revision,
            previous: previous.as_deref(),
        };
        let digest = |at, kind| list_digest(&Cohort::counted(&resolved, at, kind));
        StatementDocument::new(&circumstances, &resolved.snapshot, digest)
    })
    .await?
}
