//! A builder of SQL statements: text with bound values, in the database's dialect.

use sea_orm::{DbBackend, QueryResult, QueryTrait, Statement, Value};

use crate::error::Result;

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
