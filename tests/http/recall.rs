//! Recall lists: who is on them and who is left out, working them off, and that every number is the length of a list, whatever changes.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use chrono::NaiveDate;
use futures_util::future::join_all;
use sea_orm::{ConnectionTrait as _, QueryResult, Statement};
use serde_json::{Value, json};
use test_support::{Client, TestApp, error, on_each_database};

use crate::erasure::holding;

/// 2025-09-01, 09:30 in Seoul.
const MADE: &str = "2025-09-01T00:30:00Z";
const MAY: &str = "statistics(period: MONTH, range: {from: \"2025-05-01\", to: \"2025-05-31\"}";

/// Imports patients with these chart numbers, each with a phone and an attended visit on 2025-05-11.
fn import(app: &TestApp, chart_nos: &[String]) {
    let (mut patients, mut visits) = (
        "chart_no,name,phone\n".to_owned(),
        "visit_no,chart_no,date,status\n".to_owned(),
    );
    for (number, chart_no) in (1_000..).zip(chart_nos) {
        patients.push_str(&format!("{chart_no},Name {chart_no},010-2222-{number}\n"));
        visits.push_str(&format!("{chart_no},{chart_no},2025-05-11,COMPLETED\n"));
    }
    app.import("patients", "H1", &patients);
    app.import("visits", "H1", &visits);
}

fn chart_nos(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("P{number:02}")).collect()
}

/// The ids of patients by chart number.
async fn patients(user: &Client<'_>) -> BTreeMap<String, Value> {
    let found = user.graphql("{ patients(first: 100) { nodes { id chartNo } } }").await;
    let nodes = found["patients"]["nodes"].as_array().unwrap().iter();
    nodes
        .map(|node| (node["chartNo"].as_str().unwrap().to_owned(), node["id"].clone()))
        .collect()
}

/// The id of a cohort of May.
async fn cohort(user: &Client<'_>, as_of: &str, kind: &str) -> Value {
    let query = format!("{{ {MAY}, asOf: \"{as_of}\") {{ total {{ cohort(kind: {kind}) {{ id }} }} }} }}");
    user.graphql(&query).await["statistics"]["total"]["cohort"]["id"].take()
}

async fn make(user: &Client<'_>, cohort: &Value) -> Value {
    let input = json!({"name": "Autumn", "cohortId": cohort});
    user.mutate("createRecallList", input, "list { id version patientCount }")
        .await["list"]
        .take()
}

/// Entries of a list by this selection of the connection.
async fn entries(user: &Client<'_>, list: &Value, arguments: &str, selection: &str) -> Value {
    let query = format!("query ($id: ID!) {{ recallList(id: $id) {{ entries{arguments} {{ {selection} }} }} }}");
    user.graphql_with(&query, json!({"id": list["id"]})).await["recallList"]["entries"].take()
}

async fn nodes(user: &Client<'_>, list: &Value, arguments: &str) -> Vec<Value> {
    let selection = "nodes { id version outcome dueOn patient { chartNo } assignee { login } }";
    let found = entries(user, list, arguments, selection).await;
    found["nodes"].as_array().unwrap().clone()
}

fn charts(nodes: &[Value]) -> Vec<&str> {
    nodes
        .iter()
        .map(|node| node["patient"]["chartNo"].as_str().unwrap())
        .collect()
}

async fn change_sql(app: &TestApp, chart_no: &str, change: &str) {
    app.execute(&format!("UPDATE patient SET {change} WHERE chart_no = '{chart_no}'"))
        .await;
}

const LEFT_OUT: &str =
    "list { id name version asOf proposedDefinition patientCount closedAt createdAt createdBy { login }
    cohort { id kind patientCount patientIds }
    leftOut { reason patientCount patients(first: 50) { totalCount nodes { chartNo state } } }
    entries(first: 50) { totalCount nodes { id patient { chartNo } outcome contacts { outcome } returnedOn version } }
    outcomes { outcome patientCount } returnedCount returnRate returnedWithin(days: 30) }";

fn left_out(list: &Value) -> Vec<(&str, u64, Vec<&str>)> {
    let reasons = list["leftOut"].as_array().unwrap().iter();
    reasons
        .map(|left| {
            let nodes = left["patients"]["nodes"].as_array().unwrap();
            assert_eq!(left["patients"]["totalCount"], left["patientCount"]);
            assert_eq!(left["patientCount"], nodes.len());
            let chart_nos = nodes.iter().map(|node| node["chartNo"].as_str().unwrap()).collect();
            (
                left["reason"].as_str().unwrap(),
                left["patientCount"].as_u64().unwrap(),
                chart_nos,
            )
        })
        .collect()
}

