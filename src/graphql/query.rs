//! What can be asked.

use async_graphql::{Context, ID, Object};

use super::access;
use super::audit::{self, AuditConnection, AuditFilter};
use super::changes::{ProposedDefinitionInput, StatisticsChanges};
use super::cohort::Cohort;
use super::connection::{PatientConnection, PatientOrder, VisitConnection, VisitOrder, patient_order, visit_order};
use super::context;
use super::derived::{self, CohortSetInput};
use super::duplicates::{self, PatientMatch};
use super::enums::Period;
use super::hospital::Hospital;
use super::id::{self, Id};
use super::import::{self, Import, ImportConnection};
use super::node::{self, Node};
use super::pagination::PageArgs;
use super::patient::{self, Patient, PatientFilter, patient_search};
use super::pinned::{self, StatisticsConnection};
use super::recall::{self, RecallList, RecallListConnection};
use super::retention::{self, Retention};
use super::scalars::Date;
use super::session::Viewer;
use super::staff::StaffMember;
use super::statement::{self, StatementConnection};
use super::statistics::{self, DateRangeInput, Statistics, StatisticsFilter};
use super::visit::{self, DayVisits, Visit, VisitFilter, visit_query};
use crate::error::{Error, Result};
use crate::permissions::Action;

/// The queries.
pub struct Query;

/// The queries. All data is of the viewer's hospital.
#[Object(guard = "access::console")]
impl Query {
    /// The signed-in member of staff.
    #[graphql(guard = "access::any_role")]
    async fn viewer(&self, ctx: &Context<'_>) -> Result<Viewer> {
        let viewer = context::viewer(ctx)?;
        let row = context::services(ctx)?
            .store
            .staff_member(viewer.hospital, viewer.staff)
            .await?;
        row.map(Viewer)
            .ok_or_else(|| Error::Unauthenticated("this account is gone".to_owned()))
    }

    /// The viewer's hospital.
    async fn hospital(&self, ctx: &Context<'_>) -> Result<Hospital> {
        Hospital::own(ctx).await
    }

    /// New, returning, churn-suspected and no-show patients by bucket; each count comes with the list of exactly those patients
    /// and visits.
    async fn statistics(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The calendar unit of the buckets.")] period: Period,
        #[graphql(desc = "The days to cover; at most 3,660 buckets, which is ten years by DAY.")] range: DateRangeInput,
        #[graphql(desc = "Which visits count; all if absent.")] filter: Option<StatisticsFilter>,
        #[graphql(desc = "The reference day: nothing dated after it counts. Today if absent.")] as_of: Option<Date>,
    ) -> Result<Statistics> {
        let hospital = context::viewer(ctx)?.hospital;
        let asked = statistics::asked(ctx, period, range, filter, as_of).await?;
        let resolved = context::services(ctx)?.reporting.resolve(hospital, asked).await?;
        Ok(resolved.into())
    }

    /// The differences that other rules would make, before they are published. Nothing is changed. For ADMIN.
    #[allow(clippy::too_many_arguments)]
    async fn preview_definition(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The rules to try.")] definition: ProposedDefinitionInput,
        #[graphql(desc = "The calendar unit of the buckets.")] period: Period,
        #[graphql(desc = "The days to cover; at most 3,660 buckets, which is ten years by DAY.")] range: DateRangeInput,
        #[graphql(desc = "Which visits count; all if absent.")] filter: Option<StatisticsFilter>,
        #[graphql(desc = "The reference day: nothing dated after it counts. Today if absent.")] as_of: Option<Date>,
    ) -> Result<StatisticsChanges> {
        let viewer = context::viewer(ctx)?;
        viewer.require(Action::Administer, "to preview a definition")?;
        let rules = definition.rules()?;
        let asked = statistics::asked(ctx, period, range, filter, as_of).await?;
        let compared = context::services(ctx)?
            .reporting
            .preview(viewer.hospital, asked, rules)
            .await?;
        Ok(StatisticsChanges(compared))
    }

