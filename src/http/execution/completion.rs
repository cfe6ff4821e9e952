//! Completes the data of an executed operation: puts fields in the order of the selection, and makes a failed field, or its nearest
//! nullable parent, null (6.4.4).

use std::collections::HashMap;

use async_graphql::indexmap::IndexMap;
use async_graphql::parser::types::{BaseType, Type};
use async_graphql::{Name, PathSegment, ServerError, Value};

use super::selection::{Plan, PlannedField};
use crate::graphql::TYPE_KEY;

/// The data of the response.
pub(super) fn complete(plan: &Plan<'_>, data: Value, errors: &[ServerError]) -> Value {
    let failures = Failures::of(errors);
    match (plan, data) {
        // async-graphql returns null if no field is left.
        (Plan::Object(fields), Value::Null) => object(fields, IndexMap::new(), failures.any()).unwrap_or_default(),
        (plan, data) => named(plan, data, failures.any()),
    }
}

/// The places of errors below a value.
#[derive(Default)]
struct Failures<'e> {
    fields: HashMap<&'e str, Self>,
    elements: HashMap<usize, Self>,
}

impl<'e> Failures<'e> {
    fn of(errors: &'e [ServerError]) -> Self {
        let mut all = Self::default();
        for error in errors {
            let mut at = &mut all;
            for segment in &error.path {
                at = match segment {
                    PathSegment::Field(name) => at.fields.entry(name).or_default(),
                    PathSegment::Index(place) => at.elements.entry(*place).or_default(),
                };
            }
        }
        all
    }

    /// None if nothing failed below the value.
    fn any(&self) -> Option<&Self> {
        (!self.fields.is_empty() || !self.elements.is_empty()).then_some(self)
    }

    fn field(&self, name: &str) -> Option<&Self> {
        self.fields.get(name).and_then(Self::any)
    }

    fn element(&self, place: usize) -> Option<&Self> {
        self.elements.get(&place).and_then(Self::any)
    }
}

/// A null value of a non-null type.
struct NullViolation;

/// Completes a value of a type.
fn value(ty: &Type, plan: &Plan<'_>, value: Value, failures: Option<&Failures<'_>>) -> Result<Value, NullViolation> {
    let value = match (&ty.base, value) {
        (BaseType::List(of), Value::List(items)) => list(of, plan, items, failures).unwrap_or_default(),
        (BaseType::List(_), other) => other,
        (BaseType::Named(_), other) => named(plan, other, failures),
    };
    match value {
        Value::Null if !ty.nullable => Err(NullViolation),
        value => Ok(value),
    }
}

fn list(of: &Type, plan: &Plan<'_>, items: Vec<Value>, failures: Option<&Failures<'_>>) -> Option<Value> {
    if *plan == Plan::Leaf && of.nullable {
        return Some(Value::List(items));
    }
    let items = items.into_iter().enumerate().map(|(place, item)| {
        let failures = failures.and_then(|failures| failures.element(place));
        value(of, plan, item, failures).ok()
    });
    items.collect::<Option<_>>().map(Value::List)
}

/// Completes a value of a named type; null if it is an object with a null in a non-null field.
fn named(plan: &Plan<'_>, value: Value, failures: Option<&Failures<'_>>) -> Value {
    let fields = match plan {
        // Binary values are complete JSON.
        Plan::Leaf => return value,
        Plan::Object(fields) => fields.as_slice(),
        Plan::Abstract(possible) => match &value {
            Value::Object(found) => {
                let of = possible
                    .iter()
                    .find(|(name, _)| found.get(TYPE_KEY) == Some(&Value::String(name.to_string())));
                of.map_or(&[][..], |(_, fields)| fields)
            }
            _ => return value,
        },
    };
    match value {
        Value::Object(found) => object(fields, found, failures).unwrap_or_default(),
        // Fields of it failed: it is an object of which no field was left.
        Value::Null if failures.is_some() => object(fields, IndexMap::new(), failures).unwrap_or_default(),
        // A list of introspection, whose types are not known here.
        Value::List(items) => Value::List(items.into_iter().map(|item| named(plan, item, None)).collect()),
        value => value,
    }
}

