//! Clients that come back to what they were given: the same lists, page by page, from either server.

use std::collections::{BTreeSet, HashMap};

use rand::RngExt as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rollcall::statistics::{CohortKind, VisitStatus};
use serde_json::{Value, json};

use crate::answer::{List, difference, number_of};
use crate::asking::{self, HandedOut};
use crate::reference::Reference;
use crate::servers::Which;
use crate::site::{Site, failed};
use crate::world::{World, rows};
use crate::{Held, hold};

/// Opens a snapshot again, and pages one of its lists to the end.
pub async fn open(site: &Site<'_>, random: &mut StdRng) -> Held {
    let Some(snapshot) = site.any_handed_out(random) else {
        return Ok(());
    };
    let which = Which::any(random);
    let said = asking::open(site, &snapshot.id, which).await?;
    if let Some(found) = difference(&snapshot.said, &said) {
        return Err(format!(
            "{which:?} opens {} otherwise than it was: {found}",
            snapshot.id
        ));
    }
    let place = random.random_range(0..=snapshot.answer.buckets.len());
    let bucket = snapshot.answer.buckets.get(place).unwrap_or(&snapshot.answer.total);
    // Rather a list with something in it.
    let kinds: Vec<CohortKind> = CohortKind::ALL
        .iter()
        .copied()
        .filter(|&kind| bucket.list(kind).patient_count > 0)
        .collect();
    let kind = *kinds.choose(random).unwrap_or(&CohortKind::Visitors);
    let paging = Paging::any(&snapshot, bucket.list(kind), kind, random);
    let about = format!("{paging:?} of {kind:?} in the bucket {place}");
    let found = |finding| format!("{about}: {finding}");
    paging.to_the_end(site, random).await.map_err(found)
}

/// A list, an order, and how it is paged.
struct Paging<'a> {
    snapshot: &'a HandedOut,
    list: &'a List,
    kind: CohortKind,
    of_patients: bool,
    /// None: the order that a list has unless told otherwise.
    field: Option<&'static str>,
    descending: bool,
    size: usize,
    backwards: bool,
}

impl std::fmt::Debug for Paging<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (list, size) = (if self.of_patients { "patients" } else { "visits" }, self.size);
        let way = if self.backwards { "backwards" } else { "forwards" };
        write!(f, "paging {list} {} by {} {way}", self.order(), size)
    }
}

