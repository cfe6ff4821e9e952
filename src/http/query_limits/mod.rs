//! Checks a document before it is validated and executed: its size, its estimated cost, and whether it needs a signed-in viewer.

mod cost;
mod document;
pub(super) mod tokens;

use std::collections::HashSet;

use async_graphql::parser::types::{
    DocumentOperations, ExecutableDocument, OperationDefinition, OperationType, Selection, SelectionSet,
};
use async_graphql::{Name, Pos, Positioned, Value, Variables};

use super::execution::Types;
use crate::config::Limits;
use crate::error::ErrorCode;
use crate::observe::{Operation, OperationKind};
use cost::CostEstimator;

/// Root fields that need no access token.
const PUBLIC_FIELDS: [&str; 3] = ["signIn", "refreshSession", "__typename"];

/// Characters of an operation's name in the log and in traces; the rest is cut off.
const MAX_NAME_LENGTH: usize = 64;

/// The names of the schema's root fields. Metrics are labelled with these only, never with names that clients choose.
pub(super) struct RootFields {
    query: HashSet<String>,
    mutation: HashSet<String>,
    subscription: HashSet<String>,
}

impl RootFields {
    /// From the fields of the schema's root types; those of introspection are added.
    pub(super) fn new(types: &Types) -> Self {
        let [query, mutation, subscription] = [
            OperationType::Query,
            OperationType::Mutation,
            OperationType::Subscription,
        ]
        .map(|kind| types.root_fields(kind));
        let introspection = ["__schema", "__type", "__typename"];
        Self {
            subscription: subscription.map(str::to_owned).collect(),
            query: query.chain(introspection).map(str::to_owned).collect(),
            mutation: mutation.chain(["__typename"]).map(str::to_owned).collect(),
        }
    }

    /// Adds the root fields of a selection, each once. Fragments that spread themselves were rejected before.
    fn collect(
        &self,
        kind: OperationKind,
        document: &ExecutableDocument,
        selection: &SelectionSet,
        asked: &mut Vec<String>,
    ) {
        let known = match kind {
            OperationKind::Query => &self.query,
            OperationKind::Mutation => &self.mutation,
            OperationKind::Subscription => &self.subscription,
        };
        for item in &selection.items {
            match &item.node {
                Selection::Field(field) => {
                    let name = &field.node.name.node;
                    if known.contains(name.as_str()) && !asked.iter().any(|field| field == name.as_str()) {
                        asked.push(name.to_string());
                    }
                }
                Selection::InlineFragment(fragment) => {
                    self.collect(kind, document, &fragment.node.selection_set.node, asked);
                }
                Selection::FragmentSpread(spread) => {
                    if let Some(fragment) = document.fragments.get(&spread.node.fragment_name.node) {
                        self.collect(kind, document, &fragment.node.selection_set.node, asked);
                    }
                }
            }
        }
    }
}

/// An operation within the limits.
pub(super) struct CheckedOperation {
    pub(super) operation: Operation,
    /// Its estimated cost is above [`Limits::costly_query`].
    pub(super) costly: bool,
    /// All its root fields need no access token.
    pub(super) public: bool,
}

/// Why a document is rejected.
#[derive(Debug)]
pub(super) struct Rejection {
    pub(super) code: ErrorCode,
    pub(super) message: String,
    /// The place in the document.
    pub(super) location: Option<Pos>,
    /// Further entries of the error's `extensions`.
    pub(super) more: Vec<(&'static str, serde_json::Value)>,
}

impl Rejection {
    fn invalid(message: impl Into<String>) -> Self {
        Self {
            code: ErrorCode::GraphqlValidationFailed,
            message: message.into(),
            location: None,
            more: Vec::new(),
        }
    }

