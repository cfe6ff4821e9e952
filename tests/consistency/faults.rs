//! Injected faults: killed servers and restored backups.

use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rollcall::statistics::VisitStatus;
use sea_orm::{ConnectionTrait as _, DbErr, TransactionTrait as _};
use test_support::Checked;

use crate::context::{RunContext, failed};
use crate::dataset::{self, rows};
use crate::queries;
use crate::writes::{lock_revision, pause};

/// Waits, then injects a random fault.
pub async fn inject(ctx: &RunContext<'_>, random: &mut StdRng) -> Checked {
    let wait = random.random_range(300..2_000);
    for _ in 0..wait / 50 {
        if ctx.is_running() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    if random.random_ratio(1, 3) {
        return restore_backup(ctx, random).await;
    }
    ctx.servers.kill();
    pause(random, 300).await;
    ctx.servers.restart();
    ctx.counters.count("servers killed and started again", 1);
    Ok(())
}

/// Restores a backup: a change that servers have seen is undone, and its revision number is used again.
async fn restore_backup(ctx: &RunContext<'_>, random: &mut StdRng) -> Checked {
    {
        let _guard = ctx.restore_lock.write().await;
        let visits = rows(&ctx.sql, "SELECT id, status FROM visit").await.map_err(failed)?;
        let Some(visit) = visits.choose(random) else {
            return Ok(());
        };
        let id: i64 = visit.try_get_by_index(0).map_err(failed)?;
        let was: String = visit.try_get_by_index(1).map_err(failed)?;
        let status = |but: &str, random: &mut StdRng| {
            let others: Vec<_> = VisitStatus::ALL
                .iter()
                .map(|status| status.as_str())
                .filter(|&word| word != but)
                .collect();
            *others.choose(random).unwrap()
        };
        let set = |status: &str| format!("UPDATE visit SET status = '{status}' WHERE id = {id}");
        let seen = dataset::number(&ctx.revision().await?);
        let then = status(&was, random);
        ctx.sql.execute_unprepared(&set(then)).await.map_err(failed)?;
        ctx.servers.query_both(&ctx.counters).await?;
        let restore = async || -> Result<(), DbErr> {
            let restored = ctx.sql.begin().await?;
            lock_revision(&restored).await?;
            for statement in [
                &set(&was),
                &format!("DELETE FROM change_feed WHERE number > {seen}"),
                &format!("DELETE FROM visit_change WHERE number > {seen}"),
                &format!("UPDATE revision SET number = {seen}"),
            ] {
                restored.execute_unprepared(statement).await?;
            }
            restored.commit().await
        };
        restore().await.map_err(failed)?;
        ctx.sql
            .execute_unprepared(&set(status(&was, random)))
            .await
            .map_err(failed)?;
    }
    ctx.counters.count("backups restored", 1);
    queries::check(ctx, random).await
}
