//! A builder of SQL statements: text with bound values, in the database's dialect.

use chrono::{DateTime, SecondsFormat, Utc};
use sea_orm::{ConnectionTrait as _, DatabaseTransaction, DbBackend, QueryResult, QueryTrait, Statement, Value};

use super::Store;
use crate::error::{Error, Result};

/// Ids in one statement: at some 20 bytes each they stay well below what a database takes in one packet.
pub(crate) const IDS_PER_STATEMENT: usize = 40_000;

pub(super) struct Sql {
    backend: DbBackend,
    text: String,
    values: Vec<Value>,
}

impl Sql {
    pub(super) fn new(backend: DbBackend, text: &str) -> Self {
        Self {
            backend,
            text: text.to_owned(),
            values: Vec::new(),
        }
    }

    pub(super) fn backend(&self) -> DbBackend {
        self.backend
    }

    pub(super) fn push(&mut self, text: &str) -> &mut Self {
        self.text.push_str(text);
        self
    }

    /// Adds a bound value.
    pub(super) fn bind(&mut self, value: impl Into<Value>) -> &mut Self {
        self.values.push(bound(self.backend, value.into()));
        match self.backend {
            DbBackend::Postgres => self.text.push_str(&format!("${}", self.values.len())),
            _ => self.text.push('?'),
        }
        self
    }

    /// Adds the condition that the expression before is one of the numbers, which are bound as one value. The caller splits lists
    /// that may be longer than [`IDS_PER_STATEMENT`].
    pub(super) fn numbers(&mut self, numbers: &[i64]) -> &mut Self {
        match self.backend {
            // Not = ANY: its generic plan compares with the elements one by one.
            DbBackend::Postgres => self
                .push(" IN (SELECT unnest(")
                .bind(numbers.to_vec())
                .push("::bigint[]))"),
            DbBackend::MySql => {
                self.push(" IN (SELECT j.n FROM JSON_TABLE(").bind(json(numbers));
                self.push(", '$[*]' COLUMNS (n BIGINT PATH '$')) j)")
            }
            _ => self
                .push(" IN (SELECT value FROM json_each(")
                .bind(json(numbers))
                .push("))"),
        }
    }

    /// Adds the condition that the expression before is one of the texts, which are bound as one value.
    pub(super) fn texts(&mut self, texts: &[&str]) -> &mut Self {
        match self.backend {
            DbBackend::Postgres => {
                let texts: Vec<String> = texts.iter().map(|&text| text.to_owned()).collect();
                self.push(" IN (SELECT unnest(").bind(texts).push("::text[]))")
            }
            DbBackend::MySql => {
                self.push(" IN (SELECT j.t FROM JSON_TABLE(").bind(json(texts));
                self.push(
                    ", '$[*]' COLUMNS (t VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin PATH '$')) j)",
                )
            }
            _ => self
                .push(" IN (SELECT value FROM json_each(")
                .bind(json(texts))
                .push("))"),
        }
    }

    /// Adds the condition that the expression before is one of at most a few hundred values, each bound by itself. For statements
    /// that change rows, where MariaDB scans the whole table if the list is a subquery.
    pub(super) fn few<T: Into<Value> + Copy>(&mut self, values: &[T]) -> &mut Self {
        for (i, &value) in values.iter().enumerate() {
            self.push(if i == 0 { " IN (" } else { ", " }).bind(value);
        }
        self.push(")")
    }

    /// Adds a SELECT of the rows, which are bound as one value: a JSON array of arrays.
    fn select(&mut self, columns: &[(&str, ColumnType)], rows: String) -> &mut Self {
        let backend = self.backend;
        let list = |text: fn(DbBackend, usize, ColumnType) -> String| {
            let columns = columns.iter().enumerate();
            let columns: Vec<String> = columns.map(|(place, (_, kind))| text(backend, place, *kind)).collect();
            columns.join(", ")
        };
        let selected = list(|backend, place, kind| match (backend, kind) {
            (DbBackend::Postgres, ColumnType::Bytes | ColumnType::Blob) => format!("decode(r.v ->> {place}, 'hex')"),
            (DbBackend::Postgres, _) => format!("(r.v ->> {place})::{}", kind.postgres()),
            (DbBackend::MySql, ColumnType::Bytes | ColumnType::Blob) => format!("UNHEX(r.c{place})"),
            (DbBackend::MySql, _) => format!("r.c{place}"),
            (_, ColumnType::Bytes | ColumnType::Blob) => format!("unhex(r.value ->> {place})"),
            _ => format!("r.value ->> {place}"),
        });
        self.push(&format!("SELECT {selected} FROM "));
        match backend {
            DbBackend::Postgres => self.push("jsonb_array_elements(").bind(rows).push("::jsonb) r (v)"),
            DbBackend::MySql => {
                let columns = list(|_, place, kind| format!("c{place} {} PATH '$[{place}]'", kind.mariadb()));
                self.push("JSON_TABLE(").bind(rows);
                self.push(&format!(", '$[*]' COLUMNS ({columns})) r"))
            }
            // Without the condition, ON CONFLICT would be read as part of a join.
            _ => self.push("json_each(").bind(rows).push(") r WHERE TRUE"),
        }
    }

