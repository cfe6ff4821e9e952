//! Explanations of why a patient is in the cohorts of a snapshot, or is not.

use std::collections::HashMap;

use serde_json::{Value, json};
use test_support::{Client, EXAMPLE, KINDS, on_each_database};

/// The IDs of patients by chart number.
async fn charts(user: &Client<'_>) -> HashMap<String, Value> {
    let mut response = user.graphql("{ patients { nodes { id chartNo } } }").await;
    let nodes = response["patients"]["nodes"].as_array_mut().unwrap();
    nodes
        .iter_mut()
        .map(|node| (node["chartNo"].as_str().unwrap().to_owned(), node["id"].take()))
        .collect()
}

/// Whether a patient is in a cohort of the bucket that contains a day, the rule, the text, and the dates of the visits.
async fn explained(
    user: &Client<'_>,
    question: &str,
    patient: &Value,
    day: &str,
    kind: &str,
) -> (bool, String, String, Vec<String>) {
    let query = format!(
        "query ($p: ID!) {{ {question} {{ explain(patientId: $p) {{ bucket(day: \"{day}\") {{ cohort(kind: {kind}) {{ kind included rule text visits {{ visit {{ id }} counted {{ date }} }} }} }} }} }} }}"
    );
    let response = user.graphql_with(&query, json!({"p": patient})).await;
    let found = &response["statistics"]["explain"]["bucket"]["cohort"];
    assert_eq!(found["kind"], kind);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let dates = found["visits"]
        .as_array()
        .unwrap()
        .iter()
        .map(|visit| text(&visit["counted"]["date"]))
        .collect();
    (
        found["included"].as_bool().unwrap(),
        text(&found["rule"]),
        text(&found["text"]),
        dates,
    )
}

