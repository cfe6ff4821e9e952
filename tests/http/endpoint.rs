//! What stands between the network and a query: rates, proxies, other origins, TLS, and what a plain endpoint gets wrong.

use std::process::Command;
use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::harness::{App, PASSWORD, SERVE, Server, on_each_database};

const HELLO: &str = r#"{"query": "{ __typename }"}"#;
const SIGN_IN: &str = "mutation ($i: SignInInput!) { signIn(input: $i) { session { accessToken } } }";

/// One more server on the same database, with these flags.
fn serve(app: &App, flags: &[&str]) -> Server {
    Server::start_as(
        app.command(&[SERVE, flags].concat())
            .stderr(std::process::Stdio::null()),
    )
}

/// The answer to a POST of this body with these headers.
async fn send(app: &App, base: &str, headers: &[(&str, &str)], body: &str) -> reqwest::Response {
    let mut request = app.client().post(format!("{base}/graphql")).body(body.to_owned());
    if !headers.iter().any(|(name, _)| *name == "content-type") {
        request = request.header("content-type", "application/json");
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.send().await.unwrap()
}

async fn sign_in(app: &App, login: &str, password: &str) -> (StatusCode, Option<String>, Value) {
    let input = json!({"hospital": "H1", "login": login, "password": password});
    let body = json!({"query": SIGN_IN, "variables": {"i": input}}).to_string();
    let answer = send(app, app.base(), &[], &body).await;
    let wait = answer
        .headers()
        .get("retry-after")
        .map(|wait| wait.to_str().unwrap().to_owned());
    (answer.status(), wait, answer.json().await.unwrap())
}

on_each_database! {
    async fn a_syntax_error_says_where_it_is(app: App) {
        let answer: Value = send(app, app.base(), &[], &json!({"query": "{\n  viewer {{ name }\n}"}).to_string()).await.json().await.unwrap();
        let error = &answer["errors"][0];
        assert_eq!(error["extensions"]["code"], "GRAPHQL_PARSE_FAILED");
        assert_eq!(error["locations"], json!([{"line": 2, "column": 11}]), "{error}");
    }

    async fn the_root_leads_to_the_explorer(app: App) {
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        let answer = client.get(format!("{}/", app.base())).send().await.unwrap();
        assert_eq!((answer.status(), &answer.headers()["location"]), (StatusCode::TEMPORARY_REDIRECT, &"graphiql".parse().unwrap()));
        assert!(answer.headers().contains_key("content-security-policy"));
        let page = app.client().get(app.base()).send().await.unwrap();
        assert_eq!(page.url().path(), "/graphiql");
    }

    async fn the_schema_describes_itself(app: App) {
        let user = app.sign_in("desk").await;
        let answer = user.ask("{ __schema { said: description } date: __type(name: \"Date\") { specifiedByURL } at: __type(name: \"DateTime\") { specifiedByURL } }").await;
        assert!(answer["__schema"]["said"].as_str().unwrap().starts_with("The admin console's API"), "{answer}");
        for scalar in ["date", "at"] {
            assert!(answer[scalar]["specifiedByURL"].as_str().unwrap().starts_with("https://"), "{answer}");
        }
    }

    async fn failed_sign_ins_wait_longer_and_longer(app: App) {
        // Whether there is such a login makes no difference.
        for login in ["desk", "nobody"] {
            for _ in 0..6 {
                let (status, _, answer) = sign_in(app, login, "wrong password").await;
                assert_eq!((status, &answer["errors"][0]["extensions"]["code"]), (StatusCode::OK, &json!("INVALID_CREDENTIALS")));
            }
            // Not even the right password is looked at.
            let (status, wait, answer) = sign_in(app, login, PASSWORD).await;
            let extensions = &answer["errors"][0]["extensions"];
            assert_eq!((status, wait.as_deref()), (StatusCode::TOO_MANY_REQUESTS, Some("1")), "{login}: {answer}");
            assert_eq!(extensions, &json!({"code": "RATE_LIMITED", "retryAfter": 1}));
        }
        assert!(sign_in(app, "support", PASSWORD).await.2["data"]["signIn"]["session"].is_object());
        tokio::time::sleep(Duration::from_millis(1_100)).await;
        for _ in 0..2 {
            let (.., answer) = sign_in(app, "desk", PASSWORD).await;
            assert!(answer["data"]["signIn"]["session"].is_object(), "{answer}");
        }
        // Success began anew for that login.
        for _ in 0..2 {
            assert_eq!(sign_in(app, "desk", "wrong password").await.0, StatusCode::OK);
        }
        // Failures count for the address too, and the address waits whoever it tries to be.
        let mut failures = 0;
        while sign_in(app, &format!("nobody {failures}"), PASSWORD).await.0 == StatusCode::OK {
            failures += 1;
            assert!(failures < 20);
        }
        let (status, _, answer) = sign_in(app, "admin", PASSWORD).await;
        assert_eq!((status, &answer["errors"][0]["extensions"]["code"]), (StatusCode::TOO_MANY_REQUESTS, &json!("RATE_LIMITED")));
        assert!(app.metric("rollcall_refusals_total{code=\"RATE_LIMITED\"}").await >= 4);
    }

    async fn viewers_and_addresses_have_rates_of_their_own(app: App) {
        let server = serve(app, &["--requests-per-second", "5", "--requests-per-second-per-address", "40", "--trusted-proxies", "127.0.0.0/8,::1"]);
        let bearer = format!("Bearer {}", app.sign_in("admin").await.token);
        let other = format!("Bearer {}", app.sign_in("desk").await.token);
        let ask = async |address: &str, token: &str| {
            let headers = [("x-forwarded-for", address), ("authorization", token), ("accept", "application/graphql-response+json")];
            send(app, &server.base, &headers, r#"{"query": "{ viewer { login } }"}"#).await
        };
        let mut refused = None;
        for _ in 0..20 {
            let answer = ask("192.0.2.1", &bearer).await;
            if answer.status() == StatusCode::TOO_MANY_REQUESTS {
                refused = Some(answer);
                break;
            }
        }
        let refused = refused.expect("the viewer is refused");
        assert_eq!(refused.headers()["retry-after"], "1");
        assert!(refused.headers()["content-type"].to_str().unwrap().starts_with("application/graphql-response+json"));
        let body: Value = refused.json().await.unwrap();
        assert_eq!(body["errors"][0]["extensions"], json!({"code": "RATE_LIMITED", "retryAfter": 1}));
        assert_eq!(ask("192.0.2.1", &other).await.status(), StatusCode::OK, "another viewer");
        // An address, whoever comes from it; what stands before it was written by whoever came.
        let mut refused = false;
        for attempt in 0..200 {
            refused |= send(app, &server.base, &[("x-forwarded-for", &format!("198.51.100.{attempt}, 192.0.2.7"))], HELLO).await.status() == StatusCode::TOO_MANY_REQUESTS;
        }
        assert!(refused);
        assert_eq!(send(app, &server.base, &[("x-forwarded-for", "192.0.2.8")], HELLO).await.status(), StatusCode::OK);
        // A server that trusts nobody does not look at the header.
        assert_eq!(send(app, app.base(), &[("x-forwarded-for", "192.0.2.7")], HELLO).await.status(), StatusCode::OK);
    }

    async fn metrics_are_for_who_may(app: App) {
        let server = serve(app, &["--metrics-token", "s3cret"]);
        let get = async |base: &str, header: (&str, &str)| {
            let answer = app.client().get(format!("{base}/metrics")).header(header.0, header.1).send().await.unwrap();
            (answer.status(), answer.text().await.unwrap().contains("rollcall_"))
        };
        assert_eq!(get(&server.base, ("authorization", "Bearer s3cret")).await, (StatusCode::OK, true));
        for wrong in ["Bearer s3cre", "s3cret", ""] {
            assert_eq!(get(&server.base, ("authorization", wrong)).await, (StatusCode::UNAUTHORIZED, false), "{wrong}");
        }
        // Without a token, who asks on this machine; a proxy on it asks for somebody else.
        assert_eq!(get(app.base(), ("accept", "*/*")).await, (StatusCode::OK, true));
        assert_eq!(get(app.base(), ("x-forwarded-for", "192.0.2.1")).await, (StatusCode::UNAUTHORIZED, false));
    }

    async fn other_origins_read_nothing_unless_named(app: App) {
        let server = serve(app, &["--cors-origins", "https://console.example,https://other.example"]);
        let preflight = async |base: &str, origin: &str| {
            let request = app.client().request(Method::OPTIONS, format!("{base}/graphql")).header("origin", origin)
                .header("access-control-request-method", "POST").header("access-control-request-headers", "authorization,content-type,traceparent,tracestate");
            let answer = request.send().await.unwrap();
            let header = |name: &str| answer.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
            let headers = header("access-control-allow-headers").unwrap_or_default();
            let allowed = |name: &str| headers.split(',').any(|allowed| allowed.trim() == name);
            assert!(headers.is_empty() || ["authorization", "content-type", "traceparent", "tracestate"].into_iter().all(allowed), "{headers}");
            header("access-control-allow-origin")
        };
        assert_eq!(preflight(app.base(), "https://console.example").await, None);
        assert_eq!(preflight(&server.base, "https://console.example").await.as_deref(), Some("https://console.example"));
        assert_eq!(preflight(&server.base, "https://evil.example").await, None);
        for (origin, allowed) in [("https://console.example", true), ("https://evil.example", false), ("null", false)] {
            let answer = send(app, &server.base, &[("origin", origin)], HELLO).await;
            assert_eq!(answer.headers().contains_key("access-control-allow-origin"), allowed, "{origin}");
            assert!(!answer.headers().contains_key("access-control-allow-credentials"));
        }
        for wrong in ["*", "console.example", "https://console.example/"] {
            let output = app.try_rollcall(&["serve", "--cors-origins", wrong]);
            assert!(String::from_utf8_lossy(&output.stderr).contains("must be an origin"), "{wrong}");
        }
    }

    async fn every_answer_carries_what_browsers_heed(app: App) {
        for path in ["/graphql", "/graphiql", "/graphiql/hint.json", "/healthz", "/metrics", "/nowhere"] {
            let answer = app.client().get(format!("{}{path}", app.base())).send().await.unwrap();
            let header = |name: &str| answer.headers().get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
            assert_eq!(header("x-content-type-options"), "nosniff", "{path}");
            assert_eq!(header("referrer-policy"), "no-referrer", "{path}");
            assert_eq!(header("x-frame-options"), "DENY", "{path}");
            assert!(header("content-security-policy").contains("frame-ancestors 'none'"), "{path}");
            assert_eq!(header("strict-transport-security"), "", "{path}");
        }
    }

    async fn it_speaks_tls_where_it_has_a_certificate(app: App) {
        let (certificate, key) = (app.file("certificate.pem", ""), app.file("key.pem", ""));
        let (certificate, key) = (certificate.to_str().unwrap(), key.to_str().unwrap());
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"])
            .args(["-keyout", key, "-out", certificate]).output().unwrap();
        assert!(made.status.success());
        let wrong = app.try_rollcall(&["serve", "--tls-certificate", key, "--tls-key", certificate]);
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
            let said = curl(flag).await;
            assert!(said.starts_with(first), "{said}");
            assert!(said.contains("strict-transport-security: max-age=") && said.contains("__typename"), "{said}");
        }
        // Who speaks no TLS is not answered, and keeps nobody waiting.
        let plain = server.base.replacen("https", "http", 1);
        assert!(app.client().get(format!("{plain}/healthz")).send().await.is_err());
        assert!(curl("--http1.1").await.starts_with("http/1.1 200"));
        server.terminate();
        assert!(server.ended().await.success());
    }

    async fn persisted_queries_are_known_by_their_hash(app: App) {
        let bearer = format!("Bearer {}", app.sign_in("admin").await.token);
        let query = "query ($n: Int) { patients(first: $n) { totalCount } }";
        let hash: String = Sha256::digest(query).iter().map(|byte| format!("{byte:02x}")).collect();
        let extensions = json!({"persistedQuery": {"version": 1, "sha256Hash": hash}});
        let ask = async |token: &str, body: Value| {
            let answer = send(app, app.base(), &[("authorization", token)], &body.to_string()).await;
            (answer.status(), answer.json::<Value>().await.unwrap())
        };
        let code = |answer: &(StatusCode, Value)| answer.1["errors"][0]["extensions"]["code"].as_str().unwrap_or_default().to_owned();
        let unknown = ask(&bearer, json!({"extensions": extensions})).await;
        assert_eq!((unknown.0, code(&unknown).as_str(), &unknown.1["errors"][0]["message"]), (StatusCode::OK, "PERSISTED_QUERY_NOT_FOUND", &json!("PersistedQueryNotFound")));
        // Who is not signed in makes nothing known.
        assert_eq!(code(&ask("", json!({"query": query, "extensions": extensions})).await), "UNAUTHENTICATED");
        assert_eq!(code(&ask(&bearer, json!({"extensions": extensions})).await), "PERSISTED_QUERY_NOT_FOUND");
        let wrong = ask(&bearer, json!({"query": "{ viewer { login } }", "extensions": extensions})).await;
        assert_eq!((wrong.0, code(&wrong).as_str()), (StatusCode::BAD_REQUEST, "BAD_USER_INPUT"));
        for sent in [json!({"query": query, "extensions": extensions}), json!({"extensions": extensions, "variables": {"n": 5}})] {
            assert_eq!(ask(&bearer, sent).await.1, json!({"data": {"patients": {"totalCount": 0}}}));
        }
        // By GET too, and never past the token.
        let url = format!("{}/graphql?extensions=%7B%22persistedQuery%22%3A%7B%22version%22%3A1%2C%22sha256Hash%22%3A%22{hash}%22%7D%7D", app.base());
        let answer: Value = app.client().get(&url).header("authorization", &bearer).send().await.unwrap().json().await.unwrap();
        assert_eq!(answer["data"]["patients"]["totalCount"], 0);
        assert_eq!(app.client().get(&url).send().await.unwrap().status(), StatusCode::UNAUTHORIZED);
        for odd in [json!({"version": 2, "sha256Hash": hash}), json!({"version": 1, "sha256Hash": "x"}), json!(1)] {
            assert_eq!(code(&ask(&bearer, json!({"extensions": {"persistedQuery": odd}})).await), "BAD_USER_INPUT", "{odd}");
        }
    }

    async fn what_a_plain_endpoint_takes_is_refused(app: App) {
        let bearer = format!("Bearer {}", app.sign_in("admin").await.token);
        for (content_type, body, wanted) in [
            ("multipart/form-data; boundary=x", "--x\r\nContent-Disposition: form-data; name=\"operations\"\r\n\r\n{\"query\": \"{ __typename }\"}\r\n--x--", StatusCode::UNSUPPORTED_MEDIA_TYPE),
            ("text/plain", HELLO, StatusCode::UNSUPPORTED_MEDIA_TYPE),
            ("application/json; charset=utf-16", HELLO, StatusCode::UNSUPPORTED_MEDIA_TYPE),
            ("application/graphql", "{ __typename }", StatusCode::UNSUPPORTED_MEDIA_TYPE),
            // A batch, and a list that serde would take for an object.
            ("application/json", r#" [{"query": "{ __typename }"}]"#, StatusCode::BAD_REQUEST),
            ("application/json", r#"["{ __typename }", null, null, null]"#, StatusCode::BAD_REQUEST),
            ("application/json", r#"{"query": 1}"#, StatusCode::BAD_REQUEST),
            ("application/json", r#"{"query": "{ __typename }", "query": "{ viewer { login } }"}"#, StatusCode::BAD_REQUEST),
        ] {
            let answer = send(app, app.base(), &[("content-type", content_type), ("authorization", &bearer)], body).await;
            assert_eq!(answer.status(), wanted, "{content_type}: {body}");
            let text = answer.text().await.unwrap();
            let answer: Value = serde_json::from_str(&text).unwrap();
            assert!(answer["errors"][0]["extensions"]["code"].is_string(), "{text}");
            // Neither what was sent nor how it is read inside.
            for word in ["__typename", "Error(", "expected", "struct", "serde"] {
                assert!(!text.contains(word), "{text}");
            }
        }
        let told = send(app, app.base(), &[("authorization", &bearer)], r#"{"query": "{ secretWord(((" }"#).await.text().await.unwrap();
        assert!(!told.contains("secretWord"), "{told}");
        // No WebSocket, also where one is asked for.
        for path in ["/graphql", "/graphql?query=%7B__typename%7D"] {
            let answer = app.client().get(format!("{}{path}", app.base()))
                .header("connection", "Upgrade").header("upgrade", "websocket").header("sec-websocket-version", "13")
                .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==").header("sec-websocket-protocol", "graphql-transport-ws").send().await.unwrap();
            assert_ne!(answer.status(), StatusCode::SWITCHING_PROTOCOLS);
            assert!(!answer.headers().contains_key("upgrade"));
        }
        // Fields come in the order in which they were asked for.
        let body = r#"{"query": "{ viewer { role login name hospital { name code id } } __typename }"}"#;
        let text = send(app, app.base(), &[("authorization", &bearer)], body).await.text().await.unwrap();
        let places: Vec<_> = ["\"viewer\"", "\"role\"", "\"login\"", "\"name\"", "\"hospital\"", "\"code\"", "\"id\"", "\"__typename\""].iter().map(|key| text.find(key).unwrap()).collect();
        assert!(places.is_sorted(), "{text}");
    }
}
