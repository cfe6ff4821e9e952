//! What live answers depend on, read for all hospitals with subscribers at once.

use std::collections::HashMap;

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
    /// The states of these hospitals, by one statement; those that do not exist are left out.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn live_states(&self, hospitals: &[i64]) -> Result<HashMap<i64, LiveState>> {
        let mut sql = self.sql(
            "SELECT h.id, h.time_zone, r.number, c.tag
            FROM hospital h
            LEFT JOIN revision r ON r.hospital_id = h.id
            LEFT JOIN change_feed c ON c.hospital_id = h.id AND c.number = r.number
            WHERE h.id",
        );
        sql.numbers(hospitals);
        let mut states = HashMap::new();
        for row in self.readers.query_all_raw(sql.done()).await? {
            let (number, tag): (Option<i64>, Option<i64>) = (row.try_get("", "number")?, row.try_get("", "tag")?);
            let time_zone: String = row.try_get("", "time_zone")?;
            let time_zone: Option<Tz> = time_zone.parse().ok();
            let state = LiveState {
                revision: number.zip(tag).map(|(number, tag)| Revision { number, tag }),
                today: time_zone.map(|time_zone| self.today(time_zone)),
            };
            states.insert(row.try_get("", "id")?, state);
        }
        Ok(states)
    }
}
