//! The state of a hospital's data, as the database itself keeps it.

use sea_orm::{ConnectionTrait, DbErr};

use super::Store;
use super::complete::incomplete;
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
    pub fn parse(text: &str) -> Option<Self> {
        let (number, tag) = text.split_once('-')?;
        Some(Self {
            number: i64::from_str_radix(number, 16).ok()?,
            tag: u64::from_str_radix(tag, 16).ok()?.cast_signed(),
        })
    }
}

/// What a statistics question must know before anything else, from one statement.
#[derive(Clone, Debug)]
pub struct HospitalState {
    pub revision: Revision,
    /// The tag that now stands at the number asked about; none where the feed does not reach back to it.
    pub seen_tag: Option<i64>,
    /// The hospital's visits, as the triggers count them.
    pub visit_count: u64,
    pub definition: Definition,
    pub effective_from: sea_orm::prelude::DateTimeUtc,
    pub time_zone: chrono_tz::Tz,
    pub week_start: WeekStart,
}

impl Store {
    /// The hospital's state now; `seen` is the number of a revision that the asker knows.
    ///
    /// # Errors
    /// BEING_RESTORED where the hospital's rows are not all there. Where the database fails, or the hospital is gone.
    pub async fn hospital_state(&self, hospital: i64, seen: i64) -> Result<HospitalState> {
        self.hospital_state_in(&self.readers, hospital, seen).await
    }

    pub(super) async fn hospital_state_in(
        &self,
        connection: &impl ConnectionTrait,
        hospital: i64,
        seen: i64,
    ) -> Result<HospitalState> {
        // By outer joins: what is missing while a backup is restored differs from a hospital that is gone.
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
            return Err(self.hospital_gone(connection).await?);
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
                .map_err(|_| DbErr::Type(format!("hospital.time_zone holds the unknown zone {zone:?}")))?,
            week_start: super::hospital::week_start(&week_start)?,
        })
    }

    /// Why a hospital has no row: the table is still empty while a backup is restored.
    async fn hospital_gone(&self, connection: &impl ConnectionTrait) -> Result<Error> {
        let any = self.sql("SELECT 1 FROM hospital LIMIT 1").done();
        Ok(match connection.query_one_raw(any).await? {
            Some(_) => Error::Unauthenticated("the hospital of this session is gone: sign in again".to_owned()),
            None => Error::BeingRestored,
        })
    }

    /// The number of the hospital's ACTIVE patients, as the triggers count them.
    ///
    /// # Errors
    /// BEING_RESTORED where the row that says so is missing. Where the database fails.
    pub async fn patient_count(&self, hospital: i64) -> Result<u64> {
        self.stored_count(hospital, "patient_count").await
    }

    /// The number of the hospital's visits, as the triggers count them.
    ///
    /// # Errors
    /// BEING_RESTORED where the row that says so is missing. Where the database fails.
    pub async fn visit_count(&self, hospital: i64) -> Result<u64> {
        self.stored_count(hospital, "visit_count").await
    }

    async fn stored_count(&self, hospital: i64, column: &str) -> Result<u64> {
        let mut sql = self.sql(&format!("SELECT {column} FROM revision WHERE hospital_id = "));
        sql.bind(hospital);
        let row = self.readers.query_one_raw(sql.done()).await?;
        let row = row.ok_or_else(|| incomplete(hospital, "its row of revision is missing"))?;
        Ok(row.try_get_by_index::<i64>(0)?.unsigned_abs())
    }
}
