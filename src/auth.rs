//! Sign-in, sessions and their tokens.

mod hs256;

use std::net::IpAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::config::Limits;
use crate::error::{Error, Result};
use crate::login_throttle::{LoginThrottle, ThrottleKey};
use crate::password::{self, NewPassword, PasswordHash};
use crate::permissions::{Role, Viewer};
use crate::store::{AuditAction, NewEntry, RefreshUse, SetPassword, StaffMember, Store};
use crate::text;

const ISSUER: &str = "rollcall";
const AUDIENCE: &str = "rollcall-api";

/// Signs staff in, and reads their access tokens.
pub struct Auth {
    store: Store,
    /// Verified if there is no such login, so that it takes as long.
    decoy: PasswordHash,
    throttle: LoginThrottle,
    access_token_lifetime: Duration,
}

/// A session that has been started or refreshed.
pub struct NewSession {
    pub access_token: String,
    pub access_expires_at: DateTime<Utc>,
    pub refresh_token: String,
    pub staff: StaffMember,
    pub viewer: Viewer,
    pub family: String,
}

/// Who sends a valid access token.
#[derive(Clone, Debug)]
pub struct AccessToken {
    pub viewer: Viewer,
    /// The family of the session's refresh tokens.
    pub family: String,
    /// How long it is still valid.
    pub valid_for: Duration,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: String,
    exp: i64,
    iat: i64,
    hospital: i64,
    role: String,
    family: String,
}

fn random_text() -> String {
    URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>())
}

/// The token contains the hospital, where it is looked up.
fn refresh_token(hospital: i64, secret: &[u8; 32]) -> String {
    format!("{hospital}.{}", URL_SAFE_NO_PAD.encode(secret))
}

fn token_hash(token: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(token))
}

fn session_ended() -> Error {
    Error::Unauthenticated("this session has ended: sign in again".to_owned())
}

impl Auth {
    /// # Errors
    /// If hashing fails.
    pub fn new(store: Store, limits: &Limits) -> Result<Self> {
        // Fails if it is installed already.
        let _ = hs256::PROVIDER.install_default();
        Ok(Self {
            decoy: PasswordHash::of("password", "nobody has this password")?,
            throttle: LoginThrottle::new(limits),
            access_token_lifetime: limits.access_token_lifetime,
            store,
        })
    }

    /// Starts a session.
    ///
    /// # Errors
    /// INVALID_CREDENTIALS if the hospital, login or password is wrong, without telling which. RATE_LIMITED after failures of the
    /// login or the address, whether the login exists or not.
    pub async fn sign_in(&self, hospital: &str, login: &str, password: String, address: IpAddr) -> Result<NewSession> {
        let (hospital, login) = (&*text::nfc(hospital), &*text::nfc(login));
        let keys = [ThrottleKey::login(hospital, login), ThrottleKey::Address(address)];
        let permit = self.throttle.acquire(&keys).await?;
        let hospital = self.store.hospital_by_code(hospital).await?.map(|hospital| hospital.id);
        let named = match hospital {
            Some(hospital) => self.store.staff_by_login(hospital, login).await?,
            None => None,
        };
        let named_id = named.as_ref().map(|staff| staff.id);
        let staff = named.filter(|staff| staff.disabled_at.is_none());
        let hash = match &staff {
            Some(staff) => staff.password_hash.clone(),
            None => self.decoy.clone(),
        };
        let right = hash.verify(password, permit).await?;
        let session = match staff.filter(|_| right) {
            Some(verified) => self.start(&verified).await?,
            None => None,
        };
        match session {
            Some(_) => self.throttle.reset(&keys[0]),
            None => self.throttle.record_failure(&keys),
        }
        if let Some(hospital) = hospital {
            let action = match session {
                Some(_) => AuditAction::SignedIn,
                None => AuditAction::SignInRefused,
            };
            self.store
                .audit(vec![NewEntry::new(hospital, named_id, action)])
                .await?;
        }
        session.ok_or(Error::InvalidCredentials)
    }

    /// Changes the viewer's own password, and starts a new session; all others end.
    ///
    /// # Errors
    /// BAD_USER_INPUT if the current password is wrong, or the new one is too short or too long. RATE_LIMITED after failures.
    pub async fn change_password(
        &self,
        viewer: &Viewer,
        current: String,
        new: String,
        address: IpAddr,
    ) -> Result<NewSession> {
        let staff = self.store.staff_member(viewer.hospital, viewer.staff).await?;
        let mut staff = staff
            .filter(|staff| staff.disabled_at.is_none())
            .ok_or_else(session_ended)?;
        let keys = [ThrottleKey::member(viewer), ThrottleKey::Address(address)];
        let permit = self.throttle.acquire(&keys).await?;
        let verified = staff.password_hash.clone();
        if !verified.clone().verify(current, permit).await? {
            self.throttle.record_failure(&keys);
            return Err(password::incorrect());
        }
        let password = NewPassword::hashed("input.newPassword", new).await?;
        staff.password_hash = password.hash().clone();
        let command = SetPassword {
            id: staff.id,
            password,
            verified: Some(verified),
        };
        self.store.execute_own(viewer, &command).await?;
        self.start(&staff).await?.ok_or_else(session_ended)
    }

