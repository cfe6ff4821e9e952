//! The hospital, its rules, departments and doctors.

use async_graphql::{Context, ID, Object};

use super::access;
use super::context;
use super::enums::{SlotState, WeekStart};
use super::id::Id;
use super::loaders::{DepartmentKey, DoctorKey};
use super::scalars::{Date, DateTime};
use super::schedule::{self, Absence, Slot, WorkingHours};
use super::statistics::DateRangeInput;
use crate::error::{Error, Result};
use crate::statistics::Definition;
use crate::store;

/// A hospital.
pub(super) struct Hospital(pub(super) store::Hospital);

/// A hospital, the tenant: all data belongs to exactly one hospital.
#[Object(guard = "access::console")]
impl Hospital {
    /// An opaque ID.
    pub(super) async fn id(&self) -> ID {
        Id::Hospital(self.0.id).into()
    }

    /// The code that staff sign in with.
    async fn code(&self) -> &str {
        &self.0.code
    }

    /// The display name.
    #[graphql(guard = "access::any_role")]
    async fn name(&self) -> &str {
        &self.0.name
    }

    /// IANA name, such as Asia/Seoul.
    #[graphql(guard = "access::any_role")]
    async fn time_zone(&self) -> &str {
        self.0.time_zone.name()
    }

    /// The day that weeks start on.
    async fn week_start(&self, ctx: &Context<'_>) -> Result<WeekStart> {
        Ok(context::hospital_state(ctx).await?.week_start.into())
    }

    /// The date now, in the hospital's time zone.
    #[graphql(guard = "access::any_role")]
    async fn today(&self, ctx: &Context<'_>) -> Result<Date> {
        Ok(context::today(ctx).await?.into())
    }

    /// The rules in force.
    async fn definition(&self, ctx: &Context<'_>) -> Result<StatisticsDefinition> {
        let state = context::hospital_state(ctx).await?;
        Ok(StatisticsDefinition::new(&state.definition, state.effective_from))
    }

    /// The departments, by name.
    async fn departments(
        &self,
        ctx: &Context<'_>,
        #[graphql(default, desc = "Whether to include retired departments.")] include_retired: bool,
    ) -> Result<Vec<Department>> {
        let all = context::services(ctx)?.store.departments(self.0.id).await?;
        let shown = all
            .into_iter()
            .filter(|row| include_retired || row.retired_at.is_none());
        Ok(shown.map(Department).collect())
    }

    /// The doctors, by name.
    async fn doctors(
        &self,
        ctx: &Context<'_>,
        #[graphql(default, desc = "Whether to include retired doctors.")] include_retired: bool,
    ) -> Result<Vec<Doctor>> {
        let all = context::services(ctx)?.store.doctors(self.0.id).await?;
        let shown = all
            .into_iter()
            .filter(|row| include_retired || row.retired_at.is_none());
        Ok(shown.map(Doctor).collect())
    }

    /// What a booking takes unless it or its doctor says otherwise, and how long slots are, in minutes.
    async fn slot_minutes(&self) -> i32 {
        self.0.slot_minutes
    }

    /// How long a TENTATIVE booking is held, in minutes.
    async fn tentative_minutes(&self) -> i32 {
        self.0.tentative_minutes
    }

    /// Closures of the hospital and absences of its doctors that touch the range, in the order in which they start.
    async fn absences(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The days, at most 366.")] range: DateRangeInput,
    ) -> Result<Vec<Absence>> {
        schedule::absences(ctx, &range).await
    }
}

impl Hospital {
    /// The viewer's hospital.
    pub(super) async fn own(ctx: &Context<'_>) -> Result<Self> {
        let hospital = context::viewer(ctx)?.hospital;
        let row = context::services(ctx)?.store.hospital(hospital).await?;
        row.map(Self)
            .ok_or_else(|| Error::Unauthenticated("the hospital of this session is gone".to_owned()))
    }
}

/// The rules by which visits and patients are counted. A change creates a new version; existing snapshots keep theirs.
#[derive(async_graphql::SimpleObject, Clone)]
pub(super) struct StatisticsDefinition {
    /// The version, counted from 1 per hospital; 0 for proposed rules.
    pub(super) version: i32,
    /// A new patient without a visit for this many days or more at asOf is suspected of having churned. At least 1.
    pub(super) churn_after_days: i32,
    /// A visit still BOOKED this many days after its date counts as a no-show, at least 1; if null, only NO_SHOW does.
    pub(super) overdue_after_days: Option<i32>,
    /// When this version came into force.
    pub(super) effective_from: DateTime,
}

