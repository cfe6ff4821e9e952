//! The core compared with the naive reference, and the worked example of the definitions.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::NaiveDate;
use proptest::collection::{btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, subsequence};
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use rollcall::statistics::{
    BucketRef, CohortKind, CohortList, CountedVisit, Day, DayRange, Definition, Differences, Filter, Ledger,
    LedgerBuilder, MembershipRule, PatientEvaluation, Period, Question, ReasonKind, Retention, SetExpression, Side,
    Snapshot, VisitChannel, VisitDelta, VisitDimension, VisitKeys, VisitRow, VisitStatus, WeekStart, combine, reasons,
    resolve,
};

use crate::reference::Reference;

fn ledger(visits: &[VisitRow]) -> Arc<Ledger> {
    let mut builder = LedgerBuilder::new(Vec::new());
    for visit in visits {
        builder.push(visit).unwrap();
    }
    Arc::new(builder.finish())
}

fn day(text: &str) -> Day {
    text.parse::<NaiveDate>().unwrap().into()
}

/// Compares every list of the snapshot with the reference, and the counts with the lists.
fn check(snapshot: &Snapshot, visits: &[VisitRow]) {
    let (question, definition) = (snapshot.question(), snapshot.definition());
    let reference = Reference::new(visits, question, definition);
    let buckets = (0..).take(snapshot.len()).map(BucketRef::At);
    for bucket in buckets.chain([BucketRef::Total]) {
        let covered = snapshot.bucket(bucket).unwrap().covered;
        for &kind in CohortKind::ALL {
            let expected = reference.cohort(covered, kind);
            let list = snapshot.cohort(bucket, kind);
            let patients: Vec<_> = list.patients.iter().map(|p| (p.id, p.visits as usize)).collect();
            let visits: Vec<_> = list.visits.iter().map(|v| v.id).collect();
            assert_eq!(
                patients,
                expected.patients.into_iter().collect::<Vec<_>>(),
                "patients of {kind:?} in {bucket:?} of {question:?}"
            );
            assert_eq!(
                visits,
                expected.visits.into_iter().collect::<Vec<_>>(),
                "visits of {kind:?} in {bucket:?} of {question:?}"
            );
            assert_eq!(snapshot.patient_count(bucket, kind), list.patients.len());
            assert_eq!(snapshot.visit_count(bucket, kind), list.visits.len());
            for patient in &list.patients {
                assert_eq!(
                    (patient.first_visit, patient.last_visit),
                    reference.first_and_last_visit(patient.id)
                );
            }
        }
    }
}

/// All buckets of a snapshot, and the total.
fn buckets(snapshot: &Snapshot) -> impl Iterator<Item = BucketRef> {
    (0..).take(snapshot.len()).map(BucketRef::At).chain([BucketRef::Total])
}

/// The patients of a cohort, by ID.
fn patients_of(snapshot: &Snapshot, bucket: BucketRef, kind: CohortKind) -> BTreeSet<i64> {
    snapshot.cohort(bucket, kind).patients.iter().map(|p| p.id).collect()
}

/// The states of visits before and after; an ID in both is one visit.
fn visit_deltas(before: &[VisitRow], after: &[VisitRow]) -> Vec<VisitDelta> {
    let ids: BTreeSet<i64> = before.iter().chain(after).map(|visit| visit.id).collect();
    let find = |rows: &[VisitRow], id| rows.iter().find(|visit| visit.id == id).copied();
    ids.into_iter()
        .map(|id| VisitDelta {
            id,
            before: find(before, id),
            after: find(after, id),
            moved_by: None,
        })
        .collect()
}

fn reasons_without_history(
    old: &Snapshot,
    new: &Snapshot,
    bucket: BucketRef,
    kind: CohortKind,
    side: Side,
    patient: i64,
) -> Vec<ReasonKind> {
    let reasons = reasons((old, new), (bucket, kind, side), patient, &[]);
    reasons.into_iter().map(|reason| reason.kind).collect()
}

/// 2024-02-26, a Monday: the random visits are within some weeks of it, across a leap day and the end of a month.
const BASE: i32 = 738_942;

prop_compose! {
    fn a_day()(offset in 0..70) -> Day { Day(BASE + offset) }
}

prop_compose! {
    fn a_range()(from in a_day(), length in 0..60) -> DayRange {
        DayRange::new(from, Day(from.0 + length)).unwrap()
    }
}

