//! Recall lists: patients of a cohort to be called, and what came of it.

use std::collections::HashMap;
use std::fmt::Display;
use std::sync::Arc;

use async_graphql::{Context, ID, InputObject, Object, SimpleObject};
use scheduling::{LeftOutReason, RecallCounts};
use serde_json::json;

use super::cohort::Cohort;
use super::connection::{PatientConnection, PatientTotal};
use super::context;
use super::enums::{ContactOutcome, RecallLeftOutReason};
use super::hospital::definition_days;
use super::id::{self, Id};
use super::loaders::{
    LeftOutCountsKey, LeftOutPageKey, PatientRowKey, RecallContactsKey, RecallCountsKey, RecallEntryKey,
    RecallEntryPageKey, RecallEntryTotalKey, RecallListKey,
};
use super::node;
use super::pagination::{CursorScope, KeyedRow, PageArgs, PageInfo, page_info, rows_selected};
use super::patient::Patient;
use super::scalars::{Date, DateTime};
use super::staff::StaffMember;
use super::statistics::not_empty;
use crate::error::{Error, Result};
use crate::reporting::{CohortId, SnapshotId, bucket_of_index};
use crate::store::{self, LeftOutPage, RecallEntryPage, RecallEntryQuery};

/// A recall list.
#[derive(Clone)]
pub(super) struct RecallList(pub(super) store::RecallList);

/// A list of patients to be called, made of a cohort. Its members never change; what comes of them is counted against them. While it is
/// open, its numbers follow from what is recorded now; closing it stores them.
#[Object]
impl RecallList {
    /// An opaque ID.
    pub(super) async fn id(&self) -> ID {
        Id::RecallList(self.0.id).into()
    }

    /// The name.
    async fn name(&self) -> &str {
        &self.0.name
    }

    /// The cohort that it was made of, as counted then. Its snapshot is pinned as long as the list is there.
    async fn cohort(&self, ctx: &Context<'_>) -> Result<Cohort> {
        let found = match SnapshotId::from_text(&self.0.snapshot) {
            Some(snapshot) => {
                let id = CohortId {
                    snapshot,
                    bucket: bucket_of_index(self.0.bucket),
                    kind: self.0.cohort,
                };
                node::cohort(ctx, id).await?
            }
            None => None,
        };
        found.ok_or_else(|| Error::Internal(format!("the snapshot of the recall list {} is gone", self.0.id)))
    }

    /// The asOf of the cohort.
    async fn as_of(&self) -> Date {
        self.0.as_of.into()
    }

    /// Whether the cohort was counted by proposed rules, of previewDefinition.
    async fn proposed_definition(&self) -> bool {
        self.0.proposed
    }

    /// When it was made.
    async fn created_at(&self) -> DateTime {
        DateTime(self.0.created_at)
    }

    /// Who made it; null if it was made from the command line.
    async fn created_by(&self, ctx: &Context<'_>) -> Result<Option<StaffMember>> {
        match self.0.created_by {
            Some(id) => StaffMember::find(ctx, id).await,
            None => Ok(None),
        }
    }

    /// When it was closed; null if it is open.
    async fn closed_at(&self) -> Option<DateTime> {
        self.0.closed_at.map(DateTime)
    }

    /// Increases when the list is closed.
    async fn version(&self) -> i32 {
        self.0.version
    }

    /// The cohort's patients, less those left out: the totalCount of entries.
    async fn patient_count(&self, ctx: &Context<'_>) -> Result<u64> {
        Ok(self.counts(ctx).await?.patients())
    }

    /// The cohort's patients who are not on the list, by the reason; every reason, in order. With patientCount they add up to the
    /// patientCount of the cohort.
    async fn left_out(&self, ctx: &Context<'_>) -> Result<Vec<RecallLeftOut>> {
        let counts = context::loaders(ctx)?.load_one(LeftOutCountsKey(self.0.id)).await?;
        let counts: HashMap<LeftOutReason, u64> = counts.unwrap_or_default();
        let left_out = |&reason: &LeftOutReason| RecallLeftOut {
            list: self.0.id,
            reason,
            patients: counts.get(&reason).copied().unwrap_or(0),
        };
        Ok(LeftOutReason::ALL.iter().map(left_out).collect())
    }

