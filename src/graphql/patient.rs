//! A patient, and which patients to list.

use std::sync::Arc;

use async_graphql::{Context, ID, InputObject, Object};
use serde_json::json;

use super::connection::{PatientConnection, PatientTotal, VisitConnection, VisitOrder, visit_order};
use super::context;
use super::enums::{RecordState, Sex};
use super::history::{self, ChangeEntryConnection};
use super::id::Id;
use super::loaders::{AttendedCountKey, PatientEndsKey, PatientRowKey};
use super::pagination::{CursorScope, KeyedRow, PageArgs, rows_selected};
use super::scalars::Date;
use super::statistics::DateRangeInput;
use super::visit::{self, Visit, VisitFilter, visit_query};
use crate::error::{Error, Result};
use crate::permissions::Action;
use crate::records;
use crate::secrets::SHORTEST_PHONE_ENDING;
use crate::store::{self, PatientEnds, PatientKey, PatientSearch, RecordKind};
use crate::text;

/// A patient in the response. Only [`Self::audited`] creates one, and it records the view for the audit.
#[derive(Clone)]
pub(super) struct Patient(store::Patient);

/// A patient of the hospital.
#[Object]
impl Patient {
    /// An opaque ID.
    pub(super) async fn id(&self) -> ID {
        Id::Patient(self.0.id).into()
    }

    /// The state of the record.
    async fn state(&self) -> RecordState {
        self.0.state.into()
    }

    /// The patient that this one was merged into; null unless MERGED.
    async fn merged_into(&self, ctx: &Context<'_>) -> Result<Option<Patient>> {
        match self.merged() {
            Some(id) => Ok(Some(Self::load(ctx, id).await?)),
            None => Ok(None),
        }
    }

    /// The hospital's own number for the patient; empty once erased.
    async fn chart_no(&self) -> &str {
        self.0.chart_no.as_deref().unwrap_or_default()
    }

    /// Masked if the viewer may not see it; empty if unknown or erased.
    async fn name(&self, ctx: &Context<'_>) -> Result<String> {
        self.shown_name(ctx)
    }

    /// In E.164, such as +821012345678; in national format and masked if the viewer may not see it.
    async fn phone(&self, ctx: &Context<'_>) -> Result<Option<String>> {
        context::visibility(ctx)?.phone(&self.0)
    }

    /// Null if unknown, or if the viewer may see only the year.
    async fn birth_date(&self, ctx: &Context<'_>) -> Result<Option<Date>> {
        Ok(context::visibility(ctx)?.birth_date(&self.0).map(Date::from))
    }

    /// Null if unknown.
    async fn birth_year(&self) -> Option<i32> {
        self.0.birth_year
    }

    /// As recorded.
    async fn sex(&self) -> Sex {
        self.0.sex.into()
    }

    /// The day of registration; null if unknown. Statistics do not use it.
    async fn registered_on(&self) -> Option<Date> {
        self.0.registered_on.map(Date::from)
    }

    /// A note by the staff; null if there is none, or if patients are masked for the viewer.
    async fn memo(&self, ctx: &Context<'_>) -> Result<Option<String>> {
        context::visibility(ctx)?.remark(self.0.memo.as_ref())
    }

    /// Whether the patient does not want to be called or written to.
    async fn do_not_contact(&self) -> bool {
        self.0.do_not_contact
    }

    /// Increases with each change by the API or an import. A mutation passes the version that it is based on.
    async fn version(&self) -> i32 {
        self.0.version
    }

    /// The first attended visit up to today, anywhere in the hospital.
    async fn first_visit(&self, ctx: &Context<'_>) -> Result<Option<Visit>> {
        let first = self.ends(ctx).await?.first;
        first.map(|row| Visit::current(ctx, row)).transpose()
    }

    /// The last attended visit up to today.
    async fn last_visit(&self, ctx: &Context<'_>) -> Result<Option<Visit>> {
        let last = self.ends(ctx).await?.last;
        last.map(|row| Visit::current(ctx, row)).transpose()
    }

    /// The next visit, today or later, that is TENTATIVE or BOOKED.
    async fn next_visit(&self, ctx: &Context<'_>) -> Result<Option<Visit>> {
        let next = self.ends(ctx).await?.next;
        next.map(|row| Visit::current(ctx, row)).transpose()
    }

