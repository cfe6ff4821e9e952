//! Parts of a list: its visits by department, doctor, channel or weekday, its patients by a key that the caller knows.

use std::collections::BTreeMap;

use string_enum::string_enum;

use super::bit_set::BitSet;
use super::snapshot::{CohortList, CountedPatient, CountedVisit, Snapshot};
use super::{BucketRef, CohortKind, Day, VisitChannel};

string_enum!(
    /// What the visits of a list are divided by.
    VisitDimension {
        Department = "DEPARTMENT",
        Doctor = "DOCTOR",
        Channel = "CHANNEL",
        Weekday = "WEEKDAY",
    }
);

/// What the visits of a part have in common: the id of a department or doctor, the discriminant of a channel, or a weekday, from 0 for
/// Monday. `None` without a department or doctor.
pub type VisitKey = Option<i64>;

/// What a visit is divided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VisitKeys {
    pub department: Option<i64>,
    pub doctor: Option<i64>,
    pub channel: VisitChannel,
}

impl VisitDimension {
    /// The key of a visit.
    #[must_use]
    pub fn key(self, keys: &VisitKeys, date: Day) -> VisitKey {
        match self {
            Self::Department => keys.department,
            Self::Doctor => keys.doctor,
            Self::Channel => Some(i64::from(keys.channel as u8)),
            Self::Weekday => Some(weekday(date)),
        }
    }
}

/// 0 for Monday.
fn weekday(day: Day) -> i64 {
    // 0001-01-01, a Monday, is day 1.
    i64::from((day.0 - 1).rem_euclid(7))
}

/// A part of a cohort: its visits, and the patients of these.
pub struct VisitPart {
    pub key: VisitKey,
    /// By number, each once.
    patients: Vec<u32>,
    /// By index.
    visits: Vec<u32>,
}

impl VisitPart {
    /// The number of patients.
    #[must_use]
    pub fn patient_count(&self) -> usize {
        self.patients.len()
    }

    /// The number of visits.
    #[must_use]
    pub fn visit_count(&self) -> usize {
        self.visits.len()
    }

    /// The size in memory, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        (self.patients.capacity() + self.visits.capacity()) * size_of::<u32>() + size_of::<Self>()
    }
}

impl Snapshot {
    /// The parts of a cohort, in one pass over its visits, in the order of their keys, those without a key last; parts without visits are
    /// left out. `None` if the snapshot was stored without what the dimension needs.
    #[must_use]
    pub fn visit_parts(&self, bucket: BucketRef, kind: CohortKind, by: VisitDimension) -> Option<Vec<VisitPart>> {
        let keys = self.keys()?;
        let visits = self
            .bucket_lists(bucket)
            .map_or(&[][..], |(_, lists)| lists.visits(kind));
        // The place of a visit's part; where a visit may have no key, 0 is for that.
        let (ids, first): (Option<&[i64]>, i64) = match by {
            VisitDimension::Department => (Some(&keys.departments), -1),
            VisitDimension::Doctor => (Some(&keys.doctors), -1),
            VisitDimension::Channel | VisitDimension::Weekday => (None, 0),
        };
        let count = match by {
            VisitDimension::Channel => VisitChannel::ALL.len(),
            VisitDimension::Weekday => 7,
            _ => ids.map_or(0, <[i64]>::len) + 1,
        };
        let mut parts: Vec<Vec<u32>> = vec![Vec::new(); count];
        for &visit in visits {
            let index = visit as usize;
            let place = match by {
                VisitDimension::Department => usize::from(keys.department[index]),
                VisitDimension::Doctor => usize::from(keys.doctor[index]),
                VisitDimension::Channel => usize::from(keys.channel[index]),
                VisitDimension::Weekday => {
                    usize::try_from(self.visits.day(index).map_or(0, weekday)).unwrap_or_default()
                }
            };
            parts[place].push(visit);
        }
        let mut seen = BitSet::new(self.patient_numbers());
        let mut found: Vec<VisitPart> = parts
            .into_iter()
            .zip(first..)
            .filter(|(visits, _)| !visits.is_empty())
            .map(|(visits, place)| {
                let numbers = visits.iter().map(|&visit| self.visits.patient[visit as usize]);
                let patients: Vec<u32> = numbers.filter(|&number| seen.insert(number)).collect();
                seen.clear(&patients);
                let key = match ids {
                    Some(ids) => usize::try_from(place).ok().and_then(|place| ids.get(place)).copied(),
                    None => Some(place),
                };
                VisitPart { key, patients, visits }
            })
            .collect();
        found.sort_by_key(|part| (part.key.is_none(), part.key));
        Some(found)
    }

    /// Both lists of a part.
    #[must_use]
    pub fn part(&self, part: &VisitPart) -> CohortList {
        self.cut(&part.patients, &part.visits)
    }

    /// The keys of a cohort's visits, with the visits' ids; `None` if the snapshot was stored without them.
    #[must_use]
    pub fn visit_keys(&self, bucket: BucketRef, kind: CohortKind) -> Option<Vec<(i64, VisitKeys)>> {
        let keys = self.keys()?;
        let visits = self
            .bucket_lists(bucket)
            .map_or(&[][..], |(_, lists)| lists.visits(kind));
        let of = |&visit: &u32| {
            let index = visit as usize;
            let (department, doctor) = keys.ids(index);
            let channel = VisitChannel::from_index(keys.channel[index])?;
            let keys = VisitKeys {
                department,
                doctor,
                channel,
            };
            Some((self.visits.id[index], keys))
        };
        Some(visits.iter().filter_map(of).collect())
    }
}

impl CohortList {
    /// The list divided by a key of its visits; the patients of a part are those of its visits.
    #[must_use]
    pub fn by_visit<K: Ord>(&self, key: impl Fn(&CountedVisit) -> K) -> BTreeMap<K, Self> {
        let mut parts: BTreeMap<K, Self> = BTreeMap::new();
        for visit in &self.visits {
            parts.entry(key(visit)).or_default().visits.push(*visit);
        }
        for part in parts.values_mut() {
            let mut patients: Vec<i64> = part.visits.iter().map(|visit| visit.patient).collect();
            patients.sort_unstable();
            let counted = patients.chunk_by(|a, b| a == b).filter_map(|visits| {
                let known = self
                    .patients
                    .binary_search_by_key(&visits[0], |patient| patient.id)
                    .ok()?;
                Some(CountedPatient {
                    visits: u32::try_from(visits.len()).unwrap_or(u32::MAX),
                    ..self.patients[known]
                })
            });
            part.patients = counted.collect();
        }
        parts
    }

    /// The list divided by a key of its patients, which are given by their place; the visits of a part are those of its patients.
    #[must_use]
    pub fn by_patient<K: Ord + Copy>(&self, key: impl Fn(usize) -> K) -> BTreeMap<K, Self> {
        let mut parts: BTreeMap<K, Self> = BTreeMap::new();
        for (place, patient) in self.patients.iter().enumerate() {
            parts.entry(key(place)).or_default().patients.push(*patient);
        }
        for visit in &self.visits {
            if let Ok(place) = self.patients.binary_search_by_key(&visit.patient, |patient| patient.id)
                && let Some(part) = parts.get_mut(&key(place))
            {
                part.visits.push(*visit);
            }
        }
        parts
    }
}
