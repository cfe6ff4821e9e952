//! Fuzzing: operations generated from the schema, valid or nearly so, bodies with changed bytes, unusual requests, and
//! raw bytes on a socket. The response is always as documented, or the connection is closed; nothing panics, no data of
//! another hospital or masked data is returned, nothing is changed without permission, and counts stay right.
//!
//! `ROLLCALL_FUZZ_SECONDS` sets the duration, `ROLLCALL_FUZZ_SEED` the random seed. The default seed is constant, so
//! that failures are reproducible.

mod choices;
mod operation;
mod pool;
mod request;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use proptest::collection::vec;
use proptest::strategy::Strategy as _;
use proptest::test_runner::{Config, RngSeed, TestCaseError, TestError, TestRunner};
use reqwest::header::HeaderMap;
use reqwest::{Method, StatusCode};
use rollcall::config::Limits;
use serde_json::{Value, json};
use test_support::{
    Checked, Client, EXAMPLE, EXAMPLE_VISITS, KINDS, PASSWORD, SERVE, TIMEOUT, TestApp, TestServer, conformance,
    ensure, env_number, on_each_database, print_uncaptured, wait_until,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;
use tokio::time::timeout;

use operation::Grammar;
use pool::IdPool;
use request::{FuzzRequest, HttpRequest, Numbers, RequestKind, SocketRequest, TOKENS, generate};

/// The number of cases after which IDs and tokens are renewed.
const ROUND_LENGTH: u64 = 2_000;

/// The number of cases between checks of the server's state.
const CHECK_INTERVAL: u64 = 100;

const ROLES: [&str; 5] = ["ADMIN", "DESK", "CLINICIAN", "SUPPORT", "KIOSK"];

/// The first two of them may change records.
const MAY_CHANGE: usize = 2;

const CODES: [&str; 16] = [
    "BAD_USER_INPUT",
    "NOT_FOUND",
    "CONFLICT",
    "INVALID_TRANSITION",
    "SLOT_TAKEN",
    "INVALID_CODE",
    "SNAPSHOT_EXPIRED",
    "INVALID_CREDENTIALS",
    "UNAUTHENTICATED",
    "FORBIDDEN",
    "QUERY_TOO_COSTLY",
    "RATE_LIMITED",
    "PERSISTED_QUERY_NOT_FOUND",
    "GRAPHQL_PARSE_FAILED",
    "GRAPHQL_VALIDATION_FAILED",
    "REQUEST_TIMEOUT",
];

/// In names and numbers of the other hospital, which no client here may see.
const FOREIGN: &str = "Fremd";

/// In names of this hospital, and in a phone number, which are masked for SUPPORT.
const MASKED: [&str; 2] = ["Quokka", "1011110001"];

on_each_database! {
    async fn every_request_gets_a_documented_response(app: TestApp) {
        let seed = env_number("ROLLCALL_FUZZ_SEED").unwrap_or(1);
        let duration = Duration::from_secs(env_number("ROLLCALL_FUZZ_SECONDS").unwrap_or(4));
        fill(app);
        let target = Target::start(app).await;
        let mut round = target.round(0).await;
        let mut runner = TestRunner::new(Config {
            failure_persistence: None,
            max_shrink_iters: 6_000,
            rng_seed: RngSeed::Fixed(seed),
            ..Config::default()
        });
        let number = proptest::num::u32::ANY;
        let (started, numbers) = (Instant::now(), (vec(number, 0..700), vec(number, 0..40)));
        let mut cases = 0;
        while started.elapsed() < duration {
            cases += 1;
            if cases % ROUND_LENGTH == 0 {
                round = target.round(cases / ROUND_LENGTH).await;
            }
            let case = numbers.new_tree(&mut runner).unwrap();
            let tried = runner.run_one(case, |numbers| {
                let runtime = tokio::runtime::Handle::current();
                let result = tokio::task::block_in_place(|| runtime.block_on(round.run_case(&numbers)));
                result.map_err(TestCaseError::fail)
            });
            if let Err(TestError::Fail(why, numbers)) = tried {
                let smallest = generate(&target.grammar, &round.pool, &numbers);
                panic!("seed {seed}, case {cases}: {why}\nby\n{smallest}");
            }
            if cases % CHECK_INTERVAL == 0 {
                round.check_state().await;
            }
        }
        round.check_state().await;
        round.check_counts().await;
        let counters = target.counters.lock().unwrap().iter().fold(String::new(), |mut counters, (what, count)| {
            writeln!(counters, "{count:>9} {what}").unwrap();
            counters
        });
        print_uncaptured(&format!("Fuzzing on {:?}, {} s, seed {seed}, {cases} cases:\n{counters}", app.kind(), duration.as_secs()));
    }
}

/// The worked example with more rows, and the same in another hospital.
fn fill(app: &TestApp) {
    let people = |word: &str, chart: &str| {
        let mut patients = format!(
            "chart_no,name,phone,birth_date,sex,registered_on\nA,{word} Ash,010-1111-0001,1980-01-01,FEMALE,2025-05-01\nB,김{word},010-1111-0002,1970-02-02,MALE,2025-04-20\nC,{word} Cox,,,UNKNOWN,2025-03-01\nD,{word} Day,,1990-04-04,OTHER,2025-05-05\nE,,,,FEMALE,2025-06-01\n"
        );
        let mut visits = EXAMPLE_VISITS.to_owned();
        for i in 0..40 {
            writeln!(patients, "{chart}{i},{word} {i},,,UNKNOWN,").unwrap();
            writeln!(
                visits,
                "{chart}{i},{chart}{i},2025-0{}-1{},,COMPLETED,Eyes,Dr Ito,APP",
                5 + i % 4,
                i % 10
            )
            .unwrap();
            writeln!(
                visits,
                "{chart}+{i},{chart}{i},2025-06-2{},,{},Skin,,WEB",
                i % 10,
                ["NO_SHOW", "ENDED", "BOOKED"][i % 3]
            )
            .unwrap();
        }
        (patients, visits)
    };
    app.run_cli(&[
        "hospital",
        "add",
        "--code",
        "H2",
        "--name",
        FOREIGN,
        "--time-zone",
        "Asia/Seoul",
    ]);
    for (hospital, word, chart) in [("H1", MASKED[0], "Q"), ("H2", FOREIGN, FOREIGN)] {
        let (patients, visits) = people(word, chart);
        app.import("patients", hospital, &patients);
        app.import("visits", hospital, &visits);
    }
}

/// The server under test, and what it did.
struct Target<'a> {
    app: &'a TestApp,
    grammar: Grammar,
    server: TestServer,
    log: Mutex<File>,
    counters: Mutex<BTreeMap<String, u64>>,
}

