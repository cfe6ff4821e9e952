//! What anybody may send: operations drawn from the schema, valid or nearly so, bodies with bytes changed, odd requests, and
//! bytes on a socket. Whatever comes, there is an answer as documented, or the connection is closed; nothing panics, nothing
//! of another hospital or beneath a mask is shown, nothing is changed by who may not, and counts stay right.
//!
//! `ROLLCALL_FUZZ_SECONDS` says how long it goes on, `ROLLCALL_FUZZ_SEED` with which seed. In the suite it is always the same
//! seed, so that a run that fails fails again.

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
use reqwest::{Client, Method, StatusCode};
use rollcall::config::LIMITS;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;
use tokio::time::timeout;

use crate::harness::conformity;
use crate::harness::{
    App, EXAMPLE, EXAMPLE_VISITS, KINDS, PASSWORD, PATIENCE, SERVE, Server, User, on_each_database, say, setting, until,
};
use operation::Grammar;
use pool::Pool;
use request::{Attack, Numbers, Raw, Sent, Sort, TOKENS, attack};

/// Cases after which ids are looked up anew and tokens are made anew.
const ROUND: u64 = 2_000;

/// Cases after which everything is looked at.
const OFTEN: u64 = 100;

const ROLES: [&str; 4] = ["ADMIN", "DESK", "CLINICIAN", "SUPPORT"];

/// The first two of them may change what is counted.
const MAY_CHANGE: usize = 2;

const CODES: [&str; 13] = [
    "BAD_USER_INPUT",
    "NOT_FOUND",
    "CONFLICT",
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

/// In names and numbers of the other hospital, which nobody here may see.
const FOREIGN: &str = "Fremd";

/// In names of this hospital, and in a phone, which SUPPORT sees masked.
const BENEATH_THE_MASK: [&str; 2] = ["Quokka", "1011110001"];

/// What is wrong, in words.
type Finding = String;

/// A finding, unless the condition holds.
macro_rules! hold {
    ($condition:expr, $($words:tt)+) => {
        if !$condition {
            return Err(format!($($words)+));
        }
    };
}

on_each_database! {
    async fn whatever_is_sent_is_answered_as_documented(app: App) {
        let seed = setting("ROLLCALL_FUZZ_SEED").unwrap_or(1);
        let lasts = Duration::from_secs(setting("ROLLCALL_FUZZ_SECONDS").unwrap_or(4));
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
        let (begun, numbers) = (Instant::now(), (vec(number, 0..700), vec(number, 0..40)));
        let mut cases = 0;
        while begun.elapsed() < lasts {
            cases += 1;
            if cases % ROUND == 0 {
                round = target.round(cases / ROUND).await;
            }
            let case = numbers.new_tree(&mut runner).unwrap();
            let tried = runner.run_one(case, |numbers| {
                let runtime = tokio::runtime::Handle::current();
                let struck = tokio::task::block_in_place(|| runtime.block_on(round.strike(&numbers)));
                struck.map_err(TestCaseError::fail)
            });
            if let Err(TestError::Fail(why, numbers)) = tried {
                let smallest = attack(&target.grammar, &round.pool, &numbers);
                panic!("seed {seed}, case {cases}: {why}\nby\n{smallest}");
            }
            if cases % OFTEN == 0 {
                round.is_well().await;
            }
        }
        round.is_well().await;
        round.counts_as_a_new_server_does().await;
        let told = target.told.lock().unwrap().iter().fold(String::new(), |mut told, (what, count)| {
            writeln!(told, "{count:>9} {what}").unwrap();
            told
        });
        say(&format!("Fuzzing on {:?}, {} s, seed {seed}, {cases} cases:\n{told}", app.kind(), lasts.as_secs()));
    }
}

/// The worked example with a few more, and the same in another hospital.
fn fill(app: &App) {
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
    app.rollcall(&[
        "hospital",
        "add",
        "--code",
        "H2",
        "--name",
        FOREIGN,
        "--time-zone",
        "Asia/Seoul",
    ]);
    for (hospital, word, chart) in [("H1", BENEATH_THE_MASK[0], "Q"), ("H2", FOREIGN, FOREIGN)] {
        let (patients, visits) = people(word, chart);
        app.import("patients", hospital, &patients);
        app.import("visits", hospital, &visits);
    }
}

/// A server, and what it was seen to do.
struct Target<'a> {
    app: &'a App,
    grammar: Grammar,
    server: Server,
    log: Mutex<File>,
    told: Mutex<BTreeMap<String, u64>>,
}

/// As long as the tokens are good.
struct Round<'a> {
    target: &'a Target<'a>,
    tokens: Vec<String>,
    foreigner: User<'a>,
    /// What the foreigner sees, whatever is done here.
    elsewhere: Value,
    pool: Pool,
    /// Whoever attacks comes from an address of its own, which has no failures yet.
    client: Client,
    address: Ipv4Addr,
}

