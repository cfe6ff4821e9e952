//! Hospitals, and what belongs to them: staff, departments, doctors, patients, visits.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{ConnectionTrait, DbBackend};

use crate::dialect::{drop_tables, run};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        run(manager, TABLES).await?;
        // SQLite stores a date as text: only a valid one, in the form that sorts, is accepted.
        let date = match manager.get_connection().get_database_backend() {
            DbBackend::Sqlite => "date IS strftime('%Y-%m-%d', date) AND",
            _ => "",
        };
        run(manager, &[&VISIT.replace("{date}", date)]).await?;
        run(manager, INDEXES).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        drop_tables(
            manager,
            &[
                "visit_tombstone",
                "patient_tombstone",
                "visit",
                "patient",
                "doctor",
                "department",
                "staff",
                "definition",
                "hospital",
                "encryption_key",
            ],
        )
        .await
    }
}

const TABLES: &[&str] = &[
    "CREATE TABLE IF NOT EXISTS encryption_key (
        fingerprint {text} NOT NULL PRIMARY KEY,
        created_at {instant} NOT NULL
    ){table}",
    "CREATE TABLE IF NOT EXISTS hospital (
        {id},
        code {text} NOT NULL UNIQUE,
        name {text} NOT NULL,
        country {text},
        time_zone {text} NOT NULL,
        week_start {text} NOT NULL CHECK (week_start IN ('MONDAY', 'SUNDAY')),
        created_at {instant} NOT NULL{own_key}
    ){table}",
    "CREATE TABLE IF NOT EXISTS definition (
        hospital_id BIGINT NOT NULL,
        version INTEGER NOT NULL CHECK (version >= 1),
        churn_after_days INTEGER NOT NULL CHECK (churn_after_days >= 1),
        overdue_after_days INTEGER CHECK (overdue_after_days >= 1),
        effective_from {instant} NOT NULL,
        PRIMARY KEY (hospital_id, version),
        FOREIGN KEY (hospital_id) REFERENCES hospital (id) ON DELETE RESTRICT ON UPDATE RESTRICT
    ){table}",
    "CREATE TABLE IF NOT EXISTS staff (
        {id},
        hospital_id BIGINT NOT NULL,
        login {text} NOT NULL,
        name {text} NOT NULL,
        role {text} NOT NULL CHECK (role IN ('ADMIN', 'CLINICIAN', 'DESK', 'SUPPORT')),
        password_hash {text} NOT NULL,
        disabled_at {instant},
        created_at {instant} NOT NULL,
        {key},
        UNIQUE (hospital_id, login),
        FOREIGN KEY (hospital_id) REFERENCES hospital (id) ON DELETE RESTRICT ON UPDATE RESTRICT
    ){table}",
    "CREATE TABLE IF NOT EXISTS department (
        {id},
        hospital_id BIGINT NOT NULL,
        name {text} NOT NULL,
        {key},
        UNIQUE (hospital_id, name),
        FOREIGN KEY (hospital_id) REFERENCES hospital (id) ON DELETE RESTRICT ON UPDATE RESTRICT
    ){table}",
    "CREATE TABLE IF NOT EXISTS doctor (
        {id},
        hospital_id BIGINT NOT NULL,
        name {text} NOT NULL,
        department_id BIGINT,
        {key},
        UNIQUE (hospital_id, name),
        FOREIGN KEY (hospital_id) REFERENCES hospital (id) ON DELETE RESTRICT ON UPDATE RESTRICT,
        FOREIGN KEY (hospital_id, department_id) REFERENCES department (hospital_id, id)
            ON DELETE RESTRICT ON UPDATE RESTRICT
    ){table}",
    "CREATE TABLE IF NOT EXISTS patient (
        {id},
        hospital_id BIGINT NOT NULL,
        state {text} NOT NULL CHECK (state IN ('ACTIVE', 'MERGED', 'ERASED')),
        merged_into BIGINT,
        chart_no {text},
        name {text},
        phone {bytes},
        phone_index {bytes},
        birth_date DATE,
        birth_year INTEGER,
        sex {text} NOT NULL CHECK (sex IN ('FEMALE', 'MALE', 'OTHER', 'UNKNOWN')),
        registered_on DATE,
        memo {blob},
        version INTEGER NOT NULL DEFAULT 1,
        {key},
        UNIQUE (hospital_id, chart_no),
        FOREIGN KEY (hospital_id) REFERENCES hospital (id) ON DELETE RESTRICT ON UPDATE RESTRICT,
        FOREIGN KEY (hospital_id, merged_into) REFERENCES patient (hospital_id, id)
            ON DELETE RESTRICT ON UPDATE RESTRICT
    ){table}",
    "CREATE TABLE IF NOT EXISTS patient_tombstone (
        hospital_id BIGINT NOT NULL,
        id BIGINT NOT NULL,
        PRIMARY KEY (hospital_id, id)
    ){table}",
    "CREATE TABLE IF NOT EXISTS visit_tombstone (
        hospital_id BIGINT NOT NULL,
        id BIGINT NOT NULL,
        patient_id BIGINT NOT NULL,
        date DATE NOT NULL,
        status {text} NOT NULL,
        channel {text} NOT NULL,
        PRIMARY KEY (hospital_id, id)
    ){table}",
];

const VISIT: &str = "CREATE TABLE IF NOT EXISTS visit (
        {id},
        hospital_id BIGINT NOT NULL,
        visit_no {text},
        patient_id BIGINT NOT NULL,
        date DATE NOT NULL CHECK ({date} date BETWEEN '1900-01-01' AND '2200-12-31'),
        scheduled_at {instant},
        status {text} NOT NULL CHECK (status IN ('TENTATIVE', 'BOOKED', 'CHECKED_IN', 'IN_PROGRESS', 'COMPLETED',
            'ENDED', 'CANCELED', 'NO_SHOW')),
        department_id BIGINT,
        doctor_id BIGINT,
        channel {text} NOT NULL CHECK (channel IN ('WALK_IN', 'PHONE', 'APP', 'WEB', 'QR', 'TABLET', 'OTHER')),
        version INTEGER NOT NULL DEFAULT 1,
        {key},
        UNIQUE (hospital_id, visit_no),
        FOREIGN KEY (hospital_id, patient_id) REFERENCES patient (hospital_id, id)
            ON DELETE RESTRICT ON UPDATE RESTRICT,
        FOREIGN KEY (hospital_id, department_id) REFERENCES department (hospital_id, id)
            ON DELETE RESTRICT ON UPDATE RESTRICT,
        FOREIGN KEY (hospital_id, doctor_id) REFERENCES doctor (hospital_id, id)
            ON DELETE RESTRICT ON UPDATE RESTRICT
    ){table}";

const INDEXES: &[&str] = &[
    "CREATE INDEX IF NOT EXISTS visit_by_patient ON visit (hospital_id, patient_id, date, id)",
    "CREATE INDEX IF NOT EXISTS visit_by_date ON visit (hospital_id, date, id)",
    "CREATE INDEX IF NOT EXISTS patient_by_name ON patient (hospital_id, name, id)",
    "CREATE INDEX IF NOT EXISTS patient_by_phone ON patient (hospital_id, phone_index)",
];
