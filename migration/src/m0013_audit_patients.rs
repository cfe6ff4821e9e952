//! The patients of audit entries in a table of their own, and the deletion of old entries.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{ConnectionTrait, DbBackend};

use crate::dialect::{add_columns, current_schema, drop_columns, drop_tables, run};
use crate::triggers::audit;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let backend = manager.get_connection().get_database_backend();
        // With a rowid, an INSERT OR REPLACE could replace a row with another key by its rowid.
        let without_rowid = if backend == DbBackend::Sqlite {
            " WITHOUT ROWID"
        } else {
            ""
        };
        run(manager, &[format!("{PATIENTS}{without_rowid}").as_str(), RETENTION]).await?;
        run(
            manager,
            &["CREATE INDEX IF NOT EXISTS audit_patient_by_entry ON audit_patient (hospital_id, entry_id)"],
        )
        .await?;
        // Interrupted between the two on MariaDB, the next run repeats the first.
        if manager.has_column("audit_entry", "patient_ids").await? {
            run(manager, &[&move_patients(backend)]).await?;
            drop_columns(manager, COLUMN).await?;
        }
        let schema = current_schema(manager).await?;
        run(manager, &audit::create_v13(backend, &schema)).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let backend = manager.get_connection().get_database_backend();
        // The triggers would refuse the UPDATE.
        let drop: &[&str] = match backend {
            DbBackend::Postgres => &[
                "DROP TRIGGER IF EXISTS audit_stays ON audit_entry",
                "DROP TRIGGER IF EXISTS audit_goes ON audit_entry",
            ],
            _ => &[
                "DROP TRIGGER IF EXISTS audit_stays",
                "DROP TRIGGER IF EXISTS audit_is_kept",
                "DROP TRIGGER IF EXISTS audit_is_not_replaced",
            ],
        };
        run(manager, drop).await?;
        if manager.has_table("audit_patient").await? {
            if !manager.has_column("audit_entry", "patient_ids").await? {
                add_columns(manager, COLUMN).await?;
            }
            let joined = match backend {
                DbBackend::Postgres => "string_agg(CAST(p.patient_id AS TEXT), ',' ORDER BY p.patient_id)",
                DbBackend::MySql => "GROUP_CONCAT(p.patient_id ORDER BY p.patient_id SEPARATOR ',')",
                _ => "group_concat(p.patient_id, ',')",
            };
            let concatenated = match backend {
                DbBackend::MySql => format!("CONCAT(',', {joined}, ',')"),
                _ => format!("',' || {joined} || ','"),
            };
            let fill = format!(
                "UPDATE audit_entry SET patient_ids = (SELECT {concatenated} FROM audit_patient p
                    WHERE p.hospital_id = audit_entry.hospital_id AND p.entry_id = audit_entry.id)"
            );
            run(manager, &[&fill]).await?;
        }
        drop_tables(manager, &["audit_retention", "audit_patient"]).await?;
        if backend == DbBackend::Postgres {
            run(manager, &["DROP FUNCTION IF EXISTS audit_goes"]).await?;
        }
        run(manager, &[ENTRY]).await?;
        run(manager, &audit::create_v8(backend)).await
    }
}

const COLUMN: &[(&str, &str, &str)] = &[("audit_entry", "patient_ids", "{long_text}")];

/// As in migration 8; the table is there.
const ENTRY: &str = "CREATE TABLE IF NOT EXISTS audit_entry (
        {id},
        hospital_id BIGINT NOT NULL,
        at {instant} NOT NULL,
        staff_id BIGINT,
        action {text} NOT NULL,
        what {text},
        subject_id BIGINT,
        snapshot_id {text},
        bucket INTEGER,
        cohort {text},
        patient_ids {long_text},
        request_id {text},
        {key},
        FOREIGN KEY (hospital_id, staff_id) REFERENCES staff (hospital_id, id) ON DELETE RESTRICT ON UPDATE RESTRICT
    ){table}";

const PATIENTS: &str = "CREATE TABLE IF NOT EXISTS audit_patient (
        hospital_id BIGINT NOT NULL,
        patient_id BIGINT NOT NULL,
        entry_id BIGINT NOT NULL,
        PRIMARY KEY (hospital_id, patient_id, entry_id),
        FOREIGN KEY (hospital_id, entry_id) REFERENCES audit_entry (hospital_id, id)
            ON DELETE RESTRICT ON UPDATE RESTRICT
    ){table}";

/// Entries before the cut-off may be deleted. A row exists only within the transaction that deletes them. The last two columns
/// stay null: they are there for the foreign key, since MariaDB truncates no table that one references.
const RETENTION: &str = "CREATE TABLE IF NOT EXISTS audit_retention (
        hospital_id BIGINT NOT NULL PRIMARY KEY,
        cut_off {instant} NOT NULL,
        patient_id BIGINT,
        entry_id BIGINT,
        FOREIGN KEY (hospital_id) REFERENCES hospital (id) ON DELETE RESTRICT ON UPDATE RESTRICT,
        FOREIGN KEY (hospital_id, patient_id, entry_id) REFERENCES audit_patient (hospital_id, patient_id, entry_id)
            ON DELETE RESTRICT ON UPDATE RESTRICT
    ){table}";

/// Copies the ids from the comma-separated text, each once per entry.
fn move_patients(backend: DbBackend) -> String {
    let each = match backend {
        DbBackend::Postgres => {
            "CROSS JOIN LATERAL (SELECT CAST(t AS BIGINT) AS patient_id
                FROM unnest(string_to_array(trim(both ',' FROM e.patient_ids), ',')) t) p"
        }
        DbBackend::MySql => {
            "JOIN JSON_TABLE(CONCAT('[', TRIM(BOTH ',' FROM e.patient_ids), ']'), '$[*]'
                COLUMNS (patient_id BIGINT PATH '$')) p"
        }
        _ => {
            "JOIN (SELECT o.id, j.value AS patient_id
                FROM audit_entry o, json_each('[' || trim(o.patient_ids, ',') || ']') j
                WHERE o.patient_ids IS NOT NULL) p ON p.id = e.id"
        }
    };
    format!(
        "INSERT INTO audit_patient (hospital_id, patient_id, entry_id)
        SELECT DISTINCT e.hospital_id, p.patient_id, e.id FROM audit_entry e {each}
        WHERE e.patient_ids IS NOT NULL AND NOT EXISTS (SELECT 1 FROM audit_patient a
            WHERE a.hospital_id = e.hospital_id AND a.patient_id = p.patient_id AND a.entry_id = e.id)"
    )
}
