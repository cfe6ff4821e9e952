//! Counts beside each hospital's revision, kept by the same triggers: a server that loads a ledger can tell whether it has all
//! rows.
//!
//! `visit_count` is the number of visits, `patient_count` that of ACTIVE patients. Restoring a dump fills `revision` before
//! `visit`, and creates triggers after the rows: until the counts agree and the triggers exist, a ledger is not complete.
//!
//! On PostgreSQL the functions look names up in the schema that they were created in and in no other, temporary tables last, and
//! the triggers also fire where `session_replication_role` is `replica`. On MariaDB a foreign key keeps `visit` from being
//! truncated, which fires no trigger there.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{ConnectionTrait, DbBackend};

use crate::dialect::{add_columns, current_schema, drop_columns, drop_tables, run};
use crate::triggers::{change_tracking, v2, v5};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let backend = manager.get_connection().get_database_backend();
        add_columns(manager, COLUMNS).await?;
        if backend == DbBackend::MySql {
            run(manager, &[TRUNCATE_GUARD]).await?;
        }
        let schema = current_schema(manager).await?;
        run(manager, &change_tracking::create(backend, &schema, 9)).await?;
        run(manager, &[COUNT]).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let backend = manager.get_connection().get_database_backend();
        if backend == DbBackend::Postgres {
            run(manager, POSTGRES_DOWN).await?;
        } else {
            for name in change_tracking::names(backend, 9) {
                run(manager, &[format!("DROP TRIGGER IF EXISTS {name}")]).await?;
            }
        }
        if backend == DbBackend::MySql {
            drop_tables(manager, &["truncate_guard"]).await?;
        }
        drop_columns(manager, COLUMNS).await?;
        run(manager, &v2::create(backend)).await?;
        run(manager, &v5::create(backend)).await
    }
}

const COLUMNS: &[(&str, &str, &str)] = &[
    ("revision", "visit_count", "BIGINT NOT NULL DEFAULT 0"),
    ("revision", "patient_count", "BIGINT NOT NULL DEFAULT 0"),
];

/// Nothing is ever written to it.
const TRUNCATE_GUARD: &str = "CREATE TABLE IF NOT EXISTS truncate_guard (
        hospital_id BIGINT NOT NULL,
        visit_id BIGINT NOT NULL,
        PRIMARY KEY (hospital_id, visit_id),
        FOREIGN KEY (hospital_id, visit_id) REFERENCES visit (hospital_id, id) ON DELETE RESTRICT ON UPDATE RESTRICT
    ){table}";

/// Counts the existing rows. From here on the triggers count.
const COUNT: &str = "UPDATE revision SET
        visit_count = (SELECT COUNT(*) FROM visit WHERE visit.hospital_id = revision.hospital_id),
        patient_count = (SELECT COUNT(*) FROM patient
            WHERE patient.hospital_id = revision.hospital_id AND patient.state = 'ACTIVE')";

const POSTGRES_DOWN: &[&str] = &[
    "DROP FUNCTION IF EXISTS hospital_begins, hospital_changes, definition_changes, keeps_its_key, patient_comes,
        patient_changes, patient_goes, patients_emptied, visit_comes, visit_changes, visit_goes, visits_emptied CASCADE",
    "DROP FUNCTION IF EXISTS note_rows(change_feed[], bigint)",
];
