//! The histories of patients and visits: see `triggers::history`.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{ConnectionTrait, DbBackend};

use crate::dialect::{current_schema, drop_tables, run};
use crate::triggers::history;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

const TABLES: &[&str] = &[
    // No foreign key to the patient or the visit, which SQL may delete.
    "CREATE TABLE IF NOT EXISTS record_change (
        {id},
        hospital_id BIGINT NOT NULL,
        record {text} NOT NULL CHECK (record IN ('PATIENT', 'VISIT')),
        record_id BIGINT NOT NULL,
        kind {text} NOT NULL CHECK (kind IN ('ADDED', 'CHANGED', 'DELETED')),
        changed_at {instant} NOT NULL,
        staff_id BIGINT,
        source {text},
        reason {long_text},
        state {text},
        merged_into BIGINT,
        chart_no {text},
        name {text},
        phone {blob},
        birth_date DATE,
        birth_year INTEGER,
        sex {text},
        registered_on DATE,
        memo {blob},
        do_not_contact BOOLEAN,
        visit_no {text},
        patient_id BIGINT,
        date DATE,
        scheduled_at {instant},
        status {text},
        department_id BIGINT,
        doctor_id BIGINT,
        channel {text},
        duration_minutes INTEGER,
        checked_in_at {instant},
        started_at {instant},
        completed_at {instant},
        expires_at {instant},
        note {blob},
        {key},
        FOREIGN KEY (hospital_id, staff_id) REFERENCES staff (hospital_id, id) ON DELETE RESTRICT ON UPDATE RESTRICT
    ){table}",
    "CREATE INDEX IF NOT EXISTS record_change_by_record ON record_change (hospital_id, record, record_id, id)",
];

/// Who makes the changes of a transaction, on SQLite: see `triggers::history`.
const CONTEXT: &str = "CREATE TABLE IF NOT EXISTS change_context (
        hospital_id BIGINT NOT NULL,
        staff_id BIGINT,
        source {text} NOT NULL,
        reason {long_text},
        recorded BOOLEAN NOT NULL,
        PRIMARY KEY (hospital_id)
    ){table}";

/// The changes of visits that are kept already. What was not kept of them is taken as it is now: it shows as unchanged.
const COPY: &str = "INSERT INTO record_change (hospital_id, record, record_id, kind, changed_at, staff_id, source, reason,
        visit_no, patient_id, date, scheduled_at, status, department_id, doctor_id, channel, duration_minutes,
        checked_in_at, started_at, completed_at, expires_at, note)
    SELECT c.hospital_id, 'VISIT', c.visit_id, c.kind, c.changed_at, c.staff_id, 'UNKNOWN', c.reason,
        v.visit_no, c.patient_id, c.date, c.scheduled_at, c.status, c.department_id, c.doctor_id, c.channel, v.duration_minutes,
        v.checked_in_at, v.started_at, v.completed_at, v.expires_at, v.note
    FROM visit_change c LEFT JOIN visit v ON v.hospital_id = c.hospital_id AND v.id = c.visit_id
    WHERE NOT EXISTS (SELECT 1 FROM record_change)
    ORDER BY c.hospital_id, c.number, c.visit_id";

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        run(manager, TABLES).await?;
        run(manager, &[COPY]).await?;
        let schema = current_schema(manager).await?;
        let backend = manager.get_connection().get_database_backend();
        if backend == DbBackend::Sqlite {
            run(manager, &[CONTEXT]).await?;
        }
        run(manager, &history::create_v17(backend, &schema)).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let backend = manager.get_connection().get_database_backend();
        for name in history::names_v17(backend) {
            let drop = match backend {
                DbBackend::Postgres => format!("DROP FUNCTION IF EXISTS {name} CASCADE"),
                _ => format!("DROP TRIGGER IF EXISTS {name}"),
            };
            run(manager, &[drop]).await?;
        }
        drop_tables(manager, &["record_change", "change_context"]).await
    }
}
