//! Recall lists: their entries, the patients left out, and the contacts, which histories of patients name.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{ConnectionTrait, DbBackend};

use crate::dialect::{add_columns, drop_columns, drop_tables, run};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

const COLUMNS: &[(&str, &str, &str)] = &[("record_change", "contact_id", "BIGINT")];

const TABLES: &[&str] = &[
    "CREATE TABLE IF NOT EXISTS recall_list (
        {id},
        hospital_id BIGINT NOT NULL,
        name {text} NOT NULL,
        snapshot_id {text} NOT NULL,
        bucket INTEGER NOT NULL,
        cohort {text} NOT NULL,
        as_of DATE NOT NULL,
        proposed BOOLEAN NOT NULL,
        revision BIGINT NOT NULL,
        newest_visit_id BIGINT NOT NULL,
        made_on DATE NOT NULL,
        created_at {instant} NOT NULL,
        created_by BIGINT,
        closed_at {instant},
        claims INTEGER NOT NULL,
        version INTEGER NOT NULL,
        {key},
        FOREIGN KEY (hospital_id, snapshot_id) REFERENCES snapshot (hospital_id, id)
            ON DELETE RESTRICT ON UPDATE RESTRICT,
        FOREIGN KEY (hospital_id, created_by) REFERENCES staff (hospital_id, id) ON DELETE RESTRICT ON UPDATE RESTRICT
    ){table}",
    // No foreign keys to patients, which SQL may delete.
    "CREATE TABLE IF NOT EXISTS recall_entry (
        {id},
        hospital_id BIGINT NOT NULL,
        list_id BIGINT NOT NULL,
        patient_id BIGINT NOT NULL,
        assignee_id BIGINT,
        claimed_by BIGINT,
        claimed_until {instant},
        claim_number INTEGER,
        outcome {text} CHECK (outcome IN ('REACHED', 'BOOKED', 'NO_ANSWER', 'DECLINED', 'WRONG_NUMBER')),
        due_on DATE,
        stands BOOLEAN NOT NULL,
        returned_on DATE,
        version INTEGER NOT NULL,
        {key},
        UNIQUE (hospital_id, list_id, patient_id),
        FOREIGN KEY (hospital_id, list_id) REFERENCES recall_list (hospital_id, id)
            ON DELETE RESTRICT ON UPDATE RESTRICT,
        FOREIGN KEY (hospital_id, assignee_id) REFERENCES staff (hospital_id, id) ON DELETE RESTRICT ON UPDATE RESTRICT,
        FOREIGN KEY (hospital_id, claimed_by) REFERENCES staff (hospital_id, id) ON DELETE RESTRICT ON UPDATE RESTRICT
    ){table}",
    "CREATE INDEX IF NOT EXISTS recall_entry_by_patient ON recall_entry (hospital_id, patient_id)",
    "CREATE TABLE IF NOT EXISTS recall_left_out (
        hospital_id BIGINT NOT NULL,
        list_id BIGINT NOT NULL,
        reason {text} NOT NULL CHECK (reason IN ('NOT_ACTIVE', 'DUPLICATE', 'CAME_SINCE', 'HAS_NEXT_VISIT',
            'DO_NOT_CONTACT', 'NO_PHONE')),
        patient_id BIGINT NOT NULL,
        PRIMARY KEY (hospital_id, list_id, reason, patient_id),
        FOREIGN KEY (hospital_id, list_id) REFERENCES recall_list (hospital_id, id)
            ON DELETE RESTRICT ON UPDATE RESTRICT
    ){table}",
    "CREATE TABLE IF NOT EXISTS recall_contact (
        {id},
        hospital_id BIGINT NOT NULL,
        entry_id BIGINT NOT NULL,
        patient_id BIGINT NOT NULL,
        contacted_at {instant} NOT NULL,
        staff_id BIGINT,
        outcome {text} NOT NULL CHECK (outcome IN ('REACHED', 'BOOKED', 'NO_ANSWER', 'DECLINED', 'WRONG_NUMBER')),
        note {blob},
        due_on DATE,
        {key},
        FOREIGN KEY (hospital_id, entry_id) REFERENCES recall_entry (hospital_id, id)
            ON DELETE RESTRICT ON UPDATE RESTRICT,
        FOREIGN KEY (hospital_id, staff_id) REFERENCES staff (hospital_id, id) ON DELETE RESTRICT ON UPDATE RESTRICT
    ){table}",
    "CREATE INDEX IF NOT EXISTS recall_contact_by_entry ON recall_contact (hospital_id, entry_id, id)",
    "CREATE INDEX IF NOT EXISTS recall_contact_by_patient ON recall_contact (hospital_id, patient_id)",
];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        run(manager, TABLES).await?;
        if manager.get_connection().get_database_backend() != DbBackend::MySql {
            // Who was merged into a patient. MariaDB has an index by it already, and no partial ones.
            let index = "CREATE INDEX IF NOT EXISTS patient_by_merged_into ON patient (hospital_id, merged_into)
                WHERE merged_into IS NOT NULL";
            run(manager, &[index]).await?;
        }
        add_columns(manager, COLUMNS).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // Entries of histories that only say that there was a contact.
        run(manager, &["DELETE FROM record_change WHERE contact_id IS NOT NULL"]).await?;
        drop_columns(manager, COLUMNS).await?;
        if manager.get_connection().get_database_backend() != DbBackend::MySql {
            run(manager, &["DROP INDEX IF EXISTS patient_by_merged_into"]).await?;
        }
        drop_tables(
            manager,
            &["recall_contact", "recall_left_out", "recall_entry", "recall_list"],
        )
        .await
    }
}
