//! Plans what an operation selects, by CollectFields (6.3.2): evaluates @skip and @include, spreads fragments, and merges fields with the
//! same response key.

use async_graphql::indexmap::IndexMap;
use async_graphql::parser::types::{
    Directive, ExecutableDocument, Field, InlineFragment, OperationDefinition, Selection, SelectionSet, Type,
    TypeCondition,
};
use async_graphql::{Name, Pos, Positioned, Variables};
use async_graphql_value::{ConstValue, Value};

use super::types::{Types, named};
use crate::graphql::{SCHEMA_DESCRIPTION, TYPE_KEY};

/// The selection of a value.
#[derive(Debug, Default, PartialEq)]
pub(super) enum Plan<'a> {
    /// A value without fields.
    #[default]
    Leaf,
    Object(Vec<PlannedField<'a>>),
    /// An interface or union: the selection of each possible object type.
    Abstract(Vec<(&'a Name, Vec<PlannedField<'a>>)>),
}

#[derive(Debug, PartialEq)]
pub(super) struct PlannedField<'a> {
    pub(super) key: Name,
    /// None for `__typename` and fields of introspection, which do not fail.
    pub(super) ty: Option<&'a Type>,
    pub(super) below: Plan<'a>,
    /// Replaces the value that async-graphql returns.
    pub(super) replacement: Option<&'static str>,
}

/// The plan of an operation, and an equivalent operation without directives, fragments and repeated fields.
pub(super) fn plan<'a>(
    types: &'a Types,
    document: &ExecutableDocument,
    operation: &Positioned<OperationDefinition>,
    variables: &Variables,
) -> (Plan<'a>, Positioned<OperationDefinition>) {
    let planner = Planner {
        types,
        document,
        operation: &operation.node,
        variables,
    };
    let (fields, items) = planner.object(types.root(operation.node.ty), &[&operation.node.selection_set.node]);
    let selected = OperationDefinition {
        ty: operation.node.ty,
        variable_definitions: operation.node.variable_definitions.clone(),
        directives: Vec::new(),
        selection_set: Positioned::new(SelectionSet { items }, operation.node.selection_set.pos),
    };
    (Plan::Object(fields), Positioned::new(selected, operation.pos))
}

struct Planner<'a, 'd> {
    types: &'a Types,
    document: &'d ExecutableDocument,
    operation: &'d OperationDefinition,
    variables: &'d Variables,
}

/// By response key: the first field with that key, and the selections of all of them.
type Collected<'d> = IndexMap<&'d Name, (&'d Positioned<Field>, Vec<&'d SelectionSet>)>;

