//! The definition, and which snapshots are kept for good.

use async_graphql::{Context, ID, InputObject, Object, SimpleObject};

use super::{BadFields, execute, line};
use crate::error::{Error, Result};
use crate::graphql::hospital::{StatisticsDefinition, definition_days};
use crate::graphql::scalars::Date;
use crate::graphql::statement::Statement;
use crate::graphql::statistics::Statistics;
use crate::graphql::{access, cohort_digest, context, id};
use crate::reporting::SnapshotId;
use crate::store::{Command, PinSnapshot, UnpinSnapshot, UpdateDefinition, definition_of};

#[derive(Default)]
pub struct StatisticsMutation;

/// The rules to publish.
#[derive(InputObject)]
struct UpdateDefinitionInput {
    /// The StatisticsDefinition.version that the change is based on; if it is no longer current, nothing changes and the error is CONFLICT.
    version: i32,
    /// A new patient without a visit for this many days or more at asOf is suspected of having churned. 1–36,500.
    churn_after_days: i32,
    /// A visit still BOOKED this many days after its date counts as a no-show, 1–36,500; if null or absent, only NO_SHOW does.
    overdue_after_days: Option<i32>,
    /// A key of 1–255 characters that the client chooses: a mutation repeated with the same key is executed once. Remembered for 7 days.
    idempotency_key: Option<String>,
}

/// The rules in force.
#[derive(SimpleObject)]
struct UpdateDefinitionPayload {
    /// The rules in force; a new version if they changed.
    definition: StatisticsDefinition,
}

/// The snapshot.
#[derive(InputObject)]
struct PinSnapshotInput {
    /// A Statistics.id.
    id: ID,
    /// What to call it, 1–255 characters. Without one, it has no label: also where it was pinned with one before.
    label: Option<String>,
    /// A key of 1–255 characters that the client chooses: a mutation repeated with the same key is executed once. Remembered for 7 days.
    idempotency_key: Option<String>,
}

/// A pinned snapshot.
#[derive(SimpleObject)]
struct PinSnapshotPayload {
    /// The snapshot.
    statistics: Statistics,
}

/// The snapshot.
#[derive(InputObject)]
struct UnpinSnapshotInput {
    /// A Statistics.id.
    id: ID,
    /// A key of 1–255 characters that the client chooses: a mutation repeated with the same key is executed once. Remembered for 7 days.
    idempotency_key: Option<String>,
}

/// A snapshot that is no longer pinned.
#[derive(SimpleObject)]
struct UnpinSnapshotPayload {
    /// The snapshot.
    statistics: Statistics,
}

/// The month to seal.
#[derive(InputObject)]
struct SealMonthInput {
    /// Any day of it. The month is over, and the months before it since the first sealed one are sealed.
    month: Date,
    /// A key of 1–255 characters that the client chooses: a mutation repeated with the same key is executed once. Remembered for 7 days.
    idempotency_key: Option<String>,
}

/// A sealed month.
#[derive(SimpleObject)]
struct SealMonthPayload {
    /// The statement.
    statement: Statement,
}

#[Object(guard = "access::console")]
impl StatisticsMutation {
    /// Publishes rules as a new version. New statistics use it; snapshots keep theirs. Use previewDefinition to see what it
    /// would change. For ADMIN.
    async fn update_definition(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The rules to publish.")] input: UpdateDefinitionInput,
    ) -> Result<UpdateDefinitionPayload> {
        let mut bad = BadFields::default();
        let command = UpdateDefinition {
            version: input.version,
            churn_after_days: bad.check(definition_days("input.churnAfterDays", input.churn_after_days))?,
            overdue_after_days: bad.check(
                input
                    .overdue_after_days
                    .map(|number| definition_days("input.overdueAfterDays", number))
                    .transpose(),
            )?,
        };
        let version = execute(ctx, bad, &command, input.idempotency_key).await?;
        let hospital = context::viewer(ctx)?.hospital;
        let version = i32::try_from(version).unwrap_or(i32::MAX);
        let row = context::services(ctx)?.store.definition(hospital, version).await?;
        let row = row.ok_or_else(|| Error::Internal("a definition that was just published is gone".to_owned()))?;
        Ok(UpdateDefinitionPayload {
            definition: StatisticsDefinition::new(&definition_of(&row), row.effective_from),
        })
    }

    /// Pins a snapshot, so that it does not expire, and labels it. For ADMIN and CLINICIAN.
    async fn pin_snapshot(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The snapshot to pin.")] input: PinSnapshotInput,
    ) -> Result<PinSnapshotPayload> {
        let mut bad = BadFields::default();
        let id = bad.take(id::statistics("input.id", &input.id))?;
        let label = input.label.map(|label| line("input.label", &label));
        let label = bad.check(label.transpose())?;
        let pin = |id: String| PinSnapshot { id, label };
        let statistics = change_pin(ctx, bad, id, pin, input.idempotency_key).await?;
        Ok(PinSnapshotPayload { statistics })
    }

    /// Unpins a snapshot: its time to expiry starts again. For ADMIN and CLINICIAN.
    async fn unpin_snapshot(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The snapshot to unpin.")] input: UnpinSnapshotInput,
    ) -> Result<UnpinSnapshotPayload> {
        let mut bad = BadFields::default();
        let id = bad.take(id::statistics("input.id", &input.id))?;
        let unpin = |id: String| UnpinSnapshot { id };
        let statistics = change_pin(ctx, bad, id, unpin, input.idempotency_key).await?;
        Ok(UnpinSnapshotPayload { statistics })
    }

    /// Seals a month: a statement of its statistics by DAY, as of today, with a digest that covers that of the month before. Changes nothing,
    /// and cannot be undone. For ADMIN.
    async fn seal_month(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The month to seal.")] input: SealMonthInput,
    ) -> Result<SealMonthPayload> {
        let viewer = context::viewer(ctx)?;
        let mut bad = BadFields::default();
        let month = bad.take(input.month.day("input.month"))?;
        let key = input.idempotency_key.map(|key| line("input.idempotencyKey", &key));
        let key = bad.check(key.transpose())?;
        let Some(month) = month else { return Err(bad.error()) };
        bad.finish()?;
        let reporting = &context::services(ctx)?.reporting;
        let id = reporting
            .seal(viewer, month.date(), key.as_deref(), cohort_digest)
            .await?;
        let statement = Statement::find(ctx, id).await?;
        let statement =
            statement.ok_or_else(|| Error::Internal("a statement that was just sealed is gone".to_owned()))?;
        Ok(SealMonthPayload { statement })
    }
}

/// Executes a command about the pin of a snapshot, unless a field of the input was refused.
async fn change_pin<C: Command>(
    ctx: &Context<'_>,
    mut bad: BadFields,
    id: Option<SnapshotId>,
    command: impl FnOnce(String) -> C,
    idempotency_key: Option<String>,
) -> Result<Statistics> {
    let viewer = context::viewer(ctx)?;
    let key = idempotency_key.map(|key| line("input.idempotencyKey", &key));
    let key = bad.check(key.transpose())?;
    let Some(id) = id else { return Err(bad.error()) };
    bad.finish()?;
    let resolved = context::services(ctx)?
        .reporting
        .pin(viewer, id, &command(id.to_string()), key.as_deref())
        .await?;
    resolved
        .map(Statistics::from)
        .ok_or_else(|| Error::unknown_id("input.id", "snapshot"))
}
