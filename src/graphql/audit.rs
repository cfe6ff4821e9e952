//! The audit, as those who administer the hospital read it.

use std::sync::Arc;

use async_graphql::{Context, Enum, ID, InputObject, Object};
use serde_json::json;

use super::id::{self, Id};
use super::loaders::AuditedPatientsKey;
use super::pagination::{CursorScope, KeyedRow, PageArgs, PageInfo, page_info, rows_selected};
use super::patient::Patient;
use super::scalars::{DateTime, DateTimeInput};
use super::staff::StaffMember;
use super::statistics::not_empty;
use super::{context, enums};
use crate::error::{Error, Result};
use crate::permissions::Action;
use crate::reporting::{CohortId, SnapshotId};
use crate::statistics::BucketRef;
use crate::store::{self, AuditQuery, ListKind};

/// The kind of action.
#[derive(Enum, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "store::AuditAction")]
enum AuditAction {
    /// A member of staff signed in.
    SignedIn,
    /// A sign-in failed: the password was wrong, or the account is disabled or unknown.
    SignInRefused,
    /// A member of staff signed out.
    SignedOut,
    /// A used refresh token was presented again, and its session was ended.
    SessionEnded,
    /// A request was refused because the viewer's role does not allow it.
    Refused,
    /// Data was changed, by a mutation or from the command line.
    Changed,
    /// Data of patients was returned, outside of a snapshot's lists.
    ViewedPatients,
    /// Patients were searched by name, chart number or phone. The entry names those found on the page, even if only their number
    /// was returned; the search text is not stored.
    Searched,
    /// A file was imported.
    Imported,
    /// Statistics, visits of a day or an import were followed live. The entry is of the beginning; patients whose data is sent are in
    /// entries of VIEWED_PATIENTS, once each.
    Subscribed,
    /// A page of a snapshot's list was returned.
    OpenedList,
    /// A list was exported as a file, or statistics were.
    Exported,
}

/// Which entries to list. An absent field matches every entry.
#[derive(InputObject)]
pub(super) struct AuditFilter {
    /// Done by this member of staff.
    staff_id: Option<ID>,
    /// With one of these actions; an empty list is refused.
    actions: Option<Vec<AuditAction>>,
    /// Entries that name this patient. Pages and exports of snapshots' lists do not name their patients.
    patient_id: Option<ID>,
    /// At or after this instant.
    since: Option<DateTimeInput>,
    /// Before this instant.
    until: Option<DateTimeInput>,
}

/// An entry of the audit.
#[derive(Clone)]
pub(super) struct AuditEntry(store::AuditEntry);

/// An entry of the audit log. Entries are immutable, and deleted only when they are older than the configured retention.
#[Object]
impl AuditEntry {
    /// An opaque ID.
    pub(super) async fn id(&self) -> ID {
        Id::AuditEntry(self.0.id).into()
    }

    /// When it happened.
    async fn at(&self) -> DateTime {
        DateTime(self.0.at)
    }

    /// The kind of action.
    async fn action(&self) -> AuditAction {
        self.0.action.into()
    }

    /// The member of staff who did it; null for the command line, or a sign-in with an unknown login.
    async fn staff(&self, ctx: &Context<'_>) -> Result<Option<StaffMember>> {
        match self.0.staff {
            Some(id) => StaffMember::find(ctx, id).await,
            None => Ok(None),
        }
    }

    /// The mutation that made the change; the list that was opened, patients or visits; the list, the number of rows and the format of
    /// an export; the fields that were refused, or `POST /files` or `GET /exports`; or the kind and the result of an import.
    async fn what(&self) -> Option<&str> {
        self.0.what.as_deref()
    }

    /// The patients whose data was concerned; empty for a page or an export of a list, whose cohort is named instead.
    async fn patient_ids(&self, ctx: &Context<'_>) -> Result<Vec<ID>> {
        let ids = context::loaders(ctx)?.load_one(AuditedPatientsKey(self.0.id)).await?;
        Ok(ids
            .unwrap_or_default()
            .into_iter()
            .map(|id| Id::Patient(id).into())
            .collect())
    }

    /// The Statistics.id of the snapshot that was pinned or unpinned, or whose list was opened or exported; null for a derived list.
    async fn statistics_id(&self) -> Option<ID> {
        if self.0.cohort.as_deref() == Some(ListKind::Derived.as_str()) {
            return None;
        }
        let snapshot = SnapshotId::from_text(self.0.snapshot.as_deref()?)?;
        Some(Id::Statistics(snapshot).into())
    }

    /// The Cohort.id of the list that was opened or exported.
    async fn cohort_id(&self) -> Option<ID> {
        Some(Id::Cohort(self.list()?).into())
    }

    /// The kind of the cohort whose list was opened or exported.
    async fn cohort_kind(&self) -> Option<enums::CohortKind> {
        Some(self.list()?.kind.into())
    }

    /// The ID of the request, as in the log and in the response's X-Request-Id header.
    async fn request_id(&self) -> Option<&str> {
        self.0.request_id.as_deref()
    }
}

impl AuditEntry {
    fn list(&self) -> Option<CohortId> {
        let bucket = match self.0.bucket? {
            -1 => BucketRef::Total,
            place => BucketRef::At(u32::try_from(place).ok()?),
        };
        Some(CohortId {
            snapshot: SnapshotId::from_text(self.0.snapshot.as_deref()?)?,
            bucket,
            kind: ListKind::parse(self.0.cohort.as_deref()?)?,
        })
    }
}

