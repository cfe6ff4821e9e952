//! Lists that are derived from others: narrowed lists and sets.

use std::collections::HashMap;

use async_graphql::{Context, ID, InputObject, OneofObject, SimpleObject};

use super::cohort::Cohort;
use super::enums::Sex;
use super::statistics::not_empty;
use super::{context, id, node};
use crate::error::{Error, Result};
use crate::reporting::{self, CohortId, PatientConditions, Recipe, SetRecipe};

/// What a derived list is made of.
#[derive(SimpleObject)]
pub(super) struct Derivation {
    /// How, in English; the lists are named by their place among sources, from 1.
    text: String,
    /// The lists that it was made of, as counted then, each once.
    sources: Vec<Cohort>,
}

impl Derivation {
    pub(super) async fn of(ctx: &Context<'_>, cohort: &reporting::Cohort) -> Result<Option<Self>> {
        let reporting::Cohort::Derived(derived) = cohort else {
            return Ok(None);
        };
        Ok(Some(Self {
            text: text(&derived.recipe),
            sources: sources(ctx, &derived.recipe).await?,
        }))
    }
}

/// What a list is made of, in words.
pub(super) fn text(recipe: &Recipe) -> String {
    let numbers: HashMap<CohortId, usize> = recipe.sources().into_iter().zip(1..).collect();
    recipe.text(|id| format!("list {}", numbers.get(&id).copied().unwrap_or_default()))
}

/// The lists that a list was made of.
pub(super) async fn sources(ctx: &Context<'_>, recipe: &Recipe) -> Result<Vec<Cohort>> {
    let mut sources = Vec::new();
    for id in recipe.sources() {
        let found = node::cohort(ctx, id).await?;
        sources.push(found.ok_or_else(|| Error::Internal("a list that another is made of is gone".to_owned()))?);
    }
    Ok(sources)
}

/// Conditions of patients; all that are given must hold.
#[derive(InputObject)]
pub(super) struct CohortPatientFilter {
    /// One of these; an empty list is refused.
    sexes: Option<Vec<Sex>>,
    /// At least so old on asOf, in years, 0–150: the year of asOf less the year of birth. Not where the year of birth is unknown.
    age_from: Option<i32>,
    /// At most so old on asOf, in years, 0–150; not less than ageFrom.
    age_to: Option<i32>,
    /// With a phone; with false, without one.
    has_phone: Option<bool>,
    /// With a TENTATIVE or BOOKED visit today or later; with false, without one.
    has_next_visit: Option<bool>,
    /// With an ACTIVE record, and no wish not to be contacted; with false, the others.
    may_be_contacted: Option<bool>,
}

/// The oldest age that can be asked for, in years.
const MAX_AGE: i32 = 150;

impl CohortPatientFilter {
    fn conditions(self, ctx: &Context<'_>) -> Result<PatientConditions> {
        not_empty(context::limits(ctx)?, "filter.sexes", self.sexes.as_deref())?;
        for (argument, age) in [("filter.ageFrom", self.age_from), ("filter.ageTo", self.age_to)] {
            if age.is_some_and(|age| !(0..=MAX_AGE).contains(&age)) {
                return Err(Error::input(argument, format!("must be 0–{MAX_AGE}")));
            }
        }
        if let (Some(from), Some(to)) = (self.age_from, self.age_to)
            && from > to
        {
            return Err(Error::input(
                "filter.ageTo",
                format!("must not be less than ageFrom, {from}"),
            ));
        }
        let sexes = self.sexes.map(|sexes| {
            let mut sexes: Vec<crate::records::Sex> = sexes.into_iter().map(Into::into).collect();
            sexes.sort_unstable();
            sexes.dedup();
            sexes
        });
        Ok(PatientConditions {
            sexes,
            age_from: self.age_from,
            age_to: self.age_to,
            has_phone: self.has_phone,
            has_next_visit: self.has_next_visit,
            may_be_contacted: self.may_be_contacted,
        })
    }
}

/// The patients of a list who meet the conditions, as a list of its own.
pub(super) async fn narrowed(ctx: &Context<'_>, of: &reporting::Cohort, filter: CohortPatientFilter) -> Result<Cohort> {
    let conditions = filter.conditions(ctx)?;
    context::reserve_derived(ctx)?;
    check_depth(ctx, "filter", of.depth() + 1)?;
    let today = context::today(ctx).await?;
    let reporting = &context::services(ctx)?.reporting;
    Ok(Cohort(reporting.narrowed(of, conditions, today).await?))
}

