//! The arguments that name a database and its keys.

use std::path::{Path, PathBuf};

use clap::Args;

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
    /// File with the keys that encrypt phone numbers and memos, each 32 bytes in Base64. `migrate` creates it if it does not exist.
    /// All servers of one database use the same keys: keep a backup in a safe place
    #[arg(long, env = "ROLLCALL_KEY_FILE", default_value = "rollcall-data/key")]
    key_file: PathBuf,
    /// The key itself, instead of a key file
    #[arg(long, env = "ROLLCALL_KEY", hide = true)]
    key: Option<String>,
}

impl DatabaseArgs {
    /// Connects, whatever the state of the database's schema.
    pub(super) async fn connect(&self, open: OpenMode) -> Result<Store> {
        let secrets = match &self.key {
            Some(key) => Secrets::from_base64(key)?,
            None => Secrets::open(&self.key_file, open == OpenMode::Create)?,
        };
        Store::connect(&self.database_url, secrets, open).await
    }

    /// Connects to a database without pending migrations.
    pub(super) async fn open(&self, open: OpenMode) -> Result<Store> {
        let store = self.connect(open).await?;
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