    /// A page of the entries, by who is next: those due by today, the longest due first; then those whom nobody called; then those due
    /// later; and at last those who are not to be called again.
    #[allow(clippy::too_many_arguments)]
    async fn entries(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The number of rows from the start, at most 100; 20 if neither first nor last is given.")]
        first: Option<i32>,
        #[graphql(desc = "Rows after this cursor; with first.")] after: Option<String>,
        #[graphql(desc = "The number of rows from the end, at most 100.")] last: Option<i32>,
        #[graphql(desc = "Rows before this cursor; with last.")] before: Option<String>,
        #[graphql(desc = "All if absent.")] filter: Option<RecallEntryFilter>,
    ) -> Result<RecallEntryConnection> {
        let page_args = PageArgs::new(context::limits(ctx)?, first, after, last, before)?;
        let query = entry_query(ctx, "filter", filter).await?;
        page_of_entries(ctx, self.0.id, &page_args, query).await
    }

    /// How many entries stand at each last outcome: first null, for those whom nobody called, then every outcome in order. They add up to
    /// patientCount.
    async fn outcomes(&self, ctx: &Context<'_>) -> Result<Vec<RecallOutcomeCount>> {
        let counts = self.counts(ctx).await?;
        let outcomes = scheduling::ContactOutcome::ALL.iter().copied().map(Some);
        let count = |outcome: Option<scheduling::ContactOutcome>| RecallOutcomeCount {
            outcome: outcome.map(Into::into),
            patient_count: counts.outcome(outcome),
        };
        Ok(std::iter::once(None).chain(outcomes).map(count).collect())
    }

    /// Entries whose patient returned: came after the list was made, up to today or the day on which the list was closed.
    async fn returned_count(&self, ctx: &Context<'_>) -> Result<u64> {
        Ok(self.counts(ctx).await?.returned())
    }

    /// The share of returnedCount in patientCount; null if that is 0.
    async fn return_rate(&self, ctx: &Context<'_>) -> Result<Option<f64>> {
        Ok(self.counts(ctx).await?.return_rate())
    }

    /// Of returnedCount, those whose returnedOn is at most so many days after the list was made.
    async fn returned_within(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The number of days, 1–36,500.")] days: i32,
    ) -> Result<u64> {
        let days = definition_days("days", days)?;
        Ok(self.counts(ctx).await?.returned_within(days.into()))
    }
}

impl RecallList {
    /// The list with this id, if the hospital has it.
    pub(super) async fn find(ctx: &Context<'_>, id: i64) -> Result<Option<Self>> {
        Ok(context::loaders(ctx)?.load_one(RecallListKey(id)).await?.map(Self))
    }

    /// The list of this id, which is there.
    pub(super) async fn load(ctx: &Context<'_>, id: i64) -> Result<Self> {
        let found = Self::find(ctx, id).await?;
        found.ok_or_else(|| Error::Internal("a recall list of the response is gone".to_owned()))
    }

    async fn counts(&self, ctx: &Context<'_>) -> Result<RecallCounts> {
        counts(ctx, self.0.id).await
    }
}

/// What is counted of a list, loaded together with that of others.
async fn counts(ctx: &Context<'_>, list: i64) -> Result<RecallCounts> {
    let today = context::today(ctx).await?;
    let counts = context::loaders(ctx)?.load_one(RecallCountsKey(list, today)).await?;
    Ok(counts.unwrap_or_default())
}

/// The entries at an outcome.
#[derive(SimpleObject)]
struct RecallOutcomeCount {
    /// The last outcome; null for those whom nobody called.
    outcome: Option<ContactOutcome>,
    /// The number of entries, equal to the totalCount of entries with this filter.
    patient_count: u64,
}

/// The patients left out for a reason.
struct RecallLeftOut {
    list: i64,
    reason: LeftOutReason,
    patients: u64,
}

