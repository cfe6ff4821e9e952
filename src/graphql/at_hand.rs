//! Answers without futures, and as JSON: async-graphql has some futures for each field and a value for each, and a year of counts
//! by DAY has thousands, a page of rows with what hangs under them hundreds.
//!
//! What is selected is written in one go. Rows under it that are not loaded yet are noted on the way; then they are loaded, all at
//! once, and the answer is written again.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::sync::Arc;

use async_graphql::dataloader::{DataLoader, Loader};
use async_graphql::parser::types::{Field, Selection, SelectionSet};
use async_graphql::registry::Registry;
use async_graphql::{ContextSelectionSet, Name, OutputType, Positioned, ServerResult, Value};
use chrono::NaiveDate;
use serde::Serialize;

use super::asker;
use super::hospital::{Department, Doctor};
use super::loaders::{AttendedOf, DepartmentId, DoctorId, EndsOf, Loaders, PatientId, VisitId, VisitTotalOf, VisitsOf};
use super::patient::Patient;
use super::visit::Visit;
use crate::error::{Error, Result};
use crate::store::{KeyedVisit, PatientEnds};

/// A type some of whose fields can be written at once.
pub(super) trait SomeAtHand: OutputType {
    /// Writes the field's value; none where it cannot be, or would be an error. Its resolver says the same.
    fn write(&self, ctx: &ContextSelectionSet<'_>, field: &Positioned<Field>, answer: &mut Answer<'_>) -> Option<()>;
}

impl<T: SomeAtHand> SomeAtHand for &T {
    fn write(&self, ctx: &ContextSelectionSet<'_>, field: &Positioned<Field>, answer: &mut Answer<'_>) -> Option<()> {
        T::write(self, ctx, field, answer)
    }
}

/// Of such a type. Where all that is selected can be written, it is; else it is resolved as always.
pub(super) struct AtHand<T>(pub(super) T);

/// A list of such a type, likewise.
pub(super) struct AllAtHand<T>(pub(super) Vec<T>);

impl<T: SomeAtHand> OutputType for AtHand<T> {
    fn type_name() -> Cow<'static, str> {
        T::type_name()
    }

    fn create_type_info(registry: &mut Registry) -> String {
        T::create_type_info(registry)
    }

    async fn resolve(&self, ctx: &ContextSelectionSet<'_>, field: &Positioned<Field>) -> ServerResult<Value> {
        let selection = &field.node.selection_set.node;
        match written(ctx, |answer| answer.object(&self.0, ctx, selection)).await {
            Some(json) => Ok(json),
            None => self.0.resolve(ctx, field).await,
        }
    }
}

impl<T: SomeAtHand> OutputType for AllAtHand<T> {
    fn type_name() -> Cow<'static, str> {
        Vec::<T>::type_name()
    }

    fn qualified_type_name() -> String {
        Vec::<T>::qualified_type_name()
    }

    fn create_type_info(registry: &mut Registry) -> String {
        Vec::<T>::create_type_info(registry)
    }

    async fn resolve(&self, ctx: &ContextSelectionSet<'_>, field: &Positioned<Field>) -> ServerResult<Value> {
        let selection = &field.node.selection_set.node;
        match written(ctx, |answer| answer.objects(&self.0, ctx, selection)).await {
            Some(json) => Ok(json),
            None => self.0.resolve(ctx, field).await,
        }
    }
}

/// Writes until nothing is lacking. None where something cannot be written, or loading fails: its resolver will say of which field
/// that is.
async fn written(ctx: &ContextSelectionSet<'_>, write: impl Fn(&mut Answer<'_>) -> Option<()>) -> Option<Value> {
    // async-graphql merges values, not JSON.
    if asker::merges(ctx) {
        return None;
    }
    let mut rows = Rows::default();
    loop {
        let mut answer = Answer {
            json: Vec::new(),
            rows: &mut rows,
        };
        write(&mut answer)?;
        let json = answer.json;
        if !rows.lack() {
            return Some(Value::Binary(json.into()));
        }
        rows.load(ctx).await.ok()?;
    }
}

