//! Every count is the length of a list that can be opened: every cohort, order and page size, in both directions.

use std::collections::BTreeSet;

use async_graphql::parser::types::{TypeKind, TypeSystemDefinition};
use serde_json::{Value, json};
use test_support::{Client, EXAMPLE, KINDS, on_each_database};

/// The fields of an object type of the schema, with the names of their types.
fn fields_of(type_name: &str) -> Vec<(String, String)> {
    let document = async_graphql::parser::parse_schema(include_str!("../../schema.graphql")).unwrap();
    let object = document
        .definitions
        .into_iter()
        .find_map(|definition| match definition {
            TypeSystemDefinition::Type(ty) if ty.node.name.node == type_name => match ty.node.kind {
                TypeKind::Object(object) => Some(object),
                _ => None,
            },
            _ => None,
        });
    let fields = object.unwrap().fields.into_iter().map(|field| field.node);
    let of = |ty: String| ty.trim_matches(['[', ']', '!']).to_owned();
    fields
        .map(|field| (field.name.node.to_string(), of(field.ty.node.to_string())))
        .collect()
}

/// Pages through a connection; the IDs in order. Checks every page against the totalCount of the first.
async fn page_to_the_end(
    user: &Client<'_>,
    cohort: &str,
    list: &str,
    order: &str,
    size: i64,
    backwards: bool,
) -> Vec<String> {
    let (count, cursor) = if backwards {
        ("last", "before")
    } else {
        ("first", "after")
    };
    let query = format!(
        "query ($id: ID!, $at: String) {{ node(id: $id) {{ ... on Cohort {{
            {list}({count}: {size}, {cursor}: $at{order}) {{
                totalCount pageInfo {{ hasNextPage hasPreviousPage startCursor endCursor }}
                edges {{ cursor node {{ id }} }} nodes {{ id }}
            }} }} }} }}"
    );
    let (mut ids, mut at): (Vec<String>, Value) = (Vec::new(), Value::Null);
    loop {
        let mut response = user.graphql_with(&query, json!({"id": cohort, "at": at})).await;
        let page = response["node"][list].take();
        let edges = page["edges"].as_array().unwrap();
        let mut rows: Vec<String> = edges
            .iter()
            .map(|edge| edge["node"]["id"].as_str().unwrap().to_owned())
            .collect();
        let nodes: Vec<&str> = page["nodes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|node| node["id"].as_str().unwrap())
            .collect();
        assert_eq!(rows, nodes);
        let info = &page["pageInfo"];
        let (more, next) = if backwards {
            ("hasPreviousPage", "startCursor")
        } else {
            ("hasNextPage", "endCursor")
        };
        if backwards {
            rows.extend(ids);
            ids = rows;
        } else {
            ids.extend(rows);
        }
        if !info[more].as_bool().unwrap() {
            assert_eq!(page["totalCount"].as_u64().unwrap() as usize, ids.len());
            return ids;
        }
        at = info[next].clone();
    }
}

