//! Anything that has an id.

use async_graphql::{Context, ID, Interface};

use super::audit::AuditEntry;
use super::cohort::Cohort;
use super::context;
use super::history::ChangeEntry;
use super::hospital::{Department, Doctor, Hospital};
use super::id::Id;
use super::import::Import;
use super::patient::Patient;
use super::recall::{RecallEntry, RecallList};
use super::retention::Retention;
use super::schedule::Absence;
use super::staff::StaffMember;
use super::statement::Statement;
use super::statistics::Statistics;
use super::visit::Visit;
use crate::error::Result;
use crate::reporting::CohortId;

/// Anything that has an id.
#[derive(Interface)]
#[graphql(field(
    name = "id",
    ty = "ID",
    desc = "An opaque ID, which identifies one object of one type."
))]
pub(super) enum Node {
    Hospital(Hospital),
    Department(Department),
    Doctor(Doctor),
    Patient(Patient),
    Visit(Visit),
    StaffMember(StaffMember),
    AuditEntry(AuditEntry),
    Absence(Absence),
    ChangeEntry(ChangeEntry),
    RecallList(RecallList),
    RecallEntry(RecallEntry),
    Import(Import),
    Statement(Statement),
    Statistics(Statistics),
    Cohort(Cohort),
    Retention(Retention),
}

/// What the id names, where it is the viewer's hospital's; the snapshot behind a list is opened for it.
pub(super) async fn find(ctx: &Context<'_>, id: Id) -> Result<Option<Node>> {
    let hospital = context::viewer(ctx)?.hospital;
    Ok(match id {
        Id::Hospital(id) if id == hospital => Some(Node::Hospital(Hospital::own(ctx).await?)),
        Id::Hospital(_) => None,
        Id::Department(id) => Department::load(ctx, Some(id)).await?.map(Node::Department),
        Id::Doctor(id) => Doctor::load(ctx, Some(id)).await?.map(Node::Doctor),
        Id::Patient(id) => Patient::find(ctx, id).await?.map(Node::Patient),
        Id::Visit(id) => Visit::find(ctx, id).await?.map(Node::Visit),
        Id::Staff(id) => StaffMember::find(ctx, id).await?.map(Node::StaffMember),
        Id::AuditEntry(id) => AuditEntry::find(ctx, id).await?.map(Node::AuditEntry),
        Id::Absence(id) => Absence::find(ctx, id).await?.map(Node::Absence),
        Id::ChangeEntry(id) => ChangeEntry::find(ctx, id).await?.map(Node::ChangeEntry),
        Id::RecallList(id) => RecallList::find(ctx, id).await?.map(Node::RecallList),
        Id::RecallEntry(id) => RecallEntry::find(ctx, id).await?.map(Node::RecallEntry),
        Id::Import(id) => Import::find(ctx, id).await?.map(Node::Import),
        Id::Statement(id) => Statement::find(ctx, id).await?.map(Node::Statement),
        // A file is no node.
        Id::Upload(_) => None,
        Id::Statistics(id) => context::services(ctx)?
            .reporting
            .load(hospital, id)
            .await?
            .map(|resolved| Node::Statistics(resolved.into())),
        Id::Retention(id) => {
            let reporting = &context::services(ctx)?.reporting;
            let found = reporting.open_retention(hospital, id).await?;
            found.map(|retention| Node::Retention(Retention(retention)))
        }
        Id::Cohort(id) => cohort(ctx, id).await?.map(Node::Cohort),
    })
}

/// The stored list, if the hospital has it.
pub(super) async fn cohort(ctx: &Context<'_>, id: CohortId) -> Result<Option<Cohort>> {
    let hospital = context::viewer(ctx)?.hospital;
    Ok(context::services(ctx)?.reporting.open(hospital, id).await?.map(Cohort))
}
