//! Clients that ask what changed since a snapshot that they hold, and why a patient is listed.

use std::collections::BTreeSet;

use rand::RngExt as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rollcall::statistics::CohortKind;
use serde::Deserialize as _;
use serde_json::{Value, json};

use crate::answer::{Answer, BucketAnswer, STATISTICS, id_of, number_of};
use crate::asking::HandedOut;
use crate::servers::Which;
use crate::site::Site;
use crate::world::{self, World};
use crate::{Held, hold};

/// Asks one or the other.
pub async fn tell(site: &Site<'_>, random: &mut StdRng) -> Held {
    let _present = site.past.read().await;
    let Some(snapshot) = site.any_handed_out(random) else {
        return Ok(());
    };
    if random.random() {
        explain(site, &snapshot, random).await
    } else {
        compare(site, &snapshot, random).await
    }
}

/// Why a patient is listed: said of each list that the patient is in, and of no other.
async fn explain(site: &Site<'_>, snapshot: &HandedOut, random: &mut StdRng) -> Held {
    let mut patients = snapshot.answer.total.list(CohortKind::Visitors).patients();
    patients.extend(1..120);
    let patient = *patients.choose(random).unwrap();
    let query = "query ($id: ID!, $patient: ID!) { statisticsSnapshot(id: $id) { explain(patientId: $patient) {
        buckets { cohorts { ...Why } } total { cohorts { ...Why } }
    } } } fragment Why on CohortMembership { kind included rule text }";
    let variables = json!({"id": snapshot.id, "patient": id_of('P', patient)});
    let which = Which::any(random);
    let said = site.servers.ask(which, query, &variables, &site.figures).await?;
    let said = &said["statisticsSnapshot"]["explain"];
    let about = format!("{which:?} explains the patient {patient} in {}", snapshot.id);
    // Nothing is left of who was deleted.
    hold!(said.is_object() || said.is_null(), "{about}: {said}");
    let answer = &snapshot.answer;
    let Some(buckets) = said["buckets"].as_array() else {
        let listed = answer.total.list(CohortKind::Visitors).patients().contains(&patient);
        hold!(!listed, "{about} as nobody, and lists the patient");
        return Ok(());
    };
    hold!(
        buckets.len() == answer.buckets.len(),
        "{about} in {} buckets",
        buckets.len()
    );
    let buckets = buckets.iter().zip(&answer.buckets);
    for (said, bucket) in buckets.chain([(&said["total"], &answer.total)]) {
        for membership in said["cohorts"].as_array().unwrap() {
            let kind = kind_of(&membership["kind"]);
            let listed = bucket.list(kind).patients().contains(&patient);
            hold!(
                membership["included"] == listed,
                "{about}: {membership}, and whether the list has the patient: {listed}"
            );
            let what = if membership["rule"] == "UNKNOWN" {
                "memberships whose reason is not known any more"
            } else {
                "memberships explained"
            };
            site.figures.count(what, 1);
        }
    }
    Ok(())
}

fn kind_of(word: &Value) -> CohortKind {
    *CohortKind::ALL.iter().find(|kind| *word == kind.as_str()).unwrap()
}

/// What differs between a snapshot and the same question asked now.
async fn compare(site: &Site<'_>, old: &HandedOut, random: &mut StdRng) -> Held {
    let as_of = if random.random() {
        old.answer.as_of
    } else {
        site.any_day(random).date()
    };
    let ids = |list: &str| {
        let list = old.said["filter"][list].as_array();
        list.map(|rows| rows.iter().map(|row| row["id"].clone()).collect::<Vec<_>>())
    };
    let variables = json!({
        "period": old.said["period"], "range": old.said["range"], "asOf": as_of,
        "filter": {"departmentIds": ids("departments"), "doctorIds": ids("doctors"), "channels": old.said["filter"]["channels"]},
        "lists": true, "keep": true,
    });
    let query = format!(
        "query ($period: Period!, $range: DateRangeInput!, $asOf: Date, $filter: StatisticsFilter, $lists: Boolean!, $keep: Boolean!) {{
            statistics(period: $period, range: $range, asOf: $asOf, filter: $filter) {{ ...Whole }}
        }} {STATISTICS}"
    );
    let which = Which::any(random);
    let mut said = site.servers.ask(which, &query, &variables, &site.figures).await?;
    let said = said["statistics"].take();
    let new = Answer::deserialize(&said).map_err(|error| format!("{error}: {said}"))?;
    let world = site.world_at(&new.revision).await?;
    let place = random.random_range(0..=new.buckets.len());
    let kind = *CohortKind::ALL.choose(random).unwrap();
    let asked = Comparison {
        old,
        new,
        place,
        kind,
        worlds: old.world.as_deref().zip(world.as_deref()),
    };
    let about = |finding| format!("{} since {}: {finding}", said["id"], old.id);
    asked.is_told(site, which.other()).await.map_err(about)
}

/// Two snapshots of one question, and the list of theirs that is looked at.
struct Comparison<'a> {
    old: &'a HandedOut,
    new: Answer,
    place: usize,
    kind: CohortKind,
    /// The data of both, where they are known.
    worlds: Option<(&'a World, &'a World)>,
}

