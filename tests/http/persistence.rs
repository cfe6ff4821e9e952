//! Snapshot IDs refer to the same lists on every server, after restarts, and after the data changed.

use serde_json::{Value, json};
use test_support::{EXAMPLE, error, on_each_database, wait_until};

on_each_database! {
    async fn snapshots_are_identical_on_other_servers_and_later(app: TestApp) {
        app.import_example();
        let first_client = app.sign_in("admin").await;
        let lists = "kind patientCount visitCount patientIds visitIds digest
            patients(orderBy: {field: NAME, direction: DESC}) { edges { cursor firstVisitDate lastVisitDate visitCount } }
            visits { edges { cursor date status patientId } }";
        let all = format!("id period range {{ from to }} asOf computedAt revision timeZone weekStart definition {{ version churnAfterDays overdueAfterDays effectiveFrom }}
            filter {{ channels }} buckets {{ start end complete covered {{ from to }} churnRate noShowRate visitors {{ id {lists} }} newPatients {{ id {lists} }} noShow {{ id {lists} }} }}
            total {{ visitors {{ id {lists} }} }}");
        let first = first_client.graphql(&format!("{{ {EXAMPLE} {{ {all} }} }}")).await["statistics"].take();
        app.execute("UPDATE visit SET date = '2024-01-01', status = 'TENTATIVE' WHERE visit_no = '4'").await;
        app.execute("DELETE FROM visit WHERE visit_no IN ('1', '2')").await;
        app.execute("DELETE FROM patient WHERE chart_no = 'A'").await;
        app.execute("UPDATE patient SET name = 'Aaa' WHERE chart_no = 'D'").await;
        app.execute("INSERT INTO definition SELECT hospital_id, 2, 1, 1, effective_from FROM definition").await;
        app.execute("UPDATE definition SET churn_after_days = 7, effective_from = '2020-01-01 00:00:00' WHERE version = 1").await;
        let second = app.second_server();
        let second_client = app.sign_in_at(&second.base, "H1", "support").await;
        let second_admin = app.sign_in_at(&second.base, "H1", "admin").await;
        let query = format!("query ($id: ID!) {{ statisticsSnapshot(id: $id) {{ {all} }} node(id: $id) {{ __typename id }} }}");
        let again = second_admin.graphql_with(&query, json!({"id": first["id"]})).await;
        assert_eq!(again["statisticsSnapshot"], first);
        assert_eq!(again["node"], json!({"__typename": "Statistics", "id": first["id"]}));
        let visitors = &first["buckets"][0]["visitors"];
        let query = "query ($id: ID!) { node(id: $id) { ... on Cohort { id digest
            patients { nodes { id state chartNo name phone } } visits { nodes { id deleted visitNo date status patient { state } } } } } }";
        let cohort = second_client.graphql_with(query, json!({"id": visitors["id"]})).await["node"].take();
        assert_eq!(cohort["digest"], visitors["digest"]);
        let patients = cohort["patients"]["nodes"].as_array().unwrap();
        let erased = patients.last().unwrap();
        assert_eq!((&erased["state"], &erased["chartNo"], &erased["name"]), (&json!("ERASED"), &json!(""), &json!("")));
        let visits = cohort["visits"]["nodes"].as_array().unwrap();
        let deleted: Vec<_> = visits.iter().filter(|visit| visit["deleted"] == true).collect();
        assert_eq!(deleted.len(), 2);
        assert_eq!((&deleted[0]["date"], &deleted[0]["patient"]["state"]), (&json!("2025-05-13"), &json!("ERASED")));
        // A new query is counted with the current data.
        let now = first_client.graphql(&format!("{{ {EXAMPLE} {{ id total {{ visitors {{ patientCount }} }} }} }}")).await;
        assert_ne!(now["statistics"]["id"], first["id"]);
        assert_eq!(now["statistics"]["total"]["visitors"]["patientCount"], 3);
    }

    async fn counts_store_nothing_and_equal_queries_share_a_snapshot(app: TestApp) {
        app.import_example();
        let user = app.sign_in("desk").await;
        let stored = async || app.query_value::<i64>("SELECT COUNT(*) FROM snapshot").await;
        user.graphql(&format!("{{ {EXAMPLE} {{ buckets {{ visitors {{ patientCount visitCount }} churnRate }} }} }}")).await;
        assert_eq!(stored().await, 0);
        let second = app.second_server();
        let second_client = app.sign_in_at(&second.base, "H1", "desk").await;
        let query = format!("{{ {EXAMPLE} {{ id total {{ visitors {{ id }} }} }} }}");
        let (a, b) = tokio::join!(user.graphql(&query), second_client.graphql(&query));
        assert_eq!(a, b);
        assert_eq!(stored().await, 1);
    }

    async fn snapshots_are_isolated_by_hospital(app: TestApp) {
        app.import_example();
        let user = app.sign_in("admin").await;
        let response = user.graphql(&format!("{{ {EXAMPLE} {{ id total {{ visitors {{ id patientIds visitIds }} }} }} hospital {{ id departments {{ id }} doctors {{ id }} }} }}")).await;
        let visitors = &response["statistics"]["total"]["visitors"];
        let ids = [&response["statistics"]["id"], &visitors["id"], &visitors["patientIds"][0], &visitors["visitIds"][0],
            &response["hospital"]["id"], &response["hospital"]["departments"][0]["id"], &response["hospital"]["doctors"][0]["id"]];
        let other = app.other_hospital().await;
        let query = "query ($ids: [ID!]!) { nodes(ids: $ids) { __typename } }";
        assert!(user.graphql_with(query, json!({"ids": ids})).await["nodes"].as_array().unwrap().iter().all(|node| !node.is_null()));
        assert_eq!(other.graphql_with(query, json!({"ids": ids})).await["nodes"], Value::from(vec![Value::Null; ids.len()]));
        let query = "query ($s: ID!, $p: ID!, $v: ID!) { statisticsSnapshot(id: $s) { id } patient(id: $p) { id } visit(id: $v) { id } }";
        let response = other.graphql_with(query, json!({"s": ids[0], "p": ids[2], "v": ids[3]})).await;
        assert_eq!(response, json!({"statisticsSnapshot": null, "patient": null, "visit": null}));
        let foreign = other.graphql_response("query ($d: [ID!]) { statistics(period: DAY, range: {from: \"2025-01-01\", to: \"2025-01-02\"}, filter: {departmentIds: $d}) { id } }", json!({"d": [ids[5]]})).await;
        assert_eq!(foreign["errors"][0]["extensions"], json!({"code": "NOT_FOUND", "argument": "filter.departmentIds.0"}));
    }

    async fn unused_snapshots_expire_and_pinned_ones_do_not(app: TestApp) {
        app.import_example();
        let user = app.sign_in("clinician").await;
        let ask = async |period: &str| {
            let query = format!("{{ statistics(period: {period}, range: {{from: \"2025-05-01\", to: \"2025-06-30\"}}, asOf: \"2025-08-31\", filter: {{channels: [WEB, QR]}}) {{
                id pinnedAt total {{ visitors {{ id digest patients(orderBy: {{field: NAME}}) {{ nodes {{ id }} pageInfo {{ endCursor }} }} }} }} }} }}");
            user.graphql(&query).await["statistics"].take()
        };
        let (pinned, gone) = (ask("MONTH").await, ask("WEEK").await);
        let payload = user.mutate("pinSnapshot", json!({"id": pinned["id"]}), "statistics { id pinnedAt }").await;
        assert_eq!(payload["statistics"]["id"], pinned["id"]);
        assert!(payload["statistics"]["pinnedAt"].is_string());
        // Both age; then a server starts, which deletes expired ones at startup.
        for table in ["snapshot", "list_part"] {
            app.execute(&format!("UPDATE {table} SET kept_at = '2020-01-01 00:00:00'")).await;
        }
        let parts = async || app.query_value::<i64>("SELECT COUNT(*) FROM list_part").await;
        let (before, second) = (parts().await, app.second_server());
        let second_client = app.sign_in_at(&second.base, "H1", "clinician").await;
        let open = async |id: &Value| second_client.graphql_response("query ($id: ID!) { statisticsSnapshot(id: $id) { id total { visitors { digest } } } }", json!({"id": id})).await;
        wait_until("the expired snapshot and its lists are deleted", async || {
            parts().await < before && open(&gone["id"]).await["errors"].is_array()
        })
        .await;
        let expired = open(&gone["id"]).await;
        assert_eq!(expired["errors"][0]["extensions"], json!({"code": "SNAPSHOT_EXPIRED", "question": {
            "period": "WEEK", "range": {"from": "2025-05-01", "to": "2025-06-30"}, "asOf": "2025-08-31", "filter": {"channels": ["WEB", "QR"]}}}));
        assert_eq!(app.query_value::<i64>("SELECT COUNT(*) FROM snapshot_order").await, 1, "and its orders");
        assert_eq!(open(&pinned["id"]).await["data"]["statisticsSnapshot"]["total"]["visitors"]["digest"], pinned["total"]["visitors"]["digest"]);
        // The same for one of its lists, and for pinning it.
        let list = second_client.graphql_response("query ($id: ID!) { node(id: $id) { id } }", json!({"id": gone["total"]["visitors"]["id"]})).await;
        assert_eq!(list["errors"][0]["extensions"]["code"], "SNAPSHOT_EXPIRED");
        second_client.expect_mutation_error("pinSnapshot", json!({"id": gone["id"]}), "SNAPSHOT_EXPIRED").await;
        // Asked again on that server, the snapshot has the same ID.
        let question = &expired["errors"][0]["extensions"]["question"];
        let query = "query ($period: Period!, $range: DateRangeInput!, $asOf: Date, $filter: StatisticsFilter) {
            statistics(period: $period, range: $range, asOf: $asOf, filter: $filter) { id total { visitors { digest } } } }";
        let again = second_client.graphql_with(query, question.clone()).await["statistics"].take();
        assert_eq!(again["id"], gone["id"]);
        assert_eq!(open(&gone["id"]).await["data"]["statisticsSnapshot"], again);
        let payload = second_client.mutate("unpinSnapshot", json!({"id": pinned["id"]}), "statistics { pinnedAt }").await;
        assert_eq!(payload["statistics"]["pinnedAt"], Value::Null);
        app.sign_in("desk").await.expect_mutation_error("pinSnapshot", json!({"id": pinned["id"]}), "FORBIDDEN").await;
        assert_eq!(user.mutation_error("pinSnapshot", json!({"id": "UwAAAAAAAAAAAAAAAAAAAAA"})).await, error("NOT_FOUND", "input.id"));
    }
}