impl<'a> Target<'a> {
    async fn start(app: &'a App) -> Self {
        let log = app.file("log", "");
        let server = Server::start_as(
            app.command(SERVE)
                .stderr(File::options().append(true).open(&log).unwrap()),
        );
        Self {
            app,
            grammar: Grammar::new(include_str!("../../../schema.graphql")),
            server,
            log: Mutex::new(File::open(log).unwrap()),
            told: Mutex::default(),
        }
    }

    /// With staff of its own: those of the last may be disabled by now.
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
            self.app.rollcall_with(&add, PASSWORD);
            self.app.sign_in_at(&self.server.base, hospital, &login).await
        };
        let mut users = Vec::new();
        for role in ROLES {
            users.push(sign_in("H1", role).await);
        }
        let foreigner = sign_in("H2", "ADMIN").await;
        let address = Ipv4Addr::new(127, 0, 1, 1 + u8::try_from(number % 250).unwrap());
        Round {
            target: self,
            pool: Pool::of(&users[0], &foreigner).await,
            tokens: users.into_iter().map(|user| user.token).collect(),
            elsewhere: foreigner.ask(&everything()).await,
            foreigner,
            client: Client::builder()
                .local_address(Some(address.into()))
                .timeout(LIMITS.request + PATIENCE)
                .build()
                .unwrap(),
            address,
        }
    }

    fn tell(&self, sort: Sort, what: &str) {
        *self
            .told
            .lock()
            .unwrap()
            .entry(format!("{sort:?}: {what}"))
            .or_default() += 1;
    }

    /// What the server's log says since it was last looked at.
    fn logged(&self) -> String {
        let mut bytes = Vec::new();
        self.log.lock().unwrap().read_to_end(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    async fn revision(&self) -> i64 {
        let number = "SELECT r.number FROM revision r JOIN hospital h ON h.id = r.hospital_id WHERE h.code = 'H1'";
        self.app.number(number).await
    }
}

/// All that a hospital counts and lists of the worked example.
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
    /// Sends what these numbers make, and says what is wrong with what comes of it.
    async fn strike(&self, numbers: &Numbers) -> Result<(), Finding> {
        let before = self.target.revision().await;
        let may_change = match attack(&self.target.grammar, &self.pool, numbers) {
            Attack::Request(sent) => {
                self.send(&sent).await?;
                sent.who < MAY_CHANGE
            }
            Attack::Socket(raw) => {
                self.write(&raw).await?;
                false
            }
        };
        let changed = self.target.revision().await != before;
        hold!(may_change || !changed, "something was changed by who may not");
        if changed {
            self.target.tell(Sort::Operation, "something was changed");
        }
        let alive = self
            .target
            .app
            .client()
            .get(format!("{}/healthz", self.target.server.base))
            .send()
            .await;
        hold!(
            alive.is_ok_and(|answer| answer.status() == StatusCode::OK),
            "the server is not alive"
        );
        let logged = self.target.logged();
        hold!(
            !["a panic", "panicked", "incident"]
                .iter()
                .any(|word| logged.contains(word)),
            "the log says {logged}"
        );
        Ok(())
    }

    async fn send(&self, sent: &Sent) -> Result<(), Finding> {
        let mut request = self
            .client
            .request(sent.method.clone(), format!("{}{}", self.target.server.base, sent.path));
        for (name, value) in &sent.headers {
            request = request.header(*name, value.as_slice());
        }
        if let Some(token) = self.tokens.get(sent.who)
            && sent.headers.iter().all(|(name, _)| *name != "authorization")
        {
            request = request.bearer_auth(token);
        }
        // What reqwest cannot send is for the socket.
        let Ok(request) = request.body(sent.body.clone()).build() else {
            self.target.tell(sent.sort, "no request");
            return Ok(());
        };
        let path = request.url().path().to_owned();
        let answer = self
            .client
            .execute(request)
            .await
            .map_err(|error| format!("no answer: {:?}", error.without_url()))?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let body = answer
            .text()
            .await
            .map_err(|error| format!("half an answer: {error:?}"))?;
        let told = match path == "/graphql" && sent.method != Method::HEAD {
            true => documented(status, &headers, &body),
            // Whether it is ready is for /readyz to say.
            false if !status.is_server_error() || path == "/readyz" => Ok(format!("elsewhere, {status}")),
            false => Err("an error of the server".to_owned()),
        };
        let told = told.map_err(|why| format!("{why}: {status} {headers:?} {body}"))?;
        if path == "/graphql"
            && sent.method == Method::POST
            && let Ok(parameters) = serde_json::from_slice::<Value>(&sent.body)
            && let (Some(query), Ok(answer)) = (parameters["query"].as_str(), serde_json::from_str(&body))
        {
            let operation = parameters["operationName"].as_str();
            conformity::check(query, operation, &parameters["variables"], &answer)
                .map_err(|why| format!("{why}: {query} {} {body}", parameters["variables"]))?;
        }
        self.target.tell(sent.sort, &told);
        hold!(!body.contains(FOREIGN), "another hospital's data: {body}");
        let masked = sent.who >= TOKENS - 2;
        hold!(
            !masked || BENEATH_THE_MASK.iter().all(|word| !body.contains(word)),
            "beneath the mask: {body}"
        );
        Ok(())
    }

    /// Writes to a socket, and listens until the server closes it.
    async fn write(&self, raw: &Raw) -> Result<(), Finding> {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from((self.address, 0))).unwrap();
        let there = self.target.server.base.trim_start_matches("http://").parse().unwrap();
        let stream = socket
            .connect(there)
            .await
            .map_err(|error| format!("it takes no connection: {error}"))?;
        stream.set_nodelay(true).unwrap();
        let (mut from, mut to) = stream.into_split();
        let writing = async {
            for piece in &raw.pieces {
                // A server that has heard enough closes.
                if to.write_all(piece).await.is_err() {
                    break;
                }
            }
            let _ = to.shutdown().await;
        };
        if raw.leaves {
            writing.await;
            self.target.tell(Sort::Socket, "left");
            return Ok(());
        }
        let mut answer = Vec::new();
        let reading = timeout(PATIENCE, from.read_to_end(&mut answer));
        let ((), read) = tokio::join!(writing, reading);
        hold!(read.is_ok(), "it neither answers nor closes");
        let text = String::from_utf8_lossy(&answer);
        let statuses: Vec<&str> = text
            .split("HTTP/1.1 ")
            .skip(1)
            .filter_map(|answer| answer.get(..3))
            .collect();
        hold!(statuses.iter().all(|status| !status.starts_with('5')), "{text}");
        hold!(
            !text.contains(FOREIGN) && BENEATH_THE_MASK.iter().all(|word| !text.contains(word)),
            "shown to nobody: {text}"
        );
        let told = match statuses.as_slice() {
            [] if answer.is_empty() => "closed".to_owned(),
            [] => "frames of HTTP/2".to_owned(),
            [first, ..] => format!("{first} first"),
        };
        self.target.tell(Sort::Socket, &told);
        Ok(())
    }

    /// The server is ready, and nothing has changed where nobody who attacks belongs.
    async fn is_well(&self) {
        let ready = format!("{}/readyz", self.target.server.base);
        let ready = || self.target.app.client().get(&ready).send();
        until("it is ready", async || {
            ready().await.unwrap().status() == StatusCode::OK
        })
        .await;
        assert_eq!(self.foreigner.ask(&everything()).await, self.elsewhere);
    }

    /// What the server counts, after all that was changed, is what one counts that was not there.
    async fn counts_as_a_new_server_does(&self) {
        let other = self.target.app.second_server();
        let ask = async |base: &str| {
            let answer = self
                .target
                .app
                .post(base, Some(&self.tokens[0]), &everything(), json!({}))
                .await;
            assert!(answer.get("errors").is_none(), "{answer}");
            answer
        };
        assert_eq!(ask(&self.target.server.base).await, ask(&other.base).await);
    }
}

