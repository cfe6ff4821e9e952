//! Passwords and tokens.

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

use crate::config::LIMITS;
use crate::error::{Error, Result};
use crate::permissions::{Role, Viewer};
use crate::statistics::sha256;
use crate::store::{RefreshUse, StaffRow, Store};

const ISSUER: &str = "rollcall";
const AUDIENCE: &str = "rollcall-api";

/// The shortest password that is taken, in characters.
pub const SHORTEST_PASSWORD: usize = 8;

/// Signs staff in, and reads what they bring.
pub struct Auth {
    store: Store,
    encoding: EncodingKey,
    decoding: DecodingKey,
    /// Verified against where there is no such login, so that it takes as long.
    decoy: String,
}

/// A session that has just begun or gone on.
pub struct NewSession {
    pub access_token: String,
    pub access_expires_at: DateTime<Utc>,
    pub refresh_token: String,
    pub staff: StaffRow,
    pub viewer: Viewer,
    pub family: String,
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

/// The hash of a new password.
///
/// # Errors
/// Where the password is too short.
pub fn hash_password(password: &str) -> Result<String> {
    if password.chars().count() < SHORTEST_PASSWORD {
        return Err(Error::input(
            "password",
            format!("{SHORTEST_PASSWORD} characters or more are wanted"),
        ));
    }
    let hash = Argon2::default()
        .hash_password(password.as_bytes())
        .map_err(|error| Error::Internal(format!("a password cannot be hashed: {error}")))?;
    Ok(hash.to_string())
}

fn random_token() -> String {
    URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>())
}

fn token_hash(token: &str) -> String {
    URL_SAFE_NO_PAD.encode(sha256(token.as_bytes()))
}

fn wrong() -> Error {
    Error::Unauthenticated("hospital, login or password is wrong".to_owned())
}

fn ended() -> Error {
    Error::Unauthenticated("this session has ended: sign in again".to_owned())
}

impl Auth {
    /// # Errors
    /// Where hashing does not work here.
    pub fn new(store: Store) -> Result<Self> {
        let key = store.secrets().signing_key();
        Ok(Self {
            encoding: EncodingKey::from_secret(key),
            decoding: DecodingKey::from_secret(key),
            decoy: hash_password("nobody has this password")?,
            store,
        })
    }

    /// Begins a session.
    ///
    /// # Errors
    /// UNAUTHENTICATED where hospital, login or password is wrong, without telling which.
    pub async fn sign_in(&self, hospital: &str, login: &str, password: String) -> Result<NewSession> {
        let staff = match self.store.hospital_by_code(hospital).await? {
            Some(hospital) => self.store.staff_by_login(hospital.id, login).await?,
            None => None,
        };
        let staff = staff.filter(|staff| staff.disabled_at.is_none());
        let hash = staff.as_ref().map_or(&self.decoy, |staff| &staff.password_hash).clone();
        let right = tokio::task::spawn_blocking(move || {
            PasswordHash::new(&hash)
                .is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
        })
        .await
        .map_err(|error| Error::Internal(format!("a password could not be verified: {error}")))?;
        let staff = staff.filter(|_| right).ok_or_else(wrong)?;
        self.session(staff, random_token()).await
    }

    /// Goes on with a session.
    ///
    /// # Errors
    /// UNAUTHENTICATED where the token is not good, or not any more.
    pub async fn refresh(&self, token: &str) -> Result<NewSession> {
        let hospital = token
            .split_once('.')
            .and_then(|(hospital, _)| hospital.parse().ok())
            .ok_or_else(ended)?;
        match self
            .store
            .use_refresh_token(hospital, &token_hash(token), Utc::now())
            .await?
        {
            RefreshUse::Good { staff, family } => {
                let staff = self.store.staff(hospital, staff).await?;
                let staff = staff.filter(|staff| staff.disabled_at.is_none()).ok_or_else(ended)?;
                self.session(staff, family).await
            }
            RefreshUse::Reused | RefreshUse::Unknown => Err(ended()),
        }
    }

    async fn session(&self, staff: StaffRow, family: String) -> Result<NewSession> {
        let now = Utc::now();
        let access_expires_at = now + LIMITS.access_token;
        let claims = Claims {
            iss: ISSUER.to_owned(),
            aud: AUDIENCE.to_owned(),
            sub: staff.id.to_string(),
            exp: access_expires_at.timestamp(),
            iat: now.timestamp(),
            hospital: staff.hospital_id,
            role: staff.role.clone(),
            family: family.clone(),
        };
        let access_token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.encoding)
            .map_err(|error| Error::Internal(format!("a token cannot be signed: {error}")))?;
        let refresh_token = format!("{}.{}", staff.hospital_id, random_token());
        self.store
            .add_refresh_token(
                staff.hospital_id,
                token_hash(&refresh_token),
                staff.id,
                &family,
                now + LIMITS.refresh_token,
            )
            .await?;
        let role = Role::from_word(&staff.role);
        let role = role.ok_or_else(|| Error::Internal("staff.role holds an unknown word".to_owned()))?;
        Ok(NewSession {
            viewer: Viewer {
                hospital: staff.hospital_id,
                staff: staff.id,
                role,
            },
            family,
            access_token,
            access_expires_at,
            refresh_token,
            staff,
        })
    }

    /// Who an access token was given to, and the family of the session; none where it is not good.
    #[must_use]
    pub fn viewer(&self, access_token: &str) -> Option<(Viewer, String)> {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_issuer(&[ISSUER]);
        validation.set_audience(&[AUDIENCE]);
        validation.leeway = 0;
        let claims = jsonwebtoken::decode::<Claims>(access_token, &self.decoding, &validation)
            .ok()?
            .claims;
        let viewer = Viewer {
            hospital: claims.hospital,
            staff: claims.sub.parse().ok()?,
            role: Role::from_word(&claims.role)?,
        };
        Some((viewer, claims.family))
    }
}