/// Refuses more derivations on one another than are allowed.
pub(super) fn check_depth(ctx: &Context<'_>, argument: &str, depth: usize) -> Result<()> {
    let max = context::limits(ctx)?.max_derivations;
    if depth <= max {
        return Ok(());
    }
    Err(Error::input(
        argument,
        format!(
            "this list would be {depth} derivations on one another, at most {max} are allowed: derive it from a list of fewer"
        ),
    ))
}

/// A set of lists: exactly one of the fields.
#[derive(OneofObject)]
pub(super) enum CohortSetInput {
    /// The list with this Cohort.id.
    CohortId(ID),
    /// The patients of any of these; at least one.
    AnyOf(Vec<CohortSetInput>),
    /// The patients of all of these; at least one.
    AllOf(Vec<CohortSetInput>),
    /// The patients of one who are not in another.
    ButNot(Box<CohortDifferenceInput>),
}

/// A difference of two sets.
#[derive(InputObject)]
pub(super) struct CohortDifferenceInput {
    /// Whose patients and visits it has.
    of: CohortSetInput,
    /// Whose patients it has not.
    without: CohortSetInput,
}

/// Reads a set: the ids of its lists, each with the path of the argument that named it first.
struct SetReader {
    paths: Vec<(CohortId, String)>,
    lists: usize,
    max_depth: usize,
    max_lists: usize,
}

impl SetReader {
    fn read(&mut self, argument: &str, set: &CohortSetInput, depth: usize) -> Result<SetRecipe> {
        if depth > self.max_depth {
            return Err(Error::input(
                argument,
                format!(
                    "is nested deeper than the {} derivations that a list may have",
                    self.max_depth
                ),
            ));
        }
        Ok(match set {
            CohortSetInput::CohortId(id) => {
                let argument = format!("{argument}.cohortId");
                self.lists += 1;
                if self.lists > self.max_lists {
                    return Err(Error::input(
                        argument,
                        format!("a set has at most {} lists", self.max_lists),
                    ));
                }
                let id = id::cohort(&argument, id)?;
                if !self.paths.iter().any(|(known, _)| *known == id) {
                    self.paths.push((id, argument));
                }
                SetRecipe::List(id)
            }
            CohortSetInput::AnyOf(parts) => {
                SetRecipe::AnyOf(self.read_all(&format!("{argument}.anyOf"), parts, depth)?)
            }
            CohortSetInput::AllOf(parts) => {
                SetRecipe::AllOf(self.read_all(&format!("{argument}.allOf"), parts, depth)?)
            }
            CohortSetInput::ButNot(difference) => {
                let mut part = |name, set| self.read(&format!("{argument}.butNot.{name}"), set, depth + 1);
                let of = part("of", &difference.of)?;
                SetRecipe::ButNot(Box::new(of), Box::new(part("without", &difference.without)?))
            }
        })
    }

    fn read_all(&mut self, argument: &str, parts: &[CohortSetInput], depth: usize) -> Result<Vec<SetRecipe>> {
        if parts.is_empty() {
            return Err(Error::input(argument, "an empty list makes no set: name at least one"));
        }
        let parts = parts.iter().enumerate();
        parts
            .map(|(place, part)| self.read(&format!("{argument}.{place}"), part, depth + 1))
            .collect()
    }
}

/// The set of lists that an argument describes.
pub(super) async fn cohort_set(ctx: &Context<'_>, of: CohortSetInput) -> Result<Cohort> {
    let limits = context::limits(ctx)?;
    let mut reader = SetReader {
        paths: Vec::new(),
        lists: 0,
        max_depth: limits.max_derivations,
        max_lists: limits.max_set_lists,
    };
    let set = reader.read("of", &of, 0)?;
    context::reserve_derived(ctx)?;
    let hospital = context::viewer(ctx)?.hospital;
    let reporting = &context::services(ctx)?.reporting;
    let mut sources = Vec::with_capacity(reader.paths.len());
    for (id, argument) in reader.paths {
        let found = reporting
            .open(hospital, id)
            .await
            .map_err(|error| error.of_argument(&argument))?;
        let source = found.ok_or_else(|| Error::unknown_id(argument.as_str(), "cohort"))?;
        check_depth(ctx, &argument, set.depth().max(1) + source.depth())?;
        sources.push(source);
    }
    Ok(Cohort(reporting.combined(set, sources).await?))
}
