//! Change tracking as migration 2 created it. Migration 9 goes back to it when it is reverted.
//!
//! A change locks the hospital's row of `revision`, increments its number and adds a row to `change_feed` under each new number,
//! with a random tag. The lock is held until the commit, so the order of the numbers is the order of the commits. A restored
//! backup has another tag under the same number, or none.

use sea_orm_migration::sea_orm::DbBackend;

/// All statements of the migration.
pub(crate) fn create(backend: DbBackend) -> Vec<String> {
    let owned = |statements: &[&str]| statements.iter().map(|&statement| statement.to_owned()).collect();
    let mut statements: Vec<String> = owned(TABLES);
    match backend {
        DbBackend::Postgres => statements.extend(owned(POSTGRES)),
        _ => statements.extend(row_trigger_names().flat_map(|name| create_row_trigger(backend, name, ""))),
    }
    statements.extend(owned(EXISTING));
    statements
}

pub(crate) fn row_trigger_names() -> impl Iterator<Item = &'static str> {
    ROW_TRIGGERS.iter().map(|(name, ..)| *name)
}

const TABLES: &[&str] = &[
    "CREATE TABLE IF NOT EXISTS revision (
        hospital_id BIGINT NOT NULL PRIMARY KEY,
        number BIGINT NOT NULL
    ){table}",
    "CREATE TABLE IF NOT EXISTS change_feed (
        hospital_id BIGINT NOT NULL,
        number BIGINT NOT NULL,
        tag BIGINT NOT NULL,
        kind {text} NOT NULL,
        visit_id BIGINT,
        patient_id BIGINT,
        old_patient_id BIGINT,
        old_date DATE,
        PRIMARY KEY (hospital_id, number)
    ){table}",
];

/// Existing hospitals start at revision 0, as new ones do by their trigger.
const EXISTING: &[&str] = &[
    "INSERT INTO revision SELECT id, 0 FROM hospital WHERE id NOT IN (SELECT hospital_id FROM revision)",
    "INSERT INTO change_feed (hospital_id, number, tag, kind)
        SELECT hospital_id, 0, 0, 'RESET' FROM revision WHERE number = 0
            AND hospital_id NOT IN (SELECT hospital_id FROM change_feed)",
];

/// The SQL in which the two databases with row triggers differ.
struct Words {
    /// Whether a column keeps its value, nulls compared as values.
    same: fn(&str) -> String,
    tag: &'static str,
    /// Fails with a message.
    refuse: fn(&str) -> String,
    replace: &'static str,
    when: fn(&str, &str) -> String,
}

const SQLITE: Words = Words {
    same: |column| format!("OLD.{column} IS NEW.{column}"),
    tag: "random()",
    refuse: |message| format!("SELECT RAISE(ABORT, '{message}');"),
    replace: "INSERT OR REPLACE",
    when: |condition, body| format!("WHEN {condition} BEGIN {body} END"),
};

const MARIADB: Words = Words {
    same: |column| format!("OLD.{column} <=> NEW.{column}"),
    tag: "CAST(CONV(LEFT(MD5(CONCAT(UUID(), RAND())), 15), 16, 10) AS SIGNED)",
    refuse: |message| format!("SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = '{message}';"),
    replace: "REPLACE",
    when: |condition, body| format!("BEGIN IF {condition} THEN {body} END IF; END"),
};

/// Name, timing and event, table, what it does.
const ROW_TRIGGERS: &[(&str, &str, &str, Does)] = &[
    ("hospital_begins", "AFTER INSERT", "hospital", Does::Begin),
    (
        "hospital_changes",
        "AFTER UPDATE",
        "hospital",
        Does::Rules {
            id: "id",
            columns: &["time_zone", "week_start"],
        },
    ),
    (
        "definition_comes",
        "AFTER INSERT",
        "definition",
        Does::Note { row: "NEW" },
    ),
    (
        "definition_changes",
        "AFTER UPDATE",
        "definition",
        Does::Note { row: "NEW" },
    ),
    (
        "definition_goes",
        "AFTER DELETE",
        "definition",
        Does::Note { row: "OLD" },
    ),
    ("patient_stays", "BEFORE UPDATE", "patient", Does::Keep),
    (
        "patient_changes",
        "AFTER UPDATE",
        "patient",
        Does::Patient {
            columns: &["state", "merged_into", "chart_no", "name", "registered_on"],
        },
    ),
    ("patient_goes", "AFTER DELETE", "patient", Does::PatientGoes),
    ("visit_comes", "AFTER INSERT", "visit", Does::VisitComes),
    ("visit_stays", "BEFORE UPDATE", "visit", Does::Keep),
    (
        "visit_changes",
        "AFTER UPDATE",
        "visit",
        Does::VisitChanges {
            columns: &[
                "patient_id",
                "date",
                "scheduled_at",
                "status",
                "department_id",
                "doctor_id",
                "channel",
            ],
        },
    ),
    ("visit_goes", "AFTER DELETE", "visit", Does::VisitGoes),
];

