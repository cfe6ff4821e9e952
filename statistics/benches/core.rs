//! The core's speed, and beside it the floor that it is held against.
//!
//! `ROLLCALL_BENCH_VISITS` asks for another number of visits than a million.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use chrono::NaiveDate;
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, criterion_group, criterion_main};
use statistics::{
    Bucket, BucketRef, CohortKind, CohortList, Day, DayRange, Definition, Differences, Filter, Ledger, LedgerBuilder,
    Period, Question, Snapshot, VisitChannel, VisitRow, VisitStatus, WeekStart, resolve,
};

/// The server's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const DEFINITION: Definition = Definition {
    version: 1,
    churn_after_days: 90,
    overdue_after_days: None,
};
const WEEK_START: WeekStart = WeekStart::Monday;
const PERIODS: [(&str, Period); 4] = [
    ("DAY", Period::Day),
    ("WEEK", Period::Week),
    ("MONTH", Period::Month),
    ("QUARTER", Period::Quarter),
];

fn day(year: i32, month: u32, day: u32) -> Day {
    NaiveDate::from_ymd_opt(year, month, day).unwrap().into()
}

fn range(from: Day, to: Day) -> DayRange {
    DayRange::new(from, to).unwrap()
}

/// SplitMix64: the same numbers on every machine.
struct Random(u64);

impl Random {
    /// A number below `bound`.
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((u128::from(z ^ (z >> 31)) * u128::from(bound)) >> 64) as u64
    }

    fn id_up_to(&mut self, most: u64) -> i64 {
        self.below(most).cast_signed() + 1
    }
}

/// A hospital's visits up to the end of 2025: slowly growing, one in five a patient's first, the others mostly of
/// patients who came lately.
struct Data {
    name: String,
    all: DayRange,
    rows: Vec<VisitRow>,
    patients: u64,
}

impl Data {
    fn new(name: String, visits: u64, patients: u64, first_year: i32) -> Self {
        const GROWTH: f64 = 0.047;
        let all = range(day(first_year, 1, 1), day(2025, 12, 31));
        let days = all.to.0 - all.from.0 + 1;
        let mut random = Random(42);
        let mut rows = Vec::with_capacity(visits as usize);
        let mut known = 0;
        for offset in 0..days {
            let x = f64::from(offset + 1) / f64::from(days);
            let up_to = (visits as f64 * (x * (1.0 - GROWTH) + x * x * GROWTH)).round() as usize;
            let date = Day(all.from.0 + offset);
            while rows.len() < up_to {
                let patient = if known == 0 || (known < patients && random.below(visits) < patients) {
                    known += 1;
                    known
                } else {
                    let back = random.below(known) * random.below(known) / known;
                    known - back
                };
                let second = (i64::from(date.0) - 719_163) * 86_400 + random.below(86_400).cast_signed();
                rows.push(VisitRow {
                    id: rows.len() as i64 + 1,
                    patient: patient.cast_signed(),
                    date,
                    scheduled_at: (random.below(10) < 7).then_some(second * 1_000_000),
                    status: match random.below(100) {
                        0..80 => VisitStatus::Completed,
                        80..84 => VisitStatus::Ended,
                        84..92 => VisitStatus::NoShow,
                        92..98 => VisitStatus::Canceled,
                        _ => VisitStatus::Booked,
                    },
                    channel: VisitChannel::ALL[random.below(7) as usize],
                    department: Some(random.id_up_to(12)),
                    doctor: Some(random.id_up_to(40)),
                });
            }
        }
        Self {
            name,
            all,
            rows,
            patients: known,
        }
    }

    fn ledger(&self) -> Arc<Ledger> {
        let mut builder = LedgerBuilder::new((1..=self.patients.cast_signed()).collect());
        for row in &self.rows {
            builder.push(row).unwrap();
        }
        Arc::new(builder.finish())
    }

    fn year(&self) -> DayRange {
        range(day(2025, 1, 1), day(2025, 12, 31))
    }
}

/// Medium and small; the first may be asked to be bigger.
fn medium() -> Data {
    let visits = std::env::var("ROLLCALL_BENCH_VISITS").map_or(1_000_000, |n| n.parse().unwrap());
    Data::new(format!("{visits}"), visits, visits / 5, 2021)
}

