//! A response of `statistics`: whether its lists are consistent with each other, with their counts, and with the
//! reference.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::NaiveDate;
use rollcall::statistics::{Bucket, CohortKind, DayRange, Question};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use test_support::{Checked, ensure};

use crate::dataset::Dataset;
use crate::reference::Reference;

/// The stored fields of a snapshot: `$lists` selects the lists, `$keep` the IDs, which stores the snapshot. Without
/// computedAt, which differs if two servers compute one snapshot at the same time.
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
pub struct StatisticsResponse {
    pub id: Option<String>,
    pub revision: String,
    pub as_of: NaiveDate,
    time_zone: String,
    week_start: String,
    definition: Rules,
    pub buckets: Vec<BucketResponse>,
    pub total: BucketResponse,
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
pub struct BucketResponse {
    start: NaiveDate,
    end: NaiveDate,
    covered: Option<CoveredDays>,
    complete: bool,
    churn_rate: Option<f64>,
    churn_mature: bool,
    no_show_rate: Option<f64>,
    /// By the name of their kind.
    #[serde(flatten)]
    cohorts: BTreeMap<String, CohortList>,
}

#[derive(Deserialize)]
struct CoveredDays {
    from: NaiveDate,
    to: NaiveDate,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CohortList {
    pub id: Option<String>,
    pub patient_count: usize,
    pub visit_count: usize,
    /// None, like the visits and the digest, if only counts were selected.
    patient_ids: Option<Vec<String>>,
    visit_ids: Option<Vec<String>>,
    digest: Option<String>,
}

/// The row number in an ID.
pub fn number_of(id: &str) -> i64 {
    let bytes = URL_SAFE_NO_PAD.decode(id).unwrap();
    bytes[1..].iter().fold(0, |number, &byte| number << 8 | i64::from(byte))
}

/// The ID of a row, by the letter of its type.
pub fn id_of(letter: char, number: i64) -> String {
    let number = number.to_be_bytes();
    let first = number.iter().position(|&byte| byte != 0).unwrap();
    URL_SAFE_NO_PAD.encode([&[letter as u8], &number[first..]].concat())
}

impl CohortList {
    pub fn patients(&self) -> Vec<i64> {
        numbers(self.patient_ids.as_ref())
    }

    pub fn visits(&self) -> Vec<i64> {
        numbers(self.visit_ids.as_ref())
    }

    fn check_consistency(&self) -> Checked {
        let (Some(patients), Some(visits), Some(digest)) = (&self.patient_ids, &self.visit_ids, &self.digest) else {
            return Ok(());
        };
        for (count, ids, numbers) in [
            (self.patient_count, patients, self.patients()),
            (self.visit_count, visits, self.visits()),
        ] {
            ensure!(count == ids.len(), "counts {count}, lists {}", ids.len());
            ensure!(
                numbers.windows(2).all(|pair| pair[0] < pair[1]),
                "duplicate or unsorted IDs: {numbers:?}"
            );
        }
        let text = format!("{}\n\n{}", patients.join("\n"), visits.join("\n"));
        let own = hex::encode(Sha256::digest(text));
        ensure!(*digest == own, "the digest is {digest}, but its IDs have {own}");
        Ok(())
    }
}

fn numbers(ids: Option<&Vec<String>>) -> Vec<i64> {
    ids.into_iter().flatten().map(|id| number_of(id)).collect()
}

impl BucketResponse {
    pub fn list(&self, kind: CohortKind) -> &CohortList {
        &self.cohorts[kind.as_str()]
    }

    /// The last day of the calendar unit.
    pub fn last_day(&self) -> NaiveDate {
        self.end
    }

    /// Checks that counts, lists and rates are consistent with each other.
    fn check_consistency(&self) -> Checked {
        for (kind, list) in &self.cohorts {
            list.check_consistency()
                .map_err(|violation| format!("{kind} from {}: {violation}", self.start))?;
        }
        use CohortKind::{ChurnSuspected, New, NoShow, Pending, Retained, Returning, Visitors};
        for (whole, parts) in [
            (Visitors, &[New, Returning][..]),
            (New, &[ChurnSuspected, Retained, Pending][..]),
        ] {
            let parts: Vec<&CohortList> = parts.iter().map(|&part| self.list(part)).collect();
            let of = |counts: fn(&CohortList) -> usize, ids: fn(&CohortList) -> Vec<i64>| {
                let mut all: Vec<i64> = parts.iter().flat_map(|part| ids(part)).collect();
                all.sort_unstable();
                let whole = self.list(whole);
                counts(whole) == parts.iter().map(|part| counts(part)).sum::<usize>() && ids(whole) == all
            };
            ensure!(
                of(|list| list.patient_count, CohortList::patients) && of(|list| list.visit_count, CohortList::visits),
                "{whole:?} from {} is not the sum of its parts",
                self.start
            );
        }
        let patients = |kind| self.list(kind).patient_count;
        let (missed, came) = (self.list(NoShow).visit_count, self.list(Visitors).visit_count);
        ensure!(
            is_rate(self.churn_rate, patients(ChurnSuspected), patients(New))
                && is_rate(self.no_show_rate, missed, missed + came)
                && !(self.churn_mature && patients(Pending) > 0),
            "the rates from {} do not match its counts",
            self.start
        );
        Ok(())
    }

