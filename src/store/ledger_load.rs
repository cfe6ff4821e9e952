//! Loading a hospital's visits into a ledger.

use entity::scheduled_at::ScheduledAt;
use futures_util::TryStreamExt as _;
use sea_orm::sqlx::postgres::PgRow;
use sea_orm::sqlx::{self, Row as _};
use sea_orm::{ConnectionTrait as _, DatabaseTransaction, DbBackend, QueryResult, StreamTrait as _};
use tokio::sync::mpsc;

use super::{HospitalState, Store, unknown_value};
use crate::error::{Error, Result};
use crate::statistics::{Ledger, LedgerBuilder, VisitChannel, VisitRow, VisitStatus};

/// Visits that are read and added to a ledger together.
const BATCH: usize = 4_096;

/// The start of a statement that selects rows for [`ledger_row`]; the hospital's id follows.
pub(super) const SELECT_LEDGER_ROWS: &str =
    "SELECT id, patient_id, date, scheduled_at, status, channel, department_id, doctor_id
    FROM visit WHERE hospital_id = ";

impl Store {
    /// The hospital's visits as a ledger, and the hospital's state at the same moment. Each statement may take up to
    /// [`crate::config::Limits::ledger_load_timeout`].
    ///
    /// # Errors
    /// BEING_RESTORED where the data is incomplete. Where the database fails, or a visit holds a value that cannot be read.
    pub async fn load_ledger(&self, hospital: i64) -> Result<(HospitalState, Ledger)> {
        let view = self.lock_visits(self.long_view().await?).await?;
        let state = self.hospital_state_in(&view, hospital, 0).await?;
        self.verify(&view, hospital, &state).await?;
        let mut sql = self.long_sql("SELECT id FROM patient WHERE hospital_id = ");
        sql.bind(hospital);
        let patients = view.query_all_raw(sql.done()).await?;
        let patients = patients
            .iter()
            .map(|row| row.try_get_by_index(0))
            .collect::<std::result::Result<_, _>>()?;
        let (sender, mut receiver) = mpsc::channel::<Vec<VisitRow>>(4);
        // The ledger is built while the next batches are read.
        let build = tokio::task::spawn_blocking(move || {
            let mut builder = LedgerBuilder::new(patients);
            while let Some(batch) = receiver.blocking_recv() {
                for visit in &batch {
                    builder.push(visit)?;
                }
            }
            Ok::<_, Error>(builder.finish())
        });
        match self.readers.get_database_backend() {
            DbBackend::Sqlite => self.read_concatenated(&view, hospital, &sender).await?,
            _ => self.stream_visits(&view, hospital, &sender).await?,
        }
        view.commit().await?;
        drop(sender);
        let ledger = build.await;
        let ledger = ledger.map_err(|error| Error::Internal(format!("building a ledger failed: {error}")))??;
        state.verify_count(hospital, ledger.len())?;
        Ok((state, ledger))
    }

    /// Makes a view consistent also with TRUNCATE on PostgreSQL, which empties a table for transactions that began before it,
    /// too. Waits for a transaction that has truncated the table.
    pub(super) async fn lock_visits(&self, view: DatabaseTransaction) -> Result<DatabaseTransaction> {
        if self.readers.get_database_backend() == DbBackend::Postgres {
            view.execute_unprepared("LOCK TABLE visit IN ACCESS SHARE MODE").await?;
        }
        Ok(view)
    }

    async fn stream_visits(
        &self,
        view: &DatabaseTransaction,
        hospital: i64,
        batches: &mpsc::Sender<Vec<VisitRow>>,
    ) -> Result<()> {
        let mut sql = self.long_sql(SELECT_LEDGER_ROWS);
        sql.bind(hospital);
        if self.readers.get_database_backend() == DbBackend::MySql {
            // The order of the primary key: another index would make MariaDB read the rows in random order.
            sql.push(" ORDER BY id");
        }
        let mut rows = view.stream_raw(sql.done()).await?;
        let mut batch = Vec::with_capacity(BATCH);
        while let Some(row) = rows.try_next().await? {
            batch.push(match row.try_as_pg_row() {
                Some(row) => postgres_row(row)?,
                None => ledger_row(&row)?,
            });
            if batch.len() == BATCH {
                let full = std::mem::replace(&mut batch, Vec::with_capacity(BATCH));
                // The builder has failed and says why.
                if batches.send(full).await.is_err() {
                    return Ok(());
                }
            }
        }
        let _ = batches.send(batch).await;
        Ok(())
    }

    /// Reads an SQLite database's visits, many concatenated into one text. The driver passes each value of a row between two
    /// threads, which contend for SQLite's memory lock: read value by value, a million visits take five times as long. A
    /// `scheduled_at` may have been written by hand. Values with other characters than an instant has are read as null: a
    /// separator in them, or bytes that are not UTF-8, would make the other visits of the text unreadable.
    async fn read_concatenated(
        &self,
        view: &DatabaseTransaction,
        hospital: i64,
        batches: &mpsc::Sender<Vec<VisitRow>>,
    ) -> Result<()> {
        let mut after = i64::MIN;
        loop {
            let mut sql = self.sql(
                "SELECT MAX(id), group_concat(id || ',' || patient_id || ',' || date || ',' || status || ',' || channel
                    || ',' || coalesce(department_id, '') || ',' || coalesce(doctor_id, '')
                    || ',' || CASE WHEN scheduled_at NOT GLOB '*[^-0-9TtZz:.+ ]*' AND typeof(scheduled_at) = 'text'
                        AND length(scheduled_at) = length(CAST(scheduled_at AS BLOB)) THEN scheduled_at ELSE '' END, ';')
                FROM (SELECT * FROM visit WHERE hospital_id = ",
            );
            sql.bind(hospital).push(" AND id > ").bind(after);
            sql.push(&format!(" ORDER BY id LIMIT {BATCH})"));
            let Some(row) = view.query_one_raw(sql.done()).await? else {
                return Ok(());
            };
            let Some(last) = row.try_get_by_index::<Option<i64>>(0)? else {
                return Ok(());
            };
            let text: String = row.try_get_by_index(1)?;
            let visits = text
                .split(';')
                .map(|visit| concatenated_row(visit).ok_or_else(|| unreadable(visit)));
            // The builder has failed and says why.
            if batches.send(visits.collect::<Result<_>>()?).await.is_err() {
                return Ok(());
            }
            after = last;
        }
    }
}

