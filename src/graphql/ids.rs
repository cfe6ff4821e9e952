//! Lists of ids, written as JSON where they are resolved: a year of visits as values of async-graphql's takes many times as long.

use std::borrow::Cow;
use std::io::{Result, Write};

use async_graphql::parser::types::Field;
use async_graphql::registry::Registry;
use async_graphql::{ContextSelectionSet, ID, OutputType, Positioned, ServerResult, Value};
use serde_json::ser::Formatter;

use super::id::Id;

/// `[ID!]!` as JSON.
pub(super) struct Ids(Value);

impl Ids {
    /// The ids of these numbers.
    pub(super) fn of(numbers: &[i64], id: fn(i64) -> Id) -> Self {
        // An id of up to 24 bits, its quotes and its comma.
        let mut json = Vec::with_capacity(2 + numbers.len() * 9);
        json.push(b'[');
        for (place, &number) in numbers.iter().enumerate() {
            if place > 0 {
                json.push(b',');
            }
            id(number).write(&mut json);
        }
        json.push(b']');
        Self(Value::Binary(json.into()))
    }
}

impl OutputType for Ids {
    fn type_name() -> Cow<'static, str> {
        <Vec<ID> as OutputType>::type_name()
    }

    fn qualified_type_name() -> String {
        <Vec<ID> as OutputType>::qualified_type_name()
    }

    fn create_type_info(registry: &mut Registry) -> String {
        <Vec<ID> as OutputType>::create_type_info(registry)
    }

    async fn resolve(&self, _: &ContextSelectionSet<'_>, _: &Positioned<Field>) -> ServerResult<Value> {
        Ok(self.0.clone())
    }
}

/// Writes an answer: what is bytes in it is JSON already.
pub struct Written;

impl Formatter for Written {
    fn write_byte_array<W: ?Sized + Write>(&mut self, writer: &mut W, json: &[u8]) -> Result<()> {
        writer.write_all(json)
    }
}
