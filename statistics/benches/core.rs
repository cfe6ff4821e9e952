//! Benchmarks of the core, and of a baseline to compare it with.
//!
//! `ROLLCALL_BENCH_VISITS` sets the number of visits of the larger hospital, 1,000,000 by default.
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
    Period, Question, SetExpression, Snapshot, VisitChannel, VisitDimension, VisitRow, VisitStatus, WeekStart, combine,
    resolve,
};

/// The same allocator as the server's.
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

/// The SplitMix64 generator, so that the data is the same on every machine.
struct Random(u64);

impl Random {
    /// A pseudo-random number below `bound`.
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((u128::from(z ^ (z >> 31)) * u128::from(bound)) >> 64) as u64
    }

    fn id_up_to(&mut self, max: u64) -> i64 {
        self.below(max).cast_signed() + 1
    }
}

/// A hospital's visits up to the end of 2025. Their number grows slowly; one in five is a patient's first, and the others
/// are mostly of recently added patients.
struct Data {
    name: String,
    /// The days that have visits.
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

/// 1,000,000 visits, or `ROLLCALL_BENCH_VISITS`.
fn medium() -> Data {
    let visits = std::env::var("ROLLCALL_BENCH_VISITS").map_or(1_000_000, |n| n.parse().unwrap());
    Data::new(format!("{visits}"), visits, visits / 5, 2021)
}

/// 120,000 visits.
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

fn compute(ledger: &Arc<Ledger>, question: &Question) -> Snapshot {
    resolve(ledger, question, DEFINITION, WEEK_START)
}

/// The least work that computes four cohorts of each bucket: one pass over columns sorted by day, without total, filter,
/// or visits after asOf.
struct Baseline {
    day: Vec<i32>,
    patient: Vec<u32>,
    first: Vec<i32>,
    last: Vec<i32>,
    status: Vec<u8>,
    patients: usize,
}

#[derive(Clone, Default)]
struct BaselineList {
    patients: Vec<u32>,
    visits: Vec<u32>,
}

#[derive(Clone, Default)]
struct BaselineBucket {
    new: BaselineList,
    returning: BaselineList,
    suspected: BaselineList,
    no_show: BaselineList,
}

impl Baseline {
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

