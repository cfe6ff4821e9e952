use clap::Subcommand;

use super::database::DatabaseArgs;
use crate::error::Result;
use crate::secrets;
use crate::store::OpenMode;

#[derive(Subcommand)]
pub(super) enum KeysCommand {
    /// Adds a new key to the key file and re-encrypts everything with it. Run again after an interruption, it continues. Running
    /// servers read the new key from the file
    Rotate {
        #[command(flatten)]
        database: DatabaseArgs,
    },
    /// Removes old keys from the key file once nothing is encrypted with them. Wait after `rotate` until the access tokens signed with
    /// the old key have expired: 15 minutes
    DropOld {
        #[command(flatten)]
        database: DatabaseArgs,
    },
}

impl KeysCommand {
    pub(super) async fn run(self) -> Result<()> {
        match self {
            Self::Rotate { database } => rotate(&database).await,
            Self::DropOld { database } => drop_old(&database).await,
        }
    }
}

async fn rotate(database: &DatabaseArgs) -> Result<()> {
    secrets::add_key(database.key_file()?)?;
    let (key, patients) = reencrypt(database).await?;
    println!("re-encrypted {patients} patients with the key {key}");
    println!("back up the key file; in 15 minutes, remove the old key with `rollcall keys drop-old`");
    Ok(())
}

async fn drop_old(database: &DatabaseArgs) -> Result<()> {
    // Servers that had not read the new key yet went on writing with the old one after the rotation.
    let (key, _) = reencrypt(database).await?;
    database.open(OpenMode::Existing).await?.forget_old_keys().await?;
    secrets::drop_old_keys(database.key_file()?)?;
    println!("the key {key} is now the only one");
    Ok(())
}

/// Encrypts everything with the current key. Returns the key's fingerprint, and how many patients had values under another key.
async fn reencrypt(database: &DatabaseArgs) -> Result<(String, u64)> {
    let store = database.open(OpenMode::Existing).await?;
    let mut patients = 0;
    for hospital in store.hospitals().await? {
        patients += store.reencrypt(hospital).await?;
    }
    Ok((store.secrets().fingerprints().swap_remove(0), patients))
}