/// Patients of the cohort who are not on the list.
#[Object]
impl RecallLeftOut {
    /// The reason: the first that holds, in the order of the reasons.
    async fn reason(&self) -> RecallLeftOutReason {
        self.reason.into()
    }

    /// The number of patients.
    async fn patient_count(&self) -> u64 {
        self.patients
    }

    /// A page of the patients as counted, in the order in which they were first recorded.
    async fn patients(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The number of rows from the start, at most 100; 20 if neither first nor last is given.")]
        first: Option<i32>,
        #[graphql(desc = "Rows after this cursor; with first.")] after: Option<String>,
        #[graphql(desc = "The number of rows from the end, at most 100.")] last: Option<i32>,
        #[graphql(desc = "Rows before this cursor; with last.")] before: Option<String>,
    ) -> Result<PatientConnection> {
        let page_args = PageArgs::new(context::limits(ctx)?, first, after, last, before)?;
        let scope: CursorScope = Arc::new(left_out_scope(self.list, self.reason));
        let (hospital, secrets) = (context::viewer(ctx)?.hospital, context::services(ctx)?.store.secrets());
        let seek = page_args.keyset(secrets, hospital, &scope, false)?;
        let mut ids = Vec::new();
        if rows_selected(ctx) {
            let (list, reason) = (self.list, self.reason);
            let page = LeftOutPage { list, reason, seek };
            let loaded = context::loaders(ctx)?.load_one(LeftOutPageKey(page)).await?;
            ids = loaded.unwrap_or_default();
        }
        let around = page_args.trim(&mut ids);
        let keys = ids.iter().map(|&id| PatientRowKey(id));
        let mut found = context::loaders(ctx)?.load_many(keys).await?;
        let keyed = |id: i64| KeyedRow {
            scope: Arc::clone(&scope),
            key: None,
            id,
            row: found.remove(&PatientRowKey(id)).unwrap_or(store::Patient::erased(id)),
        };
        Ok(PatientConnection {
            rows: ids.into_iter().map(keyed).collect(),
            around,
            total: PatientTotal::Known(self.patients),
        })
    }
}

/// The text that binds cursors to the list. Clients keep cursors across versions, so this encoding must not change.
fn left_out_scope(list: i64, reason: LeftOutReason) -> impl Display + Send + Sync {
    json!(["leftOut", list, reason.as_str()])
}

/// Which entries to list: those that meet all conditions.
#[derive(InputObject)]
pub(super) struct RecallEntryFilter {
    /// Entries whose last outcome is one of these.
    outcomes: Option<Vec<ContactOutcome>>,
    /// Entries that nobody called yet; with false the others.
    untouched: Option<bool>,
    /// Entries whose patient returned; with false the others.
    returned: Option<bool>,
    /// Entries of which one of these is the assignee.
    assignee_ids: Option<Vec<ID>>,
    /// Entries to be called again on or before this day.
    due_by: Option<Date>,
}

/// The filter as the store's type; `argument` is its path.
pub(super) async fn entry_query(
    ctx: &Context<'_>,
    argument: &str,
    filter: Option<RecallEntryFilter>,
) -> Result<RecallEntryQuery> {
    let Some(filter) = filter else {
        return Ok(RecallEntryQuery::default());
    };
    let limits = context::limits(ctx)?;
    not_empty(limits, &format!("{argument}.outcomes"), filter.outcomes.as_deref())?;
    let path = format!("{argument}.assigneeIds");
    not_empty(limits, &path, filter.assignee_ids.as_deref())?;
    let mut assignees = None;
    if let Some(ids) = filter.assignee_ids {
        let all: Vec<i64> = ids
            .iter()
            .enumerate()
            .map(|(place, id)| id::staff(&format!("{path}.{place}"), id))
            .collect::<Result<_>>()?;
        for (place, &id) in all.iter().enumerate() {
            if StaffMember::find(ctx, id).await?.is_none() {
                return Err(Error::unknown_id(format!("{path}.{place}"), "member of staff"));
            }
        }
        assignees = Some(all);
    }
    let due_by = filter.due_by.map(|date| date.date(&format!("{argument}.dueBy")));
    Ok(RecallEntryQuery {
        outcomes: filter.outcomes.map(|list| list.into_iter().map(Into::into).collect()),
        untouched: filter.untouched,
        returned: filter.returned,
        assignees,
        due_by: due_by.transpose()?,
    })
}

