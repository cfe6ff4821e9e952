//! Rollcall: the GraphQL backend of a hospital's admin console.
//!
//! Compute once. Every number is the length of a list, and the list can be opened.

pub mod attempts;
pub mod auth;
pub mod config;
pub mod demo;
pub mod desk;
pub mod error;
pub mod graphql;
pub mod http;
pub mod import;
pub mod observe;
pub mod password;
pub mod permissions;
pub mod records;
pub mod secrets;
pub mod statistics;
pub mod store;
pub mod text;