/// What an answer of /graphql is, where it is one as documented.
fn documented(status: StatusCode, headers: &HeaderMap, body: &str) -> Result<String, Finding> {
    // Of what is too long for HTTP, nobody gets to see more.
    if body.is_empty() && [400, 414, 431].contains(&status.as_u16()) {
        return Ok(format!("{status} without a word"));
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
    hold!(
        header("cache-control") == "no-store" && !header("x-request-id").is_empty(),
        "headers are missing"
    );
    let answer: Value = serde_json::from_str(body).map_err(|error| format!("no JSON: {error}"))?;
    let object = answer.as_object().ok_or("no object")?;
    hold!(object.keys().all(|key| key == "data" || key == "errors"), "other keys");
    let executed = object.contains_key("data");
    let Some(errors) = object.get("errors") else {
        hold!(
            status == StatusCode::OK && answer["data"].is_object(),
            "neither data nor errors"
        );
        return Ok("OK".to_owned());
    };
    let errors = errors
        .as_array()
        .filter(|errors| !errors.is_empty())
        .ok_or("errors are no list")?;
    hold!(errors.len() <= LIMITS.errors + 1, "too many errors");
    let mut codes = Vec::new();
    for error in errors {
        let code = error["extensions"]["code"].as_str().unwrap_or_default();
        hold!(
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
        (false, "REQUEST_TIMEOUT") => &[504],
        (false, _) => &[],
    };
    hold!(allowed.contains(&status.as_u16()), "another status than {allowed:?}");
    hold!(
        (status == StatusCode::TOO_MANY_REQUESTS) == headers.contains_key("retry-after"),
        "when to try again"
    );
    hold!(
        (status == StatusCode::METHOD_NOT_ALLOWED) == headers.contains_key("allow"),
        "which methods"
    );
    let what = if executed { "executed, " } else { "" };
    Ok(format!("{what}{}", codes[0]))
}
