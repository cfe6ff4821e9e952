//! Rollcall's tables, one file each. Words (statuses, roles, …) are text here, as they stand in the database.

pub mod change_feed;
pub mod definition;
pub mod department;
pub mod doctor;
pub mod encryption_key;
pub mod hospital;
pub mod list_part;
pub mod patient;
pub mod patient_tombstone;
pub mod refresh_token;
pub mod revision;
pub mod snapshot;
pub mod snapshot_order;
pub mod staff;
pub mod visit;
pub mod visit_tombstone;