    /// With the cost and the limit in the extensions.
    fn too_costly(message: String, cost: usize, limit: usize) -> Self {
        Self {
            code: ErrorCode::QueryTooCostly,
            message,
            location: None,
            more: vec![("cost", cost.into()), ("limit", limit.into())],
        }
    }
}

/// Rejects more of something than its limit.
pub(super) fn check_limit(what: &str, cost: usize, limit: usize) -> Result<(), Rejection> {
    if cost <= limit {
        return Ok(());
    }
    let message = format!("the query has {cost} {what}, at most {limit} are allowed");
    Err(Rejection::too_costly(message, cost, limit))
}

/// Checks a document before it is validated: validation itself walks fragments wherever they are spread.
pub(super) fn check(
    document: &ExecutableDocument,
    operation_name: Option<&str>,
    variables: &Variables,
    known: &RootFields,
    limits: &Limits,
) -> Result<CheckedOperation, Rejection> {
    document::check(document, limits)?;
    let (name, operation) = select_operation(document, operation_name)?;
    let mut estimator = CostEstimator::new(document, operation, variables, limits);
    for fragment in document.fragments.keys() {
        estimator.fragment(fragment)?;
    }
    for (_, other) in document.operations.iter() {
        let size = estimator.set(&other.node.selection_set.node)?;
        check_limit("levels", size.depth, limits.max_query_depth)?;
        check_limit(
            "fields, fragments counted wherever they are spread",
            size.fields,
            limits.max_query_fields,
        )?;
    }
    let cost = estimator.set(&operation.node.selection_set.node)?.max_total(limits);
    let limit = limits.max_query_cost;
    if cost > limit {
        let message = format!(
            "the query's estimated cost is {cost}, at most {limit} is allowed: request fewer rows or buckets at once"
        );
        return Err(Rejection::too_costly(message, cost, limit));
    }
    check_required_variables(operation, variables)?;
    let kind = match operation.node.ty {
        OperationType::Query => OperationKind::Query,
        OperationType::Mutation => OperationKind::Mutation,
        OperationType::Subscription => OperationKind::Subscription,
    };
    let mut fields = Vec::new();
    known.collect(kind, document, &operation.node.selection_set.node, &mut fields);
    Ok(CheckedOperation {
        operation: Operation {
            kind,
            // A name is letters, digits and underscores: it can be cut anywhere.
            name: name.map(|name| name.chars().take(MAX_NAME_LENGTH).collect()),
            fields,
        },
        costly: cost > limits.costly_query,
        public: operation.node.selection_set.node.items.iter().all(is_public),
    })
}

/// The operation that is executed, and its name.
pub(super) fn select_operation<'a>(
    document: &'a ExecutableDocument,
    name: Option<&str>,
) -> Result<(Option<&'a Name>, &'a Positioned<OperationDefinition>), Rejection> {
    let none = |name: &str| Rejection::invalid(format!("the document has no operation named {name:?}"));
    match (&document.operations, name) {
        (DocumentOperations::Single(operation), None) => Ok((None, operation)),
        (DocumentOperations::Single(_), Some(name)) => Err(none(name)),
        (DocumentOperations::Multiple(operations), Some(name)) => operations
            .get_key_value(name)
            .map(|(name, operation)| (Some(name), operation))
            .ok_or_else(|| none(name)),
        (DocumentOperations::Multiple(operations), None) => {
            let mut all = operations.iter();
            match (all.next(), all.next()) {
                (Some((name, operation)), None) => Ok((Some(name), operation)),
                _ => Err(Rejection::invalid("operationName must name one of the operations")),
            }
        }
    }
}

/// Rejects an operation if a required variable has no value. async-graphql notices that only where an argument of a field uses it.
fn check_required_variables(
    operation: &Positioned<OperationDefinition>,
    variables: &Variables,
) -> Result<(), Rejection> {
    for variable in &operation.node.variable_definitions {
        let variable = &variable.node;
        let name = &variable.name.node;
        let needed = !variable.var_type.node.nullable && variable.default_value.is_none();
        if needed && matches!(variables.get(name), None | Some(Value::Null)) {
            return Err(Rejection {
                code: ErrorCode::BadUserInput,
                message: format!("variables.{name}: a value is required"),
                location: None,
                more: vec![("argument", format!("variables.{name}").into())],
            });
        }
    }
    Ok(())
}

