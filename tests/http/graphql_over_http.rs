//! The GraphQL over HTTP specification, and the other routes.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use test_support::on_each_database;

/// Method, headers, query string and body; the status and the code of the response.
type RequestCase = (
    Method,
    &'static [(&'static str, &'static str)],
    &'static str,
    &'static str,
    StatusCode,
    &'static str,
);

const RESPONSE: &str = "application/graphql-response+json";

on_each_database! {
    async fn requests_and_responses_follow_the_specification(app: TestApp) {
        let url = format!("{}/graphql", app.base());
        let send = async |method: Method, headers: &[(&str, &str)], query: &str, body: &str| {
            let mut request = app.http().request(method, format!("{url}{query}")).body(body.to_owned());
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let response = request.send().await.unwrap();
            let headers = response.headers().clone();
            let header = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default();
            let seen = (response.status(), header("content-type"), header("allow"));
            (seen.0, seen.1, seen.2, response.json::<Value>().await.unwrap())
        };
        const JSON_TYPE: (&str, &str) = ("content-type", "application/json");
        const ASK: &str = r#"{"query": "{ __typename }"}"#;
        for (accept, expected) in [(RESPONSE, RESPONSE), ("application/json", "application/json"), ("*/*", "application/json"),
            ("application/json;q=0.5, application/graphql-response+json", RESPONSE)] {
            let (status, content_type, _, body) = send(Method::POST, &[JSON_TYPE, ("accept", accept)], "", ASK).await;
            assert_eq!((status, body), (StatusCode::OK, json!({"data": {"__typename": "Query"}})));
            assert!(content_type.starts_with(expected), "{accept}: {content_type}");
        }
        let cases: [RequestCase; 15] = [
            (Method::POST, &[JSON_TYPE, ("accept", "text/html")], "", ASK, StatusCode::NOT_ACCEPTABLE, "BAD_USER_INPUT"),
            (Method::POST, &[("content-type", "text/plain")], "", ASK, StatusCode::UNSUPPORTED_MEDIA_TYPE, "BAD_USER_INPUT"),
            (Method::POST, &[("content-type", "application/x-www-form-urlencoded")], "", "query={__typename}", StatusCode::UNSUPPORTED_MEDIA_TYPE, "BAD_USER_INPUT"),
            (Method::POST, &[], "", ASK, StatusCode::UNSUPPORTED_MEDIA_TYPE, "BAD_USER_INPUT"),
            (Method::POST, &[JSON_TYPE], "", "{", StatusCode::BAD_REQUEST, "BAD_USER_INPUT"),
            (Method::POST, &[JSON_TYPE], "", "[]", StatusCode::BAD_REQUEST, "BAD_USER_INPUT"),
            (Method::POST, &[JSON_TYPE], "", "{}", StatusCode::BAD_REQUEST, "BAD_USER_INPUT"),
            (Method::POST, &[JSON_TYPE], "", r#"{"query": "{ __typename }", "variables": []}"#, StatusCode::BAD_REQUEST, "BAD_USER_INPUT"),
            (Method::POST, &[JSON_TYPE, ("accept", RESPONSE)], "", r#"{"query": "{"}"#, StatusCode::BAD_REQUEST, "GRAPHQL_PARSE_FAILED"),
            (Method::POST, &[JSON_TYPE], "", r#"{"query": "{"}"#, StatusCode::OK, "GRAPHQL_PARSE_FAILED"),
            (Method::POST, &[JSON_TYPE, ("accept", RESPONSE)], "", r#"{"query": "mutation { nothing }"}"#, StatusCode::UNAUTHORIZED, "UNAUTHENTICATED"),
            (Method::GET, &[], "?query=mutation%7BsignOut%7BsignedOut%7D%7D", "", StatusCode::METHOD_NOT_ALLOWED, "BAD_USER_INPUT"),
            (Method::GET, &[], "", "", StatusCode::BAD_REQUEST, "BAD_USER_INPUT"),
            (Method::PUT, &[JSON_TYPE], "", ASK, StatusCode::METHOD_NOT_ALLOWED, "BAD_USER_INPUT"),
            (Method::DELETE, &[], "", "", StatusCode::METHOD_NOT_ALLOWED, "BAD_USER_INPUT"),
        ];
        for (method, headers, query, body, expected, code) in cases {
            let (status, _, allow, answer) = send(method.clone(), headers, query, body).await;
            assert_eq!((status, &answer["errors"][0]["extensions"]["code"]), (expected, &json!(code)), "{method} {query} {body}");
            assert_eq!(allow.is_empty(), status != StatusCode::METHOD_NOT_ALLOWED);
            assert!(answer.get("data").is_none());
        }
        let (status, .., body) = send(Method::GET, &[], "?query=query%20a%7B__typename%7Dquery%20b%7Bx%3A__typename%7D&operationName=b", "").await;
        assert_eq!((status, body), (StatusCode::OK, json!({"data": {"x": "Query"}})));
        let big = format!(r#"{{"query": "{{ __typename }}", "variables": {{"x": "{}"}}}}"#, "x".repeat(2 << 20));
        assert_eq!(send(Method::POST, &[JSON_TYPE], "", &big).await.0, StatusCode::PAYLOAD_TOO_LARGE);
        // A validation error, with a token.
        let user = app.sign_in("desk").await;
        let bearer = format!("Bearer {}", user.token);
        let (status, _, _, answer) = send(Method::POST, &[JSON_TYPE, ("accept", RESPONSE), ("authorization", &bearer)], "", r#"{"query": "{ nothing }"}"#).await;
        assert_eq!((status, &answer["errors"][0]["extensions"]["code"]), (StatusCode::BAD_REQUEST, &json!("GRAPHQL_VALIDATION_FAILED")));
        assert!(answer.get("data").is_none());
    }

    async fn health_metrics_and_explorer_respond(app: TestApp) {
        let get = async |path: &str| app.http().get(format!("{}{path}", app.base())).send().await.unwrap();
        for path in ["/healthz", "/readyz", "/metrics", "/graphiql", "/graphiql/hint.json"] {
            assert_eq!(get(path).await.status(), StatusCode::OK, "{path}");
        }
        assert!(get("/metrics").await.text().await.unwrap().contains("rollcall_graphql_requests_total"));
        assert!(get("/graphiql").await.headers().contains_key("content-security-policy"));
    }
}