enum Does {
    /// Begins the revision of a hospital.
    Begin,
    /// Notes that the rules changed, where one of the columns did.
    Rules {
        id: &'static str,
        columns: &'static [&'static str],
    },
    /// Notes that the rules changed.
    Note {
        row: &'static str,
    },
    /// Refuses another id or hospital.
    Keep,
    Patient {
        columns: &'static [&'static str],
    },
    PatientGoes,
    VisitComes,
    VisitChanges {
        columns: &'static [&'static str],
    },
    VisitGoes,
}

/// The statements that create one of the row triggers. `also` are statements that it executes at its end.
pub(super) fn create_row_trigger(backend: DbBackend, which: &str, also: &str) -> Vec<String> {
    let words = if backend == DbBackend::MySql { &MARIADB } else { &SQLITE };
    let mut statements = Vec::new();
    for (name, event, table, does) in ROW_TRIGGERS.iter().filter(|(name, ..)| *name == which) {
        let body = does.body(table, words, also);
        statements.push(format!("DROP TRIGGER IF EXISTS {name}"));
        statements.push(format!("CREATE TRIGGER {name} {event} ON {table} FOR EACH ROW {body}"));
    }
    statements
}

impl Does {
    fn body(&self, table: &str, words: &Words, also: &str) -> String {
        let tag = words.tag;
        let plain = |body: &str| format!("BEGIN {body} {also} END");
        let count = |hospital: &str, feed: &str| {
            format!(
                "UPDATE revision SET number = number + 1 WHERE hospital_id = {hospital};
                INSERT INTO change_feed SELECT hospital_id, number, {tag}, {feed} FROM revision
                    WHERE hospital_id = {hospital};"
            )
        };
        let changed = |columns: &[&str]| {
            let same: Vec<String> = columns.iter().map(|column| (words.same)(column)).collect();
            format!("NOT ({})", same.join(" AND "))
        };
        let rules = "'RULES', NULL, NULL, NULL, NULL";
        match self {
            Self::Begin => plain(&format!(
                "INSERT INTO revision VALUES (NEW.id, 0);
                INSERT INTO change_feed VALUES (NEW.id, 0, {tag}, 'RESET', NULL, NULL, NULL, NULL);"
            )),
            Self::Rules { id, columns } => (words.when)(&changed(columns), &count(&format!("NEW.{id}"), rules)),
            Self::Note { row } => plain(&count(&format!("{row}.hospital_id"), rules)),
            Self::Keep => (words.when)(
                &changed(&["id", "hospital_id"]),
                &(words.refuse)(&format!("the id and the hospital of a {table} never change")),
            ),
            Self::Patient { columns } => (words.when)(
                &changed(columns),
                &count("NEW.hospital_id", "'PATIENT', NULL, NEW.id, NULL, NULL"),
            ),
            Self::PatientGoes => plain(&format!(
                "{} INTO patient_tombstone (hospital_id, id) VALUES (OLD.hospital_id, OLD.id);
                {}",
                words.replace,
                count("OLD.hospital_id", "'PATIENT', NULL, NULL, OLD.id, NULL")
            )),
            Self::VisitComes => plain(&count("NEW.hospital_id", "'VISIT', NEW.id, NEW.patient_id, NULL, NULL")),
            Self::VisitChanges { columns } => (words.when)(
                &changed(columns),
                &format!(
                    "{} {also}",
                    count(
                        "NEW.hospital_id",
                        "'VISIT', NEW.id, NEW.patient_id, OLD.patient_id, OLD.date",
                    )
                ),
            ),
            Self::VisitGoes => plain(&format!(
                "{} INTO visit_tombstone (hospital_id, id, patient_id, date, status, channel)
                    VALUES (OLD.hospital_id, OLD.id, OLD.patient_id, OLD.date, OLD.status, OLD.channel);
                {}",
                words.replace,
                count("OLD.hospital_id", "'VISIT', OLD.id, NULL, OLD.patient_id, OLD.date")
            )),
        }
    }
}

