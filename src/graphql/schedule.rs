//! When doctors see patients: working hours, absences, slots, and bookings that no longer fit.

use std::sync::Arc;

use async_graphql::{Context, ID, InputObject, Object, SimpleObject};
use scheduling::{Interval, end_of_day, start_of_day};
use serde_json::json;

use super::connection::{VisitConnection, VisitTotal};
use super::context;
use super::enums::{SlotState, Weekday};
use super::hospital::Doctor;
use super::id::Id;
use super::loaders::{DoctorHoursKey, DoctorScheduleKey};
use super::pagination::{CursorScope, KeyedRow, PageArgs};
use super::scalars::{DateTime, LocalTime};
use super::statistics::DateRangeInput;
use crate::error::{Error, Result};
use crate::statistics::{Day, DayRange};
use crate::store;

/// The most days of a question about slots.
pub(crate) const MAX_SLOT_DAYS: i32 = 31;
/// The most days of a question about absences.
const MAX_ABSENCE_DAYS: i32 = 366;
/// Bytes of a slot in a response at least.
const SLOT_BYTES: usize = 16;

/// When a doctor sees patients on a weekday. Several on a weekday leave breaks between them.
#[derive(SimpleObject)]
pub(super) struct WorkingHours {
    /// The weekday.
    weekday: Weekday,
    /// The start.
    from: LocalTime,
    /// The end, after the start; 24:00 is the end of the day.
    to: LocalTime,
}

/// When a doctor sees patients on a weekday. Several on a weekday leave breaks between them; they may touch, but not overlap.
#[derive(InputObject)]
pub(super) struct WorkingHoursInput {
    /// The weekday.
    pub(super) weekday: Weekday,
    /// The start.
    pub(super) from: LocalTime,
    /// The end, after the start; 24:00 is the end of the day.
    pub(super) to: LocalTime,
}

/// Days, or hours of a day, on which a doctor is away or the hospital is closed.
#[derive(Clone)]
pub(super) struct Absence(pub(super) store::Absence);

/// Days, or hours of a day, on which a doctor is away or the hospital is closed.
#[Object]
impl Absence {
    /// An opaque ID.
    pub(super) async fn id(&self) -> ID {
        Id::Absence(self.0.id).into()
    }

    /// Who is away; null: the whole hospital is closed.
    async fn doctor(&self, ctx: &Context<'_>) -> Result<Option<Doctor>> {
        Doctor::load(ctx, self.0.doctor).await
    }

    /// The start.
    async fn starts(&self) -> DateTime {
        DateTime(self.0.starts)
    }

    /// The end: the first instant after.
    async fn ends(&self) -> DateTime {
        DateTime(self.0.ends)
    }

    /// Why; null if unknown, or for SUPPORT.
    async fn reason(&self, ctx: &Context<'_>) -> Result<Option<&str>> {
        let in_full = context::sees_in_full(ctx)?;
        Ok(self.0.reason.as_deref().filter(|_| in_full))
    }
}

impl Absence {
    /// The absence with this id, if the hospital has it.
    pub(super) async fn find(ctx: &Context<'_>, id: i64) -> Result<Option<Self>> {
        let hospital = context::viewer(ctx)?.hospital;
        Ok(context::services(ctx)?.store.absence(hospital, id).await?.map(Self))
    }

    /// A page of the bookings within it, from now on.
    pub(super) async fn bookings_within(&self, ctx: &Context<'_>, page_args: &PageArgs) -> Result<VisitConnection> {
        let of = json!(["withinAbsence", self.0.id]);
        let Some(absent) = self.0.interval() else {
            return page_of_bookings(ctx, page_args, Arc::new(of), Vec::new());
        };
        let upcoming = bookings_from_now_on(ctx, self.0.doctor, absent.ends()).await?;
        let outside = upcoming.into_iter().filter(|(_, time)| time.overlaps(&absent));
        let outside = outside.map(|(visit, _)| visit).collect();
        page_of_bookings(ctx, page_args, Arc::new(of), outside)
    }
}

/// The absences and closures that touch these days.
pub(super) async fn absences(ctx: &Context<'_>, range: &DateRangeInput) -> Result<Vec<Absence>> {
    let days = at_most(range, MAX_ABSENCE_DAYS)?;
    let Some(during) = interval(ctx, days).await? else {
        return Ok(Vec::new());
    };
    let hospital = context::viewer(ctx)?.hospital;
    let found = context::services(ctx)?.store.absences(hospital, during).await?;
    Ok(found.into_iter().map(Absence).collect())
}

/// A part of a doctor's working hours.
#[derive(SimpleObject)]
pub(super) struct Slot {
    /// The start.
    starts: DateTime,
    /// The end: the first instant after.
    ends: DateTime,
    /// Whether it can be booked.
    state: SlotState,
}

/// A doctor's hours, loaded with those of others.
pub(super) async fn doctor_hours(ctx: &Context<'_>, doctor: i64) -> Result<store::DoctorHours> {
    let found = context::loaders(ctx)?.load_one(DoctorHoursKey(doctor)).await?;
    found.ok_or_else(|| Error::Internal("a doctor of the response is gone".to_owned()))
}

