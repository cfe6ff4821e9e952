//! Indexes that find patients by the start of any word of the name, by birth date, by the end of the phone, by the day of
//! registration and by the chart number of a merged record.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{ConnectionTrait, DbBackend};

use crate::dialect::{add_columns, current_schema, drop_columns, drop_tables, run};
use crate::triggers::patient_search;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

const COLUMNS: &[(&str, &str, &str)] = &[
    // The name that the rows of `patient_name_suffix` were made from: where it differs from what it should be, SQL changed the
    // patient.
    ("patient", "indexed_name", "{text}"),
    // A keyed hash of the last four digits of the phone, and those of its last five, six, … digits, 8 bytes each.
    ("patient", "phone_last_four", "{bytes}"),
    ("patient", "phone_endings", "{bytes}"),
];

/// Replaced by the suffixes.
const FOLDED: &[(&str, &str, &str)] = &[
    ("patient", "folded_name", "{long_text}"),
    ("patient", "folded_from", "{text}"),
];

/// A row for each word of the names of ACTIVE patients: the folded name from there on, without blanks. Neither table has foreign
/// keys: triggers remove the rows of a patient who is deleted.
const SUFFIXES: &str = "CREATE TABLE IF NOT EXISTS patient_name_suffix (
        hospital_id BIGINT NOT NULL,
        patient_id BIGINT NOT NULL,
        suffix {text} NOT NULL,
        PRIMARY KEY (hospital_id, patient_id, suffix)
    ){table}";

/// Patients whose name or state was changed without their suffixes.
const TO_INDEX: &str = "CREATE TABLE IF NOT EXISTS patient_to_index (
        hospital_id BIGINT NOT NULL,
        patient_id BIGINT NOT NULL,
        PRIMARY KEY (hospital_id, patient_id)
    ){table}";

const INDEXES: &[(&str, &str, &str)] = &[
    ("patient_by_birth_date", "patient", "(hospital_id, birth_date)"),
    ("patient_by_registration", "patient", "(hospital_id, registered_on)"),
    ("patient_by_phone_ending", "patient", "(hospital_id, phone_last_four)"),
];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let backend = manager.get_connection().get_database_backend();
        add_columns(manager, COLUMNS).await?;
        let without_rowid = if backend == DbBackend::Sqlite {
            " WITHOUT ROWID"
        } else {
            ""
        };
        for table in [SUFFIXES, TO_INDEX] {
            run(manager, &[format!("{table}{without_rowid}")]).await?;
        }
        for (name, table, columns) in INDEXES {
            run(
                manager,
                &[format!("CREATE INDEX IF NOT EXISTS {name} ON {table} {columns}")],
            )
            .await?;
        }
        run(
            manager,
            &[
                "CREATE INDEX IF NOT EXISTS patient_by_suffix ON patient_name_suffix (hospital_id, suffix, patient_id)",
                by_merged_number(backend),
            ],
        )
        .await?;
        if backend == DbBackend::MySql {
            // Left by `down`.
            run(manager, &["DROP INDEX IF EXISTS merged_into ON patient"]).await?;
        }
        let schema = current_schema(manager).await?;
        run(manager, &patient_search::create_v16(backend, &schema)).await?;
        // A server writes the suffixes, since SQL cannot fold names.
        run(manager, &[TO_BE_INDEXED]).await?;
        drop_columns(manager, FOLDED).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let backend = manager.get_connection().get_database_backend();
        run(manager, &patient_search::drop_v16(backend)).await?;
        drop_tables(manager, &["patient_to_index", "patient_name_suffix"]).await?;
        let on = if backend == DbBackend::MySql { " ON patient" } else { "" };
        if backend == DbBackend::MySql {
            // The foreign key needs an index.
            run(
                manager,
                &["CREATE INDEX IF NOT EXISTS merged_into ON patient (hospital_id, merged_into)"],
            )
            .await?;
        }
        let names = INDEXES
            .iter()
            .map(|(name, ..)| *name)
            .chain(["patient_by_merged_number"]);
        for name in names {
            run(manager, &[format!("DROP INDEX IF EXISTS {name}{on}")]).await?;
        }
        add_columns(manager, FOLDED).await?;
        drop_columns(manager, COLUMNS).await
    }
}

/// Of the few merged records only, where the database has partial indexes.
fn by_merged_number(backend: DbBackend) -> &'static str {
    match backend {
        DbBackend::MySql => {
            "CREATE INDEX IF NOT EXISTS patient_by_merged_number ON patient (hospital_id, merged_into, chart_no)"
        }
        _ => {
            "CREATE INDEX IF NOT EXISTS patient_by_merged_number ON patient (hospital_id, chart_no, merged_into)
                WHERE merged_into IS NOT NULL"
        }
    }
}

const TO_BE_INDEXED: &str = "INSERT INTO patient_to_index (hospital_id, patient_id)
    SELECT hospital_id, id FROM patient p WHERE state = 'ACTIVE' AND name IS NOT NULL AND indexed_name IS NULL
        AND NOT EXISTS (SELECT 1 FROM patient_to_index t WHERE t.hospital_id = p.hospital_id AND t.patient_id = p.id)";