    /// The number of attended visits up to today.
    async fn visit_count(&self, ctx: &Context<'_>) -> Result<u64> {
        let today = context::today(ctx).await?;
        let count = context::loaders(ctx)?
            .load_one(AttendedCountKey(self.0.id, today))
            .await?;
        Ok(count.unwrap_or(0))
    }

    /// The patient's visits of any status and date; newest first by default.
    #[allow(clippy::too_many_arguments)]
    async fn visits(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The number of rows from the start, at most 100; 20 if neither first nor last is given.")]
        first: Option<i32>,
        #[graphql(desc = "Rows after this cursor.")] after: Option<String>,
        #[graphql(desc = "The number of rows from the end, at most 100.")] last: Option<i32>,
        #[graphql(desc = "Rows before this cursor.")] before: Option<String>,
        #[graphql(desc = "DATE descending if absent.")] order_by: Option<VisitOrder>,
        #[graphql(desc = "All visits if absent.")] filter: Option<VisitFilter>,
    ) -> Result<VisitConnection> {
        let page_args = PageArgs::new(context::limits(ctx)?, first, after, last, before)?;
        let order = visit_order(context::viewer(ctx)?, order_by)?;
        let query = visit_query(ctx, filter).await?;
        visit::page_of_patient(ctx, self.0.id, &page_args, query, order).await
    }

    /// Who changed what and when, newest first; also changes made in SQL and by imports. Changes of the patient's visits are in
    /// theirs.
    async fn history(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The number of rows from the start, at most 100; 20 if neither first nor last is given.")]
        first: Option<i32>,
        #[graphql(desc = "Rows after this cursor; with first.")] after: Option<String>,
        #[graphql(desc = "The number of rows from the end, at most 100.")] last: Option<i32>,
        #[graphql(desc = "Rows before this cursor; with last.")] before: Option<String>,
    ) -> Result<ChangeEntryConnection> {
        let page_args = PageArgs::new(context::limits(ctx)?, first, after, last, before)?;
        history::page(ctx, RecordKind::Patient, self.0.id, &page_args).await
    }
}

/// What is shown of a patient.
impl Patient {
    /// The patient that this one was merged into.
    fn merged(&self) -> Option<i64> {
        self.0
            .merged_into
            .filter(|_| self.0.state == store::RecordState::Merged)
    }

    fn shown_name(&self, ctx: &Context<'_>) -> Result<String> {
        Ok(context::visibility(ctx)?.name(&self.0))
    }

    /// The chart number and the name, by which staff know the patient; the state if there is neither.
    pub(super) fn label(&self, ctx: &Context<'_>) -> Result<String> {
        let (chart_no, name) = (self.0.chart_no.as_deref().unwrap_or_default(), self.shown_name(ctx)?);
        let label = format!("{chart_no} {name}");
        Ok(match label.trim() {
            "" => self.0.state.as_str().to_owned(),
            label => label.to_owned(),
        })
    }
}

impl Patient {
    /// The patient of this row, recorded for the audit as part of the response.
    pub(super) fn audited(ctx: &Context<'_>, row: store::Patient) -> Result<Self> {
        context::audit_patient_view(ctx, row.id)?;
        Ok(Self(row))
    }

    /// What tells whether another patient is the same person.
    pub(super) fn person(&self, ctx: &Context<'_>) -> Result<store::Person> {
        let secrets = context::services(ctx)?.store.secrets();
        Ok(store::Person {
            name: self.0.name.clone(),
            birth_date: self.0.birth_date,
            phone: self.0.phone.as_ref().map(|phone| phone.open(secrets)).transpose()?,
        })
    }

    pub(super) const fn row_id(&self) -> i64 {
        self.0.id
    }

    async fn ends(&self, ctx: &Context<'_>) -> Result<PatientEnds> {
        let today = context::today(ctx).await?;
        let ends = context::loaders(ctx)?
            .load_one(PatientEndsKey(self.0.id, today))
            .await?;
        Ok(ends.unwrap_or_default())
    }

    /// Whether the hospital has a patient with this id. It shows nothing of the patient.
    pub(super) async fn exists(ctx: &Context<'_>, id: i64) -> Result<bool> {
        Ok(context::loaders(ctx)?.load_one(PatientRowKey(id)).await?.is_some())
    }

    /// The patient with this id, if the hospital has it.
    pub(super) async fn find(ctx: &Context<'_>, id: i64) -> Result<Option<Self>> {
        let row = context::loaders(ctx)?.load_one(PatientRowKey(id)).await?;
        row.map(|row| Self::audited(ctx, row)).transpose()
    }

