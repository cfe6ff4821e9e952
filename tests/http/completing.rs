//! Answers in which something failed, is left out, or is selected more than once. That every answer of the suite is as the
//! specification says is checked in `conformity`.

use serde_json::{Value, json};

use crate::harness::{EXAMPLE, KINDS, on_each_database};

on_each_database! {
    async fn a_failed_field_is_null_or_its_nearest_nullable_parent_is(app: App) {
        app.example();
        let user = app.sign_in("desk").await;
        let id = user.ask("{ patients { nodes { id } } }").await["patients"]["nodes"][0]["id"].clone();
        let held = user.ask(&format!("{{ {EXAMPLE} {{ id }} }}")).await["statistics"]["id"].clone();
        for (query, data, path) in [
            // Not for DESK, and never null.
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
            let answer = user.try_with(query, json!({"id": id, "held": held})).await;
            assert_eq!(answer.get("data"), Some(&data), "{query}: {answer}");
            assert!(answer["errors"].as_array().unwrap().iter().any(|error| error["path"] == path), "{query}: {answer}");
        }
    }

    async fn an_object_of_which_nothing_is_selected_is_empty(app: App) {
        app.example();
        let user = app.sign_in("desk").await;
        let id = user.ask("{ patients { nodes { id } } }").await["patients"]["nodes"][0]["id"].clone();
        let query = format!("query ($id: ID!, $no: Boolean! = false, $yes: Boolean! = true) {{
            patient(id: $id) {{ name @skip(if: $yes) ...F @include(if: $no) }}
            node(id: $id) {{ ... on Visit {{ date }} }}
            viewer {{ login @include(if: $yes) name @include(if: $no) }}
            {EXAMPLE} {{ total {{ start @skip(if: true) }} buckets {{ end @include(if: $no) }} }}
        }} fragment F on Patient {{ phone }}");
        let answer = user.ask_with(&query, json!({"id": id})).await;
        assert_eq!(answer, json!({
            "patient": {}, "node": {}, "viewer": {"login": "desk"}, "statistics": {"total": {}, "buckets": [{}, {}]},
        }));
        assert_eq!(user.ask("{ viewer @skip(if: true) { login } }").await, json!({}));
        // The id of a patient whom the hospital does not have.
        let none = user.try_with("query ($id: ID!) { node(id: $id) { id @skip(if: true) } }", json!({"id": "UH__"})).await;
        assert_eq!(none["data"], json!({"node": null}), "{none}");
    }

    async fn a_change_that_is_selected_twice_is_made_once(app: App) {
        let admin = app.sign_in("admin").await;
        let query = "mutation ($input: AddDepartmentInput!) {
            addDepartment(input: $input) { department { name } } ...F
        } fragment F on Mutation { addDepartment(input: $input) { department { retiredAt } } }";
        let answer = admin.ask_with(query, json!({"input": {"name": "Eyes"}})).await;
        assert_eq!(answer, json!({"addDepartment": {"department": {"name": "Eyes", "retiredAt": null}}}));
    }

    async fn lists_of_ids_are_bounded_by_the_bytes_of_the_response(app: App) {
        app.import("patients", "H1", "chart_no,name\nA,Ann\n");
        let rows: String = (0..30_000).map(|i| format!("{i},A,2025-05-{:02},COMPLETED\n", i % 28 + 1)).collect();
        app.import("visits", "H1", &format!("visit_no,chart_no,date,status\n{rows}"));
        let user = app.sign_in("desk").await;
        let ask = async |aliases: usize| {
            let lists: String = (0..aliases).map(|i| format!("a{i}: visitors {{ visitIds }} ")).collect();
            user.try_with(&format!("{{ {EXAMPLE} {{ total {{ {lists} }} }} }}"), json!({})).await
        };
        let few = ask(100).await;
        assert!(few.get("errors").is_none());
        assert_eq!(few["data"]["statistics"]["total"]["a99"]["visitIds"].as_array().unwrap().len(), 30_000);
        let many = ask(190).await;
        assert_eq!(many["data"], Value::Null);
        let error = &many["errors"][0];
        assert_eq!(error["extensions"]["code"], "QUERY_TOO_COSTLY", "{error}");
        assert_eq!(error["path"].as_array().unwrap().len(), 4, "{error}");
        // As documented: each of the eight lists passes.
        let lists: String = KINDS.iter().map(|kind| format!("{kind}: cohort(kind: {kind}) {{ patientIds visitIds }} ")).collect();
        user.ask(&format!("{{ {EXAMPLE} {{ buckets {{ {lists} }} total {{ {lists} }} }} }}")).await;
    }
}
