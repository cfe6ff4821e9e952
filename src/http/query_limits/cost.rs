//! What a query may cost at most, before anything runs: one for a field, times the rows or buckets that it stands under.

use std::collections::HashMap;

use async_graphql::parser::types::{ExecutableDocument, Field, OperationDefinition, Selection, SelectionSet};
use async_graphql::{Name, Positioned, Variables};
use async_graphql_value::{ConstValue, Value};
use chrono::NaiveDate;

use super::{Rejection, check_limit};
use crate::config::LIMITS;
use crate::statistics::{Day, DayRange, Period};

/// What is asked of the database or the desk before the first field of a question, a list and a page is there.
const STATISTICS_COST: usize = 1_000;
const LIST_COST: usize = 10;

/// Fields that are cut into pages.
pub(super) const CONNECTIONS: [&str; 5] = ["patients", "visits", "entered", "left", "audit"];

const NESTED: &str = "selections in one another";

/// Lists of which no argument says how long they are, with the length that they are priced at: what is usual, not what is
/// possible.
const LISTS: [(&str, usize); 19] = [
    ("departments", 50),
    ("doctors", 50),
    ("staff", 50),
    ("channels", 7),
    ("actions", 5),
    ("cohorts", 8),
    ("changedCohorts", 8),
    ("reasons", 3),
    ("patientIds", 10),
    ("visitIds", 10),
    // Of introspection.
    ("types", 120),
    ("fields", 8),
    ("args", 2),
    ("inputFields", 4),
    ("enumValues", 5),
    ("interfaces", 1),
    ("possibleTypes", 4),
    ("directives", 5),
    ("locations", 3),
];

/// What a snapshot that is found by its id is taken to have: a year by DAY. How many it has in truth is known once it is open.
const ASSUMED_BUCKETS: usize = 366;

/// Whether a field of this name is priced as a list.
#[cfg(test)]
pub(super) fn is_list(name: &str) -> bool {
    ["edges", "nodes", "buckets", "visits"].contains(&name) || LISTS.iter().any(|(list, _)| *list == name)
}

/// What a selection costs, fragments spread. How many rows or buckets it stands under is known above it, and not within a
/// fragment: so it is told per row and per bucket.
#[derive(Clone, Copy, Default)]
pub(super) struct Cost {
    /// Fields, each counted once wherever it is spread.
    pub(super) fields: usize,
    pub(super) depth: usize,
    /// Selections in one another.
    nested: usize,
    /// What does not depend on what is above.
    fixed: usize,
    /// For each row of the page that this is a selection of.
    per_row: usize,
    /// For each bucket of the question that this is a selection of.
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

    /// With so many rows and buckets.
    fn of(self, rows: usize, buckets: usize) -> usize {
        let rows = self.per_row.saturating_mul(rows);
        let buckets = self.per_bucket.saturating_mul(buckets);
        self.fixed.saturating_add(rows).saturating_add(buckets)
    }

    /// Where nothing above says how many rows or buckets there are.
    pub(super) fn whole(self) -> usize {
        self.of(LIMITS.page_most, ASSUMED_BUCKETS)
    }
}

pub(super) struct CostEstimator<'a> {
    document: &'a ExecutableDocument,
    variables: &'a Variables,
    defaults: HashMap<&'a Name, &'a ConstValue>,
    /// None while a fragment is being priced: who meets that goes in circles.
    fragments: HashMap<&'a Name, Option<Cost>>,
    /// Selections that are being priced, one in another.
    level: usize,
}

impl<'a> CostEstimator<'a> {
    pub(super) fn new(
        document: &'a ExecutableDocument,
        operation: &'a Positioned<OperationDefinition>,
        variables: &'a Variables,
    ) -> Self {
        let defaults = operation.node.variable_definitions.iter().filter_map(|variable| {
            let default = variable.node.default_value.as_ref()?;
            Some((&variable.node.name.node, &default.node))
        });
        Self {
            document,
            variables,
            defaults: defaults.collect(),
            fragments: HashMap::new(),
            level: 0,
        }
    }

    pub(super) fn set(&mut self, set: &'a SelectionSet) -> Result<Cost, Rejection> {
        // Asked on the way down for the stack's sake, and on the way up whatever fragment was priced first.
        self.level += 1;
        check_limit(NESTED, self.level, LIMITS.brackets)?;
        let mut price = Cost::default();
        for selection in &set.items {
            price.add(match &selection.node {
                Selection::Field(field) => {
                    let below = self.set(&field.node.selection_set.node)?;
                    self.field(&field.node, below)
                }
                Selection::InlineFragment(fragment) => self.set(&fragment.node.selection_set.node)?,
                Selection::FragmentSpread(spread) => self.fragment(&spread.node.fragment_name.node)?,
            });
        }
        self.level -= 1;
        price.nested += 1;
        check_limit(NESTED, price.nested, LIMITS.brackets)?;
        Ok(price)
    }

