//! Hours of doctors, absences, closures, and how long slots are.

use async_graphql::{Context, ID, InputObject, MaybeUndefined, Object, SimpleObject};
use scheduling::HoursProblem;

use super::{BadFields, execute, lines, never_null, patch};
use crate::error::{Error, Result};
use crate::graphql::connection::VisitConnection;
use crate::graphql::hospital::{Doctor, Hospital};
use crate::graphql::pagination::PageArgs;
use crate::graphql::scalars::DateTimeInput;
use crate::graphql::schedule::{Absence, WorkingHoursInput, bookings_outside_hours};
use crate::graphql::{access, context, id};
use crate::records::rules;
use crate::store::{AddAbsence, RemoveAbsence, SetDoctorHours, UpdateHospital};

#[derive(Default)]
pub struct ScheduleMutation;

/// A doctor's hours.
#[derive(InputObject)]
struct SetDoctorHoursInput {
    /// The doctor, who must not be retired.
    doctor_id: ID,
    /// All of the doctor's hours, in any order; at most 100. Empty: bookings are not bound to hours, and there are no slots.
    hours: Vec<WorkingHoursInput>,
    /// How long the doctor's slots are, 5–480 minutes; null: as long as the hospital's. Absent: as they are.
    slot_minutes: MaybeUndefined<i32>,
    /// A key of 1–255 characters that the client chooses: a mutation repeated with the same key is executed once. Remembered for 7 days.
    idempotency_key: Option<String>,
}

/// The doctor whose hours were set.
struct SetDoctorHoursPayload {
    doctor: i64,
}

/// The doctor whose hours were set.
#[Object]
impl SetDoctorHoursPayload {
    /// Its current state.
    async fn doctor(&self, ctx: &Context<'_>) -> Result<Doctor> {
        Doctor::read(ctx, self.doctor).await
    }

    /// The doctor's bookings from now on that lie outside the hours, the earliest first; nothing is moved by itself. A booking is
    /// a visit with a time of day that is BOOKED, or TENTATIVE and has not lapsed.
    async fn visits_outside(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The number of rows from the start; 20 by default, at most 100.")] first: Option<i32>,
        #[graphql(desc = "A cursor: rows after it.")] after: Option<String>,
        #[graphql(desc = "The number of rows from the end; at most 100.")] last: Option<i32>,
        #[graphql(desc = "A cursor: rows before it.")] before: Option<String>,
    ) -> Result<VisitConnection> {
        let page_args = PageArgs::new(context::limits(ctx)?, first, after, last, before)?;
        bookings_outside_hours(ctx, self.doctor, &page_args).await
    }
}

/// An absence of a doctor, or a closure of the hospital.
#[derive(InputObject)]
struct AddAbsenceInput {
    /// Who is away, and not retired; absent or null: the whole hospital is closed, which only ADMIN may enter.
    doctor_id: Option<ID>,
    /// The start.
    starts: DateTimeInput,
    /// The end, after the start: the first instant after the absence.
    ends: DateTimeInput,
    /// Why; 1–2,000 characters.
    reason: Option<String>,
    /// A key of 1–255 characters that the client chooses: a mutation repeated with the same key is executed once. Remembered for 7 days.
    idempotency_key: Option<String>,
}

/// The absence that was added.
struct AddAbsencePayload {
    absence: Absence,
}

/// The absence that was added.
#[Object]
impl AddAbsencePayload {
    /// Its current state.
    async fn absence(&self) -> Absence {
        self.absence.clone()
    }

    /// The bookings from now on within the absence, the earliest first; nothing is moved by itself. A booking is a visit with a
    /// time of day that is BOOKED, or TENTATIVE and has not lapsed.
    async fn visits_outside(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The number of rows from the start; 20 by default, at most 100.")] first: Option<i32>,
        #[graphql(desc = "A cursor: rows after it.")] after: Option<String>,
        #[graphql(desc = "The number of rows from the end; at most 100.")] last: Option<i32>,
        #[graphql(desc = "A cursor: rows before it.")] before: Option<String>,
    ) -> Result<VisitConnection> {
        let page_args = PageArgs::new(context::limits(ctx)?, first, after, last, before)?;
        self.absence.bookings_within(ctx, &page_args).await
    }
}

/// The absence or closure to remove.
#[derive(InputObject)]
struct RemoveAbsenceInput {
    /// The absence. A closure of the hospital only ADMIN may remove.
    id: ID,
    /// A key of 1–255 characters that the client chooses: a mutation repeated with the same key is executed once. Remembered for 7 days.
    idempotency_key: Option<String>,
}

/// The absence is removed.
#[derive(SimpleObject)]
struct RemoveAbsencePayload {
    /// True.
    removed: bool,
}

/// Settings of the hospital. Absent fields stay unchanged.
#[derive(InputObject)]
struct UpdateHospitalInput {
    /// What a booking takes unless it or its doctor says otherwise, and how long slots are: 5–480 minutes, not null.
    slot_minutes: MaybeUndefined<i32>,
    /// How long TENTATIVE bookings made from now on are held: 1–43,200 minutes, not null.
    tentative_minutes: MaybeUndefined<i32>,
    /// A key of 1–255 characters that the client chooses: a mutation repeated with the same key is executed once. Remembered for 7 days.
    idempotency_key: Option<String>,
}

/// The hospital that was changed.
#[derive(SimpleObject)]
struct UpdateHospitalPayload {
    /// Its current state.
    hospital: Hospital,
}

