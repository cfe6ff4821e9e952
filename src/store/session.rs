//! Refresh tokens.

use chrono::{DateTime, Utc};
use entity::refresh_token;
use sea_orm::ActiveValue::Set;
use sea_orm::{ConnectionTrait, EntityTrait};

use super::Store;
use crate::error::Result;

/// What became of a refresh token that was presented.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RefreshUse {
    /// It was good, and is used up now.
    Good { staff: i64, family: String },
    /// It was used before: somebody else holds it, and its whole family is ended.
    Reused { staff: i64 },
    /// There is none, or it has run out.
    Unknown,
}

impl Store {
    /// Keeps a token's hash.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn add_refresh_token(
        &self,
        hospital: i64,
        token_hash: String,
        staff: i64,
        family: &str,
        expires_at: DateTime<Utc>,
    ) -> Result<()> {
        let row = refresh_token::ActiveModel {
            hospital_id: Set(hospital),
            token_hash: Set(token_hash),
            staff_id: Set(staff),
            family: Set(family.to_owned()),
            expires_at: Set(expires_at),
            used_at: Set(None),
        };
        refresh_token::Entity::insert(row)
            .exec_without_returning(&self.writer)
            .await?;
        Ok(())
    }

    /// Uses a token up, once.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn use_refresh_token(&self, hospital: i64, token_hash: &str, now: DateTime<Utc>) -> Result<RefreshUse> {
        let key = (hospital, token_hash.to_owned());
        let Some(row) = refresh_token::Entity::find_by_id(key).one(&self.readers).await? else {
            return Ok(RefreshUse::Unknown);
        };
        if row.expires_at <= now {
            return Ok(RefreshUse::Unknown);
        }
        let mut sql = self.sql("UPDATE refresh_token SET used_at = ");
        sql.bind(now)
            .push(" WHERE used_at IS NULL AND hospital_id = ")
            .bind(hospital);
        sql.push(" AND token_hash = ").bind(token_hash);
        if self.writer.execute_raw(sql.done()).await?.rows_affected() == 1 {
            return Ok(RefreshUse::Good {
                staff: row.staff_id,
                family: row.family,
            });
        }
        self.end_family(hospital, &row.family).await?;
        Ok(RefreshUse::Reused { staff: row.staff_id })
    }

    /// Ends every token that came of one sign-in.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn end_family(&self, hospital: i64, family: &str) -> Result<()> {
        let mut sql = self.sql("DELETE FROM refresh_token WHERE hospital_id = ");
        sql.bind(hospital).push(" AND family = ").bind(family);
        self.writer.execute_raw(sql.done()).await?;
        Ok(())
    }
}
