//! What goes wrong meanwhile: a server is killed, and a backup is restored.

use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rollcall::statistics::VisitStatus;
use sea_orm::{ConnectionTrait as _, DbErr, TransactionTrait as _};

use crate::Held;
use crate::asking::ask;
use crate::site::{Site, failed};
use crate::world::{self, rows};
use crate::writing::{lock_revision, pause};

/// Waits a while, and lets something happen.
pub async fn strike(site: &Site<'_>, random: &mut StdRng) -> Held {
    let wait = random.random_range(300..2_000);
    for _ in 0..wait / 50 {
        if site.goes_on() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    if random.random_ratio(1, 3) {
        return put_the_past_back(site, random).await;
    }
    site.servers.kill();
    pause(random, 300).await;
    site.servers.start_again();
    site.figures.count("servers killed and started again", 1);
    Ok(())
}

/// As a restored backup does it: a change that was seen never was, and its number goes to another one.
async fn put_the_past_back(site: &Site<'_>, random: &mut StdRng) -> Held {
    {
        let _alone = site.past.write().await;
        let visits = rows(&site.sql, "SELECT id, status FROM visit").await.map_err(failed)?;
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
        let seen = world::number(&site.revision().await?);
        let then = status(&was, random);
        site.sql.execute_unprepared(&set(then)).await.map_err(failed)?;
        site.servers.both_look(&site.figures).await?;
        let restore = async || -> Result<(), DbErr> {
            let restored = site.sql.begin().await?;
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
        site.sql
            .execute_unprepared(&set(status(&was, random)))
            .await
            .map_err(failed)?;
    }
    site.figures.count("times that the past was put back", 1);
    ask(site, random).await
}
