//! Who is signed in, and the session that says so.

use async_graphql::{Context, Object, SimpleObject};

use super::enums::Role;
use super::hospital::Hospital;
use super::scalars::DateTime;
use crate::auth::NewSession;
use crate::error::{Error, Result};
use crate::store;

/// A member of staff.
pub(super) struct Viewer(pub(super) store::StaffMember);

/// Who asks.
#[Object]
impl Viewer {
    /// The name to sign in with.
    async fn login(&self) -> &str {
        &self.0.login
    }

    /// The name that people read.
    async fn name(&self) -> &str {
        &self.0.name
    }

    /// What the viewer may do.
    async fn role(&self) -> Role {
        self.0.role.into()
    }

    /// Where the viewer works: everything is of this hospital.
    async fn hospital(&self, ctx: &Context<'_>) -> Result<Hospital> {
        let row = super::context::services(ctx)?.store.hospital(self.0.hospital).await?;
        row.map(Hospital)
            .ok_or_else(|| Error::Internal("a member of staff has no hospital".to_owned()))
    }
}

/// A session: send the access token as `Authorization: Bearer …`.
#[derive(SimpleObject)]
pub(super) struct Session {
    /// A bearer token, good until accessExpiresAt.
    access_token: String,
    /// When the access token runs out.
    access_expires_at: DateTime,
    /// Good for one use, and for repeating that within 30 seconds.
    refresh_token: String,
    /// Who is signed in.
    viewer: Viewer,
}

impl From<NewSession> for Session {
    fn from(session: NewSession) -> Self {
        Self {
            access_token: session.access_token,
            access_expires_at: DateTime(session.access_expires_at),
            refresh_token: session.refresh_token,
            viewer: Viewer(session.staff),
        }
    }
}
