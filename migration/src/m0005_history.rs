//! What stood before: of each changed or deleted visit its old state, of each merge what it moved. With them a count of the
//! past can be explained. And the keys by which a change that is sent twice is made once.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{ConnectionTrait, DbBackend};

use crate::dialect::{drop_tables, run};
use crate::m0002_revision::{MARIADB, POSTGRES, SQLITE, Words, run_row_trigger};

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
            DbBackend::Postgres => run(manager, STATEMENT_TRIGGERS).await,
            DbBackend::MySql => note_old_rows(manager, &MARIADB).await,
            _ => note_old_rows(manager, &SQLITE).await,
        }
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        match manager.get_connection().get_database_backend() {
            DbBackend::Postgres => {
                run(manager, &["DROP FUNCTION IF EXISTS note_rows(change_feed[])"]).await?;
                run(manager, POSTGRES).await?;
            }
            DbBackend::MySql => forget_old_rows(manager, &MARIADB).await?,
            _ => forget_old_rows(manager, &SQLITE).await?,
        }
        drop_tables(
            manager,
            &["idempotency_key", "merged_visit", "patient_merge", "visit_change"],
        )
        .await
    }
}

const TABLES: &[&str] = &[
    // A row a change: what the visit was before the revision of this number.
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

/// What is kept of a row, in the order of the table's columns.
const OLD_ROW: &str =
    "OLD.patient_id, OLD.date, OLD.scheduled_at, OLD.status, OLD.department_id, OLD.doctor_id, OLD.channel, NULL, NULL";

async fn note_old_rows(manager: &SchemaManager<'_>, words: &Words) -> Result<(), DbErr> {
    for (trigger, kind) in [("visit_changes", "CHANGED"), ("visit_goes", "DELETED")] {
        let also = format!(
            "INSERT INTO visit_change SELECT hospital_id, number, OLD.id, '{kind}', {{now}}, {OLD_ROW} FROM revision
                WHERE hospital_id = OLD.hospital_id;"
        );
        run_row_trigger(manager, words, trigger, &also).await?;
    }
    Ok(())
}

async fn forget_old_rows(manager: &SchemaManager<'_>, words: &Words) -> Result<(), DbErr> {
    run_row_trigger(manager, words, "visit_changes", "").await?;
    run_row_trigger(manager, words, "visit_goes", "").await
}

const STATEMENT_TRIGGERS: &[&str] = &[
    // As before, and hands back the numbers that the rows were noted under.
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
