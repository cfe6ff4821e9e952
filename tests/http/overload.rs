//! Overload: excess requests are rejected, and later ones are served.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use reqwest::StatusCode;
use rollcall::config::Limits;
use serde_json::{Value, json};
use test_support::{DatabaseKind, PASSWORD, SERVE, TestApp, TestServer, wait_until, with_app};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpSocket, TcpStream};

/// An HTTP/2 frame.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A connection with the maximum number of concurrent requests, whose bodies are not sent.
async fn connection_with_unfinished_requests(base: &str, address: Ipv4Addr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from((address, 0))).unwrap();
    let address_of_server = base.trim_start_matches("http://").parse().unwrap();
    let mut stream = socket.connect(address_of_server).await.unwrap();
    // POST and http from HPACK's static table, a path, a content type.
    let mut head = vec![0x83, 0x86, 0x04, 8];
    head.extend(b"/graphql\x0f\x10\x10application/json");
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(4, 0, 0, &[]));
    for number in 0..200 {
        bytes.extend(frame(1, 4, 2 * number + 1, &head));
    }
    stream.write_all(&bytes).await.unwrap();
    stream
}

async fn post(app: &TestApp, body: Value) -> (StatusCode, Option<String>, Value) {
    let request = app.http().post(format!("{}/graphql", app.base()));
    let response = request.json(&body).send().await.unwrap();
    let wait = response.headers().get("retry-after");
    let wait = wait.map(|wait| wait.to_str().unwrap().to_owned());
    (response.status(), wait, response.json().await.unwrap())
}

async fn query_typename(app: &TestApp) -> (StatusCode, Option<String>, Value) {
    post(app, json!({"query": "{ __typename }"})).await
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_requests_are_limited() {
    with_app!(DatabaseKind::Sqlite, async |app| {
        let mut connections = Vec::new();
        let refused = loop {
            let response = query_typename(app).await;
            if response.0 != StatusCode::OK {
                break response;
            }
            assert!(connections.len() < 60, "no request was rejected");
            connections.push(connection_with_unfinished_requests(app.base(), Ipv4Addr::LOCALHOST).await);
        };
        let extensions = &refused.2["errors"][0]["extensions"];
        assert_eq!(
            (refused.0, refused.1.as_deref()),
            (StatusCode::TOO_MANY_REQUESTS, Some("1"))
        );
        assert_eq!(extensions, &json!({"code": "RATE_LIMITED", "retryAfter": 1}));
        assert!(
            connections.len() * 200 >= Limits::default().max_concurrent_requests,
            "rejected too early"
        );
        // Other routes are not affected.
        let ready = app.http().get(format!("{}/readyz", app.base())).send().await.unwrap();
        assert_eq!(ready.status(), StatusCode::OK);
        drop(connections);
        wait_until("requests are accepted again", async || {
            query_typename(app).await.0 == StatusCode::OK
        })
        .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_sign_ins_are_limited() {
    with_app!(DatabaseKind::Sqlite, async |app| {
        let sign_in = async || {
            let query = "mutation ($input: SignInInput!) { signIn(input: $input) { session { accessToken } } }";
            let input = json!({"hospital": "H1", "login": "desk", "password": PASSWORD});
            post(app, json!({"query": query, "variables": {"input": input}})).await
        };
        let mut requests: FuturesUnordered<_> = (0..Limits::default().max_waiting_sign_ins + 144)
            .map(|_| sign_in())
            .collect();
        let refused = loop {
            let response = requests.next().await.expect("no request was rejected");
            if response.0 != StatusCode::OK {
                break response;
            }
            assert!(response.2["data"]["signIn"]["session"].is_object(), "{}", response.2);
        };
        assert_eq!(
            (refused.0, refused.1.as_deref()),
            (StatusCode::TOO_MANY_REQUESTS, Some("1"))
        );
        assert_eq!(
            refused.2["errors"][0]["extensions"],
            json!({"code": "RATE_LIMITED", "retryAfter": 1})
        );
        // Disconnected clients no longer wait.
        drop(requests);
        wait_until("requests are accepted again", async || {
            sign_in().await.0 == StatusCode::OK
        })
        .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_certificate_is_served() {
    with_app!(DatabaseKind::Sqlite, async |app| {
        let (certificate, key) = (app.write_file("certificate.pem", ""), app.write_file("key.pem", ""));
        let paths = [&certificate, &key].map(|path| path.to_str().unwrap().to_owned());
        let create_certificate = |name: &str| {
            let made = Command::new("openssl")
                .args([
                    "req",
                    "-x509",
                    "-newkey",
                    "rsa:2048",
                    "-nodes",
                    "-days",
                    "1",
                    "-addext",
                    "subjectAltName=IP:127.0.0.1",
                ])
                .args(["-subj", &format!("/CN={name}"), "-keyout", &paths[1], "-out", &paths[0]])
                .output()
                .unwrap();
            assert!(made.status.success());
        };
        create_certificate("first");
        let serve = [SERVE, &["--tls-certificate", &paths[0], "--tls-key", &paths[1]]].concat();
        let server = TestServer::spawn(app.command(&serve).stderr(std::process::Stdio::null()));
        let trusted = async || {
            let mut curl = Command::new("curl");
            curl.args(["-sf", "--cacert", &paths[0], &format!("{}/healthz", server.base)]);
            let asked = tokio::task::spawn_blocking(move || curl.output());
            asked.await.unwrap().unwrap().status.success()
        };
        assert!(trusted().await);
        // An invalid certificate file changes nothing; a valid one with a longer name is served.
        let first = std::fs::read(&certificate).unwrap();
        std::fs::write(&certificate, "half a fi").unwrap();
        tokio::time::sleep(Limits::default().file_check_interval + Duration::from_secs(1)).await;
        std::fs::write(&certificate, first).unwrap();
        assert!(trusted().await);
        create_certificate("the one that comes after");
        wait_until("the new certificate is served", trusted).await;
    })
    .await;
}
