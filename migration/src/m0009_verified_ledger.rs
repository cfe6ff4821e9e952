//! Counts beside each hospital's revision, kept by the same triggers: whoever loads a ledger can tell whether it is whole.
//!
//! `visit_count` is the number of visits, `patient_count` that of ACTIVE patients. Restoring a dump fills `revision` before
//! `visit`, and creates triggers after the rows; until the counts agree and the triggers are back, a ledger is not complete.
//!
//! On PostgreSQL the functions look names up in the schema that they were made in and in no other, temporary tables last, and the
//! triggers also fire where `session_replication_role` is `replica`. On MariaDB a foreign key keeps `visit` from being truncated,
//! which fires no trigger there.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{ConnectionTrait, DbBackend, Statement};

use crate::dialect::{add_columns, drop_columns, drop_tables, run};
use crate::{m0002_revision, m0005_history};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        add_columns(manager, COLUMNS).await?;
        match manager.get_connection().get_database_backend() {
            DbBackend::Postgres => make_statement_triggers(manager).await?,
            DbBackend::MySql => {
                run(manager, &[TRUNCATE_GUARD]).await?;
                make_row_triggers(manager, &MARIADB).await?;
            }
            _ => make_row_triggers(manager, &SQLITE).await?,
        }
        run(manager, &[COUNT]).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        match manager.get_connection().get_database_backend() {
            DbBackend::Postgres => run(manager, POSTGRES_DOWN).await?,
            backend => {
                for (name, ..) in row_triggers(&SQLITE) {
                    run(manager, &[&format!("DROP TRIGGER IF EXISTS {name}")]).await?;
                }
                if backend == DbBackend::MySql {
                    drop_tables(manager, &["truncate_guard"]).await?;
                }
            }
        }
        drop_columns(manager, COLUMNS).await?;
        // The steps that made the triggers as they were before make them again; what else they make is there.
        m0002_revision::Migration.up(manager).await?;
        m0005_history::Migration.up(manager).await
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

/// Counts what is there already. Triggers count from here on.
const COUNT: &str = "UPDATE revision SET
        visit_count = (SELECT COUNT(*) FROM visit WHERE visit.hospital_id = revision.hospital_id),
        patient_count = (SELECT COUNT(*) FROM patient
            WHERE patient.hospital_id = revision.hospital_id AND patient.state = 'ACTIVE')";

/// The words in which the two databases with row triggers differ.
struct Words {
    /// Whether a column keeps its value, nulls compared as values.
    same: fn(&str) -> String,
    tag: &'static str,
    /// Stops the statement with a message.
    refuse: fn(&str) -> String,
    replace: &'static str,
    when: fn(&str, &str) -> String,
    /// Makes a trigger in place of the one of that name.
    create: fn(&str, &str) -> Vec<String>,
}

const SQLITE: Words = Words {
    same: |column| format!("OLD.{column} IS NEW.{column}"),
    tag: "random()",
    refuse: |message| format!("SELECT RAISE(ABORT, '{message}');"),
    replace: "INSERT OR REPLACE",
    when: |condition, body| format!("WHEN {condition} BEGIN {body} END"),
    create: |name, rest| {
        vec![
            format!("DROP TRIGGER IF EXISTS {name}"),
            format!("CREATE TRIGGER {name} {rest}"),
        ]
    },
};

const MARIADB: Words = Words {
    same: |column| format!("OLD.{column} <=> NEW.{column}"),
    tag: "CAST(CONV(LEFT(MD5(CONCAT(UUID(), RAND())), 15), 16, 10) AS SIGNED)",
    refuse: |message| format!("SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = '{message}';"),
    replace: "REPLACE",
    when: |condition, body| format!("BEGIN IF {condition} THEN {body} END IF; END"),
    // In one statement: no write slips in between.
    create: |name, rest| vec![format!("CREATE OR REPLACE TRIGGER {name} {rest}")],
};

