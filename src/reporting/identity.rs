//! Ids of snapshots: equal questions at the same revision and definition have the same id. Also the conversion of stored rows to
//! questions and definitions.

use std::fmt;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::error::{Error, Result};
use crate::statistics::{DayRange, Definition, Filter, Period, Question, VisitChannel, WeekStart};
use crate::store::SnapshotRow;

/// Identifies a snapshot within its hospital.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SnapshotId(pub [u8; 16]);

/// Which columns the lists of a snapshot are stored with: since 2, departments, doctors and channels. Part of its id, so that lists that
/// were stored without them are no other lists under the same id.
const LISTS: u8 = 2;

impl SnapshotId {
    pub(super) fn of(
        question: &Question,
        revision: &str,
        definition: &Definition,
        time_zone: &str,
        week_start: WeekStart,
    ) -> Self {
        let text = json!([
            revision,
            definition.version,
            definition.churn_after_days,
            definition.overdue_after_days,
            question.period.as_str(),
            question.range.from.0,
            question.range.to.0,
            question.as_of.0,
            filter_json(&question.filter),
            time_zone,
            week_start.as_str(),
            LISTS,
        ])
        .to_string();
        let digest = Sha256::digest(text);
        Self(std::array::from_fn(|i| digest[i]))
    }
}

impl SnapshotId {
    /// Parses the hexadecimal text of an id; none where it is malformed.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        let mut bytes = [0; 16];
        hex::decode_to_slice(text, &mut bytes).ok()?;
        Some(Self(bytes))
    }
}

impl fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// The first bytes of the SHA-256 of what a cursor belongs to. Cursors outlive this program, and so does the encoding.
pub(super) fn cursor_digest(identity: &[u8]) -> [u8; 8] {
    let digest = Sha256::digest(identity);
    std::array::from_fn(|i| digest[i])
}

pub(super) fn filter_json(filter: &Filter) -> String {
    let channels = filter
        .channels
        .as_ref()
        .map(|channels| channels.iter().map(|channel| channel.as_str()).collect::<Vec<_>>());
    json!({"departments": filter.departments, "doctors": filter.doctors, "channels": channels}).to_string()
}

/// The definition that a stored snapshot was counted by, and since when it is in force; none for rows from before these columns.
pub(super) fn rules_of(row: &SnapshotRow) -> Option<(Definition, DateTime<Utc>)> {
    let rules = Definition {
        version: row.counted_version?,
        churn_after_days: row.churn_after_days?,
        overdue_after_days: row.overdue_after_days,
    };
    Some((rules, row.effective_from?))
}

/// The question of a stored snapshot, and its week start.
pub(super) fn question_of(row: &SnapshotRow) -> Result<(Question, WeekStart)> {
    let damaged = |column: &str| {
        Error::Internal(format!(
            "the stored snapshot {} is damaged: its {column} cannot be read",
            row.id
        ))
    };
    let period = Period::parse(&row.period).ok_or_else(|| damaged("period"))?;
    let week_start = [WeekStart::Monday, WeekStart::Sunday]
        .into_iter()
        .find(|start| start.as_str() == row.week_start)
        .ok_or_else(|| damaged("week start"))?;
    let range = DayRange::new(row.range_from.into(), row.range_to.into()).ok_or_else(|| damaged("range"))?;
    let filter: Value = serde_json::from_slice(&row.filter).map_err(|_| damaged("filter"))?;
    let ids = |name: &str| match &filter[name] {
        Value::Array(ids) => Ok(Some(ids.iter().filter_map(Value::as_i64).collect::<Vec<_>>())),
        Value::Null => Ok(None),
        _ => Err(damaged("filter")),
    };
    let channels = match &filter["channels"] {
        Value::Array(names) => Some(
            names
                .iter()
                .filter_map(Value::as_str)
                .filter_map(VisitChannel::parse)
                .collect(),
        ),
        _ => None,
    };
    let question = Question {
        period,
        range,
        as_of: row.as_of.into(),
        filter: Filter {
            departments: ids("departments")?,
            doctors: ids("doctors")?,
            channels,
        },
    };
    Ok((question, week_start))
}
