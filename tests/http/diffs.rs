//! The differences between two snapshots, and their reasons.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use test_support::{Client, EXAMPLE, KINDS, on_each_database};

const REASONS: &str = "node { chartNo } reasons { kind text visits { visit { id } before { date } after { date } } }";

/// The ID of a new snapshot.
async fn snapshot(user: &Client<'_>, question: &str) -> Value {
    user.graphql(&format!("{{ {question} {{ id }} }}")).await["statistics"]["id"].take()
}

/// The differences between a snapshot and now, one line for each patient who entered (+) or left (-) a cohort of a
/// bucket: "2025-05 NEW + A RECORDED".
async fn lines(user: &Client<'_>, since: &Value, question: &str) -> Vec<String> {
    let query = format!(
        "query ($since: ID!) {{ {question} {{ changes(since: $since) {{ buckets {{ start changedCohorts {{
            kind enteredCount leftCount entered {{ totalCount edges {{ {REASONS} }} }} left {{ totalCount edges {{ {REASONS} }} }} }} }} }} }} }}"
    );
    let response = user.graphql_with(&query, json!({"since": since})).await;
    let mut lines = Vec::new();
    for bucket in response["statistics"]["changes"]["buckets"].as_array().unwrap() {
        for cohort in bucket["changedCohorts"].as_array().unwrap() {
            for (side, sign) in [("entered", '+'), ("left", '-')] {
                let edges = cohort[side]["edges"].as_array().unwrap();
                assert_eq!(cohort[format!("{side}Count")], edges.len());
                assert_eq!(cohort[side]["totalCount"], edges.len());
                for edge in edges {
                    let reasons = edge["reasons"].as_array().unwrap();
                    let kinds: Vec<&str> = reasons.iter().map(|reason| reason["kind"].as_str().unwrap()).collect();
                    let month = &bucket["start"].as_str().unwrap()[..7];
                    let (kind, chart) = (&cohort["kind"], &edge["node"]["chartNo"]);
                    let line = format!("{month} {kind} {sign} {chart} {}", kinds.join(" "));
                    lines.push(line.replace('"', ""));
                }
            }
        }
    }
    lines
}

/// Why a patient entered or left a cohort of the bucket that contains a day.
async fn reasons(
    user: &Client<'_>,
    since: &Value,
    question: &str,
    (day, kind, side): (&str, &str, &str),
    chart: &str,
) -> Value {
    let query = format!(
        "query ($since: ID!) {{ {question} {{ changes(since: $since) {{ bucket(day: \"{day}\") {{ cohort(kind: {kind}) {{ {side} {{ edges {{ {REASONS} }} }} }} }} }} }} }}"
    );
    let mut response = user.graphql_with(&query, json!({"since": since})).await;
    let edges = response["statistics"]["changes"]["bucket"]["cohort"][side]["edges"].take();
    let edge = edges
        .as_array()
        .unwrap()
        .iter()
        .find(|edge| edge["node"]["chartNo"] == chart);
    edge.unwrap_or_else(|| panic!("{chart} is not among {edges}"))["reasons"].clone()
}

/// The worked example for another asOf.
fn as_of(date: &str) -> String {
    EXAMPLE.replace("2025-08-31", date)
}

