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

/// The signed-in member of staff.
#[Object]
impl Viewer {
    /// The login name.
    async fn login(&self) -> &str {
        &self.0.login
    }

    /// The display name.
    async fn name(&self) -> &str {
        &self.0.name
    }

    /// The viewer's role.
    async fn role(&self) -> Role {
        self.0.role.into()
    }

    /// The viewer's hospital, which all data belongs to.
    async fn hospital(&self, ctx: &Context<'_>) -> Result<Hospital> {
        let row = super::context::services(ctx)?.store.hospital(self.0.hospital).await?;
        row.map(Hospital)
            .ok_or_else(|| Error::Internal("a member of staff has no hospital".to_owned()))
    }
}

/// A session: send the access token as `Authorization: Bearer …`.
#[derive(SimpleObject)]
pub(super) struct Session {
    /// A bearer token, valid until accessExpiresAt.
    access_token: String,
    /// When the access token expires.
    access_expires_at: DateTime,
    /// Valid for one use, which may be repeated within 30 seconds.
    refresh_token: String,
    /// The signed-in member of staff.
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