    /// A fragment is priced once, however often it is spread.
    pub(super) fn fragment(&mut self, name: &'a Name) -> Result<Cost, Rejection> {
        match self.fragments.get(name) {
            Some(Some(price)) => Ok(*price),
            Some(None) => Err(Rejection::invalid(format!("the fragment {name} spreads itself"))),
            None => {
                let Some(fragment) = self.document.fragments.get(name) else {
                    return Err(Rejection::invalid(format!("there is no fragment {name}")));
                };
                self.fragments.insert(name, None);
                let price = self.set(&fragment.node.selection_set.node)?;
                self.fragments.insert(name, Some(price));
                Ok(price)
            }
        }
    }

    /// A field with what is below it. Names are enough to tell lists by: a test holds them against the schema.
    fn field(&self, field: &'a Field, below: Cost) -> Cost {
        let mut price = Cost {
            fields: below.fields.saturating_add(1),
            depth: below.depth + 1,
            nested: below.nested,
            ..Cost::default()
        };
        let one = |below: usize| below.saturating_add(1);
        match field.name.node.as_str() {
            "edges" => price.per_row = one(below.whole()),
            "nodes" => match self.argument(field, "ids") {
                Some(ids) => {
                    let ids = ids.length().min(LIMITS.page_most);
                    price.fixed = one(below.whole().saturating_mul(ids));
                }
                None => price.per_row = one(below.whole()),
            },
            "buckets" => price.per_bucket = one(below.whole()),
            name if CONNECTIONS.contains(&name) => {
                price.fixed = LIST_COST.saturating_add(below.of(self.rows(field), ASSUMED_BUCKETS))
            }
            // Of the same buckets as what stands above.
            "changes" | "explain" => {
                price.fixed = STATISTICS_COST.saturating_add(below.of(LIMITS.page_most, 0));
                price.per_bucket = below.per_bucket;
            }
            "statistics" | "previewDefinition" => {
                price.fixed = STATISTICS_COST.saturating_add(below.of(LIMITS.page_most, self.buckets(field)));
            }
            name => {
                let list = LISTS.iter().find(|(list, _)| *list == name);
                price.fixed = match list {
                    Some((_, length)) => one(below.whole()).saturating_mul(*length),
                    None => one(below.whole()),
                };
            }
        }
        price
    }

    /// The rows of a page. More than a page may have is refused later, by who cuts it.
    fn rows(&self, field: &'a Field) -> usize {
        let asked = ["first", "last"].map(|name| self.argument(field, name)?.number());
        let asked = asked.into_iter().flatten().max();
        asked.unwrap_or(LIMITS.page_default).min(LIMITS.page_most)
    }

    /// The buckets of a question at most; all that may be where it cannot be told.
    fn buckets(&self, field: &'a Field) -> usize {
        // Of a snapshot that stands already, as a payload shows it.
        if field.get_argument("period").is_none() {
            return ASSUMED_BUCKETS;
        }
        let buckets = || {
            let period = Period::parse(self.argument(field, "period")?.as_str()?)?;
            let range = self.argument(field, "range")?;
            let day = |end: &str| self.of_object(range, end)?.as_str()?.parse::<NaiveDate>().ok();
            let (from, to) = (day("from")?, day("to")?);
            if !Day::accepts(from) || !Day::accepts(to) {
                return None;
            }
            Some(period.max_buckets(DayRange::new(from.into(), to.into())?))
        };
        buckets().unwrap_or(LIMITS.buckets).min(LIMITS.buckets)
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

/// A value as it stands in the query or among its variables. Borrowed: a list of variables may be long, and be used often.
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

    /// Of a text, or of an enum.
    fn as_str(self) -> Option<&'a str> {
        match self {
            Self::Written(Value::String(text)) | Self::Given(ConstValue::String(text)) => Some(text),
            Self::Written(Value::Enum(word)) | Self::Given(ConstValue::Enum(word)) => Some(word),
            _ => None,
        }
    }

    /// Of a list; what is none is a list of one.
    fn length(self) -> usize {
        match self {
            Self::Written(Value::List(list)) => list.len(),
            Self::Given(ConstValue::List(list)) => list.len(),
            _ => 1,
        }
    }
}
