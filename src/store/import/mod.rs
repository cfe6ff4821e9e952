//! Takes patients and visits of a file in, slice by slice: new ones are inserted, known ones changed where the file's source says
//! something new, and what staff did stays.
//!
//! [`Pass::Check`] decides what becomes of each row and changes nothing; [`Pass::Commit`] decides again under the lock of the
//! hospital's revision and writes, in one transaction a slice.

mod authors;
mod base;
mod patients;
mod three_way;
mod values;
mod visits;

use std::collections::{HashMap, HashSet};

use sea_orm::{ConnectionTrait, DatabaseTransaction, DbBackend};
use string_enum::string_enum;

use self::base::Base;
use self::three_way::{Comparison, compare};
use self::values::{Field, NumberHasher, Values};
use super::Store;
use super::history::{ChangeContext, FieldDifference, RecordKind};
use super::hospital_secret::HospitalSecret;
use crate::error::Result;
use crate::records::{PatientDraft, VisitDraft};

string_enum!(
    /// What becomes of a row of a file.
    ImportOutcome {
        Insert = "INSERT",
        Change = "CHANGE",
        Unchanged = "UNCHANGED",
        Conflict = "CONFLICT",
        Refused = "REFUSED",
        Blank = "BLANK",
    }
);

string_enum!(
    /// Whose value stands where a file says something new of what staff or SQL changed.
    ConflictPolicy {
        Keep = "KEEP",
        Overwrite = "OVERWRITE",
    }
);

/// Whether an import only says what it would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    Check,
    Commit,
}

/// How drafts of a file are taken in.
#[derive(Clone, Debug)]
pub struct ImportOptions {
    pub pass: Pass,
    pub conflicts: ConflictPolicy,
    /// The system that the file is from.
    pub source: String,
    /// Whether the fields of all rows are to be returned, and not only of conflicts.
    pub with_fields: bool,
    /// Who imports; none from the command line.
    pub staff: Option<i64>,
}

impl ImportOptions {
    /// Writes what a source says.
    #[must_use]
    pub fn commit(source: &str) -> Self {
        Self {
            pass: Pass::Commit,
            conflicts: ConflictPolicy::Keep,
            source: source.to_owned(),
            with_fields: false,
            staff: None,
        }
    }
}

/// What became of a row, or would become of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowResult {
    pub outcome: ImportOutcome,
    pub problems: Vec<DraftProblem>,
    /// The values that differ, before and after.
    pub fields: Vec<FieldDifference>,
    /// The patient whose data it shows, where it is known.
    pub patient: Option<i64>,
}

/// A problem of a draft. The message has no value of a patient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DraftProblem {
    /// As files name it, such as `birth_date`.
    pub column: Option<&'static str>,
    pub message: String,
}

impl RowResult {
    const fn new(outcome: ImportOutcome) -> Self {
        Self {
            outcome,
            problems: Vec::new(),
            fields: Vec::new(),
            patient: None,
        }
    }

    fn with_problem(outcome: ImportOutcome, column: Option<&'static str>, message: impl Into<String>) -> Self {
        let mut result = Self::new(outcome);
        result.add_problem(column, message);
        result
    }

    fn refused(column: &'static str, message: impl Into<String>) -> Self {
        Self::with_problem(ImportOutcome::Refused, Some(column), message)
    }

    fn add_problem(&mut self, column: Option<&'static str>, message: impl Into<String>) {
        let message = message.into();
        self.problems.push(DraftProblem { column, message });
    }
}

/// Takes drafts of a file into one hospital.
pub struct Importer<'a> {
    store: &'a Store,
    hospital: i64,
    options: ImportOptions,
    slices: u64,
    /// Chart numbers of erased patients that were reported already.
    reported_erased: HashSet<String>,
    /// Names of departments and doctors that a check found to be new, by table.
    planned: HashMap<&'static str, HashSet<String>>,
}

