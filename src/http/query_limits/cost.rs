//! Estimates the cost of a query before it is executed: 1 for each field, times the rows or buckets above it.

use std::collections::HashMap;

use async_graphql::parser::types::{ExecutableDocument, Field, OperationDefinition, Selection, SelectionSet};
use async_graphql::{Name, Positioned, Variables};
use async_graphql_value::{ConstValue, Value};
use chrono::NaiveDate;

use super::{Rejection, check_limit};
use crate::config::Limits;
use crate::graphql::{DEFAULT_HORIZON, MAX_SLOT_DAYS};
use crate::statistics::{Day, DayRange, Period};

/// The cost of a statistics question before its first field is resolved.
const STATISTICS_COST: usize = 1_000;
/// The cost of a page before its first row.
const LIST_COST: usize = 10;

/// Fields that are connections.
pub(super) const CONNECTIONS: [&str; 13] = [
    "patients",
    "visits",
    "entered",
    "left",
    "audit",
    "visitsOutside",
    "history",
    "recallLists",
    "entries",
    "imports",
    "pinnedSnapshots",
    "statements",
    // Of an import; the numbers of rows of the same name have no selection.
    "rows",
];

const NESTED: &str = "nested selections";

/// Lists whose length depends on no argument, with the length that is assumed: a usual one, not the longest possible.
const LISTS: [(&str, usize); 35] = [
    // The visits of a day.
    ("visitsOn", 200),
    ("departments", 50),
    ("doctors", 50),
    ("staff", 50),
    ("hours", 10),
    ("absences", 50),
    ("channels", 7),
    ("actions", 5),
    ("cohorts", 8),
    ("changedCohorts", 8),
    ("reasons", 3),
    ("sources", 3),
    ("breakdown", 12),
    ("nextStatuses", 5),
    ("possibleDuplicates", 10),
    ("patientIds", 10),
    ("visitIds", 10),
    ("leftOut", 6),
    ("outcomes", 6),
    ("contacts", 3),
    ("counts", 6),
    ("columns", 20),
    ("unknownWords", 5),
    ("problems", 1),
    // Their payloads have as many entries.
    ("claimRecallEntries", 20),
    ("assignRecallEntries", 20),
    // Of a change, and introspection.
    ("fields", 8),
    // Introspection.
    ("types", 120),
    ("args", 2),
    ("inputFields", 4),
    ("enumValues", 5),
    ("interfaces", 1),
    ("possibleTypes", 4),
    ("directives", 5),
    ("locations", 3),
];

/// The buckets that are assumed of a snapshot that is opened by its id: a year by DAY. The number is known only once it is open.
const ASSUMED_BUCKETS: usize = 366;

/// The slots that are assumed of a day of a doctor: 24 hours of 30 minutes each.
const SLOTS_PER_DAY: usize = 48;

/// Whether the cost of a field with this name is that of a list.
#[cfg(test)]
pub(super) fn is_list(name: &str) -> bool {
    [
        "edges",
        "nodes",
        "buckets",
        "onlyBefore",
        "onlyAfter",
        "slots",
        "visits",
        "entries",
        "cells",
        "rows",
    ]
    .contains(&name)
        || LISTS.iter().any(|(list, _)| *list == name)
}

/// The cost of a selection with fragments spread. The numbers of rows and buckets are known above it, but not inside a fragment: so the
/// cost is split into parts per row and per bucket.
#[derive(Clone, Copy, Default)]
pub(super) struct Cost {
    /// Fields, counted at each spread.
    pub(super) fields: usize,
    pub(super) depth: usize,
    /// Levels of nested selections.
    nested: usize,
    /// The part that does not depend on what is above.
    fixed: usize,
    /// The part per row of the page that this is a selection of.
    per_row: usize,
    /// The part per bucket of the question that this is a selection of.
    per_bucket: usize,
}

impl Cost {
    fn add(&mut self, other: Self) {
        self.fields = self.fields.saturating_add(other.fields);
        self.depth = self.depth.max(other.depth);
        self.nested = self.nested.max(other.nested);
        self.fixed = self.fixed.saturating_add(other.fixed);
        self.per_row = self.per_row.saturating_add(other.per_row);
        self.per_bucket = self.per_bucket.saturating_add(other.per_bucket);
    }

    /// The cost with so many rows and buckets.
    fn total(self, rows: usize, buckets: usize) -> usize {
        let rows = self.per_row.saturating_mul(rows);
        let buckets = self.per_bucket.saturating_mul(buckets);
        self.fixed.saturating_add(rows).saturating_add(buckets)
    }

    /// The cost if nothing above tells the number of rows or buckets.
    pub(super) fn max_total(self, limits: &Limits) -> usize {
        self.total(limits.max_page_size, ASSUMED_BUCKETS)
    }
}

