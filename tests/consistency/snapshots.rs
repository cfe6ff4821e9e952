//! Snapshots that are opened again later: their lists must stay the same, page by page, on either server.

use std::collections::{BTreeSet, HashMap};

use rand::RngExt as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rollcall::statistics::{CohortKind, VisitStatus};
use serde_json::{Value, json};
use test_support::{Checked, ensure};

use crate::context::{RunContext, failed};
use crate::dataset::{Dataset, rows};
use crate::queries::{self, IssuedSnapshot};
use crate::reference::Reference;
use crate::response::{CohortList, difference, number_of};
use crate::servers::ServerChoice;

/// Opens a snapshot again, and pages through one of its lists.
pub async fn check(ctx: &RunContext<'_>, random: &mut StdRng) -> Checked {
    let Some(snapshot) = ctx.any_issued(random) else {
        return Ok(());
    };
    let which = ServerChoice::any(random);
    let data = queries::open(ctx, &snapshot.id, which).await?;
    if let Some(found) = difference(&snapshot.data, &data) {
        return Err(format!("{which:?} opens a changed {}: {found}", snapshot.id));
    }
    let place = random.random_range(0..=snapshot.response.buckets.len());
    let bucket = snapshot.response.buckets.get(place).unwrap_or(&snapshot.response.total);
    // Preferably a list that is not empty.
    let kinds: Vec<CohortKind> = CohortKind::ALL
        .iter()
        .copied()
        .filter(|&kind| bucket.list(kind).patient_count > 0)
        .collect();
    let kind = *kinds.choose(random).unwrap_or(&CohortKind::Visitors);
    let walk = PageWalk::any(&snapshot, bucket.list(kind), kind, random);
    let describe = format!("{walk:?} of {kind:?} in the bucket {place}");
    let found = |violation| format!("{describe}: {violation}");
    walk.walk(ctx, random).await.map_err(found)
}

/// A list, its order, and how it is paged through.
struct PageWalk<'a> {
    snapshot: &'a IssuedSnapshot,
    list: &'a CohortList,
    kind: CohortKind,
    of_patients: bool,
    /// None for the default order.
    field: Option<&'static str>,
    descending: bool,
    size: usize,
    backwards: bool,
}

impl std::fmt::Debug for PageWalk<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (list, size) = (if self.of_patients { "patients" } else { "visits" }, self.size);
        let way = if self.backwards { "backwards" } else { "forwards" };
        write!(f, "paging {list} {} by {} {way}", self.order(), size)
    }
}

impl<'a> PageWalk<'a> {
    fn any(snapshot: &'a IssuedSnapshot, list: &'a CohortList, kind: CohortKind, random: &mut StdRng) -> Self {
        let of_patients = random.random();
        let (length, fields) = if of_patients {
            (
                list.patient_count,
                &["NAME", "CHART_NO", "REGISTERED_ON", "FIRST_VISIT", "LAST_VISIT"][..],
            )
        } else {
            (list.visit_count, &["DATE", "PATIENT_NAME", "STATUS"][..])
        };
        // A similar number of pages for every length.
        let size = (length / random.random_range(1..8) + random.random_range(1..3)).min(100);
        Self {
            snapshot,
            list,
            kind,
            of_patients,
            field: fields.choose(random).copied().filter(|_| random.random_ratio(9, 10)),
            descending: random.random(),
            size,
            backwards: random.random(),
        }
    }

    fn order(&self) -> String {
        match (self.field, self.of_patients) {
            (Some(field), _) => format!("{field} {}", if self.descending { "DESC" } else { "ASC" }),
            (None, true) => "CHART_NO ASC".to_owned(),
            (None, false) => "DATE DESC".to_owned(),
        }
    }

