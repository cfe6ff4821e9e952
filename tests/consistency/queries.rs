//! Statistics queries, whose responses are compared with the reference.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use chrono::{NaiveDate, Utc};
use rand::RngExt as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rollcall::statistics::{Day, DayRange, Filter, Period, Question, VisitChannel};
use serde::Deserialize as _;
use serde_json::{Value, json};
use test_support::{Checked, ensure};

use crate::context::RunContext;
use crate::dataset::{self, Dataset};
use crate::response::{STATISTICS, StatisticsResponse, difference, id_of};
use crate::servers::ServerChoice;

pub const QUERIES: &str = "queries";
pub const CHECKED_QUERIES: &str = "queries compared with the reference";

const PERIODS: [(Period, &str); 5] = [
    (Period::Day, "DAY"),
    (Period::Week, "WEEK"),
    (Period::Month, "MONTH"),
    (Period::Quarter, "QUARTER"),
    (Period::Year, "YEAR"),
];

/// A snapshot whose ID was returned to a client, with the response.
pub struct IssuedSnapshot {
    pub id: String,
    pub data: Value,
    pub response: StatisticsResponse,
    pub question: Question,
    /// The data at its revision, if it was read in time.
    pub dataset: Option<Arc<Dataset>>,
    /// Lists that were paged to the end, as they were the first time, in JSON.
    pub orders: Mutex<HashMap<String, String>>,
}

struct StatisticsQuery {
    period: (Period, &'static str),
    range: DayRange,
    as_of: Option<NaiveDate>,
    filter: Filter,
    lists: bool,
    record: bool,
    /// First only the ID, then the rest by ID from the other server.
    by_id: bool,
}

impl StatisticsQuery {
    fn any(random: &mut StdRng, ctx: &RunContext) -> Self {
        let from = Day(ctx.days.from.0 + random.random_range(-5..60));
        let most = if random.random_ratio(1, 4) { 400 } else { 60 };
        let length = random.random_range(0..most);
        let lists = random.random_ratio(3, 4);
        let record = lists && random.random_ratio(2, 3);
        Self {
            period: *PERIODS.choose(random).unwrap(),
            range: DayRange::new(from, Day(from.0 + length)).unwrap(),
            // Before, during and after the visits.
            as_of: random
                .random_ratio(3, 4)
                .then(|| Day(ctx.days.from.0 + random.random_range(-10..120)).date()),
            filter: Filter {
                departments: some_of(random, &ctx.departments),
                doctors: some_of(random, &ctx.doctors),
                channels: some_of(random, VisitChannel::ALL),
            },
            lists,
            record,
            by_id: record && random.random_ratio(1, 4),
        }
    }

