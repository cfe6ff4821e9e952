//! What can be changed.

use async_graphql::{Context, InputObject, Object, SimpleObject};

use super::asker;
use super::session::Session;
use crate::error::Result;

/// What can be changed.
pub struct Mutation;

/// Who signs in.
#[derive(InputObject)]
struct SignInInput {
    /// The hospital's code.
    hospital: String,
    /// The name to sign in with.
    login: String,
    /// The password.
    #[graphql(secret)]
    password: String,
}

/// The outcome of signing in.
#[derive(SimpleObject)]
struct SignInPayload {
    /// The new session.
    session: Session,
}

/// Which session is to go on.
#[derive(InputObject)]
struct RefreshSessionInput {
    /// The session's last refresh token. It is good for one use; one that comes twice ends the session.
    #[graphql(secret)]
    refresh_token: String,
}

/// The outcome of refreshing.
#[derive(SimpleObject)]
struct RefreshSessionPayload {
    /// The session with new tokens.
    session: Session,
}

/// The outcome of signing out.
#[derive(SimpleObject)]
struct SignOutPayload {
    /// Always true: the session's refresh tokens are gone.
    signed_out: bool,
}

/// What can be changed.
#[Object]
impl Mutation {
    /// Begins a session. A wrong hospital, login or password is UNAUTHENTICATED, without telling which.
    async fn sign_in(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Who signs in.")] input: SignInInput,
    ) -> Result<SignInPayload> {
        let auth = &asker::shared(ctx)?.auth;
        let session = auth.sign_in(&input.hospital, &input.login, input.password).await?;
        asker::enter(ctx, session.viewer.clone(), session.family.clone())?;
        Ok(SignInPayload {
            session: session.into(),
        })
    }

    /// Goes on with a session, with new tokens.
    async fn refresh_session(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which session.")] input: RefreshSessionInput,
    ) -> Result<RefreshSessionPayload> {
        let session = asker::shared(ctx)?.auth.refresh(&input.refresh_token).await?;
        asker::enter(ctx, session.viewer.clone(), session.family.clone())?;
        Ok(RefreshSessionPayload {
            session: session.into(),
        })
    }

    /// Ends the session: its refresh tokens are good no more, its access token until it runs out.
    async fn sign_out(&self, ctx: &Context<'_>) -> Result<SignOutPayload> {
        let hospital = asker::viewer(ctx)?.hospital;
        asker::shared(ctx)?
            .store
            .end_family(hospital, asker::family(ctx)?)
            .await?;
        Ok(SignOutPayload { signed_out: true })
    }
}
