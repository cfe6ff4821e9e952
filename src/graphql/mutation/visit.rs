//! Visits: recorded, changed, deleted.

use async_graphql::{Context, ID, InputObject, MaybeUndefined, Object, SimpleObject};

use super::{BadFields, department, doctor, execute, lines, never_null, patch};
use crate::error::{Error, Result};
use crate::graphql::enums::{VisitChannel, VisitStatus};
use crate::graphql::scalars::{Date, DateTimeInput};
use crate::graphql::visit::Visit;
use crate::graphql::{context, id};
use crate::records::VisitDraft;
use crate::store::{ChangeVisit, DeleteVisit, RecordVisit};

#[derive(Default)]
pub struct VisitMutation;

/// A visit to be.
#[derive(InputObject)]
struct RecordVisitInput {
    /// Whose visit it is: a patient who is ACTIVE.
    patient_id: ID,
    /// The day of the visit; that of scheduledAt in the hospital's time zone where absent. One of the two is needed; both together
    /// must be of the same day.
    date: Option<Date>,
    /// When it is to begin, or began; on the day of date, where both are given.
    scheduled_at: MaybeUndefined<DateTimeInput>,
    /// How far it got; before its day TENTATIVE, BOOKED or CANCELED.
    #[graphql(default_with = "VisitStatus::Booked")]
    status: VisitStatus,
    /// Where it takes place.
    department_id: MaybeUndefined<ID>,
    /// Who treats.
    doctor_id: MaybeUndefined<ID>,
    /// How it came to be.
    #[graphql(default_with = "VisitChannel::Other")]
    channel: VisitChannel,
    /// The source system's own number for the visit, which no other has; 1 to 255 characters.
    visit_no: MaybeUndefined<String>,
    /// 1 to 255 characters of the sender's making: a change that is sent again under its key is made once. Good for 7 days.
    idempotency_key: Option<String>,
}

/// The visit that was recorded.
#[derive(SimpleObject)]
struct RecordVisitPayload {
    /// As it now stands.
    visit: Visit,
}

/// What is to be different of a visit. What is absent stays; null clears.
#[derive(InputObject)]
struct ChangeVisitInput {
    /// Which visit.
    id: ID,
    /// The Visit.version that was seen; where it is another one by now, nothing changes and CONFLICT says so.
    version: i32,
    /// Whose visit it is in truth: a patient who is ACTIVE; never null.
    patient_id: MaybeUndefined<ID>,
    /// The day of the visit; never null. It follows scheduledAt where that alone is given.
    date: MaybeUndefined<Date>,
    /// When it is to begin, or began; on the day of date, where both are given. Where date alone is given, the visit keeps its local
    /// time of day on the new day; where the clocks skip that time, it becomes the first instant after.
    scheduled_at: MaybeUndefined<DateTimeInput>,
    /// How far it got; never null. Before its day TENTATIVE, BOOKED or CANCELED.
    status: MaybeUndefined<VisitStatus>,
    /// Where it takes place.
    department_id: MaybeUndefined<ID>,
    /// Who treats.
    doctor_id: MaybeUndefined<ID>,
    /// How it came to be; never null.
    channel: MaybeUndefined<VisitChannel>,
    /// The source system's own number for the visit, which no other has; 1 to 255 characters.
    visit_no: MaybeUndefined<String>,
    /// Why; at most 2,000 characters. Needed where a visit that is COMPLETED, ENDED, CANCELED or NO_SHOW is corrected.
    reason: Option<String>,
    /// 1 to 255 characters of the sender's making: a change that is sent again under its key is made once. Good for 7 days.
    idempotency_key: Option<String>,
}

/// The visit that was changed.
#[derive(SimpleObject)]
struct ChangeVisitPayload {
    /// As it now stands.
    visit: Visit,
}

/// Which visit is to be deleted.
#[derive(InputObject)]
struct DeleteVisitInput {
    /// Which visit.
    id: ID,
    /// The Visit.version that was seen; where it is another one by now, nothing changes and CONFLICT says so.
    version: i32,
    /// Why; at most 2,000 characters.
    reason: String,
    /// 1 to 255 characters of the sender's making: a change that is sent again under its key is made once. Good for 7 days.
    idempotency_key: Option<String>,
}

/// The visit that was deleted.
#[derive(SimpleObject)]
struct DeleteVisitPayload {
    /// What is left of it.
    visit: Visit,
}

#[Object]
impl VisitMutation {
    /// Records a visit. For ADMIN and DESK.
    async fn record_visit(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which visit.")] input: RecordVisitInput,
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
        };
        bad.extend(draft.validate(context::hospital_state(ctx).await?.time_zone));
        let id = execute(ctx, bad, &RecordVisit(draft), input.idempotency_key).await?;
        let visit = changed(ctx, id).await?;
        Ok(RecordVisitPayload { visit })
    }

    /// Changes a visit: it is confirmed, moved, checked in, treated, canceled, or corrected. For ADMIN and DESK.
    async fn change_visit(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which visit, and what.")] input: ChangeVisitInput,
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
        };
        bad.extend(draft.validate(context::hospital_state(ctx).await?.time_zone));
        let command = ChangeVisit {
            id: bad.check(id::visit("input.id", &input.id))?,
            version: input.version,
            draft,
            reason: bad.check(input.reason.map(|text| lines("input.reason", &text)).transpose())?,
        };
        let id = execute(ctx, bad, &command, input.idempotency_key).await?;
        let visit = changed(ctx, id).await?;
        Ok(ChangeVisitPayload { visit })
    }

    /// Deletes a visit that never was. Snapshots that stand keep listing it, marked. A visit that did not take place is
    /// rather changed to CANCELED or NO_SHOW. For ADMIN and DESK.
    async fn delete_visit(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which visit.")] input: DeleteVisitInput,
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

async fn changed(ctx: &Context<'_>, id: i64) -> Result<Visit> {
    let visit = Visit::find(ctx, id).await?;
    visit.ok_or_else(|| Error::Internal("a visit that was just changed is gone".to_owned()))
}
