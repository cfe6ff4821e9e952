//! Sessions.

use async_graphql::{Context, InputObject, Object, SimpleObject};

use crate::error::Result;
use crate::graphql::context;
use crate::graphql::session::Session;

#[derive(Default)]
pub struct SessionMutation;

/// The credentials.
#[derive(InputObject)]
struct SignInInput {
    /// The hospital's code.
    hospital: String,
    /// The login name.
    login: String,
    /// The password.
    #[graphql(secret)]
    password: String,
}

/// The result of signing in.
#[derive(SimpleObject)]
struct SignInPayload {
    /// The new session.
    session: Session,
}

/// The session to refresh.
#[derive(InputObject)]
struct RefreshSessionInput {
    /// The session's last refresh token, valid for one use. If it is sent again within 30 seconds, while its successor is unused,
    /// the result is that successor again, so that a request can be repeated if its response was lost. Any other reuse ends the session.
    #[graphql(secret)]
    refresh_token: String,
}

/// The result of refreshing.
#[derive(SimpleObject)]
struct RefreshSessionPayload {
    /// The session with new tokens.
    session: Session,
}

/// The result of signing out.
#[derive(SimpleObject)]
struct SignOutPayload {
    /// Always true: the session's refresh tokens are revoked.
    signed_out: bool,
}

/// A new password for the viewer.
#[derive(InputObject)]
struct ChangePasswordInput {
    /// The current password.
    #[graphql(secret)]
    current_password: String,
    /// The new password: 8–1,024 characters.
    #[graphql(secret)]
    new_password: String,
}

/// The result of changing one's password.
#[derive(SimpleObject)]
struct ChangePasswordPayload {
    /// A new session; all others have ended.
    session: Session,
}

#[Object]
impl SessionMutation {
    /// Begins a session. If hospital, login or password is wrong, the error is INVALID_CREDENTIALS and does not say which.
    async fn sign_in(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The credentials.")] input: SignInInput,
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

    /// Continues a session with new tokens.
    async fn refresh_session(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The session to refresh.")] input: RefreshSessionInput,
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
        #[graphql(desc = "The current and the new password.")] input: ChangePasswordInput,
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

    /// Ends the session: its refresh tokens are revoked; its access token stays valid until it expires.
    async fn sign_out(&self, ctx: &Context<'_>) -> Result<SignOutPayload> {
        let auth = &context::services(ctx)?.auth;
        auth.sign_out(context::viewer(ctx)?, context::session_family(ctx)?)
            .await?;
        Ok(SignOutPayload { signed_out: true })
    }
}
