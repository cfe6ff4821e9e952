//! Lists that are derived from others: parts, narrowed lists and sets. Each is stored as a snapshot of its own with one list, under an id that
//! follows from what it is made of and from its content.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use chrono::{DateTime, NaiveDate, SubsecRound as _, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::sync::OnceCell;
use tracing::instrument;

use super::parts::{PartDimension, PartKey};
use super::retention::ResolvedRetention;
use super::{
    Cohort, CohortId, Reporting, ResolvedStatistics, SnapshotId, bucket_index, bucket_of_index, identity, next_serial,
    spawn_cpu,
};
use crate::error::{Error, Result};
use crate::records::Sex;
use crate::statistics::{self, BucketRef, CohortList, PackedSnapshot, SetExpression, VisitPart, combine};
use crate::store::{ListKind, PatientFacts, Revision, SnapshotRow, StoredAs, StoredSnapshot};

/// What a derived list is made of. It is stored with the list, and must stay readable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Recipe {
    /// The patients of a list who meet conditions.
    Narrowed {
        of: CohortId,
        conditions: PatientConditions,
    },
    Set(SetRecipe),
    /// The new patients of a bucket who came again in the days from `from` to `to`, `offset` units later.
    Cell {
        of: CohortId,
        offset: u32,
        from: NaiveDate,
        to: NaiveDate,
    },
    /// All cells of a snapshot: no list, but stored like one.
    Retention {
        of: String,
        horizon: u32,
    },
    /// The part of a list that has a key.
    Part {
        of: CohortId,
        by: PartDimension,
        key: PartKey,
    },
}

/// A set of lists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SetRecipe {
    List(CohortId),
    AnyOf(Vec<Self>),
    AllOf(Vec<Self>),
    ButNot(Box<Self>, Box<Self>),
}

/// Conditions of patients: all that are given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PatientConditions {
    #[serde(with = "sexes")]
    pub sexes: Option<Vec<Sex>>,
    /// Years on asOf, both included.
    pub age_from: Option<i32>,
    pub age_to: Option<i32>,
    pub has_phone: Option<bool>,
    pub has_next_visit: Option<bool>,
    pub may_be_contacted: Option<bool>,
}

/// The words of sexes.
mod sexes {
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    use crate::records::Sex;

    pub(super) fn serialize<S: Serializer>(sexes: &Option<Vec<Sex>>, serializer: S) -> Result<S::Ok, S::Error> {
        let words = sexes.as_ref();
        words
            .map(|sexes| sexes.iter().map(|sex| sex.as_str()).collect::<Vec<_>>())
            .serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<Sex>>, D::Error> {
        let words = Option::<Vec<String>>::deserialize(deserializer)?;
        Ok(words.map(|words| words.iter().filter_map(|word| Sex::parse(word)).collect()))
    }
}

impl Serialize for CohortId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        (self.snapshot.to_string(), bucket_index(self.bucket), self.kind.as_str()).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for CohortId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let (snapshot, bucket, kind) = <(String, i32, String)>::deserialize(deserializer)?;
        let id = || {
            Some(Self {
                snapshot: SnapshotId::from_text(&snapshot)?,
                bucket: bucket_of_index(bucket),
                kind: ListKind::parse(&kind)?,
            })
        };
        id().ok_or_else(|| serde::de::Error::custom("no list is named so"))
    }
}

impl PatientConditions {
    /// Whether a patient meets them; `as_of` is the day for which the age is computed.
    fn hold(&self, facts: &PatientFacts, as_of: NaiveDate) -> bool {
        let age = facts.birth_year.map(|year| chrono::Datelike::year(&as_of) - year);
        let is = |wanted: Option<bool>, fact: bool| wanted.is_none_or(|wanted| wanted == fact);
        self.sexes.as_ref().is_none_or(|sexes| sexes.contains(&facts.sex))
            && self.age_from.is_none_or(|from| age.is_some_and(|age| age >= from))
            && self.age_to.is_none_or(|to| age.is_some_and(|age| age <= to))
            && is(self.has_phone, facts.has_phone)
            && is(self.has_next_visit, facts.has_next_visit)
            && is(self.may_be_contacted, facts.may_be_contacted)
    }