on_each_database! {
    async fn every_kind_of_reason_is_reported(app: TestApp) {
        app.import_example();
        let admin = app.sign_in("admin").await;
        let patients = admin.graphql("{ patients { nodes { id version chartNo } } }").await["patients"]["nodes"].take();
        let patient = |chart: &str| patients.as_array().unwrap().iter().find(|node| node["chartNo"] == chart).unwrap().clone();
        let mut since = snapshot(&admin, EXAMPLE).await;
        assert_eq!(lines(&admin, &since, EXAMPLE).await, Vec::<String>::new());

        app.execute("INSERT INTO visit (hospital_id, visit_no, patient_id, date, status, channel)
            SELECT hospital_id, '20', id, '2025-03-28', 'COMPLETED', 'OTHER' FROM patient WHERE chart_no = 'A'").await;
        assert_eq!(lines(&admin, &since, EXAMPLE).await, ["2025-05 NEW - A RECORDED", "2025-05 RETURNING + A RECORDED", "2025-05 CHURN_SUSPECTED - A RECORDED"]);
        let why = reasons(&admin, &since, EXAMPLE, ("2025-05-15", "NEW", "left"), "A").await;
        assert_eq!(why[0]["text"], "The visit of 2025-03-28 was recorded later: no longer NEW in May 2025. NEW in March 2025, since the visit of 2025-03-28 is the first.");
        assert_eq!((&why[0]["visits"][0]["before"], &why[0]["visits"][0]["after"]["date"]), (&Value::Null, &json!("2025-03-28")));
        assert_eq!(why[0]["visits"].as_array().unwrap().len(), 1);

        since = snapshot(&admin, EXAMPLE).await;
        app.execute("UPDATE visit SET date = '2025-06-28' WHERE visit_no = '20'").await;
        assert_eq!(lines(&admin, &since, EXAMPLE).await, [
            "2025-05 NEW + A CORRECTED", "2025-05 RETURNING - A CORRECTED", "2025-05 RETAINED + A CORRECTED",
            "2025-06 VISITORS + A CORRECTED", "2025-06 RETURNING + A CORRECTED",
        ]);
        let why = reasons(&admin, &since, EXAMPLE, ("2025-06-01", "RETURNING", "entered"), "A").await;
        assert_eq!(why[0]["text"], "The visit of 2025-03-28 was changed (date 2025-06-28 instead of 2025-03-28): now RETURNING in June 2025. NEW in May 2025, since the visit of 2025-05-11 is the first.");
        assert_eq!((&why[0]["visits"][0]["before"]["date"], &why[0]["visits"][0]["after"]["date"]), (&json!("2025-03-28"), &json!("2025-06-28")));

        since = snapshot(&admin, EXAMPLE).await;
        app.execute("UPDATE visit SET status = 'CANCELED' WHERE visit_no = '8'").await;
        assert_eq!(lines(&admin, &since, EXAMPLE).await, ["2025-05 CHURN_SUSPECTED + C VOIDED", "2025-05 RETAINED - C VOIDED"]);
        let why = reasons(&admin, &since, EXAMPLE, ("2025-05-15", "CHURN_SUSPECTED", "entered"), "C").await;
        assert_eq!(why[0]["text"], "The visit of 2025-08-20 was voided (status CANCELED instead of COMPLETED): now CHURN_SUSPECTED in May 2025. NEW here, and silent for 90 days at asOf, since the visit of 2025-06-02; churnAfterDays is 90.");

        since = snapshot(&admin, EXAMPLE).await;
        app.execute("DELETE FROM visit WHERE visit_no = '10'").await;
        assert_eq!(lines(&admin, &since, EXAMPLE).await, ["2025-06 VISITORS - D DELETED", "2025-06 NEW - D DELETED", "2025-06 PENDING - D DELETED"]);
        let why = reasons(&admin, &since, EXAMPLE, ("2025-06-01", "NEW", "left"), "D").await;
        assert_eq!(why[0]["text"], "The visit of 2025-06-10 was deleted: no longer NEW in June 2025. No visit here.");
        assert_eq!(why[0]["visits"][0]["after"], Value::Null);

        since = snapshot(&admin, EXAMPLE).await;
        let e = patient("E");
        admin.mutate("mergePatients", json!({"id": e["id"], "version": e["version"], "intoId": patient("B")["id"], "reason": "One person"}), "into { id }").await;
        let merged = ["2025-06 CANCELED + B MERGED", "2025-06 CANCELED - E MERGED"];
        assert_eq!(lines(&admin, &since, EXAMPLE).await, merged);
        let why = reasons(&admin, &since, EXAMPLE, ("2025-06-01", "CANCELED", "left"), "E").await;
        assert_eq!(why[0]["text"], "The visit of 2025-06-15 was moved to another patient's record when the two were merged: no longer CANCELED in June 2025. No visit here.");
        since = snapshot(&admin, EXAMPLE).await;
        admin.mutate("undoMerge", json!({"id": e["id"], "reason": "Two persons"}), "patient { id }").await;
        assert_eq!(lines(&admin, &since, EXAMPLE).await, ["2025-06 CANCELED + E MERGED", "2025-06 CANCELED - B MERGED"]);
        let why = reasons(&admin, &since, EXAMPLE, ("2025-06-01", "CANCELED", "entered"), "E").await;
        assert_eq!(why[0]["text"], "The visit of 2025-06-15 was moved here from another patient's record when a merge of the two was undone: now CANCELED in June 2025. Canceled: 2025-06-15.");
        // The same, in plain values.
        since = snapshot(&admin, EXAMPLE).await;
        app.execute("UPDATE visit SET patient_id = (SELECT id FROM patient WHERE chart_no = 'B') WHERE visit_no = '11'").await;
        assert_eq!(lines(&admin, &since, EXAMPLE).await, ["2025-06 CANCELED + B CORRECTED", "2025-06 CANCELED - E CORRECTED"], "moved, not merged");
        let b: i64 = app.query_value("SELECT id FROM patient WHERE chart_no = 'B'").await;
        app.execute(&format!("UPDATE patient SET state = 'MERGED', merged_into = {b} WHERE chart_no = 'E'")).await;
        assert_eq!(lines(&admin, &since, EXAMPLE).await, merged);

        since = snapshot(&admin, EXAMPLE).await;
        app.execute("INSERT INTO definition SELECT hospital_id, 2, 60, 7, effective_from FROM definition").await;
        assert_eq!(lines(&admin, &since, EXAMPLE).await, ["2025-05 CHURN_SUSPECTED + A DEFINITION_CHANGED", "2025-05 RETAINED - A DEFINITION_CHANGED"]);
        let why = reasons(&admin, &since, EXAMPLE, ("2025-05-15", "RETAINED", "left"), "A").await;
        assert_eq!(why[0]["text"], "churnAfterDays is 60 instead of 90: no longer RETAINED in May 2025. NEW here, and silent for 64 days at asOf, since the visit of 2025-06-28; churnAfterDays is 60.");

        since = snapshot(&admin, &as_of("2025-07-31")).await;
        assert_eq!(lines(&admin, &since, EXAMPLE).await, ["2025-05 CHURN_SUSPECTED + A TIME_PASSED", "2025-05 CHURN_SUSPECTED + C TIME_PASSED", "2025-05 RETAINED - A TIME_PASSED", "2025-05 RETAINED - C TIME_PASSED"]);
        let why = reasons(&admin, &since, EXAMPLE, ("2025-05-15", "CHURN_SUSPECTED", "entered"), "A").await;
        assert_eq!(why[0]["text"], "asOf is 2025-08-31 instead of 2025-07-31: now CHURN_SUSPECTED in May 2025. NEW here, and silent for 64 days at asOf, since the visit of 2025-06-28; churnAfterDays is 60.");
        assert_eq!(why[0]["visits"].as_array().unwrap().len(), 2);
    }

    async fn reasons_are_unknown_when_history_is_gone(app: TestApp) {
        app.import_example();
        let user = app.sign_in("desk").await;
        let since = snapshot(&user, EXAMPLE).await;
        app.execute("UPDATE visit SET status = 'CANCELED' WHERE visit_no = '8'").await;
        assert_eq!(lines(&user, &since, EXAMPLE).await, ["2025-05 CHURN_SUSPECTED + C VOIDED", "2025-05 RETAINED - C VOIDED"]);
        app.execute("DELETE FROM visit_change").await;
        let unknown = ["2025-05 CHURN_SUSPECTED + C UNKNOWN", "2025-05 RETAINED - C UNKNOWN"];
        assert_eq!(lines(&user, &since, EXAMPLE).await, unknown);
        let why = reasons(&user, &since, EXAMPLE, ("2025-05-15", "RETAINED", "left"), "C").await;
        assert_eq!(why, json!([{"kind": "UNKNOWN", "text": "The data that the snapshots were computed from cannot be reconstructed for this patient, so the reason is unknown.", "visits": []}]));
        // A snapshot from before change recording existed.
        app.execute("INSERT INTO visit (hospital_id, visit_no, patient_id, date, status, channel)
            SELECT hospital_id, '20', id, '2025-05-28', 'COMPLETED', 'OTHER' FROM patient WHERE chart_no = 'E'").await;
        let entered = |kind: &str| ["VISITORS", "NEW", "CHURN_SUSPECTED"].map(|cohort| format!("2025-05 {cohort} + E {kind}"));
        let of_e = |lines: Vec<String>| lines.into_iter().filter(|line| line.contains(" E ")).collect::<Vec<_>>();
        assert_eq!(of_e(lines(&user, &since, EXAMPLE).await), entered("RECORDED"));
        app.execute("UPDATE snapshot SET newest_visit_id = -1").await;
        let second = app.second_server();
        let second_client = app.sign_in_at(&second.base, "H1", "desk").await;
        assert_eq!(of_e(lines(&second_client, &since, EXAMPLE).await), entered("UNKNOWN"));
        // Another history, as in a restored backup.
        app.execute("UPDATE change_feed SET tag = tag + 1").await;
        assert_eq!(of_e(lines(&user, &since, EXAMPLE).await), entered("UNKNOWN"));
    }

    async fn one_query_explains_a_changed_count(app: TestApp) {
        app.import_example();
        let front_desk = app.sign_in("desk").await;
        let board = front_desk.graphql(&format!("{{ {EXAMPLE} {{ id bucket(day: \"2025-05-01\") {{ churnSuspected {{ patientCount }} }} }} }}")).await["statistics"].take();
        assert_eq!(board["bucket"]["churnSuspected"]["patientCount"], 1);
        let visit = front_desk.graphql("{ visits { nodes { id version visitNo } } }").await["visits"]["nodes"].as_array().unwrap().iter().find(|visit| visit["visitNo"] == "2").unwrap().clone();
        let change = json!({"id": visit["id"], "version": visit["version"], "scheduledAt": "2025-08-13T01:00:00Z", "status": "ENDED", "reason": "Wrong month"});
        front_desk.mutate("changeVisit", change, "visit { id }").await;
        let query = format!("query ($board: ID!) {{ {EXAMPLE} {{ changes(since: $board) {{
            before {{ id asOf }} after {{ id }}
            bucket(day: \"2025-05-01\") {{ start end cohort(kind: CHURN_SUSPECTED) {{
                kind before {{ patientCount }} after {{ patientCount }} enteredCount leftCount
                entered {{ totalCount pageInfo {{ hasNextPage endCursor }} }}
                left {{ totalCount nodes {{ chartNo }} edges {{ cursor node {{ chartNo name }} reasons {{ kind text visits {{
                    visit {{ id visitNo deleted }} changedAt reason
                    before {{ date status scheduledAt channel department {{ name }} doctor {{ name }} patient {{ chartNo name }} }}
                    after {{ date status scheduledAt channel department {{ name }} doctor {{ name }} patient {{ chartNo name }} }} }} }} }} }}
            }} }} }} }} }}");
        let response = front_desk.graphql_with(&query, json!({"board": board["id"]})).await["statistics"]["changes"].take();
        assert_eq!((&response["before"]["id"], &response["before"]["asOf"]), (&board["id"], &json!("2025-08-31")));
        let cohort = &response["bucket"]["cohort"];
        assert_eq!((&cohort["before"]["patientCount"], &cohort["after"]["patientCount"]), (&json!(1), &json!(0)));
        assert_eq!((&cohort["enteredCount"], &cohort["leftCount"]), (&json!(0), &json!(1)));
        assert_eq!(cohort["entered"], json!({"totalCount": 0, "pageInfo": {"hasNextPage": false, "endCursor": null}}));
        let edge = &cohort["left"]["edges"][0];
        assert_eq!(edge["node"], json!({"chartNo": "A", "name": "Ann Ash"}));
        assert_eq!(cohort["left"]["nodes"], json!([{"chartNo": "A"}]));
        let reason = &edge["reasons"][0];
        assert_eq!(reason["kind"], "CORRECTED");
        assert_eq!(reason["text"], "The visit of 2025-05-13 was changed (status ENDED instead of COMPLETED, date 2025-08-13 instead of 2025-05-13, another time): no longer CHURN_SUSPECTED in May 2025. NEW here, and came again: the last visit, of 2025-08-13, is 18 days before asOf; churnAfterDays is 90.");
        let cited = &reason["visits"][0];
        assert_eq!((&cited["visit"]["visitNo"], &cited["reason"]), (&json!("2"), &json!("Wrong month")));
        assert!(cited["changedAt"].is_string());
        let was = json!({"date": "2025-05-13", "status": "COMPLETED", "scheduledAt": null, "channel": "WALK_IN",
            "department": {"name": "Eyes"}, "doctor": {"name": "Dr Ito"}, "patient": {"chartNo": "A", "name": "Ann Ash"}});
        assert_eq!(cited["before"], was);
        let mut is = was.clone();
        (is["date"], is["status"], is["scheduledAt"]) = (json!("2025-08-13"), json!("ENDED"), json!("2025-08-13T01:00:00Z"));
        assert_eq!(cited["after"], is);
        // Masked, and without the reason text of the change.
        let support = app.sign_in("support").await;
        let response = support.graphql_with(&query, json!({"board": board["id"]})).await["statistics"]["changes"].take();
        let edge = &response["bucket"]["cohort"]["left"]["edges"][0];
        assert_eq!(edge["node"]["name"], "A** A**");
        let cited = &edge["reasons"][0]["visits"][0];
        assert_eq!((&cited["reason"], &cited["before"]["patient"]["name"]), (&Value::Null, &json!("A** A**")));
        assert!(!response.to_string().contains("Ann"));
    }

    async fn ranges_that_overlap_are_compared(app: TestApp) {
        app.import_example();
        let user = app.sign_in("desk").await;
        let since = snapshot(&user, EXAMPLE).await;
        app.execute("UPDATE visit SET status = 'CANCELED' WHERE visit_no = '8'").await;
        let ask = async |from: &str, to: &str| {
            let question = EXAMPLE.replace("2025-05-01", from).replace("2025-06-30", to);
            let query = format!("query ($since: ID!) {{ {question} {{ changes(since: $since) {{
                buckets {{ start changedCohorts {{ kind }} cohort(kind: RETURNING) {{ before {{ id patientCount }} after {{ id patientCount }} }} }}
                bucket(day: \"2025-05-31\") {{ start }}
                onlyBefore {{ start complete visitors {{ patientCount }} }} onlyAfter {{ start complete visitors {{ patientCount }} }}
                total {{ start end cohort(kind: NEW) {{ before {{ patientCount }} after {{ patientCount }} entered {{ totalCount }}
                    left {{ edges {{ {REASONS} }} }} }} }} }} }} }}");
            user.graphql_with(&query, json!({"since": since})).await["statistics"]["changes"].take()
        };
        // A month later.
        let moved = ask("2025-06-01", "2025-07-31").await;
        assert_eq!((&moved["buckets"].as_array().unwrap().len(), &moved["bucket"]), (&1, &Value::Null));
        let june = &moved["buckets"][0];
        assert_eq!((&june["start"], &june["changedCohorts"]), (&json!("2025-06-01"), &json!([])));
        let returning = &june["cohort"];
        assert_eq!((&returning["before"]["patientCount"], &returning["after"]["patientCount"]), (&json!(2), &json!(2)));
        assert_ne!(returning["before"]["id"], returning["after"]["id"]);
        assert_eq!(moved["onlyBefore"], json!([{"start": "2025-05-01", "complete": true, "visitors": {"patientCount": 3}}]));
        assert_eq!(moved["onlyAfter"], json!([{"start": "2025-07-01", "complete": true, "visitors": {"patientCount": 0}}]));
        let new = &moved["total"]["cohort"];
        assert_eq!((&moved["total"]["start"], &moved["total"]["end"]), (&json!("2025-06-01"), &json!("2025-07-31")));
        assert_eq!((&new["before"]["patientCount"], &new["after"]["patientCount"], &new["entered"]["totalCount"]), (&json!(3), &json!(1), &json!(0)));
        let left = new["left"]["edges"].as_array().unwrap();
        assert_eq!(left.len(), 2);
        assert_eq!((&left[0]["node"]["chartNo"], &left[0]["reasons"][0]["kind"]), (&json!("A"), &json!("RANGE_MOVED")));
        assert_eq!(left[0]["reasons"][0]["text"], "the range is 2025-06-01 to 2025-07-31 instead of 2025-05-01 to 2025-06-30: no longer NEW in the whole range. No visit here.");
        assert_eq!(left[1]["reasons"][0]["visits"].as_array().unwrap().len(), 1);
        // The first month is cut: named in both, and not compared.
        let cut = ask("2025-05-20", "2025-06-30").await;
        assert_eq!(cut["buckets"].as_array().unwrap().len(), 1);
        assert_eq!(cut["onlyBefore"], json!([{"start": "2025-05-01", "complete": true, "visitors": {"patientCount": 3}}]));
        assert_eq!(cut["onlyAfter"], json!([{"start": "2025-05-01", "complete": false, "visitors": {"patientCount": 1}}]));
        // No unit in common: everything is named.
        let none = ask("2025-05-20", "2025-05-25").await;
        assert_eq!((&none["buckets"], none["onlyBefore"].as_array().unwrap().len(), none["onlyAfter"].as_array().unwrap().len()), (&json!([]), 2, 1));
        // The same range: everything is compared.
        let same = ask("2025-05-01", "2025-06-30").await;
        assert_eq!((same["buckets"].as_array().unwrap().len(), &same["onlyBefore"], &same["onlyAfter"]), (2, &json!([]), &json!([])));
        assert_eq!(same["bucket"]["start"], "2025-05-01");
    }

    async fn incomparable_snapshots_are_rejected(app: TestApp) {
        app.import_example();
        let user = app.sign_in("desk").await;
        let since = snapshot(&user, EXAMPLE).await;
        let refused = async |question: &str, since: &Value| {
            let query = format!("query ($since: ID!) {{ {question} {{ changes(since: $since) {{ total {{ changedCohorts {{ kind }} }} }} }} }}");
            let response = user.graphql_response(&query, json!({"since": since})).await;
            assert_eq!(response["errors"][0]["extensions"]["argument"], "since", "{response}");
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            (text(&response["errors"][0]["extensions"]["code"]), text(&response["errors"][0]["message"]))
        };
        for (question, other) in [
            (EXAMPLE.replace("MONTH", "DAY"), "a different period"),
            (EXAMPLE.replace("asOf", "filter: {channels: [WEB]}, asOf").replace("MONTH", "WEEK"), "a different period and filter"),
        ] {
            let (code, message) = refused(&question, &since).await;
            assert_eq!(code, "BAD_USER_INPUT");
            assert!(message.ends_with(other), "{message}");
        }
        let (code, message) = refused(&EXAMPLE.replace("2025-05-01", "2025-07-01").replace("2025-06-30", "2025-07-31"), &since).await;
        assert_eq!(code, "BAD_USER_INPUT");
        assert!(message.ends_with("must be a snapshot whose range overlaps with this one; it has 2025-05-01 to 2025-06-30"), "{message}");
        let patient = user.graphql("{ patients { nodes { id } } }").await["patients"]["nodes"][0]["id"].take();
        assert_eq!(refused(EXAMPLE, &json!("nonsense")).await.0, "BAD_USER_INPUT");
        assert_eq!(refused(EXAMPLE, &patient).await.0, "BAD_USER_INPUT");
        let stranger = snapshot(&app.other_hospital().await, EXAMPLE).await;
        assert_eq!(refused(EXAMPLE, &stranger).await.0, "NOT_FOUND");
        // The older snapshot has no changes since the newer one.
        app.execute("UPDATE visit SET status = 'CANCELED' WHERE visit_no = '8'").await;
        let newer = snapshot(&user, EXAMPLE).await;
        let old = json!({"old": since, "new": newer});
        let backwards = user.graphql_response("query ($old: ID!, $new: ID!) { statisticsSnapshot(id: $old) { changes(since: $new) { total { start } } } }", old.clone()).await;
        assert_eq!(backwards["errors"][0]["extensions"], json!({"code": "BAD_USER_INPUT", "argument": "since"}));
        // Snapshots of one revision can be compared in both directions, also for an earlier asOf.
        let later = snapshot(&user, &as_of("2025-12-31")).await;
        assert!(lines(&user, &later, EXAMPLE).await.iter().all(|line| line.ends_with("TIME_PASSED")));
        // Weeks with different first days are different buckets.
        let by_week = EXAMPLE.replace("MONTH", "WEEK");
        let monday = snapshot(&user, &by_week).await;
        app.execute("UPDATE hospital SET week_start = 'SUNDAY'").await;
        assert_eq!(refused(&by_week, &monday).await.0, "BAD_USER_INPUT");
        assert_eq!(lines(&user, &newer, EXAMPLE).await, Vec::<String>::new(), "months are the same");
        // An expired snapshot is reported as such.
        app.execute("UPDATE snapshot SET expired_at = computed_at").await;
        let second = app.second_server();
        let second_client = app.sign_in_at(&second.base, "H1", "desk").await;
        let query = format!("query ($since: ID!) {{ {EXAMPLE} {{ changes(since: $since) {{ total {{ start }} }} }} }}");
        let expired = second_client.graphql_response(&query, json!({"since": since})).await;
        assert_eq!(expired["errors"][0]["extensions"]["code"], "SNAPSHOT_EXPIRED");
        assert_eq!(expired["errors"][0]["extensions"]["question"]["asOf"], "2025-08-31");
    }
}