/// What a slice of drafts comes to.
struct Plan {
    results: Vec<RowResult>,
    /// What the source says now, by number; only where it differs from before.
    bases: Vec<(String, Base)>,
    /// Chart numbers of erased patients that are reported for the first time.
    erased: Vec<String>,
    planned: Vec<(&'static str, Vec<String>)>,
}

impl Plan {
    fn new(rows: usize) -> Self {
        Self {
            results: Vec::with_capacity(rows),
            bases: Vec::new(),
            erased: Vec::new(),
            planned: Vec::new(),
        }
    }
}

impl Store {
    /// Takes drafts of a file into the hospital.
    #[must_use]
    pub fn importer(&self, hospital: i64, options: ImportOptions) -> Importer<'_> {
        Importer {
            store: self,
            hospital,
            options,
            slices: 0,
            reported_erased: HashSet::new(),
            planned: HashMap::new(),
        }
    }
}

impl Importer<'_> {
    /// Patients, known by their chart number or new.
    ///
    /// # Errors
    /// Where the database fails; nothing of the slice is taken then.
    pub async fn patients(&mut self, drafts: &[PatientDraft]) -> Result<Vec<RowResult>> {
        let plan = match self.options.pass {
            Pass::Check => self.check_patients(drafts).await?,
            Pass::Commit => self.store.with_retry(|| self.commit_patients(drafts)).await?,
        };
        self.slice_done(plan).await
    }

    /// Visits, known by their visit number or new. `brought` are patients of the same file; those not known are inserted.
    ///
    /// # Errors
    /// Where the database fails; nothing of the slice is taken then.
    pub async fn visits(&mut self, drafts: &[VisitDraft<String>], brought: &[PatientDraft]) -> Result<Vec<RowResult>> {
        let plan = match self.options.pass {
            Pass::Check => self.check_visits(drafts, brought).await?,
            Pass::Commit => self.store.with_retry(|| self.commit_visits(drafts, brought)).await?,
        };
        self.slice_done(plan).await
    }

    /// PostgreSQL plans badly for tables that have grown much since it looked: it is made to look at each doubling.
    async fn slice_done(&mut self, plan: Plan) -> Result<Vec<RowResult>> {
        self.reported_erased.extend(plan.erased);
        for (table, names) in plan.planned {
            self.planned.entry(table).or_default().extend(names);
        }
        self.slices += 1;
        let is_due = self.options.pass == Pass::Commit && self.slices.is_power_of_two();
        if is_due && self.store.writer.get_database_backend() == DbBackend::Postgres {
            let tables = "patient, patient_name_suffix, visit, change_feed, record_change, import_base";
            self.store
                .writer
                .execute_unprepared(&format!("ANALYZE {tables}"))
                .await?;
        }
        Ok(plan.results)
    }

    fn change_context(&self) -> ChangeContext<'static> {
        ChangeContext {
            staff: self.options.staff,
            ..ChangeContext::IMPORT
        }
    }

    /// What the source said before of these numbers. Without a source there is nothing.
    async fn bases(&self, view: &DatabaseTransaction, record: RecordKind, numbers: &[&str]) -> Result<Bases> {
        let (store, hospital) = (self.store, self.hospital);
        let source = match self.options.pass {
            Pass::Check => {
                store
                    .import_source(view, hospital, record, &self.options.source)
                    .await?
            }
            Pass::Commit => Some(
                store
                    .import_source_or_new(view, hospital, record, &self.options.source)
                    .await?,
            ),
        };
        let secret = match self.options.pass {
            // Without a secret nothing was ever hashed.
            Pass::Check => store
                .hospital_secret(view, hospital)
                .await?
                .unwrap_or_else(HospitalSecret::random),
            Pass::Commit => store.hospital_secret_or_new(view, hospital).await?,
        };
        let known = match source {
            Some(source) => store.import_bases(view, hospital, source, numbers).await?,
            None => HashMap::new(),
        };
        Ok(Bases {
            source,
            key: secret.hash("import base", "")?,
            known,
        })
    }

    async fn save_bases(&self, transaction: &DatabaseTransaction, bases: &Bases, plan: &Plan) -> Result<()> {
        let Some(source) = bases.source else { return Ok(()) };
        let rows: Vec<(&str, Base)> = plan
            .bases
            .iter()
            .map(|(number, base)| (number.as_str(), base.clone()))
            .collect();
        self.store
            .save_import_bases(transaction, self.hospital, source, &rows)
            .await?;
        self.store
            .mark_numbers_reported(transaction, self.hospital, &plan.erased)
            .await
    }
}