#[Object(guard = "access::console")]
impl ScheduleMutation {
    /// Replaces all hours of a doctor, and tells which bookings then lie outside. For ADMIN.
    async fn set_doctor_hours(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The hours.")] input: SetDoctorHoursInput,
    ) -> Result<SetDoctorHoursPayload> {
        let mut bad = BadFields::default();
        let command = SetDoctorHours {
            doctor: bad.check(id::doctor("input.doctorId", &input.doctor_id))?,
            hours: valid_hours(&mut bad, &input.hours)?,
            slot_minutes: bad.check(patch(input.slot_minutes, slot_minutes))?,
        };
        let doctor = execute(ctx, bad, &command, input.idempotency_key).await?;
        Ok(SetDoctorHoursPayload { doctor })
    }

    /// Adds an absence of a doctor, or a closure of the hospital (only ADMIN may), and tells which bookings lie within. For ADMIN and DESK.
    async fn add_absence(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The absence.")] input: AddAbsenceInput,
    ) -> Result<AddAbsencePayload> {
        let mut bad = BadFields::default();
        let doctor = input.doctor_id.map(|id| id::doctor("input.doctorId", &id));
        let doctor = bad.check(doctor.transpose())?;
        let zone = context::hospital_state(ctx).await?.time_zone;
        let instant = |argument: &str, at: &DateTimeInput| {
            let at = at.instant(argument)?;
            let known = rules::date_in_zone(at, zone);
            known.map_err(|message| Error::input(argument, message))?;
            Ok(at)
        };
        let starts = bad.take(instant("input.starts", &input.starts))?;
        let mut ends = bad.take(instant("input.ends", &input.ends))?;
        if starts.zip(ends).is_some_and(|(starts, ends)| ends <= starts) {
            ends = bad.take(Err(Error::input("input.ends", "must be after starts")))?;
        }
        let reason = input.reason.map(|reason| lines("input.reason", &reason));
        let reason = bad.check(reason.transpose())?;
        let (Some(starts), Some(ends)) = (starts, ends) else {
            return Err(bad.error());
        };
        let command = AddAbsence {
            doctor,
            starts,
            ends,
            reason,
        };
        let added = execute(ctx, bad, &command, input.idempotency_key).await?;
        let absence = Absence::find(ctx, added).await?.ok_or_else(|| Error::NotFound {
            argument: "input.idempotencyKey".to_owned(),
            message: "the absence that was added under this key has been removed since".to_owned(),
        })?;
        Ok(AddAbsencePayload { absence })
    }

    /// Removes an absence of a doctor, or a closure of the hospital (only ADMIN may). For ADMIN and DESK.
    async fn remove_absence(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The absence.")] input: RemoveAbsenceInput,
    ) -> Result<RemoveAbsencePayload> {
        let mut bad = BadFields::default();
        let id = bad.check(id::absence("input.id", &input.id))?;
        execute(ctx, bad, &RemoveAbsence { id }, input.idempotency_key).await?;
        Ok(RemoveAbsencePayload { removed: true })
    }

    /// Changes how long slots are, and how long TENTATIVE bookings are held. For ADMIN.
    async fn update_hospital(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The settings.")] input: UpdateHospitalInput,
    ) -> Result<UpdateHospitalPayload> {
        let mut bad = BadFields::default();
        let given = bad.check(never_null("input.slotMinutes", input.slot_minutes))?;
        let slot_minutes = bad.check(given.map(slot_minutes).transpose())?;
        let argument = "input.tentativeMinutes";
        let given = bad.check(never_null(argument, input.tentative_minutes))?;
        let tentative_minutes = given.map(|number| {
            let minutes = rules::minutes(number, rules::TENTATIVE_MINUTES);
            minutes.map_err(|message| Error::input(argument, message))
        });
        let command = UpdateHospital {
            slot_minutes,
            tentative_minutes: bad.check(tentative_minutes.transpose())?,
        };
        execute(ctx, bad, &command, input.idempotency_key).await?;
        Ok(UpdateHospitalPayload {
            hospital: Hospital::own(ctx).await?,
        })
    }
}

fn slot_minutes(number: i32) -> Result<i32> {
    let minutes = rules::minutes(number, rules::SLOT_MINUTES);
    minutes.map_err(|message| Error::input("input.slotMinutes", message))
}

/// The hours of an input; all that is wrong with them is added to `bad`.
fn valid_hours(bad: &mut BadFields, input: &[WorkingHoursInput]) -> Result<Vec<scheduling::WorkingHours>> {
    // More are not read.
    let read = input.get(..=scheduling::MAX_HOURS).unwrap_or(input);
    let mut hours = Vec::with_capacity(read.len());
    let mut positions = Vec::with_capacity(read.len());
    for (position, given) in read.iter().enumerate() {
        let from = bad.take(given.from.time(&format!("input.hours.{position}.from")))?;
        let to = bad.take(given.to.time(&format!("input.hours.{position}.to")))?;
        if let (Some(from), Some(to)) = (from, to) {
            let weekday = given.weekday.into();
            hours.push(scheduling::WorkingHours { weekday, from, to });
            positions.push(position);
        }
    }
    let position = |index: usize| positions.get(index).copied().unwrap_or(index);
    for error in scheduling::validate(&hours).err().unwrap_or_default() {
        let of_input = format!("input.hours.{}", position(error.index));
        let (argument, problem) = match error.problem {
            HoursProblem::TooMany => ("input.hours".to_owned(), error.problem),
            HoursProblem::Overlaps(other) => (of_input, HoursProblem::Overlaps(position(other))),
            HoursProblem::FromNotBeforeTo => (of_input, error.problem),
        };
        bad.take::<()>(Err(Error::input(argument, problem.to_string())))?;
    }
    Ok(hours)
}
