//! The values of a file's row and of what is there, field by field.

use std::hash::Hasher as _;

use chrono::SecondsFormat;
use entity::{patient, visit};
use siphasher::sip::SipHasher24;

use super::three_way::ValueHash;
use crate::error::Result;
use crate::records::{Patch, PatientDraft, Sex, VisitDraft};
use crate::secrets::Secrets;
use crate::store::history::FieldValue;

/// A field that imports compare: its name in files, and in the API.
pub(super) struct Field {
    pub(super) column: &'static str,
    pub(super) api: &'static str,
}

const fn field(column: &'static str, api: &'static str) -> Field {
    Field { column, api }
}

/// Of patients. The hashes of a base are in this order: fields may only be added, at the end.
pub(super) const PATIENT_FIELDS: &[Field] = &[
    field("name", "name"),
    field("phone", "phone"),
    field("birth_date", "birthDate"),
    field("birth_year", "birthYear"),
    field("sex", "sex"),
    field("registered_on", "registeredOn"),
];

/// Of visits. The hashes of a base are in this order: fields may only be added, at the end.
pub(super) const VISIT_FIELDS: &[Field] = &[
    field("chart_no", "patient"),
    field("date", "date"),
    field("scheduled_at", "scheduledAt"),
    field("status", "status"),
    field("department", "department"),
    field("doctor", "doctor"),
    field("channel", "channel"),
];

/// A value for each field; none where a file says nothing, or nothing is there.
pub(super) type Values = Vec<Option<FieldValue>>;

pub(super) fn said_of_patient(draft: &PatientDraft) -> Values {
    vec![
        put(&draft.name).map(FieldValue::Name),
        put(&draft.phone).map(FieldValue::Phone),
        put(&draft.birth_date).map(FieldValue::BirthDate),
        put(&draft.birth_year).map(FieldValue::Number),
        draft.sex.map(|sex| FieldValue::Text(sex.as_str().to_owned())),
        put(&draft.registered_on).map(FieldValue::Date),
    ]
}

/// What is there of a patient. The sex UNKNOWN is no value, as in files.
pub(super) fn current_of_patient(row: &patient::Model, secrets: &Secrets) -> Result<Values> {
    let phone = row
        .phone
        .as_ref()
        .map(|sealed| secrets.open_sealed(row.hospital_id, "phone", sealed));
    let sex = Some(&row.sex).filter(|sex| *sex != Sex::Unknown.as_str());
    Ok(vec![
        row.name.clone().map(FieldValue::Name),
        phone.transpose()?.map(FieldValue::Phone),
        row.birth_date.map(FieldValue::BirthDate),
        row.birth_year.map(FieldValue::Number),
        sex.cloned().map(FieldValue::Text),
        row.registered_on.map(FieldValue::Date),
    ])
}

/// The draft with only those fields that are to be written.
pub(super) fn only_of_patient(draft: &PatientDraft, write: &[bool]) -> PatientDraft {
    let mut draft = draft.clone();
    keep_unless(write, 0, &mut draft.name);
    keep_unless(write, 1, &mut draft.phone);
    keep_unless(write, 2, &mut draft.birth_date);
    keep_unless(write, 3, &mut draft.birth_year);
    draft.sex = draft.sex.filter(|_| written(write, 4));
    keep_unless(write, 5, &mut draft.registered_on);
    draft
}

pub(super) fn said_of_visit(draft: &VisitDraft<String>) -> Values {
    vec![
        draft.patient.clone().map(FieldValue::Text),
        draft.date.map(FieldValue::Date),
        put(&draft.scheduled_at).map(FieldValue::Instant),
        draft.status.map(|status| FieldValue::Text(status.as_str().to_owned())),
        put(&draft.department).map(FieldValue::Text),
        put(&draft.doctor).map(FieldValue::Text),
        draft
            .channel
            .map(|channel| FieldValue::Text(channel.as_str().to_owned())),
    ]
}

/// What is there of a visit, with the chart number of its patient and the names of its department and doctor.
pub(super) fn current_of_visit(
    row: &visit::Model,
    chart_no: Option<&str>,
    department: Option<&str>,
    doctor: Option<&str>,
) -> Values {
    let text = |text: &str| FieldValue::Text(text.to_owned());
    vec![
        chart_no.map(text),
        Some(FieldValue::Date(row.date)),
        row.scheduled_at.map(|at| FieldValue::Instant(at.0)),
        Some(text(&row.status)),
        department.map(text),
        doctor.map(text),
        Some(text(&row.channel)),
    ]
}

