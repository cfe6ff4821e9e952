//! Exports of lists as files.

use async_graphql::{Context, Enum, ID, InputObject, Object, SimpleObject};

use super::{BadFields, line};
use crate::error::{Error, Result};
use crate::export::check_length;
use crate::graphql::cohort::cohort_digest;
use crate::graphql::connection::{PatientOrder, VisitOrder, patient_order, visit_order};
use crate::graphql::recall::{RecallEntryFilter, RecallList, entry_query};
use crate::graphql::scalars::DateTime;
use crate::graphql::{access, context, id, node};
use crate::permissions::Action;
use crate::reporting::{bucket_index, spawn_cpu};
use crate::statistics::list_digest;
use crate::store::{self, ExportCohort, ExportRecallList, ListOrder, NewExport};

#[derive(Default)]
pub struct ExportMutation;

/// The format of an exported file.
#[derive(Enum, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "store::ExportFormat")]
enum ExportFormat {
    /// RFC 4180, in UTF-8 with a byte order mark. A text that a spreadsheet would take for a formula has an apostrophe before it.
    Csv,
    /// A spreadsheet of one sheet, of at most 1,048,575 rows below the header.
    Xlsx,
}

/// Which list of a cohort to export.
#[derive(Enum, Clone, Copy, PartialEq, Eq)]
enum ExportList {
    /// A row for each patient.
    Patients,
    /// A row for each visit.
    Visits,
}

/// A cohort to export.
#[derive(InputObject)]
struct ExportCohortInput {
    /// The Cohort.id of any list, also a derived one, one under changes, of a pinned snapshot, or of a preview of proposed rules.
    cohort_id: ID,
    /// Which of its lists.
    list: ExportList,
    /// The format of the file.
    format: ExportFormat,
    /// The order of PATIENTS; CHART_NO ascending if absent.
    patient_order: Option<PatientOrder>,
    /// The order of VISITS; DATE descending if absent.
    visit_order: Option<VisitOrder>,
    /// A key of 1–255 characters that the client chooses: a mutation repeated with the same key is executed once, and returns the same
    /// path again. Remembered for 7 days.
    idempotency_key: Option<String>,
}

/// A recall list to export.
#[derive(InputObject)]
struct ExportRecallListInput {
    /// The list.
    list_id: ID,
    /// Which entries; all if absent.
    filter: Option<RecallEntryFilter>,
    /// The format of the file.
    format: ExportFormat,
    /// A key of 1–255 characters that the client chooses: a mutation repeated with the same key is executed once, and returns the same
    /// path again. Remembered for 7 days.
    idempotency_key: Option<String>,
}

/// A file to download.
#[derive(SimpleObject)]
struct ExportPayload {
    /// To be fetched by GET until expiresAt, once, with the access token of the session that asked for it.
    path: String,
    /// When it can no longer be fetched.
    expires_at: DateTime,
    /// The number of rows of the file, without the header: the length of the list.
    row_count: u64,
    /// The Cohort.digest of the cohort. Of a recall list: SHA-256, in lower-case hexadecimal, of its patients' ids in the order of the
    /// file, joined by line feeds, and an empty line.
    digest: String,
}

