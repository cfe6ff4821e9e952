//! A statement while it is put together: text, and values bound in it, in the words of the database.

use sea_orm::{DbBackend, Statement, Value};

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

    /// Puts a sub-select of the numbers in: they travel as one value, however many they are.
    pub(super) fn numbers(&mut self, numbers: &[i64]) -> &mut Self {
        match self.backend {
            DbBackend::Postgres => {
                self.push("(SELECT unnest(").bind(numbers.to_vec()).push("::bigint[]))");
            }
            DbBackend::MySql => {
                let json = format!("[{}]", join(numbers));
                self.push("(SELECT j.n FROM JSON_TABLE(").bind(json);
                self.push(", '$[*]' COLUMNS (n BIGINT PATH '$')) j)");
            }
            _ => {
                let json = format!("[{}]", join(numbers));
                self.push("(SELECT value FROM json_each(").bind(json).push("))");
            }
        }
        self
    }

    /// Puts a sub-select of the texts in, likewise.
    pub(super) fn texts(&mut self, texts: &[&str]) -> &mut Self {
        match self.backend {
            DbBackend::Postgres => {
                let texts: Vec<String> = texts.iter().map(|&text| text.to_owned()).collect();
                self.push("(SELECT unnest(").bind(texts).push("::text[]))");
            }
            DbBackend::MySql => {
                self.push("(SELECT j.t FROM JSON_TABLE(").bind(serde_json::json!(texts).to_string());
                self.push(", '$[*]' COLUMNS (t VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin PATH '$')) j)");
            }
            _ => {
                self.push("(SELECT value FROM json_each(").bind(serde_json::json!(texts).to_string()).push("))");
            }
        }
        self
    }

    pub(super) fn done(self) -> Statement {
        Statement::from_sql_and_values(self.backend, self.text, self.values)
    }
}

fn join(numbers: &[i64]) -> String {
    let mut text = String::with_capacity(numbers.len() * 8);
    for (i, number) in numbers.iter().enumerate() {
        if i > 0 {
            text.push(',');
        }
        text.push_str(&number.to_string());
    }
    text
}