on_each_database! {
    async fn each_patient_is_listed_or_left_out_for_the_first_reason(app: TestApp) {
        app.set_time(MADE);
        import(app, &chart_nos(14));
        app.import("patients", "H1", "chart_no,name,phone\nZ,Zoe Zed,010-3333-0001\n");
        let (admin, desk) = (app.sign_in("admin").await, app.sign_in("desk").await);
        let cohort = cohort(&desk, "2025-08-31", "CHURN_SUSPECTED").await;
        let id = patients(&desk).await;
        // The cohort is counted; everything below happens since.
        for (from, into) in [("P00", "P01"), ("P02", "Z"), ("P03", "P04"), ("P13", "P12")] {
            let merge = json!({"id": id[from], "version": 1, "intoId": id[into], "reason": "Same person"});
            desk.mutate("mergePatients", merge, "into { id }").await;
        }
        desk.mutate("erasePatient", json!({"id": id["P04"], "version": 1, "reason": "Asked for"}), "patient { id }").await;
        let visit = async |chart_no: &str, date: &str, status: &str| {
            let input = json!({"patientId": id[chart_no], "date": date, "status": status, "reason": "Late"});
            desk.mutate("recordVisit", input, "visit { id }").await;
        };
        visit("P05", "2025-09-01", "COMPLETED").await;
        // On the day of asOf, but after the cohort was counted; and before it, which is not since.
        visit("P06", "2025-08-31", "COMPLETED").await;
        visit("P07", "2025-08-30", "COMPLETED").await;
        visit("P08", "2025-09-01", "BOOKED").await;
        visit("P09", "2025-08-29", "NO_SHOW").await;
        change_sql(app, "P08", "do_not_contact = TRUE").await;
        change_sql(app, "P10", "do_not_contact = TRUE, phone = NULL").await;
        change_sql(app, "P11", "phone = NULL").await;
        // The one who stays has neither phone nor wish to be called.
        change_sql(app, "P12", "phone = NULL").await;

        let input = json!({"name": " Autumn ", "cohortId": cohort, "idempotencyKey": "k"});
        let made = desk.mutate("createRecallList", input.clone(), LEFT_OUT).await["list"].take();
        assert_eq!(left_out(&made), [
            ("NOT_ACTIVE", 2, vec!["", ""]),
            ("DUPLICATE", 2, vec!["P00", "P13"]),
            ("CAME_SINCE", 2, vec!["P05", "P06"]),
            ("HAS_NEXT_VISIT", 1, vec!["P08"]),
            ("DO_NOT_CONTACT", 1, vec!["P10"]),
            ("NO_PHONE", 2, vec!["P11", "P12"]),
        ]);
        let listed = made["entries"]["nodes"].as_array().unwrap();
        assert_eq!(charts(listed), ["P01", "Z", "P07", "P09"], "the one who stays");
        assert_eq!((&made["patientCount"], &made["entries"]["totalCount"], &made["cohort"]["patientCount"]), (&json!(4), &json!(4), &json!(14)));
        assert_eq!((&made["name"], &made["asOf"], &made["proposedDefinition"]), (&json!("Autumn"), &json!("2025-08-31"), &json!(false)));
        assert_eq!((&made["cohort"]["id"], &made["createdBy"]["login"], &made["createdAt"]), (&cohort, &json!("desk"), &json!("2025-09-01T00:30:00Z")));
        assert_eq!((&made["returnedCount"], &made["returnRate"], &made["returnedWithin"]), (&json!(0), &json!(0.0), &json!(0)));
        let again = desk.mutate("createRecallList", input, "list { id }").await;
        assert_eq!(again["list"]["id"], made["id"], "one key makes one list");
        // Each list is decided when it is made; options take reasons away.
        let all = json!({"name": "All", "cohortId": cohort, "withPhone": false, "withoutNextVisit": false});
        let all = admin.mutate("createRecallList", all, LEFT_OUT).await["list"].take();
        let counts: Vec<u64> = left_out(&all).iter().map(|(_, count, _)| *count).collect();
        assert_eq!(counts, [2, 2, 2, 0, 2, 0]);
        assert_eq!(all["patientCount"], 6);
        let first = desk.graphql_with("query ($id: ID!) { node(id: $id) { ... on RecallList { patientCount } } }", json!({"id": made["id"]})).await;
        assert_eq!(first["node"]["patientCount"], 4);

        // The snapshot stays pinned.
        let snapshot = admin.graphql(&format!("{{ {MAY}, asOf: \"2025-08-30\") {{ id pinnedAt }} }}")).await["statistics"].take();
        assert_eq!(snapshot["pinnedAt"], Value::Null);
        assert_eq!(app.query_number("SELECT COUNT(*) FROM snapshot WHERE pinned_at IS NOT NULL AND pinned_by IS NOT NULL").await, 1);
        let pinned: String = app.query_value("SELECT id FROM snapshot WHERE pinned_at IS NOT NULL").await;
        let pinned = statistics_id(&pinned);
        assert_eq!(admin.mutation_error("unpinSnapshot", json!({"id": pinned})).await, error("BAD_USER_INPUT", "input.id"));
        admin.mutate("pinSnapshot", json!({"id": pinned}), "statistics { pinnedAt }").await;

        // Lists of proposed rules, and of the cohorts of a comparison.
        let query = format!("{{ previewDefinition(definition: {{churnAfterDays: 7}}, {} {{ after {{ id }} total {{ cohort(kind: CHURN_SUSPECTED) {{ before {{ id }} after {{ id }} }} }} }} }}",
            MAY.trim_start_matches("statistics(").to_owned() + ")");
        let preview = admin.graphql(&query).await["previewDefinition"]["total"]["cohort"].take();
        for (side, proposed) in [("before", false), ("after", true)] {
            let input = json!({"name": side, "cohortId": preview[side]["id"]});
            let list = desk.mutate("createRecallList", input, "list { proposedDefinition cohort { id } }").await["list"].take();
            assert_eq!(list, json!({"proposedDefinition": proposed, "cohort": {"id": preview[side]["id"]}}));
        }
        let lists = desk.graphql("{ recallLists(first: 2) { totalCount nodes { name } pageInfo { endCursor hasNextPage } } }").await["recallLists"].take();
        assert_eq!((&lists["totalCount"], &lists["nodes"]), (&json!(4), &json!([{"name": "after"}, {"name": "before"}])));
        let query = "query ($at: String) { recallLists(first: 2, after: $at) { nodes { name } pageInfo { hasNextPage } } }";
        let rest = desk.graphql_with(query, json!({"at": lists["pageInfo"]["endCursor"]})).await["recallLists"].take();
        assert_eq!(rest, json!({"nodes": [{"name": "All"}, {"name": "Autumn"}], "pageInfo": {"hasNextPage": false}}));
    }

    async fn bad_input_is_refused_and_named(app: TestApp) {
        app.set_time(MADE);
        import(app, &chart_nos(3));
        let (admin, desk) = (app.sign_in("admin").await, app.sign_in("desk").await);
        let cohort_id = cohort(&desk, "2025-08-31", "NEW").await;
        let list = make(&desk, &cohort_id).await;
        let entry = nodes(&desk, &list, "(first: 1)").await.remove(0);
        let staff = admin.graphql("{ staff { id login } }").await["staff"].take();
        let member = |login: &str| staff.as_array().unwrap().iter().find(|member| member["login"] == login).unwrap()["id"].clone();
        let contact = |more: Value| {
            let mut input = json!({"entryId": entry["id"], "version": entry["version"], "outcome": "REACHED"});
            input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            input
        };
        let (bad, not_found) = ("BAD_USER_INPUT", "NOT_FOUND");
        for (mutation, input, code, argument) in [
            ("createRecallList", json!({"name": " ", "cohortId": cohort_id}), bad, "input.name"),
            ("createRecallList", json!({"name": "n".repeat(256), "cohortId": cohort_id}), bad, "input.name"),
            ("createRecallList", json!({"name": "n", "cohortId": list["id"]}), bad, "input.cohortId"),
            ("createRecallList", json!({"name": "n", "cohortId": "QwAAAAAAAAAAAAAAAAAAAAAB"}), not_found, "input.cohortId"),
            ("recordContact", contact(json!({"entryId": list["id"]})), bad, "input.entryId"),
            ("recordContact", contact(json!({"entryId": "Uv__"})), not_found, "input.entryId"),
            ("recordContact", contact(json!({"version": 9})), "CONFLICT", "input.version"),
            ("recordContact", contact(json!({"note": ""})), bad, "input.note"),
            ("recordContact", contact(json!({"note": "n".repeat(2_001)})), bad, "input.note"),
            ("recordContact", contact(json!({"dueOn": "2025-02-30"})), bad, "input.dueOn"),
            ("claimRecallEntries", json!({"listId": list["id"], "count": 0}), bad, "input.count"),
            ("claimRecallEntries", json!({"listId": list["id"], "count": 21}), bad, "input.count"),
            ("claimRecallEntries", json!({"listId": "TP__"}), not_found, "input.listId"),
            ("claimRecallEntries", json!({"listId": list["id"], "filter": {"outcomes": []}}), bad, "input.filter.outcomes"),
            ("claimRecallEntries", json!({"listId": list["id"], "filter": {"dueBy": "1800-01-01"}}), bad, "input.filter.dueBy"),
            ("claimRecallEntries", json!({"listId": list["id"], "filter": {"assigneeIds": ["VP__"]}}), not_found, "input.filter.assigneeIds.0"),
            ("assignRecallEntries", json!({"entryIds": [], "staffId": member("desk")}), bad, "input.entryIds"),
            ("assignRecallEntries", json!({"entryIds": vec![&entry["id"]; 101]}), bad, "input.entryIds"),
            ("assignRecallEntries", json!({"entryIds": [entry["id"], "Uv__"]}), not_found, "input.entryIds.1"),
            ("assignRecallEntries", json!({"entryIds": [entry["id"]], "staffId": member("support")}), bad, "input.staffId"),
            ("assignRecallEntries", json!({"entryIds": [entry["id"]], "staffId": "VP__"}), not_found, "input.staffId"),
            ("closeRecallList", json!({"id": list["id"], "version": 2}), "CONFLICT", "input.version"),
        ] {
            assert_eq!(desk.mutation_error(mutation, input.clone()).await, error(code, argument), "{mutation} {input}");
        }
        let id = list["id"].as_str().unwrap();
        for (field, argument) in [
            ("returnedWithin(days: 0)", "days"), ("returnedWithin(days: 36501)", "days"),
            ("entries(first: 101) { totalCount }", "first"), ("entries(filter: {outcomes: []}) { totalCount }", "filter.outcomes"),
            ("entries(filter: {assigneeIds: []}) { totalCount }", "filter.assigneeIds"), ("entries(after: \"x\") { nodes { id } }", "after"),
        ] {
            assert_eq!(desk.graphql_error(&format!("{{ recallList(id: \"{id}\") {{ {field} }} }}")).await, error(bad, argument), "{field}");
        }
        assert_eq!(desk.graphql("{ recallList(id: \"TP__\") { id } node(id: \"Uv__\") { id } }").await, json!({"recallList": null, "node": null}));
        // A cursor of the entries is of one list and filter.
        let cursor = entries(&desk, &list, "(first: 1)", "pageInfo { endCursor }").await["pageInfo"]["endCursor"].take();
        let query = format!("query ($at: String) {{ recallList(id: \"{id}\") {{ entries(after: $at, filter: {{untouched: true}}) {{ nodes {{ id }} }} }} }}");
        let refused = desk.graphql_response(&query, json!({"at": cursor})).await;
        assert_eq!(refused["errors"][0]["extensions"]["argument"], "after");
        // A snapshot that expired, also for the server that has it in memory.
        let expiring = cohort(&desk, "2025-08-30", "NEW").await;
        app.execute("UPDATE snapshot SET expired_at = computed_at WHERE pinned_at IS NULL").await;
        let input = json!({"name": "n", "cohortId": expiring});
        assert_eq!(desk.mutation_error("createRecallList", input).await.0, "SNAPSHOT_EXPIRED");
        for role in ["clinician", "support"] {
            let user = app.sign_in(role).await;
            user.expect_mutation_error("createRecallList", json!({"name": "n", "cohortId": cohort_id}), "FORBIDDEN").await;
            user.expect_mutation_error("claimRecallEntries", json!({"listId": list["id"]}), "FORBIDDEN").await;
            assert_eq!(nodes(&user, &list, "").await.len(), 3, "{role} may read");
        }
        // A closed list.
        desk.mutate("closeRecallList", json!({"id": list["id"], "version": 1}), "list { closedAt }").await;
        for (mutation, input, argument) in [
            ("recordContact", contact(json!({})), "input.entryId"),
            ("claimRecallEntries", json!({"listId": list["id"]}), "input.listId"),
            ("assignRecallEntries", json!({"entryIds": [entry["id"]]}), "input.entryIds.0"),
            ("closeRecallList", json!({"id": list["id"], "version": 2}), "input.id"),
        ] {
            assert_eq!(desk.mutation_error(mutation, input).await, error(bad, argument), "{mutation}");
        }
        let open = desk.graphql("{ open: recallLists(open: true) { totalCount nodes { id } } closed: recallLists(open: false) { totalCount nodes { closedAt } } }").await;
        assert_eq!(open, json!({"open": {"totalCount": 0, "nodes": []}, "closed": {"totalCount": 1, "nodes": [{"closedAt": "2025-09-01T00:30:00Z"}]}}));
    }

    async fn entries_are_claimed_by_one_and_worked_off_in_order(app: TestApp) {
        app.set_time(MADE);
        import(app, &chart_nos(9));
        let (admin, desk) = (app.sign_in("admin").await, app.sign_in("desk").await);
        let list = make(&desk, &cohort(&desk, "2025-08-31", "NEW").await).await;
        let revision = app.query_number("SELECT number FROM revision").await;
        let claim = async |user: &Client<'_>, more: Value| {
            let mut input = json!({"listId": list["id"]});
            input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let claimed = user.mutate("claimRecallEntries", input, "entries { id version claimedUntil assignee { login } patient { chartNo } }").await;
            claimed["entries"].as_array().unwrap().clone()
        };
        let contact = async |user: &Client<'_>, entry: &Value, more: Value| {
            let mut input = json!({"entryId": entry["id"], "version": entry["version"]});
            input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            user.mutation_response("recordContact", input, "entry { id version outcome dueOn claimedUntil assignee { login } contacts { at by { login } outcome note dueOn } }").await
        };
        // The next one, for 30 minutes; sent again it is the same one.
        let mine = claim(&desk, json!({"idempotencyKey": "k"})).await;
        assert_eq!((charts(&mine), &mine[0]["claimedUntil"], &mine[0]["assignee"]["login"]), (vec!["P00"], &json!("2025-09-01T01:00:00Z"), &json!("desk")));
        assert_eq!(claim(&desk, json!({"idempotencyKey": "k"})).await, mine);
        assert_eq!(desk.mutation_error("claimRecallEntries", json!({"listId": list["id"], "count": 2, "idempotencyKey": "k"})).await, error("BAD_USER_INPUT", "input.idempotencyKey"));
        let theirs = claim(&admin, json!({"count": 2})).await;
        assert_eq!(charts(&theirs), ["P01", "P02"]);
        // Held by somebody else.
        let refused = contact(&admin, &mine[0], json!({"outcome": "REACHED"})).await;
        assert_eq!(refused["errors"][0]["extensions"], json!({"code": "CONFLICT", "argument": "input.entryId", "currentVersion": 2}));
        assert_eq!(admin.mutation_error("assignRecallEntries", json!({"entryIds": [mine[0]["id"]]})).await, error("CONFLICT", "input.entryIds.0"));
        // A contact ends the claim, and is repeated by its key.
        let note = json!({"outcome": "NO_ANSWER", "note": "Rang\nfive times", "dueOn": "2025-09-03", "idempotencyKey": "c"});
        let recorded = contact(&desk, &mine[0], note.clone()).await["data"]["recordContact"]["entry"].take();
        assert_eq!(recorded, json!({"id": mine[0]["id"], "version": 3, "outcome": "NO_ANSWER", "dueOn": "2025-09-03", "claimedUntil": null, "assignee": null,
            "contacts": [{"at": "2025-09-01T00:30:00Z", "by": {"login": "desk"}, "outcome": "NO_ANSWER", "note": "Rang\nfive times", "dueOn": "2025-09-03"}]}));
        assert_eq!(contact(&desk, &mine[0], note).await["data"]["recordContact"]["entry"], recorded);
        let stale = contact(&desk, &mine[0], json!({"outcome": "REACHED"})).await;
        assert_eq!(stale["errors"][0]["extensions"], json!({"code": "CONFLICT", "argument": "input.version", "currentVersion": 3}));
        // A contact may be recorded without a claim, too; several contacts are kept.
        contact(&admin, &theirs[0], json!({"outcome": "BOOKED"})).await;
        let third = nodes(&desk, &list, "(first: 9)").await.remove(1);
        assert_eq!(third["patient"]["chartNo"], "P03");
        contact(&desk, &third, json!({"outcome": "DECLINED", "dueOn": "2025-09-02"})).await;
        // Untouched ones, due later, done.
        assert_eq!(charts(&nodes(&desk, &list, "").await), ["P02", "P04", "P05", "P06", "P07", "P08", "P03", "P00", "P01"]);
        app.set_time("2025-09-03T00:30:00Z");
        let order = ["P03", "P00", "P02", "P04", "P05", "P06", "P07", "P08", "P01"];
        assert_eq!(charts(&nodes(&desk, &list, "").await), order, "the longest due first");
        // Pages in both directions.
        for (size, back) in [(1, false), (2, false), (4, true), (9, true), (1, true)] {
            let (mut seen, mut cursor) = (Vec::new(), Value::Null);
            loop {
                let arguments = if back { format!("(last: {size}, before: $at)") } else { format!("(first: {size}, after: $at)") };
                let query = format!("query ($id: ID!, $at: String) {{ recallList(id: $id) {{ entries{arguments} {{ totalCount
                    edges {{ cursor node {{ patient {{ chartNo }} }} }} pageInfo {{ startCursor endCursor hasNextPage hasPreviousPage }} }} }} }}");
                let page = desk.graphql_with(&query, json!({"id": list["id"], "at": cursor})).await["recallList"]["entries"].take();
                assert_eq!(page["totalCount"], 9);
                let rows = page["edges"].as_array().unwrap().iter().map(|edge| edge["node"]["patient"]["chartNo"].as_str().unwrap().to_owned());
                let rows: Vec<String> = rows.collect();
                if back { seen.splice(0..0, rows); } else { seen.extend(rows); }
                let (more, next) = if back { ("hasPreviousPage", "startCursor") } else { ("hasNextPage", "endCursor") };
                if page["pageInfo"][more] == false {
                    break;
                }
                cursor = page["pageInfo"][next].clone();
            }
            assert_eq!(seen, order, "{size} {back}");
        }
        // Claims lapse; those that are due come first; others' assignments are left alone.
        let staff = admin.graphql("{ staff { id login } }").await["staff"].take();
        let member = |login: &str| staff.as_array().unwrap().iter().find(|member| member["login"] == login).unwrap()["id"].clone();
        let all = nodes(&desk, &list, "").await;
        let assigned = json!({"entryIds": [all[0]["id"], all[3]["id"]], "staffId": member("admin"), "idempotencyKey": "a"});
        let payload = desk.mutate("assignRecallEntries", assigned, "entries { assignee { role } claimedUntil patient { chartNo } }").await;
        assert_eq!(payload["entries"], json!([
            {"assignee": {"role": "ADMIN"}, "claimedUntil": null, "patient": {"chartNo": "P03"}},
            {"assignee": {"role": "ADMIN"}, "claimedUntil": null, "patient": {"chartNo": "P04"}}]));
        assert_eq!(charts(&claim(&desk, json!({"count": 3})).await), ["P00", "P02", "P05"]);
        assert_eq!(charts(&claim(&admin, json!({"count": 1, "filter": {"assigneeIds": [member("admin")]}})).await), ["P03"]);
        let by = |login: &str, more: &str| format!("(filter: {{assigneeIds: [{}] {more}}})", member(login));
        assert_eq!(charts(&nodes(&desk, &list, &by("desk", "")).await), ["P00", "P02", "P05"], "who has claimed it");
        assert_eq!(charts(&nodes(&desk, &list, &by("admin", ", untouched: true")).await), ["P04"]);
        // Done ones are claimed only if they are asked for; patients who do not want it, never.
        change_sql(app, "P06", "do_not_contact = TRUE").await;
        assert_eq!(charts(&claim(&admin, json!({"count": 20})).await), ["P04", "P07", "P08"]);
        assert_eq!(claim(&desk, json!({"count": 20})).await, Vec::<Value>::new());
        assert_eq!(charts(&claim(&desk, json!({"filter": {"outcomes": ["BOOKED", "REACHED"]}})).await), ["P01"]);
        // My claims end when I assign the entries to nobody, or by themselves.
        let free = nodes(&desk, &list, &by("desk", "")).await;
        let ids: Vec<&Value> = free.iter().map(|entry| &entry["id"]).collect();
        desk.mutate("assignRecallEntries", json!({"entryIds": ids}), "entries { id }").await;
        assert_eq!(charts(&claim(&admin, json!({"count": 20})).await), ["P00", "P02", "P05"]);
        app.set_time("2025-09-03T00:59:59.999Z");
        assert_eq!(claim(&desk, json!({"count": 20})).await, Vec::<Value>::new());
        app.set_time("2025-09-03T01:00:00Z");
        let lapsed = claim(&desk, json!({"count": 20})).await;
        assert_eq!(charts(&lapsed), ["P00", "P02", "P05", "P07", "P08"]);
        // Filters, and that their numbers are lengths of lists.
        let counts = entries(&desk, &list, "(filter: {dueBy: \"2025-09-02\"})", "totalCount nodes { dueOn }").await;
        assert_eq!(counts, json!({"totalCount": 1, "nodes": [{"dueOn": "2025-09-02"}]}));
        let query = "query ($id: ID!) { recallList(id: $id) { outcomes { outcome patientCount } } }";
        let outcomes = desk.graphql_with(query, json!({"id": list["id"]})).await["recallList"]["outcomes"].take();
        assert_eq!(outcomes, json!([{"outcome": null, "patientCount": 6}, {"outcome": "REACHED", "patientCount": 0}, {"outcome": "BOOKED", "patientCount": 1},
            {"outcome": "NO_ANSWER", "patientCount": 1}, {"outcome": "DECLINED", "patientCount": 1}, {"outcome": "WRONG_NUMBER", "patientCount": 0}]));
        assert_eq!(app.query_number("SELECT number FROM revision").await, revision);
    }

    async fn two_people_never_get_the_same_entry(app: TestApp) {
        app.set_time(MADE);
        import(app, &chart_nos(30));
        let (admin, desk) = (app.sign_in("admin").await, app.sign_in("desk").await);
        let second = app.second_server();
        let elsewhere = app.sign_in_at(&second.base, "H1", "admin").await;
        let list = make(&desk, &cohort(&desk, "2025-08-31", "NEW").await).await;
        let claims = (0..12).map(|number| {
            let user = [&admin, &desk, &elsewhere][number % 3];
            let input = json!({"listId": list["id"], "count": 3});
            user.mutate("claimRecallEntries", input, "entries { id }")
        });
        let claimed: Vec<Value> = join_all(claims).await.iter().flat_map(|payload| payload["entries"].as_array().unwrap().clone()).collect();
        let distinct: HashSet<&str> = claimed.iter().map(|entry| entry["id"].as_str().unwrap()).collect();
        assert_eq!((claimed.len(), distinct.len()), (30, 30));
    }

    async fn notes_are_for_those_who_see_patients_and_are_erased(app: TestApp) {
        app.set_time(MADE);
        import(app, &chart_nos(4));
        let (admin, desk, support) = (app.sign_in("admin").await, app.sign_in("desk").await, app.sign_in("support").await);
        let list = make(&desk, &cohort(&desk, "2025-08-31", "NEW").await).await;
        let id = patients(&desk).await;
        // P00 and P01 become one person; the contact is on the entry of P00, which is older, and in the history of P01.
        let before = nodes(&desk, &list, "").await;
        let merge = json!({"id": id["P00"], "version": 1, "intoId": id["P01"], "reason": "Same"});
        desk.mutate("mergePatients", merge, "into { id }").await;
        let younger = json!({"entryId": before[1]["id"], "version": 1, "outcome": "REACHED"});
        assert_eq!(desk.mutation_error("recordContact", younger).await, error("BAD_USER_INPUT", "input.entryId"));
        let input = json!({"entryId": before[0]["id"], "version": 1, "outcome": "DECLINED", "note": "Afraid of quinces", "dueOn": "2026-01-31"});
        desk.mutate("recordContact", input, "entry { patient { chartNo } }").await;
        let input = json!({"entryId": before[2]["id"], "version": 1, "outcome": "REACHED", "note": "Likes quinces"});
        desk.mutate("recordContact", input, "entry { id }").await;
        assert_eq!(holding(app, "quinces").await, Vec::<String>::new(), "encrypted");
        app.run_cli(&["keys", "rotate"]);
        let query = "query ($list: ID!, $patient: ID!) {
            recallList(id: $list) { entries { nodes { patient { chartNo } contacts { outcome note } } } }
            patient(id: $patient) { history(first: 1) { nodes { at source by { name } fields { field before after } } } } }";
        let variables = json!({"list": list["id"], "patient": id["P01"]});
        let shown = async |user: &Client<'_>| {
            let shown = user.graphql_with(query, variables.clone()).await;
            let nodes = shown["recallList"]["entries"]["nodes"].as_array().unwrap().clone();
            let notes: Vec<Value> = nodes.iter().flat_map(|node| node["contacts"].as_array().unwrap().clone()).map(|contact| contact["note"].clone()).collect();
            (charts(&nodes).join(" "), notes, shown["patient"]["history"]["nodes"][0].clone())
        };
        let name = desk.graphql("{ viewer { name } }").await["viewer"]["name"].take();
        let (listed, notes, history) = shown(&desk).await;
        assert_eq!((listed.as_str(), notes), ("P03 P01 P02", vec![json!("Afraid of quinces"), json!("Likes quinces")]));
        assert_eq!(history, json!({"at": MADE, "source": "recordContact", "by": {"name": name}, "fields": [
            {"field": "outcome", "before": null, "after": "DECLINED"}, {"field": "note", "before": null, "after": "Afraid of quinces"},
            {"field": "dueOn", "before": null, "after": "2026-01-31"}]}));
        let (_, notes, history) = shown(&support).await;
        assert_eq!((notes, &history["fields"][1]["after"]), (vec![Value::Null, Value::Null], &Value::Null));
        // Changes before and after it are shown as they were made.
        let change = json!({"id": id["P01"], "version": 1, "memo": "Deaf"});
        desk.mutate("changePatient", change, "patient { id }").await;
        let fields = "query ($patient: ID!) { patient(id: $patient) { history(first: 4) { nodes { source fields { field } } } } }";
        let nodes_of = desk.graphql_with(fields, json!({"patient": id["P01"]})).await["patient"]["history"]["nodes"].take();
        assert_eq!((&nodes_of[0], &nodes_of[3]["source"]), (&json!({"source": "changePatient", "fields": [{"field": "memo"}]}), &json!("IMPORT")));
        // Who opened entries is in the audit, and whom they are about.
        let audit = "{ audit(first: 1, filter: {actions: [VIEWED_PATIENTS]}) { nodes { staff { login } patientIds } } }";
        entries(&support, &list, "(first: 1)", "nodes { outcome }").await;
        let entry = admin.graphql(audit).await["audit"]["nodes"][0].take();
        assert_eq!(entry, json!({"staff": {"login": "support"}, "patientIds": [id["P03"]]}));
        let changed = admin.graphql("{ audit(first: 100, filter: {actions: [CHANGED]}) { nodes { what patientIds } } }").await["audit"]["nodes"].take();
        let contacts: Vec<&Value> = changed.as_array().unwrap().iter().filter(|entry| entry["what"] == "recordContact").collect();
        assert_eq!(contacts[1]["patientIds"], json!([id["P00"], id["P01"]]));
        // Erased: the entry stays, marked, without the notes, and nobody is called.
        desk.mutate("erasePatient", json!({"id": id["P01"], "version": 2, "reason": "Asked for"}), "patient { id }").await;
        let (_, notes, history) = shown(&desk).await;
        assert_eq!(notes, [Value::Null, json!("Likes quinces")]);
        assert_eq!(history["source"], "erasePatient");
        assert_eq!(app.query_number("SELECT COUNT(*) FROM recall_contact WHERE note IS NULL").await, 1);
        let marked = entries(&desk, &list, "(filter: {outcomes: [DECLINED]})", "totalCount nodes { id version patient { state chartNo } }").await;
        assert_eq!((&marked["totalCount"], &marked["nodes"][0]["patient"]), (&json!(1), &json!({"state": "ERASED", "chartNo": ""})));
        let input = json!({"entryId": marked["nodes"][0]["id"], "version": 2, "outcome": "REACHED"});
        assert_eq!(desk.mutation_error("recordContact", input).await, error("BAD_USER_INPUT", "input.entryId"));
        let input = json!({"listId": list["id"], "filter": {"outcomes": ["DECLINED"]}});
        assert_eq!(desk.mutate("claimRecallEntries", input, "entries { id }").await["entries"], json!([]));
    }

    async fn who_returned_on_the_day_of_making_was_not_attended_then(app: TestApp) {
        app.set_time(MADE);
        import(app, &chart_nos(6));
        let desk = app.sign_in("desk").await;
        let id = patients(&desk).await;
        let visit = async |chart_no: &str, date: &str, status: &str| {
            let input = json!({"patientId": id[chart_no], "date": date, "status": status, "reason": "r"});
            desk.mutate("recordVisit", input, "visit { id version }").await["visit"].take()
        };
        // Today, before the list is made: attended, and checked in.
        visit("P00", "2025-09-01", "COMPLETED").await;
        let waiting = visit("P01", "2025-09-01", "CHECKED_IN").await;
        let early = visit("P05", "2025-08-20", "COMPLETED").await;
        let made = json!({"name": "n", "cohortId": cohort(&desk, "2025-09-01", "NEW").await});
        let list = desk.mutate("createRecallList", made, "list { id version patientCount }").await["list"].take();
        assert_eq!(list["patientCount"], 6, "CHECKED_IN is no booking, and P00 came before the cohort was counted");
        let returned = async || {
            let query = "query ($id: ID!) { recallList(id: $id) { returnedCount returnedWithin(days: 1) entries(filter: {returned: true}) { nodes { returnedOn patient { chartNo } } } } }";
            let list = desk.graphql_with(query, json!({"id": list["id"]})).await["recallList"].take();
            let nodes = list["entries"]["nodes"].as_array().unwrap().iter();
            let nodes: Vec<String> = nodes.map(|node| format!("{} {}", node["patient"]["chartNo"].as_str().unwrap(), node["returnedOn"].as_str().unwrap())).collect();
            assert_eq!(list["returnedCount"], nodes.len());
            (nodes.join(", "), list["returnedWithin"].as_u64().unwrap())
        };
        assert_eq!(returned().await, (String::new(), 0));
        let change = async |visit: &Value, version: i32, more: Value| {
            let mut input = json!({"id": visit["id"], "version": version, "reason": "r"});
            input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            desk.mutate("changeVisit", input, "visit { id }").await;
        };
        change(&waiting, 1, json!({"status": "COMPLETED"})).await;
        visit("P02", "2025-09-01", "COMPLETED").await;
        visit("P03", "2025-08-31", "COMPLETED").await;
        // Attended before, and only moved to the day.
        change(&early, 1, json!({"date": "2025-09-01"})).await;
        assert_eq!(returned().await, ("P01 2025-09-01, P02 2025-09-01".to_owned(), 2));
        app.set_time("2025-09-20T00:30:00Z");
        visit("P00", "2025-09-10", "ENDED").await;
        assert_eq!(returned().await, ("P00 2025-09-10, P01 2025-09-01, P02 2025-09-01".to_owned(), 2));
        change(&waiting, 2, json!({"status": "NO_SHOW"})).await;
        assert_eq!(returned().await, ("P00 2025-09-10, P02 2025-09-01".to_owned(), 1));
        // Closed: what comes later does not count, and corrections change nothing.
        let payload = desk.mutate("closeRecallList", json!({"id": list["id"], "version": 1}), "list { version closedAt returnedCount }").await;
        assert_eq!(payload["list"], json!({"version": 2, "closedAt": "2025-09-20T00:30:00Z", "returnedCount": 2}));
        change(&waiting, 3, json!({"status": "COMPLETED"})).await;
        visit("P03", "2025-09-20", "COMPLETED").await;
        app.set_time("2025-09-21T00:30:00Z");
        assert_eq!(returned().await, ("P00 2025-09-10, P02 2025-09-01".to_owned(), 1));
    }

    /// Random changes by the API and in SQL; after each, every number and list of a recall list is compared with a naive reference that is
    /// computed from the rows.
    async fn numbers_equal_a_naive_reference(app: TestApp) {
        let seed = test_support::env_number("ROLLCALL_RECALL_SEED").unwrap_or(7);
        for round in 0..3 {
            let mut run = Run::start(app, seed + round).await;
            for step in 0..40 {
                run.change().await;
                if step == 30 {
                    run.close().await;
                }
                run.check().await;
            }
        }
    }
}