/// An entry in the response. Only [`Self::audited`] creates one, and it records the view of its patient for the audit.
#[derive(Clone)]
pub(super) struct RecallEntry(store::RecallEntry);

/// A patient on a recall list.
#[Object]
impl RecallEntry {
    /// An opaque ID.
    pub(super) async fn id(&self) -> ID {
        Id::RecallEntry(self.0.id).into()
    }

    /// The list.
    async fn list(&self, ctx: &Context<'_>) -> Result<RecallList> {
        RecallList::load(ctx, self.0.list).await
    }

    /// The patient; where records were merged, the one who stays. One who was erased keeps the entry, with the state ERASED.
    async fn patient(&self, ctx: &Context<'_>) -> Result<Patient> {
        Patient::load(ctx, self.0.patient).await
    }

    /// Who has claimed it, as long as the claim lasts; otherwise who it is assigned to. Null: nobody.
    async fn assignee(&self, ctx: &Context<'_>) -> Result<Option<StaffMember>> {
        match self.0.assignee {
            Some(id) => StaffMember::find(ctx, id).await,
            None => Ok(None),
        }
    }

    /// Until when the assignee has claimed it, and nobody else may record a contact; null if it is free.
    async fn claimed_until(&self) -> Option<DateTime> {
        self.0.claimed_until.map(DateTime)
    }

    /// The last outcome; null if nobody called yet.
    async fn outcome(&self) -> Option<ContactOutcome> {
        self.0.outcome.map(Into::into)
    }

    /// When the patient is to be called again; null: not again, or nobody called yet.
    async fn due_on(&self) -> Option<Date> {
        self.0.due_on.map(Date::from)
    }

    /// The contacts, the first one first.
    async fn contacts(&self, ctx: &Context<'_>) -> Result<Vec<RecallContact>> {
        let contacts = context::loaders(ctx)?.load_one(RecallContactsKey(self.0.id)).await?;
        Ok(contacts.unwrap_or_default().into_iter().map(RecallContact).collect())
    }

    /// The day of the first attended visit after the list was made; null if there is none up to today, or until the list was closed.
    async fn returned_on(&self) -> Option<Date> {
        self.0.returned_on.map(Date::from)
    }

    /// Increases with each contact, claim and assignment. A contact passes the version that it is based on.
    async fn version(&self) -> i32 {
        self.0.version
    }
}

impl RecallEntry {
    /// The entry of this row, with its patient recorded for the audit as part of the response.
    pub(super) fn audited(ctx: &Context<'_>, row: store::RecallEntry) -> Result<Self> {
        context::audit_patient_view(ctx, row.patient)?;
        Ok(Self(row))
    }

    /// The entry with this id, if the hospital has it.
    pub(super) async fn find(ctx: &Context<'_>, id: i64) -> Result<Option<Self>> {
        let today = context::today(ctx).await?;
        let found = context::loaders(ctx)?.load_one(RecallEntryKey(id, today)).await?;
        found.map(|row| Self::audited(ctx, row)).transpose()
    }

    /// The entry with this id, which is there.
    pub(super) async fn load(ctx: &Context<'_>, id: i64) -> Result<Self> {
        let found = Self::find(ctx, id).await?;
        found.ok_or_else(|| Error::Internal("an entry of the response is gone".to_owned()))
    }
}

/// A contact.
struct RecallContact(store::RecallContact);

/// A contact with a patient on a recall list.
#[Object]
impl RecallContact {
    /// When it was recorded.
    async fn at(&self) -> DateTime {
        DateTime(self.0.at)
    }

