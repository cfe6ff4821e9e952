//! The access rule of each field of the schema, a hospital with data for each of them, and an operation for each root
//! field that selects everything below it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU32, Ordering};

use async_graphql::parser::parse_schema;
use async_graphql::parser::types::{TypeKind, TypeSystemDefinition};
use rollcall::permissions::Role;
use rollcall::store::COMMANDS;
use serde_json::{Value, json};
use test_support::{Client, PASSWORD, TestApp, input_of, wait_until};

/// Who may use a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessRule {
    /// Everyone, without a token.
    Open,
    /// Everyone who is signed in, kiosks too.
    SignedIn,
    /// Everyone who may use the console: all but KIOSK.
    Everyone,
    /// The same; masked for SUPPORT.
    Masked,
    /// The same; SUPPORT can neither search nor sort by what is masked.
    ByName,
    /// Roles that see names, birth dates and phones in full.
    Named,
    /// Roles that may pin snapshots, and export lists.
    Keep,
    /// Roles that may change records.
    Change,
    /// Everyone who is signed in and may use the console; null but for administrators and oneself.
    Private,
    /// Roles that may use the codes of visits.
    UseCode,
    /// Administrators.
    Administer,
}
use AccessRule::{Administer, ByName, Change, Everyone, Keep, Masked, Named, Open, Private, SignedIn, UseCode};

pub const ROLES: [&str; 5] = ["ADMIN", "CLINICIAN", "DESK", "SUPPORT", "KIOSK"];

impl AccessRule {
    /// The permissions of the design, written independently of the implementation.
    pub fn permits(self, role: &str) -> bool {
        match self {
            Open | SignedIn => true,
            Everyone | Masked | ByName | Private => role != "KIOSK",
            Named => matches!(role, "ADMIN" | "CLINICIAN" | "DESK"),
            Keep => matches!(role, "ADMIN" | "CLINICIAN"),
            Change => matches!(role, "ADMIN" | "DESK"),
            UseCode => matches!(role, "ADMIN" | "DESK" | "KIOSK"),
            Administer => role == "ADMIN",
        }
    }
}