    /// The conditions in words.
    fn text(&self) -> String {
        let mut texts = Vec::new();
        if let Some(sexes) = &self.sexes {
            let words: Vec<&str> = sexes.iter().map(|sex| sex.as_str()).collect();
            texts.push(format!("sex {}", words.join(" or ")));
        }
        match (self.age_from, self.age_to) {
            (Some(from), Some(to)) => texts.push(format!("aged {from} to {to}")),
            (Some(from), None) => texts.push(format!("aged {from} or more")),
            (None, Some(to)) => texts.push(format!("aged {to} or less")),
            (None, None) => {}
        }
        let mut put = |value: Option<bool>, yes: &str, no: &str| {
            texts.extend(value.map(|value| if value { yes } else { no }.to_owned()));
        };
        put(self.has_phone, "with a phone", "without a phone");
        put(self.has_next_visit, "with a next visit", "without a next visit");
        put(
            self.may_be_contacted,
            "who may be contacted",
            "who are not to be contacted",
        );
        if texts.is_empty() {
            "all".to_owned()
        } else {
            texts.join(", ")
        }
    }
}

impl SetRecipe {
    /// Adds the lists of the set, in their order.
    pub fn lists(&self, into: &mut Vec<CohortId>) {
        match self {
            Self::List(id) => into.push(*id),
            Self::AnyOf(parts) | Self::AllOf(parts) => parts.iter().for_each(|part| part.lists(into)),
            Self::ButNot(of, without) => {
                of.lists(into);
                without.lists(into);
            }
        }
    }

    /// How deep it is nested; 0 for a list alone.
    #[must_use]
    pub fn depth(&self) -> usize {
        match self {
            Self::List(_) => 0,
            Self::AnyOf(parts) | Self::AllOf(parts) => 1 + parts.iter().map(Self::depth).max().unwrap_or(0),
            Self::ButNot(of, without) => 1 + of.depth().max(without.depth()),
        }
    }

    /// As an expression of places among these lists.
    fn expression(&self, places: &HashMap<CohortId, usize>) -> Option<SetExpression> {
        let all = |parts: &[Self]| {
            parts
                .iter()
                .map(|part| part.expression(places))
                .collect::<Option<Vec<_>>>()
        };
        Some(match self {
            Self::List(id) => SetExpression::List(*places.get(id)?),
            Self::AnyOf(parts) => SetExpression::AnyOf(all(parts)?),
            Self::AllOf(parts) => SetExpression::AllOf(all(parts)?),
            Self::ButNot(of, without) => {
                SetExpression::ButNot(Box::new(of.expression(places)?), Box::new(without.expression(places)?))
            }
        })
    }

    /// The set in words, with the lists by `name`.
    fn text(&self, name: &impl Fn(CohortId) -> String) -> String {
        let joined = |parts: &[Self], word: &str| {
            let parts: Vec<String> = parts.iter().map(|part| part.part_text(name)).collect();
            parts.join(word)
        };
        match self {
            Self::List(id) => name(*id),
            Self::AnyOf(parts) => joined(parts, " or "),
            Self::AllOf(parts) => joined(parts, " and "),
            Self::ButNot(of, without) => format!("{} but not {}", of.part_text(name), without.part_text(name)),
        }
    }

    fn part_text(&self, name: &impl Fn(CohortId) -> String) -> String {
        match self {
            Self::List(_) => self.text(name),
            _ => format!("({})", self.text(name)),
        }
    }
}

impl Recipe {
    /// The lists that it is made of, each once, in their order.
    #[must_use]
    pub fn sources(&self) -> Vec<CohortId> {
        let mut all = Vec::new();
        match self {
            Self::Narrowed { of, .. } | Self::Part { of, .. } | Self::Cell { of, .. } => all.push(*of),
            Self::Retention { .. } => {}
            Self::Set(set) => set.lists(&mut all),
        }
        let mut seen = std::collections::HashSet::new();
        all.retain(|id| seen.insert(*id));
        all
    }