    fn matches_reference(&self, bucket: &Bucket, reference: &Reference) -> Checked {
        let covered = self
            .covered
            .as_ref()
            .and_then(|days| DayRange::new(days.from.into(), days.to.into()));
        ensure!(
            (self.start, self.end) == (bucket.bounds.from.date(), bucket.bounds.to.date())
                && covered == bucket.covered
                && self.complete == bucket.complete(),
            "{} to {} covers {covered:?}, expected {bucket:?}",
            self.start,
            self.end
        );
        for &kind in CohortKind::ALL {
            let (list, expected) = (self.list(kind), reference.cohort(covered, kind));
            let patients: Vec<i64> = expected.patients.into_keys().collect();
            let visits: Vec<i64> = expected.visits.into_iter().collect();
            let counts = (list.patient_count, list.visit_count);
            ensure!(
                counts == (patients.len(), visits.len()),
                "{kind:?} from {} counts {counts:?} patients and visits, expected {:?}",
                self.start,
                (patients.len(), visits.len())
            );
            ensure!(
                list.digest.is_none() || list.patients() == patients && list.visits() == visits,
                "{kind:?} from {} lists the patients {:?} and visits {:?}, expected {patients:?} and {visits:?}",
                self.start,
                list.patients(),
                list.visits()
            );
        }
        Ok(())
    }
}

/// Whether the rate is the quotient, up to the precision of JSON.
fn is_rate(rate: Option<f64>, part: usize, whole: usize) -> bool {
    match rate {
        Some(rate) => (rate * whole as f64 - part as f64).abs() < 1e-9,
        None => whole == 0,
    }
}

impl StatisticsResponse {
    /// The first days of its buckets.
    pub fn starts(&self) -> Vec<NaiveDate> {
        self.buckets.iter().map(|bucket| bucket.start).collect()
    }

    pub fn definition_version(&self) -> i32 {
        self.definition.version
    }

    /// Checks that everything in the response is consistent.
    pub fn check_consistency(&self) -> Checked {
        for bucket in self.buckets.iter().chain([&self.total]) {
            bucket.check_consistency()?;
        }
        for bucket in self.buckets.iter().chain([&self.total]) {
            let since_end = (self.as_of - bucket.end).num_days();
            let mature = bucket.complete && since_end >= self.definition.churn_after_days.into();
            ensure!(
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
            ensure!(new.insert(patient), "the patient {patient} is NEW in two buckets");
        }
        let total = BTreeSet::from_iter(self.total.list(CohortKind::New).patients());
        ensure!(new == total, "the NEW of the total are not those of the buckets");
        Ok(())
    }

    /// Checks every list against the reference, given the data at the response's revision.
    pub fn matches_reference(&self, question: &Question, dataset: &Dataset) -> Checked {
        let rules = (
            self.definition.version,
            self.definition.churn_after_days,
            self.definition.overdue_after_days,
            &*self.time_zone,
            &*self.week_start,
        );
        let known = &dataset.definition;
        let expected = (
            known.version,
            known.churn_after_days,
            known.overdue_after_days,
            &*dataset.time_zone,
            dataset.week_start.as_str(),
        );
        ensure!(
            rules == expected,
            "uses the definition {rules:?}, expected {expected:?}"
        );
        let reference = Reference::new(&dataset.visits, question, known);
        let buckets = Bucket::all(question.period, question.range, dataset.week_start, question.as_of);
        ensure!(
            buckets.len() == self.buckets.len(),
            "{} buckets, expected {}",
            self.buckets.len(),
            buckets.len()
        );
        for (bucket, expected) in self.buckets.iter().zip(&buckets) {
            bucket.matches_reference(expected, &reference)?;
        }
        let total = Bucket::new(question.range, question.range, question.as_of);
        self.total.matches_reference(&total, &reference)
    }
}

/// The first difference between two values.
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
