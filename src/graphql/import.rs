//! Imports of files.

use std::fmt::Display;
use std::sync::Arc;

use async_graphql::{Context, Enum, ID, Object, SimpleObject};
use futures_util::future::try_join_all;
use serde_json::json;

use super::context;
use super::history::{FieldChange, Viewing};
use super::id::Id;
use super::pagination::{CursorScope, KeyedRow, PageArgs, PageInfo, page_info, rows_selected};
use super::scalars::DateTime;
use super::staff::StaffMember;
use super::statistics::not_empty;
use crate::error::{Error, Result};
use crate::permissions::Action;
use crate::store::{self, ImportRowField, ImportRowProblem};

/// What a file has rows of.
#[derive(Enum, Clone, Copy, PartialEq, Eq)]
pub(super) enum ImportKind {
    /// Patients.
    Patients,
    /// Visits; with a mapping that says so, their patients, too.
    Visits,
}

impl ImportKind {
    /// The word that is stored for it.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Patients => "PATIENTS",
            Self::Visits => "VISITS",
        }
    }
}

/// How far an import is.
#[derive(Enum, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "store::ImportState")]
pub(super) enum ImportState {
    /// The file is being read and held against what is there; nothing is changed.
    Checking,
    /// Checked: rows and problems can be looked at, and commitImport makes the changes.
    Ready,
    /// The changes are being made.
    Committing,
    /// The changes were made.
    Done,
    /// The file as a whole cannot be taken, or the import was broken off; problem says why. What was committed before stays.
    Failed,
    /// Put away without a change, or not committed while its file was kept.
    Discarded,
}

/// What becomes of a row.
#[derive(Enum, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "store::ImportOutcome")]
pub(super) enum ImportOutcome {
    /// A new patient or visit.
    Insert,
    /// Values of a patient or visit that is there change.
    Change,
    /// Nothing changes: the file says what is there, or what its source said before, or the record was deleted, merged or erased.
    Unchanged,
    /// The file says something new of a value that staff or SQL changed; see ConflictPolicy. The row's other values are taken.
    Conflict,
    /// The row is not taken.
    Refused,
    /// No mapped column has a value.
    Blank,
}

/// What stands where a file says something new of a value that staff or SQL changed since it was last imported.
#[derive(Enum, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "store::ConflictPolicy")]
pub(super) enum ConflictPolicy {
    /// What is there stays, and the row is reported. Visits that staff deleted stay deleted.
    Keep,
    /// The file's value, and the row is reported. Visits that staff deleted are inserted again; erased patients stay erased all the
    /// same.
    Overwrite,
}

/// An import in the response. Only [`Self::find`] and [`page`] create one, for viewers who may import.
#[derive(Clone)]
pub(super) struct Import(Arc<store::Import>);

/// A file on its way in: checked first, committed second.
#[Object]
impl Import {
    /// An opaque ID.
    pub(super) async fn id(&self) -> ID {
        Id::Import(self.0.id).into()
    }

    /// What the file has rows of.
    async fn kind(&self) -> Result<ImportKind> {
        match self.0.kind.as_str() {
            "PATIENTS" => Ok(ImportKind::Patients),
            "VISITS" => Ok(ImportKind::Visits),
            word => Err(Error::Internal(format!("import.kind holds the unknown value {word:?}"))),
        }
    }

    /// How far it is.
    async fn state(&self) -> ImportState {
        self.0.state.into()
    }

    /// The file's name, as it was uploaded.
    async fn file_name(&self) -> &str {
        &self.0.detail.file_name
    }

    /// SHA-256 of the file's bytes, in hexadecimal.
    async fn file_digest(&self) -> &str {
        &self.0.file_digest
    }

    /// When it was begun.
    async fn created_at(&self) -> DateTime {
        DateTime(self.0.created_at)
    }

    /// Who began it; null for the command line.
    async fn by(&self, ctx: &Context<'_>) -> Result<Option<StaffMember>> {
        match self.0.staff {
            Some(id) => StaffMember::find(ctx, id).await,
            None => Ok(None),
        }
    }

    /// The system that the file is from. What each source last said of each value is remembered.
    async fn source(&self) -> &str {
        &self.0.source
    }

    /// What stands in a conflict.
    async fn conflicts(&self) -> ConflictPolicy {
        self.0.conflicts.into()
    }

