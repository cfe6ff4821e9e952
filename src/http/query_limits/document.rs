//! Checks a document as it is written, fragments not spread: its size, and directives, which async-graphql does not check.

use async_graphql::Positioned;
use async_graphql::parser::types::{Directive, ExecutableDocument, Selection, SelectionSet};

use super::{Rejection, check_limit};
use crate::config::Limits;

/// The directives that a query may use; each has the one argument `if`.
const DIRECTIVES: [&str; 2] = ["include", "skip"];

struct DocumentCounts<'a> {
    limits: &'a Limits,
    aliases: usize,
    directives: usize,
}

/// Rejects too many definitions, aliases and directives, unknown directives, and arguments of `__typename`. async-graphql accepts the
/// latter two.
pub(super) fn check(document: &ExecutableDocument, limits: &Limits) -> Result<(), Rejection> {
    let definitions = document.operations.iter().count() + document.fragments.len();
    check_limit("operations and fragments", definitions, limits.max_query_definitions)?;
    let mut counts = DocumentCounts {
        limits,
        aliases: 0,
        directives: 0,
    };
    for (_, operation) in document.operations.iter() {
        let variables = &operation.node.variable_definitions;
        let on_variables = variables.iter().flat_map(|variable| &variable.node.directives);
        reject_misplaced(operation.node.directives.iter().chain(on_variables))?;
        counts.set(&operation.node.selection_set.node)?;
    }
    for fragment in document.fragments.values() {
        reject_misplaced(&fragment.node.directives)?;
        counts.set(&fragment.node.selection_set.node)?;
    }
    check_limit("aliases", counts.aliases, limits.max_query_aliases)?;
    check_limit("directives", counts.directives, limits.max_query_directives)
}

fn reject_misplaced<'a>(directives: impl IntoIterator<Item = &'a Positioned<Directive>>) -> Result<(), Rejection> {
    directives.into_iter().next().map_or(Ok(()), |directive| {
        let name = &directive.node.name.node;
        Err(Rejection::invalid(format!("the directive @{name} is not allowed here")))
    })
}

impl DocumentCounts<'_> {
    fn set(&mut self, set: &SelectionSet) -> Result<(), Rejection> {
        for selection in &set.items {
            match &selection.node {
                Selection::Field(field) => {
                    let field = &field.node;
                    self.aliases += usize::from(field.alias.is_some());
                    if field.name.node == "__typename" && !field.arguments.is_empty() {
                        return Err(Rejection::invalid("__typename takes no arguments"));
                    }
                    self.directives(&field.directives)?;
                    self.set(&field.selection_set.node)?;
                }
                Selection::InlineFragment(fragment) => {
                    self.directives(&fragment.node.directives)?;
                    self.set(&fragment.node.selection_set.node)?;
                }
                Selection::FragmentSpread(spread) => self.directives(&spread.node.directives)?,
            }
        }
        Ok(())
    }

    fn directives(&mut self, directives: &[Positioned<Directive>]) -> Result<(), Rejection> {
        self.directives += directives.len();
        check_limit(
            "directives on one selection",
            directives.len(),
            self.limits.max_directives_per_selection,
        )?;
        for directive in directives {
            let directive = &directive.node;
            let name = directive.name.node.as_str();
            if !DIRECTIVES.contains(&name) {
                return Err(Rejection::invalid(format!("the directive @{name} does not exist")));
            }
            if !matches!(&directive.arguments[..], [(argument, _)] if argument.node == "if") {
                return Err(Rejection::invalid(format!("@{name} takes one argument, if")));
            }
        }
        Ok(())
    }
}
