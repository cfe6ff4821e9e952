//! The triggers that keep audit entries as they are.

use sea_orm_migration::sea_orm::DbBackend;

/// Of migration 8: entries are neither changed nor deleted.
pub(crate) fn create_v8(backend: DbBackend) -> Vec<String> {
    let refuse = match backend {
        DbBackend::Postgres => return POSTGRES_V8.iter().map(|&statement| statement.to_owned()).collect(),
        DbBackend::MySql => format!("SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = '{REFUSAL}'"),
        _ => format!("SELECT RAISE(ABORT, '{REFUSAL}')"),
    };
    [("audit_stays", "UPDATE"), ("audit_is_kept", "DELETE")]
        .iter()
        .flat_map(|(name, event)| {
            [
                format!("DROP TRIGGER IF EXISTS {name}"),
                format!("CREATE TRIGGER {name} BEFORE {event} ON audit_entry FOR EACH ROW BEGIN {refuse}; END"),
            ]
        })
        .collect()
}

const POSTGRES_V8: &[&str] = &[
    "CREATE OR REPLACE FUNCTION audit_stays() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION 'entries of the audit stay as they are';
    END $$",
    "CREATE OR REPLACE TRIGGER audit_stays BEFORE UPDATE OR DELETE ON audit_entry
        FOR EACH ROW EXECUTE FUNCTION audit_stays()",
    "CREATE OR REPLACE TRIGGER audit_is_kept BEFORE TRUNCATE ON audit_entry EXECUTE FUNCTION audit_stays()",
];

/// Of migration 13, on top of those: patients of entries are neither changed nor deleted, and entries before the cut-off may be
/// deleted. `schema` is the quoted name of the schema that the tables are in, on PostgreSQL.
pub(crate) fn create_v13(backend: DbBackend, schema: &str) -> Vec<String> {
    match backend {
        DbBackend::Postgres => create_for_postgres(schema),
        _ => create_for_rows(backend),
    }
}

/// Whether an entry, or a patient of one, is old enough to be deleted.
const OLD_ENTRY: &str = "SELECT 1 FROM audit_retention r WHERE r.hospital_id = OLD.hospital_id AND OLD.at < r.cut_off";
const OLD_PATIENT: &str = "SELECT 1 FROM audit_entry e JOIN audit_retention r ON r.hospital_id = e.hospital_id
    WHERE e.hospital_id = OLD.hospital_id AND e.id = OLD.entry_id AND e.at < r.cut_off";

const REFUSAL: &str = "entries of the audit stay as they are";

fn create_for_rows(backend: DbBackend) -> Vec<String> {
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
        // Without recursive_triggers, the DELETE of an INSERT OR REPLACE fires no trigger.
        statements.push([
            "DROP TRIGGER IF EXISTS audit_is_not_replaced".to_owned(),
            format!(
                "CREATE TRIGGER audit_is_not_replaced BEFORE INSERT ON audit_entry FOR EACH ROW
                WHEN EXISTS (SELECT 1 FROM audit_entry e WHERE e.id = NEW.id)
                BEGIN SELECT RAISE(ABORT, '{REFUSAL}'); END"
            ),
        ]);
    }
    statements.into_iter().flatten().collect()
}

fn create_for_postgres(schema: &str) -> Vec<String> {
    // pg_temp last, or a temporary table named audit_retention would be read.
    let mut statements = vec![format!(
        "CREATE OR REPLACE FUNCTION audit_goes() RETURNS trigger LANGUAGE plpgsql SET search_path = {schema}, pg_temp AS $$
        BEGIN
            IF TG_TABLE_NAME = 'audit_patient' THEN
                IF EXISTS ({OLD_PATIENT}) THEN RETURN OLD; END IF;
            ELSIF EXISTS ({OLD_ENTRY}) THEN
                RETURN OLD;
            END IF;
            RAISE EXCEPTION '{REFUSAL}';
        END $$"
    )];
    for table in ["audit_entry", "audit_patient"] {
        for (name, event, function) in [
            ("audit_stays", "UPDATE", "audit_stays"),
            ("audit_goes", "DELETE", "audit_goes"),
            ("audit_is_kept", "TRUNCATE", "audit_stays"),
        ] {
            let each = if event == "TRUNCATE" { "" } else { "FOR EACH ROW" };
            statements.push(format!(
                "CREATE OR REPLACE TRIGGER {name} BEFORE {event} ON {table} {each} EXECUTE FUNCTION {function}()"
            ));
            // Also where session_replication_role is replica.
            statements.push(format!("ALTER TABLE {table} ENABLE ALWAYS TRIGGER {name}"));
        }
    }
    statements
}