fn small() -> Data {
    Data::new("120000".to_owned(), 120_000, 25_000, 2023)
}

fn question(period: Period, range: DayRange, as_of: Day, filter: Filter) -> Question {
    Question {
        period,
        range,
        as_of,
        filter,
    }
}

fn ask(ledger: &Arc<Ledger>, question: &Question) -> Snapshot {
    resolve(ledger, question, DEFINITION, WEEK_START)
}

/// The barest pass over plain columns, sorted by day: four cohorts of each bucket, no total, no filter, asOf after
/// every visit.
struct Floor {
    day: Vec<i32>,
    patient: Vec<u32>,
    first: Vec<i32>,
    last: Vec<i32>,
    status: Vec<u8>,
    patients: usize,
}

#[derive(Clone, Default)]
struct FloorList {
    patients: Vec<u32>,
    visits: Vec<u32>,
}

#[derive(Clone, Default)]
struct FloorBucket {
    new: FloorList,
    returning: FloorList,
    suspected: FloorList,
    no_show: FloorList,
}

impl Floor {
    fn new(data: &Data) -> Self {
        let patients = data.patients as usize + 1;
        let mut ends = vec![(i32::MAX, i32::MIN); patients];
        for row in data.rows.iter().filter(|row| row.status.attended()) {
            let (first, last) = &mut ends[row.patient as usize];
            *first = row.date.0.min(*first);
            *last = row.date.0.max(*last);
        }
        Self {
            day: data.rows.iter().map(|row| row.date.0).collect(),
            patient: data.rows.iter().map(|row| row.patient as u32).collect(),
            first: data.rows.iter().map(|row| ends[row.patient as usize].0).collect(),
            last: data.rows.iter().map(|row| ends[row.patient as usize].1).collect(),
            status: data.rows.iter().map(|row| row.status as u8).collect(),
            patients,
        }
    }

    fn resolve(&self, question: &Question) -> Vec<FloorBucket> {
        const COMPLETED: u8 = VisitStatus::Completed as u8;
        const ENDED: u8 = VisitStatus::Ended as u8;
        const NO_SHOW: u8 = VisitStatus::NoShow as u8;
        let silent_since = question.as_of.0 - DEFINITION.churn_after_days;
        // By patient, the bucket (counted from 1) that it was last put into a list of.
        let (mut visited, mut missed) = (vec![0; self.patients], vec![0; self.patients]);
        let mut buckets: Vec<FloorBucket> = Vec::new();
        let mut lists = FloorBucket::default();
        for bucket in Bucket::all(question.period, question.range, WEEK_START, question.as_of) {
            let stamp = buckets.len() as u32 + 1;
            if let Some(covered) = bucket.covered {
                let start = self.day.partition_point(|&day| day < covered.from.0);
                let end = self.day.partition_point(|&day| day <= covered.to.0);
                let columns = self.patient[start..end]
                    .iter()
                    .zip(&self.first[start..end])
                    .zip(&self.last[start..end])
                    .zip(&self.status[start..end]);
                for ((((&patient, &first), &last), &status), visit) in columns.zip(start as u32..) {
                    match status {
                        COMPLETED | ENDED => {
                            let seen = &mut visited[patient as usize];
                            let fresh = *seen != stamp;
                            *seen = stamp;
                            if first < covered.from.0 {
                                lists.returning.push(visit, patient, fresh);
                                continue;
                            }
                            lists.new.push(visit, patient, fresh);
                            if last <= silent_since {
                                lists.suspected.push(visit, patient, fresh);
                            }
                        }
                        NO_SHOW => {
                            let seen = &mut missed[patient as usize];
                            let fresh = *seen != stamp;
                            *seen = stamp;
                            lists.no_show.push(visit, patient, fresh);
                        }
                        _ => {}
                    }
                }
            }
            buckets.push(lists.clone());
            lists.new.clear();
            lists.returning.clear();
            lists.suspected.clear();
            lists.no_show.clear();
        }
        buckets
    }