pub(super) struct CostEstimator<'a> {
    document: &'a ExecutableDocument,
    variables: &'a Variables,
    limits: &'a Limits,
    defaults: HashMap<&'a Name, &'a ConstValue>,
    /// None while a fragment is being estimated: meeting it then means that it spreads itself.
    fragments: HashMap<&'a Name, Option<Cost>>,
    /// The nesting of the selection that is being estimated.
    level: usize,
}

impl<'a> CostEstimator<'a> {
    pub(super) fn new(
        document: &'a ExecutableDocument,
        operation: &'a Positioned<OperationDefinition>,
        variables: &'a Variables,
        limits: &'a Limits,
    ) -> Self {
        let defaults = operation.node.variable_definitions.iter().filter_map(|variable| {
            let default = variable.node.default_value.as_ref()?;
            Some((&variable.node.name.node, &default.node))
        });
        Self {
            document,
            variables,
            limits,
            defaults: defaults.collect(),
            fragments: HashMap::new(),
            level: 0,
        }
    }

    pub(super) fn set(&mut self, set: &'a SelectionSet) -> Result<Cost, Rejection> {
        // Checked on the way down to bound the stack, and on the way up since fragments may have been estimated before.
        self.level += 1;
        check_limit(NESTED, self.level, self.limits.max_query_nesting)?;
        let mut cost = Cost::default();
        for selection in &set.items {
            cost.add(match &selection.node {
                Selection::Field(field) => {
                    let below = self.set(&field.node.selection_set.node)?;
                    self.field(&field.node, below)
                }
                Selection::InlineFragment(fragment) => self.set(&fragment.node.selection_set.node)?,
                Selection::FragmentSpread(spread) => self.fragment(&spread.node.fragment_name.node)?,
            });
        }
        self.level -= 1;
        cost.nested += 1;
        check_limit(NESTED, cost.nested, self.limits.max_query_nesting)?;
        Ok(cost)
    }

    /// A fragment is estimated once, however often it is spread.
    pub(super) fn fragment(&mut self, name: &'a Name) -> Result<Cost, Rejection> {
        match self.fragments.get(name) {
            Some(Some(cost)) => Ok(*cost),
            Some(None) => Err(Rejection::invalid(format!("the fragment {name} spreads itself"))),
            None => {
                let Some(fragment) = self.document.fragments.get(name) else {
                    return Err(Rejection::invalid(format!("the fragment {name} does not exist")));
                };
                self.fragments.insert(name, None);
                let cost = self.set(&fragment.node.selection_set.node)?;
                self.fragments.insert(name, Some(cost));
                Ok(cost)
            }
        }
    }

    /// A field with the selection below it. Lists are recognised by their names, which a test checks against the schema.
    fn field(&self, field: &'a Field, below: Cost) -> Cost {
        let mut cost = Cost {
            fields: below.fields.saturating_add(1),
            depth: below.depth + 1,
            nested: below.nested,
            ..Cost::default()
        };
        let one = |below: usize| below.saturating_add(1);
        match field.name.node.as_str() {
            "edges" => cost.per_row = one(below.max_total(self.limits)),
            "nodes" => match self.argument(field, "ids") {
                Some(ids) => {
                    let ids = ids.length().min(self.limits.max_page_size);
                    cost.fixed = one(below.max_total(self.limits).saturating_mul(ids));
                }
                None => cost.per_row = one(below.max_total(self.limits)),
            },
            "buckets" | "onlyBefore" | "onlyAfter" | "cells" => cost.per_bucket = one(below.max_total(self.limits)),
            // Of a retention: at least one cell each.
            "rows" if below.per_bucket > 0 => cost.per_bucket = one(below.fixed.saturating_add(below.per_bucket)),
            name if CONNECTIONS.contains(&name) => {
                cost.fixed = LIST_COST.saturating_add(below.total(self.rows(field), ASSUMED_BUCKETS))
            }
            // With the same buckets as the question above.
            "changes" | "corrections" | "explain" => {
                cost.fixed = STATISTICS_COST.saturating_add(below.total(self.limits.max_page_size, 0));
                cost.per_bucket = below.per_bucket;
            }
            // A list is made, and looked up in the database.
            "narrowed" | "cohortSet" => {
                cost.fixed = STATISTICS_COST.saturating_add(below.max_total(self.limits));
            }
            "retention" => {
                let cells = self.cells(field);
                cost.fixed = STATISTICS_COST.saturating_add(below.total(self.limits.max_page_size, cells));
            }
            "statistics" | "previewDefinition" => {
                cost.fixed =
                    STATISTICS_COST.saturating_add(below.total(self.limits.max_page_size, self.buckets(field)));
            }
            "slots" => {
                let slots = self.days(field).saturating_mul(SLOTS_PER_DAY);
                cost.fixed = LIST_COST.saturating_add(one(below.max_total(self.limits)).saturating_mul(slots));
            }
            name => {
                let list = LISTS.iter().find(|(list, _)| *list == name);
                cost.fixed = match list {
                    Some((_, length)) => one(below.max_total(self.limits)).saturating_mul(*length),
                    None => one(below.max_total(self.limits)),
                };
            }
        }
        cost
    }

