//! What kiosks see of a visit.

use async_graphql::{Context, SimpleObject};

use super::context;
use super::enums::VisitStatus;
use super::loaders::{PatientRowKey, VisitRowKey};
use super::scalars::{Date, DateTime};
use crate::error::{Error, Result};
use crate::mask;

/// What a kiosk shows: enough to know one's own visit by.
#[derive(SimpleObject)]
pub(super) struct KioskVisit {
    /// The start time; null if only the day is known.
    starts_at: Option<DateTime>,
    /// The day of the visit in the hospital's time zone.
    date: Date,
    /// The status.
    status: VisitStatus,
    /// The doctor's name; null if there is none.
    doctor_name: Option<String>,
    /// The department's name; null if there is none.
    department_name: Option<String>,
    /// The patient's name, masked for every role; empty if unknown.
    patient_name: String,
}

impl KioskVisit {
    /// The visit, its patient recorded for the audit as part of the response.
    pub(super) async fn load(ctx: &Context<'_>, id: i64) -> Result<Self> {
        let loaders = context::loaders(ctx)?;
        let found = loaders.load_one(VisitRowKey(id)).await?;
        let found = found.ok_or_else(|| Error::Internal("a visit that was just changed is gone".to_owned()))?;
        context::audit_patient_view(ctx, found.visit.patient)?;
        let patient = loaders.load_one(PatientRowKey(found.visit.patient)).await?;
        let name = patient.and_then(|patient| patient.name);
        Ok(Self {
            starts_at: found.visit.scheduled_at.map(DateTime),
            date: found.visit.date.into(),
            status: found.visit.status.into(),
            doctor_name: found.doctor.map(|doctor| doctor.name),
            department_name: found.department.map(|department| department.name),
            patient_name: name.map_or_else(String::new, |name| mask::name(&name)),
        })
    }
}
