//! Puts an answer's fields into the order in which they were asked for, as GraphQL says. async-graphql has them in the order in
//! which they were done.

use async_graphql::indexmap::IndexMap;
use async_graphql::parser::types::{ExecutableDocument, Selection, SelectionSet};
use async_graphql::{Name, Value};

/// The names of a selection's fields in an answer, with what is selected of each.
#[derive(Default)]
pub(super) struct Order {
    fields: IndexMap<Name, Self>,
    /// Here or below, something of which fields are selected stands more than once: its fields are to be merged.
    pub(super) merges: bool,
}

impl Order {
    /// Of a document that a guard let pass: its fragments exist, spread none of themselves, and are bounded where they are spread.
    pub(super) fn of(document: &ExecutableDocument, selection: &SelectionSet) -> Self {
        let mut order = Self::default();
        order.add(document, selection);
        order
    }

    fn add(&mut self, document: &ExecutableDocument, selection: &SelectionSet) {
        for item in &selection.items {
            match &item.node {
                Selection::Field(field) => {
                    let name = &field.node.response_key().node;
                    let selected = &field.node.selection_set.node;
                    let again = self.fields.contains_key(name) && !selected.items.is_empty();
                    let below = self.fields.entry(name.clone()).or_default();
                    below.add(document, selected);
                    self.merges |= again | below.merges;
                }
                Selection::InlineFragment(fragment) => self.add(document, &fragment.node.selection_set.node),
                Selection::FragmentSpread(spread) => {
                    if let Some(fragment) = document.fragments.get(&spread.node.fragment_name.node) {
                        self.add(document, &fragment.node.selection_set.node);
                    }
                }
            }
        }
    }

    pub(super) fn arrange(&self, value: &mut Value) {
        match value {
            Value::List(items) if !self.fields.is_empty() => items.iter_mut().for_each(|item| self.arrange(item)),
            Value::Object(fields) if !self.fields.is_empty() => {
                let place = |name: &Name| self.fields.get_index_of(name).unwrap_or(usize::MAX);
                if !fields.keys().is_sorted_by_key(place) {
                    fields.sort_by_cached_key(|name, _| place(name));
                }
                for (name, value) in fields {
                    if let Some(below) = self.fields.get(name) {
                        below.arrange(value);
                    }
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_more_than_once_is_known() {
        let merges = |query| {
            let document = async_graphql::parser::parse_query(query).unwrap();
            let (_, operation) = document.operations.iter().next().unwrap();
            Order::of(&document, &operation.node.selection_set.node).merges
        };
        assert!(!merges("{ a { b b } c: a { b } ...f } fragment f on Q { d { b } }"));
        assert!(merges("{ a { b } ...f } fragment f on Q { a { c } }"));
        assert!(merges("{ a { b { c } ... on A { b { d } } } }"));
    }

    #[test]
    fn fields_stand_as_they_were_asked_for() {
        let query =
            "{ z { b ...f a } y: x { k } ...g } fragment f on Z { c a { n m } } fragment g on Query { z { d } w }";
        let document = async_graphql::parser::parse_query(query).unwrap();
        let (_, operation) = document.operations.iter().next().unwrap();
        let order = Order::of(&document, &operation.node.selection_set.node);
        let mut value = async_graphql::value!({"w": 1, "y": [{"k": 1}, null], "z": [{"d": 1, "a": {"m": 1, "n": 2}, "c": 3, "b": 4}]});
        order.arrange(&mut value);
        assert_eq!(
            value.to_string(),
            async_graphql::value!({"z": [{"b": 4, "c": 3, "a": {"n": 2, "m": 1}, "d": 1}], "y": [{"k": 1}, null], "w": 1}).to_string()
        );
    }
}
