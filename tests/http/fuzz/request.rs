//! Requests with operations: correct ones, with changed bytes, with unusual methods, headers and paths, and as raw
//! bytes on a socket.

use reqwest::Method;
use serde_json::json;

use super::choices::Choices;
use super::operation::{Grammar, odd_text, operation};
use super::pool::IdPool;

pub enum FuzzRequest {
    Request(HttpRequest),
    Socket(SocketRequest),
}

/// The kind of request, for the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RequestKind {
    Operation,
    Bytes,
    Transport,
    Socket,
}

/// A request that conforms to HTTP.
pub struct HttpRequest {
    pub category: RequestKind,
    /// The index of its token; the last one stands for no token.
    pub who: usize,
    pub method: Method,
    pub path: String,
    pub headers: Vec<(&'static str, Vec<u8>)>,
    pub body: Vec<u8>,
}

/// Bytes written to a socket.
pub struct SocketRequest {
    pub pieces: Vec<Vec<u8>>,
    /// Closes the connection without waiting for a response.
    pub closes_early: bool,
}

impl std::fmt::Display for FuzzRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Request(request) => {
                writeln!(f, "{} {} (token {})", request.method, request.path, request.who)?;
                for (name, value) in &request.headers {
                    writeln!(f, "{name}: {}", value.escape_ascii())?;
                }
                match std::str::from_utf8(&request.body) {
                    Ok(body) => write!(f, "{body}"),
                    Err(_) => write!(f, "{}", request.body.escape_ascii()),
                }
            }
            Self::Socket(raw) => {
                for piece in &raw.pieces {
                    writeln!(f, "{}", piece.escape_ascii())?;
                }
                write!(f, "{}", if raw.closes_early { "then closes" } else { "then reads" })
            }
        }
    }
}

/// The number of tokens, including none.
pub const TOKENS: usize = 6;

/// The numbers that determine the request.
pub type Numbers = (Vec<u32>, Vec<u32>);

pub fn generate(grammar: &Grammar, pool: &IdPool, (what, how): &Numbers) -> FuzzRequest {
    let choices = &mut Choices::new(how);
    let (category, who) = (choices.below(20), choices.below(TOKENS));
    let mut parameters = operation(grammar, pool, &mut Choices::new(what));
    if category == 12 {
        let mut query = parameters.query.into_bytes();
        change(&mut query, choices);
        parameters.query = String::from_utf8_lossy(&query).into_owned();
    }
    let body = parameters.body().to_string().into_bytes();
    let mut request = HttpRequest {
        category: RequestKind::Operation,
        who,
        method: Method::POST,
        path: "/graphql".to_owned(),
        headers: vec![("content-type", b"application/json".to_vec())],
        body,
    };
    if choices.below(2) == 1 {
        request
            .headers
            .push(("accept", b"application/graphql-response+json".to_vec()));
    }
    match category {
        0..=12 => {}
        13..=15 => {
            request.category = RequestKind::Bytes;
            for _ in 0..=choices.below(3) {
                change(&mut request.body, choices);
            }
        }
        16..=17 => {
            request.category = RequestKind::Transport;
            for _ in 0..=choices.below(3) {
                disguise(&mut request, &parameters.query, choices);
            }
        }
        _ => return FuzzRequest::Socket(raw(&request.body, choices)),
    }
    FuzzRequest::Request(request)
}

const SPLICES: [&[u8]; 20] = [
    b"\"",
    b"\\",
    b"\\ud800",
    b"\\u0000",
    b"null",
    b"1e999",
    b"-0",
    b"99999999999999999999999999",
    b"[]",
    b"{}",
    b",",
    b"\xff",
    b"\xc0\xaf",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"\xef\xbb\xbf",
    b"\0",
    b"{\"query\":",
    b"\"extensions\":{\"persistedQuery\":{\"version\":1}},",
    b"...",
];

