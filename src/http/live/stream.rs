//! The answers that one subscription sends.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::protocol::Payload;
use super::questions::{Answer, Asking, Subscriber};
use crate::http::App;
use crate::http::response::RequestError;
use crate::permissions::Viewer;
use crate::store::{AuditAction, NewEntry, Store};

/// The shortest time between two answers of a subscription.
const BETWEEN_ANSWERS: Duration = Duration::from_secs(1);

/// A subscription of a viewer.
pub(super) struct Stream {
    subscriber: Subscriber,
    store: Store,
    viewer: Viewer,
    /// The root field.
    field: String,
    /// What was sent last, and when; none before the first answer.
    last: Option<(Arc<Answer>, Instant)>,
    /// The patients whose data was sent.
    shown: BTreeSet<i64>,
}

/// What a subscription sends next.
pub(super) enum Sent {
    /// An answer, and maybe more.
    Answer(Arc<Answer>, Box<Stream>),
    /// The last answer.
    Last(Arc<Answer>),
    /// It has failed, and ends.
    Failed(Payload),
}

impl Stream {
    pub(super) fn new(app: &App, asking: Asking, field: String) -> Self {
        Self {
            store: app.services.store.clone(),
            viewer: asking.token.viewer.clone(),
            subscriber: Subscriber::new(app, asking),
            field,
            last: None,
            shown: BTreeSet::new(),
        }
    }

    /// Waits for the next answer that differs from the one before, and records in the audit what it shows.
    pub(super) async fn next(mut self: Box<Self>) -> Sent {
        if let Some((_, at)) = &self.last {
            sleep_until(*at + BETWEEN_ANSWERS).await;
        }
        loop {
            let Some(answer) = self.subscriber.next().await else {
                let error = RequestError::internal("a question has ended before its subscribers");
                return Sent::Failed(Payload::of_error(error).await);
            };
            if let Some((last, _)) = &self.last
                && (last.says_the_same(&answer) || (last.failed && answer.failed))
                && !answer.is_last
            {
                continue;
            }
            if answer.failed && (self.last.is_none() || !answer.is_transient) {
                self.audit_refusal(&answer).await;
                return Sent::Failed(answer.payload.errors());
            }
            if let Err(error) = self.store.audit(self.entries(&answer)).await {
                return Sent::Failed(Payload::of_error(error.into()).await);
            }
            self.shown.extend(&answer.patients);
            if answer.is_last {
                return Sent::Last(answer);
            }
            self.last = Some((Arc::clone(&answer), Instant::now()));
            return Sent::Answer(answer, self);
        }
    }

    /// The audit entries of an answer: of the subscription and what was refused with the first one, and of patients who were not shown
    /// before.
    fn entries(&self, answer: &Answer) -> Vec<NewEntry> {
        let mut entries = Vec::new();
        if self.last.is_none() {
            entries.push(NewEntry::of(&self.viewer, AuditAction::Subscribed).what(&self.field));
            entries.extend(self.refusal(answer));
        }
        let new: BTreeSet<i64> = answer.patients.difference(&self.shown).copied().collect();
        if !new.is_empty() {
            entries.push(NewEntry::of(&self.viewer, AuditAction::ViewedPatients).patients(&new));
        }
        entries
    }

    fn refusal(&self, answer: &Answer) -> Option<NewEntry> {
        let refused = answer.refused.join(",");
        (!refused.is_empty()).then(|| NewEntry::of(&self.viewer, AuditAction::Refused).what(&refused))
    }

    async fn audit_refusal(&self, answer: &Answer) {
        if let Some(entry) = self.refusal(answer)
            && let Err(error) = self.store.audit(vec![entry]).await
        {
            tracing::error!("a refused subscription is not in the audit: {}", error.for_operator());
        }
    }
}