/// Pages through a list of patients who entered or left; the IDs in order.
async fn page_to_the_end(
    user: &Client<'_>,
    (before, after): (&Value, &Value),
    (day, kind, side): (Option<&str>, &str, &str),
    size: usize,
    backwards: bool,
) -> Vec<String> {
    let (count, cursor) = if backwards {
        ("last", "before")
    } else {
        ("first", "after")
    };
    let bucket = day.map_or("total".to_owned(), |day| format!("bucket: bucket(day: \"{day}\")"));
    let query = format!("query ($old: ID!, $new: ID!, $at: String) {{ statisticsSnapshot(id: $new) {{ changes(since: $old) {{ {bucket} {{ cohort(kind: {kind}) {{
        {side}({count}: {size}, {cursor}: $at) {{ totalCount pageInfo {{ hasNextPage hasPreviousPage startCursor endCursor }} edges {{ cursor node {{ id }} reasons {{ kind }} }} nodes {{ id }} }} }} }} }} }} }}");
    let (mut ids, mut at): (Vec<String>, Value) = (Vec::new(), Value::Null);
    loop {
        let mut response = user
            .graphql_with(&query, json!({"old": before, "new": after, "at": at}))
            .await;
        let page = response["statisticsSnapshot"]["changes"][if day.is_some() { "bucket" } else { "total" }]["cohort"]
            [side]
            .take();
        let edges = page["edges"].as_array().unwrap();
        assert!(edges.iter().all(|edge| !edge["reasons"].as_array().unwrap().is_empty()));
        let rows: Vec<String> = edges
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
        let (more, next) = if backwards {
            ("hasPreviousPage", "startCursor")
        } else {
            ("hasNextPage", "endCursor")
        };
        if backwards {
            ids.splice(0..0, rows);
        } else {
            ids.extend(rows);
        }
        if page["pageInfo"][more] == false {
            assert_eq!(page["totalCount"], ids.len());
            return ids;
        }
        at = page["pageInfo"][next].clone();
    }
}

