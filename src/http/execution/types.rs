//! The types of the schema, by name.

use std::collections::HashMap;

use async_graphql::Name;
use async_graphql::parser::types::{BaseType, OperationType, Type, TypeKind, TypeSystemDefinition};

use crate::error::Error;

/// The composite types of the schema, without those of introspection.
#[derive(Default)]
pub(in crate::http) struct Types {
    query: Option<Name>,
    mutation: Option<Name>,
    subscription: Option<Name>,
    /// Object types with the types of their fields.
    objects: HashMap<Name, HashMap<Name, Type>>,
    /// Interfaces and unions with the object types that they may be.
    possible: HashMap<Name, Vec<Name>>,
}

impl Types {
    /// Reads the schema from its SDL.
    pub(super) fn of(sdl: &str) -> Result<Self, Error> {
        let document = async_graphql::parser::parse_schema(sdl)
            .map_err(|error| Error::Internal(format!("cannot read the schema: {error}")))?;
        let mut types = Self::default();
        for definition in document.definitions {
            let definition = match definition {
                TypeSystemDefinition::Type(definition) => definition,
                TypeSystemDefinition::Schema(schema) => {
                    types.query = schema.node.query.map(|name| name.node);
                    types.mutation = schema.node.mutation.map(|name| name.node);
                    types.subscription = schema.node.subscription.map(|name| name.node);
                    continue;
                }
                TypeSystemDefinition::Directive(_) => continue,
            };
            let name = definition.node.name.node;
            match definition.node.kind {
                TypeKind::Object(object) => {
                    for interface in object.implements {
                        types.possible.entry(interface.node).or_default().push(name.clone());
                    }
                    let fields = object.fields.into_iter().map(|field| field.node);
                    let fields = fields.map(|field| (field.name.node, field.ty.node));
                    types.objects.insert(name, fields.collect());
                }
                TypeKind::Union(union) => {
                    let members = union.members.into_iter().map(|member| member.node);
                    types.possible.entry(name).or_default().extend(members);
                }
                _ => {}
            }
        }
        Ok(types)
    }

    /// The root type of operations of this kind; empty if there is none.
    pub(super) fn root(&self, kind: OperationType) -> &str {
        let root = match kind {
            OperationType::Query => &self.query,
            OperationType::Mutation => &self.mutation,
            OperationType::Subscription => &self.subscription,
        };
        root.as_deref().unwrap_or_default()
    }

    /// The root fields of operations of this kind.
    pub(in crate::http) fn root_fields(&self, kind: OperationType) -> impl Iterator<Item = &str> {
        let fields = self.objects.get(self.root(kind)).into_iter().flatten();
        fields.map(|(name, _)| name.as_str())
    }

    /// The type of a field; none for `__typename`, fields of introspection, and unknown fields.
    pub(super) fn field(&self, object: &str, field: &str) -> Option<&Type> {
        self.objects.get(object)?.get(field)
    }

    /// The possible object types of an interface or union; none for other types.
    pub(super) fn possible(&self, name: &str) -> Option<&[Name]> {
        self.possible.get(name).map(Vec::as_slice)
    }

    /// Whether a fragment on a type applies to an object. If the object's type is unknown, it is one of introspection, and every fragment
    /// applies: the document is valid.
    pub(super) fn applies(&self, condition: &str, object: &str) -> bool {
        condition == object
            || match self.possible.get(condition) {
                Some(possible) => possible.iter().any(|name| name == object),
                None => !self.objects.contains_key(object),
            }
    }
}

/// The named type of a list's innermost elements, or the type itself.
pub(super) fn named(ty: &Type) -> &Name {
    match &ty.base {
        BaseType::Named(name) => name,
        BaseType::List(element) => named(element),
    }
}
