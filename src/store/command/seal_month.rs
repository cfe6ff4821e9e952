//! Seals a month: a statement of what was counted of it, chained to the month before.

use async_trait::async_trait;
use chrono::NaiveDate;

use super::digest::{DigestFields, day};
use super::transaction::CommandTx;
use super::{Command, CommandInfo, Outcome};
use crate::error::{Error, Result};
use crate::permissions::Action;
use crate::statement::{following, month_text};

const ARGUMENT: &str = "input.month";

/// Seals a month and pins its snapshot.
#[derive(Clone, Debug)]
pub struct SealMonth {
    /// Its first day.
    pub month: NaiveDate,
    pub snapshot: String,
    /// Of the statement.
    pub digest: String,
    /// The statement that the digest covers.
    pub previous: Option<i64>,
}

impl SealMonth {
    pub(super) const INFO: CommandInfo = CommandInfo {
        name: "sealMonth",
        mutation: Some("sealMonth"),
        action: Action::SealMonths,
        description: "to seal a month",
    };
}

#[async_trait]
impl Command for SealMonth {
    fn info(&self) -> &'static CommandInfo {
        &Self::INFO
    }

    fn digest(&self, fields: &mut DigestFields) {
        // The rest is what the month is at the time.
        let Self {
            month,
            snapshot: _,
            digest: _,
            previous: _,
        } = self;
        fields.put("month", day(month));
    }

    async fn execute(&self, tx: &CommandTx<'_>) -> Result<Outcome> {
        let ends = tx.store.first_and_last_statement(&tx.transaction, tx.hospital).await?;
        if let Some((first, last)) = &ends {
            if self.month < first.month {
                let first = month_text(first.month);
                return Err(Error::input(
                    ARGUMENT,
                    format!("lies before {first}, the first month that was sealed: statements follow one another"),
                ));
            }
            if self.month <= last.month {
                let month = month_text(self.month);
                return Err(Error::input(ARGUMENT, format!("{month} is sealed already")));
            }
            if Some(self.month) != following(last.month) {
                let next = following(last.month).map(month_text).unwrap_or_default();
                return Err(Error::input(
                    ARGUMENT,
                    format!("the months before it must be sealed first; the next one is {next}"),
                ));
            }
        }
        if ends.map(|(_, last)| last.id) != self.previous {
            return Err(Error::Conflict {
                argument: ARGUMENT.to_owned(),
                message: "another month was sealed at the same time: seal this one again".to_owned(),
                current_version: None,
            });
        }
        tx.pin_for_good(&self.snapshot, ARGUMENT).await?;
        let columns = [
            ("month", self.month.into()),
            ("snapshot_id", self.snapshot.as_str().into()),
            ("digest", self.digest.as_str().into()),
            ("sealed_at", tx.store.now().into()),
            ("sealed_by", tx.staff().into()),
        ];
        Ok(Outcome::record(tx.insert("statement", &columns).await?))
    }
}
