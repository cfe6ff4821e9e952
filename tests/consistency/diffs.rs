//! Checks the differences between an issued snapshot and now, and the explanation of why a patient is listed.

use std::collections::BTreeSet;

use rand::RngExt as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rollcall::statistics::CohortKind;
use serde::Deserialize as _;
use serde_json::{Value, json};
use test_support::{Checked, ensure};

use crate::context::RunContext;
use crate::dataset::{self, Dataset};
use crate::queries::IssuedSnapshot;
use crate::response::{BucketResponse, STATISTICS, StatisticsResponse, id_of, number_of};
use crate::servers::ServerChoice;

/// Checks one or the other at random.
pub async fn check(ctx: &RunContext<'_>, random: &mut StdRng) -> Checked {
    let _guard = ctx.restore_lock.read().await;
    let Some(snapshot) = ctx.any_issued(random) else {
        return Ok(());
    };
    if random.random() {
        explain(ctx, &snapshot, random).await
    } else {
        compare(ctx, &snapshot, random).await
    }
}

/// Checks the explanation of a patient against the lists of the snapshot.
async fn explain(ctx: &RunContext<'_>, snapshot: &IssuedSnapshot, random: &mut StdRng) -> Checked {
    let mut patients = snapshot.response.total.list(CohortKind::Visitors).patients();
    patients.extend(1..120);
    let patient = *patients.choose(random).unwrap();
    let query = "query ($id: ID!, $patient: ID!) { statisticsSnapshot(id: $id) { explain(patientId: $patient) {
        buckets { cohorts { ...Why } } total { cohorts { ...Why } }
    } } } fragment Why on CohortMembership { kind included rule text }";
    let variables = json!({"id": snapshot.id, "patient": id_of('P', patient)});
    let which = ServerChoice::any(random);
    let data = ctx.servers.graphql(which, query, &variables, &ctx.counters).await?;
    let data = &data["statisticsSnapshot"]["explain"];
    let describe = format!("{which:?} explains the patient {patient} in {}", snapshot.id);
    // A deleted patient has no explanation.
    ensure!(data.is_object() || data.is_null(), "{describe}: {data}");
    let response = &snapshot.response;
    let Some(buckets) = data["buckets"].as_array() else {
        let listed = response.total.list(CohortKind::Visitors).patients().contains(&patient);
        ensure!(!listed, "{describe} as nobody, and lists the patient");
        return Ok(());
    };
    ensure!(
        buckets.len() == response.buckets.len(),
        "{describe} in {} buckets",
        buckets.len()
    );
    let buckets = buckets.iter().zip(&response.buckets);
    for (data, bucket) in buckets.chain([(&data["total"], &response.total)]) {
        for membership in data["cohorts"].as_array().unwrap() {
            let kind = kind_of(&membership["kind"]);
            let listed = bucket.list(kind).patients().contains(&patient);
            ensure!(
                membership["included"] == listed,
                "{describe}: {membership}, but listed: {listed}"
            );
            let what = if membership["rule"] == "UNKNOWN" {
                "memberships with an unknown reason"
            } else {
                "memberships explained"
            };
            ctx.counters.count(what, 1);
        }
    }
    Ok(())
}

fn kind_of(word: &Value) -> CohortKind {
    *CohortKind::ALL.iter().find(|kind| *word == kind.as_str()).unwrap()
}

/// Checks the differences between a snapshot and the same query now.
async fn compare(ctx: &RunContext<'_>, old: &IssuedSnapshot, random: &mut StdRng) -> Checked {
    let as_of = if random.random() {
        old.response.as_of
    } else {
        ctx.any_day(random).date()
    };
    let ids = |list: &str| {
        let list = old.data["filter"][list].as_array();
        list.map(|rows| rows.iter().map(|row| row["id"].clone()).collect::<Vec<_>>())
    };
    let variables = json!({
        "period": old.data["period"], "range": old.data["range"], "asOf": as_of,
        "filter": {"departmentIds": ids("departments"), "doctorIds": ids("doctors"), "channels": old.data["filter"]["channels"]},
        "lists": true, "keep": true,
    });
    let query = format!(
        "query ($period: Period!, $range: DateRangeInput!, $asOf: Date, $filter: StatisticsFilter, $lists: Boolean!, $keep: Boolean!) {{
            statistics(period: $period, range: $range, asOf: $asOf, filter: $filter) {{ ...Whole }}
        }} {STATISTICS}"
    );
    let which = ServerChoice::any(random);
    let mut data = ctx.servers.graphql(which, &query, &variables, &ctx.counters).await?;
    let data = data["statistics"].take();
    let new = StatisticsResponse::deserialize(&data).map_err(|error| format!("{error}: {data}"))?;
    let dataset = ctx.dataset_at(&new.revision).await?;
    let place = random.random_range(0..=new.buckets.len());
    let kind = *CohortKind::ALL.choose(random).unwrap();
    let asked = Comparison {
        old,
        new,
        place,
        kind,
        datasets: old.dataset.as_deref().zip(dataset.as_deref()),
    };
    let describe = |violation| format!("{} since {}: {violation}", data["id"], old.id);
    asked.check_changes(ctx, which.other()).await.map_err(describe)
}

/// Two snapshots of one query, and the cohort that is compared in full.
struct Comparison<'a> {
    old: &'a IssuedSnapshot,
    new: StatisticsResponse,
    place: usize,
    kind: CohortKind,
    /// The data of both, if known.
    datasets: Option<(&'a Dataset, &'a Dataset)>,
}

