//! Files that staff upload to import them: encrypted, in chunks, so that every server can read them and none needs memory for a whole
//! file. They expire by [`Clock`](crate::clock::Clock).

use std::io::Write as _;

use chrono::{DateTime, Utc};
use entity::{upload, upload_chunk};
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait as _, ConnectionTrait as _, EntityTrait, QueryFilter as _, QuerySelect as _};
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;

use super::Store;
use crate::error::{Error, Result};
use crate::permissions::{Action, Viewer};

/// Bytes of a chunk before encryption: encrypted quickly, and far below what MariaDB accepts in one packet.
const CHUNK_BYTES: usize = 256 << 10;

const FILE_NAME: &str = "name of an uploaded file";

/// An uploaded file that has not expired.
#[derive(Clone, Debug)]
pub struct Upload {
    pub hospital: i64,
    pub id: i64,
    /// Who uploaded it.
    pub staff: i64,
    pub file_name: String,
    /// Bytes.
    pub size: u64,
    /// SHA-256 in hexadecimal.
    pub digest: String,
    pub expires_at: DateTime<Utc>,
}

/// An upload in progress. Nobody can read it, and dropping it deletes it.
pub struct NewUpload {
    store: Store,
    hospital: i64,
    id: i64,
    staff: i64,
    file_name: String,
    /// The bytes that are not stored yet: less than a chunk.
    rest: Vec<u8>,
    /// Chunks that are stored.
    chunks: i32,
    size: u64,
    digest: Sha256,
    is_finished: bool,
}

impl Store {
    /// Begins an upload.
    ///
    /// # Errors
    /// FORBIDDEN for roles that may not change records. RATE_LIMITED if the hospital has as many files as it may have; the time to wait
    /// is that until the first of them expires. If the database fails.
    pub async fn begin_upload(&self, viewer: &Viewer, file_name: &str) -> Result<NewUpload> {
        viewer.require(Action::ChangeRecords, "uploading files")?;
        let (hospital, staff, now) = (viewer.hospital, viewer.staff, self.now());
        let transaction = self.begin_write().await?;
        let mut sql = self.sql("INSERT INTO upload (hospital_id, staff_id, file_name, expires_at) VALUES (");
        sql.bind(hospital).push(", ").bind(staff).push(", ");
        sql.bind(self.secrets.seal(hospital, FILE_NAME, file_name)?);
        // If this server ends, others delete it.
        sql.push(", ").bind(now + self.limits.upload_timeout);
        sql.push(") RETURNING id");
        let row = transaction.query_one_raw(sql.done()).await?;
        let row = row.ok_or_else(|| Error::Internal("an upload was inserted and has no id".to_owned()))?;
        let id: i64 = row.try_get_by_index(0)?;
        transaction.commit().await?;
        let new = NewUpload {
            store: self.clone(),
            hospital,
            id,
            staff,
            file_name: file_name.to_owned(),
            rest: Vec::new(),
            chunks: 0,
            size: 0,
            digest: Sha256::new(),
            is_finished: false,
        };
        // Counted after it was inserted: of two that begin at the same time, each counts the other.
        let others: Vec<DateTime<Utc>> = upload::Entity::find()
            .select_only()
            .column(upload::Column::ExpiresAt)
            .filter(upload::Column::HospitalId.eq(hospital))
            .filter(upload::Column::Id.ne(id))
            .filter(upload::Column::ExpiresAt.gt(now))
            .into_tuple()
            .all(&self.readers)
            .await?;
        if others.len() >= self.limits.max_uploads_of_hospital {
            let first = others.into_iter().min().unwrap_or(now);
            return Err(Error::RateLimited((first - now).to_std().unwrap_or_default()));
        }
        Ok(new)
    }

    /// A file of the hospital; none if it does not exist, has expired, or its upload is not finished.
    ///
    /// # Errors
    /// If the database fails, or the file's name cannot be decrypted.
    pub async fn upload(&self, hospital: i64, id: i64) -> Result<Option<Upload>> {
        let row = upload::Entity::find_by_id((hospital, id)).one(&self.readers).await?;
        let Some(row) = row.filter(|row| row.expires_at > self.now()) else {
            return Ok(None);
        };
        let (Some(size), Some(digest)) = (row.size, row.digest) else {
            return Ok(None);
        };
        Ok(Some(Upload {
            hospital,
            id,
            staff: row.staff_id,
            file_name: self.secrets.open_sealed(hospital, FILE_NAME, &row.file_name)?,
            size: size.unsigned_abs(),
            digest,
            expires_at: row.expires_at,
        }))
    }

    /// Decrypts a file into a temporary file that only its owner may read; none if it was deleted meanwhile.
    ///
    /// # Errors
    /// If the database fails, the file cannot be decrypted, or the temporary file cannot be written.
    pub async fn copy_upload(&self, upload: &Upload) -> Result<Option<NamedTempFile>> {
        let failed = |error| Error::Internal(format!("cannot write an uploaded file to a temporary file: {error}"));
        let mut file = NamedTempFile::new().map_err(failed)?;
        let (mut written, mut number) = (0, 0);
        while written < upload.size {
            let key = (upload.hospital, upload.id, number);
            let chunk = upload_chunk::Entity::find_by_id(key).one(&self.readers).await?;
            let Some(chunk) = chunk else { return Ok(None) };
            let purpose = chunk_purpose(upload.id, number);
            let bytes = self
                .secrets
                .open_sealed_bytes(upload.hospital, &purpose, &chunk.sealed)?;
            file.write_all(&bytes).map_err(failed)?;
            written += bytes.len() as u64;
            number += 1;
        }
        Ok(Some(file))
    }

