//! Visits: recorded, changed, deleted.

use async_graphql::{Context, ID, InputObject, MaybeUndefined, Object, SimpleObject};

use super::{BadFields, department, doctor, execute, lines, never_null, patch};
use crate::error::{Error, Result};
use crate::graphql::enums::{VisitChannel, VisitStatus};
use crate::graphql::scalars::{Date, DateTimeInput};
use crate::graphql::visit::Visit;
use crate::graphql::{access, context, id};
use crate::records::VisitDraft;
use crate::store::{ChangeVisit, DeleteVisit, Override, RecordVisit};

#[derive(Default)]
pub struct VisitMutation;

/// A new visit.
#[derive(InputObject)]
struct RecordVisitInput {
    /// The patient; must be ACTIVE.
    patient_id: ID,
    /// The day of the visit; if absent, the day of scheduledAt in the hospital's time zone. One of the two is required; if both are
    /// given, they must be of the same day.
    date: Option<Date>,
    /// The start time; on the day of date if both are given.
    scheduled_at: MaybeUndefined<DateTimeInput>,
    /// The status. TENTATIVE or BOOKED; on the day of the visit also CHECKED_IN, IN_PROGRESS or COMPLETED; of a day that is over, with
    /// a reason, COMPLETED, ENDED, NO_SHOW or CANCELED.
    #[graphql(default_with = "VisitStatus::Booked")]
    status: VisitStatus,
    /// The department.
    department_id: MaybeUndefined<ID>,
    /// The doctor.
    doctor_id: MaybeUndefined<ID>,
    /// The channel by which it was booked.
    #[graphql(default_with = "VisitChannel::Other")]
    channel: VisitChannel,
    /// The source system's number for the visit, unique in the hospital; 1–255 characters.
    visit_no: MaybeUndefined<String>,
    /// How long it is to take, 1–1,440 minutes; the doctor's slotMinutes if absent.
    duration_minutes: MaybeUndefined<i32>,
    /// A remark of 1–2,000 characters, such as fasting; stored encrypted.
    #[graphql(secret)]
    note: MaybeUndefined<String>,
    /// Books although the time is not free: the doctor or the patient has another visit then, the doctor is absent or off duty, the
    /// hospital is closed, or the patient is already checked in with the doctor. Needs a reason.
    force: Option<bool>,
    /// The reason, 1–2,000 characters. Required with force, and to record what became of a visit of a day that is over.
    reason: Option<String>,
    /// A key of 1–255 characters that the client chooses: a mutation repeated with the same key is executed once. Remembered for 7 days.
    idempotency_key: Option<String>,
}

/// The visit that was recorded.
#[derive(SimpleObject)]
struct RecordVisitPayload {
    /// Its current state.
    visit: Visit,
}

/// Changes to a visit. Absent fields stay unchanged; null clears a field.
#[derive(InputObject)]
struct ChangeVisitInput {
    /// The visit.
    id: ID,
    /// The Visit.version that the change is based on; if it is no longer current, nothing changes and the error is CONFLICT.
    version: i32,
    /// The patient whose visit it is; must be ACTIVE; not null.
    patient_id: MaybeUndefined<ID>,
    /// The day of the visit; not null. If only scheduledAt is given, the day follows it.
    date: MaybeUndefined<Date>,
    /// The start time; on the day of date if both are given. If only date is given, the visit keeps its local time of day on the
    /// new day; if the clocks skip that time, it becomes the first instant after.
    scheduled_at: MaybeUndefined<DateTimeInput>,
    /// The status; not null. One of Visit.nextStatuses, or else the error is INVALID_TRANSITION.
    status: MaybeUndefined<VisitStatus>,
    /// The department.
    department_id: MaybeUndefined<ID>,
    /// The doctor.
    doctor_id: MaybeUndefined<ID>,
    /// The channel by which it was booked; not null.
    channel: MaybeUndefined<VisitChannel>,
    /// The source system's number for the visit, unique in the hospital; 1–255 characters.
    visit_no: MaybeUndefined<String>,
    /// How long it is to take, 1–1,440 minutes; null: the doctor's slotMinutes.
    duration_minutes: MaybeUndefined<i32>,
    /// A remark of 1–2,000 characters, such as fasting; stored encrypted.
    #[graphql(secret)]
    note: MaybeUndefined<String>,
    /// Books although the time is not free: the doctor or the patient has another visit then, the doctor is absent or off duty, the
    /// hospital is closed, or the patient is already checked in with the doctor. Needs a reason.
    force: Option<bool>,
    /// The reason, 1–2,000 characters. Required with force, and to correct a visit: to change one that is over, to move one that is
    /// checked in or further on, and for some transitions.
    reason: Option<String>,
    /// A key of 1–255 characters that the client chooses: a mutation repeated with the same key is executed once. Remembered for 7 days.
    idempotency_key: Option<String>,
}

/// The visit that was changed.
#[derive(SimpleObject)]
struct ChangeVisitPayload {
    /// Its current state.
    visit: Visit,
}

/// The visit to delete.
#[derive(InputObject)]
struct DeleteVisitInput {
    /// The visit.
    id: ID,
    /// The Visit.version that the change is based on; if it is no longer current, nothing changes and the error is CONFLICT.
    version: i32,
    /// The reason, 1–2,000 characters.
    reason: String,
    /// A key of 1–255 characters that the client chooses: a mutation repeated with the same key is executed once. Remembered for 7 days.
    idempotency_key: Option<String>,
}