    fn query(&self) -> String {
        let (list, kind, counted, node) = if self.of_patients {
            (
                "patients",
                "Patient",
                "firstVisitDate lastVisitDate visitCount",
                "state chartNo name mergedInto { id }",
            )
        } else {
            ("visits", "Visit", "date status patientId", "deleted")
        };
        format!(
            "query ($id: ID!, $first: Int, $after: String, $last: Int, $before: String, $order: {kind}Order) {{
                node(id: $id) {{ ... on Cohort {{ patientCount visitCount digest
                    page: {list}(first: $first, after: $after, last: $last, before: $before, orderBy: $order) {{
                        totalCount
                        edges {{ cursor {counted} node {{ id {node} }} }}
                        nodes {{ id }}
                        pageInfo {{ hasNextPage hasPreviousPage startCursor endCursor }}
                    }}
                }} }}
            }}"
        )
    }

    async fn walk(&self, ctx: &RunContext<'_>, random: &mut StdRng) -> Checked {
        let id = self
            .list
            .id
            .as_ref()
            .ok_or("a snapshot with an id has a list without")?;
        let mut ids = if self.of_patients {
            self.list.patients()
        } else {
            self.list.visits()
        };
        let rows_before = CurrentRows::now(ctx).await?;
        let mut edges: Vec<Value> = Vec::new();
        let mut cursor = Value::Null;
        let order = self.field.map(|field| {
            let direction = if self.descending { "DESC" } else { "ASC" };
            json!({"field": field, "direction": direction})
        });
        loop {
            let variables = if self.backwards {
                json!({"id": id, "last": self.size, "before": cursor, "order": order})
            } else {
                json!({"id": id, "first": self.size, "after": cursor, "order": order})
            };
            let which = ServerChoice::any(random);
            let data = ctx
                .servers
                .graphql(which, &self.query(), &variables, &ctx.counters)
                .await?;
            let (list, page) = (&data["node"], &data["node"]["page"]);
            let of_page = page["edges"]
                .as_array()
                .ok_or_else(|| format!("{which:?} does not find the cohort {id}"))?;
            let nodes: Vec<&Value> = of_page.iter().map(|edge| &edge["node"]["id"]).collect();
            let left = ids.len() - edges.len();
            let cursor_at = |place: Option<&Value>| place.map_or(Value::Null, |edge| edge["cursor"].clone());
            let (start, end) = (cursor_at(of_page.first()), cursor_at(of_page.last()));
            let (more, seen) = (left > of_page.len(), !edges.is_empty());
            let (next, previous) = if self.backwards { (seen, more) } else { (more, seen) };
            ensure!(
                of_page.len() == left.min(self.size)
                    && page["totalCount"] == ids.len()
                    && list["patientCount"] == self.list.patient_count
                    && list["visitCount"] == self.list.visit_count
                    && page["nodes"]
                        .as_array()
                        .unwrap()
                        .iter()
                        .map(|node| &node["id"])
                        .eq(nodes)
                    && page["pageInfo"]
                        == json!({"hasNextPage": next, "hasPreviousPage": previous, "startCursor": start, "endCursor": end}),
                "{which:?} returns an inconsistent page after {} of {} rows: {page}",
                edges.len(),
                ids.len()
            );
            ctx.counters.count("pages", 1);
            ctx.counters.count("rows of pages", of_page.len());
            if self.backwards {
                edges.splice(0..0, of_page.iter().cloned());
                cursor = start;
            } else {
                edges.extend(of_page.iter().cloned());
                cursor = end;
            }
            if !more {
                break;
            }
        }
        let rows_after = CurrentRows::now(ctx).await?;
        let places: Vec<i64> = edges
            .iter()
            .map(|edge| number_of(edge["node"]["id"].as_str().unwrap()))
            .collect();
        let mut sorted = places.clone();
        sorted.sort_unstable();
        ids.sort_unstable();
        ensure!(sorted == ids, "the pages have the rows {places:?}, the list {ids:?}");
        for (&id, edge) in places.iter().zip(&edges) {
            self.check_row(id, &edge["node"], &rows_before, &rows_after)?;
        }
        for (edge, &id) in edges.iter_mut().zip(&places) {
            edge["node"] = json!(id);
        }
        self.check_order(&edges, &places)?;
        if let Some(dataset) = &self.snapshot.dataset {
            self.check_edges(&edges, &places, dataset)?;
        }
        let mut orders = self.snapshot.orders.lock().unwrap();
        let list = format!("{id} {} {}", self.of_patients, self.order());
        let first = orders.entry(list).or_insert_with(|| json!(edges).to_string());
        match difference(&first.parse().unwrap(), &json!(edges)) {
            Some(found) => Err(format!("the list differs from the first time: {found}")),
            None => Ok(()),
        }
    }

    /// A row shows current values and the state of a deleted or merged row, unless it changed meanwhile.
    fn check_row(&self, id: i64, node: &Value, before: &CurrentRows, after: &CurrentRows) -> Checked {
        if !self.of_patients {
            let (was, is) = (before.visits.contains(&id), after.visits.contains(&id));
            ensure!(
                was != is || node["deleted"] == !is,
                "the visit {id} exists: {is}, but its row is {node}"
            );
            return Ok(());
        }
        let (was, is) = (before.patients.get(&id), after.patients.get(&id));
        let erased = PatientRow::erased();
        let now = is.unwrap_or(&erased);
        ensure!(
            was != is || node["state"] == now.state && node["chartNo"] == now.chart_no,
            "the patient {id} is {now:?}, but the row is {node}"
        );
        ensure!(
            (node["state"] == "MERGED") != node["mergedInto"].is_null(),
            "the patient {id} has a state that contradicts mergedInto: {node}"
        );
        ensure!(
            node["state"] != "ERASED" || node["name"] == "",
            "the patient {id} is erased but has a name: {node}"
        );
        Ok(())
    }

    /// Orders by counted values can be checked; the others depend on the names when the order was first used.
    fn check_order(&self, edges: &[Value], ids: &[i64]) -> Checked {
        let order = self.order();
        let (field, direction) = order.split_once(' ').unwrap();
        let key = |edge: &Value| match field {
            "FIRST_VISIT" => edge["firstVisitDate"].as_str().map(str::to_owned),
            "LAST_VISIT" => edge["lastVisitDate"].as_str().map(str::to_owned),
            "DATE" => edge["date"].as_str().map(str::to_owned),
            _ => {
                let status = VisitStatus::parse(edge["status"].as_str().unwrap()).unwrap();
                Some(format!("{}", status as u8))
            }
        };
        if !["FIRST_VISIT", "LAST_VISIT", "DATE", "STATUS"].contains(&field) {
            return Ok(());
        }
        let rows: Vec<(Option<String>, i64)> = edges.iter().map(key).zip(ids.iter().copied()).collect();
        let in_order = |pair: &[(Option<String>, i64)]| match (&pair[0], &pair[1]) {
            ((Some(a), _), (Some(b), _)) if a != b => (a < b) == (direction == "ASC"),
            ((Some(_), _), (None, _)) => true,
            ((None, _), (Some(_), _)) => false,
            ((_, a), (_, b)) => a < b,
        };
        ensure!(rows.windows(2).all(in_order), "the rows are not ordered: {rows:?}");
        Ok(())
    }

    fn check_edges(&self, edges: &[Value], ids: &[i64], dataset: &Dataset) -> Checked {
        let question = &self.snapshot.question;
        let reference = Reference::new(&dataset.visits, question, &dataset.definition);
        let visits: HashMap<i64, usize> =
            self.list
                .visits()
                .iter()
                .filter_map(|&id| dataset.visit(id))
                .fold(HashMap::new(), |mut visits, visit| {
                    *visits.entry(visit.patient).or_default() += 1;
                    visits
                });
        for (edge, &id) in edges.iter().zip(ids) {
            let expected = if self.of_patients {
                let (first, last) = reference.first_and_last_visit(id);
                let (first, last) = (first.map(|day| day.date()), last.map(|day| day.date()));
                json!({"firstVisitDate": first, "lastVisitDate": last, "visitCount": visits.get(&id)})
            } else {
                let visit = dataset
                    .visit(id)
                    .ok_or_else(|| format!("the visit {id} did not exist"))?;
                let patient = crate::response::id_of('P', visit.patient);
                json!({"date": visit.date.date(), "status": visit.status.as_str(), "patientId": patient})
            };
            let expected = expected.as_object().unwrap();
            ensure!(
                expected.iter().all(|(name, value)| edge[name] == *value),
                "the edge {edge} of {:?} was counted as {expected:?}",
                self.kind
            );
        }
        Ok(())
    }
}