/// The Statistics.id of a snapshot as it is stored.
pub fn statistics_id(hex: &str) -> String {
    use base64::Engine as _;
    let bytes: Vec<u8> = (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect();
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode([vec![b'S'], bytes].concat())
}

struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % bound
    }
}

#[derive(Clone)]
struct VisitRow {
    id: i64,
    patient: i64,
    date: NaiveDate,
    attended: bool,
}

/// The outcome and the day of return of an entry that counts.
type Standing = (Option<String>, Option<String>);

/// What is compared; of a closed list, what it was when it was closed.
#[derive(Clone, Debug, Default, PartialEq)]
struct Numbers {
    /// The entries that count, by patient as counted.
    standing: BTreeMap<String, Standing>,
    /// Patients of entries that became duplicates.
    duplicates: BTreeSet<String>,
}

/// A recall list that is worked on at random.
struct Run<'a> {
    app: &'a TestApp,
    user: Client<'a>,
    random: Random,
    made: NaiveDate,
    today: NaiveDate,
    hospital: i64,
    list: Value,
    /// Chart number, id in the database and in the API, of the patients from the start.
    patients: Vec<(String, i64, Value)>,
    /// Entry ids in their order, with the chart number of the patient as counted.
    entries: Vec<(String, String)>,
    outcomes: BTreeMap<String, String>,
    /// The visits that were attended when the list was made.
    attended_then: HashSet<i64>,
    left_out: BTreeMap<String, u64>,
    closed: Option<Numbers>,
}

