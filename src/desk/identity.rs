//! What a snapshot is of: equal questions at one revision and definition have one id.

use std::fmt;

use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::statistics::{DayRange, Definition, Filter, Period, Question, VisitChannel, WeekStart, sha256};
use crate::store::SnapshotRow;

/// Names a snapshot within its hospital.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SnapshotId(pub [u8; 16]);

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
            period_word(question.period),
            question.range.from.0,
            question.range.to.0,
            question.as_of.0,
            filter_json(&question.filter),
            time_zone,
            week_start.word(),
        ])
        .to_string();
        let digest = sha256(text.as_bytes());
        Self(std::array::from_fn(|i| digest[i]))
    }
}

impl fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

pub(super) const fn period_word(period: Period) -> &'static str {
    match period {
        Period::Day => "DAY",
        Period::Week => "WEEK",
        Period::Month => "MONTH",
        Period::Quarter => "QUARTER",
        Period::Year => "YEAR",
    }
}

pub(super) fn filter_json(filter: &Filter) -> String {
    let channels = filter
        .channels
        .as_ref()
        .map(|channels| channels.iter().map(|channel| channel.word()).collect::<Vec<_>>());
    json!({"departments": filter.departments, "doctors": filter.doctors, "channels": channels}).to_string()
}

/// The question that a kept snapshot answers, and its week start.
pub(super) fn question_of(row: &SnapshotRow) -> Result<(Question, WeekStart)> {
    let damaged = |what: &str| {
        Error::Internal(format!(
            "the kept snapshot {} is damaged: its {what} cannot be read",
            row.id
        ))
    };
    let period = [Period::Day, Period::Week, Period::Month, Period::Quarter, Period::Year]
        .into_iter()
        .find(|&period| period_word(period) == row.period)
        .ok_or_else(|| damaged("period"))?;
    let week_start = [WeekStart::Monday, WeekStart::Sunday]
        .into_iter()
        .find(|start| start.word() == row.week_start)
        .ok_or_else(|| damaged("week start"))?;
    let range = DayRange::new(row.range_from.into(), row.range_to.into()).ok_or_else(|| damaged("range"))?;
    let filter: Value = serde_json::from_slice(&row.filter).map_err(|_| damaged("filter"))?;
    let ids = |name: &str| match &filter[name] {
        Value::Array(ids) => Ok(Some(ids.iter().filter_map(Value::as_i64).collect::<Vec<_>>())),
        Value::Null => Ok(None),
        _ => Err(damaged("filter")),
    };
    let channels = match &filter["channels"] {
        Value::Array(words) => Some(
            words
                .iter()
                .filter_map(Value::as_str)
                .filter_map(VisitChannel::from_word)
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
