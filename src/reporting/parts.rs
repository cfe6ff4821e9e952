//! Breakdowns: a list divided into parts, each of which is a list.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};
use tracing::instrument;

use super::derived::{Content, Recipe};
use super::{Cohort, Reporting, bucket_index, spawn_cpu};
use crate::error::{Error, Result};
use crate::records::Sex;
use crate::statistics::{CohortList, VisitChannel, VisitDimension, VisitKey, VisitKeys};

/// What a list is divided by. Stored with parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum PartDimension {
    Sex,
    AgeBand,
    Department,
    Doctor,
    Channel,
    Weekday,
}

/// What a part has in common: the discriminant of a sex or channel, the tens of an age, the id of a department or doctor, or a weekday
/// from 0 for Monday; none where it is unknown. Stored with parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PartKey(pub Option<i64>);

/// The last band of ages: 90 and older.
const LAST_BAND: i32 = 9;
const WEEKDAYS: [&str; 7] = [
    "MONDAY",
    "TUESDAY",
    "WEDNESDAY",
    "THURSDAY",
    "FRIDAY",
    "SATURDAY",
    "SUNDAY",
];
/// The byte of a patient whose key is unknown.
const UNKNOWN: u8 = u8::MAX;

impl PartDimension {
    /// What visits are divided by; none where patients are.
    fn of_visits(self) -> Option<VisitDimension> {
        match self {
            Self::Sex | Self::AgeBand => None,
            Self::Department => Some(VisitDimension::Department),
            Self::Doctor => Some(VisitDimension::Doctor),
            Self::Channel => Some(VisitDimension::Channel),
            Self::Weekday => Some(VisitDimension::Weekday),
        }
    }

    /// The name under which the keys of patients are stored.
    const fn stored_name(self) -> &'static str {
        match self {
            Self::Sex => "part SEX",
            _ => "part AGE_BAND",
        }
    }
}

impl PartKey {
    /// The word of a sex, channel or weekday, or an age band such as 20-29; none of a department or doctor, and where it is unknown.
    #[must_use]
    pub fn word(self, by: PartDimension) -> Option<String> {
        let place = usize::try_from(self.0?).ok()?;
        match by {
            PartDimension::Sex => Some(Sex::ALL.get(place)?.as_str().to_owned()),
            PartDimension::AgeBand if place == LAST_BAND.unsigned_abs() as usize => Some("90+".to_owned()),
            PartDimension::AgeBand => Some(format!("{}-{}", place * 10, place * 10 + 9)),
            PartDimension::Channel => Some(VisitChannel::ALL.get(place)?.as_str().to_owned()),
            PartDimension::Weekday => Some((*WEEKDAYS.get(place)?).to_owned()),
            PartDimension::Department | PartDimension::Doctor => None,
        }
    }

    /// The part in words; departments and doctors without their names.
    pub(super) fn text(self, by: PartDimension) -> String {
        let what = match by {
            PartDimension::Sex => "sex",
            PartDimension::AgeBand => "age on asOf",
            PartDimension::Department => "one department",
            PartDimension::Doctor => "one doctor",
            PartDimension::Channel => "channel",
            PartDimension::Weekday => "weekday",
        };
        match (self.word(by), self.0) {
            (Some(word), _) => format!("{what} {word}"),
            (None, Some(_)) => format!("visits of {what}"),
            (None, None) => format!("{what} unknown").replace("one ", ""),
        }
    }
}

impl Reporting {
    /// The parts of a list, in the order of their keys, the unknown last; parts without patients are left out.
    ///
    /// # Errors
    /// BAD_USER_INPUT for the argument `by` where the list was stored without what it is to be divided by. Where the database fails.
    #[instrument(name = "reporting.breakdown", level = "debug", skip_all)]
    pub async fn breakdown(&self, of: &Cohort, by: PartDimension) -> Result<Vec<(PartKey, Cohort)>> {
        let Some(dimension) = by.of_visits() else {
            return self.by_patient(of, by).await;
        };
        let recipe = |key| Recipe::Part { of: of.id(), by, key };
        let depth = of.depth() + 1;
        let (resolved, bucket, kind) = match of {
            Cohort::Counted { resolved, bucket, kind } => (Arc::clone(resolved), *bucket, *kind),
            Cohort::Derived(_) => {
                let list = self.list(of).await?;
                let keys = if dimension == VisitDimension::Weekday {
                    HashMap::new()
                } else {
                    self.visit_keys(of).await?
                };
                let parts = spawn_cpu("dividing a list", move || divided(&list, dimension, &keys)).await?;
                let mut found = Vec::with_capacity(parts.len());
                for ((_, key), list) in parts {
                    let key = PartKey(key);
                    found.push((key, self.derived(recipe(key), depth, of, list).await?));
                }
                return Ok(found);
            }
        };
        let shared = Arc::clone(&resolved);
        let parts = spawn_cpu("dividing a list", move || {
            shared.snapshot.visit_parts(bucket, kind, dimension)
        })
        .await?;
        let parts = parts.ok_or_else(kept_without)?.into_iter().map(|part| {
            let key = PartKey(part.key);
            let content = Content::Part {
                resolved: Arc::clone(&resolved),
                part,
                list: OnceLock::new(),
            };
            Ok((key, self.derived_of(recipe(key), depth, of, &[], content)?))
        });
        parts.collect()
    }

