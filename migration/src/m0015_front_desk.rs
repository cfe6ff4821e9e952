//! What the front desk needs: times and notes of visits, working hours, absences, codes of visits.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{ConnectionTrait, DbBackend};

use crate::dialect::{add_columns, drop_columns, drop_tables, run};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

const COLUMNS: &[(&str, &str, &str)] = &[
    ("hospital", "slot_minutes", "INTEGER NOT NULL DEFAULT 30"),
    ("hospital", "tentative_minutes", "INTEGER NOT NULL DEFAULT 1440"),
    ("doctor", "slot_minutes", "INTEGER"),
    ("patient", "do_not_contact", "BOOLEAN NOT NULL DEFAULT FALSE"),
    ("visit", "duration_minutes", "INTEGER"),
    ("visit", "checked_in_at", "{instant}"),
    ("visit", "started_at", "{instant}"),
    ("visit", "completed_at", "{instant}"),
    ("visit", "expires_at", "{instant}"),
    ("visit", "note", "{blob}"),
];

const TABLES: &[&str] = &[
    "CREATE TABLE IF NOT EXISTS working_hours (
        hospital_id BIGINT NOT NULL,
        doctor_id BIGINT NOT NULL,
        weekday {text} NOT NULL CHECK (weekday IN ('MONDAY', 'TUESDAY', 'WEDNESDAY', 'THURSDAY', 'FRIDAY', 'SATURDAY',
            'SUNDAY')),
        from_time {text} NOT NULL,
        to_time {text} NOT NULL,
        PRIMARY KEY (hospital_id, doctor_id, weekday, from_time),
        FOREIGN KEY (hospital_id, doctor_id) REFERENCES doctor (hospital_id, id)
            ON DELETE RESTRICT ON UPDATE RESTRICT
    ){table}",
    "CREATE TABLE IF NOT EXISTS absence (
        {id},
        hospital_id BIGINT NOT NULL,
        doctor_id BIGINT,
        starts {instant} NOT NULL,
        ends {instant} NOT NULL,
        reason {long_text},
        {key},
        FOREIGN KEY (hospital_id) REFERENCES hospital (id) ON DELETE RESTRICT ON UPDATE RESTRICT,
        FOREIGN KEY (hospital_id, doctor_id) REFERENCES doctor (hospital_id, id)
            ON DELETE RESTRICT ON UPDATE RESTRICT
    ){table}",
    "CREATE INDEX IF NOT EXISTS absence_by_end ON absence (hospital_id, ends)",
    // No foreign key to the visit, which SQL may delete.
    "CREATE TABLE IF NOT EXISTS visit_code (
        hospital_id BIGINT NOT NULL,
        visit_id BIGINT NOT NULL,
        purpose {text} NOT NULL CHECK (purpose IN ('CONFIRM', 'CHECK_IN')),
        counter INTEGER NOT NULL,
        code_hash {text} NOT NULL,
        issued_at {instant} NOT NULL,
        expires_at {instant} NOT NULL,
        used_at {instant},
        PRIMARY KEY (hospital_id, visit_id, purpose, counter),
        UNIQUE (hospital_id, code_hash),
        FOREIGN KEY (hospital_id) REFERENCES hospital (id) ON DELETE RESTRICT ON UPDATE RESTRICT
    ){table}",
];

/// Of the visits that can occupy time. MariaDB has no partial indexes.
const OCCUPYING: &str = "scheduled_at IS NOT NULL AND status IN ('TENTATIVE', 'BOOKED', 'CHECKED_IN', 'IN_PROGRESS')";

/// The names of the indexes on `visit`, and what they are by.
const INDEXES: &[(&str, &str)] = &[
    ("visit_by_doctor_time", "doctor_id"),
    ("visit_by_patient_time", "patient_id"),
];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        add_columns(manager, COLUMNS).await?;
        run(manager, TABLES).await?;
        let backend = manager.get_connection().get_database_backend();
        let (instant, occupying, expiring) = match backend {
            // Text of any form that is accepted, compared as an instant.
            DbBackend::Sqlite => (
                "unixepoch(scheduled_at)",
                format!(" WHERE {OCCUPYING}"),
                " WHERE expires_at IS NOT NULL",
            ),
            DbBackend::Postgres => (
                "scheduled_at",
                format!(" WHERE {OCCUPYING}"),
                " WHERE expires_at IS NOT NULL",
            ),
            _ => ("scheduled_at", String::new(), ""),
        };
        for (name, column) in INDEXES {
            let index =
                format!("CREATE INDEX IF NOT EXISTS {name} ON visit (hospital_id, {column}, {instant}){occupying}");
            run(manager, &[index]).await?;
        }
        let index = format!("CREATE INDEX IF NOT EXISTS visit_by_expiry ON visit (hospital_id, expires_at){expiring}");
        run(manager, &[index]).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let on = match manager.get_connection().get_database_backend() {
            DbBackend::MySql => {
                // The foreign key needs an index, and had one that the new one replaced.
                let index = "CREATE INDEX IF NOT EXISTS visit_of_doctor ON visit (hospital_id, doctor_id)";
                run(manager, &[index]).await?;
                " ON visit"
            }
            _ => "",
        };
        let names = INDEXES.iter().map(|(name, _)| *name).chain(["visit_by_expiry"]);
        for name in names {
            run(manager, &[format!("DROP INDEX IF EXISTS {name}{on}")]).await?;
        }
        drop_tables(manager, &["visit_code", "absence", "working_hours"]).await?;
        drop_columns(manager, COLUMNS).await
    }
}