on_each_database! {
    async fn entered_and_left_lists_match_the_difference_and_paginate(app: TestApp) {
        let patients: String = (0..60).map(|i| format!("{i:03},Name {i}\n")).collect();
        app.import("patients", "H1", &format!("chart_no,name\n{patients}"));
        let visits: String = (0..180).map(|i| format!("{i},{:03},2025-05-{:02},{}\n", i * 7 % 60, i % 28 + 1, ["COMPLETED", "NO_SHOW", "CANCELED", "BOOKED"][i % 4])).collect();
        app.import("visits", "H1", &format!("visit_no,chart_no,date,status\n{visits}"));
        let user = app.sign_in("desk").await;
        let before = snapshot(&user, EXAMPLE).await;
        app.execute("UPDATE visit SET status = 'ENDED' WHERE visit_no LIKE '%3'").await;
        app.execute("UPDATE visit SET date = '2025-06-11' WHERE visit_no LIKE '%4'").await;
        app.execute("DELETE FROM visit WHERE visit_no LIKE '%5'").await;
        app.execute("INSERT INTO definition SELECT hospital_id, 2, 85, 5, effective_from FROM definition").await;
        let question = as_of("2025-09-04");
        let after = snapshot(&user, &question).await;
        let inline: Vec<String> = KINDS.iter().map(|kind| format!("{kind}: cohort(kind: {kind}) {{ patientIds }}")).collect();
        let query = format!("query ($id: ID!) {{ statisticsSnapshot(id: $id) {{ may: bucket(day: \"2025-05-01\") {{ {0} }} june: bucket(day: \"2025-06-01\") {{ {0} }} total {{ {0} }} }} }}", inline.join(" "));
        let (old, new) = (user.graphql_with(&query, json!({"id": before})).await, user.graphql_with(&query, json!({"id": after})).await);
        // Later changes to the data do not affect the comparison.
        app.execute("UPDATE visit SET status = 'CANCELED' WHERE visit_no LIKE '%6'").await;
        app.execute("DELETE FROM visit WHERE visit_no LIKE '%7'").await;
        let mut rows = 0;
        for (part, day) in [("may", Some("2025-05-01")), ("june", Some("2025-06-01")), ("total", None)] {
            for kind in KINDS {
                let ids = |response: &Value| -> BTreeSet<String> {
                    let ids = response["statisticsSnapshot"][part][kind]["patientIds"].as_array().unwrap();
                    ids.iter().map(|id| id.as_str().unwrap().to_owned()).collect()
                };
                let (was, is) = (ids(&old), ids(&new));
                for (side, expected) in [("entered", &is - &was), ("left", &was - &is)] {
                    let list = page_to_the_end(&user, (&before, &after), (day, kind, side), 7, false).await;
                    assert_eq!(list.len(), expected.len());
                    assert_eq!(BTreeSet::from_iter(list.clone()), expected, "{part} {kind} {side}");
                    assert_eq!(page_to_the_end(&user, (&before, &after), (day, kind, side), 9, true).await, list);
                    rows += list.len();
                }
            }
        }
        assert!(rows > 50, "{rows}");
        // A cursor belongs to its pair of snapshots, bucket, cohort and list.
        let query = |part: &str, kind: &str, list: &str| format!("query ($old: ID!, $new: ID!, $at: String) {{ statisticsSnapshot(id: $new) {{ changes(since: $old) {{
            {part} {{ cohort(kind: {kind}) {{ {list}(first: 1, after: $at) {{ pageInfo {{ endCursor }} }} }} }} }} }} }}");
        let given = |at: &Value| json!({"old": before, "new": after, "at": at});
        let response = user.graphql_with(&query("total", "NO_SHOW", "entered"), given(&Value::Null)).await;
        let at = &response["statisticsSnapshot"]["changes"]["total"]["cohort"]["entered"]["pageInfo"]["endCursor"];
        assert!(at.is_string());
        for (part, kind, list) in [("total", "NO_SHOW", "left"), ("total", "VISITORS", "entered"), ("bucket(day: \"2025-05-01\")", "NO_SHOW", "entered")] {
            let response = user.graphql_response(&query(part, kind, list), given(at)).await;
            assert_eq!(response["errors"][0]["extensions"], json!({"code": "BAD_USER_INPUT", "argument": "after"}), "{part} {kind} {list}");
        }
        let other = json!({"old": before, "new": snapshot(&user, &question).await, "at": at});
        let response = user.graphql_response(&query("total", "NO_SHOW", "entered"), other).await;
        assert_eq!(response["errors"][0]["extensions"]["argument"], "after");
    }

    async fn reasons_take_a_constant_number_of_statements_per_page(app: TestApp) {
        let patients: String = (0..120).map(|i| format!("{i:03}\n")).collect();
        app.import("patients", "H1", &format!("chart_no\n{patients}"));
        let visits: String = (0..360).map(|i| format!("{i},{:03},2025-05-{:02},COMPLETED,Dep {},Doc {}\n", i % 120, i % 28 + 1, i % 5, i % 7)).collect();
        app.import("visits", "H1", &format!("visit_no,chart_no,date,status,department,doctor\n{visits}"));
        let user = app.sign_in("desk").await;
        let since = snapshot(&user, EXAMPLE).await;
        app.execute("UPDATE visit SET status = 'CANCELED' WHERE visit_no < '3'").await;
        app.execute("DELETE FROM visit WHERE visit_no >= '3'").await;
        let record = "{ date department { name } doctor { name } patient { chartNo } }";
        let query = |size: usize| format!("query ($since: ID!) {{ {EXAMPLE} {{ changes(since: $since) {{ total {{
            visitors: cohort(kind: VISITORS) {{ left(first: {size}) {{ edges {{ node {{ chartNo }} reasons {{ text visits {{ visit {{ visitNo }} before {record} after {record} }} }} }} }} }}
            canceled: cohort(kind: CANCELED) {{ entered(first: {size}) {{ edges {{ node {{ chartNo }} reasons {{ text visits {{ visit {{ visitNo }} before {record} }} }} }} }} }} }} }} }} }}");
        let cost = async |size: usize| {
            let before = app.metric("rollcall_database_statements_total").await;
            let response = user.graphql_with(&query(size), json!({"since": since})).await;
            let edges = response["statistics"]["changes"]["total"]["visitors"]["left"]["edges"].as_array().unwrap().len();
            assert_eq!(edges, size);
            app.metric("rollcall_database_statements_total").await - before
        };
        cost(1).await;
        let (few, many) = (cost(5).await, cost(100).await);
        assert_eq!(few, many);
        assert!(many < 25, "{many} statements");
    }

    async fn definitions_can_be_previewed(app: TestApp) {
        app.import_example();
        let admin = app.sign_in("admin").await;
        let arguments = EXAMPLE.trim_start_matches("statistics(").trim_end_matches(')');
        let cohort = |kind: &str| format!("{kind}: cohort(kind: {kind}) {{ enteredCount leftCount entered(first: 1) {{ totalCount pageInfo {{ hasNextPage endCursor }} edges {{ {REASONS} }} }} left {{ edges {{ {REASONS} }} }} }}");
        let query = format!("query ($d: ProposedDefinitionInput!) {{ previewDefinition(definition: $d, {arguments}) {{
            before {{ id definition {{ version churnAfterDays overdueAfterDays }} }} after {{ id computedAt revision definition {{ version churnAfterDays overdueAfterDays effectiveFrom }} total {{ churnSuspected {{ id digest }} }} }}
            total {{ {} {} {} {} }} }} }}", cohort("CHURN_SUSPECTED"), cohort("RETAINED"), cohort("PENDING"), cohort("NEW"));
        let proposed = json!({"d": {"churnAfterDays": 10, "overdueAfterDays": 3}});
        let response = admin.graphql_with(&query, proposed.clone()).await["previewDefinition"].take();
        assert_eq!(response["before"]["definition"], json!({"version": 1, "churnAfterDays": 90, "overdueAfterDays": null}));
        let (after, total) = (&response["after"], &response["total"]);
        assert_eq!(after["definition"], json!({"version": 0, "churnAfterDays": 10, "overdueAfterDays": 3, "effectiveFrom": after["computedAt"]}));
        assert_ne!(after["id"], response["before"]["id"]);
        // C had no visits for 11 days, D for 82.
        assert_eq!((&total["CHURN_SUSPECTED"]["enteredCount"], &total["RETAINED"]["leftCount"], &total["PENDING"]["leftCount"], &total["NEW"]["enteredCount"]), (&json!(2), &json!(1), &json!(1), &json!(0)));
        let edge = &total["CHURN_SUSPECTED"]["entered"]["edges"][0];
        assert_eq!((&edge["node"]["chartNo"], &edge["reasons"][0]["kind"]), (&json!("C"), &json!("DEFINITION_CHANGED")));
        assert_eq!(edge["reasons"][0]["text"], "churnAfterDays is 10 instead of 90: now CHURN_SUSPECTED in the whole range. NEW here, and silent for 11 days at asOf, since the visit of 2025-08-20; churnAfterDays is 10.");
        assert_eq!(edge["reasons"][0]["visits"].as_array().unwrap().len(), 2);
        assert_eq!(total["PENDING"]["left"]["edges"][0]["node"]["chartNo"], "D");
        // Nothing was published, and the same query still uses the current definition.
        let now = admin.graphql(&format!("{{ {EXAMPLE} {{ id }} hospital {{ definition {{ version churnAfterDays }} }} }}")).await;
        assert_eq!(now["statistics"]["id"], response["before"]["id"]);
        assert_eq!(now["hospital"]["definition"], json!({"version": 1, "churnAfterDays": 90}));
        // Its lists can be paged further on another server after the data changed.
        app.execute("DELETE FROM visit WHERE visit_no IN ('8', '10')").await;
        let second = app.second_server();
        let second_client = app.sign_in_at(&second.base, "H1", "clinician").await;
        let rest = "query ($old: ID!, $new: ID!, $at: String) { statisticsSnapshot(id: $new) { definition { version churnAfterDays overdueAfterDays effectiveFrom } total { churnSuspected { id digest } }
            changes(since: $old) { total { cohort(kind: CHURN_SUSPECTED) { entered(after: $at) { totalCount nodes { chartNo } edges { reasons { kind } } } } } } } }";
        let given = json!({"old": response["before"]["id"], "new": after["id"], "at": total["CHURN_SUSPECTED"]["entered"]["pageInfo"]["endCursor"]});
        let again = second_client.graphql_with(rest, given).await["statisticsSnapshot"].take();
        assert_eq!(again["definition"], after["definition"]);
        assert_eq!(again["total"], after["total"]);
        assert_eq!(again["changes"]["total"]["cohort"]["entered"], json!({"totalCount": 2, "nodes": [{"chartNo": "D"}], "edges": [{"reasons": [{"kind": "DEFINITION_CHANGED"}]}]}));
        // Only for roles that may change definitions, and only for valid definitions.
        for role in ["clinician", "desk", "support"] {
            let response = app.sign_in(role).await.graphql_response(&query, proposed.clone()).await;
            assert_eq!(response["errors"][0]["extensions"]["code"], "FORBIDDEN", "{role}");
        }
        for (rules, argument) in [(json!({"churnAfterDays": 0}), "definition.churnAfterDays"), (json!({"churnAfterDays": 1, "overdueAfterDays": 36_501}), "definition.overdueAfterDays")] {
            let response = admin.graphql_response(&query, json!({"d": rules})).await;
            assert_eq!(response["errors"][0]["extensions"], json!({"code": "BAD_USER_INPUT", "argument": argument}));
        }
    }
}
