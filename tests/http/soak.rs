//! Legitimate clients send the console's queries while others attack the server: they get the same responses each time,
//! and memory use is bounded. `ROLLCALL_SOAK_SECONDS` sets the duration. Latencies are printed but not checked, since
//! they depend on the machine.
//!
//! Each client has its own loopback address, since rates are limited by address.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use reqwest::{Client, StatusCode};
use rollcall::config::{Limits, Memory};
use serde_json::{Value, json};
use test_support::{
    KINDS, SERVE, TIMEOUT, TestApp, TestServer, env_number, on_each_database, print_uncaptured, wait_until,
};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::fault_injection::{patients, visits, year};

/// The limit on memory growth compared with legitimate load alone: the caches, and memory in use by concurrent
/// requests.
fn max_growth() -> u64 {
    let caches = Memory::of(Limits::default().cache_mebibytes);
    caches.snapshots + caches.lists + (768 << 20)
}

/// A request body and its expected response.
type ExpectedResponse = (Value, Value);

on_each_database! {
    async fn legitimate_clients_are_served_during_attacks(app: TestApp) {
        let duration = Duration::from_secs(env_number("ROLLCALL_SOAK_SECONDS").unwrap_or(6));
        app.import("patients", "H1", &patients(1_500));
        app.import("visits", "H1", &visits(6_000, 1_500));
        let rates = ["--requests-per-second", "100", "--requests-per-second-per-address", "200"];
        let server = TestServer::spawn(app.command(&[SERVE, &rates].concat()).stderr(Stdio::null()));
        let mut tokens = Vec::new();
        for login in ["admin", "clinician", "desk", "support"] {
            tokens.push(app.sign_in_at(&server.base, "H1", login).await.token);
        }
        let expected_responses = expected_responses(app, &server.base, &tokens[2]).await;
        let baseline = send_legitimate_load(&server, &tokens[..3], &expected_responses, duration / 3).await;
        let attack = AttackLoad::begin(&server.base, &tokens[3]);
        let under_attack = send_legitimate_load(&server, &tokens[..3], &expected_responses, duration * 2 / 3).await;
        let counts = attack.end().await;

        let ready = || app.http().get(format!("{}/readyz", server.base)).send();
        wait_until("the server is ready", async || ready().await.unwrap().status() == StatusCode::OK).await;
        let mut report = format!("Soak on {:?}, {} s:\n", app.kind(), duration.as_secs());
        for (when, seen) in [("calm", &baseline), ("stormy", &under_attack)] {
            let rss: Vec<String> = seen.memory.iter().map(|bytes| (bytes >> 20).to_string()).collect();
            let (p50, p99) = (seen.percentile(50), seen.percentile(99));
            writeln!(report, "   {when}: {} answers, p50 {p50:.1?}, p99 {p99:.1?}; MiB {}", seen.latencies.len(), rss.join(" ")).unwrap();
        }
        for (what, count) in counts {
            writeln!(report, "{count:>9} {what}").unwrap();
        }
        print_uncaptured(&report);
        if let (Some(before), Some(after)) = (baseline.memory.last(), under_attack.memory.last()) {
            assert!(*after < before + max_growth(), "from {before} bytes to {after}");
        }
    }
}

