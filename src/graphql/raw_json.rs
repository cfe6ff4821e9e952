//! Values that are written as JSON text where they are resolved. async-graphql boxes a future for each field and builds a tree of
//! values: too slow for a year by DAY with thousands of counts, and for lists of hundreds of thousands of ids.
//!
//! Such a value is a [`Value::Binary`], which nothing else in the schema is, and [`RawJson`] copies it into the response.

use std::borrow::Cow;
use std::io::{self, Write};

use async_graphql::parser::types::{Field, Selection, SelectionSet};
use async_graphql::registry::Registry;
use async_graphql::{ContextSelectionSet, ID, OutputType, Positioned, ServerResult, Value};
use serde::Serialize;
use serde_json::ser::Formatter;

use super::context::ResponseBytes;
use super::id::Id;
use crate::error::Result;

/// The response key of a `__typename` that nobody asked for: no query can name it.
pub const TYPE_KEY: &str = "__typename ";

/// `[ID!]!` as JSON.
pub(super) struct IdList(Value);

impl IdList {
    /// Bytes of so many ids at least.
    pub(super) fn at_least(ids: usize) -> usize {
        // The shortest id has three characters, and quotes.
        ids.saturating_mul(5)
    }

    /// The ids of these numbers; an error where they are longer than the response may be.
    pub(super) fn of(numbers: &[i64], id: fn(i64) -> Id, left: &ResponseBytes) -> Result<Self> {
        let commas = numbers.len().saturating_sub(1);
        let length = 2 + commas + numbers.iter().map(|&number| id(number).json_length()).sum::<usize>();
        left.take(length)?;
        let mut json = Vec::with_capacity(length);
        json.push(b'[');
        for (place, &number) in numbers.iter().enumerate() {
            if place > 0 {
                json.push(b',');
            }
            id(number).write(&mut json);
        }
        json.push(b']');
        Ok(Self(Value::Binary(json.into())))
    }
}

impl OutputType for IdList {
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

/// Writes a field of an object; none where its resolver has to answer.
pub(super) type WriteField<T> = fn(&T, &ContextSelectionSet<'_>, &Field, &mut JsonWriter) -> Option<()>;

/// A type with fields that can be written without a future.
pub(super) trait WriteFields: OutputType + 'static {
    /// Those fields. The tests hold them against the schema and the resolvers.
    const FIELDS: &'static [(&'static str, WriteField<Self>)];
}

/// An object that is written as JSON where [`WriteFields`] knows all that is selected, and resolved as usual otherwise.
pub(super) struct JsonObject<T>(pub(super) T);

/// A list of such objects.
pub(super) struct JsonList<T>(pub(super) Vec<T>);

impl<T: WriteFields> OutputType for JsonObject<T> {
    fn type_name() -> Cow<'static, str> {
        T::type_name()
    }

    fn create_type_info(registry: &mut Registry) -> String {
        T::create_type_info(registry)
    }

    async fn resolve(&self, ctx: &ContextSelectionSet<'_>, field: &Positioned<Field>) -> ServerResult<Value> {
        match written(|json| json.object(&self.0, ctx, &field.node.selection_set.node)) {
            Some(value) => Ok(value),
            None => self.0.resolve(ctx, field).await,
        }
    }
}

impl<T: WriteFields> OutputType for JsonList<T> {
    fn type_name() -> Cow<'static, str> {
        Vec::<T>::type_name()
    }

    fn qualified_type_name() -> String {
        Vec::<T>::qualified_type_name()
    }

    fn create_type_info(registry: &mut Registry) -> String {
        Vec::<T>::create_type_info(registry)
    }

    async fn resolve(&self, ctx: &ContextSelectionSet<'_>, field: &Positioned<Field>) -> ServerResult<Value> {
        match written(|json| json.list(&self.0, ctx, &field.node.selection_set.node)) {
            Some(value) => Ok(value),
            None => self.0.resolve(ctx, field).await,
        }
    }
}

