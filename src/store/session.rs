//! Sessions: refresh tokens, stored as hashes. A token is valid while the session epoch of its staff member is the one that it
//! was stored with.
//!
//! Functions that begin, continue or end sessions lock the staff member's row first, so that no token of a session is stored
//! after the session has ended.

use chrono::{DateTime, Utc};
use entity::{refresh_token, staff};
use sea_orm::ActiveValue::Set;
use sea_orm::{
    ActiveModelTrait as _, ColumnTrait as _, DatabaseTransaction, EntityTrait, IntoActiveModel as _, QueryFilter as _,
    QuerySelect as _,
};

use super::{StaffMember, Store};
use crate::error::Result;
use crate::permissions::Viewer;

/// The result of presenting a refresh token.
#[derive(Clone, Debug)]
pub enum RefreshUse {
    /// The session continues; the new token is the successor at this index.
    Good {
        staff: StaffMember,
        family: String,
        successor: usize,
    },
    /// It was used before, and this is not a repeated request: it was stolen, and all tokens of its family are deleted.
    Reused { staff: i64 },
    /// There is no such token, or it is no longer valid.
    Unknown,
}

impl Store {
    /// Begins a session of a staff member whose password was verified. Returns the current row; none where the password was
    /// changed since, or the account is disabled.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn begin_session(
        &self,
        verified: &StaffMember,
        token_hash: &str,
        family: &str,
    ) -> Result<Option<StaffMember>> {
        self.with_retry(|| async {
            let transaction = self.begin_write().await?;
            let row = locked_member(&transaction, verified.hospital, verified.id).await?;
            // Each hash has its own salt: the same hash means that the password was not set again.
            let unchanged =
                |row: &staff::Model| row.disabled_at.is_none() && row.password_hash == verified.password_hash.as_str();
            let Some(row) = row.filter(unchanged) else {
                return Ok(None);
            };
            add_token(
                &transaction,
                &row,
                token_hash,
                family,
                Utc::now() + self.limits.refresh_token_lifetime,
            )
            .await?;
            transaction.commit().await?;
            Ok(Some(StaffMember::try_from(row)?))
        })
        .await
    }

    /// Uses a refresh token, which is replaced by the first of these successors. When it is presented again within
    /// [`crate::config::Limits::refresh_token_reuse_window`], while its successor is unused, the result is that successor again: the first
    /// response may have been lost.
    ///
    /// # Errors
    /// Where the database fails; then nothing has changed.
    pub async fn use_refresh_token(
        &self,
        hospital: i64,
        token_hash: &str,
        successor_hashes: &[String],
    ) -> Result<RefreshUse> {
        let key = (hospital, token_hash.to_owned());
        // An unknown token needs no transaction.
        let Some(seen) = refresh_token::Entity::find_by_id(key).one(&self.readers).await? else {
            return Ok(RefreshUse::Unknown);
        };
        self.with_retry(|| self.use_once(&seen, successor_hashes)).await
    }

    async fn use_once(&self, seen: &refresh_token::Model, successor_hashes: &[String]) -> Result<RefreshUse> {
        let hospital = seen.hospital_id;
        let transaction = self.begin_write().await?;
        let Some(staff) = locked_member(&transaction, hospital, seen.staff_id).await? else {
            return Ok(RefreshUse::Unknown);
        };
        let now = Utc::now();
        let valid = |token: &refresh_token::Model| {
            token.expires_at > now && token.session_epoch == staff.session_epoch && staff.disabled_at.is_none()
        };
        let key = (hospital, seen.token_hash.clone());
        let token = refresh_token::Entity::find_by_id(key).one(&transaction).await?;
        let Some(token) = token.filter(valid) else {
            return Ok(RefreshUse::Unknown);
        };
        let family = token.family.clone();
        let Some(used_at) = token.used_at else {
            let Some(successor) = successor_hashes.first() else {
                return Ok(RefreshUse::Unknown);
            };
            let mut used = token.into_active_model();
            used.used_at = Set(Some(now));
            used.update(&transaction).await?;
            add_token(
                &transaction,
                &staff,
                successor,
                &family,
                Utc::now() + self.limits.refresh_token_lifetime,
            )
            .await?;
            transaction.commit().await?;
            return Ok(RefreshUse::Good {
                staff: StaffMember::try_from(staff)?,
                family,
                successor: 0,
            });
        };
        if now < used_at + self.limits.refresh_token_reuse_window {
            let unused = refresh_token::Entity::find()
                .filter(refresh_token::Column::HospitalId.eq(hospital))
                .filter(refresh_token::Column::Family.eq(&family))
                .filter(refresh_token::Column::TokenHash.is_in(successor_hashes))
                .filter(refresh_token::Column::UsedAt.is_null())
                .one(&transaction)
                .await?;
            let index = unused.filter(valid).and_then(|unused| {
                let mut hashes = successor_hashes.iter();
                hashes.position(|hash| *hash == unused.token_hash)
            });
            if let Some(successor) = index {
                return Ok(RefreshUse::Good {
                    staff: StaffMember::try_from(staff)?,
                    family,
                    successor,
                });
            }
        }
        delete_family(&transaction, hospital, &family).await?;
        transaction.commit().await?;
        Ok(RefreshUse::Reused { staff: staff.id })
    }

    /// Deletes the hospital's expired refresh tokens. Returns how many.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn prune_refresh_tokens(&self, hospital: i64) -> Result<u64> {
        let deleted = refresh_token::Entity::delete_many()
            .filter(refresh_token::Column::HospitalId.eq(hospital))
            .filter(refresh_token::Column::ExpiresAt.lte(Utc::now()))
            .exec(&self.writer)
            .await
            .map_err(|error| self.write_error(error))?;
        Ok(deleted.rows_affected)
    }

    /// Ends the viewer's session: deletes every token of its family.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn end_session(&self, viewer: &Viewer, family: &str) -> Result<()> {
        self.with_retry(|| async {
            let transaction = self.begin_write().await?;
            locked_member(&transaction, viewer.hospital, viewer.staff).await?;
            delete_family(&transaction, viewer.hospital, family).await?;
            Ok(transaction.commit().await?)
        })
        .await
    }
}

async fn locked_member(transaction: &DatabaseTransaction, hospital: i64, id: i64) -> Result<Option<staff::Model>> {
    let member = staff::Entity::find_by_id((hospital, id)).lock_exclusive();
    Ok(member.one(transaction).await?)
}

async fn add_token(
    transaction: &DatabaseTransaction,
    staff: &staff::Model,
    token_hash: &str,
    family: &str,
    expires_at: DateTime<Utc>,
) -> Result<()> {
    let row = refresh_token::ActiveModel {
        hospital_id: Set(staff.hospital_id),
        token_hash: Set(token_hash.to_owned()),
        staff_id: Set(staff.id),
        family: Set(family.to_owned()),
        expires_at: Set(expires_at),
        used_at: Set(None),
        session_epoch: Set(staff.session_epoch),
    };
    refresh_token::Entity::insert(row)
        .exec_without_returning(transaction)
        .await?;
    Ok(())
}

async fn delete_family(transaction: &DatabaseTransaction, hospital: i64, family: &str) -> Result<()> {
    refresh_token::Entity::delete_many()
        .filter(refresh_token::Column::HospitalId.eq(hospital))
        .filter(refresh_token::Column::Family.eq(family))
        .exec(transaction)
        .await?;
    Ok(())
}
