//! Rollcall's tables, one file each. Enums (statuses, roles, …) are text here, as in the database.

pub mod audit_entry;
pub mod audit_patient;
pub mod audit_retention;
pub mod change_feed;
pub mod definition;
pub mod department;
pub mod doctor;
pub mod encryption_key;
pub mod former_chart_number;
pub mod hospital;
pub mod hospital_secret;
pub mod idempotency_key;
pub mod list_part;
pub mod merged_visit;
pub mod patient;
pub mod patient_merge;
pub mod patient_tombstone;
pub mod refresh_token;
pub mod revision;
pub mod scheduled_at;
pub mod snapshot;
pub mod snapshot_order;
pub mod staff;
pub mod visit;
pub mod visit_change;
pub mod visit_tombstone;