fn written(write: impl FnOnce(&mut JsonWriter) -> Option<()>) -> Option<Value> {
    let mut json = JsonWriter(Vec::new());
    write(&mut json)?;
    Some(Value::Binary(json.0.into()))
}

/// JSON text while it is written.
pub(super) struct JsonWriter(Vec<u8>);

impl JsonWriter {
    /// Writes a value that is no object of the schema's.
    pub(super) fn value(&mut self, value: &impl Serialize) -> Option<()> {
        serde_json::to_writer(&mut self.0, value).ok()
    }

    /// Writes what is selected of an object. What is executed has neither fragments on object types nor directives, and nothing
    /// twice (`http::execution`).
    pub(super) fn object<T: WriteFields>(
        &mut self,
        object: &T,
        ctx: &ContextSelectionSet<'_>,
        selection: &SelectionSet,
    ) -> Option<()> {
        self.0.push(b'{');
        let mut empty = true;
        for item in &selection.items {
            let Selection::Field(field) = &item.node else {
                return None;
            };
            let key = &field.node.response_key().node;
            if key == TYPE_KEY {
                continue;
            }
            if !std::mem::take(&mut empty) {
                self.0.push(b',');
            }
            // A name has no character that JSON would escape.
            self.0.push(b'"');
            self.0.extend_from_slice(key.as_bytes());
            self.0.extend_from_slice(b"\":");
            match field.node.name.node.as_str() {
                "__typename" => self.value(&T::type_name())?,
                name => {
                    let (_, write) = T::FIELDS.iter().find(|(field, _)| *field == name)?;
                    write(object, ctx, &field.node, self)?;
                }
            }
        }
        self.0.push(b'}');
        Some(())
    }

    fn list<T: WriteFields>(
        &mut self,
        list: &[T],
        ctx: &ContextSelectionSet<'_>,
        selection: &SelectionSet,
    ) -> Option<()> {
        self.0.push(b'[');
        for (place, object) in list.iter().enumerate() {
            if place > 0 {
                self.0.push(b',');
            }
            self.object(object, ctx, selection)?;
        }
        self.0.push(b']');
        Some(())
    }
}

/// Formats a response: bytes in it are JSON already.
pub struct RawJson;

impl Formatter for RawJson {
    fn write_byte_array<W: ?Sized + Write>(&mut self, writer: &mut W, json: &[u8]) -> io::Result<()> {
        writer.write_all(json)
    }
}

#[cfg(test)]
mod tests {
    use async_graphql::parser::types::{TypeKind, TypeSystemDefinition};

    use super::super::{cohort::Cohort, statistics::StatisticsBucket};
    use super::*;

    /// A field that is added to a type is written as JSON too, or is named here.
    #[test]
    fn every_field_is_written_or_left_to_its_resolver() {
        fn fields<T: WriteFields>(resolved: &[&'static str]) {
            let sdl = super::super::sdl();
            let document = async_graphql::parser::parse_schema(sdl).unwrap();
            let type_name = T::type_name();
            let mut declared: Vec<String> = document
                .definitions
                .iter()
                .find_map(|definition| match definition {
                    TypeSystemDefinition::Type(ty) if ty.node.name.node == *type_name => match &ty.node.kind {
                        TypeKind::Object(object) => Some(
                            object
                                .fields
                                .iter()
                                .map(|field| field.node.name.node.to_string())
                                .collect(),
                        ),
                        _ => None,
                    },
                    _ => None,
                })
                .unwrap();
            declared.sort_unstable();
            let written = T::FIELDS.iter().map(|(name, _)| *name);
            let mut known: Vec<&str> = written.chain(resolved.iter().copied()).collect();
            known.sort_unstable();
            assert_eq!(known, declared, "{type_name}");
        }
        fields::<StatisticsBucket>(&["covered"]);
        fields::<Cohort>(&[
            "id",
            "kind",
            "patientIds",
            "visitIds",
            "breakdown",
            "derivation",
            "digest",
            "explain",
            "narrowed",
            "patients",
            "visits",
        ]);
    }
}
