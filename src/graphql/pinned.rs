//! Pinned snapshots, which can be found again.

use std::sync::Arc;

use async_graphql::{Context, Object};

use super::context;
use super::pagination::{CursorScope, KeyedRow, PageArgs, PageInfo, page_info, rows_selected};
use super::statistics::Statistics;
use crate::error::Result;

/// A snapshot in a list.
struct StatisticsEdge(KeyedRow<Statistics>);

/// A snapshot in a list.
#[Object]
impl StatisticsEdge {
    /// The cursor of this row in this list.
    async fn cursor(&self, ctx: &Context<'_>) -> Result<String> {
        self.0.cursor(ctx)
    }

    /// The snapshot.
    async fn node(&self) -> &Statistics {
        &self.0.row
    }
}

/// A page of pinned snapshots.
pub(super) struct StatisticsConnection {
    rows: Vec<KeyedRow<Statistics>>,
    /// Whether there are rows before and after the page.
    around: (bool, bool),
}

/// A page of pinned snapshots, the newest pinned first.
#[Object]
impl StatisticsConnection {
    /// The rows with their cursors.
    async fn edges(&self) -> Vec<StatisticsEdge> {
        self.rows.iter().cloned().map(StatisticsEdge).collect()
    }

    /// The rows.
    async fn nodes(&self) -> Vec<&Statistics> {
        self.rows.iter().map(|keyed| &keyed.row).collect()
    }

    /// The position of the page in the list.
    async fn page_info(&self, ctx: &Context<'_>) -> Result<PageInfo> {
        page_info(ctx, &self.rows, self.around)
    }

    /// The length of the whole list.
    async fn total_count(&self, ctx: &Context<'_>) -> Result<u64> {
        let hospital = context::viewer(ctx)?.hospital;
        context::services(ctx)?.store.pinned_total(hospital).await
    }
}

/// Binds cursors to the list. Clients keep cursors across versions, so this text must not change.
const SCOPE: &str = "pinnedSnapshots";

/// A page of the hospital's pinned snapshots.
pub(super) async fn page(ctx: &Context<'_>, page_args: &PageArgs) -> Result<StatisticsConnection> {
    let (hospital, services) = (context::viewer(ctx)?.hospital, context::services(ctx)?);
    let scope: CursorScope = Arc::new(SCOPE);
    let seek = page_args.keyset(services.store.secrets(), hospital, &scope, true)?;
    let mut rows = if rows_selected(ctx) {
        services.reporting.pinned_page(hospital, &seek).await?
    } else {
        Vec::new()
    };
    let around = page_args.trim(&mut rows);
    let keyed = |(number, head)| KeyedRow {
        scope: Arc::clone(&scope),
        key: None,
        id: number,
        row: Statistics::stored(head),
    };
    Ok(StatisticsConnection {
        rows: rows.into_iter().map(keyed).collect(),
        around,
    })
}
