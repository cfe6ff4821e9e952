//! The triggers that record every change of patients and visits in `record_change`, also those made in plain SQL: what the
//! row was before.
//!
//! Who makes the changes of its transaction, and why, the server tells them in a way that no other transaction sees: on
//! PostgreSQL in settings of the transaction, on MariaDB in variables of the session, on SQLite in the table `change_context`.
//! A table would do on all three, but on MariaDB a trigger that reads one locks it.
//!
//! On PostgreSQL they are statement triggers with transition tables, as in `change_tracking`.

use sea_orm_migration::sea_orm::DbBackend;

/// A table whose rows have a history.
struct Recorded {
    table: &'static str,
    /// What `record_change` calls a row of it.
    record: &'static str,
    /// The columns that are kept; `record_change` has them all.
    columns: &'static [&'static str],
}

/// Of migration 17.
const RECORDED_V17: &[Recorded] = &[
    Recorded {
        table: "patient",
        record: "PATIENT",
        columns: &[
            "state",
            "merged_into",
            "chart_no",
            "name",
            "phone",
            "birth_date",
            "birth_year",
            "sex",
            "registered_on",
            "memo",
            "do_not_contact",
        ],
    },
    Recorded {
        table: "visit",
        record: "VISIT",
        columns: &[
            "visit_no",
            "patient_id",
            "date",
            "scheduled_at",
            "status",
            "department_id",
            "doctor_id",
            "channel",
            "duration_minutes",
            "checked_in_at",
            "started_at",
            "completed_at",
            "expires_at",
            "note",
        ],
    },
];

/// A kind of change, with what tells it apart in SQL.
struct Change {
    kind: &'static str,
    /// Ends the names of its triggers and functions.
    suffix: &'static str,
    timing: &'static str,
    event: &'static str,
    /// PostgreSQL's transition tables.
    referencing: &'static str,
    /// The rows that changed, as `r`, on PostgreSQL.
    rows: &'static str,
}

const ADDED: Change = Change {
    kind: "ADDED",
    suffix: "added",
    timing: "AFTER",
    event: "INSERT",
    referencing: "REFERENCING NEW TABLE AS new_rows ",
    rows: "new_rows r",
};

const CHANGED: Change = Change {
    kind: "CHANGED",
    suffix: "changed",
    timing: "AFTER",
    event: "UPDATE",
    referencing: "REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows ",
    rows: "old_rows r JOIN new_rows n ON n.hospital_id = r.hospital_id AND n.id = r.id",
};

const DELETED: Change = Change {
    kind: "DELETED",
    suffix: "deleted",
    timing: "AFTER",
    event: "DELETE",
    referencing: "REFERENCING OLD TABLE AS old_rows ",
    rows: "old_rows r",
};

/// PostgreSQL alone has it.
const TRUNCATED: Change = Change {
    kind: "DELETED",
    suffix: "truncated",
    timing: "BEFORE",
    event: "TRUNCATE",
    referencing: "",
    rows: "{table} r",
};

const CHANGES: &[Change] = &[ADDED, CHANGED, DELETED, TRUNCATED];

/// The triggers that record histories: table and name.
pub fn history_triggers(backend: DbBackend) -> impl Iterator<Item = (&'static str, String)> {
    recorded_changes(backend).map(|(recorded, change)| (recorded.table, recorded.name(change)))
}

/// The names of the triggers after migration 17, and of the functions that PostgreSQL's execute.
pub(crate) fn names_v17(backend: DbBackend) -> impl Iterator<Item = String> {
    recorded_changes(backend).map(|(recorded, change)| recorded.name(change))
}

fn recorded_changes(backend: DbBackend) -> impl Iterator<Item = (&'static Recorded, &'static Change)> {
    let changes = move || {
        let has = move |change: &&Change| backend == DbBackend::Postgres || change.event != "TRUNCATE";
        CHANGES.iter().filter(has)
    };
    RECORDED_V17
        .iter()
        .flat_map(move |recorded| changes().map(move |change| (recorded, change)))
}

/// The statements that create the triggers as they are after migration 17. `schema` is the quoted name of the schema that the
/// tables are in, on PostgreSQL.
pub(crate) fn create_v17(backend: DbBackend, schema: &str) -> Vec<String> {
    recorded_changes(backend)
        .flat_map(|(recorded, change)| match backend {
            DbBackend::Postgres => recorded.create_for_statements(change, schema),
            _ => recorded.create_for_rows(backend, change),
        })
        .collect()
}

impl Recorded {
    /// After those of `change_tracking` in the alphabet, by which PostgreSQL executes them: these lock the revision first.
    fn name(&self, change: &Change) -> String {
        format!("{}_history_{}", self.table, change.suffix)
    }

