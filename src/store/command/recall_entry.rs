//! What the commands on recall lists have in common.

use entity::{recall_entry, recall_list};
use sea_orm::{ColumnTrait as _, EntityTrait as _, QueryFilter as _};

use super::transaction::CommandTx;
use crate::error::{Error, Result};

/// An entry of an open list.
pub(super) struct OpenEntry {
    pub row: recall_entry::Model,
    /// Whether it counts: no older entry of the list is the same person.
    pub stands: bool,
    /// The patient; where records were merged, the one who stays.
    pub patient: i64,
}

impl CommandTx<'_> {
    /// A list that was not closed yet.
    pub(super) async fn open_list(&self, argument: &str, id: i64) -> Result<recall_list::Model> {
        let list = self
            .store
            .recall_list_in(&self.transaction, self.hospital, argument, id)
            .await?;
        match list.closed_at {
            None => Ok(list),
            Some(_) => Err(Error::input(argument, "this list is closed: its numbers are final")),
        }
    }

    /// Entries of open lists, in the order of their ids as given. The path of an id in an argument of several ends with its place.
    pub(super) async fn open_entries(&self, argument: &str, ids: &[i64]) -> Result<Vec<OpenEntry>> {
        let rows = recall_entry::Entity::find()
            .filter(recall_entry::Column::HospitalId.eq(self.hospital))
            .filter(recall_entry::Column::Id.is_in(ids.iter().copied()))
            .all(&self.transaction)
            .await?;
        let standing = self
            .store
            .standing_entries(&self.transaction, self.hospital, ids)
            .await?;
        let mut entries = Vec::with_capacity(ids.len());
        for (place, id) in ids.iter().enumerate() {
            let argument = entry_argument(argument, place, ids.len());
            let row = rows.iter().find(|row| row.id == *id);
            let (Some(row), Some(&(stands, patient))) = (row, standing.get(id)) else {
                return Err(Error::unknown_id(argument, "entry of a recall list"));
            };
            self.open_list(&argument, row.list_id).await?;
            entries.push(OpenEntry {
                row: row.clone(),
                stands,
                patient,
            });
        }
        Ok(entries)
    }

    /// Refuses an entry that somebody else has claimed.
    pub(super) fn refuse_held(&self, argument: &str, entry: &OpenEntry) -> Result<()> {
        let until = entry.row.claimed_until.filter(|until| *until > self.store.now());
        match until {
            Some(until) if entry.row.claimed_by != self.staff() => Err(Error::Conflict {
                argument: argument.to_owned(),
                message: format!(
                    "somebody else is working on this entry until {}: take another one",
                    until.format("%H:%M UTC")
                ),
                current_version: Some(entry.row.version),
            }),
            _ => Ok(()),
        }
    }
}

/// The path of an entry in an argument.
pub(super) fn entry_argument(argument: &str, place: usize, of: usize) -> String {
    if of == 1 && !argument.ends_with('s') {
        argument.to_owned()
    } else {
        format!("{argument}.{place}")
    }
}
