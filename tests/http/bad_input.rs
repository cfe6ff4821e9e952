//! Invalid input gets a clear error that names the argument.

use serde_json::json;
use test_support::{EXAMPLE, on_each_database};

on_each_database! {
    async fn errors_have_a_code_and_name_the_argument(app: TestApp) {
        app.import_example();
        let user = app.sign_in("admin").await;
        let statistics = |arguments: &str| format!("{{ statistics({arguments}) {{ id }} }}");
        let range = |from: &str, to: &str| format!("range: {{from: \"{from}\", to: \"{to}\"}}");
        let ids = user.graphql(&format!("{{ {EXAMPLE} {{ id total {{ visitors {{ id patients(first: 1) {{ pageInfo {{ endCursor }} }} visits(first: 1) {{ pageInfo {{ endCursor }} }} }} }} }} patients(first: 1) {{ nodes {{ id }} pageInfo {{ endCursor }} }} hospital {{ departments {{ id }} }} }}")).await;
        let text = |pointer: &str| ids.pointer(pointer).unwrap().as_str().unwrap().to_owned();
        let (snapshot, patient, department) = (text("/statistics/id"), text("/patients/nodes/0/id"), text("/hospital/departments/0/id"));
        let list_cursor = text("/statistics/total/visitors/patients/pageInfo/endCursor");
        let root_cursor = text("/patients/pageInfo/endCursor");
        let total = |list: &str| format!("{{ {EXAMPLE} {{ total {{ visitors {{ {list} {{ totalCount }} }} }} }} }}");
        let cases = [
            (statistics(&format!("period: DAY, {}", range("2025-02-01", "2025-01-01"))), "BAD_USER_INPUT", "range.from"),
            (statistics(&format!("period: DAY, {}", range("2015-01-01", "2025-01-10"))), "BAD_USER_INPUT", "range"),
            (statistics(&format!("period: DAY, {}", range("1899-12-31", "1900-01-10"))), "BAD_USER_INPUT", "range.from"),
            (statistics(&format!("period: YEAR, {}", range("2200-01-01", "2201-01-01"))), "BAD_USER_INPUT", "range.to"),
            (statistics(&format!("period: DAY, {}", range("2025-02-30", "2025-03-01"))), "BAD_USER_INPUT", "range.from"),
            (statistics(&format!("period: DAY, {}", range("2025-2-3", "2025-03-01"))), "BAD_USER_INPUT", "range.from"),
            (statistics(&format!("period: DAY, {}, asOf: \"1800-01-01\"", range("2025-02-01", "2025-03-01"))), "BAD_USER_INPUT", "asOf"),
            (statistics(&format!("period: DAY, {}, filter: {{departmentIds: []}}", range("2025-02-01", "2025-03-01"))), "BAD_USER_INPUT", "filter.departmentIds"),
            (statistics(&format!("period: DAY, {}, filter: {{channels: []}}", range("2025-02-01", "2025-03-01"))), "BAD_USER_INPUT", "filter.channels"),
            (statistics(&format!("period: DAY, {}, filter: {{doctorIds: [\"{department}\"]}}", range("2025-02-01", "2025-03-01"))), "BAD_USER_INPUT", "filter.doctorIds.0"),
            (statistics(&format!("period: DAY, {}, filter: {{departmentIds: [\"{department}\", \"RP__\"]}}", range("2025-02-01", "2025-03-01"))), "NOT_FOUND", "filter.departmentIds.1"),
            ("{ patient(id: \"nonsense\") { id } }".to_owned(), "BAD_USER_INPUT", "id"),
            (format!("{{ visit(id: \"{patient}\") {{ id }} }}"), "BAD_USER_INPUT", "id"),
            (format!("{{ statisticsSnapshot(id: \"{patient}\") {{ id }} }}"), "BAD_USER_INPUT", "id"),
            (format!("{{ nodes(ids: [\"{snapshot}\", \"\"]) {{ id }} }}"), "BAD_USER_INPUT", "ids.1"),
            ("{ patients(first: 1, last: 1) { totalCount } }".to_owned(), "BAD_USER_INPUT", "last"),
            ("{ patients(first: -1) { totalCount } }".to_owned(), "BAD_USER_INPUT", "first"),
            ("{ visits(last: 101) { totalCount } }".to_owned(), "BAD_USER_INPUT", "last"),
            ("{ visits(filter: {statuses: []}) { totalCount } }".to_owned(), "BAD_USER_INPUT", "filter.statuses"),
            ("{ visits(filter: {dates: {from: \"2025-02-01\", to: \"2025-01-01\"}}) { totalCount } }".to_owned(), "BAD_USER_INPUT", "filter.dates.from"),
            ("{ patients(filter: {search: \"  \"}) { totalCount } }".to_owned(), "BAD_USER_INPUT", "filter.search"),
            (format!("{{ patients(after: \"{list_cursor}\") {{ totalCount nodes {{ id }} }} }}"), "BAD_USER_INPUT", "after"),
            (format!("{{ patients(after: \"{root_cursor}\", orderBy: {{field: NAME}}) {{ totalCount nodes {{ id }} }} }}"), "BAD_USER_INPUT", "after"),
            (format!("{{ visits(after: \"{root_cursor}\") {{ nodes {{ id }} }} }}"), "BAD_USER_INPUT", "after"),
            (total(&format!("patients(after: \"{root_cursor}\")")), "BAD_USER_INPUT", "after"),
            (total(&format!("patients(before: \"{list_cursor}\", orderBy: {{field: NAME}})")), "BAD_USER_INPUT", "before"),
            (total(&format!("visits(after: \"{list_cursor}\")")), "BAD_USER_INPUT", "after"),
            (format!("{{ {EXAMPLE} {{ total {{ newPatients {{ patients(after: \"{list_cursor}\") {{ totalCount }} }} }} }} }}"), "BAD_USER_INPUT", "after"),
            (total("patients(first: 1000)"), "BAD_USER_INPUT", "first"),
        ];
        for (query, code, argument) in cases {
            assert_eq!(user.graphql_error(&query).await, (code.to_owned(), argument.to_owned()), "{query}");
        }
        // A well-formed ID that does not exist is null.
        let response = user.graphql("{ patient(id: \"UP__\") { id } visit(id: \"Vv__\") { id } node(id: \"UwAAAAAAAAAAAAAAAAAAAAA\") { id } }").await;
        assert!(response["patient"].is_null() && response["visit"].is_null());
    }

    async fn a_year_by_day_with_all_ids_is_within_limits(app: TestApp) {
        app.import_example();
        let user = app.sign_in("admin").await;
        let lists: Vec<String> = test_support::KINDS.iter().map(|kind| format!("{kind}: cohort(kind: {kind}) {{ patientCount visitCount patientIds visitIds }}")).collect();
        let response = user.graphql(&format!("{{ statistics(period: DAY, range: {{from: \"2025-01-01\", to: \"2025-12-31\"}}) {{ buckets {{ start {} }} }} }}", lists.join(" "))).await;
        assert_eq!(response["statistics"]["buckets"].as_array().unwrap().len(), 365);
        let ten = user.graphql("{ statistics(period: DAY, range: {from: \"2015-01-01\", to: \"2024-12-31\"}) { buckets { start } } }").await;
        assert_eq!(ten["statistics"]["buckets"].as_array().unwrap().len(), 3_653);
    }

    async fn arguments_out_of_bounds_are_rejected(app: TestApp) {
        let user = app.sign_in("admin").await;
        let spread = (0..12).map(|i| format!("fragment f{i} on Query {{ {} }}", format!("...f{} ", i + 1).repeat(5))).collect::<String>();
        let bomb = format!("{{ ...f0 }} {spread} fragment f12 on Query {{ __typename }}");
        user.expect_error(&bomb, "QUERY_TOO_COSTLY").await;
        let circle = "{ ...a } fragment a on Query { ...b } fragment b on Query { ...a }";
        user.expect_error(circle, "GRAPHQL_VALIDATION_FAILED").await;
        let mut deep = "{ visits { nodes { id } } }".to_owned();
        for _ in 0..12 {
            deep = format!("{{ visits {{ nodes {{ patient {deep} }} }} }}");
        }
        user.expect_error(&deep, "QUERY_TOO_COSTLY").await;
        user.expect_error("{ viewer { nothing } }", "GRAPHQL_VALIDATION_FAILED").await;
        user.expect_error("{ viewer { name }", "GRAPHQL_PARSE_FAILED").await;
        let unknown = user.graphql_response("query ($p: Period!) { statistics(period: $p, range: {from: \"2025-01-01\", to: \"2025-01-01\"}) { asOf } }", json!({"p": "FORTNIGHT"})).await;
        assert!(unknown["errors"][0]["extensions"]["code"].is_string());
    }

    async fn error_bodies_match_the_snapshot(app: TestApp) {
        let user = app.sign_in("support").await;
        let queries = [
            "{ statistics(period: DAY, range: {from: \"2025-02-01\", to: \"2025-01-01\"}) { id } }",
            "{ statistics(period: DAY, range: {from: \"2025-02-30\", to: \"2025-03-01\"}) { id } }",
            "{ statistics(period: DAY, range: {from: \"1900-01-01\", to: \"2025-03-01\"}) { id } }",
            "{ statistics(period: DAY, range: {from: \"2025-01-01\", to: \"2025-01-02\"}, filter: {doctorIds: [\"Tw__\"]}) { id } }",
            "{ patients(first: 101) { totalCount } }",
            "{ patients(after: \"x\") { totalCount } }",
            "{ patients(orderBy: {field: NAME}) { totalCount } }",
            "{ patient(id: \"x\") { id } }",
            "{ nothing }",
            "{ viewer { name }",
            "query ($id: ID!) { patient(id: $id) { id } }",
        ];
        let mut bodies = String::new();
        for query in queries {
            let response = user.graphql_response(query, json!({})).await;
            bodies.push_str(&format!("{query}\n{}\n\n", serde_json::to_string_pretty(&response).unwrap()));
        }
        let front_desk = app.sign_in("desk").await;
        let query = "mutation { confirmVisit(input: {code: \"0\"}) { visit { status } } }";
        let response = front_desk.graphql_response(query, json!({})).await;
        bodies.push_str(&format!("{query}\n{}\n\n", serde_json::to_string_pretty(&response).unwrap()));
        insta::assert_snapshot!("error_bodies", bodies);
    }
}
