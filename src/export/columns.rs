//! The columns of each kind of file, in their order. Headers of what a snapshot counted begin with `counted_`, those of what is recorded
//! now with `current_`; ids are those of the API.

use chrono::{DateTime, NaiveDate, SecondsFormat, Utc};
use chrono_tz::Tz;

use super::Cell;
use crate::error::Result;
use crate::graphql::{patient_id, recall_entry_id, visit_id};
use crate::mask::Visibility;
use crate::statistics::{Bucket, CohortKind, CountedPatient, CountedVisit, Day, Period};
use crate::store::{Patient, RecallContact, RecallEntry, RecordState, VisitDetails};

/// How values are shown.
#[derive(Clone, Copy)]
pub(super) struct Shown<'a> {
    pub(super) visibility: Visibility<'a>,
    pub(super) time_zone: Tz,
}

impl Shown<'_> {
    /// An instant in the hospital's time zone.
    fn instant(self, at: Option<DateTime<Utc>>) -> Cell {
        let local = at.map(|at| at.with_timezone(&self.time_zone));
        text(local.map(|local| local.to_rfc3339_opts(SecondsFormat::AutoSi, false)))
    }
}

/// A column of rows of a type.
pub(super) struct Column<R> {
    header: &'static str,
    cell: fn(&R, Shown<'_>) -> Result<Cell>,
}

pub(super) fn headers<R>(columns: &[Column<R>]) -> Vec<&'static str> {
    columns.iter().map(|column| column.header).collect()
}

pub(super) fn cells<R>(columns: &[Column<R>], row: &R, shown: Shown<'_>) -> Result<Vec<Cell>> {
    columns.iter().map(|column| (column.cell)(row, shown)).collect()
}

const fn column<R>(header: &'static str, cell: fn(&R, Shown<'_>) -> Result<Cell>) -> Column<R> {
    Column { header, cell }
}

fn text(text: Option<impl Into<String>>) -> Cell {
    match text.map(Into::into) {
        Some(text) if !text.is_empty() => Cell::Text(text),
        _ => Cell::Empty,
    }
}

fn word(word: &'static str) -> Cell {
    Cell::Text(word.to_owned())
}

fn number(number: Option<impl Into<i64>>) -> Cell {
    number.map_or(Cell::Empty, |number| Cell::Number(number.into()))
}

fn count(number: usize) -> Cell {
    Cell::Number(i64::try_from(number).unwrap_or(i64::MAX))
}

fn date(date: Option<NaiveDate>) -> Cell {
    date.map_or(Cell::Empty, Cell::Date)
}

fn day(day: Option<Day>) -> Cell {
    date(day.map(Day::date))
}

/// A row that shows a patient as recorded.
trait OfPatient {
    fn patient(&self) -> &Patient;
}

fn state(row: &impl OfPatient, _: Shown<'_>) -> Result<Cell> {
    Ok(word(row.patient().state.as_str()))
}

fn chart_no(row: &impl OfPatient, _: Shown<'_>) -> Result<Cell> {
    Ok(text(row.patient().chart_no.as_deref()))
}

fn name(row: &impl OfPatient, shown: Shown<'_>) -> Result<Cell> {
    Ok(text(Some(shown.visibility.name(row.patient()))))
}

fn phone(row: &impl OfPatient, shown: Shown<'_>) -> Result<Cell> {
    shown.visibility.phone(row.patient()).map(text)
}

fn birth_date(row: &impl OfPatient, shown: Shown<'_>) -> Result<Cell> {
    Ok(date(shown.visibility.birth_date(row.patient())))
}

fn birth_year(row: &impl OfPatient, _: Shown<'_>) -> Result<Cell> {
    Ok(number(row.patient().birth_year))
}

fn sex(row: &impl OfPatient, _: Shown<'_>) -> Result<Cell> {
    Ok(word(row.patient().sex.as_str()))
}

fn do_not_contact(row: &impl OfPatient, _: Shown<'_>) -> Result<Cell> {
    Ok(Cell::Flag(row.patient().do_not_contact))
}