/// The console's queries, with their responses when there is no other load.
async fn expected_responses(app: &TestApp, base: &str, token: &str) -> Vec<ExpectedResponse> {
    let statistics =
        "statistics(period: MONTH, range: {from: \"2025-01-01\", to: \"2025-12-31\"}, asOf: \"2026-01-31\")";
    let list = "patients(first: 10, orderBy: {field: LAST_VISIT, direction: DESC}) {
        totalCount edges { firstVisitDate lastVisitDate visitCount node { id chartNo name phone } } }
        visits(first: 10) { totalCount edges { date status node { channel department { name } patient { name } } } }";
    let id = app
        .post(base, Some(token), &format!("{{ {statistics} {{ id }} }}"), json!({}))
        .await;
    let snapshot = format!(
        "{{ statisticsSnapshot(id: {}) {{ buckets {{ visitors {{ id patientCount digest }} }} }} }}",
        id["data"]["statistics"]["id"]
    );
    let queries = [
        year(),
        format!("{{ {statistics} {{ bucket(day: \"2025-06-20\") {{ cohort(kind: CHURN_SUSPECTED) {{ id patientCount {list} }} }} }} }}"),
        "{ patients(first: 1, filter: {search: \"P17\"}) { nodes { chartNo name phone visits(first: 20) { totalCount nodes { date status } } } } }".to_owned(),
        snapshot,
    ];
    let mut expected_responses = Vec::new();
    for query in queries {
        let response = app.post(base, Some(token), &query, json!({})).await;
        assert!(response.get("errors").is_none(), "{response}");
        expected_responses.push((json!({"query": query}), response));
    }
    expected_responses
}

/// Measurements of legitimate load.
struct LoadResult {
    latencies: Vec<Duration>,
    /// Resident memory of the server, sampled; only on Linux.
    memory: Vec<u64>,
}

impl LoadResult {
    fn percentile(&self, percent: usize) -> Duration {
        self.latencies[(self.latencies.len() - 1) * percent / 100]
    }
}

/// Sends the queries for a while with every token; each response must be the expected one.
async fn send_legitimate_load(
    server: &TestServer,
    tokens: &[String],
    expected_responses: &[ExpectedResponse],
    duration: Duration,
) -> LoadResult {
    let started = Instant::now();
    let asking = tokens.iter().zip(1..).map(async |(token, number)| {
        let client = client(Ipv4Addr::new(127, 0, 2, number));
        let mut latencies = Vec::new();
        // Each query at least once, however slow it is.
        while started.elapsed() < duration || latencies.len() < expected_responses.len() {
            let (question, expected) = &expected_responses[latencies.len() % expected_responses.len()];
            let asked = Instant::now();
            let request = client
                .post(format!("{}/graphql", server.base))
                .bearer_auth(token)
                .json(question);
            let response: Value = request.send().await.unwrap().json().await.unwrap();
            latencies.push(asked.elapsed());
            assert_eq!(response, *expected);
            sleep(Duration::from_millis(20)).await;
        }
        latencies
    });
    let sample_memory = async {
        let mut memory = Vec::new();
        while started.elapsed() < duration {
            sleep(duration / 10).await;
            memory.extend(resident(server.id()));
        }
        memory
    };
    let (latencies, memory) = tokio::join!(futures_util::future::join_all(asking), sample_memory);
    let mut latencies = latencies.concat();
    latencies.sort_unstable();
    LoadResult { latencies, memory }
}

/// The resident memory of a process in bytes.
fn resident(process: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? << 10)
}

fn client(address: Ipv4Addr) -> Client {
    Client::builder()
        .local_address(Some(address.into()))
        .timeout(2 * TIMEOUT)
        .build()
        .unwrap()
}

/// All attacks at once.
struct AttackLoad {
    running: JoinSet<()>,
    counts: ResponseCounts,
}

#[derive(Clone, Default)]
struct ResponseCounts(Arc<Mutex<BTreeMap<String, u64>>>);

impl ResponseCounts {
    fn count(&self, what: &str, how: impl std::fmt::Display) {
        *self.0.lock().unwrap().entry(format!("{what}: {how}")).or_default() += 1;
    }
}

/// An attacking client with its own address.
#[derive(Clone)]
struct Attacker {
    base: String,
    /// A valid token.
    token: String,
    number: u8,
    counts: ResponseCounts,
}

