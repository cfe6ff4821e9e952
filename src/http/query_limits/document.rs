//! What a document holds as it is written, each thing once: how much of it, and directives that nobody else looks at.

use async_graphql::Positioned;
use async_graphql::parser::types::{Directive, ExecutableDocument, Selection, SelectionSet};

use super::{Rejection, check_limit};
use crate::config::LIMITS;

/// The directives that a query may use; each has the one argument `if`.
const DIRECTIVES: [&str; 2] = ["include", "skip"];

#[derive(Default)]
struct DocumentCounts {
    aliases: usize,
    directives: usize,
}

/// Refuses too many definitions, aliases and directives, directives that do not exist, and arguments on `__typename`.
/// async-graphql lets the latter two pass.
pub(super) fn check(document: &ExecutableDocument) -> Result<(), Rejection> {
    let definitions = document.operations.iter().count() + document.fragments.len();
    check_limit("operations and fragments", definitions, LIMITS.definitions)?;
    let mut written = DocumentCounts::default();
    for (_, operation) in document.operations.iter() {
        let variables = &operation.node.variable_definitions;
        let on_variables = variables.iter().flat_map(|variable| &variable.node.directives);
        reject_misplaced(operation.node.directives.iter().chain(on_variables))?;
        written.set(&operation.node.selection_set.node)?;
    }
    for fragment in document.fragments.values() {
        reject_misplaced(&fragment.node.directives)?;
        written.set(&fragment.node.selection_set.node)?;
    }
    check_limit("aliases", written.aliases, LIMITS.aliases)?;
    check_limit("directives", written.directives, LIMITS.directives)
}

fn reject_misplaced<'a>(directives: impl IntoIterator<Item = &'a Positioned<Directive>>) -> Result<(), Rejection> {
    directives.into_iter().next().map_or(Ok(()), |directive| {
        let name = &directive.node.name.node;
        Err(Rejection::invalid(format!("no directive @{name} may stand here")))
    })
}

impl DocumentCounts {
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
            "directives in one place",
            directives.len(),
            LIMITS.directives_in_one_place,
        )?;
        for directive in directives {
            let directive = &directive.node;
            let name = directive.name.node.as_str();
            if !DIRECTIVES.contains(&name) {
                return Err(Rejection::invalid(format!("there is no directive @{name}")));
            }
            if !matches!(&directive.arguments[..], [(argument, _)] if argument.node == "if") {
                return Err(Rejection::invalid(format!("@{name} takes one argument, if")));
            }
        }
        Ok(())
    }
}
