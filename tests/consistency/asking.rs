//! Clients that ask, and hold what they are told against the reference.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use chrono::{NaiveDate, Utc};
use rand::RngExt as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rollcall::statistics::{Day, DayRange, Filter, Period, Question, VisitChannel};
use serde::Deserialize as _;
use serde_json::{Value, json};

use crate::answer::{Answer, STATISTICS, difference, id_of};
use crate::servers::Which;
use crate::site::Site;
use crate::world::{self, World};
use crate::{Held, hold};

pub const QUESTIONS: &str = "questions";
pub const HELD: &str = "questions held against the reference at their revision";

const PERIODS: [(Period, &str); 5] = [
    (Period::Day, "DAY"),
    (Period::Week, "WEEK"),
    (Period::Month, "MONTH"),
    (Period::Quarter, "QUARTER"),
    (Period::Year, "YEAR"),
];

/// A snapshot whose id was given to a client, with everything that was said of it then.
pub struct HandedOut {
    pub id: String,
    pub said: Value,
    pub answer: Answer,
    pub question: Question,
    /// The data that it is of, where somebody read them in time.
    pub world: Option<Arc<World>>,
    /// Lists that were paged to the end, as they came the first time, in JSON.
    pub orders: Mutex<HashMap<String, String>>,
}

struct Asked {
    period: (Period, &'static str),
    range: DayRange,
    as_of: Option<NaiveDate>,
    filter: Filter,
    lists: bool,
    keep: bool,
    /// The id first and all by itself, then the rest by it, from the other server.
    by_id: bool,
}

impl Asked {
    fn any(random: &mut StdRng, site: &Site) -> Self {
        let from = Day(site.days.from.0 + random.random_range(-5..60));
        let most = if random.random_ratio(1, 4) { 400 } else { 60 };
        let length = random.random_range(0..most);
        let lists = random.random_ratio(3, 4);
        let keep = lists && random.random_ratio(2, 3);
        Self {
            period: *PERIODS.choose(random).unwrap(),
            range: DayRange::new(from, Day(from.0 + length)).unwrap(),
            // Before the first visit, among them, and after the last.
            as_of: random
                .random_ratio(3, 4)
                .then(|| Day(site.days.from.0 + random.random_range(-10..120)).date()),
            filter: Filter {
                departments: some_of(random, &site.departments),
                doctors: some_of(random, &site.doctors),
                channels: some_of(random, VisitChannel::ALL),
            },
            lists,
            keep,
            by_id: keep && random.random_ratio(1, 4),
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
            "keep": self.keep,
        })
    }
}

/// Mostly nothing, which lets all through.
fn some_of<T: Clone>(random: &mut StdRng, all: &[T]) -> Option<Vec<T>> {
    random.random_ratio(1, 4).then(|| {
        let count = random.random_range(1..=all.len());
        all.sample(random, count).cloned().collect()
    })
}

/// Asks something, of one server or of both at once.
pub async fn ask(site: &Site<'_>, random: &mut StdRng) -> Held {
    let asked = Asked::any(random, site);
    let variables = asked.variables();
    let first = Which::any(random);
    let _present = site.past.read().await;
    if random.random_ratio(3, 4) {
        return question(site, &asked, &variables, first).await.map(drop);
    }
    let (a, b) = tokio::join!(
        question(site, &asked, &variables, first),
        question(site, &asked, &variables, Which::Mortal),
    );
    let (a, b) = (a?, b?);
    if a["revision"] == b["revision"] && a["asOf"] == b["asOf"] {
        site.figures
            .count("questions that two servers were asked at one revision", 1);
        if let Some(found) = difference(&a, &b) {
            return Err(format!(
                "two servers answer {variables} differently at one revision: {found}"
            ));
        }
    }
    Ok(())
}

/// Asks one server and holds the answer against everything that is known. What it said is returned.
async fn question(site: &Site<'_>, asked: &Asked, variables: &Value, which: Which) -> Held<Value> {
    let before = site.revision().await?;
    let day_before = Utc::now();
    // The data are read at the same time: they may be other ones by the time of the answer.
    let (said, world) = tokio::join!(tell(site, asked, variables, which), site.world_at(&before));
    world?;
    let said = said?;
    site.figures.count(QUESTIONS, 1);
    let answer = Answer::deserialize(&said).map_err(|error| format!("{error}: {said}"))?;
    let about = |finding| {
        format!(
            "{which:?} on {variables}, at the revision {}: {finding}",
            answer.revision
        )
    };

    hold!(
        world::number(&answer.revision) >= world::number(&before),
        "{}",
        about(format!(
            "the answer is older than {before}, which was committed before the question"
        ))
    );
    match asked.as_of {
        Some(as_of) => hold!(
            answer.as_of == as_of,
            "{}",
            about(format!("asked for {as_of}, answered for {}", answer.as_of))
        ),
        None => {
            let zone: chrono_tz::Tz = said["timeZone"].as_str().unwrap().parse().unwrap();
            let days = [day_before, Utc::now()].map(|at| at.with_timezone(&zone).date_naive());
            hold!(
                days.contains(&answer.as_of),
                "{}",
                about(format!("{} is not today", answer.as_of))
            );
        }
    }
    answer.agrees().map_err(about)?;
    let question = Question {
        period: asked.period.0,
        range: asked.range,
        as_of: answer.as_of.into(),
        filter: asked.filter.clone(),
    };
    let world = site.world_at(&answer.revision).await?;
    match &world {
        Some(world) => {
            answer.is_as_the_reference_says(&question, world).map_err(about)?;
            site.figures.count(HELD, 1);
        }
        None => site
            .figures
            .count("questions whose revision was gone before it could be read", 1),
    }
    if let Some(id) = answer.id.clone() {
        site.hand_out(HandedOut {
            id,
            said: said.clone(),
            answer,
            question,
            world,
            orders: Mutex::default(),
        });
    }
    Ok(said)
}

const ARGUMENTS: &str = "$period: Period!, $range: DateRangeInput!, $asOf: Date, $filter: StatisticsFilter";
const QUESTION: &str = "statistics(period: $period, range: $range, asOf: $asOf, filter: $filter)";

/// What a server says to a question.
async fn tell(site: &Site<'_>, asked: &Asked, variables: &Value, which: Which) -> Held<Value> {
    if asked.by_id {
        let query = format!("query ({ARGUMENTS}) {{ {QUESTION} {{ id }} }}");
        let said = site.servers.ask(which, &query, variables, &site.figures).await?;
        let id = said["statistics"]["id"].as_str().unwrap();
        return open(site, id, which.other()).await;
    }
    let query =
        format!("query ({ARGUMENTS}, $lists: Boolean!, $keep: Boolean!) {{ {QUESTION} {{ ...Whole }} }} {STATISTICS}");
    let mut said = site.servers.ask(which, &query, variables, &site.figures).await?;
    Ok(said["statistics"].take())
}

/// What a server says of a snapshot by its id.
pub async fn open(site: &Site<'_>, id: &str, which: Which) -> Held<Value> {
    let query = format!(
        "query ($id: ID!, $lists: Boolean!, $keep: Boolean!) {{ statisticsSnapshot(id: $id) {{ ...Whole }} }} {STATISTICS}"
    );
    let variables = json!({"id": id, "lists": true, "keep": true});
    let mut said = site.servers.ask(which, &query, &variables, &site.figures).await?;
    site.figures.count("snapshots opened by their id", 1);
    let said = said["statisticsSnapshot"].take();
    hold!(!said.is_null(), "{which:?} knows no snapshot {id}");
    Ok(said)
}