    /// The parts by sex or age, as recorded when the list was first divided so.
    async fn by_patient(&self, of: &Cohort, by: PartDimension) -> Result<Vec<(PartKey, Cohort)>> {
        self.persist_list(of).await?;
        let (id, as_of) = (of.id(), of.basis()?.as_of);
        let (list, ids) = (self.list(of).await?, of.cut(Cohort::patient_ids).await?);
        let make = async || {
            let recorded = self.store.sexes_and_birth_years(of.hospital(), &ids).await?;
            let key = |id: &i64| {
                let (sex, birth_year) = recorded.get(id).copied().unwrap_or((Sex::Unknown, None));
                match by {
                    PartDimension::Sex => sex as u8,
                    _ => birth_year.map_or(UNKNOWN, |year| {
                        let age = chrono::Datelike::year(&as_of) - year;
                        u8::try_from((age / 10).clamp(0, LAST_BAND)).unwrap_or(UNKNOWN)
                    }),
                }
            };
            Ok(ids.iter().map(key).collect())
        };
        let snapshot = id.snapshot.to_string();
        let bucket = bucket_index(id.bucket);
        let keys = self
            .store
            .load_or_store_order(
                of.hospital(),
                &snapshot,
                bucket,
                id.kind.as_str(),
                by.stored_name(),
                make,
            )
            .await?;
        if keys.len() != ids.len() {
            return Err(Error::Internal(format!(
                "stored parts of the snapshot {snapshot} are damaged"
            )));
        }
        let parts = spawn_cpu("dividing a list", move || list.by_patient(|place| keys[place])).await?;
        let mut found = Vec::with_capacity(parts.len());
        for (key, list) in parts {
            let key = PartKey((key != UNKNOWN).then_some(i64::from(key)));
            let recipe = Recipe::Part { of: id, by, key };
            found.push((key, self.derived(recipe, of.depth() + 1, of, list).await?));
        }
        Ok(found)
    }

    /// The keys of the visits of a derived list, by id, as the newest of what it was made of has them.
    async fn visit_keys(&self, of: &Cohort) -> Result<HashMap<i64, VisitKeys>> {
        let derived = match of {
            Cohort::Counted { resolved, bucket, kind } => {
                let (resolved, bucket, kind) = (Arc::clone(resolved), *bucket, *kind);
                let keys = spawn_cpu("reading keys", move || resolved.snapshot.visit_keys(bucket, kind)).await?;
                return Ok(keys.ok_or_else(kept_without)?.into_iter().collect());
            }
            Cohort::Derived(derived) => Arc::clone(derived),
        };
        let mut sources = Vec::new();
        for source in derived.recipe.sources() {
            sources.extend(self.open(of.hospital(), source).await?);
        }
        sources.sort_by_key(|source| std::cmp::Reverse(source.computed_at()));
        let mut keys = HashMap::new();
        for source in &sources {
            for (visit, of_visit) in Box::pin(self.visit_keys(source)).await? {
                keys.entry(visit).or_insert(of_visit);
            }
        }
        Ok(keys)
    }
}

fn kept_without() -> Error {
    Error::input(
        "by",
        "the list was stored before departments, doctors and channels were kept with lists: ask for its statistics again",
    )
}

/// The parts of a list, those without a key last.
fn divided(
    list: &CohortList,
    by: VisitDimension,
    keys: &HashMap<i64, VisitKeys>,
) -> BTreeMap<(bool, VisitKey), CohortList> {
    const NONE: VisitKeys = VisitKeys {
        department: None,
        doctor: None,
        channel: VisitChannel::Other,
    };
    list.by_visit(|visit| {
        let key = by.key(keys.get(&visit.id).unwrap_or(&NONE), visit.date);
        (key.is_none(), key)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_words() {
        let word = |by, key| PartKey(Some(key)).word(by).unwrap();
        assert_eq!(word(PartDimension::AgeBand, 0), "0-9");
        assert_eq!(word(PartDimension::AgeBand, 2), "20-29");
        assert_eq!(word(PartDimension::AgeBand, 9), "90+");
        assert_eq!(word(PartDimension::Sex, 0), "FEMALE");
        assert_eq!(word(PartDimension::Weekday, 6), "SUNDAY");
        assert_eq!(word(PartDimension::Channel, 0), "WALK_IN");
        assert_eq!(PartKey(None).word(PartDimension::Sex), None);
        assert_eq!(PartKey(None).text(PartDimension::Department), "department unknown");
    }
}
