//! Imports of uploaded files.

use async_graphql::{Context, ID, InputObject, Object, SimpleObject};

use super::{BadFields, execute, line};
use crate::error::{Error, Result};
use crate::graphql::import::{ConflictPolicy, Import, ImportKind};
use crate::graphql::{access, context, id};
use crate::import::{self, Mapping};
use crate::store::{CommitImport, DiscardImport, PrepareImport};

#[derive(Default)]
pub struct ImportMutation;

/// The longest text of a mapping, in bytes.
const MAX_MAPPING_BYTES: usize = 64 << 10;

/// A file to import.
#[derive(InputObject)]
struct PrepareImportInput {
    /// What POST /files answered.
    file_id: ID,
    /// What the file has rows of.
    kind: ImportKind,
    /// A mapping file's text, at most 64 KiB; absent: our own columns, or what the header row says unmistakably.
    mapping: Option<String>,
    /// What stands in a conflict.
    #[graphql(default_with = "ConflictPolicy::Keep")]
    conflicts: ConflictPolicy,
    /// The system that the file is from, 1–255 characters: what it last said is remembered by source. By default patients or visits.
    source: Option<String>,
    /// A key of 1–255 characters that the client chooses: a mutation repeated with the same key is executed once. Remembered for 7 days.
    idempotency_key: Option<String>,
}

/// The import, which is being checked.
#[derive(SimpleObject)]
struct PrepareImportPayload {
    /// The import.
    import: Import,
}

/// An import to commit.
#[derive(InputObject)]
struct CommitImportInput {
    /// The import, which must be READY.
    id: ID,
    /// A key of 1–255 characters that the client chooses: a mutation repeated with the same key is executed once. Remembered for 7 days.
    idempotency_key: Option<String>,
}

/// The import, which is being committed.
#[derive(SimpleObject)]
struct CommitImportPayload {
    /// The import.
    import: Import,
}

/// An import to put away.
#[derive(InputObject)]
struct DiscardImportInput {
    /// The import, which must be CHECKING or READY.
    id: ID,
}

/// The import, which was put away.
#[derive(SimpleObject)]
struct DiscardImportPayload {
    /// The import.
    import: Import,
}

#[Object(guard = "access::console")]
impl ImportMutation {
    /// Has an uploaded file checked: read to its end, and each row held against what is there. Nothing is changed. Returns at once; the
    /// import is CHECKING, and then READY or FAILED. For ADMIN and DESK.
    async fn prepare_import(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The file to import.")] input: PrepareImportInput,
    ) -> Result<PrepareImportPayload> {
        let mut bad = BadFields::default();
        let upload = bad.check(id::upload("input.fileId", &input.file_id))?;
        bad.check(input.mapping.as_deref().map_or(Ok(()), check_mapping))?;
        let source = input.source.map(|name| line("input.source", &name)).transpose();
        let source = bad.check(source)?;
        let kind = input.kind.as_str();
        let command = PrepareImport {
            upload,
            kind: kind.to_owned(),
            mapping: input.mapping,
            conflicts: input.conflicts.into(),
            source: source.unwrap_or_else(|| kind.to_ascii_lowercase()),
        };
        let id = execute(ctx, bad, &command, input.idempotency_key).await?;
        start(ctx, id)?;
        let import = load(ctx, id).await?;
        Ok(PrepareImportPayload { import })
    }

    /// Has the changes of a checked import made. Each row is decided again, since data may have changed. Returns at once; the import is
    /// COMMITTING, and then DONE or FAILED. For ADMIN and DESK.
    async fn commit_import(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The import to commit.")] input: CommitImportInput,
    ) -> Result<CommitImportPayload> {
        let mut bad = BadFields::default();
        let id = bad.check(id::import("input.id", &input.id))?;
        let id = execute(ctx, bad, &CommitImport { id }, input.idempotency_key).await?;
        start(ctx, id)?;
        let import = load(ctx, id).await?;
        Ok(CommitImportPayload { import })
    }

    /// Puts an import away that was not committed, with its file and its rows. For ADMIN and DESK.
    async fn discard_import(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The import to put away.")] input: DiscardImportInput,
    ) -> Result<DiscardImportPayload> {
        let mut bad = BadFields::default();
        let id = bad.check(id::import("input.id", &input.id))?;
        let id = execute(ctx, bad, &DiscardImport { id }, None).await?;
        let (hospital, store) = (context::viewer(ctx)?.hospital, &context::services(ctx)?.store);
        store.put_import_away(hospital, id).await?;
        let import = load(ctx, id).await?;
        Ok(DiscardImportPayload { import })
    }
}

/// A mapping as long as a file of it may be, and of which everything is known.
fn check_mapping(text: &str) -> Result<()> {
    const ARGUMENT: &str = "input.mapping";
    if text.len() > MAX_MAPPING_BYTES {
        return Err(Error::input(
            ARGUMENT,
            format!("must have at most {MAX_MAPPING_BYTES} bytes"),
        ));
    }
    match Mapping::parse(text) {
        Ok(_) => Ok(()),
        Err(Error::Input { message, .. }) => Err(Error::input(ARGUMENT, message)),
        Err(error) => Err(error),
    }
}

/// Starts the check or the commit of an import, unless it was started before.
fn start(ctx: &Context<'_>, id: i64) -> Result<()> {
    let hospital = context::viewer(ctx)?.hospital;
    import::start(&context::services(ctx)?.store, hospital, id);
    Ok(())
}

async fn load(ctx: &Context<'_>, id: i64) -> Result<Import> {
    let import = Import::find(ctx, id).await?;
    import.ok_or_else(|| Error::Internal("the import of the response is gone".to_owned()))
}
