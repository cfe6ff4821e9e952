//! Limits on the cost of a query and the number of errors.

use std::time::{Duration, Instant};

use serde_json::json;
use test_support::{KINDS, on_each_database};

on_each_database! {
    async fn a_rejected_query_reports_its_cost(app: TestApp) {
        let user = app.sign_in("admin").await;
        let page = "visits(first: 100) { nodes { patient { NEXT } } }";
        let query = format!("{{ {} }}", page.replace("NEXT", &page.replace("NEXT", &page.replace("NEXT", "id"))));
        let response = user.graphql_response(&query, json!({})).await;
        let error = &response["errors"][0];
        assert_eq!(error["extensions"]["code"], "QUERY_TOO_COSTLY", "{response}");
        let (cost, limit) = (error["extensions"]["cost"].as_u64().unwrap(), error["extensions"]["limit"].as_u64().unwrap());
        assert!(cost > limit, "{response}");
        for number in [cost, limit] {
            assert!(error["message"].as_str().unwrap().contains(&number.to_string()), "{response}");
        }
        // Ten years by day with the counts of every cohort, also as a stored snapshot.
        let counts: Vec<String> = KINDS.iter().map(|kind| format!("{kind}: cohort(kind: {kind}) {{ patientCount visitCount }}")).collect();
        let buckets = format!("id buckets {{ start end {} }}", counts.join(" "));
        let computed = user.graphql(&format!("{{ statistics(period: DAY, range: {{from: \"2015-01-01\", to: \"2024-12-31\"}}) {{ {buckets} }} }}")).await;
        let reopened = user.graphql_with(&format!("query ($id: ID!) {{ statisticsSnapshot(id: $id) {{ {buckets} }} }}"), json!({"id": computed["statistics"]["id"]})).await;
        assert_eq!(computed["statistics"], reopened["statisticsSnapshot"]);
    }

    async fn query_bombs_are_rejected_quickly(app: TestApp) {
        let user = app.sign_in("admin").await;
        let spread: String = (0..10).map(|i| format!("fragment f{i} on Query {{ {} }}", format!("...f{} ", i + 1).repeat(5))).collect();
        let bombs = [
            format!("{{ ...f0 }} {spread} fragment f10 on Query {{ __typename }}"),
            format!("query a {{ __typename }} query b {{ ...f0 }} {spread} fragment f10 on Query {{ __typename }}"),
            format!("{{ a(b: {}) }}", "[".repeat(500_000)),
            "{".repeat(500_000),
            format!("{{ {} }}", "a ".repeat(250_000)),
        ];
        for bomb in bombs {
            let started = Instant::now();
            let response = app.http().post(format!("{}/graphql", app.base())).bearer_auth(&user.token)
                .json(&json!({"query": bomb, "operationName": bomb.starts_with("query a").then_some("a")})).send().await.unwrap();
            let response: serde_json::Value = response.json().await.unwrap();
            assert_eq!(response["errors"][0]["extensions"]["code"], "QUERY_TOO_COSTLY", "{response}");
            assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
        }
        assert_eq!(user.graphql("{ viewer { login } }").await["viewer"]["login"], "admin");
    }

    async fn the_number_of_errors_is_limited(app: TestApp) {
        let user = app.sign_in("admin").await;
        for query in [
            format!("{{ {} }}", (0..150).map(|i| format!("n{i} ")).collect::<String>()),
            format!("{{ {} }}", (0..150).map(|i| format!("a{i}: patient(id: \"x\") {{ id }} ")).collect::<String>()),
        ] {
            let response = user.graphql_response(&query, json!({})).await;
            let errors = response["errors"].as_array().unwrap();
            assert_eq!(errors.len(), 101);
            assert_eq!(errors[100]["extensions"], json!({"code": errors[99]["extensions"]["code"], "leftOut": 50}));
        }
    }

    async fn invalid_operations_that_async_graphql_accepts_are_rejected(app: TestApp) {
        let user = app.sign_in("admin").await;
        for query in ["{ viewer @anything { name } }", "{ __typename(a: 1) }"] {
            user.expect_error(query, "GRAPHQL_VALIDATION_FAILED").await;
        }
        let needed = "query ($yes: Boolean!) { viewer @include(if: $yes) { name } }";
        let response = user.graphql_response(needed, json!({})).await;
        assert_eq!(response["errors"][0]["extensions"], json!({"code": "BAD_USER_INPUT", "argument": "variables.yes"}));
        assert!(response.get("data").is_none(), "{response}");
        assert_eq!(user.graphql_with(needed, json!({"yes": true})).await["viewer"]["name"], "ADMIN");
        assert_eq!(user.graphql_with(needed, json!({"yes": false})).await, json!({}));
    }
}
