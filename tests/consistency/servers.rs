//! The two servers, one of which is killed from time to time, and requests to them.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use rand::RngExt as _;
use rand::rngs::StdRng;
use serde_json::{Value, json};
use test_support::{Checked, TestApp, TestServer};

use crate::counters::Counters;

/// Which server a request goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerChoice {
    /// Runs as long as the test: its ledger catches up with every change.
    Stable,
    /// Is killed from time to time: its ledger is loaded again and again.
    Restarting,
}

impl ServerChoice {
    pub fn any(random: &mut StdRng) -> Self {
        if random.random() {
            Self::Stable
        } else {
            Self::Restarting
        }
    }

    pub fn other(self) -> Self {
        match self {
            Self::Stable => Self::Restarting,
            Self::Restarting => Self::Stable,
        }
    }
}

pub struct Servers<'a> {
    app: &'a TestApp,
    restarting: Mutex<Option<TestServer>>,
    /// Incremented when the restarting server stops and when it starts.
    restarts: AtomicU64,
    token: Mutex<String>,
}

impl<'a> Servers<'a> {
    pub async fn start(app: &'a TestApp) -> Self {
        Self {
            app,
            restarting: Mutex::new(Some(app.second_server())),
            restarts: AtomicU64::new(0),
            token: Mutex::new(app.sign_in("admin").await.token),
        }
    }

    /// Like `kill -9`.
    pub fn kill(&self) {
        self.restarts.fetch_add(1, Ordering::SeqCst);
        *self.restarting.lock().unwrap() = None;
    }

    pub fn restart(&self) {
        let server = self.app.second_server();
        *self.restarting.lock().unwrap() = Some(server);
        self.restarts.fetch_add(1, Ordering::SeqCst);
    }

    fn base(&self, which: ServerChoice) -> Option<String> {
        match which {
            ServerChoice::Stable => Some(self.app.base().to_owned()),
            ServerChoice::Restarting => self
                .restarting
                .lock()
                .unwrap()
                .as_ref()
                .map(|server| server.base.clone()),
        }
    }

    /// The data of a response. A request that fails because its server was killed is repeated on the other server; any
    /// other failure is a violation.
    pub async fn graphql(
        &self,
        which: ServerChoice,
        query: &str,
        variables: &Value,
        counters: &Counters,
    ) -> Checked<Value> {
        let response = self.try_graphql(which, query, variables, counters).await?;
        response.map_err(|errors| format!("{which:?} returns {errors} for {query} with {variables}"))
    }

    /// Like [`Self::graphql`], but returns the errors of a response.
    pub async fn try_graphql(
        &self,
        which: ServerChoice,
        query: &str,
        variables: &Value,
        counters: &Counters,
    ) -> Checked<Result<Value, Value>> {
        let body = json!({"query": query, "variables": variables});
        let mut which = which;
        loop {
            let restarts = self.restarts.load(Ordering::SeqCst);
            let response = match self.base(which) {
                Some(base) => self.send(&base, &body).await.map_err(|error| format!("{error:?}")),
                None => Err("the server is down".to_owned()),
            };
            match response {
                Ok(mut response) => match response["errors"][0]["extensions"]["code"].as_str() {
                    None if response["errors"].is_null() => return Ok(Ok(response["data"].take())),
                    Some("UNAUTHENTICATED") => *self.token.lock().unwrap() = self.app.sign_in("admin").await.token,
                    _ => return Ok(Err(response["errors"].take())),
                },
                Err(_) if which == ServerChoice::Restarting && self.was_killed(restarts) => {
                    counters.count("requests to a server that was killed", 1);
                    which = ServerChoice::Stable;
                }
                Err(error) => return Err(format!("{which:?} did not respond, and was not killed: {error}")),
            }
        }
    }

    /// Makes both servers load the current data.
    pub async fn query_both(&self, counters: &Counters) -> Checked {
        let look = "{ statistics(period: DAY, range: {from: \"2025-01-01\", to: \"2025-01-01\"}) { revision } }";
        for which in [ServerChoice::Stable, ServerChoice::Restarting] {
            self.graphql(which, look, &json!({}), counters).await?;
        }
        Ok(())
    }

    /// Whether the restarting server was down at some time since.
    fn was_killed(&self, since: u64) -> bool {
        since % 2 == 1 || self.restarts.load(Ordering::SeqCst) != since
    }

    async fn send(&self, base: &str, body: &Value) -> reqwest::Result<Value> {
        let token = self.token.lock().unwrap().clone();
        let request = self.app.http().post(format!("{base}/graphql")).bearer_auth(token);
        request.json(body).send().await?.json().await
    }
}
