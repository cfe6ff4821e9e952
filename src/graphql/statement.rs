//! Statements of closed months.

use std::sync::Arc;

use async_graphql::{Context, ID, Object};

use super::changes::StatisticsChanges;
use super::context;
use super::id::Id;
use super::loaders::{SnapshotRowKey, StatementKey};
use super::pagination::{CursorScope, KeyedRow, PageArgs, PageInfo, page_info, rows_selected};
use super::scalars::{Date, DateTime};
use super::staff::StaffMember;
use super::statistics::Statistics;
use crate::error::{Error, Result};
use crate::statement::preceding;
use crate::statistics::Day;
use crate::store;

/// A statement in the response.
#[derive(Clone)]
pub(super) struct Statement(Arc<store::Statement>);

impl Statement {
    pub(super) async fn find(ctx: &Context<'_>, id: i64) -> Result<Option<Self>> {
        let hospital = context::viewer(ctx)?.hospital;
        let found = context::services(ctx)?.store.statement(hospital, id).await?;
        Ok(found.map(|row| Self(Arc::new(row))))
    }
}

/// A month that was closed: what was told of it, for good.
#[Object]
impl Statement {
    /// An opaque ID.
    pub(super) async fn id(&self) -> ID {
        Id::Statement(self.0.id).into()
    }

    /// The first day of the month.
    async fn month(&self) -> Date {
        Day::from(self.0.month).into()
    }

    /// The month by DAY without a filter, asOf the day of sealing; its total is the month. It is pinned for good.
    async fn statistics(&self, ctx: &Context<'_>) -> Result<Statistics> {
        let row = context::loaders(ctx)?
            .load_one(SnapshotRowKey(self.0.snapshot_id.clone()))
            .await?;
        let head = match row {
            Some(row) => context::services(ctx)?.reporting.head(&row).await?,
            None => None,
        };
        let head = head.ok_or_else(|| Error::Internal("the snapshot of a statement is gone".to_owned()))?;
        Ok(Statistics::stored(Arc::new(head)))
    }

    /// When it was sealed.
    async fn sealed_at(&self) -> DateTime {
        DateTime(self.0.sealed_at)
    }

    /// Who sealed it.
    async fn sealed_by(&self, ctx: &Context<'_>) -> Result<Option<StaffMember>> {
        match self.0.sealed_by {
            Some(id) => StaffMember::find(ctx, id).await,
            None => Ok(None),
        }
    }

    /// SHA-256 in hexadecimal, over the hospital's code, timeZone, weekStart, month, asOf, revision, definition, the counts and the
    /// Cohort.digest of each cohort of each day and of the month, and the digest of the statement before, as canonical JSON (RFC 8785).
    async fn digest(&self) -> &str {
        &self.0.digest
    }

    /// The statement of the month before; null for the first.
    async fn previous(&self, ctx: &Context<'_>) -> Result<Option<Self>> {
        let Some(month) = preceding(self.0.month) else {
            return Ok(None);
        };
        Ok(context::loaders(ctx)?.load_one(StatementKey(month)).await?.map(Self))
    }

    /// What has changed since, by the same definition and for the same asOf: empty as long as nothing was corrected.
    async fn corrections(&self, ctx: &Context<'_>) -> Result<StatisticsChanges> {
        Ok(StatisticsChanges(
            context::services(ctx)?.reporting.corrections(&self.0).await?,
        ))
    }
}

/// A statement in a list.
struct StatementEdge(KeyedRow<Statement>);

/// A statement in a list.
#[Object]
impl StatementEdge {
    /// The cursor of this row in this list.
    async fn cursor(&self, ctx: &Context<'_>) -> Result<String> {
        self.0.cursor(ctx)
    }

    /// The statement.
    async fn node(&self) -> &Statement {
        &self.0.row
    }
}

/// A page of statements.
pub(super) struct StatementConnection {
    rows: Vec<KeyedRow<Statement>>,
    /// Whether there are rows before and after the page.
    around: (bool, bool),
}

/// A page of statements, the newest month first.
#[Object]
impl StatementConnection {
    /// The rows with their cursors.
    async fn edges(&self) -> Vec<StatementEdge> {
        self.rows.iter().cloned().map(StatementEdge).collect()
    }

    /// The rows.
    async fn nodes(&self) -> Vec<&Statement> {
        self.rows.iter().map(|keyed| &keyed.row).collect()
    }

    /// The position of the page in the list.
    async fn page_info(&self, ctx: &Context<'_>) -> Result<PageInfo> {
        page_info(ctx, &self.rows, self.around)
    }

    /// The length of the whole list.
    async fn total_count(&self, ctx: &Context<'_>) -> Result<u64> {
        let hospital = context::viewer(ctx)?.hospital;
        context::services(ctx)?.store.statement_total(hospital).await
    }
}

/// Binds cursors to the list. Clients keep cursors across versions, so this text must not change.
const SCOPE: &str = "statements";

/// A page of the hospital's statements.
pub(super) async fn page(ctx: &Context<'_>, page_args: &PageArgs) -> Result<StatementConnection> {
    let (hospital, store) = (context::viewer(ctx)?.hospital, &context::services(ctx)?.store);
    let scope: CursorScope = Arc::new(SCOPE);
    let seek = page_args.keyset(store.secrets(), hospital, &scope, true)?;
    let mut rows = if rows_selected(ctx) {
        store.statement_page(hospital, &seek).await?
    } else {
        Vec::new()
    };
    let around = page_args.trim(&mut rows);
    let keyed = |row: store::Statement| KeyedRow {
        scope: Arc::clone(&scope),
        key: None,
        id: row.id,
        row: Statement(Arc::new(row)),
    };
    Ok(StatementConnection {
        rows: rows.into_iter().map(keyed).collect(),
        around,
    })
}