    /// The patient that a list or a row refers to; ERASED if not even a tombstone is left.
    pub(super) async fn load(ctx: &Context<'_>, id: i64) -> Result<Self> {
        let row = context::loaders(ctx)?.load_one(PatientRowKey(id)).await?;
        Self::audited(ctx, row.unwrap_or_else(|| store::Patient::erased(id)))
    }

    /// The patients of a page; ERASED those of whom not even a tombstone is left.
    pub(super) async fn load_all(ctx: &Context<'_>, ids: Vec<i64>) -> Result<Vec<Self>> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let keys = ids.iter().map(|&id| PatientRowKey(id));
        let found = context::loaders(ctx)?.load_many(keys).await?;
        let patient = |id| {
            let row = found.get(&PatientRowKey(id)).cloned();
            Self::audited(ctx, row.unwrap_or_else(|| store::Patient::erased(id)))
        };
        ids.into_iter().map(patient).collect()
    }
}

/// The most digits of a phone number in E.164.
const MAX_PHONE_DIGITS: usize = 15;

/// Which patients to list: those that meet all conditions.
#[derive(InputObject)]
pub(super) struct PatientFilter {
    /// The start of any word of the name, the start of the chart number, or a complete phone number; at most 200 characters. Names
    /// match regardless of case, width and spaces, and from any Chinese, Japanese or Korean character on. Chart numbers are
    /// case-sensitive and match without their leading zeros, too; that of a merged record finds the patient it was merged into. If
    /// names are masked for the viewer, text without a digit is refused.
    search: Option<String>,
    /// The birth date. FORBIDDEN for SUPPORT, for whom it is masked.
    birth_date: Option<Date>,
    /// The last four digits of the phone number, or more; FORBIDDEN for SUPPORT.
    phone_ends_with: Option<String>,
    /// Patients registered on one of these days, both ends included.
    registered: Option<DateRangeInput>,
}

/// The filter as the store's type.
pub(super) async fn patient_search(ctx: &Context<'_>, filter: Option<PatientFilter>) -> Result<PatientSearch> {
    let mut found = PatientSearch::default();
    let Some(filter) = filter else { return Ok(found) };
    found.registered = filter
        .registered
        .map(|range| range.days("filter.registered"))
        .transpose()?;
    let viewer = context::viewer(ctx)?;
    if let Some(date) = filter.birth_date {
        viewer.require(Action::UseNames, "to find patients by birth date")?;
        found.birth_date = Some(date.date("filter.birthDate")?);
    }
    if let Some(digits) = filter.phone_ends_with {
        viewer.require(Action::UseNames, "to find patients by a part of the phone number")?;
        found.phone_endings = phone_endings(ctx, &digits).await?;
    }
    let Some(text) = filter.search else { return Ok(found) };
    let text = text::nfc(text.trim());
    let max = context::limits(ctx)?.max_search_length;
    if text.is_empty() || text.chars().count() > max {
        let message = format!("must be 1–{max} characters; leave it out to list all");
        return Err(Error::input("filter.search", message));
    }
    if viewer.role.may(Action::UseNames) {
        found.name_start = Some(text.to_string());
    } else if !text.chars().any(char::is_numeric) {
        viewer.require(Action::UseNames, "to find patients by name")?;
    }
    found.chart_start = Some(text.to_string());
    found.phone = whole_phone(ctx, &text).await?;
    Ok(found)
}

/// The country of phone numbers without a country code, if the hospital has one.
pub(super) async fn hospital_country(ctx: &Context<'_>) -> Result<Option<String>> {
    let hospital = context::viewer(ctx)?.hospital;
    let row = context::services(ctx)?.store.hospital(hospital).await?;
    Ok(row.and_then(|row| row.country))
}

/// The phone number in E.164; none if the text is no whole one.
async fn whole_phone(ctx: &Context<'_>, text: &str) -> Result<Option<String>> {
    Ok(records::e164(text, hospital_country(ctx).await?.as_deref()))
}

