//! Patients: registered, changed, erased, merged.

use async_graphql::{ComplexObject, Context, ID, InputObject, MaybeUndefined, Object, SimpleObject};

use super::{BadFields, execute, lines, never_null, patch};
use crate::error::Result;
use crate::graphql::duplicates::{self, PatientMatch};
use crate::graphql::enums::Sex;
use crate::graphql::patient::{Patient, hospital_country};
use crate::graphql::scalars::Date;
use crate::graphql::{access, context, id};
use crate::records::PatientDraft;
use crate::store::{ChangePatient, ErasePatient, MergePatients, RegisterPatient, UndoMerge};

#[derive(Default)]
pub struct PatientMutation;

/// A new patient.
#[derive(InputObject)]
struct RegisterPatientInput {
    /// The hospital's own number for the patient, unique in the hospital; 1–255 characters. If absent, the hospital's next number,
    /// which no patient has or had.
    chart_no: Option<String>,
    /// 1–255 characters.
    name: MaybeUndefined<String>,
    /// A complete phone number, with a country code or of the hospital's country.
    #[graphql(secret)]
    phone: MaybeUndefined<String>,
    /// Not after today.
    birth_date: MaybeUndefined<Date>,
    /// For when the date is unknown; 1900 to the current year.
    birth_year: MaybeUndefined<i32>,
    /// As recorded.
    #[graphql(default_with = "Sex::Unknown")]
    sex: Sex,
    /// Today if absent.
    registered_on: MaybeUndefined<Date>,
    /// A note of 1–2,000 characters; stored encrypted.
    #[graphql(secret)]
    memo: MaybeUndefined<String>,
    /// Whether the patient does not want to be called or written to; false if absent.
    do_not_contact: Option<bool>,
    /// A key of 1–255 characters that the client chooses: a mutation repeated with the same key is executed once. Remembered for 7 days.
    idempotency_key: Option<String>,
}

/// The patient that was registered.
#[derive(SimpleObject)]
#[graphql(complex)]
struct RegisterPatientPayload {
    /// Its current state.
    patient: Patient,
}

#[ComplexObject]
impl RegisterPatientPayload {
    /// Other ACTIVE patients who may be the same person, as Query.possibleDuplicates finds them.
    async fn possible_duplicates(&self, ctx: &Context<'_>) -> Result<Vec<PatientMatch>> {
        let person = self.patient.person(ctx)?;
        duplicates::possible_duplicates(ctx, &person, Some(self.patient.row_id())).await
    }
}

/// Changes to a patient. Absent fields stay unchanged; null clears a field.
#[derive(InputObject)]
struct ChangePatientInput {
    /// The patient; must be ACTIVE.
    id: ID,
    /// The Patient.version that the change is based on; if it is no longer current, nothing changes and the error is CONFLICT.
    version: i32,
    /// The hospital's own number for the patient, unique in the hospital; 1–255 characters, not null.
    chart_no: MaybeUndefined<String>,
    /// 1–255 characters.
    name: MaybeUndefined<String>,
    /// A complete phone number, with a country code or of the hospital's country.
    #[graphql(secret)]
    phone: MaybeUndefined<String>,
    /// Not after today. The birth year follows it.
    birth_date: MaybeUndefined<Date>,
    /// For when the date is unknown; 1900 to the current year.
    birth_year: MaybeUndefined<i32>,
    /// As recorded; not null.
    sex: MaybeUndefined<Sex>,
    /// Statistics do not use it.
    registered_on: MaybeUndefined<Date>,
    /// A note of 1–2,000 characters; stored encrypted.
    #[graphql(secret)]
    memo: MaybeUndefined<String>,
    /// Whether the patient does not want to be called or written to; not null.
    do_not_contact: MaybeUndefined<bool>,
    /// A key of 1–255 characters that the client chooses: a mutation repeated with the same key is executed once. Remembered for 7 days.
    idempotency_key: Option<String>,
}

/// The patient that was changed.
#[derive(SimpleObject)]
struct ChangePatientPayload {
    /// Its current state.
    patient: Patient,
}