    /// The snapshot with this ID; null if the hospital never had one.
    async fn statistics_snapshot(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "A Statistics.id.")] id: ID,
    ) -> Result<Option<Statistics>> {
        let hospital = context::viewer(ctx)?.hospital;
        let id = id::statistics("id", &id)?;
        Ok(context::services(ctx)?
            .reporting
            .load(hospital, id)
            .await?
            .map(Statistics::from))
    }

    /// The list with this ID; null if the hospital never had one.
    async fn cohort(&self, ctx: &Context<'_>, #[graphql(desc = "A Cohort.id.")] id: ID) -> Result<Option<Cohort>> {
        node::cohort(ctx, id::cohort("id", &id)?).await
    }

    /// Lists put together: the patients of any of them, of all of them, or of one but not of another. They may be of different snapshots.
    /// Patients are matched by who stays where records were merged. The visits are those of the lists that are theirs, of a difference those
    /// of its first part, each once, as the snapshot that was computed last has them.
    async fn cohort_set(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The lists, and how to put them together.")] of: CohortSetInput,
    ) -> Result<Cohort> {
        derived::cohort_set(ctx, of).await
    }

    /// Of the new patients of each unit, who came in which unit after.
    #[allow(clippy::too_many_arguments)]
    async fn retention(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The calendar unit.")] period: Period,
        #[graphql(desc = "The days of which patients are new.")] range: DateRangeInput,
        #[graphql(
            desc = "Units after each, 0 or more; the units of the range times one more than this are at most 2,000.",
            default_with = "retention::DEFAULT_HORIZON"
        )]
        horizon: i32,
        #[graphql(desc = "Which visits count; all if absent.")] filter: Option<StatisticsFilter>,
        #[graphql(desc = "The reference day: nothing dated after it counts. Today if absent.")] as_of: Option<Date>,
    ) -> Result<Retention> {
        let asked = statistics::asked(ctx, period, range, filter, as_of).await?;
        retention::retention(ctx, asked, horizon).await
    }

    /// The hospital's pinned snapshots, the newest pinned first.
    async fn pinned_snapshots(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The number of rows from the start, at most 100; 20 if neither first nor last is given.")]
        first: Option<i32>,
        #[graphql(desc = "Rows after this cursor; with first.")] after: Option<String>,
        #[graphql(desc = "The number of rows from the end, at most 100.")] last: Option<i32>,
        #[graphql(desc = "Rows before this cursor; with last.")] before: Option<String>,
    ) -> Result<StatisticsConnection> {
        let page_args = PageArgs::new(context::limits(ctx)?, first, after, last, before)?;
        pinned::page(ctx, &page_args).await
    }

    /// The hospital's staff, by login. All who use the console see the names.
    async fn staff(&self, ctx: &Context<'_>) -> Result<Vec<StaffMember>> {
        StaffMember::all(ctx).await
    }

    /// The audit log: who viewed whose data, who changed what, who signed in and who was refused, newest first. For ADMIN.
    #[allow(clippy::too_many_arguments)]
    async fn audit(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The number of rows from the start, at most 100; 20 if neither first nor last is given.")]
        first: Option<i32>,
        #[graphql(desc = "Rows after this cursor; with first.")] after: Option<String>,
        #[graphql(desc = "The number of rows from the end, at most 100.")] last: Option<i32>,
        #[graphql(desc = "Rows before this cursor; with last.")] before: Option<String>,
        #[graphql(desc = "All if absent.")] filter: Option<AuditFilter>,
    ) -> Result<AuditConnection> {
        let page_args = PageArgs::new(context::limits(ctx)?, first, after, last, before)?;
        audit::page(ctx, &page_args, filter).await
    }

    /// The hospital's patients whose record is ACTIVE; by chart number by default.
    #[allow(clippy::too_many_arguments)]
    async fn patients(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The number of rows from the start, at most 100; 20 if neither first nor last is given.")]
        first: Option<i32>,
        #[graphql(desc = "Rows after this cursor; with first.")] after: Option<String>,
        #[graphql(desc = "The number of rows from the end, at most 100.")] last: Option<i32>,
        #[graphql(desc = "Rows before this cursor; with last.")] before: Option<String>,
        #[graphql(desc = "CHART_NO ascending if absent.")] order_by: Option<PatientOrder>,
        #[graphql(desc = "All if absent.")] filter: Option<PatientFilter>,
    ) -> Result<PatientConnection> {
        let page_args = PageArgs::new(context::limits(ctx)?, first, after, last, before)?;
        let order = patient_order(context::viewer(ctx)?, order_by)?;
        let search = patient_search(ctx, filter).await?;
        patient::page(ctx, &page_args, search, order).await
    }

    /// The ACTIVE patients who may be the person that the arguments describe, to be offered before somebody is registered twice: the
    /// likeliest first, equally likely ones by the time they were recorded; at most 10. At least one argument is needed. A phone finds
    /// patients with the same phone; a name finds nobody alone, but with a phone also patients with a similar name and the same last
    /// four digits, and with a birth date also those with the same name and birth date. Of more than 2,000 patients with the same
    /// phone, last four digits, or name and birth date, those who were recorded last are compared. FORBIDDEN for SUPPORT.
    async fn possible_duplicates(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "1–255 characters.")] name: Option<String>,
        #[graphql(desc = "Not after today.")] birth_date: Option<Date>,
        #[graphql(
            desc = "A complete phone number, with a country code or of the hospital's country.",
            secret
        )]
        phone: Option<String>,
    ) -> Result<Vec<PatientMatch>> {
        duplicates::require(ctx)?;
        let person = duplicates::person(ctx, name, birth_date, phone).await?;
        duplicates::possible_duplicates(ctx, &person, None).await
    }

    /// The hospital's visits; newest first by default.
    #[allow(clippy::too_many_arguments)]
    async fn visits(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The number of rows from the start, at most 100; 20 if neither first nor last is given.")]
        first: Option<i32>,
        #[graphql(desc = "Rows after this cursor; with first.")] after: Option<String>,
        #[graphql(desc = "The number of rows from the end, at most 100.")] last: Option<i32>,
        #[graphql(desc = "Rows before this cursor; with last.")] before: Option<String>,
        #[graphql(desc = "DATE descending if absent.")] order_by: Option<VisitOrder>,
        #[graphql(desc = "All if absent.")] filter: Option<VisitFilter>,
    ) -> Result<VisitConnection> {
        let page_args = PageArgs::new(context::limits(ctx)?, first, after, last, before)?;
        let order = visit_order(context::viewer(ctx)?, order_by)?;
        let query = visit_query(ctx, filter).await?;
        visit::page(ctx, &page_args, query, order).await
    }

    /// All visits of a day, by time. Fails if more than 2,000 match.
    async fn visits_on(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The day, in the hospital's time zone.")] date: Date,
        #[graphql(desc = "All if absent; dates is not needed.")] filter: Option<VisitFilter>,
    ) -> Result<DayVisits> {
        visit::day(ctx, date, filter).await
    }

    /// The patient with this ID; null if the hospital has none.
    async fn patient(&self, ctx: &Context<'_>, #[graphql(desc = "A Patient.id.")] id: ID) -> Result<Option<Patient>> {
        Patient::find(ctx, id::patient("id", &id)?).await
    }

    /// The visit with this ID; null if the hospital has none. A deleted visit has deleted set.
    async fn visit(&self, ctx: &Context<'_>, #[graphql(desc = "A Visit.id.")] id: ID) -> Result<Option<Visit>> {
        Visit::find(ctx, id::visit("id", &id)?).await
    }

    /// The hospital's recall lists, the newest first.
    async fn recall_lists(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The number of rows from the start, at most 100; 20 if neither first nor last is given.")]
        first: Option<i32>,
        #[graphql(desc = "Rows after this cursor; with first.")] after: Option<String>,
        #[graphql(desc = "The number of rows from the end, at most 100.")] last: Option<i32>,
        #[graphql(desc = "Rows before this cursor; with last.")] before: Option<String>,
        #[graphql(desc = "Only open lists, or with false only closed ones; all if absent.")] open: Option<bool>,
    ) -> Result<RecallListConnection> {
        let page_args = PageArgs::new(context::limits(ctx)?, first, after, last, before)?;
        recall::page(ctx, &page_args, open).await
    }

    /// The recall list with this ID; null if the hospital has none.
    async fn recall_list(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "A RecallList.id.")] id: ID,
    ) -> Result<Option<RecallList>> {
        RecallList::find(ctx, id::recall_list("id", &id)?).await
    }

    /// The hospital's imports of files, the newest first. For ADMIN and DESK.
    async fn imports(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The number of rows from the start, at most 100; 20 if neither first nor last is given.")]
        first: Option<i32>,
        #[graphql(desc = "Rows after this cursor; with first.")] after: Option<String>,
        #[graphql(desc = "The number of rows from the end, at most 100.")] last: Option<i32>,
        #[graphql(desc = "Rows before this cursor; with last.")] before: Option<String>,
    ) -> Result<ImportConnection> {
        let page_args = PageArgs::new(context::limits(ctx)?, first, after, last, before)?;
        import::page(ctx, &page_args).await
    }

    /// The import with this ID; null if the hospital has none. For ADMIN and DESK.
    async fn import(&self, ctx: &Context<'_>, #[graphql(desc = "An Import.id.")] id: ID) -> Result<Option<Import>> {
        Import::find(ctx, id::import("id", &id)?).await
    }

    /// The statements of closed months, the newest month first.
    async fn statements(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The number of rows from the start, at most 100; 20 if neither first nor last is given.")]
        first: Option<i32>,
        #[graphql(desc = "Rows after this cursor; with first.")] after: Option<String>,
        #[graphql(desc = "The number of rows from the end, at most 100.")] last: Option<i32>,
        #[graphql(desc = "Rows before this cursor; with last.")] before: Option<String>,
    ) -> Result<StatementConnection> {
        let page_args = PageArgs::new(context::limits(ctx)?, first, after, last, before)?;
        statement::page(ctx, &page_args).await
    }

    /// The object with this ID; null if the hospital has none.
    async fn node(&self, ctx: &Context<'_>, #[graphql(desc = "Any id.")] id: ID) -> Result<Option<Node>> {
        node::find(ctx, Id::parse("id", &id)?).await
    }

    /// The objects with these IDs, in their order.
    async fn nodes(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "At most 100 ids.")] ids: Vec<ID>,
    ) -> Result<Vec<Option<Node>>> {
        let max = context::limits(ctx)?.max_page_size;
        if ids.len() > max {
            return Err(Error::input("ids", format!("at most {max} ids")));
        }
        let ids: Vec<Id> = ids
            .iter()
            .enumerate()
            .map(|(place, id)| Id::parse(&format!("ids.{place}"), id))
            .collect::<Result<_>>()?;
        futures_util::future::try_join_all(ids.into_iter().map(|id| node::find(ctx, id))).await
    }
}