    /// Who recorded it; null if it was recorded from the command line.
    async fn by(&self, ctx: &Context<'_>) -> Result<Option<StaffMember>> {
        match self.0.staff {
            Some(id) => StaffMember::find(ctx, id).await,
            None => Ok(None),
        }
    }

    /// What came of it.
    async fn outcome(&self) -> ContactOutcome {
        self.0.outcome.into()
    }

    /// A note by the staff; null if there is none, if patients are masked for the viewer, or if the patient was erased.
    async fn note(&self, ctx: &Context<'_>) -> Result<Option<String>> {
        context::visibility(ctx)?.remark(self.0.note.as_ref())
    }

    /// When the patient was to be called again.
    async fn due_on(&self) -> Option<Date> {
        self.0.due_on.map(Date::from)
    }
}

/// An entry in a list.
struct RecallEntryEdge(KeyedRow<store::RecallEntry>);

/// An entry in a list.
#[Object]
impl RecallEntryEdge {
    /// The cursor of this row in this list.
    async fn cursor(&self, ctx: &Context<'_>) -> Result<String> {
        self.0.cursor(ctx)
    }

    /// The entry.
    async fn node(&self, ctx: &Context<'_>) -> Result<RecallEntry> {
        RecallEntry::audited(ctx, self.0.row.clone())
    }
}

/// A page of entries.
struct RecallEntryConnection {
    rows: Vec<KeyedRow<store::RecallEntry>>,
    /// Whether there are rows before and after the page.
    around: (bool, bool),
    list: i64,
    query: RecallEntryQuery,
}

/// A page of the entries of a recall list. They move in the list when they are worked on.
#[Object]
impl RecallEntryConnection {
    /// The rows with their cursors.
    async fn edges(&self) -> Vec<RecallEntryEdge> {
        self.rows.iter().cloned().map(RecallEntryEdge).collect()
    }

    /// The rows.
    async fn nodes(&self, ctx: &Context<'_>) -> Result<Vec<RecallEntry>> {
        let rows = self.rows.iter().map(|keyed| keyed.row.clone());
        rows.map(|row| RecallEntry::audited(ctx, row)).collect()
    }

    /// The position of the page in the list.
    async fn page_info(&self, ctx: &Context<'_>) -> Result<PageInfo> {
        page_info(ctx, &self.rows, self.around)
    }

    /// The length of the whole list.
    async fn total_count(&self, ctx: &Context<'_>) -> Result<u64> {
        if self.query == RecallEntryQuery::default() {
            return Ok(counts(ctx, self.list).await?.patients());
        }
        let key = RecallEntryTotalKey {
            list: self.list,
            query: self.query.clone(),
            today: context::today(ctx).await?,
        };
        Ok(context::loaders(ctx)?.load_one(key).await?.unwrap_or(0))
    }
}

async fn page_of_entries(
    ctx: &Context<'_>,
    list: i64,
    page_args: &PageArgs,
    query: RecallEntryQuery,
) -> Result<RecallEntryConnection> {
    let scope: CursorScope = Arc::new(entry_scope(list, &query));
    let (hospital, secrets) = (context::viewer(ctx)?.hospital, context::services(ctx)?.store.secrets());
    let seek = page_args.keyset(secrets, hospital, &scope, false)?;
    let mut rows = Vec::new();
    if rows_selected(ctx) {
        let key = RecallEntryPageKey {
            page: RecallEntryPage {
                list,
                query: query.clone(),
                seek,
            },
            today: context::today(ctx).await?,
        };
        rows = context::loaders(ctx)?.load_one(key).await?.unwrap_or_default();
    }
    let around = page_args.trim(&mut rows);
    let keyed = |(row, key): (store::RecallEntry, String)| KeyedRow {
        scope: Arc::clone(&scope),
        key: Some(key),
        id: row.id,
        row,
    };
    Ok(RecallEntryConnection {
        rows: rows.into_iter().map(keyed).collect(),
        around,
        list,
        query,
    })
}