/// What a source said before of the numbers of a slice.
struct Bases {
    source: Option<i64>,
    /// The key of the hashes.
    key: [u8; 16],
    known: HashMap<String, Base>,
}

impl Bases {
    fn before(&self, number: &str) -> Base {
        self.known.get(number).cloned().unwrap_or_default()
    }

    /// Notes what the source says now, where it differs from before.
    fn note(&self, plan: &mut Plan, number: &str, base: Base) {
        if self.known.get(number) != Some(&base) {
            plan.bases.push((number.to_owned(), base));
        }
    }

    /// What the source says now of a number whose rows are left out, and whether that is to be reported.
    fn note_left_out(&self, plan: &mut Plan, number: &str, said: &Values) -> bool {
        let before = self.before(number);
        let is_new = !before.left_out_reported;
        let base = Base {
            left_out_reported: true,
            ..self.compared(number, said, None).base
        };
        self.note(plan, number, base);
        is_new
    }

    /// Compares what the file says with what is there; none for a new record.
    fn compared(&self, number: &str, said: &Values, current: Option<&Values>) -> Compared {
        let hasher = NumberHasher::new(&self.key, number);
        let before = self.before(number);
        let mut hashes = Vec::with_capacity(said.len());
        let mut comparisons = Vec::with_capacity(said.len());
        for (field, said) in said.iter().enumerate() {
            let last_said = before.hash(field);
            let Some(said) = said else {
                hashes.push(last_said);
                comparisons.push(Comparison::Keep);
                continue;
            };
            hashes.push(hasher.hash(field, said));
            let current = current.map(|values| values.get(field).and_then(Option::as_ref));
            comparisons.push(match current {
                Some(current) => compare(said, current, last_said, |value| hasher.hash(field, value)),
                None => Comparison::Change,
            });
        }
        let base = Base {
            hashes,
            left_out_reported: false,
        };
        Compared { comparisons, base }
    }
}

/// A row held against what is there.
struct Compared {
    comparisons: Vec<Comparison>,
    /// What the source says now.
    base: Base,
}

impl Compared {
    /// Whether it takes the history to tell a conflict from a change.
    fn differs(&self) -> bool {
        self.comparisons.contains(&Comparison::Differs)
    }
}

/// What becomes of the fields of a record that is there already.
struct Decided {
    result: RowResult,
    /// For each field whether it is written.
    write: Vec<bool>,
}

impl Importer<'_> {
    /// Decides over the fields of a record; `by_people` are those that staff or SQL changed last.
    fn decide(
        &self,
        fields: &[Field],
        compared: &Compared,
        (said, current): (&Values, &Values),
        by_people: Option<&HashSet<&'static str>>,
    ) -> Decided {
        let mut result = RowResult::new(ImportOutcome::Unchanged);
        let mut write = vec![false; fields.len()];
        for (place, (field, comparison)) in fields.iter().zip(&compared.comparisons).enumerate() {
            let in_conflict =
                *comparison == Comparison::Differs && by_people.is_some_and(|by_people| by_people.contains(field.api));
            write[place] = match comparison {
                Comparison::Keep => continue,
                _ if in_conflict => self.options.conflicts == ConflictPolicy::Overwrite,
                _ => true,
            };
            if in_conflict {
                let kept = if write[place] { "overwritten" } else { "kept" };
                result.add_problem(
                    Some(field.column),
                    format!("differs from what was changed here since the last import; {kept}"),
                );
                result.outcome = ImportOutcome::Conflict;
            } else if result.outcome == ImportOutcome::Unchanged {
                result.outcome = ImportOutcome::Change;
            }
            if self.options.with_fields || in_conflict {
                result.fields.push(FieldDifference {
                    field: field.api,
                    before: current.get(place).cloned().flatten(),
                    after: said.get(place).cloned().flatten(),
                });
            }
        }
        Decided { result, write }
    }

    /// The result of a new record.
    fn inserted(&self, fields: &[Field], said: &Values) -> RowResult {
        let mut result = RowResult::new(ImportOutcome::Insert);
        if self.options.with_fields {
            let differences = fields.iter().zip(said).filter_map(|(field, said)| {
                Some(FieldDifference {
                    field: field.api,
                    before: None,
                    after: Some(said.clone()?),
                })
            });
            result.fields.extend(differences);
        }
        result
    }
}