/// The hours as the API has them.
pub(super) fn working_hours(hours: &store::DoctorHours) -> Vec<WorkingHours> {
    let of_api = |hours: &scheduling::WorkingHours| WorkingHours {
        weekday: hours.weekday.into(),
        from: hours.from.into(),
        to: hours.to.into(),
    };
    hours.hours.iter().map(of_api).collect()
}

/// A doctor's slots, loaded with those of others.
pub(super) async fn slots(
    ctx: &Context<'_>,
    doctor: i64,
    range: &DateRangeInput,
    state: Option<SlotState>,
) -> Result<Vec<Slot>> {
    let days = at_most(range, MAX_SLOT_DAYS)?;
    let Some(during) = interval(ctx, days).await? else {
        return Ok(Vec::new());
    };
    let loaded = context::loaders(ctx)?
        .load_one(DoctorScheduleKey(doctor, during))
        .await?;
    let Some(loaded) = loaded else { return Ok(Vec::new()) };
    let zone = context::hospital_state(ctx).await?.time_zone;
    let slots = loaded.schedule(zone).slots(days.from.date(), days.to.date());
    let state = state.map(scheduling::SlotState::from);
    let asked = slots
        .iter()
        .filter(|slot| state.is_none_or(|state| state == slot.state));
    let slots: Vec<Slot> = asked
        .map(|slot| Slot {
            starts: DateTime(slot.interval.starts()),
            ends: DateTime(slot.interval.ends()),
            state: slot.state.into(),
        })
        .collect();
    context::response_bytes(ctx)?.take(slots.len().saturating_mul(SLOT_BYTES))?;
    Ok(slots)
}

/// The days of a range that has no more than these.
fn at_most(range: &DateRangeInput, most: i32) -> Result<DayRange> {
    let days = range.days("range")?;
    if days.to.0 - days.from.0 < most {
        return Ok(days);
    }
    Err(Error::input("range", format!("must be at most {most} days")))
}

/// The days as instants; none where the hospital's time zone skips them all.
async fn interval(ctx: &Context<'_>, days: DayRange) -> Result<Option<Interval>> {
    let zone = context::hospital_state(ctx).await?.time_zone;
    let starts = start_of_day(days.from.date(), zone);
    Ok(Interval::new(starts, end_of_day(days.to.date(), zone)))
}

/// A page of a doctor's bookings from now on that lie outside the hours.
pub(super) async fn bookings_outside_hours(
    ctx: &Context<'_>,
    doctor: i64,
    page_args: &PageArgs,
) -> Result<VisitConnection> {
    let zone = context::hospital_state(ctx).await?.time_zone;
    let hours = doctor_hours(ctx, doctor).await?.hours;
    let upcoming = bookings_from_now_on(ctx, Some(doctor), end_of_day(Day::MAX, zone)).await?;
    let outside = upcoming
        .into_iter()
        .filter(|(_, time)| !scheduling::is_within(time, &hours, zone));
    let outside = outside.map(|(visit, _)| visit).collect();
    page_of_bookings(ctx, page_args, Arc::new(json!(["outsideHours", doctor])), outside)
}

/// The bookings that start from now on, but before `until`: a doctor's, or all of the hospital.
async fn bookings_from_now_on(
    ctx: &Context<'_>,
    doctor: Option<i64>,
    until: chrono::DateTime<chrono::Utc>,
) -> Result<Vec<(store::Visit, Interval)>> {
    let (hospital, store) = (context::viewer(ctx)?.hospital, &context::services(ctx)?.store);
    match Interval::new(store.now(), until) {
        Some(during) => store.bookings(hospital, doctor, during).await,
        None => Ok(Vec::new()),
    }
}

/// A page of bookings, which are in the order of their times. Its cursors are the times: the list may be another one when the next page
/// is asked for.
fn page_of_bookings(
    ctx: &Context<'_>,
    page_args: &PageArgs,
    scope: CursorScope,
    bookings: Vec<store::Visit>,
) -> Result<VisitConnection> {
    let total = bookings.len() as u64;
    let (hospital, secrets) = (context::viewer(ctx)?.hospital, context::services(ctx)?.store.secrets());
    let keyset = page_args.keyset(secrets, hospital, &scope, false)?;
    let from = keyset.from.map(|(key, id)| (key.and_then(|key| key.parse().ok()), id));
    let place = |visit: &store::Visit| (visit.scheduled_at.map(|at| at.timestamp_micros()), visit.id);
    let is_past = |visit: &store::Visit| match from {
        Some(from) if keyset.backwards => place(visit) < from,
        Some(from) => place(visit) > from,
        None => true,
    };
    let mut rows: Vec<_> = bookings.into_iter().filter(is_past).collect();
    let limit = usize::try_from(keyset.limit).unwrap_or(usize::MAX);
    if keyset.backwards {
        rows.drain(..rows.len().saturating_sub(limit));
    } else {
        rows.truncate(limit);
    }
    let around = page_args.trim(&mut rows);
    let keyed = |row: store::Visit| KeyedRow {
        scope: Arc::clone(&scope),
        key: place(&row).0.map(|micros| micros.to_string()),
        id: row.id,
        row,
    };
    Ok(VisitConnection {
        rows: rows.into_iter().map(keyed).collect(),
        around,
        total: VisitTotal::Known(total),
    })
}