/// Changes some bytes.
fn change(bytes: &mut Vec<u8>, choices: &mut Choices<'_>) {
    let at = choices.below(bytes.len().max(1)).min(bytes.len());
    let end = (at + 1 + choices.below(40)).min(bytes.len());
    match choices.below(9) {
        0 => bytes.truncate(at),
        1 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << choices.below(8);
            }
        }
        2 => drop(bytes.drain(at..end)),
        3 => {
            let again = bytes[at..end].to_vec();
            bytes.splice(at..at, again);
        }
        4 => drop(bytes.splice(at..at, choices.of(&SPLICES).to_vec())),
        5 => drop(bytes.splice(at..end, choices.of(&SPLICES).to_vec())),
        6 => {
            let deep = choices.of(&[10, 127, 128, 129, 5_000, 300_000]);
            *bytes = [
                "{\"query\":\"{__typename}\",\"variables\":{\"v\":",
                &"[".repeat(deep),
                &"]".repeat(deep),
                "}}",
            ]
            .concat()
            .into();
        }
        7 => {
            let more = choices.of(&[1_000, 1 << 20, (1 << 20) + 1, 3 << 20]);
            bytes.resize(bytes.len() + more, b' ');
        }
        _ => *bytes = json!([{"query": "{ __typename }"}, 1, null]).to_string().into(),
    }
}

const HEADERS: [(&str, &[&[u8]]); 13] = [
    (
        "content-type",
        &[
            b"application/json; charset=utf-8",
            b"application/json; charset=utf-16",
            b"text/plain",
            b"APPLICATION/JSON",
            b"",
            b"\xff",
            b"multipart/form-data; boundary=x",
            b"application/graphql",
            b"application/x-www-form-urlencoded",
            b"application/json;;;=;",
        ],
    ),
    (
        "accept",
        &[
            b"*/*",
            b"text/html",
            b"application/json;q=0",
            b"application/graphql-response+json;q=nan",
            b"",
            b"\xff",
            b",,,;q=,",
            b"application/*;q=1e400",
        ],
    ),
    ("content-encoding", &[b"gzip", b"br", b"identity", b"deflate, gzip"]),
    (
        "authorization",
        &[
            b"",
            b"Bearer",
            b"Bearer ",
            b"Bearer x.y.z",
            b"bearer eyJhbGciOiJub25lIn0.e30.",
            b"Basic YTpi",
            b"Bearer \xff",
            b"Bearer Bearer x",
        ],
    ),
    ("x-request-id", &[b"", b"a b", b"ok-1", b"\xff", b"x\ty"]),
    ("x-forwarded-for", &[b"1.2.3.4", b"::1", b"nonsense", b",,,"]),
    (
        "traceparent",
        &[
            b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            b"00-0-0-0",
            b"\xff",
        ],
    ),
    ("expect", &[b"100-continue", b"200-ok"]),
    ("connection", &[b"close", b"upgrade", b"keep-alive, x-request-id"]),
    ("upgrade", &[b"websocket", b"h2c"]),
    ("origin", &[b"null", b"https://evil.example"]),
    ("cookie", &[b"a=b; c", b"\xff"]),
    ("if-none-match", &[b"*", b"\"x\""]),
];
const PATHS: [&str; 14] = [
    "/graphql/",
    "/graphql/..",
    "//graphql",
    "/GRAPHQL",
    "/graphiql",
    "/graphiql/hint.json",
    "/graphiql/assets/..%2f..%2fCargo.toml",
    "/healthz",
    "/readyz",
    "/metrics",
    "/nowhere",
    "/%00",
    "/%ff%fe",
    "/graphql%3fquery",
];
const METHODS: [&str; 10] = [
    "GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "QUERY", "post", "X",
];

/// Sends it in an unusual way.
fn disguise(request: &mut HttpRequest, query: &str, choices: &mut Choices<'_>) {
    match choices.below(6) {
        0 | 1 => {
            let (name, values) = choices.of(&HEADERS);
            request.headers.retain(|(given, _)| *given != name);
            request.headers.push((name, choices.of(values).to_vec()));
        }
        2 => {
            // In the query string, escaped or nearly so.
            let escaped: String = match choices.below(4) {
                3 => query.chars().filter(char::is_ascii_graphic).take(2_000).collect(),
                _ => query.bytes().take(15_000).map(|byte| format!("%{byte:02x}")).collect(),
            };
            let more = choices.of(&[
                "",
                "&variables=%7B%7D",
                "&variables=1",
                "&operationName=x",
                "&extensions=%7B%22a%22%3A1%7D",
                "&variables=%ff",
                "&&&=&",
            ]);
            request.method = Method::GET;
            request.path = format!("/graphql?query={escaped}{more}");
            request.body.clear();
        }
        3 => request.method = Method::from_bytes(choices.of(&METHODS).as_bytes()).unwrap(),
        4 => choices.of(&PATHS).clone_into(&mut request.path),
        _ => {
            let long = choices.of(&[10, 5_000, 60_000, 90_000]);
            match choices.below(2) {
                0 => request.headers.push(("x-long", vec![b'x'; long])),
                _ => request.path = format!("/graphql?query={}", "x".repeat(long.min(60_000))),
            }
        }
    }
}