/// The draft with only those fields that are to be written.
pub(super) fn only_of_visit(draft: &VisitDraft<String>, write: &[bool]) -> VisitDraft<String> {
    let mut draft = draft.clone();
    draft.patient = draft.patient.filter(|_| written(write, 0));
    draft.date = draft.date.filter(|_| written(write, 1));
    keep_unless(write, 2, &mut draft.scheduled_at);
    draft.status = draft.status.filter(|_| written(write, 3));
    keep_unless(write, 4, &mut draft.department);
    keep_unless(write, 5, &mut draft.doctor);
    draft.channel = draft.channel.filter(|_| written(write, 6));
    draft
}

fn written(write: &[bool], place: usize) -> bool {
    write.get(place).copied().unwrap_or(false)
}

fn keep_unless<T>(write: &[bool], place: usize, value: &mut Patch<T>) {
    if !written(write, place) {
        *value = Patch::Keep;
    }
}

/// An empty cell says nothing: files never clear a value.
fn put<T: Clone>(value: &Patch<T>) -> Option<T> {
    value.given().flatten().cloned()
}

/// Hashes of the values of one number, keyed so that equal values of different numbers or fields have different ones.
pub(super) struct NumberHasher(SipHasher24);

impl NumberHasher {
    pub(super) fn new(key: &[u8; 16], number: &str) -> Self {
        let mut hasher = SipHasher24::new_with_key(key);
        hasher.write(number.as_bytes());
        hasher.write_u8(0);
        Self(hasher)
    }

    /// The hash of the field's value, never 0.
    pub(super) fn hash(&self, field: usize, value: &FieldValue) -> ValueHash {
        let mut hasher = self.0;
        hasher.write(&(field as u64).to_le_bytes());
        hasher.write(canonical(value).as_bytes());
        hasher.finish().max(1)
    }
}

/// The value as text. Hashes of it are stored, so this form never changes.
fn canonical(value: &FieldValue) -> String {
    match value {
        FieldValue::Text(text) | FieldValue::Name(text) | FieldValue::Phone(text) | FieldValue::Remark(text) => {
            text.clone()
        }
        FieldValue::Date(date) | FieldValue::BirthDate(date) => date.to_string(),
        FieldValue::Instant(at) => at.to_rfc3339_opts(SecondsFormat::Micros, true),
        FieldValue::Number(number) => number.to_string(),
        FieldValue::Flag(flag) => flag.to_string(),
        FieldValue::Department(id) | FieldValue::Doctor(id) | FieldValue::Patient(id) => id.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_that_are_stored() {
        let hash = |number: &str, field, text: &str| {
            NumberHasher::new(&[7; 16], number).hash(field, &FieldValue::Text(text.to_owned()))
        };
        assert_eq!(hash("V1", 3, "BOOKED"), 5_817_845_619_659_228_617);
        assert_ne!(hash("V1", 3, "BOOKED"), hash("V2", 3, "BOOKED"));
        assert_ne!(hash("V1", 3, "BOOKED"), hash("V1", 4, "BOOKED"));
        assert_ne!(hash("V1", 3, "BOOKED"), hash("V1", 3, "ENDED"));
        let at = FieldValue::Instant("2025-05-11T00:30:00Z".parse().unwrap());
        assert_eq!(canonical(&at), "2025-05-11T00:30:00.000000Z");
    }

    #[test]
    fn what_is_not_written_stays() {
        let draft = PatientDraft {
            chart_no: Some("1".to_owned()),
            name: Patch::Put("Kim".to_owned()),
            sex: Some(Sex::Female),
            birth_year: Patch::Put(1980),
            ..PatientDraft::default()
        };
        assert_eq!(only_of_patient(&draft, &[true; 6]), draft);
        let none = only_of_patient(&draft, &[false; 6]);
        assert!(said_of_patient(&none).iter().all(Option::is_none));
        let visit = VisitDraft {
            visit_no: Patch::Put("V1".to_owned()),
            patient: Some("1".to_owned()),
            date: Some("2025-05-11".parse().unwrap()),
            doctor: Patch::Put("Lee".to_owned()),
            ..VisitDraft::default()
        };
        assert_eq!(only_of_visit(&visit, &[true; 7]), visit);
        assert!(
            said_of_visit(&only_of_visit(&visit, &[false; 7]))
                .iter()
                .all(Option::is_none)
        );
        for place in 0..VISIT_FIELDS.len() {
            let mut write = [false; 7];
            write[place] = true;
            let said = said_of_visit(&only_of_visit(&visit, &write));
            assert!(
                said.iter()
                    .enumerate()
                    .all(|(at, value)| at == place || value.is_none())
            );
        }
    }
}