    /// When a file of these bytes was last imported whole, as the same kind; null if it never was. Once this import is DONE, it is that
    /// import itself.
    async fn last_imported_at(&self, ctx: &Context<'_>) -> Result<Option<DateTime>> {
        let (hospital, store) = (context::viewer(ctx)?.hospital, &context::services(ctx)?.store);
        let last = store
            .last_import_of(hospital, &self.0.kind, &self.0.file_digest)
            .await?;
        Ok(last.map(|(at, _)| DateTime(at)))
    }

    /// What the file was taken for: format, sheet, encoding, delimiter, header row, and which column became what. Empty until that is
    /// known.
    async fn reading(&self) -> ImportReading {
        let store::ImportReading {
            format,
            sheet,
            encoding,
            delimiter,
            header_row,
            columns,
        } = self.0.detail.reading.clone();
        let columns = columns.into_iter();
        ImportReading {
            format,
            sheet,
            encoding,
            delimiter,
            header_row,
            columns: columns
                .map(|store::ImportColumn { header, column }| ImportColumn { header, column })
                .collect(),
        }
    }

    /// The number of rows read so far: checked, or while it is COMMITTING committed. The sum of counts.
    async fn rows_read(&self) -> u64 {
        self.0.rows_read
    }

    /// The number of the file's rows below the header row; null until it is known.
    async fn rows_total(&self) -> Option<u64> {
        self.0.rows_total
    }

    /// The number of rows of each outcome, in order; each is the totalCount of rows with this outcome while they are kept.
    async fn counts(&self) -> Vec<ImportCount> {
        let counts = store::ImportOutcome::ALL.iter().zip(self.0.counts);
        counts
            .map(|(outcome, rows)| ImportCount {
                outcome: (*outcome).into(),
                rows,
            })
            .collect()
    }

    /// A page of the rows in the order of the file, with what would become of them, or once it is committed what became of them. Kept
    /// for a week after the import ended; none of imports from the command line.
    #[allow(clippy::too_many_arguments)]
    async fn rows(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The number of rows from the start, at most 100; 20 if neither first nor last is given.")]
        first: Option<i32>,
        #[graphql(desc = "Rows after this cursor; with first.")] after: Option<String>,
        #[graphql(desc = "The number of rows from the end, at most 100.")] last: Option<i32>,
        #[graphql(desc = "Rows before this cursor; with last.")] before: Option<String>,
        #[graphql(desc = "Only rows with these outcomes; all if absent. An empty list is refused.")] outcomes: Option<
            Vec<ImportOutcome>,
        >,
    ) -> Result<ImportRowConnection> {
        let page_args = PageArgs::new(context::limits(ctx)?, first, after, last, before)?;
        not_empty(context::limits(ctx)?, "outcomes", outcomes.as_deref())?;
        let outcomes: Option<Vec<store::ImportOutcome>> =
            outcomes.map(|outcomes| outcomes.into_iter().map(Into::into).collect());
        let scope: CursorScope = Arc::new(rows_scope(self.0.id, outcomes.as_deref()));
        let (hospital, store) = (context::viewer(ctx)?.hospital, &context::services(ctx)?.store);
        let seek = page_args.keyset(store.secrets(), hospital, &scope, false)?;
        let mut rows = Vec::new();
        if rows_selected(ctx) {
            rows = store
                .import_rows(hospital, self.0.id, outcomes.as_deref(), &seek)
                .await?;
        }
        let around = page_args.trim(&mut rows);
        let keyed = |row: store::ImportRow| KeyedRow {
            scope: Arc::clone(&scope),
            key: None,
            id: row.line.cast_signed(),
            row,
        };
        Ok(ImportRowConnection {
            import: self.0.id,
            outcomes,
            rows: rows.into_iter().map(keyed).collect(),
            around,
        })
    }

    /// Words of the columns of statuses, channels and sexes that stand for nothing, with how often, by column.
    async fn unknown_words(&self) -> Vec<UnknownWord> {
        let words = self.0.detail.unknown_words.iter().cloned();
        let word = |word: store::ImportWord| UnknownWord {
            column: word.column,
            word: word.word.unwrap_or_else(|| "…".to_owned()),
            rows: word.rows,
        };
        words.map(word).collect()
    }

    /// Why it FAILED.
    async fn problem(&self) -> Option<&str> {
        self.0.detail.problem.as_deref()
    }
}