/// The visit that was deleted.
#[derive(SimpleObject)]
struct DeleteVisitPayload {
    /// What is left of it.
    visit: Visit,
}

#[Object(guard = "access::console")]
impl VisitMutation {
    /// Records a visit. For ADMIN and DESK.
    async fn record_visit(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The new visit.")] input: RecordVisitInput,
    ) -> Result<RecordVisitPayload> {
        let mut bad = BadFields::default();
        let mut draft = VisitDraft {
            visit_no: patch(input.visit_no, Ok)?,
            patient: Some(bad.check(id::patient("input.patientId", &input.patient_id))?),
            date: bad.check(input.date.map(|date| date.date("input.date")).transpose())?,
            scheduled_at: bad.check(patch(input.scheduled_at, |at| at.instant("input.scheduledAt")))?,
            status: Some(input.status.into()),
            department: bad.check(department(ctx, input.department_id).await)?,
            doctor: bad.check(doctor(ctx, input.doctor_id).await)?,
            channel: Some(input.channel.into()),
            duration_minutes: patch(input.duration_minutes, Ok)?,
            note: patch(input.note, Ok)?,
        };
        bad.extend(draft.validate(context::hospital_state(ctx).await?.time_zone), &FIELDS);
        let command = RecordVisit {
            draft,
            overriding: overriding(&mut bad, input.force, input.reason)?,
        };
        let id = execute(ctx, bad, &command, input.idempotency_key).await?;
        let visit = changed(ctx, id).await?;
        Ok(RecordVisitPayload { visit })
    }

    /// Changes a visit: it is confirmed, moved, checked in, treated, canceled, or corrected. For ADMIN and DESK.
    async fn change_visit(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The visit and the changes.")] input: ChangeVisitInput,
    ) -> Result<ChangeVisitPayload> {
        let mut bad = BadFields::default();
        let date = bad.check(never_null("input.date", input.date))?;
        let patient = bad.check(never_null("input.patientId", input.patient_id))?;
        let mut draft = VisitDraft {
            visit_no: patch(input.visit_no, Ok)?,
            patient: bad.check(patient.map(|id| id::patient("input.patientId", &id)).transpose())?,
            date: bad.check(date.map(|date| date.date("input.date")).transpose())?,
            scheduled_at: bad.check(patch(input.scheduled_at, |at| at.instant("input.scheduledAt")))?,
            status: bad.check(never_null("input.status", input.status))?.map(Into::into),
            department: bad.check(department(ctx, input.department_id).await)?,
            doctor: bad.check(doctor(ctx, input.doctor_id).await)?,
            channel: bad.check(never_null("input.channel", input.channel))?.map(Into::into),
            duration_minutes: patch(input.duration_minutes, Ok)?,
            note: patch(input.note, Ok)?,
        };
        bad.extend(draft.validate(context::hospital_state(ctx).await?.time_zone), &FIELDS);
        let command = ChangeVisit {
            id: bad.check(id::visit("input.id", &input.id))?,
            version: input.version,
            draft,
            overriding: overriding(&mut bad, input.force, input.reason)?,
        };
        let id = execute(ctx, bad, &command, input.idempotency_key).await?;
        let visit = changed(ctx, id).await?;
        Ok(ChangeVisitPayload { visit })
    }

    /// Deletes a visit that was recorded in error. Existing snapshots keep listing it, marked as deleted. For a visit that did not
    /// take place, change the status to CANCELED or NO_SHOW instead. For ADMIN and DESK.
    async fn delete_visit(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The visit to delete.")] input: DeleteVisitInput,
    ) -> Result<DeleteVisitPayload> {
        let mut bad = BadFields::default();
        let command = DeleteVisit {
            id: bad.check(id::visit("input.id", &input.id))?,
            version: input.version,
            reason: bad.check(lines("input.reason", &input.reason))?,
        };
        let id = execute(ctx, bad, &command, input.idempotency_key).await?;
        let visit = changed(ctx, id).await?;
        Ok(DeleteVisitPayload { visit })
    }
}

/// The fields of a visit's draft, in the order in which errors name them.
const FIELDS: [&str; 10] = [
    "visitNo",
    "patientId",
    "date",
    "scheduledAt",
    "status",
    "departmentId",
    "doctorId",
    "channel",
    "durationMinutes",
    "note",
];

fn overriding(bad: &mut BadFields, force: Option<bool>, reason: Option<String>) -> Result<Override> {
    let force = force.unwrap_or(false);
    let is_missing = force && reason.is_none();
    let reason = bad.check(reason.map(|text| lines("input.reason", &text)).transpose())?;
    if is_missing {
        let message = "force needs a reason";
        bad.check(Err::<(), _>(Error::input("input.reason", message)))?;
    }
    Ok(Override { force, reason })
}

async fn changed(ctx: &Context<'_>, id: i64) -> Result<Visit> {
    let visit = Visit::find(ctx, id).await?;
    visit.ok_or_else(|| Error::Internal("a visit that was just changed is gone".to_owned()))
}
