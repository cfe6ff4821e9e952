//! The triggers that record every change, also those made in plain SQL: they keep the revision, the change feed, the history of visits, the
//! tombstones of deleted rows, and the counts beside the revision.
//!
//! SQLite and MariaDB have row triggers only. On PostgreSQL they are statement triggers with transition tables, since a row
//! trigger that updates one row is quadratic within a statement there.
//!
//! To let a count, an order or the history depend on another column, add it to the list of its table with the number of the
//! migration that you write. That migration adds the column to `visit_change`, where it is one of `visit`, and runs [`create`]
//! with its number. A new trigger or function names the number of its migration in the same way.

use sea_orm_migration::sea_orm::DbBackend;

/// A column that triggers compare, and the migration from which on they do.
struct Column(&'static str, u32);

/// Never change.
const KEY: &[Column] = &[Column("id", 9), Column("hospital_id", 9)];

const HOSPITAL: &[Column] = &[Column("time_zone", 9), Column("week_start", 9)];

const PATIENT: &[Column] = &[
    Column("state", 9),
    Column("merged_into", 9),
    Column("chart_no", 9),
    Column("name", 9),
    Column("registered_on", 9),
];

/// The history keeps these, too.
const VISIT: &[Column] = &[
    Column("patient_id", 9),
    Column("date", 9),
    Column("scheduled_at", 9),
    Column("status", 9),
    Column("department_id", 9),
    Column("doctor_id", 9),
    Column("channel", 9),
];

/// A trigger.
struct Trigger {
    name: &'static str,
    table: &'static str,
    timing: &'static str,
    event: &'static str,
    /// The migration that added it.
    since: u32,
    /// It does nothing where none of these changed. Where there are none, it always fires.
    compared: &'static [Column],
    /// What it executes for each row on SQLite and MariaDB, with the placeholders of [`expand_row`]; none where only
    /// PostgreSQL has it.
    row: Option<&'static str>,
    /// What follows the table in the statement that creates it on PostgreSQL. The function is one of [`FUNCTIONS`].
    postgres: &'static str,
}

/// Increments the revision's number, and more of it by `$counts`, and adds a row to the change feed.
macro_rules! note_change {
    ($hospital:literal, $counts:literal, $feed:literal) => {
        concat!(
            "UPDATE revision SET number = number + 1",
            $counts,
            " WHERE hospital_id = ",
            $hospital,
            ";
            INSERT INTO change_feed SELECT hospital_id, number, {tag}, ",
            $feed,
            " FROM revision
                WHERE hospital_id = ",
            $hospital,
            ";"
        )
    };
}

/// Adds to the history what the visit was before.
macro_rules! note_history {
    ($kind:literal) => {
        concat!(
            "INSERT INTO visit_change SELECT hospital_id, number, OLD.id, '",
            $kind,
            "', {now}, {OLD.kept}
                FROM revision WHERE hospital_id = OLD.hospital_id;"
        )
    };
}

const TRIGGERS: &[Trigger] = &[
    Trigger {
        name: "hospital_begins",
        table: "hospital",
        timing: "AFTER",
        event: "INSERT",
        since: 9,
        compared: &[],
        row: Some(
            "INSERT INTO revision (hospital_id, number) VALUES (NEW.id, 0);
                INSERT INTO change_feed VALUES (NEW.id, 0, {tag}, 'RESET', NULL, NULL, NULL, NULL);",
        ),
        postgres: "FOR EACH ROW EXECUTE FUNCTION hospital_begins()",
    },
    Trigger {
        name: "hospital_changes",
        table: "hospital",
        timing: "AFTER",
        event: "UPDATE",
        since: 9,
        compared: HOSPITAL,
        row: Some(note_change!("NEW.id", "", "'RULES', NULL, NULL, NULL, NULL")),
        postgres: "REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows EXECUTE FUNCTION hospital_changes()",
    },
    Trigger {
        name: "definition_comes",
        table: "definition",
        timing: "AFTER",
        event: "INSERT",
        since: 9,
        compared: &[],
        row: Some(note_change!("NEW.hospital_id", "", "'RULES', NULL, NULL, NULL, NULL")),
        postgres: "REFERENCING NEW TABLE AS changed_rows EXECUTE FUNCTION definition_changes()",
    },
    Trigger {
        name: "definition_changes",
        table: "definition",
        timing: "AFTER",
        event: "UPDATE",
        since: 9,
        compared: &[],
        row: Some(note_change!("NEW.hospital_id", "", "'RULES', NULL, NULL, NULL, NULL")),
        postgres: "REFERENCING NEW TABLE AS changed_rows EXECUTE FUNCTION definition_changes()",
    },
    Trigger {
        name: "definition_goes",
        table: "definition",
        timing: "AFTER",
        event: "DELETE",
        since: 9,
        compared: &[],
        row: Some(note_change!("OLD.hospital_id", "", "'RULES', NULL, NULL, NULL, NULL")),
        postgres: "REFERENCING OLD TABLE AS changed_rows EXECUTE FUNCTION definition_changes()",
    },
    Trigger {
        name: "patient_comes",
        table: "patient",
        timing: "AFTER",
        event: "INSERT",
        since: 9,
        compared: &[],
        row: Some(
            "UPDATE revision SET patient_count = patient_count + (NEW.state = 'ACTIVE')
                    WHERE hospital_id = NEW.hospital_id;",
        ),
        postgres: "REFERENCING NEW TABLE AS new_rows EXECUTE FUNCTION patient_comes()",
    },
    Trigger {
        name: "patient_stays",
        table: "patient",
        timing: "BEFORE",
        event: "UPDATE",
        since: 9,
        compared: KEY,
        row: Some("{refuse}'the id and the hospital of a patient never change'{refused};"),
        postgres: "FOR EACH ROW EXECUTE FUNCTION keeps_its_key()",
    },
    Trigger {
        name: "patient_changes",
        table: "patient",
        timing: "AFTER",
        event: "UPDATE",
        since: 9,
        compared: PATIENT,
        row: Some(note_change!(
            "NEW.hospital_id",
            ", patient_count = patient_count + (NEW.state = 'ACTIVE') - (OLD.state = 'ACTIVE')",
            "'PATIENT', NULL, NEW.id, NULL, NULL"
        )),
        postgres: "REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows EXECUTE FUNCTION patient_changes()",
    },
    Trigger {
        name: "patient_goes",
        table: "patient",
        timing: "AFTER",
        event: "DELETE",
        since: 9,
        compared: &[],
        row: Some(concat!(
            "{replace} INTO patient_tombstone (hospital_id, id) VALUES (OLD.hospital_id, OLD.id);
                ",
            note_change!(
                "OLD.hospital_id",
                ", patient_count = patient_count - (OLD.state = 'ACTIVE')",
                "'PATIENT', NULL, NULL, OLD.id, NULL"
            )
        )),
        postgres: "REFERENCING OLD TABLE AS old_rows EXECUTE FUNCTION patient_goes()",
    },
    Trigger {
        name: "patients_emptied",
        table: "patient",
        timing: "BEFORE",
        event: "TRUNCATE",
        since: 9,
        compared: &[],
        row: None,
        postgres: "EXECUTE FUNCTION patients_emptied()",
    },
    Trigger {
        name: "visit_comes",
        table: "visit",
        timing: "AFTER",
        event: "INSERT",
        since: 9,
        compared: &[],
        row: Some(note_change!(
            "NEW.hospital_id",
            ", visit_count = visit_count + 1",
            "'VISIT', NEW.id, NEW.patient_id, NULL, NULL"
        )),
        postgres: "REFERENCING NEW TABLE AS new_rows EXECUTE FUNCTION visit_comes()",
    },
    Trigger {
        name: "visit_stays",
        table: "visit",
        timing: "BEFORE",
        event: "UPDATE",
        since: 9,
        compared: KEY,
        row: Some("{refuse}'the id and the hospital of a visit never change'{refused};"),
        postgres: "FOR EACH ROW EXECUTE FUNCTION keeps_its_key()",
    },
    Trigger {
        name: "visit_changes",
        table: "visit",
        timing: "AFTER",
        event: "UPDATE",
        since: 9,
        compared: VISIT,
        row: Some(concat!(
            note_change!(
                "NEW.hospital_id",
                "",
                "'VISIT', NEW.id, NEW.patient_id, OLD.patient_id, OLD.date"
            ),
            " ",
            note_history!("CHANGED")
        )),
        postgres: "REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows EXECUTE FUNCTION visit_changes()",
    },
    Trigger {
        name: "visit_goes",
        table: "visit",
        timing: "AFTER",
        event: "DELETE",
        since: 9,
        compared: &[],
        row: Some(concat!(
            "{replace} INTO visit_tombstone (hospital_id, id, patient_id, date, status, channel)
                    VALUES (OLD.hospital_id, OLD.id, OLD.patient_id, OLD.date, OLD.status, OLD.channel);
                ",
            note_change!(
                "OLD.hospital_id",
                ", visit_count = visit_count - 1",
                "'VISIT', OLD.id, NULL, OLD.patient_id, OLD.date"
            ),
            " ",
            note_history!("DELETED")
        )),
        postgres: "REFERENCING OLD TABLE AS old_rows EXECUTE FUNCTION visit_goes()",
    },
    Trigger {
        name: "visits_emptied",
        table: "visit",
        timing: "BEFORE",
        event: "TRUNCATE",
        since: 9,
        compared: &[],
        row: None,
        postgres: "EXECUTE FUNCTION visits_emptied()",
    },
];

/// PostgreSQL's functions, each with the migration that added it.
///
/// | placeholder | stands for |
/// | --- | --- |
/// | `{schema}` | the schema that the tables are in; functions look names up there and nowhere else |
/// | `{n.visit}` | the compared columns of the table, as columns of `n`; so with other aliases and tables |
/// | `{o.kept}` | what the history keeps of the visit `o` |
///
/// `pg_temp` has to be named: where it is not, it comes first.
const FUNCTIONS: &[(u32, &str)] = &[
    // In a form that the planner can put in place of the call.
    (9, "CREATE OR REPLACE FUNCTION rollcall_tag() RETURNS bigint LANGUAGE sql VOLATILE AS
        $$ SELECT pg_catalog.hashtextextended(pg_catalog.gen_random_uuid()::pg_catalog.text, 0) $$"),
    (9, "CREATE OR REPLACE FUNCTION hospital_begins() RETURNS trigger LANGUAGE plpgsql
        SET search_path = {schema}, pg_temp AS $$
    BEGIN
        INSERT INTO revision (hospital_id, number) VALUES (NEW.id, 0);
        INSERT INTO change_feed VALUES (NEW.id, 0, rollcall_tag(), 'RESET');
        RETURN NULL;
    END $$"),
    (9, "DROP FUNCTION IF EXISTS note_rows(change_feed[])"),
    // Counts up by the rows that changed, writes each under its number, and hands them back. Each makes so many visits more.
    (9, "CREATE OR REPLACE FUNCTION note_rows(changed change_feed[], visits bigint) RETURNS SETOF change_feed LANGUAGE sql
        SET search_path = {schema}, pg_temp AS $$
        WITH bumped AS (
            UPDATE revision r SET number = r.number + c.rows, visit_count = r.visit_count + c.rows * visits
            FROM (SELECT hospital_id, count(*) AS rows FROM unnest(changed) GROUP BY hospital_id) c
            WHERE r.hospital_id = c.hospital_id
            RETURNING r.hospital_id, r.number - c.rows AS base
        )
        INSERT INTO change_feed
        SELECT c.hospital_id, b.base + row_number() OVER (PARTITION BY c.hospital_id), rollcall_tag(),
            c.kind, c.visit_id, c.patient_id, c.old_patient_id, c.old_date
        FROM unnest(changed) c JOIN bumped b USING (hospital_id)
        RETURNING change_feed.*
    $$"),
    (9, "CREATE OR REPLACE FUNCTION hospital_changes() RETURNS trigger LANGUAGE plpgsql
        SET search_path = {schema}, pg_temp AS $$
    BEGIN
        PERFORM note_rows(ARRAY(SELECT ROW(n.id, 0, 0, 'RULES', NULL, NULL, NULL, NULL)::change_feed
            FROM new_rows n JOIN old_rows o ON o.id = n.id
            WHERE ({n.hospital}) IS DISTINCT FROM ({o.hospital})), 0);
        RETURN NULL;
    END $$"),
    (9, "CREATE OR REPLACE FUNCTION definition_changes() RETURNS trigger LANGUAGE plpgsql
        SET search_path = {schema}, pg_temp AS $$
    BEGIN
        PERFORM note_rows(ARRAY(SELECT ROW(n.hospital_id, 0, 0, 'RULES', NULL, NULL, NULL, NULL)::change_feed
            FROM changed_rows n), 0);
        RETURN NULL;
    END $$"),
    (9, "CREATE OR REPLACE FUNCTION keeps_its_key() RETURNS trigger LANGUAGE plpgsql
        SET search_path = {schema}, pg_temp AS $$
    BEGIN
        IF ({NEW.key}) IS DISTINCT FROM ({OLD.key}) THEN
            RAISE EXCEPTION 'the id and the hospital of a % never change', TG_TABLE_NAME;
        END IF;
        RETURN NEW;
    END $$"),
    (9, "CREATE OR REPLACE FUNCTION patient_comes() RETURNS trigger LANGUAGE plpgsql
        SET search_path = {schema}, pg_temp AS $$
    BEGIN
        UPDATE revision r SET patient_count = r.patient_count + c.rows
            FROM (SELECT hospital_id, count(*) AS rows FROM new_rows WHERE state = 'ACTIVE' GROUP BY hospital_id) c
            WHERE r.hospital_id = c.hospital_id;
        RETURN NULL;
    END $$"),
    (9, "CREATE OR REPLACE FUNCTION patient_changes() RETURNS trigger LANGUAGE plpgsql
        SET search_path = {schema}, pg_temp AS $$
    BEGIN
        PERFORM note_rows(ARRAY(SELECT ROW(n.hospital_id, 0, 0, 'PATIENT', NULL, n.id, NULL, NULL)::change_feed
            FROM new_rows n JOIN old_rows o ON o.hospital_id = n.hospital_id AND o.id = n.id
            WHERE ({n.patient})
                IS DISTINCT FROM ({o.patient})), 0);
        UPDATE revision r SET patient_count = r.patient_count + c.rows
            FROM (
                SELECT n.hospital_id, sum((n.state = 'ACTIVE')::int - (o.state = 'ACTIVE')::int) AS rows
                FROM new_rows n JOIN old_rows o ON o.hospital_id = n.hospital_id AND o.id = n.id
                WHERE n.state <> o.state GROUP BY n.hospital_id
            ) c
            WHERE r.hospital_id = c.hospital_id AND c.rows <> 0;
        RETURN NULL;
    END $$"),
    (9, "CREATE OR REPLACE FUNCTION patient_goes() RETURNS trigger LANGUAGE plpgsql
        SET search_path = {schema}, pg_temp AS $$
    BEGIN
        INSERT INTO patient_tombstone (hospital_id, id) SELECT hospital_id, id FROM old_rows ON CONFLICT DO NOTHING;
        PERFORM note_rows(ARRAY(SELECT ROW(o.hospital_id, 0, 0, 'PATIENT', NULL, NULL, o.id, NULL)::change_feed
            FROM old_rows o), 0);
        UPDATE revision r SET patient_count = r.patient_count - c.rows
            FROM (SELECT hospital_id, count(*) AS rows FROM old_rows WHERE state = 'ACTIVE' GROUP BY hospital_id) c
            WHERE r.hospital_id = c.hospital_id;
        RETURN NULL;
    END $$"),
    (9, "CREATE OR REPLACE FUNCTION visit_comes() RETURNS trigger LANGUAGE plpgsql
        SET search_path = {schema}, pg_temp AS $$
    BEGIN
        PERFORM note_rows(ARRAY(SELECT ROW(n.hospital_id, 0, 0, 'VISIT', n.id, n.patient_id, NULL, NULL)::change_feed
            FROM new_rows n), 1);
        RETURN NULL;
    END $$"),
    (9, "CREATE OR REPLACE FUNCTION visit_changes() RETURNS trigger LANGUAGE plpgsql
        SET search_path = {schema}, pg_temp AS $$
    BEGIN
        INSERT INTO visit_change
            SELECT f.hospital_id, f.number, f.visit_id, 'CHANGED', clock_timestamp(), {o.kept}
            FROM note_rows(ARRAY(
                SELECT ROW(n.hospital_id, 0, 0, 'VISIT', n.id, n.patient_id, o.patient_id, o.date)::change_feed
                FROM new_rows n JOIN old_rows o ON o.hospital_id = n.hospital_id AND o.id = n.id
                WHERE ({n.visit})
                    IS DISTINCT FROM
                    ({o.visit})), 0) f
            JOIN old_rows o ON o.hospital_id = f.hospital_id AND o.id = f.visit_id;
        RETURN NULL;
    END $$"),
    (9, "CREATE OR REPLACE FUNCTION visit_goes() RETURNS trigger LANGUAGE plpgsql
        SET search_path = {schema}, pg_temp AS $$
    BEGIN
        INSERT INTO visit_tombstone (hospital_id, id, patient_id, date, status, channel)
            SELECT hospital_id, id, patient_id, date, status, channel FROM old_rows
            ON CONFLICT (hospital_id, id) DO UPDATE SET patient_id = excluded.patient_id, date = excluded.date,
                status = excluded.status, channel = excluded.channel;
        INSERT INTO visit_change
            SELECT f.hospital_id, f.number, f.visit_id, 'DELETED', clock_timestamp(), {o.kept}
            FROM note_rows(ARRAY(
                SELECT ROW(o.hospital_id, 0, 0, 'VISIT', o.id, NULL, o.patient_id, o.date)::change_feed
                FROM old_rows o), -1) f
            JOIN old_rows o ON o.hospital_id = f.hospital_id AND o.id = f.visit_id;
        RETURN NULL;
    END $$"),
    (9, "CREATE OR REPLACE FUNCTION visits_emptied() RETURNS trigger LANGUAGE plpgsql
        SET search_path = {schema}, pg_temp AS $$
    BEGIN
        INSERT INTO visit_tombstone (hospital_id, id, patient_id, date, status, channel)
            SELECT hospital_id, id, patient_id, date, status, channel FROM visit
            ON CONFLICT (hospital_id, id) DO UPDATE SET patient_id = excluded.patient_id, date = excluded.date,
                status = excluded.status, channel = excluded.channel;
        INSERT INTO visit_change
            SELECT f.hospital_id, f.number, v.id, 'DELETED', clock_timestamp(), {v.kept}
            FROM note_rows(ARRAY(
                SELECT ROW(r.hospital_id, 0, 0, 'RESET', NULL, NULL, NULL, NULL)::change_feed FROM revision r), 0) f
            JOIN visit v ON v.hospital_id = f.hospital_id;
        UPDATE revision SET visit_count = 0;
        RETURN NULL;
    END $$"),
    (9, "CREATE OR REPLACE FUNCTION patients_emptied() RETURNS trigger LANGUAGE plpgsql
        SET search_path = {schema}, pg_temp AS $$
    BEGIN
        INSERT INTO patient_tombstone (hospital_id, id) SELECT hospital_id, id FROM patient ON CONFLICT DO NOTHING;
        PERFORM note_rows(ARRAY(SELECT ROW(r.hospital_id, 0, 0, 'RESET', NULL, NULL, NULL, NULL)::change_feed
            FROM revision r), 0);
        UPDATE revision SET patient_count = 0;
        RETURN NULL;
    END $$"),
];

/// The triggers that keep track of changes: table and name.
pub fn change_tracking_triggers(backend: DbBackend) -> impl Iterator<Item = (&'static str, &'static str)> {
    triggers(backend, u32::MAX).map(|trigger| (trigger.table, trigger.name))
}

/// The triggers that a database of this kind has after the migration of this number.
pub(crate) fn names(backend: DbBackend, version: u32) -> impl Iterator<Item = &'static str> {
    triggers(backend, version).map(|trigger| trigger.name)
}

fn triggers(backend: DbBackend, version: u32) -> impl Iterator<Item = &'static Trigger> {
    let has =
        move |trigger: &&Trigger| trigger.since <= version && (backend == DbBackend::Postgres || trigger.row.is_some());
    TRIGGERS.iter().filter(has)
}

/// The statements that create the triggers as they are after the migration of this number. `schema` is the quoted name of the
/// schema that the tables are in, on PostgreSQL.
pub(crate) fn create(backend: DbBackend, schema: &str, version: u32) -> Vec<String> {
    let functions = FUNCTIONS
        .iter()
        .filter(|(since, _)| backend == DbBackend::Postgres && *since <= version)
        .map(|(_, function)| expand_function(function, schema, version));
    let triggers = triggers(backend, version).flat_map(|trigger| match backend {
        DbBackend::Postgres => trigger.create_for_statements(version),
        _ => trigger.create_for_rows(backend, version),
    });
    functions.chain(triggers).collect()
}

impl Trigger {
    fn create_for_statements(&self, version: u32) -> Vec<String> {
        let Self {
            name,
            table,
            timing,
            event,
            postgres,
            ..
        } = self;
        // A trigger after the statement compares in its function.
        let of = match *timing {
            "BEFORE" if !self.compared.is_empty() => format!(" OF {}", listed(self.compared, "", version)),
            _ => String::new(),
        };
        vec![
            format!("CREATE OR REPLACE TRIGGER {name} {timing} {event}{of} ON {table} {postgres}"),
            // Also where session_replication_role is replica.
            format!("ALTER TABLE {table} ENABLE ALWAYS TRIGGER {name}"),
        ]
    }

    fn create_for_rows(&self, backend: DbBackend, version: u32) -> Vec<String> {
        let Self {
            name,
            table,
            timing,
            event,
            ..
        } = self;
        let body = expand_row(backend, self.row.unwrap_or_default(), version);
        // Nulls compare as values.
        let is = if backend == DbBackend::MySql { "<=>" } else { "IS" };
        let same: Vec<String> = existing(self.compared, version)
            .map(|Column(column, _)| format!("OLD.{column} {is} NEW.{column}"))
            .collect();
        let same = same.join(" AND ");
        let body = match backend {
            _ if same.is_empty() => format!("BEGIN {body} END"),
            DbBackend::MySql => format!("BEGIN IF NOT ({same}) THEN {body} END IF; END"),
            _ => format!("WHEN NOT ({same}) BEGIN {body} END"),
        };
        let rest = format!("TRIGGER {name} {timing} {event} ON {table} FOR EACH ROW {body}");
        match backend {
            // In one statement, so that no write comes between two.
            DbBackend::MySql => vec![format!("CREATE OR REPLACE {rest}")],
            _ => vec![format!("DROP TRIGGER IF EXISTS {name}"), format!("CREATE {rest}")],
        }
    }
}

/// Replaces the placeholders of a row trigger.
///
/// | placeholder | stands for |
/// | --- | --- |
/// | `{tag}` | a random number of 60 bits or more |
/// | `{replace}` | inserts a row, or replaces the one with its key |
/// | `{refuse}'message'{refused}` | fails with the message |
/// | `{OLD.kept}` | what the history keeps of a visit |
///
/// Those of `dialect` are replaced later.
fn expand_row(backend: DbBackend, body: &str, version: u32) -> String {
    let (tag, replace, refuse, refused) = match backend {
        DbBackend::MySql => (
            "CAST(CONV(LEFT(MD5(CONCAT(UUID(), RAND())), 15), 16, 10) AS SIGNED)",
            "REPLACE",
            "SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = ",
            "",
        ),
        _ => ("random()", "INSERT OR REPLACE", "SELECT RAISE(ABORT, ", ")"),
    };
    body.replace("{tag}", tag)
        .replace("{replace}", replace)
        .replace("{refuse}", refuse)
        .replace("{refused}", refused)
        .replace("{OLD.kept}", &kept(VISIT, "OLD", "                    ", version))
}

fn expand_function(function: &str, schema: &str, version: u32) -> String {
    let mut function = function.replace("{schema}", schema);
    for (table, columns) in [
        ("key", KEY),
        ("hospital", HOSPITAL),
        ("patient", PATIENT),
        ("visit", VISIT),
    ] {
        for alias in ["n", "o", "NEW", "OLD"] {
            let columns = listed(columns, &format!("{alias}."), version);
            function = function.replace(&format!("{{{alias}.{table}}}"), &columns);
        }
    }
    for alias in ["o", "v"] {
        function = function.replace(
            &format!("{{{alias}.kept}}"),
            &kept(VISIT, alias, "                ", version),
        );
    }
    function
}

fn existing(columns: &'static [Column], version: u32) -> impl Iterator<Item = &'static Column> {
    columns.iter().filter(move |Column(_, since)| *since <= version)
}

fn listed(columns: &'static [Column], prefix: &str, version: u32) -> String {
    let columns: Vec<String> = existing(columns, version)
        .map(|Column(name, _)| format!("{prefix}{name}"))
        .collect();
    columns.join(", ")
}

/// What the history keeps of a visit, in the order in which `visit_change` has the columns: those that it had from the start,
/// then `staff_id` and `reason`, which the server fills in, then those added since.
///
/// The line break is where migration 9 had it, with what indents the line after it.
fn kept(columns: &'static [Column], alias: &str, indent: &str, version: u32) -> String {
    let (first, added): (Vec<&Column>, Vec<&Column>) =
        existing(columns, version).partition(|Column(_, since)| *since <= 9);
    let value = |Column(name, _): &&Column| format!("{alias}.{name}");
    let values: Vec<String> = first
        .iter()
        .map(value)
        .chain(["NULL".to_owned(), "NULL".to_owned()])
        .chain(added.iter().map(value))
        .collect();
    let (line, rest) = values.split_at(2);
    format!("{},\n{indent}{}", line.join(", "), rest.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [DbBackend; 3] = [DbBackend::Sqlite, DbBackend::Postgres, DbBackend::MySql];

    #[test]
    fn a_version_has_nothing_of_later_ones() {
        const COLUMNS: &[Column] = &[Column("a", 9), Column("b", 9), Column("c", 20), Column("d", 21)];
        assert_eq!(listed(COLUMNS, "n.", 9), "n.a, n.b");
        assert_eq!(listed(COLUMNS, "n.", 20), "n.a, n.b, n.c");
        assert_eq!(kept(COLUMNS, "o", " ", 9), "o.a, o.b,\n NULL, NULL");
        assert_eq!(kept(COLUMNS, "o", " ", 21), "o.a, o.b,\n NULL, NULL, o.c, o.d");
        for backend in ALL {
            assert_eq!(create(backend, "public", 8), [""; 0]);
        }
    }

    #[test]
    fn every_placeholder_is_replaced() {
        for backend in ALL {
            for statement in create(backend, "public", u32::MAX) {
                let statement = crate::dialect::expand(backend, &statement);
                assert!(!statement.contains(['{', '}']), "{statement}");
            }
        }
    }
}