async fn make_row_triggers(manager: &SchemaManager<'_>, words: &Words) -> Result<(), DbErr> {
    for (name, event, table, body) in row_triggers(words) {
        for statement in (words.create)(name, &format!("{event} ON {table} FOR EACH ROW {body}")) {
            run(manager, &[&statement]).await?;
        }
    }
    Ok(())
}

/// Each with its name, event, table and body.
fn row_triggers(words: &Words) -> Vec<(&'static str, &'static str, &'static str, String)> {
    let tag = words.tag;
    let plain = |body: &str| format!("BEGIN {body} END");
    // Counts the revision up, and `counts` along; `feed` is what the change feed says of it.
    let note = |hospital: &str, counts: &str, feed: &str| {
        format!(
            "UPDATE revision SET number = number + 1{counts} WHERE hospital_id = {hospital};
            INSERT INTO change_feed SELECT hospital_id, number, {tag}, {feed} FROM revision
                WHERE hospital_id = {hospital};"
        )
    };
    let unless_same = |columns: &[&str], body: &str| {
        let same: Vec<String> = columns.iter().map(|column| (words.same)(column)).collect();
        (words.when)(&format!("NOT ({})", same.join(" AND ")), body)
    };
    let rules = "'RULES', NULL, NULL, NULL, NULL";
    let keep = |table: &str| {
        let refuse = (words.refuse)(&format!("the id and the hospital of a {table} never change"));
        unless_same(&["id", "hospital_id"], &refuse)
    };
    let history = |kind: &str| {
        format!(
            "INSERT INTO visit_change SELECT hospital_id, number, OLD.id, '{kind}', {{now}}, OLD.patient_id, OLD.date,
                    OLD.scheduled_at, OLD.status, OLD.department_id, OLD.doctor_id, OLD.channel, NULL, NULL
                FROM revision WHERE hospital_id = OLD.hospital_id;"
        )
    };
    vec![
        (
            "hospital_begins",
            "AFTER INSERT",
            "hospital",
            plain(&format!(
                "INSERT INTO revision (hospital_id, number) VALUES (NEW.id, 0);
                INSERT INTO change_feed VALUES (NEW.id, 0, {tag}, 'RESET', NULL, NULL, NULL, NULL);"
            )),
        ),
        (
            "hospital_changes",
            "AFTER UPDATE",
            "hospital",
            unless_same(&["time_zone", "week_start"], &note("NEW.id", "", rules)),
        ),
        (
            "definition_comes",
            "AFTER INSERT",
            "definition",
            plain(&note("NEW.hospital_id", "", rules)),
        ),
        (
            "definition_changes",
            "AFTER UPDATE",
            "definition",
            plain(&note("NEW.hospital_id", "", rules)),
        ),
        (
            "definition_goes",
            "AFTER DELETE",
            "definition",
            plain(&note("OLD.hospital_id", "", rules)),
        ),
        (
            "patient_comes",
            "AFTER INSERT",
            "patient",
            plain(
                "UPDATE revision SET patient_count = patient_count + (NEW.state = 'ACTIVE')
                    WHERE hospital_id = NEW.hospital_id;",
            ),
        ),
        ("patient_stays", "BEFORE UPDATE", "patient", keep("patient")),
        (
            "patient_changes",
            "AFTER UPDATE",
            "patient",
            unless_same(
                &["state", "merged_into", "chart_no", "name", "registered_on"],
                &note(
                    "NEW.hospital_id",
                    ", patient_count = patient_count + (NEW.state = 'ACTIVE') - (OLD.state = 'ACTIVE')",
                    "'PATIENT', NULL, NEW.id, NULL, NULL",
                ),
            ),
        ),
        (
            "patient_goes",
            "AFTER DELETE",
            "patient",
            plain(&format!(
                "{} INTO patient_tombstone (hospital_id, id) VALUES (OLD.hospital_id, OLD.id);
                {}",
                words.replace,
                note(
                    "OLD.hospital_id",
                    ", patient_count = patient_count - (OLD.state = 'ACTIVE')",
                    "'PATIENT', NULL, NULL, OLD.id, NULL"
                )
            )),
        ),
        (
            "visit_comes",
            "AFTER INSERT",
            "visit",
            plain(&note(
                "NEW.hospital_id",
                ", visit_count = visit_count + 1",
                "'VISIT', NEW.id, NEW.patient_id, NULL, NULL",
            )),
        ),
        ("visit_stays", "BEFORE UPDATE", "visit", keep("visit")),
        (
            "visit_changes",
            "AFTER UPDATE",
            "visit",
            unless_same(
                &[
                    "patient_id",
                    "date",
                    "scheduled_at",
                    "status",
                    "department_id",
                    "doctor_id",
                    "channel",
                ],
                &format!(
                    "{} {}",
                    note(
                        "NEW.hospital_id",
                        "",
                        "'VISIT', NEW.id, NEW.patient_id, OLD.patient_id, OLD.date"
                    ),
                    history("CHANGED")
                ),
            ),
        ),
        (
            "visit_goes",
            "AFTER DELETE",
            "visit",
            plain(&format!(
                "{} INTO visit_tombstone (hospital_id, id, patient_id, date, status, channel)
                    VALUES (OLD.hospital_id, OLD.id, OLD.patient_id, OLD.date, OLD.status, OLD.channel);
                {} {}",
                words.replace,
                note(
                    "OLD.hospital_id",
                    ", visit_count = visit_count - 1",
                    "'VISIT', OLD.id, NULL, OLD.patient_id, OLD.date"
                ),
                history("DELETED")
            )),
        ),
    ]
}

