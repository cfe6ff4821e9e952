//! Responses with failed, skipped and repeated fields. [`test_support::conformance`] checks every response of the suite
//! against the specification.

use serde_json::{Value, json};
use test_support::{EXAMPLE, KINDS, on_each_database};

on_each_database! {
    async fn a_failed_field_nulls_its_nearest_nullable_parent(app: TestApp) {
        app.import_example();
        let user = app.sign_in("desk").await;
        let id = user.graphql("{ patients { nodes { id } } }").await["patients"]["nodes"][0]["id"].clone();
        let held = user.graphql(&format!("{{ {EXAMPLE} {{ id }} }}")).await["statistics"]["id"].clone();
        for (query, data, path) in [
            // Not for DESK, and non-null.
            ("{ viewer { login } audit { totalCount } }", Value::Null, json!(["audit"])),
            ("{ viewer { login } patient(id: \"x\") { id } }", json!({"viewer": {"login": "desk"}, "patient": null}), json!(["patient"])),
            ("query ($id: ID!) { patient(id: $id) { chartNo visits(first: 101) { totalCount } } }", json!({"patient": null}), json!(["patient", "visits"])),
            ("query ($id: ID!) { patient(id: $id) { visits(first: 101) { totalCount } } }", json!({"patient": null}), json!(["patient", "visits"])),
            ("query ($id: ID!) { nodes(ids: [$id]) { ... on Patient { visits(first: 101) { totalCount } } } }", json!({"nodes": [null]}), json!(["nodes", 0, "visits"])),
            ("query ($held: ID!) { held: statisticsSnapshot(id: $held) { period explain(patientId: \"x\") { patient { id } } } }",
             json!({"held": {"period": "MONTH", "explain": null}}), json!(["held", "explain"])),
            ("query ($held: ID!) { held: statisticsSnapshot(id: $held) { explain(patientId: \"x\") { patient { id } } } }",
             json!({"held": {"explain": null}}), json!(["held", "explain"])),
            ("query ($held: ID!) { statisticsSnapshot(id: $held) { buckets { start visitors { patients(first: 101) { totalCount } } } } }",
             json!({"statisticsSnapshot": null}), json!(["statisticsSnapshot", "buckets", 0, "visitors", "patients"])),
        ] {
            let response = user.graphql_response(query, json!({"id": id, "held": held})).await;
            assert_eq!(response.get("data"), Some(&data), "{query}: {response}");
            assert!(response["errors"].as_array().unwrap().iter().any(|error| error["path"] == path), "{query}: {response}");
        }
    }

    async fn an_object_with_an_empty_selection_is_empty(app: TestApp) {
        app.import_example();
        let user = app.sign_in("desk").await;
        let id = user.graphql("{ patients { nodes { id } } }").await["patients"]["nodes"][0]["id"].clone();
        let query = format!("query ($id: ID!, $no: Boolean! = false, $yes: Boolean! = true) {{
            patient(id: $id) {{ name @skip(if: $yes) ...F @include(if: $no) }}
            node(id: $id) {{ ... on Visit {{ date }} }}
            viewer {{ login @include(if: $yes) name @include(if: $no) }}
            {EXAMPLE} {{ total {{ start @skip(if: true) }} buckets {{ end @include(if: $no) }} }}
        }} fragment F on Patient {{ phone }}");
        let response = user.graphql_with(&query, json!({"id": id})).await;
        assert_eq!(response, json!({
            "patient": {}, "node": {}, "viewer": {"login": "desk"}, "statistics": {"total": {}, "buckets": [{}, {}]},
        }));
        assert_eq!(user.graphql("{ viewer @skip(if: true) { login } }").await, json!({}));
        // The ID of a patient that does not exist in the hospital.
        let none = user.graphql_response("query ($id: ID!) { node(id: $id) { id @skip(if: true) } }", json!({"id": "UH__"})).await;
        assert_eq!(none["data"], json!({"node": null}), "{none}");
    }

    async fn a_mutation_selected_twice_executes_once(app: TestApp) {
        let admin = app.sign_in("admin").await;
        let query = "mutation ($input: AddDepartmentInput!) {
            addDepartment(input: $input) { department { name } } ...F
        } fragment F on Mutation { addDepartment(input: $input) { department { retiredAt } } }";
        let response = admin.graphql_with(query, json!({"input": {"name": "Eyes"}})).await;
        assert_eq!(response, json!({"addDepartment": {"department": {"name": "Eyes", "retiredAt": null}}}));
    }

    async fn id_lists_are_bounded_by_response_size(app: TestApp) {
        app.import("patients", "H1", "chart_no,name\nA,Ann\n");
        let rows: String = (0..30_000).map(|i| format!("{i},A,2025-05-{:02},COMPLETED\n", i % 28 + 1)).collect();
        app.import("visits", "H1", &format!("visit_no,chart_no,date,status\n{rows}"));
        let user = app.sign_in("desk").await;
        let ask = async |aliases: usize| {
            let lists: String = (0..aliases).map(|i| format!("a{i}: visitors {{ visitIds }} ")).collect();
            user.graphql_response(&format!("{{ {EXAMPLE} {{ total {{ {lists} }} }} }}"), json!({})).await
        };
        let few = ask(100).await;
        assert!(few.get("errors").is_none());
        assert_eq!(few["data"]["statistics"]["total"]["a99"]["visitIds"].as_array().unwrap().len(), 30_000);
        let many = ask(190).await;
        assert_eq!(many["data"], Value::Null);
        let error = &many["errors"][0];
        assert_eq!(error["extensions"]["code"], "QUERY_TOO_COSTLY", "{error}");
        assert_eq!(error["path"].as_array().unwrap().len(), 4, "{error}");
        // As documented: each of the eight lists is within the limit.
        let lists: String = KINDS.iter().map(|kind| format!("{kind}: cohort(kind: {kind}) {{ patientIds visitIds }} ")).collect();
        user.graphql(&format!("{{ {EXAMPLE} {{ buckets {{ {lists} }} total {{ {lists} }} }} }}")).await;
    }
}