/// The patient to erase.
#[derive(InputObject)]
struct ErasePatientInput {
    /// The patient; must be ACTIVE. Patients merged into it are erased with it.
    id: ID,
    /// The Patient.version that the change is based on; if it is no longer current, nothing changes and the error is CONFLICT.
    version: i32,
    /// The reason, 1–2,000 characters. It is not stored.
    reason: String,
    /// A key of 1–255 characters that the client chooses: a mutation repeated with the same key is executed once. Remembered for 7 days.
    idempotency_key: Option<String>,
}

/// The patient that was erased.
#[derive(SimpleObject)]
struct ErasePatientPayload {
    /// What is left of the record.
    patient: Patient,
}

/// Two patient records of one person.
#[derive(InputObject)]
struct MergePatientsInput {
    /// The patient whose visits move and whose record becomes MERGED.
    id: ID,
    /// The Patient.version that the merge is based on; if it is no longer current, nothing changes and the error is CONFLICT.
    version: i32,
    /// The patient whose record stays ACTIVE and receives the visits.
    into_id: ID,
    /// The reason, 1–2,000 characters.
    reason: String,
    /// A key of 1–255 characters that the client chooses: a mutation repeated with the same key is executed once. Remembered for 7 days.
    idempotency_key: Option<String>,
}

/// Two merged patient records.
#[derive(SimpleObject)]
struct MergePatientsPayload {
    /// The patient who is now MERGED.
    patient: Patient,
    /// The patient who has the visits of both.
    into: Patient,
}

/// The merge to undo.
#[derive(InputObject)]
struct UndoMergeInput {
    /// The patient who is MERGED.
    id: ID,
    /// The reason, 1–2,000 characters.
    reason: String,
    /// A key of 1–255 characters that the client chooses: a mutation repeated with the same key is executed once. Remembered for 7 days.
    idempotency_key: Option<String>,
}

/// A patient whose merge was undone.
#[derive(SimpleObject)]
struct UndoMergePayload {
    /// The patient, ACTIVE again, with the visits that the merge moved and that were not moved again since.
    patient: Patient,
}

#[Object(guard = "access::console")]
impl PatientMutation {
    /// Registers a patient. Ask possibleDuplicates first. For ADMIN and DESK.
    async fn register_patient(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The new patient.")] input: RegisterPatientInput,
    ) -> Result<RegisterPatientPayload> {
        let key = input.idempotency_key.clone();
        let mut bad = BadFields::default();
        let draft = patient_draft(
            ctx,
            &mut bad,
            Fields {
                chart_no: input.chart_no,
                name: input.name,
                phone: input.phone,
                birth_date: input.birth_date,
                birth_year: input.birth_year,
                sex: Some(input.sex),
                registered_on: input.registered_on,
                memo: input.memo,
                do_not_contact: input.do_not_contact,
            },
        )
        .await?;
        let id = execute(ctx, bad, &RegisterPatient(draft), key).await?;
        let patient = Patient::load(ctx, id).await?;
        Ok(RegisterPatientPayload { patient })
    }

    /// Changes a patient's data. For ADMIN and DESK.
    async fn change_patient(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The patient and the changes.")] input: ChangePatientInput,
    ) -> Result<ChangePatientPayload> {
        let mut bad = BadFields::default();
        let id = bad.check(id::patient("input.id", &input.id))?;
        let (version, key) = (input.version, input.idempotency_key.clone());
        let chart_no = bad.check(never_null("input.chartNo", input.chart_no))?;
        let sex = bad.check(never_null("input.sex", input.sex))?;
        let do_not_contact = bad.check(never_null("input.doNotContact", input.do_not_contact))?;
        let draft = patient_draft(
            ctx,
            &mut bad,
            Fields {
                chart_no,
                name: input.name,
                phone: input.phone,
                birth_date: input.birth_date,
                birth_year: input.birth_year,
                sex,
                registered_on: input.registered_on,
                memo: input.memo,
                do_not_contact,
            },
        )
        .await?;
        let id = execute(ctx, bad, &ChangePatient { id, version, draft }, key).await?;
        let patient = Patient::load(ctx, id).await?;
        Ok(ChangePatientPayload { patient })
    }