    /// Holds the floor's counts against the snapshot's.
    fn check(&self, snapshot: &Snapshot) {
        let buckets = self.resolve(snapshot.question());
        assert_eq!(buckets.len(), snapshot.len());
        for (bucket, at) in buckets.iter().zip((0..).map(BucketRef::At)) {
            for (kind, list) in [
                (CohortKind::New, &bucket.new),
                (CohortKind::Returning, &bucket.returning),
                (CohortKind::ChurnSuspected, &bucket.suspected),
                (CohortKind::NoShow, &bucket.no_show),
            ] {
                assert_eq!(
                    snapshot.patient_count(at, kind),
                    list.patients.len(),
                    "{kind:?} of {at:?}"
                );
                assert_eq!(snapshot.visit_count(at, kind), list.visits.len(), "{kind:?} of {at:?}");
            }
        }
    }
}

impl FloorList {
    fn clear(&mut self) {
        self.patients.clear();
        self.visits.clear();
    }

    #[inline]
    fn push(&mut self, visit: u32, patient: u32, fresh: bool) {
        self.visits.push(visit);
        if fresh {
            self.patients.push(patient);
        }
    }
}

fn group<'a>(criterion: &'a mut Criterion, name: &str, data: &Data) -> BenchmarkGroup<'a, WallTime> {
    let mut group = criterion.benchmark_group(format!("{name}/{}", data.name));
    group
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(600));
    group
}

fn load(criterion: &mut Criterion) {
    for data in [medium(), small()] {
        let ledger = data.ledger();
        println!(
            "{} visits, {} patients, {} visits in 2025: {:.1} bytes a visit",
            ledger.len(),
            data.patients,
            data.rows.iter().filter(|row| data.year().contains(row.date)).count(),
            ledger.bytes() as f64 / ledger.len() as f64
        );
        group(criterion, "load", &data).bench_function("rows", |b| b.iter(|| data.ledger()));
    }
}

/// The newest visits change their status.
fn catch_up(criterion: &mut Criterion) {
    let data = medium();
    let ledger = data.ledger();
    let mut group = group(criterion, "catch_up", &data);
    for count in [1, 100, 10_000] {
        let changed = &data.rows[data.rows.len() - count..];
        let patients: BTreeSet<i64> = changed.iter().map(|row| row.patient).collect();
        let dates: BTreeSet<Day> = changed.iter().map(|row| row.date).collect();
        let mut rows: Vec<VisitRow> = data
            .rows
            .iter()
            .filter(|row| patients.contains(&row.patient))
            .copied()
            .collect();
        for row in &mut rows {
            if row.id >= changed[0].id {
                row.status = VisitStatus::Ended;
            }
        }
        group.bench_function(BenchmarkId::from_parameter(count), |b| {
            b.iter(|| ledger.changed(&patients, &dates, &rows).unwrap());
        });
    }
}

fn resolving(criterion: &mut Criterion) {
    let data = medium();
    let ledger = data.ledger();
    let floor = Floor::new(&data);
    let filter = Filter {
        departments: Some(vec![2, 3, 5, 7]),
        channels: Some(vec![VisitChannel::Phone, VisitChannel::App, VisitChannel::Web]),
        ..Filter::default()
    };
    let (after, inside) = (data.all.to, day(2025, 6, 30));
    let month = range(day(2025, 5, 1), day(2025, 5, 31));
    let past = range(day(2024, 1, 1), day(2024, 12, 31));
    let mut group = group(criterion, "resolve", &data);
    for (name, period) in PERIODS {
        for (span, range) in [("month", month), ("year", data.year()), ("all", data.all)] {
            let plain = question(period, range, after, Filter::default());
            floor.check(&ask(&ledger, &plain));
            group.bench_function(format!("{name}/{span}/floor"), |b| b.iter(|| floor.resolve(&plain)));
            group.bench_function(format!("{name}/{span}"), |b| b.iter(|| ask(&ledger, &plain)));
            let filtered = question(period, range, after, filter.clone());
            group.bench_function(format!("{name}/{span}/filter"), |b| b.iter(|| ask(&ledger, &filtered)));
        }
        let earlier = question(period, past, inside, Filter::default());
        group.bench_function(format!("{name}/year/asOf inside"), |b| {
            b.iter(|| ask(&ledger, &earlier))
        });
    }
}