/// As long as the tokens are valid.
struct Round<'a> {
    target: &'a Target<'a>,
    tokens: Vec<String>,
    foreign_client: Client<'a>,
    /// What a client of the other hospital sees, which must not change.
    other_hospital: Value,
    pool: IdPool,
    /// Requests come from an address without failed sign-ins.
    client: reqwest::Client,
    address: Ipv4Addr,
}

impl<'a> Target<'a> {
    async fn start(app: &'a TestApp) -> Self {
        let log = app.write_file("log", "");
        let server = TestServer::spawn(
            app.command(SERVE)
                .stderr(File::options().append(true).open(&log).unwrap()),
        );
        Self {
            app,
            grammar: Grammar::new(include_str!("../../../schema.graphql")),
            server,
            log: Mutex::new(File::open(log).unwrap()),
            counters: Mutex::default(),
        }
    }

    /// With new members of staff, since the last ones may be disabled.
    async fn round(&self, number: u64) -> Round<'_> {
        let sign_in = async |hospital: &str, role: &str| {
            let login = format!("{role}-{number}");
            let add = [
                "staff",
                "add",
                "--hospital",
                hospital,
                "--login",
                &login,
                "--name",
                role,
                "--role",
                role,
            ];
            self.app.run_cli_with_input(&add, PASSWORD);
            self.app.sign_in_at(&self.server.base, hospital, &login).await
        };
        let mut users = Vec::new();
        for role in ROLES {
            users.push(sign_in("H1", role).await);
        }
        let foreign_client = sign_in("H2", "ADMIN").await;
        let address = Ipv4Addr::new(127, 0, 1, 1 + u8::try_from(number % 250).unwrap());
        Round {
            target: self,
            pool: IdPool::of(&users[0], &foreign_client).await,
            tokens: users.into_iter().map(|user| user.token).collect(),
            other_hospital: foreign_client.graphql(&everything()).await,
            foreign_client,
            client: reqwest::Client::builder()
                .local_address(Some(address.into()))
                .timeout(Limits::default().request_timeout + TIMEOUT)
                .build()
                .unwrap(),
            address,
        }
    }

    fn record(&self, category: RequestKind, what: &str) {
        *self
            .counters
            .lock()
            .unwrap()
            .entry(format!("{category:?}: {what}"))
            .or_default() += 1;
    }

    /// What was logged since the last call.
    fn logged(&self) -> String {
        let mut bytes = Vec::new();
        self.log.lock().unwrap().read_to_end(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    async fn revision(&self) -> i64 {
        let number = "SELECT r.number FROM revision r JOIN hospital h ON h.id = r.hospital_id WHERE h.code = 'H1'";
        self.app.query_number(number).await
    }
}

/// All statistics and lists of the worked example.
fn everything() -> String {
    let lists = KINDS.iter().fold(String::new(), |mut text, kind| {
        write!(
            text,
            "{kind}: cohort(kind: {kind}) {{ patientCount visitCount digest }} "
        )
        .unwrap();
        text
    });
    format!(
        "{{ {EXAMPLE} {{ revision buckets {{ {lists} }} total {{ {lists} }} definition {{ churnAfterDays overdueAfterDays }} }}
            patients(first: 100) {{ totalCount nodes {{ id chartNo name phone visitCount }} }} visits {{ totalCount }}
            hospital {{ departments {{ name }} doctors {{ name }} }} }}"
    )
}