impl Comparison<'_> {
    async fn check_changes(&self, ctx: &RunContext<'_>, which: ServerChoice) -> Checked {
        let query = "query ($id: ID!, $since: ID!, $day: Date!, $kind: CohortKind!, $total: Boolean!) {
            statisticsSnapshot(id: $id) { changes(since: $since) {
                buckets { changedCohorts { ...Counts } }
                total { changedCohorts { ...Counts } cohort(kind: $kind) @include(if: $total) { ...Pages } }
                bucket(day: $day) @skip(if: $total) { cohort(kind: $kind) { ...Pages } }
            } }
        }
        fragment Counts on CohortChanges { kind enteredCount leftCount }
        fragment Pages on CohortChanges {
            entered(first: 100) { totalCount edges { ...Why } }
            left(first: 100) { totalCount edges { ...Why } }
        }
        fragment Why on PatientChangeEdge { node { id } reasons { kind text visits {
            visit { id } before { date status } after { date status }
        } } }";
        // The first day of a bucket may be before the range.
        let day = self
            .new
            .buckets
            .get(self.place)
            .map_or(self.new.as_of, BucketResponse::last_day);
        let day = day.min(self.old.question.range.to.date());
        let variables = json!({
            "id": self.new.id, "since": self.old.id, "day": day, "kind": self.kind.as_str(),
            "total": self.place == self.new.buckets.len(),
        });
        let comparable = self.old.response.starts() == self.new.starts()
            && dataset::number(&self.old.response.revision) <= dataset::number(&self.new.revision);
        let data = match ctx.servers.try_graphql(which, query, &variables, &ctx.counters).await? {
            Ok(data) if comparable => data,
            Err(errors) if !comparable && errors[0]["extensions"]["argument"] == "since" => {
                ctx.counters
                    .count("comparisons rejected: different weeks, or a newer base", 1);
                return Ok(());
            }
            data => return Err(format!("comparable: {comparable}, and {which:?} returns {data:?}")),
        };
        let data = &data["statisticsSnapshot"]["changes"];
        let buckets = data["buckets"].as_array().unwrap().iter().zip(&self.new.buckets);
        let olds = self.old.response.buckets.iter().chain([&self.old.response.total]);
        let news = buckets.chain([(&data["total"], &self.new.total)]);
        for (old, (data, new)) in olds.zip(news) {
            for &kind in CohortKind::ALL {
                let (entered, left) = difference(old, new, kind);
                let changed = data["changedCohorts"].as_array().unwrap();
                let counts = changed.iter().find(|changed| changed["kind"] == kind.as_str());
                let counts = counts.map_or(json!([0, 0]), |data| json!([data["enteredCount"], data["leftCount"]]));
                ensure!(
                    counts == json!([entered.len(), left.len()]),
                    "{counts} entered and left {kind:?}, but the lists differ by {entered:?} and {left:?}"
                );
            }
        }
        ctx.counters.count("snapshots compared", 1);
        let (lists, old, new) = match self.new.buckets.get(self.place) {
            Some(new) => (&data["bucket"]["cohort"], &self.old.response.buckets[self.place], new),
            None => (&data["total"]["cohort"], &self.old.response.total, &self.new.total),
        };
        let (entered, left) = difference(old, new, self.kind);
        for (side, ids) in [("entered", entered), ("left", left)] {
            let edges = lists[side]["edges"].as_array().unwrap();
            let rows: Vec<i64> = edges
                .iter()
                .map(|edge| number_of(edge["node"]["id"].as_str().unwrap()))
                .collect();
            ensure!(
                lists[side]["totalCount"] == ids.len() && rows.iter().eq(ids.iter().take(100)),
                "{} {side} {:?}, but the lists differ by {ids:?}",
                lists[side],
                self.kind
            );
            for edge in edges {
                let reasons = edge["reasons"].as_array().unwrap();
                ensure!(!reasons.is_empty(), "{edge} {side} {:?} for no reason", self.kind);
                for reason in reasons {
                    self.check_reason(ctx, reason)
                        .map_err(|violation| format!("{edge} {side} {:?}: {violation}", self.kind))?;
                }
            }
        }
        Ok(())
    }

    /// A reason must be true of both snapshots.
    fn check_reason(&self, ctx: &RunContext<'_>, reason: &Value) -> Checked {
        let (old, new) = (&self.old.response, &self.new);
        let may_be = match reason["kind"].as_str().unwrap() {
            "UNKNOWN" => {
                ctx.counters.count("unknown reasons", 1);
                return Ok(());
            }
            "TIME_PASSED" => old.as_of != new.as_of,
            "DEFINITION_CHANGED" => old.definition_version() != new.definition_version(),
            _ => old.revision != new.revision,
        };
        ensure!(may_be, "nothing of that kind differs");
        ctx.counters.count("known reasons", 1);
        let Some((before, after)) = self.datasets else {
            return Ok(());
        };
        for visit in reason["visits"].as_array().unwrap() {
            let id = number_of(visit["visit"]["id"].as_str().unwrap());
            for (dataset, data) in [(before, &visit["before"]), (after, &visit["after"])] {
                let was = dataset.visit(id);
                let was = was.map(|visit| json!({"date": visit.date.date(), "status": visit.status.as_str()}));
                ensure!(
                    *data == json!(was),
                    "the visit {id} was {was:?} at the revision {}",
                    dataset.revision
                );
            }
            ctx.counters.count("cited visits that match the data", 1);
        }
        Ok(())
    }
}

/// Patients only in the newer list, and only in the older.
fn difference(old: &BucketResponse, new: &BucketResponse, kind: CohortKind) -> (Vec<i64>, Vec<i64>) {
    let [old, new] = [old, new].map(|bucket| BTreeSet::from_iter(bucket.list(kind).patients()));
    (
        new.difference(&old).copied().collect(),
        old.difference(&new).copied().collect(),
    )
}
