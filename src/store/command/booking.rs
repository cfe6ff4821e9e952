//! The rules of the front desk for a visit that is recorded or changed: its status, and the time that it takes.

use chrono::{DateTime, TimeDelta, Utc};
use entity::{hospital, visit};
use scheduling::{Interval, Moment, Schedule, Times, check_move, is_occupying, is_within, moment, moves_freely};
use sea_orm::{ConnectionTrait as _, EntityTrait as _};

use super::transaction::CommandTx;
use crate::error::{BookingConflict, Error, Result};
use crate::statistics::VisitStatus;
use crate::store::model::{Hospital, stored};
use crate::store::schedule::{DoctorHours, OccupiedTime, TimeOf};

/// Free times that SLOT_TAKEN offers, and how many days ahead they are looked for.
const OFFERED_TIMES: usize = 5;
const OFFERED_DAYS: u64 = 31;

/// What staff say to a rule that can be overridden.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Override {
    /// Books although the time is not free. Needs a reason.
    pub force: bool,
    /// Needed also where a visit is corrected.
    pub reason: Option<String>,
}

/// A visit that obeys the rules.
pub(super) struct CheckedVisit {
    pub row: visit::Model,
    /// Whether its time is not free, and it takes it nevertheless.
    pub forced: bool,
}

/// A visit's status and time, before a change or after it.
struct VisitState<'a> {
    row: &'a visit::Model,
    status: VisitStatus,
}

impl<'a> VisitState<'a> {
    fn of(row: &'a visit::Model) -> Result<Self> {
        let status = stored("visit.status", VisitStatus::parse(&row.status))?;
        Ok(Self { row, status })
    }

    fn times(&self) -> Times {
        Times {
            checked_in_at: self.row.checked_in_at,
            started_at: self.row.started_at,
            completed_at: self.row.completed_at,
        }
    }

    fn is_moved_from(&self, before: &Self) -> bool {
        (self.row.date, self.row.scheduled_at) != (before.row.date, before.row.scheduled_at)
    }

    fn is_occupying(&self, now: DateTime<Utc>) -> bool {
        self.row.scheduled_at.is_some() && is_occupying(self.status, self.row.expires_at, now)
    }

    /// Whether it takes the time of the same persons, and no other time than before.
    fn takes_time_of(&self, before: &Self) -> bool {
        let time = |row: &visit::Model| (row.scheduled_at, row.duration_minutes, row.doctor_id, row.patient_id);
        time(self.row) == time(before.row)
    }

    /// Whether the patient is with the doctor, or waits there.
    fn is_checked_in(&self) -> bool {
        matches!(self.status, VisitStatus::CheckedIn | VisitStatus::InProgress)
    }
}

