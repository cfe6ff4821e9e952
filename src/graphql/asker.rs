//! Who asks, and what one request keeps at hand.

use std::sync::Arc;

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
pub struct Asker {
    viewer: Option<(Viewer, String)>,
    loaders: Option<DataLoader<Loaders>>,
    state: OnceCell<State>,
}

impl Asker {
    /// A request of a viewer, with the family of its session; or of nobody, who can sign in and no more.
    #[must_use]
    pub fn new(shared: &Shared, viewer: Option<(Viewer, String)>) -> Self {
        let loaders = viewer.as_ref().map(|(viewer, _)| {
            let loaders = Loaders::new(shared.store.clone(), viewer.hospital);
            DataLoader::new(loaders, tokio::spawn).delay(std::time::Duration::from_micros(200))
        });
        Self {
            viewer,
            loaders,
            state: OnceCell::new(),
        }
    }
}

fn nobody() -> Error {
    Error::Unauthenticated("sign in first, and send the access token as `Authorization: Bearer …`".to_owned())
}

fn asker<'a>(ctx: &Context<'a>) -> Result<&'a Asker> {
    ctx.data_opt::<Asker>().ok_or_else(nobody)
}

pub(super) fn shared<'a>(ctx: &Context<'a>) -> Result<&'a Shared> {
    ctx.data_opt::<Shared>().ok_or_else(|| Error::Internal("the schema has no store".to_owned()))
}

pub(super) fn viewer<'a>(ctx: &Context<'a>) -> Result<&'a Viewer> {
    asker(ctx)?.viewer.as_ref().map(|(viewer, _)| viewer).ok_or_else(nobody)
}

/// The family of the session's refresh tokens.
pub(super) fn family<'a>(ctx: &Context<'a>) -> Result<&'a str> {
    asker(ctx)?.viewer.as_ref().map(|(_, family)| family.as_str()).ok_or_else(nobody)
}

pub(super) fn loaders<'a>(ctx: &Context<'a>) -> Result<&'a DataLoader<Loaders>> {
    asker(ctx)?.loaders.as_ref().ok_or_else(nobody)
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