/// An answer while it is written.
pub(super) struct Answer<'a> {
    json: Vec<u8>,
    pub(super) rows: &'a mut Rows,
}

impl Answer<'_> {
    /// Writes a value that is no object of the schema's.
    pub(super) fn value(&mut self, of: &impl Serialize) -> Option<()> {
        serde_json::to_writer(&mut self.json, of).ok()
    }

    /// Writes what is selected of an object.
    pub(super) fn object<T: SomeAtHand>(
        &mut self,
        of: &T,
        ctx: &ContextSelectionSet<'_>,
        selection: &SelectionSet,
    ) -> Option<()> {
        self.json.push(b'{');
        let mut names = Vec::with_capacity(selection.items.len());
        self.fields(of, ctx, selection, &mut names)?;
        self.json.push(b'}');
        Some(())
    }

    /// Likewise, or null.
    pub(super) fn object_or_null<T: SomeAtHand>(
        &mut self,
        of: Option<&T>,
        ctx: &ContextSelectionSet<'_>,
        selection: &SelectionSet,
    ) -> Option<()> {
        match of {
            Some(of) => self.object(of, ctx, selection),
            None => self.value(&()),
        }
    }

    /// Writes what is selected of each object of a list.
    pub(super) fn objects<T: SomeAtHand>(
        &mut self,
        list: impl IntoIterator<Item = T>,
        ctx: &ContextSelectionSet<'_>,
        selection: &SelectionSet,
    ) -> Option<()> {
        self.json.push(b'[');
        for (place, of) in list.into_iter().enumerate() {
            if place > 0 {
                self.json.push(b',');
            }
            self.object(&of, ctx, selection)?;
        }
        self.json.push(b']');
        Some(())
    }

    /// Stands where a row is lacking: the answer will be written again.
    pub(super) fn lacking(&mut self) -> Option<()> {
        self.value(&())
    }

    /// Writes what is selected of a row, or null where there is none, or where it is lacking.
    pub(super) fn row<T: SomeAtHand>(
        &mut self,
        found: Option<Option<Arc<T>>>,
        ctx: &ContextSelectionSet<'_>,
        selection: &SelectionSet,
    ) -> Option<()> {
        self.object_or_null(found.flatten().as_deref(), ctx, selection)
    }

    /// Writes a count, of which there is no row where it is 0.
    pub(super) fn count(&mut self, found: Option<Option<Arc<u64>>>) -> Option<()> {
        self.value(&found.flatten().map_or(0, |count| *count))
    }

    fn fields<'a, T: SomeAtHand>(
        &mut self,
        of: &T,
        ctx: &'a ContextSelectionSet<'_>,
        selection: &'a SelectionSet,
        names: &mut Vec<&'a Name>,
    ) -> Option<()> {
        for item in &selection.items {
            match &item.node {
                // Directives, and what is selected twice, are async-graphql's.
                Selection::Field(field) if field.node.directives.is_empty() => {
                    let name = &field.node.response_key().node;
                    if names.contains(&name) {
                        return None;
                    }
                    if !names.is_empty() {
                        self.json.push(b',');
                    }
                    names.push(name);
                    // A name has no character that JSON would escape.
                    self.json.push(b'"');
                    self.json.extend_from_slice(name.as_bytes());
                    self.json.extend_from_slice(b"\":");
                    match field.node.name.node.as_str() {
                        "__typename" => self.value(&T::type_name())?,
                        _ => of.write(ctx, field, self)?,
                    }
                }
                Selection::FragmentSpread(spread) if spread.node.directives.is_empty() => {
                    let fragment = &ctx.query_env.fragments.get(&spread.node.fragment_name.node)?.node;
                    if *fragment.type_condition.node.on.node != *T::type_name() {
                        return None;
                    }
                    self.fields(of, ctx, &fragment.selection_set.node, names)?;
                }
                Selection::InlineFragment(fragment) if fragment.node.directives.is_empty() => {
                    let on = fragment.node.type_condition.as_ref();
                    if on.is_some_and(|on| *on.node.on.node != *T::type_name()) {
                        return None;
                    }
                    self.fields(of, ctx, &fragment.node.selection_set.node, names)?;
                }
                _ => return None,
            }
        }
        Some(())
    }
}

