//! `POST /files`: what is accepted, encrypted at rest, shared by servers, bounded, and gone after an hour.

use std::io::Read as _;
use std::num::NonZeroU32;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::{Method, StatusCode};
use rollcall::clock::Clock;
use rollcall::config::Limits;
use rollcall::http;
use rollcall::jobs::Retention;
use rollcall::secrets::Secrets;
use rollcall::store::{OpenMode, Store};
use sea_orm::{ConnectionTrait as _, Statement};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use test_support::{Client, DatabaseKind, SERVE, TestApp, TestServer, on_each_database, wait_until, with_app};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::observability::verbose_server;

const BYTES: (&str, &str) = ("content-type", "application/octet-stream");

/// Headers and body; the status of the response.
type RefusedUpload = (&'static [(&'static str, &'static str)], &'static str, StatusCode);

/// Bytes of a chunk.
const CHUNK: usize = 256 << 10;

const H1: i64 = 1;

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Value,
}

impl Answer {
    fn code(&self) -> &str {
        self.body["errors"][0]["extensions"]["code"]
            .as_str()
            .unwrap_or_default()
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

async fn send(app: &TestApp, base: &str, token: &str, headers: &[(&str, &str)], body: impl Into<Vec<u8>>) -> Answer {
    let mut request = app
        .http()
        .post(format!("{base}/files"))
        .bearer_auth(token)
        .body(body.into());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = request.send().await.unwrap();
    Answer {
        status: response.status(),
        headers: response.headers().clone(),
        body: response.json().await.unwrap(),
    }
}

/// Uploads a small file.
async fn upload(app: &TestApp, user: &Client<'_>) -> Answer {
    send(app, app.base(), &user.token, &[BYTES], "chart_no\n1\n").await
}

/// Sends the head of a request with these further headers, and a part of its body.
async fn begin(base: &str, token: &str, headers: &str, body: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(base.trim_start_matches("http://")).await.unwrap();
    let head = format!(
        "POST /files HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\ncontent-type: text/csv\r\n{headers}\r\n\r\n"
    );
    stream.write_all(&[head.as_bytes(), body].concat()).await.unwrap();
    stream
}

/// The first line of the response.
async fn status_line(stream: &mut TcpStream) -> String {
    let mut bytes = vec![0; 1024];
    let length = stream.read(&mut bytes).await.unwrap();
    let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
    text.lines().next().unwrap_or_default().to_owned()
}

/// A server's access to the database.
async fn open_store(app: &TestApp) -> Store {
    let key = app.write_file("unused", "").with_file_name("key");
    let secrets = Secrets::open(&key, false).unwrap();
    Store::connect(&app.url, secrets, OpenMode::Serve, Arc::default())
        .await
        .unwrap()
}

/// The name and the bytes of a file of H1; none if it cannot be read.
async fn read(store: &Store, id: i64) -> Option<(String, Vec<u8>)> {
    let upload = store.upload(H1, id).await.unwrap()?;
    let mut bytes = Vec::new();
    let file = store.copy_upload(&upload).await.unwrap().unwrap();
    file.reopen().unwrap().read_to_end(&mut bytes).unwrap();
    Some((upload.file_name, bytes))
}

async fn newest(app: &TestApp) -> i64 {
    app.query_number("SELECT MAX(id) FROM upload").await
}

async fn rows(app: &TestApp, table: &str) -> i64 {
    app.query_number(&format!("SELECT COUNT(*) FROM {table}")).await
}

async fn blobs(app: &TestApp, sql: &str) -> Vec<Vec<u8>> {
    let statement = Statement::from_string(app.sql.get_database_backend(), sql);
    let rows = app.sql.query_all_raw(statement).await.unwrap();
    rows.iter().map(|row| row.try_get_by_index(0).unwrap()).collect()
}

async fn wait_until_nothing_is_kept(app: &TestApp) {
    wait_until("no upload is kept", async || {
        rows(app, "upload").await == 0 && rows(app, "upload_chunk").await == 0
    })
    .await;
}

/// A file of some chunks, the last one not full.
fn large_file() -> Vec<u8> {
    let mut file = b"Zebulon Quux,010-9876-5432\n".repeat(25_000);
    file.extend_from_slice("방문".as_bytes());
    assert!(file.len() > 2 * CHUNK && file.len() < 3 * CHUNK);
    file
}

/// Serves the app's database in this process, with these limits.
async fn serve(app: &TestApp, limits: Limits) -> (String, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let limits = Arc::new(limits);
    let key = app.write_file("unused", "").with_file_name("key");
    let secrets = Secrets::open(&key, false).unwrap();
    let store = Store::connect(&app.url, secrets, OpenMode::Serve, Arc::clone(&limits))
        .await
        .unwrap();
    let options = http::Options {
        retention: Retention {
            snapshot_days: 90,
            audit_days: None,
        },
        limits,
        hint: json!({}),
        viewer_rate: NonZeroU32::MAX,
        address_rate: NonZeroU32::MAX,
        trusted_proxies: Vec::new(),
        cors_origins: Vec::new(),
        tls: None,
        metrics_token: None,
    };
    let serving = tokio::spawn(async move { http::serve(listener, store, options).await.unwrap() });
    (base, serving)
}

on_each_database! {
    async fn a_file_is_stored_encrypted_and_every_server_can_read_it(app: TestApp) {
        app.set_time("2026-11-28T09:00:00Z");
        let desk = app.sign_in("desk").await;
        let file = large_file();
        let named = ("content-disposition", "attachment; filename*=UTF-8''%EB%B0%A9%EB%AC%B8%20Zebulon.csv");
        let answer = send(app, app.base(), &desk.token, &[BYTES, named], file.clone()).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.body);
        assert_eq!(answer.header("cache-control"), "no-store");
        let id = newest(app).await;
        let digest = hex::encode(Sha256::digest(&file));
        assert!(answer.body["fileId"].as_str().unwrap().starts_with('V'));
        assert_eq!(answer.body, json!({"fileId": answer.body["fileId"], "size": file.len(), "digest": digest, "expiresAt": "2026-11-28T10:00:00Z"}));
        let other = app.second_server();
        let small = send(app, &other.base, &desk.token, &[("content-type", "Text/CSV; charset=utf-8")], "x").await;
        assert_eq!((small.status, &small.body["size"]), (StatusCode::CREATED, &json!(1)));
        assert_ne!(small.body["fileId"], answer.body["fileId"]);

        let sealed = blobs(app, &format!("SELECT sealed FROM upload_chunk WHERE upload_id = {id}")).await;
        assert_eq!(sealed.len(), 3);
        let names = blobs(app, "SELECT file_name FROM upload").await;
        for bytes in sealed.iter().chain(&names) {
            for plain in ["Zebulon", "010-9876", "unnamed"] {
                assert!(!bytes.windows(plain.len()).any(|part| part == plain.as_bytes()));
            }
        }
        let store = open_store(app).await.with_clock(Clock::StoppedAt("2026-11-28T09:59:59Z".parse().unwrap()));
        let upload = store.upload(H1, id).await.unwrap().unwrap();
        assert_eq!((upload.size, upload.digest), (file.len() as u64, digest));
        assert_eq!(app.query_number(&format!("SELECT COUNT(*) FROM staff WHERE login = 'desk' AND id = {}", upload.staff)).await, 1);
        assert_eq!(read(&store, id).await.unwrap(), ("방문 Zebulon.csv".to_owned(), file.clone()));
        assert_eq!(read(&store, newest(app).await).await.unwrap(), ("unnamed".to_owned(), b"x".to_vec()));
        assert!(store.upload(H1 + 1, id).await.unwrap().is_none(), "another hospital's");
        let upload = store.upload(H1, id).await.unwrap().unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let copy = store.copy_upload(&upload).await.unwrap().unwrap();
            assert_eq!(copy.as_file().metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
        // A chunk that was put in the place of another one is not decrypted.
        for (from, to) in [(0, 9), (1, 0), (9, 1)] {
            app.execute(&format!("UPDATE upload_chunk SET number = {to} WHERE number = {from} AND upload_id = {id}")).await;
        }
        assert!(store.copy_upload(&upload).await.is_err());
        store.delete_upload(H1, id).await.unwrap();
        assert!(store.copy_upload(&upload).await.unwrap().is_none());
        assert_eq!((rows(app, "upload").await, rows(app, "upload_chunk").await), (1, 1));
        store.close().await.unwrap();
    }

    async fn what_is_no_upload_is_refused(app: TestApp) {
        let desk = app.sign_in("desk").await;
        for token in ["", "x", &desk.token[1..]] {
            let answer = send(app, app.base(), token, &[BYTES], "x").await;
            assert_eq!((answer.status, answer.code()), (StatusCode::UNAUTHORIZED, "UNAUTHENTICATED"));
            assert_eq!(answer.header("www-authenticate"), "Bearer");
        }
        let refused: &[RefusedUpload] = &[
            // What a form, or a request without a preflight, may send.
            (&[], "x", StatusCode::UNSUPPORTED_MEDIA_TYPE),
            (&[("content-type", "")], "x", StatusCode::UNSUPPORTED_MEDIA_TYPE),
            (&[("content-type", "text/plain")], "x", StatusCode::UNSUPPORTED_MEDIA_TYPE),
            (&[("content-type", "text/plain; text/csv")], "x", StatusCode::UNSUPPORTED_MEDIA_TYPE),
            (&[("content-type", "application/x-www-form-urlencoded")], "x=1", StatusCode::UNSUPPORTED_MEDIA_TYPE),
            (&[("content-type", "multipart/form-data; boundary=x")], "--x\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\n1\r\n--x--", StatusCode::UNSUPPORTED_MEDIA_TYPE),
            (&[("content-type", "application/json")], "{}", StatusCode::UNSUPPORTED_MEDIA_TYPE),
            (&[BYTES, ("content-encoding", "gzip")], "x", StatusCode::UNSUPPORTED_MEDIA_TYPE),
            (&[BYTES, ("content-encoding", "identity, gzip")], "x", StatusCode::UNSUPPORTED_MEDIA_TYPE),
            (&[BYTES], "", StatusCode::BAD_REQUEST),
            (&[BYTES, ("content-disposition", "attachment")], "x", StatusCode::BAD_REQUEST),
            (&[BYTES, ("content-disposition", "attachment; filename=\"\"")], "x", StatusCode::BAD_REQUEST),
            (&[BYTES, ("content-disposition", "attachment; filename*=UTF-8''a%0Ab")], "x", StatusCode::BAD_REQUEST),
        ];
        for (headers, body, status) in refused {
            let answer = send(app, app.base(), &desk.token, headers, *body).await;
            assert_eq!((answer.status, answer.code()), (*status, "BAD_USER_INPUT"), "{headers:?}");
        }
        let long = format!("attachment; filename={}", "x".repeat(256));
        assert_eq!(send(app, app.base(), &desk.token, &[BYTES, ("content-disposition", &long)], "x").await.status, StatusCode::BAD_REQUEST);
        for method in [Method::GET, Method::PUT, Method::DELETE] {
            let request = app.http().request(method, format!("{}/files", app.base())).bearer_auth(&desk.token);
            let response = request.send().await.unwrap();
            assert_eq!((response.status(), &response.headers()["allow"]), (StatusCode::METHOD_NOT_ALLOWED, &"POST".parse().unwrap()));
        }
        wait_until_nothing_is_kept(app).await;
        let xlsx = ("content-type", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet");
        let longest = format!("attachment; filename=\"{}\"", "x".repeat(255));
        let accepted = send(app, app.base(), &desk.token, &[xlsx, ("content-encoding", "identity"), ("content-disposition", &longest)], "x").await;
        assert_eq!(accepted.status, StatusCode::CREATED, "{}", accepted.body);
    }

    async fn pages_of_other_origins_need_a_preflight(app: TestApp) {
        let server = TestServer::spawn(app.command(&[SERVE, &["--cors-origins", "https://console.example"]].concat()).stderr(Stdio::inherit()));
        let preflight = async |origin: &str| {
            let request = app.http().request(Method::OPTIONS, format!("{}/files", server.base)).header("origin", origin)
                .header("access-control-request-method", "POST").header("access-control-request-headers", "authorization,content-disposition,content-type");
            let headers = request.send().await.unwrap().headers().clone();
            let allowed = headers.get("access-control-allow-headers").map_or("", |value| value.to_str().unwrap()).to_owned();
            (headers.contains_key("access-control-allow-origin"), allowed.contains("content-disposition"))
        };
        assert_eq!(preflight("https://console.example").await, (true, true));
        assert!(!preflight("https://evil.example").await.0);
    }

    async fn only_who_may_change_records_uploads(app: TestApp) {
        for (role, status) in [("admin", 201), ("desk", 201), ("clinician", 403), ("support", 403), ("kiosk", 403)] {
            let user = app.sign_in(role).await;
            let answer = upload(app, &user).await;
            assert_eq!(answer.status.as_u16(), status, "{role}: {}", answer.body);
            if status == 403 {
                assert_eq!(answer.code(), "FORBIDDEN");
            }
        }
        assert_eq!(rows(app, "upload").await, 2);
        let audit = app.sign_in("admin").await.graphql("{ audit(filter: {actions: [REFUSED]}) { nodes { what staff { login } } } }").await;
        let refused = |login: &str| json!({"what": "POST /files", "staff": {"login": login}});
        assert_eq!(audit["audit"]["nodes"], json!([refused("kiosk"), refused("support"), refused("clinician")]));
    }

    async fn a_file_has_a_largest_size(app: TestApp) {
        let max = 2 * CHUNK;
        let server = TestServer::spawn(app.command(&[SERVE, &["--max-upload-bytes", &max.to_string()]].concat()).stderr(Stdio::inherit()));
        let desk = app.sign_in("desk").await;
        let refused = send(app, &server.base, &desk.token, &[BYTES], vec![1; max + 1]).await;
        assert_eq!((refused.status, refused.code()), (StatusCode::PAYLOAD_TOO_LARGE, "QUERY_TOO_COSTLY"));
        // The length is not known before the end.
        let chunk = [format!("{CHUNK:x}\r\n").as_bytes(), &vec![1; CHUNK], b"\r\n"].concat();
        let mut stream = begin(&server.base, &desk.token, "transfer-encoding: chunked", &chunk.repeat(2)).await;
        wait_until("two chunks are stored", async || rows(app, "upload_chunk").await == 2).await;
        stream.write_all(b"1\r\n1\r\n0\r\n\r\n").await.unwrap();
        assert_eq!(status_line(&mut stream).await, "HTTP/1.1 413 Payload Too Large");
        // The body need not be sent to learn that it is too large.
        let mut stream = begin(&server.base, &desk.token, &format!("content-length: {}\r\nexpect: 100-continue", max + 1), b"").await;
        assert_eq!(status_line(&mut stream).await, "HTTP/1.1 413 Payload Too Large");
        wait_until_nothing_is_kept(app).await;
        let largest = send(app, &server.base, &desk.token, &[BYTES], vec![1; max]).await;
        assert_eq!((largest.status, &largest.body["size"]), (StatusCode::CREATED, &json!(max)));
    }

    async fn nothing_is_kept_of_a_body_that_is_cut_off(app: TestApp) {
        let desk = app.sign_in("desk").await;
        let stream = begin(app.base(), &desk.token, "content-length: 1000000", &vec![1; 2 * CHUNK + 5]).await;
        wait_until("two chunks are stored", async || rows(app, "upload_chunk").await == 2).await;
        let store = open_store(app).await;
        assert!(store.upload(H1, newest(app).await).await.unwrap().is_none(), "nobody can read it yet");
        drop(stream);
        wait_until_nothing_is_kept(app).await;
        store.close().await.unwrap();
    }

    async fn a_hospital_has_so_many_files_at_a_time(app: TestApp) {
        app.set_time("2026-11-28T09:00:00Z");
        let desk = app.sign_in("desk").await;
        let most = Limits::default().max_uploads_of_hospital;
        for _ in 1..most {
            assert_eq!(upload(app, &desk).await.status, StatusCode::CREATED);
        }
        app.set_time("2026-11-28T09:20:00Z");
        let stream = begin(app.base(), &desk.token, "content-length: 1000000", &vec![1; CHUNK]).await;
        wait_until("it has begun", async || rows(app, "upload").await == 8).await;
        app.set_time("2026-11-28T09:21:00Z");
        let refused = upload(app, &desk).await;
        assert_eq!((refused.status, refused.code(), refused.header("retry-after")), (StatusCode::TOO_MANY_REQUESTS, "RATE_LIMITED", "540"));
        assert_eq!(refused.body["errors"][0]["message"], "the hospital has 8 uploaded files already: try again in 540 s");
        // Another hospital's files do not count.
        let other = app.other_hospital().await;
        assert_eq!(upload(app, &other).await.status, StatusCode::CREATED);
        drop(stream);
        wait_until("it is deleted", async || rows(app, "upload").await == 8).await;
        assert_eq!(upload(app, &desk).await.status, StatusCode::CREATED);
        assert_eq!(upload(app, &desk).await.header("retry-after"), "2340");
        // Those that have expired do not count.
        app.set_time("2026-11-28T10:00:00Z");
        assert_eq!(upload(app, &desk).await.status, StatusCode::CREATED);
    }

    async fn files_are_gone_after_an_hour(app: TestApp) {
        app.set_time("2026-11-28T09:00:00.5Z");
        let desk = app.sign_in("desk").await;
        assert_eq!(upload(app, &desk).await.status, StatusCode::CREATED);
        let id = newest(app).await;
        let at = |time: &str| Clock::StoppedAt(time.parse().unwrap());
        let store = open_store(app).await.with_clock(at("2026-11-28T10:00:00Z"));
        assert!(read(&store, id).await.is_some());
        assert_eq!(store.delete_expired_uploads(H1).await.unwrap(), 0);
        let store = store.with_clock(at("2026-11-28T10:00:00.5Z"));
        assert!(read(&store, id).await.is_none());
        // A server deletes them when it starts, and each minute.
        app.set_time("2026-11-28T10:00:01Z");
        let _server = app.second_server();
        wait_until_nothing_is_kept(app).await;
        store.close().await.unwrap();
    }

    async fn old_keys_open_files_until_they_are_dropped(app: TestApp) {
        let desk = app.sign_in("desk").await;
        assert_eq!(upload(app, &desk).await.status, StatusCode::CREATED);
        let old = newest(app).await;
        app.run_cli(&["keys", "rotate"]);
        let store = open_store(app).await;
        assert!(read(&store, old).await.is_some());
        // A server that has read the new key.
        let server = app.second_server();
        let desk = app.sign_in_at(&server.base, "H1", "desk").await;
        assert_eq!(send(app, &server.base, &desk.token, &[BYTES], "new").await.status, StatusCode::CREATED);
        let new = newest(app).await;
        app.run_cli(&["keys", "drop-old"]);
        assert_eq!((rows(app, "upload").await, rows(app, "upload_chunk").await), (1, 1));
        let after = open_store(app).await;
        assert_eq!(read(&after, new).await.unwrap().1, b"new");
        for store in [store, after] {
            store.close().await.unwrap();
        }
    }

    async fn names_and_content_are_not_logged(app: TestApp) {
        let (server, log) = verbose_server(app, "log", |_| ());
        let desk = app.sign_in_at(&server.base, "H1", "desk").await;
        for (name, status) in [("attachment; filename=\"Zebulon.csv\"", 201), ("attachment; filename=\"Zebulon", 400)] {
            let answer = send(app, &server.base, &desk.token, &[BYTES, ("content-disposition", name)], "name\nQuux\n").await;
            assert_eq!(answer.status.as_u16(), status);
        }
        server.terminate();
        server.wait().await;
        let text = std::fs::read_to_string(log).unwrap();
        assert!(text.contains("\"path\":\"/files\""));
        for personal in ["Zebulon", "Quux", desk.token.as_str()] {
            assert_eq!(text.lines().find(|line| line.contains(personal)), None, "{personal}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_end_after_a_time_and_are_so_many_at_a_time() {
    with_app!(DatabaseKind::Sqlite, async |app| {
        let desk = app.sign_in("desk").await;
        let limits = Limits {
            upload_timeout: Duration::from_millis(1_500),
            max_concurrent_uploads: 1,
            ..Limits::default()
        };
        let (base, serving) = serve(app, limits).await;
        let mut slow = begin(&base, &desk.token, "content-length: 1000000", &vec![1; CHUNK]).await;
        wait_until("a chunk is stored", async || rows(app, "upload_chunk").await == 1).await;
        let refused = send(app, &base, &desk.token, &[BYTES], "x").await;
        assert_eq!(
            (refused.status, refused.code(), refused.header("retry-after")),
            (StatusCode::TOO_MANY_REQUESTS, "RATE_LIMITED", "1")
        );
        // Bytes now and then do not help.
        let ended = async {
            let (mut receive, mut send) = slow.split();
            let trickle = async {
                while send.write_all(b"x").await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            };
            let mut bytes = [0; 64];
            tokio::select! {
                () = trickle => String::new(),
                length = receive.read(&mut bytes) => String::from_utf8_lossy(&bytes[..length.unwrap()]).into_owned(),
            }
        };
        let response = tokio::time::timeout(Duration::from_secs(60), ended).await.unwrap();
        assert!(response.starts_with("HTTP/1.1 408 "), "{response}");
        wait_until_nothing_is_kept(app).await;
        assert_eq!(
            send(app, &base, &desk.token, &[BYTES], "x").await.status,
            StatusCode::CREATED
        );
        serving.abort();
    })
    .await;
}
