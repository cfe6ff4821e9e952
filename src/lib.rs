//! Rollcall: the GraphQL backend of a hospital's admin console.
//!
//! Compute once. Every number is the length of a list, and the list can be opened.

pub mod auth;
pub mod cli;
pub mod clock;
pub mod config;
pub mod demo;
pub mod error;
pub mod export;
pub mod graphql;
pub mod http;
pub mod import;
pub mod jobs;
pub mod login_throttle;
mod mask;
pub mod observe;
pub mod password;
pub mod permissions;
mod private_files;
pub mod records;
pub mod reporting;
pub mod secrets;
mod signals;
pub mod statement;
pub mod store;
pub mod text;

pub use scheduling;
pub use statistics;