    /// What it is made of, in words, with the lists by `name`.
    pub fn text(&self, name: impl Fn(CohortId) -> String) -> String {
        match self {
            Self::Narrowed { of, conditions } => format!("{}: {}", name(*of), conditions.text()),
            Self::Set(set) => set.text(&name),
            Self::Cell { of, from, to, .. } => format!("{}: those who came again from {from} to {to}", name(*of)),
            Self::Retention { .. } => "retention".to_owned(),
            Self::Part { of, by, key } => format!("{}: {}", name(*of), key.text(*by)),
        }
    }
}

/// A recipe as it is stored.
#[derive(Serialize, Deserialize)]
pub(super) struct StoredRecipe {
    pub(super) recipe: Recipe,
    /// Derivations on one another, this one included.
    pub(super) depth: usize,
}

/// A derived list.
pub struct DerivedList {
    pub id: SnapshotId,
    /// As of a snapshot.
    pub(super) serial: u64,
    pub recipe: Recipe,
    /// Derivations on one another, this one included.
    pub depth: usize,
    /// What is stored of it besides its list. Its question, revision and times are those of the newest source.
    row: SnapshotRow,
    content: Content,
    /// Set once it is in the database.
    persisted: OnceCell<()>,
}

/// What a derived list has.
pub(super) enum Content {
    Whole(Arc<CohortList>),
    /// A cell, whose list is made at first use.
    Cell {
        retention: Arc<ResolvedRetention>,
        row: usize,
        place: usize,
        list: OnceLock<Arc<CohortList>>,
    },
    /// A part of a cohort, whose list is made at first use.
    Part {
        resolved: Arc<ResolvedStatistics>,
        part: VisitPart,
        list: OnceLock<Arc<CohortList>>,
    },
}

impl Content {
    fn list(&self) -> &Arc<CohortList> {
        match self {
            Self::Whole(list) => list,
            Self::Cell {
                retention,
                row,
                place,
                list,
            } => list.get_or_init(|| {
                let cell = retention.cells.cell(*row, *place);
                Arc::new(cell.map(statistics::Cell::list).unwrap_or_default())
            }),
            Self::Part { resolved, part, list } => list.get_or_init(|| Arc::new(resolved.snapshot.part(part))),
        }
    }
}

/// The data and the day for which a list was counted: of a derived one, those of its newest source.
pub(super) struct Basis {
    pub as_of: NaiveDate,
    /// Whether the definition is a proposed one.
    pub proposed: bool,
    pub revision: Revision,
    /// The highest id of a visit then; none where that is unknown.
    pub newest_visit: Option<i64>,
}

impl DerivedList {
    pub(super) fn cohort_id(&self) -> CohortId {
        CohortId {
            snapshot: self.id,
            bucket: BucketRef::Total,
            kind: ListKind::Derived,
        }
    }

    pub(super) fn hospital(&self) -> i64 {
        self.row.hospital_id
    }

    /// The approximate size in memory, in bytes.
    pub(super) fn bytes(&self) -> usize {
        let content = match &self.content {
            Content::Whole(list) => list.bytes(),
            Content::Cell { list, .. } => list.get().map_or(0, |list| list.bytes()),
            Content::Part { part, list, .. } => part.bytes() + list.get().map_or(0, |list| list.bytes()),
        };
        content + self.row.recipe.as_ref().map_or(0, Vec::len) + size_of::<Self>()
    }

    /// Both lists; the first use of a part's may take a while.
    pub(super) fn list(&self) -> &Arc<CohortList> {
        self.content.list()
    }

    pub(super) fn patient_count(&self) -> usize {
        match &self.content {
            Content::Whole(list) => list.patients.len(),
            Content::Cell {
                retention, row, place, ..
            } => retention
                .cells
                .cell(*row, *place)
                .map_or(0, statistics::Cell::patient_count),
            Content::Part { part, .. } => part.patient_count(),
        }
    }