on_each_database! {
    async fn counts_match_lists_while_data_changes(app: TestApp) {
        app.import_example();
        let user = app.sign_in("admin").await;
        let lists: Vec<String> = KINDS
            .iter()
            .map(|kind| format!("{kind}: cohort(kind: {kind}) {{ id kind patientCount visitCount patientIds visitIds digest }}"))
            .collect();
        let query = format!("{{ {EXAMPLE} {{ id buckets {{ {0} }} total {{ {0} }} }} }}", lists.join(" "));
        let response = user.graphql(&query).await;
        // Later changes to the data do not affect the lists.
        app.execute("UPDATE visit SET status = 'CANCELED' WHERE visit_no = '1'").await;
        app.execute("DELETE FROM visit WHERE visit_no IN ('6', '9')").await;
        app.execute("UPDATE patient SET name = 'Zoe', chart_no = 'Z' WHERE chart_no = 'A'").await;
        let statistics = &response["statistics"];
        let parts = statistics["buckets"].as_array().unwrap().iter().chain([&statistics["total"]]);
        for cohort in parts.flat_map(|part| KINDS.iter().map(move |kind| &part[kind])) {
            let ids = |list: &str| -> Vec<String> {
                cohort[list].as_array().unwrap().iter().map(|id| id.as_str().unwrap().to_owned()).collect()
            };
            let (patients, visits) = (ids("patientIds"), ids("visitIds"));
            assert_eq!(cohort["patientCount"].as_u64().unwrap() as usize, patients.len());
            assert_eq!(cohort["visitCount"].as_u64().unwrap() as usize, visits.len());
            let digest = rollcall::statistics::list_digest(patients.clone(), visits.clone());
            assert_eq!(cohort["digest"], digest.as_str());
            let id = cohort["id"].as_str().unwrap();
            let (patients, visits) = (BTreeSet::from_iter(patients), BTreeSet::from_iter(visits));
            let orders = [("patients", &["NAME", "CHART_NO", "REGISTERED_ON", "FIRST_VISIT", "LAST_VISIT"][..]),
                ("visits", &["DATE", "PATIENT_NAME", "STATUS"][..])];
            for (list, fields) in orders {
                let whole = if list == "patients" { &patients } else { &visits };
                for (field, direction) in fields.iter().flat_map(|field| ["ASC", "DESC"].map(|direction| (field, direction))) {
                    let order = format!(", orderBy: {{field: {field}, direction: {direction}}}");
                    let forwards = page_to_the_end(&user, id, list, &order, 2, false).await;
                    assert_eq!(page_to_the_end(&user, id, list, &order, 1, true).await, forwards);
                    assert_eq!(forwards.len(), whole.len());
                    assert_eq!(&BTreeSet::from_iter(forwards), whole);
                }
            }
        }
    }

    async fn sorting_is_by_code_point_nulls_last_then_id(app: TestApp) {
        let rows = [("10", "b"), ("2", "B"), ("a1", "é"), ("A1", "a"), ("é", ""), ("Z", "Ab"), ("z ", "😀"), ("가", "가"), ("00017", "")];
        let patients: String = rows.iter().map(|(chart, name)| format!("{chart},{name}\n")).collect();
        app.import("patients", "H1", &format!("chart_no,name\n{patients}"));
        let visits: String = rows.iter().enumerate().map(|(i, (chart, _))| format!("{i},{chart},2025-05-0{},COMPLETED\n", i % 3 + 1)).collect();
        app.import("visits", "H1", &format!("visit_no,chart_no,date,status\n{visits}"));
        let user = app.sign_in("admin").await;
        let key = |node: &Value, field: &str| node[field].as_str().unwrap().to_owned();
        for (order, field) in [("NAME", "name"), ("CHART_NO", "chartNo")] {
            for direction in ["ASC", "DESC"] {
                let page = format!("patients(orderBy: {{field: {order}, direction: {direction}}}) {{ nodes {{ chartNo name id }} }}");
                let root = user.graphql(&format!("{{ {page} }}")).await;
                let cohort = user.graphql(&format!("{{ {EXAMPLE} {{ total {{ visitors {{ {page} }} }} }} }}")).await;
                let nodes = root["patients"]["nodes"].as_array().unwrap();
                assert_eq!(nodes, cohort["statistics"]["total"]["visitors"]["patients"]["nodes"].as_array().unwrap());
                let got: Vec<String> = nodes.iter().map(|node| key(node, field)).collect();
                let mut expected: Vec<String> = got.iter().filter(|text| !text.is_empty()).cloned().collect();
                expected.sort();
                if direction == "DESC" {
                    expected.reverse();
                }
                expected.extend(got.iter().filter(|text| text.is_empty()).cloned());
                assert_eq!(got, expected, "{order} {direction}");
                if order == "NAME" {
                    // Both without a name, in the order of their creation.
                    let nameless: Vec<String> = nodes[7..].iter().map(|node| key(node, "chartNo")).collect();
                    assert_eq!(nameless, ["é", "00017"]);
                }
            }
        }
        let by_date = |direction: &str| format!("{{ visits(orderBy: {{field: DATE, direction: {direction}}}) {{ nodes {{ visitNo }} }} }}");
        let numbers = async |direction: &str| -> Vec<String> {
            let response = user.graphql(&by_date(direction)).await;
            response["visits"]["nodes"].as_array().unwrap().iter().map(|node| key(node, "visitNo")).collect()
        };
        assert_eq!(numbers("ASC").await, ["0", "3", "6", "1", "4", "7", "2", "5", "8"]);
        assert_eq!(numbers("DESC").await, ["2", "5", "8", "1", "4", "7", "0", "3", "6"]);
    }

    async fn raw_json_counts_match_the_resolvers(app: TestApp) {
        app.import_example();
        let user = app.sign_in("desk").await;
        let selection = |ty: &str| -> String {
            let selected = fields_of(ty).into_iter().filter_map(|(name, of)| match of.as_str() {
                // These are not written as raw JSON, and make the resolvers execute everything.
                "DateRange" | "PatientConnection" | "VisitConnection" => None,
                _ if ty == "Cohort" && !name.ends_with("Count") => None,
                "Cohort" if name == "cohort" => {
                    Some(KINDS.iter().map(|kind| format!("{kind}: cohort(kind: {kind}) {{ ...L }} ")).collect())
                }
                "Cohort" => Some(format!("{name} {{ ...L n: visitCount }}")),
                _ => Some(name),
            });
            selected.collect::<Vec<_>>().join(" ")
        };
        let ask = async |more: &str| {
            let query = format!("{{ {EXAMPLE} {{ buckets {{ ...B {more} }} total {{ ...B {more} }} }} }}
                fragment B on StatisticsBucket {{ __typename {} }} fragment L on Cohort {{ __typename {} }}",
                selection("StatisticsBucket"), selection("Cohort"));
            let response = user.graphql(&query).await;
            let mut buckets = response["statistics"]["buckets"].as_array().unwrap().clone();
            buckets.push(response["statistics"]["total"].clone());
            buckets
        };
        let written = ask("").await;
        let mut resolved = ask("covered { from }").await;
        for bucket in &mut resolved {
            assert!(bucket.as_object_mut().unwrap().remove("covered").is_some());
        }
        assert_eq!(written, resolved);
        // Fields to be merged, and values of variables.
        let query = format!("query ($kind: CohortKind!) {{ {EXAMPLE} {{ total {{
            visitors {{ patientCount }} visitors {{ visitCount }} cohort(kind: $kind) {{ visitCount }} }} }} }}");
        let response = user.graphql_with(&query, json!({"kind": "VISITORS"})).await;
        let total = &response["statistics"]["total"];
        assert_eq!(total["visitors"]["visitCount"], total["cohort"]["visitCount"]);
        assert!(total["visitors"]["patientCount"].is_u64());
    }

    async fn repeated_fields_are_merged(app: TestApp) {
        app.import_example();
        app.import("visits", "H1", "visit_no,chart_no,date,status,department,doctor\n90,A,2100-01-01,BOOKED,Eyes,Dr Ito\n");
        let admin = app.sign_in("admin").await;
        let held = admin.graphql(&format!("{{ {EXAMPLE} {{ id }} patients {{ nodes {{ id chartNo version }} }} visits {{ nodes {{ id visitNo }} }} }}")).await;
        let of = |list: &str, key: &str, value: &str| -> Value {
            let rows = held[list]["nodes"].as_array().unwrap();
            rows.iter().find(|row| row[key] == value).unwrap()["id"].clone()
        };
        let (a, b, d) = (of("patients", "chartNo", "A"), of("patients", "chartNo", "B"), of("patients", "chartNo", "D"));
        admin.mutate("changePatient", json!({"id": a, "version": 1, "memo": "Deaf on the left"}), "patient { id }").await;
        // A list with a merged patient, a deleted patient, and a deleted visit.
        admin.mutate("mergePatients", json!({"id": d, "version": 1, "intoId": a, "reason": "Same person"}), "into { id }").await;
        app.execute("DELETE FROM visit WHERE visit_no = '11'").await;
        app.execute("DELETE FROM patient WHERE chart_no = 'E'").await;
        // Fields marked with % are selected once or twice.
        let marked = |text: &str, twice: bool| {
            let mut parts = text.split('%');
            let mut query = parts.next().unwrap().to_owned();
            for part in parts {
                let field: String = part.chars().take_while(char::is_ascii_alphabetic).collect();
                // Errors refer to the locations of everything that follows.
                let before = if twice { field } else { " ".repeat(field.len()) };
                query.push_str(&format!("{before} {part}"));
            }
            query
        };
        let query = |twice: bool| {
            let text = "query ($held: ID!, $a: ID!, $d: ID!, $visit: ID!, $two: Int) {
                patients(first: 3) { nodes { ...P } edges { node { %id name } } }
                visits(first: 7) { nodes { ...V } edges { node { %id date } } }
                patient(id: $a) { ...P }
                merged: patient(id: $d) { ...P }
                visit(id: $visit) { ...V }
                statisticsSnapshot(id: $held) { total { visitors { ...C } noShow { ...C } cohort(kind: CANCELED) { ...C } } }
            }
            fragment C on Cohort {
                patients { nodes { ...P } edges { %cursor visitCount firstVisitDate lastVisitDate node { ...P } } }
                visits { nodes { ...V } edges { %cursor date status patientId node { ...V } } }
            }
            fragment P on Patient {
                __typename %id state chartNo name phone birthDate birthYear sex registeredOn memo version visitCount
                mergedInto { %id chartNo }
                firstVisit { %id date } lastVisit { %id date department { %id name } } nextVisit { %id date }
                two: visits(first: $two) { %totalCount pageInfo { %hasNextPage hasPreviousPage } edges { node { %id visitNo } } }
                oldest: visits(last: 1) { nodes { %id doctor { %name } } }
                byStatus: visits(orderBy: {field: STATUS}) { nodes { ... on Visit { %id } status } }
            }
            fragment V on Visit {
                %id visitNo date scheduledAt status channel version deleted
                department { %id name retiredAt } doctor { %id name retiredAt department { %id name } }
                patient { %id name chartNo state }
            }";
            marked(text, twice)
        };
        let variables = json!({"held": held["statistics"]["id"], "a": a, "d": d, "visit": of("visits", "visitNo", "6"), "two": 2});
        for login in ["admin", "support"] {
            let user = app.sign_in(login).await;
            let once = user.graphql_with(&query(false), variables.clone()).await;
            let twice = user.graphql_with(&query(true), variables.clone()).await;
            assert_eq!(once, twice, "{login}");
            let gone = &once["statisticsSnapshot"]["total"]["cohort"];
            assert_eq!(gone["patients"]["nodes"][0]["state"], "ERASED");
            assert_eq!(gone["visits"]["nodes"][0]["deleted"], true);
            assert_eq!(once["merged"]["mergedInto"]["chartNo"], "A");
            assert_eq!(once["patient"]["two"]["edges"].as_array().unwrap().len(), 2);
            assert_eq!(once["patient"]["nextVisit"]["date"], "2100-01-01");
            assert_eq!(once["patient"]["memo"], if login == "admin" { json!("Deaf on the left") } else { Value::Null });
        }
        // Fields of one object that are selected in two places are merged at every depth.
        for (apart, together) in [
            ("patients { nodes { id } ...N edges { cursor } }", "patients { nodes { id name } edges { cursor } }"),
            ("patient(id: $a) { name } patient(id: $a) { phone }", "patient(id: $a) { name phone }"),
            ("patients { nodes { visits { nodes { id } } visits { nodes { status } } } }", "patients { nodes { visits { nodes { id status } } } }"),
            ("held: statisticsSnapshot(id: $held) { buckets { start } buckets { end visitors { patientCount } } total { start } total { end } }",
             "held: statisticsSnapshot(id: $held) { buckets { start end visitors { patientCount } } total { start end } }"),
        ] {
            let ask = async |text: &str| {
                let query = format!("query ($held: ID!, $a: ID!) {{ {text} used: statisticsSnapshot(id: $held) {{ id }} whose: patient(id: $a) {{ id }} }}");
                let query = if text.contains("...N") { query + " fragment N on PatientConnection { nodes { name } }" } else { query };
                let mut response = admin.graphql_with(&query, json!({"held": variables["held"], "a": variables["a"]})).await;
                if let Some(patients) = response.get_mut("patients").and_then(Value::as_object_mut) {
                    // These differ each time.
                    patients.remove("edges");
                }
                response
            };
            assert_eq!(ask(apart).await, ask(together).await, "{apart}");
        }
        // Errors are merged, too.
        let support = app.sign_in("support").await;
        for under in ["visits(orderBy: {field: PATIENT_NAME}) { nodes { %id } }", "visits(first: 101) { nodes { %id } }"] {
            let ask = async |twice: bool| {
                let query = format!("query ($b: ID!) {{ patient(id: $b) {{ %chartNo {under} }} }}");
                support.graphql_response(&marked(&query, twice), json!({"b": b})).await
            };
            let once = ask(false).await;
            assert!(once["errors"][0]["path"].is_array(), "{once}");
            assert_eq!(once, ask(true).await, "{under}");
        }
    }

    async fn the_worked_example_over_http(app: TestApp) {
        app.import_example();
        let user = app.sign_in("clinician").await;
        let lists: Vec<String> = KINDS.iter().map(|kind| format!("{kind}: cohort(kind: {kind}) {{ patients {{ nodes {{ chartNo }} }} }}")).collect();
        let response = user.graphql(&format!("{{ {EXAMPLE} {{ buckets {{ start churnRate churnMature complete noShowRate {0} }} total {{ {0} }} }} }}", lists.join(" "))).await;
        let who = |part: &Value, kind: &str| -> String {
            part[kind]["patients"]["nodes"].as_array().unwrap().iter().map(|node| node["chartNo"].as_str().unwrap()).collect()
        };
        let statistics = &response["statistics"];
        let (may, june, total) = (&statistics["buckets"][0], &statistics["buckets"][1], &statistics["total"]);
        for (part, kind, expected) in [
            (may, "NEW", "AC"), (may, "RETURNING", "B"), (may, "CHURN_SUSPECTED", "A"), (may, "RETAINED", "C"), (may, "NO_SHOW", "D"),
            (june, "NEW", "D"), (june, "RETURNING", "BC"), (june, "PENDING", "D"), (june, "CANCELED", "E"),
            (total, "NEW", "ACD"), (total, "RETURNING", "B"),
        ] {
            assert_eq!(who(part, kind), expected, "{kind} from {}", part["start"]);
        }
        assert_eq!(may["churnRate"], 0.5);
        assert_eq!(may["churnMature"], true);
        assert_eq!(june["churnMature"], false);
        assert_eq!(may["noShowRate"], 0.2);
    }

    async fn a_bucket_matures_after_the_churn_period(app: TestApp) {
        app.import_example();
        let user = app.sign_in("clinician").await;
        // On 08-15 no patient of May is PENDING, but the rate still rises: C, who came back, has had no visits since
        // 08-20.
        for (as_of, rate, mature) in [("2025-08-15", 0.5, false), ("2025-08-28", 0.5, false), ("2025-08-29", 0.5, true), ("2025-12-01", 1.0, true)] {
            let query = format!("{{ statistics(period: MONTH, range: {{from: \"2025-05-01\", to: \"2025-05-31\"}}, asOf: \"{as_of}\") {{ buckets {{ churnRate churnMature complete pending: cohort(kind: PENDING) {{ patientCount }} }} }} }}");
            let may = &user.graphql(&query).await["statistics"]["buckets"][0];
            assert_eq!((&may["churnRate"], &may["churnMature"]), (&json!(rate), &json!(mature)), "as of {as_of}");
            assert_eq!((&may["complete"], &may["pending"]["patientCount"]), (&json!(true), &json!(0)));
        }
        let cut = "{ statistics(period: MONTH, range: {from: \"2025-05-02\", to: \"2025-05-31\"}, asOf: \"2025-12-01\") { buckets { churnMature } total { churnMature } } }";
        let cut = user.graphql(cut).await;
        assert_eq!(cut["statistics"]["buckets"][0]["churnMature"], false, "not if the bucket was cut");
        assert_eq!(cut["statistics"]["total"]["churnMature"], true);
    }
}