impl Comparison<'_> {
    async fn is_told(&self, site: &Site<'_>, which: Which) -> Held {
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
        // The first day of a bucket may lie before the range.
        let day = self
            .new
            .buckets
            .get(self.place)
            .map_or(self.new.as_of, BucketAnswer::last_day);
        let day = day.min(self.old.question.range.to.date());
        let variables = json!({
            "id": self.new.id, "since": self.old.id, "day": day, "kind": self.kind.as_str(),
            "total": self.place == self.new.buckets.len(),
        });
        let comparable = self.old.answer.starts() == self.new.starts()
            && world::number(&self.old.answer.revision) <= world::number(&self.new.revision);
        let said = match site.servers.try_ask(which, query, &variables, &site.figures).await? {
            Ok(said) if comparable => said,
            Err(errors) if !comparable && errors[0]["extensions"]["argument"] == "since" => {
                site.figures
                    .count("comparisons refused: other weeks, or a newer past", 1);
                return Ok(());
            }
            said => return Err(format!("comparable: {comparable}, and {which:?} says {said:?}")),
        };
        let said = &said["statisticsSnapshot"]["changes"];
        let buckets = said["buckets"].as_array().unwrap().iter().zip(&self.new.buckets);
        let olds = self.old.answer.buckets.iter().chain([&self.old.answer.total]);
        let news = buckets.chain([(&said["total"], &self.new.total)]);
        for (old, (said, new)) in olds.zip(news) {
            for &kind in CohortKind::ALL {
                let (entered, left) = difference(old, new, kind);
                let changed = said["changedCohorts"].as_array().unwrap();
                let counts = changed.iter().find(|changed| changed["kind"] == kind.as_str());
                let counts = counts.map_or(json!([0, 0]), |said| json!([said["enteredCount"], said["leftCount"]]));
                hold!(
                    counts == json!([entered.len(), left.len()]),
                    "{counts} entered and left {kind:?}, and by the lists {entered:?} and {left:?}"
                );
            }
        }
        site.figures.count("snapshots compared", 1);
        let (lists, old, new) = match self.new.buckets.get(self.place) {
            Some(new) => (&said["bucket"]["cohort"], &self.old.answer.buckets[self.place], new),
            None => (&said["total"]["cohort"], &self.old.answer.total, &self.new.total),
        };
        let (entered, left) = difference(old, new, self.kind);
        for (side, ids) in [("entered", entered), ("left", left)] {
            let edges = lists[side]["edges"].as_array().unwrap();
            let rows: Vec<i64> = edges
                .iter()
                .map(|edge| number_of(edge["node"]["id"].as_str().unwrap()))
                .collect();
            hold!(
                lists[side]["totalCount"] == ids.len() && rows.iter().eq(ids.iter().take(100)),
                "{} {side} {:?}, and by the lists {ids:?}",
                lists[side],
                self.kind
            );
            for edge in edges {
                let reasons = edge["reasons"].as_array().unwrap();
                hold!(!reasons.is_empty(), "{edge} {side} {:?} for no reason", self.kind);
                for reason in reasons {
                    self.bears(site, reason)
                        .map_err(|finding| format!("{edge} {side} {:?}: {finding}", self.kind))?;
                }
            }
        }
        Ok(())
    }

    /// A reason is not guessed: what it cites was so.
    fn bears(&self, site: &Site<'_>, reason: &Value) -> Held {
        let (old, new) = (&self.old.answer, &self.new);
        let may_be = match reason["kind"].as_str().unwrap() {
            "UNKNOWN" => {
                site.figures.count("reasons that are not known any more", 1);
                return Ok(());
            }
            "TIME_PASSED" => old.as_of != new.as_of,
            "DEFINITION_CHANGED" => old.definition_version() != new.definition_version(),
            _ => old.revision != new.revision,
        };
        hold!(may_be, "nothing of the kind is different");
        site.figures.count("reasons told", 1);
        let Some((before, after)) = self.worlds else {
            return Ok(());
        };
        for visit in reason["visits"].as_array().unwrap() {
            let id = number_of(visit["visit"]["id"].as_str().unwrap());
            for (world, said) in [(before, &visit["before"]), (after, &visit["after"])] {
                let was = world.visit(id);
                let was = was.map(|visit| json!({"date": visit.date.date(), "status": visit.status.as_str()}));
                hold!(
                    *said == json!(was),
                    "the visit {id} was {was:?} at the revision {}",
                    world.revision
                );
            }
            site.figures.count("visits cited that were so", 1);
        }
        Ok(())
    }
}

/// Who is in the newer list and not in the older, and the other way round.
fn difference(old: &BucketAnswer, new: &BucketAnswer, kind: CohortKind) -> (Vec<i64>, Vec<i64>) {
    let [old, new] = [old, new].map(|bucket| BTreeSet::from_iter(bucket.list(kind).patients()));
    (
        new.difference(&old).copied().collect(),
        old.difference(&new).copied().collect(),
    )
}
