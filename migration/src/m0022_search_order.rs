//! What searches of patients need to read a page and count without reading the patients: the suffixes of names have what lists are
//! sorted by, and the indexes by chart number and by day of registration have the state.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{ConnectionTrait, DbBackend};

use crate::dialect::{current_schema, drop_tables, run};
use crate::triggers::patient_search;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

/// `shared` is the number of characters with which the suffix begins like the one before it of the same patient, in their order: of the
/// patient's suffixes that start with a text of n characters, the first one alone shares fewer than n.
const SUFFIXES: &str = "CREATE TABLE patient_name_suffix_new (
        hospital_id BIGINT NOT NULL,
        suffix {text} NOT NULL,
        patient_id BIGINT NOT NULL,
        shared INTEGER NOT NULL,
        name {text},
        chart_no {text},
        registered_on DATE,
        PRIMARY KEY (hospital_id, suffix, patient_id)";

/// The state is not before the keys: without statistics SQLite would use such an index wherever the state is a condition.
const INDEXES: &[&str] = &[
    "CREATE INDEX IF NOT EXISTS patient_by_number ON patient (hospital_id, chart_no, state, registered_on)",
    "CREATE INDEX IF NOT EXISTS patient_by_registered_on ON patient (hospital_id, registered_on, id, state, chart_no)",
];

/// In the order of the primary key, which is fast.
const FILL: &str = "INSERT INTO patient_name_suffix_new
        (hospital_id, suffix, patient_id, shared, name, chart_no, registered_on)
    SELECT s.hospital_id, s.suffix, s.patient_id, 0, p.name, p.chart_no, p.registered_on
    FROM patient_name_suffix s JOIN patient p ON p.hospital_id = s.hospital_id AND p.id = s.patient_id
    ORDER BY s.hospital_id, s.suffix, s.patient_id";

/// Patients of whose suffixes two share characters, which a server counts: few.
const TO_BE_COUNTED: &str = "INSERT INTO patient_to_index (hospital_id, patient_id)
    SELECT DISTINCT hospital_id, patient_id FROM (
        SELECT hospital_id, patient_id, suffix,
            LAG(suffix) OVER (PARTITION BY hospital_id, patient_id ORDER BY suffix) AS smaller
        FROM patient_name_suffix
    ) s WHERE substr(smaller, 1, 1) = substr(suffix, 1, 1)
        AND NOT EXISTS (SELECT 1 FROM patient_to_index t WHERE t.hospital_id = s.hospital_id AND t.patient_id = s.patient_id)";

/// As m0016 made it.
const FORMER: &[&str] = &[
    "CREATE INDEX IF NOT EXISTS patient_by_suffix ON patient_name_suffix (hospital_id, suffix, patient_id)",
    "CREATE INDEX IF NOT EXISTS patient_by_registration ON patient (hospital_id, registered_on)",
];

const FORMER_SUFFIXES: &str = "CREATE TABLE IF NOT EXISTS patient_name_suffix (
        hospital_id BIGINT NOT NULL,
        patient_id BIGINT NOT NULL,
        suffix {text} NOT NULL,
        PRIMARY KEY (hospital_id, patient_id, suffix)";

const TO_BE_INDEXED: &str = "INSERT INTO patient_to_index (hospital_id, patient_id)
    SELECT hospital_id, id FROM patient p WHERE state = 'ACTIVE' AND name IS NOT NULL
        AND NOT EXISTS (SELECT 1 FROM patient_to_index t WHERE t.hospital_id = p.hospital_id AND t.patient_id = p.id)";

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let backend = manager.get_connection().get_database_backend();
        drop_tables(manager, &["patient_name_suffix_new", "patient_name_suffix_old"]).await?;
        // The other two keep whole rows in the order of the primary key.
        let include = match backend {
            DbBackend::Postgres => " INCLUDE (shared, name, chart_no, registered_on)",
            _ => "",
        };
        let suffixes = format!("{SUFFIXES}{include}{}", end_of_table(backend));
        run(manager, &[suffixes.as_str(), FILL]).await?;
        match backend {
            // At once: otherwise it could not be repeated.
            DbBackend::MySql => {
                let rename = "RENAME TABLE patient_name_suffix TO patient_name_suffix_old,
                    patient_name_suffix_new TO patient_name_suffix";
                run(manager, &[rename]).await?;
                drop_tables(manager, &["patient_name_suffix_old"]).await?;
            }
            _ => {
                let of_sqlite = backend == DbBackend::Sqlite;
                // SQLite refuses to rename while a trigger names a table that is missing.
                if of_sqlite {
                    run(manager, &patient_search::drop_v16(backend)).await?;
                }
                drop_tables(manager, &["patient_name_suffix"]).await?;
                let rename = "ALTER TABLE patient_name_suffix_new RENAME TO patient_name_suffix";
                run(manager, &[rename]).await?;
                if of_sqlite {
                    run(manager, &patient_search::create_v16(backend, "")).await?;
                }
            }
        }
        let by_patient =
            "CREATE INDEX IF NOT EXISTS suffix_by_patient ON patient_name_suffix (hospital_id, patient_id, suffix)";
        run(manager, &[by_patient]).await?;
        run(manager, INDEXES).await?;
        drop_index(manager, "patient_by_registration").await?;
        let schema = current_schema(manager).await?;
        run(manager, &patient_search::create_v22(backend, &schema)).await?;
        run(manager, &[TO_BE_COUNTED]).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let backend = manager.get_connection().get_database_backend();
        run(manager, &patient_search::drop_v22(backend)).await?;
        drop_tables(manager, &["patient_name_suffix"]).await?;
        run(manager, &[format!("{FORMER_SUFFIXES}{}", end_of_table(backend))]).await?;
        run(manager, FORMER).await?;
        for index in ["patient_by_number", "patient_by_registered_on"] {
            drop_index(manager, index).await?;
        }
        // A server writes the suffixes, since SQL cannot fold names.
        run(manager, &[TO_BE_INDEXED]).await
    }
}

fn end_of_table(backend: DbBackend) -> &'static str {
    match backend {
        DbBackend::Sqlite => "){table} WITHOUT ROWID",
        _ => "){table}",
    }
}

async fn drop_index(manager: &SchemaManager<'_>, name: &str) -> Result<(), DbErr> {
    let on = match manager.get_connection().get_database_backend() {
        DbBackend::MySql => " ON patient",
        _ => "",
    };
    run(manager, &[format!("DROP INDEX IF EXISTS {name}{on}")]).await
}
