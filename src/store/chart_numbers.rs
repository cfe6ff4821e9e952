//! The next chart number of a hospital: a counter, over which the lock of the revision puts all who register patients in a row.

use std::collections::HashSet;

use entity::chart_number_counter;
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::OnConflict;
use sea_orm::{ConnectionTrait as _, DatabaseTransaction, EntityTrait as _};

use super::Store;
use crate::error::{Error, Result};
use crate::scheduling::{ChartNumber, FreeNumberSearch, last_of_most_frequent};
use crate::text::MAX_NAME_LENGTH;

impl Store {
    /// Takes the hospital's next chart number: one that no patient has or had, also none who was merged or erased. The transaction
    /// holds the lock of the revision.
    ///
    /// Numbers given beyond the counter are passed over, with few statements however many they are.
    pub(super) async fn take_chart_number(&self, transaction: &DatabaseTransaction, hospital: i64) -> Result<String> {
        let none_left = || {
            Error::input(
                "input.chartNo",
                "no number follows the hospital's last chart number: give one",
            )
        };
        let next = self.next_number(transaction, hospital).await?;
        let mut search = FreeNumberSearch::new(next.ok_or_else(none_left)?);
        loop {
            let mut asked = search.asked();
            if asked.is_empty() {
                break;
            }
            let mut texts: Vec<String> = asked.iter().map(ToString::to_string).collect();
            texts.retain(|text| text.chars().count() <= MAX_NAME_LENGTH);
            asked.truncate(texts.len());
            if asked.is_empty() {
                return Err(none_left());
            }
            let used = self.used_numbers(transaction, hospital, &texts).await?;
            search.answer(&asked, texts.iter().position(|text| !used.contains(text)));
        }
        let taken = search.found().ok_or_else(none_left)?;
        // After the last of all numbers it stays there, and the next search finds none.
        let next = taken.next().unwrap_or_else(|| taken.clone());
        let counter = chart_number_counter::ActiveModel {
            hospital_id: Set(hospital),
            next_number: Set(next.to_string()),
        };
        let replace = OnConflict::column(chart_number_counter::Column::HospitalId)
            .update_column(chart_number_counter::Column::NextNumber)
            .to_owned();
        chart_number_counter::Entity::insert(counter)
            .on_conflict(replace)
            .exec_without_returning(transaction)
            .await?;
        Ok(taken.to_string())
    }

    /// The number that the counter is at. Where there is no counter, the one after the last of the most frequent prefix and width; none
    /// where none follows.
    async fn next_number(&self, transaction: &DatabaseTransaction, hospital: i64) -> Result<Option<ChartNumber>> {
        let counter = chart_number_counter::Entity::find_by_id(hospital)
            .one(transaction)
            .await?;
        if let Some(next) = counter.and_then(|counter| ChartNumber::parse(&counter.next_number)) {
            return Ok(Some(next));
        }
        let mut sql = self.sql("SELECT chart_no FROM patient WHERE chart_no IS NOT NULL AND hospital_id = ");
        sql.bind(hospital);
        let rows = transaction.query_all_raw(sql.done()).await?;
        let numbers: Vec<String> = rows
            .iter()
            .map(|row| Ok(row.try_get_by_index(0)?))
            .collect::<Result<_>>()?;
        let last = last_of_most_frequent(numbers.iter().map(String::as_str));
        Ok(last.map_or_else(|| Some(ChartNumber::first()), |last| last.next()))
    }

    /// Which of these numbers a patient has or had.
    async fn used_numbers(
        &self,
        transaction: &DatabaseTransaction,
        hospital: i64,
        numbers: &[String],
    ) -> Result<HashSet<String>> {
        let numbers: Vec<&str> = numbers.iter().map(String::as_str).collect();
        let mut used = self
            .former_numbers(transaction, hospital, numbers.iter().copied())
            .await?;
        let mut sql = self.sql("SELECT chart_no FROM patient WHERE hospital_id = ");
        sql.bind(hospital).push(" AND chart_no").texts(&numbers);
        for row in transaction.query_all_raw(sql.done()).await? {
            used.insert(row.try_get_by_index(0)?);
        }
        Ok(used)
    }
}