    /// The finished statement.
    pub(super) fn done(self) -> Statement {
        Statement::from_sql_and_values(self.backend, self.text, self.values)
    }
}

/// The statement of a sea-orm query that writes instants which may be far in the future, with its values as [`Sql::bind`] binds them.
pub(super) fn statement(backend: DbBackend, query: &impl QueryTrait) -> Statement {
    let mut statement = query.build(backend);
    for value in statement.values.iter_mut().flat_map(|values| &mut values.0) {
        *value = bound(backend, value.clone());
    }
    statement
}

/// The value to bind: MariaDB's driver would send an instant as a TIMESTAMP, which ends in 2038, and the column would become null.
fn bound(backend: DbBackend, value: Value) -> Value {
    match (backend, value) {
        (DbBackend::MySql, Value::ChronoDateTimeUtc(at)) => at.map(|at| at.naive_utc()).into(),
        (_, value) => value,
    }
}

/// The type of a column of [`Rows`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ColumnType {
    Integer,
    Boolean,
    /// Up to 255 characters.
    Text,
    Date,
    Instant,
    /// Up to 1,024 bytes.
    Bytes,
    /// Any number of bytes.
    Blob,
}

impl ColumnType {
    const fn postgres(self) -> &'static str {
        match self {
            Self::Integer => "bigint",
            Self::Boolean => "boolean",
            Self::Text | Self::Bytes | Self::Blob => "text",
            Self::Date => "date",
            Self::Instant => "timestamptz",
        }
    }

    const fn mariadb(self) -> &'static str {
        match self {
            Self::Integer => "BIGINT",
            Self::Boolean => "TINYINT",
            Self::Text => "VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin",
            Self::Date => "DATE",
            Self::Instant => "DATETIME(6)",
            // In hexadecimal.
            Self::Bytes => "VARCHAR(2048) CHARACTER SET ascii",
            Self::Blob => "LONGTEXT CHARACTER SET ascii",
        }
    }
}

/// Rows to be inserted. They are bound as one value, so that a statement is the same for any number of rows.
pub(super) struct Rows<'a> {
    columns: &'a [(&'a str, ColumnType)],
    rows: Vec<Vec<Value>>,
}

/// The longest value that rows are bound as, in bytes, unless one row is longer.
const ROWS_BYTES: usize = 1 << 20;

impl<'a> Rows<'a> {
    pub(super) const fn new(columns: &'a [(&'a str, ColumnType)]) -> Self {
        Self {
            columns,
            rows: Vec::new(),
        }
    }

    /// Adds a row, with a value for each column.
    pub(super) fn push(&mut self, row: impl IntoIterator<Item = Value>) {
        self.rows.push(row.into_iter().collect());
    }
}

impl Store {
    /// Inserts rows. `rest` ends the statement.
    pub(super) async fn insert_rows(
        &self,
        transaction: &DatabaseTransaction,
        table: &str,
        rows: Rows<'_>,
        rest: &str,
    ) -> Result<()> {
        let Rows { columns, rows } = rows;
        let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
        let insert = format!("INSERT INTO {table} ({}) ", names.join(", "));
        let backend = transaction.get_database_backend();
        let mut rows = rows.into_iter().peekable();
        while rows.peek().is_some() {
            let mut text = String::from("[");
            while text.len() < ROWS_BYTES
                && let Some(row) = rows.next()
            {
                let row: Vec<serde_json::Value> = row
                    .into_iter()
                    .map(|value| json_value(backend, value))
                    .collect::<Result<_>>()?;
                text.push_str(if text.len() > 1 { "," } else { "" });
                text.push_str(&serde_json::Value::Array(row).to_string());
            }
            text.push(']');
            let mut sql = self.sql(&insert);
            sql.select(columns, text).push(rest);
            transaction.execute_raw(sql.done()).await?;
        }
        Ok(())
    }
}

/// A value as text of JSON that the database turns into the type of the column.
fn json_value(backend: DbBackend, value: Value) -> Result<serde_json::Value> {
    let instant = |at: DateTime<Utc>| match backend {
        DbBackend::MySql => at.format("%Y-%m-%d %H:%M:%S%.6f").to_string(),
        // As the driver writes it.
        _ => at.to_rfc3339_opts(SecondsFormat::AutoSi, false),
    };
    Ok(match value {
        Value::Bool(value) if backend == DbBackend::Postgres => value.into(),
        Value::Bool(value) => value.map(u8::from).into(),
        Value::Int(value) => value.into(),
        Value::BigInt(value) => value.into(),
        Value::String(value) => value.into(),
        Value::ChronoDate(value) => value.map(|date| date.to_string()).into(),
        Value::ChronoDateTimeUtc(value) => value.map(instant).into(),
        Value::Bytes(value) => value.map(hex::encode).into(),
        _ => return Err(Error::Internal("a value of this type cannot be inserted".to_owned())),
    })
}

pub(super) fn json(list: impl serde::Serialize) -> String {
    serde_json::json!(list).to_string()
}

/// The result of a `SELECT COUNT(*)`.
pub(super) fn one_count(row: Option<QueryResult>) -> Result<u64> {
    let count: i64 = match row {
        Some(row) => row.try_get_by_index(0)?,
        None => 0,
    };
    Ok(count.unsigned_abs())
}