    /// Permanently erases all personal data of a patient and of those merged into it. Visits and counts stay;
    /// lists show the record as ERASED. For ADMIN and DESK.
    async fn erase_patient(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The patient to erase.")] input: ErasePatientInput,
    ) -> Result<ErasePatientPayload> {
        let mut bad = BadFields::default();
        let command = ErasePatient {
            id: bad.check(id::patient("input.id", &input.id))?,
            version: input.version,
            reason: bad.check(lines("input.reason", &input.reason))?,
        };
        let id = execute(ctx, bad, &command, input.idempotency_key).await?;
        let patient = Patient::load(ctx, id).await?;
        Ok(ErasePatientPayload { patient })
    }

    /// Moves the visits of a patient to another who is the same person; the first record becomes MERGED. Existing
    /// snapshots keep listing it. If either has doNotContact, the one who stays has it. For ADMIN and DESK.
    async fn merge_patients(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The two patients.")] input: MergePatientsInput,
    ) -> Result<MergePatientsPayload> {
        let mut bad = BadFields::default();
        let into = bad.check(id::patient("input.intoId", &input.into_id))?;
        let command = MergePatients {
            id: bad.check(id::patient("input.id", &input.id))?,
            version: input.version,
            into,
            reason: bad.check(lines("input.reason", &input.reason))?,
        };
        let id = execute(ctx, bad, &command, input.idempotency_key).await?;
        Ok(MergePatientsPayload {
            patient: Patient::load(ctx, id).await?,
            into: Patient::load(ctx, into).await?,
        })
    }

    /// Undoes a merge: the patient becomes ACTIVE again and gets the visits back that the merge moved. For ADMIN and DESK.
    async fn undo_merge(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The merge to undo.")] input: UndoMergeInput,
    ) -> Result<UndoMergePayload> {
        let mut bad = BadFields::default();
        let command = UndoMerge {
            id: bad.check(id::patient("input.id", &input.id))?,
            reason: bad.check(lines("input.reason", &input.reason))?,
        };
        let id = execute(ctx, bad, &command, input.idempotency_key).await?;
        let patient = Patient::load(ctx, id).await?;
        Ok(UndoMergePayload { patient })
    }
}

/// The fields of a patient's draft, in the order in which errors name them.
const FIELDS: [&str; 9] = [
    "chartNo",
    "name",
    "phone",
    "birthDate",
    "birthYear",
    "sex",
    "registeredOn",
    "memo",
    "doNotContact",
];

/// The values that were sent, not validated yet.
struct Fields {
    chart_no: Option<String>,
    name: MaybeUndefined<String>,
    phone: MaybeUndefined<String>,
    birth_date: MaybeUndefined<Date>,
    birth_year: MaybeUndefined<i32>,
    sex: Option<Sex>,
    registered_on: MaybeUndefined<Date>,
    memo: MaybeUndefined<String>,
    do_not_contact: Option<bool>,
}

async fn patient_draft(ctx: &Context<'_>, bad: &mut BadFields, fields: Fields) -> Result<PatientDraft> {
    let country = match fields.phone {
        MaybeUndefined::Value(_) => hospital_country(ctx).await?,
        _ => None,
    };
    let mut draft = PatientDraft {
        chart_no: fields.chart_no,
        name: patch(fields.name, Ok)?,
        phone: patch(fields.phone, Ok)?,
        birth_date: bad.check(patch(fields.birth_date, |date| date.date("input.birthDate")))?,
        birth_year: patch(fields.birth_year, Ok)?,
        sex: fields.sex.map(Into::into),
        registered_on: bad.check(patch(fields.registered_on, |date| date.date("input.registeredOn")))?,
        memo: patch(fields.memo, Ok)?,
        do_not_contact: fields.do_not_contact,
    };
    bad.extend(draft.validate(context::today(ctx).await?, country.as_deref()), &FIELDS);
    Ok(draft)
}
