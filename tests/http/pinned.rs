//! Pinned snapshots: their labels, who pinned them, and the list in which they are found again.

use serde_json::{Value, json};
use test_support::{Client, EXAMPLE, error, on_each_database};

/// Another question for each day of August.
async fn snapshot(user: &Client<'_>, day: usize) -> Value {
    let question = EXAMPLE.replace("2025-08-31", &format!("2025-08-{day:02}"));
    user.graphql(&format!("{{ {question} {{ id }} }}")).await["statistics"]["id"].take()
}

/// The labels of all pages of this size, in order.
async fn labels(user: &Client<'_>, size: usize, backwards: bool) -> Vec<Value> {
    let (count, cursor) = if backwards {
        ("last", "before")
    } else {
        ("first", "after")
    };
    let query = format!("query ($at: String) {{ pinnedSnapshots({count}: {size}, {cursor}: $at) {{
        totalCount nodes {{ label }} edges {{ cursor node {{ label }} }} pageInfo {{ hasNextPage hasPreviousPage startCursor endCursor }} }} }}");
    let (mut all, mut at) = (Vec::new(), Value::Null);
    loop {
        let page = user.graphql_with(&query, json!({"at": at})).await["pinnedSnapshots"].take();
        let rows: Vec<Value> = page["nodes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|node| node["label"].clone())
            .collect();
        let (more, next) = if backwards {
            ("hasPreviousPage", "startCursor")
        } else {
            ("hasNextPage", "endCursor")
        };
        if backwards {
            all.splice(0..0, rows);
        } else {
            all.extend(rows);
        }
        if page["pageInfo"][more] == false {
            assert_eq!(page["totalCount"], all.len());
            return all;
        }
        at = page["pageInfo"][next].clone();
    }
}

