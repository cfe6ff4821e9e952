//! Rollcall's migrations: the same tables on SQLite, PostgreSQL and MariaDB.
//!
//! The DDL is written by hand: a composite key (hospital_id, id) beside a generated id is written differently for each
//! database, and the DDL that sea-query generates loses the generation on all three.
//!
//! A released migration never changes: databases have run it as it was. It uses nothing of another migration. What several
//! share is in `dialect`, or in [`triggers`] under the number of the migration that created it.

pub use sea_orm_migration::prelude::*;

mod dialect;
mod m0001_hospital;
mod m0002_revision;
mod m0003_snapshot;
mod m0004_session;
mod m0005_history;
mod m0006_retention;
mod m0007_retired;
mod m0008_audit;
mod m0009_verified_ledger;
mod m0010_scheduled_at;
mod m0011_session_epoch;
mod m0012_erasure;
mod m0013_audit_patients;
mod m0014_text;
mod m0015_front_desk;
mod m0016_patient_search;
mod m0017_record_change;
mod m0018_kiosk;
mod m0019_chart_number_counter;
mod m0020_recall_lists;
mod m0021_imports;
mod m0022_search_order;
mod m0023_upload;
mod m0024_merge_history;
mod m0025_export;
mod m0026_pinned;
mod m0027_derived_lists;
mod m0030_statements;
pub mod triggers;

/// All migrations, in order.
pub struct Migrator;

impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m0001_hospital::Migration),
            Box::new(m0002_revision::Migration),
            Box::new(m0003_snapshot::Migration),
            Box::new(m0004_session::Migration),
            Box::new(m0005_history::Migration),
            Box::new(m0006_retention::Migration),
            Box::new(m0007_retired::Migration),
            Box::new(m0008_audit::Migration),
            Box::new(m0009_verified_ledger::Migration),
            Box::new(m0010_scheduled_at::Migration),
            Box::new(m0011_session_epoch::Migration),
            Box::new(m0012_erasure::Migration),
            Box::new(m0013_audit_patients::Migration),
            Box::new(m0014_text::Migration),
            Box::new(m0015_front_desk::Migration),
            Box::new(m0016_patient_search::Migration),
            Box::new(m0017_record_change::Migration),
            Box::new(m0018_kiosk::Migration),
            Box::new(m0019_chart_number_counter::Migration),
            Box::new(m0020_recall_lists::Migration),
            Box::new(m0021_imports::Migration),
            Box::new(m0022_search_order::Migration),
            Box::new(m0023_upload::Migration),
            Box::new(m0024_merge_history::Migration),
            Box::new(m0025_export::Migration),
            Box::new(m0026_pinned::Migration),
            Box::new(m0027_derived_lists::Migration),
            Box::new(m0030_statements::Migration),
        ]
    }
}
