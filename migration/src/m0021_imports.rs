//! Imports of files, what their sources last said, and which visits staff deleted.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{ConnectionTrait, DbBackend};

use crate::dialect::{add_columns, drop_columns, drop_tables, run};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

const TABLES: &[&str] = &[
    "CREATE TABLE IF NOT EXISTS import_source (
        {id},
        hospital_id BIGINT NOT NULL,
        record {text} NOT NULL CHECK (record IN ('PATIENT', 'VISIT')),
        name {text} NOT NULL,
        {key},
        UNIQUE (hospital_id, record, name),
        FOREIGN KEY (hospital_id) REFERENCES hospital (id) ON DELETE RESTRICT ON UPDATE RESTRICT
    ){table}",
    "CREATE TABLE IF NOT EXISTS import_base (
        hospital_id BIGINT NOT NULL,
        source_id BIGINT NOT NULL,
        number {text} NOT NULL,
        hashes {bytes} NOT NULL,
        left_out_reported BOOLEAN NOT NULL DEFAULT FALSE,
        PRIMARY KEY (hospital_id, source_id, number),
        FOREIGN KEY (hospital_id, source_id) REFERENCES import_source (hospital_id, id)
            ON DELETE RESTRICT ON UPDATE RESTRICT
    ){table}",
    "CREATE TABLE IF NOT EXISTS import (
        {id},
        hospital_id BIGINT NOT NULL,
        kind {text} NOT NULL CHECK (kind IN ('PATIENTS', 'VISITS')),
        state {text} NOT NULL CHECK (state IN ('CHECKING', 'READY', 'COMMITTING', 'DONE', 'FAILED', 'DISCARDED')),
        file_digest {text} NOT NULL,
        created_at {instant} NOT NULL,
        updated_at {instant} NOT NULL,
        staff_id BIGINT,
        source {text} NOT NULL,
        conflicts {text} NOT NULL CHECK (conflicts IN ('KEEP', 'OVERWRITE')),
        upload_id BIGINT,
        running BOOLEAN NOT NULL DEFAULT FALSE,
        rows_read BIGINT NOT NULL,
        rows_total BIGINT,
        counts {long_text} NOT NULL,
        detail {blob} NOT NULL,
        {key},
        FOREIGN KEY (hospital_id) REFERENCES hospital (id) ON DELETE RESTRICT ON UPDATE RESTRICT,
        FOREIGN KEY (hospital_id, staff_id) REFERENCES staff (hospital_id, id) ON DELETE RESTRICT ON UPDATE RESTRICT
    ){table}",
    "CREATE INDEX IF NOT EXISTS import_by_digest ON import (hospital_id, file_digest)",
    // No foreign key to the patient, whom SQL may delete.
    "CREATE TABLE IF NOT EXISTS import_row (
        hospital_id BIGINT NOT NULL,
        import_id BIGINT NOT NULL,
        line BIGINT NOT NULL,
        outcome {text} NOT NULL,
        patient_id BIGINT,
        detail {blob},
        PRIMARY KEY (hospital_id, import_id, line),
        FOREIGN KEY (hospital_id, import_id) REFERENCES import (hospital_id, id) ON DELETE RESTRICT ON UPDATE RESTRICT
    ){table}",
    "CREATE INDEX IF NOT EXISTS import_row_by_outcome ON import_row (hospital_id, import_id, outcome, line)",
    "CREATE INDEX IF NOT EXISTS import_row_by_patient ON import_row (hospital_id, patient_id)",
];

const COLUMNS: &[(&str, &str, &str)] = &[
    ("visit_tombstone", "visit_no", "{text}"),
    ("visit_tombstone", "deleted_by", "BIGINT"),
    (
        "former_chart_number",
        "left_out_reported",
        "BOOLEAN NOT NULL DEFAULT FALSE",
    ),
];

const INDEX: &str = "CREATE INDEX IF NOT EXISTS visit_tombstone_by_number ON visit_tombstone (hospital_id, visit_no)";

/// Visits that staff deleted before: the change has their number.
const DELETED: &str = "UPDATE visit_tombstone SET
        visit_no = (SELECT MAX(c.visit_no) FROM record_change c WHERE {change}),
        deleted_by = (SELECT MAX(c.staff_id) FROM record_change c WHERE {change})
    WHERE EXISTS (SELECT 1 FROM record_change c WHERE {change})";

const CHANGE: &str =
    "c.hospital_id = visit_tombstone.hospital_id AND c.record = 'VISIT' AND c.record_id = visit_tombstone.id
            AND c.kind = 'DELETED' AND c.staff_id IS NOT NULL";

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        run(manager, TABLES).await?;
        add_columns(manager, COLUMNS).await?;
        run(manager, &[INDEX, &DELETED.replace("{change}", CHANGE)]).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let on = match manager.get_connection().get_database_backend() {
            DbBackend::MySql => " ON visit_tombstone",
            _ => "",
        };
        run(
            manager,
            &[format!("DROP INDEX IF EXISTS visit_tombstone_by_number{on}")],
        )
        .await?;
        drop_columns(manager, COLUMNS).await?;
        drop_tables(manager, &["import_row", "import", "import_base", "import_source"]).await
    }
}