on_each_database! {
    async fn pinned_snapshots_are_found_again(app: TestApp) {
        app.import_example();
        let (clinician, support) = (app.sign_in("clinician").await, app.sign_in("support").await);
        assert_eq!(labels(&clinician, 3, false).await, Vec::<Value>::new());
        let mut ids = Vec::new();
        for day in 1..=7 {
            let id = snapshot(&clinician, day).await;
            let input = json!({"id": id, "label": format!(" Board {day} ")});
            let pinned = clinician.mutate("pinSnapshot", input, "statistics { id label pinnedAt pinnedBy { name } }").await["statistics"].take();
            assert_eq!((&pinned["id"], &pinned["label"]), (&id, &json!(format!("Board {day}"))));
            assert!(pinned["pinnedAt"].is_string() && pinned["pinnedBy"]["name"].is_string());
            ids.push(id);
        }
        let newest_first = || (1..=7).rev().map(|day| json!(format!("Board {day}"))).collect::<Vec<_>>();
        for size in [1, 2, 3, 7, 20] {
            for backwards in [false, true] {
                assert_eq!(labels(&clinician, size, backwards).await, newest_first());
            }
        }
        // Pinned again: the newest, and its label is replaced. Unpinned: without a label.
        clinician.mutate("pinSnapshot", json!({"id": ids[1]}), "statistics { id }").await;
        let fields = "statistics { label pinnedAt pinnedBy { name } }";
        let unpinned = clinician.mutate("unpinSnapshot", json!({"id": ids[3]}), fields).await;
        assert_eq!(unpinned["statistics"], json!({"label": null, "pinnedAt": null, "pinnedBy": null}));
        let now = [Value::Null, json!("Board 7"), json!("Board 6"), json!("Board 5"), json!("Board 3"), json!("Board 1")];
        assert_eq!(labels(&clinician, 4, false).await, now);
        // What is listed is the snapshot itself, with its lists, on another server too.
        let second = app.second_server();
        let other_server = app.sign_in_at(&second.base, "H1", "clinician").await;
        let selection = "id asOf period range { from to } definition { version } buckets { start visitors { digest } } total { newPatients { patientCount digest } }";
        let listed = other_server.graphql(&format!("{{ pinnedSnapshots(last: 1) {{ nodes {{ {selection} }} }} }}")).await["pinnedSnapshots"]["nodes"][0].take();
        let opened = clinician.graphql_with(&format!("query ($id: ID!) {{ statisticsSnapshot(id: $id) {{ {selection} }} }}"), json!({"id": ids[0]})).await;
        assert_eq!(listed, opened["statisticsSnapshot"]);
        assert_eq!(listed["asOf"], "2025-08-01");
        // SUPPORT sees them without labels; another hospital does not see them.
        let masked = support.graphql("{ pinnedSnapshots { nodes { label pinnedAt } } }").await["pinnedSnapshots"]["nodes"].take();
        assert!(masked.as_array().unwrap().iter().all(|node| node["label"].is_null() && node["pinnedAt"].is_string()));
        let other = app.other_hospital().await;
        assert_eq!(other.graphql("{ pinnedSnapshots { totalCount nodes { id } } }").await, json!({"pinnedSnapshots": {"totalCount": 0, "nodes": []}}));
        // A label is a line of at most 255 characters.
        let pin = |label: String| json!({"id": ids[0], "label": label});
        for refused in [String::new(), " ".to_owned(), "two\nlines".to_owned(), "ü".repeat(256)] {
            assert_eq!(clinician.mutation_error("pinSnapshot", pin(refused)).await, error("BAD_USER_INPUT", "input.label"));
        }
        clinician.mutate("pinSnapshot", pin("ü".repeat(255)), "statistics { id }").await;
        assert_eq!(labels(&clinician, 20, false).await[0], "ü".repeat(255));
        let cursor = clinician.graphql("{ recallLists { pageInfo { endCursor } } patients { pageInfo { endCursor } } }").await["patients"]["pageInfo"]["endCursor"].take();
        let refused = clinician.graphql_response("query ($at: String) { pinnedSnapshots(after: $at) { totalCount } }", json!({"at": cursor})).await;
        assert_eq!(refused["errors"][0]["extensions"], json!({"code": "BAD_USER_INPUT", "argument": "after"}));
    }

    async fn snapshots_that_recall_lists_pin_are_listed(app: TestApp) {
        app.import_example();
        let admin = app.sign_in("admin").await;
        let question = format!("{{ {EXAMPLE} {{ id total {{ visitors {{ id }} }} }} }}");
        let cohort = admin.graphql(&question).await["statistics"]["total"]["visitors"]["id"].take();
        for (day, name) in [(1, "one"), (2, "two")] {
            let id = snapshot(&admin, day).await;
            admin.mutate("pinSnapshot", json!({"id": id, "label": name}), "statistics { id }").await;
            // The second list keeps the first one's pin.
            let list = json!({"name": name, "cohortId": cohort, "withPhone": false});
            admin.mutate("createRecallList", list, "list { id }").await;
        }
        assert_eq!(labels(&admin, 2, false).await, [json!("two"), Value::Null, json!("one")]);
    }

    async fn a_list_is_opened_by_its_id_and_explains_itself(app: TestApp) {
        app.import_example();
        let (admin, other) = (app.sign_in("admin").await, app.other_hospital().await);
        let known = admin.graphql(&format!("{{ {EXAMPLE} {{ id buckets {{ churnSuspected {{ id kind patientCount digest }} }} }} patients {{ nodes {{ id chartNo }} }} }}")).await;
        let list = &known["statistics"]["buckets"][0]["churnSuspected"];
        let patient = |chart: &str| known["patients"]["nodes"].as_array().unwrap().iter().find(|node| node["chartNo"] == chart).unwrap()["id"].clone();
        let query = "query ($id: ID!, $patient: ID!) { cohort(id: $id) { id kind patientCount digest explain(patientId: $patient) { included kind text } } }";
        let ask = async |user: &Client<'_>, id: &Value, patient: &Value| user.graphql_response(query, json!({"id": id, "patient": patient})).await;
        app.execute("UPDATE visit SET status = 'CANCELED' WHERE visit_no = '2'").await;
        let mut found = ask(&admin, &list["id"], &patient("A")).await["data"]["cohort"].take();
        assert_eq!(found["explain"].take(), json!({"included": true, "kind": "CHURN_SUSPECTED",
            "text": "NEW here, and silent for 110 days at asOf, since the visit of 2025-05-13; churnAfterDays is 90."}), "as counted");
        found.as_object_mut().unwrap().remove("explain");
        assert_eq!(&found, list);
        let why_not = ask(&admin, &list["id"], &patient("B")).await["data"]["cohort"]["explain"].take();
        assert_eq!(why_not, json!({"included": false, "kind": "CHURN_SUSPECTED", "text": "NEW in April 2025, since the visit of 2025-04-28 is the first."}));
        // Of another hospital nothing is found; malformed ids are refused.
        assert_eq!(ask(&other, &list["id"], &patient("A")).await["data"], json!({"cohort": null}));
        let stranger = "UP__";
        assert_eq!(ask(&admin, &list["id"], &json!(stranger)).await["data"]["cohort"]["explain"], Value::Null);
        let refused = |response: Value| response["errors"][0]["extensions"].clone();
        assert_eq!(refused(ask(&admin, &known["statistics"]["id"], &patient("A")).await), json!({"code": "BAD_USER_INPUT", "argument": "id"}));
        assert_eq!(refused(ask(&admin, &list["id"], &list["id"]).await), json!({"code": "BAD_USER_INPUT", "argument": "patientId"}));
        // Nor is there a list of a snapshot that has expired.
        app.execute("UPDATE snapshot SET expired_at = computed_at").await;
        let second = app.second_server();
        let later = app.sign_in_at(&second.base, "H1", "admin").await;
        assert_eq!(refused(ask(&later, &list["id"], &patient("A")).await)["code"], "SNAPSHOT_EXPIRED");
    }
}