impl CommandTx<'_> {
    /// The hospital, as the transaction sees it.
    pub(super) async fn own_hospital(&self) -> Result<Hospital> {
        let row = hospital::Entity::find_by_id(self.hospital)
            .one(&self.transaction)
            .await?;
        let row = row.ok_or_else(|| Error::Unauthenticated("the hospital of this session is gone".to_owned()))?;
        row.try_into()
    }

    /// Checks a visit that is new, or changed from `before`, and adds the times that follow from its status.
    ///
    /// # Errors
    /// INVALID_TRANSITION, SLOT_TAKEN, and BAD_USER_INPUT where a reason or a time is missing.
    pub(super) async fn checked_visit(
        &self,
        hospital: &Hospital,
        before: Option<&visit::Model>,
        mut row: visit::Model,
        overriding: &Override,
    ) -> Result<CheckedVisit> {
        let now = self.store.now();
        let moment = moment(row.date, hospital.time_zone, now);
        let before = before.map(VisitState::of).transpose()?;
        let wanted = VisitState::of(&row)?;
        let times = check_status(before.as_ref(), &wanted, moment, now, overriding)?;
        let status = wanted.status;
        row.checked_in_at = times.checked_in_at;
        row.started_at = times.started_at;
        row.completed_at = times.completed_at;
        row.expires_at = match (status, &before) {
            (VisitStatus::Tentative, Some(before)) => before.row.expires_at,
            (VisitStatus::Tentative, None) => Some(now + TimeDelta::minutes(hospital.tentative_minutes.into())),
            _ => None,
        };
        let forced = self
            .check_time(
                hospital,
                before.as_ref(),
                &VisitState { row: &row, status },
                now,
                overriding,
            )
            .await?;
        Ok(CheckedVisit { row, forced })
    }

    /// Refuses a time that is not free, unless it is forced. Returns whether it is.
    async fn check_time(
        &self,
        hospital: &Hospital,
        before: Option<&VisitState<'_>>,
        wanted: &VisitState<'_>,
        now: DateTime<Utc>,
        overriding: &Override,
    ) -> Result<bool> {
        let row = wanted.row;
        let mut conflicts = Vec::new();
        let kept = before.is_some_and(|before| before.is_checked_in() && same_place(before.row, row));
        if wanted.is_checked_in() && !kept && self.is_checked_in_elsewhere(row).await? {
            conflicts.push(BookingConflict::AlreadyCheckedIn);
        }
        let argument = if conflicts.is_empty() {
            "input.scheduledAt"
        } else {
            "input.status"
        };
        let keeps_its_time = before.is_some_and(|before| before.is_occupying(now) && wanted.takes_time_of(before));
        let mut next_free = Vec::new();
        if let Some(at) = row.scheduled_at
            && wanted.is_occupying(now)
            && !keeps_its_time
        {
            let booking = Booking::new(self, hospital, row, at.0, now).await?;
            conflicts.extend(booking.conflicts(self).await?);
            if !conflicts.is_empty() && !overriding.force {
                next_free = booking.next_free(self).await?;
            }
        } else if let (None, Some(doctor), VisitStatus::Tentative | VisitStatus::Booked) =
            (row.scheduled_at, row.doctor_id, wanted.status)
            && before.is_none_or(|before| before.status != wanted.status || !wanted.takes_time_of(before))
            && self.has_hours(doctor).await?
        {
            return Err(Error::input(
                "input.scheduledAt",
                "this doctor has working hours: a booking needs a time of day",
            ));
        }
        if conflicts.is_empty() || overriding.force {
            return Ok(!conflicts.is_empty());
        }
        Err(Error::SlotTaken {
            argument: argument.to_owned(),
            conflicts,
            next_free,
        })
    }

    async fn has_hours(&self, doctor: i64) -> Result<bool> {
        let doctors = [doctor];
        let hours = self.store.doctor_hours_in(&self.transaction, self.hospital, &doctors);
        Ok(hours.await?.into_values().any(|of_doctor| !of_doctor.hours.is_empty()))
    }

    /// Whether the patient is checked in with the doctor by another visit of the day.
    async fn is_checked_in_elsewhere(&self, row: &visit::Model) -> Result<bool> {
        let Some(doctor) = row.doctor_id else { return Ok(false) };
        let mut sql = self.store.sql("SELECT id FROM visit WHERE hospital_id = ");
        sql.bind(self.hospital).push(" AND patient_id = ").bind(row.patient_id);
        sql.push(" AND date = ")
            .bind(row.date)
            .push(" AND doctor_id = ")
            .bind(doctor);
        sql.push(" AND status")
            .few(&[VisitStatus::CheckedIn.as_str(), VisitStatus::InProgress.as_str()]);
        sql.push(" AND id <> ").bind(row.id);
        Ok(self.transaction.query_one_raw(sql.done()).await?.is_some())
    }
}

/// Whether two states of a visit are of the same patient, doctor and day.
fn same_place(one: &visit::Model, other: &visit::Model) -> bool {
    let place = |row: &visit::Model| (row.patient_id, row.doctor_id, row.date);
    place(one) == place(other)
}

