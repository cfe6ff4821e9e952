//! The API: one file per type. Counts are read from snapshots, pages are cut from their lists.

mod asker;
mod audit;
mod changes;
mod cohort;
mod connection;
mod cursor;
mod enums;
mod error;
mod explain;
mod hospital;
mod id;
mod loaders;
mod mask;
mod mutation;
mod node;
mod patient;
mod query;
mod raw_json;
mod scalars;
mod session;
mod staff;
mod statistics;
mod visit;

use async_graphql::{EmptySubscription, SDLExportOptions};

pub use asker::{Asker, Shared};
pub use mutation::Mutation;
pub use query::Query;
pub use raw_json::RawJson;

/// The schema that is served.
pub type Schema = async_graphql::Schema<Query, Mutation, EmptySubscription>;

/// Builds the schema around what all requests share.
#[must_use]
pub fn schema(shared: Shared) -> Schema {
    builder().data(shared).finish()
}

/// The schema as text, sorted: `schema.graphql`.
#[must_use]
pub fn sdl() -> String {
    let options = SDLExportOptions::new().sorted_fields().sorted_arguments();
    let mut text = builder().finish().sdl_with_options(options);
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

fn builder() -> async_graphql::SchemaBuilder<Query, Mutation, EmptySubscription> {
    async_graphql::Schema::build(Query, Mutation::default(), EmptySubscription).disable_suggestions()
}
