//! Connections after the Relay specification. Their pages are cut when they are made; their rows are loaded when asked for.

use async_graphql::{Context, InputObject, Object};

use super::context;
use super::enums::{OrderDirection, PatientOrderField, VisitOrderField};
use super::loaders::VisitTotalKey;
use super::pagination::{KeyedRow, PageInfo, page_info};
use super::patient::Patient;
use super::visit::Visit;
use crate::error::Result;
use crate::permissions::{Action, Viewer};
use crate::store::{self, PatientKey, SearchPlan, VisitKey, VisitQuery};

/// An order of patients.
#[derive(InputObject)]
pub(super) struct PatientOrder {
    /// The sort key.
    field: PatientOrderField,
    /// The direction.
    #[graphql(default_with = "OrderDirection::Asc")]
    direction: OrderDirection,
}

/// An order of visits.
#[derive(InputObject)]
pub(super) struct VisitOrder {
    /// The sort key.
    field: VisitOrderField,
    /// The direction.
    #[graphql(default_with = "OrderDirection::Asc")]
    direction: OrderDirection,
}

/// The sort key and whether it descends; the chart number by default. Viewers who see names masked cannot sort by name.
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

/// The sort key and whether it descends; newest first by default. Viewers who see names masked cannot sort by name.
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

/// A patient in a list.
pub(super) struct PatientEdge(KeyedRow<store::Patient>);

/// A patient in a list.
#[Object]
impl PatientEdge {
    /// The cursor of this row in this list and order.
    async fn cursor(&self, ctx: &Context<'_>) -> Result<String> {
        self.0.cursor(ctx)
    }

    /// The patient.
    async fn node(&self, ctx: &Context<'_>) -> Result<Patient> {
        Patient::audited(ctx, self.0.row.clone())
    }
}

/// A page of patients.
pub(super) struct PatientConnection {
    pub(super) rows: Vec<KeyedRow<store::Patient>>,
    /// Whether there are rows before and after the page.
    pub(super) around: (bool, bool),
    pub(super) total: PatientTotal,
}

/// How many patients a whole list has.
pub(super) enum PatientTotal {
    /// Those that a search finds, counted when asked for.
    OfSearch(SearchPlan),
    Known(u64),
}

/// A page of patients with their current data.
#[Object]
impl PatientConnection {
    /// The rows with their cursors.
    async fn edges(&self) -> Vec<PatientEdge> {
        self.rows.iter().cloned().map(PatientEdge).collect()
    }

    /// The rows.
    async fn nodes(&self, ctx: &Context<'_>) -> Result<Vec<Patient>> {
        let rows = self.rows.iter().map(|keyed| keyed.row.clone());
        rows.map(|row| Patient::audited(ctx, row)).collect()
    }

    /// The position of the page in the list.
    async fn page_info(&self, ctx: &Context<'_>) -> Result<PageInfo> {
        page_info(ctx, &self.rows, self.around)
    }

    /// The length of the whole list.
    async fn total_count(&self, ctx: &Context<'_>) -> Result<u64> {
        match &self.total {
            PatientTotal::OfSearch(plan) => {
                let hospital = context::viewer(ctx)?.hospital;
                context::services(ctx)?.store.patient_total(hospital, plan).await
            }
            PatientTotal::Known(total) => Ok(*total),
        }
    }
}

/// A visit in a list.
pub(super) struct VisitEdge(KeyedRow<store::Visit>);

/// A visit in a list.
#[Object]
impl VisitEdge {
    /// The cursor of this row in this list and order.
    async fn cursor(&self, ctx: &Context<'_>) -> Result<String> {
        self.0.cursor(ctx)
    }

    /// The visit.
    async fn node(&self, ctx: &Context<'_>) -> Result<Visit> {
        Visit::current(ctx, self.0.row.clone())
    }
}

/// How many visits a whole list has.
pub(super) enum VisitTotal {
    /// Those of the hospital that match, counted when asked for.
    OfHospital(VisitQuery),
    /// Those of a patient that match, counted when asked for.
    OfPatient(i64, VisitQuery),
    Known(u64),
}

/// A page of visits.
pub(super) struct VisitConnection {
    pub(super) rows: Vec<KeyedRow<store::Visit>>,
    /// Whether there are rows before and after the page.
    pub(super) around: (bool, bool),
    pub(super) total: VisitTotal,
}

/// A page of visits with their current data.
#[Object]
impl VisitConnection {
    /// The rows with their cursors.
    async fn edges(&self) -> Vec<VisitEdge> {
        self.rows.iter().cloned().map(VisitEdge).collect()
    }

    /// The rows.
    async fn nodes(&self, ctx: &Context<'_>) -> Result<Vec<Visit>> {
        let rows = self.rows.iter().map(|keyed| keyed.row.clone());
        rows.map(|row| Visit::current(ctx, row)).collect()
    }

    /// The position of the page in the list.
    async fn page_info(&self, ctx: &Context<'_>) -> Result<PageInfo> {
        page_info(ctx, &self.rows, self.around)
    }

    /// The length of the whole list.
    async fn total_count(&self, ctx: &Context<'_>) -> Result<u64> {
        match &self.total {
            VisitTotal::OfPatient(patient, query) => {
                let total = context::loaders(ctx)?
                    .load_one(VisitTotalKey(*patient, query.clone()))
                    .await?;
                Ok(total.unwrap_or(0))
            }
            VisitTotal::OfHospital(query) => {
                let hospital = context::viewer(ctx)?.hospital;
                context::services(ctx)?.store.visit_total(hospital, query).await
            }
            VisitTotal::Known(total) => Ok(*total),
        }
    }
}