fn a_visit() -> impl Strategy<Value = VisitRow> {
    (
        1..12_i64,
        a_day(),
        option::of(0..3_i64),
        prop_oneof![
            4 => Just(VisitStatus::Completed),
            2 => Just(VisitStatus::Ended),
            4 => any::<Index>().prop_map(|i| *i.get(VisitStatus::ALL)),
        ],
        any::<Index>().prop_map(|i| *i.get(VisitChannel::ALL)),
        option::of(1..4_i64),
        option::of(1..4_i64),
    )
        .prop_map(
            |(patient, date, scheduled_at, status, channel, department, doctor)| VisitRow {
                id: 0,
                patient,
                date,
                scheduled_at,
                status,
                channel,
                department,
                doctor,
            },
        )
}

fn some_visits() -> impl Strategy<Value = Vec<VisitRow>> {
    vec(a_visit(), 0..80).prop_map(|mut visits| {
        for (visit, id) in visits.iter_mut().zip(1..) {
            visit.id = id;
        }
        visits
    })
}

fn a_filter() -> impl Strategy<Value = Filter> {
    let ids = || option::weighted(0.3, subsequence(vec![1, 2, 3, 9], 1..=3));
    let channels = option::weighted(0.3, subsequence(VisitChannel::ALL.to_vec(), 1..=4));
    (ids(), ids(), channels).prop_map(|(departments, doctors, channels)| Filter {
        departments,
        doctors,
        channels,
    })
}

fn a_question() -> impl Strategy<Value = Question> {
    let periods = [Period::Day, Period::Week, Period::Month, Period::Quarter, Period::Year];
    (any::<Index>(), a_range(), -5..90, a_filter()).prop_map(move |(period, range, as_of, filter)| Question {
        period: *period.get(&periods),
        range,
        as_of: Day(BASE + as_of),
        filter,
    })
}

fn a_definition() -> impl Strategy<Value = Definition> {
    (1..40, option::of(1..20)).prop_map(|(churn_after_days, overdue_after_days)| Definition {
        version: 1,
        churn_after_days,
        overdue_after_days,
    })
}

fn a_week_start() -> impl Strategy<Value = WeekStart> {
    prop_oneof![Just(WeekStart::Monday), Just(WeekStart::Sunday)]
}

/// A set of four lists.
fn a_set() -> impl Strategy<Value = SetExpression> {
    let list = (0..4_usize).prop_map(SetExpression::List);
    list.prop_recursive(3, 12, 3, |part| {
        let difference = |(of, without)| SetExpression::ButNot(Box::new(of), Box::new(without));
        prop_oneof![
            vec(part.clone(), 1..4).prop_map(SetExpression::AnyOf),
            vec(part.clone(), 1..4).prop_map(SetExpression::AllOf),
            (part.clone(), part).prop_map(difference),
        ]
    })
}

/// The patients of a set, by the definition.
fn naive_set(set: &SetExpression, lists: &[BTreeSet<i64>]) -> BTreeSet<i64> {
    let parts =
        |parts: &[SetExpression]| -> Vec<BTreeSet<i64>> { parts.iter().map(|part| naive_set(part, lists)).collect() };
    match set {
        SetExpression::List(place) => lists[*place].clone(),
        SetExpression::AnyOf(of) => parts(of).into_iter().flatten().collect(),
        SetExpression::AllOf(of) => {
            let parts = parts(of);
            parts[0]
                .iter()
                .copied()
                .filter(|id| parts.iter().all(|part| part.contains(id)))
                .collect()
        }
        SetExpression::ButNot(of, without) => &naive_set(of, lists) - &naive_set(without, lists),
    }
}

