//! Retention: of the new patients of each unit, who came in which unit after.

use serde_json::{Value, json};
use test_support::{Client, EXAMPLE, on_each_database};

const ROWS: &str = "period asOf range { from to } revision rows { start end newPatients { id patientCount }
    cells { offset start end rate complete returned { patientCount visitCount patients { nodes { chartNo } } } } }";

/// The arguments of the worked example.
fn arguments(more: &str) -> String {
    EXAMPLE
        .trim_start_matches("statistics(")
        .trim_end_matches(')')
        .to_owned()
        + more
}

async fn retention(user: &Client<'_>, more: &str) -> Value {
    user.graphql(&format!("{{ retention({}) {{ {ROWS} }} }}", arguments(more)))
        .await["retention"]
        .take()
}

/// A line for each cell: month of the row, offset, chart numbers, whether it is complete.
fn lines(found: &Value) -> Vec<String> {
    let rows = found["rows"].as_array().unwrap().iter();
    rows.flat_map(|row| {
        row["cells"].as_array().unwrap().iter().map(move |cell| {
            let charts = cell["returned"]["patients"]["nodes"]
                .as_array()
                .unwrap()
                .iter()
                .map(|node| node["chartNo"].as_str().unwrap());
            let charts: String = charts.collect();
            assert_eq!(cell["returned"]["patientCount"], charts.len());
            let (month, offset, complete) = (&row["start"].as_str().unwrap()[..7], &cell["offset"], &cell["complete"]);
            format!("{month} {offset} {charts} {complete}")
        })
    })
    .collect()
}

on_each_database! {
    async fn cells_are_lists_of_those_who_came_again(app: TestApp) {
        app.import_example();
        let user = app.sign_in("clinician").await;
        let found = retention(&user, ", horizon: 3").await;
        assert_eq!((&found["period"], &found["asOf"], &found["range"]["from"]), (&json!("MONTH"), &json!("2025-08-31"), &json!("2025-05-01")));
        // A and C were new in May, and D in June.
        assert_eq!(lines(&found), ["2025-05 0 A true", "2025-05 1 C true", "2025-05 2  true", "2025-05 3 C true", "2025-06 0  true", "2025-06 1  true", "2025-06 2  true"]);
        let cell = &found["rows"][0]["cells"][3];
        assert_eq!((&cell["rate"], &cell["start"], &cell["returned"]["visitCount"]), (&json!(0.5), &json!("2025-08-01"), &json!(1)));
        let statistics = user.graphql(&format!("{{ {EXAMPLE} {{ revision buckets {{ newPatients {{ id }} }} }} }}")).await["statistics"].take();
        assert_eq!((&found["rows"][0]["newPatients"]["id"], &found["revision"]), (&statistics["buckets"][0]["newPatients"]["id"], &statistics["revision"]));
        // Cells that time may still change say so; a filter applies to visits and not to who is new hospital-wide.
        let inside = user.graphql(&format!("{{ retention({}, horizon: 1) {{ {ROWS} }} }}", arguments("").replace("2025-08-31", "2025-06-10"))).await["retention"].take();
        assert_eq!(lines(&inside), ["2025-05 0 A true", "2025-05 1 C false", "2025-06 0  false"]);
        let cut = user.graphql(&format!("{{ retention({}, horizon: 1) {{ {ROWS} }} }}", arguments("").replace("2025-05-01", "2025-05-12"))).await["retention"].take();
        assert_eq!(lines(&cut)[..2], ["2025-05 0  false", "2025-05 1 C false"]);
        let by_day = user.graphql("{ retention(period: DAY, range: {from: \"2025-05-11\", to: \"2025-05-11\"}, asOf: \"2025-08-31\", horizon: 2) { rows { cells { offset returned { patientCount } } } } }").await["retention"].take();
        assert_eq!(by_day["rows"][0]["cells"], json!([{"offset": 1, "returned": {"patientCount": 0}}, {"offset": 2, "returned": {"patientCount": 1}}]));
        let default = user.graphql(&format!("{{ retention({}) {{ rows {{ cells {{ offset }} }} }} }}", arguments(""))).await["retention"].take();
        assert_eq!(default["rows"][0]["cells"].as_array().unwrap().len(), 4, "up to asOf");
    }

    async fn a_retention_opens_as_it_was(app: TestApp) {
        app.import_example();
        let (user, other) = (app.sign_in("clinician").await, app.other_hospital().await);
        let cells = "cells { offset returned { id kind digest derivation { text sources { kind } } patients { nodes { chartNo } } } }";
        let counts = "cells { offset rate complete returned { patientCount digest } }";
        let stored = async || app.query_value::<i64>("SELECT COUNT(*) FROM snapshot").await;
        retention(&user, "").await;
        let before = stored().await;
        let found = user.graphql(&format!("{{ retention({}, horizon: 2) {{ id rows {{ {counts} }} }} }}", arguments(""))).await["retention"].take();
        assert!(stored().await > before);
        let list = user.graphql(&format!("{{ retention({}, horizon: 2) {{ rows {{ {cells} }} }} }}", arguments(""))).await["retention"]["rows"][0]["cells"][1]["returned"].take();
        assert_eq!(list["kind"], "DERIVED");
        assert_eq!(list["derivation"], json!({"text": "list 1: those who came again from 2025-06-01 to 2025-06-30", "sources": [{"kind": "NEW"}]}));
        app.execute("UPDATE visit SET status = 'CANCELED' WHERE visit_no IN ('2', '7', '8')").await;
        let second = app.second_server();
        let other_server = app.sign_in_at(&second.base, "H1", "desk").await;
        let query = format!("query ($id: ID!, $list: ID!) {{ node(id: $id) {{ ... on Retention {{ id rows {{ {counts} }} }} }} cohort(id: $list) {{ digest kind }} }}");
        let ids = json!({"id": found["id"], "list": list["id"]});
        let again = other_server.graphql_with(&query, ids.clone()).await;
        assert_eq!((&again["node"], &again["cohort"]["digest"]), (&found, &list["digest"]));
        assert_eq!(other.graphql_with(&query, ids).await, json!({"node": null, "cohort": null}));
        let now = retention(&user, ", horizon: 2").await;
        assert_eq!(lines(&now)[..3], ["2025-05 0  true", "2025-05 1  true", "2025-05 2  true"]);
        for (more, horizon) in [("MONTH", 1_000), ("MONTH", -1), ("DAY", 60)] {
            let arguments = arguments("").replace("MONTH", more);
            let refused = user.graphql_response(&format!("{{ retention({arguments}, horizon: {horizon}) {{ asOf }} }}"), json!({})).await;
            assert_eq!(refused["errors"][0]["extensions"], json!({"code": "BAD_USER_INPUT", "argument": "horizon"}));
        }
    }
}