on_each_database! {
    async fn root_lists_paginate_by_keyset_in_both_directions(app: TestApp) {
        app.import_example();
        let user = app.sign_in("admin").await;
        for (list, fields) in [("patients", &["NAME", "CHART_NO", "REGISTERED_ON", "FIRST_VISIT", "LAST_VISIT"][..]), ("visits", &["DATE", "PATIENT_NAME", "STATUS"][..])] {
            for (field, direction) in fields.iter().flat_map(|field| ["ASC", "DESC"].map(|direction| (field, direction))) {
                let order = format!("orderBy: {{field: {field}, direction: {direction}}}");
                let whole = user.graphql(&format!("{{ {list}(first: 100, {order}) {{ totalCount nodes {{ id }} }} }}")).await;
                let whole_ids: Vec<Value> = whole[list]["nodes"].as_array().unwrap().iter().map(|node| node["id"].clone()).collect();
                assert_eq!(whole[list]["totalCount"].as_u64().unwrap() as usize, whole_ids.len());
                for (count, cursor, more, next) in [("first", "after", "hasNextPage", "endCursor"), ("last", "before", "hasPreviousPage", "startCursor")] {
                    let query = format!("query ($at: String) {{ {list}({count}: 2, {cursor}: $at, {order}) {{ nodes {{ id }} pageInfo {{ {more} {next} }} }} }}");
                    let (mut ids, mut at): (Vec<Value>, Value) = (Vec::new(), Value::Null);
                    loop {
                        let response = user.graphql_with(&query, json!({"at": at})).await;
                        let rows = response[list]["nodes"].as_array().unwrap().iter().map(|node| node["id"].clone());
                        if count == "first" {
                            ids.extend(rows);
                        } else {
                            ids.splice(0..0, rows);
                        }
                        at = response[list]["pageInfo"][next].clone();
                        if response[list]["pageInfo"][more] == false {
                            break;
                        }
                    }
                    assert_eq!(ids, whole_ids, "{list} by {field} {direction}, {count}");
                }
            }
        }
    }

    async fn cursors_are_stable(app: TestApp) {
        app.import_example();
        let second = app.second_server();
        let user = app.sign_in("admin").await;
        let second_client = app.sign_in_at(&second.base, "H1", "admin").await;
        let mut all = std::collections::HashSet::new();
        for list in [
            "patients", "patients(orderBy: {field: NAME})", "patients(orderBy: {field: NAME, direction: DESC})",
            "patients(filter: {registered: {from: \"2025-01-01\", to: \"2025-12-31\"}})",
            "visits", "visits(orderBy: {field: STATUS})", "visits(filter: {channels: [WEB]})",
        ] {
            let query = format!("{{ list: {list} {{ edges {{ cursor }} pageInfo {{ startCursor endCursor }} }} }}");
            let response = user.graphql(&query).await;
            assert_eq!(user.graphql(&query).await, response, "{list}");
            assert_eq!(second_client.graphql(&query).await, response, "{list} of another server");
            // Another list or order has other cursors, even for the same rows.
            for edge in response["list"]["edges"].as_array().unwrap() {
                assert!(all.insert(edge["cursor"].as_str().unwrap().to_owned()), "{list}");
            }
        }
        let query = "{ patients { nodes { visits { edges { cursor } pageInfo { startCursor endCursor } } } } }";
        let response = user.graphql(query).await;
        assert_eq!(user.graphql(query).await, response);
        assert_eq!(second_client.graphql(query).await, response);
        // A page of one row ends with the same cursor as the page of all rows.
        let whole = user.graphql("{ patients { edges { cursor } } }").await;
        let first = user.graphql("{ patients(first: 1) { pageInfo { endCursor } } }").await;
        assert_eq!(first["patients"]["pageInfo"]["endCursor"], whole["patients"]["edges"][0]["cursor"]);
    }

    async fn visits_of_a_patient_paginate_with_filters(app: TestApp) {
        app.import_example();
        let user = app.sign_in("desk").await;
        let query = "query ($at: String, $back: String) {
            patients(filter: {search: \"C\"}) { nodes { chartNo visitCount
                firstVisit { date } lastVisit { date } nextVisit { date }
                all: visits { totalCount nodes { visitNo } }
                some: visits(filter: {channels: [WEB], dates: {from: \"2025-06-01\", to: \"2025-08-31\"}}) { totalCount nodes { visitNo } }
                head: visits(first: 1, after: $at, orderBy: {field: PATIENT_NAME}) { nodes { visitNo } pageInfo { endCursor hasNextPage } }
                tail: visits(last: 1, before: $back) { nodes { visitNo } pageInfo { startCursor hasPreviousPage } }
            } } }";
        let (mut at, mut back) = (Value::Null, Value::Null);
        for (head, tail) in [("6", "6"), ("7", "7"), ("8", "8")] {
            let response = user.graphql_with(query, json!({"at": at, "back": back})).await;
            let patient = &response["patients"]["nodes"][0];
            assert_eq!(patient["chartNo"], "C");
            assert_eq!(patient["visitCount"], 3);
            assert_eq!(patient["firstVisit"]["date"], "2025-05-20");
            assert_eq!(patient["lastVisit"]["date"], "2025-08-20");
            assert_eq!(patient["nextVisit"], Value::Null);
            assert_eq!(patient["all"], json!({"totalCount": 3, "nodes": [{"visitNo": "8"}, {"visitNo": "7"}, {"visitNo": "6"}]}));
            assert_eq!(patient["some"], json!({"totalCount": 2, "nodes": [{"visitNo": "8"}, {"visitNo": "7"}]}));
            assert_eq!(patient["head"]["nodes"][0]["visitNo"], head);
            assert_eq!(patient["tail"]["nodes"][0]["visitNo"], tail);
            at = patient["head"]["pageInfo"]["endCursor"].clone();
            back = patient["tail"]["pageInfo"]["startCursor"].clone();
        }
    }

    async fn search_finds_patients_by_name_chart_number_and_phone(app: TestApp) {
        app.import_example();
        let user = app.sign_in("desk").await;
        for (search, expected) in [("Ash", "A"), ("영", "B"), ("D", "D"), ("010-1111-0001", "A"), ("+82 10 1111 0002", "B"), ("01011110001", "A"), ("1111", ""), ("ash", "A"), ("%", ""), ("C", "C")] {
            let query = "query ($s: String) { patients(filter: {search: $s}) { totalCount nodes { chartNo phone } } }";
            let response = user.graphql_with(query, json!({"s": search})).await;
            let charts: String = response["patients"]["nodes"].as_array().unwrap().iter().map(|node| node["chartNo"].as_str().unwrap()).collect();
            assert_eq!(charts, expected, "{search}");
            assert_eq!(response["patients"]["totalCount"].as_u64().unwrap() as usize, expected.len());
        }
        let response = user.graphql("{ patients(filter: {registered: {from: \"2025-04-01\", to: \"2025-05-01\"}}) { nodes { chartNo phone } } }").await;
        assert_eq!(response["patients"]["nodes"], json!([{"chartNo": "A", "phone": "+821011110001"}, {"chartNo": "B", "phone": "+821011110002"}]));
    }

    async fn filters_do_not_change_patient_histories(app: TestApp) {
        app.import_example();
        let user = app.sign_in("desk").await;
        let departments = user.graphql("{ hospital { departments { id name } doctors { id name department { name } } } }").await;
        let id = |list: &str, name: &str| {
            let all = departments["hospital"][list].as_array().unwrap();
            all.iter().find(|row| row["name"] == name).unwrap()["id"].clone()
        };
        let query = "query ($f: StatisticsFilter) { statistics(period: YEAR, range: {from: \"2025-01-01\", to: \"2025-12-31\"}, asOf: \"2025-12-31\", filter: $f) {
            filter { departments { name } doctors { name } channels }
            total { newPatients { patients { nodes { chartNo } } } returning { patients { nodes { chartNo } } } } } }";
        let who = |response: &Value, list: &str| -> String {
            let nodes = response["statistics"]["total"][list]["patients"]["nodes"].as_array().unwrap();
            nodes.iter().map(|node| node["chartNo"].as_str().unwrap()).collect()
        };
        let skin = user.graphql_with(query, json!({"f": {"departmentIds": [id("departments", "Skin")]}})).await;
        assert_eq!((who(&skin, "newPatients").as_str(), who(&skin, "returning").as_str()), ("B", "C"));
        assert_eq!(skin["statistics"]["filter"], json!({"departments": [{"name": "Skin"}], "doctors": null, "channels": null}));
        let ito = user.graphql_with(query, json!({"f": {"doctorIds": [id("doctors", "Dr Ito")], "channels": ["APP", "QR"]}})).await;
        assert_eq!((who(&ito, "newPatients").as_str(), who(&ito, "returning").as_str()), ("D", "B"));
    }
}