    /// Refreshes a session.
    ///
    /// An unknown token does not count as a failure of its address: 256 random bits cannot be guessed, and an old browser tab would
    /// delay everybody who shares its hospital's address.
    ///
    /// # Errors
    /// UNAUTHENTICATED if the token is unknown, expired or was used before.
    pub async fn refresh(&self, token: &str) -> Result<NewSession> {
        let hospital = token
            .split_once('.')
            .and_then(|(hospital, _)| hospital.parse().ok())
            .ok_or_else(session_ended)?;
        let successors = self.store.secrets().refresh_successors(token)?;
        let successors: Vec<String> = successors
            .iter()
            .map(|secret| refresh_token(hospital, secret))
            .collect();
        let hashes: Vec<String> = successors.iter().map(|token| token_hash(token)).collect();
        match self
            .store
            .use_refresh_token(hospital, &token_hash(token), &hashes)
            .await?
        {
            RefreshUse::Good {
                staff,
                family,
                successor,
            } => {
                let token = successors.into_iter().nth(successor).ok_or_else(session_ended)?;
                self.session(staff, family, token)
            }
            RefreshUse::Reused { staff } => {
                let entry = NewEntry::new(hospital, Some(staff), AuditAction::SessionEnded);
                self.store.audit(vec![entry]).await?;
                Err(session_ended())
            }
            RefreshUse::Unknown => Err(session_ended()),
        }
    }

    /// Starts a session of an account whose password was verified; none if it has been changed since, or the account is disabled.
    async fn start(&self, verified: &StaffMember) -> Result<Option<NewSession>> {
        let token = refresh_token(verified.hospital, &rand::random());
        let family = random_text();
        let staff = self.store.begin_session(verified, &token_hash(&token), &family).await?;
        staff.map(|staff| self.session(staff, family, token)).transpose()
    }

    fn session(&self, staff: StaffMember, family: String, refresh_token: String) -> Result<NewSession> {
        let now = Utc::now();
        let access_expires_at = now + self.access_token_lifetime;
        let claims = Claims {
            iss: ISSUER.to_owned(),
            aud: AUDIENCE.to_owned(),
            sub: staff.id.to_string(),
            exp: access_expires_at.timestamp(),
            iat: now.timestamp(),
            hospital: staff.hospital,
            role: staff.role.as_str().to_owned(),
            family: family.clone(),
        };
        let keys = self.store.secrets().signing_keys();
        let (kid, key) = keys
            .into_iter()
            .next()
            .ok_or_else(|| Error::Internal("there is no signing key".to_owned()))?;
        let mut header = Header::new(Algorithm::HS256);
        header.kid = Some(kid);
        let access_token = jsonwebtoken::encode(&header, &claims, &EncodingKey::from_secret(&key))
            .map_err(|error| Error::Internal(format!("cannot sign a token: {error}")))?;
        Ok(NewSession {
            viewer: Viewer {
                hospital: staff.hospital,
                staff: staff.id,
                role: staff.role,
            },
            family,
            access_token,
            access_expires_at,
            refresh_token,
            staff,
        })
    }

    /// Ends a session.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn sign_out(&self, viewer: &Viewer, family: &str) -> Result<()> {
        self.store.end_session(viewer, family).await?;
        self.store
            .audit(vec![NewEntry::of(viewer, AuditAction::SignedOut)])
            .await
    }

    /// What an access token says; none if it is invalid or has expired.
    #[must_use]
    pub fn verify(&self, access_token: &str) -> Option<AccessToken> {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_issuer(&[ISSUER]);
        validation.set_audience(&[AUDIENCE]);
        validation.leeway = 0;
        let kid = jsonwebtoken::decode_header(access_token).ok()?.kid?;
        let secrets = self.store.secrets();
        let find = || secrets.signing_keys().into_iter().find(|(name, _)| *name == kid);
        let (_, key) = find().or_else(|| secrets.reload().then(find).flatten())?;
        let claims = jsonwebtoken::decode::<Claims>(access_token, &DecodingKey::from_secret(&key), &validation)
            .ok()?
            .claims;
        let viewer = Viewer {
            hospital: claims.hospital,
            staff: claims.sub.parse().ok()?,
            role: Role::parse(&claims.role)?,
        };
        let valid_for = DateTime::from_timestamp(claims.exp, 0)? - Utc::now();
        Some(AccessToken {
            viewer,
            family: claims.family,
            valid_for: valid_for.to_std().unwrap_or_default(),
        })
    }
}