/// Rows that hang under others: those that are loaded, and the keys of those that are lacking.
pub(super) struct Under<K, V> {
    loaded: HashMap<K, Option<Arc<V>>>,
    lacking: HashSet<K>,
}

impl<K, V> Default for Under<K, V> {
    fn default() -> Self {
        Self {
            loaded: HashMap::new(),
            lacking: HashSet::new(),
        }
    }
}

impl<K: Eq + Hash + Clone + Send + Sync + 'static, V> Under<K, V> {
    /// What has this key, if anything; none at all where that is to be loaded first.
    pub(super) fn get(&mut self, key: K) -> Option<Option<Arc<V>>> {
        let found = self.loaded.get(&key).cloned();
        if found.is_none() {
            self.lacking.insert(key);
        }
        found
    }

    async fn load<R: Into<V> + Send + Clone>(&mut self, loaders: &DataLoader<Loaders>) -> Result<()>
    where
        Loaders: Loader<K, Value = R, Error = Error>,
    {
        let lacking = std::mem::take(&mut self.lacking);
        if lacking.is_empty() {
            return Ok(());
        }
        let mut found = loaders.load_many(lacking.iter().cloned()).await?;
        for key in lacking {
            let row = found.remove(&key).map(|row| Arc::new(row.into()));
            self.loaded.insert(key, row);
        }
        Ok(())
    }
}

/// What hangs under the rows of one answer.
#[derive(Default)]
pub(super) struct Rows {
    pub(super) patients: Under<PatientId, Patient>,
    pub(super) visits: Under<VisitId, Visit>,
    pub(super) departments: Under<DepartmentId, Department>,
    pub(super) doctors: Under<DoctorId, Doctor>,
    pub(super) visits_of: Under<VisitsOf, Vec<KeyedVisit>>,
    pub(super) visit_totals: Under<VisitTotalOf, u64>,
    pub(super) ends: Under<EndsOf, PatientEnds>,
    pub(super) attended: Under<AttendedOf, u64>,
    today: Option<NaiveDate>,
    today_lacks: bool,
}

impl Rows {
    /// The date now in the hospital's time zone; none where it is to be asked for first.
    pub(super) fn today(&mut self) -> Option<NaiveDate> {
        self.today_lacks = self.today.is_none();
        self.today
    }

    fn lack(&self) -> bool {
        !(self.patients.lacking.is_empty()
            && self.visits.lacking.is_empty()
            && self.departments.lacking.is_empty()
            && self.doctors.lacking.is_empty()
            && self.visits_of.lacking.is_empty()
            && self.visit_totals.lacking.is_empty()
            && self.ends.lacking.is_empty()
            && self.attended.lacking.is_empty()
            && !self.today_lacks)
    }

    async fn load(&mut self, ctx: &ContextSelectionSet<'_>) -> Result<()> {
        let loaders = asker::loaders(ctx)?;
        let today = async {
            if std::mem::take(&mut self.today_lacks) {
                self.today = Some(asker::today(ctx).await?);
            }
            Ok(())
        };
        tokio::try_join!(
            self.patients.load(loaders),
            self.visits.load(loaders),
            self.departments.load(loaders),
            self.doctors.load(loaders),
            self.visits_of.load(loaders),
            self.visit_totals.load(loaders),
            self.ends.load(loaders),
            self.attended.load(loaders),
            today,
        )?;
        Ok(())
    }
}
