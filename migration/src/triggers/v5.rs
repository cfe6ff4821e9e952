//! Change tracking as migration 5 created it: on top of `v2`, with the history of visits. Migration 9 goes back to it when it is
//! reverted.

use sea_orm_migration::sea_orm::DbBackend;

use super::v2;

/// All statements of the migration.
pub(crate) fn create(backend: DbBackend) -> Vec<String> {
    let owned = |statements: &[&str]| statements.iter().map(|&statement| statement.to_owned()).collect();
    let mut statements: Vec<String> = owned(TABLES);
    if backend == DbBackend::Postgres {
        statements.extend(owned(STATEMENT_TRIGGERS));
        return statements;
    }
    for (trigger, kind) in [("visit_changes", "CHANGED"), ("visit_goes", "DELETED")] {
        let also = format!(
            "INSERT INTO visit_change SELECT hospital_id, number, OLD.id, '{kind}', {{now}}, {OLD_ROW} FROM revision
                WHERE hospital_id = OLD.hospital_id;"
        );
        statements.extend(v2::create_row_trigger(backend, trigger, &also));
    }
    statements
}

/// The statements that go back to `v2`.
pub(crate) fn revert(backend: DbBackend) -> Vec<String> {
    if backend == DbBackend::Postgres {
        let drop = "DROP FUNCTION IF EXISTS note_rows(change_feed[])";
        return [drop]
            .iter()
            .chain(v2::POSTGRES)
            .map(|&statement| statement.to_owned())
            .collect();
    }
    ["visit_changes", "visit_goes"]
        .iter()
        .flat_map(|trigger| v2::create_row_trigger(backend, trigger, ""))
        .collect()
}

const TABLES: &[&str] = &[
    // A row for each change of a visit: what it was before the revision of this number.
    "CREATE TABLE IF NOT EXISTS visit_change (
        hospital_id BIGINT NOT NULL,
        number BIGINT NOT NULL,
        visit_id BIGINT NOT NULL,
        kind {text} NOT NULL,
        changed_at {instant} NOT NULL,
        patient_id BIGINT NOT NULL,
        date DATE NOT NULL,
        scheduled_at {instant},
        status {text} NOT NULL,
        department_id BIGINT,
        doctor_id BIGINT,
        channel {text} NOT NULL,
        staff_id BIGINT,
        reason {long_text},
        PRIMARY KEY (hospital_id, number, visit_id),
        FOREIGN KEY (hospital_id, staff_id) REFERENCES staff (hospital_id, id) ON DELETE RESTRICT ON UPDATE RESTRICT
    ){table}",
    "CREATE INDEX IF NOT EXISTS visit_change_by_visit ON visit_change (hospital_id, visit_id, number)",
    "CREATE INDEX IF NOT EXISTS visit_change_by_patient ON visit_change (hospital_id, patient_id, number)",
    "CREATE TABLE IF NOT EXISTS patient_merge (
        {id},
        hospital_id BIGINT NOT NULL,
        patient_id BIGINT NOT NULL,
        into_id BIGINT NOT NULL,
        merged_at {instant} NOT NULL,
        undone_at {instant},
        staff_id BIGINT NOT NULL,
        reason {long_text} NOT NULL,
        {key},
        FOREIGN KEY (hospital_id, staff_id) REFERENCES staff (hospital_id, id) ON DELETE RESTRICT ON UPDATE RESTRICT
    ){table}",
    "CREATE INDEX IF NOT EXISTS patient_merge_by_patient ON patient_merge (hospital_id, patient_id)",
    "CREATE INDEX IF NOT EXISTS patient_merge_by_into ON patient_merge (hospital_id, into_id)",
    "CREATE TABLE IF NOT EXISTS merged_visit (
        hospital_id BIGINT NOT NULL,
        merge_id BIGINT NOT NULL,
        visit_id BIGINT NOT NULL,
        PRIMARY KEY (hospital_id, merge_id, visit_id),
        FOREIGN KEY (hospital_id, merge_id) REFERENCES patient_merge (hospital_id, id)
            ON DELETE RESTRICT ON UPDATE RESTRICT
    ){table}",
    "CREATE TABLE IF NOT EXISTS idempotency_key (
        hospital_id BIGINT NOT NULL,
        staff_id BIGINT NOT NULL,
        name {text} NOT NULL,
        change_digest {bytes} NOT NULL,
        outcome_id BIGINT NOT NULL,
        created_at {instant} NOT NULL,
        PRIMARY KEY (hospital_id, staff_id, name),
        FOREIGN KEY (hospital_id, staff_id) REFERENCES staff (hospital_id, id) ON DELETE RESTRICT ON UPDATE RESTRICT
    ){table}",
];

/// What `visit_change` keeps of a visit, in the order of its columns.
const OLD_ROW: &str =
    "OLD.patient_id, OLD.date, OLD.scheduled_at, OLD.status, OLD.department_id, OLD.doctor_id, OLD.channel, NULL, NULL";

const STATEMENT_TRIGGERS: &[&str] = &[
    // As in `v2`, and returns the rows of the feed.
    "DROP FUNCTION IF EXISTS note_rows(change_feed[])",
    "CREATE OR REPLACE FUNCTION note_rows(changed change_feed[]) RETURNS SETOF change_feed LANGUAGE sql AS $$
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
        RETURNING change_feed.*
    $$",
    "CREATE OR REPLACE FUNCTION visit_changes() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO visit_change
            SELECT f.hospital_id, f.number, f.visit_id, 'CHANGED', clock_timestamp(), o.patient_id, o.date,
                o.scheduled_at, o.status, o.department_id, o.doctor_id, o.channel, NULL, NULL
            FROM note_rows(ARRAY(
                SELECT ROW(n.hospital_id, 0, 0, 'VISIT', n.id, n.patient_id, o.patient_id, o.date)::change_feed
                FROM new_rows n JOIN old_rows o ON o.hospital_id = n.hospital_id AND o.id = n.id
                WHERE (n.patient_id, n.date, n.scheduled_at, n.status, n.department_id, n.doctor_id, n.channel)
                    IS DISTINCT FROM
                    (o.patient_id, o.date, o.scheduled_at, o.status, o.department_id, o.doctor_id, o.channel))) f
            JOIN old_rows o ON o.hospital_id = f.hospital_id AND o.id = f.visit_id;
        RETURN NULL;
    END $$",
    "CREATE OR REPLACE FUNCTION visit_goes() RETURNS trigger LANGUAGE plpgsql AS $$
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
                FROM old_rows o)) f
            JOIN old_rows o ON o.hospital_id = f.hospital_id AND o.id = f.visit_id;
        RETURN NULL;
    END $$",
    "CREATE OR REPLACE FUNCTION visits_emptied() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO visit_tombstone (hospital_id, id, patient_id, date, status, channel)
            SELECT hospital_id, id, patient_id, date, status, channel FROM visit
            ON CONFLICT (hospital_id, id) DO UPDATE SET patient_id = excluded.patient_id, date = excluded.date,
                status = excluded.status, channel = excluded.channel;
        INSERT INTO visit_change
            SELECT f.hospital_id, f.number, v.id, 'DELETED', clock_timestamp(), v.patient_id, v.date,
                v.scheduled_at, v.status, v.department_id, v.doctor_id, v.channel, NULL, NULL
            FROM note_rows(ARRAY(
                SELECT ROW(r.hospital_id, 0, 0, 'RESET', NULL, NULL, NULL, NULL)::change_feed FROM revision r)) f
            JOIN visit v ON v.hospital_id = f.hospital_id;
        RETURN NULL;
    END $$",
];