/// An entry in the list.
struct AuditEdge(KeyedRow<AuditEntry>);

/// An entry in the list.
#[Object]
impl AuditEdge {
    /// The cursor of this row in this list.
    async fn cursor(&self, ctx: &Context<'_>) -> Result<String> {
        self.0.cursor(ctx)
    }

    /// The entry.
    async fn node(&self) -> &AuditEntry {
        &self.0.row
    }
}

/// A page of the audit.
pub(super) struct AuditConnection {
    rows: Vec<KeyedRow<AuditEntry>>,
    /// Whether there are rows before and after the page.
    around: (bool, bool),
    query: AuditQuery,
}

/// A page of the audit, the newest entries first.
#[Object]
impl AuditConnection {
    /// The rows with their cursors.
    async fn edges(&self) -> Vec<AuditEdge> {
        self.rows.iter().cloned().map(AuditEdge).collect()
    }

    /// The rows.
    async fn nodes(&self) -> Vec<&AuditEntry> {
        self.rows.iter().map(|keyed| &keyed.row).collect()
    }

    /// The position of the page in the list.
    async fn page_info(&self, ctx: &Context<'_>) -> Result<PageInfo> {
        page_info(ctx, &self.rows, self.around)
    }

    /// The length of the whole list.
    async fn total_count(&self, ctx: &Context<'_>) -> Result<u64> {
        let hospital = context::viewer(ctx)?.hospital;
        context::services(ctx)?.store.audit_total(hospital, &self.query).await
    }
}

/// A page of the audit.
pub(super) async fn page(
    ctx: &Context<'_>,
    page_args: &PageArgs,
    filter: Option<AuditFilter>,
) -> Result<AuditConnection> {
    let viewer = context::viewer(ctx)?;
    viewer.require(Action::Administer, "to read the audit")?;
    let query = match filter {
        None => AuditQuery::default(),
        Some(filter) => {
            not_empty(context::limits(ctx)?, "filter.actions", filter.actions.as_deref())?;
            let staff = filter.staff_id.map(|id| id::staff("filter.staffId", &id)).transpose()?;
            if let Some(id) = staff
                && StaffMember::find(ctx, id).await?.is_none()
            {
                return Err(Error::unknown_id("filter.staffId", "member of staff"));
            }
            let patient = filter
                .patient_id
                .map(|id| id::patient("filter.patientId", &id))
                .transpose()?;
            if let Some(id) = patient
                && !Patient::exists(ctx, id).await?
            {
                return Err(Error::unknown_id("filter.patientId", "patient"));
            }
            AuditQuery {
                staff,
                actions: filter.actions.map(|list| list.into_iter().map(Into::into).collect()),
                patient,
                since: filter
                    .since
                    .map(|instant| instant.instant("filter.since"))
                    .transpose()?,
                until: filter
                    .until
                    .map(|instant| instant.instant("filter.until"))
                    .transpose()?,
            }
        }
    };
    let store = &context::services(ctx)?.store;
    let scope: CursorScope = Arc::new(scope(&query));
    let keyset = page_args.keyset(store.secrets(), viewer.hospital, &scope, true)?;
    let mut rows = if rows_selected(ctx) {
        store.audit_page(viewer.hospital, &query, &keyset).await?
    } else {
        Vec::new()
    };
    let around = page_args.trim(&mut rows);
    let keyed = |row: store::AuditEntry| KeyedRow {
        scope: Arc::clone(&scope),
        key: None,
        id: row.id,
        row: AuditEntry(row),
    };
    Ok(AuditConnection {
        rows: rows.into_iter().map(keyed).collect(),
        around,
        query,
    })
}

impl AuditEntry {
    /// The entry with this id, if the hospital has it.
    pub(super) async fn find(ctx: &Context<'_>, id: i64) -> Result<Option<Self>> {
        let viewer = context::viewer(ctx)?;
        viewer.require(Action::Administer, "to read the audit")?;
        let row = context::services(ctx)?.store.audit_entry(viewer.hospital, id).await?;
        Ok(row.map(Self))
    }
}

/// The text that binds cursors to the list. Clients keep cursors across versions, so this encoding must not change.
fn scope(query: &AuditQuery) -> String {
    let AuditQuery {
        staff,
        actions,
        patient,
        since,
        until,
    } = query;
    let actions = actions
        .as_ref()
        .map(|actions| actions.iter().map(|action| action.as_str()).collect::<Vec<_>>());
    let instant = |instant: &Option<chrono::DateTime<chrono::Utc>>| {
        instant.map(|instant| (instant.timestamp(), instant.timestamp_subsec_nanos()))
    };
    json!(["audit", staff, actions, patient, instant(since), instant(until)]).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_are_bound_to_what_they_were() {
        assert_eq!(scope(&AuditQuery::default()), r#"["audit",null,null,null,null,null]"#);
        let query = AuditQuery {
            staff: Some(1),
            actions: Some(vec![crate::store::AuditAction::SignedIn]),
            patient: Some(2),
            since: Some("2025-05-11T09:30:00.25Z".parse().unwrap()),
            until: Some("2025-05-12T00:00:00Z".parse().unwrap()),
        };
        assert_eq!(
            scope(&query),
            r#"["audit",1,["SIGNED_IN"],2,[1746955800,250000000],[1747008000,0]]"#
        );
    }
}