    /// The rows of a page. More than are allowed are refused when the page is resolved.
    fn rows(&self, field: &'a Field) -> usize {
        let size = ["first", "last"].map(|name| self.argument(field, name)?.number());
        let size = size.into_iter().flatten().max();
        size.unwrap_or(self.limits.default_page_size)
            .min(self.limits.max_page_size)
    }

    /// The most buckets that a question can have; the limit if that is unknown.
    fn buckets(&self, field: &'a Field) -> usize {
        // A snapshot in the payload of a mutation.
        if field.get_argument("period").is_none() {
            return ASSUMED_BUCKETS;
        }
        let buckets = || {
            let period = Period::parse(self.argument(field, "period")?.as_str()?)?;
            Some(period.max_buckets(self.range(field)?))
        };
        buckets()
            .unwrap_or(self.limits.max_buckets)
            .min(self.limits.max_buckets)
    }

    /// The most cells that a retention can have. More are refused when it is resolved.
    fn cells(&self, field: &'a Field) -> usize {
        let horizon = self.argument(field, "horizon").and_then(Known::number);
        let horizon = horizon.unwrap_or(DEFAULT_HORIZON as usize);
        self.buckets(field)
            .saturating_mul(horizon.saturating_add(1))
            .min(self.limits.max_retention_cells)
    }

    /// The days of a question about slots; the limit if they are unknown. More are refused when it is resolved.
    fn days(&self, field: &'a Field) -> usize {
        let days = self
            .range(field)
            .map_or(MAX_SLOT_DAYS, |range| range.to.0 - range.from.0 + 1);
        usize::try_from(days.min(MAX_SLOT_DAYS)).unwrap_or(0)
    }

    /// The argument `range`, if it is known and a range.
    fn range(&self, field: &'a Field) -> Option<DayRange> {
        let range = self.argument(field, "range")?;
        let day = |end: &str| self.of_object(range, end)?.as_str()?.parse::<NaiveDate>().ok();
        let (from, to) = (day("from")?, day("to")?);
        if !Day::accepts(from) || !Day::accepts(to) {
            return None;
        }
        DayRange::new(from.into(), to.into())
    }

    fn argument(&self, field: &'a Field, name: &str) -> Option<Known<'a>> {
        self.known(&field.get_argument(name)?.node)
    }

    fn of_object(&self, object: Known<'a>, name: &str) -> Option<Known<'a>> {
        match object {
            Known::Written(Value::Object(fields)) => self.known(fields.get(name)?),
            Known::Given(ConstValue::Object(fields)) => Some(Known::Given(fields.get(name)?)),
            _ => None,
        }
    }

    fn known(&self, value: &'a Value) -> Option<Known<'a>> {
        match value {
            Value::Null => None,
            Value::Variable(name) => match self.variables.get(name) {
                Some(ConstValue::Null) => None,
                Some(given) => Some(Known::Given(given)),
                None => self.defaults.get(name).map(|default| Known::Given(default)),
            },
            written => Some(Known::Written(written)),
        }
    }
}

/// A value in the query or in its variables, borrowed: a list in a variable may be long, and used often.
#[derive(Clone, Copy)]
enum Known<'a> {
    Written(&'a Value),
    Given(&'a ConstValue),
}

impl<'a> Known<'a> {
    fn number(self) -> Option<usize> {
        let number = match self {
            Self::Written(Value::Number(number)) | Self::Given(ConstValue::Number(number)) => number.as_u64()?,
            _ => return None,
        };
        usize::try_from(number).ok()
    }

    /// The text of a string or an enum.
    fn as_str(self) -> Option<&'a str> {
        match self {
            Self::Written(Value::String(text)) | Self::Given(ConstValue::String(text)) => Some(text),
            Self::Written(Value::Enum(word)) | Self::Given(ConstValue::Enum(word)) => Some(word),
            _ => None,
        }
    }

    /// The length of a list; other values are coerced to lists of one.
    fn length(self) -> usize {
        match self {
            Self::Written(Value::List(list)) => list.len(),
            Self::Given(ConstValue::List(list)) => list.len(),
            _ => 1,
        }
    }
}
