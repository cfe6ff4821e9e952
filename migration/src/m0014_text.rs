//! Normalises text to Unicode NFC, and adds the folded names that search compares.

use icu_normalizer::ComposingNormalizer;
use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{ConnectionTrait, DbBackend, Statement, Value};

use crate::dialect::{add_columns, drop_columns, log};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

const COLUMNS: &[(&str, &str, &str)] = &[
    // The name as search compares it, and the name that it was folded from: where that differs from `name`, SQL changed the name.
    ("patient", "folded_name", "{long_text}"),
    ("patient", "folded_from", "{text}"),
];

/// Table, scope (a column), text column, whether the text is unique within the scope.
const TEXTS: &[(&str, &str, &str, bool)] = &[
    ("hospital", "0", "code", true),
    ("hospital", "0", "name", false),
    ("staff", "hospital_id", "login", true),
    ("staff", "hospital_id", "name", false),
    ("department", "hospital_id", "name", true),
    ("doctor", "hospital_id", "name", true),
    ("patient", "hospital_id", "chart_no", true),
    ("patient", "hospital_id", "name", false),
    ("visit", "hospital_id", "visit_no", true),
];

/// The number of rows read at a time.
const BATCH: usize = 5_000;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        add_columns(manager, COLUMNS).await?;
        for (table, scope, column, unique) in TEXTS {
            let left = normalize(manager, table, scope, column, *unique).await?;
            if left > 0 {
                tracing::warn!(
                    table,
                    column,
                    rows = left,
                    "some text was not normalised to NFC, because another row has the same text in NFC"
                );
            }
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        drop_columns(manager, COLUMNS).await
    }
}

/// Normalises a column. Returns the number of rows left as they are because another row has the same text in NFC.
async fn normalize(
    manager: &SchemaManager<'_>,
    table: &str,
    scope: &str,
    column: &str,
    unique: bool,
) -> Result<u64, DbErr> {
    let connection = manager.get_connection();
    let backend = connection.get_database_backend();
    let run = |sql: &str, values: Vec<Value>| {
        log(sql);
        Statement::from_sql_and_values(backend, numbered(backend, sql), values)
    };
    // ASCII is always in NFC.
    let not_ascii = match backend {
        DbBackend::Sqlite => format!("length(CAST({column} AS BLOB)) <> length({column})"),
        _ => format!("octet_length({column}) <> char_length({column})"),
    };
    let read = format!(
        "SELECT CAST({scope} AS {bigint}), id, {column} FROM {table}
            WHERE {not_ascii} AND ({scope} > ? OR ({scope} = ? AND id > ?)) ORDER BY 1, 2 LIMIT {BATCH}",
        bigint = if backend == DbBackend::MySql {
            "SIGNED"
        } else {
            "BIGINT"
        },
    );
    let find = format!("SELECT id FROM {table} WHERE {scope} = ? AND {column} = ?");
    let write = format!("UPDATE {table} SET {column} = ? WHERE {scope} = ? AND id = ?");
    let nfc = ComposingNormalizer::new_nfc();
    let (mut after, mut left) = ((-1_i64, i64::MIN), 0);
    loop {
        let of_page = vec![after.0.into(), after.0.into(), after.1.into()];
        let rows = connection.query_all_raw(run(&read, of_page)).await?;
        for row in &rows {
            let (whose, id): (i64, i64) = (row.try_get_by_index(0)?, row.try_get_by_index(1)?);
            after = (whose, id);
            let text: String = row.try_get_by_index(2)?;
            let normal = nfc.normalize(&text);
            if normal == text {
                continue;
            }
            let same = vec![whose.into(), normal.as_ref().into()];
            if unique && connection.query_one_raw(run(&find, same)).await?.is_some() {
                left += 1;
                continue;
            }
            let normal = vec![normal.as_ref().into(), whose.into(), id.into()];
            connection.execute_raw(run(&write, normal)).await?;
        }
        if rows.len() < BATCH {
            return Ok(left);
        }
    }
}

/// The statement with `?` replaced by `$1`, `$2`, … on PostgreSQL.
fn numbered(backend: DbBackend, sql: &str) -> String {
    if backend != DbBackend::Postgres {
        return sql.to_owned();
    }
    let mut parts = sql.split('?');
    let mut numbered = parts.next().unwrap_or_default().to_owned();
    for (place, part) in parts.enumerate() {
        numbered.push_str(&format!("${}{part}", place + 1));
    }
    numbered
}
