//! The definition, and which snapshots are kept for good.

use async_graphql::{Context, ID, InputObject, Object, SimpleObject};

use super::{BadFields, execute, line};
use crate::error::{Error, Result};
use crate::graphql::context;
use crate::graphql::hospital::StatisticsDefinition;
use crate::graphql::id;
use crate::graphql::statistics::Statistics;
use crate::statistics::Definition;
use crate::store::{UpdateDefinition, definition_of};

#[derive(Default)]
pub struct StatisticsMutation;

/// Which rules are to hold.
#[derive(InputObject)]
struct UpdateDefinitionInput {
    /// The StatisticsDefinition.version that was seen; where it is another one by now, nothing changes and CONFLICT says so.
    version: i32,
    /// A new patient silent for this many days or more, at asOf, is suspected of having left. 1 to 36,500.
    churn_after_days: i32,
    /// A BOOKED visit this many days past its date counts as a no-show, 1 to 36,500; null or absent: only NO_SHOW does.
    overdue_after_days: Option<i32>,
    /// 1 to 255 characters of the sender's making: a change that is sent again under its key is made once. Good for 7 days.
    idempotency_key: Option<String>,
}

/// The rules that hold.
#[derive(SimpleObject)]
struct UpdateDefinitionPayload {
    /// A new version, where the rules are others than before.
    definition: StatisticsDefinition,
}

/// Which snapshot.
#[derive(InputObject)]
struct PinSnapshotInput {
    /// A Statistics.id.
    id: ID,
    /// 1 to 255 characters of the sender's making: a change that is sent again under its key is made once. Good for 7 days.
    idempotency_key: Option<String>,
}

/// A snapshot that is kept for good.
#[derive(SimpleObject)]
struct PinSnapshotPayload {
    /// The snapshot.
    statistics: Statistics,
}

/// Which snapshot.
#[derive(InputObject)]
struct UnpinSnapshotInput {
    /// A Statistics.id.
    id: ID,
    /// 1 to 255 characters of the sender's making: a change that is sent again under its key is made once. Good for 7 days.
    idempotency_key: Option<String>,
}

/// A snapshot that expires again.
#[derive(SimpleObject)]
struct UnpinSnapshotPayload {
    /// The snapshot.
    statistics: Statistics,
}

#[Object]
impl StatisticsMutation {
    /// Publishes rules as a new version. Questions asked from now on are counted by it; snapshots keep theirs. What it would
    /// change, previewDefinition shows before. For ADMIN.
    async fn update_definition(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The rules.")] input: UpdateDefinitionInput,
    ) -> Result<UpdateDefinitionPayload> {
        let mut bad = BadFields::default();
        let command = UpdateDefinition {
            version: input.version,
            churn_after_days: bad.check(days("input.churnAfterDays", input.churn_after_days))?,
            overdue_after_days: bad.check(
                input
                    .overdue_after_days
                    .map(|number| days("input.overdueAfterDays", number))
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

    /// Keeps a snapshot for good: it does not expire. For ADMIN and CLINICIAN.
    async fn pin_snapshot(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which snapshot.")] input: PinSnapshotInput,
    ) -> Result<PinSnapshotPayload> {
        let statistics = pin(ctx, &input.id, true, input.idempotency_key).await?;
        Ok(PinSnapshotPayload { statistics })
    }

    /// Lets a pinned snapshot expire again, counted from now. For ADMIN and CLINICIAN.
    async fn unpin_snapshot(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which snapshot.")] input: UnpinSnapshotInput,
    ) -> Result<UnpinSnapshotPayload> {
        let statistics = pin(ctx, &input.id, false, input.idempotency_key).await?;
        Ok(UnpinSnapshotPayload { statistics })
    }
}

async fn pin(ctx: &Context<'_>, id: &ID, pinned: bool, idempotency_key: Option<String>) -> Result<Statistics> {
    let viewer = context::viewer(ctx)?;
    let mut bad = BadFields::default();
    let id = bad.take(id::statistics("input.id", id))?;
    let key = idempotency_key.map(|key| line("input.idempotencyKey", &key));
    let key = bad.check(key.transpose())?;
    let Some(id) = id else { return Err(bad.error()) };
    bad.finish()?;
    let resolved = context::services(ctx)?
        .reporting
        .pin(viewer, id, pinned, key.as_deref())
        .await?;
    resolved
        .map(Statistics)
        .ok_or_else(|| Error::unknown_id("input.id", "snapshot"))
}

/// A number of days as a definition takes it.
pub(in crate::graphql) fn days(argument: &str, days: i32) -> Result<i32> {
    if (1..=Definition::MAX_DAYS).contains(&days) {
        return Ok(days);
    }
    let message = format!("1 to {} days are wanted", Definition::MAX_DAYS);
    Err(Error::input(argument, message))
}