fn resolving_small(criterion: &mut Criterion) {
    let data = small();
    let ledger = data.ledger();
    let floor = Floor::new(&data);
    let mut group = group(criterion, "resolve", &data);
    for (name, period) in PERIODS {
        let plain = question(period, data.year(), data.all.to, Filter::default());
        floor.check(&ask(&ledger, &plain));
        group.bench_function(format!("{name}/year/floor"), |b| b.iter(|| floor.resolve(&plain)));
        group.bench_function(format!("{name}/year"), |b| b.iter(|| ask(&ledger, &plain)));
    }
}

/// What is done with a snapshot: keeping it, opening it, and the list under its biggest number.
fn keeping(criterion: &mut Criterion) {
    let data = medium();
    let ledger = data.ledger();
    let mut group = group(criterion, "snapshot", &data);
    for (name, period) in [("DAY", Period::Day), ("MONTH", Period::Month)] {
        let asked = question(period, data.year(), data.all.to, Filter::default());
        let snapshot = ask(&ledger, &asked);
        let packed = snapshot.pack();
        group.bench_function(format!("{name}/pack"), |b| b.iter(|| snapshot.pack()));
        group.bench_function(format!("{name}/unpack"), |b| {
            b.iter(|| Snapshot::unpack(&packed, asked.clone(), DEFINITION, WEEK_START).unwrap());
        });
        let biggest = (0..)
            .take(snapshot.len())
            .map(BucketRef::At)
            .max_by_key(|&at| snapshot.visit_count(at, CohortKind::Visitors))
            .unwrap();
        group.bench_function(format!("{name}/cohort, first of its snapshot"), |b| {
            b.iter_with_setup(
                || ask(&ledger, &asked),
                |fresh| {
                    let list = fresh.cohort(biggest, CohortKind::Visitors);
                    (fresh, list)
                },
            );
        });
        group.bench_function(format!("{name}/cohort"), |b| {
            b.iter(|| snapshot.cohort(biggest, CohortKind::Visitors));
        });
        let list = snapshot.cohort(biggest, CohortKind::Visitors);
        group.bench_function(format!("{name}/digest"), |b| {
            b.iter(|| {
                statistics::list_digest(
                    list.patients.iter().map(|patient| patient.id.to_string()),
                    list.visits.iter().map(|visit| visit.id.to_string()),
                )
            });
        });
        let mut random = Random(7);
        let names: Vec<String> = list
            .patients
            .iter()
            .map(|_| format!("{:06}", random.below(1_000_000)))
            .collect();
        group.bench_function(format!("{name}/order by name"), |b| {
            b.iter(|| CohortList::order_by(black_box(&names).iter().map(Some), false));
        });
    }
}

/// What differs between two snapshots of a year: after a night's changes, and by other rules.
fn comparing(criterion: &mut Criterion) {
    let data = medium();
    let ledger = data.ledger();
    let mut rows = data.rows.clone();
    for row in rows.iter_mut().step_by(1_000) {
        row.status = VisitStatus::Canceled;
    }
    let mut builder = LedgerBuilder::new(Vec::new());
    rows.iter().for_each(|row| builder.push(row).unwrap());
    let corrected = Arc::new(builder.finish());
    let mut group = group(criterion, "differences", &data);
    for (name, period) in [("DAY", Period::Day), ("MONTH", Period::Month)] {
        let asked = question(period, data.year(), data.all.to, Filter::default());
        let before = ask(&ledger, &asked);
        let data_moved = ask(&corrected, &asked);
        let rules_moved = resolve(&ledger, &asked, Definition::proposed(30, Some(1)), WEEK_START);
        group.bench_function(format!("{name}/year/data"), |b| {
            b.iter(|| Differences::between(&before, &data_moved))
        });
        group.bench_function(format!("{name}/year/definition"), |b| {
            b.iter(|| Differences::between(&before, &rules_moved));
        });
    }
}

criterion_group!(benches, load, catch_up, resolving, resolving_small, keeping, comparing);
criterion_main!(benches);
