//! The revision of a hospital's data, and the feed of what changed: kept by the database itself, whoever makes a change.
//!
//! A change takes the hospital's revision row, counts it up and writes one feed row under each new number, with a random
//! tag. The row stays locked to the commit, so that the order of numbers is the order of commits. A restored backup has
//! another tag under the same number, or none.
//!
//! On PostgreSQL statement triggers with transition tables do it: a row trigger that counts up one row is quadratic within a
//! statement there. SQLite and MariaDB have row triggers only, and are at ease with them.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{ConnectionTrait, DbBackend};

use crate::dialect::{drop_tables, run};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        run(manager, TABLES).await?;
        match manager.get_connection().get_database_backend() {
            DbBackend::Postgres => {
                run(manager, POSTGRES).await?;
            }
            DbBackend::MySql => run_row_triggers(manager, &MARIADB).await?,
            _ => run_row_triggers(manager, &SQLITE).await?,
        }
        run(manager, EXISTING).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        match manager.get_connection().get_database_backend() {
            DbBackend::Postgres => run(manager, POSTGRES_DOWN).await?,
            _ => {
                for (name, ..) in ROW_TRIGGERS {
                    run(manager, &[&format!("DROP TRIGGER IF EXISTS {name}")]).await?;
                }
            }
        }
        drop_tables(manager, &["change_feed", "revision"]).await
    }
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

/// Hospitals that stand already start at 0, as new ones do by their trigger; a ledger loads whole from there.
const EXISTING: &[&str] = &[
    "INSERT INTO revision SELECT id, 0 FROM hospital WHERE id NOT IN (SELECT hospital_id FROM revision)",
    "INSERT INTO change_feed (hospital_id, number, tag, kind)
        SELECT hospital_id, 0, 0, 'RESET' FROM revision WHERE number = 0
            AND hospital_id NOT IN (SELECT hospital_id FROM change_feed)",
];

/// How a database with row triggers says what the triggers do.
pub(crate) struct Words {
    /// Compares with nulls as values: `a {differs} b`.
    same: fn(&str) -> String,
    tag: &'static str,
    /// Stops the statement with a message.
    refuse: fn(&str) -> String,
    replace: &'static str,
    when: fn(&str, &str) -> String,
}

pub(crate) const SQLITE: Words = Words {
    same: |column| format!("OLD.{column} IS NEW.{column}"),
    tag: "random()",
    refuse: |message| format!("SELECT RAISE(ABORT, '{message}');"),
    replace: "INSERT OR REPLACE",
    when: |condition, body| format!("WHEN {condition} BEGIN {body} END"),
};

pub(crate) const MARIADB: Words = Words {
    same: |column| format!("OLD.{column} <=> NEW.{column}"),
    tag: "CAST(CONV(LEFT(MD5(CONCAT(UUID(), RAND())), 15), 16, 10) AS SIGNED)",
    refuse: |message| format!("SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = '{message}';"),
    replace: "REPLACE",
    when: |condition, body| format!("BEGIN IF {condition} THEN {body} END IF; END"),
};

/// Name, when, table, what is done.
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
    /// A hospital's revision begins.
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
    /// Refuses a new key: an id stays what it was, and so does its hospital.
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

async fn run_row_triggers(manager: &SchemaManager<'_>, words: &Words) -> Result<(), DbErr> {
    for (name, ..) in ROW_TRIGGERS {
        run_row_trigger(manager, words, name, "").await?;
    }
    Ok(())
}

/// Makes one of the row triggers anew; `also` are statements that it runs at its end.
pub(crate) async fn run_row_trigger(
    manager: &SchemaManager<'_>,
    words: &Words,
    which: &str,
    also: &str,
) -> Result<(), DbErr> {
    for (name, event, table, does) in ROW_TRIGGERS.iter().filter(|(name, ..)| *name == which) {
        let body = does.body(table, words, also);
        let drop = format!("DROP TRIGGER IF EXISTS {name}");
        let create = format!("CREATE TRIGGER {name} {event} ON {table} FOR EACH ROW {body}");
        run(manager, &[&drop, &create]).await?;
    }
    Ok(())
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

pub(crate) const POSTGRES: &[&str] = &[
    "CREATE OR REPLACE FUNCTION rollcall_tag() RETURNS bigint LANGUAGE sql VOLATILE AS
        $$ SELECT hashtextextended(gen_random_uuid()::text, 0) $$",
    "CREATE OR REPLACE FUNCTION hospital_begins() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO revision VALUES (NEW.id, 0);
        INSERT INTO change_feed VALUES (NEW.id, 0, rollcall_tag(), 'RESET');
        RETURN NULL;
    END $$",
    // Counts up by the rows that changed, and writes each under its number.
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

const POSTGRES_DOWN: &[&str] = &[
    "DROP FUNCTION IF EXISTS hospital_begins, hospital_changes, definition_changes, keeps_its_key, patient_changes,
        patient_goes, patients_emptied, visit_comes, visit_changes, visit_goes, visits_emptied CASCADE",
    "DROP FUNCTION IF EXISTS note_rows(change_feed[])",
    "DROP FUNCTION IF EXISTS rollcall_tag",
];
