//! What can be followed live. Each answer is executed as if the field were one of a query; see `http::live`.

use std::borrow::Cow;
use std::pin::Pin;

use async_graphql::registry::Registry;
use async_graphql::{Context, ID, Object, OutputType, Response, SubscriptionType};
use futures_util::Stream;

use super::access;
use super::context;
use super::enums::Period;
use super::id;
use super::import::Import;
use super::scalars::Date;
use super::statistics::{self, DateRangeInput, Statistics, StatisticsFilter};
use super::visit::{self, DayVisits, VisitFilter};
use crate::error::{Error, Result};

/// The subscriptions.
pub struct Subscription;

/// What can be followed live, over a WebSocket with the protocol graphql-transport-ws at the path of queries. An operation selects one
/// field. Each answer is that of a query at the time.
#[Object(guard = "access::console")]
impl Subscription {
    /// The statistics as they stand: at once, and whenever they have changed, by any server, an import or SQL. Changes arrive within a
    /// second, and at most one answer a second is sent. Without asOf, the question is asked again at the hospital's midnight. A snapshot
    /// whose id or cursors were sent is kept for an hour, or as usual once it was opened.
    async fn statistics(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The calendar unit of the buckets.")] period: Period,
        #[graphql(desc = "The days to cover; at most 3,660 buckets, which is ten years by DAY.")] range: DateRangeInput,
        #[graphql(desc = "Which visits count; all if absent.")] filter: Option<StatisticsFilter>,
        #[graphql(
            desc = "The reference day: nothing dated after it counts. Today if absent, also when the day changes."
        )]
        as_of: Option<Date>,
    ) -> Result<Statistics> {
        let hospital = context::viewer(ctx)?.hospital;
        let asked = statistics::asked(ctx, period, range, filter, as_of).await?;
        let reporting = &context::services(ctx)?.reporting;
        Ok(reporting.resolve_live(hospital, asked).await?.into())
    }

    /// All visits of a day, by time: at once, and whenever one of them has changed, within a second and at most once a second. A
    /// note or a phone number alone is no change. Fails if more than 2,000 match.
    async fn visits_on(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The day, in the hospital's time zone.")] date: Date,
        #[graphql(desc = "All if absent; dates is not needed.")] filter: Option<VisitFilter>,
    ) -> Result<DayVisits> {
        visit::day(ctx, date, filter).await
    }

    /// An import while it runs: at once, and at most once a second whenever it got on. Ends once it is DONE, FAILED or DISCARDED. For
    /// ADMIN and DESK.
    async fn import_progress(&self, ctx: &Context<'_>, #[graphql(desc = "An Import.id.")] id: ID) -> Result<Import> {
        let import = Import::find(ctx, id::import("id", &id)?).await?;
        let import = import.ok_or_else(|| Error::unknown_id("id", "import"))?;
        if import.has_ended() {
            context::end_subscription(ctx)?;
        }
        Ok(import)
    }
}

/// Only for the schema: it has the type, and validates documents with it, but its streams are not used.
impl SubscriptionType for Subscription {
    fn type_name() -> Cow<'static, str> {
        <Self as OutputType>::type_name()
    }

    fn create_type_info(registry: &mut Registry) -> String {
        <Self as OutputType>::create_type_info(registry)
    }

    fn create_field_stream<'a>(
        &'a self,
        _: &'a Context<'_>,
    ) -> Option<Pin<Box<dyn Stream<Item = Response> + Send + 'a>>> {
        None
    }
}