/// Bytes that are HTTP, or nearly so.
fn raw(body: &[u8], choices: &mut Choices<'_>) -> SocketRequest {
    let whole = |body: &[u8]| {
        let head = format!(
            "POST /graphql HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        [head.as_bytes(), body].concat()
    };
    let post = |headers: &str, body: &str| {
        format!("POST /graphql HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n{headers}\r\n\r\n{body}")
            .into_bytes()
    };
    const HELLO: &str = "{\"query\": \"{ __typename }\"}";
    let mut bytes = match choices.below(23) {
        0 => whole(body),
        // Truncated somewhere.
        1 => {
            let mut bytes = whole(body);
            bytes.truncate(choices.below(bytes.len()));
            bytes
        }
        2 => whole(HELLO.as_bytes()).repeat(1 + choices.below(60)),
        3 => [whole(body), b"\xff\xfe garbage".to_vec(), whole(HELLO.as_bytes())].concat(),
        4 => post(
            "Transfer-Encoding: chunked",
            &format!("{:x}\r\n{HELLO}\r\n0\r\n\r\n", HELLO.len()),
        ),
        5 => post(
            "Transfer-Encoding: chunked",
            &format!(
                "{}\r\n{HELLO}\r\n0\r\n\r\n",
                choices.of(&["ffffffffffffffff", "-1", "zz", "", "fffffffffffffffff", "5;a=b"])
            ),
        ),
        6 => post("Transfer-Encoding: chunked", "5\r\n{\"quer\r\n"),
        7 => post(
            "Transfer-Encoding: chunked\r\nContent-Length: 5",
            "0\r\n\r\nGET /metrics HTTP/1.1\r\nHost: a\r\n\r\n",
        ),
        8 => post(
            &format!(
                "Content-Length: {}",
                choices.of(&["-1", "1e3", "99999999999999999999", "5, 6", "", "+5", "0x5"])
            ),
            HELLO,
        ),
        9 => post("Content-Length: 5\r\nContent-Length: 6", HELLO),
        10 => post("Content-Length: 1000000", HELLO),
        11 => post("Transfer-Encoding: gzip, chunked", "0\r\n\r\n"),
        12 => b"GET /healthz HTTP/1.1\r\n\r\n".to_vec(),
        13 => b"GET /healthz\r\n".to_vec(),
        14 => b"GET /healthz HTTP/9.9\r\nHost: a\r\n\r\n".to_vec(),
        15 => b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec(),
        16 => {
            // Frames of all types and sizes after the HTTP/2 preface.
            let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
            bytes.extend((0..choices.below(200)).map(|_| choices.below(256) as u8));
            bytes
        }
        17 => b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03".to_vec(),
        18 => format!(
            "GET /healthz HTTP/1.1\r\n{}\r\n",
            "x: y\r\n".repeat(choices.of(&[1, 90, 101, 20_000]))
        )
        .into_bytes(),
        19 => format!(
            "GET /{} HTTP/1.1\r\nHost: a\r\n\r\n",
            "x".repeat(choices.of(&[1, 8_000, 70_000, 600_000]))
        )
        .into_bytes(),
        20 => b"GET /healthz HTTP/1.1\r\nHost: a\r\n folded\r\nBad Name: x\r\n: none\r\n\r\n".to_vec(),
        21 => b"CONNECT graphql:80 HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        _ => odd_text(choices).into_bytes(),
    };
    if choices.below(3) == 1 {
        change(&mut bytes, choices);
    }
    let mut pieces = Vec::new();
    for _ in 0..choices.below(6) {
        let rest = bytes.split_off(choices.below(bytes.len().max(1)).min(bytes.len()));
        pieces.push(std::mem::replace(&mut bytes, rest));
    }
    pieces.push(bytes);
    SocketRequest {
        pieces,
        closes_early: choices.once_in(5),
    }
}