pub(super) struct PatientRow {
    pub(super) counted: CountedPatient,
    pub(super) patient: Patient,
}

impl OfPatient for PatientRow {
    fn patient(&self) -> &Patient {
        &self.patient
    }
}

pub(super) const PATIENTS: &[Column<PatientRow>] = &[
    column("patient_id", |row, _| Ok(text(Some(patient_id(row.counted.id))))),
    column("counted_first_visit", |row, _| Ok(day(row.counted.first_visit))),
    column("counted_last_visit", |row, _| Ok(day(row.counted.last_visit))),
    column("counted_visits", |row, _| Ok(number(Some(row.counted.visits)))),
    column("current_state", state),
    column("current_merged_into", |row, _| {
        let merged = row.patient.state == RecordState::Merged;
        Ok(text(row.patient.merged_into.filter(|_| merged).map(patient_id)))
    }),
    column("current_chart_no", chart_no),
    column("current_name", name),
    column("current_phone", phone),
    column("current_birth_date", birth_date),
    column("current_birth_year", birth_year),
    column("current_sex", sex),
    column("current_registered_on", |row, _| Ok(date(row.patient.registered_on))),
    column("current_do_not_contact", do_not_contact),
];

pub(super) struct VisitRow {
    pub(super) counted: CountedVisit,
    pub(super) details: VisitDetails,
    /// Whose visit it is now.
    pub(super) patient: Patient,
}

impl OfPatient for VisitRow {
    fn patient(&self) -> &Patient {
        &self.patient
    }
}

pub(super) const VISITS: &[Column<VisitRow>] = &[
    column("visit_id", |row, _| Ok(text(Some(visit_id(row.counted.id))))),
    column("counted_patient_id", |row, _| {
        Ok(text(Some(patient_id(row.counted.patient))))
    }),
    column("counted_date", |row, _| Ok(day(Some(row.counted.date)))),
    column("counted_status", |row, _| Ok(word(row.counted.status.as_str()))),
    column("current_deleted", |row, _| Ok(Cell::Flag(row.details.visit.deleted))),
    column("current_visit_no", |row, _| {
        Ok(text(row.details.visit.visit_no.as_deref()))
    }),
    column("current_date", |row, _| Ok(date(Some(row.details.visit.date)))),
    column("current_scheduled_at", |row, shown| {
        Ok(shown.instant(row.details.visit.scheduled_at))
    }),
    column("current_duration_minutes", |row, _| {
        Ok(number(row.details.visit.duration_minutes))
    }),
    column("current_status", |row, _| Ok(word(row.details.visit.status.as_str()))),
    column("current_department", |row, _| {
        Ok(text(row.details.department.as_ref().map(|found| found.name.as_str())))
    }),
    column("current_doctor", |row, _| {
        Ok(text(row.details.doctor.as_ref().map(|found| found.name.as_str())))
    }),
    column("current_channel", |row, _| Ok(word(row.details.visit.channel.as_str()))),
    column("current_patient_id", |row, _| {
        Ok(text(Some(patient_id(row.patient.id))))
    }),
    column("current_patient_state", state),
    column("current_chart_no", chart_no),
    column("current_name", name),
    column("current_phone", phone),
];

pub(super) struct RecallRow {
    pub(super) entry: RecallEntry,
    pub(super) patient: Patient,
    pub(super) assignee: Option<String>,
    pub(super) contacts: Vec<RecallContact>,
}

impl OfPatient for RecallRow {
    fn patient(&self) -> &Patient {
        &self.patient
    }
}