/// The access rule of each field: types, rule, fields. `*` stands for all current and future fields; it is only for
/// types that do not lead to patients or staff.
#[rustfmt::skip]
const RULES: &[(&str, AccessRule, &str)] = &[
    ("Query", Everyone, "cohort cohortSet hospital node nodes patient pinnedSnapshots recallList recallLists retention staff statements statistics statisticsSnapshot visit visitsOn"),
    ("Query", SignedIn, "viewer"),
    ("Query", ByName, "patients visits"),
    ("Query", Named, "possibleDuplicates"),
    ("Query", Change, "import imports"),
    ("Query", Administer, "audit previewDefinition"),
    ("Subscription", Everyone, "statistics visitsOn"),
    ("Subscription", Change, "importProgress"),
    ("Mutation", Open, "refreshSession signIn"),
    ("Mutation", SignedIn, "changePassword signOut"),
    ("Mutation", Keep, "exportCohort exportRecallList pinSnapshot unpinSnapshot"),
    ("Mutation", Administer, "sealMonth"),
    ("SealMonthPayload", Administer, "statement"),
    ("Statement", Everyone, "corrections digest id month previous sealedAt sealedBy statistics"),
    ("StatementConnection", Everyone, "edges nodes pageInfo totalCount"),
    ("StatementEdge", Everyone, "cursor node"),
    ("Mutation", Change, "changePatient erasePatient mergePatients registerPatient undoMerge"),
    ("Mutation", Change, "changeVisit deleteVisit issueVisitCode recordVisit"),
    ("Mutation", Change, "assignRecallEntries claimRecallEntries closeRecallList createRecallList recordContact"),
    ("Mutation", Change, "commitImport discardImport prepareImport"),
    ("Mutation", UseCode, "checkInVisit confirmVisit"),
    ("Mutation", Administer, "addDepartment addDoctor changeDepartment changeDoctor updateDefinition"),
    ("Mutation", Administer, "setDoctorHours updateHospital"),
    ("Mutation", Change, "addAbsence removeAbsence"),
    ("Mutation", Administer, "addStaff changeStaff resetPassword"),
    // Patients and visits.
    ("Patient", Masked, "birthDate memo name phone"),
    ("Patient", Everyone, "birthYear chartNo doNotContact id mergedInto registeredOn sex state version"),
    ("Patient", Everyone, "firstVisit history lastVisit nextVisit visitCount"),
    ("Patient", ByName, "visits"),
    ("Visit", Everyone, "channel date deleted department doctor history id patient scheduledAt status version visitNo"),
    ("Visit", Everyone, "checkedInAt completedAt durationMinutes endsAt expiresAt nextStatuses startedAt"),
    ("Visit", Masked, "note"),
    ("DayVisits", Everyone, "date revision visits"),
    ("VisitRecord", Everyone, "channel date department doctor patient scheduledAt status"),
    ("VisitChange", Everyone, "after before changedAt visit"),
    ("VisitChange", Masked, "reason"),
    ("SeenVisit", Everyone, "counted visit"),
    ("ChangeEntry", Everyone, "at by fields id source"),
    ("ChangeEntry", Masked, "reason"),
    ("FieldChange", Everyone, "field"),
    ("FieldChange", Masked, "after before"),
    ("ChangeEntryConnection", Everyone, "edges nodes pageInfo totalCount"),
    ("ChangeEntryEdge", Everyone, "cursor node"),
    ("PatientConnection VisitConnection", Everyone, "edges nodes pageInfo totalCount"),
    ("PatientEdge VisitEdge", Everyone, "cursor node"),
    ("ChangePatientPayload ErasePatientPayload RegisterPatientPayload UndoMergePayload", Change, "patient"),
    ("RegisterPatientPayload", Change, "possibleDuplicates"),
    ("PatientMatch", Named, "patient reasons"),
    ("MergePatientsPayload", Change, "into patient"),
    ("ChangeVisitPayload DeleteVisitPayload RecordVisitPayload", Change, "visit"),
    ("IssueVisitCodePayload", Change, "code expiresAt"),
    ("VisitCodePayload", UseCode, "visit"),
    ("KioskVisit", UseCode, "date departmentName doctorName patientName startsAt status"),
    // Statistics, and their lists.
    ("Statistics", Everyone, "asOf computedAt definition filter id period pinnedAt pinnedBy range revision timeZone weekStart"),
    ("Statistics", Masked, "label"),
    ("StatisticsConnection", Everyone, "edges nodes pageInfo totalCount"),
    ("StatisticsEdge", Everyone, "cursor node"),
    ("Statistics", Everyone, "bucket buckets changes explain total"),
    ("StatisticsBucket", Everyone, "churnMature churnRate complete covered end noShowRate start"),
    ("StatisticsBucket", Everyone, "churnSuspected cohort newPatients noShow returning visitors"),
    ("Cohort", Everyone, "breakdown derivation digest explain id kind narrowed patientCount patientIds visitCount visitIds"),
    ("Cohort", ByName, "patients visits"),
    ("Retention", Everyone, "asOf id period range revision rows"),
    ("RetentionRow", Everyone, "cells end newPatients start"),
    ("RetentionCell", Everyone, "complete end offset rate returned start"),
    ("Derivation", Everyone, "sources text"),
    ("CohortPart", Everyone, "cohort department doctor key label"),
    ("CohortPatientConnection CohortVisitConnection", Everyone, "edges nodes pageInfo totalCount"),
    ("CohortPatientEdge", Everyone, "cursor firstVisitDate lastVisitDate node visitCount"),
    ("CohortVisitEdge", Everyone, "cursor date node patientId status"),
    ("StatisticsChanges", Everyone, "after before bucket buckets onlyAfter onlyBefore total"),
    ("BucketChanges", Everyone, "changedCohorts cohort end start"),
    ("CohortChanges", Everyone, "after before entered enteredCount kind left leftCount"),
    ("PatientChangeConnection", Everyone, "edges nodes pageInfo totalCount"),
    ("PatientChangeEdge", Everyone, "cursor node reasons"),
    ("ChangeReason", Everyone, "kind text visits"),
    ("PatientExplanation", Everyone, "bucket buckets daysSilent firstVisit lastVisit patient total"),
    ("BucketExplanation", Everyone, "cohort cohorts end start"),
    ("CohortMembership", Everyone, "included kind rule text visits"),
    ("PinSnapshotPayload UnpinSnapshotPayload", Keep, "statistics"),
    ("ExportPayload", Keep, "*"),
    // Recall lists.
    ("RecallList", Everyone, "asOf closedAt cohort createdAt createdBy id name proposedDefinition version"),
    ("RecallList", Everyone, "entries leftOut outcomes patientCount returnRate returnedCount returnedWithin"),
    ("RecallLeftOut", Everyone, "patientCount patients reason"),
    ("RecallOutcomeCount", Everyone, "*"),
    ("RecallEntry", Everyone, "assignee claimedUntil contacts dueOn id list outcome patient returnedOn version"),
    ("RecallContact", Everyone, "at by dueOn outcome"),
    ("RecallContact", Masked, "note"),
    ("RecallListConnection RecallEntryConnection", Everyone, "edges nodes pageInfo totalCount"),
    ("RecallListEdge RecallEntryEdge", Everyone, "cursor node"),
    ("CreateRecallListPayload CloseRecallListPayload", Change, "list"),
    ("RecordContactPayload", Change, "entry"),
    ("ClaimRecallEntriesPayload AssignRecallEntriesPayload", Change, "entries"),
    // Imports.
    ("Import", Change, "by conflicts counts createdAt fileDigest fileName id kind lastImportedAt problem reading rows"),
    ("Import", Change, "rowsRead rowsTotal source state unknownWords"),
    ("ImportReading ImportColumn ImportCount ImportProblem UnknownWord", Change, "*"),
    ("ImportRow", Change, "fields line outcome problems"),
    ("ImportConnection ImportRowConnection", Change, "edges nodes pageInfo totalCount"),
    ("ImportEdge ImportRowEdge", Change, "cursor node"),
    ("PrepareImportPayload CommitImportPayload DiscardImportPayload", Change, "import"),
    // Staff and the audit.
    ("StaffMember", Everyone, "disabledAt id name role"),
    ("StaffMember", Private, "createdAt login"),
    ("AddStaffPayload ChangeStaffPayload ResetPasswordPayload", Administer, "staff"),
    ("AuditEntry", Administer, "action at cohortId cohortKind id patientIds requestId staff statisticsId what"),
    ("AuditConnection", Administer, "edges nodes pageInfo totalCount"),
    ("AuditEdge", Administer, "cursor node"),
    // The hospital.
    ("WorkingHours Slot", Everyone, "*"),
    ("Absence", Everyone, "doctor ends id starts"),
    ("Absence", Masked, "reason"),
    ("SetDoctorHoursPayload", Administer, "doctor visitsOutside"),
    ("AddAbsencePayload", Change, "absence visitsOutside"),
    ("RemoveAbsencePayload", Change, "*"),
    ("UpdateHospitalPayload", Administer, "*"),
    ("Hospital", SignedIn, "name timeZone today"),
    ("Hospital", Everyone, "absences code definition departments doctors id slotMinutes tentativeMinutes weekStart"),
    ("Department Doctor StatisticsDefinition AppliedFilter DateRange PageInfo", Everyone, "*"),
    ("Viewer", SignedIn, "*"),
    ("AddDepartmentPayload ChangeDepartmentPayload AddDoctorPayload ChangeDoctorPayload", Administer, "*"),
    ("UpdateDefinitionPayload", Administer, "*"),
    ("SignInPayload RefreshSessionPayload Session", Open, "*"),
    ("ChangePasswordPayload SignOutPayload", SignedIn, "*"),
];

/// Types about patients and staff: the fields of all types that lead to one of these are listed.
const PERSONS: [&str; 7] = [
    "Patient",
    "Visit",
    "VisitRecord",
    "KioskVisit",
    "StaffMember",
    "AuditEntry",
    "ChangeEntry",
];

/// The rules of a field; there must be exactly one.
fn rules_of(of: &str, field: &str) -> Vec<AccessRule> {
    let named = |list: &str, name: &str| list.split(' ').any(|word| word == name);
    let found = RULES
        .iter()
        .filter(|(types, _, fields)| named(types, of) && (*fields == "*" || named(fields, field)));
    found.map(|(_, rule, _)| *rule).collect()
}

pub fn rule_of(of: &str, field: &str) -> AccessRule {
    match rules_of(of, field)[..] {
        [rule] => rule,
        ref rules => panic!("{of}.{field} has {} rules", rules.len()),
    }
}

pub struct Field {
    /// The type, without brackets.
    of: String,
    /// The types of the arguments, without brackets.
    arguments: BTreeSet<String>,
    has_pages: bool,
}

/// The object types with their fields, and the inputs that have an idempotency key.
pub struct Schema {
    types: BTreeMap<String, BTreeMap<String, Field>>,
    keyed: BTreeSet<String>,
}

