//! The context of a request: its session, loaders, audit trail and the size left of its response.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{self, Poll, Wake, Waker};
use std::time::Duration;

use async_graphql::Context;
use async_graphql::dataloader::DataLoader;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::OnceCell;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::{block_in_place, unconstrained};

use super::loaders::Loaders;
use crate::auth::Auth;
use crate::config::Limits;
use crate::error::{Error, Result};
use crate::mask::Visibility;
use crate::permissions::{Action, Viewer};
use crate::reporting::Reporting;
use crate::store::{AuditAction, AuditedList, HospitalState, NewEntry, Store};

/// The services that all requests share.
#[derive(Clone)]
pub struct Services {
    pub store: Store,
    pub reporting: Arc<Reporting>,
    pub auth: Arc<Auth>,
    pub limits: Arc<Limits>,
}

/// The context of one request. It has its own loaders, so that masked data is never mixed with unmasked data.
pub struct RequestContext {
    address: IpAddr,
    session: OnceLock<AuthenticatedSession>,
    state: OnceCell<HospitalState>,
    loader_tasks: UnboundedSender<LoaderTask>,
    audit_trail: Mutex<AuditTrail>,
    /// The bytes that the response may still use.
    response_bytes: Arc<ResponseBytes>,
    /// The derived lists of the request.
    derived: AtomicUsize,
    /// The response depends on who the viewer is, not only on the role.
    personal: AtomicBool,
    /// The subscription that the response answers has ended.
    ended: AtomicBool,
}

/// The bytes left of a response. Fields whose value may be long reserve theirs before they write it.
pub(super) struct ResponseBytes {
    limit: usize,
    left: AtomicUsize,
}

impl ResponseBytes {
    /// Fails if fewer bytes are left.
    pub(super) fn require(&self, bytes: usize) -> Result<()> {
        let left = self.left.load(Ordering::Relaxed);
        if bytes <= left {
            Ok(())
        } else {
            Err(self.too_many(bytes, left))
        }
    }

    /// Reserves so many bytes.
    pub(super) fn take(&self, bytes: usize) -> Result<()> {
        let taken = self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes));
        taken.map(|_| ()).map_err(|left| self.too_many(bytes, left))
    }

    fn too_many(&self, bytes: usize, left: usize) -> Error {
        let limit = self.limit;
        Error::TooCostly(format!(
            "this takes {bytes} bytes or more of the response, {left} of its {limit} are left: ask for fewer ids, or for pages of the lists"
        ))
    }
}

/// The patients whose data is in the response.
#[derive(Default)]
struct AuditTrail {
    patients: BTreeSet<i64>,
    lists: BTreeSet<AuditedList>,
    /// Patients on a page of one of the lists; the entry of the list covers them.
    listed: BTreeSet<i64>,
    /// The patients found by searches; none without a search.
    found: Option<BTreeSet<i64>>,
}

/// A loader's task: it takes the waiting keys when it is first polled.
type LoaderTask = BoxFuture<'static, ()>;

/// The loaders' tasks of one request, which are polled with it.
pub struct BatchScheduler(UnboundedReceiver<LoaderTask>);

/// The session of a signed-in member of staff.
struct AuthenticatedSession {
    viewer: Viewer,
    /// The family of the session's refresh tokens.
    family: String,
    loaders: DataLoader<Loaders>,
}

impl RequestContext {
    /// The context of a request from this address. Without a viewer and the family of the session, only signing in is possible.
    #[must_use]
    pub fn new(services: &Services, address: IpAddr, viewer: Option<(Viewer, String)>) -> (Self, BatchScheduler) {
        let (sender, receiver) = unbounded_channel();
        let session =
            viewer.map(|(viewer, family)| AuthenticatedSession::new(services, viewer, family, sender.clone()));
        let context = Self {
            address,
            session: session.map_or_else(OnceLock::new, OnceLock::from),
            state: OnceCell::new(),
            loader_tasks: sender,
            audit_trail: Mutex::default(),
            response_bytes: Arc::new(ResponseBytes {
                limit: services.limits.max_response_bytes,
                left: AtomicUsize::new(services.limits.max_response_bytes),
            }),
            derived: AtomicUsize::new(0),
            personal: AtomicBool::new(false),
            ended: AtomicBool::new(false),
        };
        (context, BatchScheduler(receiver))
    }

    /// The bytes of the response that were reserved.
    #[must_use]
    pub fn reserved_bytes(&self) -> usize {
        self.response_bytes.limit - self.response_bytes.left.load(Ordering::Relaxed)
    }

    /// Whether the response depends on who the viewer is, not only on the role.
    #[must_use]
    pub fn is_personal(&self) -> bool {
        self.personal.load(Ordering::Relaxed)
    }