impl<'a> Paging<'a> {
    fn any(snapshot: &'a HandedOut, list: &'a List, kind: CohortKind, random: &mut StdRng) -> Self {
        let of_patients = random.random();
        let (length, fields) = if of_patients {
            (
                list.patient_count,
                &["NAME", "CHART_NO", "REGISTERED_ON", "FIRST_VISIT", "LAST_VISIT"][..],
            )
        } else {
            (list.visit_count, &["DATE", "PATIENT_NAME", "STATUS"][..])
        };
        // About as many pages, whatever the length.
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

    async fn to_the_end(&self, site: &Site<'_>, random: &mut StdRng) -> Held {
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
        let rows_before = Rows::now(site).await?;
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
            let which = Which::any(random);
            let said = site
                .servers
                .ask(which, &self.query(), &variables, &site.figures)
                .await?;
            let (list, page) = (&said["node"], &said["node"]["page"]);
            let of_page = page["edges"]
                .as_array()
                .ok_or_else(|| format!("{which:?} does not find the list {id}"))?;
            let nodes: Vec<&Value> = of_page.iter().map(|edge| &edge["node"]["id"]).collect();
            let left = ids.len() - edges.len();
            let cursor_at = |place: Option<&Value>| place.map_or(Value::Null, |edge| edge["cursor"].clone());
            let (start, end) = (cursor_at(of_page.first()), cursor_at(of_page.last()));
            let (more, seen) = (left > of_page.len(), !edges.is_empty());
            let (next, previous) = if self.backwards { (seen, more) } else { (more, seen) };
            hold!(
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
                "{which:?} gives a page that does not fit, after {} of {} rows: {page}",
                edges.len(),
                ids.len()
            );
            site.figures.count("pages", 1);
            site.figures.count("rows of pages", of_page.len());
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
        let rows_after = Rows::now(site).await?;
        let places: Vec<i64> = edges
            .iter()
            .map(|edge| number_of(edge["node"]["id"].as_str().unwrap()))
            .collect();
        let mut sorted = places.clone();
        sorted.sort_unstable();
        ids.sort_unstable();
        hold!(
            sorted == ids,
            "the pages have the rows {places:?}, and the list has {ids:?}"
        );
        for (&id, edge) in places.iter().zip(&edges) {
            self.row_is_as_it_is(id, &edge["node"], &rows_before, &rows_after)?;
        }
        for (edge, &id) in edges.iter_mut().zip(&places) {
            edge["node"] = json!(id);
        }
        self.is_ordered(&edges, &places)?;
        if let Some(world) = &self.snapshot.world {
            self.edges_are_as_counted(&edges, &places, world)?;
        }
        let mut orders = self.snapshot.orders.lock().unwrap();
        let list = format!("{id} {} {}", self.of_patients, self.order());
        let first = orders.entry(list).or_insert_with(|| json!(edges).to_string());
        match difference(&first.parse().unwrap(), &json!(edges)) {
            Some(found) => Err(format!("the list comes otherwise than once: {found}")),
            None => Ok(()),
        }
    }

    /// A row shows what is recorded now, and says what became of it: where nobody changed that meanwhile, just that.
    fn row_is_as_it_is(&self, id: i64, node: &Value, before: &Rows, after: &Rows) -> Held {
        if !self.of_patients {
            let (was, is) = (before.visits.contains(&id), after.visits.contains(&id));
            hold!(
                was != is || node["deleted"] == !is,
                "the visit {id} stands: {is}, and its row says {node}"
            );
            return Ok(());
        }
        let (was, is) = (before.patients.get(&id), after.patients.get(&id));
        let erased = PatientRow::erased();
        let now = is.unwrap_or(&erased);
        hold!(
            was != is || node["state"] == now.state && node["chartNo"] == now.chart_no,
            "the patient {id} is {now:?}, and the row says {node}"
        );
        hold!(
            (node["state"] == "MERGED") != node["mergedInto"].is_null(),
            "the patient {id} is merged into nobody, or into somebody without being merged: {node}"
        );
        hold!(
            node["state"] != "ERASED" || node["name"] == "",
            "the patient {id} is erased, and has a name still: {node}"
        );
        Ok(())
    }

    /// Orders that follow from what was counted are right; the others depend on what names were when they were first asked for.
    fn is_ordered(&self, edges: &[Value], ids: &[i64]) -> Held {
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
        hold!(rows.windows(2).all(in_order), "the rows are not ordered: {rows:?}");
        Ok(())
    }

    fn edges_are_as_counted(&self, edges: &[Value], ids: &[i64], world: &World) -> Held {
        let question = &self.snapshot.question;
        let reference = Reference::new(&world.visits, question, &world.definition);
        let visits: HashMap<i64, usize> =
            self.list
                .visits()
                .iter()
                .filter_map(|&id| world.visit(id))
                .fold(HashMap::new(), |mut visits, visit| {
                    *visits.entry(visit.patient).or_default() += 1;
                    visits
                });
        for (edge, &id) in edges.iter().zip(ids) {
            let expected = if self.of_patients {
                let (first, last) = reference.ends(id);
                let (first, last) = (first.map(|day| day.date()), last.map(|day| day.date()));
                json!({"firstVisitDate": first, "lastVisitDate": last, "visitCount": visits.get(&id)})
            } else {
                let visit = world.visit(id).ok_or_else(|| format!("the visit {id} never was"))?;
                let patient = crate::answer::id_of('P', visit.patient);
                json!({"date": visit.date.date(), "status": visit.status.as_str(), "patientId": patient})
            };
            let expected = expected.as_object().unwrap();
            hold!(
                expected.iter().all(|(name, value)| edge[name] == *value),
                "the edge {edge} of {:?} was counted as {expected:?}",
                self.kind
            );
        }
        Ok(())
    }
}

/// The rows as they stand.
struct Rows {
    patients: HashMap<i64, PatientRow>,
    visits: BTreeSet<i64>,
}

/// What a row shows of a patient that never comes back once it has changed; with the version, so that no state does.
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

impl Rows {
    async fn now(site: &Site<'_>) -> Held<Self> {
        let patients = rows(&site.sql, "SELECT id, state, chart_no, version FROM patient").await;
        let visits = rows(&site.sql, "SELECT id FROM visit").await;
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
