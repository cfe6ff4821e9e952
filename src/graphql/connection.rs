//! Connections after the Relay specification. Their pages are cut when they are made; their rows are loaded when asked for.

use std::fmt;
use std::sync::Arc;

use async_graphql::{Context, InputObject, Object, SimpleObject};
use entity::{patient, visit};

use super::enums::{OrderDirection, PatientOrderField, VisitOrderField};
use super::loaders::VisitTotalOf;
use super::patient::Patient;
use super::visit::Visit;
use super::{asker, cursor};
use crate::error::Result;
use crate::permissions::{Action, Viewer};
use crate::store::{PatientKey, PatientSearch, VisitKey, VisitQuery};

/// Where a page lies in its list.
#[derive(SimpleObject, Clone, Default)]
pub(super) struct PageInfo {
    /// There are rows after this page.
    pub(super) has_next_page: bool,
    /// There are rows before this page.
    pub(super) has_previous_page: bool,
    /// The cursor of the first row of the page; null where it has none.
    pub(super) start_cursor: Option<String>,
    /// The cursor of the last row of the page; null where it has none.
    pub(super) end_cursor: Option<String>,
}

/// An order of patients.
#[derive(InputObject)]
pub(super) struct PatientOrder {
    /// What to order by.
    field: PatientOrderField,
    /// Which way.
    #[graphql(default_with = "OrderDirection::Asc")]
    direction: OrderDirection,
}

/// An order of visits.
#[derive(InputObject)]
pub(super) struct VisitOrder {
    /// What to order by.
    field: VisitOrderField,
    /// Which way.
    #[graphql(default_with = "OrderDirection::Asc")]
    direction: OrderDirection,
}

/// The order asked for, and whether it descends; by chart number where none is. A name is no order for who sees none.
pub(super) fn patient_order(viewer: &Viewer, order: Option<PatientOrder>) -> Result<(PatientKey, bool)> {
    let Some(order) = order else {
        return Ok((PatientKey::ChartNo, false));
    };
    let key = PatientKey::from(order.field);
    if key == PatientKey::Name {
        viewer.require(Action::UseNames, "to order patients by name")?;
    }
    Ok((key, order.direction == OrderDirection::Desc))
}

/// The order asked for, and whether it descends; the newest first where none is.
pub(super) fn visit_order(viewer: &Viewer, order: Option<VisitOrder>) -> Result<(VisitKey, bool)> {
    let Some(order) = order else {
        return Ok((VisitKey::Date, true));
    };
    let key = VisitKey::from(order.field);
    if key == VisitKey::PatientName {
        viewer.require(Action::UseNames, "to order visits by name")?;
    }
    Ok((key, order.direction == OrderDirection::Desc))
}

/// What binds a cursor to its list. It is put into words where a cursor is.
pub(super) type ListName = Arc<dyn fmt::Display + Send + Sync>;

/// A row that was read by its key, and what its cursor is made of.
#[derive(Clone)]
pub(super) struct Marked<T> {
    pub(super) list: ListName,
    pub(super) key: Option<String>,
    pub(super) id: i64,
    pub(super) row: T,
}

impl<T> Marked<T> {
    pub(super) fn cursor(&self, ctx: &Context<'_>) -> Result<String> {
        let (hospital, secrets) = (asker::viewer(ctx)?.hospital, asker::shared(ctx)?.store.secrets());
        cursor::of_key(secrets, hospital, &self.list.to_string(), self.key.as_deref(), self.id)
    }
}

/// A patient in a list.
pub(super) struct PatientEdge(Marked<patient::Model>);

/// A patient in a list.
#[Object]
impl PatientEdge {
    /// Marks this row in this list and order.
    async fn cursor(&self, ctx: &Context<'_>) -> Result<String> {
        self.0.cursor(ctx)
    }

    /// The patient.
    async fn node(&self, ctx: &Context<'_>) -> Result<Patient> {
        Patient::shown(ctx, self.0.row.clone())
    }
}