    pub(super) fn visit_count(&self) -> usize {
        match &self.content {
            Content::Whole(list) => list.visits.len(),
            Content::Cell {
                retention, row, place, ..
            } => retention
                .cells
                .cell(*row, *place)
                .map_or(0, statistics::Cell::visit_count),
            Content::Part { part, .. } => part.visit_count(),
        }
    }

    /// Whether the patient is in the list.
    #[must_use]
    pub fn contains(&self, patient: i64) -> bool {
        let patients = &self.list().patients;
        patients.binary_search_by_key(&patient, |counted| counted.id).is_ok()
    }
}

impl Cohort {
    /// The number of derivations on one another; 0 for a cohort of a bucket.
    #[must_use]
    pub fn depth(&self) -> usize {
        match self {
            Self::Counted { .. } => 0,
            Self::Derived(derived) => derived.depth,
        }
    }

    fn row(&self) -> Result<SnapshotRow> {
        match self {
            Self::Counted { resolved, .. } => resolved.row(),
            Self::Derived(derived) => Ok(derived.row.clone()),
        }
    }

    pub(super) fn computed_at(&self) -> DateTime<Utc> {
        match self {
            Self::Counted { resolved, .. } => resolved.computed_at,
            Self::Derived(derived) => derived.row.computed_at,
        }
    }

    pub(super) fn basis(&self) -> Result<Basis> {
        Ok(match self {
            Self::Counted { resolved, .. } => Basis {
                as_of: resolved.snapshot.question().as_of.date(),
                proposed: resolved.snapshot.definition().is_proposed(),
                revision: resolved.parsed_revision()?,
                newest_visit: resolved.knows_newest_visit().then_some(resolved.newest_visit),
            },
            Self::Derived(derived) => Basis {
                as_of: derived.row.as_of,
                proposed: derived.row.counted_version == Some(0),
                revision: Revision::parse(&derived.row.revision).ok_or_else(|| {
                    Error::Internal(format!("the derived list {} has a malformed revision", derived.id))
                })?,
                newest_visit: (derived.row.newest_visit_id >= 0).then_some(derived.row.newest_visit_id),
            },
        })
    }

    /// What the list is, in words.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Counted { resolved, bucket, kind } => {
                let question = resolved.snapshot.question();
                let bounds = resolved.snapshot.bucket(*bucket).map(|bucket| bucket.bounds);
                let when = match (bucket, bounds) {
                    (BucketRef::At(_), Some(bounds)) => statistics::when(question.period, bounds),
                    _ => format!("from {} to {}", question.range.from, question.range.to),
                };
                format!("{} {when} as of {}", kind.as_str(), question.as_of)
            }
            Self::Derived(_) => "a derived list".to_owned(),
        }
    }
}

impl Reporting {
    /// The patients of a list who meet the conditions, by what is known of them now; of who stays where records were merged.
    ///
    /// # Errors
    /// Where the database fails.
    #[instrument(name = "reporting.narrow", level = "debug", skip_all)]
    pub async fn narrowed(&self, of: &Cohort, conditions: PatientConditions, today: NaiveDate) -> Result<Cohort> {
        let as_of = of.basis()?.as_of;
        let list = self.list(of).await?;
        let ids = of.cut(Cohort::patient_ids).await?;
        let facts = self.store.patient_facts(of.hospital(), &ids, today).await?;
        let recipe = Recipe::Narrowed {
            of: of.id(),
            conditions: conditions.clone(),
        };
        let narrowed = spawn_cpu("narrowing a list", move || {
            let meets = |id: i64| facts.get(&id).is_some_and(|facts| conditions.hold(facts, as_of));
            list.narrowed(meets)
        });
        self.derived(recipe, of.depth() + 1, of, narrowed.await?).await
    }