/// Completes an object; none if a non-null field is null.
fn object(
    fields: &[PlannedField<'_>],
    mut found: IndexMap<Name, Value>,
    failures: Option<&Failures<'_>>,
) -> Option<Value> {
    if found.keys().eq(fields.iter().map(|field| &field.key)) {
        for (field, value) in fields.iter().zip(found.values_mut()) {
            *value = complete_field(field, Some(std::mem::take(value)), failures).ok()?;
        }
        return Some(Value::Object(found));
    }
    let mut object = IndexMap::with_capacity(fields.len());
    for field in fields {
        let value = complete_field(field, found.swap_remove(&field.key), failures).ok()?;
        object.insert(field.key.clone(), value);
    }
    Some(Value::Object(object))
}

/// Completes the value of a field; a missing one has failed.
fn complete_field(
    field: &PlannedField<'_>,
    found: Option<Value>,
    failures: Option<&Failures<'_>>,
) -> Result<Value, NullViolation> {
    if let Some(text) = field.replacement {
        return Ok(Value::from(text));
    }
    let (found, failures) = match found {
        Some(found) => (found, failures.and_then(|failures| failures.field(&field.key))),
        None => (Value::Null, None),
    };
    match field.ty {
        Some(ty) => value(ty, &field.below, found, failures),
        None => Ok(named(&field.below, found, failures)),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::hash_map::DefaultHasher;
    use std::hash::{Hash as _, Hasher as _};

    use async_graphql::parser::types::{DocumentOperations, ExecutableDocument, Field, Selection, SelectionSet};
    use async_graphql::{Context, EmptyMutation, EmptySubscription, Interface, Object, Request, Schema, Variables};
    use proptest::prelude::*;

    use super::super::selection;
    use super::super::types::Types;
    use super::*;

    /// The outcome of the value at a path: it fails, is null if nullable, or present.
    #[derive(Clone, Copy, PartialEq)]
    enum Fate {
        Fails,
        Null,
        There(u64),
    }

    fn fate(seed: u64, path: &str) -> Fate {
        let mut hasher = DefaultHasher::new();
        (seed, path).hash(&mut hasher);
        let number = hasher.finish();
        match number % 16 {
            0 | 1 => Fate::Fails,
            2 => Fate::Null,
            _ => Fate::There(number / 16 % 3),
        }
    }

    fn fate_of_field(ctx: &Context<'_>) -> async_graphql::Result<(u64, String, Fate)> {
        let seed = *ctx.data::<u64>()?;
        let path = ctx
            .path_node
            .map_or_else(Vec::new, |path| path.to_string_vec())
            .join(".");
        match fate(seed, &path) {
            Fate::Fails => Err("failed".into()),
            fate => Ok((seed, path, fate)),
        }
    }

    fn some<T>(ctx: &Context<'_>, make: impl Fn(u64) -> T) -> async_graphql::Result<Option<T>> {
        let (_, _, fate) = fate_of_field(ctx)?;
        Ok(match fate {
            Fate::There(number) => Some(make(number)),
            _ => None,
        })
    }

    fn one<T>(ctx: &Context<'_>, make: impl Fn(u64) -> T) -> async_graphql::Result<T> {
        let (_, _, fate) = fate_of_field(ctx)?;
        Ok(make(match fate {
            Fate::There(number) => number,
            _ => 0,
        }))
    }

    /// Elements that may be null.
    fn many<T>(ctx: &Context<'_>, make: impl Fn(u64) -> T) -> async_graphql::Result<Vec<Option<T>>> {
        let (seed, path, fate_of_list) = fate_of_field(ctx)?;
        let length = match fate_of_list {
            Fate::There(number) => number,
            _ => 0,
        };
        let element = |place| match fate(seed, &format!("{path}.{place}")) {
            Fate::There(number) => Some(make(number)),
            _ => None,
        };
        Ok((0..length).map(element).collect())
    }

    struct O;
    struct A;
    struct B;

    #[derive(Interface)]
    #[graphql(field(name = "x", ty = "Option<u64>"))]
    enum I {
        A(A),
        B(B),
    }

    fn either(number: u64) -> I {
        if number == 0 { I::A(A) } else { I::B(B) }
    }

    #[Object]
    impl O {
        async fn x(&self, ctx: &Context<'_>) -> async_graphql::Result<Option<u64>> {
            some(ctx, |number| number)
        }
        async fn y(&self, ctx: &Context<'_>) -> async_graphql::Result<u64> {
            one(ctx, |number| number)
        }
        async fn xs(&self, ctx: &Context<'_>) -> async_graphql::Result<Vec<Option<u64>>> {
            many(ctx, |number| number)
        }
        async fn ys(&self, ctx: &Context<'_>) -> async_graphql::Result<Option<Vec<u64>>> {
            some(ctx, |number| (0..number).collect())
        }
        async fn o(&self, ctx: &Context<'_>) -> async_graphql::Result<Option<O>> {
            some(ctx, |_| O)
        }
        async fn p(&self, ctx: &Context<'_>) -> async_graphql::Result<O> {
            one(ctx, |_| O)
        }
        async fn os(&self, ctx: &Context<'_>) -> async_graphql::Result<Vec<Option<O>>> {
            many(ctx, |_| O)
        }
        async fn ps(&self, ctx: &Context<'_>) -> async_graphql::Result<Option<Vec<O>>> {
            some(ctx, |number| (0..number).map(|_| O).collect())
        }
        async fn i(&self, ctx: &Context<'_>) -> async_graphql::Result<Option<I>> {
            some(ctx, either)
        }
        async fn j(&self, ctx: &Context<'_>) -> async_graphql::Result<I> {
            one(ctx, either)
        }
        async fn is(&self, ctx: &Context<'_>) -> async_graphql::Result<Vec<Option<I>>> {
            many(ctx, either)
        }
    }

    #[Object]
    impl A {
        async fn x(&self, ctx: &Context<'_>) -> async_graphql::Result<Option<u64>> {
            some(ctx, |number| number)
        }
        async fn y(&self, ctx: &Context<'_>) -> async_graphql::Result<u64> {
            one(ctx, |number| number)
        }
        async fn p(&self, ctx: &Context<'_>) -> async_graphql::Result<O> {
            one(ctx, |_| O)
        }
    }

    #[Object]
    impl B {
        async fn x(&self, ctx: &Context<'_>) -> async_graphql::Result<Option<u64>> {
            some(ctx, |number| number)
        }
        async fn o(&self, ctx: &Context<'_>) -> async_graphql::Result<Option<O>> {
            some(ctx, |_| O)
        }
    }

    const FIELDS: &[(&str, &[(&str, &str)])] = &[
        (
            "O",
            &[
                ("x", "Int"),
                ("y", "Int!"),
                ("xs", "[Int]!"),
                ("ys", "[Int!]"),
                ("o", "O"),
                ("p", "O!"),
                ("os", "[O]!"),
                ("ps", "[O!]"),
                ("i", "I"),
                ("j", "I!"),
                ("is", "[I]!"),
            ],
        ),
        ("A", &[("x", "Int"), ("y", "Int!"), ("p", "O!")]),
        ("B", &[("x", "Int"), ("o", "O")]),
        ("I", &[("x", "Int")]),
    ];

    fn fields_of(object: &str) -> &'static [(&'static str, &'static str)] {
        FIELDS.iter().find(|(name, _)| *name == object).unwrap().1
    }

    /// Random selections, as text.
    struct Draw(u64);

    impl Draw {
        fn below(&mut self, most: usize) -> usize {
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(self.0 >> 33).unwrap() % most
        }

        fn selection(&mut self, object: &str, depth: usize) -> String {
            let items = (0..1 + self.below(4)).map(|_| self.item(object, depth));
            format!("{{ {} }}", items.collect::<Vec<_>>().join(" "))
        }

        fn item(&mut self, object: &str, depth: usize) -> String {
            let directive = ["", "", "", "", "@skip(if: true) ", "@include(if: true) "][self.below(6)];
            match self.below(8) {
                0 => return format!("__typename {directive}"),
                1 if object == "I" => {
                    let on = ["A", "B", "I"][self.below(3)];
                    return format!("... on {on} {directive}{}", self.selection(on, depth));
                }
                1 => return format!("... on {object} {directive}{}", self.selection(object, depth)),
                2 if object == "O" => return format!("...F {directive}"),
                _ => {}
            }
            let fields = fields_of(object);
            let (name, ty) = fields[self.below(fields.len())];
            let of = ty.trim_matches(['[', ']', '!']);
            if of == "Int" {
                return format!("{name} {directive}");
            }
            if depth == 0 {
                return "__typename".to_owned();
            }
            format!("{name} {directive}{}", self.selection(of, depth - 1))
        }
    }

    /// The specification's execution, word for word.
    struct Reference<'d> {
        document: &'d ExecutableDocument,
        seed: u64,
    }

    impl<'d> Reference<'d> {
        fn collect(&self, object: &str, set: &'d SelectionSet, into: &mut Vec<(&'d str, Vec<&'d Field>)>) {
            for item in &set.items {
                let out = item
                    .node
                    .directives()
                    .iter()
                    .any(|directive| directive.node.name.node == "skip");
                match &item.node {
                    _ if out => {}
                    Selection::Field(field) => {
                        let key = field.node.response_key().node.as_str();
                        match into.iter_mut().find(|(known, _)| *known == key) {
                            Some((_, fields)) => fields.push(&field.node),
                            None => into.push((key, vec![&field.node])),
                        }
                    }
                    Selection::InlineFragment(fragment) => {
                        let on = fragment.node.type_condition.as_ref().unwrap().node.on.node.as_str();
                        if on == object || on == "I" {
                            self.collect(object, &fragment.node.selection_set.node, into);
                        }
                    }
                    Selection::FragmentSpread(spread) => {
                        let fragment = &self.document.fragments[&spread.node.fragment_name.node].node;
                        self.collect(object, &fragment.selection_set.node, into);
                    }
                }
            }
        }

        fn object(&self, object: &str, sets: &[&'d SelectionSet], path: &str) -> Option<Value> {
            let mut collected = Vec::new();
            sets.iter().for_each(|set| self.collect(object, set, &mut collected));
            let mut done = IndexMap::new();
            for (key, fields) in collected {
                let at = if path.is_empty() {
                    key.to_owned()
                } else {
                    format!("{path}.{key}")
                };
                let name = fields[0].name.node.as_str();
                let value = if name == "__typename" {
                    Value::from(object)
                } else {
                    let sets: Vec<&SelectionSet> = fields.iter().map(|field| &field.selection_set.node).collect();
                    let (_, ty) = fields_of(object).iter().find(|(field, _)| *field == name).unwrap();
                    let there = match fate(self.seed, &at) {
                        Fate::Fails => None,
                        Fate::Null if !ty.ends_with('!') => None,
                        Fate::Null => Some(0),
                        Fate::There(number) => Some(number),
                    };
                    let value = there.and_then(|number| self.value(ty.trim_end_matches('!'), number, &sets, &at));
                    match value {
                        None if ty.ends_with('!') => return None,
                        value => value.unwrap_or_default(),
                    }
                };
                done.insert(Name::new(key), value);
            }
            Some(Value::Object(done))
        }

        fn value(&self, ty: &str, number: u64, sets: &[&'d SelectionSet], path: &str) -> Option<Value> {
            if let Some(element) = ty.strip_prefix('[').and_then(|ty| ty.strip_suffix(']')) {
                let elements = (0..number).map(|place| {
                    let at = format!("{path}.{place}");
                    match element.strip_suffix('!') {
                        Some(element) => self.value(element, place, sets, &at),
                        None => Some(match fate(self.seed, &at) {
                            Fate::There(number) => self.value(element, number, sets, &at).unwrap_or_default(),
                            _ => Value::Null,
                        }),
                    }
                });
                return elements.collect::<Option<_>>().map(Value::List);
            }
            match ty {
                "Int" => Some(number.into()),
                "I" => self.object(if number == 0 { "A" } else { "B" }, sets, path),
                object => self.object(object, sets, path),
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]
        #[test]
        fn data_is_what_the_specification_says(seed: u64) {
            let mut draw = Draw(seed);
            let text = draw.selection("O", 4) + " fragment F on O { y os { x } __typename j { x ... on A { y } } }";
            let schema = Schema::new(O, EmptyMutation, EmptySubscription);
            let types = Types::of(&schema.sdl()).unwrap();
            let document = async_graphql::parser::parse_query(&text).map_err(|error| TestCaseError::fail(format!("{text}: {error}")))?;
            let (_, operation) = document.operations.iter().next().unwrap();
            let (plan, selected) = selection::plan(&types, &document, operation, &Variables::default());
            let mut request = Request::new("").data(seed);
            request.set_parsed_query(ExecutableDocument {
                operations: DocumentOperations::Single(selected),
                fragments: HashMap::new(),
            });
            let response = futures_util::FutureExt::now_or_never(schema.execute(request)).unwrap();
            let data = complete(&plan, response.data, &response.errors);
            let reference = Reference { document: &document, seed };
            let wanted = reference.object("O", &[&operation.node.selection_set.node], "");
            prop_assert_eq!(data.to_string(), wanted.unwrap_or_default().to_string(), "{}", text);
        }
    }
}
