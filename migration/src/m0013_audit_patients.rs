//! The patients of an audit entry in a table of their own, and how old an entry must be to be deleted.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{ConnectionTrait, DbBackend, Statement};

use crate::dialect::{add_columns, drop_columns, drop_tables, run};
use crate::m0008_audit;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let backend = manager.get_connection().get_database_backend();
        // With a rowid, INSERT OR REPLACE could name that of another row.
        let without_rowid = if backend == DbBackend::Sqlite {
            " WITHOUT ROWID"
        } else {
            ""
        };
        run(manager, &[&format!("{PATIENTS}{without_rowid}"), RETENTION]).await?;
        run(
            manager,
            &["CREATE INDEX IF NOT EXISTS audit_patient_by_entry ON audit_patient (hospital_id, entry_id)"],
        )
        .await?;
        // Cut off between the two on MariaDB, the first is repeated and the second done.
        if manager.has_column("audit_entry", "patient_ids").await? {
            run(manager, &[&move_patients(backend)]).await?;
            drop_columns(manager, COLUMN).await?;
        }
        match backend {
            DbBackend::Postgres => postgres_triggers(manager).await,
            backend => row_triggers(manager, backend).await,
        }
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let backend = manager.get_connection().get_database_backend();
        // The triggers refuse the UPDATE.
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
        m0008_audit::Migration.up(manager).await
    }
}

const COLUMN: &[(&str, &str, &str)] = &[("audit_entry", "patient_ids", "{long_text}")];

const PATIENTS: &str = "CREATE TABLE IF NOT EXISTS audit_patient (
        hospital_id BIGINT NOT NULL,
        patient_id BIGINT NOT NULL,
        entry_id BIGINT NOT NULL,
        PRIMARY KEY (hospital_id, patient_id, entry_id),
        FOREIGN KEY (hospital_id, entry_id) REFERENCES audit_entry (hospital_id, id)
            ON DELETE RESTRICT ON UPDATE RESTRICT
    ){table}";

/// Which entries may be deleted: those before the cut-off. A row is there only within the transaction that deletes them. The last
/// two columns stay null: MariaDB truncates no table that a foreign key points to.
const RETENTION: &str = "CREATE TABLE IF NOT EXISTS audit_retention (
        hospital_id BIGINT NOT NULL PRIMARY KEY,
        cut_off {instant} NOT NULL,
        patient_id BIGINT,
        entry_id BIGINT,
        FOREIGN KEY (hospital_id) REFERENCES hospital (id) ON DELETE RESTRICT ON UPDATE RESTRICT,
        FOREIGN KEY (hospital_id, patient_id, entry_id) REFERENCES audit_patient (hospital_id, patient_id, entry_id)
            ON DELETE RESTRICT ON UPDATE RESTRICT
    ){table}";

/// Copies what stands between commas, each patient once.
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

/// What makes an entry, or a patient of one, old enough to go.
const OLD_ENTRY: &str = "SELECT 1 FROM audit_retention r WHERE r.hospital_id = OLD.hospital_id AND OLD.at < r.cut_off";
const OLD_PATIENT: &str = "SELECT 1 FROM audit_entry e JOIN audit_retention r ON r.hospital_id = e.hospital_id
    WHERE e.hospital_id = OLD.hospital_id AND e.id = OLD.entry_id AND e.at < r.cut_off";

const REFUSAL: &str = "entries of the audit stay as they are";

async fn row_triggers(manager: &SchemaManager<'_>, backend: DbBackend) -> Result<(), DbErr> {
    let trigger = |name: &str, event: &str, table: &str, allowed: Option<&str>| {
        let body = match (backend, allowed) {
            (DbBackend::MySql, None) => {
                format!("FOR EACH ROW BEGIN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = '{REFUSAL}'; END")
            }
            (DbBackend::MySql, Some(allowed)) => format!(
                "FOR EACH ROW BEGIN IF NOT EXISTS ({allowed}) THEN
                    SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = '{REFUSAL}'; END IF; END"
            ),
            (_, None) => format!("FOR EACH ROW BEGIN SELECT RAISE(ABORT, '{REFUSAL}'); END"),
            (_, Some(allowed)) => {
                format!("FOR EACH ROW WHEN NOT EXISTS ({allowed}) BEGIN SELECT RAISE(ABORT, '{REFUSAL}'); END")
            }
        };
        [
            format!("DROP TRIGGER IF EXISTS {name}"),
            format!("CREATE TRIGGER {name} BEFORE {event} ON {table} {body}"),
        ]
    };
    let mut statements = vec![
        trigger("audit_is_kept", "DELETE", "audit_entry", Some(OLD_ENTRY)),
        trigger("audit_patient_stays", "UPDATE", "audit_patient", None),
        trigger("audit_patient_is_kept", "DELETE", "audit_patient", Some(OLD_PATIENT)),
    ];
    if backend == DbBackend::Sqlite {
        // What INSERT OR REPLACE deletes fires no trigger in a connection without recursive_triggers.
        statements.push([
            "DROP TRIGGER IF EXISTS audit_is_not_replaced".to_owned(),
            format!(
                "CREATE TRIGGER audit_is_not_replaced BEFORE INSERT ON audit_entry FOR EACH ROW
                WHEN EXISTS (SELECT 1 FROM audit_entry e WHERE e.id = NEW.id)
                BEGIN SELECT RAISE(ABORT, '{REFUSAL}'); END"
            ),
        ]);
    }
    for [drop, create] in &statements {
        run(manager, &[drop, create]).await?;
    }
    Ok(())
}

async fn postgres_triggers(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    let connection = manager.get_connection();
    let schema = Statement::from_string(DbBackend::Postgres, "SELECT quote_ident(current_schema())");
    let row = connection.query_one_raw(schema).await?;
    let schema: Option<String> = row.map(|row| row.try_get_by_index(0)).transpose()?.flatten();
    let schema = schema.ok_or_else(|| DbErr::Migration("the search_path names no schema that exists".to_owned()))?;
    // pg_temp last: else a temporary table named audit_retention would be asked.
    let goes = format!(
        "CREATE OR REPLACE FUNCTION audit_goes() RETURNS trigger LANGUAGE plpgsql SET search_path = {schema}, pg_temp AS $$
        BEGIN
            IF TG_TABLE_NAME = 'audit_patient' THEN
                IF EXISTS ({OLD_PATIENT}) THEN RETURN OLD; END IF;
            ELSIF EXISTS ({OLD_ENTRY}) THEN
                RETURN OLD;
            END IF;
            RAISE EXCEPTION '{REFUSAL}';
        END $$"
    );
    run(manager, &[&goes]).await?;
    for table in ["audit_entry", "audit_patient"] {
        for (name, event, function) in [
            ("audit_stays", "UPDATE", "audit_stays"),
            ("audit_goes", "DELETE", "audit_goes"),
            ("audit_is_kept", "TRUNCATE", "audit_stays"),
        ] {
            let each = if event == "TRUNCATE" { "" } else { "FOR EACH ROW" };
            let create = format!(
                "CREATE OR REPLACE TRIGGER {name} BEFORE {event} ON {table} {each} EXECUTE FUNCTION {function}()"
            );
            // Also where session_replication_role is replica.
            let always = format!("ALTER TABLE {table} ENABLE ALWAYS TRIGGER {name}");
            run(manager, &[&create, &always]).await?;
        }
    }
    Ok(())
}