    /// The columns, each with the prefix.
    fn listed(&self, prefix: &str) -> String {
        let columns: Vec<String> = self.columns.iter().map(|column| format!("{prefix}{column}")).collect();
        columns.join(", ")
    }

    /// Records a change of the rows `{row}`. `context` has the expressions of who makes it, by what and why; `rest` follows the
    /// selected values.
    fn insert(&self, change: &Change, row: &str, now: &str, context: [&str; 3], rest: &str) -> String {
        let (record, kind) = (self.record, change.kind);
        let context = context.join(", ");
        // Before it was added there was nothing.
        let (columns, before) = match kind {
            "ADDED" => (String::new(), String::new()),
            _ => (
                format!(", {}", self.listed("")),
                format!(", {}", self.listed(&format!("{row}."))),
            ),
        };
        format!(
            "INSERT INTO record_change (hospital_id, record, record_id, kind, changed_at, staff_id, source, reason{columns})
            SELECT {row}.hospital_id, '{record}', {row}.id, '{kind}', {now}, {context}{before}
            {rest};"
        )
    }

    fn create_for_statements(&self, change: &Change, schema: &str) -> Vec<String> {
        let (name, table) = (self.name(change), self.table);
        let Change {
            timing,
            event,
            referencing,
            ..
        } = change;
        let differ = match *event {
            "UPDATE" => format!(
                "
            WHERE ({}) IS DISTINCT FROM ({})",
                self.listed("r."),
                self.listed("n.")
            ),
            _ => String::new(),
        };
        let rest = format!("FROM {}{differ}", change.rows.replace("{table}", table));
        let context = ["by_staff", "by_source", "for_reason"];
        let insert = self.insert(change, "r", "clock_timestamp()", context, &rest);
        vec![
            format!(
                "CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql
        SET search_path = {schema}, pg_temp AS $$
        DECLARE
            -- Empty where a transaction before in the session set it.
            by_staff bigint := NULLIF(current_setting('rollcall.staff_id', true), '');
            by_source text := NULLIF(current_setting('rollcall.source', true), '');
            for_reason text := NULLIF(current_setting('rollcall.reason', true), '');
        BEGIN
            IF current_setting('rollcall.recorded', true) = 'no' THEN
                RETURN NULL;
            END IF;
            {insert}
            RETURN NULL;
        END $$"
            ),
            format!(
                "CREATE OR REPLACE TRIGGER {name} {timing} {event} ON {table} {referencing}EXECUTE FUNCTION {name}()"
            ),
            // Also where session_replication_role is replica.
            format!("ALTER TABLE {table} ENABLE ALWAYS TRIGGER {name}"),
        ]
    }

    fn create_for_rows(&self, backend: DbBackend, change: &Change) -> Vec<String> {
        let (name, table) = (self.name(change), self.table);
        let Change { timing, event, .. } = change;
        let row = if *event == "INSERT" { "NEW" } else { "OLD" };
        let (context, rest) = match backend {
            DbBackend::MySql => (
                ["@rollcall_staff_id", "@rollcall_source", "@rollcall_reason"],
                "FROM DUAL WHERE @rollcall_recorded IS NULL OR @rollcall_recorded".to_owned(),
            ),
            _ => (
                ["c.staff_id", "c.source", "c.reason"],
                format!(
                    "FROM (SELECT 1) LEFT JOIN change_context c ON c.hospital_id = {row}.hospital_id
            WHERE c.recorded IS NULL OR c.recorded"
                ),
            ),
        };
        let insert = self.insert(change, row, "{now}", context, &rest);
        // Nulls compare as values.
        let is = if backend == DbBackend::MySql { "<=>" } else { "IS" };
        let same: Vec<String> = self
            .columns
            .iter()
            .map(|column| format!("OLD.{column} {is} NEW.{column}"))
            .collect();
        let same = same.join(" AND ");
        let body = match backend {
            _ if *event != "UPDATE" => format!("BEGIN {insert} END"),
            DbBackend::MySql => format!("BEGIN IF NOT ({same}) THEN {insert} END IF; END"),
            _ => format!("WHEN NOT ({same}) BEGIN {insert} END"),
        };
        let rest = format!("TRIGGER {name} {timing} {event} ON {table} FOR EACH ROW {body}");
        match backend {
            // In one statement, so that no write comes between two.
            DbBackend::MySql => vec![format!("CREATE OR REPLACE {rest}")],
            _ => vec![format!("DROP TRIGGER IF EXISTS {name}"), format!("CREATE {rest}")],
        }
    }
}
