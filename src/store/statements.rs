//! Statements, which seal months. Their ids ascend with the months.

use chrono::NaiveDate;
use entity::statement;
use sea_orm::{ConnectionTrait, FromQueryResult as _};

use super::Store;
use super::keyset::{Keyset, seek_by_id_sql};
use super::sql::{Sql, one_count};
use crate::error::Result;

pub use statement::Model as Statement;

impl Store {
    /// The statement with this id.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn statement(&self, hospital: i64, id: i64) -> Result<Option<Statement>> {
        let mut sql = self.statements_sql(hospital);
        sql.push(" AND id = ").bind(id);
        Ok(self.statements_of(&self.readers, sql).await?.pop())
    }

    /// The statements of these months, given by their first days.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn statements_of_months(&self, hospital: i64, months: &[NaiveDate]) -> Result<Vec<Statement>> {
        let mut sql = self.statements_sql(hospital);
        sql.push(" AND month").few(months);
        self.statements_of(&self.readers, sql).await
    }

    /// The hospital's first and last statements; the same if it has one only, none if it has none.
    pub(super) async fn first_and_last_statement(
        &self,
        connection: &impl ConnectionTrait,
        hospital: i64,
    ) -> Result<Option<(Statement, Statement)>> {
        let mut sql = self.statements_sql(hospital);
        sql.push(" AND id IN ((SELECT MIN(id) FROM statement WHERE hospital_id = ")
            .bind(hospital)
            .push("), (SELECT MAX(id) FROM statement WHERE hospital_id = ")
            .bind(hospital)
            .push(")) ORDER BY id");
        let found = self.statements_of(connection, sql).await?;
        Ok(found.first().cloned().zip(found.last().cloned()))
    }

    /// The statement of the last month that was sealed.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn last_statement(&self, hospital: i64) -> Result<Option<Statement>> {
        let ends = self.first_and_last_statement(&self.readers, hospital).await?;
        Ok(ends.map(|(_, last)| last))
    }

    /// A page of the hospital's statements.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn statement_page(&self, hospital: i64, seek: &Keyset<Option<String>>) -> Result<Vec<Statement>> {
        let mut sql = self.statements_sql(hospital);
        seek_by_id_sql(&mut sql, "id", seek);
        let mut statements = self.statements_of(&self.readers, sql).await?;
        if seek.backwards {
            statements.reverse();
        }
        Ok(statements)
    }

    /// The number of the hospital's statements.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn statement_total(&self, hospital: i64) -> Result<u64> {
        let mut sql = self.sql("SELECT COUNT(*) FROM statement WHERE hospital_id = ");
        sql.bind(hospital);
        one_count(self.readers.query_one_raw(sql.done()).await?)
    }

    fn statements_sql(&self, hospital: i64) -> Sql {
        let mut sql = self.sql("SELECT * FROM statement WHERE hospital_id = ");
        sql.bind(hospital);
        sql
    }

    async fn statements_of(&self, connection: &impl ConnectionTrait, sql: Sql) -> Result<Vec<Statement>> {
        let found = connection.query_all_raw(sql.done()).await?;
        let rows = found.iter().map(|row| Statement::from_query_result(row, ""));
        Ok(rows.collect::<std::result::Result<_, _>>()?)
    }
}
