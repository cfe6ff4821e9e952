//! Answers what is at hand without futures, and as JSON: async-graphql has some futures for each field and a value for each, and
//! a year of counts by DAY has thousands.

use std::borrow::Cow;

use async_graphql::parser::types::{Field, Selection, SelectionSet};
use async_graphql::registry::Registry;
use async_graphql::{ContextSelectionSet, Name, OutputType, Positioned, ServerResult, Value};
use serde::Serialize;

/// A type some of whose fields take neither time, nor the database, nor a permission.
pub(super) trait SomeAtHand: OutputType {
    /// Writes the field's value as JSON; none where it is not at hand. Its resolver says the same.
    fn write(&self, ctx: &ContextSelectionSet<'_>, field: &Field, json: &mut Vec<u8>) -> Option<()>;
}

impl<T: SomeAtHand> SomeAtHand for &T {
    fn write(&self, ctx: &ContextSelectionSet<'_>, field: &Field, json: &mut Vec<u8>) -> Option<()> {
        T::write(self, ctx, field, json)
    }
}

/// Of such a type. Where all that is selected is at hand, it is answered at once; else as always.
pub(super) struct AtHand<T>(pub(super) T);

/// A list of such a type, likewise.
pub(super) struct AllAtHand<T>(pub(super) Vec<T>);

impl<T: SomeAtHand> OutputType for AtHand<T> {
    fn type_name() -> Cow<'static, str> {
        T::type_name()
    }

    fn create_type_info(registry: &mut Registry) -> String {
        T::create_type_info(registry)
    }

    async fn resolve(&self, ctx: &ContextSelectionSet<'_>, field: &Positioned<Field>) -> ServerResult<Value> {
        let mut json = Vec::new();
        match object(&self.0, ctx, &field.node.selection_set.node, &mut json) {
            Some(()) => Ok(Value::Binary(json.into())),
            None => self.0.resolve(ctx, field).await,
        }
    }
}

impl<T: SomeAtHand> OutputType for AllAtHand<T> {
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
        let selection = &field.node.selection_set.node;
        let mut json = vec![b'['];
        for (place, of) in self.0.iter().enumerate() {
            if place > 0 {
                json.push(b',');
            }
            if object(of, ctx, selection, &mut json).is_none() {
                return self.0.resolve(ctx, field).await;
            }
        }
        json.push(b']');
        Ok(Value::Binary(json.into()))
    }
}

/// Writes what is selected of it; none where anything is not at hand.
pub(super) fn object<T: SomeAtHand>(
    of: &T,
    ctx: &ContextSelectionSet<'_>,
    selection: &SelectionSet,
    json: &mut Vec<u8>,
) -> Option<()> {
    json.push(b'{');
    add(of, ctx, selection, &mut Vec::with_capacity(selection.items.len()), json)?;
    json.push(b'}');
    Some(())
}

/// Writes a value that is no object of the schema's.
pub(super) fn value(of: &impl Serialize, json: &mut Vec<u8>) -> Option<()> {
    serde_json::to_writer(json, of).ok()
}

fn add<'a, T: SomeAtHand>(
    of: &T,
    ctx: &ContextSelectionSet<'a>,
    selection: &'a SelectionSet,
    names: &mut Vec<&'a Name>,
    json: &mut Vec<u8>,
) -> Option<()> {
    for item in &selection.items {
        match &item.node {
            // Directives, and selections of one name that are to be merged, are async-graphql's.
            Selection::Field(field) if field.node.directives.is_empty() => {
                let name = &field.node.response_key().node;
                if names.contains(&name) {
                    return None;
                }
                if !names.is_empty() {
                    json.push(b',');
                }
                names.push(name);
                // A name has no character that JSON would escape.
                json.push(b'"');
                json.extend_from_slice(name.as_bytes());
                json.extend_from_slice(b"\":");
                match field.node.name.node.as_str() {
                    "__typename" => value(&T::type_name(), json)?,
                    _ => of.write(ctx, &field.node, json)?,
                }
            }
            Selection::FragmentSpread(spread) if spread.node.directives.is_empty() => {
                let fragment = &ctx.query_env.fragments.get(&spread.node.fragment_name.node)?.node;
                if *fragment.type_condition.node.on.node != *T::type_name() {
                    return None;
                }
                add(of, ctx, &fragment.selection_set.node, names, json)?;
            }
            _ => return None,
        }
    }
    Some(())
}
