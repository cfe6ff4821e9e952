//! What is subscribed to. Equal subscriptions of a role are one question, which is answered once for all of them.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_graphql::{ServerError, Value};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::protocol::Payload;
use crate::auth::AccessToken;
use crate::error::ErrorCode;
use crate::http::App;
use crate::http::graphql::{self, Operation};
use crate::http::media_type::MediaType;
use crate::http::response::{self, RequestError};
use crate::observe::with_request_stats;
use crate::permissions::Role;

/// All questions of a server.
pub(super) struct Questions {
    all: Mutex<HashMap<Key, RunningQuestion>>,
    /// Permits to answer, as many as there are connections to the database.
    permits: Semaphore,
}

/// What makes questions equal.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    hospital: i64,
    role: Role,
    /// None for an answer that does not depend on who the viewer is.
    staff: Option<i64>,
    document: String,
    operation: Option<String>,
    variables: String,
}

/// A subscription, as it is asked by a viewer.
#[derive(Clone)]
pub(super) struct Asking {
    pub(super) operation: Operation,
    /// Its answers change without a new revision of the hospital.
    pub(super) is_polled: bool,
    pub(super) token: AccessToken,
    pub(super) address: IpAddr,
}

/// A question with its subscribers.
struct Question {
    /// As the first subscriber asked it.
    asking: Asking,
    is_personal: bool,
    /// How often an answer was asked for.
    tickets: AtomicU64,
    /// Wakes the task that answers.
    outdated: Notify,
    answers: watch::Sender<Option<Arc<Answer>>>,
    /// The last answer failed for a reason that may pass.
    retry: AtomicBool,
}

/// An answer, for all subscribers of a question.
pub(super) struct Answer {
    /// It was begun after so many had asked for it.
    ticket: u64,
    pub(super) payload: Payload,
    /// There is no data.
    pub(super) failed: bool,
    /// For a reason that may pass.
    pub(super) is_transient: bool,
    /// It depends on who the viewer is.
    is_personal: bool,
    /// There will be no other one.
    pub(super) is_last: bool,
    /// The patients whose data it has.
    pub(super) patients: BTreeSet<i64>,
    /// The fields that the role may not select.
    pub(super) refused: Vec<String>,
}

/// A question and the task that answers it.
struct RunningQuestion {
    question: Arc<Question>,
    task: AbortHandle,
}

/// A subscriber of a question, which is answered as long as it has one.
pub(super) struct Subscriber {
    app: App,
    asking: Asking,
    key: Key,
    question: Arc<Question>,
    /// Answers that were begun before it subscribed are not for it.
    ticket: u64,
    /// None once it is dropped.
    answers: Option<watch::Receiver<Option<Arc<Answer>>>>,
}

impl Questions {
    pub(super) fn new(at_a_time: usize) -> Self {
        Self {
            all: Mutex::default(),
            permits: Semaphore::new(at_a_time),
        }
    }

    fn all(&self) -> MutexGuard<'_, HashMap<Key, RunningQuestion>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The hospitals whose revision answers depend on.
    pub(super) fn hospitals(&self) -> BTreeSet<i64> {
        self.all().keys().map(|key| key.hospital).collect()
    }

    /// Answers again: the questions of hospitals that changed, those that are polled, and those whose last answer failed for a reason
    /// that may pass.
    pub(super) fn answer_outdated(&self, changed: impl Fn(i64) -> bool) {
        for (key, RunningQuestion { question, .. }) in &*self.all() {
            if question.asking.is_polled || question.retry.load(Ordering::Relaxed) || changed(key.hospital) {
                question.outdated.notify_one();
            }
        }
    }
}

impl Subscriber {
    /// Subscribes to a question. Its first answer is begun from now on.
    pub(super) fn new(app: &App, asking: Asking) -> Self {
        Self::join(app, asking, false)
    }

    fn join(app: &App, asking: Asking, is_personal: bool) -> Self {
        let viewer = &asking.token.viewer;
        let key = Key {
            hospital: viewer.hospital,
            role: viewer.role,
            staff: is_personal.then_some(viewer.staff),
            document: asking.operation.text.clone(),
            operation: asking.operation.name.clone(),
            variables: serde_json::to_string(&asking.operation.variables).unwrap_or_default(),
        };
        let mut all = app.live.questions.all();
        let running = all.entry(key.clone()).or_insert_with(|| {
            let question = Arc::new(Question {
                asking: asking.clone(),
                is_personal,
                tickets: AtomicU64::new(0),
                outdated: Notify::new(),
                answers: watch::Sender::new(None),
                retry: AtomicBool::new(false),
            });
            let task = tokio::spawn(keep_answering(app.clone(), Arc::clone(&question)));
            RunningQuestion {
                question,
                task: task.abort_handle(),
            }
        });
        let question = Arc::clone(&running.question);
        let answers = Some(question.answers.subscribe());
        let ticket = question.tickets.fetch_add(1, Ordering::Relaxed) + 1;
        question.outdated.notify_one();
        Self {
            app: app.clone(),
            asking,
            key,
            question,
            ticket,
            answers,
        }
    }