impl StatisticsDefinition {
    /// These rules, and when they came into force.
    pub(super) fn new(rules: &Definition, effective_from: chrono::DateTime<chrono::Utc>) -> Self {
        Self {
            version: rules.version,
            churn_after_days: rules.churn_after_days,
            overdue_after_days: rules.overdue_after_days,
            effective_from: DateTime(effective_from),
        }
    }
}

/// A number of days that is valid in a definition.
pub(super) fn definition_days(argument: &str, days: i32) -> Result<i32> {
    if (1..=Definition::MAX_DAYS).contains(&days) {
        return Ok(days);
    }
    let message = format!("must be 1–{} days", Definition::MAX_DAYS);
    Err(Error::input(argument, message))
}

/// A department.
#[derive(Clone)]
pub(super) struct Department(pub(super) store::Department);

/// A department of the hospital.
#[Object]
impl Department {
    /// An opaque ID.
    pub(super) async fn id(&self) -> ID {
        Id::Department(self.0.id).into()
    }

    /// The name, unique in the hospital.
    async fn name(&self) -> &str {
        &self.0.name
    }

    /// When it was retired and could no longer be booked; null if it is active. Statistics continue to count its visits.
    async fn retired_at(&self) -> Option<DateTime> {
        self.0.retired_at.map(DateTime)
    }
}

impl Department {
    /// The current state of the department with this id. It bypasses the loader, since the department was just changed.
    pub(super) async fn read(ctx: &Context<'_>, id: i64) -> Result<Self> {
        let hospital = context::viewer(ctx)?.hospital;
        let all = context::services(ctx)?.store.departments(hospital).await?;
        let found = all.into_iter().find(|row| row.id == id).map(Self);
        found.ok_or_else(|| Error::Internal("a department that was just changed is gone".to_owned()))
    }

    /// The department of a row, loaded with those of the other rows.
    pub(super) async fn load(ctx: &Context<'_>, id: Option<i64>) -> Result<Option<Self>> {
        let Some(id) = id else { return Ok(None) };
        Ok(context::loaders(ctx)?.load_one(DepartmentKey(id)).await?.map(Self))
    }
}

/// A doctor.
#[derive(Clone)]
pub(super) struct Doctor(pub(super) store::Doctor);

/// A doctor of the hospital.
#[Object]
impl Doctor {
    /// An opaque ID.
    pub(super) async fn id(&self) -> ID {
        Id::Doctor(self.0.id).into()
    }

    /// The name, unique in the hospital.
    async fn name(&self) -> &str {
        &self.0.name
    }

    /// When it was retired and could no longer be booked; null if it is active. Statistics continue to count its visits.
    async fn retired_at(&self) -> Option<DateTime> {
        self.0.retired_at.map(DateTime)
    }

    /// The doctor's department; null if unknown.
    async fn department(&self, ctx: &Context<'_>) -> Result<Option<Department>> {
        Department::load(ctx, self.0.department).await
    }

    /// When the doctor sees patients, by weekday and time. Empty: bookings are not bound to hours.
    async fn hours(&self, ctx: &Context<'_>) -> Result<Vec<WorkingHours>> {
        Ok(schedule::working_hours(&schedule::doctor_hours(ctx, self.0.id).await?))
    }

    /// How long the doctor's slots are, in minutes: the hospital's slotMinutes unless the doctor has others.
    async fn slot_minutes(&self, ctx: &Context<'_>) -> Result<i32> {
        Ok(schedule::doctor_hours(ctx, self.0.id).await?.slot_minutes)
    }

    /// The doctor's hours, less absences and closures, cut into slots from the start of each working hours, across daylight saving. A rest
    /// shorter than a slot is none. A booking that lies across two slots takes both. Without hours there are no slots.
    async fn slots(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The days, at most 31.")] range: DateRangeInput,
        #[graphql(desc = "Only slots in this state.")] state: Option<SlotState>,
    ) -> Result<Vec<Slot>> {
        schedule::slots(ctx, self.0.id, &range, state).await
    }
}

impl Doctor {
    /// The current state of the doctor with this id. It bypasses the loader, since the doctor was just changed.
    pub(super) async fn read(ctx: &Context<'_>, id: i64) -> Result<Self> {
        let hospital = context::viewer(ctx)?.hospital;
        let all = context::services(ctx)?.store.doctors(hospital).await?;
        let found = all.into_iter().find(|row| row.id == id).map(Self);
        found.ok_or_else(|| Error::Internal("a doctor that was just changed is gone".to_owned()))
    }

    /// The doctor of a row, loaded with those of the other rows.
    pub(super) async fn load(ctx: &Context<'_>, id: Option<i64>) -> Result<Option<Self>> {
        let Some(id) = id else { return Ok(None) };
        Ok(context::loaders(ctx)?.load_one(DoctorKey(id)).await?.map(Self))
    }
}