impl Round<'_> {
    /// Sends the request that the numbers generate, and checks the response.
    async fn run_case(&self, numbers: &Numbers) -> Checked {
        let before = self.target.revision().await;
        let may_change = match generate(&self.target.grammar, &self.pool, numbers) {
            FuzzRequest::Request(http_request) => {
                self.send(&http_request).await?;
                http_request.who < MAY_CHANGE
            }
            FuzzRequest::Socket(raw) => {
                self.write(&raw).await?;
                false
            }
        };
        let changed = self.target.revision().await != before;
        ensure!(may_change || !changed, "changed without permission");
        if changed {
            self.target.record(RequestKind::Operation, "changed data");
        }
        let alive = self
            .target
            .app
            .http()
            .get(format!("{}/healthz", self.target.server.base))
            .send()
            .await;
        ensure!(
            alive.is_ok_and(|response| response.status() == StatusCode::OK),
            "the server is not alive"
        );
        let logged = self.target.logged();
        ensure!(
            !["a panic", "panicked", "incident"]
                .iter()
                .any(|word| logged.contains(word)),
            "the server logged {logged}"
        );
        Ok(())
    }

    async fn send(&self, http_request: &HttpRequest) -> Checked {
        let mut request = self.client.request(
            http_request.method.clone(),
            format!("{}{}", self.target.server.base, http_request.path),
        );
        for (name, value) in &http_request.headers {
            request = request.header(*name, value.as_slice());
        }
        if let Some(token) = self.tokens.get(http_request.who)
            && http_request.headers.iter().all(|(name, _)| *name != "authorization")
        {
            request = request.bearer_auth(token);
        }
        // Requests that reqwest cannot send are written to a socket.
        let Ok(request) = request.body(http_request.body.clone()).build() else {
            self.target.record(http_request.category, "no request");
            return Ok(());
        };
        let path = request.url().path().to_owned();
        let response = self
            .client
            .execute(request)
            .await
            .map_err(|error| format!("no response: {:?}", error.without_url()))?;
        let (status, headers) = (response.status(), response.headers().clone());
        let body = response
            .text()
            .await
            .map_err(|error| format!("incomplete response: {error:?}"))?;
        let outcome = match path == "/graphql" && http_request.method != Method::HEAD {
            true => documented(status, &headers, &body),
            // /readyz may report that the server is not ready.
            false if !status.is_server_error() || path == "/readyz" => Ok(format!("other path, {status}")),
            false => Err("a server error".to_owned()),
        };
        let outcome = outcome.map_err(|why| format!("{why}: {status} {headers:?} {body}"))?;
        if path == "/graphql"
            && http_request.method == Method::POST
            && let Ok(parameters) = serde_json::from_slice::<Value>(&http_request.body)
            && let (Some(query), Ok(response)) = (parameters["query"].as_str(), serde_json::from_str(&body))
        {
            let operation = parameters["operationName"].as_str();
            conformance::check(query, operation, &parameters["variables"], &response)
                .map_err(|why| format!("{why}: {query} {} {body}", parameters["variables"]))?;
        }
        self.target.record(http_request.category, &outcome);
        ensure!(!body.contains(FOREIGN), "data of another hospital: {body}");
        let masked = http_request.who >= TOKENS - 3;
        ensure!(
            !masked || MASKED.iter().all(|word| !body.contains(word)),
            "masked data: {body}"
        );
        Ok(())
    }

    /// Writes to a socket, and reads until the server closes it.
    async fn write(&self, raw: &SocketRequest) -> Checked {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from((self.address, 0))).unwrap();
        let address = self.target.server.base.trim_start_matches("http://").parse().unwrap();
        let stream = socket
            .connect(address)
            .await
            .map_err(|error| format!("connection refused: {error}"))?;
        stream.set_nodelay(true).unwrap();
        let (mut from, mut to) = stream.into_split();
        let writing = async {
            for piece in &raw.pieces {
                // The server may close the connection early.
                if to.write_all(piece).await.is_err() {
                    break;
                }
            }
            let _ = to.shutdown().await;
        };
        if raw.closes_early {
            writing.await;
            self.target.record(RequestKind::Socket, "left");
            return Ok(());
        }
        let mut response = Vec::new();
        let reading = timeout(TIMEOUT, from.read_to_end(&mut response));
        let ((), read) = tokio::join!(writing, reading);
        ensure!(read.is_ok(), "neither a response nor a closed connection");
        let text = String::from_utf8_lossy(&response);
        let statuses: Vec<&str> = text
            .split("HTTP/1.1 ")
            .skip(1)
            .filter_map(|response| response.get(..3))
            .collect();
        ensure!(statuses.iter().all(|status| !status.starts_with('5')), "{text}");
        ensure!(
            !text.contains(FOREIGN) && MASKED.iter().all(|word| !text.contains(word)),
            "data without a token: {text}"
        );
        let outcome = match statuses.as_slice() {
            [] if response.is_empty() => "closed".to_owned(),
            [] => "frames of HTTP/2".to_owned(),
            [first, ..] => format!("{first} first"),
        };
        self.target.record(RequestKind::Socket, &outcome);
        Ok(())
    }

    /// Checks that the server is ready, and that the other hospital is unchanged.
    async fn check_state(&self) {
        let ready = format!("{}/readyz", self.target.server.base);
        let ready = || self.target.app.http().get(&ready).send();
        wait_until("the server is ready", async || {
            ready().await.unwrap().status() == StatusCode::OK
        })
        .await;
        assert_eq!(self.foreign_client.graphql(&everything()).await, self.other_hospital);
    }

    /// Compares the statistics of the server, after all changes, with those of a new server.
    async fn check_counts(&self) {
        let other = self.target.app.second_server();
        let ask = async |base: &str| {
            let response = self
                .target
                .app
                .post(base, Some(&self.tokens[0]), &everything(), json!({}))
                .await;
            assert!(response.get("errors").is_none(), "{response}");
            response
        };
        assert_eq!(ask(&self.target.server.base).await, ask(&other.base).await);
    }
}

