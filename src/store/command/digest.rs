//! The digest that tells a command that is sent again from another one under the same idempotency key.
//!
//! A digest is of what was sent. Each command encodes its fields one by one, since stored digests outlive the names of this
//! program: neither values nor names of fields may change within a version. A new field must not change the digests of commands
//! that leave it out.

use chrono::{DateTime, NaiveDate, Utc};
use serde_json::{Value, json};

use super::{Command, Override};
use crate::error::Result;
use crate::records::{Patch, PatientDraft, VisitDraft};
use crate::secrets::Secrets;
use crate::store::RecallEntryQuery;

/// Stands before a digest.
const VERSION: u8 = 1;
const PURPOSE: &str = "change";

/// The digest to store with a command.
pub(super) fn digest(secrets: &Secrets, hospital: i64, command: &dyn Command) -> Result<Vec<u8>> {
    Ok(versioned(secrets.digest(hospital, PURPOSE, &encoded(command))?))
}

/// The digests with which the command may have been stored: one by each key.
pub(super) fn digests(secrets: &Secrets, hospital: i64, command: &dyn Command) -> Result<Vec<Vec<u8>>> {
    let digests = secrets.digests(hospital, PURPOSE, &encoded(command))?;
    Ok(digests.into_iter().map(versioned).collect())
}

fn versioned(digest: Vec<u8>) -> Vec<u8> {
    [vec![VERSION], digest].concat()
}

/// The version, the command's name, and its fields in a fixed order, as JSON.
fn encoded(command: &dyn Command) -> String {
    let mut fields = DigestFields::default();
    command.digest(&mut fields);
    json!([VERSION, command.info().name, fields.0]).to_string()
}