    /// Whether this is the last answer of the subscription.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    /// The patients whose data is in the response, on pages of lists too.
    #[must_use]
    pub fn patients_seen(&self) -> BTreeSet<i64> {
        let seen = self.audit_trail.lock().unwrap_or_else(PoisonError::into_inner);
        let all = seen.patients.union(&seen.listed).chain(seen.found.iter().flatten());
        all.copied().collect()
    }

    /// The audit entries of the request once it has been executed; `refused` are the fields that the viewer may not select.
    #[must_use]
    pub fn audit_entries(&self, refused: &[String]) -> Vec<NewEntry> {
        let Some(AuthenticatedSession { viewer, .. }) = self.session.get() else {
            return Vec::new();
        };
        let seen = std::mem::take(&mut *self.audit_trail.lock().unwrap_or_else(PoisonError::into_inner));
        let lists = seen.lists.iter();
        let mut entries: Vec<_> = lists
            .map(|list| NewEntry::of(viewer, AuditAction::OpenedList).list(list))
            .collect();
        let patients: BTreeSet<i64> = seen.patients.difference(&seen.listed).copied().collect();
        if !patients.is_empty() {
            entries.push(NewEntry::of(viewer, AuditAction::ViewedPatients).patients(&patients));
        }
        if let Some(found) = seen.found {
            entries.push(NewEntry::of(viewer, AuditAction::Searched).patients(&found));
        }
        if !refused.is_empty() {
            entries.push(NewEntry::of(viewer, AuditAction::Refused).what(&refused.join(",")));
        }
        entries
    }
}

impl BatchScheduler {
    /// Runs the execution of a request together with its loaders. A loader starts when the execution cannot proceed otherwise,
    /// so a batch has every key that the page needs, without a delay. A costly execution runs where it does not block other
    /// requests.
    pub async fn run<T>(mut self, execution: impl Future<Output = T>, costly: bool) -> T {
        // Unconstrained: tokio's cooperative budget would split the batch of a page.
        let mut execution = pin!(unconstrained(execution));
        let mut loads = FuturesUnordered::new();
        poll_fn(move |task| {
            let woken = Arc::new(ExecutionWaker {
                task: task.waker().clone(),
                again: AtomicBool::new(false),
            });
            let waker = Waker::from(Arc::clone(&woken));
            loop {
                woken.again.store(false, Ordering::Relaxed);
                let mut execute = || execution.as_mut().poll(&mut task::Context::from_waker(&waker));
                let executed = if costly { block_in_place(execute) } else { execute() };
                if let Poll::Ready(done) = executed {
                    return Poll::Ready(done);
                }
                // It yielded, and may add more keys to the batch.
                if woken.again.load(Ordering::Relaxed) {
                    continue;
                }
                while let Ok(load) = self.0.try_recv() {
                    loads.push(load);
                }
                match loads.poll_next_unpin(task) {
                    Poll::Ready(Some(())) => {}
                    _ if woken.again.load(Ordering::Relaxed) => {}
                    _ => return Poll::Pending,
                }
            }
        })
        .await
    }
}

/// Records that the execution can continue, and wakes the request.
struct ExecutionWaker {
    task: Waker,
    again: AtomicBool,
}

impl Wake for ExecutionWaker {
    fn wake(self: Arc<Self>) {
        self.again.store(true, Ordering::Relaxed);
        self.task.wake_by_ref();
    }
}

impl AuthenticatedSession {
    fn new(services: &Services, viewer: Viewer, family: String, loader_tasks: UnboundedSender<LoaderTask>) -> Self {
        let loaders = Loaders::new(services.store.clone(), viewer.hospital);
        // The receiver lives as long as the request.
        let spawn = move |load| drop(loader_tasks.send(load));
        Self {
            viewer,
            family,
            loaders: DataLoader::new(loaders, spawn).delay(Duration::ZERO),
        }
    }
}

/// Makes the member of staff who just signed in the viewer for the rest of the request.
pub(super) fn authenticate(ctx: &Context<'_>, viewer: Viewer, family: String) -> Result<()> {
    let context = request_context(ctx)?;
    let session = AuthenticatedSession::new(services(ctx)?, viewer, family, context.loader_tasks.clone());
    context
        .session
        .set(session)
        .map_err(|_| Error::input("input", "a request signs in once, and nobody who is signed in already"))
}

fn unauthenticated() -> Error {
    Error::Unauthenticated("sign in first, and send the access token as `Authorization: Bearer …`".to_owned())
}

fn request_context<'a>(ctx: &Context<'a>) -> Result<&'a RequestContext> {
    Ok(&**ctx.data_opt::<Arc<RequestContext>>().ok_or_else(unauthenticated)?)
}

