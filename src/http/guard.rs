//! What a query may be before anything runs: its size is priced once, fragments remembered, and nobody but sign-in gets in
//! without a token.

use std::collections::HashMap;

use async_graphql::parser::types::{DocumentOperations, ExecutableDocument, OperationType, Selection, SelectionSet};
use async_graphql::{Name, Positioned};

use crate::config::LIMITS;

/// Fields that may be asked for by who is not signed in.
const OPEN: [&str; 3] = ["signIn", "refreshSession", "__typename"];

/// What a guard found of the operation that is to run.
pub(super) struct Passed {
    pub(super) mutation: bool,
    /// Every root field may be asked for by anybody.
    pub(super) open: bool,
}

/// Why a document does not pass.
pub(super) enum Refusal {
    TooCostly(String),
    Invalid(String),
}

/// Fields and depth of a selection, with its fragments spread.
#[derive(Clone, Copy, Default)]
struct Cost {
    fields: usize,
    depth: usize,
}

struct Pricing<'a> {
    document: &'a ExecutableDocument,
    /// None while a fragment is being priced: who meets that goes in circles.
    fragments: HashMap<&'a Name, Option<Cost>>,
}

pub(super) fn check(document: &ExecutableDocument, operation_name: Option<&str>) -> Result<Passed, Refusal> {
    let operation = match (&document.operations, operation_name) {
        (DocumentOperations::Single(operation), None) => operation,
        (DocumentOperations::Single(_), Some(name)) => {
            return Err(Refusal::Invalid(format!(
                "the document has no operation of the name {name:?}"
            )));
        }
        (DocumentOperations::Multiple(operations), Some(name)) => operations
            .get(name)
            .ok_or_else(|| Refusal::Invalid(format!("the document has no operation of the name {name:?}")))?,
        (DocumentOperations::Multiple(operations), None) => {
            let mut all = operations.values();
            match (all.next(), all.next()) {
                (Some(operation), None) => operation,
                _ => {
                    return Err(Refusal::Invalid(
                        "operationName must say which operation is to run".to_owned(),
                    ));
                }
            }
        }
    };
    let mut pricing = Pricing {
        document,
        fragments: HashMap::new(),
    };
    let cost = pricing.set(&operation.node.selection_set.node)?;
    if cost.fields > LIMITS.fields {
        let message = format!(
            "the query asks for {} fields, {} are allowed",
            cost.fields, LIMITS.fields
        );
        return Err(Refusal::TooCostly(message));
    }
    if cost.depth > LIMITS.depth {
        let message = format!("the query is {} levels deep, {} are allowed", cost.depth, LIMITS.depth);
        return Err(Refusal::TooCostly(message));
    }
    Ok(Passed {
        mutation: operation.node.ty == OperationType::Mutation,
        open: operation.node.selection_set.node.items.iter().all(is_open),
    })
}

fn is_open(selection: &Positioned<Selection>) -> bool {
    match &selection.node {
        Selection::Field(field) => OPEN.contains(&field.node.name.node.as_str()),
        _ => false,
    }
}

impl<'a> Pricing<'a> {
    fn set(&mut self, set: &'a SelectionSet) -> Result<Cost, Refusal> {
        let mut cost = Cost::default();
        for selection in &set.items {
            let of = match &selection.node {
                Selection::Field(field) => {
                    let below = self.set(&field.node.selection_set.node)?;
                    Cost {
                        fields: below.fields.saturating_add(1),
                        depth: below.depth + 1,
                    }
                }
                Selection::InlineFragment(fragment) => self.set(&fragment.node.selection_set.node)?,
                Selection::FragmentSpread(spread) => self.fragment(&spread.node.fragment_name.node)?,
            };
            cost.fields = cost.fields.saturating_add(of.fields);
            cost.depth = cost.depth.max(of.depth);
        }
        Ok(cost)
    }

    fn fragment(&mut self, name: &'a Name) -> Result<Cost, Refusal> {
        match self.fragments.get(name) {
            Some(Some(cost)) => Ok(*cost),
            Some(None) => Err(Refusal::Invalid(format!("the fragment {name} spreads itself"))),
            None => {
                let Some(fragment) = self.document.fragments.get(name) else {
                    return Err(Refusal::Invalid(format!("there is no fragment {name}")));
                };
                self.fragments.insert(name, None);
                let cost = self.set(&fragment.node.selection_set.node)?;
                self.fragments.insert(name, Some(cost));
                Ok(cost)
            }
        }
    }
}