    /// Deletes a file. Does nothing if there is none.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn delete_upload(&self, hospital: i64, id: i64) -> Result<()> {
        self.with_retry(|| async {
            let transaction = self.begin_write().await?;
            // Waits for a chunk that is just being inserted.
            let row = upload::Entity::find_by_id((hospital, id)).lock_exclusive();
            if row.one(&transaction).await?.is_none() {
                return Ok(());
            }
            upload_chunk::Entity::delete_many()
                .filter(upload_chunk::Column::HospitalId.eq(hospital))
                .filter(upload_chunk::Column::UploadId.eq(id))
                .exec(&transaction)
                .await?;
            upload::Entity::delete_by_id((hospital, id)).exec(&transaction).await?;
            Ok(transaction.commit().await?)
        })
        .await
    }

    /// Deletes the hospital's files that have expired. Returns how many.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn delete_expired_uploads(&self, hospital: i64) -> Result<usize> {
        let now = self.now();
        self.delete_uploads(hospital, |row| row.expires_at <= now).await
    }

    /// Deletes the hospital's files that are encrypted with another key than the one in use. Returns how many.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn delete_uploads_with_old_keys(&self, hospital: i64) -> Result<usize> {
        // The name was encrypted first: if it has the key in use, so have all chunks.
        self.delete_uploads(hospital, |row| self.secrets.is_old(hospital, FILE_NAME, &row.file_name))
            .await
    }

    async fn delete_uploads(&self, hospital: i64, which: impl Fn(&upload::Model) -> bool) -> Result<usize> {
        let rows = upload::Entity::find().filter(upload::Column::HospitalId.eq(hospital));
        let mut deleted = 0;
        for row in rows.all(&self.readers).await?.iter().filter(|row| which(row)) {
            self.delete_upload(hospital, row.id).await?;
            deleted += 1;
        }
        Ok(deleted)
    }
}

impl NewUpload {
    /// Bytes that were written.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Appends bytes to the file.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        self.digest.update(bytes);
        self.size += bytes.len() as u64;
        while !bytes.is_empty() {
            let (next, later) = bytes.split_at(bytes.len().min(CHUNK_BYTES - self.rest.len()));
            self.rest.extend_from_slice(next);
            bytes = later;
            if self.rest.len() == CHUNK_BYTES {
                self.store_chunk().await?;
            }
        }
        Ok(())
    }

    async fn store_chunk(&mut self) -> Result<()> {
        let purpose = chunk_purpose(self.id, self.chunks);
        let chunk = upload_chunk::ActiveModel {
            hospital_id: Set(self.hospital),
            upload_id: Set(self.id),
            number: Set(self.chunks),
            sealed: Set(self.store.secrets.seal_bytes(self.hospital, &purpose, &self.rest)?),
        };
        upload_chunk::Entity::insert(chunk)
            .exec_without_returning(&self.store.writer)
            .await
            .map_err(|error| self.store.write_error(error))?;
        self.rest.clear();
        self.chunks += 1;
        Ok(())
    }

    /// Finishes the upload. From now on the file can be read, until it expires.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn finish(mut self) -> Result<Upload> {
        if !self.rest.is_empty() {
            self.store_chunk().await?;
        }
        let size = i64::try_from(self.size).map_err(|_| Error::Internal("an upload is too large".to_owned()))?;
        let digest = hex::encode(self.digest.finalize_reset());
        let expires_at = self.store.now() + self.store.limits.upload_lifetime;
        let updated = upload::Entity::update_many()
            .col_expr(upload::Column::Size, Expr::value(size))
            .col_expr(upload::Column::Digest, Expr::value(digest.clone()))
            .col_expr(upload::Column::ExpiresAt, Expr::value(expires_at))
            .filter(upload::Column::HospitalId.eq(self.hospital))
            .filter(upload::Column::Id.eq(self.id))
            .exec(&self.store.writer)
            .await
            .map_err(|error| self.store.write_error(error))?;
        if updated.rows_affected == 0 {
            return Err(Error::Internal(
                "an upload was deleted before it was finished".to_owned(),
            ));
        }
        self.is_finished = true;
        Ok(Upload {
            hospital: self.hospital,
            id: self.id,
            staff: self.staff,
            file_name: std::mem::take(&mut self.file_name),
            size: self.size,
            digest,
            expires_at,
        })
    }
}

impl Drop for NewUpload {
    fn drop(&mut self) {
        if self.is_finished {
            return;
        }
        let (store, hospital, id) = (self.store.clone(), self.hospital, self.id);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                // Once it has expired, it is deleted anyway.
                if let Err(error) = store.delete_upload(hospital, id).await {
                    tracing::warn!("an unfinished upload was not deleted: {}", error.for_operator());
                }
            });
        }
    }
}

/// What a chunk is encrypted for, so that it cannot be exchanged for another one.
fn chunk_purpose(upload: i64, number: i32) -> String {
    format!("chunk {number} of upload {upload}")
}