/// Checks that a response of /graphql is as documented, and returns a short description.
fn documented(status: StatusCode, headers: &HeaderMap, body: &str) -> Checked<String> {
    // The path of an error for a URI that is too long is not known.
    if body.is_empty() && [400, 414, 431].contains(&status.as_u16()) {
        return Ok(format!("{status} without a body"));
    }
    let header = |name: &str| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    };
    let media = header("content-type").split(';').next().unwrap_or_default();
    let refused = match media {
        "application/graphql-response+json" => 400,
        "application/json" => 200,
        _ => return Err("another media type".to_owned()),
    };
    ensure!(
        header("cache-control") == "no-store" && !header("x-request-id").is_empty(),
        "headers are missing"
    );
    let response: Value = serde_json::from_str(body).map_err(|error| format!("no JSON: {error}"))?;
    let object = response.as_object().ok_or("no object")?;
    ensure!(
        object.keys().all(|key| key == "data" || key == "errors"),
        "unknown keys"
    );
    let executed = object.contains_key("data");
    let Some(errors) = object.get("errors") else {
        ensure!(
            status == StatusCode::OK && response["data"].is_object(),
            "neither data nor errors"
        );
        return Ok("OK".to_owned());
    };
    let errors = errors
        .as_array()
        .filter(|errors| !errors.is_empty())
        .ok_or("errors are no list")?;
    ensure!(errors.len() <= Limits::default().max_errors + 1, "too many errors");
    let mut codes = Vec::new();
    for error in errors {
        let code = error["extensions"]["code"].as_str().unwrap_or_default();
        ensure!(
            error["message"].is_string() && CODES.contains(&code),
            "the code {code:?}"
        );
        codes.push(code);
    }
    let allowed: &[u16] = match (executed, codes[0]) {
        (true, _) if codes.contains(&"RATE_LIMITED") => &[429],
        (true, _) => &[200],
        (false, "GRAPHQL_PARSE_FAILED" | "GRAPHQL_VALIDATION_FAILED" | "PERSISTED_QUERY_NOT_FOUND") => &[refused],
        (false, "QUERY_TOO_COSTLY") => &[refused, 413],
        (false, "BAD_USER_INPUT") => &[refused, 400, 405, 406, 415],
        (false, "UNAUTHENTICATED") => &[401],
        (false, "RATE_LIMITED") => &[429],
        (false, "BUSY") => &[503],
        (false, "REQUEST_TIMEOUT") => &[504],
        (false, _) => &[],
    };
    ensure!(allowed.contains(&status.as_u16()), "a status other than {allowed:?}");
    ensure!(
        (status == StatusCode::TOO_MANY_REQUESTS) == headers.contains_key("retry-after"),
        "when to try again"
    );
    ensure!(
        (status == StatusCode::METHOD_NOT_ALLOWED) == headers.contains_key("allow"),
        "which methods"
    );
    let what = if executed { "executed, " } else { "" };
    Ok(format!("{what}{}", codes[0]))
}
