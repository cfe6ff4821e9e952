//! Retention: of the new patients of each unit, who came in which unit after. It is stored whole, as a snapshot with one list.

use std::sync::{Arc, OnceLock};

use sha2::{Digest as _, Sha256};
use tokio::sync::OnceCell;
use tracing::instrument;

use super::derived::{Content, Recipe, StoredRecipe};
use super::{Cohort, Reporting, ResolvedStatistics, SnapshotId, StatisticsRequest, spawn_cpu};
use crate::error::{Error, Result};
use crate::statistics::{BucketRef, CohortKind, PackedSnapshot, Retention};
use crate::store::{SnapshotRow, StoredAs, StoredSnapshot};

/// The retention of a snapshot's buckets.
pub struct ResolvedRetention {
    pub id: SnapshotId,
    /// Whose new patients the rows have.
    pub resolved: Arc<ResolvedStatistics>,
    pub horizon: u32,
    pub cells: Retention,
    /// Set once it is in the database.
    persisted: OnceCell<()>,
}

impl ResolvedRetention {
    fn new(resolved: Arc<ResolvedStatistics>, horizon: u32, cells: Retention, stored: bool) -> Self {
        let digest = Sha256::digest(format!("retention {} {horizon}", resolved.id));
        Self {
            id: SnapshotId(std::array::from_fn(|i| digest[i])),
            resolved,
            horizon,
            cells,
            persisted: OnceCell::new_with(stored.then_some(())),
        }
    }

    /// The new patients of a row.
    #[must_use]
    pub fn new_patients(&self, row: u32) -> Cohort {
        Cohort::counted(&self.resolved, BucketRef::At(row), CohortKind::New)
    }

    fn recipe(&self) -> Recipe {
        Recipe::Retention {
            of: self.resolved.id.to_string(),
            horizon: self.horizon,
        }
    }
}

impl Reporting {
    /// The retention of a question, up to so many units after each.
    ///
    /// # Errors
    /// BEING_RESTORED where the data is incomplete. Where the database fails.
    #[instrument(name = "reporting.retention", level = "debug", skip_all)]
    pub async fn retention(
        &self,
        hospital: i64,
        request: StatisticsRequest,
        horizon: u32,
    ) -> Result<Arc<ResolvedRetention>> {
        let (state, ledger) = self.ledgers.current(hospital).await?;
        let question = self.question(request, &state);
        let resolved = self
            .resolve_at(hospital, &state, &ledger, question, state.rules())
            .await?;
        let shared = Arc::clone(&resolved);
        let cells = spawn_cpu("computing retention", move || {
            Retention::new(&ledger, &shared.snapshot, horizon)
        })
        .await?;
        Ok(Arc::new(ResolvedRetention::new(resolved, horizon, cells, false)))
    }

    /// The retention with this id, if the hospital has it.
    ///
    /// # Errors
    /// SNAPSHOT_EXPIRED where it has expired. Where the database fails, or what is stored is damaged.
    pub async fn open_retention(&self, hospital: i64, id: SnapshotId) -> Result<Option<Arc<ResolvedRetention>>> {
        let stored = self.store.load_snapshot(hospital, &id.to_string()).await?;
        let (row, packed) = match stored {
            Some(StoredSnapshot::Whole(row, packed)) => (row, Some(packed)),
            Some(StoredSnapshot::Expired(row)) => (row, None),
            None => return Ok(None),
        };
        let recipe = row.recipe.as_deref().unwrap_or_default();
        let Ok(StoredRecipe {
            recipe: Recipe::Retention { of, horizon },
            ..
        }) = serde_json::from_slice(recipe)
        else {
            return Ok(None);
        };
        let Some(packed) = packed else {
            let (question, _) = super::identity::question_of(&row)?;
            return Err(Error::expired(question));
        };
        let gone = || Error::Internal(format!("the snapshot of the retention {id} is gone"));
        let of = SnapshotId::from_text(&of).ok_or_else(gone)?;
        let resolved = self.load(hospital, of).await?.ok_or_else(gone)?;
        let shared = Arc::clone(&resolved);
        let unpacked = move || Retention::unpack(&packed.patients, &shared.snapshot, horizon);
        let cells = spawn_cpu("unpacking retention", unpacked).await??;
        Ok(Some(Arc::new(ResolvedRetention::new(resolved, horizon, cells, true))))
    }

    /// Stores the retention, with the snapshot that it is of.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn persist_retention(&self, retention: &Arc<ResolvedRetention>) -> Result<()> {
        let store = async || {
            self.persist(&retention.resolved).await?;
            let failed = |error: serde_json::Error| Error::Internal(format!("a recipe cannot be written: {error}"));
            let recipe = StoredRecipe {
                recipe: retention.recipe(),
                depth: 0,
            };
            let row = SnapshotRow {
                id: retention.id.to_string(),
                recipe: Some(serde_json::to_vec(&recipe).map_err(failed)?),
                ..retention.resolved.row()?
            };
            let shared = Arc::clone(retention);
            let packed = spawn_cpu("packing retention", move || PackedSnapshot {
                patients: shared.cells.pack(),
                buckets: Vec::new(),
            });
            let sources = [retention.resolved.id.to_string()];
            match self.store.store_list(&row, &packed.await?, &sources).await? {
                StoredAs::Same => Ok(()),
                StoredAs::Other => Err(Error::BeingRestored),
                StoredAs::SourceExpired => Err(Error::Busy),
            }
        };
        retention.persisted.get_or_try_init(store).await?;
        Ok(())
    }

    /// The list of a cell, by the places of its row and of itself in the row.
    ///
    /// # Errors
    /// Where the stored snapshot is damaged.
    pub fn cell(&self, retention: &Arc<ResolvedRetention>, row: u32, place: usize) -> Result<Cohort> {
        let none = || Error::Internal("a row of a retention has no such cell".to_owned());
        let of = retention.new_patients(row);
        let cell = retention.cells.row(row as usize).get(place).ok_or_else(none)?;
        let recipe = Recipe::Cell {
            of: of.id(),
            offset: cell.offset,
            from: cell.bounds.from.date(),
            to: cell.bounds.to.date(),
        };
        let content = Content::Cell {
            retention: Arc::clone(retention),
            row: row as usize,
            place,
            list: OnceLock::new(),
        };
        self.derived_of(recipe, 1, &of, &[], content)
    }
}