/// A row of [`SELECT_LEDGER_ROWS`].
pub(super) fn ledger_row(row: &QueryResult) -> Result<VisitRow> {
    let status: String = row.try_get_by_index(4)?;
    let channel: String = row.try_get_by_index(5)?;
    let date: chrono::NaiveDate = row.try_get_by_index(2)?;
    let scheduled_at: Option<ScheduledAt> = row.try_get_by_index(3)?;
    Ok(VisitRow {
        id: row.try_get_by_index(0)?,
        patient: row.try_get_by_index(1)?,
        date: date.into(),
        scheduled_at: scheduled_at.map(ScheduledAt::micros),
        status: VisitStatus::parse(&status).ok_or_else(|| unknown_value("visit.status", &status))?,
        channel: VisitChannel::parse(&channel).ok_or_else(|| unknown_value("visit.channel", &channel))?,
        department: row.try_get_by_index(6)?,
        doctor: row.try_get_by_index(7)?,
    })
}

/// The same for a row of PostgreSQL's driver, without the driver's check of each value's type: less than half the time, which
/// counts for a million rows.
fn postgres_row(row: &PgRow) -> Result<VisitRow> {
    fn value<'r, T: sqlx::Decode<'r, sqlx::Postgres>>(row: &'r PgRow, at: usize) -> Result<T> {
        row.try_get_unchecked(at)
            .map_err(|error| Error::Internal(format!("a visit cannot be read: {error}")))
    }
    let (status, channel): (&str, &str) = (value(row, 4)?, value(row, 5)?);
    Ok(VisitRow {
        id: value(row, 0)?,
        patient: value(row, 1)?,
        date: value::<chrono::NaiveDate>(row, 2)?.into(),
        scheduled_at: value::<Option<sea_orm::prelude::DateTimeUtc>>(row, 3)?.map(|at| at.timestamp_micros()),
        status: VisitStatus::parse(status).ok_or_else(|| unknown_value("visit.status", status))?,
        channel: VisitChannel::parse(channel).ok_or_else(|| unknown_value("visit.channel", channel))?,
        department: value(row, 6)?,
        doctor: value(row, 7)?,
    })
}

/// A visit as [`Store::read_concatenated`] selects it; none where a value cannot be read.
fn concatenated_row(text: &str) -> Option<VisitRow> {
    let mut values = text.splitn(8, ',');
    let mut next = || values.next();
    let optional = |text: &str| {
        if text.is_empty() {
            Some(None)
        } else {
            text.parse().ok().map(Some)
        }
    };
    Some(VisitRow {
        id: next()?.parse().ok()?,
        patient: next()?.parse().ok()?,
        date: next()?.parse::<chrono::NaiveDate>().ok()?.into(),
        status: VisitStatus::parse(next()?)?,
        channel: VisitChannel::parse(next()?)?,
        department: optional(next()?)?,
        doctor: optional(next()?)?,
        scheduled_at: ScheduledAt::read(next()?).map(ScheduledAt::micros),
    })
}

/// Names the visit by its id; its other values may be personal.
fn unreadable(visit: &str) -> Error {
    let id: String = visit.chars().take_while(char::is_ascii_digit).collect();
    Error::Internal(format!("visit {id} holds a value that cannot be read"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_concatenated_row_is_a_visit() {
        let visit = concatenated_row("17,4,2025-05-11,COMPLETED,PHONE,3,,2025-05-11T09:30:00+09:00").unwrap();
        assert_eq!(
            (visit.id, visit.patient, visit.department, visit.doctor),
            (17, 4, Some(3), None)
        );
        assert_eq!(
            (visit.status, visit.channel),
            (VisitStatus::Completed, VisitChannel::Phone)
        );
        assert_eq!(visit.date.date().to_string(), "2025-05-11");
        assert_eq!(visit.scheduled_at, Some(1_746_923_400_000_000));
        let without_time = concatenated_row("17,4,2025-05-11,BOOKED,OTHER,,8,").unwrap();
        assert_eq!((without_time.scheduled_at, without_time.doctor), (None, Some(8)));
    }

    #[test]
    fn an_unreadable_row_is_named_by_its_id_alone() {
        for text in [
            "17,4,2025-05-11,SEEN,OTHER,,,",
            "17,4,2025-05-11,BOOKED,FAX,,,",
            "17,4,05/11/2025,BOOKED,OTHER,,,",
            "17,4,2025-05-11,BOOKED,OTHER,x,,",
            "17,4,2025-05-11,BOOKED,OTHER",
        ] {
            assert_eq!(concatenated_row(text), None, "{text}");
            assert_eq!(
                unreadable(text).for_operator(),
                "visit 17 holds a value that cannot be read"
            );
        }
    }
}
