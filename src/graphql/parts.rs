//! Breakdowns: a list divided into parts.

use async_graphql::{Context, SimpleObject};

use super::cohort::Cohort;
use super::context;
use super::derived::check_depth;
use super::enums::BreakdownDimension;
use super::hospital::{Department, Doctor};
use super::id::Id;
use crate::error::Result;
use crate::reporting::{self, PartDimension, PartKey};

/// A part of a list: a list of its own.
#[derive(SimpleObject)]
pub(super) struct CohortPart {
    /// An enum's word, an age band such as 20-29 or 90+, or the ID of a department or doctor; null if it is unknown, or a visit has none.
    /// It stays the same.
    key: Option<String>,
    /// The name of the department or doctor, or the key in words.
    label: String,
    /// Of DEPARTMENT.
    department: Option<Department>,
    /// Of DOCTOR.
    doctor: Option<Doctor>,
    /// The list.
    cohort: Cohort,
}

/// The parts of a list.
pub(super) async fn breakdown(
    ctx: &Context<'_>,
    of: &reporting::Cohort,
    by: BreakdownDimension,
) -> Result<Vec<CohortPart>> {
    let by = PartDimension::from(by);
    context::reserve_derived(ctx)?;
    check_depth(ctx, "by", of.depth() + 1)?;
    let found = context::services(ctx)?.reporting.breakdown(of, by).await?;
    let mut parts = Vec::with_capacity(found.len());
    for (key, cohort) in found {
        parts.push(part(ctx, by, key, Cohort(cohort)).await?);
    }
    Ok(parts)
}

async fn part(ctx: &Context<'_>, by: PartDimension, key: PartKey, cohort: Cohort) -> Result<CohortPart> {
    let (department, doctor) = match by {
        PartDimension::Department => (Department::load(ctx, key.0).await?, None),
        PartDimension::Doctor => (None, Doctor::load(ctx, key.0).await?),
        _ => (None, None),
    };
    let id = key.0.and_then(|id| match by {
        PartDimension::Department => Some(Id::Department(id).text()),
        PartDimension::Doctor => Some(Id::Doctor(id).text()),
        _ => None,
    });
    let name = department
        .as_ref()
        .map(|row| &row.0.name)
        .or(doctor.as_ref().map(|row| &row.0.name));
    let label = match (name, key.word(by)) {
        (Some(name), _) => name.clone(),
        (None, Some(word)) if by == PartDimension::AgeBand => word,
        (None, Some(word)) => sentence_case(&word),
        (None, None) => "Unknown".to_owned(),
    };
    Ok(CohortPart {
        key: id.or(key.word(by)),
        label,
        department,
        doctor,
        cohort,
    })
}

/// A word of an enum as a label: WALK_IN as "Walk in".
fn sentence_case(word: &str) -> String {
    let lower = word.replace('_', " ").to_lowercase();
    let mut letters = lower.chars();
    letters
        .next()
        .map(|first| first.to_uppercase().chain(letters).collect())
        .unwrap_or_default()
}