/// Checks the status of a visit that is new, or changed from `before`. Returns when it was checked in, began and was completed.
fn check_status(
    before: Option<&VisitState<'_>>,
    wanted: &VisitState<'_>,
    moment: Moment,
    now: DateTime<Utc>,
    overriding: &Override,
) -> Result<Times> {
    let from = before.map(|before| before.status);
    let to = wanted.status;
    let transition = if from == Some(to) {
        None
    } else {
        let checked = scheduling::check(from, to, moment);
        Some(checked.map_err(|refused| invalid_transition(from, to, wanted.row, refused.allowed))?)
    };
    let needs_reason = match (before, transition) {
        (_, Some(transition)) if transition.is_correction => true,
        (None, _) => false,
        (Some(before), transition) => {
            // In course, a visit that was canceled or missed is booked again, at any time.
            let is_rebooked =
                transition.is_some() && matches!(before.status, VisitStatus::Canceled | VisitStatus::NoShow);
            let is_moved = wanted.is_moved_from(before) && !is_rebooked;
            let move_is_correction = is_moved && check_moved(before, wanted, moment)?;
            move_is_correction || transition.is_none() && before.status.is_final() && is_corrected(before, wanted)
        }
    };
    if needs_reason && overriding.reason.is_none() {
        let message = match before {
            Some(before) => format!(
                "this visit is {}: a reason for correcting it is needed",
                before.row.status
            ),
            None => format!(
                "a visit of a day that is over is recorded as {} with a reason only",
                wanted.row.status
            ),
        };
        return Err(Error::input("input.reason", message));
    }
    let times = before.map(VisitState::times).unwrap_or_default();
    Ok(transition.map_or(times, |transition| times.after(&transition, moment, now)))
}

/// Whether moving the visit is a correction.
fn check_moved(before: &VisitState<'_>, wanted: &VisitState<'_>, moment: Moment) -> Result<bool> {
    // The transition was checked at the new time.
    if before.status != wanted.status {
        return Ok(!moves_freely(before.status));
    }
    check_move(wanted.status, moment).map_err(|_| {
        let message = format!(
            "a visit cannot be {} before its day, {}",
            wanted.row.status, wanted.row.date
        );
        Error::input("input.date", message)
    })
}

/// Whether more than the note differs.
fn is_corrected(before: &VisitState<'_>, wanted: &VisitState<'_>) -> bool {
    let note = before.row.note.clone();
    visit::Model {
        note,
        ..wanted.row.clone()
    } != *before.row
}

fn invalid_transition(
    from: Option<VisitStatus>,
    to: VisitStatus,
    row: &visit::Model,
    allowed: Vec<VisitStatus>,
) -> Error {
    let words: Vec<&str> = allowed.iter().map(|status| status.as_str()).collect();
    let allowed_words = if words.is_empty() {
        "no other status".to_owned()
    } else {
        words.join(", ")
    };
    let what = match from {
        Some(from) => format!(
            "a visit of {} that is {} cannot become {}",
            row.date,
            from.as_str(),
            to.as_str()
        ),
        None => format!("a new visit of {} cannot be {}", row.date, to.as_str()),
    };
    Error::InvalidTransition {
        argument: "input.status".to_owned(),
        message: format!("{what}; allowed now: {allowed_words}"),
        allowed,
    }
}

/// A booking of a time, and what is looked at for it.
struct Booking<'a> {
    hospital: &'a Hospital,
    row: &'a visit::Model,
    interval: Interval,
    now: DateTime<Utc>,
    hours: DoctorHours,
}