pub(super) const RECALL_ENTRIES: &[Column<RecallRow>] = &[
    column("entry_id", |row, _| Ok(text(Some(recall_entry_id(row.entry.id))))),
    column("patient_id", |row, _| Ok(text(Some(patient_id(row.patient.id))))),
    column("current_state", state),
    column("current_chart_no", chart_no),
    column("current_name", name),
    column("current_phone", phone),
    column("current_birth_date", birth_date),
    column("current_birth_year", birth_year),
    column("current_sex", sex),
    column("current_do_not_contact", do_not_contact),
    column("current_assignee", |row, _| Ok(text(row.assignee.as_deref()))),
    column("current_claimed_until", |row, shown| {
        Ok(shown.instant(row.entry.claimed_until))
    }),
    column("current_contacts", |row, _| Ok(count(row.contacts.len()))),
    column("current_last_contact_at", |row, shown| {
        Ok(shown.instant(row.contacts.last().map(|contact| contact.at)))
    }),
    column("current_outcome", |row, _| {
        Ok(row.entry.outcome.map_or(Cell::Empty, |outcome| word(outcome.as_str())))
    }),
    column("current_due_on", |row, _| Ok(date(row.entry.due_on))),
    column("current_returned_on", |row, _| Ok(date(row.entry.returned_on))),
];

pub(super) struct StatisticsRow {
    pub(super) period: Period,
    pub(super) as_of: Day,
    pub(super) bucket: Bucket,
    pub(super) kind: CohortKind,
    pub(super) patients: usize,
    pub(super) visits: usize,
    pub(super) cohort_id: String,
}

pub(super) const STATISTICS: &[Column<StatisticsRow>] = &[
    column("period", |row, _| Ok(word(row.period.as_str()))),
    column("start", |row, _| Ok(day(Some(row.bucket.bounds.from)))),
    column("end", |row, _| Ok(day(Some(row.bucket.bounds.to)))),
    column("covered_from", |row, _| {
        Ok(day(row.bucket.covered.map(|days| days.from)))
    }),
    column("covered_to", |row, _| Ok(day(row.bucket.covered.map(|days| days.to)))),
    column("complete", |row, _| Ok(Cell::Flag(row.bucket.complete()))),
    column("as_of", |row, _| Ok(day(Some(row.as_of)))),
    column("cohort", |row, _| Ok(word(row.kind.as_str()))),
    column("patients", |row, _| Ok(count(row.patients))),
    column("visits", |row, _| Ok(count(row.visits))),
    column("cohort_id", |row, _| Ok(text(Some(row.cohort_id.as_str())))),
];

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;
    use crate::permissions::Role;
    use crate::secrets::Secrets;
    use crate::store::SealedText;

    #[test]
    fn files_are_masked_as_pages_are() {
        let secrets = Secrets::from_base64(&STANDARD.encode([1; 32])).unwrap();
        let phone = secrets.seal(7, "phone", "+821012345678").unwrap();
        let row = PatientRow {
            counted: CountedPatient {
                id: 1,
                first_visit: None,
                last_visit: None,
                visits: 0,
            },
            patient: Patient {
                state: RecordState::Active,
                name: Some("김영수".to_owned()),
                phone: Some(SealedText::new(7, "phone", phone)),
                birth_date: "1970-02-02".parse().ok(),
                birth_year: Some(1970),
                ..Patient::erased(1)
            },
        };
        let shown = |role| {
            let shown = Shown {
                visibility: Visibility::of(role, &secrets),
                time_zone: chrono_tz::Asia::Seoul,
            };
            let cells = cells(PATIENTS, &row, shown).unwrap();
            let mut named = headers(PATIENTS).into_iter().zip(cells);
            ["name", "phone", "birth_date", "birth_year"].map(|column| {
                let found = named.find(|(header, _)| *header == format!("current_{column}"));
                found.unwrap().1
            })
        };
        let text = |text: &str| Cell::Text(text.to_owned());
        let in_full = [
            text("김영수"),
            text("+821012345678"),
            Cell::Date("1970-02-02".parse().unwrap()),
            Cell::Number(1970),
        ];
        for role in [None, Some(Role::Admin), Some(Role::Clinician)] {
            assert_eq!(shown(role), in_full);
        }
        let masked = [text("김*수"), text("010-****-**78"), Cell::Empty, Cell::Number(1970)];
        assert_eq!(shown(Some(Role::Support)), masked);
    }
}