async fn make_statement_triggers(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    let asked = Statement::from_string(DbBackend::Postgres, "SELECT quote_ident(current_schema())");
    let row = manager.get_connection().query_one_raw(asked).await?;
    let schema: Option<String> = row.map(|row| row.try_get_by_index(0)).transpose()?.flatten();
    let schema = schema.ok_or_else(|| DbErr::Migration("the search_path names no schema that exists".to_owned()))?;
    for statement in FUNCTIONS {
        run(manager, &[&statement.replace("{schema}", &schema)]).await?;
    }
    for (name, event, table, rest) in STATEMENT_TRIGGERS {
        let create = format!("CREATE OR REPLACE TRIGGER {name} {event} ON {table} {rest}");
        let always = format!("ALTER TABLE {table} ENABLE ALWAYS TRIGGER {name}");
        run(manager, &[&create, &always]).await?;
    }
    Ok(())
}

/// `{schema}` is the one that the tables are in. pg_temp has to be named: where it is not, it comes first.
const FUNCTIONS: &[&str] = &[
    // In a form that the planner can put in place of the call.
    "CREATE OR REPLACE FUNCTION rollcall_tag() RETURNS bigint LANGUAGE sql VOLATILE AS
        $$ SELECT pg_catalog.hashtextextended(pg_catalog.gen_random_uuid()::pg_catalog.text, 0) $$",
    "CREATE OR REPLACE FUNCTION hospital_begins() RETURNS trigger LANGUAGE plpgsql
        SET search_path = {schema}, pg_temp AS $$
    BEGIN
        INSERT INTO revision (hospital_id, number) VALUES (NEW.id, 0);
        INSERT INTO change_feed VALUES (NEW.id, 0, rollcall_tag(), 'RESET');
        RETURN NULL;
    END $$",
    "DROP FUNCTION IF EXISTS note_rows(change_feed[])",
    // Counts up by the rows that changed, writes each under its number, and hands them back. Each makes so many visits more.
    "CREATE OR REPLACE FUNCTION note_rows(changed change_feed[], visits bigint) RETURNS SETOF change_feed LANGUAGE sql
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
    $$",
    "CREATE OR REPLACE FUNCTION hospital_changes() RETURNS trigger LANGUAGE plpgsql
        SET search_path = {schema}, pg_temp AS $$
    BEGIN
        PERFORM note_rows(ARRAY(SELECT ROW(n.id, 0, 0, 'RULES', NULL, NULL, NULL, NULL)::change_feed
            FROM new_rows n JOIN old_rows o ON o.id = n.id
            WHERE (n.time_zone, n.week_start) IS DISTINCT FROM (o.time_zone, o.week_start)), 0);
        RETURN NULL;
    END $$",
    "CREATE OR REPLACE FUNCTION definition_changes() RETURNS trigger LANGUAGE plpgsql
        SET search_path = {schema}, pg_temp AS $$
    BEGIN
        PERFORM note_rows(ARRAY(SELECT ROW(n.hospital_id, 0, 0, 'RULES', NULL, NULL, NULL, NULL)::change_feed
            FROM changed_rows n), 0);
        RETURN NULL;
    END $$",
    "CREATE OR REPLACE FUNCTION keeps_its_key() RETURNS trigger LANGUAGE plpgsql
        SET search_path = {schema}, pg_temp AS $$
    BEGIN
        IF (NEW.id, NEW.hospital_id) IS DISTINCT FROM (OLD.id, OLD.hospital_id) THEN
            RAISE EXCEPTION 'the id and the hospital of a % never change', TG_TABLE_NAME;
        END IF;
        RETURN NEW;
    END $$",
    "CREATE OR REPLACE FUNCTION patient_comes() RETURNS trigger LANGUAGE plpgsql
        SET search_path = {schema}, pg_temp AS $$
    BEGIN
        UPDATE revision r SET patient_count = r.patient_count + c.rows
            FROM (SELECT hospital_id, count(*) AS rows FROM new_rows WHERE state = 'ACTIVE' GROUP BY hospital_id) c
            WHERE r.hospital_id = c.hospital_id;
        RETURN NULL;
    END $$",
    "CREATE OR REPLACE FUNCTION patient_changes() RETURNS trigger LANGUAGE plpgsql
        SET search_path = {schema}, pg_temp AS $$
    BEGIN
        PERFORM note_rows(ARRAY(SELECT ROW(n.hospital_id, 0, 0, 'PATIENT', NULL, n.id, NULL, NULL)::change_feed
            FROM new_rows n JOIN old_rows o ON o.hospital_id = n.hospital_id AND o.id = n.id
            WHERE (n.state, n.merged_into, n.chart_no, n.name, n.registered_on)
                IS DISTINCT FROM (o.state, o.merged_into, o.chart_no, o.name, o.registered_on)), 0);
        UPDATE revision r SET patient_count = r.patient_count + c.rows
            FROM (
                SELECT n.hospital_id, sum((n.state = 'ACTIVE')::int - (o.state = 'ACTIVE')::int) AS rows
                FROM new_rows n JOIN old_rows o ON o.hospital_id = n.hospital_id AND o.id = n.id
                WHERE n.state <> o.state GROUP BY n.hospital_id
            ) c
            WHERE r.hospital_id = c.hospital_id AND c.rows <> 0;
        RETURN NULL;
    END $$",
    "CREATE OR REPLACE FUNCTION patient_goes() RETURNS trigger LANGUAGE plpgsql
        SET search_path = {schema}, pg_temp AS $$
    BEGIN
        INSERT INTO patient_tombstone (hospital_id, id) SELECT hospital_id, id FROM old_rows ON CONFLICT DO NOTHING;
        PERFORM note_rows(ARRAY(SELECT ROW(o.hospital_id, 0, 0, 'PATIENT', NULL, NULL, o.id, NULL)::change_feed
            FROM old_rows o), 0);
        UPDATE revision r SET patient_count = r.patient_count - c.rows
            FROM (SELECT hospital_id, count(*) AS rows FROM old_rows WHERE state = 'ACTIVE' GROUP BY hospital_id) c
            WHERE r.hospital_id = c.hospital_id;
        RETURN NULL;
    END $$",
    "CREATE OR REPLACE FUNCTION visit_comes() RETURNS trigger LANGUAGE plpgsql
        SET search_path = {schema}, pg_temp AS $$
    BEGIN
        PERFORM note_rows(ARRAY(SELECT ROW(n.hospital_id, 0, 0, 'VISIT', n.id, n.patient_id, NULL, NULL)::change_feed
            FROM new_rows n), 1);
        RETURN NULL;
    END $$",
    "CREATE OR REPLACE FUNCTION visit_changes() RETURNS trigger LANGUAGE plpgsql
        SET search_path = {schema}, pg_temp AS $$
    BEGIN
        INSERT INTO visit_change
            SELECT f.hospital_id, f.number, f.visit_id, 'CHANGED', clock_timestamp(), o.patient_id, o.date,
                o.scheduled_at, o.status, o.department_id, o.doctor_id, o.channel, NULL, NULL
            FROM note_rows(ARRAY(
                SELECT ROW(n.hospital_id, 0, 0, 'VISIT', n.id, n.patient_id, o.patient_id, o.date)::change_feed
                FROM new_rows n JOIN old_rows o ON o.hospital_id = n.hospital_id AND o.id = n.id
                WHERE (n.patient_id, n.date, n.scheduled_at, n.status, n.department_id, n.doctor_id, n.channel)
                    IS DISTINCT FROM
                    (o.patient_id, o.date, o.scheduled_at, o.status, o.department_id, o.doctor_id, o.channel)), 0) f
            JOIN old_rows o ON o.hospital_id = f.hospital_id AND o.id = f.visit_id;
        RETURN NULL;
    END $$",
    "CREATE OR REPLACE FUNCTION visit_goes() RETURNS trigger LANGUAGE plpgsql
        SET search_path = {schema}, pg_temp AS $$
    BEGIN
        INSERT INTO visit_tombstone (hospital_id, id, patient_id, date, status, channel)
            SELECT hospital_id, id, patient_id, date, status, channel FROM old_rows
            ON CONFLICT (hospital_id, id) DO UPDATE SET patient_id = excluded.patient_id, date = excluded.date,
                status = excluded.status, channel = excluded.channel;
        INSERT INTO visit_change
            SELECT f.hospital_id, f.number, f.visit_id, 'DELETED', clock_timestamp(), o.patient_id, o.date,
                o.scheduled_at, o.status, o.department_id, o.doctor_id, o.channel, NULL, NULL
            FROM note_rows(ARRAY(
                SELECT ROW(o.hospital_id, 0, 0, 'VISIT', o.id, NULL, o.patient_id, o.date)::change_feed
                FROM old_rows o), -1) f
            JOIN old_rows o ON o.hospital_id = f.hospital_id AND o.id = f.visit_id;
        RETURN NULL;
    END $$",
    "CREATE OR REPLACE FUNCTION visits_emptied() RETURNS trigger LANGUAGE plpgsql
        SET search_path = {schema}, pg_temp AS $$
    BEGIN
        INSERT INTO visit_tombstone (hospital_id, id, patient_id, date, status, channel)
            SELECT hospital_id, id, patient_id, date, status, channel FROM visit
            ON CONFLICT (hospital_id, id) DO UPDATE SET patient_id = excluded.patient_id, date = excluded.date,
                status = excluded.status, channel = excluded.channel;
        INSERT INTO visit_change
            SELECT f.hospital_id, f.number, v.id, 'DELETED', clock_timestamp(), v.patient_id, v.date,
                v.scheduled_at, v.status, v.department_id, v.doctor_id, v.channel, NULL, NULL
            FROM note_rows(ARRAY(
                SELECT ROW(r.hospital_id, 0, 0, 'RESET', NULL, NULL, NULL, NULL)::change_feed FROM revision r), 0) f
            JOIN visit v ON v.hospital_id = f.hospital_id;
        UPDATE revision SET visit_count = 0;
        RETURN NULL;
    END $$",
    "CREATE OR REPLACE FUNCTION patients_emptied() RETURNS trigger LANGUAGE plpgsql
        SET search_path = {schema}, pg_temp AS $$
    BEGIN
        INSERT INTO patient_tombstone (hospital_id, id) SELECT hospital_id, id FROM patient ON CONFLICT DO NOTHING;
        PERFORM note_rows(ARRAY(SELECT ROW(r.hospital_id, 0, 0, 'RESET', NULL, NULL, NULL, NULL)::change_feed
            FROM revision r), 0);
        UPDATE revision SET patient_count = 0;
        RETURN NULL;
    END $$",
];

