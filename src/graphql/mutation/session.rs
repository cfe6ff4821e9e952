//! Sessions.

use async_graphql::{Context, InputObject, Object, SimpleObject};

use crate::error::Result;
use crate::graphql::context;
use crate::graphql::session::Session;

#[derive(Default)]
pub struct SessionMutation;

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
    /// The session's last refresh token. It is good for one use. Sent again within 30 seconds, while the token that it led to is
    /// unused, it leads to that same token again: repeat a request whose answer was lost. Any other reuse ends the session.
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

/// A new password for the viewer.
#[derive(InputObject)]
struct ChangePasswordInput {
    /// The password until now.
    #[graphql(secret)]
    current_password: String,
    /// The password from now on: 8 to 1,024 characters.
    #[graphql(secret)]
    new_password: String,
}

/// The outcome of changing one's password.
#[derive(SimpleObject)]
struct ChangePasswordPayload {
    /// A new session: all others have ended.
    session: Session,
}

#[Object]
impl SessionMutation {
    /// Begins a session. A wrong hospital, login or password is INVALID_CREDENTIALS, without telling which.
    async fn sign_in(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Who signs in.")] input: SignInInput,
    ) -> Result<SignInPayload> {
        let auth = &context::services(ctx)?.auth;
        let session = auth
            .sign_in(
                &input.hospital,
                &input.login,
                input.password,
                context::client_address(ctx)?,
            )
            .await?;
        context::authenticate(ctx, session.viewer.clone(), session.family.clone())?;
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
        let auth = &context::services(ctx)?.auth;
        let session = auth.refresh(&input.refresh_token).await?;
        context::authenticate(ctx, session.viewer.clone(), session.family.clone())?;
        Ok(RefreshSessionPayload {
            session: session.into(),
        })
    }

    /// Changes the viewer's own password. All sessions end, and a new one begins.
    async fn change_password(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The password, until now and from now on.")] input: ChangePasswordInput,
    ) -> Result<ChangePasswordPayload> {
        let auth = &context::services(ctx)?.auth;
        let viewer = context::viewer(ctx)?;
        let session = auth
            .change_password(
                viewer,
                input.current_password,
                input.new_password,
                context::client_address(ctx)?,
            )
            .await?;
        Ok(ChangePasswordPayload {
            session: session.into(),
        })
    }

    /// Ends the session: its refresh tokens are good no more, its access token until it runs out.
    async fn sign_out(&self, ctx: &Context<'_>) -> Result<SignOutPayload> {
        let auth = &context::services(ctx)?.auth;
        auth.sign_out(context::viewer(ctx)?, context::session_family(ctx)?)
            .await?;
        Ok(SignOutPayload { signed_out: true })
    }
}
