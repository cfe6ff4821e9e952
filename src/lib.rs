//! Rollcall: the GraphQL backend of a hospital's admin console.
//!
//! Compute once. Every number is the length of a list, and the list can be opened.

pub mod records;
pub mod statistics;
