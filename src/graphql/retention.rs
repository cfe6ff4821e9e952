//! Retention: who of the new patients of each unit came in which unit after.

use std::sync::Arc;

use async_graphql::{Context, ID, Object};

use super::cohort::Cohort;
use super::context;
use super::enums::Period;
use super::id::Id;
use super::scalars::Date;
use super::statistics::{DateRange, rate};
use crate::error::{Error, Result};
use crate::reporting::{ResolvedRetention, StatisticsRequest};
use crate::statistics::{Bucket, BucketRef, DayRange, WeekStart};

/// The retention of a question.
pub(super) struct Retention(pub(super) Arc<ResolvedRetention>);

/// Of the new patients of each unit, who came in which unit after: a triangle, each cell of which is a list.
#[Object]
impl Retention {
    /// An opaque ID, by which any server returns exactly these lists.
    pub(super) async fn id(&self, ctx: &Context<'_>) -> Result<ID> {
        context::services(ctx)?.reporting.persist_retention(&self.0).await?;
        Ok(Id::Retention(self.0.id).into())
    }

    /// The calendar unit of rows and cells.
    async fn period(&self) -> Period {
        self.0.resolved.snapshot.question().period.into()
    }

    /// The days of which patients are new.
    async fn range(&self) -> DateRange {
        self.0.resolved.snapshot.question().range.into()
    }

    /// The reference day: nothing dated after it counts.
    async fn as_of(&self) -> Date {
        self.0.resolved.snapshot.question().as_of.into()
    }

    /// The state of the data that was counted, as of Statistics.revision.
    async fn revision(&self) -> &str {
        &self.0.resolved.revision
    }

    /// A row for each unit of the range, in order.
    async fn rows(&self) -> Vec<RetentionRow> {
        let rows = (0..).take(self.0.cells.len());
        rows.filter_map(|row| RetentionRow::new(&self.0, row)).collect()
    }
}

/// The horizon of a question that gives none.
pub(crate) const DEFAULT_HORIZON: i32 = 12;

/// Refuses a horizon that makes too many cells.
fn check_horizon(ctx: &Context<'_>, request: &StatisticsRequest, horizon: i32) -> Result<u32> {
    let max = context::limits(ctx)?.max_retention_cells;
    // Weeks may be one more or fewer, by the day that they start on.
    let rows = Bucket::all(request.period, request.range, WeekStart::Monday, request.range.to).len();
    let horizon = u32::try_from(horizon).map_err(|_| Error::input("horizon", "must be 0 or more"))?;
    let cells = rows.saturating_mul(horizon as usize + 1);
    if cells <= max {
        return Ok(horizon);
    }
    Err(Error::input(
        "horizon",
        format!(
            "{rows} units of the range with {horizon} after each have up to {cells} cells, at most {max} are allowed: take fewer, or a shorter range"
        ),
    ))
}

/// The retention of a question.
pub(super) async fn retention(ctx: &Context<'_>, request: StatisticsRequest, horizon: i32) -> Result<Retention> {
    let horizon = check_horizon(ctx, &request, horizon)?;
    let hospital = context::viewer(ctx)?.hospital;
    let reporting = &context::services(ctx)?.reporting;
    Ok(Retention(reporting.retention(hospital, request, horizon).await?))
}

/// A row.
pub(super) struct RetentionRow {
    retention: Arc<ResolvedRetention>,
    row: u32,
    bounds: DayRange,
}

impl RetentionRow {
    fn new(retention: &Arc<ResolvedRetention>, row: u32) -> Option<Self> {
        Some(Self {
            retention: Arc::clone(retention),
            row,
            bounds: retention.resolved.snapshot.bucket(BucketRef::At(row))?.bounds,
        })
    }
}

/// The new patients of a unit, and who of them came again when.
#[Object]
impl RetentionRow {
    /// The first day of the whole unit.
    async fn start(&self) -> Date {
        self.bounds.from.into()
    }

    /// The last day of the whole unit.
    async fn end(&self) -> Date {
        self.bounds.to.into()
    }

    /// The patients who are NEW in the unit, as in Statistics of the same arguments.
    async fn new_patients(&self) -> Cohort {
        Cohort(self.retention.new_patients(self.row))
    }

    /// The unit itself first, then those after it up to the horizon, also beyond the range; units that begin after asOf are left out. By DAY,
    /// without the unit itself.
    async fn cells(&self) -> Vec<RetentionCell> {
        let places = 0..self.retention.cells.row(self.row as usize).len();
        let cell = |place| RetentionCell {
            retention: Arc::clone(&self.retention),
            row: self.row,
            place,
        };
        places.map(cell).collect()
    }
}

/// A cell.
pub(super) struct RetentionCell {
    retention: Arc<ResolvedRetention>,
    row: u32,
    /// Among the cells of the row.
    place: usize,
}

impl RetentionCell {
    fn cell(&self) -> Result<&crate::statistics::Cell> {
        let cell = self.retention.cells.row(self.row as usize).get(self.place);
        cell.ok_or_else(|| Error::Internal("a row of a retention has no such cell".to_owned()))
    }
}

/// Who of a row's new patients came in a unit.
#[Object]
impl RetentionCell {
    /// Units after the row's; 0 for its own.
    async fn offset(&self) -> Result<u32> {
        Ok(self.cell()?.offset)
    }

    /// The first day of the whole unit.
    async fn start(&self) -> Result<Date> {
        Ok(self.cell()?.bounds.from.into())
    }

    /// The last day of the whole unit.
    async fn end(&self) -> Result<Date> {
        Ok(self.cell()?.bounds.to.into())
    }

    /// The row's new patients with an attended visit here that passes the filter, up to asOf; for offset 0, on a later day than the first.
    async fn returned(&self, ctx: &Context<'_>) -> Result<Cohort> {
        let reporting = &context::services(ctx)?.reporting;
        Ok(Cohort(reporting.cell(&self.retention, self.row, self.place)?))
    }

    /// The share of returned in newPatients, in patients, 0 to 1; null if there are no new patients.
    async fn rate(&self) -> Result<Option<f64>> {
        let new = self.retention.new_patients(self.row).patient_count();
        Ok(rate(self.cell()?.patient_count(), new))
    }

    /// Whether the row's unit is complete and this one lies on or before asOf: waiting changes nothing.
    async fn complete(&self) -> Result<bool> {
        let snapshot = &self.retention.resolved.snapshot;
        let row = snapshot.bucket(BucketRef::At(self.row));
        let whole = row.is_some_and(Bucket::complete);
        Ok(whole && self.cell()?.bounds.to <= snapshot.question().as_of)
    }
}