/// Each with its name, event, table and the rest. A row trigger that counts up one row is quadratic within a statement.
const STATEMENT_TRIGGERS: &[(&str, &str, &str, &str)] = &[
    (
        "hospital_begins",
        "AFTER INSERT",
        "hospital",
        "FOR EACH ROW EXECUTE FUNCTION hospital_begins()",
    ),
    (
        "hospital_changes",
        "AFTER UPDATE",
        "hospital",
        "REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows EXECUTE FUNCTION hospital_changes()",
    ),
    (
        "definition_comes",
        "AFTER INSERT",
        "definition",
        "REFERENCING NEW TABLE AS changed_rows EXECUTE FUNCTION definition_changes()",
    ),
    (
        "definition_changes",
        "AFTER UPDATE",
        "definition",
        "REFERENCING NEW TABLE AS changed_rows EXECUTE FUNCTION definition_changes()",
    ),
    (
        "definition_goes",
        "AFTER DELETE",
        "definition",
        "REFERENCING OLD TABLE AS changed_rows EXECUTE FUNCTION definition_changes()",
    ),
    (
        "patient_comes",
        "AFTER INSERT",
        "patient",
        "REFERENCING NEW TABLE AS new_rows EXECUTE FUNCTION patient_comes()",
    ),
    (
        "patient_stays",
        "BEFORE UPDATE OF id, hospital_id",
        "patient",
        "FOR EACH ROW EXECUTE FUNCTION keeps_its_key()",
    ),
    (
        "patient_changes",
        "AFTER UPDATE",
        "patient",
        "REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows EXECUTE FUNCTION patient_changes()",
    ),
    (
        "patient_goes",
        "AFTER DELETE",
        "patient",
        "REFERENCING OLD TABLE AS old_rows EXECUTE FUNCTION patient_goes()",
    ),
    (
        "patients_emptied",
        "BEFORE TRUNCATE",
        "patient",
        "EXECUTE FUNCTION patients_emptied()",
    ),
    (
        "visit_comes",
        "AFTER INSERT",
        "visit",
        "REFERENCING NEW TABLE AS new_rows EXECUTE FUNCTION visit_comes()",
    ),
    (
        "visit_stays",
        "BEFORE UPDATE OF id, hospital_id",
        "visit",
        "FOR EACH ROW EXECUTE FUNCTION keeps_its_key()",
    ),
    (
        "visit_changes",
        "AFTER UPDATE",
        "visit",
        "REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows EXECUTE FUNCTION visit_changes()",
    ),
    (
        "visit_goes",
        "AFTER DELETE",
        "visit",
        "REFERENCING OLD TABLE AS old_rows EXECUTE FUNCTION visit_goes()",
    ),
    (
        "visits_emptied",
        "BEFORE TRUNCATE",
        "visit",
        "EXECUTE FUNCTION visits_emptied()",
    ),
];

const POSTGRES_DOWN: &[&str] = &[
    "DROP FUNCTION IF EXISTS hospital_begins, hospital_changes, definition_changes, keeps_its_key, patient_comes,
        patient_changes, patient_goes, patients_emptied, visit_comes, visit_changes, visit_goes, visits_emptied CASCADE",
    "DROP FUNCTION IF EXISTS note_rows(change_feed[], bigint)",
];