/// The bytes that the response may still use.
pub(super) fn response_bytes<'a>(ctx: &Context<'a>) -> Result<&'a Arc<ResponseBytes>> {
    Ok(&request_context(ctx)?.response_bytes)
}

/// Counts a derived list of the request, and fails if there are too many.
pub(super) fn reserve_derived(ctx: &Context<'_>) -> Result<()> {
    let (before, max) = (
        request_context(ctx)?.derived.fetch_add(1, Ordering::Relaxed),
        limits(ctx)?.max_derived_lists,
    );
    if before < max {
        return Ok(());
    }
    Err(Error::TooCostly(format!(
        "a request may make at most {max} derived lists: make fewer at once"
    )))
}

/// Records for the audit that the response has data of the patient. Constructors of `Patient` and `Visit` call it; their fields need not.
pub(super) fn audit_patient_view(ctx: &Context<'_>, patient: i64) -> Result<()> {
    let mut seen = request_context(ctx)?
        .audit_trail
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    seen.patients.insert(patient);
    Ok(())
}

/// Records for the audit that the response has the result of a search by name, chart number or phone, even if only their number.
pub(super) fn audit_search(ctx: &Context<'_>, found: impl Iterator<Item = i64>) -> Result<()> {
    let mut seen = request_context(ctx)?
        .audit_trail
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    seen.found.get_or_insert_default().extend(found);
    Ok(())
}

/// Records for the audit that the response has a page of a snapshot's list, with these patients.
pub(super) fn audit_list_view(ctx: &Context<'_>, list: AuditedList, patients: impl Iterator<Item = i64>) -> Result<()> {
    let mut seen = request_context(ctx)?
        .audit_trail
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    seen.listed.extend(patients);
    seen.lists.insert(list);
    Ok(())
}

fn session<'a>(ctx: &Context<'a>) -> Result<&'a AuthenticatedSession> {
    request_context(ctx)?.session.get().ok_or_else(unauthenticated)
}

pub(super) fn services<'a>(ctx: &Context<'a>) -> Result<&'a Services> {
    ctx.data_opt::<Services>()
        .ok_or_else(|| Error::Internal("the schema has no store".to_owned()))
}

/// The limits of the server.
pub(super) fn limits<'a>(ctx: &Context<'a>) -> Result<&'a Limits> {
    Ok(&services(ctx)?.limits)
}

pub(super) fn viewer<'a>(ctx: &Context<'a>) -> Result<&'a Viewer> {
    Ok(&session(ctx)?.viewer)
}

/// The id of the viewer, for what is shown to nobody else of the same role.
pub(super) fn own_staff_id(ctx: &Context<'_>) -> Result<i64> {
    request_context(ctx)?.personal.store(true, Ordering::Relaxed);
    Ok(viewer(ctx)?.staff)
}

/// Ends the subscription that is being answered with this answer.
pub(super) fn end_subscription(ctx: &Context<'_>) -> Result<()> {
    request_context(ctx)?.ended.store(true, Ordering::Relaxed);
    Ok(())
}

/// Whether the viewer sees patients in full; they are masked for others.
pub(super) fn sees_in_full(ctx: &Context<'_>) -> Result<bool> {
    Ok(viewer(ctx)?.role.may(Action::SeePatientsInFull))
}

/// What the viewer sees of patients.
pub(super) fn visibility<'a>(ctx: &Context<'a>) -> Result<Visibility<'a>> {
    Ok(Visibility::of(Some(viewer(ctx)?.role), services(ctx)?.store.secrets()))
}

/// The client's address.
pub(super) fn client_address(ctx: &Context<'_>) -> Result<IpAddr> {
    Ok(request_context(ctx)?.address)
}

/// The family of the session's refresh tokens.
pub(super) fn session_family<'a>(ctx: &Context<'a>) -> Result<&'a str> {
    Ok(&session(ctx)?.family)
}

pub(super) fn loaders<'a>(ctx: &Context<'a>) -> Result<&'a DataLoader<Loaders>> {
    Ok(&session(ctx)?.loaders)
}

/// The hospital's state, loaded once per request.
pub(super) async fn hospital_state<'a>(ctx: &Context<'a>) -> Result<&'a HospitalState> {
    let hospital = viewer(ctx)?.hospital;
    let services = services(ctx)?;
    request_context(ctx)?
        .state
        .get_or_try_init(|| services.store.hospital_state(hospital, 0))
        .await
}

/// The date now in the hospital's time zone.
pub(super) async fn today(ctx: &Context<'_>) -> Result<chrono::NaiveDate> {
    let zone = hospital_state(ctx).await?.time_zone;
    Ok(services(ctx)?.store.today(zone))
}