/// The digits with which a phone number ends in E.164. A whole number of the hospital's country begins otherwise there than it is dialled.
async fn phone_endings(ctx: &Context<'_>, text: &str) -> Result<Vec<String>> {
    let narrow = text::nfkc(text);
    let digits: String = narrow.chars().filter(char::is_ascii_digit).collect();
    let is_part = |c: char| c.is_ascii_digit() || c.is_whitespace() || "+-.()/".contains(c);
    if !(SHORTEST_PHONE_ENDING..=MAX_PHONE_DIGITS).contains(&digits.len()) || !narrow.chars().all(is_part) {
        let message =
            format!("must be the last {SHORTEST_PHONE_ENDING} to {MAX_PHONE_DIGITS} digits of a phone number");
        return Err(Error::input("filter.phoneEndsWith", message));
    }
    let whole = whole_phone(ctx, &narrow).await?;
    let whole = whole.map(|phone| phone.trim_start_matches('+').to_owned());
    let whole = whole.filter(|whole| *whole != digits);
    Ok(std::iter::once(digits).chain(whole).collect())
}

/// The text that binds cursors to the list. Clients keep cursors across versions, so this encoding must not change.
fn scope(search: &PatientSearch, key: PatientKey, descending: bool) -> String {
    let PatientSearch {
        name_start,
        chart_start,
        phone,
        registered,
        birth_date,
        phone_endings,
    } = search;
    let registered = registered.map(|days| [days.from.0, days.to.0]);
    let mut scope = vec![
        json!("patients"),
        json!(name_start),
        json!(chart_start),
        json!(phone),
        json!(registered),
        json!(key.as_str()),
        json!(descending),
    ];
    if birth_date.is_some() || !phone_endings.is_empty() {
        scope.extend([json!(birth_date.map(|date| date.to_string())), json!(phone_endings)]);
    }
    json!(scope).to_string()
}

/// A page of the hospital's patients.
pub(super) async fn page(
    ctx: &Context<'_>,
    page_args: &PageArgs,
    search: PatientSearch,
    (key, descending): (PatientKey, bool),
) -> Result<PatientConnection> {
    let store = &context::services(ctx)?.store;
    let hospital = context::viewer(ctx)?.hospital;
    let today = match key {
        PatientKey::FirstVisit | PatientKey::LastVisit => context::today(ctx).await?,
        // Nothing depends on it.
        PatientKey::ChartNo | PatientKey::Name | PatientKey::RegisteredOn => chrono::NaiveDate::MIN,
    };
    let scope: CursorScope = Arc::new(scope(&search, key, descending));
    let keyset = page_args.keyset(store.secrets(), hospital, &scope, descending)?;
    // Also the number of hits tells who is a patient here: the entry of a search names those on its page.
    let plan = store.plan_search(hospital, &search).await?;
    let mut rows = if rows_selected(ctx) || search.is_by_person() {
        store.patient_page(hospital, &plan, key, today, &keyset).await?
    } else {
        Vec::new()
    };
    let around = page_args.trim(&mut rows);
    if search.is_by_person() {
        context::audit_search(ctx, rows.iter().map(|(row, _)| row.id))?;
    }
    let keyed = |(row, key): (store::Patient, Option<String>)| KeyedRow {
        scope: Arc::clone(&scope),
        key,
        id: row.id,
        row,
    };
    Ok(PatientConnection {
        rows: rows.into_iter().map(keyed).collect(),
        around,
        total: PatientTotal::OfSearch(plan),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::{Day, DayRange};

    #[test]
    fn cursors_are_bound_to_what_they_were() {
        assert_eq!(
            scope(&PatientSearch::default(), PatientKey::ChartNo, false),
            r#"["patients",null,null,null,null,"ChartNo",false]"#
        );
        let search = PatientSearch {
            name_start: Some("Kim \"1\"".to_owned()),
            chart_start: Some("1".to_owned()),
            phone: Some("+821012345678".to_owned()),
            registered: DayRange::new(Day(739_372), Day(739_373)),
            ..PatientSearch::default()
        };
        assert_eq!(
            scope(&search, PatientKey::Name, true),
            r#"["patients","Kim \"1\"","1","+821012345678",[739372,739373],"Name",true]"#
        );
        let search = PatientSearch {
            birth_date: Some("1980-01-31".parse().unwrap()),
            phone_endings: vec!["5678".to_owned()],
            ..PatientSearch::default()
        };
        assert_eq!(
            scope(&search, PatientKey::ChartNo, false),
            r#"["patients",null,null,null,null,"ChartNo",false,"1980-01-31",["5678"]]"#
        );
    }
}
