//! Checks a response against the GraphQL specification: every selected field and no other, values of their types, and null
//! only where the schema allows it. Written from the specification, independently of the server.

use std::collections::{BTreeMap, HashMap};
use std::sync::OnceLock;

use async_graphql::parser::types::{
    BaseType, ExecutableDocument, Field, OperationType, Selection, SelectionSet, Type, TypeKind, TypeSystemDefinition,
};
use serde_json::Value;

use crate::Checked;

/// Checks the response to an operation; the error says what is wrong.
pub fn check(query: &str, operation: Option<&str>, variables: &Value, response: &Value) -> Checked {
    let errors = response["errors"].as_array().map_or(&[][..], Vec::as_slice);
    let Some(data) = response.get("data") else {
        return if errors.is_empty() {
            Err("neither data nor errors".to_owned())
        } else {
            Ok(())
        };
    };
    let document = async_graphql::parser::parse_query(query).map_err(|error| format!("executed, but {error}"))?;
    let mut operations = document.operations.iter();
    let (_, operation) = operations
        .find(|(name, _)| operation.is_none() || name.map(|name| name.as_str()) == operation)
        .ok_or("executed, but the operation does not exist")?;
    let defaults = operation.node.variable_definitions.iter().filter_map(|variable| {
        let default = variable.node.default_value.as_ref()?.node.clone().into_json().ok()?;
        Some((variable.node.name.node.to_string(), default))
    });
    let mut values: HashMap<String, Value> = defaults.collect();
    values.extend(
        variables
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, value)| (name.clone(), value.clone())),
    );
    let root = match operation.node.ty {
        OperationType::Query => "Query",
        OperationType::Mutation => "Mutation",
        OperationType::Subscription => "Subscription",
    };
    // The error that says how many others were omitted has no path.
    for error in errors
        .iter()
        .filter(|error| error["extensions"].get("leftOut").is_none())
    {
        leads_to_null(data, error["path"].as_array().map_or(&[][..], Vec::as_slice))
            .map_err(|why| format!("{why}: {error}"))?;
    }
    if data.is_null() {
        return if errors.is_empty() {
            Err("data is null without an error".to_owned())
        } else {
            Ok(())
        };
    }
    let checker = Checker {
        document: &document,
        variables: values,
    };
    checker.object(root, &[&operation.node.selection_set.node], data)
}

/// Checks that the value at an error's path, or one of its parents, is null.
fn leads_to_null(mut at: &Value, path: &[Value]) -> Checked {
    for segment in path {
        if at.is_null() {
            return Ok(());
        }
        let below = match segment {
            Value::String(name) => at.get(name.as_str()),
            place => at.get(usize::try_from(place.as_u64().unwrap_or(u64::MAX)).unwrap_or(usize::MAX)),
        };
        at = below.ok_or_else(|| format!("{segment} of an error's path does not exist"))?;
    }
    if at.is_null() {
        Ok(())
    } else {
        Err("an error whose path has a value".to_owned())
    }
}

struct SchemaTypes {
    objects: HashMap<String, HashMap<String, Type>>,
    interfaces: HashMap<String, Vec<String>>,
    enums: HashMap<String, Vec<String>>,
}

fn schema() -> &'static SchemaTypes {
    static SCHEMA: OnceLock<SchemaTypes> = OnceLock::new();
    SCHEMA.get_or_init(|| {
        let mut schema = SchemaTypes {
            objects: HashMap::new(),
            interfaces: HashMap::new(),
            enums: HashMap::new(),
        };
        let document = async_graphql::parser::parse_schema(include_str!("../../schema.graphql")).unwrap();
        for definition in document.definitions {
            let TypeSystemDefinition::Type(definition) = definition else {
                continue;
            };
            let name = definition.node.name.node.to_string();
            match definition.node.kind {
                TypeKind::Object(object) => {
                    for interface in object.implements {
                        schema
                            .interfaces
                            .entry(interface.node.to_string())
                            .or_default()
                            .push(name.clone());
                    }
                    let fields = object.fields.into_iter().map(|field| field.node);
                    let fields = fields.map(|field| (field.name.node.to_string(), field.ty.node));
                    schema.objects.insert(name, fields.collect());
                }
                TypeKind::Enum(of) => {
                    let values = of.values.into_iter().map(|value| value.node.value.node.to_string());
                    schema.enums.insert(name, values.collect());
                }
                _ => {}
            }
        }
        schema
    })
}

struct Checker<'a> {
    document: &'a ExecutableDocument,
    variables: HashMap<String, Value>,
}

