//! Imports of uploaded files: prepared, committed, discarded.

use async_trait::async_trait;

use super::digest::DigestFields;
use super::transaction::CommandTx;
use super::{Command, CommandInfo, Outcome};
use crate::error::{Error, Result};
use crate::permissions::Action;
use crate::store::{ConflictPolicy, Import, ImportDetail, ImportState, NewImport};

/// Records an import of an uploaded file, to be checked.
#[derive(Clone, Debug)]
pub struct PrepareImport {
    pub upload: i64,
    /// PATIENTS or VISITS.
    pub kind: String,
    /// A mapping file's text.
    pub mapping: Option<String>,
    pub conflicts: ConflictPolicy,
    pub source: String,
}

/// Has a checked import committed.
#[derive(Clone, Debug)]
pub struct CommitImport {
    pub id: i64,
}

/// Puts an import away that was not committed.
#[derive(Clone, Debug)]
pub struct DiscardImport {
    pub id: i64,
}

impl PrepareImport {
    pub(super) const INFO: CommandInfo = CommandInfo {
        name: "prepareImport",
        mutation: Some("prepareImport"),
        action: Action::ChangeRecords,
        description: "to import files",
    };
}

impl CommitImport {
    pub(super) const INFO: CommandInfo = CommandInfo {
        name: "commitImport",
        mutation: Some("commitImport"),
        action: Action::ChangeRecords,
        description: "to import files",
    };
}

impl DiscardImport {
    pub(super) const INFO: CommandInfo = CommandInfo {
        name: "discardImport",
        mutation: Some("discardImport"),
        action: Action::ChangeRecords,
        description: "to discard imports",
    };
}

#[async_trait]
impl Command for PrepareImport {
    fn info(&self) -> &'static CommandInfo {
        &Self::INFO
    }

    fn digest(&self, fields: &mut DigestFields) {
        let Self {
            upload,
            kind,
            mapping,
            conflicts,
            source,
        } = self;
        fields
            .put("fileId", upload)
            .put("kind", kind)
            .put_some("mapping", mapping)
            .put("conflicts", conflicts.as_str())
            .put("source", source);
    }

    async fn execute(&self, tx: &CommandTx<'_>) -> Result<Outcome> {
        let upload = tx.store.upload(tx.hospital, self.upload).await?;
        let upload = upload.ok_or_else(|| Error::unknown_id("input.fileId", "uploaded file"))?;
        let new = NewImport {
            kind: self.kind.clone(),
            state: ImportState::Checking,
            file_digest: upload.digest,
            staff: tx.staff(),
            source: self.source.clone(),
            conflicts: self.conflicts,
            upload: Some(self.upload),
            rows_read: 0,
            rows_total: None,
            counts: Default::default(),
            detail: ImportDetail {
                file_name: upload.file_name,
                mapping: self.mapping.clone(),
                ..ImportDetail::default()
            },
        };
        let id = tx.store.add_import_in(&tx.transaction, tx.hospital, &new).await?;
        Ok(Outcome::record(id))
    }
}

#[async_trait]
impl Command for CommitImport {
    fn info(&self) -> &'static CommandInfo {
        &Self::INFO
    }

    fn digest(&self, fields: &mut DigestFields) {
        let Self { id } = self;
        fields.put("id", id);
    }

    async fn execute(&self, tx: &CommandTx<'_>) -> Result<Outcome> {
        tx.import_in_state(self.id, &[ImportState::Ready]).await?;
        tx.store
            .set_import_state(&tx.transaction, tx.hospital, self.id, ImportState::Committing)
            .await?;
        Ok(Outcome::record(self.id))
    }
}

#[async_trait]
impl Command for DiscardImport {
    fn info(&self) -> &'static CommandInfo {
        &Self::INFO
    }

    fn digest(&self, fields: &mut DigestFields) {
        let Self { id } = self;
        fields.put("id", id);
    }

    async fn execute(&self, tx: &CommandTx<'_>) -> Result<Outcome> {
        let states = [ImportState::Checking, ImportState::Ready, ImportState::Discarded];
        tx.import_in_state(self.id, &states).await?;
        tx.store
            .set_import_state(&tx.transaction, tx.hospital, self.id, ImportState::Discarded)
            .await?;
        Ok(Outcome::record(self.id))
    }
}

impl CommandTx<'_> {
    async fn import_in_state(&self, id: i64, states: &[ImportState]) -> Result<Import> {
        let import = self.store.import_in(&self.transaction, self.hospital, id).await?;
        let import = import.ok_or_else(|| Error::unknown_id("input.id", "import"))?;
        if states.contains(&import.state) {
            return Ok(import);
        }
        let states: Vec<&str> = states.iter().map(|state| state.as_str()).collect();
        Err(Error::input(
            "input.id",
            format!(
                "the import is {}, and must be {}",
                import.state.as_str(),
                states.join(" or ")
            ),
        ))
    }
}