on_each_database! {
    async fn the_worked_example_is_explained(app: TestApp) {
        app.import_example();
        let user = app.sign_in("clinician").await;
        let patients = charts(&user).await;
        for (chart, day, kind, included, rule, text, dates) in [
            ("A", "2025-05-01", "VISITORS", true, "ATTENDED", "Attended on 2025-05-11 and 2025-05-13.", &["2025-05-11", "2025-05-13"][..]),
            ("A", "2025-05-01", "NEW", true, "FIRST_VISIT_HERE", "NEW here, since the visit of 2025-05-11 is the first.", &["2025-05-11"]),
            ("A", "2025-05-01", "RETURNING", false, "FIRST_VISIT_HERE", "NEW here, since the visit of 2025-05-11 is the first.", &["2025-05-11"]),
            ("A", "2025-05-01", "CHURN_SUSPECTED", true, "SILENT", "NEW here, and silent for 110 days at asOf, since the visit of 2025-05-13; churnAfterDays is 90.", &["2025-05-11", "2025-05-13"]),
            ("A", "2025-05-01", "RETAINED", false, "SILENT", "NEW here, and silent for 110 days at asOf, since the visit of 2025-05-13; churnAfterDays is 90.", &["2025-05-11", "2025-05-13"]),
            // Just inside or outside of a limit.
            ("B", "2025-05-01", "NEW", false, "FIRST_VISIT_EARLIER", "NEW in April 2025, since the visit of 2025-04-28 is the first.", &["2025-04-28"]),
            ("B", "2025-05-01", "CHURN_SUSPECTED", false, "FIRST_VISIT_EARLIER", "NEW in April 2025, since the visit of 2025-04-28 is the first.", &["2025-04-28"]),
            ("B", "2025-05-01", "RETURNING", true, "FIRST_VISIT_EARLIER", "NEW in April 2025, since the visit of 2025-04-28 is the first.", &["2025-04-28"]),
            ("C", "2025-06-01", "NEW", false, "FIRST_VISIT_EARLIER", "NEW in May 2025, since the visit of 2025-05-20 is the first.", &["2025-05-20"]),
            ("C", "2025-05-01", "RETAINED", true, "CAME_AGAIN", "NEW here, and came again: the last visit, of 2025-08-20, is 11 days before asOf; churnAfterDays is 90.", &["2025-05-20", "2025-08-20"]),
            ("D", "2025-05-01", "NEW", false, "OTHER_STATUS", "No visit here was attended: 2025-05-09 (NO_SHOW).", &["2025-05-09"]),
            ("D", "2025-05-01", "NO_SHOW", true, "NO_SHOW", "No-show: 2025-05-09 (NO_SHOW).", &["2025-05-09"]),
            ("D", "2025-06-01", "PENDING", true, "NOT_YET_AGAIN", "NEW here, and has not come again on a later day: the visit of 2025-06-10 is 82 days before asOf; churnAfterDays is 90.", &["2025-06-10"]),
            ("D", "2025-06-01", "CHURN_SUSPECTED", false, "NOT_YET_AGAIN", "NEW here, and has not come again on a later day: the visit of 2025-06-10 is 82 days before asOf; churnAfterDays is 90.", &["2025-06-10"]),
            ("E", "2025-06-01", "CANCELED", true, "CANCELED", "Canceled: 2025-06-15.", &["2025-06-15"]),
            ("E", "2025-05-01", "VISITORS", false, "NO_VISIT", "No visit here.", &[]),
        ] {
            let found = explained(&user, EXAMPLE, &patients[chart], day, kind).await;
            assert_eq!(found, (included, rule.to_owned(), text.to_owned(), dates.iter().map(|&date| date.to_owned()).collect()), "{chart} {day} {kind}");
        }
        // Excluded by the filter, asOf, the range, and the overdue period.
        let filtered = EXAMPLE.replace("asOf", "filter: {channels: [APP]}, asOf");
        assert_eq!(explained(&user, &filtered, &patients["A"], "2025-05-01", "NEW").await.1, "FILTERED_OUT");
        assert_eq!(explained(&user, &filtered, &patients["B"], "2025-06-01", "RETURNING").await.2, "The visit of 2025-04-28 is the first, and does not pass the filter: NEW in no bucket.");
        let early = EXAMPLE.replace("2025-08-31", "2025-06-01");
        assert_eq!(explained(&user, &early, &patients["C"], "2025-06-01", "VISITORS").await.2, "The visit of 2025-06-02 lies after asOf, 2025-06-01.");
        let short = EXAMPLE.replace("2025-05-01", "2025-05-12");
        assert_eq!(explained(&user, &short, &patients["A"], "2025-05-12", "NEW").await.2, "The visit of 2025-05-11 is the first, and lies before the range.");
        assert_eq!(explained(&user, &short, &patients["B"], "2025-05-12", "VISITORS").await.2, "The visit of 2025-05-02 lies outside the range.");
        app.execute("UPDATE visit SET status = 'BOOKED' WHERE visit_no IN ('9', '11')").await;
        assert_eq!(explained(&user, EXAMPLE, &patients["E"], "2025-06-15", "NO_SHOW").await.1, "OTHER_STATUS");
        app.execute("INSERT INTO definition SELECT hospital_id, 2, 90, 80, effective_from FROM definition").await;
        assert_eq!(explained(&user, EXAMPLE, &patients["D"], "2025-05-09", "NO_SHOW").await.2, "Still BOOKED, and overdue at asOf: 2025-05-09; overdueAfterDays is 80.");
        assert_eq!(explained(&user, EXAMPLE, &patients["E"], "2025-06-15", "NO_SHOW").await.2, "Still BOOKED, and not yet overdue at asOf: 2025-06-15; overdueAfterDays is 80.");
    }

    async fn explanations_match_lists_of_old_snapshots(app: TestApp) {
        app.import_example();
        let user = app.sign_in("support").await;
        let kinds: Vec<String> = KINDS.iter().map(|kind| format!("{kind}: cohort(kind: {kind}) {{ patientIds }}")).collect();
        let listed = format!("buckets {{ {0} }} total {{ {0} }}", kinds.join(" "));
        let id = user.graphql(&format!("{{ {EXAMPLE} {{ id }} }}")).await["statistics"]["id"].take();
        // Later changes to the data do not affect explanations of the snapshot.
        app.execute("UPDATE visit SET date = '2024-01-01', status = 'TENTATIVE' WHERE visit_no = '4'").await;
        app.execute("UPDATE visit SET patient_id = (SELECT id FROM patient WHERE chart_no = 'B') WHERE visit_no = '10'").await;
        app.execute("UPDATE visit SET patient_id = (SELECT id FROM patient WHERE chart_no = 'C'), date = '2025-05-01' WHERE visit_no = '10'").await;
        app.execute("DELETE FROM visit WHERE visit_no IN ('1', '2', '11')").await;
        app.execute("INSERT INTO visit (hospital_id, visit_no, patient_id, date, status, channel)
            SELECT hospital_id, chart_no, id, '2025-01-01', 'COMPLETED', 'OTHER' FROM patient").await;
        app.execute("INSERT INTO definition SELECT hospital_id, 2, 1, 1, effective_from FROM definition").await;
        let patients = charts(&user).await;
        app.execute("UPDATE visit SET date = '2025-01-02' WHERE visit_no = 'E'").await;
        for snapshot in [id, user.graphql(&format!("{{ {EXAMPLE} {{ id }} }}")).await["statistics"]["id"].take()] {
            let lists = user.graphql_with(&format!("query ($id: ID!) {{ statisticsSnapshot(id: $id) {{ {listed} }} }}"), json!({"id": snapshot})).await["statisticsSnapshot"].take();
            for patient in patients.values() {
                let query = "query ($id: ID!, $p: ID!) { statisticsSnapshot(id: $id) { explain(patientId: $p) { patient { id }
                    buckets { start end cohorts { kind included rule } } total { cohorts { kind included rule } } } } }";
                let response = user.graphql_with(query, json!({"id": snapshot, "p": patient})).await["statisticsSnapshot"]["explain"].take();
                assert_eq!(&response["patient"]["id"], patient);
                let parts = response["buckets"].as_array().unwrap().iter().chain([&response["total"]]);
                let of_lists = lists["buckets"].as_array().unwrap().iter().chain([&lists["total"]]);
                for (part, of_lists) in parts.zip(of_lists) {
                    for membership in part["cohorts"].as_array().unwrap() {
                        let ids = of_lists[membership["kind"].as_str().unwrap()]["patientIds"].as_array().unwrap();
                        assert_eq!(membership["included"], ids.contains(patient), "{membership}");
                        assert_ne!(membership["rule"], "UNKNOWN", "{membership}");
                    }
                }
            }
        }
    }

    async fn explanations_show_values_as_counted(app: TestApp) {
        app.import_example();
        let user = app.sign_in("support").await;
        let patients = charts(&user).await;
        let query = format!("query ($p: ID!) {{ {EXAMPLE} {{ explain(patientId: $p) {{ patient {{ name }} daysSilent
            firstVisit {{ visit {{ visitNo deleted }} counted {{ date status department {{ name }} doctor {{ name }} patient {{ chartNo }} }} }} lastVisit {{ counted {{ date }} }} }} }} }}");
        let response = user.graphql_with(&query, json!({"p": patients["A"]})).await["statistics"]["explain"].take();
        assert_eq!(response, json!({"patient": {"name": "A** A**"}, "daysSilent": 110, "lastVisit": {"counted": {"date": "2025-05-13"}},
            "firstVisit": {"visit": {"visitNo": "1", "deleted": false}, "counted": {"date": "2025-05-11", "status": "COMPLETED",
                "department": {"name": "Eyes"}, "doctor": {"name": "Dr Ito"}, "patient": {"chartNo": "A"}}}}));
        let response = user.graphql_with(&query, json!({"p": patients["E"]})).await["statistics"]["explain"].take();
        assert_eq!((&response["daysSilent"], &response["firstVisit"], &response["lastVisit"]), (&Value::Null, &Value::Null, &Value::Null));
        // Without history there are no explanations, but membership is still known.
        let id = user.graphql(&format!("{{ {EXAMPLE} {{ id }} }}")).await["statistics"]["id"].take();
        app.execute("UPDATE visit SET status = 'CANCELED' WHERE visit_no IN ('1', '2')").await;
        app.execute("DELETE FROM visit_change").await;
        let query = "query ($id: ID!, $p: ID!) { statisticsSnapshot(id: $id) { explain(patientId: $p) { bucket(day: \"2025-05-01\") { new: cohort(kind: NEW) { included rule visits { visit { id } } } noShow: cohort(kind: NO_SHOW) { included } } } } }";
        let response = user.graphql_with(query, json!({"id": id, "p": patients["A"]})).await;
        assert_eq!(response["statisticsSnapshot"]["explain"]["bucket"], json!({"new": {"included": true, "rule": "UNKNOWN", "visits": []}, "noShow": {"included": false}}));
    }

    async fn foreign_and_invalid_ids_are_not_explained(app: TestApp) {
        app.import_example();
        let user = app.sign_in("desk").await;
        let other = app.other_hospital().await;
        let patients = charts(&user).await;
        let query = format!("query ($p: ID!) {{ {EXAMPLE} {{ id explain(patientId: $p) {{ daysSilent }} }} }}");
        let response = user.graphql_with(&query, json!({"p": patients["A"]})).await["statistics"].take();
        assert_eq!(response["explain"]["daysSilent"], 110);
        assert_eq!(other.graphql_with(&query, json!({"p": patients["A"]})).await["statistics"]["explain"], Value::Null);
        for wrong in [json!("nonsense"), response["id"].clone()] {
            let response = user.graphql_response(&query, json!({"p": wrong})).await;
            assert_eq!(response["errors"][0]["extensions"], json!({"code": "BAD_USER_INPUT", "argument": "patientId"}));
        }
        // A deleted patient is still explained in older snapshots.
        app.execute("DELETE FROM visit WHERE visit_no IN ('1', '2')").await;
        app.execute("DELETE FROM patient WHERE chart_no = 'A'").await;
        let query = "query ($id: ID!, $p: ID!) { statisticsSnapshot(id: $id) { explain(patientId: $p) { patient { state } daysSilent firstVisit { visit { deleted } counted { date } } } } }";
        let response = user.graphql_with(query, json!({"id": response["id"], "p": patients["A"]})).await["statisticsSnapshot"]["explain"].take();
        assert_eq!(response, json!({"patient": {"state": "ERASED"}, "daysSilent": 110, "firstVisit": {"visit": {"deleted": true}, "counted": {"date": "2025-05-11"}}}));
    }
}