fn is_public(selection: &Positioned<Selection>) -> bool {
    match &selection.node {
        Selection::Field(field) => PUBLIC_FIELDS.contains(&field.node.name.node.as_str()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use async_graphql::parser::types::{TypeKind, TypeSystemDefinition};

    use super::*;

    const SAMPLES: &str = include_str!("../../../explorer/src/samples.ts");
    /// What GraphiQL and code generators ask of a schema.
    const INTROSPECTION: &str = "query IntrospectionQuery {
        __schema {
          description queryType { name kind } mutationType { name kind } subscriptionType { name kind }
          types { ...FullType }
          directives { name description isRepeatable locations args(includeDeprecated: true) { ...InputValue } }
        }
      }
      fragment FullType on __Type {
        kind name description specifiedByURL isOneOf
        fields(includeDeprecated: true) {
          name description args(includeDeprecated: true) { ...InputValue } type { ...TypeRef } isDeprecated deprecationReason
        }
        inputFields(includeDeprecated: true) { ...InputValue }
        interfaces { ...TypeRef }
        enumValues(includeDeprecated: true) { name description isDeprecated deprecationReason }
        possibleTypes { ...TypeRef }
      }
      fragment InputValue on __InputValue { name description type { ...TypeRef } defaultValue isDeprecated deprecationReason }
      fragment TypeRef on __Type { kind name ofType { kind name ofType { kind name ofType { kind name ofType { kind name
        ofType { kind name ofType { kind name ofType { kind name ofType { kind name ofType { kind name } } } } } } } } } }";

    fn checked(query: &str, variables: serde_json::Value) -> Result<CheckedOperation, Rejection> {
        let document = async_graphql::parser::parse_query(query).unwrap_or_else(|error| panic!("{query}: {error}"));
        let roots = RootFields {
            query: HashSet::new(),
            mutation: HashSet::new(),
            subscription: HashSet::new(),
        };
        check(
            &document,
            None,
            &Variables::from_json(variables),
            &roots,
            &Limits::default(),
        )
    }

    /// The estimated cost of a query of one operation.
    fn cost(query: &str, variables: serde_json::Value) -> usize {
        let document = async_graphql::parser::parse_query(query).unwrap();
        let variables = Variables::from_json(variables);
        let (_, operation) = select_operation(&document, None).unwrap();
        let limits = Limits::default();
        let mut estimator = CostEstimator::new(&document, operation, &variables, &limits);
        estimator
            .set(&operation.node.selection_set.node)
            .unwrap()
            .max_total(&limits)
    }

    fn code(query: &str) -> &'static str {
        checked(query, serde_json::json!({}))
            .err()
            .map_or("", |refusal| refusal.code.as_str())
    }

    #[test]
    fn what_a_console_asks_passes() {
        let samples = SAMPLES.split("= `").skip(1).filter_map(|rest| rest.split('`').next());
        let all: Vec<&str> = samples.chain([INTROSPECTION]).collect();
        assert!(all.len() > 5, "{}", all.len());
        for query in all {
            // Values that the cost depends on are unknown here, so the highest cost is assumed.
            let document = async_graphql::parser::parse_query(query).unwrap();
            let variables = document
                .operations
                .iter()
                .flat_map(|(_, operation)| &operation.node.variable_definitions);
            let variables = variables.map(|variable| (variable.node.name.node.to_string(), "x".into()));
            let variables = serde_json::Value::Object(variables.collect());
            tokens::check(query, &Limits::default()).unwrap();
            checked(query, variables)
                .map_err(|refusal| format!("{query}: {refusal:?}"))
                .unwrap();
        }
    }

    #[test]
    fn cost_is_fields_times_rows_and_buckets() {
        for (query, variables, wanted) in [
            ("{ viewer { name } }", serde_json::json!({}), 2),
            // 10, 20 rows of 1 + 2, totalCount.
            (
                "{ patients { nodes { id name } totalCount } }",
                serde_json::json!({}),
                10 + 20 * 3 + 1,
            ),
            (
                "{ patients(first: 7) { edges { node { id } } } }",
                serde_json::json!({}),
                10 + 7 * 3,
            ),
            (
                "{ patients(last: 7) { nodes { id } } }",
                serde_json::json!({}),
                10 + 7 * 2,
            ),
            (
                "query ($n: Int) { patients(first: $n) { nodes { id } } }",
                serde_json::json!({"n": 50}),
                10 + 50 * 2,
            ),
            (
                "query ($n: Int = 3) { patients(first: $n) { nodes { id } } }",
                serde_json::json!({}),
                10 + 3 * 2,
            ),
            (
                "query ($n: Int = 3) { patients(first: $n) { nodes { id } } }",
                serde_json::json!({"n": null}),
                10 + 20 * 2,
            ),
            // A fragment costs what it stands under.
            (
                "{ patients(first: 5) { ...f } a: patients(first: 50) { ...f } } fragment f on PatientConnection { nodes { id } }",
                serde_json::json!({}),
                10 + 5 * 2 + 10 + 50 * 2,
            ),
            (
                "{ patients(first: 5) { nodes { visits(first: 3) { nodes { id } } } } }",
                serde_json::json!({}),
                10 + 5 * (1 + 10 + 3 * 2),
            ),
            ("{ nodes(ids: [\"a\", \"b\"]) { id } }", serde_json::json!({}), 1 + 2),
            (
                "query ($ids: [ID!]!) { nodes(ids: $ids) { id ... on Visit { date } } }",
                serde_json::json!({"ids": ["a", "b", "c"]}),
                1 + 3 * 2,
            ),
            (
                "{ statistics(period: DAY, range: {from: \"2025-01-01\", to: \"2025-01-10\"}) { buckets { start } } }",
                serde_json::json!({}),
                1_000 + 10 * 2,
            ),
            (
                "query ($p: Period!, $r: DateRangeInput!) { statistics(period: $p, range: $r) { buckets { start } } }",
                serde_json::json!({"p": "DAY", "r": {"from": "2025-01-01", "to": "2025-12-31"}}),
                1_000 + 365 * 2,
            ),
            (
                "query ($to: Date!) { statistics(period: DAY, range: {from: \"2025-01-01\", to: $to}) { ...f } } fragment f on Statistics { buckets { start } }",
                serde_json::json!({"to": "2025-01-03"}),
                1_000 + 3 * 2,
            ),
            // A snapshot that is found by its id: a year by DAY.
            (
                "{ statisticsSnapshot(id: \"x\") { buckets { start } } }",
                serde_json::json!({}),
                1 + 366 * 2,
            ),
            (
                "mutation { pinSnapshot(input: {id: \"x\"}) { statistics { buckets { start } } } }",
                serde_json::json!({}),
                1 + 1_000 + 366 * 2,
            ),
            // Invalid arguments are rejected later; their cost is the highest possible.
            (
                "{ statistics(period: DAY, range: {from: \"1000-01-01\", to: \"9999-01-01\"}) { buckets { start } } }",
                serde_json::json!({}),
                1_000 + 3_660 * 2,
            ),
            (
                "{ patients(first: 1000000) { nodes { id } } }",
                serde_json::json!({}),
                10 + 100 * 2,
            ),
        ] {
            assert_eq!(cost(query, variables), wanted, "{query}");
        }
    }

    #[test]
    fn a_refusal_says_the_cost_and_the_limit() {
        let query = "{ patients(first: 100) { nodes { visits(first: 100) { nodes { patient { visits(first: 100) { nodes { id } } } } } } } }";
        let refusal = checked(query, serde_json::json!({})).err().unwrap();
        let cost = cost(query, serde_json::json!({}));
        assert!(cost > 1_000_000);
        assert_eq!(refusal.code, ErrorCode::QueryTooCostly);
        let limit = Limits::default().max_query_cost;
        assert!(refusal.message.contains(&cost.to_string()) && refusal.message.contains(&limit.to_string()));
        assert_eq!(refusal.more, [("cost", cost.into()), ("limit", limit.into())]);
    }

    #[test]
    fn nested_fragments_are_estimated_in_linear_time() {
        let started = std::time::Instant::now();
        let spread = |root: &str| {
            let bomb: String = (0..10)
                .map(|i| format!("fragment f{i} on Query {{ {} }}", format!("...f{} ", i + 1).repeat(5)))
                .collect();
            format!("{root} {bomb} fragment f10 on Query {{ __typename }}")
        };
        // Also where nothing spreads it.
        for root in [
            "{ ...f0 }",
            "{ __typename }",
            "{ __typename ... on Query @include(if: false) { ...f0 } }",
        ] {
            let wanted = if root.contains("f0") { "QUERY_TOO_COSTLY" } else { "" };
            assert_eq!(code(&spread(root)), wanted, "{root}");
        }
        assert!(started.elapsed() < std::time::Duration::from_secs(1));
    }

    #[test]
    fn each_bound_holds() {
        let many = |count: usize, one: &dyn Fn(usize) -> String| (0..count).map(one).collect::<String>();
        let deep = |levels: usize| {
            format!("{}a{}", "{ a ".repeat(levels - 1), " }".repeat(levels - 1)).replacen("{ a a", "{ a", 1)
        };
        let limits = Limits::default();
        let cases = [
            format!("{{ {} }}", many(limits.max_query_aliases + 1, &|i| format!("a{i}: viewer {{ name }} "))),
            format!("{{ {} }}", many(limits.max_query_directives + 1, &|_| "a @skip(if: true) ".to_owned())),
            format!("{{ a {} }}", "@skip(if: true) ".repeat(limits.max_directives_per_selection + 1)),
            format!("{{ a }} {}", many(limits.max_query_definitions, &|i| format!("fragment f{i} on Query {{ a }} "))),
            deep(limits.max_query_depth + 2),
            format!("{{ ...f0 }} {}", many(limits.max_query_nesting, &|i| format!("fragment f{i} on Query {{ ...f{} }} ", i + 1)))
                + &format!("fragment f{} on Query {{ a }}", limits.max_query_nesting),
            "{ __schema { types { fields { type { fields { type { fields { type { fields { type { fields { type { name } } } } } } } } } } } } }".to_owned(),
        ];
        for query in cases {
            assert_eq!(code(&query), "QUERY_TOO_COSTLY", "{query}");
        }
    }

    #[test]
    fn what_async_graphql_lets_pass_is_refused() {
        for query in [
            "{ viewer @anything { name } }",
            "{ ... @anything { __typename } }",
            "{ ...f @anything } fragment f on Query { __typename }",
            "{ __typename } fragment f on Query @include(if: true) { __typename }",
            "query @skip(if: true) { __typename }",
            "query ($x: Int @skip(if: true)) { __typename }",
            "{ viewer @include { name } }",
            "{ viewer @include(if: true, unless: false) { name } }",
            "{ __typename(a: 1) }",
            "{ viewer { __typename(a: 1) } }",
        ] {
            assert_eq!(code(query), "GRAPHQL_VALIDATION_FAILED", "{query}");
        }
        let needed = "query ($yes: Boolean!) { viewer @include(if: $yes) { name } }";
        assert_eq!(code(needed), "BAD_USER_INPUT");
        assert!(checked(needed, serde_json::json!({"yes": null})).is_err());
        assert!(checked(needed, serde_json::json!({"yes": true})).is_ok());
        assert_eq!(
            code("query ($yes: Boolean! = true) { viewer @include(if: $yes) { name } }"),
            ""
        );
    }

    /// A list that is new has to be given a length, or it costs as much as one row.
    #[test]
    fn every_list_of_the_schema_has_a_cost() {
        let document = async_graphql::parser::parse_schema(crate::graphql::sdl()).unwrap();
        let mut lists = 0;
        for definition in document.definitions {
            let TypeSystemDefinition::Type(definition) = definition else {
                continue;
            };
            let fields = match definition.node.kind {
                TypeKind::Object(object) => object.fields,
                TypeKind::Interface(interface) => interface.fields,
                _ => continue,
            };
            for field in fields {
                let name = field.node.name.node.as_str();
                let r#type = field.node.ty.node.to_string();
                if r#type.starts_with('[') {
                    lists += 1;
                    assert!(cost::is_list(name), "{}.{name}", definition.node.name.node);
                } else if r#type.ends_with("Connection!") {
                    assert!(
                        cost::CONNECTIONS.contains(&name),
                        "{}.{name}",
                        definition.node.name.node
                    );
                }
            }
        }
        assert!(lists >= 15, "{lists}");
    }
}
