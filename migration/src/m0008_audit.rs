//! Who looked at whose data and who changed what: written once, and neither changed nor deleted.

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
        run(manager, &[TABLE]).await?;
        match manager.get_connection().get_database_backend() {
            DbBackend::Postgres => run(manager, POSTGRES).await,
            backend => {
                let refuse = match backend {
                    DbBackend::MySql => {
                        "SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'entries of the audit stay as they are'"
                    }
                    _ => "SELECT RAISE(ABORT, 'entries of the audit stay as they are')",
                };
                for (name, event) in [("audit_stays", "UPDATE"), ("audit_is_kept", "DELETE")] {
                    let drop = format!("DROP TRIGGER IF EXISTS {name}");
                    let create =
                        format!("CREATE TRIGGER {name} BEFORE {event} ON audit_entry FOR EACH ROW BEGIN {refuse}; END");
                    run(manager, &[&drop, &create]).await?;
                }
                Ok(())
            }
        }
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        drop_tables(manager, &["audit_entry"]).await?;
        match manager.get_connection().get_database_backend() {
            DbBackend::Postgres => run(manager, &["DROP FUNCTION IF EXISTS audit_stays"]).await,
            _ => Ok(()),
        }
    }
}

const TABLE: &str = "CREATE TABLE IF NOT EXISTS audit_entry (
        {id},
        hospital_id BIGINT NOT NULL,
        at {instant} NOT NULL,
        staff_id BIGINT,
        action {text} NOT NULL,
        what {text},
        subject_id BIGINT,
        snapshot_id {text},
        bucket INTEGER,
        cohort {text},
        patient_ids {long_text},
        request_id {text},
        {key},
        FOREIGN KEY (hospital_id, staff_id) REFERENCES staff (hospital_id, id) ON DELETE RESTRICT ON UPDATE RESTRICT
    ){table}";

const POSTGRES: &[&str] = &[
    "CREATE OR REPLACE FUNCTION audit_stays() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION 'entries of the audit stay as they are';
    END $$",
    "CREATE OR REPLACE TRIGGER audit_stays BEFORE UPDATE OR DELETE ON audit_entry
        FOR EACH ROW EXECUTE FUNCTION audit_stays()",
    "CREATE OR REPLACE TRIGGER audit_is_kept BEFORE TRUNCATE ON audit_entry EXECUTE FUNCTION audit_stays()",
];
