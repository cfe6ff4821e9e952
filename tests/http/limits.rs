//! What a query may cost, and how many may come.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::{KINDS, on_each_database};

on_each_database! {
    async fn a_query_that_costs_too_much_is_told_its_cost(app: App) {
        let user = app.sign_in("admin").await;
        let page = "visits(first: 100) { nodes { patient { NEXT } } }";
        let query = format!("{{ {} }}", page.replace("NEXT", &page.replace("NEXT", &page.replace("NEXT", "id"))));
        let answer = user.try_with(&query, json!({})).await;
        let error = &answer["errors"][0];
        assert_eq!(error["extensions"]["code"], "QUERY_TOO_COSTLY", "{answer}");
        let (cost, limit) = (error["extensions"]["cost"].as_u64().unwrap(), error["extensions"]["limit"].as_u64().unwrap());
        assert!(cost > limit, "{answer}");
        for number in [cost, limit] {
            assert!(error["message"].as_str().unwrap().contains(&number.to_string()), "{answer}");
        }
        // Ten years by day with each list counted, and of a snapshot that is found again.
        let counts: Vec<String> = KINDS.iter().map(|kind| format!("{kind}: cohort(kind: {kind}) {{ patientCount visitCount }}")).collect();
        let buckets = format!("id buckets {{ start end {} }}", counts.join(" "));
        let asked = user.ask(&format!("{{ statistics(period: DAY, range: {{from: \"2015-01-01\", to: \"2024-12-31\"}}) {{ {buckets} }} }}")).await;
        let again = user.ask_with(&format!("query ($id: ID!) {{ statisticsSnapshot(id: $id) {{ {buckets} }} }}"), json!({"id": asked["statistics"]["id"]})).await;
        assert_eq!(asked["statistics"], again["statisticsSnapshot"]);
    }

    async fn a_bomb_is_refused_at_once(app: App) {
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
            let answer = app.client().post(format!("{}/graphql", app.base())).bearer_auth(&user.token)
                .json(&json!({"query": bomb, "operationName": bomb.starts_with("query a").then_some("a")})).send().await.unwrap();
            let answer: serde_json::Value = answer.json().await.unwrap();
            assert_eq!(answer["errors"][0]["extensions"]["code"], "QUERY_TOO_COSTLY", "{answer}");
            assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
        }
        assert_eq!(user.ask("{ viewer { login } }").await["viewer"]["login"], "admin");
    }

    async fn errors_are_cut(app: App) {
        let user = app.sign_in("admin").await;
        for query in [
            format!("{{ {} }}", (0..150).map(|i| format!("n{i} ")).collect::<String>()),
            format!("{{ {} }}", (0..150).map(|i| format!("a{i}: patient(id: \"x\") {{ id }} ")).collect::<String>()),
        ] {
            let answer = user.try_with(&query, json!({})).await;
            let errors = answer["errors"].as_array().unwrap();
            assert_eq!(errors.len(), 101);
            assert_eq!(errors[100]["extensions"], json!({"code": errors[99]["extensions"]["code"], "leftOut": 50}));
        }
    }

    async fn what_async_graphql_lets_pass_is_refused(app: App) {
        let user = app.sign_in("admin").await;
        for query in ["{ viewer @anything { name } }", "{ __typename(a: 1) }"] {
            assert_eq!(user.refused(query).await.0, "GRAPHQL_VALIDATION_FAILED", "{query}");
        }
        let needed = "query ($yes: Boolean!) { viewer @include(if: $yes) { name } }";
        let answer = user.try_with(needed, json!({})).await;
        assert_eq!(answer["errors"][0]["extensions"], json!({"code": "BAD_USER_INPUT", "argument": "variables.yes"}));
        assert!(answer.get("data").is_none(), "{answer}");
        assert_eq!(user.ask_with(needed, json!({"yes": true})).await["viewer"]["name"], "ADMIN");
        assert_eq!(user.ask_with(needed, json!({"yes": false})).await, json!({}));
    }
}
