//! An answer of `statistics`: whether its lists agree with each other, with their counts, and with the reference.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::NaiveDate;
use rollcall::statistics::{Bucket, CohortKind, DayRange, Question};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::reference::Reference;
use crate::world::World;
use crate::{Held, hold};

/// Everything that is kept of a snapshot. `$lists`: with its lists; `$keep`: with its ids, so that it is stored. Not
/// computedAt: two servers that compute one snapshot at the same time say each when they did.
pub const STATISTICS: &str = "fragment Whole on Statistics {
    id @include(if: $keep)
    revision period range { from to } asOf timeZone weekStart
    definition { version churnAfterDays overdueAfterDays effectiveFrom }
    filter { departments { id } doctors { id } channels }
    buckets { ...Cohorts }
    total { ...Cohorts }
}
fragment Cohorts on StatisticsBucket {
    start end covered { from to } complete churnRate churnMature noShowRate
    VISITORS: cohort(kind: VISITORS) { ...List }
    NEW: cohort(kind: NEW) { ...List }
    RETURNING: cohort(kind: RETURNING) { ...List }
    CHURN_SUSPECTED: cohort(kind: CHURN_SUSPECTED) { ...List }
    RETAINED: cohort(kind: RETAINED) { ...List }
    PENDING: cohort(kind: PENDING) { ...List }
    NO_SHOW: cohort(kind: NO_SHOW) { ...List }
    CANCELED: cohort(kind: CANCELED) { ...List }
}
fragment List on Cohort {
    id @include(if: $keep)
    patientCount visitCount
    patientIds @include(if: $lists)
    visitIds @include(if: $lists)
    digest @include(if: $lists)
}";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    pub id: Option<String>,
    pub revision: String,
    pub as_of: NaiveDate,
    time_zone: String,
    week_start: String,
    definition: Rules,
    pub buckets: Vec<BucketAnswer>,
    pub total: BucketAnswer,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rules {
    version: i32,
    churn_after_days: i32,
    overdue_after_days: Option<i32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BucketAnswer {
    start: NaiveDate,
    end: NaiveDate,
    covered: Option<Days>,
    complete: bool,
    churn_rate: Option<f64>,
    churn_mature: bool,
    no_show_rate: Option<f64>,
    /// By the word of their kind.
    #[serde(flatten)]
    cohorts: BTreeMap<String, List>,
}

#[derive(Deserialize)]
struct Days {
    from: NaiveDate,
    to: NaiveDate,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct List {
    pub id: Option<String>,
    pub patient_count: usize,
    pub visit_count: usize,
    /// Absent, like the visits and the digest, where only the counts were asked for.
    patient_ids: Option<Vec<String>>,
    visit_ids: Option<Vec<String>>,
    digest: Option<String>,
}

/// The number that an id stands for.
pub fn number_of(id: &str) -> i64 {
    let bytes = URL_SAFE_NO_PAD.decode(id).unwrap();
    bytes[1..].iter().fold(0, |number, &byte| number << 8 | i64::from(byte))
}

/// The id of a row, by the letter of its type.
pub fn id_of(letter: char, number: i64) -> String {
    let number = number.to_be_bytes();
    let first = number.iter().position(|&byte| byte != 0).unwrap();
    URL_SAFE_NO_PAD.encode([&[letter as u8], &number[first..]].concat())
}

impl List {
    pub fn patients(&self) -> Vec<i64> {
        numbers(self.patient_ids.as_ref())
    }

    pub fn visits(&self) -> Vec<i64> {
        numbers(self.visit_ids.as_ref())
    }

    fn agrees(&self) -> Held {
        let (Some(patients), Some(visits), Some(digest)) = (&self.patient_ids, &self.visit_ids, &self.digest) else {
            return Ok(());
        };
        for (count, ids, numbers) in [
            (self.patient_count, patients, self.patients()),
            (self.visit_count, visits, self.visits()),
        ] {
            hold!(count == ids.len(), "counts {count}, lists {}", ids.len());
            hold!(
                numbers.windows(2).all(|pair| pair[0] < pair[1]),
                "lists an id twice or out of order: {numbers:?}"
            );
        }
        let text = format!("{}\n\n{}", patients.join("\n"), visits.join("\n"));
        let own: String = Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect();
        hold!(*digest == own, "says the digest {digest}, and its ids have {own}");
        Ok(())
    }
}

fn numbers(ids: Option<&Vec<String>>) -> Vec<i64> {
    ids.into_iter().flatten().map(|id| number_of(id)).collect()
}

impl BucketAnswer {
    pub fn list(&self, kind: CohortKind) -> &List {
        &self.cohorts[kind.as_str()]
    }

    /// Of the calendar unit.
    pub fn last_day(&self) -> NaiveDate {
        self.end
    }

    /// The counts, the lists and the rates agree with each other.
    fn agrees(&self) -> Held {
        for (kind, list) in &self.cohorts {
            list.agrees()
                .map_err(|finding| format!("{kind} from {}: {finding}", self.start))?;
        }
        use CohortKind::{ChurnSuspected, New, NoShow, Pending, Retained, Returning, Visitors};
        for (whole, parts) in [
            (Visitors, &[New, Returning][..]),
            (New, &[ChurnSuspected, Retained, Pending][..]),
        ] {
            let parts: Vec<&List> = parts.iter().map(|&part| self.list(part)).collect();
            let of = |counts: fn(&List) -> usize, ids: fn(&List) -> Vec<i64>| {
                let mut all: Vec<i64> = parts.iter().flat_map(|part| ids(part)).collect();
                all.sort_unstable();
                let whole = self.list(whole);
                counts(whole) == parts.iter().map(|part| counts(part)).sum::<usize>() && ids(whole) == all
            };
            hold!(
                of(|list| list.patient_count, List::patients) && of(|list| list.visit_count, List::visits),
                "{whole:?} from {} is not the sum of its parts",
                self.start
            );
        }
        let patients = |kind| self.list(kind).patient_count;
        let (missed, came) = (self.list(NoShow).visit_count, self.list(Visitors).visit_count);
        hold!(
            is_rate(self.churn_rate, patients(ChurnSuspected), patients(New))
                && is_rate(self.no_show_rate, missed, missed + came)
                && !(self.churn_mature && patients(Pending) > 0),
            "the rates from {} are not those of its counts",
            self.start
        );
        Ok(())
    }

    fn is_as_the_reference_says(&self, bucket: &Bucket, reference: &Reference) -> Held {
        let covered = self
            .covered
            .as_ref()
            .and_then(|days| DayRange::new(days.from.into(), days.to.into()));
        hold!(
            (self.start, self.end) == (bucket.bounds.from.date(), bucket.bounds.to.date())
                && covered == bucket.covered
                && self.complete == bucket.complete(),
            "{} to {} covers {covered:?}, and should be {bucket:?}",
            self.start,
            self.end
        );
        for &kind in CohortKind::ALL {
            let (list, expected) = (self.list(kind), reference.cohort(covered, kind));
            let patients: Vec<i64> = expected.patients.into_keys().collect();
            let visits: Vec<i64> = expected.visits.into_iter().collect();
            let counts = (list.patient_count, list.visit_count);
            hold!(
                counts == (patients.len(), visits.len()),
                "{kind:?} from {} counts {counts:?} patients and visits, and the reference {:?}",
                self.start,
                (patients.len(), visits.len())
            );
            hold!(
                list.digest.is_none() || list.patients() == patients && list.visits() == visits,
                "{kind:?} from {} has the patients {:?} with the visits {:?}, and the reference {patients:?} with {visits:?}",
                self.start,
                list.patients(),
                list.visits()
            );
        }
        Ok(())
    }
}

/// Whether it is that part of a whole, but for what JSON's digits leave of it.
fn is_rate(rate: Option<f64>, part: usize, whole: usize) -> bool {
    match rate {
        Some(rate) => (rate * whole as f64 - part as f64).abs() < 1e-9,
        None => whole == 0,
    }
}

impl Answer {
    /// Where its buckets begin.
    pub fn starts(&self) -> Vec<NaiveDate> {
        self.buckets.iter().map(|bucket| bucket.start).collect()
    }

    pub fn definition_version(&self) -> i32 {
        self.definition.version
    }

    /// Everything in the answer agrees with everything else.
    pub fn agrees(&self) -> Held {
        for bucket in self.buckets.iter().chain([&self.total]) {
            bucket.agrees()?;
        }
        for bucket in self.buckets.iter().chain([&self.total]) {
            let since_end = (self.as_of - bucket.end).num_days();
            let mature = bucket.complete && since_end >= self.definition.churn_after_days.into();
            hold!(
                bucket.churn_mature == mature,
                "churnMature from {} is {}",
                bucket.start,
                !mature
            );
        }
        let mut new = BTreeSet::new();
        for patient in self
            .buckets
            .iter()
            .flat_map(|bucket| bucket.list(CohortKind::New).patients())
        {
            hold!(new.insert(patient), "the patient {patient} is NEW in two buckets");
        }
        let total = BTreeSet::from_iter(self.total.list(CohortKind::New).patients());
        hold!(new == total, "the NEW of the total are not those of the buckets");
        Ok(())
    }

    /// Every list is what the definitions make of the data at the answer's revision.
    pub fn is_as_the_reference_says(&self, question: &Question, world: &World) -> Held {
        let rules = (
            self.definition.version,
            self.definition.churn_after_days,
            self.definition.overdue_after_days,
            &*self.time_zone,
            &*self.week_start,
        );
        let known = &world.definition;
        let expected = (
            known.version,
            known.churn_after_days,
            known.overdue_after_days,
            &*world.time_zone,
            world.week_start.as_str(),
        );
        hold!(
            rules == expected,
            "counted by the rules {rules:?}, and at its revision they are {expected:?}"
        );
        let reference = Reference::new(&world.visits, question, known);
        let buckets = Bucket::all(question.period, question.range, world.week_start, question.as_of);
        hold!(
            buckets.len() == self.buckets.len(),
            "{} buckets in place of {}",
            self.buckets.len(),
            buckets.len()
        );
        for (bucket, expected) in self.buckets.iter().zip(&buckets) {
            bucket.is_as_the_reference_says(expected, &reference)?;
        }
        let total = Bucket::new(question.range, question.range, question.as_of);
        self.total.is_as_the_reference_says(&total, &reference)
    }
}

/// Where two values differ first, and how.
pub fn difference(a: &Value, b: &Value) -> Option<String> {
    let below = |place: &str, a: &Value, b: &Value| difference(a, b).map(|found| format!("{place}.{found}"));
    match (a, b) {
        _ if a == b => None,
        (Value::Object(a), Value::Object(b)) if a.len() == b.len() => a
            .iter()
            .find_map(|(name, a)| below(name, a, b.get(name).unwrap_or(&Value::Null))),
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => a
            .iter()
            .zip(b)
            .enumerate()
            .find_map(|(place, (a, b))| below(&place.to_string(), a, b)),
        _ => Some(format!(": {a} and {b}")),
    }
}
