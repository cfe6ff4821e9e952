//! The histories of patients and visits.

use std::fmt::Display;
use std::sync::Arc;

use async_graphql::{Context, ID, Object, SimpleObject};
use chrono::{LocalResult, TimeZone as _};
use chrono_tz::Tz;
use futures_util::future::try_join_all;
use serde_json::json;

use super::context;
use super::hospital::{Department, Doctor};
use super::id::Id;
use super::loaders::{HistoryKey, HistoryTotalKey};
use super::pagination::{CursorScope, KeyedRow, PageArgs, PageInfo, page_info, rows_selected};
use super::patient::Patient;
use super::scalars::DateTime;
use super::staff::StaffMember;
use crate::error::Result;
use crate::mask;
use crate::store::{self, FieldDifference, FieldValue, HistoryPage, RecordKind};

/// A change in the response. Only [`Self::audited`] creates one, and it records the view of its patients for the audit.
#[derive(Clone)]
pub(super) struct ChangeEntry(store::ChangeEntry);

/// One change of a patient or a visit.
#[Object]
impl ChangeEntry {
    /// An opaque ID.
    pub(super) async fn id(&self) -> ID {
        Id::ChangeEntry(self.0.id).into()
    }

    /// When it was made.
    async fn at(&self) -> DateTime {
        DateTime(self.0.at)
    }

    /// Who made it; null if it was made in SQL, by an import or by the server itself.
    async fn by(&self, ctx: &Context<'_>) -> Result<Option<StaffMember>> {
        match self.0.staff {
            Some(id) => StaffMember::find(ctx, id).await,
            None => Ok(None),
        }
    }

    /// What made it: the name of the mutation; lapseBookings, by which servers cancel bookings that have lapsed; IMPORT; SQL; or
    /// UNKNOWN for changes from before histories were recorded.
    async fn source(&self) -> &str {
        self.0.source.as_deref().unwrap_or("SQL")
    }

    /// The reason that was given with it; null if there is none, or if patients are masked for the viewer.
    async fn reason(&self, ctx: &Context<'_>) -> Result<Option<&str>> {
        let in_full = context::sees_in_full(ctx)?;
        Ok(self.0.reason.as_deref().filter(|_| in_full))
    }

    /// The fields that differ. Of an erased patient nothing personal is left, so that the list may be empty.
    async fn fields(&self, ctx: &Context<'_>) -> Result<Vec<FieldChange>> {
        let differences = self.0.differences(context::services(ctx)?.store.secrets())?;
        let viewing = Viewing::of(ctx).await?;
        let changes = differences
            .into_iter()
            .map(|FieldDifference { field, before, after }| viewing.change(ctx, field, before, after));
        try_join_all(changes).await
    }
}

impl ChangeEntry {
    /// The change, with its patients recorded for the audit as part of the response.
    fn audited(ctx: &Context<'_>, entry: store::ChangeEntry) -> Result<Self> {
        for patient in entry.patients() {
            context::audit_patient_view(ctx, patient)?;
        }
        Ok(Self(entry))
    }

    /// The change with this id, if the hospital has it.
    pub(super) async fn find(ctx: &Context<'_>, id: i64) -> Result<Option<Self>> {
        let hospital = context::viewer(ctx)?.hospital;
        let found = context::services(ctx)?.store.change_entry(hospital, id).await?;
        found.map(|entry| Self::audited(ctx, entry)).transpose()
    }
}

/// A field that a change made different. Values are in words: of a department or doctor the name, of a patient the chart number and
/// the name, of a time the local time in the hospital's time zone.
#[derive(SimpleObject)]
pub(super) struct FieldChange {
    /// The name of the field of Patient or Visit, such as scheduledAt; mergedPatient for a patient who was merged into this one, or no
    /// longer is; outcome, note and dueOn of a contact.
    field: String,
    /// The value before the change; null if there was none. Masked like the field if the viewer may not see it, null for memos and
    /// notes.
    before: Option<String>,
    /// The value after the change; null if there is none. Masked like the field if the viewer may not see it, null for memos and
    /// notes.
    after: Option<String>,
}

/// How values are shown to the viewer.
#[derive(Clone, Copy)]
pub(super) struct Viewing {
    in_full: bool,
    time_zone: Tz,
}

impl Viewing {
    pub(super) async fn of(ctx: &Context<'_>) -> Result<Self> {
        Ok(Self {
            in_full: context::sees_in_full(ctx)?,
            time_zone: context::hospital_state(ctx).await?.time_zone,
        })
    }

    pub(super) async fn change(
        self,
        ctx: &Context<'_>,
        field: &str,
        before: Option<FieldValue>,
        after: Option<FieldValue>,
    ) -> Result<FieldChange> {
        let (before, after) = tokio::try_join!(self.shown(ctx, before), self.shown(ctx, after))?;
        Ok(FieldChange {
            field: field.to_owned(),
            before,
            after,
        })
    }

    async fn shown(self, ctx: &Context<'_>, value: Option<FieldValue>) -> Result<Option<String>> {
        let Some(value) = value else { return Ok(None) };
        Ok(match value {
            FieldValue::Text(text) => Some(text),
            FieldValue::Name(name) if !self.in_full => Some(mask::name(&name)),
            FieldValue::Phone(phone) if !self.in_full => Some(mask::phone(&phone)),
            FieldValue::Name(text) | FieldValue::Phone(text) => Some(text),
            FieldValue::Remark(text) => self.in_full.then_some(text),
            FieldValue::BirthDate(date) if !self.in_full => Some(date.format("%Y").to_string()),
            FieldValue::Date(date) | FieldValue::BirthDate(date) => Some(date.to_string()),
            FieldValue::Instant(at) => Some(local_time(self.time_zone, at)),
            FieldValue::Number(number) => Some(number.to_string()),
            FieldValue::Flag(flag) => Some(if flag { "YES" } else { "NO" }.to_owned()),
            FieldValue::Department(id) => Department::load(ctx, Some(id)).await?.map(|found| found.0.name),
            FieldValue::Doctor(id) => Doctor::load(ctx, Some(id)).await?.map(|found| found.0.name),
            FieldValue::Patient(id) => Some(Patient::load(ctx, id).await?.label(ctx)?),
        })
    }
}