#[Object(guard = "access::console")]
impl ExportMutation {
    /// Exports the patients or the visits of a cohort: exactly the rows of its pages, with what was counted and what is recorded when the
    /// file is fetched. For ADMIN and CLINICIAN.
    async fn export_cohort(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The list, its order, and the format.")] input: ExportCohortInput,
    ) -> Result<ExportPayload> {
        let viewer = context::viewer(ctx)?;
        viewer.require(Action::ExportLists, "to export a cohort")?;
        let mut bad = BadFields::default();
        let cohort = bad.take(id::cohort("input.cohortId", &input.cohort_id))?;
        let order = match (input.list, input.patient_order, input.visit_order) {
            (ExportList::Patients, order, None) => {
                let (key, descending) = patient_order(viewer, order)?;
                Ok(ListOrder::Patients(key, descending))
            }
            (ExportList::Visits, None, order) => {
                let (key, descending) = visit_order(viewer, order)?;
                Ok(ListOrder::Visits(key, descending))
            }
            (ExportList::Patients, _, Some(_)) => Err(Error::input("input.visitOrder", "is for VISITS only")),
            (ExportList::Visits, Some(_), _) => Err(Error::input("input.patientOrder", "is for PATIENTS only")),
        };
        let order = bad.take(order)?;
        let key = input.idempotency_key.map(|key| line("input.idempotencyKey", &key));
        let key = bad.check(key.transpose())?;
        let (Some(cohort_id), Some(order)) = (cohort, order) else {
            return Err(bad.error());
        };
        bad.finish()?;
        let cohort = node::cohort(ctx, cohort_id).await?;
        let cohort = cohort.ok_or_else(|| Error::unknown_id("input.cohortId", "cohort"))?;
        let format = input.format.into();
        let (_, sorted) = cohort.ordered(ctx, order).await?;
        let rows = sorted.places.len() as u64;
        check_length("input.format", format, rows)?;
        let command = ExportCohort {
            snapshot: cohort_id.snapshot.to_string(),
            bucket: bucket_index(cohort_id.bucket),
            kind: cohort_id.kind,
            order,
            rows,
            export: NewExport {
                format,
                session: context::session_family(ctx)?.to_owned(),
                digest: cohort.0.cut(cohort_digest).await?,
            },
        };
        let id = context::services(ctx)?
            .reporting
            .execute_on(viewer, cohort_id, &command, key.as_deref())
            .await?;
        payload(ctx, id).await
    }

    /// Exports entries of a recall list, those first that are to be called next: which ones, and their order, are those of now, and their
    /// data what is recorded when the file is fetched. For ADMIN and CLINICIAN.
    async fn export_recall_list(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The list, which of its entries, and the format.")] input: ExportRecallListInput,
    ) -> Result<ExportPayload> {
        let viewer = context::viewer(ctx)?;
        viewer.require(Action::ExportLists, "to export a recall list")?;
        let mut bad = BadFields::default();
        let list = bad.check(id::recall_list("input.listId", &input.list_id))?;
        let query = bad.check(entry_query(ctx, "input.filter", input.filter).await)?;
        let key = input.idempotency_key.map(|key| line("input.idempotencyKey", &key));
        let key = bad.check(key.transpose())?;
        bad.finish()?;
        if RecallList::find(ctx, list).await?.is_none() {
            return Err(Error::unknown_id("input.listId", "recall list"));
        }
        let today = context::today(ctx).await?;
        let store = &context::services(ctx)?.store;
        let entries = store.recall_entry_ids(viewer.hospital, list, &query, today).await?;
        let format = input.format.into();
        check_length("input.format", format, entries.len() as u64)?;
        let patients = entries.iter().map(|&(_, patient)| id::patient_id(patient));
        let patients: Vec<String> = patients.collect();
        let digest = move || list_digest(patients, std::iter::empty());
        let command = ExportRecallList {
            list,
            query,
            entries,
            export: NewExport {
                format,
                session: context::session_family(ctx)?.to_owned(),
                digest: spawn_cpu("making a digest", digest).await?,
            },
        };
        let id = store.execute(viewer, &command, key.as_deref()).await?;
        payload(ctx, id).await
    }
}

async fn payload(ctx: &Context<'_>, id: i64) -> Result<ExportPayload> {
    let hospital = context::viewer(ctx)?.hospital;
    let (export, token) = context::services(ctx)?.store.export(hospital, id).await?;
    Ok(ExportPayload {
        path: format!("/exports/{token}"),
        expires_at: DateTime(export.expires_at),
        row_count: export.rows,
        digest: export.digest,
    })
}