impl Schema {
    pub fn read() -> Self {
        let bare = |of: String| of.trim_matches(['[', ']', '!']).to_owned();
        let (mut types, mut keyed) = (BTreeMap::new(), BTreeSet::new());
        for definition in parse_schema(rollcall::graphql::sdl()).unwrap().definitions {
            let TypeSystemDefinition::Type(definition) = definition else {
                continue;
            };
            let name = definition.node.name.node.to_string();
            let object = match definition.node.kind {
                TypeKind::Object(object) => object,
                TypeKind::InputObject(input) => {
                    let mut fields = input.fields.iter();
                    let takes_key = fields.any(|field| field.node.name.node == "idempotencyKey");
                    keyed.extend(takes_key.then_some(name));
                    continue;
                }
                _ => continue,
            };
            let fields = object.fields.into_iter().map(|field| {
                let arguments = || field.node.arguments.iter().map(|argument| &argument.node);
                let about = Field {
                    of: bare(field.node.ty.node.to_string()),
                    arguments: arguments().map(|argument| bare(argument.ty.node.to_string())).collect(),
                    has_pages: arguments().any(|argument| argument.name.node == "first"),
                };
                (field.node.name.node.to_string(), about)
            });
            types.insert(name, fields.collect());
        }
        Self { types, keyed }
    }

    pub fn fields(&self) -> impl Iterator<Item = (&str, &str, &Field)> {
        self.types.iter().flat_map(|(of, fields)| {
            fields
                .iter()
                .map(move |(name, field)| (of.as_str(), name.as_str(), field))
        })
    }

    /// Whether the value of the field is an object.
    pub fn has_fields(&self, field: &Field) -> bool {
        self.types.contains_key(&field.of)
    }

    /// The root fields: `query` or `mutation`, and the name.
    pub fn roots(&self) -> Vec<(&'static str, String)> {
        let roots = [("query", "Query"), ("mutation", "Mutation")];
        let named = |(kind, of)| self.types[of].keys().map(move |name| (kind, name.clone()));
        roots.into_iter().flat_map(named).collect()
    }

    /// Whether a type about patients or staff can be reached from the type.
    fn leads_to_persons(&self, of: &str, seen: &mut BTreeSet<String>) -> bool {
        PERSONS.contains(&of)
            || of == "Node"
            || seen.insert(of.to_owned())
                && self
                    .types
                    .get(of)
                    .is_some_and(|fields| fields.values().any(|field| self.leads_to_persons(&field.of, seen)))
    }

    /// A selection of everything: all fields of a type where it first occurs, and its scalar fields everywhere else. For KIOSK, which may
    /// see single fields of some types, without the others.
    fn select(&self, of: &str, role: &str, asking: &HospitalFixture<'_>, met: &mut BTreeSet<String>) -> String {
        if of == "Node" {
            let nodes = NODES.map(|of| format!("... on {of} {}", self.select(of, role, asking, met)));
            return format!("{{ __typename {} }}", nodes.join(" "));
        }
        let Some(fields) = self.types.get(of) else {
            return String::new();
        };
        if of == "Statement" {
            // What leads on from these has operations of its own, and would be too deep here.
            met.extend(["Statistics", "SeenVisit"].map(str::to_owned));
        }
        let whole = met.insert(of.to_owned());
        let mut text = "{ __typename".to_owned();
        for (name, field) in fields {
            if role == "KIOSK" && !rule_of(of, name).permits(role) {
                continue;
            }
            if whole || !self.types.contains_key(&field.of) {
                let arguments = asking.arguments(of, name, field);
                text.push_str(&format!(
                    " {name}{arguments} {}",
                    self.select(&field.of, role, asking, met)
                ));
            }
        }
        text + " }"
    }
}

/// Types with an ID; the first one leads to the others.
const NODES: [&str; 13] = [
    "Cohort",
    "Statistics",
    "Patient",
    "Visit",
    "Hospital",
    "Department",
    "Doctor",
    "Absence",
    "AuditEntry",
    "ChangeEntry",
    "RecallList",
    "RecallEntry",
    "StaffMember",
];

