//! Tests of the built binary over HTTP, on SQLite, PostgreSQL and MariaDB.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod access;
mod audit;
mod authorization;
mod authorization_matrix;
mod backup_restore;
mod bad_input;
mod diffs;
mod documentation;
mod endpoint;
mod erasure;
mod explain;
mod fault_injection;
mod front_desk;
mod fuzz;
mod graphql_over_http;
mod history;
mod idempotency;
mod import;
mod import_api;
mod import_nights;
mod kaggle;
mod lists;
mod lock_contention;
mod migrations;
mod missing_tables;
mod mutations;
mod observability;
mod overload;
mod patient_search;
mod persistence;
mod proxy;
mod query_limits;
mod recall;
mod registering;
mod scheduling;
mod sessions;
mod soak;
mod staff_administration;
mod staleness;
mod statement_counts;
mod unicode;
mod uploads;
mod value_completion;
mod visit_codes;

test_support::cleanup_after_tests!();
