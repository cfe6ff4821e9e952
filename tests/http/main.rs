//! The running server, over HTTP, on SQLite, PostgreSQL and MariaDB: the same suite on each.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;

mod access;
mod bad_input;
mod counting;
mod fresh;
mod importing;
mod kaggle;
mod lasting;
mod lists;
mod migrations;
mod transport;