#[test]
fn every_field_has_exactly_one_access_rule() {
    let schema = Schema::read();
    let mut wrong = Vec::new();
    for (of, name, field) in schema.fields() {
        match rules_of(of, name)[..] {
            [rule] => {
                let by_name = ["PatientOrder", "VisitOrder", "PatientFilter"];
                if (rule == ByName) != by_name.iter().any(|argument| field.arguments.contains(*argument)) {
                    wrong.push(format!(
                        "{of}.{name} contradicts its rule about ordering or searching by name"
                    ));
                }
            }
            ref rules => wrong.push(format!("{of}.{name} has {} rules", rules.len())),
        }
    }
    for (types, _, fields) in RULES {
        for of in types.split(' ') {
            let Some(known_fields) = schema.types.get(of) else {
                wrong.push(format!("there is no type {of}"));
                continue;
            };
            match *fields {
                "*" if schema.leads_to_persons(of, &mut BTreeSet::new()) => {
                    wrong.push(format!("{of} leads to patients or staff: list its fields"));
                }
                "*" => {}
                _ => wrong.extend(
                    fields
                        .split(' ')
                        .filter(|field| !known_fields.contains_key(*field))
                        .map(|field| format!("there is no {of}.{field}")),
                ),
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

/// A, B and C.
fn listed(roles: &[&str]) -> String {
    match roles {
        [rest @ .., last] if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        _ => roles.concat(),
    }
}

/// The mutations that execute no command: they begin and end sessions, or change one's own password.
const SESSION_MUTATIONS: [&str; 4] = ["changePassword", "refreshSession", "signIn", "signOut"];

#[test]
fn every_command_has_a_mutation_a_rule_and_docs() {
    let sdl = parse_schema(rollcall::graphql::sdl()).unwrap();
    let mut descriptions = BTreeMap::new();
    for definition in sdl.definitions {
        if let TypeSystemDefinition::Type(definition) = definition
            && definition.node.name.node == "Mutation"
            && let TypeKind::Object(object) = definition.node.kind
        {
            for field in object.fields {
                let description = field.node.description.map(|text| text.node).unwrap_or_default();
                let words: Vec<&str> = description.split_whitespace().collect();
                descriptions.insert(field.node.name.node.to_string(), words.join(" "));
            }
        }
    }
    let pages = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/console")).unwrap();
    let docs: String = pages
        .map(|page| std::fs::read_to_string(page.unwrap().path()).unwrap())
        .collect();
    let mut missing = Vec::new();
    for command in COMMANDS {
        let mutation = command.mutation.unwrap_or_default();
        let Some(description) = descriptions.remove(mutation) else {
            missing.push(format!("{} has no mutation {mutation}", command.name));
            continue;
        };
        let roles: Vec<&str> = ROLES
            .into_iter()
            .filter(|role| Role::parse(role).unwrap().may(command.action))
            .collect();
        if rules_of("Mutation", mutation).len() != 1 {
            missing.push(format!("{mutation} has not one rule here"));
        } else if ROLES.map(|role| rule_of("Mutation", mutation).permits(role))
            != ROLES.map(|role| roles.contains(&role))
        {
            missing.push(format!("the rule of {mutation} is not for {}", listed(&roles)));
        }
        if !description.ends_with(&format!("For {}.", listed(&roles))) {
            missing.push(format!("the description of {mutation} does not end with its roles"));
        }
        if !docs.contains(&format!("`{mutation}`")) {
            missing.push(format!("no page of docs/console names {mutation}"));
        }
    }
    assert_eq!(missing, Vec::<String>::new());
    let rest: Vec<String> = descriptions.into_keys().collect();
    assert_eq!(rest, SESSION_MUTATIONS, "each other mutation executes a command");
}

/// Chart number, name, phone number, birth date, masked name, masked phone number.
#[rustfmt::skip]
const PEOPLE: [[&str; 6]; 6] = [
    ["CH-7701", "Zebulon Quuxford", "+821098765401", "1949-11-23", "Z****** Q*******", "010-****-**01"],
    ["CH-7702", "김천둥", "+821098765402", "1951-02-03", "김*둥", "010-****-**02"],
    ["CH-7703", "Yolanda Xystovich", "+821098765403", "1962-03-04", "Y****** X********", "010-****-**03"],
    ["CH-7704", "Wendell Vroomfield", "+821098765404", "1973-04-05", "W****** V*********", "010-****-**04"],
    ["CH-7705", "Urianne Thrumwell", "+821098765405", "1984-05-06", "U****** T********", "010-****-**05"],
    ["CH-7706", "Sidonie Raskolnik", "+821098765406", "1995-06-07", "S****** R********", "010-****-**06"],
];
/// The patients that operations register.
const REGISTERED: [&str; 6] = [
    "CH-77X",
    "Tiberius Quuxford",
    "+821098765499",
    "1949-11-23",
    "T******* Q*******",
    "010-****-**99",
];
/// The visits of the worked example, each with a department and a doctor, and a future visit.
const VISITS: &str = "visit_no,chart_no,date,scheduled_at,status,department,doctor,channel
VN-7701,CH-7701,2025-05-11,2025-05-11T09:30:00+09:00,COMPLETED,Ophthalmia,Dr Ixworth,WALK_IN
VN-7702,CH-7701,2025-05-13,,COMPLETED,Ophthalmia,Dr Ixworth,WALK_IN
VN-7703,CH-7702,2025-04-28,,COMPLETED,Dermatica,Dr Uvarov,PHONE
VN-7704,CH-7702,2025-05-02,,COMPLETED,Dermatica,Dr Uvarov,PHONE
VN-7705,CH-7702,2025-06-03,,COMPLETED,Ophthalmia,Dr Ixworth,APP
VN-7706,CH-7703,2025-05-20,,COMPLETED,Ophthalmia,Dr Ixworth,WEB
VN-7707,CH-7703,2025-06-02,,COMPLETED,Dermatica,Dr Uvarov,WEB
VN-7708,CH-7703,2025-08-20,,COMPLETED,Dermatica,Dr Uvarov,WEB
VN-7709,CH-7704,2025-05-09,,NO_SHOW,Ophthalmia,Dr Ixworth,QR
VN-7710,CH-7704,2025-06-10,,ENDED,Ophthalmia,Dr Ixworth,QR
VN-7711,CH-7705,2025-06-15,,CANCELED,Dermatica,Dr Uvarov,TABLET
VN-7712,CH-7701,2199-01-01,,BOOKED,Dermatica,Dr Uvarov,PHONE
";
const MEMO: &str = "allergic to quinces";
const REASON: &str = "spilled rhubarb";

/// Texts that identify patients of H1, in every notation, and what the operations write. Each is too long to occur in
/// an ID or a token by chance.
#[rustfmt::skip]
pub const PERSONAL: [&str; 24] = [
    "Zebulon", "Quuxford", "천둥", "Yolanda", "Xystovich", "Wendell", "Vroomfield", "Urianne", "Thrumwell", "Sidonie",
    "Raskolnik", "Tiberius", "10987654", "10-9876-54", "CH-770", "CH-77X", "VN-770", "VN-77X", "1949-11-23", "1951-02-03",
    "1962-03-04", "quinces", "rhubarb", PASSWORD,
];
/// Names that only H1 uses.
pub const OWN: [&str; 6] = ["Ophthalmia", "Dermatica", "Ixworth", "Uvarov", "\"One\"", "\"H1\""];

/// What SUPPORT sees in place of a value.
pub fn masked(of: &str, field: &str, value: &Value) -> Value {
    let person = |at: usize| PEOPLE.iter().chain([&REGISTERED]).find(|person| person[at] == *value);
    match (of, field) {
        ("Patient", "name") => person(1).map_or(Value::Null, |person| json!(person[4])),
        ("Patient", "phone") => person(2).map_or(Value::Null, |person| json!(person[5])),
        // Of any field: a name may come after a chart number.
        ("FieldChange", _) if *value == MEMO => Value::Null,
        ("FieldChange", _) => {
            let mut shown = text(value).replace("Tiberius Quuxford", "T******* Q*******");
            for [_, name, phone, birth_date, masked_name, masked_phone] in PEOPLE {
                shown = shown.replace(name, masked_name).replace(phone, masked_phone);
                shown = shown.replace(birth_date, &birth_date[..4]);
            }
            json!(shown)
        }
        _ => Value::Null,
    }
}

/// An operation of one root field.
pub struct RootOperation {
    pub text: String,
    pub variables: Value,
    pub cross_tenant: CrossTenantResult,
}

/// The result of the same operation for a client of another hospital.
pub enum CrossTenantResult {
    /// It reads or creates data of the client's own hospital.
    Own,
    /// Nothing of H1 is found.
    Finds(Value),
    /// It fails with NOT_FOUND for this argument.
    Refused(&'static str),
    /// It fails with INVALID_CODE.
    InvalidCode,
}

/// The hospital H1 with data for every field, and a client that administers it.
pub struct HospitalFixture<'a> {
    pub admin: Client<'a>,
    schema: Schema,
    /// By name or number: patients, visits, departments and doctors.
    ids: BTreeMap<String, String>,
    pub spare_staff: String,
    /// A snapshot, and a later one with a cohort that a patient entered since.
    pub since: String,
    pub snapshot: String,
    pub cohort: String,
    /// A recall list of that cohort, and an entry that was worked on.
    pub recall_list: String,
    pub recall_entry: String,
    pub import: String,
    /// The number of inputs created so far.
    made: AtomicU32,
}

impl<'a> HospitalFixture<'a> {
    pub async fn new(app: &'a TestApp) -> Self {
        let mut patients = "chart_no,name,phone,birth_date,registered_on\n".to_owned();
        for [chart_no, name, phone, birth_date, ..] in PEOPLE {
            patients.push_str(&format!("{chart_no},{name},{phone},{birth_date},2025-01-01\n"));
        }
        app.import("patients", "H1", &patients);
        app.import("visits", "H1", VISITS);
        let admin = app.sign_in("admin").await;
        let all = admin
            .graphql("{ patients { nodes { id chartNo } } visits { nodes { id visitNo } } hospital { id departments { id name } doctors { id name } } }")
            .await;
        let mut ids = BTreeMap::from([("hospital".to_owned(), text(&all["hospital"]["id"]))]);
        for (list, key) in [
            (&all["patients"]["nodes"], "chartNo"),
            (&all["visits"]["nodes"], "visitNo"),
            (&all["hospital"]["departments"], "name"),
            (&all["hospital"]["doctors"], "name"),
        ] {
            ids.extend(
                list.as_array()
                    .unwrap()
                    .iter()
                    .map(|node| (text(&node[key]), text(&node["id"]))),
            );
        }
        for chart_no in ["CH-7701", "CH-7703"] {
            admin
                .mutate(
                    "changePatient",
                    json!({"id": ids[chart_no], "version": 1, "memo": MEMO}),
                    "patient { id }",
                )
                .await;
        }
        let merge = json!({"id": ids["CH-7706"], "version": 1, "intoId": ids["CH-7701"], "reason": REASON});
        admin.mutate("mergePatients", merge, "into { id }").await;
        let weekdays = [
            "MONDAY",
            "TUESDAY",
            "WEDNESDAY",
            "THURSDAY",
            "FRIDAY",
            "SATURDAY",
            "SUNDAY",
        ];
        let hours = weekdays.map(|weekday| json!({"weekday": weekday, "from": "09:00", "to": "12:00"}));
        let hours = json!({"doctorId": ids["Dr Ixworth"], "hours": hours});
        admin.mutate("setDoctorHours", hours, "__typename").await;
        let absence = absence(&ids["Dr Ixworth"]);
        let absence = admin.mutate("addAbsence", absence, "absence { id }").await;
        ids.insert("absence".to_owned(), text(&absence["absence"]["id"]));
        let staff = json!({"login": "spare", "name": "Spare", "role": "DESK", "password": PASSWORD});
        let staff = admin.mutate("addStaff", staff, "staff { id }").await;
        let mut fixture = Self {
            admin,
            schema: Schema::read(),
            ids,
            spare_staff: text(&staff["staff"]["id"]),
            since: String::new(),
            snapshot: String::new(),
            cohort: String::new(),
            recall_list: String::new(),
            recall_entry: String::new(),
            import: String::new(),
            made: AtomicU32::new(0),
        };
        let question = format!(
            "{{ statistics{} {{ id bucket(day: \"2025-05-15\") {{ churnSuspected {{ id }} }} }} }}",
            fixture.question("")
        );
        fixture.since = text(&fixture.admin.graphql(&question).await["statistics"]["id"]);
        // Makes a patient CHURN_SUSPECTED who was not.
        let void = json!({"id": fixture.id("VN-7708"), "version": 1, "status": "CANCELED", "reason": REASON});
        fixture.admin.mutate("changeVisit", void, "visit { id }").await;
        let now = fixture.admin.graphql(&question).await["statistics"].take();
        fixture.snapshot = text(&now["id"]);
        fixture.cohort = text(&now["bucket"]["churnSuspected"]["id"]);
        fixture.work_on_recall_list().await;
        let pin = json!({"id": fixture.since, "label": MEMO});
        fixture.admin.mutate("pinSnapshot", pin, "statistics { id }").await;
        fixture.import = text(&fixture.checked_import().await);
        let month = json!({"month": fixture.month_to_seal().await});
        fixture.admin.mutate("sealMonth", month, "statement { id }").await;
        fixture
    }

    /// The month after the last one that is sealed.
    async fn month_to_seal(&self) -> String {
        let last = self.admin.graphql("{ statements(first: 1) { nodes { month } } }").await;
        let month: Option<chrono::NaiveDate> = last["statements"]["nodes"][0]["month"]
            .as_str()
            .map(|month| month.parse().unwrap());
        // Each operation seals another one, and none may lie ahead.
        let first = chrono::NaiveDate::from_ymd_opt(1950, 1, 1).unwrap();
        month.map_or(first, |month| month + chrono::Months::new(1)).to_string()
    }

    /// Makes a recall list. An entry is called, claimed again, and its patient returns.
    async fn work_on_recall_list(&mut self) {
        let made = self
            .admin
            .mutate(
                "createRecallList",
                self.recall_list_input(),
                "list { id entries { nodes { id patient { chartNo } } } }",
            )
            .await;
        self.recall_list = text(&made["list"]["id"]);
        let entries = made["list"]["entries"]["nodes"].as_array().unwrap();
        let entry = entries
            .iter()
            .find(|entry| entry["patient"]["chartNo"] == "CH-7703")
            .unwrap();
        self.recall_entry = text(&entry["id"]);
        let contact =
            json!({"entryId": entry["id"], "version": 1, "outcome": "NO_ANSWER", "note": MEMO, "dueOn": "2025-09-01"});
        self.admin.mutate("recordContact", contact, "entry { id }").await;
        let claim = json!({"listId": self.recall_list, "filter": {"outcomes": ["NO_ANSWER"]}});
        self.admin.mutate("claimRecallEntries", claim, "entries { id }").await;
        let today = self.admin.graphql("{ hospital { today } }").await["hospital"]["today"].take();
        let visit =
            json!({"patientId": self.id("CH-7703"), "date": today, "status": "COMPLETED", "visitNo": "VN-7713"});
        self.admin.mutate("recordVisit", visit, "visit { id }").await;
    }

    /// A small file of the hospital. Imports before are discarded, but for the first and the last three: a hospital may have few files.
    async fn uploaded_file(&self) -> Value {
        let before = self
            .admin
            .graphql("{ imports(first: 100) { nodes { id state } } }")
            .await;
        for import in before["imports"]["nodes"].as_array().unwrap().iter().skip(3) {
            if import["state"] == "READY" && import["id"] != self.import.as_str() {
                self.admin
                    .mutate("discardImport", json!({"id": import["id"]}), "import { id }")
                    .await;
            }
        }
        let file = format!("chart_no,name,sex\nCH-77I,Tiberius Quuxford,WOMAN\nCH-7701,{MEMO},\n");
        self.admin.upload(file).await
    }

    async fn checked_import(&self) -> Value {
        let input = json!({"fileId": self.uploaded_file().await, "kind": "PATIENTS"});
        let import = self.admin.mutate("prepareImport", input, "import { id }").await["import"]["id"].take();
        wait_until("the import is checked", async || {
            let query = format!("{{ import(id: {import}) {{ state }} }}");
            self.admin.graphql(&query).await["import"]["state"] == "READY"
        })
        .await;
        import
    }

    fn recall_list_input(&self) -> Value {
        json!({"name": "Recall", "cohortId": self.cohort, "withoutNextVisit": false})
    }

    /// A recall list for one operation, and an entry of it.
    async fn fresh_recall_list(&self) -> (Value, Value) {
        let made = self
            .admin
            .mutate(
                "createRecallList",
                self.recall_list_input(),
                "list { id entries(first: 1) { nodes { id } } }",
            )
            .await;
        (
            made["list"]["id"].clone(),
            made["list"]["entries"]["nodes"][0]["id"].clone(),
        )
    }

    pub fn id(&self, name: &str) -> &str {
        &self.ids[name]
    }

    /// The IDs of all data of H1 that an operation may refer to.
    pub fn known_ids(&self) -> impl Iterator<Item = &str> {
        let more = [
            &self.spare_staff,
            &self.since,
            &self.snapshot,
            &self.cohort,
            &self.recall_list,
            &self.recall_entry,
            &self.import,
        ];
        self.ids.values().chain(more).map(String::as_str)
    }

    /// The arguments of `statistics`, preceded by others.
    pub fn question(&self, more: &str) -> String {
        let [eyes, skin, ito, ure] = ["Ophthalmia", "Dermatica", "Dr Ixworth", "Dr Uvarov"].map(|name| self.id(name));
        format!(
            "({more} period: MONTH, range: {{from: \"2025-05-01\", to: \"2025-06-30\"}}, asOf: \"2025-08-31\", filter: {{
            departmentIds: [\"{eyes}\", \"{skin}\"], doctorIds: [\"{ito}\", \"{ure}\"], channels: [WALK_IN, PHONE, APP, WEB, QR, TABLET, OTHER]}})"
        )
    }

    /// The arguments of a field.
    pub fn arguments(&self, of: &str, name: &str, field: &Field) -> String {
        let id = |id: &str| format!("(id: \"{id}\")");
        match (of, name) {
            ("Query", "imports" | "statements") | ("Import", "rows") => "(first: 1)".to_owned(),
            // Of which the recall list was made.
            ("Query", "pinnedSnapshots") => "(last: 1)".to_owned(),
            _ if field.has_pages => "(first: 3)".to_owned(),
            ("Query", "statistics" | "retention") => self.question(""),
            ("Query", "previewDefinition") => self.question("definition: {churnAfterDays: 80, overdueAfterDays: 7},"),
            ("Query", "statisticsSnapshot") => id(&self.snapshot),
            ("Query", "patient") => id(self.id("CH-7701")),
            ("Query", "visitsOn") => "(date: \"2025-05-11\")".to_owned(),
            ("Query", "possibleDuplicates") => {
                let [_, name, phone, birth_date, ..] = PEOPLE[0];
                format!("(name: \"{name}\", birthDate: \"{birth_date}\", phone: \"{phone}\")")
            }
            ("Query", "visit") => id(self.id("VN-7701")),
            ("Query", "recallList") => id(&self.recall_list),
            ("Query", "import") => id(&self.import),
            ("RecallList", "returnedWithin") => "(days: 30)".to_owned(),
            ("Query", "cohort" | "node") => id(&self.cohort),
            ("Query", "cohortSet") => format!("(of: {{allOf: [{{cohortId: \"{}\"}}]}})", self.cohort),
            ("Cohort", "breakdown") => "(by: DEPARTMENT)".to_owned(),
            ("Cohort", "narrowed") => "(filter: {hasPhone: true})".to_owned(),
            ("Query", "nodes") => format!("(ids: {:?})", self.node_ids()),
            ("Mutation", "signOut") => String::new(),
            ("Mutation", _) => "(input: $input)".to_owned(),
            ("Statistics", "changes") => format!("(since: \"{}\")", self.since),
            ("Cohort" | "Statistics", "explain") => format!("(patientId: \"{}\")", self.id("CH-7703")),
            ("Hospital", "absences") | ("Doctor", "slots") => {
                "(range: {from: \"2025-05-12\", to: \"2025-05-12\"})".to_owned()
            }
            (_, "bucket") => "(day: \"2025-05-15\")".to_owned(),
            ("CohortPart" | "RecallList", "cohort") => String::new(),
            (_, "cohort") => "(kind: CHURN_SUSPECTED)".to_owned(),
            ("Hospital", "departments" | "doctors") => "(includeRetired: true)".to_owned(),
            _ => String::new(),
        }
    }

    /// One ID of each type that everyone may see.
    fn node_ids(&self) -> [&str; 10] {
        let named = ["CH-7701", "VN-7701", "hospital", "Ophthalmia", "Dr Ixworth", "absence"].map(|name| self.id(name));
        let [patient, visit, hospital, department, doctor, absence] = named;
        [
            &self.cohort,
            &self.snapshot,
            patient,
            visit,
            hospital,
            department,
            doctor,
            absence,
            &self.recall_list,
            &self.recall_entry,
        ]
    }

    /// Each field under `Query` that is a patient or a visit, and each that is a node: its name, the type, and a query
    /// that reaches it, in which `SELECTION` stands for the selection. Payloads of mutations are omitted, since
    /// mutations are recorded themselves.
    pub fn shown(&self) -> Vec<(String, &'static str, String)> {
        let mut shown = Vec::new();
        let mut ways = BTreeMap::from([("Query", (String::new(), 0))]);
        let mut open = VecDeque::from(["Query"]);
        while let Some(of) = open.pop_front() {
            let (way, depth) = ways[of].clone();
            for (name, field) in &self.schema.types[of] {
                let arguments = self.arguments(of, name, field);
                let query =
                    |selection: &str| format!("{{ {way} {name}{arguments} {selection} {} }}", "}".repeat(depth));
                match field.of.as_str() {
                    // With the current definition it lists nobody.
                    "StatisticsChanges" if of == "Query" => {}
                    "Node" => {
                        for (node, id) in [("Patient", "CH-7701"), ("Visit", "VN-7701")] {
                            let query = query(&format!("{{ ... on {node} {{ SELECTION }} }}"));
                            shown.push((
                                format!("{of}.{name} {node}"),
                                node,
                                query.replace(&self.cohort, self.id(id)),
                            ));
                        }
                    }
                    person @ ("Patient" | "Visit") => {
                        let person = if person == "Patient" { "Patient" } else { "Visit" };
                        let query = match name.as_str() {
                            "mergedInto" => query("{ SELECTION }").replace(self.id("CH-7701"), self.id("CH-7706")),
                            _ => query("{ SELECTION }"),
                        };
                        shown.push((format!("{of}.{name}"), person, query));
                    }
                    _ => {}
                }
                let next = self.schema.types.get_key_value(&field.of);
                if let Some((next, _)) = next.filter(|(next, _)| of != "Query" || *next != "StatisticsChanges")
                    && !ways.contains_key(next.as_str())
                {
                    ways.insert(next, (format!("{way} {name}{arguments} {{"), depth + 1));
                    open.push_back(next);
                }
            }
        }
        shown
    }

    /// The scalar fields of a type.
    pub fn plain_fields(&self, of: &str) -> Vec<&str> {
        let fields = self.schema.types[of].iter();
        let plain = fields.filter(|(_, field)| field.of != "Node" && !self.schema.types.contains_key(&field.of));
        plain.map(|(name, _)| name.as_str()).collect()
    }

    /// The operation of a root field, which selects everything below it. Data that only this operation needs is
    /// created.
    pub async fn operation(&self, kind: &str, name: &str) -> RootOperation {
        self.operation_as("ADMIN", kind, name).await
    }

    /// The same for a role, see [`Schema::select`].
    pub async fn operation_as(&self, role: &str, kind: &str, name: &str) -> RootOperation {
        let (input, cross_tenant) = match kind {
            "query" => (None, self.cross_tenant_result(name)),
            _ => self.input(name).await,
        };
        let of = if kind == "query" { "Query" } else { "Mutation" };
        let field = &self.schema.types[of][name];
        let selection = self.schema.select(&field.of, role, self, &mut BTreeSet::new());
        let declared = match input {
            Some(_) => format!("($input: {}!)", input_of(name)),
            None => String::new(),
        };
        RootOperation {
            text: format!(
                "{kind} {declared} {{ {name}{} {selection} }}",
                self.arguments(of, name, field)
            ),
            variables: json!({"input": input}),
            cross_tenant,
        }
    }

    fn cross_tenant_result(&self, name: &str) -> CrossTenantResult {
        match name {
            "audit" | "hospital" | "imports" | "patients" | "pinnedSnapshots" | "recallLists" | "staff"
            | "statements" | "viewer" | "visits" | "visitsOn" => CrossTenantResult::Own,
            "cohort" | "import" | "node" | "patient" | "recallList" | "statisticsSnapshot" | "visit" => {
                CrossTenantResult::Finds(Value::Null)
            }
            "possibleDuplicates" => CrossTenantResult::Finds(json!([])),
            "nodes" => CrossTenantResult::Finds(json!(self.node_ids().map(|_| Value::Null))),
            "previewDefinition" | "retention" | "statistics" => CrossTenantResult::Refused("filter.departmentIds.0"),
            "cohortSet" => CrossTenantResult::Refused("of.allOf.0.cohortId"),
            _ => panic!("{name} has no operation: add its result for another hospital"),
        }
    }

    /// The input of a mutation. What it changes is created for it.
    async fn input(&self, name: &str) -> (Option<Value>, CrossTenantResult) {
        let fresh = self.made.fetch_add(1, Ordering::Relaxed);
        let (own, refused) = (CrossTenantResult::Own, CrossTenantResult::Refused("input.id"));
        let (mut input, cross_tenant) = match name {
            "signIn" => (json!({"hospital": "H1", "login": "desk", "password": PASSWORD}), own),
            "refreshSession" => {
                let input = json!({"hospital": "H1", "login": "desk", "password": PASSWORD});
                let session = self.admin.mutate("signIn", input, "session { refreshToken }").await;
                (json!({"refreshToken": session["session"]["refreshToken"]}), own)
            }
            "changePassword" => (json!({"currentPassword": PASSWORD, "newPassword": PASSWORD}), own),
            "signOut" => return (None, own),
            "registerPatient" => {
                let mut person = person(fresh);
                // It gets the next number.
                person["chartNo"] = Value::Null;
                (person, own)
            }
            "changePatient" => {
                let input =
                    json!({"id": self.patient(1).await, "version": 1, "name": "Tiberius Quuxford", "memo": MEMO});
                (input, refused)
            }
            "erasePatient" => (
                json!({"id": self.patient(1).await, "version": 1, "reason": REASON}),
                refused,
            ),
            "mergePatients" => {
                let (from, into) = (self.patient(1).await, self.patient(2).await);
                (
                    json!({"id": from, "version": 1, "intoId": into, "reason": REASON}),
                    refused,
                )
            }
            "undoMerge" => {
                let (from, into) = (self.patient(1).await, self.patient(2).await);
                let merge = json!({"id": from, "version": 1, "intoId": into, "reason": REASON});
                self.admin.mutate("mergePatients", merge, "into { id }").await;
                (json!({"id": from, "reason": REASON}), refused)
            }
            "recordVisit" => {
                let input = json!({"patientId": self.patient(1).await, "date": "2025-06-01", "visitNo": format!("VN-77X-{fresh}"), "note": MEMO});
                (input, CrossTenantResult::Refused("input.patientId"))
            }
            "changeVisit" => {
                let input = json!({"id": self.visit().await, "version": 1, "status": "COMPLETED", "reason": REASON});
                (input, refused)
            }
            "deleteVisit" => (
                json!({"id": self.visit().await, "version": 1, "reason": REASON}),
                refused,
            ),
            "issueVisitCode" => {
                let visit = self.visit_of("2199-01-01", "TENTATIVE").await;
                (
                    json!({"visitId": visit, "purpose": "CONFIRM"}),
                    CrossTenantResult::Refused("input.visitId"),
                )
            }
            "confirmVisit" => {
                let visit = self.visit_of("2199-01-01", "TENTATIVE").await;
                (
                    json!({"code": self.code(visit, "CONFIRM").await}),
                    CrossTenantResult::InvalidCode,
                )
            }
            "checkInVisit" => {
                let hospital = self.admin.graphql("{ hospital { today } }").await;
                let visit = self
                    .visit_of(hospital["hospital"]["today"].as_str().unwrap(), "BOOKED")
                    .await;
                (
                    json!({"code": self.code(visit, "CHECK_IN").await}),
                    CrossTenantResult::InvalidCode,
                )
            }
            "createRecallList" => (self.recall_list_input(), CrossTenantResult::Refused("input.cohortId")),
            "recordContact" => {
                let (_, entry) = self.fresh_recall_list().await;
                let input = json!({"entryId": entry, "version": 1, "outcome": "REACHED", "note": MEMO});
                (input, CrossTenantResult::Refused("input.entryId"))
            }
            "claimRecallEntries" => {
                let (list, _) = self.fresh_recall_list().await;
                (json!({"listId": list}), CrossTenantResult::Refused("input.listId"))
            }
            "assignRecallEntries" => {
                let (_, entry) = self.fresh_recall_list().await;
                (
                    json!({"entryIds": [entry]}),
                    CrossTenantResult::Refused("input.entryIds.0"),
                )
            }
            "closeRecallList" => {
                let (list, _) = self.fresh_recall_list().await;
                (json!({"id": list, "version": 1}), refused)
            }
            "exportCohort" => {
                let input = json!({"cohortId": self.cohort, "list": "PATIENTS", "format": "CSV"});
                (input, CrossTenantResult::Refused("input.cohortId"))
            }
            "exportRecallList" => (
                json!({"listId": self.recall_list, "format": "XLSX"}),
                CrossTenantResult::Refused("input.listId"),
            ),
            "prepareImport" => {
                let input = json!({"fileId": self.uploaded_file().await, "kind": "PATIENTS"});
                (input, CrossTenantResult::Refused("input.fileId"))
            }
            "commitImport" | "discardImport" => (json!({"id": self.checked_import().await}), refused),
            // Of the other one a recall list was made: it stays pinned.
            "pinSnapshot" => (json!({"id": self.since, "label": MEMO}), refused),
            "unpinSnapshot" => (json!({"id": self.since}), refused),
            "sealMonth" => (json!({"month": self.month_to_seal().await}), own),
            "updateDefinition" => {
                let rules = self
                    .admin
                    .graphql("{ hospital { definition { version churnAfterDays } } }")
                    .await;
                let rules = &rules["hospital"]["definition"];
                let days = rules["churnAfterDays"].as_i64().unwrap() + 1;
                (json!({"version": rules["version"], "churnAfterDays": days}), own)
            }
            "addDepartment" => (json!({"name": format!("Ward {fresh}")}), own),
            "addDoctor" => (json!({"name": format!("Dr {fresh}")}), own),
            "addStaff" => {
                let login = format!("member{fresh}");
                (
                    json!({"login": login, "name": "Member", "role": "DESK", "password": PASSWORD}),
                    own,
                )
            }
            "changeDepartment" => (json!({"id": self.id("Ophthalmia"), "retired": false}), refused),
            "changeDoctor" => (json!({"id": self.id("Dr Ixworth"), "retired": false}), refused),
            "setDoctorHours" => {
                let input = json!({"doctorId": self.id("Dr Uvarov"), "hours": []});
                (input, CrossTenantResult::Refused("input.doctorId"))
            }
            "addAbsence" => (
                absence(self.id("Dr Ixworth")),
                CrossTenantResult::Refused("input.doctorId"),
            ),
            "removeAbsence" => {
                let absence = absence(self.id("Dr Ixworth"));
                let added = self.admin.mutate("addAbsence", absence, "absence { id }").await;
                (json!({"id": added["absence"]["id"]}), refused)
            }
            "updateHospital" => (json!({"slotMinutes": 30}), own),
            "changeStaff" => (
                json!({"id": self.spare_staff, "name": format!("Spare {fresh}")}),
                refused,
            ),
            "resetPassword" => (json!({"id": self.spare_staff, "password": PASSWORD}), refused),
            _ => panic!("{name} has no operation"),
        };
        // A repeated request with its key must not execute again.
        if self.schema.keyed.contains(&input_of(name)) {
            input["idempotencyKey"] = json!(format!("key {fresh}"));
        }
        (Some(input), cross_tenant)
    }

    /// Registers a patient for one operation.
    pub async fn patient(&self, which: u32) -> Value {
        let input = person(which * 10_000 + self.made.fetch_add(1, Ordering::Relaxed));
        self.admin.mutate("registerPatient", input, "patient { id }").await["patient"]["id"].take()
    }

    /// Records a visit for one operation.
    async fn visit(&self) -> Value {
        self.visit_of("2025-06-01", "BOOKED").await
    }

    async fn visit_of(&self, date: &str, status: &str) -> Value {
        let input = json!({"patientId": self.patient(3).await, "date": date, "status": status,
            "departmentId": self.id("Ophthalmia")});
        self.admin.mutate("recordVisit", input, "visit { id }").await["visit"]["id"].take()
    }

    async fn code(&self, visit: Value, purpose: &str) -> Value {
        let input = json!({"visitId": visit, "purpose": purpose});
        self.admin.mutate("issueVisitCode", input, "code").await["code"].take()
    }
}

/// An absence on a day in the past.
fn absence(doctor: &str) -> Value {
    json!({"doctorId": doctor, "starts": "2025-05-12T10:00:00+09:00", "ends": "2025-05-12T11:00:00+09:00", "reason": "a course"})
}

fn person(number: u32) -> Value {
    json!({"chartNo": format!("CH-77X-{number}"), "name": "Tiberius Quuxford", "phone": "010-9876-5499", "birthDate": "1949-11-23", "memo": MEMO})
}

pub fn text(value: &Value) -> String {
    value
        .as_str()
        .unwrap_or_else(|| panic!("{value} is no text"))
        .to_owned()
}

/// Calls `each` with the type and the fields of each object of a response that has `__typename`.
pub fn objects(response: &Value, each: &mut impl FnMut(&str, &serde_json::Map<String, Value>)) {
    match response {
        Value::Object(fields) => {
            if let Some(of) = fields.get("__typename") {
                each(of.as_str().unwrap(), fields);
            }
            fields.values().for_each(|value| objects(value, each));
        }
        Value::Array(list) => list.iter().for_each(|value| objects(value, each)),
        _ => {}
    }
}
