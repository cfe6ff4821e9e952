//! The HTTP endpoint: rate limits, proxies, CORS, TLS, and malformed requests.

use std::process::Command;
use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use test_support::{PASSWORD, SERVE, TestApp, TestServer, on_each_database};

const HELLO: &str = r#"{"query": "{ __typename }"}"#;
const SIGN_IN: &str = "mutation ($i: SignInInput!) { signIn(input: $i) { session { accessToken } } }";

/// Starts another server on the same database with these flags.
fn serve(app: &TestApp, flags: &[&str]) -> TestServer {
    TestServer::spawn(
        app.command(&[SERVE, flags].concat())
            .stderr(std::process::Stdio::null()),
    )
}

/// The response to a POST of this body with these headers.
async fn send(app: &TestApp, base: &str, headers: &[(&str, &str)], body: &str) -> reqwest::Response {
    let mut request = app.http().post(format!("{base}/graphql")).body(body.to_owned());
    if !headers.iter().any(|(name, _)| *name == "content-type") {
        request = request.header("content-type", "application/json");
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.send().await.unwrap()
}

async fn sign_in(app: &TestApp, login: &str, password: &str) -> (StatusCode, Option<String>, Value) {
    let input = json!({"hospital": "H1", "login": login, "password": password});
    let body = json!({"query": SIGN_IN, "variables": {"i": input}}).to_string();
    let response = send(app, app.base(), &[], &body).await;
    let wait = response
        .headers()
        .get("retry-after")
        .map(|wait| wait.to_str().unwrap().to_owned());
    (response.status(), wait, response.json().await.unwrap())
}

on_each_database! {
    async fn syntax_errors_have_locations(app: TestApp) {
        let response: Value = send(app, app.base(), &[], &json!({"query": "{\n  viewer {{ name }\n}"}).to_string()).await.json().await.unwrap();
        let error = &response["errors"][0];
        assert_eq!(error["extensions"]["code"], "GRAPHQL_PARSE_FAILED");
        assert_eq!(error["locations"], json!([{"line": 2, "column": 11}]), "{error}");
    }

    async fn the_root_redirects_to_the_explorer(app: TestApp) {
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        let response = client.get(format!("{}/", app.base())).send().await.unwrap();
        assert_eq!((response.status(), &response.headers()["location"]), (StatusCode::TEMPORARY_REDIRECT, &"graphiql".parse().unwrap()));
        assert!(response.headers().contains_key("content-security-policy"));
        let page = app.http().get(app.base()).send().await.unwrap();
        assert_eq!(page.url().path(), "/graphiql");
    }

    async fn introspection_works(app: TestApp) {
        let user = app.sign_in("desk").await;
        let response = user.graphql("{ __schema { said: description } date: __type(name: \"Date\") { specifiedByURL } at: __type(name: \"DateTime\") { specifiedByURL } }").await;
        assert!(response["__schema"]["said"].as_str().unwrap().starts_with("The admin console's API"), "{response}");
        for scalar in ["date", "at"] {
            assert!(response[scalar]["specifiedByURL"].as_str().unwrap().starts_with("https://"), "{response}");
        }
    }

    async fn failed_sign_ins_back_off_exponentially(app: TestApp) {
        // Whether the login exists makes no difference.
        for login in ["desk", "nobody"] {
            for _ in 0..6 {
                let (status, _, response) = sign_in(app, login, "wrong password").await;
                assert_eq!((status, &response["errors"][0]["extensions"]["code"]), (StatusCode::OK, &json!("INVALID_CREDENTIALS")));
            }
            // Not even the right password is accepted.
            let (status, wait, response) = sign_in(app, login, PASSWORD).await;
            let extensions = &response["errors"][0]["extensions"];
            assert_eq!((status, wait.as_deref()), (StatusCode::TOO_MANY_REQUESTS, Some("1")), "{login}: {response}");
            assert_eq!(extensions, &json!({"code": "RATE_LIMITED", "retryAfter": 1}));
        }
        assert!(sign_in(app, "support", PASSWORD).await.2["data"]["signIn"]["session"].is_object());
        tokio::time::sleep(Duration::from_millis(1_100)).await;
        for _ in 0..2 {
            let (.., response) = sign_in(app, "desk", PASSWORD).await;
            assert!(response["data"]["signIn"]["session"].is_object(), "{response}");
        }
        // Success resets the back-off of that login.
        for _ in 0..2 {
            assert_eq!(sign_in(app, "desk", "wrong password").await.0, StatusCode::OK);
        }
        // Failures also count for the address, which has to wait for every login.
        let mut failures = 0;
        while sign_in(app, &format!("nobody {failures}"), PASSWORD).await.0 == StatusCode::OK {
            failures += 1;
            assert!(failures < 20);
        }
        let (status, _, response) = sign_in(app, "admin", PASSWORD).await;
        assert_eq!((status, &response["errors"][0]["extensions"]["code"]), (StatusCode::TOO_MANY_REQUESTS, &json!("RATE_LIMITED")));
        assert!(app.metric("rollcall_refusals_total{code=\"RATE_LIMITED\"}").await >= 4);
    }

    async fn rates_are_limited_by_viewer_and_by_address(app: TestApp) {
        let server = serve(app, &["--requests-per-second", "5", "--requests-per-second-per-address", "40", "--trusted-proxies", "127.0.0.0/8,::1"]);
        let bearer = format!("Bearer {}", app.sign_in("admin").await.token);
        let other = format!("Bearer {}", app.sign_in("desk").await.token);
        let ask = async |address: &str, token: &str| {
            let headers = [("x-forwarded-for", address), ("authorization", token), ("accept", "application/graphql-response+json")];
            send(app, &server.base, &headers, r#"{"query": "{ viewer { login } }"}"#).await
        };
        let mut refused = None;
        for _ in 0..20 {
            let response = ask("192.0.2.1", &bearer).await;
            if response.status() == StatusCode::TOO_MANY_REQUESTS {
                refused = Some(response);
                break;
            }
        }
        let refused = refused.expect("the viewer is refused");
        assert_eq!(refused.headers()["retry-after"], "1");
        assert!(refused.headers()["content-type"].to_str().unwrap().starts_with("application/graphql-response+json"));
        let body: Value = refused.json().await.unwrap();
        assert_eq!(body["errors"][0]["extensions"], json!({"code": "RATE_LIMITED", "retryAfter": 1}));
        assert_eq!(ask("192.0.2.1", &other).await.status(), StatusCode::OK, "another viewer");
        // The client's address is the last one; those before it were written by the client.
        let mut refused = false;
        for attempt in 0..200 {
            refused |= send(app, &server.base, &[("x-forwarded-for", &format!("198.51.100.{attempt}, 192.0.2.7"))], HELLO).await.status() == StatusCode::TOO_MANY_REQUESTS;
        }
        assert!(refused);
        assert_eq!(send(app, &server.base, &[("x-forwarded-for", "192.0.2.8")], HELLO).await.status(), StatusCode::OK);
        // A server without trusted proxies ignores the header.
        assert_eq!(send(app, app.base(), &[("x-forwarded-for", "192.0.2.7")], HELLO).await.status(), StatusCode::OK);
    }

    async fn metrics_require_authorization(app: TestApp) {
        let server = serve(app, &["--metrics-token", "s3cret"]);
        let get = async |base: &str, header: (&str, &str)| {
            let response = app.http().get(format!("{base}/metrics")).header(header.0, header.1).send().await.unwrap();
            (response.status(), response.text().await.unwrap().contains("rollcall_"))
        };
        assert_eq!(get(&server.base, ("authorization", "Bearer s3cret")).await, (StatusCode::OK, true));
        for wrong in ["Bearer s3cre", "s3cret", ""] {
            assert_eq!(get(&server.base, ("authorization", wrong)).await, (StatusCode::UNAUTHORIZED, false), "{wrong}");
        }
        // Clients on this machine need no token, unless they are forwarded by a proxy.
        assert_eq!(get(app.base(), ("accept", "*/*")).await, (StatusCode::OK, true));
        assert_eq!(get(app.base(), ("x-forwarded-for", "192.0.2.1")).await, (StatusCode::UNAUTHORIZED, false));
    }

    async fn cors_allows_only_configured_origins(app: TestApp) {
        let server = serve(app, &["--cors-origins", "https://console.example,https://other.example"]);
        let preflight = async |base: &str, origin: &str| {
            let request = app.http().request(Method::OPTIONS, format!("{base}/graphql")).header("origin", origin)
                .header("access-control-request-method", "POST").header("access-control-request-headers", "authorization,content-type,traceparent,tracestate");
            let response = request.send().await.unwrap();
            let header = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
            let headers = header("access-control-allow-headers").unwrap_or_default();
            let allowed = |name: &str| headers.split(',').any(|allowed| allowed.trim() == name);
            assert!(headers.is_empty() || ["authorization", "content-type", "traceparent", "tracestate"].into_iter().all(allowed), "{headers}");
            header("access-control-allow-origin")
        };
        assert_eq!(preflight(app.base(), "https://console.example").await, None);
        assert_eq!(preflight(&server.base, "https://console.example").await.as_deref(), Some("https://console.example"));
        assert_eq!(preflight(&server.base, "https://evil.example").await, None);
        for (origin, allowed) in [("https://console.example", true), ("https://evil.example", false), ("null", false)] {
            let response = send(app, &server.base, &[("origin", origin)], HELLO).await;
            assert_eq!(response.headers().contains_key("access-control-allow-origin"), allowed, "{origin}");
            assert!(!response.headers().contains_key("access-control-allow-credentials"));
        }
        for wrong in ["*", "console.example", "https://console.example/"] {
            let output = app.try_run_cli(&["serve", "--cors-origins", wrong]);
            assert!(String::from_utf8_lossy(&output.stderr).contains("must be an origin"), "{wrong}");
        }
    }

    async fn every_response_has_security_headers(app: TestApp) {
        for path in ["/graphql", "/graphiql", "/graphiql/hint.json", "/healthz", "/metrics", "/nowhere"] {
            let response = app.http().get(format!("{}{path}", app.base())).send().await.unwrap();
            let header = |name: &str| response.headers().get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
            assert_eq!(header("x-content-type-options"), "nosniff", "{path}");
            assert_eq!(header("referrer-policy"), "no-referrer", "{path}");
            assert_eq!(header("x-frame-options"), "DENY", "{path}");
            assert!(header("content-security-policy").contains("frame-ancestors 'none'"), "{path}");
            assert_eq!(header("strict-transport-security"), "", "{path}");
        }
    }

    async fn tls_is_served_with_a_certificate(app: TestApp) {
        let (certificate, key) = (app.write_file("certificate.pem", ""), app.write_file("key.pem", ""));
        let (certificate, key) = (certificate.to_str().unwrap(), key.to_str().unwrap());
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"])
            .args(["-keyout", key, "-out", certificate]).output().unwrap();
        assert!(made.status.success());
        let wrong = app.try_run_cli(&["serve", "--tls-certificate", key, "--tls-key", certificate]);
        assert!(String::from_utf8_lossy(&wrong.stderr).contains("cannot be used"));
        let server = serve(app, &["--tls-certificate", certificate, "--tls-key", key]);
        assert!(server.base.starts_with("https://"), "{}", server.base);
        let curl = async |flag: &'static str| {
            let mut command = Command::new("curl");
            command.args(["-si", "--cacert", certificate, flag, "-H", "Content-Type: application/json", "-d", HELLO, &format!("{}/graphql", server.base)]);
            let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
            String::from_utf8(output.stdout).unwrap().to_lowercase()
        };
        for (flag, first) in [("--http1.1", "http/1.1 200"), ("--http2", "http/2 200")] {
            let printed = curl(flag).await;
            assert!(printed.starts_with(first), "{printed}");
            assert!(printed.contains("strict-transport-security: max-age=") && printed.contains("__typename"), "{printed}");
        }
        // A plain HTTP connection gets no response, and does not block other clients.
        let plain = server.base.replacen("https", "http", 1);
        assert!(app.http().get(format!("{plain}/healthz")).send().await.is_err());
        assert!(curl("--http1.1").await.starts_with("http/1.1 200"));
        server.terminate();
        assert!(server.wait().await.success());
    }

    async fn persisted_queries_are_found_by_hash(app: TestApp) {
        let bearer = format!("Bearer {}", app.sign_in("admin").await.token);
        let query = "query ($n: Int) { patients(first: $n) { totalCount } }";
        let hash = hex::encode(Sha256::digest(query));
        let extensions = json!({"persistedQuery": {"version": 1, "sha256Hash": hash}});
        let ask = async |token: &str, body: Value| {
            let response = send(app, app.base(), &[("authorization", token)], &body.to_string()).await;
            (response.status(), response.json::<Value>().await.unwrap())
        };
        let code = |response: &(StatusCode, Value)| response.1["errors"][0]["extensions"]["code"].as_str().unwrap_or_default().to_owned();
        let unknown = ask(&bearer, json!({"extensions": extensions})).await;
        assert_eq!((unknown.0, code(&unknown).as_str(), &unknown.1["errors"][0]["message"]), (StatusCode::OK, "PERSISTED_QUERY_NOT_FOUND", &json!("PersistedQueryNotFound")));
        // A client without a token cannot register queries.
        assert_eq!(code(&ask("", json!({"query": query, "extensions": extensions})).await), "UNAUTHENTICATED");
        assert_eq!(code(&ask(&bearer, json!({"extensions": extensions})).await), "PERSISTED_QUERY_NOT_FOUND");
        let wrong = ask(&bearer, json!({"query": "{ viewer { login } }", "extensions": extensions})).await;
        assert_eq!((wrong.0, code(&wrong).as_str()), (StatusCode::BAD_REQUEST, "BAD_USER_INPUT"));
        for sent in [json!({"query": query, "extensions": extensions}), json!({"extensions": extensions, "variables": {"n": 5}})] {
            assert_eq!(ask(&bearer, sent).await.1, json!({"data": {"patients": {"totalCount": 0}}}));
        }
        // Also by GET, but not without a token.
        let url = format!("{}/graphql?extensions=%7B%22persistedQuery%22%3A%7B%22version%22%3A1%2C%22sha256Hash%22%3A%22{hash}%22%7D%7D", app.base());
        let response: Value = app.http().get(&url).header("authorization", &bearer).send().await.unwrap().json().await.unwrap();
        assert_eq!(response["data"]["patients"]["totalCount"], 0);
        assert_eq!(app.http().get(&url).send().await.unwrap().status(), StatusCode::UNAUTHORIZED);
        for odd in [json!({"version": 2, "sha256Hash": hash}), json!({"version": 1, "sha256Hash": "x"}), json!(1)] {
            assert_eq!(code(&ask(&bearer, json!({"extensions": {"persistedQuery": odd}})).await), "BAD_USER_INPUT", "{odd}");
        }
    }

    async fn batches_and_unsupported_requests_are_rejected(app: TestApp) {
        let bearer = format!("Bearer {}", app.sign_in("admin").await.token);
        for (content_type, body, expected) in [
            ("multipart/form-data; boundary=x", "--x\r\nContent-Disposition: form-data; name=\"operations\"\r\n\r\n{\"query\": \"{ __typename }\"}\r\n--x--", StatusCode::UNSUPPORTED_MEDIA_TYPE),
            ("text/plain", HELLO, StatusCode::UNSUPPORTED_MEDIA_TYPE),
            ("application/json; charset=utf-16", HELLO, StatusCode::UNSUPPORTED_MEDIA_TYPE),
            ("application/graphql", "{ __typename }", StatusCode::UNSUPPORTED_MEDIA_TYPE),
            // A batch, and a list that serde would accept as a struct.
            ("application/json", r#" [{"query": "{ __typename }"}]"#, StatusCode::BAD_REQUEST),
            ("application/json", r#"["{ __typename }", null, null, null]"#, StatusCode::BAD_REQUEST),
            ("application/json", r#"{"query": 1}"#, StatusCode::BAD_REQUEST),
            ("application/json", r#"{"query": "{ __typename }", "query": "{ viewer { login } }"}"#, StatusCode::BAD_REQUEST),
        ] {
            let response = send(app, app.base(), &[("content-type", content_type), ("authorization", &bearer)], body).await;
            assert_eq!(response.status(), expected, "{content_type}: {body}");
            let text = response.text().await.unwrap();
            let response: Value = serde_json::from_str(&text).unwrap();
            assert!(response["errors"][0]["extensions"]["code"].is_string(), "{text}");
            // Without the request's content or internal parser messages.
            for word in ["__typename", "Error(", "expected", "struct", "serde"] {
                assert!(!text.contains(word), "{text}");
            }
        }
        let message = send(app, app.base(), &[("authorization", &bearer)], r#"{"query": "{ secretWord(((" }"#).await.text().await.unwrap();
        assert!(!message.contains("secretWord"), "{message}");
        // Fields are in the order of the selection.
        let body = r#"{"query": "{ viewer { role login name hospital { name code id } } __typename }"}"#;
        let text = send(app, app.base(), &[("authorization", &bearer)], body).await.text().await.unwrap();
        let places: Vec<_> = ["\"viewer\"", "\"role\"", "\"login\"", "\"name\"", "\"hospital\"", "\"code\"", "\"id\"", "\"__typename\""].iter().map(|key| text.find(key).unwrap()).collect();
        assert!(places.is_sorted(), "{text}");
    }
}