/// The text that binds cursors to the list. Clients keep cursors across versions, so this encoding must not change.
fn entry_scope(list: i64, query: &RecallEntryQuery) -> impl Display + Send + Sync + use<> {
    let RecallEntryQuery {
        outcomes,
        untouched,
        returned,
        assignees,
        due_by,
    } = query;
    let outcomes = outcomes.as_ref();
    let outcomes = outcomes.map(|list| list.iter().map(|outcome| outcome.as_str()).collect::<Vec<_>>());
    let due_by = due_by.map(|day| day.to_string());
    json!(["recallEntries", list, outcomes, untouched, returned, assignees, due_by])
}

/// A recall list in a list.
struct RecallListEdge(KeyedRow<RecallList>);

/// A recall list in a list.
#[Object]
impl RecallListEdge {
    /// The cursor of this row in this list.
    async fn cursor(&self, ctx: &Context<'_>) -> Result<String> {
        self.0.cursor(ctx)
    }

    /// The recall list.
    async fn node(&self) -> &RecallList {
        &self.0.row
    }
}

/// A page of recall lists.
pub(super) struct RecallListConnection {
    rows: Vec<KeyedRow<RecallList>>,
    /// Whether there are rows before and after the page.
    around: (bool, bool),
    open: Option<bool>,
}

/// A page of recall lists, the newest first.
#[Object]
impl RecallListConnection {
    /// The rows with their cursors.
    async fn edges(&self) -> Vec<RecallListEdge> {
        self.rows.iter().cloned().map(RecallListEdge).collect()
    }

    /// The rows.
    async fn nodes(&self) -> Vec<&RecallList> {
        self.rows.iter().map(|keyed| &keyed.row).collect()
    }

    /// The position of the page in the list.
    async fn page_info(&self, ctx: &Context<'_>) -> Result<PageInfo> {
        page_info(ctx, &self.rows, self.around)
    }

    /// The length of the whole list.
    async fn total_count(&self, ctx: &Context<'_>) -> Result<u64> {
        let hospital = context::viewer(ctx)?.hospital;
        context::services(ctx)?
            .store
            .recall_list_total(hospital, self.open)
            .await
    }
}

/// A page of the hospital's recall lists.
pub(super) async fn page(ctx: &Context<'_>, page_args: &PageArgs, open: Option<bool>) -> Result<RecallListConnection> {
    let (hospital, store) = (context::viewer(ctx)?.hospital, &context::services(ctx)?.store);
    let scope: CursorScope = Arc::new(list_scope(open));
    let seek = page_args.keyset(store.secrets(), hospital, &scope, true)?;
    let mut rows = if rows_selected(ctx) {
        store.recall_list_page(hospital, open, &seek).await?
    } else {
        Vec::new()
    };
    let around = page_args.trim(&mut rows);
    let keyed = |row: store::RecallList| KeyedRow {
        scope: Arc::clone(&scope),
        key: None,
        id: row.id,
        row: RecallList(row),
    };
    Ok(RecallListConnection {
        rows: rows.into_iter().map(keyed).collect(),
        around,
        open,
    })
}

/// The text that binds cursors to the list. Clients keep cursors across versions, so this encoding must not change.
fn list_scope(open: Option<bool>) -> impl Display + Send + Sync {
    json!(["recallLists", open])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_are_bound_to_what_they_were() {
        assert_eq!(list_scope(Some(true)).to_string(), r#"["recallLists",true]"#);
        assert_eq!(
            left_out_scope(7, LeftOutReason::NoPhone).to_string(),
            r#"["leftOut",7,"NO_PHONE"]"#
        );
        assert_eq!(
            entry_scope(7, &RecallEntryQuery::default()).to_string(),
            r#"["recallEntries",7,null,null,null,null,null]"#
        );
        let query = RecallEntryQuery {
            outcomes: Some(vec![scheduling::ContactOutcome::NoAnswer]),
            untouched: Some(false),
            returned: Some(true),
            assignees: Some(vec![3]),
            due_by: Some("2025-05-11".parse().unwrap()),
        };
        assert_eq!(
            entry_scope(7, &query).to_string(),
            r#"["recallEntries",7,["NO_ANSWER"],false,true,[3],"2025-05-11"]"#
        );
    }
}