impl<'a> Booking<'a> {
    async fn new(
        tx: &CommandTx<'_>,
        hospital: &'a Hospital,
        row: &'a visit::Model,
        starts: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<Self> {
        let doctor = row.doctor_id.as_slice();
        let hours = tx.store.doctor_hours_in(&tx.transaction, tx.hospital, doctor).await?;
        let hours = hours.into_values().next();
        let hours = hours.unwrap_or_else(|| DoctorHours {
            hours: Vec::new(),
            slot_minutes: hospital.slot_minutes,
        });
        let slot_minutes = hours.slot_minutes.max(1);
        let length = TimeDelta::minutes(row.duration_minutes.unwrap_or(slot_minutes).into());
        let interval = starts
            .checked_add_signed(length)
            .and_then(|ends| Interval::new(starts, ends));
        let interval = interval.ok_or_else(|| Error::input("input.durationMinutes", "the visit would end too late"))?;
        Ok(Self {
            hospital,
            row,
            interval,
            now,
            hours,
        })
    }

    /// Why the time is not free.
    async fn conflicts(&self, tx: &CommandTx<'_>) -> Result<Vec<BookingConflict>> {
        let mut conflicts = Vec::new();
        let (of_doctor, of_patient) = self.occupied(tx, self.interval).await?;
        if !of_doctor.is_empty() {
            conflicts.push(BookingConflict::DoctorBusy);
        }
        if !of_patient.is_empty() {
            conflicts.push(BookingConflict::PatientBusy);
        }
        if !is_within(&self.interval, &self.hours.hours, self.hospital.time_zone) {
            conflicts.push(BookingConflict::OutsideHours);
        }
        let absences = tx
            .store
            .absences_in(&tx.transaction, tx.hospital, self.interval)
            .await?;
        if absences.iter().any(|absence| absence.doctor.is_none()) {
            conflicts.push(BookingConflict::HospitalClosed);
        }
        if absences
            .iter()
            .any(|absence| absence.doctor.is_some() && absence.concerns(self.row.doctor_id))
        {
            conflicts.push(BookingConflict::DoctorAbsent);
        }
        Ok(conflicts)
    }

    /// The next times that are free of the doctor and of the patient; none where the doctor has no working hours.
    async fn next_free(&self, tx: &CommandTx<'_>) -> Result<Vec<Interval>> {
        let from = self.interval.starts().max(self.now);
        let days = TimeDelta::days(OFFERED_DAYS.cast_signed() + 1);
        let within = from.checked_add_signed(days).and_then(|to| Interval::new(from, to));
        let Some(within) = within.filter(|_| !self.hours.hours.is_empty()) else {
            return Ok(Vec::new());
        };
        let (of_doctor, of_patient) = self.occupied(tx, within).await?;
        let occupied: Vec<Interval> = of_doctor.iter().chain(&of_patient).map(|time| time.interval).collect();
        let absences = tx.store.absences_in(&tx.transaction, tx.hospital, within).await?;
        let absences = absences.iter().filter(|absence| absence.concerns(self.row.doctor_id));
        let absences: Vec<Interval> = absences.filter_map(|absence| absence.interval()).collect();
        let slot_minutes = self.hours.slot_minutes.unsigned_abs();
        let schedule = Schedule::new(
            self.hospital.time_zone,
            &self.hours.hours,
            slot_minutes,
            &absences,
            &occupied,
        );
        let length = self.interval.ends() - self.interval.starts();
        Ok(schedule.next_free(from, length, OFFERED_TIMES, OFFERED_DAYS))
    }

    /// The other visits that take time of the doctor, and of the patient.
    async fn occupied(&self, tx: &CommandTx<'_>, within: Interval) -> Result<(Vec<OccupiedTime>, Vec<OccupiedTime>)> {
        let others = async |of| {
            let occupied = tx.store.occupied_in(&tx.transaction, tx.hospital, of, within);
            let mut occupied = occupied.await?;
            occupied.retain(|time| time.visit != self.row.id);
            Ok::<_, Error>(occupied)
        };
        let doctor = self.row.doctor_id.as_slice();
        let of_doctor = match doctor {
            [] => Vec::new(),
            doctors => others(TimeOf::Doctors(doctors)).await?,
        };
        Ok((of_doctor, others(TimeOf::Patient(self.row.patient_id)).await?))
    }
}