    fn resolve(&self, question: &Question) -> Vec<BaselineBucket> {
        const COMPLETED: u8 = VisitStatus::Completed as u8;
        const ENDED: u8 = VisitStatus::Ended as u8;
        const NO_SHOW: u8 = VisitStatus::NoShow as u8;
        let churn_cutoff = question.as_of.0 - DEFINITION.churn_after_days;
        // By patient: the number, from 1, of the last bucket in whose list the patient is.
        let (mut visited, mut missed) = (vec![0; self.patients], vec![0; self.patients]);
        let mut buckets: Vec<BaselineBucket> = Vec::new();
        let mut lists = BaselineBucket::default();
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
                            let last_bucket = &mut visited[patient as usize];
                            let unlisted = *last_bucket != stamp;
                            *last_bucket = stamp;
                            if first < covered.from.0 {
                                lists.returning.push(visit, patient, unlisted);
                                continue;
                            }
                            lists.new.push(visit, patient, unlisted);
                            if last <= churn_cutoff {
                                lists.suspected.push(visit, patient, unlisted);
                            }
                        }
                        NO_SHOW => {
                            let last_bucket = &mut missed[patient as usize];
                            let unlisted = *last_bucket != stamp;
                            *last_bucket = stamp;
                            lists.no_show.push(visit, patient, unlisted);
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

    /// Compares the baseline's counts with the snapshot's.
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

impl BaselineList {
    fn clear(&mut self) {
        self.patients.clear();
        self.visits.clear();
    }

    #[inline]
    fn push(&mut self, visit: u32, patient: u32, unlisted: bool) {
        self.visits.push(visit);
        if unlisted {
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

/// Updates a ledger after the status of its newest visits changed.
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
    let baseline = Baseline::new(&data);
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
            baseline.check(&compute(&ledger, &plain));
            group.bench_function(format!("{name}/{span}/baseline"), |b| {
                b.iter(|| baseline.resolve(&plain))
            });
            group.bench_function(format!("{name}/{span}"), |b| b.iter(|| compute(&ledger, &plain)));
            let filtered = question(period, range, after, filter.clone());
            group.bench_function(format!("{name}/{span}/filter"), |b| {
                b.iter(|| compute(&ledger, &filtered))
            });
        }
        let earlier = question(period, past, inside, Filter::default());
        group.bench_function(format!("{name}/year/asOf inside"), |b| {
            b.iter(|| compute(&ledger, &earlier))
        });
    }
}

fn resolving_small(criterion: &mut Criterion) {
    let data = small();
    let ledger = data.ledger();
    let baseline = Baseline::new(&data);
    let mut group = group(criterion, "resolve", &data);
    for (name, period) in PERIODS {
        let plain = question(period, data.year(), data.all.to, Filter::default());
        baseline.check(&compute(&ledger, &plain));
        group.bench_function(format!("{name}/year/baseline"), |b| b.iter(|| baseline.resolve(&plain)));
        group.bench_function(format!("{name}/year"), |b| b.iter(|| compute(&ledger, &plain)));
    }
}

/// A year by MONTH, alone, and with four cohorts of each month divided by department; and sets of the whole data's visitors.
fn derived(criterion: &mut Criterion) {
    let data = medium();
    let ledger = data.ledger();
    let year = question(Period::Month, data.year(), data.all.to, Filter::default());
    let kinds = [
        CohortKind::Visitors,
        CohortKind::New,
        CohortKind::Returning,
        CohortKind::NoShow,
    ];
    let mut group = group(criterion, "derived", &data);
    group.bench_function("MONTH/year", |b| b.iter(|| compute(&ledger, &year)));
    group.bench_function("MONTH/year/by department", |b| {
        b.iter(|| {
            let snapshot = compute(&ledger, &year);
            let count = |at| {
                let parts = kinds.map(|kind| snapshot.visit_parts(at, kind, VisitDimension::Department));
                parts
                    .iter()
                    .flatten()
                    .flatten()
                    .map(statistics::VisitPart::patient_count)
                    .sum::<usize>()
            };
            (0..).take(snapshot.len()).map(BucketRef::At).map(count).sum::<usize>()
        });
    });
    let three_years = range(day(2023, 1, 1), day(2025, 12, 31));
    let months = question(Period::Month, three_years, data.all.to, Filter::default());
    group.bench_function("retention/36 x 36", |b| {
        b.iter(|| statistics::Retention::new(&ledger, &compute(&ledger, &months), 36).len());
    });
    let whole = compute(
        &ledger,
        &question(Period::Year, data.all, data.all.to, Filter::default()),
    );
    let mut lists = [CohortKind::Visitors, CohortKind::New].map(|kind| whole.cohort(BucketRef::Total, kind));
    for list in &mut lists {
        list.patients.truncate(200_000);
        let last = list.patients.last().unwrap().id;
        list.visits.retain(|visit| visit.patient <= last);
        list.visits.truncate(300_000);
    }
    let sources = [&lists[0], &lists[1]];
    println!(
        "sets of {} and {} patients",
        lists[0].patients.len(),
        lists[1].patients.len()
    );
    let both = || vec![SetExpression::List(0), SetExpression::List(1)];
    let difference = SetExpression::ButNot(Box::new(SetExpression::List(0)), Box::new(SetExpression::List(1)));
    for (name, set) in [
        ("any", SetExpression::AnyOf(both())),
        ("all", SetExpression::AllOf(both())),
        ("but not", difference),
    ] {
        group.bench_function(format!("set/{name}"), |b| b.iter(|| combine(&set, &sources, |id| id)));
    }
}

/// Operations on a snapshot: packing, unpacking, and the list of its largest cohort.
fn snapshots(criterion: &mut Criterion) {
    let data = medium();
    let ledger = data.ledger();
    let mut group = group(criterion, "snapshot", &data);
    for (name, period) in [("DAY", Period::Day), ("MONTH", Period::Month)] {
        let question_of_year = question(period, data.year(), data.all.to, Filter::default());
        let snapshot = compute(&ledger, &question_of_year);
        let packed = snapshot.pack();
        group.bench_function(format!("{name}/pack"), |b| b.iter(|| snapshot.pack()));
        group.bench_function(format!("{name}/unpack"), |b| {
            b.iter(|| Snapshot::unpack(&packed, question_of_year.clone(), DEFINITION, WEEK_START).unwrap());
        });
        let largest = (0..)
            .take(snapshot.len())
            .map(BucketRef::At)
            .max_by_key(|&at| snapshot.visit_count(at, CohortKind::Visitors))
            .unwrap();
        group.bench_function(format!("{name}/cohort, first use"), |b| {
            b.iter_with_setup(
                || compute(&ledger, &question_of_year),
                |fresh| {
                    let list = fresh.cohort(largest, CohortKind::Visitors);
                    (fresh, list)
                },
            );
        });
        group.bench_function(format!("{name}/cohort"), |b| {
            b.iter(|| snapshot.cohort(largest, CohortKind::Visitors));
        });
        let list = snapshot.cohort(largest, CohortKind::Visitors);
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

/// The differences between two snapshots of a year, with changed visits and with another definition.
fn differences(criterion: &mut Criterion) {
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
        let question_of_year = question(period, data.year(), data.all.to, Filter::default());
        let before = compute(&ledger, &question_of_year);
        let changed_data = compute(&corrected, &question_of_year);
        let changed_definition = resolve(
            &ledger,
            &question_of_year,
            Definition::proposed(30, Some(1)),
            WEEK_START,
        );
        group.bench_function(format!("{name}/year/data"), |b| {
            b.iter(|| Differences::between(&before, &changed_data))
        });
        group.bench_function(format!("{name}/year/definition"), |b| {
            b.iter(|| Differences::between(&before, &changed_definition));
        });
    }
}

criterion_group!(
    benches,
    load,
    catch_up,
    resolving,
    resolving_small,
    snapshots,
    derived,
    differences
);
criterion_main!(benches);