/// The lists whose visits a set has.
fn naive_sources(set: &SetExpression) -> BTreeSet<usize> {
    match set {
        SetExpression::List(place) => BTreeSet::from([*place]),
        SetExpression::AnyOf(parts) | SetExpression::AllOf(parts) => parts.iter().flat_map(naive_sources).collect(),
        SetExpression::ButNot(of, _) => naive_sources(of),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    #[test]
    fn every_list_matches_the_reference(
        visits in some_visits().prop_shuffle(),
        question in a_question(),
        definition in a_definition(),
        week_start in a_week_start(),
    ) {
        check(&resolve(&ledger(&visits), &question, definition, week_start), &visits);
    }

    #[test]
    fn packing_preserves_the_lists(
        visits in some_visits(),
        question in a_question(),
        definition in a_definition(),
        week_start in a_week_start(),
    ) {
        let packed = resolve(&ledger(&visits), &question, definition, week_start).pack();
        let opened = Snapshot::unpack(&packed, question, definition, week_start).unwrap();
        check(&opened, &visits);
        prop_assert_eq!(opened.pack(), packed);
    }

    #[test]
    fn sets_match_the_reference(
        visits in (some_visits(), some_visits()),
        questions in (a_question(), a_question()),
        definition in a_definition(),
        lists in vec((any::<bool>(), any::<Index>()), 4),
        merged in btree_set(2..12_i64, 0..4),
        set in a_set(),
    ) {
        let snapshots = [
            resolve(&ledger(&visits.0), &questions.0, definition, WeekStart::Monday),
            resolve(&ledger(&visits.1), &questions.1, definition, WeekStart::Monday),
        ];
        let list = |(older, kind): &(bool, Index)| snapshots[usize::from(*older)].cohort(BucketRef::Total, *kind.get(CohortKind::ALL));
        let lists: Vec<CohortList> = lists.iter().map(list).collect();
        let person = |id| if merged.contains(&id) { 1 } else { id };
        let found = combine(&set, &lists.iter().collect::<Vec<_>>(), person);
        let people: Vec<BTreeSet<i64>> = lists.iter().map(|list| list.patients.iter().map(|patient| person(patient.id)).collect()).collect();
        let members = naive_set(&set, &people);
        prop_assert_eq!(found.patients.iter().map(|patient| patient.id).collect::<Vec<_>>(), members.iter().copied().collect::<Vec<_>>());
        let mut visits: BTreeMap<i64, CountedVisit> = BTreeMap::new();
        let sources = naive_sources(&set);
        for visit in sources.iter().flat_map(|source| &lists[*source].visits) {
            let patient = person(visit.patient);
            if members.contains(&patient) {
                visits.entry(visit.id).or_insert(CountedVisit { patient, ..*visit });
            }
        }
        prop_assert_eq!(&found.visits, &visits.values().copied().collect::<Vec<_>>());
        for patient in &found.patients {
            prop_assert_eq!(patient.visits as usize, visits.values().filter(|visit| visit.patient == patient.id).count());
            let known = sources.iter().map(|source| lists[*source].patients.iter().filter(|counted| person(counted.id) == patient.id).collect::<Vec<_>>());
            let newest = known.into_iter().find(|counted| !counted.is_empty()).unwrap();
            prop_assert_eq!(patient.first_visit, newest.iter().filter_map(|counted| counted.first_visit).min());
            prop_assert_eq!(patient.last_visit, newest.iter().filter_map(|counted| counted.last_visit).max());
        }
        prop_assert_eq!(CohortList::unpack(&found.pack()).unwrap(), found);
    }

    #[test]
    fn parts_match_the_reference(
        visits in some_visits(),
        question in a_question(),
        definition in a_definition(),
        by in any::<Index>(),
    ) {
        let by = *by.get(VisitDimension::ALL);
        let snapshot = resolve(&ledger(&visits), &question, definition, WeekStart::Monday);
        let packed = snapshot.pack();
        let opened = Snapshot::unpack(&packed, question.clone(), definition, WeekStart::Monday).unwrap();
        prop_assert_eq!(opened.pack(), packed);
        let reference = Reference::new(&visits, &question, &definition);
        let keys: BTreeMap<i64, Option<i64>> = visits.iter().map(|visit| {
            let key = match by {
                VisitDimension::Department => visit.department,
                VisitDimension::Doctor => visit.doctor,
                VisitDimension::Channel => Some(visit.channel as i64),
                VisitDimension::Weekday => Some(chrono::Datelike::weekday(&visit.date.date()).num_days_from_monday().into()),
            };
            (visit.id, key)
        }).collect();
        for bucket in buckets(&snapshot) {
            let covered = snapshot.bucket(bucket).unwrap().covered;
            for &kind in CohortKind::ALL {
                let mut wanted: BTreeMap<(bool, Option<i64>), BTreeSet<i64>> = BTreeMap::new();
                for visit in reference.cohort(covered, kind).visits {
                    wanted.entry((keys[&visit].is_none(), keys[&visit])).or_default().insert(visit);
                }
                let list = snapshot.cohort(bucket, kind);
                let kept: BTreeMap<i64, VisitKeys> = opened.visit_keys(bucket, kind).unwrap().into_iter().collect();
                let mut divided = list.by_visit(|visit| {
                    let key = by.key(&kept[&visit.id], visit.date);
                    (key.is_none(), key)
                });
                prop_assert_eq!(divided.len(), wanted.len());
                for of in [&snapshot, &opened] {
                    let parts = of.visit_parts(bucket, kind, by).unwrap();
                    prop_assert_eq!(parts.iter().map(|part| (part.key.is_none(), part.key)).collect::<Vec<_>>(), wanted.keys().copied().collect::<Vec<_>>());
                    for (part, visits) in parts.iter().zip(wanted.values()) {
                        let part_list = of.part(part);
                        prop_assert_eq!(&part_list.visits.iter().map(|visit| visit.id).collect::<BTreeSet<_>>(), visits);
                        prop_assert_eq!((part.patient_count(), part.visit_count()), (part_list.patients.len(), visits.len()));
                        prop_assert_eq!(&divided[&(part.key.is_none(), part.key)], &part_list);
                    }
                }
                // Parts of patients.
                divided.clear();
                let halves = list.by_patient(|place| place % 2);
                let together: usize = halves.values().map(|half| half.visits.len()).sum();
                prop_assert_eq!(together, list.visits.len());
            }
        }
    }

    #[test]
    fn retention_matches_the_reference(
        visits in some_visits(),
        question in a_question(),
        definition in a_definition(),
        week_start in a_week_start(),
        horizon in 0..8_u32,
    ) {
        let ledger = ledger(&visits);
        let snapshot = resolve(&ledger, &question, definition, week_start);
        let retention = Retention::new(&ledger, &snapshot, horizon);
        let opened = Retention::unpack(&retention.pack(), &snapshot, horizon).unwrap();
        let reference = Reference::new(&visits, &question, &definition);
        prop_assert_eq!(retention.len(), snapshot.len());
        for row in 0..snapshot.len() {
            let at = BucketRef::At(u32::try_from(row).unwrap());
            let bucket = snapshot.bucket(at).unwrap();
            let new = reference.cohort(bucket.covered, CohortKind::New).patients;
            let mut unit = bucket.bounds;
            let mut cells = retention.row(row).iter().zip(opened.row(row));
            for offset in 0..=horizon {
                if unit.from > question.as_of {
                    break;
                }
                if offset > 0 || question.period != Period::Day {
                    let (cell, stored) = cells.next().unwrap();
                    prop_assert_eq!((cell.offset, cell.bounds), (offset, unit));
                    let counts = |visit: &&VisitRow| {
                        let first = reference.first_and_last_visit(visit.patient).0;
                        new.contains_key(&visit.patient)
                            && visit.status.attended()
                            && unit.contains(visit.date)
                            && visit.date <= question.as_of
                            && reference.passes_filter(visit)
                            && (offset > 0 || Some(visit.date) > first)
                    };
                    let counted: Vec<&VisitRow> = visits.iter().filter(counts).collect();
                    let list = cell.list();
                    prop_assert_eq!(list.visits.iter().map(|visit| visit.id).collect::<Vec<_>>(), counted.iter().map(|visit| visit.id).collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>());
                    let patients: BTreeSet<i64> = counted.iter().map(|visit| visit.patient).collect();
                    prop_assert_eq!(list.patients.iter().map(|patient| patient.id).collect::<BTreeSet<_>>(), patients);
                    for patient in &list.patients {
                        prop_assert_eq!((patient.first_visit, patient.last_visit), reference.first_and_last_visit(patient.id));
                        prop_assert_eq!(patient.visits as usize, counted.iter().filter(|visit| visit.patient == patient.id).count());
                    }
                    prop_assert_eq!((cell.patient_count(), cell.visit_count()), (list.patients.len(), list.visits.len()));
                    prop_assert_eq!(stored.list(), list);
                }
                unit = question.period.unit_of(Day(unit.to.0 + 1), week_start);
            }
            prop_assert!(cells.next().is_none());
        }
    }

    #[test]
    fn corrupt_snapshots_never_panic(
        visits in some_visits(),
        question in a_question(),
        definition in a_definition(),
        at in any::<Index>(),
        byte in any::<u8>(),
    ) {
        let mut packed = resolve(&ledger(&visits), &question, definition, WeekStart::Monday).pack();
        if let Some(bucket) = packed.buckets.iter_mut().find(|b| !b.is_empty()) {
            let place = at.index(bucket.len());
            bucket[place] = byte;
            bucket.truncate(place + 1);
        }
        let place = at.index(packed.patients.len());
        packed.patients[place] = byte;
        if let Ok(snapshot) = Snapshot::unpack(&packed, question, definition, WeekStart::Monday) {
            let list = snapshot.cohort(BucketRef::Total, CohortKind::Visitors);
            prop_assert_eq!(list.patients.len(), snapshot.patient_count(BucketRef::Total, CohortKind::Visitors));
        }
    }

    #[test]
    fn an_updated_ledger_equals_a_reloaded_one(
        before in some_visits(),
        // The change to each of the visits before, if any.
        changes in vec(option::weighted(0.3, option::weighted(0.8, a_visit())), 80),
        added in vec(a_visit(), 0..10),
        question in a_question(),
        definition in a_definition(),
    ) {
        let mut after = Vec::new();
        let (mut touched, mut old_dates) = (BTreeSet::new(), BTreeSet::new());
        for (visit, change) in before.iter().zip(&changes) {
            let becomes = match change {
                None => Some(*visit),
                Some(changed) => {
                    touched.insert(visit.patient);
                    old_dates.insert(visit.date);
                    changed.map(|changed| VisitRow { id: visit.id, ..changed })
                }
            };
            if let (Some(visit), Some(_)) = (becomes, change) {
                touched.insert(visit.patient);
            }
            after.extend(becomes);
        }
        for (visit, id) in added.into_iter().zip(1000..) {
            touched.insert(visit.patient);
            after.push(VisitRow { id, ..visit });
        }
        let rows: Vec<_> = after.iter().filter(|v| touched.contains(&v.patient)).copied().collect();
        let old = ledger(&before);
        let changed = Arc::new(old.changed(&touched, &old_dates, &rows).unwrap());
        prop_assert_eq!(changed.len(), after.len());
        check(&resolve(&changed, &question, definition, WeekStart::Monday), &after);
        check(&resolve(&old, &question, definition, WeekStart::Monday), &before);
    }

    #[test]
    fn explanations_match_the_lists(
        visits in some_visits(),
        question in a_question(),
        definition in a_definition(),
        week_start in a_week_start(),
    ) {
        let snapshot = resolve(&ledger(&visits), &question, definition, week_start);
        let packed = snapshot.pack();
        let opened = Snapshot::unpack(&packed, question.clone(), definition, week_start).unwrap();
        let reference = Reference::new(&visits, &question, &definition);
        // The patient 12 does not exist.
        for patient in 1..=12 {
            let own: Vec<_> = visits.iter().filter(|visit| visit.patient == patient).copied().collect();
            let case = PatientEvaluation::new(&question, &definition, week_start, own);
            let ends = (case.first().map(|visit| visit.date), case.last().map(|visit| visit.date));
            prop_assert_eq!(ends, reference.first_and_last_visit(patient));
            for bucket in buckets(&snapshot) {
                let bounds = snapshot.bucket(bucket).unwrap().bounds;
                for &kind in CohortKind::ALL {
                    let finding = case.finding(bounds, kind);
                    let counted = patients_of(&snapshot, bucket, kind).contains(&patient);
                    prop_assert_eq!(finding.included, counted, "{} in {:?} of {:?}: {:?}", patient, kind, bucket, finding);
                    prop_assert_eq!(snapshot.contains(bucket, kind, patient), counted);
                    prop_assert_eq!(opened.contains(bucket, kind, patient), counted);
                    prop_assert_eq!(finding.visits.is_empty(), finding.rule == MembershipRule::NoVisit);
                    prop_assert!(!finding.visits.iter().any(|visit| visit.patient != patient));
                    prop_assert!(!case.sentence(bounds, kind, &finding).contains("  "));
                }
            }
        }
    }

    #[test]
    fn changes_match_the_lists_and_have_reasons(
        before in some_visits(),
        changes in vec(option::weighted(0.2, option::weighted(0.8, a_visit())), 80),
        added in vec(a_visit(), 0..5),
        question in a_question(),
        rules in (a_definition(), a_definition()),
        later in 0..40,
        moved in option::weighted(0.6, (-20..20_i32, -20..20_i32)),
        week_start in a_week_start(),
    ) {
        let mut after: Vec<VisitRow> = before.iter().zip(&changes).filter_map(|(visit, change)| match change {
            None => Some(*visit),
            Some(changed) => changed.map(|changed| VisitRow { id: visit.id, ..changed }),
        }).collect();
        after.extend(added.into_iter().zip(1000..).map(|(visit, id)| VisitRow { id, ..visit }));
        let range = moved.map_or(question.range, |(from, to): (i32, i32)| {
            let from = (question.range.from.0 + from).min(question.range.to.0);
            DayRange { from: Day(from), to: Day((question.range.to.0 + to).max(from).max(question.range.from.0)) }
        });
        let asked_later = Question { as_of: Day(question.as_of.0 + later), range, ..question.clone() };
        let old = resolve(&ledger(&before), &question, rules.0, week_start);
        let new = resolve(&ledger(&after), &asked_later, rules.1, week_start);
        let differences = Differences::between(&old, &new).unwrap();
        let visit_deltas = visit_deltas(&before, &after);
        // A unit is compared if both ranges have the same days of it; every other one is named.
        let units = |snapshot: &Snapshot, range: DayRange| -> Vec<(BucketRef, Vec<i32>)> {
            let at = |index| {
                let unit = snapshot.bucket(BucketRef::At(index)).unwrap().bounds;
                let days = (unit.from.0..=unit.to.0).filter(|&day| range.contains(Day(day)));
                (BucketRef::At(index), days.collect())
            };
            (0..).take(snapshot.len()).map(at).collect()
        };
        let (old_units, new_units) = (units(&old, question.range), units(&new, range));
        let same = |units: &[(BucketRef, Vec<i32>)], days: &[i32]| units.iter().find(|unit| unit.1 == days).map(|unit| unit.0);
        let only = |these: &[(BucketRef, Vec<i32>)], others: &[(BucketRef, Vec<i32>)]| -> Vec<BucketRef> {
            these.iter().filter(|unit| same(others, &unit.1).is_none()).map(|unit| unit.0).collect()
        };
        prop_assert_eq!(differences.only_before().collect::<Vec<_>>(), only(&old_units, &new_units));
        prop_assert_eq!(differences.only_after().collect::<Vec<_>>(), only(&new_units, &old_units));
        for (bucket, days) in &new_units {
            prop_assert_eq!(differences.before(*bucket), same(&old_units, days));
        }
        prop_assert!(range != question.range || differences.compared().count() == old.len());
        for bucket in differences.compared().chain([BucketRef::Total]) {
            let old_bucket = differences.before(bucket).unwrap();
            for &kind in CohortKind::ALL {
                let (was, is) = (patients_of(&old, old_bucket, kind), patients_of(&new, bucket, kind));
                for (side, wanted) in [(Side::Entered, &is - &was), (Side::Left, &was - &is)] {
                    let list = differences.list(bucket, kind, side);
                    prop_assert_eq!(list, wanted.into_iter().collect::<Vec<_>>());
                    for &patient in list {
                        let own: Vec<VisitDelta> = visit_deltas.iter().filter(|delta| {
                            [delta.before, delta.after].into_iter().flatten().any(|visit| visit.patient == patient)
                        }).copied().collect();
                        let reasons = reasons((&old, &new), (bucket, kind, side), patient, &own);
                        prop_assert!(!reasons.is_empty());
                        for reason in reasons {
                            prop_assert_ne!(reason.kind, ReasonKind::Unknown);
                            prop_assert!(reason.visits.iter().all(|id| own.iter().any(|delta| delta.id == *id)));
                            let data = !matches!(reason.kind, ReasonKind::DefinitionChanged | ReasonKind::TimePassed | ReasonKind::RangeMoved);
                            prop_assert!(!data || !reason.visits.is_empty());
                            prop_assert!(reason.kind != ReasonKind::TimePassed || later > 0);
                            prop_assert!(reason.kind != ReasonKind::RangeMoved || bucket == BucketRef::Total && range != question.range);
                            prop_assert!(reason.kind != ReasonKind::DefinitionChanged || rules.0 != rules.1);
                        }
                        // Without history the reason is unknown.
                        let forgotten = reasons_without_history(&old, &new, bucket, kind, side, patient);
                        prop_assert_eq!(forgotten, [ReasonKind::Unknown]);
                    }
                }
            }
        }
        // Units of weeks that start on another day are other units.
        let other_start = if week_start == WeekStart::Monday { WeekStart::Sunday } else { WeekStart::Monday };
        let other = resolve(&ledger(&[]), &question, rules.0, other_start);
        prop_assert_eq!(Differences::between(&old, &other).is_none(), question.period == Period::Week);
    }

    #[test]
    fn patients_are_new_in_at_most_one_bucket(
        visits in some_visits(),
        question in a_question(),
        definition in a_definition(),
    ) {
        let snapshot = resolve(&ledger(&visits), &question, definition, WeekStart::Sunday);
        let mut seen = BTreeSet::new();
        for bucket in (0..).take(snapshot.len()).map(BucketRef::At) {
            for patient in &snapshot.cohort(bucket, CohortKind::New).patients {
                prop_assert!(seen.insert(patient.id));
            }
        }
        let total: BTreeSet<_> = snapshot.cohort(BucketRef::Total, CohortKind::New).patients.iter().map(|p| p.id).collect();
        prop_assert_eq!(seen, total);
    }

    #[test]
    fn mature_buckets_have_no_pending_patients(
        visits in some_visits(),
        question in a_question(),
        definition in a_definition(),
        week_start in a_week_start(),
    ) {
        let question = Question { as_of: Day(question.as_of.0 + 40), ..question };
        let snapshot = resolve(&ledger(&visits), &question, definition, week_start);
        let reference = Reference::new(&visits, &question, &definition);
        for at in buckets(&snapshot) {
            let bucket = snapshot.bucket(at).unwrap();
            let calendar = bucket.complete() && question.as_of.0 - bucket.bounds.to.0 >= definition.churn_after_days;
            prop_assert_eq!(snapshot.churn_mature(at), calendar);
            if snapshot.churn_mature(at) {
                prop_assert_eq!(snapshot.patient_count(at, CohortKind::Pending), 0);
                prop_assert!(reference.cohort(bucket.covered, CohortKind::Pending).patients.is_empty());
                let new = reference.cohort(bucket.covered, CohortKind::New);
                let first = |patient: &i64| reference.first_and_last_visit(*patient).0.unwrap();
                prop_assert!(new.patients.keys().all(|patient| question.as_of.0 - first(patient).0 >= definition.churn_after_days));
            }
        }
    }

    #[test]
    fn buckets_are_contiguous(range in a_range(), week_start in a_week_start(), as_of in a_day(), days in btree_set(a_day(), 1..5)) {
        for period in [Period::Day, Period::Week, Period::Month, Period::Quarter, Period::Year] {
            let question = Question { period, range, as_of, filter: Filter::default() };
            let definition = Definition { version: 1, churn_after_days: 90, overdue_after_days: None };
            let snapshot = resolve(&ledger(&[]), &question, definition, week_start);
            let bounds: Vec<_> = (0..).take(snapshot.len()).map(|at| snapshot.bucket(BucketRef::At(at)).unwrap().bounds).collect();
            prop_assert!(bounds.windows(2).all(|pair| pair[0].to.0 + 1 == pair[1].from.0));
            prop_assert!(bounds[0].contains(range.from) && bounds[bounds.len() - 1].contains(range.to));
            for &day in &days {
                match snapshot.bucket_of(day) {
                    Some(bucket) => prop_assert!(snapshot.bucket(bucket).unwrap().bounds.contains(day)),
                    None => prop_assert!(!range.contains(day)),
                }
            }
        }
    }
}

/// Enough visits for parallel computation.
#[test]
fn large_hospitals_match_the_reference() {
    let mut runner = TestRunner::deterministic();
    let mut visits = vec(a_visit(), 40_000).new_tree(&mut runner).unwrap().current();
    for (visit, id) in visits.iter_mut().zip(1..) {
        visit.id = id;
        visit.patient += 11 * (id * 7_919 % 400);
    }
    let ledger = ledger(&visits);
    let (inside, after) = (Day(BASE + 40), Day(BASE + 75));
    let filter = Filter {
        departments: Some(vec![1, 3]),
        ..Filter::default()
    };
    for (period, as_of, filter) in [
        (Period::Day, after, Filter::default()),
        (Period::Week, inside, filter),
        (Period::Month, inside, Filter::default()),
        (Period::Year, after, Filter::default()),
    ] {
        let question = Question {
            period,
            range: DayRange::new(Day(BASE + 1), Day(BASE + 80)).unwrap(),
            as_of,
            filter,
        };
        let definition = Definition {
            version: 1,
            churn_after_days: 10,
            overdue_after_days: Some(3),
        };
        let snapshot = resolve(&ledger, &question, definition, WeekStart::Monday);
        check(&snapshot, &visits);
        let opened = Snapshot::unpack(&snapshot.pack(), question, definition, WeekStart::Monday).unwrap();
        check(&opened, &visits);
    }
}

#[test]
fn days_without_visits_use_no_memory() {
    let mut visits = vec(a_visit(), 100)
        .new_tree(&mut TestRunner::deterministic())
        .unwrap()
        .current();
    for (visit, id) in visits.iter_mut().zip(1..) {
        visit.id = id;
    }
    let near = ledger(&visits);
    visits[0].date = day("1900-01-01");
    visits[1].date = day("2200-12-31");
    let far = ledger(&visits);
    assert!(
        far.bytes() < near.bytes() + 2_000,
        "{} and {}",
        far.bytes(),
        near.bytes()
    );
    // Nor after the visits are moved away.
    let touched: BTreeSet<i64> = (1..12).collect();
    let moved: Vec<VisitRow> = visits
        .iter()
        .map(|visit| VisitRow {
            date: Day(BASE),
            ..*visit
        })
        .collect();
    let dates = visits.iter().map(|visit| visit.date).collect();
    let moved_ledger = far.changed(&touched, &dates, &moved).unwrap();
    assert_eq!(moved_ledger.len(), visits.len());
    assert!(moved_ledger.bytes() < far.bytes());
    let range = DayRange::new(day("1900-01-01"), day("2200-12-31")).unwrap();
    let question = Question {
        period: Period::Year,
        range,
        as_of: day("2200-12-31"),
        filter: Filter::default(),
    };
    let definition = Definition {
        version: 1,
        churn_after_days: 90,
        overdue_after_days: None,
    };
    check(&resolve(&far, &question, definition, WeekStart::Monday), &visits);
    check(
        &resolve(&Arc::new(moved_ledger), &question, definition, WeekStart::Monday),
        &moved,
    );
}

#[test]
fn packing_releases_the_ledger() {
    let visits = vec(a_visit(), 50)
        .new_tree(&mut TestRunner::deterministic())
        .unwrap()
        .current();
    let whole = ledger(&visits);
    let range = DayRange::new(Day(BASE), Day(BASE + 60)).unwrap();
    let question = Question {
        period: Period::Day,
        range,
        as_of: Day(BASE + 60),
        filter: Filter::default(),
    };
    let definition = Definition {
        version: 1,
        churn_after_days: 90,
        overdue_after_days: None,
    };
    let snapshot = resolve(&whole, &question, definition, WeekStart::Monday);
    let held = Arc::downgrade(&whole);
    drop(whole);
    let before = snapshot.bytes();
    let packed = snapshot.pack();
    assert!(held.upgrade().is_none());
    assert!(snapshot.bytes() > before, "now the patients' ids are its own");
    assert_eq!(snapshot.pack(), packed);
}

#[test]
fn the_worked_example_of_the_definitions() {
    let [a, b, c, d, e] = [1, 2, 3, 4, 5];
    let rows = [
        (a, "2025-05-11", VisitStatus::Completed),
        (a, "2025-05-13", VisitStatus::Completed),
        (b, "2025-04-28", VisitStatus::Completed),
        (b, "2025-05-02", VisitStatus::Completed),
        (b, "2025-06-03", VisitStatus::Completed),
        (c, "2025-05-20", VisitStatus::Completed),
        (c, "2025-06-02", VisitStatus::Completed),
        (c, "2025-08-20", VisitStatus::Completed),
        (d, "2025-05-09", VisitStatus::NoShow),
        (d, "2025-06-10", VisitStatus::Ended),
        (e, "2025-06-15", VisitStatus::Canceled),
    ];
    let visits: Vec<VisitRow> = rows
        .into_iter()
        .zip(1..)
        .map(|((patient, date, status), id)| VisitRow {
            id,
            patient,
            date: day(date),
            scheduled_at: None,
            status,
            channel: VisitChannel::Other,
            department: None,
            doctor: None,
        })
        .collect();
    let definition = Definition {
        version: 1,
        churn_after_days: 90,
        overdue_after_days: None,
    };
    let ask = |period, from, to| {
        let question = Question {
            period,
            range: DayRange::new(day(from), day(to)).unwrap(),
            as_of: day("2025-08-31"),
            filter: Filter::default(),
        };
        resolve(&ledger(&visits), &question, definition, WeekStart::Monday)
    };
    let snapshot = ask(Period::Month, "2025-05-01", "2025-06-30");
    let who = |bucket, kind| {
        let list = snapshot.cohort(bucket, kind);
        list.patients.iter().map(|p| p.id).collect::<Vec<_>>()
    };
    let (may, june) = (BucketRef::At(0), BucketRef::At(1));
    assert_eq!(who(may, CohortKind::New), [a, c]);
    assert_eq!(who(may, CohortKind::Returning), [b]);
    assert_eq!(who(may, CohortKind::ChurnSuspected), [a]);
    assert_eq!(who(may, CohortKind::Retained), [c]);
    assert_eq!(who(may, CohortKind::NoShow), [d]);
    assert_eq!(snapshot.patient_count(may, CohortKind::Visitors), 3);
    assert_eq!(snapshot.visit_count(may, CohortKind::Visitors), 4);
    assert_eq!(who(june, CohortKind::New), [d]);
    assert_eq!(who(june, CohortKind::Returning), [b, c]);
    assert_eq!(who(june, CohortKind::Pending), [d]);
    assert_eq!(who(june, CohortKind::Canceled), [e]);
    assert_eq!(who(BucketRef::Total, CohortKind::New), [a, c, d]);
    assert_eq!(who(BucketRef::Total, CohortKind::Returning), [b]);
    check(&snapshot, &visits);

    let by_day = ask(Period::Day, "2025-05-01", "2025-06-30");
    let on = |date| by_day.bucket_of(day(date)).unwrap();
    let is = |date, kind| by_day.cohort(on(date), kind).patients.iter().any(|p| p.id == a);
    assert!(is("2025-05-11", CohortKind::New) && !is("2025-05-11", CohortKind::Returning));
    assert!(is("2025-05-13", CohortKind::Returning) && !is("2025-05-13", CohortKind::New));
}
