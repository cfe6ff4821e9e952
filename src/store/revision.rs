//! The state of a hospital's data, as the database itself keeps it.

use sea_orm::{ConnectionTrait, DbErr};

use super::Store;
use crate::error::{Error, Result};
use crate::statistics::{Definition, WeekStart};

/// A point in the order of a hospital's changes. The tag is random: a restored backup cannot repeat it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Revision {
    pub number: i64,
    pub tag: i64,
}

impl Revision {
    /// The revision as the API shows it: opaque.
    #[must_use]
    pub fn text(self) -> String {
        format!("{:x}-{:016x}", self.number, self.tag)
    }

    /// The revision of such a text.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let (number, tag) = text.split_once('-')?;
        Some(Self {
            number: i64::from_str_radix(number, 16).ok()?,
            tag: u64::from_str_radix(tag, 16).ok()?.cast_signed(),
        })
    }
}

/// What a statistics question must know before anything else, from one statement.
#[derive(Clone, Debug)]
pub struct State {
    pub revision: Revision,
    /// The tag that now stands at the number asked about; none where the feed does not reach back to it.
    pub seen_tag: Option<i64>,
    pub definition: Definition,
    pub effective_from: sea_orm::prelude::DateTimeUtc,
    pub time_zone: chrono_tz::Tz,
    pub week_start: WeekStart,
}

impl Store {
    /// The hospital's state now; `seen` is the number of a revision that the asker knows.
    ///
    /// # Errors
    /// Where the database fails, or the hospital is gone.
    pub async fn state(&self, hospital: i64, seen: i64) -> Result<State> {
        self.state_in(&self.readers, hospital, seen).await
    }

    pub(super) async fn state_in(&self, connection: &impl ConnectionTrait, hospital: i64, seen: i64) -> Result<State> {
        let mut sql = self.sql(
            "SELECT r.number, c.tag, s.tag AS seen_tag, h.time_zone, h.week_start, d.version, d.churn_after_days,
                d.overdue_after_days, d.effective_from
            FROM revision r
            JOIN hospital h ON h.id = r.hospital_id
            JOIN change_feed c ON c.hospital_id = r.hospital_id AND c.number = r.number
            JOIN definition d ON d.hospital_id = r.hospital_id
                AND d.version = (SELECT MAX(version) FROM definition WHERE hospital_id = r.hospital_id)
            LEFT JOIN change_feed s ON s.hospital_id = r.hospital_id AND s.number = ",
        );
        sql.bind(seen).push(" WHERE r.hospital_id = ").bind(hospital);
        let row = connection
            .query_one_raw(sql.done())
            .await?
            .ok_or_else(|| Error::Unauthenticated("the hospital of this session is gone: sign in again".to_owned()))?;
        let zone: String = row.try_get("", "time_zone")?;
        let week_start: String = row.try_get("", "week_start")?;
        Ok(State {
            revision: Revision {
                number: row.try_get("", "number")?,
                tag: row.try_get("", "tag")?,
            },
            seen_tag: row.try_get("", "seen_tag")?,
            definition: Definition {
                version: row.try_get("", "version")?,
                churn_after_days: row.try_get("", "churn_after_days")?,
                overdue_after_days: row.try_get("", "overdue_after_days")?,
            },
            effective_from: row.try_get("", "effective_from")?,
            time_zone: zone
                .parse()
                .map_err(|_| DbErr::Type(format!("hospital.time_zone holds the unknown zone {zone:?}")))?,
            week_start: super::hospital::week_start(&week_start)?,
        })
    }

    /// Forgets the hospital's changes that lie further behind the newest than `keep`.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn prune_feed(&self, hospital: i64, keep: i64) -> Result<u64> {
        let mut sql = self.sql("DELETE FROM change_feed WHERE hospital_id = ");
        sql.bind(hospital)
            .push(" AND number < (SELECT number FROM revision WHERE hospital_id = ");
        sql.bind(hospital).push(") - ").bind(keep);
        Ok(self.writer.execute_raw(sql.done()).await?.rows_affected())
    }
}