impl<'a, 'd> Planner<'a, 'd> {
    /// Merges selections of an object of this type.
    fn object(&self, object: &str, sets: &[&'d SelectionSet]) -> (Vec<PlannedField<'a>>, Vec<Positioned<Selection>>) {
        let mut collected = Collected::new();
        let mut spread = Vec::new();
        for set in sets {
            self.collect(object, set, &mut spread, &mut collected);
        }
        let fields = collected.into_iter();
        fields
            .map(|(key, (field, below))| self.field(object, key, field, &below))
            .unzip()
    }

    fn collect(&self, object: &str, set: &'d SelectionSet, spread: &mut Vec<&'d Name>, collected: &mut Collected<'d>) {
        for item in &set.items {
            if item
                .node
                .directives()
                .iter()
                .any(|directive| self.excludes(&directive.node))
            {
                continue;
            }
            match &item.node {
                Selection::Field(field) => {
                    let key = &field.node.response_key().node;
                    let (_, below) = collected.entry(key).or_insert_with(|| (field, Vec::new()));
                    below.push(&field.node.selection_set.node);
                }
                Selection::InlineFragment(fragment) => {
                    let condition = fragment.node.type_condition.as_ref();
                    if condition.is_none_or(|on| self.types.applies(&on.node.on.node, object)) {
                        self.collect(object, &fragment.node.selection_set.node, spread, collected);
                    }
                }
                Selection::FragmentSpread(fragment) => {
                    let name = &fragment.node.fragment_name.node;
                    let Some(fragment) = self.document.fragments.get(name) else {
                        continue;
                    };
                    if !spread.contains(&name) && self.types.applies(&fragment.node.type_condition.node.on.node, object)
                    {
                        spread.push(name);
                        self.collect(object, &fragment.node.selection_set.node, spread, collected);
                    }
                }
            }
        }
    }

    fn field(
        &self,
        object: &str,
        key: &Name,
        field: &Positioned<Field>,
        below: &[&'d SelectionSet],
    ) -> (PlannedField<'a>, Positioned<Selection>) {
        let ty = self.types.field(object, &field.node.name.node);
        let pos = field.node.selection_set.pos;
        let (plan, items) = if below.iter().all(|set| set.items.is_empty()) {
            (Plan::Leaf, Vec::new())
        } else {
            // Unknown types are the object types of introspection.
            let name = match field.node.name.node.as_str() {
                "__schema" => "__Schema",
                _ => ty.map_or("", |ty| named(ty)),
            };
            match self.types.possible(name) {
                Some(possible) => self.possible_types(possible, below, pos),
                None => {
                    let (fields, mut items) = self.object(name, below);
                    if items.is_empty() {
                        items.push(type_name(pos));
                    }
                    (Plan::Object(fields), items)
                }
            }
        };
        let planned_field = Field {
            alias: field.node.alias.clone(),
            name: field.node.name.clone(),
            arguments: field.node.arguments.clone(),
            directives: Vec::new(),
            selection_set: Positioned::new(SelectionSet { items }, pos),
        };
        let planned = PlannedField {
            key: key.clone(),
            ty,
            below: plan,
            replacement: (object == "__Schema" && field.node.name.node == "description").then_some(SCHEMA_DESCRIPTION),
        };
        (
            planned,
            Positioned::new(Selection::Field(Positioned::new(planned_field, field.pos)), field.pos),
        )
    }

    /// The selection of each of the possible types.
    fn possible_types(
        &self,
        possible: &'a [Name],
        below: &[&'d SelectionSet],
        pos: Pos,
    ) -> (Plan<'a>, Vec<Positioned<Selection>>) {
        let mut items = vec![type_name(pos)];
        let mut plans = Vec::new();
        for object in possible {
            let (fields, selected) = self.object(object, below);
            if fields.is_empty() {
                continue;
            }
            plans.push((object, fields));
            let fragment = InlineFragment {
                type_condition: Some(Positioned::new(
                    TypeCondition {
                        on: Positioned::new(object.clone(), pos),
                    },
                    pos,
                )),
                directives: Vec::new(),
                selection_set: Positioned::new(SelectionSet { items: selected }, pos),
            };
            items.push(Positioned::new(
                Selection::InlineFragment(Positioned::new(fragment, pos)),
                pos,
            ));
        }
        (Plan::Abstract(plans), items)
    }

    /// Whether the directive is a @skip or @include that excludes its selection.
    fn excludes(&self, directive: &Directive) -> bool {
        let condition = || match &directive.get_argument("if")?.node {
            Value::Boolean(written) => Some(*written),
            Value::Variable(name) => match self.variables.get(name) {
                Some(ConstValue::Boolean(given)) => Some(*given),
                Some(_) => None,
                None => {
                    let mut definitions = self.operation.variable_definitions.iter();
                    match definitions
                        .find(|variable| variable.node.name.node == *name)?
                        .node
                        .default_value()?
                    {
                        ConstValue::Boolean(default) => Some(*default),
                        _ => None,
                    }
                }
            },
            _ => None,
        };
        match directive.name.node.as_str() {
            "skip" => condition() == Some(true),
            "include" => condition() == Some(false),
            _ => false,
        }
    }
}

/// `__typename` under [`TYPE_KEY`].
fn type_name(pos: Pos) -> Positioned<Selection> {
    let field = Field {
        alias: Some(Positioned::new(Name::new(TYPE_KEY), pos)),
        name: Positioned::new(Name::new("__typename"), pos),
        arguments: Vec::new(),
        directives: Vec::new(),
        selection_set: Positioned::new(SelectionSet { items: Vec::new() }, pos),
    };
    Positioned::new(Selection::Field(Positioned::new(field, pos)), pos)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SDL: &str = "schema { query: Query } interface I { id: ID! } type A implements I { id: ID! a: Q b(n: Int): [Q!]! }
        type B implements I { id: ID! b(n: Int): [Q!]! } type Query { q: Q i: I is: [I]! } type Q { x: Int y: Int q: Q i: I }";

    fn text(fields: &[PlannedField<'_>]) -> String {
        let texts = fields.iter().map(|field| match &field.below {
            Plan::Leaf => field.key.to_string(),
            Plan::Object(below) => format!("{} {{{}}}", field.key, text(below)),
            Plan::Abstract(possible) => {
                let possible = possible
                    .iter()
                    .map(|(name, below)| format!("{name} {{{}}}", text(below)));
                format!("{} {{{}}}", field.key, possible.collect::<Vec<_>>().join(" "))
            }
        });
        texts.collect::<Vec<_>>().join(" ")
    }

    /// The keys that are selected, as text.
    fn planned(query: &str, variables: serde_json::Value) -> String {
        let types = Types::of(SDL).unwrap();
        let document = async_graphql::parser::parse_query(query).unwrap();
        let (_, operation) = document.operations.iter().next().unwrap();
        let (plan, _) = plan(&types, &document, operation, &Variables::from_json(variables));
        match plan {
            Plan::Object(below) => text(&below),
            _ => String::new(),
        }
    }

    #[test]
    fn fields_are_merged_in_the_order_of_the_selection() {
        for (query, wanted) in [
            (
                "{ q { x } z: q { y } q { y x q { x } } ...F }  fragment F on Query { q { q { y } } }",
                "q {x y q {x y}} z {y}",
            ),
            (
                "{ q { ...F ... on Q { y } ...F } } fragment F on Q { x q { ...G } } fragment G on Q { x }",
                "q {x q {x} y}",
            ),
            (
                "{ i { ... on A { a { x } } id ... on I { ... on A { a { y } b { x } } } ... on B { n: id } } }",
                "i {A {a {x y} id b {x}} B {id n}}",
            ),
            ("{ i { ... on B { id } } }", "i {B {id}}"),
            (
                "{ __schema { types { name } types { kind ...F } } } fragment F on __Type { name fields { name } }",
                "__schema {types {name kind fields {name}}}",
            ),
        ] {
            assert_eq!(planned(query, serde_json::json!({})), wanted, "{query}");
        }
    }

    #[test]
    fn skip_and_include_count_with_variables_and_their_defaults() {
        let query = "query ($yes: Boolean! = true, $no: Boolean = false) {
            a: q { x @skip(if: true) y @include(if: $yes) } b: q { x @include(if: $no) y @skip(if: $no) @include(if: false) }
            ... @skip(if: $yes) { c: q { x } } ...F @include(if: $yes) ...G @skip(if: $no)
        } fragment F on Query { d: q { x } } fragment G on Query { e: q { x } }";
        assert_eq!(planned(query, serde_json::json!({})), "a {y} b {} d {x} e {x}");
        assert_eq!(
            planned(query, serde_json::json!({"yes": false, "no": true})),
            "a {} b {x} c {x}"
        );
    }
}
