//! More at a time than the server takes: they are told so, and those who come after are served.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use reqwest::StatusCode;
use rollcall::config::LIMITS;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpSocket, TcpStream};

use crate::harness::{App, Kind, PASSWORD, SERVE, Server, until, with};

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A connection with as many requests as one may have at a time, whose bodies do not come.
async fn unfinished(base: &str, address: Ipv4Addr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from((address, 0))).unwrap();
    let there = base.trim_start_matches("http://").parse().unwrap();
    let mut stream = socket.connect(there).await.unwrap();
    // POST and http of HPACK's table, a path, a content type.
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

async fn post(app: &App, body: Value) -> (StatusCode, Option<String>, Value) {
    let request = app.client().post(format!("{}/graphql", app.base()));
    let answer = request.json(&body).send().await.unwrap();
    let wait = answer.headers().get("retry-after");
    let wait = wait.map(|wait| wait.to_str().unwrap().to_owned());
    (answer.status(), wait, answer.json().await.unwrap())
}

async fn hello(app: &App) -> (StatusCode, Option<String>, Value) {
    post(app, json!({"query": "{ __typename }"})).await
}

#[tokio::test(flavor = "multi_thread")]
async fn so_many_requests_run_at_a_time_and_no_more() {
    with(Kind::Sqlite, async |app| {
        let mut connections = Vec::new();
        let refused = loop {
            let answer = hello(app).await;
            if answer.0 != StatusCode::OK {
                break answer;
            }
            assert!(connections.len() < 60, "nobody is refused");
            connections.push(unfinished(app.base(), Ipv4Addr::LOCALHOST).await);
        };
        let extensions = &refused.2["errors"][0]["extensions"];
        assert_eq!(
            (refused.0, refused.1.as_deref()),
            (StatusCode::TOO_MANY_REQUESTS, Some("1"))
        );
        assert_eq!(extensions, &json!({"code": "RATE_LIMITED", "retryAfter": 1}));
        assert!(connections.len() * 200 >= LIMITS.concurrent, "refused too early");
        // What is no question is answered all the same.
        let ready = app.client().get(format!("{}/readyz", app.base())).send().await.unwrap();
        assert_eq!(ready.status(), StatusCode::OK);
        drop(connections);
        until("somebody is let in again", async || {
            hello(app).await.0 == StatusCode::OK
        })
        .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn so_many_wait_to_sign_in_and_no_more() {
    with(Kind::Sqlite, async |app| {
        let sign_in = async || {
            let query = "mutation ($input: SignInInput!) { signIn(input: $input) { session { accessToken } } }";
            let input = json!({"hospital": "H1", "login": "desk", "password": PASSWORD});
            post(app, json!({"query": query, "variables": {"input": input}})).await
        };
        let mut crowd: FuturesUnordered<_> = (0..LIMITS.sign_ins + 144).map(|_| sign_in()).collect();
        let refused = loop {
            let answer = crowd.next().await.expect("nobody is refused");
            if answer.0 != StatusCode::OK {
                break answer;
            }
            assert!(answer.2["data"]["signIn"]["session"].is_object(), "{}", answer.2);
        };
        assert_eq!(
            (refused.0, refused.1.as_deref()),
            (StatusCode::TOO_MANY_REQUESTS, Some("1"))
        );
        assert_eq!(
            refused.2["errors"][0]["extensions"],
            json!({"code": "RATE_LIMITED", "retryAfter": 1})
        );
        // Those who go away wait no more.
        drop(crowd);
        until("somebody is let in again", async || sign_in().await.0 == StatusCode::OK).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_certificate_is_shown() {
    with(Kind::Sqlite, async |app| {
        let (certificate, key) = (app.file("certificate.pem", ""), app.file("key.pem", ""));
        let paths = [&certificate, &key].map(|path| path.to_str().unwrap().to_owned());
        let make = |name: &str| {
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
        make("first");
        let serve = [SERVE, &["--tls-certificate", &paths[0], "--tls-key", &paths[1]]].concat();
        let server = Server::start_as(app.command(&serve).stderr(std::process::Stdio::null()));
        let trusted = async || {
            let mut curl = Command::new("curl");
            curl.args(["-sf", "--cacert", &paths[0], &format!("{}/healthz", server.base)]);
            let asked = tokio::task::spawn_blocking(move || curl.output());
            asked.await.unwrap().unwrap().status.success()
        };
        assert!(trusted().await);
        // A file that is no certificate changes nothing; another one that is, by a longer name, is shown.
        let first = std::fs::read(&certificate).unwrap();
        std::fs::write(&certificate, "half a fi").unwrap();
        tokio::time::sleep(LIMITS.key_file + Duration::from_secs(1)).await;
        std::fs::write(&certificate, first).unwrap();
        assert!(trusted().await);
        make("the one that comes after");
        until("the new one is shown", trusted).await;
    })
    .await;
}
