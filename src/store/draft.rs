//! Drafts of patients and visits applied to their rows.

use chrono::Datelike as _;
use entity::scheduled_at::ScheduledAt;
use entity::{patient, visit};

use super::Store;
use super::model::RecordState;
use super::patient::erased_patient;
use crate::error::Result;
use crate::records::{Patch, PatientDraft, VisitDraft};
use crate::statistics::{VisitChannel, VisitStatus};

/// The row of a new patient of whom nothing is known yet.
pub(super) fn new_patient(hospital: i64) -> patient::Model {
    patient::Model {
        state: RecordState::Active.as_str().to_owned(),
        version: 1,
        ..erased_patient(hospital, 0)
    }
}

/// The row of a new visit: BOOKED and of channel OTHER until a draft says otherwise.
pub(super) fn new_visit(hospital: i64) -> visit::Model {
    visit::Model {
        hospital_id: hospital,
        id: 0,
        visit_no: None,
        patient_id: 0,
        date: chrono::NaiveDate::default(),
        scheduled_at: None,
        status: VisitStatus::Booked.as_str().to_owned(),
        department_id: None,
        doctor_id: None,
        channel: VisitChannel::Other.as_str().to_owned(),
        version: 1,
        duration_minutes: None,
        checked_in_at: None,
        started_at: None,
        completed_at: None,
        expires_at: None,
        note: None,
    }
}

impl Store {
    /// The row with what the draft says. A phone number and a memo that stay the same keep their encrypted form. The indexed name is
    /// left to what writes the row.
    pub(super) fn patient_with(&self, row: &patient::Model, draft: &PatientDraft) -> Result<patient::Model> {
        let (secrets, hospital) = (&self.secrets, row.hospital_id);
        let mut wanted = row.clone();
        if let Some(chart_no) = &draft.chart_no {
            wanted.chart_no = Some(chart_no.clone());
        }
        draft.name.apply(&mut wanted.name);
        draft.registered_on.apply(&mut wanted.registered_on);
        if let Some(sex) = draft.sex {
            sex.as_str().clone_into(&mut wanted.sex);
        }
        match draft.phone.given() {
            Some(Some(phone)) => {
                let indexes = secrets.phone_indexes(hospital, phone)?;
                if !row.phone_index.as_ref().is_some_and(|index| indexes.contains(index)) {
                    wanted.phone = Some(secrets.seal(hospital, "phone", phone)?);
                    self.hash_phone(&mut wanted, phone)?;
                }
            }
            Some(None) => {
                (wanted.phone, wanted.phone_index) = (None, None);
                (wanted.phone_last_four, wanted.phone_endings) = (None, None);
            }
            None => {}
        }
        wanted.memo = self.sealed_with(hospital, "memo", row.memo.as_ref(), &draft.memo)?;
        if let Some(value) = draft.do_not_contact {
            wanted.do_not_contact = value;
        }
        draft.birth_date.apply(&mut wanted.birth_date);
        draft.birth_year.apply(&mut wanted.birth_year);
        if let Some(date) = wanted.birth_date {
            wanted.birth_year = Some(date.year());
        }
        Ok(wanted)
    }

    /// Sets what the phone is found by.
    pub(super) fn hash_phone(&self, row: &mut patient::Model, phone: &str) -> Result<()> {
        row.phone_index = Some(self.secrets.phone_index(row.hospital_id, phone)?);
        let (last_four, endings) = self.secrets.phone_endings(row.hospital_id, phone)?;
        row.phone_last_four = Some(last_four);
        row.phone_endings = Some(endings);
        Ok(())
    }
}

impl Store {
    /// The row with what the draft says. A note that stays the same keeps its encrypted form.
    pub(super) fn visit_with(&self, row: &visit::Model, draft: &VisitDraft<i64>) -> Result<visit::Model> {
        let mut wanted = row.clone();
        draft.visit_no.apply(&mut wanted.visit_no);
        wanted.patient_id = draft.patient.unwrap_or(row.patient_id);
        wanted.date = draft.date.unwrap_or(row.date);
        if let Some(at) = draft.scheduled_at.given() {
            wanted.scheduled_at = at.copied().map(ScheduledAt);
        }
        if let Some(status) = draft.status {
            status.as_str().clone_into(&mut wanted.status);
        }
        draft.department.apply(&mut wanted.department_id);
        draft.doctor.apply(&mut wanted.doctor_id);
        if let Some(channel) = draft.channel {
            channel.as_str().clone_into(&mut wanted.channel);
        }
        draft.duration_minutes.apply(&mut wanted.duration_minutes);
        wanted.note = self.sealed_with(row.hospital_id, "note", row.note.as_ref(), &draft.note)?;
        Ok(wanted)
    }

    /// An encrypted text with what a draft says of it. One that stays the same keeps its encrypted form.
    fn sealed_with(
        &self,
        hospital: i64,
        purpose: &'static str,
        sealed: Option<&Vec<u8>>,
        wanted: &Patch<String>,
    ) -> Result<Option<Vec<u8>>> {
        let Some(text) = wanted.given() else {
            return Ok(sealed.cloned());
        };
        let before = sealed.map(|sealed| self.secrets.open_sealed(hospital, purpose, sealed));
        if before.transpose()?.as_ref() == text {
            return Ok(sealed.cloned());
        }
        text.map(|text| self.secrets.seal(hospital, purpose, text)).transpose()
    }
}
