//! The two servers, one of which is killed now and then, and how clients ask them.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use rand::RngExt as _;
use rand::rngs::StdRng;
use serde_json::{Value, json};

use crate::Held;
use crate::figures::Figures;
use crate::harness::{App, Server};

/// Which server to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Lives as long as the test: its ledger catches up from the first change to the last.
    Steady,
    /// Is killed now and then: its ledger is loaded anew again and again.
    Mortal,
}

impl Which {
    pub fn any(random: &mut StdRng) -> Self {
        if random.random() { Self::Steady } else { Self::Mortal }
    }

    pub fn other(self) -> Self {
        match self {
            Self::Steady => Self::Mortal,
            Self::Mortal => Self::Steady,
        }
    }
}

pub struct Servers<'a> {
    app: &'a App,
    mortal: Mutex<Option<Server>>,
    /// Counts deaths and births of the mortal server.
    turns: AtomicU64,
    token: Mutex<String>,
}

impl<'a> Servers<'a> {
    pub async fn start(app: &'a App) -> Self {
        Self {
            app,
            mortal: Mutex::new(Some(app.second_server())),
            turns: AtomicU64::new(0),
            token: Mutex::new(app.sign_in("admin").await.token),
        }
    }

    /// As `kill -9` does it.
    pub fn kill(&self) {
        self.turns.fetch_add(1, Ordering::SeqCst);
        *self.mortal.lock().unwrap() = None;
    }

    pub fn start_again(&self) {
        let server = self.app.second_server();
        *self.mortal.lock().unwrap() = Some(server);
        self.turns.fetch_add(1, Ordering::SeqCst);
    }

    fn base(&self, which: Which) -> Option<String> {
        match which {
            Which::Steady => Some(self.app.base().to_owned()),
            Which::Mortal => self.mortal.lock().unwrap().as_ref().map(|server| server.base.clone()),
        }
    }

    /// The data of an answer. What fails because a server was killed is asked again, of the other; whatever else fails is a
    /// finding.
    pub async fn ask(&self, which: Which, query: &str, variables: &Value, figures: &Figures) -> Held<Value> {
        let answer = self.try_ask(which, query, variables, figures).await?;
        answer.map_err(|errors| format!("{which:?} says {errors} to {variables} for {query}"))
    }

    /// As [`Self::ask`], but errors that a server answers with are handed back.
    pub async fn try_ask(
        &self,
        which: Which,
        query: &str,
        variables: &Value,
        figures: &Figures,
    ) -> Held<Result<Value, Value>> {
        let body = json!({"query": query, "variables": variables});
        let mut which = which;
        loop {
            let turns = self.turns.load(Ordering::SeqCst);
            let answer = match self.base(which) {
                Some(base) => self.send(&base, &body).await.map_err(|error| format!("{error:?}")),
                None => Err("it is down".to_owned()),
            };
            match answer {
                Ok(mut answer) => match answer["errors"][0]["extensions"]["code"].as_str() {
                    None if answer["errors"].is_null() => return Ok(Ok(answer["data"].take())),
                    Some("UNAUTHENTICATED") => *self.token.lock().unwrap() = self.app.sign_in("admin").await.token,
                    _ => return Ok(Err(answer["errors"].take())),
                },
                Err(_) if which == Which::Mortal && self.was_killed(turns) => {
                    figures.count("requests that met a server's death", 1);
                    which = Which::Steady;
                }
                Err(error) => return Err(format!("{which:?} did not answer, and nobody killed it: {error}")),
            }
        }
    }

    /// Both servers see the data as they are now.
    pub async fn both_look(&self, figures: &Figures) -> Held {
        let look = "{ statistics(period: DAY, range: {from: \"2025-01-01\", to: \"2025-01-01\"}) { revision } }";
        for which in [Which::Steady, Which::Mortal] {
            self.ask(which, look, &json!({}), figures).await?;
        }
        Ok(())
    }

    /// Whether the mortal server was down at some time since.
    fn was_killed(&self, since: u64) -> bool {
        since % 2 == 1 || self.turns.load(Ordering::SeqCst) != since
    }

    async fn send(&self, base: &str, body: &Value) -> reqwest::Result<Value> {
        let token = self.token.lock().unwrap().clone();
        let request = self.app.client().post(format!("{base}/graphql")).bearer_auth(token);
        request.json(body).send().await?.json().await
    }
}
