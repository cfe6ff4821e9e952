//! A statement while it is put together: text, and values bound in it, in the words of the database.

use sea_orm::{DbBackend, QueryResult, Statement, Value};

use crate::error::Result;

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

    /// Puts a value in, never its text.
    pub(super) fn bind(&mut self, value: impl Into<Value>) -> &mut Self {
        self.values.push(value.into());
        match self.backend {
            DbBackend::Postgres => self.text.push_str(&format!("${}", self.values.len())),
            _ => self.text.push('?'),
        }
        self
    }

    /// Asks that what stands before is one of the numbers: they travel as one value. Of lists that may be longer, as many at a time
    /// as [`crate::config::Limits::ids_of_statement`] says.
    pub(super) fn numbers(&mut self, numbers: &[i64]) -> &mut Self {
        match self.backend {
            // Not = ANY: a plan made once for all arrays compares them element by element.
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

    /// Asks that what stands before is one of the texts, likewise.
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

    /// Asks that what stands before is one of at most a few hundred values. For statements that change rows: with a query
    /// inside the brackets MariaDB would go through the whole table for them.
    pub(super) fn few<T: Into<Value> + Copy>(&mut self, values: &[T]) -> &mut Self {
        for (place, &value) in values.iter().enumerate() {
            self.push(if place == 0 { " IN (" } else { ", " }).bind(value);
        }
        self.push(")")
    }

    pub(super) fn done(self) -> Statement {
        Statement::from_sql_and_values(self.backend, self.text, self.values)
    }
}

fn json(list: impl serde::Serialize) -> String {
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