impl Import {
    /// The import with this id, if the hospital has it.
    pub(super) async fn find(ctx: &Context<'_>, id: i64) -> Result<Option<Self>> {
        let viewer = context::viewer(ctx)?;
        viewer.require(Action::ChangeRecords, "to see imports")?;
        let found = context::services(ctx)?.store.import(viewer.hospital, id).await?;
        Ok(found.map(|import| Self(Arc::new(import))))
    }

    /// Whether nothing becomes of it any more.
    pub(super) fn has_ended(&self) -> bool {
        use store::ImportState::{Checking, Committing, Discarded, Done, Failed, Ready};
        match self.0.state {
            Checking | Ready | Committing => false,
            Done | Failed | Discarded => true,
        }
    }
}

/// What a file was taken for.
#[derive(SimpleObject)]
struct ImportReading {
    /// CSV or XLSX.
    format: String,
    /// The sheet of an XLSX file.
    sheet: Option<String>,
    /// The encoding of a CSV file.
    encoding: Option<String>,
    /// What separates the cells of a CSV file.
    delimiter: Option<String>,
    /// The header row's line.
    header_row: u64,
    /// The columns of the header row, in order.
    columns: Vec<ImportColumn>,
}

/// A column of a file.
#[derive(SimpleObject)]
struct ImportColumn {
    /// As the file has it.
    header: String,
    /// Our column; null if it is ignored.
    column: Option<String>,
}

/// The rows of an outcome.
#[derive(SimpleObject)]
struct ImportCount {
    /// The outcome.
    outcome: ImportOutcome,
    /// The number of rows.
    rows: u64,
}

/// A word of a file that no status, channel or sex stands for.
#[derive(SimpleObject)]
struct UnknownWord {
    /// The file's column.
    column: String,
    /// The word; … stands for all if there are more than 20, since the column may be another one.
    word: String,
    /// The number of rows that have it.
    rows: u64,
}

/// A row of a file in the response. Only [`Self::audited`] creates one, and it records the view of its patient for the audit.
struct ImportRow(store::ImportRow);

/// A row of a file.
#[Object]
impl ImportRow {
    /// The line on which it begins, as a text editor or the spreadsheet shows it.
    async fn line(&self) -> u64 {
        self.0.line
    }

    /// What becomes of it.
    async fn outcome(&self) -> ImportOutcome {
        self.0.outcome.into()
    }

    /// What is wrong with it, and what is left out.
    async fn problems(&self) -> Vec<ImportProblem> {
        let problems = self.0.detail.problems.iter().cloned();
        let problem = |problem: ImportRowProblem| ImportProblem {
            column: problem.column,
            message: problem.message,
            value_left_out: problem.value_left_out,
        };
        problems.map(problem).collect()
    }

    /// The values that would change, or were changed, and those in conflict; of a new patient or visit all. Empty once the patient was
    /// erased.
    async fn fields(&self, ctx: &Context<'_>) -> Result<Vec<FieldChange>> {
        let viewing = Viewing::of(ctx).await?;
        let fields = self.0.detail.fields.iter();
        let changes = fields
            .map(|ImportRowField { field, before, after }| viewing.change(ctx, field, before.clone(), after.clone()));
        try_join_all(changes).await
    }
}

impl ImportRow {
    fn audited(ctx: &Context<'_>, row: store::ImportRow) -> Result<Self> {
        if let Some(patient) = row.patient {
            context::audit_patient_view(ctx, patient)?;
        }
        Ok(Self(row))
    }
}

/// A problem of a row.
#[derive(SimpleObject)]
struct ImportProblem {
    /// The file's column; null for a problem of the whole row.
    column: Option<String>,
    /// What is wrong and what would be taken. It has no value of a patient.
    message: String,
    /// Whether the row is taken without this value.
    value_left_out: bool,
}

/// A row of a file.
struct ImportRowEdge(KeyedRow<store::ImportRow>);

/// A row of a file.
#[Object]
impl ImportRowEdge {
    /// The cursor of this row in this list.
    async fn cursor(&self, ctx: &Context<'_>) -> Result<String> {
        self.0.cursor(ctx)
    }

    /// The row.
    async fn node(&self, ctx: &Context<'_>) -> Result<ImportRow> {
        ImportRow::audited(ctx, self.0.row.clone())
    }
}