impl AttackLoad {
    fn begin(base: &str, token: &str) -> Self {
        let counts = ResponseCounts::default();
        let mut running = JoinSet::new();
        for number in 0..10 {
            let attacker = Attacker {
                base: base.to_owned(),
                token: token.to_owned(),
                number,
                counts: counts.clone(),
            };
            match number {
                0 | 1 => running.spawn(attacker.send_costly_queries()),
                2 => running.spawn(attacker.send_query_bombs()),
                3 | 4 => running.spawn(attacker.guess_passwords()),
                5 => running.spawn(attacker.flood()),
                6 => running.spawn(attacker.send_large_bodies()),
                7 => running.spawn(attacker.send_slowly()),
                8 => running.spawn(attacker.hold_idle_connections()),
                _ => running.spawn(attacker.disconnect_early()),
            };
        }
        Self { running, counts }
    }

    async fn end(mut self) -> BTreeMap<String, u64> {
        self.running.abort_all();
        while let Some(ended) = self.running.join_next().await {
            assert!(
                ended.is_err_and(|error| error.is_cancelled()),
                "an attacker stopped by itself"
            );
        }
        std::mem::take(&mut self.counts.0.lock().unwrap())
    }
}

impl Attacker {
    fn address(&self) -> Ipv4Addr {
        Ipv4Addr::new(127, 0, 3, 1 + self.number)
    }

    /// Sends a request; any response but an internal error is accepted.
    async fn send(&self, what: &str, client: &Client, body: String) {
        let request = client.post(format!("{}/graphql", self.base)).bearer_auth(&self.token);
        match request
            .header("content-type", "application/json")
            .body(body)
            .send()
            .await
        {
            Ok(response) => {
                let status = response.status();
                assert!(status != StatusCode::INTERNAL_SERVER_ERROR, "{what}");
                let text = response.text().await.unwrap_or_default();
                let code = serde_json::from_str::<Value>(&text).ok();
                let code = code
                    .as_ref()
                    .and_then(|response| response["errors"][0]["extensions"]["code"].as_str());
                assert_ne!(code, Some("INTERNAL_SERVER_ERROR"), "{what}: {text}");
                self.counts
                    .count(what, format!("{} {}", status.as_u16(), code.unwrap_or_default()));
            }
            Err(_) => self.counts.count(what, "no answer"),
        }
    }