/// Pairs of a name and a value; what was left out is not among them.
#[derive(Default)]
pub struct DigestFields(Vec<(&'static str, Value)>);

impl DigestFields {
    pub(super) fn put(&mut self, name: &'static str, value: impl serde::Serialize) -> &mut Self {
        self.0.push((name, json!(value)));
        self
    }

    pub(super) fn put_some(&mut self, name: &'static str, value: &Option<impl serde::Serialize>) -> &mut Self {
        match value {
            Some(value) => self.put(name, value),
            None => self,
        }
    }

    pub(super) fn patch<T: Clone>(
        &mut self,
        name: &'static str,
        value: &Patch<T>,
        encode: impl Fn(&T) -> Value,
    ) -> &mut Self {
        match value.given() {
            Some(value) => self.put(name, value.map(encode)),
            None => self,
        }
    }

    pub(super) fn patient(&mut self, draft: &PatientDraft) -> &mut Self {
        let PatientDraft {
            chart_no,
            name,
            phone,
            birth_date,
            birth_year,
            sex,
            registered_on,
            memo,
            do_not_contact,
        } = draft;
        self.put_some("chartNo", chart_no)
            .patch("name", name, |text| json!(text))
            .patch("phone", phone, |text| json!(text))
            .patch("birthDate", birth_date, day)
            .patch("birthYear", birth_year, |year| json!(year))
            .put_some("sex", &sex.map(|sex| sex.as_str()))
            .patch("registeredOn", registered_on, day)
            .patch("memo", memo, |text| json!(text))
            .put_some("doNotContact", do_not_contact)
    }

    pub(super) fn visit(&mut self, draft: &VisitDraft<i64>) -> &mut Self {
        let VisitDraft {
            visit_no,
            patient,
            date,
            scheduled_at,
            status,
            department,
            doctor,
            channel,
            duration_minutes,
            note,
        } = draft;
        self.patch("visitNo", visit_no, |text| json!(text))
            .put_some("patientId", patient)
            .put_some("date", &date.as_ref().map(day))
            .patch("scheduledAt", scheduled_at, instant)
            .put_some("status", &status.map(|status| status.as_str()))
            .patch("departmentId", department, |id| json!(id))
            .patch("doctorId", doctor, |id| json!(id))
            .put_some("channel", &channel.map(|channel| channel.as_str()))
            .patch("durationMinutes", duration_minutes, |minutes| json!(minutes))
            .patch("note", note, |text| json!(text))
    }

    pub(super) fn recall_entries(&mut self, query: &RecallEntryQuery) -> &mut Self {
        let RecallEntryQuery {
            outcomes,
            untouched,
            returned,
            assignees,
            due_by,
        } = query;
        let outcomes = outcomes.as_ref();
        let outcomes = outcomes.map(|list| list.iter().map(|outcome| outcome.as_str()).collect::<Vec<_>>());
        self.put_some("outcomes", &outcomes)
            .put_some("untouched", untouched)
            .put_some("returned", returned)
            .put_some("assigneeIds", assignees)
            .put_some("dueBy", &due_by.as_ref().map(day))
    }

    pub(super) fn overriding(&mut self, overriding: &Override) -> &mut Self {
        let Override { force, reason } = overriding;
        self.put_some("reason", reason)
            .put_some("force", &force.then_some(true))
    }
}

pub(super) fn day(day: &NaiveDate) -> Value {
    json!(day.format("%Y-%m-%d").to_string())
}

/// Seconds and nanoseconds.
pub(super) fn instant(instant: &DateTime<Utc>) -> Value {
    json!([instant.timestamp(), instant.timestamp_subsec_nanos()])
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use scheduling::{ContactOutcome, RecallOptions, Weekday, WorkingHours};

    use super::*;
    use crate::password::NewPassword;
    use crate::permissions::Role;
    use crate::records::Sex;
    use crate::scheduling::{VisitCode, VisitCodePurpose};
    use crate::statistics::{CohortKind, VisitChannel, VisitStatus};
    use crate::store::command::{
        AddAbsence, AddDepartment, AddDoctor, AddStaff, AssignRecallEntries, COMMANDS, ChangeDepartment, ChangeDoctor,
        ChangePatient, ChangeStaff, ChangeVisit, ClaimRecallEntries, CloseRecallList, CommitImport, CountedCohort,
        CreateRecallList, DeleteVisit, DiscardImport, ErasePatient, ExportCohort, ExportRecallList, IssueVisitCode,
        MergePatients, NewExport, PinSnapshot, PrepareImport, RecordContact, RecordVisit, RegisterPatient,
        RemoveAbsence, SealMonth, SetDoctorHours, SetPassword, UndoMerge, UnpinSnapshot, UpdateDefinition,
        UpdateHospital, UseVisitCode,
    };
    use crate::store::{ConflictPolicy, ExportFormat, ListKind, ListOrder, PatientKey};

    fn date(text: &str) -> NaiveDate {
        text.parse().unwrap()
    }

    fn patient() -> PatientDraft {
        PatientDraft {
            chart_no: Some("00042".to_owned()),
            name: Patch::Put("김 \"Zoë\"".to_owned()),
            phone: Patch::Clear,
            birth_date: Patch::Put(date("1999-12-31")),
            birth_year: Patch::Put(1999),
            sex: Some(Sex::Female),
            registered_on: Patch::Keep,
            memo: Patch::Put("two\nlines".to_owned()),
            do_not_contact: None,
        }
    }

    fn visit() -> VisitDraft<i64> {
        VisitDraft {
            visit_no: Patch::Put("7".to_owned()),
            patient: Some(3),
            date: Some(date("2025-05-11")),
            scheduled_at: Patch::Put("2025-05-11T09:30:00.25Z".parse().unwrap()),
            status: Some(VisitStatus::CheckedIn),
            department: Patch::Clear,
            doctor: Patch::Put(5),
            channel: Some(VisitChannel::WalkIn),
            ..VisitDraft::default()
        }
    }

    /// A command of each kind, and its encoding. None of these texts may change: digests of them are stored.
    fn golden() -> Vec<(Box<dyn Command>, &'static str)> {
        let reason = || "why".to_owned();
        let name = || "N".to_owned();
        let password = || NewPassword::of("password", "long enough".to_owned()).unwrap();
        vec![
            (
                Box::new(RegisterPatient(patient())),
                r#"[1,"registerPatient",[["chartNo","00042"],["name","김 \"Zoë\""],["phone",null],["birthDate","1999-12-31"],["birthYear",1999],["sex","FEMALE"],["memo","two\nlines"]]]"#,
            ),
            (
                Box::new(ChangePatient {
                    id: 1,
                    version: 2,
                    draft: PatientDraft {
                        phone: Patch::Put("+821012345678".to_owned()),
                        registered_on: Patch::Put(date("2025-05-01")),
                        do_not_contact: Some(true),
                        ..PatientDraft::default()
                    },
                }),
                r#"[1,"changePatient",[["id",1],["version",2],["phone","+821012345678"],["registeredOn","2025-05-01"],["doNotContact",true]]]"#,
            ),
            (
                Box::new(ErasePatient {
                    id: 1,
                    version: 2,
                    reason: reason(),
                }),
                r#"[1,"erasePatient",[["id",1],["version",2],["reason","why"]]]"#,
            ),
            (
                Box::new(MergePatients {
                    id: 1,
                    version: 2,
                    into: 3,
                    reason: reason(),
                }),
                r#"[1,"mergePatients",[["id",1],["version",2],["intoId",3],["reason","why"]]]"#,
            ),
            (
                Box::new(UndoMerge {
                    id: 1,
                    reason: reason(),
                }),
                r#"[1,"undoMerge",[["id",1],["reason","why"]]]"#,
            ),
            (
                Box::new(RecordVisit {
                    draft: visit(),
                    overriding: Override::default(),
                }),
                r#"[1,"recordVisit",[["visitNo","7"],["patientId",3],["date","2025-05-11"],["scheduledAt",[1746955800,250000000]],["status","CHECKED_IN"],["departmentId",null],["doctorId",5],["channel","WALK_IN"]]]"#,
            ),
            (
                Box::new(ChangeVisit {
                    id: 1,
                    version: 2,
                    draft: VisitDraft {
                        duration_minutes: Patch::Put(20),
                        note: Patch::Put("two\nlines".to_owned()),
                        ..VisitDraft::default()
                    },
                    overriding: Override {
                        force: true,
                        reason: Some(reason()),
                    },
                }),
                r#"[1,"changeVisit",[["id",1],["version",2],["durationMinutes",20],["note","two\nlines"],["reason","why"],["force",true]]]"#,
            ),
            (
                Box::new(DeleteVisit {
                    id: 1,
                    version: 2,
                    reason: reason(),
                }),
                r#"[1,"deleteVisit",[["id",1],["version",2],["reason","why"]]]"#,
            ),
            (
                Box::new(IssueVisitCode {
                    visit: 1,
                    purpose: VisitCodePurpose::CheckIn,
                }),
                r#"[1,"issueVisitCode",[["visitId",1],["purpose","CHECK_IN"]]]"#,
            ),
            (
                Box::new(UseVisitCode {
                    purpose: VisitCodePurpose::Confirm,
                    code: Some(VisitCode::from_bytes([0; 16])),
                }),
                r#"[1,"confirmVisit",[["code","00000-00000-00000-00000-00000-00"]]]"#,
            ),
            (
                Box::new(UseVisitCode {
                    purpose: VisitCodePurpose::CheckIn,
                    code: None,
                }),
                r#"[1,"checkInVisit",[["code",null]]]"#,
            ),
            (
                Box::new(UpdateDefinition {
                    version: 1,
                    churn_after_days: 90,
                    overdue_after_days: Some(7),
                }),
                r#"[1,"updateDefinition",[["version",1],["churnAfterDays",90],["overdueAfterDays",7]]]"#,
            ),
            (
                Box::new(PinSnapshot {
                    id: "ab".to_owned(),
                    label: Some("For the board".to_owned()),
                }),
                r#"[1,"pinSnapshot",[["id","ab"],["label","For the board"]]]"#,
            ),
            (
                Box::new(UnpinSnapshot { id: "ab".to_owned() }),
                r#"[1,"unpinSnapshot",[["id","ab"]]]"#,
            ),
            (
                Box::new(SealMonth {
                    month: "2025-05-01".parse().unwrap(),
                    snapshot: "ab".to_owned(),
                    digest: "cd".to_owned(),
                    previous: Some(7),
                }),
                r#"[1,"sealMonth",[["month","2025-05-01"]]]"#,
            ),
            (
                Box::new(CreateRecallList {
                    name: name(),
                    cohort: CountedCohort {
                        snapshot: "ab".to_owned(),
                        bucket: -1,
                        kind: ListKind::Cohort(CohortKind::ChurnSuspected),
                        as_of: date("2025-05-11"),
                        proposed: true,
                        revision: 3,
                        newest_visit: None,
                        patients: vec![1, 2],
                    },
                    options: RecallOptions {
                        without_next_visit: true,
                        with_phone: false,
                    },
                }),
                r#"[1,"createRecallList",[["name","N"],["cohortId",["ab",-1,"CHURN_SUSPECTED"]],["withoutNextVisit",true],["withPhone",false]]]"#,
            ),
            (
                Box::new(RecordContact {
                    entry: 1,
                    version: 2,
                    outcome: ContactOutcome::NoAnswer,
                    note: Some("line".to_owned()),
                    due_on: Some(date("2025-05-12")),
                }),
                r#"[1,"recordContact",[["entryId",1],["version",2],["outcome","NO_ANSWER"],["note","line"],["dueOn","2025-05-12"]]]"#,
            ),
            (
                Box::new(ClaimRecallEntries {
                    list: 1,
                    query: RecallEntryQuery {
                        outcomes: Some(vec![ContactOutcome::NoAnswer]),
                        assignees: Some(vec![2]),
                        due_by: Some(date("2025-05-12")),
                        ..RecallEntryQuery::default()
                    },
                    count: 5,
                }),
                r#"[1,"claimRecallEntries",[["listId",1],["outcomes",["NO_ANSWER"]],["assigneeIds",[2]],["dueBy","2025-05-12"],["count",5]]]"#,
            ),
            (
                Box::new(AssignRecallEntries {
                    entries: vec![1, 2],
                    staff: None,
                }),
                r#"[1,"assignRecallEntries",[["entryIds",[1,2]],["staffId",null]]]"#,
            ),
            (
                Box::new(CloseRecallList { id: 1, version: 2 }),
                r#"[1,"closeRecallList",[["id",1],["version",2]]]"#,
            ),
            (
                Box::new(ExportCohort {
                    snapshot: "ab".to_owned(),
                    bucket: -1,
                    kind: ListKind::Cohort(CohortKind::New),
                    order: ListOrder::Patients(PatientKey::Name, true),
                    rows: 2,
                    export: NewExport {
                        format: ExportFormat::Xlsx,
                        session: name(),
                        digest: name(),
                    },
                }),
                r#"[1,"exportCohort",[["cohortId",["ab",-1,"NEW"]],["list","patients Name desc"],["format","XLSX"]]]"#,
            ),
            (
                Box::new(ExportRecallList {
                    list: 1,
                    query: RecallEntryQuery {
                        untouched: Some(true),
                        ..RecallEntryQuery::default()
                    },
                    entries: vec![(2, 3)],
                    export: NewExport {
                        format: ExportFormat::Csv,
                        session: name(),
                        digest: name(),
                    },
                }),
                r#"[1,"exportRecallList",[["listId",1],["untouched",true],["format","CSV"]]]"#,
            ),
            (
                Box::new(PrepareImport {
                    upload: 1,
                    kind: "VISITS".to_owned(),
                    mapping: Some("M".to_owned()),
                    conflicts: ConflictPolicy::Keep,
                    source: name(),
                }),
                r#"[1,"prepareImport",[["fileId",1],["kind","VISITS"],["mapping","M"],["conflicts","KEEP"],["source","N"]]]"#,
            ),
            (Box::new(CommitImport { id: 1 }), r#"[1,"commitImport",[["id",1]]]"#),
            (Box::new(DiscardImport { id: 1 }), r#"[1,"discardImport",[["id",1]]]"#),
            (
                Box::new(AddDepartment { name: name() }),
                r#"[1,"addDepartment",[["name","N"]]]"#,
            ),
            (
                Box::new(ChangeDepartment {
                    id: 1,
                    name: Some(name()),
                    retired: Some(true),
                }),
                r#"[1,"changeDepartment",[["id",1],["name","N"],["retired",true]]]"#,
            ),
            (
                Box::new(AddDoctor {
                    name: name(),
                    department: Some(2),
                }),
                r#"[1,"addDoctor",[["name","N"],["departmentId",2]]]"#,
            ),
            (
                Box::new(ChangeDoctor {
                    id: 1,
                    name: None,
                    department: Patch::Clear,
                    retired: Some(false),
                }),
                r#"[1,"changeDoctor",[["id",1],["departmentId",null],["retired",false]]]"#,
            ),
            (
                Box::new(SetDoctorHours {
                    doctor: 1,
                    hours: vec![WorkingHours {
                        weekday: Weekday::Monday,
                        from: "09:00".parse().unwrap(),
                        to: "12:30".parse().unwrap(),
                    }],
                    slot_minutes: Patch::Clear,
                }),
                r#"[1,"setDoctorHours",[["doctorId",1],["hours",[["MONDAY",540,750]]],["slotMinutes",null]]]"#,
            ),
            (
                Box::new(AddAbsence {
                    doctor: Some(1),
                    starts: "2025-05-11T00:00:00Z".parse().unwrap(),
                    ends: "2025-05-11T09:30:00.25Z".parse().unwrap(),
                    reason: Some(reason()),
                }),
                r#"[1,"addAbsence",[["doctorId",1],["starts",[1746921600,0]],["ends",[1746955800,250000000]],["reason","why"]]]"#,
            ),
            (Box::new(RemoveAbsence { id: 1 }), r#"[1,"removeAbsence",[["id",1]]]"#),
            (
                Box::new(UpdateHospital {
                    slot_minutes: Some(20),
                    tentative_minutes: None,
                }),
                r#"[1,"updateHospital",[["slotMinutes",20]]]"#,
            ),
            (
                Box::new(AddStaff {
                    login: "eve".to_owned(),
                    name: name(),
                    role: Role::Desk,
                    password: password(),
                }),
                r#"[1,"addStaff",[["login","eve"],["name","N"],["role","DESK"]]]"#,
            ),
            (
                Box::new(ChangeStaff {
                    id: 1,
                    name: Some(name()),
                    role: Some(Role::Admin),
                    disabled: Some(true),
                }),
                r#"[1,"changeStaff",[["id",1],["name","N"],["role","ADMIN"],["disabled",true]]]"#,
            ),
            (
                Box::new(SetPassword {
                    id: 1,
                    password: password(),
                    verified: None,
                }),
                r#"[1,"setPassword",[["id",1]]]"#,
            ),
        ]
    }

    #[test]
    fn encodings_are_as_they_were() {
        for (command, text) in golden() {
            assert_eq!(encoded(command.as_ref()), text);
        }
    }

    #[test]
    fn what_is_left_out_is_in_no_encoding() {
        let register = RegisterPatient(PatientDraft::default());
        assert_eq!(encoded(&register), r#"[1,"registerPatient",[]]"#);
        let pin = PinSnapshot {
            id: "ab".to_owned(),
            label: None,
        };
        assert_eq!(encoded(&pin), r#"[1,"pinSnapshot",[["id","ab"]]]"#);
        let record = RecordVisit {
            draft: VisitDraft {
                duration_minutes: Patch::Clear,
                note: Patch::Clear,
                ..VisitDraft::default()
            },
            overriding: Override::default(),
        };
        assert_eq!(
            encoded(&record),
            r#"[1,"recordVisit",[["durationMinutes",null],["note",null]]]"#
        );
    }

    #[test]
    fn every_command_is_listed_once() {
        let listed: Vec<&str> = COMMANDS.iter().map(|info| info.name).collect();
        let encoded: Vec<&str> = golden().iter().map(|(command, _)| command.info().name).collect();
        assert_eq!(listed, encoded);
    }

    #[test]
    fn a_digest_is_as_it_was() {
        let secrets = Secrets::from_base64(&STANDARD.encode([1; 32])).unwrap();
        let command = RegisterPatient(patient());
        let digest = digest(&secrets, 7, &command).unwrap();
        assert_eq!(STANDARD.encode(&digest), "AdaBMlyIRu8foXsx1FhnXaM=");
        assert_eq!(digests(&secrets, 7, &command).unwrap(), [digest]);
    }
}