impl<'a> Checker<'a> {
    fn object(&self, object: &str, sets: &[&'a SelectionSet], value: &Value) -> Checked {
        let mut fields = BTreeMap::new();
        for set in sets {
            self.collect(object, set, &mut fields);
        }
        let value = value
            .as_object()
            .ok_or_else(|| format!("{object}: not an object: {value}"))?;
        if !value.keys().map(String::as_str).eq(fields.keys().copied()) {
            let selected: Vec<_> = fields.keys().collect();
            return Err(format!(
                "{object}: {:?} where {selected:?} are selected",
                value.keys().collect::<Vec<_>>()
            ));
        }
        for (key, fields) in fields {
            let name = fields[0].name.node.as_str();
            let at = |why: String| format!("{object}.{key}: {why}");
            match name {
                "__typename" if value[key] == object => {}
                "__typename" => return Err(at(value[key].to_string())),
                // Introspection types are not in the SDL.
                "__schema" | "__type" => {}
                name => {
                    let ty = schema().objects[object]
                        .get(name)
                        .ok_or_else(|| at("no such field".to_owned()))?;
                    let below: Vec<_> = fields.iter().map(|field| &field.selection_set.node).collect();
                    self.value(ty, &below, &value[key]).map_err(at)?;
                }
            }
        }
        Ok(())
    }

    fn collect(&self, object: &str, set: &'a SelectionSet, into: &mut BTreeMap<&'a str, Vec<&'a Field>>) {
        let applies = |on: &str| {
            on == object
                || schema()
                    .interfaces
                    .get(on)
                    .is_some_and(|possible| possible.iter().any(|name| name == object))
        };
        for item in &set.items {
            let skipped = item.node.directives().iter().any(|directive| {
                let condition = directive.node.get_argument("if").unwrap().node.clone();
                let condition = condition.into_const_with(|name| {
                    let values = self.variables.get(name.as_str()).cloned().unwrap_or_default();
                    async_graphql::Value::from_json(values)
                });
                condition.unwrap() == async_graphql::Value::Boolean(directive.node.name.node == "skip")
            });
            match &item.node {
                _ if skipped => {}
                Selection::Field(field) => {
                    into.entry(field.node.response_key().node.as_str())
                        .or_default()
                        .push(&field.node);
                }
                Selection::InlineFragment(fragment) => {
                    let on = fragment.node.type_condition.as_ref();
                    if on.is_none_or(|on| applies(&on.node.on.node)) {
                        self.collect(object, &fragment.node.selection_set.node, into);
                    }
                }
                Selection::FragmentSpread(spread) => {
                    let fragment = &self.document.fragments[&spread.node.fragment_name.node].node;
                    if applies(&fragment.type_condition.node.on.node) {
                        self.collect(object, &fragment.selection_set.node, into);
                    }
                }
            }
        }
    }

    fn value(&self, ty: &Type, below: &[&'a SelectionSet], value: &Value) -> Checked {
        match (&ty.base, value) {
            (_, Value::Null) if ty.nullable => Ok(()),
            (_, Value::Null) => Err(format!("null for {ty}")),
            (BaseType::List(of), Value::Array(items)) => items.iter().try_for_each(|item| self.value(of, below, item)),
            (BaseType::List(_), value) => Err(format!("not a list: {value}")),
            (BaseType::Named(name), value) => self.named(name, below, value),
        }
    }

    fn named(&self, name: &str, below: &[&'a SelectionSet], value: &Value) -> Checked {
        let schema = schema();
        if schema.objects.contains_key(name) {
            return self.object(name, below, value);
        }
        if let Some(possible) = schema.interfaces.get(name) {
            // A response need not say which of them it is.
            let tried: Vec<_> = possible
                .iter()
                .map(|object| self.object(object, below, value))
                .collect();
            return match tried.iter().any(Result::is_ok) {
                true => Ok(()),
                false => Err(format!("no type of {name} fits: {tried:?}")),
            };
        }
        let fits = match (name, schema.enums.get(name)) {
            (_, Some(values)) => value
                .as_str()
                .is_some_and(|value| values.iter().any(|known| known == value)),
            ("Int", _) => value.is_i64() || value.is_u64(),
            ("Float", _) => value.is_number(),
            ("Boolean", _) => value.is_boolean(),
            _ => value.is_string(),
        };
        if fits {
            Ok(())
        } else {
            Err(format!("not a value of {name}: {value}"))
        }
    }
}
