//! Imports of uploaded files, which a server checks and commits in the background.

use async_trait::async_trait;

use super::{FileImport, FileKind, Mapping, Observer, Progress, Report, Request, RowReport};
use crate::error::{Error, Result};
use crate::store::{Import, ImportRow, ImportRowDetail, ImportRowField, ImportRowProblem, ImportState, Pass, Store};

/// Checks an import that is CHECKING, or commits one that is COMMITTING, unless a server does so already. Returns at once.
pub fn start(store: &Store, hospital: i64, id: i64) {
    let store = store.clone();
    tokio::spawn(async move {
        if let Err(error) = run(&store, hospital, id).await {
            // It stays as it is, and is ended as one whose server stopped.
            tracing::warn!("an import was broken off: {}", error.for_operator());
        }
    });
}

async fn run(store: &Store, hospital: i64, id: i64) -> Result<()> {
    let Some(mut import) = store.take_import(hospital, id).await? else {
        return Ok(());
    };
    let before = import.state;
    let done = work(store, hospital, &mut import).await;
    import.state = match (&done, before) {
        (Ok(()), ImportState::Checking) => ImportState::Ready,
        (Ok(()), _) => ImportState::Done,
        (Err(_), _) => ImportState::Failed,
    };
    import.detail.problem = done.as_ref().err().map(problem);
    if let Err(error @ (Error::Internal(_) | Error::Database(_))) = &done {
        tracing::error!("an import failed: {}", error.for_operator());
    }
    let saved = store.save_import(hospital, before, &import).await?;
    if let Some(upload) = import.upload.filter(|_| saved && import.state != ImportState::Ready) {
        store.delete_upload(hospital, upload).await?;
    }
    Ok(())
}

/// What the console is told of an error.
fn problem(error: &Error) -> String {
    match error {
        Error::Input { message, .. } => message.clone(),
        Error::Busy => "the database is busy: import the file again to finish it".to_owned(),
        _ => "the server failed; what was committed stays: import the file again to finish it".to_owned(),
    }
}

async fn work(store: &Store, hospital: i64, import: &mut Import) -> Result<()> {
    let gone = || Error::input("file", "the uploaded file is no longer kept: upload it again");
    let upload = import.upload.ok_or_else(gone)?;
    let upload = store.upload(hospital, upload).await?.ok_or_else(gone)?;
    let file = store.copy_upload(&upload).await?.ok_or_else(gone)?;
    let hospital = store.hospital(hospital).await?.ok_or_else(gone)?;
    let mapping = import.detail.mapping.as_deref().map(Mapping::parse).transpose()?;
    let request = Request {
        kind: FileKind::of_import(&import.kind)?,
        conflicts: import.conflicts,
        source: import.source.clone(),
        with_fields: true,
        staff: import.staff,
    };
    let path = ("the file", file.path());
    let mut opened = FileImport::open(store, &hospital, path, mapping.as_ref(), request).await?;
    import.detail.reading = opened.stored_reading();
    import.detail.file_name.clone_from(&upload.file_name);
    let pass = if import.state == ImportState::Checking {
        Pass::Check
    } else {
        Pass::Commit
    };
    let mut recorder = Recorder {
        store,
        hospital: hospital.id,
        import,
    };
    let report = match pass {
        Pass::Check => opened.check(&mut recorder).await?,
        Pass::Commit => {
            let digest = hex::decode(&upload.digest).ok().and_then(|bytes| bytes.try_into().ok());
            opened.was_checked(digest.ok_or_else(|| Error::Internal("a stored digest is malformed".to_owned()))?);
            let mut report = Report::default();
            opened.commit(&mut report, &mut recorder).await?;
            report
        }
    };
    set_counts(import, &report);
    import.rows_total = Some(report.summary.read);
    Ok(())
}

fn set_counts(import: &mut Import, report: &Report) {
    import.rows_read = report.summary.read;
    import.counts = report.counts();
    import.detail.unknown_words = report.stored_words();
}

/// Stores the rows of an import and how far it is.
struct Recorder<'a> {
    store: &'a Store,
    hospital: i64,
    import: &'a mut Import,
}

#[async_trait]
impl Observer for Recorder<'_> {
    async fn slice(&mut self, rows: Vec<RowReport>, report: &Report, _progress: Progress) -> Result<()> {
        let rows: Vec<ImportRow> = rows.into_iter().map(stored_row).collect();
        self.store
            .save_import_rows(self.hospital, self.import.id, &rows)
            .await?;
        set_counts(self.import, report);
        let state = self.import.state;
        if self.store.save_import(self.hospital, state, self.import).await? {
            return Ok(());
        }
        Err(Error::input("import", "it was discarded"))
    }
}

fn stored_row(row: RowReport) -> ImportRow {
    let problems = row.problems.into_iter().map(|problem| ImportRowProblem {
        column: problem.column,
        message: problem.message,
        value_left_out: problem.value_left_out,
    });
    let fields = row.fields.into_iter().map(|difference| ImportRowField {
        field: difference.field.to_owned(),
        before: difference.before,
        after: difference.after,
    });
    ImportRow {
        line: row.line,
        outcome: row.outcome,
        patient: row.patient,
        detail: ImportRowDetail {
            problems: problems.collect(),
            fields: fields.collect(),
        },
    }
}
