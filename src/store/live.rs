//! What live answers depend on.

use chrono::NaiveDate;
use chrono_tz::Tz;
use sea_orm::ConnectionTrait as _;

use super::{Revision, Store};
use crate::error::Result;

/// What live answers of a hospital depend on: while it is the same, they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LiveState {
    /// None while the hospital's rows are missing: a backup is being restored.
    revision: Option<Revision>,
    /// The date in the hospital's time zone.
    today: Option<NaiveDate>,
}

impl Store {
    /// The state of a hospital, by one statement; none if it does not exist.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn live_state(&self, hospital: i64) -> Result<Option<LiveState>> {
        let mut sql = self.sql(
            "SELECT h.time_zone, r.number, c.tag
            FROM hospital h
            LEFT JOIN revision r ON r.hospital_id = h.id
            LEFT JOIN change_feed c ON c.hospital_id = h.id AND c.number = r.number
            WHERE h.id = ",
        );
        sql.bind(hospital);
        let Some(row) = self.readers.query_one_raw(sql.done()).await? else {
            return Ok(None);
        };
        let (number, tag): (Option<i64>, Option<i64>) = (row.try_get("", "number")?, row.try_get("", "tag")?);
        let time_zone: String = row.try_get("", "time_zone")?;
        let time_zone: Option<Tz> = time_zone.parse().ok();
        Ok(Some(LiveState {
            revision: number.zip(tag).map(|(number, tag)| Revision { number, tag }),
            today: time_zone.map(|time_zone| self.today(time_zone)),
        }))
    }
}
