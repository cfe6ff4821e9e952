//! Sessions: refresh tokens, kept hashed, good while the epoch of their member of staff is the one that they were stored with.
//!
//! Whatever begins, continues or ends sessions locks the row of the member of staff first, so that nothing of a session that
//! ends is stored after its end.

use chrono::Utc;
use entity::{refresh_token, staff};
use sea_orm::ActiveValue::Set;
use sea_orm::{
    ActiveModelTrait as _, ColumnTrait as _, DatabaseTransaction, EntityTrait, IntoActiveModel as _, QueryFilter as _,
    QuerySelect as _,
};

use super::{StaffRow, Store};
use crate::config::LIMITS;
use crate::error::Result;
use crate::permissions::Viewer;

/// What became of a refresh token that was presented.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RefreshUse {
    /// The session continues with the successor at this place of those that were given.
    Good {
        staff: StaffRow,
        family: String,
        successor: usize,
    },
    /// It was used before, and is not just repeated: somebody else holds it, and its whole family is ended.
    Reused { staff: i64 },
    /// There is none, or it has run out.
    Unknown,
}

impl Store {
    /// Begins a session of a member of staff whose password was verified. Gives the row as it stands now; none where the
    /// password that was verified is not the one that holds any more, or the account is disabled.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn begin_session(&self, verified: &StaffRow, token_hash: &str, family: &str) -> Result<Option<StaffRow>> {
        self.with_retry(|| async {
            let transaction = self.begin_write().await?;
            let row = locked_member(&transaction, verified.hospital_id, verified.id).await?;
            // A hash has a salt of its own: no two are equal, not even of the same password.
            let holds = |row: &StaffRow| row.disabled_at.is_none() && row.password_hash == verified.password_hash;
            let Some(row) = row.filter(holds) else {
                return Ok(None);
            };
            add_token(&transaction, &row, token_hash, family).await?;
            transaction.commit().await?;
            Ok(Some(row))
        })
        .await
    }

    /// Uses a refresh token: replaces it by the first of these successors. Presented again within a short time, while its
    /// successor is unused, it leads to that successor again: the answer may have been lost on its way.
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
        // What nobody ever had costs no transaction.
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
        let good = |token: &refresh_token::Model| {
            token.expires_at > now && token.session_epoch == staff.session_epoch && staff.disabled_at.is_none()
        };
        let key = (hospital, seen.token_hash.clone());
        let token = refresh_token::Entity::find_by_id(key).one(&transaction).await?;
        let Some(token) = token.filter(good) else {
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
            add_token(&transaction, &staff, successor, &family).await?;
            transaction.commit().await?;
            return Ok(RefreshUse::Good {
                staff,
                family,
                successor: 0,
            });
        };
        if now < used_at + LIMITS.refresh_repeat {
            let unused = refresh_token::Entity::find()
                .filter(refresh_token::Column::HospitalId.eq(hospital))
                .filter(refresh_token::Column::Family.eq(&family))
                .filter(refresh_token::Column::TokenHash.is_in(successor_hashes))
                .filter(refresh_token::Column::UsedAt.is_null())
                .one(&transaction)
                .await?;
            let place = unused.filter(good).and_then(|unused| {
                let mut hashes = successor_hashes.iter();
                hashes.position(|hash| *hash == unused.token_hash)
            });
            if let Some(successor) = place {
                return Ok(RefreshUse::Good {
                    staff,
                    family,
                    successor,
                });
            }
        }
        delete_family(&transaction, hospital, &family).await?;
        transaction.commit().await?;
        Ok(RefreshUse::Reused { staff: staff.id })
    }

    /// Deletes refresh tokens that have expired.
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

    /// Ends the viewer's session: every token that came of one sign-in.
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

async fn locked_member(transaction: &DatabaseTransaction, hospital: i64, id: i64) -> Result<Option<StaffRow>> {
    let member = staff::Entity::find_by_id((hospital, id)).lock_exclusive();
    Ok(member.one(transaction).await?)
}

async fn add_token(transaction: &DatabaseTransaction, staff: &StaffRow, token_hash: &str, family: &str) -> Result<()> {
    let row = refresh_token::ActiveModel {
        hospital_id: Set(staff.hospital_id),
        token_hash: Set(token_hash.to_owned()),
        staff_id: Set(staff.id),
        family: Set(family.to_owned()),
        expires_at: Set(Utc::now() + LIMITS.refresh_token),
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