async fn rows(app: &TestApp, sql: &str) -> Vec<QueryResult> {
    let statement = Statement::from_string(app.sql.get_database_backend(), sql);
    app.sql.query_all_raw(statement).await.unwrap()
}

async fn visit_rows(app: &TestApp) -> Vec<VisitRow> {
    let rows = rows(app, "SELECT id, patient_id, date, status FROM visit").await;
    let visit = |row: &QueryResult| VisitRow {
        id: row.try_get_by_index(0).unwrap(),
        patient: row.try_get_by_index(1).unwrap(),
        date: row.try_get_by_index(2).unwrap(),
        attended: ["COMPLETED", "ENDED"].contains(&row.try_get_by_index::<String>(3).unwrap().as_str()),
    };
    rows.iter().map(visit).collect()
}

impl<'a> Run<'a> {
    async fn start(app: &'a TestApp, seed: u64) -> Self {
        app.set_time(MADE);
        let mut random = Random(seed);
        let chart_nos: Vec<String> = (0..14).map(|number| format!("S{seed}-{number:02}")).collect();
        import(app, &chart_nos);
        let user = app.sign_in("desk").await;
        let made: NaiveDate = "2025-09-01".parse().unwrap();
        let ids = patients(&user).await;
        let mut people = Vec::new();
        for chart_no in &chart_nos {
            let number = app
                .query_number(&format!("SELECT id FROM patient WHERE chart_no = '{chart_no}'"))
                .await;
            people.push((chart_no.clone(), number, ids[chart_no].clone()));
        }
        let mut run = Self {
            app,
            user,
            made,
            today: made,
            hospital: app.query_number("SELECT id FROM hospital WHERE code = 'H1'").await,
            list: Value::Null,
            patients: people,
            entries: Vec::new(),
            outcomes: BTreeMap::new(),
            attended_then: HashSet::new(),
            left_out: BTreeMap::new(),
            closed: None,
            random: Random(random.below(usize::MAX) as u64),
        };
        // Some changes before, on the day too.
        for _ in 0..12 {
            run.change().await;
        }
        run.app.set_time(MADE);
        run.today = made;
        let cohort = cohort(&run.user, "2025-09-01", "VISITORS").await;
        let input = json!({"name": "Random", "cohortId": cohort, "withPhone": false, "withoutNextVisit": run.random.below(2) == 0});
        run.attended_then = visit_rows(app)
            .await
            .iter()
            .filter(|visit| visit.attended)
            .map(|visit| visit.id)
            .collect();
        let list = run
            .user
            .mutate(
                "createRecallList",
                input,
                "list { id version patientCount cohort { patientCount }
            leftOut { reason patientCount } entries(first: 100) { nodes { id patient { id } } } }",
            )
            .await["list"]
            .take();
        for left in list["leftOut"].as_array().unwrap() {
            run.left_out.insert(
                left["reason"].as_str().unwrap().to_owned(),
                left["patientCount"].as_u64().unwrap(),
            );
        }
        // Members of other rounds are in the cohort, too: their rows are read like those of this one.
        for entry in list["entries"]["nodes"].as_array().unwrap() {
            let id = entry["id"].as_str().unwrap().to_owned();
            run.entries
                .push((id, entry["patient"]["id"].as_str().unwrap().to_owned()));
        }
        run.list = list;
        run
    }

    async fn person_of_entries(&self) -> BTreeMap<String, (i64, i64)> {
        // The order of the entries' ids is that of the list.
        let sql = format!(
            "SELECT e.patient_id, COALESCE(p.merged_into, p.id) FROM recall_entry e
                LEFT JOIN patient p ON p.hospital_id = e.hospital_id AND p.id = e.patient_id
                WHERE e.list_id = (SELECT MAX(id) FROM recall_list WHERE hospital_id = {}) ORDER BY e.id",
            self.hospital
        );
        let found = rows(self.app, &sql).await;
        assert_eq!(found.len(), self.entries.len());
        let pair = |row: &QueryResult| {
            let patient: i64 = row.try_get_by_index(0).unwrap();
            let person: Option<i64> = row.try_get_by_index(1).unwrap();
            (patient, person.unwrap_or(patient))
        };
        self.entries
            .iter()
            .map(|(id, _)| id.clone())
            .zip(found.iter().map(pair))
            .collect()
    }

    /// One change of the data.
    async fn change(&mut self) {
        let any = self.patients[self.random.below(self.patients.len())].clone();
        let other = self.patients[self.random.below(self.patients.len())].clone();
        let date = self.made + chrono::Days::new(self.random.below(60) as u64) - chrono::Days::new(12);
        let date = if self.random.below(3) == 0 { self.made } else { date };
        let status = ["COMPLETED", "ENDED", "BOOKED", "CANCELED"][self.random.below(4)];
        let visits = visit_rows(self.app).await;
        let visit = &visits[self.random.below(visits.len())];
        match self.random.below(12) {
            0..=2 => {
                let sql = format!(
                    "INSERT INTO visit (hospital_id, patient_id, date, status, channel) VALUES ({}, {}, '{date}', '{status}', 'PHONE')",
                    self.hospital, any.1
                );
                self.app.execute(&sql).await;
            }
            3 => {
                self.app
                    .execute(&format!("UPDATE visit SET status = '{status}' WHERE id = {}", visit.id))
                    .await
            }
            4 => {
                self.app
                    .execute(&format!("UPDATE visit SET date = '{date}' WHERE id = {}", visit.id))
                    .await
            }
            5 => {
                self.app
                    .execute(&format!("DELETE FROM visit WHERE id = {}", visit.id))
                    .await
            }
            6 => {
                let version = self.version(any.1).await;
                let merge = json!({"id": any.2, "version": version, "intoId": other.2, "reason": "r"});
                self.user.mutation_response("mergePatients", merge, "into { id }").await;
            }
            7 => {
                self.user
                    .mutation_response("undoMerge", json!({"id": any.2, "reason": "r"}), "patient { id }")
                    .await;
            }
            8 if self.random.below(4) == 0 => {
                let version = self.version(any.1).await;
                let erase = json!({"id": any.2, "version": version, "reason": "r"});
                self.user
                    .mutation_response("erasePatient", erase, "patient { id }")
                    .await;
            }
            9 => {
                self.today = self.today + chrono::Days::new(self.random.below(9) as u64);
                self.app.set_time(&format!("{}T03:00:00Z", self.today));
            }
            _ if !self.entries.is_empty() => {
                let (id, _) = self.entries[self.random.below(self.entries.len())].clone();
                let query = "query ($id: ID!) { node(id: $id) { ... on RecallEntry { version } } }";
                let version = self.user.graphql_with(query, json!({"id": id})).await["node"]["version"].take();
                let outcome = ["REACHED", "BOOKED", "NO_ANSWER", "DECLINED", "WRONG_NUMBER"][self.random.below(5)];
                let input = json!({"entryId": id, "version": version, "outcome": outcome});
                let response = self
                    .user
                    .mutation_response("recordContact", input, "entry { id }")
                    .await;
                if response.get("errors").is_none() {
                    self.outcomes.insert(id, outcome.to_owned());
                }
            }
            _ => {}
        }
    }

    async fn version(&self, patient: i64) -> i64 {
        let found = rows(self.app, &format!("SELECT version FROM patient WHERE id = {patient}")).await;
        found[0].try_get_by_index::<i32>(0).unwrap().into()
    }

    /// The numbers by the definitions, from the rows.
    async fn reference(&self) -> Numbers {
        let visits = visit_rows(self.app).await;
        let persons = self.person_of_entries().await;
        let mut numbers = Numbers::default();
        let mut seen = HashSet::new();
        for (id, _) in &self.entries {
            let (_, person) = persons[id];
            if !seen.insert(person) {
                numbers.duplicates.insert(id.clone());
                continue;
            }
            let came = visits.iter().filter(|visit| {
                let later =
                    visit.date > self.made || visit.date == self.made && !self.attended_then.contains(&visit.id);
                visit.patient == person && visit.attended && visit.date <= self.today && later
            });
            let returned = came.map(|visit| visit.date).min().map(|date| date.to_string());
            numbers
                .standing
                .insert(id.clone(), (self.outcomes.get(id).cloned(), returned));
        }
        numbers
    }

    async fn close(&mut self) {
        self.closed = Some(self.reference().await);
        let input = json!({"id": self.list["id"], "version": self.list["version"]});
        self.user.mutate("closeRecallList", input, "list { id }").await;
    }

    async fn check(&self) {
        let wanted = match &self.closed {
            Some(closed) => closed.clone(),
            None => self.reference().await,
        };
        const OUTCOMES: [&str; 5] = ["REACHED", "BOOKED", "NO_ANSWER", "DECLINED", "WRONG_NUMBER"];
        let by_outcome: String = OUTCOMES
            .iter()
            .map(|outcome| format!("{outcome}: entries(filter: {{outcomes: [{outcome}]}}) {{ totalCount }} "))
            .collect();
        let query = format!(
            "query ($id: ID!) {{ recallList(id: $id) {{ patientCount returnedCount returnRate
                in3: returnedWithin(days: 3) in10: returnedWithin(days: 10) in90: returnedWithin(days: 90)
                outcomes {{ outcome patientCount }} leftOut {{ reason patientCount patients(first: 100) {{ totalCount nodes {{ id }} }} }}
                cohort {{ patientCount }} entries(first: 100) {{ totalCount nodes {{ id outcome returnedOn }} }}
                returned: entries(first: 100, filter: {{returned: true}}) {{ totalCount nodes {{ id }} }}
                away: entries(last: 100, filter: {{returned: false}}) {{ totalCount nodes {{ id }} }}
                untouched: entries(first: 1, filter: {{untouched: true}}) {{ totalCount }}
                touched: entries(first: 1, filter: {{untouched: false}}) {{ totalCount }} {by_outcome} }} }}"
        );
        let list = self.user.graphql_with(&query, json!({"id": self.list["id"]})).await["recallList"].take();
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let nodes = list["entries"]["nodes"].as_array().unwrap().iter();
        let shown: BTreeMap<_, _> = nodes
            .map(|node| {
                (
                    text(&node["id"]).unwrap(),
                    (text(&node["outcome"]), text(&node["returnedOn"])),
                )
            })
            .collect();
        assert_eq!(shown, wanted.standing);
        let count =
            |is_meant: &dyn Fn(&Standing) -> bool| wanted.standing.values().filter(|entry| is_meant(entry)).count();
        let all = wanted.standing.len();
        assert_eq!(
            (&list["patientCount"], &list["entries"]["totalCount"]),
            (&json!(all), &json!(all))
        );
        let returned = count(&|entry| entry.1.is_some());
        assert_eq!(
            (
                &list["returnedCount"],
                &list["returned"]["totalCount"],
                &list["away"]["totalCount"]
            ),
            (&json!(returned), &json!(returned), &json!(all - returned))
        );
        let of_list = |name: &str| -> BTreeSet<String> {
            list[name]["nodes"]
                .as_array()
                .unwrap()
                .iter()
                .map(|node| text(&node["id"]).unwrap())
                .collect()
        };
        let who = |has: bool| {
            wanted
                .standing
                .iter()
                .filter(|(_, entry)| entry.1.is_some() == has)
                .map(|(id, _)| id.clone())
                .collect::<BTreeSet<_>>()
        };
        assert_eq!((of_list("returned"), of_list("away")), (who(true), who(false)));
        for (name, most) in [("in3", 3), ("in10", 10), ("in90", 90)] {
            let within = count(&|entry| {
                entry
                    .1
                    .as_ref()
                    .is_some_and(|day| (day.parse::<NaiveDate>().unwrap() - self.made).num_days() <= most)
            });
            assert_eq!(list[name], within, "{name}");
        }
        let mut sum = 0;
        for outcome in list["outcomes"].as_array().unwrap() {
            let word = text(&outcome["outcome"]);
            let expected = count(&|entry| entry.0 == word);
            assert_eq!(outcome["patientCount"], expected, "{word:?}");
            let opened = match &word {
                Some(word) => &list[word]["totalCount"],
                None => &list["untouched"]["totalCount"],
            };
            assert_eq!(*opened, expected);
            sum += expected;
        }
        assert_eq!(sum, all);
        assert_eq!(list["touched"]["totalCount"], count(&|entry| entry.0.is_some()));
        let mut left_out = 0;
        for left in list["leftOut"].as_array().unwrap() {
            let reason = text(&left["reason"]).unwrap();
            let since = if reason == "DUPLICATE" {
                wanted.duplicates.len()
            } else {
                0
            };
            assert_eq!(
                left["patientCount"].as_u64().unwrap(),
                self.left_out[&reason] + since as u64,
                "{reason}"
            );
            assert_eq!(
                (
                    &left["patients"]["totalCount"],
                    left["patients"]["nodes"].as_array().unwrap().len()
                ),
                (
                    &left["patientCount"],
                    usize::try_from(left["patientCount"].as_u64().unwrap()).unwrap()
                )
            );
            left_out += left["patientCount"].as_u64().unwrap();
        }
        assert_eq!(
            list["cohort"]["patientCount"],
            left_out + all as u64,
            "everybody is on the list or left out"
        );
        let rate = list["returnRate"].as_f64();
        #[allow(clippy::cast_precision_loss)]
        let expected = (all > 0).then(|| returned as f64 / all as f64);
        // Parsed less exactly than it was written.
        let differs = |(rate, expected): (f64, f64)| (rate - expected).abs() > 1e-12;
        assert!(
            rate.is_some() == expected.is_some() && !rate.zip(expected).is_some_and(differs),
            "{rate:?} {expected:?}"
        );
    }
}
