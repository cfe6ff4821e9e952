//! The arguments that name a database and its keys.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;

use crate::clock::Clock;
use crate::config::Limits;
use crate::error::{Error, Result};
use crate::secrets::Secrets;
use crate::store::{OpenMode, Store};

#[derive(Args)]
pub(super) struct DatabaseArgs {
    /// URL of the database: sqlite:, postgres:, mysql: or mariadb:
    #[arg(
        long,
        env = "ROLLCALL_DATABASE_URL",
        default_value = "sqlite://rollcall-data/rollcall.db",
        hide_env_values = true
    )]
    database_url: String,
    /// File with the keys that encrypt phone numbers, memos and notes, each 32 bytes in Base64. `migrate` creates it if it does not exist.
    /// All servers of one database use the same keys: keep a backup in a safe place
    #[arg(long, env = "ROLLCALL_KEY_FILE", default_value = "rollcall-data/key")]
    key_file: PathBuf,
    /// The key itself, instead of a key file
    #[arg(long, env = "ROLLCALL_KEY", hide = true)]
    key: Option<String>,
}

impl DatabaseArgs {
    /// Connects, whatever the state of the database's schema.
    pub(super) async fn connect(&self, open: OpenMode, limits: Arc<Limits>) -> Result<Store> {
        let secrets = match &self.key {
            Some(key) => Secrets::from_base64(key)?,
            None => Secrets::open(&self.key_file, open == OpenMode::Create)?,
        };
        let store = Store::connect(&self.database_url, secrets, open, limits).await?;
        Ok(store.with_clock(Clock::from_environment()))
    }

    /// Connects a command to a database without pending migrations.
    pub(super) async fn open(&self) -> Result<Store> {
        self.open_as(OpenMode::Existing, Arc::default()).await
    }

    /// Connects a server to a database without pending migrations.
    pub(super) async fn open_to_serve(&self, limits: Arc<Limits>) -> Result<Store> {
        self.open_as(OpenMode::Serve, limits).await
    }

    async fn open_as(&self, open: OpenMode, limits: Arc<Limits>) -> Result<Store> {
        let store = self.connect(open, limits).await?;
        store.verify_ready().await?;
        Ok(store)
    }

    /// The key file; an error if the key is given by itself.
    pub(super) fn key_file(&self) -> Result<&Path> {
        match self.key {
            Some(_) => Err(Error::input(
                "key",
                "key rotation needs a key file: write the key to one and unset ROLLCALL_KEY",
            )),
            None => Ok(&self.key_file),
        }
    }
}