    /// The set of these lists, which are open: those that the recipe names.
    ///
    /// # Errors
    /// Where the database fails.
    #[instrument(name = "reporting.combine", level = "debug", skip_all)]
    pub async fn combined(&self, set: SetRecipe, mut sources: Vec<Cohort>) -> Result<Cohort> {
        let none = || Error::Internal("a set is made of no list".to_owned());
        let depth = set.depth().max(1) + sources.iter().map(Cohort::depth).max().unwrap_or(0);
        sources.sort_by_key(|source| std::cmp::Reverse(source.computed_at()));
        let newest = sources.first().cloned().ok_or_else(none)?;
        let places = sources.iter().map(Cohort::id).zip(0..).collect();
        let expression = set.expression(&places).ok_or_else(none)?;
        let merged = self.store.merged_into(newest.hospital()).await?;
        let mut lists = Vec::with_capacity(sources.len());
        for source in &sources {
            lists.push(self.list(source).await?);
        }
        let combined = spawn_cpu("combining lists", move || {
            let lists: Vec<&CohortList> = lists.iter().map(Arc::as_ref).collect();
            if merged.is_empty() {
                return combine(&expression, &lists, |id| id);
            }
            combine(&expression, &lists, |id| merged.get(&id).copied().unwrap_or(id))
        });
        self.derived(Recipe::Set(set), depth, &newest, combined.await?).await
    }

    /// A derived list; not stored yet. `newest` is the source whose question and revision it has.
    pub(super) async fn derived(
        &self,
        recipe: Recipe,
        depth: usize,
        newest: &Cohort,
        list: CohortList,
    ) -> Result<Cohort> {
        let list = Arc::new(list);
        let shared = Arc::clone(&list);
        let content = spawn_cpu("packing a list", move || Sha256::digest(shared.pack())).await?;
        self.derived_of(recipe, depth, newest, &content, Content::Whole(list))
    }

    /// The same; `identity` tells apart the lists that the recipe may make.
    pub(super) fn derived_of(
        &self,
        recipe: Recipe,
        depth: usize,
        newest: &Cohort,
        identity: &[u8],
        content: Content,
    ) -> Result<Cohort> {
        let failed = |error: serde_json::Error| Error::Internal(format!("a recipe cannot be written: {error}"));
        let text = serde_json::to_vec(&StoredRecipe {
            recipe: recipe.clone(),
            depth,
        })
        .map_err(failed)?;
        let digest = Sha256::digest([identity, &text].concat());
        let id = SnapshotId(std::array::from_fn(|i| digest[i]));
        let row = SnapshotRow {
            id: id.to_string(),
            recipe: Some(text),
            manifest: Vec::new(),
            expired_at: None,
            pinned_at: None,
            pinned_by: None,
            label: None,
            pin_number: None,
            ..newest.row()?
        };
        if let Some(known) = self.derived.get(&(row.hospital_id, id)) {
            return Ok(Cohort::Derived(known));
        }
        Ok(Cohort::Derived(Arc::new(DerivedList {
            id,
            serial: next_serial(),
            recipe,
            depth,
            row,
            content,
            persisted: OnceCell::new(),
        })))
    }

    /// Stores a derived list, with what it is made of.
    pub(super) async fn persist_derived(&self, derived: &Arc<DerivedList>) -> Result<()> {
        if derived.persisted.initialized() {
            return Ok(());
        }
        let store = async || {
            let hospital = derived.hospital();
            let mut sources: Vec<String> = Vec::new();
            for source in derived.recipe.sources() {
                // An expired one fails here.
                if let Some(source) = self.open(hospital, source).await? {
                    Box::pin(self.persist_list(&source)).await?;
                    sources.push(source.id().snapshot.to_string());
                }
            }
            let shared = Arc::clone(derived);
            let packed = spawn_cpu("packing a list", move || PackedSnapshot {
                patients: shared.list().pack(),
                buckets: Vec::new(),
            });
            let row = SnapshotRow {
                kept_at: Utc::now().trunc_subsecs(6),
                ..derived.row.clone()
            };
            match self.store.store_list(&row, &packed.await?, &sources).await? {
                StoredAs::Same => Ok(()),
                StoredAs::Other => Err(Error::Internal(format!(
                    "another list is stored under the id of the derived list {}",
                    derived.id
                ))),
                StoredAs::SourceExpired => Err(Error::Busy),
            }
        };
        derived.persisted.get_or_try_init(store).await?;
        self.derived
            .insert((derived.hospital(), derived.id), Arc::clone(derived));
        Ok(())
    }