/// A page of an import's rows.
struct ImportRowConnection {
    import: i64,
    outcomes: Option<Vec<store::ImportOutcome>>,
    rows: Vec<KeyedRow<store::ImportRow>>,
    /// Whether there are rows before and after the page.
    around: (bool, bool),
}

/// A page of an import's rows, in the order of the file.
#[Object]
impl ImportRowConnection {
    /// The rows with their cursors.
    async fn edges(&self) -> Vec<ImportRowEdge> {
        self.rows.iter().cloned().map(ImportRowEdge).collect()
    }

    /// The rows.
    async fn nodes(&self, ctx: &Context<'_>) -> Result<Vec<ImportRow>> {
        let rows = self.rows.iter().map(|keyed| keyed.row.clone());
        rows.map(|row| ImportRow::audited(ctx, row)).collect()
    }

    /// The position of the page in the list.
    async fn page_info(&self, ctx: &Context<'_>) -> Result<PageInfo> {
        page_info(ctx, &self.rows, self.around)
    }

    /// The length of the whole list.
    async fn total_count(&self, ctx: &Context<'_>) -> Result<u64> {
        let (hospital, store) = (context::viewer(ctx)?.hospital, &context::services(ctx)?.store);
        store
            .import_row_total(hospital, self.import, self.outcomes.as_deref())
            .await
    }
}

/// An import in the list.
struct ImportEdge(KeyedRow<Import>);

/// An import in the list.
#[Object]
impl ImportEdge {
    /// The cursor of this row in this list.
    async fn cursor(&self, ctx: &Context<'_>) -> Result<String> {
        self.0.cursor(ctx)
    }

    /// The import.
    async fn node(&self) -> &Import {
        &self.0.row
    }
}

/// A page of the imports.
pub(super) struct ImportConnection {
    rows: Vec<KeyedRow<Import>>,
    /// Whether there are rows before and after the page.
    around: (bool, bool),
}

/// A page of the imports, the newest first.
#[Object]
impl ImportConnection {
    /// The rows with their cursors.
    async fn edges(&self) -> Vec<ImportEdge> {
        self.rows.iter().cloned().map(ImportEdge).collect()
    }

    /// The rows.
    async fn nodes(&self) -> Vec<&Import> {
        self.rows.iter().map(|keyed| &keyed.row).collect()
    }

    /// The position of the page in the list.
    async fn page_info(&self, ctx: &Context<'_>) -> Result<PageInfo> {
        page_info(ctx, &self.rows, self.around)
    }

    /// The length of the whole list.
    async fn total_count(&self, ctx: &Context<'_>) -> Result<u64> {
        let hospital = context::viewer(ctx)?.hospital;
        context::services(ctx)?.store.import_total(hospital).await
    }
}

/// A page of the imports.
pub(super) async fn page(ctx: &Context<'_>, page_args: &PageArgs) -> Result<ImportConnection> {
    let viewer = context::viewer(ctx)?;
    viewer.require(Action::ChangeRecords, "to see imports")?;
    let store = &context::services(ctx)?.store;
    let scope: CursorScope = Arc::new(json!(["imports"]));
    let seek = page_args.keyset(store.secrets(), viewer.hospital, &scope, true)?;
    let mut rows = Vec::new();
    if rows_selected(ctx) {
        rows = store.import_page(viewer.hospital, &seek).await?;
    }
    let around = page_args.trim(&mut rows);
    let keyed = |row: store::Import| KeyedRow {
        scope: Arc::clone(&scope),
        key: None,
        id: row.id,
        row: Import(Arc::new(row)),
    };
    Ok(ImportConnection {
        rows: rows.into_iter().map(keyed).collect(),
        around,
    })
}

/// The text that binds cursors to the list. Clients keep cursors across versions, so this encoding must not change.
fn rows_scope(import: i64, outcomes: Option<&[store::ImportOutcome]>) -> impl Display + Send + Sync + use<> {
    let outcomes = outcomes.map(|outcomes| outcomes.iter().map(|outcome| outcome.as_str()).collect::<Vec<_>>());
    json!(["importRows", import, outcomes])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_are_bound_to_what_they_were() {
        assert_eq!(rows_scope(1, None).to_string(), r#"["importRows",1,null]"#);
        let outcomes = [store::ImportOutcome::Insert, store::ImportOutcome::Refused];
        assert_eq!(
            rows_scope(2, Some(&outcomes)).to_string(),
            r#"["importRows",2,["INSERT","REFUSED"]]"#
        );
    }
}