/// The rows as they are now.
struct CurrentRows {
    patients: HashMap<i64, PatientRow>,
    visits: BTreeSet<i64>,
}

/// The displayed columns that identify a state of a patient; with the version, so that no state repeats.
#[derive(Debug, PartialEq)]
struct PatientRow {
    state: String,
    chart_no: String,
    version: i32,
}

impl PatientRow {
    fn erased() -> Self {
        Self {
            state: "ERASED".to_owned(),
            chart_no: String::new(),
            version: 0,
        }
    }
}

impl CurrentRows {
    async fn now(ctx: &RunContext<'_>) -> Checked<Self> {
        let patients = rows(&ctx.sql, "SELECT id, state, chart_no, version FROM patient").await;
        let visits = rows(&ctx.sql, "SELECT id FROM visit").await;
        let patient = |row: &sea_orm::QueryResult| {
            let patient = PatientRow {
                state: row.try_get_by_index(1).unwrap(),
                chart_no: row.try_get_by_index::<Option<String>>(2).unwrap().unwrap_or_default(),
                version: row.try_get_by_index(3).unwrap(),
            };
            (row.try_get_by_index(0).unwrap(), patient)
        };
        Ok(Self {
            patients: patients.map_err(failed)?.iter().map(patient).collect(),
            visits: visits
                .map_err(failed)?
                .iter()
                .map(|row| row.try_get_by_index(0).unwrap())
                .collect(),
        })
    }
}