    fn variables(&self) -> Value {
        let ids = |letter, ids: &Option<Vec<i64>>| {
            let ids = ids.as_ref();
            ids.map(|ids| ids.iter().map(|&id| id_of(letter, id)).collect::<Vec<_>>())
        };
        let channels = self.filter.channels.as_ref();
        json!({
            "period": self.period.1,
            "range": {"from": self.range.from.date(), "to": self.range.to.date()},
            "asOf": self.as_of,
            "filter": {
                "departmentIds": ids('D', &self.filter.departments),
                "doctorIds": ids('O', &self.filter.doctors),
                "channels": channels.map(|all| all.iter().map(|channel| channel.as_str()).collect::<Vec<_>>()),
            },
            "lists": self.lists,
            "keep": self.record,
        })
    }
}

/// Usually None, which does not filter.
fn some_of<T: Clone>(random: &mut StdRng, all: &[T]) -> Option<Vec<T>> {
    random.random_ratio(1, 4).then(|| {
        let count = random.random_range(1..=all.len());
        all.sample(random, count).cloned().collect()
    })
}

/// Sends a random query to one server or to both, and checks the responses.
pub async fn check(ctx: &RunContext<'_>, random: &mut StdRng) -> Checked {
    let asked = StatisticsQuery::any(random, ctx);
    let variables = asked.variables();
    let first = ServerChoice::any(random);
    let _guard = ctx.restore_lock.read().await;
    if random.random_ratio(3, 4) {
        return question(ctx, &asked, &variables, first).await.map(drop);
    }
    let (a, b) = tokio::join!(
        question(ctx, &asked, &variables, first),
        question(ctx, &asked, &variables, ServerChoice::Restarting),
    );
    let (a, b) = (a?, b?);
    if a["revision"] == b["revision"] && a["asOf"] == b["asOf"] {
        ctx.counters
            .count("queries answered by both servers at one revision", 1);
        if let Some(found) = difference(&a, &b) {
            return Err(format!(
                "two servers answer {variables} differently at one revision: {found}"
            ));
        }
    }
    Ok(())
}

/// Queries one server, checks the response against everything that is known, and returns it.
async fn question(
    ctx: &RunContext<'_>,
    asked: &StatisticsQuery,
    variables: &Value,
    which: ServerChoice,
) -> Checked<Value> {
    let before = ctx.revision().await?;
    let day_before = Utc::now();
    // The data is read concurrently, since it may have changed by the time of the response.
    let (data, dataset) = tokio::join!(fetch(ctx, asked, variables, which), ctx.dataset_at(&before));
    dataset?;
    let data = data?;
    ctx.counters.count(QUERIES, 1);
    let response = StatisticsResponse::deserialize(&data).map_err(|error| format!("{error}: {data}"))?;
    let describe = |violation| {
        format!(
            "{which:?} on {variables}, at the revision {}: {violation}",
            response.revision
        )
    };

    ensure!(
        dataset::number(&response.revision) >= dataset::number(&before),
        "{}",
        describe(format!(
            "the response is older than {before}, which was committed before the query"
        ))
    );
    match asked.as_of {
        Some(as_of) => ensure!(
            response.as_of == as_of,
            "{}",
            describe(format!("asked for {as_of}, answered for {}", response.as_of))
        ),
        None => {
            let zone: chrono_tz::Tz = data["timeZone"].as_str().unwrap().parse().unwrap();
            let days = [day_before, Utc::now()].map(|at| at.with_timezone(&zone).date_naive());
            ensure!(
                days.contains(&response.as_of),
                "{}",
                describe(format!("{} is not today", response.as_of))
            );
        }
    }
    response.check_consistency().map_err(describe)?;
    let question = Question {
        period: asked.period.0,
        range: asked.range,
        as_of: response.as_of.into(),
        filter: asked.filter.clone(),
    };
    let dataset = ctx.dataset_at(&response.revision).await?;
    match &dataset {
        Some(dataset) => {
            response.matches_reference(&question, dataset).map_err(describe)?;
            ctx.counters.count(CHECKED_QUERIES, 1);
        }
        None => ctx.counters.count("queries whose revision was not read in time", 1),
    }
    if let Some(id) = response.id.clone() {
        ctx.record_issued(IssuedSnapshot {
            id,
            data: data.clone(),
            response,
            question,
            dataset,
            orders: Mutex::default(),
        });
    }
    Ok(data)
}

const ARGUMENTS: &str = "$period: Period!, $range: DateRangeInput!, $asOf: Date, $filter: StatisticsFilter";
const QUESTION: &str = "statistics(period: $period, range: $range, asOf: $asOf, filter: $filter)";

/// The statistics that a server returns.
async fn fetch(
    ctx: &RunContext<'_>,
    asked: &StatisticsQuery,
    variables: &Value,
    which: ServerChoice,
) -> Checked<Value> {
    if asked.by_id {
        let query = format!("query ({ARGUMENTS}) {{ {QUESTION} {{ id }} }}");
        let data = ctx.servers.graphql(which, &query, variables, &ctx.counters).await?;
        let id = data["statistics"]["id"].as_str().unwrap();
        return open(ctx, id, which.other()).await;
    }
    let query =
        format!("query ({ARGUMENTS}, $lists: Boolean!, $keep: Boolean!) {{ {QUESTION} {{ ...Whole }} }} {STATISTICS}");
    let mut data = ctx.servers.graphql(which, &query, variables, &ctx.counters).await?;
    Ok(data["statistics"].take())
}

/// The snapshot that a server returns for an ID.
pub async fn open(ctx: &RunContext<'_>, id: &str, which: ServerChoice) -> Checked<Value> {
    let query = format!(
        "query ($id: ID!, $lists: Boolean!, $keep: Boolean!) {{ statisticsSnapshot(id: $id) {{ ...Whole }} }} {STATISTICS}"
    );
    let variables = json!({"id": id, "lists": true, "keep": true});
    let mut data = ctx.servers.graphql(which, &query, &variables, &ctx.counters).await?;
    ctx.counters.count("snapshots opened by ID", 1);
    let data = data["statisticsSnapshot"].take();
    ensure!(!data.is_null(), "{which:?} knows no snapshot {id}");
    Ok(data)
}