/// A page of patients.
pub(super) struct PatientConnection {
    pub(super) rows: Vec<Marked<patient::Model>>,
    /// Whether there are rows before and after.
    pub(super) around: (bool, bool),
    pub(super) search: PatientSearch,
}

/// A page of patients, as they are now.
#[Object]
impl PatientConnection {
    /// The rows with their cursors.
    async fn edges(&self) -> Vec<PatientEdge> {
        self.rows.iter().cloned().map(PatientEdge).collect()
    }

    /// The rows.
    async fn nodes(&self, ctx: &Context<'_>) -> Result<Vec<Patient>> {
        let rows = self.rows.iter().map(|marked| marked.row.clone());
        rows.map(|row| Patient::shown(ctx, row)).collect()
    }

    /// Where the page lies in the list.
    async fn page_info(&self, ctx: &Context<'_>) -> Result<PageInfo> {
        page_info(ctx, &self.rows, self.around)
    }

    /// The length of the whole list.
    async fn total_count(&self, ctx: &Context<'_>) -> Result<u64> {
        let hospital = asker::viewer(ctx)?.hospital;
        asker::shared(ctx)?.store.patient_total(hospital, &self.search).await
    }
}

/// A visit in a list.
pub(super) struct VisitEdge(Marked<visit::Model>);

/// A visit in a list.
#[Object]
impl VisitEdge {
    /// Marks this row in this list and order.
    async fn cursor(&self, ctx: &Context<'_>) -> Result<String> {
        self.0.cursor(ctx)
    }

    /// The visit.
    async fn node(&self, ctx: &Context<'_>) -> Result<Visit> {
        Visit::here(ctx, self.0.row.clone())
    }
}

/// A page of visits.
pub(super) struct VisitConnection {
    pub(super) rows: Vec<Marked<visit::Model>>,
    /// Whether there are rows before and after.
    pub(super) around: (bool, bool),
    pub(super) query: VisitQuery,
    /// Of one patient, or of the hospital.
    pub(super) patient: Option<i64>,
}

/// A page of visits, as they are now.
#[Object]
impl VisitConnection {
    /// The rows with their cursors.
    async fn edges(&self) -> Vec<VisitEdge> {
        self.rows.iter().cloned().map(VisitEdge).collect()
    }

    /// The rows.
    async fn nodes(&self, ctx: &Context<'_>) -> Result<Vec<Visit>> {
        let rows = self.rows.iter().map(|marked| marked.row.clone());
        rows.map(|row| Visit::here(ctx, row)).collect()
    }

    /// Where the page lies in the list.
    async fn page_info(&self, ctx: &Context<'_>) -> Result<PageInfo> {
        page_info(ctx, &self.rows, self.around)
    }

    /// The length of the whole list.
    async fn total_count(&self, ctx: &Context<'_>) -> Result<u64> {
        match self.patient {
            Some(patient) => {
                let total = asker::loaders(ctx)?
                    .load_one(VisitTotalOf(patient, self.query.clone()))
                    .await?;
                Ok(total.unwrap_or(0))
            }
            None => {
                let hospital = asker::viewer(ctx)?.hospital;
                asker::shared(ctx)?.store.visit_total(hospital, &self.query).await
            }
        }
    }
}

/// Whether a page's rows are asked for, and not its totalCount alone.
pub(super) fn rows_wanted(ctx: &Context<'_>) -> bool {
    let asked = ctx.look_ahead();
    ["edges", "nodes", "pageInfo"]
        .iter()
        .any(|field| asked.field(field).exists())
}

/// The page info of a page that was read by key.
pub(super) fn page_info<T>(
    ctx: &Context<'_>,
    rows: &[Marked<T>],
    (has_previous_page, has_next_page): (bool, bool),
) -> Result<PageInfo> {
    Ok(PageInfo {
        has_next_page,
        has_previous_page,
        start_cursor: rows.first().map(|row| row.cursor(ctx)).transpose()?,
        end_cursor: rows.last().map(|row| row.cursor(ctx)).transpose()?,
    })
}