    async fn connect(&self) -> Option<TcpStream> {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from((self.address(), 0))).ok()?;
        socket
            .connect(self.base.trim_start_matches("http://").parse().unwrap())
            .await
            .ok()
    }

    /// Just below and just above the limits.
    async fn send_costly_queries(self) {
        let client = client(self.address());
        let lists = KINDS
            .map(|kind| format!("{kind}: cohort(kind: {kind}) {{ patientCount digest }}"))
            .join(" ");
        for number in 0_u64.. {
            let day = chrono::NaiveDate::from_ymd_opt(2025, 1, 1).unwrap() + chrono::Days::new(number % 300);
            let query = match number % 4 {
                0 => format!("{{ statistics(period: DAY, range: {{from: \"2016-01-01\", to: \"2025-12-31\"}}, asOf: \"{day}\") {{ buckets {{ {lists} }} }} }}"),
                1 => "{ patients(first: 100) { nodes { chartNo visits(first: 100) { nodes { date status department { name } patient { name } } } } } }".to_owned(),
                2 => format!("{{ statistics(period: YEAR, range: {{from: \"2025-01-01\", to: \"2025-12-31\"}}, asOf: \"{day}\") {{ total {{ visitors {{ patientIds visitIds }} returning {{ visitIds }} }} }} }}"),
                _ => "{ patients(first: 100) { nodes { visits(first: 100) { nodes { patient { visits(first: 100) { nodes { id } } } } } } } }".to_owned(),
            };
            self.send("costly", &client, json!({"query": query}).to_string()).await;
        }
    }

    async fn send_query_bombs(self) {
        let client = client(self.address());
        let spread: String = (0..10)
            .map(|i| format!("fragment f{i} on Query {{ {} }}", format!("...f{} ", i + 1).repeat(5)))
            .collect();
        let bombs = [
            format!("{{ ...f0 }} {spread} fragment f10 on Query {{ __typename }}"),
            format!("{{ a(b: {}) }}", "[".repeat(500_000)),
            format!("{{ {} }}", "a ".repeat(450_000)),
            format!(
                "{{ {} }}",
                (0..200)
                    .map(|i| format!("a{i}: patient(id: \"x\") {{ id }} "))
                    .collect::<String>()
            ),
        ];
        for bomb in bombs.iter().cycle() {
            self.send("bomb", &client, json!({"query": bomb}).to_string()).await;
        }
    }

    /// Eight at a time, each with another login and from another address.
    async fn guess_passwords(self) {
        let mut clients: Vec<_> = (0..8)
            .map(|i| (i, client(Ipv4Addr::new(127, 1 + self.number, i, 1))))
            .collect();
        for number in 0.. {
            let guesses = clients.iter().map(async |(i, client)| {
                let input =
                    json!({"hospital": "H1", "login": format!("nobody-{number}-{i}"), "password": "wrong password"});
                let query = "mutation ($input: SignInInput!) { signIn(input: $input) { session { accessToken } } }";
                self.send(
                    "sign-in",
                    client,
                    json!({"query": query, "variables": {"input": input}}).to_string(),
                )
                .await;
            });
            futures_util::future::join_all(guesses).await;
            let other = u8::try_from(2 + number % 250).unwrap();
            clients
                .iter_mut()
                .for_each(|(i, one)| *one = client(Ipv4Addr::new(127, 1 + self.number, *i, other)));
        }
    }

    async fn flood(self) {
        let client = client(self.address());
        loop {
            let many =
                (0..16).map(|_| self.send("flood", &client, json!({"query": "{ viewer { login } }"}).to_string()));
            futures_util::future::join_all(many).await;
        }
    }

    async fn send_large_bodies(self) {
        let client = client(self.address());
        for size in [1_000_000_usize, 2 << 20, 7 << 20, 20 << 20].into_iter().cycle() {
            let body = format!(
                "{{\"query\": \"{{ __typename }}\", \"variables\": {{\"x\": \"{}\"}}}}",
                "x".repeat(size)
            );
            self.send("huge body", &client, body).await;
        }
    }

    /// Headers and bodies, byte by byte.
    async fn send_slowly(self) {
        let mut slow = Vec::new();
        loop {
            if slow.len() < 100
                && let Some(mut stream) = self.connect().await
            {
                let head = "POST /graphql HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n";
                let body = if slow.len() % 2 == 0 {
                    "Content-Length: 100000\r\n\r\n"
                } else {
                    ""
                };
                let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
                slow.push(stream);
                self.counts.count("slow", "opened");
            }
            for stream in &mut slow {
                let _ = stream.write_all(b"x").await;
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    async fn hold_idle_connections(self) {
        let mut open = Vec::new();
        loop {
            match self.connect().await {
                Some(stream) if open.len() < 200 => open.push(stream),
                Some(_) => self.counts.count("opened and left", "closed again"),
                None => self.counts.count("opened and left", "refused"),
            }
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Sends slow queries and disconnects before the response.
    async fn disconnect_early(self) {
        let client = client(self.address());
        for number in 0_u64.. {
            let day = chrono::NaiveDate::from_ymd_opt(2025, 1, 1).unwrap() + chrono::Days::new(number % 300);
            let query = format!(
                "{{ statistics(period: DAY, range: {{from: \"2020-01-01\", to: \"2025-12-31\"}}, asOf: \"{day}\") {{ id buckets {{ visitors {{ digest }} }} }} }}"
            );
            let request = client
                .post(format!("{}/graphql", self.base))
                .bearer_auth(&self.token)
                .json(&json!({"query": query}));
            let answered = request
                .timeout(Duration::from_millis(1 + number % 30))
                .send()
                .await
                .is_ok();
            self.counts
                .count("given up", if answered { "answered all the same" } else { "gone" });
            sleep(Duration::from_millis(10)).await;
        }
    }
}
