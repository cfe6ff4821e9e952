//! A hospital's revision and counts, which the triggers keep, and what else a statistics question starts from.

use sea_orm::{ConnectionTrait, DbErr};

use super::Store;
use super::complete::incomplete;
use crate::error::{Error, Result};
use crate::statistics::{Definition, WeekStart};

/// A point in the order of a hospital's changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Revision {
    /// Grows with each change.
    pub number: i64,
    /// Random, so that it differs where a number comes again after a backup was restored.
    pub tag: i64,
}

impl Revision {
    /// The opaque text that the API has for it.
    #[must_use]
    pub fn text(self) -> String {
        format!("{:x}-{:016x}", self.number, self.tag)
    }

    /// Parses such a text; none where it is malformed.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (number, tag) = text.split_once('-')?;
        Some(Self {
            number: i64::from_str_radix(number, 16).ok()?,
            tag: u64::from_str_radix(tag, 16).ok()?.cast_signed(),
        })
    }
}

/// What a statistics question starts from, read by one statement.
#[derive(Clone, Debug)]
pub struct HospitalState {
    pub revision: Revision,
    /// The tag that the feed has for the number that was asked about; none where it does not reach back to it.
    pub seen_tag: Option<i64>,
    /// The hospital's visits, as the triggers count them.
    pub visit_count: u64,
    /// The definition in force.
    pub definition: Definition,
    /// Since when it is in force.
    pub effective_from: sea_orm::prelude::DateTimeUtc,
    pub time_zone: chrono_tz::Tz,
    pub week_start: WeekStart,
}

impl HospitalState {
    /// The definition in force, and since when it is.
    #[must_use]
    pub const fn rules(&self) -> (Definition, Option<sea_orm::prelude::DateTimeUtc>) {
        (self.definition, Some(self.effective_from))
    }
}

impl Store {
    /// The hospital's state now. `seen` is the number of a revision whose tag to look up; 0 for none.
    ///
    /// # Errors
    /// UNAUTHENTICATED where the hospital does not exist. BEING_RESTORED where rows of it are missing. Where the database fails.
    pub async fn hospital_state(&self, hospital: i64, seen: i64) -> Result<HospitalState> {
        self.hospital_state_in(&self.readers, hospital, seen).await
    }

    pub(super) async fn hospital_state_in(
        &self,
        connection: &impl ConnectionTrait,
        hospital: i64,
        seen: i64,
    ) -> Result<HospitalState> {
        // Outer joins, to tell rows that are missing during a restore from a hospital that does not exist.
        let mut sql = self.sql(
            "SELECT r.number, r.visit_count, c.tag, s.tag AS seen_tag, h.time_zone, h.week_start, d.version,
                d.churn_after_days, d.overdue_after_days, d.effective_from
            FROM hospital h
            LEFT JOIN revision r ON r.hospital_id = h.id
            LEFT JOIN change_feed c ON c.hospital_id = h.id AND c.number = r.number
            LEFT JOIN definition d ON d.hospital_id = h.id
                AND d.version = (SELECT MAX(version) FROM definition WHERE hospital_id = h.id)
            LEFT JOIN change_feed s ON s.hospital_id = h.id AND s.number = ",
        );
        sql.bind(seen).push(" WHERE h.id = ").bind(hospital);
        let Some(row) = connection.query_one_raw(sql.done()).await? else {
            return Err(self.missing_hospital(connection).await?);
        };
        let (number, tag): (Option<i64>, Option<i64>) = (row.try_get("", "number")?, row.try_get("", "tag")?);
        let version: Option<i32> = row.try_get("", "version")?;
        let (Some(number), Some(tag), Some(version)) = (number, tag, version) else {
            return Err(incomplete(
                hospital,
                "rows of revision, change_feed or definition are missing",
            ));
        };
        let zone: String = row.try_get("", "time_zone")?;
        let week_start: String = row.try_get("", "week_start")?;
        Ok(HospitalState {
            revision: Revision { number, tag },
            seen_tag: row.try_get("", "seen_tag")?,
            visit_count: row.try_get::<i64>("", "visit_count")?.unsigned_abs(),
            definition: Definition {
                version,
                churn_after_days: row.try_get("", "churn_after_days")?,
                overdue_after_days: row.try_get("", "overdue_after_days")?,
            },
            effective_from: row.try_get("", "effective_from")?,
            time_zone: zone
                .parse()
                .map_err(|_| DbErr::Type(format!("hospital.time_zone holds the unknown time zone {zone:?}")))?,
            week_start: super::hospital::week_start(&week_start)?,
        })
    }

    /// The error for a hospital without a row. While a backup is restored, the table has no rows at all.
    async fn missing_hospital(&self, connection: &impl ConnectionTrait) -> Result<Error> {
        let any = self.sql("SELECT 1 FROM hospital LIMIT 1").done();
        Ok(match connection.query_one_raw(any).await? {
            Some(_) => {
                Error::Unauthenticated("the hospital of this session no longer exists: sign in again".to_owned())
            }
            None => Error::BeingRestored,
        })
    }

    /// The number of the hospital's ACTIVE patients, as the triggers count them.
    ///
    /// # Errors
    /// BEING_RESTORED where the row with the count is missing. Where the database fails.
    pub async fn patient_count(&self, hospital: i64) -> Result<u64> {
        self.stored_count(hospital, "patient_count").await
    }

    /// The number of the hospital's visits, as the triggers count them.
    ///
    /// # Errors
    /// BEING_RESTORED where the row with the count is missing. Where the database fails.
    pub async fn visit_count(&self, hospital: i64) -> Result<u64> {
        self.stored_count(hospital, "visit_count").await
    }

    async fn stored_count(&self, hospital: i64, column: &str) -> Result<u64> {
        let mut sql = self.sql(&format!("SELECT {column} FROM revision WHERE hospital_id = "));
        sql.bind(hospital);
        let row = self.readers.query_one_raw(sql.done()).await?;
        let row = row.ok_or_else(|| incomplete(hospital, "its revision row is missing"))?;
        Ok(row.try_get_by_index::<i64>(0)?.unsigned_abs())
    }
}
