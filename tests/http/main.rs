//! The running server, over HTTP, on SQLite, PostgreSQL and MariaDB: the same suite on each.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;

mod access;
mod auditing;
mod bad_input;
mod changes;
mod changing;
mod completing;
mod contention;
mod counting;
mod crowds;
mod documentation;
mod endpoint;
mod erasing;
mod explain;
mod failing;
mod faults;
mod fresh;
mod fuzz;
mod importing;
mod kaggle;
mod lasting;
mod limits;
mod lists;
mod migrations;
mod observing;
mod proxy;
mod repeating;
mod restoring;
mod roles;
mod ruled;
mod sessions;
mod soak;
mod staffing;
mod transport;
mod unicode;
