//! The database's triggers.
//!
//! `change_tracking` has the list of those that note every change, and of the columns that they compare. Those of `history`
//! record what patients and visits were before. Those of `audit` and `scheduled_at` refuse writes; those of `patient_search` note
//! names that search has to index. `v2` and `v5` are change tracking as earlier migrations created it.
//!
//! A migration creates triggers in the version of its own number, never in the newest, so that what it does never changes.
//! Everything that is added here names the migration that adds it.

use sea_orm_migration::sea_orm::DbBackend;

use crate::dialect::expand;

pub(crate) mod audit;
pub(crate) mod change_tracking;
pub(crate) mod history;
pub(crate) mod patient_search;
pub(crate) mod scheduled_at;
pub(crate) mod v2;
pub(crate) mod v5;

use change_tracking::change_tracking_triggers;
use history::history_triggers;

/// The triggers without which changes are lost, of statistics or of histories: table and name.
pub fn required_triggers(backend: DbBackend) -> impl Iterator<Item = (&'static str, String)> {
    let tracking = change_tracking_triggers(backend).map(|(table, name)| (table, name.to_owned()));
    tracking.chain(history_triggers(backend))
}

/// The statements that create all triggers of an up-to-date database, in a database that has none of them.
///
/// `schema` is the quoted name of the schema that the tables are in, on PostgreSQL.
#[must_use]
pub fn create_all(backend: DbBackend, schema: &str) -> Vec<String> {
    let mut statements = change_tracking::create(backend, schema, u32::MAX);
    statements.extend(history::create_v17(backend, schema));
    statements.extend(audit::create_v8(backend));
    statements.extend(audit::create_v13(backend, schema));
    statements.extend(scheduled_at::create_v10(backend));
    statements.extend(patient_search::create_v16(backend, schema));
    statements.extend(patient_search::create_v22(backend, schema));
    statements.iter().map(|statement| expand(backend, statement)).collect()
}
