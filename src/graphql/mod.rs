//! The API: one file per type. Counts are read from snapshots, pages are cut from their lists.

mod access;
mod audit;
mod changes;
mod cohort;
mod connection;
mod context;
mod derived;
mod duplicates;
mod enums;
mod error;
mod explain;
mod history;
mod hospital;
mod id;
mod import;
mod kiosk;
mod loaders;
mod mutation;
mod node;
mod pagination;
mod parts;
mod patient;
mod pinned;
mod query;
mod raw_json;
mod recall;
mod retention;
mod scalars;
mod schedule;
mod session;
mod staff;
mod statement;
mod statistics;
mod subscription;
mod visit;

use async_graphql::{EmptyMutation, EmptySubscription, SDLExportOptions, ValidationMode};

pub(crate) use cohort::cohort_digest;
pub use context::{RequestContext, Services};
pub use id::{cohort_id, parse_cohort_id, patient_id, recall_entry_id, upload_id, visit_id};
pub use mutation::Mutation;
pub use query::Query;
pub use raw_json::{RawJson, TYPE_KEY};
pub(crate) use retention::DEFAULT_HORIZON;
pub(crate) use schedule::MAX_SLOT_DAYS;
pub use subscription::Subscription;

/// The schema's introspection. async-graphql's parser drops descriptions from its text.
pub const SCHEMA_DESCRIPTION: &str = "The admin console's API of a hospital: its patients, their visits, and statistics of both. \
     Each number of a statistic is the length of a list that can be opened. Sign in by signIn, and send the access token with \
     every other request.";

/// The schema that is served.
pub type Schema = async_graphql::Schema<Query, Mutation, Subscription>;

/// The schema that executes answers of subscriptions, as queries.
pub type LiveSchema = async_graphql::Schema<Subscription, EmptyMutation, EmptySubscription>;

/// Builds the schema around what all requests share. It executes operations that were validated before.
#[must_use]
pub fn schema(shared: Services) -> Schema {
    builder().data(shared).validation_mode(ValidationMode::Fast).finish()
}

/// The same for answers of subscriptions.
#[must_use]
pub fn live_schema(shared: Services) -> LiveSchema {
    async_graphql::Schema::build(Subscription, EmptyMutation, EmptySubscription)
        .data(shared)
        .validation_mode(ValidationMode::Fast)
        .finish()
}

/// The schema as sorted SDL: `schema.graphql`.
#[must_use]
pub fn sdl() -> String {
    let options = SDLExportOptions::new()
        .sorted_fields()
        .sorted_arguments()
        .include_specified_by();
    let mut text = builder().finish().sdl_with_options(options);
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

/// The schema before it is built.
pub fn builder() -> async_graphql::SchemaBuilder<Query, Mutation, Subscription> {
    async_graphql::Schema::build(Query, Mutation::default(), Subscription).disable_suggestions()
}