    /// The next answer; if there were several since the last call, the newest.
    pub(super) async fn next(&mut self) -> Option<Arc<Answer>> {
        loop {
            let answers = self.answers.as_mut()?;
            answers.changed().await.ok()?;
            let answer = answers.borrow_and_update().clone();
            match answer {
                Some(answer) if answer.is_personal && !self.question.is_personal => {
                    *self = Self::join(&self.app, self.asking.clone(), true);
                }
                Some(answer) if answer.ticket >= self.ticket => return Some(answer),
                _ => {}
            }
        }
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        let mut all = self.app.live.questions.all();
        self.answers = None;
        if self.question.answers.receiver_count() == 0
            && let Some(running) = all.remove(&self.key)
        {
            running.task.abort();
        }
    }
}

/// Answers a question whenever its answer is outdated.
async fn keep_answering(app: App, question: Arc<Question>) {
    loop {
        question.outdated.notified().await;
        let ticket = question.tickets.load(Ordering::Relaxed);
        let (own_app, own_question) = (app.clone(), Arc::clone(&question));
        // A task of its own, so that subscribers hear of a panic.
        let answering = tokio::spawn(with_request_stats(Arc::default(), async move {
            answer(&own_app, &own_question, ticket).await
        }));
        let answer = match answering.await {
            Ok(answer) => answer,
            Err(error) => {
                Answer::error(
                    ticket,
                    RequestError::internal(&format!("answering a subscription failed: {error}")),
                )
                .await
            }
        };
        app.services.store.metrics().live_answered();
        question.retry.store(answer.is_transient, Ordering::Relaxed);
        question.answers.send_replace(Some(Arc::new(answer)));
    }
}

async fn answer(app: &App, question: &Question, ticket: u64) -> Answer {
    let _permit = app.live.questions.permits.acquire().await;
    let Asking {
        operation,
        token,
        address,
        ..
    } = question.asking.clone();
    let run = graphql::run(app, operation, address, Some((token.viewer, token.family)));
    let limit = app.limits.request_timeout;
    let Ok((context, result)) = timeout(limit, run).await else {
        return Answer::error(ticket, RequestError::timed_out(limit)).await;
    };
    let result = match result {
        Ok(result) => result,
        Err(errors) => {
            let response = response::not_executed(errors, MediaType::GraphqlResponse, &app.limits);
            return Answer::new(ticket, Payload::of(response).await);
        }
    };
    let mut answer = Answer::new(ticket, Payload::Next(String::new()));
    answer.failed = result.data == Value::Null;
    answer.is_transient = result.errors.iter().any(is_transient);
    answer.is_personal = context.is_personal();
    answer.is_last = context.has_ended();
    answer.patients = context.patients_seen();
    answer.refused = response::forbidden_paths(&result);
    let response = response::executed(
        result,
        context.reserved_bytes(),
        MediaType::GraphqlResponse,
        &app.limits,
    );
    answer.payload = Payload::of(response).await;
    answer
}

/// Whether the error may be gone the next time, without a change of the data.
fn is_transient(error: &ServerError) -> bool {
    let code = error.extensions.as_ref().and_then(|extensions| extensions.get("code"));
    let transient = [
        ErrorCode::Busy,
        ErrorCode::BeingRestored,
        ErrorCode::InternalServerError,
        ErrorCode::RequestTimeout,
    ];
    transient
        .iter()
        .any(|transient| code == Some(&transient.as_str().into()))
}

impl Answer {
    pub(super) fn says_the_same(&self, other: &Self) -> bool {
        self.payload == other.payload
    }

    fn new(ticket: u64, payload: Payload) -> Self {
        Self {
            ticket,
            failed: matches!(payload, Payload::Error(_)),
            payload,
            is_transient: false,
            is_personal: false,
            is_last: false,
            patients: BTreeSet::new(),
            refused: Vec::new(),
        }
    }

    /// The answer that could not be given, for a reason that may pass.
    async fn error(ticket: u64, error: RequestError) -> Self {
        Self {
            is_transient: true,
            ..Self::new(ticket, Payload::of_error(error).await)
        }
    }
}