    /// Loads a derived list; none where there never was one of that id.
    pub(super) async fn load_derived(&self, hospital: i64, id: SnapshotId) -> Result<Option<Arc<DerivedList>>> {
        if let Some(found) = self.derived.get(&(hospital, id)) {
            return Ok(Some(found));
        }
        let (row, packed) = match self.store.load_snapshot(hospital, &id.to_string()).await? {
            Some(StoredSnapshot::Whole(row, packed)) if row.recipe.is_some() => (row, packed),
            Some(StoredSnapshot::Expired(row)) if row.recipe.is_some() => {
                let (question, _) = identity::question_of(&row)?;
                return Err(Error::expired(question));
            }
            _ => return Ok(None),
        };
        let damaged = |error: serde_json::Error| Error::Internal(format!("the derived list {id} is damaged: {error}"));
        let stored = row.recipe.as_deref().unwrap_or_default();
        let StoredRecipe { recipe, depth } = serde_json::from_slice(stored).map_err(damaged)?;
        if matches!(recipe, Recipe::Retention { .. }) {
            return Ok(None);
        }
        let list = spawn_cpu("unpacking a list", move || CohortList::unpack(&packed.patients)).await??;
        let derived = Arc::new(DerivedList {
            id,
            serial: next_serial(),
            recipe,
            depth,
            row,
            content: Content::Whole(Arc::new(list)),
            persisted: OnceCell::new_with(Some(())),
        });
        self.derived.insert((hospital, id), Arc::clone(&derived));
        Ok(Some(derived))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::CohortKind;

    /// Stored recipes are read by later versions.
    #[test]
    fn recipes_stay_readable() {
        let of = |bucket| CohortId {
            snapshot: SnapshotId([7; 16]),
            bucket,
            kind: ListKind::Cohort(CohortKind::New),
        };
        let derived = CohortId {
            kind: ListKind::Derived,
            ..of(BucketRef::Total)
        };
        let conditions = PatientConditions {
            sexes: Some(vec![Sex::Female]),
            age_from: Some(30),
            has_next_visit: Some(false),
            ..PatientConditions::default()
        };
        let narrowed = Recipe::Narrowed {
            of: of(BucketRef::At(2)),
            conditions,
        };
        let set = Recipe::Set(SetRecipe::ButNot(
            Box::new(SetRecipe::AnyOf(vec![
                SetRecipe::List(derived),
                SetRecipe::List(of(BucketRef::At(0))),
            ])),
            Box::new(SetRecipe::AllOf(vec![SetRecipe::List(derived)])),
        ));
        let id = "07".repeat(16);
        for (recipe, text) in [
            (
                narrowed,
                format!(
                    r#"{{"narrowed":{{"of":["{id}",2,"NEW"],"conditions":{{"sexes":["FEMALE"],"ageFrom":30,"ageTo":null,"hasPhone":null,"hasNextVisit":false,"mayBeContacted":null}}}}}}"#
                ),
            ),
            (
                set,
                format!(
                    r#"{{"set":{{"butNot":[{{"anyOf":[{{"list":["{id}",-1,"DERIVED"]}},{{"list":["{id}",0,"NEW"]}}]}},{{"allOf":[{{"list":["{id}",-1,"DERIVED"]}}]}}]}}}}"#
                ),
            ),
        ] {
            assert_eq!(serde_json::to_string(&recipe).unwrap(), text);
            assert_eq!(serde_json::from_str::<Recipe>(&text).unwrap(), recipe);
        }
    }
}
