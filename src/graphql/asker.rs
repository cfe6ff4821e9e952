//! Who asks, and what one request keeps at hand.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_graphql::Context;
use async_graphql::dataloader::DataLoader;
use tokio::sync::OnceCell;

use super::loaders::Loaders;
use crate::auth::Auth;
use crate::desk::Desk;
use crate::error::{Error, Result};
use crate::permissions::Viewer;
use crate::store::{State, Store};

/// What all requests share.
#[derive(Clone)]
pub struct Shared {
    pub store: Store,
    pub desk: Arc<Desk>,
    pub auth: Arc<Auth>,
}

/// One request: who asks, with loaders of its own, so that nothing masked mixes with anything in full.
#[derive(Default)]
pub struct Asker {
    entered: OnceLock<Entered>,
    state: OnceCell<State>,
}

/// Somebody who is signed in.
struct Entered {
    viewer: Viewer,
    /// Of the session's refresh tokens.
    family: String,
    loaders: DataLoader<Loaders>,
}

impl Asker {
    /// A request of a viewer, with the family of its session.
    #[must_use]
    pub fn new(shared: &Shared, viewer: Viewer, family: String) -> Self {
        Self {
            entered: Entered::new(shared, viewer, family).into(),
            ..Self::default()
        }
    }
}

impl Entered {
    fn new(shared: &Shared, viewer: Viewer, family: String) -> Self {
        let loaders = Loaders::new(shared.store.clone(), viewer.hospital);
        Self {
            viewer,
            family,
            loaders: DataLoader::new(loaders, tokio::spawn).delay(Duration::from_micros(200)),
        }
    }
}

/// Makes who has just signed in the viewer of the rest of the request.
pub(super) fn enter(ctx: &Context<'_>, viewer: Viewer, family: String) -> Result<()> {
    let entered = Entered::new(shared(ctx)?, viewer, family);
    asker(ctx)?
        .entered
        .set(entered)
        .map_err(|_| Error::input("input", "a request signs in once, and nobody who is signed in already"))
}

fn nobody() -> Error {
    Error::Unauthenticated("sign in first, and send the access token as `Authorization: Bearer …`".to_owned())
}

fn asker<'a>(ctx: &Context<'a>) -> Result<&'a Asker> {
    ctx.data_opt::<Asker>().ok_or_else(nobody)
}

fn entered<'a>(ctx: &Context<'a>) -> Result<&'a Entered> {
    asker(ctx)?.entered.get().ok_or_else(nobody)
}

pub(super) fn shared<'a>(ctx: &Context<'a>) -> Result<&'a Shared> {
    ctx.data_opt::<Shared>().ok_or_else(|| Error::Internal("the schema has no store".to_owned()))
}

pub(super) fn viewer<'a>(ctx: &Context<'a>) -> Result<&'a Viewer> {
    Ok(&entered(ctx)?.viewer)
}

/// The family of the session's refresh tokens.
pub(super) fn family<'a>(ctx: &Context<'a>) -> Result<&'a str> {
    Ok(&entered(ctx)?.family)
}

pub(super) fn loaders<'a>(ctx: &Context<'a>) -> Result<&'a DataLoader<Loaders>> {
    Ok(&entered(ctx)?.loaders)
}

/// The hospital's state, asked once a request.
pub(super) async fn state<'a>(ctx: &Context<'a>) -> Result<&'a State> {
    let hospital = viewer(ctx)?.hospital;
    let shared = shared(ctx)?;
    asker(ctx)?.state.get_or_try_init(|| shared.store.state(hospital, 0)).await
}

/// The date now in the hospital's time zone.
pub(super) async fn today(ctx: &Context<'_>) -> Result<chrono::NaiveDate> {
    Ok(Desk::today(state(ctx).await?))
}