pub(super) const POSTGRES: &[&str] = &[
    "CREATE OR REPLACE FUNCTION rollcall_tag() RETURNS bigint LANGUAGE sql VOLATILE AS
        $$ SELECT hashtextextended(gen_random_uuid()::text, 0) $$",
    "CREATE OR REPLACE FUNCTION hospital_begins() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO revision VALUES (NEW.id, 0);
        INSERT INTO change_feed VALUES (NEW.id, 0, rollcall_tag(), 'RESET');
        RETURN NULL;
    END $$",
    // Increments the revision by the number of rows that changed, and writes a row of the feed for each.
    "CREATE OR REPLACE FUNCTION note_rows(changed change_feed[]) RETURNS void LANGUAGE sql AS $$
        WITH bumped AS (
            UPDATE revision r SET number = r.number + c.rows
            FROM (SELECT hospital_id, count(*) AS rows FROM unnest(changed) GROUP BY hospital_id) c
            WHERE r.hospital_id = c.hospital_id
            RETURNING r.hospital_id, r.number - c.rows AS base
        )
        INSERT INTO change_feed
        SELECT c.hospital_id, b.base + row_number() OVER (PARTITION BY c.hospital_id), rollcall_tag(),
            c.kind, c.visit_id, c.patient_id, c.old_patient_id, c.old_date
        FROM unnest(changed) c JOIN bumped b USING (hospital_id)
    $$",
    "CREATE OR REPLACE FUNCTION hospital_changes() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM note_rows(ARRAY(SELECT ROW(n.id, 0, 0, 'RULES', NULL, NULL, NULL, NULL)::change_feed
            FROM new_rows n JOIN old_rows o ON o.id = n.id
            WHERE (n.time_zone, n.week_start) IS DISTINCT FROM (o.time_zone, o.week_start)));
        RETURN NULL;
    END $$",
    "CREATE OR REPLACE FUNCTION definition_changes() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM note_rows(ARRAY(SELECT ROW(n.hospital_id, 0, 0, 'RULES', NULL, NULL, NULL, NULL)::change_feed
            FROM changed_rows n));
        RETURN NULL;
    END $$",
    "CREATE OR REPLACE FUNCTION keeps_its_key() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF (NEW.id, NEW.hospital_id) IS DISTINCT FROM (OLD.id, OLD.hospital_id) THEN
            RAISE EXCEPTION 'the id and the hospital of a % never change', TG_TABLE_NAME;
        END IF;
        RETURN NEW;
    END $$",
    "CREATE OR REPLACE FUNCTION patient_changes() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM note_rows(ARRAY(SELECT ROW(n.hospital_id, 0, 0, 'PATIENT', NULL, n.id, NULL, NULL)::change_feed
            FROM new_rows n JOIN old_rows o ON o.hospital_id = n.hospital_id AND o.id = n.id
            WHERE (n.state, n.merged_into, n.chart_no, n.name, n.registered_on)
                IS DISTINCT FROM (o.state, o.merged_into, o.chart_no, o.name, o.registered_on)));
        RETURN NULL;
    END $$",
    "CREATE OR REPLACE FUNCTION patient_goes() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO patient_tombstone (hospital_id, id) SELECT hospital_id, id FROM old_rows ON CONFLICT DO NOTHING;
        PERFORM note_rows(ARRAY(SELECT ROW(o.hospital_id, 0, 0, 'PATIENT', NULL, NULL, o.id, NULL)::change_feed
            FROM old_rows o));
        RETURN NULL;
    END $$",
    "CREATE OR REPLACE FUNCTION visit_comes() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM note_rows(ARRAY(SELECT ROW(n.hospital_id, 0, 0, 'VISIT', n.id, n.patient_id, NULL, NULL)::change_feed
            FROM new_rows n));
        RETURN NULL;
    END $$",
    "CREATE OR REPLACE FUNCTION visit_changes() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM note_rows(ARRAY(
            SELECT ROW(n.hospital_id, 0, 0, 'VISIT', n.id, n.patient_id, o.patient_id, o.date)::change_feed
            FROM new_rows n JOIN old_rows o ON o.hospital_id = n.hospital_id AND o.id = n.id
            WHERE (n.patient_id, n.date, n.scheduled_at, n.status, n.department_id, n.doctor_id, n.channel)
                IS DISTINCT FROM
                (o.patient_id, o.date, o.scheduled_at, o.status, o.department_id, o.doctor_id, o.channel)));
        RETURN NULL;
    END $$",
    "CREATE OR REPLACE FUNCTION visit_goes() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO visit_tombstone (hospital_id, id, patient_id, date, status, channel)
            SELECT hospital_id, id, patient_id, date, status, channel FROM old_rows
            ON CONFLICT (hospital_id, id) DO UPDATE SET patient_id = excluded.patient_id, date = excluded.date,
                status = excluded.status, channel = excluded.channel;
        PERFORM note_rows(ARRAY(
            SELECT ROW(o.hospital_id, 0, 0, 'VISIT', o.id, NULL, o.patient_id, o.date)::change_feed FROM old_rows o));
        RETURN NULL;
    END $$",
    "CREATE OR REPLACE FUNCTION visits_emptied() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO visit_tombstone (hospital_id, id, patient_id, date, status, channel)
            SELECT hospital_id, id, patient_id, date, status, channel FROM visit
            ON CONFLICT (hospital_id, id) DO UPDATE SET patient_id = excluded.patient_id, date = excluded.date,
                status = excluded.status, channel = excluded.channel;
        PERFORM note_rows(ARRAY(SELECT ROW(r.hospital_id, 0, 0, 'RESET', NULL, NULL, NULL, NULL)::change_feed
            FROM revision r));
        RETURN NULL;
    END $$",
    "CREATE OR REPLACE FUNCTION patients_emptied() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO patient_tombstone (hospital_id, id) SELECT hospital_id, id FROM patient ON CONFLICT DO NOTHING;
        PERFORM note_rows(ARRAY(SELECT ROW(r.hospital_id, 0, 0, 'RESET', NULL, NULL, NULL, NULL)::change_feed
            FROM revision r));
        RETURN NULL;
    END $$",
    "CREATE OR REPLACE TRIGGER hospital_begins AFTER INSERT ON hospital
        FOR EACH ROW EXECUTE FUNCTION hospital_begins()",
    "CREATE OR REPLACE TRIGGER hospital_changes AFTER UPDATE ON hospital
        REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows EXECUTE FUNCTION hospital_changes()",
    "CREATE OR REPLACE TRIGGER definition_comes AFTER INSERT ON definition
        REFERENCING NEW TABLE AS changed_rows EXECUTE FUNCTION definition_changes()",
    "CREATE OR REPLACE TRIGGER definition_changes AFTER UPDATE ON definition
        REFERENCING NEW TABLE AS changed_rows EXECUTE FUNCTION definition_changes()",
    "CREATE OR REPLACE TRIGGER definition_goes AFTER DELETE ON definition
        REFERENCING OLD TABLE AS changed_rows EXECUTE FUNCTION definition_changes()",
    "CREATE OR REPLACE TRIGGER patient_stays BEFORE UPDATE OF id, hospital_id ON patient
        FOR EACH ROW EXECUTE FUNCTION keeps_its_key()",
    "CREATE OR REPLACE TRIGGER patient_changes AFTER UPDATE ON patient
        REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows EXECUTE FUNCTION patient_changes()",
    "CREATE OR REPLACE TRIGGER patient_goes AFTER DELETE ON patient
        REFERENCING OLD TABLE AS old_rows EXECUTE FUNCTION patient_goes()",
    "CREATE OR REPLACE TRIGGER patients_emptied BEFORE TRUNCATE ON patient EXECUTE FUNCTION patients_emptied()",
    "CREATE OR REPLACE TRIGGER visit_comes AFTER INSERT ON visit
        REFERENCING NEW TABLE AS new_rows EXECUTE FUNCTION visit_comes()",
    "CREATE OR REPLACE TRIGGER visit_stays BEFORE UPDATE OF id, hospital_id ON visit
        FOR EACH ROW EXECUTE FUNCTION keeps_its_key()",
    "CREATE OR REPLACE TRIGGER visit_changes AFTER UPDATE ON visit
        REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows EXECUTE FUNCTION visit_changes()",
    "CREATE OR REPLACE TRIGGER visit_goes AFTER DELETE ON visit
        REFERENCING OLD TABLE AS old_rows EXECUTE FUNCTION visit_goes()",
    "CREATE OR REPLACE TRIGGER visits_emptied BEFORE TRUNCATE ON visit EXECUTE FUNCTION visits_emptied()",
];
