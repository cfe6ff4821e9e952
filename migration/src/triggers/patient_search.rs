//! The triggers that note the patients whose name or state was changed without the suffixes that search compares, and remove the
//! suffixes of deleted patients.

use sea_orm_migration::sea_orm::DbBackend;

/// The name that should be indexed.
const WANTED: &str = "CASE WHEN {row}.state = 'ACTIVE' THEN {row}.name END";

const TABLES: [&str; 2] = ["patient_name_suffix", "patient_to_index"];

const NAMES: [&str; 3] = ["patient_name_comes", "patient_name_changes", "patient_name_goes"];

pub(crate) fn create_v16(backend: DbBackend, schema: &str) -> Vec<String> {
    if backend == DbBackend::Postgres {
        return create_for_postgres(schema);
    }
    let wanted = WANTED.replace("{row}", "NEW");
    let mut statements = Vec::new();
    for (name, event) in NAMES.into_iter().zip(["INSERT", "UPDATE", "DELETE"]) {
        let body = match (backend, event) {
            (_, "DELETE") => {
                let delete =
                    |table| format!("DELETE FROM {table} WHERE hospital_id = OLD.hospital_id AND patient_id = OLD.id;");
                format!("BEGIN {} END", TABLES.map(delete).join(" "))
            }
            (DbBackend::MySql, _) => format!(
                "BEGIN IF NOT (NEW.indexed_name <=> {wanted})
                THEN INSERT IGNORE INTO patient_to_index VALUES (NEW.hospital_id, NEW.id); END IF; END"
            ),
            _ => format!(
                "WHEN NEW.indexed_name IS NOT {wanted}
                BEGIN INSERT OR IGNORE INTO patient_to_index VALUES (NEW.hospital_id, NEW.id); END"
            ),
        };
        let rest = format!("TRIGGER {name} AFTER {event} ON patient FOR EACH ROW {body}");
        match backend {
            // In one statement, so that no write comes between two.
            DbBackend::MySql => statements.push(format!("CREATE OR REPLACE {rest}")),
            _ => statements.extend([format!("DROP TRIGGER IF EXISTS {name}"), format!("CREATE {rest}")]),
        }
    }
    statements
}

pub(crate) fn drop_v16(backend: DbBackend) -> Vec<String> {
    match backend {
        DbBackend::Postgres => {
            vec![
                "DROP FUNCTION IF EXISTS patient_name_changes, patient_name_goes, patient_names_emptied CASCADE"
                    .to_owned(),
            ]
        }
        _ => NAMES.map(|name| format!("DROP TRIGGER IF EXISTS {name}")).to_vec(),
    }
}

const SORTED_BY: &str = "patient_sorted_by";

/// What lists are sorted by is in the rows of the suffixes, too.
pub(crate) fn create_v22(backend: DbBackend, schema: &str) -> Vec<String> {
    let columns = ["name", "chart_no", "registered_on"];
    let set = |row: &str| columns.map(|column| format!("{column} = {row}.{column}")).join(", ");
    let equal = |is: &str| columns.map(|column| format!("NEW.{column} {is} OLD.{column}"));
    let update = format!(
        "UPDATE patient_name_suffix SET {} WHERE hospital_id = NEW.hospital_id AND patient_id = NEW.id;",
        set("NEW")
    );
    let row_trigger = format!("TRIGGER {SORTED_BY} AFTER UPDATE ON patient FOR EACH ROW");
    match backend {
        DbBackend::Postgres => vec![
            format!(
                "CREATE OR REPLACE FUNCTION {SORTED_BY}() RETURNS trigger LANGUAGE plpgsql SET search_path = {schema}, pg_temp AS $$
            BEGIN
                UPDATE patient_name_suffix s SET {}
                    FROM new_rows n JOIN old_rows o ON o.hospital_id = n.hospital_id AND o.id = n.id
                    WHERE s.hospital_id = n.hospital_id AND s.patient_id = n.id AND ({}) IS DISTINCT FROM ({});
                RETURN NULL;
            END $$",
                set("n"),
                columns.map(|column| format!("n.{column}")).join(", "),
                columns.map(|column| format!("o.{column}")).join(", "),
            ),
            format!(
                "CREATE OR REPLACE TRIGGER {SORTED_BY} AFTER UPDATE ON patient
                REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows EXECUTE FUNCTION {SORTED_BY}()"
            ),
            format!("ALTER TABLE patient ENABLE ALWAYS TRIGGER {SORTED_BY}"),
        ],
        DbBackend::MySql => vec![format!(
            "CREATE OR REPLACE {row_trigger} BEGIN IF NOT ({}) THEN {update} END IF; END",
            equal("<=>").join(" AND ")
        )],
        _ => vec![
            format!("DROP TRIGGER IF EXISTS {SORTED_BY}"),
            format!("CREATE {row_trigger} WHEN {} BEGIN {update} END", equal("IS NOT").join(" OR ")),
        ],
    }
}

pub(crate) fn drop_v22(backend: DbBackend) -> Vec<String> {
    vec![match backend {
        DbBackend::Postgres => format!("DROP FUNCTION IF EXISTS {SORTED_BY} CASCADE"),
        _ => format!("DROP TRIGGER IF EXISTS {SORTED_BY}"),
    }]
}

/// For statements, like those of change tracking.
fn create_for_postgres(schema: &str) -> Vec<String> {
    let function = |name: &str, body: &str| {
        format!(
            "CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql SET search_path = {schema}, pg_temp AS $$
            BEGIN
                {body}
                RETURN NULL;
            END $$"
        )
    };
    let delete = |table| {
        format!("DELETE FROM {table} t USING old_rows o WHERE t.hospital_id = o.hospital_id AND t.patient_id = o.id;")
    };
    let changes = format!(
        "INSERT INTO patient_to_index SELECT n.hospital_id, n.id FROM new_rows n
                    WHERE n.indexed_name IS DISTINCT FROM {} ON CONFLICT DO NOTHING;",
        WANTED.replace("{row}", "n")
    );
    let mut statements = vec![
        function("patient_name_changes", &changes),
        function("patient_name_goes", &TABLES.map(delete).join(" ")),
        function(
            "patient_names_emptied",
            &TABLES.map(|table| format!("DELETE FROM {table};")).join(" "),
        ),
    ];
    for (name, when, rows, called) in [
        (
            NAMES[0],
            "AFTER INSERT",
            "REFERENCING NEW TABLE AS new_rows",
            "patient_name_changes",
        ),
        (
            NAMES[1],
            "AFTER UPDATE",
            "REFERENCING NEW TABLE AS new_rows",
            "patient_name_changes",
        ),
        (
            NAMES[2],
            "AFTER DELETE",
            "REFERENCING OLD TABLE AS old_rows",
            "patient_name_goes",
        ),
        ("patient_names_emptied", "BEFORE TRUNCATE", "", "patient_names_emptied"),
    ] {
        statements.push(format!(
            "CREATE OR REPLACE TRIGGER {name} {when} ON patient {rows} EXECUTE FUNCTION {called}()"
        ));
        // Also where session_replication_role is replica.
        statements.push(format!("ALTER TABLE patient ENABLE ALWAYS TRIGGER {name}"));
    }
    statements
}