/// The local time, such as 2025-05-11 09:30; with seconds where it has any, and with the offset where the clock shows that time twice.
fn local_time(time_zone: Tz, at: chrono::DateTime<chrono::Utc>) -> String {
    let local = at.with_timezone(&time_zone);
    let naive = local.naive_local();
    let seconds = if naive.and_utc().timestamp() % 60 == 0 {
        ""
    } else {
        ":%S"
    };
    let offset = match time_zone.from_local_datetime(&naive) {
        LocalResult::Ambiguous(..) => " %:z",
        LocalResult::Single(_) | LocalResult::None => "",
    };
    local.format(&format!("%Y-%m-%d %H:%M{seconds}{offset}")).to_string()
}

/// A change in a history.
struct ChangeEntryEdge(KeyedRow<store::ChangeEntry>);

/// A change in a history.
#[Object]
impl ChangeEntryEdge {
    /// The cursor of this row in this list.
    async fn cursor(&self, ctx: &Context<'_>) -> Result<String> {
        self.0.cursor(ctx)
    }

    /// The change.
    async fn node(&self, ctx: &Context<'_>) -> Result<ChangeEntry> {
        ChangeEntry::audited(ctx, self.0.row.clone())
    }
}

/// A page of a history.
pub(super) struct ChangeEntryConnection {
    rows: Vec<KeyedRow<store::ChangeEntry>>,
    /// Whether there are rows before and after the page.
    around: (bool, bool),
    record: RecordKind,
    id: i64,
}

/// A page of a history, the newest changes first.
#[Object]
impl ChangeEntryConnection {
    /// The rows with their cursors.
    async fn edges(&self) -> Vec<ChangeEntryEdge> {
        self.rows.iter().cloned().map(ChangeEntryEdge).collect()
    }

    /// The rows.
    async fn nodes(&self, ctx: &Context<'_>) -> Result<Vec<ChangeEntry>> {
        let rows = self.rows.iter().map(|keyed| keyed.row.clone());
        rows.map(|row| ChangeEntry::audited(ctx, row)).collect()
    }

    /// The position of the page in the list.
    async fn page_info(&self, ctx: &Context<'_>) -> Result<PageInfo> {
        page_info(ctx, &self.rows, self.around)
    }

    /// The length of the whole list.
    async fn total_count(&self, ctx: &Context<'_>) -> Result<u64> {
        let (record, id) = (self.record, self.id);
        let total = context::loaders(ctx)?.load_one(HistoryTotalKey { record, id }).await?;
        Ok(total.unwrap_or(0))
    }
}

/// A page of the history of a patient or a visit, loaded together with those of others.
pub(super) async fn page(
    ctx: &Context<'_>,
    record: RecordKind,
    id: i64,
    page_args: &PageArgs,
) -> Result<ChangeEntryConnection> {
    let scope: CursorScope = Arc::new(scope(record, id));
    let hospital = context::viewer(ctx)?.hospital;
    let keyset = page_args.keyset(context::services(ctx)?.store.secrets(), hospital, &scope, true)?;
    let mut rows = Vec::new();
    if rows_selected(ctx) {
        let page = HistoryPage {
            from: keyset.from.map(|(_, id)| id),
            backwards: keyset.backwards,
            limit: keyset.limit,
        };
        let loaded = context::loaders(ctx)?.load_one(HistoryKey { record, id, page }).await?;
        rows = loaded.unwrap_or_default();
    }
    let around = page_args.trim(&mut rows);
    let keyed = |row: store::ChangeEntry| KeyedRow {
        scope: Arc::clone(&scope),
        key: None,
        id: row.id,
        row,
    };
    Ok(ChangeEntryConnection {
        rows: rows.into_iter().map(keyed).collect(),
        around,
        record,
        id,
    })
}

/// The text that binds cursors to the list. Clients keep cursors across versions, so this encoding must not change.
fn scope(record: RecordKind, id: i64) -> impl Display + Send + Sync {
    json!(["history", record.as_str(), id])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_are_bound_to_what_they_were() {
        assert_eq!(scope(RecordKind::Patient, 1).to_string(), r#"["history","PATIENT",1]"#);
        assert_eq!(scope(RecordKind::Visit, 2).to_string(), r#"["history","VISIT",2]"#);
    }

    #[test]
    fn times_are_shown_as_the_hospitals_clock_does() {
        let shown = |zone: Tz, at: &str| local_time(zone, at.parse().unwrap());
        assert_eq!(shown(Tz::Asia__Seoul, "2025-05-11T00:30:00Z"), "2025-05-11 09:30");
        assert_eq!(shown(Tz::Asia__Seoul, "2025-05-11T00:30:09.5Z"), "2025-05-11 09:30:09");
        assert_eq!(shown(Tz::Asia__Seoul, "1969-12-31T23:59:30Z"), "1970-01-01 08:59:30");
        let new_york = Tz::America__New_York;
        assert_eq!(shown(new_york, "2025-11-02T05:30:00Z"), "2025-11-02 01:30 -04:00");
        assert_eq!(shown(new_york, "2025-11-02T06:30:00Z"), "2025-11-02 01:30 -05:00");
        assert_eq!(shown(new_york, "2025-11-02T07:30:00Z"), "2025-11-02 02:30");
    }
}
